//! What may stand at the cursor of a line at a stop: words of the language, and kinds of names. Knows no name of a map,
//! a function or a policy; who has them fills them in.

use super::read::{command_words, meant};
use super::table::{FIELDS, INFOS, LEVELS, MOMENTS, PLACES, PlaceWord, THINGS, UNITS};
use super::word::{Choice, choose_entry, words};
use super::{Field, check, place};
use crate::parse;

/// What may stand at the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Where the word at the cursor begins, in bytes; the end of the text where a new one does.
    pub start: usize,
    /// Words that go on as the one at the cursor begins, sorted.
    pub words: Vec<&'static str>,
    /// Kinds of names that may stand there too, whatever they begin with.
    pub names: Vec<NameKind>,
}

/// Names that are not the language's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// Functions of the programs.
    Function,
    /// Source files of the programs; a colon and a line follow.
    SourceFile,
    /// Maps.
    Map,
    /// Helpers of the kernel, without `bpf_`.
    Helper,
    /// Policies, as files name them.
    Policy,
    /// Rules as `POLICY#RULE`.
    Rule,
    /// Nodes.
    Node,
    /// Numbers of breakpoints and watchpoints.
    Breakpoint,
    /// Numbers of displays.
    Display,
    /// Drop reasons by name.
    DropReason,
    /// Kinds of reported events.
    EventKind,
}

/// What may stand somewhere, before the word at the cursor has its say.
type Offer = (Vec<&'static str>, Vec<NameKind>);

const REGISTERS: [&str; 11] = ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10"];

/// Signs and words that compare.
const COMPARISONS: [&str; 8] = ["!=", "&", "<", "<=", "==", ">", ">=", "in"];

/// Says what may stand at the end of `before`, which is a line at a stop up to the cursor. Nothing where the words
/// before are not understood, and within a string.
pub fn complete(before: &str) -> Completion {
    let nothing = Completion { start: before.len(), ..Completion::default() };
    if before.matches('"').count() % 2 == 1 {
        return nothing;
    }
    let start = before.rfind(char::is_whitespace).map_or(0, |at| {
        at + before.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
    });
    let whole: Vec<&str> = before.get(..start).unwrap_or("").split_whitespace().collect();
    let Some((first, given)) = whole.split_first() else {
        return fitting(before, start, (command_words().map(|(word, _)| word).collect(), vec![]));
    };
    let Choice::One(info) = meant(first) else { return nothing };
    let behind = match info.name {
        "break" | "tbreak" | "watch" => given.iter().position(|w| *w == "if").map(|at| at + 1),
        "condition" if given.len() > 1 && given[1] == "if" => Some(2),
        "condition" if !given.is_empty() => Some(1),
        _ => None,
    };
    let Some(behind) = behind else { return fitting(before, start, plain(info.name, given)) };
    let mut tokens: Vec<&str> = given.iter().skip(behind).flat_map(|w| tokens(w)).collect();
    let word = before.get(start..).unwrap_or("");
    let mut last = tokens_of_word(word);
    let word = last.pop().unwrap_or("");
    tokens.extend(last);
    let mut offer = condition(&tokens);
    if info.name == "condition" && given.len() == 1 {
        offer.0.push("if");
    }
    fitting(before, before.len() - word.len(), offer)
}

fn fitting(before: &str, start: usize, (mut words, names): Offer) -> Completion {
    let word = before.get(start..).unwrap_or("");
    words.retain(|known| known.starts_with(word));
    words.sort_unstable();
    words.dedup();
    Completion { start, words, names }
}

/// What may follow a command's words, outside of a condition.
fn plain(command: &str, given: &[&str]) -> Offer {
    match (command, given) {
        ("step" | "back", []) => (words(UNITS), vec![]),
        ("step" | "back", [one]) if one.bytes().all(|b| b.is_ascii_digit()) => {
            (words(UNITS), vec![])
        }
        ("goto", []) => (words(MOMENTS), vec![]),
        ("level", []) => (words(LEVELS), vec![]),
        ("info", []) => (words(INFOS), vec![]),
        ("break" | "tbreak", given) => stop(given),
        ("watch", given) => {
            let mut offer = thing(given);
            if !given.is_empty() && !matches!(given, [one] if is_map(one)) {
                offer.0.push("if");
            }
            offer
        }
        ("print" | "display", given) => thing(given),
        ("condition", []) | ("delete" | "enable" | "disable", _) => {
            (vec![], vec![NameKind::Breakpoint])
        }
        ("undisplay", _) => (vec![], vec![NameKind::Display]),
        ("list", []) => (vec![], vec![NameKind::Function, NameKind::SourceFile]),
        ("disassemble", []) => (vec![], vec![NameKind::Function]),
        ("help", []) => (command_words().map(|(word, _)| word).collect(), vec![]),
        ("edit", given) => edit(given),
        _ => Offer::default(),
    }
}

/// `PLACE [if`
fn stop(given: &[&str]) -> Offer {
    let [kind, rest @ ..] = given else {
        return (words(PLACES), vec![NameKind::Function, NameKind::SourceFile]);
    };
    let Choice::One(kind) = choose_entry(kind, PLACES) else { return (vec!["if"], vec![]) };
    if !rest.is_empty() {
        return (vec!["if"], vec![]);
    }
    let names = match kind {
        PlaceWord::Helper => vec![NameKind::Helper],
        PlaceWord::Lookup | PlaceWord::Update => vec![NameKind::Map],
        PlaceWord::Event => vec![NameKind::EventKind],
        PlaceWord::Drop => vec![NameKind::DropReason],
        PlaceWord::Hop => vec![NameKind::Node],
        PlaceWord::Rule => return (vec![], vec![NameKind::Policy, NameKind::Rule]),
        PlaceWord::Function => return (vec![], vec![NameKind::Function]),
        PlaceWord::Write => {
            let mut words = fields(place::in_packet);
            words.extend(["packet[", "if"]);
            return (words, vec![]);
        }
    };
    (vec!["if"], names)
}

/// `THING`
fn thing(given: &[&str]) -> Offer {
    match given {
        [] => {
            let mut all = words(THINGS);
            all.extend(words(FIELDS));
            all.extend(REGISTERS);
            all.push("packet[");
            (all, vec![])
        }
        [one] if is_map(one) => (vec![], vec![NameKind::Map]),
        ["packet"] => (vec!["hex"], vec![]),
        _ => Offer::default(),
    }
}

/// Whether the word is `map` or enough of it: `ma` may be `mark`.
fn is_map(word: &str) -> bool {
    word == "map"
}

/// `FIELD = VALUE`, `map NAME ...` or a statement.
fn edit(given: &[&str]) -> Offer {
    match given {
        [] => {
            let mut all = fields(is_editable);
            all.extend(REGISTERS.iter().filter(|register| **register != "r10"));
            all.extend(parse::STATEMENTS);
            all.extend(["map", "packet[", "remove"]);
            (all, vec![])
        }
        ["map"] => (vec![], vec![NameKind::Map]),
        ["map", _] => (vec!["remove"], vec![]),
        ["remove"] => (parse::STATEMENTS.to_vec(), vec![]),
        ["remove", "policy"] => (vec![], vec![NameKind::Policy]),
        [one] if FIELDS.iter().any(|(word, ..)| word == one) || REGISTERS.contains(one) => {
            (vec!["="], vec![])
        }
        ["protocol", "="] => (check::protocols(), vec![]),
        _ => Offer::default(),
    }
}

/// Lengths and counts are what they are.
fn is_editable(field: Field) -> bool {
    !matches!(field, Field::Length | Field::Hop | Field::Instruction)
}

fn fields(test: fn(Field) -> bool) -> Vec<&'static str> {
    FIELDS.iter().filter(|(_, field, _)| test(*field)).map(|(word, ..)| *word).collect()
}

