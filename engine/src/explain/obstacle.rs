//! What stood in the way of a packet that no policy dropped: what the service has instead, which sources or prefixes are meant,
//! so that the reader knows what to do next. Facts only; advice in words is the renderers'.

use std::net::IpAddr;

use serde::Serialize;

use crate::net::Protocol;
use crate::reason::DropReason;
use crate::source::Location;
use crate::tables::FrontendKind;
use crate::topology::{
    NodeId, Pod, Readiness, Service, ServiceId, ServicePort, TargetPort, TrafficPolicy,
};
use crate::trace::{Hop, Trace};

use super::service::{self, Told};
use super::{Context, wire};

/// Why a pod that a service selects is no backend for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Unfit {
    /// It is not ready.
    NotReady,
    /// It terminates: only flows that it has already may reach it.
    Terminating,
    /// It gives no port the name that the service asks for.
    NoNamedPort,
    /// It has no address of the frontend's family.
    OtherFamily,
    /// It is on another node, and the service's traffic policy keeps to this one.
    OtherNode,
}

/// A pod that a service selects and that is no backend for the packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The pod.
    pub pod: String,
    /// Its node.
    pub node: String,
    /// Why it is no backend.
    pub unfit: Unfit,
}

/// What stood in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Obstacle {
    /// The address is a service's, and the port is not.
    NoPort {
        /// The service.
        service: String,
        /// What was asked for: `81/tcp`, `icmp`.
        asked: String,
        /// What it has: `80/tcp -> http`.
        ports: Vec<String>,
        /// Where the service is declared.
        location: Option<Location>,
    },
    /// The service has the port and nobody behind it.
    NoBackend {
        /// The service.
        service: String,
        /// The port: `80/tcp -> http`.
        port: String,
        /// What it selects: `pods {app=echo} in web`.
        selector: String,
        /// The pods that it selects, and why each is no backend.
        pods: Vec<Candidate>,
        /// Where the service is declared.
        location: Option<Location>,
    },
    /// The service leads to another port than was asked for, which the protocol's checksum does not let it.
    PortChanges {
        /// The service.
        service: String,
        /// The port: `90/sctp -> 91`.
        port: String,
        /// Where the service is declared.
        location: Option<Location>,
    },
    /// The service's address is for clients in the cluster.
    ClusterOnly {
        /// The service.
        service: String,
        /// The client.
        source: String,
        /// Where the same port can be reached from outside: `node port 30080`, `203.0.113.10:80`.
        outside: Vec<String>,
        /// Where the service is declared.
        location: Option<Location>,
    },
    /// The service admits other clients.
    NotInRange {
        /// The service.
        service: String,
        /// The client.
        source: String,
        /// The ranges that it admits.
        ranges: Vec<String>,
        /// Where the service is declared.
        location: Option<Location>,
    },
    /// Every port that was tried is taken by another flow to the same destination.
    NoFreePort {
        /// The address that sources are translated to.
        address: Option<String>,
        /// The destination.
        destination: String,
        /// Only this port was tried: the source's own, which the node itself or SCTP must keep.
        fixed: Option<u16>,
        /// The first port of the range.
        first: u16,
        /// The last one.
        last: u16,
    },
    /// The datagram's first fragment, which has the ports, was not seen.
    NoFirstFragment {
        /// The sender.
        source: String,
        /// The receiver.
        destination: String,
    },
    /// The source is on the list of sources that nodes drop.
    Prefiltered {
        /// The source.
        source: String,
        /// The prefix that covers it.
        cidr: Option<String>,
        /// Where the cluster's settings are declared.
        location: Option<Location>,
    },
}

/// What stood in the way of a packet that was dropped for this reason.
pub(super) fn of(context: &Context<'_>, trace: &Trace, reason: DropReason) -> Option<Obstacle> {
    let hop = trace.hops.last()?;
    let told = service::asked(context, hop);
    match reason {
        DropReason::NoService => no_service(context, &told?, hop),
        DropReason::UnsupportedServiceProtocol => port_changes(context, &told?),
        DropReason::IsClusterIp => cluster_only(context, &told?, hop),
        DropReason::NotInSourceRange => not_in_range(context, &told?, hop),
        DropReason::NatNoMapping => no_free_port(context, hop),
        DropReason::FragmentNotFound => {
            let ends = wire::ends(&hop.frame_in)?;
            let name = |address| context.at(address);
            let (source, destination) = (name(ends.source.address), name(ends.destination.address));
            Some(Obstacle::NoFirstFragment { source, destination })
        }
        DropReason::Prefiltered => prefiltered(context, hop),
        _ => None,
    }
}

fn source_of(hop: &Hop) -> Option<IpAddr> {
    wire::ends(&hop.frame_in).map(|ends| ends.source.address)
}

fn is_outside(context: &Context<'_>, hop: &Hop) -> bool {
    use crate::topology::Party;
    let owner = source_of(hop).and_then(|address| context.world.owner(address));
    matches!(owner, None | Some(Party::External(_) | Party::Address(_)))
}

fn no_service(context: &Context<'_>, told: &Told, hop: &Hop) -> Option<Obstacle> {
    let id = told.service?;
    let service = context.world.service(id)?;
    let location = Some(context.location(service.span));
    let Some(port) = told.port.and_then(|at| service.ports.get(at)) else {
        let protocol = wire::ends(&hop.frame_in).map(|ends| ends.protocol);
        let asked = match (protocol, told.frontend.port) {
            (Some(protocol), port) if protocol.has_ports() => format!("{port}/{protocol}"),
            (Some(protocol), _) => protocol.to_string(),
            (None, port) => port.to_string(),
        };
        let ports = service.ports.iter().map(port_in_words).collect();
        return Some(Obstacle::NoPort { service: context.service(id), asked, ports, location });
    };
    let traffic =
        if is_outside(context, hop) { service.external_traffic } else { service.internal_traffic };
    let ask =
        Ask { service, port, is_v6: told.frontend.address.is_ipv6(), traffic, node: told.node };
    Some(Obstacle::NoBackend {
        service: context.service(id),
        port: port_in_words(port),
        selector: format!("pods {} in {}", service.selector, service.namespace),
        pods: ask.unfit(context),
        location,
    })
}

