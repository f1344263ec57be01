//! What the sides of a comparison are, and whether they can be compared: an address with an address, a number
//! with one that its field can hold.

use std::net::IpAddr;

use engine::diag::Diagnostic;
use engine::net::{Mac, Protocol};
use engine::source::Span;
use ipnet::IpNet;

use super::table::FIELDS;
use super::thing;
use super::word::words;
use super::{Comparison, Condition, Field, Operand, Range, Value};
use crate::codes;
use crate::names::nearest;

/// One side as written.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) text: String,
    pub(super) span: Span,
    pub(super) what: What,
}

/// What a side is, as far as it alone tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Something that the stop gives a value.
    Operand(Operand),
    /// A constant.
    Value(Value),
    /// `10.0.0.0/8`, which no single value equals.
    Prefix(IpNet),
    /// A word that means something only beside `node` or `protocol`.
    Word,
    /// A word in quotes.
    Quoted,
}

/// What values can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Numbers up to the greatest.
    Number(u64),
    Address,
    Mac,
}

impl Kind {
    fn phrase(self) -> &'static str {
        match self {
            Kind::Number(_) => "a number",
            Kind::Address => "an address",
            Kind::Mac => "a MAC address",
        }
    }

    fn meets(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Kind::Number(_), Kind::Number(_))
                | (Kind::Address, Kind::Address)
                | (Kind::Mac, Kind::Mac)
        )
    }
}

/// The protocols' words.
const PROTOCOLS: [(&str, Protocol); 5] = [
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("sctp", Protocol::Sctp),
    ("icmp", Protocol::Icmp),
    ("icmpv6", Protocol::Icmpv6),
];

/// The same without what they stand for.
pub(super) fn protocols() -> Vec<&'static str> {
    PROTOCOLS.iter().map(|(word, _)| *word).collect()
}

/// A side without quotes, read by its shape.
pub(super) fn side(text: &str, span: Span) -> Result<Side, Diagnostic> {
    let what = shape(text, span)?;
    Ok(Side { text: text.to_owned(), span, what })
}

fn shape(text: &str, span: Span) -> Result<What, Diagnostic> {
    if let Some(digits) = thing::register_digits(text) {
        // Beside `node` it is a name all the same.
        return Ok(match digits.parse() {
            Ok(number) if number <= thing::LAST_REGISTER => {
                What::Operand(Operand::Register(number))
            }
            _ => What::Word,
        });
    }
    if text == "node" {
        return Ok(What::Operand(Operand::Node));
    }
    if let Some((_, field, _)) = FIELDS.iter().find(|(word, ..)| *word == text) {
        return Ok(What::Operand(Operand::Field(*field)));
    }
    if let Some(value) = constant(text) {
        return Ok(What::Value(value));
    }
    if let Ok(net) = text.parse::<IpNet>() {
        return Ok(What::Prefix(net));
    }
    if text.contains("::") || text.matches(':').count() > 1 || is_dotted(text) {
        return Err(no_address(text, span));
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) && is_number(text) || text.starts_with('-') {
        return Err(no_number(text, span));
    }
    Ok(What::Word)
}

/// A number, a MAC or an address.
fn constant(text: &str) -> Option<Value> {
    let number = thing::number(text).map(Value::Number);
    let mac = || text.parse::<Mac>().ok().map(Value::Mac);
    let address = || text.parse::<IpAddr>().ok().map(Value::Address);
    number.or_else(mac).or_else(address)
}

/// Digits and dots only, as an IPv4 address or prefix has.
fn is_dotted(text: &str) -> bool {
    text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'/')
}

/// Meant for a number, though it may be too large for one.
fn is_number(text: &str) -> bool {
    text.starts_with("0x") || text.bytes().all(|b| b.is_ascii_digit())
}

pub(super) fn no_number(text: &str, span: Span) -> Diagnostic {
    let diagnostic =
        Diagnostic::error(codes::BAD_NUMBER, format!("`{text}` is not a number"), span);
    match text.strip_prefix('-').and_then(thing::number) {
        Some(number) if number > 0 => diagnostic.help(format!(
            "numbers have 64 bits and no sign: -{number} is {:#x}",
            number.wrapping_neg()
        )),
        _ => diagnostic.help(format!("numbers are decimal or `0x`, up to {:#x}", u64::MAX)),
    }
}

