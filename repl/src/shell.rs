//! The session on a terminal and as a script: reads input until it is complete, executes it, prints the
//! reply. Owns prompts, history and completion; what a command does is the session's.

mod complete;
mod editor;
mod history;
mod script;

use std::io;
use std::sync::Arc;

use rustyline::error::ReadlineError;
use signal_hook::consts::SIGINT;
use signal_hook::flag;

use crate::cli::monitor::Shown;
use crate::cli::output::{Output, remark};
use crate::reply::{Content, Status};
use crate::session::Session;
use editor::{DEBUG_PROMPT, PROMPT};
use script::Lines;
pub(crate) use script::script;

/// Exit code of a program that Ctrl-C ended, as shells report it (128 + SIGINT).
const INTERRUPTED: i32 = 130;

/// A session on a terminal: reads, executes and prints until the user leaves.
pub(crate) fn interactive(session: &mut Session, output: &mut Output) -> io::Result<Status> {
    if !output.is_quiet() {
        remark("hopwise: `help` lists the commands, `quit` leaves");
    }
    converse(session, output, |_| false)
}

/// The same for a question that is open in the debugger; ends when the user leaves that.
pub(crate) fn debugger(session: &mut Session, output: &mut Output) -> io::Result<Status> {
    if !output.is_quiet() {
        remark(
            "hopwise: `help` lists the commands at a stop, an empty line repeats, `quit` leaves",
        );
    }
    converse(session, output, |session| !session.is_debugging())
}

fn converse(
    session: &mut Session,
    output: &mut Output,
    is_over: impl Fn(&Session) -> bool,
) -> io::Result<Status> {
    let mut editor = match editor::open(output.is_colored(true), session.interrupt()) {
        Ok(editor) => editor,
        Err(error) => return Ok(no_terminal(&error)),
    };
    listen(session)?;
    session.set_sink(Box::new(Shown::text(output)));
    let history = history::path();
    if let Some(path) = &history {
        history::load(&mut editor, path);
    }
    let mut warned = false;
    while !is_over(session) {
        session.interrupt().clear();
        editor::know(&mut editor, session);
        let prompt = if session.is_debugging() { DEBUG_PROMPT } else { PROMPT };
        let input = match editor.readline(prompt) {
            Ok(input) => editor::without_marks(&input),
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => "quit".to_owned(),
            Err(error) => return Ok(no_terminal(&error)),
        };
        let mut lines = Lines::of(&input);
        while let Some(line) = lines.next(session.is_debugging()) {
            history::add(&mut editor, history.as_deref(), &line);
            if lines.are_many {
                remark(&format!("{prompt}{line}"));
            }
            match one(session, output, line, &mut warned)? {
                Next::Leave => return Ok(Status::Ok),
                Next::Line if session.interrupt().is_set() || is_over(session) => break,
                Next::Line => {}
            }
        }
    }
    Ok(Status::Ok)
}

/// How a conversation goes on.
enum Next {
    Line,
    Leave,
}

/// Executes one command and prints the reply. `warned` is whether leaving was warned of last.
fn one(
    session: &mut Session,
    output: &mut Output,
    line: String,
    warned: &mut bool,
) -> io::Result<Next> {
    let line = match session.repeated() {
        Some(repeated) if line.trim().is_empty() => repeated,
        _ => line,
    };
    let reply = session.execute(&line);
    output.set_color(session.settings().get("color"));
    if !matches!(reply.content, Content::Quit) {
        *warned = false;
        output.reply(&reply)?;
    } else if *warned || !session.has_unsaved_changes() {
        return Ok(Next::Leave);
    } else {
        *warned = true;
        remark(
            "there are unsaved changes: `save` writes them, `diff` shows them; leaving again drops them",
        );
    }
    Ok(Next::Line)
}

/// While a command runs, Ctrl-C asks it to end, and a second one ends the program; while a line is typed the
/// terminal gives it to the editor.
fn listen(session: &Session) -> io::Result<()> {
    let flag = session.interrupt().flag();
    flag::register_conditional_shutdown(SIGINT, INTERRUPTED, Arc::clone(flag))?;
    flag::register(SIGINT, Arc::clone(flag))?;
    Ok(())
}

fn no_terminal(error: &ReadlineError) -> Status {
    remark(&format!("error: cannot read from the terminal: {error}"));
    remark("help: pipe commands in instead, they run as a script");
    Status::Environment
}
