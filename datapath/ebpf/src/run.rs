//! One program run: what it reads before it looks at the packet, and what it comes to.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_jiffies64;
use datapath_abi::{
    ABI_VERSION, AttachmentKey, Settings, Target, config, ct_state, direction, reason, settings,
};

use crate::maps::{ACTIVE, ATTACHMENTS, CONFIG, SEAM, SETTINGS, TARGETS};

/// Identity of the node itself.
pub(crate) const IDENTITY_HOST: u32 = 1;
/// Identity of everything outside.
pub(crate) const IDENTITY_WORLD: u32 = 2;
/// Identity of another node.
pub(crate) const IDENTITY_REMOTE_NODE: u32 = 6;
/// Identity of everything outside over IPv4 in a dual-stack cluster; IPv6 has the next number.
pub(crate) const IDENTITY_WORLD_IPV4: u32 = 9;

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
            // SAFETY: a helper without arguments; a field of the context.
            unsafe { (bpf_jiffies64(), (*skb).ifindex) }
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

    /// The endpoint whose device the program hangs on, with its index.
    #[inline(always)]
    pub(crate) fn attached(&self) -> Option<(u32, &'static Target)> {
        let key = AttachmentKey { slot: self.slot(), ifindex: self.ifindex };
        // SAFETY: only user space writes this map, and never an entry of the active slot.
        let index = *unsafe { ATTACHMENTS.get(&key) }?;
        Some((index, self.target(index)?))
    }

    /// Bytes of the frame.
    #[inline(always)]
    pub(crate) fn frame_length(&self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.skb).len }
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

/// What a run found out, for its events and for conntrack.
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
    /// A number of [`ct_state`], or [`Facts::NOT_ASKED`].
    pub(crate) state: u8,
    /// The entry was written by this run.
    pub(crate) created: bool,
    /// Who is closing.
    pub(crate) closing: u8,
}

impl Facts {
    /// Conntrack was not asked.
    pub(crate) const NOT_ASKED: u8 = u8::MAX;

    #[inline(always)]
    pub(crate) fn none() -> Self {
        let peer = Peer { identity: 0, entry: 0, from: 0 };
        let judged = Judged {
            entry: 0,
            other: 0,
            peer: 0,
            endpoint: 0,
            port: 0,
            outcome: 0,
            source: 0,
            remembered: false,
        };
        Self {
            source: peer,
            destination: peer,
            egress: judged,
            ingress: judged,
            expires: 0,
            state: Self::NOT_ASKED,
            created: false,
            closing: 0,
        }
    }

    /// Whether policy has a say: it is not asked about replies and related errors.
    #[inline(always)]
    pub(crate) fn needs_policy(&self) -> bool {
        self.state != ct_state::REPLY && self.state != ct_state::RELATED
    }
}

/// What to do with the packet. Nothing of it is done before everything is decided.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    /// Drop it, for a reason, on one side.
    Drop { reason: u8, direction: u8 },
    /// Hand it to a pod of this node; `sent` if a pod of this node sent it.
    Deliver { to: &'static Target, sent: bool },
    /// Send it to another node, as the identity.
    Tunnel { to: &'static Target, identity: u32 },
    /// Give it to the node's stack.
    Stack { host: bool },
    /// Let it through to the device.
    Pass,
}

impl Verdict {
    #[inline(always)]
    pub(crate) fn drop_egress(reason: u8) -> Self {
        Self::Drop { reason, direction: direction::EGRESS }
    }

    #[inline(always)]
    pub(crate) fn drop_ingress(reason: u8) -> Self {
        Self::Drop { reason, direction: direction::INGRESS }
    }

    /// To the stack, not as its destination.
    #[inline(always)]
    pub(crate) fn stack() -> Self {
        Self::Stack { host: false }
    }

    /// The reason that this run drops for; [`reason::FORWARDED`] if it does not.
    #[inline(always)]
    pub(crate) fn reason(self) -> u8 {
        match self {
            Self::Drop { reason, .. } => reason,
            _ => reason::FORWARDED,
        }
    }
}
