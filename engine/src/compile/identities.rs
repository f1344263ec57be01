//! Allotment of identities: which pods are one class, and which number stands for a class or a prefix.
//! Numbers follow the sorted classes, so file order never matters. Whom a rule means is `peers`'.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;

use super::limits;
use super::ports::Named;
use crate::diag::Diagnostic;
use crate::identity::Identity;
use crate::net::{Direction, Protocol};
use crate::policy::{PeerKind, PolicySet, PortKind, RuleId};
use crate::tables::IdentityClass;
use crate::topology::{Labels, Pod, PodId, World};

/// Pods that no policy can tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) namespace: String,
    pub(super) labels: Labels,
    /// The named ports that egress rules ask its pods for.
    pub(super) ports: Vec<Named>,
    /// What tells it from other classes of equal labels, in words.
    variant: String,
    pub(super) identity: Identity,
    /// One of its pods.
    member: PodId,
}

/// Who has which number.
#[derive(Debug)]
pub(super) struct Identities {
    /// By namespace, labels and variant.
    pub(super) classes: Vec<Class>,
    /// Index of each pod's class; `None` on the host network.
    class_of: Vec<Option<u32>>,
    /// The prefixes that rules name, each with its number. A prefix of length 0 is the world itself.
    pub(super) cidrs: BTreeMap<IpNet, Cidr>,
    /// Everything outside, by family: IPv4, IPv6.
    worlds: [Identity; 2],
    /// Which families the cluster has: IPv4, IPv6. The world is only of these.
    families: [bool; 2],
}

/// A prefix that rules name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    pub(super) identity: Identity,
    /// The rules, in deciding order.
    pub(super) rules: Vec<RuleId>,
    /// Of an address: its names that rules ask for, and by which names or patterns.
    names: Names,
}

/// Names, and what of policies matches them.
type Names = BTreeSet<(String, String)>;

impl Cidr {
    /// What the number of the prefix stands for.
    fn class(&self, net: IpNet) -> IdentityClass {
        if self.names.is_empty() {
            return IdentityClass::Cidr(net);
        }
        let of = |pick: fn(&(String, String)) -> &String| {
            let all: BTreeSet<&String> = self.names.iter().map(pick).collect();
            all.into_iter().cloned().collect()
        };
        IdentityClass::Fqdn { net, names: of(|(name, _)| name), selectors: of(|(_, by)| by) }
    }
}

impl Identities {
    /// Sorts pods into classes and prefixes into a list, and numbers both.
    pub(super) fn allot(
        world: &World,
        policies: &PolicySet,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let asked = Asked::by_egress(policies);
        let (mut classes, class_of) = classes(world, &asked);
        number_classes(world, &mut classes, diagnostics);
        let cidrs = number_prefixes(world, policies, diagnostics);
        let dual = world.is_dual_stack();
        let worlds = if dual {
            [Identity::WORLD_IPV4, Identity::WORLD_IPV6]
        } else {
            [Identity::WORLD, Identity::WORLD]
        };
        Self { classes, class_of, cidrs, worlds, families: families(world, dual) }
    }

    /// Whether the world has an identity for each family.
    pub(super) fn splits_world(&self) -> bool {
        self.worlds != [Identity::WORLD; 2]
    }

    /// The index of a pod's class; `None` for a pod on the host network.
    pub(super) fn class_of(&self, pod: PodId) -> Option<u32> {
        self.class_of.get(pod.index()).copied().flatten()
    }

    /// A pod's identity: on the host network its node's, which is a question of where one stands.
    pub(super) fn of_pod(&self, pod: PodId) -> Option<Identity> {
        let class = self.classes.get(self.class_of(pod)? as usize)?;
        Some(class.identity)
    }

    /// The identity of unnamed outside addresses of a family.
    pub(super) fn world(&self, is_ipv6: bool) -> Identity {
        self.worlds[usize::from(is_ipv6)]
    }

    /// The same where pods can be asked for addresses of that family at all. In a cluster of one family its
    /// one world must not stand for the other family too.
    pub(super) fn reachable_world(&self, is_ipv6: bool) -> Option<Identity> {
        self.families[usize::from(is_ipv6)].then(|| self.world(is_ipv6))
    }

