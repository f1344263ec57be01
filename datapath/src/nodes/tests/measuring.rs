//! Measuring: that what is measured is what its name says.

use libbpf_rs::{MapCore, MapFlags};

use super::*;
use crate::testrun::measure::{Bench, Drive, Operation, Reporting, UNROLLED};

fn bench() -> Option<Bench> {
    let backend = crate::testrun::open().ok();
    backend.map(|_| Bench::open(&node(everything(), everything())).unwrap())
}

fn flows(bench: &Bench) -> usize {
    bench.instance.map(abi::maps::CT4).unwrap().keys().count()
}

/// What A sends, each run of a flow of its own.
fn sent_anew(packet: &Packet) -> (Drive, Vec<u8>) {
    let frame = frame(&Packet { payload: vec![0; 16], ..packet.clone() });
    let restored = [22_u8, 24].map(|at| (at, [frame[usize::from(at)], frame[usize::from(at) + 1]]));
    let drive = Drive {
        hook: Some(Hook::FromContainer),
        restored: restored.to_vec(),
        words: Vec::new(),
        counted: Some(34),
        tunnel: None,
    };
    (drive, frame)
}

/// State and end of one packet of A.
fn judged(bench: &mut Bench, packet: &Packet) -> (Option<CtState>, Option<Event>) {
    let (drive, frame) = sent_anew(packet);
    let program = bench.driver(&Drive { counted: None, ..drive }).unwrap();
    bench.report(Reporting::Live).unwrap();
    bench.discard_events().unwrap();
    bench.run(&program, &frame, 1).unwrap();
    let events: Vec<Event> = bench.events().unwrap().iter().map(|event| event.event).collect();
    bench.report(Reporting::Nothing).unwrap();
    let state = events.iter().find_map(|event| match event {
        Event::Conntrack { state, .. } => Some(*state),
        _ => None,
    });
    (state, events.last().copied())
}

/// A flow is opened, then conntrack filled with others. What its next packet is, and what a new flow's first one is.
fn after_filling(bench: &mut Bench) -> [(Option<CtState>, Option<Event>); 2] {
    bench.attach(EndpointId(1)).unwrap();
    let ours = |flags| packet("10.0.0.1", "10.0.0.2", tcp(40_000, 81, flags));
    assert_eq!(judged(bench, &ours(TcpFlags::SYN)).0, Some(CtState::New));
    let (drive, frame) = sent_anew(&packet("10.0.0.1", "10.0.0.2", syn(80)));
    let others = bench.driver(&drive).unwrap();
    bench.fill(&others, &frame).unwrap();
    let new = packet("10.0.0.1", "10.0.0.2", tcp(40_000, 82, TcpFlags::SYN));
    [judged(bench, &ours(TcpFlags::ACK)), judged(bench, &new)]
}

#[test]
fn a_full_conntrack_forgets_a_flow_that_was_not_used_again_whose_next_packet_is_judged_as_new() {
    let Some(mut bench) = bench() else { return };
    for (state, end) in after_filling(&mut bench) {
        assert_eq!(state, Some(CtState::New));
        assert!(matches!(end, Some(Event::Outcome(Action::Deliver { .. }))), "{end:?}");
    }
}

#[test]
fn a_full_conntrack_that_forgets_nothing_keeps_its_flows_and_takes_no_other() {
    let node = node(everything(), everything());
    let Some(_) = bench() else { return };
    let mut bench = Bench::open_with_plain_conntrack(&node).unwrap();
    let [known, new] = after_filling(&mut bench);
    assert_eq!(known.0, Some(CtState::Established));
    assert!(matches!(known.1, Some(Event::Outcome(Action::Deliver { .. }))), "{known:?}");
    let dropped = Event::Outcome(Action::Drop(DropReason::CtCreateFailed));
    assert_eq!(new, (Some(CtState::New), Some(dropped)));
    assert_eq!(flows(&bench), crate::nodes::FLOWS as usize);
}

#[test]
fn an_operation_is_done_as_often_as_stated() {
    let Some(bench) = bench() else { return };
    let program = bench.operation(Operation::AtomicAdd).unwrap();
    assert_eq!(bench.run(&program, &[0; 64], 10).unwrap().code, 0);
    let counters = bench.counter.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
    let added = u64::from_ne_bytes(*counters.last_chunk().unwrap());
    assert_eq!(added, 10 * u64::from(UNROLLED));
}

#[test]
fn a_driver_makes_every_run_a_new_flow_and_restores_the_frame() {
    let Some(mut bench) = bench() else { return };
    bench.attach(EndpointId(1)).unwrap();
    let (drive, frame) = sent_anew(&packet("10.0.0.1", "10.0.0.2", syn(80)));
    // More runs than the TTL has hops, each of a flow of its own and delivered (`TC_ACT_REDIRECT`).
    let program = bench.driver(&drive).unwrap();
    assert_eq!(bench.run(&program, &frame, 300).unwrap().code, 7);
    assert_eq!(flows(&bench), 300);
    assert!(bench.counters().unwrap().iter().all(|counter| counter.packets == 300));
    bench.forget().unwrap();
    let empty = bench.driver(&Drive { hook: None, ..drive }).unwrap();
    assert_eq!(bench.run(&empty, &frame, 300).unwrap().code, 0);
    assert_eq!(flows(&bench), 0);
}
