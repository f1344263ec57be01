//! What backends that simulate have in common: nodes that are made when a packet first comes to them, two slots of
//! tables in each, generations by number, and injections turned into what the driver program reads. What runs a
//! packet is a [`Host`]'s.
//!
//! **Generations.** A program's number of a generation is a counter of the backend, one more with every
//! load, so that the slot to fill is always the idle one; callers see their own numbers. A load fills the
//! idle slot of every node, then activates it on all: until then every run sees the old state.

pub(crate) mod adopt;
mod counts;
mod flows;
mod slots;

use std::collections::BTreeMap;
use std::rc::Rc;

use datapath_abi as abi;
use engine::backend::{Backend, BackendError, Beside, Injection, Live, Observation, Remembered};
use engine::tables::{Generation, Tables};
use engine::topology::NodeId;
use engine::trace::{ConntrackEntry, Counter, Hit, Stamped};
use zerocopy::IntoBytes;

use crate::decode;
use crate::encode::{self, Limits, Slot};
pub(crate) use counts::counters;
use counts::hits;
pub(crate) use flows::inherit_flows;
pub(crate) use slots::{Change, Maps, Slots};

/// Bytes of a frame that a run takes at least: an Ethernet header.
pub(crate) const SHORTEST_FRAME: usize = 14;
/// Bytes of a frame that a run takes at most: what fits a page beside the kernel's own bookkeeping.
pub(crate) const LONGEST_FRAME: usize = 3500;

/// Rows that a slot may have. The tries take memory by what they hold only; the other maps are made as large as
/// the node needs.
pub(crate) const LIMITS: Limits = Limits {
    targets: 1 << 17,
    ipcache: 1 << 19,
    policy: 1 << 19,
    services: 1 << 16,
    backends: 1 << 18,
    maglev: 1 << 10,
    prefixes: PREFIXES as usize,
    hits: 1 << 18,
};

/// Rows of the tries that hold prefixes only, in one slot.
const PREFIXES: u32 = 1 << 16;
/// Flows that a node remembers of each family; the one not used for longest goes first.
pub(crate) const FLOWS: u32 = 8192;
/// Bytes of the ring buffer: many times what one run writes, and a multiple of any page size.
const RING: u32 = 1 << 16;
/// Clients of services and datagrams in pieces that a node remembers at most.
const BRIEF: u32 = 4096;

/// Maps that hold what packets left behind.
pub(crate) const REMEMBERING: [&str; 4] =
    [abi::maps::CT4, abi::maps::CT6, abi::maps::AFFINITY, abi::maps::FRAGMENTS];

/// Programs by their hooks' numbers; the first [`abi::hook::COUNT`] are the driver's to call.
pub(crate) const HOOKS: [&str; abi::hook::ALL as usize] = {
    let mut names = [""; abi::hook::ALL as usize];
    names[abi::hook::FROM_CONTAINER as usize] = abi::programs::FROM_CONTAINER;
    names[abi::hook::TO_CONTAINER as usize] = abi::programs::TO_CONTAINER;
    names[abi::hook::FROM_OVERLAY as usize] = abi::programs::FROM_OVERLAY;
    names[abi::hook::FROM_NETDEV as usize] = abi::programs::FROM_NETDEV;
    names[abi::hook::TO_OVERLAY as usize] = abi::programs::TO_OVERLAY;
    names[abi::hook::TO_NETDEV as usize] = abi::programs::TO_NETDEV;
    names[abi::hook::FROM_HOST as usize] = abi::programs::FROM_HOST;
    names[abi::hook::TO_HOST as usize] = abi::programs::TO_HOST;
    names[abi::hook::PREFILTER as usize] = abi::programs::PREFILTER;
    names
};

/// How large a node's maps are where that takes memory: entries of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Of `TARGETS` and `ATTACHMENTS`.
    pub(crate) targets: u32,
    /// Of `SERVICES`.
    pub(crate) services: u32,
    /// Of `BACKENDS` and `MEMBERS`.
    pub(crate) backends: u32,
    /// Of `MAGLEV`.
    pub(crate) maglev: u32,
    /// Of `HITS`.
    pub(crate) hits: u32,
}

