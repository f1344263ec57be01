//! Worlds as labs on this machine: what real packets between real devices meet is what simulation says, hop by hop, events and bytes.
//! A lab lives in namespaces without a name, which go with the test.

mod dialogues;
mod marked;

use std::path::Path;

use datapath::follow::{Device, Raw, follow, follow_from};
use datapath::lab::{self, Lab, LabError, LabWires, Options, Plan, PlanError};
use datapath::live::{Backed, Conduct, Mode, pins};
use datapath_abi::{Filter, mark};
use engine::backend::{Backend, BackendError, Injection, TunnelKey};
use engine::diag::Severity;
use engine::explain::{Context, Undecided, explain};
use engine::net::{Hook, IpHeader, Packet};
use engine::question::Question;
use engine::reason::DropReason;
use engine::source::{FileId, SourceMap};
use engine::tables::{Generation, Tables};
use engine::topology::{NodeId, World};
use engine::trace::{Action, CtState, Ethernet, Event, Trace};
use lang::suite::Case;
use repl::live::difference;
use repl::reply::{Answer, Content, Level, Reply};

use crate::kernel;
use crate::oracle::Files;
use crate::tree::{cases, name, read};

/// No kernel answers what questions send.
const MUTE: Options = Options { mute: true };

/// Fails or skips where no lab can be made.
pub(crate) fn is_possible() -> bool {
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
        let live = match lab::open(&loaded.world, &tables, MUTE) {
            Ok(live) => Box::new(live),
            Err(LabError::Plan(PlanError::Geneve)) => return None,
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
        Ok(difference(&simulated, &live, &self.world).map(|found| format!("{found:#?}")))
    }
}

/// A world of two nodes with a pod on each, and one rule.
const WORLD: &str = r#"
cluster lab {
  node node01 { ip 192.168.1.1 pods 10.1.0.0/24 mac 02:00:00:00:01:01 }
  node node02 { ip 192.168.1.2 pods 10.2.0.0/24 mac 02:00:00:00:02:01 }
}
namespace shop {}
pod shop/client on node01 { ip 10.1.0.10 mac 02:00:00:00:01:0A host-mac 02:00:00:00:01:0B labels { app = "client" } }
pod shop/server on node02 { ip 10.2.0.10 mac 02:00:00:00:02:0A host-mac 02:00:00:00:02:0B labels { app = "server" } }
service shop/web { cluster-ip 10.96.0.20 port 80/tcp select { app = "server" } }
external far { ip 203.0.113.9 }
policy shop/server { select { app = "server" } allow ingress from pods { app = "client" } on 80/tcp }
"#;

/// The world of a text.
pub(crate) fn loaded(text: &str) -> lang::Loaded {
    let entry = [("world.hop".to_owned(), text.to_owned())];
    let loaded = lang::load(&entry, &mut lang::NoIncludes, &mut SourceMap::default());
    let errors = loaded.diagnostics.iter().filter(|d| d.severity == Severity::Error);
    assert_eq!(errors.count(), 0, "{:#?}", loaded.diagnostics);
    loaded
}

pub(crate) fn tables(loaded: &lang::Loaded) -> Tables {
    engine::compile::compile(&loaded.world, &loaded.policies, Generation(1)).expect("it compiles")
}

/// The same question's frame at hooks that a question does not begin at.
#[test]
fn simulation_and_lab_agree_on_frames_at_every_hook() {
    if !is_possible() {
        return;
    }
    let loaded = loaded(WORLD);
    let mut pair = Pair::open(&loaded).expect("a lab can host it");
    let asked = |text: &str| {
        let parsed = lang::command::parse_question(text, FileId::default()).expect("a question");
        lang::resolve::question(&loaded.world, &parsed).expect("names of this world")
    };
    let frame = |pair: &mut Pair, text: &str| {
        pair.simulated.forget().expect("it forgets");
        let (world, tables) = (&pair.world, &pair.tables);
        let trace = follow(&mut *pair.simulated, world, tables, &asked(text), 0);
        trace.expect("it is followed").hops[0].frame_in.clone()
    };
    let client = pair.tables.nodes[0].endpoints[0].identity.0;
    let key = |vni| Some(TunnelKey { vni, source: "192.168.1.1".parse().expect("an address") });
    let there = pair.tables.nodes[1].endpoints[0].interface.clone();
    let (sent, out) = ("shop/client -> shop/server:80", "shop/client -> far:443");
    for (node, hook, device, mark, tunnel, text) in [
        (
            0,
            Hook::FromContainer,
            Some(pair.tables.nodes[0].endpoints[0].interface.clone()),
            0,
            None,
            sent,
        ),
        (1, Hook::FromOverlay, None, 0, key(client), sent),
        (1, Hook::FromOverlay, None, 0, key(7777), sent),
        (1, Hook::FromNetdev, None, 0, None, "far -> shop/server:80"),
        (0, Hook::FromHost, None, mark::HOST, None, "node node01 -> shop/server:80"),
        (0, Hook::ToNetdev, None, mark::HOST, None, "node node01 -> far:443"),
        (0, Hook::ToNetdev, None, 0, None, out),
        (0, Hook::ToOverlay, None, 0, None, sent),
        (1, Hook::ToContainer, Some(there.clone()), 0, None, sent),
        (1, Hook::ToContainer, Some(there), mark::DELIVERED, None, sent),
        (1, Hook::ToHost, None, 0, None, "shop/client -> node node02:22"),
    ] {
        let raw = Raw {
            node: NodeId(node),
            hook,
            device: device.map_or(Device::Own, Device::Named),
            mark,
            tunnel,
            frame: frame(&mut pair, text),
        };
        let run = |backend: &mut dyn Backend| {
            backend.forget().expect("it forgets");
            follow_from(backend, &pair.world, &pair.tables, &raw, 0).expect("it is followed")
        };
        let (simulated, live) = (run(&mut *pair.simulated), run(&mut *pair.live));
        assert_eq!(difference(&simulated, &live, &pair.world), None, "{hook} {text}");
        assert_eq!(live.unseen, None, "{hook} {text}");
    }
}

