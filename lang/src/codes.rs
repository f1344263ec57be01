//! The registry of diagnostic codes that this crate gives: number, name, title, explanation and a wrong
//! and a right example each, from which the book's pages are made. Numbers are never reused.

use engine::diag::Code;

/// Everything that `explain CODE` and the book say about a code.
#[derive(Clone, Copy, Debug)]
pub struct CodeInfo {
    /// The number.
    pub code: Code,
    /// A kebab-case name, used in file names.
    pub name: &'static str,
    /// One line.
    pub title: &'static str,
    /// Two to four sentences.
    pub explanation: &'static str,
    /// A minimal text that gives the code. For questions the first line is `# ask: QUESTION`.
    pub wrong: &'static str,
    /// The same, mended.
    pub right: &'static str,
}

/// Every code, by number.
pub const ALL: &[CodeInfo] = &[];

/// What is known about a code.
pub fn find(code: Code) -> Option<&'static CodeInfo> {
    ALL.iter().find(|c| c.code == code)
}
