//! Drops that need nothing but headers, and their order.

use super::*;

const HEADER: &str = "ct-invalid-header";
const UNKNOWN: &str = "ct-unknown-protocol";
const EXTENSION: &str = "invalid-extension-header";
const FRAGMENT: &str = "fragment-not-supported";

fn other(from: &str, to: &str, protocol: u8, bytes: usize) -> Packet {
    Packet { payload: vec![0; bytes], ..packet(from, to, Transport::Other { protocol }) }
}

fn extended(numbers: &[u8]) -> Packet {
    let mut packet = syn(C6, S6, 80);
    packet.ip.extensions = numbers.iter().map(|n| (*n, vec![0; 6])).collect();
    packet
}

fn piece(mut packet: Packet, offset: u16, more: bool) -> Packet {
    packet.ip.fragment = Fragment { offset, more };
    packet
}

#[test]
fn unknown_protocols_are_dropped_before_policy() {
    let open = PolicySet::default();
    table(
        &open,
        &[
            (other(C4, S4, 47, 40), UNKNOWN),
            (other(C4, W4, 50, 40), UNKNOWN),
            (other(C6, S6, 89, 40), UNKNOWN),
            (other(C4, S4, 58, 40), UNKNOWN),
            (other(C6, S6, 1, 40), UNKNOWN),
            (piece(other(C4, S4, 47, 40), 8, false), UNKNOWN),
            (packet(C4, S4, Transport::Sctp { source: 1, destination: 2 }), ALLOWED),
            (other(W4, S4, 47, 40), UNKNOWN),
            // Nobody judges these.
            (other(W4, "192.168.1.1", 47, 40), ALLOWED),
            (other("192.168.1.1", W4, 47, 40), ALLOWED),
        ],
    );
}

#[test]
fn a_transport_header_that_is_cut_short_is_invalid() {
    table(
        &PolicySet::default(),
        &[
            (other(C4, S4, 6, 13), HEADER),
            (other(C4, S4, 6, 14), ALLOWED),
            (other(C4, S4, 17, 3), HEADER),
            (other(C4, S4, 17, 4), ALLOWED),
            (other(C4, S4, 1, 5), HEADER),
            (other(C6, S6, 58, 6), ALLOWED),
            (piece(other(C4, S4, 17, 0), 8, false), "fragment-not-found"),
        ],
    );
}

#[test]
fn raw_bytes_are_read_as_the_header_that_they_are() {
    let policies = server(vec![allow_from("", "53/udp"), allow_from("", "icmp 8")]);
    let with = |protocol, bytes: &[u8]| Packet {
        payload: bytes.to_vec(),
        ..packet(C4, S4, Transport::Other { protocol })
    };
    table(
        &policies,
        &[
            (with(17, &[0, 1, 0, 53, 0, 8, 0, 0]), ALLOWED),
            (with(17, &[0, 1, 0, 54, 0, 8, 0, 0]), DENIED),
            (with(1, &[8, 0, 0, 0, 0, 7, 0, 1]), ALLOWED),
            (with(1, &[13, 0, 0, 0, 0, 7, 0, 1]), DENIED),
        ],
    );
}

#[test]
fn extension_headers_are_skipped_up_to_a_number() {
    table(
        &PolicySet::default(),
        &[
            (extended(&[0]), ALLOWED),
            (extended(&[0, 43, 60]), ALLOWED),
            (extended(&[51]), ALLOWED),
            (extended(&[0, 43, 60, 60]), EXTENSION),
            (extended(&[59]), EXTENSION),
            (extended(&[0, 59]), EXTENSION),
            (extended(&[50]), UNKNOWN),
            (other(C6, S6, 59, 0), EXTENSION),
            (other(C4, S4, 59, 0), UNKNOWN),
            // The fragment header counts too.
            (piece(extended(&[0, 43]), 0, true), ALLOWED),
            (piece(extended(&[0, 43, 60]), 0, true), EXTENSION),
        ],
    );
}

#[test]
fn a_fragmented_icmp_message_is_always_dropped() {
    table(
        &PolicySet::default(),
        &[
            (piece(ping(C4, S4, 8, 0), 0, true), FRAGMENT),
            (piece(ping(C4, S4, 8, 0), 1480, false), FRAGMENT),
            (piece(ping(C6, S6, 128, 0), 0, true), FRAGMENT),
            (piece(ping(C4, S4, 3, 4), 0, true), FRAGMENT),
            (piece(ping(C6, S6, 135, 0), 0, true), FRAGMENT),
            (piece(ping(C4, W4, 8, 0), 0, true), FRAGMENT),
            (piece(ping(W4, S4, 8, 0), 0, true), FRAGMENT),
            (piece(datagram(C4, S4, 53), 0, true), ALLOWED),
        ],
    );
}

