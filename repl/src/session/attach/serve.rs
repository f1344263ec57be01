//! Serving the metrics of an attachment as long as somebody wants them: programs tell every event meanwhile, and what they tell is
//! counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use datapath::live::install::{Record, State};
use datapath::live::{Mode, Programs};
use engine::backend::BackendError;
use engine::topology::NodeId;

use super::install::More;
use super::scene::{Scene, complaint, state};
use crate::metrics::{self, About, Metrics, Names};
use crate::reply::{Reply, Status};
use crate::session::refused;

/// Between two looks at what programs said.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two looks at what they say of themselves.
const MEASURING: Duration = Duration::from_secs(1);

/// A node that is listened to.
struct Heard {
    id: NodeId,
    name: String,
    programs: Programs,
}

/// What is listened to.
struct Listening {
    name: String,
    state: State,
    record: Record,
    names: Names,
    /// Those of the generation before, of which something may still be said.
    before: Names,
    nodes: Vec<Heard>,
}

/// Whether nobody else reads what the programs say and metrics could be served at an address, before anything is attached.
pub(crate) fn can_serve(name: Option<&str>, address: &str) -> Result<(), Box<Reply>> {
    let state = state();
    // What is not there yet nobody reads.
    let there = state.meant(name, Some(datapath::live::install::Kind::Attached)).ok();
    if let Some(name) = there.filter(|name| state.open(name).is_ok()) {
        state.reader(&name).map_err(|error| complaint(&error))?;
    }
    metrics::check(address).map_err(|error| unserved(&error))
}

fn unserved(error: &metrics::ServeError) -> Box<Reply> {
    let remedy = error.remedy();
    Box::new(Reply::failure(Status::Environment, error.to_string(), remedy))
}

/// Serves until it is told to end, or the attachment is gone. `begun` is told the address.
pub(crate) fn serve(
    name: Option<&str>,
    address: &str,
    end: &AtomicBool,
    begun: impl FnOnce(&str),
) -> Result<(), Box<Reply>> {
    let state = state();
    let found = || {
        let name = state.meant(name, Some(datapath::live::install::Kind::Attached))?;
        let record = state.open(&name)?;
        let reader = state.reader(&name)?;
        Ok((name, record, reader))
    };
    let (name, record, _reader) = found().map_err(|error| complaint(&error))?;
    let about = About { installation: name.clone(), observes: More::of(&record).observes };
    let metrics = Metrics::new(&about);
    let server = metrics::serve(address, metrics.clone()).map_err(|error| unserved(&error))?;
    let mut listening = Listening::open(name, state, record)?;
    begun(&format!("http://{}/metrics", server.address()));
    let mut measured: Option<Instant> = None;
    while !end.load(Ordering::Relaxed) {
        let (heard, is_newer) = listening.hear(&metrics).map_err(|error| refused(&error))?;
        let is_time = measured.is_none_or(|at| at.elapsed() >= MEASURING);
        if (is_time || is_newer) && !listening.is_there()? {
            break;
        }
        if is_time {
            measured = Some(Instant::now());
            listening.measure(&metrics).map_err(|error| refused(&error))?;
        }
        if heard == 0 {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

impl Listening {
    fn open(name: String, state: State, record: Record) -> Result<Self, Box<Reply>> {
        let scene = Scene::open(&name, &record)?;
        let names = Names::of(&scene.world, &scene.policies, &scene.tables);
        let mut nodes = Vec::new();
        for (id, node) in scene.world.nodes() {
            if record.nodes.iter().any(|known| known.name == node.name) {
                let programs = state.programs(&name, &node.name);
                let mut programs = programs.map_err(|error| complaint(&error))?;
                tell_events(&mut programs, true).map_err(|error| refused(&error))?;
                nodes.push(Heard { id, name: node.name.clone(), programs });
            }
        }
        Ok(Self { name, state, record, before: names.clone(), names, nodes })
    }

    /// Counts what was said; how many runs that were, and whether some are of tables that are not known yet.
    fn hear(&mut self, metrics: &Metrics) -> Result<(usize, bool), BackendError> {
        let (mut heard, mut is_newer) = (0, false);
        for node in &mut self.nodes {
            let (runs, lost) = node.programs.runs()?;
            heard += runs.len();
            for run in &runs {
                let is_present = run.generation.0 >= self.record.number;
                let names = if is_present { &self.names } else { &self.before };
                metrics.saw(names, node.id, run);
                is_newer |= run.generation.0 > self.record.number;
            }
            metrics.lost(&node.name, lost);
        }
        Ok((heard, is_newer))
    }

    fn measure(&mut self, metrics: &Metrics) -> Result<(), BackendError> {
        for node in &mut self.nodes {
            metrics.measured(&node.name, metrics::measure(&mut node.programs)?);
        }
        Ok(())
    }

    /// Whether it is still attached. What was changed meanwhile is opened anew.
    fn is_there(&mut self) -> Result<bool, Box<Reply>> {
        let Ok(record) = self.state.open(&self.name) else {
            // Somebody may be at work on it.
            return Ok(self.state.list().iter().any(|found| found.name == self.name));
        };
        if record != self.record {
            self.nodes.clear();
            let mut changed = Self::open(self.name.clone(), self.state.clone(), record)?;
            std::mem::swap(self, &mut changed);
            std::mem::swap(&mut self.before, &mut changed.names);
            // The programs are the same, and go on telling.
            changed.nodes.clear();
        }
        Ok(true)
    }
}

impl Drop for Listening {
    /// Programs tell nothing to nobody.
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // One that is detached needs not be told.
            let _ = tell_events(&mut node.programs, false);
        }
    }
}

fn tell_events(programs: &mut Programs, trace: bool) -> Result<(), BackendError> {
    let mode = programs.mode();
    programs.set_mode(Mode { trace, ..mode })
}
