//! One program run as lines: a header `NODE DEVICE HOOK`, then its steps behind fixed keywords.

use engine::explain::{Decided, HopReport, LegOutcome, Step};
use engine::net::{Direction, Hook};
use engine::reason::DropReason;

use super::{full, way, words};
use crate::reply::Level;

/// `    keyword   text`, indented by `depth` levels of two blanks.
pub(super) fn fact(depth: usize, keyword: &str, text: &str) -> String {
    format!("{:indent$}{keyword:<9} {text}", "", indent = depth * 2).trim_end().to_owned()
}

/// The header and the steps that the level shows; nothing for a run that had nothing to say, unless all is asked for.
pub(super) fn lines(hop: &HopReport, level: Level) -> Vec<String> {
    if hop.quiet && level != Level::Full {
        return Vec::new();
    }
    let after = hop.after.map(|after| {
        format!(", {} later", words::duration(std::time::Duration::from_nanos(after)))
    });
    let after = after.unwrap_or_default();
    let mut lines = vec![format!("  {} {} {}{after}", hop.node, hop.device, hop.hook)];
    for step in &hop.steps {
        if level == Level::Full || is_news(step, hop) {
            let (keyword, text) = words_of(step, &hop.node);
            lines.push(fact(2, keyword, &text));
        }
        if level == Level::Full {
            lines.extend(full::lookups(step));
        }
    }
    lines
}

/// Whether a step says something that the lines around it do not: the attachment's own identity is the
/// sender's, a receiver on the spot is named by its delivery, a drop by policy is said by the policy's line, and what a device
/// knows of a flow was said by the program that sent the packet there.
fn is_news(step: &Step, hop: &HopReport) -> bool {
    match step {
        Step::Identity { from, .. } => from != "endpoint",
        Step::Ipcache { node, .. } => {
            matches!(hop.hook, Hook::FromContainer | Hook::FromHost) || node.is_some()
        }
        Step::Conntrack { .. } => tells_of_flow(hop),
        Step::Drop { reason, .. } => {
            !matches!(reason, DropReason::PolicyDenied | DropReason::PolicyDeny)
        }
        _ => true,
    }
}

/// Whether what conntrack said at a hop is news: at a device's egress only where a policy was asked.
pub(super) fn tells_of_flow(hop: &HopReport) -> bool {
    let asked = |step: &Step| matches!(step, Step::Policy { .. } | Step::Skipped { .. });
    hop.hook != Hook::ToNetdev || hop.steps.iter().any(asked)
}

fn words_of(step: &Step, node: &str) -> (&'static str, String) {
    match step {
        Step::Identity { .. } => ("identity", identity(step)),
        Step::Ipcache { .. } => ("ipcache", ipcache(step)),
        Step::Conntrack { state, closing, .. } => {
            ("conntrack", format!("{state}{}", if *closing { ", closing" } else { "" }))
        }
        Step::Policy { decided, remembered, .. } => {
            let memory = if *remembered { ", remembered by conntrack" } else { "" };
            (keyword(decided.direction), format!("{}{memory}", decision(decided)))
        }
        Step::Skipped { decided } => (keyword(decided.direction), decision(decided)),
        Step::Service { .. } => ("service", way::service(step)),
        Step::Rewritten { rewriting, before, after, party, identifier, .. } => {
            let echo = identifier.map_or_else(String::new, |id| format!(" echo id {id}"));
            way::rewritten(*rewriting, before, &format!("{after}{echo}"), party)
        }
        Step::Requoted { before, after } => {
            ("quote", format!("{before} becomes {after}, as whoever sent it knows it"))
        }
        Step::Encrypted { .. } => ("encrypt", way::encrypted(step)),
        Step::Tunnel { .. }
        | Step::Deliver { .. }
        | Step::Stack { .. }
        | Step::Network { .. }
        | Step::Left { .. } => way::on(step, node),
        Step::Drop { reason, by_stack: true } => {
            let tells = match reason {
                DropReason::TtlExceeded => ", which tells the sender (time exceeded)",
                _ => "",
            };
            ("drop", format!("{reason}, by the stack of {node}{tells}"))
        }
        Step::Drop { reason, by_stack: false } => ("drop", reason.to_string()),
    }
}

fn keyword(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    }
}

