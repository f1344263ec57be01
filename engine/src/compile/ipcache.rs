//! Who every address is and where it leads, as each node sees it. An address has an identity by the
//! longest prefix that says who it is and a way by the longest one that says where it goes; an entry says
//! both, so entries of either kind inherit the other half from what covers them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::identities::Identities;
use crate::identity::Identity;
use crate::policy::RuleId;
use crate::tables::{EndpointEntry, EndpointId, EntryId, IpcacheEntry, IpcacheOrigin, Target};
use crate::topology::{Endpoint, NodeId, PodId, Routing, ServiceId, World};

/// Addresses and prefixes with what is the same on every node.
pub(super) struct Addresses {
    items: Vec<(IpNet, Item)>,
}

/// Who a prefix is.
enum Item {
    Pod(PodId, Identity),
    /// The health endpoint of a node.
    Health(NodeId),
    /// An address of a service, with the world's identity.
    Service(ServiceId, Identity),
    /// Addresses of nodes; more than one where they share a service address. The way to it leads to the
    /// node whose pod prefix it is from, if any.
    Nodes(Vec<NodeId>, Option<NodeId>),
    /// Outside addresses: their identity, why they are listed, and whose pod prefix they lie in.
    Outside {
        identity: Identity,
        why: Why,
        within: Option<NodeId>,
    },
}

/// Why outside addresses are listed.
enum Why {
    World,
    Cidr(Vec<RuleId>),
    /// A pod prefix, with whose pod prefix lies around it.
    PodPrefix(NodeId, Option<NodeId>),
}

/// What is said of one prefix before the halves are joined.
#[derive(Default)]
struct Said {
    pod: Option<PodId>,
    health: Option<NodeId>,
    /// Whether it is among a node's own addresses, not only a further one that is the node.
    is_own: bool,
    service: Option<ServiceId>,
    nodes: Vec<NodeId>,
    cidr: Option<(Identity, Vec<RuleId>)>,
    pods_of: Option<NodeId>,
    world: bool,
}

impl Addresses {
    /// Gathers what is said of every prefix and joins identity and way.
    pub(super) fn collect(world: &World, identities: &Identities) -> Self {
        let mut items = Vec::new();
        // Prefixes come in order, so those that cover the one at hand are a stack: who it is by prefixes
        // of rules, and whose pods live there.
        let mut who: Vec<(IpNet, Identity)> = Vec::new();
        let mut whose: Vec<(IpNet, NodeId)> = Vec::new();
        for (prefix, said) in gather(world, identities) {
            who.retain(|(outer, _)| outer.contains(&prefix));
            whose.retain(|(outer, _)| outer.contains(&prefix));
            let around = whose.last().map(|(_, node)| *node);
            let fixed = fixed(&said, prefix, identities);
            let listed = said.world || said.cidr.is_some() || said.pods_of.is_some();
            let mut why = said.pods_of.map_or(Why::World, |node| Why::PodPrefix(node, around));
            if let Some(node) = said.pods_of {
                whose.push((prefix, node));
            }
            if let Some((identity, rules)) = said.cidr {
                who.push((prefix, identity));
                why = Why::Cidr(rules);
            }
            let within = whose.last().map(|(_, node)| *node);
            let item = match fixed {
                // Nobody has the address: who sends under it is outside, by the prefixes of rules.
                Some(Item::Service(id, world)) => {
                    Item::Service(id, who.last().map_or(world, |(_, identity)| *identity))
                }
                Some(item) => item,
                None if !said.nodes.is_empty() => Item::Nodes(said.nodes, within),
                None if listed => {
                    let outside = identities.world(prefix.addr().is_ipv6());
                    let identity = who.last().map_or(outside, |(_, identity)| *identity);
                    Item::Outside { identity, why, within }
                }
                None => continue,
            };
            items.push((prefix, item));
        }
        Self { items }
    }

    /// A node's ipcache, given its endpoints.
    pub(super) fn on(
        &self,
        world: &World,
        here: NodeId,
        endpoints: &[EndpointEntry],
    ) -> Vec<IpcacheEntry> {
        let endpoints: BTreeMap<Endpoint, EndpointId> =
            endpoints.iter().map(|entry| (entry.endpoint, entry.id)).collect();
        let found = self.items.iter().filter_map(|(prefix, item)| {
            let (identity, target, origin) = seen(world, here, &endpoints, prefix, item)?;
            Some((*prefix, identity, target, origin))
        });
        let numbered = found.zip((1..).map(EntryId));
        numbered
            .map(|((prefix, identity, target, origin), entry)| IpcacheEntry {
                prefix,
                identity,
                target,
                entry,
                origin,
            })
            .collect()
    }
}

/// What an address is before it is a node's or outside: a pod's, or, unless it is one of a node's own
/// addresses, a health endpoint's or a service's. Further addresses of a node are the service's that has them.
fn fixed(said: &Said, prefix: IpNet, identities: &Identities) -> Option<Item> {
    let pod = said.pod.and_then(|pod| Some(Item::Pod(pod, identities.of_pod(pod)?)));
    if pod.is_some() || said.is_own {
        return pod;
    }
    let service = || {
        let identity = identities.world(prefix.addr().is_ipv6());
        said.service.map(|id| Item::Service(id, identity))
    };
    said.health.map(Item::Health).or_else(service)
}

