//! What the keys and values of the datapath's maps say, as values: for those who print or search a map. Pure;
//! names are given by who knows them.

use std::net::IpAddr;

use datapath_abi as abi;
use engine::identity::Identity;
use engine::net::{Direction, FlowKey, Hook, Protocol};
use engine::reason::DropReason;
use engine::tables::{EndpointId, EntryId, PolicyKey, TableId};
use engine::trace::{ConntrackEntry, Place};
use ipnet::IpNet;
use zerocopy::FromBytes;

use crate::decode;

/// What a key says.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryKey {
    /// A number: of an array's place.
    Index(u32),
    /// A place of the counters.
    Counter(Hook, Option<DropReason>, Direction),
    /// An address or prefix in a slot.
    Prefix {
        /// 0 or 1
        slot: u8,
        /// The prefix.
        prefix: IpNet,
    },
    /// A policy entry's key in a slot.
    Policy {
        /// 0 or 1
        slot: u8,
        /// The table.
        table: TableId,
        /// What it is about.
        key: PolicyKey,
    },
    /// A device in a slot.
    Attachment {
        /// 0 or 1
        slot: u32,
        /// The device.
        ifindex: u32,
    },
    /// A frontend in a slot.
    Service {
        /// 0 or 1
        slot: u8,
        /// Address and port.
        place: Place,
        /// The protocol.
        protocol: Protocol,
    },
    /// A backend in a set.
    Member {
        /// Index of the set's first.
        first: u32,
        /// Address and port.
        place: Place,
    },
    /// Sources of a frontend in a slot.
    Range {
        /// 0 or 1
        slot: u8,
        /// The frontend.
        entry: EntryId,
        /// The prefix.
        prefix: IpNet,
    },
    /// A client of a frontend.
    Client {
        /// Its address.
        client: IpAddr,
        /// The frontend's address and port.
        frontend: Place,
        /// The protocol.
        protocol: Protocol,
    },
    /// A datagram in pieces, by the flow without its ports.
    Pieces(FlowKey, u32),
    /// A flow: the lower side first.
    Flow(FlowKey),
    /// Bytes whose meaning is not known here.
    Bytes(Vec<u8>),
}

/// What a value says.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryValue {
    /// A number.
    Number(u64),
    /// The generation that is active.
    Generation(u32),
    /// Who an address is.
    Ipcache {
        /// Its identity.
        identity: Identity,
        /// The entry.
        entry: EntryId,
        /// Index of the target.
        target: u32,
    },
    /// What an address leads to.
    Target(Target),
    /// A policy entry.
    Policy {
        /// The entry.
        entry: EntryId,
        /// Whether it drops.
        deny: bool,
        /// Bits of protocol and port in its key.
        prefix_bits: u8,
    },
    /// A flow.
    Flow(Box<ConntrackEntry>),
    /// What a frontend leads to.
    Service {
        /// The frontend.
        entry: EntryId,
        /// Index of the first backend for clients in the cluster, and how many there are.
        internal: (u32, u32),
        /// The same for clients outside.
        external: (u32, u32),
        /// Seconds for which a client keeps its backend; 0: it does not.
        affinity: u32,
    },
    /// A backend.
    Backend(IpAddr, u16),
    /// A client's backend, and the tick of its last new connection.
    Affinity(IpAddr, u16, u64),
    /// A Maglev table.
    Maglev,
    /// Source and destination port.
    Ports(u16, u16),
    /// Packets and bytes.
    Count {
        /// Packets.
        packets: u64,
        /// Bytes.
        bytes: u64,
    },
    /// A simulated packet's circumstances.
    Seam {
        /// The clock, in ticks.
        now: u64,
        /// The device.
        ifindex: u32,
    },
    /// Bytes whose meaning is not known here.
    Bytes(Vec<u8>),
}

/// See [`abi::Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A pod of the node.
    Endpoint(EndpointId, Identity, u32),
    /// A pod of another node.
    Tunnel(IpAddr),
    /// A pod of another node, by no tunnel.
    Native(IpAddr),
    /// Another node.
    Node(IpAddr),
    /// A service.
    Service,
    /// The node itself.
    Host,
    /// The node's routing.
    Stack,
    /// A place that is not used.
    Unused,
}

