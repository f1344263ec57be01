//! What a question to a service means: which pod a headless one stands for, which port is asked where none is
//! written, and whether a chosen backend can be one. Never which backend a service takes by itself: that is the
//! datapath's and the oracle's.

use std::net::IpAddr;

use engine::diag::Diagnostic;
use engine::net::{Packet, Protocol};
use engine::question::Known;
use engine::source::Span;
use engine::topology::{
    NodeId, Party, Pod, PodId, Readiness, Service, ServicePort, TargetPort, TrafficPolicy, World,
};

use super::options::Options;
use super::{Atlas, party_in};
use crate::ast::{PartyName, Question, Spanned};
use crate::codes;

/// How many pods or ports an error offers.
const MOST_OFFERED: usize = 8;

/// A service that a question is about, and its place there.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) atlas: Atlas<'a>,
    pub(super) service: &'a Service,
    pub(super) question: &'a Question,
}

impl<'a> Asked<'a> {
    /// The service that the destination is, by its name or by one of its addresses.
    pub(super) fn of(atlas: Atlas<'a>, destination: Party, question: &'a Question) -> Option<Self> {
        let party = match destination {
            Party::Address(address) => atlas.owner(address)?,
            other => other,
        };
        let Party::Service(id) = party else { return None };
        Some(Self { atlas, service: atlas.world.service(id)?, question })
    }

