//! Services: frontends, sets of backends, Maglev tables, translation of sources, and their limits.

use super::build::*;
use crate::compile::limits::{self, DATAPATH_LIMIT};
use crate::compile::maglev::{TABLE_SIZE, table};
use crate::net::Protocol;
use crate::source::{FileId, Span};
use crate::tables::{EntryId, Frontend, FrontendKind};
use crate::topology::{
    Balancing, Encryption, NodeId, Readiness, Service, TargetPort, TrafficPolicy, World,
};

/// A server on each node, one that is not ready, one on the host network, and a service with every kind of
/// address.
fn shop() -> World {
    let mut world = lab();
    let mut agent = pod("shop/agent", 1, &["192.168.1.2"], "server");
    agent.host_network = true;
    let mut late = pod("shop/late", 0, &["10.1.0.21"], "server");
    late.readiness = Readiness::NotReady;
    world.pods.extend([
        pod("shop/near", 0, &["10.1.0.20"], "server"),
        late,
        agent,
        pod("vault/server", 0, &["10.1.0.22"], "server"),
    ]);
    let mut web = service("shop/web", &["10.96.0.10"], "server");
    web.external_ips = vec![ip("198.51.100.5")];
    web.load_balancer_ips = vec![ip("198.51.100.6")];
    web.ports[0].node_port = Some(30_080);
    web.source_ranges = vec![net("203.0.113.0/24")];
    web.affinity = Some(60);
    world.services.push(web);
    world
}

/// A node's frontends in words: kind, place, protocol, backends inside and outside.
fn frontends(lab: &Lab, node: u32) -> Vec<String> {
    let tables = lab.tables.node(NodeId(node)).unwrap();
    let set = |at: u32| {
        let set = &tables.backend_sets[at as usize];
        let places = set.backends.iter().map(|backend| backend.place.to_string());
        places.collect::<Vec<_>>().join(",")
    };
    let words = |f: &Frontend| {
        let (kind, inside, outside) = (f.kind, set(f.internal), set(f.external));
        format!("{kind:?} {}/{} {inside} | {outside}", f.place, f.protocol)
    };
    tables.frontends.iter().map(words).collect()
}

#[test]
fn every_address_has_a_frontend_and_ready_pods_behind_it() {
    let lab = Lab::new(shop(), vec![]);
    let all = "10.2.0.10:8080,10.1.0.20:8080,192.168.1.2:8080";
    for (node, own) in [(0, "192.168.1.1"), (1, "192.168.1.2")] {
        let expected = [
            format!("ClusterIp 10.96.0.10:80/tcp {all} | {all}"),
            format!("ExternalIp 198.51.100.5:80/tcp {all} | {all}"),
            format!("LoadBalancer 198.51.100.6:80/tcp {all} | {all}"),
            format!("NodePort {own}:30080/tcp {all} | {all}"),
        ];
        assert_eq!(frontends(&lab, node), expected);
    }
    let node = &lab.tables.nodes[0];
    assert_eq!(node.backend_sets.len(), 1);
    assert!(node.backend_sets[0].maglev.is_empty());
    assert!(node.frontends.iter().zip(1..).all(|(f, number)| f.entry == EntryId(number)));
    for frontend in &node.frontends {
        let ranged = frontend.kind == FrontendKind::LoadBalancer;
        assert_eq!(frontend.source_ranges.is_empty(), !ranged);
        assert_eq!(frontend.affinity, Some(60));
    }
}

#[test]
fn local_traffic_stays_on_the_node() {
    let mut world = shop();
    world.services[0].ports[0].node_port = None;
    world.services[0].load_balancer_ips.clear();
    world.services[0].external_traffic = TrafficPolicy::Local;
    let all = "10.2.0.10:8080,10.1.0.20:8080,192.168.1.2:8080";
    let second = "10.2.0.10:8080,192.168.1.2:8080";
    let lab = Lab::new(world.clone(), vec![]);
    assert_eq!(
        frontends(&lab, 0)[1],
        format!("ExternalIp 198.51.100.5:80/tcp {all} | 10.1.0.20:8080")
    );
    assert_eq!(frontends(&lab, 1)[1], format!("ExternalIp 198.51.100.5:80/tcp {all} | {second}"));
    world.services[0].internal_traffic = TrafficPolicy::Local;
    let lab = Lab::new(world, vec![]);
    assert_eq!(frontends(&lab, 1)[0], format!("ClusterIp 10.96.0.10:80/tcp {second} | {second}"));
}

