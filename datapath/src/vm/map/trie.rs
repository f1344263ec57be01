//! Longest-prefix matching. A key is four bytes of prefix length and the bits; entries are kept by their
//! length, so that a look-up asks once for each length in use.

use std::collections::BTreeMap;

use super::hash::{Index, Slots};
use super::{EXIST, Errno, NO_EXIST};

/// Bytes of the prefix length.
const LENGTH: usize = 4;
/// Bytes of a key at most: the length and 256 of bits.
const LONGEST: usize = LENGTH + 256;

/// See the module.
#[derive(Clone, Debug)]
pub struct Trie {
    /// By key, with bits beyond the prefix cleared.
    index: Index,
    /// How many entries have each length.
    lengths: BTreeMap<u32, usize>,
    /// Those lengths, longest first.
    order: Vec<u32>,
    key_size: usize,
    capacity: usize,
}

/// A key with the bits beyond its prefix cleared.
struct Masked {
    bytes: [u8; LONGEST],
    size: usize,
}

impl Masked {
    #[inline]
    fn new(key: &[u8]) -> Self {
        let mut bytes = [0; LONGEST];
        let size = key.len().min(LONGEST);
        bytes[..size].copy_from_slice(&key[..size]);
        Self { bytes, size }
    }

    /// Shortens the prefix.
    #[inline]
    fn shorten(&mut self, length: u32) {
        self.bytes[..LENGTH].copy_from_slice(&length.to_le_bytes());
        let (whole, bits) = (LENGTH + length as usize / 8, length % 8);
        if whole < self.size {
            self.bytes[whole] &= !(0xFF >> bits);
            self.bytes[whole + 1..self.size].fill(0);
        }
    }

    #[inline]
    fn key(&self) -> &[u8] {
        &self.bytes[..self.size]
    }
}

impl Trie {
    pub(super) fn new(key_size: usize, capacity: usize) -> Self {
        Self {
            index: Index::default(),
            lengths: BTreeMap::new(),
            order: Vec::new(),
            key_size,
            capacity,
        }
    }

    /// The prefix length of a key, if the trie can hold it.
    #[inline]
    fn length_of(&self, key: &[u8]) -> Option<u32> {
        let length = key.first_chunk().map(|length| u32::from_le_bytes(*length))?;
        let fits = key.len() == self.key_size && length as usize <= (self.key_size - LENGTH) * 8;
        fits.then_some(length)
    }

    #[inline]
    pub(super) fn look_up(&self, key: &[u8]) -> Option<u32> {
        let most = self.length_of(key)?;
        let mut masked = Masked::new(key);
        for length in self.order.iter().filter(|length| **length <= most) {
            masked.shorten(*length);
            if let Some(slot) = self.index.get(masked.key()) {
                return Some(*slot);
            }
        }
        None
    }

    pub(super) fn update(
        &mut self,
        slots: &mut Slots,
        (key, value): (&[u8], &[u8]),
        flags: u64,
    ) -> Result<(), Errno> {
        let length = self.length_of(key).ok_or(Errno::INVAL)?;
        let mut masked = Masked::new(key);
        masked.shorten(length);
        if let Some(slot) = self.index.get(masked.key()).copied() {
            if flags == NO_EXIST {
                return Err(Errno::EXIST);
            }
            slots.put(slot, value);
            return Ok(());
        }
        if flags == EXIST {
            return Err(Errno::NOENT);
        }
        if self.index.len() >= self.capacity {
            return Err(Errno::NOSPC);
        }
        let slot = slots.take(value);
        self.index.insert(masked.key().into(), slot);
        *self.lengths.entry(length).or_default() += 1;
        self.list_lengths();
        Ok(())
    }

    pub(super) fn delete(&mut self, slots: &mut Slots, key: &[u8]) -> Result<(), Errno> {
        let length = self.length_of(key).ok_or(Errno::INVAL)?;
        let mut masked = Masked::new(key);
        masked.shorten(length);
        let slot = self.index.remove(masked.key()).ok_or(Errno::NOENT)?;
        slots.free(slot);
        if let Some(count) = self.lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
        self.list_lengths();
        Ok(())
    }

    fn list_lengths(&mut self) {
        if self.order.len() != self.lengths.len() {
            self.order = self.lengths.keys().rev().copied().collect();
        }
    }

    pub(super) fn count(&self) -> usize {
        self.index.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&[u8], u32)> {
        let mut keys: Vec<_> = self.index.iter().map(|(key, slot)| (&**key, *slot)).collect();
        keys.sort_unstable();
        keys.into_iter()
    }
}
