//! Whom a rule is about, held against who is there: pods, entities, prefixes, with the first condition that
//! fails in words. Never ports and never an action.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::policy::{
    Entity, Namespaces, Peer, PeerKind, Policy, Requirement, Selector, SubjectKind,
};
use crate::source::Span;
use crate::topology::{Endpoint, Labels, NodeId, Pod, PodId, World};

use super::path::{self, Lead};
use super::services::stands_behind;
use super::{Check, Mismatch};

/// Who is at the other side of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A pod with a network of its own.
    Pod(PodId),
    /// The endpoint's node, host-network pods included.
    Host,
    /// Another node.
    RemoteNode,
    /// Outside the cluster, or an address that nobody has.
    Outside(IpAddr),
    /// The health endpoint of a node.
    Health(NodeId),
    /// The world whatever the address says: an address of the endpoint's own node that came from outside, or what
    /// another node passed on for the world by the tunnel. In no prefix but that of everything.
    Forged(IpAddr),
}

impl Who {
    /// Who has an address, as seen from a node.
    pub(super) fn has(world: &World, node: NodeId, address: IpAddr) -> Self {
        match path::lead(world, Some(node), address) {
            Lead::Endpoint(Endpoint::Pod(id), _) => Self::Pod(id),
            Lead::Endpoint(Endpoint::Health(id), _) => Self::Health(id),
            Lead::Node(id) | Lead::Endpoint(Endpoint::Host(id), _) if id == node => Self::Host,
            Lead::Node(_) | Lead::Endpoint(Endpoint::Host(_), _) => Self::RemoteNode,
            Lead::Service(_) | Lead::Nobody(_) | Lead::Outside => Self::Outside(address),
        }
    }
}

/// Whether a policy is about an endpoint. Health endpoints are nobody's subject.
pub(super) fn is_subject(world: &World, policy: &Policy, endpoint: Endpoint) -> bool {
    let (subject, namespaces) = (&policy.subject, &policy.subject_namespaces);
    match (policy.subject_kind, endpoint) {
        (SubjectKind::Pods, Endpoint::Pod(id)) => world
            .pod(id)
            .is_some_and(|pod| pod_mismatch(world, policy, subject, namespaces, pod).is_none()),
        (SubjectKind::Nodes, Endpoint::Host(id)) => {
            world.node(id).is_some_and(|node| subject.matches(&node.labels))
        }
        _ => false,
    }
}

/// What of a pod peer does not hold: a label, or the namespace.
enum Missing<'a> {
    Label(&'a Requirement),
    Namespace,
}

fn pod_mismatch<'a>(
    world: &World,
    policy: &Policy,
    selector: &'a Selector,
    namespaces: &'a Namespaces,
    pod: &Pod,
) -> Option<Missing<'a>> {
    if pod.host_network {
        return Some(Missing::Namespace);
    }
    let lives = &pod.namespace;
    let inside = match namespaces {
        // A policy of no namespace means all of them.
        Namespaces::Own => policy.namespace.as_ref().is_none_or(|own| own == lives),
        Namespaces::Named(name) => name == lives,
        Namespaces::Matching(labels) => {
            let known = world.namespace(lives);
            match known.map(|namespace| labels.first_failure(&namespace.labels)) {
                Some(None) => true,
                Some(Some(requirement)) => return Some(Missing::Label(requirement)),
                None => false,
            }
        }
        Namespaces::Any => true,
    };
    if !inside {
        return Some(Missing::Namespace);
    }
    selector.first_failure(&pod.labels).map(Missing::Label)
}

/// Holds a rule's peers against who is there. One of them must hold; of a single one, the mismatch points at
/// the very condition that fails.
pub(super) fn check(
    world: &World,
    policy: &Policy,
    name: &'static str,
    peers: &[Peer],
    rule: Span,
    who: Who,
) -> Check {
    let mut spans = Vec::new();
    for peer in peers {
        match failing(world, policy, peer, who) {
            None => return Check { name, mismatch: None },
            Some(span) => spans.push(span),
        }
    }
    let span = match (peers, spans.as_slice()) {
        ([], _) => rule,
        (_, [only]) => *only,
        ([first, .., last], _) => first.span.to(last.span),
        ([only], _) => only.span,
    };
    let wants = match peers {
        [] => "nobody".to_owned(),
        peers => {
            let words: Vec<_> = peers.iter().map(|peer| peer_words(policy, peer)).collect();
            words.join(" or ")
        }
    };
    let with_address = |p: &Peer| matches!(p.kind, PeerKind::Cidr { .. } | PeerKind::Dns(_));
    let is = who_words(world, who, peers.iter().any(with_address)) + &name_words(world, peers, who);
    Check { name, mismatch: Some(Mismatch { span, wants, is }) }
}

