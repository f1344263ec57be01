//! The house's rules as tests: who may import what, what a file looks like, which pages and fixtures must
//! exist. A rule that the compiler or clippy can hold is theirs, not ours.

use std::fmt::Write as _;
use std::path::Path;

use engine::reason::DropReason;

use crate::tree::{code, files, files_with, identifiers, name, read, root, updating};

/// Fails with every finding at once, so that one run shows all of them.
fn report(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

/// The Rust sources of some folders, as (name, text).
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let paths = folders.iter().flat_map(|folder| files_with(folder, "rs"));
    paths.map(|path| (name(&path), read(&path))).collect()
}

const PACKAGES: &[&str] = &["engine", "lang", "datapath", "repl", "tests"];

#[test]
fn every_file_says_first_what_it_owns() {
    let silent = sources(PACKAGES).into_iter().filter(|(_, text)| !text.starts_with("//! "));
    let findings: Vec<_> = silent.map(|(name, _)| name).collect();
    report("the first line of a source file is `//! ` and what it owns", &findings);
}

#[test]
fn no_file_is_longer_than_600_lines() {
    let mut findings = Vec::new();
    for (name, text) in sources(PACKAGES) {
        let lines = text.lines().count();
        if lines > 600 {
            findings.push(format!("{name}: {lines}"));
        }
    }
    report("a longer file has more than one responsibility", &findings);
}

#[test]
fn modules_are_named_after_what_they_own() {
    const EMPTY_NAMES: &[&str] =
        &["util", "utils", "common", "manager", "helper", "helpers", "misc", "shared"];
    let paths = PACKAGES.iter().flat_map(|folder| files_with(folder, "rs"));
    let empty = paths.filter(|path| {
        path.components().any(|part| {
            let part = Path::new(part.as_os_str()).file_stem().unwrap_or_default();
            EMPTY_NAMES.iter().any(|empty| part == *empty)
        })
    });
    let findings: Vec<_> = empty.map(|path| name(&path)).collect();
    report("such a name says nothing", &findings);
}

/// Identifiers that the code of some files must not hold.
fn forbid(rule: &str, wanted: impl Fn(&str) -> bool, forbidden: &[&str]) {
    let mut findings = Vec::new();
    for (name, text) in sources(PACKAGES).into_iter().filter(|(name, _)| wanted(name)) {
        let code = code(&text);
        for (at, line) in code.lines().enumerate() {
            for word in identifiers(line).filter(|word| forbidden.contains(word)) {
                findings.push(format!("{name}: `{word}` near line {}", at + 1));
            }
        }
    }
    report(rule, &findings);
}

/// Whether a file is `engine::MODULE` or below it.
fn is_module(file: &str, module: &str) -> bool {
    file == format!("engine/src/{module}.rs") || file.starts_with(&format!("engine/src/{module}/"))
}

#[test]
fn the_oracle_and_the_compiler_know_nothing_of_each_other() {
    forbid(
        "the oracle reads the policy, never the tables",
        |file| is_module(file, "eval"),
        // `backend` alone is a service's as well; the module is known by what it holds.
        &["compile", "tables", "Backend", "BackendError", "Injection", "Observation"],
    );
    let compiled = ["compile", "tables", "backend", "trace"];
    forbid(
        "what is compiled and what runs it never asks the oracle",
        |file| {
            compiled.iter().any(|module| is_module(file, module)) || file.starts_with("datapath/")
        },
        &["eval"],
    );
}

#[test]
fn only_repl_prints() {
    forbid(
        "only `repl` prints",
        |file| {
            !file.starts_with("repl/")
                && !file.starts_with("tests/")
                && !is_build_script(file)
                && !file.ends_with("/tests.rs")
        },
        &["print", "println", "eprint", "eprintln", "dbg", "stdout", "stderr"],
    );
}

/// A build script talks to cargo by printing; tests (`tests.rs`) say why they skip.
fn is_build_script(file: &str) -> bool {
    file.ends_with("build.rs")
}

#[test]
fn the_engine_does_no_io_and_has_no_clock() {
    let words = ["fs", "process", "env", "Instant", "SystemTime", "File", "stdin", "thread"];
    forbid("the engine does no I/O", |file| file.starts_with("engine/src"), &words);
    // Tests may measure how long something takes.
    let is_language = |file: &str| file.starts_with("lang/src") && !file.contains("/tests");
    forbid("the language reads no clock", is_language, &words[3..5]);
}

#[test]
fn no_test_is_ignored() {
    let ignoring =
        sources(PACKAGES).into_iter().filter(|(_, text)| code(text).contains("#[ignore"));
    let findings: Vec<_> = ignoring.map(|(name, _)| name).collect();
    report("assert the wrong behaviour with a note rather than ignore a test", &findings);
}

