//! A lab with a load of packets in it, a monitor beside it, and what the programs themselves counted meanwhile.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use datapath::lab::namespace::Namespace;
use datapath::live::install::State;
use datapath::live::{Mode, Programs};
use datapath_abi::MAX_EVENTS;
use engine::net::{Direction, Hook};
use rustix::process::{Pid, Signal, kill_process};

use crate::binary::seen;
use crate::cli::Folder;
use crate::labs::named::Home;

const WORLD: &str = r#"
cluster lab {
  node node01 { ip 192.168.1.1 pods 10.1.0.0/24 }
  node node02 { ip 192.168.1.2 pods 10.2.0.0/24 }
}
namespace load {}
pod load/a on node01 { ip 10.1.0.10 labels { app = "a" } }
pod load/b on node01 { ip 10.1.0.11 labels { app = "b" } }
pod load/c on node02 { ip 10.2.0.10 labels { app = "c" } }
policy load/all { select {} allow ingress from pods { app = "a" } on 9000/udp }
"#;
const NODES: [&str; 2] = ["node01", "node02"];
/// How long what must come soon is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// How fast packets are sent.
#[derive(Clone, Copy)]
pub(super) enum Paced {
    /// So many a second.
    At(u64),
    /// As fast as the kernel takes them.
    Not,
}

/// A lab of a name, up as long as its home is.
pub(super) struct Field<'h> {
    home: &'h Home,
    pub(super) state: State,
}

/// From one pod to another: a flow that is known already, so that all its packets are told alike.
pub(super) struct Way {
    from: UdpSocket,
    /// Takes packets as long as it has room, so that nobody answers that no one does.
    _to: UdpSocket,
    /// Events of a packet at each program that it passes.
    pub(super) events: BTreeMap<Hook, u64>,
}

/// Runs of programs: with the outcome that the load has, and others.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    by: BTreeMap<Hook, u64>,
    others: u64,
}

impl Runs {
    pub(super) fn of(&self, hook: Hook) -> u64 {
        self.by.get(&hook).copied().unwrap_or(0)
    }

    pub(super) fn total(&self) -> u64 {
        self.by.values().sum::<u64>() + self.others
    }
}

impl<'h> Field<'h> {
    pub(super) fn new(home: &'h Home) -> Self {
        let folder = Folder::new("rates", &[("load.hop", WORLD.as_bytes())]);
        let up = home.hopwise(&["lab", "up", "load", "-f", &folder.path("load.hop")]).output();
        let (text, code) = seen(&up.expect("hopwise starts"));
        assert_eq!(code, 0, "{text}");
        Self { home, state: State::at(home.path().to_owned()) }
    }

    fn programs(&self) -> Vec<Programs> {
        let open = |node: &&str| self.state.programs("load", node).expect("they are pinned");
        NODES.iter().map(open).collect()
    }

    fn space(&self, pod: &str) -> Namespace {
        Namespace::open(&self.state.namespace("load", pod)).expect("the pod has one")
    }

    /// Opens a way, and finds out what programs say of its packets.
    pub(super) fn way(&self, pod: &str) -> Way {
        let to = if pod == "load/b" { "10.1.0.11:9000" } else { "10.2.0.10:9000" };
        let to: SocketAddr = to.parse().expect("an address");
        let taker = self.space(pod).within(|| UdpSocket::bind(to)).expect("the port is free");
        let from = self.space("load/a").within(|| {
            let from = UdpSocket::bind("10.1.0.10:0")?;
            from.connect(to)?;
            Ok(from)
        });
        let mut way = Way { from: from.expect("a socket"), _to: taker, events: BTreeMap::new() };
        way.send(Paced::Not, 1);
        way.events = self.told(&way);
        way
    }

    /// Events of each of a few packets, by program. Kernels send something by themselves now and then, which is not of them.
    fn told(&self, way: &Way) -> BTreeMap<Hook, u64> {
        const PACKETS: u64 = 16;
        let mut programs = self.programs();
        let tell = |programs: &mut [Programs], trace| {
            let mode = Mode { trace, ..Mode::default() };
            for node in programs {
                node.set_mode(mode).expect("they are told");
            }
        };
        for _ in 0..50 {
            tell(&mut programs, true);
            way.send(Paced::At(1000), PACKETS);
            std::thread::sleep(Duration::from_millis(20));
            tell(&mut programs, false);
            let mut by: BTreeMap<Hook, (u64, u64)> = BTreeMap::new();
            for run in programs.iter_mut().flat_map(|node| node.runs().expect("runs").0) {
                let (runs, events) = by.entry(run.hook).or_default();
                *runs += 1;
                *events += count(run.records());
            }
            if by.values().all(|(runs, events)| *runs == PACKETS && events % PACKETS == 0) {
                return by.into_iter().map(|(hook, (_, sum))| (hook, sum / PACKETS)).collect();
            }
        }
        panic!("no moment without other packets");
    }

    /// What programs counted so far.
    pub(super) fn counted(&self) -> Runs {
        let mut runs = Runs::default();
        for counter in self.programs().iter().flat_map(|node| node.counters().expect("counters")) {
            let sends = matches!(
                counter.hook,
                Hook::FromContainer | Hook::FromHost | Hook::ToOverlay | Hook::ToNetdev
            );
            match (counter.reason, counter.direction) {
                (Some(_), _) => runs.others += counter.packets,
                // What is delivered on the node is counted at both sides.
                (None, Direction::Egress) if sends => {
                    *runs.by.entry(counter.hook).or_default() += counter.packets;
                }
                (None, Direction::Ingress) if !sends => {
                    *runs.by.entry(counter.hook).or_default() += counter.packets;
                }
                (None, _) => {}
            }
        }
        runs
    }

