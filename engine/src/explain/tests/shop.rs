//! A world of two nodes made by hand: its policies and the tables they come to.

use std::net::IpAddr;
use std::sync::Arc;

use crate::eval::Judgement;
use crate::explain::{Context, Explanation, explain};
use crate::identity::Identity;
use crate::net::{Direction, Mac, Protocol};
use crate::policy::{self, Isolation, Namespaces, Policy, PolicySet, Rule, RuleId, Selector};
use crate::source::{FileId, SourceMap, Span};
use crate::tables::{
    EndpointEntry, EndpointId, EntryId, Frontend, FrontendKind, Generation, IdentityClass, Implied,
    IpcacheEntry, IpcacheOrigin, NatTables, NodeTables, Origin, PolicyEntry, PolicyKey,
    PolicyTable, TableId, Tables, Target,
};
use crate::topology::{
    Balancing, Endpoint, HostRouting, Labels, Node, NodeId, Pod, PodId, Readiness, Routing,
    Service, ServiceId, ServicePort, TargetPort, TrafficPolicy, World,
};
use crate::trace::{Place, Trace};

use super::events::asked;

pub(super) const CLIENT: PodId = PodId(0);
pub(super) const ECHO: PodId = PodId(1);
pub(super) const LOCAL: PodId = PodId(2);
pub(super) const SERVICE: ServiceId = ServiceId(0);
pub(super) const NODE01: NodeId = NodeId(0);
pub(super) const NODE02: NodeId = NodeId(1);
/// The endpoint ids: one number a pod, so that a mix-up of nodes shows.
pub(super) const CLIENT_ENDPOINT: EndpointId = EndpointId(11);
pub(super) const ECHO_ENDPOINT: EndpointId = EndpointId(22);
pub(super) const LOCAL_ENDPOINT: EndpointId = EndpointId(33);
pub(super) const CLIENT_IDENTITY: Identity = Identity(27634);
pub(super) const ECHO_IDENTITY: Identity = Identity(1042);
pub(super) const GENERATION: Generation = Generation(4);

const TEXT: &str = r#"policy web/client-egress {
  because "no other way out"
  select { app = "client" }
  allow egress as echo to pods { app = "echo" } on 8080/tcp
  allow egress as also to pods { app = "echo" } on 8080/tcp
}
policy web/echo-access {
  owner "team-storefront"
  select { app = "echo" }
  allow ingress as api-read from pods { app = "client" } on 8080/tcp
  allow ingress as probes from pods { app = "probe" } on 9000/tcp
  allow ingress as wide on 9000/tcp
  allow ingress as inside from entities cluster
  deny ingress as lab-net from cidr 10.9.0.0/16
}
"#;

pub(super) struct Shop {
    pub(super) world: World,
    pub(super) policies: PolicySet,
    pub(super) tables: Tables,
    pub(super) sources: SourceMap,
}

impl Shop {
    pub(super) fn new() -> Self {
        let mut sources = SourceMap::default();
        sources.add("shop.hop", TEXT);
        let policies = PolicySet::new(vec![client_egress(), echo_access()]);
        Self { world: world(), tables: tables(&policies), policies, sources }
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            world: &self.world,
            policies: &self.policies,
            tables: &self.tables,
            sources: &self.sources,
        }
    }

    pub(super) fn rule(&self, name: &str) -> RuleId {
        rule(&self.policies, name)
    }

    pub(super) fn explain(&self, trace: &Trace, judgement: &Judgement) -> Explanation {
        explain(&self.context(), &asked(), trace, Some(judgement)).expect("the trace has hops")
    }
}

fn rule(policies: &PolicySet, name: &str) -> RuleId {
    let mut all = policies.iter().flat_map(|(policy, p)| {
        (0..).zip(&p.rules).map(move |(index, r)| (RuleId { policy, index }, r))
    });
    all.find(|(_, rule)| rule.name == name).map(|(id, _)| id).expect("the rule exists")
}

/// The first place of a piece of the text.
pub(super) fn span(piece: &str) -> Span {
    let start = TEXT.find(piece).expect("the piece is in the text");
    let at = |position: usize| u32::try_from(position).expect("the text is short");
    Span { file: FileId(0), start: at(start), end: at(start + piece.len()) }
}

fn policy_of(handle: &str, rules: Vec<Rule>) -> Policy {
    Policy {
        handle: handle.into(),
        namespace: Some("web".into()),
        owner: None,
        because: None,
        subject_kind: policy::SubjectKind::Pods,
        subject: Selector::default(),
        subject_namespaces: Namespaces::Own,
        egress: Isolation::ByRules,
        ingress: Isolation::ByRules,
        rules,
        span: span(&format!("policy {handle}")),
    }
}

fn rule_of(direction: Direction, action: policy::Action, name: &str) -> Rule {
    Rule {
        name: name.into(),
        direction,
        action,
        peers: None,
        ports: None,
        owner: None,
        because: None,
        span: span(&format!("{action} {direction} as {name} ")),
    }
}

