//! Live nodes as a backend: a packet is really sent once, and every later hop is a run that the kernel makes by itself, which is waited
//! for and recognized by its frame. So a journey is followed, explained and compared in the same way as a simulated one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aya::Ebpf;
use datapath_abi as abi;
use engine::backend::{Backend, BackendError, Injection, Live, Observation};
use engine::net::Hook;
use engine::tables::Tables;
use engine::topology::NodeId;
use engine::trace::{Action, ConntrackEntry, Counter, Event, Hit};

use super::clock;
use super::programs::{Mode, Programs};
use crate::decode::{self, Snapshot};
use crate::nodes::{
    self, Capacity, Change, Host, LIMITS, Maps, Node, Nodes, REMEMBERING, Row, Run, Slots,
};
use crate::object::Object;
use crate::rows;
use crate::testrun::kernel_version;

/// Bytes of a node's ring buffer: what programs tell in a second, where that is as much as a monitor promises to read.
const RING: u32 = 1 << 22;
/// Records that a ring buffer has room for at most, each of which has a header of 8 bytes.
const FILLED: usize = RING as usize / 8;
/// Records that are taken at once, so that what is held does not grow with what others send.
const AT_ONCE: usize = 1 << 15;
/// Between two looks at what programs said.
const PAUSE: Duration = Duration::from_micros(100);
/// Bytes of a frame's Ethernet addresses.
const MACS: usize = 12;
/// IANA's number of UDP.
const UDP: u8 = 17;

/// The devices that programs hang on, and the wires between them.
pub trait Wires {
    /// The name of what they are, for answers.
    fn name(&self) -> String;

    /// Whether a node has devices here; programs are loaded for those that do.
    fn has(&self, _node: NodeId) -> bool {
        true
    }

    /// Hangs a node's programs on its devices.
    fn attach(&mut self, node: NodeId, programs: &mut Programs) -> Result<(), BackendError>;

    /// Sends a frame so that a hook of a node is the first to see it.
    fn send(&mut self, node: NodeId, input: &abi::Input, frame: &[u8]) -> Result<(), BackendError>;

    /// Takes the frames that a node sent to the underlay since the last time.
    fn sent(&mut self, node: NodeId) -> Result<Vec<Vec<u8>>, BackendError>;

    /// Takes the frames that the pod behind a device got since the last time.
    fn got(&mut self, node: NodeId, ifindex: u32) -> Result<Vec<Vec<u8>>, BackendError>;

    /// How long a packet may take from one program to the next.
    fn patience(&self) -> Duration;

    /// The directory of a node's pins, where its programs outlive this process.
    fn pins(&self, _node: NodeId) -> Option<PathBuf> {
        None
    }

    /// What programs do and tell that are loaded for them.
    fn mode(&self) -> Mode {
        Mode { trace: true, capture: true, ..Mode::default() }
    }
}

/// What all nodes share.
struct Shared<W> {
    wires: W,
    /// When the last packet was sent; runs before it are of others.
    sent_at: u64,
    /// The simulated clock of the first packet, at which it stays here: the kernel's own goes on.
    started: Option<u64>,
}

/// Programs that the kernel has verified for the nodes of some tables, before there are devices to hang them on.
pub struct Verified {
    object: Rc<Object>,
    ready: BTreeMap<NodeId, (Capacity, Ebpf)>,
}

impl Verified {
    /// Has them verified while something else is done, and gives both results.
    ///
    /// # Errors
    /// What the host lacks, with the remedy.
    pub fn beside<T>(tables: &Tables, work: impl FnOnce() -> T) -> (Result<Self, BackendError>, T) {
        let verify = || {
            let object = Object::find()?;
            let ready = verified(&object, &nodes::adopt::sizes(tables, &LIMITS)?)?;
            Ok((object, ready))
        };
        std::thread::scope(|scope| {
            let verifying = scope.spawn(verify);
            let done = work();
            let verified = verifying.join().map_err(|_| panicked()).and_then(|result| result);
            let verified = verified.map(|(object, ready)| Self { object: Rc::new(object), ready });
            (verified, done)
        })
    }
}

/// Live nodes upon wires, as a backend.
pub struct Backed<W: Wires>(Nodes<OnWires<W>>);

