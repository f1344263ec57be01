//! One node's maps and programs: loaded, told how to behave, attached; and what they say.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use aya::maps::{MapData, RingBuf};
use aya::programs::{Program, ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_obj::programs::XdpAttachType;
use datapath_abi as abi;
use engine::backend::BackendError;
use engine::net::Hook;
use engine::trace::Counter;
use libbpf_rs::{MapCore, MapHandle};
use zerocopy::{FromBytes, IntoBytes};

use super::attachment::{self, Link, Order, Place, Side};
use super::clock;
use super::pins;
use super::sizes::{LASTING, MAPS, capacity_of};
use crate::decode::{self, Run, Runs};
use crate::nodes::{Capacity, Change, HOOKS, Maps, Row, Slots};
use crate::object::{Object, absent};
use crate::rows;
use crate::testrun::{of_call, tail};

/// Lines of a verifier's log that are worth showing.
const LOG_LINES: usize = 20;

/// What programs do with packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conduct {
    /// All that there is to do.
    #[default]
    Carry,
    /// Drop and translate, and leave the way to the node's stack: on devices of pods only.
    Chain,
    /// Nothing: they decide and tell.
    Observe,
}

impl Conduct {
    /// Its bits of [`abi::config`].
    fn flags(self) -> u32 {
        match self {
            Self::Carry => 0,
            Self::Chain => abi::config::CHAINED,
            Self::Observe => abi::config::OBSERVE,
        }
    }

    fn of(flags: u32) -> Self {
        let is = |one: &Self| flags & one.flags() != 0;
        [Self::Chain, Self::Observe].into_iter().find(is).unwrap_or_default()
    }
}

/// What programs do with packets, and what they tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// What they do.
    pub conduct: Conduct,
    /// Tell every event, not only count.
    pub trace: bool,
    /// Tell frames too.
    pub capture: bool,
    /// Of which packets; `None`: of all.
    pub filter: Option<abi::Filter>,
    /// Tick of the clock from which they let everything pass, whatever becomes of who told them; 0: never.
    pub until: u64,
    /// Observing: tick of the clock until which what is of no known flow may be of one that is older than the programs; TCP tells by itself.
    pub settled: u64,
}

impl Mode {
    /// The same conduct, with what another mode tells.
    #[must_use]
    pub fn telling(self, other: Self) -> Self {
        Self { trace: other.trace, capture: other.capture, filter: other.filter, ..self }
    }
}

/// Where programs are had from that are to be hung somewhere.
enum Code {
    /// As they were loaded here.
    Loaded(Box<Ebpf>),
    /// As they are pinned in the directory, by name once they are opened.
    Pinned(BTreeMap<String, Program>),
}

/// One node's programs and maps in the kernel.
pub struct Programs {
    code: Code,
    /// The directory of the pins, if there are any.
    pins: Option<PathBuf>,
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
    /// Loads the object with maps of a size, and all its hooks' programs, which takes the verifier most of the time that a node
    /// takes. Nothing is attached, and no tables are active yet. Those that are to take the place of others have what these remember, count
    /// and are told from the directory of their pins.
    pub(super) fn verified(
        object: &Object,
        capacity: Capacity,
        ring: u32,
        before: Option<&Path>,
    ) -> Result<Ebpf, BackendError> {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for name in before.map_or(&[][..], |_| &LASTING) {
            let file = before.unwrap_or(Path::new("")).join(map_file(name));
            loader.map_pin_path(name, file);
        }
        for name in MAPS {
            let entries =
                if name == abi::maps::EVENTS { Some(ring) } else { capacity.entries(name) };
            if let Some(entries) = entries {
                loader.map_max_entries(name, entries);
            }
        }
        let mut ebpf = loader.load(object.bytes()).map_err(|error| of_loading(&error))?;
        HOOKS.iter().try_for_each(|name| load_program(&mut ebpf, name))?;
        Ok(ebpf)
    }

    /// Takes what was loaded with maps of that size. `mode`: what it is told; nothing where it takes the place of others.
    pub(super) fn of(
        mut ebpf: Ebpf,
        capacity: Capacity,
        mode: Option<Mode>,
    ) -> Result<Self, BackendError> {
        let mut maps = BTreeMap::new();
        for (name, map) in ebpf.maps() {
            if let Some(handle) = handle(name, map)? {
                maps.insert(name.to_owned(), handle);
            }
        }
        let events = ebpf.take_map(abi::maps::EVENTS).ok_or_else(|| absent(abi::maps::EVENTS))?;
        let records =
            RingBuf::try_from(events).map_err(|error| of_map(abi::maps::EVENTS, &error))?;
        let mut programs = Self {
            code: Code::Loaded(Box::new(ebpf)),
            pins: None,
            maps,
            links: Vec::new(),
            capacity,
            slots: Slots::default(),
            mode: Mode::default(),
            records,
            runs: Runs::default(),
            lost: 0,
        };
        match mode {
            Some(mode) => programs.set_mode(mode)?,
            None => programs.find_out()?,
        }
        Ok(programs)
    }

