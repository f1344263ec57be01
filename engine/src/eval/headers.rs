//! What a node reads from a packet's headers before it judges: protocol, port, flow, and the drops that
//! need nothing but the headers. Never a policy and never a memory of flows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::{Packet, Protocol, TcpFlags, Transport, icmp};
use crate::reason::DropReason;
use crate::trace::Place;

/// One end of a flow. ICMP echo: the identifier is the port of the end that is asked; other ICMP: 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

/// A flow as one packet of it shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuple {
    pub(super) protocol: Protocol,
    pub(super) from: End,
    pub(super) to: End,
}

impl Tuple {
    fn is_message(&self) -> bool {
        matches!(self.protocol, Protocol::Icmp | Protocol::Icmpv6)
    }

    fn identifier(&self) -> u16 {
        self.from.port.max(self.to.port)
    }

    /// The sending side with the port that a translation may change: an echo's identifier.
    pub(super) fn source(&self) -> End {
        let port = if self.is_message() { self.identifier() } else { self.from.port };
        End { address: self.from.address, port }
    }

    /// The receiving side, likewise.
    pub(super) fn destination(&self) -> End {
        let port = if self.is_message() { self.identifier() } else { self.to.port };
        End { address: self.to.address, port }
    }

    fn set_identifier(&mut self, identifier: u16) {
        let asks = self.from.port == 0;
        *(if asks { &mut self.to.port } else { &mut self.from.port }) = identifier;
    }

    /// The same flow with another sending side.
    pub(super) fn sent_from(mut self, source: End) -> Self {
        self.from.address = source.address;
        if self.is_message() {
            self.set_identifier(source.port);
        } else {
            self.from.port = source.port;
        }
        self
    }

    /// The same flow with another receiving side.
    pub(super) fn sent_to(mut self, destination: End) -> Self {
        self.to.address = destination.address;
        if self.is_message() {
            self.set_identifier(destination.port);
        } else {
            self.to.port = destination.port;
        }
        self
    }

    /// The flow as the other side's packets show it.
    pub(super) fn back(self) -> Self {
        Self { protocol: self.protocol, from: self.to, to: self.from }
    }
}

impl Headers {
    /// Of a packet that cannot be read: its addresses.
    pub(super) fn unread(packet: &Packet) -> Self {
        Self {
            traffic: Traffic { protocol: packet.protocol(), port: None, icmp: None },
            tracking: Tracking::Nothing,
            source: packet.ip.source,
            destination: packet.ip.destination,
            icmp_fragment: false,
            discovery: false,
        }
    }

    /// The flow that the packet itself belongs to.
    pub(super) fn tuple(&self) -> Option<Tuple> {
        match &self.tracking {
            Tracking::Flow(tuple, _) => Some(*tuple),
            Tracking::Error(_) | Tracking::Nothing => None,
        }
    }

    /// What policy is asked about, and where the packet goes, follow the flow.
    pub(super) fn set_tuple(&mut self, tuple: Tuple) {
        (self.source, self.destination) = (tuple.from.address, tuple.to.address);
        if tuple.protocol.has_ports() {
            self.traffic.port = Some(tuple.to.port);
        }
        if let Tracking::Flow(own, _) = &mut self.tracking {
            *own = tuple;
        }
    }

    /// A later fragment with the ports that the first one had.
    pub(super) fn complete(&mut self, ports: (u16, u16)) {
        let (from, to) = (self.source, self.destination);
        let protocol = self.traffic.protocol;
        // Nothing of a later fragment is a flag: it neither opens nor closes, but the flow goes on.
        let flags = (protocol == Protocol::Tcp).then_some(TcpFlags::default());
        let from = End { address: from, port: ports.0 };
        let to = End { address: to, port: ports.1 };
        self.traffic.port = Some(to.port);
        self.tracking = Tracking::Flow(Tuple { protocol, from, to }, flags);
    }

    /// The two sides as they are now.
    pub(super) fn places(&self) -> (Place, Place) {
        let port = |end: Option<u16>| end.unwrap_or(0);
        let tuple = self.tuple();
        (
            Place { address: self.source, port: port(tuple.map(|t| t.source().port)) },
            Place { address: self.destination, port: port(tuple.map(|t| t.destination().port)) },
        )
    }
}

impl End {
    pub(super) fn place(self) -> Place {
        Place { address: self.address, port: self.port }
    }
}

impl From<Place> for End {
    fn from(place: Place) -> Self {
        Self { address: place.address, port: place.port }
    }
}

/// What conntrack's rules make of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tracking {
    /// It belongs to a flow; TCP has flags.
    Flow(Tuple, Option<TcpFlags>),
    /// An ICMP error, with the flow that it quotes as far as that can be read. It starts no flow itself.
    Error(Option<Tuple>),
    /// A later fragment whose first was not seen, or a piece of an ICMP message: no ports, hence no flow.
    Nothing,
}

