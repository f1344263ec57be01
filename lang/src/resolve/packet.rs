//! The packet of a question: protocol, ports, message, payload and length, with the documented defaults.

use std::net::IpAddr;

use engine::diag::Diagnostic;
use engine::net::{IpHeader, Packet, Protocol, TcpFlags, Transport, icmp};
use engine::question::{DEFAULT_TTL, Known, MAX_PACKET, quote};
use engine::source::Span;
use engine::topology::Party;

use super::options::{Options, conflict};
use super::{Atlas, extra, http, service};
use crate::ast::{self, IcmpMessage, Spanned};
use crate::codes;
use crate::lower::message_type;

/// The source port where none is written: one of Linux's ephemeral range (32768-60999).
pub(crate) const SOURCE_PORT: u16 = 40312;
/// Identifier and sequence number of an echo, and TCP's sequence number, where none is written.
const FIRST: u16 = 1;
/// Bytes that Linux's ping sends after the ICMP header.
const ECHO_PAYLOAD: usize = 56;
/// Those of them that hold the time of sending, which no question knows.
const ECHO_TIME: usize = 16;

/// A question whose sides are found.
pub(super) struct Asked<'a> {
    pub(super) atlas: Atlas<'a>,
    pub(super) question: &'a ast::Question,
    pub(super) destination: Party,
    /// The service that is asked, a headless one too.
    pub(super) service: Option<service::Asked<'a>>,
    pub(super) options: &'a Options<'a>,
}

/// The packet, and what was filled in.
pub(super) struct Made {
    pub(super) packet: Packet,
    pub(super) assumed: Vec<String>,
    pub(super) undetermined: Vec<String>,
}

/// What the question says of the transport.
enum Speech<'a> {
    /// TCP, UDP or SCTP to a port.
    Ports(Protocol, u16),
    /// An ICMP message; `None` is an echo request.
    Icmp(Option<&'a IcmpMessage>),
}

