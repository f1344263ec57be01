//! Reads a line at a stop: the command by its first word, or a beginning of it, and then what it takes.

use std::ops::Range;

use engine::diag::Diagnostic;
use engine::source::FileId;

use super::line::{Given, Line, Word};
use super::table::{self, ELSEWHERE, Goto, INFOS, LEVELS, MOMENTS, TABLE, UNITS};
use super::word::{Choice, choose, either, words};
use super::{Condition, DebugCommand, DebugInfo, Moment, Unit, condition, edit, place, thing};
use crate::ast::Spanned;
use crate::codes;
use crate::command;
use crate::names::nearest;
use crate::parse;

/// What several problems are.
pub(super) type Problems = Vec<Diagnostic>;

pub(super) fn command(text: &str, file: FileId) -> Result<DebugCommand, Problems> {
    let line = Line::new(text, file);
    let end = line.text.trim_end().len();
    let start = line.text.len() - line.text.trim_start().len();
    if line.text.trim().is_empty() {
        return Ok(DebugCommand::Again);
    }
    let first = first_word(&line, start..end);
    let behind = line.get(&(first.range.end..end)).trim_start();
    if behind.starts_with("->") {
        return Err(vec![unknown(&line, &first)]);
    }
    let info = resolve(&line, &first).map_err(|problem| vec![problem])?;
    if info.name == "edit" {
        return edit::read(&line, info, first.range, end);
    }
    let unclosed = line.unclosed();
    if !unclosed.is_empty() {
        return Err(unclosed);
    }
    let given = line.words(first.range.end..end);
    match info.name {
        "break" | "tbreak" | "watch" => stop(&line, info, first.range, given, end),
        "condition" => conditioned(&line, info, first.range, given, end),
        _ => {
            let mut given = Given::new(&line, info, first.range, given);
            plain(&mut given).map_err(|problem| vec![problem])
        }
    }
}

fn first_word(line: &Line, range: Range<usize>) -> Word {
    let start = range.start;
    let rest = line.get(&range);
    let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let text = rest.get(..length).unwrap_or("").to_owned();
    Word { text, range: start..start + length, quoted: false }
}

/// The words of which a beginning does, with their commands: names, and aliases that are words themselves.
pub(super) fn command_words() -> impl Iterator<Item = (&'static str, &'static DebugInfo)> + Clone {
    const SHORTEST: usize = 4;
    TABLE.iter().flat_map(|info| {
        let spelled = |alias: &&str| alias.len() >= SHORTEST && !info.name.starts_with(alias);
        let aliases = info.aliases.iter().copied().filter(spelled);
        std::iter::once(info.name).chain(aliases).map(move |word| (word, info))
    })
}

/// The command that a word names or begins.
pub(super) fn resolve(line: &Line, word: &Word) -> Result<&'static DebugInfo, Diagnostic> {
    match meant(&word.text) {
        Choice::One(info) => Ok(info),
        Choice::Several(several) => {
            let message = format!("`{}` may be {}", word.text, either(&several));
            let span = line.span(&word.range);
            let diagnostic = Diagnostic::error(codes::UNKNOWN_COMMAND, message, span);
            Err(diagnostic.help("write more of the word"))
        }
        Choice::Nothing => Err(unknown(line, word)),
    }
}

/// What a word may mean as a command.
pub(super) fn meant(word: &str) -> Choice<&'static DebugInfo> {
    match table::find(word) {
        Some(info) => Choice::One(info),
        None => choose(word, command_words()),
    }
}

fn unknown(line: &Line, word: &Word) -> Diagnostic {
    let span = line.span(&word.range);
    let text = word.text.as_str();
    if let Some(info) = formatted(text) {
        let message = format!("`{}` takes no format", info.name);
        let help = "numbers are shown in decimal and hex; `print hex` shows all bytes of the packet, `print packet[A..B]` some";
        return Diagnostic::error(codes::COMMAND_ARGUMENT, message, span).help(help);
    }
    let message = format!("`{text}` is not a command of the debugger");
    let diagnostic = Diagnostic::error(codes::UNKNOWN_COMMAND, message, span);
    let name = parse::first_word(text);
    if let Some((_, advice)) = ELSEWHERE.iter().find(|(known, _)| *known == name) {
        return diagnostic.help(*advice);
    }
    if parse::begins_statement(name) {
        let at = line.span(&(word.range.start..word.range.start));
        return diagnostic.fix("`edit` applies a statement to a copy of the session", at, "edit ");
    }
    if command::find(text).is_some() || line.text.contains("->") {
        let what = if line.text.contains("->") { "a question" } else { "a command of the session" };
        return diagnostic
            .note(format!("it begins {what}"))
            .help("`quit` goes back to the session");
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return diagnostic.help("a number follows its command: `step 3`, `goto 120`");
    }
    match nearest(text, command_words().map(|(word, _)| word)) {
        Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), span, near),
        None => diagnostic.help("`help` lists the commands"),
    }
}

