//! Flows: look-up under the canonical key, what the reference's state machine makes of a packet, and
//! what an entry remembers for the packets that follow. `datapath_abi::flow` states the layout.

use core::ptr;

use datapath_abi::{
    CtKey4, CtKey6, CtLeg, CtValue, conntrack, ct_state, direction, outcome, source,
};

use crate::context::add_atomically;
use crate::headers::{self, ACK, FIN, Packet, RST, SYN, TCP};
use crate::maps::{CT4, CT6, SCRATCH};
use crate::run::{Facts, Judged, Place, Run, clear};

/// What conntrack knows about a packet.
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    /// The entry; null for a new flow and an untracked packet.
    entry: *mut CtValue,
}

/// The canonical key in words, IPv4 in the first two.
struct Key {
    words: [u64; 5],
    source_is_low: bool,
}

#[inline(always)]
fn key_of(packet: &Packet) -> Key {
    let (low_port, high_port, source_is_low);
    let mut words = [0; 5];
    let ports = (u16::from_be(packet.source_port), u16::from_be(packet.destination_port));
    if packet.is_ipv4() {
        #[expect(clippy::cast_possible_truncation, reason = "IPv4 is in the first four bytes")]
        let (source, destination) = (packet.source[0] as u32, packet.destination[0] as u32);
        let side =
            |address: u32, port: u16| u64::from(u32::from_be(address)) << 16 | u64::from(port);
        source_is_low = side(source, ports.0) <= side(destination, ports.1);
        let (low, high) = if source_is_low { (source, destination) } else { (destination, source) };
        words[0] = u64::from(low) | u64::from(high) << 32;
        (low_port, high_port) = in_order(packet, source_is_low);
        words[1] = last_word(packet, low_port, high_port);
    } else {
        let (source, destination) = (packet.source, packet.destination);
        let side = |address: [u64; 2], port: u16| {
            (u64::from_be(address[0]), u64::from_be(address[1]), port)
        };
        source_is_low = side(source, ports.0) <= side(destination, ports.1);
        let (low, high) = if source_is_low { (source, destination) } else { (destination, source) };
        words[0] = low[0];
        words[1] = low[1];
        words[2] = high[0];
        words[3] = high[1];
        (low_port, high_port) = in_order(packet, source_is_low);
        words[4] = last_word(packet, low_port, high_port);
    }
    Key { words, source_is_low }
}

#[inline(always)]
fn in_order(packet: &Packet, source_is_low: bool) -> (u16, u16) {
    if source_is_low {
        (packet.source_port, packet.destination_port)
    } else {
        (packet.destination_port, packet.source_port)
    }
}

/// Ports and protocol as both keys end.
#[inline(always)]
fn last_word(packet: &Packet, low: u16, high: u16) -> u64 {
    u64::from(low) | u64::from(high) << 16 | u64::from(packet.protocol) << 32
}

impl Key {
    #[inline(always)]
    fn as_v4(&self) -> &CtKey4 {
        // SAFETY: the first two words are laid out as the key, which is made of bytes.
        unsafe { &*ptr::from_ref(&self.words).cast() }
    }

    #[inline(always)]
    fn as_v6(&self) -> &CtKey6 {
        // SAFETY: as above, all five words.
        unsafe { &*ptr::from_ref(&self.words).cast() }
    }
}

/// The entry of a packet's flow, expired or not; null if there is none.
#[inline(always)]
fn entry_of(packet: &Packet, key: &Key) -> *mut CtValue {
    let found =
        if packet.is_ipv4() { CT4.get_ptr_mut(key.as_v4()) } else { CT6.get_ptr_mut(key.as_v6()) };
    found.unwrap_or(ptr::null_mut())
}

/// Asks what is known about a packet and notes it in the facts. Changes nothing in the table. An expired entry counts as absent, in simulation
/// and live alike (the reference leaves that to its agent).
#[inline(always)]
fn look_up(run: &Run, packet: &Packet, facts: &mut Facts) -> Flow {
    if packet.is_later_fragment() {
        facts.set_state(ct_state::UNTRACKED, conntrack::INITIATOR);
        return Flow::UNKNOWN;
    }
    if packet.is_icmp_error() {
        if is_related(run, packet) {
            facts.set_state(ct_state::RELATED, conntrack::INITIATOR);
        }
        return Flow::UNKNOWN;
    }
    let key = key_of(packet);
    facts.source_is_low = key.source_is_low;
    let entry = entry_of(packet, &key);
    if entry.is_null() {
        return Flow::UNKNOWN;
    }
    // SAFETY: a map value; every bit pattern is valid.
    let (expires, initiator, closing) =
        unsafe { ((*entry).expires, (*entry).initiator, (*entry).closing) };
    let reopened = packet.tcp_flags & (SYN | ACK) == SYN && closing != 0;
    if run.now >= expires || reopened {
        return Flow::UNKNOWN;
    }
    if (initiator == 0) == key.source_is_low {
        facts.set_state(ct_state::ESTABLISHED, conntrack::INITIATOR);
    } else {
        facts.set_state(ct_state::REPLY, conntrack::RESPONDER);
    }
    Flow { entry }
}