impl Asked<'_> {
    pub(super) fn packet(
        &self,
        source: IpAddr,
        destination: IpAddr,
        quoted: Option<&Packet>,
    ) -> Result<Made, Diagnostic> {
        http::check(self.options)?;
        let ip = self.header(source, destination)?;
        let speech = self.speech()?;
        let transport = self.transport(&speech, ip.source.is_ipv6())?;
        self.check_reply(&ip, &transport)?;
        self.check_known(&ip, &transport)?;
        let mut packet = Packet { ip, transport, payload: Vec::new() };
        let mut undetermined = Vec::new();
        match quoted {
            Some(quoted) => packet.payload = self.quotation(&packet, quoted)?,
            None => {
                let to = &self.question.target.party;
                let (payload, open) = payload(&packet, self.options, Some(to))?;
                packet.payload = payload;
                undetermined.extend(open.map(ToOwned::to_owned));
            }
        }
        if !packet.ip.extensions.is_empty() {
            undetermined.push("extension headers".to_owned());
        }
        check_length(&packet, self.options, self.question.span)?;
        let named = self.question.target.port.is_some() || self.options.icmp.is_some();
        let assumed = match (&speech, self.service) {
            _ if named => None,
            (Speech::Icmp(_), _) => Some("icmp echo, as no port was given".to_owned()),
            (Speech::Ports(protocol, port), Some(asked)) if *port != 0 => Some(format!(
                "port {port}/{protocol}, the only one of {}",
                asked.service.qualified()
            )),
            _ => None,
        };
        Ok(Made { packet, assumed: assumed.into_iter().collect(), undetermined })
    }

    fn header(&self, source: IpAddr, destination: IpAddr) -> Result<IpHeader, Diagnostic> {
        let options = self.options;
        let fragment = options.fragment.as_ref().map(|f| f.node).unwrap_or_default();
        check_header(options, source.is_ipv6())?;
        Ok(IpHeader {
            source,
            destination,
            traffic_class: 0,
            ttl: options.ttl.as_ref().map_or(DEFAULT_TTL, |t| t.node),
            id: options.ip_id.as_ref().map_or(0, |i| u32::from(i.node)),
            flow_label: options.flow_label.as_ref().map_or(0, |f| f.node),
            dont_fragment: options.dont_fragment.is_some(),
            fragment,
            options: options
                .ipv4_extra
                .as_ref()
                .map(|o| extra::ip_options(o.node))
                .unwrap_or_default(),
            extensions: options
                .extensions
                .as_ref()
                .map(|e| extra::extensions(e.node))
                .unwrap_or_default(),
        })
    }

    /// ICMP where it is asked for, or where neither a port nor a protocol is.
    fn speech(&self) -> Result<Speech<'_>, Diagnostic> {
        let target = &self.question.target;
        if let Some(icmp) = &self.options.icmp {
            self.check_icmp(icmp.span)?;
            return Ok(Speech::Icmp(icmp.node.1));
        }
        let protocol = self.protocol()?;
        let later = self.options.fragment.as_ref().filter(|f| f.node.is_later());
        match (&target.port, later, protocol) {
            (Some(port), Some(later), _) => {
                let message = "a later fragment has no ports";
                Err(conflict(message, later.span, port.span)
                    .help("write the protocol alone, as in `udp fragment offset 1480`"))
            }
            (Some(port), None, protocol) => {
                let (protocol, port) = self.port(port, protocol.map(|p| p.node))?;
                Ok(Speech::Ports(protocol, port))
            }
            (None, Some(_), Some(protocol)) => Ok(Speech::Ports(protocol.node, 0)),
            (None, None, protocol) => match (self.only_port(protocol.as_ref())?, protocol) {
                (Some((protocol, port)), _) => Ok(Speech::Ports(protocol, port)),
                (None, Some(protocol)) => Err(self.no_port(&protocol)),
                (None, None) => Ok(Speech::Icmp(None)),
            },
            (None, Some(_), None) => Ok(Speech::Icmp(None)),
        }
    }

    fn no_port(&self, protocol: &Spanned<Protocol>) -> Diagnostic {
        let span = self.question.target.party.span;
        let message = format!("a question about {} needs a port", protocol.node);
        Diagnostic::error(codes::CONFLICTING_OPTION, message, span)
            .also(protocol.span, format!("{} is asked for here", protocol.node))
            .help("write it behind the receiver, as in `web/echo-0:80/tcp`")
    }

    /// An ICMP question has no port, flags or protocol.
    fn check_icmp(&self, icmp: Span) -> Result<(), Diagnostic> {
        let target = &self.question.target;
        let others = [
            (target.port.as_ref().map(|p| p.span), "an ICMP message has no port"),
            (self.options.flags.as_ref().map(|f| f.span), "an ICMP message has no TCP flags"),
            (self.options.from_port.as_ref().map(|f| f.span), "an ICMP message has no port"),
            (self.options.protocol.as_ref().map(|p| p.span), "two protocols are asked for"),
        ];
        match others.into_iter().find_map(|(span, message)| Some((span?, message))) {
            Some((span, message)) => Err(conflict(message, span, icmp)),
            None => Ok(()),
        }
    }

    /// The protocol with ports that is asked for, by `/PROTO`, by an option, or by TCP flags.
    fn protocol(&self) -> Result<Option<Spanned<Protocol>>, Diagnostic> {
        let flags = self.options.flags.as_ref();
        let http = self.options.http.as_ref();
        let claims = [
            self.question.target.protocol.clone(),
            self.options.protocol.clone(),
            flags.map(|f| Spanned { node: Protocol::Tcp, span: f.span }),
            http.map(|h| Spanned { node: Protocol::Tcp, span: h.span }),
        ];
        let mut asked: Option<Spanned<Protocol>> = None;
        for claim in claims.into_iter().flatten() {
            match &asked {
                Some(first) if first.node != claim.node => {
                    let message = match flags {
                        Some(flags) if flags.span == claim.span => "TCP flags need TCP",
                        _ if http.is_some_and(|h| h.span == claim.span) => "HTTP needs TCP",
                        _ => "two protocols are asked for",
                    };
                    return Err(conflict(message, claim.span, first.span));
                }
                Some(_) => {}
                None => asked = Some(claim),
            }
        }
        Ok(asked)
    }

    fn transport(&self, speech: &Speech<'_>, v6: bool) -> Result<Transport, Diagnostic> {
        let options = self.options;
        let source = options.from_port.as_ref().map_or(SOURCE_PORT, |p| p.node);
        match speech {
            Speech::Ports(protocol, destination) => {
                self.check_ports(*protocol)?;
                Ok(with_ports(*protocol, source, *destination, options))
            }
            Speech::Icmp(message) => {
                if let Some(port) = &options.from_port {
                    let message = "`from-port` needs a destination port";
                    return Err(Diagnostic::error(codes::CONFLICTING_OPTION, message, port.span)
                        .help("without a port the question is an ICMP echo, which has no ports"));
                }
                let (kind, code) = icmp_type(*message, v6)?;
                let rest = match &options.mtu {
                    Some(mtu) => mtu_numbers(mtu, (kind, code), v6)?,
                    None => echo_numbers(kind, v6, options)?,
                };
                Ok(Transport::Icmp { kind, code, rest })
            }
        }
    }

    fn check_ports(&self, protocol: Protocol) -> Result<(), Diagnostic> {
        let options = self.options;
        if let Some(id) = &options.id {
            let message = format!("`id` is of an ICMP echo, {protocol} has none");
            return Err(Diagnostic::error(codes::CONFLICTING_OPTION, message, id.span)
                .help("`ip-id` is the identification in the IP header"));
        }
        if let (Some(seq), true) = (&options.seq, protocol != Protocol::Tcp) {
            let message = format!("{protocol} has no sequence number");
            return Err(Diagnostic::error(codes::CONFLICTING_OPTION, message, seq.span));
        }
        if let Some(quoting) = &options.quoting {
            return Err(only_errors_quote(quoting.span));
        }
        match &options.mtu {
            Some(mtu) => Err(only_errors_say_mtu(mtu.span, false)),
            None => Ok(()),
        }
    }

    /// Only what the receiver naturally answers can be asked `with reply`.
    fn check_reply(&self, ip: &IpHeader, transport: &Transport) -> Result<(), Diagnostic> {
        let Some(asked) = &self.options.with_reply else { return Ok(()) };
        let v6 = ip.source.is_ipv6();
        let why = match transport {
            _ if ip.fragment.is_fragment() => "a fragment alone is not answered",
            Transport::Icmp { kind, .. } if *kind != echo_request(v6) => {
                "of ICMP messages only an echo request is answered here"
            }
            Transport::Tcp { flags, .. } if flags.contains(TcpFlags::RST) => {
                "a reset is not answered"
            }
            _ => return Ok(()),
        };
        Err(Diagnostic::error(codes::CONFLICTING_OPTION, why, asked.span)
            .help("ask the packets one by one, in a `dialogue`"))
    }

    /// Only what opens a flow, or belongs to one, can be known of before.
    fn check_known(&self, ip: &IpHeader, transport: &Transport) -> Result<(), Diagnostic> {
        let Some(asked) = &self.options.known else { return Ok(()) };
        let v6 = ip.source.is_ipv6();
        let why = match transport {
            _ if ip.fragment.is_fragment() => "a fragment alone opens no flow",
            Transport::Icmp { kind, .. } if !is_echo(*kind, v6) => {
                "of ICMP messages only an echo has a flow"
            }
            _ => return Ok(()),
        };
        Err(Diagnostic::error(codes::CONFLICTING_OPTION, why, asked.span)
            .help("ask the packets one by one, in a `dialogue`"))
    }

    fn quotation(&self, packet: &Packet, quoted: &Packet) -> Result<Vec<u8>, Diagnostic> {
        let span = self.options.quoting.as_ref().map_or(self.question.span, |q| q.span);
        match packet.transport {
            Transport::Icmp { kind, .. } if is_error(kind, packet.ip.source.is_ipv6()) => {}
            _ => return Err(only_errors_quote(span)),
        }
        match [
            self.options.payload.as_ref().map(|p| p.span),
            self.options.length.as_ref().map(|l| l.span),
        ] {
            [None, None] => Ok(quote(quoted)),
            [Some(other), _] | [None, Some(other)] => {
                Err(conflict("what is quoted is the payload", other, span))
            }
        }
    }
}

