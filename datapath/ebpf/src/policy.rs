//! Asking a policy table: two look-ups and the rule which hit wins, as `engine::tables` states it.

use datapath_abi::{
    POLICY_PORT_BITS, POLICY_STATIC_BITS, PolicyValue, Target, outcome, policy, reason, target,
};

use crate::headers::{ICMP, Packet};
use crate::maps::POLICY;
use crate::run::{Judged, Peer};

/// [`datapath_abi::PolicyKey`] in words.
#[repr(C)]
struct Key {
    prefixlen: u32,
    table: u32,
    identity: u32,
    protocol_and_port: u32,
}

/// ICMPv4 destination unreachable, fragmentation needed.
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;

/// The port that policy asks for, in network order: the destination's; for ICMP the type.
#[inline(always)]
pub(crate) fn port(packet: &Packet) -> u16 {
    if packet.is_icmp() { u16::from(packet.icmp_type).to_be() } else { packet.destination_port }
}

/// A policy table and whose it is, in one argument: see [`judge`].
#[derive(Clone, Copy)]
pub(crate) struct Table(u64);

impl Table {
    /// What an endpoint may send.
    #[inline(always)]
    pub(crate) fn egress(own: &Target) -> Self {
        Self::new(own, own.egress, target::EGRESS_SHIFT)
    }

    /// What an endpoint may receive.
    #[inline(always)]
    pub(crate) fn ingress(own: &Target) -> Self {
        Self::new(own, own.ingress, target::INGRESS_SHIFT)
    }

    #[inline(always)]
    fn new(own: &Target, table: u32, shift: u8) -> Self {
        let absent = own.flags >> shift & target::ABSENT;
        Self(u64::from(table) | u64::from(own.endpoint) << 32 | u64::from(absent) << 48)
    }
}

/// Asks a table about a packet and the peer on its other side. A look-up that cannot hit is spared.
#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "the parts of a word")]
pub(crate) fn judge(table: Table, packet: &Packet, peer: &Peer, judged: &mut Judged) {
    let (endpoint, absent) = ((table.0 >> 32) as u16, (table.0 >> 48) as u8);
    *judged = Judged {
        entry: 0,
        other: 0,
        peer: peer.identity,
        endpoint,
        port: u16::from_be(port(packet)),
        outcome: outcome::ALLOW,
        source: peer.from,
        remembered: false,
        hits: judged.hits,
    };
    // Path MTU discovery must work whatever the policy (the reference's default).
    if packet.protocol == ICMP
        && packet.icmp_type == UNREACHABLE
        && packet.icmp_code == FRAGMENTATION_NEEDED
    {
        return;
    }
    let mut key = Key {
        prefixlen: POLICY_STATIC_BITS + POLICY_PORT_BITS,
        table: table.0 as u32,
        identity: peer.identity,
        protocol_and_port: u32::from(packet.protocol) << 8 | u32::from(port(packet)) << 16,
    };
    // Without an identity (there is none of that number) both look-ups are the same one.
    let by_identity = if absent & target::NO_IDENTITY == 0 || peer.identity == 0 {
        POLICY.look_up(&key)
    } else {
        None
    };
    if let Some(hit) = by_identity.filter(|hit| hit.flags & policy::DENY != 0) {
        judged.entry = hit.entry;
        judged.outcome = outcome::DENY;
        return;
    }
    key.identity = 0;
    let by_anyone = if absent & target::NO_ANYONE == 0 { POLICY.look_up(&key) } else { None };
    decide(judged, by_identity, by_anyone);
}

/// Which of the two hits wins, given that the first is no deny: a deny; the longer prefix of protocol and
/// port; the concrete identity.
#[inline(always)]
fn decide(
    judged: &mut Judged,
    by_identity: Option<&'static PolicyValue>,
    by_anyone: Option<&'static PolicyValue>,
) {
    let (winner, other) = match (by_identity, by_anyone) {
        (None, None) => {
            judged.outcome = outcome::DEFAULT_DENY;
            return;
        }
        (Some(hit), None) | (None, Some(hit)) => (hit, None),
        (Some(one), Some(any)) => {
            if any.flags & policy::DENY != 0 || any.prefix_bits > one.prefix_bits {
                (any, Some(one))
            } else {
                (one, Some(any))
            }
        }
    };
    judged.entry = winner.entry;
    judged.other = other.map_or(0, |hit| hit.entry);
    if winner.flags & policy::DENY != 0 {
        judged.outcome = outcome::DENY;
    }
}

/// What a packet is dropped for after a verdict; [`reason::FORWARDED`] if it is allowed.
#[inline(always)]
pub(crate) fn refusal(judged: &Judged) -> u8 {
    match judged.outcome {
        outcome::ALLOW => reason::FORWARDED,
        outcome::DENY => reason::POLICY_DENY,
        _ => reason::POLICY_DENIED,
    }
}
