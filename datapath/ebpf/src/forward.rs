//! The last step: carries a verdict out. The only place that changes a packet.

use core::mem::{self, MaybeUninit, offset_of};

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, TC_ACT_OK, TC_ACT_REDIRECT, TC_ACT_SHOT,
};
use aya_ebpf::helpers::{
    bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_type,
    bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key,
};
use datapath_abi::{Target, action, config, hook, mark, reason, rewriting, settings, target};

use crate::context;
use crate::headers::{Bytes, ETHERNET, IPV4, IPV6, Packet};
use crate::run::{Facts, IDENTITY_HOST, IDENTITY_REMOTE_NODE, IDENTITY_WORLD, Run, Verdict};

/// TTL of outer headers, as in the reference.
pub(crate) const TUNNEL_TTL: u8 = 64;
/// `struct bpf_tunnel_key` as Linux 6.0 has it.
#[repr(C)]
#[derive(Clone, Copy)]
struct TunnelKey {
    vni: u32,
    /// IPv4 in the first, in the host's order; IPv6 in network order.
    remote: [u32; 4],
    tos: u8,
    ttl: u8,
    unused: u16,
    label: u32,
    /// Left to the kernel.
    local: [u32; 4],
}

/// Its size, which the helpers are told: a kernel that knows a larger or smaller one moves it to another place first, which takes longer
/// than a look-up.
const WHOLE_KEY: u32 = 44;
const _: () = assert!(size_of::<TunnelKey>() == WHOLE_KEY as usize);
/// What Linux 5.10 knows of it: without `local`.
const OLDER_KEY: u32 = offset_of!(TunnelKey, local) as u32;

/// `EINVAL`: the kernel does not know a key of that size, or there is none.
const EINVAL: i64 = 22;
/// `EPROTO`: the tunnel key is of the other family.
const EPROTO: i64 = 71;
/// `skb->pkt_type` of a packet for this host.
const PACKET_HOST: u32 = 0;

/// Does what was decided. Returns the program's return code and what was really done: where the kernel
/// refuses a step the packet is dropped.
#[inline(always)]
pub(crate) fn carry_out(
    run: &Run,
    packet: &Packet,
    facts: &Facts,
    verdict: Verdict,
) -> (i32, Verdict) {
    if verdict.is_drop() {
        return (TC_ACT_SHOT, verdict);
    }
    let done = match verdict.action {
        action::PASS => {
            context::set_mark(run.skb, facts.mark);
            return (TC_ACT_OK, verdict);
        }
        action::NETWORK => {
            context::set_mark(run.skb, mark_of(facts));
            if !run.is_set(settings::HOST_ROUTING) {
                return hand_up(run, Verdict::stack(false));
            }
            route(run, packet, verdict)
        }
        action::TUNNEL | action::DELIVER => match run.target(verdict.to) {
            Some(to) if verdict.action == action::TUNNEL => encapsulate(run, to, verdict.identity),
            Some(to) => deliver(run, packet, to),
            None => false,
        },
        _ => return hand_up(run, verdict),
    };
    if done {
        (TC_ACT_REDIRECT, verdict)
    } else {
        (TC_ACT_SHOT, Verdict::drop_egress(reason::WRITE_ERROR))
    }
}

/// Where the stack carries everything: what becomes of a verdict to send the packet somewhere. What a pod sends to itself by a service is
/// no stack's business: its source is an address that no route knows.
#[inline(always)]
pub(crate) fn by_stack(facts: &Facts, verdict: Verdict) -> Verdict {
    match verdict.action {
        action::DELIVER
            if facts.is_loopback || facts.destination_for == rewriting::LOOPBACK_REPLY =>
        {
            verdict
        }
        action::DELIVER | action::TUNNEL | action::NETWORK => Verdict::stack(false),
        _ => verdict,
    }
}

/// Hands the packet to the node's stack, which is to take it, whatever device of its sender's node a frame inside a tunnel was for.
#[inline(always)]
fn hand_up(run: &Run, verdict: Verdict) -> (i32, Verdict) {
    if run.hook == hook::FROM_OVERLAY && !become_ours(run) {
        return (TC_ACT_SHOT, Verdict::drop_egress(reason::WRITE_ERROR));
    }
    (TC_ACT_OK, verdict)
}

/// What carrying a verdict out would come to, if the kernel refuses nothing.
#[inline(always)]
pub(crate) fn would_do(run: &Run, verdict: Verdict) -> Verdict {
    let is_routed_by_stack =
        verdict.action == action::NETWORK && !run.is_set(settings::HOST_ROUTING);
    if is_routed_by_stack { Verdict::stack(false) } else { verdict }
}