/// `27634 {app=client} in web, from the vni`, `8.8.8.8 -> world`.
fn identity(step: &Step) -> String {
    let Step::Identity { address, identity, meaning, from, prefix, .. } = step else {
        return String::new();
    };
    let who = words::identity(*identity, meaning);
    match from.as_str() {
        "vni" if meaning.is_empty() => format!("{who}, which nobody has, from the vni"),
        "ipcache" => {
            format!("{address} -> {who}{}", covering(address, prefix.as_deref(), meaning))
        }
        "own-address" if meaning == "host" => format!("{address} -> {who}, an address of its own"),
        "own-address" => {
            format!("{address} -> {who}, as an address of this node proves nothing from elsewhere")
        }
        "endpoint" => format!("{who}, of the attachment's endpoint"),
        "remembered" => format!("{who}, remembered by conntrack"),
        other => format!("{who}, from the {other}"),
    }
}

/// `10.244.6.11 -> identity 1042 {app=echo} in web, on node02 192.168.66.221`.
fn ipcache(step: &Step) -> String {
    let Step::Ipcache { address, identity, meaning, prefix, node, via, remembered, .. } = step
    else {
        return String::new();
    };
    let number = if identity.reserved_name().is_some() { "" } else { "identity " };
    let who = words::identity(*identity, meaning);
    let by = covering(address, prefix.as_deref(), meaning);
    let on = match (node, via) {
        (Some(node), Some(via)) => format!(", on {node} {via}"),
        (Some(node), None) => format!(", on {node}"),
        (None, _) => String::new(),
    };
    let memory = if *remembered { ", remembered by conntrack" } else { "" };
    format!("{address} -> {number}{who}{by}{on}{memory}")
}

/// `, by 10.2.0.0/24` where the prefix that matched says more than the address, the catch-all and the
/// identity's meaning (`cidr 10.9.0.0/16`) do.
fn covering(address: &str, prefix: Option<&str>, meaning: &str) -> String {
    let Some(prefix) = prefix.filter(|p| !meaning.ends_with(p)) else { return String::new() };
    match prefix.split_once('/') {
        Some((net, bits)) if bits != "0" && net != address => format!(", by {prefix}"),
        _ => String::new(),
    }
}

/// `allow by web/client-egress#echo shop.hop:30:3 (owner team-storefront)`, `default-deny`.
pub(super) fn decision(decided: &Decided) -> String {
    let note = note(decided.owner.as_deref(), decided.because.as_deref());
    if let Some(rule) = handle(decided) {
        let place = match (&decided.file, decided.line, decided.column) {
            (Some(file), Some(line), Some(column)) => format!(" {file}:{line}:{column}"),
            (Some(file), Some(line), None) => format!(" {file}:{line}"),
            _ => String::new(),
        };
        return format!("{} by {rule}{place}{note}", decided.outcome);
    }
    match (decided.outcome, decided.implied.as_deref()) {
        (LegOutcome::Allow, Some("local-host")) => {
            "allow by local-host: the pod's own node".to_owned()
        }
        (LegOutcome::Allow, Some("fragmentation-needed")) => {
            "allow by fragmentation-needed: path-MTU discovery passes policy".to_owned()
        }
        (LegOutcome::Allow | LegOutcome::Deny, None) => unattributed(decided),
        (LegOutcome::Reply, _) => "reply of a known flow, policy skipped".to_owned(),
        (LegOutcome::Related, _) => "related to a known flow, policy skipped".to_owned(),
        (outcome, _) => outcome.to_string(),
    }
}

/// An entry that no rule and no implied outcome stands behind: never to be read as a plain allow.
fn unattributed(decided: &Decided) -> String {
    let entry = decided.entry.map_or(0, |e| e.0);
    format!("{} by entry {entry}, which nothing known stands behind", decided.outcome)
}

/// `policy#rule`, unless the decision is implied.
pub(super) fn handle(decided: &Decided) -> Option<String> {
    let policy = decided.policy.as_ref()?;
    Some(match &decided.rule {
        Some(rule) => format!("{policy}#{rule}"),
        None => policy.clone(),
    })
}

/// ` (owner team-storefront; because "...")`, or nothing.
pub(super) fn note(owner: Option<&str>, because: Option<&str>) -> String {
    let parts: Vec<String> =
        [owner.map(|o| format!("owner {o}")), because.map(|b| format!("because {b}"))]
            .into_iter()
            .flatten()
            .collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::covering;

    #[test]
    fn a_prefix_is_told_where_it_says_more() {
        let check = |address, prefix, meaning, expected: &str| {
            assert_eq!(covering(address, prefix, meaning), expected);
        };
        check("10.2.0.99", Some("10.2.0.0/24"), "world", ", by 10.2.0.0/24");
        check("8.8.8.8", Some("0.0.0.0/0"), "world", "");
        check("10.2.0.10", Some("10.2.0.10/32"), "{app=echo} in web", "");
        check("10.9.3.3", Some("10.9.0.0/16"), "cidr 10.9.0.0/16", "");
        check("8.8.8.8", None, "world", "");
    }
}
