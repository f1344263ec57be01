//! Something reaches the node itself: TC ingress of `cilium_host`. Judges, if the node has policies, only what no program of
//! ours has judged: what they deliver to the node is marked or does not come by here.

use aya_ebpf::{macros::classifier, programs::TcContext};
use datapath_abi::{hook, mark, reason};

use crate::conntrack::look_up_readable;
use crate::context;
use crate::headers::{self, Frame, Packet};
use crate::node;
use crate::receive::{self, Sender};
use crate::run::{Facts, IDENTITY_HOST, Run, Verdict};

/// The program.
#[classifier]
fn to_host(ctx: TcContext) -> i32 {
    crate::run_hook(ctx.skb.skb, hook::TO_HOST, decide)
}

#[inline(always)]
fn decide(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Verdict {
    if context::mark(run.skb) & mark::MASK == mark::DELIVERED || node::host(run).is_none() {
        return Verdict::pass();
    }
    match headers::read(run.skb, packet) {
        Frame::Ip if packet.is_neighbour_discovery() => return Verdict::pass(),
        Frame::Ip => {}
        Frame::Invalid => return Verdict::drop_ingress(reason::INVALID_PACKET),
        _ => return Verdict::pass(),
    }
    let flow = look_up_readable(run, packet, facts);
    let flow = receive::flow_here(facts, flow);
    let sender = Sender::by_address(IDENTITY_HOST);
    match node::judge_for_host(run, packet, facts, &flow, sender) {
        reason::FORWARDED => Verdict::pass(),
        refused => Verdict::drop_ingress(refused),
    }
}