/// What policy is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) protocol: Protocol,
    /// The destination port; `None` for ICMP, and for a later fragment until the first one's is known.
    pub(super) port: Option<u16>,
    /// ICMP type and code.
    pub(super) icmp: Option<(u8, u8)>,
}

/// The headers of a packet that can be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) traffic: Traffic,
    pub(super) tracking: Tracking,
    /// The packet's own addresses, which differ from the flow's where it is an error.
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// A piece of an ICMP message: dropped whatever policy says.
    pub(super) icmp_fragment: bool,
    /// Neighbour discovery and router messages are not judged.
    pub(super) discovery: bool,
}

/// IPv6 headers that a node looks at to find the transport: three may stand before it.
const MOST_HEADERS: usize = 4;
const NO_NEXT_HEADER: u8 = 59;
/// Hop-by-hop options, routing, fragment, authentication, destination options.
const SKIPPED_HEADERS: [u8; 5] = [0, 43, 44, 51, 60];

/// Reads the headers; an error is the reason to drop the packet wherever it is judged.
pub(super) fn read(packet: &Packet) -> Result<Headers, DropReason> {
    let v6 = packet.ip.source.is_ipv6();
    if v6 {
        skip_extensions(packet)?;
    }
    let protocol = packet.protocol();
    if !is_known(protocol, v6) {
        return Err(DropReason::CtUnknownProtocol);
    }
    let ping = matches!(protocol, Protocol::Icmp | Protocol::Icmpv6);
    let fragment = packet.ip.fragment;
    if fragment.is_later() || (ping && fragment.is_fragment()) {
        return Ok(Headers {
            traffic: Traffic { protocol, port: None, icmp: None },
            tracking: Tracking::Nothing,
            source: packet.ip.source,
            destination: packet.ip.destination,
            icmp_fragment: ping,
            discovery: false,
        });
    }
    let fields = Fields::of(packet).ok_or(DropReason::CtInvalidHeader)?;
    Ok(fields.headers(packet, protocol))
}

fn skip_extensions(packet: &Packet) -> Result<(), DropReason> {
    let fragment = packet.ip.fragment.is_fragment();
    let headers = packet.ip.extensions.iter().map(|(number, _)| *number);
    let headers = headers.chain(fragment.then_some(SKIPPED_HEADERS[2]));
    for (at, number) in headers.chain([packet.protocol().number()]).enumerate() {
        match number {
            _ if at == MOST_HEADERS => return Err(DropReason::InvalidExtensionHeader),
            NO_NEXT_HEADER => return Err(DropReason::InvalidExtensionHeader),
            number if SKIPPED_HEADERS.contains(&number) => {}
            // The transport; where more headers were given after it, they are its bytes.
            number if is_known(Protocol::from_number(number), true) => return Ok(()),
            _ => return Err(DropReason::CtUnknownProtocol),
        }
    }
    Err(DropReason::InvalidExtensionHeader)
}

fn is_known(protocol: Protocol, v6: bool) -> bool {
    protocol.has_ports() || protocol == if v6 { Protocol::Icmpv6 } else { Protocol::Icmp }
}

/// The parts of a transport header that name a flow.
enum Fields {
    Ports { source: u16, destination: u16, flags: Option<TcpFlags> },
    Icmp { kind: u8, code: u8, identifier: u16 },
}

impl Fields {
    /// `None` where the header is cut short.
    fn of(packet: &Packet) -> Option<Self> {
        Some(match packet.transport {
            Transport::Tcp { source, destination, flags, .. } => {
                Self::Ports { source, destination, flags: Some(flags) }
            }
            Transport::Udp { source, destination } | Transport::Sctp { source, destination } => {
                Self::Ports { source, destination, flags: None }
            }
            Transport::Icmp { kind, code, rest: [high, low, ..] } => {
                Self::Icmp { kind, code, identifier: u16::from_be_bytes([high, low]) }
            }
            Transport::Other { protocol } => {
                let protocol = Protocol::from_number(protocol);
                Self::of_bytes(protocol, &packet.payload, TCP_THROUGH_FLAGS)?
            }
        })
    }

