//! Whether the checksums of a frame are right: IPv4 headers, TCP, UDP, ICMP, ICMPv6, and the IPv4 header that an ICMP error
//! quotes. Reads only. (SCTP's is over all of the packet and no program changes what it sums.)

/// The first checksum of an Ethernet frame that is wrong, in words; `None` where all that can be verified are right. Pieces of
/// datagrams are looked at as far as their network header: no piece holds all that the transport sums.
#[must_use]
pub fn wrong_checksum(frame: &[u8]) -> Option<&'static str> {
    match frame.get(12..14)? {
        [0x08, 0x00] => wrong_in_ipv4(frame.get(14..)?),
        [0x86, 0xDD] => wrong_in_ipv6(frame.get(14..)?),
        _ => None,
    }
}

fn wrong_in_ipv4(packet: &[u8]) -> Option<&'static str> {
    let header = usize::from(packet.first()? & 0x0F) * 4;
    if sum(0, packet.get(..header)?) != 0xFFFF {
        return Some("of the IPv4 header");
    }
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let is_piece = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3FFF != 0;
    if is_piece {
        return None;
    }
    let protocol = *packet.get(9)?;
    let transport = packet.get(header..total)?;
    let pseudo = sum(0, packet.get(12..20)?);
    match protocol {
        1 => wrong_in_icmp(transport),
        _ => wrong_in_transport(transport, protocol, pseudo, true),
    }
}

/// RFC 792. Errors quote a packet, whose header must be right too; its transport cannot be verified.
fn wrong_in_icmp(message: &[u8]) -> Option<&'static str> {
    if sum(0, message) != 0xFFFF {
        return Some("of the ICMP message");
    }
    let is_error = matches!(message.first()?, 3 | 11 | 12);
    let quoted = message.get(8..).filter(|_| is_error)?;
    let header = usize::from(quoted.first()? & 0x0F) * 4;
    (sum(0, quoted.get(..header)?) != 0xFFFF).then_some("of the quoted IPv4 header")
}

fn wrong_in_ipv6(packet: &[u8]) -> Option<&'static str> {
    let length = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
    let transport = packet.get(40..40 + length)?;
    let pseudo = sum(0, packet.get(8..40)?);
    // Extension headers are not walked: what follows them is not verified.
    wrong_in_transport(transport, *packet.get(6)?, pseudo, false)
}

fn wrong_in_transport(
    transport: &[u8],
    protocol: u8,
    addresses: u32,
    may_lack: bool,
) -> Option<&'static str> {
    let length = u32::try_from(transport.len()).ok()?;
    let pseudo = addresses + u32::from(protocol) + (length >> 16) + (length & 0xFFFF);
    let (wrong, at) = match protocol {
        6 => ("of TCP", 16),
        17 => ("of UDP", 6),
        58 => ("of ICMPv6", 2),
        _ => return None,
    };
    let own = transport.get(at..at + 2)?;
    // UDP over IPv4 may go without (RFC 768).
    if protocol == 17 && may_lack && own == [0, 0] {
        return None;
    }
    (sum(pseudo, transport) != 0xFFFF).then_some(wrong)
}

/// The one's complement sum of 16-bit words (RFC 1071), folded.
fn sum(start: u32, bytes: &[u8]) -> u32 {
    let mut sum = u64::from(start);
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u64::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    u32::try_from(sum).unwrap_or(u32::MAX)
}
