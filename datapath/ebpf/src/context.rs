//! Fields of a program's context, and counters in maps, by instructions of a form that the compiler cannot
//! choose: the verifier refuses a context pointer that was added to, which the optimizer likes to keep.

use core::arch::asm;
use core::mem::offset_of;

use aya_ebpf::bindings::__sk_buff;

/// Uses the context, so that callers hand it over even where nothing is read of it: the verifier wants it.
#[inline(always)]
pub(crate) fn hold(skb: *mut __sk_buff) {
    // SAFETY: no instruction.
    unsafe { asm!("/* {skb} */", skb = in(reg) skb, options(nomem, nostack, preserves_flags)) };
}

/// Reads the 32-bit field at an offset.
#[inline(always)]
fn field<const OFFSET: usize>(skb: *mut __sk_buff) -> u64 {
    let value;
    // SAFETY: the verifier lets no other pointer than the context through; the instruction only reads.
    unsafe {
        asm!(
            "{value} = *(u32 *)({skb} + {offset})",
            value = lateout(reg) value,
            skb = in(reg) skb,
            offset = const OFFSET,
            options(readonly, nostack, preserves_flags),
        );
    }
    value
}

/// The first byte that can be reached directly.
#[inline(always)]
pub(crate) fn data(skb: *mut __sk_buff) -> usize {
    field::<{ offset_of!(__sk_buff, data) }>(skb) as usize
}

/// The end of what can be reached directly.
#[inline(always)]
pub(crate) fn data_end(skb: *mut __sk_buff) -> usize {
    field::<{ offset_of!(__sk_buff, data_end) }>(skb) as usize
}

/// Bytes of the frame.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 32 bits")]
pub(crate) fn length(skb: *mut __sk_buff) -> u32 {
    field::<{ offset_of!(__sk_buff, len) }>(skb) as u32
}

/// The device that the packet is at.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 32 bits")]
pub(crate) fn ifindex(skb: *mut __sk_buff) -> u32 {
    field::<{ offset_of!(__sk_buff, ifindex) }>(skb) as u32
}

/// The packet's mark.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 32 bits")]
pub(crate) fn mark(skb: *mut __sk_buff) -> u32 {
    field::<{ offset_of!(__sk_buff, mark) }>(skb) as u32
}

/// `skb->pkt_type`
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 32 bits")]
pub(crate) fn packet_type(skb: *mut __sk_buff) -> u32 {
    field::<{ offset_of!(__sk_buff, pkt_type) }>(skb) as u32
}

/// Sets the packet's mark.
#[inline(always)]
pub(crate) fn set_mark(skb: *mut __sk_buff, mark: u32) {
    // SAFETY: as in `field`; the instruction writes nothing but the field.
    unsafe {
        asm!(
            "*(u32 *)({skb} + {offset}) = {mark}",
            skb = in(reg) skb,
            mark = in(reg) u64::from(mark),
            offset = const offset_of!(__sk_buff, mark),
            options(nostack, preserves_flags),
        );
    }
}

/// Adds to a counter that other CPUs add to at the same time. Rust offers no `fetch_add` where the target
/// cannot compare and swap, which BPF before Linux 5.12 cannot; this instruction is older.
///
/// # Safety
/// The counter must lie in a map value.
#[inline(always)]
pub(crate) unsafe fn add_atomically(counter: *mut u64, by: u64) {
    // SAFETY: the caller's promise; the instruction writes nothing but the counter.
    unsafe {
        asm!(
            "lock *(u64 *)({counter} + 0) += {by}",
            counter = in(reg) counter,
            by = in(reg) by,
            options(nostack, preserves_flags),
        );
    }
}
