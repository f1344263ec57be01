//! Who was seen talking to whom, by protocol and port, with what came of it; and the drawing of it. At most so many talks are told
//! apart; the packets of others are counted together.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engine::net::Hook;
use engine::reason::DropReason;
use petgraph::dot::{Config, Dot};
use petgraph::graph::DiGraph;
use petgraph::visit::EdgeRef as _;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Drawing, Fate, Sighting};

/// Talks that are told apart.
const MOST: usize = 10_000;

/// Packets from one party to another's port, and their answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Talk {
    /// Who began.
    pub source: String,
    /// With whom: the backend, where a service stands between.
    pub destination: String,
    /// `tcp`, `icmp`, ...
    pub protocol: String,
    /// The port; null without ports.
    pub port: Option<u16>,
    /// Packets that were seen to be sent, answers included.
    pub sent: u64,
    /// Packets that were seen to be received.
    pub received: u64,
    /// Packets that were seen to be dropped (where programs only observe: would have been).
    pub dropped: u64,
    /// Why the last one of those was; null where none was.
    pub reason: Option<DropReason>,
    /// What decided last, as `policy#rule`; null where no rule did.
    pub by: Option<String>,
}

type Key = (String, String, String, Option<u16>);

/// All talks.
#[derive(Clone, Debug, Default)]
pub(super) struct Talks {
    known: BTreeMap<Key, Talk>,
    /// Packets of talks that there was no room for.
    pub(super) beyond: u64,
}

impl Talks {
    /// Counts a sighting.
    pub(super) fn add(&mut self, seen: &Sighting) {
        let Some(protocol) = seen.protocol.filter(|_| !seen.quiet) else { return };
        let ends = &seen.ends;
        let (source, destination, port) = if ends.is_reply {
            (&ends.destination, &ends.source, ends.source_port)
        } else {
            (&ends.source, &ends.destination, ends.destination_port)
        };
        let key = (source.clone(), destination.clone(), protocol.to_string(), port);
        if self.known.len() >= MOST && !self.known.contains_key(&key) {
            self.beyond += 1;
            return;
        }
        let talk =
            self.known.entry(key).or_insert_with_key(|(source, destination, protocol, port)| {
                Talk {
                    source: source.clone(),
                    destination: destination.clone(),
                    protocol: protocol.clone(),
                    port: *port,
                    ..Talk::default()
                }
            });
        let is_sent = matches!(seen.hook, Hook::FromContainer | Hook::FromHost);
        talk.sent += u64::from(is_sent);
        talk.received += u64::from(ends.is_received && seen.verdict == Fate::Allowed);
        if seen.verdict == Fate::Dropped {
            talk.dropped += 1;
            talk.reason = seen.reason;
        }
        let rule = seen.decided_by.iter().rev().find_map(|decided| {
            Some(format!("{}#{}", decided.policy.as_ref()?, decided.rule.as_ref()?))
        });
        talk.by = rule.or(talk.by.take());
    }

    /// In the order of their names.
    pub(super) fn all(&self) -> Vec<Talk> {
        self.known.values().cloned().collect()
    }
}

/// Draws talks as a graph of parties.
pub fn draw(talks: &[Talk], drawing: Drawing) -> String {
    let mut graph = DiGraph::<String, String>::new();
    let mut places = BTreeMap::new();
    for talk in talks {
        let mut place = |name: &String| {
            *places.entry(name.clone()).or_insert_with(|| graph.add_node(name.clone()))
        };
        let (from, to) = (place(&talk.source), place(&talk.destination));
        graph.add_edge(from, to, label(talk));
    }
    match drawing {
        Drawing::Dot => dot(&graph, talks),
        Drawing::Mermaid => mermaid(&graph, talks),
    }
}

/// `8080/tcp: 3 received, 1 dropped (policy-denied)`.
fn label(talk: &Talk) -> String {
    let Talk { protocol, sent, received, dropped, .. } = talk;
    let what = talk.port.map_or_else(|| protocol.clone(), |port| format!("{port}/{protocol}"));
    let reason = talk.reason.map_or_else(String::new, |reason| format!(" ({})", reason.name()));
    let counts = match (received, dropped) {
        (0, 0) => format!("{sent} sent"),
        (_, 0) => format!("{received} received"),
        (0, _) => format!("{dropped} dropped{reason}"),
        _ => format!("{received} received, {dropped} dropped{reason}"),
    };
    format!("{what}: {counts}")
}

fn color(talk: &Talk) -> &'static str {
    match (talk.received, talk.dropped) {
        (_, 0) => "black",
        (0, _) => "red",
        _ => "orange",
    }
}

fn dot(graph: &DiGraph<String, String>, talks: &[Talk]) -> String {
    let of_edge = |_: &DiGraph<String, String>,
                   edge: petgraph::graph::EdgeReference<'_, String>| {
        let talk = talks.get(edge.id().index());
        format!("color = {}", talk.map_or("black", color))
    };
    let of_node = |_: &DiGraph<String, String>, _| "shape = box".to_owned();
    let config = [Config::RankDir(petgraph::dot::RankDir::LR)];
    let text = Dot::with_attr_getters(graph, &config, &of_edge, &of_node).to_string();
    text.trim_end().to_owned()
}

fn mermaid(graph: &DiGraph<String, String>, talks: &[Talk]) -> String {
    let mut text = "graph LR".to_owned();
    // Writing into a string cannot fail.
    for place in graph.node_indices() {
        let _ = write!(text, "\n  n{}[\"{}\"]", place.index(), quoted(&graph[place]));
    }
    for (at, edge) in graph.raw_edges().iter().enumerate() {
        let dropped = talks.get(at).is_some_and(|talk| talk.received == 0 && talk.dropped > 0);
        let arrow = if dropped { "-.->" } else { "-->" };
        let (from, to) = (edge.source().index(), edge.target().index());
        let _ = write!(text, "\n  n{from} {arrow}|\"{}\"| n{to}", quoted(&edge.weight));
    }
    text
}

/// What Mermaid reads in quotes as it is.
fn quoted(text: &str) -> String {
    text.replace('"', "#quot;")
}
