//! The asked packet in words: parties, addresses, ports and what else tells it from its neighbours.

use crate::net::http::RequestLine;
use crate::net::{Packet, Protocol, Transport, extension, icmp};
use crate::question::Question;

use super::{Context, PacketReport, wire};

/// The packet of a question.
pub(super) fn report(context: &Context<'_>, question: &Question) -> PacketReport {
    let packet = &question.packet;
    let (source_port, destination_port) = packet.ports();
    let has_ports = packet.protocol().has_ports() && !packet.ip.fragment.is_later();
    PacketReport {
        source: context.party(question.source),
        source_address: packet.ip.source.to_string(),
        source_port: has_ports.then_some(source_port),
        destination: context.party(question.destination),
        destination_address: packet.ip.destination.to_string(),
        destination_port: has_ports.then_some(destination_port),
        protocol: Some(packet.protocol()),
        detail: detail(packet),
    }
}

/// `SYN`, `PSH-ACK, HTTP GET /`, `echo request id 502 seq 1878`, `fragment at 1480, more follow`, or nothing.
fn detail(packet: &Packet) -> String {
    let transport =
        if packet.ip.fragment.is_later() { String::new() } else { transport_detail(packet) };
    let parts = [transport, header_detail(packet), fragment_detail(packet)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn transport_detail(packet: &Packet) -> String {
    match packet.transport {
        Transport::Tcp { flags, .. } => match RequestLine::of(&packet.payload) {
            Some(request) => format!("{flags}, {}", request.in_words()),
            None => flags.to_string(),
        },
        Transport::Icmp { kind, code, rest } => {
            let message = message(packet.protocol(), kind, code, rest);
            format!("{message}{}", quoted(packet, kind))
        }
        Transport::Udp { .. } | Transport::Sctp { .. } | Transport::Other { .. } => String::new(),
    }
}

/// `, quoting TCP 10.1.0.10:40312 -> 10.2.0.20:8080`: what an error is about.
fn quoted(packet: &Packet, kind: u8) -> String {
    let is_error = match packet.protocol() {
        Protocol::Icmpv6 => kind < icmp::V6_ECHO_REQUEST,
        _ => matches!(
            kind,
            icmp::UNREACHABLE | 4 | 5 | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM
        ),
    };
    let ends = wire::ends_of(&packet.payload).filter(|_| is_error);
    ends.map_or_else(String::new, |ends| {
        let protocol = ends.protocol.to_string().to_uppercase();
        format!(", quoting {protocol} {}", ends.in_words())
    })
}

/// `8 bytes of IP options`, `flow label 7, behind hop-by-hop, routing`: what stands before the transport.
fn header_detail(packet: &Packet) -> String {
    let headers = packet.ip.extensions.iter().map(|(number, _)| {
        extension::name(*number).map_or_else(|| number.to_string(), ToOwned::to_owned)
    });
    let headers: Vec<String> = headers.collect();
    let behind = match (packet.ip.options.len(), headers.is_empty()) {
        (0, true) => None,
        (0, false) => Some(format!("behind {}", headers.join(", "))),
        (bytes, _) => Some(format!("{bytes} bytes of IP options")),
    };
    let label = packet.ip.flow_label;
    let label = (label != 0).then(|| format!("flow label {label}"));
    label.into_iter().chain(behind).collect::<Vec<_>>().join(", ")
}

fn fragment_detail(packet: &Packet) -> String {
    let fragment = packet.ip.fragment;
    match (fragment.offset, fragment.more) {
        (0, false) => String::new(),
        (0, true) => "first fragment".to_owned(),
        (offset, true) => format!("fragment at {offset}, more follow"),
        (offset, false) => format!("last fragment, at {offset}"),
    }
}

/// ` mtu 1400`, where an error tells one (RFC 1191 4, RFC 4443 3.2).
fn mtu(is_v6: bool, message: (u8, u8), rest: [u8; 4]) -> String {
    let told = match (is_v6, message) {
        (false, (icmp::UNREACHABLE, icmp::CODE_FRAGMENTATION_NEEDED)) => {
            u32::from(u16::from_be_bytes([rest[2], rest[3]]))
        }
        (true, (icmp::V6_PACKET_TOO_BIG, _)) => u32::from_be_bytes(rest),
        _ => 0,
    };
    if told == 0 { String::new() } else { format!(" mtu {told}") }
}

/// An echo with its identifier and sequence (RFC 792, RFC 4443 4.1), another message by name, type and
/// code.
fn message(protocol: Protocol, kind: u8, code: u8, rest: [u8; 4]) -> String {
    let is_v6 = protocol == Protocol::Icmpv6;
    let echo = match (is_v6, kind) {
        (false, icmp::ECHO_REQUEST) | (true, icmp::V6_ECHO_REQUEST) => Some("echo request"),
        (false, icmp::ECHO_REPLY) | (true, icmp::V6_ECHO_REPLY) => Some("echo reply"),
        _ => None,
    };
    if let Some(echo) = echo {
        let [id_high, id_low, seq_high, seq_low] = rest;
        let id = u16::from_be_bytes([id_high, id_low]);
        let sequence = u16::from_be_bytes([seq_high, seq_low]);
        return format!("{echo} id {id} seq {sequence}");
    }
    let names = if is_v6 { icmp::NAMES_V6 } else { icmp::NAMES_V4 };
    match names.iter().find(|(_, number)| *number == kind) {
        Some((name, _)) => format!("{name} {kind}/{code}{}", mtu(is_v6, (kind, code), rest)),
        None => format!("type {kind} code {code}"),
    }
}
