//! An expectation held against an answer. Every part that is not met gives one line: what was expected,
//! what came. An undecided or tainted answer meets nothing but `undecided`.

use engine::explain::{Decided, Explanation, HopReport, LegOutcome, Step, Verdict};
use engine::net::Direction;
use engine::topology::{Endpoint, Party, World};
use lang::suite::{Expectation, Fact, Reason};

use super::translation;

/// What the answer misses, in the order of the expectation.
pub(crate) fn misses(wanted: &Expectation, came: &Explanation, world: &World) -> Vec<String> {
    let mut misses = Vec::new();
    misses.extend(taint(wanted, came));
    misses.extend(verdict(wanted, came));
    misses.extend(wanted.reason.as_ref().and_then(|reason| reason_miss(*reason, came)));
    misses.extend(wanted.place.and_then(|(at, of)| place_miss(at, of, came, world)));
    misses.extend(wanted.facts.iter().filter_map(|(fact, _)| fact_miss(fact, came, world)));
    misses
}

/// Why no expectation but `undecided` can be met by this answer.
fn taint(wanted: &Expectation, came: &Explanation) -> Option<String> {
    if wanted.verdict == Verdict::Undecided {
        return None;
    }
    if came.lost > 0 {
        return Some(format!("the answer is tainted: events lost: {}", came.lost));
    }
    if came.unmodelled > 0 {
        return Some(format!("the answer is tainted: objects not modelled: {}", came.unmodelled));
    }
    came.hops.is_empty().then(|| "the answer is vacuous: no program saw the packet".to_owned())
}

fn verdict(wanted: &Expectation, came: &Explanation) -> Option<String> {
    (wanted.verdict != came.verdict)
        .then(|| format!("expected {}, came {}", wanted.verdict, outcome(came)))
}

/// `allowed`, `dropped policy-denied (133)`.
fn outcome(came: &Explanation) -> String {
    match came.reason {
        Some(reason) => format!("{} {reason}", came.verdict),
        None => came.verdict.to_string(),
    }
}

fn reason_miss(wanted: Reason, came: &Explanation) -> Option<String> {
    let (met, wanted) = match wanted {
        Reason::Outcome(outcome) => {
            (deciding(came).is_some_and(|d| d.outcome == outcome), outcome.to_string())
        }
        Reason::Drop(reason) => (came.reason == Some(reason), reason.to_string()),
    };
    (!met).then(|| format!("expected {wanted}, came {}", decision(came)))
}

/// The decision that settled the verdict: the one that dropped, else the last that was made.
fn deciding(came: &Explanation) -> Option<&Decided> {
    let drops = |d: &&Decided| matches!(d.outcome, LegOutcome::Deny | LegOutcome::DefaultDeny);
    came.decided_by.iter().find(drops).or(came.decided_by.last())
}

fn decision(came: &Explanation) -> String {
    match deciding(came) {
        Some(d) => format!("{} at {} of {}", words(d), d.direction, d.endpoint),
        None => outcome(came),
    }
}

/// `allow by web/a#b`, `default-deny`.
fn words(d: &Decided) -> String {
    match (&d.policy, &d.rule, &d.implied) {
        (Some(policy), Some(rule), _) => format!("{} by {policy}#{rule}", d.outcome),
        (None, _, Some(implied)) if *implied != d.outcome.to_string() => {
            format!("{} by {implied}", d.outcome)
        }
        _ => d.outcome.to_string(),
    }
}

fn place_miss(
    direction: Direction,
    of: Option<Party>,
    came: &Explanation,
    world: &World,
) -> Option<String> {
    let of = of.map(|party| party_name(party, world));
    let dropped = came.dropped_at.as_ref().map(|at| (at.direction, at.endpoint.as_deref()));
    let (came_direction, came_endpoint) = match dropped {
        Some(place) => place,
        None => match deciding(came) {
            Some(d) => (Some(d.direction), Some(d.endpoint.as_str())),
            None => (None, None),
        },
    };
    let met = came_direction == Some(direction)
        && of.as_ref().is_none_or(|of| came_endpoint == Some(of.as_str()));
    let wanted = of.map_or_else(|| direction.to_string(), |of| format!("{direction} of {of}"));
    (!met).then(|| format!("expected at {wanted}, came {}", decision(came)))
}

