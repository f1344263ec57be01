//! The words of a command of this machine as a shell reads them: quotes, backslashes and comments. Nothing is expanded, and no shell runs.

use std::ops::Range;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// A quote that nothing closes.
    Open(Range<usize>),
    /// What only a shell does: pipes, redirections, several commands.
    Operator(Range<usize>),
}

/// The words of a text behind a byte, each with its place in the text.
pub(super) fn words(text: &str, from: usize) -> Result<Vec<(String, Range<usize>)>, Problem> {
    let mut read = Reader { text, at: from, words: Vec::new(), word: None };
    while read.step()? {}
    read.end();
    Ok(read.words)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    words: Vec<(String, Range<usize>)>,
    /// The word that has begun, and where.
    word: Option<(String, usize)>,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.text.get(self.at..)?.chars().next()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn push(&mut self, from: usize, more: Option<char>) {
        self.word.get_or_insert_with(|| (String::new(), from)).0.extend(more);
    }

    fn end(&mut self) {
        let at = self.at;
        self.words.extend(self.word.take().map(|(word, from)| (word, from..at)));
    }

    /// Reads one character, or what is in quotes; whether there was any.
    fn step(&mut self) -> Result<bool, Problem> {
        let from = self.at;
        let Some(next) = self.next() else { return Ok(false) };
        match next {
            '\'' => self.literal(from)?,
            '"' => self.quoted(from)?,
            '\\' => match self.next() {
                Some('\n') => {}
                escaped => self.push(from, escaped.or(Some('\\'))),
            },
            '#' if self.word.is_none() => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                self.at += rest.find('\n').unwrap_or(rest.len());
            }
            '|' | '&' | ';' | '<' | '>' | '(' | ')' => {
                return Err(Problem::Operator(from..self.at));
            }
            blank if blank.is_whitespace() => {
                self.at = from;
                self.end();
                self.at = from + blank.len_utf8();
            }
            plain => self.push(from, Some(plain)),
        }
        Ok(true)
    }

    /// Up to the next single quote everything is what it is.
    fn literal(&mut self, from: usize) -> Result<(), Problem> {
        self.push(from, None);
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(plain) => self.push(from, Some(plain)),
                None => return Err(Problem::Open(from..from + 1)),
            }
        }
    }

    /// Up to the next double quote; a backslash is one but before the few that it takes their meaning from.
    fn quoted(&mut self, from: usize) -> Result<(), Problem> {
        self.push(from, None);
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('\\') => match self.next() {
                    Some('\n') => {}
                    Some(escaped @ ('"' | '\\' | '$' | '`')) => self.push(from, Some(escaped)),
                    Some(other) => {
                        self.push(from, Some('\\'));
                        self.push(from, Some(other));
                    }
                    None => return Err(Problem::Open(from..from + 1)),
                },
                Some(plain) => self.push(from, Some(plain)),
                None => return Err(Problem::Open(from..from + 1)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let read = |text: &str| {
            let words = words(text, 0).expect("it is read");
            words.into_iter().map(|(word, _)| word).collect::<Vec<_>>()
        };
        assert_eq!(read("sh -c '(sleep 1; curl x) &'"), ["sh", "-c", "(sleep 1; curl x) &"]);
        assert_eq!(read("a \"b \\\" 'c' \\n\"d"), ["a", "b \" 'c' \\nd"]);
        assert_eq!(read("a\\ b '' 'it'\\''s'"), ["a b", "", "it's"]);
        assert_eq!(read("a b#c # d '"), ["a", "b#c"]);
        assert_eq!(read("a \\\n b"), ["a", "b"]);
        assert_eq!(read("  "), Vec::<String>::new());
        assert_eq!(words("x a 'b c' d", 2).expect("it is read")[1], ("b c".to_owned(), 4..9));
    }

    #[test]
    fn what_only_a_shell_does_is_told() {
        assert_eq!(words("a 'b", 0), Err(Problem::Open(2..3)));
        assert_eq!(words("a \"b\\\"", 0), Err(Problem::Open(2..3)));
        for text in ["a | b", "a > b", "a; b", "a & b", "(a)"] {
            assert!(matches!(words(text, 0), Err(Problem::Operator(_))), "{text}");
        }
        assert!(words("a \\| b '|' \";\"", 0).is_ok());
    }
}
