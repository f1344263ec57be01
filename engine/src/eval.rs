//! The oracle: what a policy means for one packet, read from the policy itself. It evaluates selectors,
//! prefixes and ports directly, keeps its own memory of flows, and has no index and no cache.
//! It never imports `compile` or `tables`, and they never import it.

mod decide;
mod flows;
mod headers;
mod path;
mod peers;
mod ports;

pub use flows::Memory;

use crate::net::{Direction, Packet, Protocol};
use crate::policy::{Action, PolicyId, PolicySet, RuleId};
use crate::reason::DropReason;
use crate::source::Span;
use crate::topology::{Endpoint, NodeId, Party, ServiceId, World};
use crate::trace::{CtState, Place};
use crate::verdict::{LegOutcome, Origin, Verdict};

use decide::{Decision, Matter};
use headers::{Headers, Traffic};
use path::{Ask, Sender, Stop};

/// One packet between two parties, to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The sender.
    pub source: Party,
    /// The receiver.
    pub destination: Party,
    /// The packet.
    pub packet: &'a Packet,
    /// The simulated clock, in seconds.
    pub now: u64,
    /// What was chosen where the datapath may choose freely.
    pub choices: Choices,
}

/// What the datapath chose where it may choose freely. The oracle takes it over after it has seen that it is legal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// The backend that a service's flow was sent to.
    pub backend: Option<Place>,
    /// The source that a packet left its node with.
    pub source: Option<Place>,
}

/// What the oracle says about a packet to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// The service.
    pub service: ServiceId,
    /// Position in [`crate::topology::Service::ports`]; `None` where the service does not have the port.
    pub port: Option<usize>,
    /// The node that translates.
    pub node: NodeId,
    /// Every backend that a new flow may get; empty where there is none.
    pub candidates: Vec<Place>,
    /// The one that the packet goes to.
    pub backend: Option<Place>,
}

/// A condition of a rule, and where and how it failed if it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `from`, `to`, `port`, `protocol` or `icmp`.
    pub name: &'static str,
    /// The first failing part; `None` where the condition holds.
    pub mismatch: Option<Mismatch>,
}

/// Why a condition did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Where the condition is written.
    pub span: Span,
    /// What it wants, in words: `pods {app=client} in web`.
    pub wants: String,
    /// What the packet has, in words: `world`.
    pub is: String,
}

/// A rule held against the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The rule.
    pub rule: RuleId,
    /// What it does if it matches.
    pub action: Action,
    /// The conditions that it states, the peer's first; it matches when none has a mismatch.
    pub checks: Vec<Check>,
}

impl Trial {
    /// Whether every condition holds.
    pub fn matches(&self) -> bool {
        self.checks.iter().all(|check| check.mismatch.is_none())
    }
}

/// One direction judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The node that judges.
    pub node: NodeId,
    /// Whose policy.
    pub endpoint: Endpoint,
    /// Which direction of it.
    pub direction: Direction,
    /// What conntrack's rules say about the packet on this node.
    pub state: CtState,
    /// The outcome.
    pub outcome: LegOutcome,
    /// Everything that carries the winning action: each of these may be named as the decider. Where the endpoint is
    /// not isolated, [`crate::verdict::Implied::NotIsolated`] stands beside the allow rules that match. Empty where policy
    /// is not asked: replies, related errors, and ICMPv4 "fragmentation needed", which is an allow by nobody.
    pub matching: Vec<Origin>,
    /// Policies that isolate the endpoint in this direction.
    pub isolated_by: Vec<PolicyId>,
    /// Every rule of this direction whose policy selects the endpoint, by policy and source order; rules of
    /// policies that select only other pods are left out. Empty where policy is not asked.
    pub trials: Vec<Trial>,
}

/// The oracle's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The outcome.
    pub verdict: Verdict,
    /// Why it is dropped.
    pub reason: Option<DropReason>,
    /// The directions that were judged, egress first; none where the packet is dropped before policy, or
    /// where nobody judges it (neighbour discovery, between nodes, between outside parties).
    pub legs: Vec<Leg>,
    /// The service that the packet was sent to, if it was.
    pub serving: Option<Serving>,
    /// The packet's two sides as whoever gets it sees them, source first: the pod, the node, or the outside beyond the last node. `None`
    /// where it is dropped.
    pub arrives: Option<(Place, Place)>,
    /// Choices that were not legal, in words: the datapath is wrong, whatever else agrees.
    pub illegal: Vec<String>,
}

/// Judges a packet and remembers its flow, as each node on its way would. A packet that no network could
/// carry (two families, a party of another world) is undecided.
pub fn judge(
    world: &World,
    policies: &PolicySet,
    memory: &mut Memory,
    asked: &Asked<'_>,
) -> Judgement {
    let packet = asked.packet;
    let mixed = packet.ip.source.is_ipv4() != packet.ip.destination.is_ipv4();
    let Some(sender) = Sender::of(world, asked.source).filter(|_| !mixed) else {
        return Judgement {
            verdict: Verdict::Undecided,
            reason: None,
            legs: Vec::new(),
            serving: None,
            arrives: None,
            illegal: Vec::new(),
        };
    };
    let mut legs = Vec::new();
    let case = Case { world, policies, asked };
    let reason = case.follow(sender, memory, &mut legs).err();
    let verdict = if reason.is_some() { Verdict::Dropped } else { Verdict::Allowed };
    Judgement { verdict, reason, legs, serving: None, arrives: None, illegal: Vec::new() }
}

