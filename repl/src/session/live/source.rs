//! Installations of this host as sources of runs.

use crate::monitor::{Asked, Source};
use crate::reply::{Reply, Status};

/// Names of what is installed.
pub(crate) fn installed() -> Vec<String> {
    Vec::new()
}

/// Opens what is asked for.
pub(super) fn open(_asked: &Asked) -> Result<Box<dyn Source>, Box<Reply>> {
    let remedy = "`hopwise lab up NAME -f FILE` makes a lab";
    Err(Box::new(Reply::failure(Status::Environment, "nothing is installed", remedy)))
}
