//! The debugger of a question: two levels that move together, the policy's (events) and the program's (source lines
//! and instructions), in both directions of time, with breakpoints, printing and edits. It runs the datapath's
//! programs in the interpreter on a copy of the session's state. Prints nothing and decides no packet.
//!
//! | file | owns |
//! |---|---|
//! | `scene` | the state that is debugged on, and names of things |
//! | `events` | the policy level, in words |
//! | `moves` | going forward and back |
//! | `stops`, `condition` | where to stop |
//! | `field`, `print`, `maps` | looking at the packet, the machine and the maps |
//! | `code` | source text and instructions |
//! | `info`, `edit` | lists, and changes |
//! | `names` | what completion offers |
//! | `recording` | questions as files |

mod code;
mod condition;
mod edit;
mod events;
mod field;
mod info;
mod maps;
mod moves;
mod names;
mod print;
pub(crate) mod recording;
pub(crate) mod scene;
mod stops;

use std::rc::Rc;
use std::sync::Arc;

use datapath::vm::Vm;
use datapath::vm::debug::{Debugger, End};
use datapath::vm::machine::Machine;
use engine::backend::{BackendError, Injection};
use engine::diag::Diagnostic;
use engine::explain::{Agreement, Explanation};
use engine::source::SourceMap;
use lang::debug::{DebugCommand, Level, Thing};
use serde::Serialize;

use crate::reply::{Answer, Content, Reply, Status};
use crate::session::{Interrupt, refused};
pub use code::CodeView;
use events::PolicyEvent;
use field::Reading;
use recording::Difference;
use scene::{Earlier, Scene};
use stops::Stop;

/// The name under which diagnostics print what was typed.
const INPUT: &str = "input";

/// What cannot be done as asked: what is wrong, and what to do.
#[derive(Debug)]
pub(crate) struct Problem {
    message: String,
    remedy: String,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }

    /// A name that nothing has; the nearest known one is offered, else the remedy.
    fn unknown(kind: &str, name: &str, known: &[&str], remedy: &str) -> Self {
        let near = |word: &&&str| (strsim::jaro_winkler(word, name) * 1000.0).round();
        let best = known.iter().max_by(|a, b| near(a).total_cmp(&near(b)));
        let remedy = match best {
            Some(best) if near(&best) > 800.0 => format!("did you mean `{best}`?"),
            _ => remedy.to_owned(),
        };
        Self::new(format!("there is no {kind} `{name}`"), remedy)
    }

    pub(crate) fn reply(self) -> Reply {
        Reply::failure(Status::Input, self.message, self.remedy)
    }
}

/// Where the question stands, for a person or a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Halt {
    /// Why it stopped, one line each: `breakpoint 1, lookup POLICY`. Empty where so many steps were made.
    pub reasons: Vec<String>,
    /// The hop, from 1.
    pub hop: usize,
    /// Its node.
    pub node: String,
    /// The device that the packet came by.
    pub device: String,
    /// The hook.
    pub hook: String,
    /// Instructions of the question that have run.
    pub instruction: u64,
    /// The event of the policy level that has just happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<EventView>,
    /// Where the program stands; absent where it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeView>,
    /// What `display` shows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub displays: Vec<Display>,
    /// Whether the question is at its end.
    pub over: bool,
}

/// An event of the policy level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// Its number in the question, from 1.
    pub number: usize,
    /// What it is about.
    pub keyword: String,
    /// What happened.
    pub text: String,
}

/// Something shown at every stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Display {
    /// Its number, from 1.
    pub number: u32,
    /// As it was typed.
    pub name: String,
    /// What it is now.
    pub lines: Vec<String>,
}

/// What a map was asked, and what it said.
#[derive(Clone, Debug)]
struct LookUp {
    map: u16,
    key: Vec<u8>,
    found: Option<Vec<u8>>,
}

