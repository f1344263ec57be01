//! Taking over nodes that another process left running, with the tables that are active in them.

use std::rc::Rc;

use engine::backend::BackendError;
use engine::tables::Generation;
#[cfg(feature = "live")]
use engine::{tables::Tables, topology::NodeId};

use super::{Capacity, Host, Node, Nodes, activate, fill};
#[cfg(feature = "live")]
use super::{Limits, Loaded};
#[cfg(feature = "live")]
use crate::encode;
use crate::encode::Slot;

/// A node that was opened, with the tables active that it shall have: one that was there has them already.
pub(super) fn settled<N: Node>(
    mut node: N,
    slot: &Rc<Slot>,
    number: u32,
) -> Result<N, BackendError> {
    if node.is_adopted() {
        let capacity = node.capacity();
        node.slots().adopt(slot, capacity);
    } else {
        fill(&mut node, slot)?;
        activate(&mut node, number)?;
        node.hang()?;
    }
    Ok(node)
}

/// Fills the slot of a generation. A node that has it active already, from a process that was killed before it came to the others, has
/// it whole, and packets see it.
pub(super) fn filled<N: Node>(
    node: &mut N,
    slot: &Rc<Slot>,
    number: u32,
) -> Result<(), BackendError> {
    if node.active()? != Some(number) {
        return fill(node, slot);
    }
    let capacity = node.capacity();
    node.slots().adopt(slot, capacity);
    Ok(())
}

#[cfg(feature = "live")]
impl<H: Host> Nodes<H> {
    /// Takes what runs already for what these tables compile to; their generation is the number that is active.
    pub(crate) fn adopt(&mut self, tables: &Tables) -> Result<(), BackendError> {
        let number = tables.generation.0;
        let ends = encode::tunnel_addresses(tables);
        let encode = |node| encode::encode(node, &ends, number & 1, &self.limits).map(Rc::new);
        let nodes = tables.nodes.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        self.generations.insert(number, tables.generation);
        self.adopted = number;
        self.loaded = Some(Loaded { generation: tables.generation, number, nodes });
        Ok(())
    }

    /// The nodes that are not made yet, with how large their maps will be.
    pub(crate) fn needed(&self) -> Vec<(NodeId, Capacity)> {
        let slots = self.loaded.iter().flat_map(|loaded| &loaded.nodes);
        let numbered = slots.enumerate().filter_map(|(at, slot)| {
            let node = NodeId(u32::try_from(at).ok()?);
            (!self.made.contains_key(&node)).then(|| (node, Capacity::of(slot)))
        });
        numbered.collect()
    }
}

/// How large the maps of each node are that tables are the first of.
#[cfg(feature = "live")]
pub(crate) fn sizes(
    tables: &Tables,
    limits: &Limits,
) -> Result<Vec<(NodeId, Capacity)>, BackendError> {
    let ends = encode::tunnel_addresses(tables);
    let mut sizes = Vec::new();
    for (at, node) in tables.nodes.iter().enumerate() {
        let number = u32::try_from(at).unwrap_or(u32::MAX);
        sizes.push((NodeId(number), Capacity::of(&encode::encode(node, &ends, 1, limits)?)));
    }
    Ok(sizes)
}

impl<H: Host> Nodes<H> {
    /// The caller's generation of one of the programs'.
    pub(super) fn known(&self, number: u32) -> Option<Generation> {
        let before = (1..=self.adopted).contains(&number).then_some(Generation(number));
        self.generations.get(&number).copied().or(before)
    }

    /// Makes larger ones of nodes whose tables have outgrown theirs. What they remember moves along.
    pub(super) fn grow(&mut self, nodes: &[Rc<Slot>]) -> Result<(), BackendError> {
        let count = self.made.len();
        for (node, old) in &mut self.made {
            let slot = nodes.get(node.index()).filter(|slot| !old.capacity().fits(slot));
            let Some(slot) = slot else { continue };
            let capacity = Capacity::of(slot).max(old.capacity());
            let mut larger = self.host.larger(*node, capacity, count, old)?;
            if let Some(loaded) = &self.loaded
                && let Some(active) = loaded.nodes.get(node.index())
            {
                fill(&mut larger, active)?;
                activate(&mut larger, loaded.number)?;
            }
            larger.inherit(old)?;
            larger.hang()?;
            larger.replace(old)?;
            *old = larger;
        }
        Ok(())
    }
}
