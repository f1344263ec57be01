//! The short way through what programs do most: instructions laid out so that one look says what to do. An
//! operation here does all that `machine` would do, or nothing, and `machine` then does it in full or says what is
//! wrong with it. Finds no fault itself.

use super::instruction::{Alu, Condition, Instruction, Operand, Swap, Width};
use super::machine::Machine;
use super::observer::Observer;
use super::value::{Region, Value};
use super::{alu, stack};

/// An instruction on the short way: as [`Instruction`] names it, with the kind of its second operand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Quick {
    /// There is only the long way.
    None,
    Number {
        dst: u8,
        number: u64,
    },
    WideNumber {
        dst: u8,
        number: u64,
    },
    Map {
        dst: u8,
        map: u16,
    },
    Move {
        dst: u8,
        src: u8,
    },
    AddNumber {
        dst: u8,
        number: u64,
    },
    AndNumber {
        dst: u8,
        number: u64,
    },
    OrNumber {
        dst: u8,
        number: u64,
    },
    LeftNumber {
        dst: u8,
        number: u64,
    },
    RightNumber {
        dst: u8,
        number: u64,
    },
    Add {
        dst: u8,
        src: u8,
    },
    Or {
        dst: u8,
        src: u8,
    },
    Compute {
        op: Alu,
        dst: u8,
        src: u8,
    },
    Swap {
        order: Swap,
        dst: u8,
        bits: u8,
    },
    Load1 {
        dst: u8,
        base: u8,
        off: i16,
    },
    Load2 {
        dst: u8,
        base: u8,
        off: i16,
    },
    Load4 {
        dst: u8,
        base: u8,
        off: i16,
    },
    Load8 {
        dst: u8,
        base: u8,
        off: i16,
    },
    Store1 {
        base: u8,
        src: u8,
        off: i16,
    },
    Store2 {
        base: u8,
        src: u8,
        off: i16,
    },
    Store4 {
        base: u8,
        src: u8,
        off: i16,
    },
    Store8 {
        base: u8,
        src: u8,
        off: i16,
    },
    Goto {
        target: u32,
    },
    IfEqual {
        dst: u8,
        number: i32,
        target: u32,
    },
    IfOther {
        dst: u8,
        number: i32,
        target: u32,
    },
    IfNumber {
        condition: Condition,
        dst: u8,
        number: i32,
        target: u32,
    },
    If {
        condition: Condition,
        dst: u8,
        src: u8,
        target: u32,
    },
}

const _: () = assert!(size_of::<Quick>() == 16);

impl Quick {
    /// How an instruction is run.
    pub(super) fn of(instruction: &Instruction) -> Self {
        match *instruction {
            Instruction::Constant { dst, value: Value { region, bits } } => match region {
                Region::Number => Self::WideNumber { dst, number: bits },
                Region::Map(map) => Self::Map { dst, map },
                _ => Self::None,
            },
            Instruction::Alu { wide: true, op, dst, operand: Operand::Immediate(number) } => {
                Self::with_number(op, dst, i64::from(number).cast_unsigned())
            }
            Instruction::Alu { wide: true, op, dst, operand: Operand::Register(src) } => match op {
                Alu::Mov => Self::Move { dst, src },
                Alu::Add => Self::Add { dst, src },
                Alu::Or => Self::Or { dst, src },
                Alu::MovSx8 | Alu::MovSx16 | Alu::MovSx32 => Self::None,
                _ => Self::Compute { op, dst, src },
            },
            Instruction::Load { width, signed: false, dst, base, off } => match width {
                Width::W1 => Self::Load1 { dst, base, off },
                Width::W2 => Self::Load2 { dst, base, off },
                Width::W4 => Self::Load4 { dst, base, off },
                Width::W8 => Self::Load8 { dst, base, off },
            },
            Instruction::Store { width, base, off, operand: Operand::Register(src) } => match width
            {
                Width::W1 => Self::Store1 { base, src, off },
                Width::W2 => Self::Store2 { base, src, off },
                Width::W4 => Self::Store4 { base, src, off },
                Width::W8 => Self::Store8 { base, src, off },
            },
            Instruction::Swap { order, dst, bits } => Self::Swap { order, dst, bits },
            Instruction::Goto { target } => Self::Goto { target },
            Instruction::Jump { wide: true, condition, dst, operand, target } => match operand {
                Operand::Register(src) => Self::If { condition, dst, src, target },
                Operand::Immediate(number) => match condition {
                    Condition::Eq => Self::IfEqual { dst, number, target },
                    Condition::Ne => Self::IfOther { dst, number, target },
                    _ => Self::IfNumber { condition, dst, number, target },
                },
            },
            _ => Self::None,
        }
    }

