//! What stood in the way of a packet that no policy dropped, and what to do next, as lines behind fixed keywords.

use engine::explain::{
    Candidate, Explanation, HeaderFault, Obstacle, Step, Traffic, Undecided, Unfit,
};
use engine::net::{Confined, Direction, Protocol};
use engine::reason::DropReason;
use engine::source::Location;
use engine::trace::Rewriting;
use engine::verdict::Verdict;

use super::hop::fact;
use super::words;

/// The cause on the verdict's line, where it says more than the reason's meaning.
pub(super) fn cause(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::NoPort { service, asked, .. } if asked.contains('/') => {
            format!("{service} has no port {asked}")
        }
        Obstacle::NoPort { service, asked, .. } => {
            format!("{service} answers for its ports only, and this is {asked}")
        }
        Obstacle::NoBackend { service, port, .. } => {
            format!("{service} has no backend for port {}", number(port))
        }
        Obstacle::PortChanges { service, port, .. } => {
            format!(
                "{service} port {port}: SCTP keeps its port, as nothing can sum its checksum anew"
            )
        }
        Obstacle::ClusterOnly { service, .. } => {
            format!("the cluster IP of {service} is for clients in the cluster")
        }
        Obstacle::NotInRange { service, source, .. } => {
            format!("{service} does not admit {source}")
        }
        Obstacle::NoFreePort { address: Some(address), fixed: Some(port), .. } => {
            format!("port {port} of {address} is another flow's towards this destination")
        }
        Obstacle::NoFreePort { address: Some(address), .. } => {
            format!("no port of {address} is free for this flow")
        }
        Obstacle::NoFreePort { address: None, .. } => {
            "the node has no address to translate the source to".to_owned()
        }
        Obstacle::NobodyThere { address, node, backend_of: Some(service), .. } => {
            format!(
                "the flow's backend of {service} is gone: nobody has {address}, in the pods of {node}"
            )
        }
        Obstacle::NobodyThere { address, node, .. } => {
            format!("nobody has {address}, which is in the pods of {node}")
        }
        Obstacle::SourceTranslated { client, .. } => {
            format!("policy did not see the address of {client}")
        }
        Obstacle::PortTranslated { asked, .. } => format!("policy did not see port {asked}"),
        Obstacle::TunnelRefused { .. } => "policy dropped the tunnel's packet".to_owned(),
        Obstacle::NoRoute { address, confined } => no_route(address, *confined),
        Obstacle::NoFirstFragment { .. } => {
            "the ports of this fragment are not known, as the first one was not seen".to_owned()
        }
        Obstacle::Prefiltered { source, cidr: Some(cidr), .. } => {
            format!("{source} is in {cidr}, which nodes drop at their device")
        }
        Obstacle::Prefiltered { source, cidr: None, .. } => {
            format!("{source} is on the list of sources that nodes drop at their device")
        }
        Obstacle::BadHeader { fault } => bad_header(*fault),
    }
}

/// What a field of the network header says, and why that cannot be.
fn bad_header(fault: HeaderFault) -> String {
    match fault {
        HeaderFault::Version { ethertype, version } => {
            format!("the version field says {version}, under Ethernet type 0x{ethertype:04x}")
        }
        HeaderFault::HeaderLength { bytes } => {
            format!("the header length field says {bytes} bytes, and IPv4's least is 20")
        }
        HeaderFault::TotalLength { total, header } => {
            format!("the total length field says {total} bytes, fewer than the header's {header}")
        }
    }
}

/// What would be right in its place.
fn good_header(fault: HeaderFault) -> &'static str {
    match fault {
        HeaderFault::Version { .. } => {
            "version 4 goes with Ethernet type 0x0800, version 6 with 0x86dd: correct one of the two"
        }
        HeaderFault::HeaderLength { .. } => {
            "write 5 or more into the header length field: it counts words of 4 bytes"
        }
        HeaderFault::TotalLength { .. } => {
            "correct one of the two: the total length holds the header and all that follows"
        }
    }
}

