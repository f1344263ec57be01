//! What packets left behind on its way from one backend to another: the same bytes, with generations that both sides
//! understand. Which map a row is of follows from its family and from the size of its value.

use datapath_abi as abi;
use engine::backend::{BackendError, Beside, Remembered};
use engine::tables::Generation;
use zerocopy::{FromBytes, IntoBytes};

use super::{BRIEF, Change, Node, REMEMBERING, Row};
use crate::decode;

/// The map of a row, if it is of any.
fn map_of(row: &Remembered) -> Option<&'static str> {
    match (row.value.len(), row.is_v6) {
        (FLOW, false) => Some(abi::maps::CT4),
        (FLOW, true) => Some(abi::maps::CT6),
        (CLIENT, _) => Some(abi::maps::AFFINITY),
        (PIECE, _) => Some(abi::maps::FRAGMENTS),
        _ => None,
    }
}

/// Copies what packets left behind from one node's maps to another's.
pub(crate) fn inherit_flows<N: Node>(new: &mut N, old: &N) -> Result<(), BackendError> {
    for name in REMEMBERING {
        let rows = old.rows(name)?;
        let changes: Vec<_> = rows.iter().map(|(key, value)| Change::Put(key, value)).collect();
        new.change(name, &changes)?;
    }
    Ok(())
}

/// What a node remembers beside flows, and whether it has room for more.
pub(super) fn beside(node: &impl Node) -> Result<Beside, BackendError> {
    let (clients, datagrams) = (node.rows(abi::maps::AFFINITY)?, node.rows(abi::maps::FRAGMENTS)?);
    let unused = node.unused()?;
    let is_full = |rows: &[Row]| rows.len() + unused >= BRIEF as usize;
    let client = |(key, _): &Row| decode::client(key);
    let datagram = |(key, _): &Row| decode::datagram(key);
    Ok(Beside {
        is_full_of_clients: is_full(&clients),
        is_full_of_datagrams: is_full(&datagrams),
        clients: clients.iter().map(client).collect::<Result<_, _>>()?,
        datagrams: datagrams.iter().map(datagram).collect::<Result<_, _>>()?,
    })
}

/// Bytes of a value of conntrack.
const FLOW: usize = size_of::<abi::CtValue>();
/// Bytes of a value of `AFFINITY`.
const CLIENT: usize = size_of::<abi::AffinityValue>();
/// Bytes of a value of `FRAGMENTS`.
const PIECE: usize = size_of::<abi::FragmentValue>();

/// Whether a row of a map is of IPv6.
fn is_v6(map: &str, key: &[u8]) -> bool {
    let family = match map {
        abi::maps::CT4 => Some(abi::family::V4),
        abi::maps::CT6 => Some(abi::family::V6),
        abi::maps::AFFINITY => abi::AffinityKey::read_from_bytes(key).ok().map(|key| key.family),
        _ => abi::FragmentKey::read_from_bytes(key).ok().map(|key| key.family),
    };
    family == Some(abi::family::V6)
}

/// What a node remembers, with every generation translated; one without a translation is 0, which counts for nothing.
pub(super) fn read(
    node: &impl Node,
    translate: impl Fn(u32) -> Option<Generation>,
) -> Result<Vec<Remembered>, BackendError> {
    let number = |number| translate(number).map_or(0, |generation| generation.0);
    let mut flows = Vec::new();
    for map in REMEMBERING {
        for (key, value) in node.rows(map)? {
            let is_v6 = is_v6(map, &key);
            flows.push(Remembered { is_v6, key, value: translated(&value, number)? });
        }
    }
    Ok(flows)
}

/// Writes what was remembered elsewhere.
pub(super) fn write(
    node: &mut impl Node,
    flows: &[Remembered],
    translate: impl Fn(Generation) -> Option<u32>,
) -> Result<(), BackendError> {
    let number = |number| translate(Generation(number)).unwrap_or(0);
    for flow in flows {
        let value = translated(&flow.value, number)?;
        let map = map_of(flow).ok_or_else(|| unknown(&flow.value))?;
        node.change(map, &[Change::Put(&flow.key, &value)])?;
    }
    Ok(())
}

fn unknown(value: &[u8]) -> BackendError {
    BackendError::BadEvent(format!("a flow of {} bytes", value.len()))
}

/// A value with other numbers of generations; 0 stays 0. Only flows have any.
fn translated(value: &[u8], number: impl Fn(u32) -> u32) -> Result<Vec<u8>, BackendError> {
    if [CLIENT, PIECE].contains(&value.len()) {
        return Ok(value.to_vec());
    }
    let mut value = abi::CtValue::read_from_bytes(value).map_err(|_| unknown(value))?;
    let number = |old: u32| if old == 0 { 0 } else { number(old) };
    for path in &mut value.paths {
        let (generation, target) = ((*path >> 32) as u32, *path & u64::from(u32::MAX));
        let generation = number(generation);
        *path = if generation == 0 { 0 } else { u64::from(generation) << 32 | target };
    }
    for leg in &mut value.legs {
        leg.generation = number(leg.generation);
        if leg.generation == 0 {
            *leg = abi::CtLeg::default();
        }
    }
    value.nat_generation = number(value.nat_generation);
    Ok(value.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_translated_and_unknown_ones_count_for_nothing() {
        let leg = |generation| abi::CtLeg { generation, entry: 5, ..abi::CtLeg::default() };
        let value = abi::CtValue {
            paths: [3 << 32 | 7, 4 << 32 | 8],
            legs: [leg(3), leg(4)],
            nat_generation: 3,
            ..abi::CtValue::default()
        };
        let bytes = translated(value.as_bytes(), |old| if old == 3 { 9 } else { 0 }).unwrap();
        let read = abi::CtValue::read_from_bytes(&bytes).unwrap();
        assert_eq!(read.paths, [9 << 32 | 7, 0]);
        assert_eq!(read.legs, [leg(9), abi::CtLeg::default()]);
        assert_eq!(read.nat_generation, 9);
        let bytes = translated(&bytes, |_| 0).unwrap();
        assert_eq!(abi::CtValue::read_from_bytes(&bytes).unwrap().nat_generation, 0);
        assert!(translated(&bytes[1..], |old| old).is_err());
    }

    #[test]
    fn a_row_is_of_the_map_that_its_size_says() {
        let row = |is_v6, size| Remembered { is_v6, key: Vec::new(), value: vec![0; size] };
        for (is_v6, size, map) in [
            (false, 152, Some(abi::maps::CT4)),
            (true, 152, Some(abi::maps::CT6)),
            (true, 32, Some(abi::maps::AFFINITY)),
            (false, 4, Some(abi::maps::FRAGMENTS)),
            (false, 5, None),
        ] {
            assert_eq!(map_of(&row(is_v6, size)), map);
        }
        let key = |family| abi::AffinityKey {
            client: [1; 16],
            frontend: [2; 16],
            port: [0, 80],
            family,
            protocol: 6,
            reserved: [0; 4],
        };
        assert!(is_v6(abi::maps::AFFINITY, key(abi::family::V6).as_bytes()));
        assert!(!is_v6(abi::maps::AFFINITY, key(abi::family::V4).as_bytes()));
        assert!(is_v6(abi::maps::CT6, &[]) && !is_v6(abi::maps::CT4, &[]));
        assert_eq!(translated(&[7; 4], |_| 0), Ok(vec![7; 4]));
    }
}
