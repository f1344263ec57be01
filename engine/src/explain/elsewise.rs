//! Where policy judged something else than what the question asked for: a source or a port that a node had translated, or the
//! packet of the tunnel around it.

use std::net::IpAddr;

use crate::eval::{Posed, pose};
use crate::net::Direction;
use crate::tables::Origin;
use crate::topology::TargetPort;
use crate::trace::{Event, Rewriting, Trace};
use crate::verdict::LegOutcome;

use super::obstacle::Obstacle;
use super::seen::{self, Seen};
use super::service::{self, Told};
use super::{Context, posed, wire};

/// What a policy that dropped the packet saw in place of what was asked for.
pub(super) fn of(context: &Context<'_>, trace: &Trace, legs: &[Seen]) -> Option<Obstacle> {
    tunnel_refused(context, trace, legs)
        .or_else(|| port_translated(context, trace, legs))
        .or_else(|| source_translated(context, trace, legs))
}

/// The packet of the tunnel, where a node's policy dropped that.
fn tunnel_refused(context: &Context<'_>, trace: &Trace, legs: &[Seen]) -> Option<Obstacle> {
    let leg = seen::refusing(legs)?;
    let hop = trace.hops.get(leg.hop).filter(|hop| hop.is_outer())?;
    let ends = wire::ends(&hop.frame_in)?;
    let direction = leg.decided.direction;
    let peer = hop.events.iter().find_map(|stamped| match stamped.event {
        Event::Policy { direction: of, peer, .. } if of == direction => Some(peer),
        _ => None,
    })?;
    Some(Obstacle::TunnelRefused {
        direction,
        source: ends.source.to_string(),
        destination: ends.destination.to_string(),
        port: format!("{}/{}", ends.destination.port, ends.protocol),
        peer: context.meaning(peer),
        denied: leg.decided.outcome == super::LegOutcome::Deny,
    })
}

/// The port of the frontend, where a rule would let the packet pass if it still had that.
fn port_translated(context: &Context<'_>, trace: &Trace, legs: &[Seen]) -> Option<Obstacle> {
    let is_unmet = |leg: &&Seen| leg.decided.outcome == super::LegOutcome::DefaultDeny;
    let leg = seen::refusing(legs).filter(is_unmet)?;
    let told = trace.hops.get(..=leg.hop)?.iter().find_map(|hop| service::told(context, hop))?;
    let (asked, port) = (told.frontend.port, told.backend?.port);
    let posed = posed::of(context, trace, leg)?;
    if asked == port || posed.port != Some(port) {
        return None;
    }
    let answer = pose(context.world, context.policies, &Posed { port: Some(asked), ..posed });
    let rule = answer.matching.iter().find_map(|origin| match origin {
        Origin::Rule(id) if answer.outcome == LegOutcome::Allow => Some(*id),
        _ => None,
    })?;
    Some(Obstacle::PortTranslated {
        service: context.service(told.service?),
        node: context.node(told.node),
        asked: format!("{asked}/{}", posed.protocol),
        port: format!("{port}/{}", posed.protocol),
        name: name(context, &told),
        rule: context.policies.rule_handle(rule),
        location: context.rule_location(rule),
    })
}

/// The backend's own name for the port that the packet goes to: the service's target before others.
fn name(context: &Context<'_>, told: &Told) -> Option<String> {
    let of = context.world.service(told.service?)?.ports.get(told.port?)?;
    if let TargetPort::Name(name) = &of.target {
        return Some(name.clone());
    }
    let pod = context.world.pod(context.backend_pod(told)?)?;
    let port = told.backend?.port;
    let found = pod.ports.iter().find(|own| (own.port, own.protocol) == (port, of.protocol))?;
    Some(found.name.clone())
}

/// Whose address a node replaced before the ingress policy that dropped the packet was asked.
pub(super) fn source_translated(
    context: &Context<'_>,
    trace: &Trace,
    legs: &[Seen],
) -> Option<Obstacle> {
    let (last, before) = trace.hops.split_last()?;
    let peer = last.events.iter().rev().find_map(|stamped| match stamped.event {
        Event::Policy { direction: Direction::Ingress, peer, .. } => Some(peer),
        _ => None,
    })?;
    let (node, rewriting, client, address) = before.iter().find_map(|hop| {
        hop.events.iter().find_map(|stamped| match stamped.event {
            Event::Rewritten {
                rewriting: rewriting @ (Rewriting::Masquerade | Rewriting::NodePort),
                before,
                after,
                ..
            } if before.address != after.address => {
                Some((hop.node, rewriting, before.address, after.address))
            }
            _ => None,
        })
    })?;
    let asked = before.iter().find_map(|hop| service::told(context, hop)?.service);
    let declared = asked.and_then(|id| context.world.service(id));
    Some(Obstacle::SourceTranslated {
        client: context.at(client),
        client_address: client.to_string(),
        node: context.node(node),
        address: address.to_string(),
        rewriting,
        peer: context.meaning(peer),
        admits_client: legs.last().is_some_and(|leg| admits(context, trace, leg, client)),
        service: asked.map(|id| context.service(id)),
        location: declared.map(|service| context.location(service.span)),
    })
}

/// Whether the direction would let somebody pass who came under an address of its own.
fn admits(context: &Context<'_>, trace: &Trace, leg: &Seen, client: IpAddr) -> bool {
    posed::with_peer(context, trace, leg, client).is_some_and(|posed| {
        let outcome = pose(context.world, context.policies, &posed).outcome;
        matches!(outcome, LegOutcome::Allow | LegOutcome::NotIsolated)
    })
}