/// What one judgement is about.
struct Case<'a> {
    world: &'a World,
    policies: &'a PolicySet,
    asked: &'a Asked<'a>,
}

impl Case<'_> {
    /// From node to node. The order on each is the one that the book states: sender, headers, flow, egress,
    /// delivery, ingress.
    fn follow(
        &self,
        sender: Sender,
        memory: &mut Memory,
        legs: &mut Vec<Leg>,
    ) -> Result<(), DropReason> {
        let stops = path::stops(self.world, sender, self.asked.packet);
        if stops.is_empty() {
            // To a node or to outside, and not from a pod: nobody judges it.
            return Ok(());
        }
        let read = headers::read(self.asked.packet);
        if read.as_ref().is_ok_and(|headers| headers.discovery) {
            return Ok(());
        }
        self.check_sender(sender)?;
        // A node that only delivers counts before it looks into the packet.
        let counts_first =
            |stop: &Stop| matches!(stop.asks.as_slice(), [ask] if self.is_spent(stop, ask));
        if stops.first().is_some_and(counts_first) {
            return Err(DropReason::TtlExceeded);
        }
        let headers = read?;
        for stop in &stops {
            self.stop(stop, &headers, memory, legs)?;
        }
        Ok(())
    }

    /// A pod sends from its own addresses.
    fn check_sender(&self, sender: Sender) -> Result<(), DropReason> {
        let Sender::Pod(id) = sender else { return Ok(()) };
        let source = self.asked.packet.ip.source;
        let own = self.world.pod(id).is_some_and(|pod| pod.addresses.contains(&source));
        if own { Ok(()) } else { Err(DropReason::InvalidSourceIp) }
    }

    /// What drops before a direction is asked: nobody of a pod's network starts to speak to the tunnel's port,
    /// delivery takes one from the TTL, and a piece of an ICMP message names no flow.
    fn check_ask(
        &self,
        stop: &Stop,
        ask: &Ask,
        headers: &Headers,
        state: CtState,
    ) -> Result<(), DropReason> {
        match ask.direction {
            Direction::Egress => {
                let traffic = &headers.traffic;
                let tunnel = Some(self.world.cluster.tunnel.port);
                let encapsulated = traffic.protocol == Protocol::Udp && traffic.port == tunnel;
                if encapsulated && state != CtState::Reply {
                    return Err(DropReason::EncapProhibited);
                }
            }
            Direction::Ingress if self.is_spent(stop, ask) => {
                return Err(DropReason::TtlExceeded);
            }
            Direction::Ingress => {}
        }
        if headers.icmp_fragment { Err(DropReason::FragmentNotSupported) } else { Ok(()) }
    }

    /// Whether delivery there would leave no TTL.
    fn is_spent(&self, stop: &Stop, ask: &Ask) -> bool {
        let delivers = ask.direction == Direction::Ingress && stop.counts_down;
        delivers && self.asked.packet.ip.ttl <= 1
    }

    /// One node: what it knows of the flow, the directions it asks, and what it remembers.
    fn stop(
        &self,
        stop: &Stop,
        headers: &Headers,
        memory: &mut Memory,
        legs: &mut Vec<Leg>,
    ) -> Result<(), DropReason> {
        let (tracking, now) = (&headers.tracking, self.asked.now);
        let to = self.asked.packet.ip.destination;
        let state = memory.state(stop.node, tracking, to, now);
        let mut result = Ok(());
        for ask in &stop.asks {
            if let Err(reason) = self.check_ask(stop, ask, headers, state) {
                // The delivering node counts before it looks for the flow.
                if ask.direction == Direction::Ingress && stop.asks.len() == 1 {
                    return Err(reason);
                }
                result = Err(reason);
                break;
            }
            let Some(leg) = self.leg(stop.node, ask, &headers.traffic, state) else { continue };
            result = drop_of(leg.outcome, state);
            legs.push(leg);
            if result.is_err() {
                break;
            }
        }
        memory.note(stop.node, tracking, state, result.is_ok(), now);
        result
    }

    fn leg(&self, node: NodeId, ask: &Ask, traffic: &Traffic, state: CtState) -> Option<Leg> {
        let Ask { endpoint, direction, peer } = *ask;
        let matter = Matter {
            world: self.world,
            policies: self.policies,
            endpoint: self.world.pod(endpoint.pod()?)?,
            direction,
            peer,
            traffic,
        };
        let isolated_by = matter.isolated_by();
        let skipped = |outcome| Decision { outcome, matching: Vec::new(), trials: Vec::new() };
        let Decision { outcome, matching, trials } = match state {
            CtState::Reply => skipped(LegOutcome::Reply),
            CtState::Related => skipped(LegOutcome::Related),
            CtState::New | CtState::Established | CtState::Untracked => {
                matter.decide(!isolated_by.is_empty())
            }
        };
        Some(Leg { node, endpoint, direction, state, outcome, matching, isolated_by, trials })
    }
}

/// The reason that an outcome drops for. What has no ports is not known to be denied: 157 instead of 133.
fn drop_of(outcome: LegOutcome, state: CtState) -> Result<(), DropReason> {
    match (outcome, state) {
        (LegOutcome::Deny, _) => Err(DropReason::PolicyDeny),
        (LegOutcome::DefaultDeny, CtState::Untracked) => Err(DropReason::FragmentNotSupported),
        (LegOutcome::DefaultDeny, _) => Err(DropReason::PolicyDenied),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
