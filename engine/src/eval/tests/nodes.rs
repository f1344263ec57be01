//! Nodes and health endpoints as subjects and peers, and the prefilter.

use super::*;
use crate::eval::Memory;
use crate::net::FlowKey;
use crate::topology::ServiceId;
use crate::trace::CtState;

const N1: &str = "192.168.1.1";
const N2: &str = "192.168.1.2";
const H1: &str = "10.1.0.250";

/// A policy about the second node.
fn host(rules: Vec<Rule>) -> PolicySet {
    let subject = Selector { requirements: vec![equals("node", "node02")] };
    let subject_kind = SubjectKind::Nodes;
    PolicySet::new(vec![Policy { subject_kind, subject, ..clusterwide("host", "", rules) }])
}

#[test]
fn host_policies_count_with_the_host_firewall_only() {
    let rules = vec![allow_from("client/shop", "22/tcp"), allow_from("@world", "443/tcp")];
    for (on, from, to, port, expected) in [
        (true, W4, N2, 443, ALLOWED),
        (true, W4, N2, 22, DENIED),
        (false, W4, N2, 22, ALLOWED),
        (true, W4, N1, 22, ALLOWED),
        (true, N1, N2, 22, DENIED),
        // The pod leaves its node with the node's address, so that nobody knows it there.
        (true, C4, N2, 22, DENIED),
        (true, V4, N2, 80, DENIED),
        (true, V4, N2, 443, DENIED),
        // What is encapsulated comes from a node, too.
        (true, C4, S4, 80, DENIED),
        (false, C4, S4, 80, ALLOWED),
        (true, W4, S4, 80, ALLOWED),
    ] {
        let mut scene = Scene::new(host(rules.clone()));
        scene.world.cluster.host_firewall = on;
        let judgement = scene.send(&syn(from, to, port));
        assert_eq!(word(&judgement), expected, "{on} {from} {to} {port}");
        let asked = judgement.legs.iter().any(|leg| matches!(leg.endpoint, Endpoint::Host(_)));
        assert!(!asked || on);
    }
}

#[test]
fn what_a_node_sends_is_its_egress() {
    for (rules, to, expected) in [
        (vec![allow_to("server/*", "")], W4, DENIED),
        (vec![allow_to("server/*", "")], S4, ALLOWED),
        (vec![allow_to("server/*", "")], N2, ALLOWED),
        (vec![allow_to("server/*", "")], C4, DENIED),
        (vec![allow_to("@remote-node", "")], N1, ALLOWED),
    ] {
        let mut scene = Scene::new(host(rules));
        scene.world.cluster.host_firewall = true;
        let judgement = scene.send_from(Party::Node(NODE2), &syn(N2, to, 80));
        assert_eq!(word(&judgement), expected, "{to}");
    }
}

#[test]
fn answers_of_a_node_skip_its_policies() {
    let mut scene = Scene::new(host(vec![allow_from("@world", ""), allow_to("none", "")]));
    scene.world.cluster.host_firewall = true;
    let answer = segment(N2, W4, (80, 40000), TcpFlags::ACK);
    assert_eq!(word(&scene.alone(&answer)), DENIED);
    scene.send(&syn(W4, N2, 80));
    assert_eq!(word(&scene.send(&answer)), ALLOWED);
}

#[test]
fn each_flow_in_the_tunnel_is_one_of_the_tunnel() {
    let mut scene = Scene::new(host(vec![allow_from("@remote-node", "8472/udp")]));
    scene.world.cluster.host_firewall = true;
    scene.world.nodes[0].labels = labels(&[("node", "node02")]);
    let mut state = |packet: &Packet| {
        let judgement = scene.send(packet);
        assert_eq!(word(&judgement), ALLOWED);
        let mut legs = judgement.legs.iter();
        legs.find(|leg| matches!(leg.endpoint, Endpoint::Host(_))).map(|leg| leg.state)
    };
    let answer = segment(S4, C4, (80, 40000), TcpFlags::ACK);
    for (packet, expected) in [
        (syn(C4, S4, 80), CtState::New),
        (syn(C4, S4, 80), CtState::Established),
        (answer, CtState::New),
        (syn(C4, S4, 81), CtState::New),
    ] {
        assert_eq!(state(&packet), Some(expected), "{packet:?}");
    }
}

#[test]
fn the_senders_node_is_not_asked_about_what_it_encapsulates() {
    let mut scene = Scene::new(host(vec![allow_to("none", "")]));
    scene.world.cluster.host_firewall = true;
    let judgement = scene.send(&syn(S4, C4, 80));
    assert_eq!(word(&judgement), ALLOWED);
    assert!(judgement.legs.iter().all(|leg| leg.endpoint != Endpoint::Host(NODE2)));
    let own = scene.send_from(Party::Node(NODE2), &syn(N2, C4, 80));
    assert_eq!(word(&own), DENIED, "what it sends itself is");
}

