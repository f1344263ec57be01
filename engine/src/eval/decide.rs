//! One direction of one endpoint decided by all policies: which select it, which isolate it, which rules
//! match, and what follows. Never flows and never the path.

use crate::net::{Direction, Protocol, icmp};
use crate::policy::{Action, Policy, PolicyId, PolicySet, RuleId};
use crate::topology::{Endpoint, Pod, World};
use crate::verdict::{Implied, LegOutcome, Origin};

use super::headers::Traffic;
use super::peers::Who;
use super::{Check, Trial, peers, ports};

/// One direction of an endpoint, and what is to pass there.
pub(super) struct Matter<'a> {
    pub(super) world: &'a World,
    pub(super) policies: &'a PolicySet,
    pub(super) endpoint: Endpoint,
    pub(super) direction: Direction,
    pub(super) peer: Who,
    pub(super) traffic: &'a Traffic,
}

/// What policy says.
pub(super) struct Decision {
    pub(super) outcome: LegOutcome,
    pub(super) matching: Vec<Origin>,
    pub(super) trials: Vec<Trial>,
}

impl Matter<'_> {
    /// The policies that isolate the endpoint in this direction.
    pub(super) fn isolated_by(&self) -> Vec<PolicyId> {
        let selecting = self.policies.iter();
        let selecting = selecting
            .filter(|(_, policy)| policy.isolates(self.direction) && self.is_selected_by(policy));
        selecting.map(|(id, _)| id).collect()
    }

    fn is_selected_by(&self, policy: &Policy) -> bool {
        peers::is_subject(self.world, policy, self.endpoint)
    }

    /// A deny that matches beats every allow. Otherwise any allow that matches lets the traffic pass, and where
    /// nothing isolates, everything passes.
    pub(super) fn decide(&self, isolated: bool) -> Decision {
        if self.is_fragmentation_needed() {
            let (outcome, matching, trials) = (LegOutcome::Allow, Vec::new(), Vec::new());
            return Decision { outcome, matching, trials };
        }
        let trials = self.trials();
        let (outcome, matching) = self.weigh(&trials, isolated);
        Decision { outcome, matching, trials }
    }

    fn weigh(&self, trials: &[Trial], isolated: bool) -> (LegOutcome, Vec<Origin>) {
        let of = |action| -> Vec<Origin> {
            let matching = trials.iter().filter(|trial| trial.action == action && trial.matches());
            matching.map(|trial| Origin::Rule(trial.rule)).collect()
        };
        let denies = of(Action::Deny);
        if !denies.is_empty() {
            return (LegOutcome::Deny, denies);
        }
        let mut allows = of(Action::Allow);
        let by_rule = !allows.is_empty();
        let is_node = matches!(self.endpoint, Endpoint::Host(_));
        let local = self.direction == Direction::Ingress && self.peer == Who::Host && !is_node;
        allows.extend(local.then_some(Origin::Implied(Implied::LocalHost)));
        if !isolated {
            allows.push(Origin::Implied(Implied::NotIsolated));
            let outcome = if by_rule { LegOutcome::Allow } else { LegOutcome::NotIsolated };
            return (outcome, allows);
        }
        if allows.is_empty() {
            return (LegOutcome::DefaultDeny, vec![Origin::Implied(Implied::DefaultDeny)]);
        }
        (LegOutcome::Allow, allows)
    }

    /// Path-MTU discovery over IPv4 works whatever the policies say; IPv6 has no such exception.
    fn is_fragmentation_needed(&self) -> bool {
        let needed = (icmp::UNREACHABLE, icmp::CODE_FRAGMENTATION_NEEDED);
        self.traffic.protocol == Protocol::Icmp && self.traffic.icmp == Some(needed)
    }

    /// The rules of this direction whose policy selects the endpoint, by policy and source order.
    fn trials(&self) -> Vec<Trial> {
        let mut trials = Vec::new();
        for (id, policy) in self.policies.iter() {
            if !self.is_selected_by(policy) {
                continue;
            }
            for (index, rule) in (0..).zip(&policy.rules) {
                if rule.direction != self.direction {
                    continue;
                }
                let about = rule.peers.as_ref().map(|list| {
                    let (world, peer) = (self.world, self.peer);
                    peers::check(world, policy, self.peer_word(), list, rule.span, peer)
                });
                let on = rule
                    .ports
                    .as_ref()
                    .map(|specs| ports::check(specs, rule.span, self.traffic, self.destination()));
                let checks: Vec<Check> = about.into_iter().chain(on).collect();
                let rule_id = RuleId { policy: id, index };
                trials.push(Trial { rule: rule_id, action: rule.action, checks });
            }
        }
        trials
    }

    fn peer_word(&self) -> &'static str {
        match self.direction {
            Direction::Egress => "to",
            Direction::Ingress => "from",
        }
    }

    /// The pod that the packet goes to: named ports are its names.
    fn destination(&self) -> Option<&Pod> {
        match (self.direction, self.peer) {
            (Direction::Ingress, _) => self.world.pod(self.endpoint.pod()?),
            (Direction::Egress, Who::Pod(id)) => self.world.pod(id),
            (Direction::Egress, _) => None,
        }
    }
}
