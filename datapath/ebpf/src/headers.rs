//! Reading headers: Ethernet, IPv4 with options and fragments, IPv6 with extension headers, TCP, UDP,
//! SCTP, ICMP and ICMPv6, and the packet that an ICMP error quotes. Reads only; judges nothing.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{bpf_skb_load_bytes, bpf_skb_pull_data};
use datapath_abi::{family, reason};

use crate::context;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const SCTP: u8 = 132;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;

/// TCP flags (RFC 9293 3.1).
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86DD;
/// Smaller values are lengths of IEEE 802.3 frames.
const ETHERTYPE_MIN: u16 = 0x0600;

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
/// Bytes of an IPv4 header without options.
pub(crate) const IPV4: usize = 20;
/// Bytes of an IPv6 header.
pub(crate) const IPV6: usize = 40;

/// Extension headers of IPv6.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers that are skipped at most: one of each kind of RFC 8200 4.1, destination options twice.
const MAX_EXTENSIONS: usize = 6;
/// Bytes from the frame's start within which the transport header must begin.
const MAX_OFFSET: usize = 512;
/// Bytes that are made linear where the headers are not: the transport header and as much again.
const PULL: u32 = 640;

/// What kind of frame it is: [`Frame::Ip`] means that a [`Packet`] was read.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Frame {
    /// IPv4 or IPv6.
    Ip = 0,
    /// ARP.
    Arp = 1,
    /// Another protocol over Ethernet II.
    Other = reason::UNKNOWN_L3,
    /// Not Ethernet II.
    NotEthernet = reason::UNSUPPORTED_L2,
    /// A network header that is truncated or malformed.
    Invalid = reason::INVALID_PACKET,
}

/// An IP packet's headers. Addresses are 16 bytes as two words in network order, IPv4 in the first
/// four bytes; ports are in network order.
#[repr(C, align(8))]
pub(crate) struct Packet {
    /// Source address.
    pub(crate) source: [u64; 2],
    /// Destination address.
    pub(crate) destination: [u64; 2],
    /// Bytes from the network header on, by that header.
    pub(crate) length: u32,
    /// Port of the source. ICMP echo: the identifier on a reply's side. 0 where there is none.
    pub(crate) source_port: u16,
    /// Port of the destination. ICMP echo: the identifier on a request's side. 0 where there is none.
    pub(crate) destination_port: u16,
    /// Offset of the transport header in the frame.
    pub(crate) transport: u16,
    /// Offset of a fragment's data in bytes.
    pub(crate) fragment_offset: u16,
    /// [`family`]; 0 before anything was read.
    pub(crate) family: u8,
    /// IANA number of the transport protocol.
    pub(crate) protocol: u8,
    /// TTL or hop limit.
    pub(crate) ttl: u8,
    /// TCP flags.
    pub(crate) tcp_flags: u8,
    /// ICMP type.
    pub(crate) icmp_type: u8,
    /// ICMP code.
    pub(crate) icmp_code: u8,
    /// More fragments follow.
    pub(crate) more_fragments: bool,
    /// Why the packet must be dropped if a policy has to judge it: its transport cannot be read. 0: it can.
    pub(crate) fault: u8,
}