/// See the module.
pub(crate) struct Debugging {
    scene: Rc<Scene>,
    /// The backend as the question finds it.
    start: Vm,
    debugger: Debugger<Explanation>,
    level: Level,
    /// Events up to now.
    events: Vec<PolicyEvent>,
    /// The look-up that was made last.
    looked_up: Option<LookUp>,
    /// The source line of the datapath's own that runs.
    line: Option<code::SourceLine>,
    /// Whether the last step came to another source line or function.
    new_line: bool,
    stops: Vec<Stop>,
    /// Whether what watchpoints watch was looked at where the question stands.
    armed: bool,
    /// How much `answer` shows.
    detail: crate::reply::Level,
    displays: Vec<(u32, Thing, String)>,
    /// Numbers given so far.
    numbers: u32,
    /// What an empty line repeats.
    last: Option<String>,
    /// Statements that the scene was changed by.
    statements: Vec<String>,
    interrupt: Interrupt,
}

impl Debugging {
    /// Opens a question before its first instruction. `vm` holds the flows that were there before.
    pub(crate) fn begin(
        scene: Scene,
        vm: Vm,
        detail: crate::reply::Level,
        interrupt: &Interrupt,
    ) -> Result<Self, BackendError> {
        let scene = Rc::new(scene);
        let start = vm.clone();
        let debugger = Debugger::begin(vm, scene.plan())?;
        let mut debugging = Self {
            scene,
            start,
            debugger,
            level: Level::Policy,
            events: Vec::new(),
            looked_up: None,
            line: None,
            new_line: true,
            stops: Vec::new(),
            armed: false,
            detail,
            displays: Vec::new(),
            numbers: 0,
            last: None,
            statements: Vec::new(),
            interrupt: interrupt.clone(),
        };
        debugging.note_beginning();
        Ok(debugging)
    }

    /// What the shell says while the debugger is open.
    pub(crate) fn greeting(&self, difference: Option<Difference>) -> Reply {
        let in_answer = difference.as_ref().is_some_and(|difference| difference.in_answer);
        let mut reply =
            self.halted(difference.map(|difference| difference.words).into_iter().collect());
        if in_answer {
            reply.status = Status::Negative;
        }
        reply
    }

    /// What an empty line stands for: the last command, where it may be repeated.
    pub(crate) fn repeated(&self) -> Option<String> {
        self.last.clone()
    }

    /// Runs one command. The session leaves the debugger at [`Content::Quit`].
    pub(crate) fn execute(&mut self, text: &str) -> Reply {
        let mut sources = self.scene.sources.clone();
        let file = sources.add(INPUT, text);
        let command = match lang::debug::parse(text, file) {
            Ok(command) => command,
            Err(problems) => return Reply::diagnostics(problems, Arc::new(sources)),
        };
        if command == DebugCommand::Again {
            return Reply::nothing();
        }
        self.last = is_repeatable(&command).then(|| text.to_owned());
        match self.run(command, text) {
            Ok(reply) => reply,
            Err(Stumble::Problem(problem)) => problem.reply(),
            Err(Stumble::Backend(error)) => self.failed(&error),
            Err(Stumble::Text(problems, sources)) => {
                Reply::diagnostics(problems, Arc::new(*sources))
            }
        }
    }

    /// A run that cannot go on. Behind an edit, or flows out of a recording, that is no lack of this host and no bug of
    /// the programs.
    fn failed(&self, error: &BackendError) -> Reply {
        let of_the_run = matches!(error, BackendError::System { .. } | BackendError::BadEvent(_));
        let remedy = if !of_the_run {
            return *refused(error);
        } else if !self.debugger.edits().is_empty() {
            "an edit led there: `info edits` lists them, and the question asked anew has none"
        } else if matches!(self.scene.earlier, Earlier::Recorded) {
            "the flows of the recording may be damaged; record the question anew"
        } else {
            return *refused(error);
        };
        Problem::new(error.to_string(), remedy).reply()
    }

