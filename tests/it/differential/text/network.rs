//! The network of a scenario as text: settings of the cluster, and services.

use std::fmt::{self, Write};

use engine::topology::{
    Balancing, Cluster, Encryption, HostRouting, Routing, Service, TargetPort, TrafficPolicy,
};

use super::{list, selector};

/// Settings that are not what they would be anyway.
pub(super) fn settings(text: &mut String, cluster: &Cluster) -> fmt::Result {
    match cluster.routing {
        Routing::Native => writeln!(text, "  tunnel none")?,
        Routing::Tunnel => {
            writeln!(text, "  tunnel {} port {}", cluster.tunnel.kind, cluster.tunnel.port)?;
        }
    }
    if cluster.host_routing == HostRouting::Stack {
        writeln!(text, "  host-routing stack")?;
    }
    if !cluster.native_cidrs.is_empty() {
        writeln!(text, "  native-cidr {}", list(&cluster.native_cidrs))?;
    }
    let masquerade = &cluster.masquerade;
    if masquerade.on {
        let (first, last) = masquerade.ports;
        let except = match masquerade.except.as_slice() {
            [] => String::new(),
            some => format!(" except {}", list(some)),
        };
        writeln!(text, "  masquerade on{except} ports {first}-{last}")?;
    } else {
        writeln!(text, "  masquerade off")?;
    }
    if cluster.balancing == Balancing::Maglev {
        writeln!(text, "  balance maglev")?;
    }
    if cluster.host_firewall {
        writeln!(text, "  host-firewall on")?;
    }
    if !cluster.prefilter.is_empty() {
        writeln!(text, "  prefilter {}", list(&cluster.prefilter))?;
    }
    match cluster.encryption {
        Some(Encryption::Wireguard { nodes }) => {
            writeln!(text, "  encryption wireguard{}", if nodes { " nodes" } else { "" })
        }
        Some(Encryption::Ipsec { key }) => writeln!(text, "  encryption ipsec key {key}"),
        None => Ok(()),
    }
}

/// One service.
pub(super) fn service(text: &mut String, service: &Service) -> fmt::Result {
    let chosen = selector(&service.selector);
    writeln!(text, "service {} {{\n  select {chosen}", service.qualified())?;
    writeln!(text, "  cluster-ip {}", list(&service.cluster_ips))?;
    for (word, addresses) in
        [("external-ip", &service.external_ips), ("load-balancer-ip", &service.load_balancer_ips)]
    {
        if !addresses.is_empty() {
            writeln!(text, "  {word} {}", list(addresses))?;
        }
    }
    for port in &service.ports {
        write!(text, "  port {}/{}", port.port, port.protocol)?;
        match &port.target {
            TargetPort::Number(number) => write!(text, " -> {number}")?,
            TargetPort::Name(name) => write!(text, " -> {name}")?,
        }
        match port.node_port {
            Some(number) => writeln!(text, " node-port {number}")?,
            None => writeln!(text)?,
        }
    }
    if let Some(seconds) = service.affinity {
        writeln!(text, "  affinity client-ip timeout {seconds}s")?;
    }
    if let Some(balancing) = service.balancing {
        let word = if balancing == Balancing::Maglev { "maglev" } else { "random" };
        writeln!(text, "  balance {word}")?;
    }
    if !service.source_ranges.is_empty() {
        writeln!(text, "  source-ranges {}", list(&service.source_ranges))?;
    }
    for (word, policy) in
        [("internal", service.internal_traffic), ("external", service.external_traffic)]
    {
        if policy == TrafficPolicy::Local {
            writeln!(text, "  {word}-traffic local")?;
        }
    }
    writeln!(text, "}}")
}
