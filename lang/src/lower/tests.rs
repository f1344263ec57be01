use engine::source::SourceMap;

use crate::parse;

/// Every problem of a text: severity, code, message and the text at its place.
fn problems(text: &str) -> Vec<String> {
    let mut sources = SourceMap::default();
    let file = sources.add("test.hop", text);
    let (ast, mut diagnostics) = parse::file(text, file);
    diagnostics.extend(super::lower(&[&ast], &sources).diagnostics);
    diagnostics
        .into_iter()
        .map(|d| {
            format!("{:?} {} {} {:?}", d.severity, d.code, d.message, sources.snippet(d.span()))
        })
        .collect()
}

fn cases(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            cases(&path, found);
        } else if path.extension().is_some_and(|e| e == "hop") {
            found.push(path);
        }
    }
}

#[test]
fn fixtures_load_without_an_error() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/cases");
    let mut paths = Vec::new();
    cases(&root, &mut paths);
    let mut findings = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a case can be read");
        if text.contains("\ninclude") {
            continue;
        }
        let errors = problems(&text).into_iter().filter(|p| p.starts_with("Error"));
        findings.extend(errors.map(|p| format!("{}: {p}", path.display())));
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
