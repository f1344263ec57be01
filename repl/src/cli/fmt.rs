//! `hopwise fmt`

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::files::{is_stdin, stdin};
use super::output::Output;
use super::{Look, output};
use crate::reply::{Reply, Status};
use crate::session::{self, Formatted};

/// Put files into canonical form
///
/// Comments stay. A file with syntax errors is left as it is.
#[derive(Debug, Args)]
pub(super) struct FmtArgs {
    /// Files; a directory stands for every .hop file below it; - formats standard input to standard
    /// output; default: the current directory
    #[arg(value_name = "FILE", default_value = ".", hide_default_value = true)]
    files: Vec<PathBuf>,
    /// Change nothing: print what would change as a diff, and end with 1 where something would
    #[arg(long)]
    check: bool,
}

pub(super) fn run(args: &FmtArgs, look: &Look) -> io::Result<Status> {
    let output = Output::text(look);
    let mut replies = Vec::new();
    for file in &args.files {
        if is_stdin(file) {
            replies.push(from_stdin(args.check)?);
            continue;
        }
        match session::files_below(file) {
            Ok(paths) => replies.extend(paths.iter().map(|path| one(path, args.check))),
            Err(reply) => replies.push(*reply),
        }
    }
    output.replies(&replies)
}

fn one(path: &Path, check: bool) -> Reply {
    match session::format_file(path) {
        Ok(formatted) if formatted.is_canonical() => Reply::nothing(),
        Ok(formatted) if check => difference(&formatted),
        Ok(formatted) => match formatted.write() {
            Ok(()) => Reply::text(format!("formatted {}", path.display())),
            Err(reply) => *reply,
        },
        Err(reply) => *reply,
    }
}

fn from_stdin(check: bool) -> io::Result<Reply> {
    let formatted = stdin().and_then(|text| session::format_text("<stdin>", &text));
    Ok(match formatted {
        Ok(formatted) if check && formatted.is_canonical() => Reply::nothing(),
        Ok(formatted) if check => difference(&formatted),
        Ok(formatted) => {
            output::raw(formatted.text().as_bytes())?;
            Reply::nothing()
        }
        Err(reply) => *reply,
    })
}

fn difference(formatted: &Formatted) -> Reply {
    let mut reply = Reply::text(formatted.difference());
    reply.status = Status::Negative;
    reply
}
