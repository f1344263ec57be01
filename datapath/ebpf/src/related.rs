//! ICMP errors: whether one is about a known flow, and its translation with that of the packet that it quotes. Where a
//! flow was translated here, the error comes with the addresses beyond; whoever gets it must find its own.

use aya_ebpf::bindings::__sk_buff;
use datapath_abi::{CtValue, config, conntrack, ct_kind, hook, rewriting};

use crate::conntrack::{find, is_alive};
use crate::headers::{self, Packet};
use crate::maps::SCRATCH;
use crate::run::{Facts, Run, Sides, apart};
use crate::translate::{address_of, loopback, port_of, set_destination, set_source, undo};
use crate::{nat, service};

/// Whether an ICMP error is about a known flow and goes to the sender of the packet that it quotes. The
/// second condition keeps a quoted foreign flow from opening a door to someone else.
#[inline(always)]
pub(crate) fn is_known(run: &Run) -> bool {
    read_quote(run.skb) != 0
        && (relate(run.skb) != 0 || run.has(config::OBSERVE) && is_for_client(run.skb) != 0)
}

/// Observed where others translate services, who did so with the error already: whether it is about what a client sent to a frontend.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_for_client(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, _, _| {
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
        // SAFETY: as in `read_quote`; such a packet [`relate`] leaves as it is.
        let quoted = unsafe { &mut (*scratch).quoted };
        let entry = find(quoted);
        // SAFETY: a map value.
        let is_its = is_alive(run, entry)
            && unsafe {
                (*entry).kind == ct_kind::SERVICE && (*entry).initiator == quoted.source_side
            };
        u32::from(is_its)
    })
}

/// Leaves the translation of an error to its client's own device, unless nothing comes by there: behind the stack, who answers is to be seen.
#[inline(always)]
pub(crate) fn leave_to_client(packet: &mut Packet, facts: &mut Facts) {
    if facts.source_for == rewriting::SERVICE_REPLY
        && facts.destination_for != rewriting::LOOPBACK_REPLY
    {
        undo(packet, facts);
        facts.is_quote_translated = false;
    }
}

/// Reads the packet that an error quotes, and keeps its sides as they came. 0 where the error cannot be about a flow.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_quote(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, packet, _| {
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
        // SAFETY: this CPU's value, which this run has to itself; nothing else refers to these fields.
        let (quoted, before) = unsafe {
            Packet::begin(&raw mut (*scratch).quoted);
            (&mut (*scratch).quoted, &raw mut (*scratch).quoted_before)
        };
        if !headers::read_quoted(run.skb, packet, quoted) || quoted.source != packet.destination {
            return 0;
        }
        // An error is of no flow, but has the key of other messages between its two ends (and is no cause for another
        // error: RFC 1122 3.2.2).
        if quoted.is_icmp_error() {
            return 0;
        }
        // SAFETY: as above.
        unsafe { before.write(Sides::of(quoted)) };
        1
    })
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn relate(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, packet, facts| {
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
        // SAFETY: as in `read_quote`.
        let quoted = unsafe { &mut (*scratch).quoted };
        let known = relate_any(run, packet, quoted, facts);
        if !known {
            undo(packet, facts);
        }
        facts.is_quote_translated = facts.is_translated;
        u32::from(known)
    })
}