    /// What each number stands for.
    pub(super) fn names(&self) -> BTreeMap<Identity, IdentityClass> {
        let reserved = [
            Identity::HOST,
            Identity::UNMANAGED,
            Identity::HEALTH,
            Identity::INIT,
            Identity::REMOTE_NODE,
            Identity::KUBE_APISERVER,
            Identity::INGRESS,
        ];
        let reserved = reserved.into_iter().chain(self.worlds);
        let pods = self.classes.iter().map(|class| {
            let (namespace, labels) = (class.namespace.clone(), class.labels.clone());
            let variant = class.variant.clone();
            (class.identity, IdentityClass::Pods { namespace, labels, variant })
        });
        let cidrs = self.cidrs.iter();
        let cidrs = cidrs.map(|(prefix, cidr)| (cidr.identity, cidr.class(*prefix)));
        reserved.map(|id| (id, IdentityClass::Reserved)).chain(pods).chain(cidrs).collect()
    }
}

/// Families that pods can talk: of a cluster without pods and prefixes none, and it does not matter.
fn families(world: &World, dual: bool) -> [bool; 2] {
    if dual {
        return [true, true];
    }
    let own = world.pods.iter().filter(|p| !p.host_network).flat_map(|p| &p.addresses);
    let has_ipv6 = own.copied().any(|a| a.is_ipv6())
        || world.nodes.iter().flat_map(|n| &n.pod_cidrs).any(|p| p.addr().is_ipv6());
    [!has_ipv6, has_ipv6]
}

/// The port names that rules ask destinations for.
struct Asked<'p>(HashMap<&'p str, Vec<Option<Protocol>>>);

impl<'p> Asked<'p> {
    /// Only senders' rules ask for a peer's port: on ingress the destination is the endpoint itself.
    fn by_egress(policies: &'p PolicySet) -> Self {
        let mut asked: HashMap<&str, Vec<Option<Protocol>>> = HashMap::new();
        let rules = policies.iter().flat_map(|(_, p)| &p.rules);
        for rule in rules.filter(|r| r.direction == Direction::Egress) {
            for spec in rule.ports.iter().flatten() {
                if let PortKind::Named { name, protocol } = &spec.kind {
                    asked.entry(name).or_default().push(*protocol);
                }
            }
        }
        Self(asked)
    }

    /// A pod's answer.
    fn of(&self, pod: &Pod) -> Vec<Named> {
        let mut answer: Vec<Named> = pod
            .ports
            .iter()
            .filter(|port| {
                let asked = self.0.get(port.name.as_str()).into_iter().flatten();
                asked.into_iter().any(|protocol| protocol.is_none_or(|p| p == port.protocol))
            })
            .map(|port| (port.name.clone(), port.protocol, port.port))
            .collect();
        answer.sort_unstable();
        answer.dedup();
        answer
    }
}

/// Pods of equal labels by the named ports that rules ask for.
type Variants = BTreeMap<Vec<Named>, Vec<PodId>>;

/// Pods by what policies can tell apart, and the class of each pod.
fn classes(world: &World, asked: &Asked<'_>) -> (Vec<Class>, Vec<Option<u32>>) {
    let mut alike: BTreeMap<(&str, &Labels), Variants> = BTreeMap::new();
    for (id, pod) in world.pods().filter(|(_, p)| !p.host_network) {
        let variants = alike.entry((&pod.namespace, &pod.labels)).or_default();
        variants.entry(asked.of(pod)).or_default().push(id);
    }
    let mut classes = Vec::new();
    let mut class_of = vec![None; world.pods.len()];
    for ((namespace, labels), variants) in alike {
        let words = variant_words(&variants.keys().collect::<Vec<_>>());
        for ((ports, pods), variant) in variants.into_iter().zip(words) {
            let at = u32::try_from(classes.len()).unwrap_or(u32::MAX);
            let Some(member) = pods.first().copied() else { continue };
            for pod in &pods {
                class_of[pod.index()] = Some(at);
            }
            let (namespace, labels) = (namespace.to_owned(), labels.clone());
            let identity = Identity::ANY;
            classes.push(Class { namespace, labels, ports, variant, identity, member });
        }
    }
    (classes, class_of)
}

