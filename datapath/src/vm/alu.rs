//! Arithmetic and conditions as the kernel computes them. Pure.

use super::fault::Why;
use super::instruction::{Alu, Condition, Swap};
use super::value::{Region, Value};

/// An operation on numbers in 64 bits.
#[inline]
pub(super) fn wide(op: Alu, a: u64, b: u64) -> u64 {
    let (sa, sb) = (a.cast_signed(), b.cast_signed());
    match op {
        Alu::Add => a.wrapping_add(b),
        Alu::Sub => a.wrapping_sub(b),
        Alu::Mul => a.wrapping_mul(b),
        Alu::Div => a.checked_div(b).unwrap_or(0),
        Alu::Mod => a.checked_rem(b).unwrap_or(a),
        Alu::SDiv if sb == 0 => 0,
        Alu::SDiv => sa.wrapping_div(sb).cast_unsigned(),
        Alu::SMod if sb == 0 => a,
        Alu::SMod => sa.wrapping_rem(sb).cast_unsigned(),
        Alu::Or => a | b,
        Alu::And => a & b,
        Alu::Xor => a ^ b,
        Alu::Lsh => a << (b & 63),
        Alu::Rsh => a >> (b & 63),
        Alu::Arsh => (sa >> (b & 63)).cast_unsigned(),
        Alu::Neg => a.wrapping_neg(),
        Alu::Mov => b,
        Alu::MovSx8 => extend(b, 8),
        Alu::MovSx16 => extend(b, 16),
        Alu::MovSx32 => extend(b, 32),
    }
}

/// Extends the sign of the lowest bits.
#[inline]
pub(super) fn extend(value: u64, bits: u32) -> u64 {
    (value.cast_signed() << (64 - bits) >> (64 - bits)).cast_unsigned()
}

/// An operation on numbers in 32 bits; the upper half of the result is 0.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower halves are what is asked for")]
pub(super) fn narrow(op: Alu, a: u64, b: u64) -> u64 {
    let (a, b) = (a as u32, b as u32);
    let (sa, sb) = (a.cast_signed(), b.cast_signed());
    u64::from(match op {
        Alu::Add => a.wrapping_add(b),
        Alu::Sub => a.wrapping_sub(b),
        Alu::Mul => a.wrapping_mul(b),
        Alu::Div => a.checked_div(b).unwrap_or(0),
        Alu::Mod => a.checked_rem(b).unwrap_or(a),
        Alu::SDiv if sb == 0 => 0,
        Alu::SDiv => sa.wrapping_div(sb).cast_unsigned(),
        Alu::SMod if sb == 0 => a,
        Alu::SMod => sa.wrapping_rem(sb).cast_unsigned(),
        Alu::Or => a | b,
        Alu::And => a & b,
        Alu::Xor => a ^ b,
        Alu::Lsh => a << (b & 31),
        Alu::Rsh => a >> (b & 31),
        Alu::Arsh => (sa >> (b & 31)).cast_unsigned(),
        Alu::Neg => a.wrapping_neg(),
        Alu::Mov | Alu::MovSx32 => b,
        Alu::MovSx8 => extend(b.into(), 8) as u32,
        Alu::MovSx16 => extend(b.into(), 16) as u32,
    })
}

/// A conversion of the byte order of the lowest bits; the others become 0.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lowest bits are what is asked for")]
pub(super) fn swap(order: Swap, value: u64, bits: u8) -> u64 {
    match (order, bits) {
        (Swap::ToLittle, 16) => u64::from(value as u16),
        (Swap::ToLittle, 32) => u64::from(value as u32),
        (Swap::ToLittle, _) => value,
        (_, 16) => u64::from((value as u16).swap_bytes()),
        (_, 32) => u64::from((value as u32).swap_bytes()),
        (_, _) => value.swap_bytes(),
    }
}

/// An operation in which a pointer takes part.
pub(super) fn with_pointer(is_wide: bool, op: Alu, a: Value, b: Value) -> Result<Value, Why> {
    let refused = |value: Value| Err(Why::PointerArithmetic(value));
    match (op, is_wide) {
        (Alu::Mov, true) => Ok(b),
        (Alu::Add, true) if a.is_pointer() && b.is_number() => moved(a, b.bits),
        (Alu::Add, true) if a.is_number() && b.is_pointer() => moved(b, a.bits),
        (Alu::Sub, true) if a.is_pointer() && b.is_number() => moved(a, b.bits.wrapping_neg()),
        (Alu::Sub, _) if a.is_pointer() && same_region(a.region, b.region) => {
            let distance = a.bits.wrapping_sub(b.bits);
            Ok(Value::number(if is_wide { distance } else { distance & u64::from(u32::MAX) }))
        }
        _ => refused(if a.is_pointer() { a } else { b }),
    }
}

fn moved(pointer: Value, by: u64) -> Result<Value, Why> {
    match pointer.region {
        Region::Map(_) | Region::PacketEnd { .. } => Err(Why::PointerArithmetic(pointer)),
        region => Ok(Value::new(region, pointer.bits.wrapping_add(by))),
    }
}

/// Whether two pointers have a distance.
fn same_region(a: Region, b: Region) -> bool {
    match (a, b) {
        (
            Region::Packet { epoch: a } | Region::PacketEnd { epoch: a },
            Region::Packet { epoch: b } | Region::PacketEnd { epoch: b },
        ) => a == b,
        _ => a == b,
    }
}

/// Whether a condition holds of numbers in 64 bits.
#[inline]
pub(super) fn holds(condition: Condition, a: u64, b: u64) -> bool {
    let (sa, sb) = (a.cast_signed(), b.cast_signed());
    match condition {
        Condition::Eq => a == b,
        Condition::Ne => a != b,
        Condition::Gt => a > b,
        Condition::Ge => a >= b,
        Condition::Lt => a < b,
        Condition::Le => a <= b,
        Condition::SGt => sa > sb,
        Condition::SGe => sa >= sb,
        Condition::SLt => sa < sb,
        Condition::SLe => sa <= sb,
        Condition::Set => a & b != 0,
    }
}

/// Whether it holds in 32 bits.
#[inline]
pub(super) fn holds_narrow(condition: Condition, a: u64, b: u64) -> bool {
    // Numbers compare in 32 bits as their extensions do in 64: with zeros unsigned, with the sign signed.
    match condition {
        Condition::SGt | Condition::SGe | Condition::SLt | Condition::SLe => {
            holds(condition, extend(a, 32), extend(b, 32))
        }
        _ => holds(condition, a & u64::from(u32::MAX), b & u64::from(u32::MAX)),
    }
}

/// Whether a condition holds where a pointer takes part. A pointer is never 0; pointers into the same
/// thing compare by their offsets, others are different.
pub(super) fn holds_of_pointer(
    is_wide: bool,
    condition: Condition,
    a: Value,
    b: Value,
) -> Result<bool, Why> {
    let equality = matches!(condition, Condition::Eq | Condition::Ne);
    if is_wide && same_region(a.region, b.region) {
        // Offsets may be negative; as addresses they lie far from both ends.
        const BASE: u64 = 1 << 62;
        return Ok(holds(condition, a.bits.wrapping_add(BASE), b.bits.wrapping_add(BASE)));
    }
    let null = |value: Value| value.is_number() && value.bits == 0;
    let differ = null(a) || null(b) || (a.is_pointer() && b.is_pointer());
    if is_wide && equality && differ {
        return Ok(condition == Condition::Ne);
    }
    Err(Why::PointerComparison(a, b))
}
