//! The cluster's settings.

use engine::diag::Diagnostic;
use engine::source::Span;
use engine::topology::{HostRouting, Masquerade, Profile, Routing, Tunnel, TunnelKind};
use ipnet::IpNet;

use super::Lowering;
use super::world::Owners;
use crate::ast::{self, ClusterField, Name, Spanned};
use crate::codes;

impl Lowering<'_> {
    /// Settings, and the nodes in the cluster's block.
    pub(super) fn cluster(&mut self, cluster: &ast::Cluster, span: Span, owners: &mut Owners) {
        self.world.cluster.name.clone_from(&cluster.name.node);
        self.world.cluster.span = span;
        let mut given = Settings::default();
        for field in &cluster.fields {
            match &field.node {
                ClusterField::Node(node) => self.node(node, field.span, owners),
                setting => self.setting(setting, field.span, &mut given),
            }
        }
        let cluster = &mut self.world.cluster;
        fill(&mut cluster.profile, given.like.and_then(|l| l.node));
        if let Some((routing, tunnel)) = given.tunnel.and_then(|t| t.node) {
            cluster.routing = routing;
            cluster.tunnel = tunnel;
        }
        fill(&mut cluster.host_routing, given.host_routing.map(|h| h.node));
        fill(&mut cluster.native_cidrs, given.native_cidrs.map(|n| n.node));
        fill(&mut cluster.masquerade, given.masquerade.map(|m| m.node));
        fill(&mut cluster.balancing, given.balancing.map(|b| b.node));
        fill(&mut cluster.host_firewall, given.host_firewall.map(|h| h.node));
        fill(&mut cluster.prefilter_span, given.prefilter.as_ref().map(|p| p.span));
        fill(&mut cluster.prefilter, given.prefilter.map(|p| p.node));
        cluster.encryption = given.encryption.map(|e| e.node);
    }

    fn setting(&mut self, setting: &ClusterField, at: Span, given: &mut Settings) {
        match setting {
            ClusterField::Like { profile, version } => {
                let read = self.profile(profile, version);
                self.once(&mut given.like, "like", read, at);
            }
            ClusterField::Tunnel { kind, port, device } => {
                let port = port.as_ref().map(|p| p.node);
                let read = self.tunnel(kind, port, device.as_ref());
                self.once(&mut given.tunnel, "tunnel", read.map(|t| (Routing::Tunnel, t)), at);
            }
            ClusterField::Native => {
                let unused = engine::topology::Cluster::default().tunnel;
                let native = Some((Routing::Native, unused));
                self.once(&mut given.tunnel, "tunnel", native, at);
            }
            ClusterField::HostRouting(routing) => {
                self.once(&mut given.host_routing, "host-routing", *routing, at);
            }
            ClusterField::NativeCidr(list) => {
                let list = self.prefixes(list);
                self.once(&mut given.native_cidrs, "native-cidr", list, at);
            }
            ClusterField::Masquerade { on, except, ports } => {
                let read = self.masquerade(*on, except, ports.as_ref());
                self.once(&mut given.masquerade, "masquerade", read, at);
            }
            ClusterField::Balance(balancing) => {
                self.once(&mut given.balancing, "balance", *balancing, at);
            }
            ClusterField::HostFirewall(on) => {
                self.once(&mut given.host_firewall, "host-firewall", *on, at);
            }
            ClusterField::Prefilter(list) => {
                let list = self.prefixes(list);
                self.once(&mut given.prefilter, "prefilter", list, at);
            }
            ClusterField::Encryption(encryption) => {
                self.once(&mut given.encryption, "encryption", *encryption, at);
            }
            ClusterField::Node(_) => {}
        }
    }

    /// The prefixes that are right; of the others each is reported.
    pub(super) fn prefixes(&mut self, list: &[Spanned<IpNet>]) -> Vec<IpNet> {
        list.iter().filter_map(|net| self.prefix(net)).collect()
    }

    fn profile(&mut self, name: &Name, version: &Name) -> Option<Profile> {
        let known = Profile::default();
        if (name.node.as_str(), version.node.as_str()) == (&known.name, &known.version) {
            return Some(known);
        }
        let message = format!("no behaviour profile `{} {}`", name.node, version.node);
        let span = name.span.to(version.span);
        self.report(Diagnostic::error(codes::UNKNOWN_PROFILE, message, span).fix(
            format!("take `{known}`"),
            span,
            known.to_string(),
        ));
        None
    }

    fn tunnel(&mut self, kind: &Name, port: Option<u16>, device: Option<&Name>) -> Option<Tunnel> {
        let (kind, name) = match kind.node.as_str() {
            "vxlan" => (TunnelKind::Vxlan, "vxlan0"),
            "geneve" => (TunnelKind::Geneve, "geneve0"),
            other => {
                let message = format!("`{other}` is not a tunnel");
                let diagnostic = Diagnostic::error(codes::UNKNOWN_PROFILE, message, kind.span);
                let near = crate::names::nearest(other, ["vxlan", "geneve", "none"]);
                let take = near.unwrap_or("vxlan");
                self.report(
                    diagnostic
                        .fix(format!("take `{take}`"), kind.span, take)
                        .help("there are `vxlan` and `geneve`; `none` routes without a tunnel"),
                );
                return None;
            }
        };
        Some(Tunnel {
            kind,
            port: port.unwrap_or(kind.default_port()),
            device: device.map_or_else(|| name.to_owned(), |d| d.node.clone()),
        })
    }

    fn masquerade(
        &mut self,
        on: bool,
        except: &[Spanned<IpNet>],
        ports: Option<&Spanned<(u16, u16)>>,
    ) -> Masquerade {
        let except = self.prefixes(except);
        let default = Masquerade::default();
        let ports = match ports {
            Some(range) => self.masquerade_ports(range).unwrap_or(default.ports),
            None => default.ports,
        };
        Masquerade { on, except, ports }
    }

    fn masquerade_ports(&mut self, range: &Spanned<(u16, u16)>) -> Option<(u16, u16)> {
        let (first, last) = range.node;
        let (message, help, right) = if first > last {
            let message = format!("the range {first}-{last} is backwards");
            (message, "turn it around", format!("{last}-{first}"))
        } else if first == 0 {
            ("no packet has port 0".to_owned(), "begin at 1", format!("1-{}", last.max(1)))
        } else {
            return Some(range.node);
        };
        let diagnostic = Diagnostic::error(codes::PORT_RANGE, message, range.span);
        self.report(diagnostic.fix(help, range.span, right));
        None
    }
}

fn fill<T>(slot: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *slot = given;
    }
}

/// What a cluster's block sets.
#[derive(Default)]
struct Settings {
    like: Option<Spanned<Option<Profile>>>,
    tunnel: Option<Spanned<Option<(Routing, Tunnel)>>>,
    host_routing: Option<Spanned<HostRouting>>,
    native_cidrs: Option<Spanned<Vec<IpNet>>>,
    masquerade: Option<Spanned<Masquerade>>,
    balancing: Option<Spanned<engine::topology::Balancing>>,
    host_firewall: Option<Spanned<bool>>,
    prefilter: Option<Spanned<Vec<IpNet>>>,
    encryption: Option<Spanned<engine::topology::Encryption>>,
}
