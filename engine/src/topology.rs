//! The world that a question is asked about: cluster, nodes, namespaces, pods, externals. Names and
//! addresses as data; never a policy and never how the datapath stores any of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::net::{Mac, Protocol};
use crate::policy::Selector;
use crate::source::Span;

/// Labels of a pod or namespace.
pub type Labels = BTreeMap<String, String>;

macro_rules! index {
    ($($(#[$doc:meta])* $name:ident),+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The position in the world's list.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )+};
}

index! {
    /// A node of [`World::nodes`].
    NodeId,
    /// A pod of [`World::pods`].
    PodId,
    /// A named outside address of [`World::externals`].
    ExternalId
}

/// The reference whose behaviour is followed, named in every answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// `cilium`.
    pub name: String,
    /// `1.18`.
    pub version: String,
}

impl Default for Profile {
    fn default() -> Self {
        Self { name: "cilium".into(), version: "1.18".into() }
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// The overlay between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The encapsulation.
    pub kind: TunnelKind,
    /// UDP destination port.
    pub port: u16,
    /// Name of the tunnel device on every node.
    pub device: String,
}

/// Encapsulations that exist so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TunnelKind {
    /// VXLAN (RFC 7348).
    Vxlan,
}

impl std::fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
        })
    }
}

/// Cluster-wide settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's name.
    pub name: String,
    /// Behaviour profile.
    pub profile: Profile,
    /// The overlay.
    pub tunnel: Tunnel,
    /// Where it is declared; empty span where the file has none.
    pub span: Span,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: "default".into(),
            profile: Profile::default(),
            tunnel: Tunnel { kind: TunnelKind::Vxlan, port: 8472, device: "vxlan0".into() },
            span: Span::default(),
        }
    }
}

/// A machine of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its addresses on the underlay.
    pub addresses: Vec<IpAddr>,
    /// Prefixes its pods live in.
    pub pod_cidrs: Vec<IpNet>,
    /// Further addresses that are the node itself (gateway, service addresses: `(localhost)`).
    pub locals: Vec<IpAddr>,
    /// The underlay device's name (`eth0` unless given).
    pub device: String,
    /// The underlay device's Ethernet address, where known.
    pub mac: Option<Mac>,
    /// Where it is declared.
    pub span: Span,
}

impl Node {
    /// The address that packets are tunneled to: the first of the underlay's family
    /// ([`World::tunnels_over_ipv6`]).
    pub fn tunnel_end(&self, over_ipv6: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv6() == over_ipv6)
    }
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels, with `kubernetes.io/metadata.name` added where the text has none.
    pub labels: Labels,
    /// Where it is declared.
    pub span: Span,
}

/// A port that a pod gives a name to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// The name.
    pub name: String,
    /// The number.
    pub port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace's name; always declared.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub node: NodeId,
    /// At most one IPv4 and one IPv6 address, IPv4 first. A host-network pod has the node's.
    pub addresses: Vec<IpAddr>,
    /// Its labels.
    pub labels: Labels,
    /// The pod side's Ethernet address, where pinned.
    pub mac: Option<Mac>,
    /// The host side's Ethernet address ("node MAC"), where pinned.
    pub host_mac: Option<Mac>,
    /// The host-side veth's name, where pinned.
    pub interface: Option<String>,
    /// The host-side veth's index, where pinned.
    pub ifindex: Option<u32>,
    /// The endpoint id, where pinned.
    pub endpoint_id: Option<u16>,
    /// Shares the node's network: no endpoint of its own, identity of the node.
    pub host_network: bool,
    /// Named ports.
    pub ports: Vec<NamedPort>,
    /// Where it is declared.
    pub span: Span,
}

impl Pod {
    /// `namespace/name`.
    pub fn qualified(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A name for an address outside the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// The name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where it is declared.
    pub span: Span,
}

/// `identity N { namespace NS labels {...} }`: mirrors a real cluster's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityPin {
    /// The number, 256-65535.
    pub number: u32,
    /// The namespace of the class.
    pub namespace: String,
    /// The exact labels of the class.
    pub labels: Labels,
    /// Where it is declared.
    pub span: Span,
}

