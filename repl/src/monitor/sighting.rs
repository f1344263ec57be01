//! One run of a program in words: who sent what to whom, and what became of it by which rule. Names and reasons are those of
//! `engine::explain`; nothing is looked up a second time.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use datapath::decode::Run;
use engine::explain::{Decided, Explanation, HopReport, Isolating, Step, Undecided, explain};
use engine::identity::Identity;
use engine::net::{FlowKey, Fragment, Hook, IpHeader, Packet, Protocol, TcpFlags, Transport, icmp};
use engine::question::Question;
use engine::reason::DropReason;
use engine::tables::Generation;
use engine::topology::{Endpoint, NodeId, Party};
use engine::trace::{Action, CtState, Event, Hop, Rewriting, Trace};
use schemars::JsonSchema;
use serde::Serialize;

use super::Scene;

/// What became of a packet at a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// The program let it on.
    Allowed,
    /// The program dropped it; where programs only observe: would have.
    Dropped,
    /// It cannot be said.
    Undecided,
    /// Programs only observe, and the packet is of a flow that may be older than they are: conntrack does not know it.
    UnknownState,
}

impl Fate {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Allowed, Self::Dropped, Self::Undecided, Self::UnknownState];
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Dropped => "dropped",
            Self::Undecided => "undecided",
            Self::UnknownState => "unknown-state",
        })
    }
}

/// One side of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// Its name: `web/client`; the address where nobody of the world has it.
    pub name: String,
    /// Its namespace; null for what has none.
    pub namespace: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its identity, as the program took it; null where it asked for none.
    pub identity: Option<Identity>,
    /// What that stands for: `{app=client} in web`, `world`.
    pub meaning: String,
    /// Its address, as the packet came.
    pub address: String,
    /// Its port; null without ports.
    pub port: Option<u16>,
}

/// One run of a program, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sighting {
    /// When the run ended: nanoseconds since 1970, UTC. 0 where its end was lost.
    pub time: u64,
    /// The node.
    pub node: String,
    /// The program.
    pub hook: Hook,
    /// Its device.
    pub device: String,
    /// The sender.
    pub source: Side,
    /// The receiver, as the packet came: a service, where it is for one.
    pub destination: Side,
    /// The transport; null where the program read no packet: of a frame without one, and at `to-overlay`, which looks at none.
    pub protocol: Option<Protocol>,
    /// `SYN`, `echo request id 502`, `later fragment`, or empty.
    pub detail: String,
    /// Bytes of the frame.
    pub bytes: u32,
    /// What conntrack knew; null where it was not asked.
    pub conntrack: Option<CtState>,
    /// What became of it.
    pub verdict: Fate,
    /// Why it was dropped; of unknown state, what for it would be dropped if its flow began with it, if it would; else null.
    pub reason: Option<DropReason>,
    /// Why it cannot be said; null where it can.
    pub undecided: Option<Undecided>,
    /// Whether the program only observes, so that the packet went on whatever the verdict.
    pub observed: bool,
    /// What decided, direction by direction.
    pub decided_by: Vec<Decided>,
    /// Who isolates the endpoint that dropped by default deny.
    pub isolated_by: Vec<Isolating>,
    /// What was done to it and where it went on to.
    pub steps: Vec<Step>,
    /// State of the tables.
    pub generation: Generation,
    /// Whether the program had nothing to say but that the packet may go on its way.
    pub quiet: bool,
    /// Who really is at both sides where a service or a translation stands between them, for drawings; with the port.
    #[serde(skip)]
    pub(super) ends: Ends,
}

/// The sides of a flow without what stands between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) source_port: Option<u16>,
    pub(super) destination_port: Option<u16>,
    /// Whether the packet is of the side that answers.
    pub(super) is_reply: bool,
    /// Whether it was received by whom it is for.
    pub(super) is_received: bool,
}

/// What is seen of a run but its time, its length and its flags, which tell packets of a flow apart.
pub(crate) fn see(scene: &Scene, node: NodeId, run: &Run) -> Sighting {
    let parsed = parsed(run);
    let hop = hop(scene, node, run);
    let explained = explained(scene, run, &hop);
    let explained = explained.as_ref();
    let (source, destination) = sides(scene, run, explained);
    let (verdict, reason, undecided) = fate(scene, run);
    let report = explained.and_then(|e| e.hops.first());
    Sighting {
        time: 0,
        node: scene.node(node),
        hook: run.hook,
        device: hop.device,
        ends: ends(scene, run, parsed.as_ref(), (&source, &destination)),
        source,
        destination,
        protocol: parsed.map(|parsed| parsed.flow.protocol),
        detail: parsed.map(|parsed| detail(&parsed)).unwrap_or_default(),
        bytes: 0,
        conntrack: conntrack(run),
        verdict,
        reason,
        undecided,
        observed: false,
        decided_by: explained.map_or_else(Vec::new, |e| e.decided_by.clone()),
        isolated_by: explained.map_or_else(Vec::new, |e| e.isolated_by.clone()),
        steps: report.map(told).unwrap_or_default(),
        generation: run.generation,
        quiet: is_quiet(run, action(run)),
    }
}

