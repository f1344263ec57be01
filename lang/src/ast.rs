//! The syntax tree: what a text says, with the place of every part. Names are not looked up and nothing
//! is checked across items here; that is `lower`'s. Parts that mean the same in the engine (selectors,
//! prefixes, MACs) are the engine's own values.

use std::net::IpAddr;

use engine::net::{Direction, Mac, Protocol};
use engine::policy::Selector;
use engine::source::{FileId, Span};
use engine::topology::{Balancing, Encryption, HostRouting};
use ipnet::IpNet;

mod flow;
mod raw;
mod service;

pub use flow::{
    Arrival, AtCase, Dialogue, Expectation, Fact, FlowCase, FollowUp, IcmpMessage, PacketOption,
    PartyKind, PartyName, Place, Port, Question, Reason, Step, StepKind, Target, Test, TestLine,
};
pub use raw::{IpLayer, Layer, RawQuestion, RawSource, TunnelKey};
pub use service::{Service, ServiceField, ServicePort, TargetPort};

/// A part with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The part.
    pub node: T,
    /// Where it is written.
    pub span: Span,
}

/// A word or the content of a string, with its place.
pub type Name = Spanned<String>;

/// One file, or one text typed in a session.
#[derive(Clone, Debug, Default)]
pub struct Ast {
    /// The text it was read from.
    pub file: FileId,
    /// Statements that could be read, in source order.
    pub items: Vec<Item>,
    /// Every comment, in source order.
    pub comments: Vec<Comment>,
    /// Statements that could not be read, by what could be made out of their first words; names that
    /// they would have declared are not reported as unknown.
    pub failed: Vec<FailedItem>,
    /// Something of the text was wrong or is not supported, and may be missing from what could be read of it.
    pub partial: bool,
}

/// A comment, without its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// From `#` to the last character that is not white space.
    pub span: Span,
    /// The text with its `#`.
    pub text: String,
}

/// A statement that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedItem {
    /// What it began as (`pod`, `cluster`).
    pub keyword: String,
    /// Its name, where one could be read.
    pub name: Option<String>,
    /// Its place.
    pub span: Span,
}

/// A top-level statement.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it says.
    pub kind: ItemKind,
    /// Its whole text.
    pub span: Span,
}

/// The kinds of top-level statement.
#[derive(Clone, Debug)]
pub enum ItemKind {
    /// `cluster NAME { ... }`
    Cluster(Cluster),
    /// `node NAME { ... }` outside a cluster block: adds to the cluster.
    Node(Node),
    /// `namespace NAME { ... }`
    Namespace(Namespace),
    /// `pod NS/NAME on NODE { ... }`
    Pod(Pod),
    /// `service NS/NAME { ... }`
    Service(Service),
    /// `external NAME { ip A }`
    External(External),
    /// `identity N { namespace NS labels { ... } }`
    Identity(IdentityPin),
    /// `alias A = ns/name`
    Alias(Alias),
    /// `include "file"`
    Include(Name),
    /// `policy NS/NAME { ... }` or `clusterwide policy NAME { ... }`
    Policy(Policy),
    /// `test "name" { ... }`
    Test(Test),
}

impl Item {
    /// What kind of statement it is and its name, by which a session replaces and removes it. `include`
    /// is named by its file.
    pub fn key(&self) -> (&'static str, String) {
        match &self.kind {
            ItemKind::Cluster(c) => ("cluster", c.name.node.clone()),
            ItemKind::Node(n) => ("node", n.name.node.clone()),
            ItemKind::Namespace(n) => ("namespace", n.name.node.clone()),
            ItemKind::Pod(p) => ("pod", p.handle.node.to_string()),
            ItemKind::Service(s) => ("service", s.handle.node.to_string()),
            ItemKind::External(e) => ("external", e.name.node.clone()),
            ItemKind::Identity(i) => ("identity", i.number.node.to_string()),
            ItemKind::Alias(a) => ("alias", a.name.node.clone()),
            ItemKind::Include(path) => ("include", path.node.clone()),
            ItemKind::Policy(p) => ("policy", p.handle.node.to_string()),
            ItemKind::Test(t) => ("test", t.name.node.clone()),
        }
    }
}

/// `cluster NAME { ... }`
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: Name,
    /// Settings and nodes, in source order.
    pub fields: Vec<Spanned<ClusterField>>,
}

