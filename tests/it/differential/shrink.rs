//! Makes a scenario that shows something smaller, piece by piece, while it still shows it.

use engine::topology::{Cluster, TrafficPolicy, World};

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
    let mut concrete: Vec<Step> = Vec::new();
    scenario.told(&[], |_, step, sent| {
        if let (Step::Follow { number, .. }, Some((sent, _))) = (step, sent) {
            let (question, about) = (sent.question.clone(), sent.about.clone());
            concrete.push(Step::Send { number: *number, question, about });
        }
    });
    for step in &concrete {
        // A packet that followed another one, without it.
        with(&|s| {
            let same = |other: &&mut Step| other.number() == step.number();
            s.steps.iter_mut().filter(same).for_each(|other| *other = step.clone());
        });
    }
    for (at, policy) in scenario.policies.iter().enumerate() {
        for rule in 0..policy.rules.len() {
            with(&|s| drop(s.policies[at].rules.remove(rule)));
        }
    }
    for at in 0..scenario.world.pods.len() {
        with(&|s| drop(s.world.pods.remove(at)));
    }
    for at in 0..scenario.world.services.len() {
        with(&|s| drop(s.world.services.remove(at)));
    }
    settings(scenario, &mut with);
    conditions(scenario, &mut with);
    found
}

/// Takes one change of a scenario.
type With<'a> = dyn FnMut(&dyn Fn(&mut Scenario)) + 'a;

/// Settings as they are where nothing is written, and plainer services. What is so already makes no smaller scenario.
fn settings(scenario: &Scenario, with: &mut With<'_>) {
    let mut set = |changes: &dyn Fn(&mut World)| {
        let mut changed = scenario.world.clone();
        changes(&mut changed);
        if changed != scenario.world {
            with(&|s| s.world = changed.clone());
        }
    };
    let usual = Cluster::default;
    set(&|w| w.cluster = usual());
    set(&|w| w.cluster.encryption = None);
    set(&|w| w.cluster.prefilter.clear());
    set(&|w| w.cluster.host_firewall = false);
    set(&|w| w.cluster.native_cidrs.clear());
    set(&|w| w.cluster.masquerade = usual().masquerade);
    set(&|w| w.cluster.host_routing = usual().host_routing);
    set(&|w| w.cluster.balancing = usual().balancing);
    set(&|w| (w.cluster.routing, w.cluster.tunnel) = (usual().routing, usual().tunnel));
    for at in 0..scenario.world.nodes.len() {
        set(&|w| w.nodes[at].health.clear());
        set(&|w| w.nodes[at].locals.clear());
    }
    for at in 0..scenario.world.services.len() {
        set(&|w| w.services[at].affinity = None);
        set(&|w| w.services[at].balancing = None);
        set(&|w| w.services[at].external_ips.clear());
        set(&|w| w.services[at].load_balancer_ips.clear());
        set(&|w| w.services[at].source_ranges.clear());
        set(&|w| w.services[at].internal_traffic = TrafficPolicy::Cluster);
        set(&|w| w.services[at].external_traffic = TrafficPolicy::Cluster);
        for port in 0..scenario.world.services[at].ports.len() {
            set(&|w| {
                if w.services[at].ports.len() > 1 {
                    w.services[at].ports.remove(port);
                }
            });
            set(&|w| w.services[at].ports[port].node_port = None);
        }
    }
}

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
