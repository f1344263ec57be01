//! `hopwise lab`

use std::io::{self, Read};

use clap::{Args, Subcommand};

use super::output::Output;
use super::{Files, Format, Look};
use crate::backend;
use crate::reply::{Reply, Status};
use crate::session::Session;

const AFTER_HELP: &str = "\
  hopwise lab up demo -f shop.hop
  hopwise lab exec web/client -- curl -s http://10.96.0.20/
  hopwise lab apply demo -f stricter.hop
  hopwise lab down demo

A lab is network namespaces for every node and pod, with real devices between them and the datapath on these; it
needs root. WHERE is a pod, a node or an address as in questions, or `world` for what is outside.";

/// Make, change, use and remove worlds of real pods on this machine
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct LabArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a lab of files
    ///
    /// With a name it stays until `lab down`; without one it ends with Ctrl-C or the end of standard input.
    #[command(verbatim_doc_comment)]
    Up(Named),
    /// Make a lab what other files say, while packets pass
    ///
    /// Policies change from one packet to the next. Pods come before that and go after it; nodes must stay the same.
    #[command(verbatim_doc_comment)]
    Apply(Named),
    /// Run a command in the network of a pod, a node or the outside
    Exec(Exec),
    /// List labs
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Remove a lab, however far it was made
    Down {
        /// Its name; may be left out where there is only one
        name: Option<String>,
        /// Remove all labs and whatever is left of any
        #[arg(long, conflicts_with = "name")]
        all: bool,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Args)]
struct Named {
    /// Its name
    name: Option<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
struct Exec {
    /// The lab; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    lab: Option<String>,
    /// A pod, a node or `world`
    #[arg(value_name = "WHERE")]
    place: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    #[arg(allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(super) fn run(args: &LabArgs, look: &Look) -> io::Result<Status> {
    let mut session = Session::new(backend::open);
    match &args.what {
        What::Up(named) => up(named, look),
        What::Apply(named) => {
            let output = Output::of(look, &named.format);
            let (mut session, loaded) = match named.files.open() {
                Ok(opened) => opened,
                Err(reply) => return output.reply(&reply),
            };
            output.reply(&session.lab_apply(named.name.as_deref(), None).after(loaded))
        }
        What::Exec(exec) => {
            let reply = session.lab_become(exec.lab.as_deref(), &exec.place, &exec.command);
            Output::text(look).reply(&reply)
        }
        What::List { format } => Output::of(look, format).reply(&session.lab_list()),
        What::Down { name, all, format } => {
            let reply =
                if *all { session.lab_down_all() } else { session.lab_down(name.as_deref()) };
            Output::of(look, format).reply(&reply)
        }
    }
}

fn up(named: &Named, look: &Look) -> io::Result<Status> {
    let output = Output::of(look, &named.format);
    let (mut session, loaded) = match named.files.open() {
        Ok(opened) => opened,
        Err(reply) => return output.reply(&reply),
    };
    let reply: Reply = session.lab_up_for_now(named.name.as_deref()).after(loaded);
    let status = output.reply(&reply)?;
    if named.name.is_none() && status == Status::Ok {
        // Ctrl-C ends the process, and the lab with it.
        io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink())?;
    }
    Ok(status)
}
