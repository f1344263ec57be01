//! A given frame as the packet of a question, as far as it is one: for the answer's words, and for the oracle, which
//! knows packets and senders and no bytes. The frame itself is never changed.

use std::net::{IpAddr, Ipv4Addr};

use datapath::follow::{Device, Raw, enters_as};
use datapath::frame;
use engine::explain::PacketReport;
use engine::net::{Hook, IpHeader, Layer, Packet, Protocol, Transport, extension};
use engine::question::Question;
use engine::tables::Tables;
use engine::topology::{Endpoint, Party, World};
use engine::trace::{Event, Trace};

/// See the module.
pub(in crate::session) struct Sent {
    /// The question that comes nearest.
    pub(in crate::session) question: Question,
    /// Whether it is the same packet from the same sender, so that the oracle can be asked.
    pub(super) is_askable: bool,
    /// What the answer says of a frame that holds no packet.
    other: Option<PacketReport>,
    /// What a tunneled frame holds.
    inside: Option<String>,
    /// Whether a header of its transport is there that nobody can read as a whole.
    is_unread: bool,
}

impl Sent {
    /// Reads a frame that enters somewhere.
    pub(in crate::session) fn of(world: &World, tables: &Tables, raw: &Raw) -> Self {
        let layers = frame::dissect(&raw.frame, &[]);
        let Some(packet) = packet(&layers) else {
            return Self {
                question: question(nothing(), None),
                is_askable: false,
                other: Some(frame_report(&layers, raw.frame.len())),
                inside: None,
                is_unread: false,
            };
        };
        // A packet in a packet is two, and the oracle knows of one.
        let inside = inside(tables, raw);
        let asked = (inside.is_none() && is_whole(&layers, &packet, &raw.frame))
            .then(|| natural(world, tables, raw, &packet))
            .flatten();
        let is_askable = asked.is_some();
        let is_unread =
            packet.protocol().has_ports() && matches!(packet.transport, Transport::Other { .. });
        let question = asked.unwrap_or_else(|| question(packet, None));
        Self { question, is_askable, other: None, inside, is_unread }
    }

    /// The packet in words. The ports of a header that is no whole one are those that the first program read.
    pub(in crate::session) fn report(
        self,
        of_question: PacketReport,
        trace: &Trace,
    ) -> PacketReport {
        let mut report = self.other.unwrap_or(of_question);
        let mut unread = None;
        if self.is_unread {
            let ports = read_by_program(trace);
            (report.source_port, report.destination_port) =
                (ports.map(|ports| ports.0), ports.map(|ports| ports.1));
            unread = Some("with a header that is cut off or malformed".to_owned());
        }
        let details = [Some(report.detail), unread, self.inside].into_iter().flatten();
        report.detail = details.filter(|d| !d.is_empty()).collect::<Vec<_>>().join(", ");
        report
    }
}

/// The ports that a journey's first program read, where it read any.
fn read_by_program(trace: &Trace) -> Option<(u16, u16)> {
    let parsed = trace.hops.first()?.events.iter().find_map(|stamped| match stamped.event {
        Event::Parsed { flow, .. } => Some((flow.source_port, flow.destination_port)),
        _ => None,
    });
    parsed.filter(|ports| *ports != (0, 0))
}

/// The question whose packet enters where the frame does.
fn natural(world: &World, tables: &Tables, raw: &Raw, packet: &Packet) -> Option<Question> {
    if packet.ip.source.is_ipv4() != packet.ip.destination.is_ipv4() {
        return None;
    }
    let by_address = question(packet.clone(), None);
    // A node port, or a service's address at a certain node, is asked for by the node.
    let at_node = question(packet.clone(), Some(Party::Node(raw.node)));
    // Who sends by a veth is known whatever address the packet has.
    let by_veth = owner(tables, raw).map(|source| Question { source, ..by_address.clone() });
    let mut questions = [by_veth, Some(by_address), Some(at_node)].into_iter().flatten();
    questions.find(|question| enters_as(world, tables, raw, question))
}

/// The pod or health endpoint whose veth a frame comes by.
fn owner(tables: &Tables, raw: &Raw) -> Option<Party> {
    let Device::Named(name) = &raw.device else { return None };
    let entry = tables.node(raw.node)?.endpoints.iter().find(|e| e.interface == *name)?;
    match entry.endpoint {
        Endpoint::Pod(id) => Some(Party::Pod(id)),
        Endpoint::Health(id) => Some(Party::Health(id)),
        Endpoint::Host(_) => None,
    }
}

/// A question about a packet, from whoever has its source address.
fn question(packet: Packet, to: Option<Party>) -> Question {
    Question::of(
        Party::Address(packet.ip.source),
        to.unwrap_or(Party::Address(packet.ip.destination)),
        packet,
    )
}

/// A packet for a question about a frame that holds none; nothing of it is shown.
fn nothing() -> Packet {
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let ip = IpHeader {
        source: nowhere,
        destination: nowhere,
        traffic_class: 0,
        ttl: 0,
        id: 0,
        flow_label: 0,
        dont_fragment: false,
        fragment: engine::net::Fragment::default(),
        options: Vec::new(),
        extensions: Vec::new(),
    };
    Packet { ip, transport: Transport::Other { protocol: 0 }, payload: Vec::new() }
}

