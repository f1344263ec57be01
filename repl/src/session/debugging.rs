//! `debug` and `record`: questions opened in the debugger, and written to files for another machine. While one is open
//! every line is the debugger's, which has a copy of the session's state; the session itself stays as it is.

use std::path::Path;
use std::rc::Rc;

use datapath::vm::Vm;
use engine::backend::{Backend, BackendError, Remembered};
use engine::explain::Explanation;
use engine::topology::NodeId;
use lang::ast::{Question, RawQuestion};
use lang::debug::NameKind;

use super::at::{is_at_hook, placed};
use super::files::{read, unwritable};
use super::save::write;
use super::{ConntrackMode, Session, refused};
use crate::debug::recording::{Difference, Recording};
use crate::debug::scene::{Earlier, Scene, Subject};
use crate::debug::{Debugging, Problem};
use crate::reply::{Content, Reply, Status};

/// Flows by node.
type Flows = Vec<(NodeId, Vec<Remembered>)>;

impl Session {
    /// Opens a question in the debugger, before its first instruction: `SRC -> DST...`, without the word `debug`.
    pub fn debug(&mut self, question: &str) -> Reply {
        let file = self.sources.add(super::INPUT, question);
        let reply = if is_at_hook(question) {
            match lang::command::parse_raw(question, file) {
                Ok(packet) => self.debug_packet(packet, question),
                Err(problems) => self.complain(problems),
            }
        } else {
            match lang::command::parse_question(question, file) {
                Ok(parsed) => self.debug_parsed(&parsed, question),
                Err(problems) => self.complain(problems),
            }
        };
        self.forget_texts();
        reply
    }

    /// Opens a packet at a hook in the debugger.
    pub(super) fn debug_packet(&mut self, packet: RawQuestion, text: &str) -> Reply {
        match placed(&self.state, &packet) {
            Ok(()) => self.debug_subject(Subject::Packet(Box::new(packet)), text),
            Err(problem) => self.complain(vec![problem]),
        }
    }

    /// Opens a recording in the debugger.
    pub fn debug_file(&mut self, path: &Path) -> Reply {
        let text = match read(path) {
            Ok(text) => text,
            Err(why) => return unreadable(path, &why),
        };
        let recording = match Recording::read(path, &text) {
            Ok(recording) => recording,
            Err(problem) => return problem.reply(),
        };
        let opened = recording.scene().and_then(|scene| {
            let mut vm = Vm::find().map_err(|error| refused(&error))?;
            vm.load(&scene.state.tables).map_err(|error| refused(&error))?;
            recording.bring_flows(&scene, &mut vm)?;
            let difference = recording.difference(&Rc::new(scene.clone()), &vm);
            let debugging = Debugging::begin(scene, vm, self.settings.level, &self.interrupt);
            Ok((debugging.map_err(|error| refused(&error))?, difference))
        });
        match opened {
            Ok((debugging, difference)) => self.enter(debugging, difference),
            Err(reply) => *reply,
        }
    }

    /// Whether a question is open in the debugger.
    pub fn is_debugging(&self) -> bool {
        self.debugging.is_some()
    }

    /// What an empty line repeats in the debugger, if anything.
    pub fn repeated(&self) -> Option<String> {
        self.debugging.as_ref()?.repeated()
    }

    /// Names that a line of the debugger may hold, by kind; none where no question is open.
    pub fn debug_names(&self) -> Option<Vec<(NameKind, Vec<String>)>> {
        self.debugging.as_ref().map(|debugging| debugging.names())
    }

    /// Runs a line that is the debugger's.
    pub(super) fn debugged(&mut self, text: &str) -> Option<Reply> {
        let reply = self.debugging.as_mut()?.execute(text);
        if matches!(reply.content, Content::Quit) {
            self.debugging = None;
            return Some(Reply::nothing());
        }
        Some(reply)
    }

    fn enter(&mut self, debugging: Debugging, difference: Option<Difference>) -> Reply {
        let reply = debugging.greeting(difference);
        self.debugging = Some(Box::new(debugging));
        reply
    }

    pub(super) fn debug_parsed(&mut self, question: &Question, text: &str) -> Reply {
        match lang::resolve::question(&self.state.world, question) {
            Ok(question) => self.debug_subject(Subject::Flow(Box::new(question)), text),
            Err(problem) => self.complain(vec![problem]),
        }
    }

    fn debug_subject(&mut self, subject: Subject, text: &str) -> Reply {
        let scene = self.scene(subject, text);
        let opened = Ok(scene).and_then(|scene| {
            let vm = self.interpreter(&scene).map_err(|error| refused(&error))?;
            Debugging::begin(scene, vm, self.settings.level, &self.interrupt)
                .map_err(|error| refused(&error))
        });
        match opened {
            Ok(debugging) => self.enter(debugging, None),
            Err(reply) => *reply,
        }
    }