/// The run explained as a journey of one hop; nothing where its tables are not known or no packet was read.
fn explained(scene: &Scene, run: &Run, hop: &Hop) -> Option<Explanation> {
    let parsed = parsed(run).filter(|_| run.generation == scene.tables.generation)?;
    let (source, destination) = (parsed.flow.source, parsed.flow.destination);
    let (source, destination) = (Party::Address(source), Party::Address(destination));
    let question = Question::of(source, destination, packet(&parsed));
    let generation = scene.tables.generation;
    let trace = Trace { generation, hops: vec![hop.clone()], ..Trace::default() };
    explain(&scene.context(), &question, &trace, None)
}

fn fate(scene: &Scene, run: &Run) -> (Fate, Option<DropReason>, Option<Undecided>) {
    match action(run) {
        _ if run.generation != scene.tables.generation => {
            (Fate::Undecided, None, Some(Undecided::OtherGeneration))
        }
        None => (Fate::Undecided, None, Some(Undecided::OutcomeNotSeen)),
        Some(Action::Drop(reason)) => (Fate::Dropped, Some(reason), None),
        Some(_) => match run.end.and_then(|end| end.unknown) {
            Some(reason) => (Fate::UnknownState, Some(reason), None),
            None => (Fate::Allowed, None, None),
        },
    }
}

/// Sender and receiver by name, with who the program took them for.
fn sides(scene: &Scene, run: &Run, explained: Option<&Explanation>) -> (Side, Side) {
    let Some(FlowKey { source, destination, protocol, source_port, destination_port }) =
        parsed(run).map(|parsed| parsed.flow)
    else {
        return (Side::default(), Side::default());
    };
    let (from, to) = match explained.map(|e| &e.packet) {
        Some(packet) => (
            side(scene, source, &packet.source, packet.source_port),
            side(scene, destination, &packet.destination, packet.destination_port),
        ),
        None => {
            let plain = |address: IpAddr, port| {
                let port = Some(port).filter(|_| protocol.has_ports());
                side(scene, address, &address.to_string(), port)
            };
            (plain(source, source_port), plain(destination, destination_port))
        }
    };
    let report = explained.and_then(|e| e.hops.first());
    // An address of a service is nobody's; in the tables it counts as the world's, so that it is found at all.
    let is_service =
        |address: IpAddr| matches!(scene.world.owner(address), Some(Party::Service(_)));
    let known = |side, address, of_source| {
        if is_service(address) { side } else { known(side, run, report, of_source) }
    };
    (known(from, source, true), known(to, destination, false))
}

/// The headers as a program read them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parsed {
    flow: FlowKey,
    flags: TcpFlags,
    icmp: Option<(u8, u8)>,
    fragment: Fragment,
    ttl: u8,
}

pub(super) fn parsed(run: &Run) -> Option<Parsed> {
    run.events.iter().find_map(|said| match said.event {
        Event::Parsed { flow, flags, icmp, fragment, ttl, .. } => {
            Some(Parsed { flow, flags, icmp, fragment, ttl })
        }
        _ => None,
    })
}

/// What the run did in the end; `None` where that was lost.
pub(super) fn action(run: &Run) -> Option<Action> {
    run.end?;
    run.events.iter().rev().find_map(|said| match said.event {
        Event::Outcome(action) => Some(action),
        _ => None,
    })
}

fn conntrack(run: &Run) -> Option<CtState> {
    run.events.iter().find_map(|said| match said.event {
        Event::Conntrack { state, .. } => Some(state),
        _ => None,
    })
}

/// Whether it is of a connection whose beginning no program saw. One that observes remembers nothing of it.
pub(super) fn is_amid(run: &Run) -> bool {
    let begins = TcpFlags::SYN.0 | TcpFlags::ACK.0;
    let is_later = |parsed: Parsed| {
        parsed.flow.protocol == Protocol::Tcp && parsed.flags.0 & begins != TcpFlags::SYN.0
    };
    conntrack(run) == Some(CtState::New) && parsed(run).is_some_and(is_later)
}

