//! What a packet costs in the kernel: the datapath's programs by scenario, and single operations on the same maps,
//! all in one run, so that ratios can be quoted; then the same in the interpreter beside the kernel (alone with the
//! argument `interpreter`; only the first table with `table`). `book/src/performance.md` and `book/src/backends.md` say
//! what the figures mean.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and ends where something is wrong"
)]

#[path = "packet/full.rs"]
mod full;
#[path = "packet/interpreter.rs"]
mod interpreter;
#[path = "packet/scenarios.rs"]
mod scenarios;
#[path = "packet/table.rs"]
mod table;

use std::time::Duration;

use criterion::Criterion;
use datapath::testrun::measure::{Bench, Drive, Operation, Program, Reporting, UNROLLED};
use engine::backend::BackendError;
use engine::net::Hook;
use engine::trace::{Action, Event};

use scenarios::{Ends, Load, Scenario, Step, World};
use table::Row;

/// Repetitions of one test run: many against what the first of them pay for cold caches, few enough that a run is
/// seldom interrupted.
const REPEAT: u32 = 1000;
/// Packets that fit the ring buffer with all their events.
const REPEAT_TRACED: u32 = 100;
/// Rounds over everything, whose medians are the table's.
const ROUNDS: usize = 61;

/// One thing to time.
struct Subject {
    name: String,
    program: Program,
    /// What costs nothing of it: the same driver with an empty program.
    empty: Program,
    frame: Vec<u8>,
    reporting: Reporting,
    /// What one repetition has more than one of.
    units: u32,
    repeat: u32,
    /// Conntrack is emptied before each test run.
    forgets: bool,
    /// What a packet needs; `None` for an operation.
    scenario: Option<Scenario>,
    /// Opens the scenario's flow.
    opener: Option<Program>,
}

impl Subject {
    /// Nanoseconds of one test run's repetitions: of the subject and of its empty twin.
    fn time(&self, bench: &mut Bench, program: &Program, repeat: u32) -> u32 {
        if self.forgets {
            bench.forget().expect("conntrack can be emptied");
        }
        if let Some(scenario) = &self.scenario {
            scenario.open(bench, self.opener.as_ref());
            if scenario.load == Load::Full {
                bench.fill(&self.program, &self.frame).expect("conntrack can be filled");
                bench.discard_events().expect("no event is lost");
            }
        }
        let timed = bench.run(program, &self.frame, repeat).expect("the program runs");
        bench.discard_events().expect("no event is lost");
        timed.nanoseconds
    }
}

