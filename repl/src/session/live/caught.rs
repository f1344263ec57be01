//! `trace --live --wait` and `--drops`: packets of others, caught as they pass, each explained whole: what all programs said of it put together
//! to the journey that it made. Owns which runs are of one packet's beginning; following is `datapath::follow`'s, words are `explain`'s.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use datapath::decode::Run;
use datapath::follow::{Heard, came, follow_heard};
use datapath::frame;
use datapath::live::Mode;
use engine::backend::BackendError;
use engine::explain::{ENTRANCE, Explanation, Undecided, explain};
use engine::net::{Hook, Layer};
use engine::reason::DropReason;
use engine::tables::Generation;
use engine::topology::NodeId;
use engine::trace::{Action, Event, Trace};
use engine::verdict::Verdict;

use super::super::at::sent::Sent as Given;
use super::super::{Session, refused};
use super::kind::Kind;
use super::source::Opened;
use super::trace::{Live, told};
use crate::monitor::{Asked, Item, Scene, Sighting, Source, hop, see};
use crate::reply::{Answer, Content, Level, Missed, Reply, Sent, Status};
use crate::session::Interrupt;

/// How long what is said later may still be of a packet.
pub(super) const SETTLED: Duration = Duration::from_millis(150);
/// Between two looks where nothing was said.
const PAUSE: Duration = Duration::from_millis(1);
/// Runs that are held at most until what comes after them was heard.
const HELD: usize = 1 << 16;
/// What is taken for granted of a packet that others sent.
pub(super) const EARLIER: &str =
    "caught as it passed: earlier packets of its flow were not followed";
/// Scenes of generations that are kept.
const SCENES: usize = 4;

/// What is to be caught.
pub(super) struct Wanted<'l> {
    pub(super) live: &'l Live,
    pub(super) watch: Asked,
    pub(super) kind: Kind,
    pub(super) level: Level,
    /// The sender's port, where it is known.
    pub(super) from: Option<u16>,
    /// What the packet's payload begins with.
    pub(super) begin: Option<Vec<u8>>,
}

impl Wanted<'_> {
    /// Whether what a program saw may be of a packet of the kind.
    fn admits(&self, seen: &Sighting, run: &Run) -> bool {
        self.kind.is_of(seen.protocol)
            && self.from.is_none_or(|port| seen.source.port == Some(port))
            && self.watch.filter.admits(seen)
            && self.begin.as_ref().is_none_or(|begin| begins(run, begin))
    }
}

/// Whether what a frame carries begins so, as far as it was told.
fn begins(run: &Run, begin: &[u8]) -> bool {
    let layers = run.came.as_ref().map(|came| frame::dissect(&came.bytes, &[])).unwrap_or_default();
    layers.iter().any(|layer| match layer {
        Layer::Payload(bytes) => bytes.starts_with(begin),
        _ => false,
    })
}

/// A packet that was caught.
struct Found {
    trace: Trace,
    scene: Rc<Scene>,
    node: NodeId,
    run: Run,
    /// Why it could not be followed further.
    stuck: Option<BackendError>,
    /// What programs that only observe would drop it for if its flow began with it.
    unknown: Option<DropReason>,
}

/// Everything that goes on while packets are waited for.
pub(super) struct Hunt<'w> {
    wanted: &'w Wanted<'w>,
    title: String,
    observes: bool,
    held: Vec<(NodeId, Run)>,
    /// Runs that ended until then were looked at.
    looked: u64,
    scenes: Vec<Rc<Scene>>,
    lost: u64,
    caught: u64,
    /// Whether any of them missed what was expected.
    has_missed: bool,
}

impl Session {
    /// Catches packets in what is installed.
    pub(super) fn catch_installed(&mut self, opened: Opened, wanted: &Wanted<'_>) -> Reply {
        let mode = Mode { trace: true, capture: true, ..Mode::default() };
        match opened.listen(mode) {
            Ok(mut source) => self.catch(&mut source, wanted),
            Err(reply) => *reply,
        }
    }

