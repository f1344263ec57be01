//! The texts of a session: files with what they include, and what was typed since. Every change is a
//! change of text, so comments survive, `save` writes what `diff` shows, and undoing is keeping the value
//! of before. Reading files is the caller's, by [`Loader`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::diag::{Diagnostic, Severity};
use engine::policy::PolicySet;
use engine::source::{FileId, SourceMap};
use engine::topology::World;

use crate::ast::{Ast, Name};
use crate::suite::Suite;
use crate::{codes, fmt, lower, names, parse};

mod edit;
mod include;
mod place;

use edit::Edit;
use place::Place;

/// Finds the text of an `include`.
pub trait Loader {
    /// The name (as diagnostics shall print it, and unique per file) and the text of `path`, as written in
    /// the file named `relative_to`.
    ///
    /// # Errors
    /// One sentence on why it cannot be read.
    fn load(&mut self, path: &str, relative_to: &str) -> Result<(String, String), String>;
}

/// For texts that include nothing: every include is an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoIncludes;

impl Loader for NoIncludes {
    fn load(&mut self, _path: &str, _relative_to: &str) -> Result<(String, String), String> {
        Err("files cannot be included here".into())
    }
}

/// One text.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file's name; [`SESSION`] for what was typed where no file is loaded.
    pub name: String,
    /// The text as it is now, by its id in the source map.
    pub file: FileId,
    /// The text as it is now.
    pub text: String,
    /// The text as it was read or last saved; `None` where it never was in a file.
    pub saved: Option<String>,
    /// What it says.
    pub ast: Ast,
    /// What could not be read of it.
    pub diagnostics: Vec<Diagnostic>,
}

impl Document {
    /// Whether the text differs from the file's.
    pub fn is_changed(&self) -> bool {
        self.saved.as_ref() != Some(&self.text)
    }
}

/// Name of the document that holds statements typed without any file loaded.
pub const SESSION: &str = "session.hop";

/// Everything a session holds; a value, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    documents: Vec<Arc<Document>>,
    /// Names of the documents that are there although nothing includes them.
    roots: BTreeSet<String>,
    /// What each path leads to, as written in the document of that name: another document's name, or why
    /// it cannot be read.
    includes: BTreeMap<(String, String), Result<String, String>>,
}

/// What the texts mean.
#[derive(Clone, Debug, Default)]
pub struct Lowered {
    /// Everything but the policies.
    pub world: World,
    /// The policies.
    pub policies: PolicySet,
    /// The tests.
    pub suites: Vec<Suite>,
    /// Every problem of every document, syntax included, by file and place. With an error among them the
    /// rest is what could be made out, and must not be answered from.
    pub diagnostics: Vec<Diagnostic>,
}

/// What a statement did to the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub action: ChangeAction,
    /// `policy`, `pod`, ...
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The document it is in.
    pub document: String,
}

/// What happened to a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeAction {
    /// It is new.
    Added,
    /// It took the place of one of the same kind and name.
    Replaced,
    /// It is gone.
    Removed,
}

impl Workspace {
    /// Reads texts and what they include. Nothing fails: problems are in [`Document::diagnostics`]. Of
    /// several texts of one name the first is taken.
    pub fn load(
        entries: &[(String, String)],
        loader: &mut dyn Loader,
        sources: &mut SourceMap,
    ) -> Self {
        let mut workspace = Self::default();
        for (name, text) in entries {
            if workspace.roots.insert(name.clone()) {
                workspace.documents.push(read(name, text.clone(), Some(text.clone()), sources));
            }
        }
        workspace.follow_includes(loader, sources);
        workspace
    }

    /// The texts that are there although nothing includes them.
    pub fn entries(&self) -> impl Iterator<Item = &Document> {
        self.documents().filter(|document| self.roots.contains(&document.name))
    }

