//! The syntax of services.

use std::net::IpAddr;

use engine::net::Protocol;
use engine::policy::Selector;
use engine::topology::{Balancing, TrafficPolicy};
use ipnet::IpNet;

use super::{Name, Qualified, Spanned};

/// `service NS/NAME { ... }`
#[derive(Clone, Debug)]
pub struct Service {
    /// Namespace and name.
    pub handle: Spanned<Qualified>,
    /// Its fields, in source order.
    pub fields: Vec<Spanned<ServiceField>>,
}

/// What a service block may hold.
#[derive(Clone, Debug)]
pub enum ServiceField {
    /// `cluster-ip A[, A]`; none for `cluster-ip none`.
    ClusterIp(Vec<Spanned<IpAddr>>),
    /// `external-ip A, A`
    ExternalIp(Vec<Spanned<IpAddr>>),
    /// `load-balancer-ip A, A`
    LoadBalancerIp(Vec<Spanned<IpAddr>>),
    /// `port [NAME] N[/PROTO] [-> TARGET] [node-port N]`
    Port(ServicePort),
    /// `select { ... }`
    Select(Selector),
    /// `affinity client-ip [timeout T]`, in seconds.
    Affinity(u32),
    /// `balance random|maglev`
    Balance(Balancing),
    /// `source-ranges C, C`
    SourceRanges(Vec<Spanned<IpNet>>),
    /// `internal-traffic cluster|local`
    InternalTraffic(TrafficPolicy),
    /// `external-traffic cluster|local`
    ExternalTraffic(TrafficPolicy),
}

/// A port of a service.
#[derive(Clone, Debug)]
pub struct ServicePort {
    /// Its name, where it has one.
    pub name: Option<Name>,
    /// Its number.
    pub number: Spanned<u16>,
    /// Its protocol; TCP where none is written.
    pub protocol: Option<Protocol>,
    /// The pods' port; the same number where none is written.
    pub target: Option<Spanned<TargetPort>>,
    /// `node-port N`
    pub node_port: Option<Spanned<u16>>,
}

/// The port behind `->`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// `8080`
    Number(u16),
    /// `http`, a name that each pod gives.
    Named(String),
}
