//! Why a default deny came about, from the oracle's reasons: the policies that isolate the endpoint, and
//! the allow rules that came nearest.

use std::cmp::Reverse;

use crate::eval::{Check, Leg, Trial};
use crate::policy::Action;
use crate::tables::IdentityClass;
use crate::trace::{Event, Trace};

use super::seen::{self, Seen};
use super::{Condition, Context, Isolating, Nearest};

/// How many rules are shown.
const SHOWN: usize = 3;

/// The policies that isolate the endpoint of a leg, by handle.
pub(super) fn isolating(context: &Context<'_>, leg: &Leg) -> Vec<Isolating> {
    let mut ids = leg.isolated_by.clone();
    ids.sort_unstable();
    ids.dedup();
    let policies = ids.into_iter().filter_map(|id| context.policies.get(id));
    policies
        .map(|policy| Isolating {
            endpoint: context.world.endpoint_name(leg.endpoint),
            direction: leg.direction,
            policy: policy.handle.clone(),
            owner: policy.owner.clone(),
            because: policy.because.clone(),
            location: context.location(policy.span),
        })
        .collect()
}

/// The allow rules that came nearest: most conditions met first, then fewest failed, then in deciding
/// order (policy handle, source order). A deny that does not match kept nothing out and is never one.
pub(super) fn nearest(context: &Context<'_>, leg: &Leg, peer: Option<&str>) -> Vec<Nearest> {
    let failed = |trial: &Trial| trial.checks.iter().filter(|c| c.mismatch.is_some()).count();
    let mut trials: Vec<&Trial> = leg
        .trials
        .iter()
        .filter(|trial| trial.action == Action::Allow && failed(trial) > 0)
        .collect();
    trials.sort_by_key(|trial| {
        let failed = failed(trial);
        (Reverse(trial.checks.len() - failed), failed, trial.rule)
    });
    trials.into_iter().filter_map(|trial| report(context, trial, peer)).take(SHOWN).collect()
}

/// The prefix that the datapath knows the peer of the refusing direction by, if its identity is one's: the oracle knows it as the world.
pub(super) fn peer(context: &Context<'_>, trace: &Trace, legs: &[Seen]) -> Option<String> {
    let leg = seen::refusing(legs)?;
    let asked = trace.hops.get(leg.hop)?.events.iter().rev().find_map(|said| match said.event {
        Event::Policy { direction, peer, .. } if direction == leg.decided.direction => Some(peer),
        _ => None,
    })?;
    let class = context.tables.identities.get(&asked);
    matches!(class, Some(IdentityClass::Cidr(_) | IdentityClass::Fqdn { .. }))
        .then(|| context.meaning(asked))
}

fn report(context: &Context<'_>, trial: &Trial, peer: Option<&str>) -> Option<Nearest> {
    Some(Nearest {
        rule: context.policies.rule_handle(trial.rule),
        conditions: trial.checks.iter().map(|check| condition(context, check, peer)).collect(),
        location: context.rule_location(trial.rule)?,
    })
}

fn condition(context: &Context<'_>, check: &Check, peer: Option<&str>) -> Condition {
    let mismatch = check.mismatch.as_ref();
    let peer = peer.filter(|_| matches!(check.name, "from" | "to"));
    let known = |is: &str| peer.map_or_else(|| is.to_owned(), |peer| format!("{is}, in {peer}"));
    Condition {
        name: check.name.to_owned(),
        ok: mismatch.is_none(),
        wants: mismatch.map(|m| m.wants.clone()),
        is: mismatch.map(|m| known(&m.is)),
        location: mismatch.map(|m| context.location(m.span)),
    }
}