/// What a key of a map says.
pub fn key_of(map: &str, key: &[u8]) -> EntryKey {
    let known = match map {
        abi::maps::IPCACHE | abi::maps::UNMASQUERADED | abi::maps::PREFILTERED => prefix(key),
        abi::maps::SERVICES => service(key),
        abi::maps::MEMBERS => abi::MemberKey::read_from_bytes(key).ok().map(|key| {
            let place = Place { address: either(key.address), port: u16::from_be_bytes(key.port) };
            EntryKey::Member { first: key.first, place }
        }),
        abi::maps::SOURCE_RANGES => range(key),
        abi::maps::AFFINITY => client(key),
        abi::maps::FRAGMENTS => pieces(key),
        abi::maps::POLICY => policy_key(key),
        abi::maps::ATTACHMENTS => abi::AttachmentKey::read_from_bytes(key)
            .ok()
            .map(|key| EntryKey::Attachment { slot: key.slot, ifindex: key.ifindex }),
        abi::maps::CT4 => abi::CtKey4::read_from_bytes(key).ok().map(|key| {
            let (low, high) = (key.low_address.into(), key.high_address.into());
            flow(low, high, key.low_port, key.high_port, key.protocol)
        }),
        abi::maps::CT6 => abi::CtKey6::read_from_bytes(key).ok().map(|key| {
            let (low, high) = (key.low_address.into(), key.high_address.into());
            flow(low, high, key.low_port, key.high_port, key.protocol)
        }),
        abi::maps::COUNTERS => index(key).and_then(counter),
        _ => index(key).map(EntryKey::Index),
    };
    known.unwrap_or_else(|| EntryKey::Bytes(key.to_vec()))
}

fn index(key: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(key.try_into().ok()?))
}

fn counter(index: u32) -> Option<EntryKey> {
    let direction = if index & 1 == 0 { Direction::Egress } else { Direction::Ingress };
    let (hook, code) = (index / 512, u8::try_from(index / 2 % 256).ok()?);
    let is_it = |one: &Hook| u32::from(decode::hook_number(*one)) == hook;
    let reason = match code {
        abi::reason::FORWARDED => None,
        reason => Some(DropReason::from_code(reason)?),
    };
    Some(EntryKey::Counter(Hook::ALL.into_iter().find(is_it)?, reason, direction))
}

/// An address of a family.
fn address(family: u8, bytes: [u8; 16]) -> Option<IpAddr> {
    match family {
        abi::family::V4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        abi::family::V6 => Some(IpAddr::from(bytes)),
        _ => None,
    }
}

/// An address without its family: one whose last twelve bytes are 0 is IPv4's.
fn either(bytes: [u8; 16]) -> IpAddr {
    let [a, b, c, d, rest @ ..] = bytes;
    if rest == [0; 12] { IpAddr::from([a, b, c, d]) } else { IpAddr::from(bytes) }
}

fn service(key: &[u8]) -> Option<EntryKey> {
    let key = abi::ServiceKey::read_from_bytes(key).ok()?;
    let address = address(key.family, key.address)?;
    let place = Place { address, port: u16::from_be_bytes(key.port) };
    Some(EntryKey::Service { slot: key.slot, place, protocol: Protocol::from_number(key.protocol) })
}

fn range(key: &[u8]) -> Option<EntryKey> {
    let key = abi::SourceRangeKey::read_from_bytes(key).ok()?;
    let bits = u8::try_from(key.prefixlen.checked_sub(abi::SOURCE_RANGE_STATIC_BITS)?).ok()?;
    let prefix = IpNet::new(address(key.family, key.address)?, bits).ok()?;
    Some(EntryKey::Range { slot: key.slot, entry: EntryId(key.entry), prefix })
}

fn client(key: &[u8]) -> Option<EntryKey> {
    let key = abi::AffinityKey::read_from_bytes(key).ok()?;
    let address = |bytes| address(key.family, bytes);
    let port = u16::from_be_bytes(key.port);
    Some(EntryKey::Client {
        client: address(key.client)?,
        frontend: Place { address: address(key.frontend)?, port },
        protocol: Protocol::from_number(key.protocol),
    })
}

fn pieces(key: &[u8]) -> Option<EntryKey> {
    let key = abi::FragmentKey::read_from_bytes(key).ok()?;
    let flow = FlowKey {
        source: address(key.family, key.source)?,
        destination: address(key.family, key.destination)?,
        protocol: Protocol::from_number(key.protocol),
        source_port: 0,
        destination_port: 0,
    };
    let [a, b, c, d] = key.id;
    let short = key.family == abi::family::V4;
    let id =
        if short { u16::from_be_bytes([a, b]).into() } else { u32::from_be_bytes([a, b, c, d]) };
    Some(EntryKey::Pieces(flow, id))
}

fn flow(low: IpAddr, high: IpAddr, low_port: [u8; 2], high_port: [u8; 2], number: u8) -> EntryKey {
    EntryKey::Flow(FlowKey {
        source: low,
        destination: high,
        protocol: Protocol::from_number(number),
        source_port: u16::from_be_bytes(low_port),
        destination_port: u16::from_be_bytes(high_port),
    })
}

fn prefix(key: &[u8]) -> Option<EntryKey> {
    let key = abi::IpcacheKey::read_from_bytes(key).ok()?;
    let address = address(key.family, key.address)?;
    let bits = u8::try_from(key.prefixlen.checked_sub(abi::IPCACHE_STATIC_BITS)?).ok()?;
    Some(EntryKey::Prefix { slot: key.slot, prefix: IpNet::new(address, bits).ok()? })
}

