//! Every file of `fixtures/diagnostics`, one for each code, as its diagnostics are printed: snapshots that a person reads.
//! Lines `# ask: QUESTION` and `# type: COMMAND` at the head of a file are asked and typed on the rest.

use engine::compile::compile;
use engine::diag::Diagnostic;
use engine::source::SourceMap;
use engine::tables::Generation;
use lang::command::{self, Command};
use lang::{Loaded, Loader, resolve};
use repl::render::{Options, diagnostic};

use crate::tree::{files_with, read, root};

/// Finds the files beside the one that includes them, under their plain names.
struct Beside;

impl Loader for Beside {
    fn load(&mut self, path: &str, _relative_to: &str) -> Result<(String, String), String> {
        let file = root().join("fixtures/diagnostics").join(path);
        match std::fs::read_to_string(file) {
            Ok(text) => Ok((path.to_owned(), text)),
            Err(_) => Err("there is no such file".to_owned()),
        }
    }
}

/// What a line at the head of the file leads to.
fn said(line: &str, loaded: &Loaded, sources: &mut SourceMap) -> Vec<Diagnostic> {
    if let Some(question) = line.strip_prefix("# ask: ") {
        let file = sources.add("input", question);
        return match command::parse_question(question, file) {
            Ok(question) => resolve::question(&loaded.world, &question).err().into_iter().collect(),
            Err(problems) => problems,
        };
    }
    let Some(typed) = line.strip_prefix("# type: ") else { return Vec::new() };
    let file = sources.add("input", typed);
    match command::parse(typed, file) {
        Ok(Command::Remove { kind, name }) => {
            loaded.workspace.remove(&kind, &name, sources).err().into_iter().collect()
        }
        Ok(Command::TraceAt(packet)) => {
            resolve::raw(&loaded.world, &packet).err().into_iter().collect()
        }
        Ok(_) => Vec::new(),
        Err(problems) => problems,
    }
}

/// Everything that is said about a text, as a person sees it, and its codes.
fn printed(name: &str, text: &str) -> (String, Vec<String>) {
    let mut sources = SourceMap::default();
    let entry = (name.to_owned(), text.to_owned());
    let mut loaded = lang::load(&[entry], &mut Beside, &mut sources);
    let mut all = std::mem::take(&mut loaded.diagnostics);
    if all.is_empty() {
        let tables = compile(&loaded.world, &loaded.policies, Generation(1));
        all.extend(tables.err().into_iter().flatten());
    }
    for line in text.lines().take_while(|line| line.starts_with('#')) {
        all.extend(said(line, &loaded, &mut sources));
    }
    let mut out = Vec::new();
    diagnostic::text(&all, &sources, &Options::default(), &mut out).expect("memory takes all");
    let codes = all.iter().map(|d| d.code.to_string()).collect();
    (String::from_utf8(out).expect("text is UTF-8"), codes)
}

#[test]
fn every_diagnostic_reads_as_it_stands() {
    let paths = files_with("fixtures/diagnostics", "hop");
    assert!(!paths.is_empty(), "there are fixtures");
    for path in paths {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (text, codes) = printed(&format!("{stem}.hop"), &read(&path));
        let code = stem.split('-').next().unwrap_or("");
        assert!(codes.iter().all(|c| c == code) && !codes.is_empty(), "{stem} gives {codes:?}");
        assert!(text.is_ascii(), "{stem} is printed in ASCII");
        insta::with_settings!({ omit_expression => true }, {
            insta::assert_snapshot!(stem, text);
        });
    }
}

/// The text with some of its characters gone, doubled or replaced; the same for the same seed.
fn damaged(text: &str, seed: usize) -> String {
    let odd = [
        '{',
        '}',
        '"',
        '\\',
        '\n',
        '\t',
        '\r',
        '\u{e9}',
        '\u{1f600}',
        '\u{200b}',
        '\u{202e}',
        '\0',
    ];
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below.max(1)
    };
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..4 {
        let at = next(characters.len() + 1);
        match next(3) {
            0 => characters.truncate(at),
            1 if at < characters.len() => {
                characters.remove(at);
            }
            _ => characters.insert(at, odd[next(odd.len())]),
        }
    }
    characters.into_iter().collect()
}

#[test]
fn what_is_said_about_garbage_can_be_printed() {
    let texts: Vec<String> =
        files_with("fixtures/diagnostics", "hop").iter().map(|path| read(path)).collect();
    for seed in 1..600 {
        let text = damaged(&texts[seed % texts.len()], seed);
        let (out, codes) = printed("garbage.hop", &text);
        assert_eq!(out.is_empty(), codes.is_empty(), "of {text:?}");
    }
}
