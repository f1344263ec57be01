//! What conntrack remembers. The programs write it; user space reads it and may empty it.
//!
//! A flow has one entry on a node. Its key is canonical: of the two (address, port) pairs the lower one
//! comes first, compared as big-endian numbers, address before port. Which of the two started the flow is
//! in the value. ICMP echo: a request has port 0 at its source and the identifier at its destination, a
//! reply the reverse, so that both have the same key. Other ICMP messages have two zero ports.
//!
//! What a packet leads to (`legs`) never changes in place: a program replaces the entry, so that
//! no run sees half of a verdict. `paths` are single words for the same reason.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A flow over IPv4. All in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CtKey4 {
    /// Address of the lower side.
    pub low_address: [u8; 4],
    /// Address of the higher side.
    pub high_address: [u8; 4],
    /// Port of the lower side.
    pub low_port: [u8; 2],
    /// Port of the higher side.
    pub high_port: [u8; 2],
    /// IANA number.
    pub protocol: u8,
    /// 1: not what is known of the flow, but a [note](ct_kind::OLDER) about it of programs that observe; else 0.
    pub note: u8,
    /// 0
    pub reserved: [u8; 2],
}

/// A flow over IPv6. All in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CtKey6 {
    /// Address of the lower side.
    pub low_address: [u8; 16],
    /// Address of the higher side.
    pub high_address: [u8; 16],
    /// Port of the lower side.
    pub low_port: [u8; 2],
    /// Port of the higher side.
    pub high_port: [u8; 2],
    /// IANA number.
    pub protocol: u8,
    /// As in [`CtKey4::note`].
    pub note: u8,
    /// 0
    pub reserved: [u8; 2],
}

/// A verdict remembered. It is used while [`CtLeg::generation`] is the active one, `valid_until` is not
/// reached, and identity, its source and port are what a fresh look-up would ask with; then the outcome
/// is what a fresh look-up would give.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CtLeg {
    /// Tick from which it is not used; `u64::MAX` never comes.
    pub valid_until: u64,
    /// The generation that it holds for; 0 while nothing is remembered.
    pub generation: u32,
    /// The winning entry, 0 for default deny.
    pub entry: u32,
    /// The other look-up's hit, 0 for none.
    pub other: u32,
    /// The peer: destination (egress) or source (ingress).
    pub identity: u32,
    /// Destination port or ICMP type asked with, in the host's order.
    pub port: u16,
    /// A number of [`crate::outcome`].
    pub outcome: u8,
    /// How the peer was known: a number of [`crate::source`].
    pub source: u8,
    /// 0
    pub reserved: u32,
}

/// Bits of [`CtValue::flags`].
pub mod conntrack {
    /// A TCP segment without SYN was seen: the long timeout holds.
    pub const SEEN_NON_SYN: u8 = 1;
    /// Replies get `address` and `port` as their source.
    pub const FRONTEND: u8 = 1 << 1;
    /// The initiator is the loopback address of the responder's own pod: replies are for that pod.
    pub const LOOPBACK: u8 = 1 << 2;
    /// It came to a node port and goes to another node: its source leaves as the node's address, with `nat_port`.
    pub const NODE_PORT: u8 = 1 << 3;
    /// The initiator's packets came by the tunnel, so that replies go by it as well.
    pub const FROM_TUNNEL: u8 = 1 << 4;
    /// Of a client's entry ([`super::ct_kind::SERVICE`]): the client is outside the cluster. It counts for no packet from inside,
    /// nor the other way round.
    pub const OUTSIDE: u8 = 1 << 5;
    /// Its source leaves as the node's address with nothing that stands for it: ICMP without an identifier, whose `nat_port` is 0.
    pub const PORTLESS: u8 = 1 << 6;
    /// [`super::CtValue::closing`]: the initiator sent FIN or RST.
    pub const INITIATOR_CLOSING: u8 = 1;
    /// [`super::CtValue::closing`]: the responder sent FIN or RST.
    pub const RESPONDER_CLOSING: u8 = 1 << 1;
    /// [`super::CtValue::closing`]: both; the entry ends soon, and only a further FIN or RST gives it its last time anew.
    pub const BOTH_CLOSING: u8 = 3;

    /// Position of the initiator in arrays by role; also "away from the initiator" in `paths`.
    pub const INITIATOR: usize = 0;
    /// Position of the responder in arrays by role; also "back to the initiator" in `paths`.
    pub const RESPONDER: usize = 1;

