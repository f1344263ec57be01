//! What is told of packets beyond facts, and of which ones: the beginning of frames, and the filter. Asked only where somebody
//! looks; never changes a packet or a verdict.

use core::ptr;

use aya_ebpf::bindings::{__sk_buff, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::bpf_skb_load_bytes;
use datapath_abi::{Filter, FrameEvent, SNAP_LENGTH, config, family, filter, kind};

use crate::context;
use crate::emit;
use crate::headers::{ETHERNET, Packet};
use crate::maps::{EVENTS, FILTER, SCRATCH};
use crate::run::{Facts, Run, Sides, apart};

const WORDS: usize = SNAP_LENGTH / 8;
const _: () = assert!(SNAP_LENGTH.is_multiple_of(8));

/// A frame's beginning.
#[repr(C)]
pub(crate) struct Snapshot {
    /// Bytes of the whole frame.
    length: u32,
    /// Bytes of it in `data`; 0: none could be read.
    captured: u32,
    /// The bytes. Behind them is what was there before.
    data: [u64; WORDS],
}

/// Bytes of a frame that are captured. Reckoned so that every verifier sees from the numbers alone that they are at least one, and fit:
/// older ones do not learn it from a comparison of a copy. No frame is empty; of one that were, nothing could be read.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
fn captured(skb: *mut __sk_buff) -> u32 {
    const { assert!(SNAP_LENGTH.is_power_of_two()) }
    let last = SNAP_LENGTH as u32 - 1;
    (context::length(skb).min(SNAP_LENGTH as u32).wrapping_sub(1) & last) + 1
}

/// Keeps the frame as it is now.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn keep(skb: *mut __sk_buff) -> u32 {
    context::hold(skb);
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    let wanted = captured(skb);
    // SAFETY: this CPU's value, which this run has to itself; room for the bytes asked for.
    unsafe {
        let came = &raw mut (*scratch).came;
        (*came).length = context::length(skb);
        let code = bpf_skb_load_bytes(skb.cast(), 0, (&raw mut (*came).data).cast(), wanted);
        (*came).captured = if code == 0 { wanted } else { 0 };
    }
    0
}

/// Whether anything is told of the packet: 1 or 0. Begins with its frames, where those are wanted.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn show(skb: *mut __sk_buff) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    emit::keep_cpu();
    apart(skb, |run, packet, facts| {
        // SAFETY: this CPU's value, which this run has to itself.
        let (verdict, came) = unsafe { (&(*scratch).verdict, &(*scratch).came) };
        if run.has(config::FILTERED) && !is_wanted(packet, facts, verdict.is_drop()) {
            return 0;
        }
        if run.has(config::CAPTURE) {
            tell(run, false, |event| copy(event, came));
            if !verdict.is_drop() && !run.has(config::OBSERVE) {
                tell(run, true, |event| load(event, skb));
            }
        }
        1
    })
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "256 at most")]
fn copy(event: &mut FrameEvent, came: &Snapshot) {
    event.length = came.length;
    event.captured = came.captured as u16;
    let data = (&raw mut event.data).cast::<u64>();
    let mut at = 0;
    while at < WORDS {
        // SAFETY: within both; the event is aligned to 8, as its data is in it.
        unsafe { data.add(at).write_volatile(came.data[at]) };
        at += 1;
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "256 at most")]
fn load(event: &mut FrameEvent, skb: *mut __sk_buff) {
    let wanted = captured(skb);
    event.length = context::length(skb);
    // SAFETY: room for the bytes asked for.
    let code = unsafe { bpf_skb_load_bytes(skb.cast(), 0, (&raw mut event.data).cast(), wanted) };
    event.captured = if code == 0 { wanted as u16 } else { 0 };
}

#[inline(always)]
fn tell(run: &Run, leaves: bool, fill: impl FnOnce(&mut FrameEvent)) {
    let Some(mut room) = EVENTS.reserve_untyped::<FrameEvent>(0) else { return emit::lose() };
    let event = room.as_mut_ptr();
    // SAFETY: room for the event, aligned to 8 as all of the ring is; events are integers only.
    let event = unsafe {
        crate::run::clear(event.cast::<[u64; size_of::<FrameEvent>() / 8]>());
        &mut *event
    };
    event.header = emit::header(run.hook, kind::FRAME, run.generation);
    event.leaves = u8::from(leaves);
    if !run.has(config::SIMULATED) {
        event.lost = emit::lost().to_le_bytes()[0];
    }
    fill(event);
    room.submit(u64::from(BPF_RB_NO_WAKEUP));
}

/// Whether the filter wants the packet, as it came or as it leaves.
#[inline(always)]
fn is_wanted(packet: &Packet, facts: &Facts, is_drop: bool) -> bool {
    let Some(wanted) = FILTER.get(0) else { return true };
    if wanted.flags & filter::DROPS != 0 && !is_drop {
        return false;
    }
    if wanted.flags & filter::BY_ID != 0 && id() != Some(wanted.id) {
        return false;
    }
    let is_kind = (wanted.family == 0 || wanted.family == packet.family)
        && (wanted.protocol == 0 || wanted.protocol == packet.protocol);
    is_kind
        && (of_sides(wanted, &Sides::of(packet))
            || emit::before(packet, facts).is_some_and(|before| of_sides(wanted, before)))
}

#[inline(always)]
fn of_sides(wanted: &Filter, sides: &Sides) -> bool {
    matches(wanted, sides)
        || wanted.flags & filter::EITHER_WAY != 0 && matches(wanted, &sides.exchanged())
}

#[inline(always)]
fn matches(wanted: &Filter, sides: &Sides) -> bool {
    let address = |value: *const [u8; 16], mask: *const [u8; 16], of: [u64; 2]| {
        let (value, mask) = (value.cast::<u64>(), mask.cast::<u64>());
        // SAFETY: sixteen bytes each, aligned to 8 in the filter.
        unsafe { of[0] & *mask == *value && of[1] & *mask.add(1) == *value.add(1) }
    };
    let port = |wanted: u16, port: u16| wanted == 0 || wanted == port;
    address(&raw const wanted.source, &raw const wanted.source_mask, sides.source)
        && address(
            &raw const wanted.destination,
            &raw const wanted.destination_mask,
            sides.destination,
        )
        && port(wanted.source_port, sides.source_port)
        && port(wanted.destination_port, sides.destination_port)
}

/// IPv4: the identification; IPv6: the flow label. Of the frame that was kept.
#[inline(always)]
fn id() -> Option<u32> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: this CPU's value; within the bytes that are kept.
    unsafe {
        let data = (&raw const (*scratch).came.data).cast::<u8>();
        match (*scratch).packet.family {
            family::V4 => {
                let id = ptr::read_unaligned(data.add(ETHERNET + 4).cast::<u16>());
                Some(u32::from(u16::from_be(id)))
            }
            family::V6 => {
                let word = ptr::read_unaligned(data.add(ETHERNET).cast::<u32>());
                Some(u32::from_be(word) & 0xF_FFFF)
            }
            _ => None,
        }
    }
}
