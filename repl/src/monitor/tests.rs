//! Recorded runs through all that a monitor does with them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use datapath::decode::{End, Run, Snapshot};
use engine::backend::BackendError;
use engine::identity::Identity;
use engine::net::{Direction, FlowKey, Fragment, Hook, Protocol, TcpFlags};
use engine::reason::DropReason;
use engine::source::SourceMap;
use engine::tables::{EntryId, Generation};
use engine::topology::{Endpoint, NodeId};
use engine::trace::{
    Action, Choice, CtState, Event, IdentitySource, Place, PolicyOutcome, Rewriting, Stamped,
};

use super::*;
use crate::render;
use crate::session::Interrupt;

const WORLD: &str = r#"cluster shop {
  node node01 { ip 192.168.1.1 pods 10.1.0.0/24 }
  node node02 { ip 192.168.1.2 pods 10.2.0.0/24 }
}
namespace web { labels { team = "storefront" } }
pod web/client on node01 { ip 10.1.0.10 labels { app = "client" } }
pod web/echo-0 on node02 { ip 10.2.0.10 labels { app = "echo" } }
service web/echo { cluster-ip 10.96.0.20 port 80/tcp select { app = "echo" } }
external far { ip 203.0.113.9 }
policy web/echo {
  owner "team-storefront"
  select { app = "echo" }
  allow ingress as clients from pods { app = "client" } on 80/tcp
}
"#;

/// Nodes, by their order in the world.
const HERE: NodeId = NodeId(0);
const THERE: NodeId = NodeId(1);

fn scene(generation: u32) -> Rc<Scene> {
    let mut sources = SourceMap::default();
    let entry = [("shop.hop".to_owned(), WORLD.to_owned())];
    let loaded = lang::load(&entry, &mut lang::NoIncludes, &mut sources);
    let lang::Loaded { world, policies, .. } = loaded;
    let tables = engine::compile::compile(&world, &policies, Generation(generation)).unwrap();
    Rc::new(Scene { world, policies, tables, sources })
}

/// What is said about a packet from one place to another.
struct Said<'s> {
    scene: &'s Scene,
    run: Run,
    node: NodeId,
}

fn place(text: &str) -> Place {
    let place: std::net::SocketAddr = text.parse().unwrap();
    Place { address: place.ip(), port: place.port() }
}

fn said<'s>(scene: &'s Scene, node: NodeId, hook: Hook, from: &str, to: &str) -> Said<'s> {
    let (from, to) = (place(from), place(to));
    let run = Run {
        cpu: 0,
        hook,
        generation: scene.tables.generation,
        events: Vec::new(),
        came: None,
        left: None,
        end: None,
    };
    let flow = FlowKey {
        source: from.address,
        destination: to.address,
        protocol: Protocol::Tcp,
        source_port: from.port,
        destination_port: to.port,
    };
    Said { scene, run, node }.and(Event::Parsed {
        flow,
        flags: TcpFlags::SYN,
        icmp: None,
        fragment: Fragment::default(),
        ttl: 64,
        length: 60,
    })
}

