//! The oracle: what a policy means for one packet, read from the policy itself. It evaluates selectors,
//! prefixes and ports directly, keeps its own memory of flows, and has no index and no cache.
//! It never imports `compile` or `tables`, and they never import it.

use crate::net::{Direction, Packet};
use crate::policy::{Action, PolicyId, PolicySet, RuleId};
use crate::reason::DropReason;
use crate::source::Span;
use crate::topology::{NodeId, Party, PodId, World};
use crate::trace::CtState;
use crate::verdict::{LegOutcome, Origin, Verdict};

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
}

/// A condition of a rule, and where and how it failed if it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `selects`, `from`, `to`, `port`, `protocol` or `icmp`.
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
    /// Its conditions; it matches when none has a mismatch.
    pub checks: Vec<Check>,
}

/// One direction judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The node that judges.
    pub node: NodeId,
    /// Whose policy.
    pub endpoint: PodId,
    /// Which direction of it.
    pub direction: Direction,
    /// What conntrack's rules say about the packet on this node.
    pub state: CtState,
    /// The outcome.
    pub outcome: LegOutcome,
    /// Everything that carries the winning action: each of these may be named as the decider.
    pub matching: Vec<Origin>,
    /// Policies that isolate the endpoint in this direction.
    pub isolated_by: Vec<PolicyId>,
    /// Every rule of this direction whose policy selects the endpoint, and allow rules of policies that
    /// select only other pods are left out.
    pub trials: Vec<Trial>,
}

/// The oracle's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The outcome.
    pub verdict: Verdict,
    /// Why it is dropped.
    pub reason: Option<DropReason>,
    /// The directions that were judged, egress first.
    pub legs: Vec<Leg>,
}

/// The oracle's own memory of flows, per node; nothing of the datapath's conntrack is in it.
#[derive(Clone, Debug, Default)]
pub struct Memory {}

/// Judges a packet and remembers its flow, as each node on its way would.
pub fn judge(
    _world: &World,
    _policies: &PolicySet,
    _memory: &mut Memory,
    _asked: &Asked<'_>,
) -> Judgement {
    Judgement { verdict: Verdict::Undecided, reason: None, legs: Vec::new() }
}
