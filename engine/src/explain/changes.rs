//! What a packet changed in conntrack: entries that came, changed or went, with names. Counters and remembered verdicts
//! change with every packet and are no news.

use serde::Serialize;

use crate::net::Protocol;
use crate::topology::NodeId;
use crate::trace::{ConntrackEntry, ConntrackKind, Place};

use super::Context;

/// Seconds up to which an entry counts as short-lived: a flow that only one side has spoken in, or one that is closing.
const SHORT: u32 = 60;

/// What conntrack holds, node by node.
pub type Known = Vec<(NodeId, Vec<ConntrackEntry>)>;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FlowKind {
    /// A flow as backends and policies see it.
    Flow,
    /// Leads from a client and a frontend to the backend.
    Service,
    /// Leads from a node's address and a translated port to the source.
    Nat,
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FlowState {
    /// Only the side that started it has spoken.
    New,
    /// Both sides have, or it was met on its way.
    Established,
    /// It ends.
    Closing,
}

impl FlowState {
    /// The state of an entry; `None` for those of services and translations, which live as long as their flow.
    pub fn of(entry: &ConntrackEntry) -> Option<Self> {
        match (kind(entry), entry.closing, entry.seen_reply) {
            (FlowKind::Service | FlowKind::Nat, ..) => None,
            (FlowKind::Flow, true, _) => Some(Self::Closing),
            (FlowKind::Flow, false, true) => Some(Self::Established),
            (FlowKind::Flow, false, false) => Some(Self::New),
        }
    }
}

impl std::fmt::Display for FlowState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Closing => "closing",
        })
    }
}

/// An entry at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct KnownFlow {
    /// How far the flow has come; null for entries of services and translations, which live as long as their flow.
    pub state: Option<FlowState>,
    /// Seconds until it is forgotten.
    pub expires_in: u32,
}

/// An entry that came (`before` is null), changed, or went (`after` is null).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct KnownChange {
    /// Whose conntrack.
    pub node: String,
    /// What the entry is for.
    pub kind: FlowKind,
    /// The protocol.
    pub protocol: Protocol,
    /// The side that started the flow: address and port.
    pub source: String,
    /// The other side: address and port. With `service` the frontend, with `nat` the node's translated address as the source.
    pub destination: String,
    /// Where it leads: the backend with `service`, the source with `nat`; the frontend that answers get, with `flow`.
    pub translated: Option<String>,
    /// How it was; null: it was not there.
    pub before: Option<KnownFlow>,
    /// How it is; null: it is forgotten.
    pub after: Option<KnownFlow>,
}

/// What differs between two moments, node by node, in the order of the entries.
pub fn changes(context: &Context<'_>, before: &Known, after: &Known) -> Vec<KnownChange> {
    let mut found = Vec::new();
    for (node, entries) in after {
        let mut old = Walk(of_node(before, *node));
        let name = context.node(*node);
        for entry in entries.iter().filter(|entry| entry.expires_in > 0) {
            let earlier = old.meet(entry);
            if earlier.is_none_or(|e| is_news(e, entry)) {
                found.push(change(&name, entry, earlier, Some(entry)));
            }
        }
        let lost = gone(before, after, *node).into_iter();
        found.extend(lost.map(|entry| change(&name, entry, Some(entry), None)));
    }
    found
}

/// A node's entries that were there at one moment and are not at a later one.
pub fn gone<'k>(before: &'k Known, after: &Known, node: NodeId) -> Vec<&'k ConntrackEntry> {
    let mut new = Walk(of_node(after, node));
    let old = of_node(before, node).iter().filter(|entry| entry.expires_in > 0);
    old.filter(|entry| new.meet(entry).is_none()).collect()
}

fn of_node(known: &Known, node: NodeId) -> &[ConntrackEntry] {
    known.iter().find(|(id, _)| *id == node).map_or(&[], |(_, list)| list)
}

/// What is left of a node's list, which is ordered by flow, while another such list is gone through beside it: tables
/// hold thousands of flows of which a packet changes a few, so that nothing is built of them.
struct Walk<'k>(&'k [ConntrackEntry]);

impl<'k> Walk<'k> {
    /// The living entry for the same, of lists whose entries are asked for in order.
    fn meet(&mut self, entry: &ConntrackEntry) -> Option<&'k ConntrackEntry> {
        let passed = self.0.iter().take_while(|e| e.flow < entry.flow).count();
        self.0 = &self.0[passed..];
        let same = self.0.iter().take_while(|e| e.flow == entry.flow);
        same.filter(|e| e.expires_in > 0).find(|e| kind(e) == kind(entry))
    }
}

fn kind(entry: &ConntrackEntry) -> FlowKind {
    match entry.kind {
        ConntrackKind::Plain | ConntrackKind::Translated { .. } => FlowKind::Flow,
        ConntrackKind::Service { .. } => FlowKind::Service,
        ConntrackKind::Nat { .. } => FlowKind::Nat,
    }
}

/// Whether the state, the class of the time to live or the translation changed.
fn is_news(before: &ConntrackEntry, after: &ConntrackEntry) -> bool {
    let is_short =
        |entry: &ConntrackEntry| kind(entry) == FlowKind::Flow && entry.expires_in <= SHORT;
    FlowState::of(before) != FlowState::of(after)
        || is_short(before) != is_short(after)
        || before.kind != after.kind
}

fn change(
    node: &str,
    entry: &ConntrackEntry,
    before: Option<&ConntrackEntry>,
    after: Option<&ConntrackEntry>,
) -> KnownChange {
    let flow = &entry.flow;
    let end = |address, port| match port {
        0 => format!("{address}"),
        port => Place { address, port }.to_string(),
    };
    let at = |entry: &ConntrackEntry| KnownFlow {
        state: FlowState::of(entry),
        expires_in: entry.expires_in,
    };
    let translated = match entry.kind {
        ConntrackKind::Plain => None,
        ConntrackKind::Translated { frontend, .. } => frontend,
        ConntrackKind::Service { backend } => Some(backend),
        ConntrackKind::Nat { source } => Some(source),
    };
    KnownChange {
        node: node.to_owned(),
        kind: kind(entry),
        protocol: flow.protocol,
        source: end(flow.source, flow.source_port),
        destination: end(flow.destination, flow.destination_port),
        translated: translated.map(|place| end(place.address, place.port)),
        before: before.map(at),
        after: after.map(at),
    }
}
