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
use super::sighting::{self, Fate, Sighting};
use super::talks::Talks;
use super::{Asked, Batch, Lost, Report, Scene, Source};
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
    let begun = Instant::now();
    let mut watching = Watching::new(source, asked)?;
    let ended = loop {
        let (items, is_idle) = watching.look(source, asked)?;
        if !items.is_empty() && sink.show(&items).is_err() {
            break Ended::Closed;
        }
        if asked.count.is_some_and(|most| watching.report.shown >= most) {
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
    // What was said until now is told, so that what was read and what was lost are all.
    let items = {
        let rest = source.end()?;
        watching.take(source, asked, &rest)?
    };
    let is_open = ended != Ended::Closed;
    if is_open && !items.is_empty() && sink.show(&items).is_err() {
        return watching.finish(Ended::Closed, begun);
    }
    watching.finish(ended, begun)
}

/// Between two questions to nodes about themselves.
const MEASURING: Duration = Duration::from_secs(1);

/// Everything that goes on while a source is watched.
struct Watching {
    watch: Watch,
    report: Report,
    talks: Talks,
    capture: Option<Capture>,
    counted: Option<Counted>,
    /// When nodes were last asked about themselves.
    measured: Option<Instant>,
}

impl Watching {
    fn new(source: &mut dyn Source, asked: &Asked) -> Result<Self, BackendError> {
        let report =
            Report { source: source.name(), observed: source.observes(), ..Report::default() };
        Ok(Self {
            watch: Watch::new(source),
            report,
            talks: Talks::default(),
            capture: asked.pcap.as_deref().map(Capture::create).transpose()?,
            counted: asked.metrics.as_deref().map(|at| Counted::serve(at, source)).transpose()?,
            measured: None,
        })
    }

    /// Asks nodes about themselves, from time to time, where that is counted.
    fn measure(&mut self, source: &mut dyn Source) -> Result<(), BackendError> {
        let Some(counted) = &self.counted else { return Ok(()) };
        if self.measured.is_some_and(|at| at.elapsed() < MEASURING) {
            return Ok(());
        }
        self.measured = Some(Instant::now());
        for (node, measured) in source.measured()? {
            counted.metrics.measured(&self.watch.present.node(node), measured);
        }
        Ok(())
    }

    /// Takes what was said since the last time: what is to be shown of it, and whether nothing was.
    fn look(
        &mut self,
        source: &mut dyn Source,
        asked: &Asked,
    ) -> Result<(Vec<Item>, bool), BackendError> {
        self.measure(source)?;
        let batch = source.poll()?;
        let items = self.take(source, asked, &batch)?;
        Ok((items, batch.runs.is_empty()))
    }

    /// Counts what was said, and chooses what is to be shown of it.
    fn take(
        &mut self,
        source: &mut dyn Source,
        asked: &Asked,
        batch: &Batch,
    ) -> Result<Vec<Item>, BackendError> {
        let mut items = Vec::new();
        for (node, run) in &batch.runs {
            let seen = self.watch.see(source, *node, run);
            self.count(&seen, *node, run);
            let is_over = asked.count.is_some_and(|most| self.report.shown >= most);
            if is_over || !asked.filter.admits(&seen) {
                continue;
            }
            self.report.add(&seen);
            self.talks.add(&seen);
            if let Some(capture) = &mut self.capture {
                capture.add(&seen, run)?;
            }
            if asked.graph.is_none() {
                items.push(Item::Sighting(Box::new(seen)));
            }
        }
        for (node, events) in batch.lost.iter().filter(|(_, events)| *events > 0) {
            let time = self.watch.wall(source.now());
            let lost = Lost { time, node: self.watch.present.node(*node), events: *events };
            self.report.lose(&lost);
            if let Some(counted) = &self.counted {
                counted.metrics.lost(&lost.node, lost.events);
            }
            items.push(Item::Lost(lost));
        }
        Ok(items)
    }

    /// Counts a run, whether it is wanted or not.
    fn count(&mut self, seen: &Sighting, node: NodeId, run: &Run) {
        self.report.runs += 1;
        self.report.events += u64::try_from(run.records()).unwrap_or(0);
        self.report.quiet += u64::from(seen.quiet);
        self.report.incomplete += u64::from(run.end.is_none());
        if let Some(counted) = &self.counted {
            counted.saw(&self.watch, node, run);
        }
    }

    fn finish(self, ended: Ended, begun: Instant) -> Result<Report, BackendError> {
        self.capture.map_or(Ok(()), Capture::finish)?;
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (talks, beyond) = (self.talks.all(), self.talks.beyond);
        Ok(Report { ended, milliseconds, talks, beyond, ..self.report })
    }
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

    /// A node's name.
    pub(super) fn node(&self, node: NodeId) -> String {
        self.present.node(node)
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
        if seen.observed && seen.verdict == Fate::Allowed && sighting::is_amid(run) {
            seen.verdict = Fate::UnknownState;
        }
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
