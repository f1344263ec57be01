//! Reading a frame back: the fields that following a packet and telling about it need.

use std::net::IpAddr;

use engine::net::{FlowKey, Fragment, Mac, Protocol, extension};
use engine::trace::Ethernet;
use etherparse::{LaxNetSlice, LaxSlicedPacket, LinkSlice};

use super::network::FRAGMENT_HEADER;

/// What a frame of IP says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Ethernet addresses.
    pub ethernet: Ethernet,
    /// The flow; ports 0 where there are none or the frame holds a fragment.
    pub flow: FlowKey,
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Fragmentation.
    pub fragment: Fragment,
    /// Bytes from the network header on, as that header says.
    pub length: usize,
}

impl Headers {
    /// The flow as bytes to hash.
    pub(super) fn flow_bytes(&self) -> Vec<u8> {
        let FlowKey { source, destination, protocol, source_port, destination_port } = self.flow;
        let mut bytes = Vec::new();
        for address in [source, destination] {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
        bytes.push(protocol.number());
        bytes.extend(source_port.to_be_bytes());
        bytes.extend(destination_port.to_be_bytes());
        bytes
    }
}

/// Reads the headers of an Ethernet frame. `None` unless it holds IPv4 or IPv6 with a whole header.
pub fn read(frame: &[u8]) -> Option<Headers> {
    let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let Some(LinkSlice::Ethernet2(link)) = sliced.link else { return None };
    let ethernet = Ethernet { source: Mac(link.source()), destination: Mac(link.destination()) };
    let headers = match sliced.net? {
        LaxNetSlice::Ipv4(ip) => {
            let (header, payload) = (ip.header(), ip.payload());
            let addresses = (header.source_addr().into(), header.destination_addr().into());
            let fragment = Fragment {
                offset: header.fragments_offset().value() << 3,
                more: header.more_fragments(),
            };
            Headers {
                ethernet,
                flow: flow(addresses, payload.ip_number.0, payload.payload, fragment),
                traffic_class: (header.dcp().value() << 2) | header.ecn().value(),
                ttl: header.ttl(),
                fragment,
                length: usize::from(header.total_len()),
            }
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let addresses = (header.source_addr().into(), header.destination_addr().into());
            let behind = [ip.extensions().slice(), ip.payload().payload].concat();
            let Chain { next, rest, fragment, .. } = Chain::of(header.next_header().0, &behind);
            Headers {
                ethernet,
                flow: flow(addresses, next, rest, fragment),
                traffic_class: header.traffic_class(),
                ttl: header.hop_limit(),
                fragment,
                length: 40 + usize::from(header.payload_length()),
            }
        }
        LaxNetSlice::Arp(_) => return None,
    };
    Some(headers)
}

fn flow(
    (source, destination): (IpAddr, IpAddr),
    protocol: u8,
    transport: &[u8],
    fragment: Fragment,
) -> FlowKey {
    let protocol = Protocol::from_number(protocol);
    let is_whole = protocol.has_ports() && !fragment.is_fragment();
    let ports = match *transport {
        [a, b, c, d, ..] if is_whole => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        _ => (0, 0),
    };
    FlowKey { source, destination, protocol, source_port: ports.0, destination_port: ports.1 }
}

/// The extension headers behind IPv6's own. They come in any order here; the parser of the crate wants hop-by-hop
/// options first, and what walks over what it found relies on that.
pub(super) struct Chain<'a> {
    /// Number of what follows them.
    pub(super) next: u8,
    /// Bytes of what follows them.
    pub(super) rest: &'a [u8],
    /// What the fragment header says.
    pub(super) fragment: Fragment,
    /// Its identification.
    pub(super) id: u32,
    /// The others: number, bytes behind the first two.
    pub(super) extensions: Vec<(u8, &'a [u8])>,
}

impl<'a> Chain<'a> {
    pub(super) fn of(first: u8, behind: &'a [u8]) -> Self {
        let mut chain = Self {
            next: first,
            rest: behind,
            fragment: Fragment::default(),
            id: 0,
            extensions: Vec::new(),
        };
        while let [following, units, ..] = *chain.rest {
            let units = usize::from(units);
            let length = match chain.next {
                extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION => {
                    (units + 1) * 8
                }
                // In units of 4 bytes (RFC 4302 2.2).
                extension::AUTHENTICATION => (units + 2) * 4,
                FRAGMENT_HEADER => 8,
                _ => break,
            };
            chain.take(length);
            let Some(after) = chain.rest.get(length..) else { break };
            (chain.next, chain.rest) = (following, after);
        }
        chain
    }

    /// Notes the header at the front, of this many bytes; one that is cut says what it still can.
    fn take(&mut self, length: usize) {
        match (self.next, self.rest) {
            (FRAGMENT_HEADER, [_, _, high, low, id @ ..]) => {
                let field = u16::from_be_bytes([*high, *low]);
                self.fragment = Fragment { offset: field & 0xfff8, more: field & 1 != 0 };
                self.id = id.first_chunk().map_or(0, |id| u32::from_be_bytes(*id));
            }
            (FRAGMENT_HEADER, _) => {}
            (number, rest) => {
                self.extensions.extend(rest.get(2..length).map(|body| (number, body)));
            }
        }
    }
}
