//! Endpoints: pinned and made-up values, and the limits of the datapath.

use std::collections::BTreeSet;

use super::build::*;
use crate::compile::limits::{self, DATAPATH_LIMIT};
use crate::diag::Code;
use crate::identity::Identity;
use crate::net::Mac;
use crate::source::{FileId, Span};
use crate::tables::EndpointEntry;
use crate::topology::{Endpoint, NodeId, PodId, World};

fn entry<'l>(lab: &'l Lab, pod: &str) -> &'l EndpointEntry {
    let pod = lab.pod(pod);
    lab.node_of(pod).endpoint_of(Endpoint::Pod(pod)).unwrap()
}

#[test]
fn pins_hold_and_nothing_made_up_takes_them() {
    let free = Lab::new(lab(), vec![]);
    let made_up = entry(&free, "shop/client").clone();
    let mut world = lab();
    // The stranger pins all that the client would be given, and the devices' indices are wanted too.
    let stranger = &mut world.pods[1];
    stranger.endpoint_id = Some(made_up.id.0);
    stranger.ifindex = Some(2);
    stranger.interface = Some(made_up.interface.clone());
    (stranger.mac, stranger.host_mac) = (Some(made_up.mac), Some(made_up.host_mac));
    let lab = Lab::new(world, vec![]);
    let (client, stranger) = (entry(&lab, "shop/client"), entry(&lab, "shop/stranger"));
    assert_eq!((stranger.id, stranger.ifindex), (made_up.id, 2));
    assert_eq!(stranger.interface, "lxc_client");
    assert_eq!((stranger.mac, stranger.host_mac), (made_up.mac, made_up.host_mac));
    assert_ne!(client.id, stranger.id);
    assert_ne!(client.interface, stranger.interface);
    assert_eq!(client.interface.len(), 15);
    let node = &lab.tables.nodes[0];
    assert_eq!((node.device_ifindex, node.tunnel_ifindex, node.host_ifindex), (3, 4, 5));
    let macs: BTreeSet<Mac> =
        [client, stranger].into_iter().flat_map(|e| [e.mac, e.host_mac]).collect();
    assert_eq!(macs.len(), 4);
}

#[test]
fn values_are_unique_and_do_not_depend_on_order_or_on_others() {
    let mut world = lab();
    world.pods.clear();
    for at in 0..1000 {
        let address = format!("10.1.{}.{}", at / 250, at % 250 + 1);
        world.pods.push(pod(&format!("shop/worker-{at}"), 0, &[&address], "worker"));
    }
    let lab = Lab::new(world.clone(), vec![]);
    let endpoints = &lab.tables.nodes[0].endpoints;
    assert!(endpoints.is_sorted_by_key(|e| e.id));
    let count = |values: BTreeSet<String>| assert_eq!(values.len(), 1000);
    count(endpoints.iter().map(|e| e.id.0.to_string()).collect());
    count(endpoints.iter().map(|e| e.ifindex.to_string()).collect());
    count(endpoints.iter().map(|e| e.interface.clone()).collect());
    count(endpoints.iter().map(|e| e.mac.to_string()).collect());
    count(endpoints.iter().map(|e| e.host_mac.to_string()).collect());
    assert!(endpoints.iter().all(|e| e.interface.len() <= 15 && e.mac.0[0] & 3 == 2));
    let first =
        EndpointEntry { endpoint: Endpoint::Pod(PodId(0)), ..entry(&lab, "shop/worker-0").clone() };

    world.pods.reverse();
    world.pods.truncate(500);
    world.pods.push(pod("shop/worker-0", 0, &["10.1.0.1"], "worker"));
    let fewer = Lab::new(world, vec![]);
    let again = EndpointEntry {
        endpoint: Endpoint::Pod(PodId(0)),
        ..entry(&fewer, "shop/worker-0").clone()
    };
    assert_eq!(again, first);
}

#[test]
fn equal_names_of_two_namespaces_have_two_interfaces() {
    let mut world = lab();
    world.pods.push(pod("vault/client", 0, &["10.1.0.20"], "client"));
    world.pods.push(pod("shop/a-name-that-is-too-long", 0, &["10.1.0.21"], "client"));
    let lab = Lab::new(world, vec![]);
    assert_eq!(entry(&lab, "shop/client").interface, "lxc_client");
    for other in ["vault/client", "shop/a-name-that-is-too-long"] {
        let interface = &entry(&lab, other).interface;
        assert!(interface.len() == 15 && interface.starts_with("lxc"), "{interface}");
    }
}

#[test]
fn equal_pins_are_an_error() {
    let mut world = lab();
    for pod in &mut world.pods[..2] {
        pod.endpoint_id = Some(7);
        pod.ifindex = Some(8);
        pod.interface = Some("lxc9".into());
        pod.mac = Some(Mac([2, 0, 0, 0, 0, 1]));
    }
    let found = messages(&world, vec![]);
    assert!(found.iter().all(|d| d.code == Code(108)));
    let expected = [
        "endpoint id 7",
        "interface index 8",
        "interface `lxc9`",
        "Ethernet address 02:00:00:00:00:01",
    ];
    let expected = expected
        .map(|what| format!("{what} of pod shop/stranger is that of another pod of its node"));
    assert_eq!(found.iter().map(|d| d.message.as_str()).collect::<Vec<_>>(), expected);
}

