//! Layouts shared by user space and the eBPF programs: map names, keys, values and events, and the
//! numbers in them. Layout only: no logic, no names of policies, no strings but map and program names.
//!
//! Every struct holds integers and byte arrays only, has no padding that is not a field, and is read
//! and written as it lies in memory (little-endian hosts). Ports and addresses are in network order
//! where a field says so; everything else is in the host's.
//!
//! **Two slots.** Tables exist twice. [`maps::ACTIVE`] holds the generation; a program reads it once,
//! first, and reaches everything else through `slot = generation & 1`. User space fills the idle slot,
//! then writes the new generation. Before it fills the slot that was active it waits until no program
//! run can still be reading it (a test run has returned; live: one RCU grace period).
#![no_std]

mod event;
mod flow;
mod tables;

pub use event::*;
pub use flow::*;
pub use tables::*;

/// Changes whenever a layout or a meaning in this crate does. User space writes it to
/// [`Config::abi`]; a program that finds another number gives every packet to the stack.
pub const ABI_VERSION: u32 = 10;

/// Names of the maps in the object.
pub mod maps {
    /// Array of 1 [`super::Config`].
    pub const CONFIG: &str = "CONFIG";
    /// Array of 1 `u32`: the generation; 0 while nothing is loaded.
    pub const ACTIVE: &str = "ACTIVE";
    /// Array of 2 [`super::Settings`], by slot.
    pub const SETTINGS: &str = "SETTINGS";
    /// Array of [`super::Target`]; each slot's begin at [`super::Settings::target_base`].
    pub const TARGETS: &str = "TARGETS";
    /// LPM trie [`super::IpcacheKey`] -> [`super::IpcacheValue`].
    pub const IPCACHE: &str = "IPCACHE";
    /// Hash [`super::AttachmentKey`] -> `u32`, the index of the endpoint's target.
    pub const ATTACHMENTS: &str = "ATTACHMENTS";
    /// LPM trie [`super::PolicyKey`] -> [`super::PolicyValue`].
    pub const POLICY: &str = "POLICY";
    /// LRU hash [`super::CtKey4`] -> [`super::CtValue`].
    pub const CT4: &str = "CT4";
    /// LRU hash [`super::CtKey6`] -> [`super::CtValue`].
    pub const CT6: &str = "CT6";
    /// Hash [`super::ServiceKey`] -> [`super::ServiceValue`].
    pub const SERVICES: &str = "SERVICES";
    /// Array of [`super::Backend`]; services hold indices in it, which are unlike in the two slots.
    pub const BACKENDS: &str = "BACKENDS";
    /// Hash [`super::MemberKey`] -> `u32`: which addresses are in which set of backends.
    pub const MEMBERS: &str = "MEMBERS";
    /// Array of [`super::MaglevTable`]; services hold indices in it, which are unlike in the two slots.
    pub const MAGLEV: &str = "MAGLEV";
    /// LRU hash [`super::AffinityKey`] -> [`super::AffinityValue`].
    pub const AFFINITY: &str = "AFFINITY";
    /// LPM trie [`super::SourceRangeKey`] -> `u32`.
    pub const SOURCE_RANGES: &str = "SOURCE_RANGES";
    /// LPM trie [`super::IpcacheKey`] -> `u32`: destinations that nothing is masqueraded to.
    pub const UNMASQUERADED: &str = "UNMASQUERADED";
    /// LPM trie [`super::IpcacheKey`] -> `u32`: sources that [`super::programs::PREFILTER`] drops.
    pub const PREFILTERED: &str = "PREFILTERED";
    /// LRU hash [`super::FragmentKey`] -> [`super::FragmentValue`].
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// Per-CPU array of [`super::Count`]: how often policy entries decided. An endpoint's tables begin at
    /// [`super::Target::egress_hits`] and [`super::Target::ingress_hits`], entry 0 (the default deny) first; 0 is nobody's.
    pub const HITS: &str = "HITS";
    /// Per-CPU array of [`super::Count`], at `(hook * 256 + reason) * 2 + direction`; reason 0 is "forwarded".
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of events, each beginning with [`super::EventHeader`] and of [`super::EVENT_SIZE`] bytes, but
    /// [`super::FrameEvent`]. Nobody is woken by them: readers look again after a while.
    pub const EVENTS: &str = "EVENTS";
    /// Array of 1 [`super::Filter`], read where [`super::config::FILTERED`] is on.
    pub const FILTER: &str = "FILTER";
    /// Per-CPU array of 1 `u64`: events that did not fit the ring buffer.
    pub const LOST: &str = "LOST";
    /// Per-CPU array of 1 [`super::Seam`], written by the driver program only.
    pub const SEAM: &str = "SEAM";
    /// Array of [`super::Input`]: what the driver program puts in; it reads the first.
    pub const INPUT: &str = "INPUT";
    /// Program array: the hooks' programs at their numbers in [`super::hook`].
    pub const HOOKS: &str = "HOOKS";
    /// Per-CPU array of 1: what a program run works on. Its layout is the programs' own; not for user space.
    pub const SCRATCH: &str = "SCRATCH";
}