/// What tells the variants of a class apart, in words: `port http 8080/tcp, no port dns`. Empty where there is
/// only one.
fn variant_words(variants: &[&Vec<Named>]) -> Vec<String> {
    let names: BTreeSet<&str> =
        variants.iter().flat_map(|ports| ports.iter().map(|(name, ..)| name.as_str())).collect();
    let describe = |ports: &[Named], name: &str| {
        let own = ports.iter().filter(|(own, ..)| own == name);
        let own: Vec<String> =
            own.map(|(_, protocol, port)| format!("port {name} {port}/{protocol}")).collect();
        if own.is_empty() { format!("no port {name}") } else { own.join(", ") }
    };
    let mut words = vec![Vec::new(); variants.len()];
    for name in names {
        let said: Vec<String> = variants.iter().map(|ports| describe(ports, name)).collect();
        if said.windows(2).any(|pair| pair[0] != pair[1]) {
            words.iter_mut().zip(said).for_each(|(words, said)| words.push(said));
        }
    }
    words.into_iter().map(|words| words.join(", ")).collect()
}

/// Pinned numbers, then from the first one up what no pin holds.
fn number_classes(world: &World, classes: &mut [Class], diagnostics: &mut Vec<Diagnostic>) {
    let pinned: BTreeSet<u32> = world.pins.iter().map(|pin| pin.number).collect();
    let pins: HashMap<(&str, &Labels), u32> =
        world.pins.iter().rev().map(|p| ((p.namespace.as_str(), &p.labels), p.number)).collect();
    let mut free =
        (Identity::FIRST_CLUSTER..=Identity::LAST_CLUSTER).filter(|n| !pinned.contains(n));
    for class in classes {
        let pin = pins.get(&(class.namespace.as_str(), &class.labels));
        let pin = pin.filter(|_| class.variant.is_empty()).copied();
        let Some(number) = pin.or_else(|| free.next()) else {
            let pod = world.pod(class.member);
            diagnostics.push(limits::too_many_identities(pod.map(|p| p.span).unwrap_or_default()));
            return;
        };
        class.identity = Identity(number);
    }
}

/// A prefix with whose rules name it, and by which names.
type Naming = (Vec<RuleId>, Names);

/// The prefixes that a peer names, holes included; an address of a name by that name.
fn prefixes<'p>(world: &'p World, peer: &'p PeerKind) -> Vec<(IpNet, Option<(String, String)>)> {
    match peer {
        PeerKind::Cidr { net, except } => {
            std::iter::once(net).chain(except).map(|prefix| (prefix.trunc(), None)).collect()
        }
        PeerKind::Dns(pattern) => world
            .named(pattern)
            .map(|(fact, address)| {
                let name = (fact.name.as_str().to_owned(), pattern.as_str().to_owned());
                (IpNet::from(address), Some(name))
            })
            .collect(),
        PeerKind::Pods { .. } | PeerKind::Entity(_) | PeerKind::Service { .. } => Vec::new(),
    }
}

/// Every prefix that a rule names, and every known address of a name.
fn number_prefixes(
    world: &World,
    policies: &PolicySet,
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<IpNet, Cidr> {
    let mut known: BTreeMap<IpNet, Naming> = BTreeMap::new();
    for (policy, index, rule) in policies
        .iter()
        .flat_map(|(id, p)| (0..).zip(&p.rules).map(move |(index, rule)| (id, index, rule)))
    {
        let id = RuleId { policy, index };
        let peers = rule.peers.iter().flatten();
        for (prefix, name) in peers.flat_map(|peer| prefixes(world, &peer.kind)) {
            let (rules, names) = known.entry(prefix).or_default();
            if rules.last() != Some(&id) {
                rules.push(id);
            }
            names.extend(name);
        }
    }
    known.retain(|prefix, _| prefix.prefix_len() > 0);
    let mut cidrs = BTreeMap::new();
    let mut numbers = Identity::FIRST_CIDR..=Identity::LAST_CIDR;
    for (prefix, (rules, names)) in known {
        let Some(number) = numbers.next() else {
            let rule = rules.first().and_then(|id| policies.rule(*id));
            diagnostics
                .push(limits::too_many_prefixes(rule.map(|(_, r)| r.span).unwrap_or_default()));
            break;
        };
        cidrs.insert(prefix, Cidr { identity: Identity(number), rules, names });
    }
    cidrs
}
