//! What Tab offers: words that may stand at the cursor, by the words before it. Owns no names; they are
//! the session's and the command language's.

mod live;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use engine::reason::DropReason;
use engine::topology::{Pod, Service, World};
use lang::command::{NOUNS, Noun, TABLE};
use lang::debug::NameKind;
use lang::{NameKind as Named, TextKind};

use super::editor::without_marks;
use crate::session::{SETTINGS, Session, is_source};

/// The names of a session that can be completed.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    nodes: Vec<String>,
    pods: Vec<String>,
    services: Vec<String>,
    externals: Vec<String>,
    dns: Vec<String>,
    namespaces: Vec<String>,
    /// Everything that a question may name.
    parties: Vec<String>,
    policies: Vec<String>,
    /// Rules as `POLICY#RULE`.
    rules: Vec<String>,
    /// Labels as selectors write them: `app = "echo"`.
    labels: Vec<String>,
    /// Names that pods give to ports.
    named_ports: Vec<String>,
    /// Where each pod, service and node can be reached, as written behind its colon.
    ports: Vec<(String, Vec<String>)>,
    node_addresses: Vec<String>,
    pod_addresses: Vec<String>,
    /// Kind and name of every statement.
    statements: Vec<(String, String)>,
    /// Names of the debugger, while a question is open in it.
    debugger: Option<Vec<(NameKind, Vec<String>)>>,
}

impl Names {
    /// Those of a session.
    pub(super) fn of(session: &Session) -> Self {
        let policies = session.policies();
        let rules = policies.iter().flat_map(|(_, policy)| {
            let names = policy.rules.iter().map(|rule| format!("{}#{}", policy.handle, rule.name));
            names.collect::<Vec<_>>()
        });
        Self {
            policies: sorted(policies.iter().map(|(_, p)| p.handle.clone())),
            rules: sorted(rules),
            statements: session
                .workspace()
                .statements()
                .into_iter()
                .map(|(kind, name)| (kind.to_owned(), name))
                .collect(),
            debugger: session.debug_names(),
            ..Self::of_world(session.world())
        }
    }

    fn of_world(world: &World) -> Self {
        let nodes: Vec<String> = world.nodes.iter().map(|n| n.name.clone()).collect();
        let pods: Vec<String> = world.pods.iter().map(Pod::qualified).collect();
        let services: Vec<String> = world.services.iter().map(Service::qualified).collect();
        let externals: Vec<String> = world.externals.iter().map(|e| e.name.clone()).collect();
        let dns = world.externals.iter().flat_map(|external| &external.names);
        let aliases = world.aliases.iter().map(|alias| alias.name.clone());
        let parties = pods.iter().chain(&nodes).chain(&services).chain(&externals);
        let labels = world.pods.iter().flat_map(|pod| &pod.labels);
        let addresses =
            |of: &[std::net::IpAddr]| of.iter().map(ToString::to_string).collect::<Vec<_>>();
        Self {
            parties: sorted(parties.cloned().chain(aliases)),
            labels: sorted(labels.map(|(key, value)| format!("{key} = \"{value}\""))),
            namespaces: sorted(world.namespaces.iter().map(|namespace| namespace.name.clone())),
            named_ports: sorted(world.pods.iter().flat_map(|p| &p.ports).map(|p| p.name.clone())),
            ports: ports(world),
            node_addresses: world.nodes.iter().flat_map(|n| addresses(&n.addresses)).collect(),
            pod_addresses: world.pods.iter().flat_map(|p| addresses(&p.addresses)).collect(),
            nodes,
            pods,
            services,
            externals,
            dns: sorted(dns.map(|fact| format!("\"{}\"", fact.name))),
            ..Self::default()
        }
    }

