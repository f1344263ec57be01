//! Every case file on the oracle alone: no privileges, no kernel. What only the datapath can say (tunnel,
//! identity numbers, the TTL on the wire) is `cases`' to check.

use engine::diag::Severity;
use engine::eval::{Asked, Choices, Judgement, Leg, Memory, judge};
use engine::net::Packet;
use engine::policy::{Policy, PolicySet};
use engine::question::{self, FollowUp, Question};
use engine::source::SourceMap;
use engine::topology::{Party, PodId, World};
use engine::trace::Place;
use engine::verdict::{LegOutcome, Origin, Verdict};
use lang::suite::{Case, Dialogue, Expectation, Fact, Reason, StepKind};
use repl::session::Sides;

use crate::tree::{cases, name, read, root};

#[test]
fn every_case_passes_on_the_oracle() {
    let mut failed = Vec::new();
    let mut checked = 0;
    for path in cases() {
        let mut sources = SourceMap::default();
        let entries = [(name(&path), read(&path))];
        let loaded = lang::load(&entries, &mut Files, &mut sources);
        let errors = loaded.diagnostics.iter().filter(|d| d.severity == Severity::Error);
        failed.extend(errors.map(|d| format!("{}: {}", name(&path), d.message)));
        for case in loaded.suites.iter().flat_map(|suite| &suite.cases) {
            let mut run = Run::new(&loaded.world, &loaded.policies);
            match case {
                Case::Flow(flow) => {
                    let place = sources.location(flow.span);
                    run.flow(&flow.question, &flow.expectation, &format!("{place} {}", flow.text));
                }
                // Frames are not the oracle's matter.
                Case::At(_) => {}
                Case::Dialogue(dialogue) => run.dialogue(dialogue, &sources),
            }
            checked += run.checked;
            failed.extend(run.misses);
        }
    }
    assert!(failed.is_empty(), "{} misses:\n{}", failed.len(), failed.join("\n"));
    assert!(checked > 300, "only {checked} expectations were found");
}

/// Includes of the case files, relative to the file that includes.
pub(crate) struct Files;

impl lang::Loader for Files {
    fn load(&mut self, path: &str, relative_to: &str) -> Result<(String, String), String> {
        let folder = root().join(relative_to).parent().map(|f| f.join(path));
        let file = folder.and_then(|f| f.canonicalize().ok()).ok_or("no such file")?;
        Ok((name(&file), read(&file)))
    }
}

/// What the oracle says where nothing has chosen before it, and what was chosen then: of several backends the wanted pod's,
/// else the first.
pub(crate) fn decide(
    world: &World,
    policies: &PolicySet,
    memory: &mut Memory,
    asked: &Asked<'_>,
    wanted: Option<PodId>,
) -> (Judgement, Choices) {
    let mut tried = memory.clone();
    let mut came = judge(world, policies, &mut tried, asked);
    // Where only its own node takes a backend, the packet that asks for it goes there.
    let pod = wanted.filter(|_| asked.choices.is_forced).and_then(|id| world.pod(id));
    let port = came.serving.as_ref().and_then(|serving| serving.candidates.first());
    if let (Some(pod), Some(port)) = (pod, port.map(|place| place.port)) {
        let v6 = asked.packet.ip.destination.is_ipv6();
        let hint = pod.addresses.iter().find(|own| own.is_ipv6() == v6);
        let hint = hint.map(|address| Place { address: *address, port });
        let choices = Choices { backend: hint, ..asked.choices };
        let there = judge(world, policies, &mut memory.clone(), &Asked { choices, ..*asked });
        came.serving = there.serving;
    }
    let candidates = came.serving.as_ref().map(|serving| &serving.candidates);
    let candidates = candidates.filter(|_| came.verdict == Verdict::Undecided);
    let Some(first) = candidates.and_then(|all| all.first().copied()) else {
        *memory = tried;
        return (came, asked.choices);
    };
    let wanted = wanted.and_then(|id| world.pod(id));
    let is_wanted = |place: &&Place| wanted.is_some_and(|p| p.addresses.contains(&place.address));
    let backend = candidates.and_then(|all| all.iter().find(is_wanted).copied()).unwrap_or(first);
    let choices = Choices { backend: Some(backend), ..asked.choices };
    (judge(world, policies, memory, &Asked { choices, ..*asked }), choices)
}

