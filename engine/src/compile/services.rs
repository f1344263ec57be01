//! Services as each node translates them: frontends by address and port, and the sets of backends behind
//! them. Never about who may reach a backend, nor about where an address leads.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::maglev;
use crate::net::Protocol;
use crate::policy::{Operator, Selector};
use crate::tables::{BackendEntry, BackendSet, EntryId, Frontend, FrontendKind};
use crate::topology::{
    Balancing, Node, NodeId, Pod, PodId, Readiness, Service, ServiceId, ServicePort, TargetPort,
    TrafficPolicy, World,
};
use crate::trace::Place;

/// All services, with what is the same on every node.
pub(super) struct Services<'w> {
    ports: Vec<Port<'w>>,
    balancing: Balancing,
    /// Maglev tables by the set and the protocol that they are for: nodes have mostly the same.
    maglev: HashMap<(Vec<BackendEntry>, Protocol), Vec<u16>>,
}

/// A port of a service.
struct Port<'w> {
    id: ServiceId,
    service: &'w Service,
    index: u32,
    declared: &'w ServicePort,
    /// Its backends and their nodes, in the order of the world: IPv4, IPv6.
    backends: [Vec<(NodeId, BackendEntry)>; 2],
}

impl<'w> Services<'w> {
    /// Finds the backends of every port. Services come by name, so that numbers do not depend on their order.
    pub(super) fn collect(world: &'w World) -> Self {
        let index = PodIndex::new(world);
        let mut services: Vec<(ServiceId, &Service)> = world.services().collect();
        services.sort_by_key(|(id, service)| (&service.namespace, &service.name, *id));
        let mut ports = Vec::new();
        for (id, service) in services {
            let pods = index.ready(&service.namespace, &service.selector);
            for (index, port) in (0..).zip(&service.ports) {
                let backends = [false, true].map(|is_ipv6| backends(&pods, port, is_ipv6));
                ports.push(Port { id, service, index, declared: port, backends });
            }
        }
        Self { ports, balancing: world.cluster.balancing, maglev: HashMap::new() }
    }

    /// A node's frontends and their sets. Of two frontends with the same address, port and protocol the
    /// first stands; the front end tells of them.
    pub(super) fn on(&mut self, here: NodeId, node: &Node) -> (Vec<Frontend>, Vec<BackendSet>) {
        let mut sets = Sets::default();
        let mut frontends: Vec<Frontend> = Vec::new();
        let mut taken = BTreeSet::new();
        for port in &self.ports {
            for (kind, place) in port.places(node) {
                if taken.insert((place, port.declared.protocol)) {
                    let entry = EntryId(u32::try_from(frontends.len() + 1).unwrap_or(u32::MAX));
                    let frontend =
                        port.frontend(entry, kind, place, self.balancing, here, &mut sets);
                    frontends.push(frontend);
                }
            }
        }
        let mut sets = sets.list;
        for frontend in frontends.iter().filter(|frontend| asks_for_maglev(frontend)) {
            if let Some(set) = sets.get_mut(frontend.external as usize)
                && set.maglev.is_empty()
            {
                set.maglev = self.maglev(&set.backends, frontend.protocol);
            }
        }
        (frontends, sets)
    }

    /// The table of a set; where frontends of several protocols share one, it is the first one's.
    fn maglev(&mut self, backends: &[BackendEntry], protocol: Protocol) -> Vec<u16> {
        let key = (backends.to_vec(), protocol);
        let make = || {
            let names = backends.iter().map(|backend| format!("{}/{protocol}", backend.place));
            maglev::table(&names.collect::<Vec<_>>())
        };
        self.maglev.entry(key).or_insert_with(make).clone()
    }
}

fn asks_for_maglev(frontend: &Frontend) -> bool {
    frontend.balancing == Balancing::Maglev && frontend.kind != FrontendKind::ClusterIp
}

