//! Values of the network: addresses, protocols, ports, packets and flows. Never bytes on a wire
//! (`datapath::frame` builds and reads those) and never a policy's meaning.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

pub mod http;
mod layer;

pub use layer::{DEFAULT_WINDOW, Layer};

/// A transport protocol, by its IANA number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// 6
    Tcp,
    /// 17
    Udp,
    /// 132
    Sctp,
    /// 1
    Icmp,
    /// 58
    Icmpv6,
    /// Any other number; the datapath drops it as unknown (137).
    Other(u8),
}

impl Protocol {
    /// The IANA number.
    pub fn number(self) -> u8 {
        match self {
            Self::Icmp => 1,
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmpv6 => 58,
            Self::Sctp => 132,
            Self::Other(n) => n,
        }
    }

    /// The protocol of an IANA number.
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Icmp,
            6 => Self::Tcp,
            17 => Self::Udp,
            58 => Self::Icmpv6,
            132 => Self::Sctp,
            n => Self::Other(n),
        }
    }

    /// Whether the protocol has ports (TCP, UDP, SCTP).
    pub fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Sctp)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Sctp => f.write_str("sctp"),
            Self::Icmp => f.write_str("icmp"),
            Self::Icmpv6 => f.write_str("icmpv6"),
            Self::Other(n) => write!(f, "protocol-{n}"),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Protocol {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Protocol".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A transport protocol by name, another one by its IANA number.",
            "type": "string",
            "pattern": "^(tcp|udp|sctp|icmp|icmpv6|protocol-[0-9]+)$"
        })
    }
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PortRange {
    /// Lowest port.
    pub first: u16,
    /// Highest port, at least `first`.
    pub last: u16,
}

impl PortRange {
    /// One port.
    pub fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Whether the port lies in the range.
    pub fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if at == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl FromStr for Mac {
    type Err = ();

    /// Six pairs of hex digits with colons between them.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or(())?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        parts.next().is_none().then_some(Self(bytes)).ok_or(())
    }
}

/// The bits of a TCP header's flags byte (RFC 9293 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// Acknowledgement.
    pub const ACK: Self = Self(0x10);
    /// Urgent.
    pub const URG: Self = Self(0x20);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of bits.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::SYN, "SYN"),
            (Self::FIN, "FIN"),
            (Self::RST, "RST"),
            (Self::PSH, "PSH"),
            (Self::URG, "URG"),
            (Self::ACK, "ACK"),
        ];
        let set: Vec<_> = names.iter().filter(|(bit, _)| self.contains(*bit)).collect();
        if set.is_empty() {
            return f.write_str("no flags");
        }
        for (at, (_, name)) in set.into_iter().enumerate() {
            write!(f, "{}{name}", if at == 0 { "" } else { "-" })?;
        }
        Ok(())
    }
}

/// Whether and where a packet is a fragment of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Fragment {
    /// Offset of this fragment's data in bytes, a multiple of 8.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

impl Fragment {
    /// Whether this is a piece of a larger datagram at all.
    pub fn is_fragment(self) -> bool {
        self.more || self.offset != 0
    }

    /// Whether the transport header is in another piece.
    pub fn is_later(self) -> bool {
        self.offset != 0
    }
}

/// The network header of a crafted packet, whichever the family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IpHeader {
    /// Source address; same family as the destination.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IPv4 TOS or IPv6 traffic class.
    pub traffic_class: u8,
    /// IPv4 TTL or IPv6 hop limit.
    pub ttl: u8,
    /// IPv4 identification, or the IPv6 fragment header's when the packet is a fragment.
    pub id: u32,
    /// IPv6 flow label, 20 bits; 0 for IPv4.
    pub flow_label: u32,
    /// IPv4 "don't fragment".
    pub dont_fragment: bool,
    /// Fragmentation.
    pub fragment: Fragment,
    /// IPv4 options, padded to a multiple of 4, at most 40 bytes; empty for IPv6.
    pub options: Vec<u8>,
    /// IPv6 extension headers before the transport, each (header number, bytes after next-header and
    /// length); empty for IPv4. Fragment headers come from `fragment`.
    pub extensions: Vec<(u8, Vec<u8>)>,
}

