//! Real traffic between pods of labs: what the kernels of both ends say to each other gets through, or does not, as policies say.

use std::net::{IpAddr, SocketAddr};

use datapath::lab::namespace::Namespace;
use datapath::lab::{self, LabWires, Options, Plan, Role};
use datapath::live::Backed;
use engine::backend::Backend;
use engine::source::FileId;
use engine::tables::Tables;
use engine::topology::World;

use super::wire::{self, PATIENCE, SILENCE, Server};
use crate::lab::{is_possible, loaded, tables};

/// A lab of a text, with its world.
pub(crate) struct Made {
    pub(crate) world: World,
    pub(crate) tables: Tables,
    pub(crate) live: Backed<LabWires>,
}

impl Made {
    pub(crate) fn of(text: &str) -> Self {
        let loaded = loaded(text);
        let tables = tables(&loaded);
        let live = lab::open(&loaded.world, &tables, Options::default()).expect("a lab of it");
        Self { world: loaded.world, tables, live }
    }

    /// The namespace of somebody, by its name in questions.
    pub(crate) fn space(&mut self, name: &str) -> Namespace {
        let role = if name == "world" { Role::World } else { self.role(name) };
        let space = self.live.wires(|wires| wires.lab().space(role).map(Namespace::try_clone));
        space.expect("it was made").expect("descriptors are there")
    }

    fn role(&self, name: &str) -> Role {
        let name = lang::command::parse_party(name, FileId::default()).expect("a name");
        let party = lang::resolve::party(&self.world, &name).expect("somebody of this world");
        Plan::whose(&self.world, &self.tables, party).expect("it has a place")
    }
}

fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address with a port")
}

fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

/// Two nodes with a pod or two each, services of every kind, and a policy; `$` stands for more of the cluster.
const WORLD: &str = r#"
cluster lab {
  $
  node node01 { ip 192.168.1.1, fd00:c0::1 pods 10.1.0.0/24, fd00:1::/64 local 10.1.0.1, 198.51.100.1 health 10.1.0.99 }
  node node02 { ip 192.168.1.2, fd00:c0::2 pods 10.2.0.0/24, fd00:2::/64 }
}
namespace shop {}
pod shop/client on node01 { ip 10.1.0.10, fd00:1::10 labels { app = "client" } }
pod shop/near on node01 { ip 10.1.0.11, fd00:1::11 labels { app = "near" } }
pod shop/server on node02 { ip 10.2.0.10, fd00:2::10 labels { app = "server" } }
pod shop/agent on node01 { host-network labels { app = "agent" } }
service shop/web {
  cluster-ip 10.96.0.20, fd00:96::20
  external-ip 198.18.0.20
  port 80/tcp -> 8080 node-port 30080
  select { app = "server" }
}
external far { ip 203.0.113.9, 2001:db8::9 }
policy shop/server {
  select { app = "server" }
  allow ingress from pods { app = "client" } on 8080/tcp
  allow ingress from entities host, remote-node, world
  allow ingress from pods { app = "client" } on icmp echo-request
  allow ingress from pods { app = "client" } on icmpv6 echo-request
}
"#;

