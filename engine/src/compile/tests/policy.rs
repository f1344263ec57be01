//! Policy tables: what each kind of rule comes to, who inherits from whom, and what stands behind an entry.

use super::build::peer as peer_of;
use super::build::*;
use crate::identity::Identity;
use crate::net::{Direction, Protocol};
use crate::policy::{Entity, Isolation, PeerKind, Policy, Rule, SubjectKind};
use crate::tables::PolicyEntry;
use crate::topology::{Endpoint, NodeId, Readiness};

/// Peers of the cases, by a word.
fn peer(lab: &Lab, word: &str) -> Identity {
    match word {
        "host" => Identity::HOST,
        "node" => Identity::REMOTE_NODE,
        "world" => Identity::WORLD,
        pod => lab.identity(&format!("shop/{pod}")),
    }
}

/// Traffic of the cases: `80/tcp`, `8/icmp`, `fragment/udp`.
fn traffic(text: &str) -> (Protocol, Option<u16>) {
    let (port, protocol) = text.split_once('/').unwrap();
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        "icmp" => Protocol::Icmp,
        "icmpv6" => Protocol::Icmpv6,
        other => panic!("{other}"),
    };
    (protocol, port.parse().ok())
}

/// Each case: whom the server hears from, by what, and what its ingress table says.
fn check(policies: Vec<Policy>, cases: &[(&str, &str, &str)]) {
    check_at("shop/server", Direction::Ingress, &Lab::new(lab(), policies), cases);
}

fn check_at(pod: &str, direction: Direction, lab: &Lab, cases: &[(&str, &str, &str)]) {
    for (who, what, expected) in cases {
        let (protocol, port) = traffic(what);
        let said = lab.says(pod, direction, peer(lab, who), protocol, port);
        assert_eq!(said, *expected, "{who} {what}");
    }
}

#[test]
fn nobody_is_isolated_without_a_policy() {
    check(
        vec![],
        &[("client", "80/tcp", "allow not-isolated"), ("world", "0/icmp", "allow not-isolated")],
    );
}

#[test]
fn a_rule_isolates_and_the_own_node_comes_in() {
    let rules = vec![allow(Some(vec![pods("client")]), vec![tcp(80)])];
    check(
        vec![policy("a", "server", rules)],
        &[
            ("client", "80/tcp", "allow a#r0"),
            ("client", "80/udp", "default-deny"),
            ("client", "fragment/tcp", "default-deny"),
            ("stranger", "80/tcp", "default-deny"),
            ("world", "80/tcp", "default-deny"),
            ("host", "22/tcp", "allow local-host"),
            ("node", "22/tcp", "default-deny"),
        ],
    );
}

#[test]
fn there_is_no_own_node_rule_on_egress() {
    let lab =
        Lab::new(lab(), vec![policy("a", "server", vec![egress(allow(Some(vec![]), vec![]))])]);
    let cases = [("host", "80/tcp", "default-deny")];
    check_at("shop/server", Direction::Egress, &lab, &cases);
    let cases = [("host", "80/tcp", "allow not-isolated")];
    check_at("shop/server", Direction::Ingress, &lab, &cases);
}

#[test]
fn a_deny_wins_at_any_length() {
    let rules = vec![
        allow(Some(vec![pods("client")]), vec![tcp(80)]),
        allow(Some(vec![pods("client"), pods("stranger")]), vec![]),
        deny(None, vec![tcp(80)]),
        deny(Some(vec![pods("client")]), vec![ports(8000, 8191, Some(Protocol::Tcp))]),
        allow(Some(vec![pods("client")]), vec![tcp(8080)]),
        deny(Some(vec![pods("stranger")]), vec![ports(0, u16::MAX, Some(Protocol::Udp))]),
        allow(None, vec![ports(53, 53, Some(Protocol::Udp))]),
        deny(Some(vec![entity(Entity::Host)]), vec![tcp(22)]),
    ];
    check(
        vec![policy("a", "server", rules)],
        &[
            ("client", "80/tcp", "deny a#r2"),
            ("client", "7999/tcp", "allow a#r1"),
            ("client", "8000/tcp", "deny a#r3"),
            ("client", "8080/tcp", "deny a#r3"),
            ("client", "8192/tcp", "allow a#r1"),
            ("stranger", "53/udp", "deny a#r5"),
            ("stranger", "fragment/udp", "deny a#r5"),
            ("client", "53/udp", "allow a#r6"),
            ("world", "53/udp", "allow a#r6"),
            ("host", "22/tcp", "deny a#r7"),
            ("host", "23/tcp", "allow local-host"),
            ("host", "80/tcp", "deny a#r2"),
        ],
    );
}

