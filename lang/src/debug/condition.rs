//! Conditions: pairs of the grammar to values, and the grammar's failure in words. `not` binds tighter than
//! `and`, and `and` tighter than `or`.

use std::ops::Range as Bytes;

use engine::diag::Diagnostic;
use engine::source::Span;
use pest::Parser as _;
use pest::error::{Error, ErrorVariant, InputLocation};
use pest::iterators::Pair;

use super::check::{self, Side, What};
use super::line::{Line, usage};
use super::read::Problems;
use super::{Comparison, Condition, DebugInfo, Operand, thing};
use crate::codes;

/// The generated parser; its rules are an implementation detail of this module.
mod grammar {
    #![allow(missing_docs, reason = "pest_derive writes the rule enum without docs")]
    #![allow(clippy::pedantic, reason = "generated code")]

    #[derive(pest_derive::Parser)]
    #[grammar = "debug/grammar.pest"]
    pub(super) struct Grammar;
}

use grammar::{Grammar, Rule};

/// How deep parentheses may nest, and how many comparisons there may be: a person needs a few, and values are
/// walked by recursion.
const MAX_DEPTH: usize = 32;
const MOST_TESTS: usize = 64;

/// The most bytes that are read as one number.
const MOST_BYTES: u32 = 8;

/// Reads the condition in a part of the line; `marker` is the word before it.
pub(super) fn read(
    line: &Line,
    marker: &Bytes<usize>,
    range: Bytes<usize>,
    info: &DebugInfo,
) -> Result<Condition, Problems> {
    let text = line.get(&range);
    if text.trim().is_empty() {
        let message = "a condition must follow".to_owned();
        return Err(vec![usage(message, info, line.span(marker))]);
    }
    if let Some(at) = too_deep(text) {
        let at = range.start + at;
        let message = "this `(` is nested too deeply";
        return Err(vec![
            Diagnostic::error(codes::SYNTAX, message, line.span(&(at..at + 1)))
                .help(format!("at most {MAX_DEPTH} levels are read")),
        ]);
    }
    let mut reader = Reader { line, base: range.start, tests: 0, problems: Vec::new() };
    let read = match Grammar::parse(Rule::condition, text) {
        Ok(mut pairs) => {
            pairs.next().and_then(|pair| pair.into_inner().next()).and_then(|p| reader.any_of(p))
        }
        Err(error) => return Err(vec![reader.failure(&error, text)]),
    };
    match read {
        Some(condition) if reader.problems.is_empty() => Ok(condition),
        _ => Err(reader.problems),
    }
}

/// The first parenthesis inside too many others.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' if depth == MAX_DEPTH => return Some(at),
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

struct Reader<'l> {
    line: &'l Line,
    base: usize,
    tests: usize,
    problems: Problems,
}

/// Joins two conditions.
type Join = fn(Box<Condition>, Box<Condition>) -> Condition;

