//! Warnings: what can be used but probably does not say what was meant. Each is about what the present
//! world holds, so none is an error.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use engine::diag::{Code, Diagnostic};
use engine::dns::DnsPattern;
use engine::net::{Direction, Protocol};
use engine::policy::{
    Entity, Isolation, Namespaces, Operator, Peer, PeerKind, Policy, PolicySet, PortKind, PortSpec,
    Requirement, Rule, Selector, SubjectKind,
};
use engine::source::Span;
use engine::topology::{IdentityPin, Labels, Node, Pod, World};
use ipnet::IpNet;

use super::MOST_SUGGESTIONS;
use crate::ast::Spanned;
use crate::codes;
use crate::names::nearest;
use crowd::{Addresses, Crowd, Owner, Spaces};

mod crowd;
mod settings;
mod subject;

pub(super) use settings::settings;

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

/// An address of a node's health endpoint that its prefixes do not hold.
pub(super) fn health_address(
    node: &str,
    prefixes: &[IpNet],
    address: &Spanned<IpAddr>,
    sink: &mut Vec<Diagnostic>,
) {
    let is_v6 = address.node.is_ipv6();
    let mut family = prefixes.iter().filter(|net| net.addr().is_ipv6() == is_v6).peekable();
    if family.peek().is_some() && !family.any(|net| net.contains(&address.node)) {
        let message = format!(
            "{} of the health endpoint of node {node} is outside the node's pod prefixes",
            address.node
        );
        sink.push(Diagnostic::warning(codes::OUTSIDE_POD_PREFIX, message, address.span));
    }
}

