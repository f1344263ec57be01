//! `hopwise debug`: a question or a recording in the debugger, on a terminal or as a script.

use std::io::{self, IsTerminal};
use std::path::Path;

use clap::Args;

use super::output::Output;
use super::trace::joined;
use super::{Files, Format, Look};
use crate::backend;
use crate::reply::{Content, Status};
use crate::session::Session;
use crate::shell;

const AFTER_HELP: &str = "\
A question, or the file that `hopwise trace --record` wrote:
  hopwise debug -f shop.hop 'web/client -> web/echo-0:8080/tcp'
  hopwise debug -f shop.hop --at 'node02 from-netdev' 'ipv4 8.8.8.8 > 10.244.6.11 / icmp'
  hopwise debug drop.hoptrace
  echo 'break drop; continue' | tr ';' '\\n' | hopwise debug drop.hoptrace

At a stop `help` lists the commands; their unique beginnings do, and an empty line repeats.";

/// Step through one flow
///
/// Runs the datapath's programs on the packet of a question in the interpreter, one event, source line or
/// instruction after the other, forward and back, with breakpoints, and shows packet, registers and maps.
/// Where standard input is no terminal it is run as a script of the debugger's commands.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, verbatim_doc_comment)]
pub(super) struct DebugArgs {
    /// The question, as one argument or as several words; or the file of a recorded one
    #[arg(required = true, value_name = "QUESTION|FILE")]
    question: Vec<String>,
    /// Let a packet enter at a hook of a node as it is: `node02 from-overlay vni 7 from 192.168.66.226`
    #[arg(long, value_name = "HOOK")]
    at: Option<String>,
    #[command(flatten)]
    files: Files,
    /// Go on after a command of a script that fails; ends with the worst exit code
    #[arg(short, long)]
    keep_going: bool,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(args: &DebugArgs, look: &Look) -> io::Result<Status> {
    let mut output = Output::of(look, &args.format);
    let (mut session, opened) = match &args.question[..] {
        [file] if args.at.is_none() && is_recording(file) => {
            let mut session = Session::new(backend::open);
            let opened = session.debug_file(Path::new(file));
            (session, opened)
        }
        words => {
            let (mut session, loaded) = match args.files.open() {
                Ok(opened) => opened,
                Err(reply) => return output.reply(&reply),
            };
            let mut question = joined(words);
            if let Some(hook) = &args.at {
                question = format!("--at {hook} {question}");
            }
            let opened = session.debug(&question).after(loaded);
            (session, opened)
        }
    };
    let status = output.reply(&opened)?;
    if !matches!(opened.content, Content::Halt(_)) {
        return Ok(status);
    }
    if let Err(message) = session.settings_mut().set("color", &look.color) {
        return output.reply(&crate::reply::Reply::failure(Status::Usage, message, ""));
    }
    let ended = if io::stdin().is_terminal() && io::stdout().is_terminal() {
        shell::debugger(&mut session, &mut output)?
    } else {
        shell::script(&mut session, &mut output, args.keep_going)?
    };
    Ok(status.worst(ended))
}

/// Whether the only argument is a recording and no question, which has two words or an arrow.
fn is_recording(argument: &str) -> bool {
    let path = Path::new(argument);
    let ending = path.extension().and_then(|ending| ending.to_str());
    path.is_file() || matches!(ending, Some("hoptrace" | "trace"))
}
