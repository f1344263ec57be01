//! Frames between nodes: which node is the next one for an address, and how a frame meets the programs of an underlay
//! device, leaving by it or arriving.

use std::net::IpAddr;

use engine::net::Hook;
use engine::tables::{NodeTables, Tables, Target};
use engine::topology::{NodeId, Party, Routing, World};

use super::link::{self, Pinned};
use super::{Arrival, Tunneled};
use crate::frame;

/// A world and what it compiles to.
#[derive(Clone, Copy)]
pub(super) struct Net<'a> {
    pub(super) world: &'a World,
    pub(super) tables: &'a Tables,
}

impl<'a> Net<'a> {
    /// The other node that a packet to an address gets to from `here` by the underlay, not encapsulated: one that has
    /// the address, under native routing also one that has the pod or the pod prefix.
    pub(super) fn beyond(self, here: &NodeTables, address: IpAddr) -> Option<&'a NodeTables> {
        let own = self.world.node(here.node)?;
        if own.addresses.contains(&address) || own.locals.contains(&address) {
            return None;
        }
        let there = match self.world.owner(address) {
            Some(Party::Node(id)) => id,
            _ if here.routing == Routing::Native => self.keeper(address)?,
            _ => return None,
        };
        self.tables.node(there).filter(|there| there.node != here.node)
    }

    /// The node that has a pod, a health endpoint or a pod prefix with an address.
    pub(super) fn keeper(self, address: IpAddr) -> Option<NodeId> {
        match self.world.owner(address) {
            Some(Party::Pod(id)) => self.world.pod(id).map(|pod| pod.node),
            Some(Party::Health(id)) => Some(id),
            _ => {
                let mut nodes = self.world.nodes();
                let by_prefix =
                    nodes.find(|(_, node)| node.pod_cidrs.iter().any(|c| c.contains(&address)));
                by_prefix.map(|(id, _)| id)
            }
        }
    }

    /// The node's address that a packet is encapsulated for: of the one that its destination is behind.
    pub(super) fn by_tunnel(here: &NodeTables, frame: &[u8]) -> Option<IpAddr> {
        let destination = frame::read(frame)?.flow.destination;
        let known = here.ipcache.iter().filter(|entry| entry.prefix.contains(&destination));
        match known.max_by_key(|entry| entry.prefix.prefix_len())?.target {
            Target::Tunnel { remote, .. } => Some(remote),
            _ => None,
        }
    }

    /// A packet about to leave by a node's underlay device, with the Ethernet addresses of its way there.
    pub(super) fn leaving(self, here: &NodeTables, mark: u32, mut frame: Vec<u8>) -> Arrival {
        let destination = frame::read(&frame).map(|headers| headers.flow.destination);
        let there = destination.and_then(|address| self.beyond(here, address));
        let (ethernet, pinned) = link::underlay(self.world, here, there);
        frame::readdress(&mut frame, ethernet);
        Arrival { mark, ..self.at_device(here, Hook::ToNetdev, frame, pinned) }
    }

    /// A packet that arrives at a node's underlay device.
    pub(super) fn reaching(self, there: &NodeTables, frame: Vec<u8>, pinned: Pinned) -> Arrival {
        let hook = if there.prefilter.is_empty() { Hook::FromNetdev } else { Hook::Prefilter };
        self.at_device(there, hook, frame, pinned)
    }

    /// An encapsulated packet about to leave a node, with the mark of its identity. `None` where no program there says
    /// anything of interest.
    pub(super) fn leaving_tunneled(
        self,
        here: &NodeTables,
        mark: u32,
        frame: &[u8],
        inside: &Tunneled,
    ) -> Option<Arrival> {
        here.encryption?;
        let arrival = self.at_device(here, Hook::ToNetdev, frame.to_vec(), inside.pinned);
        Some(Arrival { mark, inside: Some(inside.clone()), ..arrival })
    }

    /// An encapsulated packet that arrives at its node: past the programs of the underlay device that matter from
    /// `first` on, then at the tunnel's.
    pub(super) fn reaching_tunneled(
        self,
        there: &NodeTables,
        first: Hook,
        frame: Vec<u8>,
        inside: Tunneled,
    ) -> Arrival {
        let hook = match first {
            Hook::Prefilter if !there.prefilter.is_empty() => Hook::Prefilter,
            Hook::Prefilter | Hook::FromNetdev if there.host_firewall => Hook::FromNetdev,
            _ => return by_overlay(there, inside),
        };
        let arrival = self.at_device(there, hook, frame, inside.pinned);
        Arrival { inside: Some(inside), ..arrival }
    }

    /// An arrival at a program of the underlay device.
    pub(super) fn at_device(
        self,
        node: &NodeTables,
        hook: Hook,
        frame: Vec<u8>,
        pinned: Pinned,
    ) -> Arrival {
        let device = self.world.node(node.node).map(|node| node.device.clone());
        Arrival {
            node: node.node,
            hook,
            device: device.unwrap_or_default(),
            ifindex: node.device_ifindex,
            mark: 0,
            tunnel: None,
            frame,
            pinned,
            inside: None,
        }
    }
}

/// The inner frame's arrival at the tunnel device.
pub(super) fn by_overlay(there: &NodeTables, inside: Tunneled) -> Arrival {
    Arrival {
        node: there.node,
        hook: Hook::FromOverlay,
        device: there.tunnel.device.clone(),
        ifindex: there.tunnel_ifindex,
        mark: 0,
        tunnel: Some(inside.key),
        frame: inside.frame,
        pinned: inside.pinned,
        inside: None,
    }
}
