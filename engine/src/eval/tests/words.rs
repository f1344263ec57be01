//! The words and places of conditions that fail.

use super::*;
use crate::eval::Check;

/// The checks of one rule of the server's, held against a packet.
fn checks(rule: Rule, packet: &Packet) -> Vec<Check> {
    let mut scene = Scene::new(server(vec![rule]));
    scene.world.pods[2].ports = vec![named_port("http", 8080, Protocol::Tcp)];
    let judgement = scene.send(packet);
    ingress(&judgement).trials[0].checks.clone()
}

/// Name, what is wanted, what is, and where; `ok` where the check holds.
fn said(checks: &[Check]) -> Vec<String> {
    let one = |check: &Check| match &check.mismatch {
        None => format!("{} ok", check.name),
        Some(m) => format!("{} wants {}, is {} @{}", check.name, m.wants, m.is, m.span.start),
    };
    checks.iter().map(one).collect()
}

#[test]
fn peers_in_words() {
    let check = |peers: &str, packet: &Packet, expected: &str| {
        assert_eq!(said(&checks(allow_from(peers, ""), packet)), [expected], "{peers}");
    };
    let stranger = syn(X4, S4, 80);
    check("client", &syn(C4, S4, 80), "from ok");
    check(
        "client",
        &stranger,
        "from wants pods {app=client} in shop, is pod shop/stranger {app=stranger} @5",
    );
    check(
        "client",
        &syn(V4, S4, 80),
        "from wants pods {app=client} in shop, is pod vault/client {app=client} @2",
    );
    check(
        "client/vault",
        &stranger,
        "from wants pods {app=client} in vault, is pod shop/stranger {app=stranger} @2",
    );
    check(
        "client/*",
        &syn(W4, S4, 80),
        "from wants pods {app=client} in any namespace, is world-ipv4 @2",
    );
    check("@world", &stranger, "from wants world, is pod shop/stranger {app=stranger} @2");
    check(
        "@host, @world",
        &syn("192.168.1.1", S4, 80),
        "from wants host or world, is remote-node @2",
    );
    check(
        "10.9.0.0/16-10.9.1.0/24",
        &syn("10.9.1.1", S4, 80),
        "from wants cidr 10.9.0.0/16 except 10.9.1.0/24, is world-ipv4 10.9.1.1 @2",
    );
    check(
        "2001:db8::/32",
        &syn(W4, S4, 80),
        "from wants cidr 2001:db8::/32, is world-ipv4 198.51.100.7 @2",
    );
    check("none", &stranger, "from wants nobody, is pod shop/stranger {app=stranger} @1");
    check("@none", &stranger, "from wants nobody, is pod shop/stranger {app=stranger} @2");
}

#[test]
fn ports_in_words() {
    let check = |ports: &str, packet: &Packet, expected: &str| {
        assert_eq!(said(&checks(allow_from("", ports), packet)), [expected], "{ports}");
    };
    let web = syn(C4, S4, 8080);
    check("8080/tcp", &web, "port ok");
    check("tcp", &web, "protocol ok");
    check("http", &web, "port ok");
    check("80/tcp", &web, "port wants 80/tcp, is 8080/tcp @3");
    check("80", &web, "port wants 80, is 8080/tcp @3");
    check("80/tcp, 443/tcp", &web, "port wants 80/tcp or 443/tcp, is 8080/tcp @3");
    check("53/udp, 80-90/tcp", &web, "port wants 53/udp or 80-90/tcp, is 8080/tcp @3");
    check("8080/udp", &web, "protocol wants 8080/udp, is 8080/tcp @3");
    check("udp", &web, "protocol wants udp, is 8080/tcp @3");
    check("http", &syn(C4, S4, 80), "port wants port http (8080/tcp), is 80/tcp @3");
    check("https", &web, "port wants port https (none of shop/server), is 8080/tcp @3");
    check("icmp 8", &web, "icmp wants icmp echo-request, is 8080/tcp @3");
    let asked = ping(C4, S4, 13, 0);
    check("icmp 8", &asked, "icmp wants icmp echo-request, is icmp timestamp-request @3");
    check("icmp", &asked, "icmp ok");
    check("icmp 42", &asked, "icmp wants icmp 42, is icmp timestamp-request @3");
    check("8/tcp", &asked, "protocol wants 8/tcp, is icmp timestamp-request @3");
    check(
        "8/tcp, icmp 8",
        &asked,
        "icmp wants 8/tcp or icmp echo-request, is icmp timestamp-request @3",
    );
}

#[test]
fn the_peer_comes_first_and_what_is_not_stated_is_no_condition() {
    let packet = syn(X4, S4, 80);
    let both = checks(allow_from("client", "80/tcp"), &packet);
    assert_eq!(both.iter().map(|c| c.name).collect::<Vec<_>>(), ["from", "port"]);
    assert_eq!(said(&both)[1], "port ok");
    assert!(checks(allow_from("", ""), &packet).is_empty());
}

#[test]
fn egress_is_about_whom_it_goes_to() {
    let rules = vec![allow_to("server", "http"), allow_to("@world", "http")];
    let mut scene = Scene::new(PolicySet::new(vec![policy("c", "client", rules)]));
    let judgement = scene.send(&syn(C4, W4, 80));
    let trials = &egress(&judgement).trials;
    assert_eq!(
        said(&trials[0].checks),
        [
            "to wants pods {app=server} in shop, is world-ipv4 @2",
            "port wants port http (of a pod), is 80/tcp @3"
        ]
    );
    assert_eq!(said(&trials[1].checks)[0], "to ok");
}

#[test]
fn the_world_of_one_family_is_one_word() {
    let mut scene = Scene::new(server(vec![allow_from("client", "")]));
    scene.world = one_family(scene.world);
    let judgement = scene.send(&syn(W4, S4, 80));
    let words = said(&ingress(&judgement).trials[0].checks);
    assert_eq!(words, ["from wants pods {app=client} in shop, is world @2"]);
}

#[test]
fn several_namespaces_in_words() {
    let mut rule = allow_from("client", "");
    let namespaces = Namespaces::Matching(Selector { requirements: vec![equals("team", "bank")] });
    rule.peers = Some(vec![Peer {
        kind: PeerKind::Pods { selector: selector(""), namespaces },
        span: span(2),
    }]);
    let words = said(&checks(rule, &syn(C4, S4, 80)));
    assert_eq!(
        words,
        ["from wants pods {} in namespaces {team=bank}, is pod shop/client {app=client} @5"]
    );
}
