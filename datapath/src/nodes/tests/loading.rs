//! Loading: what is refused, what stays as it was, several nodes, growth, counters, lost privileges.

use super::*;

fn probe() -> Injection {
    from_a(&packet("10.0.0.1", "10.0.0.2", syn(80)))
}

#[test]
fn what_does_not_fit_the_tables_or_a_frame_is_refused() {
    let mut backend = backend();
    let refused =
        |backend: &mut Tested, injection: &Injection, text: &str| match backend.inject(injection) {
            Err(BackendError::BadInjection(error)) => assert!(error.contains(text), "{error}"),
            other => panic!("{text}: {other:?}"),
        };
    refused(&mut backend, &probe(), "no tables are loaded");
    backend.load(&tables(1, everything(), everything())).unwrap();
    refused(&mut backend, &Injection { node: NodeId(1), ..probe() }, "no node 1");
    for length in [0, 13, LONGEST_FRAME + 1] {
        let long = Injection { frame: vec![0; length], ..probe() };
        refused(&mut backend, &long, &format!("{length} bytes"));
    }
    let key = Some(TunnelKey { vni: 1 << 24, source: ip("192.168.0.2") });
    refused(&mut backend, &Injection { tunnel: key, ..probe() }, "24 bits");
    for length in [SHORTEST_FRAME, LONGEST_FRAME] {
        assert!(backend.inject(&Injection { frame: vec![0; length], ..probe() }).is_ok());
    }
    assert!(backend.conntrack(NodeId(1), 0).is_err());
}

#[test]
fn programs_are_loaded_as_packets_come_to_them() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), everything())).unwrap();
    // Each hook by itself, on a node of its own making.
    let packet = packet("10.1.0.1", "10.0.0.2", syn(80));
    for (injection, state) in [
        (from_overlay(3000, &packet), CtState::New),
        (from_netdev(&packet), CtState::Established),
        (injection(Hook::ToContainer, PORT_B, frame(&packet)), CtState::Established),
        (probe(), CtState::New),
    ] {
        let said = backend.say(&injection);
        assert_eq!(said.state(), Some(state), "{}: one conntrack for all", injection.hook);
        assert_eq!(said.reason(), None);
    }
}

#[test]
fn tables_that_do_not_fit_are_refused_and_the_old_ones_stay() {
    let limits = Limits { targets: 6, ipcache: 16, policy: 6, ..LIMITS };
    let mut backend = backend_with(limits);
    backend.load(&tables(1, everything(), everything())).unwrap();
    assert!(backend.say(&probe()).is_delivered_to(2));
    let wide = (0..6).map(|port| allow(A, Some(Protocol::Tcp), port, 16)).collect();
    let full = backend.load(&tables(2, everything(), wide));
    let expected = BackendError::Full { map: "POLICY".to_owned(), needed: 7, capacity: 6 };
    assert_eq!(full, Err(expected));
    let mut crowded = tables(3, everything(), everything());
    crowded.nodes[0].endpoints.push(endpoint(3, B, 13, ["10.0.0.3", "fd00::3"]));
    let full = backend.load(&crowded);
    let expected = BackendError::Full { map: "TARGETS".to_owned(), needed: 7, capacity: 6 };
    assert_eq!(full, Err(expected));
    let said = backend.say(&probe());
    assert!(said.is_delivered_to(2));
    assert_eq!(said.0.events[0].generation, Generation(1));
    backend.load(&tables(4, everything(), vec![])).unwrap();
    assert_eq!(backend.say(&probe()).reason(), Some(DropReason::PolicyDenied));
}

#[test]
fn only_what_changed_is_written_and_nothing_old_is_left() {
    let mut backend = backend();
    // Both slots are filled, then each is changed: an entry goes, one comes, one changes its meaning.
    let by_port = |ports: &[u16]| {
        ports.iter().map(|port| allow(A, Some(Protocol::Tcp), *port, 16)).collect::<Vec<_>>()
    };
    for (generation, ports) in [(1, &[80, 81][..]), (2, &[80]), (3, &[82, 81]), (4, &[])] {
        backend.load(&tables(generation, everything(), by_port(ports))).unwrap();
        for port in 80..83 {
            backend.forget().unwrap();
            let said = backend.say(&from_a(&packet("10.0.0.1", "10.0.0.2", syn(port))));
            let at = ports.iter().position(|open| *open == port).map_or(0, |at| at + 1);
            let won = said.policy(Direction::Ingress).unwrap().0;
            assert_eq!(won as usize, at, "generation {generation} port {port}");
        }
    }
    // An endpoint goes, and its device with it.
    let mut fewer = tables(5, everything(), everything());
    fewer.nodes[0].endpoints.pop();
    fewer.nodes[0].ipcache.retain(|entry| entry.identity != B);
    backend.load(&fewer).unwrap();
    let said = backend.say(&from_b(&packet("10.0.0.2", "10.0.0.1", syn(80))));
    assert_eq!(said.reason(), Some(DropReason::EndpointNotReady));
    assert_eq!(backend.say(&probe()).outcome(), Action::Stack { host: false });
}

