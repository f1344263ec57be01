//! Canonical text. Changes white space, the commas behind the last of some items and the brackets of an
//! address before a port, and nothing else: every word and comment stays as it is written.
//!
//! * Two spaces a level, one between words; nothing is aligned. At most one blank line, where there was one.
//! * A block stays on one line where it was on one and fits into 100 columns; fields of a world block
//!   share lines as they did.
//! * A rule, flow or step is one line where it was one and fits; else each of its clauses begins a line,
//!   with `\` before it, and a clause that is still too long has one peer, port or fact a line.

use engine::diag::{Diagnostic, Severity};
use engine::source::FileId;

use crate::parse;

mod layout;
mod lex;
mod question;
mod raw;
mod tree;

pub use question::{party, question, step};
pub use raw::{layer, raw};

/// The canonical form of a text: idempotent, comments kept, lines ended by `\n`.
///
/// # Errors
/// What cannot be read of the text; spans are those of the first file of a source map.
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    let (_, mut problems) = parse::file(text, FileId::default());
    problems.retain(|d| d.severity == Severity::Error);
    if problems.is_empty() { Ok(lay_out(text)) } else { Err(problems) }
}

/// The canonical form of a text that can be read.
pub(crate) fn lay_out(text: &str) -> String {
    let (entries, ending) = tree::read(lex::tokens(text));
    layout::file(&entries, &ending)
}

#[cfg(test)]
mod tests;
