//! What Tab offers: words that may stand at the cursor, by the words before it. Owns no names; they are
//! the session's and the command language's.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lang::command::{NOUNS, TABLE};
use lang::debug::NameKind;

use crate::session::{SETTINGS, Session, is_source};

/// The names of a session that can be completed.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    nodes: Vec<String>,
    pods: Vec<String>,
    /// Everything that a question may name.
    parties: Vec<String>,
    policies: Vec<String>,
    /// Labels as selectors write them: `app = "echo"`.
    labels: Vec<String>,
    /// Kind and name of every statement.
    statements: Vec<(String, String)>,
    /// Names of the debugger, while a question is open in it.
    debugger: Option<Vec<(NameKind, Vec<String>)>>,
}

impl Names {
    /// Those of a session.
    pub(super) fn of(session: &Session) -> Self {
        let world = session.world();
        let nodes: Vec<String> = world.nodes.iter().map(|n| n.name.clone()).collect();
        let pods: Vec<String> = world.pods.iter().map(engine::topology::Pod::qualified).collect();
        let externals = world.externals.iter().map(|e| e.name.clone());
        let aliases = world.aliases.iter().map(|alias| alias.name.clone());
        let services = world.services.iter().map(engine::topology::Service::qualified);
        let parties = pods.iter().chain(&nodes).cloned().chain(services);
        let parties = parties.chain(externals).chain(aliases);
        let labels = world.pods.iter().flat_map(|pod| &pod.labels);
        let labels = labels.map(|(key, value)| format!("{key} = \"{value}\""));
        Self {
            parties: sorted(parties),
            labels: sorted(labels),
            policies: sorted(session.policies().iter().map(|(_, p)| p.handle.clone())),
            statements: session
                .workspace()
                .statements()
                .into_iter()
                .map(|(kind, name)| (kind.to_owned(), name))
                .collect(),
            nodes,
            pods,
            debugger: session.debug_names(),
        }
    }
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Words that statements of the language begin with.
const STATEMENTS: &[&str] = &[
    "alias",
    "cluster",
    "external",
    "identity",
    "include",
    "namespace",
    "pod",
    "policy",
    "service",
    "test",
];

/// Words of questions after the endpoints.
const OPTIONS: &[&str] = &[
    "ack",
    "backend",
    "choose",
    "conntrack",
    "df",
    "established",
    "extensions",
    "fin",
    "from-ip",
    "from-port",
    "hex",
    "icmp",
    "icmpv6",
    "id",
    "ip-id",
    "ip-options",
    "ip4",
    "ip6",
    "length",
    "payload",
    "rst",
    "sctp",
    "seq",
    "syn",
    "tcp",
    "ttl",
    "udp",
    "with",
];

/// Words inside the braces of statements.
const FIELDS: &[&str] = &[
    "affinity",
    "allow",
    "balance",
    "because",
    "cidr",
    "client-ip",
    "cluster-ip",
    "default-deny",
    "deny",
    "egress",
    "encryption",
    "entities",
    "except",
    "external-ip",
    "external-traffic",
    "from",
    "health",
    "host-firewall",
    "host-network",
    "host-routing",
    "in",
    "ingress",
    "internal-traffic",
    "ip",
    "labels",
    "load-balancer-ip",
    "mac",
    "masquerade",
    "namespace",
    "namespaces",
    "native-cidr",
    "node-port",
    "nodes",
    "not-ready",
    "on",
    "owner",
    "pods",
    "port",
    "prefilter",
    "select",
    "service",
    "source-ranges",
    "terminating",
    "to",
    "tunnel",
];

/// Where a packet may enter.
const HOOKS: &[&str] = &[
    "from-container",
    "from-host",
    "from-netdev",
    "from-overlay",
    "prefilter",
    "to-container",
    "to-host",
    "to-netdev",
    "to-overlay",
];

/// Words of a packet that enters at a hook.
const PACKET: &[&str] = &[
    "--pcap", "/", "eth", "from", "geneve", "hex", "icmp", "icmpv6", "ipv4", "ipv6", "mark",
    "number", "on", "payload", "pcap", "sctp", "tcp", "udp", "vni", "vxlan",
];

/// Where the word at the cursor begins, and what it may become. `before` is the input up to the cursor.
pub(super) fn complete(before: &str, names: &Names) -> (usize, Vec<String>) {
    let start = before.rfind([' ', '\t', '\n', '{', '(', ',']).map_or(0, |at| at + 1);
    let word = &before[start..];
    let inside = before.matches('{').count() > before.matches('}').count();
    if let Some(known) = names.debugger.as_ref().filter(|_| !inside) {
        return at_stop(before, known);
    }
    let words: Vec<&str> = before[..start].split_whitespace().collect();
    let first = words.first().map(|first| first.trim_start_matches(':'));
    let candidates = match (inside, first, words.len()) {
        (true, ..) => in_statement(names),
        (false, None, _) => beginnings(names),
        (false, Some("load" | "save" | "save!"), 1) => return (start, files(word, is_source)),
        (false, Some("record"), 1) => return (start, files(word, is_recording)),
        (false, Some("trace"), _) if matches!(words.last(), Some(&"pcap" | &"--pcap")) => {
            return (start, files(word, is_capture));
        }
        (false, Some("debug"), 1) if !word.is_empty() => {
            return (start, question_or_file(word, names));
        }
        (false, Some(first), count) => after(first, &words, count, names),
    };
    let mut fitting: Vec<String> =
        candidates.into_iter().filter(|c| c.starts_with(word)).map(Into::into).collect();
    fitting.dedup();
    (start, fitting)
}

fn all<'n>(parts: &[&'n [String]]) -> Vec<&'n str> {
    parts.iter().flat_map(|part| part.iter().map(String::as_str)).collect()
}

