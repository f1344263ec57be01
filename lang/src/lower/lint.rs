//! Warnings: what can be used but probably does not say what was meant. Each is about what the present
//! world holds, so none is an error.

use std::net::IpAddr;

use engine::diag::{Code, Diagnostic};
use engine::policy::{
    Isolation, Namespaces, Operator, Peer, PeerKind, Policy, PolicySet, PortKind, PortSpec,
    Requirement, Selector,
};
use engine::source::Span;
use engine::topology::{Labels, NamedPort, Namespace, Pod, World};
use ipnet::IpNet;

use crate::codes;
use crate::names::nearest;

/// A pod address that its node's prefixes do not hold.
pub(super) fn pod_address(world: &World, pod: &Pod, span: Span, sink: &mut Vec<Diagnostic>) {
    let Some(node) = world.node(pod.node).filter(|_| !pod.host_network) else { return };
    for address in &pod.addresses {
        let of_family = |net: &&IpNet| net.addr().is_ipv6() == address.is_ipv6();
        let mut family = node.pod_cidrs.iter().filter(of_family).peekable();
        if family.peek().is_some() && !family.any(|net| net.contains(address)) {
            let (who, whose) = (pod.qualified(), &node.name);
            let message =
                format!("{address} of pod {who} is outside the pod prefixes of node `{whose}`");
            sink.push(
                Diagnostic::warning(codes::OUTSIDE_POD_PREFIX, message, span)
                    .also(node.span, "the node"),
            );
        }
    }
}

/// Pinned numbers of classes that no pod is of. A file without pods is not at fault.
pub(super) fn identities(world: &World, sink: &mut Vec<Diagnostic>) {
    let pods = || world.pods.iter().filter(|pod| !pod.host_network);
    for pin in world.pins.iter().filter(|_| !world.pods.is_empty()) {
        let at_home = |pod: &&Pod| pod.namespace == pin.namespace;
        if pods().filter(at_home).any(|pod| pod.labels == pin.labels) {
            continue;
        }
        let message = format!("identity {} stands for no pod", pin.number);
        let diagnostic = Diagnostic::warning(codes::UNUSED_IDENTITY, message, pin.span)
            .label(format!("no pod in namespace {} has exactly these labels", pin.namespace));
        let holds =
            |pod: &&Pod| pin.labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
        sink.push(match pods().filter(at_home).find(holds) {
            Some(near) => {
                diagnostic.also(near.span, "this pod has more labels, so it is not meant")
            }
            None => diagnostic,
        });
    }
}

/// Everything about policies.
pub(super) fn policies(world: &World, policies: &PolicySet, sink: &mut Vec<Diagnostic>) {
    for (_, policy) in policies.iter() {
        effect(policy, sink);
        subject(world, policy, sink);
        for rule in &policy.rules {
            for peer in rule.peers.iter().flatten() {
                pods_peer(world, policy, peer, sink);
                cidr(world, peer, sink);
            }
            rule.ports.iter().flatten().for_each(|port| named_port(world, port, sink));
        }
    }
}

fn effect(policy: &Policy, sink: &mut Vec<Diagnostic>) {
    let isolates = [policy.ingress, policy.egress].contains(&Isolation::Always);
    if policy.rules.is_empty() && !isolates {
        let message = format!("policy {} neither isolates nor has a rule", policy.handle);
        sink.push(
            Diagnostic::warning(codes::NO_EFFECT, message, head(policy))
                .help("add a rule, or `default-deny ingress` to isolate without one"),
        );
    }
}

fn subject(world: &World, policy: &Policy, sink: &mut Vec<Diagnostic>) {
    let whole = head(policy);
    let (selector, scope) = (&policy.subject, &policy.subject_namespaces);
    if let Some(missed) = Missed::of(world, policy, selector, scope, whole) {
        let message = format!("policy {} selects no pod", policy.handle);
        sink.push(missed.diagnostic(codes::SELECTS_NOTHING, message));
    }
}

