//! Services, settings and nodes as subjects: the values that they become, and what is wrong with them.

use engine::net::Protocol;
use engine::policy::{PeerKind, SubjectKind};
use engine::source::SourceMap;
use engine::topology::{
    Balancing, Encryption, HostRouting, Readiness, Routing, TargetPort, TrafficPolicy, TunnelKind,
};

use super::{WORLD, codes, problems};
use crate::{Loaded, NoIncludes};

fn loaded(text: &str) -> Loaded {
    let entry = ("test.hop".to_owned(), text.to_owned());
    let loaded = crate::load(&[entry], &mut NoIncludes, &mut SourceMap::default());
    assert_eq!(loaded.diagnostics, []);
    loaded
}

#[test]
fn a_service_is_lowered_whole() {
    let text = format!(
        "{WORLD}service web/s {{ cluster-ip fd00:96::1, 10.96.0.1 external-ip 203.0.113.1 load-balancer-ip 203.0.113.2\n\
         port http 80 -> http node-port 30080 port dns 53/udp select {{ app = b }} affinity client-ip balance maglev\n\
         source-ranges 198.51.100.0/24 internal-traffic local external-traffic local }}\n"
    );
    let world = loaded(&text).world;
    let [service] = world.services.as_slice() else { panic!("{:?}", world.services) };
    let texts =
        |list: &[std::net::IpAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&service.cluster_ips), ["10.96.0.1", "fd00:96::1"]);
    assert_eq!(texts(&service.external_ips), ["203.0.113.1"]);
    assert_eq!(texts(&service.load_balancer_ips), ["203.0.113.2"]);
    assert_eq!((service.affinity, service.balancing), (Some(10_800), Some(Balancing::Maglev)));
    let traffic = (service.internal_traffic, service.external_traffic);
    assert_eq!(traffic, (TrafficPolicy::Local, TrafficPolicy::Local));
    let [http, dns] = service.ports.as_slice() else { panic!("{:?}", service.ports) };
    assert_eq!((http.port, http.protocol, http.node_port), (80, Protocol::Tcp, Some(30_080)));
    assert_eq!(http.target, TargetPort::Name("http".into()));
    assert_eq!((dns.port, dns.protocol), (53, Protocol::Udp));
    assert_eq!(dns.target, TargetPort::Number(53));
}

#[test]
fn settings_are_lowered() {
    let text = "cluster c {\n  tunnel geneve\n  host-routing stack\n  native-cidr 10.0.0.0/8\n  masquerade on except 10.9.0.0/16 ports 40000-50000\n\
        balance maglev\n  host-firewall on\n  prefilter 192.0.2.0/24\n  encryption ipsec key 3\n\
        node n { ip 192.168.0.1 pods 10.1.0.0/24 labels { role = edge } health 10.1.0.9 }\n}\n\
        namespace web {}\npod web/a on n { ip 10.1.0.10 not-ready }\npod web/b on n { ip 10.1.0.11 terminating }\n";
    let world = loaded(text).world;
    let cluster = &world.cluster;
    assert_eq!((cluster.routing, cluster.host_routing), (Routing::Tunnel, HostRouting::Stack));
    assert_eq!((cluster.tunnel.kind, cluster.tunnel.port), (TunnelKind::Geneve, 6081));
    assert_eq!(cluster.tunnel.device, "geneve0");
    assert_eq!((cluster.native_cidrs.len(), cluster.prefilter.len()), (1, 1));
    assert!(cluster.masquerade.on && cluster.masquerade.except.len() == 1);
    assert_eq!(cluster.masquerade.ports, (40_000, 50_000));
    assert_eq!((cluster.balancing, cluster.host_firewall), (Balancing::Maglev, true));
    assert_eq!(cluster.encryption, Some(Encryption::Ipsec { key: 3 }));
    assert_eq!((world.nodes[0].labels.len(), world.nodes[0].health.len()), (1, 1));
    assert_eq!(world.pods[0].readiness, Readiness::NotReady);
    assert_eq!(world.pods[1].readiness, Readiness::Terminating);
    let native =
        loaded("cluster c { tunnel none masquerade off encryption wireguard nodes }").world;
    assert_eq!(native.cluster.routing, Routing::Native);
    assert!(!native.cluster.masquerade.on);
    assert_eq!(native.cluster.encryption, Some(Encryption::Wireguard { nodes: true }));
}

