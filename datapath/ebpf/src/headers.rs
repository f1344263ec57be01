//! Reading headers: Ethernet, IPv4 with options and fragments, IPv6 with extension headers, TCP, UDP,
//! SCTP, ICMP and ICMPv6, and the packet that an ICMP error quotes. Reads only; judges nothing.

use core::marker::PhantomPinned;
use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{bpf_skb_load_bytes, bpf_skb_pull_data};
use datapath_abi::{family, reason};

use crate::context;
use crate::run::clear;

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
/// Extension headers that are skipped at most, the fragment header among them (the reference looks at four
/// headers, of which the last must be the transport's).
const MAX_EXTENSIONS: usize = 3;
/// Bytes from the frame's start within which the transport header must begin.
const MAX_OFFSET: usize = 512;
/// Bytes that are made linear where they are not: what is read, and written, directly. A transport header is most
/// often within them.
const HEADERS: u32 = 74;

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

/// An IP packet's headers; all bytes are 0 before they were read. Addresses are 16 bytes as two words in network order, IPv4 in the first
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
    /// Identification of a datagram in pieces, as it lies: 16 bits of IPv4, 32 of IPv6.
    pub(crate) fragment_id: u32,
    /// Which side of its flow's key the source is: 0 the lower, 1 the higher. Known once the flow was looked for.
    pub(crate) source_side: u8,
    /// 0
    pub(crate) reserved: [u8; 7],
    /// Functions apart change packets that their callers hold: nothing read before stays good.
    pub(crate) pinned: PhantomPinned,
    /// The canonical key of the flow that was looked for last, IPv4 in the first two words. Not cleared.
    pub(crate) key: [u64; 5],
}

impl Packet {
    /// Makes it one of which nothing was read yet.
    ///
    /// # Safety
    /// The place must be writable.
    #[inline(always)]
    pub(crate) unsafe fn begin(place: *mut Self) {
        // SAFETY: the caller's promise; everything before the key, all bytes of which may be 0.
        unsafe { clear(place.cast::<[u64; offset_of!(Self, key) / 8]>()) };
    }

    #[inline(always)]
    pub(crate) fn is_ipv4(&self) -> bool {
        self.family == family::V4
    }

    /// Offset of the transport header. Read and written as it is in memory: see [`skip_extensions`].
    #[inline(always)]
    fn transport(&self) -> usize {
        // SAFETY: a field.
        usize::from(unsafe { (&raw const self.transport).read_volatile() })
    }

    #[inline(always)]
    fn set_transport(&mut self, offset: u16) {
        // SAFETY: a field.
        unsafe { (&raw mut self.transport).write_volatile(offset) };
    }

    #[inline(always)]
    fn next_header(&self) -> u8 {
        // SAFETY: a field.
        unsafe { (&raw const self.protocol).read_volatile() }
    }

