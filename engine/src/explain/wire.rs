//! What the bytes of a frame say about its two sides: addresses, ports and time to live, as whoever gets it reads them. Reads
//! frames only; making them is `datapath::frame`'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::HeaderFault;
use crate::net::{Protocol, extension, icmp};
use crate::trace::Place;

const ETHERNET: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86DD;
const FRAGMENT: u8 = 44;
/// Extension headers that are looked past.
const MOST_EXTENSIONS: usize = 12;

/// The sides of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The sender. An echo's identifier is the port of both sides.
    pub source: Place,
    /// The receiver.
    pub destination: Place,
    /// The transport.
    pub protocol: Protocol,
    /// Whether ports or an identifier were read: not from later fragments, and not where there are none.
    pub has_ports: bool,
}

/// The sides of an Ethernet frame's packet; `None` for what is neither IPv4 nor IPv6 or is too short.
pub fn ends(frame: &[u8]) -> Option<Ends> {
    ends_of(frame.get(ETHERNET..)?)
}

/// The sides of a packet without the frame around it; of one that an ICMP error quotes, too.
pub(super) fn ends_of(packet: &[u8]) -> Option<Ends> {
    match packet.first()? >> 4 {
        4 => ends_v4(packet),
        6 => ends_v6(packet),
        _ => None,
    }
}

/// The sides of the packet that a frame's ICMP error quotes.
pub(super) fn quoted(frame: &[u8]) -> Option<Ends> {
    let (protocol, kind, body) = message_of(frame)?;
    let is_error = match protocol {
        Protocol::Icmpv6 => kind < icmp::V6_ECHO_REQUEST,
        _ => matches!(
            kind,
            icmp::UNREACHABLE | 4 | 5 | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM
        ),
    };
    ends_of(body.filter(|_| is_error)?)
}

/// What is wrong with a frame's network header; `None` where it is right, too short to tell, or neither IPv4's nor IPv6's.
pub(super) fn fault(frame: &[u8]) -> Option<HeaderFault> {
    let ethertype = u16::from_be_bytes(bytes(frame, ETHERNET - 2)?);
    let (expected, least) = match ethertype {
        ETHERTYPE_IPV4 => (4, 20),
        ETHERTYPE_IPV6 => (6, 40),
        _ => return None,
    };
    let packet = frame.get(ETHERNET..).filter(|packet| packet.len() >= least)?;
    let (first, total) = (*packet.first()?, u16::from_be_bytes(bytes(packet, 2)?));
    let (version, header) = (first >> 4, (first & 15) * 4);
    if version != expected {
        return Some(HeaderFault::Version { ethertype, version });
    }
    match (expected, usize::from(header) < least) {
        (6, _) => None,
        (_, true) => Some(HeaderFault::HeaderLength { bytes: header }),
        (_, false) if total < u16::from(header) => Some(HeaderFault::TotalLength { total, header }),
        _ => None,
    }
}

/// TTL (RFC 791, byte 8) or hop limit (RFC 8200, byte 7) of an Ethernet frame; `None` for anything else.
pub(super) fn ttl(frame: &[u8]) -> Option<u8> {
    match frame.get(ETHERNET)? >> 4 {
        4 => frame.get(ETHERNET + 8).copied(),
        6 => frame.get(ETHERNET + 7).copied(),
        _ => None,
    }
}

/// Protocol and type of an Ethernet frame's ICMP or ICMPv6 message.
pub(super) fn message(frame: &[u8]) -> Option<(Protocol, u8)> {
    message_of(frame).map(|(protocol, kind, _)| (protocol, kind))
}

