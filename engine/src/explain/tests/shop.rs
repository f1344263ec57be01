//! A world of two nodes made by hand: its policies, the tables they come to, the events that packets of
//! it give and the oracle's answers about them.

use std::net::IpAddr;
use std::sync::Arc;

use crate::eval::{Check, Judgement, Leg, Mismatch, Trial};
use crate::explain::{Context, Explanation, LegOutcome, Verdict, explain};
use crate::identity::Identity;
use crate::net::{
    Direction, FlowKey, Fragment, Hook, IpHeader, Mac, Packet, Protocol, TcpFlags, Transport,
};
use crate::policy::{self, Isolation, Namespaces, Policy, PolicySet, Rule, RuleId, Selector};
use crate::question::Question;
use crate::reason::DropReason;
use crate::source::{FileId, SourceMap, Span};
use crate::tables::{
    EndpointEntry, EndpointId, EntryId, Frontend, FrontendKind, Generation, IdentityClass, Implied,
    IpcacheEntry, IpcacheOrigin, NatTables, NodeTables, Origin, PolicyEntry, PolicyKey,
    PolicyTable, TableId, Tables, Target,
};
use crate::topology::{
    Balancing, Endpoint, HostRouting, Labels, Node, NodeId, Party, Pod, PodId, Readiness, Routing,
    Service, ServiceId, ServicePort, TargetPort, TrafficPolicy, TunnelKind, World,
};
use crate::trace::{
    Action, CtState, Event, Hop, IdentitySource, Place, PolicyOutcome, Stamped, Trace, TunnelHeader,
};

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

