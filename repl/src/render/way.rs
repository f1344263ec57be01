//! Where a packet goes and what it becomes on the way, in words: services, rewritten sides, encryption, tunnels, devices.

use std::net::SocketAddr;

use engine::explain::Step;
use engine::trace::{Choice, Rewriting};

use super::words;

/// `web/echo 10.96.0.20:80 -> web/echo-0 10.244.6.11:8080, 1 of 2 backends, by a hash of the flow`.
pub(super) fn service(step: &Step) -> String {
    let Step::Service {
        service,
        frontend,
        protocol,
        backend,
        backend_address,
        choice,
        of,
        kind,
        ..
    } = step
    else {
        return String::new();
    };
    let (Some(backend), Some(address)) = (backend, backend_address) else {
        let has_ports = protocol.has_ports();
        let protocol = words::protocol(*protocol);
        let lack = match kind {
            Some(_) => "no backend is chosen",
            None if !has_ports => "a service answers for its ports only",
            None => "the service does not have this port",
        };
        return format!("{service} {frontend} {protocol}: {lack}");
    };
    // Who is gone has no name but the address.
    let is_named = address.parse::<SocketAddr>().map_or(true, |a| a.ip().to_string() != *backend);
    let backend = if is_named { format!("{backend} {address}") } else { address.clone() };
    format!("{service} {frontend} -> {backend}, {}", chosen(*choice, *of))
}

/// How many there were, and how the one was found where that is not plain from the number.
fn chosen(choice: Choice, of: u16) -> String {
    let number = format!("1 of {of} backends");
    let how = match choice {
        Choice::Conntrack => return "the backend that the flow has already".to_owned(),
        Choice::Affinity => return format!("{number}, the client's last one (affinity)"),
        Choice::Forced => return format!("{number}, chosen by the question"),
        Choice::Nobody => return number,
        Choice::Random => "by a hash of the flow",
        Choice::Maglev => "by the Maglev table",
    };
    if of == 1 { number } else { format!("{number}, {how}") }
}

/// `10.244.2.251:40312 -> 192.168.66.196:40312, masquerading ...`, behind `snat` or `dnat`.
pub(super) fn rewritten(
    rewriting: Rewriting,
    before: &str,
    after: &str,
    party: &str,
) -> (&'static str, String) {
    let (keyword, why) = match rewriting {
        Rewriting::Service => ("dnat", format!("to a backend of {party}")),
        Rewriting::ServiceReply => ("snat", format!("the reply comes from {party} again")),
        Rewriting::Masquerade => ("snat", "masquerading; replies are translated back".to_owned()),
        Rewriting::MasqueradeReply => ("dnat", format!("masquerading undone, back to {party}")),
        Rewriting::NodePort => ("snat", "so that the reply comes back by this node".to_owned()),
        Rewriting::NodePortReply => ("dnat", format!("back to the client {party}")),
        Rewriting::Loopback => {
            ("snat", format!("{party} speaks to itself by a service, so policy is not asked"))
        }
        Rewriting::LoopbackReply => ("dnat", format!("back to {party}, which speaks to itself")),
    };
    (keyword, format!("{before} -> {after}, {why}"))
}

/// `by wireguard, mark 0xe00`.
pub(super) fn encrypted(step: &Step) -> String {
    let Step::Encrypted { by, key, mark } = step else { return String::new() };
    let key = key.map_or_else(String::new, |key| format!(" key {key}"));
    format!("by {by}{key}, mark {mark:#x}; the hops that follow show it in the clear")
}

/// How the packet goes on from a node.
pub(super) fn on(step: &Step, node: &str) -> (&'static str, String) {
    match step {
        Step::Tunnel { kind, source, destination, port, vni, meaning, .. } => {
            let meaning = if meaning.is_empty() {
                String::new()
            } else {
                format!(" = identity of {meaning}")
            };
            let way = words::party("", destination, Some(*port));
            ("tunnel", format!("{kind} {source} -> {way}, vni {vni}{meaning}"))
        }
        Step::Deliver { interface, pod, ttl } => {
            ("deliver", format!("{interface} to {pod}{}", ttl_in_words(*ttl)))
        }
        Step::Stack { host: true, .. } => ("stack", format!("{node} itself is the destination")),
        Step::Stack { host: false, followed } => {
            let then = if *followed { "which routes it" } else { "not followed" };
            ("stack", format!("handed to the stack of {node}, {then}"))
        }
        Step::Network { device, next_hop, node: there, ttl } => {
            let ttl = ttl_in_words(*ttl);
            match (there, next_hop) {
                (Some(there), Some(at)) => {
                    ("native", format!("as it is to {there} {at} by {device}{ttl}"))
                }
                (None, Some(at)) => ("native", format!("as it is to {at} by {device}{ttl}")),
                (_, None) => ("network", format!("out by {device}, past the stack{ttl}")),
            }
        }
        Step::Left { device, node: there } => {
            let bound = there.as_ref().map_or_else(String::new, |there| format!(", for {there}"));
            ("left", format!("{node} {device}{bound}"))
        }
        _ => ("", String::new()),
    }
}

