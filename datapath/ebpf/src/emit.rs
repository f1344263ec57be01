//! What a run leaves for those who look: counters always, events when asked for. Runs after everything
//! is decided and done, so that tracing costs one test when nobody looks.

use aya_ebpf::bindings::{__sk_buff, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use datapath_abi::{
    ConntrackEvent, Count, EVENT_SIZE, EncryptedEvent, EventHeader, IdentityEvent, OutcomeEvent,
    ParsedEvent, PolicyEvent, RewrittenEvent, ServiceEvent, action, choice, config, direction,
    family, hook, kind, reason, rewriting, settings, target,
};

use crate::capture;
use crate::context;
use crate::forward::{TUNNEL_TTL, is_by_peer, remote_of, vni};
use crate::headers::Packet;
use crate::maps::{COUNTERS, EVENTS, HITS, LOST, SCRATCH};
use crate::run::{Facts, Judged, Peer, Run, Sides, Verdict, apart, clear};

/// Counts the packet: on the sender's side, the receiver's, or both for local delivery; and the entries that decided.
#[inline(always)]
pub(crate) fn count(run: &Run, facts: &Facts, verdict: Verdict) {
    hit(run, &facts.egress);
    hit(run, &facts.ingress);
    if verdict.is_drop() {
        add(run, verdict.reason, verdict.direction);
        return;
    }
    let is_sent = matches!(
        run.hook,
        hook::FROM_CONTAINER | hook::FROM_HOST | hook::TO_OVERLAY | hook::TO_NETDEV
    );
    if is_sent {
        add(run, reason::FORWARDED, direction::EGRESS);
    }
    if !is_sent || verdict.action == action::DELIVER {
        add(run, reason::FORWARDED, direction::INGRESS);
    }
}

#[inline(always)]
fn add(run: &Run, reason: u8, direction: u8) {
    count_frame(run.hook, reason, direction, run.frame_length());
}

/// Counts a frame of some bytes at a hook.
#[inline(always)]
pub(crate) fn count_frame(hook: u8, reason: u8, direction: u8, bytes: u32) {
    let index = u32::from(hook) * 512 + u32::from(reason) * 2 + u32::from(direction);
    if let Some(count) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: this CPU's value.
        unsafe { increase(count, bytes) };
    }
}

/// Counts a policy's verdict at its entry.
#[inline(always)]
fn hit(run: &Run, judged: &Judged) {
    if judged.hits == 0 {
        return;
    }
    if let Some(count) = HITS.get_ptr_mut(judged.hits + judged.entry) {
        // SAFETY: this CPU's value.
        unsafe { increase(count, run.frame_length()) };
    }
}

/// # Safety
/// The counter must be this CPU's alone.
#[inline(always)]
unsafe fn increase(count: *mut Count, bytes: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        (*count).packets += 1;
        (*count).bytes += u64::from(bytes);
    }
}

/// Whether anybody looks.
#[inline(always)]
fn is_watched(run: &Run) -> bool {
    run.has(config::TRACE | config::SIMULATED)
}

/// Tells those who look what the run came to, if they want it.
#[inline(always)]
pub(crate) fn tell(run: &Run, verdict: Verdict, settled: &mut Verdict) {
    if !is_watched(run) {
        return;
    }
    verdict.put(settled);
    if capture::show(run.skb) != 0 {
        report(run.skb);
        conclude(run.skb);
    }
}

/// Writes the run's events but the last, by what is in the scratch.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn report(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, packet, facts| {
        write(run, packet, facts);
        0
    })
}

/// Writes the last one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn conclude(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, _, _| {
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
        // SAFETY: this CPU's value, which this run has to itself.
        outcome(run, unsafe { &(*scratch).verdict });
        0
    })
}

#[inline(always)]
fn write(run: &Run, packet: &Packet, facts: &Facts) {
    if run.has(config::TRACE) {
        let Some(before) = before(packet, facts) else { return };
        if packet.family != 0 {
            parsed(run, packet, before);
        }
        if facts.is_served {
            service(run, packet, facts, before);
        }
        if facts.destination_for > rewriting::SERVICE {
            let sides = (
                (before.destination, before.destination_port),
                (packet.destination, packet.destination_port),
            );
            rewritten(run, packet, facts.destination_for, false, sides);
        }
        if facts.source_for != 0 {
            let sides = ((before.source, before.source_port), (packet.source, packet.source_port));
            rewritten(run, packet, facts.source_for, facts.is_port_new, sides);
        }
        if facts.asked {
            conntrack(run, facts);
        }
        if facts.source.from != 0 {
            identity(run, packet, &facts.source, before.source, true);
        }
        if facts.destination.from != 0 {
            identity(run, packet, &facts.destination, packet.destination, false);
        }
        if facts.egress.outcome != 0 {
            policy(run, packet, &facts.egress, direction::EGRESS);
        }
        if facts.ingress.outcome != 0 {
            policy(run, packet, &facts.ingress, direction::INGRESS);
        }
        if facts.encrypted != 0 {
            encrypted(run, facts);
        }
    }
}