fn no_address(text: &str, span: Span) -> Diagnostic {
    let help = if text.contains(':') {
        "IPv6 is up to eight groups of four hex digits with at most one `::`, a MAC six pairs"
    } else {
        "IPv4 is four numbers from 0 to 255, without leading zeros; a prefix ends in `/0` to `/32`"
    };
    let message = format!("`{text}` is neither an address nor a prefix");
    Diagnostic::error(codes::BAD_ADDRESS, message, span).help(help)
}

/// A field's value in an edit.
pub(super) fn value(field: Field, text: &str, span: Span) -> Result<Value, Diagnostic> {
    let operand = What::Operand(Operand::Field(field));
    let target = Side { text: field.word().to_owned(), span, what: operand };
    let mut given = side(text, span)?;
    protocol(&mut given, &target);
    match given.what {
        What::Value(value) => {
            fits(&target, &given)?;
            Ok(value)
        }
        _ => {
            let kind = kind(&target).map_or("a value", Kind::phrase);
            let message = format!("`{text}` is not {kind}");
            let help = format!("`{}` takes {kind}", field.word());
            Err(Diagnostic::error(codes::COMMAND_ARGUMENT, message, span).help(help))
        }
    }
}

/// `A OP B`; the span is all of it.
pub(super) fn compare(
    mut left: Side,
    comparison: Comparison,
    mut right: Side,
    span: Span,
) -> Result<Condition, Diagnostic> {
    if is_node(&left) || is_node(&right) {
        return node(left, comparison, right, span);
    }
    protocol(&mut left, &right);
    protocol(&mut right, &left);
    fits(&left, &right)?;
    let (a, b) = (operand(&left)?, operand(&right)?);
    if let (Operand::Value(_), Operand::Value(_)) = (&a, &b) {
        return Err(constants(span));
    }
    let is_order = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    if is_order && !matches!(kind(&left), Some(Kind::Number(_))) {
        let message = "addresses are compared by `==`, `!=` and `in` only";
        return Err(Diagnostic::error(codes::COMMAND_ARGUMENT, message, span)
            .help("`src in 10.244.0.0/16` holds for a whole prefix"));
    }
    Ok(Condition::Compare(a, comparison, b))
}

/// `A in RANGE`, where the range is one side or two.
pub(super) fn within(
    left: &Side,
    from: &Side,
    to: Option<&Side>,
    span: Span,
) -> Result<Condition, Diagnostic> {
    if is_node(left) {
        let message = "`node` is in no range";
        return Err(Diagnostic::error(codes::COMMAND_ARGUMENT, message, span)
            .help("compare the name: `node == node01`"));
    }
    let a = operand(left)?;
    let whole = to.map_or(from.span, |to| from.span.to(to.span));
    let range = match (kind(left), &from.what, to.map(|to| &to.what)) {
        (_, What::Word | What::Quoted, _) => return Err(unknown(from)),
        (Some(Kind::Address), What::Prefix(net), None) => Range::Prefix(*net),
        (Some(Kind::Address), What::Value(Value::Address(address)), None) => {
            Range::Prefix(IpNet::from(*address))
        }
        (
            Some(Kind::Number(most)),
            What::Value(Value::Number(first)),
            Some(What::Value(Value::Number(end))),
        ) => numbers(left, most, (*first, *end), whole)?,
        (kind, ..) => return Err(no_range(left, kind, whole)),
    };
    if let Operand::Value(_) = a {
        return Err(constants(span));
    }
    Ok(Condition::In(a, range))
}

