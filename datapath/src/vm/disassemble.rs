//! Instructions as text, in the C-like notation of the kernel's verifier: for people who step through a program.
//! Reads nothing but the image, and never runs or judges what it prints.

use super::image::{Image, Program};
use super::instruction::{Alu, Atomic, Condition, Instruction, Operand, Swap, Width};
use super::value::{Region, Value};

/// The text of one instruction, from its program's index in the image and its place there: `r1 = *(u32 *)(r2 + 8)`.
///
/// Registers are `r0` to `r10`, or `w0` to `w10` where an operation is on their lower 32 bits; memory accesses say
/// their width as the type of what is accessed. Numbers are decimal, with their sign; only 64-bit constants (which
/// take two places, and have `ll` behind them as in LLVM's notation) are hexadecimal. Jumps and calls lead to places
/// of the program, not over distances. Maps, functions and helpers have their names.
///
/// `None` for the second place of a 64-bit constant, which is no instruction, and for places and programs that
/// there are not.
pub fn text(image: &Image, program: u32, pc: usize) -> Option<String> {
    let program = image.programs.get(program as usize)?;
    written(image, program, *program.code.get(pc)?)
}

fn written(image: &Image, program: &Program, instruction: Instruction) -> Option<String> {
    Some(match instruction {
        Instruction::Alu { wide, op, dst, operand } => arithmetic(wide, op, dst, operand),
        Instruction::Swap { order, dst, bits } => {
            let order = match order {
                Swap::ToLittle => "le",
                Swap::ToBig => "be",
                Swap::Always => "bswap",
            };
            format!("r{dst} = {order}{bits} r{dst}")
        }
        Instruction::Constant { dst, value } => format!("r{dst} = {}", constant(image, value)),
        Instruction::Load { width, signed, dst, base, off } => {
            let sign = if signed { 's' } else { 'u' };
            format!("r{dst} = *{}", memory(sign, width, base, off))
        }
        Instruction::Store { width, base, off, operand } => {
            format!("*{} = {}", memory('u', width, base, off), second(true, operand))
        }
        Instruction::Atomic { width, op, fetch, base, off, src } => {
            atomic(width, op, fetch, &memory('u', width, base, off), src)
        }
        Instruction::Goto { target } => format!("goto {target}"),
        Instruction::Jump { wide, condition, dst, operand, target } => {
            let (first, sign) = (register(wide, dst), comparison(condition));
            format!("if {first} {sign} {} goto {target}", second(wide, operand))
        }
        Instruction::Call { target } => format!("call {}", function(program, target)),
        Instruction::Helper(helper) => format!("call bpf_{}", helper.name()),
        Instruction::Exit => "exit".to_owned(),
        Instruction::Second => return None,
    })
}

fn arithmetic(wide: bool, op: Alu, dst: u8, operand: Operand) -> String {
    let (first, second) = (register(wide, dst), second(wide, operand));
    let sign = match op {
        Alu::Neg => return format!("{first} = -{first}"),
        Alu::MovSx8 => return format!("{first} = (s8){second}"),
        Alu::MovSx16 => return format!("{first} = (s16){second}"),
        Alu::MovSx32 => return format!("{first} = (s32){second}"),
        Alu::Mov => "=",
        Alu::Add => "+=",
        Alu::Sub => "-=",
        Alu::Mul => "*=",
        Alu::Div => "/=",
        Alu::SDiv => "s/=",
        Alu::Mod => "%=",
        Alu::SMod => "s%=",
        Alu::Or => "|=",
        Alu::And => "&=",
        Alu::Xor => "^=",
        Alu::Lsh => "<<=",
        Alu::Rsh => ">>=",
        Alu::Arsh => "s>>=",
    };
    format!("{first} {sign} {second}")
}

fn comparison(condition: Condition) -> &'static str {
    match condition {
        Condition::Eq => "==",
        Condition::Ne => "!=",
        Condition::Gt => ">",
        Condition::Ge => ">=",
        Condition::Lt => "<",
        Condition::Le => "<=",
        Condition::SGt => "s>",
        Condition::SGe => "s>=",
        Condition::SLt => "s<",
        Condition::SLe => "s<=",
        Condition::Set => "&",
    }
}

/// Those that bring the old value back have the names of the kernel's functions that do so.
fn atomic(width: Width, op: Atomic, fetch: bool, memory: &str, src: u8) -> String {
    let family = if width == Width::W8 { "atomic64" } else { "atomic" };
    let (sign, name) = match op {
        // These two always bring it back.
        Atomic::Exchange => return format!("r{src} = {family}_xchg({memory}, r{src})"),
        Atomic::CompareExchange => return format!("r0 = {family}_cmpxchg({memory}, r0, r{src})"),
        Atomic::Add => ("+=", "add"),
        Atomic::Or => ("|=", "or"),
        Atomic::And => ("&=", "and"),
        Atomic::Xor => ("^=", "xor"),
    };
    if fetch {
        format!("r{src} = {family}_fetch_{name}({memory}, r{src})")
    } else {
        format!("lock *{memory} {sign} r{src}")
    }
}

fn register(wide: bool, number: u8) -> String {
    let letter = if wide { 'r' } else { 'w' };
    format!("{letter}{number}")
}

fn second(wide: bool, operand: Operand) -> String {
    match operand {
        Operand::Register(number) => register(wide, number),
        Operand::Immediate(number) => number.to_string(),
    }
}

/// What is accessed, as a pointer: `(u32 *)(r2 + 8)`.
fn memory(sign: char, width: Width, base: u8, off: i16) -> String {
    let direction = if off < 0 { '-' } else { '+' };
    format!("({sign}{} *)(r{base} {direction} {})", width.bits(), off.unsigned_abs())
}

fn constant(image: &Image, value: Value) -> String {
    match value.region {
        Region::Number => format!("{:#x} ll", value.bits),
        Region::Map(map) => map_name(image, map),
        Region::MapValue { map, slot } => {
            format!("{}[{slot}]{:+}", map_name(image, map), value.offset())
        }
        // No instruction makes one of these.
        Region::Unset
        | Region::Stack { .. }
        | Region::Context
        | Region::Packet { .. }
        | Region::PacketEnd { .. }
        | Region::Record { .. } => format!("{} {:+}", value.what(), value.offset()),
    }
}

fn map_name(image: &Image, map: u16) -> String {
    let name = image.maps.get(usize::from(map)).map(|map| map.name.clone());
    format!("map[{}]", name.unwrap_or_else(|| format!("#{map}")))
}

/// The function that begins at a place; the place itself where none is known to.
fn function(program: &Program, target: u32) -> String {
    let begins = program.functions.iter().find(|function| function.start == target as usize);
    begins.map_or_else(|| target.to_string(), |function| function.name.clone())
}

#[cfg(test)]
mod tests;
