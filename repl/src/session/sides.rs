//! One flow as each of its sides sees it: addresses and ports differ where a service, a node port or masquerading stands
//! between them. Owns the step from one view to the other; what is translated to what is read from an answer.

use engine::explain::{Explanation, ends};
use engine::net::{Packet, Transport};
use engine::question::{self, Question};
use engine::topology::{Party, World};
use engine::trace::Place;
use engine::verdict::Verdict;

/// Sender and receiver.
pub(crate) type Pair = (Place, Place);

/// A flow's two views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// As the side that asked sent it.
    near: Pair,
    /// As the other side got it.
    far: Pair,
}

impl Sides {
    /// The views of a packet that got through; `None` for one that did not, or whose bytes say nothing of it.
    pub(crate) fn of(packet: &Packet, answer: &Explanation) -> Option<Self> {
        if answer.verdict != Verdict::Allowed {
            return None;
        }
        let arrived = ends(&answer.hops.last()?.frame)?;
        let (mut source, mut destination) = (arrived.source, arrived.destination);
        let near = pair(packet);
        if !arrived.has_ports {
            (source.port, destination.port) = (near.0.port, near.1.port);
        }
        Some(Self { near, far: (source, destination) })
    }

    /// The views of a packet that arrived so. What has no ports of its own keeps those that it was sent with.
    #[must_use]
    pub fn arrived(packet: &Packet, (mut source, mut destination): (Place, Place)) -> Self {
        let near = pair(packet);
        if !packet.protocol().has_ports() && !is_echo(packet) {
            (source.port, destination.port) = (near.0.port, near.1.port);
        }
        Self { near, far: (source, destination) }
    }

    /// A packet of the flow as the far side sees it.
    #[must_use]
    pub fn far(&self, packet: &Packet) -> Packet {
        translated(packet, self.near, self.far)
    }

    /// A packet of the flow as the near side sees it.
    #[must_use]
    pub fn near(&self, packet: &Packet) -> Packet {
        translated(packet, self.far, self.near)
    }

    /// A packet of the flow as its own sender sees it, seen in either view or in one on the way between them.
    pub(crate) fn sent(&self, packet: &Packet, between: &[Pair], is_forward: bool) -> Packet {
        let to = if is_forward { self.near } else { self.far };
        let views = [self.near, self.far].into_iter().chain(between.iter().copied());
        let mut sent = views.map(|view| translated(packet, view, to));
        sent.find(|sent| sent != packet).unwrap_or_else(|| packet.clone())
    }

    /// Whether the views differ.
    #[must_use]
    pub(crate) fn is_translated(&self) -> bool {
        self.near != self.far
    }

    /// Whether a packet with these places is of the near side, in either view.
    pub(crate) fn is_from_near(&self, source: Place, destination: Place) -> bool {
        [self.near, self.far].contains(&(source, destination))
    }

    /// Who answers, and to whom, as the far side sees it: the parties of the question unless they were translated.
    #[must_use]
    pub fn parties(&self, world: &World, source: Party, destination: Party) -> (Party, Party) {
        let who = |asked: Party, near: Place, far: Place| {
            if near.address == far.address {
                return asked;
            }
            world.owner(far.address).unwrap_or(Party::Address(far.address))
        };
        (who(destination, self.near.1, self.far.1), who(source, self.near.0, self.far.0))
    }
}

/// The natural answer, from whoever got the packet.
pub(crate) fn reply_to(world: &World, asked: &Question, sides: &Sides) -> Question {
    let (source, destination) = sides.parties(world, asked.source, asked.destination);
    let packet = question::reply(&sides.far(&asked.packet));
    let undetermined = asked.undetermined.clone();
    Question { undetermined, ..Question::of(source, destination, packet) }
}

/// The places of a packet; an echo's identifier is the port of both, and a later fragment's ports are its datagram's.
fn pair(packet: &Packet) -> Pair {
    let (source, destination) = match packet.transport {
        Transport::Icmp { rest: [high, low, ..], .. } => {
            let identifier = u16::from_be_bytes([high, low]);
            (identifier, identifier)
        }
        _ => packet.transport.ports(),
    };
    let place = |address, port| Place { address, port };
    (place(packet.ip.source, source), place(packet.ip.destination, destination))
}

