//! Runs `test` blocks and reports what came of them. Owns cases, expectations and their mismatches; what
//! a flow comes to is the datapath's and the oracle's.

mod dialogue;
mod expect;
mod run;
mod translation;

use engine::explain::{Explanation, KnownChange, Verdict};
use engine::source::{Location, SourceMap};
use lang::Suite;
use lang::suite::Case;

use crate::reply::Status;

pub(crate) use expect::misses;
pub(crate) use run::run;

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Every expectation was met.
    Passed,
    /// One was not.
    Failed,
    /// It could not be run: a policy change that does not compile, a packet that no program meets.
    Broken,
    /// The datapath and the oracle differ.
    Divergent,
}

/// One expectation that was not met.
#[derive(Clone, Debug)]
pub struct Miss {
    /// The flow or step as it is written.
    pub step: String,
    /// Where it is written.
    pub location: Location,
    /// What was expected and what came, one line each.
    pub reasons: Vec<String>,
    /// The answer, where one came.
    pub explanation: Option<Box<Explanation>>,
    /// A command that shows the same again.
    pub reproduce: Option<String>,
}

/// One flow line or dialogue of a test block.
#[derive(Clone, Debug)]
pub struct CaseReport {
    /// The file it is in, as the user gave it.
    pub file: String,
    /// The test block's name and the case's: `storefront: a half-open flow is forgotten`.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong; the first only, as later steps of a dialogue stand on it.
    pub misses: Vec<Miss>,
    /// How many expectations were checked.
    pub checked: usize,
    /// What each step of a dialogue came to, as far as it was run; none of a flow's line.
    pub steps: Vec<StepReport>,
}

/// One step of a dialogue that was run.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The step as it is written.
    pub step: String,
    /// What became of its packet, where it has one.
    pub verdict: Option<Verdict>,
    /// What it changed in conntrack.
    pub known: Vec<KnownChange>,
}

/// What a run of tests came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The cases, in source order.
    pub cases: Vec<CaseReport>,
    /// Files without a test block.
    pub without_tests: Vec<String>,
    /// The filter that chose the cases.
    pub filter: Option<String>,
    /// What ran the packets, as answers name it; empty where no case asked it.
    pub backend: String,
    /// The user ended the run before every case had its turn.
    pub interrupted: bool,
}

impl Report {
    /// The exit status: a divergence weighs more than a broken case, that more than a failed one. A run
    /// of nothing is negative too, so that a mistyped filter is never green, and so is one cut short.
    pub fn status(&self) -> Status {
        let worst = self.cases.iter().map(|c| match c.outcome {
            Outcome::Passed => Status::Ok,
            Outcome::Failed => Status::Negative,
            Outcome::Broken => Status::Input,
            Outcome::Divergent => Status::Divergence,
        });
        let worst = worst.max().unwrap_or(Status::Negative);
        if self.interrupted { worst.worst(Status::Negative) } else { worst }
    }
}

/// `file::suite: case` of every case, in source order.
pub(crate) fn names(suites: &[Suite], sources: &SourceMap) -> Vec<String> {
    let of_suite = |suite: &Suite| {
        let file = sources.name(suite.span.file).to_owned();
        let names = suite.cases.iter().map(|case| format!("{file}::{}", name(suite, case)));
        names.collect::<Vec<_>>()
    };
    suites.iter().flat_map(of_suite).collect()
}

/// `storefront: a half-open flow is forgotten`, `storefront: web/client -> web/echo-0:80/tcp`.
fn name(suite: &Suite, case: &Case) -> String {
    match case {
        Case::Flow(flow) => format!("{}: {}", suite.name, flow.text),
        Case::At(at) => format!("{}: {}", suite.name, at.text),
        Case::Dialogue(dialogue) => format!("{}: {}", suite.name, dialogue.name),
    }
}
