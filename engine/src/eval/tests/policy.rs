//! What policy means: who is selected, isolated, allowed and denied.

use super::*;
use crate::eval::Trial;

#[test]
fn nothing_is_isolated_without_policies() {
    let mut scene = Scene::new(PolicySet::default());
    let judgement = scene.send(&syn(C4, S4, 80));
    let open = LegOutcome::NotIsolated;
    assert_eq!(
        outcomes(&judgement),
        [(Direction::Egress, open), (Direction::Ingress, open)],
        "{judgement:?}"
    );
    assert_eq!(origins(ingress(&judgement)), (vec![], vec![Implied::NotIsolated]));
}

#[test]
fn isolation_is_per_direction_and_endpoint() {
    let policies = PolicySet::new(vec![policy("c", "client", vec![allow_to("server", "80/tcp")])]);
    table(
        &policies,
        &[
            (syn(C4, S4, 80), ALLOWED),
            (syn(C4, S4, 81), DENIED),
            (syn(S4, C4, 81), ALLOWED),
            (syn(X4, S4, 81), ALLOWED),
            (syn(V4, S4, 81), ALLOWED),
            (syn(C6, S6, 81), DENIED),
        ],
    );
    let mut scene = Scene::new(policies);
    let judgement = scene.send(&syn(C4, S4, 81));
    assert_eq!(outcomes(&judgement), [(Direction::Egress, LegOutcome::DefaultDeny)]);
    assert_eq!(egress(&judgement).isolated_by.len(), 1);
    assert_eq!(origins(egress(&judgement)), (vec![], vec![Implied::DefaultDeny]));
}

#[test]
fn default_deny_isolates_without_a_rule() {
    let isolating = Policy { ingress: Isolation::Always, ..policy("s", "server", vec![]) };
    table(
        &PolicySet::new(vec![isolating]),
        &[(syn(C4, S4, 80), DENIED), (syn(S4, C4, 80), ALLOWED)],
    );
}

#[test]
fn default_deny_off_isolates_nobody_but_its_rules_count() {
    let off = |name, rules| Policy {
        ingress: Isolation::Never,
        egress: Isolation::Never,
        ..policy(name, "server", rules)
    };
    let rules = vec![allow_from("client", "80/tcp"), deny_from("", "23/tcp")];
    let alone = PolicySet::new(vec![off("a", rules.clone())]);
    table(
        &alone,
        &[(syn(C4, S4, 80), ALLOWED), (syn(X4, S4, 80), ALLOWED), (syn(X4, S4, 23), DENY)],
    );
    let mut scene = Scene::new(alone);
    let open = scene.alone(&syn(C4, S4, 80));
    assert_eq!(origins(ingress(&open)), (vec![0], vec![Implied::NotIsolated]));
    assert_eq!(ingress(&open).outcome, LegOutcome::Allow);
    assert_eq!(ingress(&scene.alone(&syn(X4, S4, 80))).outcome, LegOutcome::NotIsolated);

    let closed = Policy { ingress: Isolation::Always, ..policy("b", "server", vec![]) };
    table(
        &PolicySet::new(vec![off("a", rules), closed]),
        &[(syn(C4, S4, 80), ALLOWED), (syn(X4, S4, 80), DENIED), (syn(C4, S4, 81), DENIED)],
    );
}

#[test]
fn deny_beats_allow_at_any_specificity() {
    let rules = vec![
        allow_from("client", "80/tcp"),
        allow_from("client", ""),
        deny_from("", "80/tcp"),
        deny_from("client", "8000-8191/tcp"),
        deny_from("@all", "icmp"),
    ];
    let policies = server(rules);
    table(
        &policies,
        &[
            (syn(C4, S4, 80), DENY),
            (syn(C4, S4, 7999), ALLOWED),
            (syn(C4, S4, 8000), DENY),
            (syn(C6, S6, 8191), DENY),
            (syn(C4, S4, 8192), ALLOWED),
            (ping(C4, S4, 8, 0), DENY),
            (ping(C6, S6, 128, 0), ALLOWED),
        ],
    );
    let mut scene = Scene::new(policies);
    assert_eq!(origins(ingress(&scene.alone(&syn(C4, S4, 80)))), (vec![2], vec![]));
}

