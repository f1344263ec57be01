//! Replies as text and as JSON, through a writer. Owns layout and words; decides nothing and never
//! prints by itself.

mod answer;
pub mod coverage;
pub mod diagnostic;
mod full;
mod halt;
mod hop;
mod json;
mod known;
mod minimal;
mod monitor;
mod obstacle;
mod replay;
mod schema;
mod suite;
mod table;
mod way;
mod words;

use std::io::{self, Write};

use crate::monitor::{Item, Report as Watch, Sighting};
use crate::replay::Report as Replay;
use crate::reply::{Content, Failure, Level, Reply, Status};

pub use schema::schema;

/// How to lay a reply out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Colour may be used; it never carries meaning.
    pub color: bool,
    /// Tables without their header line.
    pub no_headers: bool,
}

/// The reply's content as text, with a trailing newline where there is any. Warnings are not part of
/// it; they are for standard error ([`diagnostic::text`]).
pub fn text(reply: &Reply, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    if reply.as_json {
        return json(reply, out);
    }
    match &reply.content {
        Content::Nothing | Content::Quit => {}
        Content::Text(text) if text.is_empty() => {}
        Content::Text(text) => writeln!(out, "{}", text.trim_end_matches('\n'))?,
        Content::Answer(answer) => answer::text(answer, *options, out)?,
        Content::Listing(listing) => table::text(listing, *options, out)?,
        Content::Suite(report) => suite::text(report, *options, out)?,
        Content::Replay(report) => replay::text(report, *options, out)?,
        Content::Missed(missed) => writeln!(out, "{missed}")?,
        Content::Watched(watched) => monitor::text(watched, *options, out)?,
        Content::Diagnostics(list) => diagnostic::text(list, &reply.sources, options, out)?,
        Content::Halt(halt) => halt::text(halt, out)?,
        Content::Failure(failure) => failure_text(failure, *options, out)?,
    }
    if let Some(elapsed) = reply.elapsed {
        writeln!(out, "took {}", words::duration(elapsed))?;
    }
    Ok(())
}

/// The reply as one JSON document with a `schemaVersion`, warnings included.
pub fn json(reply: &Reply, out: &mut dyn Write) -> io::Result<()> {
    json_of_all(std::slice::from_ref(reply), out)
}

/// The replies of one run as one JSON document: the diagnostics of all of them, or the first reply that
/// is none.
pub fn json_of_all(replies: &[Reply], out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &json::document_of_all(replies))?;
    writeln!(out)
}

/// A replay as JSON lines: each flow, then the sums.
pub(crate) fn replay_lines(report: &Replay, status: Status, out: &mut dyn Write) -> io::Result<()> {
    replay::lines(report, status, out)
}

/// What a monitor shows as it comes, as text.
pub fn items(items: &[Item], options: &Options, out: &mut dyn Write) -> io::Result<()> {
    monitor::items(items, *options, out)
}

/// The same as JSON lines.
pub fn item_lines(items: &[Item], out: &mut dyn Write) -> io::Result<()> {
    monitor::item_lines(items, out)
}

/// The sums of a monitor as the last JSON line.
pub(crate) fn watched_line(report: &Watch, status: Status, out: &mut dyn Write) -> io::Result<()> {
    monitor::last_line(report, status, out)
}

/// The sums of a monitor as lines of text.
pub(crate) fn watched_lines(report: &Watch) -> Vec<String> {
    monitor::sums(report)
}

/// A run as a line.
pub(crate) fn sighting_line(seen: &Sighting, color: bool) -> String {
    monitor::line(seen, color)
}

/// An explanation at the level `minimal`: what tests and recordings pin.
pub fn minimal_lines(explanation: &engine::explain::Explanation) -> Vec<String> {
    minimal::lines(explanation)
}

/// An explanation without its hops, for what has a line of its own for each of them.
pub(crate) fn summary_lines(explanation: &engine::explain::Explanation) -> Vec<String> {
    unindented(answer::summary(explanation))
}

/// A hop as lines, also where it had nothing of interest to say.
pub(crate) fn hop_lines(report: &engine::explain::HopReport) -> Vec<String> {
    let lines = hop::lines(report, Level::Normal);
    let lines = if lines.is_empty() { hop::lines(report, Level::Full) } else { lines };
    unindented(lines)
}

/// Lines one level further to the left.
fn unindented(lines: Vec<String>) -> Vec<String> {
    let shift = |line: String| line.strip_prefix("  ").map(ToOwned::to_owned).unwrap_or(line);
    lines.into_iter().map(shift).collect()
}

/// Whether the content belongs on standard error: it is not a result.
pub fn is_complaint(reply: &Reply) -> bool {
    matches!(reply.content, Content::Diagnostics(_) | Content::Failure(_))
}

fn failure_text(failure: &Failure, options: Options, out: &mut dyn Write) -> io::Result<()> {
    let error = words::painted("error", words::BAD, options.color);
    writeln!(out, "{error}: {}", failure.message)?;
    for line in &failure.detail {
        writeln!(out, "  {line}")?;
    }
    if let Some(remedy) = &failure.remedy {
        writeln!(out, "help: {remedy}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
