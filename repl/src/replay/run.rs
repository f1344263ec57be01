//! The run itself: packet after packet into its flow and through the datapath, the oracle beside it. Explains only where
//! something is said that was not said about the flow before, which is what makes it quick.

use std::collections::BTreeMap;
use std::time::Duration;

use datapath::follow::{follow, follow_from};
use engine::backend::BackendError;
use engine::eval::{Asked, Judgement, Memory, judge};
use engine::explain::{Agreement, PacketReport, choices, ends, explain};
use engine::net::Packet;
use engine::question::Question;
use engine::topology::{Party, TunnelKind};
use engine::trace::Trace;

use super::Options;
use super::again::Again;
use super::chosen::Chosen;
use super::duplicates::Duplicates;
use super::flows::{self, Ends, Table};
use super::peel::{Seen, Skip, peel};
use super::report::{FlowVerdict, Report, Skipped, Summary};
use super::sort::{self, Vni};
use super::tracked::{Said, Standing, Tracked, of_judgement, of_trace};
use crate::pcap::{Captured, Held, Unreadable};
use crate::session::{Interrupt, Journey, Sides, Stage};

/// The simulated clock at the first packet, in seconds.
const START: u64 = 1000;
/// A capture is no longer than this, whatever its times say: 50 years, in seconds.
const LONGEST: u64 = 50 * 365 * 24 * 3600;

/// Views of a flow beside that of who opened it.
const MOST_VIEWS: usize = 4;

/// Replays a capture on conntrack that knows of no flow, and leaves it so.
pub(crate) fn run(
    stage: &Stage<'_>,
    journey: &mut Journey<'_>,
    packets: impl Iterator<Item = Result<Captured, Unreadable>>,
    (held, files): (&Held, Vec<String>),
    (options, chosen): (Options, Chosen),
    interrupt: &Interrupt,
) -> Result<Report, BackendError> {
    journey.backend.load(stage.tables)?;
    journey.forget()?;
    let mut replay = Replay::new(stage, options, chosen);
    let mut damaged = None;
    for packet in packets {
        if interrupt.is_set() {
            replay.summary.interrupted = true;
            break;
        }
        match packet {
            Ok(captured) => replay.take(journey, &captured)?,
            Err(problem) => damaged = Some(problem.message),
        }
    }
    journey.forget()?;
    let mut report = replay.told(held);
    report.files = files;
    report.summary.backend = journey.backend.name();
    report.summary.damaged = damaged;
    Ok(report)
}

struct Replay<'a> {
    stage: &'a Stage<'a>,
    options: Options,
    chosen: Chosen,
    ports: Vec<(TunnelKind, u16)>,
    table: Table,
    flows: Vec<Tracked>,
    duplicates: Duplicates,
    skipped: BTreeMap<Skip, (u64, u64)>,
    summary: Summary,
    begin: Option<Duration>,
    latest: Duration,
}

/// A packet on its way into a flow.
struct Placed {
    flow: usize,
    /// Whether it is of the side that sent the flow's first packet.
    is_forward: bool,
}

impl<'a> Replay<'a> {
    fn new(stage: &'a Stage<'a>, options: Options, chosen: Chosen) -> Self {
        let tunnel = &stage.world.cluster.tunnel;
        Self {
            stage,
            options,
            chosen,
            ports: vec![(tunnel.kind, tunnel.port)],
            table: Table::default(),
            flows: Vec::new(),
            duplicates: Duplicates::default(),
            skipped: BTreeMap::new(),
            summary: Summary::default(),
            begin: None,
            latest: Duration::ZERO,
        }
    }

