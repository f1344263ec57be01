//! The oracle's own memory of flows: one entry per flow and node, who opened it and until when it is
//! remembered. Times and closing as the reference has them (Cilium 1.18 conntrack); never a policy.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::net::{Protocol, TcpFlags};
use crate::topology::NodeId;
use crate::trace::CtState;

use super::headers::{End, Tracking, Tuple};

/// Seconds that a flow is remembered after its last packet: TCP beyond its SYNs.
const TCP: u64 = 8000;
/// TCP of which only SYNs were seen, and everything else.
const SHORT: u64 = 60;
/// TCP that both sides have closed, after the packet that closed it.
const CLOSED: u64 = 10;

/// The oracle's own memory of flows, per node; nothing of the datapath's conntrack is in it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    flows: BTreeMap<(NodeId, Pair), Entry>,
}

/// A flow without a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    protocol: Protocol,
    low: End,
    high: End,
}

impl Pair {
    fn of(tuple: &Tuple) -> Self {
        let (low, high) = (tuple.from.min(tuple.to), tuple.from.max(tuple.to));
        Self { protocol: tuple.protocol, low, high }
    }
}

/// Something that holds for the opener and for the other side.
#[derive(Clone, Copy, Debug, Default)]
struct Sides {
    opener: bool,
    other: bool,
}

impl Sides {
    fn set(&mut self, opener: bool) {
        if opener {
            self.opener = true;
        } else {
            self.other = true;
        }
    }

    fn both(self) -> bool {
        self.opener && self.other
    }

    fn either(self) -> bool {
        self.opener || self.other
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    opener: End,
    /// The first second at which the flow is forgotten.
    expires: u64,
    syn: Sides,
    closing: Sides,
    beyond_syn: bool,
}

impl Entry {
    /// The first packet starts the flow whatever its flags: only a flow that is known can be closed.
    fn open(opener: End, flags: Option<TcpFlags>, now: u64) -> Self {
        let none = Sides::default();
        let mut entry = Self { opener, expires: 0, syn: none, closing: none, beyond_syn: false };
        entry.note(true, flags);
        entry.prolong(flags, now);
        entry
    }

    /// Takes note of a further packet of the flow.
    fn see(&mut self, opener: bool, flags: Option<TcpFlags>, now: u64) {
        let closed_before = self.closing.both();
        self.note(opener, flags);
        if let Some(flags) = flags {
            self.close(opener, flags);
        }
        // A closed flow has its time set by what closes only: each FIN or RST gives it the close timeout anew.
        if !closed_before || flags.is_some_and(closes) {
            self.prolong(flags, now);
        }
    }

    fn note(&mut self, opener: bool, flags: Option<TcpFlags>) {
        match flags {
            Some(flags) if flags.contains(TcpFlags::SYN) => self.syn.set(opener),
            Some(_) => self.beyond_syn = true,
            None => {}
        }
    }

    fn prolong(&mut self, flags: Option<TcpFlags>, now: u64) {
        self.expires = now.saturating_add(match flags {
            _ if self.closing.both() => CLOSED,
            Some(_) if self.beyond_syn => TCP,
            _ => SHORT,
        });
    }

    /// FIN and RST close the sender's side; RST before both sides have said SYN closes both.
    fn close(&mut self, opener: bool, flags: TcpFlags) {
        let reset = flags.contains(TcpFlags::RST);
        if reset && !self.syn.both() {
            self.closing = Sides { opener: true, other: true };
        } else if reset || flags.contains(TcpFlags::FIN) {
            self.closing.set(opener);
        }
    }
}

/// Whether the packet ends its sender's side.
fn closes(flags: TcpFlags) -> bool {
    flags.contains(TcpFlags::FIN) || flags.contains(TcpFlags::RST)
}

/// Whether the packet asks for a new connection.
fn opens(flags: Option<TcpFlags>) -> bool {
    let other = [TcpFlags::ACK, TcpFlags::FIN, TcpFlags::RST];
    flags.is_some_and(|f| f.contains(TcpFlags::SYN) && !other.iter().any(|o| f.contains(*o)))
}

impl Memory {
    fn entry(&self, node: NodeId, tuple: &Tuple, now: u64) -> Option<&Entry> {
        self.flows.get(&(node, Pair::of(tuple))).filter(|entry| now < entry.expires)
    }

    /// What the node knows of the packet's flow.
    pub(super) fn state(&self, node: NodeId, tracking: &Tracking, to: IpAddr, now: u64) -> CtState {
        match tracking {
            Tracking::Nothing => CtState::Untracked,
            Tracking::Flow(tuple, flags) => match self.entry(node, tuple, now) {
                None => CtState::New,
                Some(entry) if opens(*flags) && entry.closing.either() => CtState::New,
                Some(entry) if entry.opener == tuple.from => CtState::Established,
                Some(_) => CtState::Reply,
            },
            // An error is about a packet that its receiver has sent.
            Tracking::Error(Some(quoted))
                if quoted.from.address == to && self.entry(node, quoted, now).is_some() =>
            {
                CtState::Related
            }
            Tracking::Error(_) => CtState::New,
        }
    }

    /// Takes note of a packet that the node judged in this state. A known flow is refreshed whatever came of
    /// the packet, since the look-up comes before policy; only a packet that passed starts one. Errors and later
    /// fragments leave nothing.
    pub(super) fn note(
        &mut self,
        node: NodeId,
        tracking: &Tracking,
        state: CtState,
        passed: bool,
        now: u64,
    ) {
        let Tracking::Flow(tuple, flags) = tracking else { return };
        let key = (node, Pair::of(tuple));
        match state {
            CtState::New if passed => {
                self.flows.insert(key, Entry::open(tuple.from, *flags, now));
            }
            CtState::Established | CtState::Reply => {
                if let Some(entry) = self.flows.get_mut(&key) {
                    entry.see(state == CtState::Established, *flags, now);
                }
            }
            CtState::New | CtState::Related | CtState::Untracked => {}
        }
    }
}
