//! Whom selectors and peers mean, as classes and identities. Finds classes by an index over their labels,
//! so that a selector looks at few of them. Never about ports.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;

use super::identities::Identities;
use crate::identity::Identity;
use crate::policy::{Entity, Namespaces, Operator, Peer, PeerKind, Policy, Selector};
use crate::topology::{Service, World};

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerSet {
    /// Anyone at all.
    Anyone,
    /// These, sorted.
    Some(Vec<Identity>),
}

/// A selector without its places in a text, so that equal ones are resolved once.
type SelectorKey = (Vec<(String, Operator)>, NamespaceKey);

#[derive(Clone, PartialEq, Eq, Hash)]
enum NamespaceKey {
    Any,
    Named(String),
    Matching(Vec<(String, Operator)>),
}

/// Finds classes and identities.
pub(super) struct Resolver<'w> {
    world: &'w World,
    identities: &'w Identities,
    /// Classes of a namespace: they are sorted by it.
    by_namespace: BTreeMap<&'w str, Range<u32>>,
    by_label: HashMap<(&'w str, &'w str), Vec<u32>>,
    by_key: HashMap<&'w str, Vec<u32>>,
    services: HashMap<(&'w str, &'w str), &'w Service>,
    known: HashMap<SelectorKey, Arc<[u32]>>,
}

impl<'w> Resolver<'w> {
    pub(super) fn new(world: &'w World, identities: &'w Identities) -> Self {
        let mut by_namespace: BTreeMap<&str, Range<u32>> = BTreeMap::new();
        let mut by_label: HashMap<(&str, &str), Vec<u32>> = HashMap::new();
        let mut by_key: HashMap<&str, Vec<u32>> = HashMap::new();
        for (at, class) in (0..).zip(&identities.classes) {
            by_namespace.entry(&class.namespace).or_insert(at..at).end = at + 1;
            for (key, value) in &class.labels {
                by_label.entry((key, value)).or_default().push(at);
                by_key.entry(key).or_default().push(at);
            }
        }
        let services = world.services.iter();
        let services = services.map(|s| ((s.namespace.as_str(), s.name.as_str()), s)).collect();
        let known = HashMap::new();
        Self { world, identities, by_namespace, by_label, by_key, services, known }
    }

    /// The classes that a selector chooses, sorted. `policy` is whose own namespace is meant.
    pub(super) fn classes(
        &mut self,
        policy: &Policy,
        selector: &Selector,
        namespaces: &Namespaces,
    ) -> Arc<[u32]> {
        let spaces = match (namespaces, &policy.namespace) {
            (Namespaces::Own, Some(own)) => NamespaceKey::Named(own.clone()),
            (Namespaces::Named(name), _) => NamespaceKey::Named(name.clone()),
            (Namespaces::Matching(wanted), _) => NamespaceKey::Matching(conditions(wanted)),
            (Namespaces::Own, None) | (Namespaces::Any, _) => NamespaceKey::Any,
        };
        let key = (conditions(selector), spaces);
        if let Some(found) = self.known.get(&key) {
            return Arc::clone(found);
        }
        let ranges = self.ranges(&key.1, namespaces);
        let found: Arc<[u32]> = self.search(selector, &ranges).into();
        self.known.insert(key, Arc::clone(&found));
        found
    }

    /// The classes of the namespaces meant.
    fn ranges(&self, spaces: &NamespaceKey, namespaces: &Namespaces) -> Vec<Range<u32>> {
        match (spaces, namespaces) {
            (NamespaceKey::Named(name), _) => {
                self.by_namespace.get(name.as_str()).cloned().into_iter().collect()
            }
            (NamespaceKey::Matching(_), Namespaces::Matching(wanted)) => {
                let matching = self.world.namespaces.iter().filter(|n| wanted.matches(&n.labels));
                let names: BTreeSet<&str> = matching.map(|n| n.name.as_str()).collect();
                names.into_iter().filter_map(|n| self.by_namespace.get(n).cloned()).collect()
            }
            _ => self.by_namespace.values().cloned().collect(),
        }
    }

    /// Holds the selector against the fewest classes that can match it.
    fn search(&self, selector: &Selector, ranges: &[Range<u32>]) -> Vec<u32> {
        let matches = |at: &u32| {
            let class = self.identities.classes.get(*at as usize);
            class.is_some_and(|class| selector.matches(&class.labels))
        };
        let in_ranges: usize = ranges.iter().map(ExactSizeIterator::len).sum();
        let fewest = selector.requirements.iter().filter_map(|r| self.with(&r.key, &r.operator));
        let fewest = fewest.min_by_key(Vec::len).filter(|found| found.len() < in_ranges);
        match fewest {
            Some(found) => {
                let inside = |at: &u32| ranges.iter().any(|range| range.contains(at));
                found.into_iter().filter(inside).filter(matches).collect()
            }
            None => ranges.iter().cloned().flatten().filter(matches).collect(),
        }
    }

    /// The classes that may meet a condition, sorted; `None` where the index does not help.
    fn with(&self, key: &str, operator: &Operator) -> Option<Vec<u32>> {
        let of = |value: &str| self.by_label.get(&(key, value)).cloned().unwrap_or_default();
        match operator {
            Operator::Equals(value) => Some(of(value)),
            Operator::In(values) => {
                let mut found: Vec<u32> = values.iter().flat_map(|value| of(value)).collect();
                found.sort_unstable();
                found.dedup();
                Some(found)
            }
            Operator::Exists => Some(self.by_key.get(key).cloned().unwrap_or_default()),
            Operator::NotEquals(_) | Operator::NotIn(_) | Operator::NotExists => None,
        }
    }

