//! `help`: the commands, from the language's own table.

use lang::command::{CommandInfo, NOUNS, TABLE, find};

use super::SETTINGS;
use crate::reply::{Reply, Status};

/// All commands, or one of them with an example.
pub(super) fn help(command: Option<&str>) -> Reply {
    let Some(name) = command else { return Reply::text(overview()) };
    let Some(info) = find(name) else {
        let message = format!("no command `{name}`");
        return Reply::failure(Status::Usage, message, "`help` lists the commands");
    };
    Reply::text(details(info))
}

fn overview() -> String {
    let width = TABLE.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let mut lines: Vec<String> =
        TABLE.iter().map(|c| format!("{:<width$}  {}", c.name, c.help)).collect();
    lines.push(String::new());
    lines.push(
        "A question (SRC -> DST:PORT) and a statement of the language need no command:".into(),
    );
    lines.push("a statement is added, or takes the place of the one of its kind and name.".into());
    lines.push("`help COMMAND` shows an example.".into());
    lines.join("\n")
}

fn details(info: &CommandInfo) -> String {
    let mut lines =
        vec![format!("{}: {}", info.usage, info.help), format!("example: {}", info.example)];
    match info.name {
        "show" => lines.extend(nouns()),
        "trace" => {
            lines.push("flags about real packets, between `--live` and the question:".to_owned());
            lines.extend(LIVE.iter().map(|(form, help)| format!("  {form:<16} {help}")));
        }
        "lab" => lines.extend(LABS.iter().map(|(form, help)| format!("  {form:<38} {help}"))),
        "test" => {
            let steps = STEPS.iter().map(|(form, help)| format!("  {form:<42} {help}"));
            lines.push("lines of a test, and steps of its dialogues:".to_owned());
            lines.extend(steps);
        }
        "set" => {
            let values =
                SETTINGS.iter().map(|(key, values)| format!("  {key} {}", values.join("|")));
            lines.extend(values);
        }
        _ => {}
    }
    lines.join("\n")
}

/// What `test` blocks are made of.
const STEPS: [(&str, &str); 7] = [
    ("SRC -> DST:PORT => allowed, FACT, ...", "a flow, and what must come of it"),
    ("dialogue \"NAME\" { ... }", "steps that share conntrack, as follows"),
    ("reply ... => ..., send ... => ...", "the flow's next packet, of the other or the same side"),
    ("wait 61s", "time passes"),
    ("policy NS/NAME { ... }", "a policy comes, or takes the place of the one of that name"),
    ("pod NS/NAME on NODE { ... }, service ...", "so does a pod or a service"),
    ("remove policy|pod|service NS/NAME", "it goes"),
];

/// Flags of `trace --live`.
const LIVE: [(&str, &str); 8] = [
    (
        "--on NAME",
        "in this lab, or what is attached under this name; else in the session's lab, or one made for it",
    ),
    ("--wait", "send nothing, and catch the next packet of the kind that somebody else sends"),
    ("--drops", "send nothing, and catch the next one that is dropped"),
    ("--timeout TIME", "catch packets of others as long as this; 10s where nothing is said"),
    ("--follow", "go on once a second until Ctrl-C"),
    ("--count N", "so many times"),
    ("--compare", "hold it against simulation, and show the first step that differs"),
    ("--send", "send also a payload of your own, or an HTTP method other than GET or HEAD"),
];

/// What can be done with labs.
const LABS: [(&str, &str); 5] = [
    (
        "lab up [NAME] [-f FILE]",
        "make one of a file, or of what the session has; without a name the session holds it",
    ),
    ("lab apply [NAME] [-f FILE]", "make it what another file says, while packets pass"),
    (
        "lab exec [--lab NAME] WHERE -- COMMAND",
        "run a command in the network of a pod, a node or `world`; quotes are a shell's",
    ),
    ("lab list", "list those with a name, and the session's"),
    ("lab down [NAME|--all]", "remove one, or all"),
];

fn nouns() -> Vec<String> {
    let noun = |(_, word, argument, help): &(_, &str, &str, &str)| {
        format!("  {:<18} {help}", format!("{word} {argument}"))
    };
    NOUNS.iter().map(noun).collect()
}

#[cfg(test)]
mod tests {
    use lang::command::LIVE_FLAGS;

    use super::*;

    #[test]
    fn every_flag_of_a_live_question_is_explained() {
        let explained = |flag: &str| {
            LIVE.iter()
                .any(|(form, _)| form.trim_start_matches('-').split(' ').next() == Some(flag))
        };
        let flags: Vec<&str> = LIVE_FLAGS.iter().map(|(flag, _)| *flag).collect();
        assert!(flags.iter().all(|flag| *flag == "live" || explained(flag)), "{flags:?}");
        assert_eq!(LIVE.len() + 1, flags.len());
    }
}
