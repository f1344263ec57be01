//! The receiver's side, shared by every hook that a packet reaches a pod through: who sent it, whether
//! ingress policy admits it, and what conntrack keeps of it.

use datapath_abi::{Target, ct_state, direction, reason, source, target};

use crate::conntrack::{self, Flow};
use crate::headers::Packet;
use crate::ipcache;
use crate::policy;
use crate::run::{Facts, Peer, Run};

/// How the sender's identity is known.
#[derive(Clone, Copy)]
pub(crate) enum Sender {
    /// The hook knows it.
    Known(Peer),
    /// By the ipcache; an own address of this node counts as `own_address`.
    ByAddress { own_address: u32 },
}

/// The target of the packet's destination, if it is a pod of this node; else whether it is the node itself.
#[inline(always)]
pub(crate) fn destination(
    run: &Run,
    packet: &Packet,
    facts: &mut Facts,
) -> Result<(u32, &'static Target), bool> {
    let found = ipcache::look_up(run, packet.family, &packet.destination);
    facts.destination = found.peer;
    pod(run, found.target)
}

/// The same where the target's index is known.
#[inline(always)]
pub(crate) fn pod(run: &Run, index: Option<u32>) -> Result<(u32, &'static Target), bool> {
    let Some(index) = index else { return Err(false) };
    match run.target(index) {
        Some(to) if to.kind == target::ENDPOINT => Ok((index, to)),
        Some(to) => Err(to.kind == target::HOST),
        None => Err(false),
    }
}

/// Judges a packet for a pod and remembers what comes of it. `Some`: the reason that it is dropped for.
#[inline(always)]
pub(crate) fn admit(
    run: &Run,
    packet: &Packet,
    facts: &mut Facts,
    flow: &Flow,
    (index, to): (u32, &Target),
    sender: Sender,
) -> Option<u8> {
    if let Sender::Known(peer) = sender {
        facts.source = peer;
    }
    if packet.fault != 0 {
        return Some(packet.fault);
    }
    flow.observe(run, packet, facts);
    if !facts.needs_policy() {
        if flow.state == ct_state::REPLY && flow.path(run).is_none() {
            flow.remember_path(run, index);
        }
        return None;
    }
    if let Some(reason) = judge(run, packet, facts, flow, to, sender) {
        return Some(reason);
    }
    let kept = conntrack::remember(run, packet, flow, facts, Some(index), None);
    (!kept).then_some(reason::CT_CREATE_FAILED)
}

/// Asks ingress policy, or conntrack for what it said before. `Some`: the reason of a refusal.
#[inline(always)]
pub(crate) fn judge(
    run: &Run,
    packet: &Packet,
    facts: &mut Facts,
    flow: &Flow,
    to: &Target,
    sender: Sender,
) -> Option<u8> {
    let leg = flow.leg(run, direction::INGRESS, policy::port(packet)).filter(|leg| match sender {
        Sender::Known(peer) => leg.identity == peer.identity && leg.source == peer.from,
        Sender::ByAddress { .. } => leg.source == source::IPCACHE,
    });
    if let Some(leg) = leg {
        if let Sender::ByAddress { .. } = sender {
            facts.source = Peer { identity: leg.identity, entry: 0, from: source::REMEMBERED };
        }
        facts.ingress = conntrack::recall(leg, to.endpoint);
        return None;
    }
    let peer = match sender {
        Sender::Known(peer) => peer,
        Sender::ByAddress { own_address } => {
            ipcache::sender(run, packet.family, &packet.source, own_address)
        }
    };
    facts.source = peer;
    facts.ingress = policy::judge(to.ingress, to.endpoint, packet, &peer);
    policy::refusal(&facts.ingress, facts.state)
}