    #[inline(always)]
    fn set_next_header(&mut self, next: u8) {
        // SAFETY: a field.
        unsafe { (&raw mut self.protocol).write_volatile(next) };
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

    /// Whether it is a piece of a datagram.
    #[inline(always)]
    pub(crate) fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
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

    /// Whether it is a neighbour solicitation or advertisement (RFC 4861 4.3 and 4.4), which is not judged, as in the reference.
    #[inline(always)]
    pub(crate) fn is_neighbour_discovery(&self) -> bool {
        self.protocol == ICMPV6 && self.fault == 0 && matches!(self.icmp_type, 135 | 136)
    }
}

/// Reads the headers of a frame into a packet that is all 0. Ethernet and IP header are made linear first where they
/// lie in paged memory, so pointers into the packet that the caller holds are void afterwards.
#[inline(always)]
pub(crate) fn read(skb: *mut __sk_buff, packet: &mut Packet) -> Frame {
    let (linear, length) = (context::data_end(skb) - context::data(skb), context::length(skb));
    if linear < HEADERS as usize && linear < length as usize {
        // SAFETY: the context; a length within the packet. Refused, less is read.
        let _ = unsafe { bpf_skb_pull_data(skb, length.min(HEADERS)) };
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

#[inline(always)]
fn parse(skb: *mut __sk_buff, packet: &mut Packet) -> Frame {
    let bytes = Bytes::of(skb);
    let Some(ethernet) = bytes.at(0, ETHERNET) else { return Frame::NotEthernet };
    // SAFETY: checked above.
    let ethertype = u16::from_be(unsafe { load(ethernet + 12) });
    match ethertype {
        ETHERTYPE_IPV4 => parse_ipv4(skb, bytes, packet),
        ETHERTYPE_IPV6 => parse_ipv6(skb, bytes, packet),
        ETHERTYPE_ARP => Frame::Arp,
        0..ETHERTYPE_MIN => Frame::NotEthernet,
        _ => Frame::Other,
    }
}

/// RFC 791 3.1.
#[inline(always)]
fn parse_ipv4(skb: *mut __sk_buff, bytes: Bytes, packet: &mut Packet) -> Frame {
    let Some(header) = bytes.at(ETHERNET, IPV4) else { return Frame::Invalid };
    // SAFETY: all within the 20 bytes checked above.
    let (version_length, total, id, fragment, ttl, protocol, source, destination) = unsafe {
        (
            load::<u8>(header),
            u16::from_be(load(header + 2)),
            load::<u16>(header + 4),
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
    packet.fragment_id = u32::from(id);
    packet.fault = parse_transport(skb, ETHERNET + header_length, packet);
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
    let mut offset = ETHERNET + IPV6;
    if is_extension(packet.protocol) {
        skip_extensions(skb, offset, packet);
        if packet.fault != 0 {
            return Frame::Ip;
        }
        offset = packet.transport();
        if offset > MAX_OFFSET {
            packet.fault = reason::INVALID_EXTENSION_HEADER;
            return Frame::Ip;
        }
    }
    packet.fault = parse_transport(skb, offset, packet);
    Frame::Ip
}

/// Reads ports, flags, types. Returns 0 or the packet's fault.
#[inline(always)]
fn parse_transport(skb: *mut __sk_buff, offset: usize, packet: &mut Packet) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_OFFSET")]
    let transport = offset as u16;
    packet.transport = transport;
    let needed = match packet.protocol {
        TCP => 20,
        SCTP => 12,
        UDP => 8,
        // The other family's ICMP is none (as in the reference).
        kind if kind == (if packet.is_ipv4() { ICMP } else { ICMPV6 }) => 8,
        _ => return reason::CT_UNKNOWN_PROTOCOL,
    };
    if packet.is_icmp() && (packet.more_fragments || packet.is_later_fragment()) {
        return reason::FRAGMENT_NOT_SUPPORTED;
    }
    if packet.is_later_fragment() {
        return 0;
    }
    let claimed = packet.length as usize + ETHERNET;
    let present = context::length(skb) as usize;
    if claimed < offset + needed || present < offset + 8 {
        return reason::CT_INVALID_HEADER;
    }
    let start = word(skb, offset);
    #[expect(clippy::cast_possible_truncation, reason = "fields of the word")]
    if packet.is_icmp() {
        packet.icmp_type = start as u8;
        packet.icmp_code = (start >> 8) as u8;
        set_echo_identifier(packet, (start >> 32) as u16);
    } else {
        packet.source_port = start as u16;
        packet.destination_port = (start >> 16) as u16;
    }
    if present < offset + needed {
        return reason::CT_INVALID_HEADER;
    }
    if packet.protocol == TCP {
        #[expect(clippy::cast_possible_truncation, reason = "the byte at 13 of the header")]
        let flags = (word(skb, offset + 8) >> 40) as u8;
        packet.tcp_flags = flags;
    }
    0
}

/// Eight bytes of the packet, which must be there, as they lie; from paged memory too.
#[inline(always)]
fn word(skb: *mut __sk_buff, offset: usize) -> u64 {
    if let Some(address) = Bytes::of(skb).at(offset, 8) {
        // SAFETY: checked.
        return unsafe { load(address) };
    }
    let mut word = MaybeUninit::<u64>::uninit();
    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_OFFSET")]
    // SAFETY: the context, and room for eight bytes, which the kernel fills, or clears where it fails.
    unsafe {
        bpf_skb_load_bytes(skb.cast(), offset as u32, word.as_mut_ptr().cast(), 8);
        word.assume_init()
    }
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

/// Skips extension headers from an offset on; they are rare, so they are copied, which works in paged memory too.
/// Sets the packet's protocol, fragment, fault and the offset of its transport, which live in memory while it goes
/// on: so what it came to is the same to the verifier whatever the way there.
#[inline(never)]
fn skip_extensions(skb: *mut __sk_buff, start: usize, packet: &mut Packet) {
    #[expect(clippy::cast_possible_truncation, reason = "callers start within MAX_OFFSET")]
    packet.set_transport(start as u16);
    for _ in 0..MAX_EXTENSIONS {
        let kind = packet.next_header();
        // A piece that is not the first holds no further header.
        if !is_extension(kind) || packet.is_later_fragment() {
            return;
        }
        if kind == NO_NEXT_HEADER {
            packet.fault = reason::INVALID_EXTENSION_HEADER;
            return;
        }
        let Some([next, length, high, low]) = copy::<4>(skb, packet.transport() as u32) else {
            packet.fault = reason::CT_INVALID_HEADER;
            return;
        };
        let size = match kind {
            FRAGMENT => {
                packet.fragment_offset = u16::from_be_bytes([high, low & 0xF8]);
                packet.more_fragments = low & 1 != 0;
                let id = copy::<4>(skb, packet.transport() as u32 + 4);
                packet.fragment_id = id.map_or(0, u32::from_ne_bytes);
                8
            }
            AUTHENTICATION => (u16::from(length) + 2) * 4,
            _ => (u16::from(length) + 1) * 8,
        };
        #[expect(clippy::cast_possible_truncation, reason = "it was one of 16 bits")]
        packet.set_transport(packet.transport() as u16 + size);
        packet.set_next_header(next);
    }
    if is_extension(packet.next_header()) && !packet.is_later_fragment() {
        packet.fault = reason::INVALID_EXTENSION_HEADER;
    }
}

/// Copies bytes of the packet, wherever they lie.
#[inline(always)]
pub(crate) fn copy<const N: usize>(skb: *mut __sk_buff, offset: u32) -> Option<[u8; N]> {
    let mut bytes = MaybeUninit::<[u8; N]>::uninit();
    // SAFETY: the context, and a buffer of the size given.
    let failed =
        unsafe { bpf_skb_load_bytes(skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) };
    // SAFETY: filled.
    (failed == 0).then(|| unsafe { bytes.assume_init() })
}

/// Reads the packet that an ICMP error quotes: addresses, protocol and ports, as that packet had them.
/// False where it cannot be told which flow it belongs to.
#[inline(always)]
pub(crate) fn read_quoted(skb: *mut __sk_buff, error: &Packet, quoted: &mut Packet) -> bool {
    let start = u32::from(error.transport) + 8;
    let transport = if error.is_ipv4() {
        read_quoted_ipv4(skb, start, quoted)
    } else {
        read_quoted_ipv6(skb, start, quoted)
    };
    let Some(offset) = transport else { return false };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "callers start within MAX_OFFSET, headers are short"
    )]
    quoted.set_transport(offset as u16);
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
    quoted.protocol = next;
    skip_extensions(skb, start as usize + IPV6, quoted);
    let is_whole = quoted.fault == 0 && !quoted.is_later_fragment();
    is_whole.then_some(quoted.transport() as u32)
}
