//! What a lab consists of: namespaces with devices, addresses, routes and neighbours, from a world and its tables. Pure; names,
//! indices and Ethernet addresses of whatever programs look at are those of the tables, so that both agree without being told.

mod check;
mod draw;

use std::net::IpAddr;

use engine::net::Mac;
use engine::tables::{EndpointId, Tables};
use engine::topology::{Endpoint, NodeId, Party, World};
use ipnet::IpNet;
use thiserror::Error;

/// A pod's device.
pub(super) const POD_DEVICE: &str = "eth0";
/// The other end of [`HOST_DEVICE`].
pub(super) const HOST_PEER: &str = "cilium_net";
/// The index of the bridge that joins the nodes' wires: the first after the loopback device.
pub(super) const BRIDGE_INDEX: u32 = 2;
/// Namespaces that a lab has at most: each is memory of the kernel.
const MOST: usize = 512;

/// What a lab is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Pods and what is outside have no addresses, and what nodes would say of their own accord is lost, so that no kernel answers what
    /// is sent to them.
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
    /// A name for files; no two spaces have the same.
    pub place: String,
    /// Whether it sends on what is not for it.
    pub forwards: bool,
    /// Devices that are made in it, in order; other ends of veths in it are made with those.
    pub devices: Vec<Device>,
    /// Addresses, by device; always alone in their prefix.
    pub addresses: Vec<(String, IpAddr)>,
    /// Routes, in order.
    pub routes: Vec<Route>,
    /// What is said of what the namespace itself sends, in order, before its routes are asked.
    pub rules: Vec<Rule>,
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
    /// Where to; a prefix of no bits: everywhere else.
    pub to: IpNet,
    /// The router; `None`: the destination is a neighbour.
    pub via: Option<IpAddr>,
    /// The device; `None`: what goes there is lost, and nobody is told.
    pub device: Option<String>,
    /// Bytes that packets may have; `None`: as many as the device takes.
    pub mtu: Option<u32>,
    /// What the node's own packets are sent from.
    pub source: Option<IpAddr>,
    /// The table that it is in, if another than the main one.
    pub table: Option<u8>,
}

/// What becomes of some of what a namespace itself sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether it is about IPv6.
    pub is_v6: bool,
    /// What it is about.
    pub what: Sent,
    /// The table of routes that is asked; `None`: it is lost, and nobody is told.
    pub table: Option<u8>,
}

/// Some of what a namespace itself sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it.
    Everything,
    /// UDP to a port.
    Datagrams(u16),
    /// What is sent by a device already.
    By(String),
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
    /// An address that no device can have, or that the lab itself needs.
    #[error("{of} cannot have the address {address} in a lab")]
    Address {
        /// The address.
        address: IpAddr,
        /// Whose.
        of: String,
    },
    /// Two namespaces of one name.
    #[error("`{one}` and `{other}` would both be `{place}` in a lab")]
    Place {
        /// The name.
        place: String,
        /// One of the two.
        one: String,
        /// The other.
        other: String,
    },
    /// More namespaces than a lab has.
    #[error("the world has {0} nodes and pods; {MOST} namespaces are made at most")]
    TooMany(usize),
}

impl PlanError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        let remedy = match self {
            Self::Geneve => {
                "use `tunnel vxlan` or native routing; `make test-qemu` runs real Geneve devices"
            }
            Self::Device { .. } => {
                "give it another `interface` or `ifindex`, or the tunnel or the node another `device`; `lo` of index 1 is the loopback device"
            }
            Self::Address { .. } => {
                "give it an ordinary address; 169.254.66.1, 169.254.128.0/17 and fe80::/64 are the lab's own"
            }
            Self::Place { .. } => "give one another name",
            Self::TooMany(_) => "take a part of the world",
        };
        remedy.to_owned()
    }
}

/// The underlay's end of a node's wire.
pub(super) fn wire(node: NodeId) -> String {
    format!("wire{}", node.0)
}

impl Plan {
    /// The plan of a world; `tables` must be what it compiles to.
    pub fn of(world: &World, tables: &Tables, options: Options) -> Result<Self, PlanError> {
        check::world(tables)?;
        let plan = Self { spaces: draw::spaces(world, tables, options) };
        check::plan(&plan)?;
        Ok(plan)
    }

    /// The namespace of a role.
    pub fn space(&self, role: Role) -> Option<&Space> {
        self.spaces.iter().find(|space| space.role == role)
    }

    /// Where a party of the world is: a pod in the node's network at its node, what is no node or pod outside. Services and
    /// addresses of pods are nobody's place.
    pub fn whose(world: &World, tables: &Tables, party: Party) -> Option<Role> {
        let of = |endpoint, node: NodeId| {
            let entry = tables.node(node)?.endpoint_of(endpoint)?;
            Some(Role::Pod(node, entry.id))
        };
        match party {
            Party::Pod(id) => {
                let pod = world.pod(id)?;
                if pod.host_network {
                    return Some(Role::Node(pod.node));
                }
                of(Endpoint::Pod(id), pod.node)
            }
            Party::Node(node) => Some(Role::Node(node)),
            Party::Health(node) => of(Endpoint::Health(node), node),
            Party::External(_) => Some(Role::World),
            Party::Address(address) => match world.owner(address) {
                Some(Party::Address(_)) => None,
                Some(owner) => Self::whose(world, tables, owner),
                None => Some(Role::World),
            },
            Party::Service(_) => None,
        }
    }
}
