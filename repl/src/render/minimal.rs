//! The level that tests pin: what was decided, by whom and where, and nothing that changes by itself. No
//! lines of files, entry ids, generations, ephemeral ports, identity numbers, times or counters; adding a
//! policy, pod or comment that has nothing to do with the flow leaves the text as it is.

use engine::explain::{Decided, Explanation, HopReport, Step, Undecided};
use engine::reason::DropReason;
use engine::trace::Rewriting;

use super::{hop, known};

/// `allowed tunneled`, then one line a hop; the reply after it, behind the word `reply`.
pub(super) fn lines(e: &Explanation) -> Vec<String> {
    let mut lines = vec![verdict(e)];
    lines.extend(e.divergence.as_ref().map(|d| format!("divergence {}", d.what)));
    lines.extend(e.hops.iter().filter(|hop| !hop.quiet).map(hop_line));
    lines.extend(e.known.iter().map(known::minimal));
    lines.extend(e.no_reply.iter().map(|_| "reply not-followed".to_owned()));
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

pub(super) fn undecided(why: Undecided) -> &'static str {
    match why {
        Undecided::EventsLost => "events-lost",
        Undecided::OutcomeNotSeen => "outcome-not-seen",
        Undecided::NotFollowed => "not-followed",
        Undecided::OtherGeneration => "other-generation",
        Undecided::NotOpened => "not-opened",
        Undecided::NotObserved => "not-observed",
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
            Step::Conntrack { .. } if !hop::tells_of_flow(report) => {}
            other => facts.extend(fact(other)),
        }
    }
    words.extend(facts);
    words.join(" ")
}

/// `backend=web/echo-0:8080`, `ct=new`, `snat=192.168.66.196`: what a step settles.
fn fact(step: &Step) -> Option<String> {
    Some(match step {
        Step::Conntrack { state, .. } => format!("ct={state}"),
        Step::Service { backend, backend_address, kind, .. } => {
            match backend.as_ref().zip(backend_address.as_ref()) {
                Some((pod, address)) => format!("backend={pod}{}", port_of(address)),
                None if kind.is_some() => "backend=none".to_owned(),
                None => "backend=no-port".to_owned(),
            }
        }
        Step::Rewritten { rewriting, after, .. } => {
            format!("{}={}", side(*rewriting), without_port(after))
        }
        Step::Requoted { .. } => "quote=rewritten".to_owned(),
        Step::Encrypted { by, .. } => format!("encrypted={by}"),
        Step::Tunnel { kind, destination, node, .. } => {
            format!("tunnel={kind}:{}", node.as_deref().unwrap_or(destination))
        }
        Step::Network { next_hop: Some(at), node, .. } => {
            format!("native={}", node.as_deref().unwrap_or(at))
        }
        Step::Left { node: None, .. } => "left".to_owned(),
        Step::Left { node: Some(there), .. } => format!("left={there}"),
        Step::Stack { host: true, .. } => "stack=node".to_owned(),
        Step::Stack { host: false, .. } => "stack=routed".to_owned(),
        Step::Drop { reason, .. } if !by_policy(*reason) => format!("drop={}", reason.name()),
        Step::Network { .. }
        | Step::Drop { .. }
        | Step::Identity { .. }
        | Step::Ipcache { .. }
        | Step::Deliver { .. }
        | Step::Policy { .. }
        | Step::Skipped { .. } => return None,
    })
}

/// Which side of the packet a rewriting is about.
fn side(rewriting: Rewriting) -> &'static str {
    match rewriting {
        Rewriting::ServiceReply
        | Rewriting::Masquerade
        | Rewriting::NodePort
        | Rewriting::Loopback => "snat",
        Rewriting::Service
        | Rewriting::MasqueradeReply
        | Rewriting::NodePortReply
        | Rewriting::LoopbackReply => "dnat",
    }
}

/// `:8080` of `10.244.6.11:8080`; nothing where there is no port.
fn port_of(place: &str) -> String {
    let port = place.parse().map_or(0, |place: std::net::SocketAddr| place.port());
    if port == 0 { String::new() } else { format!(":{port}") }
}

/// The address of a place: its port may be one that the datapath chose.
fn without_port(place: &str) -> String {
    let address = place.parse().map(|place: std::net::SocketAddr| place.ip().to_string());
    address.unwrap_or_else(|_| place.to_owned())
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
    fn services_and_ways_out() {
        let mut answer = tunneled();
        let served = |backend: Option<&str>| Step::Service {
            service: "web/echo".into(),
            frontend: "10.96.0.20:80".into(),
            kind: backend.map(|_| engine::tables::FrontendKind::ClusterIp),
            protocol: engine::net::Protocol::Tcp,
            entry: None,
            backend: backend.map(Into::into),
            backend_address: backend.map(|_| "10.244.6.11:8080".into()),
            choice: engine::trace::Choice::Random,
            of: 2,
        };
        let snat = Step::Rewritten {
            rewriting: Rewriting::Masquerade,
            before: "10.244.1.154:40312".into(),
            after: "192.168.66.226:61000".into(),
            party: "web/client".into(),
            identifier: None,
            created: true,
        };
        let left = Step::Left { device: "eth0".into(), node: None };
        let encrypted = Step::Encrypted { by: "wireguard".into(), key: None, mark: 0xe00 };
        let native = Step::Network {
            device: "eth0".into(),
            next_hop: Some("192.168.66.221".into()),
            node: Some("node02".into()),
            ttl: None,
        };
        let mut quiet = hop("node01", "eth0", Hook::ToNetdev, Vec::new());
        quiet.quiet = true;
        answer.tunneled = false;
        answer.hops = vec![
            hop(
                "node01",
                "lxc_client",
                Hook::FromContainer,
                vec![served(Some("web/echo-0")), native],
            ),
            quiet,
            hop("node01", "eth0", Hook::ToNetdev, vec![snat, encrypted, left]),
            hop("node02", "eth0", Hook::FromNetdev, vec![served(None)]),
        ];
        let expected = [
            "allowed",
            "node01 from-container backend=web/echo-0:8080 native=node02",
            "node01 to-netdev snat=192.168.66.226 encrypted=wireguard left",
            "node02 from-netdev backend=no-port",
        ];
        assert_eq!(lines(&answer), expected);
    }

    #[test]
    fn other_ends() {
        let mut answer = dropped();
        let end = |answer: &Explanation| lines(answer).join("; ");
        answer.reason = Some(DropReason::TtlExceeded);
        answer.hops[0].steps =
            vec![Step::Drop { reason: DropReason::TtlExceeded, by_stack: false }];
        let expected = "dropped ttl-exceeded; node02 from-netdev drop=ttl-exceeded";
        assert_eq!(end(&answer), expected);
        answer.verdict = engine::explain::Verdict::Allowed;
        answer.reason = None;
        answer.hops[0].steps = vec![Step::Stack { host: false, followed: false }];
        assert_eq!(end(&answer), "allowed; node02 from-netdev stack=routed");
        let mut local_host = decided(Direction::Ingress, "web/echo-0", LegOutcome::Allow);
        local_host.implied = Some("local-host".into());
        answer.hops[0].steps = vec![
            Step::Skipped { decided: local_host },
            Step::Stack { host: true, followed: false },
        ];
        assert_eq!(end(&answer), "allowed; node02 from-netdev ingress allow local-host stack=node");
        answer.verdict = engine::explain::Verdict::Undecided;
        answer.undecided = Some(Undecided::NotFollowed);
        answer.hops.clear();
        assert_eq!(end(&answer), "undecided not-followed");
    }
}
