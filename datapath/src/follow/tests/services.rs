//! Journeys to services: node ports and back, where packets from outside enter, forced backends.

use std::net::SocketAddr;

use datapath_abi::mark;
use engine::backend::BackendError;
use engine::net::{Fragment, Hook, Protocol, Transport};
use engine::policy::{Operator, Requirement, Selector};
use engine::question::Question;
use engine::source::Span;
use engine::tables::{BackendEntry, BackendSet, EntryId, Frontend, FrontendKind, Tables};
use engine::topology::{
    Balancing, Party, PodId, Readiness, Routing, Service, ServiceId, TrafficPolicy, World,
};
use engine::trace::{Action, Ethernet, Place};

use super::journeys::{NODE01_MAC, NODE01_SELF, ROUTER_MAC, destination, native, to_node02};
use super::scene::{
    Answer, DROP, ECHO, ETH0, NEAR, NETWORK, NODE01, NODE02, OVERLAY, Scripted, address, deliver,
    hooks, over_each_family, ping, prefix, rewriting, tables, tunnel_to, world,
};
use super::{CA, CB, at, ethernet};

over_each_family! {
    a_node_port_with_its_backend_on_another_node_and_back
    the_same_under_native_routing
    services_are_entered_where_their_pods_are
    nodes_ask_services_by_their_own_device
    a_service_sends_nothing
    a_forced_backend_is_told_where_the_service_is_asked
    the_longest_journey
}

/// A service for echo, which is on node02, at 10.96.0.7 and 203.0.113.7, and a node port of every node.
fn serving() -> (World, Tables) {
    let mut world = world();
    world.pods[ECHO.index()].labels.insert("app".into(), "echo".into());
    world.services.push(Service {
        namespace: "web".into(),
        name: "echo".into(),
        cluster_ips: vec![address("10.96.0.7")],
        external_ips: vec![address("203.0.113.7")],
        load_balancer_ips: Vec::new(),
        ports: Vec::new(),
        selector: Selector {
            requirements: vec![Requirement {
                key: "app".into(),
                operator: Operator::Equals("echo".into()),
                span: Span::default(),
            }],
        },
        affinity: None,
        balancing: None,
        source_ranges: Vec::new(),
        ranges_span: Span::default(),
        internal_traffic: TrafficPolicy::Cluster,
        external_traffic: TrafficPolicy::Cluster,
        span: Span::default(),
    });
    let mut tables = tables();
    for node in &mut tables.nodes {
        let own = node.tunnel_address;
        let places = [(address("10.96.0.7"), 80), (own, 30080)];
        let kinds = [FrontendKind::ClusterIp, FrontendKind::NodePort];
        for ((address, port), kind) in places.into_iter().zip(kinds) {
            node.frontends.push(Frontend {
                entry: EntryId(u32::try_from(node.frontends.len()).unwrap() + 1),
                service: ServiceId(0),
                port_index: 0,
                kind,
                place: Place { address, port },
                protocol: Protocol::Udp,
                internal: 0,
                external: 0,
                affinity: None,
                balancing: Balancing::Random,
                source_ranges: Vec::new(),
            });
        }
        let place = Place { address: address("10.244.6.11"), port: 8080 };
        let backends = vec![BackendEntry { pod: ECHO, place }];
        node.backend_sets.push(BackendSet { backends, maglev: Vec::new() });
    }
    (world, tables)
}

fn ask(from: (Party, &str), to: (Party, &str), port: u16) -> Question {
    let mut question = ping(from, to);
    question.packet.transport = Transport::Udp { source: 40000, destination: port };
    question
}

fn a_node_port_with_its_backend_on_another_node_and_back() {
    let (world, tables) = serving();
    let client = at("198.51.100.9");
    let translated = rewriting(
        Action::Tunnel { vni: 2, remote: address("192.168.66.221"), ifindex: OVERLAY, ttl: 64 },
        Some("192.168.66.226"),
        Some("10.244.6.11"),
    );
    let mut script = Scripted::new([translated, deliver(1).into()]);
    let question = ask(client, (Party::Node(NODE01), "192.168.66.226"), 30080);
    let trace = script.follow_in(&world, &tables, &question).unwrap();
    assert_eq!(hooks(&trace), [(NODE01, Hook::FromNetdev), (NODE02, Hook::FromOverlay)]);
    assert_eq!(script.seen[1].tunnel.map(|key| key.vni), Some(2));
    assert_eq!(destination(&trace.hops[1].frame_in), address("10.244.6.11"));

    let back = rewriting(NETWORK, Some("192.168.66.226"), Some("198.51.100.9"));
    let back = Answer { mark: mark::TRANSLATED, ..back };
    let mut script =
        Scripted::new([NETWORK.into(), Action::Pass.into(), back, Action::Pass.into()]);
    let trace = script.follow_in(&world, &tables, &ping(CB, at("192.168.66.226"))).unwrap();
    assert_eq!(
        hooks(&trace),
        [
            (NODE02, Hook::FromContainer),
            (NODE02, Hook::ToNetdev),
            (NODE01, Hook::FromNetdev),
            (NODE01, Hook::ToNetdev),
        ]
    );
    assert!(trace.has_left());
    assert_eq!(script.seen[3].mark, mark::TRANSLATED);
    assert_eq!(destination(&trace.hops[3].frame_out), address("198.51.100.9"));
    let out = Ethernet { source: NODE01_MAC, destination: ROUTER_MAC };
    assert_eq!(ethernet(&trace.hops[3].frame_in), out);
}

