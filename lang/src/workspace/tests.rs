//! Sessions' texts: typed and removed statements, includes, odd files.

use std::collections::BTreeMap;

use engine::source::{FileId, SourceMap, Span};

use super::*;
use crate::ast::Spanned;

/// Files by name; counts how often each is read.
#[derive(Default)]
struct Files {
    texts: BTreeMap<&'static str, &'static str>,
    read: BTreeMap<String, usize>,
}

impl Files {
    fn new(texts: &[(&'static str, &'static str)]) -> Self {
        Self { texts: texts.iter().copied().collect(), ..Self::default() }
    }
}

impl Loader for Files {
    fn load(&mut self, path: &str, _relative_to: &str) -> Result<(String, String), String> {
        let name = path.trim_start_matches("./").to_owned();
        let text = self.texts.get(name.as_str()).ok_or("there is no such file")?;
        *self.read.entry(name.clone()).or_default() += 1;
        Ok((name, (*text).to_owned()))
    }
}

fn name(text: &str) -> Name {
    Spanned { node: text.to_owned(), span: Span { file: FileId(0), start: 0, end: 0 } }
}

fn loaded(texts: &[(&str, &str)], sources: &mut SourceMap) -> Workspace {
    let entries: Vec<_> = texts.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
    Workspace::load(&entries, &mut NoIncludes, sources)
}

/// The text after typing something in a session of one file.
fn typed(before: &str, text: &str) -> String {
    let mut sources = SourceMap::default();
    let workspace = loaded(&[("a.hop", before)], &mut sources);
    let (after, _) = workspace.apply(text, &mut NoIncludes, &mut sources).unwrap();
    assert_eq!(workspace.documents[0].text, before);
    assert_eq!(after.documents[0].saved.as_deref(), Some(before));
    assert_eq!(sources.text(after.documents[0].file), after.documents[0].text);
    after.documents[0].text.clone()
}

fn removed(before: &str, kind: &str, what: &str) -> String {
    let mut sources = SourceMap::default();
    let workspace = loaded(&[("a.hop", before)], &mut sources);
    let (after, change) = workspace.remove(&name(kind), &name(what), &mut sources).unwrap();
    assert_eq!(change.action, ChangeAction::Removed);
    after.documents[0].text.clone()
}

#[test]
fn a_typed_statement_takes_the_place_of_its_namesake() {
    let file = "# top\n\nnamespace  web{}   # odd, kept\r\n\n# about a\npod web/a on n { ip 10.0.0.1 } # behind\n\n\nnamespace shop {}";
    let check = |text: &str, expected: &str| {
        let present = "pod web/a on n { ip 10.0.0.1 }";
        assert_eq!(typed(file, text), file.replace(present, expected), "{text}");
    };
    check("pod web/a on n{ip 10.0.0.2}", "pod web/a on n { ip 10.0.0.2 }");
    check("# about a\npod web/a on n { ip 10.0.0.2 }", "pod web/a on n { ip 10.0.0.2 }");
    check("pod web/a on n { ip 10.0.0.1 } # behind", "pod web/a on n { ip 10.0.0.1 }");
}
