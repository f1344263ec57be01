//! Port conditions as prefixes of protocol and port, which is what a policy entry can hold. Owns the
//! splitting of ranges and what a named port comes to; never whom a rule is about.

use crate::net::{PortRange, Protocol};
use crate::policy::{PortKind, PortSpec};

/// A prefix of (protocol, port): what a policy key says beside the identity. Sorted, a prefix stands
/// before every one that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Traffic {
    /// The protocol; `None` any, and then the rest is 0.
    pub(super) protocol: Option<Protocol>,
    /// The port or ICMP type, of which the first `bits` bits count and the others are 0.
    pub(super) port: u16,
    /// 0 to 16.
    pub(super) bits: u8,
}

impl Traffic {
    /// Every packet.
    pub(super) const EVERYTHING: Self = Self { protocol: None, port: 0, bits: 0 };

    /// Whether every packet of the other is one of this.
    pub(super) fn covers(self, other: Self) -> bool {
        let free = 16 - u32::from(self.bits);
        let same_port = self.bits <= other.bits && u32::from(self.port ^ other.port) >> free == 0;
        self.protocol.is_none() || (self.protocol == other.protocol && same_port)
    }
}

/// A port of a pod that has a name: (name, protocol, port). Sorted lists of them tell pods apart.
pub(super) type Named = (String, Protocol, u16);

/// The port conditions of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ports {
    /// What the numbers and ICMP types come to.
    pub(super) fixed: Vec<Traffic>,
    /// Names, with the protocol where one is written.
    pub(super) named: Vec<(String, Option<Protocol>)>,
}

impl Ports {
    /// Reads a rule's conditions; none at all is everything.
    pub(super) fn of(specs: Option<&[PortSpec]>) -> Self {
        let Some(specs) = specs else {
            return Self { fixed: vec![Traffic::EVERYTHING], named: Vec::new() };
        };
        let mut ports = Self::default();
        for spec in specs {
            match &spec.kind {
                PortKind::Numbers { range, protocol: Some(protocol) } => {
                    ports.fixed.extend(prefixes(*range, *protocol));
                }
                PortKind::Numbers { range, protocol: None } => {
                    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                        ports.fixed.extend(prefixes(*range, protocol));
                    }
                }
                PortKind::Named { name, protocol } => ports.named.push((name.clone(), *protocol)),
                PortKind::Icmp { family, kind } => ports.fixed.push(message(*family, *kind)),
            }
        }
        ports.fixed.sort_unstable();
        ports.fixed.dedup();
        ports
    }

    /// What the names come to at a destination that has these named ports.
    pub(super) fn resolved(&self, own: &[Named]) -> Vec<Traffic> {
        let mut found = Vec::new();
        for (wanted, restriction) in &self.named {
            for (name, protocol, port) in own {
                if name == wanted && restriction.is_none_or(|r| r == *protocol) {
                    found.push(single(*protocol, *port));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn single(protocol: Protocol, port: u16) -> Traffic {
    Traffic { protocol: Some(protocol), port, bits: 16 }
}

/// An ICMP type stands where the port stands; without one it is the whole protocol.
fn message(family: Protocol, kind: Option<u8>) -> Traffic {
    kind.map_or(Traffic { protocol: Some(family), port: 0, bits: 0 }, |kind| {
        single(family, kind.into())
    })
}

/// The fewest prefixes that together are the range, in order. The whole range is the whole protocol.
fn prefixes(range: PortRange, protocol: Protocol) -> Vec<Traffic> {
    let (mut next, end) = (u32::from(range.first), u32::from(range.last) + 1);
    let mut found = Vec::new();
    while next < end {
        // The largest aligned block that starts here and ends in the range: 2^free ports.
        let aligned = if next == 0 { 16 } else { next.trailing_zeros().min(16) };
        let free = aligned.min((end - next).ilog2());
        let (Ok(port), Ok(bits)) = (u16::try_from(next), u8::try_from(16 - free)) else { break };
        found.push(Traffic { protocol: Some(protocol), port, bits });
        next += 1 << free;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(first: u16, last: u16) -> Vec<(u16, u8)> {
        let range = PortRange { first, last };
        prefixes(range, Protocol::Tcp).into_iter().map(|t| (t.port, t.bits)).collect()
    }

    #[test]
    fn ranges_become_the_fewest_prefixes() {
        assert_eq!(split(0, 65535), [(0, 0)]);
        assert_eq!(split(80, 80), [(80, 16)]);
        assert_eq!(split(65535, 65535), [(65535, 16)]);
        assert_eq!(split(64, 127), [(64, 10)]);
        assert_eq!(split(9000, 9010), [(9000, 13), (9008, 15), (9010, 16)]);
        assert_eq!(split(1, 65535).len(), 16);
        assert_eq!(split(1, 65534).len(), 30);
        assert_eq!(split(2, 1), []);
    }

    #[test]
    fn prefixes_cover_the_range_and_nothing_else() {
        let edges = [0, 1, 2, 7, 80, 443, 444, 1023, 1024, 8191, 32767, 32768, 65534, 65535];
        for first in edges {
            for last in edges.into_iter().filter(|last| *last >= first) {
                let found = prefixes(PortRange { first, last }, Protocol::Udp);
                for port in 0..=u16::MAX {
                    let hits = found.iter().filter(|t| t.covers(single(Protocol::Udp, port)));
                    let expected = usize::from((first..=last).contains(&port));
                    assert_eq!(hits.count(), expected, "{port} in {first}-{last}");
                }
            }
        }
    }

    #[test]
    fn what_covers_stands_first() {
        let any = Traffic::EVERYTHING;
        let tcp = Traffic { protocol: Some(Protocol::Tcp), port: 0, bits: 0 };
        let (block, port) = (Traffic { port: 80, bits: 12, ..tcp }, single(Protocol::Tcp, 80));
        let order = [any, tcp, block, port];
        assert!(order.is_sorted());
        for (at, one) in order.iter().enumerate() {
            for (other_at, other) in order.iter().enumerate() {
                assert_eq!(one.covers(*other), at <= other_at, "{one:?} {other:?}");
            }
        }
        assert!(!tcp.covers(single(Protocol::Udp, 80)));
        assert!(!port.covers(single(Protocol::Tcp, 81)));
    }
}
