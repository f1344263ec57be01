//! Random small worlds and policies: what the tables say of every peer and packet must be what the rules
//! say when they are read directly, and whatever stands behind an entry must be about the packet.

use std::net::IpAddr;

use super::build::peer as peer_of;
use super::build::*;
use crate::identity::Identity;
use crate::net::{Direction, Protocol};
use crate::policy::{
    Action, Entity, Isolation, Namespaces, Peer, PeerKind, Policy, PortKind, PortSpec, Rule,
    Selector,
};
use crate::topology::{Endpoint, NodeId, Pod, PodId, World};
use crate::verdict::{Implied, Origin};

/// A small generator: the same numbers on every machine.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let at = self.below(from.len());
        from[at]
    }

    fn once_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }
}

/// Nested, disjoint, around and inside pod prefixes, on pods and nodes, of both families.
const PREFIXES: [&str; 16] = [
    "0.0.0.0/0",
    "198.51.0.0/16",
    "198.51.100.0/24",
    "198.51.100.64/26",
    "198.51.100.66/32",
    "10.0.0.0/8",
    "10.2.0.0/24",
    "10.2.0.96/28",
    "10.2.0.10/32",
    "192.168.1.0/24",
    "192.168.1.2/32",
    "::/0",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "fd00:2::/64",
    "fd00:a::2/128",
];
const OUTSIDE: [&str; 12] = [
    "8.8.8.8",
    "198.51.1.1",
    "198.51.100.1",
    "198.51.100.65",
    "198.51.100.66",
    "10.2.0.97",
    "10.2.0.200",
    "10.9.9.9",
    "192.168.1.9",
    "2001:db8::1",
    "2001:db8:1::1",
    "fd00:2::99",
];
const APPS: [&str; 3] = ["a", "b", "c"];
const SPACES: [&str; 2] = ["shop", "vault"];
const EDGES: [u16; 8] = [0, 1, 79, 80, 95, 96, 8080, u16::MAX];
const WITH_PORTS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

fn random_world(dice: &mut Dice) -> World {
    let dual = dice.once_in(2);
    let mut nodes = Vec::new();
    for at in 1..=2 {
        let own = [format!("192.168.1.{at}"), format!("fd00:a::{at}")];
        let prefixes = [format!("10.{at}.0.0/24"), format!("fd00:{at}::/64")];
        let families = if dual { 2 } else { 1 };
        let [own, prefixes] =
            [own, prefixes].map(|list| list.into_iter().take(families).collect::<Vec<_>>());
        let [own, prefixes]: [Vec<&str>; 2] =
            [&own, &prefixes].map(|list| list.iter().map(String::as_str).collect());
        let mut node = node(&format!("node{at}"), &own, &prefixes);
        node.locals.push(ip(&format!("10.{at}.0.1")));
        nodes.push(node);
    }
    let mut all = Vec::new();
    for at in 0..2 + dice.below(5) {
        let on = u32::try_from(dice.below(2)).unwrap();
        let own = [format!("10.{}.0.{}", on + 1, 10 + at), format!("fd00:{}::{}", on + 1, 10 + at)];
        let own: Vec<&str> =
            own.iter().map(String::as_str).take(if dual { 2 } else { 1 }).collect();
        let name = format!("{}/p{at}", dice.pick(&SPACES));
        let mut one = pod(&name, on, &own, dice.pick(&APPS));
        if dice.once_in(2) {
            one = named(one, "http", dice.pick(&[80, 8080]), dice.pick(&WITH_PORTS));
        }
        if dice.once_in(3) {
            one = named(one, "dns", 53, Protocol::Udp);
        }
        all.push(one);
    }
    let mut world = world(nodes, all);
    for (at, space) in SPACES.iter().enumerate() {
        let name = format!("{space}/web");
        world.services.push(service(&name, &[&format!("10.96.0.{at}")], dice.pick(&APPS)));
    }
    world
}

