//! Hashes, with or without forgetting what was not used for longest.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::{EXIST, Errno, NO_EXIST};

/// Hashes keys by words. Keys are packets' and tables', a map is not shared, and a run must be the same every time,
/// so that no random seed is wanted.
#[derive(Clone, Copy, Default)]
pub(super) struct Words(u64);

impl Hasher for Words {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(last));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, length: usize) {
        self.write_u64(length as u64);
    }
}

/// Slots by key.
pub(super) type Index = HashMap<Box<[u8]>, u32, BuildHasherDefault<Words>>;

/// Values in slots that are taken, freed and taken again.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    size: usize,
    values: Vec<u8>,
    free: Vec<u32>,
}

impl Slots {
    pub(super) fn new(size: usize) -> Self {
        Self { size, values: Vec::new(), free: Vec::new() }
    }

    /// All slots of an array, all of them taken.
    pub(super) fn filled(size: usize, entries: usize, mut values: Vec<u8>) -> Self {
        values.resize(entries * size, 0);
        Self { size, values, free: Vec::new() }
    }

    /// The value in a slot.
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&[u8]> {
        let start = slot as usize * self.size;
        self.values.get(start..start + self.size)
    }

    /// The same to write.
    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut [u8]> {
        let start = slot as usize * self.size;
        self.values.get_mut(start..start + self.size)
    }

    /// Some bytes of a value, from an offset on; `None` beyond its ends.
    #[inline]
    pub(super) fn chunk<const N: usize>(&self, slot: u32, at: usize) -> Option<&[u8; N]> {
        let fits = at.checked_add(N).is_some_and(|end| end <= self.size);
        let start = slot as usize * self.size + at;
        if fits { self.values.get(start..)?.first_chunk() } else { None }
    }

    /// The same to write.
    #[inline]
    pub(super) fn chunk_mut<const N: usize>(
        &mut self,
        slot: u32,
        at: usize,
    ) -> Option<&mut [u8; N]> {
        let fits = at.checked_add(N).is_some_and(|end| end <= self.size);
        let start = slot as usize * self.size + at;
        if fits { self.values.get_mut(start..)?.first_chunk_mut() } else { None }
    }

    /// Takes a slot for a value.
    pub(super) fn take(&mut self, value: &[u8]) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.put(slot, value);
            return slot;
        }
        let slot = self.values.len() / self.size;
        self.values.extend_from_slice(value);
        u32::try_from(slot).unwrap_or(u32::MAX)
    }

    pub(super) fn put(&mut self, slot: u32, value: &[u8]) {
        if let Some(place) = self.get_mut(slot) {
            place.copy_from_slice(value);
        }
    }

    pub(super) fn free(&mut self, slot: u32) {
        self.free.push(slot);
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.free.clear();
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Hash {
    index: Index,
    /// By slot: when it was used last. Empty where nothing is ever forgotten.
    used: Vec<u64>,
    uses: u64,
    capacity: usize,
    forgets: bool,
}

impl Hash {
    pub(super) fn new(capacity: usize, forgets: bool) -> Self {
        Self { index: Index::default(), used: Vec::new(), uses: 0, capacity, forgets }
    }

    /// Looks a key up, which counts as a use of its entry.
    #[inline]
    pub(super) fn use_entry(&mut self, key: &[u8]) -> Option<u32> {
        let slot = *self.index.get(key)?;
        self.touch(slot);
        Some(slot)
    }

    fn touch(&mut self, slot: u32) {
        if self.forgets {
            self.uses += 1;
            let slot = slot as usize;
            if self.used.len() <= slot {
                self.used.resize(slot + 1, 0);
            }
            self.used[slot] = self.uses;
        }
    }

    pub(super) fn update(
        &mut self,
        slots: &mut Slots,
        (key, value): (&[u8], &[u8]),
        flags: u64,
    ) -> Result<(), Errno> {
        if let Some(slot) = self.index.get(key).copied() {
            if flags == NO_EXIST {
                return Err(Errno::EXIST);
            }
            slots.put(slot, value);
            self.touch(slot);
            return Ok(());
        }
        if flags == EXIST {
            return Err(Errno::NOENT);
        }
        if self.index.len() >= self.capacity {
            if !self.forgets {
                return Err(Errno::TOO_BIG);
            }
            self.forget_one(slots);
        }
        let slot = slots.take(value);
        self.index.insert(key.into(), slot);
        self.touch(slot);
        Ok(())
    }

    /// Forgets the entry that was not used for longest.
    fn forget_one(&mut self, slots: &mut Slots) {
        let used = |slot: u32| self.used.get(slot as usize).copied().unwrap_or_default();
        let oldest = self.index.iter().min_by_key(|(_, slot)| used(**slot));
        if let Some(key) = oldest.map(|(key, _)| key.clone())
            && let Some(slot) = self.index.remove(&key)
        {
            slots.free(slot);
        }
    }

    pub(super) fn delete(&mut self, slots: &mut Slots, key: &[u8]) -> Result<(), Errno> {
        let slot = self.index.remove(key).ok_or(Errno::NOENT)?;
        slots.free(slot);
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.index.clear();
    }

    pub(super) fn count(&self) -> usize {
        self.index.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&[u8], u32)> {
        let mut keys: Vec<_> = self.index.iter().map(|(key, slot)| (&**key, *slot)).collect();
        keys.sort_unstable_by_key(|(_, slot)| *slot);
        keys.into_iter()
    }
}
