//! Replies as JSON documents. Every document has `schemaVersion` and `kind`; an answer's other fields
//! are those of `engine::explain::Explanation`. Byte offsets are given beside lines and columns.

use std::fmt::Write as _;
use std::sync::Arc;

use engine::diag::{Diagnostic, Severity};
use engine::explain::SCHEMA_VERSION;
use engine::source::{SourceMap, Span};
use serde_json::{Map, Value, json};

use crate::monitor::{Item, Sighting, Watched};
use crate::reply::{Answer, Content, Listing, Reply};
use crate::suite::{CaseReport, Miss, Outcome, Report, StepReport};

/// The document of the replies of one run: all their diagnostics, or the first reply that is none.
pub(super) fn document_of_all(replies: &[Reply]) -> Value {
    let is_list = |reply: &&Reply| matches!(reply.content, Content::Diagnostics(_));
    if let Some(other) = replies.iter().find(|reply| !is_list(reply)) {
        return document(other);
    }
    let mut merged = document(&Reply::diagnostics(Vec::new(), Arc::default()));
    for reply in replies {
        let document = document(reply);
        for key in ["diagnostics", "warnings"] {
            if let (Some(all), Some(more)) = (merged[key].as_array_mut(), document[key].as_array())
            {
                all.extend(more.iter().cloned());
            }
        }
    }
    let worst = replies.iter().map(|r| r.status).max().unwrap_or_default();
    merged["status"] = json!(worst.code());
    merged
}

/// The document of a reply.
fn document(reply: &Reply) -> Value {
    let (kind, fields) = match &reply.content {
        Content::Nothing | Content::Quit => ("nothing", Map::new()),
        Content::Text(text) => ("text", one("text", json!(text))),
        Content::Answer(answer) => ("answer", answer_fields(answer)),
        Content::Listing(listing) => ("listing", listing_fields(listing)),
        Content::Suite(report) => ("suite", suite_fields(report)),
        Content::Replay(report) => {
            ("replay", object(serde_json::to_value(report).unwrap_or(Value::Null)))
        }
        Content::Missed(missed) => {
            ("missed", object(serde_json::to_value(missed).unwrap_or(Value::Null)))
        }
        Content::Watched(watched) => ("watched", watched_fields(watched)),
        Content::Diagnostics(list) => {
            ("diagnostics", one("diagnostics", diagnostics(list, &reply.sources)))
        }
        // As above: plain data.
        Content::Halt(halt) => ("halt", object(serde_json::to_value(halt).unwrap_or(Value::Null))),
        Content::Failure(f) => (
            "failure",
            object(json!({ "message": f.message, "remedy": f.remedy, "detail": f.detail })),
        ),
    };
    let mut document = Map::new();
    document.insert("schemaVersion".into(), json!(SCHEMA_VERSION));
    document.insert("kind".into(), json!(kind));
    document.insert("status".into(), json!(reply.status.code()));
    document.extend(fields);
    document.insert("warnings".into(), diagnostics(&reply.warnings, &reply.sources));
    if let Some(elapsed) = reply.elapsed {
        document.insert("elapsedMicroseconds".into(), json!(elapsed.as_micros()));
    }
    Value::Object(document)
}

fn one(key: &str, value: Value) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value)])
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => one("value", other),
    }
}

/// An answer as a document of its own, in one line.
pub(super) fn answer(answer: &Answer) -> Value {
    document(&Reply::ok(Content::Answer(Box::new(answer.clone()))))
}

/// The sums, and what was seen, where nobody showed it yet.
fn watched_fields(watched: &Watched) -> Map<String, Value> {
    let sightings: Vec<&Sighting> = watched
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Sighting(seen) => Some(&**seen),
            Item::Lost(_) | Item::Answer(_) => None,
        })
        .collect();
    object(json!({
        "report": watched.report,
        "sightings": sightings,
        "drawing": watched.drawing,
    }))
}