/// The same, with what stands behind the message's eight bytes.
fn message_of(frame: &[u8]) -> Option<(Protocol, u8, Option<&[u8]>)> {
    let packet = frame.get(ETHERNET..)?;
    let (number, at, is_later) = match packet.first()? >> 4 {
        4 => (*packet.get(9)?, usize::from(packet.first()? & 15) * 4, false),
        6 => upper_layer(packet)?,
        _ => return None,
    };
    let protocol = Protocol::from_number(number);
    let is_icmp = matches!(protocol, Protocol::Icmp | Protocol::Icmpv6) && !is_later;
    let kind = packet.get(at).filter(|_| is_icmp)?;
    Some((protocol, *kind, packet.get(at + 8..)))
}

fn ends_v4(packet: &[u8]) -> Option<Ends> {
    let length = usize::from(packet.first()? & 15) * 4;
    let address = |at| Some(IpAddr::from(Ipv4Addr::from(bytes::<4>(packet, at)?)));
    let (source, destination) = (address(12)?, address(16)?);
    let protocol = Protocol::from_number(*packet.get(9)?);
    let is_later = u16::from_be_bytes(bytes(packet, 6)?) & 0x1fff != 0;
    let ports = if is_later { None } else { ports(protocol, packet.get(length..)?) };
    Some(joined(source, destination, protocol, ports))
}

fn ends_v6(packet: &[u8]) -> Option<Ends> {
    let address = |at| Some(IpAddr::from(Ipv6Addr::from(bytes::<16>(packet, at)?)));
    let (source, destination) = (address(8)?, address(24)?);
    let (number, at, is_later) = upper_layer(packet)?;
    let protocol = Protocol::from_number(number);
    let ports = if is_later { None } else { ports(protocol, packet.get(at..)?) };
    Some(joined(source, destination, protocol, ports))
}

/// The upper layer's number, where it begins, and whether it is a later fragment's (RFC 8200 4).
fn upper_layer(packet: &[u8]) -> Option<(u8, usize, bool)> {
    let (mut number, mut at) = (*packet.get(6)?, 40);
    for _ in 0..MOST_EXTENSIONS {
        let length = || packet.get(at + 1).map(|units| usize::from(*units));
        let step = match number {
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION => {
                (length()? + 1) * 8
            }
            extension::AUTHENTICATION => (length()? + 2) * 4,
            FRAGMENT if u16::from_be_bytes(bytes(packet, at + 2)?) & 0xfff8 != 0 => {
                return Some((*packet.get(at)?, at + 8, true));
            }
            FRAGMENT => 8,
            _ => break,
        };
        number = *packet.get(at)?;
        at += step;
    }
    Some((number, at, false))
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Ports, or an echo's identifier for both.
fn ports(protocol: Protocol, transport: &[u8]) -> Option<(u16, u16)> {
    let half = |at| Some(u16::from_be_bytes(bytes(transport, at)?));
    match protocol {
        Protocol::Tcp | Protocol::Udp | Protocol::Sctp => Some((half(0)?, half(2)?)),
        Protocol::Icmp | Protocol::Icmpv6 if is_echo(protocol, *transport.first()?) => {
            Some((half(4)?, half(4)?))
        }
        _ => None,
    }
}

fn is_echo(protocol: Protocol, kind: u8) -> bool {
    let kinds = match protocol {
        Protocol::Icmpv6 => [icmp::V6_ECHO_REQUEST, icmp::V6_ECHO_REPLY],
        _ => [icmp::ECHO_REQUEST, icmp::ECHO_REPLY],
    };
    kinds.contains(&kind)
}

impl Ends {
    /// `10.1.0.10:40312 -> 10.2.0.20:8080`; an echo's identifier is left out.
    pub(super) fn in_words(&self) -> String {
        let place = |place: Place| {
            if self.protocol.has_ports() && self.has_ports {
                place.to_string()
            } else {
                place.address.to_string()
            }
        };
        format!("{} -> {}", place(self.source), place(self.destination))
    }
}

fn joined(
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    ports: Option<(u16, u16)>,
) -> Ends {
    let (from, to) = ports.unwrap_or_default();
    Ends {
        source: Place { address: source, port: from },
        destination: Place { address: destination, port: to },
        protocol,
        has_ports: ports.is_some(),
    }
}
