//! The binary `hopwise` as a person runs it: built once per test run, started with a plain environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::tree::root;

/// Where the binary is; builds it first, in the profile that the tests were built in.
pub(crate) fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(build)
}

/// Cargo gives a package the paths of its own binaries only, and this one is another package's.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.ancestors().nth(2).expect("tests lie in `deps` of the profile's folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "repl", "--bin", "hopwise"]);
    if folder.file_name().is_some_and(|name| name == "release") {
        build.arg("--release");
    }
    let status = build.current_dir(root()).status().expect("cargo runs");
    assert!(status.success(), "hopwise does not build");
    folder.join("hopwise")
}

/// The binary, to be run in the repository's root, without colour and independent of the caller's settings.
pub(crate) fn hopwise() -> Command {
    let mut command = Command::new(path());
    command.current_dir(root()).env("NO_COLOR", "1").env("COLUMNS", "100").env("TERM", "dumb");
    for set_by_the_caller in
        ["RUST_BACKTRACE", "CLICOLOR_FORCE", "HOPWISE_BPF_OBJECT", "HOPWISE_STATE"]
    {
        command.env_remove(set_by_the_caller);
    }
    let state = std::env::temp_dir().join(format!("hopwise-tests-{}", std::process::id()));
    command.env("XDG_STATE_HOME", &state).env("XDG_CONFIG_HOME", &state);
    command
}

/// Standard output and then standard error, as a person sees them, with the exit code.
pub(crate) fn seen(output: &Output) -> (String, i32) {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (text, output.status.code().unwrap_or(-1))
}
