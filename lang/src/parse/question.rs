//! Questions: parties, ports and packet options.

use engine::diag::Diagnostic;
use engine::net::{self, Protocol, TcpFlags, extension};
use engine::question::Known;

use super::policy::icmp_family;
use super::value::{self, Sink, number, unsupported};
use super::world::address_in;
use super::{Rule, Tree};
use crate::ast::{
    IcmpMessage, Name, PacketOption, PartyKind, PartyName, Port, Question, Spanned, Target,
};
use crate::codes;

pub(super) fn read(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Question> {
    Some(Question {
        source: party(&tree.child(Rule::party)?, sink)?,
        target: target(&tree.child(Rule::target)?, sink)?,
        options: options(tree, sink)?,
        span: tree.span(),
    })
}

pub(super) fn party(tree: &Tree<'_>, sink: Sink<'_>) -> Option<PartyName> {
    let party = tree.only()?;
    let name = || party.child(Rule::name).map(|n| n.text().to_owned());
    let handle = || party.child(Rule::qualified).map(|q| value::qualified(&q).node);
    let kind = match party.rule() {
        Rule::world_party => {
            PartyKind::World(address_in(&party.child(Rule::address_party)?, sink)?.node)
        }
        Rule::address_party => PartyKind::Address(address_in(&party, sink)?.node),
        Rule::pod_party => PartyKind::Pod(handle()?),
        Rule::node_party => PartyKind::Node(name()?),
        Rule::service_party => PartyKind::Service(handle()?),
        Rule::external_party => PartyKind::External(name()?),
        Rule::dns_party => PartyKind::Dns(match value::string_in(&party) {
            Some(quoted) => quoted.node,
            None => name()?,
        }),
        Rule::health_party => PartyKind::Health(name()?),
        Rule::unsupported_party => {
            let word = super::first_word(party.text());
            sink.push(unsupported(&format!("a `{word}` as an endpoint"), party.span()));
            return None;
        }
        _ => PartyKind::Bare(handle()?),
    };
    Some(PartyName { kind, span: party.span() })
}

fn target(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Target> {
    let party = party(&tree.child(Rule::party)?, sink)?;
    let Some(suffix) = tree.child(Rule::port_suffix) else {
        return Some(Target { party, port: None, protocol: None });
    };
    let text = suffix.text().trim_start_matches(':');
    let (port, word) = text.split_once('/').map_or((text, None), |(p, w)| (p, Some(w)));
    let mut span = value::tail(suffix.span(), 1);
    let protocol = match word {
        Some(word) => {
            let span = value::tail(span, port.len() + 1);
            value::protocol(word, span, sink)?.map(|node| Spanned { node, span })
        }
        None => None,
    };
    span.end = span.start + super::offset(port.len());
    let port = Spanned { node: port_of(port, span, sink)?, span };
    Some(Target { party, port: Some(port), protocol })
}

fn port_of(text: &str, span: engine::source::Span, sink: Sink<'_>) -> Option<Port> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Port::Named(text.to_owned()));
    }
    let port = text.parse().ok();
    if port.is_none() {
        sink.push(value::out_of_range(text, "a port", 65_535, span));
    }
    port.map(Port::Number)
}

/// The packet options among a node's children.
pub(super) fn options(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Vec<Spanned<PacketOption>>> {
    tree.all(Rule::packet_option)
        .map(|written| {
            let kind = written.only()?;
            Some(kind.at(option(&kind, sink)?))
        })
        .collect()
}

fn option(tree: &Tree<'_>, sink: Sink<'_>) -> Option<PacketOption> {
    let argument = tree.child(Rule::number);
    let small = |what, sink| number(argument.as_ref()?, what, 65_535, sink);
    Some(match tree.rule() {
        Rule::with_reply => PacketOption::WithReply,
        Rule::known if tree.has(Rule::k_reply) => PacketOption::Known(Known::Reply),
        Rule::known => PacketOption::Known(Known::Established),
        Rule::choose => {
            let pod = value::qualified(&tree.child(Rule::qualified)?);
            PacketOption::Choose(PartyName { kind: PartyKind::Pod(pod.node), span: pod.span })
        }
        Rule::flags => PacketOption::Flags(flags(tree.text())),
        Rule::transport => {
            PacketOption::Protocol(value::protocol(tree.text(), tree.span(), sink)??)
        }
        Rule::icmp_option => icmp(tree, sink)?,
        Rule::echo_id => PacketOption::Id(small("an echo identifier", sink)?),
        Rule::sequence => {
            let most = u64::from(u32::MAX);
            PacketOption::Seq(number(argument.as_ref()?, "a sequence number", most, sink)?)
        }
        Rule::ip_id => PacketOption::IpId(small("an IP identification", sink)?),
        Rule::flow_label => PacketOption::FlowLabel(flow_label(argument.as_ref()?, sink)?),
        Rule::k_df => PacketOption::DontFragment,
        Rule::length => PacketOption::Length(small("an IP length", sink)?),
        Rule::ttl => PacketOption::Ttl(number(argument.as_ref()?, "a TTL", 255, sink)?),
        Rule::mtu => PacketOption::Mtu(mtu(tree, sink)?),
        Rule::from_port => PacketOption::FromPort(small("a port", sink)?),
        Rule::from_ip => PacketOption::FromIp(address_in(tree, sink)?.node),
        Rule::payload => PacketOption::Payload(value::string_in(tree)?.node),
        Rule::hex => PacketOption::Hex(hex(&tree.child(Rule::hex_bytes)?, sink)?),
        Rule::http => http(tree, sink)?,
        Rule::fragment => fragment(tree, sink)?,
        Rule::ip_options => {
            PacketOption::IpOptions(ip_options(&tree.child(Rule::hex_bytes)?, sink)?)
        }
        Rule::extensions => {
            let numbers = tree.all(Rule::extension_name).map(|name| {
                let known = extension::NAMES.iter().find(|(known, _)| *known == name.text());
                known.map(|(_, number)| *number)
            });
            PacketOption::Extensions(numbers.collect::<Option<_>>()?)
        }
        Rule::k_ip4 => PacketOption::Family { v6: false },
        Rule::k_ip6 => PacketOption::Family { v6: true },
        Rule::quoting => match tree.child(Rule::question) {
            Some(quoted) => PacketOption::Quoting(Box::new(read(&quoted, sink)?)),
            None => PacketOption::QuotingLast,
        },
        _ => {
            let word = super::first_word(tree.text());
            let problem = unsupported(&format!("`{word}` in a question"), tree.span());
            sink.push(problem.help(
                "ask about the port alone, or write the bytes that are sent as `payload \"...\"` or `hex ...`",
            ));
            return None;
        }
    })
}

fn http(tree: &Tree<'_>, sink: Sink<'_>) -> Option<PacketOption> {
    let written = tree.child(Rule::http_method)?;
    let method = written.text();
    if !net::http::is_method(method) {
        let message = format!("`{method}` is not a method of HTTP");
        let capital = method.to_ascii_uppercase();
        sink.push(
            Diagnostic::error(codes::SYNTAX, message, written.span())
                .label("methods are written in capital letters")
                .fix(format!("write `{capital}`"), written.span(), capital),
        );
        return None;
    }
    let path = match value::string_in(tree) {
        Some(quoted) => quoted,
        None => tree.child(Rule::http_path)?.name(),
    };
    if !net::http::is_path(&path.node) {
        let message = format!("`{}` is not a path of HTTP", path.node);
        let problem = Diagnostic::error(codes::SYNTAX, message, path.span);
        let rooted = format!("/{}", path.node);
        sink.push(if net::http::is_path(&rooted) {
            problem.fix(format!("write `{rooted}`"), path.span, format!("\"{rooted}\""))
        } else {
            problem.help("a path begins with `/`, and writes `%20` for a space")
        });
        return None;
    }
    Some(PacketOption::Http { method: method.to_owned(), path: path.node })
}

/// A flow label has 20 bits (RFC 8200 6).
pub(super) fn flow_label(digits: &Tree<'_>, sink: Sink<'_>) -> Option<u32> {
    number(digits, "a flow label", 0xF_FFFF, sink)
}

pub(super) fn mtu(tree: &Tree<'_>, sink: Sink<'_>) -> Option<u32> {
    number(&tree.child(Rule::number)?, "an MTU", u64::from(u32::MAX), sink)
}

/// The flag words with their bits, in the order that canonical text has.
pub(crate) const FLAGS: [(&str, TcpFlags); 6] = [
    ("syn", TcpFlags::SYN),
    ("fin", TcpFlags::FIN),
    ("rst", TcpFlags::RST),
    ("psh", TcpFlags::PSH),
    ("urg", TcpFlags::URG),
    ("ack", TcpFlags::ACK),
];

pub(super) fn flags(text: &str) -> TcpFlags {
    let bit = |word: &str| FLAGS.iter().find(|(name, _)| *name == word).map(|(_, bit)| *bit);
    text.split('-').filter_map(bit).fold(TcpFlags::default(), TcpFlags::with)
}

pub(super) fn icmp(tree: &Tree<'_>, sink: Sink<'_>) -> Option<PacketOption> {
    let family: Protocol = icmp_family(tree);
    let Some(written) = tree.child(Rule::icmp_message) else {
        return Some(PacketOption::Icmp { family, message: None });
    };
    let text = written.text();
    let (kind, code) = text.split_once('/').map_or((text, None), |(k, c)| (k, Some(c)));
    let mut span = written.span();
    span.end = span.start + super::offset(kind.len());
    let code = match code.map(str::parse::<u8>) {
        None => None,
        Some(Ok(code)) => Some(code),
        Some(Err(_)) => {
            let span = value::tail(written.span(), kind.len() + 1);
            sink.push(value::out_of_range(code.unwrap_or(""), "an ICMP code", 255, span));
            return None;
        }
    };
    let message = IcmpMessage { kind: Name { node: kind.to_owned(), span }, code };
    Some(PacketOption::Icmp { family, message: Some(message) })
}

pub(super) fn hex(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Vec<u8>> {
    let text = tree.text();
    let byte = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    if bytes.is_none() {
        let message = format!("`{text}` has an odd number of hex digits");
        sink.push(
            Diagnostic::error(codes::BAD_NUMBER, message, tree.span())
                .help("two digits make a byte"),
        );
    }
    bytes
}

/// An IPv4 header has room for 40 bytes of options (RFC 791 3.1).
pub(super) fn ip_options(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Vec<u8>> {
    const MOST: usize = 40;
    let bytes = hex(tree, sink)?;
    if bytes.len() > MOST {
        let message = format!("{} bytes of options do not fit an IPv4 header", bytes.len());
        sink.push(
            Diagnostic::error(codes::BAD_NUMBER, message, tree.span())
                .label(format!("at most {MOST} bytes")),
        );
        return None;
    }
    Some(bytes)
}

pub(super) fn fragment(tree: &Tree<'_>, sink: Sink<'_>) -> Option<PacketOption> {
    let more = tree.has(Rule::k_more);
    let offset = match tree.child(Rule::fragment_offset) {
        Some(written) => {
            let digits = written.child(Rule::number)?;
            let offset: u16 = number(&digits, "a fragment offset", 65_528, sink)?;
            if !offset.is_multiple_of(8) {
                let message = format!("`{offset}` is not a fragment offset");
                sink.push(
                    Diagnostic::error(codes::BAD_NUMBER, message, digits.span())
                        .label("must be a multiple of 8")
                        .fix(
                            "take a multiple of 8",
                            digits.span(),
                            (offset / 8 * 8).max(8).to_string(),
                        ),
                );
                return None;
            }
            offset
        }
        None => 0,
    };
    if offset == 0 && !more {
        let message = "`fragment` without an offset or `more` is a whole packet";
        sink.push(Diagnostic::error(codes::SYNTAX, message, tree.span()).help(
            "write `fragment more` for the first one, `fragment offset 1480` for a later one",
        ));
        return None;
    }
    Some(PacketOption::Fragment { offset, more })
}
