//! Worlds as labs on this machine: what real packets between real devices meet is what simulation says, hop by hop, events and bytes.
//! A lab lives in namespaces without a name, which go with the test.

use datapath::follow::follow;
use datapath::lab::{self, LabError, PlanError};
use engine::backend::Backend;
use engine::diag::Severity;
use engine::net::FlowKey;
use engine::question::Question;
use engine::source::SourceMap;
use engine::tables::{Generation, Tables};
use engine::topology::World;
use engine::trace::{Event, Hop, Stamped, Trace};
use lang::suite::Case;

use crate::kernel;
use crate::oracle::Files;
use crate::tree::{cases, name, read};

/// Fails or skips where no lab can be made.
fn is_possible() -> bool {
    if !kernel::require() {
        return false;
    }
    match lab::namespace::Namespace::make() {
        Ok(_) => true,
        Err(error) => {
            assert!(!kernel::is_required("lab"), "a lab is required: {error}");
            kernel::skip(&format!("labs: {error}"));
            false
        }
    }
}

/// What events of a hop say that does not depend on when, as seconds of a clock may have passed, or on the port that the kernel
/// chooses for a tunnel's outer header.
fn timeless(hop: &Hop, events: &[Stamped]) -> Vec<Event> {
    let timeless = |event| match event {
        Event::Conntrack { state, created, closing, .. } => {
            Event::Conntrack { state, created, closing, expires_in: 0 }
        }
        Event::Parsed { flow, flags, icmp, fragment, ttl, length } if hop.is_outer() => {
            let flow = FlowKey { source_port: 0, ..flow };
            Event::Parsed { flow, flags, icmp, fragment, ttl, length }
        }
        event => event,
    };
    events.iter().map(|said| timeless(said.event)).collect()
}

/// The bytes of a frame but those that the text leaves open.
fn determined(frame: &[u8], hop: &Hop) -> String {
    let is_v4 = frame.get(12..14) == Some(&[0x08, 0x00]);
    let udp = if is_v4 { 34 } else { 54 };
    let outer = hop.tunnel.iter().flat_map(|tunnel| &tunnel.undetermined);
    let mut open: Vec<std::ops::Range<usize>> = Vec::new();
    for field in outer.filter(|_| hop.tunnel.is_some()) {
        open.push(match field.as_str() {
            "outer IP id" => 18..20,
            "outer IP checksum" => 24..26,
            "UDP source port" => udp..udp + 2,
            "outer UDP checksum" => udp + 6..udp + 8,
            _ => continue,
        });
    }
    let byte = |(at, byte): (usize, &u8)| {
        let is_open = open.iter().any(|range| range.contains(&at));
        if is_open { "..".to_owned() } else { format!("{byte:02x}") }
    };
    frame.iter().enumerate().map(byte).collect::<Vec<_>>().join(" ")
}

/// The first thing that two journeys differ in.
fn difference(simulated: &Trace, live: &Trace) -> Option<String> {
    for (at, hop) in simulated.hops.iter().enumerate() {
        let Some(real) = live.hops.get(at) else {
            return Some(format!(
                "hop {at}, {} on node {}, was not seen: {:?}",
                hop.hook, hop.node.0, live.unseen
            ));
        };
        if (hop.node, hop.hook) != (real.node, real.hook) {
            return Some(format!("hop {at}: {} and {}", hop.hook, real.hook));
        }
        let (one, other) = (timeless(hop, &hop.events), timeless(hop, &real.events));
        if one != other {
            return Some(format!("hop {at}, {}: {one:?}\nand {other:?}", hop.hook));
        }
        for (what, one, other) in
            [("in", &hop.frame_in, &real.frame_in), ("out", &hop.frame_out, &real.frame_out)]
        {
            let is_outer = what == "out" || hop.is_outer();
            let bytes = |frame: &[u8]| {
                if is_outer { determined(frame, hop) } else { format!("{frame:02x?}") }
            };
            if bytes(one) != bytes(other) {
                return Some(format!(
                    "hop {at}, {}, frame {what}:\n{}\n{}",
                    hop.hook,
                    bytes(one),
                    bytes(other)
                ));
            }
        }
    }
    (live.hops.len() > simulated.hops.len()).then(|| "more hops are seen".to_owned())
}