    /// What they were told and have lost before.
    fn find_out(&mut self) -> Result<(), BackendError> {
        self.mode = self.configured()?;
        self.lost = rows::sum(self.map(abi::maps::LOST)?)?;
        Ok(())
    }

    /// Hangs the program of a hook on a device of the calling thread's network namespace, after those that are there.
    pub fn attach(&mut self, place: Place) -> Result<(), BackendError> {
        self.attach_at(place, Order::Last)
    }

    /// The same, where it is to come before or after others.
    pub fn attach_at(&mut self, place: Place, order: Order) -> Result<(), BackendError> {
        let pins = self.pins.clone();
        let program = self.program(place.hook)?;
        let mut link = attachment::attach(program, &place, order, pins.as_deref())?;
        if let Some(pins) = pins {
            link = link.pin(&place, &pins)?;
        }
        self.links.push((place, link));
        Ok(())
    }

    /// Takes the programs off a device, which may be gone already.
    pub fn detach(&mut self, device: &str) -> Result<(), BackendError> {
        let (gone, stay) = std::mem::take(&mut self.links)
            .into_iter()
            .partition(|(place, _): &(Place, Link)| place.device == device);
        self.links = stay;
        let gone: Vec<(Place, Link)> = gone;
        gone.into_iter().try_for_each(|(place, link)| link.cut(&place))
    }

