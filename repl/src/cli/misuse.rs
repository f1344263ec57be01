//! What the command line's definition refuses: as clap says it on standard error, or as the one document where JSON
//! is asked for. Never looks at what a command would have done.

use std::ffi::OsString;
use std::io;

use super::output;
use crate::render;
use crate::reply::{Content, Reply, Status};

/// Tells what is wrong with the arguments, the first of which is the program's name.
pub(super) fn tell(error: &clap::Error, arguments: &[OsString]) -> io::Result<Status> {
    if !wants_json(arguments) {
        error.print()?;
        return Ok(Status::Usage);
    }
    let mut document = Vec::new();
    render::json(&reply(error, arguments), &mut document)?;
    output::raw(&document)?;
    Ok(Status::Usage)
}

/// Whether JSON is asked for, told without understanding the rest: `-o json`, `-ojson`, `--output=json`.
fn wants_json(arguments: &[OsString]) -> bool {
    let words: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let pair = words.windows(2).any(|two| matches!(two, ["-o" | "--output", "json"]));
    pair || words.iter().any(|word| matches!(*word, "-ojson" | "-o=json" | "--output=json"))
}

/// The error as a reply: its first paragraph is the message, the others are the detail.
fn reply(error: &clap::Error, arguments: &[OsString]) -> Reply {
    let text = error.to_string();
    let mut paragraphs = text.split("\n\n").map(|paragraph| {
        let lines = paragraph.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join(" ")
    });
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let remedy = match command(arguments) {
        Some(command) => format!("`hopwise {command} --help` lists its arguments and flags"),
        None => "`hopwise --help` lists the commands and flags".to_owned(),
    };
    let mut reply = Reply::failure(Status::Usage, message, remedy);
    if let Content::Failure(failure) = &mut reply.content {
        // The remedy says it, and for which command.
        let own = |line: &String| !line.is_empty() && !line.starts_with("For more information");
        failure.detail = paragraphs.filter(own).collect();
    }
    reply
}

/// The command that was asked for, as far as the arguments can be understood.
fn command(arguments: &[OsString]) -> Option<String> {
    let lenient = super::definition().ignore_errors(true);
    let matches = lenient.try_get_matches_from(arguments).ok()?;
    matches.subcommand_name().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn the_document_says_what_and_where_and_whose_help_tells_more() {
        let check = |line: &str, message: &str, help: &str, detail: &[&str]| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let error = Cli::try_parse_from(&arguments).expect_err(line);
            let reply = reply(&error, &arguments);
            let Content::Failure(failure) = reply.content else { panic!("{line}: a failure") };
            assert_eq!(failure.message, message, "{line}");
            let remedy = failure.remedy.unwrap_or_default();
            assert!(remedy.starts_with(&format!("`{help}` lists ")), "{line}: {remedy}");
            assert_eq!(failure.detail, detail, "{line}");
        };
        check(
            "hopwise show -o json bogus",
            "invalid value 'bogus' for '<NOUN>' [possible values: pods, services, nodes, endpoints, tunnel, \
             selectors, identities, policies, ipcache, policy, conntrack, metrics]",
            "hopwise show --help",
            &[],
        );
        check(
            "hopwise --color never trace -o json",
            "the following required arguments were not provided: <QUESTION>...",
            "hopwise trace --help",
            &["Usage: hopwise trace --output <FORMAT> <QUESTION>..."],
        );
        check(
            "hopwise check -o json --colour x",
            "unexpected argument '--colour' found",
            "hopwise check --help",
            &[
                "tip: a similar argument exists: '--color'",
                "Usage: hopwise check --output <FORMAT> --color <WHEN> [FILE]...",
            ],
        );
        check(
            "hopwise test -o json --level",
            "unexpected argument '--level' found",
            "hopwise test --help",
            &[
                "tip: to pass '--level' as a value, use '-- --level'",
                "Usage: hopwise test --output <FORMAT> [FILE]...",
            ],
        );
        let usage = "Usage: hopwise [OPTIONS] [COMMAND]";
        check(
            "hopwise bogus -o json",
            "unrecognized subcommand 'bogus'",
            "hopwise --help",
            &[usage],
        );
        check("hopwise -o json", "unexpected argument '-o' found", "hopwise --help", &[usage]);
    }
}
