//! A question under a debugger: time that goes both ways. Whoever asks gives a plan, which asks a backend
//! whatever it likes; the debugger answers it from what it has seen so far and stops at each packet that is new,
//! which it runs one instruction after the other. Going back is running again from a copy, so nothing is
//! recorded while nobody looks. Knows no policy and prints nothing.
//!
//! | file | owns |
//! |---|---|
//! | `happening` | what an instruction did that somebody may stop at |
//! | `replay` | answering a plan from what was seen |
//! | `entry` | what a map's bytes say |

mod entry;
mod happening;
mod replay;

use engine::backend::{Backend, BackendError, Injection, Observation};
use engine::topology::NodeId;

use super::Vm;
use super::fault::Fault;
use super::machine::{Machine, Step};
use super::value::Value;
pub use entry::{EntryKey, EntryValue, Target, key_of, value_of};
pub use happening::Happening;
use happening::Witness;
use replay::{Answer, Pending, Replay};

/// What asks: given a backend, it comes to an answer. It is run again and again, so it must do the same every
/// time and keep nothing.
pub type Plan<T> = Box<dyn FnMut(&mut dyn Backend) -> Result<T, BackendError>>;

/// A point in time: so many instructions of a hop have run. The end of one hop and the beginning of the next are
/// two points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// The hop, from 0.
    pub hop: usize,
    /// Instructions of it that have run.
    pub executed: u64,
}

/// A change that somebody makes at a point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A register.
    Register(u8, u64),
    /// Bytes of the packet from an offset on.
    Packet(usize, Vec<u8>),
    /// The packet's mark.
    Mark(u32),
    /// A map's entry: its key, and its value unless it is removed.
    Entry {
        /// The map, by its name.
        map: String,
        /// The key.
        key: Vec<u8>,
        /// The value; none removes the entry.
        value: Option<Vec<u8>>,
    },
}

/// How a hop ended.
#[derive(Clone, Debug)]
pub enum End {
    /// The program returned.
    Returned(Observation),
    /// The program was stopped.
    Faulted(Box<Fault>),
    /// The program returned, and what it reported cannot be read: the answer says why.
    Unreadable,
}

/// A program's run on a packet.
#[derive(Clone)]
struct Hop {
    injection: Injection,
    /// The state that it begins with.
    before: Vm,
    /// Answers that the plan had got before.
    answers: usize,
    /// Instructions of the hops before.
    earlier: u64,
}

/// What follows a hop.
enum Next<T> {
    /// Another one, with the state that it begins with.
    Hop(Box<(Vm, Injection)>),
    /// Nothing: the plan came to its answer.
    Answer(Result<T, BackendError>),
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// An instruction ran.
    Ran,
    /// An instruction ran, and with it the hop ended.
    Ended,
    /// Another hop begins; no instruction ran.
    Began,
    /// There is nothing more to run.
    Over,
}

/// See the module.
pub struct Debugger<T> {
    plan: Plan<T>,
    vm: Vm,
    answers: Vec<Answer>,
    hops: Vec<Hop>,
    end: Option<(End, Next<T>)>,
    edits: Vec<(At, Change)>,
    witness: Witness,
}

impl<T> Debugger<T> {
    /// Begins at a plan's first packet. The backend is the debugger's own from now on; tables may be loaded in it
    /// already. Errors: what the plan says that asks of no packet.
    pub fn begin(mut vm: Vm, mut plan: Plan<T>) -> Result<Self, BackendError> {
        let mut answers = Vec::new();
        let injection = match ask(&mut plan, &mut vm, &mut answers) {
            Next::Hop(next) => {
                vm = next.0;
                next.1
            }
            Next::Answer(Err(error)) => return Err(error),
            Next::Answer(Ok(_)) => {
                let error = "the question sends no packet".to_owned();
                return Err(BackendError::BadInjection(error));
            }
        };
        let mut debugger = Self {
            plan,
            vm,
            answers,
            hops: Vec::new(),
            end: None,
            edits: Vec::new(),
            witness: Witness::default(),
        };
        debugger.enter(injection, 0)?;
        Ok(debugger)
    }

    fn enter(&mut self, injection: Injection, earlier: u64) -> Result<(), BackendError> {
        let before = self.vm.clone();
        self.vm.begin(&injection)?;
        self.end = None;
        self.hops.push(Hop { injection, before, answers: self.answers.len(), earlier });
        self.apply_edits()
    }

    /// Where it stands.
    pub fn at(&self) -> At {
        let executed = self.machine().map_or(0, Machine::executed);
        At { hop: self.hops.len().saturating_sub(1), executed }
    }

    /// Instructions of the question that have run.
    pub fn instructions(&self) -> u64 {
        let earlier = self.hops.last().map_or(0, |hop| hop.earlier);
        earlier + self.machine().map_or(0, Machine::executed)
    }

    /// What the hops up to now were given, the present one last.
    pub fn injections(&self) -> impl Iterator<Item = &Injection> {
        self.hops.iter().map(|hop| &hop.injection)
    }

    /// What the present hop was given.
    pub fn injection(&self) -> Option<&Injection> {
        self.hops.last().map(|hop| &hop.injection)
    }

    /// The machine as it stands.
    pub fn machine(&self) -> Option<&Machine> {
        self.vm.peek(self.injection()?.node)
    }