    /// The same from bytes. `tcp` is how many bytes of a TCP header must be there.
    fn of_bytes(protocol: Protocol, bytes: &[u8], tcp: usize) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        if protocol.has_ports() {
            let is_tcp = protocol == Protocol::Tcp;
            if is_tcp && bytes.len() < tcp {
                return None;
            }
            let flags = bytes.get(13).filter(|_| is_tcp).map(|bits| TcpFlags(*bits));
            return Some(Self::Ports { source: word(0)?, destination: word(2)?, flags });
        }
        Some(Self::Icmp { kind: *bytes.first()?, code: *bytes.get(1)?, identifier: word(4)? })
    }

    fn headers(&self, packet: &Packet, protocol: Protocol) -> Headers {
        let (from, to) = (packet.ip.source, packet.ip.destination);
        let v6 = from.is_ipv6();
        let mut headers = Headers {
            traffic: Traffic { protocol, port: None, icmp: None },
            tracking: Tracking::Nothing,
            source: from,
            destination: to,
            icmp_fragment: false,
            discovery: false,
        };
        let flags = match *self {
            Self::Ports { destination, flags, .. } => {
                headers.traffic.port = Some(destination);
                flags
            }
            Self::Icmp { kind, code, .. } => {
                headers.traffic.icmp = Some((kind, code));
                headers.discovery = v6 && is_discovery(kind);
                None
            }
        };
        headers.tracking = match self.tuple(protocol, from, to) {
            Some(tuple) => Tracking::Flow(tuple, flags),
            None => Tracking::Error(quoted(&packet.payload, v6)),
        };
        headers
    }

    /// The flow; `None` for an ICMP error, which belongs to the flow that it quotes or to none.
    fn tuple(&self, protocol: Protocol, from: IpAddr, to: IpAddr) -> Option<Tuple> {
        let (source, destination) = match *self {
            Self::Ports { source, destination, .. } => (source, destination),
            Self::Icmp { kind, identifier, .. } => match (from.is_ipv6(), kind) {
                (false, icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM)
                | (
                    true,
                    icmp::V6_UNREACHABLE
                    | icmp::V6_PACKET_TOO_BIG
                    | icmp::V6_TIME_EXCEEDED
                    | icmp::V6_PARAMETER_PROBLEM,
                ) => return None,
                (false, icmp::ECHO_REQUEST) | (true, icmp::V6_ECHO_REQUEST) => (0, identifier),
                (false, icmp::ECHO_REPLY) | (true, icmp::V6_ECHO_REPLY) => (identifier, 0),
                _ => (0, 0),
            },
        };
        Some(Tuple {
            protocol,
            from: End { address: from, port: source },
            to: End { address: to, port: destination },
        })
    }
}

/// Ports, numbers, offset and flags of TCP; the window, checksum and urgent pointer tell nothing of a flow.
const TCP_THROUGH_FLAGS: usize = 14;
/// An ICMP error quotes 8 bytes of the transport at least (RFC 792).
const TCP_PORTS: usize = 4;

/// Neighbour solicitation and advertisement (RFC 4861 4.3 and 4.4).
fn is_discovery(kind: u8) -> bool {
    matches!(kind, 135 | 136)
}

/// The flow of the packet that an ICMP error quotes. `None` where too little is quoted, where it is itself an
/// error, or where it is a later fragment.
fn quoted(bytes: &[u8], v6: bool) -> Option<Tuple> {
    let (from, to, protocol, transport) =
        if v6 { quoted_ipv6(bytes)? } else { quoted_ipv4(bytes)? };
    if !is_known(protocol, v6) {
        return None;
    }
    Fields::of_bytes(protocol, transport, TCP_PORTS)?.tuple(protocol, from, to)
}

type Quoted<'a> = (IpAddr, IpAddr, Protocol, &'a [u8]);

/// RFC 791 3.1.
fn quoted_ipv4(bytes: &[u8]) -> Option<Quoted<'_>> {
    let length = usize::from(bytes.first()? & 0x0f) * 4;
    let offset = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) & 0x1fff;
    if bytes.first()? >> 4 != 4 || length < 20 || offset != 0 {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    let protocol = Protocol::from_number(*bytes.get(9)?);
    Some((address(12)?, address(16)?, protocol, bytes.get(length..)?))
}

/// RFC 8200 3 and 4.
fn quoted_ipv6(bytes: &[u8]) -> Option<Quoted<'_>> {
    if bytes.first()? >> 4 != 6 {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    let (mut next, mut at) = (*bytes.get(6)?, 40);
    for _ in 0..MOST_HEADERS {
        if !SKIPPED_HEADERS.contains(&next) {
            return Some((
                address(8)?,
                address(24)?,
                Protocol::from_number(next),
                bytes.get(at..)?,
            ));
        }
        let units = usize::from(*bytes.get(at + 1)?);
        let length = match next {
            44 => {
                let offset = u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]);
                if offset & 0xfff8 != 0 {
                    return None;
                }
                8
            }
            // The authentication header counts in units of 4 bytes (RFC 4302 2.2).
            51 => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        next = *bytes.get(at)?;
        at += length;
    }
    None
}