fn random_peer(dice: &mut Dice) -> Peer {
    match dice.below(5) {
        0 => {
            let except = (0..dice.below(3)).map(|_| dice.pick(&PREFIXES)).collect::<Vec<_>>();
            cidr(dice.pick(&PREFIXES), &except)
        }
        1 => entity(dice.pick(&Entity::ALL).0),
        2 if dice.once_in(2) => {
            let (namespace, name) = (dice.pick(&SPACES).to_owned(), "web".to_owned());
            peer_of(PeerKind::Service { namespace, name })
        }
        _ => {
            let mut peer = pods(dice.pick(&APPS));
            if let PeerKind::Pods { selector, namespaces } = &mut peer.kind {
                if dice.once_in(4) {
                    *selector = Selector::default();
                }
                if dice.once_in(3) {
                    *namespaces = Namespaces::Any;
                }
            }
            peer
        }
    }
}

fn random_port(dice: &mut Dice) -> PortSpec {
    let protocol = if dice.once_in(3) { None } else { Some(dice.pick(&WITH_PORTS)) };
    match dice.below(6) {
        0 => port_name(dice.pick(&["http", "dns"]), protocol),
        1 => {
            let kind = if dice.once_in(3) { None } else { Some(dice.pick(&[0, 8, 128])) };
            icmp(dice.pick(&[Protocol::Icmp, Protocol::Icmpv6]), kind)
        }
        _ => {
            let (one, other) = (dice.pick(&EDGES), dice.pick(&EDGES));
            ports(one.min(other), one.max(other), protocol)
        }
    }
}

fn random_rule(dice: &mut Dice) -> Rule {
    let peers = if dice.once_in(4) {
        None
    } else {
        Some((0..dice.below(3)).map(|_| random_peer(dice)).collect())
    };
    let ports = (0..dice.below(4)).map(|_| random_port(dice)).collect();
    let direction = dice.pick(&[Direction::Egress, Direction::Ingress]);
    let action = if dice.once_in(4) { Action::Deny } else { Action::Allow };
    rule(direction, action, peers, ports)
}

fn random_policy(dice: &mut Dice, at: usize) -> Policy {
    let rules = (0..dice.below(4)).map(|_| random_rule(dice)).collect();
    let mut one = policy(&format!("p{at}"), dice.pick(&APPS), rules);
    let ways = [Isolation::ByRules, Isolation::ByRules, Isolation::Always, Isolation::Never];
    (one.egress, one.ingress) = (dice.pick(&ways), dice.pick(&ways));
    if dice.once_in(3) {
        one.namespace = None;
        one.subject_namespaces = Namespaces::Any;
    }
    one
}

/// The other side of a packet, as the rules mean it.
#[derive(Clone, Copy, Debug)]
enum Other {
    Pod(PodId),
    Node(NodeId),
    Outside,
}

/// Direct reading of rules, without any table.
struct Reading<'a> {
    world: &'a World,
    endpoint: &'a Pod,
    direction: Direction,
    other: Other,
    address: IpAddr,
    protocol: Protocol,
    port: Option<u16>,
}

