//! What the datapath's maps hold, and the errors where an input asks for more. A map holds two generations
//! at once, so one may fill half of it.

use std::collections::BTreeSet;

use crate::diag::{Code, Diagnostic};
use crate::identity::Identity;
use crate::net::Direction;
use crate::policy::{PolicySet, RuleId};
use crate::source::Span;
use crate::tables::{IpcacheOrigin, NodeTables, Target};
use crate::topology::{Node, World};

/// `datapath-limit`: the input asks for more than the datapath's maps hold.
pub const DATAPATH_LIMIT: Code = Code(300);

/// Endpoints of a node: half of the attachments.
pub const ENDPOINTS_PER_NODE: usize = 8192 / 2;
/// Targets of a node: endpoints, other nodes, services, its own stack in two roles.
pub const TARGETS_PER_NODE: usize = 32_768 / 2;
/// Addresses and prefixes of a node.
pub const IPCACHE_PER_NODE: usize = 1_048_576 / 2;
/// Frontends of a node: half of the services, as in the reference (`bpf-lb-map-max`).
pub const FRONTENDS_PER_NODE: usize = 65_536 / 2;
/// Backends of all sets of a node.
pub const BACKENDS_PER_NODE: usize = 65_536 / 2;
/// Maglev tables of a node.
pub const MAGLEV_TABLES_PER_NODE: usize = 1024 / 2;
/// Policy entries of one table, as in the reference (`bpf-policy-map-max`).
pub const POLICY_ENTRIES_PER_TABLE: usize = 16_384;
/// Policy entries of all tables of a node.
pub const POLICY_ENTRIES_PER_NODE: usize = 1_048_576 / 2;

fn limit(message: String, span: Span) -> Diagnostic {
    Diagnostic::error(DATAPATH_LIMIT, message, span)
}

/// No number is left for a class of pods.
pub(super) fn too_many_identities(pod: Span) -> Diagnostic {
    let most = Identity::LAST_CLUSTER - Identity::FIRST_CLUSTER + 1;
    limit(format!("more than {most} identities of pods"), pod)
        .label("no number is left for this pod's namespace and labels")
        .note("pods with equal labels in one namespace share an identity")
        .help("remove labels that no policy asks for and that differ from pod to pod")
}

/// No number is left for a prefix.
pub(super) fn too_many_prefixes(rule: Span) -> Diagnostic {
    let most = Identity::LAST_CIDR - Identity::FIRST_CIDR + 1;
    limit(format!("more than {most} prefixes in rules"), rule)
        .label("no number is left for a prefix that this rule names")
        .help("merge neighbouring prefixes")
}

/// A node has more pods than devices can be attached to.
pub(super) fn too_many_endpoints(node: &Node, pods: usize, most: usize) -> Diagnostic {
    limit(format!("node `{}` has {pods} pods; at most {most} fit", node.name), node.span)
        .help("move pods to other nodes")
}

/// One table is too large: `rule` is the one at which it goes over, with how many entries there are before.
pub(super) fn table_too_large(
    policies: &PolicySet,
    rule: Option<(RuleId, usize)>,
    direction: Direction,
    size: usize,
) -> Diagnostic {
    let before = rule.map_or(0, |(_, before)| before);
    let rule = rule.and_then(|(id, _)| policies.rule(id));
    let span = rule.map(|(_, r)| r.span).unwrap_or_default();
    limit(
        format!(
            "the {direction} policy of an endpoint has {size} entries; at most \
             {POLICY_ENTRIES_PER_TABLE} fit"
        ),
        span,
    )
    .label(format!("here it goes over: there are {before} before this rule"))
    .note("a rule has an entry for each identity of its peers and each prefix of its ports")
    .help(
        "let ranges begin and end at multiples of powers of two, name a protocol, or give peers that \
         are fewer identities",
    )
}