impl Reader<'_> {
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let text = pair.as_str().trim_end();
        let start = self.base + pair.as_span().start();
        self.line.span(&(start..start + text.len()))
    }

    fn any_of(&mut self, pair: Pair<'_, Rule>) -> Option<Condition> {
        self.joined(pair, Rule::all_of, Condition::Or)
    }

    /// All parts are read, so that each one's problem is told.
    fn joined(&mut self, pair: Pair<'_, Rule>, part: Rule, join: Join) -> Option<Condition> {
        let parts: Vec<Option<Condition>> = pair
            .into_inner()
            .filter(|inner| inner.as_rule() == part)
            .map(|inner| match part {
                Rule::all_of => self.joined(inner, Rule::negated, Condition::And),
                _ => self.negated(inner),
            })
            .collect();
        let parts: Vec<Condition> = parts.into_iter().collect::<Option<_>>()?;
        parts.into_iter().reduce(|a, b| join(Box::new(a), Box::new(b)))
    }

    /// Two `not` are none.
    fn negated(&mut self, pair: Pair<'_, Rule>) -> Option<Condition> {
        let mut negative = false;
        let mut condition = None;
        for inner in pair.into_inner() {
            match inner.as_rule() {
                Rule::k_not => negative = !negative,
                Rule::any_of => condition = self.any_of(inner),
                Rule::test => condition = self.test(inner),
                _ => {}
            }
        }
        let condition = condition?;
        Some(if negative { Condition::Not(Box::new(condition)) } else { condition })
    }

    fn test(&mut self, pair: Pair<'_, Rule>) -> Option<Condition> {
        self.tests += 1;
        let span = self.span(&pair);
        if self.tests > MOST_TESTS {
            if self.tests == MOST_TESTS + 1 {
                let message = format!("a condition has at most {MOST_TESTS} comparisons");
                let problem = Diagnostic::error(codes::COMMAND_ARGUMENT, message, span);
                self.problems.push(problem.help("`in` tests for a whole range at once"));
            }
            return None;
        }
        match self.compared(pair, span) {
            Ok(condition) => Some(condition),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn compared(&self, pair: Pair<'_, Rule>, span: Span) -> Result<Condition, Diagnostic> {
        let mut sides = Vec::new();
        let mut comparison = None;
        let mut range = None;
        for inner in pair.into_inner() {
            match inner.as_rule() {
                Rule::operand => sides.push(self.operand(&inner)?),
                Rule::comparison => comparison = comparison_of(inner.as_str()),
                Rule::range => range = Some(self.bounds(inner)?),
                _ => {}
            }
        }
        let mut sides = sides.into_iter();
        match (sides.next(), comparison, sides.next(), range) {
            (Some(left), Some(comparison), Some(right), _) => {
                check::compare(left, comparison, right, span)
            }
            (Some(left), _, _, Some((from, to))) => check::within(&left, &from, to.as_ref(), span),
            _ => Err(Diagnostic::error(codes::SYNTAX, "this is not a comparison", span)),
        }
    }

    fn bounds(&self, pair: Pair<'_, Rule>) -> Result<(Side, Option<Side>), Diagnostic> {
        let span = self.span(&pair);
        let mut bounds = pair
            .into_inner()
            .filter(|inner| inner.as_rule() == Rule::bound)
            .map(|bound| check::side(bound.as_str().trim_end(), self.span(&bound)));
        let first = bounds.next().transpose()?;
        let second = bounds.next().transpose()?;
        let missing = || Diagnostic::error(codes::SYNTAX, "this is not a range", span);
        Ok((first.ok_or_else(missing)?, second))
    }

    fn operand(&self, pair: &Pair<'_, Rule>) -> Result<Side, Diagnostic> {
        let span = self.span(pair);
        let text = pair.as_str().trim_end();
        let inner = pair.clone().into_inner().next().map(|inner| inner.as_rule());
        match inner {
            Some(Rule::bytes) => {
                let inside = text.split_once('[').map_or("", |(_, rest)| rest);
                let inside = inside.trim_end_matches(']');
                let Bytes { start: from, end: to } = thing::byte_range(inside.trim(), span)?;
                if to - from > MOST_BYTES {
                    let message = format!("{} bytes are not one number", to - from);
                    return Err(Diagnostic::error(codes::COMMAND_ARGUMENT, message, span)
                        .help(format!("at most {MOST_BYTES} bytes are compared at once")));
                }
                let what = What::Operand(Operand::Bytes { from, to });
                Ok(Side { text: text.to_owned(), span, what })
            }
            Some(Rule::string) => {
                Ok(Side { text: text.trim_matches('"').to_owned(), span, what: What::Quoted })
            }
            _ => check::side(text, span),
        }
    }

    fn failure(&self, error: &Error<Rule>, text: &str) -> Diagnostic {
        let at = match error.location {
            InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
        };
        let rest = text.get(at..).unwrap_or("");
        let found = found(rest);
        let expected = expected(error);
        let (range, message) = if found.is_empty() {
            let end = text.trim_end().len();
            let last =
                text.get(..end).and_then(|t| t.chars().next_back()).map_or(0, char::len_utf8);
            (end - last..end, format!("the condition ends too early, expected {expected}"))
        } else {
            (at..at + found.len(), format!("unexpected `{found}`, expected {expected}"))
        };
        let span = self.line.span(&(self.base + range.start..self.base + range.end));
        let diagnostic = Diagnostic::error(codes::SYNTAX, message, span);
        diagnostic.help(hint(text.get(..at).unwrap_or("").trim_end(), found))
    }
}

fn comparison_of(sign: &str) -> Option<Comparison> {
    Some(match sign.trim() {
        "=" | "==" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        "&" => Comparison::Bits,
        _ => return None,
    })
}

/// The word or sign at the beginning of a text.
fn found(rest: &str) -> &str {
    let inside =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '$');
    let sign = |c: char| matches!(c, '=' | '<' | '>' | '!' | '&' | '|');
    let length = |test: &dyn Fn(char) -> bool| rest.find(|c| !test(c)).unwrap_or(rest.len());
    let length = match rest.chars().next() {
        None => 0,
        Some(c) if inside(c) => length(&inside),
        Some(c) if sign(c) => length(&sign),
        Some(c) => c.len_utf8(),
    };
    rest.get(..length).unwrap_or("")
}

/// What could have stood there.
fn expected(error: &Error<Rule>) -> String {
    let ErrorVariant::ParsingError { positives, .. } = &error.variant else {
        return "something else".to_owned();
    };
    let mut phrases: Vec<&str> = Vec::new();
    for rule in positives {
        let phrase = match rule {
            Rule::comparison | Rule::k_in => "a comparison such as `== 80`",
            Rule::k_and | Rule::k_or => "`and`, `or`",
            Rule::rparen => "`)`",
            Rule::dots => "`..`",
            Rule::range | Rule::bound => "a number or a prefix",
            Rule::EOI => "the end",
            _ => "a register, a field or a value",
        };
        if !phrases.contains(&phrase) {
            phrases.push(phrase);
        }
    }
    // What a number could have gone on with says nothing.
    if phrases.len() > 1 {
        phrases.retain(|phrase| *phrase != "`..`");
    }
    phrases.sort_by_key(|phrase| *phrase == "the end");
    phrases.join(", ")
}

fn hint(before: &str, found: &str) -> &'static str {
    let compared_twice = comparison_of(found).is_some() && before.contains('&');
    match found {
        _ if compared_twice => {
            "`&` is a comparison itself: bits in common, as in `tcp-flags & 0x12`"
        }
        "~" | "+" | "*" | "%" | "-" | "^" => {
            "nothing is computed: a condition compares values as they are"
        }
        _ => "a condition compares: `dst-port == 80 and not src in 10.244.0.0/16`, `r0 != 0`",
    }
}