    /// The names of a kind.
    fn named(&self, kind: &Named) -> Vec<String> {
        match kind {
            Named::Party => all(&[&self.parties]),
            Named::Pod => all(&[&self.pods]),
            Named::Service => all(&[&self.services]),
            Named::Node => all(&[&self.nodes]),
            Named::External => all(&[&self.externals]),
            Named::DnsName => all(&[&self.dns]),
            Named::Namespace => all(&[&self.namespaces]),
            Named::Policy => all(&[&self.policies]),
            Named::Rule => all(&[&self.policies, &self.rules]),
            Named::Label => all(&[&self.labels]),
            Named::LabelValue(key) => {
                let key = format!("{key} = ");
                let values = self.labels.iter().filter_map(|label| label.strip_prefix(&key));
                values.map(ToOwned::to_owned).collect()
            }
            Named::PortName => all(&[&self.named_ports]),
            Named::NodeAddress => all(&[&self.node_addresses]),
            Named::Address => all(&[&self.node_addresses, &self.pod_addresses]),
        }
    }

    /// Ports of the party that a word names before its colon.
    fn at_port(&self, word: &str) -> Vec<String> {
        let Some((party, _)) = word.split_once(':') else { return Vec::new() };
        let is_named = |name: &str| {
            name == party || name.rsplit_once('/').is_some_and(|(_, bare)| bare == party)
        };
        let of_party = self.ports.iter().filter(|(name, _)| is_named(name));
        let ports = of_party.flat_map(|(_, ports)| ports).map(|port| format!("{party}:{port}"));
        sorted(ports.filter(|whole| whole.starts_with(word)))
    }
}