impl Said<'_> {
    fn and(mut self, event: Event) -> Self {
        let Run { generation, hook, .. } = self.run;
        self.run.events.push(Stamped { generation, hook, event });
        self
    }

    fn flags(mut self, flags: TcpFlags) -> Self {
        if let Event::Parsed { flags: old, .. } = &mut self.run.events[0].event {
            *old = flags;
        }
        self
    }

    fn state(self, state: CtState) -> Self {
        let created = state == CtState::New;
        self.and(Event::Conntrack { state, created, expires_in: 60, closing: false })
    }

    /// Who the source is.
    fn from(self, identity: Identity) -> Self {
        let Event::Parsed { flow, .. } = self.run.events[0].event else { unreachable!() };
        let from = IdentitySource::Vni;
        self.and(Event::Identity { source_side: true, address: flow.source, identity, from })
    }

    /// Who the destination is.
    fn to(self, identity: Identity) -> Self {
        let Event::Parsed { flow, .. } = self.run.events[0].event else { unreachable!() };
        let (address, from) = (flow.destination, IdentitySource::Vni);
        self.and(Event::Identity { source_side: false, address, identity, from })
    }

    /// The ingress policy of the receiving pod.
    fn ingress(self, peer: Identity, outcome: PolicyOutcome, entry: u32) -> Self {
        let endpoint = self.entry().0;
        self.and(Event::Policy {
            endpoint,
            direction: Direction::Ingress,
            peer,
            protocol: Protocol::Tcp,
            port: 80,
            outcome,
            entry: EntryId(entry),
            other: None,
            remembered: false,
        })
    }

    /// The pod of the node, and its device.
    fn entry(&self) -> (engine::tables::EndpointId, u32) {
        let node = self.scene.tables.node(self.node).unwrap();
        let pod = node.endpoints.iter().find(|e| matches!(e.endpoint, Endpoint::Pod(_))).unwrap();
        (pod.id, pod.ifindex)
    }

    fn delivered(self, time: u64) -> (NodeId, Run) {
        let (endpoint, ifindex) = self.entry();
        self.done(time, Action::Deliver { endpoint, ifindex, peer: true })
    }

    fn done(self, time: u64, action: Action) -> (NodeId, Run) {
        let node = self.node;
        let ifindex = if self.run.hook == Hook::FromContainer { self.entry().1 } else { 7 };
        let mut run = self.and(Event::Outcome(action)).run;
        run.end = Some(End { time, ifindex, length: 74, mark: 0, unknown: None });
        (node, run)
    }
}

/// The identity of a node's pod.
fn identity(scene: &Scene, node: NodeId) -> Identity {
    let tables = scene.tables.node(node).unwrap();
    let pod = tables.endpoints.iter().find(|e| matches!(e.endpoint, Endpoint::Pod(_))).unwrap();
    pod.identity
}

/// The entry that lets clients in.
fn allowing(scene: &Scene) -> u32 {
    let tables = scene.tables.node(THERE).unwrap();
    let pod = tables.endpoints.iter().find(|e| matches!(e.endpoint, Endpoint::Pod(_))).unwrap();
    tables.table(pod.ingress).unwrap().entries.iter().find(|e| e.key.port == 80).unwrap().entry.0
}

/// Client and server by a service, an answer, a drop of a stranger, an outer frame, and one whose end was lost.
fn recorded(scene: &Scene) -> Vec<(NodeId, Run)> {
    let client = identity(scene, HERE);
    let (from, to) = ("10.1.0.10:40000", "10.2.0.10:80");
    let remote = "192.168.1.2".parse().unwrap();
    let backend = place(to);
    let tunnel = Action::Tunnel { vni: client.0, remote, ifindex: 3, ttl: 64 };
    let mut cut = said(scene, THERE, Hook::FromOverlay, from, to).state(CtState::New).run;
    cut.end = None;
    vec![
        said(scene, HERE, Hook::FromContainer, from, "10.96.0.20:80")
            .and(Event::Service {
                frontend: place("10.96.0.20:80"),
                protocol: Protocol::Tcp,
                entry: EntryId(1),
                backend: Some(backend),
                choice: Choice::Random,
                of: 1,
            })
            .state(CtState::New)
            .from(client)
            .done(1_000_000_000, tunnel),
        said(scene, THERE, Hook::FromNetdev, "192.168.1.1:50000", "192.168.1.2:8472")
            .done(1_000_010_000, Action::Stack { host: true }),
        said(scene, THERE, Hook::FromOverlay, from, to)
            .state(CtState::New)
            .from(client)
            .ingress(client, PolicyOutcome::Allow, allowing(scene))
            .delivered(1_000_020_000),
        said(scene, THERE, Hook::FromContainer, to, from)
            .flags(TcpFlags::SYN.with(TcpFlags::ACK))
            .state(CtState::Reply)
            .done(1_000_100_000, Action::Tunnel { vni: 7, remote, ifindex: 3, ttl: 64 }),
        said(scene, HERE, Hook::FromOverlay, to, from)
            .flags(TcpFlags::SYN.with(TcpFlags::ACK))
            .and(Event::Rewritten {
                rewriting: Rewriting::ServiceReply,
                before: backend,
                after: place("10.96.0.20:80"),
                created: false,
            })
            .state(CtState::Reply)
            .delivered(1_000_200_000),
        said(scene, THERE, Hook::FromNetdev, "203.0.113.9:50000", to)
            .state(CtState::New)
            .from(Identity::WORLD)
            .ingress(Identity::WORLD, PolicyOutcome::DefaultDeny, 0)
            .done(2_000_000_000, Action::Drop(DropReason::PolicyDenied)),
        (THERE, cut),
    ]
}

