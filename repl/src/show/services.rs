//! `show services`: every port of every service with its frontends, and every pod that the service selects with what keeps
//! it from being a backend, if anything does.

use std::net::SocketAddr;

use engine::topology::{
    Balancing, Pod, Readiness, Service, ServicePort, TargetPort, TrafficPolicy, World,
};

use super::{View, names};
use crate::reply::{Cell, Listing};

/// One line for each port and pod of a service; a port without a pod has one too.
pub(super) fn services(view: &View<'_>) -> Listing {
    let mut listing = Listing::new(
        "services",
        &[
            ("service", "SERVICE"),
            ("port", "PORT"),
            ("frontends", "FRONTENDS"),
            ("pod", "POD"),
            ("backends", "BACKENDS"),
            ("node", "NODE"),
            ("state", "STATE"),
            ("affinity", "AFFINITY"),
            ("balancing", "BALANCING"),
            ("internalTraffic", "INTERNAL"),
            ("externalTraffic", "EXTERNAL"),
        ],
    );
    for service in &view.world.services {
        for port in &service.ports {
            listing.rows.extend(rows(view.world, service, port));
        }
        if service.ports.is_empty() {
            let any = Cell::from("any");
            listing.rows.extend(
                lines(view.world, service, None)
                    .map(|line| row(view.world, service, any.clone(), Cell::None, line)),
            );
        }
    }
    listing
}

fn rows(world: &World, service: &Service, port: &ServicePort) -> Vec<Vec<Cell>> {
    let frontends = frontends(service, port);
    let lines = lines(world, service, Some(port));
    let rows = lines.map(|line| {
        row(world, service, port_in_words(port).into(), frontends.clone().into(), line)
    });
    rows.collect()
}

/// A pod that the service selects; `None` where it selects nobody.
type Line = Option<[Cell; 4]>;

fn lines<'w>(
    world: &'w World,
    service: &'w Service,
    port: Option<&'w ServicePort>,
) -> impl Iterator<Item = Line> + 'w {
    let selected = world
        .pods
        .iter()
        .filter(|pod| pod.namespace == service.namespace && service.selector.matches(&pod.labels));
    let mut lines: Vec<Line> = selected
        .map(|pod| {
            let places = places(service, port, pod);
            let state = state(pod, places.is_some());
            let node = names::node(world, pod.node);
            Some([pod.qualified().into(), places.into(), node.into(), state.into()])
        })
        .collect();
    if lines.is_empty() {
        lines.push(None);
    }
    lines.into_iter()
}

fn row(world: &World, service: &Service, port: Cell, frontends: Cell, line: Line) -> Vec<Cell> {
    let nobody = || [Cell::None, Cell::None, Cell::None, "no pod is selected".into()];
    let mut row = vec![service.qualified().into(), port, frontends];
    row.extend(line.unwrap_or_else(nobody));
    let balancing = match service.balancing.unwrap_or(world.cluster.balancing) {
        Balancing::Random => "random",
        Balancing::Maglev => "maglev",
    };
    let traffic = |policy| match policy {
        TrafficPolicy::Cluster => "cluster",
        TrafficPolicy::Local => "local",
    };
    row.extend([
        service.affinity.map(|seconds| format!("{seconds}s")).into(),
        balancing.into(),
        traffic(service.internal_traffic).into(),
        traffic(service.external_traffic).into(),
    ]);
    row
}

/// `80/tcp -> http`
fn port_in_words(port: &ServicePort) -> String {
    let target = match &port.target {
        TargetPort::Number(number) => number.to_string(),
        TargetPort::Name(name) => name.clone(),
    };
    format!("{}/{} -> {target}", port.port, port.protocol)
}

/// Where the port can be reached: `cluster-ip 10.96.0.20:80`, `node-port 30080`.
fn frontends(service: &Service, port: &ServicePort) -> Vec<String> {
    let lists = [
        ("cluster-ip", &service.cluster_ips),
        ("external-ip", &service.external_ips),
        ("load-balancer-ip", &service.load_balancer_ips),
    ];
    let of = lists.iter().flat_map(|(kind, addresses)| {
        addresses.iter().map(move |ip| format!("{kind} {}", SocketAddr::new(*ip, port.port)))
    });
    let node_port = port.node_port.map(|number| format!("node-port {number}"));
    of.chain(node_port).collect()
}

/// Where a pod serves the port; `None` where it does not.
fn places(service: &Service, port: Option<&ServicePort>, pod: &Pod) -> Option<Vec<String>> {
    let Some(port) = port else {
        return Some(pod.addresses.iter().map(ToString::to_string).collect());
    };
    let number = match &port.target {
        TargetPort::Number(number) => *number,
        TargetPort::Name(name) => {
            let named = pod.ports.iter().find(|p| p.name == *name && p.protocol == port.protocol);
            named?.port
        }
    };
    let same_family = |ip: &&std::net::IpAddr| {
        service.is_headless() || service.addresses().any(|own| own.is_ipv6() == ip.is_ipv6())
    };
    let places = pod.addresses.iter().filter(same_family);
    let places: Vec<String> = places.map(|ip| SocketAddr::new(*ip, number).to_string()).collect();
    Some(places).filter(|places| !places.is_empty())
}

fn state(pod: &Pod, serves: bool) -> &'static str {
    match pod.readiness {
        Readiness::NotReady => "not-ready",
        Readiness::Terminating => "terminating",
        Readiness::Ready if serves => "ready",
        Readiness::Ready => "no-such-port",
    }
}
