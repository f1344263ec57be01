//! What the datapath decided, read from its events: the end of the journey, and each direction with the
//! origins of the entry that won. Attribution is provenance's; nothing is looked up a second time.

use crate::eval::Choices;
use crate::identity::Identity;
use crate::net::{Direction, Hook, Protocol, icmp};
use crate::reason::DropReason;
use crate::tables::{EndpointId, EntryId, Implied, NodeTables, Origin};
use crate::topology::{Endpoint, NodeId};
use crate::trace::{Action, Choice, CtState, Event, Hop, PolicyOutcome, Rewriting, Trace};

use super::{Context, Decided, DropPlace, LegOutcome, Undecided, Verdict, wire};

/// What the datapath chose where it may choose freely, for the oracle to take over.
pub fn choices(trace: &Trace) -> Choices {
    let events = || trace.hops.iter().flat_map(|hop| &hop.events).map(|stamped| stamped.event);
    let chosen = events().find_map(|event| match event {
        Event::Service { backend: Some(backend), choice, .. } => Some((backend, choice)),
        _ => None,
    });
    let (backend, choice) = chosen.unzip();
    let is_forced = choice == Some(Choice::Forced);
    let mut sources = events().filter_map(|event| match event {
        Event::Rewritten {
            rewriting: Rewriting::Masquerade | Rewriting::NodePort, after, ..
        } => Some(after),
        _ => None,
    });
    let tunneled =
        trace.hops.iter().filter(|hop| matches!(hop.action(), Some(Action::Tunnel { .. })));
    let mut ports = tunneled.map(|hop| hop.tunnel.as_ref().map(|header| header.source_port));
    let mut next = || ports.next().flatten();
    let tunnel_ports = [next(), next(), next()];
    Choices { backend, is_forced, sources: [sources.next(), sources.next()], tunnel_ports }
}

/// What decides where ICMPv4's "fragmentation needed" passes policy.
pub(super) const FRAGMENTATION_NEEDED: &str = "fragmentation-needed";

/// How the journey ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It got through.
    Allowed,
    /// It was dropped.
    Dropped(DropReason),
    /// It cannot be said.
    Unknown(Undecided),
}

impl End {
    /// The verdict's word.
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Self::Allowed => Verdict::Allowed,
            Self::Dropped(_) => Verdict::Dropped,
            Self::Unknown(_) => Verdict::Undecided,
        }
    }
}

/// The end of a journey. Whatever was not observed makes it unknown: never a false green.
pub(super) fn end(context: &Context<'_>, trace: &Trace) -> End {
    if trace.lost > 0 {
        return End::Unknown(Undecided::EventsLost);
    }
    let generation = context.tables.generation;
    let foreign = |hop: &Hop| hop.events.iter().any(|e| e.generation != generation);
    if trace.generation != generation || trace.hops.iter().any(foreign) {
        return End::Unknown(Undecided::OtherGeneration);
    }
    let mut last = None;
    for hop in &trace.hops {
        match hop.action() {
            None => return End::Unknown(Undecided::OutcomeNotSeen),
            Some(Action::Drop(reason)) => return End::Dropped(reason),
            Some(action) => last = Some((hop, action)),
        }
    }
    if let Some(reason) = trace.refused {
        return End::Dropped(reason);
    }
    match last {
        None => End::Unknown(Undecided::OutcomeNotSeen),
        Some(_) if trace.unseen.is_some() => End::Unknown(Undecided::NotObserved),
        Some((hop, action)) if is_unfollowed(hop, action) || is_for_nobody(context, hop) => {
            End::Unknown(Undecided::NotFollowed)
        }
        Some(_) => End::Allowed,
    }
}

/// Whether the last hop sent the packet on, and nobody saw where to. What a node answers itself without being its destination
/// (ARP, neighbour discovery) has arrived.
fn is_unfollowed(hop: &Hop, action: Action) -> bool {
    let is_routed = match action {
        Action::Tunnel { .. } | Action::Network { .. } => return true,
        Action::Stack { host } => !host,
        Action::Pass => {
            let hooks = [Hook::FromHost, Hook::FromNetdev, Hook::FromOverlay, Hook::ToOverlay];
            hooks.contains(&hop.hook)
        }
        Action::Deliver { .. } | Action::Drop(_) => false,
    };
    is_routed && wire::ends(&hop.frame_out).is_some() && !is_discovery(hop)
}

/// Whether the packet left by the device though the node's own pods have the prefix: no such route leads there.
fn is_for_nobody(context: &Context<'_>, hop: &Hop) -> bool {
    let own = context.world.node(hop.node).filter(|_| hop.hook == Hook::ToNetdev);
    let to = wire::ends(&hop.frame_out).map(|ends| ends.destination.address);
    own.zip(to).is_some_and(|(node, to)| {
        node.pod_cidrs.iter().any(|prefix| prefix.contains(&to))
            && context.world.owner(to).is_none()
    })
}

