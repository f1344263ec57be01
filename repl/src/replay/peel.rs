//! What a captured frame holds: link headers and tunnels are taken off until a packet of IP is there. Owns what it is
//! called when there is none; what becomes of a packet is not its business.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use datapath::frame::{self, Lack};
use engine::net::{Packet, Transport};
use engine::topology::TunnelKind;
use pcap_file::DataLink;

use crate::pcap::Captured;
use crate::session::packet_of;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Types of Ethernet: tags of virtual networks, in which another type follows behind two bytes.
const TAGS: [u16; 3] = [0x8100, 0x88A8, 0x9100];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86DD;
/// Below this a type is a length, and what follows is LLC.
const SMALLEST_TYPE: u16 = 0x0600;
/// Tags, and tunnels in tunnels, that are looked through.
const MOST_LAYERS: usize = 4;
/// Where tunnels are expected whatever the world has: Linux's and IANA's VXLAN, Geneve.
const PORTS: [(TunnelKind, u16); 3] =
    [(TunnelKind::Vxlan, 8472), (TunnelKind::Vxlan, 4789), (TunnelKind::Geneve, 6081)];
/// Bytes that tell one packet from another; bytes that policy can depend on: an ICMP error quotes.
const TELLING: usize = 32;
const QUOTED: usize = 576;

/// Why a captured packet is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Skip {
    /// A link type that is not read.
    Link(Option<u32>),
    /// Another protocol of the link layer, by its Ethernet type.
    Other(u16),
    /// LLC, as spanning tree is.
    Llc,
    /// Less was captured than its headers take.
    Truncated,
    /// Headers that contradict themselves.
    Damaged,
    /// Neighbour discovery and group membership of IPv6, as ARP is for IPv4.
    Neighbours,
    /// Seen before at another device.
    Duplicate,
    /// An ICMP error about a flow whose addresses are translated: which bytes it had before is not known.
    Translated,
    /// Of a flow beyond the limit.
    BeyondLimit,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(Some(number)) => write!(f, "of link type {number}, which is not read"),
            Self::Link(None) => f.write_str("of an unknown interface"),
            Self::Other(0x0806) => f.write_str("arp"),
            Self::Other(0x88CC) => f.write_str("lldp"),
            Self::Other(kind) => write!(f, "of Ethernet type 0x{kind:04x}"),
            Self::Llc => f.write_str("llc"),
            Self::Truncated => f.write_str("truncated"),
            Self::Damaged => f.write_str("damaged"),
            Self::Neighbours => f.write_str("neighbour discovery"),
            Self::Duplicate => f.write_str("duplicate, seen before at another device"),
            Self::Translated => f.write_str("icmp error about a translated flow"),
            Self::BeyondLimit => f.write_str("of flows beyond the limit"),
        }
    }
}

/// The outer headers of a packet that was seen in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tunnel {
    pub(super) vni: u32,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
}

/// A packet of IP out of a capture.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The packet, without what of its payload matters to nobody.
    pub(super) packet: Packet,
    /// Bytes from its network header on, as that says.
    pub(super) length: u64,
    /// The innermost tunnel that it was in.
    pub(super) tunnel: Option<Tunnel>,
    /// Whether the capture holds it as a whole Ethernet frame without tags, and not in a tunnel.
    pub(super) is_frame: bool,
    /// Whether it had tags of virtual networks.
    pub(super) is_tagged: bool,
    /// Where it was seen, as a number that differs from place to place.
    pub(super) vantage: u64,
    /// What makes it this packet and no other of its flow, as a number.
    pub(super) content: u64,
}

/// Takes off what is around the packet. `ports` are those of the world's own tunnel.
pub(super) fn peel(captured: &Captured, ports: &[(TunnelKind, u16)]) -> Result<Seen, Skip> {
    let link = captured.link.ok_or(Skip::Link(None))?;
    let (mut frame, around) = ethernet(link, &captured.data, captured.is_cut)?;
    let mut vantage = DefaultHasher::new();
    (captured.interface, &around).hash(&mut vantage);
    let around = around.len();
    let mut tunnel = None;
    for _ in 0..MOST_LAYERS {
        let all = ports.iter().chain(&PORTS);
        let inside = all.copied().find_map(|(kind, port)| frame::decapsulate(&frame, kind, port));
        let Some(outer) = inside else { break };
        let found = Tunnel { vni: outer.vni, source: outer.source, destination: outer.destination };
        found.hash(&mut vantage);
        tunnel = Some(found);
        frame = ethernet(DataLink::ETHERNET, outer.frame, captured.is_cut)?.0;
    }
    let short = if captured.is_cut { Skip::Truncated } else { Skip::Damaged };
    if is_cut_in_tunnel(&frame, captured.is_cut, ports) {
        return Err(short);
    }
    let mut packet = packet_of(&frame::dissect(&frame, &[])).ok_or(short)?;
    if lacks_transport(&packet) {
        return Err(short);
    }
    if packet.ip.source.is_ipv6()
        && packet.icmp().is_some_and(|(kind, _)| matches!(kind, 130..=137 | 143))
    {
        return Err(Skip::Neighbours);
    }
    let length = frame::read(&frame).map_or(0, |headers| headers.length as u64);
    (packet.ip.ttl, packet.ip.source, packet.ip.destination).hash(&mut vantage);
    let content = content(&packet, length);
    let keep = if packet.icmp().is_some() { QUOTED } else { TELLING };
    packet.payload.truncate(keep);
    let is_tagged = link == DataLink::ETHERNET && around > ETHERNET;
    let is_frame = tunnel.is_none() && link == DataLink::ETHERNET && !is_tagged && !captured.is_cut;
    Ok(Seen { packet, length, tunnel, is_frame, is_tagged, vantage: vantage.finish(), content })
}

