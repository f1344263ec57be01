//! A question with every name resolved: who, to whom, which packet; and the packets that follow a first
//! one: its natural answer, a further packet of either side, the error that quotes it. Text is `lang`'s,
//! bytes on the wire are `datapath::frame`'s.

use crate::net::{Fragment, IpHeader, Packet, TcpFlags, Transport, icmp};
use crate::topology::{Party, PodId};

mod quote;

pub use quote::quote;

/// One flow asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The sender.
    pub source: Party,
    /// The receiver.
    pub destination: Party,
    /// The packet, complete: every field the text left open is filled with its documented default.
    pub packet: Packet,
    /// Whether the reply is asked too.
    pub with_reply: bool,
    /// The backend that a service shall choose (`choose backend web/echo-1`), instead of the one that it would.
    pub choose: Option<PodId>,
    /// What conntrack shall know of the flow already (`with conntrack established`): its opening packets are run first.
    pub known: Option<Known>,
    /// What was filled in that could matter to the verdict, as `assumed` lines (`icmp echo, as no port
    /// was given`).
    pub assumed: Vec<String>,
    /// Packet fields that the text left open, as `undetermined` names (`echo payload`).
    pub undetermined: Vec<String>,
}

impl Question {
    /// A packet as it is: nothing is left open, forced or known before.
    pub fn of(source: Party, destination: Party, packet: Packet) -> Self {
        Self {
            source,
            destination,
            packet,
            with_reply: false,
            choose: None,
            known: None,
            assumed: Vec::new(),
            undetermined: Vec::new(),
        }
    }
}

/// What conntrack knows about a flow before the packet that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// The sender opened it and the receiver answered.
    Established,
    /// The receiver opened it, and the packet is of the answering side.
    Reply,
    /// The sender connects as part of what is asked, and the packet is its first request (`http GET "/"`).
    Connected,
}

/// Largest IP length, headers included, of a packet that a backend runs (3500 bytes with the Ethernet
/// header).
pub const MAX_PACKET: usize = 3486;

/// TTL and hop limit of a packet whose text names none, as Linux sends it (RFC 1700: 64).
pub const DEFAULT_TTL: u8 = 64;

/// A further packet of a flow: whose, and how it differs from the natural one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// From the side that received the flow's first packet.
    pub reply: bool,
    /// TCP flags; `None` chooses those that come next.
    pub flags: Option<TcpFlags>,
    /// An ICMP error of this type and code about the latest packet, instead of a packet of the flow.
    pub error: Option<(u8, u8)>,
    /// Changes to the header and payload.
    pub change: Change,
}

/// Header fields and payload to set on a packet that was made by rule. `None` keeps what the rule gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// IP identification.
    pub ip_id: Option<u32>,
    /// IPv6 flow label.
    pub flow_label: Option<u32>,
    /// "Don't fragment".
    pub dont_fragment: bool,
    /// Fragmentation.
    pub fragment: Option<Fragment>,
    /// IPv4 options, as [`IpHeader::options`].
    pub options: Option<Vec<u8>>,
    /// IPv6 extension headers, as [`IpHeader::extensions`].
    pub extensions: Option<Vec<(u8, Vec<u8>)>>,
    /// Identifier of an echo.
    pub identifier: Option<u16>,
    /// TCP or echo sequence number.
    pub sequence: Option<u32>,
    /// The MTU that an ICMP error tells of.
    pub mtu: Option<u32>,
    /// Payload.
    pub payload: Option<Vec<u8>>,
}

impl Change {
    fn apply(&self, packet: &mut Packet) {
        let ip = &mut packet.ip;
        ip.ttl = self.ttl.unwrap_or(ip.ttl);
        ip.id = self.ip_id.unwrap_or(ip.id);
        ip.flow_label = self.flow_label.unwrap_or(ip.flow_label);
        ip.dont_fragment |= self.dont_fragment;
        ip.fragment = self.fragment.unwrap_or(ip.fragment);
        if let Some(options) = &self.options {
            ip.options.clone_from(options);
        }
        if let Some(extensions) = &self.extensions {
            ip.extensions.clone_from(extensions);
        }
        if let Some(payload) = &self.payload {
            packet.payload.clone_from(payload);
        }
        if let (Some(wanted), Transport::Icmp { rest, .. }) =
            (self.identifier, &mut packet.transport)
        {
            let [high, low] = wanted.to_be_bytes();
            rest[0] = high;
            rest[1] = low;
        }
        if let (Some(mtu), Transport::Icmp { rest, .. }) = (self.mtu, &mut packet.transport) {
            *rest = mtu.to_be_bytes();
        }
        if let Some(wanted) = self.sequence {
            set_sequence(&mut packet.transport, wanted);
        }
    }
}

