//! Ethernet addresses of frames on their way: a veth's come from the tables; those of the underlay and of a
//! node's own stack from the world where it gives them, else they are made up the same way every time and
//! named as undetermined.

use std::net::IpAddr;

use engine::net::Mac;
use engine::tables::{EndpointEntry, NodeTables};
use engine::topology::World;
use engine::trace::Ethernet;

/// An Ethernet address, and whether the world gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) mac: Mac,
    pub(crate) is_pinned: bool,
}

/// Whatever hands packets from outside to a node.
pub(crate) const ROUTER: Address = Address { mac: Mac([0x02, 0, 0, 0, 0, 0x01]), is_pinned: false };

/// Which Ethernet addresses of a frame the world gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pinned {
    pub(super) source: bool,
    pub(super) destination: bool,
}

impl Pinned {
    pub(super) fn none() -> Self {
        Self { source: false, destination: false }
    }

    /// A frame that was given as bytes.
    pub(super) fn all() -> Self {
        Self { source: true, destination: true }
    }

    /// A frame that a pod sends: from the pod's side to the host's.
    pub(super) fn sent(world: &World, entry: &EndpointEntry) -> Self {
        let Self { source, destination } = Self::delivered(world, entry);
        Self { source: destination, destination: source }
    }

    /// A frame that a pod gets: from the host's side to the pod's.
    pub(super) fn delivered(world: &World, entry: &EndpointEntry) -> Self {
        let pod = entry.endpoint.pod().and_then(|id| world.pod(id));
        Self {
            source: pod.is_some_and(|pod| pod.host_mac.is_some()),
            destination: pod.is_some_and(|pod| pod.mac.is_some()),
        }
    }

    /// Names of the addresses that the world does not give.
    pub(super) fn open(self) -> impl Iterator<Item = &'static str> {
        let source = (!self.source).then_some("Ethernet source");
        let destination = (!self.destination).then_some("Ethernet destination");
        [source, destination].into_iter().flatten()
    }

    /// The same of an outer frame.
    pub(super) fn open_outer(self) -> impl Iterator<Item = &'static str> {
        let source = (!self.source).then_some("outer Ethernet source");
        let destination = (!self.destination).then_some("outer Ethernet destination");
        [source, destination].into_iter().flatten()
    }
}

/// The Ethernet address of a node's underlay device.
pub(crate) fn node_mac(world: &World, node: &NodeTables) -> Address {
    let given = world.node(node.node).and_then(|node| node.mac);
    Address {
        mac: given.unwrap_or_else(|| made_up(node.tunnel_address)),
        is_pinned: given.is_some(),
    }
}

/// Ethernet addresses from a node to its neighbour on the underlay: another node, or whatever routes to the outside.
/// Nodes count as neighbours: a router between them would put its own address there.
pub(super) fn underlay(
    world: &World,
    from: &NodeTables,
    to: Option<&NodeTables>,
) -> (Ethernet, Pinned) {
    let source = node_mac(world, from);
    let destination = to.map_or(ROUTER, |to| node_mac(world, to));
    (
        Ethernet { source: source.mac, destination: destination.mac },
        Pinned { source: source.is_pinned, destination: destination.is_pinned },
    )
}

/// Ethernet addresses of what a node's own stack sends by `cilium_host`, which resolves no addresses: the kernel
/// writes the device's own on both sides. No world gives it.
pub(crate) fn host_device(node: &NodeTables) -> Ethernet {
    let own = made_up(node.tunnel_address);
    Ethernet { source: own, destination: own }
}

/// A locally administered address from a node's own: `0A:58` and the last four bytes of the IP address.
fn made_up(address: IpAddr) -> Mac {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
    };
    Mac([0x0A, 0x58, a, b, c, d])
}