/// Where the slot's part of a map begins that is a half as large as the map.
pub(crate) fn base(slot: u32, half: u32) -> u32 {
    (slot & 1) * half
}

impl Capacity {
    /// What a node has room for at least.
    pub(crate) const LEAST: Self =
        Self { targets: 512, services: 128, backends: 512, maglev: 1, hits: 512 };

    /// What a slot needs.
    fn exactly(slot: &Slot) -> Self {
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX >> 3);
        let hits = slot.hits.last().map_or(1, |last| last.first.saturating_add(last.count));
        Self {
            targets: number(slot.targets.len()),
            services: number(slot.services.len()),
            backends: number(slot.backends.len()),
            maglev: number(slot.maglev.len()),
            hits,
        }
    }

    /// Of each the larger one.
    fn max(self, other: Self) -> Self {
        Self {
            targets: self.targets.max(other.targets),
            services: self.services.max(other.services),
            backends: self.backends.max(other.backends),
            maglev: self.maglev.max(other.maglev),
            hits: self.hits.max(other.hits),
        }
    }

    /// Room for a slot, and for as much again before it must be made anew.
    pub(crate) fn of(slot: &Slot) -> Self {
        let twice = |needed: u32| needed.saturating_mul(2).checked_next_power_of_two();
        let twice = |needed| if needed == 0 { 0 } else { twice(needed).unwrap_or(u32::MAX >> 1) };
        let needed = Self::exactly(slot);
        let roomy = Self {
            targets: twice(needed.targets),
            services: twice(needed.services),
            backends: twice(needed.backends),
            maglev: twice(needed.maglev),
            hits: twice(needed.hits),
        };
        roomy.max(Self::LEAST)
    }

    /// Whether a slot has room.
    pub(crate) fn fits(self, slot: &Slot) -> bool {
        self.max(Self::exactly(slot)) == self
    }

    /// Entries of a map, where they are not what the object says.
    pub(crate) fn entries(self, map: &str) -> Option<u32> {
        Some(match map {
            abi::maps::TARGETS | abi::maps::ATTACHMENTS => self.targets * 2,
            abi::maps::SERVICES => self.services * 2,
            abi::maps::BACKENDS | abi::maps::MEMBERS => self.backends * 2,
            abi::maps::MAGLEV => self.maglev * 2,
            abi::maps::HITS => self.hits * 2,
            abi::maps::SOURCE_RANGES | abi::maps::UNMASQUERADED | abi::maps::PREFILTERED => {
                PREFIXES * 2
            }
            abi::maps::CT4 | abi::maps::CT6 => FLOWS,
            abi::maps::AFFINITY | abi::maps::FRAGMENTS => BRIEF,
            abi::maps::EVENTS => RING,
            _ => return None,
        })
    }
}

/// How the programs behave that simulate: they are told so, trace, and deliver straight into pods.
pub(crate) fn config() -> abi::Config {
    abi::Config {
        abi: abi::ABI_VERSION,
        flags: abi::config::SIMULATED | abi::config::TRACE | abi::config::DELIVER_BY_PEER,
        ticks_per_second: 1,
        reserved: 0,
        until: 0,
        settled: 0,
    }
}

/// What a run came to, beside its records.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) frame: Vec<u8>,
    pub(crate) mark: u32,
    pub(crate) lost: u64,
    /// Where the packet is real: what it said, read already, and what else is seen of it.
    pub(crate) live: Option<(Vec<Stamped>, Live)>,
}

/// The return code of a classifier that does what an XDP program's code says.
pub(crate) fn code_of_xdp(code: i32) -> i32 {
    /// `XDP_PASS`
    const PASS: i32 = 2;
    /// `TC_ACT_OK` and `TC_ACT_SHOT`
    const OK: i32 = 0;
    const SHOT: i32 = 2;
    if code == PASS { OK } else { SHOT }
}

