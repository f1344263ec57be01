//! Policy alone: one direction of an endpoint, with a peer and a traffic that somebody else has seen. Never flows, never
//! the path, and never whether such a packet gets there.

use std::net::{IpAddr, Ipv4Addr};

use crate::net::{Direction, Protocol};
use crate::policy::PolicySet;
use crate::topology::{Endpoint, NodeId, World};
use crate::trace::CtState;
use crate::verdict::LegOutcome;

use super::decide::{Decision, Matter};
use super::headers::Traffic;
use super::{Leg, Who};

/// One direction to be decided by policy alone.
#[derive(Clone, Copy, Debug)]
pub struct Posed {
    /// The node that judges.
    pub node: NodeId,
    /// Whose policy.
    pub endpoint: Endpoint,
    /// Which direction of it.
    pub direction: Direction,
    /// Who is at the other side; `None` for somebody whom the world does not have.
    pub peer: Option<Who>,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port, where the packet has one.
    pub port: Option<u16>,
    /// ICMP type and code.
    pub icmp: Option<(u8, u8)>,
}

/// What policy says, and which of its rules came near: none where nobody is the peer. No flow is known: the state is that of a new one.
pub fn pose(world: &World, policies: &PolicySet, posed: &Posed) -> Leg {
    let Posed { node, endpoint, direction, peer, protocol, port, icmp } = *posed;
    let traffic = Traffic { protocol, port, icmp };
    let nobody = Who::Forged(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let of_peer = peer.unwrap_or(nobody);
    let matter = Matter { world, policies, endpoint, direction, peer: of_peer, traffic: &traffic };
    let isolated_by = matter.isolated_by();
    let Decision { outcome, matching, trials } = match peer {
        Some(_) => matter.decide(!isolated_by.is_empty()),
        None => {
            let (outcome, matching) = (LegOutcome::DefaultDeny, Vec::new());
            Decision { outcome, matching, trials: Vec::new() }
        }
    };
    let state = CtState::New;
    Leg { node, endpoint, direction, state, outcome, matching, isolated_by, trials }
}
