//! Canonical text: pairs of input and expected output, and what holds for every text.

use std::fs;
use std::path::{Path, PathBuf};

use engine::source::FileId;

use super::format;

mod layouts;

fn check(input: &str, expected: &str) {
    match format(input) {
        Ok(text) => assert_eq!(text, expected, "of {input:?}"),
        Err(problems) => panic!("{input:?}: {problems:?}"),
    }
    assert_eq!(format(expected).ok().as_deref(), Some(expected), "twice, of {input:?}");
}

#[test]
fn white_space_is_canonical() {
    check("", "");
    check("\n\n", "");
    check("\u{feff}namespace   web{}", "namespace web {}\n");
    check("# a\r\n\r\n\r\nnamespace web {}\r\n", "# a\n\nnamespace web {}\n");
    check("\n\nnamespace web {\n}\n\n\n\n# end", "namespace web {}\n\n# end\n");
}

#[test]
fn words_come_together_where_they_are_one() {
    let test = |flow: &str, expected: &str| {
        check(&format!("test \"t\" {{\n{flow}\n}}"), &format!("test \"t\" {{\n  {expected}\n}}\n"));
    };
    test("a->b :81/tcp=>allowed", "a -> b:81/tcp => allowed");
    test("a -> fd00::1 :80 => allowed", "a -> [fd00::1]:80 => allowed");
    test("a -> [ fd00::1 ] :http => allowed", "a -> [fd00::1]:http => allowed");
    test(
        "world ::1 -> fd00::1:80 => allowed by p#x[0]",
        "world ::1 -> fd00::1:80 => allowed by p#x[0]",
    );
    test("a -> b:80   http GET  /x/y => allowed", "a -> b:80 http GET /x/y => allowed");
    test("a -> b payload \"  x\\\"{ # \" => allowed", "a -> b payload \"  x\\\"{ # \" => allowed");
    test("a -> b quoting(a->b:1)=>allowed", "a -> b quoting ( a -> b:1 ) => allowed");
    let policy = "policy a/b { select { ! x , y==z , w!=v , a in(b,c,) , } }";
    check(policy, "policy a/b { select { !x, y == z, w != v, a in (b, c) } }\n");
}

/// Every file of the language below a folder of the repository.
fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "hop") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no file below {folder}");
    found.sort();
    found
}

#[test]
fn cases_and_worlds_are_canonical() {
    let mut files_to_format = files("fixtures/cases");
    files_to_format.extend(files("fixtures/worlds"));
    files_to_format.retain(|(path, text)| match format(text) {
        Ok(canonical) => canonical != *text,
        Err(problems) => panic!("{}: {problems:?}", path.display()),
    });
    let names: Vec<_> = files_to_format.iter().map(|(path, _)| path.display()).collect();
    assert!(names.is_empty(), "`hopwise fmt` is wanted for {names:#?}");
}

/// The tree without places and comments.
fn tree(text: &str) -> String {
    let (ast, _) = crate::parse::file(text, FileId::default());
    assert!(ast.failed.is_empty(), "{:?}", ast.failed);
    let debug = format!("{:?}", ast.items);
    let mut parts = debug.split("Span { file: FileId(0), start: ");
    let mut stripped = parts.next().unwrap_or("").to_owned();
    for part in parts {
        stripped.push_str(part.split_once('}').map_or("", |(_, rest)| rest));
    }
    stripped
}

/// The texts of all comments, sorted.
fn comments(text: &str) -> Vec<String> {
    let (ast, _) = crate::parse::file(text, FileId::default());
    let mut texts: Vec<String> = ast.comments.into_iter().map(|c| c.text).collect();
    texts.sort();
    texts
}

/// What holds for the canonical form of every text that can be read. Says whether it can.
fn check_canonical(text: &str) -> bool {
    let Ok(canonical) = format(text) else { return false };
    assert_eq!(tree(&canonical), tree(text), "another meaning of\n{text}\nin\n{canonical}");
    assert_eq!(comments(&canonical), comments(text), "comments of\n{text}\nin\n{canonical}");
    let twice = format(&canonical).unwrap();
    assert_eq!(twice, canonical, "formatted twice:\n{text}");
    for line in canonical.lines() {
        assert_eq!(line.trim_end(), line, "white space at the end of a line of\n{text}");
    }
    assert!(!canonical.contains("\n\n\n"), "two blank lines in\n{canonical}");
    true
}

#[test]
fn fixtures_and_examples_keep_their_meaning_and_their_comments() {
    let mut count = 0;
    let fixtures = files("fixtures").into_iter().map(|(_, text)| text);
    for text in fixtures.chain(book()) {
        count += usize::from(check_canonical(&text));
    }
    assert!(count > 40, "{count} texts were read");
}

#[test]
fn pairs() {
    let mut count = 0;
    for (path, text) in files("fixtures/fmt") {
        let expected = path.with_extension("expected");
        let expected =
            fs::read_to_string(&expected).unwrap_or_else(|e| panic!("{}: {e}", expected.display()));
        check(&text, &expected);
        assert!(check_canonical(&text));
        count += 1;
    }
    assert!(count >= 4);
}

/// The examples of the book. That they are canonical is for the book's own tests to say.
fn book() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../book/src");
    let mut examples = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "md") {
            continue;
        }
        let page = fs::read_to_string(&path).unwrap();
        for part in page.split("\n```hop\n").skip(1) {
            let example = part.split("\n```").next().unwrap_or("");
            examples.push(format!("{example}\n"));
        }
    }
    examples
}

#[test]
fn the_design_s_example_is_read_whole() {
    let text = files("fixtures").into_iter().find(|(path, _)| path.ends_with("shop.hop"));
    let entries = [("shop.hop".to_owned(), text.map(|(_, text)| text).unwrap())];
    let mut sources = engine::source::SourceMap::default();
    let loaded = crate::load(&entries, &mut crate::NoIncludes, &mut sources);
    assert_eq!(loaded.diagnostics, []);
    assert_eq!(loaded.policies.iter().count(), 3);
    assert_eq!(loaded.suites.len(), 1);
}
