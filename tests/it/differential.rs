//! Random worlds, policies and flows through oracle, kernel and interpreter. A scenario that they disagree about is shrunk and
//! printed as a case file. Owns what a scenario is and how it is judged; what is random is `random`'s.

mod play;
mod random;
mod shrink;
mod text;

use std::sync::atomic::{AtomicU32, Ordering};

use engine::backend::{Backend, BackendError, Injection, Observation};
use engine::diag::Severity;
use engine::eval::{Choices, Judgement, Memory, judge};
use engine::explain::{Agreement, Context, choices, explain};
use engine::source::SourceMap;
use engine::tables::{Generation, Tables};
use engine::topology::NodeId;
use engine::trace::{ConntrackEntry, Counter, Hit};
use lang::suite::Case;

use crate::kernel;
use crate::oracle::Run;
use play::{Scenario, Sent, Stage, Step, asked};
use random::Random;
use repl::backend::Choice;

/// A state of the tables that no backend has seen: one that it has loaded already it would not load again.
fn fresh_generation() -> Generation {
    static LAST: AtomicU32 = AtomicU32::new(0);
    Generation(LAST.fetch_add(1, Ordering::Relaxed) + 1)
}

/// The first packet about which datapath and oracle disagree.
#[derive(Clone, Debug)]
pub(crate) struct Disagreement {
    /// Who differ and in what, so that a smaller scenario can be held against it.
    kind: String,
    /// The packet and both opinions.
    words: String,
    /// What the datapath chose for each packet so far.
    chosen: Vec<Choices>,
}

/// Runs a scenario on a backend and on the oracle.
pub(crate) fn disagreement(
    backend: &mut dyn Backend,
    scenario: &Scenario,
) -> Result<Option<Disagreement>, BackendError> {
    let mut memory = Memory::default();
    let mut chosen = Vec::new();
    let mut found = Ok(None);
    let mut compiled: Option<(usize, Tables)> = None;
    backend.forget()?;
    scenario.play(|stage, _, sent| {
        let sent = sent?;
        // New tables only where world or policies are others: what conntrack remembers holds for one state of them, and
        // would never be used if every packet had its own.
        let tables = match compiled.take_if(|(version, _)| *version != stage.version) {
            None if compiled.is_some() => Ok(()),
            _ => engine::compile::compile(&stage.world, &stage.policies, fresh_generation())
                .map(|tables| compiled = Some((stage.version, tables))),
        };
        let came = match (tables, &compiled) {
            (Ok(()), Some((_, tables))) => compare(backend, stage, tables, sent, &mut memory),
            (problems, _) => Ok(Compared::differs("the compiler refuses", format!("{problems:?}"))),
        };
        let compared = came.map_err(|error| found = Err(error)).ok()?;
        chosen.push(compared.choices);
        match compared.differs {
            None => compared.came,
            Some((kind, words)) => {
                found = Ok(Some(Disagreement { kind, words, chosen: chosen.clone() }));
                None
            }
        }
    });
    found
}

/// A packet on both.
#[derive(Default)]
struct Compared {
    /// What the oracle says.
    came: Option<Judgement>,
    /// What the datapath chose.
    choices: Choices,
    /// The difference: its kind, and words.
    differs: Option<(String, String)>,
}

impl Compared {
    fn differs(kind: &str, words: String) -> Self {
        Self { differs: Some((kind.to_owned(), words)), ..Self::default() }
    }
}

/// One packet on the backend, held against what the oracle says of it.
fn compare(
    backend: &mut dyn Backend,
    stage: &Stage,
    tables: &Tables,
    sent: &Sent,
    memory: &mut Memory,
) -> Result<Compared, BackendError> {
    let question = &*sent.question;
    let Stage { world, policies, now, .. } = stage;
    backend.load(tables)?;
    let followed = datapath::follow::follow(backend, world, tables, question, *now);
    let choices = followed.as_ref().map(choices).unwrap_or_default();
    let judgement = judge(world, policies, memory, &asked(question, *now, choices));
    let trace = match followed {
        Ok(trace) => trace,
        // A packet that meets no pod enters no program, and the oracle has nobody judge it.
        Err(BackendError::BadInjection(_))
            if judgement.legs.is_empty() && judgement.serving.is_none() =>
        {
            return Ok(Compared { came: Some(judgement), ..Compared::default() });
        }
        Err(error) => return Err(error),
    };
    let sources = SourceMap::default();
    let context = Context { world, policies, tables, sources: &sources };
    let differs = |kind: &str, more: &dyn std::fmt::Debug| {
        let kind = format!("datapath and oracle: {kind}");
        Some((kind, format!("{:?}\n{more:?}", question.packet)))
    };
    let differs = match explain(&context, question, &trace, Some(&judgement)) {
        Some(answer) if answer.agreement == Agreement::Agree => None,
        Some(answer) => match answer.divergence {
            Some(divergence) => {
                let mut kind = divergence.what.split(' ').next().unwrap_or_default().to_owned();
                let (one, other) = (&divergence.datapath, &divergence.oracle);
                if matches!(divergence.what.as_str(), "verdict" | "reason") {
                    kind = format!("{kind}: {one} or {other}");
                } else if !matches!(kind.as_str(), "what" | "service") {
                    // Without names and addresses.
                    let first = |words: &str| words.split(' ').next().map(ToOwned::to_owned);
                    kind = format!("{kind}: {:?} or {:?}", first(one), first(other));
                }
                differs(&kind, &divergence)
            }
            None => differs("undecided", &answer.verdict),
        },
        None => differs("no hop", &trace),
    };
    Ok(Compared { came: Some(judgement), choices, differs })
}

