//! What the kernel's maps hold for one node, from its tables: rows of `datapath_abi`'s layouts for one of
//! the two slots. Pure; writing them is the backend's. Knows no policy.
//!
//! Indices in maps that both slots share ([`abi::Settings::target_base`], [`abi::Target::egress_hits`] and the like)
//! count from the slot's own beginning, which is known to whoever made the maps.

mod policy;
mod services;
mod targets;

use std::collections::BTreeMap;
use std::net::IpAddr;

use datapath_abi as abi;
use engine::backend::BackendError;
use engine::net::Direction;
use engine::tables::{EndpointId, IpcacheEntry, NodeTables, Tables};
use engine::topology::{Encryption, HostRouting, NodeId, Routing};
use ipnet::IpNet;
use zerocopy::{Immutable, IntoBytes};

use services::Services;
use targets::Targets;

/// How many rows one slot may have in each map: half of what the map holds, for there are two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of `TARGETS`, and of `ATTACHMENTS`, which refers to targets.
    pub targets: usize,
    /// Of `IPCACHE`.
    pub ipcache: usize,
    /// Of `POLICY`.
    pub policy: usize,
    /// Of `SERVICES`.
    pub services: usize,
    /// Of `BACKENDS`, and of `MEMBERS`.
    pub backends: usize,
    /// Of `MAGLEV`.
    pub maglev: usize,
    /// Of `SOURCE_RANGES`, `UNMASQUERADED` and `PREFILTERED` each.
    pub prefixes: usize,
    /// Of `HITS`. Endpoints whose entries have no room are not counted.
    pub hits: usize,
}

/// Where the entries of an endpoint's table are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HitRange {
    /// Whose.
    pub endpoint: EndpointId,
    /// Which table.
    pub direction: Direction,
    /// Index of entry 0 in the slot's part of `HITS`, whose first is 1.
    pub first: u32,
    /// How many: one more than the table has entries.
    pub count: u32,
}

/// One node's tables in one slot. Rows are sorted by the bytes of their keys, without duplicates.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// 0 or 1.
    pub number: u32,
    /// The node as a whole.
    pub settings: abi::Settings,
    /// Targets by index.
    pub targets: Vec<abi::Target>,
    /// Where hits are counted.
    pub hits: Vec<HitRange>,
    /// Addresses and prefixes.
    pub ipcache: Vec<(abi::IpcacheKey, abi::IpcacheValue)>,
    /// Devices and the indices of their endpoints' targets.
    pub attachments: Vec<(abi::AttachmentKey, u32)>,
    /// Entries of every policy table.
    pub policy: Vec<(abi::PolicyKey, abi::PolicyValue)>,
    /// Frontends.
    pub services: Vec<(abi::ServiceKey, abi::ServiceValue)>,
    /// Backends by index, set by set.
    pub backends: Vec<abi::Backend>,
    /// Who is in which set.
    pub members: Vec<(abi::MemberKey, u32)>,
    /// Maglev tables by index.
    pub maglev: Vec<abi::MaglevTable>,
    /// Sources that may use frontends which not all may.
    pub source_ranges: Vec<(abi::SourceRangeKey, u32)>,
    /// Destinations that nothing is masqueraded to.
    pub unmasqueraded: Vec<(abi::IpcacheKey, u32)>,
    /// Sources that are dropped at the device.
    pub prefiltered: Vec<(abi::IpcacheKey, u32)>,
}

/// The value of rows whose being there is all that they say.
const THERE: u32 = 1;

/// The address by which each node is reached through the tunnel.
pub fn tunnel_addresses(tables: &Tables) -> BTreeMap<NodeId, IpAddr> {
    tables.nodes.iter().map(|node| (node.node, node.tunnel_address)).collect()
}