pub(super) fn only_errors_quote(span: Span) -> Diagnostic {
    let message = "only an ICMP error quotes a packet";
    Diagnostic::error(codes::CONFLICTING_OPTION, message, span)
        .help("name the error, as in `icmp time-exceeded` or `icmp 3/4`")
}

/// `df` and, outside of fragments, `ip-id` are fields of IPv4's header.
pub(super) fn check_header(options: &Options<'_>, v6: bool) -> Result<(), Diagnostic> {
    extra::check_family(options, v6)?;
    if !v6 {
        return Ok(());
    }
    let dont_fragment = options.dont_fragment.as_ref().map(|d| (d.span, "IPv6 has no `df`"));
    let ip_id = options.ip_id.as_ref().filter(|_| options.fragment.is_none());
    let ip_id = ip_id.map(|i| (i.span, "IPv6 has an `ip-id` in fragments only"));
    match dont_fragment.or(ip_id) {
        Some((span, message)) => Err(Diagnostic::error(codes::CONFLICTING_OPTION, message, span)
            .help("where both sides have IPv4 addresses, `ip4` asks for them")),
        None => Ok(()),
    }
}

fn with_ports(
    protocol: Protocol,
    source: u16,
    destination: u16,
    options: &Options<'_>,
) -> Transport {
    match protocol {
        Protocol::Udp => Transport::Udp { source, destination },
        Protocol::Sctp => Transport::Sctp { source, destination },
        _ => {
            let usual = match options.known.as_ref().map(|k| k.node) {
                Some(Known::Established) => TcpFlags::ACK,
                Some(Known::Reply) => TcpFlags::SYN.with(TcpFlags::ACK),
                _ if options.http.is_some() => http::FLAGS,
                _ => TcpFlags::SYN,
            };
            let flags = options.flags.as_ref().map_or(usual, |f| f.node);
            // A request comes behind the SYN, which takes a number.
            let first = u32::from(FIRST) + u32::from(options.http.is_some());
            let sequence = options.seq.as_ref().map_or(first, |s| s.node);
            let acknowledgement = u32::from(flags.contains(TcpFlags::ACK));
            Transport::Tcp { source, destination, flags, sequence, acknowledgement }
        }
    }
}

