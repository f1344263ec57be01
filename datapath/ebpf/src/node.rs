//! What arrives at an address of this node, or of a service, from a wire or a tunnel: an answer to a translated source, a
//! packet for a frontend, or one for the node itself.

use datapath_abi::{Target, conntrack, ct_kind, ct_state, reason, rewriting, settings, target};

use crate::conntrack::{self as flows, Flow};
use crate::headers::Packet;
use crate::ipcache;
use crate::nat;
use crate::receive::{self, Sender};
use crate::run::{Facts, IDENTITY_WORLD, Place, Run, Verdict};
use crate::service;

/// Where a packet goes that is for this node or a service, after it was translated if it must be, and its flow then. Otherwise what it is
/// dropped for.
#[inline(always)]
pub(crate) fn find_way(
    run: &Run,
    packet: &mut Packet,
    facts: &mut Facts,
    mut flow: Flow,
    place: Place,
) -> Result<(Flow, Place), u8> {
    if flow.is(ct_kind::NAT) {
        flow = nat::back(run, packet, facts, flow);
    } else if flow.is(ct_kind::SERVICE) {
        flow = service::resume(run, packet, facts, flow, true);
    }
    if !facts.is_translated && packet.fault == 0 && facts.is_forward() {
        match service::begin(run, true) {
            reason::FORWARDED => flow = service::flow_of(run, packet, facts),
            service::NO_FRONTEND => {}
            refused => return Err(refused),
        }
    }
    receive::answer(run, packet, facts, &flow);
    if !facts.is_translated {
        // A piece may be a service's, and who does not know its port cannot tell (so does the reference drop it).
        if place.is_host() && packet.fault != reason::FRAGMENT_NOT_FOUND {
            return Ok((flow, place));
        }
        facts.is_served = packet.fault == 0;
        return Err(if packet.fault == 0 { reason::NO_SERVICE } else { packet.fault });
    }
    let index = match flow.path(run, facts) {
        Place::UNKNOWN => receive::destination(run, packet, facts),
        index => index,
    };
    Ok((flow, facts.place(run, index)))
}

/// Judges what arrived for a place of this node, or passes on what was translated for another one.
#[inline(always)]
pub(crate) fn arrive(
    run: &Run,
    packet: &mut Packet,
    facts: &mut Facts,
    (flow, place): (Flow, Place),
    sender: Sender,
) -> Verdict {
    let kind = place.target.map_or(0, |to| to.kind);
    let own = match kind {
        target::ENDPOINT => place.target,
        target::HOST => host(run),
        _ => return pass_on(run, packet, facts, flow, place),
    };
    if kind == target::ENDPOINT && packet.ttl <= 1 {
        return Verdict::drop_ingress(reason::TTL_EXCEEDED);
    }
    if own.is_none() && (facts.is_translated || !flow.is_unknown()) {
        // Its answers are to be translated back, or no longer are.
        flow.observe(run, packet, facts);
        if facts.is_forward() && !flows::remember(run, packet, facts, place.index, Place::UNKNOWN) {
            return Verdict::drop_ingress(reason::CT_CREATE_FAILED);
        }
    }
    if let Some(own) = own {
        let refused = receive::admit(run, packet, facts, &flow, (place.index, own), sender);
        if refused != reason::FORWARDED {
            return Verdict::drop_ingress(refused);
        }
    }
    if kind == target::ENDPOINT { Verdict::deliver(place.index) } else { Verdict::stack(true) }
}

/// The node's own ingress policy, where it has one. Returns the reason of a refusal, or [`reason::FORWARDED`].
#[inline(always)]
pub(crate) fn judge_for_host(
    run: &Run,
    packet: &Packet,
    facts: &mut Facts,
    flow: &Flow,
    sender: Sender,
) -> u8 {
    match host(run) {
        Some(own) => {
            receive::admit(run, packet, facts, flow, (run.settings.host_target, own), sender)
        }
        None => reason::FORWARDED,
    }
}

/// Whether the packet answers what came by the tunnel, or is an error about it.
#[inline(always)]
pub(crate) fn is_tunneled(run: &Run, facts: &Facts, flow: &Flow) -> bool {
    let answers = match facts.state() {
        ct_state::REPLY => flow.flags() & conntrack::FROM_TUNNEL != 0,
        ct_state::RELATED => facts.is_by_tunnel,
        _ => false,
    };
    answers && !run.is_set(settings::NATIVE)
}

/// The node as an endpoint, if it has policies.
#[inline(always)]
pub(crate) fn host(run: &Run) -> Option<&'static Target> {
    if run.is_set(settings::HOST_FIREWALL) { run.target(run.settings.host_target) } else { None }
}

/// A translated packet for another node, or for the outside.
#[inline(always)]
fn pass_on(run: &Run, packet: &mut Packet, facts: &mut Facts, flow: Flow, place: Place) -> Verdict {
    if ipcache::lacks_route(run, packet, place) {
        return Verdict::drop_ingress(reason::NO_FIB);
    }
    // The tunnel alone takes nothing from the TTL.
    let by_tunnel = place.target.is_some_and(|to| to.kind == target::TUNNEL);
    if packet.ttl <= 1 && !by_tunnel && run.is_set(settings::HOST_ROUTING) {
        return Verdict::drop_ingress(reason::TTL_EXCEEDED);
    }
    flow.observe(run, packet, facts);
    if facts.state() == ct_state::REPLY {
        if flow.path(run, facts) == Place::UNKNOWN {
            flow.remember_path(run, facts, place.index);
        }
    } else if is_led_back(facts) {
        if !flows::remember(run, packet, facts, place.index, Place::UNKNOWN) {
            return Verdict::drop_ingress(reason::CT_CREATE_FAILED);
        }
    } else if facts.is_forward() && !send_as_node(run, packet, facts, flow, place) {
        return Verdict::drop_egress(reason::NAT_NO_MAPPING);
    }
    if by_tunnel {
        Verdict::tunnel(place.index, IDENTITY_WORLD)
    } else {
        Verdict::network(place.index)
    }
}

/// Whether a packet that opens a flow came to a translated source.
#[inline(always)]
fn is_led_back(facts: &Facts) -> bool {
    facts.is_forward()
        && matches!(facts.destination_for, rewriting::MASQUERADE_REPLY | rewriting::NODE_PORT_REPLY)
}

/// The backend is on another node, which is to answer to this one: the source becomes this node's. False where no port is free, or nothing can
/// be remembered.
#[inline(always)]
fn send_as_node(
    run: &Run,
    packet: &mut Packet,
    facts: &mut Facts,
    flow: Flow,
    place: Place,
) -> bool {
    let Some(address) = nat::address(run, packet) else { return false };
    let known = if flow.flags() & conntrack::NODE_PORT == 0 { 0 } else { flow.last_nat_port() };
    facts.is_node_port = true;
    facts.is_port_new = known == 0;
    facts.is_retranslated |= known == 0;
    facts.nat_port = if known == 0 { nat::claim(run) } else { known };
    nat::see_to(run, known);
    if facts.nat_port == 0 || !flows::remember(run, packet, facts, place.index, Place::UNKNOWN) {
        return false;
    }
    nat::apply(packet, facts, address, facts.nat_port, rewriting::NODE_PORT);
    true
}
