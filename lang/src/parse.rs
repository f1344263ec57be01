//! Text to syntax tree, statement by statement and inside policies and tests line by line, so that one
//! run reports several errors. Looks nothing up.

use std::ops::Range;

use engine::diag::{Diagnostic, Severity};
use engine::source::{FileId, Span};
use pest::Parser as _;

use crate::ast::{Ast, Comment, FailedItem, Item, PartyName, Question, RawQuestion};
use crate::codes;
use crate::outline::{Chunk, Outline, Unbalanced};

pub(crate) mod complete;
mod errors;
mod policy;
mod question;
mod raw;
mod service;
mod setting;
mod test;
mod tree;
mod value;
mod world;

use tree::Tree;
pub(crate) use value::{qualify, seconds};

/// The generated parser; its rules are an implementation detail of this module.
mod grammar {
    #![allow(missing_docs, reason = "pest_derive writes the rule enum without docs")]
    #![allow(clippy::pedantic, reason = "generated code")]

    #[derive(pest_derive::Parser)]
    #[grammar = "grammar.pest"]
    pub(super) struct Grammar;
}

use grammar::{Grammar, Rule};

/// Words that begin a statement, in the order that messages list them.
pub(crate) const STATEMENTS: &[&str] = &[
    "cluster",
    "node",
    "namespace",
    "pod",
    "service",
    "external",
    "identity",
    "alias",
    "include",
    "policy",
    "clusterwide",
    "test",
];

/// Words that begin a statement of the language that is not built yet.
const LATER_STATEMENTS: &[&str] =
    &["verify", "dns", "cidr-group", "deploy", "statefulset", "daemonset", "enforcement"];

/// Settings of the cluster, which somebody may write as statements of their own.
const SETTINGS: &[&str] = &[
    "like",
    "tunnel",
    "host-routing",
    "native-cidr",
    "masquerade",
    "balance",
    "host-firewall",
    "prefilter",
    "encryption",
];

/// Reads a whole text.
pub(crate) fn file(text: &str, file: FileId) -> (Ast, Vec<Diagnostic>) {
    let outline = Outline::new(text);
    let mut reader = Reader::new(file, &outline);
    let (chunks, unbalanced) = outline.statements(starts_statement);
    reader.report_outline(&unbalanced);
    let mut ast = Ast { file, comments: comments(text, file, &outline), ..Ast::default() };
    for chunk in &chunks {
        match reader.statement(chunk) {
            Some(kind) => {
                let partly = reader.partly.then(|| reader.failed_item(chunk));
                ast.failed.extend(partly);
                ast.items.push(Item { kind, span: reader.span(&chunk.range) });
            }
            None => ast.failed.push(reader.failed_item(chunk)),
        }
    }
    ast.failed.extend(unbalanced.iter().filter_map(|u| reader.failed_opening(*u)));
    let mut diagnostics = reader.diagnostics;
    ast.partial = diagnostics.iter().any(|d| d.severity == Severity::Error);
    diagnostics.sort_by_key(|d| d.span().start);
    (ast, diagnostics)
}

/// Reads one question.
pub(crate) fn question(text: &str, file: FileId) -> Result<Question, Vec<Diagnostic>> {
    question_in(text, 0..text.len(), file)
}

/// Reads a question that is a part of a text.
pub(crate) fn question_in(
    text: &str,
    range: Range<usize>,
    file: FileId,
) -> Result<Question, Vec<Diagnostic>> {
    part_of(text, range, file, Rule::question_line, |tree, sink| {
        question::read(&tree.only()?, sink)
    })
}

/// Reads the name of one side of a flow.
pub(crate) fn party(text: &str, file: FileId) -> Result<PartyName, Vec<Diagnostic>> {
    part_of(text, 0..text.len(), file, Rule::party_line, |tree, sink| {
        question::party(&tree.only()?, sink)
    })
}

/// Reads a packet that enters at a hook, which is a part of a text.
pub(crate) fn raw_in(
    text: &str,
    range: Range<usize>,
    file: FileId,
) -> Result<RawQuestion, Vec<Diagnostic>> {
    part_of(text, range, file, Rule::raw_line, raw::read)
}