    /// Where they hang.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.links.iter().map(|(place, _)| place)
    }

    /// The program of a hook.
    fn program(&mut self, hook: Hook) -> Result<&mut Program, BackendError> {
        let name = HOOKS[usize::from(decode::hook_number(hook))];
        match &mut self.code {
            Code::Loaded(ebpf) => ebpf.program_mut(name).ok_or_else(|| absent(name)),
            Code::Pinned(opened) => {
                if !opened.contains_key(name) {
                    let pins = self.pins.clone().unwrap_or_default();
                    let program = pinned_program(hook, &pins.join(program_file(name)))?;
                    opened.insert(name.to_owned(), program);
                }
                opened.get_mut(name).ok_or_else(|| absent(name))
            }
        }
    }

    /// The kernel's numbers of the programs, by hook.
    pub fn ids(&mut self) -> Result<Vec<(Hook, u32)>, BackendError> {
        let id = |hook| {
            let program = self.program(hook)?;
            let info = program.info().map_err(|e| refused("asking about a program", &e))?;
            Ok((hook, info.id()))
        };
        Hook::ALL.into_iter().map(id).collect()
    }

    /// Makes all of it outlive the process, by files in a directory of bpffs that is made for them, before it hangs anywhere: so whoever
    /// is killed afterwards leaves a file for everything that hangs. Where there is a directory already, its owner must
    /// [be replaced](Self::replace).
    pub(crate) fn pin(&mut self, directory: &Path) -> Result<(), BackendError> {
        let failed = |error| pins::failed("making", directory, &error);
        pins::mount_bpffs()?;
        let directory = if directory.exists() { pins::next(directory) } else { directory.into() };
        pins::remove_all(&directory)?;
        // Whoever removes the last pins of another installation takes the directory above along.
        std::fs::create_dir_all(&directory)
            .or_else(|_| std::fs::create_dir_all(&directory))
            .map_err(failed)?;
        for (name, map) in &mut self.maps {
            map.pin(directory.join(map_file(name))).map_err(of_call(&format!("pinning {name}")))?;
        }
        for hook in Hook::ALL {
            let name = HOOKS[usize::from(decode::hook_number(hook))];
            let pinned = self.program(hook)?.pin(directory.join(program_file(name)));
            pinned.map_err(|error| BackendError::System {
                call: format!("pinning {name}"),
                error: error.to_string(),
            })?;
        }
        self.pins = Some(directory);
        Ok(())
    }

    /// Opens what another process pinned.
    pub fn open(directory: &Path) -> Result<Self, BackendError> {
        gone_on_with(directory)?;
        let (mut maps, mut links) = (BTreeMap::new(), Vec::new());
        for name in pins::names(directory)? {
            let path = directory.join(&name);
            if let Some(map) = name.strip_prefix(pins::MAP) {
                let handle = MapHandle::from_pinned_path(&path);
                maps.insert(map.to_owned(), handle.map_err(of_call(&format!("opening {map}")))?);
            } else if let Some((place, hold)) = pins::hold_of(&name) {
                links.push((place, Link::Pinned(hold, path)));
            }
        }
        let events = MapData::from_pin(directory.join(map_file(abi::maps::EVENTS)))
            .and_then(aya::maps::Map::from_map_data)
            .and_then(RingBuf::try_from);
        let mut programs = Self {
            code: Code::Pinned(BTreeMap::new()),
            pins: Some(directory.to_owned()),
            capacity: capacity_of(&maps)?,
            maps,
            links,
            slots: Slots::default(),
            mode: Mode::default(),
            records: events.map_err(|error| of_map(abi::maps::EVENTS, &error))?,
            runs: Runs::default(),
            lost: 0,
        };
        programs.find_out()?;
        Ok(programs)
    }

    /// The directory of the pins, if there are any.
    pub(super) fn pins(&self) -> Option<&Path> {
        self.pins.as_deref()
    }

    /// Takes the place of another one's pins, which goes.
    pub(super) fn replace(&mut self, old: &mut Self) -> Result<(), BackendError> {
        let Some(place) = old.pins.take() else { return Ok(()) };
        let Some(own) = self.pins.replace(place.clone()) else { return Ok(()) };
        let aside = pins::old(&place);
        rename(&place, &aside)?;
        old.moved_to(&aside);
        rename(&own, &place)?;
        self.moved_to(&place);
        for (place, link) in std::mem::take(&mut old.links) {
            if !link.is_filter() {
                link.cut(&place)?;
            }
        }
        attachment::left_off(&aside)
    }

    /// Takes off the filters of those whose place these have taken, inside the namespace that they are in.
    pub(crate) fn left_alone(&self) -> Result<(), BackendError> {
        self.pins.as_deref().map_or(Ok(()), gone_on_with)
    }

    fn moved_to(&mut self, directory: &Path) {
        for (_, link) in &mut self.links {
            if let Link::Pinned(_, file) = link {
                *file = directory.join(file.file_name().unwrap_or_default());
            }
        }
    }

    /// Takes off what hangs no more where it was put: somebody else took it off, or its device is another one of the same name.
    /// `hangs` is told the place and the program's number.
    pub fn detach_lost(&mut self, hangs: impl Fn(&Place, u32) -> bool) -> Result<(), BackendError> {
        let ids: BTreeMap<Hook, u32> = self.ids()?.into_iter().collect();
        let is_there = |place: &Place| ids.get(&place.hook).is_some_and(|id| hangs(place, *id));
        let (stay, lost) = std::mem::take(&mut self.links)
            .into_iter()
            .partition(|(place, _): &(Place, Link)| is_there(place));
        self.links = stay;
        let lost: Vec<(Place, Link)> = lost;
        lost.into_iter().try_for_each(|(place, link)| link.cut(&place))
    }

    /// Takes everything off and removes the pins.
    pub fn remove(mut self) -> Result<(), BackendError> {
        self.go()
    }

    /// The same.
    pub(super) fn go(&mut self) -> Result<(), BackendError> {
        for (place, link) in std::mem::take(&mut self.links) {
            link.cut(&place)?;
        }
        self.pins.take().map_or(Ok(()), |pins| pins::remove_all(&pins))
    }

    /// What programs do and tell at present.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The number of the generation that is active.
    pub fn active(&self) -> Result<u32, BackendError> {
        let value = rows::look_up(self.map(abi::maps::ACTIVE)?, &[0; 4])?;
        let bytes = value.and_then(|value| value.first_chunk().copied());
        Ok(bytes.map_or(0, u32::from_ne_bytes))
    }

    /// What programs counted, but for what is 0.
    pub fn counters(&self) -> Result<Vec<Counter>, BackendError> {
        let map = self.map(abi::maps::COUNTERS)?;
        let mut counted = Vec::new();
        for index in decode::counter_indices() {
            counted.extend(decode::counter(index, &rows::per_cpu(map, index)?)?);
        }
        Ok(counted)
    }

    /// How many events were lost since they were loaded.
    pub fn lost(&self) -> Result<u64, BackendError> {
        rows::sum(self.map(abi::maps::LOST)?)
    }

    /// How full a map is: entries that it has, and that it has room for; only of those whose entries can be listed.
    pub fn pressure(&self, map: &str) -> Result<(usize, usize), BackendError> {
        let map = self.map(map)?;
        Ok((map.keys().count(), map.max_entries() as usize))
    }

    fn configured(&self) -> Result<Mode, BackendError> {
        let value = rows::look_up(self.map(abi::maps::CONFIG)?, &[0; 4])?.unwrap_or_default();
        let config = abi::Config::read_from_bytes(&value)
            .map_err(|_| BackendError::BadEvent("a configuration of another size".to_owned()))?;
        if config.abi != abi::ABI_VERSION {
            return Err(BackendError::BadEvent(format!(
                "they are of version {} of the datapath, and this hopwise has version {}",
                config.abi,
                abi::ABI_VERSION
            )));
        }
        let is_on = |flag| config.flags & flag != 0;
        let filter = if is_on(abi::config::FILTERED) {
            let filter = rows::look_up(self.map(abi::maps::FILTER)?, &[0; 4])?;
            filter.and_then(|bytes| abi::Filter::read_from_bytes(&bytes).ok())
        } else {
            None
        };
        Ok(Mode {
            conduct: Conduct::of(config.flags),
            trace: is_on(abi::config::TRACE),
            capture: is_on(abi::config::CAPTURE),
            filter,
            until: config.until,
            settled: config.settled,
        })
    }

    /// Changes what programs do and tell, from their next run on.
    pub fn set_mode(&mut self, mode: Mode) -> Result<(), BackendError> {
        self.mode = mode;
        self.configure()
    }

    fn configure(&self) -> Result<(), BackendError> {
        let mut flags = abi::config::DELIVER_BY_PEER | self.mode.conduct.flags();
        for (is_on, flag) in [
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
            until: self.mode.until,
            settled: self.mode.settled,
        };
        if let Some(filter) = self.mode.filter {
            rows::write(self.map(abi::maps::FILTER)?, &[0; 4], filter.as_bytes())?;
        }
        rows::write(self.map(abi::maps::CONFIG)?, &[0; 4], config.as_bytes())
    }

    /// What programs said since the last time, run by run, and how many events were lost meanwhile.
    pub fn runs(&mut self) -> Result<(Vec<Run>, u64), BackendError> {
        self.runs_of(usize::MAX)
    }

    /// The same of so many events at most: the rest stays where it is, in memory that does not grow.
    pub fn runs_of(&mut self, most: usize) -> Result<(Vec<Run>, u64), BackendError> {
        let mut runs = Vec::new();
        for _ in 0..most {
            let Some(record) = self.records.next() else { break };
            runs.extend(self.runs.take(&record)?);
        }
        let lost = rows::sum(self.map(abi::maps::LOST)?)?;
        let before = std::mem::replace(&mut self.lost, lost);
        Ok((runs, lost.wrapping_sub(before)))
    }

    /// Runs that were begun and whose end nobody tells any more: programs were told to be silent, and all that they had said is read.
    pub fn cut(&mut self) -> Vec<Run> {
        self.runs.rest()
    }

    pub(crate) fn map(&self, name: &str) -> Result<&MapHandle, BackendError> {
        self.maps.get(name).ok_or_else(|| absent(&format!("map {name}")))
    }
}

