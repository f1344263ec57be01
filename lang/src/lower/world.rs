//! Cluster, nodes, namespaces, pods, externals, identities and aliases.

use std::collections::BTreeMap;
use std::net::IpAddr;

use engine::diag::Diagnostic;
use engine::dns::DnsName;
use engine::net::Protocol;
use engine::source::Span;
use engine::topology::{
    Alias, DnsFact, External, ExternalId, IdentityPin, Labels, NamedPort, Namespace, Node, NodeId,
    Party, Pod, Readiness,
};
use ipnet::IpNet;

use super::{Lowering, lint, pick};
use crate::ast::{self, IdentityField, Item, Label, Name, NodeField, PodField, Spanned};
use crate::codes;
use crate::resolve;

/// The label that Kubernetes gives every namespace.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Who has an address, and where it says so.
pub(super) type Owners = BTreeMap<IpAddr, (String, Span)>;

impl Lowering<'_> {
    /// Lowers everything but policies and tests.
    pub(super) fn world(&mut self, items: &[&Item]) {
        let mut owners = Owners::new();
        let mut clusters = pick!(items, Cluster).into_iter();
        if let Some((first, span)) = clusters.next() {
            self.cluster(first, span, &mut owners);
            for (another, _) in clusters {
                let message = format!("`{}` is a second cluster", another.name.node);
                self.report(
                    Diagnostic::error(codes::DUPLICATE_NAME, message, another.name.span)
                        .also(first.name.span, "the first is declared here")
                        .help("a world has one cluster; load files of different worlds one after the other"),
                );
            }
        }
        for (node, span) in pick!(items, Node) {
            self.node(node, span, &mut owners);
        }
        self.check_pod_prefixes();
        self.check_node_addresses(&owners);
        for (namespace, span) in pick!(items, Namespace) {
            self.namespace(namespace, span);
        }
        for (pod, span) in pick!(items, Pod) {
            self.pod(pod, span, &mut owners);
        }
        self.services(items, &mut owners);
        for (external, span) in pick!(items, External) {
            self.external(external, span, &mut owners);
        }
        for (pin, span) in pick!(items, Identity) {
            self.pin(pin, span);
        }
        for (alias, span) in pick!(items, Alias) {
            self.alias(alias, span);
        }
    }

    pub(super) fn node(&mut self, node: &ast::Node, span: Span, owners: &mut Owners) {
        if !self.declare("node", &node.name.node, node.name.span) {
            return;
        }
        let [mut ip, mut local] = [None, None];
        let (mut pods, mut device, mut mac) = (None, None, None);
        let (mut labels, mut health) = (None, None);
        for field in &node.fields {
            let at = field.span;
            match &field.node {
                NodeField::Ip(list) => self.once(&mut ip, "ip", list.clone(), at),
                NodeField::Local(list) => self.once(&mut local, "local", list.clone(), at),
                NodeField::Pods(list) => self.once(&mut pods, "pods", list.clone(), at),
                NodeField::Device(name) => self.once(&mut device, "device", name.node.clone(), at),
                NodeField::Mac(value) => self.once(&mut mac, "mac", *value, at),
                NodeField::Labels(list) => self.once(&mut labels, "labels", list.clone(), at),
                NodeField::Health(list) => self.once(&mut health, "health", list.clone(), at),
            }
        }
        let what = format!("node {}", node.name.node);
        let addresses = match ip {
            Some(list) => self.own(list.node, &what, owners),
            None => {
                self.missing(&format!("node `{}`", node.name.node), "ip", node.name.span);
                Vec::new()
            }
        };
        let locals = self.locals(local.map(|l| l.node).unwrap_or_default(), &what, owners);
        let prefixes = pods.map(|p| p.node).unwrap_or_default();
        let pod_cidrs = self.prefixes(&prefixes);
        let health = match health {
            Some(list) => self.health(&list, &node.name, &pod_cidrs, owners),
            None => Vec::new(),
        };
        let labels = labels.map(|l| self.labels(&l.node)).unwrap_or_default();
        self.world.nodes.push(Node {
            name: node.name.node.clone(),
            addresses,
            pod_cidrs,
            locals,
            device: device.map_or_else(|| "eth0".into(), |d| d.node),
            mac: mac.map(|m| m.node),
            labels,
            health,
            span,
        });
    }

    /// The addresses of a node's health endpoint, which are like those of a pod.
    fn health(
        &mut self,
        list: &Spanned<Vec<Spanned<IpAddr>>>,
        node: &Name,
        pod_cidrs: &[IpNet],
        owners: &mut Owners,
    ) -> Vec<IpAddr> {
        let what = format!("health endpoint of node {}", node.node);
        self.check_families(&what, &list.node);
        for address in &list.node {
            lint::health_address(&node.node, pod_cidrs, address, &mut self.diagnostics);
        }
        let own = self.own(list.node.clone(), &what, owners);
        one_of_each_family(&own)
    }

    /// Takes addresses for an owner; those that another has are reported and left out.
    pub(super) fn own(
        &mut self,
        list: Vec<Spanned<IpAddr>>,
        owner: &str,
        owners: &mut Owners,
    ) -> Vec<IpAddr> {
        let mut own = Vec::new();
        for address in list {
            match owners.get(&address.node) {
                Some((other, first)) => {
                    let message = format!("{owner} has the address {} of {other}", address.node);
                    let diagnostic =
                        Diagnostic::error(codes::DUPLICATE_ADDRESS, message, address.span)
                            .also(*first, format!("{other} has it here"));
                    self.report(diagnostic);
                }
                None => {
                    owners.insert(address.node, (owner.to_owned(), address.span));
                    own.push(address.node);
                }
            }
        }
        own
    }

    /// Local addresses may be on several nodes (service addresses are), but on nothing else.
    fn locals(
        &mut self,
        list: Vec<Spanned<IpAddr>>,
        owner: &str,
        owners: &mut Owners,
    ) -> Vec<IpAddr> {
        let (shared, rest): (Vec<_>, Vec<_>) = list.into_iter().partition(|address| {
            let elsewhere = |n: &Node| n.locals.contains(&address.node);
            self.world.nodes.iter().any(elsewhere)
        });
        let mut locals = self.own(rest, owner, owners);
        locals.extend(shared.into_iter().map(|a| a.node));
        locals
    }

    /// The prefix, unless it has host bits set.
    pub(super) fn prefix(&mut self, written: &Spanned<IpNet>) -> Option<IpNet> {
        let net = written.node;
        if net == net.trunc() {
            return Some(net);
        }
        let message = format!("`{net}` has bits set behind its length");
        let right = net.trunc();
        self.report(Diagnostic::error(codes::HOST_BITS, message, written.span).fix(
            format!("the prefix is `{right}`"),
            written.span,
            right.to_string(),
        ));
        None
    }

    fn namespace(&mut self, namespace: &ast::Namespace, span: Span) {
        let name = &namespace.name;
        if !self.declare("namespace", &name.node, name.span) {
            return;
        }
        let mut given = None;
        for field in &namespace.fields {
            self.once(&mut given, "labels", field.node.clone(), field.span);
        }
        let mut labels = self.labels(&given.map(|g| g.node).unwrap_or_default());
        labels.entry(NAMESPACE_NAME_LABEL.into()).or_insert_with(|| name.node.clone());
        self.world.namespaces.push(Namespace { name: name.node.clone(), labels, span });
    }

    fn labels(&mut self, written: &[Label]) -> Labels {
        let mut labels = Labels::new();
        for label in written {
            let key = &label.key.node;
            if let Some(first) = written.iter().find(|l| l.key.node == *key)
                && first.key.span != label.key.span
            {
                let what = format!("label `{key}`");
                self.report(codes::twice(&what, label.key.span, first.key.span));
                continue;
            }
            labels.insert(key.clone(), label.value.node.clone());
        }
        labels
    }

    fn pod(&mut self, pod: &ast::Pod, span: Span, owners: &mut Owners) {
        let handle = &pod.handle;
        let Some(namespace) = handle.node.namespace.clone() else {
            self.needs_namespace("pod", handle);
            return;
        };
        if !self.declare("pod", &handle.node.to_string(), handle.span) {
            return;
        }
        let known = self.check_namespace(&namespace, handle.span);
        let Some(node) = self.node_named(&pod.node).filter(|_| known) else {
            self.lost.push(handle.node.to_string());
            return;
        };
        let fields = self.pod_fields(pod);
        let addresses = self.pod_addresses(pod, &fields, node, owners);
        let lowered = Pod {
            namespace,
            name: handle.node.name.clone(),
            node,
            addresses,
            labels: fields.labels.map(|l| self.labels(&l.node)).unwrap_or_default(),
            mac: fields.mac.map(|m| m.node),
            host_mac: fields.host_mac.map(|m| m.node),
            interface: fields.interface.map(|i| i.node),
            ifindex: fields.ifindex.map(|i| i.node),
            endpoint_id: fields.endpoint.map(|e| e.node),
            host_network: fields.host_network.is_some(),
            readiness: fields.readiness.map(|r| r.node).unwrap_or_default(),
            ports: fields.ports,
            span,
        };
        self.check_pins(&lowered, pod.handle.span);
        lint::pod_address(&self.world, &lowered, pod.handle.span, &mut self.diagnostics);
        self.world.pods.push(lowered);
    }

    /// The node of a name; an unknown one is reported.
    pub(super) fn node_named(&mut self, name: &Name) -> Option<NodeId> {
        let found = self.world.nodes().find(|(_, n)| n.name == name.node).map(|(id, _)| id);
        if found.is_none() {
            let known: Vec<String> = self.world.nodes.iter().map(|n| n.name.clone()).collect();
            self.unknown(codes::UNKNOWN_NODE, "node", &name.node, name.span, &known);
        }
        found
    }

    pub(super) fn needs_namespace(&mut self, kind: &str, handle: &Spanned<ast::Qualified>) {
        let message = format!("{kind} `{}` needs a namespace", handle.node);
        let diagnostic = Diagnostic::error(codes::NAMESPACED, message, handle.span);
        let only = match self.world.namespaces.as_slice() {
            [only] => only.name.as_str(),
            _ => "NAMESPACE",
        };
        let text = format!("{only}/{}", handle.node);
        self.report(diagnostic.fix(format!("write `{text}`"), handle.span, text));
    }

    fn pod_fields(&mut self, pod: &ast::Pod) -> PodFields {
        let mut fields = PodFields::default();
        for field in &pod.fields {
            let at = field.span;
            match &field.node {
                PodField::Ip(list) => self.once(&mut fields.ip, "ip", list.clone(), at),
                PodField::Labels(list) => self.once(&mut fields.labels, "labels", list.clone(), at),
                PodField::Mac(mac) => self.once(&mut fields.mac, "mac", *mac, at),
                PodField::HostMac(mac) => self.once(&mut fields.host_mac, "host-mac", *mac, at),
                PodField::Interface(name) => {
                    self.once(&mut fields.interface, "interface", name.node.clone(), at);
                }
                PodField::Ifindex(index) => self.once(&mut fields.ifindex, "ifindex", *index, at),
                PodField::Endpoint(id) => self.once(&mut fields.endpoint, "endpoint", *id, at),
                PodField::HostNetwork => {
                    self.once(&mut fields.host_network, "host-network", (), at);
                }
                PodField::NotReady => self.readiness(&mut fields, Readiness::NotReady, at),
                PodField::Terminating => self.readiness(&mut fields, Readiness::Terminating, at),
                PodField::Port { name, number, protocol } => {
                    self.named_port(&mut fields.ports, name, number.node, *protocol);
                }
            }
        }
        fields
    }

    fn readiness(&mut self, fields: &mut PodFields, given: Readiness, at: Span) {
        let first = fields.readiness.get_or_insert(Spanned { node: given, span: at });
        if first.span != at {
            let message = "a pod is either `not-ready` or `terminating`, once";
            self.report(
                Diagnostic::error(codes::DUPLICATE_FIELD, message, at)
                    .also(first.span, "beside this")
                    .help("`terminating` keeps the flows it has, `not-ready` is no backend at all"),
            );
        }
    }

    fn named_port(
        &mut self,
        ports: &mut Vec<NamedPort>,
        name: &Name,
        port: u16,
        protocol: Option<Protocol>,
    ) {
        let protocol = protocol.unwrap_or(Protocol::Tcp);
        if !self.check_port_name(&name.node, name.span) {
            return;
        }
        if ports.iter().any(|p| p.name == name.node && p.protocol == protocol) {
            let message = format!("port `{}` is given twice", name.node);
            self.error(codes::DUPLICATE_FIELD, message, name.span);
            return;
        }
        ports.push(NamedPort { name: name.node.clone(), port, protocol });
    }

    /// Whether a port can have this name; reports it if not.
    pub(super) fn check_port_name(&mut self, name: &str, span: Span) -> bool {
        let Some(why) = not_a_port_name(name) else { return true };
        let message = format!("`{name}` cannot be the name of a port");
        self.report(
            Diagnostic::error(codes::BAD_PORT_NAME, message, span)
                .label(why)
                .help("take one such as `http`: up to 15 small letters, digits and single `-`, with a letter among them"),
        );
        false
    }

    fn pod_addresses(
        &mut self,
        pod: &ast::Pod,
        fields: &PodFields,
        node: NodeId,
        owners: &mut Owners,
    ) -> Vec<IpAddr> {
        let what = format!("pod {}", pod.handle.node);
        if let Some(host) = &fields.host_network {
            self.check_host_network(&what, fields, host.span);
            let addresses = self.world.node(node).map(|n| n.addresses.clone()).unwrap_or_default();
            return one_of_each_family(&addresses);
        }
        let Some(list) = &fields.ip else {
            self.missing(&format!("pod `{}`", pod.handle.node), "ip", pod.handle.span);
            return Vec::new();
        };
        self.check_families(&what, &list.node);
        let own = self.own(list.node.clone(), &what, owners);
        one_of_each_family(&own)
    }

    /// At most one address of each family.
    pub(super) fn check_families(&mut self, what: &str, list: &[Spanned<IpAddr>]) {
        for family in [false, true] {
            let mut same = list.iter().filter(|a| a.node.is_ipv6() == family);
            if let (Some(first), Some(second)) = (same.next(), same.next()) {
                let family = if family { "IPv6" } else { "IPv4" };
                let message = format!("{what} has two {family} addresses");
                self.report(
                    Diagnostic::error(codes::TWO_OF_FAMILY, message, second.span)
                        .also(first.span, "the first one"),
                );
            }
        }
    }

    fn check_host_network(&mut self, what: &str, fields: &PodFields, host: Span) {
        let given = [
            (fields.ip.as_ref().map(|f| f.span), "ip"),
            (fields.mac.as_ref().map(|f| f.span), "mac"),
            (fields.host_mac.as_ref().map(|f| f.span), "host-mac"),
            (fields.interface.as_ref().map(|f| f.span), "interface"),
            (fields.ifindex.as_ref().map(|f| f.span), "ifindex"),
            (fields.endpoint.as_ref().map(|f| f.span), "endpoint"),
        ];
        for (span, field) in given {
            if let Some(span) = span {
                let message =
                    format!("{what} is on the host network and has no `{field}` of its own");
                self.report(
                    Diagnostic::error(codes::HOST_NETWORK, message, span)
                        .also(host, "on the host network"),
                );
            }
        }
    }

    fn check_pins(&mut self, pod: &Pod, span: Span) {
        let mut problems = Vec::new();
        for other in self.world.pods.iter().filter(|o| o.node == pod.node) {
            let clash = |field: &str, value: String| {
                let message = format!(
                    "{field} {value} of pod {} is that of pod {}",
                    pod.qualified(),
                    other.qualified()
                );
                Diagnostic::error(codes::DUPLICATE_PIN, message, span)
                    .also(other.span, "the other pod")
            };
            if let Some(id) = pod.endpoint_id.filter(|id| other.endpoint_id == Some(*id)) {
                problems.push(clash("endpoint id", id.to_string()));
            }
            if let Some(index) = pod.ifindex.filter(|index| other.ifindex == Some(*index)) {
                problems.push(clash("interface index", index.to_string()));
            }
            if let Some(name) =
                pod.interface.as_ref().filter(|name| other.interface.as_ref() == Some(*name))
            {
                problems.push(clash("interface", format!("`{name}`")));
            }
        }
        self.diagnostics.extend(problems);
    }

    fn external(&mut self, external: &ast::External, span: Span, owners: &mut Owners) {
        let name = &external.name;
        if !self.declare("external", &name.node, name.span) {
            return;
        }
        let mut ip = None;
        let mut names: Vec<DnsFact> = Vec::new();
        let mut said: BTreeMap<DnsName, Span> = BTreeMap::new();
        for field in &external.fields {
            match &field.node {
                ast::ExternalField::Ip(list) => {
                    self.once(&mut ip, "ip", list.clone(), field.span);
                }
                ast::ExternalField::Dns { name, ttl } => {
                    let Some(known) = self.dns_name(name) else { continue };
                    if let Some(first) = said.insert(known.clone(), field.span) {
                        let what = format!("the name `{known}`");
                        self.report(codes::twice(&what, field.span, first));
                    } else {
                        names.push(DnsFact { name: known, ttl: *ttl });
                    }
                }
            }
        }
        let Some(list) = ip else {
            self.missing(&format!("external `{}`", name.node), "ip", name.span);
            return;
        };
        let addresses = self.own(list.node, &format!("external {}", name.node), owners);
        self.world.externals.push(External { name: name.node.clone(), addresses, names, span });
    }

    fn dns_name(&mut self, name: &ast::Name) -> Option<DnsName> {
        match DnsName::parse(&name.node) {
            Ok(known) => Some(known),
            Err(why) => {
                self.report(super::rule::bad_name(name, &why));
                None
            }
        }
    }

    fn pin(&mut self, pin: &ast::IdentityPin, span: Span) {
        let number = pin.number.node;
        let range =
            engine::identity::Identity::FIRST_CLUSTER..=engine::identity::Identity::LAST_CLUSTER;
        if !range.contains(&number) {
            let message = format!("{number} cannot be the identity of pods");
            self.report(
                Diagnostic::error(codes::IDENTITY_RANGE, message, pin.number.span).label(format!(
                    "must be from {} to {}",
                    range.start(),
                    range.end()
                )),
            );
            return;
        }
        if !self.declare("identity", &number.to_string(), pin.number.span) {
            return;
        }
        let (mut namespace, mut labels) = (None, None);
        for field in &pin.fields {
            match &field.node {
                IdentityField::Namespace(name) => {
                    self.once(&mut namespace, "namespace", name.clone(), field.span);
                }
                IdentityField::Labels(list) => {
                    self.once(&mut labels, "labels", list.clone(), field.span);
                }
            }
        }
        let what = format!("identity {number}");
        let Some(namespace) = namespace else {
            return self.missing(&what, "namespace", pin.number.span);
        };
        let Some(labels) = labels else { return self.missing(&what, "labels", pin.number.span) };
        self.check_namespace(&namespace.node.node, namespace.node.span);
        let labels = self.labels(&labels.node);
        let pairs: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let class = format!("{{{}}} in {}", pairs.join(", "), namespace.node.node);
        if self.declare("identity of", &class, span) {
            let namespace = namespace.node.node;
            self.world.pins.push(IdentityPin { number, namespace, labels, span });
        }
    }

    /// Everybody whom a bare name may stand for without any alias.
    fn bearers(&self, name: &str) -> Vec<(Party, String, Span)> {
        let world = &self.world;
        let pods = world.pods().filter(|(_, p)| p.name == name);
        let nodes = world.nodes().filter(|(_, n)| n.name == name);
        let externals = (0..).map(ExternalId).zip(&world.externals).filter(|(_, e)| e.name == name);
        let pods = pods.map(|(id, p)| (Party::Pod(id), format!("pod {}", p.qualified()), p.span));
        let nodes = nodes.map(|(id, n)| (Party::Node(id), format!("node {name}"), n.span));
        let externals =
            externals.map(|(id, e)| (Party::External(id), format!("external {name}"), e.span));
        let services = world.services().filter(|(_, s)| s.name == name);
        let services = services
            .map(|(id, s)| (Party::Service(id), format!("service {}", s.qualified()), s.span));
        pods.chain(services).chain(nodes).chain(externals).collect()
    }

    fn alias(&mut self, alias: &ast::Alias, span: Span) {
        let name = &alias.name;
        if !self.declare("alias", &name.node, name.span) {
            return;
        }
        let target = match resolve::party(&self.world, &alias.target) {
            Ok(target) => target,
            Err(problem) => return self.report_endpoint(problem, &[&alias.target]),
        };
        // An alias may choose one of several that have the name, but never mean somebody else by it.
        let bearers = self.bearers(&name.node);
        if let Some((_, what, first)) = bearers.first()
            && !bearers.iter().any(|(party, ..)| *party == target)
        {
            let message = format!("`{}` is the name of {what} already", name.node);
            self.report(
                Diagnostic::error(codes::DUPLICATE_NAME, message, name.span)
                    .also(*first, "declared here")
                    .help("a bare name leads to one party only: give the alias another name"),
            );
            return;
        }
        self.world.aliases.push(Alias { name: name.node.clone(), target, span });
    }
}

