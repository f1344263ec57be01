//! Conntrack's rows on their way from one backend to another: the same bytes, with generations that both sides
//! understand.

use datapath_abi as abi;
use engine::backend::{BackendError, Remembered};
use engine::tables::Generation;
use zerocopy::{FromBytes, IntoBytes};

use super::{Change, Node};

/// The conntrack map of a family.
fn map_of(is_v6: bool) -> &'static str {
    if is_v6 { abi::maps::CT6 } else { abi::maps::CT4 }
}

/// What a node remembers, with every generation translated; one without a translation is 0, which counts for nothing.
pub(super) fn read(
    node: &impl Node,
    translate: impl Fn(u32) -> Option<Generation>,
) -> Result<Vec<Remembered>, BackendError> {
    let number = |number| translate(number).map_or(0, |generation| generation.0);
    let mut flows = Vec::new();
    for is_v6 in [false, true] {
        for (key, value) in node.rows(map_of(is_v6))? {
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
        node.change(map_of(flow.is_v6), &[Change::Put(&flow.key, &value)])?;
    }
    Ok(())
}

/// A value with other numbers of generations; 0 stays 0.
fn translated(value: &[u8], number: impl Fn(u32) -> u32) -> Result<Vec<u8>, BackendError> {
    let mut value = abi::CtValue::read_from_bytes(value)
        .map_err(|_| BackendError::BadEvent(format!("a flow of {} bytes", value.len())))?;
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
            ..abi::CtValue::default()
        };
        let bytes = translated(value.as_bytes(), |old| if old == 3 { 9 } else { 0 }).unwrap();
        let read = abi::CtValue::read_from_bytes(&bytes).unwrap();
        assert_eq!(read.paths, [9 << 32 | 7, 0]);
        assert_eq!(read.legs, [leg(9), abi::CtLeg::default()]);
        assert!(translated(&bytes[1..], |old| old).is_err());
    }
}
