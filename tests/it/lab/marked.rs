//! Probes among other packets: the one with the mark is followed, whatever else passes of the same flow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datapath::frame;
use datapath::lab::{self, Role};
use datapath::live::{Mode, filter};
use engine::backend::{Backend, BackendError, Injection, Observation};
use engine::explain::{Context, Undecided, explain};
use engine::net::Packet;
use engine::source::{FileId, SourceMap};
use engine::tables::Tables;
use engine::topology::NodeId;
use engine::trace::{ConntrackEntry, Counter, Ethernet, Hit, Trace};
use repl::backend::Choice;
use repl::reply::{Answer, Content, Level, Reply};

use super::{MUTE, WORLD, difference, follow, is_possible, loaded, tables};
use crate::cli::Folder;
use crate::kernel;

/// The mark of the probe; what else is sent has none, or another one.
const MARK: u32 = 0xA_BCDE;

/// Between two rounds of others.
const BETWEEN: Duration = Duration::from_micros(500);

fn of_both_families() -> String {
    WORLD
        .replace("pods 10.1.0.0/24", "pods 10.1.0.0/24, fd01::/64")
        .replace("pods 10.2.0.0/24", "pods 10.2.0.0/24, fd02::/64")
        .replace("ip 10.1.0.10", "ip 10.1.0.10, fd01::10")
        .replace("ip 10.2.0.10", "ip 10.2.0.10, fd02::10")
}

/// The flow labels of the packet at every hop, as it came and as it left, in the tunnel too.
fn labels(trace: &Trace) -> Vec<u32> {
    let label = |bytes: &[u8]| bytes.first_chunk().map(|word| u32::from_be_bytes(*word) & 0xF_FFFF);
    let frames = trace.hops.iter().flat_map(|hop| [&hop.frame_in, &hop.frame_out]);
    let inner = |frame: &Vec<u8>| {
        // Ethernet; of a tunnel over IPv4 its headers and those of the frame inside before it.
        let skip = if frame.get(12) == Some(&0x86) { 14 } else { 14 + 20 + 8 + 8 + 14 };
        label(frame.get(skip..)?)
    };
    frames.filter_map(inner).collect()
}

#[test]
fn an_ipv6_probe_is_known_by_its_flow_label_among_packets_of_the_same_flow() {
    if !is_possible() {
        return;
    }
    let loaded = loaded(&of_both_families());
    let tables = tables(&loaded);
    let mut live = lab::open(&loaded.world, &tables, MUTE).expect("a lab can host it");
    let text = format!("shop/client -> shop/server:80 ip6 flow-label {MARK}");
    let parsed = lang::command::parse_question(&text, FileId::default()).expect("a question");
    let question = lang::resolve::question(&loaded.world, &parsed).expect("names of this world");
    let entry = tables.nodes[0].endpoints[0].clone();
    let ethernet = Ethernet { source: entry.mac, destination: entry.host_mac };
    let others: Vec<Vec<u8>> = [0, MARK - 1, MARK ^ 0x8_0000]
        .map(|flow_label| {
            let mut other: Packet = question.packet.clone();
            other.ip.flow_label = flow_label;
            frame::build(&other, ethernet).expect("it fits")
        })
        .to_vec();
    let port = live.wires(|wires| wires.lab().port(Role::Pod(NodeId(0), entry.id), "eth0"));
    let port = port.expect("the pod has a device");
    let (is_over, sent) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for other in &others {
                    port.send(other).expect("it is sent");
                }
                sent.store(true, Ordering::Relaxed);
                // A flood would have the kernel drop the probe.
                std::thread::sleep(BETWEEN);
            }
        });
        while !sent.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let mode = Mode {
            trace: true,
            capture: true,
            filter: Some(filter::marked(MARK, true)),
            ..Mode::default()
        };
        for node in [NodeId(0), NodeId(1)] {
            let programs = live.programs(node).expect("they are loaded");
            programs.runs().expect("they are read");
            programs.set_mode(mode).expect("they are told");
        }
        let trace = follow(&mut live, &loaded.world, &tables, &question, 0);
        is_over.store(true, Ordering::Relaxed);
        let trace = trace.expect("it is followed");
        assert_eq!((trace.hops.len(), trace.unseen.clone(), trace.lost), (2, None, 0));
        assert_eq!(labels(&trace), [MARK; 4]);
        let mut runs =
            |node| live.programs(node).expect("they are loaded").runs().expect("they are read");
        let others = [NodeId(0), NodeId(1)].map(|node| runs(node).0.len());
        assert_eq!(others, [0, 0], "programs told of packets without the mark");
    });
    // The flow is known by now, to the others' packets: what simulation says of a new one is of its frames.
    let mut simulated = repl::backend::open(kernel::both()).expect("the kernel can be had");
    simulated.load(&tables).expect("the tables fit");
    live.forget().expect("it forgets");
    let again = follow(&mut live, &loaded.world, &tables, &question, 0).expect("it is followed");
    let same = follow(&mut *simulated, &loaded.world, &tables, &question, 0);
    assert_eq!(difference(&same.expect("it is followed"), &again, &loaded.world), None);
}

