//! The level that tests pin: what was decided, by whom and where, and nothing that changes by itself. No
//! lines of files, entry ids, generations, ephemeral ports, identity numbers, times or counters; adding a
//! policy, pod or comment that has nothing to do with the flow leaves the text as it is.

use engine::explain::{Decided, Explanation, HopReport, Step, Undecided};
use engine::reason::DropReason;

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
            Step::Drop { reason } if !by_policy(*reason) => {
                facts.push(format!("drop={}", reason.name()));
            }
            Step::Drop { .. }
            | Step::Identity { .. }
            | Step::Ipcache { .. }
            | Step::Deliver { .. } => {}
        }
    }
    words.extend(facts);
    words.join(" ")
}

/// Whether the decision of a direction says it already.
fn by_policy(reason: DropReason) -> bool {
    matches!(reason, DropReason::PolicyDenied | DropReason::PolicyDeny)
}

/// `ingress allow web/echo-access#api-read`, `egress not-isolated`, `ingress allow local-host`.
fn decision(decided: &Decided) -> String {
    let outcome = decided.outcome.to_string();
    let by = hop::handle(decided).or_else(|| decided.implied.clone().filter(|i| *i != outcome));
    let by = by.map_or_else(String::new, |by| format!(" {by}"));
    format!("{} {outcome}{by}", decided.direction)
}

#[cfg(test)]
mod tests {
    use engine::explain::{Divergence, LegOutcome};
    use engine::net::{Direction, Hook};
    use engine::trace::CtState;

    use super::*;
    use crate::sample::{decided, dropped, hop, tunneled};

    #[test]
    fn a_reply_and_a_divergence_are_told() {
        let mut asked = tunneled();
        asked.divergence = Some(Divergence {
            what: "rule at ingress of web/echo-0".into(),
            datapath: String::new(),
            oracle: String::new(),
        });
        let known = decided(Direction::Ingress, "web/client", LegOutcome::Reply);
        let state = CtState::Reply;
        let steps = vec![
            Step::Conntrack { state, created: false, expires_in: 9, closing: false },
            Step::Skipped { decided: known },
        ];
        let mut reply = tunneled();
        reply.hops = vec![hop("node01", "vxlan0", Hook::FromOverlay, steps)];
        asked.reply = Some(Box::new(reply));
        let expected = [
            "allowed tunneled",
            "divergence rule at ingress of web/echo-0",
            "node01 from-container egress allow web/client-egress#echo ct=new tunnel=vxlan:node02",
            "node02 from-overlay ingress allow web/echo-access#api-read ct=new",
            "reply allowed tunneled",
            "reply node01 from-overlay ingress reply ct=reply",
        ];
        assert_eq!(lines(&asked), expected);
    }

    #[test]
    fn other_ends() {
        let mut answer = dropped();
        let end = |answer: &Explanation| lines(answer).join("; ");
        answer.reason = Some(DropReason::TtlExceeded);
        answer.hops[0].steps = vec![Step::Drop { reason: DropReason::TtlExceeded }];
        let expected = "dropped ttl-exceeded; node02 from-netdev drop=ttl-exceeded";
        assert_eq!(end(&answer), expected);
        answer.verdict = engine::explain::Verdict::Allowed;
        answer.reason = None;
        answer.hops[0].steps = vec![Step::Stack { host: false }];
        assert_eq!(end(&answer), "allowed; node02 from-netdev stack=routed");
        let mut local_host = decided(Direction::Ingress, "web/echo-0", LegOutcome::Allow);
        local_host.implied = Some("local-host".into());
        answer.hops[0].steps =
            vec![Step::Skipped { decided: local_host }, Step::Stack { host: true }];
        assert_eq!(end(&answer), "allowed; node02 from-netdev ingress allow local-host stack=node");
        answer.verdict = engine::explain::Verdict::Undecided;
        answer.undecided = Some(Undecided::NotFollowed);
        answer.hops.clear();
        assert_eq!(end(&answer), "undecided not-followed");
    }
}
