//! What a full conntrack costs: in the datapath's maps, which forget what was not used for long, and in plain hash maps,
//! which refuse a new flow; both in one run.

use datapath::testrun::measure::{Bench, Drive, Operation, Program, Reporting, UNROLLED};

use crate::scenarios::World;
use crate::table::quantile;
use crate::{REPEAT, ROUNDS};

/// One kind of map.
struct Subject {
    bench: Bench,
    /// A new flow to a local pod with each run.
    packet: Timing,
    insert: Timing,
    hit: Timing,
    /// Nanoseconds by round, in the order of [`ROWS`].
    samples: [Vec<f64>; ROWS.len()],
}

/// A program, and what costs nothing of it.
struct Timing {
    program: Program,
    empty: Program,
    units: u32,
}

const ROWS: [&str; 6] = [
    "hit, half full",
    "hit, full",
    "insert, half full",
    "insert, full",
    "new flow to a local pod, half full",
    "new flow to a local pod, full",
];

/// Measures and prints.
pub(crate) fn measure(world: &World) {
    let node = &world.tables.nodes[0];
    let opened = [Bench::open(node), Bench::open_with_plain_conntrack(node)];
    let scenarios = crate::scenarios::all(world);
    let new = scenarios.iter().find(|scenario| scenario.name == "new, to a local pod");
    let step = &new.expect("the scenario is there").measured;
    let mut subjects = opened.map(|bench| {
        let mut bench = bench.expect("the kernel takes the object");
        bench.report(Reporting::Nothing).expect("the switches can be set");
        bench.attach(step.pod).expect("the pod is there");
        let driver = |drive: &Drive| bench.driver(drive).expect("the driver loads");
        let packet = Timing {
            program: driver(&step.drive),
            empty: driver(&Drive { hook: None, ..step.drive.clone() }),
            units: 1,
        };
        bench.fill_half(&packet.program, &step.frame).expect("conntrack takes flows");
        let load = |operation| bench.operation(operation).expect("the operation loads");
        let single = |operation| Timing {
            program: load(operation),
            empty: load(Operation::Empty),
            units: UNROLLED,
        };
        let (insert, hit) = (single(Operation::LruInsert), single(Operation::LruHit));
        Subject { bench, packet, insert, hit, samples: [const { Vec::new() }; ROWS.len()] }
    });
    for _ in 0..ROUNDS {
        for subject in &mut subjects {
            subject.round(&step.frame);
        }
    }
    print(&subjects);
}

impl Subject {
    fn round(&mut self, frame: &[u8]) {
        let each = [&self.hit, &self.insert, &self.packet];
        for (at, timing) in (0..).step_by(2).zip(each) {
            let program = &self.packet.program;
            self.bench.fill_half(program, frame).expect("conntrack takes flows");
            self.samples[at].push(timing.take(&self.bench, frame));
            self.bench.fill(program, frame).expect("conntrack can be filled");
            self.samples[at + 1].push(timing.take(&self.bench, frame));
        }
    }
}

impl Timing {
    fn take(&self, bench: &Bench, frame: &[u8]) -> f64 {
        let time = |program| {
            let timed = bench.run(program, frame, REPEAT / self.units);
            f64::from(timed.expect("the program runs").nanoseconds)
        };
        (time(&self.program) - time(&self.empty)) / f64::from(self.units)
    }
}

fn print(subjects: &[Subject; 2]) {
    println!(
        "\nConntrack in LRU maps and in plain ones, which drop the new flow where they are full: medians of one run, \
         ns net,\nand as ratios to a hit in a half full LRU map.\n"
    );
    let median = |kind: usize, row: usize| quantile(&subjects[kind].samples[row], 0.5);
    let hit = median(0, 0);
    println!("{:<40} {:>8} {:>8} {:>8} {:>8}", "", "LRU", "plain", "LRU", "plain");
    for (row, name) in ROWS.iter().enumerate() {
        let (lru, plain) = (median(0, row), median(1, row));
        println!("{name:<40} {lru:>8.1} {plain:>8.1} {:>8.1} {:>8.1}", lru / hit, plain / hit);
    }
}
