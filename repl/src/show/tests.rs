//! Listings of a small world made by hand.

use std::net::IpAddr;

use engine::identity::Identity;
use engine::net::{Direction, Mac, Protocol};
use engine::policy::{
    Action, Isolation, Namespaces, Operator, Policy, PolicyId, PolicySet, Requirement, Rule,
    RuleId, Selector,
};
use engine::source::{SourceMap, Span};
use engine::tables::{
    EndpointEntry, EndpointId, EntryId, Generation, IdentityClass, Implied, IpcacheEntry,
    IpcacheOrigin, NodeTables, Origin, PolicyEntry, PolicyKey, PolicyTable, TableId, Tables,
    Target,
};
use engine::topology::{Cluster, Endpoint, Labels, Namespace, Node, NodeId, Pod, PodId, World};

use super::View;
use crate::reply::{Content, Listing, Reply};

const SERVER: Identity = Identity(300);
const CLIENT: Identity = Identity(301);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn labels(app: &str) -> Labels {
    Labels::from([("app".to_owned(), app.to_owned())])
}

fn pod(name: &str, address: &str) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: name.into(),
        node: NodeId(0),
        addresses: vec![ip(address)],
        labels: labels(name),
        mac: None,
        host_mac: None,
        interface: None,
        ifindex: None,
        endpoint_id: None,
        host_network: false,
        readiness: engine::topology::Readiness::Ready,
        ports: Vec::new(),
        span: Span::default(),
    }
}

fn world() -> World {
    let node = Node {
        name: "node01".into(),
        addresses: vec![ip("192.168.1.1")],
        pod_cidrs: vec!["10.1.0.0/24".parse().unwrap()],
        locals: vec![ip("10.1.0.1")],
        device: "eth0".into(),
        mac: None,
        labels: Labels::new(),
        health: Vec::new(),
        span: Span::default(),
    };
    let mut agent = pod("agent", "192.168.1.1");
    agent.host_network = true;
    let name = "shop".to_owned();
    World {
        nodes: vec![node],
        namespaces: vec![Namespace { name, labels: Labels::new(), span: Span::default() }],
        pods: vec![pod("server", "10.1.0.10"), pod("client", "10.1.0.11"), agent],
        ..World::default()
    }
}

fn policies() -> PolicySet {
    let operator = Operator::Equals("server".into());
    let wanted = Requirement { key: "app".into(), operator, span: Span::default() };
    let rule = Rule {
        name: "web".into(),
        direction: Direction::Ingress,
        action: Action::Allow,
        peers: None,
        ports: None,
        owner: None,
        because: None,
        span: Span::default(),
    };
    PolicySet::new(vec![Policy {
        handle: "shop/server".into(),
        namespace: Some("shop".into()),
        owner: Some("team-shop".into()),
        because: None,
        subject_kind: engine::policy::SubjectKind::Pods,
        subject: Selector { requirements: vec![wanted] },
        subject_namespaces: Namespaces::Own,
        egress: Isolation::ByRules,
        ingress: Isolation::ByRules,
        rules: vec![rule],
        span: Span::default(),
    }])
}

fn endpoint(id: u16, pod: u32, identity: Identity, address: &str, ingress: u32) -> EndpointEntry {
    EndpointEntry {
        id: EndpointId(id),
        endpoint: engine::topology::Endpoint::Pod(PodId(pod)),
        identity,
        addresses: vec![ip(address)],
        ifindex: 10 + u32::from(id),
        interface: format!("lxc{id}"),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        host_mac: Mac([2, 0, 0, 0, 1, 1]),
        egress: TableId(1),
        ingress: TableId(ingress),
    }
}

fn policy_entry(identity: Identity, port: Option<(u16, u8)>, entry: u32) -> PolicyEntry {
    let (port, port_bits) = port.unwrap_or((0, 0));
    let protocol = (port_bits > 0).then_some(Protocol::Tcp);
    let key = PolicyKey { identity, protocol, port, port_bits };
    PolicyEntry { key, deny: false, entry: EntryId(entry) }
}

