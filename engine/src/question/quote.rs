//! The part of a packet that an ICMP error carries: its network header and the first 8 bytes after it
//! (RFC 792; for IPv6 RFC 4443 quotes more, which nothing that looks up a flow reads).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::{IpHeader, Packet, Transport, extension};

const TRANSPORT_BYTES: usize = 8;
const IPV6_FRAGMENT_HEADER: u8 = 44;

/// What an ICMP error about the packet quotes. The transport's checksum is written as 0.
#[must_use]
pub fn quote(packet: &Packet) -> Vec<u8> {
    let mut transport = transport_start(packet);
    let total = transport_length(packet);
    transport.extend(&packet.payload);
    transport.truncate(TRANSPORT_BYTES);
    let mut bytes = match (packet.ip.source, packet.ip.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ipv4_header(packet, source, destination, total)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ipv6_header(packet, source, destination, total)
        }
        // A packet has one family; a mixed one has no bytes.
        _ => Vec::new(),
    };
    bytes.extend(transport);
    bytes
}

/// Bytes of transport header and payload, as the length fields count them.
fn transport_length(packet: &Packet) -> usize {
    let header = match packet.transport {
        _ if packet.ip.fragment.is_later() => 0,
        Transport::Tcp { .. } => 20,
        Transport::Udp { .. } | Transport::Icmp { .. } => 8,
        Transport::Sctp { .. } => 12,
        Transport::Other { .. } => 0,
    };
    header + packet.payload.len()
}

fn transport_start(packet: &Packet) -> Vec<u8> {
    if packet.ip.fragment.is_later() {
        return Vec::new();
    }
    match packet.transport {
        Transport::Tcp { source, destination, sequence, .. } => {
            [ports(source, destination), sequence.to_be_bytes()].concat()
        }
        Transport::Udp { source, destination } => {
            let [high, low] = word(transport_length(packet));
            [ports(source, destination), [high, low, 0, 0]].concat()
        }
        // The verification tag is not modelled: 0.
        Transport::Sctp { source, destination } => [ports(source, destination), [0; 4]].concat(),
        Transport::Icmp { kind, code, rest } => [[kind, code, 0, 0], rest].concat(),
        Transport::Other { .. } => Vec::new(),
    }
}

fn ports(source: u16, destination: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (source.to_be_bytes(), destination.to_be_bytes());
    [a, b, c, d]
}