/// Puts one event into the ring, or counts it as lost. What `fill` leaves out is 0.
#[inline(always)]
fn put<E: 'static>(run: &Run, kind: u8, fill: impl FnOnce(&mut E, EventHeader)) {
    put_frame((run.hook, run.generation), kind, fill);
}

/// The same for a hook under a generation.
#[inline(always)]
fn put_frame<E: 'static>(
    (hook, generation): (u8, u32),
    kind: u8,
    fill: impl FnOnce(&mut E, EventHeader),
) {
    let Some(mut room) = EVENTS.reserve_untyped::<E>(0) else { return lose() };
    let event = room.as_mut_ptr();
    // SAFETY: room for the event, aligned to 8 as all of the ring is; events are integers only.
    let event = unsafe {
        clear(event.cast::<[u64; EVENT_SIZE / 8]>());
        &mut *event
    };
    fill(event, header(hook, kind, generation));
    // Readers look by themselves; waking one costs more than the packet.
    room.submit(u64::from(BPF_RB_NO_WAKEUP));
}

/// Notes for the events of a run where it runs.
#[inline(always)]
pub(crate) fn keep_cpu() {
    if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
        // SAFETY: this CPU's value, which this run has to itself; a helper without arguments.
        unsafe { (*scratch).kept.cpu = bpf_get_smp_processor_id() };
    }
}

/// What every event begins with. The CPU is read anew each time, as the stack has no room to remember it.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low bits tell CPUs apart well enough")]
pub(crate) fn header(hook: u8, kind: u8, generation: u32) -> EventHeader {
    let cpu = SCRATCH.get_ptr_mut(0).map_or(0, |scratch| {
        // SAFETY: this CPU's value, which this run has to itself.
        unsafe { (*scratch).kept.cpu as u16 }
    });
    EventHeader { kind, hook, cpu, generation }
}

/// How many events this CPU has lost, in 32 bits.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "what matters is whether it changed")]
pub(crate) fn lost() -> u32 {
    // SAFETY: this CPU's value.
    LOST.get_ptr(0).map_or(0, |lost| unsafe { *lost } as u32)
}

/// Counts an event that found no room.
#[inline(always)]
pub(crate) fn lose() {
    if let Some(lost) = LOST.get_ptr_mut(0) {
        // SAFETY: this CPU's value.
        unsafe { *lost += 1 };
    }
}

#[inline(always)]
fn bytes(words: [u64; 2]) -> [u8; 16] {
    // SAFETY: sixteen bytes either way.
    unsafe { core::mem::transmute(words) }
}

/// The packet's sides as it came. They are where translation leaves them also of a packet that was not translated.
#[inline(always)]
pub(crate) fn before(packet: &Packet, facts: &Facts) -> Option<&'static Sides> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: this CPU's value, which this run has to itself; the fields do not overlap.
    unsafe {
        let before = &raw mut (*scratch).before;
        if !facts.is_translated {
            before.write(Sides::of(packet));
        }
        Some(&*before)
    }
}

#[inline(always)]
fn parsed(run: &Run, packet: &Packet, before: &Sides) {
    // What stands in for the ports of an ICMP echo is conntrack's business.
    let ports = if packet.is_icmp() {
        (0, 0)
    } else {
        (u16::from_be(before.source_port), u16::from_be(before.destination_port))
    };
    put(run, kind::PARSED, |event: &mut ParsedEvent, header| {
        event.header = header;
        event.source = bytes(before.source);
        event.destination = bytes(before.destination);
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
        if !run.has(config::SIMULATED) {
            event.lost = lost();
        }
    });
}

#[inline(always)]
fn service(run: &Run, packet: &Packet, facts: &Facts, before: &Sides) {
    let is_found = facts.choice != choice::NOBODY;
    put(run, kind::SERVICE, |event: &mut ServiceEvent, header| {
        event.header = header;
        event.frontend = bytes(before.destination);
        event.frontend_port = u16::from_be(before.destination_port);
        if is_found {
            event.backend = bytes(packet.destination);
            event.backend_port = u16::from_be(packet.destination_port);
        }
        event.entry = facts.frontend;
        event.of = facts.candidates;
        event.family = packet.family;
        event.protocol = packet.protocol;
        event.choice = facts.choice;
    });
}

