//! The oracle's own memory of flows: one entry per flow and node, who opened it, until when it is remembered and
//! what it is translated to; besides, clients' last backends and the ports of first fragments. Times and closing
//! as the reference has them (Cilium 1.18 conntrack); never a policy.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::net::{FlowKey, Protocol, TcpFlags};
use crate::topology::NodeId;
use crate::trace::CtState;

use super::headers::{End, Tracking, Tuple};
use super::services::Scope;

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
    served: BTreeMap<Asking, Served>,
    affinities: BTreeMap<(NodeId, Client), Kept>,
    pieces: BTreeMap<(NodeId, Piece), (u16, u16)>,
}

/// A client of a frontend, by its address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    pub(super) frontend: End,
    pub(super) protocol: Protocol,
}

impl Client {
    pub(super) fn of(asked: &Tuple) -> Self {
        Self { address: asked.from.address, frontend: asked.to, protocol: asked.protocol }
    }
}

/// A backend that was chosen for a flow to a frontend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) asked: Tuple,
    pub(super) backend: End,
    /// Where the client is: the other side of the cluster's border has other backends.
    pub(super) scope: Scope,
    /// The client's further flows get it too.
    pub(super) binds: bool,
}

/// The backend that a client's flow to a frontend has.
#[derive(Clone, Copy, Debug)]
struct Served {
    backend: End,
    scope: Scope,
    /// A full table had no room for it.
    is_lost: bool,
}

/// A client's side of a flow and the frontend.
type Asking = (NodeId, Protocol, End, End);

fn asking(node: NodeId, asked: &Tuple) -> Asking {
    (node, asked.protocol, asked.from, asked.to)
}

/// The backend that a client had last, and when its last connection began.
#[derive(Clone, Copy, Debug)]
struct Kept {
    backend: End,
    since: u64,
}

/// A datagram of which there are fragments: source, destination, protocol, id.
pub(super) type Piece = (IpAddr, IpAddr, Protocol, u32);

/// What a node knows of a flow besides its two ends: what it translates, and the way that it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shift {
    /// The frontend that the opener spoke to; answers come from it.
    pub(super) through: Option<End>,
    /// The opener before its source became the loopback address.
    pub(super) origin: Option<End>,
    /// The source that the opener has beyond this node.
    pub(super) beyond: Option<End>,
    /// What has that source and no identifier is another flow's too, which had it first: answers are that one's.
    pub(super) shares: bool,
    /// The opener's packets come by the tunnel.
    pub(super) by_tunnel: bool,
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
    other: End,
    shift: Shift,
    /// The first second at which the flow is forgotten.
    expires: u64,
    syn: Sides,
    closing: Sides,
    beyond_syn: bool,
    /// A full table had no room for what leads answers to the source beyond this node back.
    has_no_way_back: bool,
}

impl Entry {
    /// The source beyond the node, where answers to it are led back.
    fn answered(&self) -> Option<End> {
        self.shift.beyond.filter(|_| !self.has_no_way_back)
    }

