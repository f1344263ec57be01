//! Rewriting a packet's sides: what decisions are made on is changed at once, the packet itself by [`write`], in the last
//! step. Never decides what is rewritten.

use core::mem::offset_of;

use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::{bpf_l4_csum_replace, bpf_skb_store_bytes};
use datapath_abi::{CtValue, conntrack, rewriting};

use crate::conntrack::Flow;
use crate::headers::{Bytes, ETHERNET, IPV4, IPV6, Packet, SCTP, TCP, UDP};
use crate::maps::SCRATCH;
use crate::run::{Facts, Run, Sides, apart};

/// Source of what a pod sends to itself by a service: 169.254.42.1, as in the reference.
const LOOPBACK4: [u64; 2] = [u32::from_ne_bytes([169, 254, 42, 1]) as u64, 0];
/// The same for IPv6, where the reference has none: `fe80::1`.
const LOOPBACK6: [u64; 2] = [
    u64::from_ne_bytes([0xFE, 0x80, 0, 0, 0, 0, 0, 0]),
    u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 1]),
];

/// The loopback address of the packet's family.
#[inline(always)]
pub(crate) fn loopback(packet: &Packet) -> [u64; 2] {
    if packet.is_ipv4() { LOOPBACK4 } else { LOOPBACK6 }
}

/// The address that an entry translates to.
///
/// # Safety
/// `entry` must be a map value.
#[inline(always)]
pub(crate) unsafe fn address_of(entry: *const CtValue) -> [u64; 2] {
    const { assert!(offset_of!(CtValue, address) % 8 == 0) }
    // SAFETY: sixteen bytes, aligned as words.
    unsafe { (&raw const (*entry).address).cast::<[u64; 2]>().read() }
}

/// The port that an entry translates to, in network order.
///
/// # Safety
/// `entry` must be a map value.
#[inline(always)]
pub(crate) unsafe fn port_of(entry: *const CtValue) -> u16 {
    // SAFETY: two bytes, aligned.
    unsafe { (&raw const (*entry).port).cast::<u16>().read() }
}

/// Keeps the packet's sides as it came, once.
#[inline(always)]
fn keep(packet: &Packet, facts: &mut Facts) {
    if facts.is_translated {
        return;
    }
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's value, which this run has to itself; nothing else refers to this field.
    unsafe { (&raw mut (*scratch).before).write(Sides::of(packet)) };
    facts.is_translated = true;
}

/// Gives the packet another destination.
#[inline(always)]
pub(crate) fn set_destination(
    packet: &mut Packet,
    facts: &mut Facts,
    address: [u64; 2],
    port: u16,
    what_for: u8,
) {
    keep(packet, facts);
    packet.destination = address;
    packet.destination_port = port;
    facts.destination_for = what_for;
}

/// Gives the packet another source.
#[inline(always)]
pub(crate) fn set_source(
    packet: &mut Packet,
    facts: &mut Facts,
    address: [u64; 2],
    port: u16,
    what_for: u8,
) {
    keep(packet, facts);
    packet.source = address;
    packet.source_port = port;
    facts.source_for = what_for;
}

/// Makes the packet what it was when it came.
#[inline(always)]
pub(crate) fn undo(packet: &mut Packet, facts: &mut Facts) {
    if !facts.is_translated {
        return;
    }
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: as in `keep`.
    let before = unsafe { &(*scratch).before };
    packet.source = before.source;
    packet.destination = before.destination;
    packet.source_port = before.source_port;
    packet.destination_port = before.destination_port;
    facts.is_translated = false;
    facts.destination_for = 0;
    facts.source_for = 0;
    facts.is_served = false;
}

/// Translates an answer back: its source is the frontend's, and one to the loopback address is for the pod that sent it.
#[inline(always)]
pub(crate) fn answer(packet: &mut Packet, facts: &mut Facts, flow: &Flow) {
    let flags = flow.flags();
    if flags & conntrack::LOOPBACK != 0 {
        let (own, port) = (packet.source, packet.destination_port);
        set_destination(packet, facts, own, port, rewriting::LOOPBACK_REPLY);
    }
    if flags & conntrack::FRONTEND != 0 {
        let (address, port) = flow.translation();
        set_source(packet, facts, address, port, rewriting::SERVICE_REPLY);
    }
}

/// Adds to a one's complement sum what changing a word of it does (RFC 1624).
#[inline(always)]
fn change(sum: u64, old: u32, new: u32) -> u64 {
    sum + u64::from(!old) + u64::from(new)
}