/// A scenario's text read again means the same: the oracle says of every packet what it said before. Covers the
/// printer of failing scenarios, and parsing and lowering of everything that a scenario may hold.
#[test]
fn the_text_of_a_scenario_means_the_same() {
    let mut packets = 0;
    for seed in 0..400 {
        let scenario = Random::new(seed).scenario();
        // Steps that send nothing make no test, and what happens in the world is no step of one.
        if scenario.changes_the_world()
            || !scenario.steps.iter().any(|step| matches!(step, Step::Send { .. }))
        {
            continue;
        }
        let text = text::case(&scenario, &[]);
        let mut sources = SourceMap::default();
        let entries = [(format!("seed-{seed}.hop"), text.clone())];
        let loaded = lang::load(&entries, &mut lang::NoIncludes, &mut sources);
        let errors: Vec<_> =
            loaded.diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
        // Packets may have an address as their source that nothing can be sent to.
        if errors.iter().any(|error| error.code == lang::codes::TO_ITSELF) {
            continue;
        }
        assert!(errors.is_empty(), "{errors:#?}\n{text}");
        for case in loaded.suites.iter().flat_map(|suite| &suite.cases) {
            let Case::Dialogue(dialogue) = case else { continue };
            let mut run = Run::new(&loaded.world, &loaded.policies);
            run.dialogue(dialogue, &sources);
            assert!(run.misses.is_empty(), "{}\n{text}", run.misses.join("\n"));
            packets += run.checked;
        }
    }
    assert!(packets > 2000, "only {packets} packets were sent");
}

/// The world of a scenario with the host firewall on, and its steps as lines of a session; `None`: it is one that no session can play.
pub(crate) fn under_host_firewall(seed: u64) -> Option<(String, Vec<String>)> {
    let mut scenario = Random::new(seed).scenario();
    if scenario.changes_the_world() {
        return None;
    }
    scenario.world.cluster.host_firewall = true;
    let text = text::case(&scenario, &[]);
    let (world, steps) = text.split_once("\ntest \"random\"")?;
    let lines = steps.lines().skip(2).map(str::trim).filter(|line| !line.starts_with('}'));
    let lines = lines.map(|line| line.split(" => ").next().unwrap_or(line).to_owned());
    Some((world.to_owned(), lines.collect()))
}

/// Scenarios of one run of the tests; `HOPWISE_SCENARIOS` sets another number, `HOPWISE_SEED` the first seed.
const SCENARIOS: u64 = 300;

pub(crate) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// What runs the datapath: kernel and interpreter side by side, which compares their events, frames, marks and maps
/// after every packet; the interpreter alone where this process may not run programs in the kernel.
fn backend() -> Box<dyn Backend> {
    repl::backend::open(kernel::both()).expect("one of them can be opened")
}

/// The kind of what kernel and interpreter differ about.
const PARTED: &str = "kernel and interpreter";

/// What a scenario shows: the difference that was found, if any. Errors are differences too: kernel and interpreter
/// say different things, or one of them says nothing.
fn shown(backend: &mut dyn Backend, scenario: &Scenario) -> Option<Disagreement> {
    disagreement(backend, scenario).unwrap_or_else(|error| {
        let kind = match &error {
            BackendError::Disagreement { .. } => PARTED,
            _ => "error",
        };
        let (kind, words) = (kind.to_owned(), error.to_string());
        Some(Disagreement { kind, words, chosen: Vec::new() })
    })
}

/// Runs the first so many scenarios on a backend, which must not differ from the oracle.
pub(crate) fn run_random(backend: &mut dyn Backend, scenarios: u64) {
    for seed in 0..scenarios {
        let found = shown(backend, &Random::new(seed).scenario());
        assert!(found.is_none(), "seed {seed}: {found:?}");
    }
}