/// Names of the programs in the object. All are of type `sched_cls` but [`programs::PREFILTER`], which is of type `xdp`.
pub mod programs {
    /// TC ingress of a pod's host-side veth.
    pub const FROM_CONTAINER: &str = "from_container";
    /// TC egress of a pod's host-side veth.
    pub const TO_CONTAINER: &str = "to_container";
    /// TC ingress of the tunnel device.
    pub const FROM_OVERLAY: &str = "from_overlay";
    /// TC ingress of an underlay device.
    pub const FROM_NETDEV: &str = "from_netdev";
    /// TC egress of the tunnel device.
    pub const TO_OVERLAY: &str = "to_overlay";
    /// TC egress of an underlay device.
    pub const TO_NETDEV: &str = "to_netdev";
    /// TC egress of `cilium_host`.
    pub const FROM_HOST: &str = "from_host";
    /// TC ingress of `cilium_host`.
    pub const TO_HOST: &str = "to_host";
    /// XDP of an underlay device.
    pub const PREFILTER: &str = "prefilter";
    /// Takes [`super::Input`] and tail-calls a hook; the only program that simulation runs itself.
    pub const DRIVER: &str = "driver";
}

/// Numbers of the hooks: in events, in [`Input::hook`] and as indices of [`maps::HOOKS`].
pub mod hook {
    /// [`super::programs::FROM_CONTAINER`]
    pub const FROM_CONTAINER: u8 = 0;
    /// [`super::programs::TO_CONTAINER`]
    pub const TO_CONTAINER: u8 = 1;
    /// [`super::programs::FROM_OVERLAY`]
    pub const FROM_OVERLAY: u8 = 2;
    /// [`super::programs::FROM_NETDEV`]
    pub const FROM_NETDEV: u8 = 3;
    /// [`super::programs::TO_OVERLAY`]
    pub const TO_OVERLAY: u8 = 4;
    /// [`super::programs::TO_NETDEV`]
    pub const TO_NETDEV: u8 = 5;
    /// [`super::programs::FROM_HOST`]
    pub const FROM_HOST: u8 = 6;
    /// [`super::programs::TO_HOST`]
    pub const TO_HOST: u8 = 7;
    /// How many the driver can call.
    pub const COUNT: u32 = 8;
    /// [`super::programs::PREFILTER`], which the driver cannot call, being of another type.
    pub const PREFILTER: u8 = 8;
    /// How many there are in all.
    pub const ALL: u32 = 9;
}

/// Numbers of the directions: in events, counters and [`CtValue::legs`].
pub mod direction {
    /// The sender's policy.
    pub const EGRESS: u8 = 0;
    /// The receiver's policy.
    pub const INGRESS: u8 = 1;
}

/// Address families, as Cilium's ipcache numbers them.
pub mod family {
    /// IPv4; the address is in the first four of sixteen bytes, the others are 0.
    pub const V4: u8 = 1;
    /// IPv6.
    pub const V6: u8 = 2;
}

