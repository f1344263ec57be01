//! A replay: a table of flows and the sums as text, and JSON lines.

use std::io::{self, Write};

use engine::explain::{Agreement, Decided};
use engine::verdict::LegOutcome;
use serde_json::json;

use super::{Options, minimal, table, words};
use crate::replay::{Change, Flow, FlowVerdict, Outcome, Report, Summary};
use crate::reply::{Listing, Status};

/// Kinds of skipped packets that are named.
const MOST_KINDS: usize = 12;

/// The flows, then the sums. With other policies, the flows that differ.
pub(super) fn text(report: &Report, options: Options, out: &mut dyn Write) -> io::Result<()> {
    match &report.policy {
        None => table::text(&flows(report), options, out)?,
        Some(_) => table::text(&changes(report), options, out)?,
    }
    for line in sums(report) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// A line of JSON for each flow, then one with the sums.
pub(super) fn lines(report: &Report, status: Status, out: &mut dyn Write) -> io::Result<()> {
    let version = engine::explain::SCHEMA_VERSION;
    for flow in &report.flows {
        let line = json!({ "schemaVersion": version, "kind": "flow", "flow": flow });
        writeln!(out, "{line}")?;
    }
    let line = json!({
        "schemaVersion": version,
        "kind": "summary",
        "status": status.code(),
        "file": report.file,
        "policy": report.policy,
        "summary": report.summary,
    });
    writeln!(out, "{line}")
}

fn flows(report: &Report) -> Listing {
    let columns = [
        ("first", "FIRST"),
        ("packets", "PACKETS"),
        ("bytes", "BYTES"),
        ("verdict", "VERDICT"),
        ("flow", "FLOW"),
        ("by", "BY"),
    ];
    let mut listing = Listing::new("flows", &columns);
    listing.rows = report
        .flows
        .iter()
        .map(|flow| {
            let packets = flow.packets + flow.answers;
            let verdict = verdict(&flow.now, packets);
            vec![
                flow.first.into(),
                packets.into(),
                flow.bytes.into(),
                verdict.into(),
                ends(flow).into(),
                with_unknown(flow).into(),
            ]
        })
        .collect();
    listing
}

fn changes(report: &Report) -> Listing {
    let columns = [
        ("first", "FIRST"),
        ("packets", "PACKETS"),
        ("change", "CHANGE"),
        ("flow", "FLOW"),
        ("now", "NOW"),
        ("then", "THEN"),
    ];
    let mut listing = Listing::new("changes", &columns);
    let rows = report.flows.iter().filter_map(|flow| {
        let change = flow.change.filter(|change| *change != Change::None)?;
        let packets = flow.packets + flow.answers;
        let told = |outcome: &Outcome| format!("{} {}", verdict(outcome, packets), by(outcome));
        let then = flow.then.as_ref().map_or_else(|| "part of another flow".to_owned(), told);
        Some(vec![
            flow.first.into(),
            packets.into(),
            change.to_string().into(),
            ends(flow).into(),
            told(&flow.now).into(),
            then.into(),
        ])
    });
    listing.rows = rows.collect();
    listing
}

/// What decided, and which addresses would be pods' and are nobody's.
fn with_unknown(flow: &Flow) -> String {
    let unknown = flow.unknown.iter().map(|address| format!("{address} is no pod's here; "));
    unknown.collect::<String>() + &by(&flow.now)
}

fn verdict(outcome: &Outcome, packets: u64) -> String {
    match outcome.verdict {
        FlowVerdict::Mixed => format!("mixed ({} of {packets} dropped)", outcome.dropped),
        other => other.to_string(),
    }
}

fn ends(flow: &Flow) -> String {
    let packet = &flow.packet;
    let side = |name: &str, address: &str, port: Option<u16>| {
        let place = match port {
            Some(port) if address.contains(':') => format!("[{address}]:{port}"),
            Some(port) => format!("{address}:{port}"),
            None => address.to_owned(),
        };
        if name == address { place } else { format!("{name} {place}") }
    };
    format!(
        "{} -> {}{}",
        side(&packet.source, &packet.source_address, packet.source_port),
        side(&packet.destination, &packet.destination_address, packet.destination_port),
        packet.protocol.map_or_else(String::new, |protocol| format!(" {protocol}")),
    )
}

/// What decided, with its place.
fn by(outcome: &Outcome) -> String {
    let mut parts: Vec<String> = Vec::new();
    if outcome.agreement == Agreement::Differ {
        parts.push("DATAPATH AND ORACLE DIFFER".to_owned());
    }
    parts.extend(outcome.because.clone());
    parts.extend(outcome.undecided.map(|why| minimal::undecided(why).to_owned()));
    if outcome.verdict == FlowVerdict::UnknownState && outcome.dropped > 0 {
        parts.push("as a new flow it would be dropped".to_owned());
    }
    let is_drop = |by: &&Decided| matches!(by.outcome, LegOutcome::Deny | LegOutcome::DefaultDeny);
    let decisive: Vec<&Decided> = if outcome.dropped > 0 {
        outcome.decided_by.iter().filter(is_drop).collect()
    } else {
        outcome.decided_by.iter().filter(|by| by.outcome != LegOutcome::NotReached).collect()
    };
    parts.extend(decisive.iter().map(|by| decided(by)));
    if decisive.is_empty()
        && let Some(reason) = outcome.reason
    {
        parts.push(format!("{} ({})", reason.name(), reason.code()));
    }
    parts.extend(outcome.isolated_by.first().map(|policy| {
        format!("isolated by {} {}:{}", policy.policy, policy.location.file, policy.location.line)
    }));
    if outcome.dropped > 0 && outcome.verdict == FlowVerdict::Mixed {
        parts.push(format!("at packet {}", outcome.decided_at));
    }
    parts.join("; ")
}

fn decided(by: &Decided) -> String {
    let what = match (&by.policy, &by.rule, &by.implied) {
        (Some(policy), Some(rule), _) => format!("{} by {policy}#{rule}", by.outcome),
        _ => by.outcome.to_string(),
    };
    let place = match (&by.file, by.line) {
        (Some(file), Some(line)) => format!(" {file}:{line}"),
        _ => String::new(),
    };
    let at = if by.policy.is_none() { format!(" of {}", by.endpoint) } else { String::new() };
    format!("{} {what}{place}{at}", by.direction)
}

fn sums(report: &Report) -> Vec<String> {
    let summary = &report.summary;
    let mut lines = vec![replayed(report), verdicts(summary)];
    lines.extend(changed(report));
    lines.extend(skipped(summary));
    lines.extend(notes(summary));
    lines.push(checked(summary));
    lines.extend(explained(report));
    lines
}

/// `1 packet`, `2 packets`.
fn counted(count: u64, one: &str, several: &str) -> String {
    words::counted(usize::try_from(count).unwrap_or(usize::MAX), one, several)
}

fn replayed(report: &Report) -> String {
    let summary = &report.summary;
    let seconds = summary.milliseconds / 1000;
    let tenths = summary.milliseconds % 1000 / 100;
    format!(
        "replayed  {} of {} of {}, {}, {seconds}.{tenths} s",
        summary.counted,
        counted(summary.packets, "packet", "packets"),
        if report.file == "-" { "standard input" } else { &report.file },
        counted(summary.bytes, "byte", "bytes"),
    )
}

fn verdicts(summary: &Summary) -> String {
    let counts = FlowVerdict::ALL.map(|verdict| (summary.of(verdict), verdict));
    let told: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, verdict)| format!("{count} {verdict}"))
        .collect();
    let total: u64 = counts.iter().map(|(count, _)| count).sum();
    let told = if told.is_empty() { String::new() } else { format!(": {}", told.join(", ")) };
    format!("flows     {total}{told}")
}

