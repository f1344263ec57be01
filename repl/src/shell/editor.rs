//! The line editor: rustyline with the session's completion, hints from history, and input that goes on
//! while a brace is open.

use std::borrow::Cow;

use lang::command::is_incomplete;
use rustyline::completion::{Completer, Pair};
use rustyline::config::Config;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, ColorMode, CompletionType, ConditionalEventHandler, Context, Event, EventContext,
    EventHandler, Helper, KeyCode, KeyEvent, Modifiers, RepeatCount, Result,
};

use super::complete::{Names, complete};
use crate::session::{Interrupt, Session};

/// What a line begins with.
pub(super) const PROMPT: &str = "hopwise> ";

/// What a line of the debugger begins with.
pub(super) const DEBUG_PROMPT: &str = "debug> ";

/// What a further line of the same input begins with. It is a part of the edited text, so that the lines
/// before can be edited too, and is taken off again.
const MORE: &str = "... ";

/// Ends of candidates that more of the same word follows: folders, files before a line, bytes.
const GOES_ON: [char; 3] = ['/', ':', '['];

/// How many entries the history keeps.
const HISTORY: usize = 10_000;

pub(super) type Editor = rustyline::Editor<Assistant, FileHistory>;

/// A line editor on the terminal. Enter clears the interrupt.
pub(super) fn open(color: bool, interrupt: &Interrupt) -> Result<Editor> {
    let config = Config::builder()
        .max_history_size(HISTORY)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .color_mode(if color { ColorMode::Enabled } else { ColorMode::Disabled })
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Assistant::default()));
    let enter = KeyEvent(KeyCode::Enter, Modifiers::NONE);
    for key in [enter, KeyEvent::ctrl('M'), KeyEvent::ctrl('J')] {
        let handler = EventHandler::Conditional(Box::new(Enter(interrupt.clone())));
        editor.bind_sequence(Event::from(key), handler);
    }
    Ok(editor)
}

/// Tells the completion what the session holds now.
pub(super) fn know(editor: &mut Editor, session: &Session) {
    if let Some(assistant) = editor.helper_mut() {
        assistant.names = Names::of(session);
    }
}

/// The input without the marks of further lines.
pub(super) fn without_marks(input: &str) -> String {
    let mut lines = input.split('\n');
    let first = lines.next().unwrap_or("").to_owned();
    lines.fold(first, |text, line| {
        text + "\n" + line.strip_prefix(MORE).or(line.strip_prefix(MORE.trim_end())).unwrap_or(line)
    })
}

/// Enter in the middle of a statement begins a further line. It is also the last moment at which Ctrl-C is the
/// editor's: from here on one is meant for the command, and one that came before it is not.
struct Enter(Interrupt);

impl ConditionalEventHandler for Enter {
    fn handle(
        &self,
        _: &Event,
        _: RepeatCount,
        _: bool,
        context: &EventContext<'_>,
    ) -> Option<Cmd> {
        self.0.clear();
        let open = is_incomplete(&without_marks(context.line()));
        open.then(|| Cmd::Insert(1, format!("\n{MORE}")))
    }
}

/// What rustyline asks while a line is edited.
#[derive(Default)]
pub(super) struct Assistant {
    names: Names,
    history: HistoryHinter,
}

impl Helper for Assistant {}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        let before = line.get(..at).unwrap_or(line);
        let (start, words) = complete(before, &self.names);
        let is_only = words.len() == 1;
        let pair = |word: String| {
            let ends = is_only && !word.ends_with(GOES_ON);
            let replacement = if ends { format!("{word} ") } else { word.clone() };
            Pair { display: word, replacement }
        };
        Ok((start, words.into_iter().map(pair).collect()))
    }
}

impl Hinter for Assistant {
    type Hint = String;

    fn hint(&self, line: &str, at: usize, context: &Context<'_>) -> Option<String> {
        self.history.hint(line, at, context).filter(|hint| !hint.contains('\n'))
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[90m{hint}\x1b[0m"))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        let open = is_incomplete(&without_marks(context.input()));
        Ok(if open { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_further_lines_are_taken_off() {
        assert_eq!(without_marks("a {\n...   b\n... }"), "a {\n  b\n}");
        assert_eq!(without_marks("a {\n  b\n...\n}"), "a {\n  b\n\n}");
        assert_eq!(without_marks("... a"), "... a");
    }
}
