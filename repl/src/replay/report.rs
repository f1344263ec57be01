//! What a replay came to, as data: flows, what was not run, sums, and what another set of policies would change.

use std::collections::BTreeMap;
use std::fmt;

use engine::explain::{Agreement, Decided, Divergence, Isolating, PacketReport, Undecided};
use engine::reason::DropReason;
use schemars::JsonSchema;
use serde::Serialize;

/// What became of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FlowVerdict {
    /// Every packet gets through.
    Allowed,
    /// Every packet is dropped.
    Dropped,
    /// Some packets are dropped.
    Mixed,
    /// It cannot be said.
    Undecided,
    /// It began before the capture, so that nobody knows what conntrack would say.
    UnknownState,
    /// The world knows neither of its addresses.
    UnknownAddresses,
    /// No program of the datapath sees it.
    NotSeen,
}

impl FlowVerdict {
    /// All of them, in the order of summaries.
    pub const ALL: [Self; 7] = [
        Self::Allowed,
        Self::Dropped,
        Self::Mixed,
        Self::Undecided,
        Self::UnknownState,
        Self::UnknownAddresses,
        Self::NotSeen,
    ];

    /// Whether policy or the datapath drops something of it.
    pub fn is_dropped(self) -> bool {
        matches!(self, Self::Dropped | Self::Mixed)
    }
}

impl fmt::Display for FlowVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Dropped => "dropped",
            Self::Mixed => "mixed",
            Self::Undecided => "undecided",
            Self::UnknownState => "unknown-state",
            Self::UnknownAddresses => "unknown-addresses",
            Self::NotSeen => "not-seen",
        })
    }
}

/// A verdict with what decided it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// What became of the flow.
    pub verdict: FlowVerdict,
    /// Packets of it that were dropped; of a flow of unknown state, that would be if it were new.
    pub dropped: u64,
    /// Why the first of them was; null where none was.
    pub reason: Option<DropReason>,
    /// Why something of it cannot be said; null where it can.
    pub undecided: Option<Undecided>,
    /// What decided about that packet, or about the first one where all got through, direction by direction.
    pub decided_by: Vec<Decided>,
    /// Who isolates the endpoint that dropped by default deny.
    pub isolated_by: Vec<Isolating>,
    /// The number of that packet.
    pub decided_at: u64,
    /// Why the verdict is none of policy; null where it is.
    pub because: Option<String>,
    /// Whether datapath and oracle agree about every packet.
    pub agreement: Agreement,
    /// Where they part.
    pub divergence: Option<Divergence>,
}

/// How a flow differs under the other policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Not at all.
    None,
    /// The verdict is the same, and another rule decides.
    OtherRule,
    /// It would be dropped, or more of it, and is not now.
    NewlyDropped,
    /// It would get through, or more of it, and does not now.
    NewlyAllowed,
    /// The verdict is another one in another way: there is none of policy now, or would be none.
    Other,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "unchanged",
            Self::OtherRule => "other-rule",
            Self::NewlyDropped => "newly-dropped",
            Self::NewlyAllowed => "newly-allowed",
            Self::Other => "changed",
        })
    }
}

/// A flow: packets between two places, in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// The number of its first packet in the file.
    pub first: u64,
    /// That packet.
    pub packet: PacketReport,
    /// Packets of the side that sent the first one.
    pub packets: u64,
    /// Packets of the other side.
    pub answers: u64,
    /// Bytes of both, from the network header on.
    pub bytes: u64,
    /// Whether some of it was seen in a tunnel.
    pub tunneled: bool,
    /// Those of its addresses that are in a node's pod prefix, and that no pod of the world has.
    pub unknown: Vec<String>,
    /// What became of it.
    pub now: Outcome,
    /// What would become of it under the other policies; null without any.
    pub then: Option<Outcome>,
    /// How that differs; null without other policies.
    pub change: Option<Change>,
    /// The arguments with which `hopwise trace` explains the packet that `now` is about; null where nothing was run, and where
    /// nothing would answer the same.
    pub trace: Option<String>,
}

/// Packets that were not run, of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// Which.
    pub what: String,
    /// How many.
    pub packets: u64,
    /// The number of the first.
    pub first: u64,
}

/// Sums of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Packets that were read.
    pub packets: u64,
    /// Packets of the flows: all but those skipped.
    pub counted: u64,
    /// Bytes of those, from the network header on.
    pub bytes: u64,
    /// From the first packet to the last, in milliseconds.
    pub milliseconds: u64,
    /// Flows that are allowed.
    pub allowed: u64,
    /// Flows that are dropped whole.
    pub dropped: u64,
    /// Flows of which some packets are dropped.
    pub mixed: u64,
    /// Flows about which nothing can be said.
    pub undecided: u64,
    /// Flows that began before the capture.
    pub unknown_state: u64,
    /// Flows between addresses that the world does not know.
    pub unknown_addresses: u64,
    /// Flows that no program sees.
    pub not_seen: u64,
    /// Flows of the change `newly-dropped`; null without other policies.
    pub newly_dropped: Option<u64>,
    /// Flows of the change `newly-allowed`; null without other policies.
    pub newly_allowed: Option<u64>,
    /// Flows of the change `other`; null without other policies.
    pub otherwise: Option<u64>,
    /// Flows of the change `other-rule`; null without other policies.
    pub other_rule: Option<u64>,
    /// Packets that were not run, by kind.
    pub skipped: Vec<Skipped>,
    /// Packets that were seen in a tunnel.
    pub tunneled: u64,
    /// Packets that were seen with tags of virtual networks.
    pub tagged: u64,
    /// Packets whose VNI is not the identity that their sender has in this world.
    pub other_identity: u64,
    /// Packets with a time before that of one before them; the clock does not go back for them.
    pub out_of_order: u64,
    /// Flows of which datapath and oracle disagree.
    pub divergent: u64,
    /// Dropped flows whose answers are in the capture: they got through where it was taken.
    pub answered: u64,
    /// Flows with packets that the oracle was not asked about, as only their VNI tells who sent them.
    pub single: u64,
    /// Flows that are told apart at most.
    pub flow_limit: u64,
    /// Whether what began before the capture counts as new.
    pub strict: bool,
    /// What ran the packets.
    pub backend: String,
    /// Behaviour profile.
    pub profile: String,
    /// Why the file could not be read to its end; null where it was.
    pub damaged: Option<String>,
    /// Whether it was interrupted.
    pub interrupted: bool,
}