/// Reads a part of a text by an entry rule.
fn part_of<T>(
    text: &str,
    range: Range<usize>,
    file: FileId,
    rule: Rule,
    read: impl Fn(&Tree<'_>, value::Sink<'_>) -> Option<T>,
) -> Result<T, Vec<Diagnostic>> {
    let outline = Outline::new(text);
    let mut reader = Reader::new(file, &outline);
    let (_, unbalanced) = outline.statements(|_| false);
    reader.report_outline(&unbalanced);
    let read = if unbalanced.is_empty() {
        reader.grammar(rule, range).and_then(|tree| read(&tree, &mut reader.diagnostics))
    } else {
        None
    };
    match read {
        Some(read) if reader.diagnostics.is_empty() => Ok(read),
        _ => Err(reader.diagnostics),
    }
}

/// Whether an unindented line begins a statement.
fn starts_statement(text: &str) -> bool {
    let word = first_word(text);
    text.starts_with(word) && begins_statement(word)
}

/// Whether a statement begins with the word, be it built or not.
pub(crate) fn begins_statement(word: &str) -> bool {
    STATEMENTS.contains(&word) || LATER_STATEMENTS.contains(&word)
}

/// The first word after white space; empty where something else comes first.
pub(crate) fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        .unwrap_or(text.len());
    text.get(..end).unwrap_or("")
}

fn comments(text: &str, file: FileId, outline: &Outline) -> Vec<Comment> {
    let comment = |range: &Range<usize>| Comment {
        span: span_of(file, range),
        text: text.get(range.clone()).unwrap_or("").to_owned(),
    };
    outline.comments.iter().map(comment).collect()
}

pub(crate) fn span_of(file: FileId, range: &Range<usize>) -> Span {
    Span { file, start: offset(range.start), end: offset(range.end) }
}

/// Texts are below 4 GiB; beyond it spans stick at the end.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// One text being read.
struct Reader<'t> {
    file: FileId,
    outline: &'t Outline,
    diagnostics: Vec<Diagnostic>,
    /// The statement read last lost a part of its body.
    partly: bool,
}

impl<'t> Reader<'t> {
    fn new(file: FileId, outline: &'t Outline) -> Self {
        Self { file, outline, diagnostics: Vec::new(), partly: false }
    }

