//! Policy and world to tables with provenance, checked against the datapath's limits. Never judges a
//! packet and never imports `eval`.
//!
//! Everything is decided by class, not by pod: selectors are held against identity classes, and endpoints
//! under the same policies get the same table, compiled once.

mod endpoints;
mod hash;
mod identities;
mod ipcache;
pub mod limits;
pub mod maglev;
mod peers;
mod policy;
mod ports;
mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::diag::{Code, Diagnostic};
use crate::net::Direction;
use crate::policy::PolicySet;
use crate::tables::{
    EndpointEntry, Generation, NatTables, NodeTables, PolicyEntry, PolicyTable, Provenance,
    TableId, Tables,
};
use crate::topology::{Node, NodeId, World};

use endpoints::Devices;
use identities::Identities;
use ipcache::Addresses;
use policy::{Compiled, Policies};
use services::Services;

/// `missing-field`: the front end reports it first.
const MISSING_FIELD: Code = Code(102);

/// Compiles. Errors are limits that the input exceeds, with the place that exceeds them, and pinned values
/// that two pods of a node share. The result depends on names and values only, never on file order
/// (but the backends of a set stand in the order of their pods).
pub fn compile(
    world: &World,
    policies: &PolicySet,
    generation: Generation,
) -> Result<Tables, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let identities = Identities::allot(world, policies, &mut diagnostics);
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let addresses = Addresses::collect(world, &identities);
    let mut tables = Tables { generation, identities: identities.names(), ..Tables::default() };
    let pods = endpoints::by_node(world);
    let mut compiled = Policies::new(world, policies, &identities);
    let mut services = Services::collect(world);
    for (id, node) in world.nodes() {
        let own = &pods[id.index()];
        let devices = Devices::allot(world, id, node, own, &identities, &mut diagnostics);
        let mut job = NodeJob { id, node, compiled: &mut compiled, diagnostics: &mut diagnostics };
        if let Some(mut built) = job.build(world, devices, &mut tables.provenance) {
            (built.frontends, built.backend_sets) = services.on(id, node);
            built.ipcache = addresses.on(world, id, &built.endpoints);
            limits::check_node(world, policies, node, &built, &mut diagnostics);
            tables.nodes.push(built);
        }
    }
    diagnostics.extend(compiled.into_diagnostics());
    if diagnostics.is_empty() { Ok(tables) } else { Err(diagnostics) }
}

/// Nodes reach each other over one family; this one has no address of it.
fn no_tunnel_end(world: &World, node: &Node) -> Diagnostic {
    let without_ipv4 = world.nodes.iter().find(|other| other.tunnel_end(false).is_none());
    let Some(other) = without_ipv4.filter(|_| !node.addresses.is_empty()) else {
        let message = format!("node `{}` has no address", node.name);
        return Diagnostic::error(MISSING_FIELD, message, node.span);
    };
    let message = format!("node `{}` has no IPv6 address for tunnels to run over", node.name);
    Diagnostic::error(MISSING_FIELD, message, node.span)
        .also(other.span, "this node has no IPv4 address, so that IPv6 is the underlay's family")
        .help("give every node an address of one family")
}

/// How a node translates sources.
fn nat(world: &World, node: &Node) -> NatTables {
    let (masquerade, native) = (&world.cluster.masquerade, &world.cluster.native_cidrs);
    let pods = world.nodes.iter().filter(|_| native.is_empty()).flat_map(|node| &node.pod_cidrs);
    let first = |is_ipv6| node.addresses.iter().copied().find(|own| own.is_ipv6() == is_ipv6);
    NatTables {
        masquerade: masquerade.on,
        addresses: [first(false), first(true)],
        ports: masquerade.ports,
        except: sorted(native.iter().chain(pods).chain(&masquerade.except)),
    }
}

/// Prefixes without bits of hosts, each once.
fn sorted<'w>(prefixes: impl Iterator<Item = &'w IpNet>) -> Vec<IpNet> {
    let mut prefixes: Vec<IpNet> = prefixes.map(IpNet::trunc).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}

