//! Services: finding the frontend that a packet is for, choosing a backend, keeping flows and clients to theirs. Changes what
//! decisions are made on, and writes what is to be kept only once the packet is allowed.

use core::ptr;

use aya_ebpf::bindings::__sk_buff;
use datapath_abi::{
    AffinityKey, AffinityValue, CtValue, MAGLEV_SIZE, MemberKey, SOURCE_RANGE_STATIC_BITS,
    ServiceKey, ServiceValue, choice, config, conntrack, ct_kind, ct_state, family, hook, input,
    reason, rewriting, service, target,
};

use crate::conntrack::{self as flows, Flow, look_up_again, put};
use crate::headers::{ACK, Packet, SCTP, SYN};
use crate::ipcache;
use crate::maps::{AFFINITY, BACKENDS, MAGLEV, MEMBERS, SCRATCH, SEAM, SERVICES, SOURCE_RANGES};
use crate::run::{Facts, Place, Run, Sides, apart, clear};
use crate::translate::{loopback, set_destination, set_source, undo};

/// What [`begin`] returns for a packet that is for no frontend: a reason that no packet is dropped for.
pub(crate) const NO_FRONTEND: u8 = 1;

/// [`ServiceKey`] in words.
#[repr(C)]
struct Frontend {
    slot_family_protocol: u32,
    port: u32,
    address: [u64; 2],
}

/// [`MemberKey`] in words.
#[repr(C)]
struct Member {
    first: u32,
    port: u32,
    address: [u64; 2],
}

/// [`AffinityKey`] in words.
#[repr(C)]
struct Client {
    client: [u64; 2],
    frontend: [u64; 2],
    port_family_protocol: u32,
    reserved: u32,
}

/// [`datapath_abi::SourceRangeKey`] in words.
#[repr(C)]
struct SourceRange {
    prefixlen: u32,
    entry: u32,
    slot_and_family: u32,
    address: [u32; 4],
}

/// A backend's address and port.
#[derive(Clone, Copy)]
struct Backend {
    address: [u64; 2],
    port: u16,
}

/// The frontend of the packet's destination.
#[inline(always)]
fn find(run: &Run, packet: &Packet) -> Option<&'static ServiceValue> {
    let key = Frontend {
        slot_family_protocol: run.slot()
            | u32::from(packet.family) << 8
            | u32::from(packet.protocol) << 16,
        port: u32::from(packet.destination_port),
        address: packet.destination,
    };
    // SAFETY: laid out as the key, which is made of bytes; only user space writes this map, and never an entry of the active slot.
    unsafe {
        let key = &*ptr::from_ref(&key).cast::<ServiceKey>();
        SERVICES.get_ptr(key).map(|value| &*value)
    }
}

/// Whether an address and port are a frontend for packets of the kind of another one.
#[inline(always)]
pub(crate) fn is_frontend(run: &Run, packet: &Packet, address: [u64; 2], port: u16) -> bool {
    let key = Frontend {
        slot_family_protocol: run.slot()
            | u32::from(packet.family) << 8
            | u32::from(packet.protocol) << 16,
        port: u32::from(port),
        address,
    };
    // SAFETY: laid out as the key, which is made of bytes.
    let key = unsafe { &*ptr::from_ref(&key).cast::<ServiceKey>() };
    SERVICES.get_ptr(key).is_some()
}

/// Whether the frontend that a packet's flow came by still is one. Asked once a flow after a change of the tables.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn confirm_frontend(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, packet, _| {
        let (address, port) = Flow::of(packet).translation();
        u32::from(is_frontend(run, packet, address, port))
    })
}

/// Whether an address and port are in a set of backends.
#[inline(always)]
fn is_member(first: u32, backend: Backend) -> bool {
    let key = Member { first, port: u32::from(backend.port), address: backend.address };
    // SAFETY: laid out as the key, which is made of bytes.
    let key = unsafe { &*ptr::from_ref(&key).cast::<MemberKey>() };
    MEMBERS.get_ptr(key).is_some()
}

