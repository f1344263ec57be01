//! What a lab consists of: namespaces with devices, addresses, routes and neighbours, from a world and its tables. Pure; names,
//! indices and Ethernet addresses of whatever programs look at are those of the tables, so that both agree without being told.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engine::net::Mac;
use engine::tables::{EndpointEntry, EndpointId, NodeTables, Tables};
use engine::topology::{Endpoint, Node, NodeId, Routing, TunnelKind, World};
use ipnet::IpNet;
use thiserror::Error;

use crate::follow::HOST_DEVICE;
use crate::follow::link::{self, ROUTER};

/// A pod's device.
pub(super) const POD_DEVICE: &str = "eth0";
/// The other end of [`HOST_DEVICE`].
pub(super) const HOST_PEER: &str = "cilium_net";
/// Its index: one that no pod is given.
const HOST_PEER_INDEX: u32 = 1 << 30;
/// What joins the nodes' wires.
const BRIDGE: &str = "underlay";
/// Its index: the first after the loopback device.
pub(super) const BRIDGE_INDEX: u32 = 2;
/// Whom nodes send to what is outside; addresses that no world has use for.
const ROUTER4: Ipv4Addr = Ipv4Addr::new(169, 254, 66, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0x66, 1);
/// As large as the reference's devices.
const MTU: u32 = 1500;
/// What a pod sends leaves room for the tunnel's headers.
const ROUTE_MTU: u32 = 1450;
/// Namespaces that a lab has at most: each is memory of the kernel.
const MOST: usize = 512;

/// What a lab is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Pods and what is outside have no addresses, so that no kernel answers what is sent to them.
    pub mute: bool,
}

/// Whose a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// What is outside, and the wires between nodes.
    World,
    /// A node's.
    Node(NodeId),
    /// A pod's or health endpoint's, on its node.
    Pod(NodeId, EndpointId),
}

/// A whole lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its namespaces; the first is the world's.
    pub spaces: Vec<Space>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Whose.
    pub role: Role,
    /// A name for people: `world`, `node01`, `web/client`.
    pub name: String,
    /// Whether it sends on what is not for it.
    pub forwards: bool,
    /// Devices that are made in it, in order; other ends of veths in it are made with those.
    pub devices: Vec<Device>,
    /// Addresses, by device; always alone in their prefix.
    pub addresses: Vec<(String, IpAddr)>,
    /// Routes, in order.
    pub routes: Vec<Route>,
    /// Neighbours that are known from the start.
    pub neighbours: Vec<Neighbour>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its index; `None`: the kernel's choice.
    pub index: Option<u32>,
    /// Its Ethernet address; `None`: the kernel's choice.
    pub mac: Option<Mac>,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it asks nobody for Ethernet addresses.
    pub no_arp: bool,
    /// The bridge that it is a port of.
    pub bridge: Option<String>,
    /// What it is.
    pub kind: DeviceKind,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Joins its ports.
    Bridge,
    /// VXLAN in collect-metadata mode on a port.
    Vxlan {
        /// The UDP port.
        port: u16,
    },
    /// One end of a pair.
    Veth {
        /// The namespace that the other end is in.
        space: Role,
        /// The other end, which is no pair itself.
        peer: Box<Device>,
    },
    /// The other end of a pair.
    Peer,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; `None`: everywhere else.
    pub to: Option<IpNet>,
    /// The router; `None`: the destination is a neighbour.
    pub via: Option<IpAddr>,
    /// The device.
    pub device: String,
    /// Bytes that packets may have; `None`: as many as the device takes.
    pub mtu: Option<u32>,
    /// What the node's own packets are sent from.
    pub source: Option<IpAddr>,
}

/// A neighbour's Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The device.
    pub device: String,
    /// The neighbour.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// Why a world cannot be built here. What contradicts itself, such as two pods of one address, the language has refused before.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// A tunnel that no device here makes.
    #[error("the cluster's tunnel is geneve, whose devices cannot be made here")]
    Geneve,
    /// Two devices of a node have one name or index, or one has an index that no device can have.
    #[error("{of} cannot have device `{name}` of index {index} beside its others")]
    Device {
        /// The name.
        name: String,
        /// The index.
        index: u32,
        /// Whose.
        of: String,
    },
    /// More namespaces than a lab has.
    #[error("the world has {0} nodes and pods; {MOST} namespaces are made at most")]
    TooMany(usize),
}

impl PlanError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Geneve => {
                "use `tunnel vxlan` or native routing; `make test-qemu` runs real Geneve devices"
                    .to_owned()
            }
            Self::Device { .. } => {
                "give it another `interface` or `ifindex`; 1 is the loopback device's".to_owned()
            }
            Self::TooMany(_) => "take a part of the world".to_owned(),
        }
    }
}

/// The underlay's end of a node's wire.
pub(super) fn wire(node: NodeId) -> String {
    format!("wire{}", node.0)
}