fn no_range(left: &Side, kind: Option<Kind>, span: Span) -> Diagnostic {
    let (what, help) = match kind {
        Some(Kind::Address) => {
            ("a prefix", "write a prefix, such as `10.244.0.0/16` or `fd00::/8`")
        }
        Some(Kind::Number(_)) => {
            ("a range of numbers", "write `A..B`, such as `8000..9000`; B is not included")
        }
        _ => ("an address or a number", "a MAC address is compared by `==` and `!=`"),
    };
    let message = match kind {
        Some(Kind::Mac) => format!("`{}` is a MAC address, which is in no range", left.text),
        _ => format!("`{}` needs {what} behind `in`", left.text),
    };
    Diagnostic::error(codes::COMMAND_ARGUMENT, message, span).help(help)
}

fn numbers(left: &Side, most: u64, range: (u64, u64), span: Span) -> Result<Range, Diagnostic> {
    let (first, end) = range;
    if first >= end {
        let message = format!("no number is in `{first}..{end}`");
        return Err(Diagnostic::error(codes::COMMAND_ARGUMENT, message, span)
            .help("the second number is the one after the last"));
    }
    if end - 1 > most {
        return Err(too_large(left, end - 1, most, span));
    }
    Ok(Range::Numbers(first, end))
}

fn is_node(side: &Side) -> bool {
    side.what == What::Operand(Operand::Node)
}

/// `node` beside a name: any word, whatever it means elsewhere.
fn node(
    left: Side,
    comparison: Comparison,
    right: Side,
    span: Span,
) -> Result<Condition, Diagnostic> {
    if !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
        let message = "`node` is compared by `==` and `!=` only";
        return Err(Diagnostic::error(codes::COMMAND_ARGUMENT, message, span)
            .help("compare the name: `node == node01`"));
    }
    let name = |side: Side| match side.what {
        What::Operand(Operand::Node) => Ok(Operand::Node),
        What::Value(Value::Address(_) | Value::Mac(_))
        | What::Prefix(_)
        | What::Operand(Operand::Bytes { .. }) => {
            let message = format!("`node` is a name and `{}` is none", side.text);
            Err(Diagnostic::error(codes::COMMAND_ARGUMENT, message, side.span)
                .help("compare the name: `node == node01`"))
        }
        _ => Ok(Operand::Word(side.text)),
    };
    match (name(left)?, name(right)?) {
        (Operand::Node, Operand::Node) => Err(constants(span)),
        (a, b) => Ok(Condition::Compare(a, comparison, b)),
    }
}

/// A protocol's word beside `protocol` is its number.
fn protocol(side: &mut Side, other: &Side) {
    let known = PROTOCOLS.iter().find(|(word, _)| *word == side.text);
    if let (What::Word, What::Operand(Operand::Field(Field::Protocol)), Some((_, protocol))) =
        (&side.what, &other.what, known)
    {
        side.what = What::Value(Value::Number(u64::from(protocol.number())));
    }
}

/// Whether the two sides can be equal at all.
fn fits(left: &Side, right: &Side) -> Result<(), Diagnostic> {
    for side in [left, right] {
        match side.what {
            What::Word | What::Quoted => return Err(unknown(side)),
            What::Prefix(_) => {
                let message = format!("`{}` is a prefix, which no address equals", side.text);
                return Err(Diagnostic::error(codes::COMMAND_ARGUMENT, message, side.span)
                    .help("`src in 10.244.0.0/16` holds for a whole prefix"));
            }
            _ => {}
        }
    }
    let (Some(a), Some(b)) = (kind(left), kind(right)) else { return Ok(()) };
    if !a.meets(b) {
        return Err(clash((left, a), (right, b)));
    }
    for (side, most) in [(right, a), (left, b)] {
        if let (What::Value(Value::Number(number)), Kind::Number(most)) = (&side.what, most)
            && *number > most
        {
            let other = if std::ptr::eq(side, left) { right } else { left };
            return Err(too_large(other, *number, most, side.span));
        }
    }
    Ok(())
}

