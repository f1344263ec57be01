//! Rows of services and of source translation, settings, and where hits are counted.

use engine::tables::{BackendEntry, BackendSet, Frontend, FrontendKind};
use engine::topology::{Balancing, Encryption, ServiceId};
use engine::trace::Place;

use super::*;

fn place(text: &str) -> Place {
    let parsed: std::net::SocketAddr = text.parse().unwrap();
    Place { address: parsed.ip(), port: parsed.port() }
}

fn set(backends: &[&str], with_table: bool) -> BackendSet {
    let entry = |text: &&str| BackendEntry { pod: PodId(0), place: place(text) };
    let count = u16::try_from(backends.len()).unwrap();
    let table = (0..u16::try_from(abi::MAGLEV_SIZE).unwrap()).map(|at| at % count);
    let maglev = if with_table { table.collect() } else { Vec::new() };
    BackendSet { backends: backends.iter().map(entry).collect(), maglev }
}

fn frontend(entry: u32, kind: FrontendKind, at: &str, sets: (u32, u32)) -> Frontend {
    Frontend {
        entry: EntryId(entry),
        service: ServiceId(0),
        port_index: 0,
        kind,
        place: place(at),
        protocol: Protocol::Tcp,
        internal: sets.0,
        external: sets.1,
        affinity: None,
        balancing: Balancing::Random,
        source_ranges: Vec::new(),
    }
}

/// A cluster IP, a load balancer by Maglev with source ranges, and a node port of IPv6 with affinity.
fn served() -> NodeTables {
    let mut balancer = frontend(2, FrontendKind::LoadBalancer, "203.0.113.9:80", (0, 1));
    balancer.balancing = Balancing::Maglev;
    balancer.source_ranges = ["198.51.100.7/24", "198.51.100.0/24", "2001:db8::/32"]
        .map(|range| range.parse().unwrap())
        .to_vec();
    let mut port = frontend(3, FrontendKind::NodePort, "[fd00::9]:30080", (3, 2));
    port.affinity = Some(100);
    port.protocol = Protocol::Udp;
    NodeTables {
        frontends: vec![
            frontend(1, FrontendKind::ClusterIp, "10.96.0.1:80", (0, 99)),
            balancer,
            port,
        ],
        backend_sets: vec![
            set(&["10.0.0.1:8080", "10.1.0.1:8080"], false),
            set(&["10.0.0.1:8080", "10.0.0.1:8080", "10.0.0.2:81"], true),
            set(&["[fd00::1]:8080"], true),
            set(&[], false),
        ],
        ..node()
    }
}

#[test]
fn frontends_lead_to_the_places_of_their_sets() {
    let slot = encode(&served(), 1, &ROOMY).unwrap();
    let row = |entry: u32| *slot.services.iter().find(|(_, value)| value.entry == entry).unwrap();
    let (key, value) = row(1);
    assert_eq!((key.slot, key.family, key.protocol, key.port), (1, 1, 6, [0, 80]));
    assert_eq!(key.address[..5], [10, 96, 0, 1, 0]);
    assert_eq!(value.flags, abi::service::CLUSTER_IP);
    assert_eq!((value.internal_first, value.internal_count), (0, 2));
    assert_eq!((value.external_first, value.external_count), (0, 0), "for the cluster only");
    let (_, value) = row(2);
    assert_eq!(value.flags, abi::service::SOURCE_RANGES | abi::service::MAGLEV);
    assert_eq!((value.external_first, value.external_count, value.maglev), (2, 3, 0));
    let (key, value) = row(3);
    assert_eq!((key.family, key.protocol, key.port), (2, 17, 30_080_u16.to_be_bytes()));
    // The table that its set has is another frontend's to use.
    assert_eq!((value.flags, value.affinity), (0, 100));
    assert_eq!((value.internal_first, value.internal_count), (6, 0));
    assert_eq!((value.external_first, value.external_count), (5, 1));
}

#[test]
fn sets_lie_one_after_the_other_and_know_their_members() {
    let slot = encode(&served(), 0, &ROOMY).unwrap();
    assert_eq!(slot.backends.len(), 6);
    assert_eq!((slot.backends[4].address[3], slot.backends[4].port), (2, [0, 81]));
    let members: Vec<_> =
        slot.members.iter().map(|(key, _)| (key.first, u16::from_be_bytes(key.port))).collect();
    // Two pods with one address and port are one member.
    assert_eq!(members, [(0, 8080), (0, 8080), (2, 81), (2, 8080), (5, 8080)]);
    assert_eq!(slot.maglev.len(), 2);
    let table = &slot.maglev[0].positions;
    assert_eq!((table[..4].to_vec(), table[16_380], table[16_381]), (vec![0, 1, 2, 0], 0, 0));
    let ranges: Vec<_> =
        slot.source_ranges.iter().map(|(key, _)| (key.prefixlen, key.entry, key.family)).collect();
    assert_eq!(ranges, [(64 + 24, 2, 1), (64 + 32, 2, 2)]);
}

