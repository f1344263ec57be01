//! Which directions are asked of a packet, of whom, and what it means for its way. What policy says is `decide`'s, who
//! looks at the packet is `walk`'s.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::net::{Direction, Protocol};
use crate::reason::DropReason;
use crate::topology::{Endpoint, NodeId};
use crate::trace::CtState;
use crate::verdict::LegOutcome;

use super::Leg;
use super::decide::{Decision, Matter};
use super::flows::Shift;
use super::headers::{End, Tracking, Traffic, Tuple};
use super::peers::Who;
use super::walk::{Halt, Visit, Walk, Way};

/// The ports that a kernel's tunnel devices send from: the first, and how many.
const FIRST_LOCAL_PORT: u16 = 32768;
const LOCAL_PORTS: u64 = 28232;

impl Walk<'_> {
    pub(super) fn ask(
        &mut self,
        visit: &Visit,
        endpoint: Endpoint,
        direction: Direction,
        peer: Who,
    ) -> Way {
        if visit.hairpin {
            return Ok(());
        }
        let traffic = self.headers.traffic;
        let leg = self.leg(visit.node, endpoint, direction, peer, visit.state, &traffic);
        self.judged(leg)
    }

    /// The node itself is asked only with the host firewall.
    pub(super) fn ask_host(&mut self, visit: &Visit, direction: Direction, peer: Who) -> Way {
        if !self.world.cluster.host_firewall {
            return Ok(());
        }
        self.check_pieces()?;
        self.ask(visit, Endpoint::Host(visit.node), direction, peer)
    }

    fn judged(&mut self, leg: Leg) -> Way {
        let outcome = leg.outcome;
        self.legs.push(leg);
        match outcome {
            LegOutcome::Deny => Err(Halt::Drop(DropReason::PolicyDeny)),
            LegOutcome::DefaultDeny => Err(Halt::Drop(DropReason::PolicyDenied)),
            _ => Ok(()),
        }
    }

    fn leg(
        &self,
        node: NodeId,
        endpoint: Endpoint,
        direction: Direction,
        peer: Who,
        state: CtState,
        traffic: &Traffic,
    ) -> Leg {
        let (world, policies) = (self.world, self.policies);
        let matter = Matter { world, policies, endpoint, direction, peer, traffic };
        let isolated_by = matter.isolated_by();
        let skipped = |outcome| Decision { outcome, matching: Vec::new(), trials: Vec::new() };
        let Decision { outcome, matching, trials } = match state {
            CtState::Reply => skipped(LegOutcome::Reply),
            CtState::Related => skipped(LegOutcome::Related),
            CtState::New | CtState::Established | CtState::Untracked => {
                matter.decide(!isolated_by.is_empty())
            }
        };
        Leg { node, endpoint, direction, state, outcome, matching, isolated_by, trials }
    }

    /// Host policies about what arrives encapsulated.
    pub(super) fn ask_outer(&mut self, from: NodeId, node: NodeId) -> Way {
        let Some(flow) = self.outer(from, node).filter(|_| self.world.cluster.host_firewall) else {
            return Ok(());
        };
        let outer = Traffic { protocol: flow.protocol, port: Some(flow.to.port), icmp: None };
        let (tracking, now) = (Tracking::Flow(flow, None), self.asked.now);
        let state = self.memory.state(node, &tracking, flow.to.address, now);
        let (endpoint, direction) = (Endpoint::Host(node), Direction::Ingress);
        let leg = self.leg(node, endpoint, direction, Who::RemoteNode, state, &outer);
        let result = self.judged(leg);
        self.memory.note(node, &tracking, (state, Shift::default()), result.is_ok(), now);
        result
    }

    /// The flow of the tunnel that carries the packet from node to node. Its answers are another one: those have another source port.
    fn outer(&mut self, from: NodeId, to: NodeId) -> Option<Tuple> {
        let v6 = self.world.tunnels_over_ipv6();
        let end = |node, port| {
            let address = self.world.node(node)?.tunnel_end(v6)?;
            Some(End { address, port })
        };
        let chosen = self.choices.tunnel_ports.iter_mut().find_map(Option::take);
        let port = chosen.unwrap_or_else(|| self.tunnel_port());
        let (from, to) = (end(from, port)?, end(to, self.world.cluster.tunnel.port)?);
        Some(Tuple { protocol: Protocol::Udp, from, to })
    }

    /// A source port as a kernel might choose it, where none is known. Its hash of a fragment's flow leaves the ports out, those of the
    /// first one as well; so it does an echo's identifier.
    fn tunnel_port(&self) -> u16 {
        let (mut source, mut destination) = self.places();
        let protocol = self.headers.traffic.protocol;
        if self.asked.packet.ip.fragment.is_fragment() || !protocol.has_ports() {
            (source.port, destination.port) = (0, 0);
        }
        let mut hasher = DefaultHasher::new();
        (protocol, source.address, source.port, destination.address, destination.port)
            .hash(&mut hasher);
        u16::try_from(hasher.finish() % LOCAL_PORTS)
            .map_or(FIRST_LOCAL_PORT, |at| FIRST_LOCAL_PORT + at)
    }
}