fn the_same_under_native_routing() {
    let (world, mut tables) = serving();
    tables.nodes.iter_mut().for_each(|node| node.routing = Routing::Native);
    let translated = rewriting(to_node02(), Some("192.168.66.226"), Some("10.244.6.11"));
    let mut script = Scripted::new([translated, Action::Pass.into(), deliver(1).into()]);
    let question = ask(at("198.51.100.9"), at("192.168.66.226"), 30080);
    let trace = script.follow_in(&world, &tables, &question).unwrap();
    let expected =
        [(NODE01, Hook::FromNetdev), (NODE01, Hook::ToNetdev), (NODE02, Hook::FromNetdev)];
    assert_eq!(hooks(&trace), expected);
}

fn services_are_entered_where_their_pods_are() {
    let (mut world, tables) = serving();
    let outside = at("198.51.100.9");
    let enters = |world: &World, to: Party| {
        let question = ask(outside, (to, "203.0.113.7"), 80);
        hooks(&Scripted::new([DROP]).follow_in(world, &tables, &question).unwrap())
    };
    let service = Party::Service(ServiceId(0));
    assert_eq!(enters(&world, service), [(NODE02, Hook::FromNetdev)]);
    assert_eq!(enters(&world, at("203.0.113.7").0), [(NODE02, Hook::FromNetdev)]);
    assert_eq!(enters(&world, Party::Node(NODE01)), [(NODE01, Hook::FromNetdev)]);
    world.pods[ECHO.index()].readiness = Readiness::NotReady;
    assert_eq!(enters(&world, service), [(NODE01, Hook::FromNetdev)], "nobody: the first node");
}

fn nodes_ask_services_by_their_own_device() {
    let (world, tables) = serving();
    let translated = rewriting(tunnel_to("192.168.66.221"), None, Some("10.244.6.11"));
    let mut script = Scripted::new([translated, deliver(1).into()]);
    let question = ask(NODE01_SELF, at("10.96.0.7"), 80);
    let trace = script.follow_in(&world, &tables, &question).unwrap();
    assert_eq!(hooks(&trace), [(NODE01, Hook::FromHost), (NODE02, Hook::FromOverlay)]);

    // Its own node port is a service, its other ports are its own business.
    let own = |port| {
        let question = ask(NODE01_SELF, NODE01_SELF, port);
        Scripted::new([DROP]).follow_in(&world, &tables, &question)
    };
    assert_eq!(hooks(&own(30080).unwrap()), [(NODE01, Hook::FromHost)]);
    assert!(matches!(own(30081), Err(BackendError::BadInjection(_))));
}

fn a_service_sends_nothing() {
    let (world, tables) = serving();
    let question = ask((Party::Service(ServiceId(0)), "10.96.0.7"), CA, 80);
    let refused = Scripted::new([DROP; 0]).follow_in(&world, &tables, &question).unwrap_err();
    let text = "the packet cannot enter: a service sends nothing itself: ask for one of its pods";
    assert_eq!(refused.to_string(), text);
}

fn a_forced_backend_is_told_where_the_service_is_asked() {
    let (world, tables) = serving();
    let mut question = ask(CA, at("10.96.0.7"), 80);
    question.choose = Some(ECHO);
    let translated = rewriting(tunnel_to("192.168.66.221"), None, Some("10.244.6.11"));
    let mut script = Scripted::new([translated, deliver(1).into()]);
    script.follow_in(&world, &tables, &question).unwrap();
    let chosen: Vec<_> = script.seen.iter().map(|injection| injection.choose).collect();
    let place = Place { address: address("10.244.6.11"), port: 8080 };
    assert_eq!(chosen, [Some(place), None]);

    // A first fragment has the port, a later one asks by what was remembered of the first.
    for (offset, forced) in [(0, Some(place)), (8, None)] {
        question.packet.ip.fragment = Fragment { offset, more: true };
        let mut script = Scripted::new([DROP]);
        script.follow_in(&world, &tables, &question).unwrap();
        assert_eq!(script.seen[0].choose, forced);
    }
    question.packet.ip.fragment = Fragment::default();

    question.choose = Some(NEAR);
    let refused = Scripted::new([DROP; 0]).follow_in(&world, &tables, &question).unwrap_err();
    let asked = SocketAddr::new(address("10.96.0.7"), 80);
    let text = format!("the packet cannot enter: web/near is no backend of {asked} on node01");
    assert_eq!(refused.to_string(), text);
    question.choose = Some(PodId(9));
    assert!(Scripted::new([DROP; 0]).follow_in(&world, &tables, &question).is_err());
}

fn the_longest_journey() {
    let mut tables = native();
    for node in &mut tables.nodes {
        node.prefilter.push(prefix("198.51.100.0/24"));
    }
    // To a node port of the other node, whose backend is at home.
    let passed = || Answer::from(Action::Pass);
    let back = Action::Network { ifindex: ETH0, next_hop: Some(address("192.168.66.226")) };
    let back = rewriting(back, Some("192.168.66.221"), Some("10.244.1.4"));
    let answers = [passed(), passed(), back, passed(), passed(), deliver(2).into()];
    let question = ask(NODE01_SELF, at("192.168.66.221"), 30080);
    let trace = Scripted::new(answers).follow_in(&world(), &tables, &question).unwrap();
    assert_eq!(
        hooks(&trace),
        [
            (NODE01, Hook::ToNetdev),
            (NODE02, Hook::Prefilter),
            (NODE02, Hook::FromNetdev),
            (NODE02, Hook::ToNetdev),
            (NODE01, Hook::Prefilter),
            (NODE01, Hook::FromNetdev),
        ]
    );
}
