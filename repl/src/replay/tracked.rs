//! A flow while it is replayed: its two views, its counts, and what was said about its packets so far.

use std::hash::{DefaultHasher, Hash, Hasher};

use engine::eval::Judgement;
use engine::explain::{Agreement, Divergence, Explanation, PacketReport, Undecided};
use engine::reason::DropReason;
use engine::topology::Party;
use engine::trace::{Event, Trace};
use engine::verdict::Verdict;

use super::again::Again;
use super::flows::Ends;
use super::report::{Flow, FlowVerdict, Outcome};
use crate::session::{Pair, Sides};

/// How a flow stands to what can be known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It begins in the capture.
    Whole,
    /// It began before.
    Begun(&'static str),
    /// It began before, and its packets cannot be run without what came then.
    Lacking(&'static str),
    /// Nobody knows its addresses.
    Strange,
    /// No program sees it.
    Unseen(String),
}

/// What was said about a packet, to compare the next one with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// The datapath's events.
    pub(super) trace: u64,
    /// The oracle's judgement.
    pub(super) judgement: Option<u64>,
    /// What it came to.
    pub(super) verdict: Verdict,
}

/// What was decided about one packet.
struct Decision {
    at: u64,
    reason: Option<DropReason>,
    again: Again,
    explanation: Box<Explanation>,
}

/// See the module.
pub(super) struct Tracked {
    pub(super) first: u64,
    pub(super) ends: Ends,
    pub(super) source: Party,
    pub(super) destination: Party,
    pub(super) sides: Option<Sides>,
    /// How it looks on its way, where that is neither of them: behind a node port, before the pod.
    pub(super) between: Vec<Pair>,
    pub(super) standing: Standing,
    /// Whether the oracle knows every packet of it that was run.
    pub(super) is_told: bool,
    pub(super) is_closed: bool,
    /// Whether any of it was seen in a tunnel.
    pub(super) is_tunneled: bool,
    /// By direction: forward, back.
    pub(super) counts: [u64; 2],
    pub(super) bytes: u64,
    pub(super) last: [Option<Said>; 2],
    pub(super) report: PacketReport,
    /// Addresses of it that could be pods', and are nobody's.
    pub(super) unknown: Vec<String>,
    dropped: u64,
    passed: u64,
    undecided: u64,
    why_undecided: Option<Undecided>,
    first_said: Option<Decision>,
    first_drop: Option<Decision>,
    agreement: Agreement,
    divergence: Option<Divergence>,
}

impl Tracked {
    pub(super) fn new(
        first: u64,
        ends: Ends,
        parties: (Party, Party),
        standing: Standing,
        report: PacketReport,
    ) -> Self {
        Self {
            first,
            ends,
            source: parties.0,
            destination: parties.1,
            sides: None,
            between: Vec::new(),
            standing,
            is_told: true,
            is_closed: false,
            is_tunneled: false,
            counts: [0; 2],
            bytes: 0,
            last: [None; 2],
            report,
            unknown: Vec::new(),
            dropped: 0,
            passed: 0,
            undecided: 0,
            why_undecided: None,
            first_said: None,
            first_drop: None,
            agreement: Agreement::Agree,
            divergence: None,
        }
    }

    /// Whether its packets are run.
    pub(super) fn runs(&self) -> bool {
        matches!(self.standing, Standing::Whole | Standing::Begun(_))
    }

    /// Whether nothing of the side that opened it got through, so that the other side has nothing to answer.
    pub(super) fn is_unopened(&self) -> bool {
        self.standing == Standing::Whole && self.dropped > 0 && self.passed + self.undecided == 0
    }