pub(crate) struct OnWires<W> {
    object: Rc<Object>,
    /// Nodes whose programs are there already and were not opened yet.
    waiting: BTreeSet<NodeId>,
    /// Programs that were loaded beforehand for nodes that need maps of that size.
    ready: BTreeMap<NodeId, (Capacity, Ebpf)>,
    shared: Rc<RefCell<Shared<W>>>,
}

/// Where a node's programs come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// They were loaded.
    New,
    /// They were, with the maps of those whose place they take.
    Larger,
    /// They were there.
    Adopted,
}

/// A live node.
pub(crate) struct LiveNode<W> {
    id: NodeId,
    programs: Programs,
    origin: Origin,
    /// Runs that were not asked about yet.
    pending: Vec<decode::Run>,
    /// Events that were lost since the last packet was sent.
    lost: u64,
    shared: Rc<RefCell<Shared<W>>>,
}

impl<W: Wires> Backed<W> {
    /// Takes the wires. Programs are loaded and attached with the first tables.
    ///
    /// # Errors
    /// What the host lacks, with the remedy.
    pub fn new(wires: W) -> Result<Self, BackendError> {
        let object = Rc::new(Object::find()?);
        Ok(Self::with(wires, Verified { object, ready: BTreeMap::new() }))
    }

    /// The same, with programs that are verified already. Others are where tables need them.
    pub fn with(wires: W, programs: Verified) -> Self {
        let shared = Rc::new(RefCell::new(Shared { wires, sent_at: 0, started: None }));
        let Verified { object, ready } = programs;
        let host = OnWires { object, waiting: BTreeSet::new(), ready, shared };
        Self(Nodes::on(host, LIMITS))
    }

    /// Takes wires whose nodes have pinned programs, in which what these tables compile to is active under their generation's number.
    /// Nothing changes by it; other tables may be loaded afterwards.
    ///
    /// # Errors
    /// What the host lacks, with the remedy; pins that are not there.
    pub fn adopt(wires: W, tables: &Tables) -> Result<Self, BackendError> {
        let mut adopted = Self::new(wires)?;
        adopted.0.host.waiting = adopted.here(tables).into_iter().collect();
        adopted.0.adopt(tables)?;
        adopted.here(tables).into_iter().try_for_each(|node| adopted.0.node(node).map(drop))?;
        Ok(adopted)
    }

    /// The nodes that have devices here.
    fn here(&self, tables: &Tables) -> Vec<NodeId> {
        let wires = &self.0.host.shared.borrow().wires;
        tables.nodes.iter().map(|node| node.node).filter(|node| wires.has(*node)).collect()
    }

    /// Lets go of the nodes and gives the wires back: programs that are pinned stay, others go.
    pub fn let_go(self) -> Option<W> {
        let shared = Rc::clone(&self.0.host.shared);
        drop(self);
        Rc::try_unwrap(shared).ok().map(|shared| shared.into_inner().wires)
    }

    /// The wires, to look at or to change between two questions.
    pub fn wires<T>(&mut self, look: impl FnOnce(&mut W) -> T) -> T {
        look(&mut self.0.host.shared.borrow_mut().wires)
    }

    /// A node's programs, once they are loaded.
    pub fn programs(&mut self, node: NodeId) -> Option<&mut Programs> {
        self.0.made_mut(node).map(|node| &mut node.programs)
    }
}

impl<W: Wires> Backend for Backed<W> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn load(&mut self, tables: &Tables) -> Result<(), BackendError> {
        self.0.load(tables)?;
        let here = self.here(tables);
        let mut needed = self.0.needed();
        needed.retain(|(node, _)| here.contains(node));
        self.0.host.prepare(&needed)?;
        here.into_iter().try_for_each(|node| self.0.node(node).map(drop))
    }

    /// What programs told before is taken out of the way first: where there is no room what they tell is lost.
    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        self.0.all_made().try_for_each(LiveNode::drain)?;
        self.0.inject(injection)
    }

    fn carry(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        self.0.carry(injection)
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        self.0.forget()
    }

    /// At this moment of the kernel's clock, whatever that of the session is.
    fn conntrack(&mut self, node: NodeId, _now: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        let rate = clock::ticks_per_second();
        let mut entries = self.0.conntrack(node, clock::ticks())?;
        for entry in &mut entries {
            entry.expires_in /= rate;
        }
        Ok(entries)
    }

    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError> {
        self.0.counters(node)
    }

    fn hits(&mut self, node: NodeId) -> Result<Vec<Hit>, BackendError> {
        self.0.hits(node)
    }
}

