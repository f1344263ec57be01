//! One node in the interpreter: a machine with maps of its own, and the hooks' programs where the driver finds
//! them.

use std::ops::Range;
use std::rc::Rc;

use datapath_abi as abi;
use engine::backend::BackendError;

use super::image::Image;
use super::machine::{Clock, Machine};
use super::map::{ANY, Errno, Map};
use super::observer::Observer;
use super::packet::{self, Skb};
use super::unloadable;
use crate::nodes::{self, Capacity, Change, HOOKS, Maps, Node, REMEMBERING, Row, Run, Slots};

/// Ticks of the kernel in a second, for programs that ask it instead of the seam.
const JIFFIES: u64 = 250;

/// A node's machine.
#[derive(Clone)]
pub(crate) struct Instance {
    machine: Machine,
    driver: u32,
    prefilter: u32,
    capacity: Capacity,
    slots: Slots,
    /// Events lost so far.
    lost: u64,
}

impl Instance {
    /// Makes the maps and installs the programs.
    pub(super) fn open(image: &Rc<Image>, capacity: Capacity) -> Result<Self, BackendError> {
        let machine =
            Machine::new(image, |map| capacity.entries(map)).map_err(|error| unloadable(&error))?;
        let driver = program(image, abi::programs::DRIVER)?;
        let prefilter = program(image, abi::programs::PREFILTER)?;
        let slots = Slots::default();
        let mut instance = Self { machine, driver, prefilter, capacity, slots, lost: 0 };
        instance.put(abi::maps::CONFIG, &0_u32, &nodes::config())?;
        for (hook, name) in (0..abi::hook::COUNT).zip(HOOKS) {
            let program = program(image, name)?;
            instance.put(abi::maps::HOOKS, &hook, &program)?;
        }
        Ok(instance)
    }

    fn map(&self, name: &str) -> Result<&Map, BackendError> {
        self.machine.map(name).ok_or_else(|| absent("map", name))
    }

    /// The machine, to look at.
    pub(super) fn as_machine(&self) -> &Machine {
        &self.machine
    }

    /// The machine.
    pub(super) fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// How many entries a map has.
    #[cfg(feature = "kernel")]
    pub(crate) fn count(&self, map: &str) -> usize {
        self.machine.map(map).map_or(0, Map::count)
    }

    /// How many entries a map can have.
    #[cfg(feature = "kernel")]
    pub(crate) fn entries(&self, map: &str) -> u32 {
        self.machine.map(map).map_or(0, |map| map.definition().capacity)
    }

    fn map_mut(&mut self, name: &str) -> Result<&mut Map, BackendError> {
        self.machine.map_mut(name).ok_or_else(|| absent("map", name))
    }

    /// Puts a packet's circumstances and the packet before the driver program, or the prefilter's: a debugger goes on from there, step
    /// by step. Errors as of a run.
    pub(super) fn begin(
        &mut self,
        input: &abi::Input,
        frame: &[u8],
    ) -> Result<&mut Machine, BackendError> {
        let is_xdp = input.hook == u32::from(abi::hook::PREFILTER);
        if !is_xdp && !packet::has_network_header(frame) {
            return Err(nodes::without_network_header());
        }
        self.put(abi::maps::INPUT, &0_u32, input)?;
        let clock = Clock {
            nanoseconds: input.now.saturating_mul(1_000_000_000),
            jiffies: input.now.saturating_mul(JIFFIES),
        };
        if is_xdp {
            // Nothing of it is marked yet; the mark is kept for whoever asks for it afterwards.
            let skb = Skb { mark: input.mark, ..Skb::xdp(frame.to_vec()) };
            self.machine.begin(self.prefilter, skb, clock);
        } else {
            self.machine.begin(self.driver, Skb::new(frame.to_vec()), clock);
        }
        Ok(&mut self.machine)
    }

