//! The session on a terminal and as a script: reads input until it is complete, executes it, prints the
//! reply. Owns prompts, history and completion; what a command does is the session's.

mod complete;
mod editor;
mod history;
mod script;

use std::io;

use rustyline::error::ReadlineError;

use crate::cli::output::{Output, remark};
use crate::reply::{Content, Status};
use crate::session::Session;
use editor::PROMPT;
pub(crate) use script::script;

/// A session on a terminal: reads, executes and prints until the user leaves.
pub(crate) fn interactive(session: &mut Session, output: &mut Output) -> io::Result<Status> {
    let mut editor = match editor::open(output.is_colored(true)) {
        Ok(editor) => editor,
        Err(error) => return Ok(no_terminal(&error)),
    };
    let history = history::path();
    if let Some(path) = &history {
        history::load(&mut editor, path);
    }
    if !output.is_quiet() {
        remark("hopwise: `help` lists the commands, `quit` leaves");
    }
    let mut warned = false;
    loop {
        editor::know(&mut editor, session);
        let line = match editor.readline(PROMPT) {
            Ok(line) => editor::without_marks(&line),
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => "quit".to_owned(),
            Err(error) => return Ok(no_terminal(&error)),
        };
        history::add(&mut editor, history.as_deref(), &line);
        let reply = session.execute(&line);
        output.set_color(session.settings().get("color"));
        if matches!(reply.content, Content::Quit) {
            if warned || !session.has_unsaved_changes() {
                return Ok(Status::Ok);
            }
            warned = true;
            remark(
                "there are unsaved changes: `save` writes them, `diff` shows them; leaving again drops them",
            );
            continue;
        }
        warned = false;
        output.reply(&reply)?;
    }
}

fn no_terminal(error: &ReadlineError) -> Status {
    remark(&format!("error: cannot read from the terminal: {error}"));
    remark("help: pipe commands in instead, they run as a script");
    Status::Environment
}
