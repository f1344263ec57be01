//! Where the fields of a frame lie, for those who edit or watch its bytes.

use std::ops::Range;

use engine::net::Protocol;
use etherparse::{LaxNetSlice, LaxSlicedPacket};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// Where headers begin in a frame, and of what kind they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Whether the network header is IPv6's; else it is IPv4's.
    pub is_v6: bool,
    /// The network header's first byte.
    pub network: usize,
    /// The transport header's first byte; none where a later fragment has no such header.
    pub transport: Option<usize>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Bytes of the frame.
    pub length: usize,
}

/// A field of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Source address of Ethernet.
    SourceMac,
    /// Destination address of Ethernet.
    DestinationMac,
    /// Source address of IP.
    Source,
    /// Destination address of IP.
    Destination,
    /// Protocol of IPv4; next header of IPv6, which an extension header may follow.
    Protocol,
    /// TTL or hop limit.
    Ttl,
    /// Source port.
    SourcePort,
    /// Destination port.
    DestinationPort,
    /// Flags of TCP.
    TcpFlags,
    /// Type of ICMP.
    IcmpType,
    /// Code of ICMP.
    IcmpCode,
}

/// The layout of a frame. `None` unless it holds IPv4 or IPv6 with a whole header.
pub fn layout(frame: &[u8]) -> Option<Layout> {
    let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let (is_v6, payload) = match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => (false, ip.payload()),
        LaxNetSlice::Ipv6(ip) => (true, ip.payload()),
        LaxNetSlice::Arp(_) => return None,
    };
    // The payload is a part of the frame, so that its place is the distance between the two.
    let at = payload.payload.as_ptr().addr().checked_sub(frame.as_ptr().addr())?;
    let later = super::read(frame).is_some_and(|headers| headers.fragment.is_later());
    Some(Layout {
        is_v6,
        network: ETHERNET,
        transport: Some(at).filter(|_| !later),
        protocol: Protocol::from_number(payload.ip_number.0),
        length: frame.len(),
    })
}

impl Layout {
    /// The bytes of a field, if the frame has it.
    pub fn field(&self, field: Field) -> Option<Range<usize>> {
        let network = |v4: Range<usize>, v6: Range<usize>| {
            let range = if self.is_v6 { v6 } else { v4 };
            Some(self.network + range.start..self.network + range.end)
        };
        let transport = |range: Range<usize>, has: bool| {
            let start = self.transport.filter(|_| has)?;
            Some(start + range.start..start + range.end)
        };
        let has_ports = self.protocol.has_ports();
        let is_icmp = matches!(self.protocol, Protocol::Icmp | Protocol::Icmpv6);
        let place = match field {
            Field::DestinationMac => Some(0..6),
            Field::SourceMac => Some(6..12),
            Field::Source => network(12..16, 8..24),
            Field::Destination => network(16..20, 24..40),
            Field::Protocol => network(9..10, 6..7),
            Field::Ttl => network(8..9, 7..8),
            Field::SourcePort => transport(0..2, has_ports),
            Field::DestinationPort => transport(2..4, has_ports),
            Field::TcpFlags => transport(13..14, self.protocol == Protocol::Tcp),
            Field::IcmpType => transport(0..1, is_icmp),
            Field::IcmpCode => transport(1..2, is_icmp),
        };
        place.filter(|place| place.end <= self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethernet, IPv4 with one word of options, TCP.
    fn tcp4() -> Vec<u8> {
        let mut frame = vec![0; ETHERNET + 24 + 20];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14] = 0x46;
        frame[17] = 44;
        frame[22] = 63;
        frame[23] = 6;
        frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        frame[38..42].copy_from_slice(&[0x9c, 0x40, 0x00, 0x50]);
        frame[50] = 0x50;
        frame
    }

    #[test]
    fn fields_lie_where_the_standards_put_them() {
        let layout = layout(&tcp4()).unwrap();
        for (field, place) in [
            (Field::DestinationMac, Some(0..6)),
            (Field::Source, Some(26..30)),
            (Field::Destination, Some(30..34)),
            (Field::Ttl, Some(22..23)),
            (Field::Protocol, Some(23..24)),
            (Field::SourcePort, Some(38..40)),
            (Field::DestinationPort, Some(40..42)),
            (Field::TcpFlags, Some(51..52)),
            (Field::IcmpType, None),
        ] {
            assert_eq!(layout.field(field), place, "{field:?}");
        }
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let mut frame = tcp4();
        frame[21] = 1;
        assert_eq!(layout(&frame).unwrap().field(Field::SourcePort), None);
        assert_eq!(layout(&frame[..20]), None);
    }
}