/// The low 16 bits are an echo's sequence number (RFC 792); TCP's has all 32.
fn set_sequence(transport: &mut Transport, wanted: u32) {
    match transport {
        Transport::Tcp { sequence, .. } => *sequence = wanted,
        Transport::Icmp { rest, .. } => {
            let [_, _, high, low] = wanted.to_be_bytes();
            rest[2] = high;
            rest[3] = low;
        }
        Transport::Udp { .. } | Transport::Sctp { .. } | Transport::Other { .. } => {}
    }
}

/// The packet that the receiver naturally answers with: the echo reply with the same identifier,
/// sequence and payload; SYN-ACK to a SYN; RST-less ACK to anything else of TCP; UDP and SCTP with the
/// ports swapped. TTL 64, IP id and flow label 0, no "don't fragment", never a fragment.
#[must_use]
pub fn reply(packet: &Packet) -> Packet {
    let transport = match packet.transport {
        Transport::Tcp { source, destination, flags, sequence, acknowledgement } => {
            Transport::Tcp {
                source: destination,
                destination: source,
                flags: answer_flags(flags),
                sequence: acknowledgement,
                acknowledgement: next_sequence(sequence, flags, packet.payload.len()),
            }
        }
        Transport::Udp { source, destination } => {
            Transport::Udp { source: destination, destination: source }
        }
        Transport::Sctp { source, destination } => {
            Transport::Sctp { source: destination, destination: source }
        }
        Transport::Icmp { kind, code, rest } => {
            Transport::Icmp { kind: answer_kind(packet, kind), code, rest }
        }
        Transport::Other { protocol } => Transport::Other { protocol },
    };
    let payload = match transport {
        Transport::Icmp { .. } => packet.payload.clone(),
        _ => Vec::new(),
    };
    Packet { ip: answer_header(packet), transport, payload }
}

fn answer_header(packet: &Packet) -> IpHeader {
    IpHeader {
        source: packet.ip.destination,
        destination: packet.ip.source,
        traffic_class: packet.ip.traffic_class,
        ttl: DEFAULT_TTL,
        id: 0,
        flow_label: 0,
        dont_fragment: false,
        fragment: Fragment::default(),
        options: Vec::new(),
        extensions: Vec::new(),
    }
}

fn answer_flags(flags: TcpFlags) -> TcpFlags {
    if flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK) {
        TcpFlags::SYN.with(TcpFlags::ACK)
    } else {
        TcpFlags::ACK
    }
}

/// SYN and FIN each take one sequence number (RFC 9293 3.4).
fn next_sequence(sequence: u32, flags: TcpFlags, payload: usize) -> u32 {
    let flagged =
        u32::from(flags.contains(TcpFlags::SYN)) + u32::from(flags.contains(TcpFlags::FIN));
    let data = u32::try_from(payload).unwrap_or(u32::MAX);
    sequence.wrapping_add(flagged).wrapping_add(data)
}

fn answer_kind(packet: &Packet, kind: u8) -> u8 {
    let v6 = packet.ip.source.is_ipv6();
    match (v6, kind) {
        (false, icmp::ECHO_REQUEST) => icmp::ECHO_REPLY,
        (false, icmp::ECHO_REPLY) => icmp::ECHO_REQUEST,
        (true, icmp::V6_ECHO_REQUEST) => icmp::V6_ECHO_REPLY,
        (true, icmp::V6_ECHO_REPLY) => icmp::V6_ECHO_REQUEST,
        (_, other) => other,
    }
}