impl Reading<'_> {
    fn peer_matches(&self, policy: &Policy, peer: &Peer) -> bool {
        let outside = matches!(self.other, Other::Outside);
        match &peer.kind {
            PeerKind::Pods { selector, namespaces } => {
                let Other::Pod(id) = self.other else { return false };
                let pod = self.world.pod(id).unwrap();
                let own = policy.namespace.as_ref().is_none_or(|own| *own == pod.namespace);
                selector.matches(&pod.labels) && (own || *namespaces == Namespaces::Any)
            }
            PeerKind::Service { namespace, name } => {
                let Other::Pod(id) = self.other else { return false };
                let pod = self.world.pod(id).unwrap();
                let mut services = self.world.services.iter();
                let wanted = services.find(|s| s.namespace == *namespace && s.name == *name);
                wanted.is_some_and(|s| {
                    s.namespace == pod.namespace && s.selector.matches(&pod.labels)
                })
            }
            PeerKind::Cidr { net, except } => {
                outside
                    && net.contains(&self.address)
                    && !except.iter().any(|hole| hole.contains(&self.address))
            }
            PeerKind::Dns(pattern) => {
                let mut names = self.world.names_of(self.address);
                outside && names.any(|(_, fact)| pattern.matches(&fact.name))
            }
            PeerKind::Entity(entity) => match entity {
                Entity::All => true,
                Entity::World => outside,
                Entity::WorldIpv4 => self.outside_by_family(outside, false),
                Entity::WorldIpv6 => self.outside_by_family(outside, true),
                Entity::Cluster => !outside,
                Entity::Host => self.is_own_node(),
                Entity::RemoteNode => matches!(self.other, Other::Node(_)) && !self.is_own_node(),
                _ => false,
            },
        }
    }

    /// The families of the world have identities of their own only where there are two.
    fn outside_by_family(&self, outside: bool, is_ipv6: bool) -> bool {
        outside && self.world.is_dual_stack() && self.address.is_ipv6() == is_ipv6
    }

    fn is_own_node(&self) -> bool {
        matches!(self.other, Other::Node(node) if node == self.endpoint.node)
    }

    fn port_matches(&self, spec: &PortSpec) -> bool {
        match &spec.kind {
            PortKind::Numbers { range, protocol } => {
                let same = protocol.map_or(self.protocol.has_ports(), |p| p == self.protocol);
                let whole = (range.first, range.last) == (0, u16::MAX);
                same && self.port.map_or(whole, |port| range.contains(port))
            }
            PortKind::Named { name, protocol } => {
                let destination = match (self.direction, self.other) {
                    (Direction::Ingress, _) => self.endpoint,
                    (Direction::Egress, Other::Pod(id)) => self.world.pod(id).unwrap(),
                    (Direction::Egress, _) => return false,
                };
                destination.ports.iter().any(|own| {
                    own.name == *name
                        && own.protocol == self.protocol
                        && Some(own.port) == self.port
                        && protocol.is_none_or(|p| p == own.protocol)
                })
            }
            PortKind::Icmp { family, kind } => {
                *family == self.protocol && kind.is_none_or(|kind| self.port == Some(kind.into()))
            }
        }
    }

    fn matches(&self, policy: &Policy, rule: &Rule) -> bool {
        rule.direction == self.direction
            && rule.peers.as_ref().is_none_or(|ps| ps.iter().any(|p| self.peer_matches(policy, p)))
            && rule.ports.as_ref().is_none_or(|ps| ps.iter().any(|p| self.port_matches(p)))
    }

    /// `Some(deny)` or the default deny, and everything that may be named for it.
    fn outcome(&self, lab: &Lab) -> (Option<bool>, Vec<Origin>) {
        let (mut allows, mut denies, mut isolated) = (Vec::new(), Vec::new(), false);
        for (id, policy) in lab.policies.iter() {
            let own = policy.namespace.as_ref().is_none_or(|own| *own == self.endpoint.namespace);
            if !own || !policy.subject.matches(&self.endpoint.labels) {
                continue;
            }
            isolated |= policy.isolates(self.direction);
            for (index, rule) in (0..).zip(&policy.rules).filter(|(_, r)| self.matches(policy, r)) {
                let origin = Origin::Rule(crate::policy::RuleId { policy: id, index });
                match rule.action {
                    Action::Allow => allows.push(origin),
                    Action::Deny => denies.push(origin),
                }
            }
        }
        if !isolated {
            allows.push(Origin::Implied(Implied::NotIsolated));
        } else if self.is_own_node() && self.direction == Direction::Ingress {
            allows.push(Origin::Implied(Implied::LocalHost));
        }
        match (denies.is_empty(), allows.is_empty()) {
            (false, _) => (Some(true), denies),
            (true, false) => (Some(false), allows),
            (true, true) => (None, vec![Origin::Implied(Implied::DefaultDeny)]),
        }
    }
}