    /// What they counted since.
    pub(super) fn since(&self, before: &Runs) -> Runs {
        let now = self.counted();
        let by = now.by.iter().map(|(hook, packets)| (*hook, packets - before.of(*hook)));
        Runs { by: by.collect(), others: now.others - before.others }
    }

    /// Starts a monitor, and waits until programs tell.
    pub(super) fn monitor(&self, arguments: &[&str]) -> Monitor {
        let mut command = self.home.hopwise(&["monitor", "--on", "load"]);
        let command = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("hopwise starts");
        let lines = BufReader::new(child.stdout.take().expect("it was asked for"));
        let stream = std::thread::spawn(move || read(lines));
        let begun = Instant::now();
        while !self.programs().iter().all(|node| node.mode().trace) {
            assert!(begun.elapsed() < PATIENCE, "nobody listens");
            std::thread::sleep(Duration::from_millis(5));
        }
        Monitor { child, stream: Some(stream) }
    }
}

impl Way {
    /// Sends packets; how many the kernel took.
    pub(super) fn send(&self, paced: Paced, packets: u64) -> u64 {
        let begun = Instant::now();
        let mut taken = 0;
        for sent in 0..packets {
            if let Paced::At(rate) = paced {
                let due = Duration::from_nanos(sent * 1_000_000_000 / rate);
                let early = due.saturating_sub(begun.elapsed());
                if !early.is_zero() {
                    std::thread::sleep(early.max(Duration::from_millis(1)));
                }
            }
            taken += u64::from(self.from.send(&[0x5A; 32]).is_ok());
        }
        taken
    }

    /// What was read and what was lost are all that programs had to tell, by their own counters.
    pub(super) fn assert_all(&self, runs: &Runs, seen: &Seen) {
        let (mut events, mut others) = (0, runs.others);
        for (hook, runs) in &runs.by {
            match self.events.get(hook) {
                Some(each) => events += each * runs,
                None => others += runs,
            }
        }
        let told = seen.events + seen.lost;
        // Of what kernels sent by themselves it is only known how often.
        let most = events + others * count(MAX_EVENTS);
        assert!((events + others..=most).contains(&told), "{told} of {events}: {seen:?} {runs:?}");
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A monitor that runs.
pub(super) struct Monitor {
    child: Child,
    stream: Option<JoinHandle<Stream>>,
}

/// What its standard output told.
#[derive(Debug, Default)]
struct Stream {
    lost: u64,
    sums: Option<serde_json::Value>,
}

/// What it told in all.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) runs: u64,
    pub(super) events: u64,
    pub(super) lost: u64,
    pub(super) lost_in_stream: u64,
    /// KiB that it held at most.
    pub(super) peak: u64,
}

impl Monitor {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    pub(super) fn stand_still(&self) {
        self.signal(Signal::STOP);
    }

    pub(super) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it as Ctrl-C does.
    pub(super) fn end(mut self) -> Seen {
        self.signal(Signal::INT);
        let (mut said, begun, mut peak) = (String::new(), Instant::now(), 0);
        while self.child.try_wait().expect("it is ours").is_none() {
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            peak = peak.max(held(self.child.id()));
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut errors = self.child.stderr.take().expect("it was asked for");
        errors.read_to_string(&mut said).expect("text");
        let stream = self.stream.take().expect("once").join().expect("it reads");
        let seen = match &stream.sums {
            Some(sums) => Seen {
                runs: sums["report"]["runs"].as_u64().expect("a number"),
                events: sums["report"]["events"].as_u64().expect("a number"),
                lost: sums["report"]["lost"].as_u64().expect("a number"),
                ..Seen::default()
            },
            None => of_text(&said),
        };
        Seen { lost_in_stream: stream.lost, peak, ..seen }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number before a word.
fn before(text: &str, word: &str) -> Option<u64> {
    text.split_once(word)?.0.rsplit(' ').next()?.parse().ok()
}

/// The sums as lines: `shown     7 of 9 runs`, `lost      1 of 60 events`.
fn of_text(said: &str) -> Seen {
    let line = |begin: &str| said.lines().find(|line| line.starts_with(begin)).unwrap_or_default();
    let lost = line("lost ");
    let number = |text: &str, word| before(text, word).unwrap_or_else(|| panic!("{word}: {said}"));
    let all = number(lost, " events");
    let lost = number(lost, " of ");
    Seen { runs: number(line("shown "), " runs"), events: all - lost, lost, ..Seen::default() }
}

fn read(lines: impl BufRead) -> Stream {
    let mut stream = Stream::default();
    for line in lines.lines().map_while(Result::ok) {
        if line.contains("  LOST  ") {
            stream.lost += before(&line, " event").unwrap_or(0);
        } else if line.contains("\"kind\":\"lost\"") || line.contains("\"kind\":\"sums\"") {
            let document: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            stream.lost += document["lost"]["events"].as_u64().unwrap_or(0);
            if document["kind"] == "sums" {
                stream.sums = Some(document);
            }
        }
    }
    stream
}

/// KiB that a process has held at most.
fn held(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