/// Batches that were said before.
struct Recorded {
    batches: VecDeque<Batch>,
    scenes: Vec<Rc<Scene>>,
    observes: bool,
    interrupt: Interrupt,
}

impl Recorded {
    fn of(scene: &Rc<Scene>, batches: Vec<Batch>) -> Self {
        Self {
            batches: batches.into(),
            scenes: vec![Rc::clone(scene)],
            observes: false,
            interrupt: Interrupt::default(),
        }
    }
}

impl Source for Recorded {
    fn name(&self) -> String {
        "lab shop".to_owned()
    }

    fn poll(&mut self) -> Result<Batch, BackendError> {
        if self.batches.len() == 1 {
            self.interrupt.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(self.batches.pop_front().unwrap_or_default())
    }

    fn scene(&mut self, generation: Generation) -> Option<Rc<Scene>> {
        self.scenes.iter().find(|scene| scene.tables.generation == generation).cloned()
    }

    fn present(&mut self) -> Rc<Scene> {
        Rc::clone(&self.scenes[0])
    }

    fn now(&self) -> u64 {
        0
    }

    fn observes(&self) -> bool {
        self.observes
    }
}

#[derive(Default)]
struct Kept(Rc<RefCell<Vec<Item>>>);

impl Sink for Kept {
    fn show(&mut self, items: &[Item]) -> io::Result<()> {
        self.0.borrow_mut().extend_from_slice(items);
        Ok(())
    }
}

/// What watching shows: as text without the time, as JSON lines, and the sums.
fn watched(source: &mut Recorded, asked: &Asked) -> (Vec<String>, Vec<serde_json::Value>, Report) {
    let mut kept = Kept::default();
    let interrupt = source.interrupt.clone();
    let report = watch(source, asked, &mut kept, &interrupt).unwrap();
    let items = kept.0.take();
    let (mut text, mut json) = (Vec::new(), Vec::new());
    render::items(&items, &render::Options::default(), &mut text).unwrap();
    render::item_lines(&items, &mut json).unwrap();
    let text = String::from_utf8(text).unwrap();
    let lines = text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
    let json = String::from_utf8(json).unwrap();
    let json = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines, json, report)
}

fn batch(runs: Vec<(NodeId, Run)>) -> Batch {
    Batch { runs, lost: Vec::new() }
}

#[test]
fn runs_are_told_by_names_with_what_decided() {
    let scene = scene(1);
    let lost = Batch { runs: Vec::new(), lost: vec![(THERE, 12), (HERE, 0)] };
    let mut source = Recorded::of(&scene, vec![batch(recorded(&scene)), lost]);
    let (lines, json, report) = watched(&mut source, &Asked::default());
    insta::assert_snapshot!("recorded", lines.join("\n"));
    let mut shown = json.clone();
    for time in shown.iter_mut().filter_map(|line| line.pointer_mut("/sighting/time")) {
        *time = 0.into();
    }
    insta::assert_snapshot!("recorded_json", serde_json::to_string_pretty(&shown[3]).unwrap());
    assert_eq!((report.runs, report.shown, report.quiet), (7, 6, 1));
    assert_eq!((report.allowed, report.dropped, report.undecided), (4, 1, 1));
    assert_eq!((report.lost, report.incomplete), (12, 1));
    let sums = render::watched_lines(&Report { milliseconds: 1234, ..report });
    insta::assert_snapshot!("sums", sums.join("\n"));
}

