//! `hopwise trace`

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;

use super::output::Output;
use super::{Files, Format, Look, Runner, words};
use crate::reply::{Reply, Status};
use crate::session::{Live, Session, is_at_hook};

const AFTER_HELP: &str = "\
A question: SOURCE -> DESTINATION[:PORT[/PROTO]] [OPTION ...]
  hopwise trace -f shop.hop 'web/client -> web/echo-0:8080/tcp'
  hopwise trace -f shop.hop web/client web/echo-0:8080/tcp with reply

Quote it, or leave the arrow out: a shell takes `>` for a redirection.

A packet at a hook: [NODE] HOOK [on DEVICE] [vni N from ADDRESS] [mark N], then its bytes:
  hopwise trace -f shop.hop --at 'node02 from-netdev' pcap seen.pcapng number 2
  hopwise trace -f shop.hop --at 'node02 from-netdev' 'ipv4 8.8.8.8 > 10.244.6.11 / icmp'
  hopwise trace -f shop.hop --at 'from-container on web/client' hex 0200...";

/// Explain one flow
///
/// Sends the packet of a question through the datapath, hop by hop, and explains what became of it. Ends
/// with 0 whatever the verdict, unless an expectation is given; with 5 where the datapath and the oracle
/// differ.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, verbatim_doc_comment)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct TraceArgs {
    /// The question, as one argument or as several words; `=> EXPECTATION` may follow it. With `--at`, the packet; with `--drops` it may be left out
    #[arg(required_unless_present = "drops", value_name = "QUESTION")]
    question: Vec<String>,
    /// Let a packet enter at a hook of a node as it is: `node02 from-overlay vni 7 from 192.168.66.226`
    #[arg(long, value_name = "HOOK")]
    at: Option<String>,
    #[command(flatten)]
    files: Files,
    /// How much to show: verdict and rules only, the explanation, or every look-up and the bytes
    #[arg(long, default_value = "normal", hide_default_value = true, value_parser = words("level"))]
    level: String,
    /// What must come out, as a test says it: 'dropped default-deny at ingress'; if not, ends with 1
    #[arg(long, value_name = "EXPECTATION")]
    expect: Option<String>,
    /// Write the question, its files and the answer to FILE, for `hopwise debug FILE` on any machine
    #[arg(long, value_name = "FILE", conflicts_with = "expect")]
    record: Option<PathBuf>,
    /// Write the frame that enters and the one that leaves each hop to FILE as pcapng, explained in packet comments
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Really send the packet, in a lab of the world that goes with the command
    #[arg(long, conflicts_with_all = ["at", "record", "pcap"])]
    live: bool,
    /// With --live: in this lab, or what is attached under this name, and in its own world
    #[arg(long, value_name = "NAME", requires = "live", conflicts_with_all = ["files", "backend"])]
    on: Option<String>,
    /// With --live: send nothing, and catch the next packet of the kind that somebody else sends
    #[arg(long, requires = "live", conflicts_with_all = ["files", "backend"])]
    wait: bool,
    /// With --live: send nothing, and catch the next one that is dropped; without a question, any
    #[arg(long, requires = "live", conflicts_with_all = ["files", "backend"])]
    drops: bool,
    /// With --live: catch packets of others as long as this, such as 30s; 10s where nothing is said
    #[arg(long, value_name = "TIME", requires = "live", conflicts_with_all = ["files", "backend"])]
    timeout: Option<String>,
    /// With --live: hold it against simulation, and show the first step that differs
    #[arg(long, requires = "live")]
    compare: bool,
    /// With --live: send it once a second until Ctrl-C
    #[arg(long, requires = "live")]
    follow: bool,
    /// With --live: send it so many times, once a second
    #[arg(long, value_name = "N", requires = "live", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// With --live: send also a payload of your own, or an HTTP method other than GET or HEAD
    #[arg(long, requires = "live")]
    send: bool,
    #[command(flatten)]
    runner: Runner,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(args: &TraceArgs, look: &Look) -> io::Result<Status> {
    let output = Output::of(look, &args.format);
    if args.question.last().is_some_and(|word| word.ends_with('-')) {
        return output.reply(&arrow_was_eaten());
    }
    if args.on.is_some() || args.wait || args.drops || args.timeout.is_some() {
        return installed(args, &output);
    }
    let (mut session, loaded) = match args.files.open() {
        Ok(opened) => opened,
        Err(reply) => return output.reply(&reply),
    };
    let set = session.settings_mut().set("level", &args.level);
    if let Err(message) = set.and_then(|()| args.runner.choose(&mut session)) {
        return output.reply(&Reply::failure(Status::Usage, message, ""));
    }
    let mut question = joined(&args.question);
    if let Some(hook) = &args.at {
        question = format!("--at {hook} {question}");
    }
    if args.live {
        super::monitor::interrupted_by_signals(&session)?;
        session.set_sink(Box::new(super::monitor::Shown::answers(&output)));
        let TraceArgs { compare, follow, count, send, .. } = *args;
        let live = Live { follow, count, compare, send, ..Live::default() };
        let reply = session.trace_live_line(&live, &question, args.expect.as_deref());
        return output.reply(&reply.after(loaded));
    }
    if args.record.is_some() && is_at_hook(&question) {
        return output.reply(&not_recorded());
    }
    let ask = |session: &mut Session| match (&args.expect, &args.record) {
        (Some(expectation), _) => session.ask_expecting(&question, expectation),
        (None, Some(file)) => session.record(file, &question),
        (None, None) => session.ask_line(&question),
    };
    let reply = match &args.pcap {
        Some(file) => session.capturing(file, ask),
        None => ask(&mut session),
    };
    output.reply(&reply.after(loaded))
}

