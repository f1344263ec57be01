//! What a run leaves for those who look: counters always, events when asked for. Runs after everything
//! is decided and done, so that tracing costs one test when nobody looks.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use datapath_abi::{
    ConntrackEvent, EVENT_SIZE, EventHeader, IdentityEvent, OutcomeEvent, ParsedEvent, PolicyEvent,
    action, config, direction, family, hook, kind, reason,
};

use crate::forward::{TUNNEL_TTL, remote_of, vni};
use crate::headers::Packet;
use crate::maps::{COUNTERS, EVENTS, LOST};
use crate::run::{Facts, Judged, Peer, Run, Verdict, clear};

/// Counts the packet: on the sender's side, the receiver's, or both for local delivery.
#[inline(always)]
pub(crate) fn count(run: &Run, verdict: Verdict) {
    if verdict.is_drop() {
        add(run, verdict.reason, verdict.direction);
        return;
    }
    let is_sent = run.hook == hook::FROM_CONTAINER;
    if is_sent {
        add(run, reason::FORWARDED, direction::EGRESS);
    }
    if !is_sent || verdict.action == action::DELIVER {
        add(run, reason::FORWARDED, direction::INGRESS);
    }
}

#[inline(always)]
fn add(run: &Run, reason: u8, direction: u8) {
    let index = u32::from(reason) * 2 + u32::from(direction);
    if let Some(count) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: this CPU's value.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += u64::from(run.frame_length());
        }
    }
}

/// Whether anybody looks.
#[inline(always)]
pub(crate) fn is_watched(run: &Run) -> bool {
    run.has(config::TRACE | config::SIMULATED)
}

/// Writes the run's events.
#[inline(never)]
pub(crate) fn report(run: &Run, packet: &Packet, facts: &Facts, verdict: &Verdict) {
    if run.has(config::TRACE) {
        if packet.family != 0 {
            parsed(run, packet);
        }
        if facts.asked {
            conntrack(run, facts);
        }
        if facts.source.from != 0 {
            identity(run, packet, &facts.source, true);
        }
        if facts.destination.from != 0 {
            identity(run, packet, &facts.destination, false);
        }
        if facts.egress.outcome != 0 {
            policy(run, packet, &facts.egress, direction::EGRESS);
        }
        if facts.ingress.outcome != 0 {
            policy(run, packet, &facts.ingress, direction::INGRESS);
        }
    }
    outcome(run, verdict);
}

/// Puts one event into the ring, or counts it as lost. What `fill` leaves out is 0.
#[inline(always)]
fn put<E: 'static>(run: &Run, kind: u8, fill: impl FnOnce(&mut E, EventHeader)) {
    let Some(mut room) = EVENTS.reserve_untyped::<E>(0) else {
        if let Some(lost) = LOST.get_ptr_mut(0) {
            // SAFETY: this CPU's value.
            unsafe { *lost += 1 };
        }
        return;
    };
    let event = room.as_mut_ptr();
    // SAFETY: room for the event, aligned to 8 as all of the ring is; events are integers only.
    let event = unsafe {
        clear(event.cast::<[u64; EVENT_SIZE / 8]>());
        &mut *event
    };
    fill(event, EventHeader { kind, hook: run.hook, reserved: [0; 2], generation: run.generation });
    // A reader of simulated packets looks by itself; waking it costs more than the packet.
    let quiet = if run.has(config::SIMULATED) { BPF_RB_NO_WAKEUP } else { 0 };
    room.submit(u64::from(quiet));
}

#[inline(always)]
fn bytes(words: [u64; 2]) -> [u8; 16] {
    // SAFETY: sixteen bytes either way.
    unsafe { core::mem::transmute(words) }
}

#[inline(always)]
fn parsed(run: &Run, packet: &Packet) {
    // What stands in for the ports of an ICMP echo is conntrack's business.
    let ports = if packet.is_icmp() {
        (0, 0)
    } else {
        (u16::from_be(packet.source_port), u16::from_be(packet.destination_port))
    };
    put(run, kind::PARSED, |event: &mut ParsedEvent, header| {
        event.header = header;
        event.source = bytes(packet.source);
        event.destination = bytes(packet.destination);
        event.length = packet.length;
        event.source_port = ports.0;
        event.destination_port = ports.1;
        event.fragment_offset = packet.fragment_offset;
        event.more_fragments = u8::from(packet.more_fragments);
        event.family = packet.family;
        event.protocol = packet.protocol;
        event.ttl = packet.ttl;
        event.tcp_flags = packet.tcp_flags;
        event.has_icmp = u8::from(packet.is_icmp() && packet.fault == 0);
        event.icmp_type = packet.icmp_type;
        event.icmp_code = packet.icmp_code;
    });
}

#[inline(always)]
fn conntrack(run: &Run, facts: &Facts) {
    let left = facts.expires.saturating_sub(run.now);
    #[expect(clippy::cast_possible_truncation, reason = "timeouts are hours at most")]
    let expires_in = left.checked_div(u64::from(run.ticks_per_second)).unwrap_or(0) as u32;
    put(run, kind::CONNTRACK, |event: &mut ConntrackEvent, header| {
        event.header = header;
        event.state = facts.state();
        event.created = u8::from(facts.created);
        event.closing = facts.closing;
        event.expires_in = expires_in;
    });
}

#[inline(always)]
fn identity(run: &Run, packet: &Packet, peer: &Peer, is_source: bool) {
    put(run, kind::IDENTITY, |event: &mut IdentityEvent, header| {
        event.header = header;
        event.address = bytes(if is_source { packet.source } else { packet.destination });
        event.identity = peer.identity;
        event.entry = peer.entry;
        event.source_side = u8::from(is_source);
        event.family = packet.family;
        event.from = peer.from;
    });
}

#[inline(always)]
fn policy(run: &Run, packet: &Packet, judged: &Judged, direction: u8) {
    put(run, kind::POLICY, |event: &mut PolicyEvent, header| {
        event.header = header;
        event.peer = judged.peer;
        event.entry = judged.entry;
        event.other = judged.other;
        event.endpoint = judged.endpoint;
        event.port = judged.port;
        event.protocol = packet.protocol;
        event.direction = direction;
        event.outcome = judged.outcome;
        event.remembered = u8::from(judged.remembered);
    });
}

/// What was done: the last event of a run.
#[inline(always)]
pub(crate) fn outcome(run: &Run, verdict: &Verdict) {
    put(run, kind::OUTCOME, |event: &mut OutcomeEvent, header| {
        event.header = header;
        event.action = verdict.action;
        event.reason = verdict.reason;
        let leads_on = matches!(verdict.action, action::DELIVER | action::TUNNEL);
        let to = if leads_on { run.target(verdict.to) } else { None };
        match (verdict.action, to) {
            (action::STACK, _) => event.host = u8::from(verdict.host),
            (action::DELIVER, Some(to)) => {
                event.endpoint = to.endpoint;
                event.ifindex = to.ifindex;
                event.peer = u8::from(run.has(config::DELIVER_BY_PEER));
            }
            (action::TUNNEL, Some(to)) => {
                event.vni = vni(verdict.identity);
                event.ifindex = run.settings.tunnel_ifindex;
                event.ttl = TUNNEL_TTL;
                let (remote, is_v6) = remote_of(to);
                event.remote = bytes(remote);
                event.remote_family = if is_v6 { family::V6 } else { family::V4 };
            }
            _ => {}
        }
    });
}
