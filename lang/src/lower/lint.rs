//! Warnings: what can be used but probably does not say what was meant.

use engine::diag::Diagnostic;
use engine::policy::{
    Isolation, Namespaces, Peer, PeerKind, Policy, PolicySet, PortKind, PortSpec,
};
use engine::source::Span;
use engine::topology::{Namespace, Pod, World};

use crate::codes;

/// A pod address that its node's prefixes do not hold.
pub(super) fn pod_address(world: &World, pod: &Pod, span: Span, sink: &mut Vec<Diagnostic>) {
    let Some(node) = world.node(pod.node).filter(|_| !pod.host_network) else { return };
    for address in &pod.addresses {
        let mut family = node
            .pod_cidrs
            .iter()
            .filter(|net| net.addr().is_ipv6() == address.is_ipv6())
            .peekable();
        if family.peek().is_some() && !family.any(|net| net.contains(address)) {
            let message = format!(
                "{address} of pod {} is outside the pod prefixes of node `{}`",
                pod.qualified(),
                node.name
            );
            sink.push(
                Diagnostic::warning(codes::OUTSIDE_POD_PREFIX, message, span)
                    .also(node.span, "the node"),
            );
        }
    }
}

/// Everything about policies.
pub(super) fn policies(world: &World, policies: &PolicySet, sink: &mut Vec<Diagnostic>) {
    for (_, policy) in policies.iter() {
        subject(world, policy, sink);
        for rule in &policy.rules {
            rule.peers.iter().flatten().for_each(|peer| cidr(world, peer, sink));
            rule.ports.iter().flatten().for_each(|port| named_port(world, port, sink));
        }
    }
}

fn subject(world: &World, policy: &Policy, sink: &mut Vec<Diagnostic>) {
    if policy.rules.is_empty()
        && [policy.ingress, policy.egress].iter().all(|i| *i != Isolation::Always)
    {
        let message = format!("policy {} neither isolates nor has a rule", policy.handle);
        sink.push(Diagnostic::warning(codes::NO_EFFECT, message, head(policy)));
    }
    let own = policy.namespace.as_deref();
    let chosen = |namespace: &Namespace| match &policy.subject_namespaces {
        Namespaces::Own => own == Some(namespace.name.as_str()),
        Namespaces::Named(name) => *name == namespace.name,
        Namespaces::Matching(selector) => selector.matches(&namespace.labels),
        Namespaces::Any => true,
    };
    // A file of policies alone, without a world, is not at fault.
    if !world.pods.is_empty() && world.select(&policy.subject, chosen).next().is_none() {
        let message = format!("policy {} selects no pod", policy.handle);
        let labels = policy.subject.requirements.first().map(|r| r.span);
        let span = labels.unwrap_or_else(|| head(policy));
        sink.push(
            Diagnostic::warning(codes::SELECTS_NOTHING, message, span)
                .label(format!("no pod has {}", policy.subject)),
        );
    }
}

/// The first word of a policy: its whole block would underline too much.
fn head(policy: &Policy) -> Span {
    Span { end: policy.span.start.saturating_add(6).min(policy.span.end), ..policy.span }
}

/// A prefix all of whose known addresses are pods' or nodes'.
fn cidr(world: &World, peer: &Peer, sink: &mut Vec<Diagnostic>) {
    let PeerKind::Cidr { net, .. } = &peer.kind else { return };
    let pods = world.nodes.iter().flat_map(|n| &n.pod_cidrs);
    let inside = pods.clone().any(|prefix| prefix.contains(net))
        || world.pods.iter().flat_map(|p| &p.addresses).any(|a| net.contains(a) && is_host(net));
    let node = |a: &std::net::IpAddr| is_host(net) && net.contains(a);
    if inside || world.nodes.iter().flat_map(|n| &n.addresses).any(node) {
        let message = format!("`{net}` holds only pods or nodes, which a CIDR peer never matches");
        sink.push(
            Diagnostic::warning(codes::CIDR_COVERS_PODS, message, peer.span)
                .help("name pods by labels, nodes by `entities host, remote-node`"),
        );
    }
}

fn is_host(net: &ipnet::IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

fn named_port(world: &World, port: &PortSpec, sink: &mut Vec<Diagnostic>) {
    let PortKind::Named { name, protocol } = &port.kind else { return };
    let given = |p: &Pod| {
        p.ports
            .iter()
            .any(|q| q.name == *name && protocol.is_none_or(|wanted| wanted == q.protocol))
    };
    if !world.pods.iter().any(given) {
        let message = format!("no pod has a port named `{name}`");
        sink.push(Diagnostic::warning(codes::UNKNOWN_NAMED_PORT, message, port.span));
    }
}
