//! Observing: notes about flows of protocols in which no packet tells that it begins one. A flow that would be dropped may be older than the
//! programs; one that would be dropped for certain goes on all the same, and what its peer answers opens no flow.

use aya_ebpf::bindings::__sk_buff;
use datapath_abi::{conntrack, ct_kind};

use crate::conntrack::{insert, is_alive, key4, key6};
use crate::headers::Packet;
use crate::maps::{CONFIG, CT4, CT6, SCRATCH};
use crate::run::{Run, apart, clear};

/// What makes of the last word of a flow's key one of a note: `CtKey4::note`.
const NOTE: u64 = 1 << 40;

/// Runs something while the packet's key is that of its flow's note.
#[inline(always)]
fn with_key(packet: &mut Packet, work: impl FnOnce(&mut Packet) -> u32) -> u32 {
    let last = if packet.is_ipv4() { 1 } else { 4 };
    packet.key[last] |= NOTE;
    let result = work(packet);
    packet.key[last] &= !NOTE;
    result
}

/// Whether a packet that would be dropped may be of a flow that is older than the programs: 1 or 0. In the first minute all may. Those that do
/// are noted, and stay it as long as they do not fall silent for longer than conntrack would remember them; so are those that may not.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn may_be_older(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, packet, _| {
        with_key(packet, |packet| {
            let is_older = is_first_minute(run) || is_noted(run, packet, ct_kind::OLDER);
            write(run, packet, if is_older { ct_kind::OLDER } else { ct_kind::UNWANTED });
            u32::from(is_older)
        })
    })
}

/// Whether the flow of a packet that would pass would have been dropped with its first one: 1 or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn is_unwanted(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, packet, _| {
        with_key(packet, |packet| u32::from(is_noted(run, packet, ct_kind::UNWANTED)))
    })
}

#[inline(always)]
fn is_first_minute(run: &Run) -> bool {
    CONFIG.get(0).is_some_and(|config| run.now < config.settled)
}

#[inline(always)]
fn is_noted(run: &Run, packet: &Packet, kind: u8) -> bool {
    let found = if packet.is_ipv4() {
        CT4.get_ptr_mut(key4(packet))
    } else {
        CT6.get_ptr_mut(key6(packet))
    };
    // SAFETY: a map value.
    found.is_some_and(|entry| is_alive(run, entry) && unsafe { (*entry).kind } == kind)
}

#[inline(always)]
fn write(run: &Run, packet: &Packet, kind: u8) {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's value, which this run has to itself; nothing else refers to this field now.
    let value = unsafe {
        clear(&raw mut (*scratch).entry);
        &mut (*scratch).entry
    };
    value.kind = kind;
    value.expires = run.now + u64::from(conntrack::TIMEOUT_OTHER * run.ticks_per_second);
    // Where it fails the next packet of the flow is judged as if it were the first.
    let _ = insert(packet, value, 0);
}
