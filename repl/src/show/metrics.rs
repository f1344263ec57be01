//! `show metrics` and `show policy NAME --hits`: what the datapath counted since its tables were loaded.

use std::collections::BTreeMap;

use engine::net::Direction;
use engine::policy::PolicyId;
use engine::tables::{EndpointEntry, EntryId, NodeTables, Origin};
use engine::topology::{Endpoint, NodeId};
use engine::trace::{Counter, Hit};

use super::{View, names};
use crate::reply::Listing;

/// Whose rules are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    /// All, at every endpoint.
    Everyone,
    /// Those that an endpoint met.
    Endpoint(Endpoint),
    /// Those of one policy, at every endpoint.
    Policy(PolicyId),
}

/// What each program did with packets, by reason and direction.
pub(super) fn metrics(view: &View<'_>, counters: &[(NodeId, Vec<Counter>)]) -> Listing {
    let mut listing = Listing::new(
        "metrics",
        &[
            ("node", "NODE"),
            ("hook", "HOOK"),
            ("direction", "DIRECTION"),
            ("reason", "REASON"),
            ("packets", "PACKETS"),
            ("bytes", "BYTES"),
        ],
    );
    for (node, counters) in counters {
        let name = names::node(view.world, *node);
        for counter in counters {
            let reason = counter.reason.map_or_else(|| "forwarded".to_owned(), |r| r.to_string());
            listing.rows.push(vec![
                name.clone().into(),
                counter.hook.to_string().into(),
                counter.direction.to_string().into(),
                reason.into(),
                counter.packets.into(),
                counter.bytes.into(),
            ]);
        }
    }
    listing
}

/// How often each rule decided, by endpoint. An entry that several rules stand behind counts for each of them.
pub(super) fn hits(view: &View<'_>, of: Of, hits: &[(NodeId, Vec<Hit>)]) -> Listing {
    let mut listing = Listing::new(
        "hits",
        &[
            ("rule", "RULE"),
            ("endpoint", "ENDPOINT"),
            ("direction", "DIRECTION"),
            ("packets", "PACKETS"),
            ("bytes", "BYTES"),
            ("entries", "ENTRIES"),
            ("location", "LOCATION"),
        ],
    );
    for node in &view.tables.nodes {
        let counted = hits.iter().find(|(id, _)| *id == node.node).map_or(&[][..], |(_, h)| h);
        let wanted = |endpoint: &&EndpointEntry| match of {
            Of::Endpoint(of) => endpoint.endpoint == of,
            Of::Policy(_) | Of::Everyone => true,
        };
        for endpoint in node.endpoints.iter().filter(wanted) {
            listing.rows.extend(rows(view, of, node, endpoint, counted));
        }
    }
    listing.notes.push(
        "since the tables were loaded; an entry of several rules counts for each of them"
            .to_owned(),
    );
    listing
}

/// Packets, bytes and entries of an origin.
#[derive(Default)]
struct Sum {
    packets: u64,
    bytes: u64,
    entries: Vec<String>,
}

fn rows(
    view: &View<'_>,
    of: Of,
    node: &NodeTables,
    endpoint: &EndpointEntry,
    counted: &[Hit],
) -> Vec<Vec<crate::reply::Cell>> {
    let mut rows = Vec::new();
    for direction in [Direction::Ingress, Direction::Egress] {
        let sums = sums(view, node, endpoint, direction, counted);
        // A rule that never decided is news; that nothing was denied by default is none.
        let wanted = sums.into_iter().filter(|(origin, sum)| match (of, origin) {
            (Of::Endpoint(_) | Of::Everyone, Origin::Implied(_)) => sum.packets > 0,
            (Of::Endpoint(_) | Of::Everyone, Origin::Rule(_)) => true,
            (Of::Policy(policy), Origin::Rule(rule)) => rule.policy == policy,
            (Of::Policy(_), Origin::Implied(_)) => false,
        });
        rows.extend(wanted.map(|(origin, sum)| {
            let (name, location) = match origin {
                Origin::Rule(rule) => {
                    let place =
                        view.policies.rule(rule).map(|(_, r)| view.sources.location(r.span));
                    (view.policies.rule_handle(rule), place.map(|at| at.to_string()))
                }
                Origin::Implied(implied) => (format!("({})", implied.name()), None),
            };
            vec![
                name.into(),
                view.world.endpoint_name(endpoint.endpoint).into(),
                direction.to_string().into(),
                sum.packets.into(),
                sum.bytes.into(),
                sum.entries.into(),
                location.into(),
            ]
        }));
    }
    rows
}

fn sums(
    view: &View<'_>,
    node: &NodeTables,
    endpoint: &EndpointEntry,
    direction: Direction,
    counted: &[Hit],
) -> BTreeMap<Origin, Sum> {
    let table = match direction {
        Direction::Egress => endpoint.egress,
        Direction::Ingress => endpoint.ingress,
    };
    let entries = node.table(table).map_or(&[][..], |table| &table.entries);
    let entries = entries.iter().map(|e| e.entry).chain([EntryId::DEFAULT_DENY]);
    let mut sums: BTreeMap<Origin, Sum> = BTreeMap::new();
    for entry in entries {
        let hit = counted.iter().find(|hit| {
            (hit.endpoint, hit.direction, hit.entry) == (endpoint.id, direction, entry)
        });
        for origin in view.tables.provenance.origins(node.node, endpoint.id, direction, entry) {
            let sum = sums.entry(*origin).or_default();
            sum.packets += hit.map_or(0, |h| h.packets);
            sum.bytes += hit.map_or(0, |h| h.bytes);
            if entry != EntryId::DEFAULT_DENY {
                sum.entries.push(entry.0.to_string());
            }
        }
    }
    sums
}
