//! Splits a text into statements, and a block into lines, before the grammar reads them: finds comments,
//! strings, braces, line ends and continuations, and nothing else. Owns recovery from unbalanced braces.

use std::ops::Range;

/// What the scan found, by byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Open,
    Close,
    /// A line end that is not continued by `\`.
    LineEnd,
}

/// A text seen once from end to end.
#[derive(Debug)]
pub(crate) struct Outline {
    /// The text with every comment, and a byte order mark, replaced by as many spaces.
    pub(crate) blanked: String,
    /// Comments, from `#` to the last character that is not white space.
    pub(crate) comments: Vec<Range<usize>>,
    /// Strings that no quote ends on their line, by their first byte.
    pub(crate) unterminated: Vec<usize>,
    marks: Vec<(usize, Mark)>,
    /// The text ends in `\`.
    continued: bool,
}

/// A statement, or a line of a block, without surrounding white space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Its bytes.
    pub(crate) range: Range<usize>,
    /// Its first outermost braces, where it has any: positions of `{` and `}`.
    pub(crate) braces: Option<(usize, usize)>,
}

/// How deep braces and parentheses may nest. The language needs 4; the bound keeps the parser's recursion
/// small whatever the text.
pub(crate) const MAX_DEPTH: usize = 32;

/// What is wrong with the braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unbalanced {
    /// An opening brace or parenthesis that nothing closes.
    Unclosed(usize),
    /// A closing one that nothing opened.
    Stray(usize),
    /// An opening one inside [`MAX_DEPTH`] others.
    TooDeep(usize),
}

/// Whether more must follow before the text can be read.
pub(crate) fn is_incomplete(text: &str) -> bool {
    let outline = Outline::new(text);
    let mut depth = 0_usize;
    for (_, mark) in &outline.marks {
        match mark {
            Mark::Open => depth += 1,
            Mark::Close => depth = depth.saturating_sub(1),
            Mark::LineEnd => {}
        }
    }
    depth > 0 || outline.continued
}

impl Outline {
    pub(crate) fn new(text: &str) -> Self {
        let mut scan = Scan { text, at: 0, outline: Self::empty() };
        while scan.step() {}
        let mut outline = scan.outline;
        outline.blanked = blank(text, &outline.comments);
        outline.drop_continued_line_ends();
        outline
    }

    fn empty() -> Self {
        Self {
            blanked: String::new(),
            comments: Vec::new(),
            unterminated: Vec::new(),
            marks: Vec::new(),
            continued: false,
        }
    }

    fn drop_continued_line_ends(&mut self) {
        let blanked = &self.blanked;
        let continues = |at: usize| {
            blanked.get(..at).is_some_and(|t| t.trim_end_matches([' ', '\t', '\r']).ends_with('\\'))
        };
        self.marks.retain(|&(at, mark)| mark != Mark::LineEnd || !continues(at));
        self.continued = blanked.trim_end().ends_with('\\');
    }

    /// Statements of the whole text and what is wrong with its braces. A statement whose braces are
    /// unbalanced is left out.
    pub(crate) fn statements(&self, starts: fn(&str) -> bool) -> (Vec<Chunk>, Vec<Unbalanced>) {
        let whole = 0..self.blanked.len();
        let (chunks, problems) = self.split(whole.clone(), None);
        if problems.iter().any(|p| matches!(p, Unbalanced::Unclosed(_))) {
            return self.split(whole, Some(starts));
        }
        (chunks, problems)
    }

    /// Lines of a block between balanced braces.
    pub(crate) fn lines(&self, inside: Range<usize>) -> Vec<Chunk> {
        self.split(inside, None).0
    }