/// The addresses that are a node itself: its own, and further ones that no service has.
fn locals(world: &World, node: &Node) -> Vec<IpAddr> {
    let of_service = |address: &IpAddr| {
        world.services.iter().any(|service| service.addresses().any(|own| own == *address))
    };
    let mut locals = node.addresses.clone();
    locals.extend(node.locals.iter().filter(|address| !of_service(address)));
    locals.sort_unstable();
    locals.dedup();
    locals
}

/// What one node's tables are made from.
struct NodeJob<'a, 'w> {
    id: NodeId,
    node: &'w Node,
    compiled: &'a mut Policies<'w>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl NodeJob<'_, '_> {
    /// Everything but the ipcache, which needs the endpoints, and services.
    fn build(
        &mut self,
        world: &World,
        devices: Devices,
        provenance: &mut Provenance,
    ) -> Option<NodeTables> {
        let over_ipv6 = world.tunnels_over_ipv6();
        let Some(tunnel_address) = self.node.tunnel_end(over_ipv6) else {
            self.diagnostics.push(no_tunnel_end(world, self.node));
            return None;
        };
        let mut shared = SharedTables::default();
        let mut endpoints = devices.endpoints;
        for endpoint in &mut endpoints {
            self.attach(endpoint, &mut shared, provenance);
        }
        Some(NodeTables {
            node: self.id,
            dual_stack: world.is_dual_stack(),
            routing: world.cluster.routing,
            host_routing: world.cluster.host_routing,
            tunnel: world.cluster.tunnel.clone(),
            tunnel_ifindex: devices.tunnel_ifindex,
            device_ifindex: devices.device_ifindex,
            host_ifindex: devices.host_ifindex,
            host_firewall: world.cluster.host_firewall,
            frontends: Vec::new(),
            backend_sets: Vec::new(),
            nat: nat(world, self.node),
            prefilter: sorted(world.cluster.prefilter.iter()),
            encryption: world.cluster.encryption,
            tunnel_address,
            locals: locals(world, self.node),
            tunnels: ipcache::tunnels(world, self.id),
            ipcache: Vec::new(),
            endpoints,
            policies: shared.tables,
        })
    }

    /// Gives an endpoint its two tables.
    fn attach(
        &mut self,
        endpoint: &mut EndpointEntry,
        shared: &mut SharedTables,
        provenance: &mut Provenance,
    ) {
        for direction in [Direction::Egress, Direction::Ingress] {
            let compiled = self.compiled.of(endpoint.endpoint, direction);
            let table = shared.id_of(&compiled);
            match direction {
                Direction::Egress => endpoint.egress = table,
                Direction::Ingress => endpoint.ingress = table,
            }
            provenance.record(self.id, endpoint.id, direction, Arc::clone(&compiled.origins));
        }
    }
}

/// A node's policy tables; equal ones are one.
#[derive(Default)]
struct SharedTables {
    tables: Vec<PolicyTable>,
    by_entries: HashMap<Arc<[PolicyEntry]>, TableId>,
    /// The same by address, so that entries of tables that were compiled once are not compared again.
    by_pointer: BTreeMap<usize, TableId>,
}

impl SharedTables {
    fn id_of(&mut self, compiled: &Compiled) -> TableId {
        let pointer = compiled.entries.as_ptr().addr();
        if !compiled.entries.is_empty()
            && let Some(id) = self.by_pointer.get(&pointer)
        {
            return *id;
        }
        let next = TableId(u32::try_from(self.tables.len() + 1).unwrap_or(u32::MAX));
        let id = *self.by_entries.entry(Arc::clone(&compiled.entries)).or_insert(next);
        if id == next {
            self.tables.push(PolicyTable { id, entries: compiled.entries.to_vec() });
        }
        self.by_pointer.insert(pointer, id);
        id
    }
}
