//! The host sends to a pod: TC egress of the pod's host-side veth. Judges only what no program of ours
//! has judged: local delivery that comes by here is marked.

use aya_ebpf::{macros::classifier, programs::TcContext};
use datapath_abi::{hook, mark, reason, source};

use crate::conntrack::look_up_readable;
use crate::headers::{self, Frame, Packet};
use crate::receive::{self, Sender};
use crate::run::{Facts, IDENTITY_HOST, Peer, Run, Verdict};

/// The program.
#[classifier]
pub fn to_container(ctx: TcContext) -> i32 {
    crate::run_hook(ctx.skb.skb, hook::TO_CONTAINER, decide)
}

#[inline(always)]
fn decide(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Verdict {
    // SAFETY: a field of the context.
    let marked = unsafe { (*run.skb).mark } & mark::MASK;
    if marked == mark::DELIVERED {
        return Verdict::Pass;
    }
    let Some(own) = run.attached() else {
        return Verdict::drop_ingress(reason::ENDPOINT_NOT_READY);
    };
    match headers::read(run.skb, packet) {
        Frame::Ip if packet.is_neighbour_discovery() => return Verdict::Pass,
        Frame::Ip => {}
        Frame::Invalid => return Verdict::drop_ingress(reason::INVALID_PACKET),
        _ => return Verdict::Pass,
    }
    let sender = if marked == mark::HOST {
        Sender::Known(Peer { identity: IDENTITY_HOST, entry: 0, from: source::MARK })
    } else {
        Sender::ByAddress { own_address: IDENTITY_HOST }
    };
    let flow = look_up_readable(run, packet);
    match receive::admit(run, packet, facts, &flow, own, sender) {
        Some(reason) => Verdict::drop_ingress(reason),
        None => Verdict::Pass,
    }
}
