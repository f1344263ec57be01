//! A line at a stop as words, and the words of a command taken one by one. Owns what is said about words that
//! are missing, wrong, ambiguous or too many.

use std::ops::Range;

use engine::diag::Diagnostic;
use engine::source::{FileId, Span};

use super::DebugInfo;
use super::word::{Choice, choose, either};
use crate::ast::Name;
use crate::codes;
use crate::names::nearest;
use crate::outline::Outline;
use crate::parse;

/// A line with its comments and continuations blanked.
pub(super) struct Line {
    pub(super) text: String,
    pub(super) file: FileId,
    /// Strings that nothing closes, by their first byte.
    unterminated: Vec<usize>,
}

/// A word: its text without quotes, its place with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) range: Range<usize>,
    pub(super) quoted: bool,
}

impl Line {
    pub(super) fn new(text: &str, file: FileId) -> Self {
        let outline = Outline::new(text);
        let text = without_continuations(outline.blanked);
        Self { text, file, unterminated: outline.unterminated }
    }

    pub(super) fn get(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or("")
    }

    pub(super) fn span(&self, range: &Range<usize>) -> Span {
        parse::span_of(self.file, range)
    }

    /// The strings that nothing closes.
    pub(super) fn unclosed(&self) -> Vec<Diagnostic> {
        let problem = |&at: &usize| {
            let rest = self.get(&(at..self.text.len()));
            let end = at + rest.lines().next().unwrap_or("").trim_end().len();
            let message = "this string has no closing quote";
            Diagnostic::error(codes::UNTERMINATED_STRING, message, self.span(&(at..end)))
                .help("a string ends on its own line")
        };
        self.unterminated.iter().map(problem).collect()
    }

    /// The words of a part. What is in quotes is one, and what is in brackets belongs to its word.
    pub(super) fn words(&self, range: Range<usize>) -> Vec<Word> {
        let mut words = Vec::new();
        let Range { start: mut at, end } = range;
        let last_bracket = self.get(&(at..end)).rfind(']').map_or(0, |found| at + found);
        while let Some(rest) = self.text.get(at..end).filter(|rest| !rest.trim().is_empty()) {
            let from = at + (rest.len() - rest.trim_start().len());
            let word = self.get(&(from..end));
            let quoted = word.strip_prefix('"').and_then(|inner| Some((inner, inner.find('"')?)));
            let (text, length) = match quoted {
                Some((inner, close)) => (inner.get(..close).unwrap_or(""), close + 2),
                None => {
                    let length = bare(word, last_bracket.saturating_sub(from));
                    (word.get(..length).unwrap_or(""), length)
                }
            };
            let (text, quoted) = (text.to_owned(), quoted.is_some());
            words.push(Word { text, range: from..from + length, quoted });
            at = from + length;
        }
        words
    }

    pub(super) fn name(&self, word: &Word) -> Name {
        Name { node: word.text.clone(), span: self.span(&word.range) }
    }
}

/// The length of a word without quotes. White space in brackets belongs to it up to the text's last `]`.
fn bare(word: &str, last_bracket: usize) -> usize {
    let mut inside = false;
    for (at, c) in word.char_indices() {
        match c {
            '[' if at < last_bracket => inside = true,
            ']' => inside = false,
            c if c.is_whitespace() && !inside => return at,
            _ => {}
        }
    }
    word.len()
}