fn ttl_in_words(ttl: Option<u8>) -> String {
    ttl.map_or_else(String::new, |ttl| format!(", TTL {ttl}"))
}

#[cfg(test)]
mod tests {
    use engine::net::Protocol;
    use engine::tables::{EntryId, FrontendKind};

    use super::*;

    fn served(choice: Choice, of: u16) -> Step {
        Step::Service {
            service: "web/echo".into(),
            frontend: "10.96.0.20:80".into(),
            kind: Some(FrontendKind::ClusterIp),
            protocol: Protocol::Tcp,
            entry: Some(EntryId(1)),
            backend: Some("web/echo-0".into()),
            backend_address: Some("10.244.6.11:8080".into()),
            choice,
            of,
        }
    }

    #[test]
    fn services_say_how_they_chose() {
        let check = |choice, of, expected: &str| {
            let line = service(&served(choice, of));
            let rest = line.strip_prefix("web/echo 10.96.0.20:80 -> web/echo-0 10.244.6.11:8080, ");
            assert_eq!(rest, Some(expected), "{line}");
        };
        check(Choice::Random, 1, "1 of 1 backends");
        check(Choice::Random, 2, "1 of 2 backends, by a hash of the flow");
        check(Choice::Maglev, 3, "1 of 3 backends, by the Maglev table");
        check(Choice::Affinity, 2, "1 of 2 backends, the client's last one (affinity)");
        check(Choice::Forced, 2, "1 of 2 backends, chosen by the question");
        check(Choice::Conntrack, 2, "the backend that the flow has already");
    }

    #[test]
    fn nobody_to_choose_is_told_from_no_such_port() {
        let nobody = |with_port: bool| {
            let mut step = served(Choice::Nobody, 0);
            if let Step::Service { backend, backend_address, kind, .. } = &mut step {
                (*backend, *backend_address) = (None, None);
                *kind = kind.filter(|_| with_port);
            }
            service(&step)
        };
        assert_eq!(nobody(true), "web/echo 10.96.0.20:80 TCP: no backend is chosen");
        assert_eq!(
            nobody(false),
            "web/echo 10.96.0.20:80 TCP: the service does not have this port"
        );
    }

    #[test]
    fn ways_out() {
        let check = |step: Step, keyword: &str, text: &str| {
            assert_eq!(on(&step, "node01"), (keyword, text.to_owned()));
        };
        let device = || "eth0".to_owned();
        let network = |there: Option<&str>| Step::Network {
            device: device(),
            next_hop: there.map(|_| "192.168.66.221".into()),
            node: there.map(Into::into),
            ttl: Some(63),
        };
        check(
            network(Some("node02")),
            "native",
            "as it is to node02 192.168.66.221 by eth0, TTL 63",
        );
        check(network(None), "network", "out by eth0, past the stack, TTL 63");
        check(Step::Left { device: device(), node: None }, "left", "node01 eth0");
        let bound = Step::Left { device: device(), node: Some("node02".into()) };
        check(bound, "left", "node01 eth0, for node02");
        let stack = |followed| Step::Stack { host: false, followed };
        check(stack(true), "stack", "handed to the stack of node01, which routes it");
        check(stack(false), "stack", "handed to the stack of node01, not followed");
    }

    #[test]
    fn rewritten_sides() {
        let check = |rewriting, expected: (&str, &str)| {
            let (keyword, text) = rewritten(rewriting, "a", "b", "web/client");
            assert_eq!((keyword, text.as_str()), expected);
        };
        check(Rewriting::Masquerade, ("snat", "a -> b, masquerading; replies are translated back"));
        let undone = "a -> b, masquerading undone, back to web/client";
        check(Rewriting::MasqueradeReply, ("dnat", undone));
        check(Rewriting::NodePort, ("snat", "a -> b, so that the reply comes back by this node"));
        check(
            Rewriting::Loopback,
            ("snat", "a -> b, web/client speaks to itself by a service, so policy is not asked"),
        );
    }
}
