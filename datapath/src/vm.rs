//! The backend that runs the datapath's object in an interpreter of BPF: everywhere, without privileges, and
//! open to a debugger. It is a model of the kernel and judges nothing: the programs decide, as they do there.
//!
//! | file | owns |
//! |---|---|
//! | `image` | reading the object: programs, functions, source lines, maps |
//! | `instruction`, `call` | what can be run, and refusing by name what cannot |
//! | `value`, `memory`, `stack`, `packet`, `map` | what programs work on, every access checked |
//! | `machine`, `alu`, `help`, `checksum` | running, one instruction after the other |
//! | `quick` | the same for what programs do most, in fewer steps |
//! | `observer` | watching |
//! | `coverage` | which lines of the programs ran |
//! | `disassemble` | instructions as text |
//! | `fault` | what stops a program, and where |
//! | `debug` | a question run back and forth |

mod alu;
pub mod call;
mod checksum;
pub mod coverage;
pub mod debug;
pub mod disassemble;
pub mod fault;
mod help;
pub mod image;
pub mod instruction;
pub mod machine;
pub mod map;
mod memory;
mod node;
pub mod observer;
pub mod packet;
mod quick;
pub mod stack;
pub mod value;

use std::rc::Rc;

use engine::backend::{Backend, BackendError, Beside, Injection, Observation, Remembered};
use engine::tables::Tables;
use engine::topology::NodeId;
use engine::trace::{ConntrackEntry, Counter, Hit};

use crate::encode::Limits;
use crate::nodes::{self, Capacity, Host, LIMITS, Nodes};
use crate::object::{self, Object};
use image::{Image, LoadError};
use machine::Machine;
use node::Instance;
use observer::Observer;

/// The name of this backend as answers print it.
pub const NAME: &str = "vm";

/// Opens the backend. Errors: the object cannot be read or holds what is not modelled.
pub fn open() -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(Vm::find()?))
}

/// Opens the backend where another one is not available; answers say so.
pub fn open_instead(of: &str, reason: &str) -> Result<Box<dyn Backend>, BackendError> {
    let mut vm = Vm::find()?;
    vm.0.host.name = format!("{NAME} ({of} not available: {reason})");
    Ok(Box::new(vm))
}

/// The backend. A copy of it is a session of its own: what is done to the one does not show in the other.
#[derive(Clone)]
pub struct Vm(Nodes<Interpreter>);

/// What makes nodes of this backend.
#[derive(Clone)]
struct Interpreter {
    name: String,
    image: Rc<Image>,
}

impl Vm {
    /// On the object that is built in or named by the environment.
    pub fn find() -> Result<Self, BackendError> {
        Self::open(LIMITS)
    }

    pub(crate) fn open(limits: Limits) -> Result<Self, BackendError> {
        let image = Image::read(Object::find()?.bytes()).map_err(|error| unloadable(&error))?;
        Ok(Self(Nodes::on(Interpreter { name: NAME.to_owned(), image: Rc::new(image) }, limits)))
    }

    /// The programs that are run.
    pub fn image(&self) -> &Rc<Image> {
        &self.0.host.image
    }

    /// Puts a frame before the driver program, nothing of which has run: what a debugger steps through. Errors are
    /// those of [`Backend::inject`].
    pub fn begin(&mut self, injection: &Injection) -> Result<&mut Machine, BackendError> {
        nodes::check(injection)?;
        let node = self.0.node(injection.node)?.0;
        node.begin(&nodes::input_of(injection), &injection.frame)
    }

    /// The machine of a node, as its last run left it or in the midst of one that was begun.
    pub fn machine(&mut self, node: NodeId) -> Result<&mut Machine, BackendError> {
        Ok(self.0.node(node)?.0.machine())
    }

    /// The same to look at, if the node was ever run.
    pub fn peek(&self, node: NodeId) -> Option<&Machine> {
        Some(self.0.made(node)?.as_machine())
    }

    /// What a run that was begun and has ended with a code came to, as [`Backend::inject`] says it.
    pub fn finish(&mut self, node: NodeId, code: u64) -> Result<Observation, BackendError> {
        self.0.observe(node, |node, record| node.finish(code, record))
    }

    /// [`Backend::inject`], watched.
    pub fn inject_watched(
        &mut self,
        injection: &Injection,
        observer: &mut impl Observer,
    ) -> Result<Observation, BackendError> {
        nodes::check(injection)?;
        let input = nodes::input_of(injection);
        self.0.observe(injection.node, |node, record| {
            node.run_watched(&input, &injection.frame, record, observer)
        })
    }

    #[cfg(feature = "kernel")]
    pub(crate) fn node(&mut self, node: NodeId) -> Result<&Instance, BackendError> {
        Ok(self.0.node(node)?.0)
    }
}

impl Backend for Vm {
    fn name(&self) -> String {
        self.0.name()
    }

    fn load(&mut self, tables: &Tables) -> Result<(), BackendError> {
        self.0.load(tables)
    }

    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        self.inject_watched(injection, &mut ())
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        self.0.forget()
    }

    fn conntrack(&mut self, node: NodeId, now: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        self.0.conntrack(node, now)
    }

    fn is_full(&mut self, node: NodeId, is_v6: bool) -> Result<bool, BackendError> {
        self.0.is_full(node, is_v6)
    }

    fn beside(&mut self, node: NodeId) -> Result<Option<Beside>, BackendError> {
        self.0.beside(node)
    }

    fn remembered(&mut self, node: NodeId) -> Result<Vec<Remembered>, BackendError> {
        self.0.remembered(node)
    }

    fn remember(&mut self, node: NodeId, flows: &[Remembered]) -> Result<(), BackendError> {
        self.0.remember(node, flows)
    }

    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError> {
        self.0.counters(node)
    }

    fn hits(&mut self, node: NodeId) -> Result<Vec<Hit>, BackendError> {
        self.0.hits(node)
    }
}

/// The object cannot be run here.
fn unloadable(error: &LoadError) -> BackendError {
    object::unusable(format!("running the datapath's object in the interpreter ({error})"))
}

impl Host for Interpreter {
    type Node = Instance;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn open(
        &mut self,
        _: NodeId,
        capacity: Capacity,
        _nodes: usize,
    ) -> Result<Instance, BackendError> {
        Instance::open(&self.image, capacity)
    }
}

#[cfg(test)]
mod tests;
