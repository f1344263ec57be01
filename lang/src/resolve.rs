//! A question's names and defaults resolved against a world.

use engine::diag::Diagnostic;
use engine::question::Question;
use engine::topology::{Party, World};

use crate::ast;

/// The engine's question: endpoints looked up, family chosen, every open field filled.
///
/// # Errors
/// One problem: an unknown or ambiguous name, families that do not meet, options that do not fit.
pub fn question(_world: &World, question: &ast::Question) -> Result<Question, Diagnostic> {
    Err(Diagnostic::error(engine::diag::Code(201), "not yet", question.span))
}

/// The endpoint behind a name.
///
/// # Errors
/// The name is unknown or ambiguous.
pub fn party(_world: &World, name: &ast::PartyName) -> Result<Party, Diagnostic> {
    Err(Diagnostic::error(engine::diag::Code(201), "not yet", name.span))
}