/// Translates a packet that a frontend may be for: chooses a backend. Returns [`reason::FORWARDED`] where the packet is another
/// one now, [`NO_FRONTEND`], or what it is dropped for.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a reason")]
pub(crate) fn begin(run: &Run, outside: bool) -> u8 {
    choose_backend(run.skb, u32::from(outside)) as u8
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn choose_backend(skb: *mut __sk_buff, outside: u32) -> u32 {
    apart(skb, |run, packet, facts| u32::from(look_for(run, packet, facts, outside != 0)))
}

#[inline(always)]
fn look_for(run: &Run, packet: &mut Packet, facts: &mut Facts, outside: bool) -> u8 {
    if packet.is_icmp() {
        return NO_FRONTEND;
    }
    let Some(value) = find(run, packet) else { return NO_FRONTEND };
    facts.is_served = true;
    facts.frontend = value.entry;
    let refused = if outside { refuse(run, packet, value) } else { reason::FORWARDED };
    if refused != reason::FORWARDED {
        return refused;
    }
    choose(run, packet, facts, value, outside)
}

/// Why a client from outside may not use a frontend.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
fn refuse(run: &Run, packet: &Packet, value: &ServiceValue) -> u8 {
    if value.flags & service::CLUSTER_IP != 0 {
        return reason::IS_CLUSTER_IP;
    }
    if value.flags & service::SOURCE_RANGES != 0 {
        let bits = if packet.family == family::V4 { 32 } else { 128 };
        let [low, high] = packet.source;
        let key = SourceRange {
            prefixlen: SOURCE_RANGE_STATIC_BITS + bits,
            entry: value.entry,
            slot_and_family: run.slot() | u32::from(packet.family) << 8,
            address: [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32],
        };
        if SOURCE_RANGES.look_up(&key).is_none() {
            return reason::NOT_IN_SOURCE_RANGE;
        }
    }
    reason::FORWARDED
}

/// Chooses a backend and makes it the destination.
#[inline(always)]
fn choose(
    run: &Run,
    packet: &mut Packet,
    facts: &mut Facts,
    value: &ServiceValue,
    outside: bool,
) -> u8 {
    let (first, count) = if outside {
        (value.external_first, value.external_count)
    } else {
        (value.internal_first, value.internal_count)
    };
    #[expect(clippy::cast_possible_truncation, reason = "user space installs fewer")]
    let candidates = count as u16;
    facts.candidates = candidates;
    if count == 0 {
        return reason::NO_SERVICE;
    }
    let backend = match forced(run) {
        Some(backend) => {
            facts.choice = choice::FORCED;
            Some(backend)
        }
        None => match kept(run, packet, value, first) {
            Some(backend) => {
                facts.choice = choice::AFFINITY;
                Some(backend)
            }
            None => pick(packet, facts, value, (first, count), outside),
        },
    };
    let Some(backend) = backend else { return reason::NO_SERVICE };
    // The checksum of SCTP is over all of the packet, which programs cannot sum (RFC 9260 6.8).
    if packet.protocol == SCTP && backend.port != packet.destination_port {
        lead(run, packet, facts, backend);
        return reason::UNSUPPORTED_SERVICE_PROTOCOL;
    }
    facts.is_chosen = true;
    facts.is_outside = outside;
    facts.keeps_affinity = value.affinity != 0;
    lead(run, packet, facts, backend);
    reason::FORWARDED
}

/// Makes a backend the destination; a pod that is its own gets the loopback address as source.
#[inline(always)]
fn lead(run: &Run, packet: &mut Packet, facts: &mut Facts, backend: Backend) {
    // Who comes from elsewhere under the backend's address is not that pod.
    let is_loopback = run.hook == hook::FROM_CONTAINER && backend.address == packet.source;
    set_destination(packet, facts, backend.address, backend.port, rewriting::SERVICE);
    facts.is_served = true;
    facts.is_loopback = is_loopback;
    if is_loopback {
        let (own, port) = (loopback(packet), packet.source_port);
        set_source(packet, facts, own, port, rewriting::LOOPBACK);
    }
}

/// The backend that a simulated packet asks for.
#[inline(always)]
fn forced(run: &Run) -> Option<Backend> {
    if !run.has(config::SIMULATED) {
        return None;
    }
    let seam = SEAM.get(0).filter(|seam| seam.flags & input::CHOOSE != 0)?;
    // SAFETY: sixteen bytes, aligned as words in the value.
    let address = unsafe { (&raw const seam.choose.address).cast::<[u64; 2]>().read() };
    Some(Backend { address, port: u16::from_ne_bytes(seam.choose.port) })
}

#[inline(always)]
fn client_of(packet: &Packet, frontend: ([u64; 2], u16)) -> Client {
    Client {
        client: packet.source,
        frontend: frontend.0,
        port_family_protocol: u32::from(frontend.1)
            | u32::from(packet.family) << 16
            | u32::from(packet.protocol) << 24,
        reserved: 0,
    }
}

impl Client {
    #[inline(always)]
    fn as_key(&self) -> &AffinityKey {
        const { assert!(size_of::<Self>() == size_of::<AffinityKey>()) }
        // SAFETY: laid out as the key, which is made of bytes.
        unsafe { &*ptr::from_ref(self).cast() }
    }
}

/// The client's last backend, where the frontend keeps clients to theirs and it still stands.
#[inline(always)]
fn kept(run: &Run, packet: &Packet, value: &ServiceValue, first: u32) -> Option<Backend> {
    if value.affinity == 0 {
        return None;
    }
    let client = client_of(packet, (packet.destination, packet.destination_port));
    let known = AFFINITY.get_ptr(client.as_key())?;
    // SAFETY: a map value, whose address is aligned as words.
    let (last, backend) = unsafe {
        let address = (&raw const (*known).address).cast::<[u64; 2]>().read();
        ((*known).last, Backend { address, port: u16::from_ne_bytes((*known).port) })
    };
    let until = last + u64::from(value.affinity) * u64::from(run.ticks_per_second);
    (run.now < until && is_member(first, backend)).then_some(backend)
}

/// A hash of the flow; for clients that keep to a backend, of all of the client's flows. Maglev leaves the frontend's address out
/// (as the reference does), so that every node's node port leads a client to the same backend.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the high half of the product is the better one"
)]
fn hash(packet: &Packet, value: &ServiceValue, is_maglev: bool) -> u32 {
    let port = if value.affinity == 0 { packet.source_port } else { 0 };
    let ports = u64::from(port)
        | u64::from(packet.destination_port) << 16
        | u64::from(packet.protocol) << 32;
    let to = if is_maglev { [0; 2] } else { packet.destination };
    let words = [packet.source[0], packet.source[1], to[0], to[1], ports];
    let mut sum: u64 = 0;
    for word in words {
        sum = (sum ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        sum ^= sum >> 29;
    }
    (sum >> 32) as u32
}

/// A position in a Maglev table with a bound that the verifier sees; the compiler would leave it out, knowing better.
#[inline(always)]
fn masked(position: u32) -> usize {
    let mut place = position;
    // SAFETY: a place of this function.
    let position = unsafe { (&raw mut place).read_volatile() };
    position as usize & 0x3FFF
}

/// A backend of a set that is not empty, by the flow's hash.
#[inline(always)]
fn pick(
    packet: &Packet,
    facts: &mut Facts,
    value: &ServiceValue,
    (first, count): (u32, u32),
    outside: bool,
) -> Option<Backend> {
    let is_maglev = outside && value.flags & service::MAGLEV != 0;
    let hash = hash(packet, value, is_maglev);
    let position = if is_maglev {
        facts.choice = choice::MAGLEV;
        let table = MAGLEV.get_ptr(value.maglev)?;
        let at = masked(hash % MAGLEV_SIZE);
        // SAFETY: within the table, by the mask.
        u32::from(unsafe { (&raw const (*table).positions).cast::<u16>().add(at).read() })
    } else {
        facts.choice = choice::RANDOM;
        hash % count
    };
    let backend = BACKENDS.get_ptr(first + position)?;
    // SAFETY: a map value, whose address is aligned as words.
    unsafe {
        let address = (&raw const (*backend).address).cast::<[u64; 2]>().read();
        Some(Backend { address, port: u16::from_ne_bytes((*backend).port) })
    }
}

/// The plain flow of a packet whose destination was just made a backend. A flow that the backend opened is another one.
#[inline(always)]
pub(crate) fn flow_of(run: &Run, packet: &mut Packet, facts: &mut Facts) -> Flow {
    let flow = look_up_again(run, packet, facts);
    if_led(facts, flow)
}

/// That flow, if the backend did not open it.
#[inline(always)]
fn if_led(facts: &mut Facts, flow: Flow) -> Flow {
    if facts.state() != ct_state::ESTABLISHED || !flow.is(ct_kind::PLAIN) {
        facts.set_state(ct_state::NEW, conntrack::INITIATOR);
        return Flow::UNKNOWN;
    }
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return flow };
    // SAFETY: this CPU's value, which this run has to itself.
    let before = unsafe { &(*scratch).before };
    facts.is_retranslated = !flow.has_frontend(before.destination, before.destination_port);
    flow
}

