//! Which nodes judge a packet, as whose, and the TTL on the way.

use super::*;
use crate::eval::peers::Who;

fn places(judgement: &Judgement) -> Vec<(NodeId, PodId, Direction)> {
    let pod = |leg: &Leg| leg.endpoint.pod().expect("a pod");
    judgement.legs.iter().map(|leg| (leg.node, pod(leg), leg.direction)).collect()
}

#[test]
fn both_ends_judge_each_on_its_node() {
    let mut scene = Scene::new(PolicySet::default());
    let (out, into) = (Direction::Egress, Direction::Ingress);
    for (packet, expected) in [
        (syn(C4, S4, 80), vec![(NODE1, CLIENT, out), (NODE2, SERVER, into)]),
        (syn(C6, S6, 80), vec![(NODE1, CLIENT, out), (NODE2, SERVER, into)]),
        (syn(C4, X4, 80), vec![(NODE1, CLIENT, out), (NODE1, STRANGER, into)]),
        (syn(C4, C4, 80), vec![(NODE1, CLIENT, out), (NODE1, CLIENT, into)]),
        (syn(C4, W4, 80), vec![(NODE1, CLIENT, out)]),
        (syn(C4, "192.168.1.2", 80), vec![(NODE1, CLIENT, out)]),
        (syn(C4, "10.2.0.99", 80), vec![(NODE1, CLIENT, out)]),
        (syn(W4, V4, 80), vec![(NODE2, VAULT, into)]),
        (syn("192.168.1.1", V4, 80), vec![(NODE2, VAULT, into)]),
        (syn("192.168.1.2", V4, 80), vec![(NODE2, VAULT, into)]),
        (syn("192.168.1.1", "192.168.1.2", 80), vec![]),
        (syn(W4, "192.168.1.2", 80), vec![]),
        (syn(W4, "10.2.0.99", 80), vec![]),
    ] {
        let judgement = scene.alone(&packet);
        assert_eq!(places(&judgement), expected, "{packet:?}");
        assert_eq!(judgement.verdict, Verdict::Allowed);
    }
}

#[test]
fn the_destination_address_decides_who_receives() {
    let mut scene = Scene::new(PolicySet::default());
    let packet = syn(C4, S4, 80);
    let asked = Asked {
        source: Party::Pod(CLIENT),
        destination: Party::Pod(VAULT),
        packet: &packet,
        now: 0,
        choices: Choices::default(),
    };
    let judgement = judge(&scene.world, &scene.policies, &mut scene.memory, &asked);
    assert_eq!(ingress(&judgement).endpoint, Endpoint::Pod(SERVER));
}

#[test]
fn delivery_takes_one_from_the_ttl() {
    let mut scene = Scene::new(PolicySet::default());
    let expired = "ttl-exceeded";
    for (from, to, expected) in [
        (C4, S4, expired),
        (C6, S6, expired),
        (C4, X4, expired),
        (W4, S4, expired),
        ("192.168.1.1", S4, expired),
        ("192.168.1.2", S4, expired),
        (C4, "10.1.0.77", expired),
        // The tunnel counts nothing, and nobody is delivered to: the other node's stack, which is given it, counts.
        (C4, "10.2.0.77", expired),
        // The datapath routes out of the node itself; within it, it gives the packet to the stack.
        (C4, W4, expired),
        (C4, "192.168.1.2", expired),
        (C4, "192.168.1.1", ALLOWED),
    ] {
        for ttl in [0, 1, 2] {
            let mut packet = syn(from, to, 80);
            packet.ip.ttl = ttl;
            let wanted = if ttl == 2 { ALLOWED } else { expected };
            assert_eq!(word(&scene.alone(&packet)), wanted, "{from} to {to}, ttl {ttl}");
        }
    }
}

#[test]
fn the_ttl_comes_after_egress_and_before_ingress() {
    let mut scene = Scene::new(PolicySet::new(vec![
        policy("c", "client", vec![allow_to("server", "")]),
        policy("s", "server", vec![allow_from("stranger", "")]),
    ]));
    for (to, expected, legs) in [(S4, "ttl-exceeded", 1), (L4, "ttl-exceeded", 1), (X4, DENIED, 1)]
    {
        let mut packet = syn(C4, to, 80);
        packet.ip.ttl = 1;
        let judgement = scene.alone(&packet);
        assert_eq!((word(&judgement), judgement.legs.len()), (expected, legs), "{to}");
    }
}

#[test]
fn who_has_an_address_depends_on_who_looks() {
    let world = world();
    let outside = |text| Who::Outside(ip(text));
    for (address, from_first, from_second) in [
        (C4, Who::Pod(CLIENT), Who::Pod(CLIENT)),
        ("192.168.1.1", Who::Host, Who::RemoteNode),
        ("10.1.0.1", Who::Host, Who::RemoteNode),
        ("10.96.0.1", Who::Host, Who::Host),
        ("10.1.0.99", outside("10.1.0.99"), outside("10.1.0.99")),
        (W6, outside(W6), outside(W6)),
    ] {
        assert_eq!(Who::has(&world, NODE1, ip(address)), from_first, "{address}");
        assert_eq!(Who::has(&world, NODE2, ip(address)), from_second, "{address}");
    }
}

/// Who sends, the address it claims, and whom the receiver takes it for.
#[test]
fn the_source_address_refines_what_a_node_or_the_world_carries() {
    let rules = vec![
        allow_from("@world", "1/tcp"),
        allow_from("@host", "2/tcp"),
        allow_from("@remote-node", "3/tcp"),
        allow_from("client", "4/tcp"),
        allow_from("198.51.100.0/24, 192.168.0.0/16", "5/tcp"),
        allow_from("0.0.0.0/0", "6/tcp"),
    ];
    let mut scene = Scene::new(server(rules));
    for (party, claimed, port) in [
        (Party::Address(ip(W4)), W4, 1),
        (Party::Address(ip(W4)), C4, 4),
        (Party::Address(ip(W4)), "192.168.1.1", 3),
        (Party::Address(ip(W4)), "192.168.1.2", 1),
        (Party::Address(ip(W4)), W4, 5),
        (Party::Address(ip(W4)), "192.168.1.2", 6),
        (Party::Node(NODE1), "192.168.1.1", 3),
        (Party::Node(NODE1), W4, 1),
        (Party::Node(NODE1), "192.168.1.2", 3),
        (Party::Node(NODE2), "192.168.1.2", 2),
    ] {
        scene.memory = Memory::default();
        let judgement = scene.send_from(party, &syn(claimed, S4, port));
        let by_rule = origins(ingress(&judgement)).0;
        assert_eq!(by_rule, [u32::from(port) - 1], "{party:?} as {claimed}");
    }
    let own_node = syn("192.168.1.2", S4, 5);
    let judgement = scene.send_from(Party::Address(ip(W4)), &own_node);
    assert_eq!(word(&judgement), DENIED, "an address of the own node is in no prefix");
}
