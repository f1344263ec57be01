//! Timing the datapath in the kernel: its programs, one by one, on frames that a small driver makes fresh for
//! every repetition, and single operations on the same maps. For benchmarks; answers no question.
//!
//! Programs see the host's clock and device 1 (the loopback device, which is where a test run's packets are), as they would
//! live, unless [`Reporting::Simulated`] or [`Reporting::Traced`] asks for the simulation's seam.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use datapath_abi as abi;
use engine::backend::{BackendError, TunnelKey};
use engine::net::Hook;
use engine::tables::{EndpointId, NodeTables};
use engine::trace::{Counter, Stamped};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};
use zerocopy::IntoBytes;

use super::instance::{Instance, put};
use super::pin::Pinned;
use super::{LIMITS, refusal};
use crate::assembly::{Code, Instruction, helper, width};
use crate::nodes::{self, Capacity, FLOWS, HOOKS, Node as _};
use crate::object::Object;
use crate::{decode, encode};

/// The device of a test run's packets.
const LOOPBACK: u32 = 1;
/// Operations of one kind in a program that measures them.
pub const UNROLLED: u32 = 16;
/// Bytes of `struct bpf_tunnel_key` that a driver gives: what Linux 5.10 knows.
const TUNNEL_KEY: i16 = 28;
/// Bytes of all of it, as programs give it.
const WHOLE_KEY: i16 = 44;
/// `TC_ACT_SHOT`: what a driver returns that could not call its hook.
const SHOT: i32 = 2;

/// What programs report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporting {
    /// Counters only: the switches as they are live when nobody looks.
    Nothing,
    /// All events, live.
    Live,
    /// The outcome, as a simulation without a trace.
    Simulated,
    /// All events, as a simulation with a trace.
    Traced,
}

impl Reporting {
    fn flags(self) -> u32 {
        let more = match self {
            Self::Nothing => 0,
            Self::Live => abi::config::TRACE,
            Self::Simulated => abi::config::SIMULATED,
            Self::Traced => abi::config::SIMULATED | abi::config::TRACE,
        };
        abi::config::DELIVER_BY_PEER | more
    }
}

/// What a driver does to a frame before it calls the hook.
#[derive(Clone, Debug)]
pub struct Drive {
    /// The hook; `None` for a program that returns at once, which is what to subtract.
    pub hook: Option<Hook>,
    /// Pairs of bytes that a run changes, as (offset, bytes): set anew before every run.
    pub restored: Vec<(u8, [u8; 2])>,
    /// The same of four bytes at once: programs read addresses as a whole, which is slow where halves were written.
    pub words: Vec<(u8, [u8; 4])>,
    /// Offset of 16 bits that count up from run to run, so that each is of another flow.
    pub counted: Option<u8>,
    /// The tunnel that the frame came by.
    pub tunnel: Option<TunnelKey>,
}

/// A single operation on the datapath's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Nothing at all.
    Empty,
    /// The address of a pod in the ipcache.
    IpcacheLookUp,
    /// An entry of a policy table.
    PolicyLookUp,
    /// The device in the attachments.
    HashHit,
    /// A flow that is there.
    LruHit,
    /// A flow that is not.
    LruMiss,
    /// A new flow.
    LruInsert,
    /// The value of an array.
    Array,
    /// The value of a per-CPU array.
    PerCpuArray,
    /// An event, without waking a reader.
    Event,
    /// An event that wakes a reader.
    WakingEvent,
    /// A tunnel key.
    SetTunnelKey,
    /// A redirect.
    Redirect,
    /// The coarse clock.
    Jiffies,
    /// The fine clock.
    Ktime,
    /// An atomic addition.
    AtomicAdd,
}

/// A program to time.
#[derive(Debug)]
pub struct Program(OwnedFd);

/// What some repetitions came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// What the last one returned.
    pub code: u32,
    /// Nanoseconds of one, on average, by the kernel's own clock.
    pub nanoseconds: u32,
}

/// What loading a program took.
#[derive(Clone, Debug)]
pub struct Load {
    /// Its name.
    pub name: &'static str,
    /// From the object's bytes to a loaded program.
    pub time: Duration,
    /// Instructions that the verifier went through; `None` where the kernel does not say (before 5.16).
    pub verified: Option<u32>,
}

