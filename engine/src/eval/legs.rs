//! Which directions are asked of a packet, of whom, and what it means for its way. What policy says is `decide`'s, who
//! looks at the packet is `walk`'s.

use crate::net::{Direction, Protocol};
use crate::reason::DropReason;
use crate::topology::{Endpoint, NodeId};
use crate::trace::CtState;
use crate::verdict::LegOutcome;

use super::Leg;
use super::decide::{Decision, Matter};
use super::headers::Traffic;
use super::peers::Who;
use super::walk::{Halt, Visit, Walk, Way};

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
        if !self.world.cluster.host_firewall {
            return Ok(());
        }
        let port = Some(self.world.cluster.tunnel.port);
        let outer = Traffic { protocol: Protocol::Udp, port, icmp: None };
        let (mut source, mut destination) = self.places();
        // A kernel's hash of a fragment's flow leaves the ports out, those of the first one as well; so it does an echo's
        // identifier.
        let has_ports = self.headers.traffic.protocol.has_ports();
        if self.asked.packet.ip.fragment.is_fragment() || !has_ports {
            (source.port, destination.port) = (0, 0);
        }
        let inner = (from, self.headers.traffic.protocol, source, destination);
        let now = self.asked.now;
        let state = self.memory.outer_state(node, &inner, now);
        let (endpoint, direction) = (Endpoint::Host(node), Direction::Ingress);
        let leg = self.leg(node, endpoint, direction, Who::RemoteNode, state, &outer);
        let result = self.judged(leg);
        if result.is_ok() || state == CtState::Established {
            self.memory.note_outer(node, inner, now);
        }
        result
    }
}