/// A row of a map as bytes: key and value.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// One node's programs and maps.
pub(crate) trait Node: Maps {
    /// How large its maps are.
    fn capacity(&self) -> Capacity;

    /// Entries that a map which forgets may have free at most while it does.
    fn unused(&self) -> Result<usize, BackendError>;

    /// What is known to be in its slots.
    fn slots(&mut self) -> &mut Slots;

    /// Runs one frame through one hook and gives out each record, in order.
    fn run(
        &mut self,
        input: &abi::Input,
        frame: &[u8],
        record: &mut dyn FnMut(&[u8]),
    ) -> Result<Run, BackendError>;

    /// The same of a packet that comes by itself where packets are real.
    fn carry(
        &mut self,
        input: &abi::Input,
        frame: &[u8],
        record: &mut dyn FnMut(&[u8]),
    ) -> Result<Run, BackendError> {
        self.run(input, frame, record)
    }

    /// Returns when no run sees what was active before.
    fn settle(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Empties [`REMEMBERING`].
    fn forget(&mut self) -> Result<(), BackendError>;

    /// The value of every CPU at an index of a per-CPU array.
    fn per_cpu(&self, map: &str, index: u32) -> Result<Vec<Vec<u8>>, BackendError>;

    /// Takes over counters and conntrack of the node that this one replaces.
    fn inherit(&mut self, old: &Self) -> Result<(), BackendError>;

    /// Whether it was there already, with active tables in it.
    fn is_adopted(&self) -> bool {
        false
    }

    /// The number that is active in a node that was there already.
    fn active(&self) -> Result<Option<u32>, BackendError> {
        Ok(None)
    }

    /// Lets packets come to it, once its tables are there.
    fn hang(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Takes the place of another node, which goes.
    fn replace(&mut self, _old: &mut Self) -> Result<(), BackendError> {
        Ok(())
    }
}

/// What makes nodes.
pub(crate) trait Host {
    /// A node of it.
    type Node: Node;

    /// Its name as answers print it.
    fn name(&self) -> String;

    /// Makes the maps and programs of one more node, of which there are some already, or of one that needs larger maps.
    fn open(
        &mut self,
        node: NodeId,
        capacity: Capacity,
        nodes: usize,
    ) -> Result<Self::Node, BackendError>;

    /// Makes one with larger maps that is to take the place of another one.
    fn larger(
        &mut self,
        node: NodeId,
        capacity: Capacity,
        nodes: usize,
        _old: &Self::Node,
    ) -> Result<Self::Node, BackendError> {
        self.open(node, capacity, nodes)
    }
}

/// The backend on a host.
pub(crate) struct Nodes<H: Host> {
    pub(crate) host: H,
    limits: Limits,
    made: BTreeMap<NodeId, H::Node>,
    loaded: Option<Loaded>,
    /// The caller's generation of each of the programs'.
    generations: BTreeMap<u32, Generation>,
    /// Up to this one they are of whoever had the nodes before, under the same numbers.
    adopted: u32,
}

impl<H: Host<Node: Clone> + Clone> Clone for Nodes<H> {
    fn clone(&self) -> Self {
        Self {
            host: self.host.clone(),
            limits: self.limits,
            made: self.made.clone(),
            loaded: self.loaded.clone(),
            generations: self.generations.clone(),
            adopted: self.adopted,
        }
    }
}

/// What runs see.
#[derive(Clone)]
struct Loaded {
    generation: Generation,
    /// The programs' number of it.
    number: u32,
    nodes: Vec<Rc<Slot>>,
}

/// Writes a slot, which must not be the active one.
pub(crate) fn fill<N: Node>(node: &mut N, slot: &Rc<Slot>) -> Result<(), BackendError> {
    let capacity = node.capacity();
    let mut slots = std::mem::take(node.slots());
    let result = slots.fill(slot, capacity, node);
    *node.slots() = slots;
    result
}

/// Makes every run from now on see the slot of a generation, by its number.
pub(crate) fn activate(node: &mut impl Node, number: u32) -> Result<(), BackendError> {
    node.put(abi::maps::ACTIVE, &0_u32, &number)?;
    node.settle()
}

impl<H: Host> Nodes<H> {
    pub(crate) fn on(host: H, limits: Limits) -> Self {
        Self {
            host,
            limits,
            made: BTreeMap::new(),
            loaded: None,
            generations: BTreeMap::new(),
            adopted: 0,
        }
    }

    /// The node, if it was made.
    pub(crate) fn made(&self, node: NodeId) -> Option<&H::Node> {
        self.made.get(&node)
    }

    /// The same, to change.
    #[cfg(feature = "live")]
    pub(crate) fn made_mut(&mut self, node: NodeId) -> Option<&mut H::Node> {
        self.made.get_mut(&node)
    }

    /// All that were made, to change.
    #[cfg(feature = "live")]
    pub(crate) fn all_made(&mut self) -> impl Iterator<Item = &mut H::Node> {
        self.made.values_mut()
    }

    /// The node as it is run, which is made and filled where it is not yet.
    pub(crate) fn node(
        &mut self,
        node: NodeId,
    ) -> Result<(&mut H::Node, u32, Generation), BackendError> {
        let Some(loaded) = &self.loaded else {
            return Err(BackendError::BadInjection("no tables are loaded".to_owned()));
        };
        let Some(slot) = loaded.nodes.get(node.index()) else {
            return Err(BackendError::BadInjection(format!("there is no node {}", node.index())));
        };
        let (number, generation) = (loaded.number, loaded.generation);
        let count = self.made.len();
        let made = match self.made.entry(node) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let made = self.host.open(node, Capacity::of(slot), count)?;
                entry.insert(adopt::settled(made, slot, number)?)
            }
        };
        made.slots().asked(number);
        Ok((made, number, generation))
    }

