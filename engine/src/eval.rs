//! The oracle: what a policy means for one packet, read from the policy itself. It evaluates selectors,
//! prefixes and ports directly, keeps its own memory of flows, and has no index and no cache.
//! It never imports `compile` or `tables`, and they never import it.

mod decide;
mod flows;
mod headers;
mod legs;
mod path;
mod peers;
mod ports;
mod posed;
mod receive;
mod services;
mod translate;
mod walk;

pub use flows::Memory;
pub use peers::Who;
pub use posed::{Posed, pose};

use crate::net::{Direction, Packet};
use crate::policy::{Action, PolicyId, PolicySet, RuleId};
use crate::reason::DropReason;
use crate::source::Span;
use crate::topology::{Endpoint, NodeId, Party, ServiceId, World};
use crate::trace::{CtState, Place};
use crate::verdict::{LegOutcome, Origin, Verdict};

use path::Sender;
use walk::{Halt, Walk};

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
    /// Whether the question asked for it.
    pub is_forced: bool,
    /// The sources that the packet left nodes with, in the order of its way.
    pub sources: [Option<Place>; 2],
    /// The source ports of the tunnel's packets that held it, in the order of its way: the sending kernel's hash of what is inside.
    pub tunnel_ports: [Option<u16>; 3],
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
/// carry (two families, a party of another world) is undecided, and so is one whose backend is one of several while
/// the choice is not known.
pub fn judge(
    world: &World,
    policies: &PolicySet,
    memory: &mut Memory,
    asked: &Asked<'_>,
) -> Judgement {
    let packet = asked.packet;
    let mixed = packet.ip.source.is_ipv4() != packet.ip.destination.is_ipv4();
    let undecided = Judgement {
        verdict: Verdict::Undecided,
        reason: None,
        legs: Vec::new(),
        serving: None,
        arrives: None,
        illegal: Vec::new(),
    };
    let Some(sender) = Sender::of(world, asked.source).filter(|_| !mixed) else {
        return undecided;
    };
    let mut walk = Walk::new(world, policies, memory, asked);
    let result = walk.follow(sender);
    // Of what cannot be read nobody knows the ports.
    let arrives = (result.is_ok() && walk.read.is_ok()).then(|| walk.places());
    let (verdict, reason) = match result {
        Ok(()) => (Verdict::Allowed, None),
        Err(Halt::Drop(reason) | Halt::Refused(reason)) => (Verdict::Dropped, Some(reason)),
        Err(Halt::Unknown) => (Verdict::Undecided, None),
    };
    let Walk { legs, serving, illegal, .. } = walk;
    Judgement { verdict, reason, legs, serving, arrives, illegal }
}

#[cfg(test)]
mod tests;
