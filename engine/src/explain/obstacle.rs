//! What stood in the way of a packet that no policy dropped: what the service has instead, which sources or prefixes are meant,
//! so that the reader knows what to do next. Facts only; advice in words is the renderers'.

use std::net::IpAddr;

use serde::Serialize;

use crate::net::{Confined, Direction, Hook, Protocol};
use crate::reason::DropReason;
use crate::source::Location;
use crate::tables::FrontendKind;
use crate::topology::{
    NodeId, Party, Pod, Readiness, Service, ServiceId, ServicePort, TargetPort, TrafficPolicy,
};
use crate::trace::{Hop, Rewriting, Trace};

use super::seen::Seen;
use super::service::{self, Told};
use super::{Context, LegOutcome, elsewise, wire};

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
    /// What else keeps it from being one.
    pub also: Vec<Unfit>,
}

/// Whose traffic policy a service's backends are chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// `internal-traffic`: a pod or a node asked, and its own node translates.
    Internal,
    /// `external-traffic`: it came in by a node's device, whoever sent it.
    External,
}

/// What is wrong with a network header that is there as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "field", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum HeaderFault {
    /// The version is not the Ethernet type's.
    Version {
        /// The Ethernet type.
        ethertype: u16,
        /// The version field.
        version: u8,
    },
    /// The header length is less than the least.
    HeaderLength {
        /// What the field says, in bytes.
        bytes: u8,
    },
    /// The total length is less than the header's.
    TotalLength {
        /// What the field says.
        total: u16,
        /// The header's length, by its own field.
        header: u8,
    },
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
        /// The node that looked for a backend.
        node: String,
        /// Which of the service's traffic policies it looked by.
        traffic: Traffic,
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
        /// Whether it has such places at all, and nobody behind any of them.
        nobody: bool,
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
    /// Nobody has the destination, and a node has the prefix that it is in.
    NobodyThere {
        /// The destination.
        address: String,
        /// The node.
        node: String,
        /// Its pods' prefix.
        prefix: String,
        /// The service whose backend had the address, where the packet is of a flow that keeps it.
        backend_of: Option<String>,
        /// Where the node is declared.
        location: Option<Location>,
    },
    /// The client's address was not the packet's source any more when policy was asked.
    SourceTranslated {
        /// The client.
        client: String,
        /// Its address.
        client_address: String,
        /// Who translated.
        node: String,
        /// The address that it put in the client's place.
        address: String,
        /// What for.
        rewriting: Rewriting,
        /// What policy took the source for.
        peer: String,
        /// Whether policy would let the client itself pass.
        admits_client: bool,
        /// The service that the client asked, where it asked one.
        service: Option<String>,
        /// Where that is declared.
        location: Option<Location>,
    },
    /// A service had changed the port when policy was asked, and a rule admits the port that the packet asked for.
    PortTranslated {
        /// The service.
        service: String,
        /// Who translated.
        node: String,
        /// The port that the packet asked for: `80/tcp`.
        asked: String,
        /// The backend's, which policy saw: `8080/tcp`.
        port: String,
        /// The backend's name for it: `http`.
        name: Option<String>,
        /// The rule that admits the other one: `web/client#echo`.
        rule: String,
        /// Where the rule is written.
        location: Option<Location>,
    },
    /// A node's policy dropped the packet of the tunnel around it.
    TunnelRefused {
        /// The node's policy's direction.
        direction: Direction,
        /// Sender of the packet around it, with its port.
        source: String,
        /// Receiver, with the tunnel's port.
        destination: String,
        /// What a rule is to admit: `8472/udp`.
        port: String,
        /// What policy took the other node for.
        peer: String,
        /// Whether a rule denies it.
        denied: bool,
    },
    /// No router sends packets for the address on.
    NoRoute {
        /// The destination.
        address: String,
        /// Why.
        confined: Confined,
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
        /// Where the list is written.
        location: Option<Location>,
    },
    /// A field of the network header says what cannot be.
    BadHeader {
        /// Which, and what it says.
        fault: HeaderFault,
    },
}

