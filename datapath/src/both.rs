//! Kernel and interpreter side by side: every packet runs through both, and what they say and leave behind must be
//! the same. The kernel's answer is the one that is given.

use datapath_abi as abi;
use engine::backend::{Backend, BackendError, Beside, Injection, Observation, Remembered};
use engine::net::Hook;
use engine::tables::{Generation, Tables};
use engine::topology::NodeId;
use engine::trace::{ConntrackEntry, Counter, Hit};

use crate::decode;
use crate::encode::Limits;
use crate::nodes::{LIMITS, Maps, Node as _, REMEMBERING, Row};
use crate::testrun::TestRun;
use crate::vm::Vm;

/// Maps that are read after every packet: what packets leave behind, and what is as small as the state of the tables.
const WRITTEN: [&str; 9] = [
    abi::maps::CT4,
    abi::maps::CT6,
    abi::maps::AFFINITY,
    abi::maps::FRAGMENTS,
    abi::maps::INPUT,
    abi::maps::ACTIVE,
    abi::maps::SETTINGS,
    abi::maps::CONFIG,
    abi::maps::FILTER,
];
/// Per-CPU arrays of numbers that only grow. All of them are read with the tables; after every packet only the counters
/// of its hook.
const COUNTED: [&str; 3] = [abi::maps::LOST, abi::maps::COUNTERS, abi::maps::HITS];
/// A per-CPU array that every run writes anew.
const SEAM: &str = abi::maps::SEAM;
/// Tables, both slots of them. Only loading writes them: they are read after the first packet that a node sees in
/// a state of the tables, and after one of so many later ones.
const LOADED: [&str; 11] = [
    abi::maps::TARGETS,
    abi::maps::IPCACHE,
    abi::maps::ATTACHMENTS,
    abi::maps::POLICY,
    abi::maps::SERVICES,
    abi::maps::BACKENDS,
    abi::maps::MEMBERS,
    abi::maps::MAGLEV,
    abi::maps::SOURCE_RANGES,
    abi::maps::UNMASQUERADED,
    abi::maps::PREFILTERED,
];
/// Maps that are not compared: what is left of earlier structs in a scratch area's padding; programs, which the kernel
/// loads when they are first needed; records, which were read and are compared as events.
#[cfg(test)]
pub(crate) const LEFT_OUT: [&str; 3] = [abi::maps::SCRATCH, abi::maps::HOOKS, abi::maps::EVENTS];
/// Longer than the value of most of them.
const ZERO: [u8; 32] = [0; 32];
/// Packets of a node between two readings of its tables.
const TABLES_PERIOD: u64 = 64;

/// Opens both. Errors are those of either.
pub fn open() -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(Both::open(LIMITS)?))
}

/// See the module.
pub(crate) struct Both {
    kernel: TestRun,
    pub(crate) vm: Vm,
    /// Maps are compared after one injection of so many.
    period: u64,
    injected: u64,
    /// What is loaded.
    generation: Option<Generation>,
    /// The hook of the last packet.
    hook: Hook,
    /// Nodes whose tables were compared, and after how many injections last.
    seen: std::collections::BTreeMap<NodeId, u64>,
}

impl Both {
    pub(crate) fn open(limits: Limits) -> Result<Self, BackendError> {
        Ok(Self {
            kernel: TestRun::open(limits)?,
            vm: Vm::open(limits)?,
            period: 1,
            injected: 0,
            generation: None,
            hook: Hook::FromContainer,
            seen: std::collections::BTreeMap::new(),
        })
    }

    /// Compares maps only after one injection of so many, which takes the kernel far longer than a packet.
    #[cfg(test)]
    pub(crate) fn comparing_maps_every(mut self, injections: u64) -> Self {
        self.period = injections;
        self
    }

    fn differ(&self, what: String) -> BackendError {
        BackendError::Disagreement { one: self.kernel.name(), other: self.vm.name(), what }
    }

    /// The same of both, or how they differ.
    fn same<T: PartialEq + std::fmt::Debug>(
        &self,
        what: &str,
        kernel: Result<T, BackendError>,
        vm: Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        match (kernel, vm) {
            (Ok(kernel), Ok(vm)) if kernel == vm => Ok(kernel),
            // An older kernel runs short frames that newer ones and the interpreter refuse.
            (Ok(kernel), Err(BackendError::BadInjection(_))) => Ok(kernel),
            (Err(kernel), Err(vm))
                if std::mem::discriminant(&kernel) == std::mem::discriminant(&vm) =>
            {
                Err(kernel)
            }
            (kernel, vm) => Err(self.differ(format!("{what}\n{kernel:?}\n{vm:?}"))),
        }
    }

    /// Whether a node remembers so many flows that kernel and interpreter may have forgotten different ones: the
    /// one thing that the interpreter does not model.
    fn may_have_forgotten(&mut self, node: NodeId) -> bool {
        let Ok(vm) = self.vm.node(node) else { return false };
        let capacity = vm.capacity();
        let many = |map: &str| {
            capacity.entries(map).is_some_and(|entries| vm.count(map) > entries as usize / 2)
        };
        REMEMBERING.into_iter().any(many)
    }

    /// Compares what a node's maps hold.
    fn compare(&mut self, node: NodeId) -> Result<(), BackendError> {
        let last = self.seen.get(&node);
        let due = last.is_none_or(|last| self.injected.saturating_sub(*last) >= TABLES_PERIOD);
        if due {
            self.seen.insert(node, self.injected);
        }
        let difference = self.difference(node, due)?;
        difference.map_or(Ok(()), |what| Err(self.differ(what)))
    }