/// The name that answers use for a party.
fn party_name(party: Party, world: &World) -> String {
    let named = match party {
        Party::Pod(id) => Some(world.endpoint_name(Endpoint::Pod(id))),
        Party::Node(id) => Some(world.endpoint_name(Endpoint::Host(id))),
        Party::Health(id) => Some(world.endpoint_name(Endpoint::Health(id))),
        Party::Service(id) => world.service(id).map(engine::topology::Service::qualified),
        Party::External(id) => world.external(id).map(|e| e.name.clone()),
        Party::Address(address) => match world.owner(address) {
            Some(Party::Address(_)) | None => Some(address.to_string()),
            Some(owner) => Some(party_name(owner, world)),
        },
    };
    named.unwrap_or_else(|| "?".to_owned())
}

fn fact_miss(fact: &Fact, came: &Explanation, world: &World) -> Option<String> {
    match fact {
        Fact::By { policy, rule } => by_miss(policy, rule.as_deref(), came),
        Fact::Implied(implied) => {
            let met = came.decided_by.iter().any(|d| d.implied.as_deref() == Some(implied.name()));
            miss(met, &format!("implied {}", implied.name()), &decisions(came))
        }
        Fact::Tunneled(to) => tunneled_miss(to.and_then(|id| world.node(id)), came),
        Fact::NotTunneled => miss(!came.tunneled, "not tunneled", "tunneled"),
        Fact::Conntrack(state) => {
            let seen = steps(came).find_map(|step| match step {
                Step::Conntrack { state, .. } => Some(*state),
                _ => None,
            });
            let came = seen.map_or_else(|| "none".to_owned(), |s| s.to_string());
            miss(seen == Some(*state), &format!("conntrack {state}"), &format!("conntrack {came}"))
        }
        Fact::Identity(number) => {
            let seen = steps(came).filter_map(|step| match step {
                Step::Identity { identity, .. } => Some(identity.0),
                _ => None,
            });
            let last = seen.last();
            let came = last.map_or_else(|| "none".to_owned(), |n| n.to_string());
            miss(last == Some(*number), &format!("identity {number}"), &format!("identity {came}"))
        }
        Fact::Leg(direction, outcome) => leg_miss(*direction, *outcome, came),
        Fact::Reply(verdict) => {
            let reply = came.reply.as_deref();
            let seen =
                reply.map_or_else(|| "no reply".to_owned(), |r| format!("reply {}", outcome(r)));
            let met = reply.is_some_and(|r| r.verdict == *verdict);
            miss(met, &format!("reply {verdict}"), &seen)
        }
        Fact::Ttl(ttl) => {
            let seen = came.hops.last().and_then(ttl_after);
            let came = seen.map_or_else(|| "no TTL".to_owned(), |t| format!("ttl {t}"));
            miss(seen == Some(*ttl), &format!("ttl {ttl}"), &came)
        }
        Fact::Backend { .. }
        | Fact::NoBackend
        | Fact::Snat(_)
        | Fact::NotSnat
        | Fact::Arrives(_)
        | Fact::Encrypted
        | Fact::NotEncrypted => translation::miss(fact, came, world),
    }
}

fn miss(met: bool, wanted: &str, came: &str) -> Option<String> {
    (!met).then(|| format!("expected {wanted}, came {came}"))
}

fn steps(came: &Explanation) -> impl Iterator<Item = &Step> {
    came.hops.iter().flat_map(|hop| &hop.steps)
}

fn by_miss(policy: &str, rule: Option<&str>, came: &Explanation) -> Option<String> {
    let handle = rule.map_or_else(|| policy.to_owned(), |rule| format!("{policy}#{rule}"));
    let by = |d: &Decided| {
        d.policy.as_deref() == Some(policy) && rule.is_none_or(|r| d.rule.as_deref() == Some(r))
    };
    miss(came.decided_by.iter().any(by), &format!("by {handle}"), &decisions(came))
}

/// `egress not-isolated, ingress allow by web/a#b`
fn decisions(came: &Explanation) -> String {
    if came.decided_by.is_empty() {
        return format!("{}, with no policy asked", outcome(came));
    }
    let each = came.decided_by.iter().map(|d| format!("{} {}", d.direction, words(d)));
    each.collect::<Vec<_>>().join(", ")
}