/// The packet of layers that were read from a frame.
pub(crate) fn packet(layers: &[Layer]) -> Option<Packet> {
    let [Layer::Ethernet { .. }, Layer::Ip { header, protocol: Some(protocol) }, behind @ ..] =
        layers
    else {
        return None;
    };
    let (transport, carried) = match behind.split_first() {
        Some((first, rest)) => match transport(first) {
            Some(transport) => (transport, rest),
            None => (absent(*protocol, header), behind),
        },
        None => (absent(*protocol, header), behind),
    };
    let payload = carried.iter().find_map(|layer| match layer {
        Layer::Payload(bytes) => Some(bytes.clone()),
        _ => None,
    });
    Some(Packet { ip: header.clone(), transport, payload: payload.unwrap_or_default() })
}

fn transport(layer: &Layer) -> Option<Transport> {
    Some(match *layer {
        Layer::Tcp { source, destination, flags, sequence, acknowledgement, .. } => {
            Transport::Tcp { source, destination, flags, sequence, acknowledgement }
        }
        Layer::Udp { source, destination } => Transport::Udp { source, destination },
        Layer::Sctp { source, destination, .. } => Transport::Sctp { source, destination },
        Layer::Icmp { kind, code, rest, .. } => Transport::Icmp { kind, code, rest },
        _ => return None,
    })
}

/// The transport of a packet whose header is not there: of a later fragment, which keeps the protocol that its first
/// one had, or of an unknown or cut one.
fn absent(protocol: u8, header: &IpHeader) -> Transport {
    let ports = (0, 0);
    match Protocol::from_number(protocol) {
        Protocol::Tcp if header.fragment.is_later() => Transport::Tcp {
            source: ports.0,
            destination: ports.1,
            flags: engine::net::TcpFlags(0),
            sequence: 0,
            acknowledgement: 0,
        },
        Protocol::Udp if header.fragment.is_later() => {
            Transport::Udp { source: ports.0, destination: ports.1 }
        }
        Protocol::Sctp if header.fragment.is_later() => {
            Transport::Sctp { source: ports.0, destination: ports.1 }
        }
        Protocol::Icmp | Protocol::Icmpv6 if header.fragment.is_later() => {
            Transport::Icmp { kind: 0, code: 0, rest: [0; 4] }
        }
        _ => Transport::Other { protocol },
    }
}

/// Whether the packet says all that the frame does: nothing is cut, malformed, or of another length than its header
/// tells.
fn is_whole(layers: &[Layer], packet: &Packet, bytes: &[u8]) -> bool {
    let number = packet.protocol().number();
    let transport_was_read = match packet.transport {
        Transport::Other { .. } => {
            let known = !matches!(Protocol::from_number(number), Protocol::Other(_));
            !known && extension::name(number).is_none() && number != 44
        }
        _ => true,
    };
    let own_type = match layers.first() {
        Some(Layer::Ethernet { ethertype: Some(kind), .. }) => {
            (*kind == 0x86DD) == packet.ip.source.is_ipv6()
        }
        _ => false,
    };
    let length = frame::read(bytes).map(|headers| headers.length + frame::MIN_LENGTH);
    let assembled = frame::assemble(layers).ok().map(|frame| frame.len());
    transport_was_read && own_type && length.is_some() && length == assembled
}

/// That a packet of the tunnel comes from an address which no node sends from, which no program asks about.
pub(super) fn stranger(tables: &Tables, raw: &Raw) -> Option<String> {
    let tunnel = &tables.node(raw.node)?.tunnel;
    let source = match raw.hook {
        Hook::FromOverlay => raw.tunnel?.source,
        Hook::FromNetdev | Hook::Prefilter => {
            frame::decapsulate(&raw.frame, tunnel.kind, tunnel.port)?.source
        }
        _ => return None,
    };
    let is_node = tables.nodes.iter().any(|node| node.tunnel_address == source);
    (!is_node).then(|| format!("the tunnel's packet comes from {source}, which is no node"))
}

/// What a tunneled frame that comes by the underlay holds.
fn inside(tables: &Tables, raw: &Raw) -> Option<String> {
    let tunnel = &tables.node(raw.node)?.tunnel;
    let carried = frame::decapsulate(&raw.frame, tunnel.kind, tunnel.port)?;
    let what = match frame::read(carried.frame) {
        Some(headers) => {
            let flow = headers.flow;
            format!(
                "{} -> {} {}",
                place(flow.source, flow.source_port, flow.protocol),
                place(flow.destination, flow.destination_port, flow.protocol),
                flow.protocol
            )
        }
        None => format!("{} bytes", carried.frame.len()),
    };
    Some(format!("{} vni {} with {what}", carried.kind, carried.vni))
}

fn place(address: IpAddr, port: u16, protocol: Protocol) -> String {
    if protocol.has_ports() {
        std::net::SocketAddr::new(address, port).to_string()
    } else {
        address.to_string()
    }
}

/// A frame that holds no packet, by its Ethernet header.
fn frame_report(layers: &[Layer], length: usize) -> PacketReport {
    let (source, destination, kind) = match layers.first() {
        Some(Layer::Ethernet { source, destination, ethertype: Some(kind) }) => {
            (source.to_string(), destination.to_string(), format!("Ethernet type 0x{kind:04x}, "))
        }
        _ => ("?".to_owned(), "?".to_owned(), String::new()),
    };
    PacketReport {
        source: source.clone(),
        source_address: source,
        source_port: None,
        destination: destination.clone(),
        destination_address: destination,
        destination_port: None,
        protocol: None,
        detail: format!("{kind}{length} bytes"),
    }
}
