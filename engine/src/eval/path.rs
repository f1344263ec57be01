//! Where packets come from and where their addresses lead, and who a sender is to the node that receives. Never a
//! policy's meaning, and never what a packet becomes on its way.

use std::cmp::Reverse;
use std::net::IpAddr;

use crate::topology::{Endpoint, Node, NodeId, Party, ServiceId, World};

use super::peers::Who;
use super::services;

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A pod with a network of its own, or a health endpoint, on its node.
    Endpoint(Endpoint, NodeId),
    /// A node, or a pod of its network.
    Node(NodeId),
    /// Outside the cluster.
    Outside,
}

impl Sender {
    /// `None` for an id of another world.
    pub(super) fn of(world: &World, party: Party) -> Option<Self> {
        match party {
            Party::Pod(id) => {
                let pod = world.pod(id)?;
                let own = Self::Endpoint(Endpoint::Pod(id), pod.node);
                Some(if pod.host_network { Self::Node(pod.node) } else { own })
            }
            Party::Node(id) => world.node(id).map(|_| Self::Node(id)),
            Party::Health(id) => world.node(id).map(|_| Self::Endpoint(Endpoint::Health(id), id)),
            Party::External(_) | Party::Service(_) => Some(Self::Outside),
            Party::Address(address) => match world.owner(address) {
                Some(own @ (Party::Pod(_) | Party::Node(_) | Party::Health(_))) => {
                    Self::of(world, own)
                }
                _ => Some(Self::Outside),
            },
        }
    }
}

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    /// To an endpoint on its node.
    Endpoint(Endpoint, NodeId),
    /// To a node itself.
    Node(NodeId),
    /// To a service, by an address of its own.
    Service(ServiceId),
    /// To nobody, among the pods of a node.
    Nobody(NodeId),
    /// Out of the cluster.
    Outside,
}

/// Where an address leads from a node. Two nodes may have the same local address: the own one counts.
pub(super) fn lead(world: &World, node: Option<NodeId>, address: IpAddr) -> Lead {
    let mut pods = world.pods();
    let pod = pods.find(|(_, pod)| !pod.host_network && pod.addresses.contains(&address));
    if let Some((id, pod)) = pod {
        return Lead::Endpoint(Endpoint::Pod(id), pod.node);
    }
    let has = |id: &NodeId| {
        let of = |n: &Node| n.addresses.contains(&address) || n.locals.contains(&address);
        world.node(*id).is_some_and(of)
    };
    let nodes = node.into_iter().chain(world.nodes().map(|(id, _)| id));
    let keeper = nodes.into_iter().find(has).map(Lead::Node);
    // Further addresses of a node are the service's that has them.
    let is_own = world.nodes.iter().any(|n| n.addresses.contains(&address));
    if let Some(keeper) = keeper.filter(|_| is_own) {
        return keeper;
    }
    if let Some((id, _)) = world.nodes().find(|(_, n)| n.health.contains(&address)) {
        return Lead::Endpoint(Endpoint::Health(id), id);
    }
    if let Some((id, _)) = services::owner(world, address) {
        return Lead::Service(id);
    }
    if let Some(keeper) = keeper {
        return keeper;
    }
    let covers = |n: &Node| {
        let prefixes = n.pod_cidrs.iter().filter(|p| p.contains(&address));
        prefixes.map(ipnet::IpNet::prefix_len).max()
    };
    let around = world.nodes().filter_map(|(id, n)| Some((covers(n)?, Reverse(id))));
    around.max().map_or(Lead::Outside, |(_, Reverse(id))| Lead::Nobody(id))
}

/// Whether routers send packets for an address on (RFC 1122 3.2.1.3, RFC 4291 2.5): not those for the sender's own host, for
/// everybody around it, or for a group. IPv6 keeps what is for neighbours among them as well; IPv4's routers do not.
pub(super) fn is_sent_on(address: IpAddr) -> bool {
    let is_confined = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(is_confined || address.is_loopback() || address.is_multicast() || address.is_unspecified())
}

/// An endpoint's own addresses.
pub(super) fn addresses(world: &World, endpoint: Endpoint) -> &[IpAddr] {
    let own = match endpoint {
        Endpoint::Pod(id) => world.pod(id).map(|pod| &pod.addresses),
        Endpoint::Host(id) => world.node(id).map(|node| &node.addresses),
        Endpoint::Health(id) => world.node(id).map(|node| &node.health),
    };
    own.map_or(&[], Vec::as_slice)
}

/// Who an endpoint is to whom it speaks on its own node, and beyond.
pub(super) fn who(endpoint: Endpoint) -> Who {
    match endpoint {
        Endpoint::Pod(id) => Who::Pod(id),
        Endpoint::Host(_) => Who::RemoteNode,
        Endpoint::Health(id) => Who::Health(id),
    }
}

/// Who the sender is to the receiver's node. What a packet of a node or of the world carries (host,
/// remote-node, world) says little, so that the source address tells; but an address of the receiver's own
/// node proves nothing, since a packet from elsewhere may have been given it.
pub(super) fn arriving(world: &World, node: NodeId, carried: Who, source: IpAddr) -> Who {
    match (Who::has(world, node, source), carried) {
        (Who::Host, Who::Outside(address)) => Who::Forged(address),
        (Who::Host, carried) => carried,
        (told, _) => told,
    }
}
