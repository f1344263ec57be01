//! Watching: takes runs as they come, shows those that are wanted, counts all, until it has seen enough. What it keeps is bounded: a
//! number of known flows, of talks, and one batch.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use datapath::decode::Run;
use engine::backend::BackendError;
use engine::net::{Hook, TcpFlags};
use engine::reason::DropReason;
use engine::tables::Generation;
use engine::topology::NodeId;
use engine::trace::Event;
use schemars::JsonSchema;
use serde::Serialize;

use super::capture::Capture;
use super::counted::Counted;
use super::sighting::{self, Sighting};
use super::talks::Talks;
use super::{Asked, Lost, Report, Scene, Source};
use crate::session::Interrupt;

/// Between two looks where nothing was said.
const PAUSE: Duration = Duration::from_millis(1);
/// What is seen of flows is remembered for so many of them.
const REMEMBERED: usize = 16_384;
/// Scenes of earlier generations that are kept.
const SCENES: usize = 4;

/// Why watching ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The user wanted it to.
    #[default]
    Interrupted,
    /// As many were seen as were asked for.
    Count,
    /// The time was over.
    Time,
    /// Nobody reads any more.
    Closed,
}

/// What is shown as it comes.
#[derive(Clone, Debug)]
pub enum Item {
    /// A run.
    Sighting(Box<Sighting>),
    /// Events were lost.
    Lost(Lost),
    /// An answer about a real packet.
    Answer(Box<crate::reply::Answer>),
}

/// Where items go.
pub trait Sink {
    /// Shows some.
    ///
    /// # Errors
    /// Those of the output.
    fn show(&mut self, items: &[Item]) -> io::Result<()>;
}

/// What watching came to.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Sums.
    pub report: Report,
    /// Items that nobody showed yet.
    pub items: Vec<Item>,
    /// A drawing that was asked for.
    pub drawing: Option<String>,
}

/// What two runs have in common that are seen alike.
#[derive(PartialEq, Eq, Hash)]
struct Alike {
    node: NodeId,
    hook: Hook,
    ifindex: Option<u32>,
    generation: Generation,
    events: Vec<Event>,
    unknown: Option<DropReason>,
}

/// Watches a source.
///
/// # Errors
/// The source's, and those of the capture.
pub fn watch(
    source: &mut dyn Source,
    asked: &Asked,
    sink: &mut dyn Sink,
    interrupt: &Interrupt,
) -> Result<Report, BackendError> {
    let mut capture = asked.pcap.as_deref().map(Capture::create).transpose()?;
    let mut watch = Watch::new(source);
    let begun = Instant::now();
    let mut report =
        Report { source: source.name(), observed: source.observes(), ..Report::default() };
    let counted = asked.metrics.as_deref().map(|at| Counted::serve(at, source)).transpose()?;
    let mut talks = Talks::default();
    report.ended = loop {
        let batch = source.poll()?;
        let is_idle = batch.runs.is_empty();
        let mut items = Vec::new();
        for (node, run) in &batch.runs {
            report.runs += 1;
            let seen = watch.see(source, *node, run);
            if let Some(counted) = &counted {
                counted.saw(&watch, *node, run);
            }
            report.quiet += u64::from(seen.quiet);
            report.incomplete += u64::from(run.end.is_none());
            if !asked.filter.admits(&seen) || asked.count.is_some_and(|most| report.shown >= most) {
                continue;
            }
            report.add(&seen);
            talks.add(&seen);
            if let Some(capture) = &mut capture {
                capture.add(&seen, run)?;
            }
            if asked.graph.is_none() {
                items.push(Item::Sighting(Box::new(seen)));
            }
        }
        for (node, events) in batch.lost.iter().filter(|(_, events)| *events > 0) {
            let time = watch.wall(source.now());
            let lost = Lost { time, node: watch.present.node(*node), events: *events };
            report.lose(&lost);
            if let Some(counted) = &counted {
                counted.metrics.lost(&lost.node, lost.events);
            }
            items.push(Item::Lost(lost));
        }
        if !items.is_empty() && sink.show(&items).is_err() {
            break Ended::Closed;
        }
        if asked.count.is_some_and(|most| report.shown >= most) {
            break Ended::Count;
        }
        if asked.time.is_some_and(|time| begun.elapsed() >= time) {
            break Ended::Time;
        }
        if interrupt.is_set() {
            break Ended::Interrupted;
        }
        if is_idle {
            std::thread::sleep(PAUSE);
        }
    };
    capture.map_or(Ok(()), Capture::finish)?;
    report.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.talks = talks.all();
    report.beyond = talks.beyond;
    Ok(report)
}

/// What is remembered between runs.
pub(super) struct Watch {
    present: Rc<Scene>,
    scenes: Vec<Rc<Scene>>,
    known: HashMap<Alike, Sighting>,
    /// From the kernel's monotonic clock to that of the wall.
    offset: u64,
}

impl Watch {
    fn new(source: &mut dyn Source) -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_nanos()).unwrap_or(0);
        let present = source.present();
        Self {
            scenes: vec![Rc::clone(&present)],
            present,
            known: HashMap::new(),
            offset: wall.wrapping_sub(source.now()),
        }
    }

    /// What a generation decided by, if it was seen already.
    pub(super) fn known(&self, generation: Generation) -> Option<Rc<Scene>> {
        self.scenes.iter().find(|scene| scene.tables.generation == generation).cloned()
    }

    fn wall(&self, time: u64) -> u64 {
        time.wrapping_add(self.offset)
    }

    fn see(&mut self, source: &mut dyn Source, node: NodeId, run: &Run) -> Sighting {
        let scene = self.scene(source, run.generation);
        let alike = alike(node, run);
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let known = self.known.entry(alike).or_insert_with(|| sighting::see(&scene, node, run));
        let mut seen = known.clone();
        if let Some(parsed) = sighting::parsed(run) {
            seen.detail = sighting::detail(&parsed);
        }
        if let Some(end) = run.end {
            seen.time = self.wall(end.time);
            seen.bytes = end.length;
        }
        seen.observed = source.observes();
        seen
    }

    /// What the run's generation decided by; the present scene where nobody knows.
    fn scene(&mut self, source: &mut dyn Source, generation: Generation) -> Rc<Scene> {
        let is_it = |scene: &&Rc<Scene>| scene.tables.generation == generation;
        if let Some(known) = self.scenes.iter().find(is_it) {
            return Rc::clone(known);
        }
        let Some(scene) = source.scene(generation) else { return Rc::clone(&self.present) };
        if self.scenes.len() >= SCENES {
            self.scenes.remove(0);
        }
        self.scenes.push(Rc::clone(&scene));
        self.present = Rc::clone(&scene);
        scene
    }
}

/// Runs are alike that differ in nothing but time, length and flags.
fn alike(node: NodeId, run: &Run) -> Alike {
    let events = run.events.iter().map(|said| match said.event {
        Event::Parsed { flow, icmp, fragment, .. } => {
            Event::Parsed { flow, flags: TcpFlags(0), icmp, fragment, ttl: 0, length: 0 }
        }
        Event::Conntrack { state, created, closing, .. } => {
            Event::Conntrack { state, created, closing, expires_in: 0 }
        }
        event => event,
    });
    Alike {
        node,
        hook: run.hook,
        ifindex: run.end.map(|end| end.ifindex),
        generation: run.generation,
        events: events.collect(),
        unknown: run.end.and_then(|end| end.unknown),
    }
}
