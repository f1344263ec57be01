//! One node in the kernel: the object loaded once, with maps of its own; filling them, running a packet,
//! reading what it left.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

use datapath_abi as abi;
use engine::backend::BackendError;
use libbpf_rs::{
    ErrorKind, Map, MapCore, MapFlags, MapType, Object as Loaded, ObjectBuilder, OpenObject,
    ProgramInput, ProgramMut, RingBuffer, RingBufferBuilder,
};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::pin::{self, Pinned};
use super::refusal::{listening, of_call, of_loading};
use crate::decode;
use crate::nodes::{self, Capacity, Change, HOOKS, Maps, Node, REMEMBERING, Row, Run, Slots};
use crate::object::{Object, absent};
use crate::rows;

/// Entries that a CPU takes from what a map has free, and that go at once where nothing is.
const AT_A_TIME: usize = 128;

/// A node's programs and maps.
pub(crate) struct Instance {
    // The ring buffer is unmapped before its map goes.
    ring: RingBuffer<'static>,
    records: Rc<RefCell<Vec<Vec<u8>>>>,
    object: Rc<Object>,
    /// The maps, and of the programs the driver.
    base: Loaded,
    /// By a hook's number: whether its program is loaded and known to the driver. Checking a program takes the
    /// kernel far longer than a packet does, so each is loaded when a packet first comes to it.
    hooks: [bool; HOOKS.len()],
    /// The program that the driver cannot call, once it is loaded.
    prefilter: Option<Loaded>,
    capacity: Capacity,
    slots: Slots,
    /// Events lost so far.
    lost: u64,
    /// Where programs run.
    cpu: usize,
    /// Whether a packet may have left a flow behind.
    pub(super) remembers: bool,
}

impl Instance {
    /// Makes the maps and loads the driver.
    pub(super) fn open(object: &Rc<Object>, capacity: Capacity) -> Result<Self, BackendError> {
        Self::open_with(object, capacity, None)
    }

    /// The same with conntrack in maps of a kind of the caller's, where that is given.
    pub(super) fn open_with(
        object: &Rc<Object>,
        capacity: Capacity,
        conntrack: Option<MapType>,
    ) -> Result<Self, BackendError> {
        let loaded = listening(|| load_base(object, capacity, conntrack)).map_err(of_loading)?;
        let records = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&records);
        let ring = {
            let events = map(&loaded, abi::maps::EVENTS)?;
            let mut builder = RingBufferBuilder::new();
            let take = move |record: &[u8]| {
                // A panic must not unwind into libbpf; the sink is never borrowed while it calls.
                if let Ok(mut records) = sink.try_borrow_mut() {
                    records.push(record.to_vec());
                }
                0
            };
            let refused = of_call("mapping the ring buffer");
            builder.add(&events, take).map_err(&refused)?;
            builder.build().map_err(&refused)?
        };
        let instance = Self {
            ring,
            records,
            object: Rc::clone(object),
            base: loaded,
            hooks: [false; HOOKS.len()],
            prefilter: None,
            capacity,
            slots: Slots::default(),
            lost: 0,
            cpu: pin::current_cpu(),
            remembers: false,
        };
        instance.configure()?;
        Ok(instance)
    }

    /// Tells the programs that they are simulated and traced.
    fn configure(&self) -> Result<(), BackendError> {
        let config = nodes::config();
        put(&self.map(abi::maps::CONFIG)?, &0_u32, &config)
    }

    /// Loads the program of a hook, by its number, where it is not yet. Numbers of no hook are the driver's
    /// to refuse.
    pub(super) fn prepare(&mut self, hook: u32) -> Result<(), BackendError> {
        let place = hook as usize;
        let Some(name) = HOOKS.get(place).filter(|_| !self.hooks[place]) else { return Ok(()) };
        let loaded = self.load(name)?;
        if hook == u32::from(abi::hook::PREFILTER) {
            self.prefilter = Some(loaded);
            self.hooks[place] = true;
            return Ok(());
        }
        let program = program(&loaded, name)?.as_fd().as_raw_fd();
        // The map keeps the program, which keeps its maps; the rest of the object can go.
        put(&self.map(abi::maps::HOOKS)?, &hook, &program)?;
        self.hooks[place] = true;
        Ok(())
    }

    /// One more program upon the maps, by its name.
    pub(super) fn load(&self, name: &str) -> Result<Loaded, BackendError> {
        listening(|| load_hook(&self.object, &self.base, name)).map_err(of_loading)
    }

    /// How many instructions the verifier goes through for the program of a hook, by the kernel's own count;
    /// `None` where it does not say (before Linux 5.16).
    #[cfg(any(test, feature = "measure"))]
    pub(super) fn verified(&self, hook: u32) -> Result<Option<u32>, BackendError> {
        let Some(name) = HOOKS.get(hook as usize) else { return Ok(None) };
        let loaded = self.load(name)?;
        let descriptor = program(&loaded, name)?.as_fd().as_raw_fd();
        let path = format!("/proc/self/fdinfo/{descriptor}");
        let text = std::fs::read_to_string(&path).map_err(|error| BackendError::System {
            call: format!("reading {path}"),
            error: error.to_string(),
        })?;
        let count = text.lines().find_map(|line| line.strip_prefix("verified_insns:"));
        Ok(count.and_then(|count| count.trim().parse().ok()))
    }

    /// Loads the programs of all hooks.
    pub(super) fn prepare_all(&mut self) -> Result<(), BackendError> {
        (0..abi::hook::ALL).try_for_each(|hook| self.prepare(hook))
    }

    pub(crate) fn map(&self, name: &str) -> Result<Map<'_>, BackendError> {
        map(&self.base, name)
    }

    /// Takes what is in the ring buffer. Returns it and how many events were lost since the last time.
    pub(super) fn collect(&mut self) -> Result<(Vec<Vec<u8>>, u64), BackendError> {
        self.ring.consume().map_err(of_call("reading the ring buffer"))?;
        let lost = rows::sum(&self.map(abi::maps::LOST)?)?;
        let lost_before = std::mem::replace(&mut self.lost, lost);
        Ok((self.records.take(), lost.wrapping_sub(lost_before)))
    }
}

