//! A pair of the grammar with its place in the whole text, and the few ways to look into it.

use engine::source::{FileId, Span};
use pest::iterators::Pair;

use super::{Rule, span_of};
use crate::ast::{Name, Spanned};

/// A node of the parse, in its file.
#[derive(Clone, Debug)]
pub(super) struct Tree<'i> {
    pair: Pair<'i, Rule>,
    base: usize,
    file: FileId,
}

impl<'i> Tree<'i> {
    pub(super) fn new(pair: Pair<'i, Rule>, base: usize, file: FileId) -> Self {
        Self { pair, base, file }
    }

    pub(super) fn rule(&self) -> Rule {
        self.pair.as_rule()
    }

    /// The text without white space behind it, which a rule with an absent last part takes along.
    pub(super) fn text(&self) -> &'i str {
        self.pair.as_str().trim_end_matches([' ', '\t', '\r', '\n', '\\'])
    }

    pub(super) fn span(&self) -> Span {
        let start = self.base + self.pair.as_span().start();
        span_of(self.file, &(start..start + self.text().len()))
    }

    pub(super) fn children(&self) -> impl Iterator<Item = Tree<'i>> + use<'i> {
        let (base, file) = (self.base, self.file);
        self.pair.clone().into_inner().map(move |pair| Tree { pair, base, file })
    }

    /// The first child of a rule.
    pub(super) fn child(&self, rule: Rule) -> Option<Tree<'i>> {
        self.children().find(|c| c.rule() == rule)
    }

    pub(super) fn has(&self, rule: Rule) -> bool {
        self.child(rule).is_some()
    }

    /// The children of a rule.
    pub(super) fn all(&self, rule: Rule) -> impl Iterator<Item = Tree<'i>> + use<'i> {
        self.children().filter(move |c| c.rule() == rule)
    }

    /// The only child that says what this node is.
    pub(super) fn only(&self) -> Option<Tree<'i>> {
        self.children().next()
    }

    pub(super) fn at<T>(&self, node: T) -> Spanned<T> {
        Spanned { node, span: self.span() }
    }

    pub(super) fn name(&self) -> Name {
        self.at(self.text().to_owned())
    }
}
