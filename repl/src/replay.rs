//! Captured packets through the policy: read one by one, taken out of tunnels, told apart by flow, and sent through the
//! datapath in their order and by their clock. Owns what is the same packet and the same flow; verdicts are the datapath's
//! and the oracle's.

mod again;
mod chosen;
mod duplicates;
mod flows;
mod peel;
mod report;
mod run;
mod sort;
mod tracked;

pub(crate) use chosen::Chosen;
pub use report::{Change, Flow, FlowVerdict, Outcome, Report, Skipped, Summary};
pub(crate) use run::run;

/// Flows that are told apart unless asked otherwise.
pub const FLOW_LIMIT: usize = 10_000;

/// The highest limit of flows: beyond it the datapath's own tables forget.
pub const HIGHEST_LIMIT: usize = 10_000;

/// How to replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What began before the capture counts as new.
    pub strict: bool,
    /// Flows that are told apart at most.
    pub flow_limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { strict: false, flow_limit: FLOW_LIMIT }
    }
}
