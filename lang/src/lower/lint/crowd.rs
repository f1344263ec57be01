//! Pods, addresses and port names of a world by what lints ask for, so that a question looks at few of them
//! however many policies and pods there are. Says nothing itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use engine::net::Protocol;
use engine::policy::{Namespaces, Operator, Policy, Requirement, Selector};
use engine::topology::{Labels, Pod, World};
use ipnet::IpNet;

/// The namespaces that a selector of pods looks into.
pub(super) enum Spaces<'w> {
    One(&'w str),
    Some(BTreeSet<&'w str>),
    All,
}

impl<'w> Spaces<'w> {
    pub(super) fn of(world: &'w World, policy: &'w Policy, meant: &'w Namespaces) -> Self {
        match (meant, &policy.namespace) {
            (Namespaces::Own, Some(own)) => Self::One(own),
            (Namespaces::Named(name), _) => Self::One(name),
            (Namespaces::Matching(wanted), _) => {
                let matching = world.namespaces.iter().filter(|n| wanted.matches(&n.labels));
                Self::Some(matching.map(|n| n.name.as_str()).collect())
            }
            (Namespaces::Own, None) | (Namespaces::Any, _) => Self::All,
        }
    }

    fn hold(&self, namespace: &str) -> bool {
        match self {
            Self::One(one) => *one == namespace,
            Self::Some(several) => several.contains(namespace),
            Self::All => true,
        }
    }
}

/// Pods by a label's key and value.
type ByLabel<'w> = HashMap<&'w str, HashMap<&'w str, Vec<&'w Pod>>>;

/// Pods, of those with equal labels in one namespace the first.
#[derive(Default)]
pub(super) struct Crowd<'w> {
    classes: BTreeMap<&'w str, BTreeMap<&'w Labels, &'w Pod>>,
    everywhere: ByLabel<'w>,
    /// The same for each namespace.
    at_home: HashMap<&'w str, ByLabel<'w>>,
}

impl<'w> Crowd<'w> {
    pub(super) fn of(pods: impl Iterator<Item = &'w Pod>) -> Self {
        let mut crowd = Self::default();
        for pod in pods {
            let classes = crowd.classes.entry(&pod.namespace).or_default();
            if classes.contains_key(&pod.labels) {
                continue;
            }
            classes.insert(&pod.labels, pod);
            let at_home = crowd.at_home.entry(&pod.namespace).or_default();
            for (key, value) in &pod.labels {
                for by_label in [&mut crowd.everywhere, &mut *at_home] {
                    by_label.entry(key).or_default().entry(value).or_default().push(pod);
                }
            }
        }
        crowd
    }

