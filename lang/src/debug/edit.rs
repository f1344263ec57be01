//! `edit`: a change of the packet, a register, an entry, or a statement of the language for a copy of the session.

use std::ops::Range;

use engine::diag::Diagnostic;

use super::line::{Given, Line, Word};
use super::read::Problems;
use super::table::FIELDS;
use super::{DebugCommand, DebugInfo, Edit, Field, PacketPart, Value, check, thing};
use crate::ast::{Name, Spanned};
use crate::codes;
use crate::command;
use crate::parse;

/// What can be edited by a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Field(Field),
    Map,
    /// Only parts of it can.
    Packet,
    /// Read elsewhere; here so that it is suggested.
    Statement,
}

pub(super) fn read(
    line: &Line,
    info: &'static DebugInfo,
    first: Range<usize>,
    end: usize,
) -> Result<DebugCommand, Problems> {
    let rest = first.end..end;
    let text = line.get(&rest);
    let start = first.end + (text.len() - text.trim_start().len());
    let word = parse::first_word(text);
    if word == "remove" {
        let padded = format!("{}{}", " ".repeat(start), line.get(&(start..end)));
        command::parse(&padded, line.file)?;
        return Ok(DebugCommand::Edit(Edit::Statement(line.span(&(start..end)))));
    }
    if command::is_statement(word, text) {
        return Ok(DebugCommand::Edit(Edit::Statement(line.span(&(start..end)))));
    }
    let unclosed = line.unclosed();
    if !unclosed.is_empty() {
        return Err(unclosed);
    }
    let mut sides = Sides::new(line, info, first, rest);
    sides.read().map(DebugCommand::Edit).map_err(|problem| vec![problem])
}

/// What stands before and behind the sign.
struct Sides<'l> {
    before: Given<'l>,
    /// All of it, where the sign is the last one: keys hold signs too.
    rest: Range<usize>,
    value: Option<Range<usize>>,
}

impl<'l> Sides<'l> {
    fn new(
        line: &'l Line,
        info: &'static DebugInfo,
        first: Range<usize>,
        rest: Range<usize>,
    ) -> Self {
        let sign = line.get(&rest).find('=').map(|at| rest.start + at);
        let words = line.words(rest.start..sign.unwrap_or(rest.end));
        let before = Given::new(line, info, first, words);
        Self { before, value: sign.map(|sign| sign + 1..rest.end), rest }
    }

    fn read(&mut self) -> Result<Edit, Diagnostic> {
        let word = self.before.required("something to change")?;
        if let Some(PacketPart::Bytes { from, to }) = thing::bytes(&self.before, &word)? {
            return self.bytes(&word, from..to);
        }
        if let Some(number) = thing::register(&self.before, &word)? {
            return self.register(&word, number);
        }
        match self.target(&word)? {
            Target::Field(field) => self.field(&word, field),
            Target::Map => self.entry(),
            Target::Packet | Target::Statement => {
                let message = format!("`{}` cannot be changed as a whole", word.text);
                let help = "`edit packet[A..B] = HEX` changes bytes, `edit FIELD = VALUE` a field, `edit STATEMENT` a policy";
                let span = self.before.line.span(&word.range);
                Err(Diagnostic::error(codes::COMMAND_ARGUMENT, message, span).help(help))
            }
        }
    }

    fn target(&self, word: &Word) -> Result<Target, Diagnostic> {
        let statements = parse::STATEMENTS.iter().map(|known| (*known, Target::Statement));
        let fields = FIELDS.iter().map(|(known, field, _)| (*known, Target::Field(*field)));
        let others = [("map", Target::Map), ("packet", Target::Packet)];
        let exact: Vec<(&str, Target)> = fields.chain(others).collect();
        // Statements are never abbreviated, only suggested.
        let all: Vec<&str> =
            exact.iter().map(|(known, _)| *known).chain(statements.map(|(w, _)| w)).collect();
        match super::word::choose(&word.text, exact.iter().copied()) {
            super::word::Choice::Nothing => {
                Err(self.before.wrong(word, "something that can be changed", &all))
            }
            _ => self.before.choose(word, "something that can be changed", &exact),
        }
    }