impl Packet {
    #[inline(always)]
    pub(crate) fn unread() -> Self {
        Self {
            source: [0; 2],
            destination: [0; 2],
            length: 0,
            source_port: 0,
            destination_port: 0,
            transport: 0,
            fragment_offset: 0,
            family: 0,
            protocol: 0,
            ttl: 0,
            tcp_flags: 0,
            icmp_type: 0,
            icmp_code: 0,
            more_fragments: false,
            fault: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn is_ipv4(&self) -> bool {
        self.family == family::V4
    }

    /// Whether the transport is either ICMP.
    #[inline(always)]
    pub(crate) fn is_icmp(&self) -> bool {
        self.protocol == ICMP || self.protocol == ICMPV6
    }

    /// Whether the transport header is in another piece.
    #[inline(always)]
    pub(crate) fn is_later_fragment(&self) -> bool {
        self.fragment_offset != 0
    }

    /// Whether it is an ICMP error, which quotes a packet: destination unreachable, packet too big, time
    /// exceeded, parameter problem.
    #[inline(always)]
    pub(crate) fn is_icmp_error(&self) -> bool {
        match self.protocol {
            ICMP => matches!(self.icmp_type, 3 | 11 | 12),
            ICMPV6 => matches!(self.icmp_type, 1..=4),
            _ => false,
        }
    }

    /// Whether it is neighbour discovery (RFC 4861), which is not judged.
    #[inline(always)]
    pub(crate) fn is_neighbour_discovery(&self) -> bool {
        self.protocol == ICMPV6 && self.fault == 0 && matches!(self.icmp_type, 133..=137)
    }
}

/// Reads the headers of a frame. Where they lie in paged memory they are made linear first, so pointers
/// into the packet that the caller holds are void afterwards.
#[inline(always)]
pub(crate) fn read(skb: *mut __sk_buff, packet: &mut Packet) -> Frame {
    let frame = parse(skb, packet);
    let truncated = frame == Frame::Invalid
        || frame == Frame::NotEthernet
        || packet.fault == reason::CT_INVALID_HEADER;
    let (linear, length) = (context::data_end(skb) - context::data(skb), context::length(skb));
    if !truncated || linear >= length as usize || linear >= PULL as usize {
        return frame;
    }
    // SAFETY: the context; a length within the packet.
    if unsafe { bpf_skb_pull_data(skb, length.min(PULL)) } != 0 {
        return frame;
    }
    parse(skb, packet)
}

/// The packet's bytes that can be reached directly.
#[derive(Clone, Copy)]
pub(crate) struct Bytes {
    data: usize,
    end: usize,
}

impl Bytes {
    #[inline(always)]
    pub(crate) fn of(skb: *mut __sk_buff) -> Self {
        Self { data: context::data(skb), end: context::data_end(skb) }
    }

    /// The address of `length` bytes at an offset, if they are there.
    #[inline(always)]
    pub(crate) fn at(self, offset: usize, length: usize) -> Option<usize> {
        let start = self.data + offset;
        (start + length <= self.end).then_some(start)
    }
}

/// Reads a value of the packet.
///
/// # Safety
/// The bytes must have been checked with [`Bytes::at`]. They need not be aligned: the kernel refuses an
/// unaligned load at load time where the machine cannot do it, and an aligned load is one
/// instruction where Rust's unaligned one is as many as there are bytes.
#[inline(always)]
unsafe fn load<T: Copy>(address: usize) -> T {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::with_exposed_provenance::<T>(address).read_volatile() }
}

/// Reads the headers as far as they are linear.
#[inline(never)]
fn parse(skb: *mut __sk_buff, packet: &mut Packet) -> Frame {
    let bytes = Bytes::of(skb);
    let Some(ethernet) = bytes.at(0, ETHERNET) else { return Frame::NotEthernet };
    // SAFETY: checked above.
    let ethertype = u16::from_be(unsafe { load(ethernet + 12) });
    match ethertype {
        ETHERTYPE_IPV4 => parse_ipv4(bytes, packet),
        ETHERTYPE_IPV6 => parse_ipv6(skb, bytes, packet),
        ETHERTYPE_ARP => Frame::Arp,
        0..ETHERTYPE_MIN => Frame::NotEthernet,
        _ => Frame::Other,
    }
}

/// RFC 791 3.1.
#[inline(always)]
fn parse_ipv4(bytes: Bytes, packet: &mut Packet) -> Frame {
    let Some(header) = bytes.at(ETHERNET, IPV4) else { return Frame::Invalid };
    // SAFETY: all within the 20 bytes checked above.
    let (version_length, total, fragment, ttl, protocol, source, destination) = unsafe {
        (
            load::<u8>(header),
            u16::from_be(load(header + 2)),
            u16::from_be(load(header + 6)),
            load::<u8>(header + 8),
            load::<u8>(header + 9),
            load::<u32>(header + 12),
            load::<u32>(header + 16),
        )
    };
    let header_length = usize::from(version_length & 0x0F) * 4;
    if version_length >> 4 != 4 || header_length < IPV4 || usize::from(total) < header_length {
        return Frame::Invalid;
    }
    packet.family = family::V4;
    packet.source = [u64::from(source), 0];
    packet.destination = [u64::from(destination), 0];
    packet.length = u32::from(total);
    packet.ttl = ttl;
    packet.protocol = protocol;
    packet.fragment_offset = (fragment & 0x1FFF) << 3;
    packet.more_fragments = fragment & 0x2000 != 0;
    packet.fault = parse_transport(bytes, ETHERNET + header_length, packet);
    Frame::Ip
}

/// RFC 8200 3.
#[inline(always)]
fn parse_ipv6(skb: *mut __sk_buff, bytes: Bytes, packet: &mut Packet) -> Frame {
    let Some(header) = bytes.at(ETHERNET, IPV6) else { return Frame::Invalid };
    // SAFETY: all within the 40 bytes checked above.
    unsafe {
        if load::<u8>(header) >> 4 != 6 {
            return Frame::Invalid;
        }
        packet.family = family::V6;
        packet.source = [load(header + 8), load(header + 16)];
        packet.destination = [load(header + 24), load(header + 32)];
        packet.length = u32::from(u16::from_be(load(header + 4))) + 40;
        packet.protocol = load(header + 6);
        packet.ttl = load(header + 7);
    }
    packet.fragment_offset = 0;
    packet.more_fragments = false;
    let mut offset = ETHERNET + IPV6;
    if is_extension(packet.protocol) {
        let extensions = skip_extensions(skb, ETHERNET + IPV6, packet.protocol);
        packet.protocol = extensions.next;
        packet.fragment_offset = extensions.fragment_offset;
        packet.more_fragments = extensions.more_fragments;
        if extensions.fault != 0 {
            packet.fault = extensions.fault;
            return Frame::Ip;
        }
        offset = usize::from(extensions.end);
        if offset > MAX_OFFSET {
            packet.fault = reason::INVALID_EXTENSION_HEADER;
            return Frame::Ip;
        }
    }
    packet.fault = parse_transport(bytes, offset, packet);
    Frame::Ip
}

/// Reads ports, flags, types. Returns 0 or the packet's fault.
#[inline(always)]
fn parse_transport(bytes: Bytes, offset: usize, packet: &mut Packet) -> u8 {
    packet.source_port = 0;
    packet.destination_port = 0;
    packet.tcp_flags = 0;
    packet.icmp_type = 0;
    packet.icmp_code = 0;
    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_OFFSET")]
    let transport = offset as u16;
    packet.transport = transport;
    let needed = match packet.protocol {
        TCP => 20,
        UDP | ICMP | ICMPV6 => 8,
        SCTP => 12,
        _ => return reason::CT_UNKNOWN_PROTOCOL,
    };
    if packet.is_icmp() && (packet.more_fragments || packet.is_later_fragment()) {
        return reason::FRAGMENT_NOT_SUPPORTED;
    }
    if packet.is_later_fragment() {
        return 0;
    }
    let claimed = packet.length as usize + ETHERNET;
    let Some(header) = bytes.at(offset, 8).filter(|_| claimed >= offset + needed) else {
        return reason::CT_INVALID_HEADER;
    };
    // SAFETY: within the 8 bytes checked above.
    unsafe {
        if packet.is_icmp() {
            packet.icmp_type = load(header);
            packet.icmp_code = load(header + 1);
            set_echo_identifier(packet, load(header + 4));
        } else {
            packet.source_port = load(header);
            packet.destination_port = load(header + 2);
        }
    }
    if packet.protocol == TCP {
        let Some(header) = bytes.at(offset, 20) else { return reason::CT_INVALID_HEADER };
        // SAFETY: within the 20 bytes checked above.
        packet.tcp_flags = unsafe { load(header + 13) };
    } else if packet.protocol == SCTP && bytes.at(offset, 12).is_none() {
        return reason::CT_INVALID_HEADER;
    }
    0
}

/// The identifier plays the port: of the destination in a request, of the source in a reply.
#[inline(always)]
fn set_echo_identifier(packet: &mut Packet, identifier: u16) {
    match (packet.protocol, packet.icmp_type) {
        (ICMP, 8) | (ICMPV6, 128) => packet.destination_port = identifier,
        (ICMP, 0) | (ICMPV6, 129) => packet.source_port = identifier,
        _ => {}
    }
}

#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(
        next,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | NO_NEXT_HEADER | DESTINATION_OPTIONS
    )
}

