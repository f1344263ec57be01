//! One program run: what it reads before it looks at the packet, and what it comes to.

use core::marker::PhantomPinned;
use core::ptr;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_jiffies64;
use datapath_abi::{
    ABI_VERSION, AttachmentKey, CtValue, Settings, Target, action, config, ct_state, direction,
    hook, reason, settings, target,
};

use crate::capture::Snapshot;
use crate::context;
use crate::headers::{ACK, Packet, SYN, TCP};
use crate::maps::{ACTIVE, ATTACHMENTS, CONFIG, SCRATCH, SEAM, SETTINGS, TARGETS};
use crate::{ipcache, notes};

/// Identity of the node itself.
pub(crate) const IDENTITY_HOST: u32 = 1;
/// Identity of everything outside.
pub(crate) const IDENTITY_WORLD: u32 = 2;
/// Identity of another node.
pub(crate) const IDENTITY_REMOTE_NODE: u32 = 6;
/// Identity of everything outside over IPv4 in a dual-stack cluster; IPv6 has the next number.
pub(crate) const IDENTITY_WORLD_IPV4: u32 = 9;

/// Sets a value to 0 in words of 8 bytes, gaps between its fields included.
///
/// # Safety
/// The place must be writable, and all bytes 0 must be a value of the type.
#[inline(always)]
pub(crate) unsafe fn clear<T>(place: *mut T) {
    const { assert!(size_of::<T>() % 8 == 0 && align_of::<T>() % 8 == 0) }
    let words = place.cast::<u64>();
    let mut at = 0;
    while at < size_of::<T>() / 8 {
        // SAFETY: within the value, aligned; volatile so that the stores stay what they are.
        unsafe { words.add(at).write_volatile(0) };
        at += 1;
    }
}

/// The two sides of a packet. Ports are in network order; ICMP echo: as in [`Packet`].
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Sides {
    /// Source address.
    pub(crate) source: [u64; 2],
    /// Destination address.
    pub(crate) destination: [u64; 2],
    /// Port of the source.
    pub(crate) source_port: u16,
    /// Port of the destination.
    pub(crate) destination_port: u16,
    /// 0
    pub(crate) reserved: u32,
}

impl Sides {
    /// Those of a packet as it is now.
    #[inline(always)]
    pub(crate) fn of(packet: &Packet) -> Self {
        Self {
            source: packet.source,
            destination: packet.destination,
            source_port: packet.source_port,
            destination_port: packet.destination_port,
            reserved: 0,
        }
    }

    /// Those of a packet the other way.
    #[inline(always)]
    pub(crate) fn exchanged(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            reserved: 0,
        }
    }
}

/// The circumstances of a run.
pub(crate) struct Run {
    /// The packet.
    pub(crate) skb: *mut __sk_buff,
    /// The node's settings in the active slot.
    pub(crate) settings: &'static Settings,
    /// The clock, in ticks.
    pub(crate) now: u64,
    /// Bits of [`config`].
    pub(crate) flags: u32,
    /// Ticks in a second.
    pub(crate) ticks_per_second: u32,
    /// The generation, read once: everything else in the tables is reached through it.
    pub(crate) generation: u32,
    /// The device that the program hangs on.
    pub(crate) ifindex: u32,
    /// The program.
    pub(crate) hook: u8,
}

impl Run {
    /// Reads the circumstances; `None` where no loader of this ABI has configured the object, and once its time is over.
    #[inline(always)]
    pub(crate) fn begin(skb: *mut __sk_buff, hook: u8) -> Option<Self> {
        let config = CONFIG.get(0).filter(|c| c.abi == ABI_VERSION)?;
        // SAFETY: a map value; volatile so that one run never reads two generations.
        let generation = unsafe { ACTIVE.get_ptr(0)?.read_volatile() };
        let settings = SETTINGS.get(generation & 1)?;
        let (now, ifindex) = if config.flags & config::SIMULATED == 0 {
            // SAFETY: a helper without arguments.
            let now = unsafe { bpf_jiffies64() };
            if config.until != 0 && now >= config.until {
                return None;
            }
            (now, context::ifindex(skb))
        } else {
            let seam = SEAM.get(0)?;
            (seam.now, seam.ifindex)
        };
        Some(Self {
            skb,
            settings,
            now,
            flags: config.flags,
            ticks_per_second: config.ticks_per_second,
            generation,
            ifindex,
            hook,
        })
    }