    /// What a run that has ended left: records, frame, mark.
    pub(super) fn finish(
        &mut self,
        code: u64,
        record: &mut dyn FnMut(&[u8]),
    ) -> Result<Run, BackendError> {
        if let Some(ring) = self.map_mut(abi::maps::EVENTS)?.ring_mut() {
            ring.consume(record);
        }
        let lost = self.map(abi::maps::LOST)?.value(0).and_then(|value| value.first_chunk());
        let lost = lost.map_or(0, |lost| u64::from_le_bytes(*lost));
        let lost_before = std::mem::replace(&mut self.lost, lost);
        let skb = self.machine.take_skb();
        #[expect(clippy::cast_possible_truncation, reason = "a program returns 32 bits")]
        let code = (code as u32).cast_signed();
        let code = if skb.is_xdp() { nodes::code_of_xdp(code) } else { code };
        let mark = skb.mark;
        let lost = lost.wrapping_sub(lost_before);
        Ok(Run { code, frame: skb.into_bytes(), mark, lost, live: None })
    }

    /// Runs one frame, watched.
    pub(super) fn run_watched(
        &mut self,
        input: &abi::Input,
        frame: &[u8],
        record: &mut dyn FnMut(&[u8]),
        observer: &mut impl Observer,
    ) -> Result<Run, BackendError> {
        let ended = self.begin(input, frame)?.run(observer);
        let code = ended.map_err(|fault| {
            if let Some(ring) = self.machine.map_mut(abi::maps::EVENTS).and_then(Map::ring_mut) {
                ring.consume(|_| ());
            }
            let call = "running a program in the interpreter".to_owned();
            BackendError::System { call, error: fault.to_string() }
        })?;
        self.finish(code, record)
    }
}

fn program(image: &Image, name: &str) -> Result<u32, BackendError> {
    image.program(name).ok_or_else(|| absent("program", name))
}

fn absent(what: &str, name: &str) -> BackendError {
    BackendError::Unsupported {
        what: format!("{what} {name} of the datapath's object"),
        remedy: "the object is damaged or of another version; unset HOPWISE_BPF_OBJECT or build it anew \
                 (`make bpf`)"
            .to_owned(),
    }
}

/// The error of a map's change.
fn refused(map: &str) -> impl Fn(Errno) -> BackendError + '_ {
    move |error| BackendError::System {
        call: format!("writing map {map} of the interpreter"),
        error: error.to_string(),
    }
}

impl Maps for Instance {
    fn change(&mut self, name: &str, changes: &[Change<'_>]) -> Result<(), BackendError> {
        let map = self.map_mut(name)?;
        changes.iter().try_for_each(|change| match change {
            Change::Put(key, value) => map.update(key, value, ANY).map_err(refused(name)),
            Change::Remove(key) => match map.delete(key) {
                Err(error) if error != Errno::NOENT => Err(refused(name)(error)),
                _ => Ok(()),
            },
        })
    }

    fn rows(&self, map: &str) -> Result<Vec<Row>, BackendError> {
        Ok(self.map(map)?.entries())
    }

    fn clear(&mut self, name: &str, indices: Range<u32>) -> Result<(), BackendError> {
        let map = self.map_mut(name)?;
        for index in indices {
            if let Some(value) = map.value_mut(index) {
                value.fill(0);
            }
        }
        Ok(())
    }
}

impl Node for Instance {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn unused(&self) -> Result<usize, BackendError> {
        Ok(0)
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
        self.run_watched(input, frame, record, &mut ())
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        REMEMBERING.into_iter().try_for_each(|map| {
            self.map_mut(map)?.clear();
            Ok(())
        })
    }

    fn per_cpu(&self, map: &str, index: u32) -> Result<Vec<Vec<u8>>, BackendError> {
        Ok(self.map(map)?.value(index).map(<[u8]>::to_vec).into_iter().collect())
    }

    fn inherit(&mut self, old: &Self) -> Result<(), BackendError> {
        nodes::inherit_flows(self, old)?;
        let counters = old.map(abi::maps::COUNTERS)?.entries();
        let changes: Vec<_> = counters.iter().map(|(key, value)| Change::Put(key, value)).collect();
        self.change(abi::maps::COUNTERS, &changes)
    }
}