/// Leads a packet to the backend that conntrack has for its client and frontend, and returns the flow that it is of then. Where that
/// counts no more the packet is as it came, and its flow unknown.
#[inline(always)]
pub(crate) fn resume(
    run: &Run,
    packet: &mut Packet,
    facts: &mut Facts,
    known: Flow,
    outside: bool,
) -> Flow {
    let is_outside = known.flags() & conntrack::OUTSIDE != 0;
    if facts.state() != ct_state::ESTABLISHED || is_outside != outside {
        facts.set_state(ct_state::NEW, conntrack::INITIATOR);
        return Flow::UNKNOWN;
    }
    let (address, port) = known.translation();
    let (generation, chosen) = known.chosen();
    let backend = Backend { address, port };
    let frontend = if generation == run.generation {
        chosen
    } else {
        confirm_backend(run.skb, u32::from(outside))
    };
    lead(run, packet, facts, backend);
    let flow = look_up_again(run, packet, facts);
    let flow = if_led(facts, flow);
    if frontend != 0 && !flow.is_unknown() {
        facts.choice = choice::CONNTRACK;
        facts.frontend = frontend;
        return flow;
    }
    undo(packet, facts);
    facts.is_loopback = false;
    facts.is_retranslated = false;
    facts.set_state(ct_state::NEW, conntrack::INITIATOR);
    Flow::UNKNOWN
}

