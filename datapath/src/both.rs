//! Kernel and interpreter side by side: every packet runs through both, and what they say and leave behind must be
//! the same. The kernel's answer is the one that is given.

use datapath_abi as abi;
use engine::backend::{Backend, BackendError, Injection, Observation};
use engine::tables::Tables;
use engine::topology::NodeId;
use engine::trace::{ConntrackEntry, Counter};

use crate::encode::Limits;
use crate::nodes::{FLOWS, LIMITS, Node as _, Row};
use crate::testrun::TestRun;
use crate::vm::Vm;

/// Maps that programs write.
const WRITTEN: [&str; 2] = [abi::maps::CT4, abi::maps::CT6];
/// Per-CPU arrays that programs write, and how many of their entries. `SCRATCH` is not among them: it holds the
/// padding of structs, which is whatever lay on the stack before.
const COUNTED: [(&str, u32); 3] =
    [(abi::maps::COUNTERS, 512), (abi::maps::LOST, 1), (abi::maps::SEAM, 1)];
/// Maps that only loading writes.
const LOADED: [&str; 6] = [
    abi::maps::ACTIVE,
    abi::maps::SETTINGS,
    abi::maps::TARGETS,
    abi::maps::IPCACHE,
    abi::maps::ATTACHMENTS,
    abi::maps::POLICY,
];

/// Opens both. Errors are those of either.
pub fn open() -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(Both::open(LIMITS)?))
}

/// See the module.
pub(crate) struct Both {
    kernel: TestRun,
    vm: Vm,
    /// Maps are compared after one injection of so many.
    period: u64,
    injected: u64,
    /// Nodes whose tables are to be compared.
    unseen: std::collections::BTreeSet<NodeId>,
}

impl Both {
    pub(crate) fn open(limits: Limits) -> Result<Self, BackendError> {
        Ok(Self {
            kernel: TestRun::open(limits)?,
            vm: Vm::open(limits)?,
            period: 1,
            injected: 0,
            unseen: std::collections::BTreeSet::new(),
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
        let many = |map: &str| vm.count(map) > FLOWS as usize / 2;
        WRITTEN.iter().any(|map| many(map))
    }

    /// Compares what a node's maps hold.
    fn compare(&mut self, node: NodeId) -> Result<(), BackendError> {
        let loaded: &[&str] = if self.unseen.remove(&node) { &LOADED } else { &[] };
        let mut difference = None;
        {
            let (kernel, vm) = (self.kernel.node(node)?.0, self.vm.node(node)?);
            for map in WRITTEN.iter().chain(loaded) {
                let (one, other) = (sorted(kernel.rows(map)?), sorted(vm.rows(map)?));
                let odd = one.iter().find(|row| other.binary_search(row).is_err());
                let odd = odd.or_else(|| other.iter().find(|row| one.binary_search(row).is_err()));
                if let Some((key, value)) = odd {
                    difference = Some(format!("map {map} at {key:02x?}: {value:02x?}"));
                }
            }
            for (map, entries) in COUNTED {
                for index in 0..entries {
                    let (one, other) = (kernel.per_cpu(map, index)?, vm.per_cpu(map, index)?);
                    let (one, other) = (merged(&one), merged(&other));
                    if one != other {
                        difference =
                            Some(format!("map {map} at {index}: {one:02x?}\n{other:02x?}"));
                    }
                }
            }
        }
        difference.map_or(Ok(()), |what| Err(self.differ(what)))
    }
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_unstable();
    rows
}

/// The value of the CPU that ran: those of the others are 0. The kernel rounds sizes up to 8 bytes.
fn merged(values: &[Vec<u8>]) -> Vec<u8> {
    let longest = values.iter().map(Vec::len).max().unwrap_or(0);
    let mut merged = vec![0; longest.next_multiple_of(8)];
    for value in values {
        for (byte, more) in merged.iter_mut().zip(value) {
            *byte |= more;
        }
    }
    merged
}

impl Backend for Both {
    fn name(&self) -> String {
        format!("{} and {}", self.kernel.name(), self.vm.name())
    }

    fn load(&mut self, tables: &Tables) -> Result<(), BackendError> {
        let (kernel, vm) = (self.kernel.load(tables), self.vm.load(tables));
        self.unseen.extend(tables.nodes.iter().map(|node| node.node));
        self.same("loading", kernel, vm)
    }

    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
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

    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError> {
        let (kernel, vm) = (self.kernel.counters(node), self.vm.counters(node));
        self.same("counters", kernel, vm)
    }
}
