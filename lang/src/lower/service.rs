//! Services: addresses, ports and what they say of their pods.

use std::collections::BTreeMap;
use std::net::IpAddr;

use engine::diag::Diagnostic;
use engine::net::Protocol;
use engine::policy::Selector;
use engine::source::Span;
use engine::topology::{Balancing, Service, ServicePort, TargetPort, TrafficPolicy};
use ipnet::IpNet;

use super::world::Owners;
use super::{Lowering, pick};
use crate::ast::{self, Item, ServiceField, Spanned};
use crate::codes;

/// Who has a node port.
type NodePorts = BTreeMap<(Protocol, u16), (String, Span)>;

impl Lowering<'_> {
    /// Lowers every service. Behind nodes and pods, whose addresses no service may have.
    pub(super) fn services(&mut self, items: &[&Item], owners: &mut Owners) {
        let mut taken = NodePorts::new();
        for (service, span) in pick!(items, Service) {
            self.service(service, span, owners, &mut taken);
        }
    }

    fn service(
        &mut self,
        service: &ast::Service,
        span: Span,
        owners: &mut Owners,
        taken: &mut NodePorts,
    ) {
        let handle = &service.handle;
        let Some(namespace) = handle.node.namespace.clone() else {
            return self.needs_namespace("service", handle);
        };
        let name = handle.node.to_string();
        if !self.declare("service", &name, handle.span) {
            return;
        }
        if !self.check_namespace(&namespace, handle.span) {
            return self.lost.push(name);
        }
        let fields = self.service_fields(service);
        let headless = fields.cluster.as_ref().is_some_and(|c| c.node.is_empty());
        let Some(selector) = self.service_needs(&fields, handle, headless) else {
            return self.lost.push(name);
        };
        if headless {
            self.check_headless(&name, &fields);
        }
        self.check_ports(&name, &fields.ports, taken);
        let what = format!("service {name}");
        let cluster = fields.cluster.map(|c| c.node).unwrap_or_default();
        self.check_families(&what, &cluster);
        let [cluster_ips, external_ips, load_balancer_ips] =
            [cluster, list(fields.external), list(fields.load_balancer)]
                .map(|list| self.service_addresses(list, &what, owners));
        let ranges_span = fields.source_ranges.as_ref().map(|s| s.span).unwrap_or_default();
        let source_ranges = fields.source_ranges.map(|s| s.node).unwrap_or_default();
        let source_ranges = self.prefixes(&source_ranges);
        self.world.services.push(Service {
            namespace,
            name: handle.node.name.clone(),
            cluster_ips: by_family(cluster_ips),
            external_ips,
            load_balancer_ips,
            ports: fields.ports.iter().map(port).collect(),
            selector,
            affinity: fields.affinity.map(|a| a.node),
            balancing: fields.balancing.map(|b| b.node),
            source_ranges,
            ranges_span,
            internal_traffic: fields.internal.map(|i| i.node).unwrap_or_default(),
            external_traffic: fields.external_traffic.map(|e| e.node).unwrap_or_default(),
            span,
        });
    }

    fn service_fields(&mut self, service: &ast::Service) -> Fields {
        let mut fields = Fields::default();
        for field in &service.fields {
            let at = field.span;
            match &field.node {
                ServiceField::ClusterIp(list) => {
                    self.once(&mut fields.cluster, "cluster-ip", list.clone(), at);
                }
                ServiceField::ExternalIp(list) => {
                    self.once(&mut fields.external, "external-ip", list.clone(), at);
                }
                ServiceField::LoadBalancerIp(list) => {
                    self.once(&mut fields.load_balancer, "load-balancer-ip", list.clone(), at);
                }
                ServiceField::Port(port) => {
                    fields.ports.push(Spanned { node: port.clone(), span: at });
                }
                ServiceField::Select(selector) => {
                    self.once(&mut fields.select, "select", selector.clone(), at);
                }
                ServiceField::Affinity(seconds) => {
                    self.once(&mut fields.affinity, "affinity", *seconds, at);
                }
                ServiceField::Balance(balancing) => {
                    self.once(&mut fields.balancing, "balance", *balancing, at);
                }
                ServiceField::SourceRanges(list) => {
                    self.once(&mut fields.source_ranges, "source-ranges", list.clone(), at);
                }
                ServiceField::InternalTraffic(policy) => {
                    self.once(&mut fields.internal, "internal-traffic", *policy, at);
                }
                ServiceField::ExternalTraffic(policy) => {
                    self.once(&mut fields.external_traffic, "external-traffic", *policy, at);
                }
            }
        }
        fields
    }

    /// What no service goes without; gives its selector.
    fn service_needs(
        &mut self,
        fields: &Fields,
        handle: &Spanned<ast::Qualified>,
        headless: bool,
    ) -> Option<Selector> {
        let what = format!("service `{}`", handle.node);
        let missing = |field: &str| {
            let message = format!("{what} needs `{field}`");
            Diagnostic::error(codes::MISSING_FIELD, message, handle.span)
        };
        if fields.cluster.is_none() {
            let help = "write `cluster-ip ADDRESS`; `cluster-ip none` makes it headless: its name stands for its pods";
            self.report(missing("cluster-ip").help(help));
        }
        if fields.ports.is_empty() && !headless {
            self.report(missing("port").help("write `port 80/tcp`, or `port 80/tcp -> 8080`"));
        }
        let Some(select) = &fields.select else {
            let help = "write `select { app = \"echo\" }`: the labels of the pods behind it";
            self.report(missing("select").help(help));
            return None;
        };
        if select.node.requirements.is_empty() {
            let message = format!("{what} has an empty selector");
            self.report(
                Diagnostic::error(codes::EMPTY_SELECTOR, message, select.span)
                    .note("Kubernetes gives such a service no pods at all, while `{}` means every pod elsewhere")
                    .help("name a label that its pods have, as in `select { app }`"),
            );
            return None;
        }
        Some(select.node.clone())
    }

    /// What has no place to be without an address of the service's own.
    fn check_headless(&mut self, name: &str, fields: &Fields) {
        let node_ports = fields.ports.iter().filter_map(|p| p.node.node_port.as_ref());
        let given = [
            ("external-ip", fields.external.as_ref().map(|f| f.span)),
            ("load-balancer-ip", fields.load_balancer.as_ref().map(|f| f.span)),
            ("affinity", fields.affinity.as_ref().map(|f| f.span)),
            ("balance", fields.balancing.as_ref().map(|f| f.span)),
            ("source-ranges", fields.source_ranges.as_ref().map(|f| f.span)),
            ("internal-traffic", fields.internal.as_ref().map(|f| f.span)),
            ("external-traffic", fields.external_traffic.as_ref().map(|f| f.span)),
        ];
        let given = given.into_iter().filter_map(|(what, at)| Some((what, at?)));
        let given: Vec<_> = given.chain(node_ports.map(|p| ("node-port", p.span))).collect();
        for (field, at) in given {
            let message = format!("service `{name}` is headless and can have no `{field}`");
            let headless = fields.cluster.as_ref().map_or(at, |c| c.span);
            self.report(
                Diagnostic::error(codes::HEADLESS_FIELD, message, at)
                    .also(headless, "headless by this")
                    .help("remove it, or give the service a `cluster-ip` of its own"),
            );
        }
    }

    fn check_ports(
        &mut self,
        service: &str,
        ports: &[Spanned<ast::ServicePort>],
        taken: &mut NodePorts,
    ) {
        for (at, port) in ports.iter().enumerate() {
            let earlier = ports.get(..at).unwrap_or_default();
            self.check_port(service, port, earlier);
            let Some(node_port) = &port.node.node_port else { continue };
            let protocol = port.node.protocol.unwrap_or(Protocol::Tcp);
            let key = (protocol, node_port.node);
            if let Some((other, first)) = taken.get(&key) {
                let message = format!(
                    "node port {}/{protocol} of service {service} is that of service {other}",
                    node_port.node
                );
                let diagnostic =
                    Diagnostic::error(codes::DUPLICATE_NODE_PORT, message, node_port.span)
                        .also(*first, "taken here")
                        .help("a node port leads to one service on every node: choose another");
                self.report(diagnostic);
                continue;
            }
            taken.insert(key, (service.to_owned(), node_port.span));
        }
    }

    /// A port beside those before it: number and protocol are its own, and so is its name.
    fn check_port(
        &mut self,
        service: &str,
        port: &Spanned<ast::ServicePort>,
        earlier: &[Spanned<ast::ServicePort>],
    ) {
        let protocol = |p: &ast::ServicePort| p.protocol.unwrap_or(Protocol::Tcp);
        let same = |other: &&Spanned<ast::ServicePort>| {
            (other.node.number.node, protocol(&other.node))
                == (port.node.number.node, protocol(&port.node))
        };
        if let Some(first) = earlier.iter().find(same) {
            let message = format!(
                "service {service} has port {}/{} twice",
                port.node.number.node,
                protocol(&port.node)
            );
            self.report(
                Diagnostic::error(codes::DUPLICATE_SERVICE_PORT, message, port.node.number.span)
                    .also(first.node.number.span, "the first one"),
            );
        }
        if let Some(Spanned { node: ast::TargetPort::Named(target), span }) = &port.node.target {
            self.check_port_name(target, *span);
        }
        let Some(name) = &port.node.name else { return };
        self.check_port_name(&name.node, name.span);
        let mut named = earlier.iter().filter_map(|p| p.node.name.as_ref());
        if let Some(first) = named.find(|other| other.node == name.node) {
            let message = format!("service {service} has two ports named `{}`", name.node);
            self.report(
                Diagnostic::error(codes::DUPLICATE_SERVICE_PORT, message, name.span)
                    .also(first.span, "the first one")
                    .help("in Kubernetes too each port of a service has a name of its own"),
            );
        }
    }

    /// Addresses that are the service's. Where nodes list one as `local`, it is the service's now.
    fn service_addresses(
        &mut self,
        list: Vec<Spanned<IpAddr>>,
        what: &str,
        owners: &mut Owners,
    ) -> Vec<IpAddr> {
        for address in &list {
            let nodes = &mut self.world.nodes;
            if nodes.iter().any(|n| n.addresses.contains(&address.node)) {
                continue;
            }
            for node in nodes.iter_mut().filter(|n| n.locals.contains(&address.node)) {
                node.locals.retain(|local| *local != address.node);
                owners.remove(&address.node);
            }
        }
        self.own(list, what, owners)
    }
}

