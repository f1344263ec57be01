//! Random packets: flows of their own, and what follows earlier ones.

use std::net::IpAddr;

use engine::net::{Fragment, IpHeader, Packet, Protocol, TcpFlags, Transport, extension};
use engine::question::Question;
use engine::topology::{Pod, Service, World};

use super::super::play::{Change, Step, Turn, question};
use super::{OUTSIDE, Random, ip};

const PORTS: [u16; 10] = [80, 8080, 79, 82, 53, 100, 127, 1, 65535, 8472];

impl Random {
    /// A packet of a flow of its own, the answer to an earlier one, or an error about it. `None` where the dice give
    /// nothing that could be sent.
    pub(super) fn send(&mut self, world: &World, earlier: &[Step], number: usize) -> Option<Step> {
        let sent = earlier.iter().filter_map(|step| match step {
            Step::Send { number, question, .. } => {
                Some((*number, question.packet.ip.source.is_ipv6(), None))
            }
            Step::Follow { number, of, turn: Turn::Answer | Turn::Again(_), .. } => {
                Some((*number, false, Some(*of)))
            }
            _ => None,
        });
        let sent: Vec<(usize, bool, Option<usize>)> = sent.collect();
        // The family of a packet that follows is that of the flow's first.
        let first = |mut of: usize| loop {
            match sent.iter().find(|(number, ..)| *number == of) {
                Some((_, _, Some(earlier))) => of = *earlier,
                Some((_, v6, None)) => break *v6,
                None => break false,
            }
        };
        let mut change = Change::default();
        if sent.is_empty() {
            return self.fresh(world, number);
        }
        // The latest flow is the one that most often goes on.
        let of = if self.once_in(2) { sent[sent.len() - 1].0 } else { self.one(&sent).0 };
        let v6 = first(of);
        let turn = match self.below(9) {
            0..=2 => Turn::Answer,
            3 => Turn::Again(self.flags()),
            4 if self.once_in(2) => Turn::Forged(self.anybody(world, v6)),
            4 => {
                let (kind, code) = self.error(v6);
                Turn::Router(self.anybody(world, v6), kind, code)
            }
            5 => {
                let (kind, code) = self.error(v6);
                Turn::Error(kind, code)
            }
            _ => return self.fresh(world, number),
        };
        if !matches!(turn, Turn::Forged(_) | Turn::Error(..) | Turn::Router(..)) {
            change = self.change();
        }
        Some(Step::Follow { number, of, turn, change })
    }

    fn error(&mut self, v6: bool) -> (u8, u8) {
        *self.one(if v6 { &[(1, 4), (2, 0), (3, 0)] } else { &[(3, 3), (11, 0), (3, 4)] })
    }

    /// The address of a pod, of a node or of somebody outside.
    fn anybody(&mut self, world: &World, v6: bool) -> IpAddr {
        let pods = world.pods.iter().flat_map(|p| &p.addresses);
        let nodes = world.nodes.iter().flat_map(|n| &n.addresses);
        let all = pods.chain(nodes).copied().chain(OUTSIDE.map(ip));
        let others: Vec<IpAddr> = all.filter(|a| a.is_ipv6() == v6).collect();
        *self.one(&others)
    }

    fn fresh(&mut self, world: &World, number: usize) -> Option<Step> {
        let pods: Vec<&Pod> = world.pods.iter().filter(|p| !p.host_network).collect();
        if pods.is_empty() {
            return None;
        }
        let v6 = self.once_in(2);
        let of = |list: &[IpAddr]| list.iter().copied().find(|a| a.is_ipv6() == v6);
        let mut transport = self.transport(v6);
        let (source, destination) = if self.once_in(2) && !world.services.is_empty() {
            let (to, port, protocol) = self.served(world, v6)?;
            if !self.once_in(8) {
                transport = self.asking_service(port, protocol);
            }
            (of(&self.client(world, &pods))?, to)
        } else {
            let (one, other) = (self.one(&pods).addresses.clone(), self.other(world, &pods));
            let (source, destination) = (of(&one)?, of(&other)?);
            if self.once_in(3) { (destination, source) } else { (source, destination) }
        };
        // The sender must be somebody; an address of nobody only receives.
        let nobody = world.owner(source).is_none()
            && world.nodes.iter().any(|n| n.pod_cidrs.iter().any(|p| p.contains(&source)));
        if nobody || source == destination {
            return None;
        }
        let mut packet = Packet { ip: header(source, destination), transport, payload: Vec::new() };
        self.change().apply(&mut packet);
        let question = self.claim(world, question(source, packet));
        Some(Step::Send { number, question, about: None })
    }

    /// A pod, a node, or somebody outside.
    fn client(&mut self, world: &World, pods: &[&Pod]) -> Vec<IpAddr> {
        match self.below(8) {
            0 => self.one(&world.nodes).addresses.clone(),
            1 | 2 => self.outside(),
            3 if self.once_in(2) => self.one(&world.nodes).health.clone(),
            _ => self.one(pods).addresses.clone(),
        }
    }

    fn outside(&mut self) -> Vec<IpAddr> {
        let mut outside = [*self.one(&OUTSIDE[..4]), *self.one(&OUTSIDE[4..])];
        if self.once_in(12) {
            outside = *self.one(&NOWHERE);
        }
        outside.iter().map(|a| ip(a)).collect()
    }