/// `alias CA = web/client`: another name in questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The short name.
    pub name: String,
    /// What it stands for, resolved.
    pub target: Party,
    /// Where it is declared.
    pub span: Span,
}

/// One side of a flow, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A pod.
    Pod(PodId),
    /// A node itself.
    Node(NodeId),
    /// A named outside address.
    External(ExternalId),
    /// A bare address: whoever owns it (see [`World::owner`]), else the world.
    Address(IpAddr),
}

/// Everything but the policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Settings.
    pub cluster: Cluster,
    /// Nodes, in source order.
    pub nodes: Vec<Node>,
    /// Namespaces, in source order.
    pub namespaces: Vec<Namespace>,
    /// Pods, in source order.
    pub pods: Vec<Pod>,
    /// Named outside addresses.
    pub externals: Vec<External>,
    /// Pinned identity numbers.
    pub pins: Vec<IdentityPin>,
    /// Short names.
    pub aliases: Vec<Alias>,
}

impl World {
    /// The node behind an id. Ids come from this world, so a foreign one is a bug of the caller: `None`.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())
    }

    /// The pod behind an id.
    pub fn pod(&self, id: PodId) -> Option<&Pod> {
        self.pods.get(id.index())
    }

    /// The named outside address behind an id.
    pub fn external(&self, id: ExternalId) -> Option<&External> {
        self.externals.get(id.index())
    }

    /// The namespace of a name.
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.iter().find(|n| n.name == name)
    }

    /// Pods with their ids.
    pub fn pods(&self) -> impl Iterator<Item = (PodId, &Pod)> {
        (0..).map(PodId).zip(&self.pods)
    }

    /// Nodes with their ids.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0..).map(NodeId).zip(&self.nodes)
    }

    /// Who owns an address: a pod with its own network, a node (any of its addresses), else a named
    /// external; `None` means an unnamed outside address.
    pub fn owner(&self, address: IpAddr) -> Option<Party> {
        let pod = self.pods().find(|(_, p)| !p.host_network && p.addresses.contains(&address));
        if let Some((id, _)) = pod {
            return Some(Party::Pod(id));
        }
        let node = self
            .nodes()
            .find(|(_, n)| n.addresses.contains(&address) || n.locals.contains(&address));
        if let Some((id, _)) = node {
            return Some(Party::Node(id));
        }
        let external = (0..).map(ExternalId).zip(&self.externals);
        external
            .into_iter()
            .find(|(_, e)| e.addresses.contains(&address))
            .map(|(id, _)| Party::External(id))
    }

    /// The family of the underlay: IPv4 where every node has such an address, else IPv6.
    pub fn tunnels_over_ipv6(&self) -> bool {
        self.nodes.iter().any(|node| node.tunnel_end(false).is_none())
    }

    /// Whether pods or pod prefixes of both families exist; then the world identity splits in two.
    pub fn is_dual_stack(&self) -> bool {
        let addresses = self.pods.iter().filter(|p| !p.host_network).flat_map(|p| &p.addresses);
        let prefixes = self.nodes.iter().flat_map(|n| &n.pod_cidrs);
        let mut families = [false; 2];
        addresses.for_each(|a| families[usize::from(a.is_ipv6())] = true);
        prefixes.for_each(|p| families[usize::from(p.addr().is_ipv6())] = true);
        families == [true, true]
    }

    /// Pods that a selector chooses in the namespaces that the predicate admits; host-network pods are
    /// never chosen (they share the node's identity).
    pub fn select<'w>(
        &'w self,
        selector: &'w Selector,
        namespace: impl Fn(&Namespace) -> bool + 'w,
    ) -> impl Iterator<Item = (PodId, &'w Pod)> + 'w {
        self.pods().filter(move |(_, p)| {
            !p.host_network
                && self.namespace(&p.namespace).is_some_and(&namespace)
                && selector.matches(&p.labels)
        })
    }
}
