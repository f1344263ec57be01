//! Where a packet enters the datapath: which program of which node sees it first, on which device, with
//! which mark, tunnel key and Ethernet addresses.
//!
//! | sender | receiver | enters |
//! |---|---|---|
//! | pod | anyone | `from-container` at its own veth |
//! | node, host-network pod | pod of the same node | `to-container` at the pod's veth, marked as the host's |
//! | node, host-network pod | pod of another node | `from-overlay` there: the sender's stack tunnels it as remote-node |
//! | node, host-network pod | another node | `from-netdev` there |
//! | outside | pod, node | `from-netdev` of the node that has the address |
//!
//! An address of a node's pod prefix that no pod has counts as that node's. Programs of the host itself do
//! not exist yet, so the sending node's side of the third row is no hop.

use std::net::IpAddr;

use datapath_abi::mark;
use engine::backend::{BackendError, TunnelKey};
use engine::identity::Identity;
use engine::net::Hook;
use engine::question::Question;
use engine::tables::{EndpointEntry, NodeTables, Tables};
use engine::topology::{Node, NodeId, Party, Pod, PodId, World};
use engine::trace::Ethernet;

use super::Arrival;
use super::link::{self, Pinned};
use crate::frame;

/// Who sends, as far as it matters where the packet enters.
enum Sender {
    Pod(PodId),
    Node(NodeId),
    Outside,
}

/// Whom the destination address belongs to.
enum Receiver {
    Pod(NodeId, PodId),
    Node(NodeId),
    /// An address of the node's pod prefixes that no pod has.
    Prefix(NodeId),
    Outside,
}

/// The first arrival of a question's packet.
pub(super) fn arrival(
    world: &World,
    tables: &Tables,
    question: &Question,
) -> Result<Arrival, BackendError> {
    let entrance = Entrance { world, tables, question };
    match sender(world, question.source)? {
        Sender::Pod(pod) => entrance.sent_by_pod(pod),
        Sender::Node(node) => entrance.sent_by_node(node),
        Sender::Outside => entrance.sent_from_outside(),
    }
}

/// An arrival by the tunnel of an inner frame.
pub(super) fn by_overlay(
    there: &NodeTables,
    key: TunnelKey,
    frame: Vec<u8>,
    pinned: Pinned,
) -> Arrival {
    Arrival {
        node: there.node,
        hook: Hook::FromOverlay,
        device: there.tunnel.device.clone(),
        ifindex: there.tunnel_ifindex,
        mark: 0,
        tunnel: Some(key),
        frame,
        pinned,
    }
}

/// A node's tables.
pub(super) fn node(tables: &Tables, id: NodeId) -> Result<&NodeTables, BackendError> {
    tables
        .node(id)
        .ok_or_else(|| BackendError::BadInjection(format!("no tables for node {}", id.0)))
}

fn sender(world: &World, party: Party) -> Result<Sender, BackendError> {
    Ok(match party {
        Party::Pod(id) => {
            let pod = world.pod(id).ok_or_else(|| {
                BackendError::BadInjection(format!("pod {} is not of this world", id.0))
            })?;
            if pod.host_network { Sender::Node(pod.node) } else { Sender::Pod(id) }
        }
        Party::Node(id) => Sender::Node(id),
        Party::External(_) => Sender::Outside,
        Party::Address(address) => match world.owner(address) {
            Some(Party::Pod(id)) => Sender::Pod(id),
            Some(Party::Node(id)) => Sender::Node(id),
            Some(Party::External(_) | Party::Address(_)) | None => Sender::Outside,
        },
    })
}

fn receiver(world: &World, address: IpAddr) -> Receiver {
    match world.owner(address) {
        Some(Party::Pod(id)) => match world.pod(id) {
            Some(pod) => Receiver::Pod(pod.node, id),
            None => Receiver::Outside,
        },
        Some(Party::Node(id)) => Receiver::Node(id),
        Some(Party::External(_) | Party::Address(_)) | None => {
            let prefix = world
                .nodes()
                .find(|(_, node)| node.pod_cidrs.iter().any(|cidr| cidr.contains(&address)));
            prefix.map_or(Receiver::Outside, |(id, _)| Receiver::Prefix(id))
        }
    }
}

struct Entrance<'a> {
    world: &'a World,
    tables: &'a Tables,
    question: &'a Question,
}

