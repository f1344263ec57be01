//! Ways out of a node and between nodes, hops that have nothing to say, and a node as the one that is asked.

use std::sync::Arc;

use crate::explain::{Explanation, LegOutcome, Step, Verdict, explain};
use crate::identity::Identity;
use crate::net::{Direction, Hook, Protocol};
use crate::tables::{EndpointEntry, EndpointId, Implied, Origin};
use crate::topology::{Encryption, Endpoint};
use crate::trace::{Action, CtState, Event, Hop, IdentitySource, PolicyOutcome, Rewriting};

use super::events::*;
use super::shop::*;

const HOST_ENDPOINT: EndpointId = EndpointId(99);

fn explained(hops: Vec<Hop>) -> Explanation {
    let shop = Shop::new();
    explain(&shop.context(), &asked(), &trace(hops), None).expect("the trace has hops")
}

fn network(next_hop: Option<&str>) -> Event {
    let next_hop = next_hop.map(|address| place(address, 0).address);
    Event::Outcome(Action::Network { ifindex: 1, next_hop })
}

fn pass() -> Event {
    Event::Outcome(Action::Pass)
}

fn kinds(e: &Explanation) -> Vec<(Hook, bool, usize)> {
    e.hops.iter().map(|hop| (hop.hook, hop.quiet, hop.steps.len())).collect()
}

#[test]
fn a_packet_leaves_the_cluster() {
    let out = hop(NODE01, Hook::FromContainer, vec![conntrack(CtState::New), network(None)]);
    let rewritten = Event::Rewritten {
        rewriting: Rewriting::Masquerade,
        before: place("10.244.1.154", 40312),
        after: place("192.168.66.226", 40312),
        created: true,
    };
    let device = hop(NODE01, Hook::ToNetdev, vec![rewritten, pass()]);
    let e = explained(vec![out, device]);
    assert_eq!(e.verdict, Verdict::Allowed);
    let network =
        Step::Network { device: "eth0".into(), next_hop: None, node: None, ttl: Some(63) };
    assert_eq!(e.hops[0].steps.last(), Some(&network));
    let snat = Step::Rewritten {
        rewriting: Rewriting::Masquerade,
        before: "10.244.1.154:40312".into(),
        after: "192.168.66.226:40312".into(),
        party: "web/client".into(),
        identifier: None,
        created: true,
    };
    let left = Step::Left { device: "eth0".into(), node: None };
    assert_eq!(e.hops[1].steps, [snat, left]);
    assert!(!e.hops[1].quiet);
}

#[test]
fn an_echo_is_rewritten_with_its_identifier() {
    let rewritten = Event::Rewritten {
        rewriting: Rewriting::Masquerade,
        before: place("10.244.1.154", 0),
        after: place("192.168.66.226", 53281),
        created: true,
    };
    let events = vec![parsed(Protocol::Icmp, Some((8, 0))), rewritten, pass()];
    let e = explained(vec![hop(NODE01, Hook::ToNetdev, events)]);
    let Some(Step::Rewritten { before, after, identifier, .. }) = e.hops[0].steps.first() else {
        panic!("a rewriting: {:?}", e.hops[0].steps)
    };
    assert_eq!((before.as_str(), after.as_str()), ("10.244.1.154", "192.168.66.226"));
    assert_eq!(*identifier, Some(53281));
}

#[test]
fn a_packet_for_another_node_says_so() {
    let frame_out = between(place("10.244.1.154", 40312), place("192.168.66.221", 22));
    let device = Hop { frame_out, ..hop(NODE01, Hook::ToNetdev, vec![pass()]) };
    let e = explained(vec![device]);
    let left = Step::Left { device: "eth0".into(), node: Some("node02".into()) };
    assert_eq!(e.hops[0].steps, [left]);
}

#[test]
fn native_routing_and_quiet_hops() {
    let sent = vec![conntrack(CtState::New), network(Some("192.168.66.221"))];
    let ingress = policy(ECHO_ENDPOINT, Direction::Ingress, PolicyOutcome::Allow, 1);
    let received = vec![conntrack(CtState::New), ingress, deliver(ECHO_ENDPOINT)];
    let e = explained(vec![
        hop(NODE01, Hook::FromContainer, sent),
        hop(NODE01, Hook::ToNetdev, vec![pass()]),
        hop(NODE02, Hook::Prefilter, vec![pass()]),
        hop(NODE02, Hook::FromNetdev, received),
    ]);
    let network = Step::Network {
        device: "eth0".into(),
        next_hop: Some("192.168.66.221".into()),
        node: Some("node02".into()),
        ttl: Some(63),
    };
    assert_eq!(e.hops[0].steps.last(), Some(&network));
    let expected = [
        (Hook::FromContainer, false, 2),
        (Hook::ToNetdev, true, 0),
        (Hook::Prefilter, true, 0),
        (Hook::FromNetdev, false, 3),
    ];
    assert_eq!(kinds(&e), expected);
}