/// TCP flags, an echo's identifier, another message's type, or that it is a fragment.
pub(super) fn detail(parsed: &Parsed) -> String {
    let fragment = match (parsed.fragment.is_later(), parsed.fragment.more) {
        (true, _) => return "later fragment".to_owned(),
        (false, true) => ", first fragment",
        (false, false) => "",
    };
    let told = match (parsed.flow.protocol, parsed.icmp) {
        (Protocol::Tcp, _) => parsed.flags.to_string(),
        (protocol, Some((kind, code))) => message(protocol, kind, code, parsed.flow.source_port),
        _ => return fragment.trim_start_matches(", ").to_owned(),
    };
    format!("{told}{fragment}")
}

fn message(protocol: Protocol, kind: u8, code: u8, identifier: u16) -> String {
    let is_v6 = protocol == Protocol::Icmpv6;
    let names = if is_v6 { icmp::NAMES_V6 } else { icmp::NAMES_V4 };
    let echoes = if is_v6 {
        [icmp::V6_ECHO_REQUEST, icmp::V6_ECHO_REPLY]
    } else {
        [icmp::ECHO_REQUEST, icmp::ECHO_REPLY]
    };
    let is_echo = echoes.contains(&kind);
    match names.iter().find(|(_, number)| *number == kind) {
        Some((name, _)) if is_echo => format!("{} id {identifier}", name.replace('-', " ")),
        Some((name, _)) => format!("{name} {kind}/{code}"),
        None => format!("type {kind} code {code}"),
    }
}

/// The packet, as far as the program read it.
fn packet(parsed: &Parsed) -> Packet {
    let FlowKey { source, destination, protocol, source_port, destination_port } = parsed.flow;
    let transport = match protocol {
        Protocol::Tcp => Transport::Tcp {
            source: source_port,
            destination: destination_port,
            flags: parsed.flags,
            sequence: 0,
            acknowledgement: 0,
        },
        Protocol::Udp => Transport::Udp { source: source_port, destination: destination_port },
        Protocol::Sctp => Transport::Sctp { source: source_port, destination: destination_port },
        Protocol::Icmp | Protocol::Icmpv6 => {
            let (kind, code) = parsed.icmp.unwrap_or_default();
            let [high, low] = source_port.to_be_bytes();
            Transport::Icmp { kind, code, rest: [high, low, 0, 0] }
        }
        Protocol::Other(protocol) => Transport::Other { protocol },
    };
    let ip = IpHeader {
        source,
        destination,
        traffic_class: 0,
        ttl: parsed.ttl,
        id: 0,
        flow_label: 0,
        dont_fragment: false,
        fragment: parsed.fragment,
        options: Vec::new(),
        extensions: Vec::new(),
    };
    Packet { ip, transport, payload: Vec::new() }
}

/// The run as a journey's only hop.
pub(crate) fn hop(scene: &Scene, node: NodeId, run: &Run) -> Hop {
    let ifindex = run.end.map_or(0, |end| end.ifindex);
    let bytes = |snapshot: Option<&datapath::decode::Snapshot>| {
        snapshot.map(|snapshot| snapshot.bytes.clone()).unwrap_or_default()
    };
    Hop {
        node,
        hook: run.hook,
        device: device(scene, node, run.hook, ifindex),
        ifindex,
        events: run.events.clone(),
        frame_in: bytes(run.came.as_ref()),
        frame_out: bytes(run.left.as_ref().or(run.came.as_ref())),
        tunnel: None,
        undetermined: Vec::new(),
        time: None,
    }
}

/// The name of the device that a program hangs on.
fn device(scene: &Scene, node: NodeId, hook: Hook, ifindex: u32) -> String {
    let tables = scene.tables.node(node);
    match hook {
        Hook::FromContainer | Hook::ToContainer => {
            let entry = tables.and_then(|tables| tables.endpoint_at(ifindex));
            entry.map_or_else(|| format!("device {ifindex}"), |entry| entry.interface.clone())
        }
        Hook::FromOverlay | Hook::ToOverlay => {
            tables.map(|tables| tables.tunnel.device.clone()).unwrap_or_default()
        }
        Hook::FromHost | Hook::ToHost => datapath::follow::HOST_DEVICE.to_owned(),
        Hook::FromNetdev | Hook::ToNetdev | Hook::Prefilter => {
            scene.world.node(node).map(|node| node.device.clone()).unwrap_or_default()
        }
    }
}

