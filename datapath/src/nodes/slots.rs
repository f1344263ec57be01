//! Filling the two slots of a node's maps: only what differs from what was there is written. Knows rows as bytes
//! and not what they mean.

use std::ops::Range;
use std::rc::Rc;

use datapath_abi as abi;
use engine::backend::BackendError;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Capacity, Row, base};
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

    /// The rows of a map.
    fn rows(&self, map: &str) -> Result<Vec<Row>, BackendError>;

    /// Makes entries of a per-CPU array 0.
    fn clear(&mut self, map: &str, indices: Range<u32>) -> Result<(), BackendError>;

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
    parts: Vec<Rc<Placed>>,
    /// Whether the last part is there in full.
    is_whole: bool,
    /// Whether packets may have been counted since it was filled.
    was_asked: bool,
    /// Whether rows of another process may be there too.
    is_foreign: bool,
}

impl Slots {
    /// Writes a slot. `capacity` is that of the node.
    pub(crate) fn fill(
        &mut self,
        slot: &Rc<Slot>,
        capacity: Capacity,
        maps: &mut impl Maps,
    ) -> Result<(), BackendError> {
        let contents = &mut self.0[(slot.number & 1) as usize];
        if contents.is_foreign {
            empty(slot.number, capacity, maps)?;
            *contents = Contents::default();
        }
        if contents.was_asked {
            let ends = contents.parts.iter().map(|part| part.hits_end());
            let first = base(slot.number, capacity.hits);
            maps.clear(abi::maps::HITS, first..first + ends.max().unwrap_or(0))?;
            contents.was_asked = false;
        }
        let is_whole = std::mem::replace(&mut contents.is_whole, false);
        let before = contents.parts.clone();
        let placed = Rc::new(Placed::new(slot, capacity));
        contents.parts.push(Rc::clone(&placed));
        write(&placed, capacity, &before, is_whole, maps)?;
        *contents = Contents { parts: vec![placed], is_whole: true, ..Contents::default() };
        Ok(())
    }

    /// The slot is active, and another process filled it; what is in the other one is not known.
    pub(crate) fn adopt(&mut self, slot: &Rc<Slot>, capacity: Capacity) {
        let number = (slot.number & 1) as usize;
        let parts = vec![Rc::new(Placed::new(slot, capacity))];
        self.0[number] = Contents { parts, is_whole: true, was_asked: true, ..Contents::default() };
        self.0[1 - number] = Contents { is_foreign: true, ..Contents::default() };
    }

    /// A packet may run that sees the slot of a generation, by its number.
    pub(crate) fn asked(&mut self, number: u32) {
        self.0[(number & 1) as usize].was_asked = true;
    }
}

/// A slot with indices as they are in a node's maps.
struct Placed {
    slot: Rc<Slot>,
    settings: abi::Settings,
    targets: Vec<abi::Target>,
    services: Vec<(abi::ServiceKey, abi::ServiceValue)>,
    members: Vec<(abi::MemberKey, u32)>,
}

impl Placed {
    fn new(slot: &Rc<Slot>, capacity: Capacity) -> Self {
        let of = |half| base(slot.number, half);
        let (hits, backends, maglev) =
            (of(capacity.hits), of(capacity.backends), of(capacity.maglev));
        let counted = |first| if first == 0 { 0 } else { hits + first };
        let target = |target: &abi::Target| abi::Target {
            egress_hits: counted(target.egress_hits),
            ingress_hits: counted(target.ingress_hits),
            ..*target
        };
        let service = |(key, value): &(abi::ServiceKey, abi::ServiceValue)| {
            let value = abi::ServiceValue {
                internal_first: backends + value.internal_first,
                external_first: backends + value.external_first,
                maglev: maglev + value.maglev,
                ..*value
            };
            (*key, value)
        };
        let member = |(key, value): &(abi::MemberKey, u32)| {
            (abi::MemberKey { first: backends + key.first, ..*key }, *value)
        };
        let mut members: Vec<_> = slot.members.iter().map(member).collect();
        // The order of the bytes of a sum is not that of the numbers that were added to.
        members.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        Self {
            settings: abi::Settings { target_base: of(capacity.targets), ..slot.settings },
            targets: slot.targets.iter().map(target).collect(),
            services: slot.services.iter().map(service).collect(),
            members,
            slot: Rc::clone(slot),
        }
    }

    /// One past the last index of the slot's part of `HITS`.
    fn hits_end(&self) -> u32 {
        self.slot.hits.last().map_or(0, |last| last.first + last.count)
    }
}