/// Checks what can only be counted when a node's tables are there.
pub(super) fn check_node(
    world: &World,
    policies: &PolicySet,
    node: &Node,
    tables: &NodeTables,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let entries: usize = tables.policies.iter().map(|table| table.entries.len()).sum();
    if entries > POLICY_ENTRIES_PER_NODE {
        diagnostics.push(
            limit(
                format!(
                    "the policies of node `{}` have {entries} entries; at most \
                     {POLICY_ENTRIES_PER_NODE} fit",
                    node.name
                ),
                node.span,
            )
            .note("endpoints under equal policies share their entries")
            .help("move pods under different policies to other nodes, or give rules fewer peers and ports"),
        );
    }
    if tables.ipcache.len() > IPCACHE_PER_NODE {
        diagnostics.push(ipcache_too_large(world, policies, node, tables));
    }
    diagnostics.extend(too_many_of_services(world, node, tables));
    let others: BTreeSet<&Target> = tables
        .ipcache
        .iter()
        .map(|entry| &entry.target)
        .filter(|target| {
            matches!(target, Target::Tunnel { .. } | Target::Native { .. } | Target::Service(_))
        })
        .collect();
    let targets = tables.endpoints.len() + others.len() + 2;
    if targets > TARGETS_PER_NODE {
        diagnostics.push(
            limit(
                format!(
                    "node `{}` reaches {targets} pods, nodes and services directly; at most \
                     {TARGETS_PER_NODE} fit",
                    node.name
                ),
                node.span,
            )
            .help("make the cluster of fewer nodes or services"),
        );
    }
}

/// Where services ask for more than a node's maps hold, at the service with which they do.
fn too_many_of_services(world: &World, node: &Node, tables: &NodeTables) -> Option<Diagnostic> {
    let (mut seen, mut backends, mut maglev) = (BTreeSet::new(), 0, 0);
    for (frontend, count) in tables.frontends.iter().zip(1..) {
        for at in [frontend.internal, frontend.external] {
            if let Some(set) = tables.backend_sets.get(at as usize).filter(|_| seen.insert(at)) {
                backends += set.backends.len();
                maglev += usize::from(!set.maglev.is_empty());
            }
        }
        let over = [
            ("frontends", count, FRONTENDS_PER_NODE),
            ("backends", backends, BACKENDS_PER_NODE),
            ("Maglev tables", maglev, MAGLEV_TABLES_PER_NODE),
        ];
        if let Some((what, _, most)) = over.into_iter().find(|(_, count, most)| count > most) {
            let service = world.service(frontend.service);
            let span = service.map_or(node.span, |service| service.span);
            let message = format!("services have more than {most} {what} on node `{}`", node.name);
            return Some(
                limit(message, span)
                    .label("here it goes over")
                    .note("a frontend is an address with a port; equal sets of backends are one")
                    .help("give services fewer addresses and ports, or select fewer pods"),
            );
        }
    }
    None
}

/// Points at the last thing that asks for an entry: a rule's prefix where there is one, else a pod.
fn ipcache_too_large(
    world: &World,
    policies: &PolicySet,
    node: &Node,
    tables: &NodeTables,
) -> Diagnostic {
    let beyond = tables.ipcache.iter().skip(IPCACHE_PER_NODE).map(|entry| &entry.origin);
    let spans = beyond.filter_map(|origin| match *origin {
        IpcacheOrigin::Cidr(ref rules) => {
            rules.first().and_then(|id| policies.rule(*id)).map(|(_, rule)| rule.span)
        }
        IpcacheOrigin::Pod(pod) => world.pod(pod).map(|pod| pod.span),
        IpcacheOrigin::Service(service) => world.service(service).map(|service| service.span),
        IpcacheOrigin::PodPrefix(_)
        | IpcacheOrigin::Node(_)
        | IpcacheOrigin::Health(_)
        | IpcacheOrigin::World => None,
    });
    let span = spans.into_iter().next().unwrap_or(node.span);
    let count = tables.ipcache.len();
    limit(format!("{count} addresses and prefixes; at most {IPCACHE_PER_NODE} fit"), span)
        .label("no room is left for this")
        .note("pods, nodes, services' addresses and prefixes in rules have one entry each on every node")
        .help("merge neighbouring prefixes in rules")
}
