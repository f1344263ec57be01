//! The line `lab ...` of a session.

use engine::diag::Diagnostic;

use super::{Argument, Given};
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
        let (before, command) = match rest.iter().position(|word| word.node == "--") {
            Some(at) => (&rest[..at], rest.get(at + 1..).unwrap_or_default()),
            None => (&rest[..0], rest),
        };
        for word in before {
            place.node = format!("{} {}", place.node, word.node);
            place.span = place.span.to(word.span);
        }
        let command: Vec<Argument> = command.to_vec();
        if command.is_empty() {
            return Err(self.line.needs(self.info, "a command to run, behind `--`"));
        }
        self.taken = self.arguments.len();
        Ok(Lab::Exec { lab, place, command })
    }
}
