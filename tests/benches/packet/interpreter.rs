//! What a packet costs in the interpreter, beside the kernel in the same run, and how many questions a second that
//! makes. Both report as a simulation does: every event.

use std::time::Instant;

use datapath::testrun::measure::{Bench, Drive, Program, Reporting};
use datapath::vm::Vm;
use engine::backend::{Backend, Injection, Observation};
use engine::net::Hook;
use engine::question::Question;
use engine::source::SourceMap;
use engine::trace::{Action, Event};

use crate::scenarios::{Ends, Load, Scenario, World};
use crate::table::quantile;
use crate::{REPEAT_TRACED, ROUNDS};

/// Injections of a round.
const INJECTIONS: u32 = 200;
/// Rounds of questions.
const QUESTIONS: [(&str, &str); 6] = [
    ("to a pod of the same node, allowed", "web/client -> pod web/near:8080"),
    ("to a pod of another node, allowed", "web/client -> pod web/far:8080"),
    ("to a pod of another node, allowed, IPv6", "web/client -> pod web/far:8080 ip6"),
    ("dropped by egress policy", "web/client -> pod web/near:7"),
    ("to a pod of the same node, dropped by ingress policy", "web/client -> pod web/near:9999"),
    ("to a pod of another node, dropped by ingress policy", "web/client -> pod web/far:9999"),
];

/// One packet, measured in both.
struct Subject {
    scenario: Scenario,
    opener: Option<Injection>,
    injection: Injection,
    driver: Program,
    empty: Program,
    kernel_opener: Option<Program>,
    instructions: u64,
    /// Nanoseconds by round: the program in either, and a whole injection in either.
    samples: [Vec<f64>; 4],
}

const VM: usize = 0;
const KERNEL: usize = 1;
const VM_INJECTION: usize = 2;
const KERNEL_INJECTION: usize = 3;

/// Measures and prints.
pub(crate) fn measure(bench: &mut Bench, world: &World) {
    let mut vm = Vm::find().expect("the interpreter takes the object");
    let mut kernel = datapath::testrun::open().expect("the kernel takes the object");
    for backend in [&mut vm as &mut dyn Backend, &mut *kernel] {
        backend.load(&world.tables).expect("the tables can be loaded");
    }
    let scenarios = crate::scenarios::all(world).into_iter();
    // Events are told in all of them, and which flow a full table forgets is not the interpreter's to say.
    let chosen = scenarios.filter(|s| s.reporting == Reporting::Nothing && s.load != Load::Full);
    let mut subjects: Vec<Subject> =
        chosen.map(|scenario| subject(bench, &mut vm, world, scenario)).collect();
    bench.report(Reporting::Traced).expect("the switches can be set");
    for _ in 0..ROUNDS {
        for subject in &mut subjects {
            subject.round(bench, &mut vm, &mut *kernel);
        }
    }
    print(&subjects);
    answer(&mut vm, world);
}

fn subject(bench: &Bench, vm: &mut Vm, world: &World, scenario: Scenario) -> Subject {
    let injection = |step: &crate::scenarios::Step| {
        let tables = &world.tables.nodes[0];
        let hook = step.drive.hook.expect("a scenario has a hook");
        let ifindex = match hook {
            Hook::FromOverlay | Hook::ToOverlay => tables.tunnel_ifindex,
            Hook::FromNetdev | Hook::ToNetdev | Hook::Prefilter => tables.device_ifindex,
            Hook::FromHost | Hook::ToHost => tables.host_ifindex,
            Hook::FromContainer | Hook::ToContainer => {
                tables.endpoint(step.pod).expect("the pod is there").ifindex
            }
        };
        let (frame, tunnel) = (step.frame.clone(), step.drive.tunnel);
        Injection { node: tables.node, hook, ifindex, mark: 0, tunnel, choose: None, now: 0, frame }
    };
    let opened_by = scenario.opened_by.as_ref();
    let driver = |drive: &Drive| bench.driver(drive).expect("the driver loads");
    let measured = &scenario.measured;
    let mut subject = Subject {
        opener: opened_by.map(injection),
        injection: injection(measured),
        driver: driver(&measured.drive),
        empty: driver(&Drive { hook: None, ..measured.drive.clone() }),
        kernel_opener: opened_by.map(|step| driver(&step.drive)),
        instructions: 0,
        samples: [const { Vec::new() }; 4],
        scenario,
    };
    subject.open(vm);
    let machine = vm.begin(&subject.injection).expect("the packet enters");
    let code = machine.run(&mut ()).expect("the program ends");
    subject.instructions = machine.executed();
    let seen = vm.finish(subject.injection.node, code).expect("the run can be read");
    subject.prove(&seen);
    subject
}

impl Subject {
    fn open(&self, backend: &mut dyn Backend) {
        backend.forget().expect("conntrack can be emptied");
        if let Some(opener) = &self.opener {
            backend.inject(opener).expect("the first packet runs");
        }
    }

    /// The next packet is of another flow, where the scenario is of new ones.
    fn next(&mut self) {
        if let Some(at) = self.scenario.measured.drive.counted.map(usize::from) {
            let port = &mut self.injection.frame[at..at + 2];
            port.copy_from_slice(
                &u16::from_le_bytes([port[0], port[1]]).wrapping_add(1).to_le_bytes(),
            );
        }
    }

