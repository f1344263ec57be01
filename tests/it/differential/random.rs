//! Random scenarios from a seed: small worlds in which flows meet the edges of rules often. Everything in them
//! can be written in the language.

use std::net::IpAddr;

use engine::net::Direction;
use engine::net::{
    Fragment, IpHeader, Packet, PortRange, Protocol, TcpFlags, Transport, extension,
};
use engine::policy::{
    Action, Entity, Isolation, Namespaces, Operator, Peer, PeerKind, Policy, PortKind, PortSpec,
    Requirement, Rule, Selector, SubjectKind,
};
use engine::question::{Question, error_about, reply};
use engine::source::Span;
use engine::topology::{Labels, NamedPort, Namespace, Node, NodeId, Party, Pod, Readiness, World};

use super::{Scenario, Step};

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
const PORTS: [u16; 10] = [80, 8080, 79, 82, 53, 100, 127, 1, 65535, 8472];
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
        let policies: Vec<Policy> = (0..self.below(6)).map(|at| self.policy(at)).collect();
        let mut steps: Vec<Step> = Vec::new();
        for _ in 0..6 + self.below(10) {
            if self.once_in(10) {
                steps.push(Step::Wait(*self.one(&WAITS)));
            }
            if self.once_in(20) && !policies.is_empty() {
                steps.push(Step::Remove(self.one(&policies).handle.clone()));
            }
            steps.extend(self.send(&world, &steps));
        }
        let mut removed = Vec::new();
        steps.retain(|step| match step {
            Step::Remove(handle) if removed.contains(handle) => false,
            Step::Remove(handle) => {
                removed.push(handle.clone());
                true
            }
            Step::Wait(_) | Step::Send { .. } => true,
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
        world
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
            labels: Labels::new(),
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
            readiness: Readiness::Ready,
            ports,
            span: Span::default(),
        }
    }
}

