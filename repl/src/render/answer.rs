//! An explanation as lines: the verdict first, then one fact a line, each behind a fixed keyword, so
//! that `grep` works; ASCII, never wrapped. Which facts there are is `engine::explain`'s.

use std::io::{self, Write};

use engine::explain::{
    Agreement, Condition, Decided, Divergence, Explanation, HopReport, Isolating, LegOutcome,
    Nearest, Step, Undecided, Unobserved, Verdict,
};
use engine::source::Location;

use super::{Options, full, hop, known, minimal, obstacle, words};
use crate::reply::{Answer, Level, Sent};

/// The answer at its level, and what it misses of an expectation.
pub(super) fn text(answer: &Answer, options: Options, out: &mut dyn Write) -> io::Result<()> {
    let lines = match answer.level {
        Level::Minimal => minimal::lines(&answer.explanation),
        Level::Normal | Level::Full => explanation(&answer.explanation, answer.level, options),
    };
    for line in lines {
        writeln!(out, "{line}")?;
    }
    if let Some(sent) = &answer.live {
        let lines = if answer.level == Level::Minimal { Vec::new() } else { lost_lines(sent) };
        let lines = lines.into_iter().chain(compared_lines(sent));
        lines.into_iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    for miss in &answer.unmet {
        writeln!(out, "{}", hop::fact(1, "unmet", miss))?;
    }
    Ok(())
}

/// Why a packet that was really sent did not come further, and what became of a request.
fn lost_lines(sent: &Sent) -> Vec<String> {
    let kernel = sent.kernel.iter().map(|kernel| hop::fact(1, "kernel", kernel));
    let broken = (!sent.broken.is_empty()).then(|| hop::fact(1, "broken", &sent.broken.join("; ")));
    let http = sent.http.iter().map(|http| hop::fact(1, "http", http));
    kernel.chain(broken).chain(http).collect()
}

/// How simulation met it.
fn compared_lines(sent: &Sent) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(compared) = &sent.compared else { return lines };
    let Some(found) = &compared.difference else {
        let text = format!("{} simulates the same, hop by hop and byte by byte", compared.backend);
        lines.push(hop::fact(1, "compare", &text));
        return lines;
    };
    let step = found.hop + 1;
    let text = format!("DIFFERS from {} at step {step}: {}", compared.backend, found.what);
    lines.push(hop::fact(1, "compare", &text));
    lines.push(hop::fact(2, "simulated", &found.simulated));
    lines.push(hop::fact(2, "live", &found.live));
    lines
}

/// The explanation as lines without newlines; the reply follows, indented.
pub(super) fn explanation(e: &Explanation, level: Level, options: Options) -> Vec<String> {
    let mut lines = beginning(e, level, options);
    for report in &e.hops {
        lines.extend(hop::lines(report, level));
        if level == Level::Full {
            lines.extend(full::frames(report));
        }
    }
    lines.extend(ending_lines(e));
    if let Some(reason) = &e.no_reply {
        lines.push(hop::fact(1, "reply", &format!("cannot be followed: {reason}")));
    }
    if let Some(reply) = &e.reply {
        lines.extend(reply_lines(reply, level, options));
    }
    lines
}

/// The explanation without its hops and its reply.
pub(super) fn summary(e: &Explanation) -> Vec<String> {
    let mut lines = beginning(e, Level::Normal, Options::default());
    lines.extend(ending_lines(e));
    lines
}

/// What comes before the hops.
fn beginning(e: &Explanation, level: Level, options: Options) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(divergence) = &e.divergence {
        lines.extend(divergence_lines(divergence, options));
    }
    lines.push(verdict_line(e, options));
    lines.push(hop::fact(1, "packet", &packet(e)));
    lines.extend(e.isolated_by.iter().map(isolated));
    for near in &e.nearest {
        lines.push(nearest(near));
        if level == Level::Full {
            lines.extend(full::differences(near));
        }
    }
    lines.extend(obstacle::lines(e));
    lines
}

/// What comes behind the hops.
fn ending_lines(e: &Explanation) -> Vec<String> {
    let mut lines: Vec<String> = e.known.iter().map(known::line).collect();
    lines.push(hop::fact(1, "checked", &checked(e)));
    if !e.assumed.is_empty() {
        lines.push(hop::fact(1, "assumed", &e.assumed.join("; ")));
    }
    lines
}

fn reply_lines(reply: &Explanation, level: Level, options: Options) -> Vec<String> {
    let mut inner = explanation(reply, level, options).into_iter();
    let first = inner.next().unwrap_or_default();
    let mut lines = vec![hop::fact(1, "reply", &first)];
    lines.extend(inner.map(|line| format!("  {line}")));
    lines
}

