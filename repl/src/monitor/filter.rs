//! Which sightings are wanted. Different conditions must all hold; of several of one kind one must.

use super::{Fate, Side, Sighting};
use engine::identity::Identity;
use engine::reason::DropReason;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Names of either side, with or without their namespace.
    pub pods: Vec<String>,
    /// Who sends, and to whom: to one of these.
    pub talk: Option<(String, Vec<String>)>,
    /// Namespaces of either side.
    pub namespaces: Vec<String>,
    /// Labels of either side.
    pub labels: Vec<(String, String)>,
    /// Identities of either side, by number or reserved name; `world` is everyone outside, as `entities world` in policies.
    pub identities: Vec<String>,
    /// Ports of either side.
    pub ports: Vec<u16>,
    /// Verdicts.
    pub verdicts: Vec<Fate>,
    /// Reasons of drops.
    pub reasons: Vec<DropReason>,
    /// Nodes.
    pub nodes: Vec<String>,
    /// Whether runs count that had nothing to say.
    pub all: bool,
}

impl Filter {
    /// Whether a sighting is wanted.
    pub fn admits(&self, seen: &Sighting) -> bool {
        let either =
            |holds: &dyn Fn(&Side) -> bool| holds(&seen.source) || holds(&seen.destination);
        let is_named = |side: &Side, name: &String| {
            side.name == *name
                || side.name.split_once('/').is_some_and(|(_, bare)| bare == name)
                || side.address == *name
        };
        let is_identity = |side: &Side, wanted: &String| {
            side.identity.is_some_and(|identity| {
                let is_v6 = side.address.contains(':');
                match wanted.as_str() {
                    "world" => identity.is_world(),
                    "world-ipv4" => identity.is_world() && identity != Identity::WORLD && !is_v6,
                    "world-ipv6" => identity.is_world() && identity != Identity::WORLD && is_v6,
                    name => identity.to_string() == name || identity.reserved_name() == Some(name),
                }
            })
        };
        let is_talk = self.talk.as_ref().is_none_or(|(source, destinations)| {
            is_named(&seen.source, source)
                && any(destinations, |to| is_named(&seen.destination, to))
        });
        is_talk
            && any(&self.pods, |name| either(&|side| is_named(side, name)))
            && any(&self.namespaces, |name| either(&|side| side.namespace.as_ref() == Some(name)))
            && any(&self.labels, |(key, value)| either(&|side| side.labels.get(key) == Some(value)))
            && any(&self.identities, |wanted| either(&|side| is_identity(side, wanted)))
            && any(&self.ports, |port| either(&|side| side.port == Some(*port)))
            && any(&self.verdicts, |verdict| seen.verdict == *verdict)
            && any(&self.reasons, |reason| seen.reason == Some(*reason))
            && any(&self.nodes, |node| seen.node == *node)
            && (self.all || !seen.quiet)
    }

    /// Whether nothing but drops can be wanted, so that programs need not tell of anything else.
    pub fn wants_only_drops(&self) -> bool {
        let drops = |fate: &Fate| *fate == Fate::Dropped;
        !self.reasons.is_empty() || (!self.verdicts.is_empty() && self.verdicts.iter().all(drops))
    }
}

/// Whether one of the wanted holds, or nothing is wanted.
fn any<T>(wanted: &[T], holds: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(holds)
}