    /// Answers, and writes what a debugger needs to ask the same elsewhere.
    pub fn record(&mut self, path: &Path, question: &str) -> Reply {
        let file = self.sources.add(super::INPUT, question);
        let reply = match lang::command::parse_question(question, file) {
            Ok(parsed) => self.record_parsed(path, &parsed, question),
            Err(problems) => self.complain(problems),
        };
        self.forget_texts();
        reply
    }

    pub(super) fn record_parsed(&mut self, path: &Path, question: &Question, text: &str) -> Reply {
        if let Err(problem) = replaceable(path) {
            return problem.reply();
        }
        let subject = match lang::resolve::question(&self.state.world, question) {
            Ok(question) => Subject::Flow(Box::new(question)),
            Err(problem) => return self.complain(vec![problem]),
        };
        let scene = self.scene(subject, text);
        let flows = match self.flows() {
            Ok(flows) => flows,
            Err(error) => return *refused(&error),
        };
        let reply = self.ask_parsed(question);
        let Content::Answer(answer) = &reply.content else { return reply };
        match self.write_recording(path, &scene, &flows, &answer.explanation) {
            Ok(()) => reply,
            Err(failure) => *failure,
        }
    }

    fn write_recording(
        &self,
        path: &Path,
        scene: &Scene,
        flows: &Flows,
        explanation: &Explanation,
    ) -> Result<(), Box<Reply>> {
        let name = |node: NodeId| {
            let node = self.state.world.node(node);
            node.map_or_else(String::new, |node| node.name.clone())
        };
        let named: Vec<_> =
            flows.iter().map(|(node, flows)| (name(*node), flows.clone())).collect();
        let recording = Recording::of(scene, &named, explanation);
        let text = recording.text();
        // What the debugger would refuse is not written.
        if Recording::read(path, &text).is_err() {
            let message = "the texts hold control characters, which a recording may not: they could write on the \
                           terminal of who opens it";
            let remedy =
                "take them out of names, strings and comments; `\\t` and line ends may stay";
            return Err(Box::new(Problem::new(message, remedy).reply()));
        }
        write(path, &text).map_err(|error| {
            let message =
                format!("cannot write `{}`: {}", path.display(), unwritable(path, &error));
            let remedy = "name a file in a folder that can be written";
            Box::new(Reply::failure(Status::Environment, message, remedy))
        })
    }

    /// The session's state with a question, for the debugger to work on.
    fn scene(&self, subject: Subject, text: &str) -> Scene {
        let earlier = match self.settings.conntrack {
            ConntrackMode::Fresh => Earlier::None,
            ConntrackMode::Keep if self.unseen => Earlier::Unseen,
            ConntrackMode::Keep => Earlier::Known(self.memory.clone()),
        };
        Scene {
            state: self.state.clone(),
            sources: self.sources.clone(),
            earlier,
            now: self.now,
            subject,
            text: text.trim().to_owned(),
        }
    }

    /// Flows that a question would meet: none on a conntrack of its own.
    fn flows(&mut self) -> Result<Flows, BackendError> {
        let fresh = self.settings.conntrack == ConntrackMode::Fresh;
        let Some(backend) = self.backend.as_mut().filter(|_| !fresh) else { return Ok(Vec::new()) };
        backend.load(&self.state.tables)?;
        let nodes = self.state.world.nodes().map(|(node, _)| node);
        nodes.map(|node| Ok((node, backend.remembered(node)?))).collect()
    }

    /// An interpreter with the scene's tables and the session's flows.
    fn interpreter(&mut self, scene: &Scene) -> Result<Vm, BackendError> {
        let flows = self.flows()?;
        let mut vm = Vm::find()?;
        vm.load(&scene.state.tables)?;
        for (node, flows) in flows.iter().filter(|(_, flows)| !flows.is_empty()) {
            vm.remember(*node, flows)?;
        }
        Ok(vm)
    }
}

/// Whether a recording may be written there: nothing is, or a recording, or an empty file.
fn replaceable(path: &Path) -> Result<(), Problem> {
    let refused = |what: &str| {
        let message = format!("`{}` {what}, and is not replaced", path.display());
        Problem::new(message, "name a file that is not there yet, such as `drop.hoptrace`")
    };
    if path == Path::new("-") {
        return Err(refused("stands for standard input"));
    }
    let Ok(found) = std::fs::metadata(path) else { return Ok(()) };
    if !found.is_file() {
        return Err(refused("is no file"));
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if found.len() == 0 || Recording::read(path, &text).is_ok() {
        return Ok(());
    }
    Err(refused("is there already and is no recording"))
}

fn unreadable(path: &Path, why: &str) -> Reply {
    let message = format!("cannot read `{}`: {why}", path.display());
    Reply::failure(Status::Input, message, "`hopwise trace --record FILE QUESTION` writes one")
}