fn pods_peer(world: &World, policy: &Policy, peer: &Peer, sink: &mut Vec<Diagnostic>) {
    let PeerKind::Pods { selector, namespaces } = &peer.kind else { return };
    if let Some(missed) = Missed::of(world, policy, selector, namespaces, peer.span) {
        let message = "this peer matches no pod";
        sink.push(missed.diagnostic(codes::MATCHES_NOBODY, message.to_owned()));
    }
}

/// The first word of a policy: its whole block would underline too much.
fn head(policy: &Policy) -> Span {
    Span { end: policy.span.start.saturating_add(6).min(policy.span.end), ..policy.span }
}

/// A selector that chooses no pod, and why.
struct Missed {
    span: Span,
    why: String,
    /// A condition that would choose some, in the place of the one at `span`.
    near: Option<String>,
}

impl Missed {
    /// `None` where a pod is chosen, or where the world has no pods at all: a file of policies alone is
    /// not at fault.
    fn of(
        world: &World,
        policy: &Policy,
        selector: &Selector,
        namespaces: &Namespaces,
        whole: Span,
    ) -> Option<Self> {
        let home = policy.namespace.as_deref();
        let scope = |namespace: &Namespace| match namespaces {
            Namespaces::Own => home == Some(namespace.name.as_str()),
            Namespaces::Named(name) => *name == namespace.name,
            Namespaces::Matching(selector) => selector.matches(&namespace.labels),
            Namespaces::Any => true,
        };
        if world.pods.is_empty() || world.select(selector, scope).next().is_some() {
            return None;
        }
        if let Namespaces::Matching(wanted) = namespaces
            && !world.namespaces.iter().any(scope)
        {
            let labels: Vec<&Labels> = world.namespaces.iter().map(|n| &n.labels).collect();
            let why = format!("no namespace has the labels {wanted}");
            return Some(Self::because(why, wanted, &labels, whole));
        }
        let everybody = Selector::default();
        let labels: Vec<&Labels> =
            world.select(&everybody, scope).map(|(_, p)| &p.labels).collect();
        let place = match namespaces {
            Namespaces::Own => format!(" in namespace {}", home.unwrap_or("?")),
            Namespaces::Named(name) => format!(" in namespace {name}"),
            Namespaces::Matching(_) => " in these namespaces".to_owned(),
            Namespaces::Any => String::new(),
        };
        let on_host = world.pods.iter().find(|pod| {
            let chosen = pod.host_network && selector.matches(&pod.labels);
            chosen && world.namespace(&pod.namespace).is_some_and(scope)
        });
        if let Some(pod) = on_host {
            let why = format!("{} is on the host network: it is its node", pod.qualified());
            return Some(Self { span: whole, why, near: None });
        }
        let why = if labels.is_empty() {
            format!("there is no pod{place}")
        } else {
            format!("no pod{place} has the labels {selector}")
        };
        Some(Self::because(why, selector, &labels, whole))
    }

    /// Points at the condition that nobody meets, where one condition is at fault.
    fn because(why: String, selector: &Selector, labels: &[&Labels], whole: Span) -> Self {
        let met = |r: &&Requirement| labels.iter().any(|l| r.holds(l));
        match selector.requirements.iter().find(|r| !met(r)).filter(|_| !labels.is_empty()) {
            Some(at_fault) => Self { span: at_fault.span, why, near: near(at_fault, labels) },
            None => Self { span: whole, why, near: None },
        }
    }

    fn diagnostic(self, code: Code, message: String) -> Diagnostic {
        let diagnostic = Diagnostic::warning(code, message, self.span).label(self.why);
        match self.near {
            Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), self.span, near),
            None => diagnostic,
        }
    }
}