fn policy_key(key: &[u8]) -> Option<EntryKey> {
    let key = abi::PolicyKey::read_from_bytes(key).ok()?;
    let bits = u8::try_from(key.prefixlen.checked_sub(abi::POLICY_STATIC_BITS)?).ok()?;
    let has_protocol = bits >= 8;
    Some(EntryKey::Policy {
        slot: u8::from(key.table & 1 != 0),
        table: TableId(key.table >> 1),
        key: PolicyKey {
            identity: Identity(key.identity),
            protocol: has_protocol.then(|| Protocol::from_number(key.protocol)),
            port: u16::from_be_bytes(key.port),
            port_bits: bits.saturating_sub(8),
        },
    })
}

/// What a value of a map says; `now` is the clock, in seconds.
pub fn value_of(map: &str, key: &[u8], value: &[u8], now: u64) -> EntryValue {
    let known = match map {
        abi::maps::IPCACHE => abi::IpcacheValue::read_from_bytes(value).ok().map(|value| {
            let (identity, entry) = (Identity(value.identity), EntryId(value.entry));
            EntryValue::Ipcache { identity, entry, target: value.target }
        }),
        abi::maps::POLICY => abi::PolicyValue::read_from_bytes(value).ok().map(|value| {
            let deny = value.flags & abi::policy::DENY != 0;
            let entry = EntryId(value.entry);
            EntryValue::Policy { entry, deny, prefix_bits: value.prefix_bits }
        }),
        abi::maps::TARGETS => {
            abi::Target::read_from_bytes(value).ok().map(|t| EntryValue::Target(target(&t)))
        }
        abi::maps::CT4 => decode::conntrack4(key, value, now).ok().map(conntrack),
        abi::maps::CT6 => decode::conntrack6(key, value, now).ok().map(conntrack),
        abi::maps::SERVICES => {
            abi::ServiceValue::read_from_bytes(value).ok().map(|value| EntryValue::Service {
                entry: EntryId(value.entry),
                internal: (value.internal_first, value.internal_count),
                external: (value.external_first, value.external_count),
                affinity: value.affinity,
            })
        }
        abi::maps::BACKENDS => abi::Backend::read_from_bytes(value).ok().map(|value| {
            EntryValue::Backend(either(value.address), u16::from_be_bytes(value.port))
        }),
        abi::maps::AFFINITY => abi::AffinityValue::read_from_bytes(value).ok().map(|value| {
            let port = u16::from_be_bytes(value.port);
            EntryValue::Affinity(either(value.address), port, value.last)
        }),
        abi::maps::MAGLEV => Some(EntryValue::Maglev),
        abi::maps::FRAGMENTS => abi::FragmentValue::read_from_bytes(value).ok().map(|value| {
            let [source, destination] = [value.source_port, value.destination_port];
            EntryValue::Ports(u16::from_be_bytes(source), u16::from_be_bytes(destination))
        }),
        abi::maps::COUNTERS | abi::maps::HITS => abi::Count::read_from_bytes(value)
            .ok()
            .map(|value| EntryValue::Count { packets: value.packets, bytes: value.bytes }),
        abi::maps::SEAM => abi::Seam::read_from_bytes(value)
            .ok()
            .map(|value| EntryValue::Seam { now: value.now, ifindex: value.ifindex }),
        abi::maps::ACTIVE => {
            number(value).and_then(|n| u32::try_from(n).ok()).map(EntryValue::Generation)
        }
        _ => number(value).map(EntryValue::Number),
    };
    known.unwrap_or_else(|| EntryValue::Bytes(value.to_vec()))
}

fn conntrack(entry: ConntrackEntry) -> EntryValue {
    EntryValue::Flow(Box::new(entry))
}

fn number(value: &[u8]) -> Option<u64> {
    match value.len() {
        4 => Some(u32::from_le_bytes(value.try_into().ok()?).into()),
        8 => Some(u64::from_le_bytes(value.try_into().ok()?)),
        _ => None,
    }
}

fn target(value: &abi::Target) -> Target {
    let is_v4 = value.flags & abi::target::HAS_V4 != 0;
    let other = if is_v4 { value.address4.into() } else { value.address6.into() };
    match value.kind {
        abi::target::ENDPOINT => {
            Target::Endpoint(EndpointId(value.endpoint), Identity(value.identity), value.ifindex)
        }
        abi::target::TUNNEL => Target::Tunnel(other),
        abi::target::NATIVE => Target::Native(other),
        abi::target::NODE => Target::Node(other),
        abi::target::SERVICE => Target::Service,
        abi::target::HOST => Target::Host,
        abi::target::STACK => Target::Stack,
        _ => Target::Unused,
    }
}
