//! The definition of the command line is sound, and every help text is fit to print.

use clap::{Command, CommandFactory};

use super::Cli;

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

fn check(command: &Command) {
    let name = command.get_name();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    assert!(!about.is_empty() && !about.ends_with('.'), "{name}: `{about}`");
    for argument in command.get_arguments() {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let id = argument.get_id();
        assert!(!help.is_empty() && !help.ends_with('.'), "{name} {id}: `{help}`");
        assert!(
            help.starts_with(char::is_uppercase) || help.starts_with("HW"),
            "{name} {id}: `{help}`"
        );
    }
    command.get_subcommands().for_each(check);
}

#[test]
fn every_command_and_argument_has_one_line_of_help() {
    let mut cli = Cli::command();
    cli.build();
    check_all(&cli);
}

fn check_all(cli: &Command) {
    cli.get_subcommands().filter(|c| c.get_name() != "help").for_each(check);
}
