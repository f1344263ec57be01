//! Instructions: BPF's encoding decoded once, so that running them asks no bit fields. Refuses by name what
//! is not known here; executes nothing.

use super::call::{self, Helper};
use super::value::{Region, Value};

/// How many bytes an instruction takes in memory.
pub const SIZE: usize = 8;
/// General registers; r10 is the frame pointer.
pub const REGISTERS: u8 = 11;
/// The frame pointer.
pub const FRAME: u8 = 10;

/// One instruction as it is encoded (RFC 9669).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Class, operation and source bit.
    pub code: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register, or what kind of immediate it is.
    pub src: u8,
    /// Offset.
    pub off: i16,
    /// Immediate.
    pub imm: i32,
}

/// Where an operation's second operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// In a register.
    Register(u8),
    /// In the instruction.
    Immediate(i32),
}

/// Arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the instruction set's")]
pub enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Neg,
    Mod,
    Xor,
    Mov,
    Arsh,
    SDiv,
    SMod,
    /// Sign extension of the lowest 8 bits.
    MovSx8,
    /// Of the lowest 16.
    MovSx16,
    /// Of the lowest 32.
    MovSx32,
}

/// Conversions of byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// To little-endian: on the machine modelled here only truncation.
    ToLittle,
    /// To big-endian.
    ToBig,
    /// Whatever the machine.
    Always,
}

/// Conditions of jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the instruction set's")]
pub enum Condition {
    Eq,
    Gt,
    Ge,
    Set,
    Ne,
    SGt,
    SGe,
    Lt,
    Le,
    SLt,
    SLe,
}

/// Widths of memory accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "one, two, four and eight bytes")]
pub enum Width {
    W1,
    W2,
    W4,
    W8,
}

impl Width {
    /// In bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::W1 => 1,
            Self::W2 => 2,
            Self::W4 => 4,
            Self::W8 => 8,
        }
    }

    /// In bits.
    pub fn bits(self) -> u32 {
        match self {
            Self::W1 => 8,
            Self::W2 => 16,
            Self::W4 => 32,
            Self::W8 => 64,
        }
    }

    /// Whether an offset is a multiple of it.
    #[inline]
    pub fn divides(self, offset: i64) -> bool {
        offset.trailing_zeros() >= self.bits().trailing_zeros() - 3
    }
}

/// Atomic operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the instruction set's")]
pub enum Atomic {
    Add,
    Or,
    And,
    Xor,
    Exchange,
    CompareExchange,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `dst = dst op operand`, in 64 bits if `wide`, else in 32 with the upper half cleared.
    Alu {
        /// In 64 bits.
        wide: bool,
        /// The operation.
        op: Alu,
        /// Destination.
        dst: u8,
        /// Second operand.
        operand: Operand,
    },
    /// Byte order of the lowest 16, 32 or 64 bits.
    Swap {
        /// Which way.
        order: Swap,
        /// Destination.
        dst: u8,
        /// How many.
        bits: u8,
    },
    /// A 64-bit constant or a reference to a map; takes two places.
    Constant {
        /// Destination.
        dst: u8,
        /// What it is.
        value: Value,
    },
    /// `dst = *(base + off)`
    Load {
        /// How much.
        width: Width,
        /// Extends the sign.
        signed: bool,
        /// Destination.
        dst: u8,
        /// Address.
        base: u8,
        /// Offset.
        off: i16,
    },
    /// `*(base + off) = operand`
    Store {
        /// How much.
        width: Width,
        /// Address.
        base: u8,
        /// Offset.
        off: i16,
        /// What.
        operand: Operand,
    },
    /// `lock *(base + off) op= src`
    Atomic {
        /// 4 or 8 bytes.
        width: Width,
        /// The operation.
        op: Atomic,
        /// The old value comes back (in `src`; comparing exchange always, in r0).
        fetch: bool,
        /// Address.
        base: u8,
        /// Offset.
        off: i16,
        /// Operand.
        src: u8,
    },
    /// A jump to the place `target`.
    Goto {
        /// Where.
        target: u32,
    },
    /// A jump to the place `target` if the condition holds.
    Jump {
        /// In 64 bits.
        wide: bool,
        /// The condition.
        condition: Condition,
        /// First operand.
        dst: u8,
        /// Second operand.
        operand: Operand,
        /// Where.
        target: u32,
    },
    /// A call of the function that begins at a place.
    Call {
        /// Where.
        target: u32,
    },
    /// A call of a helper.
    Helper(Helper),
    /// The end of a function or program.
    Exit,
    /// The second place of a [`Instruction::Constant`]; never run.
    Second,
}

/// Why an instruction was refused, in words.
pub type Refusal = String;

/// What constants may refer to.
pub struct Scope {
    /// How many maps there are.
    pub maps: usize,
}