/// The number of the frontend whose backend, chosen under other tables, may go on: one that is still among its backends for every
/// packet, another one for what is no SYN, so that connections drain. 0: it may not.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn confirm_backend(skb: *mut __sk_buff, outside: u32) -> u32 {
    apart(skb, |run, packet, _| {
        let known = Flow::of(packet);
        let (address, port) = known.translation();
        confirm(run, packet, Backend { address, port }, known, outside != 0)
    })
}

#[inline(always)]
fn confirm(run: &Run, packet: &Packet, backend: Backend, known: Flow, outside: bool) -> u32 {
    let Some(value) = find(run, packet) else { return 0 };
    let first = if outside { value.external_first } else { value.internal_first };
    if is_member(first, backend) {
        known.confirm(run, value.entry);
        return value.entry;
    }
    if packet.tcp_flags & (SYN | ACK) == SYN { 0 } else { value.entry }
}

/// Remembers the backend of a packet that is allowed for its flow.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn remember_backend(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, packet, facts| {
        remember(run, packet, facts);
        if facts.keeps_affinity {
            keep(run, packet);
        }
        0
    })
}

#[inline(always)]
fn remember(run: &Run, packet: &Packet, facts: &Facts) {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's value, which this run has to itself; nothing else refers to these fields now.
    let (before, client, value) = unsafe {
        Packet::begin(&raw mut (*scratch).quoted);
        clear(&raw mut (*scratch).entry);
        (&(*scratch).before, &mut (*scratch).quoted, &mut (*scratch).entry)
    };
    as_it_came(client, packet, before);
    let backend = Backend { address: packet.destination, port: packet.destination_port };
    lead_to(value, facts.is_outside, backend);
    value.paths[conntrack::INITIATOR] = u64::from(run.generation) << 32 | u64::from(facts.frontend);
    // Where it fails a backend is chosen for the next packet as well, the same one unless the service changes.
    let _ = put(client, value, 0);
}

