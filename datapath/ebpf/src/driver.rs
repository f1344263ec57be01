//! The simulated entry: gives a packet the circumstances that a test run cannot, then calls the hook. What
//! runs from there on is what runs live.

use aya_ebpf::{bindings::TC_ACT_SHOT, macros::classifier, programs::TcContext};
use datapath_abi::{Seam, family, hook, input, reason};

use crate::context;
use crate::emit;
use crate::forward::set_tunnel_key;
use crate::maps::{ACTIVE, CONFIG, HOOKS, INPUT, SEAM};

/// The program.
#[classifier]
fn driver(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let (Some(input), Some(seam)) = (INPUT.get(0), SEAM.get_ptr_mut(0)) else {
        return TC_ACT_SHOT;
    };
    // SAFETY: this CPU's value.
    unsafe {
        *seam = Seam {
            now: input.now,
            ifindex: input.ifindex,
            hook: input.hook,
            flags: input.flags,
            reserved: 0,
            choose: input.choose,
        }
    };
    context::set_mark(skb, input.mark);
    if input.flags & input::TUNNELED != 0 {
        // SAFETY: sixteen bytes as two words.
        let outer = unsafe { (&raw const input.outer_source).cast::<[u64; 2]>().read_unaligned() };
        // Refused, the hook finds no key and says so.
        let _ = set_tunnel_key(skb, input.vni, &outer, input.outer_family == u32::from(family::V6));
    }
    // SAFETY: nothing is held that a program that does not return would have to give back.
    unsafe { HOOKS.tail_call(&ctx, input.hook) };
    #[expect(clippy::cast_possible_truncation, reason = "hooks are few; others are refused here")]
    let missing = input.hook.min(hook::COUNT) as u8;
    // Told as frames are of which nothing else is told: `emit::outcome` is to have one caller.
    if let (Some(config), Some(generation)) = (CONFIG.get(0), ACTIVE.get(0)) {
        let of = (config.flags, input.ifindex);
        emit::frame_outcome(missing, *generation, reason::MISSED_TAIL_CALL, of);
    }
    TC_ACT_SHOT
}
