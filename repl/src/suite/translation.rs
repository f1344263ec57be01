//! What an expectation says of services, rewritten sources and encryption, held against an answer. A fact that
//! the answer does not show is not met.

use std::net::{IpAddr, SocketAddr};

use engine::explain::{Explanation, Step, ends};
use engine::topology::{Pod, World};
use engine::trace::Place;
use engine::verdict::Verdict;
use lang::suite::{Arrival, Fact};

/// What was expected and what came; `None` where it is met, or where the fact is about something else.
pub(super) fn miss(fact: &Fact, came: &Explanation, world: &World) -> Option<String> {
    match fact {
        Fact::Backend { pod, port } => {
            let name = world.pod(*pod).map_or_else(|| "?".to_owned(), Pod::qualified);
            backend_miss(&name, *port, came)
        }
        Fact::NoBackend => {
            let met = matches!(service(came), Some(Step::Service { backend: None, .. }));
            said(met, "backend none", &backend_words(came))
        }
        Fact::Snat(address) => {
            let met = source(came) == Some(*address);
            said(met, &format!("snat {address}"), &source_words(came))
        }
        Fact::NotSnat => said(source(came).is_none(), "not snat", &source_words(came)),
        Fact::Arrives(wanted) => arrival_miss(*wanted, came),
        Fact::Encrypted => said(is_encrypted(came), "encrypted", "not encrypted"),
        Fact::NotEncrypted => said(!is_encrypted(came), "not encrypted", "encrypted"),
        _ => None,
    }
}

fn said(met: bool, wanted: &str, came: &str) -> Option<String> {
    (!met).then(|| format!("expected {wanted}, came {came}"))
}

fn steps(came: &Explanation) -> impl Iterator<Item = &Step> {
    came.hops.iter().flat_map(|hop| &hop.steps)
}

/// The step that chose a backend: the first, which the later ones follow.
fn service(came: &Explanation) -> Option<&Step> {
    steps(came).find(|step| matches!(step, Step::Service { .. }))
}

fn backend_miss(wanted: &str, port: Option<u16>, came: &Explanation) -> Option<String> {
    let (pod, at) = match service(came) {
        Some(Step::Service { backend, backend_address, .. }) => {
            (backend.as_deref(), backend_address.as_deref())
        }
        _ => (None, None),
    };
    let at = at.and_then(|at| at.parse::<SocketAddr>().ok()).map(|at| at.port());
    let met = pod == Some(wanted) && port.is_none_or(|port| at == Some(port));
    let wanted = match port {
        Some(port) => format!("backend {wanted}:{port}"),
        None => format!("backend {wanted}"),
    };
    said(met, &wanted, &backend_words(came))
}

fn backend_words(came: &Explanation) -> String {
    match service(came) {
        Some(Step::Service { backend: Some(pod), backend_address, .. }) => {
            let at = backend_address.as_deref().unwrap_or("?");
            format!("backend {pod} {at}")
        }
        Some(_) => "backend none".to_owned(),
        None => "no service".to_owned(),
    }
}

/// What the packet's source was rewritten to last, be it of a request or of an answer, which gets back the address that was asked.
fn source(came: &Explanation) -> Option<IpAddr> {
    let rewritten = steps(came).filter_map(|step| match step {
        Step::Rewritten { rewriting, after, .. } if !rewriting.of_destination() => address(after),
        _ => None,
    });
    rewritten.last()
}

/// The address of a place, which has no port where its protocol has none.
fn address(place: &str) -> Option<IpAddr> {
    let with_port = place.parse::<SocketAddr>().map(|place| place.ip());
    with_port.ok().or_else(|| place.parse().ok())
}

fn source_words(came: &Explanation) -> String {
    source(came).map_or_else(|| "not snat".to_owned(), |address| format!("snat {address}"))
}

/// One end of the packet as it leaves the last hop; `None` of one that was dropped.
fn end(of_source: bool, came: &Explanation) -> Option<(Place, bool)> {
    let last = came.hops.last().filter(|_| came.verdict == Verdict::Allowed)?;
    let seen = ends(&last.frame)?;
    Some((if of_source { seen.source } else { seen.destination }, seen.has_ports))
}

fn arrival_miss(wanted: Arrival, came: &Explanation) -> Option<String> {
    let words = |address: IpAddr, port: Option<u16>| {
        let side = if wanted.of_source { "from" } else { "at" };
        let place = port.map(|port| SocketAddr::new(address, port).to_string());
        format!("arrives {side} {}", place.unwrap_or_else(|| address.to_string()))
    };
    let seen = end(wanted.of_source, came)
        .map(|(place, has_ports)| (place.address, has_ports.then_some(place.port)));
    let met = seen.is_some_and(|(address, port)| {
        address == wanted.address && (wanted.port.is_none() || wanted.port == port)
    });
    let seen =
        seen.map_or_else(|| "not arrived".to_owned(), |(address, port)| words(address, port));
    said(met, &words(wanted.address, wanted.port), &seen)
}

fn is_encrypted(came: &Explanation) -> bool {
    steps(came).any(|step| matches!(step, Step::Encrypted { .. }))
}