/// What may follow in a condition.
fn condition(tokens: &[&str]) -> Offer {
    let operands = || {
        let mut words: Vec<_> = words(FIELDS);
        words.extend(REGISTERS);
        words.extend(["node", "packet["]);
        words
    };
    let is_joint = |token: &str| matches!(token, "and" | "or" | "not" | "&&" | "||" | "!" | "(");
    // Parentheses that close end a comparison as its last side does.
    let from = tokens.iter().rposition(|token| is_joint(token)).map_or(0, |at| at + 1);
    match tokens.get(from..).unwrap_or(&[]) {
        [] => {
            let mut words = operands();
            words.push("not");
            (words, vec![])
        }
        ["node"] => (vec!["==", "!="], vec![]),
        [one] if *one != ")" => (COMPARISONS.to_vec(), vec![]),
        [_, "in"] => Offer::default(),
        ["node", sign] if is_sign(sign) => (vec![], vec![NameKind::Node]),
        ["protocol", sign] if is_sign(sign) => {
            let mut words = operands();
            words.extend(check::protocols());
            (words, vec![])
        }
        [_, sign] if is_sign(sign) => (operands(), vec![]),
        _ => (vec!["and", "or"], vec![]),
    }
}

fn is_sign(token: &str) -> bool {
    token.chars().all(is_of_sign)
}

fn is_of_sign(c: char) -> bool {
    matches!(c, '=' | '<' | '>' | '!' | '&' | '|')
}

/// The pieces of a part of a condition without white space: words, signs, parentheses.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' => 1,
            c if is_of_sign(c) => rest.find(|c| !is_of_sign(c)).unwrap_or(rest.len()),
            _ => rest.find(|c| is_of_sign(c) || matches!(c, '(' | ')')).unwrap_or(rest.len()),
        };
        let (token, behind) = rest.split_at(length);
        tokens.push(token);
        rest = behind;
    }
    tokens
}

/// The same for the word at the cursor: behind a parenthesis and behind a sign that a side stands before a new word
/// begins.
fn tokens_of_word(word: &str) -> Vec<&str> {
    let mut pieces = tokens(word);
    let ends = |last: &&str| matches!(*last, "(" | ")" | "!") || (is_sign(last) && *last != word);
    if pieces.last().is_some_and(ends) {
        pieces.push("");
    }
    pieces
}