#[test]
fn nodes_have_conntrack_and_counters_of_their_own() {
    let mut backend = backend();
    let mut two = tables(1, everything(), everything());
    let mut other = node(everything(), vec![]);
    other.node = NodeId(1);
    two.nodes.push(other);
    backend.load(&two).unwrap();
    assert!(backend.say(&probe()).is_delivered_to(2));
    let there = Injection { node: NodeId(1), ..probe() };
    let said = backend.say(&there);
    assert_eq!((said.state(), said.reason()), (Some(CtState::New), Some(DropReason::PolicyDenied)));
    assert_eq!(backend.conntrack(NODE, 0).unwrap().len(), 1);
    assert!(backend.conntrack(NodeId(1), 0).unwrap().is_empty());
    let counter = |reason, direction| Counter {
        hook: Hook::FromContainer,
        reason,
        direction,
        packets: 1,
        bytes: 54,
    };
    let forwarded = [Direction::Egress, Direction::Ingress].map(|side| counter(None, side));
    assert_eq!(backend.counters(NODE).unwrap(), forwarded);
    let denied = counter(Some(DropReason::PolicyDenied), Direction::Ingress);
    assert_eq!(backend.counters(NodeId(1)).unwrap(), [denied]);
    // A node that comes to be used after a change sees the newest tables.
    two.generation = Generation(2);
    two.nodes.push(NodeTables { node: NodeId(2), ..node(everything(), everything()) });
    backend.load(&two).unwrap();
    let said = backend.say(&Injection { node: NodeId(2), ..probe() });
    assert!(said.is_delivered_to(2));
    assert_eq!(said.0.events[0].generation, Generation(2));
}

#[test]
fn a_hundred_nodes_have_room_and_one_that_was_away_remembers() {
    let mut backend = backend();
    let some = |generation, count| {
        let mut tables = tables(generation, everything(), everything());
        let other = |at| NodeTables { node: NodeId(at), ..node(everything(), everything()) };
        tables.nodes = (0..count).map(other).collect();
        tables
    };
    backend.load(&some(1, 100)).unwrap();
    for at in 0..100 {
        assert!(backend.conntrack(NodeId(at), 0).unwrap().is_empty(), "node {at}");
    }
    let last = Injection { node: NodeId(99), ..probe() };
    assert!(backend.say(&last).is_delivered_to(2));
    backend.load(&some(2, 1)).unwrap();
    assert!(backend.inject(&last).is_err());
    backend.load(&some(3, 100)).unwrap();
    let said = backend.say(&last);
    assert_eq!(said.state(), Some(CtState::Established));
    assert_eq!(said.policy(Direction::Ingress), Some((1, None, false)), "judged anew");
}

#[test]
fn a_node_that_outgrows_its_maps_keeps_what_it_remembers() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), everything())).unwrap();
    assert!(backend.say(&probe()).is_delivered_to(2));
    let mut crowded = tables(2, everything(), everything());
    for id in 3..1500_u16 {
        let (high, low) = (id / 256 + 100, id % 256);
        let (v4, v6) = (format!("10.{high}.0.{low}"), format!("fd00::{id:x}"));
        let mut more = endpoint(1, B, 100 + u32::from(id), [&v4, &v6]);
        more.id = EndpointId(id);
        crowded.nodes[0].endpoints.push(more);
    }
    backend.load(&crowded).unwrap();
    let said =
        backend.say(&from_b(&packet("10.0.0.2", "10.0.0.1", tcp(80, 40_000, TcpFlags::ACK))));
    assert_eq!(said.state(), Some(CtState::Reply));
    assert_eq!(backend.conntrack(NODE, 0).unwrap()[0].forward, (1, 54));
    assert_eq!(backend.counters(NODE).unwrap()[0].packets, 2);
    let last = injection(
        Hook::FromContainer,
        100 + 1499,
        frame(&packet("10.105.0.219", "10.0.0.1", syn(80))),
    );
    assert!(backend.say(&last).is_delivered_to(1), "the last of them is attached");
}