    /// The texts, entries before what they include.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        self.documents.iter().map(AsRef::as_ref)
    }

    /// Kind and name of every statement, for completion and `remove`; nodes of a cluster's block too.
    pub fn statements(&self) -> Vec<(&'static str, String)> {
        self.documents.iter().flat_map(|d| place::keys(&d.ast)).collect()
    }

    /// A statement's text with the comments that belong to it: those right above and the one behind it.
    pub fn statement(&self, kind: &str, name: &str) -> Option<&str> {
        let (document, place) = self.find(kind, name)?;
        document.text.get(place.with_comments(&document.text, &document.ast)).map(str::trim_end)
    }

    /// Adds the statements of a text, each in the place of the one of its kind and name where there is
    /// one, else at the end of the first document. They come in canonical form; everything around them
    /// stays as it is, the comments of a replaced statement too, and comments that are new come above it.
    /// The text is all or nothing.
    ///
    /// # Errors
    /// What could not be read of the text; the workspace is as before.
    pub fn apply(
        &self,
        text: &str,
        loader: &mut dyn Loader,
        sources: &mut SourceMap,
    ) -> Result<(Self, Vec<Change>), Vec<Diagnostic>> {
        let typed = edit::read(text, sources.add(TYPED, text))?;
        let mut next = self.clone();
        let mut changes = Vec::new();
        let mut edits: BTreeMap<usize, Vec<Edit>> = BTreeMap::new();
        let mut added = Vec::new();
        for statement in &typed {
            // A typed cluster takes the place of its nodes too.
            let renewed = typed.iter().any(|t| t.kind == "cluster");
            let present = self.position(statement.kind, &statement.name);
            match present.filter(|(_, _, place)| !(place.nested && renewed)) {
                Some((at, document, place)) => {
                    changes.push(statement.change(ChangeAction::Replaced, &document.name));
                    edits.entry(at).or_default().push(statement.in_place_of(&place, document));
                }
                None => added.push(statement),
            }
        }
        for (at, edits) in edits {
            next.edit(at, edits, sources);
        }
        if !added.is_empty() {
            let name = next.documents.first().map_or(SESSION, |d| &d.name).to_owned();
            changes.extend(added.iter().map(|s| s.change(ChangeAction::Added, &name)));
            next.append(&added, sources);
        }
        next.follow_includes(loader, sources);
        let problems = next.include_problems_beside(self);
        if problems.is_empty() { Ok((next, changes)) } else { Err(problems) }
    }

    /// Removes a statement with the comments right above it and the one behind it. Documents that only a
    /// removed `include` brought in go too.
    ///
    /// # Errors
    /// There is none of that kind and name; the nearest is suggested.
    pub fn remove(
        &self,
        kind: &Name,
        name: &Name,
        sources: &mut SourceMap,
    ) -> Result<(Self, Change), Diagnostic> {
        let Some((at, document, place)) = self.position(&kind.node, &name.node) else {
            return Err(self.nothing_to_remove(kind, name));
        };
        let change = Change {
            action: ChangeAction::Removed,
            kind: place.kind,
            name: name.node.clone(),
            document: document.name.clone(),
        };
        let mut next = self.clone();
        next.edit(at, vec![edit::removal(&place, document)], sources);
        next.drop_unreachable();
        next.note_includes();
        Ok((next, change))
    }

    fn nothing_to_remove(&self, kind: &Name, name: &Name) -> Diagnostic {
        let message = format!("no {} is named `{}`", kind.node, name.node);
        let diagnostic = Diagnostic::error(codes::NOTHING_TO_REMOVE, message, name.span);
        let all = self.statements();
        let known: Vec<&str> =
            all.iter().filter(|(k, _)| *k == kind.node).map(|(_, n)| n.as_str()).collect();
        match names::nearest(&name.node, known.iter().copied()) {
            Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), name.span, near),
            None if known.is_empty() => diagnostic.help(format!("there is no {}", kind.node)),
            None => diagnostic.help(format!("known: {}", names::listed(known))),
        }
    }

    /// Every document in canonical form.
    ///
    /// # Errors
    /// A document cannot be read; nothing is changed.
    pub fn format(&self, sources: &mut SourceMap) -> Result<Self, Vec<Diagnostic>> {
        let unreadable =
            |d: &&Diagnostic| d.severity == Severity::Error && !include::is_about_includes(d);
        let problems: Vec<Diagnostic> =
            self.documents().flat_map(|d| &d.diagnostics).filter(unreadable).cloned().collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut next = self.clone();
        for document in &mut next.documents {
            let text = fmt::lay_out(&document.text);
            if text != document.text {
                *document = read(&document.name, text, document.saved.clone(), sources);
            }
        }
        next.note_includes();
        Ok(next)
    }

    /// The same with every document of that name taken as saved in its present text.
    #[must_use]
    pub fn mark_saved(&self, name: &str) -> Self {
        let mut next = self.clone();
        for document in next.documents.iter_mut().filter(|d| d.name == name) {
            let document = Arc::make_mut(document);
            document.saved = Some(document.text.clone());
        }
        next
    }

    /// What the texts mean.
    pub fn lower(&self, sources: &SourceMap) -> Lowered {
        let trees: Vec<&Ast> = self.documents().map(|d| &d.ast).collect();
        let mut lowered = lower::lower(&trees, sources);
        lowered.diagnostics.extend(self.documents().flat_map(|d| d.diagnostics.clone()));
        lowered.diagnostics.sort_by_cached_key(|d| {
            let span = d.span();
            let document = self.documents.iter().position(|d| d.file == span.file);
            (document.unwrap_or(usize::MAX), span.start)
        });
        lowered
    }

    /// Where a statement is: the document's number, the document, the place in it.
    fn position(&self, kind: &str, name: &str) -> Option<(usize, &Document, Place)> {
        let mut documents = self.documents.iter().enumerate();
        documents.find_map(|(at, document)| {
            Some((at, document.as_ref(), place::find(&document.ast, kind, name)?))
        })
    }

    fn find(&self, kind: &str, name: &str) -> Option<(&Document, Place)> {
        self.position(kind, name).map(|(_, document, place)| (document, place))
    }

    fn edit(&mut self, at: usize, edits: Vec<Edit>, sources: &mut SourceMap) {
        if let Some(document) = self.documents.get_mut(at) {
            let text = edit::edited(&document.text, edits);
            if text != document.text {
                *document = read(&document.name, text, document.saved.clone(), sources);
            }
        }
    }

    /// Adds statements at the end of the first document.
    fn append(&mut self, statements: &[&edit::Typed], sources: &mut SourceMap) {
        match self.documents.first_mut() {
            Some(document) => {
                let text = edit::appended(document, statements);
                *document = read(&document.name, text, document.saved.clone(), sources);
            }
            None => {
                let empty = read(SESSION, String::new(), None, sources);
                let text = edit::appended(&empty, statements);
                self.roots.insert(SESSION.to_owned());
                self.documents.push(read(SESSION, text, None, sources));
            }
        }
    }
}

/// The name of typed text in diagnostics.
const TYPED: &str = "input";

fn read(name: &str, text: String, saved: Option<String>, sources: &mut SourceMap) -> Arc<Document> {
    let file = sources.add(name, text.as_str());
    let (ast, diagnostics) = parse::file(&text, file);
    Arc::new(Document { name: name.to_owned(), file, text, saved, ast, diagnostics })
}

#[cfg(test)]
mod tests;
