//! Coverage of the datapath's programs: every line of theirs runs in a case file or in a crafted frame, or a written
//! reason says why it cannot. `HOPWISE_COVERAGE` names a directory to write counts to that `hopwise test` does not
//! have: `make coverage` adds them to its.

mod frames;

use std::fs;
use std::path::PathBuf;

use datapath::vm::coverage::lines::{File, Report};
use datapath::vm::coverage::{Coverage, Recorder};
use repl::reply::Status;
use repl::session::Session;

use crate::cli::{Folder, run};
use crate::differential::{number, run_random};
use crate::kernel;
use crate::tree::{cases, name, read, root};

/// Lines that nothing reaches, with their reasons.
const UNREACHED: &str = "fixtures/coverage/unreached.txt";

/// Random scenarios that are counted by default; `HOPWISE_SCENARIOS` sets another number.
const SCENARIOS: u64 = 20;

/// Runs every case file, counted.
fn run_cases(recorder: &Recorder) {
    let counting = recorder.clone();
    // Includes and messages are relative to the root.
    std::env::set_current_dir(root()).expect("the root is there");
    let mut session = Session::new(move |_| Ok(counting.backend()));
    for path in cases() {
        let loaded = session.load(std::slice::from_ref(&path));
        assert_eq!(loaded.status, Status::Ok, "{}: {}", name(&path), kernel::text(&loaded));
        let reply = session.run_tests(None);
        assert_eq!(reply.status, Status::Ok, "{}: {}", name(&path), kernel::text(&reply));
    }
}

/// Where counts are to be written.
fn wanted() -> Option<PathBuf> {
    let folder = std::env::var_os("HOPWISE_COVERAGE").filter(|folder| !folder.is_empty())?;
    Some(root().join(folder))
}

fn write(file: &str, counts: &Coverage) {
    let Some(folder) = wanted() else { return };
    let text = serde_json::to_string(counts).expect("counts are plain");
    fs::create_dir_all(&folder).expect("the directory can be made");
    fs::write(folder.join(file), text).expect("the counts can be written");
}

/// An entry of the list of reasons.
#[derive(Debug)]
struct Unreached {
    file: String,
    piece: String,
    reason: String,
}

/// Reads `FILE: PIECE` lines with indented reasons below them; `#` begins a remark.
fn reasons(text: &str) -> Vec<Unreached> {
    let mut entries: Vec<Unreached> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        match (line.starts_with(' '), entries.last_mut()) {
            (true, Some(entry)) => entry.reason.push_str(line.trim()),
            _ => {
                let (file, piece) = line.split_once(": ").expect("an entry is `FILE: PIECE`");
                let (file, piece) = (file.to_owned(), piece.trim().to_owned());
                entries.push(Unreached { file, piece, reason: String::new() });
            }
        }
    }
    entries
}

/// What is wrong: lines without reason, reasons without line.
fn problems(report: &Report, entries: &[Unreached]) -> Vec<String> {
    let mut found = Vec::new();
    for file in &report.files {
        // A brace alone says nothing: what the compiler counts there belongs to the lines before it.
        let says = |text: &str| text.chars().any(char::is_alphanumeric);
        for (number, line) in
            file.lines.iter().filter(|(_, line)| line.ran == 0 && says(&line.text))
        {
            let is_known =
                |entry: &&Unreached| entry.file == file.name && line.text.contains(&entry.piece);
            if !entries.iter().any(|entry| is_known(&entry)) {
                let text = line.text.trim();
                found.push(format!("{}:{number} runs nowhere: {text}", file.name));
            }
        }
    }
    for entry in entries {
        let named = |file: &&File| file.name == entry.file;
        let lines = report.files.iter().filter(named).flat_map(|file| file.lines.values());
        let lines: Vec<_> = lines.filter(|line| line.text.contains(&entry.piece)).collect();
        let Unreached { file, piece, reason } = entry;
        match lines[..] {
            [line] if line.ran > 0 => found.push(format!("{file}: `{piece}` runs after all")),
            [_] if reason.len() < 40 => found.push(format!("{file}: `{piece}` has no reason")),
            [_] => {}
            _ => found.push(format!("{file}: {} lines hold `{piece}`", lines.len())),
        }
    }
    found
}

#[test]
fn every_line_of_the_programs_runs_or_has_a_reason() {
    let recorder = Recorder::find().expect("the interpreter runs the object");
    run_cases(&recorder);
    let mut counts = recorder.counts();
    let frames = frames::counted(&Recorder::find().expect("it was found before"));
    write("frames.json", &frames);
    counts.merge(&frames).expect("both are of one object");
    let report = Report::new(recorder.image(), &counts);
    let entries = reasons(&read(&root().join(UNREACHED)));
    let found = problems(&report, &entries);
    assert!(
        found.is_empty(),
        "add a case below fixtures/cases, a frame to tests/it/coverage/frames.rs, or a reason to \
         {UNREACHED}:\n  {}",
        found.join("\n  ")
    );
}

