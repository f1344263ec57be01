//! The join itself: which facts make an explanation, and in whose words each is said.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::dns::DnsName;
use crate::eval::{Judgement, Leg, pose};
use crate::net::{Confined, Hook, TcpFlags, Transport};
use crate::policy::{PeerKind, PolicySet};
use crate::question::Question;
use crate::source::SourceMap;
use crate::tables::Tables;
use crate::topology::{Node, Party, Routing, World};
use crate::trace::{Action, CtState, Event, Hop, Trace};

use super::seen::{self, End, Seen};
use super::{
    Agreement, Divergence, Explanation, HopReport, LegOutcome, SCHEMA_VERSION, Step, Undecided,
    compare, nearest, obstacle, packet, posed, steps, wire,
};

/// What an explanation is made from, besides the answers themselves.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The world.
    pub world: &'a World,
    /// The policies.
    pub policies: &'a PolicySet,
    /// The tables the trace ran on.
    pub tables: &'a Tables,
    /// Texts, for places.
    pub sources: &'a SourceMap,
}

/// Joins one journey of a packet with its provenance and the oracle's answer. Without a judgement the
/// agreement is `single`. The reply, where asked for, is explained by the caller the same way and put in.
/// `None` for a trace without hops: no program saw the packet, so there is nothing to explain.
pub fn explain(
    context: &Context<'_>,
    question: &Question,
    trace: &Trace,
    judgement: Option<&Judgement>,
) -> Option<Explanation> {
    if trace.hops.is_empty() {
        return None;
    }
    let end = seen::end(context, trace);
    let legs = seen::legs(context, trace);
    let (agreement, divergence) = opinion(context, trace, end, &legs, judgement);
    let (reason, undecided) = match end {
        End::Allowed => (None, None),
        End::Dropped(reason) => (Some(reason), None),
        End::Unknown(why) => (None, Some(why)),
    };
    let denied = reason.and_then(|_| default_deny(context, trace, &legs, judgement));
    let denied = denied.as_ref();
    let peer = nearest::peer(context, trace, &legs);
    Some(Explanation {
        schema_version: SCHEMA_VERSION,
        verdict: end.verdict(),
        reason,
        undecided,
        dropped_at: reason.and_then(|_| seen::drop_place(context, trace, &legs)),
        tunneled: trace.hops.iter().any(steps::is_tunneled),
        agreement,
        divergence,
        backend: trace.backend.clone(),
        profile: context.world.cluster.profile.to_string(),
        policies: context.policies.len(),
        unmodelled: 0,
        packet: packet::report(context, question),
        decided_by: legs.iter().map(|leg| leg.decided.clone()).collect(),
        isolated_by: denied.map_or_else(Vec::new, |leg| nearest::isolating(context, leg)),
        nearest: denied
            .map_or_else(Vec::new, |leg| nearest::nearest(context, leg, peer.as_deref())),
        obstacle: match end {
            End::Dropped(reason) => obstacle::of(context, trace, &legs, reason),
            End::Unknown(Undecided::NotFollowed) => obstacle::of_unfollowed(context, trace),
            End::Allowed => obstacle::of_allowed(context, trace, &legs),
            End::Unknown(_) => None,
        },
        known: Vec::new(),
        unobserved: steps::unobserved(context, trace),
        assumed: assumed(context, question, trace, &legs),
        lost: trace.lost,
        generation: trace.generation,
        hops: hops(context, trace, &legs),
        reply: None,
        no_reply: None,
    })
}

/// Whether the two opinions agree. What was not observed whole is no opinion of the datapath, so that
/// there is nothing to compare; the answer is undecided then.
fn opinion(
    context: &Context<'_>,
    trace: &Trace,
    end: End,
    legs: &[Seen],
    judgement: Option<&Judgement>,
) -> (Agreement, Option<Divergence>) {
    let observed = match end {
        End::Allowed | End::Dropped(_) | End::Unknown(Undecided::NotFollowed) => true,
        End::Unknown(
            Undecided::EventsLost
            | Undecided::OutcomeNotSeen
            | Undecided::OtherGeneration
            | Undecided::NotOpened
            | Undecided::NotObserved,
        ) => false,
    };
    let Some(judgement) = judgement.filter(|_| observed) else {
        return (Agreement::Single, None);
    };
    match compare::divergence(context, trace, end, legs, judgement) {
        None => (Agreement::Agree, None),
        found => (Agreement::Differ, found),
    }
}

