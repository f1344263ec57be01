//! Who serves, what a service's flow becomes, and how its answers come back.

use super::*;
use crate::question::{error_about, reply};
use crate::topology::{Service, ServiceId, ServicePort, TargetPort, TrafficPolicy};
use crate::trace::{CtState, Place};

const SHOP: &str = "10.96.0.80";
const SHOP6: &str = "fd00:96::80";
const LB: &str = "203.0.113.80";
const NONE: &str = "no-service";

type Change<'a> = &'a dyn Fn(&mut Scene);

fn place(address: &str, port: u16) -> Place {
    Place { address: ip(address), port }
}

pub(super) fn service() -> Service {
    let port = |port, target, node_port| ServicePort {
        name: None,
        port,
        protocol: Protocol::Tcp,
        target,
        node_port,
        span: Span::default(),
    };
    Service {
        namespace: "shop".into(),
        name: "server".into(),
        cluster_ips: vec![ip(SHOP), ip(SHOP6)],
        external_ips: vec![ip("203.0.113.7")],
        load_balancer_ips: vec![ip(LB)],
        ports: vec![
            port(80, TargetPort::Number(8080), Some(30080)),
            port(81, TargetPort::Name("http".into()), None),
        ],
        selector: selector("server"),
        affinity: None,
        balancing: None,
        source_ranges: Vec::new(),
        ranges_span: Span::default(),
        internal_traffic: TrafficPolicy::Cluster,
        external_traffic: TrafficPolicy::Cluster,
        span: Span::default(),
    }
}

pub(super) fn scene(service: Service, policies: PolicySet) -> Scene {
    let mut scene = Scene::new(policies);
    scene.world.services = vec![service];
    scene
}

/// The service of `server` on the second node alone.
fn remote() -> Scene {
    let mut scene = scene(service(), PolicySet::default());
    scene.world.pods[4].labels = labels(&[("app", "local")]);
    scene
}

fn ends(judgement: &Judgement) -> (Place, Place) {
    judgement.arrives.expect("it arrives")
}

fn backend(judgement: &Judgement) -> Option<Place> {
    judgement.serving.as_ref().and_then(|serving| serving.backend)
}

