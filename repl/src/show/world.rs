//! `show pods`, `show nodes`, `show identities`.

use engine::net::Direction;
use engine::policy::PolicySet;
use engine::tables::IdentityClass;
use engine::topology::{Endpoint, Pod, PodId, World};

use super::{View, names};
use crate::reply::{Cell, Listing};

/// Every pod with its enforcement per direction, and the policies that bring it about.
pub(super) fn pods(view: &View<'_>) -> Listing {
    let mut listing = Listing::new(
        "pods",
        &[
            ("name", "NAME"),
            ("node", "NODE"),
            ("addresses", "ADDRESSES"),
            ("identity", "IDENTITY"),
            ("ingress", "INGRESS"),
            ("ingressBy", "INGRESS-BY"),
            ("egress", "EGRESS"),
            ("egressBy", "EGRESS-BY"),
            ("labels", "LABELS"),
        ],
    );
    let isolation = Isolation::of(view.world, view.policies);
    for (id, pod) in view.world.pods() {
        let node = view.tables.node(pod.node);
        let endpoint = node.and_then(|n| n.endpoint_of(Endpoint::Pod(id)));
        let mut row: Vec<Cell> = vec![
            pod.qualified().into(),
            names::node(view.world, pod.node).into(),
            pod.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().into(),
            endpoint.map(|e| e.identity.0).into(),
        ];
        for direction in [Direction::Ingress, Direction::Egress] {
            let by = isolation.by(id, direction);
            row.push(enforcement(pod, by).into());
            row.push(by.to_vec().into());
        }
        row.push(names::labels(&pod.labels).into());
        listing.rows.push(row);
    }
    listing
}

/// What policy does in a direction: `default-deny` unless a rule allows, nothing at all, or nothing
/// because policies never select a pod in its node's network.
fn enforcement(pod: &Pod, by: &[String]) -> &'static str {
    if pod.host_network {
        "host-network"
    } else if by.is_empty() {
        "not-isolated"
    } else {
        "default-deny"
    }
}

/// For each pod and direction the policies that isolate it.
struct Isolation {
    ingress: Vec<Vec<String>>,
    egress: Vec<Vec<String>>,
}

impl Isolation {
    fn of(world: &World, policies: &PolicySet) -> Self {
        let none = vec![Vec::new(); world.pods.len()];
        let mut isolation = Self { ingress: none.clone(), egress: none };
        for (_, policy) in policies.iter() {
            for pod in names::subjects(world, policy) {
                if policy.isolates(Direction::Ingress) {
                    isolation.ingress[pod.index()].push(policy.handle.clone());
                }
                if policy.isolates(Direction::Egress) {
                    isolation.egress[pod.index()].push(policy.handle.clone());
                }
            }
        }
        isolation
    }

    fn by(&self, pod: PodId, direction: Direction) -> &[String] {
        let lists = match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        };
        lists.get(pod.index()).map_or(&[], Vec::as_slice)
    }
}

/// Every node with its addresses, pod prefixes and how many pods it runs.
pub(super) fn nodes(view: &View<'_>) -> Listing {
    let mut listing = Listing::new(
        "nodes",
        &[
            ("name", "NAME"),
            ("addresses", "ADDRESSES"),
            ("podCidrs", "POD-CIDRS"),
            ("device", "DEVICE"),
            ("pods", "PODS"),
            ("localAddresses", "LOCAL-ADDRESSES"),
            ("health", "HEALTH"),
            ("labels", "LABELS"),
        ],
    );
    for (id, node) in view.world.nodes() {
        let pods = view.world.pods.iter().filter(|p| p.node == id).count();
        listing.rows.push(vec![
            node.name.clone().into(),
            texts(&node.addresses),
            texts(&node.pod_cidrs),
            node.device.clone().into(),
            (pods as u64).into(),
            texts(&node.locals),
            texts(&node.health),
            Some(names::labels(&node.labels)).filter(|_| !node.labels.is_empty()).into(),
        ]);
    }
    listing
}

fn texts<T: ToString>(items: &[T]) -> Cell {
    Cell::List(items.iter().map(ToString::to_string).collect())
}

/// Every identity in use, what it stands for, and how many pods have it.
pub(super) fn identities(view: &View<'_>) -> Listing {
    let mut listing = Listing::new(
        "identities",
        &[("identity", "IDENTITY"), ("kind", "KIND"), ("meaning", "MEANING"), ("pods", "PODS")],
    );
    let population = names::population(view.tables);
    for (identity, class) in &view.tables.identities {
        let pinned = view.world.pins.iter().any(|p| p.number == identity.0);
        let (kind, pods) = match class {
            IdentityClass::Reserved => ("reserved", None),
            IdentityClass::Pods { .. } if pinned => ("pinned", population.get(identity).copied()),
            IdentityClass::Pods { .. } => ("pods", population.get(identity).copied()),
            IdentityClass::Cidr(_) => ("cidr", None),
            IdentityClass::Fqdn { .. } => ("fqdn", None),
        };
        listing.rows.push(vec![
            identity.0.into(),
            kind.into(),
            names::meaning(view.tables, *identity).into(),
            pods.into(),
        ]);
    }
    listing
}