/// Whether a tunnel's headers end too early. Where all of the packet was captured, only a header says that there is a tunnel.
fn is_cut_in_tunnel(frame: &[u8], is_cut: bool, ports: &[(TunnelKind, u16)]) -> bool {
    ports.iter().chain(&PORTS).any(|(kind, port)| match frame::lack(frame, *kind, *port) {
        Some(Lack::Header) => is_cut,
        Some(Lack::Frame) => true,
        None => false,
    })
}

/// Whether a protocol's own header is not there, although it is no later fragment.
fn lacks_transport(packet: &Packet) -> bool {
    let is_known = |protocol| matches!(protocol, 1 | 6 | 17 | 58 | 132);
    match packet.transport {
        Transport::Other { protocol } => is_known(protocol) && !packet.ip.fragment.is_later(),
        _ => false,
    }
}

/// What no translation and no router changes. The length tells those apart whose payload was not captured.
fn content(packet: &Packet, length: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (packet.ip.id, packet.ip.flow_label, packet.ip.fragment.offset, length).hash(&mut hasher);
    match packet.transport {
        Transport::Tcp { flags, sequence, acknowledgement, .. } => {
            (flags.0, sequence, acknowledgement).hash(&mut hasher);
        }
        Transport::Icmp { kind, code, rest } => {
            // An echo's identifier may be translated.
            (kind, code, rest[2], rest[3]).hash(&mut hasher);
        }
        Transport::Udp { .. } | Transport::Sctp { .. } | Transport::Other { .. } => {}
    }
    packet.payload.get(..TELLING).unwrap_or(&packet.payload).hash(&mut hasher);
    hasher.finish()
}

/// The frame as untagged Ethernet, and the headers that were around it.
fn ethernet(link: DataLink, data: &[u8], is_cut: bool) -> Result<(Vec<u8>, Vec<u8>), Skip> {
    let short = if is_cut { Skip::Truncated } else { Skip::Damaged };
    let (around, kind, rest) = match link {
        DataLink::ETHERNET => untagged(data).ok_or(short)?,
        DataLink::LINUX_SLL => split(data, 16, 14).ok_or(short)?,
        DataLink::LINUX_SLL2 => split(data, 20, 0).ok_or(short)?,
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => bare(data, 0).ok_or(short)?,
        DataLink::NULL | DataLink::LOOP => bare(data, 4).ok_or(short)?,
        other => return Err(Skip::Link(Some(other.into()))),
    };
    match kind {
        IPV4 | IPV6 => {}
        kind if kind < SMALLEST_TYPE => return Err(Skip::Llc),
        kind => return Err(Skip::Other(kind)),
    }
    let mut frame = vec![0; ETHERNET - 2];
    frame.extend(kind.to_be_bytes());
    frame.extend(rest);
    Ok((frame, around.to_vec()))
}

/// Headers of some length, with the type of what follows in them.
fn split(data: &[u8], length: usize, at: usize) -> Option<(&[u8], u16, &[u8])> {
    let (around, rest) = data.split_at_checked(length)?;
    let kind = around.get(at..at + 2)?;
    Some((around, u16::from_be_bytes([kind[0], kind[1]]), rest))
}

fn untagged(data: &[u8]) -> Option<(&[u8], u16, &[u8])> {
    let mut length = ETHERNET;
    for _ in 0..MOST_LAYERS {
        let found = split(data, length, length - 2)?;
        if !TAGS.contains(&found.1) {
            return Some(found);
        }
        length += 4;
    }
    None
}

/// A packet behind headers that do not tell its version.
fn bare(data: &[u8], length: usize) -> Option<(&[u8], u16, &[u8])> {
    let (around, rest) = data.split_at_checked(length)?;
    match rest.first()? >> 4 {
        4 => Some((around, IPV4, rest)),
        6 => Some((around, IPV6, rest)),
        _ => None,
    }
}