    /// Catches packets of a source.
    pub(super) fn catch(&mut self, source: &mut dyn Source, wanted: &Wanted<'_>) -> Reply {
        let begun = Instant::now();
        let mut hunt = Hunt::of(source, wanted);
        let interrupt = self.interrupt.clone();
        let done = hunt.run(source, begun, &interrupt, &mut |answer, is_last| {
            self.last_answer = Some(answer.explanation.clone());
            match &mut self.sink {
                Some(sink) if !is_last => sink.show(&[Item::Answer(answer.clone())]).is_ok(),
                _ => true,
            }
        });
        match done {
            Err(error) => *refused(&error),
            Ok(Some(answer)) => {
                let reply = told(*answer);
                let status = if hunt.has_missed { Status::Negative } else { Status::Ok };
                Reply { status: reply.status.worst(status), ..reply }
            }
            Ok(None) => hunt.over(begun),
        }
    }
}

impl<'w> Hunt<'w> {
    pub(super) fn of(source: &mut dyn Source, wanted: &'w Wanted<'w>) -> Self {
        let (title, observes) = (source.name(), source.observes());
        let (held, scenes) = (Vec::new(), Vec::new());
        let (looked, lost, caught, has_missed) = (0, 0, 0, false);
        Self { wanted, title, observes, held, looked, scenes, lost, caught, has_missed }
    }