/// Type and code of a message; an echo request where none is written.
pub(super) fn icmp_type(message: Option<&IcmpMessage>, v6: bool) -> Result<(u8, u8), Diagnostic> {
    let Some(message) = message else { return Ok((echo_request(v6), 0)) };
    let family = if v6 { Protocol::Icmpv6 } else { Protocol::Icmp };
    let kind = message_type(family, &message.kind).map_err(|problem| *problem)?;
    Ok((kind, message.code.unwrap_or(0)))
}

fn echo_request(v6: bool) -> u8 {
    if v6 { icmp::V6_ECHO_REQUEST } else { icmp::ECHO_REQUEST }
}

pub(super) fn is_echo(kind: u8, v6: bool) -> bool {
    kind == echo_request(v6) || kind == if v6 { icmp::V6_ECHO_REPLY } else { icmp::ECHO_REPLY }
}

/// Whether a message is an error, which quotes a packet (RFC 792; RFC 4443 2.1: types below 128).
pub(super) fn is_error(kind: u8, v6: bool) -> bool {
    if v6 {
        kind < 128
    } else {
        matches!(kind, icmp::UNREACHABLE | 4 | 5 | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM)
    }
}

/// Identifier and sequence number of an echo; zeros for anything else.
fn echo_numbers(kind: u8, v6: bool, options: &Options<'_>) -> Result<[u8; 4], Diagnostic> {
    if !is_echo(kind, v6) {
        let given = [
            (options.id.as_ref().map(|i| i.span), "`id` needs an ICMP echo"),
            (options.seq.as_ref().map(|s| s.span), "`seq` needs an ICMP echo or TCP"),
        ];
        return match given.into_iter().find_map(|(span, message)| Some((span?, message))) {
            Some((span, message)) => {
                Err(Diagnostic::error(codes::CONFLICTING_OPTION, message, span))
            }
            None => Ok([0; 4]),
        };
    }
    let id = options.id.as_ref().map_or(FIRST, |i| i.node);
    let seq = match &options.seq {
        Some(seq) => echo_sequence(seq)?,
        None => FIRST,
    };
    let ([a, b], [c, d]) = (id.to_be_bytes(), seq.to_be_bytes());
    Ok([a, b, c, d])
}

/// The MTU that an error tells of: 16 bits behind as many zeros (RFC 1191 4), of IPv6 all 32 (RFC 4443 3.2).
pub(super) fn mtu_numbers(
    mtu: &Spanned<u32>,
    (kind, code): (u8, u8),
    v6: bool,
) -> Result<[u8; 4], Diagnostic> {
    let tells = if v6 {
        kind == icmp::V6_PACKET_TOO_BIG
    } else {
        (kind, code) == (icmp::UNREACHABLE, icmp::CODE_FRAGMENTATION_NEEDED)
    };
    if !tells {
        return Err(only_errors_say_mtu(mtu.span, v6));
    }
    if !v6 && mtu.node > u32::from(u16::MAX) {
        let message = format!("`{}` is not an MTU that IPv4 can tell", mtu.node);
        return Err(
            Diagnostic::error(codes::BAD_NUMBER, message, mtu.span).label("must be at most 65535")
        );
    }
    Ok(mtu.node.to_be_bytes())
}

fn only_errors_say_mtu(span: Span, v6: bool) -> Diagnostic {
    let form = if v6 { "`icmpv6 packet-too-big`" } else { "`icmp 3/4`" };
    let message = "only \"fragmentation needed\" and \"packet too big\" tell an MTU";
    Diagnostic::error(codes::CONFLICTING_OPTION, message, span)
        .help(format!("name the error, as in {form}"))
}