/// One case: its policies as they are now, the oracle's memory and the clock.
pub(crate) struct Run {
    world: World,
    policies: PolicySet,
    memory: Memory,
    now: u64,
    flow: Option<Flow>,
    /// Expectations held against an answer.
    pub(crate) checked: usize,
    /// What was expected and did not come.
    pub(crate) misses: Vec<String>,
}

/// The flow that follow-ups continue.
struct Flow {
    parties: (Party, Party),
    choose: Option<PodId>,
    first: Packet,
    latest: Packet,
    /// How the other side sees it, once a packet got there.
    sides: Option<Sides>,
}

impl Run {
    pub(crate) fn new(world: &World, policies: &PolicySet) -> Self {
        Self {
            world: world.clone(),
            policies: policies.clone(),
            memory: Memory::default(),
            now: 0,
            flow: None,
            checked: 0,
            misses: Vec::new(),
        }
    }

    fn judge(
        &mut self,
        (source, destination): (Party, Party),
        packet: &Packet,
        (asked, wanted): (Option<PodId>, Option<PodId>),
    ) -> Judgement {
        // What the question asks for counts before what the client had.
        let choices = Choices { is_forced: asked.is_some(), ..Choices::default() };
        let wanted = asked.or(wanted);
        let asked = Asked { source, destination, packet, now: self.now, choices };
        decide(&self.world, &self.policies, &mut self.memory, &asked, wanted).0
    }

    fn flow(&mut self, question: &Question, expectation: &Expectation, text: &str) {
        // A known flow's opening packets are the session's to send.
        if question.known.is_some() {
            return;
        }
        let (source, destination) = (question.source, question.destination);
        let wanted = (question.choose, named(expectation));
        let came = self.judge((source, destination), &question.packet, wanted);
        let sides = sides(&question.packet, &came).filter(|_| question.with_reply);
        let reply = sides.map(|sides| {
            let packet = question::reply(&sides.far(&question.packet));
            let parties = sides.parties(&self.world, source, destination);
            self.judge(parties, &packet, (None, None)).verdict
        });
        self.hold(expectation, (&question.packet, &came), reply, text);
    }

    /// Every step of a dialogue.
    pub(crate) fn dialogue(&mut self, dialogue: &Dialogue, sources: &SourceMap) {
        for step in &dialogue.steps {
            let sent = match &step.kind {
                StepKind::Wait(seconds) => {
                    self.now += seconds;
                    continue;
                }
                StepKind::Policy(policy) => {
                    self.change(&policy.handle, Some(policy));
                    continue;
                }
                StepKind::RemovePolicy(handle) => {
                    self.change(handle, None);
                    continue;
                }
                StepKind::World(world) => {
                    self.enter(world);
                    continue;
                }
                // What a frame leaves in conntrack nobody tells.
                StepKind::At(_) => return,
                StepKind::Flow { question, quote_last } => self.opening(question, *quote_last),
                StepKind::FollowUp(follow_up) => self.following(follow_up),
            };
            let text = format!("{} {}", sources.location(step.span), step.text);
            let Some((parties, packet, wanted)) = sent else {
                self.misses.push(format!("{text}: no flow came before"));
                return;
            };
            let wanted = (wanted, step.expectation.as_ref().and_then(named));
            let came = self.judge(parties, &packet, wanted);
            if let Some(flow) = self.flow.as_mut().filter(|flow| flow.latest == packet) {
                let seen = sides(&packet, &came);
                if has_backend(&came) {
                    flow.choose = None;
                }
                let is_later = packet.ip.fragment.is_later();
                flow.sides = if is_later { flow.sides.or(seen) } else { seen.or(flow.sides) };
            }
            if let Some(expectation) = &step.expectation {
                self.hold(expectation, (&packet, &came), None, &text);
            }
        }
    }

