//! The binary `hopwise`: hands its arguments to the command line and exits with what comes of them.

use std::process::ExitCode;

fn main() -> ExitCode {
    repl::cli::run(std::env::args_os())
}
