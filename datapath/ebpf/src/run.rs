//! One program run: what it reads before it looks at the packet, and what it comes to.

use core::ptr;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_jiffies64;
use datapath_abi::{
    ABI_VERSION, AttachmentKey, CtValue, Settings, Target, action, config, ct_state, direction,
    reason, settings, target,
};

use crate::context;
use crate::headers::Packet;
use crate::maps::{ACTIVE, ATTACHMENTS, CONFIG, SEAM, SETTINGS, TARGETS};

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
    /// Reads the circumstances; `None` where no loader of this ABI has configured the object.
    #[inline(always)]
    pub(crate) fn begin(skb: *mut __sk_buff, hook: u8) -> Option<Self> {
        let config = CONFIG.get(0).filter(|c| c.abi == ABI_VERSION)?;
        // SAFETY: a map value; volatile so that one run never reads two generations.
        let generation = unsafe { ACTIVE.get_ptr(0)?.read_volatile() };
        let settings = SETTINGS.get(generation & 1)?;
        let (now, ifindex) = if config.flags & config::SIMULATED == 0 {
            // SAFETY: a helper without arguments.
            (unsafe { bpf_jiffies64() }, context::ifindex(skb))
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

    /// Which half of the tables.
    #[inline(always)]
    pub(crate) fn slot(&self) -> u32 {
        self.generation & 1
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
    /// The packet's source is the lower side of the flow's key.
    pub(crate) source_is_low: bool,
    /// Who sent the packet: `conntrack::INITIATOR` or `RESPONDER`.
    role: u8,
    /// Index of a target that was just found out.
    place: u32,
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
        !matches!(self.state(), ct_state::REPLY | ct_state::RELATED)
    }
}

/// What a run works on beside its registers: the stack of a program and everything it calls is 512 bytes.
/// Programs do not interrupt one another on a CPU, so a run has it to itself.
#[repr(C)]
pub(crate) struct Scratch {
    /// The packet as read.
    pub(crate) packet: Packet,
    /// What is found out about it.
    pub(crate) facts: Facts,
    /// The packet that an ICMP error quotes.
    pub(crate) quoted: Packet,
    /// Where a conntrack entry is built.
    pub(crate) entry: CtValue,
    /// What it came to.
    pub(crate) verdict: Verdict,
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

    /// Let it through to the device.
    #[inline(always)]
    pub(crate) fn pass() -> Self {
        Self::new(action::PASS)
    }

    /// The same after it was in memory: the verifier follows one way on from here and not one for each verdict.
    #[inline(always)]
    pub(crate) fn settle(self, place: &mut Self) -> Self {
        // SAFETY: a field of this CPU's scratch.
        unsafe {
            ptr::from_mut(place).write_volatile(self);
            ptr::from_ref(place).read_volatile()
        }
    }

    /// Whether the packet ends here.
    #[inline(always)]
    pub(crate) fn is_drop(self) -> bool {
        self.action == action::DROP
    }
}
