//! Service statements.

use engine::diag::Diagnostic;
use engine::topology::TrafficPolicy;

use super::value::{self, Sink, addresses};
use super::world::{fields, name};
use super::{Rule, Tree, policy, setting};
use crate::ast::{Service, ServiceField, ServicePort, TargetPort};
use crate::codes;

/// Seconds for which a client keeps its backend where no timeout is written: that of Kubernetes, three hours.
const DEFAULT_AFFINITY: u32 = 10_800;

/// The longest that Kubernetes takes: a day.
const LONGEST_AFFINITY: u64 = 86_400;

pub(super) fn read(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Service> {
    let handle = value::qualified(&tree.child(Rule::qualified)?);
    let fields = fields(tree, Rule::service_field, sink, field)?;
    Some(Service { handle, fields })
}

fn field(field: &Tree<'_>, sink: Sink<'_>) -> Option<ServiceField> {
    Some(match field.rule() {
        Rule::cluster_ip if field.has(Rule::k_none) => ServiceField::ClusterIp(Vec::new()),
        Rule::cluster_ip => ServiceField::ClusterIp(addresses(field, sink)?),
        Rule::external_ip => ServiceField::ExternalIp(addresses(field, sink)?),
        Rule::load_balancer_ip => ServiceField::LoadBalancerIp(addresses(field, sink)?),
        Rule::service_port => ServiceField::Port(port(field, sink)?),
        Rule::service_select => {
            ServiceField::Select(policy::selector(&field.child(Rule::selector)?)?)
        }
        Rule::affinity => ServiceField::Affinity(affinity(field, sink)?),
        Rule::balance => ServiceField::Balance(setting::balance(field)),
        Rule::source_ranges => ServiceField::SourceRanges(value::prefixes(field, sink)?),
        Rule::internal_traffic => ServiceField::InternalTraffic(traffic(field)),
        _ => ServiceField::ExternalTraffic(traffic(field)),
    })
}

fn traffic(field: &Tree<'_>) -> TrafficPolicy {
    if field.has(Rule::k_local) { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

fn port(field: &Tree<'_>, sink: Sink<'_>) -> Option<ServicePort> {
    let (number, protocol) = value::port_number(&field.child(Rule::port_number)?, sink)?;
    let target = match field.child(Rule::target_port) {
        Some(target) => {
            let written = target.children().last()?;
            let port = match written.rule() {
                Rule::number => {
                    TargetPort::Number(value::positive(&written, "a port", 65_535, sink)?)
                }
                _ => TargetPort::Named(written.text().to_owned()),
            };
            Some(written.at(port))
        }
        None => None,
    };
    let node_port = match field.child(Rule::node_port).and_then(|p| p.child(Rule::number)) {
        Some(written) => Some(written.at(value::positive(&written, "a port", 65_535, sink)?)),
        None => None,
    };
    Some(ServicePort { name: name(field), number, protocol, target, node_port })
}

fn affinity(field: &Tree<'_>, sink: Sink<'_>) -> Option<u32> {
    let timeout = field.child(Rule::affinity_timeout).and_then(|t| t.child(Rule::duration));
    let Some(written) = timeout else { return Some(DEFAULT_AFFINITY) };
    let (amount, unit) = value::duration(&written, sink)?;
    let seconds = value::seconds(amount, unit);
    match u32::try_from(seconds) {
        Ok(fits) if (1..=LONGEST_AFFINITY).contains(&seconds) => Some(fits),
        _ => {
            let message = format!("`{}` is not a timeout of affinity", written.text());
            sink.push(
                Diagnostic::error(codes::BAD_NUMBER, message, written.span())
                    .label("must be from 1s to 24h"),
            );
            None
        }
    }
}