#[test]
fn every_rule_that_carries_the_winning_action_is_named() {
    let mut scene = Scene::new(server(vec![
        allow_from("client", ""),
        allow_from("", "80/tcp"),
        allow_from("", "80-95/tcp"),
        allow_from("stranger", "80/tcp"),
        deny_from("stranger", ""),
    ]));
    let judgement = scene.send(&syn(C4, S4, 80));
    assert_eq!(origins(ingress(&judgement)), (vec![0, 1, 2], vec![]));
    assert_eq!(ingress(&judgement).trials.len(), 5);
}

#[test]
fn policies_add_up() {
    let second = policy("b", "", vec![allow_from("/*", "9100/tcp")]);
    let first = policy("a", "server", vec![allow_from("client", "80/tcp")]);
    table(
        &PolicySet::new(vec![second, first]),
        &[
            (syn(C4, S4, 80), ALLOWED),
            (syn(V4, S4, 9100), ALLOWED),
            (syn(V4, S4, 80), DENIED),
            (syn(S4, C4, 80), DENIED),
            (syn(S4, V4, 80), ALLOWED),
        ],
    );
}

#[test]
fn the_own_node_is_always_allowed_in_unless_denied() {
    let denied = deny_from("@host", "22/tcp");
    let rules = vec![allow_from("client", "80/tcp"), denied];
    let (own, other) = ("192.168.1.2", "192.168.1.1");
    let policies = server(rules);
    table(
        &policies,
        &[
            (syn(own, S4, 1), ALLOWED),
            (ping(own, S4, 8, 0), ALLOWED),
            (syn("fd00:a::2", S6, 1), ALLOWED),
            (syn(own, S4, 22), DENY),
            (syn(other, S4, 1), DENIED),
            (syn("fd00:a::1", S6, 1), DENIED),
        ],
    );
    let mut scene = Scene::new(policies);
    let local = (vec![], vec![Implied::LocalHost]);
    assert_eq!(origins(ingress(&scene.alone(&syn(own, S4, 1)))), local);
}

#[test]
fn there_is_no_local_host_rule_on_egress() {
    let closed = Policy { egress: Isolation::Always, ..policy("s", "server", vec![]) };
    table(&PolicySet::new(vec![closed]), &[(syn(S4, "192.168.1.2", 80), DENIED)]);
}

#[test]
fn host_is_not_remote_node() {
    let rules = vec![
        allow_to("@host", "53/udp"),
        allow_to("@remote-node", "22/tcp"),
        allow_from("@remote-node", "80/tcp"),
        allow_from("@host", "443/tcp"),
    ];
    table(
        &PolicySet::new(vec![policy("s", "", rules)]),
        &[
            (datagram(C4, "192.168.1.1", 53), ALLOWED),
            (datagram(C4, "192.168.1.2", 53), DENIED),
            (syn(C4, "192.168.1.2", 22), ALLOWED),
            (syn(C4, "192.168.1.1", 22), DENIED),
            // A local address of the own node, of the other, and one that both have.
            (datagram(C4, "10.1.0.1", 53), ALLOWED),
            (syn(C4, "10.2.0.1", 22), ALLOWED),
            (datagram(S4, "10.96.0.1", 53), ALLOWED),
            (syn("192.168.1.1", S4, 80), ALLOWED),
            (syn("192.168.1.1", S4, 443), DENIED),
            (syn("192.168.1.2", S4, 443), ALLOWED),
        ],
    );
}