    /// What a run of a node says: its records read, with the caller's generation.
    pub(crate) fn observe(
        &mut self,
        node: NodeId,
        run: impl FnOnce(&mut H::Node, &mut dyn FnMut(&[u8])) -> Result<Run, BackendError>,
    ) -> Result<Observation, BackendError> {
        let (node, number, generation) = self.node(node)?;
        let mut events = Vec::with_capacity(abi::MAX_EVENTS);
        let mut failed = None;
        let mut read = |record: &[u8]| match decode::event(record) {
            Ok(event) => events.push(event),
            Err(error) => failed = Some(error),
        };
        let run = run(node, &mut read)?;
        if let Some(error) = failed {
            return Err(error);
        }
        let live = run.live.map(|(said, live)| {
            events.extend(said);
            live
        });
        for event in &mut events {
            if event.generation.0 != number {
                return Err(BackendError::BadEvent(format!(
                    "an event of generation {} where {number} is active",
                    event.generation.0
                )));
            }
            event.generation = generation;
        }
        Ok(Observation {
            code: run.code,
            events,
            lost: run.lost,
            frame: run.frame,
            mark: run.mark,
            live,
        })
    }
}

impl<H: Host> Backend for Nodes<H> {
    fn name(&self) -> String {
        self.host.name()
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
        let ends = encode::tunnel_addresses(tables);
        let encode = |node| encode::encode(node, &ends, number & 1, &self.limits).map(Rc::new);
        let nodes = tables.nodes.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        self.grow(&nodes)?;
        for (id, node) in &mut self.made {
            if let Some(slot) = nodes.get(id.index()) {
                adopt::filled(node, slot, number)?;
            }
        }
        let activated = self.made.iter_mut().filter(|(id, _)| id.index() < nodes.len());
        for (_, node) in activated {
            activate(node, number)?;
        }
        self.generations.insert(number, tables.generation);
        // What a node remembers outlives its absence from the tables, as everything that is remembered does.
        self.loaded = Some(Loaded { generation: tables.generation, number, nodes });
        Ok(())
    }

    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        check(injection)?;
        let input = input_of(injection);
        self.observe(injection.node, |node, record| node.run(&input, &injection.frame, record))
    }

    fn carry(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        check(injection)?;
        let input = input_of(injection);
        self.observe(injection.node, |node, record| node.carry(&input, &injection.frame, record))
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        self.made.values_mut().try_for_each(Node::forget)
    }

    fn conntrack(&mut self, node: NodeId, now: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        let node = self.node(node)?.0;
        let mut entries = Vec::new();
        for name in [abi::maps::CT4, abi::maps::CT6] {
            let read = if name == abi::maps::CT4 { decode::conntrack4 } else { decode::conntrack6 };
            let rows = node.rows(name)?.into_iter().filter(|(key, _)| decode::is_flow(key));
            for (key, value) in rows {
                entries.push(read(&key, &value, now)?);
            }
        }
        for (_, _, generation) in entries.iter_mut().flat_map(|entry| &mut entry.remembered) {
            // A number without a generation would be of another backend's making.
            *generation = self.known(generation.0).ok_or_else(|| {
                BackendError::BadEvent(format!("generation {} was never loaded", generation.0))
            })?;
        }
        Ok(decode::conntrack(entries))
    }

    fn is_full(&mut self, node: NodeId, is_v6: bool) -> Result<bool, BackendError> {
        let map = if is_v6 { abi::maps::CT6 } else { abi::maps::CT4 };
        let node = self.node(node)?.0;
        let unused = node.unused()?;
        Ok(node.rows(map)?.len() + unused >= FLOWS as usize)
    }

    fn beside(&mut self, node: NodeId) -> Result<Option<Beside>, BackendError> {
        flows::beside(self.node(node)?.0).map(Some)
    }

    fn remembered(&mut self, node: NodeId) -> Result<Vec<Remembered>, BackendError> {
        let generations = self.generations.clone();
        flows::read(self.node(node)?.0, |number| generations.get(&number).copied())
    }

    fn remember(&mut self, node: NodeId, known: &[Remembered]) -> Result<(), BackendError> {
        let generations = self.generations.clone();
        let number = |wanted: Generation| {
            generations.iter().find(|(_, known)| **known == wanted).map(|(number, _)| *number)
        };
        flows::write(self.node(node)?.0, known, number)
    }

    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError> {
        counters(self.node(node)?.0)
    }

    fn hits(&mut self, node: NodeId) -> Result<Vec<Hit>, BackendError> {
        self.node(node)?;
        match self.loaded.as_ref().and_then(|loaded| loaded.nodes.get(node.index())) {
            Some(slot) => hits(self.made.get(&node), slot),
            None => Ok(Vec::new()),
        }
    }
}