fn main() {
    let world = World::new();
    let mut bench = match Bench::open(&world.tables.nodes[0]) {
        Ok(bench) => bench,
        Err(error @ BackendError::Unsupported { .. }) => {
            println!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let is_asked = |wanted| std::env::args().any(|argument| argument == wanted);
    if is_asked("interpreter") {
        return interpreter::measure(&mut bench, &world);
    }
    let subjects = subjects(&mut bench, &world);
    if is_asked("table") {
        return print_table(&mut bench, &subjects);
    }
    let mut criterion = Criterion::default().configure_from_args();
    measure_with_criterion(&mut criterion, &mut bench, &subjects);
    print_table(&mut bench, &subjects);
    full::measure(&world);
    interpreter::measure(&mut bench, &world);
    criterion.final_summary();
}

fn print_table(bench: &mut Bench, subjects: &[Subject]) {
    let rows = measure_in_rounds(bench, subjects);
    table::print(&rows, &datapath::testrun::measure::loads().expect("the programs load"));
}

fn subjects(bench: &mut Bench, world: &World) -> Vec<Subject> {
    let mut subjects: Vec<Subject> =
        scenarios::all(world).into_iter().map(|scenario| packet(bench, scenario)).collect();
    let operations = scenarios::OPERATIONS.iter();
    subjects.extend(operations.map(|(operation, name)| single(bench, *operation, name)));
    subjects
}

fn single(bench: &Bench, operation: Operation, name: &str) -> Subject {
    let load = |operation| bench.operation(operation).expect("the operation loads");
    let repeat = match operation {
        Operation::Event | Operation::WakingEvent => 800 / UNROLLED,
        Operation::LruInsert => REPEAT / UNROLLED,
        _ => REPEAT,
    };
    Subject {
        name: format!("operation/{name}"),
        program: load(operation),
        empty: load(Operation::Empty),
        frame: vec![0; 64],
        reporting: Reporting::Nothing,
        units: UNROLLED,
        repeat,
        forgets: operation == Operation::LruInsert,
        scenario: None,
        opener: None,
    }
}

impl Scenario {
    /// Opens the flow with its first packet and leaves the device with whom it is measured at.
    fn open(&self, bench: &mut Bench, opener: Option<&Program>) {
        if let (Some(step), Some(program)) = (&self.opened_by, opener) {
            bench.attach(step.pod).expect("the pod is there");
            bench.run(program, &step.frame, 1).expect("the first packet runs");
            bench.discard_events().expect("no event is lost");
        }
        bench.attach(self.measured.pod).expect("the pod is there");
    }
}

/// Loads a scenario, opens its flow, and proves once that it does what its name says.
fn packet(bench: &mut Bench, scenario: Scenario) -> Subject {
    bench.report(scenario.reporting).expect("the switches can be set");
    let opened_by = scenario.opened_by.as_ref();
    let opener = opened_by.map(|step| bench.driver(&step.drive).expect("the driver loads"));
    scenario.open(bench, opener.as_ref());
    let Step { drive, frame, .. } = &scenario.measured;
    let program = bench.driver(drive).expect("the driver loads");
    let empty = bench.driver(&Drive { hook: None, ..drive.clone() }).expect("the driver loads");
    prove(bench, &scenario, &program, frame);
    let is_quiet = scenario.reporting == Reporting::Nothing;
    Subject {
        name: format!("packet/{}", scenario.name),
        program,
        empty,
        frame: frame.clone(),
        reporting: scenario.reporting,
        units: 1,
        repeat: if is_quiet { REPEAT } else { REPEAT_TRACED },
        forgets: scenario.load == Load::Empty,
        scenario: Some(scenario),
        opener,
    }
}

/// One run with events shows conntrack's state and the outcome; some without show by the counters that all of
/// them end alike.
fn prove(bench: &mut Bench, scenario: &Scenario, program: &Program, frame: &[u8]) {
    let name = &scenario.name;
    let traced = match scenario.reporting {
        Reporting::Nothing | Reporting::Live => Reporting::Live,
        Reporting::Simulated | Reporting::Traced => Reporting::Traced,
    };
    bench.report(traced).expect("the switches can be set");
    for _ in 0..2 {
        bench.run(program, frame, 1).expect("the program runs");
        let events = bench.events().expect("no event is lost");
        let state = events.iter().find_map(|stamped| match stamped.event {
            Event::Conntrack { state, .. } => Some(state),
            _ => None,
        });
        // `to_netdev` tells of no look-up.
        let is_told = scenario.measured.drive.hook != Some(Hook::ToNetdev);
        assert_eq!(state, is_told.then_some(scenario.state), "{name}: {events:?}");
        let ends = match events.last().map(|stamped| stamped.event) {
            Some(Event::Outcome(Action::Drop(reason))) => Ends::Drop(reason),
            Some(Event::Outcome(Action::Deliver { .. })) => Ends::Deliver,
            Some(Event::Outcome(Action::Tunnel { .. })) => Ends::Tunnel,
            Some(Event::Outcome(Action::Network { .. })) => Ends::Network,
            Some(Event::Outcome(Action::Pass)) => Ends::Pass,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(ends, scenario.ends, "{name}");
    }
    bench.report(scenario.reporting).expect("the switches can be set");
    // Local delivery counts on both sides.
    let (reason, times) = match scenario.ends {
        Ends::Drop(reason) => (Some(reason), 1),
        Ends::Deliver
            if matches!(
                scenario.measured.drive.hook,
                Some(Hook::FromContainer | Hook::FromHost)
            ) =>
        {
            (None, 2)
        }
        Ends::Deliver | Ends::Tunnel | Ends::Network | Ends::Pass => (None, 1),
    };
    let count = |bench: &Bench, wanted: bool| -> u64 {
        let counters = bench.counters().expect("the counters can be read");
        let counted = counters.iter().filter(|counter| (counter.reason == reason) == wanted);
        counted.map(|counter| counter.packets).sum()
    };
    let before = (count(bench, true), count(bench, false));
    bench.run(program, frame, REPEAT_TRACED).expect("the program runs");
    bench.discard_events().expect("no event is lost");
    let expected = before.0 + times * u64::from(REPEAT_TRACED);
    assert_eq!((count(bench, true), count(bench, false)), (expected, before.1), "{name}");
}

fn measure_with_criterion(criterion: &mut Criterion, bench: &mut Bench, subjects: &[Subject]) {
    let mut group = criterion.benchmark_group("kernel");
    group.warm_up_time(Duration::from_millis(50)).measurement_time(Duration::from_millis(300));
    group.sample_size(10);
    for subject in subjects {
        bench.report(subject.reporting).expect("the switches can be set");
        group.bench_function(&subject.name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut spent = 0;
                let mut left = iterations;
                while left > 0 {
                    let repeat = left.min(u64::from(subject.repeat));
                    let repeat = u32::try_from(repeat).expect("it is smaller than a u32");
                    let each = subject.time(bench, &subject.program, repeat) / subject.units;
                    spent += u64::from(each) * u64::from(repeat);
                    left -= u64::from(repeat);
                }
                Duration::from_nanos(spent)
            });
        });
    }
    group.finish();
}

/// Each round times everything once, so that whatever slows this host down for a while falls on all alike.
fn measure_in_rounds(bench: &mut Bench, subjects: &[Subject]) -> Vec<Row> {
    let mut rows: Vec<Row> = subjects
        .iter()
        .map(|subject| {
            let target = subject.scenario.as_ref().and_then(|scenario| scenario.target);
            Row::new(&subject.name, target)
        })
        .collect();
    for _ in 0..ROUNDS {
        for (subject, row) in subjects.iter().zip(&mut rows) {
            bench.report(subject.reporting).expect("the switches can be set");
            let empty = subject.time(bench, &subject.empty, subject.repeat);
            let full = subject.time(bench, &subject.program, subject.repeat);
            row.take(full, empty, subject.units);
        }
    }
    rows
}
