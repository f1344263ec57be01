//! A pod sends: TC ingress of its host-side veth. Judges the pod's egress policy and, where the receiver
//! is a pod of the same node, that pod's ingress policy too; so a local packet is judged once, here.

use aya_ebpf::{macros::classifier, programs::TcContext};
use datapath_abi::{Target, ct_state, direction, hook, reason, source, target};

use crate::conntrack::{Flow, look_up, recall, remember};
use crate::headers::{self, Frame, Packet, UDP};
use crate::receive::{self, Sender};
use crate::run::{Facts, Judged, Peer, Run, Verdict};
use crate::{ipcache, policy};

/// The program.
#[classifier]
pub fn from_container(ctx: TcContext) -> i32 {
    crate::run_hook(ctx.skb.skb, hook::FROM_CONTAINER, decide)
}

#[inline(always)]
fn decide(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Verdict {
    let Some((own_index, own)) = run.attached() else {
        return Verdict::drop_egress(reason::ENDPOINT_NOT_READY);
    };
    match headers::read(run.skb, packet) {
        Frame::Ip if packet.is_neighbour_discovery() => return Verdict::stack(),
        Frame::Ip => {}
        Frame::Arp => return Verdict::stack(),
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
    let (index, remembered) = resolve(run, packet, facts, &flow, own);
    flow.observe(run, packet, facts);
    let to = index.and_then(|index| run.target(index));
    match judge(run, packet, facts, &flow, own, to, remembered) {
        verdict @ Verdict::Drop { .. } => verdict,
        verdict if flow.state == ct_state::REPLY => {
            keep_path(run, &flow, index);
            verdict
        }
        verdict if remember(run, packet, &flow, facts, index, Some(own_index)) => verdict,
        _ => Verdict::drop_egress(reason::CT_CREATE_FAILED),
    }
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

/// Where the packet goes, and the egress verdict if conntrack remembers both. A reply needs no verdict.
#[inline(always)]
fn resolve(
    run: &Run,
    packet: &Packet,
    facts: &mut Facts,
    flow: &Flow,
    own: &Target,
) -> (Option<u32>, Option<Judged>) {
    let path = flow.path(run);
    if path.is_some() && flow.state == ct_state::REPLY {
        return (path, None);
    }
    if let (Some(_), Some(leg)) = (path, flow.leg(run, direction::EGRESS, policy::port(packet))) {
        facts.destination = Peer { identity: leg.identity, entry: 0, from: source::REMEMBERED };
        return (path, Some(recall(leg, own.endpoint)));
    }
    let found = ipcache::look_up(run, packet.family, &packet.destination);
    facts.destination = found.peer;
    (found.target, None)
}

/// Egress policy, then what the destination asks for.
#[inline(always)]
fn judge(
    run: &Run,
    packet: &Packet,
    facts: &mut Facts,
    flow: &Flow,
    own: &Target,
    to: Option<&'static Target>,
    remembered: Option<Judged>,
) -> Verdict {
    if facts.needs_policy() {
        if let Some(reason) = judge_egress(run, packet, facts, own, remembered) {
            return Verdict::drop_egress(reason);
        }
    }
    let Some(to) = to else { return Verdict::stack() };
    match to.kind {
        target::TUNNEL => Verdict::Tunnel { to, identity: own.identity },
        target::ENDPOINT => judge_ingress(run, packet, facts, flow, to),
        kind => Verdict::Stack { host: kind == target::HOST },
    }
}

#[inline(always)]
fn judge_egress(
    run: &Run,
    packet: &Packet,
    facts: &mut Facts,
    own: &Target,
    remembered: Option<Judged>,
) -> Option<u8> {
    if let Some(judged) = remembered {
        facts.egress = judged;
        return None;
    }
    // Or a pod could forge what another node believes.
    if packet.protocol == UDP
        && u16::from_be(packet.destination_port) == run.settings.tunnel_port
        && !packet.is_later_fragment()
    {
        return Some(reason::ENCAP_PROHIBITED);
    }
    facts.egress = policy::judge(own.egress, own.endpoint, packet, &facts.destination);
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
        let sender = Sender::Known(facts.source);
        if let Some(reason) = receive::judge(run, packet, facts, flow, to, sender) {
            return Verdict::drop_ingress(reason);
        }
    }
    Verdict::Deliver { to, sent: true }
}

/// Remembers where replies go, once a generation.
#[inline(always)]
fn keep_path(run: &Run, flow: &Flow, index: Option<u32>) {
    if let Some(index) = index.filter(|_| flow.path(run).is_none()) {
        flow.remember_path(run, index);
    }
}