fn changed(report: &Report) -> Option<String> {
    let policy = report.policy.as_ref()?;
    let summary = &report.summary;
    let mut sums = vec![
        format!("{} newly dropped", summary.newly_dropped.unwrap_or(0)),
        format!("{} newly allowed", summary.newly_allowed.unwrap_or(0)),
    ];
    let further =
        [(summary.otherwise, "changed otherwise"), (summary.other_rule, "by another rule")];
    for (count, what) in further {
        sums.extend(count.filter(|count| *count > 0).map(|count| format!("{count} {what}")));
    }
    Some(format!("changed   with {policy}: {}", sums.join(", ")))
}

fn skipped(summary: &Summary) -> Vec<String> {
    let kinds = summary.skipped.iter().take(MOST_KINDS);
    let mut lines: Vec<String> = kinds
        .map(|kind| format!("skipped   {} {}, first {}", kind.packets, kind.what, kind.first))
        .collect();
    let rest = summary.skipped.get(MOST_KINDS..).unwrap_or_default();
    if !rest.is_empty() {
        let packets: u64 = rest.iter().map(|kind| kind.packets).sum();
        let kinds = words::counted(rest.len(), "further kind", "further kinds");
        lines.push(format!("skipped   {packets} of {kinds}"));
    }
    lines
}

