//! Tests of the oracle: a small world, policies and packets written in few words. The corners themselves are in
//! the modules below, by subject.

mod conntrack;
mod fragments;
mod headers;
mod leaving;
mod nodes;
mod path;
mod policy;
mod services;
mod words;

use std::net::IpAddr;

use crate::eval::{Asked, Choices, Judgement, Leg, Memory, judge};
use crate::net::{Direction, Fragment, IpHeader, Packet, PortRange, Protocol, TcpFlags, Transport};
use crate::policy::{
    Action, Entity, Isolation, Namespaces, Operator, Peer, PeerKind, Policy, PolicySet, PortKind,
    PortSpec, Requirement, Rule, Selector, SubjectKind,
};
use crate::reason::DropReason;
use crate::source::{FileId, Span};
use crate::topology::{
    Endpoint, Labels, NamedPort, Namespace, Node, NodeId, Party, Pod, PodId, Readiness, World,
};
use crate::verdict::{Implied, LegOutcome, Origin, Verdict};

const CLIENT: PodId = PodId(0);
const STRANGER: PodId = PodId(1);
const SERVER: PodId = PodId(2);
const VAULT: PodId = PodId(3);
const AGENT: PodId = PodId(5);
const NODE1: NodeId = NodeId(0);
const NODE2: NodeId = NodeId(1);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Where a condition is written; tests tell spans apart by their start.
fn span(start: u32) -> Span {
    Span { file: FileId(0), start, end: start + 1 }
}

fn node(name: &str, number: u8) -> Node {
    let prefixes = [format!("10.{number}.0.0/24"), format!("fd00:{number}::/64")];
    Node {
        name: name.into(),
        addresses: vec![ip(&format!("192.168.1.{number}")), ip(&format!("fd00:a::{number}"))],
        pod_cidrs: prefixes.iter().map(|p| p.parse().expect("a prefix")).collect(),
        locals: vec![ip("10.96.0.1"), ip(&format!("10.{number}.0.1"))],
        device: "eth0".into(),
        mac: None,
        labels: labels(&[("node", name)]),
        health: vec![ip(&format!("10.{number}.0.250")), ip(&format!("fd00:{number}::250"))],
        span: Span::default(),
    }
}

fn pod(name: &str, app: &str, at: NodeId, last: &str) -> Pod {
    let (namespace, name) = name.split_once('/').expect("a qualified name");
    let number = at.0 + 1;
    Pod {
        namespace: namespace.into(),
        name: name.into(),
        node: at,
        addresses: vec![
            ip(&format!("10.{number}.0.{last}")),
            ip(&format!("fd00:{number}::{last}")),
        ],
        labels: labels(&[("app", app)]),
        mac: None,
        host_mac: None,
        interface: None,
        ifindex: None,
        endpoint_id: None,
        host_network: false,
        readiness: Readiness::Ready,
        ports: Vec::new(),
        span: Span::default(),
    }
}

/// Two nodes, `client`, `stranger`, `local` and the host-network `agent` on the first, `server` and
/// `vault/client` on the second. Both families.
fn world() -> World {
    let namespace = |name: &str, team: &str| Namespace {
        name: name.into(),
        labels: labels(&[("team", team), ("kubernetes.io/metadata.name", name)]),
        span: Span::default(),
    };
    let first = node("node01", 1);
    let agent = Pod {
        host_network: true,
        addresses: first.addresses.clone(),
        ..pod("shop/agent", "client", NODE1, "99")
    };
    World {
        nodes: vec![first, node("node02", 2)],
        namespaces: vec![namespace("shop", "store"), namespace("vault", "bank")],
        pods: vec![
            pod("shop/client", "client", NODE1, "10"),
            pod("shop/stranger", "stranger", NODE1, "11"),
            pod("shop/server", "server", NODE2, "10"),
            pod("vault/client", "client", NODE2, "20"),
            pod("shop/local", "server", NODE1, "12"),
            agent,
        ],
        ..World::default()
    }
}

fn one_family(mut world: World) -> World {
    world.pods.iter_mut().for_each(|p| p.addresses.retain(IpAddr::is_ipv4));
    world.nodes.iter_mut().for_each(|n| n.pod_cidrs.retain(|p| p.addr().is_ipv4()));
    world
}

fn named_port(name: &str, port: u16, protocol: Protocol) -> NamedPort {
    NamedPort { name: name.into(), port, protocol }
}

fn equals(key: &str, value: &str) -> Requirement {
    let operator = Operator::Equals(value.into());
    Requirement { key: key.into(), operator, span: span(5) }
}

fn selector(app: &str) -> Selector {
    let requirements = if app.is_empty() { Vec::new() } else { vec![equals("app", app)] };
    Selector { requirements }
}