#[test]
fn what_came_by_the_tunnel_is_answered_by_it() {
    use crate::topology::Routing::{Native, Tunnel};
    let answer = segment(S4, N1, (80, 40000), TcpFlags::ACK);
    for (routing, filter, ttl, expected) in [
        (Tunnel, "10.2.0.0/16", 1, ALLOWED),
        (Tunnel, "192.168.1.2/32", 64, "prefiltered"),
        (Native, "10.3.0.0/16", 1, "ttl-exceeded"),
        (Native, "10.2.0.0/16", 64, "prefiltered"),
    ] {
        let mut scene = Scene::new(PolicySet::default());
        scene.world.cluster.routing = routing;
        scene.send(&syn(N1, S4, 80));
        scene.world.cluster.prefilter = vec![filter.parse().expect("a prefix")];
        let mut answer = answer.clone();
        answer.ip.ttl = ttl;
        let judgement = scene.send(&answer);
        assert_eq!(word(&judgement), expected, "{filter} {ttl}");
        if expected == ALLOWED {
            let ends = judgement.arrives.expect("it arrives");
            assert_eq!((ends.0.address, ends.0.port), (ip(S4), 80), "and keeps its source");
        }
    }
    // Who opens a flow to a node itself has nothing to answer.
    let mut scene = Scene::new(PolicySet::default());
    scene.world.cluster.prefilter = vec!["192.168.1.2/32".parse().expect("a prefix")];
    let own = scene.send(&syn(S4, N1, 80));
    assert_eq!(word(&own), "prefiltered", "it leaves with its node's address");
}

#[test]
fn answers_by_the_tunnel_meet_host_policies_twice() {
    let subject_kind = SubjectKind::Nodes;
    let rules = vec![allow_from("@remote-node", "8472/udp")];
    let policies = PolicySet::new(vec![Policy { subject_kind, ..clusterwide("h", "", rules) }]);
    let mut scene = Scene::new(policies);
    scene.world.cluster.host_firewall = true;
    scene.send(&syn(N1, S4, 80));
    let judgement = scene.send(&segment(S4, N1, (80, 40000), TcpFlags::ACK));
    assert_eq!(word(&judgement), ALLOWED);
    let asked = judgement.legs.iter().filter(|leg| leg.endpoint == Endpoint::Host(NODE1));
    let outcomes: Vec<_> = asked.map(|leg| (leg.state, leg.outcome)).collect();
    let outer = (CtState::New, LegOutcome::Allow);
    assert_eq!(outcomes, [outer, (CtState::Reply, LegOutcome::Reply)]);
}

#[test]
fn a_service_has_what_nodes_only_list() {
    let mut world = world();
    let (shared, gateway) = (ip("10.96.0.1"), ip("10.1.0.1"));
    assert_eq!(world.owner(shared), Some(Party::Node(NODE1)));
    let mut scene = super::services::scene(super::services::service(), PolicySet::default());
    scene.world.services[0].cluster_ips = vec![shared];
    scene.world.services[0].external_ips = vec![ip(N1)];
    world.services = scene.world.services.clone();
    assert_eq!(world.owner(shared), Some(Party::Service(ServiceId(0))));
    assert_eq!(world.owner(gateway), Some(Party::Node(NODE1)));
    assert_eq!(world.owner(ip(N1)), Some(Party::Node(NODE1)), "an own address stays the node's");
    let judgement = scene.send(&syn(C4, "10.96.0.1", 81));
    assert_eq!(word(&judgement), "no-service");
    let judgement = scene.send(&syn(C4, "10.1.0.1", 81));
    assert_eq!(word(&judgement), ALLOWED);
}

#[test]
fn a_health_endpoint_is_a_peer_and_never_isolated() {
    let rules = vec![allow_from("@health", "80/tcp"), allow_from("@cluster", "81/tcp")];
    let everybody = clusterwide("all", "", vec![allow_from("none", "")]);
    let mut scene = Scene::new(PolicySet::new(vec![policy("s", "server", rules), everybody]));
    for (from, to, port, expected) in [
        (H1, S4, 80, ALLOWED),
        (H1, S4, 81, ALLOWED),
        (H1, S4, 82, DENIED),
        (C4, S4, 80, DENIED),
        (S4, H1, 80, ALLOWED),
        (W4, H1, 80, ALLOWED),
    ] {
        let judgement = scene.alone(&syn(from, to, port));
        assert_eq!(word(&judgement), expected, "{from} {to}");
    }
    let judgement = scene.alone(&syn(W4, H1, 80));
    assert_eq!(ingress(&judgement).endpoint, Endpoint::Health(NODE1));
    assert_eq!(ingress(&judgement).outcome, LegOutcome::NotIsolated);
}

