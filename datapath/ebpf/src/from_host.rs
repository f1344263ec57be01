//! The node itself sends to pods or services: TC egress of `cilium_host`. Leads what is for a service to a backend, judges the
//! node's own egress policy where it has one, and the receiver's ingress policy where that is a pod of the same node.

use aya_ebpf::{macros::classifier, programs::TcContext};
use datapath_abi::{conntrack, ct_kind, ct_state, hook, reason, source, target};

use crate::conntrack::{Flow, look_up_readable, remember};
use crate::headers::{self, Frame, Packet};
use crate::policy::{self, Table};
use crate::receive::{self, Sender};
use crate::run::{Facts, IDENTITY_HOST, Place, Run, Verdict};
use crate::{ipcache, nat, node, service};

/// The program.
#[classifier]
fn from_host(ctx: TcContext) -> i32 {
    crate::run_hook(ctx.skb.skb, hook::FROM_HOST, decide)
}

#[inline(always)]
fn decide(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Verdict {
    match headers::read(run.skb, packet) {
        Frame::Ip if packet.is_neighbour_discovery() => return Verdict::pass(),
        Frame::Ip => {}
        Frame::Invalid => return Verdict::drop_egress(reason::INVALID_PACKET),
        _ => return Verdict::pass(),
    }
    // Whoever the host says it is, the address tells better: it may carry on what another one sent. It is asked of before the look-up
    // translates an error.
    facts.source = ipcache::sender(run, packet.family, &packet.source, IDENTITY_HOST);
    let mut flow = look_up_readable(run, packet, facts);
    if packet.fault != 0 {
        return Verdict::drop_egress(packet.fault);
    }
    if flow.is(ct_kind::SERVICE) {
        flow = service::resume(run, packet, facts, flow, false);
    } else if flow.is(ct_kind::NAT) {
        facts.set_state(ct_state::NEW, conntrack::INITIATOR);
        flow = Flow::UNKNOWN;
    }
    receive::answer(run, packet, facts, &flow);
    let mut index = receive::destination(run, packet, facts);
    let kind = facts.place(run, index).target.map_or(0, |to| to.kind);
    if matches!(kind, target::HOST | target::SERVICE) && facts.is_forward() && !facts.is_translated
    {
        match service::begin(run, false) {
            reason::FORWARDED => {
                flow = service::flow_of(run, packet, facts);
                index = receive::destination(run, packet, facts);
            }
            service::NO_FRONTEND if kind == target::HOST => {}
            service::NO_FRONTEND => {
                facts.is_served = true;
                return Verdict::drop_egress(reason::NO_SERVICE);
            }
            refused => return Verdict::drop_egress(refused),
        }
    }
    if facts.state() == ct_state::NEW && nat::is_taken(run) {
        return Verdict::drop_egress(reason::NAT_NO_MAPPING);
    }
    let to = facts.place(run, index);
    flow.observe(run, packet, facts);
    let verdict = judge(run, packet, facts, &flow, to);
    if verdict.is_drop() {
        return verdict;
    }
    if facts.state() == ct_state::REPLY {
        if flow.path(run, facts) == Place::UNKNOWN {
            flow.remember_path(run, facts, to.index);
        }
    } else if !remember(run, packet, facts, to.index, sender(run, facts)) {
        return Verdict::drop_egress(reason::CT_CREATE_FAILED);
    }
    verdict
}

/// Where answers go: to the node, if the packet is its own. It may send on what another one sent.
#[inline(always)]
fn sender(run: &Run, facts: &Facts) -> u32 {
    if facts.source.from == source::OWN_ADDRESS { run.settings.host_target } else { Place::UNKNOWN }
}

/// The node's egress policy, then what the destination asks for.
#[inline(always)]
fn judge(run: &Run, packet: &Packet, facts: &mut Facts, flow: &Flow, to: Place) -> Verdict {
    // What others send on through the node is not its matter, and what it sends to itself stays inside.
    if facts.needs_policy()
        && !to.is_host()
        && facts.source.from == source::OWN_ADDRESS
        && let Some(own) = node::host(run)
    {
        facts.egress.hits = own.egress_hits;
        policy::judge(Table::egress(own), packet, &facts.destination, &mut facts.egress);
        let refused = policy::refusal(&facts.egress);
        if refused != reason::FORWARDED {
            return Verdict::drop_egress(refused);
        }
    }
    let Some(target) = to.target else { return Verdict::pass() };
    match target.kind {
        // The other node knows this one; whom it carries on for, the address tells.
        target::TUNNEL => Verdict::tunnel(to.index, IDENTITY_HOST),
        target::HOST => Verdict::stack(true),
        target::ENDPOINT => {
            if packet.ttl <= 1 {
                return Verdict::drop_egress(reason::TTL_EXCEEDED);
            }
            if facts.needs_policy() {
                let sender = Sender::by_address(IDENTITY_HOST);
                let refused = receive::judge(run, packet, facts, flow, target, sender);
                if refused != reason::FORWARDED {
                    return Verdict::drop_ingress(refused);
                }
            }
            Verdict::deliver(to.index)
        }
        target::NODE if node::is_tunneled(run, facts, flow) => {
            Verdict::tunnel(to.index, IDENTITY_HOST)
        }
        // Its own stack counted, if it sent it on.
        _ => Verdict::network(to.index),
    }
}
