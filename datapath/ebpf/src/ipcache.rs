//! Who an address is and where it leads.

use datapath_abi::{IPCACHE_STATIC_BITS, IpcacheKey, family, settings, source, target};

use crate::headers::Packet;
use crate::maps::{IPCACHE, Trie};
use crate::run::{IDENTITY_HOST, Peer, Place, Run};

/// [`datapath_abi::IpcacheKey`] in words.
#[repr(C)]
struct Key {
    prefixlen: u32,
    slot_and_family: u32,
    address: [u64; 2],
}

#[inline(always)]
fn key(run: &Run, family: u8, address: &[u64; 2]) -> Key {
    let bits = if family == family::V4 { 32 } else { 128 };
    Key {
        prefixlen: IPCACHE_STATIC_BITS + bits,
        slot_and_family: run.slot() | u32::from(family) << 8,
        address: *address,
    }
}

/// What the ipcache says about an address.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) peer: Peer,
    /// Index of the target; [`Place::UNKNOWN`] where the ipcache has no entry.
    pub(crate) index: u32,
}

/// The longest prefix that covers the address. Without one (user space always installs a catch-all) the
/// address is outside.
#[inline(always)]
pub(crate) fn look_up(run: &Run, family: u8, address: &[u64; 2]) -> Found {
    let key = key(run, family, address);
    match IPCACHE.look_up(&key) {
        Some(value) => Found {
            peer: Peer { identity: value.identity, entry: value.entry, from: source::IPCACHE },
            index: value.target,
        },
        None => Found {
            peer: Peer { identity: run.world(family), entry: 0, from: source::IPCACHE },
            index: Place::UNKNOWN,
        },
    }
}

/// Whether a table of prefixes covers an address.
#[inline(always)]
pub(crate) fn is_covered<const CAPACITY: usize>(
    table: &Trie<IpcacheKey, u32, CAPACITY>,
    run: &Run,
    family: u8,
    address: &[u64; 2],
) -> bool {
    table.look_up(&key(run, family, address)).is_some()
}

/// Whether no router sends a packet to the address on: it means the host itself, everybody, many, or, in IPv6, neighbours.
#[inline(always)]
fn leads_nowhere(family: u8, address: &[u64; 2]) -> bool {
    let first = u64::from_be(address[0]);
    if family == family::V4 {
        let address = (first >> 32) as u32;
        matches!(address >> 24, 127 | 224..=239) || matches!(address, 0 | u32::MAX)
    } else {
        let is_unspecified_or_own = first == 0 && u64::from_be(address[1]) <= 1;
        is_unspecified_or_own || first >> 56 == 0xFF || first >> 54 == 0xFE80 >> 6
    }
}

/// Whether the datapath itself is to route a packet and has no route for it. The node's stack knows for itself.
#[inline(always)]
pub(crate) fn lacks_route(run: &Run, packet: &Packet, to: Place) -> bool {
    run.is_set(settings::HOST_ROUTING)
        && to.target.is_none_or(|to| to.kind == target::STACK)
        && leads_nowhere(packet.family, &packet.destination)
}

/// Who sent a packet, by its address. An address of this node counts as `own_address`: what came in from a wire is
/// not this node (the reference does not believe it either). That such an address was judged is noted, since what
/// one hook makes of it holds for no other.
#[inline(always)]
pub(crate) fn sender(run: &Run, family: u8, address: &[u64; 2], own_address: u32) -> Peer {
    let mut peer = look_up(run, family, address).peer;
    if peer.identity == IDENTITY_HOST {
        peer.identity = own_address;
        peer.from = source::OWN_ADDRESS;
    }
    peer
}
