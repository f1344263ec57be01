//! What leaves the cluster: whose source is translated, to what, and how answers find back.

use super::*;
use crate::question::error_about;
use crate::topology::{HostRouting, Routing};
use crate::trace::{CtState, Place};

const NODE: &str = "192.168.1.1";

type Change<'a> = &'a dyn Fn(&mut World);

fn place(address: &str, port: u16) -> Place {
    Place { address: ip(address), port }
}

fn source(judgement: &Judgement) -> Place {
    judgement.arrives.expect("it arrives").0
}

#[test]
fn pods_leave_with_their_nodes_address() {
    let off = |w: &mut World| w.cluster.masquerade.on = false;
    let except =
        |w: &mut World| w.cluster.masquerade.except = vec!["198.51.100.0/24".parse().unwrap()];
    let native = |w: &mut World| w.cluster.native_cidrs = vec!["198.51.0.0/16".parse().unwrap()];
    let routed = |w: &mut World| w.cluster.routing = Routing::Native;
    let no_address = |w: &mut World| w.nodes[0].addresses.retain(IpAddr::is_ipv6);
    let keep = |_: &mut World| ();
    let rows: [(Change<'_>, &str, &str, &str); 10] = [
        (&keep, C4, W4, NODE),
        (&keep, C6, W6, "fd00:a::1"),
        (&keep, "10.1.0.250", W4, NODE),
        (&keep, C4, "192.168.1.2", NODE),
        (&routed, C4, "192.168.1.2", C4),
        (&routed, C4, S4, C4),
        (&off, C4, W4, C4),
        (&except, C4, W4, C4),
        (&native, C4, W4, C4),
        (&no_address, C4, W4, C4),
    ];
    for (change, from, to, expected) in rows {
        let mut scene = Scene::new(PolicySet::default());
        change(&mut scene.world);
        let judgement = scene.send(&syn(from, to, 80));
        assert_eq!(source(&judgement), place(expected, 40000), "{from} to {to}");
    }
}

#[test]
fn answers_and_errors_find_back() {
    let closed = Policy { ingress: Isolation::Always, ..policy("c", "client", vec![]) };
    let mut scene = Scene::new(PolicySet::new(vec![closed]));
    scene.send(&syn(C4, W4, 80));
    let answer = scene.send(&segment(W4, NODE, (80, 40000), TcpFlags::ACK));
    assert_eq!(answer.arrives, Some((place(W4, 80), place(C4, 40000))));
    assert_eq!(ingress(&answer).state, CtState::Reply);
    let error = scene.send(&error_about(&syn(NODE, W4, 80), 3, 1));
    assert_eq!(error.arrives, Some((place(W4, 0), place(C4, 0))));
    assert_eq!(ingress(&error).state, CtState::Related);
    // What the pod's own error quotes is what its receiver has sent, too.
    let error = scene.send(&error_about(&segment(W4, C4, (80, 40000), TcpFlags::ACK), 3, 4));
    assert_eq!(error.arrives, Some((place(NODE, 0), place(W4, 0))));
    let other = scene.send(&segment(W4, NODE, (81, 40000), TcpFlags::ACK));
    assert_eq!(other.arrives, Some((place(W4, 81), place(NODE, 40000))), "for the node");
}

#[test]
fn echoes_are_told_apart_by_their_identifier() {
    let mut scene = Scene::new(PolicySet::default());
    scene.choices.sources[0] = Some(place(NODE, 40007));
    let asked = scene.send(&ping(C4, W4, 8, 0));
    assert_eq!((source(&asked), asked.illegal.len()), (place(NODE, 40007), 0));
    let rest = [0x9c, 0x47, 0, 1];
    let answer = packet(W4, NODE, Transport::Icmp { kind: 0, code: 0, rest });
    assert_eq!(scene.send(&answer).arrives.map(|ends| ends.1), Some(place(C4, 7)));
}

#[test]
fn a_port_is_kept_where_it_may_be() {
    let from = |pod, port| segment(pod, W4, (port, 80), TcpFlags::SYN);
    let mut scene = Scene::new(PolicySet::default());
    scene.send(&from(C4, 40000));
    for (packet, chosen, illegal) in [
        (from(X4, 40001), 40001, 0),
        (from(X4, 40000), 50000, 0),
        (from(L4, 40000), 40000, 1),
        (from(L4, 1000), 1000, 1),
        (from(L4, 1001), 60000, 0),
        (from(L4, 41000), 60001, 1),
    ] {
        scene.choices.sources[0] = Some(place(NODE, chosen));
        let judgement = scene.send(&packet);
        assert_eq!(judgement.illegal.len(), illegal, "{packet:?} {:?}", judgement.illegal);
    }
    scene.choices.sources[0] = None;
    let again = scene.send(&segment(X4, W4, (40000, 80), TcpFlags::ACK));
    assert_eq!(source(&again), place(NODE, 50000), "a flow keeps its port");
}

#[test]
fn the_node_itself_reserves_its_ports() {
    let mut scene = Scene::new(PolicySet::default());
    scene.send(&syn(NODE, W4, 80));
    scene.choices.sources[0] = Some(place(NODE, 40000));
    assert_eq!(scene.send(&syn(C4, W4, 80)).illegal.len(), 1);
}

#[test]
fn who_routes_counts_down() {
    for (routing, ttl, expected) in [
        (HostRouting::Bpf, 1, "ttl-exceeded"),
        (HostRouting::Bpf, 2, ALLOWED),
        (HostRouting::Stack, 1, "ttl-exceeded"),
        (HostRouting::Stack, 2, ALLOWED),
    ] {
        let mut scene = Scene::new(PolicySet::default());
        scene.world.cluster.host_routing = routing;
        let mut packet = syn(C4, W4, 80);
        packet.ip.ttl = ttl;
        assert_eq!(word(&scene.send(&packet)), expected);
    }
}

#[test]
fn native_routing_counts_on_both_nodes_and_tells_pods_by_address() {
    let mut scene = Scene::new(server(vec![allow_from("client", "")]));
    scene.world.cluster.routing = Routing::Native;
    for (ttl, expected) in [(2, "ttl-exceeded"), (3, ALLOWED)] {
        let mut packet = syn(C4, S4, 80);
        packet.ip.ttl = ttl;
        assert_eq!(word(&scene.alone(&packet)), expected);
    }
}

#[test]
fn a_flow_that_is_translated_from_now_on_finds_back() {
    let mut scene = Scene::new(PolicySet::default());
    scene.world.cluster.masquerade.on = false;
    scene.send(&syn(C4, W4, 80));
    scene.world.cluster.masquerade.on = true;
    let more = scene.send(&segment(C4, W4, (40000, 80), TcpFlags::ACK));
    assert_eq!(source(&more), place(NODE, 40000));
    let answer = scene.send(&segment(W4, NODE, (80, 40000), TcpFlags::ACK));
    assert_eq!(answer.arrives.map(|ends| ends.1), Some(place(C4, 40000)));
}

fn association(from: &str, to: &str, (source, destination): (u16, u16)) -> Packet {
    packet(from, to, Transport::Sctp { source, destination })
}

#[test]
fn sctp_keeps_its_port_or_has_none() {
    let mut scene = Scene::new(PolicySet::default());
    for (from, port, expected) in [
        (C4, 1000, ALLOWED),
        (C4, 40000, ALLOWED),
        (L4, 1000, "nat-no-mapping"),
        (L4, 40000, "nat-no-mapping"),
        (L4, 40001, ALLOWED),
    ] {
        let judgement = scene.send(&association(from, W4, (port, 80)));
        assert_eq!(word(&judgement), expected, "{from} {port}");
        if expected == ALLOWED {
            assert_eq!(source(&judgement), place(NODE, port));
        }
    }
}

#[test]
fn without_a_free_port_nothing_leaves() {
    let mut scene = Scene::new(PolicySet::default());
    scene.world.cluster.masquerade.ports = (40000, 40000);
    assert_eq!(word(&scene.send(&syn(C4, W4, 80))), ALLOWED);
    for state in [CtState::New, CtState::Established] {
        let judgement = scene.send(&syn(L4, W4, 80));
        assert_eq!(word(&judgement), "nat-no-mapping");
        assert_eq!(egress(&judgement).state, state, "its own node has let it pass");
    }
}

#[test]
fn the_node_has_no_port_that_a_pod_has() {
    let mut scene = Scene::new(PolicySet::default());
    scene.send(&syn(C4, W4, 80));
    assert_eq!(word(&scene.send(&syn(NODE, W4, 80))), "nat-no-mapping");
    assert_eq!(word(&scene.send(&syn(NODE, W4, 81))), ALLOWED);
}