impl Maps for Instance {
    fn change(&mut self, map: &str, changes: &[Change<'_>]) -> Result<(), BackendError> {
        rows::change(&self.map(map)?, changes)
    }

    fn rows(&self, map: &str) -> Result<Vec<Row>, BackendError> {
        rows::all(&self.map(map)?)
    }

    fn clear(&mut self, map: &str, indices: Range<u32>) -> Result<(), BackendError> {
        rows::clear(&self.map(map)?, indices)
    }
}

impl Node for Instance {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Every CPU takes so many at a time, and as many go at a time.
    fn unused(&self) -> Result<usize, BackendError> {
        let cpus = libbpf_rs::num_possible_cpus().map_err(of_call("counting CPUs"))?;
        Ok((cpus + 1) * AT_A_TIME)
    }

    fn slots(&mut self) -> &mut Slots {
        &mut self.slots
    }

    fn run(
        &mut self,
        input: &abi::Input,
        frame: &[u8],
        record: &mut dyn FnMut(&[u8]),
    ) -> Result<Run, BackendError> {
        self.prepare(input.hook)?;
        put(&self.map(abi::maps::INPUT)?, &0_u32, input)?;
        self.remembers = true;
        let (code, data, mark) = if input.hook == u32::from(abi::hook::PREFILTER) {
            let object = self.prefilter.as_ref().ok_or_else(|| absent("the prefilter"))?;
            let run = program(object, abi::programs::PREFILTER)?;
            let (code, data) = test_run(&run, self.cpu, frame, None)?;
            (nodes::code_of_xdp(code), data, input.mark)
        } else {
            let mut context = abi::SkBuff::new_zeroed();
            let driver = program(&self.base, abi::programs::DRIVER)?;
            let (code, data) = test_run(&driver, self.cpu, frame, Some(context.as_mut_bytes()))?;
            (code, data, context.mark)
        };
        let (records, lost) = self.collect()?;
        for bytes in &records {
            record(bytes);
        }
        Ok(Run { code, frame: data, mark, lost, live: None })
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        if !self.remembers {
            return Ok(());
        }
        for name in REMEMBERING {
            rows::remove_all(&self.map(name)?)?;
        }
        self.remembers = false;
        Ok(())
    }

    fn per_cpu(&self, map: &str, index: u32) -> Result<Vec<Vec<u8>>, BackendError> {
        rows::per_cpu(&self.map(map)?, index)
    }