/// Ports of pods by name and number, of services too, of nodes those of their services.
fn ports(world: &World) -> Vec<(String, Vec<String>)> {
    let of_pod = |pod: &Pod| {
        let words =
            pod.ports.iter().map(|p| [p.name.clone(), format!("{}/{}", p.port, p.protocol)]);
        (pod.qualified(), words.flatten().collect())
    };
    let of_service = |service: &Service| {
        let words = service.ports.iter().flat_map(|port| {
            port.name.clone().into_iter().chain([format!("{}/{}", port.port, port.protocol)])
        });
        (service.qualified(), words.collect())
    };
    let node_ports: Vec<String> = world
        .services
        .iter()
        .flat_map(|service| &service.ports)
        .filter_map(|port| Some(format!("{}/{}", port.node_port?, port.protocol)))
        .collect();
    let of_node = world.nodes.iter().map(|node| (node.name.clone(), node_ports.clone()));
    world
        .pods
        .iter()
        .map(of_pod)
        .chain(world.services.iter().map(of_service))
        .chain(of_node)
        .collect()
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

/// Where the word at the cursor begins, and what it may become. `before` is the input up to the cursor.
pub(super) fn complete(before: &str, names: &Names) -> (usize, Vec<String>) {
    let start = before.rfind([' ', '\t', '\n', '{', '(', ',']).map_or(0, |at| at + 1);
    let word = &before[start..];
    let text = without_marks(&before[..start]);
    let inside = text.matches('{').count() > text.matches('}').count();
    if let Some(known) = names.debugger.as_ref().filter(|_| !inside) {
        return at_stop(before, known);
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let first = words.first().map(|first| first.trim_start_matches(':'));
    let candidates = match (inside, first, words.len()) {
        (true, ..) => in_statement(&text, names),
        (false, None, _) => beginnings(names),
        (false, Some("load" | "save" | "save!"), 1) => return (start, files(word, is_source)),
        (false, Some("replay"), 1) => return (start, files(word, is_capture)),
        (false, Some("replay"), _) if words.last() == Some(&"--policy") => {
            return (start, files(word, is_source));
        }
        (false, Some("lab"), _) if matches!(words.last(), Some(&"-f")) => {
            return (start, files(word, is_source));
        }
        (false, Some("record"), 1) => return (start, files(word, is_recording)),
        (false, Some("trace"), _) if matches!(words.last(), Some(&"pcap" | &"--pcap")) => {
            return (start, files(word, is_capture));
        }
        (false, Some("debug"), 1) if !word.is_empty() && !word.starts_with('-') => {
            return (start, question_or_file(word, names));
        }
        (false, Some(first), _) => after(first, &words, &text, names),
    };
    (start, fitting(word, candidates, names))
}

/// What goes on as the word does. A name may be begun without its namespace where only one is meant.
fn fitting(word: &str, candidates: Vec<String>, names: &Names) -> Vec<String> {
    let is_party = |candidate: &String| names.parties.contains(candidate);
    if word.contains(':') && candidates.iter().any(is_party) {
        return names.at_port(word);
    }
    let (mut found, others): (Vec<String>, Vec<String>) =
        candidates.into_iter().partition(|candidate| candidate.starts_with(word));
    found.dedup();
    if found.is_empty() && !word.is_empty() {
        let bare = |c: &String| c.split_once('/').is_some_and(|(_, bare)| bare.starts_with(word));
        found = sorted(others.into_iter().filter(bare));
        if found.len() > 1 {
            found.clear();
        }
    }
    found
}

fn all(parts: &[&[String]]) -> Vec<String> {
    parts.concat()
}

fn owned<'w>(words: impl Iterator<Item = &'w str>) -> Vec<String> {
    words.map(ToOwned::to_owned).collect()
}

fn beginnings(names: &Names) -> Vec<String> {
    let mut words = owned(TABLE.iter().map(|c| c.name).chain(STATEMENTS.iter().copied()));
    words.sort_unstable();
    words.extend(all(&[&names.parties]));
    words
}

/// Inside of a statement's braces, or in its head. At a stop it follows `edit`.
fn in_statement(text: &str, names: &Names) -> Vec<String> {
    let text = text.trim_start();
    language(TextKind::Statement, text.strip_prefix("edit ").unwrap_or(text), names)
}

/// What the language has behind a text, with the session's names.
fn language(kind: TextKind, text: &str, names: &Names) -> Vec<String> {
    let Some(offer) = lang::complete(kind, text) else { return Vec::new() };
    let mut words = offer.words;
    words.extend(offer.names.iter().flat_map(|kind| names.named(kind)));
    if kind == TextKind::Flow && offer.is_over {
        words.push("--pcap".to_owned());
    }
    words
}

/// After a first word, which is a command's or begins a question.
fn after(first: &str, words: &[&str], text: &str, names: &Names) -> Vec<String> {
    let rest = text.trim_start().trim_start_matches(':').strip_prefix(first).unwrap_or("");
    match (first, words.len()) {
        ("show", 1) => owned(NOUNS.iter().map(|(_, word, ..)| *word)),
        ("show", _) => shown(&words[1..], names),
        ("help", 1) => owned(TABLE.iter().map(|c| c.name)),
        ("explain", 1) => {
            let codes = lang::codes::ALL.iter().map(|info| info.code.to_string());
            owned(DropReason::ALL.iter().map(|r| r.name())).into_iter().chain(codes).collect()
        }
        ("set", 1) => owned(SETTINGS.iter().map(|(key, _)| *key)),
        ("set", 2) => owned(values(words[1]).iter().copied()),
        ("time", 1) => owned(values("time").iter().copied()),
        ("remove", 1) => sorted(names.statements.iter().map(|(kind, _)| kind.clone())),
        ("remove", 2) => {
            let of_kind = names.statements.iter().filter(|(kind, _)| kind == words[1]);
            of_kind.map(|(_, name)| name.clone()).collect()
        }
        ("trace", 1) => {
            let mut words = vec!["--at".to_owned(), "--live".to_owned()];
            words.extend(language(TextKind::Flow, rest, names));
            words
        }
        ("trace", _) if words[1] == "--at" => language(TextKind::Raw, rest, names),
        ("trace", _) if words[1].starts_with("--") => live::traced(words, rest, names),
        ("trace", _) => language(TextKind::Flow, rest, names),
        ("debug", 1) => {
            let mut words = vec!["--at".to_owned()];
            words.extend(language(TextKind::Question, rest, names));
            words
        }
        ("debug", _) if words[1] == "--at" => language(TextKind::Raw, rest, names),
        ("debug", _) => language(TextKind::Question, rest, names),
        ("record", _) => {
            let file = words.get(1).copied().unwrap_or("");
            let question = rest.trim_start().strip_prefix(file).unwrap_or("");
            language(TextKind::Question, question, names)
        }
        ("lab", 1) => owned(["up", "apply", "exec", "list", "down"].into_iter()),
        ("lab", _) => live::in_lab(words, names),
        ("monitor", _) => live::monitored(words, names),
        ("attach" | "status" | "detach", _) => live::attached(first, words),
        ("replay", _) => {
            owned(["--policy", "--strict"].into_iter().filter(|flag| !words.contains(flag)))
        }
        _ if TABLE.iter().any(|c| c.name == first) => Vec::new(),
        _ => statement_or_question(first, text, names),
    }
}

/// `pod a -> b` is a question, `pod a on n {` begins a statement.
fn statement_or_question(first: &str, text: &str, names: &Names) -> Vec<String> {
    let mut words = Vec::new();
    if (STATEMENTS.contains(&first) || matches!(first, "clusterwide" | "node"))
        && !text.contains("->")
    {
        words = in_statement(text, names);
    }
    if words.is_empty() || matches!(first, "pod" | "service" | "node" | "external") {
        words.extend(language(TextKind::Flow, text, names));
    }
    words
}

/// After `show` and a noun.
fn shown(words: &[&str], names: &Names) -> Vec<String> {
    let noun =
        NOUNS.iter().find(|(_, word, ..)| words.first() == Some(word)).map(|(noun, ..)| *noun);
    match (noun, words) {
        (Some(Noun::Policy), [_]) => {
            let mut words = vec!["--hits".to_owned()];
            words.extend(all(&[&names.pods, &names.policies]));
            words
        }
        (Some(Noun::Policy), [_, name]) if *name != "--hits" => vec!["--hits".to_owned()],
        (Some(Noun::Policies), [_]) => all(&[&names.policies]),
        (
            Some(Noun::Endpoints | Noun::Tunnel | Noun::Ipcache | Noun::Conntrack | Noun::Metrics),
            [_],
        ) => all(&[&names.nodes]),
        _ => Vec::new(),
    }
}

fn values(setting: &str) -> &'static [&'static str] {
    SETTINGS.iter().find(|(key, _)| *key == setting).map_or(&[], |(_, values)| values)
}

