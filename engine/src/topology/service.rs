//! Services: stable addresses for sets of pods, and how their backends are chosen. As data; who is chosen is the datapath's.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::net::Protocol;
use crate::policy::Selector;
use crate::source::Span;

/// How a service's backend is chosen for a new connection from outside the cluster. In-cluster clients always get a
/// random one, as in the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Balancing {
    /// Any, evenly.
    #[default]
    Random,
    /// By the Maglev table, so that nodes choose alike and few flows move when a backend goes.
    Maglev,
}

/// Which backends traffic may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficPolicy {
    /// All of the cluster.
    #[default]
    Cluster,
    /// Those of the node that the traffic is at.
    Local,
}

/// A stable address for a set of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its namespace's name; always declared.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// At most one address of each family; none for a headless service.
    pub cluster_ips: Vec<IpAddr>,
    /// Addresses of the outside world that nodes answer for (`external-ip`).
    pub external_ips: Vec<IpAddr>,
    /// Addresses that a load balancer gave it (`load-balancer-ip`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Ports, at least one unless headless.
    pub ports: Vec<ServicePort>,
    /// Which pods of its namespace stand behind it, host-network pods included.
    pub selector: Selector,
    /// Seconds for which a client keeps its backend (`affinity client-ip`).
    pub affinity: Option<u32>,
    /// How a backend is chosen, if other than the cluster's way.
    pub balancing: Option<Balancing>,
    /// Sources that may use load-balancer addresses from outside; empty: all.
    pub source_ranges: Vec<IpNet>,
    /// Where they are written; empty span where they are not.
    pub ranges_span: Span,
    /// For clients in the cluster.
    pub internal_traffic: TrafficPolicy,
    /// For clients outside.
    pub external_traffic: TrafficPolicy,
    /// Where it is declared.
    pub span: Span,
}

impl Service {
    /// `namespace/name`.
    pub fn qualified(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether its name stands for its pods' own addresses.
    pub fn is_headless(&self) -> bool {
        self.cluster_ips.is_empty()
    }

    /// Every address of its own: cluster, external, load balancer's. Node ports are at the nodes' addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let lists = [&self.cluster_ips, &self.external_ips, &self.load_balancer_ips];
        lists.into_iter().flatten().copied()
    }
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// The port at the service's addresses.
    pub port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The pods' port.
    pub target: TargetPort,
    /// The port at every node's addresses (`node-port`).
    pub node_port: Option<u16>,
    /// Where it is declared.
    pub span: Span,
}

/// The port of a service's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// This one.
    Number(u16),
    /// The one that each pod gives this name to for the protocol; a pod without it is no backend.
    Name(String),
}