    /// An address and port that a service listens at.
    fn served(&mut self, world: &World, v6: bool) -> Option<(IpAddr, u16, Protocol)> {
        let service: &Service = self.one(&world.services);
        let port = self.one(&service.ports);
        let nodes: Vec<IpAddr> = world
            .nodes
            .iter()
            .flat_map(|n| &n.addresses)
            .copied()
            .filter(|a| a.is_ipv6() == v6)
            .collect();
        if let Some(node_port) = port.node_port.filter(|_| self.once_in(3) && !nodes.is_empty()) {
            return Some((*self.one(&nodes), node_port, port.protocol));
        }
        let own: Vec<IpAddr> = service.addresses().filter(|a| a.is_ipv6() == v6).collect();
        (!own.is_empty()).then(|| (*self.one(&own), port.port, port.protocol))
    }

    fn asking_service(&mut self, destination: u16, protocol: Protocol) -> Transport {
        let source = self.source_port();
        match protocol {
            Protocol::Udp => Transport::Udp { source, destination },
            Protocol::Sctp => Transport::Sctp { source, destination },
            _ => self.segment(source, destination),
        }
    }

    fn source_port(&mut self) -> u16 {
        *self.one(&[40312, 40312, 40312, 40313, 80, 30080])
    }

    /// Addresses of a pod, a node, its health endpoint, an outside party, or of nobody.
    fn other(&mut self, world: &World, pods: &[&Pod]) -> Vec<IpAddr> {
        match self.below(11) {
            0 => {
                let node = self.one(&world.nodes);
                if self.once_in(2) { node.addresses.clone() } else { node.locals.clone() }
            }
            1..=3 => self.outside(),
            4 if self.once_in(2) => vec![ip("10.1.0.200"), ip("fd00:1::200")],
            4 => self.one(&world.nodes).health.clone(),
            _ => self.one(pods).addresses.clone(),
        }
    }

    /// Rarely, the packet claims another's address.
    fn claim(&mut self, world: &World, mut asked: Box<Question>) -> Box<Question> {
        let (source, destination) = (asked.packet.ip.source, asked.packet.ip.destination);
        let pods = world.pods.iter().flat_map(|p| &p.addresses);
        let all = pods.chain(world.nodes.iter().flat_map(|n| &n.addresses)).copied();
        let all = all.chain(OUTSIDE.map(ip)).filter(|a| a.is_ipv6() == source.is_ipv6());
        let others: Vec<IpAddr> = all.filter(|a| *a != source && *a != destination).collect();
        if self.once_in(16) && !others.is_empty() {
            asked.packet.ip.source = *self.one(&others);
        }
        asked
    }

    fn transport(&mut self, v6: bool) -> Transport {
        let destination = *self.one(&PORTS);
        let source = self.source_port();
        match self.below(8) {
            0..=3 => self.segment(source, destination),
            4 | 5 => Transport::Udp { source, destination },
            6 => Transport::Sctp { source, destination },
            _ => self.message(v6),
        }
    }

    fn segment(&mut self, source: u16, destination: u16) -> Transport {
        let flags = self.flags();
        Transport::Tcp { source, destination, flags, sequence: 1, acknowledgement: 0 }
    }

    fn message(&mut self, v6: bool) -> Transport {
        let kinds: &[u8] = if v6 { &[128, 129, 1, 2, 135] } else { &[8, 0, 13, 14, 3] };
        let kind = *self.one(kinds);
        let echo = if v6 { (128..130).contains(&kind) } else { kind == 8 || kind == 0 };
        let code = if !v6 && kind == 3 { *self.one(&[3, 4]) } else { 0 };
        let identifier = u8::try_from(1 + self.below(2)).expect("small");
        Transport::Icmp { kind, code, rest: if echo { [0, identifier, 0, 1] } else { [0; 4] } }
    }

    fn flags(&mut self) -> TcpFlags {
        let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
        let rest =
            [syn.with(ack), ack, TcpFlags::FIN.with(ack), TcpFlags::RST, TcpFlags::RST.with(ack)];
        if self.once_in(2) { syn } else { *self.one(&rest) }
    }

    /// Rarely, another TTL, a piece of a datagram, or more before the transport.
    fn change(&mut self) -> Change {
        let mut change = Change::default();
        if self.once_in(16) {
            change.ttl = Some(*self.one(&[1, 2]));
        }
        if self.once_in(12) {
            let later = Fragment { offset: 1480, more: self.once_in(2) };
            change.fragment = Some(*self.one(&[Fragment { offset: 0, more: true }, later]));
            change.id = self.once_in(4).then_some(7);
        }
        if self.once_in(16) {
            let kinds: Vec<u8> = extension::NAMES.iter().map(|(_, number)| *number).collect();
            let most = 1 + self.below(4);
            change.extensions = (0..most).map(|_| (*self.one(&kinds), vec![0; 6])).collect();
            change.options = vec![1; 4 * (1 + self.below(10))];
        }
        change
    }
}

/// Addresses that no router sends a packet on to, and two that look like it.
const NOWHERE: [[&str; 2]; 7] = [
    ["127.0.0.1", "::1"],
    ["127.255.255.254", "ff02::fb"],
    ["0.0.0.0", "::"],
    ["224.0.0.251", "ff0e::1"],
    ["239.255.255.255", "fe80::2"],
    ["255.255.255.255", "febf::9"],
    ["169.254.169.254", "fec0::1"],
];

fn header(source: IpAddr, destination: IpAddr) -> IpHeader {
    IpHeader {
        source,
        destination,
        traffic_class: 0,
        ttl: 64,
        id: 0,
        flow_label: 0,
        dont_fragment: false,
        fragment: Fragment::default(),
        options: Vec::new(),
        extensions: Vec::new(),
    }
}
