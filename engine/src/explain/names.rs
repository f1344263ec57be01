//! Names for what events and tables hold as numbers: nodes, pods, endpoints, identities, prefixes, keys.
//! A number that the world does not know keeps its number; nothing is guessed.

use std::net::IpAddr;

use crate::identity::Identity;
use crate::policy::RuleId;
use crate::source::{Location, Span};
use crate::tables::{
    EndpointEntry, EndpointId, EntryId, IdentityClass, NodeTables, Origin, PolicyKey,
};
use crate::topology::{Endpoint, Labels, NodeId, Party, Pod, PodId};

use super::Context;

impl Context<'_> {
    /// The node's name.
    pub(super) fn node(&self, id: NodeId) -> String {
        self.world.node(id).map_or_else(|| format!("node {}", id.0), |n| n.name.clone())
    }

    /// The node that an underlay address belongs to.
    pub(super) fn node_at(&self, address: IpAddr) -> Option<NodeId> {
        self.world.nodes().find(|(_, n)| n.addresses.contains(&address)).map(|(id, _)| id)
    }

    /// The node's underlay device.
    pub(super) fn device(&self, id: NodeId) -> String {
        self.world.node(id).map_or_else(String::new, |n| n.device.clone())
    }

    /// `namespace/name` of a pod.
    pub(super) fn pod(&self, id: PodId) -> String {
        self.world.pod(id).map_or_else(|| format!("pod {}", id.0), Pod::qualified)
    }

    /// The tables of a node.
    pub(super) fn tables_of(&self, node: NodeId) -> Option<&NodeTables> {
        self.tables.node(node)
    }

    /// An endpoint of a node.
    pub(super) fn endpoint_entry(&self, node: NodeId, id: EndpointId) -> Option<&EndpointEntry> {
        self.tables_of(node)?.endpoint(id)
    }

    /// The name of an endpoint: its pod's.
    pub(super) fn endpoint(&self, node: NodeId, id: EndpointId) -> String {
        let entry = self.endpoint_entry(node, id);
        entry.map_or_else(|| format!("endpoint {}", id.0), |e| self.world.endpoint_name(e.endpoint))
    }

    /// The name that answers use for a party; an address that nobody owns is its own name.
    pub(super) fn party(&self, party: Party) -> String {
        match party {
            Party::Pod(id) => self.pod(id),
            Party::Node(id) => self.node(id),
            Party::External(id) => {
                let external = self.world.external(id);
                external.map_or_else(|| format!("external {}", id.0), |e| e.name.clone())
            }
            Party::Service(id) => {
                let service = self.world.service(id);
                service.map_or_else(
                    || format!("service {}", id.0),
                    crate::topology::Service::qualified,
                )
            }
            Party::Health(id) => self.world.endpoint_name(Endpoint::Health(id)),
            Party::Address(address) => match self.world.owner(address) {
                None | Some(Party::Address(_)) => address.to_string(),
                Some(owner) => self.party(owner),
            },
        }
    }

    /// What an identity stands for: `{app=client} in web`, `world`, `cidr 10.9.0.0/16`.
    pub(super) fn meaning(&self, identity: Identity) -> String {
        match self.tables.identities.get(&identity) {
            Some(IdentityClass::Pods { namespace, labels, variant }) => {
                let variant =
                    if variant.is_empty() { String::new() } else { format!(", {variant}") };
                format!("{} in {namespace}{variant}", labels_in_words(labels))
            }
            Some(class @ (IdentityClass::Cidr(_) | IdentityClass::Fqdn { .. })) => {
                class.outside().unwrap_or_default()
            }
            Some(IdentityClass::Reserved) | None => {
                identity.reserved_name().unwrap_or_default().to_owned()
            }
        }
    }

    /// A rule as `policy#rule`, an implied origin by its name.
    pub(super) fn origin(&self, origin: Origin) -> String {
        match origin {
            Origin::Rule(rule) => self.policies.rule_handle(rule),
            Origin::Implied(implied) => implied.name().to_owned(),
        }
    }

    /// Where a rule begins.
    pub(super) fn rule_location(&self, rule: RuleId) -> Option<Location> {
        self.policies.rule(rule).map(|(_, rule)| self.location(rule.span))
    }

    /// Where a span begins.
    pub(super) fn location(&self, span: Span) -> Location {
        self.sources.location(span)
    }

    /// The prefix of an ipcache entry.
    pub(super) fn prefix(&self, node: NodeId, entry: EntryId) -> Option<String> {
        Some(self.tables_of(node)?.ipcache_entry(entry)?.prefix.to_string())
    }
}

/// `{app=echo, tier=web}`
fn labels_in_words(labels: &Labels) -> String {
    let parts: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{{{}}}", parts.join(", "))
}

/// A policy key in words: `identity 27634, icmp 8`, `identity any, tcp 8080-8087`, `identity 2, any`.
pub(super) fn key(key: &PolicyKey) -> String {
    let identity = match key.identity {
        Identity::ANY => "identity any".to_owned(),
        identity => format!("identity {identity}"),
    };
    let traffic = match (key.protocol, key.port_bits) {
        (None, _) => "any".to_owned(),
        (Some(protocol), 0) => protocol.to_string(),
        (Some(protocol), 16..) => format!("{protocol} {}", key.port),
        (Some(protocol), bits) => {
            let last = key.port | (u16::MAX >> bits);
            format!("{protocol} {}-{last}", key.port)
        }
    };
    format!("{identity}, {traffic}")
}