#[test]
fn candidates_are_ready_pods_of_the_family_and_the_policy() {
    let mut base = scene(service(), PolicySet::default());
    base.world.pods[2].ports = vec![named_port("http", 8888, Protocol::Tcp)];
    let local = |s: &mut Scene| s.world.services[0].internal_traffic = TrafficPolicy::Local;
    let drains = |s: &mut Scene| s.world.pods[4].readiness = Readiness::Terminating;
    let empty = |s: &mut Scene| s.world.services[0].selector = selector("nobody");
    let agent = |s: &mut Scene| s.world.services[0].selector = selector("client");
    let rows: [(Change<'_>, &str, u16, Vec<Place>); 8] = [
        (&|_| (), SHOP, 80, vec![place(S4, 8080), place(L4, 8080)]),
        (&|_| (), SHOP6, 80, vec![place(S6, 8080), place("fd00:1::12", 8080)]),
        (&|_| (), SHOP, 81, vec![place(S4, 8888)]),
        (&local, SHOP, 80, vec![place(L4, 8080)]),
        (&drains, SHOP, 80, vec![place(S4, 8080)]),
        (&empty, SHOP, 80, vec![]),
        (&agent, SHOP, 80, vec![place(C4, 8080), place("192.168.1.1", 8080)]),
        (&|_| (), SHOP, 82, vec![]),
    ];
    for (change, to, port, expected) in rows {
        let mut scene = Scene::new(PolicySet::default());
        scene.world = base.world.clone();
        change(&mut scene);
        let from = if to == SHOP { X4 } else { "fd00:1::11" };
        let judgement = scene.send(&syn(from, to, port));
        let serving = judgement.serving.clone().expect("a service");
        assert_eq!((serving.service, serving.node), (ServiceId(0), NODE1));
        assert_eq!(serving.candidates, expected, "{to} {port}");
        assert_eq!(serving.port.is_none(), port == 82);
        match expected.as_slice() {
            [] => assert_eq!(word(&judgement), NONE),
            [only] => assert_eq!(serving.backend, Some(*only)),
            _ => assert_eq!(judgement.verdict, Verdict::Undecided),
        }
    }
}

#[test]
fn policy_sees_the_backend_and_the_answer_comes_from_the_frontend() {
    for (policies, expected) in [
        (server(vec![allow_from("client", "8080/tcp")]), ALLOWED),
        (server(vec![allow_from("client", "80/tcp")]), DENIED),
    ] {
        let mut scene = remote();
        scene.policies = policies;
        let ask = syn(C4, SHOP, 80);
        let asked = scene.send(&ask);
        assert_eq!(word(&asked), expected);
        if expected == ALLOWED {
            assert_eq!(ends(&asked), (place(C4, 40000), place(S4, 8080)));
            let answer = reply(&syn(C4, S4, 8080));
            let answered = scene.send(&answer);
            assert_eq!(ends(&answered), (place(SHOP, 80), place(C4, 40000)));
            let error = scene.send(&error_about(&syn(C4, S4, 8080), 3, 1));
            assert_eq!(egress(&error).state, CtState::Related);
            assert_eq!(ends(&error), (place(SHOP, 0), place(C4, 0)));
        }
    }
}

#[test]
fn choices_are_taken_over_where_they_are_legal() {
    for (chosen, illegal) in [(L4, 0), (S4, 0), (V4, 1)] {
        let mut scene = scene(service(), PolicySet::default());
        scene.choices.backend = Some(place(chosen, 8080));
        let judgement = scene.send(&syn(C4, SHOP, 80));
        assert_eq!(judgement.illegal.len(), illegal, "{:?}", judgement.illegal);
        if illegal == 0 {
            assert_eq!(backend(&judgement), scene.choices.backend);
            scene.choices.backend = None;
            let again = segment(C4, SHOP, (40000, 80), TcpFlags::ACK);
            assert_eq!(backend(&scene.send(&again)), Some(place(chosen, 8080)), "it keeps it");
        }
    }
}

#[test]
fn a_flow_drains_and_a_new_one_does_not() {
    let mut scene = scene(service(), PolicySet::default());
    scene.choices.backend = Some(place(S4, 8080));
    scene.send(&syn(C4, SHOP, 80));
    scene.choices.backend = None;
    scene.world.pods[2].readiness = Readiness::NotReady;
    let more = segment(C4, SHOP, (40000, 80), TcpFlags::ACK);
    assert_eq!(backend(&scene.send(&more)), Some(place(S4, 8080)));
    assert_eq!(backend(&scene.send(&syn(C4, SHOP, 80))), Some(place(L4, 8080)));
    assert_eq!(backend(&scene.send(&more)), Some(place(L4, 8080)), "the last choice stands");
}

#[test]
fn a_choice_counts_for_its_side_of_the_border() {
    let mut scene = scene(service(), PolicySet::default());
    scene.choices.backend = Some(place(S4, 8080));
    let asked = syn(C4, "203.0.113.7", 80);
    scene.send(&asked);
    scene.choices.backend = Some(place(L4, 8080));
    let outside = Party::External(crate::topology::ExternalId(0));
    let judgement = scene.send_from(outside, &asked);
    assert_eq!((backend(&judgement), judgement.illegal.len()), (Some(place(L4, 8080)), 0));
}

#[test]
fn a_client_keeps_its_backend_for_a_time() {
    let mut scene = scene(Service { affinity: Some(100), ..service() }, PolicySet::default());
    let ask = |port| segment(C4, SHOP, (port, 80), TcpFlags::SYN);
    scene.choices.backend = Some(place(S4, 8080));
    scene.send(&ask(40000));
    scene.choices.backend = None;
    for (wait, port) in [(99, 40001), (99, 40002)] {
        scene.now += wait;
        assert_eq!(backend(&scene.send(&ask(port))), Some(place(S4, 8080)), "{port}");
    }
    scene.choices.backend = Some(place(L4, 8080));
    assert_eq!(scene.send(&ask(40003)).illegal.len(), 1);
    scene.now += 100;
    assert_eq!(scene.send(&ask(40004)).illegal.len(), 0);
}

#[test]
fn a_client_keeps_no_backend_that_its_node_refused() {
    let rules = || vec![allow_to("192.168.0.0/16", "")];
    let refuses = |app, rules| PolicySet::new(vec![policy("p", app, rules)]);
    let none = || vec![allow_from("none", "")];
    for (policies, chosen, expected, is_kept) in [
        (refuses("client", rules()), S4, DENIED, false),
        (refuses("server", none()), L4, DENIED, false),
        // Another node refuses it.
        (refuses("server", none()), S4, DENIED, true),
        (PolicySet::default(), S4, ALLOWED, true),
    ] {
        let service = Service { affinity: Some(100), ..service() };
        let mut scene = scene(service, policies);
        scene.choices.backend = Some(place(chosen, 8080));
        assert_eq!(word(&scene.send(&syn(C4, SHOP, 80))), expected);
        scene.policies = PolicySet::default();
        let other = if chosen == S4 { L4 } else { S4 };
        scene.choices.backend = Some(place(other, 8080));
        let again = scene.send(&segment(C4, SHOP, (40001, 80), TcpFlags::SYN));
        assert_eq!(!again.illegal.is_empty(), is_kept, "{chosen} {expected}");
    }
}

#[test]
fn whoever_comes_by_the_device_is_outside() {
    let outside = Party::External(crate::topology::ExternalId(0));
    for (from, to, expected) in [
        (C4, SHOP, "is-cluster-ip"),
        ("192.168.1.2", SHOP, "is-cluster-ip"),
        (C4, LB, "not-in-source-range"),
        ("192.0.2.9", LB, ALLOWED),
    ] {
        let source_ranges = vec!["192.0.2.0/24".parse().unwrap()];
        let mut scene = scene(Service { source_ranges, ..service() }, PolicySet::default());
        scene.world.pods[4].labels = labels(&[("app", "local")]);
        let judgement = scene.send_from(outside, &syn(from, to, 80));
        assert_eq!(word(&judgement), expected, "{from} to {to}");
    }
    // Another node's pod, or that node, asks a node port.
    for (external, expected) in [(TrafficPolicy::Cluster, ALLOWED), (TrafficPolicy::Local, NONE)] {
        for from in [V4, "192.168.1.2"] {
            let mut scene = remote();
            scene.world.services[0].external_traffic = external;
            let judgement = scene.send(&syn(from, "192.168.1.1", 30080));
            assert_eq!(word(&judgement), expected, "{from} {external:?}");
        }
    }
}

#[test]
fn a_node_port_elsewhere_is_answered_by_the_tunnel() {
    let mut scene = remote();
    scene.send(&syn(W4, "192.168.1.1", 30080));
    scene.world.cluster.prefilter = vec!["10.2.0.0/16".parse().unwrap()];
    let answer = segment(S4, "192.168.1.1", (8080, 40000), TcpFlags::ACK);
    for (ttl, expected) in [(1, "ttl-exceeded"), (2, ALLOWED)] {
        let mut answer = answer.clone();
        answer.ip.ttl = ttl;
        let judgement = scene.send(&answer);
        assert_eq!(word(&judgement), expected, "only the node that passes it on counts");
    }
    scene.world.cluster.prefilter = vec!["192.168.1.2/32".parse().unwrap()];
    assert_eq!(word(&scene.send(&answer)), "prefiltered");
}

#[test]
fn an_answer_is_for_no_frontend_where_the_node_knows_its_flow() {
    for is_known in [true, false] {
        let mut scene = remote();
        scene.world.cluster.host_firewall = is_known;
        scene.send(&segment("192.168.1.1", W4, (30080, 80), TcpFlags::SYN));
        let answer = scene.send(&segment(W4, "192.168.1.1", (80, 30080), TcpFlags::ACK));
        assert_eq!(answer.serving.is_none(), is_known);
        let at_node = ends(&answer).1 == place("192.168.1.1", 30080);
        assert_eq!(at_node, is_known);
    }
}

#[test]
fn a_pod_that_reaches_itself_is_not_asked() {
    let mut scene = scene(service(), server(vec![allow_from("none", ""), allow_to("none", "")]));
    scene.world.pods.remove(2);
    for (own, frontend, loopback) in [(L4, SHOP, "169.254.42.1"), ("fd00:1::12", SHOP6, "fe80::1")]
    {
        let judgement = scene.send(&syn(own, frontend, 80));
        assert_eq!((word(&judgement), judgement.legs.len()), (ALLOWED, 0));
        assert_eq!(ends(&judgement), (place(loopback, 40000), place(own, 8080)));
        let back = segment(own, loopback, (8080, 40000), TcpFlags::ACK);
        let judgement = scene.send(&back);
        assert_eq!((word(&judgement), judgement.legs.len()), (ALLOWED, 0));
        assert_eq!(ends(&judgement), (place(frontend, 80), place(own, 40000)));
        let received = segment(loopback, own, (40000, 8080), TcpFlags::ACK);
        if own == L4 {
            assert_eq!(scene.send(&error_about(&received, 3, 3)).legs.len(), 0);
        }
    }
}

#[test]
fn from_outside_the_kind_of_address_counts() {
    let restricted = Service { source_ranges: vec!["192.0.2.0/24".parse().unwrap()], ..service() };
    for (to, port, expected) in [
        (SHOP, 80, "is-cluster-ip"),
        (SHOP, 82, NONE),
        (LB, 80, "not-in-source-range"),
        ("203.0.113.7", 80, ALLOWED),
        ("192.168.1.2", 30080, ALLOWED),
        ("192.168.1.2", 80, ALLOWED),
    ] {
        let mut scene = remote();
        scene.world.services = vec![restricted.clone()];
        let judgement = scene.send(&syn(W4, to, port));
        assert_eq!(word(&judgement), expected, "{to}:{port}");
        assert_eq!(judgement.serving.is_some(), (to, port) != ("192.168.1.2", 80));
        let inside = scene.send(&syn(C4, LB, 80));
        assert_eq!(word(&inside), ALLOWED, "ranges are for clients from outside");
    }
}

#[test]
fn a_node_port_with_its_backend_there_keeps_the_client() {
    let mut scene = remote();
    scene.policies = server(vec![allow_from("198.51.100.0/24", "8080/tcp")]);
    let judgement = scene.send(&syn(W4, "192.168.1.2", 30080));
    assert_eq!(ends(&judgement), (place(W4, 40000), place(S4, 8080)));
    let answer = scene.send(&segment(S4, W4, (8080, 40000), TcpFlags::ACK));
    assert_eq!(ends(&answer), (place("192.168.1.2", 30080), place(W4, 40000)));
}

#[test]
fn a_node_port_with_its_backend_elsewhere_hides_the_client() {
    use crate::topology::Routing::{Native, Tunnel};
    for (routing, peer) in [(Tunnel, "@world"), (Native, "@remote-node")] {
        let mut scene = remote();
        scene.world.cluster.routing = routing;
        scene.policies = server(vec![allow_from(peer, "8080/tcp")]);
        let judgement = scene.send(&syn(W4, "192.168.1.1", 30080));
        assert_eq!(ends(&judgement), (place("192.168.1.1", 40000), place(S4, 8080)));
        assert_eq!(judgement.legs.len(), 1, "the node that passes it on asks nobody");
        let answer = scene.send(&segment(S4, "192.168.1.1", (8080, 40000), TcpFlags::ACK));
        assert_eq!(ends(&answer), (place("192.168.1.1", 30080), place(W4, 40000)));
    }
}

#[test]
fn external_traffic_may_stay_on_its_node() {
    let mut scene = remote();
    scene.world.services[0].external_traffic = TrafficPolicy::Local;
    assert_eq!(word(&scene.send(&syn(W4, "192.168.1.1", 30080))), NONE);
    assert_eq!(word(&scene.send(&syn(W4, "192.168.1.2", 30080))), ALLOWED);
}

#[test]
fn nodes_and_pods_use_services_alike() {
    for (from, to, port) in [
        ("192.168.1.1", SHOP, 80),
        ("192.168.1.1", "192.168.1.1", 30080),
        (C4, "192.168.1.1", 30080),
    ] {
        let mut scene = remote();
        let judgement = scene.send(&syn(from, to, port));
        assert_eq!(ends(&judgement), (place(from, 40000), place(S4, 8080)), "{from} {to}");
        let answer = scene.send(&segment(S4, from, (8080, 40000), TcpFlags::ACK));
        assert_eq!(ends(&answer), (place(to, port), place(from, 40000)));
    }
}

#[test]
fn a_service_that_is_gone_translates_nothing() {
    let mut scene = remote();
    scene.send(&syn(C4, SHOP, 80));
    scene.world.services.clear();
    let judgement = scene.send(&segment(C4, SHOP, (40000, 80), TcpFlags::ACK));
    assert!(judgement.serving.is_none());
    let answer = scene.send(&segment(S4, C4, (8080, 40000), TcpFlags::ACK));
    assert_eq!(ends(&answer).0, place(S4, 8080));
}

#[test]
fn a_rule_about_a_service_means_the_pods_behind_it() {
    let kind = PeerKind::Service { namespace: "shop".into(), name: "server".into() };
    let to = Rule { peers: Some(vec![Peer { kind, span: span(2) }]), ..allow_to("", "") };
    let mut scene = remote();
    scene.policies = PolicySet::new(vec![policy("c", "client", vec![to])]);
    for (to, expected) in [(S4, ALLOWED), (SHOP, ALLOWED), (X4, DENIED), (W4, DENIED)] {
        assert_eq!(word(&scene.alone(&syn(C4, to, 80))), expected, "{to}");
    }
}

#[test]
fn a_syn_on_a_closing_flow_chooses_anew() {
    let mut scene = scene(service(), PolicySet::default());
    for (flags, chosen) in [(TcpFlags::SYN, S4), (TcpFlags::FIN, S4), (TcpFlags::SYN, L4)] {
        scene.choices.backend = Some(place(chosen, 8080));
        let judgement = scene.send(&segment(C4, SHOP, (40000, 80), flags));
        assert_eq!((backend(&judgement), judgement.illegal.len()), (scene.choices.backend, 0));
    }
}

#[test]
fn an_error_about_an_answer_goes_to_the_backend() {
    let mut scene = remote();
    scene.send(&syn(C4, SHOP, 80));
    let answer = segment(SHOP, C4, (80, 40000), TcpFlags::ACK);
    let error = scene.send(&error_about(&answer, 3, 1));
    assert_eq!(ends(&error), (place(C4, 0), place(S4, 0)));
    assert!(error.legs.iter().all(|leg| leg.state == CtState::Related) && error.legs.len() == 2);
}

#[test]
fn sctp_has_no_port_rewritten() {
    let mut own = service();
    own.ports[0].protocol = Protocol::Sctp;
    own.source_ranges = vec!["192.0.2.0/24".parse().unwrap()];
    let closed = server(vec![allow_from("none", "")]);
    for (target, from, to, expected) in [
        (8080, C4, SHOP, "unsupported-service-protocol"),
        (80, C4, SHOP, "policy-denied"),
        (8080, W4, LB, "not-in-source-range"),
        (8080, W4, SHOP, "is-cluster-ip"),
    ] {
        own.ports[0].target = TargetPort::Number(target);
        let mut scene = scene(own.clone(), closed.clone());
        scene.world.pods[4].labels = labels(&[("app", "local")]);
        let sent = packet(from, to, Transport::Sctp { source: 40000, destination: 80 });
        assert_eq!(word(&scene.send(&sent)), expected, "{from} to {to}");
    }
}

#[test]
fn an_error_to_a_service_about_nothing_known_has_none() {
    let mut scene = scene(service(), PolicySet::default());
    let quoted = segment(SHOP, C4, (80, 40000), TcpFlags::ACK);
    assert_eq!(word(&scene.send(&error_about(&quoted, 3, 3))), NONE);
}

#[test]
fn an_error_about_a_node_ports_flow_finds_a_translated_client() {
    let mut scene = scene(service(), PolicySet::default());
    scene.world.pods.truncate(4);
    let asked = scene.send(&syn(C4, "192.168.1.2", 30080));
    let (client, backend) = ends(&asked);
    assert_eq!(client.address, ip("192.168.1.1"));
    let received = segment("192.168.1.1", S4, (client.port, backend.port), TcpFlags::ACK);
    let error = scene.send(&error_about(&received, 3, 3));
    assert_eq!(error.arrives, Some((place("192.168.1.2", 0), place(C4, 0))));
    assert_eq!(ingress(&error).state, CtState::Related);
}