    fn take(&mut self, journey: &mut Journey<'_>, captured: &Captured) -> Result<(), BackendError> {
        self.summary.packets += 1;
        self.pass_time(captured.time);
        let seen = match peel(captured, &self.ports) {
            Ok(seen) => seen,
            Err(skip) => {
                self.skip(skip, captured.number);
                return Ok(());
            }
        };
        self.summary.tunneled += u64::from(seen.tunnel.is_some());
        self.summary.tagged += u64::from(seen.is_tagged);
        let Some(placed) = self.place(&seen, captured.number) else {
            self.skip(Skip::BeyondLimit, captured.number);
            return Ok(());
        };
        let key = (placed.flow, placed.is_forward, seen.content);
        if self.duplicates.is_one(key, seen.vantage, self.latest) {
            self.flows[placed.flow].is_tunneled |= seen.tunnel.is_some();
            self.skip(Skip::Duplicate, captured.number);
            return Ok(());
        }
        self.enter(journey, &seen, &placed, captured.number)
    }

    fn skip(&mut self, what: Skip, number: u64) {
        self.skipped.entry(what).or_insert((0, number)).0 += 1;
    }

    /// The clock follows the capture's, and never goes back.
    fn pass_time(&mut self, time: Option<Duration>) {
        let Some(time) = time else { return };
        let begin = *self.begin.get_or_insert(time);
        let since = time.saturating_sub(begin).min(Duration::from_secs(LONGEST));
        if since < self.latest || time < begin {
            self.summary.out_of_order += 1;
        }
        self.latest = self.latest.max(since);
    }

    fn now(&self) -> u64 {
        START + self.latest.as_secs()
    }

    /// The flow of a packet, a new one where it is of none; `None` where there is no room for one.
    fn place(&mut self, seen: &Seen, number: u64) -> Option<Placed> {
        let packet = &seen.packet;
        let ends = self.table.ends(packet);
        let own = ends.unwrap_or_else(|| flows::ends_with(packet, (0, 0)));
        // An error is of the flow that it tells of, and goes to who sent the packet.
        let quoted = flows::quoted(packet);
        let ends = quoted.unwrap_or(own);
        if let Some(flow) = self.table.find(&ends.key()) {
            let known = &self.flows[flow];
            let anew = flows::is_opening(packet)
                && (known.is_closed
                    || matches!(known.standing, Standing::Begun(_) | Standing::Lacking(_)));
            if !anew {
                let is_forward = known.is_forward(ends) != quoted.is_some();
                return Some(Placed { flow, is_forward });
            }
        }
        if self.flows.len() >= self.options.flow_limit {
            return None;
        }
        let flow = self.flows.len();
        self.flows.push(self.begun(seen, own, number));
        // What an error tells of is another flow, should it come.
        self.table.put(own.key(), flow);
        Some(Placed { flow, is_forward: true })
    }

    /// A new flow.
    fn begun(&self, seen: &Seen, ends: Ends, number: u64) -> Tracked {
        let world = self.stage.world;
        let packet = &seen.packet;
        let parties =
            (sort::party(world, packet.ip.source), sort::party(world, packet.ip.destination));
        let by_tunnel = seen.tunnel.is_some();
        let strange = !sort::is_known(world, parties.0) && !sort::is_known(world, parties.1);
        let standing = if strange && !by_tunnel {
            Standing::Strange
        } else if matches!(parties.0, Party::Service(_)) {
            Standing::Lacking("an answer of a service whose request is not there")
        } else {
            flows::began_before(packet).map_or(Standing::Whole, Standing::Begun)
        };
        let mut flow = Tracked::new(number, ends, parties, standing, in_words(packet));
        let nobody =
            |party: &Party| matches!(party, Party::Address(_)) && sort::is_known(world, *party);
        let unknown = [parties.0, parties.1].into_iter().filter(nobody);
        flow.unknown = unknown
            .filter_map(|party| match party {
                Party::Address(address) => Some(address.to_string()),
                _ => None,
            })
            .collect();
        flow
    }

