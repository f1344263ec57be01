//! Lints of what services and policies of nodes select.

use engine::diag::Diagnostic;
use engine::policy::Policy;
use engine::topology::{Labels, Pod, Service, TargetPort};

use super::{Lints, head};
use crate::codes;

impl<'w> Lints<'w, '_> {
    /// A service without pods, or with a target port that none of them has.
    pub(super) fn service(&mut self, service: &'w Service) {
        let world = self.world;
        let at_home = || world.pods.iter().filter(|pod| pod.namespace == service.namespace);
        let is_meant = |pod: &&Pod| service.selector.matches(&pod.labels);
        let pods: Vec<&Pod> = at_home().filter(is_meant).collect();
        if pods.is_empty() {
            let labels: Vec<&Labels> = at_home().map(|pod| &pod.labels).collect();
            let selector = &service.selector;
            let (namespace, name) = (&service.namespace, service.qualified());
            let why = match labels.as_slice() {
                [] => format!("there is no pod in namespace {namespace}"),
                _ => format!("no pod in namespace {namespace} has the labels {selector}"),
            };
            let met = |at: usize| {
                let requirement = selector.requirements.get(at);
                requirement.is_some_and(|r| labels.iter().any(|l| r.holds(l)))
            };
            let at_fault = (0..selector.requirements.len()).find(|at| !met(*at));
            let at_fault = at_fault.and_then(|at| selector.requirements.get(at));
            let whole = selector.requirements.first().map_or(service.span, |r| r.span);
            let missed = self.because(why, at_fault.filter(|_| !labels.is_empty()), &labels, whole);
            let message = format!("service {name} selects no pod");
            self.sink.push(missed.diagnostic(codes::NO_BACKENDS, message));
            return;
        }
        for port in &service.ports {
            let TargetPort::Name(target) = &port.target else { continue };
            let given = || pods.iter().flat_map(|pod| &pod.ports);
            if given().any(|p| p.name == *target && p.protocol == port.protocol) {
                continue;
            }
            let (protocol, name) = (port.protocol, service.qualified());
            let message =
                format!("no pod of service {name} has a {protocol} port named `{target}`");
            let diagnostic = Diagnostic::warning(codes::UNKNOWN_TARGET_PORT, message, port.span);
            let names = given().filter(|p| p.protocol == protocol).map(|p| p.name.as_str());
            let other = given().find(|p| p.name == *target);
            let near = self.nearest(target, names);
            self.sink.push(match (other, near) {
                (Some(other), _) => diagnostic.help(format!(
                    "`{target}` is {} there: write `port {}/{}`",
                    other.protocol, port.port, other.protocol
                )),
                (None, Some(near)) => diagnostic.help(format!("did you mean `{near}`?")),
                (None, None) => diagnostic.help(format!(
                    "a pod names a port by `port {target} NUMBER/{protocol}` in its block"
                )),
            });
        }
    }

    /// A policy of nodes that selects none, or that nothing enforces.
    pub(super) fn nodes(&mut self, policy: &'w Policy) {
        let world = self.world;
        if !world.nodes.iter().any(|node| policy.subject.matches(&node.labels)) {
            let labels: Vec<&Labels> = world.nodes.iter().map(|node| &node.labels).collect();
            let why = format!("no node has the labels {}", policy.subject);
            let mut wanted = policy.subject.requirements.iter();
            let at_fault = wanted.find(|r| !labels.iter().any(|l| r.holds(l)));
            let missed = self.because(why, at_fault, &labels, head(policy));
            let message = format!("policy {} selects no node", policy.handle);
            self.sink.push(missed.diagnostic(codes::SELECTS_NOTHING, message));
        }
        if !world.cluster.host_firewall {
            let message = format!("policy {} selects nodes, which are not policed", policy.handle);
            self.sink.push(
                Diagnostic::warning(codes::NO_EFFECT, message, head(policy))
                    .help("write `host-firewall on` in the `cluster` block"),
            );
        }
    }
}
