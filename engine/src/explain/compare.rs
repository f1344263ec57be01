//! Holds the datapath's answer against the oracle's. They agree when verdict and reason are the same, the
//! same directions were judged in the same conntrack state, and the rule that the datapath names is one
//! of those that the oracle names. Anything else is a divergence; nothing here says who is right.

use crate::eval::{Judgement, Leg};
use crate::reason::DropReason;
use crate::tables::{Implied, Origin};

use super::seen::{End, FRAGMENTATION_NEEDED, Seen};
use super::{Context, Decided, Divergence, LegOutcome, Verdict};

/// Where the two answers part first, if they do.
pub(super) fn divergence(
    context: &Context<'_>,
    end: End,
    seen: &[Seen],
    judgement: &Judgement,
) -> Option<Divergence> {
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
    let judged: Vec<&Leg> =
        judgement.legs.iter().filter(|leg| leg.outcome != LegOutcome::NotReached).collect();
    let of_oracle = |leg: &Seen| judged.iter().copied().find(|other| is_same(leg, other));
    for leg in seen {
        let found = match of_oracle(leg) {
            None => Some(differs(&at(&leg.decided), words(&leg.decided), "not judged".to_owned())),
            Some(other) => leg_divergence(context, leg, other),
        };
        if found.is_some() {
            return found;
        }
    }
    let missed = judged.iter().find(|leg| !seen.iter().any(|other| is_same(other, leg)))?;
    let place = format!("{} of {}", missed.direction, context.world.endpoint_name(missed.endpoint));
    Some(differs(&place, "not judged".to_owned(), missed.outcome.to_string()))
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
