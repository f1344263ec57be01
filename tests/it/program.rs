//! A `.hop` text of the book as a program: read, checked, and its tests run.

use engine::diag::{Diagnostic, Severity};
use engine::source::SourceMap;
use repl::reply::Status;
use repl::session::Session;

use crate::kernel;

/// See the module.
pub(crate) struct Program<'a> {
    name: &'a str,
    text: &'a str,
}

impl<'a> Program<'a> {
    /// A text under the name that findings print.
    pub(crate) fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text }
    }

    fn diagnostics(&self) -> Vec<Diagnostic> {
        let entry = (self.name.to_owned(), self.text.to_owned());
        let loaded = lang::load(&[entry], &mut lang::NoIncludes, &mut SourceMap::default());
        loaded.diagnostics
    }

    /// The codes of the text's errors.
    pub(crate) fn codes(&self) -> Vec<String> {
        let errors = self.diagnostics().into_iter().filter(|d| d.severity == Severity::Error);
        errors.map(|d| d.code.to_string()).collect()
    }

    /// Errors, warnings, and tests that fail in the session.
    pub(crate) fn problems(&self, session: &mut Session) -> Vec<String> {
        let diagnostics = self.diagnostics();
        if !diagnostics.is_empty() {
            let said =
                diagnostics.iter().map(|d| format!("{}: {} {}", self.name, d.code, d.message));
            return said.collect();
        }
        self.failed_tests(session).into_iter().collect()
    }

    /// What the tests of the text say, unless they pass.
    fn failed_tests(&self, session: &mut Session) -> Option<String> {
        let loaded = session.load_text(self.name, self.text);
        if loaded.status != Status::Ok {
            return Some(kernel::text(&loaded));
        }
        if session.test_names().is_empty() {
            return None;
        }
        let reply = session.run_tests(None);
        (reply.status != Status::Ok).then(|| kernel::text(&reply))
    }
}