fn divergence_lines(divergence: &Divergence, options: Options) -> Vec<String> {
    let word = words::painted("DIVERGENCE", words::BAD, options.color);
    vec![
        format!(
            "{word}  {}: the datapath and the oracle differ; this is a bug of hopwise",
            divergence.what
        ),
        hop::fact(1, "datapath", &divergence.datapath),
        hop::fact(1, "oracle", &divergence.oracle),
        hop::fact(1, "trust", "neither of the two until the bug is found"),
        hop::fact(
            1,
            "report",
            "please report it with the case: the files, the question and this output",
        ),
    ]
}

/// `ALLOWED  tunneled node01 -> node02`, `DROPPED  policy-denied (133): default deny, ingress of ...`.
pub(super) fn verdict_line(e: &Explanation, options: Options) -> String {
    let (word, style) = match e.verdict {
        Verdict::Allowed => ("ALLOWED", words::GOOD),
        Verdict::Dropped => ("DROPPED", words::BAD),
        Verdict::Rejected => ("REJECTED", words::BAD),
        Verdict::Undecided => ("UNDECIDED", words::DOUBTFUL),
    };
    let detail = match e.verdict {
        Verdict::Allowed => way(e),
        Verdict::Dropped | Verdict::Rejected => dropped(e),
        Verdict::Undecided => undecided(e),
    };
    let word = words::painted(word, style, options.color);
    if detail.is_empty() { word } else { format!("{word}  {detail}") }
}

/// How an allowed packet ended: by which way, and where if not in a pod.
fn way(e: &Explanation) -> String {
    let mut nodes: Vec<&str> = e.hops.iter().map(|hop| hop.node.as_str()).collect();
    nodes.dedup();
    let (Some(last), Some(node)) = (e.hops.last(), nodes.last()) else { return String::new() };
    let end = ending(last);
    if nodes.len() == 1 {
        return end.unwrap_or_else(|| format!("delivered on {node}"));
    }
    let word = if e.tunneled { "tunneled" } else { "routed" };
    let way = format!("{word} {}", nodes.join(" -> "));
    let said = format!("{node}, ");
    match end {
        Some(end) => format!("{way}, {}", end.strip_prefix(&said).unwrap_or(&end)),
        None => way,
    }
}

/// Where the packet ended at the stack of a node or outside.
fn ending(last: &HopReport) -> Option<String> {
    let node = &last.node;
    last.steps.iter().find_map(|step| match step {
        Step::Stack { host: true, .. } => Some(format!("accepted by {node} itself")),
        Step::Stack { host: false, .. } => Some(format!("handed to the stack of {node}")),
        Step::Left { node: None, .. } => Some(format!("{node}, leaves the cluster")),
        Step::Left { node: Some(there), .. } => Some(format!("{node}, leaves for {there}")),
        _ => None,
    })
}

fn dropped(e: &Explanation) -> String {
    let reason = e.reason.map_or_else(|| "unknown reason".to_owned(), |r| r.to_string());
    let meaning = e.reason.map_or("", words::meaning);
    let cause = match (deciding(e), &e.obstacle) {
        (Some(decided), _) if meaning.is_empty() => policy_cause(decided),
        (_, Some(obstacle)) => obstacle::cause(obstacle),
        _ => meaning.to_owned(),
    };
    let place = e.dropped_at.as_ref().map(|at| {
        let endpoint = match (at.direction, &at.endpoint) {
            (Some(direction), Some(endpoint)) => format!("{direction} of {endpoint} "),
            _ => String::new(),
        };
        format!("{endpoint}on {}", at.node)
    });
    let rest: Vec<_> = std::iter::once(cause).chain(place).filter(|s| !s.is_empty()).collect();
    if rest.is_empty() { reason } else { format!("{reason}: {}", rest.join(", ")) }
}

/// The decision that dropped the packet, where a policy did.
fn deciding(e: &Explanation) -> Option<&Decided> {
    e.decided_by.iter().find(|d| matches!(d.outcome, LegOutcome::Deny | LegOutcome::DefaultDeny))
}

fn policy_cause(decided: &Decided) -> String {
    match (decided.outcome, hop::handle(decided)) {
        (LegOutcome::Deny, Some(rule)) => format!("denied by {rule}"),
        (LegOutcome::Deny, None) => "denied".to_owned(),
        _ => "default deny".to_owned(),
    }
}

fn undecided(e: &Explanation) -> String {
    match e.undecided {
        Some(Undecided::EventsLost) => events_lost(e),
        Some(Undecided::NotFollowed) => match (&e.obstacle, e.hops.last().and_then(ending)) {
            (Some(obstacle), _) => obstacle::cause(obstacle),
            (None, Some(ending)) => format!("{ending}, which is not followed"),
            (None, None) => "the packet left for a place that is not followed".to_owned(),
        },
        Some(Undecided::OtherGeneration) => {
            "the datapath answered from another state of the tables".to_owned()
        }
        Some(Undecided::NotOpened) => not_opened(e),
        Some(Undecided::NotObserved) => not_observed(e),
        Some(Undecided::OutcomeNotSeen) | None => "the outcome was not seen".to_owned(),
    }
}

