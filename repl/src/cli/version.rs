//! `hopwise version`

use std::io;

use clap::Args;

use super::output::Output;
use super::{Format, Look};
use crate::backend;
use crate::reply::{Content, Listing, Reply, Status};

/// Print the version, and those of what hopwise is made of
#[derive(Debug, Args)]
pub(super) struct VersionArgs {
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(args: &VersionArgs, look: &Look) -> io::Result<Status> {
    let mut output = Output::of(look, &args.format);
    output.no_headers = true;
    let mut listing = Listing::new("versions", &[("part", "PART"), ("version", "VERSION")]);
    listing.rows =
        parts().into_iter().map(|(part, version)| vec![part.into(), version.into()]).collect();
    output.reply(&Reply::ok(Content::Listing(listing)))
}

/// What hopwise is made of, with versions.
fn parts() -> Vec<(&'static str, String)> {
    let commit = option_env!("HOPWISE_COMMIT").unwrap_or("unknown");
    vec![
        ("hopwise", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", commit.to_owned()),
        ("libbpf", backend::libbpf()),
        ("object", backend::object().unwrap_or_else(|error| error.to_string())),
        ("kernel", backend::oldest_kernel()),
    ]
}
