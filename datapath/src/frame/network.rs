//! Network headers: IPv4 with options and fragments (RFC 791), IPv6 with extension headers (RFC 8200).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engine::net::{IpHeader, extension};
use etherparse::{
    IpDscp, IpEcn, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FlowLabel, Ipv6Header,
};

use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, FrameError, MAX_LENGTH, MIN_LENGTH};

pub(super) const FRAGMENT_HEADER: u8 = 44;

/// The Ethernet type and the network header before `payload` bytes of a protocol.
pub(super) fn header(
    ip: &IpHeader,
    protocol: u8,
    payload: usize,
) -> Result<(u16, Vec<u8>), FrameError> {
    match (ip.source, ip.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Ok((ETHERTYPE_IPV4, ipv4(ip, protocol, (source, destination), payload)?))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Ok((ETHERTYPE_IPV6, ipv6(ip, protocol, (source, destination), payload)?))
        }
        (source_address, destination) => {
            Err(FrameError::MixedFamilies { source_address, destination })
        }
    }
}

/// Bytes from the network header on, where the whole frame is not too long.
fn ip_length(header: usize, payload: usize) -> Result<u16, FrameError> {
    let length = MIN_LENGTH + header + payload;
    let fits = u16::try_from(header + payload).ok().filter(|_| length <= MAX_LENGTH);
    fits.ok_or(FrameError::TooLong { length })
}

fn ipv4(
    ip: &IpHeader,
    protocol: u8,
    (source, destination): (Ipv4Addr, Ipv4Addr),
    payload: usize,
) -> Result<Vec<u8>, FrameError> {
    if !ip.extensions.is_empty() {
        return Err(FrameError::ExtensionsOfIpv4);
    }
    if ip.flow_label != 0 {
        return Err(FrameError::FlowLabel(ip.flow_label));
    }
    let options = Ipv4Options::try_from(ip.options.as_slice())
        .map_err(|_| FrameError::Options(ip.options.len()))?;
    let total_len = ip_length(Ipv4Header::MIN_LEN + ip.options.len(), payload)?;
    let (dscp, ecn) = split_class(ip.traffic_class);
    let mut header = Ipv4Header {
        dscp,
        ecn,
        total_len,
        identification: u16::try_from(ip.id).map_err(|_| FrameError::Identification(ip.id))?,
        dont_fragment: ip.dont_fragment,
        more_fragments: ip.fragment.more,
        fragment_offset: fragment_units(ip)?,
        time_to_live: ip.ttl,
        protocol: IpNumber(protocol),
        header_checksum: 0,
        source: source.octets(),
        destination: destination.octets(),
        options,
    };
    header.header_checksum = header.calc_header_checksum();
    Ok(header.to_bytes().to_vec())
}

/// The two parts of a TOS or traffic class; both always fit.
pub(super) fn split_class(class: u8) -> (IpDscp, IpEcn) {
    let dscp = IpDscp::try_new(class >> 2).unwrap_or_default();
    let ecn = IpEcn::try_new(class & 0b11).unwrap_or_default();
    (dscp, ecn)
}

fn fragment_units(ip: &IpHeader) -> Result<IpFragOffset, FrameError> {
    let offset = ip.fragment.offset;
    if !offset.is_multiple_of(8) {
        return Err(FrameError::FragmentOffset(offset));
    }
    IpFragOffset::try_new(offset / 8).map_err(|_| FrameError::FragmentOffset(offset))
}

fn ipv6(
    ip: &IpHeader,
    protocol: u8,
    (source, destination): (Ipv6Addr, Ipv6Addr),
    payload: usize,
) -> Result<Vec<u8>, FrameError> {
    if !ip.options.is_empty() {
        return Err(FrameError::Options(ip.options.len()));
    }
    let (first, extensions) = extensions(ip, protocol)?;
    let own = ip_length(Ipv6Header::LEN, 0)?;
    let whole = ip_length(Ipv6Header::LEN + extensions.len(), payload)?;
    let header = Ipv6Header {
        traffic_class: ip.traffic_class,
        flow_label: Ipv6FlowLabel::try_new(ip.flow_label)
            .map_err(|_| FrameError::FlowLabel(ip.flow_label))?,
        payload_length: whole - own,
        next_header: IpNumber(first),
        hop_limit: ip.ttl,
        source: source.octets(),
        destination: destination.octets(),
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend(extensions);
    Ok(bytes)
}

/// The number of the first header after IPv6's own, and the bytes of all up to the transport.
fn extensions(ip: &IpHeader, protocol: u8) -> Result<(u8, Vec<u8>), FrameError> {
    let mut next = protocol;
    let mut bytes = Vec::new();
    if ip.fragment.is_fragment() {
        let piece = ip.fragment;
        let flags = (fragment_units(ip)?.value() << 3) | u16::from(piece.more);
        bytes.extend([next, 0]);
        bytes.extend(flags.to_be_bytes());
        bytes.extend(ip.id.to_be_bytes());
        next = FRAGMENT_HEADER;
    }
    // Each header names the one behind it, so they are written from the last to the first.
    for (number, body) in ip.extensions.iter().rev() {
        let length = extension_length(*number, body.len())?;
        bytes = [&[next, length], body.as_slice(), &bytes].concat();
        next = *number;
    }
    Ok((next, bytes))
}

/// The length field: units of 8 bytes beyond the first (RFC 8200 4.2); authentication counts in units of
/// 4 beyond two (RFC 4302 2.2).
fn extension_length(number: u8, length: usize) -> Result<u8, FrameError> {
    let refused = FrameError::Extension { number, length };
    let (unit, beyond) = if number == extension::AUTHENTICATION { (4, 2) } else { (8, 1) };
    let whole = length + 2;
    if number == FRAGMENT_HEADER || !whole.is_multiple_of(unit) {
        return Err(refused);
    }
    (whole / unit).checked_sub(beyond).and_then(|units| u8::try_from(units).ok()).ok_or(refused)
}
