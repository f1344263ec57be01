//! The namespaces of a world, drawn one by one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engine::net::Mac;
use engine::tables::{EndpointEntry, NodeTables, Tables};
use engine::topology::{Endpoint, Node, NodeId, Party, Routing, Service, World};
use ipnet::IpNet;

use super::{
    BRIDGE_INDEX, Device, DeviceKind, HOST_PEER, Neighbour, Options, POD_DEVICE, Role, Route, Rule,
    Sent, Space, wire,
};
use crate::follow::HOST_DEVICE;
use crate::follow::link::{self, ROUTER};

/// What joins the nodes' wires.
pub(super) const BRIDGE: &str = "underlay";
/// The loopback device.
const LOOPBACK: &str = "lo";
/// Where [`HOST_PEER`]'s index is looked for: far from all others, as nobody asks for it.
const HOST_PEER_INDEX: u32 = 1 << 30;
/// Whom nodes send to what is outside; addresses that no world has use for.
const ROUTER4: Ipv4Addr = Ipv4Addr::new(169, 254, 66, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0x66, 1);
/// The routes of what a node itself sends, where they differ from those of what it sends on.
const OWN_TABLE: u8 = 42;
/// The table that is asked where no rule names another.
const MAIN_TABLE: u8 = 254;
/// As large as the reference's devices.
const MTU: u32 = 1500;
/// What a pod sends leaves room for the tunnel's headers over IPv4 and IPv6.
const TUNNELED_MTU: [u32; 2] = [1450, 1430];

/// All namespaces, the world's first, then the nodes'.
pub(super) fn spaces(world: &World, tables: &Tables, options: Options) -> Vec<Space> {
    let maker = Maker { world, tables, options };
    let mut spaces = vec![maker.outside()];
    spaces.extend(tables.nodes.iter().map(|node| maker.node(node)));
    let pods = |node| endpoints(node).map(move |entry| (node, entry));
    let pods = tables.nodes.iter().flat_map(pods);
    spaces.extend(pods.map(|(node, entry)| maker.pod(node, entry)));
    spaces
}

/// Whether an address is the router's.
fn is_router(address: IpAddr) -> bool {
    [router(false), router(true)].contains(&address)
}

/// Whether an address is one that the lab itself needs.
pub(super) fn is_of_the_lab(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            (a, b) == (169, 254) && (c >= 128 || v4 == ROUTER4)
        }
        IpAddr::V6(v6) => v6.segments()[..4] == ROUTER6.segments()[..4],
    }
}

struct Maker<'a> {
    world: &'a World,
    tables: &'a Tables,
    options: Options,
}

/// A prefix that holds one address.
fn alone(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

fn everywhere(is_v6: bool) -> IpNet {
    let any: IpAddr =
        if is_v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    IpNet::new(any, 0).unwrap_or_else(|_| alone(any))
}

fn device(name: &str, kind: DeviceKind) -> Device {
    Device {
        name: name.to_owned(),
        index: None,
        mac: None,
        mtu: MTU,
        no_arp: false,
        bridge: None,
        kind,
    }
}

fn route(to: IpNet, device: &str) -> Route {
    Route { to, via: None, device: Some(device.to_owned()), mtu: None, source: None, table: None }
}

fn router(is_v6: bool) -> IpAddr {
    if is_v6 { ROUTER6.into() } else { ROUTER4.into() }
}

fn first(addresses: &[IpAddr], is_v6: bool) -> Option<IpAddr> {
    addresses.iter().copied().find(|address| address.is_ipv6() == is_v6)
}

/// What others send a node's pods' packets to; where the node has no address of the family, one that only its neighbours know.
fn way_to(node: &Node, id: NodeId, is_v6: bool) -> IpAddr {
    let [.., a, b] = (id.0 + 1).to_be_bytes();
    first(&node.addresses, is_v6).unwrap_or_else(|| {
        if is_v6 {
            Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0x4E, u16::from_be_bytes([a, b])).into()
        } else {
            Ipv4Addr::new(169, 254, a | 128, b).into()
        }
    })
}

