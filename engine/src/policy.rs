//! Policies as values: who is selected, which rules, in whose words. Never how a rule is decided
//! (`eval`) or stored (`compile`).

use std::fmt;

use ipnet::IpNet;
use serde::Serialize;

use crate::dns::DnsPattern;
use crate::net::{Direction, PortRange, Protocol};
use crate::source::Span;
use crate::topology::Labels;

/// One condition on a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What must hold.
    pub operator: Operator,
    /// Where it is written.
    pub span: Span,
}

/// The conditions that Kubernetes label selectors know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `key = "value"`
    Equals(String),
    /// `key != "value"`: absent, or another value.
    NotEquals(String),
    /// `key in ("a", "b")`
    In(Vec<String>),
    /// `key not in ("a", "b")`: absent, or another value.
    NotIn(Vec<String>),
    /// `key`
    Exists,
    /// `!key`
    NotExists,
}

impl Requirement {
    /// Whether a set of labels meets the condition.
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::Equals(wanted) => value == Some(wanted),
            Operator::NotEquals(unwanted) => value != Some(unwanted),
            Operator::In(wanted) => value.is_some_and(|v| wanted.contains(v)),
            Operator::NotIn(unwanted) => !value.is_some_and(|v| unwanted.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::NotExists => value.is_none(),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.operator {
            Operator::Equals(v) => write!(f, "{key}={v}"),
            Operator::NotEquals(v) => write!(f, "{key}!={v}"),
            Operator::In(vs) => write!(f, "{key} in ({})", vs.join(",")),
            Operator::NotIn(vs) => write!(f, "{key} not in ({})", vs.join(",")),
            Operator::Exists => write!(f, "{key}"),
            Operator::NotExists => write!(f, "!{key}"),
        }
    }
}

/// A label selector: every requirement must hold; none at all selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    /// The conditions, in source order.
    pub requirements: Vec<Requirement>,
}

impl Selector {
    /// Whether the labels meet every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.first_failure(labels).is_none()
    }

    /// The first requirement that the labels do not meet.
    pub fn first_failure(&self, labels: &Labels) -> Option<&Requirement> {
        self.requirements.iter().find(|r| !r.holds(labels))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if at == 0 { "" } else { ", " })?;
        }
        f.write_str("}")
    }
}

/// Which namespaces a pod peer or subject lives in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Namespaces {
    /// The policy's own (the default of a namespaced policy).
    Own,
    /// One, by name.
    Named(String),
    /// Those whose labels match.
    Matching(Selector),
    /// All (the default of a clusterwide policy).
    Any,
}

/// Well-known groups of peers. Members as in Cilium 1.18 (`pkg/policy/api/entity.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entity {
    /// Everyone.
    All,
    /// Everyone outside the cluster, both families.
    World,
    /// Everyone outside, IPv4, in a dual-stack cluster; nobody in a cluster of one family.
    WorldIpv4,
    /// Everyone outside, IPv6, in a dual-stack cluster; nobody in a cluster of one family.
    WorldIpv6,
    /// Everyone inside: pods, host, remote nodes, health, init, unmanaged, ingress, API server.
    Cluster,
    /// The endpoint's own node.
    Host,
    /// Other nodes.
    RemoteNode,
    /// The API server.
    KubeApiserver,
    /// Health endpoints.
    Health,
    /// Endpoints without labels yet.
    Init,
    /// Endpoints nobody manages.
    Unmanaged,
    /// The ingress proxy.
    Ingress,
    /// Nobody.
    None,
}

impl Entity {
    /// Every entity with the word the language uses.
    pub const ALL: [(Self, &'static str); 13] = [
        (Self::All, "all"),
        (Self::World, "world"),
        (Self::WorldIpv4, "world-ipv4"),
        (Self::WorldIpv6, "world-ipv6"),
        (Self::Cluster, "cluster"),
        (Self::Host, "host"),
        (Self::RemoteNode, "remote-node"),
        (Self::KubeApiserver, "kube-apiserver"),
        (Self::Health, "health"),
        (Self::Init, "init"),
        (Self::Unmanaged, "unmanaged"),
        (Self::Ingress, "ingress"),
        (Self::None, "none"),
    ];

    /// The language's word.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(e, _)| *e == self).map_or("?", |(_, word)| word)
    }
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The condition.
    pub kind: PeerKind,
    /// Where it is written.
    pub span: Span,
}

/// The kinds of peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// Pods by labels. Never host-network pods.
    Pods {
        /// Labels.
        selector: Selector,
        /// Namespaces.
        namespaces: Namespaces,
    },
    /// Outside addresses. In the cilium dialect never a managed pod or a node.
    Cidr {
        /// The prefix.
        net: IpNet,
        /// Holes in it.
        except: Vec<IpNet>,
    },
    /// A well-known group.
    Entity(Entity),
    /// The pods behind a service, on every port unless the rule says which.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The known addresses of a name, or of every known name that a pattern matches.
    Dns(DnsPattern),
}

/// What traffic a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// The condition.
    pub kind: PortKind,
    /// Where it is written.
    pub span: Span,
}