/// Every peer that an endpoint can meet, with the address that it is met by.
fn others(world: &World) -> Vec<(Other, IpAddr)> {
    let pods =
        world.pods().flat_map(|(id, p)| p.addresses.iter().map(move |a| (Other::Pod(id), *a)));
    let nodes = world.nodes().flat_map(|(id, n)| {
        n.addresses.iter().chain(&n.locals).map(move |a| (Other::Node(id), *a))
    });
    let outside = OUTSIDE.iter().map(|a| (Other::Outside, ip(a)));
    let dual = world.is_dual_stack();
    pods.chain(nodes).chain(outside).filter(|(_, a)| dual || a.is_ipv4()).collect()
}

fn packets() -> Vec<(Protocol, Option<u16>)> {
    let mut packets = vec![(Protocol::Other(47), Some(0))];
    for protocol in WITH_PORTS {
        packets.push((protocol, None));
        let ports = [1, 53, 78, 79, 80, 81, 95, 96, 97, 8080, 8081, u16::MAX];
        packets.extend(ports.map(|port| (protocol, Some(port))));
    }
    for family in [Protocol::Icmp, Protocol::Icmpv6] {
        packets.extend([0, 1, 8, 80, 128].map(|kind| (family, Some(kind))));
    }
    packets
}

fn check(lab: &Lab, seed: u64) {
    let (others, packets) = (others(&lab.world), packets());
    for (pod, endpoint) in lab.world.pods() {
        for direction in [Direction::Egress, Direction::Ingress] {
            for (other, address) in others.iter().copied() {
                let peer: Identity = lab.covering(endpoint.node.0, address).identity;
                for (protocol, port) in packets.iter().copied() {
                    let world = &lab.world;
                    let reading =
                        Reading { world, endpoint, direction, other, address, protocol, port };
                    let (expected, named) = reading.outcome(lab);
                    let (hit, origins) =
                        lab.ask(Endpoint::Pod(pod), direction, peer, protocol, port);
                    let place = || {
                        format!(
                            "seed {seed}: {} {direction} {other:?} {address} {protocol} {port:?}: \
                             {hit:?} {origins:?}, rules say {named:?}",
                            endpoint.qualified()
                        )
                    };
                    assert_eq!(hit.winner.map(|w| w.deny), expected, "{}", place());
                    assert!(!origins.is_empty() && origins.is_sorted(), "{}", place());
                    assert!(origins.iter().all(|o| named.contains(o)), "{}", place());
                }
            }
        }
    }
}

#[test]
fn tables_say_what_the_rules_say() {
    for seed in 1..=60 {
        let mut dice = Dice::new(seed);
        let world = random_world(&mut dice);
        let policies = (0..dice.below(6)).map(|at| random_policy(&mut dice, at)).collect();
        check(&Lab::new(world, policies), seed);
    }
}

#[test]
fn file_order_changes_nothing() {
    for seed in 1..=20 {
        let mut dice = Dice::new(seed);
        let world = random_world(&mut dice);
        let policies: Vec<Policy> = (0..4).map(|at| random_policy(&mut dice, at)).collect();
        let one = Lab::new(world.clone(), policies.clone());
        let mut reversed = world;
        reversed.pods.reverse();
        let other = Lab::new(reversed, policies.into_iter().rev().collect());
        assert_eq!(one.tables.identities, other.tables.identities);
        for (one, other) in one.tables.nodes.iter().zip(&other.tables.nodes) {
            assert_eq!(one.policies, other.policies, "seed {seed}");
            let ids = |node: &crate::tables::NodeTables| {
                node.endpoints.iter().map(|e| (e.id, e.ifindex, e.identity)).collect::<Vec<_>>()
            };
            assert_eq!(ids(one), ids(other));
            let entries = |node: &crate::tables::NodeTables| {
                node.ipcache.iter().map(|e| (e.prefix, e.identity, e.target)).collect::<Vec<_>>()
            };
            assert_eq!(entries(one), entries(other));
        }
    }
}
