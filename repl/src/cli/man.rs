//! `hopwise man`

use std::io;

use clap::Args;
use clap_mangen::Man;

use super::output::Output;
use super::{Look, output};
use crate::reply::{Reply, Status};

/// Print the manual page, or that of a command
///
/// To read it: hopwise man | man -l -
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The command
    command: Option<String>,
}

pub(super) fn run(args: &ManArgs, look: &Look) -> io::Result<Status> {
    let mut program = super::definition().disable_help_subcommand(true);
    program.build();
    let page = match &args.command {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            Some(command) => command.clone(),
            None => return Output::text(look).reply(&unknown(name)),
        },
    };
    let mut roff = Vec::new();
    Man::new(page).render(&mut roff)?;
    output::raw(&roff)?;
    Ok(Status::Ok)
}

fn unknown(name: &str) -> Reply {
    let message = format!("no command `{name}`");
    Reply::failure(Status::Usage, message, "`hopwise --help` lists the commands")
}
