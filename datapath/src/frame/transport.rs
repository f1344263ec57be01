//! Transport headers with their checksums, and the payload: TCP, UDP, SCTP, ICMP, ICMPv6, others as they are.

use std::net::IpAddr;

use engine::net::{DEFAULT_WINDOW, Packet, Protocol, TcpFlags, Transport};
use etherparse::checksum::Sum16BitWords;

/// Everything behind the network header.
pub(super) fn segment(packet: &Packet) -> Vec<u8> {
    if packet.ip.fragment.is_later() {
        return packet.payload.clone();
    }
    let addresses = (packet.ip.source, packet.ip.destination);
    let payload = packet.payload.as_slice();
    match packet.transport {
        Transport::Tcp { source, destination, flags, sequence, acknowledgement } => {
            let header = Tcp {
                ports: (source, destination),
                flags,
                numbers: (sequence, acknowledgement),
                window: DEFAULT_WINDOW,
                options: &[],
            };
            tcp(addresses, &header, payload)
        }
        Transport::Udp { source, destination } => udp(addresses, (source, destination), payload),
        Transport::Sctp { source, destination } => sctp((source, destination), 0, payload),
        Transport::Icmp { kind, code, rest } => {
            icmp(addresses, packet.protocol(), (kind, code), rest, payload)
        }
        Transport::Other { .. } => packet.payload.clone(),
    }
}

fn ports((source, destination): (u16, u16)) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

/// What a header of TCP says.
pub(super) struct Tcp<'a> {
    /// Source and destination.
    pub(super) ports: (u16, u16),
    pub(super) flags: TcpFlags,
    /// Sequence and acknowledgement.
    pub(super) numbers: (u32, u32),
    pub(super) window: u16,
    /// Whole words, ten at most.
    pub(super) options: &'a [u8],
}

/// RFC 9293 3.1, without urgent data.
pub(super) fn tcp(addresses: (IpAddr, IpAddr), tcp: &Tcp<'_>, payload: &[u8]) -> Vec<u8> {
    const HEADER_WORDS: u8 = 5;
    let words = HEADER_WORDS + u8::try_from(tcp.options.len() / 4).unwrap_or(0);
    let mut header = ports(tcp.ports);
    header.extend(tcp.numbers.0.to_be_bytes());
    header.extend(tcp.numbers.1.to_be_bytes());
    header.extend([words << 4, tcp.flags.0]);
    header.extend(tcp.window.to_be_bytes());
    header.extend([0; 4]);
    header.extend(tcp.options);
    with_sum(addresses, Protocol::Tcp, [header.as_slice(), payload].concat(), 16)
}

/// RFC 768.
pub(super) fn udp(addresses: (IpAddr, IpAddr), (from, to): (u16, u16), payload: &[u8]) -> Vec<u8> {
    let segment = udp_without_sum((from, to), payload);
    with_sum(addresses, Protocol::Udp, segment, 6)
}

/// The same with a checksum of 0, which says that there is none.
pub(super) fn udp_without_sum((from, to): (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut segment = ports((from, to));
    // Longer ones have no frame: `network::header` refuses them.
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    segment.extend(length.to_be_bytes());
    segment.extend([0; 2]);
    segment.extend(payload);
    segment
}

/// The common header of RFC 9260 3.1, whose checksum covers it and all that follows.
pub(super) fn sctp((from, to): (u16, u16), tag: u32, payload: &[u8]) -> Vec<u8> {
    let mut segment = ports((from, to));
    segment.extend(tag.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend(payload);
    let sum = crc32c(&segment).to_le_bytes();
    segment[8..12].copy_from_slice(&sum);
    segment
}

/// ICMP (RFC 792) or ICMPv6 (RFC 4443).
pub(super) fn icmp(
    addresses: (IpAddr, IpAddr),
    protocol: Protocol,
    (kind, code): (u8, u8),
    rest: [u8; 4],
    payload: &[u8],
) -> Vec<u8> {
    let segment = [&[kind, code, 0, 0], rest.as_slice(), payload].concat();
    with_sum(addresses, protocol, segment, 2)
}

/// The segment with its Internet checksum put in at an offset.
fn with_sum(
    addresses: (IpAddr, IpAddr),
    protocol: Protocol,
    mut segment: Vec<u8>,
    at: usize,
) -> Vec<u8> {
    let sum = internet_sum(addresses, protocol, &segment);
    segment[at..at + 2].copy_from_slice(&sum);
    segment
}

/// The Internet checksum of a segment whose own is 0, as its bytes lie in the frame: with the pseudo
/// header of its family but for ICMP over IPv4, and UDP's 0 as `0xFFFF` (RFC 768).
pub(super) fn internet_sum(
    (source, destination): (IpAddr, IpAddr),
    protocol: Protocol,
    segment: &[u8],
) -> [u8; 2] {
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    let pseudo = Sum16BitWords::new()
        .add_slice(&octets(source))
        .add_slice(&octets(destination))
        .add_slice(&length.to_be_bytes())
        .add_2bytes([0, protocol.number()]);
    let start = if protocol == Protocol::Icmp { Sum16BitWords::new() } else { pseudo };
    let sum = start.add_slice(segment);
    let sum = match protocol {
        Protocol::Udp => sum.to_ones_complement_with_no_zero(),
        _ => sum.ones_complement(),
    };
    // The sum is of words as they lie in memory, so it goes back as it lies there.
    sum.to_ne_bytes()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The Castagnoli checksum (RFC 9260 appendix A), bit by bit: frames are short and few.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    const REFLECTED: u32 = 0x82F6_3B78;
    let register = bytes.iter().fold(u32::MAX, |register, byte| {
        (0..8).fold(register ^ u32::from(*byte), |register, _| {
            let carry = if register & 1 == 0 { 0 } else { REFLECTED };
            (register >> 1) ^ carry
        })
    });
    !register
}