#[test]
fn encryption_is_a_property_of_the_way() {
    let step = |by, mark| {
        let events = vec![Event::Encrypted { by, mark }, pass()];
        let e = explained(vec![hop(NODE01, Hook::ToNetdev, events), sent(CtState::New)]);
        assert!(!e.hops[0].quiet);
        e.hops[0].steps.clone()
    };
    let wireguard = step(Encryption::Wireguard { nodes: false }, 0x0e00);
    assert_eq!(wireguard, [Step::Encrypted { by: "wireguard".into(), key: None, mark: 0x0e00 }]);
    let ipsec = step(Encryption::Ipsec { key: 3 }, 0x3e00);
    assert_eq!(ipsec, [Step::Encrypted { by: "ipsec".into(), key: Some(3), mark: 0x3e00 }]);
}

/// A shop whose nodes are asked too.
fn guarded() -> Shop {
    let mut shop = Shop::new();
    shop.world.cluster.host_firewall = true;
    for node in &mut shop.tables.nodes {
        node.host_firewall = true;
        let like = node.endpoints[0].clone();
        let endpoint = Endpoint::Host(node.node);
        let (id, ifindex) = (HOST_ENDPOINT, 3);
        let identity = Identity::HOST;
        node.endpoints.push(EndpointEntry { id, endpoint, identity, ifindex, ..like });
    }
    let origins = vec![vec![Origin::Implied(Implied::NotIsolated)]];
    for direction in [Direction::Ingress, Direction::Egress] {
        let origins = Arc::from(origins.clone());
        shop.tables.provenance.record(NODE02, HOST_ENDPOINT, direction, origins);
    }
    shop
}

#[test]
fn a_node_is_asked_with_the_host_firewall() {
    let stack = Event::Outcome(Action::Stack { host: true });
    let ingress = policy(HOST_ENDPOINT, Direction::Ingress, PolicyOutcome::Allow, 1);
    let new = vec![conntrack(CtState::New), ingress, stack];
    let decided = |shop: &Shop, hops: Vec<Hop>| {
        let e = explain(&shop.context(), &asked(), &trace(hops), None).expect("a hop");
        let words =
            e.decided_by.iter().map(|d| format!("{} of {} {}", d.direction, d.endpoint, d.outcome));
        words.collect::<Vec<_>>()
    };
    let shop = guarded();
    let asked = decided(&shop, vec![hop(NODE02, Hook::FromNetdev, new)]);
    assert_eq!(asked, ["ingress of node node02 not-isolated"]);
    let reply = || vec![conntrack(CtState::Reply), stack];
    let skipped = decided(&shop, vec![hop(NODE02, Hook::FromNetdev, reply())]);
    assert_eq!(skipped, [format!("ingress of node node02 {}", LegOutcome::Reply)]);
    let own = source("192.168.66.221", Identity::HOST, IdentitySource::Endpoint);
    let sent = vec![own, conntrack(CtState::Reply), pass()];
    let sent = decided(&shop, vec![hop(NODE02, Hook::ToNetdev, sent)]);
    assert_eq!(sent, ["egress of node node02 reply"]);
    let off = decided(&Shop::new(), vec![hop(NODE02, Hook::FromNetdev, reply())]);
    assert!(off.is_empty(), "nobody asks a node without the host firewall: {off:?}");
}

#[test]
fn a_pod_that_speaks_to_itself_asks_nobody() {
    let back = Event::Rewritten {
        rewriting: Rewriting::LoopbackReply,
        before: place("169.254.42.1", 40312),
        after: place("10.244.1.154", 40312),
        created: false,
    };
    let events = vec![conntrack(CtState::Reply), back, deliver(CLIENT_ENDPOINT)];
    let e = explained(vec![hop(NODE01, Hook::FromContainer, events)]);
    assert!(e.decided_by.is_empty(), "{:?}", e.decided_by);
}
