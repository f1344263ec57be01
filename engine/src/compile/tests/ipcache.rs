//! Addresses: who they are and where they lead, seen from each node.

use super::build::*;
use crate::identity::Identity;
use crate::tables::{IpcacheOrigin, Target};
use crate::topology::{NodeId, Routing, World};

/// A lab with addresses of every kind on node02.
fn lab_with_locals() -> World {
    let mut world = lab();
    world.nodes[1].locals = vec![ip("10.2.0.1"), ip("10.96.0.1")];
    world.nodes[0].locals = vec![ip("10.96.0.1")];
    let mut agent = pod("shop/agent", 1, &["192.168.1.2"], "agent");
    agent.host_network = true;
    world.pods.push(agent);
    world
}

/// The identity and target of addresses as a node sees them, in words.
fn check(lab: &Lab, node: u32, cases: &[(&str, Identity, &str)]) {
    for (address, identity, way) in cases {
        let entry = lab.covering(node, ip(address));
        let found = match entry.target {
            Target::Endpoint(_) => "endpoint".to_owned(),
            Target::Tunnel { remote, node } => format!("tunnel {} {remote}", node.0),
            Target::Native { remote, node } => format!("native {} {remote}", node.0),
            Target::Service(id) => format!("service {}", id.0),
            Target::Host => "host".to_owned(),
            Target::Stack => "stack".to_owned(),
        };
        assert_eq!((entry.identity, found.as_str()), (*identity, *way), "{address}: {entry:?}");
    }
}

#[test]
fn each_node_sees_itself_and_the_others() {
    let lab = Lab::new(lab_with_locals(), vec![]);
    let [client, server] = ["shop/client", "shop/server"].map(|pod| lab.identity(pod));
    let (host, remote, world) = (Identity::HOST, Identity::REMOTE_NODE, Identity::WORLD);
    let from_first = [
        ("10.1.0.10", client, "endpoint"),
        ("10.2.0.10", server, "tunnel 1 192.168.1.2"),
        ("10.1.0.99", world, "stack"),
        ("10.2.0.99", world, "tunnel 1 192.168.1.2"),
        ("192.168.1.1", host, "host"),
        ("192.168.1.2", remote, "stack"),
        ("10.2.0.1", remote, "tunnel 1 192.168.1.2"),
        ("10.96.0.1", host, "host"),
        ("8.8.8.8", world, "stack"),
        ("2001:db8::1", world, "stack"),
    ];
    check(&lab, 0, &from_first);
    let from_second = [
        ("10.1.0.10", client, "tunnel 0 192.168.1.1"),
        ("10.2.0.10", server, "endpoint"),
        ("192.168.1.1", remote, "stack"),
        ("192.168.1.2", host, "host"),
        ("10.2.0.1", host, "host"),
        ("10.96.0.1", host, "host"),
    ];
    check(&lab, 1, &from_second);
    assert_eq!(lab.tables.nodes[0].tunnels, [(net("10.2.0.0/24"), ip("192.168.1.2"))]);
    assert_eq!(lab.tables.nodes[1].locals, ["10.2.0.1", "10.96.0.1", "192.168.1.2"].map(ip));
}

#[test]
fn entries_are_numbered_by_prefix() {
    let lab = Lab::new(lab_with_locals(), vec![]);
    for node in &lab.tables.nodes {
        assert!(node.ipcache.is_sorted_by(|a, b| a.prefix < b.prefix));
        assert!(node.ipcache.iter().zip(1..).all(|(entry, number)| entry.entry.0 == number));
    }
}

#[test]
fn a_prefix_never_hides_a_pod_or_a_node() {
    let prefixes = ["10.2.0.10/32", "192.168.1.2/32", "10.2.0.10/31", "192.168.1.0/24"];
    let peers = prefixes.map(|prefix| cidr(prefix, &[])).to_vec();
    let lab = Lab::new(lab(), vec![policy("a", "server", vec![allow(Some(peers), vec![])])]);
    let server = lab.identity("shop/server");
    let cases = [
        ("10.2.0.10", server, "tunnel 1 192.168.1.2"),
        ("192.168.1.2", Identity::REMOTE_NODE, "stack"),
        ("192.168.1.1", Identity::HOST, "host"),
    ];
    check(&lab, 0, &cases);
    assert!(lab.covering(0, ip("10.2.0.11")).identity.is_cidr());
    assert!(lab.covering(0, ip("192.168.1.3")).identity.is_cidr());
}

#[test]
fn identity_and_way_are_inherited_apart() {
    let cases: [(&str, &str, &str); 4] = [
        // Around the pod prefix, the prefix itself, inside it, and elsewhere.
        ("10.0.0.0/8", "10.2.0.99", "tunnel 1 192.168.1.2"),
        ("10.2.0.0/24", "10.2.0.99", "tunnel 1 192.168.1.2"),
        ("10.2.0.96/28", "10.2.0.99", "tunnel 1 192.168.1.2"),
        ("198.51.100.0/24", "198.51.100.9", "stack"),
    ];
    for (prefix, address, way) in cases {
        let rules = vec![allow(Some(vec![cidr(prefix, &[])]), vec![])];
        let lab = Lab::new(lab(), vec![policy("a", "server", rules)]);
        check(&lab, 0, &[(address, Identity(Identity::FIRST_CIDR), way)]);
        check(&lab, 1, &[(address, Identity(Identity::FIRST_CIDR), "stack")]);
    }
}

