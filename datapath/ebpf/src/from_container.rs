//! A pod sends: TC ingress of its host-side veth. Judges the pod's egress policy and, where the receiver
//! is a pod of the same node, that pod's ingress policy too; so a local packet is judged once, here.

use aya_ebpf::{macros::classifier, programs::TcContext};
use datapath_abi::{Target, ct_state, direction, hook, reason, source, target};

use crate::conntrack::{Flow, look_up, recall, remember};
use crate::headers::{self, Frame, Packet, UDP};
use crate::policy;
use crate::receive::{self, Sender};
use crate::run::{Facts, Peer, Place, Run, Verdict};

/// The program.
#[classifier]
fn from_container(ctx: TcContext) -> i32 {
    crate::run_hook(ctx.skb.skb, hook::FROM_CONTAINER, decide)
}

#[inline(always)]
fn decide(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Verdict {
    let place = run.attached();
    let Some(own) = place.target else {
        return Verdict::drop_egress(reason::ENDPOINT_NOT_READY);
    };
    match headers::read(run.skb, packet) {
        Frame::Ip if packet.is_neighbour_discovery() => return Verdict::stack(false),
        Frame::Ip => {}
        Frame::Arp => return Verdict::stack(false),
        refused => return Verdict::drop_egress(refused as u8),
    }
    if !is_address_of(own, packet) {
        return Verdict::drop_egress(reason::INVALID_SOURCE_IP);
    }
    facts.source = Peer { identity: own.identity, entry: 0, from: source::ENDPOINT };
    if packet.fault != 0 {
        return Verdict::drop_egress(packet.fault);
    }
    let flow = look_up(run, packet);
    let to = resolve(run, packet, facts, &flow, own);
    flow.observe(run, packet, facts);
    let verdict = judge(run, packet, facts, &flow, own, to);
    if verdict.is_drop() {
        return verdict;
    }
    if flow.state == ct_state::REPLY {
        if flow.path(run) == Place::UNKNOWN {
            flow.remember_path(run, to.index);
        }
    } else if !remember(run, packet, &flow, facts, to.index, place.index) {
        return Verdict::drop_egress(reason::CT_CREATE_FAILED);
    }
    verdict
}

/// Whether the packet's source is the pod's own address.
#[inline(always)]
fn is_address_of(own: &Target, packet: &Packet) -> bool {
    if packet.is_ipv4() {
        own.flags & target::HAS_V4 != 0
            && u64::from(u32::from_ne_bytes(own.address4)) == packet.source[0]
    } else {
        own.flags & target::HAS_V6 != 0 && crate::forward::address6(own) == packet.source
    }
}

/// Where the packet goes, and into the facts the egress verdict if conntrack remembers both. A reply needs
/// no verdict.
#[inline(always)]
fn resolve(run: &Run, packet: &Packet, facts: &mut Facts, flow: &Flow, own: &Target) -> Place {
    let path = flow.path(run);
    if path != Place::UNKNOWN {
        if flow.state == ct_state::REPLY {
            return Place::of(run, path);
        }
        if let Some(leg) = flow.leg(run, direction::EGRESS, policy::port(packet)) {
            facts.destination = Peer { identity: leg.identity, entry: 0, from: source::REMEMBERED };
            facts.egress = recall(leg, own.endpoint);
            return Place::of(run, path);
        }
    }
    receive::destination(run, packet, facts)
}

/// Egress policy, then what the destination asks for.
#[inline(always)]
fn judge(
    run: &Run,
    packet: &Packet,
    facts: &mut Facts,
    flow: &Flow,
    own: &Target,
    to: Place,
) -> Verdict {
    if facts.needs_policy() && !facts.egress.remembered {
        let refused = judge_egress(run, packet, facts, own);
        if refused != reason::FORWARDED {
            return Verdict::drop_egress(refused);
        }
    }
    let Some(target) = to.target else { return Verdict::stack(false) };
    match target.kind {
        target::TUNNEL => Verdict::tunnel(target, own.identity),
        target::ENDPOINT => judge_ingress(run, packet, facts, flow, target),
        _ => Verdict::stack(to.is_host()),
    }
}

/// Returns the reason of a refusal, or [`reason::FORWARDED`].
#[inline(always)]
fn judge_egress(run: &Run, packet: &Packet, facts: &mut Facts, own: &Target) -> u8 {
    // Or a pod could forge what another node believes.
    if packet.protocol == UDP
        && u16::from_be(packet.destination_port) == run.settings.tunnel_port
        && !packet.is_later_fragment()
    {
        return reason::ENCAP_PROHIBITED;
    }
    policy::judge(own.egress, own.endpoint, packet, &facts.destination, &mut facts.egress);
    policy::refusal(&facts.egress, facts.state)
}

/// The receiver is a pod of this node: one hop less to live, and its ingress policy.
#[inline(always)]
fn judge_ingress(
    run: &Run,
    packet: &Packet,
    facts: &mut Facts,
    flow: &Flow,
    to: &'static Target,
) -> Verdict {
    if packet.ttl <= 1 {
        return Verdict::drop_egress(reason::TTL_EXCEEDED);
    }
    if facts.needs_policy() {
        let sender = Sender::known(facts.source);
        let refused = receive::judge(run, packet, facts, flow, to, sender);
        if refused != reason::FORWARDED {
            return Verdict::drop_ingress(refused);
        }
    }
    Verdict::deliver(to)
}
