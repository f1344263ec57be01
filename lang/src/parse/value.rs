//! The smallest values: numbers, addresses, prefixes, strings, protocols. The grammar admits their shape;
//! here their value is checked, each with a message of its own.

use std::net::IpAddr;

use engine::diag::Diagnostic;
use engine::net::{Direction, Mac, Protocol};
use engine::source::Span;
use ipnet::IpNet;

use super::{Rule, Tree};
use crate::ast::{Name, Qualified, Spanned};
use crate::codes;

/// Where problems go.
pub(super) type Sink<'a> = &'a mut Vec<Diagnostic>;

/// A construct of the language that is not built yet.
pub(crate) fn unsupported(construct: &str, span: Span) -> Diagnostic {
    Diagnostic::error(codes::UNSUPPORTED, format!("{construct} is not supported yet"), span)
        .note("nothing is ignored: remove it, or wait for the release that has it")
}

/// A number within bounds.
pub(super) fn number<T>(tree: &Tree<'_>, what: &str, max: u64, sink: Sink<'_>) -> Option<T>
where
    T: TryFrom<u64>,
{
    let value = tree.text().parse::<u64>().ok().filter(|n| *n <= max);
    let value = value.and_then(|n| T::try_from(n).ok());
    if value.is_none() {
        sink.push(out_of_range(tree.text(), what, max, tree.span()));
    }
    value
}

pub(super) fn out_of_range(text: &str, what: &str, max: u64, span: Span) -> Diagnostic {
    Diagnostic::error(codes::BAD_NUMBER, format!("`{text}` is not {what}"), span)
        .label(format!("must be at most {max}"))
}

