//! Reading a frame back: the fields that following a packet and telling about it need.

use std::net::IpAddr;

use engine::net::{FlowKey, Fragment, Mac, Protocol};
use engine::trace::Ethernet;
use etherparse::{LaxIpPayloadSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice};

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
            let header = ip.header();
            Headers {
                ethernet,
                flow: flow(
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    ip.payload(),
                ),
                traffic_class: (header.dcp().value() << 2) | header.ecn().value(),
                ttl: header.ttl(),
                fragment: Fragment {
                    offset: header.fragments_offset().value() << 3,
                    more: header.more_fragments(),
                },
                length: usize::from(header.total_len()),
            }
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            Headers {
                ethernet,
                flow: flow(
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    ip.payload(),
                ),
                traffic_class: header.traffic_class(),
                ttl: header.hop_limit(),
                fragment: ipv6_fragment(ip.extensions()),
                length: 40 + usize::from(header.payload_length()),
            }
        }
        LaxNetSlice::Arp(_) => return None,
    };
    Some(headers)
}

fn flow(source: IpAddr, destination: IpAddr, payload: &LaxIpPayloadSlice<'_>) -> FlowKey {
    let protocol = Protocol::from_number(payload.ip_number.0);
    let is_whole = protocol.has_ports() && !payload.fragmented;
    let ports = match *payload.payload {
        [a, b, c, d, ..] if is_whole => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        _ => (0, 0),
    };
    FlowKey { source, destination, protocol, source_port: ports.0, destination_port: ports.1 }
}

fn ipv6_fragment(extensions: &etherparse::Ipv6ExtensionsSlice<'_>) -> Fragment {
    let found = extensions.clone().into_iter().find_map(|extension| match extension {
        etherparse::Ipv6ExtensionSlice::Fragment(header) => Some(header.to_header()),
        _ => None,
    });
    found.map_or(Fragment::default(), |header| Fragment {
        offset: header.fragment_offset.value() << 3,
        more: header.more_fragments,
    })
}
