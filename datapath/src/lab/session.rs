//! A lab as the backend of a session: made when a world is first asked about, made anew where its nodes or pods change, and
//! told of new tables where they stay.

use engine::backend::{Backend, BackendError, Injection, Observation};
use engine::tables::Tables;
use engine::topology::{NodeId, World};
use engine::trace::{ConntrackEntry, Counter, Hit};

use super::wires::{self, LabWires};
use super::{LabError, Options, Plan};
use crate::live::Backed;
use crate::testrun::kernel_version;

/// No kernel answers what questions send.
const MUTE: Options = Options { mute: true };

/// See the module.
#[derive(Default)]
pub struct Session {
    made: Option<(Plan, Backed<LabWires>)>,
}

fn unsupported(error: &LabError) -> BackendError {
    match error {
        LabError::Datapath(error) => error.clone(),
        LabError::Plan(error) => {
            BackendError::Unhostable { what: error.to_string(), remedy: error.remedy() }
        }
        error => BackendError::Unsupported {
            what: format!("a lab of this world ({error})"),
            remedy: error.remedy(),
        },
    }
}

impl Session {
    fn made(&mut self) -> Result<&mut Backed<LabWires>, BackendError> {
        let made = self.made.as_mut().map(|(_, made)| made);
        made.ok_or_else(|| BackendError::BadInjection("no world is loaded".to_owned()))
    }
}

impl Backend for Session {
    fn name(&self) -> String {
        let (major, minor) = kernel_version().unwrap_or_default();
        format!("lab, kernel {major}.{minor}")
    }

    fn load(&mut self, tables: &Tables) -> Result<(), BackendError> {
        self.made()?.load(tables)
    }

    fn load_world(&mut self, world: &World, tables: &Tables) -> Result<(), BackendError> {
        let plan = Plan::of(world, tables, MUTE);
        let plan = plan.map_err(|error| unsupported(&error.into()))?;
        if let Some((known, made)) = &mut self.made
            && *known == plan
        {
            return made.load(tables);
        }
        // The old one goes first: nothing of it is needed, and its devices are memory.
        self.made = None;
        let made = wires::open(world, tables, MUTE).map_err(|error| unsupported(&error))?;
        self.made = Some((plan, made));
        Ok(())
    }

    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        self.made()?.inject(injection)
    }

    fn carry(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        self.made()?.carry(injection)
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        self.made.as_mut().map_or(Ok(()), |(_, made)| made.forget())
    }

    fn conntrack(&mut self, node: NodeId, now: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        self.made()?.conntrack(node, now)
    }

    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError> {
        self.made()?.counters(node)
    }

    fn hits(&mut self, node: NodeId) -> Result<Vec<Hit>, BackendError> {
        self.made()?.hits(node)
    }
}