/// What comes after extension headers.
struct Extensions {
    /// Offset in the frame.
    end: u16,
    fragment_offset: u16,
    /// The transport protocol.
    next: u8,
    more_fragments: bool,
    /// 0 or the packet's fault.
    fault: u8,
}

/// Skips extension headers from an offset on. They are rare, so they are copied, which works in paged
/// memory too.
#[inline(always)]
fn skip_extensions(skb: *mut __sk_buff, start: usize, first: u8) -> Extensions {
    #[expect(clippy::cast_possible_truncation, reason = "callers start within MAX_OFFSET")]
    let mut found = Extensions {
        end: start as u16,
        fragment_offset: 0,
        next: first,
        more_fragments: false,
        fault: 0,
    };
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(found.next) {
            return found;
        }
        // A piece that is not the first holds no further header.
        if found.fragment_offset != 0 {
            return found;
        }
        let Some([next, length, high, low]) = copy::<4>(skb, u32::from(found.end)) else {
            found.fault = reason::CT_INVALID_HEADER;
            return found;
        };
        found.end += match found.next {
            NO_NEXT_HEADER => {
                found.fault = reason::INVALID_EXTENSION_HEADER;
                return found;
            }
            FRAGMENT => {
                found.fragment_offset = u16::from_be_bytes([high, low & 0xF8]);
                found.more_fragments = low & 1 != 0;
                8
            }
            AUTHENTICATION => (u16::from(length) + 2) * 4,
            _ => (u16::from(length) + 1) * 8,
        };
        found.next = next;
    }
    if is_extension(found.next) && found.fragment_offset == 0 {
        found.fault = reason::INVALID_EXTENSION_HEADER;
    }
    found
}

