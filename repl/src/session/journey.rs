//! One question through both opinions: the datapath hop by hop, the oracle beside it, joined into an
//! explanation. Owns the order of these steps only.

use datapath::follow::follow;
use engine::backend::{Backend, BackendError};
use engine::eval::{Asked, Memory, judge};
use engine::explain::{Context, Explanation, explain};
use engine::policy::PolicySet;
use engine::question::{self, Question};
use engine::source::SourceMap;
use engine::tables::Tables;
use engine::topology::World;
use engine::verdict::Verdict;

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

/// What packets leave traces in: the datapath's conntrack, the oracle's memory, the clock.
pub(crate) struct Journey<'a> {
    /// The datapath.
    pub(crate) backend: &'a mut dyn Backend,
    /// The oracle's memory.
    pub(crate) memory: &'a mut Memory,
    /// The simulated clock, in seconds.
    pub(crate) now: u64,
}

impl Journey<'_> {
    /// Forgets every flow on both sides.
    pub(crate) fn forget(&mut self) -> Result<(), BackendError> {
        *self.memory = Memory::default();
        self.backend.forget()
    }

    /// Sends the packet, and where asked for and it got through, its reply.
    pub(crate) fn ask(
        &mut self,
        stage: &Stage<'_>,
        question: &Question,
    ) -> Result<Explanation, BackendError> {
        self.backend.load(stage.tables)?;
        let mut explanation = self.send(stage, question)?;
        if question.with_reply && explanation.verdict == Verdict::Allowed {
            let reply = self.send(stage, &reply_to(question))?;
            explanation.reply = Some(Box::new(reply));
        }
        Ok(explanation)
    }

    fn send(
        &mut self,
        stage: &Stage<'_>,
        question: &Question,
    ) -> Result<Explanation, BackendError> {
        let Stage { world, policies, tables, sources } = *stage;
        let trace = follow(self.backend, world, tables, question, self.now)?;
        let asked = Asked {
            source: question.source,
            destination: question.destination,
            packet: &question.packet,
            now: self.now,
        };
        let judgement = judge(world, policies, self.memory, &asked);
        let context = Context { world, policies, tables, sources };
        explain(&context, question, &trace, Some(&judgement))
            .ok_or_else(|| BackendError::BadEvent("the trace has no beginning".to_owned()))
    }
}

/// The natural answer, from the receiver.
fn reply_to(asked: &Question) -> Question {
    Question {
        source: asked.destination,
        destination: asked.source,
        packet: question::reply(&asked.packet),
        with_reply: false,
        assumed: Vec::new(),
        undetermined: asked.undetermined.clone(),
    }
}