fn tables() -> Tables {
    let rule = Origin::Rule(RuleId { policy: PolicyId(0), index: 0 });
    let open = PolicyTable { id: TableId(1), entries: vec![policy_entry(Identity::ANY, None, 1)] };
    let ports = [(9000, 13), (9008, 15), (9010, 16)];
    let entries = (1..).zip(ports).map(|(at, p)| policy_entry(CLIENT, Some(p), at)).collect();
    let isolated = PolicyTable { id: TableId(2), entries };
    let mut tables = Tables { generation: Generation(1), ..Tables::default() };
    let mut record = |direction, origins: Vec<Vec<Origin>>| {
        tables.provenance.record(NodeId(0), EndpointId(7), direction, origins.into());
    };
    record(Direction::Ingress, vec![vec![rule]; 3]);
    record(Direction::Egress, vec![vec![Origin::Implied(Implied::NotIsolated)]]);
    let class = |app| IdentityClass::Pods {
        namespace: "shop".into(),
        labels: labels(app),
        variant: String::new(),
    };
    tables.identities.insert(Identity::WORLD, IdentityClass::Reserved);
    tables.identities.insert(SERVER, class("server"));
    tables.identities.insert(CLIENT, class("client"));
    tables.nodes = vec![NodeTables {
        node: NodeId(0),
        dual_stack: false,
        routing: engine::topology::Routing::Tunnel,
        host_routing: engine::topology::HostRouting::Bpf,
        host_ifindex: 3,
        host_firewall: false,
        frontends: Vec::new(),
        backend_sets: Vec::new(),
        nat: engine::tables::NatTables {
            masquerade: true,
            addresses: [None, None],
            ports: (32_768, 65_535),
            except: Vec::new(),
        },
        prefilter: Vec::new(),
        encryption: None,
        tunnel: Cluster::default().tunnel,
        tunnel_ifindex: 3,
        device_ifindex: 2,
        tunnel_address: ip("192.168.1.1"),
        locals: vec![ip("192.168.1.1"), ip("10.1.0.1")],
        tunnels: vec![("10.2.0.0/24".parse().unwrap(), ip("192.168.1.2"))],
        ipcache: vec![IpcacheEntry {
            prefix: "0.0.0.0/0".parse().unwrap(),
            identity: Identity::WORLD,
            target: Target::Stack,
            entry: EntryId(1),
            origin: IpcacheOrigin::World,
        }],
        endpoints: vec![
            endpoint(7, 0, SERVER, "10.1.0.10", 2),
            endpoint(8, 1, CLIENT, "10.1.0.11", 1),
        ],
        policies: vec![open, isolated],
    }];
    tables
}

