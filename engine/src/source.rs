//! Where text came from: files, spans and line numbers. Owns nothing but positions; never reads a file.

use std::sync::Arc;

use serde::Serialize;

/// A file of a [`SourceMap`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A half-open range of bytes in one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file the range lies in.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The smallest span that covers both; `other` must lie in the same file.
    #[must_use]
    pub fn to(self, other: Span) -> Span {
        Span { file: self.file, start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A place a person can go to. Lines and columns count from 1; columns count characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Location {
    /// The file's name as the user gave it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

#[derive(Clone, Debug)]
struct SourceFile {
    name: String,
    text: String,
    line_starts: Vec<u32>,
}

/// All texts of a session, by [`FileId`]. Cheap to clone: texts are shared.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    files: Vec<Arc<SourceFile>>,
}

impl SourceMap {
    /// Adds a text under the name that diagnostics shall print. Texts beyond 4 GiB are cut by the caller.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> FileId {
        let text = text.into();
        let mut line_starts = vec![0];
        line_starts.extend(text.match_indices('\n').map(|(at, _)| position(at + 1)));
        self.files.push(Arc::new(SourceFile { name: name.into(), text, line_starts }));
        FileId(position(self.files.len() - 1))
    }

    /// Gives a text another name to print.
    pub fn rename(&mut self, file: FileId, name: &str) {
        if let Some(file) = self.files.get_mut(file.0 as usize) {
            name.clone_into(&mut Arc::make_mut(file).name);
        }
    }

    /// The file's name, or `?` for an id of another map.
    pub fn name(&self, file: FileId) -> &str {
        self.files.get(file.0 as usize).map_or("?", |f| f.name.as_str())
    }

    /// The file's whole text, empty for an id of another map.
    pub fn text(&self, file: FileId) -> &str {
        self.files.get(file.0 as usize).map_or("", |f| f.text.as_str())
    }

    /// The text that a span covers, empty where the span does not fit the file.
    pub fn snippet(&self, span: Span) -> &str {
        self.text(span.file).get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// The place where a span begins.
    pub fn location(&self, span: Span) -> Location {
        let Some(file) = self.files.get(span.file.0 as usize) else {
            return Location { file: "?".into(), line: 1, column: 1 };
        };
        let line = file.line_starts.partition_point(|&start| start <= span.start).max(1) - 1;
        let start = file.line_starts.get(line).copied().unwrap_or(0);
        let before = file.text.get(start as usize..span.start as usize).unwrap_or("");
        Location {
            file: file.name.clone(),
            line: position(line) + 1,
            column: position(before.chars().count()) + 1,
        }
    }

    /// Forgets the texts that are not to be kept: those at the end go away, so that their ids are given
    /// out again; others stay as empty texts under their names, so that the ids after them hold.
    pub fn retain(&mut self, keep: impl Fn(FileId) -> bool) {
        let last = (0..self.files.len()).rev().find(|at| keep(FileId(position(*at))));
        self.files.truncate(last.map_or(0, |at| at + 1));
        for (at, file) in self.files.iter_mut().enumerate() {
            if !file.text.is_empty() && !keep(FileId(position(at))) {
                let (name, text) = (file.name.clone(), String::new());
                *file = Arc::new(SourceFile { name, text, line_starts: vec![0] });
            }
        }
    }

    /// Every file with its id, in the order they were added.
    pub fn files(&self) -> impl Iterator<Item = (FileId, &str)> {
        self.files.iter().enumerate().map(|(at, f)| (FileId(position(at)), f.name.as_str()))
    }
}

fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgetting_keeps_the_ids_of_the_rest() {
        let mut sources = SourceMap::default();
        let ids: Vec<FileId> = ["a", "b", "c"].map(|n| sources.add(n, format!("{n}\n"))).to_vec();
        sources.retain(|id| id == ids[1]);
        assert_eq!((sources.text(ids[0]), sources.text(ids[1])), ("", "b\n"));
        assert_eq!(sources.add("d", ""), ids[2]);
    }

    #[test]
    fn places_count_characters() {
        let mut sources = SourceMap::default();
        let file = sources.add("a.hop", "x\n\u{e9}y");
        let at = sources.location(Span { file, start: 4, end: 5 });
        assert_eq!(at.to_string(), "a.hop:2:2");
    }
}
