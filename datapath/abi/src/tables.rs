//! What the control side writes: settings, addresses, endpoints, policies, and a simulated packet's
//! circumstances.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of [`Config::flags`].
pub mod config {
    /// Packets come by the driver: device, clock and tunnel key are read from the seam.
    pub const SIMULATED: u32 = 1;
    /// Every event is emitted, not only the outcome of simulated packets.
    pub const TRACE: u32 = 1 << 1;
    /// Local delivery goes straight into the pod (`bpf_redirect_peer`); else by the veth's egress hook
    /// with [`crate::mark::DELIVERED`].
    pub const DELIVER_BY_PEER: u32 = 1 << 2;
    /// Events only of packets that [`crate::maps::FILTER`] wants.
    pub const FILTERED: u32 = 1 << 3;
    /// With the events of a run the beginning of its frame, as it came and as it leaves.
    pub const CAPTURE: u32 = 1 << 4;
    /// Decide, count and tell, but change nothing and let every packet pass on to whatever program comes next.
    pub const OBSERVE: u32 = 1 << 5;
    /// Drop what is not to pass and translate services, but leave every way to the node's stack: the programs hang on devices of pods
    /// only, as those of the reference do where it is chained behind another network. Answers of services are translated where their
    /// client's pod gets them.
    pub const CHAINED: u32 = 1 << 6;
}

/// Bits of [`Filter::flags`].
pub mod filter {
    /// Only packets that are dropped.
    pub const DROPS: u32 = 1;
    /// Packets the other way round too.
    pub const EITHER_WAY: u32 = 1 << 1;
    /// Only packets with [`super::Filter::id`]; with [`super::config::CAPTURE`] only.
    pub const BY_ID: u32 = 1 << 2;
}

/// Which packets events are wanted of: those of a run that match as they came or as they leave.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(8))]
pub struct Filter {
    /// Source, network order, under its mask.
    pub source: [u8; 16],
    /// Bits of the source that count.
    pub source_mask: [u8; 16],
    /// Destination, network order, under its mask.
    pub destination: [u8; 16],
    /// Bits of the destination that count.
    pub destination_mask: [u8; 16],
    /// Bits of [`filter`].
    pub flags: u32,
    /// IPv4: the identification; IPv6: the flow label. In the host's order.
    pub id: u32,
    /// Source port in network order; 0: any.
    pub source_port: u16,
    /// Destination port in network order; 0: any.
    pub destination_port: u16,
    /// IANA number; 0: any.
    pub protocol: u8,
    /// [`crate::family`]; 0: any.
    pub family: u8,
    /// 0
    pub reserved: u16,
}

/// How programs behave, whatever the tables.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Config {
    /// [`crate::ABI_VERSION`]
    pub abi: u32,
    /// Bits of [`config`].
    pub flags: u32,
    /// Ticks of the clock in a second: 1 in simulation, the kernel's HZ live. Not 0.
    pub ticks_per_second: u32,
    /// 0
    pub reserved: u32,
    /// Tick from which programs let every packet pass on unread; 0: never.
    pub until: u64,
    /// Observing: tick until which a packet of no known flow may be of one that is older than the programs, whatever its protocol.
    pub settled: u64,
}

/// Bits of [`Settings::flags`].
pub mod settings {
    /// The world identity is split by family: 9 and 10 instead of 2.
    pub const DUAL_STACK: u32 = 1;
    /// What leaves is sent to the device past the node's stack.
    pub const HOST_ROUTING: u32 = 1 << 1;
    /// Pods' traffic to the outside is masqueraded.
    pub const MASQUERADE: u32 = 1 << 2;
    /// [`super::Settings::nat_address4`] is set: without it no IPv4 source is translated.
    pub const NAT4: u32 = 1 << 3;
    /// The same for IPv6.
    pub const NAT6: u32 = 1 << 4;
    /// Other nodes see pods' own addresses (native routing).
    pub const NATIVE: u32 = 1 << 5;
    /// The node itself has policies: its target's tables are asked.
    pub const HOST_FIREWALL: u32 = 1 << 6;
    /// WireGuard encrypts what pods send to other nodes.
    pub const WIREGUARD: u32 = 1 << 7;
    /// And what nodes send to each other.
    pub const ENCRYPT_NODES: u32 = 1 << 8;
    /// IPsec encrypts what pods send to other nodes.
    pub const IPSEC: u32 = 1 << 9;
}