#[test]
fn filters_admit_what_meets_every_kind_of_condition() {
    let scene = scene(1);
    let count = |flags: &[(&str, &str)]| {
        let mut asked = Asked::default();
        for (flag, value) in flags {
            asked.take(flag, value).unwrap();
        }
        let mut source = Recorded::of(&scene, vec![batch(recorded(&scene))]);
        watched(&mut source, &asked).2.shown
    };
    for (flags, expected) in [
        (&[][..], 6),
        (&[("all", "")], 7),
        (&[("pod", "web/client")], 5),
        (&[("pod", "client")], 5),
        (&[("pod", "far")], 1),
        (&[("pod", "203.0.113.9")], 1),
        (&[("pod", "far"), ("pod", "client")], 6),
        (&[("namespace", "web"), ("node", "node01")], 2),
        (&[("namespace", "none")], 0),
        (&[("label", "app=client")], 5),
        (&[("identity", "world")], 1),
        (&[("identity", "2")], 1),
        (&[("port", "50000")], 1),
        (&[("verdict", "dropped")], 1),
        (&[("verdict", "dropped"), ("verdict", "undecided")], 2),
        (&[("reason", "133")], 1),
        (&[("reason", "policy-denied")], 1),
        (&[("reason", "policy-deny")], 0),
        (&[("count", "2")], 2),
    ] {
        assert_eq!(count(flags), expected, "{flags:?}");
    }
    let mut asked = Asked::default();
    for (flag, value) in [
        ("label", "app"),
        ("port", "70000"),
        ("verdict", "fine"),
        ("reason", "no"),
        ("graph", "png"),
        ("count", "0"),
        ("for", "10"),
        ("for", "0s"),
        ("nothing", ""),
    ] {
        let problem = asked.take(flag, value).unwrap_err();
        assert!(problem.contains(value) && problem.contains('`'), "{problem}");
    }
}

/// `world` is both families and prefixes, as in policies.
#[test]
fn the_world_is_of_both_families() {
    let scene = scene(1);
    let of = |from: &str, identity| {
        said(&scene, THERE, Hook::FromNetdev, from, "10.2.0.10:80")
            .state(CtState::New)
            .from(identity)
            .delivered(1)
    };
    let (v4, v6) = ("203.0.113.9:5", "[2001:db8::9]:5");
    let runs = || {
        vec![
            of(v4, Identity::WORLD_IPV4),
            of(v6, Identity::WORLD_IPV6),
            of(v4, Identity(Identity::FIRST_CIDR)),
            of(v4, Identity::REMOTE_NODE),
        ]
    };
    for (name, expected) in
        [("world", 3), ("world-ipv4", 2), ("world-ipv6", 1), ("9", 1), ("remote-node", 1)]
    {
        let mut asked = Asked::default();
        asked.take("identity", name).unwrap();
        let mut source = Recorded::of(&scene, vec![batch(runs())]);
        assert_eq!(watched(&mut source, &asked).2.shown, expected, "{name}");
    }
}