/// Copies bytes of the packet, wherever they lie.
#[inline(always)]
fn copy<const N: usize>(skb: *mut __sk_buff, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the context, and a buffer of the size given.
    let failed =
        unsafe { bpf_skb_load_bytes(skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) };
    (failed == 0).then_some(bytes)
}

/// Reads the packet that an ICMP error quotes: addresses, protocol and ports, as that packet had them.
/// False where it cannot be told which flow it belongs to.
#[inline(never)]
pub(crate) fn read_quoted(skb: *mut __sk_buff, error: &Packet, quoted: &mut Packet) -> bool {
    let start = u32::from(error.transport) + 8;
    let transport = if error.is_ipv4() {
        read_quoted_ipv4(skb, start, quoted)
    } else {
        read_quoted_ipv6(skb, start, quoted)
    };
    let Some(offset) = transport else { return false };
    let Some([a, b, c, d]) = copy::<4>(skb, offset) else { return false };
    match quoted.protocol {
        TCP | UDP | SCTP => {
            quoted.source_port = u16::from_ne_bytes([a, b]);
            quoted.destination_port = u16::from_ne_bytes([c, d]);
            true
        }
        ICMP | ICMPV6 => {
            quoted.icmp_type = a;
            let Some(identifier) = copy::<2>(skb, offset + 4) else { return false };
            set_echo_identifier(quoted, u16::from_ne_bytes(identifier));
            true
        }
        _ => false,
    }
}

/// Returns the offset of the quoted transport header.
#[inline(always)]
fn read_quoted_ipv4(skb: *mut __sk_buff, start: u32, quoted: &mut Packet) -> Option<u32> {
    let header = copy::<IPV4>(skb, start)?;
    let later = u16::from_be_bytes([header[6], header[7]]) & 0x1FFF != 0;
    let length = u32::from(header[0] & 0x0F) * 4;
    if header[0] >> 4 != 4 || length < 20 || later {
        return None;
    }
    let word = |at: usize| {
        u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    quoted.family = family::V4;
    quoted.protocol = header[9];
    quoted.source = [u64::from(word(12)), 0];
    quoted.destination = [u64::from(word(16)), 0];
    Some(start + length)
}

/// Returns the offset of the quoted transport header.
#[inline(always)]
fn read_quoted_ipv6(skb: *mut __sk_buff, start: u32, quoted: &mut Packet) -> Option<u32> {
    let [version, _, _, _, _, _, next, _] = copy::<8>(skb, start)?;
    if version >> 4 != 6 {
        return None;
    }
    let words = |at: u32| {
        let low = u64::from_ne_bytes(copy::<8>(skb, start + at)?);
        Some([low, u64::from_ne_bytes(copy::<8>(skb, start + at + 8)?)])
    };
    quoted.family = family::V6;
    quoted.source = words(8)?;
    quoted.destination = words(24)?;
    let found = skip_extensions(skb, start as usize + IPV6, next);
    quoted.protocol = found.next;
    (found.fault == 0 && found.fragment_offset == 0).then_some(u32::from(found.end))
}