/// The same for a packet whose transport may not be readable; what cannot be read has no flow.
#[inline(always)]
pub(crate) fn look_up_readable(run: &Run, packet: &Packet, facts: &mut Facts) -> Flow {
    if packet.fault == 0 { look_up(run, packet, facts) } else { Flow::UNKNOWN }
}

/// Whether an ICMP error is about a known flow and goes to the sender of the packet that it quotes. The
/// second condition keeps a quoted foreign flow from opening a door to someone else.
#[inline(never)]
fn is_related(run: &Run, packet: &Packet) -> bool {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's value, which this run has to itself; nothing else refers to this field.
    let quoted = unsafe {
        clear(&raw mut (*scratch).quoted);
        &mut (*scratch).quoted
    };
    if !headers::read_quoted(run.skb, packet, quoted) || quoted.source != packet.destination {
        return false;
    }
    // An error is of no flow, but has the key of other messages between its two ends (and is no cause for another
    // error: RFC 1122 3.2.2).
    if quoted.is_icmp_error() {
        return false;
    }
    let entry = entry_of(quoted, &key_of(quoted));
    // SAFETY: a map value.
    !entry.is_null() && run.now < unsafe { (*entry).expires }
}

impl Flow {
    /// No entry.
    pub(crate) const UNKNOWN: Self = Self { entry: ptr::null_mut() };

    /// The target that packets of this side go to, if it is remembered from this generation; else
    /// [`Place::UNKNOWN`].
    #[inline(always)]
    pub(crate) fn path(&self, run: &Run, facts: &Facts) -> u32 {
        self.path_of(run, facts.role())
    }

    /// The same for packets of the other side: where the sender of this packet is.
    #[inline(always)]
    pub(crate) fn way_back(&self, run: &Run, facts: &Facts) -> u32 {
        self.path_of(run, facts.role() ^ 1)
    }

    #[inline(always)]
    fn path_of(&self, run: &Run, role: usize) -> u32 {
        if self.entry.is_null() {
            return Place::UNKNOWN;
        }
        // SAFETY: a map value; one word, written as one.
        let path = unsafe { self.path_word(role).read_volatile() };
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the word")]
        let (generation, target) = ((path >> 32) as u32, path as u32);
        if generation == run.generation { target } else { Place::UNKNOWN }
    }

    /// Remembers where packets of the responder go; the initiator's path comes with the verdicts.
    #[inline(always)]
    pub(crate) fn remember_path(&self, run: &Run, facts: &Facts, target: u32) {
        if !self.entry.is_null() {
            // SAFETY: as in `path`.
            unsafe { self.path_word(facts.role()).write_volatile(path_word(run, target)) };
        }
    }

    #[inline(always)]
    fn path_word(&self, role: usize) -> *mut u64 {
        // SAFETY: a field of a map value; the mask keeps the index within it, for the verifier too.
        unsafe { (&raw mut (*self.entry).paths).cast::<u64>().add(role & 1) }
    }

    /// The verdict that is remembered for this packet in a direction.
    #[inline(always)]
    pub(crate) fn leg(
        &self,
        run: &Run,
        facts: &Facts,
        direction: u8,
        port: u16,
    ) -> Option<&'static CtLeg> {
        if facts.state() != ct_state::ESTABLISHED || self.entry.is_null() {
            return None;
        }
        // SAFETY: a map value; `legs` never changes in place.
        let leg = unsafe { &(*self.entry).legs[usize::from(direction & 1)] };
        let holds = leg.generation == run.generation
            && run.now < leg.valid_until
            && leg.port == u16::from_be(port);
        holds.then_some(leg)
    }

    /// Counts the packet, refreshes the entry, and notes who closes.
    #[inline(always)]
    pub(crate) fn observe(&self, run: &Run, packet: &Packet, facts: &mut Facts) {
        facts.asked = true;
        if self.entry.is_null() {
            return;
        }
        // SAFETY: a map value, of which no other reference is alive.
        let entry = unsafe { &mut *self.entry };
        let role = facts.role();
        let count = |counters: *mut [u64; 2], by: u64| {
            // SAFETY: the mask above keeps the index within the field.
            unsafe { add_atomically(counters.cast::<u64>().add(role), by) };
        };
        count(&raw mut entry.packets, 1);
        count(&raw mut entry.bytes, u64::from(run.frame_length()));
        if entry.closing != conntrack::BOTH_CLOSING {
            refresh(run, packet, entry, role);
        }
        if packet.tcp_flags & (FIN | RST) != 0 {
            close(run, packet, entry, role);
        }
        facts.expires = entry.expires;
        facts.closing = entry.closing;
    }
}

/// A target as `CtValue::paths` holds it: 0 where it is not known.
#[inline(always)]
fn path_word(run: &Run, target: u32) -> u64 {
    if target == Place::UNKNOWN { 0 } else { u64::from(run.generation) << 32 | u64::from(target) }
}