/// What a cluster block may hold.
#[derive(Clone, Debug)]
pub enum ClusterField {
    /// `like cilium 1.18`
    Like {
        /// `cilium`
        profile: Name,
        /// `1.18`
        version: Name,
    },
    /// `tunnel vxlan|geneve [port 8472] [device NAME]`
    Tunnel {
        /// The encapsulation's word.
        kind: Name,
        /// UDP port.
        port: Option<Spanned<u16>>,
        /// The tunnel device.
        device: Option<Name>,
    },
    /// `tunnel none`
    Native,
    /// `host-routing bpf|stack`
    HostRouting(HostRouting),
    /// `native-cidr C, C`
    NativeCidr(Vec<Spanned<IpNet>>),
    /// `masquerade on|off [except C, C] [ports A-B]`
    Masquerade {
        /// Whether it is on.
        on: bool,
        /// Destinations left out.
        except: Vec<Spanned<IpNet>>,
        /// Lowest and highest port.
        ports: Option<Spanned<(u16, u16)>>,
    },
    /// `balance random|maglev`
    Balance(Balancing),
    /// `host-firewall on|off`
    HostFirewall(bool),
    /// `prefilter C, C`
    Prefilter(Vec<Spanned<IpNet>>),
    /// `encryption wireguard [nodes]`, `encryption ipsec key N`
    Encryption(Encryption),
    /// `node NAME { ... }`
    Node(Node),
}

/// `node NAME { ... }`
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: Name,
    /// Its fields, in source order.
    pub fields: Vec<Spanned<NodeField>>,
}

/// What a node block may hold.
#[derive(Clone, Debug)]
pub enum NodeField {
    /// `ip A, A`
    Ip(Vec<Spanned<IpAddr>>),
    /// `pods CIDR, CIDR`
    Pods(Vec<Spanned<IpNet>>),
    /// `local A, A`
    Local(Vec<Spanned<IpAddr>>),
    /// `device NAME`
    Device(Name),
    /// `mac M`
    Mac(Mac),
    /// `labels { ... }`
    Labels(Vec<Label>),
    /// `health A, A`
    Health(Vec<Spanned<IpAddr>>),
}

/// `namespace NAME { labels { ... } }`
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name.
    pub name: Name,
    /// Each `labels` block, in source order.
    pub fields: Vec<Spanned<Vec<Label>>>,
}

/// `key = "value"`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The key.
    pub key: Name,
    /// The value.
    pub value: Name,
}

/// `[namespace/]name`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Qualified {
    /// The part before the slash.
    pub namespace: Option<String>,
    /// The part after it.
    pub name: String,
}

impl std::fmt::Display for Qualified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// `pod NS/NAME on NODE { ... }`
#[derive(Clone, Debug)]
pub struct Pod {
    /// Namespace and name.
    pub handle: Spanned<Qualified>,
    /// The node's name.
    pub node: Name,
    /// Its fields, in source order.
    pub fields: Vec<Spanned<PodField>>,
}

/// What a pod block may hold.
#[derive(Clone, Debug)]
pub enum PodField {
    /// `ip A, A`
    Ip(Vec<Spanned<IpAddr>>),
    /// `labels { ... }`
    Labels(Vec<Label>),
    /// `port NAME N/PROTO`
    Port {
        /// The port's name.
        name: Name,
        /// Its number.
        number: Spanned<u16>,
        /// Its protocol; TCP where none is written.
        protocol: Option<Protocol>,
    },
    /// `mac M`
    Mac(Mac),
    /// `host-mac M`
    HostMac(Mac),
    /// `interface NAME`
    Interface(Name),
    /// `ifindex N`
    Ifindex(u32),
    /// `endpoint N`
    Endpoint(u16),
    /// `host-network`
    HostNetwork,
    /// `not-ready`
    NotReady,
    /// `terminating`
    Terminating,
}

/// `external NAME { ip A dns "NAME" }`
#[derive(Clone, Debug)]
pub struct External {
    /// Its name.
    pub name: Name,
    /// Its fields, in source order.
    pub fields: Vec<Spanned<ExternalField>>,
}

/// What an external's block may hold.
#[derive(Clone, Debug)]
pub enum ExternalField {
    /// `ip A, A`
    Ip(Vec<Spanned<IpAddr>>),
    /// `dns "NAME" [ttl 300s]`
    Dns {
        /// The name.
        name: Name,
        /// Seconds that the answer holds.
        ttl: Option<u32>,
    },
}