/// Why no router sends a packet for the address on.
fn no_route(address: &str, confined: Confined) -> String {
    let kind = match confined {
        Confined::Loopback => "a loopback address",
        Confined::Unspecified => "which stands for none",
        Confined::Broadcast => "which means everybody on one link",
        Confined::Multicast => "a multicast group",
        Confined::LinkLocal => "a link-local address",
    };
    format!("no route leads to {address}, {kind}")
}

/// What to ask for in place of an address that leads nowhere.
fn instead(confined: Confined) -> &'static str {
    match confined {
        Confined::Loopback => {
            "ask for an address of a pod, a node or a service: what a pod says to its own loopback never leaves it"
        }
        Confined::Unspecified => "ask for an address that somebody has",
        Confined::Broadcast | Confined::Multicast => {
            "ask for one receiver: no policy opens a way to all of them"
        }
        Confined::LinkLocal => {
            "ask for an address that holds beyond the link: a pod shares its link with its node only"
        }
    }
}

/// `http 80/tcp -> 8080` as `80/tcp`.
fn number(port: &str) -> &str {
    let before = port.split(" -> ").next().unwrap_or(port);
    before.rsplit(' ').next().unwrap_or(before)
}

/// What to do about a drop whose reason says all that there is to it.
fn plain(e: &Explanation) -> Vec<String> {
    let next = match e.undecided {
        Some(Undecided::NotOpened) if is_dropped_by_policy(e) => match e.packet.protocol {
            Some(Protocol::Tcp) => {
                "ask it in a `dialogue` in which policy changes after the SYN: `policy ...` or `remove policy ...` between two packets"
            }
            _ => {
                "ask it in a `dialogue` in which policy changes after the first packet: `policy ...` or `remove policy ...` between two"
            }
        },
        _ => e.reason.map_or("", words::remedy),
    };
    if next.is_empty() { Vec::new() } else { vec![fact(1, "next", next)] }
}

/// Whether policy dropped the packet that is shown, whatever the verdict says of the one that is asked about.
fn is_dropped_by_policy(e: &Explanation) -> bool {
    let by_policy = |reason| matches!(reason, DropReason::PolicyDenied | DropReason::PolicyDeny);
    let mut steps = e.hops.iter().flat_map(|hop| &hop.steps);
    steps.any(|step| matches!(step, Step::Drop { reason, .. } if by_policy(*reason)))
}

/// What there is instead, and what to do next.
pub(super) fn lines(e: &Explanation) -> Vec<String> {
    let Some(obstacle) = &e.obstacle else { return plain(e) };
    let mut lines = match obstacle {
        Obstacle::NoPort { service, ports, location, .. } => {
            vec![fact(
                1,
                "ports",
                &format!("{}, of {service}{}", ports.join(", "), at(location.as_ref())),
            )]
        }
        Obstacle::NoBackend { service, selector, pods, traffic, location, .. } => {
            let of = format!("{selector}, by {service}{}", at(location.as_ref()));
            let mut lines = vec![fact(1, "selects", &of)];
            lines.extend(pods.iter().map(|candidate| unfit(candidate, *traffic)));
            lines
        }
        Obstacle::SourceTranslated { client, client_address, node, address, peer, .. } => {
            let who = words::party(client, client_address, None);
            vec![fact(
                1,
                "client",
                &format!(
                    "{who}: {node} put its own address {address} in the place of the client's before policy was asked, which saw {peer}"
                ),
            )]
        }
        Obstacle::PortTranslated { service, node, asked, port, .. } => {
            let text = format!(
                "{asked} of {service}: {node} put the backend's {port} in its place before policy was asked"
            );
            vec![fact(1, "port", &text)]
        }
        Obstacle::TunnelRefused { source, destination, .. } => {
            let text = format!(
                "the tunnel's packet {source} -> {destination} UDP, which carries this one"
            );
            vec![fact(1, "judged", &text)]
        }
        Obstacle::ClusterOnly { service, outside, location, .. } => {
            let open = if outside.is_empty() { "nowhere".to_owned() } else { outside.join(", ") };
            let text = format!("{open}, of {service}{}", at(location.as_ref()));
            vec![fact(1, "outside", &text)]
        }
        Obstacle::NotInRange { service, ranges, location, .. } => {
            let text = format!("{}{}, of {service}", ranges.join(", "), at(location.as_ref()));
            vec![fact(1, "ranges", &text)]
        }
        Obstacle::PortChanges { service, port, location } => {
            vec![fact(1, "ports", &format!("{port}, of {service}{}", at(location.as_ref())))]
        }
        Obstacle::NoFreePort { address: Some(address), destination, first, last, fixed: None } => {
            let text = format!(
                "{first}-{last} of {address}; every one that was tried is taken towards {destination}"
            );
            vec![fact(1, "ports", &text)]
        }
        Obstacle::NobodyThere { .. }
        | Obstacle::NoFreePort { .. }
        | Obstacle::NoRoute { .. }
        | Obstacle::NoFirstFragment { .. }
        | Obstacle::Prefiltered { .. }
        | Obstacle::BadHeader { .. } => Vec::new(),
    };
    if e.verdict == Verdict::Allowed {
        return lines;
    }
    lines.extend(next(obstacle).into_iter().map(|text| fact(1, "next", &text)));
    lines
}

