//! What the full level adds: every look-up with its key, result and losing candidate, what conntrack
//! wrote, and the bytes before and after.

use engine::explain::{Condition, HopReport, Nearest, Step};
use engine::trace::Rewriting;

use super::{hop, words};

/// The look-ups behind a step.
pub(super) fn lookups(step: &Step) -> Vec<String> {
    match step {
        Step::Identity { address, prefix, entry, .. }
        | Step::Ipcache { address, prefix, entry, .. } => {
            let Some(entry) = entry else { return Vec::new() };
            let prefix = prefix.as_deref().unwrap_or("?");
            vec![lookup(&format!("ipcache {address}: prefix {prefix}, entry {}", entry.0))]
        }
        Step::Conntrack { created, expires_in, .. } => {
            vec![lookup(&format!("conntrack: {}", remembered(*created, *expires_in)))]
        }
        Step::Policy { .. } => policy(step),
        Step::Service { frontend, protocol, entry, .. } => {
            let found = entry.map_or_else(|| "no entry".to_owned(), |e| format!("entry {}", e.0));
            vec![lookup(&format!("frontends {frontend}/{protocol}: {found}"))]
        }
        Step::Rewritten {
            rewriting: Rewriting::Masquerade | Rewriting::NodePort, created, ..
        } => {
            let port = if *created { "chosen for this flow" } else { "the flow's from before" };
            vec![lookup(&format!("port of the node: {port}"))]
        }
        Step::Skipped { .. }
        | Step::Rewritten { .. }
        | Step::Requoted { .. }
        | Step::Encrypted { .. }
        | Step::Network { .. }
        | Step::Left { .. }
        | Step::Tunnel { .. }
        | Step::Deliver { .. }
        | Step::Stack { .. }
        | Step::Drop { .. } => Vec::new(),
    }
}

/// What conntrack holds of the flow after the run.
fn remembered(created: bool, expires_in: u32) -> String {
    match (created, expires_in) {
        (true, _) => format!("entry written, expires in {expires_in} s"),
        (false, 0) => "no entry, none written".to_owned(),
        (false, _) => format!("entry found, expires in {expires_in} s"),
    }
}

/// The conditions that a near rule failed: what each wants, what came, and where it is written.
pub(super) fn differences(near: &Nearest) -> Vec<String> {
    let failed = near.conditions.iter().filter(|c| !c.ok);
    let line = |c: &Condition| {
        let wants = c.wants.as_deref().unwrap_or("?");
        let is = c.is.as_deref().unwrap_or("?");
        let place = c.location.as_ref().map_or_else(String::new, |at| format!(", at {at}"));
        hop::fact(2, "differs", &format!("{}: wants {wants}, is {is}{place}", c.name))
    };
    failed.map(line).collect()
}

fn policy(step: &Step) -> Vec<String> {
    let Step::Policy { decided, peer, peer_meaning, protocol, port, key, other, .. } = step else {
        return Vec::new();
    };
    let Some(entry) = decided.entry else { return Vec::new() };
    let asked = format!("peer {}, {protocol} {port}", words::identity(*peer, peer_meaning));
    let found = match key {
        Some(key) => format!("entry {} {{{key}}}", entry.0),
        None => "no entry".to_owned(),
    };
    let mut lines = vec![lookup(&format!("policy of {}: {asked}: {found}", decided.endpoint))];
    if let Some((entry, key)) = other {
        lines.push(lookup(&format!("lost to it: entry {} {{{key}}}", entry.0)));
    }
    if !decided.also.is_empty() {
        lines.push(lookup(&format!("the same entry also by {}", decided.also.join(", "))));
    }
    lines
}

/// The bytes of a hop.
pub(super) fn frames(report: &HopReport) -> Vec<String> {
    let mut lines = Vec::new();
    if !report.frame_in.is_empty() {
        lines.push(hop::fact(2, "before", &hex(&report.frame_in)));
    }
    if !report.frame.is_empty() {
        lines.push(hop::fact(2, "after", &hex(&report.frame)));
    }
    if !report.undetermined.is_empty() {
        lines.push(hop::fact(2, "open", &report.undetermined.join(", ")));
    }
    lines
}

fn lookup(text: &str) -> String {
    hop::fact(2, "lookup", text)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('?');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}
