//! Random scenarios from a seed: small worlds in which flows meet the edges of rules often. Everything in them but what happens
//! in the world itself can be written in the language. Owns the dice, the world's parties and the policies.

mod network;
mod packets;

use std::net::IpAddr;

use engine::dns::{DnsName, DnsPattern};
use engine::net::{Direction, PortRange, Protocol};
use engine::policy::{
    Action, Entity, Isolation, Namespaces, Operator, Peer, PeerKind, Policy, PortKind, PortSpec,
    Requirement, Rule, Selector, SubjectKind,
};
use engine::source::Span;
use engine::topology::{
    DnsFact, External, Labels, NamedPort, Namespace, Node, NodeId, Pod, Readiness, World,
};

use super::play::{Scenario, Step};

/// `SplitMix64`: small, and the same everywhere.
pub(super) struct Random {
    state: u64,
}

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const OUTSIDE: [&str; 7] = [
    "198.51.100.1",
    "198.51.100.70",
    "198.51.1.1",
    "203.0.113.9",
    "2001:db8::1",
    "2001:db8:1::1",
    "2001:db9::1",
];
const PREFIXES: [&str; 12] = [
    "0.0.0.0/0",
    "198.51.0.0/16",
    "198.51.100.0/24",
    "198.51.100.64/26",
    "198.51.100.70/32",
    "203.0.113.0/24",
    "10.0.0.0/8",
    "10.1.0.0/24",
    "::/0",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "fd00::/16",
];
const READINESS: [Readiness; 8] = [
    Readiness::Ready,
    Readiness::Ready,
    Readiness::Ready,
    Readiness::Ready,
    Readiness::Ready,
    Readiness::Ready,
    Readiness::NotReady,
    Readiness::Terminating,
];
const RANGES: [(u16, u16); 9] = [
    (80, 80),
    (8080, 8080),
    (53, 53),
    (79, 81),
    (64, 127),
    (100, 101),
    (1, 65535),
    (1, 1024),
    (65534, 65535),
];
const NAMES: [&str; 4] = ["x.org", "www.x.org", "api.x.org", "a.www.x.org"];
const PATTERNS: [&str; 7] =
    ["*", "*.x.org", "*.*.x.org", "www.x.org", "a*.x.org", "*.org", "none.x.org"];
const WAITS: [u64; 6] = [5, 30, 59, 60, 61, 8000];

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(1) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("a length fits");
        usize::try_from(self.next() % limit).expect("less than a length")
    }

    /// True once in `times`.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn one<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }

    pub(super) fn scenario(&mut self) -> Scenario {
        let world = self.world();
        let policies: Vec<Policy> = (0..self.below(6)).map(|at| self.policy(&world, at)).collect();
        let mut steps: Vec<Step> = Vec::new();
        let mut goes = self.once_in(3);
        for number in 0..6 + self.below(12) {
            if self.once_in(10) {
                steps.push(Step::Wait(*self.one(&WAITS)));
            }
            if self.once_in(20) && !policies.is_empty() {
                steps.push(Step::Remove(self.one(&policies).handle.clone()));
            }
            if goes && number > 2 && self.once_in(3) {
                goes = self.once_in(2);
                steps.extend(self.going(&world, &policies));
            }
            steps.extend(self.send(&world, &steps, number));
        }
        let mut removed = Vec::new();
        steps.retain(|step| match step {
            Step::Remove(handle) | Step::Gone(handle) if removed.contains(handle) => false,
            Step::Remove(handle) | Step::Gone(handle) => {
                removed.push(handle.clone());
                true
            }
            Step::Wait(_) | Step::Ready(..) | Step::Send { .. } | Step::Follow { .. } => true,
        });
        Scenario { world, policies, steps }
    }
}

/// The world.
impl Random {
    fn world(&mut self) -> World {
        let families = *self.one(&[[true, true], [true, true], [true, false], [false, true]]);
        let node_count = 1 + self.below(3);
        let mut world = World {
            nodes: (1..=node_count).map(|number| self.node(number, families)).collect(),
            namespaces: NAMESPACES.map(|name| self.namespace(name)).to_vec(),
            ..World::default()
        };
        for at in 0..2 + self.below(6) {
            let pod = self.pod(at, &world.nodes, families);
            world.pods.push(pod);
        }
        world.cluster = self.cluster(families);
        if self.once_in(3) {
            world.nodes.iter_mut().for_each(|node| node.health = health(node));
        }
        if !self.once_in(4) {
            world.services = (0..=self.below(3)).map(|at| self.service(at, families)).collect();
            world
                .services
                .iter_mut()
                .for_each(|s| s.namespace.clone_from(&world.pods[0].namespace));
        }
        world.externals = self.externals(families);
        world
    }

    /// Some outside addresses are known by names.
    fn externals(&mut self, families: [bool; 2]) -> Vec<External> {
        let mut externals = Vec::new();
        for (at, address) in OUTSIDE.iter().map(|address| ip(address)).enumerate() {
            if self.once_in(2) || !families[usize::from(address.is_ipv6())] {
                continue;
            }
            let names = NAMES.into_iter().filter(|_| self.once_in(3));
            let names = names
                .map(|name| DnsFact { name: DnsName::parse(name).expect("a name"), ttl: None });
            let names = names.collect();
            externals.push(External {
                name: format!("e{at}"),
                addresses: vec![address],
                names,
                span: Span::default(),
            });
        }
        externals
    }