#[test]
fn named_targets_and_families_are_each_pods_own() {
    let mut world = lab();
    world.pods = vec![
        named(pod("shop/a", 0, &["10.1.0.1", "fd01::1"], "server"), "web", 8001, Protocol::Tcp),
        named(pod("shop/b", 0, &["10.1.0.2"], "server"), "web", 8002, Protocol::Tcp),
        named(pod("shop/c", 0, &["10.1.0.3", "fd01::3"], "server"), "web", 8003, Protocol::Udp),
    ];
    let mut web = service("shop/web", &["10.96.0.10", "fd96::10"], "server");
    web.ports[0].target = TargetPort::Name("web".into());
    world.services = vec![web, service("shop/nobody", &["10.96.0.11"], "nobody")];
    let lab = Lab::new(world, vec![]);
    let expected = [
        "ClusterIp 10.96.0.11:80/tcp  | ",
        "ClusterIp 10.96.0.10:80/tcp 10.1.0.1:8001,10.1.0.2:8002 | 10.1.0.1:8001,10.1.0.2:8002",
        "ClusterIp [fd96::10]:80/tcp [fd01::1]:8001 | [fd01::1]:8001",
    ];
    assert_eq!(frontends(&lab, 0), expected);
}

#[test]
fn numbers_do_not_depend_on_the_order_of_services() {
    let mut world = shop();
    world.services.push(service("shop/api", &["10.96.0.9"], "client"));
    let one = frontends(&Lab::new(world.clone(), vec![]), 0);
    world.services.reverse();
    assert_eq!(frontends(&Lab::new(world, vec![]), 0), one);
}

#[test]
fn only_outside_sets_have_maglev_tables() {
    let mut world = shop();
    world.cluster.balancing = Balancing::Maglev;
    world.services[0].external_traffic = TrafficPolicy::Local;
    world.services.push(service("shop/inside", &["10.96.0.11"], "client"));
    let mut random = service("shop/random", &["10.96.0.12"], "stranger");
    random.balancing = Some(Balancing::Random);
    random.external_ips = vec![ip("198.51.100.7")];
    world.services.push(random);
    let lab = Lab::new(world, vec![]);
    let node = &lab.tables.nodes[1];
    let tables: Vec<_> = node.backend_sets.iter().filter(|set| !set.maglev.is_empty()).collect();
    assert_eq!(tables.len(), 1);
    assert_eq!((tables[0].backends.len(), tables[0].maglev.len()), (2, usize::from(TABLE_SIZE)));
    let places = ["10.2.0.10:8080/tcp", "192.168.1.2:8080/tcp"].map(str::to_owned);
    assert_eq!(tables[0].maglev, table(&places));
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("10.1.{}.{}:8080/tcp", at / 250, at % 250 + 1)).collect()
}

#[test]
fn maglev_shares_slots_evenly() {
    for count in [1, 2, 3, 7, 50, 100] {
        let slots = table(&names(count));
        let mut shares = vec![0_u32; count];
        for at in &slots {
            shares[usize::from(*at)] += 1;
        }
        let fair = f64::from(TABLE_SIZE) / f64::from(u32::try_from(count).unwrap());
        let even = |share: &u32| (fair * 0.9..=fair * 1.1).contains(&f64::from(*share));
        assert!(shares.iter().all(even), "{count}: {shares:?}");
    }
    assert!(table(&[]).is_empty());
}

