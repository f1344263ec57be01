//! Translated sources: the node's address and a port of its own take the source's place, and what comes back to them is led
//! to the source again. Finds and claims ports; whether a source is translated is the programs' to decide.

use aya_ebpf::bindings::__sk_buff;
use datapath_abi::{CtValue, conntrack, ct_kind, ct_state, rewriting, settings};

use crate::conntrack::{Flow, find, is_alive, look_up_again, put};
use crate::headers::{Packet, SCTP};
use crate::maps::SCRATCH;
use crate::run::{Facts, Run, apart, clear};
use crate::translate::{address_of, port_of, set_destination, set_source, undo};

/// Of those the first ones that are taken already are looked into: a flow that begins anew finds its own port so, and others those
/// of flows that are no more.
const LOOKED_INTO: u32 = 4;
/// Ports that are tried for a source, as in the reference.
const ATTEMPTS: u32 = 32;

/// What the source of a packet is translated to; `None` where the node has no address of its family.
#[inline(always)]
pub(crate) fn address(run: &Run, packet: &Packet) -> Option<[u64; 2]> {
    if packet.is_ipv4() {
        let address = [u64::from(u32::from_ne_bytes(run.settings.nat_address4)), 0];
        run.is_set(settings::NAT4).then_some(address)
    } else {
        // SAFETY: sixteen bytes, aligned as words in the settings.
        let address = unsafe { (&raw const run.settings.nat_address6).cast::<[u64; 2]>().read() };
        run.is_set(settings::NAT6).then_some(address)
    }
}

/// The port that stands for the source of a packet: the source's, or an echo's identifier.
#[inline(always)]
pub(crate) fn port(packet: &Packet) -> u16 {
    if packet.is_icmp() { packet.source_port | packet.destination_port } else { packet.source_port }
}

/// Translates a packet's source to the node's address and a port that was claimed for it.
#[inline(always)]
pub(crate) fn apply(
    packet: &mut Packet,
    facts: &mut Facts,
    address: [u64; 2],
    port: u16,
    what_for: u8,
) {
    let own = packet.source_port;
    set_source(packet, facts, address, own, what_for);
    set_port(packet, port);
}

/// Claims a port of the node for a packet's source: its own, if that is one of those and no other flow has it, else another that was
/// never taken or was forgotten. Returns it in network order; 0 where none is to be had.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a port")]
pub(crate) fn claim(run: &Run) -> u16 {
    claim_port(run.skb) as u16
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn claim_port(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, packet, _| u32::from(look_for(run, packet)))
}

#[inline(always)]
fn look_for(run: &Run, packet: &Packet) -> u16 {
    let Some((beyond, value)) = entry_beyond(run, packet) else { return 0 };
    let (first, last) = (run.settings.nat_first, run.settings.nat_last);
    let own = port(packet);
    let wanted = u16::from_be(own);
    // A message without an identifier has the way back of all of its kind between the two.
    if packet.is_icmp() && own == 0 {
        let _ = put(beyond, value, NEW_ONLY) || take_over(run, beyond, value, own);
        return 0;
    }
    // Another port would need another checksum of SCTP, over all of the packet.
    let is_fixed = packet.protocol == SCTP;
    if is_fixed || (wanted >= first && wanted <= last) {
        set_port(beyond, own);
        if put(beyond, value, NEW_ONLY) || take_over(run, beyond, value, own) {
            return own;
        }
    }
    if is_fixed { 0 } else { find_free(run, beyond, value, (first, last), wanted) }
}

/// The packet as it is beyond the node, but for its port, and the entry that leads back to its source; both in the scratch.
#[inline(always)]
fn entry_beyond(run: &Run, packet: &Packet) -> Option<(&'static mut Packet, &'static mut CtValue)> {
    let address = address(run, packet)?;
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: this CPU's value, which this run has to itself; nothing else refers to these fields now.
    let (beyond, value) = unsafe {
        Packet::begin(&raw mut (*scratch).quoted);
        clear(&raw mut (*scratch).entry);
        (&mut (*scratch).quoted, &mut (*scratch).entry)
    };
    value.expires = u64::MAX;
    value.kind = ct_kind::NAT;
    // SAFETY: sixteen bytes, aligned as words, and two.
    unsafe {
        (&raw mut value.address).cast::<[u64; 2]>().write(packet.source);
        (&raw mut value.port).cast::<u16>().write(port(packet));
    }
    as_beyond(beyond, packet, address);
    Some((beyond, value))
}