/// An echo's sequence number has 16 bits (RFC 792).
pub(super) fn echo_sequence(seq: &Spanned<u32>) -> Result<u16, Diagnostic> {
    u16::try_from(seq.node).map_err(|_| {
        let message = format!("`{}` is not a sequence number of an echo", seq.node);
        Diagnostic::error(codes::BAD_NUMBER, message, seq.span).label("must be at most 65535")
    })
}

/// The payload, and what of it is open.
pub(super) fn payload(
    packet: &Packet,
    options: &Options<'_>,
    to: Option<&ast::PartyName>,
) -> Result<(Vec<u8>, Option<&'static str>), Diagnostic> {
    if let Some(asked) = &options.http {
        return Ok((http::request(asked.node, packet, to), None));
    }
    if let Some(payload) = &options.payload {
        return Ok((payload.node.clone(), None));
    }
    let echo = packet.icmp().is_some_and(|(kind, _)| is_echo(kind, packet.ip.source.is_ipv6()))
        && !packet.ip.fragment.is_later();
    let headers = headers(packet);
    let bytes = match &options.length {
        Some(length) => usize::from(length.node)
            .checked_sub(headers)
            .ok_or_else(|| too_short(length, headers))?,
        None if echo => ECHO_PAYLOAD,
        None => fragment_padding(packet),
    };
    let filling = (0..bytes).map(|at| {
        // As Linux's ping fills it: the time, then every byte its place.
        if echo && at >= ECHO_TIME { u8::try_from(at & 0xff).unwrap_or(0) } else { 0 }
    });
    let open = match (echo, bytes) {
        (_, 0) => None,
        (true, _) => Some("echo payload"),
        (false, _) => Some("payload"),
    };
    Ok((filling.collect(), open))
}

/// A piece that others follow carries a multiple of 8 bytes (RFC 791 3.2), and a later piece carries some.
fn fragment_padding(packet: &Packet) -> usize {
    let fragment = packet.ip.fragment;
    let transport = transport_header(packet);
    if fragment.is_later() {
        8
    } else if fragment.more {
        transport.next_multiple_of(8) - transport
    } else {
        0
    }
}

fn too_short(length: &Spanned<u16>, headers: usize) -> Diagnostic {
    let message = format!("a length of {} does not hold the headers", length.node);
    Diagnostic::error(codes::BAD_LENGTH, message, length.span)
        .label(format!("the headers alone are {headers} bytes"))
}

/// Bytes of all headers, as an IP length counts them.
pub(super) fn headers(packet: &Packet) -> usize {
    let network = match (packet.ip.source.is_ipv6(), packet.ip.fragment.is_fragment()) {
        (false, _) => 20,
        (true, false) => 40,
        // With a fragment header (RFC 8200 4.5).
        (true, true) => 48,
    };
    network + extra::length(&packet.ip) + transport_header(packet)
}

fn transport_header(packet: &Packet) -> usize {
    match packet.transport {
        _ if packet.ip.fragment.is_later() => 0,
        Transport::Tcp { .. } => 20,
        Transport::Udp { .. } | Transport::Icmp { .. } => 8,
        Transport::Sctp { .. } => 12,
        Transport::Other { .. } => 0,
    }
}

/// A length that is written is the packet's, and no packet is larger than the backend takes.
pub(super) fn check_length(
    packet: &Packet,
    options: &Options<'_>,
    whole: Span,
) -> Result<(), Diagnostic> {
    let is = headers(packet) + packet.payload.len();
    if let (Some(length), Some(payload)) = (&options.length, &options.payload)
        && usize::from(length.node) != is
    {
        let message = format!("with this payload the length is {is}, not {}", length.node);
        return Err(Diagnostic::error(codes::BAD_LENGTH, message, length.span)
            .also(payload.span, format!("{} bytes", payload.node.len()))
            .fix(format!("write `length {is}`"), length.span, format!("length {is}")));
    }
    if is <= MAX_PACKET {
        return Ok(());
    }
    let length = options.length.as_ref().map(|l| l.span);
    let span = length.or(options.payload.as_ref().map(|p| p.span)).unwrap_or(whole);
    let message = format!("a packet of {is} bytes is too large to run");
    Err(Diagnostic::error(codes::BAD_LENGTH, message, span)
        .label(format!("the largest IP length is {MAX_PACKET}")))
}
