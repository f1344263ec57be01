//! Where runs come from, and what gives them names. Owns no kernel: sources are made by the session.

use std::rc::Rc;

use crate::metrics::Measured;
use datapath::decode::Run;
use engine::backend::BackendError;
use engine::explain::Context;
use engine::policy::PolicySet;
use engine::source::SourceMap;
use engine::tables::{Generation, Tables};
use engine::topology::{NodeId, World};

/// What the programs decide by: the world, its policies, what they compile to, and the texts for places.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The world.
    pub world: World,
    /// The policies.
    pub policies: PolicySet,
    /// What they compile to.
    pub tables: Tables,
    /// The texts.
    pub sources: SourceMap,
}

impl Scene {
    /// What explanations are made from.
    pub fn context(&self) -> Context<'_> {
        let Self { world, policies, tables, sources } = self;
        Context { world, policies, tables, sources }
    }

    /// A node's name.
    pub fn node(&self, id: NodeId) -> String {
        self.world.node(id).map_or_else(|| format!("node {}", id.0), |node| node.name.clone())
    }
}

/// What programs said since the last time.
#[derive(Debug, Default)]
pub struct Batch {
    /// Runs, in the order in which they ended.
    pub runs: Vec<(NodeId, Run)>,
    /// Events that did not fit a node's ring buffer.
    pub lost: Vec<(NodeId, u64)>,
}

/// Programs that can be listened to.
pub trait Source {
    /// What it is, for the summary: `lab shop`.
    fn name(&self) -> String;

    /// What programs said since the last time; no more than fits into memory that does not grow.
    ///
    /// # Errors
    /// What the kernel refuses, and events that cannot be read.
    fn poll(&mut self) -> Result<Batch, BackendError>;

    /// Ends it: programs say no more. Gives what they said since the last time, to the last event, which is no more than their buffers hold.
    ///
    /// # Errors
    /// The same.
    fn end(&mut self) -> Result<Batch, BackendError> {
        Ok(Batch::default())
    }

    /// What programs decided by under a generation; `None` where that is not known (any more).
    fn scene(&mut self, generation: Generation) -> Option<Rc<Scene>>;

    /// The scene of this moment.
    fn present(&mut self) -> Rc<Scene>;

    /// The kernel's monotonic clock now, in nanoseconds, as runs have it.
    fn now(&self) -> u64;

    /// What nodes' programs and maps say of themselves, by node.
    ///
    /// # Errors
    /// The kernel's.
    fn measured(&mut self) -> Result<Vec<(NodeId, Measured)>, BackendError> {
        Ok(Vec::new())
    }

    /// Whether programs only observe.
    fn observes(&self) -> bool {
        false
    }
}
