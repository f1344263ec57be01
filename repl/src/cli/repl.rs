//! `hopwise repl`, and `hopwise` without a command: a session on a terminal, or a script from a pipe.

use std::io::{self, IsTerminal};

use clap::Args;

use super::files::{self, is_stdin};
use super::output::Output;
use super::{Look, Runner};
use crate::backend;
use crate::reply::{Reply, Status};
use crate::session::Session;
use crate::shell;

/// Open a session
///
/// On a terminal: questions, commands and statements of the language, with history and completion; `help`
/// lists the commands. Where standard input is no terminal it is run as a script: no prompt, and an end at
/// the first command that fails, with its exit code.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ReplArgs {
    /// Start with this file; a directory stands for every .hop file below it
    ///
    /// May be given several times: the files are loaded together. Without it the session is empty.
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<std::path::PathBuf>,
    /// Go on after a command of a script that fails; ends with the worst exit code
    #[arg(short, long)]
    keep_going: bool,
    #[command(flatten)]
    runner: Runner,
}

impl ReplArgs {
    /// Whether any of them is given.
    pub(super) fn is_given(&self) -> bool {
        self.keep_going || !self.files.is_empty() || self.runner.backend != "auto"
    }
}

pub(super) fn run(args: &ReplArgs, look: &Look) -> io::Result<Status> {
    let mut output = Output::text(look);
    if args.files.iter().any(|file| is_stdin(file)) {
        let message = "standard input holds the session's commands, and cannot be a file of it too";
        return output.reply(&Reply::failure(Status::Usage, message, "name a file instead of `-`"));
    }
    let mut session = Session::new(backend::open);
    let set = session.settings_mut().set("color", &look.color);
    if let Err(message) = set.and_then(|()| args.runner.choose(&mut session)) {
        return output.reply(&Reply::failure(Status::Usage, message, ""));
    }
    if !args.files.is_empty() {
        match files::load(&mut session, &args.files) {
            Ok(reply) => output.reply(&reply)?,
            Err(reply) => return output.reply(&reply),
        };
    }
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        shell::interactive(&mut session, &mut output)
    } else {
        shell::script(&mut session, &mut output, args.keep_going)
    }
}
