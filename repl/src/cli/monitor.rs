//! `hopwise monitor`

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::output::{self, Output};
use super::{Format, Look};
use crate::backend;
use crate::monitor::{Asked, Ended, Item, Sink, Watched};
use crate::render;
use crate::reply::{Content, Reply, Status};
use crate::session::Session;

const AFTER_HELP: &str = "\
Conditions of different kinds must all hold; of several of one kind one must. NAME may be left out where only one lab
or attachment is there. Up to 50,000 events a second, five to ten for each program that a packet passes, none is lost.
Above that, those that did not fit a node's buffer are counted and told, never hidden.

  hopwise monitor
  hopwise monitor --on shop --pod web/client --verdict dropped
  hopwise monitor --for 1m --graph mermaid
  hopwise monitor --namespace web --count 100 --pcap seen.pcapng -o jsonl";

/// Show what the programs of a lab or an attachment say about real packets
///
/// One line for each run of a program: who sent what to whom, the verdict, the rule or reason behind it, and where the
/// packet went on to. Goes on until Ctrl-C, or as long as it is told to.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, verbatim_doc_comment)]
pub(super) struct MonitorArgs {
    /// The lab or the attachment
    #[arg(long, value_name = "NAME")]
    on: Option<String>,
    /// Only with this pod (or node, service, external, address) on either side
    #[arg(long, value_name = "POD")]
    pod: Vec<String>,
    /// Only with this namespace on either side
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// Only with this label on either side
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Only with this identity on either side, by number or by its reserved name
    #[arg(long, value_name = "IDENTITY")]
    identity: Vec<String>,
    /// Only with this port on either side
    #[arg(long, value_name = "PORT")]
    port: Vec<String>,
    /// Only this verdict: allowed, dropped, undecided or unknown-state
    #[arg(long, value_name = "VERDICT")]
    verdict: Vec<String>,
    /// Only drops for this reason, by name or number
    #[arg(long, value_name = "REASON")]
    reason: Vec<String>,
    /// Only on this node
    #[arg(long, value_name = "NODE")]
    node: Vec<String>,
    /// Also runs that had nothing to say but that the packet may go on its way
    #[arg(long)]
    all: bool,
    /// Write the frames to FILE as pcapng, each with its verdict as a comment
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Draw in the end who was seen talking to whom, instead of lines: dot (Graphviz) or mermaid
    #[arg(long, value_name = "FORM")]
    graph: Option<String>,
    /// Serve metrics for Prometheus at ADDR meanwhile, such as 127.0.0.1:9650; of all packets, whatever is shown
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
    /// End after so many lines
    #[arg(long, value_name = "N")]
    count: Option<String>,
    /// End after this time, such as 10s, 5m or 500ms
    #[arg(long = "for", value_name = "TIME")]
    time: Option<String>,
    /// How to print: text, one JSON document in the end, or JSON lines as they come
    #[arg(short, long, value_name = "FORMAT", default_value = "text", hide_default_value = true)]
    #[arg(value_parser = ["text", "json", "jsonl"])]
    output: String,
}

impl MonitorArgs {
    fn asked(&self) -> Result<Asked, String> {
        let mut asked = Asked::default();
        let pcap = self.pcap.as_ref().map(|path| path.display().to_string());
        let one = |value: &Option<String>| value.clone().into_iter().collect();
        let given: [(&str, Vec<String>); 14] = [
            ("on", one(&self.on)),
            ("pod", self.pod.clone()),
            ("namespace", self.namespace.clone()),
            ("label", self.label.clone()),
            ("identity", self.identity.clone()),
            ("port", self.port.clone()),
            ("verdict", self.verdict.clone()),
            ("reason", self.reason.clone()),
            ("node", self.node.clone()),
            ("pcap", one(&pcap)),
            ("graph", one(&self.graph)),
            ("metrics", one(&self.metrics)),
            ("count", one(&self.count)),
            ("for", one(&self.time)),
        ];
        for (flag, values) in &given {
            values.iter().try_for_each(|value| asked.take(flag, value))?;
        }
        if self.all {
            asked.take("all", "")?;
        }
        Ok(asked)
    }
}

pub(super) fn run(args: &MonitorArgs, look: &Look) -> io::Result<Status> {
    let form = if args.output == "text" { "text" } else { "json" };
    let output = Output::of(look, &Format { output: form.to_owned() });
    let asked = match args.asked() {
        Ok(asked) => asked,
        Err(message) => {
            return output.reply(&Reply::failure(
                Status::Usage,
                message,
                "`hopwise monitor --help`",
            ));
        }
    };
    let mut session = Session::new(backend::open);
    interrupted_by_signals(&session)?;
    let is_lines = args.output == "jsonl";
    let failed = Rc::new(Cell::new(None));
    if is_lines || args.output == "text" {
        let shown = Shown { output: output.clone(), is_lines, failed: Rc::clone(&failed) };
        session.set_sink(Box::new(shown));
    }
    let reply = session.monitor(&asked);
    if let Some(error) = failed.take() {
        return Err(error);
    }
    match &reply.content {
        Content::Watched(watched) if watched.report.ended == Ended::Closed => Ok(reply.status),
        Content::Watched(watched) if is_lines => {
            let mut line = Vec::new();
            render::watched_line(&watched.report, reply.status, &mut line)?;
            output::raw(&line)?;
            Ok(reply.status)
        }
        Content::Watched(watched) if form == "text" => {
            sums(watched, &output);
            output.reply(&drawing(reply))
        }
        _ => output.reply(&reply),
    }
}

/// Lines are for standard output, and what they come to for a person.
fn sums(watched: &Watched, output: &Output) {
    if !output.is_quiet() {
        for line in render::watched_lines(&watched.report) {
            output::remark(&line);
        }
    }
}

/// What is left to print where lines were shown as they came.
fn drawing(reply: Reply) -> Reply {
    let Content::Watched(watched) = reply.content else { return reply };
    Reply { content: Content::Text(watched.drawing.unwrap_or_default()), ..reply }
}

/// Ctrl-C ends what goes on for long, with its sums; a second one ends the program.
pub(super) fn interrupted_by_signals(session: &Session) -> io::Result<()> {
    let set = session.interrupt().flag();
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(set))?;
        flag::register(signal, Arc::clone(set))?;
    }
    Ok(())
}

/// Prints items as they come.
pub(crate) struct Shown {
    output: Output,
    is_lines: bool,
    /// Why standard output takes no more.
    failed: Rc<Cell<Option<io::Error>>>,
}

impl Shown {
    /// Answers as they are asked for: as text, or each as a document in a line.
    pub(crate) fn answers(output: &Output) -> Self {
        Self { is_lines: output.json, ..Self::text(output) }
    }

    /// As text.
    pub(crate) fn text(output: &Output) -> Self {
        Self { output: output.clone(), is_lines: false, failed: Rc::default() }
    }
}

impl Sink for Shown {
    fn show(&mut self, items: &[Item]) -> io::Result<()> {
        let mut bytes = Vec::new();
        if self.is_lines {
            render::item_lines(items, &mut bytes)?;
        } else {
            let color = self.output.is_colored(io::stdout().is_terminal());
            let options = render::Options { color, ..render::Options::default() };
            render::items(items, &options, &mut bytes)?;
        }
        let written = io::stdout().write_all(&bytes).and_then(|()| io::stdout().flush());
        written.map_err(|error| {
            let kind = error.kind();
            self.failed.set(Some(error));
            io::Error::from(kind)
        })
    }
}
