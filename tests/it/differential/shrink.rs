//! Makes a scenario that shows something smaller, piece by piece, while it still shows it.

use super::{Scenario, Step};

/// The smallest scenario that greedy removal finds: no further step, policy, rule, condition or pod can be
/// left out without losing what `shows` looks for.
pub(super) fn shrink(scenario: &Scenario, shows: &mut dyn FnMut(&Scenario) -> bool) -> Scenario {
    let mut smallest = scenario.clone();
    loop {
        let Some(smaller) = smaller(&smallest).into_iter().find(|s| shows(s)) else {
            return smallest;
        };
        smallest = smaller;
    }
}

/// Every scenario that lacks one piece, large pieces first.
fn smaller(scenario: &Scenario) -> Vec<Scenario> {
    let mut found = Vec::new();
    let mut with = |change: &dyn Fn(&mut Scenario)| {
        let mut changed = scenario.clone();
        change(&mut changed);
        found.push(changed);
    };
    for at in 0..scenario.policies.len() {
        with(&|s| {
            let gone = s.policies.remove(at).handle;
            s.steps.retain(|step| !matches!(step, Step::Remove(handle) if *handle == gone));
        });
    }
    for at in (0..scenario.steps.len()).rev() {
        with(&|s| drop(s.steps.remove(at)));
    }
    for (at, policy) in scenario.policies.iter().enumerate() {
        for rule in 0..policy.rules.len() {
            with(&|s| drop(s.policies[at].rules.remove(rule)));
        }
    }
    for at in 0..scenario.world.pods.len() {
        with(&|s| drop(s.world.pods.remove(at)));
    }
    conditions(scenario, &mut with);
    found
}

/// Takes one change of a scenario.
type With<'a> = dyn FnMut(&dyn Fn(&mut Scenario)) + 'a;

/// Alternatives of rules and requirements of selectors; the last alternative stays, since none would mean
/// something else.
fn conditions(scenario: &Scenario, with: &mut With<'_>) {
    for (at, policy) in scenario.policies.iter().enumerate() {
        for requirement in 0..policy.subject.requirements.len() {
            with(&|s| drop(s.policies[at].subject.requirements.remove(requirement)));
        }
        for (number, rule) in policy.rules.iter().enumerate() {
            let several = |count: usize| if count > 1 { count } else { 0 };
            for peer in 0..several(rule.peers.as_ref().map_or(0, Vec::len)) {
                with(&|s| {
                    let peers = &mut s.policies[at].rules[number].peers;
                    drop(peers.as_mut().map(|list| list.remove(peer)));
                });
            }
            for port in 0..several(rule.ports.as_ref().map_or(0, Vec::len)) {
                with(&|s| {
                    let ports = &mut s.policies[at].rules[number].ports;
                    drop(ports.as_mut().map(|list| list.remove(port)));
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;
    use engine::reason::DropReason;

    /// What is looked for here: some packet is denied by a rule.
    fn denies(scenario: &Scenario) -> bool {
        scenario.judgements().iter().any(|j| j.reason == Some(DropReason::PolicyDeny))
    }

    #[test]
    fn what_is_left_is_what_it_takes() {
        let mut shrunk = 0;
        for seed in 0..200 {
            let scenario = Random::new(seed).scenario();
            if !denies(&scenario) {
                continue;
            }
            let small = shrink(&scenario, &mut denies);
            assert_eq!((small.policies.len(), small.steps.len()), (1, 1), "{small:#?}");
            assert_eq!(small.policies[0].rules.len(), 1);
            assert!(small.world.pods.len() <= 2);
            shrunk += 1;
        }
        assert!(shrunk > 5, "only {shrunk} scenarios had a deny");
    }
}
