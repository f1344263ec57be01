//! Listening to programs on real devices.

use std::rc::Rc;

use datapath::live::{self, Conduct, Mode, Programs};
use engine::backend::BackendError;
use engine::tables::Generation;
use engine::topology::NodeId;

use crate::metrics::{Measured, measure};
use crate::monitor::{Batch, Scene, Source};

/// Events of a node that are taken at once, so that what is held does not grow with what is said.
const AT_ONCE: usize = 1 << 15;

/// What programs of some nodes said since the last time, in the order in which runs ended.
pub fn hear<'p>(
    nodes: impl Iterator<Item = (NodeId, &'p mut Programs)>,
) -> Result<Batch, BackendError> {
    let mut batch = Batch::default();
    for (node, programs) in nodes {
        let (runs, lost) = programs.runs_of(AT_ONCE)?;
        batch.runs.extend(runs.into_iter().map(|run| (node, run)));
        batch.lost.push((node, lost));
    }
    batch.runs.sort_by_key(|(_, run)| run.end.map_or(0, |end| end.time));
    Ok(batch)
}

/// Finds the scene of a generation anew, where what is installed was changed.
type Renew = Box<dyn FnMut(Generation) -> Option<Rc<Scene>>>;

/// Programs that are told to say something as long as they are listened to.
pub struct Listener {
    name: String,
    nodes: Vec<(NodeId, Programs)>,
    scene: Rc<Scene>,
    renew: Renew,
    observes: bool,
}

impl Listener {
    /// Begins to listen. `mode` says what programs tell; whether they observe is left to whoever hung them up.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(
        name: String,
        nodes: Vec<(NodeId, Programs)>,
        (scene, renew): (Rc<Scene>, Renew),
        mode: Mode,
    ) -> Result<Self, BackendError> {
        let observes =
            nodes.iter().any(|(_, programs)| programs.mode().conduct == Conduct::Observe);
        let mut listener = Self { name, nodes, scene, renew, observes };
        // Somebody who was killed may have left them talking.
        listener.silence()?;
        for (_, programs) in &mut listener.nodes {
            programs.runs()?;
            drop(programs.cut());
            programs.set_mode(programs.mode().telling(mode))?;
        }
        Ok(listener)
    }

    /// Tells programs to say no more, and waits until none does.
    fn silence(&mut self) -> Result<(), BackendError> {
        for (_, programs) in &mut self.nodes {
            programs.set_mode(programs.mode().telling(Mode::default()))?;
        }
        live::let_runs_end()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        for (_, programs) in &mut self.nodes {
            let conduct = programs.mode();
            // Where it cannot be written any more, nobody is there to listen to.
            let _ = programs.set_mode(conduct.telling(Mode::default()));
        }
    }
}

impl Source for Listener {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn poll(&mut self) -> Result<Batch, BackendError> {
        hear(self.nodes.iter_mut().map(|(node, programs)| (*node, programs)))
    }

    fn end(&mut self) -> Result<Batch, BackendError> {
        self.silence()?;
        let mut batch = Batch::default();
        for (node, programs) in &mut self.nodes {
            let (mut runs, lost) = programs.runs()?;
            runs.extend(programs.cut());
            batch.runs.extend(runs.into_iter().map(|run| (*node, run)));
            batch.lost.push((*node, lost));
        }
        batch.runs.sort_by_key(|(_, run)| run.end.map_or(u64::MAX, |end| end.time));
        Ok(batch)
    }

    fn scene(&mut self, generation: Generation) -> Option<Rc<Scene>> {
        let found = (self.renew)(generation)?;
        self.scene = Rc::clone(&found);
        Some(found)
    }

    fn present(&mut self) -> Rc<Scene> {
        Rc::clone(&self.scene)
    }

    fn now(&self) -> u64 {
        live::nanoseconds()
    }

    fn measured(&mut self) -> Result<Vec<(NodeId, Measured)>, BackendError> {
        let of = |(node, programs): &mut (NodeId, Programs)| Ok((*node, measure(programs)?));
        self.nodes.iter_mut().map(of).collect()
    }

    fn observes(&self) -> bool {
        self.observes
    }
}
