//! The world that a question is asked about: cluster, nodes, namespaces, pods, externals. Names and
//! addresses as data; never a policy and never how the datapath stores any of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::dns::{DnsName, DnsPattern};
use crate::net::{Mac, Protocol};
use crate::policy::Selector;
use crate::source::Span;

/// Labels of a pod or namespace.
pub type Labels = BTreeMap<String, String>;

mod service;

pub use service::{Balancing, Service, ServicePort, TargetPort, TrafficPolicy};

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
    ExternalId,
    /// A service of [`World::services`].
    ServiceId
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

/// Encapsulations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TunnelKind {
    /// VXLAN (RFC 7348).
    Vxlan,
    /// Geneve (RFC 8926).
    Geneve,
}

impl TunnelKind {
    /// The UDP port that the reference uses where nothing else is said: 8472 (Linux's for VXLAN), 6081 (RFC 8926 3.3).
    pub fn default_port(self) -> u16 {
        match self {
            Self::Vxlan => 8472,
            Self::Geneve => 6081,
        }
    }
}

impl std::fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
        })
    }
}

/// How packets of pods get from node to node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Routing {
    /// Encapsulated, by [`Cluster::tunnel`].
    #[default]
    Tunnel,
    /// As they are, over the nodes' own network (`tunnel none`).
    Native,
}

/// Who routes what leaves a pod for another node or the outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostRouting {
    /// The datapath sends it to the device itself, past the node's stack (`host-routing bpf`).
    #[default]
    Bpf,
    /// The node's stack (`host-routing stack`).
    Stack,
}

/// Rewriting of the source address of what pods send out of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// Whether it is done; on by default, as in the reference.
    pub on: bool,
    /// Destinations that see the pod's own address all the same (the reference's ip-masq-agent).
    pub except: Vec<IpNet>,
    /// Ports that translated sources get, both included. The reference's default is 32768 to 65535.
    pub ports: (u16, u16),
}

impl Default for Masquerade {
    fn default() -> Self {
        Self { on: true, except: Vec::new(), ports: (32_768, 65_535) }
    }
}

/// Encryption between nodes, as a property of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// `encryption wireguard`, with `nodes` also what the nodes themselves send.
    Wireguard {
        /// Node-to-node traffic too.
        nodes: bool,
    },
    /// `encryption ipsec key N`
    Ipsec {
        /// Index of the key, 1-15.
        key: u8,
    },
}

/// Cluster-wide settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's name.
    pub name: String,
    /// Behaviour profile.
    pub profile: Profile,
    /// How packets of pods get from node to node.
    pub routing: Routing,
    /// The overlay; of no effect under [`Routing::Native`].
    pub tunnel: Tunnel,
    /// Who routes what leaves.
    pub host_routing: HostRouting,
    /// Destinations that the nodes' network routes to as they are, so that nothing is masqueraded to them
    /// (`native-cidr`). Empty: every pod prefix.
    pub native_cidrs: Vec<IpNet>,
    /// Masquerading.
    pub masquerade: Masquerade,
    /// How services choose unless they say otherwise.
    pub balancing: Balancing,
    /// Whether policies that select nodes are enforced (`host-firewall on`).
    pub host_firewall: bool,
    /// Sources that every node drops at its underlay device before anything else (`prefilter`).
    pub prefilter: Vec<IpNet>,
    /// Where that is written; empty span where it is not.
    pub prefilter_span: Span,
    /// Encryption between nodes.
    pub encryption: Option<Encryption>,
    /// Where it is declared; empty span where the file has none.
    pub span: Span,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: "default".into(),
            profile: Profile::default(),
            routing: Routing::default(),
            tunnel: Tunnel { kind: TunnelKind::Vxlan, port: 8472, device: "vxlan0".into() },
            host_routing: HostRouting::default(),
            native_cidrs: Vec::new(),
            masquerade: Masquerade::default(),
            balancing: Balancing::default(),
            host_firewall: false,
            prefilter: Vec::new(),
            prefilter_span: Span::default(),
            encryption: None,
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
    /// Labels, which policies that select nodes ask.
    pub labels: Labels,
    /// Addresses of the node's health endpoint, at most one of each family, in its pod prefixes.
    pub health: Vec<IpAddr>,
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
    /// Whether services send to it.
    pub readiness: Readiness,
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

/// Whether services send to a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readiness {
    /// They do.
    #[default]
    Ready,
    /// They do not (`not-ready`): it is no backend.
    NotReady,
    /// Only what they have sent to it before (`terminating`): it drains.
    Terminating,
}

/// A name for an address outside the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// The name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The names that were asked for and answered with these addresses.
    pub names: Vec<DnsFact>,
    /// Where it is declared.
    pub span: Span,
}

