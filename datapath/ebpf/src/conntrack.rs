//! Flows: look-up under the canonical key, what the reference's state machine makes of a packet, and
//! what an entry remembers for the packets that follow. `datapath_abi::flow` states the layout.

use core::ptr::{self, NonNull};

use aya_ebpf::bindings::__sk_buff;
use datapath_abi::{
    CtKey4, CtKey6, CtLeg, CtValue, conntrack, ct_state, direction, hook, outcome, source,
};

use crate::context::add_atomically;
use crate::headers::{ACK, FIN, Packet, RST, SYN, TCP};
use crate::maps::{CT4, CT6, SCRATCH};
use crate::run::{Facts, Judged, Place, Run, Sides, apart, clear};
use crate::{fragments, related, service, translate};

/// What conntrack knows about a packet.
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    /// The entry; null for a new flow and an untracked packet.
    entry: *mut CtValue,
}

/// Writes the canonical key of the packet's flow into the packet, and which side of it the source is: keys would take much of a stack.
#[inline(always)]
fn set_key(packet: &mut Packet) {
    let ports = (u16::from_be(packet.source_port), u16::from_be(packet.destination_port));
    if packet.is_ipv4() {
        #[expect(clippy::cast_possible_truncation, reason = "IPv4 is in the first four bytes")]
        let (source, destination) = (packet.source[0] as u32, packet.destination[0] as u32);
        let side =
            |address: u32, port: u16| u64::from(u32::from_be(address)) << 16 | u64::from(port);
        let source_is_low = side(source, ports.0) <= side(destination, ports.1);
        let (low, high) = if source_is_low { (source, destination) } else { (destination, source) };
        packet.key[0] = u64::from(low) | u64::from(high) << 32;
        packet.key[1] = last_word(packet, source_is_low);
        packet.source_side = u8::from(!source_is_low);
    } else {
        let (source, destination) = (packet.source, packet.destination);
        let side = |address: [u64; 2], port: u16| {
            (u64::from_be(address[0]), u64::from_be(address[1]), port)
        };
        let source_is_low = side(source, ports.0) <= side(destination, ports.1);
        let (low, high) = if source_is_low { (source, destination) } else { (destination, source) };
        packet.key = [low[0], low[1], high[0], high[1], last_word(packet, source_is_low)];
        packet.source_side = u8::from(!source_is_low);
    }
}

/// Ports and protocol as both keys end.
#[inline(always)]
fn last_word(packet: &Packet, source_is_low: bool) -> u64 {
    let (low, high) = if source_is_low {
        (packet.source_port, packet.destination_port)
    } else {
        (packet.destination_port, packet.source_port)
    };
    u64::from(low) | u64::from(high) << 16 | u64::from(packet.protocol) << 32
}

/// The packet's key in the table of IPv4.
#[inline(always)]
pub(crate) fn key4(packet: &Packet) -> &CtKey4 {
    // SAFETY: the first two words are laid out as the key, which is made of bytes.
    unsafe { &*ptr::from_ref(&packet.key).cast() }
}

/// The packet's key in the table of IPv6.
#[inline(always)]
pub(crate) fn key6(packet: &Packet) -> &CtKey6 {
    // SAFETY: as above, all five words.
    unsafe { &*ptr::from_ref(&packet.key).cast() }
}

/// The entry of a packet's flow, expired or not; null if there is none. Notes the source's side.
#[inline(always)]
fn find_at_once(packet: &mut Packet) -> *mut CtValue {
    set_key(packet);
    let found = if packet.is_ipv4() {
        CT4.get_ptr_mut(key4(packet))
    } else {
        CT6.get_ptr_mut(key6(packet))
    };
    found.unwrap_or(ptr::null_mut())
}

/// The same where few packets come by.
#[inline(never)]
pub(crate) fn find(packet: &mut Packet) -> *mut CtValue {
    find_at_once(packet)
}

/// Puts an entry into the table under the packet's flow, with the source as its initiator; `flags` as of `bpf_map_update_elem`.
#[inline(never)]
pub(crate) fn put(packet: &mut Packet, value: &mut CtValue, flags: u64) -> bool {
    set_key(packet);
    value.initiator = packet.source_side;
    insert(packet, value, flags)
}