impl Summary {
    /// Flows of a verdict.
    pub fn of(&self, verdict: FlowVerdict) -> u64 {
        match verdict {
            FlowVerdict::Allowed => self.allowed,
            FlowVerdict::Dropped => self.dropped,
            FlowVerdict::Mixed => self.mixed,
            FlowVerdict::Undecided => self.undecided,
            FlowVerdict::UnknownState => self.unknown_state,
            FlowVerdict::UnknownAddresses => self.unknown_addresses,
            FlowVerdict::NotSeen => self.not_seen,
        }
    }

    /// Counts a flow.
    pub(super) fn add(&mut self, verdict: FlowVerdict) {
        let count = match verdict {
            FlowVerdict::Allowed => &mut self.allowed,
            FlowVerdict::Dropped => &mut self.dropped,
            FlowVerdict::Mixed => &mut self.mixed,
            FlowVerdict::Undecided => &mut self.undecided,
            FlowVerdict::UnknownState => &mut self.unknown_state,
            FlowVerdict::UnknownAddresses => &mut self.unknown_addresses,
            FlowVerdict::NotSeen => &mut self.not_seen,
        };
        *count += 1;
    }
}

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The capture.
    pub file: String,
    /// The files of the world and its policies.
    pub files: Vec<String>,
    /// The other policies; null without any.
    pub policy: Option<String>,
    /// The flows, by their first packet.
    pub flows: Vec<Flow>,
    /// Sums.
    pub summary: Summary,
}

impl Report {
    /// Whether everything that can be judged gets through, and something does. Flows that began before the capture and those
    /// of strangers are not judged.
    pub fn is_allowed(&self) -> bool {
        let Summary { allowed, dropped, mixed, undecided, interrupted, .. } = &self.summary;
        *allowed > 0 && dropped + mixed + undecided == 0 && !interrupted
    }

    /// Whether the other policies would drop or let through what these do not.
    pub fn changes(&self) -> bool {
        let same =
            |flow: &Flow| matches!(flow.change, None | Some(Change::None | Change::OtherRule));
        !self.flows.iter().all(same)
    }

    /// Joins with the same capture under other policies. Flows are the same by their first packet; one that is part of another
    /// there has no counterpart.
    pub(crate) fn against(&mut self, then: &Self, policy: String) {
        let mut changes = BTreeMap::new();
        for flow in &mut self.flows {
            let other = then.flows.binary_search_by_key(&flow.first, |other| other.first);
            let other = other.ok().and_then(|at| then.flows.get(at));
            let change = other.map_or(Change::Other, |other| change(&flow.now, &other.now));
            *changes.entry(change).or_insert(0) += 1;
            flow.change = Some(change);
            flow.then = other.map(|other| other.now.clone());
        }
        let of = |change| Some(changes.get(&change).copied().unwrap_or(0));
        let summary = &mut self.summary;
        summary.newly_dropped = of(Change::NewlyDropped);
        summary.newly_allowed = of(Change::NewlyAllowed);
        summary.otherwise = of(Change::Other);
        summary.other_rule = of(Change::OtherRule);
        summary.divergent += then.summary.divergent;
        summary.interrupted |= then.summary.interrupted;
        self.policy = Some(policy);
    }
}

fn change(now: &Outcome, then: &Outcome) -> Change {
    // Nothing is said of flows whose state is not known.
    if now.verdict == FlowVerdict::UnknownState {
        return Change::None;
    }
    let is_mixed = now.verdict == FlowVerdict::Mixed && now.dropped != then.dropped;
    if now.verdict == then.verdict && !is_mixed {
        return if rules(now) == rules(then) { Change::None } else { Change::OtherRule };
    }
    let (Some(was), Some(is)) = (loss(now), loss(then)) else { return Change::Other };
    if was < is { Change::NewlyDropped } else { Change::NewlyAllowed }
}

/// How much is dropped of a flow that policy or the datapath decided about: nothing, so many packets, everything.
fn loss(outcome: &Outcome) -> Option<(u8, u64)> {
    match outcome.verdict {
        FlowVerdict::Allowed => Some((0, 0)),
        FlowVerdict::Mixed => Some((1, outcome.dropped)),
        FlowVerdict::Dropped => Some((2, 0)),
        FlowVerdict::Undecided
        | FlowVerdict::UnknownState
        | FlowVerdict::UnknownAddresses
        | FlowVerdict::NotSeen => None,
    }
}

/// What decided, without where that is written.
fn rules(outcome: &Outcome) -> Vec<(&Option<String>, &Option<String>, &Option<String>)> {
    outcome.decided_by.iter().map(|by| (&by.policy, &by.rule, &by.implied)).collect()
}