/// Everything that is not about one statement alone.
pub(super) fn all(world: &World, policies: &PolicySet, sink: &mut Vec<Diagnostic>) {
    // A file of policies alone is not at fault.
    let is_inhabited = !world.pods.is_empty();
    let mut lints = Lints {
        world,
        pods: Crowd::of(world.pods.iter().filter(|pod| !pod.host_network)),
        on_host: Crowd::of(world.pods.iter().filter(|pod| pod.host_network)),
        addresses: Addresses::of(world),
        port_names: crowd::port_names(world),
        prefixes: HashMap::new(),
        suggestions: MOST_SUGGESTIONS,
        sink,
    };
    if is_inhabited {
        world.pins.iter().for_each(|pin| lints.identity(pin));
        world.services.iter().for_each(|service| lints.service(service));
    }
    for (_, policy) in policies.iter() {
        effect(policy, lints.sink);
        match policy.subject_kind {
            SubjectKind::Pods if is_inhabited => lints.subject(policy),
            SubjectKind::Nodes if !world.nodes.is_empty() => lints.nodes(policy),
            SubjectKind::Pods | SubjectKind::Nodes => {}
        }
        for rule in &policy.rules {
            for peer in rule.peers.iter().flatten() {
                lints.peer(policy, rule, peer, is_inhabited);
            }
            for port in rule.ports.iter().flatten().filter(|_| is_inhabited) {
                if policy.subject_kind == SubjectKind::Nodes && rule.direction == Direction::Ingress
                {
                    lints.port_of_node(port);
                } else {
                    lints.named_port(port);
                }
            }
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

/// The first word of a policy: its whole block would underline too much.
fn head(policy: &Policy) -> Span {
    Span { end: policy.span.start.saturating_add(6).min(policy.span.end), ..policy.span }
}

/// Entities that name identities which this version gives to nobody.
const NOBODY: [Entity; 5] =
    [Entity::KubeApiserver, Entity::Health, Entity::Init, Entity::Unmanaged, Entity::Ingress];

/// A selector that chooses no pod, and why.
struct Missed {
    span: Span,
    why: String,
    /// A condition that would choose some, in the place of the one at `span`.
    near: Option<String>,
}

impl Missed {
    fn diagnostic(self, code: Code, message: String) -> Diagnostic {
        let diagnostic = Diagnostic::warning(code, message, self.span).label(self.why);
        match self.near {
            Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), self.span, near),
            None => diagnostic,
        }
    }
}

/// What the lints ask of a world.
struct Lints<'w, 's> {
    world: &'w World,
    pods: Crowd<'w>,
    on_host: Crowd<'w>,
    addresses: Addresses,
    port_names: BTreeMap<&'w str, Vec<Protocol>>,
    /// What was found of each prefix with its holes.
    prefixes: HashMap<(Direction, IpNet, &'w [IpNet]), Option<String>>,
    /// How many more may suggest a name.
    suggestions: usize,
    sink: &'s mut Vec<Diagnostic>,
}

impl<'w> Lints<'w, '_> {
    /// The nearest name, while that many were not suggested yet.
    fn nearest<'n>(
        &mut self,
        word: &str,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Option<&'n str> {
        self.suggestions = self.suggestions.checked_sub(1)?;
        nearest(word, names)
    }

    /// A pinned number of a class that no pod is of.
    fn identity(&mut self, pin: &IdentityPin) {
        let namespace = pin.namespace.as_str();
        if self.pods.exactly(namespace, &pin.labels).is_some() {
            return;
        }
        let message = format!("identity {} stands for no pod", pin.number);
        let diagnostic = Diagnostic::warning(codes::UNUSED_IDENTITY, message, pin.span)
            .label(format!("no pod in namespace {namespace} has exactly these labels"));
        self.sink.push(match self.pods.with(namespace, &pin.labels) {
            Some(near) => {
                diagnostic.also(near.span, "this pod has more labels, so it is not meant")
            }
            None => diagnostic,
        });
    }

    fn subject(&mut self, policy: &'w Policy) {
        let (selector, meant) = (&policy.subject, &policy.subject_namespaces);
        if let Some(missed) = self.missed(policy, selector, meant, head(policy)) {
            let message = format!("policy {} selects no pod", policy.handle);
            self.sink.push(missed.diagnostic(codes::SELECTS_NOTHING, message));
        }
    }

    fn peer(&mut self, policy: &'w Policy, rule: &Rule, peer: &'w Peer, is_inhabited: bool) {
        match &peer.kind {
            PeerKind::Pods { selector, namespaces } if is_inhabited => {
                if let Some(missed) = self.missed(policy, selector, namespaces, peer.span) {
                    let message = "this peer matches no pod".to_owned();
                    self.sink.push(missed.diagnostic(codes::MATCHES_NOBODY, message));
                }
            }
            PeerKind::Cidr { net, except } if except.contains(net) => {
                let message = "this peer matches nobody";
                let why = format!("`{net}` is taken out of itself");
                let diagnostic = Diagnostic::warning(codes::MATCHES_NOBODY, message, peer.span);
                self.sink.push(
                    diagnostic.label(why).help("`entities none` says so, where nobody is meant"),
                );
            }
            PeerKind::Dns(pattern) if is_inhabited => self.name(pattern, peer.span),
            PeerKind::Cidr { net, except } => self.cidr(rule.direction, *net, except, peer.span),
            PeerKind::Entity(entity) if is_inhabited => self.entity(rule, *entity, peer.span),
            PeerKind::Pods { .. }
            | PeerKind::Entity(_)
            | PeerKind::Service { .. }
            | PeerKind::Dns(_) => {}
        }
    }

    /// A name that nobody was told an address of.
    fn name(&mut self, pattern: &DnsPattern, span: Span) {
        let world = self.world;
        if world.named(pattern).next().is_some() {
            return;
        }
        let why = if pattern.is_pattern() {
            "no known name is like it"
        } else {
            "no address is known of it"
        };
        let diagnostic =
            Diagnostic::warning(codes::MATCHES_NOBODY, "this peer matches nobody", span).label(why);
        let known = world.externals.iter().flat_map(|e| &e.names).map(|fact| fact.name.as_str());
        let near = self.nearest(pattern.as_str(), known.filter(|_| !pattern.is_pattern()));
        self.sink.push(match near {
            Some(near) => {
                diagnostic.fix(format!("did you mean `{near}`?"), span, format!("\"{near}\""))
            }
            None => diagnostic.help(format!(
                "an external says what was answered: `external NAME {{ ip ADDRESS dns \"{}\" }}`",
                pattern.example()
            )),
        });
    }

    /// An entity that is nobody here. One beside peers that are somebody is left alone, except where its
    /// name promises what another has.
    fn entity(&mut self, rule: &Rule, entity: Entity, span: Span) {
        if entity == Entity::Health && self.world.nodes.iter().any(|n| !n.health.is_empty()) {
            return;
        }
        let message = "this peer matches nobody";
        let word = entity.word();
        let diagnostic = Diagnostic::warning(codes::MATCHES_NOBODY, message, span);
        let is_nobody =
            |peer: &Peer| matches!(peer.kind, PeerKind::Entity(e) if NOBODY.contains(&e));
        match entity {
            Entity::WorldIpv4 | Entity::WorldIpv6 if !self.world.is_dual_stack() => {
                let why = format!("`{word}` is nobody where nodes have addresses of one family");
                self.sink.push(diagnostic.label(why).fix("write `world`", span, "world"));
            }
            _ if NOBODY.contains(&entity) && rule.peers.iter().flatten().all(is_nobody) => {
                let why = format!("nothing in a world of this version has the identity `{word}`");
                self.sink.push(diagnostic.label(why));
            }
            _ => {}
        }
    }

    /// `None` where a pod is chosen.
    fn missed(
        &mut self,
        policy: &'w Policy,
        selector: &Selector,
        meant: &'w Namespaces,
        whole: Span,
    ) -> Option<Missed> {
        let spaces = Spaces::of(self.world, policy, meant);
        if self.pods.find(selector, &spaces).is_some() {
            return None;
        }
        if let (Namespaces::Matching(wanted), Spaces::Some(names)) = (meant, &spaces)
            && names.is_empty()
        {
            let labels: Vec<&Labels> = self.world.namespaces.iter().map(|n| &n.labels).collect();
            let why = format!("no namespace has the labels {wanted}");
            let met = |r: &&Requirement| labels.iter().any(|l| r.holds(l));
            let at_fault =
                wanted.requirements.iter().find(|r| !met(r)).filter(|_| !labels.is_empty());
            return Some(self.because(why, at_fault, &labels, whole));
        }
        if let Some(pod) = self.on_host.find(selector, &spaces) {
            let why = format!("{} is on the host network: it is its node", pod.qualified());
            return Some(Missed { span: whole, why, near: None });
        }
        let place = match (&spaces, meant) {
            (Spaces::One(name), _) => format!(" in namespace {name}"),
            (Spaces::Some(_), _) => " in these namespaces".to_owned(),
            (Spaces::All, _) => String::new(),
        };
        if self.pods.pods(&spaces).next().is_none() {
            let why = format!("there is no pod{place}");
            return Some(Missed { span: whole, why, near: None });
        }
        let why = format!("no pod{place} has the labels {selector}");
        let at_fault = selector.requirements.iter().find(|r| !self.pods.meets(r, &spaces));
        let is_asked = at_fault.is_some() && self.suggestions > 0;
        let pods = is_asked.then(|| self.pods.pods(&spaces)).into_iter().flatten();
        let labels: Vec<&Labels> = pods.map(|pod| &pod.labels).collect();
        Some(self.because(why, at_fault, &labels, whole))
    }

    /// Points at the condition that nobody meets, where one condition is at fault.
    fn because(
        &mut self,
        why: String,
        at_fault: Option<&Requirement>,
        labels: &[&Labels],
        whole: Span,
    ) -> Missed {
        match at_fault {
            Some(at_fault) => {
                Missed { span: at_fault.span, why, near: self.near(at_fault, labels) }
            }
            None => Missed { span: whole, why, near: None },
        }
    }

    /// A condition with the nearest key, or the nearest value of its key, that someone has.
    fn near(&mut self, requirement: &Requirement, labels: &[&Labels]) -> Option<String> {
        let Operator::Equals(value) = &requirement.operator else { return None };
        let key = &requirement.key;
        let values: BTreeSet<&str> =
            labels.iter().filter_map(|l| l.get(key)).map(String::as_str).collect();
        if let Some(near) = self.nearest(value, values) {
            return Some(format!("{key} = \"{near}\""));
        }
        let has = |l: &&Labels, k: &str| l.get(k) == Some(value);
        let keys = labels.iter().flat_map(|l| l.keys().filter(|k| has(l, k))).map(String::as_str);
        nearest(key, keys).map(|near| format!("{near} = \"{value}\""))
    }

    /// A prefix that covers pods or nodes and no outside party that the world names. The prefix of
    /// everything is left alone: it says "anyone outside", and so it does.
    fn cidr(&mut self, direction: Direction, net: IpNet, except: &'w [IpNet], span: Span) {
        if net.prefix_len() == 0 {
            return;
        }
        let known = self.prefixes.get(&(direction, net, except)).cloned();
        let found = known.unwrap_or_else(|| self.covered(direction, net, except));
        self.prefixes.insert((direction, net, except), found.clone());
        if let Some(message) = found {
            self.sink.push(Diagnostic::warning(codes::CIDR_COVERS_PODS, message, span).help(
                "name pods by labels or by their `service`, nodes by `entities host, remote-node`",
            ));
        }
    }

    /// What is wrong with a prefix: the first that it covers by name, the others by number. A service sends nothing, so
    /// that nobody means one by a sender.
    fn covered(&self, direction: Direction, net: IpNet, except: &[IpNet]) -> Option<String> {
        if self.addresses.outside(net, except) {
            return None;
        }
        let mut inside = self.addresses.inside(net, except);
        inside
            .retain(|owner| direction == Direction::Egress || !matches!(owner, Owner::Service(_)));
        let first = inside.first().and_then(|owner| match owner {
            Owner::Pod(at) => self.world.pods.get(*at).map(|p| format!("pod {}", p.qualified())),
            Owner::Node(at) => self.world.nodes.get(*at).map(|n| format!("node {}", n.name)),
            Owner::Service(at) => {
                self.world.services.get(*at).map(|s| format!("service {}", s.qualified()))
            }
        });
        if let Some(first) = first {
            let more = match inside.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            return Some(format!("`{net}` covers {first}{more}, which a CIDR peer never matches"));
        }
        let holds = |node: &&Node| node.pod_cidrs.iter().any(|prefix| prefix.contains(&net));
        let name = &self.world.nodes.iter().find(holds)?.name;
        Some(format!(
            "`{net}` lies in the pod prefix of node `{name}`, but a CIDR peer never matches pods"
        ))
    }

    /// A named port that a node's own policy is asked about.
    fn port_of_node(&mut self, port: &PortSpec) {
        let PortKind::Named { name, .. } = &port.kind else { return };
        let message = format!("nodes name no ports: `{name}` matches nothing");
        self.sink.push(
            Diagnostic::warning(codes::UNKNOWN_NAMED_PORT, message, port.span)
                .help("write its number; only pods give names to ports"),
        );
    }

    fn named_port(&mut self, port: &PortSpec) {
        let PortKind::Named { name, protocol } = &port.kind else { return };
        let given = self.port_names.get(name.as_str()).cloned().unwrap_or_default();
        if given.iter().any(|given| protocol.is_none_or(|wanted| wanted == *given)) {
            return;
        }
        let what = protocol.map_or("port".to_owned(), |protocol| format!("{protocol} port"));
        let message = format!("no pod has a {what} named `{name}`");
        let diagnostic = Diagnostic::warning(codes::UNKNOWN_NAMED_PORT, message, port.span);
        if let Some(other) = given.first() {
            let meant = format!("{name}/{other}");
            let advice = format!("port `{name}` is {other}: write `{meant}`");
            self.sink.push(diagnostic.fix(advice, port.span, meant));
            return;
        }
        let names: Vec<&str> = self.port_names.keys().copied().collect();
        let near = self.nearest(name, names);
        self.sink.push(match near {
            Some(near) => {
                let near =
                    protocol.map_or(near.to_owned(), |protocol| format!("{near}/{protocol}"));
                diagnostic.fix(format!("did you mean `{near}`?"), port.span, near)
            }
            None => diagnostic
                .help(format!("a pod names a port by `port {name} NUMBER/tcp` in its block")),
        });
    }
}
