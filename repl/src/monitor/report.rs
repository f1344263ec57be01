//! What watching came to, as data.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Ended, Fate, Sighting, Talk};

/// Events of a node that were lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lost {
    /// When it was noticed: nanoseconds since 1970, UTC.
    pub time: u64,
    /// The node.
    pub node: String,
    /// Events that did not fit its ring buffer. A run writes several.
    pub events: u64,
}

/// Sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Watch")]
pub struct Report {
    /// What was watched.
    pub source: String,
    /// Why it ended.
    pub ended: Ended,
    /// How long, in milliseconds.
    pub milliseconds: u64,
    /// Runs of programs that told something.
    pub runs: u64,
    /// Those that the filters admit.
    pub shown: u64,
    /// Of those: let on.
    pub allowed: u64,
    /// Of those: dropped.
    pub dropped: u64,
    /// Of those: not known.
    pub undecided: u64,
    /// Of those: of flows that may be older than programs which only observe.
    pub unknown_state: u64,
    /// Runs that had nothing to say but that the packet may go on its way.
    pub quiet: u64,
    /// Runs whose end was lost.
    pub incomplete: u64,
    /// Events that were read. With those that were lost: all that programs had to tell.
    pub events: u64,
    /// Events that were lost.
    pub lost: u64,
    /// The same by node; those that lost some.
    pub lost_by: Vec<Lost>,
    /// Whether the programs only observe.
    pub observed: bool,
    /// Who was seen talking to whom.
    pub talks: Vec<Talk>,
    /// Packets of talks that there was no room for.
    pub beyond: u64,
}

impl Report {
    /// Counts a sighting that is shown.
    pub(super) fn add(&mut self, seen: &Sighting) {
        self.shown += 1;
        *match seen.verdict {
            Fate::Allowed => &mut self.allowed,
            Fate::Dropped => &mut self.dropped,
            Fate::Undecided => &mut self.undecided,
            Fate::UnknownState => &mut self.unknown_state,
        } += 1;
    }

    /// Counts lost events.
    pub(super) fn lose(&mut self, lost: &Lost) {
        self.lost += lost.events;
        match self.lost_by.iter_mut().find(|known| known.node == lost.node) {
            Some(known) => known.events += lost.events,
            None => self.lost_by.push(lost.clone()),
        }
    }
}
