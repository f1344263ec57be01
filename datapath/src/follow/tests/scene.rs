//! A small world with its tables, and a backend that answers by script instead of running programs.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};

use engine::backend::{Backend, BackendError, Injection, Observation};
use engine::identity::Identity;
use engine::net::{Fragment, Hook, IpHeader, Mac, Packet, Transport};
use engine::question::Question;
use engine::reason::DropReason;
use engine::source::Span;
use engine::tables::{
    EndpointEntry, EndpointId, EntryId, Generation, IpcacheEntry, IpcacheOrigin, NatTables,
    NodeTables, TableId, Tables, Target,
};
use engine::topology::{
    Endpoint, HostRouting, Labels, Node, NodeId, Party, Pod, PodId, Readiness, Routing, Tunnel,
    TunnelKind, World,
};
use engine::trace::{Action, ConntrackEntry, Counter, Ethernet, Event, Hit, Stamped, Trace};

use ipnet::IpNet;

use crate::follow::follow;
use crate::frame;

pub(super) const NODE01: NodeId = NodeId(0);
pub(super) const NODE02: NodeId = NodeId(1);
/// On node01, with pinned Ethernet addresses.
pub(super) const CLIENT: PodId = PodId(0);
/// On node01.
pub(super) const NEAR: PodId = PodId(1);
/// On node02.
pub(super) const ECHO: PodId = PodId(2);
/// On node01, in the host network.
pub(super) const AGENT: PodId = PodId(3);
pub(super) const OVERLAY: u32 = 6;
pub(super) const ETH0: u32 = 2;
pub(super) const HOST_IFINDEX: u32 = 5;

thread_local! {
    /// Whether the scene is one of IPv6 on this thread, the underlay included.
    static SIX: Cell<bool> = const { Cell::new(false) };
}

/// Plays a journey in a scene of IPv6.
pub(super) fn in_ipv6(journey: fn()) {
    SIX.set(true);
    journey();
}

/// Tests that play the same journeys over either family.
macro_rules! over_each_family {
    ($($journey:ident)*) => {
        mod over_ipv4 {
            $(#[test]
            fn $journey() {
                super::$journey();
            })*
        }
        mod over_ipv6 {
            $(#[test]
            fn $journey() {
                $crate::follow::tests::scene::in_ipv6(super::$journey);
            })*
        }
    };
}
pub(super) use over_each_family;

/// An address as the scene has it: what is one of IPv4 stands for the one of IPv6 that ends with it.
pub(super) fn address(text: &str) -> IpAddr {
    match text.parse().unwrap() {
        IpAddr::V4(four) if SIX.get() => {
            let [a, b, c, d] = four.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            Ipv6Addr::new(0xFD00, 0, 0, 0, 0, 0, high, low).into()
        }
        address => address,
    }
}

/// The same for a prefix.
pub(super) fn prefix(text: &str) -> IpNet {
    let (from, length) = text.split_once('/').unwrap();
    let length: u8 = length.parse().unwrap();
    let length = if SIX.get() { 96 + length } else { length };
    IpNet::new(address(from), length).unwrap()
}

fn node(name: &str, ip: &str, pods: &str) -> Node {
    Node {
        name: name.into(),
        addresses: vec![address(ip)],
        pod_cidrs: vec![prefix(pods)],
        locals: Vec::new(),
        device: "eth0".into(),
        mac: None,
        labels: Labels::new(),
        health: Vec::new(),
        span: Span::default(),
    }
}