fn tunneled_miss(to: Option<&engine::topology::Node>, came: &Explanation) -> Option<String> {
    let reached = steps(came).find_map(|step| match step {
        Step::Tunnel { node, destination, .. } => Some(node.as_deref().unwrap_or(destination)),
        _ => None,
    });
    let seen = reached.map_or_else(|| "not tunneled".to_owned(), |n| format!("tunnel {n}"));
    match to {
        None => miss(came.tunneled, "tunneled", &seen),
        Some(node) => {
            miss(reached == Some(node.name.as_str()), &format!("tunnel {}", node.name), &seen)
        }
    }
}

fn leg_miss(direction: Direction, wanted: LegOutcome, came: &Explanation) -> Option<String> {
    let leg = came.decided_by.iter().find(|d| d.direction == direction);
    let outcome = leg.map_or(LegOutcome::NotReached, |d| d.outcome);
    let seen = leg.map_or_else(|| outcome.to_string(), words);
    miss(outcome == wanted, &format!("{direction} {wanted}"), &format!("{direction} {seen}"))
}

/// TTL or hop limit of a hop's packet as it leaves: of the inner packet, where it is tunneled.
fn ttl_after(hop: &HopReport) -> Option<u8> {
    let delivered = hop.steps.iter().find_map(|step| match step {
        Step::Deliver { ttl, .. } => *ttl,
        _ => None,
    });
    // The tunnel never changes the inner TTL, so the frame that came in shows it.
    let frame = if hop.tunnel.is_some() { &hop.frame_in } else { &hop.frame };
    delivered.or_else(|| ttl_of(frame))
}