/// Why Kubernetes refuses a name for a port (IANA's rule for service names, RFC 6335 5.1), where it does. What the
/// grammar takes for a name ends in no `-` already.
fn not_a_port_name(name: &str) -> Option<&'static str> {
    const LONGEST: usize = 15;
    let is_foreign = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if name.contains(is_foreign) {
        Some("only small letters, digits and `-`")
    } else if !name.contains(|c: char| c.is_ascii_lowercase()) {
        Some("without a letter it would be a number")
    } else if name.contains("--") {
        Some("no two `-` in a row")
    } else if name.len() > LONGEST {
        Some("more than 15 characters")
    } else {
        None
    }
}

/// The first address of each family, IPv4 first.
fn one_of_each_family(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let of = |v6: bool| addresses.iter().find(|a| a.is_ipv6() == v6).copied();
    of(false).into_iter().chain(of(true)).collect()
}

/// What a pod's block gives.
#[derive(Default)]
struct PodFields {
    ip: Option<Spanned<Vec<Spanned<IpAddr>>>>,
    labels: Option<Spanned<Vec<Label>>>,
    mac: Option<Spanned<engine::net::Mac>>,
    host_mac: Option<Spanned<engine::net::Mac>>,
    interface: Option<Spanned<String>>,
    ifindex: Option<Spanned<u32>>,
    endpoint: Option<Spanned<u16>>,
    host_network: Option<Spanned<()>>,
    readiness: Option<Spanned<Readiness>>,
    ports: Vec<NamedPort>,
}
