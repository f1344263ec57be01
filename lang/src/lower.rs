//! Syntax trees to the engine's values, with every name looked up and everything checked that takes more
//! than one statement to see. What is wrong is left out and reported; names that a broken statement would
//! have declared are not reported again.

use std::collections::BTreeMap;

use engine::diag::{Code, Diagnostic, Severity};
use engine::policy::PolicySet;
use engine::source::{SourceMap, Span};
use engine::topology::World;

use crate::ast::{Ast, FailedItem, Item, ItemKind, Spanned};
use crate::codes;
use crate::names::{listed, nearest};
use crate::resolve::Directory;
use crate::workspace::Lowered;

pub(crate) use rule::message_type;

mod claims;
mod cluster;
mod lint;
mod policy;
mod rule;
mod service;
mod suite;
mod world;

/// Lowers all trees together. `sources` holds their texts.
pub(crate) fn lower(trees: &[&Ast], sources: &SourceMap) -> Lowered {
    let mut lowering = Lowering {
        sources,
        world: World::default(),
        diagnostics: Vec::new(),
        declared: BTreeMap::new(),
        lost: Vec::new(),
        suggestions: MOST_SUGGESTIONS,
        failed: trees.iter().flat_map(|t| &t.failed).cloned().collect(),
        directory: None,
        partial: trees.iter().any(|t| t.partial),
    };
    let items: Vec<&Item> = trees.iter().flat_map(|t| &t.items).collect();
    lowering.world(&items);
    let policies = lowering.policies(&items);
    let policies = PolicySet::new(policies);
    // What is left out because of an error would be missed by the lints.
    if lowering.is_whole() {
        lint::all(&lowering.world, &policies, &mut lowering.diagnostics);
        lint::settings(&items, &lowering.world, &mut lowering.diagnostics);
    }
    let suites = lowering.suites(&items, &policies);
    Lowered { world: lowering.world, policies, suites, diagnostics: lowering.diagnostics }
}

/// What is known so far.
struct Lowering<'s> {
    sources: &'s SourceMap,
    world: World,
    diagnostics: Vec<Diagnostic>,
    /// Where each (kind, name) was declared.
    declared: BTreeMap<(&'static str, String), Span>,
    failed: Vec<FailedItem>,
    /// An index of the world, once it is whole.
    directory: Option<Directory>,
    /// Something of a text was wrong or is not supported.
    partial: bool,
    /// Declared pods and services that are not in the world, because something else of them is wrong.
    lost: Vec<String>,
    /// How many more diagnostics may suggest a name.
    suggestions: usize,
}

/// How many diagnostics suggest a name: more are not printed, and each search looks at all the names.
const MOST_SUGGESTIONS: usize = 100;

impl Lowering<'_> {
    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Whether nothing was left out so far.
    fn is_whole(&self) -> bool {
        let error = |d: &Diagnostic| d.severity == Severity::Error;
        !self.partial && self.failed.is_empty() && !self.diagnostics.iter().any(error)
    }

    fn error(&mut self, code: Code, message: impl Into<String>, span: Span) {
        self.report(Diagnostic::error(code, message, span));
    }

    /// Notes a name; `false`, with an error, where the kind has it already.
    fn declare(&mut self, kind: &'static str, name: &str, span: Span) -> bool {
        let key = (kind, name.to_owned());
        if let Some(&first) = self.declared.get(&key) {
            let message = format!("{kind} `{name}` is declared twice");
            self.report(
                Diagnostic::error(codes::DUPLICATE_NAME, message, span)
                    .also(first, "first declared here"),
            );
            return false;
        }
        self.declared.insert(key, span);
        true
    }

    /// Whether a statement that could not be read may have declared the name.
    fn may_have_failed(&self, kind: &str, name: &str) -> bool {
        self.failed.iter().any(|failed| {
            let named = failed.name.as_deref().is_none_or(|n| n == name);
            // Nodes are declared inside the cluster's block; includes may hold anything.
            let holds =
                failed.keyword == "include" || kind == "node" && failed.keyword == "cluster";
            holds || failed.keyword == kind && named
        })
    }

    /// Whether one more diagnostic may suggest a name; counts it.
    fn may_suggest(&mut self) -> bool {
        let left = self.suggestions.checked_sub(1);
        self.suggestions = left.unwrap_or(0);
        left.is_some()
    }

    /// Reports a name that nothing has, unless a broken statement may have it.
    fn unknown(&mut self, code: Code, kind: &str, name: &str, span: Span, known: &[String]) {
        if self.may_have_failed(kind, name) {
            return;
        }
        let diagnostic = Diagnostic::error(code, format!("no {kind} is named `{name}`"), span);
        if !self.may_suggest() {
            return self.report(diagnostic);
        }
        let near = nearest(name, known.iter().map(String::as_str));
        self.report(match near {
            Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), span, near),
            None if known.is_empty() => {
                let body = if kind == "node" { "{ ip ADDRESS }" } else { "{}" };
                diagnostic.help(format!("declare it: `{kind} {name} {body}`"))
            }
            None => {
                let known = listed(known.iter().map(String::as_str));
                diagnostic.help(format!("known: {known}"))
            }
        });
    }

    fn check_namespace(&mut self, name: &str, span: Span) -> bool {
        // Every declared namespace is in the world.
        if self.declared.contains_key(&("namespace", name.to_owned())) {
            return true;
        }
        let known: Vec<String> = self.world.namespaces.iter().map(|n| n.name.clone()).collect();
        self.unknown(codes::UNKNOWN_NAMESPACE, "namespace", name, span, &known);
        false
    }

    /// Fills a field that may be given once.
    fn once<T>(&mut self, slot: &mut Option<Spanned<T>>, what: &str, node: T, span: Span) {
        match slot {
            Some(first) => self.report(codes::twice(&format!("`{what}`"), span, first.span)),
            None => *slot = Some(Spanned { node, span }),
        }
    }

    fn missing(&mut self, what: &str, field: &str, span: Span) {
        let diagnostic =
            Diagnostic::error(codes::MISSING_FIELD, format!("{what} needs `{field}`"), span);
        self.report(diagnostic);
    }
}

/// The items of a kind.
fn each<'i, T>(
    items: &[&'i Item],
    pick: impl Fn(&'i ItemKind) -> Option<&'i T>,
) -> Vec<(&'i T, Span)> {
    items.iter().filter_map(|item| Some((pick(&item.kind)?, item.span))).collect()
}

macro_rules! pick {
    ($items:expr, $kind:ident) => {
        $crate::lower::each($items, |kind| match kind {
            $crate::ast::ItemKind::$kind(node) => Some(node),
            _ => None,
        })
    };
}
use pick;

#[cfg(test)]
mod tests;