/// The command before a format: `print/x`.
fn formatted(text: &str) -> Option<&'static DebugInfo> {
    let (name, format) = text.split_once('/')?;
    match meant(name) {
        Choice::One(info) if format.len() <= 4 => Some(info),
        _ => None,
    }
}

fn plain(given: &mut Given<'_>) -> Result<DebugCommand, Diagnostic> {
    let command = match given.info.name {
        "step" => stepping(given, DebugCommand::Step)?,
        "stepi" => DebugCommand::Step(Some(Unit::Instruction), given.count()?),
        "next" => DebugCommand::Next(None, given.count()?),
        "nexti" => DebugCommand::Next(Some(Unit::Instruction), given.count()?),
        "back" => stepping(given, DebugCommand::Back)?,
        "reverse-stepi" => DebugCommand::Back(Some(Unit::Instruction), given.count()?),
        "reverse-next" => DebugCommand::ReverseNext(given.count()?),
        "finish" => DebugCommand::Finish,
        "continue" => DebugCommand::Continue(given.count()?),
        "reverse-continue" => DebugCommand::ReverseContinue(given.count()?),
        "goto" => DebugCommand::Goto(moment(given)?),
        "level" => level(given)?,
        "delete" => DebugCommand::Delete(numbers(given)?),
        "enable" => DebugCommand::Enable(numbers(given)?, true),
        "disable" => DebugCommand::Enable(numbers(given)?, false),
        "print" => DebugCommand::Print(thing::required(given)?),
        "display" => DebugCommand::Display(thing::optional(given)?),
        "undisplay" => DebugCommand::Undisplay(numbers(given)?),
        "list" => DebugCommand::List(place::code(given)?),
        "disassemble" => DebugCommand::Disassemble(given.name()),
        "backtrace" => DebugCommand::Backtrace,
        "info" => listed(given)?,
        "answer" => DebugCommand::Answer,
        "help" => help(given)?,
        _ => DebugCommand::Quit,
    };
    given.end()?;
    Ok(command)
}

/// `[UNIT] [N]`, in either order; a unit may be in the plural.
fn stepping(
    given: &mut Given<'_>,
    command: fn(Option<Unit>, u32) -> DebugCommand,
) -> Result<DebugCommand, Diagnostic> {
    let (mut unit, mut count) = (None, None);
    while let Some(word) = given.peek().cloned() {
        let is_number = word.text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if is_number && count.is_none() {
            count = Some(given.number(&word, "a number of steps")?);
        } else if !is_number && unit.is_none() {
            unit = Some(unit_of(given, &word)?);
        } else {
            break;
        }
        given.next();
    }
    Ok(command(unit, count.unwrap_or(1)))
}

fn unit_of(given: &Given<'_>, word: &Word) -> Result<Unit, Diagnostic> {
    let among: Vec<(&str, Unit)> = UNITS.iter().map(|(w, unit, _)| (*w, *unit)).collect();
    let one = word.text.strip_suffix('s').filter(|one| words(UNITS).contains(one));
    let word = Word { text: one.unwrap_or(&word.text).to_owned(), ..word.clone() };
    given.choose(&word, "what a step is", &among)
}

fn moment(given: &mut Given<'_>) -> Result<Moment, Diagnostic> {
    let word = given.required("a time")?;
    if word.text.starts_with(|c: char| c.is_ascii_digit()) {
        let number = word.text.parse().map(Moment::Instruction);
        let message = format!("`{}` is not the number of an instruction", word.text);
        return number.map_err(|_| given.refused(&word, message));
    }
    let among: Vec<(&str, Goto)> = MOMENTS.iter().map(|(w, goto, _)| (*w, *goto)).collect();
    let goto = given.choose(&word, "a time", &among)?;
    let mut number = |what: &str| -> Result<u32, Diagnostic> {
        let word = given.required(what)?;
        given.number(&word, what)
    };
    Ok(match goto {
        Goto::Start => Moment::Start,
        Goto::End => Moment::End,
        Goto::Hop => Moment::Hop(number("the number of a hop")?),
        Goto::Event => Moment::Event(number("the number of an event")?),
    })
}