impl<W: Wires> Host for OnWires<W> {
    type Node = LiveNode<W>;

    fn name(&self) -> String {
        let (major, minor) = kernel_version().unwrap_or_default();
        format!("{}, kernel {major}.{minor}", self.shared.borrow().wires.name())
    }

    fn open(
        &mut self,
        node: NodeId,
        capacity: Capacity,
        _nodes: usize,
    ) -> Result<LiveNode<W>, BackendError> {
        let pins = self.shared.borrow().wires.pins(node);
        if let Some(pins) = pins.filter(|_| self.waiting.remove(&node)) {
            return Ok(self.node(node, Programs::open(&pins)?, Origin::Adopted));
        }
        let ebpf = match self.ready.remove(&node) {
            Some((size, ebpf)) if size == capacity => ebpf,
            _ => Programs::verified(&self.object, capacity, RING, None)?,
        };
        let mode = self.shared.borrow().wires.mode();
        let programs = Programs::of(ebpf, capacity, Some(mode))?;
        self.pinned(node, programs, Origin::New)
    }

    /// It hangs behind the other one until that one goes. Where it is pinned they have flows, counts and readers in common.
    fn larger(
        &mut self,
        node: NodeId,
        capacity: Capacity,
        nodes: usize,
        old: &LiveNode<W>,
    ) -> Result<LiveNode<W>, BackendError> {
        let Some(before) = old.programs.pins() else { return self.open(node, capacity, nodes) };
        let ebpf = Programs::verified(&self.object, capacity, RING, Some(before))?;
        self.pinned(node, Programs::of(ebpf, capacity, None)?, Origin::Larger)
    }
}

impl<W: Wires> OnWires<W> {
    fn node(&self, id: NodeId, programs: Programs, origin: Origin) -> LiveNode<W> {
        let shared = Rc::clone(&self.shared);
        LiveNode { id, programs, origin, pending: Vec::new(), lost: 0, shared }
    }

    fn pinned(
        &self,
        node: NodeId,
        mut programs: Programs,
        origin: Origin,
    ) -> Result<LiveNode<W>, BackendError> {
        let pins = self.shared.borrow().wires.pins(node);
        pins.map_or(Ok(()), |pins| programs.pin(&pins))?;
        Ok(self.node(node, programs, origin))
    }
}

impl<W> OnWires<W> {
    /// Loads the programs of several nodes that are not loaded yet.
    fn prepare(&mut self, nodes: &[(NodeId, Capacity)]) -> Result<(), BackendError> {
        let is_ready = |node: &NodeId, size: &Capacity| {
            self.ready.get(node).is_some_and(|(known, _)| known == size)
        };
        let missing = nodes
            .iter()
            .filter(|(node, size)| !self.waiting.contains(node) && !is_ready(node, size));
        let missing: Vec<_> = missing.copied().collect();
        self.ready.extend(verified(&self.object, &missing)?);
        Ok(())
    }
}

