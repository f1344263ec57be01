//! What a session answers, as typed values with an exit status. Owns no text layout: `render` turns a
//! reply into text or JSON, and only the binary writes it out.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::diag::{Diagnostic, Severity};
use engine::explain::Explanation;
use engine::source::SourceMap;
use serde::Serialize;

use crate::debug::Halt;
use crate::live::Difference;
use crate::monitor::Watched;
use crate::replay;
use crate::suite::Report;

/// How a command ended; the process's exit code is its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Status {
    /// Done.
    #[default]
    Ok = 0,
    /// A negative answer: an expectation not met, a failed test, a difference found.
    Negative = 1,
    /// The command cannot be understood.
    Usage = 2,
    /// The input (files, statements, questions) has errors.
    Input = 3,
    /// The host lacks something: a capability, a kernel feature, a file that can be written.
    Environment = 4,
    /// The datapath and the oracle differ: a bug of hopwise.
    Divergence = 5,
}

impl Status {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The one that matters more when several commands ran.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        self.max(other)
    }
}

/// How much of an answer is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// What tests pin: verdict and what decided, nothing that changes by itself.
    Minimal,
    /// The explanation.
    #[default]
    Normal,
    /// Every look-up, and the bytes.
    Full,
}

/// One answered question.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The answer.
    pub explanation: Explanation,
    /// How much of it was asked for.
    pub level: Level,
    /// What came with a packet that entered at a hook.
    pub came_with: Option<CameWith>,
    /// What is known besides of a packet that was really sent.
    pub live: Option<Sent>,
    /// Where an expectation (`=> allowed`) came with the question: how the answer misses it, one line
    /// each. Empty when it is met or none was given.
    pub unmet: Vec<String>,
}

/// What is known besides of a packet that was really sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// How simulation met it, where that was asked for.
    pub compared: Option<Compared>,
    /// Why the kernel itself dropped it, outside of our programs: one that did not come to the next of them.
    pub kernel: Option<String>,
    /// What became of the request of a real connection.
    pub http: Option<String>,
    /// Devices of the lab that are gone or down, where it did not come to the next program.
    pub broken: Vec<String>,
}

/// That fewer packets of others came than were waited for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Missed {
    /// What was waited for: `packet` or `drop`.
    pub what: &'static str,
    /// Which: `TCP of shop/client to shop/server, port 80`.
    pub of: String,
    /// How many came.
    pub caught: u64,
    /// How long it was waited.
    pub seconds: f64,
    /// Events that were lost meanwhile, among which there may have been more.
    pub lost: u64,
}

impl fmt::Display for Missed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, of, caught, seconds, lost } = self;
        match caught {
            0 => write!(out, "no {what} seen")?,
            1 => write!(out, "1 {what} seen")?,
            number => write!(out, "{number} {what}s seen")?,
        }
        write!(out, " in {seconds:.1} s ({of}); {lost} events lost")
    }
}

/// A real packet's journey beside the simulated one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// What simulated.
    pub backend: String,
    /// What they differ in first; `None`: in nothing, down to the bytes, but for what no text determines.
    pub difference: Option<Difference>,
}

/// What a packet has beside its bytes where it enters at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CameWith {
    /// The kernel's mark.
    pub mark: u32,
    /// What the tunnel device took off: the VNI and the other end.
    pub tunnel: Option<(u32, IpAddr)>,
}

