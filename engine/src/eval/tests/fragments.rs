//! Later fragments are judged with the ports of the first one, and dropped where it was not seen.

use super::*;
use crate::trace::CtState;

fn piece(mut packet: Packet, offset: u16, id: u32) -> Packet {
    packet.ip.fragment = Fragment { offset, more: offset == 0 };
    packet.ip.id = id;
    packet
}

#[test]
fn later_fragments_have_the_ports_of_the_first() {
    let mut scene = Scene::new(server(vec![allow_from("client", "53/udp")]));
    for (from, to) in [(C4, S4), (C6, S6), (C4, L4)] {
        for (port, expected) in [(53, ALLOWED), (54, DENIED)] {
            scene.memory = Memory::default();
            let ask = |at| piece(datagram(from, to, port), at, 9);
            assert_eq!(word(&scene.send(&ask(1480))), "fragment-not-found");
            assert_eq!(word(&scene.send(&ask(0))), expected);
            let later = scene.send(&ask(1480));
            assert_eq!(word(&later), expected, "{from} to {to}");
            assert!(later.legs.iter().all(|leg| leg.state != CtState::Untracked));
        }
    }
}

#[test]
fn fragments_of_another_datagram_or_flow_are_not_found() {
    let mut scene = Scene::new(PolicySet::default());
    scene.send(&piece(datagram(C4, S4, 53), 0, 9));
    for (packet, expected) in [
        (piece(datagram(C4, S4, 53), 8, 9), ALLOWED),
        (piece(datagram(C4, S4, 53), 8, 10), "fragment-not-found"),
        (piece(datagram(C4, L4, 53), 8, 9), "fragment-not-found"),
        (piece(datagram(S4, C4, 53), 8, 9), "fragment-not-found"),
        (piece(syn(C4, S4, 53), 8, 9), "fragment-not-found"),
    ] {
        let judgement = scene.send(&packet);
        assert_eq!(word(&judgement), expected, "{packet:?}");
        assert!(expected == ALLOWED || judgement.legs.is_empty());
    }
}

#[test]
fn who_sends_need_not_find_what_no_policy_is_about() {
    let (node, other) = ("192.168.1.1", "192.168.1.2");
    for (from, to, policed, expected) in [
        (W4, node, false, "fragment-not-found"),
        (W4, node, true, "fragment-not-found"),
        (node, W4, false, ALLOWED),
        (node, W4, true, "fragment-not-found"),
        (node, other, false, "fragment-not-found"),
        (C4, W4, false, "fragment-not-found"),
        (node, C4, false, "fragment-not-found"),
    ] {
        let mut scene = Scene::new(PolicySet::default());
        scene.world.cluster.host_firewall = policed;
        let judgement = scene.send(&piece(datagram(from, to, 53), 1480, 9));
        assert_eq!(word(&judgement), expected, "{from} to {to} {policed}");
    }
}
