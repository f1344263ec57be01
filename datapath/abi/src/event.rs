//! What a program run says, as records of [`EVENT_SIZE`] bytes. Facts only. A run writes its events
//! after it has decided, always in this order, each at most as often as stated: Parsed (1), Service (1), Rewritten
//! (2: destination, source), Conntrack (1), Identity (2: source, destination), Policy (2: egress, ingress), Encrypted (1), Frame (2: as it
//! came, as it leaves; only where asked for), Outcome (1, always last). Runs of several CPUs interleave; those of one CPU do not.
//! Parsed shows the packet as it came; Conntrack, Identity and Policy speak of it as it is after its destination was translated.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of every event but [`FrameEvent`].
pub const EVENT_SIZE: usize = 64;
/// Events that one program run writes at most.
pub const MAX_EVENTS: usize = 13;

/// Values of [`EventHeader::kind`].
pub mod kind {
    /// [`super::ParsedEvent`]
    pub const PARSED: u8 = 1;
    /// [`super::ConntrackEvent`]
    pub const CONNTRACK: u8 = 2;
    /// [`super::IdentityEvent`]
    pub const IDENTITY: u8 = 3;
    /// [`super::PolicyEvent`]
    pub const POLICY: u8 = 4;
    /// [`super::OutcomeEvent`]
    pub const OUTCOME: u8 = 5;
    /// [`super::ServiceEvent`]
    pub const SERVICE: u8 = 6;
    /// [`super::RewrittenEvent`]
    pub const REWRITTEN: u8 = 7;
    /// [`super::EncryptedEvent`]
    pub const ENCRYPTED: u8 = 8;
    /// [`super::FrameEvent`]
    pub const FRAME: u8 = 9;
}

/// What every event begins with.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EventHeader {
    /// A number of [`kind`].
    pub kind: u8,
    /// A number of [`crate::hook`].
    pub hook: u8,
    /// Where it ran (of the number the low 16 bits).
    pub cpu: u16,
    /// The generation that the run read.
    pub generation: u32,
}

/// The headers were read.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ParsedEvent {
    /// Kind [`kind::PARSED`].
    pub header: EventHeader,
    /// Source, network order.
    pub source: [u8; 16],
    /// Destination, network order.
    pub destination: [u8; 16],
    /// Bytes from the network header on, by that header.
    pub length: u32,
    /// Source port in the host's order; 0 without ports.
    pub source_port: u16,
    /// Destination port in the host's order; 0 without ports.
    pub destination_port: u16,
    /// Offset of a fragment's data, in bytes.
    pub fragment_offset: u16,
    /// 1 if more fragments follow.
    pub more_fragments: u8,
    /// [`crate::family`]
    pub family: u8,
    /// IANA number; for IPv6 the one after the extension headers.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP flags, 0 for others.
    pub tcp_flags: u8,
    /// 1 if type and code were read.
    pub has_icmp: u8,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// 0
    pub reserved: [u8; 2],
    /// Events that its CPU had lost when this one was written (of the number the low 32 bits): a run whose first and last event differ in
    /// this is none, but parts of two.
    pub lost: u32,
}

/// Values of [`ConntrackEvent::state`]: the reference's trace reasons, and one more.
pub mod ct_state {
    /// No flow.
    pub const NEW: u8 = 0;
    /// A further packet of the initiator.
    pub const ESTABLISHED: u8 = 1;
    /// A packet of the responder.
    pub const REPLY: u8 = 2;
    /// An ICMP error about a known flow.
    pub const RELATED: u8 = 3;
    /// Not tracked: a later fragment whose first one was not seen.
    pub const UNTRACKED: u8 = 4;
}

/// Conntrack was asked.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ConntrackEvent {
    /// Kind [`kind::CONNTRACK`].
    pub header: EventHeader,
    /// A number of [`ct_state`].
    pub state: u8,
    /// 1 if this packet wrote the entry.
    pub created: u8,
    /// Who is closing: bits of [`crate::conntrack`].
    pub closing: u8,
    /// 0
    pub reserved: u8,
    /// Seconds until the entry expires; 0 without one.
    pub expires_in: u32,
    /// 0
    pub padding: [u32; 12],
}

/// Values of [`IdentityEvent::from`] and [`crate::CtLeg::source`].
pub mod source {
    /// The attachment's own endpoint.
    pub const ENDPOINT: u8 = 1;
    /// The tunnel's VNI.
    pub const VNI: u8 = 2;
    /// The ipcache.
    pub const IPCACHE: u8 = 3;
    /// The ipcache, for an address of this node: who that counts as depends on the hook that it came by.
    pub const OWN_ADDRESS: u8 = 4;
    /// Conntrack remembered it from the same generation.
    pub const REMEMBERED: u8 = 5;
}