/// Gives the entry its full time again. TCP is remembered for long once a segment without SYN was seen.
#[inline(always)]
fn refresh(run: &Run, packet: &Packet, entry: &mut CtValue, role: usize) {
    let mut seconds = conntrack::TIMEOUT_OTHER;
    if packet.protocol == TCP {
        // SAFETY: callers mask the role.
        unsafe { *(&raw mut entry.seen).cast::<u8>().add(role & 1) |= packet.tcp_flags };
        if packet.tcp_flags & SYN == 0 {
            entry.flags |= conntrack::SEEN_NON_SYN;
        }
        seconds = if entry.flags & conntrack::SEEN_NON_SYN == 0 {
            conntrack::TIMEOUT_SYN
        } else {
            conntrack::TIMEOUT_TCP
        };
    }
    entry.expires = run.now + u64::from(seconds * run.ticks_per_second);
}

/// FIN or RST: the sender's side closes; both do after a RST that comes before both sent SYN.
#[inline(always)]
fn close(run: &Run, packet: &Packet, entry: &mut CtValue, role: usize) {
    let connected = entry.seen[0] & entry.seen[1] & SYN != 0;
    entry.closing |= if packet.tcp_flags & RST != 0 && !connected {
        conntrack::BOTH_CLOSING
    } else {
        1 << (role & 1)
    };
    if entry.closing == conntrack::BOTH_CLOSING {
        entry.expires = run.now + u64::from(conntrack::TIMEOUT_CLOSE * run.ticks_per_second);
    }
}

/// Writes what an allowed packet leaves behind: a new flow's entry, or fresh verdicts of a known one.
/// `to` and `back` are the targets that packets of the initiator and of the responder go to. False if a new entry could not be written.
#[inline(always)]
pub(crate) fn remember(run: &Run, packet: &Packet, facts: &mut Facts, to: u32, back: u32) -> bool {
    let is_new = facts.state() == ct_state::NEW && !packet.is_icmp_error();
    let is_judged_anew = facts.state() == ct_state::ESTABLISHED
        && (is_fresh(&facts.egress) || is_fresh(&facts.ingress));
    if !is_new && !is_judged_anew {
        return true;
    }
    let written = write(run, packet, facts, path_word(run, to), path_word(run, back));
    // Where it fails for a known flow the old entry stays, whose verdicts no longer count: nothing is lost
    // but time.
    written || is_judged_anew
}

#[inline(always)]
fn is_fresh(judged: &Judged) -> bool {
    judged.outcome != 0 && !judged.remembered
}

/// Replaces the flow's entry as a whole, so that no run sees half of a verdict. What another CPU counts
/// in the old entry meanwhile is lost; that happens once a flow after a change of the tables.
#[inline(never)]
fn write(run: &Run, packet: &Packet, facts: &mut Facts, to: u64, back: u64) -> bool {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's value, which this run has to itself; nothing else refers to this field.
    let value = unsafe { &mut (*scratch).entry };
    let key = key_of(packet);
    // Looked up again, which is rare: a pointer to a map value does not survive the way through memory.
    let known =
        if facts.state() == ct_state::NEW { ptr::null_mut() } else { entry_of(packet, &key) };
    if known.is_null() {
        begin(run, packet, facts.source_is_low, value);
        facts.created = true;
        facts.expires = value.expires;
    } else {
        // SAFETY: two map values of different maps.
        unsafe { ptr::copy_nonoverlapping(known, value, 1) };
    }
    if to != 0 {
        value.paths[conntrack::INITIATOR] = to;
    }
    if back != 0 {
        value.paths[conntrack::RESPONDER] = back;
    }
    set_leg(run, &facts.egress, &mut value.legs[usize::from(direction::EGRESS)]);
    set_leg(run, &facts.ingress, &mut value.legs[usize::from(direction::INGRESS)]);
    let written = if packet.is_ipv4() {
        CT4.insert(key.as_v4(), &*value, 0)
    } else {
        CT6.insert(key.as_v6(), &*value, 0)
    };
    written.is_ok()
}

#[inline(always)]
fn begin(run: &Run, packet: &Packet, source_is_low: bool, value: &mut CtValue) {
    // SAFETY: integers only.
    unsafe { clear(value) };
    value.packets[conntrack::INITIATOR] = 1;
    value.bytes[conntrack::INITIATOR] = u64::from(run.frame_length());
    value.initiator = u8::from(!source_is_low);
    refresh(run, packet, value, conntrack::INITIATOR);
}

#[inline(always)]
fn set_leg(run: &Run, judged: &Judged, leg: &mut CtLeg) {
    if !is_fresh(judged) {
        return;
    }
    *leg = CtLeg {
        valid_until: u64::MAX,
        generation: run.generation,
        entry: judged.entry,
        other: judged.other,
        identity: judged.peer,
        port: judged.port,
        outcome: judged.outcome,
        source: judged.source,
        reserved: 0,
    };
}

/// A remembered verdict as one of this run; only allowing ones are ever remembered.
#[inline(always)]
pub(crate) fn recall(leg: &CtLeg, endpoint: u16) -> Judged {
    Judged {
        entry: leg.entry,
        other: leg.other,
        peer: leg.identity,
        endpoint,
        port: leg.port,
        outcome: outcome::ALLOW,
        source: source::REMEMBERED,
        remembered: true,
    }
}