#[test]
fn services_without_room_or_sense_are_errors() {
    for (limits, map, needed, capacity) in [
        (Limits { services: 2, ..ROOMY }, "SERVICES", 3, 2),
        (Limits { backends: 5, ..ROOMY }, "BACKENDS", 6, 5),
        (Limits { maglev: 1, ..ROOMY }, "MAGLEV", 2, 1),
        (Limits { prefixes: 1, ..ROOMY }, "SOURCE_RANGES", 2, 1),
    ] {
        let full = BackendError::Full { map: map.to_owned(), needed, capacity };
        assert_eq!(encode(&served(), 0, &limits), Err(full));
    }
    let cases: [(&str, Change); 5] = [
        ("has no backends 7", |t| t.frontends[0].internal = 7),
        ("has no backends 7", |t| t.frontends[1].external = 7),
        ("frontend 0", |t| t.frontends[0].entry = EntryId(0)),
        ("two rows of SERVICES", |t| t.frontends[1].place = t.frontends[0].place),
        ("a Maglev table", |t| t.backend_sets[1].maglev[5] = 3),
    ];
    for (text, change) in cases {
        let mut tables = served();
        change(&mut tables);
        match encode(&tables, 0, &ROOMY) {
            Err(BackendError::System { error, .. }) => assert!(error.contains(text), "{error}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn settings_say_what_holds_for_the_node() {
    use abi::settings::*;
    type Setting = (fn(&mut NodeTables), u32);
    let plain = NodeTables { dual_stack: false, ..node() };
    let plain = NodeTables { host_routing: HostRouting::Stack, ..plain };
    let cases: [Setting; 8] = [
        (|_| (), NAT4),
        (|t| t.nat.addresses[1] = Some(ip("fd00::9")), NAT4 | NAT6),
        (|t| t.nat.masquerade = true, NAT4 | MASQUERADE),
        (|t| t.routing = Routing::Native, NAT4 | NATIVE),
        (|t| t.host_firewall = true, NAT4 | HOST_FIREWALL),
        (|t| t.encryption = Some(Encryption::Wireguard { nodes: false }), NAT4 | WIREGUARD),
        (
            |t| t.encryption = Some(Encryption::Wireguard { nodes: true }),
            NAT4 | WIREGUARD | ENCRYPT_NODES,
        ),
        (|t| t.encryption = Some(Encryption::Ipsec { key: 3 }), NAT4 | IPSEC),
    ];
    for (change, flags) in cases {
        let mut tables = plain.clone();
        change(&mut tables);
        let settings = encode(&tables, 0, &ROOMY).unwrap().settings;
        assert_eq!(settings.flags, flags);
        assert_eq!(settings.key, if flags & IPSEC == 0 { 0 } else { 3 });
        assert_eq!((settings.nat_first, settings.nat_last), (32_768, 65_535));
        assert_eq!(settings.nat_address4, [192, 168, 0, 1]);
        assert_eq!((settings.device_ifindex, settings.host_target, settings.node), (2, 0, 1));
        let v6 = if flags & NAT6 == 0 { ip("::") } else { ip("fd00::9") };
        assert_eq!(IpAddr::from(settings.nat_address6), v6);
    }
    let mut backwards = plain;
    backwards.nat.ports = (2, 1);
    assert!(encode(&backwards, 0, &ROOMY).is_err());
}

#[test]
fn other_nodes_are_targets_by_their_ways() {
    let native = |address| Target::Native { remote: ip(address), node: NodeId(2) };
    let of_node = |prefix, node| IpcacheEntry {
        origin: IpcacheOrigin::Node(NodeId(node)),
        ..entry(prefix, 6, Target::Stack, 7)
    };
    let mut tables = node();
    tables.ipcache = vec![
        entry("10.2.0.0/16", 2000, native("192.168.0.3"), 1),
        of_node("192.168.0.2/32", 1),
        of_node("172.16.0.2/32", 1),
        of_node("192.168.0.3/32", 2),
        entry("10.96.0.1/32", 9, Target::Service(ServiceId(4)), 5),
        entry("10.96.0.2/32", 9, Target::Service(ServiceId(5)), 6),
    ];
    let ends = BTreeMap::from([(NodeId(1), ip("192.168.0.2"))]);
    let slot = super::super::encode(&tables, &ends, 0, &ROOMY).unwrap();
    let led = |prefix: [u8; 4]| {
        let row = slot.ipcache.iter().find(|(key, _)| key.address[..4] == prefix).unwrap();
        (row.1.target, slot.targets[row.1.target as usize])
    };
    let (_, target) = led([10, 2, 0, 0]);
    assert_eq!((target.kind, target.address4), (abi::target::NATIVE, [192, 168, 0, 3]));
    assert_eq!((target.node, target.flags), (3, abi::target::HAS_V4));
    let (index, target) = led([192, 168, 0, 2]);
    assert_eq!((target.kind, target.address4), (abi::target::NODE, [192, 168, 0, 2]));
    assert_eq!(target.node, 2);
    assert_eq!(led([172, 16, 0, 2]).0, index, "a node is one target, by its tunnel's end");
    let (_, target) = led([192, 168, 0, 3]);
    assert_eq!((target.kind, target.address4), (abi::target::NODE, [192, 168, 0, 3]));
    assert_eq!(led([10, 96, 0, 1]).1.kind, abi::target::SERVICE);
    assert_eq!(led([10, 96, 0, 1]).0, led([10, 96, 0, 2]).0);
}

#[test]
fn the_host_has_its_tables_at_the_target_that_is_the_node() {
    let mut tables = node();
    tables.host_firewall = true;
    let addresses = ["192.168.0.1", "172.16.0.1", "fd02::1"].map(ip).to_vec();
    tables.endpoints.push(EndpointEntry {
        endpoint: Endpoint::Host(NodeId(0)),
        identity: Identity::HOST,
        addresses,
        ifindex: 3,
        ..endpoint(9)
    });
    let slot = encode(&tables, 1, &ROOMY).unwrap();
    let host = slot.targets[slot.settings.host_target as usize];
    assert_eq!((host.kind, host.endpoint, host.identity), (abi::target::HOST, 9, 1));
    assert_eq!((host.egress, host.ingress), (1 << 1 | 1, 2 << 1 | 1));
    assert_eq!((host.flags, host.ifindex), (2 << 2 | 2 << 4, 0));
    assert_eq!(slot.attachments.len(), 1, "its device is no pod's");
    assert_eq!((host.egress_hits, host.ingress_hits), (7, 9));
}

#[test]
fn every_entry_of_an_endpoint_has_a_place_for_its_hits() {
    let mut tables = node();
    tables.endpoints.push(EndpointEntry { ifindex: 18, ..endpoint(8) });
    let slot = encode(&tables, 0, &ROOMY).unwrap();
    let range = |endpoint, direction, first, count| HitRange {
        endpoint: EndpointId(endpoint),
        direction,
        first,
        count,
    };
    let (egress, ingress) = (Direction::Egress, Direction::Ingress);
    let expected = [
        range(7, egress, 1, 2),
        range(7, ingress, 3, 4),
        range(8, egress, 7, 2),
        range(8, ingress, 9, 4),
    ];
    assert_eq!(slot.hits, expected);
    let last = slot.targets.last().unwrap();
    assert_eq!((last.egress_hits, last.ingress_hits), (7, 9));
    // What has no room is not counted.
    let slot = encode(&tables, 0, &Limits { hits: 9, ..ROOMY }).unwrap();
    assert_eq!(slot.hits, expected[..3]);
    let last = slot.targets.last().unwrap();
    assert_eq!((last.egress_hits, last.ingress_hits), (7, 0));
}

#[test]
fn prefixes_of_a_set_are_there_once() {
    let mut tables = node();
    tables.nat.except = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
    tables.prefilter =
        ["203.0.113.9/24", "203.0.113.0/24"].map(|net| net.parse().unwrap()).to_vec();
    let slot = encode(&tables, 1, &ROOMY).unwrap();
    let prefixes = |rows: &[(abi::IpcacheKey, u32)]| -> Vec<_> {
        rows.iter().map(|(key, there)| (key.prefixlen, key.slot, key.address[0], *there)).collect()
    };
    assert_eq!(prefixes(&slot.unmasqueraded), [(40, 1, 10, 1), (40, 1, 0xFD, 1)]);
    assert_eq!(prefixes(&slot.prefiltered), [(56, 1, 203, 1)]);
    let few = Limits { prefixes: 1, ..ROOMY };
    let full = |map: &str| BackendError::Full { map: map.to_owned(), needed: 2, capacity: 1 };
    assert_eq!(encode(&tables, 1, &few), Err(full("UNMASQUERADED")));
}
