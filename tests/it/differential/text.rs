//! A scenario as a case file, with what the oracle says as expectations: what a disagreement is kept as.

mod network;

use std::fmt::{self, Write};
use std::net::IpAddr;

use engine::eval::{Choices, Judgement};
use engine::net::{Direction, Packet, PortRange, Transport, extension};
use engine::policy::{
    Isolation, Namespaces, Operator, Peer, PeerKind, Policy, PortKind, PortSpec, Rule, Selector,
    SubjectKind,
};
use engine::question::Question;
use engine::topology::{Labels, Party, Pod, Readiness, World};
use engine::verdict::Verdict;

use super::{Scenario, Step};

/// The whole file.
pub(super) fn case(scenario: &Scenario, chosen: &[Choices]) -> String {
    let mut text = String::new();
    write(&mut text, scenario, chosen).expect("a string takes every text");
    text
}

fn write(text: &mut String, scenario: &Scenario, chosen: &[Choices]) -> fmt::Result {
    world(text, &scenario.world)?;
    for policy in &scenario.policies {
        write_policy(text, policy)?;
    }
    writeln!(text, "\ntest \"random\" {{\n  dialogue \"steps\" {{")?;
    let mut written = Ok(());
    scenario.told(chosen, |stage, step, sent| {
        let line = match (step, sent) {
            (Step::Wait(seconds), _) => format!("wait {seconds}s"),
            (Step::Remove(handle), _) => format!("remove policy {handle}"),
            (Step::Gone(service), _) => format!("# service {service} goes"),
            (Step::Ready(pod, readiness), _) => format!("# pod {pod} is {readiness:?} now"),
            (_, Some((sent, came))) => {
                let question = question(&stage.world, &sent.question, sent.about.as_deref());
                let choice = choice(&stage.world, came);
                format!("{question}{choice} => {}", expectation(&stage.world, came))
            }
            _ => return,
        };
        written = written.and_then(|()| writeln!(text, "    {line}"));
    });
    written?;
    writeln!(text, "  }}\n}}")
}

/// The backend that the packet of a service goes to, where there are several.
fn choice(world: &World, judgement: &Judgement) -> String {
    let Some(serving) = judgement.serving.as_ref().filter(|s| s.candidates.len() > 1) else {
        return String::new();
    };
    // Pods of the host network share an address, and not all of them are of the service.
    let service = world.service(serving.service);
    let is_its = |pod: &Pod| {
        service.is_some_and(|s| s.namespace == pod.namespace && s.selector.matches(&pod.labels))
    };
    let is_behind = |pod: &&Pod| {
        serving.backend.is_some_and(|b| pod.addresses.contains(&b.address)) && is_its(pod)
    };
    let pod = world.pods.iter().find(is_behind);
    pod.map_or_else(String::new, |pod| format!(" choose backend {}", pod.qualified()))
}

fn expectation(world: &World, judgement: &Judgement) -> String {
    let mut words = judgement.verdict.to_string();
    if let Some(reason) = judgement.reason.filter(|_| judgement.verdict == Verdict::Dropped) {
        let _ = write!(words, " {}", reason.name());
    }
    if let Some(first) = judgement.legs.first() {
        let _ = write!(words, ", conntrack {}", first.state);
    }
    // Where a direction is asked of pod and node, the first stands for it.
    for direction in [Direction::Egress, Direction::Ingress] {
        if let Some(leg) = judgement.legs.iter().find(|leg| leg.direction == direction) {
            let _ = write!(words, ", {direction} {}", leg.outcome);
        }
    }
    match judgement.serving.as_ref().map(|serving| serving.backend) {
        Some(Some(place)) => {
            let pods = world.pods.iter().filter(|pod| !pod.host_network);
            let mut behind = pods.filter(|pod| pod.addresses.contains(&place.address));
            if let Some(pod) = behind.next() {
                let _ = write!(words, ", backend {}:{}", pod.qualified(), place.port);
            }
        }
        Some(None) => words.push_str(", backend none"),
        None => {}
    }
    words
}