#[test]
fn names_that_nobody_has_are_refused_with_who_is_meant() {
    let scene = scene(1);
    let resolved = |flag: &str, value: &str| {
        let mut asked = Asked::default();
        asked.take(flag, value).unwrap();
        asked.filter.of(&scene)
    };
    for (flag, value) in [
        ("pod", "web/client"),
        ("pod", "echo"),
        ("pod", "web/echo"),
        ("pod", "node01"),
        ("pod", "far"),
        ("pod", "198.51.100.1"),
        ("namespace", "web"),
        ("node", "node02"),
        ("label", "app=echo"),
        ("identity", "world"),
        ("identity", "2"),
        ("identity", &identity(&scene, HERE).to_string()),
        ("port", "99"),
    ] {
        assert!(resolved(flag, value).is_ok(), "{flag} {value}");
    }
    for (flag, value, remedy) in [
        ("pod", "clinet", "did you mean `web/client`?"),
        ("pod", "zzz", "there are far, health of node01, "),
        ("namespace", "weeb", "did you mean `web`?"),
        ("namespace", "nope", "there are web"),
        ("node", "n9", "there are node01, node02"),
        ("label", "app=clint", "did you mean `app=client`?"),
        ("identity", "wolrd", "did you mean `world`?"),
        ("identity", "99999", "there are "),
    ] {
        let problem = resolved(flag, value).unwrap_err();
        assert!(problem.remedy.starts_with(remedy), "{flag} {value}: {problem:?}");
        assert!(problem.message.ends_with(&format!("`{value}`")), "{problem:?}");
    }
    let short = resolved("pod", "2001:DB8::0").unwrap();
    assert_eq!(short.pods, ["2001:db8::"], "as sightings write it");
}

/// What no program reads and what no service has is shown as what it is.
#[test]
fn what_is_nobodys_is_not_the_worlds() {
    let scene = scene(1);
    let no_port = said(&scene, HERE, Hook::FromContainer, "10.1.0.10:5", "10.96.0.20:99")
        .to(Identity::WORLD)
        .done(1, Action::Drop(DropReason::NoService));
    let far = said(&scene, HERE, Hook::FromContainer, "10.1.0.10:5", "203.0.113.9:99")
        .to(Identity::WORLD)
        .done(2, Action::Pass);
    let mut unread = said(&scene, HERE, Hook::ToOverlay, "10.1.0.10:5", "10.2.0.10:99");
    unread.run.events.clear();
    let mut source =
        Recorded::of(&scene, vec![batch(vec![no_port, far, unread.done(3, Action::Pass)])]);
    let mut asked = Asked::default();
    asked.take("all", "").unwrap();
    let (lines, _, _) = watched(&mut source, &asked);
    assert!(lines[0].contains("-> web/echo 10.96.0.20:99 TCP SYN  DROPPED"), "{lines:?}");
    assert!(lines[1].contains("-> far 203.0.113.9:99 (world) TCP SYN"), "{lines:?}");
    let unread = "to-overlay a frame for the tunnel, which is not looked into here  ALLOWED";
    assert!(lines[2].ends_with(unread), "{lines:?}");
}

#[test]
fn drawings_show_who_spoke_with_whom_behind_services() {
    let scene = scene(1);
    let mut source = Recorded::of(&scene, vec![batch(recorded(&scene))]);
    let asked = Asked { graph: Some(Drawing::Dot), ..Asked::default() };
    let (lines, _, report) = watched(&mut source, &asked);
    assert_eq!(lines, [""; 0], "a drawing takes the place of lines");
    insta::assert_snapshot!("dot", draw(&report.talks, Drawing::Dot));
    insta::assert_snapshot!("mermaid", draw(&report.talks, Drawing::Mermaid));
}

#[test]
fn names_of_another_generation_are_asked_for_and_never_guessed() {
    let (first, second) = (scene(1), scene(2));
    let batches = || vec![batch(recorded(&second)), batch(recorded(&first))];
    let mut source = Recorded::of(&first, batches());
    let (_, json, report) = watched(&mut source, &Asked::default());
    assert_eq!(report.undecided, 1 + 6, "nobody knows the second generation");
    assert_eq!(json[0]["sighting"]["undecided"], "other-generation");
    assert!(json[0]["sighting"]["decidedBy"].as_array().unwrap().is_empty());
    let mut source = Recorded::of(&first, batches());
    source.scenes.push(second);
    assert_eq!(watched(&mut source, &Asked::default()).2.undecided, 2);
}