fn client_egress() -> Policy {
    let allow = |name| rule_of(Direction::Egress, policy::Action::Allow, name);
    Policy {
        because: Some("no other way out".into()),
        ..policy_of("web/client-egress", vec![allow("echo"), allow("also")])
    }
}

fn echo_access() -> Policy {
    let allow = |name| rule_of(Direction::Ingress, policy::Action::Allow, name);
    let rules = vec![
        Rule { owner: Some("team-api".into()), ..allow("api-read") },
        allow("probes"),
        allow("wide"),
        allow("inside"),
        rule_of(Direction::Ingress, policy::Action::Deny, "lab-net"),
    ];
    Policy { owner: Some("team-storefront".into()), ..policy_of("web/echo-access", rules) }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn labels(app: &str) -> Labels {
    Labels::from([("app".to_owned(), app.to_owned())])
}

fn world() -> World {
    let node = |name: &str, address: &str| Node {
        name: name.into(),
        addresses: vec![ip(address)],
        pod_cidrs: Vec::new(),
        locals: Vec::new(),
        device: "eth0".into(),
        mac: None,
        labels: Labels::new(),
        health: Vec::new(),
        span: Span::default(),
    };
    let pod = |name: &str, node: NodeId, address: &str, app: &str| Pod {
        namespace: "web".into(),
        name: name.into(),
        node,
        addresses: vec![ip(address)],
        labels: labels(app),
        mac: None,
        host_mac: None,
        interface: None,
        ifindex: None,
        endpoint_id: None,
        host_network: false,
        readiness: Readiness::Ready,
        ports: Vec::new(),
        span: Span::default(),
    };
    World {
        nodes: vec![node("node01", "192.168.66.226"), node("node02", "192.168.66.221")],
        pods: vec![
            pod("client", NODE01, "10.244.1.154", "client"),
            pod("echo-0", NODE02, "10.244.6.11", "echo"),
            pod("local", NODE01, "10.244.1.20", "echo"),
        ],
        services: vec![service()],
        ..World::default()
    }
}

fn service() -> Service {
    let port = |name: &str, port, target| ServicePort {
        name: Some(name.into()),
        port,
        protocol: Protocol::Tcp,
        target,
        node_port: None,
        span: Span::default(),
    };
    Service {
        namespace: "web".into(),
        name: "echo".into(),
        cluster_ips: vec![ip("10.96.0.20")],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        ports: vec![
            port("http", 80, TargetPort::Number(8080)),
            port("admin", 9000, TargetPort::Name("admin".into())),
        ],
        selector: Selector {
            requirements: vec![policy::Requirement {
                key: "app".into(),
                operator: policy::Operator::Equals("echo".into()),
                span: Span::default(),
            }],
        },
        affinity: None,
        balancing: None,
        source_ranges: vec!["203.0.113.0/24".parse().expect("a prefix")],
        ranges_span: Span::default(),
        internal_traffic: TrafficPolicy::Cluster,
        external_traffic: TrafficPolicy::Cluster,
        span: Span::default(),
    }
}

/// The service's frontends: its cluster IP with both ports, and a node port for the first.
fn frontends(node_address: &str) -> Vec<Frontend> {
    let frontend = |number, port_index, kind, address: &str, port| Frontend {
        entry: EntryId(number),
        service: SERVICE,
        port_index,
        kind,
        place: place(address, port),
        protocol: Protocol::Tcp,
        internal: 0,
        external: 0,
        affinity: None,
        balancing: Balancing::Random,
        source_ranges: Vec::new(),
    };
    vec![
        frontend(1, 0, FrontendKind::ClusterIp, "10.96.0.20", 80),
        frontend(2, 1, FrontendKind::ClusterIp, "10.96.0.20", 9000),
        frontend(3, 0, FrontendKind::NodePort, node_address, 30080),
    ]
}

pub(super) fn place(address: &str, port: u16) -> Place {
    Place { address: ip(address), port }
}

fn tables(policies: &PolicySet) -> Tables {
    let mut tables = Tables {
        generation: GENERATION,
        nodes: vec![
            node_tables(
                NODE01,
                "192.168.66.226",
                vec![
                    (CLIENT_ENDPOINT, CLIENT, CLIENT_IDENTITY, "lxc_client", 101),
                    (LOCAL_ENDPOINT, LOCAL, ECHO_IDENTITY, "lxc_local", 103),
                ],
            ),
            node_tables(
                NODE02,
                "192.168.66.221",
                vec![(ECHO_ENDPOINT, ECHO, ECHO_IDENTITY, "lxc_echo-0", 102)],
            ),
        ],
        ..Tables::default()
    };
    let class = |app: &str| IdentityClass::Pods {
        namespace: "web".into(),
        labels: labels(app),
        variant: String::new(),
    };
    let cidr = IdentityClass::Cidr("10.9.0.0/16".parse().expect("a prefix"));
    tables.identities.extend([
        (CLIENT_IDENTITY, class("client")),
        (ECHO_IDENTITY, class("echo")),
        (Identity::WORLD, IdentityClass::Reserved),
        (Identity(Identity::FIRST_CIDR), cidr),
    ]);
    record(&mut tables, policies);
    tables
}

/// What stands behind entries 1 to 4 of the table that every endpoint uses, per endpoint.
fn record(tables: &mut Tables, policies: &PolicySet) {
    let of = |name: &str| Origin::Rule(rule(policies, name));
    let not_isolated = || vec![Origin::Implied(Implied::NotIsolated)];
    let local_host = || vec![Origin::Implied(Implied::LocalHost)];
    let egress = vec![vec![of("echo"), of("also")], not_isolated(), Vec::new(), Vec::new()];
    let ingress = vec![vec![of("api-read")], local_host(), vec![of("lab-net")], not_isolated()];
    let shared = vec![
        vec![of("wide"), Origin::Implied(Implied::NotIsolated)],
        local_host(),
        Vec::new(),
        not_isolated(),
    ];
    let provenance = &mut tables.provenance;
    provenance.record(NODE01, CLIENT_ENDPOINT, Direction::Egress, Arc::from(egress.clone()));
    provenance.record(NODE01, CLIENT_ENDPOINT, Direction::Ingress, Arc::from(shared.clone()));
    provenance.record(NODE01, LOCAL_ENDPOINT, Direction::Ingress, Arc::from(shared));
    provenance.record(NODE02, ECHO_ENDPOINT, Direction::Ingress, Arc::from(ingress));
    provenance.record(NODE02, ECHO_ENDPOINT, Direction::Egress, Arc::from(egress));
}

type Listed = (EndpointId, PodId, Identity, &'static str, u32);

fn node_tables(node: NodeId, address: &str, endpoints: Vec<Listed>) -> NodeTables {
    let endpoint = |(id, pod, identity, interface, ifindex): Listed| EndpointEntry {
        id,
        endpoint: Endpoint::Pod(pod),
        identity,
        addresses: Vec::new(),
        ifindex,
        interface: interface.into(),
        mac: Mac::default(),
        host_mac: Mac::default(),
        egress: TableId(1),
        ingress: TableId(1),
    };
    let world = World::default();
    NodeTables {
        node,
        dual_stack: false,
        routing: Routing::Tunnel,
        host_routing: HostRouting::Bpf,
        tunnel: world.cluster.tunnel,
        tunnel_ifindex: 2,
        device_ifindex: 1,
        host_ifindex: 3,
        host_firewall: false,
        frontends: frontends(address),
        backend_sets: Vec::new(),
        nat: NatTables {
            masquerade: true,
            addresses: [Some(ip(address)), None],
            ports: (32_768, 65_535),
            except: Vec::new(),
        },
        prefilter: vec!["198.51.100.0/24".parse().expect("a prefix")],
        encryption: None,
        tunnel_address: ip(address),
        locals: vec![ip(address)],
        tunnels: Vec::new(),
        ipcache: ipcache(node),
        endpoints: endpoints.into_iter().map(endpoint).collect(),
        policies: vec![policy_table()],
    }
}

fn ipcache(node: NodeId) -> Vec<IpcacheEntry> {
    let entry = |number, prefix: &str, identity, target, origin| IpcacheEntry {
        prefix: prefix.parse().expect("a prefix"),
        identity,
        target,
        entry: EntryId(number),
        origin,
    };
    let echo = if node == NODE02 {
        Target::Endpoint(ECHO_ENDPOINT)
    } else {
        Target::Tunnel { remote: ip("192.168.66.221"), node: NODE02 }
    };
    vec![
        entry(1, "0.0.0.0/0", Identity::WORLD, Target::Stack, IpcacheOrigin::World),
        entry(2, "10.244.6.11/32", ECHO_IDENTITY, echo, IpcacheOrigin::Pod(ECHO)),
        entry(
            3,
            "10.9.0.0/16",
            Identity(Identity::FIRST_CIDR),
            Target::Stack,
            IpcacheOrigin::Cidr(Vec::new()),
        ),
    ]
}

fn policy_table() -> PolicyTable {
    let entry = |number, identity, protocol, port, port_bits, deny| PolicyEntry {
        key: PolicyKey { identity, protocol, port, port_bits },
        deny,
        entry: EntryId(number),
    };
    PolicyTable {
        id: TableId(1),
        entries: vec![
            entry(1, CLIENT_IDENTITY, Some(Protocol::Tcp), 8080, 16, false),
            entry(2, Identity::HOST, None, 0, 0, false),
            entry(3, Identity(Identity::FIRST_CIDR), None, 0, 0, true),
            entry(4, Identity::ANY, Some(Protocol::Tcp), 8080, 13, false),
        ],
    }
}