fn ip(text: &str) -> IpAddr {
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

/// The packet of [`asked`].
pub(super) fn syn() -> Packet {
    let transport = Transport::Tcp {
        source: 40312,
        destination: 8080,
        flags: TcpFlags::SYN,
        sequence: 1,
        acknowledgement: 0,
    };
    packet("10.244.1.154", "10.244.6.11", transport)
}

pub(super) fn packet(source: &str, destination: &str, transport: Transport) -> Packet {
    let ip = IpHeader {
        source: ip(source),
        destination: ip(destination),
        traffic_class: 0,
        ttl: 64,
        id: 0,
        dont_fragment: false,
        fragment: Fragment::default(),
        options: Vec::new(),
        extensions: Vec::new(),
    };
    Packet { ip, transport, payload: Vec::new() }
}

pub(super) fn asked() -> Question {
    Question {
        source: Party::Pod(CLIENT),
        destination: Party::Pod(ECHO),
        packet: syn(),
        with_reply: false,
        choose: None,
        known: None,
        assumed: Vec::new(),
        undetermined: Vec::new(),
    }
}

/// A frame of which only the TTL is looked at.
pub(super) fn frame(ttl: u8) -> Vec<u8> {
    let mut bytes = vec![0; 34];
    bytes[14] = 0x45;
    bytes[22] = ttl;
    bytes
}

/// A TCP frame between two places.
pub(super) fn between(source: Place, destination: Place) -> Vec<u8> {
    let mut bytes = frame(63);
    bytes[23] = 6;
    let octets = |place: Place| match place.address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    bytes[26..30].copy_from_slice(&octets(source));
    bytes[30..34].copy_from_slice(&octets(destination));
    bytes.extend(source.port.to_be_bytes());
    bytes.extend(destination.port.to_be_bytes());
    bytes
}

/// A hop of which every event belongs to [`GENERATION`].
pub(super) fn hop(node: NodeId, hook: Hook, events: Vec<Event>) -> Hop {
    let (device, ifindex) = match (hook, node) {
        (Hook::FromOverlay, _) => ("vxlan0", 2),
        (Hook::FromNetdev | Hook::ToNetdev | Hook::Prefilter, _) => ("eth0", 1),
        (Hook::FromHost | Hook::ToHost, _) => ("cilium_host", 3),
        (_, NODE01) => ("lxc_client", 101),
        _ => ("lxc_echo-0", 102),
    };
    let stamped = |event| Stamped { generation: GENERATION, hook, event };
    Hop {
        node,
        hook,
        device: device.into(),
        ifindex,
        events: events.into_iter().map(stamped).collect(),
        frame_in: frame(64),
        frame_out: frame(63),
        tunnel: None,
        undetermined: Vec::new(),
    }
}

pub(super) fn trace(hops: Vec<Hop>) -> Trace {
    Trace { backend: "kernel 6.18".into(), generation: GENERATION, hops, lost: 0 }
}

pub(super) fn parsed(protocol: Protocol, icmp: Option<(u8, u8)>) -> Event {
    let flow = FlowKey {
        source: ip("10.244.1.154"),
        destination: ip("10.244.6.11"),
        protocol,
        source_port: 0,
        destination_port: 0,
    };
    Event::Parsed {
        flow,
        flags: TcpFlags::default(),
        icmp,
        fragment: Fragment::default(),
        ttl: 64,
        length: 60,
    }
}

pub(super) fn conntrack(state: CtState) -> Event {
    Event::Conntrack { state, created: state == CtState::New, expires_in: 60, closing: false }
}

pub(super) fn source(address: &str, identity: Identity, from: IdentitySource) -> Event {
    Event::Identity { source_side: true, address: ip(address), identity, from }
}

pub(super) fn to_echo() -> Event {
    Event::Identity {
        source_side: false,
        address: ip("10.244.6.11"),
        identity: ECHO_IDENTITY,
        from: IdentitySource::Ipcache(EntryId(2)),
    }
}

pub(super) fn policy(
    endpoint: EndpointId,
    direction: Direction,
    outcome: PolicyOutcome,
    entry: u32,
) -> Event {
    Event::Policy {
        endpoint,
        direction,
        peer: if direction == Direction::Egress { ECHO_IDENTITY } else { CLIENT_IDENTITY },
        protocol: Protocol::Tcp,
        port: 8080,
        outcome,
        entry: EntryId(entry),
        other: None,
        remembered: false,
    }
}

pub(super) fn tunnel() -> Event {
    let remote = ip("192.168.66.221");
    Event::Outcome(Action::Tunnel { vni: 27634, remote, ifindex: 2, ttl: 64 })
}

pub(super) fn deliver(endpoint: EndpointId) -> Event {
    Event::Outcome(Action::Deliver { endpoint, ifindex: 0, peer: true })
}

pub(super) fn drop(reason: DropReason) -> Event {
    Event::Outcome(Action::Drop(reason))
}

/// The client's side of a packet to another node, in a conntrack state that policy is asked in.
pub(super) fn sent(state: CtState) -> Hop {
    let events = vec![
        parsed(Protocol::Tcp, None),
        conntrack(state),
        source("10.244.1.154", CLIENT_IDENTITY, IdentitySource::Endpoint),
        to_echo(),
        policy(CLIENT_ENDPOINT, Direction::Egress, PolicyOutcome::Allow, 1),
        tunnel(),
    ];
    let header = TunnelHeader {
        kind: TunnelKind::Vxlan,
        source: ip("192.168.66.226"),
        destination: ip("192.168.66.221"),
        port: 8472,
        source_port: 40000,
        vni: 27634,
        undetermined: vec!["outer IP id".into()],
    };
    Hop { tunnel: Some(header), ..hop(NODE01, Hook::FromContainer, events) }
}

/// The receiver's side, with what its policy says and what is done.
pub(super) fn received(outcome: PolicyOutcome, entry: u32, end: Event) -> Hop {
    let events = vec![
        parsed(Protocol::Tcp, None),
        conntrack(CtState::New),
        source("10.244.1.154", CLIENT_IDENTITY, IdentitySource::Vni),
        policy(ECHO_ENDPOINT, Direction::Ingress, outcome, entry),
        end,
    ];
    hop(NODE02, Hook::FromOverlay, events)
}

/// From the client to echo-0 by the tunnel, allowed on both sides.
pub(super) fn through() -> Trace {
    trace(vec![sent(CtState::New), received(PolicyOutcome::Allow, 1, deliver(ECHO_ENDPOINT))])
}

/// The same, denied by default at the receiver.
pub(super) fn refused() -> Trace {
    let end = drop(DropReason::PolicyDenied);
    trace(vec![sent(CtState::New), received(PolicyOutcome::DefaultDeny, 0, end)])
}

pub(super) fn leg(
    endpoint: PodId,
    direction: Direction,
    outcome: LegOutcome,
    matching: Vec<Origin>,
) -> Leg {
    let node = if endpoint == ECHO { NODE02 } else { NODE01 };
    let state = match outcome {
        LegOutcome::Reply => CtState::Reply,
        LegOutcome::Related => CtState::Related,
        _ => CtState::New,
    };
    Leg {
        node,
        endpoint: Endpoint::Pod(endpoint),
        direction,
        state,
        outcome,
        matching,
        isolated_by: Vec::new(),
        trials: Vec::new(),
    }
}

pub(super) fn allowed(legs: Vec<Leg>) -> Judgement {
    judged(Verdict::Allowed, None, legs)
}

pub(super) fn dropped(reason: DropReason, legs: Vec<Leg>) -> Judgement {
    judged(Verdict::Dropped, Some(reason), legs)
}

fn judged(verdict: Verdict, reason: Option<DropReason>, legs: Vec<Leg>) -> Judgement {
    Judgement { verdict, reason, legs, serving: None, arrives: None, illegal: Vec::new() }
}

/// What the oracle says about [`through`].
pub(super) fn through_judged(shop: &Shop) -> Judgement {
    let of = |name| Origin::Rule(shop.rule(name));
    allowed(vec![
        leg(CLIENT, Direction::Egress, LegOutcome::Allow, vec![of("echo"), of("also")]),
        leg(ECHO, Direction::Ingress, LegOutcome::Allow, vec![of("api-read")]),
    ])
}

/// What the oracle says about [`refused`].
pub(super) fn refused_judged(shop: &Shop) -> Judgement {
    let of = |name| Origin::Rule(shop.rule(name));
    let denied = vec![Origin::Implied(Implied::DefaultDeny)];
    dropped(
        DropReason::PolicyDenied,
        vec![
            leg(CLIENT, Direction::Egress, LegOutcome::Allow, vec![of("echo"), of("also")]),
            leg(ECHO, Direction::Ingress, LegOutcome::DefaultDeny, denied),
        ],
    )
}

/// A rule held against the packet: conditions by name, each failing one with what it wants.
pub(super) fn trial(shop: &Shop, name: &str, checks: &[(&'static str, Option<&str>)]) -> Trial {
    let rule = shop.rule(name);
    let action = shop.policies.rule(rule).map_or(policy::Action::Allow, |(_, r)| r.action);
    let check = |(name, wants): &(&'static str, Option<&str>)| Check {
        name,
        mismatch: wants.map(|wants| Mismatch {
            span: span("pods { app = \"client\" }"),
            wants: wants.to_owned(),
            is: "world".into(),
        }),
    };
    Trial { rule, action, checks: checks.iter().map(check).collect() }
}