    /// With `starts`, an unindented line that it accepts ends a statement that is still open.
    fn split(
        &self,
        range: Range<usize>,
        starts: Option<fn(&str) -> bool>,
    ) -> (Vec<Chunk>, Vec<Unbalanced>) {
        let mut split = Split {
            outline: self,
            start: range.start,
            open: Vec::new(),
            first: None,
            suspect: None,
            spoiled: false,
            found: Vec::new(),
            problems: Vec::new(),
        };
        let index = |byte| self.marks.partition_point(|(at, _)| *at < byte);
        let marks = self.marks.get(index(range.start)..index(range.end));
        for &(at, mark) in marks.unwrap_or_default() {
            match mark {
                Mark::Open => split.open(at),
                Mark::Close => split.close(at),
                Mark::LineEnd if split.open.is_empty() => split.end(at, at + 1),
                Mark::LineEnd => {
                    split.line_end(at);
                    let next = self.blanked.get(at + 1..).unwrap_or("");
                    if starts.is_some_and(|starts| starts(next)) {
                        split.end(at, at + 1);
                    }
                }
            }
        }
        split.end(range.end, range.end);
        (split.found, split.problems)
    }
}

struct Split<'o> {
    outline: &'o Outline,
    start: usize,
    open: Vec<usize>,
    first: Option<(usize, usize)>,
    /// The first brace that something follows on its line, which ends while it is open.
    suspect: Option<usize>,
    spoiled: bool,
    found: Vec<Chunk>,
    problems: Vec<Unbalanced>,
}

impl Split<'_> {
    fn open(&mut self, at: usize) {
        if self.open.len() == MAX_DEPTH {
            self.problems.push(Unbalanced::TooDeep(at));
            self.spoiled = true;
        }
        self.open.push(at);
    }

    fn close(&mut self, at: usize) {
        let opened = self.open.pop();
        // Behind something on its line it is meant for that one: a list over several lines.
        if opened.is_some() && opened == self.suspect && !self.begins_line(at) {
            self.suspect = None;
        }
        match opened {
            Some(opened) if self.open.is_empty() => {
                self.first.get_or_insert((opened, at));
            }
            Some(_) => {}
            None => {
                self.end(at, at + 1);
                self.problems.push(Unbalanced::Stray(at));
            }
        }
    }

    fn begins_line(&self, at: usize) -> bool {
        let before = self.outline.blanked.get(self.start..at).unwrap_or("");
        before.rsplit('\n').next().unwrap_or("").trim().is_empty()
    }

    /// A line ends inside braces. A block's brace ends its line; one in the middle of a line that is still open
    /// is the likely one where a brace is missing, whichever the later ones happen to close.
    fn line_end(&mut self, at: usize) {
        let Some(&innermost) = self.open.last() else { return };
        let rest = self.outline.blanked.get(innermost + 1..at).unwrap_or("");
        if !rest.trim().is_empty() && !rest.contains('\n') {
            self.suspect.get_or_insert(innermost);
        }
    }

    fn end(&mut self, at: usize, next: usize) {
        let text = self.outline.blanked.get(self.start..at).unwrap_or("");
        let from = self.start + (text.len() - text.trim_start().len());
        let to = from + text.trim().len();
        if let Some(&innermost) = self.open.last() {
            self.problems.push(Unbalanced::Unclosed(self.suspect.unwrap_or(innermost)));
        } else if from < to && !self.spoiled {
            self.found.push(Chunk { range: from..to, braces: self.first });
        }
        self.open.clear();
        self.first = None;
        self.suspect = None;
        self.spoiled = false;
        self.start = next;
    }
}

struct Scan<'t> {
    text: &'t str,
    at: usize,
    outline: Outline,
}