#[test]
fn what_is_wrong_with_reasons_is_told() {
    let recorder = Recorder::find().expect("the interpreter runs the object");
    let report = Report::new(recorder.image(), &recorder.counts());
    let all = problems(&report, &[]);
    let lines = report.files.iter().flat_map(|file| file.lines.values());
    let says = |text: &str| text.chars().any(char::is_alphanumeric);
    let speaking = lines.filter(|line| says(&line.text)).count();
    assert_eq!(all.len(), speaking, "nothing has run");
    let file = "datapath/ebpf/src/forward.rs";
    let text = format!("# remark\n{file}: IDENTITY_HOST =>\n{file}: match\n{file}: nowhere\n");
    let found = problems(&report, &reasons(&text));
    let told = |what: &str| found.iter().any(|line| line.contains(what));
    assert!(told("`IDENTITY_HOST =>` has no reason"), "{found:#?}");
    assert!(told("0 lines hold `nowhere`"), "{found:#?}");
    let unreasoned =
        |line: &&String| line.contains("forward.rs") && line.contains("IDENTITY_HOST =>");
    let unreasoned = |line: &&String| unreasoned(line) && line.contains("runs nowhere");
    assert!(all.iter().any(|line| unreasoned(&line)), "{all:#?}");
    assert_eq!(found.iter().find(unreasoned), None);
}

#[test]
fn random_scenarios_are_counted() {
    let recorder = Recorder::find().expect("the interpreter runs the object");
    run_random(recorder.backend().as_mut(), number("HOPWISE_SCENARIOS").unwrap_or(SCENARIOS));
    let counts = recorder.counts();
    write("random.json", &counts);
    let covered = Report::new(recorder.image(), &counts).covered();
    assert!(covered.covered * 2 > covered.total, "{covered:?}");
}

/// The document of a directory's counts.
fn document(folder: &Folder) -> serde_json::Value {
    serde_json::from_str(&read(folder.path("counts/datapath.json").as_ref())).expect("it is JSON")
}

/// How often the driver's first instruction ran: once a packet.
fn packets(folder: &Folder) -> Option<u64> {
    document(folder)["programs"][0]["ran"][0].as_u64()
}

#[test]
fn the_command_writes_what_it_counted() {
    let folder = Folder::new("coverage", &[]);
    let counts = folder.path("counts");
    let count = ["test", "book/examples/first.hop", "--datapath-coverage", &counts];
    let (text, code) = run(&count);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("2 passed\nFILE ") && text.contains("\ndatapath: "), "{text}");
    let table = read(folder.path("counts/datapath.txt").as_ref());
    assert!(text.ends_with(&table), "{text}");
    let page = read(folder.path("counts/datapath.html").as_ref());
    assert!(page.contains(&table.lines().last().unwrap_or_default().replace('&', "&amp;")));
    let lcov = read(folder.path("counts/datapath.info").as_ref());
    assert!(lcov.starts_with("TN:datapath\nSF:datapath/ebpf/src/capture.rs\n"), "{lcov}");
    // Two questions of two hops.
    assert_eq!(packets(&folder), Some(4));
    let file = folder.path("counts/datapath.json");
    let (text, code) = run(&[&count[..], &["--merge-coverage", &file]].concat());
    assert_eq!((code, packets(&folder)), (0, Some(8)), "{text}");
    let (text, code) = run(&[&count[..], &["-o", "json"]].concat());
    let whole: Result<serde_json::Value, _> = serde_json::from_str(&text);
    assert_eq!((code, whole.map(|w| w["kind"].clone()).ok()), (0, Some("suite".into())), "{text}");
}

#[test]
fn what_cannot_be_counted_is_refused_before_anything_runs() {
    let folder = Folder::new("uncounted", &[("file", b""), ("bad.json", b"{}")]);
    let counts = folder.path("counts");
    let other = folder.path("other.json");
    let check = |more: &[&str], code: i32, said: &str| {
        let (text, came) = run(&[&["test", "book/examples/first.hop"], more].concat());
        assert_eq!(came, code, "{more:?}: {text}");
        assert!(text.contains(said) && !text.contains("passed"), "{more:?}: {text}");
    };
    check(&["--datapath-coverage", &counts, "--backend", "kernel"], 2, "cannot count");
    check(&["--datapath-coverage", &counts, "--backend", "both"], 2, "cannot count");
    check(&["--datapath-coverage", &counts, "--list"], 2, "--list");
    check(&["--merge-coverage", &other], 2, "--datapath-coverage");
    check(&["--datapath-coverage", &folder.path("file/below")], 4, "cannot write");
    check(
        &["--datapath-coverage", &counts, "--merge-coverage", &other],
        3,
        "cannot add the counts of",
    );
    check(
        &["--datapath-coverage", &counts, "--merge-coverage", &folder.path("bad.json")],
        3,
        "missing field",
    );
    let (text, code) = run(&["test", "book/examples/first.hop", "--datapath-coverage", &counts]);
    assert_eq!(code, 0, "{text}");
    let mut stranger = document(&folder);
    stranger["object"] = "00".into();
    fs::write(&other, stranger.to_string()).expect("the directory is ours");
    check(
        &["--datapath-coverage", &counts, "--merge-coverage", &other],
        3,
        "another build of the programs",
    );
}
