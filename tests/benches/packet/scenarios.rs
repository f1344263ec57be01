//! What is measured: a small cluster, the packets of it, how each comes in and must end, and the reference's figures.

use std::fmt::Write as _;
use std::net::IpAddr;

use datapath::frame;
use datapath::testrun::measure::{Drive, Operation, Reporting};
use engine::backend::TunnelKey;
use engine::diag::Severity;
use engine::net::{Fragment, Hook, IpHeader, Mac, Packet, TcpFlags, Transport};
use engine::reason::DropReason;
use engine::source::SourceMap;
use engine::tables::{EndpointEntry, EndpointId, Generation, Tables};
use engine::trace::{CtState, Ethernet};
use lang::workspace::NoIncludes;

use crate::table::Target;

/// How a packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Deliver,
    Tunnel,
    Network,
    Pass,
    Drop(DropReason),
}

/// What is in conntrack when a test run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Nothing.
    Empty,
    /// What the runs before left.
    AsItIs,
    /// As much as it holds.
    Full,
}

/// A packet and its way in.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) drive: Drive,
    pub(crate) frame: Vec<u8>,
    /// The pod whose device it comes in at, where the hook asks.
    pub(crate) pod: EndpointId,
}

pub(crate) struct Scenario {
    pub(crate) name: String,
    /// The first packet of the flow.
    pub(crate) opened_by: Option<Step>,
    pub(crate) measured: Step,
    pub(crate) state: CtState,
    pub(crate) ends: Ends,
    pub(crate) load: Load,
    pub(crate) reporting: Reporting,
    pub(crate) target: Option<Target>,
}

pub(crate) const OPERATIONS: &[(Operation, &str)] = &[
    (Operation::IpcacheLookUp, "LPM look-up, ipcache"),
    (Operation::PolicyLookUp, "LPM look-up, policy"),
    (Operation::HashHit, "hash hit"),
    (Operation::LruHit, "LRU hit"),
    (Operation::LruMiss, "LRU miss"),
    (Operation::LruInsert, "LRU insert"),
    (Operation::Array, "array"),
    (Operation::PerCpuArray, "per-CPU array"),
    (Operation::Event, "event"),
    (Operation::WakingEvent, "event that wakes a reader"),
    (Operation::SetTunnelKey, "set_tunnel_key"),
    (Operation::Redirect, "redirect"),
    (Operation::Jiffies, "jiffies"),
    (Operation::Ktime, "ktime"),
    (Operation::AtomicAdd, "atomic add"),
];

/// Pods beside those that packets are exchanged between, each of an identity of its own.
const FILLERS: u32 = 60;

/// The cluster, compiled.
pub(crate) struct World {
    pub(crate) world: engine::topology::World,
    pub(crate) tables: Tables,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut sources = SourceMap::default();
        let entries = [("bench.hop".to_owned(), text())];
        let loaded = lang::load(&entries, &mut NoIncludes, &mut sources);
        assert!(
            !loaded.diagnostics.iter().any(|d| d.severity == Severity::Error),
            "{:?}",
            loaded.diagnostics
        );
        let tables = engine::compile::compile(&loaded.world, &loaded.policies, Generation(1))
            .expect("the cluster compiles");
        Self { world: loaded.world, tables }
    }

    /// The endpoint of an address on the first node; the first endpoint for an address elsewhere.
    fn endpoint(&self, address: &str) -> &EndpointEntry {
        let endpoints = &self.tables.nodes[0].endpoints;
        let address: IpAddr = address.parse().expect("an address");
        let found = endpoints.iter().find(|endpoint| endpoint.addresses.contains(&address));
        found.unwrap_or(&endpoints[0])
    }

    /// The number that the tunnel carries for a remote pod.
    fn vni(&self, address: &str) -> u32 {
        let address: IpAddr = address.parse().expect("an address");
        let mut rows = self.tables.nodes[0].ipcache.iter();
        let row = rows.find(|row| row.prefix.addr() == address && row.prefix.prefix_len() >= 32);
        row.expect("the address is in the ipcache").identity.0
    }
}