impl Scan<'_> {
    /// Looks at one character, string or comment; `false` at the end.
    fn step(&mut self) -> bool {
        let rest = self.text.get(self.at..).unwrap_or("");
        let Some(first) = rest.chars().next() else { return false };
        let length = match first {
            '"' => self.string(rest),
            '#' if self.starts_comment(rest) => self.comment(rest),
            '{' | '(' => self.mark(Mark::Open),
            '}' | ')' => self.mark(Mark::Close),
            '\n' => self.mark(Mark::LineEnd),
            other => other.len_utf8(),
        };
        self.at += length;
        true
    }

    fn mark(&mut self, mark: Mark) -> usize {
        self.outline.marks.push((self.at, mark));
        1
    }

    /// `#` inside a word belongs to it: `web/echo#probes`.
    fn starts_comment(&self, rest: &str) -> bool {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let before = self.text.get(..self.at).and_then(|t| t.chars().next_back());
        let after = rest.chars().nth(1);
        !(before.is_some_and(word) && after.is_some_and(word))
    }

    fn comment(&mut self, rest: &str) -> usize {
        let line = rest.split('\n').next().unwrap_or(rest);
        self.outline.comments.push(self.at..self.at + line.trim_end().len());
        line.len()
    }

    fn string(&mut self, rest: &str) -> usize {
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                '\n' => {
                    self.outline.unterminated.push(self.at);
                    return at;
                }
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return at + 1,
                _ => {}
            }
        }
        self.outline.unterminated.push(self.at);
        rest.len()
    }
}

fn blank(text: &str, comments: &[Range<usize>]) -> String {
    let mut blanked = String::with_capacity(text.len());
    // A byte order mark is white space.
    let mut from = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    blanked.extend(std::iter::repeat_n(' ', from));
    for comment in comments {
        blanked.push_str(text.get(from..comment.start).unwrap_or(""));
        blanked.extend(std::iter::repeat_n(' ', comment.len()));
        from = comment.end;
    }
    blanked.push_str(text.get(from..).unwrap_or(""));
    blanked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(line: &str) -> bool {
        line.starts_with("policy")
    }

    fn check(text: &str, expected: &[&str], problems: &[Unbalanced]) {
        let outline = Outline::new(text);
        let (chunks, found) = outline.statements(starts);
        let texts: Vec<_> = chunks.into_iter().map(|c| &text[c.range]).collect();
        assert_eq!(texts, expected, "statements of {text:?}");
        assert_eq!(found, problems, "problems of {text:?}");
    }

    #[test]
    fn a_statement_ends_with_its_line_or_its_brace() {
        check("a b\n\n c {\n d\n}\ne", &["a b", "c {\n d\n}", "e"], &[]);
        check("a \\\n b\nc", &["a \\\n b", "c"], &[]);
        check("a \\ # why\n b\nc", &["a \\ # why\n b", "c"], &[]);
        check("a in (x,\n y)\nb", &["a in (x,\n y)", "b"], &[]);
        check("", &[], &[]);
    }

    #[test]
    fn strings_and_comments_hide_braces() {
        check("a \"{\" # }\nb", &["a \"{\"", "b"], &[]);
        check("by x#y\nb#\n", &["by x#y", "b"], &[]);
    }

    #[test]
    fn unbalanced_braces_spoil_one_statement() {
        check("policy a {\n x\npolicy b {\n}\n", &["policy b {\n}"], &[Unbalanced::Unclosed(9)]);
        // A list over two lines is closed: it is the block that is not.
        check("policy a {\n x { y,\n z }\n w\n", &[], &[Unbalanced::Unclosed(9)]);
        // The brace in the middle of a line, not the one that a later one left open.
        check(
            "policy a {\n x { y z\n}\npolicy b {\n}\n",
            &["policy b {\n}"],
            &[Unbalanced::Unclosed(14)],
        );
        check("a\n}\nb", &["a", "b"], &[Unbalanced::Stray(2)]);
    }

    #[test]
    fn nesting_is_bounded() {
        let text = format!("a {}{}\nb", "{".repeat(MAX_DEPTH + 1), "}".repeat(MAX_DEPTH + 1));
        check(&text, &["b"], &[Unbalanced::TooDeep(2 + MAX_DEPTH)]);
    }

    #[test]
    fn strings_end_on_their_line() {
        assert_eq!(Outline::new("a \"b\nc \"d\\\"").unterminated, [2, 7]);
    }

    #[test]
    fn incomplete_is_an_open_brace_or_a_continuation() {
        for (text, expected) in [
            ("a {", true),
            ("a {\n}", false),
            ("a \\", true),
            ("a", false),
            ("}", false),
            ("a (", true),
        ] {
            assert_eq!(is_incomplete(text), expected, "{text:?}");
        }
    }
}
