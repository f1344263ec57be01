//! Texts written with random white space, line ends and comments, and garbage: seeded, so that a failure
//! comes again.

use std::fmt::Write;

use engine::source::{FileId, SourceMap};

use super::super::lex::{Kind, Token, tokens};
use super::{check_canonical, comments, files, tree};

/// A small generator of numbers (xorshift), the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

/// Whether line ends are free behind an opening brace: not in policies, tests and dialogues.
fn frees_lines(token: &Token<'_>, statement: &str) -> bool {
    let lines = ["policy", "clusterwide", "test", "dialogue"].contains(&statement);
    token.kind == Kind::ParenOpen || !lines
}

struct Writer<'r> {
    random: &'r mut Random,
    out: String,
    /// For each open group, whether line ends are free in it.
    free: Vec<bool>,
    comments: usize,
}

impl Writer<'_> {
    fn comment(&mut self) {
        self.comments += 1;
        write!(self.out, "# c{} {{\"\\", self.comments).unwrap();
    }

    /// White space where a line may not end.
    fn gap(&mut self) {
        match self.random.below(14) {
            0 => self.out.push_str("  \t "),
            1 => self.out.push_str(" \\\n"),
            2 => {
                self.out.push_str(" \\ ");
                self.comment();
                self.out.push_str("\n\t");
            }
            3 => {
                self.out.push_str(" \\\r\n \\ ");
                self.comment();
                self.out.push('\n');
            }
            4 | 5 if self.free.last() == Some(&true) => self.line_end(),
            _ => self.out.push(' '),
        }
    }

    fn line_end(&mut self) {
        if self.random.below(6) == 0 {
            self.out.push(' ');
            self.comment();
        }
        self.out.push('\n');
        while self.random.below(4) == 0 {
            match self.random.below(3) {
                0 => self.out.push_str("  \n"),
                1 => self.out.push_str("\r\n\n"),
                _ => {
                    self.out.push_str("   ");
                    self.comment();
                    self.out.push('\n');
                }
            }
        }
    }
}

/// A text of the same tokens in another layout.
fn shuffled(text: &str, random: &mut Random) -> String {
    let mut writer = Writer { random, out: String::new(), free: Vec::new(), comments: 0 };
    let mut statement = String::new();
    for token in tokens(text).iter().filter(|t| t.kind != Kind::Comment) {
        let lines = writer.free.last() != Some(&true);
        if token.kind == Kind::Close {
            writer.free.pop();
            match lines {
                true if writer.random.below(2) == 0 => writer.line_end(),
                true => writer.out.push(' '),
                false => writer.gap(),
            }
        } else if lines && (token.ended || writer.out.is_empty()) {
            writer.line_end();
            statement = token.text.to_string();
        } else {
            writer.gap();
        }
        writer.out.push_str(&token.text);
        match token.kind {
            Kind::Open | Kind::ParenOpen => writer.free.push(frees_lines(token, &statement)),
            Kind::ParenClose => {
                writer.free.pop();
            }
            _ => {}
        }
        if token.kind == Kind::Open {
            statement.clear();
        }
    }
    if writer.random.below(2) == 0 {
        writer.line_end();
    }
    writer.out
}

#[test]
fn no_layout_loses_a_comment_or_changes_the_meaning() {
    let mut random = Random(0x5eed);
    for (path, text) in files("fixtures/cases") {
        let odd = shuffled(&text, &mut random);
        let (_, problems) = crate::parse::file(&odd, FileId::default());
        assert_eq!(problems, [], "{} as\n{odd}", path.display());
        assert_eq!(tree(&odd), tree(&text), "{} as\n{odd}", path.display());
        assert!(comments(&odd).len() > 3);
        assert!(check_canonical(&odd));
    }
}

/// A text with some of its bytes gone, doubled, moved or changed.
fn damaged(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let from = random.below(bytes.len());
        let to = (from + random.below(40)).min(bytes.len());
        let part = bytes.get(from..to).unwrap().to_vec();
        match random.below(4) {
            0 => drop(bytes.drain(from..to)),
            1 => drop(bytes.splice(from..from, part)),
            2 => {
                let signs = *b"{}()\"#\\\n,!=->:/ \r\t";
                let sign = signs.get(random.below(signs.len())).copied();
                drop(bytes.splice(from..from, sign));
            }
            _ => drop(bytes.splice(from..from, [u8::try_from(random.below(256)).unwrap()])),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads, lowers, formats and edits a text; nothing of it may panic or hang.
fn survive(text: &str) -> bool {
    let mut sources = SourceMap::default();
    let entries = [("a.hop".to_owned(), text.to_owned())];
    let loaded = crate::load(&entries, &mut crate::NoIncludes, &mut sources);
    for diagnostic in &loaded.diagnostics {
        sources.location(diagnostic.span());
    }
    let broken = loaded.workspace.documents().any(|d| !d.diagnostics.is_empty());
    let typed = loaded.workspace.apply(text, &mut crate::NoIncludes, &mut sources);
    if let (Ok((workspace, _)), false) = (typed, broken) {
        assert!(
            workspace.documents().all(|d| d.diagnostics.is_empty()),
            "typed over itself:\n{text}"
        );
    }
    check_canonical(text)
}

#[test]
fn damaged_files_are_survived() {
    let mut random = Random(0xdead);
    let mut readable = 0;
    for (_, text) in files("fixtures/cases") {
        for _ in 0..4 {
            readable += usize::from(survive(&damaged(&text, &mut random)));
        }
    }
    assert!(readable > 0);
}

#[test]
fn garbage_is_survived() {
    let mut random = Random(0xbad);
    let words = [
        "policy a/b {",
        "}",
        "{",
        "(",
        ")",
        "\"",
        "#",
        "\\\n",
        "test \"t\" {",
        "->",
        "=>",
        "pod ",
        "a ",
        "\u{feff}",
        "\u{a0}",
        "\r",
    ];
    for round in 0..600 {
        let mut text = String::new();
        for _ in 0..random.below(60) {
            if round % 2 == 0 {
                text.push_str(words.get(random.below(words.len())).unwrap());
            } else {
                text.push(char::from(u8::try_from(random.below(256)).unwrap()));
            }
        }
        survive(&text);
    }
    for sign in ["{", "(", "\"", "#", "\\", "!", "policy a/b {\n", "a\\\n", "a -> b quoting ("] {
        survive(&sign.repeat(20_000));
    }
}