fn answer_fields(answer: &Answer) -> Map<String, Value> {
    // Serialising plain data with string keys cannot fail; null would show if it ever did.
    let mut fields = object(serde_json::to_value(&answer.explanation).unwrap_or(Value::Null));
    fields.insert("unmet".into(), json!(answer.unmet));
    fields.insert("entered".into(), entered(answer));
    let sent = answer.live.as_ref();
    let compared = sent.and_then(|sent| sent.compared.as_ref());
    let compared = compared.map(|c| json!({ "backend": c.backend, "difference": c.difference }));
    fields.insert("compared".into(), json!(compared));
    fields.insert("http".into(), json!(sent.and_then(|sent| sent.http.as_ref())));
    fields.insert("kernel".into(), json!(sent.and_then(|sent| sent.kernel.as_ref())));
    fields.insert("broken".into(), json!(sent.map_or(&[][..], |sent| &sent.broken)));
    fields
}

/// The frame where it enters, with what came with it; null where nothing was sent.
fn entered(answer: &Answer) -> Value {
    let Some(first) = answer.explanation.hops.first() else { return Value::Null };
    let hex = first.frame_in.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    let tunnel = answer.came_with.and_then(|with| with.tunnel);
    json!({
        "node": first.node,
        "hook": first.hook,
        "device": first.device,
        "mark": answer.came_with.map(|with| with.mark),
        "vni": tunnel.map(|(vni, _)| vni),
        "tunnelFrom": tunnel.map(|(_, from)| from),
        "frame": hex,
    })
}

fn listing_fields(listing: &Listing) -> Map<String, Value> {
    let row = |cells: &Vec<crate::reply::Cell>| {
        let fields = listing.columns.iter().zip(cells);
        Value::Object(fields.map(|(column, cell)| (column.key.to_owned(), json!(cell))).collect())
    };
    let items: Vec<Value> = listing.rows.iter().map(row).collect();
    object(json!({ "noun": listing.noun, "items": items, "notes": listing.notes }))
}

fn suite_fields(report: &Report) -> Map<String, Value> {
    let count = |outcome| report.cases.iter().filter(|c| c.outcome == outcome).count();
    object(json!({
        "cases": report.cases.iter().map(case).collect::<Vec<_>>(),
        "passed": count(Outcome::Passed),
        "failed": count(Outcome::Failed),
        "broken": count(Outcome::Broken),
        "divergent": count(Outcome::Divergent),
        "withoutTests": report.without_tests,
        "backend": report.backend,
        "filter": report.filter,
        "interrupted": report.interrupted,
    }))
}

fn case(case: &CaseReport) -> Value {
    json!({
        "file": case.file,
        "name": case.name,
        "line": case.location.line,
        "outcome": outcome(case.outcome),
        "checked": case.checked,
        "misses": case.misses.iter().map(miss).collect::<Vec<_>>(),
        "steps": case.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

fn step(step: &StepReport) -> Value {
    json!({ "step": step.step, "verdict": step.verdict, "known": step.known })
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Broken => "broken",
        Outcome::Divergent => "divergent",
    }
}

fn miss(miss: &Miss) -> Value {
    json!({
        "step": miss.step,
        "location": miss.location,
        "reasons": miss.reasons,
        "explanation": miss.explanation,
        "reproduce": miss.reproduce,
    })
}

fn diagnostics(list: &[Diagnostic], sources: &SourceMap) -> Value {
    list.iter().map(|d| diagnostic(d, sources)).collect()
}

fn diagnostic(d: &Diagnostic, sources: &SourceMap) -> Value {
    let severity = match d.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let labels = d.labels.iter().map(|label| {
        json!({ "at": place(label.span, sources), "text": label.text, "primary": label.primary })
    });
    let helps = d.helps.iter().map(|help| {
        let fix = help.fix.as_ref();
        let fix =
            fix.map(|f| json!({ "at": place(f.span, sources), "replacement": f.replacement }));
        json!({ "message": help.message, "fix": fix })
    });
    json!({
        "code": d.code.to_string(),
        "severity": severity,
        "message": d.message,
        "labels": labels.collect::<Vec<_>>(),
        "notes": d.notes,
        "helps": helps.collect::<Vec<_>>(),
    })
}

/// A range by line and column (from 1, in characters) and by byte (from 0, half open).
fn place(span: Span, sources: &SourceMap) -> Value {
    let start = sources.location(span);
    let end = sources.location(Span { start: span.end, ..span });
    json!({
        "file": start.file,
        "line": start.line,
        "column": start.column,
        "endLine": end.line,
        "endColumn": end.column,
        "start": span.start,
        "end": span.end,
    })
}