    /// Goes on until as many were caught as were asked for, and gives the last one; nothing where the time was over before.
    pub(super) fn run(
        &mut self,
        source: &mut dyn Source,
        begun: Instant,
        interrupt: &Interrupt,
        show: &mut dyn FnMut(&Box<Answer>, bool) -> bool,
    ) -> Result<Option<Box<Answer>>, BackendError> {
        let watch = &self.wanted.watch;
        loop {
            let is_over =
                watch.time.is_some_and(|time| begun.elapsed() >= time) || interrupt.is_set();
            let is_idle = !self.listen(source)?;
            while let Some(found) = self.next(source, is_over) {
                let Some(answer) = self.answer(found) else { continue };
                self.caught += 1;
                self.has_missed |= !answer.unmet.is_empty();
                let is_last = watch.count.is_some_and(|most| self.caught >= most);
                let answer = Box::new(answer);
                if !show(&answer, is_last) || is_last {
                    return Ok(Some(answer));
                }
            }
            if is_over {
                return Ok(None);
            }
            if is_idle {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Takes what was said; whether anything was.
    fn listen(&mut self, source: &mut dyn Source) -> Result<bool, BackendError> {
        let batch = source.poll()?;
        self.lost += batch.lost.iter().map(|(_, lost)| lost).sum::<u64>();
        let came = !batch.runs.is_empty();
        self.held.extend(batch.runs);
        if came {
            self.held.sort_by_key(|(_, run)| ended(run));
        }
        let beyond = self.held.len().saturating_sub(HELD);
        // Runs whose packets nobody can follow any more are lost as well.
        self.lost += beyond as u64;
        self.held.drain(..beyond);
        Ok(came)
    }

    /// The next packet of the kind, once all of it was heard. What is long before it is forgotten.
    fn next(&mut self, source: &mut dyn Source, is_over: bool) -> Option<Found> {
        let settled = u64::try_from(SETTLED.as_nanos()).unwrap_or(u64::MAX);
        let until = if is_over { u64::MAX } else { source.now().saturating_sub(settled) };
        let mut at = self.held.partition_point(|(_, run)| ended(run) <= self.looked);
        while let Some((node, run)) = self.held.get(at).filter(|(_, run)| ended(run) <= until) {
            let (node, run) = (*node, run.clone());
            self.looked = ended(&run);
            let scene = self.scene(source, run.generation);
            let seen = see(&scene, node, &run);
            if !self.wanted.admits(&seen, &run) {
                at += 1;
                continue;
            }
            let first = self.first(&scene, at);
            if self.is_for_asked(&scene, first) && self.is_as_asked(&scene, first) {
                self.looked = self.looked.saturating_sub(1);
                return self.followed(scene, first);
            }
            self.pass_over(&scene, first);
            at = self.held.partition_point(|(_, run)| ended(run) <= self.looked);
        }
        let known = self.looked.saturating_sub(settled);
        let old = self.held.partition_point(|(_, run)| ended(run) < known);
        self.held.drain(..old);
        None
    }

    /// The first run of the packet of a run: where it was translated on its way, it began as another one.
    fn first(&self, scene: &Scene, at: usize) -> usize {
        let translates = |run: &Run| {
            let is_one =
                |event: &Event| matches!(event, Event::Service { .. } | Event::Rewritten { .. });
            run.events.iter().any(|said| is_one(&said.event))
        };
        let earlier = self.held.iter().enumerate().take(at).rev();
        let mut begins = earlier.filter(|(_, (_, run))| translates(run)).map(|(from, _)| from);
        let leads = |from: &usize| {
            let (_, taken) = follow_heard(&scene.world, &scene.tables, self.heard(), *from);
            taken.contains(&at)
        };
        begins.find(leads).unwrap_or(at)
    }

    /// Whether a packet whose beginning was seen is for whom the question names, and not only for whom that stands for.
    fn is_for_asked(&self, scene: &Scene, first: usize) -> bool {
        let Some((node, run)) = self.held.get(first) else { return false };
        let Some((_, named)) = &self.wanted.watch.filter.talk else { return true };
        let is_behind = matches!(run.hook, Hook::FromOverlay | Hook::FromNetdev | Hook::ToNetdev);
        let to = see(scene, *node, run).destination;
        let is_named = |name: &String| *name == to.name || *name == to.address;
        // Who is asked for comes first, then whom a service leads to.
        is_behind || named.len() < 2 || named.first().is_some_and(is_named)
    }

    /// Whether a packet is as the question says, where it was seen first.
    fn is_as_asked(&self, scene: &Scene, first: usize) -> bool {
        let kind = &self.wanted.kind;
        let Some((node, run)) = self.held.get(first).filter(|_| kind.is_particular()) else {
            return true;
        };
        came(*node, run).is_some_and(|raw| {
            kind.admits(&Given::of(&scene.world, &scene.tables, &raw).question.packet)
        })
    }

    /// Forgets all runs of a packet that is not meant, so that none of them is taken for the beginning of another.
    fn pass_over(&mut self, scene: &Scene, first: usize) {
        let (_, taken) = follow_heard(&scene.world, &scene.tables, self.heard(), first);
        self.let_go(&taken);
    }

    fn let_go(&mut self, taken: &BTreeSet<usize>) {
        let mut at = 0;
        self.held.retain(|_| {
            at += 1;
            !taken.contains(&(at - 1))
        });
    }

    fn heard(&self) -> Heard<'_> {
        Heard { name: &self.title, runs: &self.held, observes: self.observes }
    }

    /// The packet of a run, which is not held any longer, with all that are of the same.
    fn followed(&mut self, scene: Rc<Scene>, first: usize) -> Option<Found> {
        let (node, run) = self.held.get(first).cloned()?;
        let (trace, taken) = follow_heard(&scene.world, &scene.tables, self.heard(), first);
        let unknown = self.unknown(&taken);
        self.let_go(&taken);
        let (mut trace, stuck) = match trace {
            Ok(trace) => (trace, None),
            Err(error) => {
                let hops = vec![hop(&scene, node, &run)];
                let (backend, generation) = (self.title.clone(), scene.tables.generation);
                (Trace { backend, generation, hops, ..Trace::default() }, Some(error))
            }
        };
        let is_broken = trace.unseen.is_some() || trace.hops.iter().any(|h| h.action().is_none());
        trace.lost = if is_broken { self.lost } else { 0 };
        Some(Found { trace, scene, node, run, stuck, unknown })
    }

    fn unknown(&self, taken: &BTreeSet<usize>) -> Option<DropReason> {
        let of = |at: &usize| self.held.get(*at)?.1.end?.unknown;
        taken.iter().find_map(of)
    }

    /// The packet explained; nothing where another kind of end is wanted.
    fn answer(&self, found: Found) -> Option<Answer> {
        let Found { trace, scene, node, run, stuck, unknown } = found;
        let raw = came(node, &run)?;
        let given = Given::of(&scene.world, &scene.tables, &raw);
        let mut explanation = explain(&scene.context(), &given.question, &trace, None)?;
        if unknown.is_some() {
            explanation.verdict = Verdict::Undecided;
            (explanation.reason, explanation.undecided) = (None, Some(Undecided::NotFollowed));
        }
        if self.wanted.live.drops && explanation.verdict != Verdict::Dropped {
            return None;
        }
        explanation.packet = given.report(explanation.packet, &trace);
        self.say(&mut explanation, &trace, (&run, stuck, unknown));
        let live = Some(Sent::default());
        Some(Answer {
            unmet: self.wanted.live.unmet(&explanation),
            explanation,
            level: self.wanted.level,
            came_with: None,
            live,
        })
    }

    /// What cannot be known of a packet of others.
    fn say(
        &self,
        explanation: &mut Explanation,
        trace: &Trace,
        (run, stuck, unknown): (&Run, Option<BackendError>, Option<DropReason>),
    ) {
        let lines = &mut explanation.assumed;
        lines.retain(|line| !line.starts_with(ENTRANCE));
        lines.push(EARLIER.to_owned());
        if let (Hook::FromOverlay | Hook::ToNetdev, Some(first)) =
            (run.hook, explanation.hops.first())
        {
            let (node, device) = (&first.node, &first.device);
            lines.push(format!("first seen at {node} {device}: what was before was not observed"));
            let service = self.wanted.kind.service.as_ref();
            lines.extend(service.map(|name| format!("whether it was sent to {name} is not known")));
        }
        if let Some(cut) = run.came.as_ref().filter(|c| (c.length as usize) > c.bytes.len()) {
            let (told, all) = (cut.bytes.len(), cut.length);
            lines.push(format!("the first {told} of {all} bytes were told; others show as 0"));
        }
        let last = trace.hops.last().and_then(engine::trace::Hop::action);
        if self.observes {
            let note = "programs only observe: the packet went on, whatever they say of it";
            lines.push(note.to_owned());
        } else if matches!(last, Some(Action::Deliver { .. })) {
            lines.push("what the pod did with it was not looked at".to_owned());
        }
        if let Some(reason) = unknown {
            let name = reason.name();
            lines.push(format!(
                "its flow may be older than the programs: one that began with it would be dropped ({name})"
            ));
        }
        if let Some(error) = stuck {
            lines.push(format!("it was not followed further: {error}"));
        }
    }

    /// What a run's generation decided by; the present scene where nobody knows.
    fn scene(&mut self, source: &mut dyn Source, generation: Generation) -> Rc<Scene> {
        let is_it = |scene: &&Rc<Scene>| scene.tables.generation == generation;
        if let Some(known) = self.scenes.iter().find(is_it) {
            return Rc::clone(known);
        }
        let present = source.present();
        let found = Some(Rc::clone(&present)).filter(|scene| scene.tables.generation == generation);
        let Some(scene) = found.or_else(|| source.scene(generation)) else { return present };
        if self.scenes.len() >= SCENES {
            self.scenes.remove(0);
        }
        self.scenes.push(Rc::clone(&scene));
        scene
    }

    /// What was caught so far; among what was lost there may have been more.
    pub(super) fn missed(&self, begun: Instant) -> Missed {
        let Wanted { live, watch, kind, .. } = self.wanted;
        Missed {
            what: if live.drops { "drop" } else { "packet" },
            of: kind.words() + &between(watch),
            caught: self.caught,
            seconds: begun.elapsed().as_secs_f64(),
            lost: self.lost,
        }
    }

    /// What was caught when the time was over, which is a negative answer where that is less than was asked for.
    fn over(&self, begun: Instant) -> Reply {
        let (missed, watch) = (self.missed(begun), &self.wanted.watch);
        let is_less = self.caught < watch.count.unwrap_or(1);
        let status = if is_less || self.has_missed { Status::Negative } else { Status::Ok };
        Reply::with_status(Content::Missed(missed), status)
    }
}

/// From whom to whom, and to which ports.
fn between(watch: &Asked) -> String {
    let Some((source, to)) = &watch.filter.talk else { return String::new() };
    let to = to.first().map_or("", String::as_str);
    let port = watch.filter.ports.first();
    let port = port.map_or_else(String::new, |port| format!(", port {port}"));
    format!(" of {source} to {to}{port}")
}

fn ended(run: &Run) -> u64 {
    run.end.map_or(0, |end| end.time)
}

#[cfg(test)]
mod tests {
    use datapath::decode::{End, Snapshot};
    use engine::explain::Undecided;
    use engine::source::SourceMap;
    use engine::topology::Endpoint;
    use engine::trace::{Ethernet, Stamped};

    use super::*;
    use crate::monitor::Batch;

    const WORLD: &str = "cluster c {
  node node01 { ip 192.168.1.1 pods 10.1.0.0/24 }
  node node02 { ip 192.168.1.2 pods 10.2.0.0/24 }
}
namespace shop {}
pod shop/client on node01 { ip 10.1.0.10 }
pod shop/server on node02 { ip 10.2.0.10 }
";

    /// Runs of a node that is observed; another one is not.
    struct Recorded {
        scene: Rc<Scene>,
        runs: Vec<(NodeId, Run)>,
        lost: u64,
    }

    impl Source for Recorded {
        fn name(&self) -> String {
            "lab test".to_owned()
        }

        fn poll(&mut self) -> Result<Batch, BackendError> {
            let lost = vec![(NodeId(1), std::mem::take(&mut self.lost))];
            Ok(Batch { runs: std::mem::take(&mut self.runs), lost })
        }

        fn scene(&mut self, _: Generation) -> Option<Rc<Scene>> {
            None
        }

        fn present(&mut self) -> Rc<Scene> {
            Rc::clone(&self.scene)
        }

        fn now(&self) -> u64 {
            u64::MAX
        }
    }

    fn scene() -> Rc<Scene> {
        let mut sources = SourceMap::default();
        let entry = [("c.hop".to_owned(), WORLD.to_owned())];
        let loaded = lang::load(&entry, &mut lang::NoIncludes, &mut sources);
        let lang::Loaded { world, policies, .. } = loaded;
        let tables = engine::compile::compile(&world, &policies, Generation(1)).unwrap();
        Rc::new(Scene { world, policies, tables, sources })
    }

    /// A packet leaves a node by the tunnel.
    fn leaves(scene: &Scene, question: &str) -> (NodeId, Run) {
        let mut sources = SourceMap::default();
        let file = sources.add("question", question);
        let asked = lang::command::parse_question(question, file).unwrap();
        let asked = lang::resolve::question(&scene.world, &asked).unwrap();
        let here = scene.tables.node(NodeId(0)).unwrap();
        let pod = here.endpoints.iter().find(|e| matches!(e.endpoint, Endpoint::Pod(_))).unwrap();
        let ethernet = Ethernet { source: pod.mac, destination: pod.host_mac };
        let bytes = frame::build(&asked.packet, ethernet).unwrap();
        let read = frame::read(&bytes).unwrap();
        let length = u32::try_from(bytes.len()).unwrap();
        let snapshot = Some(Snapshot { length, bytes });
        let remote = "192.168.1.2".parse().unwrap();
        let parsed = Event::Parsed {
            flow: read.flow,
            flags: engine::net::TcpFlags::SYN,
            icmp: None,
            fragment: read.fragment,
            ttl: read.ttl,
            length,
        };
        let ifindex = here.tunnel_ifindex;
        let outcome = Event::Outcome(Action::Tunnel { vni: 256, remote, ifindex, ttl: 64 });
        let (generation, hook) = (Generation(1), Hook::FromContainer);
        let events = [parsed, outcome].map(|event| Stamped { generation, hook, event }).to_vec();
        let end = Some(End { time: 5, ifindex: pod.ifindex, length, mark: 0, unknown: None });
        let (came, left) = (snapshot.clone(), snapshot);
        (NodeId(0), Run { cpu: 0, hook, generation, events, came, left, end })
    }

    fn caught(lost: u64, drops: bool) -> Reply {
        let scene = scene();
        let runs = vec![leaves(&scene, "shop/client -> shop/server:80")];
        let mut source = Recorded { scene, runs, lost };
        let live = Live { wait: true, drops, ..Live::default() };
        let watch =
            Asked { count: Some(1), time: Some(Duration::from_millis(20)), ..Asked::default() };
        let (kind, level) = (Kind::default(), Level::Normal);
        let mut session = Session::new(crate::backend::open);
        let wanted = Wanted { live: &live, watch, kind, level, from: None, begin: None };
        session.catch(&mut source, &wanted)
    }

    #[test]
    fn a_packet_that_leaves_what_is_observed_is_undecided_and_says_where() {
        let Content::Answer(answer) = caught(0, false).content else { panic!() };
        let told = &answer.explanation;
        assert_eq!(told.undecided, Some(Undecided::NotObserved));
        let unobserved = told.unobserved.as_ref().unwrap();
        assert_eq!((unobserved.left.as_str(), unobserved.by.as_str()), ("node01", "vxlan0"));
        assert_eq!(unobserved.endpoint.as_deref(), Some("shop/server"));
    }

    #[test]
    fn lost_events_are_told_with_what_may_have_been_among_them() {
        let Content::Answer(answer) = caught(3, false).content else { panic!() };
        let told = &answer.explanation;
        assert_eq!((told.undecided, told.lost), (Some(Undecided::EventsLost), 3));
        let Content::Missed(missed) = caught(3, true).content else { panic!() };
        assert_eq!((missed.what, missed.caught, missed.lost), ("drop", 0, 3));
        let text = missed.to_string();
        assert_eq!(text, "no drop seen in 0.0 s (any packet); 3 events lost");
    }
}
