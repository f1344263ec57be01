//! A dialogue: steps that share conntrack, clock and policies. A policy change works on a copy of the
//! session's policies that ends with the case.

use engine::backend::BackendError;
use engine::compile::compile;
use engine::explain::{Known, KnownChange, changes};
use engine::net::Packet;
use engine::policy::{Policy, PolicySet};
use engine::question::{self, FollowUp, Question};
use engine::tables::Tables;
use engine::topology::{Party, PodId};
use lang::suite::{Dialogue, Step, StepKind};

use super::run::{self, Ran, Runner, quoted};
use super::{Miss, Outcome, StepReport};
use crate::session::{Sides, Stage};

/// The flow that follow-ups continue, as the side that opened it sees it.
struct Flow {
    source: Party,
    destination: Party,
    choose: Option<PodId>,
    first: Packet,
    latest: Packet,
    /// How the other side sees it, once a packet got there.
    sides: Option<Sides>,
}

/// The policies that a step changed, and what they compile to.
struct Changed {
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

impl Talk<'_, '_, '_> {
    fn step(&mut self, step: &Step) -> Result<Outcomes, BackendError> {
        match &step.kind {
            StepKind::Flow { question, quote_last } => {
                let question = self.opening(question, *quote_last);
                self.send(step, &question)
            }
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
        let world = self.runner.stage.world;
        let flow = self.flow.as_mut()?;
        // An error comes from whoever got the latest packet.
        let from_near = |packet: &Packet| {
            (packet.ip.source, packet.ports()) == (flow.first.ip.source, flow.first.ports())
        };
        let answers =
            if follow_up.error.is_some() { from_near(&flow.latest) } else { follow_up.reply };
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
            source,
            destination,
            packet,
            with_reply: false,
            choose: flow.choose.filter(|_| !answers),
            known: None,
            assumed: Vec::new(),
            undetermined: Vec::new(),
        })
    }

    fn send(&mut self, step: &Step, question: &Question) -> Result<Outcomes, BackendError> {
        let stage = stage(self.runner.stage, self.changed.as_ref());
        let mut explanation = match run::answer(self.runner.journey, &stage, question)? {
            Ok(explanation) => explanation,
            Err(reason) => return Ok(self.broken(step, vec![reason])),
        };
        if let Some(flow) = &mut self.flow
            && question.packet == flow.latest
        {
            flow.sides = Sides::of(&question.packet, &explanation).or(flow.sides);
        }
        explanation.known = self.told()?;
        self.steps.push(StepReport {
            step: step.text.clone(),
            verdict: Some(explanation.verdict),
            known: explanation.known.clone(),
        });
        let Some(expectation) = &step.expectation else { return Ok((Outcome::Passed, None)) };
        let command = self.command();
        Ok(self.runner.verdict(&step.text, step.span, expectation, explanation, command))
    }

    /// What changed in conntrack since it was last told.
    fn told(&mut self) -> Result<Vec<KnownChange>, BackendError> {
        let stage = stage(self.runner.stage, self.changed.as_ref());
        let known = self.runner.journey.known(stage.world)?;
        let changed = changes(&stage.context(), &self.known, &known);
        self.known = known;
        Ok(changed)
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
        let generation = (self.runner.generations)();
        match compile(self.runner.stage.world, &policies, generation) {
            Ok(tables) => {
                self.runner.journey.backend.load(&tables)?;
                self.changed = Some(Changed { policies, tables });
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

/// The session's state with the policies of the dialogue.
fn stage<'s>(base: &Stage<'s>, changed: Option<&'s Changed>) -> Stage<'s> {
    match changed {
        Some(changed) => Stage { policies: &changed.policies, tables: &changed.tables, ..*base },
        None => *base,
    }
}