#[test]
fn maglev_moves_few_slots_when_a_backend_goes() {
    let all = names(50);
    let before = table(&all);
    let fewer = [&all[..20], &all[21..]].concat();
    let after = table(&fewer);
    let moved = before
        .iter()
        .zip(&after)
        .filter(|(old, new)| **old != 20 && all[usize::from(**old)] != fewer[usize::from(**new)]);
    let moved = moved.count();
    assert!(moved < usize::from(TABLE_SIZE) / 20, "{moved} moved");
}

#[test]
fn maglev_does_not_depend_on_the_order_of_backends() {
    let one = names(9);
    let mut other = one.clone();
    other.reverse();
    let by_name = |list: &[String]| -> Vec<String> {
        table(list).into_iter().map(|at| list[usize::from(at)].clone()).collect()
    };
    assert_eq!(by_name(&one), by_name(&other));
}

#[test]
fn settings_of_the_cluster_reach_every_node() {
    let mut world = lab();
    world.nodes[0].addresses = ["192.168.1.1", "192.168.1.9", "fd00::1"].map(ip).to_vec();
    world.cluster.masquerade.except = vec![net("172.16.0.0/12")];
    world.cluster.prefilter = vec![net("203.0.113.9/24")];
    world.cluster.encryption = Some(Encryption::Ipsec { key: 3 });
    let lab = Lab::new(world.clone(), vec![]);
    let node = &lab.tables.nodes[0];
    assert_eq!(node.nat.addresses, [Some(ip("192.168.1.1")), Some(ip("fd00::1"))]);
    assert_eq!(lab.tables.nodes[1].nat.addresses, [Some(ip("192.168.1.2")), None]);
    assert_eq!((node.nat.masquerade, node.nat.ports), (true, (32_768, 65_535)));
    assert_eq!(node.nat.except, ["10.1.0.0/24", "10.2.0.0/24", "172.16.0.0/12"].map(net));
    assert_eq!(node.prefilter, [net("203.0.113.0/24")]);
    assert_eq!(node.encryption, Some(Encryption::Ipsec { key: 3 }));
    world.cluster.native_cidrs = vec![net("10.0.0.0/8")];
    let lab = Lab::new(world, vec![]);
    assert_eq!(lab.tables.nodes[0].nat.except, ["10.0.0.0/8", "172.16.0.0/12"].map(net));
}

/// Services with that many addresses and as many pods behind each.
fn many(services: usize, addresses: usize) -> Vec<Service> {
    let one = |at: usize| {
        let mut one = service(&format!("shop/s{at:05}"), &[], "server");
        one.external_ips =
            (0..addresses).map(|n| ip(&format!("100.{}.{}.{}", at >> 8, at & 255, n))).collect();
        one.span = Span { file: FileId(0), start: u32::try_from(at).unwrap(), end: 0 };
        one
    };
    (0..services).map(one).collect()
}

#[test]
fn too_many_frontends_of_a_node() {
    let mut world = lab();
    world.services = many(limits::FRONTENDS_PER_NODE / 128 + 1, 128);
    let found = messages(&world, vec![]);
    assert_eq!(found.len(), 2, "one for each node: {found:?}");
    assert_eq!((found[0].code, found[0].span().start), (DATAPATH_LIMIT, 256));
    assert_eq!(found[0].message, "services have more than 32768 frontends on node `node01`");
}

#[test]
fn too_many_backends_of_a_node() {
    let mut world = lab();
    for at in 0..1000 {
        let address = format!("10.1.{}.{}", at / 250, at % 250 + 1);
        world.pods.push(pod(&format!("shop/p{at}"), 0, &[&address], "server"));
    }
    world.services = many(33, 1);
    for (service, port) in world.services.iter_mut().zip(1..) {
        service.ports[0].target = TargetPort::Number(port);
    }
    let found = messages(&world, vec![]);
    assert_eq!((found[0].code, found[0].span().start), (DATAPATH_LIMIT, 32));
    assert_eq!(found[0].message, "services have more than 32768 backends on node `node01`");
}