/// Finds the quoted packet's flow and translates both packets as that flow's were.
#[inline(always)]
fn relate_any(run: &Run, packet: &mut Packet, quoted: &mut Packet, facts: &mut Facts) -> bool {
    let mut entry = find(quoted);
    if !is_alive(run, entry) {
        return false;
    }
    // SAFETY: a map value.
    let (kind, initiator) = unsafe { ((*entry).kind, (*entry).initiator) };
    let forward = initiator == quoted.source_side;
    if kind != ct_kind::PLAIN {
        let is_nat = kind == ct_kind::NAT;
        // Beyond the node only is a translated source known by its port.
        let is_beyond = matches!(run.hook, hook::FROM_NETDEV | hook::FROM_OVERLAY);
        if is_nat && !is_beyond {
            return false;
        }
        // What a client sent to a frontend nobody beyond has seen.
        if is_nat != forward {
            return false;
        }
        // SAFETY: a map value.
        let (address, port) = unsafe { (address_of(entry), port_of(entry)) };
        let beyond = nat::port(quoted);
        set_side(quoted, true, address, port);
        let what_for = if is_nat { rewriting::MASQUERADE_REPLY } else { rewriting::SERVICE };
        set_destination(packet, facts, address, 0, what_for);
        entry = find(quoted);
        if !is_nat && !is_alive(run, entry) && quoted.destination == address {
            // Who reached itself by the service got the answer for the loopback address.
            let own = loopback(packet);
            quoted.destination = own;
            if packet.source == address {
                set_source(packet, facts, own, 0, rewriting::LOOPBACK);
            }
            entry = find(quoted);
        }
        if !is_alive(run, entry) {
            return false;
        }
        // SAFETY: a map value.
        let (flags, nat_port) = unsafe { ((*entry).flags, u16::from_ne_bytes((*entry).nat_port)) };
        // The flow may leave by another port by now.
        if is_nat && nat_port != beyond {
            return false;
        }
        // So may the client's flow be another's than the frontend's.
        if !is_nat && !is_of_frontend(run, quoted, entry) {
            return false;
        }
        if is_nat && flags & conntrack::NODE_PORT != 0 {
            facts.destination_for = rewriting::NODE_PORT_REPLY;
        }
    }
    relate_plain(run, packet, quoted, facts, (entry, forward));
    true
}

/// Whether a flow's answers come from the frontend that the quoted packet came from, which must still be one.
#[inline(always)]
fn is_of_frontend(run: &Run, quoted: &Packet, entry: *mut CtValue) -> bool {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's value, which this run has to itself, and a map value.
    let (frontend, is_its) = unsafe {
        let frontend = &(*scratch).quoted_before;
        let is_its = (*entry).flags & conntrack::FRONTEND != 0
            && address_of(entry) == frontend.source
            && port_of(entry) == frontend.source_port;
        (frontend, is_its)
    };
    is_its && service::is_frontend(run, quoted, frontend.source, frontend.source_port)
}

/// Gives a quoted packet's source or destination another address and port; an echo's identifier is where it was.
#[inline(always)]
fn set_side(quoted: &mut Packet, source: bool, address: [u64; 2], port: u16) {
    if source {
        quoted.source = address;
    } else {
        quoted.destination = address;
    }
    if quoted.is_icmp() {
        if quoted.source_port == 0 {
            quoted.destination_port = port;
        } else {
            quoted.source_port = port;
        }
    } else if source {
        quoted.source_port = port;
    } else {
        quoted.destination_port = port;
    }
}

/// The part of a plain entry: a forward packet's backend is the frontend again; what answers a translated source is so on its way out.
#[inline(always)]
fn relate_plain(
    run: &Run,
    packet: &mut Packet,
    quoted: &mut Packet,
    facts: &mut Facts,
    (entry, forward): (*mut CtValue, bool),
) {
    // SAFETY: a map value.
    let (flags, nat_port) = unsafe { ((*entry).flags, u16::from_ne_bytes((*entry).nat_port)) };
    if forward {
        facts.is_by_tunnel = flags & conntrack::FROM_TUNNEL != 0;
        // SAFETY: a map value.
        let (address, port) = unsafe { (address_of(entry), port_of(entry)) };
        if flags & conntrack::FRONTEND != 0 && service::is_frontend(run, quoted, address, port) {
            let backend = quoted.destination;
            set_side(quoted, false, address, port);
            // Only the backend itself is known by that name; a router on the way has its own.
            if flags & conntrack::LOOPBACK != 0 {
                let client = quoted.source_port;
                set_side(quoted, true, backend, client);
                set_destination(packet, facts, backend, 0, rewriting::LOOPBACK_REPLY);
            }
            let own = if packet.source == backend { address } else { packet.source };
            set_source(packet, facts, own, 0, rewriting::SERVICE_REPLY);
        }
        return;
    }
    // The other way the source's translation is made where the flow's own packets leave.
    let leaves = run.hook == hook::TO_NETDEV || flags & conntrack::NODE_PORT != 0;
    let is_translated = nat_port != 0 || flags & conntrack::PORTLESS != 0;
    if is_translated
        && leaves
        && let Some(address) = nat::address(run, packet)
    {
        set_side(quoted, false, address, nat_port);
        let is_node_port = flags & conntrack::NODE_PORT != 0;
        let what_for = if is_node_port { rewriting::NODE_PORT } else { rewriting::MASQUERADE };
        // Whoever tells of it: the other side knows the flow by this address only, and may not reach another.
        set_source(packet, facts, address, 0, what_for);
    }
}
