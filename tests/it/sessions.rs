//! Transcripts of sessions, `fixtures/sessions/*.session`: a line `> INPUT` (`. ` continues it), then what the session
//! says. `#` lines before the first input are comments. `DIR` in inputs and answers stands for a directory of
//! the transcript's own, which holds copies of the files that its first line `#! files A B` names. A status other than
//! 0 is shown as `[exit N]`. `UPDATE=1` writes what comes.

use std::fs;
use std::path::{Path, PathBuf};

use repl::render::{Options, diagnostic};
use repl::reply::{Reply, Status};
use repl::session::Session;

use crate::kernel;
use crate::tree::{files_with, name, read, root, updating};

const INPUT: &str = "> ";
const MORE: &str = ". ";
const FILES: &str = "#! files ";
/// What stands for the transcript's own directory.
const DIRECTORY: &str = "DIR";

/// An input and what is said to it.
struct Exchange {
    input: String,
    answer: String,
}

/// A transcript: what comes before the first input, then exchanges.
struct Transcript {
    head: String,
    exchanges: Vec<Exchange>,
}

impl Transcript {
    fn read(text: &str) -> Self {
        let mut transcript = Self { head: String::new(), exchanges: Vec::new() };
        for line in text.lines() {
            if let Some(input) = line.strip_prefix(INPUT) {
                let exchange = Exchange { input: input.to_owned(), answer: String::new() };
                transcript.exchanges.push(exchange);
                continue;
            }
            match transcript.exchanges.last_mut() {
                None => transcript.head.extend([line, "\n"]),
                Some(last) => match line.strip_prefix(MORE) {
                    Some(more) if last.answer.is_empty() => last.input.extend(["\n", more]),
                    _ => last.answer.extend([line, "\n"]),
                },
            }
        }
        transcript
    }

    fn text(&self) -> String {
        let mut text = self.head.clone();
        for Exchange { input, answer } in &self.exchanges {
            let input = input.replace('\n', &format!("\n{MORE}"));
            text.extend([INPUT, &input, "\n", answer]);
        }
        text
    }
}

/// A directory with copies of files, gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn with_files(transcript: &Path, names: &str) -> Self {
        let stem = transcript.file_stem().unwrap_or_default().to_string_lossy();
        let scratch = std::env::temp_dir().join(format!("hopwise-{stem}-{}", std::process::id()));
        fs::create_dir_all(&scratch).expect("a scratch directory can be made");
        for name in names.split_whitespace() {
            let from = root().join(name);
            let to = scratch.join(from.file_name().expect("a file is named"));
            fs::copy(&from, &to).expect("a named file can be copied");
        }
        Self(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A left-over in the temporary directory harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The transcript as it comes out now.
fn replayed(path: &Path, transcript: &Transcript, mut session: Session) -> Transcript {
    let names = transcript.head.lines().find_map(|l| l.strip_prefix(FILES)).unwrap_or("");
    let scratch = Scratch::with_files(path, names);
    let place = scratch.0.display().to_string();
    let exchanges = transcript.exchanges.iter().map(|asked| {
        let reply = session.execute(&asked.input.replace(DIRECTORY, &place));
        let answer = placed(&kernel::settled(&said(&reply)), &place);
        Exchange { input: asked.input.clone(), answer }
    });
    Transcript { head: transcript.head.clone(), exchanges: exchanges.collect() }
}

/// An answer with the word that stands for the directory, whose name has another length in every run: so has what underlines it.
fn placed(answer: &str, place: &str) -> String {
    let surplus = "^".repeat(place.len().saturating_sub(DIRECTORY.len()));
    let mut lines = Vec::new();
    let mut is_below = false;
    for line in answer.split('\n') {
        let underlines = is_below && line.contains(&surplus);
        is_below = line.contains(place);
        lines.push(if underlines {
            line.replacen(&surplus, "", 1)
        } else {
            line.replace(place, DIRECTORY)
        });
    }
    lines.join("\n")
}

#[test]
fn an_underlined_directory_has_one_length() {
    let answer =
        |place: &str| format!("1 | load {place}/x\n  |      {}--\n", "^".repeat(place.len() + 2));
    let expected = "1 | load DIR/x\n  |      ^^^^^--\n";
    for place in ["/tmp/a-1", "/tmp/a-12345"] {
        assert_eq!(placed(&answer(place), place), expected);
    }
}

/// Warnings, the answer, and the status where it is not 0.
fn said(reply: &Reply) -> String {
    let mut out = Vec::new();
    let options = Options::default();
    diagnostic::text(&reply.warnings, &reply.sources, &options, &mut out)
        .expect("memory takes all");
    let mut text = String::from_utf8(out).expect("text is UTF-8") + &kernel::text(reply);
    if reply.status != Status::Ok {
        text.extend(["[exit ", &reply.status.code().to_string(), "]\n"]);
    }
    text
}

fn check(path: &Path) -> Result<(), String> {
    let expected = read(path);
    let came = replayed(path, &Transcript::read(&expected), kernel::session()).text();
    if came == expected {
        return Ok(());
    }
    if updating() {
        fs::write(path, came).expect("a transcript can be written");
        return Ok(());
    }
    Err(format!("{}: expected\n{expected}\n--- came\n{came}", name(path)))
}

#[test]
fn transcripts_come_out_as_they_stand() {
    let paths = files_with("fixtures/sessions", "session");
    assert!(!paths.is_empty(), "there are transcripts");
    let misses: Vec<String> = paths.iter().filter_map(|path| check(path).err()).collect();
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

#[test]
fn a_transcript_is_read_as_it_is_written() {
    let text = "# about\n> a {\n. }\nyes\n> b\n\n> c\n";
    let transcript = Transcript::read(text);
    assert_eq!(transcript.exchanges[0].input, "a {\n}");
    assert_eq!(transcript.text(), text);
}