    /// That it ends as the scenario says.
    fn prove(&self, seen: &Observation) {
        let (name, events) = (&self.scenario.name, &seen.events);
        let state = events.iter().find_map(|stamped| match stamped.event {
            Event::Conntrack { state, .. } => Some(state),
            _ => None,
        });
        let is_told = self.scenario.measured.drive.hook != Some(Hook::ToNetdev);
        assert_eq!(state, is_told.then_some(self.scenario.state), "{name}: {events:?}");
        let ends = match events.last().map(|stamped| stamped.event) {
            Some(Event::Outcome(Action::Drop(reason))) => Ends::Drop(reason),
            Some(Event::Outcome(Action::Deliver { .. })) => Ends::Deliver,
            Some(Event::Outcome(Action::Tunnel { .. })) => Ends::Tunnel,
            Some(Event::Outcome(Action::Network { .. })) => Ends::Network,
            Some(Event::Outcome(Action::Pass)) => Ends::Pass,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(ends, self.scenario.ends, "{name}");
    }

    fn round(&mut self, bench: &mut Bench, vm: &mut Vm, kernel: &mut dyn Backend) {
        let program = self.program_in_vm(vm);
        self.samples[VM].push(program);
        let program = self.program_in_kernel(bench);
        self.samples[KERNEL].push(program);
        let injected = self.injected(vm, INJECTIONS);
        self.samples[VM_INJECTION].push(injected);
        let injected = self.injected(kernel, INJECTIONS / 4);
        self.samples[KERNEL_INJECTION].push(injected);
    }

    /// The program alone: the packet lies there, and nobody reads what was recorded.
    fn program_in_vm(&mut self, vm: &mut Vm) -> f64 {
        self.open(vm);
        let mut spent = 0.0;
        for _ in 0..INJECTIONS {
            let machine = vm.begin(&self.injection).expect("the packet enters");
            let begin = Instant::now();
            let code = machine.run(&mut ());
            spent += nanoseconds(begin);
            let code = code.expect("the program ends");
            vm.finish(self.injection.node, code).expect("the run can be read");
            self.next();
        }
        spent / f64::from(INJECTIONS)
    }

    fn program_in_kernel(&self, bench: &mut Bench) -> f64 {
        bench.forget().expect("conntrack can be emptied");
        self.scenario.open(bench, self.kernel_opener.as_ref());
        let mut time = |program: &Program| {
            let timed = bench.run(program, &self.scenario.measured.frame, REPEAT_TRACED);
            bench.discard_events().expect("no event is lost");
            f64::from(timed.expect("the program runs").nanoseconds)
        };
        time(&self.driver) - time(&self.empty)
    }

    fn injected(&mut self, backend: &mut dyn Backend, times: u32) -> f64 {
        self.open(backend);
        let begin = Instant::now();
        for _ in 0..times {
            backend.inject(&self.injection).expect("the packet runs");
            self.next();
        }
        nanoseconds(begin) / f64::from(times)
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn nanoseconds(since: Instant) -> f64 {
    since.elapsed().as_nanos() as f64
}

fn print(subjects: &[Subject]) {
    println!(
        "\nThe interpreter beside the kernel: medians of one run, ns, all events reported. Program: what \
         BPF_PROG_TEST_RUN\nmeasures, net. Injection: a backend's whole work on a packet, system calls and \
         decoded events included.\n"
    );
    println!(
        "{:<46} {:>12} {:>8} {:>8} {:>7} {:>11} {:>11} {:>7}",
        "", "instructions", "vm", "kernel", "ratio", "vm, whole", "kernel,wh.", "ratio"
    );
    for subject in subjects {
        let median = |which: usize| quantile(&subject.samples[which], 0.5);
        println!(
            "{:<46} {:>12} {:>8.0} {:>8.0} {:>7.1} {:>11.0} {:>11.0} {:>7.2}",
            subject.scenario.name,
            subject.instructions,
            median(VM),
            median(KERNEL),
            median(VM) / median(KERNEL),
            median(VM_INJECTION),
            median(KERNEL_INJECTION),
            median(VM_INJECTION) / median(KERNEL_INJECTION),
        );
    }
}

/// Questions followed from hop to hop, each with an empty conntrack, as a question asked alone has it.
fn answer(vm: &mut Vm, world: &World) {
    println!("\n{:<56} {:>5} {:>9} {:>12}", "question", "hops", "ns", "a second");
    for (name, text) in QUESTIONS {
        let question = asked(world, text);
        let (mut samples, mut hops) = (Vec::new(), 0);
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            for _ in 0..INJECTIONS {
                vm.forget().expect("conntrack can be emptied");
                let trace = datapath::follow::follow(vm, &world.world, &world.tables, &question, 0);
                hops = trace.expect("the packet is followed").hops.len();
            }
            samples.push(nanoseconds(begin) / f64::from(INJECTIONS));
        }
        let median = quantile(&samples, 0.5);
        println!("{name:<56} {hops:>5} {median:>9.0} {:>12.0}", 1e9 / median);
    }
}

fn asked(world: &World, text: &str) -> Question {
    let mut sources = SourceMap::default();
    let file = sources.add("question".to_owned(), text.to_owned());
    let question = lang::command::parse_question(text, file).expect("it is a question");
    lang::resolve::question(&world.world, &question).expect("everyone in it is there")
}
