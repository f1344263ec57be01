//! Headers between UDP and a tunneled frame: VXLAN (RFC 7348), Geneve (RFC 8926). Writes and reads them; what stands
//! before them is [`super::outer`]'s.

use std::net::IpAddr;

use engine::topology::TunnelKind;
use etherparse::{LaxSlicedPacket, TransportSlice};

use super::{FrameError, MIN_LENGTH, read};

/// VXLAN's flag "the VNI is valid".
const VNI_IS_VALID: u8 = 0x08;
/// Bytes of VXLAN's header, and of Geneve's without options.
const HEADER: usize = 8;
/// Geneve's protocol of an Ethernet frame ("Trans Ether bridging").
const BRIDGED: [u8; 2] = [0x65, 0x58];
/// The bits of Geneve's first byte that count words of options; the others are the version.
const WORDS: u8 = 0x3F;
/// Geneve's flag "there are options that must be understood" (RFC 8926 3.4).
const CRITICAL: u8 = 0x40;
/// VNIs have 24 bits.
const MAX_VNI: u32 = (1 << 24) - 1;

/// A frame in a tunnel, as its outer headers show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunneled<'a> {
    /// The encapsulation.
    pub kind: TunnelKind,
    /// Outer source address.
    pub source: IpAddr,
    /// Outer destination address.
    pub destination: IpAddr,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub port: u16,
    /// The VNI.
    pub vni: u32,
    /// Options of Geneve, as they lie there.
    pub options: &'a [u8],
    /// The inner frame.
    pub frame: &'a [u8],
}

/// The tunnel header of a kind.
pub(super) fn header(kind: TunnelKind, vni: u32, options: &[u8]) -> Result<Vec<u8>, FrameError> {
    if vni > MAX_VNI {
        return Err(FrameError::Vni(vni));
    }
    let refused = FrameError::TunnelOptions(options.len());
    let words = u8::try_from(options.len() / 4).ok().filter(|words| *words <= WORDS);
    let words = words.filter(|_| options.len().is_multiple_of(4)).ok_or(refused.clone())?;
    let first = match kind {
        TunnelKind::Vxlan if words > 0 => return Err(refused),
        TunnelKind::Vxlan => [VNI_IS_VALID, 0, 0, 0],
        TunnelKind::Geneve => {
            let critical = if has_critical(options) { CRITICAL } else { 0 };
            [words, critical, BRIDGED[0], BRIDGED[1]]
        }
    };
    Ok([&first[..], &(vni << 8).to_be_bytes(), options].concat())
}

/// Whether one of Geneve's options has the highest bit of its type set (RFC 8926 3.5).
fn has_critical(options: &[u8]) -> bool {
    let mut rest = options;
    while let [_, _, kind, words, ..] = *rest {
        if kind & 0x80 != 0 {
            return true;
        }
        rest = rest.get(4 + usize::from(words & 0x1F) * 4..).unwrap_or_default();
    }
    false
}

/// VNI, options and inner frame of what UDP carries. `None` for what a receiver drops: a header that is cut or says
/// something else, an inner frame without an Ethernet header.
pub(super) fn split(kind: TunnelKind, carried: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (header, behind) = carried.split_at_checked(HEADER)?;
    let (options, frame) = behind.split_at_checked(options(kind, header)?)?;
    let [.., a, b, c, _] = header else { return None };
    let vni = u32::from_be_bytes([0, *a, *b, *c]);
    (frame.len() >= MIN_LENGTH).then_some((vni, options, frame))
}

/// Bytes of options behind a header; `None` where it is no header of this kind.
fn options(kind: TunnelKind, header: &[u8]) -> Option<usize> {
    let [first, _, protocol @ .., _, _, _, _] = header else { return None };
    match kind {
        TunnelKind::Vxlan => (first & VNI_IS_VALID != 0).then_some(0),
        TunnelKind::Geneve if first & !WORDS != 0 || *protocol != BRIDGED => None,
        TunnelKind::Geneve => Some(usize::from(first & WORDS) * 4),
    }
}

/// What a frame to a tunnel's port lacks to be one in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The whole header of the tunnel: nothing says that it is one.
    Header,
    /// What the header says comes behind it.
    Frame,
}

/// What a frame lacks that was sent to a tunnel's port. `None` for any other, and for one that lacks nothing or has another
/// header.
pub fn lack(frame: &[u8], kind: TunnelKind, port: u16) -> Option<Lack> {
    let carried = carried(frame, port)?;
    let Some(header) = carried.get(..HEADER) else { return Some(Lack::Header) };
    let is_one = options(kind, header).is_some();
    (is_one && split(kind, carried).is_none()).then_some(Lack::Frame)
}

/// What UDP carries to a port, in a packet that is whole.
fn carried(frame: &[u8], port: u16) -> Option<&[u8]> {
    read(frame).filter(|headers| !headers.fragment.is_fragment())?;
    match LaxSlicedPacket::from_ethernet(frame).ok()?.transport {
        Some(TransportSlice::Udp(udp)) if udp.destination_port() == port => Some(udp.payload()),
        _ => None,
    }
}

/// Reads the outer headers of a frame that was sent to a tunnel's port. `None` for any other frame, for a fragment and
/// for what a receiver drops.
pub fn decapsulate(frame: &[u8], kind: TunnelKind, port: u16) -> Option<Tunneled<'_>> {
    let flow = read(frame).filter(|headers| !headers.fragment.is_fragment())?.flow;
    let Some(TransportSlice::Udp(udp)) = LaxSlicedPacket::from_ethernet(frame).ok()?.transport
    else {
        return None;
    };
    let (vni, options, inner) =
        split(kind, udp.payload()).filter(|_| udp.destination_port() == port)?;
    Some(Tunneled {
        kind,
        source: flow.source,
        destination: flow.destination,
        source_port: udp.source_port(),
        port,
        vni,
        options,
        frame: inner,
    })
}
