//! `hopwise completion`: the definition of the command line as a script for a shell.

use std::io;

use clap::builder::StyledStr;
use clap::{Arg, Args, Command};
use clap_complete::Shell;

use super::{Look, output};
use crate::reply::Status;

const AFTER_HELP: &str = "\
bash: hopwise completion bash > ~/.local/share/bash-completion/completions/hopwise
zsh:  hopwise completion zsh > \"${fpath[1]}/_hopwise\"
fish: hopwise completion fish > ~/.config/fish/completions/hopwise.fish";

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionArgs, _: &Look) -> io::Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(args.shell), "hopwise", &mut script);
    output::raw(&script)?;
    Ok(Status::Ok)
}

/// The command line as the shell's generator needs it. Those of bash and zsh know what an argument may be; the others
/// know flags and subcommands only.
fn definition(shell: Shell) -> Command {
    let program = super::definition();
    if matches!(shell, Shell::Bash | Shell::Zsh) {
        return program;
    }
    let help = help(&program);
    let commands: Vec<Command> = program.get_subcommands().map(values_as_subcommands).collect();
    let program = program.disable_help_subcommand(true).subcommand(help);
    commands
        .into_iter()
        .fold(program, |program, new| program.mut_subcommand(new.get_name(), |_| new.clone()))
}

/// The command with each value of its first argument as a subcommand, which takes the command's flags. As it is where
/// the first argument may be anything.
fn values_as_subcommands(command: &Command) -> Command {
    let first = command.get_positionals().next();
    let values = first.map(clap::Arg::get_possible_values).unwrap_or_default();
    if values.is_empty() {
        return command.clone();
    }
    let flags: Vec<Arg> = command.get_arguments().filter(|a| !a.is_positional()).cloned().collect();
    let about = |text: Option<&StyledStr>| text.cloned().unwrap_or_default();
    let values = values
        .iter()
        .map(|value| named(value.get_name()).about(about(value.get_help())).args(flags.clone()));
    named(command.get_name())
        .about(about(command.get_about()))
        .disable_help_subcommand(true)
        .args(flags.clone())
        .subcommands(values)
}

/// A command of that name. Names of commands live as long as the program, which ends when the script is printed.
fn named(name: &str) -> Command {
    let name: &'static str = name.to_owned().leak();
    Command::new(name)
}

/// What `help` takes: the commands, but not the values of their arguments.
fn help(program: &Command) -> Command {
    let commands = program.get_subcommands().map(|command| {
        let about = command.get_about().cloned().unwrap_or_default();
        named(command.get_name()).about(about)
    });
    let about = "Print this message or the help of the given subcommand(s)";
    Command::new("help").about(about).disable_help_subcommand(true).subcommands(commands)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    fn script(shell: Shell) -> String {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut definition(shell), "hopwise", &mut script);
        String::from_utf8(script).unwrap()
    }

    #[test]
    fn every_shell_knows_every_noun_and_shell() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for (_, noun, ..) in lang::command::NOUNS {
                assert!(script.contains(noun), "{shell}: {noun}");
            }
            for known in Shell::value_variants() {
                assert!(script.contains(&known.to_string()), "{shell}: {known}");
            }
            assert!(script.contains("no-headers"), "{shell}");
        }
    }

    #[test]
    fn a_noun_is_told_with_what_it_lists_and_flags_follow_it() {
        let fish = script(Shell::Fish);
        let noun = "-f -a \"pods\" -d 'pods with their enforcement per direction and why'";
        assert!(fish.contains(noun), "{fish}");
        let after = "show; and __fish_seen_subcommand_from pods\" -l no-headers";
        assert!(fish.contains(after), "{fish}");
        let elvish = script(Shell::Elvish);
        let noun = "cand pods 'pods with their enforcement per direction and why'";
        assert!(elvish.contains(noun), "{elvish}");
        let (_, block) = elvish.split_once("&'hopwise;show;pods'= {").unwrap();
        assert!(block.split('}').next().unwrap().contains("cand --no-headers"), "{elvish}");
        assert!(!elvish.contains("hopwise;help;show;pods"), "no help is about a noun: {elvish}");
        let powershell = script(Shell::PowerShell);
        assert!(powershell.contains("'hopwise;show;pods'"), "{powershell}");
    }
}
