//! One node's maps and programs: loaded, told how to behave, attached; and what they say.

use std::collections::BTreeMap;
use std::ops::Range;

use aya::maps::{MapData, RingBuf};
use aya::programs::{Program, ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use datapath_abi as abi;
use engine::backend::BackendError;
use libbpf_rs::MapHandle;
use zerocopy::IntoBytes;

use super::attachment::{self, Link, Place};
use super::clock;
use crate::decode::{self, Run, Runs};
use crate::nodes::{Capacity, Change, HOOKS, Maps, Slots};
use crate::object::{Object, absent};
use crate::rows;
use crate::testrun::tail;

/// Lines of a verifier's log that are worth showing.
const LOG_LINES: usize = 20;

/// What programs do with packets, and what they tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// Decide and tell only; packets pass on untouched.
    pub observe: bool,
    /// Tell every event, not only count.
    pub trace: bool,
    /// Tell frames too.
    pub capture: bool,
    /// Of which packets; `None`: of all.
    pub filter: Option<abi::Filter>,
}

/// One node's programs and maps in the kernel.
pub struct Programs {
    ebpf: Ebpf,
    maps: BTreeMap<String, MapHandle>,
    links: Vec<(Place, Link)>,
    pub(super) capacity: Capacity,
    pub(super) slots: Slots,
    mode: Mode,
    records: RingBuf<MapData>,
    runs: Runs,
    /// Events lost so far.
    lost: u64,
}

impl Programs {
    /// Loads the object with maps of a size, and all its hooks' programs. Nothing is attached, and no tables are active yet.
    pub(crate) fn load(
        object: &Object,
        capacity: Capacity,
        ring: u32,
    ) -> Result<Self, BackendError> {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for name in MAPS {
            let entries =
                if name == abi::maps::EVENTS { Some(ring) } else { capacity.entries(name) };
            if let Some(entries) = entries {
                loader.map_max_entries(name, entries);
            }
        }
        let mut ebpf = loader.load(object.bytes()).map_err(|error| of_loading(&error))?;
        let mut maps = BTreeMap::new();
        for (name, map) in ebpf.maps() {
            if let Some(handle) = handle(name, map)? {
                maps.insert(name.to_owned(), handle);
            }
        }
        let events = ebpf.take_map(abi::maps::EVENTS).ok_or_else(|| absent(abi::maps::EVENTS))?;
        let records =
            RingBuf::try_from(events).map_err(|error| of_map(abi::maps::EVENTS, &error))?;
        for name in HOOKS {
            load_program(&mut ebpf, name)?;
        }
        let programs = Self {
            ebpf,
            maps,
            links: Vec::new(),
            capacity,
            slots: Slots::default(),
            mode: Mode::default(),
            records,
            runs: Runs::default(),
            lost: 0,
        };
        programs.configure()?;
        Ok(programs)
    }

    /// Hangs the program of a hook on a device of the calling thread's network namespace.
    pub fn attach(&mut self, place: Place) -> Result<(), BackendError> {
        let name = HOOKS[usize::from(decode::hook_number(place.hook))];
        let program = self.ebpf.program_mut(name).ok_or_else(|| absent(name))?;
        let link = attachment::attach(program, &place)?;
        self.links.push((place, link));
        Ok(())
    }

    /// Takes the programs off a device, which may be gone already.
    pub fn detach(&mut self, device: &str) {
        self.links.retain(|(place, _)| place.device != device);
    }

    /// Changes what programs do and tell, from their next run on.
    pub fn set_mode(&mut self, mode: Mode) -> Result<(), BackendError> {
        self.mode = mode;
        self.configure()
    }

