//! Ring buffers: reserved, submitted and discarded records, and how many bytes they take until someone reads
//! them.

use super::Errno;

/// Bytes before every record.
const HEADER: u64 = 8;

/// Bytes of a record at most: the kernel keeps two bits of its length for other things.
const LONGEST: u64 = (u32::MAX >> 2) as u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reserved,
    Submitted,
    Discarded,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    start: usize,
    length: usize,
    state: State,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Ring {
    capacity: u64,
    /// Bytes ever written and ever read, headers included.
    produced: u64,
    consumed: u64,
    /// Records not yet read, and the number of the first.
    records: Vec<Record>,
    first: u32,
    data: Vec<u8>,
    /// How many are reserved now.
    reserved: usize,
}

impl Ring {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            capacity: capacity.into(),
            produced: 0,
            consumed: 0,
            records: Vec::new(),
            first: 0,
            data: Vec::new(),
            reserved: 0,
        }
    }

    /// Reserves a record and returns its number; `None` where it does not fit.
    pub fn reserve(&mut self, length: u64) -> Option<u32> {
        let taken = length.checked_add(HEADER)?.next_multiple_of(8);
        let produced = self.produced + taken;
        let fits =
            length <= LONGEST && taken <= self.capacity && produced - self.consumed < self.capacity;
        if !fits {
            return None;
        }
        self.produced = produced;
        let start = self.data.len();
        let length = usize::try_from(length).ok()?;
        self.data.resize(start + length, 0);
        let id = self.first.wrapping_add(u32::try_from(self.records.len()).ok()?);
        self.records.push(Record { start, length, state: State::Reserved });
        self.reserved += 1;
        Some(id)
    }

    fn record(&self, id: u32) -> Option<&Record> {
        let record = self.records.get(id.wrapping_sub(self.first) as usize);
        record.filter(|record| record.state == State::Reserved)
    }

    /// A reserved record's bytes.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        let record = self.record(id)?;
        self.data.get(record.start..record.start + record.length)
    }

    /// A reserved record's bytes, to write.
    pub fn bytes_mut(&mut self, id: u32) -> Option<&mut [u8]> {
        let record = *self.record(id)?;
        self.data.get_mut(record.start..record.start + record.length)
    }

    /// Where some bytes of a reserved record lie; `None` beyond its ends.
    #[inline]
    fn place<const N: usize>(&self, id: u32, at: usize) -> Option<usize> {
        let record = self.records.get(id.wrapping_sub(self.first) as usize)?;
        let fits = at <= record.length && N <= record.length - at;
        (record.state == State::Reserved && fits).then_some(record.start + at)
    }

    /// Some bytes of a reserved record; `None` beyond its ends.
    #[inline]
    pub(in crate::vm) fn chunk<const N: usize>(&self, id: u32, at: usize) -> Option<&[u8; N]> {
        let start = self.place::<N>(id, at)?;
        self.data.get(start..)?.first_chunk()
    }

    /// The same to write.
    #[inline]
    pub(in crate::vm) fn chunk_mut<const N: usize>(
        &mut self,
        id: u32,
        at: usize,
    ) -> Option<&mut [u8; N]> {
        let start = self.place::<N>(id, at)?;
        self.data.get_mut(start..)?.first_chunk_mut()
    }

    /// Submits a reserved record, or gives it up. False if it is not reserved.
    pub fn release(&mut self, id: u32, submit: bool) -> bool {
        let record = self.records.get_mut(id.wrapping_sub(self.first) as usize);
        let Some(record) = record.filter(|record| record.state == State::Reserved) else {
            return false;
        };
        record.state = if submit { State::Submitted } else { State::Discarded };
        self.reserved -= 1;
        true
    }

    /// Writes a record at once.
    pub fn output(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let id = self.reserve(bytes.len() as u64).ok_or(Errno::AGAIN)?;
        if let Some(place) = self.bytes_mut(id) {
            place.copy_from_slice(bytes);
        }
        self.release(id, true);
        Ok(())
    }

    /// How many records are reserved now.
    #[inline]
    pub fn reserved(&self) -> usize {
        self.reserved
    }

    /// Gives up every record that is still reserved.
    pub fn give_up(&mut self) {
        for record in &mut self.records {
            if record.state == State::Reserved {
                record.state = State::Discarded;
            }
        }
        self.reserved = 0;
    }

    /// Bytes not yet read, the size, and the positions of reader and writer, as `bpf_ringbuf_query` numbers them.
    pub fn query(&self, what: u64) -> u64 {
        match what {
            0 => self.produced - self.consumed,
            1 => self.capacity,
            2 => self.consumed,
            3 => self.produced,
            _ => 0,
        }
    }

    /// Reads the submitted records up to the first that is still reserved.
    pub fn consume(&mut self, mut read: impl FnMut(&[u8])) {
        let busy = self.records.iter().position(|record| record.state == State::Reserved);
        let count = busy.unwrap_or(self.records.len());
        for record in &self.records[..count] {
            if record.state == State::Submitted {
                read(&self.data[record.start..record.start + record.length]);
            }
            self.consumed += (record.length as u64 + HEADER).next_multiple_of(8);
        }
        self.records.drain(..count);
        self.first = self.first.wrapping_add(u32::try_from(count).unwrap_or(u32::MAX));
        if self.records.is_empty() {
            self.data.clear();
        }
    }
}
