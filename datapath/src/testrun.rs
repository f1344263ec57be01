//! The backend that runs the datapath in the kernel of this host, by `BPF_PROG_TEST_RUN`: maps and programs of
//! its own for each node, made when a packet first comes to the node, a program when one first comes to it. Attaches nothing, touches no device, sends nothing.
//!
//! **Generations.** The kernel's number of a generation is a counter of this backend, one more with every
//! load, so that the slot to fill is always the idle one; callers see their own numbers. A load fills the
//! idle slot of every node, then activates it on all: until then every run sees the old state.
//!
//! **Clock, devices, tunnel keys** are the seam's (`datapath_abi::Input`): nothing of this host's network shows.

mod files;
mod instance;
#[cfg(feature = "measure")]
pub mod measure;
mod pin;
mod privileges;
mod refusal;

use std::collections::BTreeMap;
use std::rc::Rc;

use datapath_abi as abi;
use engine::backend::{Backend, BackendError, Injection, Observation};
use engine::tables::{Generation, Tables};
use engine::topology::NodeId;
use engine::trace::{ConntrackEntry, Counter};

use crate::decode;
use crate::encode::{self, Limits, Slot};
use crate::object::Object;
use instance::{Capacity, Instance};
pub(crate) use privileges::{CAPABILITIES, effective, kernel_version, lacking};
pub(crate) use refusal::listening;

/// Oldest kernel that the programs load on, as (major, minor).
pub const OLDEST_KERNEL: (u32, u32) = (5, 10);
/// Bytes of a frame that a run takes at least: an Ethernet header.
pub const SHORTEST_FRAME: usize = 14;
/// Bytes of a frame that a run takes at most: what fits a page beside the kernel's own bookkeeping.
pub const LONGEST_FRAME: usize = 3500;

/// Rows that a slot may have. The tries take memory by what they hold only; `TARGETS` is made as large as
/// the node needs.
pub(crate) const LIMITS: Limits = Limits { targets: 1 << 17, ipcache: 1 << 19, policy: 1 << 19 };

/// Nodes whose files (some twenty each) fit the limit that processes commonly have.
const FEW_NODES: usize = 32;

/// Opens the backend. Errors name what the host lacks and what to do about it.
pub fn open() -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(TestRun::open(LIMITS)?))
}

/// The backend.
pub(crate) struct TestRun {
    name: String,
    object: Rc<Object>,
    limits: Limits,
    /// Made to prove that this host can; becomes the first node's.
    spare: Option<Instance>,
    instances: BTreeMap<NodeId, Instance>,
    loaded: Option<Loaded>,
    /// The caller's generation of each of the kernel's.
    generations: BTreeMap<u32, Generation>,
}

/// What runs see.
struct Loaded {
    generation: Generation,
    /// The kernel's number of it.
    number: u32,
    nodes: Vec<Rc<Slot>>,
}

impl TestRun {
    pub(crate) fn open(limits: Limits) -> Result<Self, BackendError> {
        let version = privileges::check()?;
        let object = Rc::new(Object::find()?);
        let spare = Instance::open(&object, Capacity::of(0))?;
        Ok(Self {
            name: format!("kernel {}.{}", version.0, version.1),
            object,
            limits,
            spare: Some(spare),
            instances: BTreeMap::new(),
            loaded: None,
            generations: BTreeMap::new(),
        })
    }

    /// Loads every program, which packets otherwise do one by one.
    pub(crate) fn load_programs(&mut self) -> Result<(), BackendError> {
        self.spare.as_mut().map_or(Ok(()), Instance::prepare_all)
    }

    /// The tables of a node and its instance, which is made and filled where it is not yet.
    fn instance(&mut self, node: NodeId) -> Result<(&mut Instance, u32, Generation), BackendError> {
        let Some(loaded) = &self.loaded else {
            return Err(BackendError::BadInjection("no tables are loaded".to_owned()));
        };
        let Some(slot) = loaded.nodes.get(node.index()) else {
            return Err(BackendError::BadInjection(format!("there is no node {}", node.index())));
        };
        let (number, generation) = (loaded.number, loaded.generation);
        if self.instances.len() == FEW_NODES {
            files::allow_many();
        }
        let instance = match self.instances.entry(node) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let needed = Capacity::of(slot.targets.len());
                let mut instance = match self.spare.take().filter(|spare| spare.fits(slot)) {
                    Some(spare) => spare,
                    None => Instance::open(&self.object, needed)?,
                };
                instance.fill(slot)?;
                instance.activate(number)?;
                entry.insert(instance)
            }
        };
        Ok((instance, number, generation))
    }

    /// Makes larger instances of nodes whose tables have outgrown theirs. What they remember moves along.
    fn grow(&mut self, nodes: &[Rc<Slot>]) -> Result<(), BackendError> {
        for (node, old) in &mut self.instances {
            let Some(slot) = nodes.get(node.index()).filter(|slot| !old.fits(slot)) else {
                continue;
            };
            let mut larger = Instance::open(&self.object, Capacity::of(slot.targets.len()))?;
            larger.inherit(old)?;
            if let Some(loaded) = &self.loaded
                && let Some(active) = loaded.nodes.get(node.index())
            {
                larger.fill(active)?;
                larger.activate(loaded.number)?;
            }
            *old = larger;
        }
        Ok(())
    }
}

