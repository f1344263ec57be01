//! Measuring: that what is measured is what its name says.

use libbpf_rs::{MapCore, MapFlags};

use super::*;
use crate::testrun::measure::{Bench, Drive, Operation, UNROLLED};

fn bench() -> Option<Bench> {
    let backend = crate::testrun::open().ok();
    backend.map(|_| Bench::open(&node(everything(), everything())).unwrap())
}

fn flows(bench: &Bench) -> usize {
    bench.instance.map(abi::maps::CT4).unwrap().keys().count()
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
    let mut sent = packet("10.0.0.1", "10.0.0.2", syn(80));
    sent.payload = vec![0; 16];
    let frame = frame(&sent);
    let restored = [22_u8, 24].map(|at| (at, [frame[usize::from(at)], frame[usize::from(at) + 1]]));
    let drive = Drive {
        hook: Some(Hook::FromContainer),
        restored: restored.to_vec(),
        counted: Some(34),
        tunnel: None,
    };
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
