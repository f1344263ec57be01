//! A direction that the datapath decided as a question about policy alone: who the peer is, by the identity that the
//! datapath took it for. Judges nothing.

use std::net::IpAddr;

use crate::eval::{Posed, Who};
use crate::identity::Identity;
use crate::net::Direction;
use crate::tables::IdentityClass;
use crate::topology::{NodeId, Party, PodId};
use crate::trace::{Event, Hop, Trace};

use super::Context;
use super::seen::Seen;

/// The question that stands behind a decision.
pub(super) fn of(context: &Context<'_>, trace: &Trace, seen: &Seen) -> Option<Posed> {
    let hop = trace.hops.get(seen.hop)?;
    let endpoint = seen.endpoint?;
    let asked = hop.events.iter().find_map(|stamped| match stamped.event {
        Event::Policy { endpoint: id, direction, peer, protocol, port, .. } => {
            let entry = context.endpoint_entry(hop.node, id)?;
            let is_it = entry.endpoint == endpoint && direction == seen.decided.direction;
            is_it.then_some((peer, protocol, port))
        }
        _ => None,
    });
    let (identity, protocol, port) = asked?;
    Some(Posed {
        node: hop.node,
        endpoint,
        direction: seen.decided.direction,
        peer: who(context, hop.node, identity, address(hop, seen.decided.direction)?),
        protocol,
        port: protocol.has_ports().then_some(port),
        icmp: icmp(hop),
    })
}

/// The same question about somebody who comes under an address of its own.
pub(super) fn with_peer(
    context: &Context<'_>,
    trace: &Trace,
    seen: &Seen,
    address: IpAddr,
) -> Option<Posed> {
    let posed = of(context, trace, seen)?;
    let peer = match context.world.owner(address) {
        Some(Party::Pod(id)) => Who::Pod(id),
        Some(Party::Node(node)) if node == posed.node => Who::Host,
        Some(Party::Node(_)) => Who::RemoteNode,
        Some(Party::Health(node)) => Who::Health(node),
        _ => Who::Outside(address),
    };
    Some(Posed { peer: Some(peer), ..posed })
}

/// The peer's address as policy sees it: beyond a service, the backend's.
pub(super) fn address(hop: &Hop, direction: Direction) -> Option<IpAddr> {
    let mut events = hop.events.iter();
    events.find_map(|stamped| match (stamped.event, direction) {
        (Event::Parsed { flow, .. }, Direction::Ingress) => Some(flow.source),
        (Event::Identity { source_side: false, address, .. }, Direction::Egress) => Some(address),
        _ => None,
    })
}

fn icmp(hop: &Hop) -> Option<(u8, u8)> {
    hop.events.iter().find_map(|stamped| match stamped.event {
        Event::Parsed { icmp, .. } => icmp,
        _ => None,
    })
}

fn who(context: &Context<'_>, node: NodeId, identity: Identity, address: IpAddr) -> Option<Who> {
    Some(match identity {
        Identity::HOST => Who::Host,
        Identity::REMOTE_NODE => Who::RemoteNode,
        Identity::HEALTH => Who::Health(node),
        _ if identity.is_cidr() => Who::Outside(address),
        _ if identity.is_world() => Who::Forged(address),
        _ => Who::Pod(pod(context, identity, address)?),
    })
}

/// A pod with the identity, before others the one that has the address.
fn pod(context: &Context<'_>, identity: Identity, address: IpAddr) -> Option<PodId> {
    let IdentityClass::Pods { namespace, labels, .. } = context.tables.identities.get(&identity)?
    else {
        return None;
    };
    let has = |id: &PodId| {
        let pod = context.world.pod(*id);
        pod.is_some_and(|p| !p.host_network && p.namespace == *namespace && p.labels == *labels)
    };
    let owner = match context.world.owner(address) {
        Some(Party::Pod(id)) => Some(id),
        _ => None,
    };
    let ids = context.world.pods().map(|(id, _)| id);
    owner.filter(has).or_else(|| ids.into_iter().find(has))
}
