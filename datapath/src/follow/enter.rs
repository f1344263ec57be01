//! Where a packet enters the datapath: which program of which node sees it first, on which device, with
//! which mark and Ethernet addresses.
//!
//! | sender | receiver | enters |
//! |---|---|---|
//! | pod, health endpoint | anyone | `from-container` at its own veth |
//! | node, host-network pod | pod, health endpoint, service | `from-host` at its node's `cilium_host`, marked as the host's |
//! | node, host-network pod | anyone else | `to-netdev` at its node's underlay device, marked as the host's |
//! | outside | pod, health endpoint, node | `from-netdev` of the node that has the address |
//! | outside | service | `from-netdev` of the node that the question names, else of the chosen backend's where `external-traffic` is local, else of the first with a pod behind it, else of the first |
//!
//! A node that has a prefilter sees what comes from outside there first. An address of a node's pod prefix that no
//! pod has counts as that node's. What a node sends to itself no program sees, unless it is a frontend (a node port).

use std::net::IpAddr;

use datapath_abi::mark;
use engine::backend::BackendError;
use engine::net::Hook;
use engine::question::Question;
use engine::tables::{NodeTables, Tables};
use engine::topology::{Endpoint, Node, NodeId, Party, Readiness, ServiceId, TrafficPolicy, World};
use engine::trace::Ethernet;

use super::link::{self, Pinned};
use super::wire::Net;
use super::{Arrival, HOST_DEVICE, choose};
use crate::frame;

/// Who sends, as far as it matters where the packet enters.
enum Sender {
    Endpoint(Endpoint),
    Node(NodeId),
    Outside,
}

/// Whom the destination address belongs to.
enum Receiver {
    /// A pod, a health endpoint, or an address of the node's pod prefixes that nobody has.
    Pods(NodeId),
    Node(NodeId),
    Service(ServiceId),
    Outside,
}

/// The first arrival of a question's packet.
pub(super) fn arrival(net: Net<'_>, question: &Question) -> Result<Arrival, BackendError> {
    let entrance = Entrance { net, question };
    match sender(net.world, question.source)? {
        Sender::Endpoint(endpoint) => entrance.sent_by_endpoint(endpoint),
        Sender::Node(node) => entrance.sent_by_node(node),
        Sender::Outside => entrance.sent_from_outside(),
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
            if pod.host_network {
                Sender::Node(pod.node)
            } else {
                Sender::Endpoint(Endpoint::Pod(id))
            }
        }
        Party::Node(id) => Sender::Node(id),
        Party::Health(id) => Sender::Endpoint(Endpoint::Health(id)),
        Party::External(_) => Sender::Outside,
        Party::Service(_) => {
            return Err(BackendError::BadInjection(
                "a service sends nothing itself: ask for one of its pods".to_owned(),
            ));
        }
        Party::Address(address) => match world.owner(address) {
            Some(Party::Pod(id)) => Sender::Endpoint(Endpoint::Pod(id)),
            Some(Party::Health(id)) => Sender::Endpoint(Endpoint::Health(id)),
            Some(Party::Node(id)) => Sender::Node(id),
            Some(Party::External(_) | Party::Service(_) | Party::Address(_)) | None => {
                Sender::Outside
            }
        },
    })
}

fn receiver(net: Net<'_>, address: IpAddr) -> Receiver {
    match net.world.owner(address) {
        Some(Party::Node(id)) => Receiver::Node(id),
        Some(Party::Service(id)) => Receiver::Service(id),
        _ => net.keeper(address).map_or(Receiver::Outside, Receiver::Pods),
    }
}

struct Entrance<'a> {
    net: Net<'a>,
    question: &'a Question,
}

impl Entrance<'_> {
    fn destination(&self) -> IpAddr {
        self.question.packet.ip.destination
    }

    fn sent_by_endpoint(&self, endpoint: Endpoint) -> Result<Arrival, BackendError> {
        let Net { world, tables } = self.net;
        let on = world.node_of(endpoint).unwrap_or(NodeId(0));
        let entry = node(tables, on)?.endpoint_of(endpoint).ok_or_else(|| {
            let name = world.endpoint_name(endpoint);
            BackendError::BadInjection(format!("{name} has no endpoint in the tables"))
        })?;
        let ethernet = Ethernet { source: entry.mac, destination: entry.host_mac };
        Ok(Arrival {
            node: on,
            hook: Hook::FromContainer,
            device: entry.interface.clone(),
            ifindex: entry.ifindex,
            mark: 0,
            tunnel: None,
            frame: self.frame(ethernet)?,
            pinned: Pinned::sent(world, entry),
            inside: None,
        })
    }

    fn sent_by_node(&self, from: NodeId) -> Result<Arrival, BackendError> {
        let Net { world, tables } = self.net;
        let here = node(tables, from)?;
        let destination = self.destination();
        let ethernet = link::host_device(here);
        let frame = self.frame(ethernet)?;
        // Several nodes may have one address (of a service); to each it is its own.
        let is_own =
            |n: &Node| n.addresses.contains(&destination) || n.locals.contains(&destination);
        let is_own = world.node(from).is_some_and(is_own);
        if is_own && choose::frontend(here, &frame).is_none() {
            return Err(BackendError::BadInjection(format!(
                "from {} to {destination} it stays inside {}, so no program sees it",
                self.question.packet.ip.source,
                world.node(from).map_or("its node", |node| node.name.as_str())
            )));
        }
        let by_host =
            matches!(receiver(self.net, destination), Receiver::Pods(_) | Receiver::Service(_));
        if !is_own && !by_host {
            return Ok(self.net.leaving(here, mark::HOST, frame));
        }
        Ok(Arrival {
            node: from,
            hook: Hook::FromHost,
            device: HOST_DEVICE.to_owned(),
            ifindex: here.host_ifindex,
            mark: mark::HOST,
            tunnel: None,
            frame,
            pinned: Pinned::none(),
            inside: None,
        })
    }

    fn sent_from_outside(&self) -> Result<Arrival, BackendError> {
        let on = match receiver(self.net, self.destination()) {
            Receiver::Pods(on) | Receiver::Node(on) => on,
            Receiver::Service(service) => self.landing(service),
            Receiver::Outside => return Err(self.unseen()),
        };
        let there = node(self.net.tables, on)?;
        let destination = link::node_mac(self.net.world, there);
        let ethernet = Ethernet { source: link::ROUTER.mac, destination: destination.mac };
        let pinned = Pinned { source: false, destination: destination.is_pinned };
        Ok(self.net.reaching(there, self.frame(ethernet)?, pinned))
    }

    /// The node that a packet from outside to a service's address reaches: the one that the question names, else that of the chosen
    /// backend where only its own node takes it, else the first with a ready pod behind the service, else the first.
    fn landing(&self, service: ServiceId) -> NodeId {
        let world = self.net.world;
        if let Party::Node(named) = self.question.destination {
            return named;
        }
        let Some(service) = world.service(service) else { return NodeId(0) };
        let chosen = self.question.choose.and_then(|pod| world.pod(pod));
        if let Some(pod) = chosen.filter(|_| service.external_traffic == TrafficPolicy::Local) {
            // No other node takes it.
            return pod.node;
        }
        let behind = world.pods.iter().filter(|pod| {
            pod.namespace == service.namespace
                && pod.readiness == Readiness::Ready
                && service.selector.matches(&pod.labels)
        });
        behind.map(|pod| pod.node).min().unwrap_or(NodeId(0))
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