/// Who an address is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct IdentityEvent {
    /// Kind [`kind::IDENTITY`].
    pub header: EventHeader,
    /// The address, network order.
    pub address: [u8; 16],
    /// The identity.
    pub identity: u32,
    /// With [`source::IPCACHE`] and [`source::OWN_ADDRESS`] the entry's number; 0 where the ipcache had none.
    pub entry: u32,
    /// 1 for the packet's source, 0 for its destination.
    pub source_side: u8,
    /// [`crate::family`]
    pub family: u8,
    /// A number of [`source`].
    pub from: u8,
    /// 0
    pub reserved: u8,
    /// 0
    pub padding: [u32; 7],
}

/// Values of [`PolicyEvent::outcome`] and [`crate::CtLeg::outcome`].
pub mod outcome {
    /// An entry allowed, or `ICMPv4` "fragmentation needed" (entry 0): policy never stops it.
    pub const ALLOW: u8 = 1;
    /// An entry denied.
    pub const DENY: u8 = 2;
    /// No entry.
    pub const DEFAULT_DENY: u8 = 3;
}

/// A policy was asked.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PolicyEvent {
    /// Kind [`kind::POLICY`].
    pub header: EventHeader,
    /// The peer's identity.
    pub peer: u32,
    /// The winning entry; 0 for none.
    pub entry: u32,
    /// The other look-up's hit; 0 for none.
    pub other: u32,
    /// Whose policy.
    pub endpoint: u16,
    /// The port (ICMP: the type) asked for, in the host's order.
    pub port: u16,
    /// The protocol asked for.
    pub protocol: u8,
    /// A number of [`crate::direction`].
    pub direction: u8,
    /// A number of [`outcome`].
    pub outcome: u8,
    /// 1 if conntrack remembered the verdict.
    pub remembered: u8,
    /// 0
    pub padding: [u32; 9],
}

/// Values of [`OutcomeEvent::action`].
pub mod action {
    /// Dropped, for `reason`.
    pub const DROP: u8 = 1;
    /// Handed to `endpoint` at `ifindex`, straight into the pod if `peer`.
    pub const DELIVER: u8 = 2;
    /// Sent to the tunnel device `ifindex` with `vni`, `remote` and `ttl`.
    pub const TUNNEL: u8 = 3;
    /// Given to the node's stack; `host` if the node is the destination.
    pub const STACK: u8 = 4;
    /// Let through: on to the device or the node that the hook stands before.
    pub const PASS: u8 = 5;
    /// Routed out of the node by `ifindex`, to the node `remote` where that is set.
    pub const NETWORK: u8 = 6;
}

/// Values of [`ServiceEvent::choice`].
pub mod choice {
    /// No backend, or no such port.
    pub const NOBODY: u8 = 0;
    /// By a hash of the flow.
    pub const RANDOM: u8 = 1;
    /// By the Maglev table.
    pub const MAGLEV: u8 = 2;
    /// The client's last one.
    pub const AFFINITY: u8 = 3;
    /// The flow's own.
    pub const CONNTRACK: u8 = 4;
    /// [`crate::Input::choose`].
    pub const FORCED: u8 = 5;
}

/// The destination is a service's.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ServiceEvent {
    /// Kind [`kind::SERVICE`].
    pub header: EventHeader,
    /// Destination as the packet came, network order.
    pub frontend: [u8; 16],
    /// Where it goes instead, network order; 0 with [`choice::NOBODY`].
    pub backend: [u8; 16],
    /// [`crate::ServiceValue::entry`]; 0 where the service does not have the port, and where conntrack alone knew the backend.
    pub entry: u32,
    /// How many backends there were to choose from; 0 where nothing was chosen anew.
    pub of: u16,
    /// Port of `frontend` in the host's order.
    pub frontend_port: u16,
    /// Port of `backend` in the host's order.
    pub backend_port: u16,
    /// [`crate::family`]
    pub family: u8,
    /// IANA number.
    pub protocol: u8,
    /// A number of [`choice`].
    pub choice: u8,
    /// 0
    pub reserved: [u8; 3],
    /// 0
    pub padding: [u32; 2],
}

/// Values of [`RewrittenEvent::rewriting`].
pub mod rewriting {
    /// Destination, from frontend to backend: told by [`super::ServiceEvent`] and by no event of this kind.
    pub const SERVICE: u8 = 1;
    /// Source of an answer, from backend to frontend.
    pub const SERVICE_REPLY: u8 = 2;
    /// Source of what leaves the cluster.
    pub const MASQUERADE: u8 = 3;
    /// Destination of an answer to that.
    pub const MASQUERADE_REPLY: u8 = 4;
    /// Source of what goes from a node port to another node.
    pub const NODE_PORT: u8 = 5;
    /// Destination of an answer to that.
    pub const NODE_PORT_REPLY: u8 = 6;
    /// Source of what a pod sends to itself by a service.
    pub const LOOPBACK: u8 = 7;
    /// Destination of an answer to that.
    pub const LOOPBACK_REPLY: u8 = 8;
}

