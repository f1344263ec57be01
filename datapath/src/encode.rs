//! What the kernel's maps hold for one node, from its tables: rows of `datapath_abi`'s layouts for one of
//! the two slots. Pure; writing them is the backend's. Knows no policy.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use datapath_abi as abi;
use engine::backend::BackendError;
use engine::identity::Identity;
use engine::tables::{
    EndpointEntry, EndpointId, IpcacheEntry, NodeTables, PolicyEntry, PolicyTable, TableId, Target,
};
use ipnet::IpNet;
use zerocopy::{Immutable, IntoBytes};

/// How many rows one slot may have in each map: half of what the map holds, for there are two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of `TARGETS`, and of `ATTACHMENTS`, which refers to targets.
    pub targets: usize,
    /// Of `IPCACHE`.
    pub ipcache: usize,
    /// Of `POLICY`.
    pub policy: usize,
}

/// One node's tables in one slot. Rows are sorted by the bytes of their keys, without duplicates.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// 0 or 1.
    pub number: u32,
    /// The node as a whole, with [`abi::Settings::target_base`] still 0: where targets lie in their map is
    /// known to whoever made it.
    pub settings: abi::Settings,
    /// Targets by index, from the slot's target 0.
    pub targets: Vec<abi::Target>,
    /// Addresses and prefixes.
    pub ipcache: Vec<(abi::IpcacheKey, abi::IpcacheValue)>,
    /// Devices and the indices of their endpoints' targets.
    pub attachments: Vec<(abi::AttachmentKey, u32)>,
    /// Entries of every policy table.
    pub policy: Vec<(abi::PolicyKey, abi::PolicyValue)>,
}

/// Index of the target that is the node itself.
const HOST_TARGET: u32 = 0;
/// Index of the target that is the node's routing.
const STACK_TARGET: u32 = 1;

