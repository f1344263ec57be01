//! Random settings of the cluster, random services, and what becomes of them.

use ipnet::IpNet;

use engine::net::Protocol;
use engine::policy::{Operator, PeerKind, Policy, Requirement, Selector};
use engine::source::Span;
use engine::topology::{
    Balancing, Cluster, Encryption, HostRouting, Masquerade, Readiness, Routing, Service,
    ServicePort, TargetPort, TrafficPolicy, Tunnel, TunnelKind, World,
};

use super::{PREFIXES, Random, Step, ip};

const TRAFFIC: [TrafficPolicy; 4] =
    [TrafficPolicy::Cluster, TrafficPolicy::Cluster, TrafficPolicy::Cluster, TrafficPolicy::Local];

impl Random {
    pub(super) fn cluster(&mut self, families: [bool; 2]) -> Cluster {
        let usual = Cluster::default();
        let kind = *self.one(&[TunnelKind::Vxlan, TunnelKind::Vxlan, TunnelKind::Geneve]);
        let routing = *self.one(&[Routing::Tunnel, Routing::Tunnel, Routing::Native]);
        let device = format!("{kind}0");
        let native = if self.once_in(8) { self.prefixes(families) } else { Vec::new() };
        Cluster {
            name: "lab".to_owned(),
            routing,
            tunnel: match routing {
                Routing::Tunnel => Tunnel { kind, port: kind.default_port(), device },
                Routing::Native => usual.tunnel.clone(),
            },
            host_routing: *self.one(&[HostRouting::Bpf, HostRouting::Bpf, HostRouting::Stack]),
            native_cidrs: native,
            masquerade: self.masquerading(families),
            balancing: *self.one(&[Balancing::Random, Balancing::Maglev]),
            host_firewall: self.once_in(3),
            prefilter: if self.once_in(8) { self.prefixes(families) } else { Vec::new() },
            encryption: match self.below(12) {
                0 => Some(Encryption::Wireguard { nodes: false }),
                1 => Some(Encryption::Wireguard { nodes: true }),
                2 => Some(Encryption::Ipsec { key: 3 }),
                _ => None,
            },
            ..usual
        }
    }

    fn masquerading(&mut self, families: [bool; 2]) -> Masquerade {
        let usual = Masquerade::default();
        match self.below(6) {
            0 => Masquerade { on: false, ..usual },
            1 => Masquerade { except: self.prefixes(families), ..usual },
            2 => Masquerade { ports: (40_300, 40_363), ..usual },
            _ => usual,
        }
    }

    /// Outside prefixes of the families.
    fn prefixes(&mut self, families: [bool; 2]) -> Vec<IpNet> {
        let all = PREFIXES[2..6].iter().chain(&PREFIXES[9..11]);
        let all = all.map(|p| p.parse::<IpNet>().expect("a prefix"));
        let known: Vec<IpNet> = all.filter(|p| families[usize::from(p.addr().is_ipv6())]).collect();
        vec![*self.one(&known)]
    }

    pub(super) fn service(&mut self, at: usize, families: [bool; 2]) -> Service {
        let of = |v4: String, v6: String| {
            let both = [v4, v6].into_iter().zip(families);
            both.filter(|(_, there)| *there).map(|(text, _)| ip(&text)).collect::<Vec<_>>()
        };
        let mut balanced = Vec::new();
        if self.once_in(3) {
            balanced = of(format!("203.0.113.{}", 100 + at), format!("2001:db8:b::{at}"));
        }
        let mut external = Vec::new();
        if self.once_in(3) {
            external = of(format!("203.0.113.{}", 50 + at), format!("2001:db8:e::{at}"));
        }
        let ranged = !balanced.is_empty() && self.once_in(2);
        let (key, values) = *self.one(&[("app", ["x", "y"]), ("tier", ["front", "back"])]);
        let operator = match self.below(3) {
            0 => Operator::Exists,
            _ => Operator::Equals((*self.one(&values)).to_owned()),
        };
        Service {
            namespace: String::new(),
            name: format!("s{at}"),
            cluster_ips: of(format!("10.96.0.{}", 10 + at), format!("fd00:96::{}", 10 + at)),
            external_ips: external,
            load_balancer_ips: balanced,
            ports: (0..=self.below(2)).map(|number| self.service_port(at, number)).collect(),
            selector: Selector {
                requirements: vec![Requirement {
                    key: key.to_owned(),
                    operator,
                    span: Span::default(),
                }],
            },
            affinity: self.once_in(3).then_some(60),
            balancing: *self.one(&[None, None, Some(Balancing::Random), Some(Balancing::Maglev)]),
            source_ranges: if ranged { self.prefixes(families) } else { Vec::new() },
            ranges_span: Span::default(),
            internal_traffic: *self.one(&TRAFFIC),
            external_traffic: *self.one(&TRAFFIC),
            span: Span::default(),
        }
    }

    fn service_port(&mut self, service: usize, number: usize) -> ServicePort {
        let (port, protocol, name) = match (number, self.below(4)) {
            (0, 0 | 1) => (80, Protocol::Tcp, "web"),
            (0, _) => (8080, Protocol::Tcp, "web"),
            (_, 0) => (53, Protocol::Sctp, "dns"),
            (_, _) => (53, Protocol::Udp, "dns"),
        };
        let target = match self.below(4) {
            0 => TargetPort::Name(name.to_owned()),
            1 => TargetPort::Number(8080),
            _ => TargetPort::Number(port),
        };
        let node_port = u16::try_from(30_080 + 10 * service + number).expect("a port");
        let node_port = (!self.once_in(3)).then_some(node_port);
        ServicePort { name: None, port, protocol, target, node_port, span: Span::default() }
    }

    /// A backend that comes or goes, or a service that goes. One that a policy names stays.
    pub(super) fn going(&mut self, world: &World, policies: &[Policy]) -> Option<Step> {
        if world.services.is_empty() {
            return None;
        }
        if !self.once_in(3) {
            let pod = self.one(&world.pods).qualified();
            let readiness = [Readiness::NotReady, Readiness::Terminating, Readiness::Ready];
            return Some(Step::Ready(pod, *self.one(&readiness)));
        }
        let service = self.one(&world.services);
        let peers = policies.iter().flat_map(|p| &p.rules).flat_map(|rule| &rule.peers).flatten();
        let mut named = peers.filter_map(|peer| match &peer.kind {
            PeerKind::Service { namespace, name } => Some((namespace, name)),
            _ => None,
        });
        let is_named = named.any(|(ns, name)| *ns == service.namespace && *name == service.name);
        (!is_named).then(|| Step::Gone(service.qualified()))
    }
}