    /// Keeps the circumstances for functions apart.
    #[inline(always)]
    pub(crate) fn keep(&self, place: *mut Kept) {
        // SAFETY: a field of this CPU's scratch.
        unsafe {
            place.write(Kept {
                now: self.now,
                flags: self.flags,
                ticks_per_second: self.ticks_per_second,
                generation: self.generation,
                ifindex: self.ifindex,
                hook: u32::from(self.hook),
                cpu: 0,
            });
        }
    }

    /// The circumstances that were kept.
    ///
    /// # Safety
    /// `kept` must be a field of this CPU's scratch.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a hook's number")]
    unsafe fn resume(skb: *mut __sk_buff, kept: *const Kept) -> Option<Self> {
        // SAFETY: the caller's promise.
        let kept = unsafe { &*kept };
        Some(Self {
            skb,
            settings: SETTINGS.get(kept.generation & 1)?,
            now: kept.now,
            flags: kept.flags,
            ticks_per_second: kept.ticks_per_second,
            generation: kept.generation,
            ifindex: kept.ifindex,
            hook: kept.hook as u8,
        })
    }

    /// Which half of the tables.
    #[inline(always)]
    pub(crate) fn slot(&self) -> u32 {
        self.generation & 1
    }

    /// Whether a new flow's packet is observed that no connection begins with, or that answers what would not have come: whose flow it is
    /// nobody knows, so that an entry would make the packets that follow ones of whoever sent it.
    #[inline(always)]
    pub(crate) fn is_amid(&self, packet: &Packet) -> bool {
        self.has(config::OBSERVE)
            && match packet.protocol {
                TCP => packet.tcp_flags & (SYN | ACK) != SYN,
                _ => self.is_at_pod() && notes::is_unwanted(self.skb) != 0,
            }
    }

    /// Whether the node's stack carries everything: at devices of pods only.
    #[inline(always)]
    pub(crate) fn is_chained(&self) -> bool {
        self.is_at_pod() && self.has(config::CHAINED)
    }

    /// Whether the device is a pod's: the only ones that programs hang on beside others.
    #[inline(always)]
    pub(crate) fn is_at_pod(&self) -> bool {
        matches!(self.hook, hook::FROM_CONTAINER | hook::TO_CONTAINER)
    }

    /// Whether a bit of [`config`] is on.
    #[inline(always)]
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// A target of the active slot.
    #[inline(always)]
    pub(crate) fn target(&self, index: u32) -> Option<&'static Target> {
        TARGETS.get(self.settings.target_base.wrapping_add(index))
    }

    /// Whether a bit of [`settings`] is on.
    #[inline(always)]
    pub(crate) fn is_set(&self, setting: u32) -> bool {
        self.settings.flags & setting != 0
    }

    /// Index of the endpoint whose device the program hangs on.
    #[inline(always)]
    pub(crate) fn attached(&self) -> u32 {
        let key = AttachmentKey { slot: self.slot(), ifindex: self.ifindex };
        // SAFETY: only user space writes this map, and never an entry of the active slot.
        unsafe { ATTACHMENTS.get(&key) }.map_or(Place::UNKNOWN, |index| *index)
    }

    /// Bytes of the frame.
    #[inline(always)]
    pub(crate) fn frame_length(&self) -> u32 {
        context::length(self.skb)
    }

    /// The identity of everything outside for a family.
    #[inline(always)]
    pub(crate) fn world(&self, family: u8) -> u32 {
        if self.settings.flags & settings::DUAL_STACK == 0 {
            IDENTITY_WORLD
        } else {
            IDENTITY_WORLD_IPV4 - 1 + u32::from(family)
        }
    }
}