/// Encodes a node's tables for a slot (0 or 1). Errors: a map has no room ([`BackendError::Full`]); tables
/// that contradict themselves, which is a bug of whoever compiled them ([`BackendError::System`]).
pub fn encode(tables: &NodeTables, slot: u32, limits: &Limits) -> Result<Slot, BackendError> {
    let slot = slot & 1;
    let (targets, index) = targets(tables, slot)?;
    room(abi::maps::TARGETS, targets.len(), limits.targets)?;
    let settings = abi::Settings {
        flags: if tables.dual_stack { abi::settings::DUAL_STACK } else { 0 },
        target_base: 0,
        target_count: count(targets.len())?,
        tunnel_ifindex: tables.tunnel_ifindex,
        tunnel_port: tables.tunnel.port,
        reserved: [0; 6],
    };
    room(abi::maps::IPCACHE, tables.ipcache.len(), limits.ipcache)?;
    let ipcache = tables.ipcache.iter().map(|entry| ipcache_row(entry, slot, &index));
    room(abi::maps::ATTACHMENTS, tables.endpoints.len(), limits.targets)?;
    let attachments = tables.endpoints.iter().map(|endpoint| {
        let key = abi::AttachmentKey { slot, ifindex: endpoint.ifindex };
        Ok((key, index.of(Target::Endpoint(endpoint.id))?))
    });
    let entries: usize = tables.policies.iter().map(|table| table.entries.len()).sum();
    room(abi::maps::POLICY, entries, limits.policy)?;
    let policy = tables.policies.iter().flat_map(|table| {
        let id = table.id;
        table.entries.iter().map(move |entry| policy_row(id, entry, slot))
    });
    Ok(Slot {
        number: slot,
        settings,
        ipcache: sorted(abi::maps::IPCACHE, ipcache)?,
        attachments: sorted(abi::maps::ATTACHMENTS, attachments)?,
        policy: sorted(abi::maps::POLICY, policy)?,
        targets,
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

fn count(length: usize) -> Result<u32, BackendError> {
    u32::try_from(length).map_err(|_| contradiction(format!("{length} targets")))
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

/// Where each target lies.
struct Index {
    endpoints: BTreeMap<EndpointId, u32>,
    remotes: BTreeMap<IpAddr, u32>,
}

impl Index {
    fn of(&self, target: Target) -> Result<u32, BackendError> {
        match target {
            Target::Host => Ok(HOST_TARGET),
            Target::Stack => Ok(STACK_TARGET),
            Target::Tunnel { remote, .. } => self
                .remotes
                .get(&remote)
                .copied()
                .ok_or_else(|| contradiction(format!("no tunnel to {remote}"))),
            Target::Endpoint(id) => self
                .endpoints
                .get(&id)
                .copied()
                .ok_or_else(|| contradiction(format!("no endpoint {}", id.0))),
        }
    }
}

/// All targets of a node: the node itself, its routing, the other nodes, its endpoints.
fn targets(tables: &NodeTables, slot: u32) -> Result<(Vec<abi::Target>, Index), BackendError> {
    let plain = |kind| abi::Target { kind, ..abi::Target::default() };
    let mut targets = vec![plain(abi::target::HOST), plain(abi::target::STACK)];
    let mut index = Index { endpoints: BTreeMap::new(), remotes: BTreeMap::new() };
    for entry in &tables.ipcache {
        let Target::Tunnel { remote, .. } = entry.target else { continue };
        if let Entry::Vacant(place) = index.remotes.entry(remote) {
            place.insert(count(targets.len())?);
            targets.push(with_address(plain(abi::target::TUNNEL), remote));
        }
    }
    let policies = tables.policies.iter().map(|table| (table.id, absent(table))).collect();
    for endpoint in &tables.endpoints {
        if index.endpoints.insert(endpoint.id, count(targets.len())?).is_some() {
            return Err(contradiction(format!("two endpoints {}", endpoint.id.0)));
        }
        targets.push(endpoint_target(&policies, endpoint, slot)?);
    }
    Ok((targets, index))
}

fn with_address(mut target: abi::Target, address: IpAddr) -> abi::Target {
    match address {
        IpAddr::V4(address) => {
            target.flags |= abi::target::HAS_V4;
            target.address4 = address.octets();
        }
        IpAddr::V6(address) => {
            target.flags |= abi::target::HAS_V6;
            target.address6 = address.octets();
        }
    }
    target
}

/// What a table has no entries of, as bits of [`abi::target`].
fn absent(table: &PolicyTable) -> u8 {
    let is_anyone = |entry: &PolicyEntry| entry.key.identity == Identity::ANY;
    let mut absent = 0;
    if table.entries.iter().all(is_anyone) {
        absent |= abi::target::NO_IDENTITY;
    }
    if !table.entries.iter().any(is_anyone) {
        absent |= abi::target::NO_ANYONE;
    }
    absent
}

fn endpoint_target(
    policies: &BTreeMap<TableId, u8>,
    endpoint: &EndpointEntry,
    slot: u32,
) -> Result<abi::Target, BackendError> {
    let id = endpoint.id.0;
    if id == 0 || endpoint.ifindex == 0 {
        return Err(contradiction(format!("endpoint {id} at device {}", endpoint.ifindex)));
    }
    let policy = |table: TableId| {
        let Some(absent) = policies.get(&table) else {
            return Err(contradiction(format!("endpoint {id} has no policy table {}", table.0)));
        };
        Ok((table_number(table, slot)?, absent))
    };
    let (egress, from_egress) = policy(endpoint.egress)?;
    let (ingress, from_ingress) = policy(endpoint.ingress)?;
    let mut target = abi::Target {
        kind: abi::target::ENDPOINT,
        endpoint: id,
        identity: endpoint.identity.0,
        ifindex: endpoint.ifindex,
        egress,
        ingress,
        flags: from_egress << abi::target::EGRESS_SHIFT
            | from_ingress << abi::target::INGRESS_SHIFT,
        mac: endpoint.mac.0,
        host_mac: endpoint.host_mac.0,
        ..abi::Target::default()
    };
    for address in &endpoint.addresses {
        let set = if address.is_ipv4() { abi::target::HAS_V4 } else { abi::target::HAS_V6 };
        if target.flags & set != 0 {
            return Err(contradiction(format!("endpoint {id} has two addresses of one family")));
        }
        target = with_address(target, *address);
    }
    Ok(target)
}

/// [`abi::PolicyKey::table`].
fn table_number(table: TableId, slot: u32) -> Result<u32, BackendError> {
    if table.0 == 0 || table.0 > u32::MAX >> 1 {
        return Err(contradiction(format!("policy table {}", table.0)));
    }
    Ok(table.0 << 1 | slot)
}

fn ipcache_row(
    entry: &IpcacheEntry,
    slot: u32,
    index: &Index,
) -> Result<(abi::IpcacheKey, abi::IpcacheValue), BackendError> {
    let prefix = entry.prefix.trunc();
    let (family, address) = match prefix {
        IpNet::V4(prefix) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&prefix.addr().octets());
            (abi::family::V4, bytes)
        }
        IpNet::V6(prefix) => (abi::family::V6, prefix.addr().octets()),
    };
    if entry.entry.0 == 0 {
        return Err(contradiction(format!("ipcache entry 0 for {prefix}")));
    }
    let key = abi::IpcacheKey {
        prefixlen: abi::IPCACHE_STATIC_BITS + u32::from(prefix.prefix_len()),
        slot: u8::from(slot != 0),
        family,
        reserved: [0; 2],
        address,
    };
    let value = abi::IpcacheValue {
        identity: entry.identity.0,
        entry: entry.entry.0,
        target: index.of(entry.target)?,
    };
    Ok((key, value))
}

fn policy_row(
    table: TableId,
    entry: &PolicyEntry,
    slot: u32,
) -> Result<(abi::PolicyKey, abi::PolicyValue), BackendError> {
    let key = entry.key;
    let wrong = |what: &str| {
        contradiction(format!("policy table {} entry {}: {what}", table.0, entry.entry.0))
    };
    if entry.entry.0 == 0 {
        return Err(wrong("not a number of an entry"));
    }
    if key.port_bits > 16 || (key.protocol.is_none() && key.port_bits != 0) {
        return Err(wrong("a port prefix that its protocol cannot have"));
    }
    if key.port_bits < 16 && key.port << key.port_bits != 0 {
        return Err(wrong("bits of the port beyond its prefix"));
    }
    let prefix_bits = if key.protocol.is_some() { 8 + key.port_bits } else { 0 };
    let number = key.protocol.map_or(0, engine::net::Protocol::number);
    if key.protocol.is_some() && number == 0 {
        return Err(wrong("protocol 0, which stands for any"));
    }
    let encoded = abi::PolicyKey {
        prefixlen: abi::POLICY_STATIC_BITS + u32::from(prefix_bits),
        table: table_number(table, slot)?,
        identity: key.identity.0,
        reserved: 0,
        protocol: number,
        port: key.port.to_be_bytes(),
    };
    let value = abi::PolicyValue {
        entry: entry.entry.0,
        flags: if entry.deny { abi::policy::DENY } else { 0 },
        prefix_bits,
        reserved: [0; 2],
    };
    Ok((encoded, value))
}

#[cfg(test)]
mod tests;