/// An address with its port.
type Side = ([u64; 2], u16);

#[inline(always)]
fn rewritten(
    run: &Run,
    packet: &Packet,
    what_for: u8,
    created: bool,
    (before, after): (Side, Side),
) {
    // An echo's identifier stands at one side only; it is told at the one that is translated.
    let port = |side: Side, now: bool| {
        let icmp = if now { packet.source_port | packet.destination_port } else { side.1 };
        u16::from_be(if packet.is_icmp() { icmp } else { side.1 })
    };
    put(run, kind::REWRITTEN, |event: &mut RewrittenEvent, header| {
        event.header = header;
        event.before = bytes(before.0);
        event.after = bytes(after.0);
        event.before_port = port(before, false);
        event.after_port = port(after, true);
        event.rewriting = what_for;
        event.created = u8::from(created);
        event.family = packet.family;
    });
}

#[inline(always)]
fn encrypted(run: &Run, facts: &Facts) {
    put(run, kind::ENCRYPTED, |event: &mut EncryptedEvent, header| {
        event.header = header;
        event.mark = facts.mark;
        event.by = facts.encrypted;
        event.key = if run.is_set(settings::IPSEC) { run.settings.key } else { 0 };
        event.nodes = u8::from(run.is_set(settings::ENCRYPT_NODES));
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
fn identity(run: &Run, packet: &Packet, peer: &Peer, address: [u64; 2], is_source: bool) {
    put(run, kind::IDENTITY, |event: &mut IdentityEvent, header| {
        event.header = header;
        event.address = bytes(address);
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

/// What was done: the last event of a run. Called at one place only: with a second one the compiler makes a function of what fills the
/// event, and of every program something that the verifier goes through twice.
#[inline(always)]
fn outcome(run: &Run, verdict: &Verdict) {
    put(run, kind::OUTCOME, |event: &mut OutcomeEvent, header| {
        event.header = header;
        event.action = verdict.action;
        event.reason = verdict.reason;
        stamp(run, event);
        let leads_on = matches!(verdict.action, action::DELIVER | action::TUNNEL | action::NETWORK);
        let to = if leads_on { run.target(verdict.to) } else { None };
        match (verdict.action, to) {
            (action::STACK, _) => event.host = u8::from(verdict.host),
            (action::DELIVER, Some(to)) => {
                event.endpoint = to.endpoint;
                event.ifindex = to.ifindex;
                event.peer = u8::from(is_by_peer(run));
            }
            (action::TUNNEL, Some(to)) => {
                event.vni = vni(verdict.identity);
                event.ifindex = run.settings.tunnel_ifindex;
                event.ttl = TUNNEL_TTL;
                let (remote, is_v6) = remote_of(to);
                event.remote = bytes(remote);
                event.remote_family = if is_v6 { family::V6 } else { family::V4 };
            }
            (action::NETWORK, to) => {
                event.ifindex = run.settings.device_ifindex;
                if let Some(to) = to.filter(|to| matches!(to.kind, target::NATIVE | target::NODE)) {
                    let (remote, is_v6) = remote_of(to);
                    event.remote = bytes(remote);
                    event.remote_family = if is_v6 { family::V6 } else { family::V4 };
                }
            }
            _ => {}
        }
    });
}

/// When, where and with what mark a run ended; a simulated one has no time, and its caller knows the rest.
#[inline(always)]
fn stamp(run: &Run, event: &mut OutcomeEvent) {
    if run.has(config::SIMULATED) {
        return;
    }
    // SAFETY: a helper without arguments.
    event.time = unsafe { bpf_ktime_get_ns() };
    event.at = run.ifindex;
    event.length = run.frame_length();
    event.mark = context::mark(run.skb);
    event.lost = lost();
}

/// What was done with a frame of which nothing else is told.
#[inline(always)]
pub(crate) fn frame_outcome(hook: u8, generation: u32, reason: u8, (flags, at): (u32, u32)) {
    keep_cpu();
    put_frame((hook, generation), kind::OUTCOME, |event: &mut OutcomeEvent, header| {
        event.header = header;
        event.action = if reason == reason::FORWARDED { action::PASS } else { action::DROP };
        event.reason = reason;
        if flags & config::SIMULATED == 0 {
            // SAFETY: a helper without arguments.
            event.time = unsafe { bpf_ktime_get_ns() };
            event.at = at;
            event.lost = lost();
        }
    });
}