/// Decodes the instruction at a place.
pub fn decode(code: &[Raw], at: usize, scope: &Scope) -> Result<Instruction, Refusal> {
    let Some(raw) = code.get(at) else { return Err("the program ends too early".to_owned()) };
    if raw.dst >= REGISTERS || raw.src >= REGISTERS {
        return Err(format!("register r{} does not exist", raw.dst.max(raw.src)));
    }
    match raw.code & 7 {
        0 => constant(code, at, scope),
        1 => load(raw),
        2 => store(raw, Operand::Immediate(raw.imm)),
        3 if raw.code & 0xE0 == 0xC0 => atomic(raw),
        3 => store(raw, Operand::Register(raw.src)),
        4 | 7 => alu(raw),
        _ => jump(code, at),
    }
}

fn unknown(raw: &Raw) -> Refusal {
    let name = name(raw).map_or(String::new(), |name| format!(" (`{name}`)"));
    format!("instruction {:#04x}{name} (off {}, imm {:#x}) is unknown", raw.code, raw.off, raw.imm)
}

/// The name of an instruction that the kernel knows and that is not modelled.
fn name(raw: &Raw) -> Option<&'static str> {
    Some(match (raw.code, raw.imm) {
        (0x20 | 0x28 | 0x30, _) => "ldabs",
        (0x40 | 0x48 | 0x50, _) => "ldind",
        (0xE5, _) => "may_goto",
        (0xC3 | 0xCB | 0xD3 | 0xDB, 0x100) => "load_acquire",
        (0xC3 | 0xCB | 0xD3 | 0xDB, 0x110) => "store_release",
        (0xBF, _) if raw.off == 1 => "addr_space_cast",
        (0x8D, _) => "callx",
        (0x0D, _) => "gotox",
        _ => return None,
    })
}

fn width(code: u8) -> Width {
    match code & 0x18 {
        0x00 => Width::W4,
        0x08 => Width::W2,
        0x10 => Width::W1,
        _ => Width::W8,
    }
}

fn constant(code: &[Raw], at: usize, scope: &Scope) -> Result<Instruction, Refusal> {
    let raw = &code[at];
    if raw.code != 0x18 {
        return Err(unknown(raw));
    }
    let second = code.get(at + 1).filter(|second| second.code == 0);
    let Some(second) = second else { return Err(format!("{}: half a constant", unknown(raw))) };
    let map = || {
        u16::try_from(raw.imm)
            .ok()
            .filter(|map| usize::from(*map) < scope.maps)
            .ok_or_else(|| format!("map {} does not exist", raw.imm))
    };
    let low = u64::from(raw.imm.cast_unsigned());
    let value = match raw.src {
        0 => Value::number(u64::from(second.imm.cast_unsigned()) << 32 | low),
        1 => Value::new(Region::Map(map()?), 0),
        2 => {
            let region = Region::MapValue { map: map()?, slot: 0 };
            Value::new(region, i64::from(second.imm).cast_unsigned())
        }
        kind => return Err(format!("constants of kind {kind} (`lddw`) are unknown")),
    };
    Ok(Instruction::Constant { dst: raw.dst, value })
}

fn load(raw: &Raw) -> Result<Instruction, Refusal> {
    let width = width(raw.code);
    let signed = match raw.code & 0xE0 {
        0x60 => false,
        0x80 if width != Width::W8 => true,
        _ => return Err(unknown(raw)),
    };
    Ok(Instruction::Load { width, signed, dst: raw.dst, base: raw.src, off: raw.off })
}

fn store(raw: &Raw, operand: Operand) -> Result<Instruction, Refusal> {
    if raw.code & 0xE0 != 0x60 {
        return Err(unknown(raw));
    }
    Ok(Instruction::Store { width: width(raw.code), base: raw.dst, off: raw.off, operand })
}

fn atomic(raw: &Raw) -> Result<Instruction, Refusal> {
    let width = width(raw.code);
    let (op, fetch) = match raw.imm {
        0x00 => (Atomic::Add, false),
        0x01 => (Atomic::Add, true),
        0x40 => (Atomic::Or, false),
        0x41 => (Atomic::Or, true),
        0x50 => (Atomic::And, false),
        0x51 => (Atomic::And, true),
        0xA0 => (Atomic::Xor, false),
        0xA1 => (Atomic::Xor, true),
        0xE1 => (Atomic::Exchange, true),
        0xF1 => (Atomic::CompareExchange, true),
        _ => return Err(unknown(raw)),
    };
    if !matches!(width, Width::W4 | Width::W8) {
        return Err(unknown(raw));
    }
    Ok(Instruction::Atomic { width, op, fetch, base: raw.dst, off: raw.off, src: raw.src })
}

fn operand(raw: &Raw) -> Operand {
    if raw.code & 8 == 0 { Operand::Immediate(raw.imm) } else { Operand::Register(raw.src) }
}

