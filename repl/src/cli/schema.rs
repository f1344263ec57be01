//! `hopwise schema`

use std::io;

use clap::Args;

use super::{Look, output};
use crate::render;
use crate::reply::Status;

/// Print the JSON schema of what `-o json` prints
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {}

pub(super) fn run(_: &SchemaArgs, _: &Look) -> io::Result<Status> {
    let mut text = serde_json::to_string_pretty(&render::schema())?;
    text.push('\n');
    output::raw(text.as_bytes())?;
    Ok(Status::Ok)
}
