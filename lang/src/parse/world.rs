//! Statements of the world: cluster, node, namespace, pod, external, identity, alias, include. Services are
//! `service`'s, settings of the cluster `setting`'s.

use engine::diag::Diagnostic;

use super::value::{self, Sink, address, addresses, number, unsupported};
use super::{Chunk, Reader, Rule, Tree, question, service, setting};
use crate::ast::{
    Alias, Cluster, ClusterField, External, ExternalField, IdentityField, IdentityPin, ItemKind,
    Label, Name, Namespace, Node, NodeField, Pod, PodField, Spanned,
};

impl Reader<'_> {
    /// Reads a statement of the world by its first word.
    pub(super) fn world(&mut self, word: &str, chunk: &Chunk) -> Option<ItemKind> {
        let rule = match word {
            "cluster" => Rule::cluster_statement,
            "node" => Rule::node_statement,
            "namespace" => Rule::namespace_statement,
            "pod" => Rule::pod_statement,
            "service" => Rule::service_statement,
            "external" => Rule::external_statement,
            "identity" => Rule::identity_statement,
            "alias" => Rule::alias_statement,
            _ => Rule::include_statement,
        };
        let tree = self.grammar(rule, chunk.range.clone())?;
        let sink = &mut self.diagnostics;
        match rule {
            Rule::cluster_statement => cluster(&tree, sink).map(ItemKind::Cluster),
            Rule::node_statement => node(&tree.child(Rule::node)?, sink).map(ItemKind::Node),
            Rule::namespace_statement => namespace(&tree).map(ItemKind::Namespace),
            Rule::pod_statement => pod(&tree, sink).map(ItemKind::Pod),
            Rule::service_statement => service::read(&tree, sink).map(ItemKind::Service),
            Rule::external_statement => external(&tree, sink).map(ItemKind::External),
            Rule::identity_statement => identity(&tree, sink).map(ItemKind::Identity),
            Rule::alias_statement => alias(&tree, sink).map(ItemKind::Alias),
            _ => value::string_in(&tree).map(ItemKind::Include),
        }
    }
}

pub(super) fn name(tree: &Tree<'_>) -> Option<Name> {
    Some(tree.child(Rule::name)?.name())
}

