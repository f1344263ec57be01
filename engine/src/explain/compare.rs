//! Holds the datapath's answer against the oracle's. They agree when verdict and reason are the same, the
//! same directions were judged in the same conntrack state, the rule that the datapath names is one
//! of those that the oracle names, the packet went to the same service's backend by a choice that was legal, and it
//! arrives with the same addresses and ports. Anything else is a divergence; nothing here says who is right.

use crate::eval::{Judgement, Leg};
use crate::reason::DropReason;
use crate::tables::{Implied, Origin};
use crate::topology::ServiceId;
use crate::trace::{Place, Trace};

use super::seen::{End, FRAGMENTATION_NEEDED, Seen};
use super::{Context, Decided, Divergence, LegOutcome, Undecided, Verdict, service, wire};

/// Where the two answers part first, if they do.
pub(super) fn divergence(
    context: &Context<'_>,
    trace: &Trace,
    end: End,
    seen: &[Seen],
    judgement: &Judgement,
) -> Option<Divergence> {
    // Of what went on unseen both can say that it was let through until then.
    let end = if end == End::Unknown(Undecided::NotFollowed) { End::Allowed } else { end };
    let reason = match end {
        End::Dropped(reason) => Some(reason),
        End::Allowed | End::Unknown(_) => None,
    };
    let (datapath, oracle) =
        (outcome(end.verdict(), reason), outcome(judgement.verdict, judgement.reason));
    if end.verdict() != judgement.verdict {
        return Some(differs("verdict", datapath, oracle));
    }
    if reason != judgement.reason {
        return Some(differs("reason", datapath, oracle));
    }
    if let Some(illegal) = judgement.illegal.first() {
        return Some(differs("choice", "chosen".to_owned(), illegal.clone()));
    }
    if let Some(found) = service_divergence(context, trace, judgement) {
        return Some(found);
    }
    legs_divergence(context, seen, judgement).or_else(|| end_divergence(trace, end, judgement))
}

fn legs_divergence(
    context: &Context<'_>,
    seen: &[Seen],
    judgement: &Judgement,
) -> Option<Divergence> {
    // A node may be asked twice about one question: about the packet that carries it, and about the packet.
    let mut judged: Vec<&Leg> =
        judgement.legs.iter().filter(|leg| leg.outcome != LegOutcome::NotReached).collect();
    for leg in seen {
        let found = match judged.iter().position(|other| is_same(leg, other)) {
            None => Some(differs(&at(&leg.decided), words(&leg.decided), "not judged".to_owned())),
            Some(of_oracle) => leg_divergence(context, leg, judged.remove(of_oracle)),
        };
        if found.is_some() {
            return found;
        }
    }
    let missed = judged.first()?;
    let place = format!("{} of {}", missed.direction, context.world.endpoint_name(missed.endpoint));
    Some(differs(&place, "not judged".to_owned(), missed.outcome.to_string()))
}

/// A service with the port and the backend that a packet to it gets.
type Sent = (Option<ServiceId>, Option<usize>, Option<Place>);

/// Whether both saw a service, the same one, and sent the packet to the same backend.
fn service_divergence(
    context: &Context<'_>,
    trace: &Trace,
    judgement: &Judgement,
) -> Option<Divergence> {
    let told = trace.hops.iter().find_map(|hop| service::told(context, hop));
    let told: Option<Sent> = told.map(|t| (t.service, t.port, t.backend));
    let served = judgement.serving.as_ref();
    // Whoever is turned away at the door gets nothing of the service: to name it is no opinion then.
    let turned_away =
        matches!(judgement.reason, Some(DropReason::IsClusterIp | DropReason::NotInSourceRange));
    if turned_away && (told.is_none() || served.is_none()) {
        return None;
    }
    let served: Option<Sent> = served.map(|s| (Some(s.service), s.port, s.backend));
    let words = |sent: Option<Sent>| sent_in_words(context, sent);
    (told != served).then(|| differs("service", words(told), words(served)))
}

/// `web/echo 80/tcp to 10.244.6.11:8080`, `web/echo, a port that it does not have`, `no service`.
fn sent_in_words(context: &Context<'_>, sent: Option<Sent>) -> String {
    let Some((id, port, backend)) = sent else { return "no service".to_owned() };
    let service = id.and_then(|id| context.world.service(id));
    let name = service
        .map_or_else(|| "an unknown service".to_owned(), crate::topology::Service::qualified);
    let port = service.zip(port).and_then(|(service, port)| service.ports.get(port));
    let Some(port) = port else { return format!("{name}, a port that it does not have") };
    let backend = backend.map_or_else(|| "nobody".to_owned(), |place| place.to_string());
    format!("{name} {}/{} to {backend}", port.port, port.protocol)
}

