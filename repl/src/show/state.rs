//! `show endpoints`, `show tunnel`, `show ipcache`, `show conntrack`: what each node knows.

use engine::explain::FlowState;
use engine::net::FlowKey;
use engine::tables::{IpcacheEntry, IpcacheOrigin, NodeTables, Target};
use engine::topology::{NodeId, Routing};
use engine::trace::{ConntrackEntry, ConntrackKind};

use super::{View, names};
use crate::reply::{Cell, Listing};

fn chosen<'v>(view: &View<'v>, node: Option<NodeId>) -> impl Iterator<Item = &'v NodeTables> {
    view.tables.nodes.iter().filter(move |n| node.is_none_or(|wanted| wanted == n.node))
}

/// Endpoints as the datapath has them, then the addresses that are the node itself.
pub(super) fn endpoints(view: &View<'_>, node: Option<NodeId>) -> Listing {
    let mut listing = Listing::new(
        "endpoints",
        &[
            ("node", "NODE"),
            ("address", "IP"),
            ("endpoint", "ENDPOINT"),
            ("ifindex", "IFINDEX"),
            ("mac", "MAC"),
            ("hostMac", "NODE-MAC"),
            ("interface", "INTERFACE"),
            ("identity", "IDENTITY"),
            ("pod", "POD"),
        ],
    );
    for tables in chosen(view, node) {
        let name = names::node(view.world, tables.node);
        for endpoint in &tables.endpoints {
            for address in &endpoint.addresses {
                listing.rows.push(vec![
                    name.clone().into(),
                    address.to_string().into(),
                    endpoint.id.0.into(),
                    endpoint.ifindex.into(),
                    endpoint.mac.to_string().into(),
                    endpoint.host_mac.to_string().into(),
                    endpoint.interface.clone().into(),
                    endpoint.identity.0.into(),
                    view.world.endpoint_name(endpoint.endpoint).into(),
                ]);
            }
        }
        for address in &tables.locals {
            let mut row =
                vec![name.clone().into(), address.to_string().into(), "(localhost)".into()];
            row.resize(listing.columns.len(), Cell::None);
            listing.rows.push(row);
        }
    }
    listing
}

/// For each node the other nodes' pod prefixes and where their packets are tunneled to.
pub(super) fn tunnel(view: &View<'_>, node: Option<NodeId>) -> Listing {
    let mut listing = Listing::new(
        "tunnels",
        &[("node", "NODE"), ("prefix", "POD-PREFIX"), ("endpoint", "TUNNEL-ENDPOINT")],
    );
    for tables in chosen(view, node) {
        let name = names::node(view.world, tables.node);
        for (prefix, remote) in &tables.tunnels {
            listing.rows.push(vec![
                name.clone().into(),
                prefix.to_string().into(),
                remote.to_string().into(),
            ]);
        }
    }
    if view.world.cluster.routing == Routing::Native {
        listing.notes.push(
            "native routing: packets go to these addresses as they are, by no tunnel".to_owned(),
        );
    }
    listing
}

/// For each node its addresses and prefixes with their identities.
pub(super) fn ipcache(view: &View<'_>, node: Option<NodeId>) -> Listing {
    let mut listing = Listing::new(
        "ipcache entries",
        &[
            ("node", "NODE"),
            ("prefix", "PREFIX"),
            ("identity", "IDENTITY"),
            ("meaning", "MEANING"),
            ("target", "TARGET"),
            ("origin", "ORIGIN"),
            ("entry", "ENTRY"),
        ],
    );
    for tables in chosen(view, node) {
        for entry in &tables.ipcache {
            listing.rows.push(vec![
                names::node(view.world, tables.node).into(),
                entry.prefix.to_string().into(),
                entry.identity.0.into(),
                names::meaning(view.tables, entry.identity).into(),
                target(view, entry.target).into(),
                origin(view, entry).into(),
                entry.entry.0.into(),
            ]);
        }
    }
    listing
}

