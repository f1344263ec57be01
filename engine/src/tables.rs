//! What a policy compiles to: per node an ipcache, endpoints, policy tables and the tunnel table, as
//! values. Layout in kernel maps is `datapath::encode`'s; meaning is `compile`'s. Never imports `eval`.
//!
//! **Precedence of a policy table**, which the datapath implements and `compile` relies on. For a packet with
//! peer identity X, protocol and port (ICMP: the type; 0 where there is none) two longest-prefix look-ups
//! are made: with identity X, and with [`Identity::ANY`]. A hit on a deny entry wins; else the longer
//! protocol/port prefix; else (equal length) the entry of the concrete identity. No hit: default deny.
//! Provenance: an entry lists every rule that grants (or denies) its whole key.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use crate::identity::Identity;
use crate::net::{Direction, Mac, Protocol};
use crate::policy::RuleId;
use crate::topology::{
    Balancing, Encryption, Endpoint, HostRouting, Labels, NodeId, PodId, Routing, ServiceId, Tunnel,
};
use crate::trace::Place;
pub use crate::verdict::{Implied, Origin};

/// Which state of the world tables and events belong to. Counts up with every change; never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Generation(pub u32);

/// An entry of one table. 0 is never an entry: see [`EntryId::DEFAULT_DENY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct EntryId(pub u32);

impl EntryId {
    /// What a policy look-up without a hit reports.
    pub const DEFAULT_DENY: Self = Self(0);
}

/// An endpoint of one node: 1-65535, as `show endpoints` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EndpointId(pub u16);

/// A policy table of one node; endpoints with equal tables share one. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TableId(pub u32);

/// Where packets to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A pod of this node.
    Endpoint(EndpointId),
    /// A pod of another node, by the tunnel.
    Tunnel {
        /// The other node's address.
        remote: IpAddr,
        /// The other node.
        node: NodeId,
    },
    /// A pod of another node, as it is over the nodes' own network.
    Native {
        /// The other node's address.
        remote: IpAddr,
        /// The other node.
        node: NodeId,
    },
    /// This node itself.
    Host,
    /// Out of the node by its own routes: the outside, and other nodes.
    Stack,
    /// An address of a service. What reaches it untranslated asks for a port that the service does not have.
    Service(ServiceId),
}

/// An address or prefix and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpcacheEntry {
    /// The prefix; a pod or node has a full-length one.
    pub prefix: IpNet,
    /// Its identity.
    pub identity: Identity,
    /// Where it is.
    pub target: Target,
    /// The entry's number in this node's ipcache, from 1, for events.
    pub entry: EntryId,
    /// Why the entry is there.
    pub origin: IpcacheOrigin,
}

/// Why an ipcache entry is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpcacheOrigin {
    /// A pod's address.
    Pod(PodId),
    /// A pod prefix of a node: addresses in it that no pod has.
    PodPrefix(NodeId),
    /// A node's address.
    Node(NodeId),
    /// The address of a node's health endpoint.
    Health(NodeId),
    /// An address of a service.
    Service(ServiceId),
    /// A prefix that rules name.
    Cidr(Vec<RuleId>),
    /// The catch-all for everything outside.
    World,
}

/// An endpoint on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointEntry {
    /// Its id.
    pub id: EndpointId,
    /// What it is.
    pub endpoint: Endpoint,
    /// Its identity.
    pub identity: Identity,
    /// Its addresses: at most one of each family; the host has all of its node's.
    pub addresses: Vec<IpAddr>,
    /// Index of the host-side veth (pinned or synthesized; unique on the node); of the host `cilium_host`'s.
    pub ifindex: u32,
    /// Name of the host-side veth; of the host `cilium_host`.
    pub interface: String,
    /// Ethernet address of the pod's side.
    pub mac: Mac,
    /// Ethernet address of the host's side.
    pub host_mac: Mac,
    /// Table of what it may send.
    pub egress: TableId,
    /// Table of what it may receive.
    pub ingress: TableId,
}

