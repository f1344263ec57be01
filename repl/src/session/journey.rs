//! One question through both opinions: the datapath hop by hop, the oracle beside it, joined into an
//! explanation. Owns the order of these steps only.

use datapath::follow::follow;
use engine::backend::{Backend, BackendError};
use engine::eval::{Asked, Memory, judge};
use engine::explain::{
    Agreement, Context, Explanation, Known as KnownFlows, changes, choices, explain,
};
use engine::policy::PolicySet;
use engine::question::{self, Known, Question};
use engine::source::SourceMap;
use engine::tables::Tables;
use engine::topology::World;

use super::opening::{self, Turn};
use super::sides::{Sides, reply_to};

/// What questions are asked about.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    /// The world.
    pub(crate) world: &'a World,
    /// The policies.
    pub(crate) policies: &'a PolicySet,
    /// What they compile to.
    pub(crate) tables: &'a Tables,
    /// Texts, for places.
    pub(crate) sources: &'a SourceMap,
}

impl<'a> Stage<'a> {
    /// What explanations are made from.
    pub(crate) fn context(&self) -> Context<'a> {
        let Stage { world, policies, tables, sources } = *self;
        Context { world, policies, tables, sources }
    }
}

/// What packets leave traces in: the datapath's conntrack, the oracle's memory, the clock.
pub(crate) struct Journey<'a> {
    /// The datapath.
    pub(crate) backend: &'a mut dyn Backend,
    /// The oracle's memory.
    pub(crate) memory: &'a mut Memory,
    /// Whether packets left traces in conntrack that the oracle was not told about. It is not asked then.
    pub(crate) unseen: &'a mut bool,
    /// The simulated clock, in seconds.
    pub(crate) now: u64,
}

/// Why only the datapath answers after such packets.
pub(crate) const UNSEEN: &str = "no opinion of the oracle, which was not told of an earlier packet; `set conntrack fresh` forgets it";

impl Journey<'_> {
    /// Forgets every flow on both sides.
    pub(crate) fn forget(&mut self) -> Result<(), BackendError> {
        *self.memory = Memory::default();
        *self.unseen = false;
        self.backend.forget()
    }

    /// Sends the packet, after those that make its flow a known one, and where asked for and it got through, its reply.
    pub(crate) fn ask(
        &mut self,
        stage: &Stage<'_>,
        question: &Question,
    ) -> Result<Explanation, BackendError> {
        let question = match self.begin(stage, question)? {
            Opened::As(question) => question,
            Opened::Refused(answer) => return Ok(*answer),
        };
        let mut explanation = self.send(stage, &question)?;
        let sides = Sides::of(&question.packet, &explanation);
        if let Some(sides) = sides.filter(|_| question.with_reply) {
            match self.send(stage, &reply_to(stage.world, &question, &sides)) {
                Ok(reply) => explanation.reply = Some(Box::new(reply)),
                // Its answer stands without one.
                Err(BackendError::BadInjection(reason)) => explanation.no_reply = Some(reason),
                Err(error) => return Err(error),
            }
        }
        Ok(explanation)
    }

    /// The question after the packets that make its flow a known one, where it wants that.
    pub(crate) fn begin(
        &mut self,
        stage: &Stage<'_>,
        question: &Question,
    ) -> Result<Opened, BackendError> {
        self.backend.load(stage.tables)?;
        match question.known {
            Some(known) => self.open(stage, question, known),
            None => Ok(Opened::As(Box::new(question.clone()))),
        }
    }

    /// The same, with what it changes in conntrack.
    pub(crate) fn ask_told(
        &mut self,
        stage: &Stage<'_>,
        question: &Question,
    ) -> Result<Explanation, BackendError> {
        self.backend.load(stage.tables)?;
        self.told(stage, |journey| journey.ask(stage, question))
    }

    /// What is asked with what it changes in conntrack. The tables are loaded.
    pub(super) fn told(
        &mut self,
        stage: &Stage<'_>,
        ask: impl FnOnce(&mut Self) -> Result<Explanation, BackendError>,
    ) -> Result<Explanation, BackendError> {
        let before = self.known(stage.world)?;
        let mut explanation = ask(self)?;
        let after = self.known(stage.world)?;
        explanation.known = changes(&stage.context(), &before, &after);
        Ok(explanation)
    }

    /// What conntrack holds on every node.
    pub(crate) fn known(&mut self, world: &World) -> Result<KnownFlows, BackendError> {
        let mut known = Vec::new();
        for (node, _) in world.nodes() {
            known.push((node, self.backend.conntrack(node, self.now)?));
        }
        Ok(known)
    }

    /// Runs a flow's opening packets. Each of them must get through.
    fn open(
        &mut self,
        stage: &Stage<'_>,
        asked: &Question,
        known: Known,
    ) -> Result<Opened, BackendError> {
        let first = opening::first(asked, known);
        let answer = self.send(stage, &first)?;
        let Some(sides) = through(&first, &answer) else {
            return Ok(Opened::Refused(Box::new(opening::refused(answer))));
        };
        let mut latest = first.packet.clone();
        for turn in opening::rest(asked, known) {
            let question = match turn {
                Turn::Answerer => {
                    reply_to(stage.world, &Question { packet: latest, ..first.clone() }, &sides)
                }
                Turn::Opener => Question { packet: question::reply(&latest), ..first.clone() },
            };
            let answer = self.send(stage, &question)?;
            if through(&question, &answer).is_none() {
                return Ok(Opened::Refused(Box::new(opening::refused(answer))));
            }
            latest = match turn {
                Turn::Answerer => sides.near(&question.packet),
                Turn::Opener => question.packet,
            };
        }
        let mut question = Question { known: None, ..asked.clone() };
        if known == Known::Reply {
            // The side that answers sees the flow as it arrived.
            question.packet = sides.far(&question.packet);
            let (opener, answerer) = (first.source, first.destination);
            (question.source, question.destination) = sides.parties(stage.world, opener, answerer);
        }
        question.assumed.push(opening::assumed(asked, known));
        Ok(Opened::As(Box::new(question)))
    }

    fn send(
        &mut self,
        stage: &Stage<'_>,
        question: &Question,
    ) -> Result<Explanation, BackendError> {
        let Stage { world, policies, tables, .. } = *stage;
        let trace = follow(self.backend, world, tables, question, self.now)?;
        let asked = Asked {
            source: question.source,
            destination: question.destination,
            packet: &question.packet,
            now: self.now,
            choices: choices(&trace),
        };
        let judgement = judge(world, policies, self.memory, &asked);
        let judgement = Some(&judgement).filter(|_| !*self.unseen);
        let mut explanation = explain(&stage.context(), question, &trace, judgement)
            .ok_or_else(|| BackendError::BadEvent("the trace has no beginning".to_owned()))?;
        if *self.unseen {
            explanation.assumed.push(UNSEEN.to_owned());
        }
        Ok(explanation)
    }
}

/// What became of a flow's opening.
pub(crate) enum Opened {
    /// The question as it stands after it.
    As(Box<Question>),
    /// The answer, as a packet of it did not get through.
    Refused(Box<Explanation>),
}

/// The views of a packet that got through, by both opinions.
fn through(question: &Question, answer: &Explanation) -> Option<Sides> {
    if answer.agreement == Agreement::Differ {
        return None;
    }
    Sides::of(&question.packet, answer)
}