/// `identity N { namespace NS labels { ... } }`
#[derive(Clone, Debug)]
pub struct IdentityPin {
    /// The number.
    pub number: Spanned<u32>,
    /// Its fields, in source order.
    pub fields: Vec<Spanned<IdentityField>>,
}

/// What an identity block may hold.
#[derive(Clone, Debug)]
pub enum IdentityField {
    /// `namespace NAME`
    Namespace(Name),
    /// `labels { ... }`
    Labels(Vec<Label>),
}

/// `alias A = ns/name`
#[derive(Clone, Debug)]
pub struct Alias {
    /// The short name.
    pub name: Name,
    /// What it stands for.
    pub target: PartyName,
}

/// A policy block.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whether it is written `clusterwide policy`.
    pub clusterwide: bool,
    /// Its handle.
    pub handle: Spanned<Qualified>,
    /// From its first word to the name.
    pub head: Span,
    /// Its lines, in source order.
    pub lines: Vec<Spanned<PolicyLine>>,
    /// The whole block.
    pub span: Span,
}

/// What a policy block may hold.
#[derive(Clone, Debug)]
pub enum PolicyLine {
    /// `owner "..."`
    Owner(Name),
    /// `because "..."`
    Because(Name),
    /// `select { ... }` or `select pods { ... } in ...`
    Select {
        /// Labels of the subjects.
        selector: Selector,
        /// Their namespaces, where written.
        scope: Option<Spanned<Scope>>,
        /// Whether the word `pods` is written.
        pods: bool,
    },
    /// `select nodes { ... }`: labels of the nodes.
    SelectNodes(Selector),
    /// `default-deny ingress, egress`; no direction at all stands for `off`.
    DefaultDeny(Vec<Spanned<Direction>>),
    /// A rule.
    Rule(Rule),
}

/// The namespaces of a pod peer or subject.
#[derive(Clone, Debug)]
pub enum Scope {
    /// `in namespace NAME`
    Named(Name),
    /// `in namespaces { ... }`
    Matching(Selector),
    /// `in any namespace`
    Any,
}

/// One sentence of a policy.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `true` for `deny`.
    pub deny: bool,
    /// Which side.
    pub direction: Direction,
    /// The name after `as`.
    pub name: Option<Name>,
    /// `from ...` or `to ...`.
    pub peers: Option<Spanned<PeerClause>>,
    /// `on ...`
    pub ports: Option<Vec<Spanned<RulePort>>>,
    /// `owner "..."`
    pub owner: Option<Name>,
    /// `because "..."`
    pub because: Option<Name>,
}

/// `from` or `to` and what follows.
#[derive(Clone, Debug)]
pub struct PeerClause {
    /// Whether it says `from`.
    pub from: bool,
    /// The alternatives; none for `none`.
    pub peers: Vec<Spanned<Peer>>,
}

/// Whom a rule is about.
#[derive(Clone, Debug)]
pub enum Peer {
    /// `pods { ... } [in ...]`
    Pods {
        /// Labels.
        selector: Selector,
        /// Namespaces, where written.
        scope: Option<Spanned<Scope>>,
    },
    /// `cidr C [except C, C]`
    Cidr {
        /// The prefix.
        net: Spanned<IpNet>,
        /// Holes in it.
        except: Vec<Spanned<IpNet>>,
    },
    /// `entities a, b`
    Entities(Vec<Name>),
    /// `service [NS/]NAME`
    Service(Spanned<Qualified>),
    /// `dns "a", "b"`: names and patterns.
    Dns(Vec<Name>),
}

/// What traffic a rule is about.
#[derive(Clone, Debug)]
pub enum RulePort {
    /// `80`, `80/tcp`, `9000-9010/tcp`
    Numbers {
        /// Lowest port.
        first: u16,
        /// Highest port.
        last: u16,
        /// The protocol, where written and not `any`.
        protocol: Option<Protocol>,
    },
    /// `tcp`: every port of the protocol.
    Whole(Protocol),
    /// `http`, `http/tcp`
    Named {
        /// The port's name.
        name: String,
        /// The protocol, where written and not `any`.
        protocol: Option<Protocol>,
    },
    /// `icmp [TYPE]`, `icmpv6 [TYPE]`
    Icmp {
        /// Which ICMP.
        family: Protocol,
        /// The type as written, by name or number.
        message: Option<Name>,
    },
}