#[test]
fn origins_say_why() {
    let rules = vec![allow(Some(vec![cidr("198.51.100.0/24", &["198.51.100.7/32"])]), vec![])];
    let lab = Lab::new(lab_with_locals(), vec![policy("a", "server", rules)]);
    let origin = |address| lab.covering(0, ip(address)).origin.clone();
    assert_eq!(origin("10.2.0.10"), IpcacheOrigin::Pod(lab.pod("shop/server")));
    assert_eq!(origin("10.2.0.99"), IpcacheOrigin::PodPrefix(NodeId(1)));
    assert_eq!(origin("10.2.0.1"), IpcacheOrigin::Node(NodeId(1)));
    assert_eq!(origin("10.96.0.1"), IpcacheOrigin::Node(NodeId(0)));
    assert_eq!(origin("10.1.0.99"), IpcacheOrigin::World);
    for address in ["198.51.100.1", "198.51.100.7"] {
        let IpcacheOrigin::Cidr(rules) = origin(address) else { panic!("{address}") };
        assert_eq!(
            rules.iter().map(|r| lab.policies.rule_handle(*r)).collect::<Vec<_>>(),
            ["shop/a#r0"]
        );
    }
}

#[test]
fn addresses_of_services_are_not_the_nodes() {
    let mut world = lab_with_locals();
    let mut api = service("shop/api", &["10.96.0.1", "fd96::1"], "server");
    api.external_ips = vec![ip("192.168.1.1"), ip("198.51.100.5")];
    api.load_balancer_ips = vec![ip("198.51.100.6")];
    world.services.push(api);
    let rules = vec![allow(Some(vec![cidr("198.51.100.0/24", &[])]), vec![])];
    let lab = Lab::new(world, vec![policy("a", "server", rules)]);
    for node in [0, 1] {
        let mine = ["10.96.0.1", "fd96::1"];
        check(&lab, node, &mine.map(|address| (address, Identity::WORLD, "service 0")));
        // Nobody has such an address: who claims it is outside, and there by the rule's prefix.
        let by_prefix = Identity(Identity::FIRST_CIDR);
        let named = ["198.51.100.5", "198.51.100.6"];
        check(&lab, node, &named.map(|address| (address, by_prefix, "service 0")));
    }
    check(&lab, 0, &[("192.168.1.1", Identity::HOST, "host")]);
    check(&lab, 1, &[("192.168.1.1", Identity::REMOTE_NODE, "stack")]);
    assert_eq!(lab.tables.nodes[0].locals, [ip("192.168.1.1")]);
    assert_eq!(lab.tables.nodes[1].locals, ["10.2.0.1", "192.168.1.2"].map(ip));
    let origin = lab.covering(0, ip("10.96.0.1")).origin.clone();
    assert_eq!(origin, IpcacheOrigin::Service(crate::topology::ServiceId(0)));
}

#[test]
fn health_endpoints_are_reached_like_pods() {
    let mut world = lab();
    world.nodes[1].health = vec![ip("10.2.0.200")];
    let lab = Lab::new(world, vec![]);
    check(&lab, 0, &[("10.2.0.200", Identity::HEALTH, "tunnel 1 192.168.1.2")]);
    check(&lab, 1, &[("10.2.0.200", Identity::HEALTH, "endpoint")]);
    assert_eq!(lab.covering(0, ip("10.2.0.200")).origin, IpcacheOrigin::Health(NodeId(1)));
}

#[test]
fn under_native_routing_packets_go_as_they_are() {
    let mut world = lab_with_locals();
    world.cluster.routing = Routing::Native;
    world.nodes[1].addresses.push(ip("fd01::2"));
    world.nodes[1].pod_cidrs.push(net("fd02::/64"));
    world.nodes[1].health = vec![ip("10.2.0.200")];
    let lab = Lab::new(world, vec![]);
    let server = lab.identity("shop/server");
    let (remote, v4, v6) = (Identity::REMOTE_NODE, Identity::WORLD_IPV4, Identity::WORLD_IPV6);
    let cases = [
        ("10.2.0.10", server, "native 1 192.168.1.2"),
        ("10.2.0.200", Identity::HEALTH, "native 1 192.168.1.2"),
        ("10.2.0.99", v4, "native 1 192.168.1.2"),
        ("fd02::99", v6, "native 1 fd01::2"),
        ("10.2.0.1", remote, "native 1 192.168.1.2"),
        ("192.168.1.2", remote, "stack"),
        ("8.8.8.8", v4, "stack"),
    ];
    check(&lab, 0, &cases);
    assert!(lab.tables.nodes[0].tunnels.is_empty());
}