fn alu(raw: &Raw) -> Result<Instruction, Refusal> {
    let wide = raw.code & 7 == 7;
    let by_register = raw.code & 8 != 0;
    let op = match (raw.code >> 4, raw.off) {
        (0x0, 0) => Alu::Add,
        (0x1, 0) => Alu::Sub,
        (0x2, 0) => Alu::Mul,
        (0x3, 0) => Alu::Div,
        (0x3, 1) => Alu::SDiv,
        (0x4, 0) => Alu::Or,
        (0x5, 0) => Alu::And,
        (0x6, 0) => Alu::Lsh,
        (0x7, 0) => Alu::Rsh,
        (0x8, 0) if !by_register => Alu::Neg,
        (0x9, 0) => Alu::Mod,
        (0x9, 1) => Alu::SMod,
        (0xA, 0) => Alu::Xor,
        (0xB, 0) => Alu::Mov,
        (0xB, 8) if by_register => Alu::MovSx8,
        (0xB, 16) if by_register => Alu::MovSx16,
        (0xB, 32) if by_register && wide => Alu::MovSx32,
        (0xC, 0) => Alu::Arsh,
        (0xD, 0) => return swap(raw, wide, by_register),
        _ => return Err(unknown(raw)),
    };
    Ok(Instruction::Alu { wide, op, dst: raw.dst, operand: operand(raw) })
}

fn swap(raw: &Raw, wide: bool, to_big: bool) -> Result<Instruction, Refusal> {
    let order = match (wide, to_big) {
        (true, false) => Swap::Always,
        (false, false) => Swap::ToLittle,
        (false, true) => Swap::ToBig,
        (true, true) => return Err(unknown(raw)),
    };
    let bits = match raw.imm {
        16 => 16,
        32 => 32,
        64 => 64,
        _ => return Err(unknown(raw)),
    };
    Ok(Instruction::Swap { order, dst: raw.dst, bits })
}

fn jump(code: &[Raw], at: usize) -> Result<Instruction, Refusal> {
    let raw = &code[at];
    let wide = raw.code & 7 == 5;
    // By a register none of these is modelled.
    if matches!(raw.code >> 4, 0x0 | 0x8 | 0x9) && raw.code & 8 != 0 {
        return Err(unknown(raw));
    }
    let condition = match (raw.code >> 4, wide) {
        (0x0, true) => return Ok(Instruction::Goto { target: target(code, at, raw.off.into())? }),
        (0x0, false) => return Ok(Instruction::Goto { target: target(code, at, raw.imm)? }),
        (0x8, true) => return call(code, at),
        (0x9, true) => return Ok(Instruction::Exit),
        (0x1, _) => Condition::Eq,
        (0x2, _) => Condition::Gt,
        (0x3, _) => Condition::Ge,
        (0x4, _) => Condition::Set,
        (0x5, _) => Condition::Ne,
        (0x6, _) => Condition::SGt,
        (0x7, _) => Condition::SGe,
        (0xA, _) => Condition::Lt,
        (0xB, _) => Condition::Le,
        (0xC, _) => Condition::SLt,
        (0xD, _) => Condition::SLe,
        _ => return Err(unknown(raw)),
    };
    let target = target(code, at, raw.off.into())?;
    Ok(Instruction::Jump { wide, condition, dst: raw.dst, operand: operand(raw), target })
}

fn call(code: &[Raw], at: usize) -> Result<Instruction, Refusal> {
    let raw = &code[at];
    match raw.src {
        0 => call::by_number(raw.imm).map(Instruction::Helper),
        1 => Ok(Instruction::Call { target: target(code, at, raw.imm)? }),
        2 => Err(format!("a call of kernel function {} (kfunc) is unknown", raw.imm)),
        kind => Err(format!("calls of kind {kind} are unknown")),
    }
}

/// The place that a distance leads to.
fn target(code: &[Raw], at: usize, distance: i32) -> Result<u32, Refusal> {
    let place = i64::try_from(at).unwrap_or(i64::MAX) + 1 + i64::from(distance);
    let usable = usize::try_from(place).ok().filter(|place| {
        let is_second = *place > 0 && code.get(place - 1).is_some_and(|raw| raw.code == 0x18);
        *place < code.len() && !is_second
    });
    usable
        .and_then(|place| u32::try_from(place).ok())
        .ok_or_else(|| format!("a jump leads to place {place}, which is none"))
}

/// Decodes a whole program. Errors name the place.
pub fn decode_all(code: &[Raw], scope: &Scope) -> Result<Vec<Instruction>, (usize, Refusal)> {
    let mut decoded = Vec::with_capacity(code.len());
    while decoded.len() < code.len() {
        let at = decoded.len();
        let instruction = decode(code, at, scope).map_err(|refusal| (at, refusal))?;
        decoded.push(instruction);
        if matches!(instruction, Instruction::Constant { .. }) {
            decoded.push(Instruction::Second);
        }
    }
    // What falls off the end would run nothing.
    match decoded.last() {
        Some(Instruction::Exit | Instruction::Goto { .. }) => Ok(decoded),
        _ => Err((decoded.len().saturating_sub(1), "the program does not end there".to_owned())),
    }
}