/// The next packet of a flow. `first` is the packet that started it, `latest` the last packet that either
/// side sent (at the start the same). An ICMP error quotes `latest` and goes to its sender, from its receiver. A later fragment
/// that follows one of its side is a piece of the same datagram.
#[must_use]
pub fn follow_up(first: &Packet, latest: &Packet, follow_up: &FollowUp) -> Packet {
    let mut packet = match follow_up.error {
        Some((kind, code)) => error_about(latest, kind, code),
        None => next_of_side(first, latest, follow_up),
    };
    follow_up.change.apply(&mut packet);
    packet
}

fn next_of_side(first: &Packet, latest: &Packet, follow_up: &FollowUp) -> Packet {
    let mut packet = if from_side(latest, first, follow_up.reply) {
        let mut packet = again(latest, follow_up.flags);
        let continues = follow_up.change.fragment.is_some_and(Fragment::is_later);
        if continues && latest.ip.fragment.more {
            packet.ip.id = latest.ip.id;
        }
        packet
    } else {
        reply(latest)
    };
    if let (Transport::Tcp { flags, .. }, Some(chosen)) = (&mut packet.transport, follow_up.flags) {
        *flags = chosen;
    }
    packet
}

/// Whether `latest` came from the side that speaks next.
fn from_side(latest: &Packet, first: &Packet, reply: bool) -> bool {
    from_opener(latest, first) != reply
}

/// Whether a packet of the flow came from the side that sent its first one. Addresses alone do not tell where a pod talks
/// to itself, so ports decide with them; those of a later fragment are its datagram's.
#[must_use]
pub fn from_opener(packet: &Packet, first: &Packet) -> bool {
    packet.ip.source == first.ip.source && packet.transport.ports() == first.transport.ports()
}

/// The same side speaks again: a SYN without other flags chosen is sent anew, anything else moves the
/// sequence on.
fn again(latest: &Packet, chosen: Option<TcpFlags>) -> Packet {
    let ip = IpHeader {
        source: latest.ip.source,
        destination: latest.ip.destination,
        ..answer_header(latest)
    };
    let mut packet = Packet { ip, ..latest.clone() };
    if let Transport::Tcp { flags, sequence, .. } = &mut packet.transport
        && !(flags.contains(TcpFlags::SYN) && chosen.is_none())
    {
        *sequence = next_sequence(*sequence, *flags, latest.payload.len());
        *flags = TcpFlags::ACK;
    }
    packet
}

