//! `hopwise detach`

use std::io;

use clap::Args;

use super::output::Output;
use super::{Format, Look};
use crate::reply::Status;
use crate::session::attach;

/// Take the programs off devices again, and leave what was there before
#[derive(Debug, Args)]
pub(super) struct DetachArgs {
    /// What was given as its name; may be left out where there is one
    #[arg(value_name = "NAME", conflicts_with = "all")]
    name: Option<String>,
    /// Everything that is attached, also what a killed process left half made
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(args: &DetachArgs, look: &Look) -> io::Result<Status> {
    let reply = if args.all { attach::detach_all() } else { attach::detach(args.name.as_deref()) };
    Output::of(look, &args.format).reply(&reply)
}
