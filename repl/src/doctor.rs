//! `doctor`: what this host can do, with the remedy for each gap.

use crate::reply::{Reply, Status};

/// The report.
pub(crate) fn doctor() -> Reply {
    match crate::backend::open() {
        Ok(_) => Reply::text("the datapath runs here"),
        Err(error) => {
            let mut reply = *crate::session::refused(&error);
            reply.status = Status::Environment;
            reply
        }
    }
}
