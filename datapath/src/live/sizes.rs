//! Maps by what their size depends on, and how large those are that are pinned. Opens nothing.

use std::collections::BTreeMap;

use datapath_abi as abi;
use engine::backend::BackendError;
use libbpf_rs::{MapCore, MapHandle};

use crate::nodes::Capacity;
use crate::object::absent;

/// Maps whose size depends on the tables. Those that remember flows have the size that the object gives.
pub(super) const MAPS: [&str; 11] = [
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

/// Maps that stay where programs with larger tables take the place of others: what is remembered and counted, what programs are told, and
/// what they tell to whoever listens. Their size does not depend on the tables.
pub(super) const LASTING: [&str; 9] = [
    abi::maps::CT4,
    abi::maps::CT6,
    abi::maps::AFFINITY,
    abi::maps::FRAGMENTS,
    abi::maps::COUNTERS,
    abi::maps::CONFIG,
    abi::maps::FILTER,
    abi::maps::EVENTS,
    abi::maps::LOST,
];

/// How large pinned maps are.
pub(super) fn capacity_of(maps: &BTreeMap<String, MapHandle>) -> Result<Capacity, BackendError> {
    let half = |name: &str| {
        let map = maps.get(name).ok_or_else(|| absent(&format!("pinned map {name}")))?;
        Ok::<_, BackendError>(map.max_entries() / 2)
    };
    Ok(Capacity {
        targets: half(abi::maps::TARGETS)?,
        services: half(abi::maps::SERVICES)?,
        backends: half(abi::maps::BACKENDS)?,
        maglev: half(abi::maps::MAGLEV)?,
        hits: half(abi::maps::HITS)?,
    })
}