/// A question to what is installed, whose world is its own: no file is read.
fn installed(args: &TraceArgs, output: &Output) -> io::Result<Status> {
    let mut asked = crate::monitor::Asked::default();
    if let Some(Err(message)) = args.timeout.as_ref().map(|time| asked.take("for", time)) {
        return output.reply(&Reply::failure(Status::Usage, message, "`hopwise trace --help`"));
    }
    let mut session = Session::new(crate::backend::open);
    if let Err(message) = session.settings_mut().set("level", &args.level) {
        return output.reply(&Reply::failure(Status::Usage, message, ""));
    }
    super::monitor::interrupted_by_signals(&session)?;
    session.set_sink(Box::new(super::monitor::Shown::answers(output)));
    let TraceArgs { wait, drops, compare, follow, count, send, .. } = *args;
    let (on, timeout) = (args.on.clone(), asked.time);
    let live = Live { on, wait, drops, timeout, follow, count, compare, send, ..Live::default() };
    let question = joined(&args.question);
    output.reply(&session.trace_live_line(&live, &question, args.expect.as_deref()))
}

/// The debugger opens questions, and a packet at a hook is none.
fn not_recorded() -> Reply {
    let message = "a packet at a hook cannot be recorded for the debugger";
    let remedy =
        "`--pcap FILE` writes its frames, and `pcap FILE number N` lets one of them enter again";
    Reply::failure(Status::Usage, message, remedy)
}

/// The words as one text. A shell took the quotes of a payload, of a path or of a capture's name off; they are put back.
pub(super) fn joined(words: &[String]) -> String {
    let mut text = String::new();
    let (mut before, mut after) = ("", "");
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        let needs_quotes = match after {
            "payload" => true,
            "pcap" => word.contains(char::is_whitespace),
            _ => before == "http",
        };
        if needs_quotes && !word.starts_with('"') {
            text.push('"');
            text.push_str(&word.replace('\\', r"\\").replace('"', "\\\""));
            text.push('"');
        } else {
            text.push_str(word);
        }
        (before, after) = (after, word);
    }
    text
}

/// A shell read `a -> b` as `a -` with standard output going to the file `b`.
fn arrow_was_eaten() -> Reply {
    let target = fs::read_link("/proc/self/fd/1").ok().filter(|path| path.is_file());
    let took = match target {
        Some(file) => {
            format!("the shell took `>` for a redirection, to the file `{}`", file.display())
        }
        None => "the shell takes an unquoted `>` for a redirection".to_owned(),
    };
    let message = format!("the question ends in `-`: {took}");
    let remedy = "quote the question, `hopwise trace 'a -> b:80'`, or leave the arrow out, \
                  `hopwise trace a b:80`";
    Reply::failure(Status::Usage, message, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_one_question() {
        let check = |words: &[&str], expected: &str| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            assert_eq!(joined(&words), expected);
        };
        check(&["a -> b:80 syn"], "a -> b:80 syn");
        check(&["a", "b:80", "with", "reply"], "a b:80 with reply");
        check(&["a", "b:80", "payload", "x \"y\" z"], "a b:80 payload \"x \\\"y\\\" z\"");
        check(&["a", "b:80", "payload", "\"x\""], "a b:80 payload \"x\"");
        check(&["a", "b:80", "http", "GET", "/a(b)", "df"], "a b:80 http GET \"/a(b)\" df");
        check(&["pcap", "my x", "number", "1"], "pcap \"my x\" number 1");
        check(&["pcap", "x.pcap", "number", "1"], "pcap x.pcap number 1");
    }
}