/// What `debug` may begin with: a party of a question, or a recording.
fn question_or_file(word: &str, names: &Names) -> Vec<String> {
    let parties = fitting(word, language(TextKind::Question, "", names), names);
    parties.into_iter().chain(files(word, is_recording)).collect()
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

    const WORLD: &str = "cluster c {\n  node node01 { ip 192.168.0.1 pods 10.1.0.0/24 }\n  node node02 { ip 192.168.0.2 pods 10.2.0.0/24 }\n}\n\
        namespace web {}\npod web/client on node01 { ip 10.1.0.10 }\n\
        pod web/echo-0 on node02 { ip 10.2.0.10 labels { app = \"echo\" } port http 8080/tcp }\n\
        service web/echo { cluster-ip 10.96.0.10 port http 80/tcp -> http node-port 30080 select { app = \"echo\" } }\n\
        external far { ip 192.0.2.9 }\nalias CA = web/client\n\
        policy web/echo-access {\n  select { app = \"echo\" }\n  allow ingress as https from pods {}\n}\n";

    fn names() -> Names {
        let folder = std::env::temp_dir().join(format!("hopwise-names-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a scratch directory can be made");
        let file = folder.join("w.hop");
        fs::write(&file, WORLD).expect("a scratch file can be written");
        let mut session = Session::new(|_| unreachable!("nothing is asked"));
        let loaded = session.load(&[file]);
        fs::remove_dir_all(&folder).expect("it is gone");
        assert!(loaded.is_ok(), "{loaded:?}");
        Names::of(&session)
    }

    #[test]
    fn the_words_before_say_what_may_follow() {
        let names = names();
        let cases: &[(&str, usize, &[&str])] = &[
            ("sho", 0, &["show"]),
            ("show pol", 5, &["policies", "policy"]),
            ("show policy web/c", 12, &["web/client"]),
            ("show policy web/echo", 12, &["web/echo-0", "web/echo-access"]),
            ("show policy --", 12, &["--hits"]),
            ("show policy web/echo-access ", 28, &["--hits"]),
            ("show services ", 14, &[]),
            ("show endpoints ", 15, &["node01", "node02"]),
            (":set le", 5, &["level"]),
            ("set level n", 10, &["normal"]),
            ("explain fragment-not-f", 8, &["fragment-not-found"]),
            (
                "explain HW011",
                8,
                &[
                    "HW0110", "HW0111", "HW0112", "HW0113", "HW0114", "HW0115", "HW0116", "HW0117",
                    "HW0118", "HW0119",
                ],
            ),
            ("trace web/", 6, &["web/client", "web/echo", "web/echo-0"]),
            ("web/client -> web/e", 14, &["web/echo", "web/echo-0"]),
            ("web/client -> cl", 14, &["web/client"]),
            ("web/client -", 11, &["->"]),
            ("web/client -> CA ic", 17, &["icmp", "icmpv6"]),
            ("web/client -> web/echo:", 14, &["web/echo:80/tcp", "web/echo:http"]),
            ("web/client -> echo-0:h", 14, &["echo-0:http"]),
            ("web/client -> node node01:3", 19, &["node01:30080/tcp"]),
            ("web/client -> service web/", 22, &["web/echo"]),
            ("web/client -> echo:80 choose backend we", 37, &["web/client", "web/echo-0"]),
            ("web/client -> echo:80 with ", 27, &["conntrack", "reply"]),
            (
                "web/client -> echo:80 => dropped no-",
                33,
                &["no-fib", "no-service", "no-tunnel-key"],
            ),
            ("web/client -> echo:80 => allowed, conntrack r", 44, &["related", "reply"]),
            ("remove p", 7, &["pod", "policy"]),
            ("remove policy w", 14, &["web/echo-access"]),
            ("policy web/x {\n...   sel", 21, &["select"]),
            ("policy web/x { select { ap", 24, &["app = \"echo\""]),
            ("policy web/x { select { app = ", 30, &["\"echo\""]),
            ("pod web/x on n", 13, &["node01", "node02"]),
            ("pod web/client -", 15, &["->"]),
            ("service web/x {\n... internal-traffic l", 37, &["local"]),
            ("test \"t\" { dialogue \"d\" { rep", 26, &["reply"]),
            (
                "test \"t\" { web/client -> echo:80 => allowed by web/e",
                47,
                &["web/echo-access", "web/echo-access#https"],
            ),
            ("xyzzy q", 6, &[]),
            ("debug web/", 6, &["web/client", "web/echo", "web/echo-0"]),
            ("debug web/client -> n", 20, &["node", "node01", "node02"]),
            ("lab ", 4, &["up", "apply", "exec", "list", "down"]),
            ("lab down -", 9, &["--all"]),
            ("lab up demo -", 12, &["-f"]),
            ("lab exec --", 9, &["--lab"]),
            ("lab exec shop/client -", 21, &["--"]),
            ("replay x.pcap --", 14, &["--policy", "--strict"]),
            ("replay x.pcap --strict --", 23, &["--policy"]),
            ("record x.hoptrace web/", 18, &["web/client", "web/echo", "web/echo-0"]),
            ("record x.hoptrace CA -", 21, &["->"]),
            ("trace --", 6, &["--at", "--live"]),
            (
                "trace --live --",
                13,
                &[
                    "--live",
                    "--on",
                    "--wait",
                    "--drops",
                    "--timeout",
                    "--follow",
                    "--count",
                    "--compare",
                    "--send",
                ],
            ),
            ("monitor --verdict dro", 18, &["dropped"]),
            ("trace --at from-n", 11, &["from-netdev"]),
            ("trace --at from-container on web/", 29, &["web/client", "web/echo-0"]),
            ("trace --at node02 from-overlay vni 2 from ", 42, &["192.168.0.1", "192.168.0.2"]),
            (
                "trace --at node02 from-netdev ipv4 1.1.1.1 > 2.2.2.2 / udp 1 > 8472 / vx",
                70,
                &["vxlan"],
            ),
        ];
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected =
            cases.iter().map(|(text, start, expected)| (*text, (*start, words(expected))));
        let wrong = expected.map(|(text, expected)| (text, complete(text, &names), expected));
        let wrong: Vec<_> = wrong.filter(|(_, found, expected)| found != expected).collect();
        assert_eq!(wrong, [], "text, what is offered, what should be");
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
        let names = Names { debugger: Some(known), ..Names::default() };
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