/// Where a frontend came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FrontendKind {
    /// A cluster IP: for clients in the cluster only.
    ClusterIp,
    /// A node's address and a node port.
    NodePort,
    /// An external IP.
    ExternalIp,
    /// A load balancer's address.
    LoadBalancer,
}

/// An address and port that stand for backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// Its number on the node, from 1, for events.
    pub entry: EntryId,
    /// The service.
    pub service: ServiceId,
    /// Position in [`crate::topology::Service::ports`].
    pub port_index: u32,
    /// Where it came from.
    pub kind: FrontendKind,
    /// Address and port.
    pub place: Place,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Index in [`NodeTables::backend_sets`] of what clients in the cluster may reach from this node.
    pub internal: u32,
    /// The same for clients outside; unused with [`FrontendKind::ClusterIp`].
    pub external: u32,
    /// Seconds for which a client keeps its backend.
    pub affinity: Option<u32>,
    /// How clients outside get theirs.
    pub balancing: Balancing,
    /// Sources that clients outside must have; empty: all.
    pub source_ranges: Vec<IpNet>,
}

/// Backends to choose from. Never two equal sets on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSet {
    /// In the order of their pods in the world; of one family.
    pub backends: Vec<BackendEntry>,
    /// The Maglev table: positions in `backends`; empty where no frontend asks for one or there is no backend.
    pub maglev: Vec<u16>,
}

/// A backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackendEntry {
    /// The pod.
    pub pod: PodId,
    /// Address and port.
    pub place: Place,
}

/// How sources are rewritten that leave the cluster by this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatTables {
    /// Whether pods' traffic to the outside is masqueraded. (Node ports are translated whatever this says.)
    pub masquerade: bool,
    /// The node's address that takes the source's place, by family: IPv4, IPv6.
    pub addresses: [Option<IpAddr>; 2],
    /// Ports that translated sources get, both included.
    pub ports: (u16, u16),
    /// Destinations that see the pod's own address: native prefixes (else every pod prefix) and what
    /// masquerading excepts. Sorted.
    pub except: Vec<IpNet>,
}

/// The key of a policy entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    /// The peer, or [`Identity::ANY`].
    pub identity: Identity,
    /// The protocol; `None` any, and then `port_bits` is 0.
    pub protocol: Option<Protocol>,
    /// The port (ICMP: the type) whose first `port_bits` bits are significant; the others are 0.
    pub port: u16,
    /// 0 (any port) to 16 (this port).
    pub port_bits: u8,
}

impl PolicyKey {
    /// How many bits of protocol and port are significant: 0, 8, or 9-24.
    pub fn prefix_bits(&self) -> u8 {
        if self.protocol.is_some() { 8 + self.port_bits } else { 0 }
    }

    /// Whether a look-up with a protocol and a port finds this key's prefix. `None`: the port is not
    /// known (a later fragment), which only keys without a port can match.
    pub fn admits(&self, protocol: Protocol, port: Option<u16>) -> bool {
        let free = 16 - u32::from(self.port_bits.min(16));
        let same_port = match port {
            Some(port) => u32::from(port ^ self.port) >> free == 0,
            None => self.port_bits == 0,
        };
        self.protocol.is_none_or(|own| own == protocol && same_port)
    }
}

/// A policy entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyEntry {
    /// What it is about.
    pub key: PolicyKey,
    /// Whether it drops.
    pub deny: bool,
    /// Its number in the table, from 1.
    pub entry: EntryId,
}

/// A policy table: equal for every endpoint that refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTable {
    /// Its id on the node.
    pub id: TableId,
    /// Entries by key.
    pub entries: Vec<PolicyEntry>,
}

/// What a table says about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyHit<'a> {
    /// The entry that decides; `None` is the default deny.
    pub winner: Option<&'a PolicyEntry>,
    /// What the other look-up found, if it was made (it is not after a deny of the concrete identity).
    pub other: Option<&'a PolicyEntry>,
}