/// By the command line: a probe of IPv6 has a mark of its own, and is simulated with it.
#[test]
fn an_ipv6_probe_has_a_mark() {
    if !is_possible() {
        return;
    }
    let home = crate::labs::named::Home::new("mark");
    let folder = Folder::new("mark", &[("six.hop", of_both_families().as_bytes())]);
    let run = |arguments: &[&str]| {
        crate::binary::seen(&home.hopwise(arguments).output().expect("it runs"))
    };
    let (text, code) = run(&["lab", "up", "demo", "-f", &folder.path("six.hop")]);
    assert_eq!(code, 0, "{text}");
    let question =
        ["trace", "--live", "--on", "demo", "--compare", "shop/client -> shop/server:80 ip6"];
    let (text, code) = run(&question);
    assert_eq!(code, 0, "{text}");
    for part in ["ALLOWED", "SYN, flow label ", " simulates the same, hop by hop"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What is asked for stays.
    let asked = "shop/client -> shop/server:80 ip6 flow-label 7 from-port 4711";
    let (text, code) = run(&["trace", "--live", "--on", "demo", "--compare", asked]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("[fd01::10]:4711 -> ") && text.contains("SYN, flow label 7\n"), "{text}");
}

/// What programs told before a probe is nothing that it has to fit beside.
#[test]
fn a_probe_is_followed_though_programs_had_no_room_left() {
    if !is_possible() {
        return;
    }
    let loaded = loaded(WORLD);
    let tables = tables(&loaded);
    let mut live = lab::open(&loaded.world, &tables, MUTE).expect("a lab can host it");
    let asked = |text: &str| {
        let parsed = lang::command::parse_question(text, FileId::default()).expect("a question");
        lang::resolve::question(&loaded.world, &parsed).expect("names of this world")
    };
    let entry = tables.nodes[0].endpoints[0].clone();
    let ethernet = Ethernet { source: entry.mac, destination: entry.host_mac };
    let other = asked("shop/client -> shop/server:53/udp");
    let other = frame::build(&other.packet, ethernet).expect("it fits");
    let port = live.wires(|wires| wires.lab().port(Role::Pod(NodeId(0), entry.id), "eth0"));
    let port = port.expect("the pod has a device");
    let nodes = [NodeId(0), NodeId(1)];
    let mut lost = || nodes.map(|node| live.programs(node).expect("it is loaded").lost());
    let mut sent = 0;
    while !lost().into_iter().all(|lost| lost.expect("it is counted") > 0) {
        port.send(&other).expect("it is sent");
        sent += 1;
        assert!(sent < 100_000, "the buffers take all that");
    }
    for text in ["shop/client -> shop/server:80", "shop/client -> shop/server:81"] {
        let trace = follow(&mut live, &loaded.world, &tables, &asked(text), 0);
        let trace = trace.expect("it is followed");
        assert_eq!((trace.hops.len(), trace.unseen.clone(), trace.lost), (2, None, 0), "{text}");
    }
}

/// A backend whose programs tell nothing of the packet behind so many hops, and lose events.
struct Losing(Box<dyn Backend>, usize);

impl Losing {
    fn seen(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        if self.1 == 0 {
            let device = injection.ifindex.to_string();
            return Err(BackendError::Unseen { hook: injection.hook, device, lost: 12 });
        }
        self.1 -= 1;
        self.0.inject(injection)
    }
}

impl Backend for Losing {
    fn name(&self) -> String {
        self.0.name()
    }

    fn load(&mut self, tables: &Tables) -> Result<(), BackendError> {
        self.0.load(tables)
    }

    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        self.seen(injection)
    }

    fn carry(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        self.seen(injection)
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        self.0.forget()
    }

    fn conntrack(&mut self, node: NodeId, now: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        self.0.conntrack(node, now)
    }

    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError> {
        self.0.counters(node)
    }

    fn hits(&mut self, node: NodeId) -> Result<Vec<Hit>, BackendError> {
        self.0.hits(node)
    }
}

/// Where events were lost it is not said that a program did not see the packet, or that simulation differs.
#[test]
fn what_lost_events_told_is_undecided() {
    let loaded = loaded(WORLD);
    let tables = tables(&loaded);
    let parsed = lang::command::parse_question("shop/client -> shop/server:80", FileId::default());
    let question = lang::resolve::question(&loaded.world, &parsed.expect("a question"));
    let question = question.expect("names of this world");
    let followed = |hops| {
        let mut backend = Losing(repl::backend::open(Choice::Vm).expect("the interpreter"), hops);
        backend.load(&tables).expect("the tables fit");
        follow(&mut backend, &loaded.world, &tables, &question, 0)
    };
    let error = followed(0).expect_err("nothing is known of it").to_string();
    let told = "12 events were lost, and what from-container at lxc_client of node01 told of the packet may be among them";
    assert_eq!(error, told);
    let (whole, cut) = (followed(2).expect("followed"), followed(1).expect("followed"));
    assert_eq!((cut.hops.len(), cut.lost), (1, 12));
    assert_eq!(difference(&whole, &cut, &loaded.world), None);
    let context = Context {
        world: &loaded.world,
        policies: &loaded.policies,
        tables: &tables,
        sources: &SourceMap::default(),
    };
    let explanation = explain(&context, &question, &cut, None).expect("it has a beginning");
    assert_eq!(explanation.undecided, Some(Undecided::EventsLost));
    let answer = Answer {
        explanation,
        level: Level::Normal,
        unmet: Vec::new(),
        came_with: None,
        live: None,
    };
    let text = kernel::text(&Reply::ok(Content::Answer(Box::new(answer))));
    let said = "UNDECIDED  left node01 vxlan0; 12 events lost, among which may be what from-overlay at node02 vxlan0 told of it";
    assert!(text.contains(said), "{text}");
}
