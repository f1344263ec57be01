//! Identities: their numbers, what they depend on and what they do not, and where a class is split.

use super::build::*;
use crate::identity::Identity;
use crate::net::Protocol;
use crate::source::Span;
use crate::tables::IdentityClass;
use crate::topology::{Endpoint, IdentityPin};

fn pin(number: u32, app: &str) -> IdentityPin {
    let labels = [("app".to_owned(), app.to_owned())].into();
    IdentityPin { number, namespace: "shop".into(), labels, span: Span::default() }
}

#[test]
fn numbers_follow_the_sorted_classes_and_skip_pins() {
    let mut world = lab();
    world.pods.push(pod("shop/second", 1, &["10.2.0.11"], "client"));
    world.pods.push(pod("apps/client", 1, &["10.2.0.12"], "client"));
    world.pins = vec![pin(257, "server"), pin(300, "nobody")];
    let numbers = |lab: &Lab| {
        ["apps/client", "shop/client", "shop/second", "shop/server", "shop/stranger"]
            .map(|pod| lab.identity(pod).0)
    };
    assert_eq!(numbers(&Lab::new(world.clone(), vec![])), [256, 258, 258, 257, 259]);
    world.pods.reverse();
    world.pins.reverse();
    assert_eq!(numbers(&Lab::new(world, vec![])), [256, 258, 258, 257, 259]);
}

#[test]
fn a_class_is_split_only_where_a_rule_asks() {
    let mut world = lab();
    world.pods.truncate(1);
    for (name, address, port) in
        [("a", "10.2.0.10", 80), ("b", "10.2.0.11", 81), ("c", "10.2.0.12", 81)]
    {
        let server = pod(&format!("shop/{name}"), 1, &[address], "server");
        let server = named(server, "http", port, Protocol::Tcp);
        world.pods.push(named(server, "metrics", 9100 + port, Protocol::Tcp));
    }
    world.pods.push(pod("shop/d", 1, &["10.2.0.13"], "server"));
    world.pins = vec![pin(1000, "server")];
    let servers = ["shop/a", "shop/b", "shop/c", "shop/d"];
    let by_ingress = policy("x", "server", vec![allow(None, vec![port_name("http", None)])]);
    let whole = Lab::new(world.clone(), vec![by_ingress.clone()]);
    assert_eq!(servers.map(|s| whole.identity(s).0), [1000; 4]);
    let by_other = vec![egress(allow(None, vec![port_name("http", Some(Protocol::Udp))]))];
    let whole = Lab::new(world.clone(), vec![policy("y", "client", by_other)]);
    assert_eq!(servers.map(|s| whole.identity(s).0), [1000; 4], "nobody has http/udp");

    let by_egress = vec![egress(allow(None, vec![port_name("http", None)]))];
    let split = Lab::new(world, vec![by_ingress, policy("y", "client", by_egress)]);
    let [a, b, c, d] = servers.map(|s| split.identity(s));
    assert_eq!(b, c);
    assert!(a != b && b != d && a != d);
    assert!([a, b, d].iter().all(|id| id.0 != 1000), "the pin is the undivided class's");
    let variant = |id: Identity| match &split.tables.identities[&id] {
        IdentityClass::Pods { variant, .. } => variant.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!([a, b, d].map(variant), ["port http 80/tcp", "port http 81/tcp", "no port http"]);
}

#[test]
fn prefixes_have_numbers_once_and_the_whole_is_the_world() {
    let rules = vec![
        allow(Some(vec![cidr("198.51.100.0/24", &["198.51.100.64/26"])]), vec![]),
        deny(Some(vec![cidr("198.51.100.64/26", &[]), cidr("0.0.0.0/0", &["10.0.0.0/8"])]), vec![]),
    ];
    let lab = Lab::new(lab(), vec![policy("a", "server", rules)]);
    let cidrs: Vec<(u32, String)> = lab
        .tables
        .identities
        .iter()
        .filter_map(|(id, class)| match class {
            IdentityClass::Cidr(prefix) => Some((id.0, prefix.to_string())),
            _ => None,
        })
        .collect();
    let first = Identity::FIRST_CIDR;
    let expected = ["10.0.0.0/8", "198.51.100.0/24", "198.51.100.64/26"];
    assert_eq!(cidrs, (first..).zip(expected.map(str::to_owned)).collect::<Vec<_>>());
}

#[test]
fn the_world_is_one_or_two() {
    let worlds = |lab: &Lab| {
        let all = [Identity::WORLD, Identity::WORLD_IPV4, Identity::WORLD_IPV6];
        all.map(|id| lab.tables.identities.contains_key(&id))
    };
    assert_eq!(worlds(&Lab::new(lab(), vec![])), [true, false, false]);
    let mut dual = lab();
    dual.pods[0].addresses.push(ip("fd00:1::10"));
    let dual = Lab::new(dual, vec![]);
    assert_eq!(worlds(&dual), [false, true, true]);
    assert_eq!(dual.covering(0, ip("8.8.8.8")).identity, Identity::WORLD_IPV4);
    assert_eq!(dual.covering(0, ip("2001:db8::1")).identity, Identity::WORLD_IPV6);
}

#[test]
fn a_host_network_pod_has_no_class() {
    let mut world = lab();
    let mut agent = pod("shop/agent", 0, &["192.168.1.1"], "agent");
    agent.host_network = true;
    world.pods.push(agent);
    let lab = Lab::new(world, vec![]);
    let apps = lab.tables.identities.values().filter_map(|class| match class {
        IdentityClass::Pods { labels, .. } => labels.get("app").cloned(),
        _ => None,
    });
    assert_eq!(apps.collect::<Vec<_>>(), ["client", "server", "stranger"]);
    assert!(lab.tables.nodes[0].endpoint_of(Endpoint::Pod(lab.pod("shop/agent"))).is_none());
}