/// A peer: a label `app`, `app/NAMESPACE`, `app/*`, a prefix (`10.0.0.0/8`, `10.0.0.0/8-10.1.0.0/16` with a
/// hole), or `@ENTITY`.
fn peer(text: &str) -> Peer {
    let kind = if let Some(word) = text.strip_prefix('@') {
        let found = Entity::ALL.iter().find(|(_, w)| *w == word);
        PeerKind::Entity(found.expect("an entity").0)
    } else if text.contains(['.', ':']) {
        let mut prefixes = text.split('-').map(|p| p.parse().expect("a prefix"));
        let net = prefixes.next().expect("a first prefix");
        PeerKind::Cidr { net, except: prefixes.collect() }
    } else {
        let (app, namespaces) = match text.split_once('/') {
            None => (text, Namespaces::Own),
            Some((app, "*")) => (app, Namespaces::Any),
            Some((app, name)) => (app, Namespaces::Named(name.into())),
        };
        PeerKind::Pods { selector: selector(app), namespaces }
    };
    Peer { kind, span: span(2) }
}

/// A port condition: `80`, `80/tcp`, `1-9/udp`, `tcp`, `http`, `http/tcp`, `icmp`, `icmpv6 128`.
fn port(text: &str) -> PortSpec {
    let protocol = |word: &str| match word {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    };
    let (first, of) = text.split_once('/').unwrap_or((text, ""));
    let numbers = first.split_once('-').unwrap_or((first, first));
    let kind = if let Some((family, kind)) = message(text) {
        PortKind::Icmp { family, kind }
    } else if let Some(protocol) = protocol(first) {
        let range = PortRange { first: 0, last: u16::MAX };
        PortKind::Numbers { range, protocol: Some(protocol) }
    } else if let (Ok(first), Ok(last)) = (numbers.0.parse(), numbers.1.parse()) {
        PortKind::Numbers { range: PortRange { first, last }, protocol: protocol(of) }
    } else {
        PortKind::Named { name: first.into(), protocol: protocol(of) }
    };
    PortSpec { kind, span: span(3) }
}

fn message(text: &str) -> Option<(Protocol, Option<u8>)> {
    let (family, kind) = text.split_once(' ').unwrap_or((text, ""));
    let family = match family {
        "icmp" => Protocol::Icmp,
        "icmpv6" => Protocol::Icmpv6,
        _ => return None,
    };
    Some((family, kind.parse().ok()))
}

/// A rule about these peers and ports. No text is no condition, `none` is nobody.
fn rule(action: Action, direction: Direction, peers: &str, ports: &str) -> Rule {
    let list = |text: &str| -> Vec<String> { text.split(", ").map(ToOwned::to_owned).collect() };
    let peers = match peers {
        "" => None,
        "none" => Some(Vec::new()),
        some => Some(list(some).iter().map(|p| peer(p)).collect()),
    };
    let ports = (!ports.is_empty()).then(|| list(ports).iter().map(|p| port(p)).collect());
    let (owner, because) = (None, None);
    Rule { name: "rule".into(), direction, action, peers, ports, owner, because, span: span(1) }
}

fn allow_from(peers: &str, ports: &str) -> Rule {
    rule(Action::Allow, Direction::Ingress, peers, ports)
}

fn deny_from(peers: &str, ports: &str) -> Rule {
    rule(Action::Deny, Direction::Ingress, peers, ports)
}

fn allow_to(peers: &str, ports: &str) -> Rule {
    rule(Action::Allow, Direction::Egress, peers, ports)
}

/// A policy of the namespace `shop` about the pods of an app.
fn policy(name: &str, app: &str, rules: Vec<Rule>) -> Policy {
    Policy {
        handle: format!("shop/{name}"),
        namespace: Some("shop".into()),
        owner: None,
        because: None,
        subject_kind: SubjectKind::Pods,
        subject: selector(app),
        subject_namespaces: Namespaces::Own,
        egress: Isolation::ByRules,
        ingress: Isolation::ByRules,
        rules,
        span: Span::default(),
    }
}

/// A policy of no namespace about the pods of an app in any.
fn clusterwide(name: &str, app: &str, rules: Vec<Rule>) -> Policy {
    let subject_namespaces = Namespaces::Any;
    Policy { handle: name.into(), namespace: None, subject_namespaces, ..policy(name, app, rules) }
}

/// The server's ingress rules as the only policy.
fn server(rules: Vec<Rule>) -> PolicySet {
    PolicySet::new(vec![policy("server", "server", rules)])
}

fn packet(from: &str, to: &str, transport: Transport) -> Packet {
    let header = IpHeader {
        source: ip(from),
        destination: ip(to),
        traffic_class: 0,
        ttl: 64,
        id: 0,
        flow_label: 0,
        dont_fragment: false,
        fragment: Fragment::default(),
        options: Vec::new(),
        extensions: Vec::new(),
    };
    Packet { ip: header, transport, payload: Vec::new() }
}

/// A TCP packet with these flags.
fn segment(from: &str, to: &str, ports: (u16, u16), flags: TcpFlags) -> Packet {
    let (source, destination) = ports;
    let transport = Transport::Tcp { source, destination, flags, sequence: 1, acknowledgement: 0 };
    packet(from, to, transport)
}