/// Reads IPv4's TTL (RFC 791, byte 8) or IPv6's hop limit (RFC 8200, byte 7) behind an Ethernet header.
fn ttl_of(frame: &[u8]) -> Option<u8> {
    match frame.get(14)? >> 4 {
        4 => frame.get(14 + 8).copied(),
        6 => frame.get(14 + 7).copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use engine::explain::Explanation;
    use engine::net::Direction;
    use engine::reason::DropReason;
    use engine::source::Span;
    use engine::trace::CtState;
    use engine::verdict::Implied;
    use lang::suite::Arrival;

    use super::*;
    use crate::sample::{dropped, tunneled};

    fn wants(verdict: Verdict) -> Expectation {
        Expectation { verdict, reason: None, place: None, facts: Vec::new(), span: Span::default() }
    }

    fn check(wanted: &Expectation, came: &Explanation, expected: &[&str]) {
        assert_eq!(misses(wanted, came, &World::default()), expected);
    }

    fn check_fact(fact: Fact, came: &Explanation, expected: &[&str]) {
        let wanted = Expectation { facts: vec![(fact, Span::default())], ..wants(came.verdict) };
        check(&wanted, came, expected);
    }

    fn by(policy: &str, rule: Option<&str>) -> Fact {
        Fact::By { policy: policy.into(), rule: rule.map(Into::into) }
    }

    #[test]
    fn verdicts() {
        check(&wants(Verdict::Allowed), &tunneled(), &[]);
        let miss = "expected allowed, came dropped policy-denied (133)";
        check(&wants(Verdict::Allowed), &dropped(), &[miss]);
    }

    #[test]
    fn undecided_tainted_and_vacuous_answers_meet_nothing() {
        let mut lost = tunneled();
        lost.lost = 2;
        check(&wants(Verdict::Allowed), &lost, &["the answer is tainted: events lost: 2"]);
        let mut unmodelled = tunneled();
        unmodelled.unmodelled = 1;
        let miss = "the answer is tainted: objects not modelled: 1";
        check(&wants(Verdict::Allowed), &unmodelled, &[miss]);
        let mut vacuous = tunneled();
        vacuous.hops.clear();
        let miss = "the answer is vacuous: no program saw the packet";
        check(&wants(Verdict::Allowed), &vacuous, &[miss]);
        let mut undecided = tunneled();
        undecided.verdict = Verdict::Undecided;
        check(&wants(Verdict::Allowed), &undecided, &["expected allowed, came undecided"]);
        check(&wants(Verdict::Undecided), &undecided, &[]);
    }

    #[test]
    fn reasons_by_word_and_by_number() {
        let with = |reason| Expectation { reason: Some(reason), ..wants(Verdict::Dropped) };
        check(&with(Reason::Outcome(LegOutcome::DefaultDeny)), &dropped(), &[]);
        check(&with(Reason::Drop(DropReason::PolicyDenied)), &dropped(), &[]);
        let miss = "expected deny, came default-deny at ingress of web/echo-0";
        check(&with(Reason::Outcome(LegOutcome::Deny)), &dropped(), &[miss]);
        let miss = "expected ttl-exceeded (196), came default-deny at ingress of web/echo-0";
        check(&with(Reason::Drop(DropReason::TtlExceeded)), &dropped(), &[miss]);
    }

    #[test]
    fn places() {
        let at =
            |direction| Expectation { place: Some((direction, None)), ..wants(Verdict::Dropped) };
        check(&at(Direction::Ingress), &dropped(), &[]);
        let miss = "expected at egress, came default-deny at ingress of web/echo-0";
        check(&at(Direction::Egress), &dropped(), &[miss]);
    }

    #[test]
    fn deciders() {
        check_fact(by("web/echo-access", Some("api-read")), &tunneled(), &[]);
        check_fact(by("web/echo-access", None), &tunneled(), &[]);
        let miss = "expected by web/echo-access#probes, came egress allow by web/client-egress#echo, \
                    ingress allow by web/echo-access#api-read";
        check_fact(by("web/echo-access", Some("probes")), &tunneled(), &[miss]);
        check_fact(Fact::Implied(Implied::DefaultDeny), &dropped(), &[]);
        let miss = "expected implied local-host, came ingress default-deny";
        check_fact(Fact::Implied(Implied::LocalHost), &dropped(), &[miss]);
    }

    #[test]
    fn the_way() {
        check_fact(Fact::Tunneled(None), &tunneled(), &[]);
        check_fact(Fact::Tunneled(None), &dropped(), &["expected tunneled, came not tunneled"]);
        check_fact(Fact::NotTunneled, &tunneled(), &["expected not tunneled, came tunneled"]);
        check_fact(Fact::NotTunneled, &dropped(), &[]);
        check_fact(Fact::Ttl(63), &tunneled(), &[]);
        check_fact(Fact::Ttl(64), &tunneled(), &["expected ttl 64, came ttl 63"]);
    }

    #[test]
    fn arrivals() {
        let at = |of_source, address: &str, port| {
            Fact::Arrives(Arrival { of_source, address: address.parse().unwrap(), port })
        };
        let miss = "expected arrives from 10.0.0.1, came not arrived";
        check_fact(at(true, "10.0.0.1", None), &dropped(), &[miss]);
        let miss = "expected arrives at [fd00::1]:80, came not arrived";
        check_fact(at(false, "fd00::1", Some(80)), &dropped(), &[miss]);
    }

    #[test]
    fn state_and_identity() {
        check_fact(Fact::Conntrack(CtState::New), &tunneled(), &[]);
        let miss = "expected conntrack reply, came conntrack new";
        check_fact(Fact::Conntrack(CtState::Reply), &tunneled(), &[miss]);
        check_fact(Fact::Identity(27634), &tunneled(), &[]);
        check_fact(Fact::Identity(5), &dropped(), &["expected identity 5, came identity 2"]);
    }

    #[test]
    fn legs_and_replies() {
        check_fact(Fact::Leg(Direction::Egress, LegOutcome::Allow), &tunneled(), &[]);
        check_fact(Fact::Leg(Direction::Egress, LegOutcome::NotReached), &dropped(), &[]);
        let miss = "expected ingress not-isolated, came ingress default-deny";
        check_fact(Fact::Leg(Direction::Ingress, LegOutcome::NotIsolated), &dropped(), &[miss]);
        let miss = "expected reply allowed, came no reply";
        check_fact(Fact::Reply(Verdict::Allowed), &tunneled(), &[miss]);
        let mut answered = tunneled();
        answered.reply = Some(Box::new(tunneled()));
        check_fact(Fact::Reply(Verdict::Allowed), &answered, &[]);
    }

    #[test]
    fn the_ttl_is_read_from_the_frame_where_nothing_is_delivered() {
        let mut v4 = vec![0; 34];
        v4[14] = 0x45;
        v4[22] = 61;
        let mut v6 = vec![0; 54];
        v6[14] = 0x60;
        v6[21] = 7;
        assert_eq!((ttl_of(&v4), ttl_of(&v6), ttl_of(&[0; 14])), (Some(61), Some(7), None));
    }
}
