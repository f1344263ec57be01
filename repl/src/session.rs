//! A session: texts and statements, the world and policies they mean, the tables they compile to, and
//! the backend that answers. [`Session::execute`] is the whole product: the shell, piped scripts, the
//! command line and the tests call it. Never prints and never decides a packet.

mod ask;
mod at;
pub(crate) mod attach;
mod capture;
mod debugging;
mod edit;
mod files;
mod format;
mod help;
mod interrupt;
mod journey;
mod lab;
mod list;
mod live;
mod opening;
mod replay;
mod save;
mod settings;
mod sides;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use engine::backend::{Backend, BackendError};
use engine::diag::Diagnostic;
use engine::eval::Memory;
use engine::explain::Explanation;
use engine::policy::PolicySet;
use engine::source::{FileId, SourceMap};
use engine::tables::Generation;
use engine::topology::World;
use lang::command::{self, Command};

use crate::backend::Choice;
use crate::debug::Debugging;
use crate::monitor::Sink;
use crate::reply::{Content, Reply};
use crate::suite;
use crate::{doctor, explain};
pub(crate) use ask::{NO_EARLIER, differs, refused};
pub(crate) use at::sent::packet as packet_of;
pub(crate) use at::{NotAsked, is_at_hook, placed};
pub(crate) use files::{files_below, is_source, programs, tidied};
pub(crate) use format::{Formatted, format_file, format_text};
pub use interrupt::Interrupt;
pub(crate) use journey::{Journey, Opened, Stage, UNSEEN};
pub(crate) use live::{Live, installed};
pub(crate) use replay::{Wanted, unreadable};
pub use settings::{ColorMode, ConntrackMode, SETTINGS, Settings};
pub(crate) use sides::Pair;
pub use sides::Sides;
pub(crate) use state::State;

/// Makes the backend when the first question needs it.
type OpenBackend = Box<dyn Fn(Choice) -> Result<Box<dyn Backend>, BackendError>>;

/// The name under which diagnostics print what was typed.
const INPUT: &str = "input";

/// The simulated clock when a session starts, in seconds.
const START: u64 = 1000;

/// How many changes can be taken back.
const UNDO_DEPTH: usize = 200;

/// See the module.
pub struct Session {
    settings: Settings,
    sources: SourceMap,
    state: State,
    /// What was before each change, and what the change was, latest last.
    undo: Vec<Undo>,
    /// The files asked for last, for `reload`.
    files: Vec<PathBuf>,
    /// Names of the texts loaded last, without what they include.
    entries: Vec<String>,
    last_generation: Generation,
    open_backend: OpenBackend,
    backend: Option<Box<dyn Backend>>,
    /// What it was opened as.
    opened: Choice,
    memory: Memory,
    /// Whether packets left traces in conntrack that the oracle was not told about.
    unseen: bool,
    now: u64,
    last_answer: Option<Explanation>,
    interrupt: Interrupt,
    /// The lab that goes with the session.
    #[cfg_attr(not(feature = "lab"), expect(dead_code, reason = "there is none then"))]
    lab: lab::Held,
    /// The question that is open in the debugger.
    debugging: Option<Box<Debugging>>,
    /// Where items go as they come.
    sink: Option<Box<dyn Sink>>,
    /// The lab that real packets are sent in.
    live: Option<Box<dyn Backend>>,
}

/// A change that can be taken back.
struct Undo {
    what: String,
    before: lang::Workspace,
}

impl Session {
    /// A session without any text. `open_backend` is called at the first question.
    pub fn new(
        open_backend: impl Fn(Choice) -> Result<Box<dyn Backend>, BackendError> + 'static,
    ) -> Self {
        Self {
            settings: Settings::default(),
            sources: SourceMap::default(),
            state: State::default(),
            undo: Vec::new(),
            files: Vec::new(),
            entries: Vec::new(),
            last_generation: Generation::default(),
            open_backend: Box::new(open_backend),
            backend: None,
            opened: Choice::default(),
            memory: Memory::default(),
            unseen: false,
            now: START,
            last_answer: None,
            interrupt: Interrupt::default(),
            lab: lab::Held::default(),
            debugging: None,
            sink: None,
            live: None,
        }
    }