#[test]
fn an_entry_names_everything_that_covers_it() {
    let b = vec![
        allow(Some(vec![pods("client")]), vec![]),
        allow(None, vec![tcp(80)]),
        allow(None, vec![ports(80, 95, Some(Protocol::Tcp))]),
        allow(Some(vec![pods("client")]), vec![tcp(81)]),
    ];
    let c = vec![allow(Some(vec![pods("client")]), vec![tcp(81)])];
    check(
        vec![policy("c", "server", c), policy("b", "server", b)],
        &[
            ("client", "81/tcp", "allow b#r0 b#r2 b#r3 c#r0"),
            ("stranger", "80/tcp", "allow b#r1 b#r2"),
            ("client", "80/tcp", "allow b#r1 b#r2"),
            ("stranger", "95/tcp", "allow b#r2"),
            ("stranger", "96/tcp", "default-deny"),
            ("client", "96/tcp", "allow b#r0"),
        ],
    );
}

#[test]
fn a_policy_may_rule_without_isolating() {
    let rules = vec![allow(Some(vec![pods("client")]), vec![tcp(80)]), deny(None, vec![tcp(23)])];
    let mut open = policy("open", "server", rules);
    (open.ingress, open.egress) = (Isolation::Never, Isolation::Never);
    let cases = [
        ("client", "80/tcp", "allow open#r0 not-isolated"),
        ("stranger", "80/tcp", "allow not-isolated"),
        ("stranger", "23/tcp", "deny open#r1"),
        ("host", "23/tcp", "deny open#r1"),
        ("client", "fragment/tcp", "allow not-isolated"),
    ];
    check(vec![open.clone()], &cases);
    let mut closed = policy("closed", "server", vec![]);
    closed.ingress = Isolation::Always;
    check(
        vec![open, closed],
        &[
            ("client", "80/tcp", "allow open#r0"),
            ("stranger", "80/tcp", "default-deny"),
            ("stranger", "23/tcp", "deny open#r1"),
            ("host", "80/tcp", "allow local-host"),
        ],
    );
}

#[test]
fn ports_without_a_protocol_and_whole_protocols() {
    let rules = vec![
        allow(Some(vec![pods("client")]), vec![ports(80, 80, None)]),
        allow(Some(vec![pods("stranger")]), vec![ports(0, u16::MAX, None)]),
        allow(Some(vec![pods("client")]), vec![icmp(Protocol::Icmp, Some(8))]),
        allow(Some(vec![pods("stranger")]), vec![icmp(Protocol::Icmpv6, None)]),
    ];
    check(
        vec![policy("a", "server", rules)],
        &[
            ("client", "80/tcp", "allow a#r0"),
            ("client", "80/udp", "allow a#r0"),
            ("client", "80/sctp", "allow a#r0"),
            ("client", "80/icmp", "default-deny"),
            ("client", "8/icmp", "allow a#r2"),
            ("client", "0/icmp", "default-deny"),
            ("client", "8/icmpv6", "default-deny"),
            ("stranger", "fragment/sctp", "allow a#r1"),
            ("stranger", "65535/udp", "allow a#r1"),
            ("stranger", "8/icmp", "default-deny"),
            ("stranger", "135/icmpv6", "allow a#r3"),
        ],
    );
}