    /// The pod of a namespace that has exactly these labels.
    pub(super) fn exactly(&self, namespace: &str, labels: &Labels) -> Option<&'w Pod> {
        self.classes.get(namespace)?.get(labels).copied()
    }

    /// A pod of a namespace that has these labels among its own.
    pub(super) fn with(&self, namespace: &str, labels: &Labels) -> Option<&'w Pod> {
        let spaces = Spaces::One(namespace);
        let lists = labels.iter().map(|(key, value)| self.having(key, value, &spaces));
        let has = |pod: &&Pod| labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
        match lists.min_by_key(|pods| pods.len()) {
            Some(pods) => pods.iter().copied().find(has),
            None => self.pods(&spaces).next(),
        }
    }

    /// A pod that a selector chooses.
    pub(super) fn find(&self, selector: &Selector, spaces: &Spaces<'_>) -> Option<&'w Pod> {
        let matches = |pod: &&Pod| selector.matches(&pod.labels);
        let equal = selector.requirements.iter().filter_map(|requirement| {
            let Operator::Equals(value) = &requirement.operator else { return None };
            Some(self.having(&requirement.key, value, spaces))
        });
        match equal.min_by_key(|pods| pods.len()) {
            Some(pods) => {
                let inside = |pod: &&Pod| spaces.hold(&pod.namespace);
                pods.iter().copied().filter(inside).find(matches)
            }
            None => self.pods(spaces).find(matches),
        }
    }

    /// Whether a pod meets a condition.
    pub(super) fn meets(&self, requirement: &Requirement, spaces: &Spaces<'_>) -> bool {
        let alone = Selector { requirements: vec![requirement.clone()] };
        self.find(&alone, spaces).is_some()
    }

    /// The pods with a label in the namespaces, and perhaps in others.
    fn having(&self, key: &str, value: &str, spaces: &Spaces<'_>) -> &[&'w Pod] {
        let by_label = match spaces {
            Spaces::One(one) => self.at_home.get::<str>(one),
            Spaces::Some(_) | Spaces::All => Some(&self.everywhere),
        };
        let found = by_label.and_then(|by| by.get(key)?.get(value));
        found.map_or(&[], Vec::as_slice)
    }

    /// One pod of each class in the namespaces.
    pub(super) fn pods<'s>(&'s self, spaces: &'s Spaces<'_>) -> impl Iterator<Item = &'w Pod> + 's {
        let (one, several) = match spaces {
            Spaces::One(one) => (self.classes.get::<str>(one), None),
            Spaces::Some(_) | Spaces::All => (None, Some(self.classes.iter())),
        };
        let inside = several.into_iter().flatten().filter(|(name, _)| spaces.hold(name));
        let classes = one.into_iter().chain(inside.map(|(_, classes)| classes));
        classes.flat_map(|classes| classes.values().copied())
    }
}

/// Who has an address: pods come before nodes, each in the order of the world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Pod(usize),
    Node(usize),
    Service(usize),
}

/// Addresses of a world.
pub(super) struct Addresses {
    inside: BTreeMap<IpAddr, BTreeSet<Owner>>,
    outside: BTreeSet<IpAddr>,
}

impl Addresses {
    pub(super) fn of(world: &World) -> Self {
        let mut inside: BTreeMap<IpAddr, BTreeSet<Owner>> = BTreeMap::new();
        for (at, pod) in world.pods.iter().enumerate().filter(|(_, pod)| !pod.host_network) {
            for address in &pod.addresses {
                inside.entry(*address).or_default().insert(Owner::Pod(at));
            }
        }
        for (at, node) in world.nodes.iter().enumerate() {
            for address in node.addresses.iter().chain(&node.locals) {
                inside.entry(*address).or_default().insert(Owner::Node(at));
            }
        }
        for (at, service) in world.services.iter().enumerate() {
            for address in service.addresses() {
                inside.entry(address).or_default().insert(Owner::Service(at));
            }
        }
        let outside = world.externals.iter().flat_map(|e| &e.addresses).copied().collect();
        Self { inside, outside }
    }

    /// Whether an outside party has an address in the prefix and in none of its holes.
    pub(super) fn outside(&self, net: IpNet, except: &[IpNet]) -> bool {
        self.outside.range(net.network()..=net.broadcast()).any(|a| !is_in(except, a))
    }

    /// The pods, nodes and services that have one.
    pub(super) fn inside(&self, net: IpNet, except: &[IpNet]) -> BTreeSet<Owner> {
        let inside = self.inside.range(net.network()..=net.broadcast());
        inside.filter(|(a, _)| !is_in(except, a)).flat_map(|(_, o)| o).copied().collect()
    }
}

fn is_in(holes: &[IpNet], address: &IpAddr) -> bool {
    holes.iter().any(|hole| hole.contains(address))
}

/// The protocols that pods give a port's name to, the first pod's first.
pub(super) fn port_names(world: &World) -> BTreeMap<&str, Vec<Protocol>> {
    let mut names: BTreeMap<&str, Vec<Protocol>> = BTreeMap::new();
    for port in world.pods.iter().flat_map(|pod| &pod.ports) {
        let protocols = names.entry(&port.name).or_default();
        if !protocols.contains(&port.protocol) {
            protocols.push(port.protocol);
        }
    }
    names
}