    fn change(&mut self, handle: &str, policy: Option<&Policy>) {
        let others = self.policies.iter().map(|(_, p)| p).filter(|p| p.handle != handle);
        self.policies = PolicySet::new(others.chain(policy).cloned().collect());
    }

    /// Goes on in another world. Who speaks in the flow is known by name.
    fn enter(&mut self, world: &World) {
        let earlier = std::mem::replace(&mut self.world, world.clone());
        let again = |party| world.again(party, &earlier);
        let Some(flow) = &mut self.flow else { return };
        let (from, to) = (flow.first.ip.source, flow.first.ip.destination);
        let (source, destination) = flow.parties;
        flow.parties = (
            again(source).unwrap_or(Party::Address(from)),
            again(destination).unwrap_or(Party::Address(to)),
        );
        flow.choose = flow.choose.and_then(|id| match again(Party::Pod(id)) {
            Some(Party::Pod(id)) => Some(id),
            _ => None,
        });
    }

    fn opening(&mut self, question: &Question, quote_last: bool) -> Option<Sent> {
        let parties = (question.source, question.destination);
        let mut packet = question.packet.clone();
        if quote_last {
            packet.payload = question::quote(&self.flow.as_ref()?.latest);
        } else {
            let (first, latest) = (packet.clone(), packet.clone());
            let choose = question.choose;
            self.flow = Some(Flow { parties, choose, first, latest, sides: None });
        }
        Some((parties, packet, question.choose))
    }

    /// The next packet of the flow. Whoever got the flow's packets speaks of it as they arrived.
    fn following(&mut self, follow_up: &FollowUp) -> Option<Sent> {
        let flow = self.flow.as_mut()?;
        let (source, destination) = flow.parties;
        let answers = match follow_up.error {
            Some(_) => question::from_opener(&flow.latest, &flow.first),
            None => follow_up.reply,
        };
        let sides = flow.sides.filter(|_| answers);
        let seen = |packet: &Packet| sides.map_or_else(|| packet.clone(), |s| s.far(packet));
        let packet = question::follow_up(&seen(&flow.first), &seen(&flow.latest), follow_up);
        if follow_up.error.is_none() {
            flow.latest = sides.map_or_else(|| packet.clone(), |s| s.near(&packet));
        }
        let parties = match sides {
            Some(sides) => sides.parties(&self.world, source, destination),
            None if answers => (destination, source),
            None => (source, destination),
        };
        Some((parties, packet, flow.choose.filter(|_| !answers)))
    }

    fn hold(
        &mut self,
        wanted: &Expectation,
        (packet, came): (&Packet, &Judgement),
        reply: Option<Verdict>,
        text: &str,
    ) {
        self.checked += 1;
        let deciding = deciding(came);
        let mut misses = Vec::new();
        let mut check = |met: bool, what: String| misses.extend((!met).then_some(what));
        // Of what goes on unseen the oracle says that it was let through until then.
        let unseen = wanted.verdict == Verdict::Undecided && came.verdict == Verdict::Allowed;
        check(unseen || wanted.verdict == came.verdict, format!("{}", wanted.verdict));
        match wanted.reason {
            Some(Reason::Outcome(outcome)) => {
                let met = deciding.is_some_and(|leg| leg.outcome == outcome);
                check(met, outcome.to_string());
            }
            Some(Reason::Drop(reason)) => check(came.reason == Some(reason), reason.to_string()),
            None => {}
        }
        if let Some((direction, of)) = wanted.place {
            let met = deciding.is_some_and(|leg| {
                leg.direction == direction && of.is_none_or(|party| party == leg.endpoint.party())
            });
            check(met, format!("at {direction}"));
        }
        for (fact, _) in &wanted.facts {
            check(self.shows(fact, packet, came, reply), format!("{fact:?}"));
        }
        let lines = misses.iter().map(|miss| format!("{text}: expected {miss}, came {came:?}"));
        self.misses.extend(lines);
    }

