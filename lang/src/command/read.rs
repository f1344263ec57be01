//! Reads a line into a command.

use engine::diag::Diagnostic;
use engine::source::FileId;

use super::Command;
use crate::ast::Question;

pub(super) fn command(_text: &str, _file: FileId) -> Result<Command, Vec<Diagnostic>> {
    Ok(Command::Empty)
}

pub(super) fn question(_text: &str, _file: FileId) -> Result<Question, Vec<Diagnostic>> {
    Err(Vec::new())
}
