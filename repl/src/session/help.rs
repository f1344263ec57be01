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

fn nouns() -> Vec<String> {
    let noun = |(_, word, argument, help): &(_, &str, &str, &str)| {
        format!("  {:<18} {help}", format!("{word} {argument}"))
    };
    NOUNS.iter().map(noun).collect()
}