/// What only simulation can do is refused, not ignored.
#[test]
fn a_lab_neither_forces_backends_nor_moves_the_clock() {
    if !is_possible() {
        return;
    }
    let loaded = loaded(WORLD);
    let mut pair = Pair::open(&loaded).expect("a lab can host it");
    let parsed = lang::command::parse_question("shop/client -> shop/server:80", FileId::default());
    let question = lang::resolve::question(&loaded.world, &parsed.expect("a question"));
    let question = question.expect("names of this world");
    let mut ask = |now, question: &Question| {
        follow(&mut *pair.live, &pair.world, &pair.tables, question, now)
            .map(|trace| trace.hops.len())
    };
    assert_eq!(ask(1, &question), Ok(2));
    let refused = |asked: Result<usize, BackendError>, words: &str| {
        let Err(BackendError::BadInjection(what)) = asked else { panic!("{asked:?}") };
        assert!(what.contains(words), "{what}");
    };
    refused(ask(5, &question), "the clock cannot be moved; leave out `wait`");
    let parsed = lang::command::parse_question(
        "shop/client -> service shop/web:80 choose backend shop/server",
        FileId::default(),
    );
    let forced = lang::resolve::question(&loaded.world, &parsed.expect("a question"));
    refused(ask(1, &forced.expect("names of this world")), "a backend cannot be forced");
    assert_eq!(ask(1, &question), Ok(2));
}

/// Nodes do not answer what reaches them: an answer of their own kernel would close the flow.
#[test]
fn the_kernels_of_nodes_say_nothing_of_their_own_accord() {
    if !is_possible() {
        return;
    }
    let text = WORLD
        .replace("cluster lab {", "cluster lab {\n  host-firewall on")
        .replace("192.168.1.1 pods 10.1.0.0/24", "192.168.1.1, fd77::1 pods 10.1.0.0/24, fd01::/64")
        .replace("192.168.1.2 pods 10.2.0.0/24", "192.168.1.2, fd77::2 pods 10.2.0.0/24, fd02::/64")
        .replace("ip 203.0.113.9", "ip 203.0.113.9, 2001:db8::9");
    let loaded = loaded(&text);
    let mut pair = Pair::open(&loaded).expect("a lab can host it");
    for asked in [
        "far -> node node01:22/tcp syn",
        "far -> node node01:22/tcp syn ip6",
        "shop/client -> node node01:22/tcp syn",
        "far -> node node01:53/udp",
        "node node02 -> node node01:22/tcp syn",
    ] {
        let parsed = lang::command::parse_question(asked, FileId::default()).expect("a question");
        let question = lang::resolve::question(&loaded.world, &parsed).expect("names of the world");
        assert_eq!(pair.ask(&question), Ok(None), "{asked}");
        std::thread::sleep(std::time::Duration::from_millis(50));
        for node in [NodeId(0), NodeId(1)] {
            let known = pair.live.conntrack(node, 0).expect("it can be read");
            let answered = known.iter().find(|entry| entry.closing || entry.replies.0 > 0);
            assert_eq!(answered, None, "{asked}");
        }
    }
}