/// One node's tables in the kernel, to be measured.
pub struct Bench {
    pub(crate) instance: Instance,
    slot: encode::Slot,
    /// An array of two `u64`: what counts up, and what is added to.
    pub(crate) counter: MapHandle,
    /// A program array whose first program returns at once.
    empty: MapHandle,
    cpu: usize,
    /// Index of the target that has the device of test runs.
    attached: Cell<Option<u32>>,
    /// Whether conntrack was filled since it was emptied.
    is_full: bool,
}

impl Bench {
    /// Loads all programs and a node's tables.
    pub fn open(node: &NodeTables) -> Result<Self, BackendError> {
        Self::open_with(node, None)
    }

    /// The same with conntrack in plain hash maps, which take no new flow when they are full.
    pub fn open_with_plain_conntrack(node: &NodeTables) -> Result<Self, BackendError> {
        Self::open_with(node, Some(MapType::Hash))
    }

    fn open_with(node: &NodeTables, conntrack: Option<MapType>) -> Result<Self, BackendError> {
        super::privileges::check()?;
        let object = Rc::new(Object::find()?);
        let slot = encode::encode(node, &BTreeMap::new(), 1, &LIMITS)?;
        let mut instance = Instance::open_with(&object, Capacity::of(&slot), conntrack)?;
        nodes::fill(&mut instance, &Rc::new(slot.clone()))?;
        nodes::activate(&mut instance, 1)?;
        instance.prepare_all()?;
        let counter = create(MapType::Array, 16)?;
        let empty = create(MapType::ProgArray, 4)?;
        let nothing = load(&Code::default().finish(0))?;
        put(&empty, &0_u32, &nothing.0.as_raw_fd())?;
        let bench = Self {
            instance,
            slot,
            counter,
            empty,
            cpu: super::pin::current_cpu(),
            attached: Cell::new(None),
            is_full: false,
        };
        let seam = abi::Seam { ifindex: LOOPBACK, ..abi::Seam::default() };
        let map = bench.instance.map(abi::maps::SEAM)?;
        let cpus = libbpf_rs::num_possible_cpus().map_err(refusal::of_call("counting CPUs"))?;
        map.update_percpu(
            &0_u32.to_ne_bytes(),
            &vec![seam.as_bytes().to_vec(); cpus],
            MapFlags::ANY,
        )
        .map_err(refusal::of_call("writing map SEAM"))?;
        bench.report(Reporting::Nothing)?;
        Ok(bench)
    }

    /// What programs report from now on.
    pub fn report(&self, reporting: Reporting) -> Result<(), BackendError> {
        let config = abi::Config {
            abi: abi::ABI_VERSION,
            flags: reporting.flags(),
            // Any number does: the clock hardly moves while something is measured.
            ticks_per_second: 250,
            reserved: 0,
            until: 0,
            settled: 0,
        };
        put(&self.instance.map(abi::maps::CONFIG)?, &0_u32, &config)
    }

    /// Makes the device of test runs the one of an endpoint; an error if the node has no such endpoint.
    pub fn attach(&self, endpoint: EndpointId) -> Result<(), BackendError> {
        let place = self.slot.targets.iter().position(|target| {
            target.kind == abi::target::ENDPOINT && target.endpoint == endpoint.0
        });
        let place = place.ok_or_else(|| {
            BackendError::BadInjection(format!("there is no endpoint {}", endpoint.0))
        })?;
        // A device has one pod: the one that had it before is where its tables say again.
        let targets = self.instance.map(abi::maps::TARGETS)?;
        let base = nodes::base(1, self.instance.capacity().targets);
        for (index, target) in (0_u32..).zip(&self.slot.targets) {
            let is_it = index as usize == place;
            let ifindex = if is_it { LOOPBACK } else { target.ifindex };
            if is_it || self.attached.get() == Some(index) {
                put(&targets, &(base + index), &abi::Target { ifindex, ..*target })?;
            }
            if is_it {
                let key = abi::AttachmentKey { slot: 1, ifindex: LOOPBACK };
                put(&self.instance.map(abi::maps::ATTACHMENTS)?, &key, &index)?;
            }
        }
        self.attached.set(u32::try_from(place).ok());
        Ok(())
    }

