//! Something leaves by the tunnel: TC egress of the tunnel device. Marks it with the sender's identity, so that the device below knows
//! a tunnel's packet and whose it is.

use aya_ebpf::{macros::classifier, programs::TcContext};
use datapath_abi::{hook, mark, reason};

use crate::forward::received_vni;
use crate::headers::Packet;
use crate::run::{Facts, Run, Verdict};

/// The program.
#[classifier]
fn to_overlay(ctx: TcContext) -> i32 {
    crate::run_hook(ctx.skb.skb, hook::TO_OVERLAY, decide)
}

#[inline(always)]
fn decide(run: &Run, _: &mut Packet, facts: &mut Facts) -> Verdict {
    let Some(vni) = received_vni(run.skb) else {
        return Verdict::drop_egress(reason::NO_TUNNEL_KEY);
    };
    facts.mark = mark::OVERLAY | vni << 16;
    Verdict::pass()
}