/// What a node sees of an item; `None` where it needs no entry.
fn seen(
    world: &World,
    here: NodeId,
    endpoints: &BTreeMap<Endpoint, EndpointId>,
    prefix: &IpNet,
    item: &Item,
) -> Option<(Identity, Target, IpcacheOrigin)> {
    let is_ipv6 = prefix.addr().is_ipv6();
    let way = |node: Option<NodeId>| {
        let other = node.filter(|node| *node != here);
        other.and_then(|node| across(world, node, is_ipv6)).unwrap_or(Target::Stack)
    };
    let endpoint = |one: Endpoint| {
        let local = endpoints.get(&one).map(|id| Target::Endpoint(*id));
        local.or_else(|| across(world, world.node_of(one)?, is_ipv6))
    };
    Some(match item {
        Item::Pod(pod, identity) => {
            (*identity, endpoint(Endpoint::Pod(*pod))?, IpcacheOrigin::Pod(*pod))
        }
        Item::Health(node) => {
            let target = endpoint(Endpoint::Health(*node))?;
            (Identity::HEALTH, target, IpcacheOrigin::Health(*node))
        }
        Item::Service(id, identity) => {
            (*identity, Target::Service(*id), IpcacheOrigin::Service(*id))
        }
        Item::Nodes(nodes, _) if nodes.contains(&here) => {
            (Identity::HOST, Target::Host, IpcacheOrigin::Node(here))
        }
        Item::Nodes(nodes, within) => {
            (Identity::REMOTE_NODE, way(*within), IpcacheOrigin::Node(*nodes.first()?))
        }
        Item::Outside { identity, why, within } => {
            let origin = match why {
                Why::World => IpcacheOrigin::World,
                Why::Cidr(rules) => IpcacheOrigin::Cidr(rules.clone()),
                // This node's own prefix leads nowhere; it matters only where another's lies around it.
                Why::PodPrefix(node, around)
                    if *node == here && around.is_none_or(|n| n == here) =>
                {
                    return None;
                }
                Why::PodPrefix(node, _) => IpcacheOrigin::PodPrefix(*node),
            };
            (*identity, way(*within), origin)
        }
    })
}

/// Everything that is said of addresses and prefixes, in order.
fn gather(world: &World, identities: &Identities) -> BTreeMap<IpNet, Said> {
    let mut said: BTreeMap<IpNet, Said> = BTreeMap::new();
    for whole in [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())] {
        said.entry(whole).or_default().world = true;
    }
    for (prefix, cidr) in &identities.cidrs {
        said.entry(*prefix).or_default().cidr = Some((cidr.identity, cidr.rules.clone()));
    }
    for (id, node) in world.nodes() {
        for prefix in &node.pod_cidrs {
            said.entry(prefix.trunc()).or_default().pods_of.get_or_insert(id);
        }
        for address in &node.addresses {
            own(&mut said, *address, id).is_own = true;
        }
        for address in &node.locals {
            own(&mut said, *address, id);
        }
        for address in &node.health {
            said.entry(IpNet::from(*address)).or_default().health.get_or_insert(id);
        }
    }
    for (id, service) in world.services() {
        for address in service.addresses() {
            said.entry(IpNet::from(address)).or_default().service.get_or_insert(id);
        }
    }
    for (id, pod) in world.pods() {
        for address in &pod.addresses {
            if pod.host_network {
                own(&mut said, *address, pod.node).is_own = true;
            } else {
                said.entry(IpNet::from(*address)).or_default().pod.get_or_insert(id);
            }
        }
    }
    said
}

/// An address is a node's.
fn own(said: &mut BTreeMap<IpNet, Said>, address: IpAddr, node: NodeId) -> &mut Said {
    let said = said.entry(IpNet::from(address)).or_default();
    if !said.nodes.contains(&node) {
        said.nodes.push(node);
    }
    said
}

/// The way to another node's pods. What goes as it is goes to the node's address of its own family.
fn across(world: &World, node: NodeId, is_ipv6: bool) -> Option<Target> {
    let other = world.node(node)?;
    let end = || other.tunnel_end(world.tunnels_over_ipv6());
    Some(match world.cluster.routing {
        Routing::Tunnel => Target::Tunnel { remote: end()?, node },
        Routing::Native => Target::Native { remote: other.tunnel_end(is_ipv6).or_else(end)?, node },
    })
}

/// Pod prefixes of the other nodes and the address that their packets are tunneled to; none where nothing is.
pub(super) fn tunnels(world: &World, here: NodeId) -> Vec<(IpNet, IpAddr)> {
    let over_ipv6 = world.tunnels_over_ipv6();
    let mut found: Vec<(IpNet, IpAddr)> = world
        .nodes()
        .filter(|(id, _)| *id != here && world.cluster.routing == Routing::Tunnel)
        .filter_map(|(_, node)| Some((node, node.tunnel_end(over_ipv6)?)))
        .flat_map(|(node, remote)| node.pod_cidrs.iter().map(move |p| (p.trunc(), remote)))
        .collect();
    found.sort_unstable();
    found
}
