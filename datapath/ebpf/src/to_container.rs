//! The host sends to a pod: TC egress of the pod's host-side veth. Judges only what no program of ours
//! has judged: local delivery that comes by here is marked. Where the stack carries everything (`config::CHAINED`) every packet to
//! a pod comes by here, and services' answers are translated here.

use aya_ebpf::{macros::classifier, programs::TcContext};
use datapath_abi::{config, ct_kind, ct_state, hook, mark, reason};

use crate::conntrack::look_up_readable;
use crate::context;
use crate::headers::{self, Frame, Packet};
use crate::receive::{self, Sender};
use crate::run::{Facts, IDENTITY_HOST, Run, Verdict};

/// The program.
#[classifier]
fn to_container(ctx: TcContext) -> i32 {
    crate::run_hook(ctx.skb.skb, hook::TO_CONTAINER, decide)
}

#[inline(always)]
fn decide(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Verdict {
    let marked = context::mark(run.skb) & mark::MASK;
    // Others may mean something else by that number, where these programs are not alone.
    if marked == mark::DELIVERED && !run.has(config::OBSERVE | config::CHAINED) {
        return Verdict::pass();
    }
    let place = facts.place(run, run.attached());
    let Some(own) = place.target else {
        return Verdict::drop_ingress(reason::ENDPOINT_NOT_READY);
    };
    match headers::read(run.skb, packet) {
        Frame::Ip if packet.is_neighbour_discovery() => return Verdict::pass(),
        Frame::Ip => {}
        Frame::Invalid => return Verdict::drop_ingress(reason::INVALID_PACKET),
        _ => return Verdict::pass(),
    }
    // Whoever the host says it is, the address tells better: it may carry on what another one sent.
    let sender = Sender::by_address(IDENTITY_HOST);
    let flow = look_up_readable(run, packet, facts);
    if run.has(config::OBSERVE) && flow.is(ct_kind::SERVICE) && facts.state() == ct_state::REPLY {
        // Who translates services there has translated the answer back already.
        facts.asked = true;
        return Verdict::pass();
    }
    let flow = receive::flow_here(facts, flow);
    if run.is_chained() {
        receive::answer(run, packet, facts, &flow);
    }
    match receive::admit(run, packet, facts, &flow, (place.index, own), sender) {
        reason::FORWARDED => Verdict::pass(),
        reason => Verdict::drop_ingress(reason),
    }
}
