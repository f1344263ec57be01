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
    /// A later fragment of a datagram whose first one was not seen: dropped, as its ports are not known.
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
    /// No entry (133).
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
    /// Routed out of the node by the datapath itself: one hop less to live, sent to the underlay device.
    Network {
        /// The device.
        ifindex: u32,
        /// The node that it is sent to, under native routing; `None`: the kernel's routes tell.
        next_hop: Option<IpAddr>,
    },
    /// Given to the node's own stack; `host` if the node itself is the destination.
    Stack {
        /// Whether the node is the destination.
        host: bool,
    },
    /// Let through: on to the device or the node that the hook stands before.
    Pass,
}

/// How a service's backend came to be the one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// There was none to choose from, or the port is not the service's.
    Nobody,
    /// By a hash of the flow.
    Random,
    /// By the Maglev table.
    Maglev,
    /// The client's last one.
    Affinity,
    /// The flow's own.
    Conntrack,
    /// The question's.
    Forced,
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nobody => "nobody",
            Self::Random => "random",
            Self::Maglev => "maglev",
            Self::Affinity => "affinity",
            Self::Conntrack => "conntrack",
            Self::Forced => "forced",
        })
    }
}

/// What an address or port was rewritten for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Rewriting {
    /// The destination, from frontend to backend.
    Service,
    /// The source of an answer, from backend to frontend.
    ServiceReply,
    /// The source of what leaves the cluster, from pod to node.
    Masquerade,
    /// The destination of an answer to that.
    MasqueradeReply,
    /// The source of what a node passes on to a backend of another node.
    NodePort,
    /// The destination of an answer to that.
    NodePortReply,
    /// The source of what a pod sends to itself by a service.
    Loopback,
    /// The destination of an answer to that.
    LoopbackReply,
}

impl Rewriting {
    /// Whether it is of the destination, rather than of the source.
    pub fn of_destination(self) -> bool {
        match self {
            Self::Service | Self::MasqueradeReply | Self::NodePortReply | Self::LoopbackReply => {
                true
            }
            Self::ServiceReply | Self::Masquerade | Self::NodePort | Self::Loopback => false,
        }
    }
}

impl std::fmt::Display for Rewriting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Service => "service",
            Self::ServiceReply => "service-reply",
            Self::Masquerade => "masquerade",
            Self::MasqueradeReply => "masquerade-reply",
            Self::NodePort => "node-port",
            Self::NodePortReply => "node-port-reply",
            Self::Loopback => "loopback",
            Self::LoopbackReply => "loopback-reply",
        })
    }
}

/// An address with the port of a packet's transport. ICMP echo: the identifier. 0 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::net::SocketAddr::new(self.address, self.port).fmt(f)
    }
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
    /// The destination is a service's.
    Service {
        /// As the packet came, which names the frontend.
        frontend: Place,
        /// The protocol.
        protocol: Protocol,
        /// The frontend's number in the node's tables; 0 where the address is a service's and the port is not.
        entry: EntryId,
        /// Where the packet goes instead; `None` with [`Choice::Nobody`].
        backend: Option<Place>,
        /// How that was chosen.
        choice: Choice,
        /// How many backends there were to choose from.
        of: u16,
    },
    /// One side of the packet is rewritten. The step from frontend to backend is told by [`Event::Service`] instead.
    Rewritten {
        /// What for.
        rewriting: Rewriting,
        /// As it came.
        before: Place,
        /// As it goes on.
        after: Place,
        /// Whether this packet chose the new port.
        created: bool,
    },
    /// The packet is to be encrypted before it leaves the node.
    Encrypted {
        /// By what.
        by: crate::topology::Encryption,
        /// The mark that says so to the kernel.
        mark: u32,
    },
    /// Conntrack was asked, about the flow as it is after a service's translation.
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
    /// The tunnel it leaves by, or that it is in already ([`Hop::is_outer`]).
    pub tunnel: Option<TunnelHeader>,
    /// Fields of `frame_out` (beyond the tunnel's) that the text does not determine.
    pub undetermined: Vec<String>,
    /// Live: when the run ended, in nanoseconds of the kernel's monotonic clock.
    pub time: Option<u64>,
}

impl Hop {
    /// What the program did in the end, unless the event was lost.
    pub fn action(&self) -> Option<Action> {
        self.events.iter().rev().find_map(|s| match s.event {
            Event::Outcome(action) => Some(action),
            _ => None,
        })
    }

    /// Whether the program ran on a frame with outer headers, so that what it says is about those.
    pub fn is_outer(&self) -> bool {
        self.tunnel.is_some() && !self.is_encapsulated()
    }

    /// Whether the packet gets its outer headers behind this hop.
    pub fn is_encapsulated(&self) -> bool {
        match self.action() {
            Some(Action::Tunnel { .. }) => true,
            Some(Action::Pass) => self.hook == Hook::ToOverlay && self.tunnel.is_some(),
            _ => false,
        }
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
    /// What the last hop's node drops the packet for itself, which had it from the program to route it.
    pub refused: Option<DropReason>,
    /// Live: where the packet was expected next and not seen.
    pub unseen: Option<Unseen>,
}

/// A program that a packet was expected at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Where.
    pub node: NodeId,
    /// The program.
    pub hook: Hook,
    /// Its device's name.
    pub device: String,
}

impl Trace {
    /// Whether the packet went out by the last hop's underlay device to no other node: it left the cluster.
    pub fn has_left(&self) -> bool {
        let passed = |hop: &Hop| hop.hook == Hook::ToNetdev && hop.action() == Some(Action::Pass);
        self.hops.last().is_some_and(passed)
    }
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
    /// What kind of entry it is.
    pub kind: ConntrackKind,
}

/// What an entry of conntrack is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConntrackKind {
    /// A flow as backends and policies see it.
    #[default]
    Plain,
    /// A flow whose answers get a frontend's address back, and whose source leaves with another port where one is given.
    Translated {
        /// Answers get this source; `None` where only the source is translated.
        frontend: Option<Place>,
        /// The port that the source has beyond this node; 0 where it keeps its own.
        nat_port: u16,
        /// The source is the loopback address of a pod that speaks to itself.
        loopback: bool,
    },
    /// A client and a frontend: leads to the backend.
    Service {
        /// The backend.
        backend: Place,
    },
    /// A node's address and a translated port: leads back to the source.
    Nat {
        /// The source.
        source: Place,
    },
}

/// How often an entry of an endpoint's policy decided, since its tables were loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Whose.
    pub endpoint: EndpointId,
    /// Which table.
    pub direction: Direction,
    /// Which entry; 0 is the default deny.
    pub entry: EntryId,
    /// Packets.
    pub packets: u64,
    /// Bytes, Ethernet header included.
    pub bytes: u64,
}

/// A counter of the datapath.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Which program.
    pub hook: Hook,
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
