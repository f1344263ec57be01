//! Console transcripts: `$ hopwise ...` runs the binary, `hopwise> ...` a session on the files that the last
//! `$ hopwise` line named; `$ echo $?` shows the last exit code. What the host determines (the kernel's
//! version) is replaced by one value on both sides.

use std::fmt::Write as _;
use std::path::PathBuf;

use repl::session::Session;

use crate::binary::{hopwise, seen};
use crate::kernel;

const PROMPT: &str = "hopwise> ";
const MORE: &str = "... ";

/// The transcript as it comes out now.
pub(crate) fn run(text: &str) -> String {
    kernel::require();
    let mut lines = text.lines().peekable();
    let mut runner = Runner::default();
    while let Some(line) = lines.next() {
        if let Some(command) = line.strip_prefix("$ ") {
            let starts_session = lines.peek().is_some_and(|next| next.starts_with(PROMPT));
            runner.command(command, starts_session);
        } else if let Some(first) = line.strip_prefix(PROMPT) {
            let mut input = vec![first];
            while let Some(more) = lines.peek().and_then(|next| next.strip_prefix(MORE)) {
                input.push(more);
                lines.next();
            }
            runner.input(&input);
        }
    }
    runner.out
}

#[derive(Default)]
struct Runner {
    out: String,
    exit_code: i32,
    session: Option<Session>,
}

impl Runner {
    fn command(&mut self, command: &str, starts_session: bool) {
        self.say(&format!("$ {command}\n"));
        let words = split(command);
        let Some((program, arguments)) = words.split_first() else { return };
        if program == "echo" {
            self.say(&format!("{}\n", self.exit_code));
        } else if starts_session {
            self.session = Some(session_on(arguments));
        } else {
            assert_eq!(program, "hopwise", "a transcript runs hopwise only");
            let output = hopwise().args(arguments).output().expect("hopwise starts");
            let (text, exit_code) = seen(&output);
            self.exit_code = exit_code;
            self.say(&text);
        }
    }

    fn input(&mut self, lines: &[&str]) {
        let (first, rest) = lines.split_first().expect("there is a first line");
        self.say(&format!("{PROMPT}{first}\n"));
        for line in rest {
            self.say(&format!("{MORE}{line}\n"));
        }
        let session = self.session.as_mut().expect("`$ hopwise -f FILE` comes before `hopwise>`");
        let reply = session.execute(&lines.join("\n"));
        let text = kernel::text(&reply);
        self.say(&text);
    }

    fn say(&mut self, text: &str) {
        self.out.push_str(&kernel::settled(text));
    }
}

/// A session on the files after each `-f`.
fn session_on(arguments: &[String]) -> Session {
    let files: Vec<PathBuf> =
        arguments.iter().filter(|a| !a.starts_with('-')).map(PathBuf::from).collect();
    let mut session = kernel::session();
    let reply = session.load(&files);
    assert!(reply.is_ok(), "{}", kernel::text(&reply));
    session
}

/// The words of a command line, as a shell splits them: quotes of both kinds, no expansion.
fn split(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None;
    let mut quote = None;
    for c in command.chars() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_with(String::new);
            }
            (' ', None) => words.extend(word.take()),
            (c, _) => word.get_or_insert_with(String::new).push(c),
        }
    }
    words.extend(word);
    words
}

/// Two texts, line by line, where they differ.
pub(crate) fn difference(wanted: &str, found: &str) -> String {
    let mut out = String::new();
    let (wanted, found): (Vec<_>, Vec<_>) = (wanted.lines().collect(), found.lines().collect());
    for at in 0..wanted.len().max(found.len()) {
        let (was, is) = (wanted.get(at), found.get(at));
        if was != is {
            for (sign, line) in
                was.map(|line| ('-', line)).into_iter().chain(is.map(|line| ('+', line)))
            {
                writeln!(out, "  {sign} {line}").expect("a string takes every text");
            }
        }
    }
    out
}

#[test]
fn words_are_split_as_a_shell_does() {
    let words = split("hopwise trace -f a.hop 'x -> y:80 payload \"a b\"' \"c d\"");
    assert_eq!(words, ["hopwise", "trace", "-f", "a.hop", "x -> y:80 payload \"a b\"", "c d"]);
}
