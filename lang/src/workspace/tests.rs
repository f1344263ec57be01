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

#[test]
fn what_surrounds_a_statement_stays() {
    let file =
        "policy web/a {\n  select {}\n}\n# between\npolicy web/b {\n  select {} # inner\n}\n";
    let text = "policy web/a {\n  # new\n  select { x }\n}";
    let expected = "policy web/a {\n  # new\n  select { x }\n}\n# between\npolicy web/b {\n  select {} # inner\n}\n";
    assert_eq!(typed(file, text), expected);
    let text = "# why\npolicy web/b { select {} } # so\n# and on";
    let expected = "policy web/a {\n  select {}\n}\n# between\n# why\n# so\n# and on\npolicy web/b { select {} }\n";
    assert_eq!(typed(file, text), expected);
}

#[test]
fn line_ends_and_marks_are_kept() {
    let file = "\u{feff}namespace web {}\r\npolicy web/a {\r\n\tselect {}\r\n}\r\n";
    let expected = "\u{feff}namespace web {}\r\npolicy web/a {\r\n  select { x }\r\n}\r\n";
    assert_eq!(typed(file, "policy web/a {\n\tselect { x }\n}"), expected);
    let expected = "\u{feff}namespace shop {}\r\n";
    let file = "\u{feff}namespace web {}\r\nnamespace shop {}\r\n";
    assert_eq!(removed(file, "namespace", "web"), expected.trim_start_matches('\u{feff}'));
}

#[test]
fn nodes_in_a_cluster_are_statements_too() {
    let file = "cluster c {\n  node a { ip 10.0.0.1 } # first\n  node b { ip 10.0.0.2 }\n}\n";
    let text = "node b { ip 10.0.0.9 pods 10.1.0.0/24 }\n";
    let expected = "cluster c {\n  node a { ip 10.0.0.1 } # first\n  node b { ip 10.0.0.9 pods 10.1.0.0/24 }\n}\n";
    assert_eq!(typed(file, text), expected);
    let expected = "cluster c {\n  node a { ip 10.0.0.1 } # first\n  # x\n  node b {\n    ip 10.0.0.9\n  }\n}\n";
    assert_eq!(typed(file, "# x\nnode b {\n  ip 10.0.0.9\n}"), expected);
    assert_eq!(removed(file, "node", "a"), "cluster c {\n  node b { ip 10.0.0.2 }\n}\n");
    let one_line = "cluster c { node a { ip 10.0.0.1 } node b { ip 10.0.0.2 } }\n";
    assert_eq!(removed(one_line, "node", "a"), "cluster c { node b { ip 10.0.0.2 } }\n");
    assert_eq!(
        typed(file, "cluster c { node a { ip 10.0.0.3 } }\nnode b { ip 10.0.0.2 }"),
        "cluster c { node a { ip 10.0.0.3 } }\n\nnode b { ip 10.0.0.2 }\n"
    );
}

#[test]
fn new_statements_come_at_the_end() {
    let check = |before: &str, text: &str, expected: &str| {
        assert_eq!(typed(before, text), expected, "{text:?} behind {before:?}");
    };
    check("", "namespace web {}", "namespace web {}\n");
    check("# alone", "namespace web {}", "# alone\n\nnamespace web {}");
    check("namespace web {}", "namespace  shop {}", "namespace web {}\nnamespace shop {}");
    check("namespace web {} # a", "namespace shop {}", "namespace web {} # a\nnamespace shop {}");
    check("alias a = b\r\nalias b = c", "alias c = d", "alias a = b\r\nalias b = c\r\nalias c = d");
    check("namespace web {}", "namespace web { labels {} }", "namespace web { labels {} }");
    check(
        "namespace web {}\n# end\n",
        "namespace s {}",
        "namespace web {}\n# end\n\nnamespace s {}\n",
    );
    check("namespace web {}\n\n\n", "alias a = b", "namespace web {}\n\n\nalias a = b\n");
    check(
        "namespace web {}\n",
        "# why\npolicy web/a {\n  select {}\n}\nnamespace s {}\nnamespace t {}\n# end",
        "namespace web {}\n\n# why\npolicy web/a {\n  select {}\n}\n\nnamespace s {}\n\nnamespace t {}\n# end\n",
    );
}

#[test]
fn the_first_of_a_session_without_files_is_a_document_of_its_own() {
    let mut sources = SourceMap::default();
    let (workspace, changes) =
        Workspace::default().apply("namespace web {}", &mut NoIncludes, &mut sources).unwrap();
    assert_eq!(changes[0].document, SESSION);
    assert_eq!(changes[0].action, ChangeAction::Added);
    let document = workspace.documents().next().unwrap();
    assert_eq!((document.name.as_str(), document.saved.as_deref()), (SESSION, None));
    assert!(document.is_changed());
    assert!(!workspace.mark_saved(SESSION).documents().next().unwrap().is_changed());
}