    fn shows(
        &self,
        fact: &Fact,
        packet: &Packet,
        came: &Judgement,
        reply: Option<Verdict>,
    ) -> bool {
        let names = |wanted: &dyn Fn(&Origin) -> bool| {
            came.legs.iter().any(|leg| leg.matching.iter().any(wanted))
        };
        match fact {
            Fact::By { policy, rule } => names(&|origin| match origin {
                Origin::Rule(id) => self.policies.rule(*id).is_some_and(|(p, r)| {
                    p.handle == *policy && rule.as_ref().is_none_or(|rule| r.name == *rule)
                }),
                Origin::Implied(_) => false,
            }),
            Fact::Implied(implied) => names(&|origin| *origin == Origin::Implied(*implied)),
            Fact::Conntrack(state) => came.legs.first().is_some_and(|leg| leg.state == *state),
            Fact::Leg(direction, outcome) => {
                let leg = came.legs.iter().find(|leg| leg.direction == *direction);
                leg.map_or(LegOutcome::NotReached, |leg| leg.outcome) == *outcome
            }
            Fact::Reply(verdict) => reply == Some(*verdict),
            Fact::Backend { pod, port } => came.serving.as_ref().is_some_and(|serving| {
                let pod = self.world.pod(*pod);
                serving.backend.is_some_and(|place| {
                    pod.is_some_and(|pod| pod.addresses.contains(&place.address))
                        && port.is_none_or(|port| port == place.port)
                })
            }),
            Fact::Arrives(wanted) => came.arrives.is_none_or(|(source, destination)| {
                let end = if wanted.of_source { source } else { destination };
                end.address == wanted.address && wanted.port.is_none_or(|port| port == end.port)
            }),
            Fact::NoBackend => came.serving.as_ref().is_some_and(|s| s.backend.is_none()),
            Fact::Snat(address) => came.arrives.is_none_or(|(from, _)| from.address == *address),
            Fact::NotSnat => came.arrives.is_none_or(|(from, _)| from.address == packet.ip.source),
            // What the packet is on its way is the datapath's to say.
            Fact::Tunneled(_)
            | Fact::NotTunneled
            | Fact::Identity(_)
            | Fact::Ttl(_)
            | Fact::Encrypted
            | Fact::NotEncrypted => true,
        }
    }
}

/// Whether the packet got past the node that chose its backend, so that the flow has that one.
fn has_backend(came: &Judgement) -> bool {
    let Some(serving) = came.serving.as_ref().filter(|s| s.backend.is_some()) else { return false };
    came.verdict != Verdict::Dropped || deciding(came).is_some_and(|leg| leg.node != serving.node)
}

/// A packet on its way, with its parties and the backend that a service shall choose.
type Sent = ((Party, Party), Packet, Option<PodId>);

/// The backend that an expectation names. Which one is taken where the question forces none is the datapath's to say; the oracle
/// must admit it.
fn named(expectation: &Expectation) -> Option<PodId> {
    expectation.facts.iter().find_map(|(fact, _)| match fact {
        Fact::Backend { pod, .. } => Some(*pod),
        _ => None,
    })
}

/// The two views of a flow, of a packet of it that got through.
pub(crate) fn sides(packet: &Packet, came: &Judgement) -> Option<Sides> {
    let arrived = came.arrives.filter(|_| came.verdict == Verdict::Allowed)?;
    Some(Sides::arrived(packet, arrived))
}

/// The direction that settled the verdict: the one that dropped, else the last.
fn deciding(came: &Judgement) -> Option<&Leg> {
    let drops = |leg: &&Leg| matches!(leg.outcome, LegOutcome::Deny | LegOutcome::DefaultDeny);
    came.legs.iter().find(drops).or(came.legs.last())
}
