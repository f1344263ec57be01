//! Piped input: commands one after the other, without prompt, until one fails.

use std::io::{self, BufRead};

use lang::command::is_incomplete;

use crate::cli::monitor::Shown;
use crate::cli::output::{Output, remark};
use crate::reply::{Content, Reply, Status};
use crate::session::Session;

/// Runs standard input as it comes. Ends at the first command that fails, or with `keep_going` at the
/// end, with the worst status.
pub(crate) fn script(
    session: &mut Session,
    output: &mut Output,
    keep_going: bool,
) -> io::Result<Status> {
    let mut input = Input { lines: io::stdin().lock(), number: 0 };
    let mut worst = Status::Ok;
    session.set_sink(Box::new(Shown::text(output)));
    loop {
        let (text, line) = match input.next_command(session.is_debugging()) {
            Ok(Some(command)) => command,
            Ok(None) => return Ok(worst),
            Err(error) => return output.reply(&unreadable(&error)),
        };
        let reply = session.execute(&text);
        output.set_color(session.settings().get("color"));
        if matches!(reply.content, Content::Quit) {
            return Ok(worst);
        }
        let status = output.reply(&reply)?;
        worst = worst.worst(status);
        if status != Status::Ok {
            remark(&format!("in line {line} of the script: {}", first_line(&text)));
            if !keep_going {
                return Ok(status);
            }
        }
    }
}

fn unreadable(error: &io::Error) -> Reply {
    let why = match error.kind() {
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    Reply::failure(Status::Input, format!("cannot read the script: {why}"), "")
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or("")
}

/// The commands of an input: one that was typed is one, of pasted lines each complete one is.
pub(super) struct Lines<'t> {
    input: Input<&'t [u8]>,
    /// Whether there is more than one.
    pub(super) are_many: bool,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let text = text.trim_end();
        // An empty line is one too: it repeats at a stop.
        let bytes = if text.is_empty() { b"\n" } else { text.as_bytes() };
        let mut input = Input { lines: bytes, number: 0 };
        let first = input.next_command(false);
        let are_many = first.is_ok() && !input.lines.is_empty();
        Self { input: Input { lines: bytes, number: 0 }, are_many }
    }

    /// The next one; blank lines between others are none.
    pub(super) fn next(&mut self, at_stop: bool) -> Option<String> {
        loop {
            let (text, _) = self.input.next_command(at_stop).ok().flatten()?;
            if !(self.are_many && text.trim().is_empty()) {
                return Some(text.trim_end_matches(['\n', '\r']).to_owned());
            }
        }
    }
}

struct Input<R> {
    lines: R,
    /// Lines read so far.
    number: usize,
}

impl<R: BufRead> Input<R> {
    /// The next command, however many lines it takes, and the line that it begins in. What is incomplete at
    /// the end is given as it is, so that the session says what is missing.
    ///
    /// At a stop of the debugger only `edit` takes more than a line.
    fn next_command(&mut self, at_stop: bool) -> io::Result<Option<(String, usize)>> {
        let mut text = String::new();
        let start = self.number + 1;
        let mut continued = true;
        loop {
            let before = text.len();
            if self.lines.read_line(&mut text)? == 0 {
                break;
            }
            self.number += 1;
            // An open brace stays open unless something closes, so most lines need no look at the whole.
            let line = &text[before..];
            if at_stop && !text.trim_start().starts_with('e') {
                return Ok(Some((text, start)));
            }
            let may_end = continued || line.contains(['}', ')']);
            continued = line.contains('\\');
            if may_end && !is_incomplete(text.trim_end_matches(['\n', '\r'])) {
                return Ok(Some((text, start)));
            }
        }
        Ok(if text.is_empty() { None } else { Some((text, start)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_until_they_are_complete() {
        let script = "# about\n\npolicy a {\n  select {}\n}\ntrace a \\\n  b\nwhy";
        let mut input = Input { lines: script.as_bytes(), number: 0 };
        let mut commands = Vec::new();
        while let Some((text, line)) = input.next_command(false).unwrap() {
            commands.push((line, text));
        }
        let expected = [
            (1, "# about\n"),
            (2, "\n"),
            (3, "policy a {\n  select {}\n}\n"),
            (6, "trace a \\\n  b\n"),
            (8, "why"),
        ];
        assert_eq!(commands, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn pasted_lines_are_a_command_each() {
        for (text, expected) in [
            ("show nodes", &["show nodes"][..]),
            ("", &[""]),
            ("show nodes\n", &["show nodes"]),
            ("policy a {\n  select {}\n}", &["policy a {\n  select {}\n}"]),
            (
                "why\n\n# about\na -> b \\\n  tcp\nalias a = b\n",
                &["why", "# about", "a -> b \\\n  tcp", "alias a = b"],
            ),
        ] {
            let mut lines = Lines::of(text);
            let found: Vec<String> = std::iter::from_fn(|| lines.next(false)).collect();
            assert_eq!(found, expected, "{text:?}");
            assert_eq!(lines.are_many, expected.len() > 1, "{text:?}");
        }
    }

    #[test]
    fn a_long_statement_is_read_in_reasonable_time() {
        let flow = "  a -> b:80/tcp => allowed\n";
        let script = format!("test \"long\" {{\n{}}}\nwhy\n", flow.repeat(50_000));
        let mut input = Input { lines: script.as_bytes(), number: 0 };
        let (text, _) = input.next_command(false).unwrap().unwrap();
        assert_eq!(text.lines().count(), 50_002);
        assert_eq!(input.next_command(false).unwrap(), Some(("why\n".to_owned(), 50_003)));
    }

    #[test]
    fn an_unfinished_command_is_given_as_it_is() {
        let mut input = Input { lines: "policy a {\n".as_bytes(), number: 0 };
        assert_eq!(input.next_command(false).unwrap(), Some(("policy a {\n".to_owned(), 1)));
        assert_eq!(input.next_command(false).unwrap(), None);
    }
}