/// `HOPWISE_KINDS` wants so many kinds of disagreement to be found before the test ends.
#[test]
fn datapath_and_oracle_agree_about_random_scenarios() {
    let mut backend = backend();
    let mut kinds: Vec<String> = Vec::new();
    let mut found = String::new();
    let first = number("HOPWISE_SEED").unwrap_or(0);
    for seed in first..first + number("HOPWISE_SCENARIOS").unwrap_or(SCENARIOS) {
        let scenario = Random::new(seed).scenario();
        let Some(first) = shown(backend.as_mut(), &scenario) else { continue };
        // Two that have parted once differ for ever in what they have counted: each try has new ones.
        backend = self::backend();
        if kinds.contains(&first.kind) {
            continue;
        }
        let parted = first.kind == PARTED;
        let mut alone = repl::backend::open(Choice::Vm).expect("the interpreter can be opened");
        let mut differs = |scenario: &Scenario| {
            let mut both = parted.then(self::backend);
            shown(both.as_mut().unwrap_or(&mut alone).as_mut(), scenario)
        };
        let same = |found: &Disagreement| found.kind == first.kind;
        let small = shrink::shrink(&scenario, &mut |s| differs(s).as_ref().is_some_and(same));
        let left = differs(&small).unwrap_or_else(|| first.clone());
        let text = text::case(&small, &left.chosen);
        let told = format!("seed {seed}, {}: {}\n{text}\n", left.kind, left.words);
        found.push_str(&told);
        kinds.push(first.kind);
        if kinds.len() >= usize::try_from(number("HOPWISE_KINDS").unwrap_or(1)).unwrap_or(1) {
            break;
        }
    }
    assert!(found.is_empty(), "{found}");
}

/// A backend that says nothing, or that kernel and interpreter say different things.
struct Mute {
    parted: bool,
}

impl Backend for Mute {
    fn name(&self) -> String {
        "mute".to_owned()
    }

    fn load(&mut self, _: &Tables) -> Result<(), BackendError> {
        Ok(())
    }

    fn inject(&mut self, _: &Injection) -> Result<Observation, BackendError> {
        if self.parted {
            let (one, other) = ("kernel".to_owned(), "vm".to_owned());
            let what = "map CT4 at [1]".to_owned();
            return Err(BackendError::Disagreement { one, other, what });
        }
        Ok(Observation::default())
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn conntrack(&mut self, _: NodeId, _: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        Ok(Vec::new())
    }

    fn counters(&mut self, _: NodeId) -> Result<Vec<Counter>, BackendError> {
        Ok(Vec::new())
    }

    fn hits(&mut self, _: NodeId) -> Result<Vec<Hit>, BackendError> {
        Ok(Vec::new())
    }
}

#[test]
fn a_backend_that_says_nothing_never_agrees() {
    for seed in 0..20 {
        let found = disagreement(&mut Mute { parted: false }, &Random::new(seed).scenario());
        assert!(!matches!(found, Ok(None)), "seed {seed}");
    }
}

#[test]
fn a_difference_between_kernel_and_interpreter_names_both() {
    let scenario = Random::new(1).scenario();
    let parted = shown(&mut Mute { parted: true }, &scenario).expect("they differ");
    assert_eq!(parted.kind, "kernel and interpreter");
    assert!(
        parted.words.contains("kernel and vm") && parted.words.contains("map CT4"),
        "{parted:?}"
    );
}

#[test]
fn a_seed_gives_one_scenario() {
    let texts = |seed| text::case(&Random::new(seed).scenario(), &[]);
    assert_eq!(texts(7), texts(7));
    assert_ne!(texts(7), texts(8));
}

/// What random scenarios reach, so that agreement about them says something.
#[test]
fn random_scenarios_reach_every_outcome() {
    use engine::reason::DropReason as R;
    use engine::verdict::LegOutcome as L;
    use std::collections::BTreeSet;

    let (mut reasons, mut outcomes) = (BTreeSet::new(), BTreeSet::new());
    let mut states = BTreeSet::new();
    let mut served = 0;
    for seed in 0..400 {
        for judgement in Random::new(seed).scenario().judgements() {
            let backend = judgement.serving.as_ref().and_then(|serving| serving.backend);
            served += usize::from(backend.is_some());
            reasons.insert(judgement.reason);
            outcomes.extend(judgement.legs.iter().map(|leg| leg.outcome));
            states.extend(judgement.legs.iter().map(|leg| leg.state));
        }
    }
    for reason in [
        R::InvalidSourceIp,
        R::PolicyDenied,
        R::FragmentNotSupported,
        R::EncapProhibited,
        R::PolicyDeny,
        R::TtlExceeded,
        R::NoFib,
        R::NoService,
        R::IsClusterIp,
        R::NotInSourceRange,
        R::FragmentNotFound,
        R::Prefiltered,
    ] {
        assert!(reasons.contains(&Some(reason)), "{reason} in {reasons:?}");
    }
    let all = [L::Allow, L::NotIsolated, L::Deny, L::DefaultDeny, L::Reply, L::Related];
    assert!(all.iter().all(|outcome| outcomes.contains(outcome)), "{outcomes:?}");
    assert_eq!(states.len(), 4, "{states:?}");
    assert!(served > 200, "only {served} packets were sent to a backend");
}