/// A packet that is sent on its way and does not come to the next program is not decided, and where it was lost is said.
#[test]
fn a_packet_that_gets_lost_is_said_to_be_unobserved() {
    if !is_possible() {
        return;
    }
    let loaded = loaded(WORLD);
    let tables = tables(&loaded);
    let mut live = lab::open(&loaded.world, &tables, MUTE).expect("a lab can host it");
    // The other node's tunnel device hears nothing any more.
    live.programs(NodeId(1))
        .expect("they are loaded")
        .detach(&tables.nodes[1].tunnel.device)
        .expect("they are taken off");
    let parsed = lang::command::parse_question("shop/client -> shop/server:80", FileId::default());
    let question = lang::resolve::question(&loaded.world, &parsed.expect("a question"));
    let question = question.expect("names of this world");
    let trace = follow(&mut live, &loaded.world, &tables, &question, 0).expect("it is followed");
    let sources = SourceMap::default();
    let context = Context {
        world: &loaded.world,
        policies: &loaded.policies,
        tables: &tables,
        sources: &sources,
    };
    let answer = explain(&context, &question, &trace, None).expect("there is a hop");
    assert_eq!(answer.undecided, Some(Undecided::NotObserved));
    let unobserved = answer.unobserved.clone().expect("it is said where");
    assert_eq!((unobserved.left.as_str(), unobserved.node.as_str()), ("node01", "node02"));
    let answer = Answer {
        explanation: answer,
        level: Level::Normal,
        came_with: None,
        live: None,
        unmet: Vec::new(),
    };
    let text = kernel::text(&Reply::ok(Content::Answer(Box::new(answer))));
    let first = text.lines().next().unwrap_or_default();
    assert_eq!(first, "UNDECIDED  left node01 vxlan0; ingress of shop/server was not observed");
}

/// Programs that observe tell what they would do, and the packet goes on to the node's stack; with a filter they tell of what it wants only.
#[test]
fn observed_packets_go_on_and_unwanted_ones_are_not_told() {
    if !is_possible() {
        return;
    }
    let loaded = loaded(WORLD);
    let tables = tables(&loaded);
    let mut live = lab::open(&loaded.world, &tables, MUTE).expect("a lab can host it");
    let parsed = lang::command::parse_question("shop/client -> 10.2.0.99:22", FileId::default());
    let question = lang::resolve::question(&loaded.world, &parsed.expect("a question"));
    let forged = Packet {
        ip: IpHeader {
            source: "10.1.0.77".parse().expect("an address"),
            ..question.as_ref().expect("names of this world").packet.ip.clone()
        },
        ..question.expect("names of this world").packet
    };
    let entry = tables.nodes[0].endpoints[0].clone();
    let ethernet = Ethernet { source: entry.mac, destination: entry.host_mac };
    let raw = Raw {
        node: NodeId(0),
        hook: Hook::FromContainer,
        device: Device::Named(entry.interface),
        mark: 0,
        tunnel: None,
        frame: datapath::frame::build(&forged, ethernet).expect("it fits"),
    };
    let ask = |live: &mut dyn Backend| follow_from(live, &loaded.world, &tables, &raw, 0);
    // As the node's stack sends it on. Of this packet alone: the kernel sends some by that device of its own accord.
    let forwarded = Packet { ip: IpHeader { ttl: forged.ip.ttl - 1, ..forged.ip }, ..forged };
    let onward = Injection {
        node: NodeId(0),
        hook: Hook::FromHost,
        ifindex: tables.nodes[0].host_ifindex,
        mark: 0,
        tunnel: None,
        choose: None,
        now: 0,
        frame: datapath::frame::build(&forwarded, ethernet).expect("it fits"),
    };
    let went_on = |live: &mut dyn Backend| match live.carry(&onward) {
        Ok(_) => true,
        Err(BackendError::Unseen { .. }) => false,
        Err(error) => panic!("{error}"),
    };
    let drop = Some(Action::Drop(DropReason::InvalidSourceIp));
    let node = NodeId(0);
    let mode = Mode { trace: true, capture: true, ..Mode::default() };

    assert_eq!(ask(&mut live).expect("it is followed").hops[0].action(), drop);
    assert!(!went_on(&mut live), "a dropped packet went on");
    let programs = live.programs(node).expect("they are loaded");
    programs.set_mode(Mode { conduct: Conduct::Observe, ..mode }).expect("they are told");
    assert_eq!(ask(&mut live).expect("it is followed").hops[0].action(), drop);
    assert!(went_on(&mut live), "an observed packet did not go on");

    let unwanted = Some(Filter { protocol: 17, ..Filter::default() });
    let programs = live.programs(node).expect("they are loaded");
    programs.set_mode(Mode { filter: unwanted, ..mode }).expect("they are told");
    assert!(matches!(ask(&mut live), Err(BackendError::Unseen { .. })));
}