fn side(scene: &Scene, address: IpAddr, name: &str, port: Option<u16>) -> Side {
    let (namespace, labels) = match scene.world.owner(address) {
        Some(Party::Pod(id)) => match scene.world.pod(id) {
            Some(pod) => (Some(pod.namespace.clone()), pod.labels.clone().into_iter().collect()),
            None => (None, BTreeMap::new()),
        },
        Some(Party::Service(id)) => {
            (scene.world.service(id).map(|service| service.namespace.clone()), BTreeMap::new())
        }
        _ => (None, BTreeMap::new()),
    };
    Side {
        name: name.to_owned(),
        namespace,
        labels,
        identity: None,
        meaning: String::new(),
        address: address.to_string(),
        port,
    }
}

/// The side with the identity that the program took it for.
fn known(side: Side, run: &Run, report: Option<&HopReport>, of_source: bool) -> Side {
    let identity = run.events.iter().find_map(|said| match said.event {
        Event::Identity { source_side, address, identity, .. } if source_side == of_source => {
            // A translated destination is another party than the one that the packet came for.
            (of_source || address.to_string() == side.address).then_some(identity)
        }
        _ => None,
    });
    let meaning = report.into_iter().flat_map(|report| &report.steps).find_map(|step| match step {
        Step::Identity { meaning, identity: told, .. } if of_source && Some(*told) == identity => {
            Some(meaning.clone())
        }
        Step::Ipcache { meaning, identity: told, .. } if !of_source && Some(*told) == identity => {
            Some(meaning.clone())
        }
        _ => None,
    });
    let reserved = || identity.and_then(Identity::reserved_name).unwrap_or_default().to_owned();
    Side { identity, meaning: meaning.unwrap_or_else(reserved), ..side }
}

/// What was done to the packet, and where it went on to.
fn told(report: &HopReport) -> Vec<Step> {
    let is_told = |step: &&Step| {
        !matches!(
            step,
            Step::Identity { .. }
                | Step::Ipcache { .. }
                | Step::Conntrack { .. }
                | Step::Policy { .. }
                | Step::Skipped { .. }
                | Step::Drop { .. }
        )
    };
    let told = report.steps.iter().filter(is_told).cloned();
    told.map(without_ttl).collect()
}

/// The lifetime is known where frames are captured only, and says nothing of what was decided.
fn without_ttl(mut step: Step) -> Step {
    if let Step::Deliver { ttl, .. } | Step::Network { ttl, .. } = &mut step {
        *ttl = None;
    }
    step
}

/// Whether the program only let the packet go on its way.
fn is_quiet(run: &Run, action: Option<Action>) -> bool {
    let passes = matches!(action, Some(Action::Pass | Action::Stack { .. }));
    let says = |event: &Event| {
        matches!(
            event,
            Event::Service { .. }
                | Event::Rewritten { .. }
                | Event::Encrypted { .. }
                | Event::Policy { .. }
        )
    };
    let at_device = matches!(
        run.hook,
        Hook::FromNetdev | Hook::ToNetdev | Hook::ToOverlay | Hook::ToHost | Hook::Prefilter
    );
    let is_unread = parsed(run).is_none();
    passes && (at_device || is_unread) && !run.events.iter().any(|said| says(&said.event))
}

/// Who really speaks: behind services and translations.
fn ends(
    scene: &Scene,
    run: &Run,
    parsed: Option<&Parsed>,
    (source, destination): (&Side, &Side),
) -> Ends {
    let name = |address: IpAddr| match scene.world.owner(address) {
        Some(Party::Pod(id)) => Some(scene.world.endpoint_name(Endpoint::Pod(id))),
        _ => None,
    };
    let mut ends = Ends {
        source: source.name.clone(),
        destination: destination.name.clone(),
        source_port: source.port,
        destination_port: destination.port,
        is_reply: matches!(conntrack(run), Some(CtState::Reply | CtState::Related)),
        is_received: matches!(
            action(run),
            Some(Action::Deliver { .. } | Action::Stack { host: true })
        ),
    };
    if parsed.is_none() {
        return ends;
    }
    for said in &run.events {
        let to = match said.event {
            Event::Service { backend: Some(backend), .. } => backend,
            Event::Rewritten {
                rewriting:
                    Rewriting::MasqueradeReply | Rewriting::NodePortReply | Rewriting::LoopbackReply,
                after,
                ..
            } => after,
            _ => continue,
        };
        if let Some(name) = name(to.address) {
            ends.destination = name;
            ends.destination_port = ends.destination_port.map(|_| to.port);
        }
    }
    ends
}