/// Reasons of a drop: the reference's numbers (Cilium 1.18.3 `bpf/lib/common.h`).
pub mod reason {
    /// Not dropped; the first pair of [`super::maps::COUNTERS`].
    pub const FORWARDED: u8 = 0;
    /// The pod sent from an address that is not its own.
    pub const INVALID_SOURCE_IP: u8 = 132;
    /// No policy entry matches.
    pub const POLICY_DENIED: u8 = 133;
    /// The network header is truncated or malformed.
    pub const INVALID_PACKET: u8 = 134;
    /// The transport header is truncated.
    pub const CT_INVALID_HEADER: u8 = 135;
    /// A transport protocol that conntrack does not know.
    pub const CT_UNKNOWN_PROTOCOL: u8 = 137;
    /// Neither IPv4 nor IPv6 nor ARP.
    pub const UNKNOWN_L3: u8 = 139;
    /// The driver found no program for a hook.
    pub const MISSED_TAIL_CALL: u8 = 140;
    /// A redirect or tunnel key was refused, or the packet could not be written.
    pub const WRITE_ERROR: u8 = 141;
    /// The overlay delivered a packet without a tunnel key.
    pub const NO_TUNNEL_KEY: u8 = 147;
    /// The conntrack entry could not be written.
    pub const CT_CREATE_FAILED: u8 = 155;
    /// IPv6 extension headers that cannot be skipped: too many, or "no next header".
    pub const INVALID_EXTENSION_HEADER: u8 = 156;
    /// A fragment of ICMP.
    pub const FRAGMENT_NOT_SUPPORTED: u8 = 157;
    /// The service has no backend to use, or not the port.
    pub const NO_SERVICE: u8 = 158;
    /// A service would have to change what the transport's checksum does not let it.
    pub const UNSUPPORTED_SERVICE_PROTOCOL: u8 = 159;
    /// Not an Ethernet II frame.
    pub const UNSUPPORTED_L2: u8 = 166;
    /// No port is free to translate the source to.
    pub const NAT_NO_MAPPING: u8 = 167;
    /// No route leads to the destination.
    pub const NO_FIB: u8 = 169;
    /// A pod sent UDP to the tunnel port.
    pub const ENCAP_PROHIBITED: u8 = 170;
    /// The VNI claims identity host.
    pub const INVALID_IDENTITY: u8 = 171;
    /// From outside to an address that is for the cluster only.
    pub const IS_CLUSTER_IP: u8 = 174;
    /// A later fragment whose first one was not seen.
    pub const FRAGMENT_NOT_FOUND: u8 = 175;
    /// From outside to a service that other sources may use.
    pub const NOT_IN_SOURCE_RANGE: u8 = 177;
    /// A deny entry matches.
    pub const POLICY_DENY: u8 = 181;
    /// TTL or hop limit of 1 or 0 where the node would count it down.
    pub const TTL_EXCEEDED: u8 = 196;
    /// No endpoint is known for the device.
    pub const ENDPOINT_NOT_READY: u8 = 203;
    /// The source is on the prefilter's list: a number of ours, as the reference drops it without one.
    pub const PREFILTERED: u8 = 240;
}

/// Marks of a packet (`skb->mark`). Only the bits of [`mark::MASK`] are looked at.
pub mod mark {
    /// The bits that say who marked, as in the reference.
    pub const MASK: u32 = 0x0F00;
    /// The source is translated already (the reference's number).
    pub const TRANSLATED: u32 = 0x0300;
    /// It comes out of the tunnel device; the identity's low 16 bits are the high ones (the reference's number).
    pub const OVERLAY: u32 = 0x0400;
    /// Encrypt it: the kernel's transformation does, by the key in bits 12 to 15 (the reference's number).
    pub const ENCRYPT: u32 = 0x0E00;
    /// The identity's low 16 bits are the high ones (the reference's number).
    pub const IDENTITY: u32 = 0x0F00;
    /// The host itself sent it (the reference's number).
    pub const HOST: u32 = 0x0C00;
    /// Local delivery judged it already: `to_container` passes it. A number that the reference leaves free.
    pub const DELIVERED: u32 = 0x0700;
}

/// `struct __sk_buff` of the kernel: context of a test run, in and out (Linux 5.18 and up; older
/// kernels know the beginning). Ranges that no test run reads or gives are kept as opaque bytes.
#[derive(
    Clone,
    Copy,
    Debug,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
pub struct SkBuff {
    /// Bytes of the packet; out only.
    pub len: u32,
    /// Packet type; out only.
    pub pkt_type: u32,
    /// Mark.
    pub mark: u32,
    /// Queue; not settable.
    pub queue_mapping: u32,
    /// Ethernet type in network order; out only.
    pub protocol: u32,
    /// `vlan_present`, `vlan_tci`, `vlan_proto`; not settable.
    pub vlan: [u32; 3],
    /// Priority.
    pub priority: u32,
    /// Device it came in by; settable from 5.11.
    pub ingress_ifindex: u32,
    /// Device it is at; must exist.
    pub ifindex: u32,
    /// TC index; not settable.
    pub tc_index: u32,
    /// Control block.
    pub cb: [u32; 5],
    /// `hash` to `data_meta`; not settable.
    pub unsettable: [u32; 19],
    /// `flow_keys`; not settable.
    pub flow_keys: u64,
    /// Time stamp.
    pub tstamp: u64,
    /// Length on the wire.
    pub wire_len: u32,
    /// Segments of an offloaded packet.
    pub gso_segs: u32,
    /// `sk`; not settable.
    pub sk: u64,
    /// Size of a segment.
    pub gso_size: u32,
    /// `tstamp_type` and padding.
    pub tstamp_type: u32,
    /// Hardware time stamp; unknown to 5.10.
    pub hwtstamp: u64,
}

const _: () = assert!(size_of::<SkBuff>() == 192);