    /// Seconds that a TCP connection is remembered after its last packet.
    pub const TIMEOUT_TCP: u32 = 8000;
    /// The same while every segment had SYN.
    pub const TIMEOUT_SYN: u32 = 60;
    /// The same for other protocols.
    pub const TIMEOUT_OTHER: u32 = 60;
    /// Seconds that a closed connection is remembered.
    pub const TIMEOUT_CLOSE: u32 = 10;
}

/// Values of [`CtValue::kind`].
pub mod ct_kind {
    /// A flow as backends and policies see it. The only kind that counts, closes and expires.
    pub const PLAIN: u8 = 0;
    /// A client (the initiator) and a frontend: `address` and `port` are the backend's, and the first of `paths` tells the
    /// generation that the backend was found to be one of the frontend's in, and the frontend's number. Good while the plain entry is alive.
    pub const SERVICE: u8 = 1;
    /// A node's address with a translated port (the initiator) and its peer: `address` and `port` are those of the source.
    /// Good while the plain entry is alive and has that `nat_port`.
    pub const NAT: u8 = 2;
    /// Observing: the flow may be older than the programs, as long as this is alive. Under a key of its own: [`CtKey4::note`](super::CtKey4::note).
    pub const OLDER: u8 = 3;
    /// Observing: the flow would have been dropped with its first packet, which others let pass. Under the same key as [`OLDER`].
    pub const UNWANTED: u8 = 4;
}

/// A flow.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CtValue {
    /// Tick from which the entry counts as absent, in simulation and live alike.
    pub expires: u64,
    /// Packets by role of the sender.
    pub packets: [u64; 2],
    /// Bytes by role of the sender, Ethernet header included.
    pub bytes: [u64; 2],
    /// Where packets by role of the sender go: `generation << 32 |` target index. Used while the
    /// generation is the active one; 0 while nothing is remembered.
    pub paths: [u64; 2],
    /// Verdicts on the initiator's packets, by [`crate::direction`].
    pub legs: [CtLeg; 2],
    /// What a side is translated to: see [`ct_kind`] and [`conntrack::FRONTEND`]. Network order.
    pub address: [u8; 16],
    /// Its port, in network order.
    pub port: [u8; 2],
    /// Port that the source has beyond this node, in network order (ICMP echo: the identifier); 0: its own.
    pub nat_port: [u8; 2],
    /// Generation in which it was found whether the source is translated; 0: not yet.
    pub nat_generation: u32,
    /// Which side of the key started the flow: 0 the lower, 1 the higher.
    pub initiator: u8,
    /// Who is closing: bits of [`conntrack`].
    pub closing: u8,
    /// TCP flags seen, by role of the sender.
    pub seen: [u8; 2],
    /// Bits of [`conntrack`].
    pub flags: u8,
    /// A number of [`ct_kind`].
    pub kind: u8,
    /// 0
    pub reserved: [u8; 2],
}

/// A datagram in pieces. All in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FragmentKey {
    /// Source.
    pub source: [u8; 16],
    /// Destination.
    pub destination: [u8; 16],
    /// Identification: 16 bits of IPv4 in the first two bytes, 32 of IPv6.
    pub id: [u8; 4],
    /// [`crate::family`]
    pub family: u8,
    /// IANA number.
    pub protocol: u8,
    /// 0
    pub reserved: [u8; 2],
}

/// What its first piece said.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FragmentValue {
    /// Source port, in network order.
    pub source_port: [u8; 2],
    /// Destination port, in network order.
    pub destination_port: [u8; 2],
}

/// A client of a frontend that keeps clients to their backends. All in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AffinityKey {
    /// The client's address.
    pub client: [u8; 16],
    /// The frontend's address.
    pub frontend: [u8; 16],
    /// The frontend's port.
    pub port: [u8; 2],
    /// [`crate::family`]
    pub family: u8,
    /// IANA number.
    pub protocol: u8,
    /// 0
    pub reserved: [u8; 4],
}

/// The client's backend.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AffinityValue {
    /// Tick of the client's last new connection.
    pub last: u64,
    /// The backend's address, network order.
    pub address: [u8; 16],
    /// Its port, network order.
    pub port: [u8; 2],
    /// 0
    pub reserved: [u8; 6],
}

const _: () = {
    assert!(size_of::<CtKey4>() == 16);
    assert!(size_of::<CtKey6>() == 40);
    assert!(size_of::<CtLeg>() == 32);
    assert!(size_of::<CtValue>() == 152);
    assert!(size_of::<FragmentKey>() == 40);
    assert!(size_of::<FragmentValue>() == 4);
    assert!(size_of::<AffinityKey>() == 40);
    assert!(size_of::<AffinityValue>() == 32);
};