#[test]
fn flows_that_may_be_older_than_the_programs_are_no_drops() {
    let scene = scene(1);
    let stranger = || {
        said(&scene, THERE, Hook::FromNetdev, "203.0.113.9:50000", "10.2.0.10:80")
            .state(CtState::New)
            .from(Identity::WORLD)
            .ingress(Identity::WORLD, PolicyOutcome::DefaultDeny, 0)
    };
    let would = stranger().done(5, Action::Drop(DropReason::PolicyDenied));
    let mut older = stranger().flags(TcpFlags::ACK).done(6, Action::Pass);
    older.1.end.as_mut().unwrap().unknown = Some(DropReason::PolicyDenied);
    let fine = || {
        said(&scene, THERE, Hook::FromNetdev, "203.0.113.9:50001", "10.2.0.10:80")
            .state(CtState::New)
            .from(Identity::WORLD)
            .ingress(Identity::WORLD, PolicyOutcome::Allow, 0)
    };
    let begun = fine().flags(TcpFlags::SYN).done(7, Action::Pass);
    let amid = fine().flags(TcpFlags::ACK).done(8, Action::Pass);
    let mut source = Recorded::of(&scene, vec![batch(vec![would, older, begun, amid])]);
    source.observes = true;
    let (lines, json, report) = watched(&mut source, &Asked::default());
    assert_eq!((report.dropped, report.allowed, report.unknown_state), (1, 1, 2));
    assert!(lines[3].contains("  UNKNOWN-STATE  conntrack new"), "{}", lines[3]);
    assert!(lines[0].contains("  WOULD DROP  policy-denied (133)"), "{}", lines[0]);
    assert!(lines[1].contains("  UNKNOWN-STATE  policy-denied (133) if its flow "), "{}", lines[1]);
    assert_eq!(json[1]["sighting"]["verdict"], "unknown-state");
}

/// A flow is explained once, and each of its packets told as it is.
#[test]
fn packets_of_a_flow_are_told_apart() {
    let scene = scene(1);
    let packet = |time, flags| {
        said(&scene, THERE, Hook::FromOverlay, "10.1.0.10:40000", "10.2.0.10:80")
            .flags(flags)
            .state(CtState::Established)
            .delivered(time)
    };
    let runs = vec![packet(5_000, TcpFlags::ACK), packet(6_000, TcpFlags::ACK.with(TcpFlags::FIN))];
    let mut source = Recorded::of(&scene, vec![batch(runs)]);
    let (lines, json, _) = watched(&mut source, &Asked::default());
    assert!(lines[0].contains(" TCP ACK  ALLOWED"), "{}", lines[0]);
    assert!(lines[1].contains(" TCP FIN-ACK  ALLOWED"), "{}", lines[1]);
    let time = |at: usize| json[at]["sighting"]["time"].as_u64().unwrap();
    assert_eq!(time(1) - time(0), 1_000);
}

#[test]
fn frames_are_written_with_their_verdict() {
    let scene = scene(1);
    let mut runs = recorded(&scene);
    for (_, run) in &mut runs {
        run.came = Some(Snapshot { length: 74, bytes: vec![0x5A; 60] });
    }
    let folder = std::env::temp_dir().join(format!("hopwise-monitor-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("seen.pcapng");
    let mut source = Recorded::of(&scene, vec![batch(runs)]);
    let asked = Asked { pcap: Some(file.clone()), ..Asked::default() };
    watched(&mut source, &asked);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(crate::pcap::is_ours(bytes.as_slice()));
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!(text.matches("ALLOWED").count(), 4);
    assert!(text.contains("DROPPED  policy-denied (133)"));
}

#[test]
fn sightings_are_as_the_schema_says() {
    let scene = scene(1);
    let lost = Batch { runs: Vec::new(), lost: vec![(HERE, 1)] };
    let mut source = Recorded::of(&scene, vec![batch(recorded(&scene)), lost]);
    let (_, mut json, report) = watched(&mut source, &Asked::default());
    let mut sums = Vec::new();
    render::watched_line(&report, crate::reply::Status::Ok, &mut sums).unwrap();
    json.push(serde_json::from_slice(&sums).unwrap());
    let validator = jsonschema::draft202012::new(&render::schema()).unwrap();
    for line in &json {
        let errors: Vec<String> = validator.iter_errors(line).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:#?}\n{line:#}");
    }
}
