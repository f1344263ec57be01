//! What the keys and values of the datapath's maps say, as values: for those who print or search a map. Pure;
//! names are given by who knows them.

use std::net::IpAddr;

use datapath_abi as abi;
use engine::identity::Identity;
use engine::net::{Direction, FlowKey, Protocol};
use engine::reason::DropReason;
use engine::tables::{EndpointId, EntryId, PolicyKey, TableId};
use engine::trace::ConntrackEntry;
use ipnet::IpNet;
use zerocopy::FromBytes;

use crate::decode;

/// What a key says.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryKey {
    /// A number: of an array's place.
    Index(u32),
    /// A place of the counters.
    Counter(Option<DropReason>, Direction),
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
        abi::maps::IPCACHE => prefix(key),
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
    let reason = match u8::try_from(index / 2).ok()? {
        abi::reason::FORWARDED => None,
        reason => Some(DropReason::from_code(reason)?),
    };
    Some(EntryKey::Counter(reason, direction))
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
    let address: IpAddr = match key.family {
        abi::family::V4 => IpAddr::from(*key.address.first_chunk::<4>()?),
        abi::family::V6 => IpAddr::from(key.address),
        _ => return None,
    };
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
        abi::maps::COUNTERS => abi::Count::read_from_bytes(value)
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
    match value.kind {
        abi::target::ENDPOINT => {
            Target::Endpoint(EndpointId(value.endpoint), Identity(value.identity), value.ifindex)
        }
        abi::target::TUNNEL if value.flags & abi::target::HAS_V4 != 0 => {
            Target::Tunnel(value.address4.into())
        }
        abi::target::TUNNEL => Target::Tunnel(value.address6.into()),
        abi::target::HOST => Target::Host,
        abi::target::STACK => Target::Stack,
        _ => Target::Unused,
    }
}
