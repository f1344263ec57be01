//! Why a default deny came about, from the oracle's reasons: the policies that isolate the endpoint, and
//! the allow rules that came nearest.

use std::cmp::Reverse;

use crate::eval::{Check, Leg, Trial};
use crate::policy::Action;

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
pub(super) fn nearest(context: &Context<'_>, leg: &Leg) -> Vec<Nearest> {
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
    trials.into_iter().filter_map(|trial| report(context, trial)).take(SHOWN).collect()
}

fn report(context: &Context<'_>, trial: &Trial) -> Option<Nearest> {
    Some(Nearest {
        rule: context.policies.rule_handle(trial.rule),
        conditions: trial.checks.iter().map(|check| condition(context, check)).collect(),
        location: context.rule_location(trial.rule)?,
    })
}

fn condition(context: &Context<'_>, check: &Check) -> Condition {
    let mismatch = check.mismatch.as_ref();
    Condition {
        name: check.name.to_owned(),
        ok: mismatch.is_none(),
        wants: mismatch.map(|m| m.wants.clone()),
        is: mismatch.map(|m| m.is.clone()),
        location: mismatch.map(|m| context.location(m.span)),
    }
}