fn list(field: Option<Spanned<Vec<Spanned<IpAddr>>>>) -> Vec<Spanned<IpAddr>> {
    field.map(|f| f.node).unwrap_or_default()
}

/// IPv4 first.
fn by_family(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup_by_key(|a| a.is_ipv6());
    addresses
}

fn target(port: &ast::ServicePort) -> Option<TargetPort> {
    port.target.as_ref().map(|target| match &target.node {
        ast::TargetPort::Number(number) => TargetPort::Number(*number),
        ast::TargetPort::Named(name) => TargetPort::Name(name.clone()),
    })
}

fn port(written: &Spanned<ast::ServicePort>) -> ServicePort {
    let port = &written.node;
    ServicePort {
        name: port.name.as_ref().map(|n| n.node.clone()),
        port: port.number.node,
        protocol: port.protocol.unwrap_or(Protocol::Tcp),
        target: target(port).unwrap_or(TargetPort::Number(port.number.node)),
        node_port: port.node_port.as_ref().map(|p| p.node),
        span: written.span,
    }
}

/// What a service's block gives.
#[derive(Default)]
struct Fields {
    cluster: Option<Spanned<Vec<Spanned<IpAddr>>>>,
    external: Option<Spanned<Vec<Spanned<IpAddr>>>>,
    load_balancer: Option<Spanned<Vec<Spanned<IpAddr>>>>,
    ports: Vec<Spanned<ast::ServicePort>>,
    select: Option<Spanned<Selector>>,
    affinity: Option<Spanned<u32>>,
    balancing: Option<Spanned<Balancing>>,
    source_ranges: Option<Spanned<Vec<Spanned<IpNet>>>>,
    internal: Option<Spanned<TrafficPolicy>>,
    external_traffic: Option<Spanned<TrafficPolicy>>,
}