/// What holds for a node as a whole, per slot.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Settings {
    /// Bits of [`settings`].
    pub flags: u32,
    /// Index in `TARGETS` of the slot's target 0.
    pub target_base: u32,
    /// How many targets the slot has.
    pub target_count: u32,
    /// Index of the tunnel device.
    pub tunnel_ifindex: u32,
    /// Index of the underlay device.
    pub device_ifindex: u32,
    /// Index of the target that is this node itself.
    pub host_target: u32,
    /// UDP port of the tunnel, in the host's order.
    pub tunnel_port: u16,
    /// First port that translated sources get, in the host's order; at most `nat_last`.
    pub nat_first: u16,
    /// Last port that translated sources get, in the host's order.
    pub nat_last: u16,
    /// IPsec: the key's index.
    pub key: u8,
    /// 0
    pub reserved: u8,
    /// What the source of IPv4 packets is translated to, network order.
    pub nat_address4: [u8; 4],
    /// The node's own number, from 1.
    pub node: u32,
    /// What the source of IPv6 packets is translated to, network order.
    pub nat_address6: [u8; 16],
}

/// Bits of [`IpcacheKey`] before the address, which every stored prefix has.
pub const IPCACHE_STATIC_BITS: u32 = 32;

/// An address or prefix. Looked up with 64 bits (IPv4) or 160 (IPv6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IpcacheKey {
    /// [`IPCACHE_STATIC_BITS`] + the prefix's length.
    pub prefixlen: u32,
    /// 0 or 1
    pub slot: u8,
    /// [`crate::family`]
    pub family: u8,
    /// 0
    pub reserved: [u8; 2],
    /// Network order; bits beyond the prefix are 0.
    pub address: [u8; 16],
}

/// Who an address is and what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IpcacheValue {
    /// Its identity.
    pub identity: u32,
    /// The entry's number, from 1, for events.
    pub entry: u32,
    /// Index of its [`Target`] in the slot.
    pub target: u32,
}

/// Values of [`Target::kind`].
pub mod target {
    /// A pod of this node.
    pub const ENDPOINT: u8 = 1;
    /// A pod of another node, by the tunnel.
    pub const TUNNEL: u8 = 2;
    /// This node's own stack, as the destination.
    pub const HOST: u8 = 3;
    /// Out of the node by its own routes.
    pub const STACK: u8 = 4;
    /// A pod of another node, over the nodes' own network.
    pub const NATIVE: u8 = 5;
    /// Another node itself: out of the node by its own routes, or by the tunnel where the flow came by it.
    pub const NODE: u8 = 6;
    /// A service's address.
    pub const SERVICE: u8 = 7;

    /// [`super::Target::flags`]: `address4` is set.
    pub const HAS_V4: u8 = 1;
    /// [`super::Target::flags`]: `address6` is set.
    pub const HAS_V6: u8 = 1 << 1;
    /// [`super::Target::flags`]: where what is absent from the endpoint's egress table begins.
    pub const EGRESS_SHIFT: u8 = 2;
    /// [`super::Target::flags`]: the same for its ingress table.
    pub const INGRESS_SHIFT: u8 = 4;
    /// Absent from a table: entries of a concrete identity, so that this look-up can be spared.
    pub const NO_IDENTITY: u8 = 1;
    /// Absent from a table: entries of any identity, so that this look-up can be spared.
    pub const NO_ANYONE: u8 = 1 << 1;
    /// Both bits of what may be absent from a table.
    pub const ABSENT: u8 = 3;
}

