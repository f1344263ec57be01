//! `hopwise completion`

use std::io;

use clap::Args;
use clap_complete::Shell;

use super::{Look, output};
use crate::reply::Status;

const AFTER_HELP: &str = "\
bash: hopwise completion bash > ~/.local/share/bash-completion/completions/hopwise
zsh:  hopwise completion zsh > \"${fpath[1]}/_hopwise\"
fish: hopwise completion fish > ~/.config/fish/completions/hopwise.fish";

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionArgs, _: &Look) -> io::Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::definition(), "hopwise", &mut script);
    output::raw(&script)?;
    Ok(Status::Ok)
}
