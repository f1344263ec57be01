//! What the session's texts mean, derived as a whole: a new state is built completely before it takes
//! the old one's place, so that a failed change leaves nothing behind.

use engine::compile::compile;
use engine::diag::{Diagnostic, Severity};
use engine::policy::PolicySet;
use engine::source::{SourceMap, Span};
use engine::tables::{Generation, Tables};
use engine::topology::World;
use lang::ast::{Ast, ItemKind};
use lang::workspace::Lowered;
use lang::{Suite, Workspace};

use super::{Session, UNDO_DEPTH, Undo};

/// Texts and everything derived from them.
#[derive(Clone, Default)]
pub(crate) struct State {
    /// The texts.
    pub(crate) workspace: Workspace,
    /// Everything but the policies.
    pub(crate) world: World,
    /// The policies.
    pub(crate) policies: PolicySet,
    /// The tests.
    pub(crate) suites: Vec<Suite>,
    /// What world and policies compile to.
    pub(crate) tables: Tables,
    /// Warnings about the texts.
    pub(crate) warnings: Vec<Diagnostic>,
}

impl State {
    /// Lowers and compiles; errors of any kind give no state.
    pub(crate) fn derive(
        workspace: Workspace,
        sources: &SourceMap,
        generation: Generation,
    ) -> Result<Self, Vec<Diagnostic>> {
        let lowered = workspace.lower(sources);
        Self::of(workspace, lowered, generation)
    }

    /// The same without a look at what is wrong with tests.
    pub(crate) fn derive_untested(
        workspace: Workspace,
        sources: &SourceMap,
        generation: Generation,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut lowered = workspace.lower(sources);
        let tests: Vec<Span> = workspace.documents().flat_map(|d| tests_of(&d.ast)).collect();
        lowered.diagnostics.retain(|problem| {
            let at = problem.span();
            let covers =
                |test: &Span| test.file == at.file && test.start <= at.start && at.end <= test.end;
            !tests.iter().any(covers)
        });
        Self::of(workspace, lowered, generation)
    }

    fn of(
        workspace: Workspace,
        lowered: Lowered,
        generation: Generation,
    ) -> Result<Self, Vec<Diagnostic>> {
        if lowered.diagnostics.iter().any(|d| d.severity == Severity::Error) {
            return Err(lowered.diagnostics);
        }
        let tables = compile(&lowered.world, &lowered.policies, generation)?;
        Ok(Self {
            workspace,
            world: lowered.world,
            policies: lowered.policies,
            suites: lowered.suites,
            tables,
            warnings: lowered.diagnostics,
        })
    }
}

/// Places of the tests of a text.
fn tests_of(ast: &Ast) -> impl Iterator<Item = Span> {
    let is_test = |item: &&lang::ast::Item| matches!(item.kind, ItemKind::Test(_));
    ast.items.iter().filter(is_test).map(|item| item.span)
}

impl Session {
    /// A generation that no tables of this session ever had.
    pub(crate) fn next_generation(&mut self) -> Generation {
        self.last_generation.0 += 1;
        self.last_generation
    }

    /// Takes a workspace in the place of the present one; `what` is what `undo` will say it took back.
    pub(super) fn adopt(
        &mut self,
        workspace: Workspace,
        what: String,
    ) -> Result<(), Vec<Diagnostic>> {
        let before = self.state.workspace.clone();
        self.replace(workspace)?;
        self.undo.push(Undo { what, before });
        if self.undo.len() > UNDO_DEPTH {
            self.undo.remove(0);
        }
        Ok(())
    }

    /// The same without a way back.
    pub(super) fn replace(&mut self, workspace: Workspace) -> Result<(), Vec<Diagnostic>> {
        let generation = self.next_generation();
        self.state = State::derive(workspace, &self.sources, generation)?;
        Ok(())
    }
}
