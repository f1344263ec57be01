//! Reads a line into a command.

use engine::diag::Diagnostic;
use engine::source::FileId;

use super::Command;
use crate::ast::Question;
use crate::parse;

pub(super) fn command(_text: &str, _file: FileId) -> Result<Command, Vec<Diagnostic>> {
    Ok(Command::Empty)
}

pub(super) fn question(text: &str, file: FileId) -> Result<Question, Vec<Diagnostic>> {
    parse::question(text, file)
}