    /// Counts a packet and sends it.
    fn enter(
        &mut self,
        journey: &mut Journey<'_>,
        seen: &Seen,
        placed: &Placed,
        number: u64,
    ) -> Result<(), BackendError> {
        let flow = &mut self.flows[placed.flow];
        let is_translated = flow.sides.is_some_and(|sides| sides.is_translated());
        if is_translated && flows::is_error(&seen.packet) {
            self.skip(Skip::Translated, number);
            return Ok(());
        }
        flow.counts[usize::from(!placed.is_forward)] += 1;
        flow.bytes += seen.length;
        flow.is_tunneled |= seen.tunnel.is_some();
        flow.is_closed |= flows::is_end(&seen.packet);
        self.summary.counted += 1;
        self.summary.bytes += seen.length;
        // What the datapath dropped nobody would have answered.
        let is_unsent = !placed.is_forward && flow.is_unopened();
        if !flow.runs() || is_unsent {
            return Ok(());
        }
        match self.send(journey, seen, placed, number) {
            Err(BackendError::BadInjection(why)) => {
                let flow = &mut self.flows[placed.flow];
                if flow.is_silent() {
                    flow.standing = Standing::Unseen(why);
                }
                Ok(())
            }
            sent => sent,
        }
    }

    fn send(
        &mut self,
        journey: &mut Journey<'_>,
        seen: &Seen,
        placed: &Placed,
        number: u64,
    ) -> Result<(), BackendError> {
        let Stage { world, tables, .. } = *self.stage;
        let now = self.now();
        let flow = &mut self.flows[placed.flow];
        let mut question = flow.question(self.stage, &seen.packet, placed.is_forward);
        question.choose = self.chosen.backend(number).filter(|_| flow.is_silent());
        let vni = sort::vni(tables, question.source, seen.tunnel);
        self.summary.other_identity += u64::from(vni == Vni::Differs);
        let raw = (vni == Vni::Tells)
            .then(|| sort::at_tunnel(world, tables, seen, &question.packet))
            .flatten();
        let trace = match &raw {
            Some(raw) => follow_from(journey.backend, world, tables, raw, now)?,
            None => followed(journey, self.stage, &mut question, now)?,
        };
        flow.is_told &= raw.is_none();
        let judgement =
            flow.is_told.then(|| judged(self.stage, journey.memory, &question, &trace, now));
        let said = (of_trace(&trace), judgement.as_ref().map(of_judgement));
        let last = &mut flow.last[usize::from(!placed.is_forward)];
        if let Some(before) = last.filter(|before| (before.trace, before.judgement) == said) {
            flow.count(before.verdict);
            return Ok(());
        }
        let explained = explain(&self.stage.context(), &question, &trace, judgement.as_ref());
        let explanation = explained
            .ok_or_else(|| BackendError::BadEvent("the trace has no beginning".to_owned()))?;
        let verdict = explanation.verdict;
        *last = Some(Said { trace: said.0, judgement: said.1, verdict });
        flow.count(verdict);
        if flow.sides.is_none() && placed.is_forward {
            flow.sides = Sides::of(&question.packet, &explanation);
        }
        let is_held = seen.is_frame && question.packet == seen.packet;
        flow.learn(number, explanation, |explanation| match raw.and_then(|raw| raw.tunnel) {
            Some(key) => Again::out_of(explanation, &question.packet, key),
            None => Again::sent(explanation, &question.packet, is_held),
        });
        if placed.is_forward {
            self.know_views(placed.flow, &trace);
        }
        Ok(())
    }

    /// Packets of a translated flow are found by how they look anywhere on their way, too.
    fn know_views(&mut self, flow: usize, trace: &Trace) {
        let known = &mut self.flows[flow];
        let hops = trace.hops.iter().filter(|hop| !hop.is_outer());
        let inside = hops
            .flat_map(|hop| [Some(&hop.frame_in), hop.tunnel.is_none().then_some(&hop.frame_out)]);
        for seen in inside.flatten().filter_map(|frame| ends(frame)).filter(|ends| ends.has_ports) {
            let (source, destination) = (seen.source, seen.destination);
            let view = Ends { protocol: seen.protocol.number(), source, destination };
            let pair = (source, destination);
            if view != known.ends
                && !known.between.contains(&pair)
                && known.between.len() < MOST_VIEWS
            {
                known.between.push(pair);
                self.table.add(view.key(), flow);
            }
        }
    }