impl Backend for TestRun {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn load(&mut self, tables: &Tables) -> Result<(), BackendError> {
        if self.loaded.as_ref().is_some_and(|loaded| loaded.generation == tables.generation) {
            return Ok(());
        }
        // The slot of a load that failed is still the idle one.
        let number = self.loaded.as_ref().map_or(1, |loaded| loaded.number.wrapping_add(1));
        if number == 0 {
            let error = "all numbers of generations are used up".to_owned();
            return Err(BackendError::System { call: "loading tables".to_owned(), error });
        }
        let encode = |node| encode::encode(node, number & 1, &self.limits).map(Rc::new);
        let nodes = tables.nodes.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        self.grow(&nodes)?;
        for (node, instance) in &mut self.instances {
            if let Some(slot) = nodes.get(node.index()) {
                instance.fill(slot)?;
            }
        }
        let activated = self.instances.iter_mut().filter(|(node, _)| node.index() < nodes.len());
        for (_, instance) in activated {
            instance.activate(number)?;
        }
        self.generations.insert(number, tables.generation);
        // What a node remembers outlives its absence from the tables, as everything that is remembered does.
        self.loaded = Some(Loaded { generation: tables.generation, number, nodes });
        Ok(())
    }

    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        check(injection)?;
        let (instance, number, generation) = self.instance(injection.node)?;
        let mut run = instance.run(&input_of(injection), &injection.frame)?;
        let mut events = Vec::with_capacity(run.records.len());
        for record in run.records.drain(..) {
            let mut event = decode::event(&record)?;
            if event.generation.0 != number {
                return Err(BackendError::BadEvent(format!(
                    "an event of generation {} where {number} is active",
                    event.generation.0
                )));
            }
            event.generation = generation;
            events.push(event);
        }
        Ok(Observation { code: run.code, events, lost: run.lost, frame: run.frame, mark: run.mark })
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        self.instances.values_mut().try_for_each(Instance::forget)
    }

    fn conntrack(&mut self, node: NodeId, now: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        let mut entries = self.instance(node)?.0.conntrack(now)?;
        for (_, _, generation) in entries.iter_mut().flat_map(|entry| &mut entry.remembered) {
            // A number without a generation would be of another backend's making.
            *generation = self.generations.get(&generation.0).copied().ok_or_else(|| {
                BackendError::BadEvent(format!("generation {} was never loaded", generation.0))
            })?;
        }
        entries.sort_by_key(|entry| entry.flow);
        Ok(entries)
    }

    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError> {
        self.instance(node)?.0.counters()
    }
}

/// Whether the kernel takes the injection.
fn check(injection: &Injection) -> Result<(), BackendError> {
    let length = injection.frame.len();
    if !(SHORTEST_FRAME..=LONGEST_FRAME).contains(&length) {
        return Err(BackendError::BadInjection(format!(
            "the frame has {length} bytes; {SHORTEST_FRAME} to {LONGEST_FRAME} can be run"
        )));
    }
    match injection.tunnel {
        Some(key) if key.vni > 0x00FF_FFFF => {
            Err(BackendError::BadInjection(format!("VNI {} has more than 24 bits", key.vni)))
        }
        _ => Ok(()),
    }
}

fn input_of(injection: &Injection) -> abi::Input {
    let mut input = abi::Input {
        now: injection.now,
        ifindex: injection.ifindex,
        hook: u32::from(decode::hook_number(injection.hook)),
        mark: injection.mark,
        ..abi::Input::default()
    };
    if let Some(key) = injection.tunnel {
        input.flags = abi::input::TUNNELED;
        input.vni = key.vni;
        match key.source {
            std::net::IpAddr::V4(source) => {
                input.outer_family = u32::from(abi::family::V4);
                input.outer_source[..4].copy_from_slice(&source.octets());
            }
            std::net::IpAddr::V6(source) => {
                input.outer_family = u32::from(abi::family::V6);
                input.outer_source = source.octets();
            }
        }
    }
    input
}

#[cfg(test)]
mod tests;
