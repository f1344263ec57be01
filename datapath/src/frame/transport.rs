//! Transport headers with their checksums, and the payload: TCP, UDP, SCTP, ICMP, ICMPv6, others as they are.

use std::net::IpAddr;

use engine::net::{Packet, Protocol, TcpFlags, Transport};
use etherparse::checksum::Sum16BitWords;

/// TCP's window, which no question states.
const WINDOW: u16 = 65_535;

/// Everything behind the network header.
pub(super) fn segment(packet: &Packet) -> Vec<u8> {
    if packet.ip.fragment.is_later() {
        return packet.payload.clone();
    }
    match packet.transport {
        Transport::Tcp { source, destination, flags, sequence, acknowledgement } => {
            let numbers = (sequence, acknowledgement);
            with_sum(packet, tcp((source, destination), flags, numbers), 16)
        }
        Transport::Udp { source, destination } => udp(packet, source, destination),
        Transport::Sctp { source, destination } => sctp(packet, source, destination),
        Transport::Icmp { kind, code, rest } => {
            with_sum(packet, [[kind, code, 0, 0], rest].concat(), 2)
        }
        Transport::Other { .. } => packet.payload.clone(),
    }
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

/// RFC 9293 3.1, without options and without urgent data.
fn tcp(
    (source, destination): (u16, u16),
    flags: TcpFlags,
    (sequence, acknowledgement): (u32, u32),
) -> Vec<u8> {
    const HEADER_WORDS: u8 = 5;
    let mut header = ports(source, destination);
    header.extend(sequence.to_be_bytes());
    header.extend(acknowledgement.to_be_bytes());
    header.extend([HEADER_WORDS << 4, flags.0]);
    header.extend(WINDOW.to_be_bytes());
    header.extend([0; 4]);
    header
}

fn udp(packet: &Packet, source: u16, destination: u16) -> Vec<u8> {
    let mut header = ports(source, destination);
    // Longer ones have no frame: `network::header` refuses them.
    let length = u16::try_from(8 + packet.payload.len()).unwrap_or(u16::MAX);
    header.extend(length.to_be_bytes());
    header.extend([0; 2]);
    with_sum(packet, header, 6)
}

/// The common header of RFC 9260 3.1, whose checksum covers it and all that follows.
fn sctp(packet: &Packet, source: u16, destination: u16) -> Vec<u8> {
    let mut segment = ports(source, destination);
    segment.extend([0; 8]);
    segment.extend(&packet.payload);
    let sum = crc32c(&segment).to_le_bytes();
    segment[8..12].copy_from_slice(&sum);
    segment
}

/// The header and the payload, with the Internet checksum of both put in at an offset.
fn with_sum(packet: &Packet, header: Vec<u8>, at: usize) -> Vec<u8> {
    let mut segment = header;
    segment.extend(&packet.payload);
    let addresses = (packet.ip.source, packet.ip.destination);
    let sum = internet_sum(addresses, packet.protocol(), &segment);
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