/// How many events were lost; of a real packet, among which what the next program told of it may be.
fn events_lost(e: &Explanation) -> String {
    let lost = lost(e);
    let Some(Unobserved { left, by, node, hook, device, .. }) = &e.unobserved else {
        return format!("{lost} lost, so the outcome is not known");
    };
    format!(
        "left {left} {by}; {lost} lost, among which may be what {hook} at {node} {device} told of it"
    )
}

/// Where a real packet was seen last, and where it was not.
fn not_observed(e: &Explanation) -> String {
    let Some(unobserved) = &e.unobserved else { return "the packet was not seen".to_owned() };
    let Unobserved { left, by, node, hook, device, endpoint } = unobserved;
    let expected = match endpoint {
        Some(endpoint) => format!("ingress of {endpoint}"),
        None => format!("{hook} at {node} {device}"),
    };
    format!("left {left} {by}; {expected} was not observed")
}

/// That the flow cannot be known already, and which of its opening packets met what.
fn not_opened(e: &Explanation) -> String {
    let steps = || e.hops.iter().flat_map(|hop| &hop.steps);
    let met = steps().find_map(|step| match step {
        Step::Drop { reason, .. } => Some(format!("is dropped: {reason}")),
        _ => None,
    });
    let is_delivered = steps().any(|step| matches!(step, Step::Deliver { .. }));
    let unmet = if is_delivered { "comes to no connection" } else { "does not get through" };
    let met = met.unwrap_or_else(|| unmet.to_owned());
    let packet = if e.packet.detail.is_empty() { "opening packet" } else { &e.packet.detail };
    format!("no such flow: its {packet}, which is shown here, {met}")
}

fn lost(e: &Explanation) -> String {
    words::counted(usize::try_from(e.lost).unwrap_or(usize::MAX), "event", "events")
}

/// `web/client 10.244.1.154:40312 -> web/echo-0 10.244.6.11:8080 TCP SYN`.
fn packet(e: &Explanation) -> String {
    let p = &e.packet;
    let source = words::party(&p.source, &p.source_address, p.source_port);
    let destination = words::party(&p.destination, &p.destination_address, p.destination_port);
    let protocol = p.protocol.map(words::protocol);
    let rest = [protocol.as_deref(), Some(p.detail.as_str())].into_iter().flatten();
    let rest =
        rest.filter(|part| !part.is_empty()).fold(String::new(), |line, part| line + " " + part);
    format!("{source} -> {destination}{rest}")
}

fn isolated(i: &Isolating) -> String {
    let note = hop::note(i.owner.as_deref(), i.because.as_deref());
    let text = format!("{} {}, by {} {}{note}", i.endpoint, i.direction, i.policy, i.location);
    hop::fact(1, "isolated", &text)
}

fn nearest(n: &Nearest) -> String {
    let differing: Vec<&Condition> = n.conditions.iter().filter(|c| !c.ok).collect();
    let names = |of: &[&Condition]| {
        let names: Vec<&str> = of.iter().map(|c| c.name.as_str()).collect();
        match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            Some((last, _)) => (*last).to_owned(),
            None => String::new(),
        }
    };
    let holding: Vec<&Condition> = n.conditions.iter().filter(|c| c.ok).collect();
    let text = match differing.as_slice() {
        [only] => {
            let ok = if holding.is_empty() {
                String::new()
            } else {
                format!("{} ok; ", names(&holding))
            };
            format!("{ok}{}", difference(only, &n.location))
        }
        several => format!("{} differ", names(several)),
    };
    hop::fact(1, "nearest", &format!("{} {}: {text}", n.rule, n.location))
}

/// `from differs: wants pods {app=client} in web, is world`, with the place where it is written when that
/// is another line than the rule's.
fn difference(condition: &Condition, rule: &Location) -> String {
    let wanted = match (&condition.wants, &condition.is) {
        (Some(wants), Some(is)) => format!(": wants {wants}, is {is}"),
        _ => String::new(),
    };
    let elsewhere = |at: &&Location| (&at.file, at.line) != (&rule.file, rule.line);
    let place = condition.location.as_ref().filter(elsewhere);
    let place = place.map_or_else(String::new, |at| format!(", at {at}"));
    format!("{} differs{wanted}{place}", condition.name)
}

fn checked(e: &Explanation) -> String {
    let oracle = match e.agreement {
        Agreement::Agree => "oracle agrees",
        Agreement::Differ => "ORACLE DIFFERS",
        Agreement::Single => "single opinion",
    };
    let mut parts = vec![
        e.backend.clone(),
        oracle.to_owned(),
        format!("profile {}", e.profile),
        format!(
            "{}, {}",
            words::counted(e.policies, "policy", "policies"),
            words::counted(e.unmodelled, "unmodelled object", "unmodelled objects")
        ),
    ];
    if e.lost > 0 {
        parts.push(format!("{} LOST", lost(e)));
    }
    parts.join("; ")
}