    fn configure(&self) -> Result<(), BackendError> {
        let mut flags = abi::config::DELIVER_BY_PEER;
        for (is_on, flag) in [
            (self.mode.observe, abi::config::OBSERVE),
            (self.mode.trace, abi::config::TRACE),
            (self.mode.trace && self.mode.capture, abi::config::CAPTURE),
            (self.mode.filter.is_some(), abi::config::FILTERED),
        ] {
            flags |= if is_on { flag } else { 0 };
        }
        let config = abi::Config {
            abi: abi::ABI_VERSION,
            flags,
            ticks_per_second: clock::ticks_per_second(),
            reserved: 0,
        };
        if let Some(filter) = self.mode.filter {
            rows::write(self.map(abi::maps::FILTER)?, &[0; 4], filter.as_bytes())?;
        }
        rows::write(self.map(abi::maps::CONFIG)?, &[0; 4], config.as_bytes())
    }

    /// What programs said since the last time, run by run, and how many events were lost meanwhile.
    pub fn runs(&mut self) -> Result<(Vec<Run>, u64), BackendError> {
        let mut runs = Vec::new();
        while let Some(record) = self.records.next() {
            runs.extend(self.runs.take(&record)?);
        }
        let lost = rows::sum(self.map(abi::maps::LOST)?)?;
        let before = std::mem::replace(&mut self.lost, lost);
        Ok((runs, lost.wrapping_sub(before)))
    }

    pub(crate) fn map(&self, name: &str) -> Result<&MapHandle, BackendError> {
        self.maps.get(name).ok_or_else(|| absent(&format!("map {name}")))
    }
}

impl Maps for Programs {
    fn change(&mut self, map: &str, changes: &[Change<'_>]) -> Result<(), BackendError> {
        rows::change(self.map(map)?, changes)
    }

    fn clear(&mut self, map: &str, indices: Range<u32>) -> Result<(), BackendError> {
        rows::clear(self.map(map)?, indices)
    }
}

/// Maps whose size depends on the tables. Those that remember flows have the size that the object gives.
const MAPS: [&str; 11] = [
    abi::maps::EVENTS,
    abi::maps::TARGETS,
    abi::maps::ATTACHMENTS,
    abi::maps::SERVICES,
    abi::maps::BACKENDS,
    abi::maps::MEMBERS,
    abi::maps::MAGLEV,
    abi::maps::HITS,
    abi::maps::SOURCE_RANGES,
    abi::maps::UNMASQUERADED,
    abi::maps::PREFILTERED,
];

/// A map to read and write as bytes. `None` for constants of the programs.
fn handle(name: &str, map: &aya::maps::Map) -> Result<Option<MapHandle>, BackendError> {
    use aya::maps::Map;
    if name.starts_with('.') {
        return Ok(None);
    }
    let (Map::Array(data)
    | Map::PerCpuArray(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::LpmTrie(data)
    | Map::ProgramArray(data)
    | Map::RingBuf(data)) = map
    else {
        return Err(absent(&format!("a kind of map {name} that is known")));
    };
    let id = data.info().map_err(|error| of_map(name, &error))?.id();
    MapHandle::from_map_id(id)
        .map(Some)
        .map_err(crate::testrun::of_call("opening a map by its number"))
}

fn load_program(ebpf: &mut Ebpf, name: &str) -> Result<(), BackendError> {
    let program = ebpf.program_mut(name).ok_or_else(|| absent(&format!("program {name}")))?;
    let loaded = match program {
        Program::Xdp(program) => Xdp::load(program),
        Program::SchedClassifier(program) => SchedClassifier::load(program),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    loaded.map_err(|error| match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = tail(&format!("{verifier_log}"), LOG_LINES);
            let log = if log.is_empty() { io_error.to_string() } else { log };
            BackendError::Refused { program: name.to_owned(), log }
        }
        error => refused(&format!("loading {name}"), &error),
    })
}

/// The error of a call about a program.
pub(super) fn refused(call: &str, error: &ProgramError) -> BackendError {
    let text = match error {
        ProgramError::SyscallError(error) => error.io_error.to_string(),
        error => error.to_string(),
    };
    BackendError::System { call: call.to_owned(), error: text }
}

fn of_map(name: &str, error: &aya::maps::MapError) -> BackendError {
    BackendError::System { call: format!("opening map {name}"), error: error.to_string() }
}

fn of_loading(error: &EbpfError) -> BackendError {
    BackendError::System {
        call: "loading the datapath's object".to_owned(),
        error: error.to_string(),
    }
}
