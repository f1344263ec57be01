//! The short way through what programs do most: instructions laid out so that one look says what to do. An
//! operation here does all that `machine` would do, or nothing, and `machine` then does it in full or says what is
//! wrong with it. Finds no fault itself.

use super::instruction::{Alu, Condition, Instruction, Operand, Width};
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

impl Machine {
    #[inline]
    fn at(&self, register: u8) -> Value {
        self.registers[usize::from(register & 15)]
    }

    /// Runs the instruction that is next. False if nothing was done.
    #[inline]
    pub(super) fn hurry(&mut self, quick: Quick, observer: &mut impl Observer) -> bool {
        match quick {
            Quick::None => return false,
            Quick::Number { dst, number } => self.put(dst, Value::number(number)),
            // These two take two places.
            Quick::WideNumber { dst, number } => {
                self.put(dst, Value::number(number));
                self.pc += 1;
            }
            Quick::Map { dst, map } => {
                self.put(dst, Value::new(Region::Map(map), 0));
                self.pc += 1;
            }
            Quick::Move { dst, src } => {
                let value = self.at(src);
                if value.region == Region::Unset {
                    return false;
                }
                self.put(dst, value);
            }
            Quick::AddNumber { dst, number } => {
                let Value { region, bits } = self.at(dst);
                if matches!(region, Region::Unset | Region::Map(_) | Region::PacketEnd { .. }) {
                    return false;
                }
                self.put(dst, Value::new(region, bits.wrapping_add(number)));
            }
            Quick::AndNumber { dst, number } => return self.number(dst, |a| a & number),
            Quick::OrNumber { dst, number } => return self.number(dst, |a| a | number),
            Quick::LeftNumber { dst, number } => return self.number(dst, |a| a << (number & 63)),
            Quick::RightNumber { dst, number } => return self.number(dst, |a| a >> (number & 63)),
            Quick::Add { dst, src } => return self.numbers(dst, src, u64::wrapping_add),
            Quick::Or { dst, src } => return self.numbers(dst, src, |a, b| a | b),
            Quick::Compute { op, dst, src } => {
                return self.numbers(dst, src, |a, b| alu::wide(op, a, b));
            }
            Quick::Load1 { dst, base, off } => return self.fetch::<1>(dst, base, off),
            Quick::Load2 { dst, base, off } => return self.fetch::<2>(dst, base, off),
            Quick::Load4 { dst, base, off } => return self.fetch::<4>(dst, base, off),
            Quick::Load8 { dst, base, off } => return self.fetch::<8>(dst, base, off),
            Quick::Store1 { base, src, off } => return self.keep::<1>(base, off, src, observer),
            Quick::Store2 { base, src, off } => return self.keep::<2>(base, off, src, observer),
            Quick::Store4 { base, src, off } => return self.keep::<4>(base, off, src, observer),
            Quick::Store8 { base, src, off } => return self.keep::<8>(base, off, src, observer),
            Quick::Goto { target } => {
                self.pc = target as usize;
                return true;
            }
            Quick::IfEqual { dst, number, target } => {
                let equal = self.is_equal(dst, number);
                return equal.is_some_and(|equal| self.branch(equal, target, observer));
            }
            Quick::IfOther { dst, number, target } => {
                let equal = self.is_equal(dst, number);
                return equal.is_some_and(|equal| self.branch(!equal, target, observer));
            }
            Quick::IfNumber { condition, dst, number, target } => {
                let value = self.at(dst);
                let taken = alu::holds(condition, value.bits, extended(number));
                return value.is_number() && self.branch(taken, target, observer);
            }
            Quick::If { condition, dst, src, target } => {
                let (a, b) = (self.at(dst), self.at(src));
                let plain = a.is_number() && b.is_number();
                return plain
                    && self.branch(alu::holds(condition, a.bits, b.bits), target, observer);
            }
        }
        self.pc += 1;
        true
    }

    #[inline]
    fn put(&mut self, register: u8, value: Value) {
        self.registers[usize::from(register & 15)] = value;
    }

    #[inline]
    fn number(&mut self, dst: u8, compute: impl FnOnce(u64) -> u64) -> bool {
        let value = self.at(dst);
        if value.is_number() {
            self.put(dst, Value::number(compute(value.bits)));
            self.pc += 1;
        }
        value.is_number()
    }

    #[inline]
    fn numbers(&mut self, dst: u8, src: u8, compute: impl FnOnce(u64, u64) -> u64) -> bool {
        let operand = self.at(src);
        operand.is_number() && self.number(dst, |a| compute(a, operand.bits))
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
    fn branch(&mut self, taken: bool, target: u32, observer: &mut impl Observer) -> bool {
        observer.branched(self.program, self.pc, taken);
        self.pc = if taken { target as usize } else { self.pc + 1 };
        true
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
                self.put(dst, value);
                self.pc += 1;
                return true;
            }
            Region::MapValue { map, slot } => {
                self.maps.get(usize::from(map)).and_then(|map| map.chunk::<N>(slot, start))
            }
            Region::Packet { epoch } if epoch == self.skb.epoch => self.skb.chunk::<N>(start),
            Region::Record { map, id } => {
                let ring = self.maps.get(usize::from(map)).and_then(|map| map.ring());
                ring.and_then(|ring| ring.bytes(id)?.get(start..)?.first_chunk())
            }
            _ => None,
        };
        let Some(bytes) = bytes else { return false };
        let value = Value::number(stack::widened(bytes));
        self.put(dst, value);
        self.pc += 1;
        true
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
        let (pointer, value) = (self.at(base), self.at(src));
        let at = pointer.bits.wrapping_add_signed(off.into());
        let Ok(start) = usize::try_from(at) else { return false };
        let target = Value::new(pointer.region, at);
        if let Region::Stack { frame } = pointer.region {
            let Some(place) = self.stack.place::<N>(frame, start, value.region) else {
                return false;
            };
            observer.storing(target, N, value);
            *place = stack::narrowed(value.bits);
            self.pc += 1;
            return true;
        }
        let place = match pointer.region {
            Region::MapValue { map, slot } => {
                self.maps.get_mut(usize::from(map)).and_then(|map| map.chunk_mut::<N>(slot, start))
            }
            Region::Packet { epoch } if epoch == self.skb.epoch => self.skb.chunk_mut::<N>(start),
            Region::Record { map, id } => {
                let ring = self.maps.get_mut(usize::from(map)).and_then(|map| map.ring_mut());
                ring.and_then(|ring| ring.bytes_mut(id)?.get_mut(start..)?.first_chunk_mut())
            }
            _ => None,
        };
        let Some(place) = place.filter(|_| value.is_number()) else { return false };
        observer.storing(target, N, value);
        *place = stack::narrowed(value.bits);
        self.pc += 1;
        true
    }
}
