//! Every access of a program to memory: finds what a pointer points into, checks bounds, reads or writes.

use super::fault::Why;
use super::instruction::{Atomic, Width};
use super::machine::Machine;
use super::value::{Region, Value};

/// The number at the beginning of some bytes, which hold at least its width.
#[inline]
pub(super) fn number(bytes: &[u8], width: Width) -> u64 {
    match width {
        Width::W1 => bytes.first().copied().unwrap_or_default().into(),
        Width::W2 => bytes.first_chunk().map_or(0, |b| u16::from_le_bytes(*b)).into(),
        Width::W4 => bytes.first_chunk().map_or(0, |b| u32::from_le_bytes(*b)).into(),
        Width::W8 => bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b)),
    }
}

/// Puts a number at the beginning of some bytes, which hold at least its width.
#[inline]
pub(super) fn put_number(bytes: &mut [u8], width: Width, number: u64) {
    let all = number.to_le_bytes();
    match width {
        Width::W1 => put::<1>(bytes, all),
        Width::W2 => put::<2>(bytes, all),
        Width::W4 => put::<4>(bytes, all),
        Width::W8 => put::<8>(bytes, all),
    }
}

#[inline]
fn put<const N: usize>(bytes: &mut [u8], all: [u8; 8]) {
    if let (Some(place), Some(low)) = (bytes.first_chunk_mut::<N>(), all.first_chunk::<N>()) {
        *place = *low;
    }
}

/// A part of a region's bytes.
#[inline]
fn range(pointer: Value, offset: i64, length: usize, size: usize) -> Result<usize, Why> {
    match usize::try_from(offset) {
        Ok(start) if start <= size && length <= size - start => Ok(start),
        _ => Err(Why::OutOfBounds { pointer, offset, length, size }),
    }
}

impl Machine {
    /// Bytes that a pointer leads to; of the stack only such as belong to no pointer.
    pub fn bytes(&self, pointer: Value, length: usize) -> Result<&[u8], Why> {
        let offset = pointer.offset();
        let (region, size) = match pointer.region {
            Region::Stack { frame } => return self.stack.bytes(frame, offset, length),
            Region::Packet { epoch } if epoch != self.skb.epoch => return Err(Why::Stale),
            Region::Packet { .. } => (&self.skb.bytes[..], self.skb.linear),
            Region::MapValue { map, slot } => {
                let value = self.maps.get(usize::from(map)).and_then(|map| map.value(slot));
                let value = value.ok_or(Why::NoPointer(pointer))?;
                (value, value.len())
            }
            Region::Record { map, id } => {
                let ring = self.maps.get(usize::from(map)).and_then(|map| map.ring());
                let record = ring.and_then(|ring| ring.bytes(id)).ok_or(Why::NoPointer(pointer))?;
                (record, record.len())
            }
            _ => return Err(Why::NoPointer(pointer)),
        };
        let start = range(pointer, offset, length, size)?;
        Ok(&region[start..start + length])
    }

    /// The same to overwrite. Pointers that lie there are gone.
    pub(super) fn bytes_mut(&mut self, pointer: Value, length: usize) -> Result<&mut [u8], Why> {
        let offset = pointer.offset();
        let (region, size) = match pointer.region {
            Region::Stack { frame } => return self.stack.bytes_mut(frame, offset, length),
            Region::Packet { epoch } if epoch != self.skb.epoch => return Err(Why::Stale),
            Region::Packet { .. } => (&mut self.skb.bytes[..], self.skb.linear),
            Region::MapValue { map, slot } => {
                let map = self.maps.get_mut(usize::from(map));
                let value = map.and_then(|map| map.value_mut(slot));
                let value = value.ok_or(Why::NoPointer(pointer))?;
                let size = value.len();
                (value, size)
            }
            Region::Record { map, id } => {
                let ring = self.maps.get_mut(usize::from(map)).and_then(|map| map.ring_mut());
                let record = ring.and_then(|ring| ring.bytes_mut(id));
                let record = record.ok_or(Why::NoPointer(pointer))?;
                let size = record.len();
                (record, size)
            }
            _ => return Err(Why::NoPointer(pointer)),
        };
        let start = range(pointer, offset, length, size)?;
        Ok(&mut region[start..start + length])
    }

    /// Reads a number, or a pointer from the stack or the context.
    #[inline]
    pub(super) fn load(&self, base: Value, off: i16, width: Width) -> Result<Value, Why> {
        let at = base.offset().wrapping_add(off.into());
        match base.region {
            Region::Stack { frame } => self.stack.load(frame, at, width),
            Region::Context => self.skb.field(at, width.bytes()),
            region => {
                let bytes = self.bytes(Value::new(region, at.cast_unsigned()), width.bytes())?;
                Ok(Value::number(number(bytes, width)))
            }
        }
    }

    /// Writes a number, or a pointer to the stack.
    #[inline]
    pub(super) fn store(
        &mut self,
        base: Value,
        off: i16,
        width: Width,
        value: Value,
    ) -> Result<(), Why> {
        let at = base.offset().wrapping_add(off.into());
        if let Region::Stack { frame } = base.region {
            return self.stack.store(frame, at, width, value);
        }
        if !value.is_number() {
            return Err(Why::PointerLeak(value));
        }
        if base.region == Region::Context {
            return self.skb.set_field(at, width.bytes(), value.bits);
        }
        let pointer = Value::new(base.region, at.cast_unsigned());
        put_number(self.bytes_mut(pointer, width.bytes())?, width, value.bits);
        Ok(())
    }

    /// Changes a number in one step, and returns what it was.
    pub(super) fn atomic(
        &mut self,
        base: Value,
        off: i16,
        width: Width,
        op: Atomic,
        (operand, expected): (u64, u64),
    ) -> Result<u64, Why> {
        let at = base.offset().wrapping_add(off.into());
        let length = width.bytes();
        if !width.divides(at) {
            return Err(Why::Misaligned { offset: at, length });
        }
        if matches!(base.region, Region::Packet { .. } | Region::Context) {
            return Err(Why::NoPointer(base));
        }
        let old = self.load(base, off, width)?;
        if !old.is_number() {
            return Err(Why::PartOfPointer);
        }
        let mask = if width == Width::W4 { u64::from(u32::MAX) } else { u64::MAX };
        let new = match op {
            Atomic::Add => old.bits.wrapping_add(operand),
            Atomic::Or => old.bits | operand,
            Atomic::And => old.bits & operand,
            Atomic::Xor => old.bits ^ operand,
            Atomic::Exchange => operand,
            Atomic::CompareExchange if old.bits == expected & mask => operand,
            Atomic::CompareExchange => old.bits,
        };
        self.store(base, off, width, Value::number(new))?;
        Ok(old.bits)
    }
}
