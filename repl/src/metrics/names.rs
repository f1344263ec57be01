//! Names for what runs tell by number and address: nodes, workloads, policies and rules.

use std::collections::HashMap;
use std::net::IpAddr;

use engine::identity::Identity;
use engine::net::Direction;
use engine::policy::PolicySet;
use engine::tables::{EndpointId, EntryId, Origin, Provenance, Tables};
use engine::topology::{NodeId, World};
use engine::verdict::Implied;

/// Letters and digits of which Kubernetes makes the random ends of names.
const RANDOM: &str = "bcdfghjklmnpqrstvwxz2456789";

/// One side of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Who {
    /// Empty for what is no pod.
    pub(super) namespace: String,
    /// Of what is no pod the identity's name.
    pub(super) workload: String,
}

impl Who {
    /// Somebody who is no pod.
    pub(super) fn reserved(name: &str) -> Self {
        Self { namespace: String::new(), workload: name.to_owned() }
    }
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decider {
    /// Empty where no rule did.
    pub(super) policy: String,
    /// The rule's name in it.
    pub(super) rule: String,
    /// What it is called where no rule did.
    pub(super) implied: Option<&'static str>,
}

/// The names of a world and of what its policies compile to. Made once for each generation.
#[derive(Clone, Debug, Default)]
pub struct Names {
    nodes: Vec<String>,
    pods: HashMap<IpAddr, (Who, NodeId)>,
    of_nodes: HashMap<IpAddr, NodeId>,
    provenance: Provenance,
    rules: HashMap<Origin, (String, String)>,
}

impl Names {
    /// Takes the names.
    pub fn of(world: &World, policies: &PolicySet, tables: &Tables) -> Self {
        let mut names = Self { provenance: tables.provenance.clone(), ..Self::default() };
        for (id, node) in world.nodes() {
            names.nodes.push(node.name.clone());
            names.of_nodes.extend(node.addresses.iter().map(|address| (*address, id)));
            names.of_nodes.extend(node.locals.iter().map(|address| (*address, id)));
        }
        for (_, pod) in world.pods().filter(|(_, pod)| !pod.host_network) {
            let who =
                Who { namespace: pod.namespace.clone(), workload: workload(&pod.name).to_owned() };
            names.pods.extend(pod.addresses.iter().map(|at| (*at, (who.clone(), pod.node))));
        }
        for (id, policy) in policies.iter() {
            for index in 0..policy.rules.len() {
                let rule = engine::policy::RuleId { policy: id, index: index_of(index) };
                let handle = policies.rule_handle(rule);
                let (policy, name) = handle.split_once('#').unwrap_or((&handle, ""));
                let name = (policy.to_owned(), name.to_owned());
                names.rules.insert(Origin::Rule(rule), name);
            }
        }
        names
    }

    /// A node's name.
    pub fn node(&self, node: NodeId) -> &str {
        self.nodes.get(node.index()).map_or("", String::as_str)
    }

    /// Whether the address is that of a pod of the node.
    pub(super) fn is_pod_of(&self, node: NodeId, address: IpAddr) -> bool {
        self.pods.get(&address).is_some_and(|(_, at)| *at == node)
    }

    /// Who has an address; the identity that a program found tells of those that are no pods.
    pub(super) fn who(&self, node: NodeId, address: IpAddr, identity: Option<Identity>) -> Who {
        if let Some((who, _)) = self.pods.get(&address) {
            return who.clone();
        }
        if let Some(of) = self.of_nodes.get(&address) {
            return Who::reserved(if *of == node { "host" } else { "remote-node" });
        }
        match identity {
            Some(identity) if identity.is_world() => Who::reserved("world"),
            Some(identity) => Who::reserved(identity.reserved_name().unwrap_or("unmanaged")),
            None => Who::reserved("unknown"),
        }
    }

    /// Who decided about an endpoint by an entry: the first of those that stand behind it.
    pub(super) fn decider(
        &self,
        node: NodeId,
        endpoint: EndpointId,
        direction: Direction,
        entry: EntryId,
    ) -> Decider {
        let origin = self.provenance.origins(node, endpoint, direction, entry).first();
        let nobody = |implied| Decider { policy: String::new(), rule: String::new(), implied };
        match origin {
            Some(Origin::Implied(implied)) => nobody(Some(implied.name())),
            Some(rule) => match self.rules.get(rule) {
                Some((policy, rule)) => {
                    Decider { policy: policy.clone(), rule: rule.clone(), implied: None }
                }
                None => nobody(None),
            },
            None => nobody(Some(Implied::DefaultDeny.name())),
        }
    }
}

fn index_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// The workload that a pod's name tells of: without the ends that Kubernetes gives to pods of deployments (`echo-6698bd45b-x2z4v`),
/// daemon sets (`echo-x2z4v`) and stateful sets (`echo-0`). So the number of series does not grow with every restart.
pub fn workload(pod: &str) -> &str {
    let is_random = |end: &str| !end.is_empty() && end.chars().all(|c| RANDOM.contains(c));
    let Some((rest, end)) = pod.rsplit_once('-').filter(|(rest, _)| !rest.is_empty()) else {
        return pod;
    };
    if !end.is_empty() && end.len() < 5 && end.bytes().all(|b| b.is_ascii_digit()) {
        return rest;
    }
    // A word of five consonants is rare; digits are in nearly all such ends.
    if end.len() != 5 || !is_random(end) {
        return pod;
    }
    match rest.rsplit_once('-') {
        Some((deployment, hash))
            if !deployment.is_empty() && (6..=10).contains(&hash.len()) && is_random(hash) =>
        {
            deployment
        }
        _ => rest,
    }
}