impl Maps for Programs {
    fn change(&mut self, map: &str, changes: &[Change<'_>]) -> Result<(), BackendError> {
        rows::change(self.map(map)?, changes)
    }

    fn rows(&self, map: &str) -> Result<Vec<Row>, BackendError> {
        rows::all(self.map(map)?)
    }

    fn clear(&mut self, map: &str, indices: Range<u32>) -> Result<(), BackendError> {
        rows::clear(self.map(map)?, indices)
    }
}

fn map_file(name: &str) -> String {
    format!("{}{}", pins::MAP, pins::escaped(name))
}

fn program_file(name: &str) -> String {
    format!("{}{}", pins::PROGRAM, pins::escaped(name))
}

fn rename(from: &Path, to: &Path) -> Result<(), BackendError> {
    std::fs::rename(from, to).map_err(|error| pins::failed("renaming", from, &error))
}

/// Ends what a process was killed over while one directory was to take another's place: until that is moved aside the old one has all that
/// is known; then the new one has, which sees what passes.
fn gone_on_with(directory: &Path) -> Result<(), BackendError> {
    let (next, old) = (pins::next(directory), pins::old(directory));
    if next.exists() && !directory.exists() {
        rename(&next, directory)?;
    }
    attachment::left_off(&next)?;
    attachment::left_off(&old)
}

fn pinned_program(hook: Hook, path: &Path) -> Result<Program, BackendError> {
    let opened = if Side::of(hook) == Side::Xdp {
        Xdp::from_pin(path, XdpAttachType::Interface).map(Program::Xdp)
    } else {
        SchedClassifier::from_pin(path).map(Program::SchedClassifier)
    };
    opened.map_err(|error| refused(&format!("opening {}", path.display()), &error))
}

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
    MapHandle::from_map_id(id).map(Some).map_err(of_call("opening a map by its number"))
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