    /// Whom the peers of a rule mean together.
    pub(super) fn peers(&mut self, policy: &Policy, peers: Option<&[Peer]>) -> PeerSet {
        let Some(peers) = peers else { return PeerSet::Anyone };
        let mut found: Vec<Identity> = Vec::new();
        for peer in peers {
            match &peer.kind {
                PeerKind::Pods { selector, namespaces } => {
                    let classes = self.classes(policy, selector, namespaces);
                    let classes = classes.iter().filter_map(|at| self.identity(*at));
                    found.extend(classes);
                }
                PeerKind::Cidr { net, except } => found.extend(self.outside(*net, except)),
                PeerKind::Service { namespace, name } => {
                    found.extend(self.behind(policy, namespace, name));
                }
                PeerKind::Dns(pattern) => {
                    let addresses = self.world.named(pattern);
                    let cidrs = &self.identities.cidrs;
                    let known =
                        addresses.filter_map(|(_, address)| cidrs.get(&IpNet::from(address)));
                    found.extend(known.map(|cidr| cidr.identity));
                }
                PeerKind::Entity(Entity::All) => return PeerSet::Anyone,
                PeerKind::Entity(entity) => found.extend(self.members(*entity)),
            }
        }
        found.sort_unstable();
        found.dedup();
        PeerSet::Some(found)
    }

    /// The identities of the pods that a service selects, ready or not.
    fn behind(&mut self, policy: &Policy, namespace: &str, name: &str) -> Vec<Identity> {
        let Some(service) = self.services.get(&(namespace, name)).copied() else {
            return Vec::new();
        };
        let own = Namespaces::Named(service.namespace.clone());
        let classes = self.classes(policy, &service.selector, &own);
        classes.iter().filter_map(|at| self.identity(*at)).collect()
    }

    fn identity(&self, class: u32) -> Option<Identity> {
        self.identities.classes.get(class as usize).map(|class| class.identity)
    }

    /// Every identity of pods.
    fn pods(&self) -> impl Iterator<Item = Identity> {
        self.identities.classes.iter().map(|class| class.identity)
    }

    /// The identities of prefixes in a net and in none of its holes. The world is the prefix of length 0.
    /// An address counts by the longest prefix that any rule names, so a prefix is in the net as a whole or
    /// not at all: where it is wider, the net has a number of its own for what both cover.
    fn outside(&self, net: IpNet, except: &[IpNet]) -> Vec<Identity> {
        let net = net.trunc();
        let is_hole = |prefix: &IpNet| except.iter().any(|hole| hole.trunc().contains(prefix));
        let inside = self.identities.cidrs.range(net..);
        let inside = inside.take_while(|(prefix, _)| net.contains(*prefix));
        let inside = inside.filter(|(prefix, _)| !is_hole(prefix)).map(|(_, cidr)| cidr.identity);
        let whole = net.prefix_len() == 0 && !is_hole(&net);
        let world = self.identities.reachable_world(net.addr().is_ipv6()).filter(|_| whole);
        world.into_iter().chain(inside).collect()
    }

    /// The identities of an entity other than `all`.
    fn members(&self, entity: Entity) -> Vec<Identity> {
        let family = |is_ipv6: bool| {
            let cidrs = self.identities.cidrs.iter();
            let cidrs = cidrs.filter(move |(prefix, _)| prefix.addr().is_ipv6() == is_ipv6);
            let world = self.identities.reachable_world(is_ipv6);
            world.into_iter().chain(cidrs.map(|(_, cidr)| cidr.identity))
        };
        match entity {
            Entity::All | Entity::None => Vec::new(),
            // The label that these select is given only where the world is split by family.
            Entity::WorldIpv4 | Entity::WorldIpv6 if !self.identities.splits_world() => Vec::new(),
            Entity::World => family(false).chain(family(true)).collect(),
            Entity::WorldIpv4 => family(false).collect(),
            Entity::WorldIpv6 => family(true).collect(),
            Entity::Host => vec![Identity::HOST],
            Entity::RemoteNode => vec![Identity::REMOTE_NODE],
            Entity::KubeApiserver => vec![Identity::KUBE_APISERVER],
            Entity::Health => vec![Identity::HEALTH],
            Entity::Init => vec![Identity::INIT],
            Entity::Unmanaged => vec![Identity::UNMANAGED],
            Entity::Ingress => vec![Identity::INGRESS],
            Entity::Cluster => CLUSTER.into_iter().chain(self.pods()).collect(),
        }
    }
}

/// Everyone inside who is not a pod with a class of its own.
const CLUSTER: [Identity; 7] = [
    Identity::HOST,
    Identity::REMOTE_NODE,
    Identity::KUBE_APISERVER,
    Identity::HEALTH,
    Identity::INIT,
    Identity::UNMANAGED,
    Identity::INGRESS,
];

fn conditions(selector: &Selector) -> Vec<(String, Operator)> {
    selector.requirements.iter().map(|r| (r.key.clone(), r.operator.clone())).collect()
}