fn clash(left: (&Side, Kind), right: (&Side, Kind)) -> Diagnostic {
    let message = format!(
        "`{}` is {} and `{}` is {}",
        left.0.text,
        left.1.phrase(),
        right.0.text,
        right.1.phrase()
    );
    let span = left.0.span.to(right.0.span);
    let help = match (left.1, right.1) {
        (Kind::Address, Kind::Mac) | (Kind::Mac, Kind::Address) => {
            "`src` and `dst` are addresses, `src-mac` and `dst-mac` MAC addresses"
        }
        (Kind::Mac, _) | (_, Kind::Mac) => "a MAC address is written `0a:00:00:00:00:01`",
        _ => "an address is written `10.0.0.1` or `fd00::1`; ports are `src-port` and `dst-port`",
    };
    Diagnostic::error(codes::COMMAND_ARGUMENT, message, span).help(help)
}

/// A number that the field never has.
fn too_large(field: &Side, number: u64, most: u64, span: Span) -> Diagnostic {
    let message = format!("`{}` is never {number}", field.text);
    Diagnostic::error(codes::COMMAND_ARGUMENT, message, span).help(format!("it is at most {most}"))
}

fn constants(span: Span) -> Diagnostic {
    let message = "nothing in this comparison changes";
    Diagnostic::error(codes::COMMAND_ARGUMENT, message, span)
        .help("compare a register, a field or bytes: `r0 == 1`, `dst-port == 80`, `packet[12..14] == 0x0800`")
}

/// A word that is nothing.
fn unknown(side: &Side) -> Diagnostic {
    if thing::register_digits(&side.text).is_some() {
        return thing::no_register(&side.text, side.span);
    }
    let message = format!("`{}` is no field and no value", side.text);
    let diagnostic = Diagnostic::error(codes::COMMAND_ARGUMENT, message, side.span);
    if PROTOCOLS.iter().any(|(word, _)| *word == side.text) {
        return diagnostic.help(format!(
            "a protocol's name stands beside `protocol`: `protocol == {}`",
            side.text
        ));
    }
    if side.text == "packet" {
        return diagnostic.help("some of its bytes are `packet[A..B]`");
    }
    match nearest(&side.text, words(FIELDS).into_iter().chain(["node"])) {
        Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), side.span, near),
        None => diagnostic.help(format!(
            "the fields are {}, `node`, `r0` to `r10` and `packet[A..B]`",
            words(FIELDS).iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
        )),
    }
}

fn operand(side: &Side) -> Result<Operand, Diagnostic> {
    match &side.what {
        What::Operand(operand) => Ok(operand.clone()),
        What::Value(value) => Ok(Operand::Value(*value)),
        What::Prefix(_) | What::Word | What::Quoted => Err(unknown(side)),
    }
}

/// What values a side has; none where it is no value.
fn kind(side: &Side) -> Option<Kind> {
    match &side.what {
        What::Operand(Operand::Field(field)) => Some(kind_of(*field)),
        What::Operand(Operand::Register(_)) | What::Value(Value::Number(_)) => {
            Some(Kind::Number(u64::MAX))
        }
        What::Operand(Operand::Bytes { from, to }) => {
            let bits = to.saturating_sub(*from).saturating_mul(8);
            Some(Kind::Number(
                u64::MAX.checked_shr(64_u32.saturating_sub(bits)).unwrap_or(u64::MAX),
            ))
        }
        What::Value(Value::Address(_)) => Some(Kind::Address),
        What::Value(Value::Mac(_)) => Some(Kind::Mac),
        _ => None,
    }
}

/// What a field holds; a VNI has 24 bits (RFC 7348 5).
fn kind_of(field: Field) -> Kind {
    match field {
        Field::Source | Field::Destination => Kind::Address,
        Field::SourceMac | Field::DestinationMac => Kind::Mac,
        Field::SourcePort | Field::DestinationPort => Kind::Number(u64::from(u16::MAX)),
        Field::Protocol | Field::Ttl | Field::TcpFlags | Field::IcmpType | Field::IcmpCode => {
            Kind::Number(u64::from(u8::MAX))
        }
        Field::Vni => Kind::Number(0x00ff_ffff),
        Field::Length | Field::Mark | Field::Hop => Kind::Number(u64::from(u32::MAX)),
        Field::Instruction => Kind::Number(u64::MAX),
    }
}
