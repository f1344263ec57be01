//! Another node sends: TC ingress of the tunnel device. The tunnel key says who the sender is.

use aya_ebpf::{macros::classifier, programs::TcContext};
use datapath_abi::{ct_kind, hook, reason, source};

use crate::conntrack::look_up_readable;
use crate::forward::received_vni;
use crate::headers::{self, Frame, Packet};
use crate::node;
use crate::receive::{self, Sender};
use crate::run::{
    Facts, IDENTITY_HOST, IDENTITY_REMOTE_NODE, IDENTITY_WORLD, Peer, Place, Run, Verdict,
};

/// The program. Inlined into the function that the macro makes around it: as one more call it needs more stack than old kernels have.
#[classifier]
#[inline(always)]
fn from_overlay(ctx: TcContext) -> i32 {
    crate::run_hook(ctx.skb.skb, hook::FROM_OVERLAY, decide)
}

#[inline(always)]
fn decide(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Verdict {
    let Some(vni) = received_vni(run.skb) else {
        return Verdict::drop_ingress(reason::NO_TUNNEL_KEY);
    };
    // No other node may pass for this one.
    if vni == IDENTITY_HOST {
        return Verdict::drop_ingress(reason::INVALID_IDENTITY);
    }
    match headers::read(run.skb, packet) {
        Frame::Ip if packet.is_neighbour_discovery() => return Verdict::stack(false),
        Frame::Ip => {}
        Frame::Invalid => return Verdict::drop_ingress(reason::INVALID_PACKET),
        _ => return Verdict::stack(false),
    }
    // The look-up may translate an error, and who looks after it is who it came to.
    let told = match packet.is_icmp_error() {
        true => receive::destination(run, packet, facts),
        false => Place::UNKNOWN,
    };
    let flow = look_up_readable(run, packet, facts);
    let index = match flow.path(run, facts) {
        _ if told != Place::UNKNOWN => told,
        index if index != Place::UNKNOWN && flow.is(ct_kind::PLAIN) => index,
        _ => receive::destination(run, packet, facts),
    };
    let place = facts.place(run, index);
    let way = if place.is_host() {
        node::find_way(run, packet, facts, flow, place)
    } else if place.pod().is_some() {
        let flow = receive::flow_here(facts, flow);
        receive::answer(run, packet, facts, &flow);
        Ok((flow, place))
    } else {
        return Verdict::stack(false);
    };
    match way {
        Ok(way) => {
            let sender = sender(run, packet, vni);
            node::arrive(run, packet, facts, way, sender)
        }
        Err(refused) => Verdict::drop_ingress(refused),
    }
}

/// The identity that a VNI stands for. A node sends for whatever has no identity of its own (host-network
/// pods, clients behind it), so there the address tells.
#[inline(always)]
fn sender(run: &Run, packet: &Packet, vni: u32) -> Sender {
    let identity = match vni {
        IDENTITY_REMOTE_NODE => {
            return Sender::by_address(IDENTITY_REMOTE_NODE);
        }
        IDENTITY_WORLD => run.world(packet.family),
        identity => identity,
    };
    Sender::known(Peer { identity, entry: 0, from: source::VNI })
}