#[test]
fn host_network_pods_are_their_node() {
    let mut scene = Scene::new(PolicySet::new(vec![
        policy("a", "server", vec![allow_from("client", ""), allow_from("@remote-node", "9/tcp")]),
        Policy { egress: Isolation::Always, ..policy("b", "client", vec![]) },
    ]));
    let mut ask = |to: &str, port| {
        let judgement = scene.send_from(Party::Pod(AGENT), &syn("192.168.1.1", to, port));
        (word(&judgement), judgement.legs.len())
    };
    assert_eq!(ask(S4, 80), (DENIED, 1), "no pod peer matches it, no policy selects it");
    assert_eq!(ask(S4, 9), (ALLOWED, 1));
    assert_eq!(ask(L4, 80), (ALLOWED, 1), "it is the own node of the receiver");
    assert_eq!(ask("192.168.1.2", 80), (ALLOWED, 0));
}

#[test]
fn a_cidr_never_means_pods_or_nodes() {
    let rules = vec![allow_from("0.0.0.0/0, ::/0", ""), allow_to("0.0.0.0/0", "")];
    table(
        &PolicySet::new(vec![policy("s", "server", rules)]),
        &[
            (syn(W4, S4, 80), ALLOWED),
            (syn(W6, S6, 80), ALLOWED),
            (syn(C4, S4, 80), DENIED),
            (syn("192.168.1.1", S4, 80), DENIED),
            (syn(S4, C4, 80), DENIED),
            (syn(S4, "192.168.1.1", 80), DENIED),
            (syn(S4, W4, 80), ALLOWED),
            (syn(S6, W6, 80), DENIED),
            // Nobody has the address, so it is outside, though a node's prefix holds it.
            (syn(S4, "10.1.0.200", 80), ALLOWED),
        ],
    );
}

#[test]
fn except_is_a_hole_in_one_rule() {
    let rules = vec![
        allow_from("198.51.100.0/24-198.51.100.64/26", "80/tcp"),
        allow_from("198.51.100.64/27", "443/tcp"),
        deny_from("203.0.113.0/24-203.0.113.128/25", ""),
        allow_from("203.0.112.0/20", ""),
    ];
    table(
        &server(rules),
        &[
            (syn("198.51.100.63", S4, 80), ALLOWED),
            (syn("198.51.100.64", S4, 80), DENIED),
            (syn("198.51.100.70", S4, 443), ALLOWED),
            (syn("203.0.113.1", S4, 80), DENY),
            (syn("203.0.113.200", S4, 80), ALLOWED),
        ],
    );
}

#[test]
fn world_covers_every_prefix() {
    let rules = vec![allow_from("198.51.100.0/24", ""), deny_from("@world", "22/tcp")];
    table(
        &server(rules),
        &[(syn(W4, S4, 80), ALLOWED), (syn(W4, S4, 22), DENY), (syn(W6, S6, 22), DENY)],
    );
}

#[test]
fn the_world_has_two_families_in_a_dual_stack_cluster_only() {
    let rules = vec![
        allow_from("@world-ipv4", "4/tcp"),
        allow_from("@world-ipv6", "6/tcp"),
        allow_from("@world", "80/tcp"),
    ];
    let policies = server(rules);
    table(
        &policies,
        &[
            (syn(W4, S4, 4), ALLOWED),
            (syn(W4, S4, 6), DENIED),
            (syn(W6, S6, 6), ALLOWED),
            (syn(W6, S6, 4), DENIED),
            (syn(W4, S4, 80), ALLOWED),
            (syn(W6, S6, 80), ALLOWED),
        ],
    );
    let mut scene = Scene::new(policies);
    scene.world = one_family(scene.world);
    assert_eq!(word(&scene.alone(&syn(W4, S4, 80))), ALLOWED);
    assert_eq!(word(&scene.alone(&syn(W4, S4, 4))), DENIED, "the world is one identity");
}

