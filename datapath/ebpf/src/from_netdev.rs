//! The wire sends: TC ingress of an underlay device. Packets for pods of this node are judged and
//! delivered, those for services are led to backends, and answers to translated sources to those; everything else, tunnel
//! packets included, is the stack's.

use aya_ebpf::{macros::classifier, programs::TcContext};
use datapath_abi::{hook, reason, target};

use crate::conntrack::look_up_readable;
use crate::headers::{self, Frame, Packet};
use crate::node;
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
    let kind = place.target.map_or(0, |to| to.kind);
    if !matches!(kind, target::ENDPOINT | target::HOST | target::SERVICE) {
        return Verdict::stack(false);
    }
    if kind == target::ENDPOINT && packet.ttl <= 1 {
        return Verdict::drop_ingress(reason::TTL_EXCEEDED);
    }
    let flow = look_up_readable(run, packet, facts);
    let way = if kind == target::ENDPOINT {
        let flow = receive::flow_here(facts, flow);
        receive::answer(run, packet, facts, &flow);
        Ok((flow, place))
    } else {
        node::find_way(run, packet, facts, flow, place)
    };
    match way {
        Ok(way) => {
            let sender = Sender::by_address(run.world(packet.family));
            node::arrive(run, packet, facts, way, sender)
        }
        Err(refused) => Verdict::drop_ingress(refused),
    }
}
