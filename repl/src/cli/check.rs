//! `hopwise check`

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::files::{self, Programs};
use super::output::Output;
use super::{Format, Look};
use crate::reply::{Content, Reply, Status};

/// List the errors and warnings of files
///
/// Ends with 3 where there is an error; warnings alone end with 0.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(args: &CheckArgs, look: &Look) -> io::Result<Status> {
    let output = Output::of(look, &args.format);
    let programs = match args.programs.expanded() {
        Ok(programs) => programs,
        Err(reply) => return output.reply(&reply),
    };
    let mut replies = Vec::new();
    for program in &programs {
        let reply = checked(program);
        if matches!(reply.content, Content::Failure(_)) {
            return output.reply(&reply);
        }
        replies.push(reply);
    }
    if !output.json {
        replies = summed_up(replies);
    }
    output.replies(&replies)
}

/// The replies with problems, and one that counts the others.
fn summed_up(mut replies: Vec<Reply>) -> Vec<Reply> {
    let total = replies.len();
    replies
        .retain(|reply| !matches!(&reply.content, Content::Diagnostics(list) if list.is_empty()));
    let clean = match (total - replies.len(), total) {
        (1, 1) => "no problems".to_owned(),
        (n, total) if n == total => format!("no problems in {n} files"),
        (n, total) => format!("no problems in {n} of {total} files"),
    };
    if total > 1 || replies.is_empty() {
        replies.push(Reply::text(clean));
    }
    replies
}

fn checked(program: &[PathBuf]) -> Reply {
    match files::open(program) {
        Ok((session, _)) => match session.check() {
            reply if matches!(reply.content, Content::Diagnostics(_)) => reply,
            _ => Reply::diagnostics(Vec::new(), Arc::default()),
        },
        Err(reply) => *reply,
    }
}