    /// The first packet starts the flow whatever its flags: only a flow that is known can be closed.
    fn open(tuple: &Tuple, shift: Shift, flags: Option<TcpFlags>, now: u64) -> Self {
        let none = Sides::default();
        let (opener, other) = (tuple.from, tuple.to);
        let mut entry = Self {
            opener,
            other,
            shift,
            expires: 0,
            syn: none,
            closing: none,
            beyond_syn: false,
            has_no_way_back: false,
        };
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
pub(super) fn opens(flags: Option<TcpFlags>) -> bool {
    let other = [TcpFlags::ACK, TcpFlags::FIN, TcpFlags::RST];
    flags.is_some_and(|f| f.contains(TcpFlags::SYN) && !other.iter().any(|o| f.contains(*o)))
}

impl Memory {
    fn entry(&self, node: NodeId, tuple: &Tuple, now: u64) -> Option<&Entry> {
        self.flows.get(&(node, Pair::of(tuple))).filter(|entry| now < entry.expires)
    }

    /// Forgets a flow, in the direction of the side that opened it, for want of room.
    pub fn forget(&mut self, node: NodeId, flow: &FlowKey) {
        let end = |address, port| End { address, port };
        let tuple = Tuple {
            protocol: flow.protocol,
            from: end(flow.source, flow.source_port),
            to: end(flow.destination, flow.destination_port),
        };
        let key = (node, Pair::of(&tuple));
        if self.flows.get(&key).is_some_and(|entry| entry.opener == tuple.from) {
            self.flows.remove(&key);
        }
    }

    /// Forgets which backend a client's flow to a frontend has, for want of room; or finds it again, as the backend's answers tell.
    pub fn lose_backend(&mut self, node: NodeId, flow: &FlowKey, is_lost: bool) {
        let end = |address, port| End { address, port };
        let client = end(flow.source, flow.source_port);
        let frontend = end(flow.destination, flow.destination_port);
        if let Some(served) = self.served.get_mut(&(node, flow.protocol, client, frontend)) {
            served.is_lost = is_lost;
        }
    }

    /// Forgets whose a source beyond the node is, given with whom it speaks, for want of room; or finds it again.
    pub fn lose_source(&mut self, node: NodeId, flow: &FlowKey, is_lost: bool) {
        let end = |address, port| End { address, port };
        let (from, to) =
            (end(flow.source, flow.source_port), end(flow.destination, flow.destination_port));
        let there = Tuple { protocol: flow.protocol, from, to };
        for ((at, pair), entry) in &mut self.flows {
            let flow = Tuple { protocol: pair.protocol, from: entry.opener, to: entry.other };
            let shown = entry.shift.beyond.map(|beyond| flow.sent_from(beyond));
            if *at == node && shown == Some(there) {
                entry.has_no_way_back = is_lost;
            }
        }
    }

    /// Whether anything is remembered beside flows.
    pub fn has_more_than_flows(&self) -> bool {
        !(self.affinities.is_empty() && self.pieces.is_empty())
    }

    /// Forgets which clients of a node keep to their backends, but for those of whom it is so, for want of room: address, and the
    /// frontend's address, port and protocol.
    pub fn keep_clients(&mut self, node: NodeId, is: impl Fn(IpAddr, (IpAddr, u16), u8) -> bool) {
        self.affinities.retain(|(at, client), _| {
            let frontend = (client.frontend.address, client.frontend.port);
            *at != node || is(client.address, frontend, client.protocol.number())
        });
    }

    /// The same of datagrams whose first piece was seen: source, destination, protocol, identification.
    pub fn keep_pieces(&mut self, node: NodeId, is: impl Fn(IpAddr, IpAddr, u8, u32) -> bool) {
        self.pieces.retain(|(at, (source, destination, protocol, id)), _| {
            *at != node || is(*source, *destination, protocol.number(), *id)
        });
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

    /// What is translated of a packet's flow, or of the one that it quotes.
    pub(super) fn shift(&self, node: NodeId, tuple: &Tuple, now: u64) -> Shift {
        self.entry(node, tuple, now).map_or_else(Shift::default, |entry| entry.shift)
    }

    /// Whether a flow was opened by the side that sends here.
    pub(super) fn is_opener(&self, node: NodeId, tuple: &Tuple, now: u64) -> bool {
        self.entry(node, tuple, now).is_some_and(|entry| entry.opener == tuple.from)
    }

    /// Flows of a node that are remembered.
    fn alive(&self, node: NodeId, now: u64) -> impl Iterator<Item = (&Pair, &Entry)> {
        let all = self.flows.iter();
        all.filter(move |((at, _), entry)| *at == node && now < entry.expires)
            .map(|((_, pair), entry)| (pair, entry))
    }

    /// Who really is behind the receiving side of an answer that came to a node's address: the flow's opener, with the
    /// port that it has on this node.
    pub(super) fn behind(&self, node: NodeId, answer: &Tuple, now: u64) -> Option<End> {
        let found = self.alive(node, now).find(|(pair, entry)| {
            let there = Tuple { protocol: pair.protocol, from: entry.opener, to: entry.other };
            let answers = |beyond| there.sent_from(beyond).back() == *answer;
            !entry.shift.shares && entry.answered().is_some_and(answers)
        });
        found.map(|(pair, entry)| {
            let protocol = pair.protocol;
            Tuple { protocol, from: entry.opener, to: entry.other }.source()
        })
    }

    /// The backend that the flow from a client to a frontend has, and what is translated of it.
    pub(super) fn backend(
        &self,
        node: NodeId,
        asked: &Tuple,
        scope: Option<Scope>,
        now: u64,
    ) -> Option<(End, Entered)> {
        let Served { backend, scope: served, is_lost } = *self.served.get(&asking(node, asked))?;
        if is_lost || scope.is_some_and(|scope| scope != served) {
            return None;
        }
        let found = self.alive(node, now).find(|(pair, entry)| {
            let client = entry.shift.origin.unwrap_or(entry.opener);
            pair.protocol == asked.protocol
                && client == asked.from
                && entry.other == backend
                && entry.shift.through == Some(asked.to)
        });
        found.map(|(_, entry)| {
            let seen_as = entry.shift.origin.map(|_| entry.opener);
            (entry.other, Entered { closing: entry.closing.either(), seen_as })
        })
    }

    /// Whether a source towards a remote side is another flow's already.
    pub(super) fn is_taken(&self, node: NodeId, there: &Tuple, own: &Tuple, now: u64) -> bool {
        self.alive(node, now).any(|(pair, entry)| {
            let flow = Tuple { protocol: pair.protocol, from: entry.opener, to: entry.other };
            let shown = match entry.shift.beyond {
                Some(_) => entry.answered().map(|beyond| flow.sent_from(beyond)),
                None => Some(flow),
            };
            // What came to the node itself from there has that source too.
            let is_its = entry.shift.beyond.is_none() && flow.back() == *there;
            flow != *own && (shown == Some(*there) || is_its)
        })
    }

    /// Whether the answers to a source towards a remote side are another flow's.
    pub(super) fn is_answered(&self, node: NodeId, there: &Tuple, own: &Tuple, now: u64) -> bool {
        self.alive(node, now).any(|(pair, entry)| {
            let flow = Tuple { protocol: pair.protocol, from: entry.opener, to: entry.other };
            let shown = entry.answered().map(|beyond| flow.sent_from(beyond));
            // What came to the node itself from there is answered by it.
            let is_its = entry.shift.beyond.is_none() && flow.back() == *there;
            flow != *own && !entry.shift.shares && (shown == Some(*there) || is_its)
        })
    }

    /// Whether a flow that is translated has this one's source and remote side beyond the node.
    pub(super) fn stands_for_another(&self, node: NodeId, own: &Tuple, now: u64) -> bool {
        self.alive(node, now).any(|(pair, entry)| {
            let flow = Tuple { protocol: pair.protocol, from: entry.opener, to: entry.other };
            flow != *own && entry.answered().is_some_and(|beyond| flow.sent_from(beyond) == *own)
        })
    }

    /// The backend that a client keeps.
    pub(super) fn kept(&self, node: NodeId, client: Client, timeout: u32, now: u64) -> Option<End> {
        let kept = self.affinities.get(&(node, client))?;
        (now < kept.since.saturating_add(u64::from(timeout))).then_some(kept.backend)
    }

    /// A new connection of a client; for its further ones the time runs anew.
    pub(super) fn keep(&mut self, node: NodeId, chosen: Chosen, now: u64) {
        let Chosen { asked, backend, scope, binds } = chosen;
        self.served.insert(asking(node, &asked), Served { backend, scope, is_lost: false });
        if binds {
            let client = Client::of(&asked);
            self.affinities.insert((node, client), Kept { backend, since: now });
        }
    }

    /// Takes note of the ports of a first fragment.
    pub(super) fn note_piece(&mut self, node: NodeId, piece: Piece, ports: (u16, u16)) {
        self.pieces.insert((node, piece), ports);
    }

    /// The ports of the first fragment.
    pub(super) fn ports_of(&self, node: NodeId, piece: &Piece) -> Option<(u16, u16)> {
        self.pieces.get(&(node, *piece)).copied()
    }

    /// Takes note of a packet that the node judged in this state. A known flow is refreshed whatever came of
    /// the packet, since the look-up comes before policy; only a packet that passed starts one. Errors and later
    /// fragments without ports leave nothing.
    pub(super) fn note(
        &mut self,
        node: NodeId,
        tracking: &Tracking,
        (state, shift): (CtState, Shift),
        passed: bool,
        now: u64,
    ) {
        let Tracking::Flow(tuple, flags) = tracking else { return };
        let key = (node, Pair::of(tuple));
        match state {
            CtState::New if passed => {
                self.flows.insert(key, Entry::open(tuple, shift, *flags, now));
            }
            CtState::Established | CtState::Reply => {
                if let Some(entry) = self.flows.get_mut(&key) {
                    entry.see(state == CtState::Established, *flags, now);
                    if state == CtState::Established && passed {
                        entry.shift = shift;
                    }
                }
            }
            CtState::New | CtState::Related | CtState::Untracked => {}
        }
    }
}

/// Of a service's flow that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entered {
    /// Whether either side has closed: a SYN begins a new one.
    pub(super) closing: bool,
    /// The loopback address, where the client reached itself.
    pub(super) seen_as: Option<End>,
}