    fn world(&self) -> &'a World {
        self.atlas.world
    }

    fn span(&self) -> Span {
        self.question.target.party.span
    }

    /// Pods that stand behind the service, ready or not.
    fn selected(&self) -> impl Iterator<Item = (PodId, &'a Pod)> + use<'a> {
        let service = self.service;
        self.world().pods().filter(move |(_, pod)| is_selected(service, pod))
    }

    fn ready(&self) -> Vec<(PodId, &'a Pod)> {
        self.selected().filter(|(_, pod)| pod.readiness == Readiness::Ready).collect()
    }

    /// The pod that the name of a headless service leads to: the chosen one, else the only one.
    pub(super) fn resolved(&self, options: &Options<'_>) -> Result<PodId, Diagnostic> {
        if let Some(chosen) = &options.choose {
            return self.backend(chosen, None);
        }
        let ready = self.ready();
        let name = self.service.qualified();
        match ready.as_slice() {
            [(only, _)] => Ok(*only),
            [] => {
                let message = format!("headless service {name} has no ready pod");
                Err(Diagnostic::error(codes::WHICH_BACKEND, message, self.span())
                    .note("its name stands for its ready pods' addresses, so it leads nowhere")
                    .help("ask a pod by its name, or make one ready"))
            }
            several => {
                let message = format!("headless service {name} has {} ready pods", several.len());
                let diagnostic = Diagnostic::error(codes::WHICH_BACKEND, message, self.span());
                let end = Span { start: self.question.span.end, ..self.question.span };
                let offered = several.iter().take(MOST_OFFERED);
                Err(offered.fold(diagnostic, |diagnostic, (_, pod)| {
                    let choice = format!("choose backend {}", pod.qualified());
                    diagnostic.fix(format!("add `{choice}`"), end, format!(" {choice}"))
                }))
            }
        }
    }

    /// The pod that `choose backend` names, if the service could take it for this port.
    pub(super) fn backend(
        &self,
        chosen: &Spanned<&PartyName>,
        port: Option<&ServicePort>,
    ) -> Result<PodId, Diagnostic> {
        let found = party_in(self.atlas, chosen.node)?;
        let name = self.service.qualified();
        let (Party::Pod(id), Some(pod)) = (found, self.pod(found)) else {
            let message = format!("a backend of service {name} is a pod");
            return Err(self.offer(Diagnostic::error(codes::WHICH_BACKEND, message, chosen.span)));
        };
        let who = pod.qualified();
        let diagnostic =
            |message: String| Diagnostic::error(codes::WHICH_BACKEND, message, chosen.node.span);
        if !is_selected(self.service, pod) {
            let problem = diagnostic(format!("{who} is no backend of service {name}"));
            let problem = problem.label(if pod.namespace == self.service.namespace {
                format!("the service selects {}", self.service.selector)
            } else {
                format!("the service is about pods of namespace {}", self.service.namespace)
            });
            return Err(self.offer(problem));
        }
        let state = match pod.readiness {
            Readiness::Ready => None,
            Readiness::NotReady => Some("not ready"),
            Readiness::Terminating => Some("terminating"),
        };
        if let Some(state) = state {
            let message = format!("{who} is {state}, so service {name} sends nothing new to it");
            return Err(self.offer(diagnostic(message)));
        }
        match port.map(|port| (port, port_at(pod, port))) {
            Some((port, None)) => {
                let TargetPort::Name(target) = &port.target else { return Ok(id) };
                let message = format!("{who} has no {} port named `{target}`", port.protocol);
                Err(self.offer(diagnostic(message)).note(format!(
                    "port {} of service {name} goes to the port of that name",
                    port.port
                )))
            }
            _ => Ok(id),
        }
    }

    fn pod(&self, party: Party) -> Option<&'a Pod> {
        match party {
            Party::Pod(id) => self.world().pod(id),
            _ => None,
        }
    }

    /// Adds whom the service could take.
    fn offer(&self, diagnostic: Diagnostic) -> Diagnostic {
        let ready = self.ready();
        let names: Vec<String> = ready.iter().map(|(_, pod)| pod.qualified()).collect();
        match names.as_slice() {
            [] => diagnostic.help("the service has no ready pod"),
            names => diagnostic
                .help(format!("it has {}", crate::names::listed(names.iter().map(String::as_str)))),
        }
    }

    /// That a headless service's name leads to a pod as it is: where its port has another number there, nothing listens.
    pub(super) fn untranslated(&self, pod: Party, packet: &Packet) -> Option<String> {
        let pod = self.pod(pod)?;
        let (_, to) = packet.ports();
        let protocol = packet.protocol();
        let mut ports = self.service.ports.iter();
        let port = ports.find(|port| (port.port, port.protocol) == (to, protocol))?;
        let there = port_at(pod, port)?;
        (there != to).then(|| {
            format!(
                "no port is translated for a headless service: its port {to}/{protocol} is {there} at {}",
                pod.qualified()
            )
        })
    }

    /// A service opens no flow, so that nothing is an answer to it.
    pub(super) fn check_known(&self, known: &Spanned<Known>) -> Result<(), Diagnostic> {
        if known.node != Known::Reply {
            return Ok(());
        }
        let message =
            format!("service {} opens no flow that this could answer", self.service.qualified());
        Err(Diagnostic::error(codes::WHICH_BACKEND, message, known.span)
            .also(self.span(), "a service")
            .help("ask the client's packet `with reply`, or name the pod or address that opened the flow"))
    }

    /// The port that is asked where none is written: the only one, of the protocol where one is asked for.
    /// `None` where the service, a headless one, has no port at all.
    pub(super) fn only_port(
        &self,
        protocol: Option<&Spanned<Protocol>>,
    ) -> Result<Option<&'a ServicePort>, Diagnostic> {
        let wanted = protocol.map(|p| p.node);
        let fits = |port: &&ServicePort| wanted.is_none_or(|wanted| wanted == port.protocol);
        let found: Vec<&ServicePort> = self.service.ports.iter().filter(fits).collect();
        if self.service.ports.is_empty() {
            return Ok(None);
        }
        let name = self.service.qualified();
        let (message, offered) = match found.as_slice() {
            [one] => return Ok(Some(one)),
            [] => {
                let what = wanted.map_or(String::new(), |protocol| format!(" {protocol}"));
                (format!("service {name} has no{what} port"), self.service.ports.iter().collect())
            }
            several => (format!("service {name} has {} ports", several.len()), found.clone()),
        };
        let diagnostic = Diagnostic::error(codes::WHICH_PORT, message, self.span());
        let diagnostic = match protocol.filter(|_| found.is_empty()) {
            Some(asked) => {
                let names = offered.iter().map(|port: &&ServicePort| described(port));
                let names: Vec<String> = names.collect();
                let known = format!("its ports: {}", names.join(", "));
                return Err(diagnostic
                    .also(asked.span, format!("{} is asked for here", asked.node))
                    .help(known));
            }
            None => diagnostic,
        };
        let end = Span { start: self.span().end, ..self.span() };
        Err(offered.iter().take(MOST_OFFERED).fold(diagnostic, |diagnostic, port| {
            let suffix = match (&port.name, port.protocol) {
                (Some(name), _) => format!(":{name}"),
                (None, Protocol::Tcp) => format!(":{}", port.port),
                (None, protocol) => format!(":{}/{protocol}", port.port),
            };
            diagnostic.fix(format!("add `{suffix}`: {}", described(port)), end, suffix)
        }))
    }

    /// The port of a name, of the protocol where one is asked for.
    pub(super) fn named_port(
        &self,
        name: &str,
        protocol: Option<Protocol>,
    ) -> Option<&'a ServicePort> {
        self.service.ports.iter().find(|port| {
            port.name.as_deref() == Some(name)
                && protocol.is_none_or(|wanted| wanted == port.protocol)
        })
    }
}