    /// Empties conntrack.
    pub fn forget(&mut self) -> Result<(), BackendError> {
        self.is_full = false;
        self.instance.remembers = true;
        self.instance.forget()
    }

    /// Makes conntrack hold as much as it can, by a driver whose every run is of a new flow. Nothing is done
    /// where it still does.
    pub fn fill(&mut self, program: &Program, frame: &[u8]) -> Result<(), BackendError> {
        if !self.is_full {
            self.run(program, frame, 2 * FLOWS)?;
            self.is_full = true;
        }
        Ok(())
    }

    /// Makes an empty conntrack hold half of what it can, by the same.
    pub fn fill_half(&mut self, program: &Program, frame: &[u8]) -> Result<(), BackendError> {
        self.forget()?;
        self.run(program, frame, FLOWS / 2).map(drop)
    }

    /// Counters that are not 0.
    pub fn counters(&self) -> Result<Vec<Counter>, BackendError> {
        nodes::counters(&self.instance)
    }

    /// Takes the events out of the ring buffer. An error if some were lost.
    pub fn events(&mut self) -> Result<Vec<Stamped>, BackendError> {
        self.records()?.iter().map(|record| decode::event(record)).collect()
    }

    /// Empties the ring buffer. An error if some events were lost.
    pub fn discard_events(&mut self) -> Result<(), BackendError> {
        self.records().map(drop)
    }

    fn records(&mut self) -> Result<Vec<Vec<u8>>, BackendError> {
        let (records, lost) = self.instance.collect()?;
        if lost == 0 {
            return Ok(records);
        }
        Err(BackendError::BadEvent(format!("{lost} events were lost")))
    }

