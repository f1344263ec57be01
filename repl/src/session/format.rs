//! One text in canonical form: what `hopwise fmt` does to files, without a session.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::source::SourceMap;
use similar::TextDiff;

use super::files::{cannot_read, read};
use super::save;
use crate::reply::Reply;

/// A text beside its canonical form.
#[derive(Clone, Debug)]
pub(crate) struct Formatted {
    name: String,
    before: String,
    after: String,
}

/// The canonical form of a text; `name` is what diagnostics print.
pub(crate) fn format_text(name: &str, text: &str) -> Result<Formatted, Box<Reply>> {
    // Spans of the formatter point into the first file of a map.
    let mut sources = SourceMap::default();
    sources.add(name, text);
    match lang::fmt::format(text) {
        Ok(after) => Ok(Formatted { name: name.to_owned(), before: text.to_owned(), after }),
        Err(problems) => Err(Box::new(Reply::diagnostics(problems, Arc::new(sources)))),
    }
}

/// The canonical form of a file.
pub(crate) fn format_file(path: &Path) -> Result<Formatted, Box<Reply>> {
    let text = read(path).map_err(|why| cannot_read(path, &why))?;
    format_text(&path.display().to_string(), &text)
}

impl Formatted {
    /// Whether there is nothing to do.
    pub(crate) fn is_canonical(&self) -> bool {
        self.before == self.after
    }

    /// The canonical form.
    pub(crate) fn text(&self) -> &str {
        &self.after
    }

    /// What would change, as a unified diff.
    pub(crate) fn difference(&self) -> String {
        let diff = TextDiff::from_lines(&self.before, &self.after);
        let formatted = format!("{} (formatted)", self.name);
        diff.unified_diff().header(&self.name, &formatted).to_string()
    }

    /// Puts the canonical form into the file of that name.
    pub(crate) fn write(&self) -> Result<(), Box<Reply>> {
        let path = PathBuf::from(&self.name);
        save::write(&path, &self.after).map_err(|e| Box::new(save::cannot_write(&path, &e)))
    }
}
