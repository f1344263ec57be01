//! `trace --live --on NAME` about HTTP: a connection that the kernel of whoever asks opens to real pods, with the request on it. Owns which
//! of its packets is the answer; they are caught as those of others are, and sent by `datapath::lab`.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use datapath::lab::call::{Called, Caller};
use datapath::lab::namespace::Namespace;
use datapath::live::{Conduct, Mode};
use engine::explain::{Explanation, Undecided};
use engine::net::Protocol;
use engine::question::{Known, Question};
use engine::topology::{Party, Pod, World};
use engine::verdict::Verdict;
use lang::ast::{self, PacketOption};

use super::super::lab::{Own, told as refused_by_lab};
use super::super::{Session, refused};
use super::caught::{EARLIER, Hunt, SETTLED, Wanted};
use super::kind::Kind;
use super::own::Listened;
use super::source::Opened;
use super::trace::{request_of, told};
use super::{Live, elsewhere};
use crate::monitor::{Asked, Source};
use crate::reply::{Answer, Missed, Reply, Sent, Status};
use crate::session::Interrupt;

/// What programs tell meanwhile.
const MODE: Mode = Mode {
    conduct: Conduct::Carry,
    trace: true,
    capture: true,
    filter: None,
    until: 0,
    settled: 0,
};
/// How long a connection, and then an answer, may take.
const PATIENCE: Duration = Duration::from_secs(3);

impl Session {
    /// Opens a connection in a lab of a name, and explains the packet that carries the request, or the one at which the connection failed.
    pub(super) fn request_installed(
        &mut self,
        opened: Opened,
        live: &Live,
        (asked, question): (&ast::Question, &Question),
        watch: Asked,
    ) -> Reply {
        let prepared = elsewhere::refuse(&opened, question).and_then(|()| {
            refuse(asked, live)?;
            let socket = caller(&opened, (asked, question))?;
            Ok((socket, opened.listen(MODE)?))
        });
        let done = prepared.and_then(|(socket, mut source)| {
            self.requested((&mut source, socket), live, question, watch)
        });
        done.map_or_else(|reply| *reply, told)
    }

    /// The same in the lab that the session holds.
    pub(super) fn request_own(
        &mut self,
        own: &mut Own,
        live: &Live,
        (asked, question): (&ast::Question, &Question),
        watch: Asked,
    ) -> Result<Answer, Box<Reply>> {
        elsewhere::refuse_simulated(question)?;
        refuse(asked, live)?;
        let name = place(&own.meant.scene_of_all().world, question.source).ok_or_else(nobody)?;
        let role = own.meant.role(&name)?;
        let space = own.running.space(role).map_err(|error| refused_by_lab(&error))?;
        let socket = bound(&space, &name, (asked, question))?;
        let mut source = Listened::to(own, MODE).map_err(|error| refused(&error))?;
        self.requested((&mut source, socket), live, question, watch)
    }

    fn requested(
        &mut self,
        (source, socket): (&mut dyn Source, Caller),
        live: &Live,
        question: &Question,
        watch: Asked,
    ) -> Result<Answer, Box<Reply>> {
        let request = request_of(question).map(|line| line.in_words()).unwrap_or_default();
        let (to, bytes) = (destination(question), question.packet.payload.clone());
        let wanted = Wanted {
            live,
            watch: Asked { count: None, time: None, ..watch },
            kind: Kind::of_all(Protocol::Tcp),
            level: self.settings.level,
            from: Some(socket.local().port()),
            begin: None,
        };
        let mut hunt = Hunt::of(source, &wanted);
        let (over, begun) = (Interrupt::default(), Instant::now());
        let flag = over.flag().clone();
        let calling = std::thread::spawn(move || {
            let called = socket.call(to, &bytes, PATIENCE);
            std::thread::sleep(2 * SETTLED);
            flag.store(true, Ordering::Relaxed);
            called
        });
        let mut best: Option<(u8, Box<Answer>)> = None;
        let caught = hunt.run(source, begun, &over, &mut |answer, _| {
            let rank = rank(&answer.explanation);
            if best.as_ref().is_none_or(|(known, _)| rank > *known) {
                best = Some((rank, answer.clone()));
            }
            true
        });
        let called = calling.join();
        caught.map_err(|error| refused(&error))?;
        let (Some((rank, answer)), Ok(called)) = (best, called) else {
            return Err(unseen(&hunt.missed(begun)));
        };
        let mut answer = finished(*answer, rank == REQUEST, &called, &request);
        answer.explanation.assumed.splice(..0, question.assumed.iter().cloned());
        self.last_answer = Some(answer.explanation.clone());
        Ok(answer)
    }
}

/// The request itself.
const REQUEST: u8 = 2;

/// How much a packet of the connection has to say: the request, then what opens the connection; others nothing. Of equals it is the first.
fn rank(answer: &Explanation) -> u8 {
    let detail = &answer.packet.detail;
    match () {
        () if detail.starts_with("PSH") => REQUEST,
        () if detail.starts_with("SYN") => 1,
        () => 0,
    }
}