/// Whether the packet arrives with the addresses and ports that the oracle expects. Where the bytes hold no port, ports are no
/// opinion; an echo's identifier counts once, whichever side it is told of.
fn end_divergence(trace: &Trace, end: End, judgement: &Judgement) -> Option<Divergence> {
    let (source, destination) = judgement.arrives?;
    let last = trace.hops.last().filter(|_| end == End::Allowed)?;
    let seen = wire::ends(&last.frame_out)?;
    let same_addresses =
        (seen.source.address, seen.destination.address) == (source.address, destination.address);
    let is_port = |wanted: u16, came: u16| {
        let may_be_absent = wanted == 0 && !seen.protocol.has_ports();
        !seen.has_ports || may_be_absent || wanted == came
    };
    let same_ports =
        is_port(source.port, seen.source.port) && is_port(destination.port, seen.destination.port);
    if same_addresses && same_ports {
        return None;
    }
    let words = |source: Place, destination: Place| format!("{source} -> {destination}");
    Some(differs("what arrives", words(seen.source, seen.destination), words(source, destination)))
}

fn differs(what: &str, datapath: String, oracle: String) -> Divergence {
    Divergence { what: what.to_owned(), datapath, oracle }
}

/// `allowed`, `dropped policy-denied (133)`.
fn outcome(verdict: Verdict, reason: Option<DropReason>) -> String {
    reason.map_or_else(|| verdict.to_string(), |reason| format!("{verdict} {reason}"))
}

fn is_same(seen: &Seen, judged: &Leg) -> bool {
    seen.endpoint == Some(judged.endpoint) && seen.decided.direction == judged.direction
}

/// `ingress of web/echo-0`
fn at(decided: &Decided) -> String {
    format!("{} of {}", decided.direction, decided.endpoint)
}

/// `allow by web/a#b`, `allow by local-host`, `default-deny`.
fn words(decided: &Decided) -> String {
    let by = match (&decided.policy, &decided.rule, &decided.implied) {
        (Some(policy), Some(rule), _) => format!("{policy}#{rule}"),
        (_, _, Some(implied)) if *implied == decided.outcome.to_string() => String::new(),
        (_, _, Some(implied)) => implied.clone(),
        _ => decided.entry.map_or_else(|| "nothing".to_owned(), |e| format!("entry {}", e.0)),
    };
    if by.is_empty() { decided.outcome.to_string() } else { format!("{} by {by}", decided.outcome) }
}

fn leg_divergence(context: &Context<'_>, seen: &Seen, judged: &Leg) -> Option<Divergence> {
    let place = at(&seen.decided);
    let oracle = || oracle_words(context, judged);
    if kind(seen.decided.outcome) != kind(judged.outcome) {
        return Some(differs(&format!("outcome at {place}"), words(&seen.decided), oracle()));
    }
    if let Some(state) = seen.state.filter(|state| *state != judged.state) {
        let what = format!("conntrack state at {place}");
        return Some(differs(&what, state.to_string(), judged.state.to_string()));
    }
    if !names_a_matching(seen, judged) {
        return Some(differs(&format!("rule at {place}"), words(&seen.decided), oracle()));
    }
    None
}

fn oracle_words(context: &Context<'_>, judged: &Leg) -> String {
    let names: Vec<String> = judged.matching.iter().map(|o| context.origin(*o)).collect();
    if names.is_empty() {
        judged.outcome.to_string()
    } else {
        format!("{} by {}", judged.outcome, names.join(" or "))
    }
}

/// What an outcome does to the packet, and why. That nothing isolates is one of the ways to allow: a rule
/// may stand behind the same entry, and then either may be named.
fn kind(outcome: LegOutcome) -> LegOutcome {
    match outcome {
        LegOutcome::NotIsolated => LegOutcome::Allow,
        other => other,
    }
}

/// Whether the datapath's decider is one that the oracle names too. Outcomes that only one thing can give
/// (a reply, the default deny, the path-MTU exception) name it by themselves.
fn names_a_matching(seen: &Seen, judged: &Leg) -> bool {
    match seen.decided.outcome {
        LegOutcome::Reply | LegOutcome::Related | LegOutcome::NotReached => true,
        LegOutcome::DefaultDeny => seen.origin == Some(Origin::Implied(Implied::DefaultDeny)),
        LegOutcome::NotIsolated if judged.outcome == LegOutcome::NotIsolated => true,
        LegOutcome::Allow if seen.decided.implied.as_deref() == Some(FRAGMENTATION_NEEDED) => true,
        LegOutcome::Allow | LegOutcome::NotIsolated | LegOutcome::Deny => {
            seen.origin.is_some_and(|origin| judged.matching.contains(&origin))
        }
    }
}
