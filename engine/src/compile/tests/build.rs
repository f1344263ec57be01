//! Short ways to write worlds and policies in the compiler's tests, and questions to what comes out.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::compile::compile;
use crate::diag::Diagnostic;
use crate::identity::Identity;
use crate::net::{Direction, PortRange, Protocol};
use crate::policy::{
    Action, Entity, Isolation, Namespaces, Operator, Peer, PeerKind, Policy, PolicySet, PortKind,
    PortSpec, Requirement, Rule, Selector, SubjectKind,
};
use crate::source::Span;
use crate::tables::{Generation, IpcacheEntry, NodeTables, PolicyHit, Tables};
use crate::topology::{
    Endpoint, NamedPort, Namespace, Node, NodeId, Pod, PodId, Readiness, Service, ServicePort,
    TargetPort, TrafficPolicy, World,
};
use crate::verdict::Origin;

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// `node NAME`, `ADDRESSES`, `pod prefixes`.
pub(super) fn node(name: &str, addresses: &[&str], pod_cidrs: &[&str]) -> Node {
    Node {
        name: name.into(),
        addresses: addresses.iter().map(|a| ip(a)).collect(),
        pod_cidrs: pod_cidrs.iter().map(|p| net(p)).collect(),
        locals: Vec::new(),
        device: "eth0".into(),
        mac: None,
        labels: [("name".to_owned(), name.to_owned())].into(),
        health: Vec::new(),
        span: Span::default(),
    }
}