/// Whether local delivery goes straight into the pod, which the kernel does for what comes in by a device only.
#[inline(always)]
pub(crate) fn is_by_peer(run: &Run) -> bool {
    run.has(config::DELIVER_BY_PEER) && run.hook != hook::FROM_HOST
}

/// What tells the programs and the kernel further on about a packet that leaves: that its source is translated, or whose it is.
#[inline(always)]
fn mark_of(facts: &Facts) -> u32 {
    if facts.source_for != 0 {
        mark::TRANSLATED
    } else {
        mark::IDENTITY | facts.source.identity << 16
    }
}

/// The VNI that stands for an identity on the wire: only numbers that mean the same everywhere.
#[inline(always)]
pub(crate) fn vni(identity: u32) -> u32 {
    match identity {
        IDENTITY_HOST => IDENTITY_REMOTE_NODE,
        9 | 10 => IDENTITY_WORLD,
        _ => identity,
    }
}

/// Sets the tunnel key and sends to the tunnel device; false if the kernel refuses.
#[inline(always)]
fn encapsulate(run: &Run, to: &Target, identity: u32) -> bool {
    let (remote, is_v6) = remote_of(to);
    set_tunnel_key(run.skb, vni(identity), &remote, is_v6)
        && redirect(run.settings.tunnel_ifindex, false)
}

/// The address of a tunnel's other end as two words in network order, and whether it is IPv6.
#[inline(always)]
pub(crate) fn remote_of(to: &Target) -> ([u64; 2], bool) {
    if to.flags & target::HAS_V6 == 0 {
        ([u64::from(u32::from_ne_bytes(to.address4)), 0], false)
    } else {
        (address6(to), true)
    }
}

/// A target's IPv6 address as two words.
#[inline(always)]
pub(crate) fn address6(to: &Target) -> [u64; 2] {
    // SAFETY: sixteen bytes; targets are aligned to 8 in their map and so is the field in them.
    unsafe { *(&raw const to.address6).cast() }
}

const _: () = assert!(mem::offset_of!(Target, address6) % 8 == 0);

/// Gives the packet a tunnel key.
#[inline(always)]
pub(crate) fn set_tunnel_key(
    skb: *mut __sk_buff,
    vni: u32,
    remote: &[u64; 2],
    is_v6: bool,
) -> bool {
    // The kernel sends no UDP checksum over IPv4 then; over IPv6 it must.
    let (address, flags) = if is_v6 {
        // SAFETY: sixteen bytes in network order, as the kernel takes them.
        let address = unsafe { mem::transmute::<[u64; 2], [u32; 4]>(*remote) };
        (address, BPF_F_TUNINFO_IPV6)
    } else {
        #[expect(clippy::cast_possible_truncation, reason = "IPv4 is in the first four bytes")]
        let address = remote[0] as u32;
        ([u32::from_be(address), 0, 0, 0], BPF_F_ZERO_CSUM_TX)
    };
    let mut key = TunnelKey {
        vni,
        remote: address,
        tos: 0,
        ttl: TUNNEL_TTL,
        unused: 0,
        label: 0,
        local: [0; 4],
    };
    let mut set = |size: u32| {
        // SAFETY: the context, and a key of the size given.
        unsafe { bpf_skb_set_tunnel_key(skb, (&raw mut key).cast(), size, flags.into()) == 0 }
    };
    set(WHOLE_KEY) || set(OLDER_KEY)
}

/// The VNI that the packet came with; `None` without a tunnel key.
#[inline(always)]
pub(crate) fn received_vni(skb: *mut __sk_buff) -> Option<u32> {
    let mut key = MaybeUninit::<TunnelKey>::uninit();
    let mut get = |size: u32, flags: u32| {
        // SAFETY: the context, and room for the size given, which the kernel fills, or clears where it fails.
        unsafe { bpf_skb_get_tunnel_key(skb, key.as_mut_ptr().cast(), size, flags.into()) }
    };
    let (mut flags, mut failed) = (0, get(WHOLE_KEY, 0));
    // Kernels look at the family first, so the size is only told to be wrong where the family is right.
    if failed == -EPROTO {
        (flags, failed) = (BPF_F_TUNINFO_IPV6, get(WHOLE_KEY, BPF_F_TUNINFO_IPV6));
    }
    if failed == -EINVAL {
        failed = get(OLDER_KEY, flags);
    }
    // SAFETY: filled.
    (failed == 0).then(|| unsafe { key.assume_init().vni })
}