#[test]
fn a_local_address_may_become_a_service_s() {
    let text = "cluster c {\n  node n { ip 192.168.0.1 pods 10.1.0.0/24 local 10.1.0.1, 10.96.0.1 }\n  node m { ip 192.168.0.2 local 10.96.0.1 }\n}\n\
        namespace web {}\npod web/a on n { ip 10.1.0.10 labels { app = a } }\n\
        service web/s { cluster-ip 10.96.0.1 port 80 select { app = a } }\n";
    let world = loaded(text).world;
    assert_eq!(world.nodes[0].locals.len(), 1);
    assert_eq!(world.nodes[1].locals.len(), 0);
    assert_eq!(world.services[0].cluster_ips.len(), 1);
}

#[test]
fn policies_name_services_and_nodes() {
    let text = format!(
        "{WORLD}service web/s {{ cluster-ip 10.96.0.1 port 80 select {{ app = b }} }}\n\
         policy web/p {{\n  select {{ app = a }}\n  allow egress to service s, service web/s on 80\n}}\n\
         clusterwide policy fence {{\n  select nodes {{ role = edge }}\n  allow ingress from entities cluster\n}}\n"
    );
    let text = text.replace(
        "pods 10.1.0.0/24 }",
        "pods 10.1.0.0/24 labels { role = edge } } host-firewall on",
    );
    let policies = loaded(&text).policies;
    let fence = policies.find("fence").expect("the policy");
    assert_eq!((fence.subject_kind, fence.subject.requirements.len()), (SubjectKind::Nodes, 1));
    let policy = policies.find("web/p").expect("the policy");
    let peers = policy.rules[0].peers.as_ref().expect("peers");
    let named = PeerKind::Service { namespace: "web".into(), name: "s".into() };
    assert!(peers.len() == 2 && peers.iter().all(|peer| peer.kind == named));
}