/// The same for each half of two words.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
fn change_address(sum: u64, old: [u64; 2], new: [u64; 2]) -> u64 {
    let sum = change(sum, old[0] as u32, new[0] as u32);
    let sum = change(sum, (old[0] >> 32) as u32, (new[0] >> 32) as u32);
    let sum = change(sum, old[1] as u32, new[1] as u32);
    change(sum, (old[1] >> 32) as u32, (new[1] >> 32) as u32)
}

/// The sum in 32 bits.
#[inline(always)]
fn fold(sum: u64) -> u64 {
    let sum = (sum & 0xFFFF_FFFF) + (sum >> 32);
    (sum & 0xFFFF_FFFF) + (sum >> 32)
}

/// The sum in 16 bits.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "folded")]
fn fold16(sum: u64) -> u16 {
    let sum = fold(sum);
    let sum = (sum & 0xFFFF) + (sum >> 16);
    let sum = (sum & 0xFFFF) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// Where a transport has its checksum, counted from its header, and how it is to be replaced.
#[inline(always)]
fn checksum_of(packet: &Packet) -> Option<(u32, u64)> {
    match packet.protocol {
        TCP => Some((16, 0)),
        UDP => Some((6, u64::from(BPF_F_MARK_MANGLED_0))),
        SCTP => None,
        _ => Some((2, 0)),
    }
}

/// Replaces part of a checksum in the packet by the difference; `size` is 0 for a sum of its own and 2 for a port.
#[inline(always)]
fn replace(skb: *mut __sk_buff, at: u32, from: u64, to: u64, flags: u64) -> bool {
    // SAFETY: the context; offsets are checked by the kernel.
    unsafe { bpf_l4_csum_replace(skb, at, from, to, flags) == 0 }
}

#[inline(always)]
fn store<T>(skb: *mut __sk_buff, at: u32, value: &T) -> bool {
    let from = core::ptr::from_ref(value).cast();
    // SAFETY: the context, and a value of the size given; offsets are checked by the kernel.
    unsafe { bpf_skb_store_bytes(skb, at, from, size_of::<T>() as u32, 0) == 0 }
}

/// Writes the packet's sides, which came as `before`, into the packet. False if the kernel refuses.
#[inline(always)]
pub(crate) fn write_sides(run: &Run, packet: &Packet, facts: &Facts, before: &Sides) -> bool {
    if facts.is_quote_translated {
        write_error(run.skb) != 0
    } else {
        write(run.skb, packet, before, false)
    }
}

/// The same of an error with the packet that it quotes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn write_error(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, packet, _| {
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
        // SAFETY: this CPU's value, which this run has to itself; nobody writes this field any more.
        u32::from(write(run.skb, packet, unsafe { &(*scratch).before }, true))
    })
}

#[inline(always)]
fn write(skb: *mut __sk_buff, packet: &Packet, before: &Sides, quote: bool) -> bool {
    let addresses = change_address(0, before.source, packet.source);
    let addresses = change_address(addresses, before.destination, packet.destination);
    if !packet.is_later_fragment() && !write_transport(skb, packet, before, addresses) {
        return false;
    }
    if quote && !write_quote(skb, packet) {
        return false;
    }
    write_addresses(skb, packet, addresses)
}

/// Addresses, and the checksum of an IPv4 header.
#[inline(always)]
fn write_addresses(skb: *mut __sk_buff, packet: &Packet, sum: u64) -> bool {
    let length = if packet.is_ipv4() { IPV4 } else { IPV6 };
    let Some(header) = Bytes::of(skb).at(ETHERNET, length) else { return false };
    let header = core::ptr::with_exposed_provenance_mut::<u8>(header);
    // SAFETY: within the bytes checked above, unaligned as `headers::load` explains.
    unsafe {
        if packet.is_ipv4() {
            #[expect(clippy::cast_possible_truncation, reason = "IPv4 is in the first four bytes")]
            let (source, destination) = (packet.source[0] as u32, packet.destination[0] as u32);
            header.add(12).cast::<u32>().write_volatile(source);
            header.add(16).cast::<u32>().write_volatile(destination);
            let checksum = header.add(10).cast::<u16>();
            let old = u64::from(!checksum.read_volatile());
            checksum.write_volatile(!fold16(old + sum));
        } else {
            header.add(8).cast::<u64>().write_volatile(packet.source[0]);
            header.add(16).cast::<u64>().write_volatile(packet.source[1]);
            header.add(24).cast::<u64>().write_volatile(packet.destination[0]);
            header.add(32).cast::<u64>().write_volatile(packet.destination[1]);
        }
    }
    true
}