/// `dns "www.google.com" ttl 300s`: a name resolves to the addresses of its external, and the answer has been seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsFact {
    /// The name.
    pub name: DnsName,
    /// How many seconds the answer holds, where that is said.
    pub ttl: Option<u32>,
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
    /// A service, by one of its addresses.
    Service(ServiceId),
    /// The health endpoint of a node.
    Health(NodeId),
    /// A bare address: whoever owns it (see [`World::owner`]), else the world.
    Address(IpAddr),
}

/// Something that policies may isolate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A pod with a network of its own.
    Pod(PodId),
    /// A node itself: policed only with the host firewall.
    Host(NodeId),
    /// The health endpoint of a node: policies select it never.
    Health(NodeId),
}

impl Endpoint {
    /// The pod, if it is one.
    pub fn pod(self) -> Option<PodId> {
        match self {
            Self::Pod(id) => Some(id),
            Self::Host(_) | Self::Health(_) => None,
        }
    }

    /// As one side of a flow.
    pub fn party(self) -> Party {
        match self {
            Self::Pod(id) => Party::Pod(id),
            Self::Host(id) => Party::Node(id),
            Self::Health(id) => Party::Health(id),
        }
    }
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
    /// Services, in source order.
    pub services: Vec<Service>,
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

    /// The service behind an id.
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.index())
    }

    /// Services with their ids.
    pub fn services(&self) -> impl Iterator<Item = (ServiceId, &Service)> {
        (0..).map(ServiceId).zip(&self.services)
    }

    /// The node that an endpoint is on.
    pub fn node_of(&self, endpoint: Endpoint) -> Option<NodeId> {
        match endpoint {
            Endpoint::Pod(id) => self.pod(id).map(|pod| pod.node),
            Endpoint::Host(id) | Endpoint::Health(id) => Some(id),
        }
    }

    /// An endpoint's name as answers print it: `web/client`, `node node01`, `health of node01`.
    pub fn endpoint_name(&self, endpoint: Endpoint) -> String {
        let node = |id| self.node(id).map_or("?", |node: &Node| node.name.as_str());
        match endpoint {
            Endpoint::Pod(id) => self.pod(id).map_or_else(|| "?".into(), Pod::qualified),
            Endpoint::Host(id) => format!("node {}", node(id)),
            Endpoint::Health(id) => format!("health of {}", node(id)),
        }
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

    /// The party of an earlier world in this one, by its name; `None` where it is gone.
    pub fn again(&self, party: Party, earlier: &Self) -> Option<Party> {
        match party {
            Party::Pod(id) => {
                let name = earlier.pod(id)?.qualified();
                let found = self.pods().find(|(_, pod)| pod.qualified() == name);
                found.map(|(id, _)| Party::Pod(id))
            }
            Party::Service(id) => {
                let name = earlier.service(id)?.qualified();
                let found = self.services().find(|(_, service)| service.qualified() == name);
                found.map(|(id, _)| Party::Service(id))
            }
            other => Some(other),
        }
    }

    /// Who owns an address: a pod with its own network, a node, its health endpoint, a service, a node by one of
    /// its further addresses, else a named external; `None` means an unnamed outside address.
    pub fn owner(&self, address: IpAddr) -> Option<Party> {
        let pod = self.pods().find(|(_, p)| !p.host_network && p.addresses.contains(&address));
        if let Some((id, _)) = pod {
            return Some(Party::Pod(id));
        }
        if let Some((id, _)) = self.nodes().find(|(_, n)| n.addresses.contains(&address)) {
            return Some(Party::Node(id));
        }
        if let Some((id, _)) = self.nodes().find(|(_, n)| n.health.contains(&address)) {
            return Some(Party::Health(id));
        }
        let service = self.services().find(|(_, s)| s.addresses().any(|own| own == address));
        if let Some((id, _)) = service {
            return Some(Party::Service(id));
        }
        if let Some((id, _)) = self.nodes().find(|(_, n)| n.locals.contains(&address)) {
            return Some(Party::Node(id));
        }
        let external = (0..).map(ExternalId).zip(&self.externals);
        external
            .into_iter()
            .find(|(_, e)| e.addresses.contains(&address))
            .map(|(id, _)| Party::External(id))
    }

    /// The names that an address is known by, with whose they are.
    pub fn names_of(&self, address: IpAddr) -> impl Iterator<Item = (&External, &DnsFact)> {
        let bearers = self.externals.iter().filter(move |e| e.addresses.contains(&address));
        bearers.flat_map(|external| external.names.iter().map(move |fact| (external, fact)))
    }

    /// Every known name that a pattern matches, with each of its addresses.
    pub fn named<'w>(
        &'w self,
        pattern: &'w DnsPattern,
    ) -> impl Iterator<Item = (&'w DnsFact, IpAddr)> + 'w {
        let facts = self.externals.iter().flat_map(|e| e.names.iter().map(move |fact| (e, fact)));
        let meant = facts.filter(|(_, fact)| pattern.matches(&fact.name));
        meant.flat_map(|(external, fact)| external.addresses.iter().map(move |a| (fact, *a)))
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
