//! Maps with the kernel's behaviour, limits and errors. A value is reached by its slot, which stays the same
//! for as long as its entry is there. One CPU: a per-CPU map has one value an entry. Which entry a full LRU hash
//! forgets is the one thing that is not the kernel's: here the one not used for longest.

mod hash;
mod ring;
mod trie;

use std::fmt;

pub use hash::Hash;
use hash::Slots;
pub use ring::Ring;
pub use trie::Trie;

/// An error number of the kernel, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// No such entry.
    pub const NOENT: Self = Self(2);
    /// No room (hashes), or an index beyond the end (arrays).
    pub const TOO_BIG: Self = Self(7);
    /// Try again.
    pub const AGAIN: Self = Self(11);
    /// No memory.
    pub const NOMEM: Self = Self(12);
    /// A bad address.
    pub const FAULT: Self = Self(14);
    /// The entry is there already.
    pub const EXIST: Self = Self(17);
    /// An argument that makes no sense.
    pub const INVAL: Self = Self(22);
    /// No room (tries).
    pub const NOSPC: Self = Self(28);
    /// Another protocol.
    pub const PROTO: Self = Self(71);
    /// Not supported.
    pub const NOTSUPP: Self = Self(524);

    /// As helpers return it.
    pub fn returned(self) -> u64 {
        i64::from(-self.0).cast_unsigned()
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::NOENT => "no such entry",
            Self::TOO_BIG => "no room",
            Self::NOMEM => "no memory",
            Self::EXIST => "the entry is there already",
            Self::INVAL => "an argument makes no sense",
            Self::NOSPC => "no space",
            _ => "refused",
        };
        write!(f, "{text} (error {})", self.0)
    }
}

/// Flag of an update: any entry.
pub const ANY: u64 = 0;
/// Flag of an update: only a new entry.
pub const NO_EXIST: u64 = 1;
/// Flag of an update: only an entry that is there.
pub const EXIST: u64 = 2;
/// Flag of an update: under the value's lock. No value has one here.
const LOCK: u64 = 4;

/// Bytes that an array may take. The kernel has no limit but its memory.
const LARGEST_ARRAY: usize = 1 << 30;
/// What a program takes in an array of them.
const PROGRAM_SIZE: usize = size_of::<Option<u32>>();