/// Where the peer's failing condition is written; `None` where the peer holds.
fn failing(world: &World, policy: &Policy, peer: &Peer, who: Who) -> Option<Span> {
    let holds = match &peer.kind {
        PeerKind::Pods { selector, namespaces } => {
            let Who::Pod(id) = who else { return Some(peer.span) };
            let Some(pod) = world.pod(id) else { return Some(peer.span) };
            return match pod_mismatch(world, policy, selector, namespaces, pod)? {
                Missing::Label(requirement) => Some(requirement.span),
                Missing::Namespace => Some(peer.span),
            };
        }
        PeerKind::Cidr { net, except } => match who {
            Who::Outside(address) => {
                net.contains(&address) && !except.iter().any(|hole| hole.contains(&address))
            }
            // The prefix of everything is the world itself; what is in no other prefix is in no other hole.
            Who::Forged(address) => {
                let is_all = |net: &IpNet| net.prefix_len() == 0 && net.contains(&address);
                is_all(net) && !except.iter().any(is_all)
            }
            Who::Pod(_) | Who::Host | Who::RemoteNode | Who::Health(_) => false,
        },
        // What is known of a name is known of addresses outside, whole and unforged.
        PeerKind::Dns(pattern) => match who {
            Who::Outside(address) => {
                world.names_of(address).any(|(_, fact)| pattern.matches(&fact.name))
            }
            _ => false,
        },
        PeerKind::Entity(entity) => is_member(world, *entity, who),
        PeerKind::Service { namespace, name } => {
            let Who::Pod(id) = who else { return Some(peer.span) };
            let pod = world.pod(id);
            let mut named =
                world.services.iter().filter(|s| s.namespace == *namespace && s.name == *name);
            pod.is_some_and(|pod| named.any(|service| stands_behind(service, pod)))
        }
    };
    (!holds).then_some(peer.span)
}

/// Members as in the reference: `world` is both families whatever the cluster, and an entity of one family
/// exists only where the cluster has both, since otherwise the world is one identity.
fn is_member(world: &World, entity: Entity, who: Who) -> bool {
    match (entity, who) {
        (Entity::All, _)
        | (Entity::World, Who::Outside(_) | Who::Forged(_))
        | (Entity::Cluster, Who::Pod(_) | Who::Host | Who::RemoteNode | Who::Health(_))
        | (Entity::Health, Who::Health(_))
        | (Entity::Host, Who::Host)
        | (Entity::RemoteNode, Who::RemoteNode) => true,
        (Entity::WorldIpv4, Who::Outside(address) | Who::Forged(address)) => {
            world.is_dual_stack() && address.is_ipv4()
        }
        (Entity::WorldIpv6, Who::Outside(address) | Who::Forged(address)) => {
            world.is_dual_stack() && address.is_ipv6()
        }
        // Nobody of the model is an API server, an ingress proxy, or without an identity.
        _ => false,
    }
}

fn peer_words(policy: &Policy, peer: &Peer) -> String {
    match &peer.kind {
        PeerKind::Pods { selector, namespaces } => {
            format!("pods {selector} {}", namespace_words(policy, namespaces))
        }
        PeerKind::Cidr { net, except } if except.is_empty() => format!("cidr {net}"),
        PeerKind::Cidr { net, except } => {
            let holes: Vec<_> = except.iter().map(ToString::to_string).collect();
            format!("cidr {net} except {}", holes.join(", "))
        }
        PeerKind::Entity(Entity::None) => "nobody".to_owned(),
        PeerKind::Entity(entity) => entity.word().to_owned(),
        PeerKind::Service { namespace, name } => format!("service {namespace}/{name}"),
        PeerKind::Dns(pattern) => format!("dns \"{pattern}\""),
    }
}

/// How many known addresses of names are told.
const MOST_NAMES: usize = 3;

/// What is known about names, where a rule asks for some and the peer is outside.
fn name_words(world: &World, peers: &[Peer], who: Who) -> String {
    let (Who::Outside(address) | Who::Forged(address)) = who else { return String::new() };
    let patterns = || {
        peers.iter().filter_map(|peer| match &peer.kind {
            PeerKind::Dns(pattern) => Some(pattern),
            _ => None,
        })
    };
    if patterns().next().is_none() {
        return String::new();
    }
    let own: Vec<&str> = world.names_of(address).map(|(_, fact)| fact.name.as_str()).collect();
    let own = match own.as_slice() {
        [] => ", no known address of such a name".to_owned(),
        own => format!(", known as {}", own.join(", ")),
    };
    let known: Vec<String> = patterns()
        .flat_map(|pattern| world.named(pattern))
        .map(|(fact, address)| format!("{} {address}", fact.name))
        .collect();
    let more = known.len().saturating_sub(MOST_NAMES);
    let shown = known.get(..MOST_NAMES.min(known.len())).unwrap_or_default().join(", ");
    match (known.len(), more) {
        (0, _) => format!("{own} (known: none)"),
        (_, 0) => format!("{own} (known: {shown})"),
        _ => format!("{own} (known: {shown} and {more} more)"),
    }
}

fn namespace_words(policy: &Policy, namespaces: &Namespaces) -> String {
    match (namespaces, &policy.namespace) {
        (Namespaces::Own, Some(name)) | (Namespaces::Named(name), _) => format!("in {name}"),
        (Namespaces::Matching(labels), _) => format!("in namespaces {labels}"),
        (Namespaces::Own, None) | (Namespaces::Any, _) => "in any namespace".to_owned(),
    }
}

fn who_words(world: &World, who: Who, with_address: bool) -> String {
    match who {
        Who::Pod(id) => match world.pod(id) {
            Some(pod) => format!("pod {} {}", pod.qualified(), label_words(&pod.labels)),
            None => "a pod".to_owned(),
        },
        Who::Host => Entity::Host.word().to_owned(),
        Who::RemoteNode => Entity::RemoteNode.word().to_owned(),
        Who::Health(_) => Entity::Health.word().to_owned(),
        Who::Outside(address) | Who::Forged(address) => {
            let entity = match (world.is_dual_stack(), address) {
                (false, _) => Entity::World,
                (true, IpAddr::V4(_)) => Entity::WorldIpv4,
                (true, IpAddr::V6(_)) => Entity::WorldIpv6,
            };
            let name = entity.word();
            if with_address { format!("{name} {address}") } else { name.to_owned() }
        }
    }
}

fn label_words(labels: &Labels) -> String {
    let pairs: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{{{}}}", pairs.join(", "))
}
