//! Whether a condition holds at a stop. What cannot be read (a port of a packet without ports, a register that
//! nothing was put into) holds for nothing, neither for `==` nor for `!=`.

use lang::debug::{Comparison, Condition, Operand, Range, Value};

use super::field::{Reading, big_endian};

/// What a side of a comparison came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Side {
    Value(Value),
    Word(String),
}

/// Whether it holds. `node` is the node's name.
pub(super) fn holds(condition: &Condition, reading: &Reading<'_>, node: &str) -> bool {
    match condition {
        Condition::And(one, other) => holds(one, reading, node) && holds(other, reading, node),
        Condition::Or(one, other) => holds(one, reading, node) || holds(other, reading, node),
        Condition::Not(inner) => !holds(inner, reading, node),
        Condition::Compare(one, how, other) => {
            let (one, other) = (side(one, reading, node), side(other, reading, node));
            one.zip(other).is_some_and(|(one, other)| compare(&one, *how, &other))
        }
        Condition::In(one, range) => match (side(one, reading, node), range) {
            (Some(Side::Value(Value::Address(address))), Range::Prefix(net)) => {
                net.contains(&address)
            }
            (Some(Side::Value(Value::Number(number))), Range::Numbers(from, to)) => {
                (*from..*to).contains(&number)
            }
            _ => false,
        },
    }
}

fn side(operand: &Operand, reading: &Reading<'_>, node: &str) -> Option<Side> {
    Some(match operand {
        Operand::Value(value) => Side::Value(*value),
        Operand::Register(number) => {
            let value = reading.machine.registers().get(usize::from(*number))?;
            Side::Value(Value::Number(value.is_number().then_some(value.bits)?))
        }
        Operand::Field(field) => Side::Value(reading.read(*field)?),
        Operand::Bytes { from, to } => {
            let range = usize::try_from(*from).ok()?..usize::try_from(*to).ok()?;
            Side::Value(Value::Number(big_endian(reading.bytes(range)?)))
        }
        Operand::Node => Side::Word(node.to_owned()),
        Operand::Word(word) => Side::Word(word.clone()),
    })
}

fn compare(one: &Side, how: Comparison, other: &Side) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (one, other) {
        (Side::Value(Value::Number(a)), Side::Value(Value::Number(b))) => {
            if how == Comparison::Bits {
                return a & b != 0;
            }
            Some(a.cmp(b))
        }
        (Side::Value(Value::Address(a)), Side::Value(Value::Address(b))) => Some(a.cmp(b)),
        (Side::Value(Value::Mac(a)), Side::Value(Value::Mac(b))) => Some(a.0.cmp(&b.0)),
        (Side::Word(a), Side::Word(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let Some(order) = order else { return false };
    match how {
        Comparison::Equal => order == Equal,
        Comparison::NotEqual => order != Equal,
        Comparison::Less => order == Less,
        Comparison::LessOrEqual => order != Greater,
        Comparison::Greater => order == Greater,
        Comparison::GreaterOrEqual => order != Less,
        Comparison::Bits => false,
    }
}
