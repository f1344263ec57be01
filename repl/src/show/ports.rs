//! Port prefixes back to the ranges that people write: `compile` splits a range into prefixes, a listing
//! folds them again.

use engine::net::{PortRange, Protocol, icmp};
use engine::tables::PolicyKey;

/// The ports that a key covers.
pub(super) fn covered(key: &PolicyKey) -> PortRange {
    let free = u16::MAX.checked_shr(u32::from(key.port_bits)).unwrap_or(0);
    PortRange { first: key.port, last: key.port | free }
}

/// Merges ranges that touch or overlap; the result is sorted.
pub(super) fn folded(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort();
    let mut merged: Vec<PortRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// `any`, `tcp`, `9000-9010/tcp`, `icmp echo-request`.
pub(super) fn words(protocol: Option<Protocol>, ranges: &[PortRange]) -> String {
    let Some(protocol) = protocol else { return "any".to_owned() };
    if ranges.iter().any(|r| (r.first, r.last) == (0, u16::MAX)) {
        return protocol.to_string();
    }
    if let Some(names) = message_names(protocol) {
        let words: Vec<String> = ranges.iter().map(|r| message(*r, names)).collect();
        return format!("{protocol} {}", words.join(","));
    }
    let words: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    format!("{}/{protocol}", words.join(","))
}

fn message_names(protocol: Protocol) -> Option<&'static [(&'static str, u8)]> {
    match protocol {
        Protocol::Icmp => Some(icmp::NAMES_V4),
        Protocol::Icmpv6 => Some(icmp::NAMES_V6),
        Protocol::Tcp | Protocol::Udp | Protocol::Sctp | Protocol::Other(_) => None,
    }
}

fn message(range: PortRange, names: &[(&'static str, u8)]) -> String {
    let known = names.iter().find(|(_, kind)| PortRange::single((*kind).into()) == range);
    known.map_or_else(|| range.to_string(), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::identity::Identity;

    fn check(prefixes: &[(u16, u8)], protocol: Protocol, expected: &str) {
        let key = |&(port, port_bits): &(u16, u8)| PolicyKey {
            identity: Identity::ANY,
            protocol: Some(protocol),
            port,
            port_bits,
        };
        let ranges = folded(prefixes.iter().map(|p| covered(&key(p))).collect());
        assert_eq!(words(Some(protocol), &ranges), expected);
    }

    #[test]
    fn prefixes_fold_back_to_ranges() {
        check(&[(80, 16)], Protocol::Tcp, "80/tcp");
        check(&[(9000, 13), (9008, 15), (9010, 16)], Protocol::Tcp, "9000-9010/tcp");
        check(&[(80, 16), (443, 16)], Protocol::Tcp, "80,443/tcp");
        check(&[(0, 0)], Protocol::Udp, "udp");
        check(&[(8, 16)], Protocol::Icmp, "icmp echo-request");
        check(&[(0, 1), (0x8000, 1)], Protocol::Tcp, "tcp");
        assert_eq!(words(None, &[]), "any");
    }
}