/// Whether a run takes the injection.
pub(crate) fn check(injection: &Injection) -> Result<(), BackendError> {
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

/// The error of a frame whose ethertype promises a network header that is not there.
pub(crate) fn without_network_header() -> BackendError {
    BackendError::BadInjection(
        "this kernel runs no frame that is too short for the network header of its ethertype"
            .to_owned(),
    )
}

/// What the driver program reads.
pub(crate) fn input_of(injection: &Injection) -> abi::Input {
    let mut input = abi::Input {
        now: injection.now,
        ifindex: injection.ifindex,
        hook: u32::from(decode::hook_number(injection.hook)),
        mark: injection.mark,
        ..abi::Input::default()
    };
    if let Some(place) = injection.choose {
        input.flags |= abi::input::CHOOSE;
        input.choose = abi::Backend {
            address: encode::address_bytes(place.address),
            port: place.port.to_be_bytes(),
            reserved: [0; 6],
        };
    }
    if let Some(key) = injection.tunnel {
        input.flags |= abi::input::TUNNELED;
        input.vni = key.vni;
        input.outer_family = u32::from(encode::family(key.source));
        input.outer_source = encode::address_bytes(key.source);
    }
    input
}

/// Bytes of an index as maps take it.
pub(crate) fn index_key(index: &u32) -> &[u8] {
    index.as_bytes()
}

#[cfg(test)]
mod tests;