/// Loads the programs of nodes, of as many at once as there are processors.
fn verified(
    object: &Object,
    nodes: &[(NodeId, Capacity)],
) -> Result<BTreeMap<NodeId, (Capacity, Ebpf)>, BackendError> {
    let at_once = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut ready = BTreeMap::new();
    for some in nodes.chunks(at_once) {
        let loaded: Vec<_> = std::thread::scope(|scope| {
            let load = |size| scope.spawn(move || Programs::verified(object, size, RING, None));
            let threads: Vec<_> = some.iter().map(|(_, size)| load(*size)).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        for ((node, size), ebpf) in some.iter().zip(loaded) {
            ready.insert(*node, (*size, ebpf.map_err(|_| panicked())??));
        }
    }
    Ok(ready)
}

fn panicked() -> BackendError {
    BackendError::System {
        call: "loading programs".to_owned(),
        error: "the thread that did has panicked".to_owned(),
    }
}

impl<W: Wires> Maps for LiveNode<W> {
    fn change(&mut self, map: &str, changes: &[Change<'_>]) -> Result<(), BackendError> {
        self.programs.change(map, changes)
    }

    fn rows(&self, map: &str) -> Result<Vec<Row>, BackendError> {
        self.programs.rows(map)
    }

    fn clear(&mut self, map: &str, indices: std::ops::Range<u32>) -> Result<(), BackendError> {
        self.programs.clear(map, indices)
    }
}

impl<W: Wires> Node for LiveNode<W> {
    fn capacity(&self) -> Capacity {
        self.programs.capacity
    }

    /// Conntrack is many times larger than what questions leave.
    fn unused(&self) -> Result<usize, BackendError> {
        Ok(0)
    }

    fn slots(&mut self) -> &mut Slots {
        &mut self.programs.slots
    }

    fn run(
        &mut self,
        input: &abi::Input,
        frame: &[u8],
        _record: &mut dyn FnMut(&[u8]),
    ) -> Result<Run, BackendError> {
        self.refuse_what_is_simulated(input)?;
        {
            let shared = &mut *self.shared.borrow_mut();
            // What came before is of other packets.
            shared.wires.sent(self.id)?;
            shared.sent_at = clock::nanoseconds();
            shared.wires.send(self.id, input, frame)?;
        }
        self.await_run(input, frame)
    }

    fn carry(
        &mut self,
        input: &abi::Input,
        frame: &[u8],
        _record: &mut dyn FnMut(&[u8]),
    ) -> Result<Run, BackendError> {
        self.await_run(input, frame)
    }

    fn settle(&mut self) -> Result<(), BackendError> {
        clock::let_runs_end()
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        REMEMBERING.iter().try_for_each(|name| rows::remove_all(self.programs.map(name)?))
    }

    fn per_cpu(&self, map: &str, index: u32) -> Result<Vec<Vec<u8>>, BackendError> {
        rows::per_cpu(self.programs.map(map)?, index)
    }

    fn inherit(&mut self, old: &Self) -> Result<(), BackendError> {
        if self.origin == Origin::Larger { Ok(()) } else { nodes::inherit_flows(self, old) }
    }

    fn is_adopted(&self) -> bool {
        self.origin == Origin::Adopted
    }

    fn hang(&mut self) -> Result<(), BackendError> {
        let hung = self.shared.borrow_mut().wires.attach(self.id, &mut self.programs);
        hung.inspect_err(|_| {
            // The first error is the one to tell.
            let _ = self.programs.go();
        })
    }

    fn active(&self) -> Result<Option<u32>, BackendError> {
        if self.is_adopted() { self.programs.active().map(Some) } else { Ok(None) }
    }

    fn replace(&mut self, old: &mut Self) -> Result<(), BackendError> {
        self.programs.replace(&mut old.programs)
    }
}

impl<W: Wires> LiveNode<W> {
    /// Refuses what cannot be asked of real devices, rather than ignore it.
    fn refuse_what_is_simulated(&self, input: &abi::Input) -> Result<(), BackendError> {
        let what = if input.flags & abi::input::CHOOSE != 0 {
            ("a backend cannot be forced", "choose backend")
        } else if *self.shared.borrow_mut().started.get_or_insert(input.now) != input.now {
            ("the clock cannot be moved", "wait")
        } else {
            return Ok(());
        };
        let (what, word) = what;
        Err(BackendError::BadInjection(format!(
            "on real devices {what}; leave out `{word}`, or ask in simulation"
        )))
    }

    /// The run of a hook on a frame.
    fn await_run(&mut self, input: &abi::Input, frame: &[u8]) -> Result<Run, BackendError> {
        let (since, patience) = {
            let shared = self.shared.borrow();
            (shared.sent_at, shared.wires.patience())
        };
        let begun = Instant::now();
        loop {
            let (runs, lost) = self.programs.runs_of(AT_ONCE)?;
            self.lost += lost;
            self.pending.extend(runs);
            self.pending.retain(|run| run.end.is_some_and(|end| end.time >= since));
            if let Some(at) = self.pending.iter().position(|run| is_it(run, input, frame)) {
                let run = self.pending.remove(at);
                return self.told(run, frame);
            }
            if begun.elapsed() > patience {
                let (hook, device) = (decode::hook_of(input.hook)?, input.ifindex.to_string());
                return Err(BackendError::Unseen { hook, device, lost: self.lost });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Takes what was told before out of the ring buffer, whosoever it is of.
    fn drain(&mut self) -> Result<(), BackendError> {
        self.programs.runs_of(FILLED)?;
        drop(self.programs.cut());
        self.pending.clear();
        self.lost = 0;
        Ok(())
    }

    /// A run that has its end has lost nothing of its own.
    fn told(&self, run: decode::Run, frame: &[u8]) -> Result<Run, BackendError> {
        let action = run.events.iter().rev().find_map(|said| match said.event {
            Event::Outcome(action) => Some(action),
            _ => None,
        });
        let frame_in = whole(run.came.as_ref(), frame);
        let left =
            run.left.as_ref().map_or_else(|| frame_in.clone(), |left| whole(Some(left), frame));
        let (mut outer, mut arrived) = (None, None);
        match action {
            Some(Action::Tunnel { .. }) => outer = self.encapsulated(&left)?,
            Some(Action::Deliver { ifindex, .. }) => arrived = Some(self.arrives(ifindex, &left)?),
            _ => {}
        }
        let time = run.end.map_or(0, |end| end.time);
        Ok(Run {
            code: code(action),
            frame: left,
            mark: run.end.map_or(0, |end| end.mark),
            lost: 0,
            live: Some((run.events, Live { time, frame_in, outer, arrived })),
        })
    }

    /// The frame that carries another one over the underlay, once it is there.
    fn encapsulated(&self, inner: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        self.awaited(|wires| {
            let sent = wires.sent(self.id)?;
            Ok(sent.into_iter().find(|outer| outer.ends_with(inner)))
        })
    }

    /// Whether the pod behind a device gets a frame.
    fn arrives(&self, ifindex: u32, frame: &[u8]) -> Result<bool, BackendError> {
        let come = self.awaited(|wires| {
            let got = wires.got(self.id, ifindex)?;
            Ok(got.iter().any(|got| got == frame).then_some(()))
        })?;
        Ok(come.is_some())
    }

    /// What is looked for on the wires, if it comes while there is patience.
    fn awaited<T>(
        &self,
        look: impl Fn(&mut W) -> Result<Option<T>, BackendError>,
    ) -> Result<Option<T>, BackendError> {
        let shared = &mut *self.shared.borrow_mut();
        let begun = Instant::now();
        while begun.elapsed() < shared.wires.patience() {
            if let Some(found) = look(&mut shared.wires)? {
                return Ok(Some(found));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(None)
    }
}

/// Whether a run is that of a hook's device on a frame. XDP keeps no frames, so there that it was since the packet was sent is
/// all that tells.
fn is_it(run: &decode::Run, input: &abi::Input, frame: &[u8]) -> bool {
    let Some(end) = run.end else { return false };
    let is_here = u32::from(decode::hook_number(run.hook)) == input.hook;
    if !is_here || run.hook == Hook::Prefilter {
        return is_here;
    }
    let Some(came) = &run.came else { return false };
    end.ifindex == input.ifindex
        && came.length as usize == frame.len()
        && is_same_packet(&came.bytes, frame)
}

/// Whether the beginning of a frame is that of another one, but for the Ethernet addresses, which devices write, and for what
/// the kernel chooses of a tunnel's outer headers: IP id, UDP source port, and the checksums that go with them.
fn is_same_packet(beginning: &[u8], frame: &[u8]) -> bool {
    let Some(frame) = frame.get(..beginning.len()) else { return false };
    let open: &[std::ops::Range<usize>] = match (frame.get(12..14), frame.get(23), frame.get(20)) {
        (Some([0x08, 0x00]), Some(&UDP), _) if frame.get(14) == Some(&0x45) => {
            &[18..20, 24..26, 34..36, 40..42]
        }
        (Some([0x86, 0xDD]), _, Some(&UDP)) => &[54..56, 60..62],
        _ => &[],
    };
    let is_open = |at: usize| at < MACS || open.iter().any(|range| range.contains(&at));
    beginning.iter().zip(frame).enumerate().all(|(at, (one, other))| one == other || is_open(at))
}

/// A frame whose beginning was captured; programs change nothing behind that.
fn whole(beginning: Option<&Snapshot>, frame: &[u8]) -> Vec<u8> {
    let mut whole = beginning.map(|beginning| beginning.bytes.clone()).unwrap_or_default();
    whole.extend(frame.get(whole.len()..).unwrap_or_default());
    whole
}

/// What a program returns that did so.
fn code(action: Option<Action>) -> i32 {
    match action {
        Some(Action::Drop(_)) => 2,
        Some(Action::Deliver { .. } | Action::Tunnel { .. } | Action::Network { .. }) => 7,
        Some(Action::Stack { .. } | Action::Pass) | None => 0,
    }
}
