//! Includes: reading what documents name, once each, and what is wrong with how they name each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::diag::Diagnostic;
use engine::source::{SourceMap, Span};

use super::{Document, Loader, Workspace, read};
use crate::ast::{ItemKind, Name};
use crate::codes;

/// Whether a problem of a document is one with its includes.
pub(super) fn is_about_includes(problem: &Diagnostic) -> bool {
    [codes::INCLUDE, codes::INCLUDE_CYCLE].contains(&problem.code)
}

fn includes(document: &Document) -> impl Iterator<Item = &Name> {
    document.ast.items.iter().filter_map(|item| match &item.kind {
        ItemKind::Include(path) => Some(path),
        _ => None,
    })
}

impl Workspace {
    /// Reads every file that is included and not there yet, and what those include, and notes what is
    /// wrong with includes.
    pub(super) fn follow_includes(&mut self, loader: &mut dyn Loader, sources: &mut SourceMap) {
        let mut at = 0;
        while let Some(document) = self.documents.get(at).map(Arc::clone) {
            for path in includes(&document) {
                self.follow(&document.name, &path.node, loader, sources);
            }
            at += 1;
        }
        self.note_includes();
    }

    fn follow(&mut self, from: &str, path: &str, loader: &mut dyn Loader, sources: &mut SourceMap) {
        let key = (from.to_owned(), path.to_owned());
        if matches!(self.includes.get(&key), Some(Ok(name)) if self.has(name)) {
            return;
        }
        let target = loader.load(path, from).map(|(name, text)| {
            if !self.has(&name) {
                self.documents.push(read(&name, text.clone(), Some(text), sources));
            }
            name
        });
        self.includes.insert(key, target);
    }

    fn has(&self, name: &str) -> bool {
        self.documents.iter().any(|d| d.name == name)
    }

    /// Puts what is wrong with includes into the documents' diagnostics.
    pub(super) fn note_includes(&mut self) {
        let mut problems = self.missing();
        problems.extend(self.cycles());
        for document in &mut self.documents {
            let found: Vec<Diagnostic> =
                problems.iter().filter(|p| p.span().file == document.file).cloned().collect();
            let stale = document.diagnostics.iter().any(is_about_includes);
            if stale || !found.is_empty() {
                let document = Arc::make_mut(document);
                document.diagnostics.retain(|d| !is_about_includes(d));
                document.diagnostics.extend(found);
                document.diagnostics.sort_by_key(|d| d.span().start);
            }
        }
    }

    /// Problems with includes that an earlier workspace does not have.
    pub(super) fn include_problems_beside(&self, before: &Self) -> Vec<Diagnostic> {
        let known = |d: &Diagnostic| {
            before.documents().flat_map(|b| &b.diagnostics).any(|b| b.message == d.message)
        };
        let problems = self.documents().flat_map(|d| &d.diagnostics);
        problems.filter(|d| is_about_includes(d) && !known(d)).cloned().collect()
    }

    fn missing(&self) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        for document in self.documents() {
            for path in includes(document) {
                let key = (document.name.clone(), path.node.clone());
                if let Some(Err(why)) = self.includes.get(&key) {
                    let message = format!("cannot include `{}`: {why}", path.node);
                    problems.push(
                        Diagnostic::error(codes::INCLUDE, message, path.span)
                            .note(format!("the path is relative to `{}`", document.name)),
                    );
                }
            }
        }
        problems
    }

    /// Each document's includes: the number of the document they lead to, and where they are written.
    fn graph(&self) -> Vec<Vec<(usize, Span)>> {
        let numbers: BTreeMap<&str, usize> =
            self.documents.iter().enumerate().map(|(at, d)| (d.name.as_str(), at)).collect();
        let edges = |document: &Document| {
            let to = |path: &Name| {
                let key = (document.name.clone(), path.node.clone());
                let target = self.includes.get(&key)?.as_ref().ok()?;
                Some((*numbers.get(target.as_str())?, path.span))
            };
            includes(document).filter_map(to).collect()
        };
        self.documents().map(edges).collect()
    }

    /// Includes that lead back to a file on the way to them.
    fn cycles(&self) -> Vec<Diagnostic> {
        let graph = self.graph();
        let mut problems = Vec::new();
        let mut done = BTreeSet::new();
        for root in 0..graph.len() {
            // Documents on the way, each with how many of its includes were followed.
            let mut way: Vec<(usize, usize)> =
                if done.contains(&root) { Vec::new() } else { vec![(root, 0)] };
            while let Some((at, followed)) = way.last_mut() {
                let edge = graph.get(*at).and_then(|edges| edges.get(*followed)).copied();
                *followed += 1;
                match edge {
                    None => {
                        done.insert(*at);
                        way.pop();
                    }
                    Some((to, span)) => match way.iter().position(|(on, _)| *on == to) {
                        Some(from) => problems.push(self.cycle(way.get(from..), to, span)),
                        None if done.contains(&to) => {}
                        None => way.push((to, 0)),
                    },
                }
            }
        }
        problems
    }

    fn cycle(&self, way: Option<&[(usize, usize)]>, to: usize, span: Span) -> Diagnostic {
        let numbers = way.into_iter().flatten().map(|(at, _)| *at).chain([to]);
        let names: Vec<&str> =
            numbers.filter_map(|at| self.documents.get(at).map(|d| d.name.as_str())).collect();
        let message = format!("this include leads back to itself: {}", names.join(" -> "));
        Diagnostic::error(codes::INCLUDE_CYCLE, message, span)
            .help("move what both files need into a third one")
    }

    /// Drops documents that no root leads to any more.
    pub(super) fn drop_unreachable(&mut self) {
        let graph = self.graph();
        let is_root = |d: &Document| self.roots.contains(&d.name);
        let mut open: Vec<usize> = (0..graph.len())
            .filter(|at| self.documents.get(*at).is_some_and(|d| is_root(d)))
            .collect();
        let mut reached = BTreeSet::new();
        while let Some(at) = open.pop() {
            if reached.insert(at) {
                open.extend(graph.get(at).into_iter().flatten().map(|(to, _)| *to));
            }
        }
        let mut at = 0;
        self.documents.retain(|_| {
            at += 1;
            reached.contains(&(at - 1))
        });
    }
}
