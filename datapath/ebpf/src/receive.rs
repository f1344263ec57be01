//! The receiver's side, shared by every hook that a packet reaches a pod through: who sent it, whether
//! ingress policy admits it, and what conntrack keeps of it.

use datapath_abi::{Target, conntrack as ct, ct_kind, ct_state, direction, reason, source};

use crate::conntrack::{self, Flow};
use crate::headers::Packet;
use crate::ipcache;
use crate::policy::{self, Table};
use crate::run::{Facts, Peer, Place, Run};
use crate::{service, translate};

/// How the sender's identity is known. A struct for the reason that [`crate::run::Verdict`] is one.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    /// What the hook knows; `from` is 0 where the ipcache is to be asked.
    peer: Peer,
    /// By address: what an own address of this node counts as.
    own_address: u32,
}

impl Sender {
    /// The hook knows it.
    #[inline(always)]
    pub(crate) fn known(peer: Peer) -> Self {
        Self { peer, own_address: 0 }
    }

    /// By the ipcache; an own address of this node counts as `own_address`.
    #[inline(always)]
    pub(crate) fn by_address(own_address: u32) -> Self {
        Self { peer: Peer { identity: 0, entry: 0, from: 0 }, own_address }
    }

    #[inline(always)]
    fn is_known(self) -> bool {
        self.peer.from != 0
    }
}

/// Translates what a backend answers a client back, if the flow says so.
#[inline(always)]
pub(crate) fn answer(run: &Run, packet: &mut Packet, facts: &mut Facts, flow: &Flow) {
    if facts.state() != ct_state::REPLY || flow.flags() & ct::FRONTEND == 0 {
        return;
    }
    // What remembers its way in this generation was asked in it.
    if flow.path(run, facts) == Place::UNKNOWN && service::confirm_frontend(run.skb) == 0 {
        flow.forget_frontend();
        return;
    }
    translate::answer(packet, facts, flow);
    if flow.is_pushed() {
        service::see_to(run.skb);
    }
}

/// The flow of a packet that a pod or the node itself gets: an entry that leads a client to its backend, or answers to their
/// translated source, says nothing of what is sent to that side.
#[inline(always)]
pub(crate) fn flow_here(facts: &mut Facts, flow: Flow) -> Flow {
    if flow.is_unknown() || flow.is(ct_kind::PLAIN) {
        return flow;
    }
    facts.set_state(ct_state::NEW, ct::INITIATOR);
    Flow::UNKNOWN
}

/// Index of the target that the packet's destination is.
#[inline(always)]
pub(crate) fn destination(run: &Run, packet: &Packet, facts: &mut Facts) -> u32 {
    let found = ipcache::look_up(run, packet.family, &packet.destination);
    facts.destination = found.peer;
    found.index
}

/// Judges a packet for a pod and remembers what comes of it. Returns the reason that it is dropped for, or
/// [`reason::FORWARDED`].
#[inline(always)]
pub(crate) fn admit(
    run: &Run,
    packet: &Packet,
    facts: &mut Facts,
    flow: &Flow,
    (index, to): (u32, &Target),
    sender: Sender,
) -> u8 {
    if sender.is_known() {
        facts.source = sender.peer;
    }
    if packet.fault != 0 {
        return packet.fault;
    }
    flow.observe(run, packet, facts);
    if !facts.needs_policy() {
        if facts.state() == ct_state::REPLY && flow.path(run, facts) == Place::UNKNOWN {
            flow.remember_path(run, facts, index);
        }
        return reason::FORWARDED;
    }
    let refused = judge(run, packet, facts, flow, to, sender);
    if refused != reason::FORWARDED {
        return refused;
    }
    if conntrack::remember(run, packet, facts, index, Place::UNKNOWN) {
        reason::FORWARDED
    } else {
        reason::CT_CREATE_FAILED
    }
}

/// Whether two ways to know a sender say the same: a pod has its address from its own device, and the ipcache has it from there. Where the
/// stack carries between pods of a node both devices judge a flow.
#[inline(always)]
fn is_same(run: &Run, one: u8, other: u8) -> bool {
    let by_address = |from: u8| matches!(from, source::ENDPOINT | source::IPCACHE);
    one == other || run.is_at_pod() && by_address(one) && by_address(other)
}

/// Asks ingress policy, or conntrack for what it said before. Returns the reason of a refusal, or
/// [`reason::FORWARDED`].
#[inline(always)]
pub(crate) fn judge(
    run: &Run,
    packet: &Packet,
    facts: &mut Facts,
    flow: &Flow,
    to: &Target,
    sender: Sender,
) -> u8 {
    if let Some(leg) = flow.leg(run, facts, direction::INGRESS, policy::port(packet)) {
        // Under one generation the ipcache says the same of an address to every hook, but for the node's own.
        let same_sender = if sender.is_known() {
            leg.identity == sender.peer.identity && is_same(run, leg.source, sender.peer.from)
        } else if leg.source == source::OWN_ADDRESS {
            leg.identity == sender.own_address
        } else {
            is_same(run, leg.source, source::IPCACHE)
        };
        if same_sender {
            if !sender.is_known() {
                facts.source = Peer { identity: leg.identity, entry: 0, from: source::REMEMBERED };
            }
            facts.ingress = conntrack::recall(leg, to.endpoint, to.ingress_hits);
            return reason::FORWARDED;
        }
    }
    let peer = if sender.is_known() {
        sender.peer
    } else {
        ipcache::sender(run, packet.family, &packet.source, sender.own_address)
    };
    facts.source = peer;
    facts.ingress.hits = to.ingress_hits;
    policy::judge(Table::ingress(to), packet, &peer, &mut facts.ingress);
    policy::refusal(&facts.ingress)
}