/// The kinds of port condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// Numbers; `None` means TCP, UDP and SCTP alike. `0-65535` means every port of the protocol.
    Numbers {
        /// The ports.
        range: PortRange,
        /// The protocol.
        protocol: Option<Protocol>,
    },
    /// The port that the destination pod gives this name to, for TCP, UDP or SCTP.
    Named {
        /// The name.
        name: String,
        /// Restricts the protocol, where written.
        protocol: Option<Protocol>,
    },
    /// A message type. `family` says which ICMP: [`Protocol::Icmp`] or [`Protocol::Icmpv6`].
    Icmp {
        /// Which ICMP.
        family: Protocol,
        /// The type; `None` is every type.
        kind: Option<u8>,
    },
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Lets matching traffic pass unless a deny matches too.
    Allow,
    /// Drops matching traffic.
    Deny,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// A policy of [`PolicySet::policies`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PolicyId(pub u32);

/// A rule: its policy and its place in the policy's source order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RuleId {
    /// The policy.
    pub policy: PolicyId,
    /// Position in [`Policy::rules`].
    pub index: u32,
}

/// One sentence of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name after `as`, else `ingress[0]`, `egress[1]`: position among the policy's rules of that
    /// direction.
    pub name: String,
    /// Which side.
    pub direction: Direction,
    /// What it does.
    pub action: Action,
    /// Whom it is about. `None`: anyone. `Some(vec![])` (`none`): nobody, yet it isolates.
    pub peers: Option<Vec<Peer>>,
    /// What traffic. `None`: everything. Alternatives: one must match.
    pub ports: Option<Vec<PortSpec>>,
    /// Who answers for it, if other than the policy's owner.
    pub owner: Option<String>,
    /// Why it exists, if other than the policy's reason.
    pub because: Option<String>,
    /// The whole rule's text, from its first word.
    pub span: Span,
}

/// How a policy isolates in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// Where the policy has a rule for the direction.
    #[default]
    ByRules,
    /// Always (`default-deny DIRECTION`).
    Always,
    /// Never (`default-deny off`).
    Never,
}

/// What kind of endpoint a policy selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SubjectKind {
    /// Pods.
    #[default]
    Pods,
    /// Nodes, by their labels (`select nodes`): the host firewall's policies, which are clusterwide.
    Nodes,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `namespace/name`, or `name` for a clusterwide one. Unique.
    pub handle: String,
    /// The namespace of a namespaced policy.
    pub namespace: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Why it exists.
    pub because: Option<String>,
    /// What it selects.
    pub subject_kind: SubjectKind,
    /// Labels of the pods or nodes it selects.
    pub subject: Selector,
    /// Namespaces of the pods it selects: `Own` for a namespaced policy.
    pub subject_namespaces: Namespaces,
    /// Isolation of senders.
    pub egress: Isolation,
    /// Isolation of receivers.
    pub ingress: Isolation,
    /// Rules in source order.
    pub rules: Vec<Rule>,
    /// The whole policy's text; its first byte is what explanations point at.
    pub span: Span,
}

impl Policy {
    /// Whether a selected endpoint is isolated by this policy in the direction.
    pub fn isolates(&self, direction: Direction) -> bool {
        let isolation = match direction {
            Direction::Egress => self.egress,
            Direction::Ingress => self.ingress,
        };
        match isolation {
            Isolation::Always => true,
            Isolation::Never => false,
            Isolation::ByRules => self.rules.iter().any(|r| r.direction == direction),
        }
    }
}

/// All policies, sorted by handle so that an id depends on names only, not on file order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySet {
    policies: Vec<Policy>,
}

impl PolicySet {
    /// Sorts by handle and fixes the ids. Handles must be unique; the front end checks that.
    pub fn new(mut policies: Vec<Policy>) -> Self {
        policies.sort_by(|a, b| a.handle.cmp(&b.handle));
        Self { policies }
    }

    /// The policies with their ids, by handle.
    pub fn iter(&self) -> impl Iterator<Item = (PolicyId, &Policy)> {
        (0..).map(PolicyId).zip(&self.policies)
    }

    /// The policy behind an id.
    pub fn get(&self, id: PolicyId) -> Option<&Policy> {
        self.policies.get(id.0 as usize)
    }

    /// The policy of a handle.
    pub fn find(&self, handle: &str) -> Option<&Policy> {
        let at =
            self.policies.binary_search_by(|policy| policy.handle.as_str().cmp(handle)).ok()?;
        self.policies.get(at)
    }

    /// The policy and rule behind an id.
    pub fn rule(&self, id: RuleId) -> Option<(&Policy, &Rule)> {
        let policy = self.get(id.policy)?;
        Some((policy, policy.rules.get(id.index as usize)?))
    }

    /// `policy#rule`, the handle that tests, JSON and metrics use.
    pub fn rule_handle(&self, id: RuleId) -> String {
        self.rule(id).map_or_else(|| "?".into(), |(p, r)| format!("{}#{}", p.handle, r.name))
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }
}
