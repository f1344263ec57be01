//! Warnings about settings of the cluster and addresses and ports of services that get into each other's way.

use std::net::{IpAddr, Ipv4Addr};

use engine::diag::Diagnostic;
use engine::net::Protocol;
use engine::source::Span;
use engine::topology::{NamedPort, Node, Pod, Routing, TargetPort, World};
use ipnet::IpNet;

use super::super::pick;
use crate::ast::{ClusterField, Item, Service, ServiceField, Spanned};
use crate::codes;

/// The source of a pod that reaches itself by a service; that of IPv6, `fe80::1`, is no address of a service.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 42, 1));

/// Kubernetes gives node ports from this range, unless it is told another.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// Looks at all statements; the world is what they came to.
pub(in crate::lower) fn settings(items: &[&Item], world: &World, sink: &mut Vec<Diagnostic>) {
    let mut masqueraded = None;
    for (cluster, _) in pick!(items, Cluster) {
        for field in &cluster.fields {
            match &field.node {
                ClusterField::Prefilter(list) => prefilter(list, world, sink),
                ClusterField::Masquerade { ports: Some(ports), .. } => masqueraded = Some(ports),
                _ => {}
            }
        }
    }
    tunnel_device(world, sink);
    fixed_devices(world, sink);
    for (service, _) in pick!(items, Service) {
        tunnel_port(service, world, sink);
        node_ports(service, masqueraded, sink);
        addresses(service, world, sink);
        source_ranges(service, sink);
        sctp_ports(service, world, sink);
        port_names(service, sink);
    }
}

/// A prefix that holds the end of a tunnel: what comes by that is dropped before anything looks at it.
fn prefilter(list: &[Spanned<IpNet>], world: &World, sink: &mut Vec<Diagnostic>) {
    if world.nodes.len() < 2 {
        return;
    }
    if world.cluster.routing != Routing::Tunnel {
        return prefiltered_pods(list, world, sink);
    }
    let over_ipv6 = world.tunnels_over_ipv6();
    for net in list {
        let held = |node: &&Node| node.tunnel_end(over_ipv6).is_some_and(|a| net.node.contains(&a));
        let mut nodes = world.nodes.iter().filter(held);
        let Some(first) = nodes.next() else { continue };
        let more = match nodes.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!("the prefilter drops everything of node {}{more}", first.name);
        sink.push(
            Diagnostic::warning(codes::PREFILTERED_NODE, message, net.span)
                .also(first.span, "an end of the tunnel")
                .help("list no node: what pods of other nodes send comes from the node's address"),
        );
    }
}

/// A prefix that holds pods, whose packets to other nodes come to devices under their own addresses where there is no tunnel.
fn prefiltered_pods(list: &[Spanned<IpNet>], world: &World, sink: &mut Vec<Diagnostic>) {
    for net in list {
        let held = |node: &&Node| {
            let overlaps = |own: &IpNet| net.node.contains(own) || own.contains(&net.node);
            node.pod_cidrs.iter().any(overlaps)
        };
        let Some(node) = world.nodes.iter().find(held) else { continue };
        let message = format!("the prefilter drops what pods of node {} send to others", node.name);
        sink.push(
            Diagnostic::warning(codes::PREFILTERED_NODE, message, net.span)
                .also(node.span, "its pods have such addresses")
                .help(
                    "list no pods: without a tunnel they come to other nodes' devices as they are",
                ),
        );
    }
}

/// A node whose own device has the name of its tunnel's.
fn tunnel_device(world: &World, sink: &mut Vec<Diagnostic>) {
    let tunnel = &world.cluster.tunnel.device;
    let is_same = |node: &&Node| node.device == *tunnel;
    if world.cluster.routing != Routing::Tunnel {
        return;
    }
    for node in world.nodes.iter().filter(is_same) {
        let message =
            format!("the tunnel's device and that of node {} are both `{tunnel}`", node.name);
        sink.push(Diagnostic::error(codes::DUPLICATE_PIN, message, node.span).help(
            "give one of them another name: `tunnel vxlan device NAME`, `device NAME` of the node",
        ));
    }
}

/// A device with the name of one that every node has besides.
fn fixed_devices(world: &World, sink: &mut Vec<Diagnostic>) {
    const FIXED: [(&str, &str); 2] =
        [("lo", "the loopback device"), ("cilium_host", "the device to pods and services")];
    let fixed = |name: &str| FIXED.iter().find(|(fixed, _)| *fixed == name);
    let mut tell =
        |what: String, name: &str, span: Span| {
            let Some((_, is)) = fixed(name) else { return };
            let message = format!("`{name}` of a node is {is}, and cannot be {what}");
            sink.push(Diagnostic::error(codes::DUPLICATE_PIN, message, span).help(
                "give it another name: `tunnel vxlan device NAME`, `device NAME` of the node",
            ));
        };
    for node in &world.nodes {
        tell(format!("that of node {}'s wire", node.name), &node.device, node.span);
    }
    let tunnel = &world.cluster.tunnel.device;
    if world.cluster.routing == Routing::Tunnel {
        let first = world.nodes.first().map(|node| node.span);
        if let Some(span) = first {
            tell("the tunnel's".to_owned(), tunnel, span);
        }
    }
}

/// A node port that the tunnel's own packets come to: they would be taken for a client's.
fn tunnel_port(service: &Service, world: &World, sink: &mut Vec<Diagnostic>) {
    if world.cluster.routing != Routing::Tunnel {
        return;
    }
    let tunnel = world.cluster.tunnel.port;
    for field in &service.fields {
        let ServiceField::Port(port) = &field.node else { continue };
        let Some(node_port) = port.node_port.as_ref().filter(|own| own.node == tunnel) else {
            continue;
        };
        if port.protocol != Some(Protocol::Udp) {
            continue;
        }
        let message = format!(
            "node port {tunnel}/udp of service {} is that of the cluster's tunnel",
            service.handle.node
        );
        sink.push(
            Diagnostic::error(codes::DUPLICATE_NODE_PORT, message, node_port.span)
                .note("packets between nodes come to it, and the service would take them all")
                .help("choose another one, or set the tunnel's `port`"),
        );
    }
}