/// Ports, or an echo's identifier, and the transport's checksum.
#[inline(always)]
fn write_transport(skb: *mut __sk_buff, packet: &Packet, before: &Sides, addresses: u64) -> bool {
    let at = u32::from(packet.transport);
    let checksum = checksum_of(packet);
    // ICMP sums no addresses.
    if let Some((offset, flags)) = checksum
        && (!packet.is_icmp() || !packet.is_ipv4())
        && !replace(skb, at + offset, 0, fold(addresses), flags | u64::from(BPF_F_PSEUDO_HDR))
    {
        return false;
    }
    if packet.is_icmp() {
        let old = before.source_port | before.destination_port;
        let new = packet.source_port | packet.destination_port;
        return packet.is_icmp_error()
            || old == new
            || (replace_port(skb, at, checksum, old, new) && store(skb, at + 4, &new));
    }
    replace_port(skb, at, checksum, before.source_port, packet.source_port)
        && replace_port(skb, at, checksum, before.destination_port, packet.destination_port)
        && store_ports(skb, at, [packet.source_port, packet.destination_port])
}

/// What another port does to the transport's checksum.
#[inline(always)]
fn replace_port(
    skb: *mut __sk_buff,
    transport: u32,
    checksum: Option<(u32, u64)>,
    old: u16,
    new: u16,
) -> bool {
    match checksum {
        Some((at, flags)) if old != new => {
            replace(skb, transport + at, old.into(), new.into(), flags | 2)
        }
        _ => true,
    }
}

/// Both ports, directly where they lie within reach, which is most often.
#[inline(always)]
fn store_ports(skb: *mut __sk_buff, at: u32, ports: [u16; 2]) -> bool {
    // Headers begin within less; the verifier wants to see it.
    let Some(place) = Bytes::of(skb).at(at as usize & 0x3FF, 4) else {
        return store(skb, at, &ports);
    };
    let place = core::ptr::with_exposed_provenance_mut::<u32>(place);
    // SAFETY: checked, unaligned as `headers::load` explains; four bytes either way.
    unsafe { place.write_volatile(core::mem::transmute::<[u16; 2], u32>(ports)) };
    true
}

/// The packet that an ICMP error quotes: its addresses and ports, the checksum of its IPv4 header, and the error's own
/// checksum, which sums all of that. The quoted transport's checksum stays: nobody can verify it without the whole packet.
#[inline(never)]
fn write_quote(skb: *mut __sk_buff, error: &Packet) -> bool {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return false };
    // SAFETY: as in `write`.
    let (quoted, before) = unsafe { (&(*scratch).quoted, &(*scratch).quoted_before) };
    let start = u32::from(error.transport) + 8;
    let addresses = change_address(0, before.source, quoted.source);
    let addresses = change_address(addresses, before.destination, quoted.destination);
    let mut sum = addresses;
    let written = if error.is_ipv4() {
        let Some(old) = crate::headers::copy::<2>(skb, start + 10) else { return false };
        let old = u16::from_ne_bytes(old);
        let new = !fold16(u64::from(!old) + addresses);
        sum = change(sum, old.into(), new.into());
        #[expect(clippy::cast_possible_truncation, reason = "IPv4 is in the first four bytes")]
        let pair = [quoted.source[0] as u32, quoted.destination[0] as u32];
        store(skb, start + 10, &new) && store(skb, start + 12, &pair)
    } else {
        store(skb, start + 8, &quoted.source) && store(skb, start + 24, &quoted.destination)
    };
    if !written {
        return false;
    }
    let at = u32::from(quoted.transport);
    let ports = if quoted.is_icmp() {
        let old = before.source_port | before.destination_port;
        let new = quoted.source_port | quoted.destination_port;
        sum = change(sum, old.into(), new.into());
        store(skb, at + 4, &new)
    } else {
        sum = change(sum, before.source_port.into(), quoted.source_port.into());
        sum = change(sum, before.destination_port.into(), quoted.destination_port.into());
        store(skb, at, &[quoted.source_port, quoted.destination_port])
    };
    ports && replace(skb, u32::from(error.transport) + 2, 0, fold(sum), 0)
}