/// What stood in the way of a packet that was dropped for this reason.
pub(super) fn of(
    context: &Context<'_>,
    trace: &Trace,
    legs: &[Seen],
    reason: DropReason,
) -> Option<Obstacle> {
    let hop = trace.hops.last()?;
    let told = service::asked(context, hop);
    match reason {
        DropReason::NoService => no_service(context, &told?, hop),
        DropReason::UnsupportedServiceProtocol => port_changes(context, &told?),
        DropReason::IsClusterIp => cluster_only(context, &told?, hop),
        DropReason::NotInSourceRange => not_in_range(context, &told?, hop),
        DropReason::NatNoMapping => no_free_port(context, hop),
        DropReason::NoFib => {
            let address = wire::ends(&hop.frame_out).or(wire::ends(&hop.frame_in))?;
            let address = address.destination.address;
            Some(Obstacle::NoRoute {
                address: address.to_string(),
                confined: Confined::of(address)?,
            })
        }
        DropReason::FragmentNotFound => {
            let ends = wire::ends(&hop.frame_in)?;
            let name = |address| context.at(address);
            let (source, destination) = (name(ends.source.address), name(ends.destination.address));
            Some(Obstacle::NoFirstFragment { source, destination })
        }
        DropReason::Prefiltered => prefiltered(context, hop),
        DropReason::InvalidPacket => {
            wire::fault(&hop.frame_in).map(|fault| Obstacle::BadHeader { fault })
        }
        DropReason::PolicyDenied | DropReason::PolicyDeny => elsewise::of(context, trace, legs),
        _ => None,
    }
}

/// Whom a rule let pass though it was not the client that policy saw: one in the cluster that came under a node's address.
pub(super) fn of_allowed(context: &Context<'_>, trace: &Trace, legs: &[Seen]) -> Option<Obstacle> {
    let is_by_rule =
        |leg: &&Seen| leg.hop + 1 == trace.hops.len() && leg.decided.outcome == LegOutcome::Allow;
    legs.iter().find(is_by_rule)?;
    let found = elsewise::source_translated(context, trace, legs)?;
    let Obstacle::SourceTranslated { client_address, .. } = &found else { return None };
    let client = context.world.owner(client_address.parse().ok()?)?;
    matches!(client, Party::Pod(_) | Party::Node(_) | Party::Health(_)).then_some(found)
}

/// Where a packet that went on unseen was bound for, where the world says that nobody is there.
pub(super) fn of_unfollowed(context: &Context<'_>, trace: &Trace) -> Option<Obstacle> {
    let address = wire::ends(&trace.hops.last()?.frame_out)?.destination.address;
    if context.world.owner(address).is_some() {
        return None;
    }
    let led_there = |told: &Told| told.backend.is_some_and(|backend| backend.address == address);
    let told = trace.hops.iter().filter_map(|hop| service::told(context, hop)).find(led_there);
    let gone_from = told.and_then(|told| told.service).map(|id| context.service(id));
    context.world.nodes().find_map(|(_, node)| {
        let prefix = node.pod_cidrs.iter().find(|prefix| prefix.contains(&address))?;
        Some(Obstacle::NobodyThere {
            address: address.to_string(),
            node: node.name.clone(),
            prefix: prefix.to_string(),
            backend_of: gone_from.clone(),
            location: Some(context.location(node.span)),
        })
    })
}

fn source_of(hop: &Hop) -> Option<IpAddr> {
    wire::ends(&hop.frame_in).map(|ends| ends.source.address)
}