/// Fields of a block, each read by `read`; unsupported ones are reported and left out.
pub(super) fn fields<T>(
    tree: &Tree<'_>,
    rule: Rule,
    sink: Sink<'_>,
    read: impl Fn(&Tree<'_>, &mut Vec<Diagnostic>) -> Option<T>,
) -> Option<Vec<Spanned<T>>> {
    let mut fields = Vec::new();
    for field in tree.all(rule) {
        let kind = field.only()?;
        if is_later(kind.rule()) {
            let word = kind.only().map_or("", |w| w.text());
            let word = if word.is_empty() { super::first_word(kind.text()) } else { word };
            sink.push(unsupported(&format!("`{word}`"), kind.span()));
        } else {
            fields.push(kind.at(read(&kind, sink)?));
        }
    }
    Some(fields)
}

fn is_later(rule: Rule) -> bool {
    matches!(rule, Rule::unsupported_setting | Rule::unsupported_pod_field)
}

fn cluster(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Cluster> {
    let fields = fields(tree, Rule::cluster_field, sink, |field, sink| match field.rule() {
        Rule::node => node(field, sink).map(ClusterField::Node),
        _ => setting::read(field, sink),
    })?;
    Some(Cluster { name: name(tree)?, fields })
}

fn node(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Node> {
    let fields = fields(tree, Rule::node_field, sink, |field, sink| {
        Some(match field.rule() {
            Rule::node_ip => NodeField::Ip(addresses(field, sink)?),
            Rule::node_local => NodeField::Local(addresses(field, sink)?),
            Rule::node_pods => NodeField::Pods(value::prefixes(field, sink)?),
            Rule::device => NodeField::Device(value::device(field, sink)?),
            Rule::labels => NodeField::Labels(labels(field)?),
            Rule::node_health => NodeField::Health(addresses(field, sink)?),
            _ => NodeField::Mac(value::mac(field, sink)?),
        })
    })?;
    Some(Node { name: name(tree)?, fields })
}

fn namespace(tree: &Tree<'_>) -> Option<Namespace> {
    let fields = tree.all(Rule::labels).map(|l| Some(l.at(labels(&l)?))).collect::<Option<_>>()?;
    Some(Namespace { name: name(tree)?, fields })
}

/// The labels of a `labels { ... }` field.
pub(super) fn labels(tree: &Tree<'_>) -> Option<Vec<Label>> {
    tree.all(Rule::label)
        .map(|label| {
            let key = label.child(Rule::label_key)?.name();
            Some(Label { key, value: label_value(&label.child(Rule::label_value)?)? })
        })
        .collect()
}

/// A value in quotes or, as kubectl prints it, without.
pub(super) fn label_value(tree: &Tree<'_>) -> Option<Name> {
    let value = tree.only()?;
    Some(if value.rule() == Rule::string { value::string(&value) } else { value.name() })
}

fn pod(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Pod> {
    let handle = value::qualified(&tree.child(Rule::qualified)?);
    let fields = fields(tree, Rule::pod_field, sink, pod_field)?;
    Some(Pod { handle, node: name(tree)?, fields })
}

fn pod_field(field: &Tree<'_>, sink: Sink<'_>) -> Option<PodField> {
    Some(match field.rule() {
        Rule::pod_ip => PodField::Ip(addresses(field, sink)?),
        Rule::labels => PodField::Labels(labels(field)?),
        Rule::pod_port => pod_port(field, sink)?,
        Rule::mac_field => PodField::Mac(value::mac(field, sink)?),
        Rule::host_mac => PodField::HostMac(value::mac(field, sink)?),
        Rule::interface => PodField::Interface(value::device(field, sink)?),
        Rule::ifindex => {
            let index = value::positive(
                &field.child(Rule::number)?,
                "an interface index",
                0x7fff_ffff,
                sink,
            )?;
            PodField::Ifindex(index)
        }
        Rule::endpoint => PodField::Endpoint(value::positive(
            &field.child(Rule::number)?,
            "an endpoint id",
            65_535,
            sink,
        )?),
        Rule::k_not_ready => PodField::NotReady,
        Rule::k_terminating => PodField::Terminating,
        _ => PodField::HostNetwork,
    })
}

fn pod_port(field: &Tree<'_>, sink: Sink<'_>) -> Option<PodField> {
    let (number, protocol) = value::port_number(&field.child(Rule::port_number)?, sink)?;
    Some(PodField::Port { name: name(field)?, number, protocol })
}

fn external(tree: &Tree<'_>, sink: Sink<'_>) -> Option<External> {
    let fields = fields(tree, Rule::external_field, sink, external_field)?;
    Some(External { name: name(tree)?, fields })
}

fn external_field(field: &Tree<'_>, sink: Sink<'_>) -> Option<ExternalField> {
    if field.rule() != Rule::external_dns {
        return addresses(field, sink).map(ExternalField::Ip);
    }
    let ttl = match field.child(Rule::dns_ttl) {
        Some(ttl) => Some(dns_ttl(&ttl.child(Rule::duration)?, sink)?),
        None => None,
    };
    Some(ExternalField::Dns { name: value::string_in(field)?, ttl })
}

/// Seconds that an answer holds: 31 bits of them (RFC 2181 8).
fn dns_ttl(written: &Tree<'_>, sink: Sink<'_>) -> Option<u32> {
    const LONGEST: u32 = 0x7fff_ffff;
    let (amount, unit) = value::duration(written, sink)?;
    let seconds = u32::try_from(value::seconds(amount, unit)).ok().filter(|s| *s <= LONGEST);
    if seconds.is_none() {
        let max = u64::from(LONGEST);
        let what = "a time to live in seconds";
        sink.push(value::out_of_range(written.text(), what, max, written.span()));
    }
    seconds
}

fn identity(tree: &Tree<'_>, sink: Sink<'_>) -> Option<IdentityPin> {
    let written = tree.child(Rule::number)?;
    let number = written.at(number(&written, "an identity", u64::from(u32::MAX), sink)?);
    let fields = fields(tree, Rule::identity_field, sink, |field, _| {
        Some(match field.rule() {
            Rule::identity_namespace => IdentityField::Namespace(name(field)?),
            _ => IdentityField::Labels(labels(field)?),
        })
    })?;
    Some(IdentityPin { number, fields })
}

fn alias(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Alias> {
    let target = question::party(&tree.child(Rule::party)?, sink)?;
    Some(Alias { name: name(tree)?, target })
}

/// An address among a node's children.
pub(super) fn address_in(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Spanned<std::net::IpAddr>> {
    let written = tree.child(Rule::address).or_else(|| tree.child(Rule::ip6))?;
    address(&written, sink)
}
