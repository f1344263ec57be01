//! Coverage of the datapath's programs: a table of files, and the formats that tools and people open. Each format is
//! one file here; all of them say the same counts.

pub mod html;
pub mod lcov;

use datapath::vm::coverage::lines::{File, Report, Share};

use crate::reply::{Cell, Listing};

/// One row a file, with the lines that did not run; then the sums.
pub fn listing(report: &Report) -> Listing {
    let columns = [
        ("file", "FILE"),
        ("lines", "LINES"),
        ("outcomes", "OUTCOMES"),
        ("notRun", "LINES NOT RUN"),
    ];
    let mut listing = Listing::new("source lines of the programs", &columns);
    listing.rows = report.files.iter().map(row).collect();
    listing.notes = vec![summary(report), left_out(report)];
    listing
}

fn row(file: &File) -> Vec<Cell> {
    let lines = uncovered(file);
    vec![
        file.name.as_str().into(),
        share(file.covered()).into(),
        share(file.outcomes()).into(),
        Cell::List(lines),
    ]
}

/// `346`, `393-396`: stretches of lines that did not run.
fn uncovered(file: &File) -> Vec<String> {
    let stretch = |(first, last): (u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    file.uncovered().into_iter().map(stretch).collect()
}

/// `89/94 94.6%`; nothing of nothing is no share.
fn share(share: Share) -> String {
    if share.total == 0 {
        return String::new();
    }
    format!("{}/{} {}", share.covered, share.total, percent(share))
}

/// Rounded down, so that only all of it is 100.0%.
#[expect(clippy::integer_division, reason = "the share is rounded down")]
fn percent(share: Share) -> String {
    let tenths = (share.covered * 1000).checked_div(share.total).unwrap_or(0);
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// The sums in one line.
fn summary(report: &Report) -> String {
    let (lines, outcomes) = (report.covered(), report.outcomes());
    format!(
        "datapath: {} of {} lines ({}), {} of {} outcomes of conditions ({})",
        lines.covered,
        lines.total,
        percent(lines),
        outcomes.covered,
        outcomes.total,
        percent(outcomes)
    )
}

/// What the counts do not tell.
fn left_out(report: &Report) -> String {
    format!(
        "not counted: lines that no instruction is left of, and {} conditions of library code",
        report.foreign_jumps
    )
}

#[cfg(test)]
mod tests;