/// An ICMP error of this type and code about a packet, from its receiver to its sender.
#[must_use]
pub fn error_about(packet: &Packet, kind: u8, code: u8) -> Packet {
    let transport = Transport::Icmp { kind, code, rest: [0; 4] };
    Packet { ip: answer_header(packet), transport, payload: quote(packet) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn packet(transport: Transport, payload: &[u8]) -> Packet {
        let ip = IpHeader {
            source: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            destination: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
            traffic_class: 0,
            ttl: 7,
            id: 35369,
            flow_label: 0,
            dont_fragment: true,
            fragment: Fragment::default(),
            options: vec![0; 4],
            extensions: Vec::new(),
        };
        Packet { ip, transport, payload: payload.to_vec() }
    }

    fn tcp(flags: TcpFlags) -> Packet {
        let transport = Transport::Tcp {
            source: 40312,
            destination: 80,
            flags,
            sequence: 1,
            acknowledgement: 0,
        };
        packet(transport, &[])
    }

    fn flags_of(packet: &Packet) -> TcpFlags {
        match packet.transport {
            Transport::Tcp { flags, .. } => flags,
            _ => TcpFlags::default(),
        }
    }

    #[test]
    fn an_echo_is_answered_with_what_it_carries() {
        let rest = [1, 246, 7, 86];
        let asked = packet(Transport::Icmp { kind: 8, code: 0, rest }, b"abc");
        let answer = reply(&asked);
        assert_eq!(answer.transport, Transport::Icmp { kind: 0, code: 0, rest });
        assert_eq!(answer.payload, b"abc");
        assert_eq!(
            (answer.ip.source, answer.ip.destination),
            (asked.ip.destination, asked.ip.source)
        );
        assert_eq!((answer.ip.ttl, answer.ip.id, answer.ip.dont_fragment), (64, 0, false));
    }

    #[test]
    fn tcp_is_answered_by_its_flags() {
        let syn_ack = TcpFlags::SYN.with(TcpFlags::ACK);
        for (asked, expected) in [
            (TcpFlags::SYN, syn_ack),
            (syn_ack, TcpFlags::ACK),
            (TcpFlags::ACK, TcpFlags::ACK),
            (TcpFlags::FIN.with(TcpFlags::ACK), TcpFlags::ACK),
        ] {
            let answer = reply(&tcp(asked));
            assert_eq!(flags_of(&answer), expected, "{asked}");
            assert_eq!(answer.ports(), (80, 40312));
        }
    }

    #[test]
    fn a_reply_acknowledges_what_was_sent() {
        let answer = reply(&tcp(TcpFlags::SYN));
        assert!(matches!(answer.transport, Transport::Tcp { acknowledgement: 2, .. }));
    }

    #[test]
    fn either_side_may_speak_next() {
        let first = tcp(TcpFlags::SYN);
        let step = |reply, flags| FollowUp { reply, flags, error: None, change: Change::default() };
        let answer = follow_up(&first, &first, &step(true, None));
        assert_eq!(answer.ip.source, first.ip.destination);
        let sent = follow_up(&first, &answer, &step(false, None));
        assert_eq!((sent.ip.source, flags_of(&sent)), (first.ip.source, TcpFlags::ACK));
        let twice = follow_up(&first, &sent, &step(false, Some(TcpFlags::RST)));
        assert_eq!((twice.ip.source, flags_of(&twice)), (first.ip.source, TcpFlags::RST));
    }

    #[test]
    fn a_syn_is_sent_anew_as_it_was() {
        let first = tcp(TcpFlags::SYN);
        let step = FollowUp { reply: false, flags: None, error: None, change: Change::default() };
        assert_eq!(follow_up(&first, &first, &step).transport, first.transport);
    }

    #[test]
    fn pieces_are_of_one_datagram_and_of_one_side() {
        let mut first = packet(Transport::Udp { source: 40312, destination: 53 }, b"query");
        first.ip.fragment = Fragment { offset: 0, more: true };
        let piece = |reply, fragment| {
            let change = Change { fragment, ..Change::default() };
            FollowUp { reply, flags: None, error: None, change }
        };
        let middle = Some(Fragment { offset: 1480, more: true });
        let second = follow_up(&first, &first, &piece(false, middle));
        let last = Some(Fragment { offset: 2960, more: false });
        let third = follow_up(&first, &second, &piece(false, last));
        for later in [&second, &third] {
            assert_eq!((later.ip.source, later.ip.id), (first.ip.source, first.ip.id));
        }
        let answer = follow_up(&first, &third, &piece(true, None));
        assert_eq!((answer.ip.source, answer.ports()), (first.ip.destination, (53, 40312)));
        let whole = follow_up(&first, &third, &piece(false, None));
        assert_eq!((whole.ip.source, whole.ip.id), (first.ip.source, 0));
    }

    #[test]
    fn changes_apply_to_the_packet_made() {
        let first = tcp(TcpFlags::SYN);
        let change =
            Change { ttl: Some(1), ip_id: Some(9), sequence: Some(5), ..Change::default() };
        let made =
            follow_up(&first, &first, &FollowUp { reply: true, flags: None, error: None, change });
        assert_eq!((made.ip.ttl, made.ip.id), (1, 9));
        assert!(matches!(made.transport, Transport::Tcp { sequence: 5, .. }));
    }

    #[test]
    fn an_echo_may_change_its_identifier() {
        let first = packet(Transport::Icmp { kind: 8, code: 0, rest: [0, 1, 0, 1] }, &[]);
        let change =
            Change { identifier: Some(0x0203), sequence: Some(0x0405), ..Change::default() };
        let step = FollowUp { reply: true, flags: None, error: None, change };
        let made = follow_up(&first, &first, &step);
        assert_eq!(made.transport, Transport::Icmp { kind: 0, code: 0, rest: [2, 3, 4, 5] });
    }

    #[test]
    fn an_error_goes_back_and_quotes() {
        let first = packet(Transport::Udp { source: 40312, destination: 53 }, b"query");
        let step =
            FollowUp { reply: true, flags: None, error: Some((3, 4)), change: Change::default() };
        let error = follow_up(&first, &first, &step);
        assert_eq!(error.icmp(), Some((3, 4)));
        assert_eq!(error.ip.destination, first.ip.source);
        assert_eq!(error.payload, quote(&first));
    }
}
