//! Filling the two slots of a node's maps: only what differs from what was there is written. Knows rows as bytes
//! and not what they mean.

use std::rc::Rc;

use datapath_abi as abi;
use engine::backend::BackendError;
use zerocopy::{Immutable, IntoBytes};

use super::Capacity;
use crate::encode::Slot;

/// A change of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// The row is to be there: key and value.
    Put(&'a [u8], &'a [u8]),
    /// No row of the key is to be there; it need not be there before.
    Remove(&'a [u8]),
}

/// Maps that rows are written to.
pub(crate) trait Maps {
    /// Changes rows of one map, in order.
    fn change(&mut self, map: &str, changes: &[Change<'_>]) -> Result<(), BackendError>;

    /// Writes one row.
    fn put<K, V>(&mut self, map: &str, key: &K, value: &V) -> Result<(), BackendError>
    where
        K: IntoBytes + Immutable,
        V: IntoBytes + Immutable,
    {
        self.change(map, &[Change::Put(key.as_bytes(), value.as_bytes())])
    }
}

/// What is known to be in the slots of a node.
#[derive(Clone, Default)]
pub(crate) struct Slots([Contents; 2]);

/// What is known to be in a slot: nothing, one node's tables, or, after a failure, parts of several.
#[derive(Clone, Default)]
struct Contents {
    parts: Vec<Rc<Slot>>,
    /// Whether the last part is there in full.
    is_whole: bool,
}

impl Slots {
    /// Writes a slot. `capacity` is that of the node.
    pub(super) fn fill(
        &mut self,
        slot: &Rc<Slot>,
        capacity: Capacity,
        maps: &mut impl Maps,
    ) -> Result<(), BackendError> {
        let contents = &mut self.0[(slot.number & 1) as usize];
        let is_whole = std::mem::replace(&mut contents.is_whole, false);
        let before = contents.parts.clone();
        contents.parts.push(Rc::clone(slot));
        write(slot, capacity, &before, is_whole, maps)?;
        *contents = Contents { parts: vec![Rc::clone(slot)], is_whole: true };
        Ok(())
    }
}

fn write(
    slot: &Slot,
    capacity: Capacity,
    before: &[Rc<Slot>],
    is_whole: bool,
    maps: &mut impl Maps,
) -> Result<(), BackendError> {
    let known = before.last().filter(|_| is_whole);
    let target_base = capacity.target_base(slot.number);
    let indices: Vec<u32> = (target_base..).take(slot.targets.len()).collect();
    let odd = indices.iter().zip(&slot.targets).enumerate().filter(|(place, (_, target))| {
        known.and_then(|known| known.targets.get(*place)) != Some(*target)
    });
    let changes: Vec<_> = odd
        .map(|(_, (index, target))| Change::Put(super::index_key(index), target.as_bytes()))
        .collect();
    maps.change(abi::maps::TARGETS, &changes)?;
    let before = |rows: fn(&Slot) -> Rows<'_>| before.iter().map(|part| rows(part)).collect();
    for (name, rows) in [
        (abi::maps::IPCACHE, ipcache as fn(&Slot) -> Rows<'_>),
        (abi::maps::ATTACHMENTS, attachments),
        (abi::maps::POLICY, policy),
    ] {
        let parts: Vec<Rows<'_>> = before(rows);
        maps.change(name, &changes_to(&rows(slot), &parts, is_whole))?;
    }
    let settings = abi::Settings { target_base, ..slot.settings };
    maps.put(abi::maps::SETTINGS, &(slot.number & 1), &settings)
}

/// Rows of one map as bytes.
type Rows<'a> = Vec<(&'a [u8], &'a [u8])>;

fn bytes<K, V>(rows: &[(K, V)]) -> Rows<'_>
where
    K: IntoBytes + Immutable,
    V: IntoBytes + Immutable,
{
    rows.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect()
}

fn ipcache(slot: &Slot) -> Rows<'_> {
    bytes(&slot.ipcache)
}

fn attachments(slot: &Slot) -> Rows<'_> {
    bytes(&slot.attachments)
}

fn policy(slot: &Slot) -> Rows<'_> {
    bytes(&slot.policy)
}

/// What makes a map's rows of one slot what they shall be. `before`: what may be there, each part sorted; if
/// `is_whole`, the last part is exactly what is there.
fn changes_to<'a>(rows: &Rows<'a>, before: &[Rows<'a>], is_whole: bool) -> Vec<Change<'a>> {
    let find = |rows: &Rows<'_>, key: &[u8]| rows.binary_search_by(|row| row.0.cmp(key)).ok();
    let gone = before.iter().flatten().filter(|(key, _)| find(rows, key).is_none());
    let mut changes: Vec<_> = gone.map(|(key, _)| Change::Remove(key)).collect();
    let known = before.last().filter(|_| is_whole);
    for (key, value) in rows {
        let old = known.and_then(|known| find(known, key).map(|at| known[at].1));
        if old != Some(*value) {
            changes.push(Change::Put(key, value));
        }
    }
    changes
}
