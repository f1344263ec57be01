//! Which packets of others a question is about: what it says of a packet, held against one that was seen. Who sends and receives is the
//! filter's of `monitor`.

use engine::diag::Diagnostic;
use engine::net::{Fragment, Packet, Protocol, TcpFlags, Transport};
use engine::question::Question;
use engine::topology::{Party, Service, World};
use lang::ast::{self, PacketOption, Port, Spanned};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Kind {
    /// The transport; `None`: any.
    protocol: Option<Protocol>,
    /// The question's packet, and what of it was said.
    said: Option<(Packet, Vec<PacketOption>)>,
    /// The service that is asked for.
    pub(super) service: Option<String>,
}

impl Kind {
    /// All packets of a transport.
    pub(super) fn of_all(protocol: Protocol) -> Self {
        Self { protocol: Some(protocol), ..Self::default() }
    }

    /// A question as it can be understood where packets of others are meant: a protocol without a port is any port of it.
    pub(super) fn open(asked: &ast::Question) -> ast::Question {
        let mut asked = asked.clone();
        let has_ports = |option: &PacketOption| match option {
            PacketOption::Protocol(protocol) => protocol.has_ports(),
            PacketOption::Flags(_) => true,
            _ => false,
        };
        let is_later =
            |option: &PacketOption| matches!(option, PacketOption::Fragment { offset: 1.., .. });
        let any = |is_it: &dyn Fn(&PacketOption) -> bool| {
            asked.options.iter().any(|option| is_it(&option.node))
        };
        if asked.target.port.is_none() && any(&has_ports) && !any(&is_later) {
            let span = asked.target.party.span;
            asked.target.port = Some(Spanned { node: Port::Number(0), span });
        }
        asked
    }

    /// What a question says of packets.
    ///
    /// # Errors
    /// Where it says what packets are not told apart by.
    pub(super) fn of(
        asked: &ast::Question,
        question: &Question,
        world: &World,
    ) -> Result<Self, Diagnostic> {
        if let Some(odd) = asked.options.iter().find(|option| !is_looked_at(&option.node)) {
            let message = "packets of others are not told apart by this";
            let problem = Diagnostic::error(lang::codes::COMMAND_ARGUMENT, message, odd.span);
            return Err(problem.help("leave it out"));
        }
        let protocol = question.packet.protocol();
        let names_it = |option: &Spanned<PacketOption>| {
            use PacketOption::{Flags, Icmp, Id, Protocol, Seq};
            matches!(option.node, Flags(_) | Icmp { .. } | Id(_) | Protocol(_) | Seq(_))
        };
        let is_named = asked.target.port.is_some() || asked.options.iter().any(names_it);
        let is_echo = matches!(question.packet.transport, Transport::Icmp { .. });
        let options = asked.options.iter().map(|option| option.node.clone()).collect();
        let service = match question.destination {
            Party::Service(id) => world.service(id).map(Service::qualified),
            _ => None,
        };
        Ok(Self {
            protocol: (is_named || !is_echo).then_some(protocol),
            said: Some((question.packet.clone(), options)),
            service,
        })
    }

    /// Whether a transport is the one that is asked for. `icmp` is that of both families.
    pub(super) fn is_of(&self, protocol: Option<Protocol>) -> bool {
        let is_icmp = |protocol| matches!(protocol, Protocol::Icmp | Protocol::Icmpv6);
        self.protocol.is_none_or(|asked| {
            protocol.is_some_and(|own| own == asked || (is_icmp(own) && is_icmp(asked)))
        })
    }

    /// Whether a packet is as the question says, at the first program that saw it.
    pub(super) fn admits(&self, seen: &Packet) -> bool {
        self.said.as_ref().is_none_or(|(asked, options)| {
            options.iter().all(|option| is_same(option, asked, seen))
        })
    }

    /// Whether there is anything that a packet has to be like.
    pub(super) fn is_particular(&self) -> bool {
        self.said.as_ref().is_some_and(|(_, options)| !options.is_empty())
    }

