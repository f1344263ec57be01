//! `trace --at`: a frame that is given as it is, from any hook on. Turns what is written into bytes and a device, and
//! the answer into the same explanation as a question's. Never builds or reads a header itself.

mod layers;
pub(crate) mod sent;

use std::path::Path;

use datapath::follow::{self, Raw};
use datapath::frame;
use engine::backend::BackendError;
use engine::diag::Diagnostic;
use engine::eval::{Asked, judge};
use engine::explain::{ENTRANCE, Explanation, choices, explain};
use engine::net::Layer;
use engine::source::Span;
use engine::tables::{NodeTables, Tables};
use engine::topology::{Endpoint, World};
use engine::trace::Ethernet;
use lang::ast::{Name, PartyKind, PartyName, Qualified, RawQuestion, RawSource};
use lang::codes::CANNOT_ENTER;
use lang::resolve;

use super::ask::answered;
use super::{ConntrackMode, Journey, NO_EARLIER, Session, Stage, State, UNSEEN, refused};
use crate::pcap;
use crate::reply::{CameWith, Content, Reply, Status};
use sent::Sent;

/// Why only the datapath answers about a frame.
const NOT_ASKED: &str = "no opinion of the oracle, which is asked only about whole packets where their sender sends them";

/// Whether a question is about a packet at a hook; a party may have the name `at` too.
pub(crate) fn is_at_hook(question: &str) -> bool {
    match question.split_whitespace().next() {
        Some("--at") => true,
        Some("at") => !question.contains("->"),
        _ => false,
    }
}

impl Session {
    /// Explains the journey of a frame.
    pub(super) fn ask_at(&mut self, question: &RawQuestion) -> Reply {
        let placing =
            Placing { world: &self.state.world, tables: &self.state.tables, beside: Path::new("") };
        let raw = match placing.raw(question) {
            Ok(raw) => raw,
            Err(problem) => return self.complain(vec![problem]),
        };
        match self.answer_at(&raw) {
            Ok(explanation) => {
                self.last_answer = Some(explanation.clone());
                let with = CameWith {
                    mark: raw.mark,
                    tunnel: raw.tunnel.map(|key| (key.vni, key.source)),
                };
                let mut reply = answered(explanation, self.settings.level);
                if let Content::Answer(answer) = &mut reply.content {
                    answer.came_with = Some(with);
                }
                reply
            }
            Err(BackendError::BadInjection(message)) => {
                let message = format!("the packet cannot enter: {message}");
                let remedy =
                    "the interpreter takes every frame: `set backend vm`, or `--backend vm`";
                Reply::failure(Status::Input, message, remedy)
            }
            Err(error) => *refused(&error),
        }
    }

    fn answer_at(&mut self, raw: &Raw) -> Result<Explanation, BackendError> {
        let fresh = self.settings.conntrack == ConntrackMode::Fresh;
        self.with_journey(|stage, journey| {
            journey.backend.load_world(stage.world, stage.tables)?;
            if !fresh {
                return journey.told(stage, |journey| journey.enter(stage, raw));
            }
            journey.forget()?;
            let mut explanation = journey.enter(stage, raw)?;
            explanation.assumed.insert(0, NO_EARLIER.to_owned());
            Ok(explanation)
        })
    }
}

/// Whether a packet that is not written in a file can enter in a state of the world.
pub(crate) fn placed(state: &State, question: &RawQuestion) -> Result<(), Diagnostic> {
    let State { world, tables, .. } = state;
    Placing { world, tables, beside: Path::new("") }.raw(question).map(drop)
}

/// A world and its tables, where packets are put in.
struct Placing<'a> {
    world: &'a World,
    tables: &'a Tables,
    /// Where files are that the packet is in.
    beside: &'a Path,
}

