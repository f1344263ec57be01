//! Outer headers of a tunneled frame, as the kernel's VXLAN and Geneve devices write them for a tunnel key: Ethernet,
//! IPv4 or IPv6, UDP, and the header of [`super::tunnel`].

use std::net::IpAddr;

use engine::net::Protocol;
use engine::topology::TunnelKind;
use engine::trace::Ethernet;
use etherparse::{IpNumber, Ipv4Header, Ipv6Header};

use super::transport::internet_sum;
use super::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, FrameError, MAX_LENGTH, ethernet_header, network, read, tunnel,
};

/// Bytes of UDP's header.
const UDP: usize = 8;
/// Bytes of an IPv4 header without options.
const IPV4: u16 = 20;
/// Linux's default range of local ports, first and last, which a VXLAN device takes source ports from.
const LOCAL_PORTS: (u16, u16) = (32_768, 60_999);
/// The range that a Geneve device takes them from.
const ANY_PORTS: (u16, u16) = (1, u16::MAX);

/// What the outer headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer<'a> {
    /// Ethernet addresses on the underlay.
    pub ethernet: Ethernet,
    /// The encapsulation.
    pub kind: TunnelKind,
    /// Options, for Geneve: a multiple of 4 bytes, 252 at most.
    pub options: &'a [u8],
    /// The sending node.
    pub source: IpAddr,
    /// The other node.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// UDP source port: see [`source_port`].
    pub source_port: u16,
    /// UDP destination port.
    pub port: u16,
    /// The VNI, 24 bits.
    pub vni: u32,
}

/// Puts outer headers before a frame. TOS 0 but for the inner packet's ECN bits, which the device copies
/// (RFC 6040: a marked inner packet goes out as "capable"); identification 0, no "don't fragment", no flow
/// label; the UDP checksum is absent over IPv4 and written over IPv6. The underlay's MTU is not modelled:
/// the outer packet is never fragmented.
///
/// # Errors
/// Addresses of different families; an inner frame of more than [`MAX_LENGTH`] bytes; a VNI or options that cannot be
/// written.
pub fn encapsulate(inner: &[u8], outer: &Outer<'_>) -> Result<Vec<u8>, FrameError> {
    let header = tunnel::header(outer.kind, outer.vni, outer.options)?;
    let fits = u16::try_from(UDP + header.len() + inner.len());
    let fits = fits.ok().filter(|_| inner.len() <= MAX_LENGTH);
    let length = fits.ok_or(FrameError::TooLong { length: inner.len() })?;
    let segment = segment([&header, inner], outer, length);
    let class = outer_ecn(inner);
    let (ethertype, header) = match (outer.source, outer.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (dscp, ecn) = network::split_class(class);
            let mut header = Ipv4Header {
                dscp,
                ecn,
                total_len: IPV4 + length,
                dont_fragment: false,
                time_to_live: outer.ttl,
                protocol: IpNumber::UDP,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv4Header::default()
            };
            header.header_checksum = header.calc_header_checksum();
            (ETHERTYPE_IPV4, header.to_bytes().to_vec())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                traffic_class: class,
                payload_length: length,
                next_header: IpNumber::UDP,
                hop_limit: outer.ttl,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            };
            (ETHERTYPE_IPV6, header.to_bytes().to_vec())
        }
        (source_address, destination) => {
            return Err(FrameError::MixedFamilies { source_address, destination });
        }
    };
    Ok([&ethernet_header(outer.ethernet, ethertype)[..], &header, &segment].concat())
}

/// UDP, the tunnel's header and the inner frame.
fn segment(carried: [&[u8]; 2], outer: &Outer<'_>, length: u16) -> Vec<u8> {
    let mut segment = Vec::with_capacity(usize::from(length));
    segment.extend(outer.source_port.to_be_bytes());
    segment.extend(outer.port.to_be_bytes());
    segment.extend(length.to_be_bytes());
    segment.extend([0; 2]);
    for bytes in carried {
        segment.extend(bytes);
    }
    if outer.source.is_ipv6() {
        let sum = internet_sum((outer.source, outer.destination), Protocol::Udp, &segment);
        segment[6..8].copy_from_slice(&sum);
    }
    segment
}

/// ECN bits of the outer header.
fn outer_ecn(inner: &[u8]) -> u8 {
    const CAPABLE: u8 = 0b10;
    const MARKED: u8 = 0b11;
    match read(inner).map_or(0, |headers| headers.traffic_class & 0b11) {
        MARKED => CAPABLE,
        other => other,
    }
}

/// The UDP source port for a frame: a hash of the inner flow, folded into the range of the device's kind as the kernel
/// folds its own. The kernel's hash is keyed by a secret, so the value is ours (FNV-1a over addresses,
/// protocol and ports); that it is the same for every packet of a flow in one direction is not.
/// Fragments are hashed without ports, so that all pieces take one way.
pub fn source_port(frame: &[u8], kind: TunnelKind) -> u16 {
    let hash = match read(frame) {
        Some(headers) => hash_of(&headers.flow_bytes()),
        // Not IP: by its Ethernet addresses, as the kernel does.
        None => hash_of(frame.get(..12).unwrap_or(frame)),
    };
    let (first, last) = match kind {
        TunnelKind::Vxlan => LOCAL_PORTS,
        TunnelKind::Geneve => ANY_PORTS,
    };
    let folded = (u64::from(hash ^ (hash << 16)) * u64::from(last - first)) >> 32;
    u16::try_from(folded).unwrap_or(0).saturating_add(first)
}

fn hash_of(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
