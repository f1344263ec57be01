//! What one run of a program says of a packet: on which side it counts, who sent it to whom, what became of it and who decided.
//!
//! A packet counts once as sent, where its sender's node lets it go, and once as received, where it reaches a pod or the node itself;
//! programs in between count drops only.

use std::net::IpAddr;

use datapath::decode::Run;
use engine::identity::Identity;
use engine::net::{Direction, Hook};
use engine::reason::DropReason;
use engine::topology::NodeId;
use engine::trace::{Action, Event, PolicyOutcome};

use super::names::{Names, Who};

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Forwarded,
    /// It does not, or would not.
    Dropped(DropReason),
    /// It would not if its flow is not older than the programs.
    Unknown(DropReason),
}

/// A policy's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) direction: Direction,
    pub(super) policy: String,
    pub(super) rule: String,
    pub(super) verdict: &'static str,
}

/// A packet at a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) fate: Fate,
    /// The sides that it counts on.
    pub(super) sides: Vec<Direction>,
    pub(super) source: Who,
    pub(super) destination: Who,
    pub(super) bytes: u64,
    pub(super) judged: Vec<Judged>,
}

/// What is found in a run's events.
#[derive(Default)]
struct Found {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    identities: [Option<Identity>; 2],
    action: Option<Action>,
    denied: Option<Direction>,
}

/// Reads a run; `None` where nothing of it counts.
pub(super) fn read(names: &Names, node: NodeId, run: &Run, observes: bool) -> Option<Packet> {
    let end = run.end?;
    let found = found(run);
    // An observed packet between pods of a node goes by the receiver's device too, after it was judged for both.
    let local = found.source.is_some_and(|source| names.is_pod_of(node, source));
    if observes && run.hook == Hook::ToContainer && local {
        return None;
    }
    let fate = match (found.action?, end.unknown) {
        (_, Some(reason)) => Fate::Unknown(reason),
        (Action::Drop(reason), None) => Fate::Dropped(reason),
        _ => Fate::Forwarded,
    };
    let sides = sides(run.hook, fate, &found);
    let judged =
        if matches!(fate, Fate::Unknown(_)) { Vec::new() } else { judged(names, node, run) };
    if sides.is_empty() && judged.is_empty() {
        return None;
    }
    let [source, destination] =
        [(found.source, 0), (found.destination, 1)].map(|(address, side)| {
            let identity = found.identities[side];
            address.map_or_else(|| Who::reserved("unknown"), |at| names.who(node, at, identity))
        });
    Some(Packet { fate, sides, source, destination, bytes: end.length.into(), judged })
}

/// Both sides as policy sees them: the pod behind a service or a translated source.
fn found(run: &Run) -> Found {
    let mut found = Found::default();
    for said in &run.events {
        match said.event {
            Event::Parsed { flow, .. } => {
                found.source = Some(flow.source);
                found.destination = Some(flow.destination);
            }
            Event::Service { backend: Some(backend), .. } => {
                found.destination = Some(backend.address);
            }
            Event::Rewritten { rewriting, after, .. } if rewriting.of_destination() => {
                found.destination = Some(after.address);
            }
            Event::Identity { source_side, identity, .. } => {
                found.identities[usize::from(!source_side)] = Some(identity);
            }
            Event::Policy { direction, outcome, .. } if outcome != PolicyOutcome::Allow => {
                found.denied = Some(direction);
            }
            Event::Outcome(action) => found.action = Some(action),
            _ => {}
        }
    }
    found
}

fn sides(hook: Hook, fate: Fate, found: &Found) -> Vec<Direction> {
    let is_sent =
        matches!(hook, Hook::FromContainer | Hook::FromHost | Hook::ToOverlay | Hook::ToNetdev);
    let own = if is_sent { Direction::Egress } else { Direction::Ingress };
    if fate != Fate::Forwarded {
        return vec![found.denied.unwrap_or(own)];
    }
    let is_read = found.source.is_some();
    let arrives = match found.action {
        Some(Action::Deliver { .. } | Action::Stack { host: true }) => is_read,
        Some(Action::Pass) => is_read && hook == Hook::ToContainer,
        _ => false,
    };
    let leaves = is_read && matches!(hook, Hook::FromContainer | Hook::FromHost);
    [(Direction::Egress, leaves), (Direction::Ingress, arrives)]
        .into_iter()
        .filter_map(|(side, counts)| counts.then_some(side))
        .collect()
}

fn judged(names: &Names, node: NodeId, run: &Run) -> Vec<Judged> {
    let of = |event| match event {
        Event::Policy { endpoint, direction, outcome, entry, .. } => {
            let decider = names.decider(node, endpoint, direction, entry);
            let verdict = match (outcome, decider.implied) {
                (PolicyOutcome::Deny, _) => "deny",
                (PolicyOutcome::DefaultDeny, _) => "default-deny",
                (PolicyOutcome::Allow, Some(implied)) => implied,
                (PolicyOutcome::Allow, None) => "allow",
            };
            Some(Judged { direction, policy: decider.policy, rule: decider.rule, verdict })
        }
        _ => None,
    };
    run.events.iter().filter_map(|said| of(said.event)).collect()
}