/// By which traffic policy a hop looks for backends. Who came in by the device counts as outside, be it another node.
fn traffic_of(context: &Context<'_>, told: &Told, hop: &Hop) -> Traffic {
    let mut frontends = context.tables_of(told.node).into_iter().flat_map(|t| &t.frontends);
    let is_cluster_ip = frontends
        .any(|f| f.place.address == told.frontend.address && f.kind == FrontendKind::ClusterIp);
    match hop.hook {
        Hook::FromContainer | Hook::FromHost => Traffic::Internal,
        _ if is_cluster_ip => Traffic::Internal,
        _ => Traffic::External,
    }
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
    let traffic = traffic_of(context, told, hop);
    let policy = match traffic {
        Traffic::Internal => service.internal_traffic,
        Traffic::External => service.external_traffic,
    };
    let is_v6 = told.frontend.address.is_ipv6();
    let ask = Ask { service, port, is_v6, traffic: policy, node: told.node };
    Some(Obstacle::NoBackend {
        service: context.service(id),
        port: port_in_words(port),
        selector: format!("pods {} in {}", service.selector, service.namespace),
        pods: ask.unfit(context),
        node: context.node(told.node),
        traffic,
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
        let unfit = selected.filter_map(|(id, pod)| {
            let mut all = self.why(pod).into_iter();
            let unfit = all.next()?;
            let (name, node) = (context.pod(id), context.node(pod.node));
            Some(Candidate { pod: name, node, unfit, also: all.collect() })
        });
        unfit.collect()
    }

    /// Everything that keeps a pod from being a backend.
    fn why(&self, pod: &Pod) -> Vec<Unfit> {
        let names = |wanted: &str| {
            pod.ports.iter().any(|p| p.name == wanted && p.protocol == self.port.protocol)
        };
        let lacks = [
            (pod.readiness == Readiness::NotReady, Unfit::NotReady),
            (pod.readiness == Readiness::Terminating, Unfit::Terminating),
            (
                matches!(&self.port.target, TargetPort::Name(name) if !names(name)),
                Unfit::NoNamedPort,
            ),
            (!pod.addresses.iter().any(|a| a.is_ipv6() == self.is_v6), Unfit::OtherFamily),
            (self.traffic == TrafficPolicy::Local && pod.node != self.node, Unfit::OtherNode),
        ];
        lacks.into_iter().filter_map(|(lacking, unfit)| lacking.then_some(unfit)).collect()
    }
}

fn cluster_only(context: &Context<'_>, told: &Told, hop: &Hop) -> Option<Obstacle> {
    let id = told.service?;
    let service = context.world.service(id)?;
    let (outside, has_any) = outside(context, id, told);
    Some(Obstacle::ClusterOnly {
        service: context.service(id),
        source: context.at(source_of(hop)?),
        nobody: has_any && outside.is_empty(),
        outside,
        location: Some(context.location(service.span)),
    })
}

/// Where clients outside reach a backend by the same port of a service, and whether it is open to them at all.
fn outside(context: &Context<'_>, id: ServiceId, told: &Told) -> (Vec<String>, bool) {
    let nodes = context.tables.nodes.iter();
    let all = nodes.flat_map(|tables| tables.frontends.iter().map(move |f| (tables, f)));
    let same = all.filter(|(_, f)| {
        f.service == id
            && f.kind != FrontendKind::ClusterIp
            && told.port.is_none_or(|port| f.port_index as usize == port)
    });
    let mut words: Vec<String> = Vec::new();
    let mut has_any = false;
    for (tables, frontend) in same {
        has_any = true;
        let backends = tables.backend_sets.get(frontend.external as usize);
        if backends.is_some_and(|set| set.backends.is_empty()) {
            continue;
        }
        let word = match frontend.kind {
            FrontendKind::NodePort => format!("port {} of every node", frontend.place.port),
            _ => frontend.place.to_string(),
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    (words, has_any)
}

fn not_in_range(context: &Context<'_>, told: &Told, hop: &Hop) -> Option<Obstacle> {
    let id = told.service?;
    let service = context.world.service(id)?;
    Some(Obstacle::NotInRange {
        service: context.service(id),
        source: context.at(source_of(hop)?),
        ranges: service.source_ranges.iter().map(ToString::to_string).collect(),
        location: Some(context.location(service.ranges_span)),
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
        location: Some(context.location(context.world.cluster.prefilter_span)),
    })
}
