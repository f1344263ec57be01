//! Settings of a cluster block.

use engine::topology::{Balancing, Encryption, HostRouting};

use super::value::{self, Sink};
use super::world::name;
use super::{Rule, Tree};
use crate::ast::{ClusterField, Spanned};

/// A field of the cluster that is not a node.
pub(super) fn read(field: &Tree<'_>, sink: Sink<'_>) -> Option<ClusterField> {
    Some(match field.rule() {
        Rule::like => {
            let mut names = field.all(Rule::name).map(|n| n.name());
            ClusterField::Like { profile: names.next()?, version: names.next()? }
        }
        Rule::tunnel if field.has(Rule::k_none) => ClusterField::Native,
        Rule::tunnel => tunnel(field, sink)?,
        Rule::host_routing if field.has(Rule::k_stack) => {
            ClusterField::HostRouting(HostRouting::Stack)
        }
        Rule::host_routing => ClusterField::HostRouting(HostRouting::Bpf),
        Rule::native_cidr => ClusterField::NativeCidr(value::prefixes(field, sink)?),
        Rule::masquerade => ClusterField::Masquerade {
            on: field.has(Rule::k_on),
            except: value::prefixes(field, sink)?,
            ports: match field.child(Rule::masquerade_ports) {
                Some(ports) => Some(range(&ports.child(Rule::port_range)?, sink)?),
                None => None,
            },
        },
        Rule::balance => ClusterField::Balance(balance(field)),
        Rule::host_firewall => ClusterField::HostFirewall(field.has(Rule::k_on)),
        Rule::prefilter => ClusterField::Prefilter(value::prefixes(field, sink)?),
        _ => ClusterField::Encryption(encryption(field, sink)?),
    })
}

fn tunnel(field: &Tree<'_>, sink: Sink<'_>) -> Option<ClusterField> {
    let port = match field.child(Rule::tunnel_port).and_then(|p| p.child(Rule::number)) {
        Some(port) => Some(port.at(value::positive(&port, "a port", 65_535, sink)?)),
        None => None,
    };
    let device = match field.child(Rule::tunnel_device) {
        Some(device) => Some(value::device(&device, sink)?),
        None => None,
    };
    Some(ClusterField::Tunnel { kind: name(field)?, port, device })
}

/// `balance random|maglev`, of a cluster or a service.
pub(super) fn balance(field: &Tree<'_>) -> Balancing {
    if field.has(Rule::k_maglev) { Balancing::Maglev } else { Balancing::Random }
}

fn range(written: &Tree<'_>, sink: Sink<'_>) -> Option<Spanned<(u16, u16)>> {
    let (first, last) = written.text().split_once('-')?;
    let ends = [(first, 0), (last, first.len() + 1)].map(|(digits, from)| {
        let port = digits.parse::<u16>().ok();
        if port.is_none() {
            let span = value::part(written.span(), from, digits.len());
            sink.push(value::out_of_range(digits, "a port", 65_535, span));
        }
        port
    });
    match ends {
        [Some(first), Some(last)] => Some(written.at((first, last))),
        _ => None,
    }
}

/// The kernel's mark has four bits for the index of a key of `IPsec`, and 0 is none.
fn encryption(field: &Tree<'_>, sink: Sink<'_>) -> Option<Encryption> {
    if field.has(Rule::k_wireguard) {
        return Some(Encryption::Wireguard { nodes: field.has(Rule::k_nodes) });
    }
    let key = value::positive(&field.child(Rule::number)?, "the index of an IPsec key", 15, sink)?;
    Some(Encryption::Ipsec { key })
}