fn node_ports(
    service: &Service,
    masqueraded: Option<&Spanned<(u16, u16)>>,
    sink: &mut Vec<Diagnostic>,
) {
    let ports = service.fields.iter().filter_map(|field| match &field.node {
        ServiceField::Port(port) => port.node_port.as_ref(),
        _ => None,
    });
    for port in ports {
        if let Some(range) = masqueraded.filter(|r| (r.node.0..=r.node.1).contains(&port.node)) {
            let message = format!("masquerading may take node port {}", port.node);
            sink.push(
                Diagnostic::warning(codes::MASQUERADED_NODE_PORT, message, port.span)
                    .also(range.span, "from this range")
                    .help("keep the two apart: while a flow has the port, its answers and packets for the service cannot be told apart"),
            );
        }
        if !NODE_PORTS.contains(&port.node) {
            let message = format!("node port {} is outside of 30000-32767", port.node);
            sink.push(
                Diagnostic::warning(codes::UNUSUAL_NODE_PORT, message, port.span).help(
                    "Kubernetes gives ports of that range, unless its API server is told another; others are the node's own",
                ),
            );
        }
    }
}

fn addresses(service: &Service, world: &World, sink: &mut Vec<Diagnostic>) {
    let lists = service.fields.iter().filter_map(|field| match &field.node {
        ServiceField::ClusterIp(list)
        | ServiceField::ExternalIp(list)
        | ServiceField::LoadBalancerIp(list) => Some(list),
        _ => None,
    });
    for address in lists.flatten() {
        let name = &service.handle.node;
        let holds = |node: &&Node| node.pod_cidrs.iter().any(|net| net.contains(&address.node));
        if address.node == LOOPBACK {
            let message = format!("{} of service {name} is the loopback of services", address.node);
            sink.push(
                Diagnostic::warning(codes::SERVICE_AMONG_PODS, message, address.span)
                    .note("a pod that reaches itself by a service sees its packets come from there")
                    .help("choose another address"),
            );
        } else if let Some(node) = world.nodes.iter().find(holds) {
            let message = format!(
                "{} of service {name} is among the pods of node {}",
                address.node, node.name
            );
            sink.push(
                Diagnostic::warning(codes::SERVICE_AMONG_PODS, message, address.span)
                    .also(node.span, "the node")
                    .help("a pod may be given the same address: choose one that no node's `pods` hold"),
            );
        }
    }
}

/// SCTP whose port would have to be rewritten, for some pod behind the service at least.
fn sctp_ports(written: &Service, world: &World, sink: &mut Vec<Diagnostic>) {
    let name = written.handle.node.to_string();
    let Some(service) = world.services.iter().find(|service| service.qualified() == name) else {
        return;
    };
    let is_behind =
        |pod: &&Pod| pod.namespace == service.namespace && service.selector.matches(&pod.labels);
    let pods = || world.pods.iter().filter(is_behind);
    for port in service.ports.iter().filter(|port| port.protocol == Protocol::Sctp) {
        let target = match &port.target {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Name(name) => {
                let named = |p: &&NamedPort| p.name == *name && p.protocol == Protocol::Sctp;
                let of = |pod: &Pod| pod.ports.iter().find(named).map(|p| p.port);
                pods().filter_map(of).find(|number| *number != port.port)
            }
        };
        let Some(target) = target.filter(|target| *target != port.port) else { continue };
        let message = format!("{}/sctp of service {name} would become {target}", port.port);
        sink.push(
            Diagnostic::warning(codes::SCTP_PORT_CHANGES, message, port.span)
                .note("no port of SCTP is rewritten: what is sent there is dropped (159)")
                .help("give service and pods the same port"),
        );
    }
}

/// Several ports of which not all have names.
fn port_names(service: &Service, sink: &mut Vec<Diagnostic>) {
    let ports = service.fields.iter().filter_map(|field| match &field.node {
        ServiceField::Port(port) => Some((port, field.span)),
        _ => None,
    });
    let ports: Vec<_> = ports.collect();
    let Some((_, span)) = ports.iter().find(|(port, _)| port.name.is_none()) else { return };
    if ports.len() > 1 {
        let message = format!("a port of service {} has no name", service.handle.node);
        sink.push(Diagnostic::warning(codes::UNNAMED_SERVICE_PORT, message, *span).help(
            "Kubernetes takes several ports with names only: `port http 80/tcp port https 443/tcp`",
        ));
    }
}

fn source_ranges(service: &Service, sink: &mut Vec<Diagnostic>) {
    let has_balancer = service.fields.iter().any(|field| match &field.node {
        ServiceField::LoadBalancerIp(list) => !list.is_empty(),
        _ => false,
    });
    let ranges = |field: &Spanned<ServiceField>| -> Option<Span> {
        matches!(&field.node, ServiceField::SourceRanges(_)).then_some(field.span)
    };
    let Some(span) = service.fields.iter().find_map(ranges).filter(|_| !has_balancer) else {
        return;
    };
    let message =
        format!("the source ranges of service {} hold for no address", service.handle.node);
    sink.push(Diagnostic::warning(codes::IDLE_SOURCE_RANGES, message, span).help(
        "they are for `load-balancer-ip`; who may use other addresses, the pods' policies say",
    ));
}
