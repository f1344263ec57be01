//! The command line: arguments to one call of the session, its reply to standard output and an exit code.
//! Owns names of commands and flags and their help; decides nothing about packets.

mod attach;
mod check;
mod completion;
mod coverage;
mod debug;
mod detach;
mod doctor;
mod explain;
mod files;
mod fmt;
mod lab;
mod man;
mod misuse;
pub(crate) mod monitor;
pub(crate) mod output;
mod repl;
mod replay;
mod schema;
mod show;
mod status;
mod test;
mod trace;
mod version;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::reply::{Reply, Status};
use crate::session::{SETTINGS, Session};
use files::Files;
use output::Output;

/// What a shell reports for a process that the signal SIGPIPE ended.
const BROKEN_PIPE: u8 = 141;

const AFTER_HELP: &str = "\
Without a command: a session where standard input and output are a terminal; else standard input is run
as a script of the session's commands.

Exit codes: 0 done; 1 a negative answer (an expectation not met, a test failed, a file not in canonical
form, no packet caught in time); 2 the command line cannot be understood; 3 the input has errors; 4 the
machine lacks something; 5 the datapath and the oracle differ, which is a bug of hopwise; 130 ended by
Ctrl-C.";

/// Why was this packet allowed, dropped or tunneled?
///
/// hopwise compiles a network-policy language into the maps of a real eBPF datapath, runs packets through
/// it in the kernel, and explains what happened hop by hop, down to the source line of the rule that decided.
#[derive(Debug, Parser)]
#[command(
    name = "hopwise",
    version,
    after_help = AFTER_HELP,
    verbatim_doc_comment
)]
struct Cli {
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    session: repl::ReplArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
struct Look {
    // An attribute, so that the variables stand without backticks.
    #[arg(help = "When to use colour; NO_COLOR and CLICOLOR_FORCE are honoured")]
    #[arg(
        long,
        global = true,
        display_order = 900,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true
    )]
    #[arg(value_parser = words("color"))]
    color: String,
    /// Print results and errors only: no warnings, no greeting
    #[arg(short, long, global = true, display_order = 901)]
    quiet: bool,
}

/// How a result is printed.
#[derive(Clone, Debug, Args)]
struct Format {
    /// How to print the result: one JSON document, or text
    #[arg(short, long, value_name = "FORMAT", default_value = "text", hide_default_value = true)]
    #[arg(value_parser = ["text", "json"])]
    output: String,
}

/// What runs packets.
#[derive(Clone, Debug, Args)]
struct Runner {
    /// What runs packets: the kernel or, where it is not available, the interpreter; `both` compares them, `lab` sends real ones
    #[arg(long, value_name = "BACKEND", default_value = "auto", hide_default_value = true)]
    #[arg(value_parser = words("backend"))]
    backend: String,
}

impl Runner {
    /// Tells a session. The words are the setting's own.
    fn choose(&self, session: &mut Session) -> Result<(), String> {
        session.settings_mut().set("backend", &self.backend)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Trace(trace::TraceArgs),
    Debug(debug::DebugArgs),
    Test(test::TestArgs),
    Replay(replay::ReplayArgs),
    Lab(lab::LabArgs),
    Monitor(monitor::MonitorArgs),
    Attach(attach::AttachArgs),
    Status(status::StatusArgs),
    Detach(detach::DetachArgs),
    Check(check::CheckArgs),
    Fmt(fmt::FmtArgs),
    Show(show::ShowArgs),
    Explain(explain::ExplainArgs),
    Repl(repl::ReplArgs),
    Doctor(doctor::DoctorArgs),
    Schema(schema::SchemaArgs),
    Completion(completion::CompletionArgs),
    Man(man::ManArgs),
    Version(version::VersionArgs),
}

/// The words that a setting of the session takes, as values of an argument.
fn words(setting: &str) -> PossibleValuesParser {
    let known = SETTINGS.iter().find(|(name, _)| *name == setting);
    PossibleValuesParser::new(known.map_or(&[][..], |(_, words)| words))
}

/// Runs the command line; the first argument is the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    std::panic::set_hook(Box::new(output::say_that_it_is_a_bug));
    // An arrow of its own would be read as flags, and questions do without it.
    let arguments: Vec<OsString> =
        arguments.into_iter().filter(|argument| argument != "->").collect();
    let outcome = match Cli::try_parse_from(&arguments) {
        Ok(cli) => command(cli),
        Err(error) if error.use_stderr() => misuse::tell(&error, &arguments),
        Err(help) => help.print().map(|()| Status::Ok),
    };
    match outcome {
        Ok(status) => ExitCode::from(status.code()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(BROKEN_PIPE),
        Err(error) => {
            output::cannot_write(&error);
            ExitCode::from(Status::Environment.code())
        }
    }
}

/// Runs the command; an error is one of standard output.
fn command(cli: Cli) -> io::Result<Status> {
    let look = cli.look;
    if cli.command.is_some() && cli.session.is_given() {
        return Output::text(&look).reply(&misplaced());
    }
    match cli.command {
        None => repl::run(&cli.session, &look),
        Some(Command::Trace(args)) => trace::run(&args, &look),
        Some(Command::Debug(args)) => debug::run(&args, &look),
        Some(Command::Test(args)) => test::run(&args, &look),
        Some(Command::Lab(args)) => lab::run(&args, &look),
        Some(Command::Replay(args)) => replay::run(&args, &look),
        Some(Command::Monitor(args)) => monitor::run(&args, &look),
        Some(Command::Attach(args)) => attach::run(&args, &look),
        Some(Command::Status(args)) => status::run(&args, &look),
        Some(Command::Detach(args)) => detach::run(&args, &look),
        Some(Command::Check(args)) => check::run(&args, &look),
        Some(Command::Fmt(args)) => fmt::run(&args, &look),
        Some(Command::Show(args)) => show::run(&args, &look),
        Some(Command::Explain(args)) => explain::run(&args, &look),
        Some(Command::Repl(args)) => repl::run(&args, &look),
        Some(Command::Doctor(args)) => doctor::run(&args, &look),
        Some(Command::Schema(args)) => schema::run(&args, &look),
        Some(Command::Completion(args)) => completion::run(&args, &look),
        Some(Command::Man(args)) => man::run(&args, &look),
        Some(Command::Version(args)) => version::run(&args, &look),
    }
}

/// A flag of the session stands before a command, which would not see it.
fn misplaced() -> Reply {
    let message = "`-f`, `-k` and `--backend` before a command have no effect on it";
    Reply::failure(Status::Usage, message, "write them after the command")
}

/// The definition of the command line, for completion and the manual.
fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;