fn check(list: impl Fn(&View<'_>) -> Listing, expected: &str) {
    let (world, policies, tables) = (world(), policies(), tables());
    let mut sources = SourceMap::default();
    sources.add("shop.hop", "policy");
    let view = View { world: &world, policies: &policies, tables: &tables, sources: &sources };
    let reply = Reply::ok(Content::Listing(list(&view)));
    let mut out = Vec::new();
    crate::render::text(&reply, &crate::render::Options::default(), &mut out).unwrap();
    let lines = expected.lines().map(|line| format!("{}\n", line.trim_start()));
    let expected: String = lines.collect();
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn pods_say_what_isolates_them() {
    check(
        super::world::pods,
        "NAME          NODE     ADDRESSES     IDENTITY   INGRESS        INGRESS-BY    EGRESS         EGRESS-BY   LABELS
         shop/server   node01   10.1.0.10     300        default-deny   shop/server   not-isolated   -           {app=server}
         shop/client   node01   10.1.0.11     301        not-isolated   -             not-isolated   -           {app=client}
         shop/agent    node01   192.168.1.1   -          host-network   -             host-network   -           {app=agent}",
    );
}

#[test]
fn endpoints_end_with_the_node_itself() {
    check(
        |view| view.endpoints(None),
        "NODE     IP            ENDPOINT      IFINDEX   MAC                 NODE-MAC            INTERFACE   IDENTITY   POD
         node01   10.1.0.10     7             17        02:00:00:00:00:01   02:00:00:00:01:01   lxc7        300        shop/server
         node01   10.1.0.11     8             18        02:00:00:00:00:01   02:00:00:00:01:01   lxc8        301        shop/client
         node01   192.168.1.1   (localhost)   -         -                   -                   -           -          -
         node01   10.1.0.1      (localhost)   -         -                   -                   -           -          -",
    );
}

#[test]
fn tunnels_are_listed_as_each_node_knows_them() {
    check(
        |view| view.tunnel(Some(NodeId(0))),
        "NODE     POD-PREFIX    TUNNEL-ENDPOINT
         node01   10.2.0.0/24   192.168.1.2",
    );
    check(|view| view.tunnel(Some(NodeId(1))), "no tunnels");
}

#[test]
fn identities_count_their_pods() {
    check(
        super::world::identities,
        "IDENTITY   KIND       MEANING                PODS
         2          reserved   world                  -
         300        pods       {app=server} in shop   1
         301        pods       {app=client} in shop   1",
    );
}

#[test]
fn policies_are_shown_after_normalisation() {
    check(
        |view| super::policies::policies(view, None),
        "POLICY        OWNER       SUBJECT                     PODS   ISOLATES   RULES   LOCATION
         shop/server   team-shop   pods {app=server} in shop   1      ingress    1       shop.hop:1:1",
    );
}

#[test]
fn a_policy_table_folds_ranges_and_names_rules() {
    check(
        |view| view.policy(Endpoint::Pod(PodId(0))).unwrap(),
        "DIRECTION   ACTION   IDENTITY   PEER                   PORTS           ENTRIES   RULES             LOCATIONS
         ingress     allow    301        {app=client} in shop   9000-9010/tcp   1,2,3     shop/server#web   shop.hop:1:1
         ingress     deny     -          otherwise              any             -         (default-deny)    -
         egress      allow    0          any                    any             1         (not-isolated)    -
         ingress: table 2 of endpoint 7 (shop/server), entries: 3
         egress: table 1 of endpoint 7 (shop/server), entries: 1",
    );
}

#[test]
fn a_pod_without_an_endpoint_has_no_tables() {
    let (world, policies, tables) = (world(), policies(), tables());
    let sources = SourceMap::default();
    let view = View { world: &world, policies: &policies, tables: &tables, sources: &sources };
    assert!(view.policy(Endpoint::Pod(PodId(2))).is_none());
}

#[test]
fn the_ipcache_says_where_an_entry_comes_from() {
    check(
        |view| view.ipcache(None),
        "NODE     PREFIX      IDENTITY   MEANING   TARGET   ORIGIN            ENTRY
         node01   0.0.0.0/0   2          world     stack    everything else   1",
    );
}

fn service() -> engine::topology::Service {
    use engine::topology::{Service, ServicePort, TargetPort, TrafficPolicy};
    let port = |port, target, node_port| ServicePort {
        name: None,
        port,
        protocol: Protocol::Tcp,
        target,
        node_port,
        span: Span::default(),
    };
    let operator = Operator::Equals("server".into());
    let wanted = Requirement { key: "app".into(), operator, span: Span::default() };
    Service {
        namespace: "shop".into(),
        name: "server".into(),
        cluster_ips: vec![ip("10.96.0.1")],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        ports: vec![
            port(80, TargetPort::Number(8080), Some(30080)),
            port(443, TargetPort::Name("https".into()), None),
        ],
        selector: Selector { requirements: vec![wanted] },
        affinity: Some(600),
        balancing: None,
        source_ranges: Vec::new(),
        ranges_span: Span::default(),
        internal_traffic: TrafficPolicy::Cluster,
        external_traffic: TrafficPolicy::Local,
        span: Span::default(),
    }
}

#[test]
fn services_with_their_backends() {
    let mut world = world();
    world.services = vec![service()];
    let (policies, tables, sources) = (policies(), tables(), SourceMap::default());
    let text = |world: &World| {
        let view = View { world, policies: &policies, tables: &tables, sources: &sources };
        rows(&view.services())
    };
    let expected = [
        "shop/server | 80/tcp -> 8080 | cluster-ip 10.96.0.1:80,node-port 30080 | shop/server | 10.1.0.10:8080 | node01 | ready | 600s | random | cluster | local",
        "shop/server | 443/tcp -> https | cluster-ip 10.96.0.1:443 | shop/server | - | node01 | no-such-port | 600s | random | cluster | local",
    ];
    assert_eq!(text(&world), expected);
    world.pods[0].readiness = engine::topology::Readiness::NotReady;
    assert!(text(&world)[0].contains("| not-ready |"), "{:?}", text(&world));
    world.pods[0].labels.clear();
    assert!(text(&world)[0].contains("| - | - | - | no pod is selected |"), "{:?}", text(&world));
}

/// One text a row, cells between bars.
fn rows(listing: &Listing) -> Vec<String> {
    let cell = |cell: &crate::reply::Cell| match cell {
        crate::reply::Cell::None => "-".to_owned(),
        crate::reply::Cell::Number(number) => number.to_string(),
        crate::reply::Cell::Text(text) => text.clone(),
        crate::reply::Cell::List(list) => list.join(","),
    };
    let row = |row: &Vec<crate::reply::Cell>| row.iter().map(cell).collect::<Vec<_>>().join(" | ");
    listing.rows.iter().map(row).collect()
}

#[test]
fn hits_by_rule_and_endpoint() {
    use engine::trace::{Counter, Hit};
    let (world, policies, tables, sources) = (world(), policies(), tables(), SourceMap::default());
    let view = View { world: &world, policies: &policies, tables: &tables, sources: &sources };
    let hit = |direction, entry, packets, bytes| Hit {
        endpoint: EndpointId(7),
        direction,
        entry: EntryId(entry),
        packets,
        bytes,
    };
    let counted = [(
        NodeId(0),
        vec![
            hit(Direction::Ingress, 1, 2, 120),
            hit(Direction::Ingress, 3, 1, 60),
            hit(Direction::Ingress, 0, 4, 240),
        ],
    )];
    let of_policy = rows(&view.hits(super::Of::Policy(PolicyId(0)), &counted));
    assert_eq!(of_policy.len(), 1, "{of_policy:?}");
    assert!(of_policy[0].starts_with("shop/server#web | shop/server | ingress | 3 | 180 | 1,2,3"));
    let of_pod = rows(&view.hits(super::Of::Endpoint(Endpoint::Pod(PodId(0))), &counted));
    assert!(
        of_pod.iter().any(|r| r.starts_with("(default-deny) | shop/server | ingress | 4 | 240"))
    );
    let forwarded = Counter {
        hook: engine::net::Hook::FromNetdev,
        reason: None,
        direction: Direction::Ingress,
        packets: 3,
        bytes: 180,
    };
    let metrics = rows(&view.metrics(&[(NodeId(0), vec![forwarded])]));
    assert_eq!(metrics, ["node01 | from-netdev | ingress | forwarded | 3 | 180"]);
}