fn port_changes(context: &Context<'_>, told: &Told) -> Option<Obstacle> {
    let id = told.service?;
    let service = context.world.service(id)?;
    let port = told.port.and_then(|at| service.ports.get(at))?;
    Some(Obstacle::PortChanges {
        service: context.service(id),
        port: port_in_words(port),
        location: Some(context.location(service.span)),
    })
}

/// `80/tcp -> http`, `http 80/tcp -> 8080`.
fn port_in_words(port: &ServicePort) -> String {
    let name = port.name.as_ref().map_or_else(String::new, |name| format!("{name} "));
    let target = match &port.target {
        TargetPort::Number(number) => number.to_string(),
        TargetPort::Name(name) => name.clone(),
    };
    format!("{name}{}/{} -> {target}", port.port, port.protocol)
}

/// What a packet asks of a service's pods.
struct Ask<'w> {
    service: &'w Service,
    port: &'w ServicePort,
    is_v6: bool,
    traffic: TrafficPolicy,
    node: NodeId,
}

impl Ask<'_> {
    /// The pods that the service selects, and why each is no backend.
    fn unfit(&self, context: &Context<'_>) -> Vec<Candidate> {
        let selected = context.world.pods().filter(|(_, pod)| {
            pod.namespace == self.service.namespace && self.service.selector.matches(&pod.labels)
        });
        let unfit = selected.filter_map(|(id, pod)| Some((id, pod, self.why(pod)?)));
        unfit
            .map(|(id, pod, unfit)| Candidate {
                pod: context.pod(id),
                node: context.node(pod.node),
                unfit,
            })
            .collect()
    }

    fn why(&self, pod: &Pod) -> Option<Unfit> {
        match pod.readiness {
            Readiness::NotReady => return Some(Unfit::NotReady),
            Readiness::Terminating => return Some(Unfit::Terminating),
            Readiness::Ready => {}
        }
        let names = |wanted: &str| {
            pod.ports.iter().any(|p| p.name == wanted && p.protocol == self.port.protocol)
        };
        if matches!(&self.port.target, TargetPort::Name(name) if !names(name)) {
            return Some(Unfit::NoNamedPort);
        }
        if !pod.addresses.iter().any(|address| address.is_ipv6() == self.is_v6) {
            return Some(Unfit::OtherFamily);
        }
        let is_elsewhere = self.traffic == TrafficPolicy::Local && pod.node != self.node;
        is_elsewhere.then_some(Unfit::OtherNode)
    }
}

fn cluster_only(context: &Context<'_>, told: &Told, hop: &Hop) -> Option<Obstacle> {
    let id = told.service?;
    let service = context.world.service(id)?;
    Some(Obstacle::ClusterOnly {
        service: context.service(id),
        source: context.at(source_of(hop)?),
        outside: outside(context, id, told),
        location: Some(context.location(service.span)),
    })
}

/// Where clients outside reach the same port of a service.
fn outside(context: &Context<'_>, id: ServiceId, told: &Told) -> Vec<String> {
    let Some(tables) = context.tables_of(told.node) else { return Vec::new() };
    let same = tables.frontends.iter().filter(|f| {
        f.service == id
            && f.kind != FrontendKind::ClusterIp
            && told.port.is_none_or(|port| f.port_index as usize == port)
    });
    let mut words: Vec<String> = Vec::new();
    for frontend in same {
        let word = match frontend.kind {
            FrontendKind::NodePort => format!("port {} of every node", frontend.place.port),
            _ => frontend.place.to_string(),
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

fn not_in_range(context: &Context<'_>, told: &Told, hop: &Hop) -> Option<Obstacle> {
    let id = told.service?;
    let service = context.world.service(id)?;
    Some(Obstacle::NotInRange {
        service: context.service(id),
        source: context.at(source_of(hop)?),
        ranges: service.source_ranges.iter().map(ToString::to_string).collect(),
        location: Some(context.location(service.span)),
    })
}

fn no_free_port(context: &Context<'_>, hop: &Hop) -> Option<Obstacle> {
    let ends = wire::ends(&hop.frame_in)?;
    let nat = &context.tables_of(hop.node)?.nat;
    let [v4, v6] = nat.addresses;
    let address = if ends.source.address.is_ipv6() { v6 } else { v4 };
    let (first, last) = nat.ports;
    let keeps = ends.protocol == Protocol::Sctp || address == Some(ends.source.address);
    Some(Obstacle::NoFreePort {
        address: address.map(|address| address.to_string()),
        destination: ends.destination.to_string(),
        fixed: keeps.then_some(ends.source.port),
        first,
        last,
    })
}

fn prefiltered(context: &Context<'_>, hop: &Hop) -> Option<Obstacle> {
    let source = source_of(hop)?;
    let listed = &context.tables_of(hop.node)?.prefilter;
    let covering = listed.iter().filter(|net| net.contains(&source));
    Some(Obstacle::Prefiltered {
        source: context.at(source),
        cidr: covering.max_by_key(|net| net.prefix_len()).map(ToString::to_string),
        location: Some(context.location(context.world.cluster.span)),
    })
}
