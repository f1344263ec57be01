//! A dialogue: steps that share conntrack, clock, world and policies. A change works on a copy of the
//! session's world and policies that ends with the case.

use engine::backend::BackendError;
use engine::compile::compile;
use engine::explain::{Explanation, HopReport, Known, KnownChange, Step as Event};
use engine::net::Packet;
use engine::policy::{Policy, PolicySet};
use engine::question::{self, FollowUp, Question};
use engine::tables::Tables;
use engine::topology::{Party, PodId, World};
use engine::trace::Choice;
use lang::suite::{Dialogue, RawQuestion, Step, StepKind};

use super::run::{self, Ran, Runner, quoted};
use super::{Miss, Outcome, StepReport};
use crate::session::{Opened, Sides, Stage};

/// The flow that follow-ups continue, as the side that opened it sees it.
struct Flow {
    source: Party,
    destination: Party,
    /// The backend that the question asks for, until the flow has it.
    choose: Option<PodId>,
    first: Packet,
    latest: Packet,
    /// How the other side sees it, once a packet got there.
    sides: Option<Sides>,
}

/// World and policies after a step changed one of them, and what they compile to.
struct Changed {
    world: World,
    policies: PolicySet,
    tables: Tables,
}

/// Runs the steps until one goes wrong.
pub(super) fn run(
    runner: &mut Runner<'_, '_>,
    dialogue: &Dialogue,
    name: &str,
) -> Result<Ran, BackendError> {
    let started = runner.journey.now;
    let (known, steps) = (Known::new(), Vec::new());
    let mut talk = Talk { runner, name, flow: None, changed: None, known, steps };
    let mut ran =
        Ran { outcome: Outcome::Passed, misses: Vec::new(), checked: 0, steps: Vec::new() };
    for step in &dialogue.steps {
        ran.checked += usize::from(step.expectation.is_some());
        let (outcome, miss) = talk.step(step)?;
        if outcome != Outcome::Passed {
            ran.outcome = outcome;
            ran.misses.extend(miss);
            break;
        }
    }
    ran.steps = talk.steps;
    talk.runner.journey.now = started;
    Ok(ran)
}

struct Talk<'t, 'a, 'j> {
    runner: &'t mut Runner<'a, 'j>,
    name: &'t str,
    flow: Option<Flow>,
    changed: Option<Changed>,
    /// Conntrack when it was last told.
    known: Known,
    /// The steps that were run.
    steps: Vec<StepReport>,
}

type Outcomes = (Outcome, Option<Miss>);

/// How a flow of a step begins.
enum Begun {
    /// With this question.
    As(Box<Question>),
    /// An opening packet did not get through, and this is its answer.
    Refused(Box<Explanation>),
    /// No program sees the packet, for this reason.
    Unseen(String),
}