    /// Ends a long command, where it is set while the command runs. Whoever sets it clears it.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// A session on files. A successful load's reply (with its warnings) comes with it, a failed one's
    /// instead of it.
    pub fn open(
        files: &[PathBuf],
        open_backend: impl Fn(Choice) -> Result<Box<dyn Backend>, BackendError> + 'static,
    ) -> Result<(Self, Reply), Box<Reply>> {
        let mut session = Self::new(open_backend);
        let reply = session.load(files);
        if reply.is_ok() { Ok((session, reply)) } else { Err(Box::new(reply)) }
    }

    /// Runs one command, question or statement (which may span lines). A command that fails leaves the
    /// session as it was.
    pub fn execute(&mut self, text: &str) -> Reply {
        let started = Instant::now();
        let mut reply = match self.debugged(text) {
            Some(reply) => reply,
            None => self.own(text),
        };
        self.forget_texts();
        if self.settings.time && !matches!(reply.content, Content::Nothing | Content::Quit) {
            reply.elapsed = Some(started.elapsed());
        }
        reply
    }

    /// A line that is the session's, not the debugger's.
    fn own(&mut self, text: &str) -> Reply {
        if let Some(line) = before_json(text) {
            // What would be shown as it comes is a part of the document.
            let sink = self.sink.take();
            let reply = self.own(line);
            self.sink = sink;
            return Reply { as_json: true, ..reply };
        }
        if let Some((question, file)) = capture::split(text) {
            return self.capturing(Path::new(file), |session| session.own(question));
        }
        let plain = without_colon(text);
        let text = plain.as_deref().unwrap_or(text);
        match (force_save(text), expecting(text)) {
            (Some(""), _) => self.save(None, true),
            (Some(file), _) => self.save(Some(PathBuf::from(file)), true),
            (None, Some((question, expectation))) => self.ask_expecting(question, expectation),
            (None, None) => self.command(text),
        }
    }

    fn command(&mut self, text: &str) -> Reply {
        let file = self.sources.add(INPUT, text);
        match command::parse(text, file) {
            Ok(command) => self.run(command, text),
            Err(problems) => self.complain(problems),
        }
    }

    fn run(&mut self, command: Command, text: &str) -> Reply {
        let word = |name: Option<lang::ast::Name>| name.map(|n| n.node);
        match command {
            Command::Empty => Reply::nothing(),
            Command::Trace(question) => self.ask_parsed(&question),
            Command::TraceAt(question) => self.ask_at(&question),
            Command::Debug(question) => {
                let asked = text.trim_start().strip_prefix("debug").unwrap_or(text);
                self.debug_parsed(&question, asked)
            }
            Command::DebugAt(packet) => {
                let asked = text.trim_start().strip_prefix("debug").unwrap_or(text);
                self.debug_packet(*packet, asked)
            }
            Command::DebugFile(file) => self.debug_file(Path::new(&file.node)),
            Command::Record(file, question) => {
                let asked = text.get(file.span.end as usize..).unwrap_or(text);
                self.record_parsed(Path::new(&file.node), &question, asked)
            }
            Command::Show { noun, argument, hits } => self.list(noun, argument.as_ref(), hits),
            Command::Test(filter) => self.run_tests(word(filter).as_deref()),
            Command::Check => self.check(),
            Command::Fmt => self.format(),
            Command::Load(file) => self.load(&[PathBuf::from(file.node)]),
            Command::Reload => self.reload(),
            Command::Save(file) => self.save(word(file).map(PathBuf::from), false),
            Command::Undo => self.undo(),
            Command::Diff => self.diff(),
            Command::Set(setting) => self.set(setting),
            Command::Time(on) => self.time(on),
            Command::Wait(seconds) => self.wait(seconds),
            Command::Why => self.why(),
            Command::Statement(_) => self.apply(text),
            Command::Remove { kind, name } => self.remove(&kind, &name),
            Command::Lab(asked) => self.lab_words(&asked),
            Command::Replay(asked) => self.replay_words(&asked),
            Command::Monitor(flags) => self.monitor_words(&flags),
            Command::TraceLive(flags, question) => {
                self.live_words(&flags, question.as_deref(), None)
            }
            Command::Attach(asked) => self.attach_words(&asked),
            Command::Status(name) => attach::status(word(name).as_deref()),
            Command::Detach { all: true, .. } => attach::detach_all(),
            Command::Detach { name, .. } => attach::detach(word(name).as_deref()),
            Command::Quit => Reply::ok(Content::Quit),
            Command::Help(name) => help::help(name.as_ref().map(|n| n.node.as_str())),
            Command::Explain(code) => explain::explain(&code.node),
            Command::Doctor => doctor::doctor(),
        }
    }