/// The packet with its places replaced, whichever side it comes from; as it is where it is of another flow. An ICMP error has
/// no ports, and what it quotes is the caller's.
fn translated(packet: &Packet, from: Pair, to: Pair) -> Packet {
    let (source, destination) = pair(packet);
    let has_ports = packet.protocol().has_ports() || is_echo(packet);
    let same = |one: Place, other: Place| {
        one.address == other.address && (!has_ports || one.port == other.port)
    };
    let (source, destination) = if same(source, from.0) && same(destination, from.1) {
        to
    } else if same(source, from.1) && same(destination, from.0) {
        (to.1, to.0)
    } else {
        return packet.clone();
    };
    let mut packet = packet.clone();
    packet.ip.source = source.address;
    packet.ip.destination = destination.address;
    let echo = is_echo(&packet);
    match &mut packet.transport {
        Transport::Tcp { source: from, destination: to, .. }
        | Transport::Udp { source: from, destination: to }
        | Transport::Sctp { source: from, destination: to } => {
            (*from, *to) = (source.port, destination.port);
        }
        Transport::Icmp { rest, .. } if echo => {
            let [high, low] = source.port.to_be_bytes();
            (rest[0], rest[1]) = (high, low);
        }
        Transport::Icmp { .. } | Transport::Other { .. } => {}
    }
    packet
}

fn is_echo(packet: &Packet) -> bool {
    use engine::net::icmp;
    let echoes = if packet.ip.source.is_ipv6() {
        [icmp::V6_ECHO_REQUEST, icmp::V6_ECHO_REPLY]
    } else {
        [icmp::ECHO_REQUEST, icmp::ECHO_REPLY]
    };
    packet.icmp().is_some_and(|(kind, _)| echoes.contains(&kind))
}

#[cfg(test)]
mod tests {
    use engine::net::{Fragment, IpHeader, TcpFlags};
    use engine::question::FollowUp;

    use super::*;

    fn place(text: &str) -> Place {
        let place: std::net::SocketAddr = text.parse().unwrap();
        Place { address: place.ip(), port: place.port() }
    }

    fn packet(source: &str, destination: &str) -> Packet {
        let (from, to) = (place(source), place(destination));
        Packet {
            ip: IpHeader {
                source: from.address,
                destination: to.address,
                traffic_class: 0,
                ttl: 64,
                id: 0,
                flow_label: 0,
                dont_fragment: false,
                fragment: Fragment::default(),
                options: Vec::new(),
                extensions: Vec::new(),
            },
            transport: Transport::Tcp {
                source: from.port,
                destination: to.port,
                flags: TcpFlags::SYN,
                sequence: 1,
                acknowledgement: 0,
            },
            payload: Vec::new(),
        }
    }

    fn served() -> Sides {
        let client = place("10.244.1.154:40312");
        Sides { near: (client, place("10.96.0.20:80")), far: (client, place("10.244.6.11:8080")) }
    }

    #[test]
    fn a_backend_answers_from_its_own_address() {
        let sides = served();
        let asked = packet("10.244.1.154:40312", "10.96.0.20:80");
        let answer = question::reply(&sides.far(&asked));
        assert_eq!(pair(&answer), (sides.far.1, sides.far.0));
        let seen = sides.near(&answer);
        assert_eq!(pair(&seen), (sides.near.1, sides.near.0), "the client sees the service");
        assert_eq!(sides.far(&seen), answer, "and back");
    }

    #[test]
    fn pieces_of_a_datagram_are_of_the_flow() {
        let sides = served();
        let mut piece = packet("10.244.1.154:40312", "10.96.0.20:80");
        piece.ip.fragment = Fragment { offset: 1480, more: false };
        let got = sides.far(&piece);
        assert_eq!(pair(&got), sides.far);
        assert_eq!(sides.near(&got), piece);
    }

    #[test]
    fn an_error_quotes_what_its_sender_got() {
        let sides = served();
        let asked = packet("10.244.1.154:40312", "10.96.0.20:80");
        let got = sides.far(&asked);
        let error = FollowUp {
            reply: true,
            flags: None,
            error: Some((3, 3)),
            change: question::Change::default(),
        };
        let error = question::follow_up(&got, &got, &error);
        assert_eq!(error.ip.source, sides.far.1.address);
        assert_eq!(error.payload, question::quote(&got));
        let seen = sides.near(&error);
        assert_eq!(seen.ip.source, sides.near.1.address);
    }

    #[test]
    fn packets_of_other_flows_stay() {
        let other = packet("10.244.1.154:40313", "10.96.0.20:80");
        assert_eq!(served().far(&other), other);
    }

    #[test]
    fn parties_are_the_asked_ones_unless_translated() {
        let (client, service) = (
            Party::Address(place("1.1.1.1:1").address),
            Party::Address(place("2.2.2.2:2").address),
        );
        let sides = served();
        let (answers, to) = sides.parties(&World::default(), client, service);
        assert_eq!((answers, to), (Party::Address(sides.far.1.address), client));
    }
}
