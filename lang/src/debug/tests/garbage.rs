//! Lines changed at random, and lines made to be expensive: nothing panics, hangs or points outside its text.
//! The same seed gives the same lines.

use super::super::table::TABLE;
use super::*;

/// A small generator of numbers (xorshift64*, Marsaglia and Vigna).
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(value).unwrap_or(0) % below.max(1)
    }
}

const PIECES: &[&str] = &[
    "break",
    "if",
    "edit",
    "map",
    "packet[",
    "]",
    "..",
    "=",
    "==",
    "&",
    "&&",
    "||",
    "!",
    "not",
    "and",
    "in",
    "(",
    ")",
    "r1",
    "src",
    "node",
    "10.0.0.0/8",
    "fd00::1",
    "0a:00:00:00:00:01",
    "0x",
    "70000",
    "4294967296",
    "18446744073709551616",
    "\"",
    "#",
    "\\",
    "\n",
    " ",
    "\t",
    "\0",
    "\u{e9}",
    "\u{1f600}",
    "\u{feff}",
    "{",
    "}",
    "-",
    "*",
    ":",
    "::",
    "$",
    "/",
    "remove",
    "policy web/a {",
];

fn read(text: &str) {
    let problems = parse(text, FileId(0)).err().unwrap_or_default();
    for label in problems.iter().flat_map(|problem| &problem.labels) {
        let inside = text.get(label.span.start as usize..label.span.end as usize);
        assert!(inside.is_some(), "{problems:?} of {text:?}");
    }
    if parse(text, FileId(0)).is_err() {
        assert!(!problems.is_empty());
    }
}

#[test]
fn random_lines_never_panic() {
    let mut random = Random(20_251_125);
    for _ in 0..20_000 {
        let mut text = match random.next(3) {
            0 => String::new(),
            _ => TABLE[random.next(TABLE.len())].example.to_owned(),
        };
        for _ in 0..random.next(8) {
            let piece = PIECES[random.next(PIECES.len())];
            let places: Vec<usize> =
                text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let at = places[random.next(places.len())];
            match random.next(4) {
                0 => text.truncate(at),
                1 => text = format!("{text} {piece}"),
                _ => text.insert_str(at, piece),
            }
        }
        read(&text);
    }
}

#[test]
fn expensive_lines_are_read() {
    let many = 20_000;
    for text in [
        format!("b drop if {}", "(".repeat(many)),
        format!("b drop if {}", "not ".repeat(many)),
        format!("b drop if {}", "!".repeat(many)),
        format!("b drop if r0 == 1{}", " and r0 == 1".repeat(many)),
        format!("b drop if {}", "a.".repeat(many)),
        format!("print {}", "[".repeat(many)),
        format!("print packet{}]", "[".repeat(many)),
        format!("delete {}", "1 ".repeat(many)),
        format!("edit map m {}", "= ".repeat(many)),
        format!("edit {}", "{".repeat(many)),
        format!("edit remove {}", "policy ".repeat(many)),
        "\\\n".repeat(many),
        "\"".repeat(many),
        "a".repeat(many),
    ] {
        read(&text);
    }
}
