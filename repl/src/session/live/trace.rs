//! `trace --live`: a question's packet is really sent in a lab of the session's world, followed from program to program, and where that is asked
//! for held against simulation. One that the kernel itself drops is told with the kernel's own reason.

#[cfg(feature = "lab")]
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

#[cfg(feature = "lab")]
use datapath::frame;
#[cfg(feature = "lab")]
use datapath::live::kernel_drops::{KernelDrops, Wanted};
use engine::backend::{Backend, BackendError};
use engine::diag::Diagnostic;
use engine::eval::Memory;
use engine::explain::Undecided;
use engine::net::Packet;
use engine::net::http::RequestLine;
use engine::question::{Known, Question};
use engine::tables::Tables;
use engine::trace::Trace;
use lang::ast::{self, PacketOption};
use lang::command::Flag;

use super::super::{Journey, NO_EARLIER, START, Session, Stage, refused};
use super::expected::Expected;
use crate::backend::Choice;
use crate::live::difference;
use crate::monitor::{Asked, Item};
use crate::reply::{Answer, Compared, Content, Reply, Sent, Status};

/// That an answer is not held against simulation.
pub(super) const UNCOMPARED: &str = "not compared: events were lost";
/// Between two packets that are sent over and over.
const PAUSE: Duration = Duration::from_secs(1);
/// What answers call a lab that was made for a question.
const MADE: &str = "a lab of its own";
/// What a question says of a payload that it did not ask for.
const DEFAULT_PAYLOAD: &str = "echo payload";

/// What is asked of real packets.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Live {
    /// The lab or attachment whose packets are meant; `None`: the lab that the session holds, else one of its world.
    pub(crate) on: Option<String>,
    /// Whether packets of others are waited for, instead of one that is sent.
    pub(crate) wait: bool,
    /// The same for such as are dropped.
    pub(crate) drops: bool,
    /// How long they are waited for.
    pub(crate) timeout: Option<Duration>,
    /// Whether they go on until somebody ends it.
    pub(crate) follow: bool,
    /// How many are sent; one, unless they go on.
    pub(crate) count: Option<u64>,
    /// Whether simulation is asked too.
    pub(crate) compare: bool,
    /// Whether what a question carries may be sent.
    pub(crate) send: bool,
    /// What must come of it.
    pub(crate) expected: Option<Rc<Expected>>,
}

impl Live {
    fn of(flags: &[Flag]) -> Result<Self, Diagnostic> {
        let mut live = Self::default();
        for flag in flags {
            match flag.name.node.as_str() {
                "on" => live.on = flag.value.as_ref().map(|value| value.node.clone()),
                "wait" => live.wait = true,
                "drops" => live.drops = true,
                "timeout" => live.timeout = Some(time(flag)?),
                "follow" => live.follow = true,
                "compare" => live.compare = true,
                "send" => live.send = true,
                "count" => {
                    let value = flag.value.as_ref();
                    let number = value.and_then(|value| value.node.parse().ok());
                    live.count = Some(number.filter(|n| *n > 0).ok_or_else(|| {
                        let span = value.map_or(flag.name.span, |value| value.span);
                        let message = "this is not a number above 0";
                        Diagnostic::error(lang::codes::COMMAND_ARGUMENT, message, span)
                    })?);
                }
                _ => {}
            }
        }
        Ok(live)
    }
}

/// A time as `monitor --for` takes it.
fn time(flag: &Flag) -> Result<Duration, Diagnostic> {
    let value = flag.value.as_ref();
    let mut read = Asked::default();
    let taken = read.take("for", value.map_or("", |value| value.node.as_str()));
    let problem = |message| {
        let span = value.map_or(flag.name.span, |value| value.span);
        Diagnostic::error(lang::codes::COMMAND_ARGUMENT, message, span)
    };
    taken.map_err(problem)?;
    Ok(read.time.unwrap_or_default())
}

impl Session {
    /// The command of a session.
    pub(in super::super) fn live_words(
        &mut self,
        flags: &[Flag],
        question: Option<&ast::Question>,
        expectation: Option<&str>,
    ) -> Reply {
        match Live::of(flags) {
            Ok(live) => self.trace_expecting(&live, question, expectation),
            Err(problem) => self.complain(vec![problem]),
        }
    }

    /// The same for the command line: a question, which may be left out where drops are waited for, and what must come of it, behind
    /// `=>` or apart.
    pub(crate) fn trace_live_line(
        &mut self,
        live: &Live,
        text: &str,
        expectation: Option<&str>,
    ) -> Reply {
        let (question, expectation) = match text.split_once("=>") {
            Some((question, behind)) => (question.trim(), Some(behind.trim())),
            None => (text.trim(), expectation),
        };
        let file = self.sources.add(super::super::INPUT, question);
        let asked = match question {
            "" => Ok(None),
            question => lang::command::parse_question(question, file).map(Some),
        };
        let reply = match asked {
            Ok(asked) => self.trace_expecting(live, asked.as_ref(), expectation),
            Err(problems) => self.complain(problems),
        };
        self.forget_texts();
        reply
    }

