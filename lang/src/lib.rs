//! Text to values and back: the policy language with its tests and questions, its formatter, and the
//! command language of the session. Never reads a file, prints or runs anything.

pub mod ast;
pub mod codes;
pub mod command;
pub mod debug;
pub mod fmt;
pub mod resolve;
pub mod suite;
pub mod workspace;

mod lower;
mod names;
mod outline;
mod parse;

use engine::diag::Diagnostic;
use engine::policy::PolicySet;
use engine::source::SourceMap;
use engine::topology::World;

pub use parse::complete::{NameKind, Offer, TextKind, complete};
pub use suite::Suite;
pub use workspace::{Loader, NoIncludes, Workspace};

/// Texts read and understood.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Everything but the policies.
    pub world: World,
    /// The policies.
    pub policies: PolicySet,
    /// The tests.
    pub suites: Vec<Suite>,
    /// The texts themselves.
    pub workspace: Workspace,
    /// Every problem, by file and place. With an error among them nothing may be answered from the rest.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads (name, text) pairs and what they include, and lowers them to the engine's values.
pub fn load(
    entries: &[(String, String)],
    loader: &mut dyn Loader,
    sources: &mut SourceMap,
) -> Loaded {
    let workspace = Workspace::load(entries, loader, sources);
    let lowered = workspace.lower(sources);
    Loaded {
        world: lowered.world,
        policies: lowered.policies,
        suites: lowered.suites,
        workspace,
        diagnostics: lowered.diagnostics,
    }
}
