//! Who serves: which service an address and port is of on a node, and which pods stand behind it for a client.
//! Never which of them is taken, and never what a packet becomes.

use std::net::IpAddr;

use crate::net::Protocol;
use crate::topology::{
    Node, NodeId, Pod, Readiness, Service, ServiceId, ServicePort, TargetPort, TrafficPolicy, World,
};

use super::headers::End;

/// What kind of address a service is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Cluster,
    External,
    LoadBalancer,
    NodePort,
}

/// A port of a service at one of its addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front<'w> {
    pub(super) id: ServiceId,
    pub(super) service: &'w Service,
    pub(super) index: usize,
    pub(super) port: &'w ServicePort,
    pub(super) kind: Kind,
}

/// Where the client of a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Inside,
    Outside,
}

/// The service that has an address of its own; node ports are at addresses of nodes.
pub(super) fn owner(world: &World, address: IpAddr) -> Option<(ServiceId, &Service)> {
    world.services().find(|(_, service)| service.addresses().any(|own| own == address))
}

/// What a node listens for at an address, port and protocol. Services by name: of two the first stands.
pub(super) fn front<'w>(
    world: &'w World,
    node: &Node,
    to: End,
    protocol: Protocol,
) -> Option<Front<'w>> {
    let found = world.services().filter_map(|(id, service)| {
        let kinds = [
            (Kind::Cluster, &service.cluster_ips),
            (Kind::External, &service.external_ips),
            (Kind::LoadBalancer, &service.load_balancer_ips),
        ];
        let own = kinds.into_iter().find(|(_, list)| list.contains(&to.address));
        let of_node = node.addresses.contains(&to.address);
        let mut ports = (0..).zip(&service.ports).filter(|(_, port)| port.protocol == protocol);
        ports.find_map(|(index, port)| {
            let kind = match own {
                Some((kind, _)) if port.port == to.port => kind,
                _ if of_node && port.node_port == Some(to.port) => Kind::NodePort,
                _ => return None,
            };
            Some(Front { id, service, index, port, kind })
        })
    });
    found.min_by_key(|front| (&front.service.namespace, &front.service.name))
}

impl Front<'_> {
    /// Every backend that a new flow may get: ready pods of the family which the traffic policy admits.
    pub(super) fn candidates(
        &self,
        world: &World,
        node: NodeId,
        scope: Scope,
        v6: bool,
    ) -> Vec<End> {
        let traffic = match scope {
            Scope::Outside if self.kind != Kind::Cluster => self.service.external_traffic,
            Scope::Inside | Scope::Outside => self.service.internal_traffic,
        };
        let pods = world.pods.iter().filter(|pod| {
            pod.readiness == Readiness::Ready
                && stands_behind(self.service, pod)
                && (traffic == TrafficPolicy::Cluster || pod.node == node)
        });
        let ends = pods.filter_map(|pod| {
            let address = pod.addresses.iter().copied().find(|own| own.is_ipv6() == v6)?;
            Some(End { address, port: target(pod, self.port)? })
        });
        ends.collect()
    }

    /// Whether a client outside the cluster is kept out by the source ranges of a load balancer's address.
    pub(super) fn refuses(&self, client: IpAddr) -> bool {
        let ranges = &self.service.source_ranges;
        self.kind == Kind::LoadBalancer
            && !ranges.is_empty()
            && !ranges.iter().any(|range| range.contains(&client))
    }
}

/// Whether a service selects a pod, of whatever readiness.
pub(super) fn stands_behind(service: &Service, pod: &Pod) -> bool {
    pod.namespace == service.namespace && service.selector.matches(&pod.labels)
}

/// The port of a pod that a service's port leads to; a pod without the name has none.
fn target(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            let named = |own: &&crate::topology::NamedPort| {
                own.name == *name && own.protocol == port.protocol
            };
            pod.ports.iter().find(named).map(|own| own.port)
        }
    }
}

/// The node that a packet from outside to a service's address comes to: the first with a ready pod behind the
/// service, else the first. It is the network's choice, which the model makes so.
pub(super) fn landing(world: &World, service: &Service) -> NodeId {
    let pods = world.pods.iter();
    let behind =
        pods.filter(|pod| pod.readiness == Readiness::Ready && stands_behind(service, pod));
    behind.map(|pod| pod.node).min().unwrap_or(NodeId(0))
}
