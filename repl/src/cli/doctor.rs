//! `hopwise doctor`

use std::io;

use clap::Args;

use super::output::Output;
use super::{Format, Look};
use crate::doctor;
use crate::reply::Status;

/// Say what this machine can do, and the remedy for each gap
///
/// Ends with 4 where something is missing that questions need.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(args: &DoctorArgs, look: &Look) -> io::Result<Status> {
    let output = Output::of(look, &args.format);
    output.reply(&if output.json { doctor::in_columns() } else { doctor::doctor() })
}