/// One side of the packet is rewritten.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RewrittenEvent {
    /// Kind [`kind::REWRITTEN`].
    pub header: EventHeader,
    /// As it came, network order.
    pub before: [u8; 16],
    /// As it goes on, network order.
    pub after: [u8; 16],
    /// Port of `before` in the host's order (ICMP echo: the identifier).
    pub before_port: u16,
    /// Port of `after` in the host's order.
    pub after_port: u16,
    /// A number of [`rewriting`].
    pub rewriting: u8,
    /// 1 if this packet chose the new port.
    pub created: u8,
    /// [`crate::family`]
    pub family: u8,
    /// 0
    pub reserved: u8,
    /// 0
    pub padding: [u32; 4],
}

/// Values of [`EncryptedEvent::by`].
pub mod encryption {
    /// The device of WireGuard.
    pub const WIREGUARD: u8 = 1;
    /// The kernel's IPsec transformation.
    pub const IPSEC: u8 = 2;
}

/// The packet is to be encrypted before it leaves the node.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EncryptedEvent {
    /// Kind [`kind::ENCRYPTED`].
    pub header: EventHeader,
    /// The mark that says so to the kernel.
    pub mark: u32,
    /// A number of [`encryption`].
    pub by: u8,
    /// IPsec: the key's index; else 0.
    pub key: u8,
    /// WireGuard: 1 if the nodes' own traffic is encrypted too.
    pub nodes: u8,
    /// 0
    pub reserved: u8,
    /// 0
    pub padding: [u32; 12],
}

/// What was done.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct OutcomeEvent {
    /// Kind [`kind::OUTCOME`].
    pub header: EventHeader,
    /// A number of [`action`].
    pub action: u8,
    /// A number of [`crate::reason`]; 0 unless dropped. Observing, [`action::PASS`] with a reason: of a flow that may be older than the
    /// programs, so that it is not known whether it would be dropped for that.
    pub reason: u8,
    /// 1 if delivered by `bpf_redirect_peer`.
    pub peer: u8,
    /// 1 if the node is the destination.
    pub host: u8,
    /// The device it is sent to.
    pub ifindex: u32,
    /// VNI of the tunnel key.
    pub vni: u32,
    /// The pod's endpoint.
    pub endpoint: u16,
    /// TTL of the outer header.
    pub ttl: u8,
    /// [`crate::family`] of `remote`.
    pub remote_family: u8,
    /// The other node, network order.
    pub remote: [u8; 16],
    /// Nanoseconds of the kernel's monotonic clock; 0 in simulation.
    pub time: u64,
    /// The device that the program hangs on.
    pub at: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// The packet's mark afterwards.
    pub mark: u32,
    /// As in [`ParsedEvent::lost`].
    pub lost: u32,
}

/// Bytes of a frame that [`FrameEvent`] holds at most.
pub const SNAP_LENGTH: usize = 256;

/// A frame's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FrameEvent {
    /// Kind [`kind::FRAME`].
    pub header: EventHeader,
    /// Bytes of the whole frame.
    pub length: u32,
    /// Bytes of it in `data`.
    pub captured: u16,
    /// 1: as the frame leaves the program, without outer headers that a device adds; 0: as it came.
    pub leaves: u8,
    /// Of [`ParsedEvent::lost`] the low 8 bits.
    pub lost: u8,
    /// The bytes, then zeros.
    pub data: [u8; SNAP_LENGTH],
}

const _: () = {
    assert!(size_of::<EventHeader>() == 8);
    assert!(size_of::<ParsedEvent>() == EVENT_SIZE);
    assert!(size_of::<ConntrackEvent>() == EVENT_SIZE);
    assert!(size_of::<IdentityEvent>() == EVENT_SIZE);
    assert!(size_of::<PolicyEvent>() == EVENT_SIZE);
    assert!(size_of::<OutcomeEvent>() == EVENT_SIZE);
    assert!(size_of::<ServiceEvent>() == EVENT_SIZE);
    assert!(size_of::<RewrittenEvent>() == EVENT_SIZE);
    assert!(size_of::<EncryptedEvent>() == EVENT_SIZE);
    assert!(size_of::<FrameEvent>() == 16 + SNAP_LENGTH);
};
