//! Security identities: numbers that stand for label sets, as Cilium numbers them
//! (CILIUM identity ranges: 1-255 reserved, 256-65535 cluster, `0x0100_0001` and up node-local CIDR).
//! Allotment lives in `compile`; this module owns the numbers' meaning only.

use std::fmt;

use serde::Serialize;

/// A security identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Identity(pub u32);

impl Identity {
    /// "Any" in a policy key; never the identity of a packet.
    pub const ANY: Self = Self(0);
    /// The node itself.
    pub const HOST: Self = Self(1);
    /// Everything outside the cluster.
    pub const WORLD: Self = Self(2);
    /// An endpoint that nobody manages.
    pub const UNMANAGED: Self = Self(3);
    /// The health endpoint.
    pub const HEALTH: Self = Self(4);
    /// An endpoint whose labels are not known yet.
    pub const INIT: Self = Self(5);
    /// Another node of the cluster.
    pub const REMOTE_NODE: Self = Self(6);
    /// The Kubernetes API server.
    pub const KUBE_APISERVER: Self = Self(7);
    /// The ingress proxy.
    pub const INGRESS: Self = Self(8);
    /// Outside the cluster, IPv4, where the cluster is dual-stack.
    pub const WORLD_IPV4: Self = Self(9);
    /// Outside the cluster, IPv6, where the cluster is dual-stack.
    pub const WORLD_IPV6: Self = Self(10);

    /// First number for pods.
    pub const FIRST_CLUSTER: u32 = 256;
    /// Last number for pods.
    pub const LAST_CLUSTER: u32 = 65_535;
    /// First number for CIDR prefixes (node-local scope).
    pub const FIRST_CIDR: u32 = 0x0100_0001;
    /// Last number for CIDR prefixes.
    pub const LAST_CIDR: u32 = 0x01FF_FFFF;

    /// The name of a reserved number.
    pub fn reserved_name(self) -> Option<&'static str> {
        Some(match self {
            Self::HOST => "host",
            Self::WORLD => "world",
            Self::UNMANAGED => "unmanaged",
            Self::HEALTH => "health",
            Self::INIT => "init",
            Self::REMOTE_NODE => "remote-node",
            Self::KUBE_APISERVER => "kube-apiserver",
            Self::INGRESS => "ingress",
            Self::WORLD_IPV4 => "world-ipv4",
            Self::WORLD_IPV6 => "world-ipv6",
            _ => return None,
        })
    }

    /// Whether the number stands for a CIDR prefix.
    pub fn is_cidr(self) -> bool {
        (Self::FIRST_CIDR..=Self::LAST_CIDR).contains(&self.0)
    }

    /// Whether the number stands for something outside the cluster (world or a CIDR).
    pub fn is_world(self) -> bool {
        self.is_cidr() || matches!(self, Self::WORLD | Self::WORLD_IPV4 | Self::WORLD_IPV6)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
