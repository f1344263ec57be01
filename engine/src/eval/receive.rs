//! What a node does with a packet that comes to it: by its device or the tunnel, for itself, for an endpoint, or to be passed on.
//! Where packets come from is `walk`'s, what rewriting does is `translate`'s.

use crate::net::Direction;
use crate::reason::DropReason;
use crate::topology::{Endpoint, NodeId};
use crate::trace::CtState;

use super::flows::Shift;
use super::path::{self, Lead};
use super::peers::Who;
use super::services::Scope;
use super::walk::{Halt, Next, Visit, Walk, Way};

impl Walk<'_> {
    /// A packet comes to a node by its underlay device, not encapsulated.
    pub(super) fn device_receives(&mut self, node: NodeId) -> Way<Next> {
        self.prefilter(self.headers.source)?;
        let lead = path::lead(self.world, Some(node), self.headers.destination);
        if let Lead::Endpoint(endpoint, at) = lead {
            let carried = Who::Outside(self.headers.source);
            self.arrive(endpoint, at, carried, false)?;
            return Ok(Next::End);
        }
        if !self.is_legible(node) && lead == Lead::Node(node) && !self.world.cluster.host_firewall {
            // A piece without a port may be a service's, which ends it.
            let missing = Err(Halt::Drop(DropReason::FragmentNotFound));
            return if self.read.is_ok() { missing } else { Ok(Next::End) };
        }
        self.node_receives(node, Who::Outside(self.headers.source))
    }

    /// A node reads what came to one of its addresses, or to a service's. Whoever sends it by a device is a client from
    /// outside, whatever its address says.
    pub(super) fn node_receives(&mut self, node: NodeId, carried: Who) -> Way<Next> {
        self.look_into(node)?;
        let revealed = self.reveal(node);
        let client = path::arriving(self.world, node, carried, self.headers.source);
        let shift = if revealed { None } else { self.serve(node, Scope::Outside)? };
        let mut visit = self.visit(node, shift.unwrap_or_default(), false);
        let next = self.pass_on(&mut visit, client, revealed);
        // What the node gets for itself nobody asks for, but its own policies.
        let to_node = path::lead(self.world, Some(node), self.headers.destination);
        let is_its_own = to_node == Lead::Node(node) && visit.shift == Shift::default();
        let is_noted =
            !is_its_own || visit.state != CtState::New || self.world.cluster.host_firewall;
        // What lives too short to go on, or has no way, is dropped before anybody asks for its flow.
        if is_noted && !is_lost(&next) {
            self.note(&visit, &next);
        }
        self.cross(&visit, next?)
    }

    /// What a node does with a packet of the underlay that was for one of its addresses.
    fn pass_on(&mut self, visit: &mut Visit, client: Who, revealed: bool) -> Way<Next> {
        let here = visit.node;
        match path::lead(self.world, Some(here), self.headers.destination) {
            Lead::Endpoint(endpoint, node) if node == here => {
                self.count_down()?;
                self.check_pieces()?;
                self.ask(visit, endpoint, Direction::Ingress, client)?;
                self.answer(visit);
                Ok(Next::End)
            }
            Lead::Endpoint(endpoint, node) => {
                self.answer(visit);
                // The tunnel carries it as the world's, and the receiver leaves it at that.
                let source = self.headers.source;
                if !revealed {
                    self.leave_as_node(visit)?;
                }
                let tunneled = self.is_tunneled();
                if !tunneled {
                    self.route()?;
                }
                let address = if revealed { source } else { self.headers.source };
                let carried = if tunneled { Who::Forged(address) } else { Who::Outside(address) };
                Ok(Next::Endpoint { endpoint, node, carried })
            }
            Lead::Node(node) if node == here => {
                self.ask_host(visit, Direction::Ingress, client)?;
                self.answer(visit);
                Ok(Next::End)
            }
            Lead::Node(node) => {
                self.answer(visit);
                if !revealed {
                    self.leave_as_node(visit)?;
                }
                self.route()?;
                Ok(Next::Node(node))
            }
            // A backend that is gone: its flow goes where it went.
            lead @ (Lead::Outside | Lead::Nobody(_) | Lead::Service(_)) => {
                self.answer(visit);
                if !revealed {
                    self.leave_as_node(visit)?;
                }
                let other = match lead {
                    Lead::Nobody(node) if node != here => Next::Nobody(node),
                    _ => Next::End,
                };
                if !(self.is_tunneled() && matches!(other, Next::Nobody(_))) {
                    self.route()?;
                }
                Ok(other)
            }
        }
    }

    /// To an endpoint of a node that only delivers: it counts before it looks into the packet.
    pub(super) fn arrive(
        &mut self,
        endpoint: Endpoint,
        node: NodeId,
        carried: Who,
        sent: bool,
    ) -> Way {
        if sent && !self.is_tunneled() {
            self.prefilter(self.headers.source)?;
        }
        self.count_down()?;
        self.look_into(node)?;
        self.check_pieces()?;
        let source = self.headers.source;
        let peer = match carried {
            Who::Forged(_) => carried,
            _ => path::arriving(self.world, node, carried, source),
        };
        let mut visit = self.visit(node, Shift::default(), false);
        visit.shift.by_tunnel |= sent && self.is_tunneled();
        let result = self.ask(&visit, endpoint, Direction::Ingress, peer);
        self.answer(&visit);
        self.remember(&visit, result.is_ok());
        result
    }
}

/// Whether the way on was missing.
fn is_lost(next: &Way<Next>) -> bool {
    matches!(next, Err(Halt::Drop(DropReason::TtlExceeded | DropReason::NoFib)))
}
