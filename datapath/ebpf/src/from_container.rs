//! A pod sends: TC ingress of its host-side veth. Leads what is for a service to a backend, judges the pod's egress policy and,
//! where the receiver is of the same node, that one's ingress policy too; so a local packet is judged once, here.

use aya_ebpf::{macros::classifier, programs::TcContext};
use datapath_abi::{
    Target, conntrack, ct_kind, ct_state, direction, hook, reason, settings, source, target,
};

use crate::conntrack::{Flow, look_up_readable, recall, remember};
use crate::headers::{self, Frame, Packet, UDP};
use crate::policy::{self, Table};
use crate::receive::{self, Sender};
use crate::run::{Facts, Peer, Place, Run, Verdict};
use crate::{node, related, service};

/// The program.
#[classifier]
fn from_container(ctx: TcContext) -> i32 {
    crate::run_hook(ctx.skb.skb, hook::FROM_CONTAINER, decide)
}

#[inline(always)]
fn decide(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Verdict {
    let frame = headers::read(run.skb, packet);
    // A piece of a datagram may be forged: it is given ports, and gives others theirs, only after its source was seen to be right.
    let is_piece = packet.is_fragment();
    let mut flow = match frame {
        Frame::Ip if !is_piece && !packet.is_icmp_error() => look_up_readable(run, packet, facts),
        _ => Flow::UNKNOWN,
    };
    let index = attached(run, &flow, facts);
    let place = facts.place(run, index);
    let Some(own) = place.target else {
        return Verdict::drop_egress(reason::ENDPOINT_NOT_READY);
    };
    match frame {
        Frame::Ip if packet.is_neighbour_discovery() => return Verdict::stack(false),
        Frame::Ip => {}
        Frame::Arp => return Verdict::stack(false),
        refused => return Verdict::drop_egress(refused as u8),
    }
    if !is_address_of(own, packet) {
        return Verdict::drop_egress(reason::INVALID_SOURCE_IP);
    }
    facts.source = Peer { identity: own.identity, entry: 0, from: source::ENDPOINT };
    if is_piece || packet.is_icmp_error() {
        flow = look_up_readable(run, packet, facts);
        if run.is_chained() {
            related::leave_to_client(packet, facts);
        }
    }
    if packet.fault != 0 {
        return Verdict::drop_egress(packet.fault);
    }
    let (flow, to) = match find_way(run, packet, facts, flow, own) {
        Ok(way) => way,
        Err(refused) => return Verdict::drop_egress(refused),
    };
    flow.observe(run, packet, facts);
    let verdict = judge(run, packet, facts, &flow, own, to);
    if verdict.is_drop() {
        return verdict;
    }
    if facts.state() == ct_state::REPLY {
        if flow.path(run, facts) == Place::UNKNOWN {
            flow.remember_path(run, facts, to.index);
        }
    } else if !remember(run, packet, facts, to.index, place.index) {
        return Verdict::drop_egress(reason::CT_CREATE_FAILED);
    }
    verdict
}

/// Where the packet goes, after its destination was translated if it is a service's, and the flow that it is of then.
#[inline(always)]
fn find_way(
    run: &Run,
    packet: &mut Packet,
    facts: &mut Facts,
    mut flow: Flow,
    own: &Target,
) -> Result<(Flow, Place), u8> {
    if flow.is(ct_kind::SERVICE) {
        flow = service::resume(run, packet, facts, flow, false);
    } else if flow.is(ct_kind::NAT) {
        facts.set_state(ct_state::NEW, conntrack::INITIATOR);
        flow = Flow::UNKNOWN;
    }
    // What is behind the node's stack is to see who answers; the client's own device translates it.
    if !run.is_chained() || flow.flags() & conntrack::LOOPBACK != 0 {
        receive::answer(run, packet, facts, &flow);
    }
    let index = resolve(run, packet, facts, &flow, own);
    let to = facts.place(run, index);
    if !may_be_service(facts, to) {
        return Ok((flow, to));
    }
    match service::begin(run, false) {
        reason::FORWARDED => {}
        service::NO_FRONTEND if to.is_host() => return Ok((flow, to)),
        service::NO_FRONTEND => {
            facts.is_served = true;
            return Err(reason::NO_SERVICE);
        }
        refused => return Err(refused),
    }
    let flow = service::flow_of(run, packet, facts);
    let index = resolve(run, packet, facts, &flow, own);
    Ok((flow, facts.place(run, index)))
}

/// Whether frontends are to be asked about a destination: it was just found to be a service's or the node's own.
#[inline(always)]
fn may_be_service(facts: &Facts, to: Place) -> bool {
    let kind = to.target.map_or(0, |to| to.kind);
    matches!(kind, target::HOST | target::SERVICE)
        && facts.destination.from == source::IPCACHE
        && facts.is_forward()
        && !facts.is_translated
}

/// The pod whose device it is. Conntrack may remember where the flow's packets to the sender go; if that is a pod at
/// this device, it is the one, since a device has one pod, and asking for it can be spared.
#[inline(always)]
fn attached(run: &Run, flow: &Flow, facts: &Facts) -> u32 {
    let remembered = flow.way_back(run, facts);
    match Place::of(run, remembered).pod() {
        Some(own) if own.ifindex == run.ifindex => remembered,
        _ => run.attached(),
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

/// Index of the target that the packet goes to, and into the facts the egress verdict if conntrack remembers both. A reply needs
/// no verdict.
#[inline(always)]
fn resolve(run: &Run, packet: &Packet, facts: &mut Facts, flow: &Flow, own: &Target) -> u32 {
    let path = flow.path(run, facts);
    if path != Place::UNKNOWN {
        if facts.state() == ct_state::REPLY {
            return path;
        }
        if let Some(leg) = flow.leg(run, facts, direction::EGRESS, policy::port(packet)) {
            facts.destination = Peer { identity: leg.identity, entry: 0, from: source::REMEMBERED };
            facts.egress = recall(leg, own.endpoint, own.egress_hits);
            return path;
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
        target::TUNNEL => Verdict::tunnel(to.index, own.identity),
        target::ENDPOINT => judge_ingress(run, packet, facts, flow, (to.index, target)),
        target::HOST => match judge_for_host(run, packet, facts, flow) {
            reason::FORWARDED => Verdict::stack(true),
            refused => Verdict::drop_ingress(refused),
        },
        // What a node sent by the tunnel it gets back by it: from a pod's address the nodes' network may not lead there.
        target::NODE if node::is_tunneled(run, facts, flow) => {
            Verdict::tunnel(to.index, own.identity)
        }
        _ => Verdict::routed(run, packet, to),
    }
}

/// The receiver is the node itself: its ingress policy, if it has one.
#[inline(always)]
fn judge_for_host(run: &Run, packet: &Packet, facts: &mut Facts, flow: &Flow) -> u8 {
    match node::host(run) {
        Some(host) if facts.needs_policy() => {
            let sender = Sender::known(facts.source);
            receive::judge(run, packet, facts, flow, host, sender)
        }
        _ => reason::FORWARDED,
    }
}

/// Returns the reason of a refusal, or [`reason::FORWARDED`].
#[inline(always)]
fn judge_egress(run: &Run, packet: &Packet, facts: &mut Facts, own: &Target) -> u8 {
    // Or a pod could forge what another node believes.
    if packet.protocol == UDP
        && !run.is_set(settings::NATIVE)
        && u16::from_be(packet.destination_port) == run.settings.tunnel_port
    {
        return reason::ENCAP_PROHIBITED;
    }
    facts.egress.hits = own.egress_hits;
    policy::judge(Table::egress(own), packet, &facts.destination, &mut facts.egress);
    policy::refusal(&facts.egress)
}

/// The receiver is a pod of this node: one hop less to live, and its ingress policy.
#[inline(always)]
fn judge_ingress(
    run: &Run,
    packet: &Packet,
    facts: &mut Facts,
    flow: &Flow,
    (index, to): (u32, &Target),
) -> Verdict {
    if packet.ttl <= 1 && !run.is_chained() {
        return Verdict::drop_egress(reason::TTL_EXCEEDED);
    }
    if facts.needs_policy() {
        let sender = Sender::known(facts.source);
        let refused = receive::judge(run, packet, facts, flow, to, sender);
        if refused != reason::FORWARDED {
            return Verdict::drop_ingress(refused);
        }
    }
    Verdict::deliver(index)
}
