//! `show policy POD` or `NODE`: both policy tables of an endpoint, as the datapath has them, with the rules behind
//! every entry. Entries that one range of ports was split into are shown as that range.

use std::collections::BTreeMap;

use engine::identity::Identity;
use engine::net::{Direction, PortRange, Protocol};
use engine::policy::RuleId;
use engine::tables::{EndpointEntry, EntryId, NodeTables, Origin, PolicyEntry, TableId};
use engine::topology::Endpoint;

use super::{View, names, ports};
use crate::reply::{Cell, Listing};

/// The listing; `None` where the pod or node has no endpoint.
pub(super) fn of(view: &View<'_>, of: Endpoint) -> Option<Listing> {
    let node = view.tables.node(view.world.node_of(of)?)?;
    let endpoint = node.endpoint_of(of)?;
    let mut listing = Listing::new(
        "policy entries",
        &[
            ("direction", "DIRECTION"),
            ("action", "ACTION"),
            ("identity", "IDENTITY"),
            ("peer", "PEER"),
            ("ports", "PORTS"),
            ("entries", "ENTRIES"),
            ("rules", "RULES"),
            ("locations", "LOCATIONS"),
        ],
    );
    for (direction, table) in
        [(Direction::Ingress, endpoint.ingress), (Direction::Egress, endpoint.egress)]
    {
        let groups = groups(view, node, endpoint, direction, table);
        listing.rows.extend(groups.iter().map(|(group, found)| row(view, direction, group, found)));
        if !groups.keys().any(Group::is_everything) {
            listing.rows.push(otherwise(direction));
        }
        listing.notes.push(format!(
            "{direction}: table {} of endpoint {} ({}), entries: {}",
            table.0,
            endpoint.id.0,
            view.world.endpoint_name(of),
            node.table(table).map_or(0, |t| t.entries.len()),
        ));
    }
    Some(listing)
}

/// What entries must share to be shown as one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    deny: bool,
    identity: Identity,
    protocol: Option<Protocol>,
    origins: Vec<Origin>,
}

impl Group {
    /// Whether every packet matches.
    fn is_everything(&self) -> bool {
        self.identity == Identity::ANY && self.protocol.is_none()
    }
}

/// The entries of a line.
#[derive(Default)]
struct Found {
    ranges: Vec<PortRange>,
    entries: Vec<EntryId>,
}

fn groups(
    view: &View<'_>,
    node: &NodeTables,
    endpoint: &EndpointEntry,
    direction: Direction,
    table: TableId,
) -> BTreeMap<Group, Found> {
    let provenance = &view.tables.provenance;
    let mut groups: BTreeMap<Group, Found> = BTreeMap::new();
    for PolicyEntry { key, deny, entry } in node.table(table).map_or(&[][..], |t| &t.entries) {
        let group = Group {
            deny: *deny,
            identity: key.identity,
            protocol: key.protocol,
            origins: provenance.origins(node.node, endpoint.id, direction, *entry).to_vec(),
        };
        let found = groups.entry(group).or_default();
        found.ranges.push(ports::covered(key));
        found.entries.push(*entry);
    }
    groups
}

fn row(view: &View<'_>, direction: Direction, group: &Group, found: &Found) -> Vec<Cell> {
    let rules: Vec<RuleId> = group
        .origins
        .iter()
        .filter_map(|origin| match origin {
            Origin::Rule(rule) => Some(*rule),
            Origin::Implied(_) => None,
        })
        .collect();
    let names: Vec<String> = group
        .origins
        .iter()
        .map(|origin| match origin {
            Origin::Rule(rule) => view.policies.rule_handle(*rule),
            Origin::Implied(implied) => format!("({})", implied.name()),
        })
        .collect();
    let places = rules
        .iter()
        .filter_map(|rule| view.policies.rule(*rule))
        .map(|(_, rule)| view.sources.location(rule.span).to_string())
        .collect::<Vec<_>>();
    let ranges = ports::folded(found.ranges.clone());
    vec![
        direction.to_string().into(),
        if group.deny { "deny" } else { "allow" }.into(),
        group.identity.0.into(),
        names::meaning(view.tables, group.identity).into(),
        ports::words(group.protocol, &ranges).into(),
        found.entries.iter().map(|e| e.0.to_string()).collect::<Vec<_>>().into(),
        names.into(),
        places.into(),
    ]
}

/// What a packet meets that matches no entry.
fn otherwise(direction: Direction) -> Vec<Cell> {
    vec![
        direction.to_string().into(),
        "deny".into(),
        Cell::None,
        "otherwise".into(),
        "any".into(),
        Cell::None,
        vec!["(default-deny)".to_owned()].into(),
        Cell::None,
    ]
}