    /// Runs a program some times on one frame.
    pub fn run(&self, program: &Program, frame: &[u8], repeat: u32) -> Result<Timed, BackendError> {
        let _pinned = Pinned::to(self.cpu);
        let mut options = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
            data_in: frame.as_ptr().cast::<c_void>(),
            data_size_in: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            repeat: repeat.cast_signed(),
            ..libbpf_sys::bpf_test_run_opts::default()
        };
        // SAFETY: the descriptor is a program's; the frame is readable for its length; no room is offered.
        #[expect(unsafe_code, reason = "libbpf-rs runs only programs that it has loaded itself")]
        let code = unsafe {
            libbpf_sys::bpf_prog_test_run_opts(self.descriptor(program), &raw mut options)
        };
        checked(code, "running a program (BPF_PROG_TEST_RUN)")?;
        Ok(Timed { code: options.retval, nanoseconds: options.duration })
    }

    #[expect(clippy::unused_self, reason = "a program is run on the bench that made it")]
    fn descriptor(&self, program: &Program) -> i32 {
        program.0.as_raw_fd()
    }

    /// A driver.
    pub fn driver(&self, drive: &Drive) -> Result<Program, BackendError> {
        let mut code = Code::default();
        code.copy(6, 1).load(width::WORD, 7, 6, 76).load(width::WORD, 2, 6, 80);
        code.copy(3, 7).add(3, 58).end_if_greater(3, 2);
        for (at, bytes) in &drive.restored {
            let value = i32::from(u16::from_ne_bytes(*bytes));
            code.store_value(width::HALF, 7, i16::from(*at), value);
        }
        for (at, bytes) in &drive.words {
            code.store_value(width::WORD, 7, i16::from(*at), i32::from_ne_bytes(*bytes));
        }
        if let Some(at) = drive.counted {
            code.map_value(8, self.counter.as_fd().as_raw_fd()).load(width::DOUBLE, 2, 8, 0);
            code.add(2, 1).store(width::DOUBLE, 8, 0, 2).store(width::HALF, 7, i16::from(at), 2);
        }
        if let Some(key) = &drive.tunnel {
            code.stack(TUNNEL_KEY + 4, &tunnel_key(key));
            set_tunnel_key(&mut code, TUNNEL_KEY);
        }
        let (map, index) = match drive.hook {
            Some(hook) => {
                let programs = self.instance.map(abi::maps::HOOKS)?;
                (programs.as_fd().as_raw_fd(), decode::hook_number(hook))
            }
            None => (self.empty.as_fd().as_raw_fd(), 0),
        };
        code.copy(1, 6).map(2, map).set(3, i32::from(index)).call(helper::TAIL_CALL);
        load(&code.finish(SHOT))
    }

    /// A program of [`UNROLLED`] times an operation. `address`: of a pod, IPv4; `flow`: a conntrack key.
    pub fn operation(&self, operation: Operation) -> Result<Program, BackendError> {
        let mut code = Code::default();
        code.copy(6, 1).map_value(8, self.counter.as_fd().as_raw_fd());
        let (ring, quiet) = (abi::maps::EVENTS, 1);
        match operation {
            Operation::Empty => {}
            Operation::IpcacheLookUp => {
                let pod = self.slot.ipcache.iter().find(|(key, _)| key.prefixlen == 64);
                self.look_up(&mut code, abi::maps::IPCACHE, pod.map(|row| row.0.as_bytes()))?;
            }
            Operation::PolicyLookUp => {
                let rule = self.slot.policy.iter().find(|(key, _)| key.prefixlen == 96);
                self.look_up(&mut code, abi::maps::POLICY, rule.map(|row| row.0.as_bytes()))?;
            }
            Operation::HashHit => {
                let key = self.slot.attachments.first().map(|row| row.0.as_bytes());
                self.look_up(&mut code, abi::maps::ATTACHMENTS, key)?;
            }
            Operation::LruHit => {
                let key = self.instance.map(abi::maps::CT4)?.keys().next();
                self.look_up(&mut code, abi::maps::CT4, key.as_deref())?;
            }
            Operation::LruMiss => self.look_up(&mut code, abi::maps::CT4, Some(&[0xFF; 16]))?,
            Operation::LruInsert => self.insert(&mut code)?,
            Operation::Array => self.look_up(&mut code, abi::maps::SETTINGS, Some(&[0; 4]))?,
            Operation::PerCpuArray => {
                self.look_up(&mut code, abi::maps::COUNTERS, Some(&[0; 4]))?;
            }
            Operation::Event => self.event(&mut code, ring, quiet)?,
            Operation::WakingEvent => self.event(&mut code, ring, 2)?,
            Operation::SetTunnelKey => {
                let key = TunnelKey { vni: 1000, source: std::net::Ipv4Addr::LOCALHOST.into() };
                code.stack(WHOLE_KEY + 4, &tunnel_key(&key));
                (0..UNROLLED).for_each(|_| set_tunnel_key(&mut code, WHOLE_KEY));
            }
            Operation::Redirect => {
                for _ in 0..UNROLLED {
                    code.set(1, 1).set(2, 0).call(helper::REDIRECT);
                }
            }
            Operation::Jiffies => {
                for _ in 0..UNROLLED {
                    code.call(helper::JIFFIES);
                }
            }
            Operation::Ktime => {
                for _ in 0..UNROLLED {
                    code.call(helper::KTIME);
                }
            }
            Operation::AtomicAdd => {
                code.set(2, 1);
                for _ in 0..UNROLLED {
                    code.add_atomically(8, 8, 2);
                }
            }
        }
        load(&code.finish(0))
    }

    /// Looks a key up; a table without one has nothing to measure.
    fn look_up(&self, code: &mut Code, map: &str, key: Option<&[u8]>) -> Result<(), BackendError> {
        let key = key
            .ok_or_else(|| BackendError::BadInjection(format!("{map} has no entry to look up")))?;
        let descriptor = self.instance.map(map)?.as_fd().as_raw_fd();
        code.stack(24, key);
        for _ in 0..UNROLLED {
            code.map(1, descriptor).copy(2, 10).add(2, -24).call(helper::MAP_LOOKUP);
        }
        Ok(())
    }

    /// Inserts flows whose ports count up.
    fn insert(&self, code: &mut Code) -> Result<(), BackendError> {
        const BOTH: i16 = 168;
        const _: () = assert!(
            size_of::<abi::CtKey4>() + size_of::<abi::CtValue>() == BOTH.cast_unsigned() as usize
        );
        let descriptor = self.instance.map(abi::maps::CT4)?.as_fd().as_raw_fd();
        // A flow between addresses that no pod has; its value is below its key.
        code.stack(BOTH, &[0; BOTH.cast_unsigned() as usize]).store_value(
            width::WORD,
            10,
            -16,
            0x0100_00F0,
        );
        for _ in 0..UNROLLED {
            code.load(width::DOUBLE, 2, 8, 0).add(2, 1).store(width::DOUBLE, 8, 0, 2);
            code.store(width::HALF, 10, -8, 2).map(1, descriptor).copy(2, 10).add(2, -16);
            code.copy(3, 10).add(3, -i32::from(BOTH)).set(4, 0).call(helper::MAP_UPDATE);
        }
        Ok(())
    }

    fn event(&self, code: &mut Code, ring: &str, flags: i32) -> Result<(), BackendError> {
        let descriptor = self.instance.map(ring)?.as_fd().as_raw_fd();
        for _ in 0..UNROLLED {
            code.map(1, descriptor).set(2, 64).set(3, 0).call(helper::RING_RESERVE).end_if_zero(0);
            for at in (0..64).step_by(8) {
                code.store_value(width::DOUBLE, 0, at, 5);
            }
            code.copy(1, 0).set(2, flags).call(helper::RING_SUBMIT);
        }
        Ok(())
    }
}

