//! What programs counted on a node, read.

use datapath_abi as abi;
use engine::backend::BackendError;
use engine::tables::EntryId;
use engine::trace::{Counter, Hit};

use super::{Node, base};
use crate::decode;
use crate::encode::Slot;

/// Counters of a node that are not 0.
pub(crate) fn counters(node: &impl Node) -> Result<Vec<Counter>, BackendError> {
    let mut counted = Vec::new();
    for index in decode::counter_indices() {
        let values = node.per_cpu(abi::maps::COUNTERS, index)?;
        counted.extend(decode::counter(index, &values)?);
    }
    Ok(counted)
}

/// Hits of a node's slot that are not 0.
pub(super) fn hits<N: Node>(node: Option<&N>, slot: &Slot) -> Result<Vec<Hit>, BackendError> {
    let Some(node) = node else { return Ok(Vec::new()) };
    let base = base(slot.number, node.capacity().hits);
    let mut hits = Vec::new();
    for range in &slot.hits {
        for entry in 0..range.count {
            let values = node.per_cpu(abi::maps::HITS, base + range.first + entry)?;
            let entry = EntryId(entry);
            hits.extend(decode::hit(range.endpoint, range.direction, entry, &values)?);
        }
    }
    Ok(hits)
}