    fn trace_expecting(
        &mut self,
        live: &Live,
        asked: Option<&ast::Question>,
        expectation: Option<&str>,
    ) -> Reply {
        match expectation.map(|text| self.expecting(live, text)) {
            None => self.trace_live(live, asked),
            Some(Ok(live)) => self.trace_live(&live, asked),
            Some(Err(reply)) => *reply,
        }
    }

    fn trace_live(&mut self, live: &Live, asked: Option<&ast::Question>) -> Reply {
        if live.waits() {
            return self.wait_installed(live, asked);
        }
        let Some(asked) = asked else {
            let message = "there is no question whose packet could be sent";
            return Reply::failure(Status::Usage, message, "`--drops` catches any that is dropped");
        };
        if live.on.is_some() || self.holds_lab() {
            return self.trace_installed(live, asked);
        }
        let question = match lang::resolve::question(&self.state.world, asked) {
            Ok(question) => question,
            Err(problem) => return self.complain(vec![problem]),
        };
        if let Some(reply) = unsendable(live, asked, &question) {
            return *reply;
        }
        self.again(live, |session| match session.probe(live, &question) {
            Ok(answer) => told(answer),
            Err(error) => *refused(&error),
        })
    }

    /// Sends as often as is asked for, once a second; a packet that is not answered well is the last one.
    pub(super) fn again(&mut self, live: &Live, one: impl Fn(&mut Self) -> Reply) -> Reply {
        let most = live.count.unwrap_or(if live.follow { u64::MAX } else { 1 });
        let mut sent = 0;
        loop {
            let reply = one(self);
            sent += 1;
            if sent >= most || self.interrupt.is_set() || reply.status != Status::Ok {
                return reply;
            }
            if let (Some(sink), Content::Answer(answer)) = (&mut self.sink, &reply.content)
                && sink.show(&[Item::Answer(answer.clone())]).is_err()
            {
                return reply;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Sends one packet.
    fn probe(&mut self, live: &Live, question: &Question) -> Result<Answer, BackendError> {
        let mut lab = match self.live.take() {
            Some(lab) => lab,
            None => (self.open_backend)(Choice::Lab)?,
        };
        let done = self.probe_in(&mut *lab, live, question);
        self.live = Some(lab);
        let answer = done?;
        self.last_answer = Some(answer.explanation.clone());
        Ok(answer)
    }

    fn probe_in(
        &self,
        lab: &mut dyn Backend,
        live: &Live,
        question: &Question,
    ) -> Result<Answer, BackendError> {
        let stage = Stage {
            world: &self.state.world,
            policies: &self.state.policies,
            tables: &self.state.tables,
            sources: &self.sources,
        };
        let drops = Drops::of(&question.packet);
        let (mut explanation, trace) = asked(lab, &stage, question)?;
        let unseen = trace.as_ref().filter(|trace| trace.unseen.is_some());
        let kernel = unseen.map(|trace| drops.told(trace, &self.state.tables));
        explanation.assumed.insert(0, NO_EARLIER.to_owned());
        explanation.backend = explanation.backend.replacen("lab", MADE, 1);
        if live.compare && trace.as_ref().is_some_and(|trace| trace.lost > 0) {
            explanation.assumed.push(UNCOMPARED.to_owned());
        }
        let compared = match trace.filter(|trace| live.compare && trace.lost == 0) {
            Some(trace) => Some(self.compared(&stage, question, &trace)?),
            None => None,
        };
        Ok(Answer {
            unmet: live.unmet(&explanation),
            explanation,
            level: self.settings.level,
            came_with: None,
            live: Some(Sent { compared, kernel, broken: Vec::new(), http: None }),
        })
    }

    /// The same question in simulation.
    fn compared(
        &self,
        stage: &Stage<'_>,
        question: &Question,
        live: &Trace,
    ) -> Result<Compared, BackendError> {
        let choice = match self.settings.backend {
            Choice::Lab => Choice::Auto,
            other => other,
        };
        let mut backend = (self.open_backend)(choice)?;
        let (_, simulated) = asked(&mut *backend, stage, question)?;
        let difference = simulated.and_then(|s| difference(&s, live, stage.world));
        Ok(Compared { backend: backend.name(), difference })
    }
}

/// The request that `http` asks for.
pub(super) fn request_of(question: &Question) -> Option<RequestLine<'_>> {
    let is_http = question.known == Some(Known::Connected);
    RequestLine::of(&question.packet.payload).filter(|_| is_http)
}

/// What is not sent unless it is asked for once more: something of a person's own making. What stands behind the header of a later
/// fragment is as little of that as what ping sends, or a request that asks for nothing but to be
/// told something.
pub(super) fn unsendable(
    live: &Live,
    asked: &ast::Question,
    question: &Question,
) -> Option<Box<Reply>> {
    let is_default = question.undetermined.iter().any(|field| field == DEFAULT_PAYLOAD);
    if live.send || question.packet.payload.is_empty() || is_default {
        return None;
    }
    if let Some(request) = request_of(question) {
        let message = format!("HTTP {} is sent to a real pod only with `--send`", request.method);
        let remedy = "add `--send`, or ask with GET or HEAD";
        let reply = Reply::failure(Status::Usage, message, remedy);
        return (!request.is_plain()).then(|| Box::new(reply));
    }
    let (what, instead) = asked.options.iter().find_map(|option| match option.node {
        PacketOption::Payload(_) | PacketOption::Hex(_) => Some(("a payload", "the payload")),
        PacketOption::Length(_) => Some(("what `length` fills a packet with", "`length`")),
        PacketOption::Quoting(_) | PacketOption::QuotingLast => {
            Some(("an ICMP error about another packet", "`quoting`"))
        }
        _ => None,
    })?;
    let message = format!("{what} is sent to a real pod only with `--send`");
    let remedy = format!("add `--send`, or leave {instead} out");
    Some(Box::new(Reply::failure(Status::Usage, message, remedy)))
}

/// A question on conntrack of its own.
fn asked(
    backend: &mut dyn Backend,
    stage: &Stage<'_>,
    question: &Question,
) -> Result<(engine::explain::Explanation, Option<Trace>), BackendError> {
    let (mut memory, mut unseen) = (Memory::default(), false);
    let mut journey = Journey { backend, memory: &mut memory, unseen: &mut unseen, now: START };
    journey.backend.load_world(stage.world, stage.tables)?;
    journey.forget()?;
    journey.ask_traced(stage, question)
}

/// In a lab of ours the two never differ: that would be a bug. One that is lost between two programs is the network's doing.
pub(super) fn told(answer: Answer) -> Reply {
    let compared = answer.live.as_ref().and_then(|live| live.compared.as_ref());
    let differs = compared.is_some_and(|compared| compared.difference.is_some());
    let is_lost = answer.explanation.undecided == Some(Undecided::NotObserved);
    let status = if super::super::differs(&answer.explanation) || (differs && !is_lost) {
        Status::Divergence
    } else if differs || !answer.unmet.is_empty() {
        Status::Negative
    } else {
        Status::Ok
    };
    Reply::with_status(Content::Answer(Box::new(answer)), status)
}

/// What looks for a packet that the kernel itself drops.
#[cfg(feature = "lab")]
pub(super) struct Drops {
    kernel: Result<KernelDrops, BackendError>,
    asked: (IpAddr, IpAddr),
}

#[cfg(feature = "lab")]
impl Drops {
    pub(super) fn of(packet: &Packet) -> Self {
        let (source, destination) = (packet.ip.source, packet.ip.destination);
        let is_v6 = source.is_ipv6();
        let id = if is_v6 { packet.ip.flow_label } else { packet.ip.id };
        let kernel = KernelDrops::watch(Wanted { is_v6, id });
        Self { kernel, asked: (source, destination) }
    }

    /// What the kernel told of the packet that made the journey: on its way it may have got other addresses.
    pub(super) fn told(&self, trace: &Trace, tables: &Tables) -> String {
        let frames = trace.hops.iter().flat_map(|hop| [&hop.frame_in, &hop.frame_out]);
        let mut between: Vec<_> = frames.filter_map(|bytes| addresses(bytes, tables)).collect();
        between.push(self.asked);
        let kernel = self.kernel.as_ref().map_err(Clone::clone);
        let found = kernel.and_then(|kernel| kernel.found(&between));
        match found {
            Ok(Some(found)) => {
                let function =
                    found.function.map_or_else(String::new, |name| format!(", in {name}"));
                let (reason, number) = (found.reason, found.number);
                format!("dropped it itself, outside of our programs: {reason} ({number}){function}")
            }
            Ok(None) => "told of no drop of it".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

/// Who a packet is from and for: in a tunnel, the one within.
#[cfg(feature = "lab")]
fn addresses(bytes: &[u8], tables: &Tables) -> Option<(IpAddr, IpAddr)> {
    let tunnel = &tables.nodes.first()?.tunnel;
    let tunneled = frame::decapsulate(bytes, tunnel.kind, tunnel.port);
    let inner = tunneled.map_or(bytes, |tunneled| tunneled.frame);
    let flow = frame::read(inner)?.flow;
    Some((flow.source, flow.destination))
}

#[cfg(not(feature = "lab"))]
struct Drops;

#[cfg(not(feature = "lab"))]
impl Drops {
    fn of(_: &Packet) -> Self {
        Self
    }

    fn told(&self, _: &Trace, _: &Tables) -> String {
        "was not asked".to_owned()
    }
}