/// `80/tcp`, `http 80/tcp`.
fn described(port: &ServicePort) -> String {
    let number = format!("{}/{}", port.port, port.protocol);
    match &port.name {
        Some(name) => format!("{name} {number}"),
        None => number,
    }
}

fn is_selected(service: &Service, pod: &Pod) -> bool {
    pod.namespace == service.namespace && service.selector.matches(&pod.labels)
}

/// The number that a service's port has at a pod; `None` where the pod lacks the name.
pub(super) fn port_at(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            let mut ports = pod.ports.iter();
            ports.find(|p| p.name == *name && p.protocol == port.protocol).map(|p| p.port)
        }
    }
}

/// The service that has a node port, and the port.
fn node_port<'a>(world: &'a World, packet: &Packet) -> Option<(&'a Service, &'a ServicePort)> {
    let (_, to) = packet.ports();
    let protocol = packet.protocol();
    let is_meant = |port: &&ServicePort| port.node_port == Some(to) && port.protocol == protocol;
    let is_node = world.nodes.iter().any(|n| n.addresses.contains(&packet.ip.destination));
    let mut services = world.services.iter().filter(|_| is_node);
    services.find_map(|service| Some((service, service.ports.iter().find(is_meant)?)))
}

/// Whether a node, or a pod with its address, asks a node port of its own: that packet leads to a backend.
pub(super) fn is_own_node_port(atlas: Atlas<'_>, source: Party, packet: &Packet) -> bool {
    let sends = match source {
        Party::Address(address) => atlas.owner(address),
        other => Some(other),
    };
    let is_host = match sends {
        Some(Party::Pod(id)) => atlas.world.pod(id).is_some_and(|pod| pod.host_network),
        Some(Party::Node(_)) => true,
        _ => false,
    };
    is_host && node_port(atlas.world, packet).is_some()
}

/// The pod that `choose backend` names, for a packet to a service's address or to a node port.
pub(super) fn chosen(
    atlas: Atlas<'_>,
    question: &Question,
    (source, destination): (Party, Party),
    packet: &Packet,
    chosen: &Spanned<&PartyName>,
) -> Result<PodId, Diagnostic> {
    let protocol = packet.protocol();
    let (_, to) = packet.ports();
    let looks = Looks::of(atlas, source, packet.ip.destination);
    if let Some(asked) = Asked::of(atlas, destination, question) {
        let mut ports = asked.service.ports.iter();
        let port = ports.find(|port| (port.port, port.protocol) == (to, protocol));
        let id = asked.backend(chosen, port)?;
        asked.check_node(id, looks, chosen)?;
        return with_family(atlas.world, id, packet.ip.destination, chosen);
    }
    let Some((service, port)) = node_port(atlas.world, packet) else {
        let message = "`choose backend` needs a service to choose for";
        return Err(Diagnostic::error(codes::WHICH_BACKEND, message, chosen.span)
            .also(question.target.party.span, "neither a service nor a node port")
            .help("ask `service NAME:PORT`, or a node port as in `node NODE:30080/tcp`"));
    };
    let asked = Asked { atlas, service, question };
    let id = asked.backend(chosen, Some(port))?;
    asked.check_node(id, looks, chosen)?;
    with_family(atlas.world, id, packet.ip.destination, chosen)
}