fn world(text: &mut String, world: &World) -> fmt::Result {
    writeln!(text, "# A random scenario: flows one after the other.\n\ncluster lab {{")?;
    network::settings(text, &world.cluster)?;
    for node in &world.nodes {
        write!(text, "  node {} {{ ip {}", node.name, list(&node.addresses))?;
        write!(text, " pods {}", list(&node.pod_cidrs))?;
        if !node.locals.is_empty() {
            write!(text, " local {}", list(&node.locals))?;
        }
        if !node.health.is_empty() {
            write!(text, " health {}", list(&node.health))?;
        }
        writeln!(text, "{} }}", labels(&node.labels))?;
    }
    writeln!(text, "}}")?;
    for namespace in &world.namespaces {
        writeln!(text, "namespace {} {{{} }}", namespace.name, labels(&namespace.labels))?;
    }
    for external in &world.externals {
        write!(text, "external {} {{ ip {}", external.name, list(&external.addresses))?;
        for fact in &external.names {
            write!(text, " dns \"{}\"", fact.name)?;
        }
        writeln!(text, " }}")?;
    }
    for pod in &world.pods {
        let node = world.node(pod.node).map_or("?", |n| n.name.as_str());
        write!(text, "pod {} on {node} {{", pod.qualified())?;
        if pod.host_network {
            write!(text, " host-network")?;
        } else {
            write!(text, " ip {}", list(&pod.addresses))?;
        }
        write!(text, "{}", labels(&pod.labels))?;
        for port in &pod.ports {
            write!(text, " port {} {}/{}", port.name, port.port, port.protocol)?;
        }
        text.push_str(match pod.readiness {
            Readiness::Ready => "",
            Readiness::NotReady => " not-ready",
            Readiness::Terminating => " terminating",
        });
        writeln!(text, " }}")?;
    }
    world.services.iter().try_for_each(|service| network::service(text, service))
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn labels(labels: &Labels) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let pairs = labels.iter().map(|(key, value)| format!("{key} = \"{value}\""));
    format!(" labels {{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

fn write_policy(text: &mut String, policy: &Policy) -> fmt::Result {
    let clusterwide = if policy.namespace.is_none() { "clusterwide " } else { "" };
    writeln!(text, "\n{clusterwide}policy {} {{", policy.handle)?;
    let pods = match (policy.subject_kind, &policy.namespace) {
        (SubjectKind::Nodes, _) => "nodes ",
        (SubjectKind::Pods, None) => "pods ",
        (SubjectKind::Pods, Some(_)) => "",
    };
    let scope = match policy.subject_kind {
        SubjectKind::Pods => scope(&policy.subject_namespaces),
        SubjectKind::Nodes => String::new(),
    };
    writeln!(text, "  select {pods}{}{scope}", selector(&policy.subject))?;
    let directions: Vec<&str> = [("ingress", policy.ingress), ("egress", policy.egress)]
        .into_iter()
        .filter(|(_, isolation)| *isolation == Isolation::Always)
        .map(|(word, _)| word)
        .collect();
    if policy.ingress == Isolation::Never {
        writeln!(text, "  default-deny off")?;
    } else if !directions.is_empty() {
        writeln!(text, "  default-deny {}", directions.join(", "))?;
    }
    for rule in &policy.rules {
        writeln!(text, "  {}", rule_line(rule))?;
    }
    writeln!(text, "}}")
}

fn rule_line(rule: &Rule) -> String {
    let mut parts = vec![format!("{} {} as {}", rule.action, rule.direction, rule.name)];
    let word = match rule.direction {
        engine::net::Direction::Ingress => "from",
        engine::net::Direction::Egress => "to",
    };
    parts.extend(rule.peers.as_ref().map(|peers| {
        let peers: Vec<_> = peers.iter().map(peer).collect();
        let none = peers.is_empty();
        format!("{word} {}", if none { "none".to_owned() } else { peers.join(", ") })
    }));
    parts.extend(
        rule.ports
            .as_ref()
            .map(|ports| format!("on {}", ports.iter().map(port).collect::<Vec<_>>().join(", "))),
    );
    parts.join(" ")
}

fn peer(peer: &Peer) -> String {
    match &peer.kind {
        PeerKind::Pods { selector: labels, namespaces } => {
            format!("pods {}{}", selector(labels), scope(namespaces))
        }
        PeerKind::Cidr { net, except } if except.is_empty() => format!("cidr {net}"),
        PeerKind::Cidr { net, except } => format!("cidr {net} except {}", list(except)),
        PeerKind::Entity(entity) => format!("entities {}", entity.word()),
        PeerKind::Service { namespace, name } => format!("service {namespace}/{name}"),
        PeerKind::Dns(pattern) => format!("dns \"{pattern}\""),
    }
}

fn scope(namespaces: &Namespaces) -> String {
    match namespaces {
        Namespaces::Own => String::new(),
        Namespaces::Named(name) => format!(" in namespace {name}"),
        Namespaces::Matching(labels) => format!(" in namespaces {}", selector(labels)),
        Namespaces::Any => " in any namespace".to_owned(),
    }
}

fn selector(selector: &Selector) -> String {
    let quoted = |values: &[String]| {
        values.iter().map(|v| format!("\"{v}\"")).collect::<Vec<_>>().join(", ")
    };
    let each = selector.requirements.iter().map(|requirement| {
        let key = &requirement.key;
        match &requirement.operator {
            Operator::Equals(value) => format!("{key} = \"{value}\""),
            Operator::NotEquals(value) => format!("{key} != \"{value}\""),
            Operator::In(values) => format!("{key} in ({})", quoted(values)),
            Operator::NotIn(values) => format!("{key} not in ({})", quoted(values)),
            Operator::Exists => key.clone(),
            Operator::NotExists => format!("!{key}"),
        }
    });
    let each: Vec<_> = each.collect();
    if each.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", each.join(", ")) }
}

fn port(spec: &PortSpec) -> String {
    match &spec.kind {
        PortKind::Numbers { range: PortRange { first: 0, .. }, protocol: Some(protocol) } => {
            protocol.to_string()
        }
        PortKind::Numbers { range, protocol: Some(protocol) } => format!("{range}/{protocol}"),
        PortKind::Numbers { range, protocol: None } => range.to_string(),
        PortKind::Named { name, protocol: Some(protocol) } => format!("{name}/{protocol}"),
        PortKind::Named { name, protocol: None } => name.clone(),
        PortKind::Icmp { family, kind: Some(kind) } => format!("{family} {kind}"),
        PortKind::Icmp { family, kind: None } => family.to_string(),
    }
}

/// The question in words; an error with what it is about.
fn question(world: &World, asked: &Question, about: Option<&Question>) -> String {
    let packet = &asked.packet;
    let ip = &packet.ip;
    let later = ip.fragment.is_later();
    let ported = packet.protocol().has_ports() && !later;
    let port = ported.then_some(packet.ports().1);
    let mut parts =
        vec![format!("{} -> {}", party(world, asked.source), target(world, packet, port))];
    parts.push(transport(packet, later));
    parts.push(if ip.source.is_ipv6() { "ip6".to_owned() } else { "ip4".to_owned() });
    let claimed = asked.source != Party::Address(ip.source);
    parts.extend(claimed.then(|| format!("from-ip {}", ip.source)));
    parts.extend((ip.id != 0).then(|| format!("ip-id {}", ip.id)));
    parts.extend((ip.flow_label != 0).then(|| format!("flow-label {}", ip.flow_label)));
    parts.extend((ip.ttl != 64).then(|| format!("ttl {}", ip.ttl)));
    // The random ones are all `01`, which does nothing.
    let options = "01".repeat(ip.options.len());
    parts.extend((!options.is_empty()).then(|| format!("ip-options {options}")));
    let headers = ip.extensions.iter().filter_map(|(number, _)| extension::name(*number));
    let headers: Vec<&str> = headers.collect();
    parts.extend((!headers.is_empty()).then(|| format!("extensions {}", headers.join(", "))));
    parts.extend(ip.fragment.is_fragment().then(|| "fragment".to_owned()));
    parts.extend(later.then(|| format!("offset {}", ip.fragment.offset)));
    parts.extend(ip.fragment.more.then(|| "more".to_owned()));
    parts.extend(about.map(|about| format!("quoting ( {} )", question(world, about, None))));
    parts.join(" ")
}

fn transport(packet: &Packet, later: bool) -> String {
    match packet.transport {
        Transport::Icmp { kind, code, rest: [high, low, ..] } => {
            let family = packet.protocol();
            let identifier = u16::from_be_bytes([high, low]);
            let id = if identifier == 0 { String::new() } else { format!(" id {identifier}") };
            format!("{family} {kind}/{code}{id}")
        }
        _ if later => packet.protocol().to_string(),
        Transport::Tcp { source, flags, .. } => {
            format!("{} from-port {source}", flags.to_string().to_lowercase())
        }
        Transport::Udp { source, .. } | Transport::Sctp { source, .. } => {
            format!("from-port {source}")
        }
        Transport::Other { protocol } => format!("protocol-{protocol}"),
    }
}

/// The receiver, by its address, with port and protocol where the packet has them.
fn target(world: &World, packet: &Packet, port: Option<u16>) -> String {
    let address = packet.ip.destination;
    let Some(port) = port else { return party(world, Party::Address(address)) };
    format!("{}:{port}/{}", party(world, Party::Address(address)), packet.protocol())
}

fn party(world: &World, party: Party) -> String {
    let Party::Address(address) = party else { return format!("{party:?}") };
    let bare = match address {
        IpAddr::V4(_) => address.to_string(),
        IpAddr::V6(_) => format!("[{address}]"),
    };
    match world.owner(address) {
        Some(Party::Pod(id)) => {
            world.pod(id).map_or(bare, |pod| format!("pod {}", pod.qualified()))
        }
        _ => bare,
    }
}
