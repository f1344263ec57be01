//! A frame layer by layer, as values: what a text writes out and what a dissected frame is told as. Bytes are
//! `datapath::frame`'s.

use super::{IpHeader, Mac, TcpFlags};
use crate::topology::TunnelKind;

/// A layer of a frame, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Ethernet II.
    Ethernet {
        /// Source.
        source: Mac,
        /// Destination.
        destination: Mac,
        /// The type; `None`: that of the layer behind it.
        ethertype: Option<u16>,
    },
    /// IPv4 or IPv6, by the addresses.
    Ip {
        /// The header.
        header: IpHeader,
        /// The number of what follows (IPv6: follows the extension headers); `None`: that of the layer behind it.
        protocol: Option<u8>,
    },
    /// TCP.
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
        /// Window: [`DEFAULT_WINDOW`] where nothing else is said.
        window: u16,
        /// Options: a multiple of 4 bytes, 40 at most.
        options: Vec<u8>,
    },
    /// UDP. Before a tunnel over IPv4 it has no checksum, as a tunnel device writes it.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// SCTP's common header.
    Sctp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Verification tag.
        tag: u32,
    },
    /// ICMP or ICMPv6; a packet may follow, as errors quote one.
    Icmp {
        /// ICMPv6.
        v6: bool,
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The four bytes after the checksum.
        rest: [u8; 4],
    },
    /// VXLAN or Geneve, behind UDP; a frame follows.
    Tunnel {
        /// Which.
        kind: TunnelKind,
        /// The VNI, 24 bits.
        vni: u32,
        /// Options, for Geneve: a multiple of 4 bytes, 252 at most.
        options: Vec<u8>,
    },
    /// Bytes as they are; the last layer.
    Payload(Vec<u8>),
}

/// TCP's window where nothing else is said: the largest without scaling (RFC 9293 3.1).
pub const DEFAULT_WINDOW: u16 = 65_535;

impl Layer {
    /// The name, as a text has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ethernet { .. } => "eth",
            Self::Ip { header, .. } if header.source.is_ipv6() => "ipv6",
            Self::Ip { .. } => "ipv4",
            Self::Tcp { .. } => "tcp",
            Self::Udp { .. } => "udp",
            Self::Sctp { .. } => "sctp",
            Self::Icmp { v6: false, .. } => "icmp",
            Self::Icmp { v6: true, .. } => "icmpv6",
            Self::Tunnel { kind: TunnelKind::Vxlan, .. } => "vxlan",
            Self::Tunnel { kind: TunnelKind::Geneve, .. } => "geneve",
            Self::Payload(_) => "payload",
        }
    }
}
