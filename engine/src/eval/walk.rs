//! A packet's way from node to node: who looks at it where, what each remembers, and which directions are asked.
//! The order on a node is the one that the book states: sender, headers, service, flow, policy, answer, route. What
//! rewriting does is `translate`'s, what policy says is `decide`'s.

use crate::net::{Direction, Protocol};
use crate::policy::PolicySet;
use crate::reason::DropReason;
use crate::topology::{
    Endpoint, HostRouting, NodeId, Party, Routing, ServiceId, TrafficPolicy, World,
};
use crate::trace::{CtState, Place};

use super::flows::{Chosen, Piece, Shift};
use super::headers::{self, End, Headers, Tracking, Tuple};
use super::path::{self, Lead, Sender};
use super::peers::Who;
use super::services::{self, Scope};
use super::translate;
use super::{Asked, Choices, Leg, Memory, Serving};

/// Why a packet goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// It is dropped.
    Drop(DropReason),
    /// The datapath would have chosen, and what it chose is not known.
    Unknown,
    /// The node's own stack drops it, which had it from the datapath: that has let it pass.
    Refused(DropReason),
}

pub(super) type Way<T = ()> = Result<T, Halt>;

/// What a walk has of a packet and gathers about it.
pub(super) struct Walk<'a> {
    pub(super) world: &'a World,
    pub(super) policies: &'a PolicySet,
    pub(super) memory: &'a mut Memory,
    pub(super) asked: &'a Asked<'a>,
    /// Choices that no translation has taken yet.
    pub(super) choices: Choices,
    /// A backend that is remembered if the packet passes where it was chosen.
    pub(super) chosen: Option<Chosen>,
    /// The headers as they are now, or why they cannot be read.
    pub(super) read: Result<(), DropReason>,
    pub(super) headers: Headers,
    ttl: u8,
    pub(super) legs: Vec<Leg>,
    pub(super) serving: Option<Serving>,
    pub(super) illegal: Vec<String>,
}

/// A node that looks at the packet: what it knows of the flow, as it is after a service's translation.
pub(super) struct Visit {
    pub(super) node: NodeId,
    tracking: Tracking,
    pub(super) state: CtState,
    pub(super) shift: Shift,
    /// A pod speaks to itself by a service, or answers: policy is not asked.
    pub(super) hairpin: bool,
}

impl Visit {
    /// The flow, or the one that an error quotes.
    pub(super) fn tuple(&self) -> Option<Tuple> {
        match &self.tracking {
            Tracking::Flow(tuple, _) | Tracking::Error(Some(tuple)) => Some(*tuple),
            Tracking::Error(None) | Tracking::Nothing => None,
        }
    }
}