/// A `\` at the end of a line is white space.
fn without_continuations(text: String) -> String {
    let continues = |at: usize| {
        let rest = text.get(at + 1..).unwrap_or("").trim_start_matches([' ', '\t', '\r']);
        rest.starts_with('\n') || rest.is_empty()
    };
    let ends: Vec<usize> =
        text.match_indices('\\').map(|(at, _)| at).filter(|at| continues(*at)).collect();
    let mut bytes = text.into_bytes();
    for at in ends {
        if let Some(byte) = bytes.get_mut(at) {
            *byte = b' ';
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// What is wrong, with the command's form and example.
pub(super) fn usage(message: String, info: &DebugInfo, span: Span) -> Diagnostic {
    Diagnostic::error(codes::COMMAND_ARGUMENT, message, span).help(form(info))
}

fn form(info: &DebugInfo) -> String {
    match info {
        DebugInfo { usage, example, .. } if usage == example => format!("usage: {usage}"),
        DebugInfo { usage, example, .. } => format!("usage: {usage}, for example `{example}`"),
    }
}

/// The words behind a command, taken one by one.
pub(super) struct Given<'l> {
    pub(super) line: &'l Line,
    pub(super) info: &'static DebugInfo,
    /// Where the command's own word stands.
    pub(super) command: Range<usize>,
    words: Vec<Word>,
    taken: usize,
}

impl<'l> Given<'l> {
    pub(super) fn new(
        line: &'l Line,
        info: &'static DebugInfo,
        command: Range<usize>,
        words: Vec<Word>,
    ) -> Self {
        Self { line, info, command, words, taken: 0 }
    }

    pub(super) fn peek(&self) -> Option<&Word> {
        self.words.get(self.taken)
    }

    pub(super) fn next(&mut self) -> Option<Word> {
        let next = self.words.get(self.taken).cloned();
        self.taken += usize::from(next.is_some());
        next
    }

    /// The next word as a name.
    pub(super) fn name(&mut self) -> Option<Name> {
        let word = self.next()?;
        Some(self.line.name(&word))
    }

    pub(super) fn required(&mut self, what: &str) -> Result<Word, Diagnostic> {
        self.next().ok_or_else(|| self.missing(what))
    }

    /// All words that are left, as they are written; quotes around all of it are taken off.
    pub(super) fn all(&mut self) -> Option<Name> {
        let left = self.words.get(self.taken..).unwrap_or(&[]);
        let (first, last) = (left.first()?, left.last()?);
        let range = first.range.start..last.range.end;
        let node = match left {
            [only] => only.text.clone(),
            _ => self.line.get(&range).to_owned(),
        };
        self.taken = self.words.len();
        Some(Name { node, span: self.line.span(&range) })
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), Diagnostic> {
        let Some(extra) = self.peek() else { return Ok(()) };
        let last = self.words.last().unwrap_or(extra);
        let message = match self.taken {
            0 => format!("`{}` takes nothing", self.info.name),
            _ => format!("`{}` does not take `{}` as well", self.info.name, extra.text),
        };
        let range = extra.range.start..last.range.end;
        Err(usage(message, self.info, self.line.span(&range)))
    }

    pub(super) fn missing(&self, what: &str) -> Diagnostic {
        let message = format!("`{}` needs {what}", self.info.name);
        usage(message, self.info, self.line.span(&self.command))
    }

    pub(super) fn refused(&self, word: &Word, message: String) -> Diagnostic {
        usage(message, self.info, self.line.span(&word.range))
    }

    /// The word is none of those that may stand there.
    pub(super) fn wrong(&self, word: &Word, what: &str, words: &[&'static str]) -> Diagnostic {
        let span = self.line.span(&word.range);
        let message = format!("`{}` is not {what}", word.text);
        let diagnostic = Diagnostic::error(codes::COMMAND_ARGUMENT, message, span);
        match nearest(&word.text, words.iter().copied()) {
            Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), span, near),
            None if words.is_empty() => diagnostic.help(form(self.info)),
            None => diagnostic.help(format!("it may be {}", either(words))).help(form(self.info)),
        }
    }

    /// Which of some words is meant.
    pub(super) fn choose<T: Copy + PartialEq>(
        &self,
        word: &Word,
        what: &str,
        among: &[(&'static str, T)],
    ) -> Result<T, Diagnostic> {
        match choose(&word.text, among.iter().copied()) {
            Choice::One(value) if !word.quoted => Ok(value),
            Choice::Several(several) => Err(ambiguous(word, &several, self.line)),
            _ => {
                let words: Vec<&str> = among.iter().map(|(known, _)| *known).collect();
                Err(self.wrong(word, what, &words))
            }
        }
    }

    /// A number of steps: once where there is none.
    pub(super) fn count(&mut self) -> Result<u32, Diagnostic> {
        match self.next() {
            Some(word) => self.number(&word, "a number of times"),
            None => Ok(1),
        }
    }

    /// A number from 1.
    pub(super) fn number(&self, word: &Word, what: &str) -> Result<u32, Diagnostic> {
        match word.text.parse::<u32>() {
            Ok(number) if number > 0 && !word.quoted => Ok(number),
            _ if !word.text.is_empty() && word.text.bytes().all(|b| b.is_ascii_digit()) => {
                let message = format!("`{}` is not {what}", word.text);
                let span = self.line.span(&word.range);
                let limits = format!("must be from 1 to {}", u32::MAX);
                Err(Diagnostic::error(codes::BAD_NUMBER, message, span)
                    .label(limits)
                    .help(form(self.info)))
            }
            _ => Err(self.refused(word, format!("`{}` is not {what}", word.text))),
        }
    }
}

pub(super) fn ambiguous(word: &Word, several: &[&str], line: &Line) -> Diagnostic {
    let message = format!("`{}` may be {}", word.text, either(several));
    Diagnostic::error(codes::COMMAND_ARGUMENT, message, line.span(&word.range))
        .help("write more of the word")
}