fn target(view: &View<'_>, target: Target) -> String {
    match target {
        Target::Endpoint(id) => format!("endpoint {}", id.0),
        Target::Tunnel { remote, .. } => format!("tunnel {remote}"),
        Target::Native { remote, .. } => format!("native {remote}"),
        Target::Host => "host".to_owned(),
        Target::Stack => "stack".to_owned(),
        Target::Service(id) => format!("service {}", names::service(view.world, id)),
    }
}

fn origin(view: &View<'_>, entry: &IpcacheEntry) -> String {
    match &entry.origin {
        IpcacheOrigin::Pod(pod) => format!("pod {}", names::pod(view.world, *pod)),
        IpcacheOrigin::PodPrefix(node) => format!("pods of {}", names::node(view.world, *node)),
        IpcacheOrigin::Node(node) => format!("node {}", names::node(view.world, *node)),
        IpcacheOrigin::Health(node) => format!("health of {}", names::node(view.world, *node)),
        IpcacheOrigin::Service(id) => format!("service {}", names::service(view.world, *id)),
        IpcacheOrigin::Cidr(rules) => {
            let rules: Vec<String> = rules.iter().map(|r| view.policies.rule_handle(*r)).collect();
            format!("named by {}", rules.join(", "))
        }
        IpcacheOrigin::World => "everything else".to_owned(),
    }
}

/// Flows that conntrack knows.
pub(super) fn conntrack(view: &View<'_>, entries: &[(NodeId, Vec<ConntrackEntry>)]) -> Listing {
    let mut listing = Listing::new(
        "conntrack entries",
        &[
            ("node", "NODE"),
            ("protocol", "PROTOCOL"),
            ("source", "SOURCE"),
            ("destination", "DESTINATION"),
            ("kind", "KIND"),
            ("leadsTo", "LEADS-TO"),
            ("state", "STATE"),
            ("expiresIn", "EXPIRES-IN"),
            ("packets", "PACKETS"),
            ("replies", "REPLIES"),
            ("remembered", "REMEMBERED"),
        ],
    );
    for (node, entries) in entries {
        let name = names::node(view.world, *node);
        // What has expired is forgotten, whatever the table still holds of it.
        let known = entries.iter().filter(|entry| entry.expires_in > 0);
        listing.rows.extend(known.map(|entry| flow(&name, entry)));
    }
    listing
}

/// What an entry is for, and where it leads: the backend, the translated source, the frontend that answers get.
fn kind(kind: ConntrackKind) -> (&'static str, Option<String>) {
    match kind {
        ConntrackKind::Plain => ("flow", None),
        ConntrackKind::Translated { loopback: true, .. } => ("loopback", None),
        ConntrackKind::Translated { frontend, .. } => {
            ("translated", frontend.map(|place| format!("from {place}")))
        }
        ConntrackKind::Service { backend } => ("service", Some(backend.to_string())),
        ConntrackKind::Nat { source } => ("nat", Some(source.to_string())),
    }
}

fn flow(node: &str, entry: &ConntrackEntry) -> Vec<Cell> {
    let FlowKey { source, destination, protocol, source_port, destination_port } = entry.flow;
    let end = |address, port| match port {
        0 => format!("{address}"),
        _ => std::net::SocketAddr::new(address, port).to_string(),
    };
    let (kind, leads_to) = kind(entry.kind);
    let remembered = entry.remembered.iter();
    let remembered = remembered.map(|(direction, entry, generation)| {
        format!("{direction} entry {} of generation {}", entry.0, generation.0)
    });
    vec![
        node.into(),
        protocol.to_string().into(),
        end(source, source_port).into(),
        end(destination, destination_port).into(),
        kind.into(),
        leads_to.into(),
        FlowState::of(entry).map(|state| state.to_string()).into(),
        format!("{}s", entry.expires_in).into(),
        entry.forward.0.into(),
        entry.replies.0.into(),
        remembered.collect::<Vec<_>>().into(),
    ]
}