    /// Runs the tests whose `file::case` name contains the filter.
    pub fn run_tests(&mut self, filter: Option<&str>) -> Reply {
        suite::run(self, filter)
    }

    /// Names of the tests, as `file::case`, in source order.
    pub fn test_names(&self) -> Vec<String> {
        suite::names(&self.state.suites, &self.sources)
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The settings, to change.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// The world, for completion.
    pub fn world(&self) -> &World {
        &self.state.world
    }

    /// The policies, for completion.
    pub fn policies(&self) -> &PolicySet {
        &self.state.policies
    }

    /// The texts.
    pub fn workspace(&self) -> &lang::Workspace {
        &self.state.workspace
    }

    /// The texts by place.
    pub fn sources(&self) -> &SourceMap {
        &self.sources
    }

    /// The state of the tables.
    pub fn generation(&self) -> Generation {
        self.state.tables.generation
    }

    /// The last answer.
    pub fn last_answer(&self) -> Option<&Explanation> {
        self.last_answer.as_ref()
    }

    pub(crate) fn suites(&self) -> &[lang::Suite] {
        &self.state.suites
    }

    /// Names of the loaded texts that hold no test block; what they include need not.
    pub(crate) fn files_without_tests(&self) -> Vec<String> {
        let with: Vec<FileId> = self.state.suites.iter().map(|s| s.span.file).collect();
        let documents = self.state.workspace.documents();
        let entries = documents.filter(|d| self.entries.contains(&d.name));
        entries.filter(|d| !with.contains(&d.file)).map(|d| d.name.clone()).collect()
    }

    /// The session's files as arguments of the command line.
    pub(crate) fn file_arguments(&self) -> &[PathBuf] {
        &self.files
    }

    fn complain(&self, problems: Vec<Diagnostic>) -> Reply {
        Reply::diagnostics(problems, Arc::new(self.sources.clone()))
    }

    /// Forgets texts that nothing refers to any more: typed commands and changes beyond `undo`'s reach.
    fn forget_texts(&mut self) {
        let workspaces = self.undo.iter().map(|u| &u.before).chain([&self.state.workspace]);
        let live: std::collections::BTreeSet<FileId> =
            workspaces.flat_map(lang::Workspace::documents).map(|d| d.file).collect();
        self.sources.retain(|file| live.contains(&file));
    }
}

/// `[trace] QUESTION => EXPECTATION`, in its two parts. A statement has its arrows in braces.
fn expecting(text: &str) -> Option<(&str, &str)> {
    let (question, expectation) = text.split_once("=>")?;
    let question = question.trim();
    let question = question.strip_prefix("trace ").unwrap_or(question);
    let is_other = ["debug ", "record "].iter().any(|command| question.starts_with(command));
    (!question.contains('{') && !is_other).then(|| (question.trim(), expectation.trim()))
}

/// A line that ends in `-o json`, without that. What is in quotes or braces is somebody's payload.
fn before_json(text: &str) -> Option<&str> {
    let rest = text.trim_end().strip_suffix("json")?.trim_end();
    let line = ["-o", "--output"].iter().find_map(|flag| rest.strip_suffix(flag))?;
    let is_apart = line.ends_with([' ', '\t']) && rest.len() < text.trim_end().len() - "json".len();
    (is_apart && line.matches('"').count() % 2 == 0 && !line.contains('{')).then_some(line)
}

/// The text without the colon that a command may begin with (`:help`, `:q`), as in other shells. A blank
/// takes its place, so that columns stay. `?` is `help`.
fn without_colon(text: &str) -> Option<String> {
    let (blanks, rest) = text.split_at(text.len() - text.trim_start().len());
    if rest.trim() == "?" {
        return Some("help".to_owned());
    }
    let rest = rest.strip_prefix(':').filter(|rest| rest.starts_with(char::is_alphabetic))?;
    let rest = if rest.trim() == "q" { "quit" } else { rest };
    Some(format!("{blanks} {rest}"))
}

/// What follows `save!`, where the text begins with it; empty for every changed text.
fn force_save(text: &str) -> Option<&str> {
    let rest = text.trim().strip_prefix("save!")?;
    Some(rest.trim().trim_matches('"'))
}
