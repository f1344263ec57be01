//! Where a captured packet enters the datapath: where its sender sends it, by the source address; where that is nobody's, and it
//! was seen in a tunnel, at the tunnel's other end with its VNI for the sender's identity.

use datapath::follow::{Device, Raw, ethernet};
use datapath::frame;
use engine::backend::TunnelKey;
use engine::net::{Hook, Packet};
use engine::tables::Tables;
use engine::topology::{Endpoint, Party, Routing, World};
use std::net::IpAddr;

use super::peel::{Seen, Tunnel};

/// Identities below this are the same in every cluster.
const FIRST_OWN: u32 = 256;
/// The identity that a node's own packets have in the tunnel.
const REMOTE_NODE: u32 = 6;

/// How a packet's VNI stands to its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vni {
    /// There is none, or it is the sender's identity.
    Fits,
    /// The sender is known, and has another identity in this world.
    Differs,
    /// Only the VNI tells who sent it.
    Tells,
}

/// Whoever has an address.
pub(super) fn party(world: &World, address: IpAddr) -> Party {
    world.owner(address).unwrap_or(Party::Address(address))
}

/// Whether a party is one of the world's, or its address could be a pod's.
pub(super) fn is_known(world: &World, party: Party) -> bool {
    let Party::Address(address) = party else { return true };
    world.nodes().any(|(_, node)| node.pod_cidrs.iter().any(|c| c.contains(&address)))
}

pub(super) fn vni(tables: &Tables, sender: Party, tunnel: Option<Tunnel>) -> Vni {
    let Some(Tunnel { vni, .. }) = tunnel else { return Vni::Fits };
    let endpoint = match sender {
        Party::Pod(id) => Endpoint::Pod(id),
        Party::Health(id) => Endpoint::Health(id),
        Party::Node(_) if vni == REMOTE_NODE => return Vni::Fits,
        _ => return Vni::Tells,
    };
    let entry = tables.nodes.iter().find_map(|node| node.endpoint_of(endpoint));
    match entry {
        Some(entry) if entry.identity.0 == vni => Vni::Fits,
        _ if vni < FIRST_OWN => Vni::Tells,
        _ => Vni::Differs,
    }
}

/// The packet at the other end of its tunnel; `None` where that is no node, or has no tunnel.
pub(super) fn at_tunnel(
    world: &World,
    tables: &Tables,
    seen: &Seen,
    packet: &Packet,
) -> Option<Raw> {
    let Tunnel { vni, source, destination } = seen.tunnel?;
    let there = tables
        .nodes
        .iter()
        .find(|node| node.routing == Routing::Tunnel && node.tunnel_address == destination)?;
    let mut raw = Raw {
        node: there.node,
        hook: Hook::FromOverlay,
        device: Device::Own,
        mark: 0,
        tunnel: Some(TunnelKey { vni, source }),
        frame: Vec::new(),
    };
    let addresses = ethernet(world, tables, &raw).ok()?;
    raw.frame = frame::build(packet, addresses).ok()?;
    Some(raw)
}