    fn told(self, held: &Held) -> Report {
        let strict = self.options.strict;
        let file = held.again();
        let flows: Vec<_> = self.flows.iter().map(|flow| flow.told(file, strict)).collect();
        let mut summary = self.summary;
        for flow in &flows {
            summary.add(flow.now.verdict);
            let is_dropped = flow.now.verdict == FlowVerdict::Dropped;
            summary.answered += u64::from(is_dropped && flow.answers > 0);
            summary.single += u64::from(
                flow.now.agreement == Agreement::Single && !flow.now.decided_by.is_empty(),
            );
            summary.divergent += u64::from(flow.now.divergence.is_some());
        }
        let skipped = self.skipped.into_iter().map(|(what, (packets, first))| Skipped {
            what: what.to_string(),
            packets,
            first,
        });
        summary.skipped = skipped.collect();
        summary.milliseconds = u64::try_from(self.latest.as_millis()).unwrap_or(u64::MAX);
        summary.flow_limit = self.options.flow_limit as u64;
        summary.strict = strict;
        summary.profile = self.stage.world.cluster.profile.to_string();
        let file = held.name().to_owned();
        Report { file, files: Vec::new(), policy: None, flows, summary }
    }
}

/// Sends a packet to the backend that it went to, or where the service has that no more, to one of its own choice.
fn followed(
    journey: &mut Journey<'_>,
    stage: &Stage<'_>,
    question: &mut Question,
    now: u64,
) -> Result<Trace, BackendError> {
    let sent = follow(journey.backend, stage.world, stage.tables, question, now);
    match sent {
        Err(BackendError::BadInjection(_)) if question.choose.take().is_some() => {
            follow(journey.backend, stage.world, stage.tables, question, now)
        }
        sent => sent,
    }
}

/// What the oracle says, and remembers, of a packet.
fn judged(
    stage: &Stage<'_>,
    memory: &mut Memory,
    question: &Question,
    trace: &Trace,
    now: u64,
) -> Judgement {
    let asked = Asked {
        source: question.source,
        destination: question.destination,
        packet: &question.packet,
        now,
        choices: choices(trace),
    };
    judge(stage.world, stage.policies, memory, &asked)
}

impl Tracked {
    /// Whether a packet with these ends is of the side that sent the first one, as either side sees it.
    fn is_forward(&self, ends: Ends) -> bool {
        let near = self.ends;
        if ends.source == near.source && ends.destination == near.destination {
            return true;
        }
        if ends.source == near.destination && ends.destination == near.source {
            return false;
        }
        let pair = (ends.source, ends.destination);
        self.between.contains(&pair)
            || self.sides.is_some_and(|sides| sides.is_from_near(pair.0, pair.1))
    }

    /// The question of a packet as whoever sends it sees it.
    fn question(&self, stage: &Stage<'_>, packet: &Packet, is_forward: bool) -> Question {
        let mut packet = packet.clone();
        let (mut source, mut destination) = (self.source, self.destination);
        if !is_forward {
            (source, destination) = (destination, source);
        }
        if let Some(sides) = &self.sides {
            packet = sides.sent(&packet, &self.between, is_forward);
            if !is_forward {
                (source, destination) = sides.parties(stage.world, self.source, self.destination);
            }
        }
        if flows::is_error(&packet) {
            // Anybody on the way may tell.
            source = sort::party(stage.world, packet.ip.source);
        }
        Question::of(source, destination, packet)
    }
}

/// A packet by its addresses, as long as no explanation names them.
fn in_words(packet: &Packet) -> PacketReport {
    let (source, destination) = (packet.ip.source.to_string(), packet.ip.destination.to_string());
    let has_ports = packet.protocol().has_ports() && !packet.ip.fragment.is_later();
    let (from, to) = packet.transport.ports();
    PacketReport {
        source: source.clone(),
        source_address: source,
        source_port: has_ports.then_some(from),
        destination: destination.clone(),
        destination_address: destination,
        destination_port: has_ports.then_some(to),
        protocol: Some(packet.protocol()),
        detail: String::new(),
    }
}