fn at(location: Option<&Location>) -> String {
    location.map_or_else(String::new, |location| format!(" {location}"))
}

fn unfit(candidate: &Candidate, traffic: Traffic) -> String {
    let Candidate { pod, node, unfit, also } = candidate;
    let all = std::iter::once(unfit).chain(also).map(|unfit| lacks(*unfit, node, traffic));
    fact(1, "unfit", &format!("{pod}: {}", all.collect::<Vec<_>>().join("; ")))
}

fn lacks(unfit: Unfit, node: &str, traffic: Traffic) -> String {
    match unfit {
        Unfit::NotReady => "not ready".to_owned(),
        Unfit::Terminating => {
            "terminating: it keeps the flows that it has, and gets no new ones".to_owned()
        }
        Unfit::NoNamedPort => "gives no port the name that the service asks for".to_owned(),
        Unfit::OtherFamily => "has no address of this family".to_owned(),
        Unfit::OtherNode => format!("on {node}, and `{} local` keeps to one node", word(traffic)),
    }
}

/// The setting of a service.
fn word(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::Internal => "internal-traffic",
        Traffic::External => "external-traffic",
    }
}

/// What a reader can do.
fn next(obstacle: &Obstacle) -> Vec<String> {
    match obstacle {
        Obstacle::NoPort { service, asked, .. } if asked.contains('/') => vec![format!(
            "ask for one of these ports, or add `port {asked} -> TARGET` to service {service}"
        )],
        Obstacle::NoPort { .. } => {
            vec!["ask for one of its ports, or ask a backend pod itself".to_owned()]
        }
        Obstacle::NoBackend { service, port, pods, node, traffic, .. } => {
            no_backend((service, port), pods, (node, *traffic))
        }
        Obstacle::NobodyThere { address, backend_of: Some(_), .. } => vec![format!(
            "begin a new flow, which gets another backend, or give a pod {address} again: a flow keeps its backend until it ends"
        )],
        Obstacle::NobodyThere { address, node, prefix, location, .. } => vec![format!(
            "correct the address, or add a pod that has it: {node} keeps {prefix}{} for its pods, and what its stack does with {address} is not followed",
            at(location.as_ref())
        )],
        Obstacle::SourceTranslated { rewriting, peer, service, admits_client, .. } => {
            source_translated(*rewriting, peer, service.as_deref().filter(|_| *admits_client))
        }
        Obstacle::PortTranslated { port, name, rule, location, .. } => {
            let name = name.as_ref().map_or_else(String::new, |name| format!(" or `on {name}`"));
            vec![format!(
                "write `on {port}`{name} in {rule}{}: policy sees the backend's port, not the service's",
                at(location.as_ref())
            )]
        }
        Obstacle::TunnelRefused { direction, port, peer, denied, .. } => {
            vec![admit_tunnel(*direction, port, peer, *denied)]
        }
        Obstacle::ClusterOnly { service, nobody: true, .. } => {
            vec![format!("give {service} a backend first: nobody is behind its ports, whoever asks")]
        }
        Obstacle::ClusterOnly { service, outside, .. } if outside.is_empty() => vec![format!(
            "give {service} a `node-port`, an `external-ip` or a `load-balancer-ip`, or ask from a pod"
        )],
        Obstacle::ClusterOnly { .. } => {
            vec!["ask one of those instead, or from a pod".to_owned()]
        }
        Obstacle::NotInRange { service, source, .. } => {
            vec![format!("add the prefix of {source} to the `source-ranges` of {service}, if it may come in")]
        }
        Obstacle::PortChanges { service, .. } => vec![format!(
            "give this port of {service} and its target one number, or ask a backend pod itself"
        )],
        Obstacle::NoFreePort { address: Some(_), fixed: Some(_), .. } => vec![
            "send from another port, or wait for the flow that has this one to end".to_owned(),
        ],
        Obstacle::NoFreePort { address: None, .. } => {
            vec!["give the node an address of this family".to_owned()]
        }
        Obstacle::NoFreePort { .. } => vec![
            "wait for flows to end, widen `masquerade on ports A-B`, or except the destination from it"
                .to_owned(),
        ],
        Obstacle::NoRoute { confined, .. } => vec![instead(*confined).to_owned()],
        Obstacle::BadHeader { fault } => vec![good_header(*fault).to_owned()],
        Obstacle::NoFirstFragment { .. } => {
            vec!["send the first fragment before the others, in a dialogue; or avoid fragments".to_owned()]
        }
        Obstacle::Prefiltered { cidr, location, .. } => {
            let cidr = cidr.as_deref().unwrap_or("the prefix");
            let text = format!("take {cidr} out of the cluster's `prefilter`{}, if it may come in", at(location.as_ref()));
            vec![text]
        }
    }
}