/// An address and who it is.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    /// Its identity.
    pub(crate) identity: u32,
    /// The ipcache entry that said so; 0 where another source did.
    pub(crate) entry: u32,
    /// A number of `datapath_abi::source`; 0: not asked.
    pub(crate) from: u8,
}

/// A verdict of one policy.
#[derive(Clone, Copy)]
pub(crate) struct Judged {
    /// The winning entry; 0 for none.
    pub(crate) entry: u32,
    /// The other look-up's hit; 0 for none.
    pub(crate) other: u32,
    /// The peer's identity.
    pub(crate) peer: u32,
    /// Whose policy.
    pub(crate) endpoint: u16,
    /// Destination port or ICMP type, in the host's order.
    pub(crate) port: u16,
    /// A number of `datapath_abi::outcome`; 0: not asked.
    pub(crate) outcome: u8,
    /// How the peer was known.
    pub(crate) source: u8,
    /// Taken from conntrack.
    pub(crate) remembered: bool,
    /// Index in `HITS` of the entry; 0: not counted.
    pub(crate) hits: u32,
}

/// What a run found out, for its events and for conntrack. All bytes are 0 where nothing was.
#[repr(C, align(8))]
pub(crate) struct Facts {
    /// The source's identity.
    pub(crate) source: Peer,
    /// The destination's identity.
    pub(crate) destination: Peer,
    /// The sender's policy.
    pub(crate) egress: Judged,
    /// The receiver's policy.
    pub(crate) ingress: Judged,
    /// Tick at which the conntrack entry expires; 0 without one.
    pub(crate) expires: u64,
    /// A number of [`ct_state`].
    state: u8,
    /// The entry was written by this run.
    pub(crate) created: bool,
    /// Who is closing.
    pub(crate) closing: u8,
    /// Conntrack was asked.
    pub(crate) asked: bool,
    /// Who sent the packet: `conntrack::INITIATOR` or `RESPONDER`.
    role: u8,
    /// Index of a target that was just found out.
    place: u32,
    /// The frontend's number; 0: none was looked up.
    pub(crate) frontend: u32,
    /// How many backends there were to choose from.
    pub(crate) candidates: u16,
    /// Port that the source leaves with, in network order; 0: its own.
    pub(crate) nat_port: u16,
    /// A number of `datapath_abi::choice`.
    pub(crate) choice: u8,
    /// The destination is a service's: `choice` and `frontend` say more.
    pub(crate) is_served: bool,
    /// What the destination was rewritten for: a number of `datapath_abi::rewriting`.
    pub(crate) destination_for: u8,
    /// The same of the source.
    pub(crate) source_for: u8,
    /// The packet is not as it came: [`Scratch::before`] tells how that was.
    pub(crate) is_translated: bool,
    /// So is the packet that it quotes.
    pub(crate) is_quote_translated: bool,
    /// The source is the loopback address: no policy.
    pub(crate) is_loopback: bool,
    /// The flow's entry does not know this frontend or translated port yet.
    pub(crate) is_retranslated: bool,
    /// Conntrack is to know the backend of client and frontend.
    pub(crate) is_chosen: bool,
    /// The client is outside.
    pub(crate) is_outside: bool,
    /// The client is to keep the backend.
    pub(crate) keeps_affinity: bool,
    /// An error about what came by the tunnel.
    pub(crate) is_by_tunnel: bool,
    /// It goes from a node port to another node.
    pub(crate) is_node_port: bool,
    /// Its source is translated where it leaves, and its flow has no entry yet.
    pub(crate) is_masquerade_new: bool,
    /// This packet chose the translated port.
    pub(crate) is_port_new: bool,
    /// To be encrypted by: a number of `datapath_abi::encryption`.
    pub(crate) encrypted: u8,
    /// The mark that says so.
    pub(crate) mark: u32,
    /// Functions apart change facts that their callers hold: nothing read before stays good.
    pub(crate) pinned: PhantomPinned,
}