/// The policies.
impl Random {
    fn policy(&mut self, at: usize) -> Policy {
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
            rules: (0..=self.below(4)).map(|n| self.rule(n, namespace.is_none())).collect(),
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

    fn rule(&mut self, at: usize, clusterwide: bool) -> Rule {
        let direction = *self.one(&[Direction::Ingress, Direction::Egress]);
        let action = if self.once_in(3) { Action::Deny } else { Action::Allow };
        let peers = match self.below(8) {
            0 | 1 => None,
            2 if self.once_in(4) => Some(Vec::new()),
            _ => Some((0..=self.below(3)).map(|_| self.peer(clusterwide)).collect()),
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

    fn peer(&mut self, clusterwide: bool) -> Peer {
        let kind = match self.below(4) {
            0 | 1 => PeerKind::Pods {
                selector: self.selector(&[("app", &["x", "y"]), ("tier", &["front", "back"])]),
                namespaces: self.namespaces(clusterwide),
            },
            2 => self.cidr(),
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

/// The packets.
impl Random {
    /// A packet of a flow of its own, the answer to an earlier one, or an error about it; one of the parties
    /// is a pod. `None` where the dice give nothing that could be sent.
    fn send(&mut self, world: &World, earlier: &[Step]) -> Option<Step> {
        let sent: Vec<&Question> = earlier
            .iter()
            .filter_map(|step| match step {
                Step::Send { question, about: None } => Some(&**question),
                Step::Send { .. } | Step::Wait(_) | Step::Remove(_) => None,
            })
            .collect();
        let last = (!sent.is_empty()).then(|| *self.one(&sent)).filter(|q| is_honest(q));
        match (self.below(8), last) {
            (0 | 1, Some(last)) => {
                let mut packet = reply(&last.packet);
                self.change(&mut packet);
                Some(Step::Send {
                    question: question(last.destination, last.source, packet),
                    about: None,
                })
            }
            (2, Some(last)) if self.once_in(2) => Some(self.again(last)),
            (2, Some(last)) => Some(self.forged(world, last)),
            (3, Some(last)) => {
                let v6 = last.packet.ip.source.is_ipv6();
                let kinds: &[(u8, u8)] =
                    if v6 { &[(1, 4), (2, 0), (3, 0)] } else { &[(3, 3), (11, 0), (3, 4)] };
                let (kind, code) = *self.one(kinds);
                let packet = error_about(&last.packet, kind, code);
                let question = question(last.destination, last.source, packet);
                Some(Step::Send { question, about: Some(Box::new(last.clone())) })
            }
            _ => self.fresh(world),
        }
    }

    /// Somebody else speaks under the addresses and ports of a known flow.
    fn forged(&mut self, world: &World, last: &Question) -> Step {
        let pods = world.pods.iter().flat_map(|p| &p.addresses);
        let nodes = world.nodes.iter().flat_map(|n| &n.addresses);
        let all = pods.chain(nodes).copied().chain(OUTSIDE.map(ip));
        let packet = last.packet.clone();
        let v6 = packet.ip.source.is_ipv6();
        let others: Vec<IpAddr> = all.filter(|a| a.is_ipv6() == v6).collect();
        let question = question(Party::Address(*self.one(&others)), last.destination, packet);
        Step::Send { question, about: None }
    }

    /// The same side speaks again.
    fn again(&mut self, last: &Question) -> Step {
        let mut packet = last.packet.clone();
        if let Transport::Tcp { flags, .. } = &mut packet.transport {
            *flags = self.flags();
        }
        self.change(&mut packet);
        let question = question(last.source, last.destination, packet);
        Step::Send { question, about: None }
    }

    fn fresh(&mut self, world: &World) -> Option<Step> {
        let pods: Vec<&Pod> = world.pods.iter().filter(|p| !p.host_network).collect();
        if pods.is_empty() {
            return None;
        }
        let one = self.one(&pods).addresses.clone();
        let other = self.other(world, &pods);
        let v6 = self.once_in(2);
        let of = |list: &[IpAddr]| list.iter().copied().find(|a| a.is_ipv6() == v6);
        let (mut source, mut destination) = (of(&one)?, of(&other)?);
        if self.once_in(3) {
            (source, destination) = (destination, source);
        }
        // The sender must be somebody; an address of nobody only receives.
        let nobody = world.owner(source).is_none()
            && world.nodes.iter().any(|n| n.pod_cidrs.iter().any(|p| p.contains(&source)));
        if nobody || source == destination {
            return None;
        }
        let transport = self.transport(v6);
        let mut packet = Packet { ip: header(source, destination), transport, payload: Vec::new() };
        self.change(&mut packet);
        let asked = question(Party::Address(source), Party::Address(destination), packet);
        Some(Step::Send { question: self.claim(world, asked), about: None })
    }

    /// Addresses of a pod, a node, an outside party, or of nobody.
    fn other(&mut self, world: &World, pods: &[&Pod]) -> Vec<IpAddr> {
        match self.below(10) {
            0 => {
                let node = self.one(&world.nodes);
                if self.once_in(2) { node.addresses.clone() } else { node.locals.clone() }
            }
            1 | 2 => {
                let outside = [*self.one(&OUTSIDE[..4]), *self.one(&OUTSIDE[4..])];
                outside.iter().map(|a| ip(a)).collect()
            }
            3 => vec![ip("10.1.0.200"), ip("fd00:1::200")],
            _ => self.one(pods).addresses.clone(),
        }
    }

    /// Rarely, the packet claims another's address.
    fn claim(&mut self, world: &World, mut asked: Box<Question>) -> Box<Question> {
        let (source, destination) = (asked.packet.ip.source, asked.packet.ip.destination);
        let pods = world.pods.iter().flat_map(|p| &p.addresses);
        let all = pods.chain(world.nodes.iter().flat_map(|n| &n.addresses)).copied();
        let all = all.chain(OUTSIDE.map(ip)).filter(|a| a.is_ipv6() == source.is_ipv6());
        let others: Vec<IpAddr> = all.filter(|a| *a != source && *a != destination).collect();
        if self.once_in(12) && !others.is_empty() {
            asked.packet.ip.source = *self.one(&others);
        }
        asked
    }

    fn transport(&mut self, v6: bool) -> Transport {
        let destination = *self.one(&PORTS);
        let source = *self.one(&[40312, 40312, 40313, 80]);
        match self.below(8) {
            0..=3 => Transport::Tcp {
                source,
                destination,
                flags: self.flags(),
                sequence: 1,
                acknowledgement: 0,
            },
            4 | 5 => Transport::Udp { source, destination },
            6 => Transport::Sctp { source, destination },
            _ => self.message(v6),
        }
    }

    fn message(&mut self, v6: bool) -> Transport {
        let kinds: &[u8] = if v6 { &[128, 129, 1, 2, 135] } else { &[8, 0, 13, 14, 3] };
        let kind = *self.one(kinds);
        let echo = if v6 { (128..130).contains(&kind) } else { kind == 8 || kind == 0 };
        let code = if !v6 && kind == 3 { *self.one(&[3, 4]) } else { 0 };
        let identifier = u8::try_from(1 + self.below(2)).expect("small");
        Transport::Icmp { kind, code, rest: if echo { [0, identifier, 0, 1] } else { [0; 4] } }
    }

    fn flags(&mut self) -> TcpFlags {
        let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
        let rest =
            [syn.with(ack), ack, TcpFlags::FIN.with(ack), TcpFlags::RST, TcpFlags::RST.with(ack)];
        if self.once_in(2) { syn } else { *self.one(&rest) }
    }

    /// Rarely, another TTL, a piece of a datagram, or more before the transport.
    fn change(&mut self, packet: &mut Packet) {
        if self.once_in(16) {
            packet.ip.ttl = *self.one(&[1, 2]);
        }
        if self.once_in(16) {
            let later = Fragment { offset: 1480, more: self.once_in(2) };
            packet.ip.fragment = *self.one(&[Fragment { offset: 0, more: true }, later]);
        }
        if self.once_in(16) {
            if packet.ip.source.is_ipv6() {
                let kinds = extension::NAMES.iter().map(|(_, number)| *number);
                let kinds: Vec<u8> = kinds.collect();
                let most = 1 + self.below(4);
                packet.ip.extensions = (0..most).map(|_| (*self.one(&kinds), vec![0; 6])).collect();
            } else {
                packet.ip.options = vec![1; 4 * (1 + self.below(10))];
            }
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Whether what the packet says of its sender is true, so that an answer goes back there.
fn is_honest(asked: &Question) -> bool {
    asked.source == Party::Address(asked.packet.ip.source)
}

fn question(source: Party, destination: Party, packet: Packet) -> Box<Question> {
    Box::new(Question {
        source,
        destination,
        packet,
        with_reply: false,
        choose: None,
        known: None,
        assumed: Vec::new(),
        undetermined: Vec::new(),
    })
}

fn header(source: IpAddr, destination: IpAddr) -> IpHeader {
    IpHeader {
        source,
        destination,
        traffic_class: 0,
        ttl: 64,
        id: 0,
        dont_fragment: false,
        fragment: Fragment::default(),
        options: Vec::new(),
        extensions: Vec::new(),
    }
}