/// How the tunnel gets through the policy of a node.
fn admit_tunnel(direction: Direction, port: &str, peer: &str, denied: bool) -> String {
    let side = if direction == Direction::Ingress { "from" } else { "to" };
    if denied {
        return format!("keep the tunnel out of that rule: {direction} {side} {peer} on {port}");
    }
    format!("admit the tunnel: `allow {direction} {side} entities {peer} on {port}`")
}

/// Where the client is not seen: let it be seen, if that would do, or admit what is.
fn source_translated(rewriting: Rewriting, peer: &str, service: Option<&str>) -> Vec<String> {
    let admit = format!("admit what policy sees: `allow ingress from entities {peer}`");
    match (rewriting, service) {
        (Rewriting::NodePort, Some(service)) => vec![
            format!(
                "set `external-traffic local` for {service} and ask a node that has a backend: it keeps the client's address"
            ),
            format!("or {admit}"),
        ],
        _ => vec![admit],
    }
}

fn no_backend(
    (service, port): (&str, &str),
    pods: &[Candidate],
    (node, traffic): (&str, Traffic),
) -> Vec<String> {
    if pods.is_empty() {
        return vec![format!(
            "label a pod as the service selects, or correct `select` of {service}"
        )];
    }
    let mut advice = Vec::new();
    let has = |wanted| pods.iter().any(|c| c.unfit == wanted || c.also.contains(&wanted));
    let only = |wanted| pods.iter().any(|c| c.unfit == wanted && c.also.is_empty());
    if only(Unfit::NotReady) || only(Unfit::Terminating) {
        advice.push("make one of them ready: only ready pods get new flows".to_owned());
    }
    if has(Unfit::NoNamedPort) {
        let target = port.rsplit(" -> ").next().unwrap_or(port);
        advice.push(format!("give a pod `port {target} NUMBER`, or {service} a target by number"));
    }
    if has(Unfit::OtherFamily) {
        advice.push("give a pod an address of this family, or ask by the other one".to_owned());
    }
    if has(Unfit::OtherNode) {
        let run = format!("run a ready pod on {node}");
        advice.push(if only(Unfit::OtherNode) {
            format!("{run}, or set `{} cluster` for {service}", word(traffic))
        } else {
            run
        });
    }
    advice
}
