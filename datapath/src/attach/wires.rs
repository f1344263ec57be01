//! Found devices as places of programs. Nothing is sent by them: what passes is what their pods send and get.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use datapath_abi as abi;
use engine::backend::BackendError;
use engine::topology::NodeId;

use super::hangs;
use crate::lab::namespace::Namespace;
use crate::live::{Conduct, Mode, Order, Place, Programs, Side, Wires, pins};

/// A node's devices.
#[derive(Debug)]
pub struct Hung {
    /// The node's name.
    pub name: String,
    /// The namespace of the devices.
    pub namespace: Namespace,
    /// Where programs hang.
    pub places: Vec<Place>,
}

/// Devices with programs that are pinned.
#[derive(Debug)]
pub struct AttachWires {
    /// The nodes that have some.
    pub nodes: BTreeMap<NodeId, Hung>,
    /// The directory of the pins.
    pub pins: PathBuf,
    /// How programs behave that are loaded for them.
    pub mode: Mode,
}

fn failed(call: &str, error: impl std::fmt::Display) -> BackendError {
    BackendError::System { call: call.to_owned(), error: error.to_string() }
}

impl AttachWires {
    /// Hangs a node's programs where they are to hang, and takes them off elsewhere.
    pub fn settle(&self, node: NodeId, programs: &mut Programs) -> Result<(), BackendError> {
        let Some(hung) = self.nodes.get(&node) else { return Ok(()) };
        let old: Vec<String> = programs
            .places()
            .filter(|place| !hung.places.contains(place))
            .map(|place| place.device.clone())
            .collect();
        let settled = hung.namespace.visit(|| {
            programs.left_alone()?;
            programs.detach_lost(|place, id| hangs(&place.device, Side::of(place.hook), id))?;
            let is_new = |place: &&Place| !programs.places().any(|known| known == *place);
            let new: Vec<Place> = hung.places.iter().filter(is_new).cloned().collect();
            old.iter().try_for_each(|device| programs.detach(device))?;
            self.hang(&new, programs)
        });
        settled.map_err(|error| failed("entering a namespace", error))?
    }

    /// Who observes sees everything first; who decides comes after those that do so already.
    fn hang(&self, places: &[Place], programs: &mut Programs) -> Result<(), BackendError> {
        let order = if self.mode.conduct == Conduct::Observe { Order::First } else { Order::Last };
        let hung = places.iter().try_for_each(|place| programs.attach_at(place.clone(), order));
        if hung.is_err() {
            // The first error is the one to tell.
            let _ = places.iter().try_for_each(|place| programs.detach(&place.device));
        }
        hung
    }
}

impl Wires for AttachWires {
    fn name(&self) -> String {
        "attached".to_owned()
    }

    fn has(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    fn attach(&mut self, node: NodeId, programs: &mut Programs) -> Result<(), BackendError> {
        let Some(hung) = self.nodes.get(&node) else { return Ok(()) };
        let attached = hung.namespace.visit(|| self.hang(&hung.places, programs));
        attached.map_err(|error| failed("entering a namespace", error))?
    }

    fn send(&mut self, _: NodeId, _: &abi::Input, _: &[u8]) -> Result<(), BackendError> {
        Err(BackendError::BadInjection(
            "nothing is sent on devices that are not hopwise's own; wait for a packet that passes"
                .to_owned(),
        ))
    }

    fn sent(&mut self, _: NodeId) -> Result<Vec<Vec<u8>>, BackendError> {
        Ok(Vec::new())
    }

    fn got(&mut self, _: NodeId, _: u32) -> Result<Vec<Vec<u8>>, BackendError> {
        Ok(Vec::new())
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(500)
    }

    fn pins(&self, node: NodeId) -> Option<PathBuf> {
        self.nodes.get(&node).map(|hung| self.pins.join(pins::escaped(&hung.name)))
    }

    fn mode(&self) -> Mode {
        self.mode
    }
}
