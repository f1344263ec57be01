//! Rows of every map for a small node, in both slots, and tables that contradict themselves.

mod services;

use super::*;
use engine::identity::Identity;
use engine::net::{Mac, Protocol};
use engine::tables::{
    EndpointEntry, EntryId, IpcacheOrigin, NatTables, PolicyEntry, PolicyKey, PolicyTable, TableId,
    Target,
};
use engine::topology::{Endpoint, PodId, Tunnel, TunnelKind};

const ROOMY: Limits = Limits {
    targets: 100,
    ipcache: 100,
    policy: 100,
    services: 100,
    backends: 100,
    maglev: 100,
    prefixes: 100,
    hits: 100,
};

/// Of a node alone.
fn encode(node: &NodeTables, slot: u32, limits: &Limits) -> Result<Slot, BackendError> {
    super::encode(node, &BTreeMap::new(), slot, limits)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn entry(prefix: &str, identity: u32, target: Target, number: u32) -> IpcacheEntry {
    IpcacheEntry {
        prefix: prefix.parse().unwrap(),
        identity: Identity(identity),
        target,
        entry: EntryId(number),
        origin: IpcacheOrigin::World,
    }
}

fn rule(protocol: Option<Protocol>, port: u16, port_bits: u8, number: u32) -> PolicyEntry {
    let key = PolicyKey { identity: Identity(1000), protocol, port, port_bits };
    PolicyEntry { key, deny: number == 2, entry: EntryId(number) }
}

fn endpoint(id: u16) -> EndpointEntry {
    EndpointEntry {
        id: EndpointId(id),
        endpoint: Endpoint::Pod(PodId(0)),
        identity: Identity(1000),
        addresses: vec![ip("10.0.0.1"), ip("fd00::1")],
        ifindex: 10 + u32::from(id),
        interface: "lxc".to_owned(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        host_mac: Mac([2, 0, 0, 0, 0, 2]),
        egress: TableId(1),
        ingress: TableId(2),
    }
}

fn node() -> NodeTables {
    let far = |address| Target::Tunnel { remote: ip(address), node: NodeId(1) };
    NodeTables {
        node: NodeId(0),
        dual_stack: true,
        routing: Routing::Tunnel,
        host_routing: HostRouting::Bpf,
        tunnel: Tunnel { kind: TunnelKind::Vxlan, port: 8472, device: "vxlan0".to_owned() },
        tunnel_ifindex: 5,
        device_ifindex: 2,
        host_ifindex: 3,
        host_firewall: false,
        frontends: Vec::new(),
        backend_sets: Vec::new(),
        nat: NatTables {
            masquerade: false,
            addresses: [Some(ip("192.168.0.1")), None],
            ports: (32_768, 65_535),
            except: Vec::new(),
        },
        prefilter: Vec::new(),
        encryption: None,
        tunnel_address: ip("192.168.0.1"),
        locals: vec![],
        tunnels: vec![],
        ipcache: vec![
            entry("0.0.0.0/0", 9, Target::Stack, 1),
            entry("10.0.0.1/32", 1000, Target::Endpoint(EndpointId(7)), 2),
            entry("10.1.0.0/16", 2000, far("192.168.0.2"), 3),
            entry("10.1.0.1/32", 3000, far("192.168.0.2"), 4),
            entry("fd01::/64", 2000, far("fd02::2"), 5),
            entry("192.168.0.1/32", 1, Target::Host, 6),
        ],
        endpoints: vec![endpoint(7)],
        policies: vec![
            PolicyTable { id: TableId(1), entries: vec![rule(None, 0, 0, 1)] },
            PolicyTable {
                id: TableId(2),
                entries: vec![
                    rule(Some(Protocol::Tcp), 0x1F90, 12, 1),
                    rule(Some(Protocol::Udp), 0, 0, 2),
                    rule(Some(Protocol::Sctp), 80, 16, 3),
                ],
            },
        ],
    }
}

#[test]
fn a_target_says_which_look_ups_cannot_hit() {
    let of = |identity, number| {
        let mut entry = rule(None, 0, 0, number);
        entry.key.identity = identity;
        entry
    };
    for (entries, absent) in [
        (vec![], 3),
        (vec![of(Identity(1000), 1)], abi::target::NO_ANYONE),
        (vec![of(Identity::ANY, 1)], abi::target::NO_IDENTITY),
        (vec![of(Identity(1000), 1), of(Identity::ANY, 2)], 0),
    ] {
        let mut node = node();
        node.policies[1].entries = entries;
        let slot = encode(&node, 0, &ROOMY).unwrap();
        let pod = slot.targets.last().unwrap();
        assert_eq!(pod.flags >> abi::target::INGRESS_SHIFT & abi::target::ABSENT, absent);
        assert_eq!(pod.flags >> abi::target::EGRESS_SHIFT & abi::target::ABSENT, 2);
    }
}

#[test]
fn targets_are_the_node_its_routing_other_nodes_once_and_endpoints() {
    let slot = encode(&node(), 1, &ROOMY).unwrap();
    let kinds: Vec<_> = slot.targets.iter().map(|target| target.kind).collect();
    let expected = {
        use abi::target::{ENDPOINT, HOST, SERVICE, STACK, TUNNEL};
        [HOST, STACK, SERVICE, TUNNEL, TUNNEL, ENDPOINT]
    };
    assert_eq!(kinds, expected);
    let [.., v4, v6, pod] = slot.targets.as_slice() else { panic!() };
    assert_eq!((v4.flags, v4.address4), (abi::target::HAS_V4, [192, 168, 0, 2]));
    assert_eq!((v6.flags, IpAddr::from(v6.address6)), (abi::target::HAS_V6, ip("fd02::2")));
    assert_eq!((pod.endpoint, pod.identity, pod.ifindex), (7, 1000, 17));
    assert_eq!((pod.egress, pod.ingress), (1 << 1 | 1, 2 << 1 | 1));
    // Its address is of both families; its tables have entries of one identity only.
    assert_eq!((pod.flags, pod.address4), (3 | 2 << 2 | 2 << 4, [10, 0, 0, 1]));
    assert_eq!((pod.mac, pod.host_mac), ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]));
    assert_eq!(slot.settings.target_count, 6);
    let flags = abi::settings::DUAL_STACK | abi::settings::HOST_ROUTING | abi::settings::NAT4;
    assert_eq!(slot.settings.flags, flags);
    assert_eq!((slot.settings.tunnel_ifindex, slot.settings.tunnel_port), (5, 8472));
    assert_eq!(slot.attachments, [(abi::AttachmentKey { slot: 1, ifindex: 17 }, 5)]);
}