/// The answer with what became of the connection. One whose request was not sent says nothing of it.
fn finished(mut answer: Answer, is_request: bool, called: &Called, request: &str) -> Answer {
    let explanation = &mut answer.explanation;
    explanation.assumed.retain(|line| line != EARLIER);
    if is_request {
        let line = "the connection was opened first, by the sender's kernel";
        explanation.assumed.push(line.to_owned());
    } else if explanation.verdict == Verdict::Allowed {
        explanation.verdict = Verdict::Undecided;
        explanation.undecided = Some(Undecided::NotOpened);
        explanation.reason = None;
    } else {
        let line = "the request was not sent: its connection is not opened";
        explanation.assumed.push(line.to_owned());
    }
    let http = match called {
        Called::Answered { line, after } => {
            format!("{request} was answered after {} ms: {line}", after.as_millis())
        }
        Called::Unanswered(error) => {
            format!("{request} was sent, and not answered: {}", in_words(error))
        }
        Called::Unopened(error) => format!("{request} was not sent: {}", in_words(error)),
    };
    answer.live = Some(Sent { http: Some(http), ..Sent::default() });
    answer
}

/// What a connection failed by.
fn in_words(error: &io::Error) -> String {
    let seconds = PATIENCE.as_secs();
    match error.kind() {
        ErrorKind::ConnectionRefused => "the connection was refused".to_owned(),
        ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
        ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            format!("nothing came back in {seconds} s")
        }
        _ => error.to_string(),
    }
}

/// That programs told nothing of the connection.
fn unseen(missed: &Missed) -> Box<Reply> {
    let message = format!("no packet of the connection was seen: {missed}");
    let remedy = "see that the programs are attached (`hopwise status`), and that no other tool takes the pod's packets";
    Box::new(Reply::failure(Status::Environment, message, remedy))
}

/// What a kernel's own connection does not take.
fn refuse(asked: &ast::Question, live: &Live) -> Result<(), Box<Reply>> {
    let is_taken = |option: &PacketOption| {
        matches!(
            option,
            PacketOption::Http { .. }
                | PacketOption::FromPort(_)
                | PacketOption::Protocol(_)
                | PacketOption::Family { .. }
        )
    };
    let message = if live.compare {
        "a connection of the pods' own kernels is not simulated byte by byte"
    } else if asked.options.iter().any(|option| !is_taken(&option.node)) {
        "the packets of a real connection are the kernel's: beside `http` it takes `from-port`, `ip4` and `ip6` only"
    } else {
        return Ok(());
    };
    let remedy = "leave that out, or ask where the packets are made here: without `--on`, in a session without a lab";
    Err(Box::new(Reply::failure(Status::Input, message, remedy)))
}

fn destination(question: &Question) -> SocketAddr {
    SocketAddr::new(question.packet.ip.destination, question.packet.ports().1)
}

/// A socket where the question begins.
fn caller(
    opened: &Opened,
    (asked, question): (&ast::Question, &Question),
) -> Result<Caller, Box<Reply>> {
    let place = place(&opened.scene.world, question.source);
    let space = place.and_then(|place| opened.record.spaces.iter().find(|s| s.name == place));
    let space = space.ok_or_else(nobody)?;
    let entered = Namespace::open(&space.path).map_err(|error| {
        failed(&format!("the network of {} cannot be opened: {error}", space.name))
    })?;
    bound(&entered, &space.name, (asked, question))
}

fn failed(message: &str) -> Box<Reply> {
    let remedy = "ask from a pod, a node or an external of the lab";
    Box::new(Reply::failure(Status::Input, message, remedy))
}

fn nobody() -> Box<Reply> {
    failed("the sender is nobody of the lab")
}

/// A socket of the sender's address in a network.
fn bound(
    space: &Namespace,
    name: &str,
    (asked, question): (&ast::Question, &Question),
) -> Result<Caller, Box<Reply>> {
    let is_asked =
        |option: &ast::Spanned<PacketOption>| matches!(option.node, PacketOption::FromPort(_));
    let port = question.packet.ports().0;
    let port = if asked.options.iter().any(is_asked) { port } else { 0 };
    let from = SocketAddr::new(question.packet.ip.source, port);
    Caller::bind(space, from)
        .map_err(|error| failed(&format!("no socket at {from} of {name}: {error}")))
}

/// The name of the namespace that a party is in.
fn place(world: &World, party: Party) -> Option<String> {
    let node = |id| world.node(id).map(|node| node.name.clone());
    match party {
        Party::Pod(id) => {
            let pod = world.pod(id)?;
            if pod.host_network { node(pod.node) } else { Some(Pod::qualified(pod)) }
        }
        Party::Node(id) => node(id),
        Party::External(_) => Some("world".to_owned()),
        Party::Address(address) => match world.owner(address) {
            Some(Party::Address(_)) | None => None,
            Some(owner) => place(world, owner),
        },
        Party::Health(_) | Party::Service(_) => None,
    }
}

/// Whether a question is one of a connection.
pub(super) fn is_asked(question: &Question) -> bool {
    question.known == Some(Known::Connected)
}