fn notes(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    if summary.tunneled > 0 {
        let packets = counted(summary.tunneled, "packet", "packets");
        lines.push(format!("tunneled  {packets}, taken out of the tunnel"));
    }
    if summary.tagged > 0 {
        let packets = counted(summary.tagged, "packet", "packets");
        lines.push(format!(
            "tagged    {packets}, taken without VLAN tags, as the VLAN's device has them"
        ));
    }
    if summary.other_identity > 0 {
        let packets = counted(summary.other_identity, "packet", "packets");
        lines.push(format!("identity  the vni of {packets} is not the sender's identity here"));
    }
    if summary.answered > 0 {
        let flows = counted(summary.answered, "dropped flow has", "dropped flows have");
        lines.push(format!(
            "answered  {flows} answers in the capture: it was taken under other policies"
        ));
    }
    if summary.out_of_order > 0 {
        let packets = counted(summary.out_of_order, "packet has", "packets have");
        lines.push(format!("order     {packets} an earlier time than one before"));
    }
    if summary.skipped.iter().any(|kind| kind.what.contains("beyond the limit")) {
        let limit = summary.flow_limit;
        lines.push(format!("limit     {limit} flows are told apart, see --max-flows"));
    }
    if let Some(why) = &summary.damaged {
        lines.push(format!("damaged   {why}"));
    }
    if summary.interrupted {
        lines.push("stopped   interrupted before the end".to_owned());
    }
    lines
}

fn checked(summary: &Summary) -> String {
    let oracle = match summary.divergent {
        0 if summary.single > 0 => {
            let flows = counted(summary.single, "flow", "flows");
            format!("oracle agrees, and was not asked about {flows}")
        }
        0 => "oracle agrees".to_owned(),
        1 => "ORACLE DIFFERS about 1 flow: a bug of hopwise".to_owned(),
        count => format!("ORACLE DIFFERS about {count} flows: a bug of hopwise"),
    };
    format!("checked   {}; {oracle}; profile {}", summary.backend, summary.profile)
}

/// How to learn more of the first flow that does not get through, or whose fate changes: of the packet that decided.
fn explained(report: &Report) -> Option<String> {
    let is_changed =
        |flow: &&Flow| matches!(flow.change, Some(Change::NewlyDropped | Change::NewlyAllowed));
    let of_interest = if report.policy.is_some() {
        report.flows.iter().find(is_changed)
    } else {
        report.flows.iter().find(|flow| flow.now.verdict.is_dropped())
    };
    let trace = of_interest?.trace.as_ref()?;
    let files: Vec<_> = report.files.iter().map(|file| format!("-f {file} ")).collect();
    let files = files.concat();
    Some(format!("explain   hopwise trace {files}{trace}"))
}
