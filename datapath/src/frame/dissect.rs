//! Bytes back into layers, as far as they can be told apart; what is cut or unknown is payload. The inverse of
//! [`super::layer`]; never refuses a frame.

use engine::net::{Fragment, IpHeader, Layer, Mac, Protocol, TcpFlags};
use engine::topology::TunnelKind;
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};

use super::read::Chain;
use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, MIN_LENGTH, tunnel};

/// The layers of a frame. `tunnels` says which destination ports of UDP carry frames. Checksums and lengths are not
/// told. What follows the packet's length (Ethernet's padding) is left out.
pub fn dissect(frame: &[u8], tunnels: &[(TunnelKind, u16)]) -> Vec<Layer> {
    let Some((header, behind)) = frame.split_first_chunk::<MIN_LENGTH>() else {
        return payload(frame);
    };
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, high, low] = *header;
    let ethertype = u16::from_be_bytes([high, low]);
    let mut layers = vec![Layer::Ethernet {
        source: Mac([s0, s1, s2, s3, s4, s5]),
        destination: Mac([d0, d1, d2, d3, d4, d5]),
        ethertype: Some(ethertype),
    }];
    let packet = match ethertype {
        ETHERTYPE_IPV4 => ipv4(behind, tunnels),
        ETHERTYPE_IPV6 => ipv6(behind, tunnels),
        _ => None,
    };
    layers.extend(packet.unwrap_or_else(|| payload(behind)));
    layers
}

fn payload(bytes: &[u8]) -> Vec<Layer> {
    if bytes.is_empty() { Vec::new() } else { vec![Layer::Payload(bytes.to_vec())] }
}

/// The bytes of a packet behind its header, by the length that it gives; all there are where it gives too many.
fn within(packet: &[u8], header: usize, length: usize) -> &[u8] {
    let end = length.clamp(header, packet.len());
    packet.get(header..end).unwrap_or_default()
}

fn ipv4(packet: &[u8], tunnels: &[(TunnelKind, u16)]) -> Option<Vec<Layer>> {
    let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let fragment =
        Fragment { offset: ip.fragments_offset().value() << 3, more: ip.more_fragments() };
    let header = IpHeader {
        source: ip.source_addr().into(),
        destination: ip.destination_addr().into(),
        traffic_class: (ip.dcp().value() << 2) | ip.ecn().value(),
        ttl: ip.ttl(),
        id: u32::from(ip.identification()),
        flow_label: 0,
        dont_fragment: ip.dont_fragment(),
        fragment,
        options: ip.options().to_vec(),
        extensions: Vec::new(),
    };
    let protocol = ip.protocol().0;
    let behind = within(packet, ip.slice().len(), usize::from(ip.total_len()));
    Some(with_transport(header, protocol, behind, tunnels))
}

fn ipv6(packet: &[u8], tunnels: &[(TunnelKind, u16)]) -> Option<Vec<Layer>> {
    let ip = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let own = ip.slice().len();
    let behind = within(packet, own, own + usize::from(ip.payload_length()));
    let chain = Chain::of(ip.next_header().0, behind);
    let header = IpHeader {
        source: ip.source_addr().into(),
        destination: ip.destination_addr().into(),
        traffic_class: ip.traffic_class(),
        ttl: ip.hop_limit(),
        id: chain.id,
        flow_label: ip.flow_label().value(),
        dont_fragment: false,
        fragment: chain.fragment,
        options: Vec::new(),
        extensions: chain.extensions.iter().map(|(n, body)| (*n, body.to_vec())).collect(),
    };
    Some(with_transport(header, chain.next, chain.rest, tunnels))
}

fn with_transport(
    header: IpHeader,
    protocol: u8,
    behind: &[u8],
    tunnels: &[(TunnelKind, u16)],
) -> Vec<Layer> {
    let is_later = header.fragment.is_later();
    let read = if is_later { None } else { transport(protocol, behind, tunnels) };
    let ip = Layer::Ip { header, protocol: Some(protocol) };
    [ip].into_iter().chain(read.unwrap_or_else(|| payload(behind))).collect()
}

fn transport(protocol: u8, bytes: &[u8], tunnels: &[(TunnelKind, u16)]) -> Option<Vec<Layer>> {
    let protocol = Protocol::from_number(protocol);
    let port = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let long = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let (source, destination) = (port(0)?, port(2)?);
    let (layer, length) = match protocol {
        Protocol::Tcp => {
            let length = usize::from(bytes.get(12)? >> 4) * 4;
            let options = bytes.get(20..length)?.to_vec();
            let flags = TcpFlags(*bytes.get(13)?);
            let (sequence, acknowledgement, window) = (long(4)?, long(8)?, port(14)?);
            let tcp = Layer::Tcp {
                source,
                destination,
                flags,
                sequence,
                acknowledgement,
                window,
                options,
            };
            (tcp, length)
        }
        Protocol::Udp => (Layer::Udp { source, destination }, 8),
        Protocol::Sctp => (Layer::Sctp { source, destination, tag: long(4)? }, 12),
        Protocol::Icmp | Protocol::Icmpv6 => {
            let [kind, code, _, _] = *bytes.first_chunk()?;
            let v6 = protocol == Protocol::Icmpv6;
            (Layer::Icmp { v6, kind, code, rest: *bytes.get(4..)?.first_chunk()? }, 8)
        }
        Protocol::Other(_) => return None,
    };
    let behind = bytes.get(length..)?;
    let inner = match &layer {
        Layer::Udp { destination, .. } => tunneled(*destination, behind, tunnels),
        _ => None,
    };
    Some([layer].into_iter().chain(inner.unwrap_or_else(|| payload(behind))).collect())
}

/// The tunnel that a port of UDP stands for, and the frame in it.
fn tunneled(port: u16, carried: &[u8], tunnels: &[(TunnelKind, u16)]) -> Option<Vec<Layer>> {
    let (kind, _) = *tunnels.iter().find(|(_, own)| *own == port)?;
    let (vni, options, inner) = tunnel::split(kind, carried)?;
    let header = Layer::Tunnel { kind, vni, options: options.to_vec() };
    Some([header].into_iter().chain(dissect(inner, tunnels)).collect())
}