    /// In words.
    pub(super) fn words(&self) -> String {
        self.protocol.map_or_else(|| "any packet".to_owned(), |protocol| protocol.to_string())
    }
}

/// Whether packets are told apart by an option of a question.
fn is_looked_at(option: &PacketOption) -> bool {
    match option {
        PacketOption::Flags(_)
        | PacketOption::Protocol(_)
        | PacketOption::Icmp { .. }
        | PacketOption::Id(_)
        | PacketOption::Seq(_)
        | PacketOption::IpId(_)
        | PacketOption::FlowLabel(_)
        | PacketOption::DontFragment
        | PacketOption::Ttl(_)
        | PacketOption::FromPort(_)
        | PacketOption::Fragment { .. }
        | PacketOption::Family { .. }
        | PacketOption::Http { .. } => true,
        PacketOption::Length(_)
        | PacketOption::Mtu(_)
        | PacketOption::FromIp(_)
        | PacketOption::Payload(_)
        | PacketOption::Hex(_)
        | PacketOption::IpOptions(_)
        | PacketOption::Extensions(_)
        | PacketOption::Quoting(_)
        | PacketOption::QuotingLast
        | PacketOption::WithReply
        | PacketOption::Known(_)
        | PacketOption::Choose(_) => false,
    }
}

fn is_same(option: &PacketOption, asked: &Packet, seen: &Packet) -> bool {
    let (wanted, own) = (&asked.ip, &seen.ip);
    match option {
        PacketOption::Flags(_) => flags(asked) == flags(seen),
        PacketOption::Icmp { message: Some(_), .. } => message(asked) == message(seen),
        PacketOption::Id(id) => echo(seen).is_some_and(|(own, _)| own == *id),
        PacketOption::Seq(number) => sequence(seen) == Some(*number),
        PacketOption::IpId(_) => wanted.id == own.id,
        PacketOption::FlowLabel(_) => wanted.flow_label == own.flow_label,
        PacketOption::DontFragment => own.dont_fragment,
        PacketOption::Ttl(_) => wanted.ttl == own.ttl,
        PacketOption::FromPort(port) => seen.transport.ports().0 == *port,
        PacketOption::Fragment { offset, more } => {
            own.fragment == Fragment { offset: *offset, more: *more }
        }
        PacketOption::Family { v6 } => own.source.is_ipv6() == *v6,
        _ => true,
    }
}

/// The flags that say what a packet of TCP is for; that data is to be pushed, or that a way is crowded, makes it no other.
fn flags(packet: &Packet) -> Option<u8> {
    let [fin, syn, rst, ack] = [TcpFlags::FIN, TcpFlags::SYN, TcpFlags::RST, TcpFlags::ACK];
    let all = fin.with(syn).with(rst).with(ack);
    match packet.transport {
        Transport::Tcp { flags, .. } => Some(flags.0 & all.0),
        _ => None,
    }
}

fn message(packet: &Packet) -> Option<(u8, u8)> {
    match packet.transport {
        Transport::Icmp { kind, code, .. } => Some((kind, code)),
        _ => None,
    }
}

/// Identifier and sequence number of an echo.
fn echo(packet: &Packet) -> Option<(u16, u16)> {
    match packet.transport {
        Transport::Icmp { rest: [a, b, c, d], .. } => {
            Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
        }
        _ => None,
    }
}

fn sequence(packet: &Packet) -> Option<u32> {
    match packet.transport {
        Transport::Tcp { sequence, .. } => Some(sequence),
        _ => echo(packet).map(|(_, sequence)| sequence.into()),
    }
}

#[cfg(test)]
mod tests {
    use engine::source::SourceMap;

    use super::*;

    const WORLD: &str =
        "cluster c { node n { ip 192.168.1.1, fd00:9::1 pods 10.1.0.0/24, fd00:1::/64 } }
namespace a {}
pod a/x on n { ip 10.1.0.10, fd00:1::10 }
pod a/y on n { ip 10.1.0.11, fd00:1::11 }
";