/// Neighbour discovery (RFC 4861 4).
fn is_discovery(hop: &Hop) -> bool {
    wire::message(&hop.frame_out)
        .is_some_and(|(protocol, kind)| protocol == Protocol::Icmpv6 && (133..=137).contains(&kind))
}

/// One direction as the events show it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Which hop.
    pub(super) hop: usize,
    /// Whose policy; `None` for an endpoint that the tables do not know.
    pub(super) endpoint: Option<Endpoint>,
    /// What conntrack said, where it was asked.
    pub(super) state: Option<CtState>,
    /// The origin that the answer names; `None` where policy was skipped or nothing is known to stand
    /// behind the entry.
    pub(super) origin: Option<Origin>,
    /// The decision with names.
    pub(super) decided: Decided,
}

/// Every direction of a journey, in the order they were decided.
pub(super) fn legs(context: &Context<'_>, trace: &Trace) -> Vec<Seen> {
    trace.hops.iter().enumerate().flat_map(|(at, hop)| legs_of(context, at, hop)).collect()
}

/// The directions of one hop: those that policy decided, or those that conntrack let through without it.
fn legs_of(context: &Context<'_>, at: usize, hop: &Hop) -> Vec<Seen> {
    let asked: Vec<Seen> =
        hop.events.iter().filter_map(|s| judged(context, at, hop, &s.event)).collect();
    if !asked.is_empty() {
        return asked;
    }
    let state = state_of(hop);
    let outcome = match state {
        Some(CtState::Reply) => LegOutcome::Reply,
        Some(CtState::Related) => LegOutcome::Related,
        _ => return Vec::new(),
    };
    let skipped = skipped_by(context, hop).into_iter();
    skipped
        .map(|(endpoint, direction)| Seen {
            hop: at,
            endpoint: context.endpoint_entry(hop.node, endpoint).map(|e| e.endpoint),
            state,
            origin: None,
            decided: Decided {
                implied: Some(outcome.to_string()),
                ..undecorated(context, hop.node, endpoint, direction, outcome)
            },
        })
        .collect()
}

/// What conntrack said at a hop.
pub(super) fn state_of(hop: &Hop) -> Option<CtState> {
    hop.events.iter().find_map(|s| match s.event {
        Event::Conntrack { state, .. } => Some(state),
        _ => None,
    })
}

/// Whose policies a hop would have asked: the attached pod's egress, and the ingress of whoever got the packet; with the host
/// firewall, the node's own as well. A pod that speaks to itself by a service asks nobody.
fn skipped_by(context: &Context<'_>, hop: &Hop) -> Vec<(EndpointId, Direction)> {
    let Some(tables) = context.tables_of(hop.node) else { return Vec::new() };
    let is_hairpin = hop.events.iter().any(|s| {
        let Event::Rewritten { rewriting, .. } = s.event else { return false };
        matches!(rewriting, Rewriting::Loopback | Rewriting::LoopbackReply)
    });
    if is_hairpin {
        return Vec::new();
    }
    let attached = tables.endpoint_at(hop.ifindex).map(|e| e.id);
    let mut legs = Vec::new();
    match hop.hook {
        Hook::FromContainer => legs.extend(attached.map(|id| (id, Direction::Egress))),
        Hook::FromHost | Hook::ToNetdev if is_from_host(tables, hop) => {
            legs.extend(host(context, tables).map(|id| (id, Direction::Egress)));
        }
        _ => {}
    }
    let ingress = match hop.action() {
        Some(Action::Deliver { endpoint, .. }) => Some(endpoint),
        // What the node sends to itself only leaves it.
        Some(Action::Stack { host: true }) if hop.hook != Hook::FromHost => host(context, tables),
        Some(Action::Pass) if hop.hook == Hook::ToContainer => attached,
        Some(Action::Pass) if hop.hook == Hook::ToHost => host(context, tables),
        _ => None,
    };
    legs.extend(ingress.map(|id| (id, Direction::Ingress)));
    legs
}

/// The node's own endpoint, where the host firewall asks its policies.
fn host(context: &Context<'_>, tables: &NodeTables) -> Option<EndpointId> {
    let asked = context.world.cluster.host_firewall && tables.host_firewall;
    let entry = tables.endpoint_of(Endpoint::Host(tables.node))?;
    asked.then_some(entry.id)
}

/// Whether the node itself sent the packet: by its identity, or by its address where no identity is told.
fn is_from_host(tables: &NodeTables, hop: &Hop) -> bool {
    let identity = hop.events.iter().find_map(|s| match s.event {
        Event::Identity { source_side: true, identity, .. } => Some(identity == Identity::HOST),
        _ => None,
    });
    let address = || {
        hop.events.iter().any(|s| {
            matches!(s.event, Event::Parsed { flow, .. } if tables.locals.contains(&flow.source))
        })
    };
    identity.unwrap_or_else(address)
}