#[test]
fn the_prefilter_comes_before_anything() {
    let listed = "prefiltered";
    for (net, from, to, expected) in [
        ("198.51.100.0/24", W4, S4, listed),
        ("198.51.100.0/24", W4, N1, listed),
        ("198.51.100.0/24", C4, S4, ALLOWED),
        ("192.168.1.1/32", C4, S4, listed),
        ("192.168.1.1/32", C4, L4, ALLOWED),
        ("192.168.1.1/32", N1, N2, listed),
        ("10.1.0.0/16", C4, S4, ALLOWED),
    ] {
        let mut scene = Scene::new(PolicySet::default());
        scene.world.cluster.prefilter = vec![net.parse().expect("a prefix")];
        assert_eq!(word(&scene.send(&syn(from, to, 80))), expected, "{net} {from} {to}");
        let mut spent = syn(from, to, 80);
        spent.ip.ttl = 1;
        scene.memory = Memory::default();
        if from == W4 {
            assert_eq!(word(&scene.send(&spent)), listed);
        }
    }
}

/// It is translated where it connects (CILIUM-DATAPATH A6), so that it never passes a program that would ask.
#[test]
fn a_node_that_reaches_itself_by_a_service_is_not_asked() {
    for to in ["@host", "server/*"] {
        let mut scene = services::scene(services::service(), host(vec![allow_to(to, "")]));
        scene.world.cluster.host_firewall = true;
        let second = scene.world.nodes[1].addresses.clone();
        (scene.world.pods[5].node, scene.world.pods[5].addresses) = (NODE2, second);
        for pod in &mut scene.world.pods {
            pod.labels = labels(&[("app", if pod.host_network { "server" } else { "other" })]);
        }
        let sent = scene.send_from(Party::Node(NODE2), &syn(N2, "10.96.0.80", 80));
        assert_eq!(word(&sent), ALLOWED, "{to}");
    }
}

#[test]
fn what_another_node_sends_by_the_tunnel_is_another_flow_of_it() {
    let mut scene = Scene::new(PolicySet::default());
    scene.world.cluster.host_firewall = true;
    scene.world.nodes.push(node("node03", 3));
    let sent = syn(C4, "10.2.0.250", 80);
    for (by, state) in [
        (Party::Address(ip(C4)), CtState::New),
        (Party::Address(ip(C4)), CtState::Established),
        (Party::Node(NodeId(2)), CtState::New),
    ] {
        assert_eq!(ingress(&scene.send_from(by, &sent)).state, state, "{by:?}");
    }
}

#[test]
fn flows_of_the_tunnel_are_forgotten_like_others_and_may_share_a_port() {
    let subject_kind = SubjectKind::Nodes;
    let rules = vec![allow_from("@remote-node", "8472/udp")];
    let policies = PolicySet::new(vec![Policy { subject_kind, ..clusterwide("h", "", rules) }]);
    let mut scene = Scene::new(policies);
    scene.world.cluster.host_firewall = true;
    let outer = |judgement: &Judgement| {
        let of_node = |leg: &&Leg| leg.endpoint == Endpoint::Host(NODE2);
        judgement.legs.iter().find(of_node).map(|leg| leg.state)
    };
    let send = |scene: &mut Scene, port: u16, from_port: u16| {
        scene.choices.tunnel_ports = [Some(port), None, None];
        let mut packet = syn(C4, S4, 80);
        if let Transport::Tcp { source, .. } = &mut packet.transport {
            *source = from_port;
        }
        outer(&scene.send(&packet))
    };
    assert_eq!(send(&mut scene, 50000, 1000), Some(CtState::New));
    assert_eq!(send(&mut scene, 50000, 1000), Some(CtState::Established));
    // Another one inside has the same hash.
    assert_eq!(send(&mut scene, 50000, 1001), Some(CtState::Established));
    assert_eq!(send(&mut scene, 50001, 1002), Some(CtState::New));
    let flow = FlowKey {
        protocol: Protocol::Udp,
        source: ip(N1),
        source_port: 50000,
        destination: ip(N2),
        destination_port: 8472,
    };
    scene.memory.forget(NODE2, &flow);
    assert_eq!(send(&mut scene, 50000, 1000), Some(CtState::New), "its table was full");
    assert_eq!(send(&mut scene, 50001, 1002), Some(CtState::Established));
}