/// The endpoints that have a device of their own.
fn endpoints(node: &NodeTables) -> impl Iterator<Item = &EndpointEntry> {
    node.endpoints.iter().filter(|entry| !matches!(entry.endpoint, Endpoint::Host(_)))
}

impl Maker<'_> {
    fn of(&self, node: &NodeTables) -> &Node {
        &self.world.nodes[node.node.index()]
    }

    fn mac(&self, node: &NodeTables) -> Mac {
        link::node_mac(self.world, node).mac
    }

    fn space(role: Role, name: String, place: String) -> Space {
        Space {
            role,
            name,
            place,
            forwards: false,
            devices: Vec::new(),
            addresses: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
            neighbours: Vec::new(),
        }
    }

    /// Addresses of services but those of nodes, in order.
    fn services(&self) -> BTreeSet<IpAddr> {
        let all = self.world.services.iter().flat_map(Service::addresses);
        all.filter(|a| !self.world.nodes.iter().any(|node| node.addresses.contains(a))).collect()
    }

    /// The outside, with the wire between nodes. Addresses of services lead to the first node.
    fn outside(&self) -> Space {
        let mut space = Self::space(Role::World, "world".to_owned(), "world".to_owned());
        // What is mute must not answer that a destination is unreachable either.
        space.forwards = !self.options.mute;
        space.devices.push(Device {
            index: Some(BRIDGE_INDEX),
            mac: Some(ROUTER.mac),
            ..device(BRIDGE, DeviceKind::Bridge)
        });
        for node in &self.tables.nodes {
            let own = self.of(node);
            let by = |to: IpNet| {
                let via = Some(way_to(own, node.node, to.addr().is_ipv6()));
                Route { via, ..route(to, BRIDGE) }
            };
            space.routes.extend(own.addresses.iter().map(|a| route(alone(*a), BRIDGE)));
            space.routes.extend(own.pod_cidrs.iter().map(|prefix| by(prefix.trunc())));
            if node.node.0 == 0 {
                space.routes.extend(self.services().into_iter().map(|a| by(alone(a))));
            }
            self.neighbour(&mut space, BRIDGE, node);
        }
        space.addresses.push((BRIDGE.to_owned(), router(false)));
        space.addresses.push((BRIDGE.to_owned(), router(true)));
        if self.options.mute {
            let lost = |is_v6| Route { device: None, ..route(everywhere(is_v6), "") };
            space.routes.extend([lost(false), lost(true)]);
        } else {
            let outside = self.world.externals.iter().flat_map(|external| &external.addresses);
            let is_its = |a: &&IpAddr| matches!(self.world.owner(**a), Some(Party::External(_)));
            let outside: BTreeSet<&IpAddr> = outside.filter(is_its).collect();
            space.addresses.extend(outside.into_iter().map(|a| (LOOPBACK.to_owned(), *a)));
        }
        space
    }

    /// A node as a neighbour behind a device, by all its addresses.
    fn neighbour(&self, space: &mut Space, device: &str, node: &NodeTables) {
        let own = self.of(node);
        let ways = [way_to(own, node.node, false), way_to(own, node.node, true)];
        let mut all = own.addresses.clone();
        all.extend(ways.into_iter().filter(|way| !own.addresses.contains(way)));
        space.neighbours.extend(all.into_iter().map(|address| Neighbour {
            device: device.to_owned(),
            address,
            mac: self.mac(node),
        }));
    }

    /// What a node's pods send everything to, of a family: the first further address of the node among its pods' prefixes, else one
    /// there that nobody has, else one that only the pods know.
    fn gateway(&self, node: &NodeTables, is_v6: bool) -> IpAddr {
        let own = self.of(node);
        let taken: BTreeSet<IpAddr> =
            endpoints(node).flat_map(|entry| entry.addresses.iter().copied()).collect();
        let prefixes = || own.pod_cidrs.iter().filter(move |cidr| cidr.addr().is_ipv6() == is_v6);
        let local = own.locals.iter().find(|local| prefixes().any(|cidr| cidr.contains(*local)));
        let free =
            || prefixes().find_map(|cidr| cidr.hosts().take(512).find(|a| !taken.contains(a)));
        local.copied().or_else(free).unwrap_or_else(|| router(is_v6))
    }

    fn node(&self, node: &NodeTables) -> Space {
        let own = self.of(node);
        let mut space = Self::space(Role::Node(node.node), own.name.clone(), own.name.clone());
        space.forwards = true;
        space.devices = self.devices(node);
        space.addresses.extend(own.addresses.iter().map(|a| (own.device.clone(), *a)));
        let services = self.services();
        // One that only pods know is no address of the node: the router has it.
        let gateways = [self.gateway(node, false), self.gateway(node, true)];
        let gateways: Vec<IpAddr> = gateways.into_iter().filter(|a| !is_router(*a)).collect();
        let is_elsewhere =
            |a: &&IpAddr| services.contains(a) || gateways.contains(a) || own.addresses.contains(a);
        let further: BTreeSet<&IpAddr> = own.locals.iter().filter(|a| !is_elsewhere(a)).collect();
        space.addresses.extend(further.into_iter().map(|a| (LOOPBACK.to_owned(), *a)));
        space.addresses.extend(gateways.iter().map(|a| (HOST_DEVICE.to_owned(), *a)));
        for entry in endpoints(node) {
            space.neighbours.extend(entry.addresses.iter().map(|address| Neighbour {
                device: entry.interface.clone(),
                address: *address,
                mac: entry.mac,
            }));
        }
        self.ways(node, &services, &mut space);
        space
    }

    /// The devices of a node: first those whose index is given.
    fn devices(&self, node: &NodeTables) -> Vec<Device> {
        let own = self.of(node);
        let peer = |name: &str| device(name, DeviceKind::Peer);
        let mut devices = Vec::new();
        let wire = Device { bridge: Some(BRIDGE.to_owned()), ..peer(&wire(node.node)) };
        devices.push(Device {
            index: Some(node.device_ifindex),
            mac: Some(self.mac(node)),
            ..device(&own.device, DeviceKind::Veth { space: Role::World, peer: Box::new(wire) })
        });
        if node.routing == Routing::Tunnel {
            devices.push(Device {
                index: Some(node.tunnel_ifindex),
                ..device(&node.tunnel.device, DeviceKind::Vxlan { port: node.tunnel.port })
            });
        }
        for entry in endpoints(node) {
            let space = Role::Pod(node.node, entry.id);
            // Its neighbours are all known, so that it sends nothing but what was asked for.
            let end = Device { mac: Some(entry.mac), no_arp: true, ..peer(POD_DEVICE) };
            devices.push(Device {
                index: Some(entry.ifindex),
                mac: Some(entry.host_mac),
                ..device(&entry.interface, DeviceKind::Veth { space, peer: Box::new(end) })
            });
        }
        let is_taken = |index: &u32| node.endpoints.iter().any(|entry| entry.ifindex == *index);
        let index = (HOST_PEER_INDEX..HOST_PEER_INDEX << 1).find(|index| !is_taken(index));
        // What the kernel sends by the one is addressed to that one's own address, and is to be taken at the other.
        let mac = Some(link::host_device(node).source);
        let net = Device { index, mac, no_arp: true, ..peer(HOST_PEER) };
        devices.push(Device {
            index: Some(node.host_ifindex),
            mac,
            no_arp: true,
            ..device(
                HOST_DEVICE,
                DeviceKind::Veth { space: Role::Node(node.node), peer: Box::new(net) },
            )
        });
        devices
    }

    /// To other nodes by the wire, to pods and services by `cilium_host`, to everyone else by the router. Under native routing what a
    /// node sends on goes to the node that has the pod, so that the two ask different tables.
    fn ways(&self, node: &NodeTables, services: &BTreeSet<IpAddr>, space: &mut Space) {
        let own = self.of(node);
        let is_native = node.routing == Routing::Native;
        let table = is_native.then_some(OWN_TABLE);
        // Pods and other nodes know the node by its own address, not by the gateway's.
        let source = |to: &IpNet| first(&own.addresses, to.addr().is_ipv6());
        let by_host = |to: IpNet| Route { source: source(&to), table, ..route(to, HOST_DEVICE) };
        for other in &self.tables.nodes {
            let there = self.of(other);
            let prefixes: BTreeSet<IpNet> = there.pod_cidrs.iter().map(IpNet::trunc).collect();
            space.routes.extend(prefixes.iter().map(|prefix| by_host(*prefix)));
            if other.node == node.node {
                continue;
            }
            self.neighbour(space, &own.device, other);
            let by_wire = |to: IpNet| Route { source: source(&to), ..route(to, &own.device) };
            space.routes.extend(there.addresses.iter().map(|a| by_wire(alone(*a))));
            if is_native {
                let way = |to: &IpNet| {
                    let via = Some(way_to(there, other.node, to.addr().is_ipv6()));
                    Route { via, ..route(*to, &own.device) }
                };
                space.routes.extend(prefixes.iter().map(way));
            }
        }
        space.routes.extend(services.iter().map(|a| by_host(alone(*a))));
        for is_v6 in [false, true] {
            let (to, via) = (everywhere(is_v6), Some(router(is_v6)));
            space.neighbours.push(Neighbour {
                device: own.device.clone(),
                address: router(is_v6),
                mac: ROUTER.mac,
            });
            space.routes.push(Route { via, source: source(&to), ..route(to, &own.device) });
            space.rules.extend(self.rules(node, is_v6, table));
        }
    }

    /// What becomes of what a node itself sends. One that is mute says nothing but what others send by it: what it encapsulates, and
    /// what programs send by its device.
    fn rules(&self, node: &NodeTables, is_v6: bool, table: Option<u8>) -> Vec<Rule> {
        let rule = |what, table| Rule { is_v6, what, table };
        if !self.options.mute {
            return table.map(|table| rule(Sent::Everything, Some(table))).into_iter().collect();
        }
        vec![
            rule(Sent::Datagrams(node.tunnel.port), Some(MAIN_TABLE)),
            rule(Sent::By(self.of(node).device.clone()), Some(MAIN_TABLE)),
            rule(Sent::Everything, None),
        ]
    }

    fn pod(&self, node: &NodeTables, entry: &EndpointEntry) -> Space {
        let name = self.world.endpoint_name(entry.endpoint);
        let place = match entry.endpoint {
            Endpoint::Pod(_) => name.replace('/', "--"),
            Endpoint::Health(_) | Endpoint::Host(_) => format!("health--{}", self.of(node).name),
        };
        let mut space = Self::space(Role::Pod(node.node, entry.id), name, place);
        if self.options.mute {
            return space;
        }
        let over_v6 = usize::from(node.tunnel_address.is_ipv6());
        let mtu = (node.routing == Routing::Tunnel).then_some(TUNNELED_MTU[over_v6]);
        for address in &entry.addresses {
            let gateway = self.gateway(node, address.is_ipv6());
            space.addresses.push((POD_DEVICE.to_owned(), *address));
            space.routes.push(route(alone(gateway), POD_DEVICE));
            let to = everywhere(address.is_ipv6());
            space.routes.push(Route { via: Some(gateway), mtu, ..route(to, POD_DEVICE) });
            space.neighbours.push(Neighbour {
                device: POD_DEVICE.to_owned(),
                address: gateway,
                mac: entry.host_mac,
            });
        }
        space
    }
}
