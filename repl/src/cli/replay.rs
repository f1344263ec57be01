//! `hopwise replay`

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;

use super::files::is_stdin;
use super::monitor::interrupted_by_signals;
use super::output::{self, Output};
use super::{Files, Format, Look, Runner};
use crate::pcap::{Held, Unreadable, is_pipe};
use crate::render;
use crate::replay::{FLOW_LIMIT, HIGHEST_LIMIT, Options};
use crate::reply::{Content, Reply, Status};
use crate::session::{Session, Wanted, unreadable};

const AFTER_HELP: &str = "\
Every packet enters where its source address sends it: a pod's at its veth, others at the node's device. Conntrack
is carried through the capture by the capture's clock. What began before the capture is `unknown-state`.

  hopwise replay seen.pcap -f shop.hop
  tcpdump -i any -w - | hopwise replay - -f shop.hop
  hopwise replay seen.pcap -f shop.hop --expect allowed
  hopwise replay seen.pcap -f shop.hop --policy stricter.hop --exit-code";

/// Run captured packets through the policy
///
/// Reads pcap and pcapng with Ethernet, raw IP and Linux cooked frames, takes packets out of VXLAN and Geneve, and says
/// what becomes of each flow and which rule decided.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, verbatim_doc_comment)]
pub(super) struct ReplayArgs {
    /// The capture; `-` is standard input
    #[arg(value_name = "CAPTURE")]
    capture: PathBuf,
    #[command(flatten)]
    files: Files,
    /// Say what would change with the policies of FILE, which take the place of those of the same name
    ///
    /// A FILE that has a cluster of its own is taken alone.
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    policy: Option<PathBuf>,
    /// Judge flows that began before the capture as new ones
    #[arg(long)]
    strict: bool,
    /// End with 1 unless every flow that can be judged gets through, and one does
    #[arg(long, value_name = "VERDICT", value_parser = ["allowed"])]
    expect: Option<String>,
    /// End with 1 where the other policies drop or let through what these do not
    #[arg(long, requires = "policy")]
    exit_code: bool,
    /// How many flows are told apart at most
    #[arg(long, value_name = "N", default_value_t = FLOW_LIMIT as u64)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=HIGHEST_LIMIT as u64))]
    max_flows: u64,
    #[command(flatten)]
    runner: Runner,
    /// How to print the result: text, one JSON document, or JSON lines: a flow each, then the summary
    #[arg(short, long, value_name = "FORMAT", default_value = "text", hide_default_value = true)]
    #[arg(value_parser = ["text", "json", "jsonl"])]
    output: String,
}

impl ReplayArgs {
    fn name(&self) -> String {
        self.capture.display().to_string()
    }

    /// Standard input is read by one only, and holds nothing where somebody types.
    fn asks_once(&self) -> Result<(), Box<Reply>> {
        let refused = |message: &str, remedy: &str| {
            Err(Box::new(Reply::failure(Status::Usage, message, remedy)))
        };
        if !is_stdin(&self.capture) {
            return Ok(());
        }
        if self.files.has_stdin() {
            let message = "standard input cannot be the capture and a file of the world";
            return refused(message, "name one of them");
        }
        if io::stdin().is_terminal() {
            let remedy = "name a file, or `tcpdump -w - | hopwise replay -`";
            return refused("standard input is a terminal, and no capture", remedy);
        }
        Ok(())
    }

    /// The capture. What comes by a pipe is read to its end, which a Ctrl-C may be that is meant for who writes it.
    fn held(&self, session: &Session) -> io::Result<Result<Held, Unreadable>> {
        let is_stdin = is_stdin(&self.capture);
        if !is_stdin && !is_pipe(&self.capture) {
            return Ok(Held::open(&self.capture));
        }
        interrupted_by_signals(session)?;
        let held = if is_stdin {
            Held::piped(&self.name(), io::stdin().lock())
        } else {
            Held::piped(&self.name(), File::open(&self.capture)?)
        };
        session.interrupt().clear();
        Ok(held)
    }
}

pub(super) fn run(args: &ReplayArgs, look: &Look) -> io::Result<Status> {
    let is_lines = args.output == "jsonl";
    // What cannot be done is one document for lines, too.
    let form = if is_lines { "json" } else { &args.output };
    let output = Output::of(look, &Format { output: form.to_owned() });
    if let Err(reply) = args.asks_once() {
        return output.reply(&reply);
    }
    let (mut session, loaded) = match args.files.open() {
        Ok(opened) => opened,
        Err(reply) => return output.reply(&reply),
    };
    if let Err(message) = args.runner.choose(&mut session) {
        return output.reply(&Reply::failure(Status::Usage, message, ""));
    }
    let flow_limit = usize::try_from(args.max_flows).unwrap_or(FLOW_LIMIT);
    let wanted = Wanted {
        options: Options { strict: args.strict, flow_limit },
        policy: args.policy.clone(),
        expects_allowed: args.expect.is_some(),
        expects_unchanged: args.exit_code,
    };
    let held = match args.held(&session)? {
        Ok(held) => held,
        Err(problem) => return output.reply(&unreadable(&args.name(), problem)),
    };
    let reply = session.replay(&held, &wanted).after(loaded);
    match &reply.content {
        Content::Replay(report) if is_lines => {
            let mut lines = Vec::new();
            render::replay_lines(report, reply.status, &mut lines)?;
            output::raw(&lines)?;
            Ok(reply.status)
        }
        _ => output.reply(&reply),
    }
}
