//! Runs `test` blocks and reports what came of them. Owns expectations and their mismatches; the flows
//! themselves are asked through the session.

use engine::explain::Explanation;
use engine::source::Location;

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Every expectation was met.
    Passed,
    /// One was not.
    Failed,
    /// It could not be run: an unknown name, a policy that does not compile.
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
    /// The test block's name and the case's: `storefront / a half-open flow is forgotten`.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong.
    pub misses: Vec<Miss>,
    /// How many expectations were checked.
    pub checked: usize,
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
}