/// Worlds that no lab can host are refused before anything is made, with what to do.
#[test]
fn what_a_lab_cannot_host_is_refused() {
    for (change, with, error) in [
        ("cluster lab {", "cluster lab {\n  tunnel geneve", "the cluster's tunnel is geneve"),
        ("10.2.0.10 mac", "10.2.0.10 interface cilium_net mac", "cannot have device `cilium_net`"),
        ("10.2.0.10 mac", "10.2.0.10 ifindex 1 mac", "of index 1"),
        ("203.0.113.9", "169.254.66.1", "world cannot have the address 169.254.66.1"),
        ("node node02", "node world", "would both be `world`"),
    ] {
        assert!(WORLD.contains(change), "{change}");
        let text = WORLD
            .replace(change, with)
            .replace("on node02", if with == "node world" { "on world" } else { "on node02" });
        let entry = [("world.hop".to_owned(), text)];
        let loaded = lang::load(&entry, &mut lang::NoIncludes, &mut SourceMap::default());
        if let Some(refused) = loaded.diagnostics.iter().find(|d| d.severity == Severity::Error) {
            panic!("{with}: the language refuses it first: {}", refused.message);
        }
        let refused = Plan::of(&loaded.world, &tables(&loaded), Options::default());
        let refused = refused.expect_err(with);
        assert!(refused.to_string().contains(error), "{with}: {refused}");
        assert!(!refused.remedy().is_empty());
    }
}

/// Programs that are pinned stay when their process lets go of them, with what they remember; who opens them again may load other
/// tables, larger ones too.
#[test]
fn pinned_programs_are_taken_over_with_what_they_remember() {
    if !is_possible() {
        return;
    }
    let pins = Path::new(pins::BPFFS).join(format!("hwtest-{}", std::process::id()));
    let loaded = loaded(WORLD);
    let first = tables(&loaded);
    let place = Lab::make(&loaded.world, &first, Options { mute: true }).expect("it can be made");
    let wires = LabWires::on(place, &loaded.world, &first).expect("it has wires");
    let mut live = Backed::new(wires.pinned(pins.clone())).expect("there is an object");
    live.load(&first).expect("a lab can host it");
    let tell = |live: &mut Backed<LabWires>| {
        for node in [NodeId(0), NodeId(1)] {
            let programs = live.programs(node).expect("they are loaded");
            let mode = Mode { trace: true, capture: true, ..Mode::default() };
            programs.set_mode(mode).expect("they are told");
        }
    };
    tell(&mut live);
    let parsed = lang::command::parse_question("shop/client -> shop/server:80", FileId::default());
    let question = lang::resolve::question(&loaded.world, &parsed.expect("a question"));
    let question = question.expect("names of this world");
    let ask = |live: &mut Backed<LabWires>, tables: &Tables| {
        follow(live, &loaded.world, tables, &question, 0).expect("it is followed")
    };
    let states = |trace: &Trace| {
        let said = trace.hops.iter().flat_map(|hop| &hop.events);
        let state = said.filter_map(|said| match said.event {
            Event::Conntrack { state, .. } => Some(state),
            _ => None,
        });
        state.collect::<Vec<_>>()
    };
    let before = ask(&mut live, &first);
    assert_eq!(states(&before)[0], CtState::New);

    let wires = live.let_go().expect("nobody else has them");
    let mut live = Backed::adopt(wires, &first).expect("they are taken over");
    let again = ask(&mut live, &first);
    assert_eq!(states(&again)[0], CtState::Established);
    assert_eq!(again.hops.len(), before.hops.len());

    // Both slots in turn are filled that another process had filled.
    for number in 2..=3 {
        let next = Tables { generation: Generation(number), ..first.clone() };
        live.load(&next).expect("they are loaded");
        let trace = ask(&mut live, &next);
        assert_eq!(trace.hops.len(), before.hops.len());
        assert!(
            trace
                .hops
                .iter()
                .flat_map(|hop| &hop.events)
                .all(|said| said.generation == next.generation)
        );
        let wires = live.let_go().expect("nobody else has them");
        live = Backed::adopt(wires, &next).expect("they are taken over");
    }
    drop(live);
    assert!(pins.is_dir());
    pins::remove_all(&pins).expect("they are removed");
    assert!(!pins.exists());
}

/// Namespaces, devices and descriptors go with the lab.
#[test]
fn labs_leave_nothing_behind() {
    if !is_possible() {
        return;
    }
    let loaded = loaded(WORLD);
    let tables = tables(&loaded);
    let open = || {
        let files = std::fs::read_dir("/proc/self/fd").expect("there is /proc");
        let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("net:[")).count()
    };
    let made = Lab::make(&loaded.world, &tables, Options::default()).expect("it can be made");
    let held = open();
    assert!(held >= made.plan().spaces.len(), "{held} namespaces");
    drop(made);
    for _ in 0..20 {
        let again = Lab::make(&loaded.world, &tables, Options::default());
        drop(again.expect("it can be made again"));
    }
    // Other tests of this process may have labs of their own.
    assert!(open() <= held + 64, "{} namespaces after {held}", open());
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
        Case::At(_) | Case::Dialogue(_) => None,
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