/// Who looks for a backend, and for whom.
#[derive(Clone, Copy)]
struct Looks {
    node: NodeId,
    /// Packets that come in by a device; else those of the node's own pods and its own.
    is_external: bool,
}

impl Looks {
    /// `None` where that depends on the node that a packet from outside comes to.
    fn of(atlas: Atlas<'_>, source: Party, destination: IpAddr) -> Option<Self> {
        let world = atlas.world;
        let owner = |party| match party {
            Party::Address(address) => atlas.owner(address),
            other => Some(other),
        };
        let from = match owner(source) {
            Some(Party::Pod(id)) => world.pod(id).map(|pod| pod.node),
            Some(Party::Node(id) | Party::Health(id)) => Some(id),
            _ => None,
        };
        match (atlas.owner(destination), from) {
            (Some(Party::Node(node)), from) => Some(Self { node, is_external: from != Some(node) }),
            (_, Some(node)) => Some(Self { node, is_external: false }),
            (_, None) => None,
        }
    }
}

impl Asked<'_> {
    /// A traffic policy may keep a node to the backends that it has itself.
    fn check_node(
        &self,
        id: PodId,
        looks: Option<Looks>,
        chosen: &Spanned<&PartyName>,
    ) -> Result<(), Diagnostic> {
        let (Some(looks), Some(pod)) = (looks, self.world().pod(id)) else { return Ok(()) };
        let (setting, policy) = if looks.is_external {
            ("external-traffic", self.service.external_traffic)
        } else {
            ("internal-traffic", self.service.internal_traffic)
        };
        if policy == TrafficPolicy::Cluster || pod.node == looks.node {
            return Ok(());
        }
        let name = |id| self.world().node(id).map_or("?", |node| node.name.as_str());
        let (here, there) = (name(looks.node), name(pod.node));
        let (who, service) = (pod.qualified(), self.service.qualified());
        let message = format!(
            "{who} is on {there}, and `{setting} local` of service {service} keeps {here} to its own pods"
        );
        let near = self.ready().into_iter().filter(|(_, pod)| pod.node == looks.node);
        let near: Vec<String> = near.map(|(_, pod)| pod.qualified()).collect();
        let problem = Diagnostic::error(codes::WHICH_BACKEND, message, chosen.node.span);
        Err(match near.as_slice() {
            [] => problem.help(format!("{here} has no ready pod of the service")),
            near => problem.help(format!(
                "on {here} it has {}",
                crate::names::listed(near.iter().map(String::as_str))
            )),
        }
        .help(format!("ask by {there}, or set `{setting} cluster`")))
    }
}

/// A service's address of a family leads to pods' addresses of that family.
fn with_family(
    world: &World,
    id: PodId,
    frontend: IpAddr,
    chosen: &Spanned<&PartyName>,
) -> Result<PodId, Diagnostic> {
    let has = |pod: &Pod| pod.addresses.iter().any(|a| a.is_ipv6() == frontend.is_ipv6());
    match world.pod(id).filter(|pod| !has(pod)) {
        Some(pod) => {
            let family = super::family_name(frontend.is_ipv6());
            let message = format!("{} has no {family} address", pod.qualified());
            Err(Diagnostic::error(codes::FAMILIES, message, chosen.span)
                .note(format!("{frontend} leads to backends with {family} addresses only")))
        }
        None => Ok(id),
    }
}
