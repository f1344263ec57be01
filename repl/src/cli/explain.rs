//! `hopwise explain`

use std::io;

use clap::Args;

use super::Look;
use super::output::Output;
use crate::explain;
use crate::reply::Status;

/// Explain a diagnostic code or a drop reason
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// HW0200 or its name; the number or the name of a drop reason: 133, policy-denied
    code: String,
}

pub(super) fn run(args: &ExplainArgs, look: &Look) -> io::Result<Status> {
    Output::text(look).reply(&explain::explain(&args.code))
}