#[test]
fn neighbour_discovery_is_not_judged() {
    let closed = Policy {
        ingress: Isolation::Always,
        egress: Isolation::Always,
        ..policy("all", "", vec![])
    };
    let policies = PolicySet::new(vec![closed]);
    let rows: Vec<_> = [135, 136].map(|kind| (ping(C6, S6, kind, 0), ALLOWED)).into();
    table(&policies, &rows);
    table(
        &policies,
        &[
            (ping(C6, S6, 134, 0), DENIED),
            (ping(C6, S6, 137, 0), DENIED),
            (ping(C4, S4, 135, 0), DENIED),
            (ping(W6, S6, 135, 0), ALLOWED),
        ],
    );
    let mut scene = Scene::new(policies);
    let unspecified = ping("::", "ff02::1:ff00:10", 135, 0);
    let judgement = scene.send_from(Party::Pod(CLIENT), &unspecified);
    assert_eq!((word(&judgement), judgement.legs.len()), (ALLOWED, 0), "no source check");
}

#[test]
fn a_pod_sends_from_its_own_addresses() {
    let mut scene = Scene::new(PolicySet::default());
    let mut ask = |from: &str, to: &str| {
        let judgement = scene.send_from(Party::Pod(CLIENT), &syn(from, to, 80));
        (word(&judgement), judgement.legs.len())
    };
    assert_eq!(ask(C4, S4), (ALLOWED, 2));
    assert_eq!(ask(C6, S6), (ALLOWED, 2));
    for forged in [X4, W4, "192.168.1.1"] {
        assert_eq!(ask(forged, S4), ("invalid-source-ip", 0));
    }
    assert_eq!(ask("fe80::1", S6), ("invalid-source-ip", 0));
}

#[test]
fn a_pod_may_not_send_to_the_tunnel_port() {
    let prohibited = "encapsulation-prohibited";
    let denied = PolicySet::new(vec![policy("c", "client", vec![allow_to("none", "")])]);
    table(
        &denied,
        &[
            (datagram(C4, S4, 8472), prohibited),
            (datagram(C6, S6, 8472), prohibited),
            (datagram(C4, "192.168.1.2", 8472), prohibited),
            (datagram(C4, W4, 8472), prohibited),
            (syn(C4, S4, 8472), DENIED),
            (datagram(C4, S4, 8473), DENIED),
            (datagram(W4, S4, 8472), ALLOWED),
            (datagram("192.168.1.1", S4, 8472), ALLOWED),
        ],
    );
}

#[test]
fn an_answer_to_the_tunnel_port_is_an_answer() {
    let mut scene = Scene::new(PolicySet::default());
    let ports = |source, destination| Transport::Udp { source, destination };
    let answer = packet(C4, W4, ports(53, 8472));
    assert_eq!(word(&scene.send(&answer)), "encapsulation-prohibited");
    assert_eq!(word(&scene.send(&packet(W4, C4, ports(8472, 53)))), ALLOWED);
    assert_eq!(word(&scene.send(&answer)), ALLOWED);
}

#[test]
fn the_sender_comes_before_headers_and_a_spent_ttl_at_delivery_too() {
    let mut scene = Scene::new(PolicySet::default());
    let mut ask = |packet: &Packet| word(&scene.send_from(Party::Pod(CLIENT), packet));
    assert_eq!(ask(&other(X4, S4, 47, 40)), "invalid-source-ip");
    let spent = |mut packet: Packet| {
        packet.ip.ttl = 1;
        packet
    };
    // The sender's node looks into the packet, the delivering one counts first.
    assert_eq!(ask(&spent(other(C4, S4, 47, 40))), UNKNOWN);
    assert_eq!(ask(&spent(extended(&[59]))), EXTENSION);
    assert_eq!(word(&scene.send(&spent(other(W4, S4, 47, 40)))), "ttl-exceeded");
    assert_eq!(word(&scene.send(&other(W4, S4, 47, 40))), UNKNOWN);
    let mut ask = |packet: &Packet| word(&scene.send_from(Party::Pod(CLIENT), packet));
    assert_eq!(ask(&piece(ping(X4, S4, 8, 0), 0, true)), "invalid-source-ip");
    assert_eq!(ask(&datagram(X4, S4, 8472)), "invalid-source-ip");
    let mut last = piece(ping(W4, S4, 8, 0), 0, true);
    last.ip.ttl = 1;
    assert_eq!(word(&scene.send(&last)), "ttl-exceeded");
    last.ip.source = ip(C4);
    assert_eq!(word(&scene.send(&last)), FRAGMENT);
}