#[test]
fn a_device_of_the_node_is_no_pods() {
    for name in ["lo", "vxlan0", "eth0", "cilium_host"] {
        let mut world = lab();
        world.pods[0].interface = Some(name.into());
        let found = messages(&world, vec![]);
        let expected =
            format!("interface `{name}` of pod shop/client is that of a device of the node itself");
        assert_eq!(found.iter().map(|d| d.message.as_str()).collect::<Vec<_>>(), [expected]);
        assert!(found[0].helps[0].message.contains("another interface"), "{found:?}");
    }
}

#[test]
fn health_and_host_are_endpoints_of_their_own() {
    let mut world = lab();
    world.pods.push(pod("shop/health", 0, &["10.1.0.30"], "health"));
    let before = Lab::new(world.clone(), vec![]);
    assert_eq!(entry(&before, "shop/health").interface, "lxc_health");
    world.nodes[0].health = vec![ip("10.1.0.200")];
    world.nodes[0].addresses.push(ip("fd01::1"));
    world.cluster.host_firewall = true;
    let lab = Lab::new(world, vec![]);
    let node = &lab.tables.nodes[0];
    assert_eq!(node.endpoints.len(), 5);
    let health = node.endpoint_of(Endpoint::Health(NodeId(0))).unwrap();
    assert_eq!((health.identity, health.interface.as_str()), (Identity::HEALTH, "lxc_health"));
    assert_eq!(health.addresses, [ip("10.1.0.200")]);
    assert_ne!(entry(&lab, "shop/health").interface, "lxc_health");
    assert_eq!(entry(&lab, "shop/client"), entry(&before, "shop/client"));
    let host = node.endpoint_of(Endpoint::Host(NodeId(0))).unwrap();
    assert_eq!((host.identity, host.interface.as_str()), (Identity::HOST, "cilium_host"));
    assert_eq!(host.addresses, ["192.168.1.1", "fd01::1"].map(ip));
    assert_eq!((host.ifindex, node.host_firewall), (node.host_ifindex, true));
    let ids: BTreeSet<_> = node.endpoints.iter().map(|e| e.id).collect();
    let indices: BTreeSet<_> = node.endpoints.iter().map(|e| e.ifindex).collect();
    assert_eq!((ids.len(), indices.len()), (5, 5));
    let other = &lab.tables.nodes[1];
    assert!(other.endpoint_of(Endpoint::Health(NodeId(1))).is_none());
    assert!(other.endpoint_of(Endpoint::Host(NodeId(1))).is_some());
}

/// A world of many pods on one node, each a class of its own.
fn crowd(pods: usize) -> World {
    let mut world = lab();
    world.pods.clear();
    for at in 0..pods {
        let address = format!("10.{}.{}.{}", at >> 16, at >> 8 & 255, at & 255);
        let mut one = pod(&format!("shop/p{at}"), 0, &[&address], "crowd");
        one.labels.insert("n".into(), at.to_string());
        one.span = Span { file: FileId(0), start: u32::try_from(at).unwrap(), end: 0 };
        world.pods.push(one);
    }
    world
}

#[test]
fn too_many_endpoints_of_a_node() {
    let mut world = crowd(limits::ENDPOINTS_PER_NODE + 1);
    world.nodes[0].span = Span { file: FileId(3), start: 1, end: 2 };
    let found = messages(&world, vec![]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].code, found[0].span()), (DATAPATH_LIMIT, world.nodes[0].span));
    assert_eq!(found[0].message, "node `node01` has 4097 pods; at most 4096 fit");
    world.pods.pop();
    Lab::new(world, vec![]);
}

#[test]
fn too_many_identities() {
    let mut world = crowd(65_281);
    for (at, pod) in (0..).zip(&mut world.pods) {
        pod.node.0 = at % 20;
    }
    world.nodes =
        (0..20).map(|n| node(&format!("n{n}"), &[&format!("192.168.1.{n}")], &[])).collect();
    let found = messages(&world, vec![]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "more than 65280 identities of pods");
    // Classes are sorted by their labels, so the last is the one of the greatest number as text.
    assert_eq!(found[0].span(), world.pods[9999].span);
}

#[test]
fn a_table_that_is_too_large_names_the_rule_that_goes_over() {
    let world = crowd(200);
    let small = allow(None, vec![tcp(80)]);
    let mut large = allow(Some(vec![pods("crowd")]), vec![ports(1, 65_534, None)]);
    large.span = Span { file: FileId(0), start: 7, end: 9 };
    let found = messages(&world, vec![policy("a", "crowd", vec![small, large.clone()])]);
    assert_eq!(found.len(), 1, "one diagnostic for all endpoints: {found:?}");
    assert_eq!((found[0].code, found[0].span()), (DATAPATH_LIMIT, large.span));
    // 200 identities, three protocols, 30 prefixes; port 80 and the own node.
    assert_eq!(
        found[0].message,
        "the ingress policy of an endpoint has 18002 entries; at most 16384 fit"
    );
    assert_eq!(found[0].labels[0].text, "here it goes over: there are 1 before this rule");
}

#[test]
fn of_many_equal_rules_the_one_at_the_limit_is_named() {
    let rules = (1..=17_000_u16).map(|at| {
        let mut rule = allow(None, vec![tcp(at)]);
        rule.span = Span { file: FileId(0), start: u32::from(at), end: u32::from(at) + 1 };
        rule
    });
    let found = messages(&crowd(1), vec![policy("a", "crowd", rules.collect())]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].span().start, 16_385);
    assert_eq!(found[0].labels[0].text, "here it goes over: there are 16384 before this rule");
}
