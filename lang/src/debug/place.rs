//! Places to stop at and to list.

use engine::diag::Diagnostic;

use super::line::{Given, Word, ambiguous};
use super::table::{PLACES, PlaceWord};
use super::word::{Choice, choose_entry};
use super::{CodePlace, Field, PacketPart, Place, thing};
use crate::ast::Spanned;
use crate::codes;

/// `PLACE`
pub(super) fn read(given: &mut Given<'_>) -> Result<Spanned<Place>, Diagnostic> {
    let word = given.required("a place")?;
    let choice = if word.quoted { Choice::Nothing } else { choose_entry(&word.text, PLACES) };
    let (place, end) = match choice {
        Choice::One(kind) => of_kind(given, kind, word.range.end)?,
        Choice::Several(several) => return Err(ambiguous(&word, &several, given.line)),
        Choice::Nothing => (Place::Code(code_place(given, &word)?), word.range.end),
    };
    let span = given.line.span(&(word.range.start..end));
    Ok(Spanned { node: place, span })
}

/// The place that a word introduces, and where it ends; the word itself ends at `end`.
fn of_kind(
    given: &mut Given<'_>,
    kind: PlaceWord,
    end: usize,
) -> Result<(Place, usize), Diagnostic> {
    if kind == PlaceWord::Rule {
        let word = given.required("a policy behind `rule`, as `POLICY` or `POLICY#RULE`")?;
        return Ok((rule(given, &word)?, word.range.end));
    }
    if kind == PlaceWord::Function {
        let word = given.required("the name of a function behind `function`")?;
        return Ok((Place::Code(CodePlace::Function(word.text)), word.range.end));
    }
    let next = given.next();
    let end = next.as_ref().map_or(end, |word| word.range.end);
    if kind == PlaceWord::Write {
        let part = next.map(|word| written(given, &word)).transpose()?;
        return Ok((Place::Write(part), end));
    }
    let name = next.map(|word| word.text);
    let place = match kind {
        PlaceWord::Helper => Place::Helper(name),
        PlaceWord::Lookup => Place::Lookup(name),
        PlaceWord::Update => Place::Update(name),
        PlaceWord::Event => Place::Event(name),
        PlaceWord::Drop => Place::Drop(name),
        _ => Place::Hop(name),
    };
    Ok((place, end))
}

/// `POLICY[#RULE]`
fn rule(given: &Given<'_>, word: &Word) -> Result<Place, Diagnostic> {
    let (policy, rule) =
        word.text.split_once('#').map_or((word.text.as_str(), None), |(p, r)| (p, Some(r)));
    if policy.is_empty() || rule.is_some_and(str::is_empty) {
        let message = format!("`{}` is not a rule's place", word.text);
        return Err(given.refused(word, message));
    }
    Ok(Place::Rule { policy: policy.to_owned(), rule: rule.map(ToOwned::to_owned) })
}

/// Bytes of the packet, or a field that is some of them.
fn written(given: &Given<'_>, word: &Word) -> Result<PacketPart, Diagnostic> {
    if let Some(part) = thing::bytes(given, word)? {
        return Ok(part);
    }
    let field = thing::field(given, word)?;
    if !in_packet(field) {
        let message = format!("`{}` is not in the packet's bytes", field.word());
        let help = format!("`watch {}` stops when it changes", field.word());
        let span = given.line.span(&word.range);
        return Err(Diagnostic::error(codes::COMMAND_ARGUMENT, message, span).help(help));
    }
    Ok(PacketPart::Field(field))
}

/// Whether bytes of the packet are the field, and not something beside it.
pub(super) fn in_packet(field: Field) -> bool {
    !matches!(field, Field::Length | Field::Mark | Field::Vni | Field::Hop | Field::Instruction)
}

/// `[FILE:LINE|LINE|FUNCTION|*N]`
pub(super) fn code(given: &mut Given<'_>) -> Result<Option<Spanned<CodePlace>>, Diagnostic> {
    let Some(word) = given.next() else { return Ok(None) };
    let place = code_place(given, &word)?;
    Ok(Some(Spanned { node: place, span: given.line.span(&word.range) }))
}

/// A place in the code. Names of functions hold `::`; a line's number stands behind the last colon.
fn code_place(given: &Given<'_>, word: &Word) -> Result<CodePlace, Diagnostic> {
    let text = word.text.as_str();
    if let Some(number) = text.strip_prefix('*') {
        let message = format!("`{number}` is not the number of an instruction");
        return match thing::number(number).and_then(|n| u32::try_from(n).ok()) {
            Some(number) => Ok(CodePlace::Instruction(number)),
            None => Err(given.refused(word, message)),
        };
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits(text) {
        return Ok(CodePlace::Line { file: None, line: line(given, word, text)? });
    }
    if let Some((file, number)) = text.rsplit_once(':')
        && (digits(number) || (is_file(file) && !file.is_empty()))
    {
        let file = Some(file).filter(|file| !file.is_empty()).map(ToOwned::to_owned);
        return Ok(CodePlace::Line { file, line: line(given, word, number)? });
    }
    let is_name = text.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '<'));
    if is_name && !is_file(text) {
        return Ok(CodePlace::Function(text.to_owned()));
    }
    let diagnostic = given.refused(word, format!("`{text}` is not a place in the code"));
    Err(if is_file(text) {
        diagnostic.help(format!("a line stands behind its file: `{text}:57`"))
    } else {
        diagnostic
    })
}

fn is_file(text: &str) -> bool {
    std::path::Path::new(text).extension().is_some_and(|extension| extension == "rs")
}

fn line(given: &Given<'_>, word: &Word, number: &str) -> Result<u32, Diagnostic> {
    match number.parse() {
        Ok(line) if line > 0 => Ok(line),
        _ => Err(given.refused(word, format!("`{number}` is not the number of a line"))),
    }
}