#[test]
fn nobody_and_anybody() {
    let rules = vec![
        allow(Some(vec![]), vec![tcp(80)]),
        allow(Some(vec![entity(Entity::None)]), vec![tcp(81)]),
        allow(Some(vec![entity(Entity::All)]), vec![tcp(82)]),
        allow(Some(vec![entity(Entity::Cluster)]), vec![tcp(83)]),
        allow(Some(vec![entity(Entity::World)]), vec![tcp(84)]),
        allow(Some(vec![entity(Entity::WorldIpv6)]), vec![tcp(85)]),
        allow(Some(vec![entity(Entity::WorldIpv4)]), vec![tcp(86)]),
        allow(Some(vec![cidr("0.0.0.0/0", &[])]), vec![tcp(87)]),
        allow(Some(vec![cidr("::/0", &[])]), vec![tcp(88)]),
    ];
    check(
        vec![policy("a", "server", rules)],
        &[
            ("client", "80/tcp", "default-deny"),
            ("client", "81/tcp", "default-deny"),
            ("node", "82/tcp", "allow a#r2"),
            ("world", "82/tcp", "allow a#r2"),
            ("client", "83/tcp", "allow a#r3"),
            ("node", "83/tcp", "allow a#r3"),
            ("host", "83/tcp", "allow a#r3 local-host"),
            ("world", "83/tcp", "default-deny"),
            ("world", "84/tcp", "allow a#r4"),
            ("client", "84/tcp", "default-deny"),
            ("world", "85/tcp", "default-deny"),
            ("world", "86/tcp", "default-deny"),
            ("world", "87/tcp", "allow a#r7"),
            ("client", "87/tcp", "default-deny"),
            ("world", "88/tcp", "default-deny"),
        ],
    );
}

/// A world whose servers disagree about `http`, and one that has no such port.
fn disagreeing() -> Lab {
    let mut world = lab();
    world.pods.truncate(1);
    let old = pod("shop/old", 1, &["10.2.0.10"], "server");
    let new = pod("shop/new", 1, &["10.2.0.11"], "server");
    let new = named(named(new, "http", 8081, Protocol::Tcp), "dns", 53, Protocol::Udp);
    world.pods.extend([named(old, "http", 8080, Protocol::Tcp), new]);
    world.pods.push(pod("shop/none", 1, &["10.2.0.12"], "server"));
    let client = vec![
        egress(allow(Some(vec![pods("server")]), vec![port_name("http", None)])),
        egress(allow(None, vec![port_name("dns", Some(Protocol::Udp)), tcp(443)])),
        egress(deny(None, vec![port_name("dns", Some(Protocol::Tcp))])),
    ];
    let server = vec![allow(Some(vec![pods("client")]), vec![port_name("http", None)])];
    Lab::new(world, vec![policy("client", "client", client), policy("server", "server", server)])
}

#[test]
fn named_ports_are_the_destinations() {
    let lab = disagreeing();
    let sent = [
        ("old", "8080/tcp", "allow client#r0"),
        ("old", "8081/tcp", "default-deny"),
        ("new", "8081/tcp", "allow client#r0"),
        ("new", "53/udp", "allow client#r1"),
        ("new", "53/tcp", "default-deny"),
        ("old", "53/udp", "default-deny"),
        ("none", "8080/tcp", "default-deny"),
        ("none", "443/tcp", "allow client#r1"),
        ("world", "53/udp", "default-deny"),
        ("world", "443/tcp", "allow client#r1"),
    ];
    check_at("shop/client", Direction::Egress, &lab, &sent);
    let received = [
        ("shop/old", "8080/tcp", "allow server#r0"),
        ("shop/old", "8081/tcp", "default-deny"),
        ("shop/new", "8081/tcp", "allow server#r0"),
        ("shop/none", "8080/tcp", "default-deny"),
    ];
    for (server, what, expected) in received {
        check_at(server, Direction::Ingress, &lab, &[("client", what, expected)]);
    }
}

#[test]
fn equal_tables_are_one_and_keep_their_own_rules() {
    let mut world = lab();
    world.pods.push(pod("shop/other", 1, &["10.2.0.20"], "other"));
    let rules = || vec![allow(Some(vec![pods("client")]), vec![tcp(80)])];
    let lab = Lab::new(world, vec![policy("a", "server", rules()), policy("b", "other", rules())]);
    let node = &lab.tables.nodes[1];
    let [server, other] = ["shop/server", "shop/other"].map(|pod| lab.pod(pod));
    let [server, other] = [server, other].map(|pod| node.endpoint_of(Endpoint::Pod(pod)).unwrap());
    assert_eq!(server.ingress, other.ingress);
    assert_eq!(server.egress, other.egress);
    assert_eq!(node.policies.len(), 2);
    let client = lab.identity("shop/client");
    for (pod, expected) in [("shop/server", "allow a#r0"), ("shop/other", "allow b#r0")] {
        assert_eq!(lab.says(pod, Direction::Ingress, client, Protocol::Tcp, Some(80)), expected);
    }
}

