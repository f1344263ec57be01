//! Where statements are in a document's text, with the comments that belong to them.

use std::ops::Range;

use engine::source::Span;

use crate::ast::{Ast, ClusterField, Comment, ItemKind};

/// A statement in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `policy`, `pod`, ...
    pub(super) kind: &'static str,
    /// Its bytes.
    pub(super) range: Range<usize>,
    /// It is a node in a cluster's block.
    pub(super) nested: bool,
}

fn range(span: Span) -> Range<usize> {
    span.start as usize..span.end as usize
}

/// Kind, name and place of every statement, nodes in a cluster's block behind their cluster.
fn places(ast: &Ast) -> impl Iterator<Item = (String, Place)> {
    ast.items.iter().flat_map(|item| {
        let (kind, name) = item.key();
        let mut places = vec![(name, Place { kind, range: range(item.span), nested: false })];
        if let ItemKind::Cluster(cluster) = &item.kind {
            for field in &cluster.fields {
                if let ClusterField::Node(node) = &field.node {
                    let place = Place { kind: "node", range: range(field.span), nested: true };
                    places.push((node.name.node.clone(), place));
                }
            }
        }
        places
    })
}

/// Kind and name of every statement.
pub(super) fn keys(ast: &Ast) -> impl Iterator<Item = (&'static str, String)> {
    places(ast).map(|(name, place)| (place.kind, name))
}

/// The first statement of a kind and name.
pub(super) fn find(ast: &Ast, kind: &str, name: &str) -> Option<Place> {
    places(ast).find(|(n, place)| place.kind == kind && n == name).map(|(_, place)| place)
}

impl Place {
    /// [`Self::lines`]; where something else is on the same lines, only the statement itself.
    pub(super) fn with_comments(&self, text: &str, ast: &Ast) -> Range<usize> {
        self.lines(text, ast).unwrap_or_else(|| self.range.clone())
    }

    /// From the first of the comments right above to the end of the statement's line, its line end
    /// included. `None` where something else is on the same lines.
    pub(super) fn lines(&self, text: &str, ast: &Ast) -> Option<Range<usize>> {
        let mut start = line_start(text, self.range.start);
        if !blank(text, start..self.range.start) {
            return None;
        }
        let end = line_end(text, self.range.end);
        let behind = comment_behind(text, ast, self.range.end);
        let last = behind.map_or(self.range.end, |c| range(c.span).end);
        if !blank(text, last..end) {
            return None;
        }
        for comment in ast.comments.iter().rev().map(|c| range(c.span)) {
            let above = line_start(text, comment.start);
            if comment.end <= start && line_end(text, comment.end) == start {
                if !blank(text, above..comment.start) {
                    break;
                }
                start = above;
            }
        }
        Some(start..end)
    }

    /// The comments that [`Self::with_comments`] covers beside the statement.
    pub(super) fn comments<'a>(&self, text: &str, ast: &'a Ast) -> Vec<&'a Comment> {
        let around = self.with_comments(text, ast);
        let outside = |c: &&Comment| {
            let comment = range(c.span);
            around.contains(&comment.start) && !self.range.contains(&comment.start)
        };
        ast.comments.iter().filter(outside).collect()
    }
}

/// The comment behind a byte on its line, with nothing between them.
pub(super) fn comment_behind<'a>(text: &str, ast: &'a Ast, at: usize) -> Option<&'a Comment> {
    let line = at..line_end(text, at);
    let found = ast.comments.iter().find(|c| line.contains(&range(c.span).start))?;
    blank(text, at..range(found.span).start).then_some(found)
}

/// Where the line of a byte begins.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|t| t.rfind('\n')).map_or(0, |end| end + 1)
}

/// One past the line end behind a byte, or the end of the text.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|t| t.find('\n')).map_or(text.len(), |end| at + end + 1)
}

fn blank(text: &str, range: Range<usize>) -> bool {
    let text = text.get(range).unwrap_or("");
    text.trim_start_matches('\u{feff}').trim().is_empty()
}