impl Plan {
    /// The plan of a world; `tables` must be what it compiles to.
    pub fn of(world: &World, tables: &Tables, options: Options) -> Result<Self, PlanError> {
        let count = tables.nodes.iter().map(|node| 1 + node.endpoints.len()).sum::<usize>();
        if count >= MOST {
            return Err(PlanError::TooMany(count));
        }
        let maker = Maker { world, tables, options };
        let is_geneve = |node: &NodeTables| {
            node.routing == Routing::Tunnel && node.tunnel.kind == TunnelKind::Geneve
        };
        if tables.nodes.iter().any(is_geneve) {
            return Err(PlanError::Geneve);
        }
        let mut spaces = vec![maker.outside()];
        for node in &tables.nodes {
            spaces.push(maker.node(node)?);
        }
        for node in &tables.nodes {
            spaces.extend(maker.pods(node));
        }
        Ok(Self { spaces })
    }
}

/// Whether the kernel can make all of a node's devices.
fn check_devices(space: &Space) -> Result<(), PlanError> {
    let mut names = BTreeSet::from(["lo", HOST_PEER]);
    let mut indices = BTreeSet::from([0, 1, HOST_PEER_INDEX]);
    for device in &space.devices {
        let name = device.name.clone();
        let index = device.index.unwrap_or_default();
        let is_new = names.insert(&device.name) & indices.insert(index);
        if !is_new || i32::try_from(index).is_err() {
            return Err(PlanError::Device { name, index, of: space.name.clone() });
        }
    }
    Ok(())
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

fn router(is_v6: bool) -> IpAddr {
    if is_v6 { ROUTER6.into() } else { ROUTER4.into() }
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

    fn outside(&self) -> Space {
        let mut space = Space {
            role: Role::World,
            name: "world".to_owned(),
            // What is mute must not answer that a destination is unreachable either.
            forwards: !self.options.mute,
            devices: vec![Device {
                index: Some(BRIDGE_INDEX),
                mac: Some(ROUTER.mac),
                ..device(BRIDGE, DeviceKind::Bridge)
            }],
            addresses: Vec::new(),
            routes: Vec::new(),
            neighbours: Vec::new(),
        };
        for node in &self.tables.nodes {
            let own = self.of(node);
            for address in &own.addresses {
                space.routes.push(Route {
                    to: Some(alone(*address)),
                    via: None,
                    device: BRIDGE.to_owned(),
                    mtu: None,
                    source: None,
                });
                space.neighbours.push(Neighbour {
                    device: BRIDGE.to_owned(),
                    address: *address,
                    mac: self.mac(node),
                });
            }
            for prefix in &own.pod_cidrs {
                let via = own.addresses.iter().find(|a| a.is_ipv6() == prefix.addr().is_ipv6());
                space.routes.extend(via.map(|via| Route {
                    to: Some(*prefix),
                    via: Some(*via),
                    device: BRIDGE.to_owned(),
                    mtu: None,
                    source: None,
                }));
            }
        }
        space.addresses.push((BRIDGE.to_owned(), router(false)));
        space.addresses.push((BRIDGE.to_owned(), router(true)));
        if !self.options.mute {
            let outside = self.world.externals.iter().flat_map(|external| &external.addresses);
            space.addresses.extend(outside.map(|address| ("lo".to_owned(), *address)));
        }
        space
    }

    /// What a node's pods send everything to, of a family: the first address of the node among its pods' prefixes that no pod has, else
    /// one of a prefix.
    fn gateway(&self, node: &NodeTables, is_v6: bool) -> Option<IpAddr> {
        let own = self.of(node);
        let taken: BTreeSet<IpAddr> =
            endpoints(node).flat_map(|entry| entry.addresses.iter().copied()).collect();
        let prefixes = || own.pod_cidrs.iter().filter(move |cidr| cidr.addr().is_ipv6() == is_v6);
        let local = own.locals.iter().find(|local| prefixes().any(|cidr| cidr.contains(*local)));
        let free =
            || prefixes().find_map(|cidr| cidr.hosts().take(512).find(|a| !taken.contains(a)));
        local.copied().or_else(free)
    }

    fn node(&self, node: &NodeTables) -> Result<Space, PlanError> {
        let own = self.of(node);
        let mut space = Space {
            role: Role::Node(node.node),
            name: own.name.clone(),
            forwards: true,
            devices: self.devices(node),
            addresses: Vec::new(),
            routes: Vec::new(),
            neighbours: Vec::new(),
        };
        check_devices(&space)?;
        space.addresses.extend(own.addresses.iter().map(|a| (own.device.clone(), *a)));
        for is_v6 in [false, true] {
            let gateway = self.gateway(node, is_v6);
            space.addresses.extend(gateway.map(|gateway| (HOST_DEVICE.to_owned(), gateway)));
            self.routes_of_node(node, is_v6, &mut space);
        }
        for entry in endpoints(node) {
            space.neighbours.extend(entry.addresses.iter().map(|address| Neighbour {
                device: entry.interface.clone(),
                address: *address,
                mac: entry.mac,
            }));
        }
        Ok(space)
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
            let end = Device { mac: Some(entry.mac), ..peer(POD_DEVICE) };
            devices.push(Device {
                index: Some(entry.ifindex),
                mac: Some(entry.host_mac),
                ..device(&entry.interface, DeviceKind::Veth { space, peer: Box::new(end) })
            });
        }
        let net = Device { index: Some(HOST_PEER_INDEX), no_arp: true, ..peer(HOST_PEER) };
        devices.push(Device {
            index: Some(node.host_ifindex),
            mac: Some(link::host_device(node).source),
            no_arp: true,
            ..device(
                HOST_DEVICE,
                DeviceKind::Veth { space: Role::Node(node.node), peer: Box::new(net) },
            )
        });
        devices
    }

    /// To other nodes by the wire, to pods and services by `cilium_host`, to everyone else by the router.
    fn routes_of_node(&self, node: &NodeTables, is_v6: bool, space: &mut Space) {
        let own = self.of(node);
        let Some(source) = own.addresses.iter().copied().find(|a| a.is_ipv6() == is_v6) else {
            return;
        };
        let plain = |to: IpNet, device: &str| Route {
            to: Some(to),
            via: None,
            device: device.to_owned(),
            mtu: None,
            source: None,
        };
        // Pods and other nodes know the node by its own address, not by the gateway's.
        let by_host = |to| Route { source: Some(source), ..plain(to, HOST_DEVICE) };
        let others = self.tables.nodes.iter().filter(|other| other.node != node.node);
        for other in others {
            let there = self.of(other);
            let of_family = |a: &&IpAddr| a.is_ipv6() == is_v6;
            for address in there.addresses.iter().filter(of_family) {
                let route = plain(alone(*address), &own.device);
                space.routes.push(Route { source: Some(source), ..route });
                let (device, mac) = (own.device.clone(), self.mac(other));
                space.neighbours.push(Neighbour { device, address: *address, mac });
            }
            let via = there.addresses.iter().copied().find(|a| a.is_ipv6() == is_v6);
            let prefixes = there.pod_cidrs.iter().filter(|cidr| cidr.addr().is_ipv6() == is_v6);
            for prefix in prefixes {
                space.routes.push(match node.routing {
                    Routing::Tunnel => by_host(*prefix),
                    Routing::Native => Route { via, ..plain(*prefix, &own.device) },
                });
            }
        }
        let here = own.pod_cidrs.iter().filter(|cidr| cidr.addr().is_ipv6() == is_v6);
        space.routes.extend(here.map(|prefix| by_host(*prefix)));
        let mut services: Vec<IpAddr> =
            node.frontends.iter().map(|frontend| frontend.place.address).collect();
        services.retain(|a| a.is_ipv6() == is_v6 && !own.addresses.contains(a));
        services.sort_unstable();
        services.dedup();
        space.routes.extend(services.into_iter().map(|a| by_host(alone(a))));
        space.neighbours.push(Neighbour {
            device: own.device.clone(),
            address: router(is_v6),
            mac: ROUTER.mac,
        });
        space.routes.push(Route {
            to: None,
            via: Some(router(is_v6)),
            device: own.device.clone(),
            mtu: None,
            source: Some(source),
        });
    }

    fn pods(&self, node: &NodeTables) -> Vec<Space> {
        endpoints(node).map(|entry| self.pod(node, entry)).collect()
    }

    fn pod(&self, node: &NodeTables, entry: &EndpointEntry) -> Space {
        let mut space = Space {
            role: Role::Pod(node.node, entry.id),
            name: self.world.endpoint_name(entry.endpoint),
            forwards: false,
            devices: Vec::new(),
            addresses: Vec::new(),
            routes: Vec::new(),
            neighbours: Vec::new(),
        };
        if self.options.mute {
            return space;
        }
        for address in &entry.addresses {
            space.addresses.push((POD_DEVICE.to_owned(), *address));
            let Some(gateway) = self.gateway(node, address.is_ipv6()) else { continue };
            let route =
                |to, via, mtu| Route { to, via, device: POD_DEVICE.to_owned(), mtu, source: None };
            space.routes.push(route(Some(alone(gateway)), None, None));
            let mtu = (node.routing == Routing::Tunnel).then_some(ROUTE_MTU);
            space.routes.push(route(None, Some(gateway), mtu));
            space.neighbours.push(Neighbour {
                device: POD_DEVICE.to_owned(),
                address: gateway,
                mac: entry.host_mac,
            });
        }
        space
    }
}