#[test]
fn entries_are_sorted_numbered_and_each_has_its_origins() {
    let lab = disagreeing();
    for node in &lab.tables.nodes {
        for table in &node.policies {
            assert!(table.entries.is_sorted_by(|a, b| a.key < b.key));
            for (entry, number) in table.entries.iter().zip(1..) {
                let PolicyEntry { key, entry, .. } = entry;
                assert_eq!(entry.0, number);
                let bits = u32::from(key.port_bits);
                assert_eq!(u32::from(key.port) << bits & 0xFFFF, 0, "{key:?}");
                assert!(key.protocol.is_some() || key.port_bits == 0, "{key:?}");
            }
        }
        for endpoint in &node.endpoints {
            let tables =
                [(Direction::Egress, endpoint.egress), (Direction::Ingress, endpoint.ingress)];
            for (direction, table) in tables {
                for entry in &node.table(table).unwrap().entries {
                    let provenance = &lab.tables.provenance;
                    let origins =
                        provenance.origins(node.node, endpoint.id, direction, entry.entry);
                    assert!(!origins.is_empty());
                    assert!(origins.is_sorted(), "rules by handle and place, implied ones last");
                }
            }
        }
    }
}

/// A policy about nodes of a name.
fn node_policy(name: &str, node: &str, rules: Vec<Rule>) -> Policy {
    let mut policy = policy(name, node, rules);
    policy.subject.requirements[0].key = "name".into();
    Policy { subject_kind: SubjectKind::Nodes, namespace: None, ..policy }
}

#[test]
fn policies_of_nodes_are_for_nodes_alone() {
    let ssh = || vec![allow(Some(vec![entity(Entity::RemoteNode)]), vec![tcp(22)])];
    let mut world = lab();
    // A pod with the labels of a node, and a node with the labels of a pod.
    world.pods[0].labels = [("name".to_owned(), "node01".to_owned())].into();
    world.nodes[0].labels.insert("app".into(), "server".into());
    world.nodes[0].health = vec![ip("10.1.0.200")];
    let policies = vec![
        node_policy("nodes", "node01", ssh()),
        policy("pods", "server", vec![allow(Some(vec![pods("client")]), vec![tcp(80)])]),
    ];
    world.cluster.host_firewall = true;
    let lab = Lab::new(world.clone(), policies.clone());
    let says = |endpoint, direction, peer, port| {
        lab.says_at(endpoint, direction, peer, Protocol::Tcp, Some(port))
    };
    let [first, second] = [0, 1].map(|node| Endpoint::Host(NodeId(node)));
    let (remote, host) = (Identity::REMOTE_NODE, Identity::HOST);
    assert_eq!(says(first, Direction::Ingress, remote, 22), "allow nodes#r0");
    assert_eq!(says(first, Direction::Ingress, remote, 80), "default-deny");
    // Only pods let their own node in without being told to.
    assert_eq!(says(first, Direction::Ingress, host, 22), "default-deny");
    assert_eq!(says(first, Direction::Egress, remote, 22), "allow not-isolated");
    assert_eq!(says(second, Direction::Ingress, remote, 80), "allow not-isolated");
    let client = Endpoint::Pod(lab.pod("shop/client"));
    assert_eq!(says(client, Direction::Ingress, remote, 80), "allow not-isolated");
    let health = Endpoint::Health(NodeId(0));
    assert_eq!(says(health, Direction::Ingress, remote, 4240), "allow not-isolated");
    assert_eq!(
        lab.says("shop/server", Direction::Ingress, host, Protocol::Tcp, Some(1)),
        "allow local-host"
    );

    world.cluster.host_firewall = false;
    let off = Lab::new(world, policies);
    assert!(off.tables.nodes.iter().all(|node| node.endpoint_of(first).is_none()));
}

#[test]
fn a_service_as_a_peer_is_its_pods() {
    let mut world = lab();
    world.services.push(service("shop/web", &["10.96.0.10"], "server"));
    world.pods[2].readiness = Readiness::NotReady;
    let to =
        |name: &str| peer_of(PeerKind::Service { namespace: "shop".into(), name: name.into() });
    let rules = vec![egress(allow(Some(vec![to("web"), to("gone")]), vec![]))];
    let lab = Lab::new(world, vec![policy("a", "client", rules)]);
    let cases = [
        ("server", "80/tcp", "allow a#r0"),
        ("server", "9999/udp", "allow a#r0"),
        ("stranger", "80/tcp", "default-deny"),
        ("world", "80/tcp", "default-deny"),
    ];
    check_at("shop/client", Direction::Egress, &lab, &cases);
}
