//! The backend that runs the datapath in the kernel of this host, by `BPF_PROG_TEST_RUN`: maps and programs of
//! its own for each node, made when a packet first comes to the node, a program when one first comes to it. Attaches nothing, touches no device, sends nothing.
//!
//! **Clock, devices, tunnel keys** are the seam's (`datapath_abi::Input`): nothing of this host's network shows.

mod files;
mod instance;
#[cfg(feature = "measure")]
pub mod measure;
mod pin;
pub(crate) mod privileges;
mod refusal;

use std::rc::Rc;

use engine::backend::{Backend, BackendError};
use engine::topology::NodeId;

use crate::encode::Limits;
pub(crate) use crate::nodes::LIMITS;
use crate::nodes::{Capacity, Host, Node as _, Nodes};
use crate::object::Object;
use instance::Instance;
pub(crate) use privileges::{CAPABILITIES, effective, kernel_version, lacking};
#[cfg(feature = "live")]
pub(crate) use refusal::tail;
pub(crate) use refusal::{listening, of_call};

/// Oldest kernel that the programs load on, as (major, minor).
pub const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// Nodes whose files (some twenty each) fit the limit that processes commonly have.
const FEW_NODES: usize = 32;

/// Opens the backend. Errors name what the host lacks and what to do about it.
pub fn open() -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(TestRun::open(LIMITS)?))
}

/// The backend.
pub(crate) type TestRun = Nodes<Kernel>;

/// The kernel of this host.
pub(crate) struct Kernel {
    name: String,
    object: Rc<Object>,
    /// Made to prove that this host can; becomes the first node's.
    spare: Option<Instance>,
}

impl TestRun {
    pub(crate) fn open(limits: Limits) -> Result<Self, BackendError> {
        let version = privileges::check()?;
        let object = Rc::new(Object::find()?);
        let spare = Some(Instance::open(&object, Capacity::LEAST)?);
        let name = format!("kernel {}.{}", version.0, version.1);
        Ok(Self::on(Kernel { name, object, spare }, limits))
    }

    /// Loads every program, which packets otherwise do one by one.
    pub(crate) fn load_programs(&mut self) -> Result<(), BackendError> {
        self.host.spare.as_mut().map_or(Ok(()), Instance::prepare_all)
    }
}

impl Host for Kernel {
    type Node = Instance;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn open(
        &mut self,
        _: NodeId,
        capacity: Capacity,
        nodes: usize,
    ) -> Result<Instance, BackendError> {
        if nodes == FEW_NODES {
            files::allow_many();
        }
        let spare = self.spare.take().filter(|spare| spare.capacity() == capacity);
        spare.map_or_else(|| Instance::open(&self.object, capacity), Ok)
    }
}

#[cfg(test)]
mod tests;
