//! What a packet becomes on a node: the backend that a service's flow gets, the source that leaves, and both of it
//! undone for answers and errors. Never a policy, and never the way from node to node.
//!
//! Drop 167 (no port is free to translate a source to) is predicted where there is really none. The datapath gives up
//! after a bounded number of tries, each of which is its own choice, so that it may say so before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::Protocol;
use crate::reason::DropReason;
use crate::topology::{Endpoint, NodeId};
use crate::trace::CtState;

use super::Serving;
use super::flows::{Chosen, Client, Shift, opens};
use super::headers::{End, Tracking, Tuple};
use super::path::{self, Lead};
use super::services::{self, Front, Kind, Scope};
use super::walk::{Halt, Visit, Walk, Way};

/// The source of what a pod sends to itself by a service.
pub(super) fn loopback(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))
    } else {
        IpAddr::V4(Ipv4Addr::new(169, 254, 42, 1))
    }
}

impl Walk<'_> {
    /// Translates what is sent to a service. `None`: it is not, or it is an error that only follows its flow.
    pub(super) fn serve(&mut self, node: NodeId, scope: Scope) -> Result<Option<Shift>, Halt> {
        let here = path::lead(self.world, Some(node), self.headers.destination);
        if !matches!(here, Lead::Service(_)) && here != Lead::Node(node) {
            return Ok(None);
        }
        let (tracking, now) = (&self.headers.tracking, self.asked.now);
        let state = self.memory.state(node, tracking, self.headers.destination, now);
        if matches!(state, CtState::Reply | CtState::Related) {
            // The node's own flow may have a node port's number at its own side.
            return Ok(None);
        }
        if let Tracking::Error(Some(quoted)) = self.headers.tracking {
            let is_known = self.serve_error(node, quoted);
            if is_known || !matches!(here, Lead::Service(_)) {
                return Ok(None);
            }
        }
        let front = self.headers.tuple().and_then(|tuple| {
            let of = self.world.node(node)?;
            Some((tuple, services::front(self.world, of, tuple.to, tuple.protocol)?))
        });
        let Some((tuple, front)) = front else {
            let Lead::Service(service) = here else { return Ok(None) };
            self.check_pieces()?;
            let (port, candidates) = (None, Vec::new());
            self.serving.get_or_insert(Serving { service, port, node, candidates, backend: None });
            return Err(Halt::Drop(DropReason::NoService));
        };
        let backend = self.backend(node, &tuple, front, scope)?;
        self.headers.set_tuple(tuple.sent_to(backend));
        Ok(Some(Shift { through: Some(tuple.to), ..Shift::default() }))
    }

    /// An error about an answer of a service's goes to the backend that the answer came from. False where no such
    /// flow is known.
    fn serve_error(&mut self, node: NodeId, quoted: Tuple) -> bool {
        let known = self.memory.backend(node, &quoted.back(), None, self.asked.now);
        let Some((backend, entered)) = known else { return false };
        self.headers.destination = backend.address;
        let mut quoted = quoted.sent_from(backend);
        // Who reached itself is the loopback address to its backend, in both packets.
        if let Some(seen) = entered.seen_as {
            quoted = quoted.sent_to(seen);
            if self.headers.source == backend.address {
                self.headers.source = seen.address;
            }
        }
        self.headers.tracking = Tracking::Error(Some(quoted));
        true
    }

    /// The backend of a flow, told in [`Serving`].
    fn backend(
        &mut self,
        node: NodeId,
        tuple: &Tuple,
        front: Front<'_>,
        scope: Scope,
    ) -> Result<End, Halt> {
        let v6 = tuple.to.address.is_ipv6();
        let candidates = front.candidates(self.world, node, scope, v6);
        let places = candidates.iter().map(|end| end.place()).collect();
        let (service, port) = (front.id, Some(front.index));
        let mut serving = Serving { service, port, node, candidates: places, backend: None };
        let chosen = match refusal(&front, scope, tuple.from.address) {
            Some(reason) => Err(Halt::Drop(reason)),
            None => self.choose(node, tuple, (front, scope), candidates),
        };
        serving.backend = chosen.as_ref().ok().map(|end| end.place());
        self.serving.get_or_insert(serving);
        let is_fixed = |end: &End| is_port_fixed(tuple) && end.port != tuple.to.port;
        if chosen.as_ref().is_ok_and(is_fixed) {
            self.chosen = None;
            return Err(Halt::Drop(DropReason::UnsupportedServiceProtocol));
        }
        chosen
    }

    fn choose(
        &mut self,
        node: NodeId,
        tuple: &Tuple,
        (front, scope): (Front<'_>, Scope),
        mut candidates: Vec<End>,
    ) -> Result<End, Halt> {
        let now = self.asked.now;
        let begins = matches!(self.headers.tracking, Tracking::Flow(_, flags) if opens(flags));
        if let Some((own, entered)) = self.memory.backend(node, tuple, Some(scope), now)
            && (!begins || (candidates.contains(&own) && !entered.closing))
        {
            return self.take(&[own], "the flow's own backend");
        }
        let client = Client::of(tuple);
        let kept =
            front.service.affinity.and_then(|timeout| self.memory.kept(node, client, timeout, now));
        // Who asks for a backend gets it, whatever the client had.
        let kept = kept.filter(|end| candidates.contains(end) && !self.choices.is_forced);
        let whose = if kept.is_some() { "the client's last backend" } else { "a backend for it" };
        if let Some(kept) = kept {
            candidates = vec![kept];
        }
        let backend = self.take(&candidates, whose)?;
        let binds = front.service.affinity.is_some();
        self.chosen = Some(Chosen { asked: *tuple, backend, scope, binds });
        Ok(backend)
    }

    /// What was chosen, where it is legal. A choice belongs to the first translation on the way.
    fn take(&mut self, legal: &[End], whose: &str) -> Result<End, Halt> {
        let chosen = self.choices.backend.take().map(End::from);
        let Some(first) = legal.first() else {
            if let Some(chosen) = chosen {
                let place = chosen.place();
                self.illegal.push(format!("backend {place} was chosen where there is none"));
            }
            return Err(Halt::Drop(DropReason::NoService));
        };
        match chosen {
            Some(chosen) if legal.contains(&chosen) => Ok(chosen),
            Some(chosen) => {
                self.illegal.push(format!("backend {} is not {whose}", chosen.place()));
                Ok(*first)
            }
            None if legal.len() == 1 => Ok(*first),
            None => Err(Halt::Unknown),
        }
    }

    /// A pod that reaches itself by a service sees the loopback address.
    pub(super) fn hairpin(&mut self, sender: Endpoint, shift: &mut Shift) -> bool {
        let Some(tuple) = self.headers.tuple() else { return false };
        let own = path::addresses(self.world, sender).contains(&tuple.to.address);
        if !own || shift.through.is_none() {
            return false;
        }
        shift.origin = Some(tuple.from);
        let address = loopback(tuple.to.address.is_ipv6());
        self.headers.set_tuple(Tuple { from: End { address, ..tuple.from }, ..tuple });
        true
    }

    /// An answer, or an error about a flow, to an address that a flow's source was translated to. True where it was.
    pub(super) fn reveal(&mut self, node: NodeId) -> bool {
        let now = self.asked.now;
        let answer = match self.headers.tracking {
            Tracking::Flow(tuple, _) => tuple,
            Tracking::Error(Some(quoted)) => quoted.back(),
            Tracking::Error(None) | Tracking::Nothing => return false,
        };
        if answer.to.address != self.headers.destination {
            return false;
        }
        let Some(source) = self.memory.behind(node, &answer, now) else { return false };
        let answer = answer.sent_to(source);
        if let Tracking::Error(_) = self.headers.tracking {
            self.headers.destination = source.address;
            self.headers.tracking = Tracking::Error(Some(answer.back()));
        } else {
            self.headers.set_tuple(answer);
        }
        true
    }

    /// Gives an answer or an error the addresses that its receiver knows the flow by.
    pub(super) fn answer(&mut self, visit: &Visit) {
        let Shift { through, origin, .. } = visit.shift;
        match (visit.state, self.headers.tracking.clone()) {
            (CtState::Reply, Tracking::Flow(mut tuple, _)) => {
                tuple.from = through.unwrap_or(tuple.from);
                tuple.to = origin.unwrap_or(tuple.to);
                self.headers.set_tuple(tuple);
            }
            // Only the opener knows the flow by other addresses.
            (CtState::Related, Tracking::Error(Some(quoted)))
                if self.memory.is_opener(visit.node, &quoted, self.asked.now) =>
            {
                if let Some(through) = through
                    && self.headers.source == quoted.to.address
                {
                    self.headers.source = through.address;
                }
                if let Some(origin) = origin {
                    self.headers.destination = origin.address;
                }
                let quoted = through.map_or(quoted, |through| quoted.sent_to(through));
                let quoted = origin.map_or(quoted, |origin| quoted.sent_from(origin));
                self.headers.tracking = Tracking::Error(Some(quoted));
            }
            _ => {}
        }
    }

    /// What an endpoint sends out of its node by the device leaves with the node's address, unless it answers, its
    /// destination is routed to as it is, or excluded.
    pub(super) fn masquerade(&mut self, visit: &mut Visit, sender: Endpoint) -> Way {
        let cluster = &self.world.cluster;
        let (from, to) = (self.headers.source, self.headers.destination);
        let lead = path::lead(self.world, Some(visit.node), to);
        let native = cluster.routing == crate::topology::Routing::Native;
        let to_node = native && matches!(lead, Lead::Node(other) if other != visit.node);
        let keeps = !cluster.masquerade.on
            || visit.state == CtState::Reply
            || !path::addresses(self.world, sender).contains(&from)
            || self.is_native(to)
            || cluster.masquerade.except.iter().any(|net| net.contains(&to))
            || to_node;
        if keeps { Ok(()) } else { self.leave_as_node(visit) }
    }

    fn is_native(&self, address: IpAddr) -> bool {
        let given = &self.world.cluster.native_cidrs;
        let pods = self.world.nodes.iter().flat_map(|node| &node.pod_cidrs);
        let mut prefixes: Box<dyn Iterator<Item = _>> =
            if given.is_empty() { Box::new(pods) } else { Box::new(given.iter()) };
        prefixes.any(|net| net.contains(&address))
    }

    /// The source becomes the node's first address of the family. A node without one translates nothing.
    pub(super) fn leave_as_node(&mut self, visit: &mut Visit) -> Way {
        let v6 = self.headers.source.is_ipv6();
        let own = self.world.node(visit.node).and_then(|node| node.tunnel_end(v6));
        let Some(address) = own else { return Ok(()) };
        let Some(tuple) = self.headers.tuple() else {
            self.leave_as_error(visit, address);
            return Ok(());
        };
        let beyond = match visit.shift.beyond.filter(|_| visit.state == CtState::Established) {
            Some(beyond) => beyond,
            None => self.new_source(visit.node, address, &tuple)?,
        };
        let there = tuple.sent_from(beyond);
        visit.shift.beyond = Some(beyond);
        // Whoever sends while nobody has the answers gets them.
        visit.shift.shares = !has_port(&tuple)
            && self.memory.is_answered(visit.node, &there, &tuple, self.asked.now);
        self.headers.set_tuple(there);
        Ok(())
    }

    /// An error has no port; one about a flow that is not translated here stays as it is. What it quotes becomes what
    /// its receiver has sent.
    fn leave_as_error(&mut self, visit: &Visit, address: IpAddr) {
        if visit.state == CtState::Related {
            self.tell_as_sent(visit);
        } else {
            self.headers.source = address;
        }
    }

    /// An error about an answer to a translated source is that source's, and quotes the answer as it came; whoever on the
    /// node tells of it.
    pub(super) fn tell_as_sent(&mut self, visit: &Visit) {
        if let Some(beyond) = visit.shift.beyond
            && visit.state == CtState::Related
            && let Tracking::Error(Some(quoted)) = &mut self.headers.tracking
            && !self.memory.is_opener(visit.node, quoted, self.asked.now)
        {
            *quoted = quoted.sent_to(beyond);
            self.headers.source = beyond.address;
        }
    }

    /// Whether the flow that an error quotes came to a node port and was sent on to another node: its translation is at home
    /// wherever the node gets the error.
    pub(super) fn is_about_passing(&self, visit: &Visit) -> bool {
        let Some(quoted) = visit.tuple().filter(|_| visit.state == CtState::Related) else {
            return false;
        };
        let opener = path::lead(self.world, Some(visit.node), quoted.to.address);
        let is_local = matches!(opener, Lead::Endpoint(_, node) if node == visit.node);
        visit.shift.through.is_some() && visit.shift.beyond.is_some() && !is_local
    }

    /// Whether a flow that is translated on this node has the source of the node's own packet already.
    pub(super) fn is_anothers(&self, visit: &Visit) -> bool {
        let Some(tuple) = self.headers.tuple() else { return false };
        has_port(&tuple)
            && matches!(visit.state, CtState::New | CtState::Established)
            && self.memory.stands_for_another(visit.node, &tuple, self.asked.now)
    }

    /// Whether the source's port is one that translated flows get.
    pub(super) fn may_collide(&self) -> bool {
        let is_in_range =
            |tuple: Tuple| tuple.protocol.has_ports() && self.is_in_range(tuple.from.port);
        self.headers.tuple().is_some_and(is_in_range)
    }

    fn is_in_range(&self, port: u16) -> bool {
        let (first, last) = self.world.cluster.masquerade.ports;
        (first..=last).contains(&port)
    }

    /// The port stays where it is in the range and free; else the datapath chooses any that is.
    fn new_source(&mut self, node: NodeId, address: IpAddr, tuple: &Tuple) -> Way<End> {
        let sources = &mut self.choices.sources;
        let chosen = sources.iter_mut().find_map(|s| s.take_if(|p| p.address == address));
        let wanted = tuple.source().port;
        let is_open = |port: u16| port_is_open(self, node, End { address, port }, tuple);
        let keeps = is_open(wanted) || !has_port(tuple);
        let is_free = |port: u16| !is_port_fixed(tuple) && is_open(port);
        let legal = |port: u16| if keeps { port == wanted } else { is_free(port) };
        let (first, last) = self.world.cluster.masquerade.ports;
        let by_rule = || match keeps {
            true => Some(wanted),
            false if is_port_fixed(tuple) => None,
            false => (first..=last).find(|port| is_open(*port)),
        };
        if let Some(place) = chosen.filter(|place| legal(place.port)) {
            return Ok(End::from(place));
        }
        let port = by_rule();
        if let Some(place) = chosen {
            self.illegal.push(format!("source {place} is not one that it may leave with"));
        }
        let port = port.ok_or(Halt::Drop(DropReason::NatNoMapping))?;
        Ok(End { address, port })
    }
}