/// One world with both ways to run packets in it.
struct Pair {
    world: World,
    tables: Tables,
    simulated: Box<dyn Backend>,
    live: Box<dyn Backend>,
}

impl Pair {
    /// `None`: the world is none that a lab can host.
    fn open(loaded: &lang::Loaded) -> Option<Self> {
        let tables =
            engine::compile::compile(&loaded.world, &loaded.policies, Generation(1)).ok()?;
        let live = match lab::open(&loaded.world, &tables) {
            Ok(live) => Box::new(live),
            Err(LabError::Plan(
                PlanError::Geneve | PlanError::NoAddress(_) | PlanError::Clash { .. },
            )) => return None,
            Err(error) => panic!("{error}"),
        };
        let mut simulated = repl::backend::open(kernel::both()).expect("the kernel can be had");
        simulated.load(&tables).expect("the tables fit");
        Some(Self { world: loaded.world.clone(), tables, simulated, live })
    }

    /// Where the two differ about a question, if they do; `Err`: it cannot be asked.
    fn ask(&mut self, question: &Question) -> Result<Option<String>, String> {
        self.simulated.forget().expect("it forgets");
        self.live.forget().expect("it forgets");
        let run =
            |backend: &mut dyn Backend, world, tables| follow(backend, world, tables, question, 0);
        let simulated =
            run(&mut *self.simulated, &self.world, &self.tables).map_err(|e| e.to_string())?;
        let live = run(&mut *self.live, &self.world, &self.tables);
        let live = live.map_err(|error| format!("live: {error}"))?;
        Ok(difference(&simulated, &live))
    }
}

/// What came of the questions of some files.
#[derive(Default)]
struct Outcome {
    asked: usize,
    labs: usize,
    differing: Vec<String>,
}

/// Asks every question of a case file in a lab of its world, if there can be one.
fn ask_all(path: &std::path::Path, outcome: &mut Outcome) {
    let mut sources = SourceMap::default();
    let loaded = lang::load(&[(name(path), read(path))], &mut Files, &mut sources);
    if loaded.diagnostics.iter().any(|d| d.severity == Severity::Error) {
        return;
    }
    let cases = loaded.suites.iter().flat_map(|suite| &suite.cases);
    let flows = cases.filter_map(|case| match case {
        Case::Flow(flow) => Some(flow),
        Case::Dialogue(_) => None,
    });
    // What cannot be forced on real devices, and what begins with other packets.
    let flows: Vec<_> = flows
        .filter(|flow| flow.question.choose.is_none() && flow.question.known.is_none())
        .collect();
    if flows.is_empty() {
        return;
    }
    let Some(mut pair) = Pair::open(&loaded) else { return };
    outcome.labs += 1;
    for flow in flows {
        let what = match pair.ask(&flow.question) {
            Ok(None) => {
                outcome.asked += 1;
                continue;
            }
            Ok(Some(what)) => what,
            Err(error) if error.starts_with("live: ") => error,
            // No program sees it.
            Err(_) => continue,
        };
        outcome.differing.push(format!("{} {}: {what}", name(path), flow.text));
    }
}

/// Only files with this in their path, where it is set.
const ONLY: &str = "HOPWISE_LAB_CASES";

#[test]
fn simulation_and_lab_agree_on_the_questions_of_the_cases() {
    if !is_possible() {
        return;
    }
    let only = std::env::var(ONLY).unwrap_or_default();
    let paths: Vec<_> = cases().into_iter().filter(|path| name(path).contains(&only)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut outcome = Outcome::default();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(path) = paths.get(at) else { return outcome };
            ask_all(path, &mut outcome);
        }
    };
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no worker panics")).collect()
    });
    let differing: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.differing).collect();
    let asked: usize = outcomes.iter().map(|outcome| outcome.asked).sum();
    let labs: usize = outcomes.iter().map(|outcome| outcome.labs).sum();
    assert!(
        differing.is_empty(),
        "{asked} questions agree in {labs} labs, {} differ:\n{}",
        differing.len(),
        differing.iter().map(|text| text.as_str()).collect::<Vec<_>>().join("\n\n")
    );
    assert!(!only.is_empty() || asked > 1000, "only {asked} questions were asked");
}