fn pod(name: &str, node: NodeId, ip: &str) -> Pod {
    Pod {
        namespace: "web".into(),
        name: name.into(),
        node,
        addresses: vec![address(ip)],
        labels: Labels::new(),
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

pub(super) const CLIENT_MAC: Mac = Mac([0x02, 0x16, 0x7A, 0x1D, 0x0C, 0x7E]);
pub(super) const CLIENT_HOST_MAC: Mac = Mac([0xF2, 0x19, 0xFC, 0x0E, 0x0A, 0x8C]);

pub(super) fn world() -> World {
    let mut client = pod("client", NODE01, "10.244.1.154");
    client.mac = Some(CLIENT_MAC);
    client.host_mac = Some(CLIENT_HOST_MAC);
    let mut agent = pod("agent", NODE01, "192.168.66.226");
    agent.host_network = true;
    let mut nodes = vec![
        node("node01", "192.168.66.226", "10.244.1.0/24"),
        node("node02", "192.168.66.221", "10.244.6.0/24"),
    ];
    nodes[0].health.push(address("10.244.1.200"));
    World {
        nodes,
        pods: vec![
            client,
            pod("near", NODE01, "10.244.1.4"),
            pod("echo", NODE02, "10.244.6.11"),
            agent,
        ],
        ..World::default()
    }
}

fn endpoint(id: u16, endpoint: Endpoint, ip: &str, (mac, host_mac): (Mac, Mac)) -> EndpointEntry {
    EndpointEntry {
        id: EndpointId(id),
        endpoint,
        identity: Identity(27634),
        addresses: vec![address(ip)],
        ifindex: u32::from(id) * 10,
        interface: format!("lxc{id}"),
        mac,
        host_mac,
        egress: TableId(1),
        ingress: TableId(1),
    }
}

fn node_tables(node: NodeId, ip: &str, endpoints: Vec<EndpointEntry>) -> NodeTables {
    NodeTables {
        node,
        dual_stack: false,
        routing: Routing::Tunnel,
        host_routing: HostRouting::Bpf,
        tunnel: Tunnel { kind: TunnelKind::Vxlan, port: 8472, device: "cilium_vxlan".into() },
        tunnel_ifindex: OVERLAY,
        device_ifindex: ETH0,
        host_ifindex: HOST_IFINDEX,
        host_firewall: false,
        frontends: Vec::new(),
        backend_sets: Vec::new(),
        nat: NatTables {
            masquerade: true,
            addresses: if SIX.get() {
                [None, Some(address(ip))]
            } else {
                [Some(address(ip)), None]
            },
            ports: (32768, 65535),
            except: Vec::new(),
        },
        prefilter: Vec::new(),
        encryption: None,
        tunnel_address: address(ip),
        locals: vec![address(ip)],
        tunnels: Vec::new(),
        ipcache: Vec::new(),
        endpoints,
        policies: Vec::new(),
    }
}

pub(super) fn tables() -> Tables {
    let made_up = |n| (Mac([2, 0, 0, 0, n, 1]), Mac([2, 0, 0, 0, n, 2]));
    let client = endpoint(1, Endpoint::Pod(CLIENT), "10.244.1.154", (CLIENT_MAC, CLIENT_HOST_MAC));
    let near = endpoint(2, Endpoint::Pod(NEAR), "10.244.1.4", made_up(2));
    let health = endpoint(3, Endpoint::Health(NODE01), "10.244.1.200", made_up(4));
    let echo = endpoint(1, Endpoint::Pod(ECHO), "10.244.6.11", made_up(3));
    let beyond = IpcacheEntry {
        prefix: "10.244.6.0/24".parse().unwrap(),
        identity: Identity::WORLD,
        target: Target::Tunnel { node: NODE02, remote: address("192.168.66.221") },
        entry: EntryId(1),
        origin: IpcacheOrigin::PodPrefix(NODE02),
    };
    let node01 = node_tables(NODE01, "192.168.66.226", vec![client, near, health]);
    Tables {
        generation: Generation(7),
        nodes: vec![
            NodeTables { ipcache: vec![beyond], ..node01 },
            node_tables(NODE02, "192.168.66.221", vec![echo]),
        ],
        ..Tables::default()
    }
}

/// The captured ping, between two parties and their addresses.
pub(super) fn ping((source, from): (Party, &str), (destination, to): (Party, &str)) -> Question {
    let ip = IpHeader {
        source: address(from),
        destination: address(to),
        traffic_class: 0,
        ttl: 64,
        id: 35369,
        flow_label: 0,
        dont_fragment: true,
        fragment: Fragment::default(),
        options: Vec::new(),
        extensions: Vec::new(),
    };
    let kind = if SIX.get() { 128 } else { 8 };
    let transport = Transport::Icmp { kind, code: 0, rest: [0x01, 0xF6, 0x07, 0x56] };
    Question {
        source,
        destination,
        packet: Packet { ip, transport, payload: (0..56).collect() },
        with_reply: false,
        choose: None,
        known: None,
        assumed: Vec::new(),
        undetermined: vec!["echo payload".into()],
    }
}

/// What the backend answers to one injection.
pub(super) struct Answer {
    pub(super) action: Option<Action>,
    /// `None`: the one that fits.
    pub(super) code: Option<i32>,
    pub(super) lost: u64,
    pub(super) mark: u32,
    pub(super) generation: Generation,
    /// Addresses that the program writes into the frame: source, destination.
    pub(super) rewrites: (Option<&'static str>, Option<&'static str>),
}

impl From<Action> for Answer {
    fn from(action: Action) -> Self {
        let generation = Generation(7);
        Self {
            action: Some(action),
            code: None,
            lost: 0,
            mark: 0,
            generation,
            rewrites: (None, None),
        }
    }
}

/// The code that fits an action.
fn code(hook: Hook, action: Option<Action>) -> i32 {
    match (hook, action) {
        (_, Some(Action::Drop(_))) => 2,
        (_, Some(Action::Deliver { .. } | Action::Tunnel { .. } | Action::Network { .. })) => 7,
        (_, Some(Action::Stack { .. } | Action::Pass) | None) => 0,
    }
}

/// An answer that writes addresses.
pub(super) fn rewriting(
    action: Action,
    source: Option<&'static str>,
    destination: Option<&'static str>,
) -> Answer {
    Answer { rewrites: (source, destination), ..action.into() }
}

pub(super) const NETWORK: Action = Action::Network { ifindex: ETH0, next_hop: None };
pub(super) const STACK: Action = Action::Stack { host: false };
pub(super) const HOST: Action = Action::Stack { host: true };

pub(super) fn deliver(endpoint: u16) -> Action {
    let endpoint = EndpointId(endpoint);
    Action::Deliver { endpoint, ifindex: u32::from(endpoint.0) * 10, peer: true }
}

pub(super) fn tunnel_to(remote: &str) -> Action {
    Action::Tunnel { vni: 27634, remote: address(remote), ifindex: OVERLAY, ttl: 64 }
}

pub(super) const DROP: Action = Action::Drop(DropReason::PolicyDenied);

pub(super) struct Scripted {
    answers: VecDeque<Answer>,
    pub(super) seen: Vec<Injection>,
}

impl Scripted {
    pub(super) fn new(answers: impl IntoIterator<Item = impl Into<Answer>>) -> Self {
        let answers = answers.into_iter().map(Into::into).collect();
        Self { answers, seen: Vec::new() }
    }

    /// Follows a question through the scene; every answer must have been asked for.
    pub(super) fn follow(&mut self, question: &Question) -> Result<Trace, BackendError> {
        self.follow_in(&world(), &tables(), question)
    }

    /// The same in another scene.
    pub(super) fn follow_in(
        &mut self,
        world: &World,
        tables: &Tables,
        question: &Question,
    ) -> Result<Trace, BackendError> {
        let trace = follow(self, world, tables, question, 3);
        assert!(trace.is_err() || self.answers.is_empty(), "the journey ended early");
        trace
    }
}

impl Backend for Scripted {
    fn name(&self) -> String {
        "script 1".into()
    }

    fn load(&mut self, _: &Tables) -> Result<(), BackendError> {
        Ok(())
    }

    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        self.seen.push(injection.clone());
        let answer = self.answers.pop_front().expect("a hop that the script does not have");
        let event = |action| Stamped {
            generation: answer.generation,
            hook: injection.hook,
            event: Event::Outcome(action),
        };
        Ok(Observation {
            code: answer.code.unwrap_or_else(|| code(injection.hook, answer.action)),
            events: answer.action.map(event).into_iter().collect(),
            lost: answer.lost,
            frame: frame_after(injection, &answer),
            mark: answer.mark,
            live: None,
        })
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn conntrack(&mut self, _: NodeId, _: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        Ok(Vec::new())
    }

    fn hits(&mut self, _: NodeId) -> Result<Vec<Hit>, BackendError> {
        Ok(Vec::new())
    }

    fn counters(&mut self, _: NodeId) -> Result<Vec<Counter>, BackendError> {
        Ok(Vec::new())
    }
}

/// A delivering program writes Ethernet addresses; it and one that routes count the TTL down. (Checksums are not looked
/// at here.)
fn frame_after(injection: &Injection, answer: &Answer) -> Vec<u8> {
    let mut frame = injection.frame.clone();
    let tables = tables();
    let here = tables.node(injection.node).unwrap();
    match answer.action {
        Some(Action::Deliver { endpoint, .. }) => {
            if let Some(entry) = here.endpoint(endpoint) {
                let ethernet = Ethernet { source: entry.host_mac, destination: entry.mac };
                frame::readdress(&mut frame, ethernet);
            }
            frame::count_down(&mut frame);
        }
        Some(Action::Network { .. }) => {
            frame::count_down(&mut frame);
        }
        _ => {}
    }
    let (source, destination) = answer.rewrites;
    for (written, four, sixth) in [(source, 26, 22), (destination, 30, 38)] {
        match written.map(address) {
            Some(IpAddr::V4(ip)) => frame[four..four + 4].copy_from_slice(&ip.octets()),
            Some(IpAddr::V6(ip)) => frame[sixth..sixth + 16].copy_from_slice(&ip.octets()),
            None => {}
        }
    }
    frame
}

/// Node, hook, device and index of each hop.
pub(super) fn path(trace: &Trace) -> Vec<(NodeId, Hook, &str, u32)> {
    trace.hops.iter().map(|hop| (hop.node, hop.hook, hop.device.as_str(), hop.ifindex)).collect()
}

/// Node and hook of each hop.
pub(super) fn hooks(trace: &Trace) -> Vec<(NodeId, Hook)> {
    trace.hops.iter().map(|hop| (hop.node, hop.hook)).collect()
}