fn word(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

fn ipv4_header(packet: &Packet, source: Ipv4Addr, destination: Ipv4Addr, inner: usize) -> Vec<u8> {
    let ip = &packet.ip;
    let length = 20 + ip.options.len();
    let words = u8::try_from(length / 4).unwrap_or(15);
    let mut bytes = vec![0x40 | words, ip.traffic_class];
    bytes.extend(word(length + inner));
    bytes.extend(u16::try_from(ip.id & 0xffff).unwrap_or(0).to_be_bytes());
    bytes.extend(ipv4_fragment(ip).to_be_bytes());
    bytes.extend([ip.ttl, packet.protocol().number(), 0, 0]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(&ip.options);
    let [high, low] = checksum(&bytes).to_be_bytes();
    bytes[10] = high;
    bytes[11] = low;
    bytes
}

fn ipv4_fragment(ip: &IpHeader) -> u16 {
    let units = ip.fragment.offset / 8;
    units | u16::from(ip.dont_fragment) << 14 | u16::from(ip.fragment.more) << 13
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(u16::from_be_bytes([high, 0])),
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

fn ipv6_header(packet: &Packet, source: Ipv6Addr, destination: Ipv6Addr, inner: usize) -> Vec<u8> {
    let ip = &packet.ip;
    let extensions = ipv6_extensions(packet);
    let first = chain(packet).first().map_or(packet.protocol().number(), |(number, _)| *number);
    let first_word = 0x6000_0000 | u32::from(ip.traffic_class) << 20 | ip.flow_label & 0xF_FFFF;
    let mut bytes = first_word.to_be_bytes().to_vec();
    bytes.extend(word(extensions.len() + inner));
    bytes.extend([first, ip.ttl]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(extensions);
    bytes
}

/// Extension headers in order, the fragment header last, each as (number, bytes after the first).
fn chain(packet: &Packet) -> Vec<(u8, Vec<u8>)> {
    let ip = &packet.ip;
    let mut chain: Vec<_> = ip
        .extensions
        .iter()
        .map(|(number, body)| {
            // In units of 8 bytes beyond the first (RFC 8200 4.2), of the authentication header in units of 4
            // beyond two (RFC 4302 2.2).
            let (unit, beyond) = if *number == extension::AUTHENTICATION { (4, 2) } else { (8, 1) };
            let units = u8::try_from((body.len() + 2) / unit).unwrap_or(u8::MAX);
            let units = units.saturating_sub(beyond);
            (*number, [&[units], body.as_slice()].concat())
        })
        .collect();
    if ip.fragment.is_fragment() {
        let [high, low] = (ip.fragment.offset & 0xfff8 | u16::from(ip.fragment.more)).to_be_bytes();
        let mut body = vec![0, high, low];
        body.extend(ip.id.to_be_bytes());
        chain.push((IPV6_FRAGMENT_HEADER, body));
    }
    chain
}

fn ipv6_extensions(packet: &Packet) -> Vec<u8> {
    let chain = chain(packet);
    let after = chain.iter().skip(1).map(|(number, _)| *number);
    let next = after.chain([packet.protocol().number()]);
    chain
        .iter()
        .zip(next)
        .flat_map(|((_, body), next)| [&[next], body.as_slice()].concat())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Fragment, TcpFlags};

    fn packet(source: &str, destination: &str, transport: Transport) -> Option<Packet> {
        let ip = IpHeader {
            source: source.parse().ok()?,
            destination: destination.parse().ok()?,
            traffic_class: 0,
            ttl: 64,
            id: 35369,
            flow_label: 0,
            dont_fragment: true,
            fragment: Fragment::default(),
            options: Vec::new(),
            extensions: Vec::new(),
        };
        Some(Packet { ip, transport, payload: vec![0; 56] })
    }

    #[test]
    fn ipv4_is_quoted_with_a_valid_header() {
        let echo = Transport::Icmp { kind: 8, code: 0, rest: [1, 0xf6, 7, 0x56] };
        let packet = packet("10.244.1.154", "10.244.6.11", echo).expect("addresses parse");
        let bytes = quote(&packet);
        assert_eq!(bytes.len(), 28);
        assert_eq!(&bytes[..10], [0x45, 0, 0, 84, 0x8a, 0x29, 0x40, 0, 64, 1]);
        assert_eq!(checksum(&bytes[..20]), 0, "the header sums to zero");
        assert_eq!(&bytes[20..], [8, 0, 0, 0, 1, 0xf6, 7, 0x56]);
    }

    #[test]
    fn ipv6_extensions_are_chained() {
        let tcp = Transport::Tcp {
            source: 40312,
            destination: 80,
            flags: TcpFlags::SYN,
            sequence: 1,
            acknowledgement: 0,
        };
        let mut packet = packet("fd00::1", "fd00::2", tcp).expect("addresses parse");
        packet.ip.extensions = vec![(0, vec![1, 4, 0, 0, 0, 0])];
        packet.ip.fragment = Fragment { offset: 0, more: true };
        let bytes = quote(&packet);
        assert_eq!(bytes[6], 0, "hop-by-hop first");
        assert_eq!(&bytes[40..42], [44, 0], "then the fragment header");
        assert_eq!(&bytes[48..52], [6, 0, 0, 1], "then TCP, more fragments");
        assert_eq!(&bytes[56..60], ports(40312, 80));
        // The authentication header counts its length in units of 4 bytes beyond two.
        packet.ip.extensions = vec![(51, vec![0; 22])];
        packet.ip.fragment = Fragment::default();
        let bytes = quote(&packet);
        assert_eq!((bytes[6], &bytes[40..42]), (51, &[6, 4][..]));
        assert_eq!(&bytes[64..68], ports(40312, 80));
    }
}