fn text() -> String {
    let mut text = "cluster bench {
  like cilium 1.18
  tunnel vxlan port 8472
  node node01 { ip 192.168.0.1, fd00:a::1 pods 10.1.0.0/24, fd00:1::/64 }
  node node02 { ip 192.168.0.2, fd00:a::2 pods 10.2.0.0/24, fd00:2::/64 }
}
namespace web {}
pod web/client on node01 { ip 10.1.0.1, fd00:1::1 labels { app = \"client\" } }
pod web/near on node01 { ip 10.1.0.2, fd00:1::2 labels { app = \"echo\", at = \"near\" } }
pod web/far on node02 { ip 10.2.0.2, fd00:2::2 labels { app = \"echo\", at = \"far\" } }
pod web/caller on node02 { ip 10.2.0.1, fd00:2::1 labels { app = \"client\" } }
service web/near { cluster-ip 10.96.0.1 port 80/tcp -> 8080 node-port 30080 select { at = \"near\" } }
service web/far { cluster-ip 10.96.0.2 port 80/tcp -> 8080 node-port 30081 select { at = \"far\" } }
policy web/client {
  select { app = \"client\" }
  allow egress as echo to pods { app = \"echo\" } on 8080/tcp
  allow egress as closed to pods { app = \"echo\" } on 9999/tcp
}
policy web/world {
  select { app = \"echo\" }
  allow ingress as outside from cidr 198.51.100.0/24 on 8080/tcp
}
"
    .to_owned();
    let mut rules = String::new();
    for n in 0..FILLERS {
        let node = n % 2 + 1;
        let host = n + 16;
        let _ = writeln!(
            text,
            "pod web/filler-{n} on node0{node} {{ ip 10.{node}.0.{host}, fd00:{node}::{host:x} \
             labels {{ app = \"filler-{n}\" }} }}",
        );
        let (low, high) = (9000 + n * 8, 9003 + n * 8);
        let _ = writeln!(
            rules,
            "  allow ingress from pods {{ app = \"filler-{n}\" }} on {low}-{high}/tcp"
        );
    }
    let _ = writeln!(
        text,
        "policy web/echo {{\n  select {{ app = \"echo\" }}\n  allow ingress as clients from pods \
         {{ app = \"client\" }} on 8080/tcp\n{rules}}}"
    );
    text
}

const CLIENT: [&str; 2] = ["10.1.0.1", "fd00:1::1"];
const NEAR: [&str; 2] = ["10.1.0.2", "fd00:1::2"];
const FAR: [&str; 2] = ["10.2.0.2", "fd00:2::2"];
const CALLER: [&str; 2] = ["10.2.0.1", "fd00:2::1"];
/// A pod of the first node that no policy selects.
const FREE: &str = "10.1.0.16";
const NODE: &str = "192.168.0.1";
/// Services of one backend each, and their node ports.
const NEAR_SERVICE: (&str, u16) = ("10.96.0.1", 80);
const FAR_SERVICE: (&str, u16) = ("10.96.0.2", 80);
const NEAR_NODE_PORT: u16 = 30080;
const FAR_NODE_PORT: u16 = 30081;
const OUTSIDE: [&str; 2] = ["198.51.100.7", "2001:db8::7"];

/// Of the arrays above.
const V4: usize = 0;
const V6: usize = 1;

/// The port that a side sends from and one that is open, one that only the sender may use, one that nobody may.
const EPHEMERAL: u16 = 40_000;
const OPEN: u16 = 8080;
const CLOSED: u16 = 9999;
const FORBIDDEN: u16 = 7;

/// A segment: from and to whom, and its flags.
fn segment(from: (&str, u16), to: (&str, u16), flags: TcpFlags) -> Vec<u8> {
    let ip = IpHeader {
        source: from.0.parse().expect("an address"),
        destination: to.0.parse().expect("an address"),
        traffic_class: 0,
        ttl: 64,
        id: 1,
        flow_label: 0,
        dont_fragment: true,
        fragment: Fragment::default(),
        options: Vec::new(),
        extensions: Vec::new(),
    };
    let (source, destination) = (from.1, to.1);
    let transport = Transport::Tcp { source, destination, flags, sequence: 1, acknowledgement: 1 };
    let packet = Packet { ip, transport, payload: vec![0; 64] };
    let ethernet =
        Ethernet { source: Mac([2, 0, 0, 0, 9, 1]), destination: Mac([2, 0, 0, 0, 9, 2]) };
    frame::build(&packet, ethernet).expect("the packet has a frame")
}

/// Bytes of a frame that delivery changes: TTL and checksum, or the hop limit, each with a neighbour where
/// that makes a pair: programs read them in pieces that are no larger than what is written here.
fn restored(frame: &[u8]) -> Vec<(u8, [u8; 2])> {
    let places: &[u8] = if frame[12] == 0x08 { &[22, 24] } else { &[20] };
    let pair = |at: usize| [frame[at], frame[at + 1]];
    places.iter().map(|at| (*at, pair(usize::from(*at)))).collect()
}

fn step(world: &World, hook: Hook, from: (&str, u16), to: (&str, u16), flags: TcpFlags) -> Step {
    let frame = segment(from, to, flags);
    let tunnel = (hook == Hook::FromOverlay).then(|| TunnelKey {
        vni: world.vni(from.0),
        source: "192.168.0.2".parse().expect("an address"),
    });
    let restored = restored(&frame);
    let drive = Drive { hook: Some(hook), restored, words: Vec::new(), counted: None, tunnel };
    Step { drive, frame, pod: world.endpoint(from.0).id }
}

/// The same where sides are rewritten: addresses, ports and TCP's checksum are restored too. IPv4 only.
fn translated(mut step: Step) -> Step {
    let word = |at: u8| {
        let from = usize::from(at);
        (at, *step.frame[from..].first_chunk().expect("the frame is longer"))
    };
    step.drive.words = [26, 30, 34].map(word).to_vec();
    step.drive.restored.push((50, [step.frame[50], step.frame[51]]));
    step
}

/// The same with a source port that counts up.
fn counted(mut step: Step) -> Step {
    step.drive.counted = Some(if step.frame[12] == 0x08 { 34 } else { 54 });
    step
}

/// Every scenario. References and targets are section 5's of the design.
pub(crate) fn all(world: &World) -> Vec<Scenario> {
    let mut all = Vec::new();
    known(world, &mut all);
    translated_flows(world, &mut all);
    translated_anew(world, &mut all);
    new(world, &mut all);
    dropped(world, &mut all);
    reported(world, &mut all);
    all
}

/// Packets of flows that conntrack knows.
fn known(world: &World, all: &mut Vec<Scenario>) {
    let (sent, overlay) = (Hook::FromContainer, Hook::FromOverlay);
    for (family, mark) in [(V4, ""), (V6, ", IPv6")] {
        let ((client, near), (far, caller)) =
            ((CLIENT[family], NEAR[family]), (FAR[family], CALLER[family]));
        let flows = [
            (
                "established, to a local pod",
                sent,
                client,
                near,
                false,
                Ends::Deliver,
                Some((854.0, 0.2)),
            ),
            ("reply, to a local pod", sent, client, near, true, Ends::Deliver, Some((562.0, 0.2))),
            (
                "established, into the tunnel",
                sent,
                client,
                far,
                false,
                Ends::Tunnel,
                Some((505.0, 0.2)),
            ),
            (
                "established, from the tunnel",
                overlay,
                caller,
                near,
                false,
                Ends::Deliver,
                Some((579.0, 0.2)),
            ),
        ];
        for (name, hook, from, to, is_reply, ends, target) in flows {
            // Ports tell the flows of scenarios apart.
            let port = EPHEMERAL + u16::try_from(all.len()).expect("few scenarios");
            let (a, b) = ((from, port), (to, OPEN));
            let opened_by = Some(step(world, hook, a, b, TcpFlags::SYN));
            let (measured, state) = if is_reply {
                (step(world, sent, b, a, TcpFlags::ACK), CtState::Reply)
            } else {
                (step(world, hook, a, b, TcpFlags::ACK), CtState::Established)
            };
            all.push(Scenario {
                name: format!("{name}{mark}"),
                opened_by,
                measured,
                state,
                ends,
                load: Load::AsItIs,
                reporting: Reporting::Nothing,
                target: target.filter(|_| family == V4),
            });
        }
    }
}

/// Packets of flows that conntrack knows and that are translated, and of those that leave or that the node sends.
fn translated_flows(world: &World, all: &mut Vec<Scenario>) {
    let (sent, wire, leaving) = (Hook::FromContainer, Hook::FromNetdev, Hook::ToNetdev);
    let (client, near, outside) = (CLIENT[V4], (NEAR[V4], OPEN), OUTSIDE[V4]);
    let target = |reference| Some((reference, 0.2));
    let mut add = |name: &str, opener: (Hook, &str, (&str, u16)), reply, ends, target| {
        let (hook, from, to) = opener;
        let port = EPHEMERAL + 100 + u16::try_from(all.len()).expect("few scenarios");
        let opened_by = translated(step(world, hook, (from, port), to, TcpFlags::SYN));
        let (measured, state) = match reply {
            None => ((hook, (from, port), to), CtState::Established),
            Some((hook, from, to)) => ((hook, from, (to, port)), CtState::Reply),
        };
        let (hook, from, to) = measured;
        all.push(Scenario {
            name: name.to_owned(),
            opened_by: Some(opened_by),
            measured: translated(step(world, hook, from, to, TcpFlags::ACK)),
            state,
            ends,
            load: Load::AsItIs,
            reporting: Reporting::Nothing,
            target,
        });
    };
    let by_service = (sent, client, NEAR_SERVICE);
    add("service, established, to a local pod", by_service, None, Ends::Deliver, target(1080.0));
    let answer = Some((sent, near, client));
    add("service, reply, of a local pod", by_service, answer, Ends::Deliver, None);
    let by_service = (sent, client, FAR_SERVICE);
    add("service, established, into the tunnel", by_service, None, Ends::Tunnel, target(705.0));
    let by_node = (wire, outside, (NODE, NEAR_NODE_PORT));
    add("node port, established, to a local pod", by_node, None, Ends::Deliver, None);
    let answer = Some((sent, near, outside));
    add("node port, reply, of a local pod", by_node, answer, Ends::Network, None);
    let by_node = (wire, outside, (NODE, FAR_NODE_PORT));
    add("node port, established, into the tunnel", by_node, None, Ends::Tunnel, None);
    let out = (leaving, FREE, (outside, 443));
    add("masqueraded, established", out, None, Ends::Pass, None);
    let answer = Some((wire, (outside, 443), NODE));
    add("masqueraded, reply", out, answer, Ends::Deliver, None);
    let out = (sent, FREE, (outside, 443));
    add("established, to the outside", out, None, Ends::Network, None);
    let own = (Hook::FromHost, NODE, (FREE, OPEN));
    add("established, from the node to a local pod", own, None, Ends::Deliver, None);
}

/// First packets of flows that are translated.
fn translated_anew(world: &World, all: &mut Vec<Scenario>) {
    let (sent, wire) = (Hook::FromContainer, Hook::FromNetdev);
    let (client, outside) = (CLIENT[V4], OUTSIDE[V4]);
    for (name, hook, from, to, ends, target) in [
        (
            "service, new, to a local pod",
            sent,
            client,
            NEAR_SERVICE,
            Ends::Deliver,
            Some((3092.0, 0.35)),
        ),
        ("service, new, into the tunnel", sent, client, FAR_SERVICE, Ends::Tunnel, None),
        (
            "node port, new, to a local pod",
            wire,
            outside,
            (NODE, NEAR_NODE_PORT),
            Ends::Deliver,
            None,
        ),
        (
            "node port, new, into the tunnel",
            wire,
            outside,
            (NODE, FAR_NODE_PORT),
            Ends::Tunnel,
            None,
        ),
        ("masqueraded, new", Hook::ToNetdev, FREE, (outside, 443), Ends::Pass, None),
    ] {
        all.push(Scenario {
            name: name.to_owned(),
            opened_by: None,
            measured: counted(translated(step(world, hook, (from, EPHEMERAL), to, TcpFlags::SYN))),
            state: CtState::New,
            ends,
            load: Load::Empty,
            reporting: Reporting::Nothing,
            target,
        });
    }
}

/// First packets of flows, each of another one. Those with a target are measured over IPv6 and with a full table too.
fn new(world: &World, all: &mut Vec<Scenario>) {
    let (sent, overlay, wire) = (Hook::FromContainer, Hook::FromOverlay, Hook::FromNetdev);
    let cases = [
        ("new, to a local pod", sent, CLIENT, NEAR, Ends::Deliver, Some((2488.0, 0.3))),
        ("new, into the tunnel", sent, CLIENT, FAR, Ends::Tunnel, Some((1290.0, 0.45))),
        ("new, from the tunnel", overlay, CALLER, NEAR, Ends::Deliver, None),
        ("new, from the wire", wire, OUTSIDE, NEAR, Ends::Deliver, None),
    ];
    let variants =
        [("", V4, Load::Empty), (", IPv6", V6, Load::Empty), (", conntrack full", V4, Load::Full)];
    for (name, hook, from, to, ends, target) in cases {
        for (mark, family, load) in variants.into_iter().take(1 + 2 * usize::from(target.is_some()))
        {
            let (from, to) = ((from[family], EPHEMERAL), (to[family], OPEN));
            all.push(Scenario {
                name: format!("{name}{mark}"),
                opened_by: None,
                measured: counted(step(world, hook, from, to, TcpFlags::SYN)),
                state: CtState::New,
                ends,
                load,
                reporting: Reporting::Nothing,
                target: target.filter(|_| family == V4),
            });
        }
    }
}

fn dropped(world: &World, all: &mut Vec<Scenario>) {
    let (sent, overlay) = (Hook::FromContainer, Hook::FromOverlay);
    let denied = Ends::Drop(DropReason::PolicyDenied);
    for (name, hook, from, port, target) in [
        ("dropped by egress policy", sent, CLIENT, FORBIDDEN, Some((388.0, 0.5))),
        ("dropped by ingress policy, of a local pod", sent, CLIENT, CLOSED, Some((388.0, 0.5))),
        ("dropped by ingress policy, from the tunnel", overlay, CALLER, CLOSED, Some((388.0, 0.5))),
    ] {
        let (from, to) = ((from[V4], EPHEMERAL - 1), (NEAR[V4], port));
        all.push(Scenario {
            name: name.to_owned(),
            opened_by: None,
            measured: step(world, hook, from, to, TcpFlags::SYN),
            state: CtState::New,
            ends: denied,
            load: Load::AsItIs,
            reporting: Reporting::Nothing,
            target,
        });
    }
}

/// What reporting costs, on the shortest path.
fn reported(world: &World, all: &mut Vec<Scenario>) {
    for (name, reporting) in [
        ("established, to a local pod, with all events", Reporting::Live),
        ("established, to a local pod, simulated", Reporting::Simulated),
        ("established, to a local pod, simulated, with all events", Reporting::Traced),
    ] {
        let port = EPHEMERAL + u16::try_from(all.len()).expect("few scenarios");
        let (a, b) = ((CLIENT[V4], port), (NEAR[V4], OPEN));
        all.push(Scenario {
            name: name.to_owned(),
            opened_by: Some(step(world, Hook::FromContainer, a, b, TcpFlags::SYN)),
            measured: step(world, Hook::FromContainer, a, b, TcpFlags::ACK),
            state: CtState::Established,
            ends: Ends::Deliver,
            load: Load::AsItIs,
            reporting,
            target: None,
        });
    }
}