    fn with_number(op: Alu, dst: u8, number: u64) -> Self {
        match op {
            Alu::Mov => Self::Number { dst, number },
            Alu::Add => Self::AddNumber { dst, number },
            Alu::Sub => Self::AddNumber { dst, number: number.wrapping_neg() },
            Alu::And => Self::AndNumber { dst, number },
            Alu::Or => Self::OrNumber { dst, number },
            Alu::Lsh => Self::LeftNumber { dst, number },
            Alu::Rsh => Self::RightNumber { dst, number },
            _ => Self::None,
        }
    }
}

/// An immediate as 64 bits.
#[inline]
fn extended(number: i32) -> u64 {
    i64::from(number).cast_unsigned()
}

// Parts of registers are read and written on their own: a whole one that was just written in parts would be slow to
// read.
impl Machine {
    #[inline]
    fn at(&self, register: u8) -> &Value {
        &self.registers[usize::from(register & 15)]
    }

    #[inline]
    fn at_mut(&mut self, register: u8) -> &mut Value {
        &mut self.registers[usize::from(register & 15)]
    }

    /// Runs the instruction at a place, which is the one that is next, and says which is then; `None` if nothing
    /// was done.
    #[inline]
    pub(super) fn hurry(
        &mut self,
        quick: &Quick,
        pc: usize,
        observer: &mut impl Observer,
    ) -> Option<usize> {
        let done = match *quick {
            Quick::None => false,
            Quick::Number { dst, number } => self.put(dst, Value::number(number)),
            // These two take two places.
            Quick::WideNumber { dst, number } => {
                self.put(dst, Value::number(number));
                return Some(pc + 2);
            }
            Quick::Map { dst, map } => {
                self.put(dst, Value::new(Region::Map(map), 0));
                return Some(pc + 2);
            }
            Quick::Move { dst, src } => match self.at(src).region {
                Region::Unset => false,
                Region::Number => self.put(dst, Value::number(self.at(src).bits)),
                _ => self.put(dst, *self.at(src)),
            },
            Quick::AddNumber { dst, number } => self.add(dst, number),
            Quick::AndNumber { dst, number } => self.number(dst, |a| a & number),
            Quick::OrNumber { dst, number } => self.number(dst, |a| a | number),
            Quick::LeftNumber { dst, number } => self.number(dst, |a| a << (number & 63)),
            Quick::RightNumber { dst, number } => self.number(dst, |a| a >> (number & 63)),
            Quick::Add { dst, src } => self.numbers(dst, src, u64::wrapping_add),
            Quick::Or { dst, src } => self.numbers(dst, src, |a, b| a | b),
            Quick::Compute { op, dst, src } => self.numbers(dst, src, |a, b| alu::wide(op, a, b)),
            Quick::Swap { order, dst, bits } => {
                self.number(dst, |value| alu::swap(order, value, bits))
            }
            Quick::Load1 { dst, base, off } => self.fetch::<1>(dst, base, off),
            Quick::Load2 { dst, base, off } => self.fetch::<2>(dst, base, off),
            Quick::Load4 { dst, base, off } => self.fetch::<4>(dst, base, off),
            Quick::Load8 { dst, base, off } => self.fetch::<8>(dst, base, off),
            Quick::Store1 { base, src, off } => self.keep::<1>(base, off, src, observer),
            Quick::Store2 { base, src, off } => self.keep::<2>(base, off, src, observer),
            Quick::Store4 { base, src, off } => self.keep::<4>(base, off, src, observer),
            Quick::Store8 { base, src, off } => self.keep::<8>(base, off, src, observer),
            Quick::Goto { target } => return Some(target as usize),
            Quick::IfEqual { dst, number, target } => {
                let taken = self.is_equal(dst, number)?;
                return Some(self.branch(taken, pc, target, observer));
            }
            Quick::IfOther { dst, number, target } => {
                let taken = !self.is_equal(dst, number)?;
                return Some(self.branch(taken, pc, target, observer));
            }
            Quick::IfNumber { condition, dst, number, target } => {
                let Value { region: Region::Number, bits } = *self.at(dst) else { return None };
                let taken = alu::holds(condition, bits, extended(number));
                return Some(self.branch(taken, pc, target, observer));
            }
            Quick::If { condition, dst, src, target } => {
                let Value { region: Region::Number, bits: a } = *self.at(dst) else { return None };
                let Value { region: Region::Number, bits: b } = *self.at(src) else { return None };
                let taken = alu::holds(condition, a, b);
                return Some(self.branch(taken, pc, target, observer));
            }
        };
        done.then_some(pc + 1)
    }

    #[inline]
    fn put(&mut self, register: u8, value: Value) -> bool {
        self.registers[usize::from(register & 15)] = value;
        true
    }