fn write(
    placed: &Placed,
    capacity: Capacity,
    before: &[Rc<Placed>],
    is_whole: bool,
    maps: &mut impl Maps,
) -> Result<(), BackendError> {
    let known = before.last().filter(|_| is_whole).map(Rc::as_ref);
    let (slot, number) = (&placed.slot, placed.slot.number);
    let at = |half| base(number, half);
    let old = known.map(|known| &known.targets[..]);
    write_array(maps, abi::maps::TARGETS, at(capacity.targets), &placed.targets, old)?;
    let old = known.map(|known| &known.slot.backends[..]);
    write_array(maps, abi::maps::BACKENDS, at(capacity.backends), &slot.backends, old)?;
    let old = known.map(|known| &known.slot.maglev[..]);
    write_array(maps, abi::maps::MAGLEV, at(capacity.maglev), &slot.maglev, old)?;
    for (name, rows) in KEYED {
        let parts: Vec<Rows<'_>> = before.iter().map(|part| rows(part)).collect();
        maps.change(name, &changes_to(&rows(placed), &parts, is_whole))?;
    }
    maps.put(abi::maps::SETTINGS, &(number & 1), &placed.settings)
}

/// Writes what differs of an array's rows.
fn write_array<T: IntoBytes + Immutable + PartialEq>(
    maps: &mut impl Maps,
    name: &str,
    base: u32,
    rows: &[T],
    known: Option<&[T]>,
) -> Result<(), BackendError> {
    let indices: Vec<u32> = (base..).take(rows.len()).collect();
    let odd = indices
        .iter()
        .zip(rows)
        .enumerate()
        .filter(|(place, (_, row))| known.and_then(|known| known.get(*place)) != Some(*row));
    let changes: Vec<_> =
        odd.map(|(_, (index, row))| Change::Put(super::index_key(index), row.as_bytes())).collect();
    maps.change(name, &changes)
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

/// A map's rows of a slot.
type RowsOf = fn(&Placed) -> Rows<'_>;

/// Maps whose rows have keys that name the slot, and their rows.
const KEYED: [(&str, RowsOf); 8] = [
    (abi::maps::IPCACHE, |placed| bytes(&placed.slot.ipcache)),
    (abi::maps::ATTACHMENTS, |placed| bytes(&placed.slot.attachments)),
    (abi::maps::POLICY, |placed| bytes(&placed.slot.policy)),
    (abi::maps::SERVICES, |placed| bytes(&placed.services)),
    (abi::maps::MEMBERS, |placed| bytes(&placed.members)),
    (abi::maps::SOURCE_RANGES, |placed| bytes(&placed.slot.source_ranges)),
    (abi::maps::UNMASQUERADED, |placed| bytes(&placed.slot.unmasqueraded)),
    (abi::maps::PREFILTERED, |placed| bytes(&placed.slot.prefiltered)),
];

/// Removes whatever is in a slot, and makes its counts 0.
fn empty(number: u32, capacity: Capacity, maps: &mut impl Maps) -> Result<(), BackendError> {
    for (map, _) in KEYED {
        let rows = maps.rows(map)?;
        let its = rows.iter().filter(|(key, _)| slot_of(map, key, capacity) == Some(number & 1));
        let changes: Vec<_> = its.map(|(key, _)| Change::Remove(key)).collect();
        maps.change(map, &changes)?;
    }
    let first = base(number, capacity.hits);
    maps.clear(abi::maps::HITS, first..first + capacity.hits)
}

/// The slot that a row of a keyed map is of, by its key.
fn slot_of(map: &str, key: &[u8], capacity: Capacity) -> Option<u32> {
    match map {
        abi::maps::ATTACHMENTS => abi::AttachmentKey::read_from_bytes(key).ok().map(|key| key.slot),
        abi::maps::POLICY => abi::PolicyKey::read_from_bytes(key).ok().map(|key| key.table & 1),
        abi::maps::SERVICES => {
            abi::ServiceKey::read_from_bytes(key).ok().map(|key| u32::from(key.slot))
        }
        abi::maps::MEMBERS => {
            let key = abi::MemberKey::read_from_bytes(key).ok()?;
            Some(u32::from(key.first >= base(1, capacity.backends)))
        }
        abi::maps::SOURCE_RANGES => {
            abi::SourceRangeKey::read_from_bytes(key).ok().map(|key| u32::from(key.slot))
        }
        _ => abi::IpcacheKey::read_from_bytes(key).ok().map(|key| u32::from(key.slot)),
    }
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