impl Entrance<'_> {
    fn sent_by_pod(&self, pod: PodId) -> Result<Arrival, BackendError> {
        let on = self.world.pod(pod).map_or(NodeId(0), |pod| pod.node);
        let entry = self.endpoint(on, pod)?;
        let ethernet = Ethernet { source: entry.mac, destination: entry.host_mac };
        Ok(Arrival {
            node: on,
            hook: Hook::FromContainer,
            device: entry.interface.clone(),
            ifindex: entry.ifindex,
            mark: 0,
            tunnel: None,
            frame: self.frame(ethernet)?,
            pinned: Pinned::sent(self.world, entry),
        })
    }

    fn sent_by_node(&self, from: NodeId) -> Result<Arrival, BackendError> {
        let destination = self.question.packet.ip.destination;
        // Several nodes may have one address (of a service); to each it is its own.
        let is_own =
            |n: &Node| n.addresses.contains(&destination) || n.locals.contains(&destination);
        if self.world.node(from).is_some_and(is_own) {
            return Err(self.unseen());
        }
        match receiver(self.world, destination) {
            Receiver::Pod(on, pod) if on == from => self.to_own_pod(on, pod),
            Receiver::Pod(on, _) | Receiver::Prefix(on) if on != from => self.over_tunnel(from, on),
            Receiver::Node(to) if to != from => {
                let source = link::node_mac(self.world, node(self.tables, from)?);
                self.over_wire(to, source)
            }
            _ => Err(self.unseen()),
        }
    }

    fn sent_from_outside(&self) -> Result<Arrival, BackendError> {
        match receiver(self.world, self.question.packet.ip.destination) {
            Receiver::Pod(on, _) | Receiver::Prefix(on) | Receiver::Node(on) => {
                self.over_wire(on, link::ROUTER)
            }
            Receiver::Outside => Err(self.unseen()),
        }
    }

    /// The host's stack has routed the packet to the pod's veth.
    fn to_own_pod(&self, on: NodeId, pod: PodId) -> Result<Arrival, BackendError> {
        let entry = self.endpoint(on, pod)?;
        let ethernet = Ethernet { source: entry.host_mac, destination: entry.mac };
        Ok(Arrival {
            node: on,
            hook: Hook::ToContainer,
            device: entry.interface.clone(),
            ifindex: entry.ifindex,
            mark: mark::HOST,
            tunnel: None,
            frame: self.frame(ethernet)?,
            pinned: Pinned::delivered(self.world, entry),
        })
    }

    fn over_tunnel(&self, from: NodeId, on: NodeId) -> Result<Arrival, BackendError> {
        let (here, there) = (node(self.tables, from)?, node(self.tables, on)?);
        let key = TunnelKey { vni: Identity::REMOTE_NODE.0, source: here.tunnel_address };
        let ethernet = link::between_stacks(here, there);
        Ok(by_overlay(there, key, self.frame(ethernet)?, Pinned::none()))
    }

    fn over_wire(&self, on: NodeId, source: link::Address) -> Result<Arrival, BackendError> {
        let there = node(self.tables, on)?;
        let destination = link::node_mac(self.world, there);
        let ethernet = Ethernet { source: source.mac, destination: destination.mac };
        let device = self.world.node(on).map(|node| node.device.clone());
        Ok(Arrival {
            node: on,
            hook: Hook::FromNetdev,
            device: device.unwrap_or_default(),
            ifindex: there.device_ifindex,
            mark: 0,
            tunnel: None,
            frame: self.frame(ethernet)?,
            pinned: Pinned { source: source.is_pinned, destination: destination.is_pinned },
        })
    }

    fn endpoint(&self, on: NodeId, pod: PodId) -> Result<&EndpointEntry, BackendError> {
        node(self.tables, on)?.endpoint_of(pod).ok_or_else(|| {
            let name = self.world.pod(pod).map_or_else(String::new, Pod::qualified);
            BackendError::BadInjection(format!("pod {name} has no endpoint in the tables"))
        })
    }

    fn frame(&self, ethernet: Ethernet) -> Result<Vec<u8>, BackendError> {
        frame::build(&self.question.packet, ethernet)
            .map_err(|error| BackendError::BadInjection(error.to_string()))
    }

    fn unseen(&self) -> BackendError {
        let ip = &self.question.packet.ip;
        BackendError::BadInjection(format!(
            "from {} to {} it meets no pod and no other node, so no program sees it",
            ip.source, ip.destination
        ))
    }
}