#[test]
fn typed_text_is_all_or_nothing() {
    let mut sources = SourceMap::default();
    let workspace = loaded(&[("a.hop", "namespace web {}\n")], &mut sources);
    for (text, code) in [
        ("namespace shop {}\nnamspace x {}", codes::UNKNOWN_STATEMENT),
        ("namespace shop {}\nnamespace shop { labels { a = b } }", codes::DUPLICATE_NAME),
        ("namespace shop {}\ninclude \"x.hop\"", codes::INCLUDE),
        ("policy web/a {\n  select {}\n  allow ingres\n}", codes::SYNTAX),
    ] {
        let problems = workspace.apply(text, &mut NoIncludes, &mut sources).unwrap_err();
        assert_eq!(problems.iter().map(|d| d.code).collect::<Vec<_>>(), [code], "{text}");
        assert_eq!(workspace.documents[0].text, "namespace web {}\n");
    }
}

#[test]
fn statements_are_found_in_every_document() {
    let mut sources = SourceMap::default();
    let texts = [("a.hop", "namespace web {}\n"), ("b.hop", "# kept\nnamespace shop {}\n")];
    let workspace = loaded(&texts, &mut sources);
    let text = "namespace shop { labels { a = \"b\" } }\nnamespace new {}";
    let (after, changes) = workspace.apply(text, &mut NoIncludes, &mut sources).unwrap();
    let said: Vec<_> =
        changes.iter().map(|c| (c.action, c.name.as_str(), c.document.as_str())).collect();
    assert_eq!(
        said,
        [(ChangeAction::Replaced, "shop", "b.hop"), (ChangeAction::Added, "new", "a.hop")]
    );
    let texts: Vec<_> = after.documents().map(|d| (d.text.as_str(), d.is_changed())).collect();
    assert_eq!(
        texts,
        [
            ("namespace web {}\nnamespace new {}\n", true),
            ("# kept\nnamespace shop { labels { a = \"b\" } }\n", true)
        ]
    );
    assert_eq!(
        after.statement("namespace", "shop"),
        Some("# kept\nnamespace shop { labels { a = \"b\" } }")
    );
    assert_eq!(after.statement("namespace", "none"), None);
    let names: Vec<_> = after.statements().into_iter().map(|(_, n)| n).collect();
    assert_eq!(names, ["web", "new", "shop"]);
    let saved = after.mark_saved("b.hop");
    let unsaved: Vec<_> = saved.documents().map(Document::is_changed).collect();
    assert_eq!(unsaved, [true, false]);
}

#[test]
fn removing_takes_the_comments_right_above() {
    let check = |before: &str, what: &str, expected: &str| {
        assert_eq!(removed(before, "namespace", what), expected, "{what} of {before:?}");
    };
    let file =
        "# top\n\n# a1\n# a2\nnamespace a {} # a3\n\n# b\n\nnamespace b {}\nnamespace c {}\n";
    check(file, "a", "# top\n\n# b\n\nnamespace b {}\nnamespace c {}\n");
    check(file, "b", "# top\n\n# a1\n# a2\nnamespace a {} # a3\n\n# b\n\nnamespace c {}\n");
    check(file, "c", "# top\n\n# a1\n# a2\nnamespace a {} # a3\n\n# b\n\nnamespace b {}\n");
    check("namespace a {}", "a", "");
    check("namespace a {}\n\nnamespace b {\n}", "b", "namespace a {}");
    check("namespace a {}\n\n\nnamespace b {}\n", "a", "namespace b {}\n");
    check("namespace a {} # x\nnamespace b {}\n", "b", "namespace a {} # x\n");
    check("  # i\n  namespace a {}\n", "a", "");
}

#[test]
fn what_was_added_can_be_removed_again() {
    let mut sources = SourceMap::default();
    for before in [
        "namespace a {}\n",
        "# x\n\nnamespace a {}\n",
        "policy a/b {\n  select {}\n}\n",
        // Whether the last line has a line end is its author's to say.
        "namespace a {}",
        "namespace a {}\r\n# end",
        "policy a/b {\n  select {}\n}",
    ] {
        let workspace = loaded(&[("a.hop", before)], &mut sources);
        let text = "# c\npolicy a/p {\n  select {}\n}";
        let (after, _) = workspace.apply(text, &mut NoIncludes, &mut sources).unwrap();
        let (back, _) = after.remove(&name("policy"), &name("a/p"), &mut sources).unwrap();
        assert_eq!(back.documents[0].text, before);
        assert!(!back.documents[0].is_changed());
    }
}