/// Times the loading of each program, upon maps that are there.
pub fn loads() -> Result<Vec<Load>, BackendError> {
    super::privileges::check()?;
    let object = Rc::new(Object::find()?);
    let mut instance = Instance::open(&object, Capacity::LEAST)?;
    let mut loads = Vec::new();
    for (name, hook) in HOOKS.into_iter().zip(0..) {
        let begin = Instant::now();
        instance.prepare(hook)?;
        let time = begin.elapsed();
        loads.push(Load { name, time, verified: instance.verified(hook)? });
    }
    Ok(loads)
}

/// `struct bpf_tunnel_key` as far as it is used, for IPv4; over IPv6 the key is without an address.
fn tunnel_key(key: &TunnelKey) -> [u8; TUNNEL_KEY as usize] {
    let mut bytes = [0; TUNNEL_KEY as usize];
    bytes[..4].copy_from_slice(&key.vni.to_ne_bytes());
    if let std::net::IpAddr::V4(address) = key.source {
        bytes[4..8].copy_from_slice(&u32::from(address).to_ne_bytes());
    }
    bytes
}

/// Sets the key that lies at the top of the stack.
fn set_tunnel_key(code: &mut Code, size: i16) {
    code.copy(1, 6).copy(2, 10).add(2, -i32::from(size + 4));
    code.set(3, i32::from(size)).set(4, 2).call(helper::SET_TUNNEL_KEY);
}

fn create(kind: MapType, value: u32) -> Result<MapHandle, BackendError> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..libbpf_sys::bpf_map_create_opts::default()
    };
    MapHandle::create(kind, Some("hopwise_bench"), 4, value, 1, &options)
        .map_err(refusal::of_call("making a map"))
}

/// Loads instructions as a program of the kind that the datapath's are.
fn load(code: &[Instruction]) -> Result<Program, BackendError> {
    // SAFETY: names and licence are C strings; an instruction has 8 bytes and the count is theirs; options may be null.
    #[expect(unsafe_code, reason = "libbpf-rs loads object files only")]
    let descriptor = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
            c"hopwise_bench".as_ptr(),
            c"Dual MIT/GPL".as_ptr(),
            code.as_ptr().cast(),
            code.len() as libbpf_sys::size_t,
            std::ptr::null_mut(),
        )
    };
    checked(descriptor, "loading a program to measure with")?;
    // SAFETY: a descriptor that the kernel has just given, which nothing else owns.
    #[expect(unsafe_code, reason = "the call above gives a number")]
    Ok(Program(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// The error of a call of libbpf that returns a negative number.
fn checked(code: i32, call: &str) -> Result<(), BackendError> {
    if code >= 0 {
        return Ok(());
    }
    Err(refusal::of_call(call)(libbpf_rs::Error::from_raw_os_error(-code)))
}