/// Kinds of maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `BPF_MAP_TYPE_HASH`
    Hash,
    /// `BPF_MAP_TYPE_ARRAY`
    Array,
    /// `BPF_MAP_TYPE_PROG_ARRAY`
    ProgramArray,
    /// `BPF_MAP_TYPE_PERCPU_HASH`
    PerCpuHash,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`
    PerCpuArray,
    /// `BPF_MAP_TYPE_LRU_HASH`
    LruHash,
    /// `BPF_MAP_TYPE_LPM_TRIE`
    LpmTrie,
    /// `BPF_MAP_TYPE_HASH_OF_MAPS`: values are numbers of maps.
    HashOfMaps,
    /// `BPF_MAP_TYPE_RINGBUF`
    RingBuffer,
}

impl Kind {
    /// The kind of the kernel's number.
    pub fn of(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Hash,
            2 => Self::Array,
            3 => Self::ProgramArray,
            5 => Self::PerCpuHash,
            6 => Self::PerCpuArray,
            9 => Self::LruHash,
            11 => Self::LpmTrie,
            13 => Self::HashOfMaps,
            27 => Self::RingBuffer,
            _ => return None,
        })
    }
}

/// What a map is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Bytes of a key.
    pub key_size: usize,
    /// Bytes of a value.
    pub value_size: usize,
    /// Entries at most; bytes of a ring buffer.
    pub capacity: u32,
    /// What it holds at first: globals.
    pub contents: Vec<u8>,
}

/// A map.
#[derive(Clone, Debug)]
pub struct Map {
    definition: Definition,
    /// The values, where it has any.
    slots: Slots,
    storage: Storage,
}

/// How a map keeps its entries.
#[derive(Clone, Debug)]
enum Storage {
    /// A slot is an index.
    Array,
    /// Programs by index.
    Programs(Vec<Option<u32>>),
    Hash(Hash),
    Trie(Trie),
    Ring(Ring),
}

impl Map {
    /// An empty map. An error where the kernel would make none.
    pub fn new(definition: Definition) -> Result<Self, Errno> {
        let Definition { kind, key_size, value_size, capacity, .. } = definition;
        let entries = capacity as usize;
        // An array takes its memory at once.
        let memory = entries.checked_mul(value_size.max(PROGRAM_SIZE));
        let is_array = matches!(kind, Kind::Array | Kind::PerCpuArray | Kind::ProgramArray);
        if is_array && memory.is_none_or(|memory| memory > LARGEST_ARRAY) {
            return Err(Errno::NOMEM);
        }
        let mut slots = Slots::new(value_size);
        let storage = match kind {
            _ if capacity == 0 => return Err(Errno::INVAL),
            Kind::Array | Kind::PerCpuArray if key_size == 4 && value_size > 0 => {
                slots = Slots::filled(value_size, entries, definition.contents.clone());
                Storage::Array
            }
            Kind::ProgramArray if key_size == 4 && value_size == 4 => {
                Storage::Programs(vec![None; entries])
            }
            Kind::Hash | Kind::PerCpuHash | Kind::LruHash if key_size > 0 && value_size > 0 => {
                Storage::Hash(Hash::new(entries, kind == Kind::LruHash))
            }
            Kind::HashOfMaps if key_size > 0 && value_size == 4 => {
                Storage::Hash(Hash::new(entries, false))
            }
            Kind::LpmTrie if (5..=260).contains(&key_size) && value_size > 0 => {
                Storage::Trie(Trie::new(key_size, entries))
            }
            Kind::RingBuffer if capacity.is_power_of_two() && capacity >= 4096 => {
                Storage::Ring(Ring::new(capacity))
            }
            _ => return Err(Errno::INVAL),
        };
        Ok(Self { definition, slots, storage })
    }

    /// What it is like.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The slot of a key's entry. The use of an entry counts for what an LRU hash forgets.
    #[inline]
    pub fn look_up(&mut self, key: &[u8]) -> Option<u32> {
        match &mut self.storage {
            Storage::Array => self.index(key),
            Storage::Hash(hash) => hash.use_entry(key),
            Storage::Trie(trie) => trie.look_up(key),
            Storage::Programs(_) | Storage::Ring(_) => None,
        }
    }

    /// The value of exactly this key, without a use of it.
    pub fn peek(&self, key: &[u8]) -> Option<&[u8]> {
        let slot = match &self.storage {
            Storage::Array => self.index(key),
            Storage::Hash(hash) => hash.keys().find(|(known, _)| *known == key).map(|(_, s)| s),
            Storage::Trie(trie) => trie.keys().find(|(known, _)| *known == key).map(|(_, s)| s),
            Storage::Programs(_) | Storage::Ring(_) => None,
        };
        self.value(slot?)
    }

    /// The index that an array's key is, if it is within.
    #[inline]
    fn index(&self, key: &[u8]) -> Option<u32> {
        let index = key.first_chunk().map(|key| u32::from_le_bytes(*key))?;
        (index < self.definition.capacity).then_some(index)
    }

    /// The value in a slot.
    #[inline]
    pub fn value(&self, slot: u32) -> Option<&[u8]> {
        self.slots.get(slot)
    }

    /// The value in a slot, to write.
    #[inline]
    pub fn value_mut(&mut self, slot: u32) -> Option<&mut [u8]> {
        self.slots.get_mut(slot)
    }

    /// Some bytes of the value in a slot; `None` beyond its ends.
    #[inline]
    pub(super) fn chunk<const N: usize>(&self, slot: u32, at: usize) -> Option<&[u8; N]> {
        self.slots.chunk(slot, at)
    }

    /// The same to write.
    #[inline]
    pub(super) fn chunk_mut<const N: usize>(
        &mut self,
        slot: u32,
        at: usize,
    ) -> Option<&mut [u8; N]> {
        self.slots.chunk_mut(slot, at)
    }

    /// Writes an entry, as the kernel's update does.
    pub fn update(&mut self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        let Definition { key_size, value_size, .. } = self.definition;
        if key.len() != key_size || value.len() != value_size {
            return Err(Errno::INVAL);
        }
        let index = self.index(key);
        match &mut self.storage {
            Storage::Ring(_) => Err(Errno::NOTSUPP),
            // An array asks for its index and for `NO_EXIST` before it says that values have no lock.
            Storage::Array if flags & !LOCK > EXIST => Err(Errno::INVAL),
            Storage::Array => self.update_array(index, value, flags),
            _ if flags > EXIST => Err(Errno::INVAL),
            Storage::Hash(hash) => hash.update(&mut self.slots, (key, value), flags),
            Storage::Trie(trie) => trie.update(&mut self.slots, (key, value), flags),
            Storage::Programs(programs) => {
                let place = index.and_then(|index| programs.get_mut(index as usize));
                let program = value.first_chunk().map(|value| u32::from_le_bytes(*value));
                *place.ok_or(Errno::TOO_BIG)? = program;
                Ok(())
            }
        }
    }

    fn update_array(&mut self, index: Option<u32>, value: &[u8], flags: u64) -> Result<(), Errno> {
        let index = index.ok_or(Errno::TOO_BIG)?;
        if flags & NO_EXIST != 0 {
            return Err(Errno::EXIST);
        }
        if flags & LOCK != 0 {
            return Err(Errno::INVAL);
        }
        if let Some(place) = self.value_mut(index) {
            place.copy_from_slice(value);
        }
        Ok(())
    }

    /// Removes an entry, as the kernel's deletion does.
    pub fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        let index = self.index(key);
        match &mut self.storage {
            Storage::Hash(hash) => hash.delete(&mut self.slots, key),
            Storage::Trie(trie) => trie.delete(&mut self.slots, key),
            Storage::Array => Err(Errno::INVAL),
            Storage::Ring(_) => Err(Errno::NOTSUPP),
            Storage::Programs(programs) => {
                let Some(place) = index.and_then(|index| programs.get_mut(index as usize)) else {
                    return Err(Errno::TOO_BIG);
                };
                place.take().map(|_| ()).ok_or(Errno::NOENT)
            }
        }
    }

    /// The program at an index of a program array.
    pub fn program(&self, index: u32) -> Option<u32> {
        match &self.storage {
            Storage::Programs(programs) => programs.get(index as usize).copied().flatten(),
            _ => None,
        }
    }

    /// The ring buffer that it is.
    #[inline]
    pub fn ring(&self) -> Option<&Ring> {
        match &self.storage {
            Storage::Ring(ring) => Some(ring),
            _ => None,
        }
    }

    /// The ring buffer that it is, to write.
    #[inline]
    pub fn ring_mut(&mut self) -> Option<&mut Ring> {
        match &mut self.storage {
            Storage::Ring(ring) => Some(ring),
            _ => None,
        }
    }

    /// Its keys and values: a hash's in the order in which their slots were taken, a trie's by prefix length, an
    /// array's by index.
    pub fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let value = |slot| self.value(slot).unwrap_or_default().to_vec();
        let keyed = |(key, slot): (&[u8], u32)| (key.to_vec(), value(slot));
        match &self.storage {
            Storage::Array => (0..self.definition.capacity)
                .map(|index| (index.to_le_bytes().to_vec(), value(index)))
                .collect(),
            Storage::Programs(programs) => (0_u32..)
                .zip(programs)
                .filter_map(|(index, program)| {
                    Some((index.to_le_bytes().to_vec(), (*program)?.to_le_bytes().to_vec()))
                })
                .collect(),
            Storage::Hash(hash) => hash.keys().map(keyed).collect(),
            Storage::Trie(trie) => trie.keys().map(keyed).collect(),
            Storage::Ring(_) => Vec::new(),
        }
    }

    /// How many entries a hash or a trie has; 0 of the others.
    pub fn count(&self) -> usize {
        match &self.storage {
            Storage::Hash(hash) => hash.count(),
            Storage::Trie(trie) => trie.count(),
            Storage::Array | Storage::Programs(_) | Storage::Ring(_) => 0,
        }
    }

    /// Forgets every entry of a hash.
    pub fn clear(&mut self) {
        if let Storage::Hash(hash) = &mut self.storage {
            hash.clear();
            self.slots.clear();
        }
    }
}

#[cfg(test)]
mod tests;