#[test]
fn a_name_to_remove_is_suggested() {
    let mut sources = SourceMap::default();
    let workspace = loaded(&[("a.hop", "namespace shop {}\n")], &mut sources);
    let helps = |kind: &str, what: &str| {
        let problem = workspace.remove(&name(kind), &name(what), &mut SourceMap::default());
        let problem = problem.unwrap_err();
        assert_eq!(problem.code, codes::NOTHING_TO_REMOVE);
        problem.helps[0].message.clone()
    };
    assert_eq!(helps("namespace", "shpo"), "did you mean `shop`?");
    assert_eq!(helps("namespace", "other"), "known: shop");
    assert_eq!(helps("pod", "shop"), "there is no pod");
}

fn with_includes(entries: &[&'static str], files: &mut Files) -> (Workspace, SourceMap) {
    let mut sources = SourceMap::default();
    let entries: Vec<_> =
        entries.iter().map(|n| ((*n).to_owned(), files.texts[n].to_owned())).collect();
    (Workspace::load(&entries, files, &mut sources), sources)
}

fn names(workspace: &Workspace) -> Vec<&str> {
    workspace.documents().map(|d| d.name.as_str()).collect()
}

fn problems(workspace: &Workspace) -> Vec<(&str, &str)> {
    let all = workspace.documents().flat_map(|d| d.diagnostics.iter().map(move |p| (d, p)));
    all.map(|(d, p)| (d.name.as_str(), p.message.as_str())).collect()
}

#[test]
fn each_file_is_one_document_however_it_is_included() {
    let mut files = Files::new(&[
        ("a.hop", "include \"b.hop\"\ninclude \"./c.hop\"\ninclude \"b.hop\"\n"),
        ("b.hop", "include \"c.hop\"\n"),
        ("c.hop", "namespace web {}\n"),
    ]);
    let (workspace, sources) = with_includes(&["a.hop", "a.hop"], &mut files);
    assert_eq!(names(&workspace), ["a.hop", "b.hop", "c.hop"]);
    assert_eq!(problems(&workspace), []);
    assert_eq!(files.read["b.hop"], 1);
    assert!(workspace.documents().all(|d| !d.is_changed()));
    assert_eq!(workspace.lower(&sources).world.namespaces.len(), 1);
}

#[test]
fn missing_files_and_cycles_are_reported_where_they_are_written() {
    let mut files = Files::new(&[
        ("a.hop", "include \"b.hop\"\ninclude \"none.hop\"\n"),
        ("b.hop", "include \"c.hop\"\n"),
        ("c.hop", "include \"b.hop\"\ninclude \"a.hop\"\n"),
        ("self.hop", "include \"self.hop\"\n"),
    ]);
    let (workspace, sources) = with_includes(&["a.hop", "self.hop"], &mut files);
    assert_eq!(
        problems(&workspace),
        [
            ("a.hop", "cannot include `none.hop`: there is no such file"),
            ("self.hop", "this include leads back to itself: self.hop -> self.hop"),
            ("c.hop", "this include leads back to itself: b.hop -> c.hop -> b.hop"),
            ("c.hop", "this include leads back to itself: a.hop -> b.hop -> c.hop -> a.hop"),
        ]
    );
    let found: Vec<_> = workspace.lower(&sources).diagnostics;
    let places: Vec<_> = found.iter().map(|d| sources.location(d.span()).to_string()).collect();
    assert_eq!(places, ["a.hop:2:9", "self.hop:1:9", "c.hop:1:9", "c.hop:2:9"]);
}

#[test]
fn includes_come_and_go() {
    let mut files = Files::new(&[
        ("a.hop", "namespace web {}\n"),
        ("b.hop", "include \"c.hop\"\n"),
        ("c.hop", "namespace shop {}\n"),
    ]);
    let (workspace, mut sources) = with_includes(&["a.hop"], &mut files);
    let (more, changes) = workspace.apply("include \"b.hop\"", &mut files, &mut sources).unwrap();
    assert_eq!((changes[0].kind, changes[0].name.as_str()), ("include", "b.hop"));
    assert_eq!(names(&more), ["a.hop", "b.hop", "c.hop"]);
    let (fewer, _) = more.remove(&name("include"), &name("b.hop"), &mut sources).unwrap();
    assert_eq!(names(&fewer), ["a.hop"]);
    assert_eq!(fewer.documents[0].text, "namespace web {}\n");
    let problems = more.apply("include \"x.hop\"", &mut files, &mut sources).unwrap_err();
    assert_eq!(sources.location(problems[0].span()).to_string(), "a.hop:4:9");
}

#[test]
fn formatting_changes_what_is_not_canonical() {
    let mut sources = SourceMap::default();
    let texts = [("a.hop", "namespace web{}\r\n"), ("b.hop", "namespace shop {}\n")];
    let workspace = loaded(&texts, &mut sources);
    let after = workspace.format(&mut sources).unwrap();
    let texts: Vec<_> = after.documents().map(|d| (d.text.as_str(), d.is_changed())).collect();
    assert_eq!(texts, [("namespace web {}\n", true), ("namespace shop {}\n", false)]);
    assert_eq!(after.documents[1].file, workspace.documents[1].file);
    let broken = loaded(&[("a.hop", "namespace web{}\npod\n")], &mut sources);
    assert!(!broken.format(&mut sources).unwrap_err().is_empty());
}

#[test]
fn odd_files_are_read() {
    let long = format!("namespace web {{ labels {{ a = \"{}\" }} }} # end", "x".repeat(100_000));
    for (text, count) in [
        ("", 0),
        ("\u{feff}", 0),
        ("\n\n", 0),
        ("# only", 0),
        ("namespace web {}", 1),
        ("\u{feff}namespace web {}\r\n", 1),
        ("\tnamespace\tweb\t{\t}\t", 1),
        (long.as_str(), 1),
    ] {
        let mut sources = SourceMap::default();
        let workspace = loaded(&[("a.hop", text)], &mut sources);
        assert_eq!(problems(&workspace), [], "{text:?}");
        assert_eq!(workspace.statements().len(), count, "{text:?}");
        let lowered = workspace.lower(&sources);
        assert_eq!(lowered.world.namespaces.len(), count, "{text:?}");
    }
}

/// Statements with comments of their own, by number.
fn statement(number: usize) -> (&'static str, String, String) {
    let name = format!("n{}", number % 7);
    match number % 4 {
        0 => (
            "namespace",
            name.clone(),
            format!("namespace {name} {{ labels {{ v = v{number} }} }}"),
        ),
        1 => (
            "external",
            name.clone(),
            format!("# of {number}\nexternal {name} {{ ip 10.0.0.{} }}", number % 200),
        ),
        2 => {
            let text = format!(
                "policy a/{name} {{\n  # inside {number}\n  select {{ v = v{number} }}\n}}"
            );
            ("policy", format!("a/{name}"), text)
        }
        _ => (
            "test",
            name.clone(),
            format!("test \"{name}\" {{\n  a -> b:{number} => allowed\n}} # behind"),
        ),
    }
}

#[test]
fn any_sequence_of_changes_leaves_what_was_said_last() {
    let start = "# top\n\nnamespace kept {} # kept\n\n# floating\n\nalias kept = kept # too\n";
    let mut sources = SourceMap::default();
    let mut workspace = loaded(&[("a.hop", start)], &mut sources);
    let mut said: BTreeMap<(&str, String), String> = BTreeMap::new();
    let mut history = Vec::new();
    let mut number = 1_usize;
    for _ in 0..150 {
        number = number * 5_003 % 65_521;
        history.push(workspace.clone());
        let (kind, called, text) = statement(number);
        if number.is_multiple_of(3) {
            let removed = workspace.remove(&name(kind), &name(&called), &mut sources);
            assert_eq!(removed.is_ok(), said.remove(&(kind, called)).is_some());
            workspace = removed.map_or(workspace, |(next, _)| next);
        } else {
            workspace = workspace.apply(&text, &mut NoIncludes, &mut sources).unwrap().0;
            let body = text.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n");
            said.insert((kind, called), body.trim_end_matches(" # behind").to_owned());
        }
        let present = workspace.documents[0].text.as_str();
        assert_eq!(problems(&workspace), [], "{present}");
        assert!(present.starts_with(
            "# top\n\nnamespace kept {} # kept\n\n# floating\n\nalias kept = kept # too\n"
        ));
        assert_eq!(workspace.statements().len(), said.len() + 2, "{present}");
        assert_eq!(fmt::format(present).as_deref(), Ok(present));
        for ((kind, called), body) in &said {
            let text = workspace.statement(kind, called).unwrap();
            assert!(text.contains(body.as_str()), "{body}\nis not in\n{text}");
        }
    }
    // Values of before are as they were: undoing is keeping one.
    assert_eq!(history[0].documents[0].text, start);
    while let Some((kind, called)) = said.pop_first().map(|(key, _)| key) {
        workspace = workspace.remove(&name(kind), &name(&called), &mut sources).unwrap().0;
    }
    assert_eq!(workspace.documents[0].text, start);
}