/// The transport header of a crafted packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Flags.
        flags: TcpFlags,
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number.
        acknowledgement: u32,
    },
    /// UDP
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// SCTP, common header only
    Sctp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP or ICMPv6, by the packet's family
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The four bytes after the checksum: identifier and sequence of an echo, else as the type defines.
        rest: [u8; 4],
    },
    /// Anything else, by protocol number; all its bytes are the payload.
    Other {
        /// IANA number.
        protocol: u8,
    },
}

impl Transport {
    /// Source and destination port; zeros for a protocol without ports.
    pub fn ports(&self) -> (u16, u16) {
        match *self {
            Self::Tcp { source, destination, .. }
            | Self::Udp { source, destination }
            | Self::Sctp { source, destination } => (source, destination),
            Self::Icmp { .. } | Self::Other { .. } => (0, 0),
        }
    }
}

/// A crafted packet: what a question asks about. Ethernet addresses are added where it enters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Network header.
    pub ip: IpHeader,
    /// Transport header (absent bytes of later fragments: see [`Fragment::is_later`]).
    pub transport: Transport,
    /// What follows the transport header. For an ICMP error this is the quoted packet.
    pub payload: Vec<u8>,
}

/// Numbers of IPv6 extension headers (IANA's protocol numbers).
pub mod extension {
    /// Hop-by-hop options (RFC 8200 4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing header (RFC 8200 4.4).
    pub const ROUTING: u8 = 43;
    /// Encapsulating security payload (RFC 4303): what follows is encrypted.
    pub const ESP: u8 = 50;
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// Nothing follows (RFC 8200 4.7).
    pub const NO_NEXT_HEADER: u8 = 59;
    /// Destination options (RFC 8200 4.6).
    pub const DESTINATION: u8 = 60;
    /// Mobility header (RFC 6275).
    pub const MOBILITY: u8 = 135;

    /// The names that questions and answers use. The fragment header belongs to fragmentation.
    pub const NAMES: &[(&str, u8)] = &[
        ("hop-by-hop", HOP_BY_HOP),
        ("routing", ROUTING),
        ("esp", ESP),
        ("authentication", AUTHENTICATION),
        ("no-next-header", NO_NEXT_HEADER),
        ("destination", DESTINATION),
        ("mobility", MOBILITY),
    ];

    /// The name of a number, where it has one.
    pub fn name(number: u8) -> Option<&'static str> {
        NAMES.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
    }
}

/// Numbers of ICMP messages that the model treats specially.
pub mod icmp {
    /// ICMPv4 echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// ICMPv4 destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// ICMPv4 echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// ICMPv4 time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// ICMPv4 parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// Code of "fragmentation needed" under [`UNREACHABLE`].
    pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;
    /// ICMPv6 destination unreachable.
    pub const V6_UNREACHABLE: u8 = 1;
    /// ICMPv6 packet too big.
    pub const V6_PACKET_TOO_BIG: u8 = 2;
    /// ICMPv6 time exceeded.
    pub const V6_TIME_EXCEEDED: u8 = 3;
    /// ICMPv6 parameter problem.
    pub const V6_PARAMETER_PROBLEM: u8 = 4;
    /// ICMPv6 echo request.
    pub const V6_ECHO_REQUEST: u8 = 128;
    /// ICMPv6 echo reply.
    pub const V6_ECHO_REPLY: u8 = 129;

    /// The message names that policies and questions use, for IPv4: (name, type).
    pub const NAMES_V4: &[(&str, u8)] = &[
        ("echo-reply", 0),
        ("destination-unreachable", 3),
        ("redirect", 5),
        ("echo-request", 8),
        ("router-advertisement", 9),
        ("router-solicitation", 10),
        ("time-exceeded", 11),
        ("parameter-problem", 12),
        ("timestamp-request", 13),
        ("timestamp-reply", 14),
    ];
    /// The same for IPv6.
    pub const NAMES_V6: &[(&str, u8)] = &[
        ("destination-unreachable", 1),
        ("packet-too-big", 2),
        ("time-exceeded", 3),
        ("parameter-problem", 4),
        ("echo-request", 128),
        ("echo-reply", 129),
        ("router-solicitation", 133),
        ("router-advertisement", 134),
        ("neighbor-solicitation", 135),
        ("neighbor-advertisement", 136),
        ("redirect", 137),
    ];
}

