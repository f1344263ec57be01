//! What reaches a node from outside and leaves it: balanced frontends, other nodes by every way, the node's own policies,
//! encryption. That what tables say arrives at the programs in both backends.

use engine::tables::{BackendEntry, BackendSet, Frontend, FrontendKind};
use engine::topology::{Balancing, Encryption, ServiceId};
use engine::trace::{Choice, Place, Rewriting};

use super::*;

const BALANCER: &str = "198.51.100.1";

/// A load balancer's address in front of pod B, at two ports.
fn balanced(change: impl FnOnce(&mut Frontend, &mut BackendSet)) -> Tables {
    let mut tables = tables(1, everything(), everything());
    let node = &mut tables.nodes[0];
    node.ipcache.push(IpcacheEntry {
        prefix: format!("{BALANCER}/32").parse().unwrap(),
        identity: Identity::WORLD_IPV4,
        target: Target::Service(ServiceId(0)),
        entry: EntryId(12),
        origin: IpcacheOrigin::Service(ServiceId(0)),
    });
    let backend =
        |port| BackendEntry { pod: PodId(1), place: Place { address: ip("10.0.0.2"), port } };
    let mut set = BackendSet { backends: vec![backend(8080), backend(8081)], maglev: Vec::new() };
    let mut frontend = Frontend {
        entry: EntryId(1),
        service: ServiceId(0),
        port_index: 0,
        kind: FrontendKind::LoadBalancer,
        place: Place { address: ip(BALANCER), port: 80 },
        protocol: Protocol::Tcp,
        internal: 0,
        external: 0,
        affinity: None,
        balancing: Balancing::Random,
        source_ranges: Vec::new(),
    };
    change(&mut frontend, &mut set);
    node.frontends = vec![frontend];
    node.backend_sets = vec![set];
    tables
}

fn client(source: &str, port: u16) -> Injection {
    from_netdev(&packet(source, BALANCER, tcp(port, 80, TcpFlags::SYN)))
}

fn chosen(said: &Said) -> Option<(u16, Choice)> {
    said.0.events.iter().find_map(|stamped| match stamped.event {
        Event::Service { backend, choice, .. } => Some((backend?.port, choice)),
        _ => None,
    })
}

#[test]
fn clients_outside_are_balanced_by_maglev_and_only_they() {
    let mut backend = backend();
    // A table with one position: whoever asks it gets the second backend.
    let tables = balanced(|frontend, set| {
        frontend.balancing = Balancing::Maglev;
        set.maglev = vec![1; abi::MAGLEV_SIZE as usize];
    });
    backend.load(&tables).unwrap();
    let mut inside = std::collections::BTreeSet::new();
    for port in 40_000..40_016 {
        let said = backend.say(&client("203.0.113.7", port));
        assert_eq!(chosen(&said), Some((8081, Choice::Maglev)), "{:?}", said.0);
        assert!(said.is_delivered_to(2), "{:?}", said.0);
        let said =
            backend.say(&from_a(&packet("10.0.0.1", BALANCER, tcp(port, 80, TcpFlags::SYN))));
        assert_eq!(chosen(&said).map(|chosen| chosen.1), Some(Choice::Random));
        inside.extend(chosen(&said).map(|chosen| chosen.0));
    }
    assert_eq!(inside.len(), 2);
}

#[test]
fn source_ranges_and_cluster_ips_turn_clients_outside_away() {
    let mut backend = backend();
    let ranges = ["203.0.113.0/24", "2001:db8::/32"].map(|range| range.parse().unwrap());
    backend.load(&balanced(|frontend, _| frontend.source_ranges = ranges.to_vec())).unwrap();
    assert_eq!(backend.say(&client("203.0.113.7", 1)).reason(), None);
    let said = backend.say(&client("203.0.114.7", 1));
    assert_eq!(said.reason(), Some(DropReason::NotInSourceRange));
    let inside = backend.say(&from_a(&packet("10.0.0.1", BALANCER, syn(80))));
    assert!(inside.is_delivered_to(2), "{:?}", inside.0);
    let mut cluster = balanced(|frontend, _| frontend.kind = FrontendKind::ClusterIp);
    cluster.generation = Generation(2);
    backend.load(&cluster).unwrap();
    let said = backend.say(&client("203.0.113.7", 2));
    assert_eq!(said.reason(), Some(DropReason::IsClusterIp));
}

