//! One question through both opinions: the datapath hop by hop, the oracle beside it, joined into an
//! explanation. Owns the order of these steps only.

use datapath::follow::follow;
use engine::backend::{Backend, BackendError};
use engine::eval::{Asked, Memory, judge};
use engine::explain::{
    Agreement, Context, Explanation, Known as KnownFlows, KnownChange, changes, choices, explain,
    gone, other_backends,
};
use engine::policy::PolicySet;
use engine::question::{self, Known, Question};
use engine::source::SourceMap;
use engine::tables::Tables;
use engine::topology::{NodeId, World};
use engine::trace::{ConntrackEntry, ConntrackKind, Trace};

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

/// Something that is done with each answer.
type Watch<'w> = dyn FnMut(&mut Journey<'_>, &mut Explanation) -> Result<(), BackendError> + 'w;

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
        self.ask_watched(stage, question, &mut |_, _| Ok(()))
    }

    /// The same; after each answer something else is done with it.
    fn ask_watched(
        &mut self,
        stage: &Stage<'_>,
        question: &Question,
        watch: &mut Watch<'_>,
    ) -> Result<Explanation, BackendError> {
        let known = question.known;
        let question = match self.begin(stage, question)? {
            Opened::As(question) => question,
            Opened::Refused(mut answer) => {
                watch(self, &mut answer)?;
                return Ok(*answer);
            }
        };
        let (mut explanation, trace) = self.sent(stage, &question)?;
        explanation.assumed.extend(opening::unmatched(known, stage.world, &trace));
        watch(self, &mut explanation)?;
        let sides = Sides::of(&question.packet, &explanation);
        if let Some(sides) = sides.filter(|_| question.with_reply) {
            match self.send(stage, &reply_to(stage.world, &question, &sides)) {
                Ok(mut reply) => {
                    watch(self, &mut reply)?;
                    explanation.reply = Some(Box::new(reply));
                }
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
        self.backend.load_world(stage.world, stage.tables)?;
        match question.known {
            Some(known) => self.open(stage, question, known),
            None => Ok(Opened::As(Box::new(question.clone()))),
        }
    }

    /// As [`Self::ask`], with what each packet changes in conntrack.
    pub(crate) fn ask_told(
        &mut self,
        stage: &Stage<'_>,
        question: &Question,
    ) -> Result<Explanation, BackendError> {
        self.backend.load_world(stage.world, stage.tables)?;
        let mut before = self.known(stage.world)?;
        self.ask_watched(stage, question, &mut |journey, explanation| {
            explanation.known = journey.tell(stage, &mut before)?;
            Ok(())
        })
    }

    /// What is asked with what it changes in conntrack. The tables are loaded.
    pub(super) fn told(
        &mut self,
        stage: &Stage<'_>,
        ask: impl FnOnce(&mut Self) -> Result<Explanation, BackendError>,
    ) -> Result<Explanation, BackendError> {
        let mut before = self.known(stage.world)?;
        let mut explanation = ask(self)?;
        explanation.known = self.tell(stage, &mut before)?;
        Ok(explanation)
    }

    /// What changed in conntrack since a moment, which becomes this one.
    pub(crate) fn tell(
        &mut self,
        stage: &Stage<'_>,
        since: &mut KnownFlows,
    ) -> Result<Vec<KnownChange>, BackendError> {
        let now = self.known(stage.world)?;
        self.forget_lost(since, &now)?;
        let changed = changes(&stage.context(), since, &now);
        *since = now;
        Ok(changed)
    }

    /// What conntrack holds on every node.
    pub(crate) fn known(&mut self, world: &World) -> Result<KnownFlows, BackendError> {
        let mut known = Vec::new();
        for (node, _) in world.nodes() {
            known.push((node, self.backend.conntrack(node, self.now)?));
        }
        Ok(known)
    }

    /// The oracle forgets what a full conntrack had no room for: which flow that is, is the datapath's choice. What goes
    /// while there is room is none of it, and a divergence. What leads a client to its backend may come back, by the backend's answers.
    fn forget_lost(&mut self, before: &KnownFlows, after: &KnownFlows) -> Result<(), BackendError> {
        for (node, entries) in after {
            self.forget_beside(*node)?;
            for entry in entries {
                match entry.kind {
                    ConntrackKind::Service { .. } => {
                        self.memory.lose_backend(*node, &entry.flow, false);
                    }
                    ConntrackKind::Nat { .. } => {
                        self.memory.lose_source(*node, &entry.flow, false);
                    }
                    ConntrackKind::Plain | ConntrackKind::Translated { .. } => {}
                }
            }
            let gone = gone(before, after, *node);
            for is_v6 in [false, true] {
                let of_family = |e: &&&ConntrackEntry| e.flow.source.is_ipv6() == is_v6;
                let mut lost = gone.iter().filter(of_family).peekable();
                if lost.peek().is_none() || !self.backend.is_full(*node, is_v6)? {
                    continue;
                }
                for entry in lost {
                    match entry.kind {
                        ConntrackKind::Plain | ConntrackKind::Translated { .. } => {
                            self.memory.forget(*node, &entry.flow);
                        }
                        ConntrackKind::Service { .. } => {
                            self.memory.lose_backend(*node, &entry.flow, true);
                        }
                        ConntrackKind::Nat { .. } => {
                            self.memory.lose_source(*node, &entry.flow, true);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The same of clients that keep to their backends, and of datagrams in pieces.
    fn forget_beside(&mut self, node: NodeId) -> Result<(), BackendError> {
        if !self.memory.has_more_than_flows() {
            return Ok(());
        }
        let Some(kept) = self.backend.beside(node)? else { return Ok(()) };
        if kept.is_full_of_clients {
            self.memory.keep_clients(node, |client, (frontend, port), protocol| {
                kept.clients.contains(&(client, frontend, port, protocol))
            });
        }
        if kept.is_full_of_datagrams {
            self.memory.keep_pieces(node, |source, destination, protocol, id| {
                kept.datagrams.contains(&(source, destination, protocol, id))
            });
        }
        Ok(())
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
            return Ok(Opened::Refused(Box::new(opening::refused(answer, known))));
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
                return Ok(Opened::Refused(Box::new(opening::refused(answer, known))));
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
        self.sent(stage, question).map(|(explanation, _)| explanation)
    }

    /// As [`Self::ask`], with the journey that the answer explains; without one where the flow could not be opened.
    pub(crate) fn ask_traced(
        &mut self,
        stage: &Stage<'_>,
        question: &Question,
    ) -> Result<(Explanation, Option<Trace>), BackendError> {
        let known = question.known;
        let question = match self.begin(stage, question)? {
            Opened::As(question) => question,
            Opened::Refused(answer) => return Ok((*answer, None)),
        };
        let (mut explanation, trace) = self.sent(stage, &question)?;
        explanation.assumed.extend(opening::unmatched(known, stage.world, &trace));
        let sides = Sides::of(&question.packet, &explanation);
        if let Some(sides) = sides.filter(|_| question.with_reply) {
            match self.send(stage, &reply_to(stage.world, &question, &sides)) {
                Ok(reply) => explanation.reply = Some(Box::new(reply)),
                Err(BackendError::BadInjection(reason)) => explanation.no_reply = Some(reason),
                Err(error) => return Err(error),
            }
        }
        Ok((explanation, Some(trace)))
    }

    fn sent(
        &mut self,
        stage: &Stage<'_>,
        question: &Question,
    ) -> Result<(Explanation, Trace), BackendError> {
        let Stage { world, policies, tables, .. } = *stage;
        let trace = follow(self.backend, world, tables, question, self.now)?;
        let asked = Asked {
            source: question.source,
            destination: question.destination,
            packet: &question.packet,
            now: self.now,
            choices: choices(&trace),
        };
        let is_free = asked.choices.backend.is_some() && !asked.choices.is_forced && !*self.unseen;
        let before = is_free.then(|| self.memory.clone());
        let judgement = judge(world, policies, self.memory, &asked);
        let judgement = Some(&judgement).filter(|_| !*self.unseen);
        let mut explanation = explain(&stage.context(), question, &trace, judgement)
            .ok_or_else(|| BackendError::BadEvent("the trace has no beginning".to_owned()))?;
        let others = judgement.zip(before).and_then(|(judgement, before)| {
            other_backends(&stage.context(), &trace, &asked, judgement, &before)
        });
        explanation.assumed.extend(others);
        if *self.unseen {
            explanation.assumed.push(UNSEEN.to_owned());
        }
        Ok((explanation, trace))
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
