//! Whether what a program returned, marked and said fits together. A run that contradicts itself is refused, never
//! read.

use datapath_abi::mark;
use engine::backend::BackendError;
use engine::tables::Generation;
use engine::trace::{Action, Hop};

/// What a program returns must be what it says it did.
pub(super) fn code(hop: &Hop, action: Action, code: i32) -> Result<(), BackendError> {
    // `TC_ACT_*` of the kernel's `pkt_cls.h`; backends give XDP's codes as these.
    const OK: i32 = 0;
    const SHOT: i32 = 2;
    const REDIRECT: i32 = 7;
    let expected = match action {
        Action::Drop(_) => SHOT,
        Action::Deliver { .. } | Action::Tunnel { .. } | Action::Network { .. } => REDIRECT,
        Action::Stack { .. } | Action::Pass => OK,
    };
    if code == expected {
        return Ok(());
    }
    Err(BackendError::BadEvent(format!(
        "{} returned {code}, which does not fit what it reported: {action:?}",
        hop.hook
    )))
}

/// What goes to a pod by its veth's egress hook must be marked, or a live system would judge it twice.
pub(super) fn mark(hop: &Hop, action: Action, mark: u32) -> Result<(), BackendError> {
    let by_veth = matches!(action, Action::Deliver { peer: false, .. });
    if !by_veth || mark & mark::MASK == mark::DELIVERED {
        return Ok(());
    }
    Err(BackendError::BadEvent(format!(
        "{} delivers by the veth with mark {mark:#x}, not as judged",
        hop.hook
    )))
}

/// An answer from another state of the tables is an answer to another question.
pub(super) fn generation(hop: &Hop, node: &str, expected: Generation) -> Result<(), BackendError> {
    match hop.events.iter().find(|event| event.generation != expected) {
        Some(event) => Err(BackendError::BadEvent(format!(
            "{} on {node} saw generation {}, asked was {}",
            hop.hook, event.generation.0, expected.0
        ))),
        None => Ok(()),
    }
}