    fn node(&mut self, number: usize, families: [bool; 2]) -> Node {
        let of = |v4: String, v6: String| -> Vec<String> {
            let both = [v4, v6].into_iter().zip(families);
            both.filter(|(_, there)| *there).map(|(text, _)| text).collect()
        };
        let addresses = of(format!("192.168.1.{number}"), format!("fd00:a::{number}"));
        let prefixes = of(format!("10.{number}.0.0/24"), format!("fd00:{number}::/64"));
        let mut locals = of(format!("10.{number}.0.1"), format!("fd00:{number}::1"));
        if self.once_in(2) {
            locals.clear();
        } else if self.once_in(2) && families[0] {
            locals.push("10.96.0.1".to_owned());
        }
        Node {
            name: format!("node{number}"),
            addresses: addresses.iter().map(|a| ip(a)).collect(),
            pod_cidrs: prefixes.iter().map(|p| p.parse().expect("a prefix")).collect(),
            locals: locals.iter().map(|a| ip(a)).collect(),
            device: "eth0".to_owned(),
            mac: None,
            labels: self.labels(&[("role", &["x", "y"])]),
            health: Vec::new(),
            span: Span::default(),
        }
    }

    fn namespace(&mut self, name: &str) -> Namespace {
        let mut labels = self.labels(&[("team", &["x", "y"])]);
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
        Namespace { name: name.to_owned(), labels, span: Span::default() }
    }

    fn labels(&mut self, keys: &[(&str, &[&str])]) -> Labels {
        let mut labels = Labels::new();
        for (key, values) in keys {
            if !self.once_in(4) {
                labels.insert((*key).to_owned(), (*self.one(values)).to_owned());
            }
        }
        labels
    }

    fn pod(&mut self, at: usize, nodes: &[Node], families: [bool; 2]) -> Pod {
        let node = self.below(nodes.len());
        let host_network = self.once_in(8);
        let own =
            [format!("10.{}.0.{}", node + 1, at + 10), format!("fd00:{}::{}", node + 1, at + 10)];
        let own = own.iter().zip(families).filter(|(_, there)| *there).map(|(a, _)| ip(a));
        let addresses = if host_network { nodes[node].addresses.clone() } else { own.collect() };
        let named = [
            ("web", 80, Protocol::Tcp),
            ("web", 8080, Protocol::Tcp),
            ("dns", 53, Protocol::Udp),
            ("dns", 53, Protocol::Tcp),
        ];
        let mut ports: Vec<NamedPort> = Vec::new();
        for (name, port, protocol) in named {
            let taken = ports.iter().any(|p| p.name == name && p.protocol == protocol);
            if self.once_in(3) && !taken && !host_network {
                ports.push(NamedPort { name: name.to_owned(), port, protocol });
            }
        }
        Pod {
            namespace: (*self.one(&NAMESPACES)).to_owned(),
            name: format!("p{at}"),
            node: NodeId(u32::try_from(node).expect("few nodes")),
            addresses,
            labels: self.labels(&[("app", &["x", "y"]), ("tier", &["front", "back"])]),
            mac: None,
            host_mac: None,
            interface: None,
            ifindex: None,
            endpoint_id: None,
            host_network,
            readiness: *self.one(&READINESS),
            ports,
            span: Span::default(),
        }
    }
}

/// The policies.
impl Random {
    fn policy(&mut self, world: &World, at: usize) -> Policy {
        let mut policy = self.policy_of_pods(world, at);
        if policy.namespace.is_none() && world.cluster.host_firewall && !self.once_in(3) {
            policy.subject_kind = SubjectKind::Nodes;
            policy.subject = self.selector(&[("role", &["x", "y"])]);
            policy.subject_namespaces = Namespaces::Any;
        }
        policy
    }

    fn policy_of_pods(&mut self, world: &World, at: usize) -> Policy {
        let namespace = (!self.once_in(3)).then(|| (*self.one(&NAMESPACES)).to_owned());
        let handle = match &namespace {
            Some(namespace) => format!("{namespace}/q{at}"),
            None => format!("q{at}"),
        };
        let subject_namespaces = match namespace {
            Some(_) => Namespaces::Own,
            None => self.namespaces(true),
        };
        let always = |on| if on { Isolation::Always } else { Isolation::ByRules };
        let (egress, ingress) = match self.below(8) {
            0 => (Isolation::Never, Isolation::Never),
            1 => (always(true), always(false)),
            2 => (always(false), always(true)),
            _ => (always(false), always(false)),
        };
        Policy {
            handle,
            owner: None,
            because: None,
            subject_kind: SubjectKind::Pods,
            subject: self.selector(&[("app", &["x", "y"]), ("tier", &["front", "back"])]),
            subject_namespaces,
            egress,
            ingress,
            rules: (0..=self.below(4)).map(|n| self.rule(world, n, namespace.is_none())).collect(),
            namespace,
            span: Span::default(),
        }
    }

