//! Rows of what services lead to: frontends, the sets of backends that they choose from, and the sources that may use
//! them.

use datapath_abi as abi;
use engine::backend::BackendError;
use engine::tables::{BackendSet, Frontend, FrontendKind, NodeTables};
use engine::topology::Balancing;
use ipnet::IpNet;
use zerocopy::FromZeros;

use super::{Limits, address_bytes, contradiction, count, distinct, family, room, sorted};

/// See the module.
pub(super) struct Services {
    pub(super) frontends: Vec<(abi::ServiceKey, abi::ServiceValue)>,
    pub(super) backends: Vec<abi::Backend>,
    pub(super) members: Vec<(abi::MemberKey, u32)>,
    pub(super) maglev: Vec<abi::MaglevTable>,
    pub(super) source_ranges: Vec<(abi::SourceRangeKey, u32)>,
}

/// Where a set of backends lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Set {
    first: u32,
    count: u32,
    maglev: Option<u32>,
}

impl Services {
    pub(super) fn of(
        tables: &NodeTables,
        slot: u32,
        limits: &Limits,
    ) -> Result<Self, BackendError> {
        room(abi::maps::SERVICES, tables.frontends.len(), limits.services)?;
        let backends: usize = tables.backend_sets.iter().map(|set| set.backends.len()).sum();
        room(abi::maps::BACKENDS, backends, limits.backends)?;
        let with_tables = tables.backend_sets.iter().filter(|set| !set.maglev.is_empty()).count();
        room(abi::maps::MAGLEV, with_tables, limits.maglev)?;
        let mut backends = Vec::with_capacity(backends);
        let mut maglev = Vec::with_capacity(with_tables);
        let mut members = Vec::new();
        let mut sets = Vec::with_capacity(tables.backend_sets.len());
        for set in &tables.backend_sets {
            let (first, length) = (count(backends.len())?, count(set.backends.len())?);
            backends.extend(set.backends.iter().map(backend));
            members.extend(backends.iter().skip(first as usize).map(|backend| abi::MemberKey {
                first,
                port: backend.port,
                reserved: [0; 2],
                address: backend.address,
            }));
            let table = if set.maglev.is_empty() { None } else { Some(count(maglev.len())?) };
            if table.is_some() {
                maglev.push(maglev_table(set)?);
            }
            sets.push(Set { first, count: length, maglev: table });
        }
        let frontends = tables.frontends.iter();
        let frontends = frontends.map(|frontend| row(frontend, &sets, slot));
        let source_ranges = distinct(tables.frontends.iter().flat_map(|frontend| {
            let ranges = frontend.source_ranges.iter();
            ranges.map(move |range| range_key(frontend, *range, slot))
        }));
        room(abi::maps::SOURCE_RANGES, source_ranges.len(), limits.prefixes)?;
        Ok(Self {
            frontends: sorted(abi::maps::SERVICES, frontends)?,
            backends,
            // Pods of a node's own network may share address and port.
            members: distinct(members.into_iter()),
            maglev,
            source_ranges,
        })
    }
}

fn backend(entry: &engine::tables::BackendEntry) -> abi::Backend {
    abi::Backend {
        address: address_bytes(entry.place.address),
        port: entry.place.port.to_be_bytes(),
        reserved: [0; 6],
    }
}

fn maglev_table(set: &BackendSet) -> Result<abi::MaglevTable, BackendError> {
    let mut table = abi::MaglevTable::new_zeroed();
    let is_within = |position: &u16| usize::from(*position) < set.backends.len();
    if set.maglev.len() != abi::MAGLEV_SIZE as usize || !set.maglev.iter().all(is_within) {
        return Err(contradiction("a Maglev table that is not one of its set".to_owned()));
    }
    for (place, position) in table.positions.iter_mut().zip(&set.maglev) {
        *place = *position;
    }
    Ok(table)
}

/// The row of a frontend.
fn row(
    frontend: &Frontend,
    sets: &[Set],
    slot: u32,
) -> Result<(abi::ServiceKey, abi::ServiceValue), BackendError> {
    let place = frontend.place;
    let set = |index: u32| {
        let found = sets.get(index as usize).copied();
        found.ok_or_else(|| contradiction(format!("frontend {place} has no backends {index}")))
    };
    if frontend.entry.0 == 0 {
        return Err(contradiction(format!("frontend 0 at {place}")));
    }
    let for_cluster = frontend.kind == FrontendKind::ClusterIp;
    let internal = set(frontend.internal)?;
    let external = if for_cluster { Set::default() } else { set(frontend.external)? };
    let maglev = external.maglev.filter(|_| frontend.balancing == Balancing::Maglev);
    let flags = [
        (abi::service::CLUSTER_IP, for_cluster),
        (abi::service::SOURCE_RANGES, !frontend.source_ranges.is_empty()),
        (abi::service::MAGLEV, maglev.is_some()),
    ];
    let flags =
        flags.into_iter().filter(|(_, is_set)| *is_set).fold(0, |all, (flag, _)| all | flag);
    let key = abi::ServiceKey {
        slot: u8::from(slot != 0),
        family: family(place.address),
        protocol: frontend.protocol.number(),
        reserved: 0,
        port: place.port.to_be_bytes(),
        reserved_too: [0; 2],
        address: address_bytes(place.address),
    };
    let value = abi::ServiceValue {
        entry: frontend.entry.0,
        flags,
        internal_first: internal.first,
        internal_count: internal.count,
        external_first: external.first,
        external_count: external.count,
        affinity: frontend.affinity.unwrap_or(0),
        maglev: maglev.unwrap_or(0),
    };
    Ok((key, value))
}

fn range_key(frontend: &Frontend, range: IpNet, slot: u32) -> abi::SourceRangeKey {
    let range = range.trunc();
    abi::SourceRangeKey {
        prefixlen: abi::SOURCE_RANGE_STATIC_BITS + u32::from(range.prefix_len()),
        entry: frontend.entry.0,
        slot: u8::from(slot != 0),
        family: family(range.addr()),
        reserved: [0; 2],
        address: address_bytes(range.addr()),
    }
}