pub(super) fn address(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Spanned<IpAddr>> {
    match tree.text().parse() {
        Ok(address) => Some(tree.at(address)),
        Err(_) => {
            sink.push(bad_address(tree.text(), tree.span()));
            None
        }
    }
}

fn bad_address(text: &str, span: Span) -> Diagnostic {
    let help = if text.contains(':') {
        "IPv6 is up to eight groups of four hex digits, with at most one `::`"
    } else {
        "IPv4 is four numbers from 0 to 255, without leading zeros"
    };
    Diagnostic::error(codes::BAD_ADDRESS, format!("`{text}` is not an address"), span).help(help)
}

/// A prefix as written: host bits are kept, so that `lower` can say what is wrong with them. A bare address
/// is the prefix that holds only it.
pub(super) fn prefix(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Spanned<IpNet>> {
    let text = tree.text();
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let Ok(address) = address.parse::<IpAddr>() else {
        sink.push(bad_address(address, tree.span()));
        return None;
    };
    let longest = if address.is_ipv6() { 128 } else { 32 };
    let length = length.map_or(Ok(longest), str::parse);
    match length.ok().and_then(|length| IpNet::new(address, length).ok()) {
        Some(net) => Some(tree.at(net)),
        None => {
            let message = format!("`{text}` is not a prefix");
            sink.push(
                Diagnostic::error(codes::BAD_ADDRESS, message, tree.span())
                    .help(format!("the length goes from 0 to {longest}")),
            );
            None
        }
    }
}

/// The prefixes among a node's children.
pub(super) fn prefixes(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Vec<Spanned<IpNet>>> {
    let list = tree.child(Rule::cidr_list).or_else(|| tree.child(Rule::excepts));
    let written = list.iter().flat_map(|list| list.all(Rule::cidr));
    written.map(|c| prefix(&c, sink)).collect()
}

/// `80`, `80/tcp`: a port that something has, and its protocol where one is written.
pub(super) fn port_number(
    written: &Tree<'_>,
    sink: Sink<'_>,
) -> Option<(Spanned<u16>, Option<Protocol>)> {
    let (digits, protocol) = match written.text().split_once('/') {
        Some((digits, word)) => {
            (digits, protocol(word, tail(written.span(), digits.len() + 1), sink)?)
        }
        None => (written.text(), None),
    };
    let span = part(written.span(), 0, digits.len());
    let Some(port) = digits.parse::<u16>().ok().filter(|p| *p > 0) else {
        let message = format!("`{digits}` is not a port");
        sink.push(
            Diagnostic::error(codes::BAD_NUMBER, message, span).label("must be from 1 to 65535"),
        );
        return None;
    };
    Some((written.at(port), protocol))
}

/// `61s`, `3h`: the number and its unit.
pub(super) fn duration(written: &Tree<'_>, sink: Sink<'_>) -> Option<(u32, char)> {
    let text = written.text();
    let unit = text.chars().next_back()?;
    let digits = text.trim_end_matches(unit);
    match digits.parse() {
        Ok(amount) => Some((amount, unit)),
        Err(_) => {
            sink.push(out_of_range(digits, "a time", u64::from(u32::MAX), written.span()));
            None
        }
    }
}

/// How many seconds a duration is.
pub(crate) fn seconds(amount: u32, unit: char) -> u64 {
    let factor = match unit {
        'h' => 3600,
        'm' => 60,
        _ => 1,
    };
    u64::from(amount) * factor
}

/// A number within bounds that is not 0.
pub(super) fn positive<T>(tree: &Tree<'_>, what: &str, max: u64, sink: Sink<'_>) -> Option<T>
where
    T: TryFrom<u64>,
{
    let value = tree.text().parse::<u64>().ok().filter(|n| (1..=max).contains(n));
    let value = value.and_then(|n| T::try_from(n).ok());
    if value.is_none() {
        let message = format!("`{}` is not {what}", tree.text());
        let diagnostic = Diagnostic::error(codes::BAD_NUMBER, message, tree.span());
        sink.push(diagnostic.label(format!("must be from 1 to {max}")));
    }
    value
}

/// Addresses that a party of the world has.
pub(super) fn addresses(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Vec<Spanned<IpAddr>>> {
    let list = tree.child(Rule::address_list)?;
    list.all(Rule::address).map(|a| hosts(&a, sink)).collect()
}

/// An address that one host can have.
fn hosts(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Spanned<IpAddr>> {
    let found = address(tree, sink)?;
    let is_broadcast = matches!(found.node, IpAddr::V4(v4) if v4.is_broadcast());
    let kind = match found.node {
        ip if ip.is_unspecified() => "stands for no address at all",
        ip if ip.is_multicast() => "is a group's",
        ip if ip.is_loopback() => "never leaves its host",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "never leaves its link",
        _ if is_broadcast => "is everybody's",
        _ => return Some(found),
    };
    let message = format!("`{}` cannot be the address of one party", tree.text());
    sink.push(
        Diagnostic::error(codes::BAD_ADDRESS, message, tree.span()).label(format!("it {kind}")),
    );
    None
}

/// An Ethernet address that one device can have.
pub(super) fn mac(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Mac> {
    let written = tree.child(Rule::mac)?;
    let mac: Mac = written.text().parse().ok()?;
    let is_group = mac.0[0] & 1 != 0;
    if is_group || mac == Mac::default() {
        let message = format!("`{}` cannot be the address of a device", written.text());
        let why =
            if is_group { "an odd first byte makes it a group's" } else { "it stands for none" };
        sink.push(Diagnostic::error(codes::BAD_ADDRESS, message, written.span()).label(why));
        return None;
    }
    Some(mac)
}

/// The name of a device: Linux takes 15 bytes (`IFNAMSIZ` less the closing zero).
pub(super) fn device(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Name> {
    const LONGEST: usize = 15;
    let name = tree.child(Rule::name)?.name();
    if name.node.len() > LONGEST {
        let message = format!("`{}` is too long for the name of a device", name.node);
        let diagnostic = Diagnostic::error(codes::BAD_NUMBER, message, name.span);
        sink.push(diagnostic.label(format!("at most {LONGEST} characters")));
        return None;
    }
    Some(name)
}

/// The content of a string: `\"`, `\\`, `\n` and `\t` are escapes, any other escaped character is itself.
pub(super) fn string(tree: &Tree<'_>) -> Name {
    let inner = tree.text().trim_start_matches('"');
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    let mut content = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        content.push(match c {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    tree.at(content)
}

/// The string among a node's children.
pub(super) fn string_in(tree: &Tree<'_>) -> Option<Name> {
    tree.child(Rule::string).map(|s| string(&s))
}

pub(super) fn qualified(tree: &Tree<'_>) -> Spanned<Qualified> {
    tree.at(qualify(tree.text()))
}

/// Splits `namespace/name`.
pub(crate) fn qualify(text: &str) -> Qualified {
    match text.split_once('/') {
        Some((namespace, name)) => {
            Qualified { namespace: Some(namespace.into()), name: name.into() }
        }
        None => Qualified { namespace: None, name: text.into() },
    }
}

pub(super) fn direction(tree: &Tree<'_>) -> Direction {
    if tree.has(Rule::k_ingress) { Direction::Ingress } else { Direction::Egress }
}

/// The protocols that have ports, by their words.
pub(super) const PROTOCOLS: [(&str, Protocol); 3] =
    [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];

/// A protocol's word; `any` is `None`.
#[expect(clippy::option_option, reason = "wrong and any are different")]
pub(super) fn protocol(word: &str, span: Span, sink: Sink<'_>) -> Option<Option<Protocol>> {
    if word == "any" {
        return Some(None);
    }
    if let Some((_, protocol)) = PROTOCOLS.iter().find(|(name, _)| *name == word) {
        return Some(Some(*protocol));
    }
    let words = PROTOCOLS.iter().map(|(name, _)| *name).chain(["any"]);
    let diagnostic = Diagnostic::error(
        codes::UNKNOWN_PROTOCOL,
        format!("`{word}` is not a protocol with ports"),
        span,
    );
    sink.push(match crate::names::nearest(word, words) {
        Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), span, near),
        None if word.starts_with("icmp") => diagnostic
            .help(format!("ICMP has no ports: write `{word}` alone, with a type behind it")),
        None => diagnostic.help("write `tcp`, `udp`, `sctp` or `any`"),
    });
    None
}

/// So many bytes of a token from a byte on, as a span.
pub(super) fn part(span: Span, from: usize, length: usize) -> Span {
    let tail = tail(span, from);
    Span { end: tail.start.saturating_add(super::offset(length)).min(span.end), ..tail }
}

/// The part of a token from a byte on, as a span.
pub(super) fn tail(span: Span, from: usize) -> Span {
    Span { start: span.start.saturating_add(super::offset(from)).min(span.end), ..span }
}
