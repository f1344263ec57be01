//! What is seen of real packets: a line for each run, lost events among them, the sums in the end; the same as JSON lines.

use std::io::{self, Write};

use engine::explain::{Decided, Isolating, LegOutcome, SCHEMA_VERSION, Step};
use engine::net::Hook;
use serde_json::{Value, json};

use super::{Options, answer, hop, json as documents, minimal, way, words};
use crate::monitor::{Ended, Fate, Item, Lost, Report, Side, Sighting, Watched};
use crate::reply::Status;

/// Nanoseconds of a second, and seconds of a day.
const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// Items that nobody showed yet, the drawing, then the sums; of a drawing the sums are for standard error.
pub(super) fn text(watched: &Watched, options: Options, out: &mut dyn Write) -> io::Result<()> {
    items(&watched.items, options, out)?;
    if let Some(drawing) = &watched.drawing {
        return writeln!(out, "{drawing}");
    }
    sums(&watched.report).iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// Items as they come.
pub(super) fn items(items: &[Item], options: Options, out: &mut dyn Write) -> io::Result<()> {
    for item in items {
        match item {
            Item::Sighting(seen) => writeln!(out, "{}", line(seen, options.color))?,
            Item::Lost(lost) => writeln!(out, "{}", lost_line(lost, options.color))?,
            Item::Answer(told) => answer::text(told, options, out)?,
        }
    }
    Ok(())
}

/// The same as JSON lines.
pub(super) fn item_lines(items: &[Item], out: &mut dyn Write) -> io::Result<()> {
    for item in items {
        let line = match item {
            Item::Sighting(seen) => one("sighting", "sighting", &json!(seen)),
            Item::Lost(lost) => one("lost", "lost", &json!(lost)),
            Item::Answer(told) => documents::answer(told),
        };
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The sums as a JSON line, the last one.
pub(super) fn last_line(report: &Report, status: Status, out: &mut dyn Write) -> io::Result<()> {
    let mut line = one("sums", "report", &json!(report));
    line["status"] = json!(status.code());
    writeln!(out, "{line}")
}

fn one(kind: &str, key: &str, value: &Value) -> Value {
    json!({ "schemaVersion": SCHEMA_VERSION, "kind": kind, key: value })
}

/// `12:00:01.123456 node01 lxc_client from-container web/client 10.1.0.10:40312 (27634 {app=client} in web) -> ...`
pub(super) fn line(seen: &Sighting, color: bool) -> String {
    let place = format!("{} {} {}", seen.node, seen.device, seen.hook);
    let what = match seen.protocol {
        None if seen.hook == Hook::ToOverlay => {
            "a frame for the tunnel, which is not looked into here".to_owned()
        }
        None => "a frame without a packet".to_owned(),
        Some(protocol) => {
            let ends = format!("{} -> {}", side(&seen.source), side(&seen.destination));
            let parts = [ends, words::protocol(protocol), seen.detail.clone()];
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
        }
    };
    let (word, style) = match (seen.verdict, seen.observed) {
        (Fate::Allowed, _) => ("ALLOWED", words::GOOD),
        (Fate::Dropped, false) => ("DROPPED", words::BAD),
        (Fate::Dropped, true) => ("WOULD DROP", words::BAD),
        (Fate::Undecided, _) => ("UNDECIDED", words::DOUBTFUL),
        (Fate::UnknownState, _) => ("UNKNOWN-STATE", words::DOUBTFUL),
    };
    let word = words::painted(word, style, color);
    let told = told(seen);
    let told = if told.is_empty() { String::new() } else { format!("  {}", told.join(", ")) };
    format!("{} {place} {what}  {word}{told}", clock(seen.time))
}

/// Everything behind the verdict's word.
fn told(seen: &Sighting) -> Vec<String> {
    let mut parts = Vec::new();
    parts.extend(seen.reason.map(|reason| match seen.verdict {
        Fate::UnknownState => format!("{reason} if its flow began with it"),
        _ => reason.to_string(),
    }));
    parts.extend(seen.undecided.map(|why| minimal::undecided(why).to_owned()));
    parts.extend(seen.conntrack.map(|state| format!("conntrack {state}")));
    parts.extend(
        seen.decided_by.iter().filter(|by| by.outcome != LegOutcome::NotReached).map(decided),
    );
    parts.extend(seen.isolated_by.iter().map(isolated));
    parts.extend(seen.steps.iter().filter_map(|step| self::step(step, &seen.node)));
    parts
}

fn decided(by: &Decided) -> String {
    let of = if hop::handle(by).is_none() { format!(" of {}", by.endpoint) } else { String::new() };
    format!("{}{of} {}", by.direction, hop::decision(by))
}

fn isolated(by: &Isolating) -> String {
    format!("isolated by {} {}", by.policy, by.location)
}

fn step(step: &Step, node: &str) -> Option<String> {
    let (keyword, text) = match step {
        Step::Service { .. } => ("service", way::service(step)),
        Step::Rewritten { rewriting, before, after, party, .. } => {
            way::rewritten(*rewriting, before, after, party)
        }
        Step::Encrypted { .. } => ("encrypt", way::encrypted(step)),
        // Whether somebody looks at what the stack does with it is not known here.
        Step::Stack { host: false, .. } => ("stack", format!("handed to the stack of {node}")),
        Step::Tunnel { .. }
        | Step::Deliver { .. }
        | Step::Stack { .. }
        | Step::Network { .. }
        | Step::Left { .. } => way::on(step, node),
        _ => return None,
    };
    Some(format!("{keyword} {text}"))
}

/// `web/client 10.1.0.10:40000 (27634 {app=client} in web)`; the labels alone where the program asked for no identity.
fn side(side: &Side) -> String {
    let place = words::party(&side.name, &side.address, side.port);
    let labels = side.labels.iter().map(|(key, value)| format!("{key}={value}"));
    match side.identity {
        Some(identity) => format!("{place} ({})", words::identity(identity, &side.meaning)),
        None if side.labels.is_empty() => place,
        None => format!("{place} ({{{}}})", labels.collect::<Vec<_>>().join(", ")),
    }
}

/// The time of day, UTC, in microseconds.
fn clock(time: u64) -> String {
    let seconds = time / SECOND % DAY;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:06}", time % SECOND / 1000)
}

fn lost_line(lost: &Lost, color: bool) -> String {
    let events = usize::try_from(lost.events).unwrap_or(usize::MAX);
    let events = words::counted(events, "event", "events");
    let word = words::painted("LOST", words::BAD, color);
    format!("{} {}  {word}  {events}: what they told is not shown", clock(lost.time), lost.node)
}

/// The sums as lines.
pub(super) fn sums(report: &Report) -> Vec<String> {
    let mut verdicts = Vec::new();
    for (count, word) in [
        (report.allowed, "allowed"),
        (report.dropped, if report.observed { "would be dropped" } else { "dropped" }),
        (report.undecided, "undecided"),
        (report.unknown_state, "unknown-state"),
    ] {
        if count > 0 {
            verdicts.push(format!("{count} {word}"));
        }
    }
    let verdicts =
        if verdicts.is_empty() { String::new() } else { format!(": {}", verdicts.join(", ")) };
    let ended = match report.ended {
        Ended::Interrupted => "interrupted",
        Ended::Count => "as many as asked for",
        Ended::Time => "the time is over",
        Ended::Closed => "nobody reads any more",
    };
    let seconds = format!("{}.{} s", report.milliseconds / 1000, report.milliseconds % 1000 / 100);
    let mut lines = vec![
        format!("watched   {}, {seconds}; {ended}", report.source),
        format!("shown     {} of {} runs{verdicts}", report.shown, report.runs),
    ];
    if report.quiet > 0 {
        lines.push(format!("quiet     {} runs had nothing to say; --all shows them", report.quiet));
    }
    let by: Vec<String> =
        report.lost_by.iter().map(|lost| format!("{} of {}", lost.events, lost.node)).collect();
    let by = if by.is_empty() { String::new() } else { format!(": {}", by.join(", ")) };
    let told = report.events + report.lost;
    lines.push(format!("lost      {} of {told} events{by}", report.lost));
    if report.incomplete > 0 {
        lines.push(format!("cut       {} runs, whose end was lost", report.incomplete));
    }
    if report.beyond > 0 {
        lines.push(format!(
            "beyond    {} packets of talks that there was no room for",
            report.beyond
        ));
    }
    lines
}
