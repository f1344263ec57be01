//! What addresses lead to: the node itself, its routing, other nodes, services and endpoints, with the ranges in which
//! hits of endpoints' tables are counted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use datapath_abi as abi;
use engine::backend::BackendError;
use engine::net::Direction;
use engine::tables::{
    EndpointEntry, EndpointId, IpcacheEntry, IpcacheOrigin, NodeTables, PolicyTable, TableId,
    Target,
};
use engine::topology::{Endpoint, NodeId};

use super::{HitRange, contradiction, count, node_number, policy};

/// Index of the target that is the node itself.
pub(super) const HOST: u32 = 0;
/// Index of the target that is the node's routing.
const STACK: u32 = 1;
/// Index of the target that is every service.
const SERVICE: u32 = 2;

/// What a table is like to a target.
struct Table {
    /// [`policy::absent`].
    absent: u8,
    entries: usize,
}

/// All targets of a node.
pub(super) struct Targets<'a> {
    here: NodeId,
    /// Where nodes are reached through the tunnel.
    nodes: &'a BTreeMap<NodeId, IpAddr>,
    pub(super) rows: Vec<abi::Target>,
    pub(super) hits: Vec<HitRange>,
    /// Devices of endpoints, with the indices of these.
    pub(super) attachments: Vec<(u32, u32)>,
    endpoints: BTreeMap<EndpointId, u32>,
    others: BTreeMap<Other, u32>,
    /// The next index in the slot's part of `HITS`.
    next_hit: u32,
}

/// Another node or its pods, by a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Other {
    kind: u8,
    address: IpAddr,
    node: NodeId,
}

impl<'a> Targets<'a> {
    /// Of a node's tables. `hits`: how many indices the slot has for hits.
    pub(super) fn of(
        tables: &NodeTables,
        nodes: &'a BTreeMap<NodeId, IpAddr>,
        slot: u32,
        hits: usize,
    ) -> Result<Self, BackendError> {
        let plain = |kind| abi::Target { kind, ..abi::Target::default() };
        let fixed = [abi::target::HOST, abi::target::STACK, abi::target::SERVICE];
        let mut targets = Self {
            here: tables.node,
            nodes,
            rows: fixed.map(plain).to_vec(),
            hits: Vec::new(),
            attachments: Vec::new(),
            endpoints: BTreeMap::new(),
            others: BTreeMap::new(),
            next_hit: 1,
        };
        for way in
            tables.ipcache.iter().filter_map(|entry| targets.other(entry)).collect::<Vec<_>>()
        {
            if let Entry::Vacant(place) = targets.others.entry(way) {
                place.insert(count(targets.rows.len())?);
                let row = abi::Target { node: node_number(way.node), ..plain(way.kind) };
                targets.rows.push(with_address(row, way.address));
            }
        }
        let like = |table: &PolicyTable| Table {
            absent: policy::absent(table),
            entries: table.entries.len(),
        };
        let policies = tables.policies.iter().map(|table| (table.id, like(table))).collect();
        for endpoint in &tables.endpoints {
            targets.add(endpoint, &policies, slot, hits)?;
        }
        Ok(targets)
    }

    /// What another node's address leads to, if the entry is for one.
    fn other(&self, entry: &IpcacheEntry) -> Option<Other> {
        match (entry.target, &entry.origin) {
            (Target::Tunnel { remote, node }, _) => {
                Some(Other { kind: abi::target::TUNNEL, address: remote, node })
            }
            (Target::Native { remote, node }, _) => {
                Some(Other { kind: abi::target::NATIVE, address: remote, node })
            }
            (Target::Stack, IpcacheOrigin::Node(node)) if *node != self.here => {
                let address = self.nodes.get(node).copied();
                let address = address.unwrap_or_else(|| entry.prefix.addr());
                Some(Other { kind: abi::target::NODE, address, node: *node })
            }
            _ => None,
        }
    }