    fn inherit(&mut self, old: &Self) -> Result<(), BackendError> {
        nodes::inherit_flows(self, old)?;
        let (from, to) = (old.map(abi::maps::COUNTERS)?, self.map(abi::maps::COUNTERS)?);
        for index in decode::counter_indices() {
            let key = index.to_ne_bytes();
            from.lookup_percpu(&key, MapFlags::ANY)
                .and_then(|values| {
                    values.map_or(Ok(()), |values| to.update_percpu(&key, &values, MapFlags::ANY))
                })
                .map_err(of_call("copying map COUNTERS"))?;
        }
        self.remembers = old.remembers;
        Ok(())
    }
}

/// Runs a program on a frame: the code, and the frame afterwards. `context` is filled in where the program's kind has
/// one that is given back.
fn test_run(
    program: &ProgramMut<'_>,
    cpu: usize,
    frame: &[u8],
    context: Option<&mut [u8]>,
) -> Result<(i32, Vec<u8>), BackendError> {
    // Programs make a frame no longer; a page is what the kernel would give at most.
    let mut data = vec![0; 4096];
    let _pinned = Pinned::to(cpu);
    let output = program
        .test_run(ProgramInput {
            data_in: Some(frame),
            data_out: Some(&mut data),
            context_out: context,
            ..ProgramInput::default()
        })
        .map_err(|error| refused_frame(&error).unwrap_or_else(|| of_running(error)))?;
    let (code, length) = (output.return_value.cast_signed(), output.data.map_or(0, |d| d.len()));
    data.truncate(length);
    Ok((code, data))
}

fn of_running(error: libbpf_rs::Error) -> BackendError {
    of_call("running a program (BPF_PROG_TEST_RUN)")(error)
}

/// The kernel refuses a frame: newer ones one whose ethertype promises a network header that is not there.
fn refused_frame(error: &libbpf_rs::Error) -> Option<BackendError> {
    (error.kind() == ErrorKind::InvalidInput).then(nodes::without_network_header)
}

fn open(object: &Object, program: &str) -> libbpf_rs::Result<OpenObject> {
    let mut open = ObjectBuilder::default().name("hopwise")?.open_memory(object.bytes())?;
    for mut each in open.progs_mut() {
        let is_wanted = each.name() == OsStr::new(program);
        each.set_autoload(is_wanted);
    }
    Ok(open)
}

/// Sizes and makes the maps, and loads the driver.
fn load_base(
    object: &Object,
    capacity: Capacity,
    conntrack: Option<MapType>,
) -> libbpf_rs::Result<Loaded> {
    let mut open = open(object, abi::programs::DRIVER)?;
    for mut map in open.maps_mut() {
        let is_conntrack = [abi::maps::CT4, abi::maps::CT6].iter().any(|name| map.name() == *name);
        if let Some(kind) = conntrack.filter(|_| is_conntrack) {
            map.set_type(kind)?;
        }
        let entries = map.name().to_str().and_then(|name| capacity.entries(name));
        if let Some(entries) = entries {
            map.set_max_entries(entries)?;
        }
    }
    open.load()
}

/// Loads one more program upon the same maps.
fn load_hook(object: &Object, base: &Loaded, name: &str) -> libbpf_rs::Result<Loaded> {
    let mut open = open(object, name)?;
    for mut map in open.maps_mut() {
        if let Some(existing) = base.maps().find(|existing| existing.name() == map.name()) {
            map.reuse_fd(existing.as_fd())?;
        }
    }
    open.load()
}

fn map<'a>(object: &'a Loaded, name: &str) -> Result<Map<'a>, BackendError> {
    object
        .maps()
        .find(|map| map.name() == OsStr::new(name))
        .ok_or_else(|| absent(&format!("map {name}")))
}

pub(super) fn program<'a>(object: &'a Loaded, name: &str) -> Result<ProgramMut<'a>, BackendError> {
    object
        .progs_mut()
        .find(|program| program.name() == OsStr::new(name))
        .ok_or_else(|| absent(&format!("program {name}")))
}

pub(super) fn put<K, V>(map: &impl MapCore, key: &K, value: &V) -> Result<(), BackendError>
where
    K: IntoBytes + Immutable,
    V: IntoBytes + Immutable,
{
    rows::write(map, key.as_bytes(), value.as_bytes())
}