impl PolicyTable {
    /// Asks the table as the datapath does: two longest-prefix look-ups and the rule of precedence that
    /// this module states. `port` is the destination port or ICMP type, 0 for other protocols; `None` for a
    /// later fragment, which has none.
    pub fn look_up(&self, peer: Identity, protocol: Protocol, port: Option<u16>) -> PolicyHit<'_> {
        let by_peer = self.longest(peer, protocol, port);
        if by_peer.is_some_and(|hit| hit.deny) {
            return PolicyHit { winner: by_peer, other: None };
        }
        match (by_peer, self.longest(Identity::ANY, protocol, port)) {
            (Some(one), Some(any)) if any.deny || any.key.prefix_bits() > one.key.prefix_bits() => {
                PolicyHit { winner: Some(any), other: Some(one) }
            }
            (Some(one), any) => PolicyHit { winner: Some(one), other: any },
            (None, any) => PolicyHit { winner: any, other: None },
        }
    }

    /// The entry of an identity with the longest prefix that covers protocol and port.
    fn longest(
        &self,
        identity: Identity,
        protocol: Protocol,
        port: Option<u16>,
    ) -> Option<&PolicyEntry> {
        let hits = self.entries.iter().filter(|e| e.key.identity == identity);
        hits.filter(|e| e.key.admits(protocol, port)).max_by_key(|e| e.key.prefix_bits())
    }
}

/// One node's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTables {
    /// The node.
    pub node: NodeId,
    /// Whether the world identity is split by family (9 and 10 instead of 2).
    pub dual_stack: bool,
    /// How packets of pods get from node to node.
    pub routing: Routing,
    /// Who routes what leaves.
    pub host_routing: HostRouting,
    /// The overlay; its device exists on every node, and nothing is sent to it under native routing.
    pub tunnel: Tunnel,
    /// Index of the tunnel device.
    pub tunnel_ifindex: u32,
    /// Index of the underlay device.
    pub device_ifindex: u32,
    /// Index of `cilium_host`.
    pub host_ifindex: u32,
    /// Whether the host firewall is on; then one of `endpoints` is the host, and its tables are asked.
    pub host_firewall: bool,
    /// Frontends, by number.
    pub frontends: Vec<Frontend>,
    /// What frontends choose from.
    pub backend_sets: Vec<BackendSet>,
    /// Source translation.
    pub nat: NatTables,
    /// Sources that are dropped at the underlay device.
    pub prefilter: Vec<IpNet>,
    /// Encryption between nodes.
    pub encryption: Option<Encryption>,
    /// The node's own tunnel endpoint address.
    pub tunnel_address: IpAddr,
    /// Addresses that are the node itself.
    pub locals: Vec<IpAddr>,
    /// Pod prefix of each other node and the address its packets are tunneled to. Empty under native routing.
    pub tunnels: Vec<(IpNet, IpAddr)>,
    /// Addresses and prefixes, by prefix.
    pub ipcache: Vec<IpcacheEntry>,
    /// Pods, the health endpoint and the host, by id.
    pub endpoints: Vec<EndpointEntry>,
    /// Policy tables, by id.
    pub policies: Vec<PolicyTable>,
}

/// What an identity stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IdentityClass {
    /// A reserved number.
    Reserved,
    /// Pods of a namespace with exactly these labels.
    Pods {
        /// The namespace.
        namespace: String,
        /// The labels.
        labels: Labels,
        /// Where pods of equal labels differ in what a policy asks (named ports), what tells them apart,
        /// in words; empty for the undivided class.
        variant: String,
    },
    /// A prefix that rules name.
    Cidr(IpNet),
    /// An address of names that rules ask for.
    Fqdn {
        /// The address, as a prefix of full length.
        net: IpNet,
        /// Its names that rules ask for.
        names: Vec<String>,
        /// What the rules ask for: names and patterns.
        selectors: Vec<String>,
    },
}