    fn asked(text: &str) -> (World, ast::Question) {
        let mut sources = SourceMap::default();
        let entry = [("c.hop".to_owned(), WORLD.to_owned())];
        let loaded = lang::load(&entry, &mut lang::NoIncludes, &mut sources);
        let file = sources.add("question", text);
        (loaded.world, lang::command::parse_question(text, file).unwrap())
    }

    /// The kind that a question is about.
    fn kind(text: &str) -> Result<Kind, Diagnostic> {
        let (world, asked) = asked(text);
        let question = lang::resolve::question(&world, &Kind::open(&asked)).unwrap();
        Kind::of(&asked, &question, &world)
    }

    fn packet(text: &str) -> Packet {
        let (world, asked) = asked(text);
        lang::resolve::question(&world, &asked).unwrap().packet
    }

    #[test]
    fn packets_are_told_apart_by_what_a_question_says_of_them() {
        for (question, like, unlike) in [
            ("x -> y:80", "x -> y:80 from-port 7 ack", "x -> y:80/udp"),
            ("x -> y:80 syn", "x -> y:80 syn", "x -> y:80 syn-ack"),
            ("x -> y tcp", "x -> y:81", "x -> y:81/udp"),
            ("x -> y syn-ack", "x -> y:81 syn-ack", "x -> y:81 ack"),
            ("x -> y icmp", "x -> y icmp time-exceeded", "x -> y:7"),
            ("x -> y icmp", "x -> y icmpv6", "x -> y:7/udp"),
            ("x -> y icmp echo", "x -> y icmp echo", "x -> y icmp time-exceeded"),
            ("x -> y icmp id 7", "x -> y icmp id 7 seq 3", "x -> y icmp id 8"),
            ("x -> y:80 seq 9", "x -> y:80 seq 9", "x -> y:80 seq 8"),
            ("x -> y:80 from-port 7", "x -> y:80 from-port 7", "x -> y:80 from-port 8"),
            ("x -> y:80 ip-id 7", "x -> y:80 ip-id 7", "x -> y:80"),
            ("x -> y:80 ttl 7", "x -> y:80 ttl 7", "x -> y:80"),
            ("x -> y:80 df", "x -> y:80 df", "x -> y:80"),
            ("x -> y:80 ip6", "x -> y:80 ip6", "x -> y:80"),
            ("x -> y:80 flow-label 7", "x -> y:80 flow-label 7", "x -> y:80 ip6"),
            ("x -> y udp fragment more", "x -> y:9/udp fragment more", "x -> y:9/udp"),
        ] {
            let kind = kind(question).unwrap();
            let is_it = |text: &str| {
                let packet = packet(text);
                kind.is_of(Some(packet.protocol())) && kind.admits(&packet)
            };
            assert!(is_it(like) && !is_it(unlike), "{question}");
        }
    }

    #[test]
    fn two_names_alone_mean_any_packet_between_them() {
        let any = kind("x -> y").unwrap();
        for text in ["x -> y:80", "x -> y:53/udp", "x -> y icmp", "x -> y icmpv6"] {
            let packet = packet(text);
            assert!(any.is_of(Some(packet.protocol())) && any.admits(&packet), "{text}");
        }
        assert_eq!(any.words(), "any packet");
    }

    #[test]
    fn what_packets_are_not_told_apart_by_is_refused() {
        for text in [
            "x -> y:80 length 60",
            "x -> y:80 payload \"x\"",
            "x -> y:80 from-ip 10.9.9.9",
            "x -> y:80 with reply",
            "x -> y:80 with conntrack established",
            "x -> y:80 ip-options 94040000",
        ] {
            let refused = kind(text).unwrap_err();
            assert!(refused.message.contains("not told apart"), "{text}: {refused:?}");
        }
    }
}