#[test]
fn entities_inside_outside_and_nobody() {
    let rules = vec![
        allow_from("@cluster", "1/tcp"),
        allow_from("@all", "2/tcp"),
        allow_from("@none, @kube-apiserver, @health, @init, @unmanaged, @ingress", "3/tcp"),
    ];
    let remote = "192.168.1.1";
    table(
        &server(rules),
        &[
            (syn(V4, S4, 1), ALLOWED),
            (syn(remote, S4, 1), ALLOWED),
            (syn(W4, S4, 1), DENIED),
            (syn(V4, S4, 2), ALLOWED),
            (syn(remote, S4, 2), ALLOWED),
            (syn(W4, S4, 2), ALLOWED),
            (syn(V4, S4, 3), DENIED),
            (syn(remote, S4, 3), DENIED),
            (syn(W4, S4, 3), DENIED),
        ],
    );
}

#[test]
fn nobody_and_anybody() {
    let rules = vec![allow_from("none", "80/tcp"), allow_from("", "443/tcp")];
    assert_eq!(rules[0].peers.as_deref(), Some(&[][..]));
    table(
        &server(rules),
        &[(syn(C4, S4, 80), DENIED), (syn(W4, S4, 443), ALLOWED), (syn(V6, S6, 443), ALLOWED)],
    );
}

#[test]
fn a_peer_without_namespace_is_of_the_own_one() {
    let rules = vec![
        allow_from("client", "1/tcp"),
        allow_from("client/vault", "2/tcp"),
        allow_from("client/*", "3/tcp"),
    ];
    let by_label = Namespaces::Matching(Selector { requirements: vec![equals("team", "bank")] });
    let mut labelled = allow_from("client", "4/tcp");
    labelled.peers = Some(vec![Peer {
        kind: PeerKind::Pods { selector: selector("client"), namespaces: by_label },
        span: span(2),
    }]);
    let own = policy("s", "server", [rules.clone(), vec![labelled]].concat());
    table(
        &PolicySet::new(vec![own]),
        &[
            (syn(C4, S4, 1), ALLOWED),
            (syn(V4, S4, 1), DENIED),
            (syn(C4, S4, 2), DENIED),
            (syn(V4, S4, 2), ALLOWED),
            (syn(C4, S4, 3), ALLOWED),
            (syn(V4, S4, 3), ALLOWED),
            (syn(C4, S4, 4), DENIED),
            (syn(V4, S4, 4), ALLOWED),
        ],
    );
    let everywhere = PolicySet::new(vec![clusterwide("s", "server", rules)]);
    table(&everywhere, &[(syn(C4, S4, 1), ALLOWED), (syn(V4, S4, 1), ALLOWED)]);
}

#[test]
fn a_policy_selects_in_its_own_namespace() {
    let own = policy("c", "client", vec![deny_from("", "")]);
    table(&PolicySet::new(vec![own]), &[(syn(S4, C4, 1), DENY), (syn(S4, V4, 1), ALLOWED)]);
    let any = clusterwide("c", "client", vec![deny_from("", "")]);
    table(&PolicySet::new(vec![any]), &[(syn(S4, C4, 1), DENY), (syn(S4, V4, 1), DENY)]);
}

#[test]
fn named_ports_are_the_destinations() {
    let to = allow_to("server", "http");
    let from = allow_from("client", "http/tcp");
    let policies = PolicySet::new(vec![
        policy("c", "client", vec![to, allow_to("@world", "http")]),
        policy("s", "server", vec![from]),
    ]);
    let mut scene = Scene::new(policies);
    scene.world.pods[2].ports = vec![named_port("http", 8080, Protocol::Tcp)];
    scene.world.pods[4].ports =
        vec![named_port("http", 8081, Protocol::Tcp), named_port("http", 53, Protocol::Udp)];
    scene.world.pods[0].ports = vec![named_port("http", 1, Protocol::Tcp)];
    let mut check = |packet: &Packet, expected: &[(Direction, LegOutcome)]| {
        assert_eq!(outcomes(&scene.alone(packet)), expected, "{packet:?}");
    };
    let allow = LegOutcome::Allow;
    let both = [(Direction::Egress, allow), (Direction::Ingress, allow)];
    check(&syn(C4, S4, 8080), &both);
    check(&syn(C4, L4, 8081), &both);
    let egress = [(Direction::Egress, LegOutcome::DefaultDeny)];
    check(&syn(C4, S4, 8081), &egress);
    check(&syn(C4, S4, 1), &egress);
    check(&syn(C4, W4, 8080), &egress);
    let ingress = [(Direction::Egress, allow), (Direction::Ingress, LegOutcome::DefaultDeny)];
    check(&datagram(C4, L4, 53), &ingress);
}

