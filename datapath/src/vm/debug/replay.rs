//! Answers a plan from what was seen: everything that it asked before gets the answer that it got, so that it
//! comes to the same point again; the first packet beyond that is kept for the debugger to run.

use engine::backend::{Backend, BackendError, Injection, Observation};
use engine::tables::Tables;
use engine::topology::NodeId;
use engine::trace::{ConntrackEntry, Counter, Hit};

use crate::vm::Vm;

/// What a plan was told.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Loaded,
    Injected(Observation),
    Forgot,
    Conntrack(Vec<ConntrackEntry>),
    Counters(Vec<Counter>),
    Hits(Vec<Hit>),
}

/// Whether the plan waits for a packet.
pub(super) enum Pending {
    Packet(Box<Injection>),
    Nothing,
}

/// See the module.
pub(super) struct Replay<'a> {
    vm: &'a mut Vm,
    answers: &'a mut Vec<Answer>,
    next: usize,
    pending: Pending,
}

impl<'a> Replay<'a> {
    pub(super) fn new(vm: &'a mut Vm, answers: &'a mut Vec<Answer>) -> Self {
        Self { vm, answers, next: 0, pending: Pending::Nothing }
    }

    pub(super) fn into_pending(self) -> Pending {
        self.pending
    }

    /// The answer that was given before, or a new one, which is kept.
    fn answer<T>(
        &mut self,
        fresh: impl FnOnce(&mut Vm) -> Result<Answer, BackendError>,
        read: impl FnOnce(&Answer) -> Option<T>,
    ) -> Result<T, BackendError> {
        if matches!(self.pending, Pending::Packet(_)) {
            return Err(waiting());
        }
        if self.next == self.answers.len() {
            let answer = fresh(self.vm)?;
            self.answers.push(answer);
        }
        let known = self.answers.get(self.next);
        self.next += 1;
        known.and_then(read).ok_or_else(|| system("the question took another course than before"))
    }
}

fn system(error: &str) -> BackendError {
    BackendError::System { call: "debugging".to_owned(), error: error.to_owned() }
}

/// What a plan is told instead of an answer; it can do nothing but end.
fn waiting() -> BackendError {
    system("a packet waits to be run")
}

impl Backend for Replay<'_> {
    fn name(&self) -> String {
        self.vm.name()
    }

    fn load(&mut self, tables: &Tables) -> Result<(), BackendError> {
        self.answer(
            |vm| vm.load(tables).map(|()| Answer::Loaded),
            |answer| matches!(answer, Answer::Loaded).then_some(()),
        )
    }

    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        if self.next == self.answers.len() && matches!(self.pending, Pending::Nothing) {
            self.pending = Pending::Packet(Box::new(injection.clone()));
            return Err(waiting());
        }
        self.answer(
            |_| Err(waiting()),
            |answer| match answer {
                Answer::Injected(observation) => Some(observation.clone()),
                _ => None,
            },
        )
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        self.answer(
            |vm| vm.forget().map(|()| Answer::Forgot),
            |answer| matches!(answer, Answer::Forgot).then_some(()),
        )
    }

    fn conntrack(&mut self, node: NodeId, now: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        self.answer(
            |vm| vm.conntrack(node, now).map(Answer::Conntrack),
            |answer| match answer {
                Answer::Conntrack(entries) => Some(entries.clone()),
                _ => None,
            },
        )
    }

    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError> {
        self.answer(
            |vm| vm.counters(node).map(Answer::Counters),
            |answer| match answer {
                Answer::Counters(counters) => Some(counters.clone()),
                _ => None,
            },
        )
    }

    fn hits(&mut self, node: NodeId) -> Result<Vec<Hit>, BackendError> {
        self.answer(
            |vm| vm.hits(node).map(Answer::Hits),
            |answer| match answer {
                Answer::Hits(hits) => Some(hits.clone()),
                _ => None,
            },
        )
    }
}
