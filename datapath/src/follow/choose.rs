//! The backend that a question forces, as a node's tables place it.

use engine::backend::BackendError;
use engine::net::{Layer, Protocol};
use engine::tables::{Frontend, NodeTables};
use engine::topology::{Pod, PodId, World};
use engine::trace::Place;

use crate::frame;

/// The place that a service shall choose for a frame at a node: the pod's, where the frame asks for a frontend of the
/// node.
pub(super) fn place(
    world: &World,
    here: &NodeTables,
    pod: Option<PodId>,
    frame: &[u8],
) -> Result<Option<Place>, BackendError> {
    let Some(pod) = pod else { return Ok(None) };
    let Some(frontend) = frontend(here, frame) else { return Ok(None) };
    let sets = [frontend.internal, frontend.external];
    let sets = sets.iter().filter_map(|set| here.backend_sets.get(*set as usize));
    let mut backends = sets.flat_map(|set| &set.backends);
    match backends.find(|backend| backend.pod == pod) {
        Some(backend) => Ok(Some(backend.place)),
        None => Err(BackendError::BadInjection(format!(
            "{} is no backend of {} on {}",
            world.pod(pod).map_or_else(|| "the chosen pod".to_owned(), Pod::qualified),
            frontend.place,
            world.node(here.node).map_or("its node", |node| node.name.as_str())
        ))),
    }
}

/// The frontend that a frame asks for.
pub(super) fn frontend<'a>(here: &'a NodeTables, frame: &[u8]) -> Option<&'a Frontend> {
    // A first fragment has the ports too, so the layers are asked instead of the flow.
    let [_, Layer::Ip { header, .. }, transport, ..] = &frame::dissect(frame, &[])[..] else {
        return None;
    };
    let (protocol, port) = match *transport {
        Layer::Tcp { destination, .. } => (Protocol::Tcp, destination),
        Layer::Udp { destination, .. } => (Protocol::Udp, destination),
        Layer::Sctp { destination, .. } => (Protocol::Sctp, destination),
        _ => return None,
    };
    let place = Place { address: header.destination, port };
    here.frontends.iter().find(|own| own.protocol == protocol && own.place == place)
}
