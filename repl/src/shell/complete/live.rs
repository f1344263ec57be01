//! What Tab offers behind `monitor` and `trace --live`: flags, what they take, and the question.

use engine::reason::DropReason;
use lang::TextKind;
use lang::command::{ATTACH_FLAGS, LIVE_FLAGS, MONITOR_FLAGS};

use super::{Names, all, language, owned, sorted};
use crate::monitor::Fate;

/// Behind `monitor`: flags, or what the last one takes.
pub(super) fn monitored(words: &[&str], names: &Names) -> Vec<String> {
    match words.last().copied().unwrap_or_default() {
        "--pod" => all(&[&names.pods]),
        "--namespace" => all(&[&names.namespaces]),
        "--node" => all(&[&names.nodes]),
        "--label" => {
            sorted(names.labels.iter().map(|label| label.replace(" = ", "=").replace('"', "")))
        }
        "--verdict" => Fate::ALL.iter().map(ToString::to_string).collect(),
        "--reason" => owned(DropReason::ALL.iter().map(|reason| reason.name())),
        "--graph" => owned(["dot", "mermaid"].into_iter()),
        "--on" => installed(),
        "--identity" | "--port" | "--pcap" | "--metrics" | "--count" | "--for" => Vec::new(),
        _ => MONITOR_FLAGS.iter().map(|(flag, _)| format!("--{flag}")).collect(),
    }
}

/// Behind `trace --live`: flags, or what the last one takes; else the question.
pub(super) fn traced(words: &[&str], rest: &str, names: &Names) -> Vec<String> {
    let takes = |word: &str| {
        let name = word.strip_prefix("--").unwrap_or_default();
        LIVE_FLAGS.iter().any(|(flag, takes)| *flag == name && !takes.is_empty())
    };
    let last = words.last().copied().unwrap_or_default();
    if last == "--on" {
        return installed();
    }
    if takes(last) {
        return Vec::new();
    }
    let mut question = rest.trim_start();
    let mut is_value = false;
    while question.starts_with("--") || is_value {
        let (word, behind) = question.split_once(char::is_whitespace).unwrap_or((question, ""));
        is_value = !is_value && takes(word);
        question = behind.trim_start();
    }
    let mut words = language(TextKind::Flow, question, names);
    if question.is_empty() {
        words.extend(LIVE_FLAGS.iter().map(|(flag, _)| format!("--{flag}")));
    }
    words
}

/// Behind `attach`, `status` and `detach`: flags, and names.
pub(super) fn attached(command: &str, words: &[&str]) -> Vec<String> {
    if words.last() == Some(&"--for") {
        return Vec::new();
    }
    let flags: &[&str] = match command {
        "attach" => ATTACH_FLAGS,
        "detach" => &["--all"],
        _ => &[],
    };
    sorted(owned(flags.iter().copied()).into_iter().chain(installed()))
}

/// Names of what is installed on this host.
fn installed() -> Vec<String> {
    crate::session::installed()
}

/// What may follow `lab` and a word.
pub(super) fn in_lab(words: &[&str], names: &Names) -> Vec<String> {
    let more: &[&str] = match words.get(1).copied() {
        Some("up" | "apply") => &["-f"],
        Some("down") if words.len() == 2 => &["--all"],
        Some("exec") if words.contains(&"--") => &[],
        Some("exec") if words.len() > 2 && words.last() != Some(&"--lab") => &["--"],
        Some("exec") => &["--lab", "world"],
        _ => &[],
    };
    let is_place = words.get(1) == Some(&"exec") && words.len() == 2;
    let parties = if is_place { all(&[&names.pods, &names.nodes]) } else { Vec::new() };
    owned(more.iter().copied()).into_iter().chain(parties).collect()
}