fn level(given: &mut Given<'_>) -> Result<DebugCommand, Diagnostic> {
    let Some(word) = given.next() else { return Ok(DebugCommand::Level(None)) };
    let among: Vec<_> = LEVELS.iter().map(|(w, level, _)| (*w, *level)).collect();
    Ok(DebugCommand::Level(Some(given.choose(&word, "a level", &among)?)))
}

fn listed(given: &mut Given<'_>) -> Result<DebugCommand, Diagnostic> {
    let word = given.required(&format!("one of {}", either(&words(INFOS))))?;
    let among: Vec<_> = INFOS.iter().map(|(w, info, _)| (*w, *info)).collect();
    Ok(DebugCommand::Info(given.choose(&word, "something to list", &among)?))
}

/// The command that help is asked for, written out.
fn help(given: &mut Given<'_>) -> Result<DebugCommand, Diagnostic> {
    let Some(word) = given.next() else { return Ok(DebugCommand::Help(None)) };
    let info = resolve(given.line, &word)?;
    let span = given.line.span(&word.range);
    Ok(DebugCommand::Help(Some(Spanned { node: info.name.to_owned(), span })))
}

fn numbers(given: &mut Given<'_>) -> Result<Vec<Spanned<u32>>, Diagnostic> {
    let what = if given.info.name == "undisplay" { "a display" } else { "a breakpoint" };
    let mut numbers = Vec::new();
    while let Some(word) = given.next() {
        numbers.push(numbered(given, &word, what)?);
    }
    Ok(numbers)
}

fn numbered(given: &Given<'_>, word: &Word, what: &str) -> Result<Spanned<u32>, Diagnostic> {
    let node = given.number(word, &format!("the number of {what}"))?;
    Ok(Spanned { node, span: given.line.span(&word.range) })
}

/// `break`, `tbreak` and `watch`, which end in a condition.
fn stop(
    line: &Line,
    info: &'static DebugInfo,
    first: Range<usize>,
    mut words: Vec<Word>,
    end: usize,
) -> Result<DebugCommand, Problems> {
    let marker = words.iter().position(|word| word.text == "if" && !word.quoted);
    let behind = marker.and_then(|at| words.get(at)).map(|word| word.range.clone());
    words.truncate(marker.unwrap_or(words.len()));
    let mut given = Given::new(line, info, first, words);
    let what = stopping(&mut given);
    let condition =
        behind.map(|word| condition::read(line, &word, word.end..end, info)).transpose();
    match (what, condition) {
        (Ok(what), Ok(condition)) => Ok(what(condition)),
        (Err(problem), Ok(_)) => Err(vec![problem]),
        (Ok(_), Err(problems)) => Err(problems),
        (Err(problem), Err(problems)) => Err(std::iter::once(problem).chain(problems).collect()),
    }
}

/// What is stopped at, to which a condition comes.
type Stop = Box<dyn FnOnce(Option<Condition>) -> DebugCommand>;

fn stopping(given: &mut Given<'_>) -> Result<Stop, Diagnostic> {
    if given.info.name == "watch" {
        let thing = thing::required(given)?;
        given.end()?;
        return Ok(Box::new(|condition| DebugCommand::Watch { thing, condition }));
    }
    let once = given.info.name == "tbreak";
    let place = place::read(given)?;
    given.end()?;
    Ok(Box::new(move |condition| DebugCommand::Break { place, condition, once }))
}

/// `condition N [if] CONDITION`
fn conditioned(
    line: &Line,
    info: &'static DebugInfo,
    first: Range<usize>,
    mut words: Vec<Word>,
    end: usize,
) -> Result<DebugCommand, Problems> {
    let rest = words.split_off(words.len().min(1));
    let mut given = Given::new(line, info, first, words);
    let word = given.required("the number of a breakpoint").map_err(|problem| vec![problem])?;
    let number = numbered(&given, &word, "a breakpoint").map_err(|problem| vec![problem])?;
    let behind = match rest.first() {
        None => return Ok(DebugCommand::Condition(number, None)),
        Some(word) if word.text == "if" && !word.quoted => word.range.end,
        Some(word) => word.range.start,
    };
    let condition = condition::read(line, &word.range, behind..end, info)?;
    Ok(DebugCommand::Condition(number, Some(condition)))
}
