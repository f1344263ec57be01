//! Which nodes judge a packet on its way, which directions each asks, and who the other side is to it.
//! Never a policy's meaning.

use std::net::IpAddr;

use crate::net::{Direction, Packet};
use crate::topology::{Endpoint, NodeId, Party, PodId, World};

use super::peers::Who;

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A pod with a network of its own.
    Pod(PodId),
    /// A node, or a pod of its network.
    Node(NodeId),
    /// Outside the cluster.
    Outside,
}

impl Sender {
    /// `None` for an id of another world.
    pub(super) fn of(world: &World, party: Party) -> Option<Self> {
        Some(match party {
            Party::Pod(id) => {
                let pod = world.pod(id)?;
                if pod.host_network { Self::Node(pod.node) } else { Self::Pod(id) }
            }
            Party::Node(id) => {
                world.node(id)?;
                Self::Node(id)
            }
            Party::Health(id) => Self::Node(id),
            Party::External(_) | Party::Service(_) => Self::Outside,
            Party::Address(address) => match world.owner(address) {
                Some(Party::Pod(id)) => Self::Pod(id),
                Some(Party::Node(id) | Party::Health(id)) => Self::Node(id),
                Some(Party::External(_) | Party::Service(_) | Party::Address(_)) | None => {
                    Self::Outside
                }
            },
        })
    }
}

/// A direction to be asked.
pub(super) struct Ask {
    pub(super) endpoint: Endpoint,
    pub(super) direction: Direction,
    pub(super) peer: Who,
}

/// A node that judges the packet, in one go.
pub(super) struct Stop {
    pub(super) node: NodeId,
    pub(super) asks: Vec<Ask>,
    /// Whether the node delivers to a pod and takes one from the TTL.
    pub(super) counts_down: bool,
}

/// The nodes that judge the packet, in order. It goes where its destination address says, whomever the
/// question names.
pub(super) fn stops(world: &World, sender: Sender, packet: &Packet) -> Vec<Stop> {
    let (from, to) = (packet.ip.source, packet.ip.destination);
    let receiver = world.pods().find(|(_, p)| !p.host_network && p.addresses.contains(&to));
    let receiver = receiver.map(|(id, pod)| (id, pod.node));
    let arrival = |peer| {
        let (endpoint, node) = receiver?;
        let asks =
            vec![Ask { endpoint: Endpoint::Pod(endpoint), direction: Direction::Ingress, peer }];
        Some(Stop { node, asks, counts_down: true })
    };
    match sender {
        Sender::Pod(id) => {
            let Some(node) = world.pod(id).map(|pod| pod.node) else { return Vec::new() };
            let peer = Who::has(world, node, to);
            let asks =
                vec![Ask { endpoint: Endpoint::Pod(id), direction: Direction::Egress, peer }];
            let mut first = Stop { node, asks, counts_down: false };
            let mut second = arrival(Who::Pod(id));
            if let Some(same) = second.take_if(|stop| stop.node == node) {
                first.asks.extend(same.asks);
                first.counts_down = true;
            }
            [first].into_iter().chain(second).collect()
        }
        Sender::Node(id) => {
            let own = receiver.is_some_and(|(_, node)| node == id);
            let carried = if own { Who::Host } else { Who::RemoteNode };
            let peer = receiver.map_or(carried, |(_, at)| arriving(world, at, carried, from));
            // The own stack's packet is sent to the pod, not forwarded to it.
            let stop = arrival(peer).map(|stop| Stop { counts_down: !own, ..stop });
            stop.into_iter().collect()
        }
        Sender::Outside => {
            let carried = Who::Outside(from);
            let peer = receiver.map_or(carried, |(_, at)| arriving(world, at, carried, from));
            arrival(peer).into_iter().collect()
        }
    }
}

/// Who the sender is to the receiver's node. What a packet of a node or of the world carries (host,
/// remote-node, world) says little, so that the source address tells; but an address of the receiver's own
/// node proves nothing, since a packet from elsewhere may have been given it.
fn arriving(world: &World, node: NodeId, carried: Who, source: IpAddr) -> Who {
    match (Who::has(world, node, source), carried) {
        (Who::Host, Who::Outside(address)) => Who::Forged(address),
        (Who::Host, carried) => carried,
        (told, _) => told,
    }
}