impl Talk<'_, '_, '_> {
    fn step(&mut self, step: &Step) -> Result<Outcomes, BackendError> {
        match &step.kind {
            StepKind::Flow { question, quote_last } => match self.known(question)? {
                Begun::As(question) => {
                    let question = self.opening(&question, *quote_last);
                    self.send(step, &question)
                }
                Begun::Refused(answer) => self.answered(step, *answer),
                Begun::Unseen(reason) => Ok(self.broken(step, vec![reason])),
            },
            StepKind::At(question) => self.enters(step, question),
            StepKind::FollowUp(follow_up) => match self.following(follow_up) {
                Some(question) => self.send(step, &question),
                None => Ok(self.broken(step, vec!["no flow came before".to_owned()])),
            },
            StepKind::Wait(seconds) => {
                self.runner.journey.now += seconds;
                let known = self.told()?;
                self.steps.push(StepReport { step: step.text.clone(), verdict: None, known });
                Ok((Outcome::Passed, None))
            }
            StepKind::Policy(policy) => self.change(step, &policy.handle, Some(policy)),
            StepKind::RemovePolicy(handle) => self.change(step, handle, None),
            StepKind::World(world) => self.enter(step, world),
        }
    }

    /// The question after the packets that make its flow a known one, where it wants that.
    fn known(&mut self, question: &Question) -> Result<Begun, BackendError> {
        let stage = stage(self.runner.stage, self.changed.as_ref());
        match self.runner.journey.begin(&stage, question) {
            Ok(Opened::As(question)) => Ok(Begun::As(question)),
            Ok(Opened::Refused(answer)) => Ok(Begun::Refused(answer)),
            Err(error @ (BackendError::BadInjection(_) | BackendError::Unhostable { .. })) => {
                Ok(Begun::Unseen(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// A flow of its own; an error about the latest packet leaves that packet's flow to go on with.
    fn opening(&mut self, question: &Question, quote_last: bool) -> Question {
        let mut question = question.clone();
        if quote_last {
            if let Some(flow) = &self.flow {
                question.packet.payload = question::quote(&flow.latest);
            }
            return question;
        }
        self.flow = Some(Flow {
            source: question.source,
            destination: question.destination,
            choose: question.choose,
            first: question.packet.clone(),
            latest: question.packet.clone(),
            sides: None,
        });
        question
    }

    /// The next packet of the flow, and whose it is. Whoever got the flow's packets speaks of it as they arrived.
    fn following(&mut self, follow_up: &FollowUp) -> Option<Question> {
        let world = stage(self.runner.stage, self.changed.as_ref()).world;
        let flow = self.flow.as_mut()?;
        // An error comes from whoever got the latest packet.
        let answers = match follow_up.error {
            Some(_) => question::from_opener(&flow.latest, &flow.first),
            None => follow_up.reply,
        };
        let sides = flow.sides.filter(|_| answers);
        let seen = |packet: &Packet| match &sides {
            Some(sides) => sides.far(packet),
            None => packet.clone(),
        };
        let packet = question::follow_up(&seen(&flow.first), &seen(&flow.latest), follow_up);
        let (source, destination) = match &sides {
            Some(sides) => sides.parties(world, flow.source, flow.destination),
            None if answers => (flow.destination, flow.source),
            None => (flow.source, flow.destination),
        };
        if follow_up.error.is_none() {
            flow.latest = sides.map_or_else(|| packet.clone(), |sides| sides.near(&packet));
        }
        Some(Question {
            choose: flow.choose.filter(|_| !answers),
            ..Question::of(source, destination, packet)
        })
    }

    fn send(&mut self, step: &Step, question: &Question) -> Result<Outcomes, BackendError> {
        let stage = stage(self.runner.stage, self.changed.as_ref());
        let explanation = match run::answer(self.runner.journey, &stage, question)? {
            Ok(explanation) => explanation,
            Err(reason) => return Ok(self.broken(step, vec![reason])),
        };
        if let Some(flow) = &mut self.flow
            && question.packet == flow.latest
        {
            // From then on the backend is the flow's, as conntrack has it: while it drains, too.
            if explanation.hops.iter().any(has_chosen) {
                flow.choose = None;
            }
            let seen = Sides::of(&question.packet, &explanation);
            // A later fragment shows no ports.
            let is_later = question.packet.ip.fragment.is_later();
            flow.sides = if is_later { flow.sides.or(seen) } else { seen.or(flow.sides) };
        }
        self.answered(step, explanation)
    }

    /// A packet at a hook, which leaves the flow alone.
    fn enters(&mut self, step: &Step, question: &RawQuestion) -> Result<Outcomes, BackendError> {
        let stage = stage(self.runner.stage, self.changed.as_ref());
        match run::answer_at(self.runner.journey, &stage, question)? {
            Ok(explanation) => self.answered(step, explanation),
            Err(reason) => Ok(self.broken(step, vec![reason])),
        }
    }

    /// Holds the answer to a step against what is expected of it.
    fn answered(&mut self, step: &Step, answer: Explanation) -> Result<Outcomes, BackendError> {
        let explanation = Explanation { known: self.told()?, ..answer };
        self.steps.push(StepReport {
            step: step.text.clone(),
            verdict: Some(explanation.verdict),
            known: explanation.known.clone(),
        });
        let Some(expectation) = &step.expectation else { return Ok((Outcome::Passed, None)) };
        let command = self.command();
        Ok(self.runner.verdict(
            stage(self.runner.stage, self.changed.as_ref()).world,
            (&step.text, step.span),
            expectation,
            explanation,
            command,
        ))
    }

    /// What changed in conntrack since it was last told.
    fn told(&mut self) -> Result<Vec<KnownChange>, BackendError> {
        let stage = stage(self.runner.stage, self.changed.as_ref());
        self.runner.journey.tell(&stage, &mut self.known)
    }

    /// Replaces or (`None`) removes a policy.
    fn change(
        &mut self,
        step: &Step,
        handle: &str,
        policy: Option<&Policy>,
    ) -> Result<Outcomes, BackendError> {
        let before = stage(self.runner.stage, self.changed.as_ref()).policies;
        let known = before.iter().any(|(_, p)| p.handle == handle);
        if policy.is_none() && !known {
            return Ok(self.broken(step, vec![format!("there is no policy `{handle}`")]));
        }
        let others = before.iter().map(|(_, p)| p).filter(|p| p.handle != handle);
        let policies = PolicySet::new(others.chain(policy).cloned().collect());
        let world = stage(self.runner.stage, self.changed.as_ref()).world.clone();
        self.adopt(step, world, policies)
    }

    /// Goes on in another world. Who speaks in the flow is known by name.
    fn enter(&mut self, step: &Step, world: &World) -> Result<Outcomes, BackendError> {
        let before = stage(self.runner.stage, self.changed.as_ref());
        let again = |party| world.again(party, before.world);
        if let Some(flow) = &mut self.flow {
            let (from, to) = (flow.first.ip.source, flow.first.ip.destination);
            flow.source = again(flow.source).unwrap_or(Party::Address(from));
            flow.destination = again(flow.destination).unwrap_or(Party::Address(to));
            flow.choose = match flow.choose.and_then(|id| again(Party::Pod(id))) {
                Some(Party::Pod(id)) => Some(id),
                _ => None,
            };
        }
        let policies = before.policies.clone();
        self.adopt(step, world.clone(), policies)
    }

    fn adopt(
        &mut self,
        step: &Step,
        world: World,
        policies: PolicySet,
    ) -> Result<Outcomes, BackendError> {
        let generation = (self.runner.generations)();
        match compile(&world, &policies, generation) {
            Ok(tables) => {
                match self.runner.journey.backend.load_world(&world, &tables) {
                    Err(error @ BackendError::Unhostable { .. }) => {
                        return Ok(self.broken(step, vec![error.to_string()]));
                    }
                    loaded => loaded?,
                }
                self.changed = Some(Changed { world, policies, tables });
                let known = self.told()?;
                self.steps.push(StepReport { step: step.text.clone(), verdict: None, known });
                Ok((Outcome::Passed, None))
            }
            Err(problems) => {
                let reasons = problems.iter().map(|d| format!("{}: {}", d.code, d.message));
                Ok(self.broken(step, reasons.collect()))
            }
        }
    }

    fn broken(&self, step: &Step, reasons: Vec<String>) -> Outcomes {
        let miss = self.runner.broken(&step.text, step.span, reasons, self.command());
        (Outcome::Broken, Some(miss))
    }

    fn command(&self) -> String {
        format!("hopwise test{} --run {}", self.runner.files, quoted(self.name))
    }
}

/// Whether a hop sent the packet on to the backend that the question asks for.
fn has_chosen(hop: &HopReport) -> bool {
    let is_forced = |step: &Event| matches!(step, Event::Service { choice: Choice::Forced, .. });
    let drops = |step: &Event| matches!(step, Event::Drop { .. });
    hop.steps.iter().any(is_forced) && !hop.steps.iter().any(drops)
}

/// The session's state with the policies of the dialogue.
fn stage<'s>(base: &Stage<'s>, changed: Option<&'s Changed>) -> Stage<'s> {
    match changed {
        Some(Changed { world, policies, tables }) => Stage { world, policies, tables, ..*base },
        None => *base,
    }
}