/// Encodes a node's tables for a slot (0 or 1), given the addresses by which nodes are reached through the tunnel.
/// Errors: a map has no room ([`BackendError::Full`]); tables that contradict themselves, which is a bug of whoever
/// compiled them ([`BackendError::System`]).
pub fn encode(
    tables: &NodeTables,
    nodes: &BTreeMap<NodeId, IpAddr>,
    slot: u32,
    limits: &Limits,
) -> Result<Slot, BackendError> {
    let number = slot & 1;
    let targets = Targets::of(tables, nodes, number, limits.hits)?;
    room(abi::maps::TARGETS, targets.rows.len(), limits.targets)?;
    room(abi::maps::IPCACHE, tables.ipcache.len(), limits.ipcache)?;
    let ipcache = tables.ipcache.iter().map(|entry| ipcache_row(entry, number, &targets));
    room(abi::maps::ATTACHMENTS, targets.attachments.len(), limits.targets)?;
    let attachments = targets.attachments.iter();
    let attachments = attachments
        .map(|(ifindex, at)| Ok((abi::AttachmentKey { slot: number, ifindex: *ifindex }, *at)));
    let entries: usize = tables.policies.iter().map(|table| table.entries.len()).sum();
    room(abi::maps::POLICY, entries, limits.policy)?;
    let policy = tables.policies.iter().flat_map(|table| {
        table.entries.iter().map(move |entry| policy::row(table.id, entry, number))
    });
    let services = Services::of(tables, number, limits)?;
    let unmasqueraded = prefixes(abi::maps::UNMASQUERADED, &tables.nat.except, number, limits)?;
    Ok(Slot {
        number,
        settings: settings(tables, targets.rows.len())?,
        ipcache: sorted(abi::maps::IPCACHE, ipcache)?,
        attachments: sorted(abi::maps::ATTACHMENTS, attachments)?,
        policy: sorted(abi::maps::POLICY, policy)?,
        targets: targets.rows,
        hits: targets.hits,
        services: services.frontends,
        backends: services.backends,
        members: services.members,
        maglev: services.maglev,
        source_ranges: services.source_ranges,
        unmasqueraded,
        prefiltered: prefixes(abi::maps::PREFILTERED, &tables.prefilter, number, limits)?,
    })
}

/// Tables that contradict themselves.
fn contradiction(error: String) -> BackendError {
    BackendError::System { call: "encoding the tables".to_owned(), error }
}

fn room(map: &str, needed: usize, capacity: usize) -> Result<(), BackendError> {
    if needed <= capacity {
        return Ok(());
    }
    Err(BackendError::Full { map: map.to_owned(), needed, capacity })
}

/// An index or a number of rows.
fn count(length: usize) -> Result<u32, BackendError> {
    u32::try_from(length).map_err(|_| contradiction(format!("{length} rows")))
}

/// Rows in the order of their keys' bytes; an error if two have the same key.
fn sorted<K: IntoBytes + Immutable, V>(
    map: &str,
    rows: impl Iterator<Item = Result<(K, V), BackendError>>,
) -> Result<Vec<(K, V)>, BackendError> {
    let mut rows: Vec<(K, V)> = rows.collect::<Result<_, _>>()?;
    rows.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    if rows.windows(2).any(|pair| pair[0].0.as_bytes() == pair[1].0.as_bytes()) {
        return Err(contradiction(format!("two rows of {map} have the same key")));
    }
    Ok(rows)
}

/// Rows in the order of their keys' bytes, each once.
fn distinct<K: IntoBytes + Immutable>(keys: impl Iterator<Item = K>) -> Vec<(K, u32)> {
    let mut rows: Vec<(K, u32)> = keys.map(|key| (key, THERE)).collect();
    rows.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    rows.dedup_by(|a, b| a.0.as_bytes() == b.0.as_bytes());
    rows
}

/// The number of an address's family.
pub(crate) fn family(address: IpAddr) -> u8 {
    if address.is_ipv6() { abi::family::V6 } else { abi::family::V4 }
}

/// An address as maps and events hold it.
pub(crate) fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// The node's own number, from 1.
fn node_number(node: NodeId) -> u32 {
    node.0.saturating_add(1)
}