    /// How the maps of a node differ, with its tables or without.
    pub(crate) fn difference(
        &mut self,
        node: NodeId,
        with_tables: bool,
    ) -> Result<Option<String>, BackendError> {
        let tables: &[&str] = if with_tables { &LOADED } else { &[] };
        let (kernel, vm) = (self.kernel.node(node)?.0, self.vm.node(node)?);
        let mut difference = None;
        for map in WRITTEN.iter().chain(tables) {
            let rows = (kernel.rows(map)?, vm.rows(map)?);
            difference = difference.or_else(|| rows_differ(map, rows.0, rows.1));
        }
        let all = |map| (0..vm.entries(map)).map(move |at| (map, at));
        let counted: Vec<(&str, u32)> = if with_tables {
            COUNTED.into_iter().flat_map(all).collect()
        } else {
            decode::counter_indices_of(self.hook).map(|at| (abi::maps::COUNTERS, at)).collect()
        };
        for (map, index) in counted {
            let (one, other) = (kernel.per_cpu(map, index)?, vm.per_cpu(map, index)?);
            if is_zero(&one) && is_zero(&other) {
                continue;
            }
            let (one, other) = (sum(&one), sum(&other));
            if one != other {
                difference.get_or_insert(format!("map {map} at {index}\n{one:?}\n{other:?}"));
            }
        }
        let (one, other) = (kernel.per_cpu(SEAM, 0)?, vm.per_cpu(SEAM, 0)?);
        // The CPU that ran last has it; this thread may have been moved there from another one.
        if !other.iter().all(|seam| one.iter().any(|one| one.starts_with(seam))) {
            difference.get_or_insert(format!("map {SEAM} at 0\n{one:02x?}\n{other:02x?}"));
        }
        Ok(difference)
    }
}

/// The first row that only one of them has, with what the other has there.
fn rows_differ(map: &str, kernel: Vec<Row>, vm: Vec<Row>) -> Option<String> {
    if kernel == vm {
        return None;
    }
    let (kernel, vm) = (sorted(kernel), sorted(vm));
    let odd = kernel.iter().find(|row| vm.binary_search(row).is_err());
    let (key, _) = odd.or_else(|| vm.iter().find(|row| kernel.binary_search(row).is_err()))?;
    let value = |rows: &[Row]| {
        let row = rows.iter().find(|(other, _)| other == key);
        row.map_or("no entry".to_owned(), |(_, value)| format!("{value:02x?}"))
    };
    Some(format!("map {map} at {key:02x?}\n{}\n{}", value(&kernel), value(&vm)))
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_unstable();
    rows
}

/// Whether nothing was counted, as of most reasons.
fn is_zero(values: &[Vec<u8>]) -> bool {
    values.iter().all(|value| ZERO.starts_with(value))
}

/// Counts of all CPUs together.
fn sum(values: &[Vec<u8>]) -> Vec<u64> {
    let mut sums = Vec::new();
    for value in values {
        let (words, _) = value.as_chunks::<8>();
        sums.resize(words.len().max(sums.len()), 0);
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = u64::wrapping_add(*sum, u64::from_le_bytes(*word));
        }
    }
    sums
}

impl Backend for Both {
    fn name(&self) -> String {
        format!("{} and {}", self.kernel.name(), self.vm.name())
    }

    fn load(&mut self, tables: &Tables) -> Result<(), BackendError> {
        let (kernel, vm) = (self.kernel.load(tables), self.vm.load(tables));
        if self.generation != Some(tables.generation) {
            self.generation = Some(tables.generation);
            self.seen.clear();
        }
        self.same("loading", kernel, vm)
    }

    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        self.hook = injection.hook;
        let (kernel, vm) = (self.kernel.inject(injection), self.vm.inject(injection));
        if self.may_have_forgotten(injection.node) {
            return kernel;
        }
        let only_kernel = kernel.is_ok() && matches!(vm, Err(BackendError::BadInjection(_)));
        let seen = self.same("a run", kernel, vm)?;
        if self.injected.is_multiple_of(self.period) && !only_kernel {
            self.compare(injection.node)?;
        }
        self.injected += 1;
        Ok(seen)
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        let (kernel, vm) = (self.kernel.forget(), self.vm.forget());
        self.same("forgetting", kernel, vm)
    }

    fn conntrack(&mut self, node: NodeId, now: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        let (kernel, vm) = (self.kernel.conntrack(node, now), self.vm.conntrack(node, now));
        if self.may_have_forgotten(node) {
            return kernel;
        }
        self.same("conntrack", kernel, vm)
    }

    fn is_full(&mut self, node: NodeId, is_v6: bool) -> Result<bool, BackendError> {
        self.kernel.is_full(node, is_v6)
    }

    fn beside(&mut self, node: NodeId) -> Result<Option<Beside>, BackendError> {
        self.kernel.beside(node)
    }

    fn remembered(&mut self, node: NodeId) -> Result<Vec<Remembered>, BackendError> {
        self.kernel.remembered(node)
    }

    fn remember(&mut self, node: NodeId, flows: &[Remembered]) -> Result<(), BackendError> {
        let (kernel, vm) = (self.kernel.remember(node, flows), self.vm.remember(node, flows));
        self.same("bringing flows", kernel, vm)
    }

    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError> {
        let (kernel, vm) = (self.kernel.counters(node), self.vm.counters(node));
        self.same("counters", kernel, vm)
    }

    fn hits(&mut self, node: NodeId) -> Result<Vec<Hit>, BackendError> {
        let (kernel, vm) = (self.kernel.hits(node), self.vm.hits(node));
        self.same("hits", kernel, vm)
    }
}
