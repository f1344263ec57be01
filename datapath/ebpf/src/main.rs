//! The eBPF programs of hopwise: one per hook, and the driver that simulation enters by. They parse,
//! decide on values, and change the packet in one last step. They know numbers only; names, reasons
//! and words are user space's.
//!
//! | file | owns |
//! |---|---|
//! | `maps` | the maps |
//! | `run` | circumstances of a run, what it finds out, what it comes to |
//! | `context`, `headers`, `fragments` | reading the context, frames, and pieces of datagrams |
//! | `conntrack`, `ipcache`, `policy`, `service` | one kind of look-up each |
//! | `notes` | observing: flows of which nothing tells that they are older than the programs, and such as would not go on |
//! | `nat`, `related`, `translate` | translated sources, ICMP errors about translated flows, rewriting |
//! | `receive`, `node` | the receiver's side, for all hooks that lead to a pod, and for those that lead to a node |
//! | `forward` | carrying a verdict out |
//! | `emit`, `capture` | counters and events; frames in events, and of which packets there are any |
//!
//! Only helpers of Linux 5.10 are called. Loops are bounded; no pointer outlives the run.
//!
//! **Read once.** What is rare, or the same for every hook, is a function of external linkage that takes the context and numbers
//! (`run::apart`): the verifier reads such a function by itself and once, and not on every way that leads to it. Such functions find
//! packet and facts in this CPU's scratch.
//!
//! **No calls on the way of a known flow.** Where the kernel guards returns, calls are dear, those of helpers included: what every
//! packet of a known flow runs is inlined, and what may be written directly is (the kernel's functions mend the transport's checksum
//! alone, since only the kernel knows whether it is one yet).
//!
//! **Operations per packet**, beside parsing and array look-ups (1 ns each), with events off. H hash
//! look-up, L conntrack look-up, T trie look-up, I conntrack insert, A atomic add, K tunnel key, R redirect, W rewriting of
//! addresses, port and checksums.
//!
//! | scenario | from_container | from_overlay | from_netdev |
//! |---|---|---|---|
//! | established or reply, remembered, local pod | L 2A R | | |
//! | established or reply, remembered, by the tunnel | L 2A K R | K L 2A R | T L 2A R |
//! | the same by a service | 2L 2A W R, 2L 2A W K R | K L 2A W R | T 2L 2A W R |
//! | new, local pod | L H 5T I R | | |
//! | new, by the tunnel | L H 3T I K R | K L 3T I R | T L 3T I R |
//! | new, by a service: beside the above | H T L I W | | H T L I W |
//! | dropped by egress policy | L H 3T | | |
//! | dropped by ingress policy | L H 5T | K L 3T | T L 3T |
//! | established, first after a change of the tables | as new, and 2A | as new, and 2A | as new, and 2A |
//! | not for a pod or a service | L H 3T I | K L T | T |
//! | answer to a translated source | | | T 2L 2A W R |
//!
//! `to_netdev` costs a known translation L W; a flow that it decides about for the first time L 3T and, where it translates, I for each port
//! that it tries. Two T of each policy are one, or none, where its table has no entries of a concrete identity or of any.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod capture;
mod conntrack;
mod context;
mod driver;
mod emit;
mod forward;
mod fragments;
mod from_container;
mod from_host;
mod from_netdev;
mod from_overlay;
mod headers;
mod ipcache;
mod maps;
mod nat;
mod node;
mod notes;
mod policy;
mod prefilter;
mod receive;
mod related;
mod run;
mod service;
mod to_container;
mod to_host;
mod to_netdev;
mod to_overlay;
mod translate;

use aya_ebpf::bindings::{__sk_buff, TC_ACT_OK, TC_ACT_UNSPEC};

use datapath_abi::{config, ct_state, reason};

use crate::headers::{ACK, Packet, SYN, TCP};
use crate::maps::SCRATCH;
use crate::run::{Facts, Run, Verdict, clear};

/// Runs a hook: circumstances, decision, deed, records.
#[inline(always)]
fn run_hook(
    skb: *mut __sk_buff,
    hook: u8,
    decide: impl FnOnce(&Run, &mut Packet, &mut Facts) -> Verdict,
) -> i32 {
    let Some(run) = Run::begin(skb, hook) else { return TC_ACT_UNSPEC };
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return TC_ACT_OK };
    // SAFETY: this CPU's value, which this run has to itself; the fields do not overlap, and all bytes 0
    // are a value of both.
    let (packet, facts, before, settled) = unsafe {
        run.keep(&raw mut (*scratch).kept);
        Packet::begin(&raw mut (*scratch).packet);
        clear(&raw mut (*scratch).facts);
        let before = &raw const (*scratch).before;
        (&mut (*scratch).packet, &mut (*scratch).facts, before, &mut (*scratch).verdict)
    };
    if run.has(config::CAPTURE) {
        capture::keep(skb);
    }
    decide(&run, packet, facts).put(settled);
    let mut verdict = settled.get();
    let is_observed = run.has(config::OBSERVE);
    if facts.is_translated && !verdict.is_drop() && !is_observed {
        // SAFETY: as above; nobody writes it any more.
        if !translate::write_sides(&run, packet, facts, unsafe { &*before }) {
            verdict = Verdict::drop_egress(reason::WRITE_ERROR);
        }
    }
    let (code, done) = if is_observed {
        (TC_ACT_UNSPEC, would_be(&run, packet, facts, verdict))
    } else {
        if run.is_chained() {
            verdict = forward::by_stack(facts, verdict);
        }
        forward::carry_out(&run, packet, facts, verdict)
    };
    // Where these programs are not alone, whatever comes next has its say too; but those with larger maps that take their place hang
    // behind them for a while, and would take what was translated for another packet.
    let goes_on = run.is_chained() && code == TC_ACT_OK && !facts.is_translated;
    let code = if goes_on { TC_ACT_UNSPEC } else { code };
    emit::count(&run, facts, done);
    emit::tell(&run, done, settled);
    code
}

/// What an observed packet would come to. One that would be dropped but may be of a flow that is older than the programs is not
/// counted as dropped: only the reason is kept, for who looks.
#[inline(always)]
fn would_be(run: &Run, packet: &Packet, facts: &mut Facts, verdict: Verdict) -> Verdict {
    if !verdict.is_drop() || !may_be_older(run, packet, facts, verdict.reason) {
        return forward::would_do(run, verdict);
    }
    facts.egress.hits = 0;
    facts.ingress.hits = 0;
    Verdict { reason: verdict.reason, ..Verdict::pass() }
}

/// Whether conntrack would have let the packet through if the flow that it may be of had begun under the programs' eyes.
#[inline(always)]
fn may_be_older(run: &Run, packet: &Packet, facts: &Facts, reason: u8) -> bool {
    let asks_conntrack = matches!(
        reason,
        reason::POLICY_DENIED
            | reason::POLICY_DENY
            | reason::NO_SERVICE
            | reason::IS_CLUSTER_IP
            | reason::NOT_IN_SOURCE_RANGE
            | reason::FRAGMENT_NOT_FOUND
    );
    if !asks_conntrack || !matches!(facts.state(), ct_state::NEW | ct_state::UNTRACKED) {
        return false;
    }
    if packet.protocol == TCP {
        return packet.tcp_flags & (SYN | ACK) != SYN;
    }
    notes::may_be_older(run.skb) != 0
}

/// Programs cannot unwind; nothing in them panics, and a path here would not load.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Makes helpers that the kernel keeps for GPL-compatible programs available.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