/// Sees to it that the answers of a translated flow find back. Its packets look the entry up that leads them, since what nothing
/// touches is the first that a full table forgets, and write it anew where it is gone (as the reference restores a missing twin).
#[inline(always)]
pub(crate) fn see_to(run: &Run, port: u16) {
    if port != 0 {
        restore_port(run.skb, u32::from(port));
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn restore_port(skb: *mut __sk_buff, wanted: u32) -> u32 {
    apart(skb, |run, packet, _| {
        let Some((beyond, value)) = entry_beyond(run, packet) else { return 0 };
        #[expect(clippy::cast_possible_truncation, reason = "a port")]
        set_port(beyond, wanted as u16);
        u32::from(!find(beyond).is_null() || put(beyond, value, NEW_ONLY))
    })
}

/// `BPF_NOEXIST`
const NEW_ONLY: u64 = 1;

/// Tries ports from one on that the flow gives. Returns the one that was free, in network order, or 0.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a hash; and what is within the span, which has 16 bits"
)]
fn find_free(
    run: &Run,
    beyond: &mut Packet,
    value: &mut CtValue,
    (first, last): (u16, u16),
    wanted: u16,
) -> u16 {
    let span = u32::from(last.wrapping_sub(first)) + 1;
    let [low, high] = beyond.destination;
    let seed = (low ^ high).wrapping_add(u64::from(wanted)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let seed = (seed >> 32) as u32;
    for attempt in 1..ATTEMPTS {
        let offset = seed.wrapping_add(attempt.wrapping_mul(0x9E3B)) % span;
        let candidate = first.wrapping_add(offset as u16).to_be();
        set_port(beyond, candidate);
        if put(beyond, value, NEW_ONLY)
            || (attempt <= LOOKED_INTO && take_over(run, beyond, value, candidate))
        {
            return candidate;
        }
    }
    0
}

/// Takes a port that an entry has already: the same source's, or of a flow that is no more. False if it is another flow's.
#[inline(never)]
fn take_over(run: &Run, beyond: &mut Packet, value: &mut CtValue, port: u16) -> bool {
    let known = find(beyond);
    if known.is_null() {
        return false;
    }
    // SAFETY: two map values.
    let (kind, source, own, other) =
        unsafe { ((*known).kind, address_of(known), address_of(value), port_of(known)) };
    if kind == ct_kind::NAT {
        if source == own && other == port {
            return true;
        }
        let (address, back) = (beyond.source, self::port(beyond));
        beyond.source = source;
        set_port(beyond, other);
        let entry = find(beyond);
        // SAFETY: a map value.
        let is_in_use =
            is_alive(run, entry) && u16::from_ne_bytes(unsafe { (*entry).nat_port }) == port;
        beyond.source = address;
        set_port(beyond, back);
        if is_in_use {
            return false;
        }
    } else if is_alive(run, known) {
        return false;
    }
    put(beyond, value, 0)
}

/// The packet as it is beyond the node, but for its port.
#[inline(always)]
fn as_beyond(beyond: &mut Packet, packet: &Packet, address: [u64; 2]) {
    beyond.family = packet.family;
    beyond.protocol = packet.protocol;
    beyond.source = address;
    beyond.destination = packet.destination;
    beyond.source_port = packet.source_port;
    beyond.destination_port = packet.destination_port;
}

/// Gives a packet another port that stands for its source, or another identifier.
#[inline(always)]
fn set_port(packet: &mut Packet, port: u16) {
    if packet.is_icmp() && packet.source_port == 0 {
        packet.destination_port = port;
    } else {
        packet.source_port = port;
    }
}

/// Whether the port that the node itself sends from stands for another source towards the same peer, by a flow that is alive.
#[inline(always)]
pub(crate) fn is_taken(run: &Run) -> bool {
    ask_taken(run.skb) != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ask_taken(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, packet, _| {
        let known = Flow::of(packet);
        if !known.is(ct_kind::NAT) || port(packet) == 0 {
            return 0;
        }
        let (source, other) = known.translation();
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
        // SAFETY: this CPU's value, which this run has to itself; nothing else refers to this field now.
        let inside = unsafe {
            Packet::begin(&raw mut (*scratch).quoted);
            &mut (*scratch).quoted
        };
        as_beyond(inside, packet, source);
        set_port(inside, other);
        let entry = find(inside);
        // SAFETY: a map value.
        let has_it = || u16::from_ne_bytes(unsafe { (*entry).nat_port }) == port(packet);
        u32::from(is_alive(run, entry) && has_it())
    })
}

/// Leads what came back to a translated source to that source, and returns its flow: also what begins a flow anew that was closing
/// (as in the reference, whose translation does not ask for the flow's state). Where the translation counts no more the packet is as it
/// came, and its flow unknown.
#[inline(always)]
pub(crate) fn back(run: &Run, packet: &mut Packet, facts: &mut Facts, known: Flow) -> Flow {
    if facts.state() == ct_state::REPLY {
        let (address, port) = known.translation();
        let beyond = self::port(packet);
        if packet.is_icmp() && packet.destination_port == 0 {
            // An echo's answer has its identifier at the source.
            set_destination(packet, facts, address, 0, rewriting::MASQUERADE_REPLY);
            packet.source_port = port;
        } else {
            set_destination(packet, facts, address, port, rewriting::MASQUERADE_REPLY);
        }
        let flow = look_up_again(run, packet, facts);
        let is_begun_anew = facts.state() == ct_state::NEW;
        let known = if is_begun_anew { Flow::ended(run, packet) } else { flow };
        let is_answer = is_begun_anew || facts.state() == ct_state::REPLY;
        let its_own = if packet.is_icmp() { beyond } else { destination_before(beyond) };
        if is_answer && known.is(ct_kind::PLAIN) && known.last_nat_port() == its_own {
            if known.flags() & conntrack::NODE_PORT != 0 {
                facts.destination_for = rewriting::NODE_PORT_REPLY;
            }
            return flow;
        }
        undo(packet, facts);
    }
    facts.set_state(ct_state::NEW, conntrack::INITIATOR);
    Flow::UNKNOWN
}

/// The destination port that the packet came with.
#[inline(always)]
fn destination_before(otherwise: u16) -> u16 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return otherwise };
    // SAFETY: this CPU's value, which this run has to itself.
    unsafe { (&raw const (*scratch).before.destination_port).read() }
}