/// A pod by `namespace/name`, its node and its addresses, with `app` as its one label.
pub(super) fn pod(name: &str, node: u32, addresses: &[&str], app: &str) -> Pod {
    let (namespace, name) = name.split_once('/').unwrap();
    Pod {
        namespace: namespace.into(),
        name: name.into(),
        node: NodeId(node),
        addresses: addresses.iter().map(|a| ip(a)).collect(),
        labels: [("app".to_owned(), app.to_owned())].into(),
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

pub(super) fn named(mut pod: Pod, name: &str, port: u16, protocol: Protocol) -> Pod {
    pod.ports.push(NamedPort { name: name.into(), port, protocol });
    pod
}

/// A service by `namespace/name`, its cluster IPs and the app behind it: TCP, port 80 to 8080.
pub(super) fn service(name: &str, cluster_ips: &[&str], app: &str) -> Service {
    let (namespace, name) = name.split_once('/').unwrap();
    Service {
        namespace: namespace.into(),
        name: name.into(),
        cluster_ips: cluster_ips.iter().map(|a| ip(a)).collect(),
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        ports: vec![ServicePort {
            name: None,
            port: 80,
            protocol: Protocol::Tcp,
            target: TargetPort::Number(8080),
            node_port: None,
            span: Span::default(),
        }],
        selector: selector(app),
        affinity: None,
        balancing: None,
        source_ranges: Vec::new(),
        ranges_span: Span::default(),
        internal_traffic: TrafficPolicy::Cluster,
        external_traffic: TrafficPolicy::Cluster,
        span: Span::default(),
    }
}

/// Namespaces are those of the pods, each with its name as its label `team`.
pub(super) fn world(nodes: Vec<Node>, pods: Vec<Pod>) -> World {
    let mut names: Vec<String> = pods.iter().map(|p| p.namespace.clone()).collect();
    names.sort();
    names.dedup();
    let namespaces = names.into_iter().map(|name| Namespace {
        labels: [("team".to_owned(), name.clone())].into(),
        name,
        span: Span::default(),
    });
    World { namespaces: namespaces.collect(), nodes, pods, ..World::default() }
}

/// Two nodes, one family: client and stranger on node 0, server on node 1.
pub(super) fn lab() -> World {
    world(
        vec![
            node("node01", &["192.168.1.1"], &["10.1.0.0/24"]),
            node("node02", &["192.168.1.2"], &["10.2.0.0/24"]),
        ],
        vec![
            pod("shop/client", 0, &["10.1.0.10"], "client"),
            pod("shop/stranger", 0, &["10.1.0.11"], "stranger"),
            pod("shop/server", 1, &["10.2.0.10"], "server"),
        ],
    )
}

pub(super) fn selector(app: &str) -> Selector {
    let operator = Operator::Equals(app.into());
    Selector {
        requirements: vec![Requirement { key: "app".into(), operator, span: Span::default() }],
    }
}

pub(super) fn peer(kind: PeerKind) -> Peer {
    Peer { kind, span: Span::default() }
}

pub(super) fn pods(app: &str) -> Peer {
    peer(PeerKind::Pods { selector: selector(app), namespaces: Namespaces::Own })
}

pub(super) fn cidr(prefix: &str, except: &[&str]) -> Peer {
    peer(PeerKind::Cidr { net: net(prefix), except: except.iter().map(|e| net(e)).collect() })
}

pub(super) fn entity(entity: Entity) -> Peer {
    peer(PeerKind::Entity(entity))
}

fn spec(kind: PortKind) -> PortSpec {
    PortSpec { kind, span: Span::default() }
}

pub(super) fn ports(first: u16, last: u16, protocol: Option<Protocol>) -> PortSpec {
    spec(PortKind::Numbers { range: PortRange { first, last }, protocol })
}

pub(super) fn tcp(port: u16) -> PortSpec {
    ports(port, port, Some(Protocol::Tcp))
}

pub(super) fn port_name(name: &str, protocol: Option<Protocol>) -> PortSpec {
    spec(PortKind::Named { name: name.into(), protocol })
}

pub(super) fn icmp(family: Protocol, kind: Option<u8>) -> PortSpec {
    spec(PortKind::Icmp { family, kind })
}

/// A rule; an empty list of ports is none at all.
pub(super) fn rule(
    direction: Direction,
    action: Action,
    peers: Option<Vec<Peer>>,
    ports: Vec<PortSpec>,
) -> Rule {
    Rule {
        name: String::new(),
        direction,
        action,
        peers,
        ports: (!ports.is_empty()).then_some(ports),
        owner: None,
        because: None,
        span: Span::default(),
    }
}

pub(super) fn allow(peers: Option<Vec<Peer>>, ports: Vec<PortSpec>) -> Rule {
    rule(Direction::Ingress, Action::Allow, peers, ports)
}

pub(super) fn deny(peers: Option<Vec<Peer>>, ports: Vec<PortSpec>) -> Rule {
    rule(Direction::Ingress, Action::Deny, peers, ports)
}

/// A rule about what is sent.
pub(super) fn egress(mut rule: Rule) -> Rule {
    rule.direction = Direction::Egress;
    rule
}

/// A policy of namespace `shop` by name, selecting an app; rules are named by their place.
pub(super) fn policy(name: &str, app: &str, mut rules: Vec<Rule>) -> Policy {
    for (at, rule) in rules.iter_mut().enumerate() {
        rule.name = format!("r{at}");
    }
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

/// A world with its policies, compiled.
pub(super) struct Lab {
    pub(super) world: World,
    pub(super) policies: PolicySet,
    pub(super) tables: Tables,
}

impl Lab {
    pub(super) fn new(world: World, policies: Vec<Policy>) -> Self {
        let policies = PolicySet::new(policies);
        let tables = compile(&world, &policies, Generation(1)).unwrap();
        Self { world, policies, tables }
    }

    pub(super) fn pod(&self, name: &str) -> PodId {
        self.world.pods().find(|(_, pod)| pod.qualified() == name).unwrap().0
    }

    pub(super) fn node_of(&self, pod: PodId) -> &NodeTables {
        self.tables.node(self.world.pod(pod).unwrap().node).unwrap()
    }

    /// A pod's identity.
    pub(super) fn identity(&self, name: &str) -> Identity {
        let pod = self.pod(name);
        self.node_of(pod).endpoint_of(Endpoint::Pod(pod)).unwrap().identity
    }

    /// The ipcache entry that covers an address on a node.
    pub(super) fn covering(&self, node: u32, address: IpAddr) -> &IpcacheEntry {
        let entries = self.tables.node(NodeId(node)).unwrap().ipcache.iter();
        let covering = entries.filter(|entry| entry.prefix.contains(&address));
        covering.max_by_key(|entry| entry.prefix.prefix_len()).unwrap()
    }

    /// What an endpoint's table says of a peer's identity, and what stands behind it.
    pub(super) fn ask(
        &self,
        endpoint: Endpoint,
        direction: Direction,
        peer: Identity,
        protocol: Protocol,
        port: Option<u16>,
    ) -> (PolicyHit<'_>, &[Origin]) {
        let node = self.tables.node(self.world.node_of(endpoint).unwrap()).unwrap();
        let endpoint = node.endpoint_of(endpoint).unwrap();
        let table = match direction {
            Direction::Egress => endpoint.egress,
            Direction::Ingress => endpoint.ingress,
        };
        let hit = node.table(table).unwrap().look_up(peer, protocol, port);
        let entry = hit.winner.map_or(crate::tables::EntryId::DEFAULT_DENY, |winner| winner.entry);
        (hit, self.tables.provenance.origins(node.node, endpoint.id, direction, entry))
    }

    /// The same in words: `allow`, `deny` or `default-deny`, then what stands behind it.
    pub(super) fn says(
        &self,
        pod: &str,
        direction: Direction,
        peer: Identity,
        protocol: Protocol,
        port: Option<u16>,
    ) -> String {
        self.says_at(Endpoint::Pod(self.pod(pod)), direction, peer, protocol, port)
    }

    /// The same of any endpoint.
    pub(super) fn says_at(
        &self,
        endpoint: Endpoint,
        direction: Direction,
        peer: Identity,
        protocol: Protocol,
        port: Option<u16>,
    ) -> String {
        let (hit, origins) = self.ask(endpoint, direction, peer, protocol, port);
        let outcome = match hit.winner {
            None => "default-deny",
            Some(winner) if winner.deny => "deny",
            Some(_) => "allow",
        };
        let mut words = vec![outcome.to_owned()];
        words.extend(origins.iter().map(|origin| match origin {
            Origin::Rule(rule) => {
                self.policies.rule_handle(*rule).trim_start_matches("shop/").to_owned()
            }
            Origin::Implied(implied) => implied.name().to_owned(),
        }));
        words.dedup();
        words.join(" ")
    }
}

/// The messages of what is wrong.
pub(super) fn messages(world: &World, policies: Vec<Policy>) -> Vec<Diagnostic> {
    compile(world, &PolicySet::new(policies), Generation(1)).unwrap_err()
}