/// The oracle's reasons for the direction in which the datapath denied by default. Where it has no opinion about the packet
/// it is asked about the policies alone, as the datapath saw the peer.
fn default_deny(
    context: &Context<'_>,
    trace: &Trace,
    legs: &[Seen],
    judgement: Option<&Judgement>,
) -> Option<Leg> {
    let seen = seen::refusing(legs).filter(|leg| leg.decided.outcome == LegOutcome::DefaultDeny)?;
    let leg = match judgement {
        Some(judgement) => judgement.legs.iter().find(|leg| {
            Some(leg.endpoint) == seen.endpoint && leg.direction == seen.decided.direction
        })?,
        None => &pose(context.world, context.policies, &posed::of(context, trace, seen)?),
    };
    Some(leg.clone()).filter(|leg| leg.outcome == LegOutcome::DefaultDeny)
}

/// Begins what is assumed about where a packet comes in that no pod of ours sent.
pub const ENTRANCE: &str = "the packet reaches ";

/// What the question left open, and that a packet which no pod of ours sent gets to where it was put in.
fn assumed(
    context: &Context<'_>,
    question: &Question,
    trace: &Trace,
    legs: &[Seen],
) -> Vec<String> {
    let mut lines = question.assumed.clone();
    lines.extend(legs.iter().find_map(|leg| resolved(context, trace, leg)));
    let enters =
        |hop: &&Hop| matches!(hop.hook, Hook::FromOverlay | Hook::FromNetdev | Hook::Prefilter);
    if let Some(first) = trace.hops.first().filter(enters) {
        lines.push(format!("{ENTRANCE}{} {}", context.node(first.node), first.device));
    }
    if trace.has_left() {
        lines.extend(doubt(context, question.packet.ip.destination));
        lines.extend(unanswerable(context, question, trace));
    }
    lines.extend(martian(question, trace));
    lines.extend(length(trace));
    lines.extend(unaccounted(context, question, trace));
    lines
}

/// A source that the programs let pass, and that the kernels around them would not.
fn martian(question: &Question, trace: &Trace) -> Option<String> {
    let first = trace.hops.first()?;
    if matches!(trace.hops.last()?.action(), Some(Action::Drop(_))) {
        return None;
    }
    // A frame that holds no packet stands for none in the question.
    let source = wire::ends(&first.frame_in)?.source.address;
    let source = Some(source).filter(|source| *source == question.packet.ip.source)?;
    let what = match Confined::of(source)? {
        Confined::Loopback => "a loopback address",
        Confined::Multicast => "a multicast group",
        Confined::Broadcast => "everybody on one link",
        // Neighbour discovery may come from `::`, and from an address of the link.
        Confined::Unspecified if source.is_ipv4() => "which stands for none",
        Confined::Unspecified | Confined::LinkLocal => return None,
    };
    Some(format!(
        "no kernel drops the packet for its source {source}, {what}: Linux drops such sources as martians"
    ))
}

/// A node's own packet of a connection that goes on, which the node knows nothing of: without the host firewall it notes none that
/// others open to itself.
fn unaccounted(context: &Context<'_>, question: &Question, trace: &Trace) -> Option<String> {
    let first = trace.hops.first()?;
    let Transport::Tcp { flags, .. } = question.packet.transport else { return None };
    let opens = flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK);
    let is_new = first
        .events
        .iter()
        .any(|said| matches!(said.event, Event::Conntrack { state: CtState::New, .. }));
    let node = context.world.node(first.node)?;
    let is_its = node.addresses.contains(&question.packet.ip.source)
        && matches!(first.hook, Hook::FromHost | Hook::ToNetdev);
    let is_noted = opens || !is_new || context.world.cluster.host_firewall;
    (is_its && !is_noted).then(|| {
        format!(
            "{0} opened it: without the host firewall it notes no connection that others open to it, and an answer of its is new to {0} too",
            node.name
        )
    })
}

/// The answer of the DNS that a rule which allows by name rests on.
fn resolved(context: &Context<'_>, trace: &Trace, leg: &Seen) -> Option<String> {
    let decided = &leg.decided;
    let policy = context.policies.find(decided.policy.as_deref()?)?;
    let rule = policy.rules.iter().find(|rule| Some(&rule.name) == decided.rule.as_ref())?;
    let address = posed::address(trace.hops.get(leg.hop)?, decided.direction)?;
    let mut facts = context.world.names_of(address);
    let is_meant = |name: &DnsName| {
        rule.peers.iter().flatten().any(|peer| match &peer.kind {
            PeerKind::Dns(pattern) => pattern.matches(name),
            _ => false,
        })
    };
    let (external, fact) = facts.find(|(_, fact)| is_meant(&fact.name))?;
    let when = match fact.ttl {
        Some(seconds) if seconds > 0 => format!("in the last {seconds} s"),
        _ => "before".to_owned(),
    };
    Some(format!(
        "{} is {address}, as external {} says, and {} asked for it {when}",
        fact.name, external.name, decided.endpoint
    ))
}

