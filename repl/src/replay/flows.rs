//! Which flow a captured packet is of. A flow has two views where its addresses are translated, and both lead to it. Owns the
//! table of flows and its limit; verdicts are none of its business.

use std::collections::HashMap;
use std::net::IpAddr;

use datapath::frame;
use engine::explain::ends;
use engine::net::{Packet, TcpFlags, Transport, icmp};
use engine::trace::Place;

/// Both ends of a flow and the protocol, the same for either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    protocol: u8,
    low: Place,
    high: Place,
}

/// A packet's place in a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) protocol: u8,
    pub(super) source: Place,
    pub(super) destination: Place,
}

impl Ends {
    pub(super) fn key(self) -> Key {
        let Self { protocol, source, destination } = self;
        let order = |place: &Place| (place.address, place.port);
        let (low, high) = if order(&source) <= order(&destination) {
            (source, destination)
        } else {
            (destination, source)
        };
        Key { protocol, low, high }
    }
}

/// Datagrams whose pieces may still come.
const MOST_PIECES: usize = 4096;

/// What a datagram's pieces have in common.
type Piece = (IpAddr, IpAddr, u8, u32);

/// See the module.
#[derive(Default)]
pub(super) struct Table {
    index: HashMap<Key, usize>,
    pieces: HashMap<Piece, (u16, u16)>,
}

impl Table {
    /// The flow of a key.
    pub(super) fn find(&self, key: &Key) -> Option<usize> {
        self.index.get(key).copied()
    }

    /// The key is this flow's from now on.
    pub(super) fn put(&mut self, key: Key, flow: usize) {
        self.index.insert(key, flow);
    }

    /// The key is this flow's too, unless it is another's.
    pub(super) fn add(&mut self, key: Key, flow: usize) {
        self.index.entry(key).or_insert(flow);
    }

    /// The ends of a packet. A later fragment has the ports of the first one, `None` where that was not seen.
    pub(super) fn ends(&mut self, packet: &Packet) -> Option<Ends> {
        let fragment = packet.ip.fragment;
        let protocol = packet.protocol().number();
        let piece = (packet.ip.source, packet.ip.destination, protocol, packet.ip.id);
        let ports = if fragment.is_later() {
            *self.pieces.get(&piece)?
        } else {
            let ports = ports(packet);
            if fragment.more {
                if self.pieces.len() >= MOST_PIECES {
                    self.pieces.clear();
                }
                self.pieces.insert(piece, ports);
            }
            ports
        };
        Some(ends_with(packet, ports))
    }
}

/// The ends of a packet with these ports.
pub(super) fn ends_with(packet: &Packet, (source, destination): (u16, u16)) -> Ends {
    Ends {
        protocol: packet.protocol().number(),
        source: Place { address: packet.ip.source, port: source },
        destination: Place { address: packet.ip.destination, port: destination },
    }
}

/// The packet that an ICMP error is about.
pub(super) fn quoted(packet: &Packet) -> Option<Ends> {
    if !is_error(packet) {
        return None;
    }
    let mut frame = vec![0; frame::MIN_LENGTH];
    frame.extend(&packet.payload);
    let quoted = ends(&frame).filter(|ends| ends.has_ports)?;
    Some(Ends {
        protocol: quoted.protocol.number(),
        source: quoted.source,
        destination: quoted.destination,
    })
}

/// Whether it is an ICMP error.
pub(super) fn is_error(packet: &Packet) -> bool {
    let Some((kind, _)) = packet.icmp().filter(|_| !packet.ip.fragment.is_later()) else {
        return false;
    };
    if packet.ip.source.is_ipv6() {
        return kind < icmp::V6_ECHO_REQUEST;
    }
    matches!(kind, icmp::UNREACHABLE | 4 | 5 | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM)
}

fn ports(packet: &Packet) -> (u16, u16) {
    match packet.transport {
        Transport::Icmp { rest: [high, low, ..], .. } if !is_error(packet) => {
            let identifier = u16::from_be_bytes([high, low]);
            (identifier, identifier)
        }
        Transport::Icmp { .. } => (0, 0),
        _ => packet.transport.ports(),
    }
}

/// Why a flow cannot begin with a packet.
pub(super) fn began_before(packet: &Packet) -> Option<&'static str> {
    if is_error(packet) {
        return Some("an error about a packet that the capture does not show");
    }
    match packet.transport {
        _ if packet.ip.fragment.is_later() => Some("the datagram's first fragment is not there"),
        Transport::Tcp { flags, .. }
            if !flags.contains(TcpFlags::SYN) || flags.contains(TcpFlags::ACK) =>
        {
            Some("it began before the capture: its first packet is no SYN")
        }
        Transport::Sctp { .. } if packet.payload.first() != Some(&SCTP_INIT) => {
            Some("it began before the capture: its first packet is no INIT")
        }
        Transport::Icmp { kind, .. } => {
            let answer =
                if packet.ip.source.is_ipv6() { icmp::V6_ECHO_REPLY } else { icmp::ECHO_REPLY };
            (kind == answer).then_some("an echo reply whose request is not there")
        }
        _ => None,
    }
}

/// The chunk that an association begins with (RFC 9260 3.2).
const SCTP_INIT: u8 = 1;

/// Whether a packet ends a flow, so that the next SYN begins another.
pub(super) fn is_end(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::Tcp { flags, .. }
        if flags.contains(TcpFlags::FIN) || flags.contains(TcpFlags::RST))
}

/// Whether a packet opens a connection.
pub(super) fn is_opening(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::Tcp { .. } | Transport::Sctp { .. })
        && began_before(packet).is_none()
}
