//! Something leaves the node: TC egress of an underlay device. Judges the node's own egress policy where it has one and no
//! other program asked it, translates sources that others must not see, and tells what is to be encrypted.

use aya_ebpf::{macros::classifier, programs::TcContext};
use datapath_abi::{
    conntrack, ct_kind, ct_state, encryption, hook, mark, reason, rewriting, settings, target,
};

use crate::conntrack::{Flow, look_up_readable, remember};
use crate::context;
use crate::headers::{self, Frame, Packet};
use crate::ipcache;
use crate::maps::UNMASQUERADED;
use crate::nat;
use crate::node;
use crate::policy::{self, Table};
use crate::receive;
use crate::run::{Facts, IDENTITY_HOST, IDENTITY_REMOTE_NODE, IDENTITY_WORLD, Place, Run, Verdict};

/// The program.
#[classifier]
fn to_netdev(ctx: TcContext) -> i32 {
    crate::run_hook(ctx.skb.skb, hook::TO_NETDEV, decide)
}

#[inline(always)]
fn decide(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Verdict {
    let mark = context::mark(run.skb);
    match headers::read(run.skb, packet) {
        Frame::Ip if !packet.is_neighbour_discovery() => {}
        _ => return Verdict::pass(),
    }
    match mark & mark::MASK {
        mark::OVERLAY => {
            encrypt_overlay(run, packet, facts, mark >> 16);
            return Verdict::pass();
        }
        mark::TRANSLATED => {
            encrypt_native(run, packet, facts);
            return Verdict::pass();
        }
        // Judged where it left the node's stack.
        mark::IDENTITY if mark >> 16 == IDENTITY_HOST => {
            encrypt_native(run, packet, facts);
            return Verdict::pass();
        }
        _ => {}
    }
    let flow = look_up_readable(run, packet, facts);
    // What cannot be read has no port to translate, and the node's policy cannot judge it. Pods' packets of that kind do not get here.
    if packet.fault != 0 {
        return if node::host(run).is_some() && is_from_host(run, packet) {
            Verdict::drop_egress(packet.fault)
        } else {
            Verdict::pass()
        };
    }
    encrypt_native(run, packet, facts);
    let is_noted = mark & mark::MASK == mark::IDENTITY;
    let refused = translate(run, packet, facts, flow, is_noted);
    if refused != reason::FORWARDED {
        facts.encrypted = 0;
        return Verdict::drop_egress(refused);
    }
    Verdict::pass()
}

/// Translates the packet's source if it must be. Returns the reason of a refusal, or [`reason::FORWARDED`]. An earlier program has noted
/// the packet in its flow, or nobody has.
#[inline(always)]
fn translate(run: &Run, packet: &mut Packet, facts: &mut Facts, flow: Flow, is_noted: bool) -> u8 {
    let state = facts.state();
    // A known translation of a pod's flow costs nothing but this.
    if state == ct_state::ESTABLISHED
        && flow.is(ct_kind::PLAIN)
        && !run.is_set(settings::HOST_FIREWALL)
        && let Some(port) = flow.nat_port(run)
    {
        nat::see_to(run, port);
        rewrite(run, packet, facts, port);
        return reason::FORWARDED;
    }
    let (mut flow, mut state) = (flow, state);
    if flow.is(ct_kind::SERVICE) {
        // Nobody led the packet to a backend, as its service is gone; or the node sends from a frontend's port.
        (flow, state) = (Flow::UNKNOWN, ct_state::NEW);
        facts.set_state(state, conntrack::INITIATOR);
    }
    if !matches!(state, ct_state::NEW | ct_state::ESTABLISHED) {
        let is_asked = node::host(run).is_some() || (!is_noted && !flow.is_unknown());
        if is_asked && is_from_host(run, packet) {
            flow.observe(run, packet, facts);
        }
        receive::answer(run, packet, facts, &flow);
        return reason::FORWARDED;
    }
    match source_kind(run, packet) {
        target::HOST => send_as_host(run, packet, facts, flow),
        target::ENDPOINT => masquerade(run, packet, facts, flow),
        _ => reason::FORWARDED,
    }
}

/// The kind of the target that the source is.
#[inline(always)]
fn source_kind(run: &Run, packet: &Packet) -> u8 {
    let source = ipcache::look_up(run, packet.family, &packet.source);
    Place::of(run, source.index).target.map_or(0, |from| from.kind)
}

/// Whether the node itself sends.
#[inline(always)]
fn is_from_host(run: &Run, packet: &Packet) -> bool {
    source_kind(run, packet) == target::HOST
}

/// Gives the packet the node's address and a port that stands for its source; 0: it keeps its own.
#[inline(always)]
fn rewrite(run: &Run, packet: &mut Packet, facts: &mut Facts, port: u16) {
    if port != 0
        && let Some(address) = nat::address(run, packet)
    {
        nat::apply(packet, facts, address, port, rewriting::MASQUERADE);
    }
}

/// A pod's packet that opens a flow, or whose flow was last looked at under other tables.
#[inline(always)]
fn masquerade(run: &Run, packet: &mut Packet, facts: &mut Facts, flow: Flow) -> u8 {
    if !is_masqueraded(run, packet, facts) {
        flow.remember_nat(run, 0);
        flow.set_portless(false);
        return reason::FORWARDED;
    }
    // Messages without an identifier keep none, and errors have no flow whose answers must find back.
    if nat::port(packet) == 0 && packet.is_icmp() {
        if !packet.is_icmp_error() {
            nat::claim(run);
            flow.set_portless(true);
        }
        if let Some(address) = nat::address(run, packet) {
            nat::apply(packet, facts, address, 0, rewriting::MASQUERADE);
        }
        return reason::FORWARDED;
    }
    let known = flow.last_nat_port();
    let port = if known == 0 { nat::claim(run) } else { known };
    if port == 0 {
        return reason::NAT_NO_MAPPING;
    }
    facts.is_port_new = known == 0;
    facts.nat_port = port;
    if flow.is_unknown() {
        facts.is_masquerade_new = true;
        if !begin_flow(run, packet, facts) {
            return reason::CT_CREATE_FAILED;
        }
    } else {
        flow.remember_nat(run, port);
    }
    rewrite(run, packet, facts, port);
    reason::FORWARDED
}

/// Remembers a flow that no other program has; false if it cannot be.
#[inline(always)]
fn begin_flow(run: &Run, packet: &Packet, facts: &mut Facts) -> bool {
    remember(run, packet, facts, Place::UNKNOWN, Place::UNKNOWN)
}

/// Whether the destination must not see the pod's own address.
#[inline(always)]
fn is_masqueraded(run: &Run, packet: &Packet, facts: &mut Facts) -> bool {
    if !run.is_set(settings::MASQUERADE) || nat::address(run, packet).is_none() {
        return false;
    }
    if ipcache::is_covered(&UNMASQUERADED, run, packet.family, &packet.destination) {
        return false;
    }
    let _ = receive::destination(run, packet, facts);
    !(run.is_set(settings::NATIVE) && facts.destination.identity == IDENTITY_REMOTE_NODE)
}

/// The node's own packet: its policy, and its claim to the port.
#[inline(always)]
fn send_as_host(run: &Run, packet: &Packet, facts: &mut Facts, flow: Flow) -> u8 {
    let policed = node::host(run);
    let port = u16::from_be(packet.source_port);
    let claims =
        !packet.is_icmp() && port >= run.settings.nat_first && port <= run.settings.nat_last;
    let mut flow = flow;
    if flow.is(ct_kind::NAT) {
        if nat::is_taken(run) {
            // Another one has it. That is rare, and the node's stack tries another port.
            return reason::NAT_NO_MAPPING;
        }
        facts.set_state(ct_state::NEW, conntrack::INITIATOR);
        flow = Flow::UNKNOWN;
    }
    if let Some(own) = policed {
        let _ = receive::destination(run, packet, facts);
        facts.source = crate::run::Peer {
            identity: IDENTITY_HOST,
            entry: 0,
            from: datapath_abi::source::ENDPOINT,
        };
        flow.observe(run, packet, facts);
        facts.egress.hits = own.egress_hits;
        policy::judge(Table::egress(own), packet, &facts.destination, &mut facts.egress);
        let refused = policy::refusal(&facts.egress);
        if refused != reason::FORWARDED {
            return refused;
        }
    }
    if policed.is_none() && (claims || !flow.is_unknown()) {
        flow.observe(run, packet, facts);
    }
    if flow.flags() & conntrack::FRONTEND != 0 {
        // It speaks to the backend itself now, which is to answer as itself.
        flow.forget_frontend();
    }
    if policed.is_some() || claims {
        return if begin_flow(run, packet, facts) { 0 } else { reason::CT_CREATE_FAILED };
    }
    reason::FORWARDED
}

/// What comes out of the tunnel device: the outer packet.
#[inline(always)]
fn encrypt_overlay(run: &Run, packet: &Packet, facts: &mut Facts, identity: u32) {
    if run.is_set(settings::WIREGUARD) {
        facts.encrypted = encryption::WIREGUARD;
        facts.mark = mark::IDENTITY | identity << 16;
    } else if run.is_set(settings::IPSEC) && is_pod(identity) {
        let to = ipcache::look_up(run, packet.family, &packet.destination);
        encrypt_ipsec(run, facts, to.index);
    }
}

/// What leaves as it is, for a pod of another node or, where nodes' own traffic is encrypted too, a node.
#[inline(always)]
fn encrypt_native(run: &Run, packet: &Packet, facts: &mut Facts) {
    if !run.is_set(settings::WIREGUARD) && !run.is_set(settings::IPSEC) {
        return;
    }
    let from = ipcache::look_up(run, packet.family, &packet.source).peer.identity;
    let to = ipcache::look_up(run, packet.family, &packet.destination);
    let kind = Place::of(run, to.index).target.map_or(0, |to| to.kind);
    let nodes = run.is_set(settings::ENCRYPT_NODES);
    let from_node = matches!(from, IDENTITY_HOST | IDENTITY_REMOTE_NODE);
    let is_for = kind == target::NATIVE || (nodes && kind == target::NODE);
    let is_from = is_pod(from) || (nodes && from_node);
    if !is_for || !is_from {
        return;
    }
    if run.is_set(settings::WIREGUARD) {
        facts.encrypted = encryption::WIREGUARD;
        facts.mark = mark::IDENTITY | from << 16;
    } else if is_pod(from) && kind == target::NATIVE {
        encrypt_ipsec(run, facts, to.index);
    }
}

#[inline(always)]
fn encrypt_ipsec(run: &Run, facts: &mut Facts, to: u32) {
    let node = Place::of(run, to).target.map_or(0, |to| to.node);
    facts.encrypted = encryption::IPSEC;
    facts.mark = mark::ENCRYPT | u32::from(run.settings.key) << 12 | node << 16;
}

/// Whether an identity is of something in the cluster that is no node.
#[inline(always)]
fn is_pod(identity: u32) -> bool {
    !matches!(identity, 0 | IDENTITY_HOST | IDENTITY_WORLD | IDENTITY_REMOTE_NODE | 9 | 10)
        && identity < 1 << 24
}