impl Port<'_> {
    /// Where a node listens for it.
    fn places(&self, node: &Node) -> Vec<(FrontendKind, Place)> {
        let own = [
            (FrontendKind::ClusterIp, &self.service.cluster_ips),
            (FrontendKind::ExternalIp, &self.service.external_ips),
            (FrontendKind::LoadBalancer, &self.service.load_balancer_ips),
        ];
        let own = own.into_iter().map(|(kind, list)| (kind, list, self.declared.port));
        let node_port =
            self.declared.node_port.map(|port| (FrontendKind::NodePort, &node.addresses, port));
        let places = own.chain(node_port).flat_map(|(kind, list, port)| {
            list.iter().map(move |address| (kind, Place { address: *address, port }))
        });
        places.collect()
    }

    fn frontend(
        &self,
        entry: EntryId,
        kind: FrontendKind,
        place: Place,
        balancing: Balancing,
        here: NodeId,
        sets: &mut Sets,
    ) -> Frontend {
        let service = self.service;
        let mut set_for = |traffic| sets.of(self.eligible(place.address, traffic, here));
        let internal = set_for(service.internal_traffic);
        let external = match kind {
            FrontendKind::ClusterIp => internal,
            _ => set_for(service.external_traffic),
        };
        let source_ranges = match kind {
            FrontendKind::LoadBalancer => service.source_ranges.clone(),
            _ => Vec::new(),
        };
        Frontend {
            entry,
            service: self.id,
            port_index: self.index,
            kind,
            place,
            protocol: self.declared.protocol,
            internal,
            external,
            affinity: service.affinity,
            balancing: service.balancing.unwrap_or(balancing),
            source_ranges,
        }
    }

    /// The backends of the address's family that traffic at a node may reach.
    fn eligible(&self, address: IpAddr, traffic: TrafficPolicy, here: NodeId) -> Vec<BackendEntry> {
        let all = self.backends[usize::from(address.is_ipv6())].iter();
        let eligible = all.filter(|(node, _)| traffic == TrafficPolicy::Cluster || *node == here);
        eligible.map(|(_, backend)| *backend).collect()
    }
}

/// A node's sets; equal ones are one.
#[derive(Default)]
struct Sets {
    list: Vec<BackendSet>,
    by_backends: HashMap<Vec<BackendEntry>, u32>,
}

impl Sets {
    fn of(&mut self, backends: Vec<BackendEntry>) -> u32 {
        if let Some(known) = self.by_backends.get(&backends) {
            return *known;
        }
        let at = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(BackendSet { backends: backends.clone(), maglev: Vec::new() });
        self.by_backends.insert(backends, at);
        at
    }
}

/// What pods offer at a port, in one family.
fn backends(
    pods: &[(PodId, &Pod)],
    port: &ServicePort,
    is_ipv6: bool,
) -> Vec<(NodeId, BackendEntry)> {
    let offered = pods.iter().filter_map(|(id, pod)| {
        let address = pod.addresses.iter().copied().find(|own| own.is_ipv6() == is_ipv6)?;
        let place = Place { address, port: target(pod, port)? };
        Some((pod.node, BackendEntry { pod: *id, place }))
    });
    offered.collect()
}

/// The port of a pod that a service's port leads to.
fn target(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            let mut named = pod.ports.iter();
            named.find(|own| own.name == *name && own.protocol == port.protocol).map(|own| own.port)
        }
    }
}

/// Pods in the order of the world.
type Pods<'w> = Vec<(PodId, &'w Pod)>;

/// Ready pods, host-network pods included, by namespace and by label, so that a service looks at few of them.
struct PodIndex<'w> {
    by_namespace: HashMap<&'w str, Pods<'w>>,
    /// By namespace, key and value.
    by_label: HashMap<[&'w str; 3], Pods<'w>>,
}

impl<'w> PodIndex<'w> {
    fn new(world: &'w World) -> Self {
        let mut index = Self { by_namespace: HashMap::new(), by_label: HashMap::new() };
        if world.services.is_empty() {
            return index;
        }
        for (id, pod) in world.pods().filter(|(_, pod)| pod.readiness == Readiness::Ready) {
            index.by_namespace.entry(&pod.namespace).or_default().push((id, pod));
            for (key, value) in &pod.labels {
                index.by_label.entry([&pod.namespace, key, value]).or_default().push((id, pod));
            }
        }
        index
    }

    /// The pods that a selector chooses in a namespace, in the order of the world.
    fn ready(&self, namespace: &str, selector: &Selector) -> Pods<'w> {
        let all = self.by_namespace.get(namespace).map_or(&[][..], Vec::as_slice);
        let with = selector.requirements.iter().filter_map(|wanted| match &wanted.operator {
            Operator::Equals(value) => {
                let key = [namespace, wanted.key.as_str(), value.as_str()];
                Some(self.by_label.get(&key).map_or(&[][..], Vec::as_slice))
            }
            _ => None,
        });
        let fewest = with.min_by_key(|pods| pods.len()).unwrap_or(all);
        fewest.iter().copied().filter(|(_, pod)| selector.matches(&pod.labels)).collect()
    }
}
