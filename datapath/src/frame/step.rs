//! What the network between two programs does to a frame: a router's count of the hops, and other Ethernet addresses.

use engine::trace::Ethernet;

use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, MIN_LENGTH, ethernet_header};

/// Where the TTL and the checksum lie in IPv4's header, and the hop limit in IPv6's.
const TTL: usize = MIN_LENGTH + 8;
const CHECKSUM: usize = MIN_LENGTH + 10;
const HOP_LIMIT: usize = MIN_LENGTH + 7;

/// Counts the TTL or hop limit down as a router does. `false` where it may go no further (1 or 0), or the frame holds
/// no IP: the frame is left as it is. IPv4's checksum is adjusted, not made anew, so that a wrong one stays wrong.
pub fn count_down(frame: &mut [u8]) -> bool {
    let at = match ethertype(frame) {
        Some(ETHERTYPE_IPV4) if frame.len() > CHECKSUM + 1 => TTL,
        Some(ETHERTYPE_IPV6) if frame.len() > HOP_LIMIT => HOP_LIMIT,
        _ => return false,
    };
    if frame[at] <= 1 {
        return false;
    }
    frame[at] -= 1;
    if at == TTL {
        // The word of the TTL became smaller by 0x0100, so the sum's complement grows by as much (RFC 1624; as the
        // kernel's `ip_decrease_ttl`, a sum of 0xFFFF becomes 0).
        let sum = u32::from(u16::from_be_bytes([frame[CHECKSUM], frame[CHECKSUM + 1]])) + 0x0100;
        let folded = (sum + u32::from(sum >= 0xFFFF)).to_be_bytes();
        frame[CHECKSUM..CHECKSUM + 2].copy_from_slice(&folded[2..]);
    }
    true
}

/// Writes Ethernet addresses. A frame without room for them is left as it is.
pub fn readdress(frame: &mut [u8], ethernet: Ethernet) {
    if let Some(own) = ethertype(frame) {
        frame[..MIN_LENGTH].copy_from_slice(&ethernet_header(ethernet, own));
    }
}

fn ethertype(frame: &[u8]) -> Option<u16> {
    let number = frame.get(MIN_LENGTH - 2..MIN_LENGTH)?;
    Some(u16::from_be_bytes([number[0], number[1]]))
}