    /// Index of what an entry leads to.
    pub(super) fn index(&self, entry: &IpcacheEntry) -> Result<u32, BackendError> {
        if let Some(index) = self.other(entry).and_then(|other| self.others.get(&other)) {
            return Ok(*index);
        }
        match entry.target {
            Target::Host => Ok(HOST),
            Target::Stack => Ok(STACK),
            Target::Service(_) => Ok(SERVICE),
            Target::Endpoint(id) => self
                .endpoints
                .get(&id)
                .copied()
                .ok_or_else(|| contradiction(format!("no endpoint {}", id.0))),
            Target::Tunnel { remote, .. } | Target::Native { remote, .. } => {
                Err(contradiction(format!("no way to {remote}")))
            }
        }
    }

    /// Adds an endpoint; of the host only its tables, to the target that is the node.
    fn add(
        &mut self,
        endpoint: &EndpointEntry,
        policies: &BTreeMap<TableId, Table>,
        slot: u32,
        hits: usize,
    ) -> Result<(), BackendError> {
        let id = endpoint.id.0;
        if id == 0 || endpoint.ifindex == 0 {
            return Err(contradiction(format!("endpoint {id} at device {}", endpoint.ifindex)));
        }
        let is_host = matches!(endpoint.endpoint, Endpoint::Host(_));
        let index = if is_host { HOST } else { count(self.rows.len())? };
        if self.endpoints.insert(endpoint.id, index).is_some() {
            return Err(contradiction(format!("two endpoints {id}")));
        }
        let mut row = self.policed(endpoint, policies, slot, hits)?;
        if is_host {
            if let Some(place) = self.rows.get_mut(HOST as usize) {
                *place = abi::Target { kind: abi::target::HOST, ..row };
            }
            return Ok(());
        }
        row.kind = abi::target::ENDPOINT;
        row.ifindex = endpoint.ifindex;
        row.mac = endpoint.mac.0;
        row.host_mac = endpoint.host_mac.0;
        for address in &endpoint.addresses {
            let set = if address.is_ipv4() { abi::target::HAS_V4 } else { abi::target::HAS_V6 };
            if row.flags & set != 0 {
                return Err(contradiction(format!(
                    "endpoint {id} has two addresses of one family"
                )));
            }
            row = with_address(row, *address);
        }
        self.rows.push(row);
        self.attachments.push((endpoint.ifindex, index));
        Ok(())
    }

    /// An endpoint as policies see it.
    fn policed(
        &mut self,
        endpoint: &EndpointEntry,
        policies: &BTreeMap<TableId, Table>,
        slot: u32,
        hits: usize,
    ) -> Result<abi::Target, BackendError> {
        let id = endpoint.id;
        let mut policy = |table: TableId, direction| {
            let Some(like) = policies.get(&table) else {
                let error = format!("endpoint {} has no policy table {}", id.0, table.0);
                return Err(contradiction(error));
            };
            let first = self.count_hits(id, direction, like.entries, hits)?;
            Ok((policy::table_number(table, slot)?, like.absent, first))
        };
        let (egress, from_egress, egress_hits) = policy(endpoint.egress, Direction::Egress)?;
        let (ingress, from_ingress, ingress_hits) = policy(endpoint.ingress, Direction::Ingress)?;
        Ok(abi::Target {
            endpoint: id.0,
            identity: endpoint.identity.0,
            egress,
            ingress,
            flags: from_egress << abi::target::EGRESS_SHIFT
                | from_ingress << abi::target::INGRESS_SHIFT,
            egress_hits,
            ingress_hits,
            ..abi::Target::default()
        })
    }

    /// Takes indices for a table's hits: the first of them, or 0 where there are not enough.
    fn count_hits(
        &mut self,
        endpoint: EndpointId,
        direction: Direction,
        entries: usize,
        hits: usize,
    ) -> Result<u32, BackendError> {
        let (first, length) = (self.next_hit, count(entries)?.saturating_add(1));
        let next = first.saturating_add(length);
        if next as usize > hits {
            return Ok(0);
        }
        self.next_hit = next;
        self.hits.push(HitRange { endpoint, direction, first, count: length });
        Ok(first)
    }
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