/// What an address leads to, with everything that forwarding needs; an endpoint also as a sender.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Target {
    /// A kind of [`target`].
    pub kind: u8,
    /// Which addresses are set: an endpoint has one or both; a tunnel, native pods and a node exactly one. Endpoint: what its tables
    /// need not be asked for.
    pub flags: u8,
    /// Endpoint: its id; else 0.
    pub endpoint: u16,
    /// Endpoint: its identity; else 0.
    pub identity: u32,
    /// Endpoint: the host-side veth; else 0 (tunnels: [`Settings::tunnel_ifindex`]).
    pub ifindex: u32,
    /// Endpoint, and the host with policies: [`PolicyKey::table`] of what it may send.
    pub egress: u32,
    /// Endpoint: [`PolicyKey::table`] of what it may receive.
    pub ingress: u32,
    /// Endpoint: its own IPv4 address. Tunnel, native pod, node: the other node's. Network order.
    pub address4: [u8; 4],
    /// The same for IPv6.
    pub address6: [u8; 16],
    /// Endpoint: Ethernet address of the pod's side.
    pub mac: [u8; 6],
    /// Endpoint: Ethernet address of the host's side.
    pub host_mac: [u8; 6],
    /// Index in `HITS` of entry 0 of what it may send; 0: not counted.
    pub egress_hits: u32,
    /// The same of what it may receive.
    pub ingress_hits: u32,
    /// Tunnel, native pod, node: the other node's own number, from 1.
    pub node: u32,
}

/// A device that a program hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AttachmentKey {
    /// 0 or 1
    pub slot: u32,
    /// Index of the device.
    pub ifindex: u32,
}

/// Bits of [`PolicyKey`] before protocol and port, which every stored prefix has.
pub const POLICY_STATIC_BITS: u32 = 72;
/// Bits of a protocol (8) and a port (16): a whole key has [`POLICY_STATIC_BITS`] + this.
pub const POLICY_PORT_BITS: u32 = 24;

/// A policy entry's key. Two look-ups are made with all 96 bits, one with the peer's identity and one
/// with 0; `engine::tables` states which hit wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PolicyKey {
    /// [`POLICY_STATIC_BITS`] + 0 (any protocol and port), 8 (any port), or 8 + 1..=16 (a port prefix).
    pub prefixlen: u32,
    /// The table's id in this node's tables `<< 1 |` slot.
    pub table: u32,
    /// The peer's identity, 0 for any.
    pub identity: u32,
    /// 0
    pub reserved: u8,
    /// IANA number, 0 with any.
    pub protocol: u8,
    /// Destination port (ICMP: the type) in network order; bits beyond the prefix are 0.
    pub port: [u8; 2],
}

/// Bits of [`PolicyValue::flags`].
pub mod policy {
    /// The entry drops.
    pub const DENY: u8 = 1;
}

/// A policy entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PolicyValue {
    /// Its number in the table, from 1.
    pub entry: u32,
    /// Bits of [`policy`].
    pub flags: u8,
    /// Bits of protocol and port in its key: 0, 8 or 9..=24. An LPM look-up does not return the key.
    pub prefix_bits: u8,
    /// 0
    pub reserved: [u8; 2],
}

/// A frontend. Looked up for destinations whose target is a service or this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ServiceKey {
    /// 0 or 1
    pub slot: u8,
    /// [`crate::family`]
    pub family: u8,
    /// IANA number.
    pub protocol: u8,
    /// 0
    pub reserved: u8,
    /// Port, network order.
    pub port: [u8; 2],
    /// 0
    pub reserved_too: [u8; 2],
    /// Address, network order.
    pub address: [u8; 16],
}

/// Bits of [`ServiceValue::flags`].
pub mod service {
    /// For clients in the cluster only.
    pub const CLUSTER_IP: u32 = 1;
    /// Clients outside must be in `SOURCE_RANGES`.
    pub const SOURCE_RANGES: u32 = 1 << 1;
    /// [`super::ServiceValue::maglev`] is set.
    pub const MAGLEV: u32 = 1 << 2;
}

/// What a frontend leads to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ServiceValue {
    /// Its number on the node, from 1.
    pub entry: u32,
    /// Bits of [`service`].
    pub flags: u32,
    /// Clients in the cluster: index in `BACKENDS` of the first.
    pub internal_first: u32,
    /// How many.
    pub internal_count: u32,
    /// Clients outside: index in `BACKENDS` of the first.
    pub external_first: u32,
    /// How many.
    pub external_count: u32,
    /// Seconds for which a client keeps its backend; 0: it does not.
    pub affinity: u32,
    /// Index in `MAGLEV` for clients outside.
    pub maglev: u32,
}

