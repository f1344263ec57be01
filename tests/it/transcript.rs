//! Console transcripts: `$ hopwise ...` runs the binary, `hopwise> ...` a session on the files that the last
//! `$ hopwise` line named, `debug> ...` the debugger that it opened; `$ echo $?` shows the last exit code, and
//! `$ printf 'LINES' | hopwise ...` gives the binary an input. Files in `/tmp/` are in a directory of the transcript's
//! own. What the host determines (the kernel's version) is replaced by one value on both sides.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use repl::session::Session;

use crate::binary::{hopwise, seen};
use crate::kernel;

const PROMPT: &str = "hopwise> ";
const DEBUG_PROMPT: &str = "debug> ";
/// What stands for the transcript's own directory.
const TEMPORARY: &str = "/tmp/";
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
        } else if let Some((prompt, first)) = input_of(line) {
            let mut input = vec![first];
            while let Some(more) = lines.peek().and_then(|next| next.strip_prefix(MORE)) {
                input.push(more);
                lines.next();
            }
            runner.input(prompt, &input);
        }
    }
    runner.out
}

/// A line's prompt, and what is typed behind it.
fn input_of(line: &str) -> Option<(&'static str, &str)> {
    let behind = |prompt: &'static str| Some((prompt, line.strip_prefix(prompt)?));
    behind(PROMPT).or_else(|| behind(DEBUG_PROMPT))
}

#[derive(Default)]
struct Runner {
    out: String,
    exit_code: i32,
    session: Option<Session>,
    scratch: Scratch,
}

/// A directory that is gone with the value.
struct Scratch(PathBuf);

impl Default for Scratch {
    fn default() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("hopwise-transcript-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a scratch directory can be made");
        Self(path)
    }
}

impl Scratch {
    /// A text with the directory's real name.
    fn placed(&self, text: &str) -> String {
        text.replace(TEMPORARY, &format!("{}/", self.0.display()))
    }

    /// A text with the name that the transcript has for it.
    fn shown(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.display()), TEMPORARY)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A left-over in the temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the binary says to an input.
fn fed(arguments: &[String], input: &str) -> Output {
    let mut command = hopwise();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("hopwise starts");
    let mut stdin = child.stdin.take().expect("the input is piped");
    // A script that ends at an error leaves the rest unread.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("hopwise ends")
}

impl Runner {
    fn command(&mut self, command: &str, starts_session: bool) {
        self.say(&format!("$ {command}\n"));
        let mut words = split(&self.scratch.placed(command));
        let mut input = String::new();
        if let Some(pipe) = words.iter().position(|word| word == "|") {
            assert_eq!(words[0], "printf", "a transcript pipes what printf prints");
            input = words[1].replace("\\n", "\n");
            words.drain(..=pipe);
        }
        let Some((program, arguments)) = words.split_first() else { return };
        if program == "echo" {
            self.say(&format!("{}\n", self.exit_code));
        } else if starts_session {
            self.session = Some(session_on(arguments));
        } else {
            assert_eq!(program, "hopwise", "a transcript runs hopwise only");
            let output = fed(arguments, &input);
            let (text, exit_code) = seen(&output);
            self.exit_code = exit_code;
            self.say(&text);
        }
    }

    fn input(&mut self, prompt: &str, lines: &[&str]) {
        let (first, rest) = lines.split_first().expect("there is a first line");
        self.say(&format!("{prompt}{first}\n"));
        for line in rest {
            self.say(&format!("{MORE}{line}\n"));
        }
        let session = self.session.as_mut().expect("`$ hopwise -f FILE` comes before `hopwise>`");
        assert_eq!(prompt == DEBUG_PROMPT, session.is_debugging(), "`{first}` is not asked there");
        let reply = session.execute(&self.scratch.placed(&lines.join("\n")));
        let text = kernel::text(&reply);
        self.say(&text);
    }

    fn say(&mut self, text: &str) {
        self.out.push_str(&kernel::settled(&self.scratch.shown(text)));
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
