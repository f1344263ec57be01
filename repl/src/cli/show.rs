//! `hopwise show`

use std::io;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use lang::command::NOUNS;

use super::output::Output;
use super::{Files, Format, Look};
use crate::reply::{Content, Status};

/// List what the world, the policies or the tables hold
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// What to list
    #[arg(value_parser = nouns())]
    noun: String,
    /// Of whom: a node, a pod or a policy, where the noun takes one
    name: Option<String>,
    /// How often each rule decided (`show policy`); `--after` asks something first
    #[arg(long)]
    hits: bool,
    /// Ask this question before, on one conntrack with the others; may be given more than once
    #[arg(long, value_name = "QUESTION")]
    after: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Leave the header line of a table out
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    format: Format,
}

fn nouns() -> PossibleValuesParser {
    PossibleValuesParser::new(NOUNS.iter().map(|(_, word, argument, help)| {
        let help =
            if argument.is_empty() { (*help).to_owned() } else { format!("{help} {argument}") };
        PossibleValue::new(*word).help(help)
    }))
}

pub(super) fn run(args: &ShowArgs, look: &Look) -> io::Result<Status> {
    let mut output = Output::of(look, &args.format);
    output.no_headers = args.no_headers;
    let (mut session, loaded) = match args.files.open() {
        Ok(opened) => opened,
        Err(reply) => return output.reply(&reply),
    };
    for question in &args.after {
        // The word is one that the setting takes.
        let _ = session.settings_mut().set("conntrack", "keep");
        let reply = session.ask_line(question);
        let is_answered = matches!(reply.content, Content::Answer(_));
        if !is_answered || reply.status == Status::Divergence {
            return output.reply(&reply.after(loaded));
        }
    }
    let reply = session.show(&args.noun, args.name.as_deref(), args.hits);
    output.reply(&reply.after(loaded))
}