#[test]
fn prefixes_carry_slot_and_family_before_the_address() {
    for number in [0, 1] {
        let slot = encode(&node(), number, &ROOMY).unwrap();
        assert!(slot.ipcache.iter().all(|(key, _)| u32::from(key.slot) == number));
        let rows: Vec<_> = slot
            .ipcache
            .iter()
            .map(|(key, value)| (key.prefixlen, key.family, value.entry, value.target))
            .collect();
        assert_eq!(rows.len(), 6);
        for row in [(32, 1, 1, 1), (64, 1, 2, 5), (48, 1, 3, 3), (64, 1, 4, 3), (96, 2, 5, 4)] {
            assert!(rows.contains(&row), "{row:?} in {rows:?}");
        }
    }
}

#[test]
fn host_bits_of_a_prefix_are_cleared() {
    let mut tables = node();
    tables.ipcache = vec![entry("10.9.9.9/8", 9, Target::Stack, 1)];
    let slot = encode(&tables, 0, &ROOMY).unwrap();
    assert_eq!(slot.ipcache[0].0.address[..4], [10, 0, 0, 0]);
}

#[test]
fn policy_keys_have_the_bits_that_their_entry_means() {
    let slot = encode(&node(), 0, &ROOMY).unwrap();
    let row = |entry: u32, table: u32| {
        let wanted = |(key, value): &&(abi::PolicyKey, abi::PolicyValue)| {
            value.entry == entry && key.table == table
        };
        *slot.policy.iter().find(wanted).unwrap()
    };
    let (key, value) = row(1, 2);
    assert_eq!((key.prefixlen, key.protocol, key.port, key.identity), (72, 0, [0, 0], 1000));
    assert_eq!((value.flags, value.prefix_bits), (0, 0));
    let (key, value) = row(1, 4);
    assert_eq!((key.prefixlen, key.protocol, key.port), (72 + 20, 6, [0x1F, 0x90]));
    assert_eq!((value.flags, value.prefix_bits), (0, 20));
    let (key, value) = row(2, 4);
    assert_eq!((key.prefixlen, key.protocol), (80, 17));
    assert_eq!((value.flags, value.prefix_bits), (abi::policy::DENY, 8));
    let (key, value) = row(3, 4);
    assert_eq!((key.prefixlen, key.protocol, key.port, value.prefix_bits), (96, 132, [0, 80], 24));
}