/// Bytes that fit the devices of the reference cluster, and what a pod there may send where outer headers are put on.
const FITS: (u32, u32) = (1500, 1450);

/// A packet that the reference's devices would not take at once.
fn length(trace: &Trace) -> Option<String> {
    let long = trace.hops.iter().find_map(|hop| {
        let length = hop.events.iter().find_map(|said| match said.event {
            Event::Parsed { length, .. } if !hop.is_outer() => Some(length),
            _ => None,
        })?;
        let is_tunneled = matches!(hop.action(), Some(Action::Tunnel { .. }));
        let fits = if is_tunneled { FITS.1 } else { FITS.0 };
        (length > fits).then_some((length, fits, is_tunneled))
    });
    let (length, fits, is_tunneled) = long?;
    let why = if is_tunneled { ", as the tunnel's headers come on top" } else { "" };
    Some(format!(
        "every device on the way takes {length} bytes: MTUs are not modelled, and those of the reference let {fits} pass{why}"
    ))
}

/// A pod's packet that leaves under an address that nobody outside has a way back to.
fn unanswerable(context: &Context<'_>, question: &Question, trace: &Trace) -> Option<String> {
    let last = trace.hops.last()?;
    let is_translated =
        |hop: &Hop| hop.events.iter().any(|said| matches!(said.event, Event::Rewritten { .. }));
    let source = question.packet.ip.source;
    let is_pods = matches!(context.world.owner(source), Some(Party::Pod(_) | Party::Health(_)));
    let node = context.world.node(last.node)?;
    let has_family = node.addresses.iter().any(|own| own.is_ipv6() == source.is_ipv6());
    if !context.world.cluster.masquerade.on
        || !is_pods
        || has_family
        || trace.hops.iter().any(is_translated)
    {
        return None;
    }
    let family = if source.is_ipv6() { "IPv6" } else { "IPv4" };
    Some(format!(
        "somebody outside has a way back to {source}: node {} has no {family} address to masquerade with",
        node.name
    ))
}

/// Why an address may be none that a packet leaves the cluster for.
fn doubt(context: &Context<'_>, address: IpAddr) -> Option<String> {
    if Confined::of(address).is_some() {
        return Some(format!(
            "routers send nothing to {address} on: who gets a node's own packet for it is its kernel's matter, which is not simulated"
        ));
    }
    if matches!(address, IpAddr::V4(v4) if v4.is_link_local()) {
        return Some(format!(
            "the routes of the node lead to {address}, which is link-local: a cloud's metadata are reached so"
        ));
    }
    let world = context.world;
    if let (Routing::Tunnel, Some(node)) = (world.cluster.routing, pods_node(world, address)) {
        return Some(format!(
            "the underlay has a route to {address}, an address of pods of {node}: the cluster itself sends such packets by its tunnel"
        ));
    }
    let bits = if address.is_ipv4() { 24 } else { 112 };
    let around = IpNet::new(address, bits).ok()?.trunc();
    let mut services = world.services().flat_map(|(_, service)| service.addresses());
    let beside = services.find(|own| around.contains(own))?;
    world.owner(address).is_none().then(|| {
        let known = context.party(Party::Address(beside));
        format!("{address} is no service's, though it lies beside {beside} of {known}")
    })
}

/// The node whose pods have an address of that prefix.
fn pods_node(world: &World, address: IpAddr) -> Option<&str> {
    let holds = |node: &&Node| node.pod_cidrs.iter().any(|net| net.contains(&address));
    world.nodes.iter().find(holds).map(|node| node.name.as_str())
}

fn hops(context: &Context<'_>, trace: &Trace, legs: &[Seen]) -> Vec<HopReport> {
    let of = |at: usize| legs.iter().filter(|leg| leg.hop == at).collect::<Vec<_>>();
    let is_last = |at: usize| at + 1 == trace.hops.len() && trace.refused.is_none();
    let hops = trace.hops.iter().enumerate();
    let report = |(at, hop): (usize, &crate::trace::Hop)| {
        let before = at.checked_sub(1).and_then(|before| trace.hops.get(before)?.time);
        let after = hop.time.zip(before).map(|(now, before)| now.saturating_sub(before));
        HopReport { after, ..steps::report(context, hop, &of(at), is_last(at)) }
    };
    let mut reports: Vec<HopReport> = hops.map(report).collect();
    if let Some((reason, last)) = trace.refused.zip(reports.last_mut()) {
        last.quiet = false;
        last.steps.push(Step::Drop { reason, by_stack: true });
    }
    reports
}
