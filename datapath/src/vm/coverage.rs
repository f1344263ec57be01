//! Which instructions of the programs ran, and which way their conditional jumps went: counts by program and place,
//! which runs of one object add up, and the backend that counts. What they say about source lines is `lines`'.

pub mod lines;

use std::cell::RefCell;
use std::rc::Rc;

use engine::backend::{Backend, BackendError, Beside, Injection, Observation, Remembered};
use engine::tables::Tables;
use engine::topology::NodeId;
use engine::trace::{ConntrackEntry, Counter, Hit};
use serde::{Deserialize, Serialize};

use super::Vm;
use super::image::Image;
use super::machine::Machine;
use super::observer::Observer;
use crate::object::Object;

/// What a file with counts says of itself; another number is another meaning.
const VERSION: u32 = 1;

/// Counts of one program, by instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    program: String,
    /// How often each instruction ran.
    ran: Vec<u64>,
    /// How often each conditional jump was taken, and was not; zeros for other instructions.
    jumps: Vec<(u64, u64)>,
}

/// Counts of an object's programs. Serializes to the same JSON wherever it was counted, to be added up later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    version: u32,
    /// SHA-256 of the object.
    object: String,
    programs: Vec<Counts>,
}

/// Counts cannot be added up or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// They are of another object.
    #[error(
        "the counts are of another build of the programs: object {found:.16}, not {wanted:.16}"
    )]
    Object {
        /// Whose counts they are.
        found: String,
        /// Whose are wanted.
        wanted: String,
    },
    /// They are of this object, but of other programs or another meaning.
    #[error("the counts are not what this version of hopwise writes")]
    Shape,
}

impl Coverage {
    /// Nothing has run. `object` is the digest of the file that the image was read from.
    pub fn new(image: &Image, object: String) -> Self {
        let counts = |program: &super::image::Program| Counts {
            program: program.name.clone(),
            ran: vec![0; program.code.len()],
            jumps: vec![(0, 0); program.code.len()],
        };
        Self { version: VERSION, object, programs: image.programs.iter().map(counts).collect() }
    }

    /// Adds the counts of other runs of the same object; where it is another, nothing is added.
    pub fn merge(&mut self, other: &Self) -> Result<(), Mismatch> {
        if self.version != other.version {
            return Err(Mismatch::Shape);
        }
        if self.object != other.object {
            let (found, wanted) = (other.object.clone(), self.object.clone());
            return Err(Mismatch::Object { found, wanted });
        }
        let shape =
            |counts: &Counts| (counts.program.clone(), counts.ran.len(), counts.jumps.len());
        if !self.programs.iter().map(shape).eq(other.programs.iter().map(shape)) {
            return Err(Mismatch::Shape);
        }
        for (one, other) in self.programs.iter_mut().zip(&other.programs) {
            for (one, other) in one.ran.iter_mut().zip(&other.ran) {
                *one = one.saturating_add(*other);
            }
            for (one, other) in one.jumps.iter_mut().zip(&other.jumps) {
                *one = (one.0.saturating_add(other.0), one.1.saturating_add(other.1));
            }
        }
        Ok(())
    }

    /// How often an instruction ran.
    pub fn ran(&self, program: u32, pc: usize) -> u64 {
        let counts = self.programs.get(program as usize);
        counts.and_then(|counts| counts.ran.get(pc)).copied().unwrap_or(0)
    }

    /// How often a conditional jump was taken, and was not.
    pub fn jumped(&self, program: u32, pc: usize) -> (u64, u64) {
        let counts = self.programs.get(program as usize);
        counts.and_then(|counts| counts.jumps.get(pc)).copied().unwrap_or((0, 0))
    }
}

impl Observer for Coverage {
    #[inline]
    fn before(&mut self, machine: &Machine) {
        let counts = self.programs.get_mut(machine.program() as usize);
        if let Some(ran) = counts.and_then(|counts| counts.ran.get_mut(machine.pc())) {
            *ran += 1;
        }
    }

    #[inline]
    fn branched(&mut self, program: u32, pc: usize, taken: bool) {
        let counts = self.programs.get_mut(program as usize);
        if let Some((yes, no)) = counts.and_then(|counts| counts.jumps.get_mut(pc)) {
            *(if taken { yes } else { no }) += 1;
        }
    }
}

/// Opens backends that count together.
#[derive(Clone)]
pub struct Recorder {
    vm: Vm,
    counts: Rc<RefCell<Coverage>>,
}

impl Recorder {
    /// On the object that is built in or named by the environment. Errors as of [`Vm::find`].
    pub fn find() -> Result<Self, BackendError> {
        let (vm, object) = (Vm::find()?, Object::find()?);
        let counts = Coverage::new(vm.image(), object.digest());
        Ok(Self { vm, counts: Rc::new(RefCell::new(counts)) })
    }

    /// A backend of its own, nothing loaded, whose runs are counted here.
    pub fn backend(&self) -> Box<dyn Backend> {
        Box::new(Counting(self.clone()))
    }

    /// The programs.
    pub fn image(&self) -> &Image {
        self.vm.image()
    }

    /// What was counted so far.
    pub fn counts(&self) -> Coverage {
        self.counts.borrow().clone()
    }
}

/// The interpreter, counting.
struct Counting(Recorder);

impl Backend for Counting {
    fn name(&self) -> String {
        self.0.vm.name()
    }

    fn load(&mut self, tables: &Tables) -> Result<(), BackendError> {
        self.0.vm.load(tables)
    }

    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        self.0.vm.inject_watched(injection, &mut *self.0.counts.borrow_mut())
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        self.0.vm.forget()
    }

    fn conntrack(&mut self, node: NodeId, now: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        self.0.vm.conntrack(node, now)
    }

    fn is_full(&mut self, node: NodeId, is_v6: bool) -> Result<bool, BackendError> {
        self.0.vm.is_full(node, is_v6)
    }

    fn beside(&mut self, node: NodeId) -> Result<Option<Beside>, BackendError> {
        self.0.vm.beside(node)
    }

    fn remembered(&mut self, node: NodeId) -> Result<Vec<Remembered>, BackendError> {
        self.0.vm.remembered(node)
    }

    fn remember(&mut self, node: NodeId, flows: &[Remembered]) -> Result<(), BackendError> {
        self.0.vm.remember(node, flows)
    }

    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError> {
        self.0.vm.counters(node)
    }

    fn hits(&mut self, node: NodeId) -> Result<Vec<Hit>, BackendError> {
        self.0.vm.hits(node)
    }
}

#[cfg(test)]
mod tests;