impl Placing<'_> {
    /// The frame that is meant, with its device.
    fn raw(&self, question: &RawQuestion) -> Result<Raw, Diagnostic> {
        if let Some(problem) = self.nowhere(question) {
            return Err(problem);
        }
        let placed = self.placed(question);
        let question = placed.as_ref().unwrap_or(question);
        let written = resolve::raw(self.world, question)?;
        let mut raw = Raw {
            node: written.node,
            hook: written.hook,
            device: self.device(&written),
            mark: written.mark,
            tunnel: written.tunnel,
            frame: Vec::new(),
        };
        let place = question.device.as_ref().map_or(question.hook.span, |device| device.span);
        let natural = follow::ethernet(self.world, self.tables, &raw)
            .map_err(|error| no_device(&error, place))?;
        raw.frame = frame_of(written.bytes, natural, question, self.beside)?;
        Ok(raw)
    }

    /// What is wrong with a device that no node has.
    fn nowhere(&self, question: &RawQuestion) -> Option<Diagnostic> {
        let device = question.device.as_ref().filter(|_| question.node.is_none())?;
        let Self { world, tables, .. } = *self;
        let of_endpoints = tables.nodes.iter().flat_map(|node| &node.endpoints);
        let is_known = of_endpoints
            .map(|endpoint| endpoint.interface.as_str())
            .chain(world.nodes.iter().map(|node| node.device.as_str()));
        let shared = [world.cluster.tunnel.device.as_str(), follow::HOST_DEVICE];
        let is_pod = || {
            let (namespace, name) = match device.node.split_once('/') {
                Some((namespace, name)) => (Some(namespace.to_owned()), name),
                None => (None, device.node.as_str()),
            };
            let kind = PartyKind::Pod(Qualified { namespace, name: name.to_owned() });
            resolve::party(world, &PartyName { kind, span: device.span }).is_ok()
        };
        if is_known.chain(shared).any(|name| name == device.node) || is_pod() {
            return None;
        }
        let message = format!("no node has a device `{}`, and no pod is named so", device.node);
        let help =
            "`on` names the device, or the pod whose veth it is; `show endpoints` lists both";
        Some(Diagnostic::error(CANNOT_ENTER, message, device.span).help(help))
    }

    /// The question with the node of its device, where only one node has a device of that name.
    fn placed(&self, question: &RawQuestion) -> Option<RawQuestion> {
        let device = question.device.as_ref().filter(|_| question.node.is_none())?;
        let has = |tables: &&NodeTables| {
            tables.endpoints.iter().any(|endpoint| endpoint.interface == device.node)
        };
        let mut nodes = self.tables.nodes.iter().filter(has);
        let (Some(only), None) = (nodes.next(), nodes.next()) else { return None };
        let name = self.world.node(only.node)?.name.clone();
        let node = Some(Name { node: name, span: device.span });
        Some(RawQuestion { node, ..question.clone() })
    }

    fn device(&self, written: &resolve::Raw) -> follow::Device {
        match &written.device {
            None => follow::Device::Own,
            Some(resolve::Device::Named(name)) => follow::Device::Named(name.clone()),
            Some(resolve::Device::Pod(pod)) => {
                let here = self.tables.node(written.node);
                let entry = here.and_then(|here| here.endpoint_of(Endpoint::Pod(*pod)));
                entry.map_or(follow::Device::Own, |e| follow::Device::Named(e.interface.clone()))
            }
        }
    }
}

fn no_device(error: &BackendError, place: Span) -> Diagnostic {
    let message = match error {
        BackendError::BadInjection(message) => message.clone(),
        other => other.to_string(),
    };
    Diagnostic::error(CANNOT_ENTER, message, place)
        .help("`on` names the device, or the pod whose veth it is")
}