fn beginnings(names: &Names) -> Vec<&str> {
    let mut words: Vec<&str> = TABLE.iter().map(|c| c.name).collect();
    words.extend(STATEMENTS);
    words.sort_unstable();
    words.extend(all(&[&names.parties]));
    words
}

fn in_statement(names: &Names) -> Vec<&str> {
    let mut words = FIELDS.to_vec();
    words.extend(all(&[&names.labels, &names.parties, &names.policies]));
    words
}

/// After a first word, which is a command's or begins a question.
fn after<'n>(first: &str, words: &[&str], count: usize, names: &'n Names) -> Vec<&'n str> {
    match (first, count) {
        ("show", 1) => NOUNS.iter().map(|(_, word, ..)| *word).collect(),
        ("show", 2) => match words[1] {
            "policy" => all(&[&names.pods]),
            "policies" => all(&[&names.policies]),
            _ => all(&[&names.nodes]),
        },
        ("help", 1) => TABLE.iter().map(|c| c.name).collect(),
        ("set", 1) => SETTINGS.iter().map(|(key, _)| *key).collect(),
        ("set", 2) => values(words[1]).to_vec(),
        ("time", 1) => values("time").to_vec(),
        ("remove", 1) => names.statements.iter().map(|(kind, _)| kind.as_str()).collect(),
        ("remove", 2) => {
            let of_kind = names.statements.iter().filter(|(kind, _)| kind == words[1]);
            of_kind.map(|(_, name)| name.as_str()).collect()
        }
        ("trace", 1) => {
            let mut words = vec!["--at"];
            words.extend(question(0, names));
            words
        }
        ("trace", _) if words[1] == "--at" => at_hook(words, names),
        ("trace" | "debug", _) => question(count - 1, names),
        ("record", _) => question(count - 2, names),
        _ if TABLE.iter().any(|c| c.name == first) || STATEMENTS.contains(&first) => {
            all(&[&names.parties])
        }
        _ => question(count, names),
    }
}

fn values(setting: &str) -> &'static [&'static str] {
    SETTINGS.iter().find(|(key, _)| *key == setting).map_or(&[], |(_, values)| values)
}

/// The next word of a question that has so many already.
fn question(count: usize, names: &Names) -> Vec<&str> {
    let mut words = vec!["world", "pod", "node", "external"];
    words.extend(all(&[&names.parties]));
    match count {
        0 => words,
        1 => {
            words.insert(0, "->");
            words
        }
        _ => {
            words.extend(OPTIONS);
            words
        }
    }
}

/// The next word of a packet at a hook: where it enters, then how, then its layers.
fn at_hook<'n>(words: &[&str], names: &'n Names) -> Vec<&'n str> {
    let behind = words.get(2..).unwrap_or_default();
    if words.last() == Some(&"on") {
        return all(&[&names.pods]);
    }
    if !behind.iter().any(|word| HOOKS.contains(word)) {
        let nodes = if behind.is_empty() { all(&[&names.nodes]) } else { Vec::new() };
        return HOOKS.iter().copied().chain(nodes).collect();
    }
    PACKET.to_vec()
}

/// What `debug` may begin with: a party of a question, or a recording.
fn question_or_file(word: &str, names: &Names) -> Vec<String> {
    let parties = question(0, names).into_iter().filter(|party| party.starts_with(word));
    parties.map(ToOwned::to_owned).chain(files(word, is_recording)).collect()
}

/// The extension of recordings by custom.
fn is_recording(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "hoptrace")
}

/// The extensions of captures by custom.
fn is_capture(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pcap" || extension == "pcapng")
}

/// The same for a line of the debugger. Names of maps are found in either case.
fn at_stop(before: &str, known: &[(NameKind, Vec<String>)]) -> (usize, Vec<String>) {
    let completion = lang::debug::complete(before);
    let word = before.get(completion.start..).unwrap_or("");
    let upper = word.to_uppercase();
    let mut fitting: Vec<String> = completion.words.iter().map(ToString::to_string).collect();
    // A beginning of a place's word means that word, not a function.
    let is_word = !word.is_empty() && !fitting.is_empty();
    for (kind, names) in known.iter().filter(|(kind, _)| completion.names.contains(kind)) {
        if is_word && *kind == NameKind::Function {
            continue;
        }
        let begins = |name: &&String| {
            name.starts_with(word) || (*kind == NameKind::Map && name.starts_with(&upper))
        };
        fitting.extend(names.iter().filter(begins).cloned());
    }
    (completion.start, fitting)
}