impl Facts {
    /// Notes what conntrack knows. It is read back from memory, so that the verifier follows one way on from here
    /// and not one for each state.
    #[inline(always)]
    pub(crate) fn set_state(&mut self, state: u8, role: usize) {
        // SAFETY: fields.
        #[expect(clippy::cast_possible_truncation, reason = "a role is 0 or 1")]
        unsafe {
            (&raw mut self.state).write_volatile(state);
            (&raw mut self.role).write_volatile(role as u8);
        }
    }

    /// A number of [`ct_state`]; new where conntrack was not asked.
    #[inline(always)]
    pub(crate) fn state(&self) -> u8 {
        // SAFETY: a field.
        unsafe { (&raw const self.state).read_volatile() }
    }

    /// Who sent the packet, as an index.
    #[inline(always)]
    pub(crate) fn role(&self) -> usize {
        // SAFETY: a field.
        usize::from(unsafe { (&raw const self.role).read_volatile() } & 1)
    }

    /// The target of an index, after that was in memory: see [`Self::set_state`].
    #[inline(always)]
    pub(crate) fn place(&mut self, run: &Run, index: u32) -> Place {
        let place = &raw mut self.place;
        // SAFETY: a field.
        let index = unsafe {
            place.write_volatile(index);
            place.read_volatile()
        };
        Place::of(run, index)
    }

    /// Whether policy has a say: it is not asked about replies and related errors.
    #[inline(always)]
    pub(crate) fn needs_policy(&self) -> bool {
        !matches!(self.state(), ct_state::REPLY | ct_state::RELATED) && !self.is_loopback
    }

    /// Whether the packet may open a flow, or is of the side that did.
    #[inline(always)]
    pub(crate) fn is_forward(&self) -> bool {
        matches!(self.state(), ct_state::NEW | ct_state::ESTABLISHED)
    }
}

/// Circumstances of a run that another function of it reads again: see [`apart`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Kept {
    now: u64,
    flags: u32,
    ticks_per_second: u32,
    generation: u32,
    ifindex: u32,
    hook: u32,
    /// Where it runs; known to what tells only.
    pub(crate) cpu: u32,
}

/// What a function is made of that the verifier reads once, by itself, and not on every way to it: it takes the packet's context and
/// numbers, and finds everything else in this CPU's scratch. 0 where there is none.
#[inline(always)]
pub(crate) fn apart(
    skb: *mut __sk_buff,
    body: impl FnOnce(&Run, &mut Packet, &mut Facts) -> u32,
) -> u32 {
    context::hold(skb);
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's value, which this run has to itself; whoever called reads these fields anew.
    let (run, packet, facts) = unsafe {
        let Some(run) = Run::resume(skb, &raw const (*scratch).kept) else { return 0 };
        (run, &mut (*scratch).packet, &mut (*scratch).facts)
    };
    body(&run, packet, facts)
}

/// What a run works on beside its registers: the stack of a program and everything it calls is 512 bytes.
/// Programs do not interrupt one another on a CPU, so a run has it to itself.
#[repr(C)]
pub(crate) struct Scratch {
    /// The packet as read.
    pub(crate) packet: Packet,
    /// What is found out about it.
    pub(crate) facts: Facts,
    /// The packet that an ICMP error quotes; elsewhere a place for one side of a translation.
    pub(crate) quoted: Packet,
    /// The packet's sides as it came, if it was translated.
    pub(crate) before: Sides,
    /// The same of the packet that it quotes.
    pub(crate) quoted_before: Sides,
    /// Where a conntrack entry is built.
    pub(crate) entry: CtValue,
    /// What it came to.
    pub(crate) verdict: Verdict,
    /// The circumstances.
    pub(crate) kept: Kept,
    /// The frame as it came, where somebody wants it.
    pub(crate) came: Snapshot,
}

/// Where an address leads: a target of the active slot with its index.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The target; `None` where nothing is known.
    pub(crate) target: Option<&'static Target>,
    /// Its index; [`Place::UNKNOWN`] without a target.
    pub(crate) index: u32,
}

impl Place {
    /// The index that no target has.
    pub(crate) const UNKNOWN: u32 = u32::MAX;

    /// The target of an index.
    #[inline(always)]
    pub(crate) fn of(run: &Run, index: u32) -> Self {
        let target = if index == Self::UNKNOWN { None } else { run.target(index) };
        Self { target, index }
    }

