//! Frames written out layer by layer, as nothing but what is said: any order of headers that makes sense on a wire,
//! nested frames and packets included. Lengths, checksums and the numbers that lead from one layer to the next are
//! filled in. Reading them back is [`super::dissect`]'s.

use std::net::IpAddr;

use engine::net::{IpHeader, Layer, Protocol};
use engine::trace::Ethernet;

use super::transport::{self, Tcp};
use super::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, FrameError, MAX_LENGTH, ethernet_header, network, tunnel,
};

/// The frame of layers. A header is written as it is said, also where a device would write none (a transport header
/// of a later fragment).
///
/// # Errors
/// No Ethernet at the beginning; a layer that cannot follow the one before it; nothing that tells what follows a
/// layer; a field that cannot be written; a frame of more than [`MAX_LENGTH`] bytes.
pub fn assemble(layers: &[Layer]) -> Result<Vec<u8>, FrameError> {
    let frame = frame(layers)?;
    if frame.len() > MAX_LENGTH {
        return Err(FrameError::TooLong { length: frame.len() });
    }
    Ok(frame)
}

fn frame(layers: &[Layer]) -> Result<Vec<u8>, FrameError> {
    let [eth @ Layer::Ethernet { source, destination, ethertype }, behind @ ..] = layers else {
        return Err(FrameError::NotEthernet);
    };
    let (natural, carried) = match behind {
        [ip @ Layer::Ip { header, protocol }, behind @ ..] => {
            let v6 = header.source.is_ipv6();
            let natural = if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
            (Some(natural), packet(ip, (header, *protocol), behind)?)
        }
        _ => (None, payload(eth, behind)?),
    };
    let number = ethertype.or(natural).ok_or(FrameError::NumberMissing { layer: eth.name() })?;
    let ethernet = Ethernet { source: *source, destination: *destination };
    Ok([&ethernet_header(ethernet, number)[..], &carried].concat())
}

/// An IP packet: its header, and the layers behind it.
fn packet(
    ip: &Layer,
    (header, protocol): (&IpHeader, Option<u8>),
    behind: &[Layer],
) -> Result<Vec<u8>, FrameError> {
    let addresses = (header.source, header.destination);
    let (natural, segment) = segment(ip, addresses, behind)?;
    let protocol = protocol.or(natural).ok_or(FrameError::NumberMissing { layer: ip.name() })?;
    let (_, mut bytes) = network::header(header, protocol, segment.len())?;
    bytes.extend(segment);
    Ok(bytes)
}

/// What is behind an IP header, and its number.
fn segment(
    ip: &Layer,
    addresses: (IpAddr, IpAddr),
    layers: &[Layer],
) -> Result<(Option<u8>, Vec<u8>), FrameError> {
    let [first, behind @ ..] = layers else { return Ok((None, Vec::new())) };
    let (protocol, bytes) = match first {
        Layer::Tcp { source, destination, flags, sequence, acknowledgement, window, options } => {
            if !options.len().is_multiple_of(4) || options.len() > 40 {
                return Err(FrameError::TcpOptions(options.len()));
            }
            let header = Tcp {
                ports: (*source, *destination),
                flags: *flags,
                numbers: (*sequence, *acknowledgement),
                window: *window,
                options,
            };
            (Protocol::Tcp, transport::tcp(addresses, &header, &payload(first, behind)?))
        }
        Layer::Udp { source, destination } => {
            (Protocol::Udp, udp(addresses, first, (*source, *destination), behind)?)
        }
        Layer::Sctp { source, destination, tag } => {
            let carried = payload(first, behind)?;
            (Protocol::Sctp, transport::sctp((*source, *destination), *tag, &carried))
        }
        Layer::Icmp { v6, kind, code, rest } => {
            let protocol = if *v6 { Protocol::Icmpv6 } else { Protocol::Icmp };
            let quoted = match behind {
                [ip @ Layer::Ip { header, protocol }, behind @ ..] => {
                    packet(ip, (header, *protocol), behind)?
                }
                _ => payload(first, behind)?,
            };
            (protocol, transport::icmp(addresses, protocol, (*kind, *code), *rest, &quoted))
        }
        Layer::Ip { header, protocol } => {
            // IPv4 and IPv6 in IP (RFC 2003, RFC 2473).
            let number = if header.source.is_ipv6() { 41 } else { 4 };
            let bytes = packet(first, (header, *protocol), behind)?;
            (Protocol::from_number(number), bytes)
        }
        _ => return Ok((None, payload(ip, layers)?)),
    };
    Ok((Some(protocol.number()), bytes))
}

fn udp(
    addresses: (IpAddr, IpAddr),
    udp: &Layer,
    ports: (u16, u16),
    behind: &[Layer],
) -> Result<Vec<u8>, FrameError> {
    let [tunnel @ Layer::Tunnel { kind, vni, options }, inner @ ..] = behind else {
        return Ok(transport::udp(addresses, ports, &payload(udp, behind)?));
    };
    let inner = match inner {
        [Layer::Ethernet { .. }, ..] => frame(inner)?,
        _ => payload(tunnel, inner)?,
    };
    let carried = [tunnel::header(*kind, *vni, options)?, inner].concat();
    if addresses.0.is_ipv4() {
        return Ok(transport::udp_without_sum(ports, &carried));
    }
    Ok(transport::udp(addresses, ports, &carried))
}

/// The bytes behind a layer: nothing, or one payload.
fn payload(after: &Layer, layers: &[Layer]) -> Result<Vec<u8>, FrameError> {
    match layers {
        [] => Ok(Vec::new()),
        [Layer::Payload(bytes)] => Ok(bytes.clone()),
        [before @ Layer::Payload(_), other, ..] => {
            Err(FrameError::Order { layer: other.name(), after: before.name() })
        }
        [other, ..] => Err(FrameError::Order { layer: other.name(), after: after.name() }),
    }
}