fn syn(from: &str, to: &str, port: u16) -> Packet {
    segment(from, to, (40000, port), TcpFlags::SYN)
}

fn datagram(from: &str, to: &str, port: u16) -> Packet {
    packet(from, to, Transport::Udp { source: 40000, destination: port })
}

fn ping(from: &str, to: &str, kind: u8, code: u8) -> Packet {
    packet(from, to, Transport::Icmp { kind, code, rest: [0, 7, 0, 1] })
}

/// Addresses of the parties, IPv4.
const C4: &str = "10.1.0.10";
const X4: &str = "10.1.0.11";
const S4: &str = "10.2.0.10";
const V4: &str = "10.2.0.20";
const L4: &str = "10.1.0.12";
const W4: &str = "198.51.100.7";
/// Addresses of the parties, IPv6.
const C6: &str = "fd00:1::10";
const S6: &str = "fd00:2::10";
const V6: &str = "fd00:2::20";
const W6: &str = "2001:db8::7";

/// World, policies, memory and clock of one test.
struct Scene {
    world: World,
    policies: PolicySet,
    memory: Memory,
    now: u64,
    choices: Choices,
}

impl Scene {
    fn new(policies: PolicySet) -> Self {
        Self {
            world: world(),
            policies,
            memory: Memory::default(),
            now: 0,
            choices: Choices::default(),
        }
    }

    /// Judges a packet from whoever has its source address, as part of the scene's flows.
    fn send(&mut self, packet: &Packet) -> Judgement {
        self.send_from(Party::Address(packet.ip.source), packet)
    }

    fn send_from(&mut self, source: Party, packet: &Packet) -> Judgement {
        let destination = Party::Address(packet.ip.destination);
        let (now, choices) = (self.now, self.choices);
        let asked = Asked { source, destination, packet, now, choices };
        judge(&self.world, &self.policies, &mut self.memory, &asked)
    }

    /// The same, with no flow before it.
    fn alone(&mut self, packet: &Packet) -> Judgement {
        self.memory = Memory::default();
        self.send(packet)
    }
}

/// The outcome in one word: `allowed`, or the reason's name.
fn word(judgement: &Judgement) -> &'static str {
    match (judgement.verdict, judgement.reason) {
        (Verdict::Allowed, None) => "allowed",
        (Verdict::Dropped, Some(reason)) => reason.name(),
        _ => "contradictory",
    }
}

const ALLOWED: &str = "allowed";
const DENIED: &str = "policy-denied";
const DENY: &str = "policy-deny";

/// Holds each packet, alone, against the outcome in one word.
fn table(policies: &PolicySet, rows: &[(Packet, &str)]) {
    let mut scene = Scene::new(policies.clone());
    for (packet, expected) in rows {
        let judgement = scene.alone(packet);
        assert_eq!(word(&judgement), *expected, "{packet:?}\n{judgement:?}");
    }
}

/// The outcomes of the directions that were judged.
fn outcomes(judgement: &Judgement) -> Vec<(Direction, LegOutcome)> {
    judgement.legs.iter().map(|leg| (leg.direction, leg.outcome)).collect()
}

fn ingress(judgement: &Judgement) -> &Leg {
    let leg = judgement.legs.iter().find(|leg| leg.direction == Direction::Ingress);
    leg.expect("ingress was judged")
}

fn egress(judgement: &Judgement) -> &Leg {
    let leg = judgement.legs.iter().find(|leg| leg.direction == Direction::Egress);
    leg.expect("egress was judged")
}

/// The indices of the rules that carry the winning action, and the implied origins.
fn origins(leg: &Leg) -> (Vec<u32>, Vec<Implied>) {
    let rules = leg.matching.iter().filter_map(|o| match o {
        Origin::Rule(id) => Some(id.index),
        Origin::Implied(_) => None,
    });
    let implied = leg.matching.iter().filter_map(|o| match o {
        Origin::Implied(implied) => Some(*implied),
        Origin::Rule(_) => None,
    });
    (rules.collect(), implied.collect())
}

#[test]
fn what_no_network_could_carry_is_undecided() {
    let mut scene = Scene::new(PolicySet::default());
    let mixed = syn(C4, S6, 80);
    let foreign = syn(C4, S4, 80);
    for (party, packet) in [(Party::Pod(CLIENT), mixed), (Party::Pod(PodId(77)), foreign)] {
        let judgement = scene.send_from(party, &packet);
        assert_eq!((judgement.verdict, judgement.reason), (Verdict::Undecided, None));
        assert!(judgement.legs.is_empty());
    }
}

#[test]
fn reasons_have_the_names_that_tables_use() {
    assert_eq!(DENIED, DropReason::PolicyDenied.name());
    assert_eq!(DENY, DropReason::PolicyDeny.name());
}