/// Routes the packet out of the node: one hop less to live, and the kernel's neighbours. False if the kernel refuses.
#[inline(never)]
fn route(run: &Run, packet: &Packet, verdict: Verdict) -> bool {
    let header = if packet.is_ipv4() { IPV4 } else { IPV6 };
    let Some(frame) = Bytes::of(run.skb).at(0, ETHERNET + header) else { return false };
    let base = core::ptr::with_exposed_provenance_mut::<u8>(frame);
    // SAFETY: within the bytes checked above.
    unsafe {
        if run.hook == hook::FROM_HOST {
            // The node's own packet is not forwarded by it.
        } else if packet.is_ipv4() {
            decrement_ttl(base.add(ETHERNET));
        } else {
            *base.add(ETHERNET + 7) = packet.ttl - 1;
        }
    }
    let mut next = NextHop { family: 0, address: [0; 4] };
    let mut size = 0;
    if let Some(to) = run.target(verdict.to).filter(|to| to.kind == target::NATIVE) {
        let (remote, is_v6) = remote_of(to);
        // SAFETY: sixteen bytes in network order, as the kernel takes them.
        next.address = unsafe { mem::transmute::<[u64; 2], [u32; 4]>(remote) };
        next.family = if is_v6 { AF_INET6 } else { AF_INET };
        size = size_of::<NextHop>() as i32;
    }
    let to = if size == 0 { core::ptr::null_mut() } else { (&raw mut next).cast() };
    // SAFETY: no next hop, or one of the size given.
    let code = unsafe { bpf_redirect_neigh(run.settings.device_ifindex, to, size, 0) };
    code == i64::from(TC_ACT_REDIRECT)
}

/// `struct bpf_redir_neigh`
#[repr(C)]
struct NextHop {
    family: u32,
    address: [u32; 4],
}

/// Families as sockets number them.
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// Routes the packet into a pod of this node: Ethernet addresses, one hop less to live, redirect. False if
/// the kernel refuses.
#[inline(always)]
fn deliver(run: &Run, packet: &Packet, to: &'static Target) -> bool {
    let header = if packet.is_ipv4() { IPV4 } else { IPV6 };
    let Some(frame) = Bytes::of(run.skb).at(0, ETHERNET + header) else { return false };
    let base = core::ptr::with_exposed_provenance_mut::<u8>(frame);
    // SAFETY: within the bytes checked above, unaligned as `headers::load` explains. The target's two
    // Ethernet addresses lie in the frame's order, at a multiple of 8.
    unsafe {
        let macs = (&raw const to.mac).cast::<u64>();
        base.cast::<u64>().write_volatile(*macs);
        base.add(8).cast::<u32>().write_volatile(*macs.add(1).cast::<u32>());
        if packet.is_ipv4() {
            decrement_ttl(base.add(ETHERNET));
        } else {
            *base.add(ETHERNET + 7) = packet.ttl - 1;
        }
    }
    if !become_ours(run) {
        return false;
    }
    let by_peer = is_by_peer(run);
    if !by_peer {
        context::set_mark(run.skb, mark::DELIVERED);
    }
    redirect(to.ifindex, by_peer)
}

/// Makes a packet one for this host, if it is not: one that came by a tunnel may be addressed to another Ethernet address than the
/// device's. False if the kernel refuses.
#[inline(always)]
fn become_ours(run: &Run) -> bool {
    // SAFETY: a helper without memory arguments.
    context::packet_type(run.skb) == PACKET_HOST
        || unsafe { bpf_skb_change_type(run.skb, PACKET_HOST) } == 0
}

const _: () = {
    assert!(mem::offset_of!(Target, mac) % 8 == 0);
    assert!(mem::offset_of!(Target, host_mac) == mem::offset_of!(Target, mac) + 6);
};

/// One hop less, and the checksum that goes with it (RFC 1624): the TTL is the high byte of its word.
///
/// # Safety
/// `header` must be an IPv4 header within the packet, whose TTL is not 0.
#[inline(always)]
unsafe fn decrement_ttl(header: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        *header.add(8) -= 1;
        let checksum = header.add(10).cast::<u16>();
        let sum = u32::from(checksum.read_volatile()) + u32::from(0x0100_u16.to_be());
        #[expect(
            clippy::cast_possible_truncation,
            reason = "one's complement addition in 16 bits"
        )]
        checksum.write_volatile((sum + (sum >> 16)) as u16);
    }
}

/// Sends the packet to a device, or into the pod behind it; false if the kernel refuses.
#[inline(always)]
fn redirect(ifindex: u32, into_peer: bool) -> bool {
    // SAFETY: helpers without memory arguments.
    let code =
        unsafe { if into_peer { bpf_redirect_peer(ifindex, 0) } else { bpf_redirect(ifindex, 0) } };
    code == i64::from(TC_ACT_REDIRECT)
}