/// Files of a kind and directories that a path may become.
fn files(word: &str, is_wanted: fn(&Path) -> bool) -> Vec<String> {
    let at = word.rfind('/').map_or(0, |at| at + 1);
    let (folder, stem) = word.split_at(at);
    let place = if folder.is_empty() { Path::new(".") } else { Path::new(folder) };
    let mut found = Vec::new();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(stem) || (name.starts_with('.') && !stem.starts_with('.')) {
            continue;
        }
        if entry.path().is_dir() {
            found.push(format!("{folder}{name}/"));
        } else if is_wanted(&entry.path()) {
            found.push(format!("{folder}{name}"));
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let own = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        Names {
            nodes: own(&["node01", "node02"]),
            pods: own(&["web/client", "web/echo-0"]),
            parties: own(&["CA", "node01", "node02", "web/client", "web/echo-0"]),
            policies: own(&["web/echo-access"]),
            labels: own(&["app = \"echo\""]),
            statements: vec![("policy".into(), "web/echo-access".into())],
            debugger: None,
        }
    }

    #[test]
    fn the_words_before_say_what_may_follow() {
        let names = names();
        for (before, start, expected) in [
            ("sh", 0, &["show"][..]),
            ("po", 0, &["pod", "policy"]),
            ("show po", 5, &["pods", "policies", "policy"]),
            ("show policy web/c", 12, &["web/client"]),
            ("show endpoints ", 15, &["node01", "node02"]),
            (":set le", 5, &["level"]),
            ("set level n", 10, &["normal"]),
            ("trace web/", 6, &["web/client", "web/echo-0"]),
            ("web/client -> web/e", 14, &["web/echo-0"]),
            ("web/client -", 11, &["->"]),
            ("web/client -> CA ic", 17, &["icmp", "icmpv6"]),
            ("remove p", 7, &["policy"]),
            ("remove policy w", 14, &["web/echo-access"]),
            ("policy web/x {\n  sel", 17, &["select"]),
            ("policy web/x { select { ap", 24, &["app = \"echo\""]),
            ("xyzzy q", 6, &[]),
            ("debug web/", 6, &["web/client", "web/echo-0"]),
            ("debug web/client -> n", 20, &["node", "node01", "node02"]),
            ("record x.hoptrace web/", 18, &["web/client", "web/echo-0"]),
            ("record x.hoptrace CA -", 21, &["->"]),
            ("trace --", 6, &["--at"]),
            ("trace --at from-n", 11, &["from-netdev"]),
            ("trace --at from-container on web/", 29, &["web/client", "web/echo-0"]),
            ("trace --at from-netdev vx", 23, &["vxlan"]),
        ] {
            let (at, words) = complete(before, &names);
            assert_eq!(
                (at, words),
                (start, expected.iter().map(ToString::to_string).collect()),
                "{before}"
            );
        }
    }

    #[test]
    fn at_a_stop_the_debugger_says_what_may_follow() {
        let own = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let known = vec![
            (NameKind::Map, own(&["IPCACHE", "POLICY"])),
            (NameKind::Function, own(&["decide", "lost"])),
            (NameKind::SourceFile, own(&["policy.rs:"])),
            (NameKind::Policy, own(&["web/echo"])),
            (NameKind::Rule, own(&["web/echo#https", "web/echo#metrics"])),
        ];
        let names = Names { debugger: Some(known), ..names() };
        for (before, start, expected) in [
            ("sh", 0, &[][..]),
            ("fin", 0, &["finish"]),
            ("break lo", 6, &["lookup"]),
            ("break los", 6, &["lost"]),
            ("break pol", 6, &["policy.rs:"]),
            ("break lookup pol", 13, &["POLICY"]),
            ("break rule web/echo#h", 11, &["web/echo#https"]),
            ("break drop if tt", 14, &["ttl"]),
            ("edit policy web/x {\n  sel", 22, &["select"]),
        ] {
            assert_eq!(complete(before, &names), (start, own(expected)), "{before}");
        }
    }

    #[test]
    fn files_are_those_of_the_language_and_directories() {
        let (start, words) = complete("load ../fixtures/wor", &Names::default());
        assert_eq!((start, words), (5, vec!["../fixtures/worlds/".to_owned()]));
        let folder = std::env::temp_dir().join(format!("hopwise-complete-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a scratch directory can be made");
        fs::write(folder.join("drop.hoptrace"), "").expect("a scratch file can be written");
        fs::write(folder.join("drop.hop"), "").expect("a scratch file can be written");
        let place = folder.display();
        for command in ["debug", "record"] {
            let (_, words) = complete(&format!("{command} {place}/dr"), &Names::default());
            assert_eq!(words, [format!("{place}/drop.hoptrace")], "{command}");
        }
        fs::remove_dir_all(&folder).expect("it is gone");
        let (_, words) = complete("load ../fixtures/worlds/two", &Names::default());
        assert_eq!(words, ["../fixtures/worlds/two-nodes.hop"]);
    }
}