#[test]
fn ranges_have_exact_edges() {
    let rules = vec![allow_from("", "80-444/tcp"), allow_from("", "65534-65535/udp")];
    table(
        &server(rules),
        &[
            (syn(C4, S4, 79), DENIED),
            (syn(C4, S4, 80), ALLOWED),
            (syn(C4, S4, 444), ALLOWED),
            (syn(C4, S4, 445), DENIED),
            (datagram(C4, S4, 65533), DENIED),
            (datagram(C4, S4, 65535), ALLOWED),
            (datagram(C4, S4, 80), DENIED),
        ],
    );
}

#[test]
fn a_port_without_protocol_is_of_every_protocol_but_icmp() {
    let sctp = |port| packet(C4, S4, Transport::Sctp { source: 1, destination: port });
    table(
        &server(vec![allow_from("", "80"), allow_from("", "8/tcp, icmp 8")]),
        &[
            (syn(C4, S4, 80), ALLOWED),
            (datagram(C4, S4, 80), ALLOWED),
            (sctp(80), ALLOWED),
            (sctp(8), DENIED),
            (ping(C4, S4, 80, 0), DENIED),
            (ping(C4, S4, 8, 0), ALLOWED),
            (ping(C6, S6, 8, 0), DENIED),
        ],
    );
}

#[test]
fn icmp_and_icmpv6_are_two_protocols_with_types() {
    let rules = vec![
        allow_from("client", "icmp 8"),
        allow_from("client", "icmpv6 128"),
        allow_from("stranger", "icmp"),
    ];
    table(
        &server(rules),
        &[
            (ping(C4, S4, 8, 0), ALLOWED),
            (ping(C6, S6, 128, 0), ALLOWED),
            (ping(C4, S4, 13, 0), DENIED),
            (ping(C4, S4, 0, 0), DENIED),
            (ping(X4, S4, 13, 0), ALLOWED),
            (ping("fd00:1::11", S6, 128, 0), DENIED),
            (syn(C4, S4, 8), DENIED),
        ],
    );
}

#[test]
fn fragmentation_needed_passes_outright() {
    let policies = server(vec![deny_from("", "")]);
    table(
        &policies,
        &[
            (ping(C4, S4, 3, 4), ALLOWED),
            (ping(W4, S4, 3, 4), ALLOWED),
            (ping(C4, S4, 3, 3), DENY),
            (ping(C6, S6, 2, 0), DENY),
            (ping(C6, S6, 3, 4), DENY),
        ],
    );
    let judgement = Scene::new(policies).send(&ping(C4, S4, 3, 4));
    let leg = ingress(&judgement);
    assert_eq!((leg.outcome, leg.matching.is_empty()), (LegOutcome::Allow, true));
}

#[test]
fn rules_of_other_pods_policies_are_no_trials() {
    let mut scene = Scene::new(PolicySet::new(vec![
        policy("a", "client", vec![allow_from("client", "")]),
        policy("b", "server", vec![allow_to("", ""), allow_from("stranger", "")]),
    ]));
    let judgement = scene.send(&syn(C4, S4, 80));
    let trials: Vec<&Trial> = ingress(&judgement).trials.iter().collect();
    let ids: Vec<_> = trials.iter().map(|t| (t.rule.policy.0, t.rule.index)).collect();
    assert_eq!(ids, [(1, 1)]);
    assert!(!trials[0].matches());
}