    fn run(&mut self, command: DebugCommand, text: &str) -> Result<Reply, Stumble> {
        match command {
            DebugCommand::Again => Ok(Reply::nothing()),
            DebugCommand::Step(unit, count) => self.step(unit, count),
            DebugCommand::Next(unit, count) => self.next(unit, count),
            DebugCommand::Back(unit, count) => self.back(unit, count),
            DebugCommand::ReverseNext(count) => self.reverse_next(count),
            DebugCommand::Finish => self.finish(),
            DebugCommand::Continue(count) => self.go_on(count),
            DebugCommand::ReverseContinue(count) => self.reverse_continue(count),
            DebugCommand::Goto(moment) => self.go_to(moment),
            DebugCommand::Level(level) => Ok(self.set_level(level)),
            DebugCommand::Break { place, condition, once } => {
                self.add_breakpoint(&place, condition, once, text)
            }
            DebugCommand::Watch { thing, condition } => self.add_watch(thing, condition, text),
            DebugCommand::Condition(number, condition) => {
                self.set_condition(number.node, condition, text)
            }
            DebugCommand::Delete(numbers) => self.delete(&numbers),
            DebugCommand::Enable(numbers, on) => self.enable(&numbers, on),
            DebugCommand::Print(thing) => Ok(text_of(&self.print(&thing.node)?)),
            DebugCommand::Display(thing) => self.add_display(thing, text),
            DebugCommand::Undisplay(numbers) => self.undisplay(&numbers),
            DebugCommand::List(place) => {
                let place = place.as_ref().map(|place| &place.node);
                Ok(text_of(&code::list(self.machine()?, self.line, place)?))
            }
            DebugCommand::Disassemble(name) => {
                let name = name.as_ref().map(|name| name.node.as_str());
                Ok(text_of(&code::disassemble(self.machine()?, name)?))
            }
            DebugCommand::Backtrace => Ok(text_of(&code::backtrace(self.machine()?, self.line))),
            DebugCommand::Info(what) => self.info(what),
            DebugCommand::Edit(edit) => self.edit(edit, text),
            DebugCommand::Answer => self.answer(),
            DebugCommand::Help(name) => Ok(info::help(name.as_ref().map(|n| n.node.as_str()))),
            DebugCommand::Quit => Ok(Reply::ok(Content::Quit)),
        }
    }

    fn set_level(&mut self, level: Option<Level>) -> Reply {
        self.level = level.unwrap_or(self.level);
        Reply::text(match self.level {
            Level::Policy => "level policy: `step` goes to the next event, `next` to the next hop",
            Level::Program => "level program: `step` goes to the next source line of the datapath",
        })
    }

    /// Runs to the end, past every stop, and explains.
    fn answer(&mut self) -> Result<Reply, Stumble> {
        self.run_out()?;
        let explanation = match self.debugger.answer() {
            Some(Ok(explanation)) => explanation.clone(),
            Some(Err(error)) => return Ok(self.failed(error)),
            None => return Err(Problem::new("the question did not end", "").into()),
        };
        let mut reply = answered(explanation, &self.statements_in_words(), &self.edits_in_words());
        if let Content::Answer(answer) = &mut reply.content {
            answer.level = self.detail;
        }
        Ok(reply)
    }

    fn machine(&self) -> Result<&Machine, Stumble> {
        self.debugger.machine().ok_or_else(|| Problem::new("no program was begun", "").into())
    }

    fn injection(&self) -> Result<&Injection, Stumble> {
        self.debugger.injection().ok_or_else(|| Problem::new("no program was begun", "").into())
    }

