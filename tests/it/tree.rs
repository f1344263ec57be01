//! The repository as the tests see it: where it is, which files it holds, and what of a Rust file is code.
//! Reads only; never decides what is right (`tidy` and `book` do).

use std::fs;
use std::path::{Path, PathBuf};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the package lies in the repository").to_owned()
}

/// A file's text.
pub(crate) fn read(path: &Path) -> String {
    let text = fs::read_to_string(path);
    assert!(text.is_ok(), "{}: {text:?}", path.display());
    text.unwrap_or_default()
}

/// A path relative to the root, as messages name it.
pub(crate) fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Every file below a folder of the repository, sorted; build output and version control left out.
pub(crate) fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if is_output(&path) {
                continue;
            }
            let list = if path.is_dir() { &mut folders } else { &mut found };
            list.push(path);
        }
    }
    found.sort();
    found
}

/// Files below a folder with one extension.
pub(crate) fn files_with(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = files(folder);
    found.retain(|p| p.extension().is_some_and(|e| e == extension));
    found
}

/// Every case file, and the example that the design shows.
pub(crate) fn cases() -> Vec<PathBuf> {
    let mut found = files_with("fixtures/cases", "hop");
    found.push(root().join("fixtures/shop.hop"));
    found
}

fn is_output(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name == "target" || name == ".git" || path.ends_with("book/book")
}

/// A Rust file without comments and without the contents of its string literals.
pub(crate) fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") {
            3
        } else if next == '"' {
            code.push_str("\"\"");
            string_length(rest)
        } else if let Some(length) = raw_string_length(rest) {
            code.push_str("\"\"");
            length
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[skip..];
    }
    code
}

/// Length of the string literal that a text begins with, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the raw string literal that a text begins with, if it does.
fn raw_string_length(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let body = 1 + hashes + 1;
    let length = text[body..].find(&end).map_or(text.len(), |at| body + at + end.len());
    Some(length)
}

/// The identifiers of a piece of code.
pub(crate) fn identifiers(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Whether expectations that live in files shall be written instead of compared (`UPDATE=1`).
pub(crate) fn updating() -> bool {
    std::env::var_os("UPDATE").is_some_and(|value| value != "0")
}

#[test]
fn code_has_neither_comments_nor_strings() {
    let text = "let a = \"x // \\\" y\"; // note\nlet b = r#\"fs\"#; /* fs */ let c = '\"';\n";
    assert_eq!(code(text), "let a = \"\"; \nlet b = \"\";  let c = ;\n");
}