/// A backend.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Backend {
    /// Address, network order.
    pub address: [u8; 16],
    /// Port, network order.
    pub port: [u8; 2],
    /// 0
    pub reserved: [u8; 6],
}

/// A backend in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemberKey {
    /// Index in `BACKENDS` of the set's first.
    pub first: u32,
    /// Port, network order.
    pub port: [u8; 2],
    /// 0
    pub reserved: [u8; 2],
    /// Address, network order.
    pub address: [u8; 16],
}

/// Places of a Maglev table: a prime, the reference's default.
pub const MAGLEV_SIZE: u32 = 16_381;

/// A Maglev table: positions in a set of backends, [`MAGLEV_SIZE`] of them; the rest is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaglevTable {
    /// By hash of the flow.
    pub positions: [u16; 16_384],
}

/// Bits of [`SourceRangeKey`] before the address, which every stored prefix has.
pub const SOURCE_RANGE_STATIC_BITS: u32 = 64;

/// Sources that may use a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SourceRangeKey {
    /// [`SOURCE_RANGE_STATIC_BITS`] + the prefix's length.
    pub prefixlen: u32,
    /// [`ServiceValue::entry`]
    pub entry: u32,
    /// 0 or 1
    pub slot: u8,
    /// [`crate::family`]
    pub family: u8,
    /// 0
    pub reserved: [u8; 2],
    /// Network order; bits beyond the prefix are 0.
    pub address: [u8; 16],
}

/// A number of packets, per CPU.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, Ethernet header included.
    pub bytes: u64,
}

/// Bits of [`Input::flags`].
pub mod input {
    /// The packet comes with a tunnel key.
    pub const TUNNELED: u32 = 1;
    /// Services choose [`super::Input::choose`].
    pub const CHOOSE: u32 = 1 << 1;
}

/// A simulated packet's circumstances, written by user space before a test run of the driver.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Input {
    /// The clock, in ticks ([`Config::ticks_per_second`]).
    pub now: u64,
    /// Device that the hook hangs on.
    pub ifindex: u32,
    /// A number of [`crate::hook`].
    pub hook: u32,
    /// The packet's mark.
    pub mark: u32,
    /// Bits of [`input`].
    pub flags: u32,
    /// VNI of the tunnel key.
    pub vni: u32,
    /// [`crate::family`] of `outer_source`, 0 without a tunnel key.
    pub outer_family: u32,
    /// Who sent the outer packet.
    pub outer_source: [u8; 16],
    /// The backend to choose.
    pub choose: Backend,
}

/// What a simulated hook reads instead of asking the kernel; the driver copies it from [`Input`]. The
/// tunnel key is not here: the driver sets a real one, which the hook reads as it would live.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Seam {
    /// The clock, in ticks.
    pub now: u64,
    /// Device that the hook hangs on.
    pub ifindex: u32,
    /// The hook that was called.
    pub hook: u32,
    /// Bits of [`input`].
    pub flags: u32,
    /// 0
    pub reserved: u32,
    /// The backend to choose.
    pub choose: Backend,
}

const _: () = {
    assert!(size_of::<Config>() == 32);
    assert!(size_of::<Settings>() == 56);
    assert!(size_of::<ServiceKey>() == 24);
    assert!(size_of::<ServiceValue>() == 32);
    assert!(size_of::<Backend>() == 24);
    assert!(size_of::<MemberKey>() == 24);
    assert!(size_of::<MaglevTable>() == 32_768);
    assert!(size_of::<SourceRangeKey>() == 28);
    assert!(size_of::<IpcacheKey>() == 24);
    assert!(size_of::<IpcacheValue>() == 12);
    assert!(size_of::<Target>() == 64);
    assert!(size_of::<AttachmentKey>() == 8);
    assert!(size_of::<PolicyKey>() == 16);
    assert!(size_of::<PolicyValue>() == 8);
    assert!(size_of::<Count>() == 16);
    assert!(size_of::<Input>() == 72);
    assert!(size_of::<Seam>() == 48);
};
