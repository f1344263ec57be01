//! `hopwise status`

use std::io;

use clap::Args;

use super::output::Output;
use super::{Format, Look};
use crate::reply::Status;
use crate::session::attach;

/// Say what is attached where, by which generation, with counters
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Only what has this name
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(args: &StatusArgs, look: &Look) -> io::Result<Status> {
    Output::of(look, &args.format).reply(&attach::status(args.name.as_deref()))
}