impl IdentityClass {
    /// What a number outside the cluster stands for: `cidr 10.9.0.0/16`,
    /// `www.google.com 142.250.74.36, fqdn:*.google.com`.
    pub fn outside(&self) -> Option<String> {
        match self {
            Self::Reserved | Self::Pods { .. } => None,
            Self::Cidr(net) => Some(format!("cidr {net}")),
            Self::Fqdn { net, names, selectors } => {
                let selectors: Vec<_> = selectors.iter().map(|s| format!("fqdn:{s}")).collect();
                Some(format!("{} {}, {}", names.join(" "), net.addr(), selectors.join(", ")))
            }
        }
    }
}

/// The origins of each entry of a table, entry 1 first.
type EntryOrigins = Arc<[Vec<Origin>]>;

/// Which rules stand behind each entry. Kept by endpoint because endpoints whose policies differ in name
/// may share a table; endpoints under the same policies share their list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    policy: BTreeMap<(NodeId, EndpointId, Direction), EntryOrigins>,
}

impl Provenance {
    /// Sets the origins of all entries of an endpoint's table, entry 1 first. Each list is in deciding
    /// order: policy handle, then source order, implied ones last.
    pub fn record(
        &mut self,
        node: NodeId,
        endpoint: EndpointId,
        direction: Direction,
        origins: Arc<[Vec<Origin>]>,
    ) {
        self.policy.insert((node, endpoint, direction), origins);
    }

    /// The origins of an entry; a miss is the implied default deny. Empty for an entry that is not there.
    pub fn origins(
        &self,
        node: NodeId,
        endpoint: EndpointId,
        direction: Direction,
        entry: EntryId,
    ) -> &[Origin] {
        const DENIED: &[Origin] = &[Origin::Implied(Implied::DefaultDeny)];
        let Some(at) = entry.0.checked_sub(1) else { return DENIED };
        let lists = self.policy.get(&(node, endpoint, direction));
        lists.and_then(|lists| lists.get(at as usize)).map_or(&[], Vec::as_slice)
    }
}

/// Everything the datapath needs and everything needed to read its events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Which state of the world this is.
    pub generation: Generation,
    /// Per node, by [`NodeId`].
    pub nodes: Vec<NodeTables>,
    /// What each identity in use stands for.
    pub identities: BTreeMap<Identity, IdentityClass>,
    /// What each entry comes from.
    pub provenance: Provenance,
}

impl Tables {
    /// A node's tables.
    pub fn node(&self, id: NodeId) -> Option<&NodeTables> {
        self.nodes.get(id.index())
    }
}

impl NodeTables {
    /// The endpoint of an id.
    pub fn endpoint(&self, id: EndpointId) -> Option<&EndpointEntry> {
        self.endpoints.iter().find(|e| e.id == id)
    }

    /// The entry of an endpoint.
    pub fn endpoint_of(&self, endpoint: Endpoint) -> Option<&EndpointEntry> {
        self.endpoints.iter().find(|e| e.endpoint == endpoint)
    }

    /// The frontend of a number.
    pub fn frontend(&self, entry: EntryId) -> Option<&Frontend> {
        self.frontends.get((entry.0 as usize).checked_sub(1)?)
    }

    /// The endpoint behind a host-side veth.
    pub fn endpoint_at(&self, ifindex: u32) -> Option<&EndpointEntry> {
        self.endpoints.iter().find(|e| e.ifindex == ifindex)
    }

    /// The ipcache entry of a number.
    pub fn ipcache_entry(&self, entry: EntryId) -> Option<&IpcacheEntry> {
        self.ipcache.iter().find(|e| e.entry == entry)
    }

    /// The policy table of an id.
    pub fn table(&self, id: TableId) -> Option<&PolicyTable> {
        self.policies.iter().find(|t| t.id == id)
    }
}
