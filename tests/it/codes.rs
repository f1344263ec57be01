//! Diagnostic codes and what must exist for each: a page of the book, made from the registry, a line in the
//! book's lists, a fixture and a snapshot. `UPDATE=1` writes pages and lists.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use lang::codes::{ALL, CodeInfo};

use crate::tree::{files, files_with, name, read, root, updating};

/// The page of a code.
fn page(info: &CodeInfo) -> String {
    let CodeInfo { code, name, title, explanation, wrong, right } = info;
    let mut page = format!("# {code} {name}\n\n{}.\n\n{explanation}\n", capitalized(title));
    let needs_more = ["# ask: ", "# type: "].iter().find(|prefix| wrong.starts_with(**prefix));
    match needs_more {
        Some(&"# ask: ") => {
            page.push_str("\nThe first line stands for a question about the rest.\n");
        }
        Some(_) => {
            page.push_str("\nThe first line stands for what is typed in a session on the rest.\n");
        }
        None => {}
    }
    let parts = [("Wrong", "hop,wrong", wrong), ("Right", "hop,alone", right)];
    for (heading, info, text) in parts {
        write!(page, "\n## {heading}\n\n```{info}\n{text}```\n")
            .expect("a string takes every text");
    }
    page
}

fn capitalized(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

fn path(info: &CodeInfo) -> PathBuf {
    root().join(format!("book/src/codes/{}.md", info.code))
}

/// Compares a file with what it should hold, or writes it.
fn settle(path: &PathBuf, wanted: &str, findings: &mut Vec<String>) {
    if fs::read_to_string(path).is_ok_and(|text| text == wanted) {
        return;
    }
    if updating() {
        fs::write(path, wanted).expect("the book can be written");
    } else {
        findings.push(name(path));
    }
}

fn report(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

#[test]
fn every_code_has_its_page() {
    let mut findings = Vec::new();
    for info in ALL {
        settle(&path(info), &page(info), &mut findings);
    }
    for page in files("book/src/codes") {
        if !ALL.iter().any(|info| path(info) == page) {
            findings.push(format!("{} is the page of no code", name(&page)));
        }
    }
    report("pages of codes (UPDATE=1 writes them)", &findings);
}

/// A text with everything after a line replaced.
fn after(text: &str, line: &str, rest: &str) -> String {
    let (before, _) = text.split_once(line).expect("the line is there");
    format!("{before}{line}{rest}")
}

#[test]
fn the_book_lists_every_code() {
    let mut rows = String::from("|---|---|---|\n");
    let mut entries = String::from("\n");
    for CodeInfo { code, name, title, .. } in ALL {
        writeln!(rows, "| [{code}](codes/{code}.md) | `{name}` | {title} |")
            .expect("a string takes every text");
        writeln!(entries, "  - [{code} {name}](codes/{code}.md)")
            .expect("a string takes every text");
    }
    let mut findings = Vec::new();
    let lists = [
        ("book/src/codes.md", "| code | name | meaning |\n", rows),
        ("book/src/SUMMARY.md", "- [Diagnostic codes](codes.md)", entries),
    ];
    for (file, line, rest) in lists {
        let path = root().join(file);
        let wanted = after(&read(&path), line, &rest);
        settle(&path, &wanted, &mut findings);
    }
    report("lists of codes (UPDATE=1 writes them)", &findings);
}

#[test]
fn every_code_has_a_fixture_and_a_snapshot() {
    let fixtures: Vec<_> = files("fixtures/diagnostics").iter().map(|path| name(path)).collect();
    let mut snapshots: Vec<String> = Vec::new();
    for package in ["tests", "lang", "engine", "repl"] {
        snapshots.extend(files_with(package, "snap").iter().map(|path| read(path)));
    }
    let mut findings = Vec::new();
    for CodeInfo { code, name, .. } in ALL {
        let file = format!("fixtures/diagnostics/{code}-{name}.");
        if !fixtures.iter().any(|fixture| fixture.starts_with(&file)) {
            findings.push(format!("{code}: no {file}hop"));
        }
        if !snapshots.iter().any(|snapshot| snapshot.contains(&format!("[{code}]"))) {
            findings.push(format!("{code}: no snapshot shows it"));
        }
    }
    report("fixtures and snapshots of codes", &findings);
}