impl Packet {
    /// The packet's protocol.
    pub fn protocol(&self) -> Protocol {
        match self.transport {
            Transport::Tcp { .. } => Protocol::Tcp,
            Transport::Udp { .. } => Protocol::Udp,
            Transport::Sctp { .. } => Protocol::Sctp,
            Transport::Icmp { .. } if self.ip.source.is_ipv6() => Protocol::Icmpv6,
            Transport::Icmp { .. } => Protocol::Icmp,
            Transport::Other { protocol } => Protocol::from_number(protocol),
        }
    }

    /// Source and destination port; zeros for a protocol without ports or a later fragment.
    pub fn ports(&self) -> (u16, u16) {
        if self.ip.fragment.is_later() { (0, 0) } else { self.transport.ports() }
    }

    /// Type and code of an ICMP or ICMPv6 message.
    pub fn icmp(&self) -> Option<(u8, u8)> {
        match self.transport {
            Transport::Icmp { kind, code, .. } => Some((kind, code)),
            _ => None,
        }
    }
}

/// The five values that name a flow as a packet shows them. ICMP has zero ports here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FlowKey {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Source port, 0 without ports.
    pub source_port: u16,
    /// Destination port, 0 without ports.
    pub destination_port: u16,
}

/// Which policy of an endpoint is asked: the sender's egress or the receiver's ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the endpoint.
    Egress,
    /// To the endpoint.
    Ingress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        })
    }
}

/// Where a program of the datapath hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// TC ingress of a pod's host-side veth.
    FromContainer,
    /// TC egress of a pod's host-side veth.
    ToContainer,
    /// TC ingress of the tunnel device.
    FromOverlay,
    /// TC ingress of an underlay device.
    FromNetdev,
    /// TC egress of the tunnel device.
    ToOverlay,
    /// TC egress of an underlay device.
    ToNetdev,
    /// TC egress of `cilium_host`: what the node itself sends to pods.
    FromHost,
    /// TC ingress of `cilium_host`: what reaches the node itself.
    ToHost,
    /// XDP of an underlay device.
    Prefilter,
}

impl Hook {
    /// All of them, by their numbers in the datapath.
    pub const ALL: [Self; 9] = [
        Self::FromContainer,
        Self::ToContainer,
        Self::FromOverlay,
        Self::FromNetdev,
        Self::ToOverlay,
        Self::ToNetdev,
        Self::FromHost,
        Self::ToHost,
        Self::Prefilter,
    ];
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FromContainer => "from-container",
            Self::ToContainer => "to-container",
            Self::FromOverlay => "from-overlay",
            Self::FromNetdev => "from-netdev",
            Self::ToOverlay => "to-overlay",
            Self::ToNetdev => "to-netdev",
            Self::FromHost => "from-host",
            Self::ToHost => "to-host",
            Self::Prefilter => "prefilter",
        })
    }
}

/// What keeps an address from being one that routers send packets to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Confined {
    /// It means the host that says it.
    Loopback,
    /// It means no address.
    Unspecified,
    /// It means everybody on a link.
    Broadcast,
    /// It means a group, to which packets would be sent by a multicast router.
    Multicast,
    /// It holds on one link only. Of IPv6's alone that is heeded.
    LinkLocal,
}

impl Confined {
    /// What confines an address; `None` for one that packets may be routed to.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address {
            _ if address.is_loopback() => Some(Self::Loopback),
            _ if address.is_unspecified() => Some(Self::Unspecified),
            _ if address.is_multicast() => Some(Self::Multicast),
            IpAddr::V4(v4) if v4.is_broadcast() => Some(Self::Broadcast),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(Self::LinkLocal),
            _ => None,
        }
    }
}