/// What holds for the node as a whole.
fn settings(tables: &NodeTables, targets: usize) -> Result<abi::Settings, BackendError> {
    let (nat_first, nat_last) = tables.nat.ports;
    if nat_first > nat_last {
        return Err(contradiction(format!("translated ports {nat_first} to {nat_last}")));
    }
    let mut settings = abi::Settings {
        flags: flags(tables),
        target_base: 0,
        target_count: count(targets)?,
        tunnel_ifindex: tables.tunnel_ifindex,
        device_ifindex: tables.device_ifindex,
        host_target: targets::HOST,
        tunnel_port: tables.tunnel.port,
        nat_first,
        nat_last,
        node: node_number(tables.node),
        ..abi::Settings::default()
    };
    if let Some(Encryption::Ipsec { key }) = tables.encryption {
        settings.key = key;
    }
    for address in tables.nat.addresses.iter().flatten() {
        match address {
            IpAddr::V4(address) => settings.nat_address4 = address.octets(),
            IpAddr::V6(address) => settings.nat_address6 = address.octets(),
        }
    }
    Ok(settings)
}

/// [`abi::Settings::flags`].
fn flags(tables: &NodeTables) -> u32 {
    use abi::settings::{
        DUAL_STACK, ENCRYPT_NODES, HOST_FIREWALL, HOST_ROUTING, IPSEC, MASQUERADE, NAT4, NAT6,
        NATIVE, WIREGUARD,
    };
    let has = |is_v6: bool| {
        tables.nat.addresses.iter().flatten().any(|address| address.is_ipv6() == is_v6)
    };
    let encryption = tables.encryption;
    [
        (DUAL_STACK, tables.dual_stack),
        (HOST_ROUTING, tables.host_routing == HostRouting::Bpf),
        (MASQUERADE, tables.nat.masquerade),
        (NAT4, has(false)),
        (NAT6, has(true)),
        (NATIVE, tables.routing == Routing::Native),
        (HOST_FIREWALL, tables.host_firewall),
        (WIREGUARD, matches!(encryption, Some(Encryption::Wireguard { .. }))),
        (ENCRYPT_NODES, encryption == Some(Encryption::Wireguard { nodes: true })),
        (IPSEC, matches!(encryption, Some(Encryption::Ipsec { .. }))),
    ]
    .into_iter()
    .filter(|(_, is_set)| *is_set)
    .fold(0, |flags, (flag, _)| flags | flag)
}

/// The key of a prefix without bits beyond it.
fn prefix_key(prefix: IpNet, slot: u32) -> abi::IpcacheKey {
    let prefix = prefix.trunc();
    abi::IpcacheKey {
        prefixlen: abi::IPCACHE_STATIC_BITS + u32::from(prefix.prefix_len()),
        slot: u8::from(slot != 0),
        family: family(prefix.addr()),
        reserved: [0; 2],
        address: address_bytes(prefix.addr()),
    }
}

/// Rows of a map that is a set of prefixes.
fn prefixes(
    map: &str,
    prefixes: &[IpNet],
    slot: u32,
    limits: &Limits,
) -> Result<Vec<(abi::IpcacheKey, u32)>, BackendError> {
    let rows = distinct(prefixes.iter().map(|prefix| prefix_key(*prefix, slot)));
    room(map, rows.len(), limits.prefixes)?;
    Ok(rows)
}

fn ipcache_row(
    entry: &IpcacheEntry,
    slot: u32,
    targets: &Targets<'_>,
) -> Result<(abi::IpcacheKey, abi::IpcacheValue), BackendError> {
    if entry.entry.0 == 0 {
        return Err(contradiction(format!("ipcache entry 0 for {}", entry.prefix)));
    }
    let value = abi::IpcacheValue {
        identity: entry.identity.0,
        entry: entry.entry.0,
        target: targets.index(entry)?,
    };
    Ok((prefix_key(entry.prefix, slot), value))
}

#[cfg(test)]
mod tests;