/// The bytes, from wherever they are.
fn frame_of(
    bytes: resolve::Bytes,
    natural: Ethernet,
    question: &RawQuestion,
    beside: &Path,
) -> Result<Vec<u8>, Diagnostic> {
    let place = question.source.span;
    let frame = match bytes {
        resolve::Bytes::Frame(frame) => return Ok(frame),
        resolve::Bytes::Pcap { file, number } => {
            let span = match &question.source.node {
                RawSource::Pcap { number, .. } => file.span.to(number.span),
                _ => file.span,
            };
            pcap::packet(&beside.join(&file.node), number).map_err(|problem| {
                let message = format!("`{}`: {}", file.node.escape_debug(), problem.message);
                Diagnostic::error(CANNOT_ENTER, message, span).help(problem.remedy)
            })?
        }
        resolve::Bytes::Layers(layers) => {
            let layers = with_ethernet(layers, natural);
            frame::assemble(&layers).map_err(|error| layers::no_frame(&error, question))?
        }
    };
    resolve::frame_fits(frame.len(), place)?;
    Ok(frame)
}

/// Layers without Ethernet get the addresses that a frame naturally has there.
fn with_ethernet(mut layers: Vec<Layer>, natural: Ethernet) -> Vec<Layer> {
    if !matches!(layers.first(), Some(Layer::Ethernet { .. })) {
        let Ethernet { source, destination } = natural;
        layers.insert(0, Layer::Ethernet { source, destination, ethertype: None });
    }
    layers
}

impl From<NotAsked> for BackendError {
    fn from(why: NotAsked) -> Self {
        match why {
            NotAsked::Written(problem) => Self::BadInjection(problem.message),
            NotAsked::Run(error) => error,
        }
    }
}

/// Why a packet at a hook was not asked about.
pub(crate) enum NotAsked {
    /// What is written makes none.
    Written(Diagnostic),
    /// The backend's error.
    Run(BackendError),
}

impl Journey<'_> {
    /// Asks about a packet at a hook that is written in a file, beside which its own files are.
    pub(crate) fn ask_at(
        &mut self,
        stage: &Stage<'_>,
        question: &RawQuestion,
    ) -> Result<Explanation, NotAsked> {
        let Stage { world, tables, sources, .. } = *stage;
        let file = Path::new(sources.name(question.span.file));
        let beside = file.parent().unwrap_or_else(|| Path::new(""));
        let placing = Placing { world, tables, beside };
        let raw = placing.raw(question).map_err(NotAsked::Written)?;
        self.backend.load_world(world, tables).map_err(NotAsked::Run)?;
        self.enter(stage, &raw).map_err(NotAsked::Run)
    }

    /// Sends a frame, and asks the oracle too where it is a packet that it can be asked about.
    fn enter(&mut self, stage: &Stage<'_>, raw: &Raw) -> Result<Explanation, BackendError> {
        let Stage { world, policies, tables, .. } = *stage;
        let sent = Sent::of(world, tables, raw);
        let trace = follow::follow_from(self.backend, world, tables, raw, self.now)?;
        let judgement = sent.is_askable.then(|| {
            let asked = Asked {
                source: sent.question.source,
                destination: sent.question.destination,
                packet: &sent.question.packet,
                now: self.now,
                choices: choices(&trace),
            };
            judge(world, policies, self.memory, &asked)
        });
        // The oracle does not know the flow that the frame may have opened.
        *self.unseen |= judgement.is_none();
        let judgement = judgement.filter(|_| !*self.unseen);
        let explained = explain(&stage.context(), &sent.question, &trace, judgement.as_ref());
        let mut explanation = explained
            .ok_or_else(|| BackendError::BadEvent("the trace has no beginning".to_owned()))?;
        // Where it enters is no assumption here, and shown whatever the program has to say.
        explanation.assumed.retain(|line| !line.starts_with(ENTRANCE));
        explanation.assumed.extend(sent::stranger(tables, raw));
        if let Some(first) = explanation.hops.first_mut() {
            first.quiet = false;
        }
        if !sent.is_askable {
            explanation.assumed.push(NOT_ASKED.to_owned());
        } else if *self.unseen {
            explanation.assumed.push(UNSEEN.to_owned());
        }
        explanation.packet = sent.report(explanation.packet, &trace);
        Ok(explanation)
    }
}
