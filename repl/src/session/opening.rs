//! The packets that open a flow before the one that is asked about (`with conntrack established`). Owns which they are and
//! what the answer says of them; sending is `journey`'s.

use engine::explain::{Explanation, Undecided};
use engine::net::{Fragment, IpHeader, Packet, TcpFlags, Transport, icmp};
use engine::question::{self, DEFAULT_TTL, Known, Question};
use engine::topology::World;
use engine::trace::{CtState, Event, Trace};
use engine::verdict::Verdict;

/// A packet of a flow's opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Of the side that opens.
    Opener,
    /// The other side's answer.
    Answerer,
}

/// The question of the side that opens: with the flow's first packet, and nothing else that was asked.
pub(super) fn first(asked: &Question, known: Known) -> Question {
    let (source, destination, like) = match known {
        Known::Established | Known::Connected => {
            (asked.source, asked.destination, asked.packet.clone())
        }
        Known::Reply => (asked.destination, asked.source, question::reply(&asked.packet)),
    };
    Question {
        source,
        destination,
        packet: begun(&like),
        with_reply: false,
        choose: asked.choose,
        known: None,
        assumed: asked.assumed.clone(),
        undetermined: asked.undetermined.clone(),
    }
}

/// The plain first packet of a flow that another packet belongs to.
fn begun(like: &Packet) -> Packet {
    let ip = IpHeader {
        source: like.ip.source,
        destination: like.ip.destination,
        traffic_class: like.ip.traffic_class,
        ttl: DEFAULT_TTL,
        id: 0,
        flow_label: 0,
        dont_fragment: false,
        fragment: Fragment::default(),
        options: Vec::new(),
        extensions: Vec::new(),
    };
    let request = if like.ip.source.is_ipv6() { icmp::V6_ECHO_REQUEST } else { icmp::ECHO_REQUEST };
    let transport = match like.transport.clone() {
        Transport::Tcp { source, destination, .. } => Transport::Tcp {
            source,
            destination,
            flags: TcpFlags::SYN,
            sequence: 1,
            acknowledgement: 0,
        },
        Transport::Icmp { code, rest, .. } => Transport::Icmp { kind: request, code, rest },
        other => other,
    };
    Packet { ip, transport, payload: Vec::new() }
}

/// Whose packets come after the first one and before the one that is asked about.
pub(super) fn rest(asked: &Question, known: Known) -> &'static [Turn] {
    match (known, &asked.packet.transport) {
        (Known::Established, _) => &[Turn::Answerer],
        (Known::Connected, _) => &[Turn::Answerer, Turn::Opener],
        // An answer that comes later than the SYN-ACK follows a handshake.
        (Known::Reply, Transport::Tcp { flags, .. }) if !flags.contains(TcpFlags::SYN) => {
            &[Turn::Answerer, Turn::Opener]
        }
        (Known::Reply, _) => &[],
    }
}

/// What the answer takes for granted.
pub(super) fn assumed(asked: &Question, known: Known) -> String {
    let is_tcp = matches!(asked.packet.transport, Transport::Tcp { .. });
    match (known, is_tcp, rest(asked, known).len()) {
        (Known::Established, true, _) => {
            "conntrack established: SYN and SYN-ACK were let through first"
        }
        (Known::Established, false, _) => {
            "conntrack established: a request and its answer were let through first"
        }
        (Known::Connected, ..) => {
            "the connection was opened first: SYN, SYN-ACK and ACK got through"
        }
        (Known::Reply, true, 0) => "conntrack reply: the receiver's SYN was let through first",
        (Known::Reply, true, _) => {
            "conntrack reply: the receiver's SYN, the SYN-ACK and an ACK were let through first"
        }
        (Known::Reply, false, _) => "conntrack reply: the receiver's request was let through first",
    }
    .to_owned()
}

/// That the answer which was asked about is none to the flow that was opened for it.
pub(super) fn unmatched(known: Option<Known>, world: &World, trace: &Trace) -> Option<String> {
    let states = trace.hops.iter().flat_map(|hop| {
        let states = hop.events.iter().filter_map(|said| match said.event {
            Event::Conntrack { state, .. } => Some(state),
            _ => None,
        });
        states.map(|state| (hop.node, state))
    });
    let states: Vec<_> = states.filter(|_| known == Some(Known::Reply)).collect();
    if states.iter().any(|(_, state)| *state != CtState::New) {
        return None;
    }
    let node = world.node(states.first()?.0)?;
    Some(format!("the answer does not match that flow: {} takes it for a new one", node.name))
}

/// The answer where an opening packet did not get through: it shows that packet, and decides nothing. What connects as a part of what is
/// asked is decided by that packet, where it is dropped.
pub(super) fn refused(mut answer: Explanation, known: Known) -> Explanation {
    if known == Known::Connected && answer.verdict != Verdict::Allowed {
        answer.assumed.push("the request was not sent: its connection is not opened".to_owned());
        return answer;
    }
    answer.verdict = Verdict::Undecided;
    answer.undecided = Some(Undecided::NotOpened);
    answer.reason = None;
    answer.dropped_at = None;
    answer
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use engine::topology::Party;

    use super::*;

    fn asked(transport: Transport) -> Question {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (from, to) = (address("10.0.0.1"), address("10.0.0.2"));
        let ip = IpHeader {
            source: from,
            destination: to,
            traffic_class: 0,
            ttl: 3,
            id: 9,
            flow_label: 0,
            dont_fragment: true,
            fragment: Fragment::default(),
            options: vec![1; 4],
            extensions: Vec::new(),
        };
        Question {
            source: Party::Address(from),
            destination: Party::Address(to),
            packet: Packet { ip, transport, payload: vec![7] },
            with_reply: true,
            choose: None,
            known: None,
            assumed: Vec::new(),
            undetermined: Vec::new(),
        }
    }

    fn tcp(flags: TcpFlags) -> Question {
        asked(Transport::Tcp {
            source: 40312,
            destination: 80,
            flags,
            sequence: 5,
            acknowledgement: 6,
        })
    }

    #[test]
    fn the_opener_begins_with_a_plain_first_packet() {
        let first = first(&tcp(TcpFlags::ACK), Known::Established);
        assert_eq!(first.packet.ports(), (40312, 80));
        let flags = match first.packet.transport {
            Transport::Tcp { flags, .. } => flags,
            _ => TcpFlags::default(),
        };
        assert_eq!(flags, TcpFlags::SYN);
        assert_eq!((first.packet.ip.ttl, first.packet.payload.len()), (DEFAULT_TTL, 0));
        assert!(!first.with_reply);
    }

    #[test]
    fn of_a_reply_the_receiver_opened() {
        let question = tcp(TcpFlags::SYN.with(TcpFlags::ACK));
        let first = first(&question, Known::Reply);
        assert_eq!((first.source, first.packet.ports()), (question.destination, (80, 40312)));
        assert!(rest(&question, Known::Reply).is_empty());
        let later = tcp(TcpFlags::ACK);
        assert_eq!(rest(&later, Known::Reply), [Turn::Answerer, Turn::Opener]);
        let echo = asked(Transport::Icmp { kind: icmp::ECHO_REPLY, code: 0, rest: [0, 1, 0, 1] });
        let first = super::first(&echo, Known::Reply);
        assert_eq!(first.packet.icmp(), Some((icmp::ECHO_REQUEST, 0)));
        assert!(rest(&echo, Known::Reply).is_empty());
    }
}
