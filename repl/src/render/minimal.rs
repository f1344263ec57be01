//! The level that tests pin: what was decided, by whom and where, and nothing that changes by itself. No
//! lines of files, entry ids, generations, ephemeral ports, identity numbers, times or counters; adding a
//! policy, pod or comment that has nothing to do with the flow leaves the text as it is.

use engine::explain::{Decided, Explanation, HopReport, Step, Undecided};

use super::hop;

/// `allowed tunneled`, then one line a hop; the reply after it, behind the word `reply`.
pub(super) fn lines(e: &Explanation) -> Vec<String> {
    let mut lines = vec![verdict(e)];
    lines.extend(e.divergence.as_ref().map(|d| format!("divergence {}", d.what)));
    lines.extend(e.hops.iter().map(hop_line));
    if let Some(reply) = &e.reply {
        lines.extend(self::lines(reply).into_iter().map(|line| format!("reply {line}")));
    }
    lines
}

fn verdict(e: &Explanation) -> String {
    let mut words = vec![e.verdict.to_string()];
    words.extend(e.reason.map(|reason| reason.name().to_owned()));
    words.extend(e.undecided.map(|why| undecided(why).to_owned()));
    if e.tunneled {
        words.push("tunneled".to_owned());
    }
    words.join(" ")
}

fn undecided(why: Undecided) -> &'static str {
    match why {
        Undecided::EventsLost => "events-lost",
        Undecided::OutcomeNotSeen => "outcome-not-seen",
        Undecided::NotFollowed => "not-followed",
        Undecided::OtherGeneration => "other-generation",
    }
}

/// `node01 from-container egress allow web/client-egress#echo ct=new tunnel=vxlan:node02`
fn hop_line(report: &HopReport) -> String {
    let mut words = vec![report.node.clone(), report.hook.to_string()];
    let mut facts = Vec::new();
    for step in &report.steps {
        match step {
            Step::Policy { decided, .. } | Step::Skipped { decided } => {
                words.push(decision(decided));
            }
            Step::Conntrack { state, .. } => facts.push(format!("ct={state}")),
            Step::Tunnel { kind, destination, node, .. } => {
                facts.push(format!("tunnel={kind}:{}", node.as_deref().unwrap_or(destination)));
            }
            Step::Stack { host: true } => facts.push("stack=node".to_owned()),
            Step::Stack { host: false } => facts.push("stack=routed".to_owned()),
            Step::Drop { reason } => facts.push(format!("drop={}", reason.name())),
            Step::Identity { .. } | Step::Ipcache { .. } | Step::Deliver { .. } => {}
        }
    }
    words.extend(facts);
    words.join(" ")
}

/// `ingress allow web/echo-access#api-read`, `egress not-isolated`, `ingress allow local-host`.
fn decision(decided: &Decided) -> String {
    let outcome = decided.outcome.to_string();
    let by = hop::handle(decided).or_else(|| decided.implied.clone().filter(|i| *i != outcome));
    let by = by.map_or_else(String::new, |by| format!(" {by}"));
    format!("{} {outcome}{by}", decided.direction)
}