#[test]
fn a_node_port_passes_on_to_the_backends_node() {
    let mut backend = backend();
    let mut tables = balanced(|frontend, set| {
        frontend.kind = FrontendKind::NodePort;
        frontend.place = Place { address: ip("192.168.0.1"), port: 30_080 };
        set.backends.truncate(1);
        set.backends[0].place = Place { address: ip("10.1.0.1"), port: 8080 };
    });
    tables.nodes[0].ipcache.pop();
    backend.load(&tables).unwrap();
    let sent = packet("203.0.113.7", "192.168.0.1", tcp(40_000, 30_080, TcpFlags::SYN));
    let said = backend.say(&from_netdev(&sent));
    let Action::Tunnel { vni, remote, .. } = said.outcome() else { panic!("{:?}", said.0) };
    assert_eq!((vni, remote), (Identity::WORLD.0, ip("192.168.0.2")));
    let rewritten = said.0.events.iter().find_map(|stamped| match stamped.event {
        Event::Rewritten { rewriting, after, .. } => Some((rewriting, after.address)),
        _ => None,
    });
    assert_eq!(rewritten, Some((Rewriting::NodePort, ip("192.168.0.1"))));
    let shown = backend.conntrack(NODE, 0).unwrap();
    assert_eq!(shown.len(), 3, "the flow, its service and its port: {shown:?}");
}

/// Native routing, the other node as such and its pods.
fn native() -> Tables {
    let mut tables = tables(1, everything(), everything());
    let node = &mut tables.nodes[0];
    node.routing = Routing::Native;
    node.host_routing = HostRouting::Bpf;
    for entry in &mut node.ipcache {
        if let Target::Tunnel { remote, node } = entry.target {
            entry.target = Target::Native { remote, node };
        }
        if entry.identity == Identity::REMOTE_NODE {
            entry.origin = IpcacheOrigin::Node(NodeId(1));
        }
    }
    tables
}

#[test]
fn pods_of_other_nodes_are_sent_to_as_they_are_under_native_routing() {
    let mut backend = backend();
    backend.load(&native()).unwrap();
    let out =
        |next_hop: Option<&str>| Action::Network { ifindex: DEVICE, next_hop: next_hop.map(ip) };
    let said = backend.say(&from_a(&packet("10.0.0.1", "10.1.0.1", syn(80))));
    assert_eq!(said.outcome(), out(Some("192.168.0.2")));
    let said = backend.say(&from_a(&packet("10.0.0.1", "8.8.8.8", syn(80))));
    assert_eq!(said.outcome(), out(None));
}

#[test]
fn encryption_is_told_with_its_mark() {
    let mut backend = backend();
    let leaving = |destination| {
        injection(Hook::ToNetdev, DEVICE, frame(&packet("10.0.0.1", destination, syn(80))))
    };
    let told = |said: &Said| {
        said.0.events.iter().find_map(|stamped| match stamped.event {
            Event::Encrypted { by, .. } => Some(by),
            _ => None,
        })
    };
    for (generation, by) in
        [(1, Encryption::Wireguard { nodes: false }), (2, Encryption::Wireguard { nodes: true })]
    {
        let mut tables = native();
        tables.generation = Generation(generation);
        tables.nodes[0].encryption = Some(by);
        backend.load(&tables).unwrap();
        assert_eq!(told(&backend.say(&leaving("10.1.0.1"))), Some(by));
        assert_eq!(told(&backend.say(&leaving("8.8.8.8"))), None);
    }
}

#[test]
fn the_nodes_own_policies_are_asked_by_its_endpoint() {
    let mut backend = backend();
    let mut tables = tables(1, everything(), everything());
    let node = &mut tables.nodes[0];
    node.host_firewall = true;
    node.policies.push(table(3, vec![allow(A, Some(Protocol::Tcp), 22, 16)]));
    node.endpoints.push(EndpointEntry {
        id: EndpointId(7),
        endpoint: Endpoint::Host(NODE),
        identity: Identity::HOST,
        addresses: vec![ip("192.168.0.1")],
        ifindex: HOST_DEVICE,
        egress: TableId(1),
        ingress: TableId(3),
        ..endpoint(7, Identity::HOST, HOST_DEVICE, ["10.0.0.7", "fd00::7"])
    });
    backend.load(&tables).unwrap();
    let asked = |said: &Said| {
        said.0.events.iter().find_map(|stamped| match stamped.event {
            Event::Policy { endpoint, direction: Direction::Ingress, entry, .. } => {
                Some((endpoint.0, entry.0))
            }
            _ => None,
        })
    };
    let said = backend.say(&from_a(&packet("10.0.0.1", "192.168.0.1", syn(22))));
    assert_eq!((said.outcome(), asked(&said)), (Action::Stack { host: true }, Some((7, 1))));
    let said = backend.say(&from_a(&packet("10.0.0.1", "192.168.0.1", syn(23))));
    assert_eq!((said.reason(), asked(&said)), (Some(DropReason::PolicyDenied), Some((7, 0))));
    let hits = backend.hits(NODE).unwrap();
    let host: Vec<_> = hits.iter().filter(|hit| hit.endpoint == EndpointId(7)).collect();
    assert_eq!(
        host.iter().map(|hit| (hit.entry.0, hit.packets)).collect::<Vec<_>>(),
        [(0, 1), (1, 1)]
    );
}
