//! `show services`: every port of every service with its frontends, and every pod that the service selects with what keeps
//! it from being a backend, if anything does. As text a block for each port, as data a row for each port and pod.

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
    let mut text = Vec::new();
    for service in &view.world.services {
        let ports = service.ports.iter().map(Some);
        let ports = ports.chain(service.ports.is_empty().then_some(None));
        ports.for_each(|port| text.extend(block(view.world, service, port)));
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
    listing.blocks = Some(text);
    listing
}

/// A port with its frontends, how it is used, and its pods below each other.
fn block(world: &World, service: &Service, port: Option<&ServicePort>) -> Vec<String> {
    let port_name = port.map_or_else(|| "any port".to_owned(), port_in_words);
    let mut lines = vec![format!("{} {port_name}", service.qualified())];
    let mut add = |label: &str, values: Vec<String>| {
        let labels = std::iter::once(label).chain(std::iter::repeat(""));
        let told = values
            .iter()
            .zip(labels)
            .map(|(value, label)| format!("  {label:<9}  {value}").trim_end().to_owned());
        lines.extend(told);
    };
    let fronts = port.map(|port| frontends(service, port)).unwrap_or_default();
    let is_nowhere = fronts.is_empty();
    add("frontends", fronts);
    if is_nowhere {
        add("frontends", vec!["none: headless, its name leads to a pod".to_owned()]);
    }
    if !is_nowhere {
        add("traffic", vec![traffic(world, service)]);
        let ranges: Vec<String> = service.source_ranges.iter().map(ToString::to_string).collect();
        if !ranges.is_empty() {
            add("ranges", vec![format!("{} for load-balancer addresses", ranges.join(", "))]);
        }
    }
    add("backends", backends(world, service, port));
    lines
}

/// `internal cluster, external local, random, affinity 600s`
fn traffic(world: &World, service: &Service) -> String {
    let affinity = service.affinity.map(|seconds| format!(", affinity {seconds}s"));
    format!(
        "internal {}, external {}, {}{}",
        policy(service.internal_traffic),
        policy(service.external_traffic),
        balancing(world, service),
        affinity.unwrap_or_default()
    )
}

/// Pods in columns, what keeps one from being a backend last.
fn backends(world: &World, service: &Service, port: Option<&ServicePort>) -> Vec<String> {
    let pods: Vec<[String; 4]> = selected(world, service)
        .map(|pod| {
            let places = places(service, port, pod);
            let why = match (&places, pod.readiness, port.map(|port| &port.target)) {
                (None, _, Some(TargetPort::Name(name))) => format!("no port {name}"),
                (None, ..) => "no address of its family".to_owned(),
                (Some(_), Readiness::Ready, _) => "ready".to_owned(),
                (Some(_), Readiness::NotReady, _) => "not ready".to_owned(),
                (Some(_), Readiness::Terminating, _) => "terminating".to_owned(),
            };
            let places = places.map_or_else(|| "-".to_owned(), |places| places.join(", "));
            [pod.qualified(), names::node(world, pod.node), places, why]
        })
        .collect();
    if pods.is_empty() {
        return vec!["none: it selects no pod".to_owned()];
    }
    let width = |column: usize| pods.iter().map(|cells| cells[column].chars().count()).max();
    let widths: Vec<usize> = (0..4).map(|column| width(column).unwrap_or(0)).collect();
    let line = |cells: &[String; 4]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("   ")
    };
    pods.iter().map(line).collect()
}

fn selected<'w>(world: &'w World, service: &'w Service) -> impl Iterator<Item = &'w Pod> {
    world
        .pods
        .iter()
        .filter(|pod| pod.namespace == service.namespace && service.selector.matches(&pod.labels))
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
    let mut lines: Vec<Line> = selected(world, service)
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
    row.extend([
        service.affinity.map(|seconds| format!("{seconds}s")).into(),
        balancing(world, service).into(),
        policy(service.internal_traffic).into(),
        policy(service.external_traffic).into(),
    ]);
    row
}

fn balancing(world: &World, service: &Service) -> &'static str {
    match service.balancing.unwrap_or(world.cluster.balancing) {
        Balancing::Random => "random",
        Balancing::Maglev => "maglev",
    }
}

fn policy(traffic: TrafficPolicy) -> &'static str {
    match traffic {
        TrafficPolicy::Cluster => "cluster",
        TrafficPolicy::Local => "local",
    }
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
        _ if !serves => "no-such-port",
        Readiness::NotReady => "not-ready",
        Readiness::Terminating => "terminating",
        Readiness::Ready => "ready",
    }
}