#[test]
fn packages_depend_in_one_direction() {
    let allowed: &[(&str, &[&str])] = &[
        ("engine", &[]),
        ("datapath/abi", &[]),
        ("lang", &["engine"]),
        ("datapath", &["engine", "datapath-abi"]),
        ("repl", &["engine", "lang", "datapath"]),
    ];
    let ours = ["engine", "lang", "datapath", "datapath-abi", "repl", "tests"];
    let mut findings = Vec::new();
    for (package, allowed) in allowed {
        let manifest = read(&root().join(package).join("Cargo.toml"));
        let dependencies = manifest.lines().skip_while(|line| *line != "[dependencies]");
        for line in dependencies.skip(1).take_while(|line| !line.starts_with('[')) {
            let dependency = line.split([' ', '.', '=']).next().unwrap_or_default();
            if ours.contains(&dependency) && !allowed.contains(&dependency) {
                findings.push(format!("{package} on {dependency}"));
            }
        }
    }
    report("a dependency against the arrow", &findings);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    // In pieces, so that this file does not find itself.
    let places =
        [["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"], ["/Use", "rs/"]].map(|p| p.concat());
    let mut findings = Vec::new();
    for path in files("") {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (at, line) in text.lines().enumerate() {
            if places.iter().any(|place| line.contains(place)) {
                findings.push(format!("{}:{}: {}", name(&path), at + 1, line.trim()));
            }
        }
    }
    report("paths of one machine", &findings);
}

#[test]
fn every_drop_reason_has_a_page_and_every_page_a_reason() {
    let wanted: Vec<_> =
        DropReason::ALL.iter().map(|r| (format!("{}-{}.md", r.code(), r.name()), *r)).collect();
    let pages = root().join("book/src/reasons");
    let mut findings = Vec::new();
    for (file, reason) in &wanted {
        let text = std::fs::read_to_string(pages.join(file)).unwrap_or_default();
        let title = format!("# {} {}\n", reason.code(), reason.name());
        if !text.starts_with(&title) {
            findings.push(format!("{file} does not begin with `{}`", title.trim()));
        }
        for part in ["## When", "## What to do", "## In the reference"] {
            if !text.contains(part) {
                findings.push(format!("{file} has no part `{part}`"));
            }
        }
    }
    for path in files("book/src/reasons") {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !wanted.iter().any(|(wanted, _)| *wanted == file) {
            findings.push(format!("{file} is the page of no reason"));
        }
    }
    report("drop reasons and their pages", &findings);
}

#[test]
fn every_case_file_tests_something() {
    let mut findings = Vec::new();
    for path in files("fixtures/cases") {
        let text = read(&path);
        if path.extension().is_none_or(|e| e != "hop") {
            findings.push(format!("{}: not a .hop file", name(&path)));
        } else if !text.starts_with("# ") {
            findings.push(format!("{}: no comment says which corner", name(&path)));
        } else if !text.lines().any(|line| line.starts_with("test ")) {
            findings.push(format!("{}: no test block", name(&path)));
        }
    }
    report("case files", &findings);
}

#[test]
fn the_documents_exist_and_keep_their_size() {
    let architecture = read(&root().join("ARCHITECTURE.md"));
    assert!(architecture.lines().count() < 150, "ARCHITECTURE.md has 150 lines or more");
    let changes = read(&root().join("CHANGELOG.md"));
    assert!(changes.contains("\n## [Unreleased]"), "CHANGELOG.md has no unreleased part");
    for file in ["README.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        assert!(root().join(file).is_file(), "{file} is missing");
    }
}

/// Layouts shared with the kernel must not change under one version: `abi/version` records the version with
/// a digest of the sources, comments and white space aside.
#[test]
fn a_change_of_the_abi_raises_its_version() {
    let mut sources = String::new();
    let mut version = None;
    for path in files_with("datapath/abi/src", "rs") {
        let code = code(&read(&path));
        version = version.or_else(|| abi_version(&code));
        sources.extend(identifiers(&code).flat_map(|word| [word, " "]));
    }
    let version = version.expect("the abi has a constant ABI_VERSION");
    let mut record = String::new();
    writeln!(record, "version {version}\ndigest {:016x}", fnv1a(sources.as_bytes()))
        .expect("a string takes every text");
    let path = root().join("datapath/abi/version");
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    if recorded == record {
        return;
    }
    let same_version = recorded.lines().next() == record.lines().next();
    assert!(!same_version, "the abi's sources changed: raise ABI_VERSION, then run with UPDATE=1");
    assert!(updating(), "datapath/abi/version is out of date: run with UPDATE=1");
    std::fs::write(&path, record).expect("the record can be written");
}

/// The value of `ABI_VERSION` in a piece of code.
fn abi_version(code: &str) -> Option<u32> {
    let (_, rest) = code.split_once("const ABI_VERSION: u32 =")?;
    rest.split_once(';')?.0.trim().parse().ok()
}

/// FNV-1a, 64 bits: enough to notice a change.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