    fn namespaces(&mut self, clusterwide: bool) -> Namespaces {
        match self.below(5) {
            0 => Namespaces::Named((*self.one(&NAMESPACES)).to_owned()),
            1 => Namespaces::Matching(self.selector(&[("team", &["x", "y"])])),
            2 => Namespaces::Any,
            _ if clusterwide => Namespaces::Any,
            _ => Namespaces::Own,
        }
    }

    fn selector(&mut self, keys: &[(&str, &[&str])]) -> Selector {
        let mut requirements = Vec::new();
        for (key, values) in keys {
            let value = (*self.one(values)).to_owned();
            let operator = match self.below(12) {
                0..=2 => Operator::Equals(value),
                3 => Operator::NotEquals(value),
                4 => Operator::In(values.iter().map(|v| (*v).to_owned()).collect()),
                5 => Operator::NotIn(vec![value, "z".to_owned()]),
                6 => Operator::Exists,
                7 => Operator::NotExists,
                _ => continue,
            };
            requirements.push(Requirement {
                key: (*key).to_owned(),
                operator,
                span: Span::default(),
            });
        }
        Selector { requirements }
    }

    fn rule(&mut self, world: &World, at: usize, clusterwide: bool) -> Rule {
        let direction = *self.one(&[Direction::Ingress, Direction::Egress]);
        let action = if self.once_in(3) { Action::Deny } else { Action::Allow };
        let peers = match self.below(8) {
            0 | 1 => None,
            2 if self.once_in(4) => Some(Vec::new()),
            _ => {
                let may_name = direction == Direction::Egress && action == Action::Allow;
                let peers = 0..=self.below(3);
                Some(peers.map(|_| self.peer(world, clusterwide, may_name)).collect())
            }
        };
        let ports = match self.below(3) {
            0 => None,
            _ => Some((0..=self.below(3)).map(|_| self.port()).collect()),
        };
        Rule {
            name: format!("r{at}"),
            direction,
            action,
            peers,
            ports,
            owner: None,
            because: None,
            span: Span::default(),
        }
    }

    fn peer(&mut self, world: &World, clusterwide: bool, may_name: bool) -> Peer {
        let kind = match self.below(4) {
            _ if may_name && self.once_in(6) => {
                let pattern = *self.one(&PATTERNS);
                PeerKind::Dns(DnsPattern::parse(pattern).expect("a pattern"))
            }
            0 | 1 => PeerKind::Pods {
                selector: self.selector(&[("app", &["x", "y"]), ("tier", &["front", "back"])]),
                namespaces: self.namespaces(clusterwide),
            },
            2 => self.cidr(),
            _ if self.once_in(4) && !world.services.is_empty() => {
                let service = self.one(&world.services);
                let (namespace, name) = (service.namespace.clone(), service.name.clone());
                PeerKind::Service { namespace, name }
            }
            _ => PeerKind::Entity(self.one(&Entity::ALL).0),
        };
        Peer { kind, span: Span::default() }
    }

    fn cidr(&mut self) -> PeerKind {
        let all = PREFIXES.map(|p| p.parse::<ipnet::IpNet>().expect("a prefix"));
        let net = *self.one(&all);
        let inside = all.iter().filter(|p| net.contains(*p) && **p != net);
        let except = inside.filter(|_| self.once_in(4)).copied().collect();
        PeerKind::Cidr { net, except }
    }

    fn port(&mut self) -> PortSpec {
        let ported = [Some(Protocol::Tcp), Some(Protocol::Udp), Some(Protocol::Sctp), None];
        let kind = match self.below(8) {
            0..=3 => {
                let (first, last) = *self.one(&RANGES);
                let protocol = ported[self.below(10).min(3)];
                PortKind::Numbers { range: PortRange { first, last }, protocol }
            }
            4 => {
                let range = PortRange { first: 0, last: u16::MAX };
                PortKind::Numbers { range, protocol: ported[self.below(3)] }
            }
            5 => {
                let name = (*self.one(&["web", "dns"])).to_owned();
                let protocol = *self.one(&[None, Some(Protocol::Tcp), Some(Protocol::Udp)]);
                PortKind::Named { name, protocol }
            }
            6 => PortKind::Icmp {
                family: Protocol::Icmp,
                kind: *self.one(&[None, Some(8), Some(3), Some(13)]),
            },
            _ => PortKind::Icmp {
                family: Protocol::Icmpv6,
                kind: *self.one(&[None, Some(128), Some(1), Some(2)]),
            },
        };
        PortSpec { kind, span: Span::default() }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Addresses of a node's health endpoint, in its pod prefixes.
fn health(node: &Node) -> Vec<IpAddr> {
    let number = node.name.trim_start_matches("node");
    let all = [format!("10.{number}.0.250"), format!("fd00:{number}::250")].map(|a| ip(&a));
    let inside = |a: &IpAddr| node.pod_cidrs.iter().any(|prefix| prefix.contains(a));
    all.into_iter().filter(inside).collect()
}
