//! Observing: flows that may be older than the programs, of protocols in which no packet tells that it begins one. Never asked about a
//! packet that would pass.

use aya_ebpf::bindings::__sk_buff;
use datapath_abi::{conntrack, ct_kind};

use crate::conntrack::{insert, is_alive, key4, key6};
use crate::headers::Packet;
use crate::maps::{CONFIG, CT4, CT6, SCRATCH};
use crate::run::{Run, apart, clear};

/// What makes of the last word of a flow's key one of what is noted here: `CtKey4::older`.
const OLDER: u64 = 1 << 40;

/// Whether a packet that would be dropped may be of such a flow: 1 or 0. In the first minute all may. Those that do are noted, and stay it
/// as long as they do not fall silent for longer than conntrack would remember them.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn may_be(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, packet, _| {
        let last = if packet.is_ipv4() { 1 } else { 4 };
        packet.key[last] |= OLDER;
        let is_older = is_first_minute(run) || is_noted(run, packet);
        if is_older {
            note(run, packet);
        }
        packet.key[last] &= !OLDER;
        u32::from(is_older)
    })
}

#[inline(always)]
fn is_first_minute(run: &Run) -> bool {
    CONFIG.get(0).is_some_and(|config| run.now < config.settled)
}

#[inline(always)]
fn is_noted(run: &Run, packet: &Packet) -> bool {
    let found = if packet.is_ipv4() {
        CT4.get_ptr_mut(key4(packet))
    } else {
        CT6.get_ptr_mut(key6(packet))
    };
    found.is_some_and(|entry| is_alive(run, entry))
}

#[inline(always)]
fn note(run: &Run, packet: &Packet) {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's value, which this run has to itself; nothing else refers to this field now.
    let value = unsafe {
        clear(&raw mut (*scratch).entry);
        &mut (*scratch).entry
    };
    value.kind = ct_kind::OLDER;
    value.expires = run.now + u64::from(conntrack::TIMEOUT_OTHER * run.ticks_per_second);
    // Where it fails the flow is one that began under the programs' eyes, from the next packet on.
    let _ = insert(packet, value, 0);
}
