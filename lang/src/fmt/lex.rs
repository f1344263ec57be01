//! The words, signs and comments of a text, with the line breaks between them. Reads only texts that the
//! parser has accepted; knows nothing of statements.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::outline::Outline;

/// What a token is to the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word, a string or an operator.
    Word,
    Open,
    Close,
    ParenOpen,
    ParenClose,
    Comma,
    Comment,
}

/// A token and what stands before it.
#[derive(Clone, Debug)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    pub(super) text: Cow<'t, str>,
    /// Line ends since the token or comment before.
    pub(super) breaks: u32,
    /// One of the line ends since the token before, comments left aside, is not continued by `\`.
    pub(super) ended: bool,
}

/// Every token of a text, in order.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let outline = Outline::new(text);
    let mut lexer = Lexer {
        text,
        comments: outline.comments.iter().map(|c| (c.start, c.end)).collect(),
        next_comment: 0,
        at: if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 },
        breaks: 0,
        ended: false,
        continued: false,
        tokens: Vec::new(),
    };
    while lexer.step() {}
    lexer.tokens
}

struct Lexer<'t> {
    text: &'t str,
    comments: Vec<(usize, usize)>,
    next_comment: usize,
    at: usize,
    breaks: u32,
    ended: bool,
    /// The last thing on this line, comments left aside, is `\`.
    continued: bool,
    tokens: Vec<Token<'t>>,
}

impl Lexer<'_> {
    fn step(&mut self) -> bool {
        let rest = self.text.get(self.at..).unwrap_or("");
        let Some(first) = rest.chars().next() else { return false };
        if let Some(&(start, end)) = self.comments.get(self.next_comment)
            && start == self.at
        {
            self.next_comment += 1;
            self.push(Kind::Comment, end - start);
            return true;
        }
        match first {
            '\n' => {
                self.breaks += 1;
                self.ended |= !self.continued;
                self.continued = false;
                self.at += 1;
            }
            '\\' => {
                self.continued = true;
                self.at += 1;
            }
            c if c.is_whitespace() => self.at += c.len_utf8(),
            '{' => self.push(Kind::Open, 1),
            '}' => self.push(Kind::Close, 1),
            '(' => self.push(Kind::ParenOpen, 1),
            ')' => self.push(Kind::ParenClose, 1),
            ',' => self.push(Kind::Comma, 1),
            _ => self.push(Kind::Word, word_length(rest, self.comment_ahead())),
        }
        true
    }

    /// Bytes up to the next comment.
    fn comment_ahead(&self) -> usize {
        self.comments.get(self.next_comment).map_or(usize::MAX, |(start, _)| start - self.at)
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let text = self.text.get(self.at..self.at + length).unwrap_or("");
        self.at += length;
        if kind == Kind::Word && self.joins(text) {
            return;
        }
        let (breaks, ended) = (self.breaks, self.ended);
        self.tokens.push(Token { kind, text: Cow::Borrowed(text), breaks, ended });
        self.breaks = 0;
        if kind != Kind::Comment {
            self.ended = false;
            self.continued = false;
        }
    }

    /// Writes `echo :80` as `echo:80` and `[ fd00::1 ]` as `[fd00::1]`; a bare IPv6 address before a port
    /// gets its brackets, since `fd00::1:80` is another address.
    fn joins(&mut self, text: &str) -> bool {
        let Some(last) = self.tokens.last_mut().filter(|t| t.kind == Kind::Word) else {
            return false;
        };
        let port = text.starts_with(':') && !text.starts_with("::");
        if !port && !text.starts_with(']') && last.text != "[" {
            return false;
        }
        if port && last.text.parse::<Ipv6Addr>().is_ok() {
            last.text = format!("[{}]", last.text).into();
        }
        last.text.to_mut().push_str(text);
        self.breaks = 0;
        self.ended = false;
        self.continued = false;
        true
    }
}

/// Length of the string, operator or word that a text begins with; at least one character.
fn word_length(text: &str, most: usize) -> usize {
    if text.starts_with('"') {
        return string_length(text);
    }
    for operator in ["=>", "->", "==", "!=", "=", "!"] {
        if text.starts_with(operator) {
            return operator.len();
        }
    }
    let ends = |&(at, c): &(usize, char)| {
        at > 0
            && (at >= most
                || c.is_whitespace()
                || matches!(c, '{' | '}' | '(' | ')' | ',' | '"' | '=' | '!' | '\\')
                || text.get(at..).is_some_and(|t| t.starts_with("->")))
    };
    text.char_indices().find(ends).map_or(text.len(), |(at, _)| at)
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}
