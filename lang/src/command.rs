//! The command language of the session and the command line: a line of text to a [`Command`]. What a
//! command does is `repl`'s.

use engine::diag::Diagnostic;
use engine::source::{FileId, Span};

use crate::ast::{Name, PartyName, Question, RawQuestion};

mod flags;
mod table;

pub use flags::{ATTACH_FLAGS, Flag, LIVE_FLAGS, MONITOR_FLAGS};
pub use table::{CommandInfo, NOUNS, Noun, TABLE, find};

/// A capture to run through the policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The capture.
    pub file: Name,
    /// Policies to compare with.
    pub policy: Option<Name>,
    /// Whether what began before the capture counts as new.
    pub strict: bool,
}

/// Programs to put on devices that are there already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attach {
    /// The name of what is then attached.
    pub name: Option<Name>,
    /// Whether they act, rather than only observe.
    pub enforce: bool,
    /// Seconds after which they end unless that is confirmed.
    pub seconds: Option<u64>,
    /// Whether what is attached shall not end.
    pub confirm: bool,
}

/// What is to be done with labs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lab {
    /// `lab up [NAME] [-f FILE ...]`
    Up {
        /// Its name; without one the session holds it.
        name: Option<Name>,
        /// Of what; without any, of what the session has.
        files: Vec<Name>,
    },
    /// `lab apply [NAME] [-f FILE ...]`
    Apply {
        /// Which.
        name: Option<Name>,
        /// What it is to become.
        files: Vec<Name>,
    },
    /// `lab exec [--lab NAME] WHERE -- COMMAND ...`
    Exec {
        /// Which.
        lab: Option<Name>,
        /// A pod, a node or the outside, as questions name it.
        place: Name,
        /// A program and its arguments.
        command: Vec<Name>,
    },
    /// `lab list`
    List,
    /// `lab down [NAME]`
    Down {
        /// Which.
        name: Option<Name>,
    },
    /// `lab down --all`
    DownAll,
}

/// One line, or one multi-line statement, of a session.
#[derive(Clone, Debug)]
pub enum Command {
    /// Nothing but white space and comments.
    Empty,
    /// `[trace] QUESTION`
    Trace(Box<Question>),
    /// `trace --at [NODE] HOOK ...`: a packet as it is, at a hook.
    TraceAt(Box<RawQuestion>),
    /// `trace --live [FLAG ...] QUESTION`: on real packets.
    TraceLive(Vec<Flag>, Option<Box<Question>>),
    /// `monitor [FLAG ...]`
    Monitor(Vec<Flag>),
    /// `debug QUESTION`: opens it at its first hop.
    Debug(Box<Question>),
    /// `debug --at`: opens a packet at a hook in the debugger.
    DebugAt(Box<RawQuestion>),
    /// `debug FILE`: opens what `record` wrote.
    DebugFile(Name),
    /// `record FILE QUESTION`: answers, and writes what the debugger needs to a file.
    Record(Name, Box<Question>),
    /// `show NOUN [ARGUMENT]`
    Show {
        /// What to list.
        noun: Noun,
        /// Of whom, where the noun takes one (`show policy web/client`).
        argument: Option<Name>,
        /// `--hits`: with how often each entry decided (`show policy`).
        hits: bool,
    },
    /// `replay FILE [--policy NEW] [--strict]`
    Replay(Replay),
    /// `attach [NAME] [--enforce] [--for TIME]`, `attach NAME --confirm`
    Attach(Attach),
    /// `status [NAME]`: what is attached.
    Status(Option<Name>),
    /// `detach NAME`, `detach --all`
    Detach {
        /// Which.
        name: Option<Name>,
        /// All.
        all: bool,
    },
    /// `lab ...`
    Lab(Lab),
    /// `test [NAME]`: runs the suites whose name contains the word.
    Test(Option<Name>),
    /// `check`: all diagnostics of the session.
    Check,
    /// `fmt`: the session's documents in canonical form.
    Fmt,
    /// `load FILE`
    Load(Name),
    /// `reload`: reads the files again.
    Reload,
    /// `save [FILE]`
    Save(Option<Name>),
    /// `undo`: takes the last change back.
    Undo,
    /// `diff`: the session against its files.
    Diff,
    /// `set KEY VALUE`; a bare `set` lists what is set.
    Set(Option<(Name, Name)>),
    /// `time on|off`
    Time(bool),
    /// `wait 60s`: lets this many seconds pass.
    Wait(u64),
    /// `why`: the last answer in full.
    Why,
    /// `explain CODE`: a diagnostic or a drop reason.
    Explain(Name),
    /// `doctor`
    Doctor,
    /// `help [COMMAND]`
    Help(Option<Name>),
    /// `quit`, `exit`
    Quit,
    /// Statements of the language: the whole text, for [`crate::workspace::Workspace::apply`].
    Statement(Span),
    /// `remove KIND NAME`
    Remove {
        /// `policy`, `pod`, ...
        kind: Name,
        /// Its name as [`crate::ast::Item::key`] gives it.
        name: Name,
    },
}

/// Reads what was typed. `text` must be the text of `file`, so that spans point into it.
///
/// # Errors
/// Every problem found; never empty.
pub fn parse(text: &str, file: FileId) -> Result<Command, Vec<Diagnostic>> {
    read::command(text, file)
}

/// Reads a question without the word `trace`, as the command line and JSON give it.
///
/// # Errors
/// Every problem found; never empty.
pub fn parse_question(text: &str, file: FileId) -> Result<Question, Vec<Diagnostic>> {
    read::question(text, file)
}

/// Reads the name of one side of a flow, as questions give it.
///
/// # Errors
/// Every problem found; never empty.
pub fn parse_party(text: &str, file: FileId) -> Result<PartyName, Vec<Diagnostic>> {
    crate::parse::party(text, file)
}

/// Reads a packet at a hook, `[at] [NODE] HOOK ...`, as `trace --at` takes it.
///
/// # Errors
/// Every problem found; never empty.
pub fn parse_raw(text: &str, file: FileId) -> Result<RawQuestion, Vec<Diagnostic>> {
    crate::parse::raw_in(text, 0..text.len(), file)
}

/// Whether more lines must follow: an open brace or parenthesis, or a `\` at the end.
pub fn is_incomplete(text: &str) -> bool {
    crate::outline::is_incomplete(text)
}

mod read;

pub(crate) use read::is_statement;
