//! What traffic a rule is about, held against a packet's protocol, port or ICMP type, with the condition
//! that fails in words. Never peers and never an action.

use crate::net::{PortRange, Protocol, icmp};
use crate::policy::{PortKind, PortSpec};
use crate::source::Span;
use crate::topology::{NamedPort, Pod};

use super::headers::Traffic;
use super::{Check, Mismatch};

/// Every port: what a protocol without a port is written as.
const EVERY_PORT: PortRange = PortRange { first: 0, last: u16::MAX };

/// Holds a rule's port conditions against the traffic. One of them must hold. `destination` is the pod that the
/// packet goes to, whose names of ports count.
pub(super) fn check(
    specs: &[PortSpec],
    rule: Span,
    traffic: &Traffic,
    destination: Option<&Pod>,
) -> Check {
    if let Some(spec) = specs.iter().find(|spec| holds(&spec.kind, traffic, destination)) {
        return Check { name: met(&spec.kind), mismatch: None };
    }
    let span = match specs {
        [] => rule,
        [only] => only.span,
        [first, .., last] => first.span.to(last.span),
    };
    let words: Vec<_> = specs.iter().map(|spec| spec_words(&spec.kind, destination)).collect();
    let wants = if words.is_empty() { "nothing".to_owned() } else { words.join(" or ") };
    let mismatch = Mismatch { span, wants, is: traffic_words(traffic) };
    Check { name: unmet(specs, traffic), mismatch: Some(mismatch) }
}

fn holds(kind: &PortKind, traffic: &Traffic, destination: Option<&Pod>) -> bool {
    match kind {
        PortKind::Numbers { range, protocol } => {
            of_protocol(*protocol, traffic)
                && match traffic.port {
                    Some(port) => range.contains(port),
                    // What has no port meets no condition about one.
                    None => *range == EVERY_PORT,
                }
        }
        PortKind::Named { name, protocol } => {
            of_protocol(*protocol, traffic)
                && named(destination, name).any(|given| {
                    given.protocol == traffic.protocol && Some(given.port) == traffic.port
                })
        }
        PortKind::Icmp { family, kind } => {
            traffic.protocol == *family
                && traffic.icmp.is_some_and(|(is, _)| kind.is_none_or(|wanted| wanted == is))
        }
    }
}

/// Whether the traffic has ports, of this protocol where one is written.
fn of_protocol(protocol: Option<Protocol>, traffic: &Traffic) -> bool {
    traffic.protocol.has_ports() && protocol.is_none_or(|wanted| wanted == traffic.protocol)
}

fn named<'a>(pod: Option<&'a Pod>, name: &'a str) -> impl Iterator<Item = &'a NamedPort> {
    pod.into_iter().flat_map(|pod| &pod.ports).filter(move |port| port.name == name)
}

/// The name of a condition that holds.
fn met(kind: &PortKind) -> &'static str {
    match kind {
        PortKind::Icmp { .. } => "icmp",
        PortKind::Numbers { range, .. } if *range == EVERY_PORT => "protocol",
        PortKind::Numbers { .. } | PortKind::Named { .. } => "port",
    }
}

/// The name of what fails: the protocol, where none of the conditions is about the packet's.
fn unmet(specs: &[PortSpec], traffic: &Traffic) -> &'static str {
    let messages = |spec: &PortSpec| matches!(spec.kind, PortKind::Icmp { .. });
    let about = |spec: &PortSpec| match &spec.kind {
        PortKind::Numbers { protocol, .. } | PortKind::Named { protocol, .. } => {
            of_protocol(*protocol, traffic)
        }
        PortKind::Icmp { family, .. } => traffic.protocol == *family,
    };
    let mut close = specs.iter().filter(|spec| about(spec)).peekable();
    if close.peek().is_some() {
        return if close.all(messages) { "icmp" } else { "port" };
    }
    if !specs.is_empty() && specs.iter().all(messages) { "icmp" } else { "protocol" }
}

fn spec_words(kind: &PortKind, destination: Option<&Pod>) -> String {
    match kind {
        PortKind::Numbers { range, protocol: Some(protocol) } if *range == EVERY_PORT => {
            protocol.to_string()
        }
        PortKind::Numbers { range, protocol: Some(protocol) } => format!("{range}/{protocol}"),
        PortKind::Numbers { range, protocol: None } => range.to_string(),
        PortKind::Named { name, protocol } => {
            let numbers: Vec<_> = named(destination, name)
                .filter(|port| protocol.is_none_or(|wanted| wanted == port.protocol))
                .map(|port| format!("{}/{}", port.port, port.protocol))
                .collect();
            match (numbers.as_slice(), destination) {
                ([], Some(pod)) => format!("port {name} (none of {})", pod.qualified()),
                ([], None) => format!("port {name} (of a pod)"),
                _ => format!("port {name} ({})", numbers.join(", ")),
            }
        }
        PortKind::Icmp { family, kind: None } => family.to_string(),
        PortKind::Icmp { family, kind: Some(kind) } => icmp_words(*family, *kind),
    }
}

fn icmp_words(family: Protocol, kind: u8) -> String {
    let names = if family == Protocol::Icmpv6 { icmp::NAMES_V6 } else { icmp::NAMES_V4 };
    match names.iter().find(|(_, number)| *number == kind) {
        Some((name, _)) => format!("{family} {name}"),
        None => format!("{family} {kind}"),
    }
}

fn traffic_words(traffic: &Traffic) -> String {
    let protocol = traffic.protocol;
    match (traffic.icmp, traffic.port) {
        (Some((kind, _)), _) => icmp_words(protocol, kind),
        (None, Some(port)) => format!("{port}/{protocol}"),
        (None, None) => format!("{protocol} without a port"),
    }
}