/// Makes an entry one that leads a client to a backend.
#[inline(always)]
fn lead_to(value: &mut CtValue, outside: bool, backend: Backend) {
    value.expires = u64::MAX;
    value.kind = ct_kind::SERVICE;
    value.flags = if outside { conntrack::OUTSIDE } else { 0 };
    // SAFETY: sixteen bytes, aligned as words, and two.
    unsafe {
        (&raw mut value.address).cast::<[u64; 2]>().write(backend.address);
        (&raw mut value.port).cast::<u16>().write(backend.port);
    }
}

/// Sees to it that the client of a flow whose backend answers at length still finds that backend. Nothing else touches the entry that leads
/// there meanwhile, which a full table then forgets first; it is written anew where it is gone. The packet is an answer as the client gets it.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn see_to(skb: *mut __sk_buff) -> u32 {
    apart(skb, |run, packet, _| {
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
        // SAFETY: this CPU's value, which this run has to itself; nothing else refers to these fields now.
        let (before, client, value) = unsafe {
            Packet::begin(&raw mut (*scratch).quoted);
            clear(&raw mut (*scratch).entry);
            (&(*scratch).before, &mut (*scratch).quoted, &mut (*scratch).entry)
        };
        as_it_came(client, packet, &Sides::of(packet).exchanged());
        if !flows::find(client).is_null() {
            return 1;
        }
        // Whoever is at home here asked as one of the cluster's.
        let index = ipcache::look_up(run, packet.family, &packet.destination).index;
        let kind = Place::of(run, index).target.map_or(0, |to| to.kind);
        let is_inside = matches!(kind, target::ENDPOINT | target::HOST);
        lead_to(value, !is_inside, Backend { address: before.source, port: before.source_port });
        u32::from(put(client, value, 0))
    })
}

/// A packet with the sides that another one came with.
#[inline(always)]
fn as_it_came(of: &mut Packet, packet: &Packet, before: &Sides) {
    of.family = packet.family;
    of.protocol = packet.protocol;
    of.source = before.source;
    of.destination = before.destination;
    of.source_port = before.source_port;
    of.destination_port = before.destination_port;
}

/// Remembers the backend of a packet that is allowed for its client.
#[inline(never)]
fn keep(run: &Run, packet: &Packet) {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's value, which this run has to itself.
    let before = unsafe { &(*scratch).before };
    let mut client = client_of(packet, (before.destination, before.destination_port));
    client.client = before.source;
    // SAFETY: sixteen bytes either way.
    let address = unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(packet.destination) };
    let value = AffinityValue {
        last: run.now,
        address,
        port: packet.destination_port.to_ne_bytes(),
        reserved: [0; 6],
    };
    let _ = AFFINITY.insert(client.as_key(), &value, 0);
}
