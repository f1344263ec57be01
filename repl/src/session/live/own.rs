//! The lab that a session holds, listened to. What its programs told before, they tell again afterwards.

use std::rc::Rc;

use datapath::live::{self, Mode};
use engine::backend::BackendError;
use engine::tables::Generation;
use engine::topology::NodeId;

use super::super::lab::Own;
use crate::live::hear;
use crate::metrics::{Measured, measure};
use crate::monitor::{Batch, Scene, Source};

/// See the module.
pub(super) struct Listened<'l> {
    own: &'l mut Own,
    scene: Rc<Scene>,
    before: Vec<(NodeId, Mode)>,
}

impl<'l> Listened<'l> {
    /// Begins to listen. `mode` says what programs tell.
    pub(super) fn to(own: &'l mut Own, mode: Mode) -> Result<Self, BackendError> {
        let scene = Rc::new(own.meant.scene_of_all());
        let nodes = scene.tables.nodes.iter().map(|node| node.node);
        let lab = own.running.live();
        let conduct = |node| Some((node, lab.programs(node)?.mode()));
        let before: Vec<_> = nodes.filter_map(conduct).collect();
        let listened = Self { own, scene, before };
        for (node, conduct) in listened.before.clone() {
            if let Some(programs) = listened.own.running.live().programs(node) {
                programs.set_mode(conduct.telling(Mode::default()))?;
                programs.runs()?;
                programs.set_mode(conduct.telling(mode))?;
            }
        }
        Ok(listened)
    }
}

impl Drop for Listened<'_> {
    fn drop(&mut self) {
        for (node, conduct) in std::mem::take(&mut self.before) {
            if let Some(programs) = self.own.running.live().programs(node) {
                // Where it cannot be written any more, nobody is there to listen to.
                let _ = programs.set_mode(conduct);
            }
        }
    }
}

impl Source for Listened<'_> {
    fn name(&self) -> String {
        super::elsewhere::OWN.to_owned()
    }

    fn poll(&mut self) -> Result<Batch, BackendError> {
        let mut all = Batch::default();
        for (node, _) in &self.before {
            let programs = self.own.running.live().programs(*node);
            let batch = hear(programs.into_iter().map(|programs| (*node, programs)))?;
            all.runs.extend(batch.runs);
            all.lost.extend(batch.lost);
        }
        all.runs.sort_by_key(|(_, run)| run.end.map_or(0, |end| end.time));
        Ok(all)
    }

    fn scene(&mut self, generation: Generation) -> Option<Rc<Scene>> {
        let is_it = self.scene.tables.generation == generation;
        is_it.then(|| Rc::clone(&self.scene))
    }

    fn present(&mut self) -> Rc<Scene> {
        Rc::clone(&self.scene)
    }

    fn now(&self) -> u64 {
        live::nanoseconds()
    }

    fn measured(&mut self) -> Result<Vec<(NodeId, Measured)>, BackendError> {
        let mut all = Vec::new();
        for (node, _) in &self.before {
            if let Some(programs) = self.own.running.live().programs(*node) {
                all.push((*node, measure(programs)?));
            }
        }
        Ok(all)
    }
}