    /// The target, if it is a pod of this node.
    #[inline(always)]
    pub(crate) fn pod(self) -> Option<&'static Target> {
        self.target.filter(|to| to.kind == target::ENDPOINT)
    }

    /// Whether it is this node itself.
    #[inline(always)]
    pub(crate) fn is_host(self) -> bool {
        self.target.is_some_and(|to| to.kind == target::HOST)
    }
}

/// What to do with the packet. Nothing of it is done before everything is decided. A struct and no enum:
/// what other variants have would be undefined in each, and the verifier must not see that copied.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Verdict {
    /// Index of the target that it goes to, if it goes to a pod or another node.
    pub(crate) to: u32,
    /// By the tunnel: the identity that the other node is told; else 0.
    pub(crate) identity: u32,
    /// A number of [`action`].
    pub(crate) action: u8,
    /// Dropped: a number of [`reason`]; else [`reason::FORWARDED`].
    pub(crate) reason: u8,
    /// Dropped: the side that it is counted on.
    pub(crate) direction: u8,
    /// To the stack: the node is the destination.
    pub(crate) host: bool,
}

impl Verdict {
    #[inline(always)]
    fn new(action: u8) -> Self {
        Self {
            to: Place::UNKNOWN,
            identity: 0,
            action,
            reason: reason::FORWARDED,
            direction: direction::EGRESS,
            host: false,
        }
    }

    /// Drop it, on the sender's side.
    #[inline(always)]
    pub(crate) fn drop_egress(reason: u8) -> Self {
        Self { reason, ..Self::new(action::DROP) }
    }

    /// Drop it, on the receiver's side.
    #[inline(always)]
    pub(crate) fn drop_ingress(reason: u8) -> Self {
        Self { reason, direction: direction::INGRESS, ..Self::new(action::DROP) }
    }

    /// Hand it to a pod of this node.
    #[inline(always)]
    pub(crate) fn deliver(to: u32) -> Self {
        Self { to, ..Self::new(action::DELIVER) }
    }

    /// Send it to another node, as the identity.
    #[inline(always)]
    pub(crate) fn tunnel(to: u32, identity: u32) -> Self {
        Self { to, identity, ..Self::new(action::TUNNEL) }
    }

    /// Give it to the node's stack; `host` if the node is the destination.
    #[inline(always)]
    pub(crate) fn stack(host: bool) -> Self {
        Self { host, ..Self::new(action::STACK) }
    }

    /// Route it out of the node, to a node if the target is one.
    #[inline(always)]
    pub(crate) fn network(to: u32) -> Self {
        Self { to, ..Self::new(action::NETWORK) }
    }

    /// The same where the datapath itself finds the route and counts the hop, unless there is none or none left. The node's stack
    /// does so for itself.
    #[inline(always)]
    pub(crate) fn routed(run: &Run, packet: &Packet, to: Place) -> Self {
        if run.is_chained() {
            return Self::network(to.index);
        }
        if ipcache::lacks_route(run, packet, to) {
            return Self::drop_egress(reason::NO_FIB);
        }
        if packet.ttl <= 1 && run.is_set(settings::HOST_ROUTING) {
            return Self::drop_egress(reason::TTL_EXCEEDED);
        }
        Self::network(to.index)
    }

    /// Let it through to the device.
    #[inline(always)]
    pub(crate) fn pass() -> Self {
        Self::new(action::PASS)
    }

    /// Puts it into memory.
    #[inline(always)]
    pub(crate) fn put(self, place: &mut Self) {
        // SAFETY: a field of this CPU's scratch.
        unsafe { ptr::from_mut(place).write_volatile(self) };
    }

    /// Reads it from memory.
    #[inline(always)]
    pub(crate) fn get(&self) -> Self {
        // SAFETY: a field of this CPU's scratch.
        unsafe { ptr::from_ref(self).read_volatile() }
    }

    /// Whether the packet ends here.
    #[inline(always)]
    pub(crate) fn is_drop(self) -> bool {
        self.action == action::DROP
    }
}