fn judged(context: &Context<'_>, at: usize, hop: &Hop, event: &Event) -> Option<Seen> {
    let Event::Policy { endpoint, direction, outcome, entry, .. } = *event else { return None };
    let passes = outcome == PolicyOutcome::Allow
        && entry == EntryId::DEFAULT_DENY
        && is_fragmentation_needed(hop);
    // An allow without an entry has nothing behind it but that exception.
    let origins = if outcome == PolicyOutcome::Allow && entry == EntryId::DEFAULT_DENY {
        &[]
    } else {
        context.tables.provenance.origins(hop.node, endpoint, direction, entry)
    };
    let origin = origins.first().copied();
    let plain = undecorated(context, hop.node, endpoint, direction, leg_outcome(outcome, origin));
    let mut decided = match origin {
        Some(origin) => attributed(context, plain, origin),
        None => plain,
    };
    decided.also = origins.iter().skip(1).map(|o| context.origin(*o)).collect();
    if passes {
        decided.implied = Some(FRAGMENTATION_NEEDED.to_owned());
    } else {
        decided.entry = Some(entry);
    }
    let endpoint = context.endpoint_entry(hop.node, endpoint).map(|e| e.endpoint);
    Some(Seen { hop: at, endpoint, state: state_of(hop), origin, decided })
}

/// Whether the hop's packet is ICMPv4 "fragmentation needed", which passes policy so that path-MTU
/// discovery works.
fn is_fragmentation_needed(hop: &Hop) -> bool {
    hop.events.iter().any(|s| match s.event {
        Event::Parsed { flow, icmp: Some((kind, code)), .. } => {
            flow.protocol == Protocol::Icmp
                && kind == icmp::UNREACHABLE
                && code == icmp::CODE_FRAGMENTATION_NEEDED
        }
        _ => false,
    })
}

fn leg_outcome(outcome: PolicyOutcome, origin: Option<Origin>) -> LegOutcome {
    match outcome {
        PolicyOutcome::Allow if origin == Some(Origin::Implied(Implied::NotIsolated)) => {
            LegOutcome::NotIsolated
        }
        PolicyOutcome::Allow => LegOutcome::Allow,
        PolicyOutcome::Deny => LegOutcome::Deny,
        PolicyOutcome::DefaultDeny => LegOutcome::DefaultDeny,
    }
}

/// A decision without its origin.
fn undecorated(
    context: &Context<'_>,
    node: NodeId,
    endpoint: EndpointId,
    direction: Direction,
    outcome: LegOutcome,
) -> Decided {
    Decided {
        direction,
        endpoint: context.endpoint(node, endpoint),
        outcome,
        policy: None,
        rule: None,
        implied: None,
        file: None,
        line: None,
        column: None,
        owner: None,
        because: None,
        entry: None,
        also: Vec::new(),
    }
}

/// The decision with the rule or implied outcome that gave it.
fn attributed(context: &Context<'_>, plain: Decided, origin: Origin) -> Decided {
    let id = match origin {
        Origin::Implied(implied) => {
            return Decided { implied: Some(implied.name().to_owned()), ..plain };
        }
        Origin::Rule(id) => id,
    };
    let Some((policy, rule)) = context.policies.rule(id) else { return plain };
    let place = context.location(rule.span);
    Decided {
        policy: Some(policy.handle.clone()),
        rule: Some(rule.name.clone()),
        file: Some(place.file),
        line: Some(place.line),
        column: Some(place.column),
        owner: rule.owner.clone().or_else(|| policy.owner.clone()),
        because: rule.because.clone().or_else(|| policy.because.clone()),
        ..plain
    }
}

/// The direction whose policy dropped the packet.
pub(super) fn refusing(legs: &[Seen]) -> Option<&Seen> {
    let refuses =
        |s: &&Seen| matches!(s.decided.outcome, LegOutcome::Deny | LegOutcome::DefaultDeny);
    legs.iter().find(refuses)
}

/// Where a dropped packet ended.
pub(super) fn drop_place(context: &Context<'_>, trace: &Trace, legs: &[Seen]) -> Option<DropPlace> {
    let refused = |at: usize| trace.refused.is_some() && at + 1 == trace.hops.len();
    let (at, hop) = trace
        .hops
        .iter()
        .enumerate()
        .find(|(at, hop)| matches!(hop.action(), Some(Action::Drop(_))) || refused(*at))?;
    let node = context.node(hop.node);
    if let Some(leg) = refusing(legs).filter(|leg| leg.hop == at) {
        let endpoint = Some(leg.decided.endpoint.clone());
        return Some(DropPlace { node, direction: Some(leg.decided.direction), endpoint });
    }
    let attached = context.tables_of(hop.node).and_then(|t| t.endpoint_at(hop.ifindex));
    Some(DropPlace {
        node,
        direction: None,
        endpoint: attached.map(|e| context.world.endpoint_name(e.endpoint)),
    })
}
