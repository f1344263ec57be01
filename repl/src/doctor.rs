//! `doctor`: what this machine can do for the datapath, with the remedy for each gap.

use datapath::check::{self, Check, State};

use crate::backend::checks;
use crate::reply::{Cell, Content, Listing, Reply, Status};

/// What is known about each check, as a listing's columns.
const COLUMNS: [(&str, &str); 5] = [
    ("state", "STATE"),
    ("name", "CHECK"),
    ("found", "FOUND"),
    ("lost", "LOST"),
    ("remedy", "REMEDY"),
];

/// How many of them fit a terminal; the others follow as sentences.
const NARROW: usize = 3;

/// Looks at everything, for a person: a table of what was found, then what to do about each gap.
pub(crate) fn doctor() -> Reply {
    for_a_person(&checks())
}

/// The same for a program: everything in columns.
pub(crate) fn in_columns() -> Reply {
    let checks = checks();
    ended(listing(&checks, &COLUMNS), &checks)
}

fn for_a_person(checks: &[Check]) -> Reply {
    let mut listing = listing(checks, &COLUMNS[..NARROW]);
    let gaps = checks.iter().filter(|check| check.state != State::Pass);
    listing.notes = gaps.map(|c| format!("{}: {}; lost: {}", c.name, c.remedy, c.lost)).collect();
    ended(listing, checks)
}

/// A host fails where no backend can answer. What the kernel lacks while the interpreter answers is a gap that is
/// told, not a failure: `doctor && test` must not stop where `test` would run.
fn ended(mut listing: Listing, checks: &[Check]) -> Reply {
    let failed = checks.iter().any(|check| check.state == State::Fail);
    let answered = checks.iter().any(|c| c.name == check::INTERPRETER && c.state == State::Pass);
    if failed && answered {
        listing.notes.push("questions are answered by the interpreter until then".to_owned());
    }
    let status = if failed && !answered { Status::Environment } else { Status::Ok };
    Reply::with_status(Content::Listing(listing), status)
}

fn listing(checks: &[Check], columns: &[(&'static str, &'static str)]) -> Listing {
    let mut listing = Listing::new("checks", columns);
    let row = |check: &Check| {
        let mut row = cells(check);
        row.truncate(columns.len());
        row
    };
    listing.rows = checks.iter().map(row).collect();
    listing
}

/// One cell for each of [`COLUMNS`].
fn cells(check: &Check) -> Vec<Cell> {
    let state = match check.state {
        State::Pass => "pass",
        State::Warn => "WARN",
        State::Fail => "FAIL",
    };
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty()).into();
    vec![
        state.into(),
        check.name.into(),
        check.found.clone().into(),
        filled(&check.lost),
        filled(&check.remedy),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render;

    fn check(name: &'static str, state: State) -> Check {
        let (remedy, lost) = match state {
            State::Pass => (String::new(), String::new()),
            State::Warn | State::Fail => ("mend it".to_owned(), "speed".to_owned()),
        };
        Check { name, state, found: "2".to_owned(), remedy, lost }
    }

    #[test]
    fn a_gap_comes_with_its_remedy() {
        let checks = [check("a", State::Pass), check("b", State::Warn), check("c", State::Fail)];
        let reply = for_a_person(&checks);
        let mut out = Vec::new();
        render::text(&reply, &render::Options::default(), &mut out).unwrap();
        let expected = "STATE   CHECK   FOUND\npass    a       2\nWARN    b       2\nFAIL    c       2\n\
                        b: mend it; lost: speed\nc: mend it; lost: speed\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(reply.status, Status::Environment);
        assert_eq!(for_a_person(&checks[..2]).status, Status::Ok);
        let [a, _, c] = checks;
        let reply = for_a_person(&[a, c, check(check::INTERPRETER, State::Pass)]);
        assert_eq!(reply.status, Status::Ok, "somebody answers");
        let Content::Listing(listing) = reply.content else { panic!("a listing") };
        assert!(listing.notes.iter().any(|note| note.contains("by the interpreter")));
    }

    #[test]
    fn a_program_gets_every_field() {
        let listing = listing(&[check("a", State::Pass), check("b", State::Fail)], &COLUMNS);
        assert_eq!(listing.rows[0][3], Cell::None);
        assert_eq!(listing.rows[1][4], "mend it".into());
    }
}
