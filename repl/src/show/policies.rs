//! `show policies`, `show selectors`: what the text means after normalisation, and how many pods that is.

use engine::net::Direction;
use engine::policy::{Policy, PolicyId, Rule, SubjectKind};

use super::{View, names};
use crate::reply::{Cell, Listing};

/// Every policy with its owner, its subject and where it isolates.
pub(super) fn policies(view: &View<'_>, chosen: Option<PolicyId>) -> Listing {
    let mut listing = Listing::new(
        "policies",
        &[
            ("policy", "POLICY"),
            ("owner", "OWNER"),
            ("subject", "SUBJECT"),
            ("pods", "PODS"),
            ("isolates", "ISOLATES"),
            ("rules", "RULES"),
            ("location", "LOCATION"),
        ],
    );
    let wanted = |id: PolicyId| chosen.is_none_or(|chosen| chosen == id);
    for (_, policy) in view.policies.iter().filter(|(id, _)| wanted(*id)) {
        listing.rows.push(vec![
            policy.handle.clone().into(),
            policy.owner.clone().into(),
            subject(policy).into(),
            (selected(view, policy) as u64).into(),
            isolates(policy),
            (policy.rules.len() as u64).into(),
            view.sources.location(policy.span).to_string().into(),
        ]);
    }
    listing
}

/// How many pods, or nodes, a policy selects.
fn selected(view: &View<'_>, policy: &Policy) -> usize {
    match policy.subject_kind {
        SubjectKind::Pods => names::subjects(view.world, policy).len(),
        SubjectKind::Nodes => names::subject_nodes(view.world, policy).len(),
    }
}

/// `pods {app=echo} in web`, `nodes {role=edge}`.
fn subject(policy: &Policy) -> String {
    match policy.subject_kind {
        SubjectKind::Nodes => format!("nodes {}", policy.subject),
        SubjectKind::Pods => {
            let own = policy.namespace.as_deref();
            names::pods_in(&policy.subject, &policy.subject_namespaces, own)
        }
    }
}

fn isolates(policy: &Policy) -> Cell {
    let directions = [Direction::Ingress, Direction::Egress];
    let isolated = directions.into_iter().filter(|d| policy.isolates(*d));
    Cell::List(isolated.map(|d| d.to_string()).collect())
}

/// Every peer of every rule, and the pods that it matches.
pub(super) fn selectors(view: &View<'_>) -> Listing {
    let mut listing = Listing::new(
        "selectors",
        &[
            ("rule", "RULE"),
            ("peer", "PEER"),
            ("matches", "MATCHES"),
            ("pods", "PODS"),
            ("location", "LOCATION"),
        ],
    );
    for (_, policy) in view.policies.iter() {
        for rule in &policy.rules {
            listing.rows.extend(peers(view, policy, rule));
        }
    }
    listing
}

fn peers(view: &View<'_>, policy: &Policy, rule: &Rule) -> Vec<Vec<Cell>> {
    let handle = format!("{}#{}", policy.handle, rule.name);
    let own = policy.namespace.as_deref();
    let row = |peer: String, pods: Option<Vec<String>>, span| {
        vec![
            handle.clone().into(),
            peer.into(),
            pods.as_ref().map(|p| p.len() as u64).into(),
            pods.into(),
            view.sources.location(span).to_string().into(),
        ]
    };
    match rule.peers.as_deref() {
        None => vec![row("anyone".into(), None, rule.span)],
        Some([]) => vec![row("none".into(), None, rule.span)],
        Some(peers) => peers
            .iter()
            .map(|peer| {
                let pods = names::peer_pods(view.world, peer, own);
                let is_pods = matches!(
                    peer.kind,
                    engine::policy::PeerKind::Pods { .. }
                        | engine::policy::PeerKind::Service { .. }
                );
                let pods = pods.into_iter().map(|id| names::pod(view.world, id)).collect();
                row(names::peer(peer, own), is_pods.then_some(pods), peer.span)
            })
            .collect(),
    }
}
