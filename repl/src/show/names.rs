//! Names of things for listings: nodes, identities, selectors, peers and whom they match.

use std::collections::BTreeMap;

use engine::identity::Identity;
use engine::policy::{Namespaces, Peer, PeerKind, Policy, Selector, SubjectKind};
use engine::tables::{IdentityClass, Tables};
use engine::topology::{Labels, Namespace, NodeId, Pod, PodId, Service, ServiceId, World};

/// The node's name.
pub(crate) fn node(world: &World, id: NodeId) -> String {
    world.node(id).map_or_else(|| "?".to_owned(), |n| n.name.clone())
}

/// The pod's qualified name.
pub(crate) fn pod(world: &World, id: PodId) -> String {
    world.pod(id).map_or_else(|| "?".to_owned(), Pod::qualified)
}

/// The service's qualified name.
pub(crate) fn service(world: &World, id: ServiceId) -> String {
    world.service(id).map_or_else(|| "?".to_owned(), Service::qualified)
}

/// `{app=echo, tier=web}`
pub(super) fn labels(labels: &Labels) -> String {
    let parts: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{{{}}}", parts.join(", "))
}

/// What an identity stands for: `world`, `{app=echo} in web`, `cidr 10.9.0.0/16`.
pub(crate) fn meaning(tables: &Tables, identity: Identity) -> String {
    if identity == Identity::ANY {
        return "any".to_owned();
    }
    match tables.identities.get(&identity) {
        Some(IdentityClass::Pods { namespace, labels: of, variant }) => {
            let variant = if variant.is_empty() { String::new() } else { format!(", {variant}") };
            format!("{} in {namespace}{variant}", labels(of))
        }
        Some(class @ (IdentityClass::Cidr(_) | IdentityClass::Fqdn { .. })) => {
            class.outside().unwrap_or_default()
        }
        Some(IdentityClass::Reserved) | None => {
            identity.reserved_name().unwrap_or("unknown").to_owned()
        }
    }
}

/// `pods {app=echo} in web`: a selector after normalisation, the implied namespace written out.
pub(super) fn pods_in(selector: &Selector, scope: &Namespaces, own: Option<&str>) -> String {
    let place = match (scope, own) {
        (Namespaces::Own, Some(own)) => format!("in {own}"),
        (Namespaces::Named(name), _) => format!("in {name}"),
        (Namespaces::Matching(selector), _) => format!("in namespaces {selector}"),
        (Namespaces::Any, _) | (Namespaces::Own, None) => "in any namespace".to_owned(),
    };
    format!("pods {selector} {place}")
}

/// Whether a scope admits a namespace.
fn admits(scope: &Namespaces, own: Option<&str>, namespace: &Namespace) -> bool {
    match scope {
        Namespaces::Own => own.is_none_or(|own| own == namespace.name),
        Namespaces::Named(name) => *name == namespace.name,
        Namespaces::Matching(selector) => selector.matches(&namespace.labels),
        Namespaces::Any => true,
    }
}

/// Nodes that a policy selects.
pub(super) fn subject_nodes(world: &World, policy: &Policy) -> Vec<NodeId> {
    if policy.subject_kind != SubjectKind::Nodes {
        return Vec::new();
    }
    let selected = world.nodes().filter(|(_, node)| policy.subject.matches(&node.labels));
    selected.map(|(id, _)| id).collect()
}

/// Pods that a policy selects.
pub(super) fn subjects(world: &World, policy: &Policy) -> Vec<PodId> {
    if policy.subject_kind != SubjectKind::Pods {
        return Vec::new();
    }
    let own = policy.namespace.as_deref();
    let scope = &policy.subject_namespaces;
    world.select(&policy.subject, move |n| admits(scope, own, n)).map(|(id, _)| id).collect()
}

/// Pods that a peer matches; outside peers match none.
pub(super) fn peer_pods(world: &World, peer: &Peer, own: Option<&str>) -> Vec<PodId> {
    match &peer.kind {
        PeerKind::Pods { selector, namespaces } => {
            world.select(selector, |n| admits(namespaces, own, n)).map(|(id, _)| id).collect()
        }
        PeerKind::Service { namespace, name } => {
            let named =
                world.services.iter().find(|s| s.namespace == *namespace && s.name == *name);
            let pods = named.map(|s| world.select(&s.selector, |n| n.name == s.namespace));
            pods.into_iter().flatten().map(|(id, _)| id).collect()
        }
        PeerKind::Cidr { .. } | PeerKind::Dns(_) | PeerKind::Entity(_) => Vec::new(),
    }
}

/// A peer in words, the implied namespace written out.
pub(super) fn peer(peer: &Peer, own: Option<&str>) -> String {
    match &peer.kind {
        PeerKind::Pods { selector, namespaces } => pods_in(selector, namespaces, own),
        PeerKind::Cidr { net, except } if except.is_empty() => format!("cidr {net}"),
        PeerKind::Cidr { net, except } => {
            let holes: Vec<String> = except.iter().map(ToString::to_string).collect();
            format!("cidr {net} except {}", holes.join(", "))
        }
        PeerKind::Service { namespace, name } => format!("service {namespace}/{name}"),
        PeerKind::Dns(pattern) => format!("dns \"{pattern}\""),
        PeerKind::Entity(entity) => format!("entity {}", entity.word()),
    }
}

/// How many pods have each identity.
pub(super) fn population(tables: &Tables) -> BTreeMap<Identity, u64> {
    let mut counts = BTreeMap::new();
    for endpoint in tables.nodes.iter().flat_map(|n| &n.endpoints) {
        *counts.entry(endpoint.identity).or_insert(0) += 1;
    }
    counts
}
