//! The line `lab ...` of a session.

use engine::diag::Diagnostic;

use super::shell::{self, Problem};
use super::{Given, usage};
use crate::ast::Name;
use crate::command::{Command, Lab};

const WORDS: &[&str] = &["up", "apply", "exec", "list", "down"];

impl Given<'_> {
    pub(super) fn lab(&mut self) -> Result<Command, Diagnostic> {
        let word = self.required(&format!("one of {}", WORDS.join(", ")))?;
        Ok(Command::Lab(match word.node.as_str() {
            "up" => {
                let (name, files) = self.name_and_files()?;
                Lab::Up { name, files }
            }
            "apply" => {
                let (name, files) = self.name_and_files()?;
                Lab::Apply { name, files }
            }
            "exec" => self.exec()?,
            "list" => Lab::List,
            "down" => match self.next() {
                Some(all) if all.node == "--all" => Lab::DownAll,
                name => Lab::Down { name },
            },
            _ => return Err(self.wrong(&word, "something to do with labs", WORDS)),
        }))
    }

    /// `[NAME] [-f FILE ...]`
    fn name_and_files(&mut self) -> Result<(Option<Name>, Vec<Name>), Diagnostic> {
        let (mut name, mut files) = (None, Vec::new());
        while let Some(word) = self.next() {
            match word.node.as_str() {
                "-f" | "--file" => files.push(self.required("a file behind `-f`")?),
                flag if flag.starts_with('-') => return Err(self.wrong(&word, "a flag", &["-f"])),
                _ if name.is_none() => name = Some(word),
                _ => {
                    self.taken -= 1;
                    break;
                }
            }
        }
        Ok((name, files))
    }

    /// `[--lab NAME] WHERE [--] COMMAND ...`; with `--` the place may have several words.
    fn exec(&mut self) -> Result<Lab, Diagnostic> {
        let mut lab = None;
        let mut place = self.required("a pod, a node or `world`, and a command behind `--`")?;
        if place.node == "--lab" {
            lab = Some(self.required("the name of a lab behind `--lab`")?);
            place = self.required("a pod, a node or `world`, and a command behind `--`")?;
        }
        let rest = self.arguments.get(self.taken..).unwrap_or_default();
        let dashes = rest.iter().position(|word| word.node == "--");
        for word in &rest[..dashes.unwrap_or(0)] {
            place.node = format!("{} {}", place.node, word.node);
            place.span = place.span.to(word.span);
        }
        let behind =
            dashes.and_then(|at| rest.get(at)).map_or(place.span.end, |word| word.span.end);
        let command = self.shell_words(behind as usize)?;
        if command.is_empty() {
            return Err(self.line.needs(self.info, "a command to run, behind `--`"));
        }
        self.taken = self.arguments.len();
        Ok(Lab::Exec { lab, place, command })
    }

    /// A command as a shell would read it, behind a byte of the line.
    fn shell_words(&self, from: usize) -> Result<Vec<Name>, Diagnostic> {
        let words = shell::words(&self.line.written, from).map_err(|problem| {
            let (message, range) = match problem {
                Problem::Open(range) => ("nothing closes this quote".to_owned(), range),
                Problem::Operator(range) => {
                    let sign = self.line.written.get(range.clone()).unwrap_or_default();
                    (format!("there is no shell here that `{sign}` would mean something to"), range)
                }
            };
            usage(message, self.info, self.line.span(&range)).help(
                "a shell of your own does that: `lab exec POD -- sh -c \'COMMAND | COMMAND\'`",
            )
        })?;
        let name = |(node, range)| Name { node, span: self.line.span(&range) };
        Ok(words.into_iter().map(name).collect())
    }
}