/// Statements beside the world, and the codes of what is said.
const WRONG: &[(&str, &[&str])] = &[
    (
        "service web/s { cluster-ip 10.96.0.1 port 80 select { app = a } }\nservice web/s { cluster-ip 10.96.0.2 port 80 select { app = a } }",
        &["HW0100"],
    ),
    (
        "service web/s { cluster-ip 10.96.0.1 cluster-ip 10.96.0.2 port 80 select { app = a } }",
        &["HW0101"],
    ),
    ("service web/s { port 80 select { app = a } }", &["HW0102"]),
    ("service web/s { cluster-ip 10.96.0.1 select { app = a } }", &["HW0102"]),
    ("service web/s { cluster-ip 10.96.0.1 port 80 }", &["HW0102"]),
    ("service db/s { cluster-ip 10.96.0.1 port 80 select { app = a } }", &["HW0104"]),
    ("service s { cluster-ip 10.96.0.1 port 80 select { app = a } }", &["HW0111"]),
    ("service web/s { cluster-ip 10.1.0.10 port 80 select { app = a } }", &["HW0106"]),
    ("service web/s { cluster-ip 192.168.0.1 port 80 select { app = a } }", &["HW0106"]),
    (
        "service web/s { cluster-ip 10.96.0.1 external-ip 10.96.0.1 port 80 select { app = a } }",
        &["HW0106"],
    ),
    (
        "service web/s { cluster-ip 10.96.0.1 port 80 select { app = a } }\nexternal e { ip 10.96.0.1 }",
        &["HW0106"],
    ),
    ("service web/s { cluster-ip 10.96.0.1, 10.96.0.2 port 80 select { app = a } }", &["HW0107"]),
    (
        "service web/s { cluster-ip 10.96.0.1 port 80 port 80/tcp -> 1 select { app = a } }",
        &["HW0116"],
    ),
    ("service web/s { cluster-ip 10.96.0.1 port x 80 port x 81 select { app = a } }", &["HW0116"]),
    ("service web/s { cluster-ip 10.96.0.1 port X 80 select { app = a } }", &["HW0114"]),
    (
        "service web/s { cluster-ip 10.96.0.1 port 80 node-port 1 port 81 node-port 1 select { app = a } }",
        &["HW0117"],
    ),
    (
        "service web/s { cluster-ip 10.96.0.1 port 53/udp -> 5353 node-port 8472 select { app = a } }",
        &["HW0117", "HW0411"],
    ),
    ("service web/s { cluster-ip 10.96.0.1 port 80 select {} }", &["HW0118"]),
    (
        "service web/s { cluster-ip none port 80 node-port 1 affinity client-ip select { app = a } }",
        &["HW0119", "HW0119"],
    ),
    (
        "service web/s { cluster-ip 10.96.0.1 port 80 source-ranges 10.1.0.1/8 select { app = a } }",
        &["HW0105"],
    ),
    ("service web/s { cluster-ip 10.96.0.1 port 80 select { app = z } }", &["HW0407"]),
    ("service web/s { cluster-ip 10.96.0.1 port 80 -> htpp select { app = b } }", &["HW0408"]),
    ("service web/s { cluster-ip 10.96.0.1 port 80/udp -> http select { app = b } }", &["HW0408"]),
    ("pod web/c on n { ip 10.1.0.12 not-ready terminating }", &["HW0101"]),
    ("node m { ip 10.0.0.2 health 10.1.0.10 }\n", &["HW0106"]),
    ("node m { ip 10.0.0.2 device vxlan0 }\n", &["HW0108"]),
    ("node m { ip 10.0.0.2 device lo }\n", &["HW0108"]),
    ("node m { ip 10.0.0.2 device cilium_host }\n", &["HW0108"]),
    ("node m { ip 10.0.0.2 pods 10.2.0.0/24 health 10.3.0.1 }", &["HW0401"]),
    ("node m { ip 10.0.0.2 health 10.2.0.1, 10.2.0.2 }", &["HW0107"]),
    ("policy web/p {\n  select nodes\n  allow ingress\n}", &["HW0125"]),
    ("clusterwide policy p {\n  select nodes\n  allow ingress\n}", &["HW0404"]),
    ("clusterwide policy p {\n  select nodes { a = b }\n  allow ingress\n}", &["HW0400", "HW0404"]),
    ("policy web/p {\n  select {}\n  allow egress to service s\n}", &["HW0127"]),
    (
        "service web/s { cluster-ip 10.96.0.1 port 80 select { app = a } }\npolicy web/p {\n  select {}\n  allow egress to cidr 10.96.0.0/16\n}",
        &["HW0402"],
    ),
    ("clusterwide policy p {\n  select {}\n  allow egress to service s\n}", &["HW0111"]),
    ("test \"t\" {\n  web/a -> web/b:80 => allowed, backend web/z\n}", &["HW0200"]),
];

#[test]
fn what_is_wrong_with_services_is_told_once() {
    for (text, expected) in WRONG {
        let text = format!("{WORLD}{text}\n");
        assert_eq!(codes(&text), *expected, "of\n{text}\n{:?}", problems(&text));
    }
    for (setting, expected) in [
        ("masquerade on ports 5-4", "HW0126"),
        ("masquerade on ports 0-4", "HW0126"),
        ("masquerade on except 10.0.0.1/8", "HW0105"),
        ("native-cidr 10.0.0.1/8", "HW0105"),
        ("tunnel gneve", "HW0110"),
        ("balance random balance maglev", "HW0101"),
    ] {
        assert_eq!(codes(&format!("cluster c {{ {setting} }}")), [expected], "{setting}");
    }
}

#[test]
fn a_broken_service_is_not_missed() {
    for right in [
        "policy web/p {\n  select { app = a }\n  allow egress to service s\n}",
        "test \"t\" {\n  web/a -> service s:80 => allowed\n}",
        "alias S = web/s",
    ] {
        let text = format!("{WORLD}service web/s {{ cluster-ip x }}\n{right}\n");
        assert_eq!(codes(&text), ["HW0001"], "of\n{text}\n{:?}", problems(&text));
    }
}