    /// Counts what became of a packet.
    pub(super) fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Dropped | Verdict::Rejected => self.dropped += 1,
            Verdict::Allowed => self.passed += 1,
            Verdict::Undecided => self.undecided += 1,
        }
    }

    /// Takes an explanation of a packet that something new is said about.
    pub(super) fn learn(
        &mut self,
        number: u64,
        explanation: Explanation,
        again: impl FnOnce(&Explanation) -> Again,
    ) {
        if self.is_silent() {
            self.report = explanation.packet.clone();
        }
        if explanation.agreement == Agreement::Differ {
            self.agreement = Agreement::Differ;
            self.divergence = self.divergence.take().or(explanation.divergence.clone());
        } else if explanation.agreement == Agreement::Single && self.agreement == Agreement::Agree {
            self.agreement = Agreement::Single;
        }
        self.why_undecided = self.why_undecided.or(explanation.undecided);
        let is_drop = explanation.verdict == Verdict::Dropped;
        let place = if is_drop { &mut self.first_drop } else { &mut self.first_said };
        if place.is_none() {
            let again = again(&explanation);
            // Bytes are of no use any more, and many.
            let mut explanation = Box::new(explanation);
            explanation.hops.clear();
            explanation.nearest.clear();
            *place = Some(Decision { at: number, reason: explanation.reason, again, explanation });
        }
    }

    /// Whether nothing was said about it so far.
    pub(super) fn is_silent(&self) -> bool {
        self.first_said.is_none() && self.first_drop.is_none()
    }

    fn verdict(&self, strict: bool) -> FlowVerdict {
        match self.standing {
            Standing::Strange => return FlowVerdict::UnknownAddresses,
            Standing::Unseen(_) => return FlowVerdict::NotSeen,
            Standing::Lacking(_) => return FlowVerdict::UnknownState,
            Standing::Begun(_) if !strict => return FlowVerdict::UnknownState,
            Standing::Begun(_) | Standing::Whole => {}
        }
        match (self.dropped, self.undecided, self.passed) {
            (0, 0, _) => FlowVerdict::Allowed,
            (0, ..) => FlowVerdict::Undecided,
            (_, 0, 0) => FlowVerdict::Dropped,
            _ => FlowVerdict::Mixed,
        }
    }

    /// The flow as it is told about; `file` is the capture, where it can be read again.
    pub(super) fn told(&self, file: Option<&str>, strict: bool) -> Flow {
        let decision = self.first_drop.as_ref().or(self.first_said.as_ref());
        let because = match &self.standing {
            Standing::Whole => None,
            Standing::Begun(why) | Standing::Lacking(why) => Some((*why).to_owned()),
            Standing::Strange => Some("the world knows neither address".to_owned()),
            Standing::Unseen(why) => Some(why.clone()),
        };
        let now = Outcome {
            verdict: self.verdict(strict),
            dropped: self.dropped,
            undecided: self.why_undecided,
            reason: decision.and_then(|decision| decision.reason),
            decided_by: decision.map(|d| d.explanation.decided_by.clone()).unwrap_or_default(),
            isolated_by: decision.map(|d| d.explanation.isolated_by.clone()).unwrap_or_default(),
            decided_at: decision.map_or(self.first, |decision| decision.at),
            because,
            agreement: if self.is_silent() { Agreement::Single } else { self.agreement },
            divergence: self.divergence.clone(),
        };
        Flow {
            first: self.first,
            packet: self.report.clone(),
            packets: self.counts[0],
            answers: self.counts[1],
            bytes: self.bytes,
            tunneled: self.is_tunneled,
            unknown: self.unknown.clone(),
            trace: decision.and_then(|decision| decision.again.arguments(decision.at, file)),
            now,
            then: None,
            change: None,
        }
    }
}

/// What matters of a trace: two packets with the same get the same explanation, but for their own bytes.
pub(super) fn of_trace(trace: &Trace) -> u64 {
    let mut hasher = DefaultHasher::new();
    trace.lost.hash(&mut hasher);
    for hop in &trace.hops {
        (hop.node.0, hop.hook, hop.ifindex).hash(&mut hasher);
        for stamped in &hop.events {
            match stamped.event {
                Event::Parsed { .. } => {}
                Event::Conntrack { state, .. } => state.hash(&mut hasher),
                Event::Service { backend, entry, .. } => (backend, entry).hash(&mut hasher),
                Event::Rewritten { rewriting, after, .. } => (rewriting, after).hash(&mut hasher),
                Event::Identity { source_side, identity, .. } => {
                    (source_side, identity).hash(&mut hasher);
                }
                Event::Policy { endpoint, direction, outcome, entry, .. } => {
                    (endpoint, direction, outcome, entry).hash(&mut hasher);
                }
                Event::Encrypted { .. } | Event::Outcome(_) => stamped.event.hash(&mut hasher),
            }
        }
    }
    hasher.finish()
}

/// What matters of a judgement, beside its rules.
pub(super) fn of_judgement(judgement: &Judgement) -> u64 {
    let mut hasher = DefaultHasher::new();
    (judgement.verdict, judgement.reason, judgement.illegal.len()).hash(&mut hasher);
    judgement.arrives.hash(&mut hasher);
    for leg in &judgement.legs {
        (leg.node, leg.direction, leg.outcome, leg.state).hash(&mut hasher);
    }
    hasher.finish()
}