/// Where a packet goes from a node.
pub(super) enum Next {
    /// Nowhere further: delivered, or out of what is judged.
    End,
    /// To an endpoint of another node, which takes the sender for this.
    Endpoint { endpoint: Endpoint, node: NodeId, carried: Who },
    /// To another node by the underlay, as it is.
    Node(NodeId),
    /// To an address among another node's pods that nobody has.
    Nobody(NodeId),
    /// To another node itself by the tunnel, as an answer to what came by it; that node takes the sender for this.
    Tunnel { node: NodeId, carried: Who },
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        world: &'a World,
        policies: &'a PolicySet,
        memory: &'a mut Memory,
        asked: &'a Asked<'a>,
    ) -> Self {
        let packet = asked.packet;
        let read = headers::read(packet);
        let (read, headers) = match read {
            Ok(headers) => (Ok(()), headers),
            Err(reason) => (Err(reason), Headers::unread(packet)),
        };
        let (legs, illegal) = (Vec::new(), Vec::new());
        let (choices, ttl) = (asked.choices, packet.ip.ttl);
        let (serving, chosen) = (None, None);
        Self {
            world,
            policies,
            memory,
            asked,
            choices,
            chosen,
            read,
            headers,
            ttl,
            legs,
            serving,
            illegal,
        }
    }

    /// The packet's two sides as they are now.
    pub(super) fn places(&self) -> (Place, Place) {
        self.headers.places()
    }

    /// From its sender to wherever it ends.
    pub(super) fn follow(&mut self, sender: Sender) -> Way {
        if self.read.is_ok() && self.headers.discovery {
            return Ok(());
        }
        let next = match sender {
            Sender::Endpoint(endpoint, node) => self.endpoint_sends(endpoint, node)?,
            Sender::Node(node) => self.node_sends(node)?,
            Sender::Outside => match path::lead(self.world, None, self.headers.destination) {
                Lead::Endpoint(_, node) | Lead::Node(node) => self.device_receives(node)?,
                Lead::Service(id) => self.device_receives(self.landing(id))?,
                Lead::Nobody(_) => {
                    self.prefilter(self.headers.source)?;
                    self.given_to_stack()?;
                    Next::End
                }
                Lead::Outside => Next::End,
            },
        };
        self.go(next)
    }

    /// The node that a packet from outside to a service's address comes to, unless the question names one. A backend that the
    /// question forces, and that only its own node may take, is asked for there.
    fn landing(&self, id: ServiceId) -> NodeId {
        if let Party::Node(named) = self.asked.destination {
            return named;
        }
        let Some(service) = self.world.service(id) else { return NodeId(0) };
        let forced = self.choices.backend.filter(|_| self.choices.is_forced);
        let is_kept = service.external_traffic == TrafficPolicy::Local;
        let pod = forced.filter(|_| is_kept).and_then(|place| self.world.owner(place.address));
        match pod {
            Some(Party::Pod(id)) => self.world.pod(id).map_or(NodeId(0), |pod| pod.node),
            Some(Party::Node(id)) => id,
            _ => services::landing(self.world, service),
        }
    }

    /// On to further nodes; translated packets pass three of them at most.
    fn go(&mut self, mut next: Next) -> Way {
        for _ in 0..4 {
            next = match next {
                Next::End => return Ok(()),
                Next::Endpoint { endpoint, node, carried } => {
                    self.arrive(endpoint, node, carried, true)?;
                    Next::End
                }
                Next::Nobody(_) => {
                    // What the tunnel holds is no device's.
                    if !self.is_tunneled() {
                        self.prefilter(self.headers.source)?;
                    }
                    self.given_to_stack()?;
                    Next::End
                }
                Next::Node(node) => self.device_receives(node)?,
                Next::Tunnel { node, carried } => self.node_receives(node, carried)?,
            };
        }
        Ok(())
    }

    /// An endpoint sends.
    fn endpoint_sends(&mut self, sender: Endpoint, node: NodeId) -> Way<Next> {
        if !path::addresses(self.world, sender).contains(&self.headers.source) {
            return Err(Halt::Drop(DropReason::InvalidSourceIp));
        }
        self.look_into(node)?;
        let mut shift = self.serve(node, Scope::Inside)?.unwrap_or_default();
        let hairpin = self.hairpin(sender, &mut shift);
        let mut visit = self.visit(node, shift, hairpin);
        let next = self.leave_endpoint(sender, &mut visit);
        // The port is missing at the device only: where the pod sends, the packet has passed.
        let is_late = matches!(next, Err(Halt::Drop(DropReason::NatNoMapping)));
        self.remember(&visit, is_late || matches!(next, Ok(_) | Err(Halt::Refused(_))));
        self.cross(&visit, next?)
    }

    fn leave_endpoint(&mut self, sender: Endpoint, visit: &mut Visit) -> Way<Next> {
        let traffic = self.headers.traffic;
        let tunnel = Some(self.world.cluster.tunnel.port);
        let encapsulated = traffic.protocol == Protocol::Udp && traffic.port == tunnel;
        if encapsulated && self.is_tunneled() && visit.state != CtState::Reply {
            return Err(Halt::Drop(DropReason::EncapProhibited));
        }
        self.check_pieces()?;
        let peer = Who::has(self.world, visit.node, self.headers.destination);
        self.ask(visit, sender, Direction::Egress, peer)?;
        self.answer(visit);
        if self.is_about_passing(visit) {
            self.tell_as_sent(visit);
        }
        let here = visit.node;
        match path::lead(self.world, Some(here), self.headers.destination) {
            Lead::Endpoint(endpoint, node) if node == here => {
                self.count_down()?;
                self.ask(visit, endpoint, Direction::Ingress, path::who(sender))?;
                Ok(Next::End)
            }
            Lead::Endpoint(endpoint, node) => {
                let mut carried = path::who(sender);
                if !self.is_tunneled() {
                    self.route()?;
                    self.masquerade(visit, sender)?;
                    carried = Who::Outside(self.headers.source);
                }
                Ok(Next::Endpoint { endpoint, node, carried })
            }
            Lead::Node(node) if node == here => {
                self.ask_host(visit, Direction::Ingress, path::who(sender))?;
                Ok(Next::End)
            }
            Lead::Node(node) if self.is_answer_to_tunnel(visit) || self.is_inside(node) => {
                Ok(Next::Tunnel { node, carried: path::who(sender) })
            }
            Lead::Node(node) => {
                self.route()?;
                self.masquerade(visit, sender)?;
                Ok(Next::Node(node))
            }
            Lead::Outside => {
                self.route()?;
                self.masquerade(visit, sender)?;
                Ok(Next::End)
            }
            Lead::Nobody(node) if node != here => {
                if !self.is_tunneled() {
                    self.route()?;
                    self.masquerade(visit, sender)?;
                }
                Ok(Next::Nobody(node))
            }
            Lead::Nobody(_) | Lead::Service(_) => {
                self.route()?;
                Ok(Next::End)
            }
        }
    }

    /// A node itself sends: to pods and services by its host device, else by the underlay's.
    fn node_sends(&mut self, node: NodeId) -> Way<Next> {
        let lead = path::lead(self.world, Some(node), self.headers.destination);
        let listens = self.headers.tuple().is_some_and(|tuple| {
            let here = self.world.node(node);
            here.is_some_and(|n| services::front(self.world, n, tuple.to, tuple.protocol).is_some())
        });
        // What a node says to itself passes no device.
        let own = lead == Lead::Node(node) && !listens;
        // By the underlay's device only the host firewall reads it.
        let by_device = matches!(lead, Lead::Node(_) | Lead::Outside);
        if own {
            return Ok(Next::End);
        }
        let from = path::lead(self.world, Some(node), self.headers.source);
        let is_policed = self.world.cluster.host_firewall && from == Lead::Node(node);
        if by_device && !self.is_legible(node) && !is_policed {
            return Ok(match lead {
                Lead::Node(other) => Next::Node(other),
                _ => Next::End,
            });
        }
        self.look_into(node)?;
        let is_own = !matches!(from, Lead::Endpoint(_, at) if at == node);
        let shift = self.serve(node, Scope::Inside)?.unwrap_or_default();
        let mut visit = self.visit(node, shift, false);
        let next = self.leave_node(&mut visit);
        // What others send on by the device was seen where they sent it; only a translation is noted.
        let is_passing = by_device && !is_own && visit.shift.through.is_none();
        let is_noted = match visit.state {
            CtState::New if is_passing => visit.shift.beyond.is_some(),
            CtState::New => self.is_tracked(&visit),
            _ => !is_passing,
        };
        if is_noted {
            self.note(&visit, &next);
        }
        self.cross(&visit, next?)
    }

    /// What a node sends by the device itself begins a flow only where somebody asks for it: its own policy, or whoever
    /// may not have the same port.
    fn is_tracked(&self, visit: &Visit) -> bool {
        let (source, to) = (self.headers.source, self.headers.destination);
        let lead = path::lead(self.world, Some(visit.node), to);
        if !matches!(lead, Lead::Node(_) | Lead::Outside) || visit.shift.through.is_some() {
            return true;
        }
        let is_own = path::lead(self.world, Some(visit.node), source) == Lead::Node(visit.node);
        is_own && (self.world.cluster.host_firewall || self.may_collide())
    }

    fn leave_node(&mut self, visit: &mut Visit) -> Way<Next> {
        let here = visit.node;
        let peer = Who::has(self.world, here, self.headers.destination);
        let lead = path::lead(self.world, Some(here), self.headers.destination);
        let by_device = matches!(lead, Lead::Node(_) | Lead::Outside) && peer != Who::Host;
        let is_led = visit.shift.through.is_some() && visit.state != CtState::Reply;
        let by_device = by_device && !is_led;
        if !by_device {
            self.check_pieces()?;
        }
        if self.is_anothers(visit) {
            return Err(Halt::Drop(DropReason::NatNoMapping));
        }
        // At the device, a node is whoever has its address.
        let is_own = path::lead(self.world, Some(here), self.headers.source) == Lead::Node(here);
        // What others send on through the node is not its matter, and what it sends to itself stays inside, led by a service or not; an
        // answer of what was led passes as one.
        let is_asked = peer != Who::Host || visit.state == CtState::Reply;
        if is_asked && is_own {
            self.ask_host(visit, Direction::Egress, peer)?;
        }
        self.answer(visit);
        if (by_device && is_own) || self.is_about_passing(visit) {
            self.tell_as_sent(visit);
        }
        // At the device a source is a pod's by its address, whoever sends it on.
        if let Lead::Endpoint(endpoint, node) =
            path::lead(self.world, Some(here), self.headers.source)
            && node == here
            && self.leaves_by_device(here)
        {
            self.masquerade(visit, endpoint)?;
        }
        let lead = path::lead(self.world, Some(here), self.headers.destination);
        if !by_device && self.leaves_by_device(here) {
            self.loop_back()?;
        }
        Ok(match lead {
            Lead::Endpoint(endpoint, node) if node == here => {
                self.count_down()?;
                self.check_pieces()?;
                let peer = path::arriving(self.world, here, Who::Host, self.headers.source);
                self.ask(visit, endpoint, Direction::Ingress, peer)?;
                Next::End
            }
            Lead::Endpoint(endpoint, node) => {
                let source = self.headers.source;
                let native = Who::Outside(source);
                let carried = if self.is_tunneled() { Who::RemoteNode } else { native };
                Next::Endpoint { endpoint, node, carried }
            }
            Lead::Node(node) if node != here => Next::Node(node),
            Lead::Nobody(node) if node != here => Next::Nobody(node),
            Lead::Node(_) | Lead::Nobody(_) | Lead::Service(_) | Lead::Outside => Next::End,
        })
    }

    /// What the host device lets out and the node's stack is to route comes back in by that device's other end, so that the stack
    /// forwards it like another's.
    fn loop_back(&mut self) -> Way {
        match self.world.cluster.host_routing {
            HostRouting::Stack => self.route(),
            HostRouting::Bpf => Ok(()),
        }
    }

    /// Whether the packet leaves a node as it is.
    fn leaves_by_device(&self, here: NodeId) -> bool {
        match path::lead(self.world, Some(here), self.headers.destination) {
            Lead::Endpoint(_, node) | Lead::Nobody(node) => node != here && !self.is_tunneled(),
            Lead::Node(node) => node != here,
            Lead::Outside => true,
            Lead::Service(_) => false,
        }
    }

    /// The tunnel itself, where something looks at it: the prefilter and the host policies of the other node. The
    /// sender's host policies are not asked about what it encapsulates.
    pub(super) fn cross(&mut self, visit: &Visit, next: Next) -> Way<Next> {
        let there = match next {
            Next::Endpoint { node, .. } | Next::Nobody(node) if self.is_tunneled() => node,
            Next::Tunnel { node, .. } => node,
            _ => return Ok(next),
        };
        let v6 = self.world.tunnels_over_ipv6();
        let own = self.world.node(visit.node).and_then(|node| node.tunnel_end(v6));
        if let Some(own) = own {
            self.prefilter(own)?;
        }
        self.ask_outer(visit.node, there)?;
        Ok(next)
    }

    pub(super) fn is_tunneled(&self) -> bool {
        self.world.cluster.routing == Routing::Tunnel
    }

    /// A further address of another node, among its pods', is reached as those are.
    fn is_inside(&self, node: NodeId) -> bool {
        let to = self.headers.destination;
        let is_local = self.world.node(node).is_some_and(|of| {
            !of.addresses.contains(&to) && of.pod_cidrs.iter().any(|pods| pods.contains(&to))
        });
        self.is_tunneled() && is_local
    }

    /// What came by the tunnel is answered by it: from the address of a pod the nodes' network may not lead there.
    fn is_answer_to_tunnel(&self, visit: &Visit) -> bool {
        let is_error = visit.state == CtState::Related
            && visit
                .tuple()
                .is_some_and(|quoted| self.memory.is_opener(visit.node, &quoted, self.asked.now));
        let answers = visit.state == CtState::Reply || is_error;
        self.is_tunneled() && answers && visit.shift.by_tunnel
    }

    pub(super) fn prefilter(&self, source: std::net::IpAddr) -> Way {
        let listed = self.world.cluster.prefilter.iter().any(|net| net.contains(&source));
        if listed { Err(Halt::Drop(DropReason::Prefiltered)) } else { Ok(()) }
    }

    /// Delivery takes one from the TTL.
    pub(super) fn count_down(&mut self) -> Way {
        if self.ttl <= 1 {
            return Err(Halt::Drop(DropReason::TtlExceeded));
        }
        self.ttl -= 1;
        Ok(())
    }

    /// A node's stack is given what is for nobody of its pods: it counts down before it finds that the route leads nowhere.
    fn given_to_stack(&self) -> Way {
        if self.ttl <= 1 { Err(Halt::Refused(DropReason::TtlExceeded)) } else { Ok(()) }
    }

    /// So does the way out, if there is one. Where the datapath leaves routing to the node's stack, that refuses what has none.
    pub(super) fn route(&mut self) -> Way {
        let to = self.headers.destination;
        let is_outside = path::lead(self.world, None, to) == Lead::Outside;
        let result = if is_outside && !path::is_sent_on(to) {
            Err(Halt::Drop(DropReason::NoFib))
        } else {
            self.count_down()
        };
        match (self.world.cluster.host_routing, result) {
            (HostRouting::Stack, Err(Halt::Drop(reason))) => Err(Halt::Refused(reason)),
            (_, result) => result,
        }
    }

    /// Whether a node finds out the packet's flow: its own headers tell, or the first fragment's did.
    pub(super) fn is_legible(&self, node: NodeId) -> bool {
        let is_later = self.asked.packet.ip.fragment.is_later() && !self.headers.icmp_fragment;
        self.read.is_ok() && (!is_later || self.memory.ports_of(node, &self.piece()).is_some())
    }

    /// The datagram that a fragment is of.
    fn piece(&self) -> Piece {
        let protocol = self.headers.traffic.protocol;
        (self.headers.source, self.headers.destination, protocol, self.asked.packet.ip.id)
    }

    /// A node reads the headers; of fragments, it remembers the first one's ports for the later ones.
    pub(super) fn look_into(&mut self, node: NodeId) -> Way {
        self.read.map_err(Halt::Drop)?;
        let ip = &self.asked.packet.ip;
        if !ip.fragment.is_fragment() || self.headers.icmp_fragment {
            return Ok(());
        }
        let piece = self.piece();
        if ip.fragment.is_later() {
            let ports = self.memory.ports_of(node, &piece);
            let ports = ports.ok_or(Halt::Drop(DropReason::FragmentNotFound))?;
            self.headers.complete(ports);
        } else if let Some(tuple) = self.headers.tuple() {
            self.memory.note_piece(node, piece, (tuple.from.port, tuple.to.port));
        }
        Ok(())
    }

    /// A piece of an ICMP message names no flow.
    pub(super) fn check_pieces(&self) -> Way {
        let piece = self.headers.icmp_fragment;
        if piece { Err(Halt::Drop(DropReason::FragmentNotSupported)) } else { Ok(()) }
    }

    pub(super) fn visit(&self, node: NodeId, given: Shift, hairpin: bool) -> Visit {
        let (tracking, now) = (self.headers.tracking.clone(), self.asked.now);
        let mut state = self.memory.state(node, &tracking, self.headers.destination, now);
        // What a service leads to a backend begins a flow to it, whatever the backend has opened.
        if given.through.is_some() && state == CtState::Reply {
            state = CtState::New;
        }
        let mut visit = Visit { node, tracking, state, shift: given, hairpin };
        if let (CtState::Established | CtState::Reply | CtState::Related, Some(tuple)) =
            (state, visit.tuple())
        {
            let mut known = self.memory.shift(node, &tuple, now);
            // Of a service that is gone nothing is translated.
            if !self.stands(node, known.through, tuple.protocol) {
                (known.through, known.origin) = (None, None);
            }
            // Who speaks to the backend itself now is answered by it.
            let is_stale = state == CtState::Established && known.origin.is_none();
            visit.shift = Shift {
                through: given.through.or(known.through.filter(|_| !is_stale)),
                origin: given.origin.or(known.origin),
                ..known
            };
            // An error is of such a flow only from or to the address that nobody else has.
            let ends = [self.headers.source, self.headers.destination];
            let is_own = state != CtState::Related
                || ends.iter().any(|end| *end == translate::loopback(end.is_ipv6()));
            // What comes from elsewhere under that address is no pod's to itself.
            let is_pods = state != CtState::Established;
            visit.hairpin |= known.origin.is_some() && is_own && is_pods;
        }
        visit
    }

    /// Whether a frontend still is one; a flow without one needs none.
    fn stands(&self, node: NodeId, through: Option<End>, protocol: Protocol) -> bool {
        let asked = through.zip(self.world.node(node));
        asked.is_none_or(|(to, of)| services::front(self.world, of, to, protocol).is_some())
    }

    pub(super) fn note(&mut self, visit: &Visit, next: &Way<Next>) {
        self.remember(visit, matches!(next, Ok(_) | Err(Halt::Refused(_))));
    }

    pub(super) fn remember(&mut self, visit: &Visit, passed: bool) {
        let known = (visit.state, visit.shift);
        self.memory.note(visit.node, &visit.tracking, known, passed, self.asked.now);
        // Only a packet that its node lets pass binds its client.
        if let Some(chosen) = self.chosen.take().filter(|_| passed) {
            self.memory.keep(visit.node, chosen, self.asked.now);
        }
    }
}
