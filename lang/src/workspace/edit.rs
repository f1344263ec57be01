//! Typed statements as changes of a document's text. Touches the bytes of the statements that change and
//! the blank lines between them and their neighbours, and no others.

use std::collections::BTreeMap;
use std::ops::Range;

use engine::diag::{Diagnostic, Severity};
use engine::source::{FileId, Span};

use super::place::{self, Place, line_end, line_start};
use super::{Change, ChangeAction, Document};
use crate::ast::Ast;
use crate::{codes, fmt, parse};

/// Some bytes of a text, and what takes their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    range: Range<usize>,
    text: String,
}

/// A typed statement.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// Its canonical text.
    body: String,
    /// The same with the comments around it.
    whole: String,
    /// The comments around it.
    comments: Vec<String>,
}

/// Reads typed statements.
pub(super) fn read(text: &str, file: FileId) -> Result<Vec<Typed>, Vec<Diagnostic>> {
    let (ast, mut problems) = parse::file(text, file);
    problems.extend(twice(&ast));
    problems.retain(|d| d.severity == Severity::Error);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut typed = Vec::new();
    let mut start = 0;
    for (at, item) in ast.items.iter().enumerate() {
        let (kind, name) = item.key();
        let own = item.span.start as usize..item.span.end as usize;
        let last = at + 1 == ast.items.len();
        let end = if last { text.len() } else { line_end(text, own.end) };
        let comments = ast.comments.iter().filter(|c| {
            let at = c.span.start as usize;
            (start..end).contains(&at) && !own.contains(&at)
        });
        typed.push(Typed {
            kind,
            name,
            comments: comments.map(|c| c.text.clone()).collect(),
            body: canonical(text, own),
            whole: canonical(text, start..end),
        });
        start = end;
    }
    Ok(typed)
}

fn canonical(text: &str, range: Range<usize>) -> String {
    fmt::lay_out(text.get(range).unwrap_or("")).trim_end().to_owned()
}

/// Statements of a text that replace one another.
fn twice(ast: &Ast) -> Vec<Diagnostic> {
    let mut seen: BTreeMap<(&str, String), Span> = BTreeMap::new();
    let mut problems = Vec::new();
    for item in &ast.items {
        let (kind, name) = item.key();
        let message = format!("{kind} `{name}` is typed twice");
        if let Some(first) = seen.insert((kind, name), item.span) {
            problems.push(
                Diagnostic::error(codes::DUPLICATE_NAME, message, item.span)
                    .also(first, "first typed here"),
            );
        }
    }
    problems
}

impl Typed {
    pub(super) fn change(&self, action: ChangeAction, document: &str) -> Change {
        Change { action, kind: self.kind, name: self.name.clone(), document: document.to_owned() }
    }

    /// Takes the place of a statement. Comments that the document does not have there come above it.
    pub(super) fn in_place_of(&self, place: &Place, document: &Document) -> Edit {
        let kept = place.comments(&document.text, &document.ast);
        let mut lines: Vec<&str> = self.comments.iter().map(String::as_str).collect();
        lines.retain(|line| kept.iter().all(|c| c.text != *line));
        lines.extend(self.body.lines());
        let start = line_start(&document.text, place.range.start);
        let before = document.text.get(start..place.range.start).unwrap_or("");
        let indent = if place.nested { before.len() - before.trim_start().len() } else { 0 };
        let indent = before.get(..indent).unwrap_or("");
        let between = format!("{}{indent}", line_ending(&document.text));
        Edit { range: place.range.clone(), text: lines.join(&between) }
    }
}

/// Takes a statement and its comments away, and one of the blank lines that would then meet.
pub(super) fn removal(place: &Place, document: &Document) -> Edit {
    let text = document.text.as_str();
    let Some(mut range) = place.lines(text, &document.ast) else {
        let mut range = place.range.clone();
        let behind = text.get(range.end..).unwrap_or("");
        range.end += behind.len() - behind.trim_start_matches([' ', '\t']).len();
        return Edit { range, text: String::new() };
    };
    let before = text.get(..range.start).unwrap_or("");
    let blank_before = before.trim().is_empty() || is_blank(last_line(before));
    while blank_before && range.end < text.len() {
        let next = line_end(text, range.end);
        if !is_blank(text.get(range.end..next).unwrap_or("")) {
            break;
        }
        range.end = next;
    }
    if range.end == text.len() {
        // Blank lines that were between this statement and the one before.
        while range.start > 0 && is_blank(last_line(text.get(..range.start).unwrap_or(""))) {
            range.start = line_start(text, range.start - 1);
        }
        if ends_open(text) {
            range.start =
                text.get(..range.start).unwrap_or("").trim_end_matches(['\r', '\n']).len();
        }
    }
    Edit { range, text: String::new() }
}

/// The last line of a text that ends with a line end, or what follows the last line end.
fn last_line(text: &str) -> &str {
    let whole = text.strip_suffix('\n').unwrap_or(text);
    whole.rsplit('\n').next().unwrap_or(whole)
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

/// The text with its edits made.
pub(super) fn edited(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|e| e.range.start);
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for edit in edits {
        out.push_str(text.get(from..edit.range.start).unwrap_or(""));
        out.push_str(&edit.text);
        from = edit.range.end;
    }
    out.push_str(text.get(from..).unwrap_or(""));
    out
}

/// The document's text with statements behind it: one that fills a line right below one of its kind that
/// does too, others behind a blank line. A text that ends without a line end still does.
pub(super) fn appended(document: &Document, statements: &[&Typed]) -> String {
    let ending = line_ending(&document.text);
    let mut text = document.text.clone();
    let mut above = last_statement(document);
    for statement in statements {
        let short = !statement.whole.contains('\n');
        if !text.is_empty() && !text.ends_with('\n') {
            text.push_str(ending);
        }
        let adjoins = above == Some(statement.kind) && short;
        if !text.trim().is_empty() && !adjoins && !is_blank(last_line(&text)) {
            text.push_str(ending);
        }
        text.push_str(&statement.whole.replace('\n', ending));
        text.push_str(ending);
        above = short.then_some(statement.kind);
    }
    if ends_open(&document.text) {
        text.truncate(text.len() - ending.len());
    }
    text
}

/// Whether the text's last line has no line end, as its author left it.
fn ends_open(text: &str) -> bool {
    !is_blank(text) && !text.ends_with('\n')
}

/// The kind of the statement that the document ends with, if it fills one line.
fn last_statement(document: &Document) -> Option<&'static str> {
    let last = document.ast.items.last()?;
    let end = last.span.end as usize;
    let behind = place::comment_behind(&document.text, &document.ast, end);
    let from = behind.map_or(end, |c| c.span.end as usize);
    let ends = document.text.get(from..)?.trim().is_empty();
    let short = !document.text.get(last.span.start as usize..end)?.contains('\n');
    (ends && short).then(|| last.key().0)
}

/// How the document ends its lines.
fn line_ending(text: &str) -> &'static str {
    let first = text.find('\n').and_then(|at| text.get(..at));
    if first.is_some_and(|line| line.ends_with('\r')) { "\r\n" } else { "\n" }
}