    fn text(&self, range: &Range<usize>) -> &'t str {
        self.outline.blanked.get(range.clone()).unwrap_or("")
    }

    fn span(&self, range: &Range<usize>) -> Span {
        span_of(self.file, range)
    }

    /// Reads a part by one of the grammar's entry rules; reports why it cannot be.
    fn grammar(&mut self, rule: Rule, range: Range<usize>) -> Option<Tree<'t>> {
        let text = self.text(&range);
        match Grammar::parse(rule, text) {
            Ok(mut pairs) => pairs.next().map(|pair| Tree::new(pair, range.start, self.file)),
            Err(error) => {
                let at = |r: Range<usize>| self.span(&(range.start + r.start..range.start + r.end));
                let diagnostic = errors::diagnostic(&error, text, rule, at);
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    fn report_outline(&mut self, unbalanced: &[Unbalanced]) {
        for &at in &self.outline.unterminated {
            let line = self.text(&(at..self.outline.blanked.len())).lines().next().unwrap_or("");
            let span = self.span(&(at..at + line.len()));
            let message = "this string has no closing quote";
            self.diagnostics.push(
                Diagnostic::error(codes::UNTERMINATED_STRING, message, span)
                    .help("a string ends on its own line; write `\\\"` for a quote inside it"),
            );
        }
        for &problem in unbalanced {
            if !self.is_in_string(problem) {
                self.diagnostics.push(self.unbalanced(problem));
            }
        }
    }

    /// Whether the closing brace may be what a string without an end has swallowed.
    fn is_in_string(&self, problem: Unbalanced) -> bool {
        let Unbalanced::Unclosed(at) = problem else { return false };
        self.outline.unterminated.iter().any(|&string| {
            let between = self.text(&(at..string.max(at)));
            string > at && !between.lines().skip(1).any(starts_statement)
        })
    }

    fn unbalanced(&self, problem: Unbalanced) -> Diagnostic {
        let (at, code, message, help) = match problem {
            Unbalanced::Unclosed(at) => {
                (at, codes::UNCLOSED, "is never closed", "add the closing one, or remove this one")
            }
            Unbalanced::Stray(at) => {
                (at, codes::STRAY_CLOSE, "closes nothing", "remove it, or add the opening one")
            }
            Unbalanced::TooDeep(at) => {
                (at, codes::SYNTAX, "is nested too deeply", "the language needs 4 levels")
            }
        };
        let found = self.text(&(at..at + 1));
        Diagnostic::error(code, format!("this `{found}` {message}"), self.span(&(at..at + 1)))
            .help(help)
    }

    /// Reads one statement; `None` when something of it was wrong enough to leave it out, which has
    /// then been reported.
    fn statement(&mut self, chunk: &Chunk) -> Option<crate::ast::ItemKind> {
        self.partly = false;
        if self.outline.unterminated.iter().any(|at| chunk.range.contains(at)) {
            return None;
        }
        let word = first_word(self.text(&chunk.range));
        match word {
            "policy" | "clusterwide" => self.policy(chunk).map(crate::ast::ItemKind::Policy),
            "test" => self.test(chunk).map(crate::ast::ItemKind::Test),
            _ if STATEMENTS.contains(&word) => self.world(word, chunk),
            _ if LATER_STATEMENTS.contains(&word) => {
                let start = chunk.range.start;
                let span = self.span(&(start..start + word.len()));
                self.diagnostics.push(value::unsupported(&format!("`{word}`"), span));
                None
            }
            _ => {
                self.unknown_statement(word, chunk);
                None
            }
        }
    }

    fn unknown_statement(&mut self, word: &str, chunk: &Chunk) {
        let start = chunk.range.start;
        let first = self.text(&chunk.range).chars().next().map_or(1, char::len_utf8);
        let length = if word.is_empty() { first } else { word.len() };
        let span = self.span(&(start..start + length));
        let found = self.text(&(start..start + length));
        let diagnostic = Diagnostic::error(
            codes::UNKNOWN_STATEMENT,
            format!("no statement begins with `{found}`"),
            span,
        );
        if SETTINGS.contains(&word) {
            let help = format!("`{word}` is a setting: it stands in the `cluster` block");
            self.diagnostics.push(diagnostic.help(help));
            return;
        }
        self.diagnostics.push(match crate::names::nearest(word, STATEMENTS.iter().copied()) {
            Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), span, near),
            None => {
                diagnostic.help(format!("a statement begins with {}", errors::list(STATEMENTS)))
            }
        });
    }

    fn failed_item(&self, chunk: &Chunk) -> FailedItem {
        let (keyword, name) = head(self.text(&chunk.range));
        FailedItem { keyword, name, span: self.span(&chunk.range) }
    }

    /// What was begun by a line whose brace is never closed.
    fn failed_opening(&self, problem: Unbalanced) -> Option<FailedItem> {
        let (Unbalanced::Unclosed(at) | Unbalanced::TooDeep(at)) = problem else { return None };
        let before = self.text(&(0..at));
        // The statement began at the last unindented line before the brace.
        let start = before
            .rmatch_indices('\n')
            .map(|(at, _)| at + 1)
            .chain([0])
            .find(|&start| starts_statement(self.text(&(start..self.outline.blanked.len()))))?;
        let (keyword, name) = head(self.text(&(start..at)));
        Some(FailedItem { keyword, name, span: self.span(&(start..at)) })
    }
}

/// Keyword and name of a statement, as far as its first words tell.
fn head(text: &str) -> (String, Option<String>) {
    let mut words = text.split_whitespace();
    let mut keyword = words.next().unwrap_or("");
    if keyword == "clusterwide" {
        keyword = words.next().unwrap_or("policy");
    }
    let name = words.next().map(|w| w.trim_matches(['"', '{', '}']).to_owned());
    (keyword.to_owned(), name.filter(|n| !n.is_empty()))
}

#[cfg(test)]
mod tests;
