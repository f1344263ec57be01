//! The texts of a session: files with what they include, and what was typed since. Every change is a
//! change of text, so comments survive, `save` writes what `diff` shows, and undoing is keeping the value
//! of before. Reading files is the caller's, by [`Loader`].

use std::sync::Arc;

use engine::diag::Diagnostic;
use engine::policy::PolicySet;
use engine::source::{FileId, SourceMap};
use engine::topology::World;

use crate::ast::Ast;
use crate::suite::Suite;

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
    /// Reads texts and what they include. Nothing fails: problems are in [`Document::diagnostics`].
    pub fn load(
        entries: &[(String, String)],
        _loader: &mut dyn Loader,
        sources: &mut SourceMap,
    ) -> Self {
        let documents = entries.iter().map(|(name, text)| {
            let file = sources.add(name.as_str(), text.as_str());
            let (ast, diagnostics) = crate::parse::file(text, file);
            let (name, text) = (name.clone(), text.clone());
            let saved = Some(text.clone());
            Arc::new(Document { name, file, text, saved, ast, diagnostics })
        });
        Self { documents: documents.collect() }
    }

    /// The texts, entries before what they include.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        self.documents.iter().map(AsRef::as_ref)
    }

    /// Kind and name of every statement, for completion and `remove`.
    pub fn statements(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// A statement's text with the comments that belong to it.
    pub fn statement(&self, _kind: &str, _name: &str) -> Option<&str> {
        None
    }

    /// Adds the statements of a text, each in the place of the one of its kind and name where there is
    /// one, else at the end of the first document. The text is all or nothing.
    ///
    /// # Errors
    /// What could not be read of the text; the workspace is as before.
    pub fn apply(
        &self,
        _text: &str,
        _loader: &mut dyn Loader,
        _sources: &mut SourceMap,
    ) -> Result<(Self, Vec<Change>), Vec<Diagnostic>> {
        Err(Vec::new())
    }

    /// Removes a statement with the comments right above it.
    ///
    /// # Errors
    /// There is none of that kind and name; the nearest is suggested.
    pub fn remove(
        &self,
        kind: &crate::ast::Name,
        name: &crate::ast::Name,
        _sources: &mut SourceMap,
    ) -> Result<(Self, Change), Diagnostic> {
        Err(Diagnostic::error(
            engine::diag::Code(200),
            format!("no {} {}", kind.node, name.node),
            name.span,
        ))
    }

    /// Every document in canonical form.
    ///
    /// # Errors
    /// A document has errors; nothing is changed.
    pub fn format(&self, _sources: &mut SourceMap) -> Result<Self, Vec<Diagnostic>> {
        Ok(self.clone())
    }

    /// The same with every document of that name taken as saved in its present text.
    #[must_use]
    pub fn mark_saved(&self, _name: &str) -> Self {
        self.clone()
    }

    /// What the texts mean.
    pub fn lower(&self, sources: &SourceMap) -> Lowered {
        let trees: Vec<&Ast> = self.documents().map(|d| &d.ast).collect();
        let mut lowered = crate::lower::lower(&trees, sources);
        let unread = self.documents().flat_map(|d| d.diagnostics.iter().cloned());
        lowered.diagnostics.extend(unread);
        lowered.diagnostics.sort_by_key(engine::diag::Diagnostic::span);
        lowered
    }
}