    /// Adds to a number, or to a pointer that may be moved.
    #[inline]
    fn add(&mut self, dst: u8, number: u64) -> bool {
        let value = self.at_mut(dst);
        match value.region {
            Region::Unset | Region::Map(_) | Region::PacketEnd { .. } => false,
            _ => {
                value.bits = value.bits.wrapping_add(number);
                true
            }
        }
    }

    #[inline]
    fn number(&mut self, dst: u8, compute: impl FnOnce(u64) -> u64) -> bool {
        let value = self.at_mut(dst);
        if value.region != Region::Number {
            return false;
        }
        value.bits = compute(value.bits);
        true
    }

    #[inline]
    fn numbers(&mut self, dst: u8, src: u8, compute: impl FnOnce(u64, u64) -> u64) -> bool {
        let Value { region: Region::Number, bits } = *self.at(src) else { return false };
        self.number(dst, |a| compute(a, bits))
    }

    /// Whether a register equals a number: a pointer is other than 0, and that is all that can be said of one.
    #[inline]
    fn is_equal(&self, register: u8, number: i32) -> Option<bool> {
        let value = self.at(register);
        match value.region {
            Region::Number => Some(value.bits == extended(number)),
            Region::Unset => None,
            _ => (number == 0).then_some(false),
        }
    }

    #[inline]
    fn branch(&self, taken: bool, pc: usize, target: u32, observer: &mut impl Observer) -> usize {
        observer.branched(self.program, pc, taken);
        if taken { target as usize } else { pc + 1 }
    }

    /// Loads what lies plainly where a pointer leads.
    #[inline]
    fn fetch<const N: usize>(&mut self, dst: u8, base: u8, off: i16) -> bool {
        let pointer = self.at(base);
        let at = pointer.bits.wrapping_add_signed(off.into());
        let Ok(start) = usize::try_from(at) else { return false };
        let bytes = match pointer.region {
            Region::Stack { frame } => {
                let found = self.stack.fetch::<N>(frame, start);
                let Some(value) = found else { return false };
                return self.put(dst, value);
            }
            Region::MapValue { map, slot } => {
                self.maps.get(usize::from(map)).and_then(|map| map.chunk::<N>(slot, start))
            }
            Region::Packet { epoch } if epoch == self.skb.epoch => self.skb.chunk::<N>(start),
            Region::Record { map, id } => {
                let ring = self.maps.get(usize::from(map)).and_then(|map| map.ring());
                ring.and_then(|ring| ring.chunk::<N>(id, start))
            }
            Region::Context => {
                let Ok(value) = self.skb.field(at.cast_signed(), N) else { return false };
                return self.put(dst, value);
            }
            _ => None,
        };
        let Some(bytes) = bytes else { return false };
        let value = Value::number(stack::widened(bytes));
        self.put(dst, value)
    }

    /// Stores where a pointer plainly leads.
    #[inline]
    fn keep<const N: usize>(
        &mut self,
        base: u8,
        off: i16,
        src: u8,
        observer: &mut impl Observer,
    ) -> bool {
        let pointer = self.at(base);
        let (region, at) = (pointer.region, pointer.bits.wrapping_add_signed(off.into()));
        let Ok(start) = usize::try_from(at) else { return false };
        let Value { region: Region::Number, bits } = *self.at(src) else {
            return N == 8 && self.keep_pointer(Value::new(region, at), start, src, observer);
        };
        let place = match region {
            Region::Stack { frame } => self.stack.place::<N>(frame, start),
            Region::MapValue { map, slot } => {
                self.maps.get_mut(usize::from(map)).and_then(|map| map.chunk_mut::<N>(slot, start))
            }
            Region::Packet { epoch } if epoch == self.skb.epoch => self.skb.chunk_mut::<N>(start),
            Region::Record { map, id } => {
                let ring = self.maps.get_mut(usize::from(map)).and_then(|map| map.ring_mut());
                ring.and_then(|ring| ring.chunk_mut::<N>(id, start))
            }
            _ => None,
        };
        let Some(place) = place else { return false };
        observer.storing(Value::new(region, at), N, Value::number(bits));
        *place = stack::narrowed(bits);
        true
    }

    /// The same of a pointer, which only the stack takes.
    fn keep_pointer(
        &mut self,
        target: Value,
        start: usize,
        src: u8,
        observer: &mut impl Observer,
    ) -> bool {
        let value = *self.at(src);
        let Region::Stack { frame } = target.region else { return false };
        let Some(place) = self.stack.place_of_pointer(frame, start, value.region) else {
            return false;
        };
        observer.storing(target, 8, value);
        *place = value.bits.to_le_bytes();
        true
    }
}