/// A condition with the nearest key, or the nearest value of its key, that someone has.
fn near(requirement: &Requirement, labels: &[&Labels]) -> Option<String> {
    let Operator::Equals(value) = &requirement.operator else { return None };
    let key = &requirement.key;
    let values = labels.iter().filter_map(|l| l.get(key)).map(String::as_str);
    if let Some(near) = nearest(value, values) {
        return Some(format!("{key} = \"{near}\""));
    }
    let has = |l: &&Labels, k: &str| l.get(k) == Some(value);
    let keys = labels.iter().flat_map(|l| l.keys().filter(|k| has(l, k))).map(String::as_str);
    nearest(key, keys).map(|near| format!("{near} = \"{value}\""))
}

/// A prefix that covers pods or nodes and no outside party that the world names. The prefix of everything
/// is left alone: it says "anyone outside", and so it does.
fn cidr(world: &World, peer: &Peer, sink: &mut Vec<Diagnostic>) {
    let PeerKind::Cidr { net, except } = &peer.kind else { return };
    let covers = |a: &IpAddr| net.contains(a) && !except.iter().any(|hole| hole.contains(a));
    let outside = world.externals.iter().flat_map(|e| &e.addresses).any(covers);
    if net.prefix_len() == 0 || outside {
        return;
    }
    let message = if let Some(covered) = covered(world, covers) {
        format!("`{net}` covers {covered}, which a CIDR peer never matches")
    } else if let Some(node) =
        world.nodes.iter().find(|n| n.pod_cidrs.iter().any(|prefix| prefix.contains(net)))
    {
        let name = &node.name;
        format!(
            "`{net}` lies in the pod prefix of node `{name}`, but a CIDR peer never matches pods"
        )
    } else {
        return;
    };
    sink.push(
        Diagnostic::warning(codes::CIDR_COVERS_PODS, message, peer.span)
            .help("name pods by labels, nodes by `entities host, remote-node`"),
    );
}

/// The pods and nodes that have such an address: the first by name, the others by number.
fn covered(world: &World, covers: impl Fn(&IpAddr) -> bool) -> Option<String> {
    let pods = world.pods.iter().filter(|p| !p.host_network && p.addresses.iter().any(&covers));
    let nodes = world.nodes.iter().filter(|n| n.addresses.iter().chain(&n.locals).any(&covers));
    let pods = pods.map(|p| format!("pod {}", p.qualified()));
    let mut all = pods.chain(nodes.map(|n| format!("node {}", n.name)));
    let first = all.next()?;
    Some(match all.count() {
        0 => first,
        more => format!("{first} and {more} more"),
    })
}

fn named_port(world: &World, port: &PortSpec, sink: &mut Vec<Diagnostic>) {
    let PortKind::Named { name, protocol } = &port.kind else { return };
    let ports = || world.pods.iter().flat_map(|p| &p.ports);
    let fits =
        |p: &NamedPort| p.name == *name && protocol.is_none_or(|wanted| wanted == p.protocol);
    if world.pods.is_empty() || ports().any(fits) {
        return;
    }
    let what = protocol.map_or("port".to_owned(), |protocol| format!("{protocol} port"));
    let message = format!("no pod has a {what} named `{name}`");
    let diagnostic = Diagnostic::warning(codes::UNKNOWN_NAMED_PORT, message, port.span);
    if let Some(other) = ports().find(|p| p.name == *name) {
        let meant = format!("{name}/{}", other.protocol);
        let advice = format!("port `{name}` is {}: write `{meant}`", other.protocol);
        sink.push(diagnostic.fix(advice, port.span, meant));
        return;
    }
    sink.push(match nearest(name, ports().map(|p| p.name.as_str())) {
        Some(near) => {
            let near = protocol.map_or(near.to_owned(), |protocol| format!("{near}/{protocol}"));
            diagnostic.fix(format!("did you mean `{near}`?"), port.span, near)
        }
        None => {
            diagnostic.help(format!("a pod names a port by `port {name} NUMBER/tcp` in its block"))
        }
    });
}