/// A cell of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// Nothing there: `-` in text, null in JSON.
    None,
    /// A number.
    Number(u64),
    /// Text.
    Text(String),
    /// Several texts, separated by commas in text.
    List(Vec<String>),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Cell {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<Vec<String>> for Cell {
    fn from(list: Vec<String>) -> Self {
        Self::List(list)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

/// A column of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The field's name in JSON (camelCase).
    pub key: &'static str,
    /// The header in text (upper case).
    pub header: &'static str,
}

/// Rows of one kind of thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// What is listed, as `show` names it: `pods`.
    pub noun: &'static str,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, each with one cell per column.
    pub rows: Vec<Vec<Cell>>,
    /// Lines to print after the table.
    pub notes: Vec<String>,
    /// Lines that text has instead of a table, where one would be too wide.
    pub blocks: Option<Vec<String>>,
}

impl Listing {
    /// An empty listing; columns are (JSON key, header).
    pub fn new(noun: &'static str, columns: &[(&'static str, &'static str)]) -> Self {
        let columns = columns.iter().map(|&(key, header)| Column { key, header }).collect();
        Self { noun, columns, rows: Vec::new(), notes: Vec::new(), blocks: None }
    }
}

/// Something that could not be done, for a reason outside the user's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// One line, lowercase, without a full stop.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Further lines: the end of a verifier's log.
    pub detail: Vec<String>,
}

/// What there is to show.
#[derive(Clone, Debug)]
pub enum Content {
    /// Nothing.
    Nothing,
    /// Lines of text, without a trailing newline.
    Text(String),
    /// An explained flow.
    Answer(Box<Answer>),
    /// A table.
    Listing(Listing),
    /// What the tests came to.
    Suite(Report),
    /// What a replay came to.
    Replay(Box<replay::Report>),
    /// What a monitor came to.
    Watched(Box<Watched>),
    /// That packets which were waited for did not come.
    Missed(Missed),
    /// What is wrong with the input; places are in [`Reply::sources`].
    Diagnostics(Vec<Diagnostic>),
    /// Where a debugged question stands.
    Halt(Box<Halt>),
    /// What could not be done.
    Failure(Failure),
    /// The user wants to leave.
    Quit,
}

/// What one command came to.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What to show, on standard output (diagnostics and failures: on standard error).
    pub content: Content,
    /// How it ended.
    pub status: Status,
    /// Warnings about the input, for standard error.
    pub warnings: Vec<Diagnostic>,
    /// The texts that diagnostics and warnings point into.
    pub sources: Arc<SourceMap>,
    /// How long it took, where the session was told to say so (`time on`).
    pub elapsed: Option<Duration>,
    /// Whether it was asked for as JSON (`-o json` behind a line of a session).
    pub as_json: bool,
}

impl Reply {
    /// Done, with something to show.
    pub fn ok(content: Content) -> Self {
        Self::with_status(content, Status::Ok)
    }

    /// Something to show, with a status.
    pub fn with_status(content: Content, status: Status) -> Self {
        Self {
            content,
            status,
            warnings: Vec::new(),
            sources: Arc::default(),
            elapsed: None,
            as_json: false,
        }
    }

    /// Done, with a line of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::ok(Content::Text(text.into()))
    }

    /// Done, nothing to show.
    pub fn nothing() -> Self {
        Self::ok(Content::Nothing)
    }

    /// Not done: a message and a remedy.
    pub fn failure(status: Status, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let failure = Failure {
            message: message.into(),
            remedy: Some(remedy.into()).filter(|r: &String| !r.is_empty()),
            detail: Vec::new(),
        };
        Self::with_status(Content::Failure(failure), status)
    }

    /// Not done because of the user's text (or, where there are only warnings, done).
    pub fn diagnostics(list: Vec<Diagnostic>, sources: Arc<SourceMap>) -> Self {
        let bad = list.iter().any(|d| d.severity == Severity::Error);
        let status = if bad { Status::Input } else { Status::Ok };
        Self { sources, ..Self::with_status(Content::Diagnostics(list), status) }
    }

    /// The same with the warnings of what came before it (a load).
    #[must_use]
    pub fn after(mut self, before: Self) -> Self {
        if !matches!(self.content, Content::Diagnostics(_)) {
            self.sources = before.sources;
        }
        self.warnings.splice(0..0, before.warnings);
        self
    }

    /// Whether the command was carried out and its answer is not negative.
    pub fn is_ok(&self) -> bool {
        self.status == Status::Ok
    }
}