    /// The packet as it is now.
    fn reading(&self) -> Result<Reading<'_>, Stumble> {
        let injection = self.injection()?;
        Ok(Reading {
            machine: self.machine()?,
            hop: self.debugger.at().hop + 1,
            instructions: self.debugger.instructions(),
            vni: injection.tunnel.map(|key| key.vni),
        })
    }

    /// Where it stands, with what `display` shows.
    fn halted(&self, reasons: Vec<String>) -> Reply {
        let status = match self.debugger.answer() {
            Some(Err(_)) => Status::Input,
            _ => Status::Ok,
        };
        Reply::with_status(Content::Halt(Box::new(self.halt(reasons))), status)
    }

    fn halt(&self, mut reasons: Vec<String>) -> Halt {
        let at = self.debugger.at();
        let injection = self.debugger.injection();
        let event = self.events.last().filter(|event| event.at == at);
        let over = self.debugger.answer().is_some();
        match (self.debugger.end(), self.debugger.answer()) {
            (Some(End::Faulted(fault)), _) => {
                reasons.push(format!("fault: {fault}"));
                reasons.push("end of the question; it has no answer".to_owned());
            }
            (_, Some(Err(error))) => {
                reasons.push(error.to_string());
                reasons.push("end of the question; it has no answer".to_owned());
            }
            (_, Some(Ok(_))) => {
                reasons.push("end of the question; `answer` explains it".to_owned());
            }
            (_, None) => {}
        }
        let displays = self.displays.iter().map(|(number, thing, name)| Display {
            number: *number,
            name: name.clone(),
            lines: self.print(thing).unwrap_or_else(|stumble| vec![stumble.words()]),
        });
        Halt {
            reasons,
            hop: at.hop + 1,
            node: injection.map_or_else(String::new, |i| self.scene.node(i.node)),
            device: injection.map_or_else(String::new, |i| self.scene.device(i.node, i.ifindex)),
            hook: injection.map_or_else(String::new, |i| i.hook.to_string()),
            instruction: self.debugger.instructions(),
            event: event.map(|event| EventView {
                number: self.events.len(),
                keyword: event.keyword.clone(),
                text: event.text.clone(),
            }),
            code: self
                .debugger
                .machine()
                .filter(|m| m.is_running())
                .and_then(|m| code::view(m, self.line)),
            displays: displays.collect(),
            over,
        }
    }
}

/// Why a command was not done.
#[derive(Debug)]
enum Stumble {
    Problem(Problem),
    Backend(BackendError),
    Text(Vec<Diagnostic>, Box<SourceMap>),
}

impl Stumble {
    fn words(&self) -> String {
        match self {
            Self::Problem(problem) => problem.message.clone(),
            Self::Backend(error) => error.to_string(),
            Self::Text(problems, _) => {
                problems.first().map_or_else(String::new, |problem| problem.message.clone())
            }
        }
    }
}

impl From<Problem> for Stumble {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<BackendError> for Stumble {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

/// Whether an empty line does it again.
fn is_repeatable(command: &DebugCommand) -> bool {
    matches!(
        command,
        DebugCommand::Step(..)
            | DebugCommand::Next(..)
            | DebugCommand::Back(..)
            | DebugCommand::ReverseNext(_)
            | DebugCommand::Finish
            | DebugCommand::Continue(_)
            | DebugCommand::ReverseContinue(_)
            | DebugCommand::Print(_)
            | DebugCommand::List(_)
            | DebugCommand::Disassemble(_)
            | DebugCommand::Backtrace
            | DebugCommand::Info(_)
    )
}

fn text_of(lines: &[String]) -> Reply {
    Reply::text(lines.join("\n"))
}

/// An answer at the end of a debugged question. The oracle knows of changed statements; what was edited on the way it
/// was not asked.
fn answered(mut explanation: Explanation, statements: &[String], edits: &[String]) -> Reply {
    explanation.assumed.extend_from_slice(statements);
    for edit in edits {
        without_oracle(&mut explanation, edit);
    }
    let status = match explanation.agreement {
        Agreement::Differ => Status::Divergence,
        _ => Status::Ok,
    };
    let level = crate::reply::Level::Normal;
    let answer = Answer { explanation, level, unmet: Vec::new(), came_with: None, live: None };
    Reply::with_status(Content::Answer(Box::new(answer)), status)
}

/// Takes the oracle's opinion away where it was not asked the same.
fn without_oracle(explanation: &mut Explanation, why: &str) {
    explanation.agreement = Agreement::Single;
    explanation.divergence = None;
    explanation.assumed.push(why.to_owned());
    if let Some(reply) = &mut explanation.reply {
        reply.agreement = Agreement::Single;
        reply.divergence = None;
    }
}
