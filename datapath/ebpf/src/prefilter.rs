//! The very first look at what a wire brings: XDP of an underlay device. Drops sources on the prefilter's list and passes
//! everything else unread.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::{macros::xdp, programs::XdpContext};
use datapath_abi::{ABI_VERSION, IPCACHE_STATIC_BITS, config, direction, family, hook, reason};

use crate::emit;
use crate::maps::{ACTIVE, CONFIG, PREFILTERED};

const ETHERNET: usize = 14;

/// [`datapath_abi::IpcacheKey`] in words.
#[repr(C)]
struct Key {
    prefixlen: u32,
    slot_and_family: u32,
    address: [u32; 4],
}

/// The program.
#[xdp]
fn prefilter(ctx: XdpContext) -> u32 {
    let Some(config) = CONFIG.get(0).filter(|config| config.abi == ABI_VERSION) else {
        return XDP_PASS;
    };
    let Some(active) = ACTIVE.get_ptr(0) else { return XDP_PASS };
    // SAFETY: a map value; volatile so that one run never reads two generations.
    let generation = unsafe { active.read_volatile() };
    #[expect(clippy::cast_possible_truncation, reason = "a frame has fewer bytes")]
    let length = (ctx.data_end() - ctx.data()) as u32;
    let dropped =
        source(&ctx, generation & 1).is_some_and(|key| PREFILTERED.look_up(&key).is_some());
    let reason = if dropped { reason::PREFILTERED } else { reason::FORWARDED };
    emit::count_frame(hook::PREFILTER, reason, direction::INGRESS, length);
    if config.flags & (config::TRACE | config::SIMULATED) != 0 {
        // SAFETY: the context, of which the field can be read.
        let at = unsafe { (*ctx.ctx).ingress_ifindex };
        emit::frame_outcome(hook::PREFILTER, generation, reason, (config.flags, at));
    }
    if dropped { XDP_DROP } else { XDP_PASS }
}

/// The key of the frame's source; `None` where it is neither IPv4 nor IPv6.
#[inline(always)]
fn source(ctx: &XdpContext, slot: u32) -> Option<Key> {
    let ethertype = u16::from_be(load::<u16>(ctx, 12)?);
    let (kind, bits, address) = match ethertype {
        0x0800 => (family::V4, 32, [load::<u32>(ctx, ETHERNET + 12)?, 0, 0, 0]),
        0x86DD => (family::V6, 128, load::<[u32; 4]>(ctx, ETHERNET + 8)?),
        _ => return None,
    };
    Some(Key {
        prefixlen: IPCACHE_STATIC_BITS + bits,
        slot_and_family: slot | u32::from(kind) << 8,
        address,
    })
}

#[inline(always)]
fn load<T: Copy>(ctx: &XdpContext, at: usize) -> Option<T> {
    let start = ctx.data() + at;
    if start + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: checked above; unaligned as `headers::load` explains.
    Some(unsafe { core::ptr::with_exposed_provenance::<T>(start).read_volatile() })
}