/// ICMP that is no echo has nothing to translate but the address.
fn has_port(tuple: &Tuple) -> bool {
    tuple.protocol.has_ports() || tuple.source().port != 0
}

/// The checksum of SCTP is over all of the packet (RFC 9260 6.8), so that the datapath rewrites none of its ports.
fn is_port_fixed(tuple: &Tuple) -> bool {
    tuple.protocol == Protocol::Sctp
}

/// Whether a flow may leave with this source: its port is in the range or cannot be another, and no other flow of the node has it
/// towards the same remote side. SCTP has no port 0 (RFC 9260 3.1), and nothing to put in its place.
fn port_is_open(walk: &Walk<'_>, node: NodeId, source: End, tuple: &Tuple) -> bool {
    let there = tuple.sent_from(source);
    (walk.is_in_range(source.port) || (is_port_fixed(tuple) && source.port != 0))
        && !walk.memory.is_taken(node, &there, tuple, walk.asked.now)
}

/// Why a client may not use the frontend at all.
fn refusal(front: &Front<'_>, scope: Scope, client: IpAddr) -> Option<DropReason> {
    match (scope, front.kind) {
        (Scope::Inside, _) => None,
        (Scope::Outside, Kind::Cluster) => Some(DropReason::IsClusterIp),
        (Scope::Outside, _) => front.refuses(client).then_some(DropReason::NotInSourceRange),
    }
}
