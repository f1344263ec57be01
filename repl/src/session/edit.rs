//! Statements that change the session, `remove`, `undo`, `diff`, `check` and `fmt`.

use std::fmt::Write;
use std::sync::Arc;

use lang::ast::Name;
use lang::workspace::{Change, ChangeAction};
use similar::TextDiff;

use super::Session;
use super::files::Disk;
use crate::reply::{Reply, Status};

impl Session {
    /// Adds or replaces the statements of a text, all or none.
    pub(super) fn apply(&mut self, text: &str) -> Reply {
        match self.state.workspace.apply(text, &mut Disk, &mut self.sources) {
            Ok((workspace, changes)) => {
                let what = changes.iter().map(describe).collect::<Vec<_>>().join(", ");
                match self.adopt(workspace, what.clone()) {
                    Ok(()) => self.with_warnings(Reply::text(what)),
                    Err(problems) => {
                        let problems = self.typed(text.trim(), problems);
                        self.complain(problems)
                    }
                }
            }
            Err(problems) => self.complain(problems),
        }
    }

    pub(super) fn remove(&mut self, kind: &Name, name: &Name) -> Reply {
        match self.state.workspace.remove(kind, name, &mut self.sources) {
            Ok((workspace, change)) => self.changed(workspace, describe(&change)),
            Err(problem) => self.complain(vec![problem]),
        }
    }

    /// The documents in canonical form.
    pub(super) fn format(&mut self) -> Reply {
        match self.state.workspace.format(&mut self.sources) {
            Ok(workspace) if same_texts(&workspace, &self.state.workspace) => {
                Reply::text("nothing to format")
            }
            Ok(workspace) => self.changed(workspace, "formatted the session".to_owned()),
            Err(problems) => self.complain(problems),
        }
    }

    fn changed(&mut self, workspace: lang::Workspace, what: String) -> Reply {
        match self.adopt(workspace, what.clone()) {
            Ok(()) => self.with_warnings(Reply::text(what)),
            Err(problems) => self.complain(problems),
        }
    }

    /// Takes the last change back.
    pub(super) fn undo(&mut self) -> Reply {
        let Some(last) = self.undo.pop() else {
            return Reply::failure(Status::Usage, "there is nothing to take back", "");
        };
        match self.replace(last.before) {
            Ok(()) => Reply::text(format!("took back: {}", last.what)),
            Err(problems) => self.complain(problems),
        }
    }

    /// The session against its files, as a unified diff; nothing where they are equal.
    pub(super) fn diff(&mut self) -> Reply {
        let mut text = String::new();
        for document in self.state.workspace.documents().filter(|d| d.is_changed()) {
            let saved = document.saved.as_deref();
            let old = if saved.is_some() { document.name.as_str() } else { "/dev/null" };
            let diff = TextDiff::from_lines(saved.unwrap_or(""), &document.text);
            let mut unified = diff.unified_diff();
            let unified = unified.header(old, &format!("{} (session)", document.name)).to_string();
            // Writing into a string cannot fail.
            let _ = write!(text, "{unified}");
        }
        if text.is_empty() { Reply::nothing() } else { Reply::text(text) }
    }

    /// Everything that is doubtful about the loaded text; errors never get in.
    pub fn check(&self) -> Reply {
        let warnings = self.state.warnings.clone();
        if warnings.is_empty() {
            return Reply::text("no problems");
        }
        Reply::diagnostics(warnings, Arc::new(self.sources.clone()))
    }

    /// Whether some text differs from its file.
    pub fn has_unsaved_changes(&self) -> bool {
        self.state.workspace.documents().any(lang::workspace::Document::is_changed)
    }
}

fn describe(change: &Change) -> String {
    let action = match change.action {
        ChangeAction::Added => "added",
        ChangeAction::Replaced => "replaced",
        ChangeAction::Removed => "removed",
    };
    format!("{action} {} {}", change.kind, change.name)
}

fn same_texts(a: &lang::Workspace, b: &lang::Workspace) -> bool {
    a.documents().map(|d| &d.text).eq(b.documents().map(|d| &d.text))
}