#[test]
fn rows_are_sorted_by_their_bytes() {
    let slot = encode(&node(), 0, &ROOMY).unwrap();
    assert!(slot.policy.is_sorted_by(|a, b| a.0.as_bytes() < b.0.as_bytes()));
    assert!(slot.ipcache.is_sorted_by(|a, b| a.0.as_bytes() < b.0.as_bytes()));
}

#[test]
fn what_has_no_room_names_map_need_and_capacity() {
    for (limits, map, needed, capacity) in [
        (Limits { targets: 5, ..ROOMY }, "TARGETS", 6, 5),
        (Limits { ipcache: 5, ..ROOMY }, "IPCACHE", 6, 5),
        (Limits { policy: 3, ..ROOMY }, "POLICY", 4, 3),
    ] {
        let full = BackendError::Full { map: map.to_owned(), needed, capacity };
        assert_eq!(encode(&node(), 0, &limits), Err(full));
    }
    let exact = Limits { targets: 6, ipcache: 6, policy: 4, ..ROOMY };
    assert!(encode(&node(), 0, &exact).is_ok());
}

type Change = fn(&mut NodeTables);

#[test]
fn contradictions_are_errors_that_say_what() {
    let cases: [(&str, Change); 14] = [
        ("two rows of IPCACHE", |t| t.ipcache.push(entry("10.1.2.3/16", 9, Target::Stack, 7))),
        ("two rows of ATTACHMENTS", |t| {
            t.endpoints.push(EndpointEntry { ifindex: 17, ..endpoint(8) });
        }),
        ("two rows of POLICY", |t| t.policies[0].entries.push(rule(None, 0, 0, 2))),
        ("two endpoints 7", |t| t.endpoints.push(endpoint(7))),
        ("no endpoint 9", |t| t.ipcache[0].target = Target::Endpoint(EndpointId(9))),
        ("ipcache entry 0", |t| t.ipcache[0].entry = EntryId(0)),
        ("no policy table 3", |t| t.endpoints[0].egress = TableId(3)),
        ("endpoint 0", |t| t.endpoints[0].id = EndpointId(0)),
        ("at device 0", |t| t.endpoints[0].ifindex = 0),
        ("two addresses of one family", |t| t.endpoints[0].addresses.push(ip("10.0.0.3"))),
        ("not a number of an entry", |t| t.policies[0].entries[0].entry = EntryId(0)),
        ("a port prefix", |t| t.policies[0].entries[0].key.port_bits = 8),
        ("a port prefix", |t| t.policies[1].entries[0].key.port_bits = 17),
        ("beyond its prefix", |t| t.policies[1].entries[0].key.port_bits = 11),
    ];
    for (text, change) in cases {
        let mut tables = node();
        change(&mut tables);
        // The endpoint of the ipcache's second entry may be the one that was changed.
        match encode(&tables, 0, &ROOMY) {
            Err(BackendError::System { error, .. }) => assert!(error.contains(text), "{error}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    let mut tables = node();
    tables.policies.push(PolicyTable { id: TableId(1 << 31), entries: vec![rule(None, 0, 0, 1)] });
    assert!(encode(&tables, 0, &ROOMY).is_err());
}