/// Notes in the facts what is known about a packet. An expired entry counts as absent, live too (the reference leaves that to its agent).
#[inline(always)]
fn look_up(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Flow {
    if packet.is_icmp_error() {
        if related::is_known(run) {
            facts.set_state(ct_state::RELATED, conntrack::INITIATOR);
        }
        return Flow::UNKNOWN;
    }
    let entry = find_at_once(packet);
    make_of(run, packet, facts, entry)
}

/// What an entry means for its packet.
#[inline(always)]
fn make_of(run: &Run, packet: &Packet, facts: &mut Facts, entry: *mut CtValue) -> Flow {
    if entry.is_null() {
        return Flow::UNKNOWN;
    }
    // SAFETY: a map value; every bit pattern is valid.
    let (expires, initiator, closing) =
        unsafe { ((*entry).expires, (*entry).initiator, (*entry).closing) };
    let reopened = packet.tcp_flags & (SYN | ACK | FIN | RST) == SYN && closing != 0;
    if run.now >= expires || reopened {
        return Flow::UNKNOWN;
    }
    if initiator == packet.source_side {
        facts.set_state(ct_state::ESTABLISHED, conntrack::INITIATOR);
    } else {
        facts.set_state(ct_state::REPLY, conntrack::RESPONDER);
    }
    Flow { entry }
}

/// The same for a packet whose transport may not be readable; what cannot be read has no flow. A piece of a datagram is
/// given its ports first.
#[inline(always)]
pub(crate) fn look_up_readable(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Flow {
    if packet.is_fragment() {
        fragments::complete(run.skb);
    }
    if packet.fault == 0 { look_up(run, packet, facts) } else { Flow::UNKNOWN }
}

/// Asks anew, about a packet that was translated since.
#[inline(always)]
pub(crate) fn look_up_again(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Flow {
    facts.set_state(ct_state::NEW, conntrack::INITIATOR);
    let entry = find_at_once(packet);
    make_of(run, packet, facts, entry)
}

/// Whether an entry is there and has not expired.
#[inline(always)]
pub(crate) fn is_alive(run: &Run, entry: *const CtValue) -> bool {
    // SAFETY: a map value.
    !entry.is_null() && run.now < unsafe { (*entry).expires }
}

impl Flow {
    /// No entry.
    pub(crate) const UNKNOWN: Self = Self { entry: ptr::null_mut() };

    /// What is in the table for a packet, expired or not.
    #[inline(always)]
    pub(crate) fn of(packet: &mut Packet) -> Self {
        Self { entry: find(packet) }
    }

    /// The flow that a packet ends by beginning it anew, if its receiver opened that.
    #[inline(always)]
    pub(crate) fn ended(run: &Run, packet: &mut Packet) -> Self {
        let entry = find(packet);
        // SAFETY: a map value.
        if is_alive(run, entry) && unsafe { (*entry).initiator } != packet.source_side {
            Self { entry }
        } else {
            Self::UNKNOWN
        }
    }

    /// Whether nothing is known.
    #[inline(always)]
    pub(crate) fn is_unknown(&self) -> bool {
        self.entry.is_null()
    }

    /// Whether its entry is of a kind of [`ct_kind`].
    #[inline(always)]
    pub(crate) fn is(&self, kind: u8) -> bool {
        // SAFETY: a map value.
        !self.entry.is_null() && unsafe { (*self.entry).kind } == kind
    }

    /// Its flags; 0 without an entry.
    #[inline(always)]
    pub(crate) fn flags(&self) -> u8 {
        // SAFETY: a map value.
        if self.entry.is_null() { 0 } else { unsafe { (*self.entry).flags } }
    }

    /// What its entry translates to: address and port.
    #[inline(always)]
    pub(crate) fn translation(&self) -> ([u64; 2], u16) {
        if self.entry.is_null() {
            return ([0; 2], 0);
        }
        // SAFETY: a map value.
        unsafe { (translate::address_of(self.entry), translate::port_of(self.entry)) }
    }

    /// Whether answers get this address and port as their source.
    #[inline(always)]
    pub(crate) fn has_frontend(&self, address: [u64; 2], port: u16) -> bool {
        let (own, own_port) = self.translation();
        self.flags() & conntrack::FRONTEND != 0 && own == address && own_port == port
    }

    /// Whether what leads the client to its backend is to be looked after: at every eighth answer, as a look-up costs much.
    #[inline(always)]
    pub(crate) fn is_pushed(&self) -> bool {
        // SAFETY: a map value.
        !self.entry.is_null() && unsafe { (*self.entry).packets[conntrack::RESPONDER] } & 7 == 7
    }

    /// Answers keep their source from now on: the frontend is none any more.
    #[inline(always)]
    pub(crate) fn forget_frontend(&self) {
        let Some(known) = NonNull::new(self.entry) else { return };
        // SAFETY: a map value, of which no other reference is alive.
        unsafe { (*known.as_ptr()).flags &= !conntrack::FRONTEND };
    }

    /// The port that its source leaves with, in network order (0: its own), if that was found in this generation.
    #[inline(always)]
    pub(crate) fn nat_port(&self, run: &Run) -> Option<u16> {
        if self.entry.is_null() {
            return None;
        }
        // SAFETY: a map value.
        let (generation, port) = unsafe {
            ((*self.entry).nat_generation, (&raw const (*self.entry).nat_port).cast::<u16>().read())
        };
        (generation == run.generation).then_some(port)
    }

    /// The port that its source leaves with, in network order, whenever that was found; 0: its own.
    #[inline(always)]
    pub(crate) fn last_nat_port(&self) -> u16 {
        if self.entry.is_null() {
            return 0;
        }
        // SAFETY: a map value.
        unsafe { (&raw const (*self.entry).nat_port).cast::<u16>().read() }
    }

    /// Remembers what port its source leaves with.
    #[inline(always)]
    pub(crate) fn remember_nat(&self, run: &Run, port: u16) {
        if !self.entry.is_null() {
            // SAFETY: a map value; the port first, since the generation says that it holds.
            unsafe {
                (&raw mut (*self.entry).nat_port).cast::<u16>().write_volatile(port);
                (&raw mut (*self.entry).nat_generation).write_volatile(run.generation);
            }
        }
    }

    /// Remembers whether its source leaves as the node's address without a port.
    #[inline(always)]
    pub(crate) fn set_portless(&self, is_portless: bool) {
        let Some(known) = NonNull::new(self.entry) else { return };
        // SAFETY: a map value, of which no other reference is alive.
        let flags = unsafe { &mut (*known.as_ptr()).flags };
        *flags &= !conntrack::PORTLESS;
        if is_portless {
            *flags |= conntrack::PORTLESS;
        }
    }

    /// Of a client's entry: the generation in which its backend was one of the frontend's, and the frontend's number.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the word")]
    pub(crate) fn chosen(&self) -> (u32, u32) {
        if self.entry.is_null() {
            return (0, 0);
        }
        // SAFETY: a map value; one word, written as one.
        let word = unsafe { self.path_word(conntrack::INITIATOR).read_volatile() };
        ((word >> 32) as u32, word as u32)
    }

    /// Notes that in a client's entry.
    #[inline(always)]
    pub(crate) fn confirm(&self, run: &Run, frontend: u32) {
        if !self.entry.is_null() {
            // SAFETY: as in `chosen`.
            unsafe {
                self.path_word(conntrack::INITIATOR).write_volatile(path_word(run, frontend))
            };
        }
    }

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
        if facts.is_forward()
            && !facts.is_served
            && entry.flags & (conntrack::FRONTEND | conntrack::LOOPBACK) == conntrack::FRONTEND
            && !matches!(run.hook, hook::TO_NETDEV | hook::TO_CONTAINER)
        {
            // The client speaks to the backend itself now, which is to answer as itself.
            facts.is_retranslated = true;
        }
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
        && (is_fresh(&facts.egress) || is_fresh(&facts.ingress) || facts.is_retranslated);
    if !is_new && !is_judged_anew {
        if facts.is_forward() {
            remember_choice(run, facts);
        }
        return true;
    }
    if is_new && run.is_amid(packet) {
        return true;
    }
    let written = write_entry(run.skb, path_word(run, to), path_word(run, back)) != 0;
    if written {
        remember_choice(run, facts);
    }
    // Where it fails for a known flow the old entry stays, whose verdicts no longer count: nothing is lost but time.
    written || is_judged_anew
}

/// What a choice of a backend leaves behind.
#[inline(always)]
fn remember_choice(run: &Run, facts: &Facts) {
    if facts.is_chosen {
        service::remember_backend(run.skb);
    }
}

#[inline(always)]
fn is_fresh(judged: &Judged) -> bool {
    judged.outcome != 0 && !judged.remembered
}

/// Replaces the flow's entry as a whole, so that no run sees half of a verdict. What another CPU counts
/// in the old entry meanwhile is lost; that happens once a flow after a change of the tables.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn write_entry(skb: *mut __sk_buff, to: u64, back: u64) -> u32 {
    apart(skb, |run, packet, facts| u32::from(write(run, packet, facts, to, back)))
}

#[inline(always)]
fn write(run: &Run, packet: &mut Packet, facts: &mut Facts, to: u64, back: u64) -> bool {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's value, which this run has to itself; nothing else refers to this field.
    let value = unsafe { &mut (*scratch).entry };
    // Looked up again, which is rare: a pointer to a map value does not survive the way through memory.
    let known = if facts.state() == ct_state::NEW {
        set_key(packet);
        ptr::null_mut()
    } else {
        find_at_once(packet)
    };
    if known.is_null() {
        begin(run, packet, value);
        facts.created = true;
        facts.expires = value.expires;
    } else {
        // SAFETY: two map values of different maps.
        unsafe { ptr::copy_nonoverlapping(known, value, 1) };
    }
    if to != 0 {
        value.paths[conntrack::INITIATOR] = to;
    }
    // An answer that knows its way in this generation translates without asking for the frontend: only a packet that came by it has.
    if back != 0 && (facts.is_served || value.flags & conntrack::FRONTEND == 0) {
        value.paths[conntrack::RESPONDER] = back;
    }
    // SAFETY: as above, another field.
    set_translation(run, facts, value, unsafe { &(*scratch).before });
    set_leg(run, &facts.egress, &mut value.legs[usize::from(direction::EGRESS)]);
    set_leg(run, &facts.ingress, &mut value.legs[usize::from(direction::INGRESS)]);
    insert(packet, value, 0)
}

/// Puts an entry into the table of the packet's family; `flags` as of `bpf_map_update_elem`.
#[inline(always)]
pub(crate) fn insert(packet: &Packet, value: &CtValue, flags: u64) -> bool {
    let written = if packet.is_ipv4() {
        CT4.insert(key4(packet), value, flags)
    } else {
        CT6.insert(key6(packet), value, flags)
    };
    written.is_ok()
}

/// What the packet's translation leaves in its flow's entry. `before` is how the packet came.
#[inline(always)]
fn set_translation(run: &Run, facts: &Facts, value: &mut CtValue, before: &Sides) {
    if facts.is_served {
        // SAFETY: sixteen bytes, aligned as words, and two.
        unsafe {
            (&raw mut value.address).cast::<[u64; 2]>().write(before.destination);
            (&raw mut value.port).cast::<u16>().write(before.destination_port);
        }
        value.flags |= conntrack::FRONTEND;
        if facts.is_loopback {
            value.flags |= conntrack::LOOPBACK;
        }
    } else if facts.is_retranslated {
        value.flags &= !conntrack::FRONTEND;
    }
    if facts.is_masquerade_new {
        value.nat_port = facts.nat_port.to_ne_bytes();
        value.nat_generation = run.generation;
    }
    if facts.is_node_port {
        value.flags |= conntrack::NODE_PORT;
        value.nat_port = facts.nat_port.to_ne_bytes();
        value.nat_generation = run.generation;
    }
    if run.hook == hook::FROM_OVERLAY {
        value.flags |= conntrack::FROM_TUNNEL;
    }
}

#[inline(always)]
fn begin(run: &Run, packet: &Packet, value: &mut CtValue) {
    // SAFETY: integers only.
    unsafe { clear(value) };
    value.packets[conntrack::INITIATOR] = 1;
    value.bytes[conntrack::INITIATOR] = u64::from(run.frame_length());
    value.initiator = packet.source_side;
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
pub(crate) fn recall(leg: &CtLeg, endpoint: u16, hits: u32) -> Judged {
    Judged {
        entry: leg.entry,
        other: leg.other,
        peer: leg.identity,
        endpoint,
        port: leg.port,
        outcome: outcome::ALLOW,
        source: source::REMEMBERED,
        remembered: true,
        hits,
    }
}
