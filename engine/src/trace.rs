//! What the datapath said about one packet, as data: events of a hop, hops of a trace. Facts only;
//! words and reasons are added by `explain`. Never imports `eval`.

use std::net::IpAddr;

use crate::identity::Identity;
use crate::net::{Direction, FlowKey, Fragment, Hook, Mac, Protocol, TcpFlags};
use crate::reason::DropReason;
use crate::tables::{EndpointId, EntryId, Generation};
use crate::topology::{NodeId, TunnelKind};

/// What conntrack knew about a packet. Numbers as in the reference's trace reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CtState {
    /// No flow: policy decides, and an allowed packet starts one.
    New,
    /// A further packet of the side that started the flow: policy decides.
    Established,
    /// A packet of the other side: policy is skipped.
    Reply,
    /// An ICMP error about a known flow: policy is skipped.
    Related,
    /// Not tracked (a later fragment): policy decides, nothing is remembered.
    Untracked,
}

impl std::fmt::Display for CtState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Reply => "reply",
            Self::Related => "related",
            Self::Untracked => "untracked",
        })
    }
}

/// Where an identity was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentitySource {
    /// The attachment's own endpoint.
    Endpoint,
    /// The tunnel's VNI.
    Vni,
    /// The ipcache, and which entry.
    Ipcache(EntryId),
    /// The ipcache, and which entry, for an address of the node itself: whom that counts as depends on the hook.
    OwnAddress(EntryId),
    /// Remembered by conntrack from the same generation.
    Remembered,
}

/// What a policy look-up came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyOutcome {
    /// An entry allowed.
    Allow,
    /// An entry denied (181).
    Deny,
    /// No entry (133, or 157 for a later fragment).
    DefaultDeny,
}

/// What a program did with the packet in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Dropped.
    Drop(DropReason),
    /// Handed to a pod of this node. `peer`: straight into the pod; else by the veth's egress hook.
    Deliver {
        /// The pod's endpoint.
        endpoint: EndpointId,
        /// The host-side veth.
        ifindex: u32,
        /// By `bpf_redirect_peer`.
        peer: bool,
    },
    /// Sent to the tunnel device with this key.
    Tunnel {
        /// The VNI: the sender's identity.
        vni: u32,
        /// The other node.
        remote: IpAddr,
        /// The tunnel device.
        ifindex: u32,
        /// TTL of the outer header.
        ttl: u8,
    },
    /// Given to the node's own stack; `host` if the node itself is the destination.
    Stack {
        /// Whether the node is the destination.
        host: bool,
    },
    /// Let through to the device the hook hangs on (to-container).
    Pass,
}

/// One fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The headers were read.
    Parsed {
        /// The flow as this packet shows it.
        flow: FlowKey,
        /// TCP flags, empty for others.
        flags: TcpFlags,
        /// ICMP type and code.
        icmp: Option<(u8, u8)>,
        /// Fragmentation.
        fragment: Fragment,
        /// TTL or hop limit as it came in.
        ttl: u8,
        /// Bytes from the network header on.
        length: u32,
    },
    /// Conntrack was asked.
    Conntrack {
        /// What it knew.
        state: CtState,
        /// Whether this packet wrote a new entry.
        created: bool,
        /// Seconds until the entry expires now.
        expires_in: u32,
        /// Whether the entry is closing.
        closing: bool,
    },
    /// Who an address is.
    Identity {
        /// True for the source of the packet, false for the destination.
        source_side: bool,
        /// The address.
        address: IpAddr,
        /// The identity.
        identity: Identity,
        /// How it is known.
        from: IdentitySource,
    },
    /// A policy was asked.
    Policy {
        /// Whose.
        endpoint: EndpointId,
        /// Which side of it.
        direction: Direction,
        /// The peer.
        peer: Identity,
        /// The protocol asked for.
        protocol: Protocol,
        /// The port (ICMP: the type) asked for.
        port: u16,
        /// What it came to.
        outcome: PolicyOutcome,
        /// The winning entry.
        entry: EntryId,
        /// The other look-up's hit, if any.
        other: Option<EntryId>,
        /// Taken from conntrack's remembered verdict instead of a fresh look-up.
        remembered: bool,
    },
    /// What was done. The last event of a program run.
    Outcome(Action),
}

/// An event with what every event carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamped {
    /// The state of the tables that the run saw.
    pub generation: Generation,
    /// The program.
    pub hook: Hook,
    /// The event.
    pub event: Event,
}

/// A tunnel as the outer headers show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelHeader {
    /// Encapsulation.
    pub kind: TunnelKind,
    /// Outer source address.
    pub source: IpAddr,
    /// Outer destination address.
    pub destination: IpAddr,
    /// UDP destination port.
    pub port: u16,
    /// UDP source port, from the flow's hash.
    pub source_port: u16,
    /// VNI.
    pub vni: u32,
    /// Fields of the outer frame whose value the real device chooses.
    pub undetermined: Vec<String>,
}

/// One program run of a packet's journey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Where.
    pub node: NodeId,
    /// Which program.
    pub hook: Hook,
    /// The device's name.
    pub device: String,
    /// The device's index.
    pub ifindex: u32,
    /// What the program said, in order; the last is [`Event::Outcome`] unless events were lost.
    pub events: Vec<Stamped>,
    /// The bytes that came in.
    pub frame_in: Vec<u8>,
    /// The bytes that leave the hop: with outer headers where tunneled, as delivered otherwise; none where
    /// it is dropped or its outcome was lost.
    pub frame_out: Vec<u8>,
    /// The tunnel it leaves by.
    pub tunnel: Option<TunnelHeader>,
    /// Fields of `frame_out` (beyond the tunnel's) that the text does not determine.
    pub undetermined: Vec<String>,
}

impl Hop {
    /// What the program did in the end, unless the event was lost.
    pub fn action(&self) -> Option<Action> {
        self.events.iter().rev().find_map(|s| match s.event {
            Event::Outcome(action) => Some(action),
            _ => None,
        })
    }
}

/// A packet's whole journey, hop by hop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The backend that ran it, as answers name it (`kernel 6.18`).
    pub backend: String,
    /// State of the tables.
    pub generation: Generation,
    /// Hops in order.
    pub hops: Vec<Hop>,
    /// Events that did not fit the buffer.
    pub lost: u64,
}

/// A conntrack entry as a backend shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConntrackEntry {
    /// The flow in the direction of the side that started it. ICMP echo: the identifier as destination port.
    pub flow: FlowKey,
    /// Seconds until it expires; 0 when it has.
    pub expires_in: u32,
    /// Whether it closes.
    pub closing: bool,
    /// Whether a packet of the other side, or a non-SYN, was seen.
    pub seen_reply: bool,
    /// Packets and bytes in the flow's direction.
    pub forward: (u64, u64),
    /// Packets and bytes of replies.
    pub replies: (u64, u64),
    /// Per direction the remembered entry and the generation it holds for.
    pub remembered: Vec<(Direction, EntryId, Generation)>,
}

/// A counter of the datapath.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// `None`: forwarded.
    pub reason: Option<DropReason>,
    /// Which side.
    pub direction: Direction,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Ethernet addresses that a frame enters with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ethernet {
    /// Source.
    pub source: Mac,
    /// Destination.
    pub destination: Mac,
}