/// Everything that real pods, nodes and the outside say to each other in one lab.
fn everybody_talks(cluster: &str) {
    let mut made = Made::of(&WORLD.replace('$', cluster));
    let [client, near, server, node, other, agent, far] = [
        "shop/client",
        "shop/near",
        "shop/server",
        "node node01",
        "node node02",
        "shop/agent",
        "far",
    ]
    .map(|name| made.space(name));
    let _servers = [
        Server::start(&server, 8080, "server"),
        Server::start(&server, 9090, "other"),
        Server::start(&far, 443, "far"),
        Server::start(&node, 10250, "node"),
    ];
    for (what, from, to) in [
        ("pod to pod of another node", &client, "10.2.0.10"),
        ("the same by IPv6", &client, "fd00:2::10"),
        ("pod to pod of the same node", &client, "10.1.0.11"),
        ("the same by IPv6", &near, "fd00:1::10"),
        ("pod to its node", &client, "192.168.1.1"),
        ("pod to its gateway", &client, "10.1.0.1"),
        ("pod to a further address of its node", &client, "198.51.100.1"),
        ("pod to another node", &client, "192.168.1.2"),
        ("pod to another node by IPv6", &client, "fd00:c0::2"),
        ("pod to the outside", &client, "203.0.113.9"),
        ("pod to the outside by IPv6", &client, "2001:db8::9"),
        ("node to node", &node, "192.168.1.2"),
        ("node to its own pod", &node, "10.1.0.10"),
        ("node to its own pod by IPv6", &node, "fd00:1::10"),
        ("node to a pod of another node", &node, "10.2.0.10"),
        ("the same by IPv6", &node, "fd00:2::10"),
        ("a pod in the node's network to a pod", &agent, "10.2.0.10"),
        ("node to the health endpoint of another", &other, "10.1.0.99"),
        ("node to the outside", &node, "203.0.113.9"),
        ("the outside to a node", &far, "192.168.1.1"),
        ("the outside to a node by IPv6", &far, "fd00:c0::1"),
    ] {
        wire::ping(from, ip(to)).unwrap_or_else(|error| panic!("{cluster}: {what}: {error}"));
    }
    let shut = wire::Ping::open(&near, ip("10.2.0.10")).expect("a socket").ask(SILENCE);
    assert!(shut.is_err(), "{cluster}: a pod that no rule allows got an answer");
    for (what, from, to, answer) in [
        ("pod to pod", &client, "10.2.0.10:8080", "server 10.1.0.10"),
        ("pod to pod by IPv6", &client, "[fd00:2::10]:8080", "server fd00:1::10"),
        ("pod to service", &client, "10.96.0.20:80", "server 10.1.0.10"),
        ("pod to service by IPv6", &client, "[fd00:96::20]:80", "server fd00:1::10"),
        ("pod to the external address", &client, "198.18.0.20:80", "server 10.1.0.10"),
        ("pod to a node port", &client, "192.168.1.1:30080", "server 10.1.0.10"),
        ("node to pod", &node, "10.2.0.10:8080", "server 192.168.1.1"),
        ("node to service", &node, "10.96.0.20:80", "server 192.168.1.1"),
        ("node to service by IPv6", &node, "[fd00:96::20]:80", "server fd00:c0::1"),
        ("node of the backend to service", &other, "10.96.0.20:80", "server 192.168.1.2"),
        ("pod to the outside", &client, "203.0.113.9:443", "far 192.168.1.1"),
        ("pod to the outside by IPv6", &client, "[2001:db8::9]:443", "far fd00:c0::1"),
        ("outside to a node port there", &far, "192.168.1.2:30080", "server "),
        ("outside to a node port elsewhere", &far, "192.168.1.1:30080", "server 192.168.1.1"),
        ("outside to the external address", &far, "198.18.0.20:80", "server 192.168.1.1"),
        ("pod to its node", &client, "192.168.1.1:10250", "node 10.1.0.10"),
        ("pod of another node to a node", &server, "192.168.1.1:10250", "node "),
    ] {
        let got = wire::get(from, at(to), PATIENCE);
        let got = got.unwrap_or_else(|error| panic!("{cluster}: {what}: {error}"));
        assert!(got.starts_with(answer), "{cluster}: {what}: {got}");
    }
    for (what, from, to) in [
        ("a pod that no rule allows", &near, "10.2.0.10:8080"),
        ("a port that no rule allows", &client, "10.2.0.10:9090"),
        ("an address of the outside that is nobody's", &client, "203.0.113.77:443"),
        ("a cluster IP from outside", &far, "10.96.0.20:80"),
    ] {
        let got = wire::get(from, at(to), SILENCE);
        assert!(got.is_err(), "{cluster}: {what}: {got:?}");
    }
    assert!(made.live.counters(engine::topology::NodeId(0)).is_ok_and(|all| !all.is_empty()));
}

#[test]
fn pods_nodes_and_the_outside_talk_by_the_tunnel() {
    if is_possible() {
        everybody_talks("tunnel vxlan");
    }
}

#[test]
fn pods_nodes_and_the_outside_talk_by_native_routing() {
    if is_possible() {
        everybody_talks("tunnel none");
    }
}

#[test]
fn pods_nodes_and_the_outside_talk_where_the_nodes_own_stack_routes() {
    if is_possible() {
        everybody_talks("tunnel vxlan host-routing stack");
        everybody_talks("tunnel none host-routing stack");
    }
}