    /// How the present hop ended, if it has.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref().map(|(end, _)| end)
    }

    /// What the plan came to, at the end of the last hop.
    pub fn answer(&self) -> Option<&Result<T, BackendError>> {
        match &self.end {
            Some((_, Next::Answer(answer))) => Some(answer),
            _ => None,
        }
    }

    /// What the last instruction did.
    pub fn happened(&self) -> &[Happening] {
        &self.witness.seen
    }

    /// Changes made, by time.
    pub fn edits(&self) -> &[(At, Change)] {
        &self.edits
    }

    /// Goes one instruction further, or into the next hop.
    pub fn step(&mut self) -> Result<Progress, BackendError> {
        self.witness.seen.clear();
        match self.end.take() {
            None => self.run_one(),
            Some((_, Next::Hop(next))) => {
                let (vm, injection) = *next;
                let earlier = self.instructions();
                self.vm = vm;
                self.enter(injection, earlier)?;
                Ok(Progress::Began)
            }
            over => {
                self.end = over;
                Ok(Progress::Over)
            }
        }
    }

    fn run_one(&mut self) -> Result<Progress, BackendError> {
        let Some(node) = self.injection().map(|injection| injection.node) else {
            return Ok(Progress::Over);
        };
        let machine = self.vm.machine(node)?;
        self.witness.program = machine.program();
        let step = machine.step(&mut self.witness);
        self.witness.complete(machine);
        match step {
            Ok(Step::Next) => {
                if !self.edits.is_empty() {
                    self.apply_edits()?;
                }
                Ok(Progress::Ran)
            }
            Ok(Step::Done(code)) => {
                self.conclude(node, code);
                Ok(Progress::Ended)
            }
            Err(fault) => {
                let call = "running a program in the interpreter".to_owned();
                let error = BackendError::System { call, error: fault.to_string() };
                self.end = Some((End::Faulted(fault), Next::Answer(Err(error))));
                Ok(Progress::Ended)
            }
        }
    }

    /// Finishes the hop on a copy, so that the machine can still be looked at, and asks the plan what is next.
    fn conclude(&mut self, node: NodeId, code: u64) {
        let mut vm = self.vm.clone();
        let observation = match vm.finish(node, code) {
            Ok(observation) => observation,
            Err(error) => {
                self.end = Some((End::Unreadable, Next::Answer(Err(error))));
                return;
            }
        };
        let known = self.hops.last().map_or(0, |hop| hop.answers);
        self.answers.truncate(known);
        self.answers.push(Answer::Injected(observation.clone()));
        let next = ask(&mut self.plan, &mut vm, &mut self.answers);
        self.end = Some((End::Returned(observation), next));
    }

    /// Goes to the beginning of a hop that was there before, or of the present one.
    pub fn rewind(&mut self, hop: usize) -> Result<(), BackendError> {
        let Some(target) = self.hops.get(hop).cloned() else { return Ok(()) };
        self.hops.truncate(hop);
        self.answers.truncate(target.answers);
        self.witness.seen.clear();
        self.vm = target.before.clone();
        self.vm.begin(&target.injection)?;
        self.end = None;
        self.hops.push(target);
        self.apply_edits()
    }

    /// Goes to a point in time; stops at the end where it is beyond it.
    pub fn go(&mut self, to: At) -> Result<(), BackendError> {
        if to < self.at() {
            self.rewind(to.hop)?;
        }
        while self.at() < to {
            if self.step()? == Progress::Over {
                break;
            }
        }
        Ok(())
    }

    /// Makes a change here. Changes made later in time than this are forgotten. False where there is nothing such
    /// to change; then nothing is.
    pub fn edit(&mut self, change: Change) -> Result<bool, BackendError> {
        let at = self.at();
        let Some(node) = self.injection().map(|injection| injection.node) else { return Ok(false) };
        if self.end.is_some() || !apply(self.vm.machine(node)?, &change) {
            return Ok(false);
        }
        self.edits.retain(|(when, _)| *when <= at);
        self.edits.push((at, change));
        Ok(true)
    }

    /// Makes changes anew as if they had just been made at their times, from which a run has yet to pass.
    pub fn expect_edits(&mut self, edits: Vec<(At, Change)>) -> Result<(), BackendError> {
        self.edits = edits;
        self.rewind(0)
    }

    fn apply_edits(&mut self) -> Result<(), BackendError> {
        let at = self.at();
        let Some(node) = self.injection().map(|injection| injection.node) else { return Ok(()) };
        for (_, change) in self.edits.iter().filter(|(when, _)| *when == at) {
            apply(self.vm.machine(node)?, change);
        }
        Ok(())
    }
}

/// Lets a plan ask, from the beginning, until it comes to a packet that is new or to its answer.
fn ask<T>(plan: &mut Plan<T>, vm: &mut Vm, answers: &mut Vec<Answer>) -> Next<T> {
    let mut replay = Replay::new(vm, answers);
    let answer = plan(&mut replay);
    match replay.into_pending() {
        Pending::Packet(injection) => Next::Hop(Box::new((vm.clone(), *injection))),
        Pending::Nothing => Next::Answer(answer),
    }
}

/// Whether there was something to change.
fn apply(machine: &mut Machine, change: &Change) -> bool {
    match change {
        Change::Register(number, value) => machine.set_register(*number, Value::number(*value)),
        Change::Packet(from, bytes) => {
            let skb = machine.skb_mut();
            let end = from.checked_add(bytes.len());
            let fits = end.is_some_and(|end| end <= skb.bytes().len());
            (*from..).zip(bytes).all(|(at, byte)| fits && skb.set_byte(at, *byte)) && fits
        }
        Change::Mark(mark) => {
            machine.skb_mut().mark = *mark;
            true
        }
        Change::Entry { map, key, value } => {
            let Some(map) = machine.map_mut(map) else { return false };
            match value {
                Some(value) => map.update(key, value, super::map::ANY).is_ok(),
                None => map.delete(key).is_ok(),
            }
        }
    }
}