    /// What stands behind the sign, which must be something.
    fn value(&self) -> Result<Word, Diagnostic> {
        let line = self.before.line;
        let range = self
            .value
            .clone()
            .ok_or_else(|| self.before.missing("`= VALUE` behind what is changed"))?;
        let text = line.get(&range);
        let start = range.start + (text.len() - text.trim_start().len());
        let text = text.trim().to_owned();
        if text.is_empty() {
            return Err(self.before.missing("a value behind `=`"));
        }
        let end = start + text.len();
        Ok(Word { text, range: start..end, quoted: false })
    }

    fn field(&mut self, word: &Word, field: Field) -> Result<Edit, Diagnostic> {
        self.before.end()?;
        let line = self.before.line;
        if matches!(field, Field::Length | Field::Hop | Field::Instruction) {
            let message = format!("`{}` is counted and cannot be changed", field.word());
            return Err(self.before.refused(word, message));
        }
        let written = self.value()?;
        let span = line.span(&written.range);
        let node: Value = check::value(field, &written.text, span)?;
        Ok(Edit::Field(
            Spanned { node: field, span: line.span(&word.range) },
            Spanned { node, span },
        ))
    }

    fn register(&mut self, word: &Word, number: u8) -> Result<Edit, Diagnostic> {
        self.before.end()?;
        if number == thing::LAST_REGISTER {
            let message = format!("`{}` points to the stack and cannot be changed", word.text);
            return Err(self.before.refused(word, message));
        }
        let written = self.value()?;
        match thing::number(&written.text) {
            Some(value) => Ok(Edit::Register(number, value)),
            None => Err(check::no_number(&written.text, self.before.line.span(&written.range))),
        }
    }

    fn bytes(&mut self, word: &Word, range: Range<u32>) -> Result<Edit, Diagnostic> {
        self.before.end()?;
        let written = self.value()?;
        let bytes = self.hex(&written)?;
        let named = (range.end - range.start) as usize;
        // One number names where the bytes begin, a range also how many they are.
        if word.text.contains("..") && bytes.node.len() != named {
            let message = format!("{named} bytes are named and {} given", bytes.node.len());
            return Err(self.before.refused(&written, message));
        }
        Ok(Edit::Bytes { from: range.start, bytes })
    }

    /// `map NAME KEY = VALUE` and `map NAME remove KEY`. The key may hold signs: the last one counts.
    fn entry(&mut self) -> Result<Edit, Diagnostic> {
        let line = self.before.line;
        let text = line.get(&self.rest);
        let sign = text.rfind('=').map(|at| self.rest.start + at);
        let words = line.words(self.rest.start..sign.unwrap_or(self.rest.end));
        let mut given = Given::new(line, self.before.info, self.before.command.clone(), words);
        given.next();
        let map = given.name().ok_or_else(|| given.missing("the name of a map"))?;
        let Some(sign) = sign else { return removal(&mut given, map) };
        let key = given.all().ok_or_else(|| given.missing("a key behind the map"))?;
        self.value = Some(sign + 1..self.rest.end);
        let value = self.hex(&self.value()?)?;
        Ok(Edit::Entry { map, key, value })
    }

    /// Hex digits, in pairs, with or without `0x`, blanks or colons.
    fn hex(&self, written: &Word) -> Result<Spanned<Vec<u8>>, Diagnostic> {
        let groups = written.text.split(|c: char| c.is_whitespace() || c == ':');
        let digits: String =
            groups.map(|group| group.strip_prefix("0x").unwrap_or(group)).collect();
        let pairs = digits.as_bytes().chunks(2);
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
            _ => None,
        };
        let span = self.before.line.span(&written.range);
        match pairs.map(byte).collect::<Option<Vec<u8>>>() {
            Some(node) if !node.is_empty() => Ok(Spanned { node, span }),
            _ => {
                let message = format!("`{}` is not bytes in hex", written.text);
                let help = "two hex digits are a byte: `0x0a01` or `0a 01`";
                Err(Diagnostic::error(codes::BAD_NUMBER, message, span).help(help))
            }
        }
    }
}

fn removal(given: &mut Given<'_>, map: Name) -> Result<Edit, Diagnostic> {
    let word = given.required("`KEY = HEX` or `remove KEY` behind the map")?;
    if word.text.is_empty() || !"remove".starts_with(&word.text) {
        return Err(given.missing("`= HEX` behind the key"));
    }
    let key = given.all().ok_or_else(|| given.missing("the key to remove"))?;
    Ok(Edit::RemoveEntry { map, key })
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
