//! What stops a program that the kernel would have refused to load: where it happened and why. Values and
//! words only.

use std::fmt;

use super::value::Value;

/// Why a run stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A register was read that nothing was put into.
    UnsetRegister(u8),
    /// What should be followed cannot be.
    NoPointer(Value),
    /// An access beyond what a pointer points into.
    OutOfBounds {
        /// The pointer.
        pointer: Value,
        /// Where the access begins in its region.
        offset: i64,
        /// Bytes.
        length: usize,
        /// Bytes that the region has.
        size: usize,
    },
    /// An access that the kernel wants aligned and that is not.
    Misaligned {
        /// Where it begins.
        offset: i64,
        /// Bytes.
        length: usize,
    },
    /// A pointer into the packet from before a helper that may have moved it.
    Stale,
    /// A part of a pointer was read or overwritten where it lies on the stack.
    PartOfPointer,
    /// A pointer would leave the stack and the registers.
    PointerLeak(Value),
    /// Arithmetic that the kernel does not allow on pointers.
    PointerArithmetic(Value),
    /// A comparison that says nothing.
    PointerComparison(Value, Value),
    /// A field of the context that cannot be read or written, or is not modelled.
    ContextField {
        /// Its offset.
        offset: i64,
        /// Bytes.
        length: usize,
        /// Whether it was a write.
        write: bool,
    },
    /// A helper's argument is not what it takes.
    Argument {
        /// The helper.
        helper: &'static str,
        /// Which, from 1.
        number: u8,
        /// What it was.
        value: Value,
    },
    /// Functions call each other too deeply.
    TooManyFrames,
    /// A record that was reserved is neither submitted nor discarded.
    UnreleasedRecord,
    /// The budget of instructions is used up.
    Budget(u64),
    /// No program is running.
    NotRunning,
    /// A place that holds no instruction.
    NoInstruction,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsetRegister(register) => write!(f, "r{register} is read before it is set"),
            Self::NoPointer(value) => {
                write!(f, "{} ({:#x}) is followed as a pointer", value.what(), value.bits)
            }
            Self::OutOfBounds { pointer, offset, length, size } => write!(
                f,
                "{length} bytes at offset {offset} of {}, which has {size} bytes",
                pointer.what()
            ),
            Self::Misaligned { offset, length } => {
                write!(f, "{length} bytes at offset {offset} are not aligned")
            }
            Self::Stale => f.write_str(
                "a pointer into the packet is from before a helper that may have moved the packet",
            ),
            Self::PartOfPointer => f.write_str("a part of a pointer on the stack is read"),
            Self::PointerLeak(value) => {
                write!(f, "{} is stored where pointers do not survive", value.what())
            }
            Self::PointerArithmetic(value) => {
                write!(f, "arithmetic on {} that the kernel does not allow", value.what())
            }
            Self::PointerComparison(one, other) => {
                write!(f, "{} is compared with {}", one.what(), other.what())
            }
            Self::ContextField { offset, length, write } => write!(
                f,
                "{length} bytes at offset {offset} of the context cannot be {} here",
                if *write { "written" } else { "read" }
            ),
            Self::Argument { helper, number, value } => {
                write!(f, "argument {number} of bpf_{helper} is {}", value.what())
            }
            Self::TooManyFrames => f.write_str("more than 8 functions call each other"),
            Self::UnreleasedRecord => {
                f.write_str("a reserved record is neither submitted nor discarded")
            }
            Self::Budget(instructions) => {
                write!(f, "it does not end within {instructions} instructions")
            }
            Self::NotRunning => f.write_str("no program is running"),
            Self::NoInstruction => f.write_str("there is no instruction"),
        }
    }
}

/// Where in the programs something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The program.
    pub program: String,
    /// The function in it.
    pub function: String,
    /// The instruction's place in the program.
    pub pc: usize,
    /// `FILE:LINE:COLUMN`, and the line's text where the object has it; empty without line information.
    pub source: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program `{}`", self.program)?;
        if self.function != self.program {
            write!(f, ", function `{}`", self.function)?;
        }
        write!(f, ", instruction {}", self.pc)?;
        if !self.source.is_empty() {
            write!(f, ", {}", self.source)?;
        }
        Ok(())
    }
}

/// A run that was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// Why.
    pub why: Why,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

impl std::error::Error for Fault {}
