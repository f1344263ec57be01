//! The syntax of packets that enter at a hook as they are: `trace --at NODE HOOK ...`. Bytes are written in hex, are
//! in a capture, or are layers that somebody else builds; nothing here knows what a layer looks like on a wire.

use std::net::IpAddr;

use engine::net::{Fragment, Hook, Mac, Protocol, TcpFlags};
use engine::source::Span;

use super::{IcmpMessage, Name, Spanned};

/// `at [NODE] HOOK [on DEVICE] [vni N from ADDRESS] [mark N] PACKET`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawQuestion {
    /// The node; left out where the world has one only.
    pub node: Option<Name>,
    /// The hook.
    pub hook: Spanned<Hook>,
    /// The device, where the hook hangs on several: a pod's interface, or the pod's name.
    pub device: Option<Name>,
    /// What the overlay says of the packet, which the tunnel device has taken off.
    pub tunnel: Option<Spanned<TunnelKey>>,
    /// The kernel's mark on it.
    pub mark: Option<Spanned<u32>>,
    /// The packet.
    pub source: Spanned<RawSource>,
    /// The whole text.
    pub span: Span,
}

/// `vni N from ADDRESS`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelKey {
    /// The VNI, 24 bits.
    pub vni: u32,
    /// The other end of the tunnel.
    pub remote: IpAddr,
}

/// Where the bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawSource {
    /// `hex BYTES`: the whole frame.
    Hex(Vec<u8>),
    /// `pcap FILE number N`
    Pcap {
        /// The capture's file.
        file: Name,
        /// Which packet, from 1.
        number: Spanned<u32>,
    },
    /// `eth ... / ipv4 ... / tcp ...`: outermost first.
    Layers(Vec<Spanned<Layer>>),
}

/// A layer as written. What is left open (lengths, checksums, next headers) follows from the layers behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// `eth SRC > DST [type N]`
    Ethernet {
        /// Sender.
        source: Mac,
        /// Receiver.
        destination: Mac,
        /// The type, where it shall not be that of the next layer.
        ether_type: Option<u16>,
    },
    /// `ipv4 SRC > DST ...` or `ipv6 SRC > DST ...`
    Ip(IpLayer),
    /// `tcp SPORT > DPORT [syn ...] [seq N]`
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Flags; a SYN where none are written.
        flags: Option<TcpFlags>,
        /// Sequence number; 1 where none is written.
        sequence: Option<u32>,
    },
    /// `udp SPORT > DPORT`, which is also what a tunnel's header stands behind.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// `sctp SPORT > DPORT`
    Sctp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// `icmp [MESSAGE] [id N] [seq N] [mtu N]`, `icmpv6 ...`; an echo request where no message is written.
    Icmp {
        /// [`Protocol::Icmp`] or [`Protocol::Icmpv6`].
        family: Protocol,
        /// The message, by name or number.
        message: Option<IcmpMessage>,
        /// Identifier of an echo.
        id: Option<u16>,
        /// Sequence number of an echo.
        sequence: Option<u16>,
        /// What an error says that the way takes.
        mtu: Option<Spanned<u32>>,
    },
    /// `vxlan vni N`
    Vxlan {
        /// The VNI, 24 bits.
        vni: u32,
    },
    /// `geneve vni N`
    Geneve {
        /// The VNI, 24 bits.
        vni: u32,
    },
    /// `payload "..."` or `hex BYTES`
    Payload(Vec<u8>),
}

/// An IP header as written; both addresses are of the same family, which is the header's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpLayer {
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// `ttl N`: TTL or hop limit.
    pub ttl: Option<u8>,
    /// `id N`: the identification; of IPv6 only in a fragment.
    pub id: Option<u16>,
    /// `flow-label N`; never of IPv4.
    pub flow_label: Option<u32>,
    /// `df`; never of IPv6.
    pub dont_fragment: bool,
    /// `fragment offset N [more]`, `fragment more`
    pub fragment: Option<Fragment>,
    /// `proto N`: where it shall not be that of the next layer.
    pub protocol: Option<u8>,
    /// `ip-options BYTES`; never of IPv6.
    pub options: Vec<u8>,
    /// `extensions NAME, NAME`: by number; never of IPv4.
    pub extensions: Vec<u8>,
}
