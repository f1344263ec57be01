//! Things to print and to watch, fields, registers and bytes of the packet.

use std::ops::Range;

use engine::diag::Diagnostic;

use super::line::{Given, Word};
use super::table::{FIELDS, THINGS, ThingWord};
use super::{Field, PacketPart, Thing};
use crate::ast::Spanned;
use crate::codes;

/// The most bytes of a packet that can be named: what an IP packet can have, with its Ethernet header.
const MOST_BYTES: u32 = 65_535 + 14;

/// Registers of the machine, from 0 (RFC 9669 2.1).
pub(super) const LAST_REGISTER: u8 = 10;

pub(super) fn required(given: &mut Given<'_>) -> Result<Spanned<Thing>, Diagnostic> {
    let what = if given.info.name == "watch" { "something to watch" } else { "something to show" };
    optional(given)?.ok_or_else(|| given.missing(what))
}

pub(super) fn optional(given: &mut Given<'_>) -> Result<Option<Spanned<Thing>>, Diagnostic> {
    let Some(word) = given.next() else { return Ok(None) };
    let (thing, end) = thing(given, &word)?;
    let span = given.line.span(&(word.range.start..end));
    Ok(Some(Spanned { node: thing, span }))
}

/// The thing and where it ends.
fn thing(given: &mut Given<'_>, word: &Word) -> Result<(Thing, usize), Diagnostic> {
    let end = word.range.end;
    if let Some(part) = bytes(given, word)? {
        return Ok((Thing::Part(part), end));
    }
    if let Some(number) = register(given, word)? {
        return Ok((Thing::Register(number), end));
    }
    let among: Vec<(&str, ThingWord)> = THINGS
        .iter()
        .map(|(known, thing, _)| (*known, *thing))
        .chain(FIELDS.iter().map(|(known, field, _)| (*known, ThingWord::Field(*field))))
        .collect();
    let thing = match given.choose(word, "something to show", &among)? {
        ThingWord::Registers => Thing::Registers,
        ThingWord::Stack => return stack(given, end),
        ThingWord::Packet => return Ok(packet(given, end)),
        ThingWord::Hex => Thing::Hex,
        ThingWord::Key => Thing::Key,
        ThingWord::Value => Thing::Value,
        ThingWord::Event => Thing::Event,
        ThingWord::Context => Thing::Context,
        ThingWord::Map => return map(given),
        ThingWord::Field(field) => Thing::Part(PacketPart::Field(field)),
    };
    Ok((thing, end))
}

/// `stack [FRAME]`; the frame counts from 0, the function that runs.
fn stack(given: &mut Given<'_>, end: usize) -> Result<(Thing, usize), Diagnostic> {
    let Some(word) = given.next() else { return Ok((Thing::Stack(None), end)) };
    match word.text.parse() {
        Ok(frame) => Ok((Thing::Stack(Some(frame)), word.range.end)),
        Err(_) => {
            let message = format!("`{}` is not the number of a frame", word.text);
            Err(given.refused(&word, message))
        }
    }
}

fn packet(given: &mut Given<'_>, end: usize) -> (Thing, usize) {
    match given.peek() {
        Some(word) if !word.text.is_empty() && "hex".starts_with(word.text.as_str()) => {
            let end = word.range.end;
            given.next();
            (Thing::Hex, end)
        }
        _ => (Thing::Packet, end),
    }
}

fn map(given: &mut Given<'_>) -> Result<(Thing, usize), Diagnostic> {
    let name = given.required("the name of a map")?;
    let key = given.all();
    let end = key.as_ref().map_or(name.range.end, |key| key.span.end as usize);
    Ok((Thing::Map { name: name.text, key: key.map(|key| key.node) }, end))
}

/// A field of which a beginning does.
pub(super) fn field(given: &Given<'_>, word: &Word) -> Result<Field, Diagnostic> {
    let among: Vec<(&str, Field)> = FIELDS.iter().map(|(known, f, _)| (*known, *f)).collect();
    given.choose(word, "a field of the packet", &among)
}

/// `rN`, also with a `$`; nothing where the word is something else.
pub(super) fn register(given: &Given<'_>, word: &Word) -> Result<Option<u8>, Diagnostic> {
    let Some(digits) = register_digits(&word.text) else { return Ok(None) };
    match digits.parse() {
        Ok(number) if number <= LAST_REGISTER => Ok(Some(number)),
        _ => Err(no_register(&word.text, given.line.span(&word.range))),
    }
}

/// The digits of a register's name.
pub(super) fn register_digits(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('$').unwrap_or(text).strip_prefix('r')?;
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then_some(digits)
}

pub(super) fn no_register(text: &str, span: engine::source::Span) -> Diagnostic {
    Diagnostic::error(codes::COMMAND_ARGUMENT, format!("there is no register `{text}`"), span)
        .help(format!("registers go from `r0` to `r{LAST_REGISTER}`"))
}

/// `packet[A..B]` or `packet[A]`; nothing where the word is something else.
pub(super) fn bytes(given: &Given<'_>, word: &Word) -> Result<Option<PacketPart>, Diagnostic> {
    let Some((name, inside)) = word.text.split_once('[') else { return Ok(None) };
    let name = name.trim();
    let inside = inside.trim().strip_suffix(']').map(str::trim);
    let is_packet = !name.is_empty() && "packet".starts_with(name) && !word.quoted;
    let (true, Some(inside)) = (is_packet, inside) else {
        let message = format!("`{}` is not a part of the packet", word.text);
        return Err(given.refused(word, message));
    };
    let span = given.line.span(&word.range);
    byte_range(inside, span)
        .map(|Range { start, end }| Some(PacketPart::Bytes { from: start, to: end }))
}

/// `A..B` or `A`.
pub(super) fn byte_range(text: &str, span: engine::source::Span) -> Result<Range<u32>, Diagnostic> {
    let (from, to) = text.split_once("..").map_or((text, None), |(a, b)| (a, Some(b)));
    let limits = |text: &str| {
        let number = number(text.trim()).and_then(|n| u32::try_from(n).ok());
        number.filter(|n| *n <= MOST_BYTES)
    };
    let bad = |text: &str| {
        let message = format!("`{}` is not the number of a byte", text.trim());
        Diagnostic::error(codes::BAD_NUMBER, message, span)
            .label(format!("must be from 0 to {MOST_BYTES}"))
            .help("`packet[12..14]` are two bytes, `packet[12]` is one")
    };
    let start = limits(from).ok_or_else(|| bad(from))?;
    let end = match to {
        Some(to) => limits(to).ok_or_else(|| bad(to))?,
        None => start + 1,
    };
    if start >= end {
        let message = format!("no byte is in `{}`", text.trim());
        return Err(Diagnostic::error(codes::COMMAND_ARGUMENT, message, span).help(format!(
            "the second number is the byte after the last: `packet[{start}..{}]` is one byte",
            start + 1
        )));
    }
    Ok(start..end)
}

/// A number, decimal or `0x`.
pub(super) fn number(text: &str) -> Option<u64> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match hex {
        Some(digits) if digits.starts_with('+') => None,
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    }
}
