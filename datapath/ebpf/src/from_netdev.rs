//! The wire sends: TC ingress of an underlay device. Packets for pods of this node are judged and
//! delivered; everything else, tunnel packets included, is the stack's.

use aya_ebpf::{macros::classifier, programs::TcContext};
use datapath_abi::{hook, reason};

use crate::conntrack::look_up_readable;
use crate::headers::{self, Frame, Packet};
use crate::receive::{self, Sender};
use crate::run::{Facts, Run, Verdict};

/// The program.
#[classifier]
fn from_netdev(ctx: TcContext) -> i32 {
    crate::run_hook(ctx.skb.skb, hook::FROM_NETDEV, decide)
}

#[inline(always)]
fn decide(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Verdict {
    match headers::read(run.skb, packet) {
        Frame::Ip if packet.is_neighbour_discovery() => return Verdict::stack(false),
        Frame::Ip => {}
        Frame::Invalid => return Verdict::drop_ingress(reason::INVALID_PACKET),
        _ => return Verdict::stack(false),
    }
    // Most packets here are not for pods: the destination comes first, conntrack only where it matters.
    let index = receive::destination(run, packet, facts);
    let place = facts.place(run, index);
    let Some(to) = place.pod() else { return Verdict::stack(place.is_host()) };
    if packet.ttl <= 1 {
        return Verdict::drop_ingress(reason::TTL_EXCEEDED);
    }
    let flow = look_up_readable(run, packet, facts);
    let sender = Sender::by_address(run.world(packet.family));
    match receive::admit(run, packet, facts, &flow, (place.index, to), sender) {
        reason::FORWARDED => Verdict::deliver(place.index),
        reason => Verdict::drop_ingress(reason),
    }
}
