//! The syntax of questions and of tests: parties, packet options, expectations, dialogues.

use std::net::IpAddr;

use engine::net::{Direction, Protocol, TcpFlags};
use engine::question::Known;
use engine::reason::DropReason;
use engine::source::Span;
use engine::trace::CtState;
use engine::verdict::{Implied, LegOutcome, Verdict};

use super::{Item, Name, Policy, Qualified, Spanned};

/// An endpoint as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartyName {
    /// How it is named.
    pub kind: PartyKind,
    /// Where.
    pub span: Span,
}

/// The ways to name an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartyKind {
    /// `web/client` or `client`: whatever has this name; aliases come first.
    Bare(Qualified),
    /// `pod web/client`
    Pod(Qualified),
    /// `node node01`
    Node(String),
    /// `service web/echo`
    Service(Qualified),
    /// `external search`
    External(String),
    /// `dns "www.google.com"`: the addresses of the name.
    Dns(String),
    /// `health node01`: the health endpoint of the node.
    Health(String),
    /// `world 8.8.8.8`: must be outside the cluster.
    World(IpAddr),
    /// `10.244.1.154`: whoever owns it.
    Address(IpAddr),
}

/// A destination port as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// `:80`
    Number(u16),
    /// `:http`, a name that the destination pod gives.
    Named(String),
}

/// The receiving side: a party, and where written a port and a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Who.
    pub party: PartyName,
    /// `:PORT`
    pub port: Option<Spanned<Port>>,
    /// `/PROTO`
    pub protocol: Option<Spanned<Protocol>>,
}

/// `SRC -> DST[:PORT[/PROTO]] OPTIONS`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who sends.
    pub source: PartyName,
    /// Who receives.
    pub target: Target,
    /// Everything after the two, in source order.
    pub options: Vec<Spanned<PacketOption>>,
    /// The whole question.
    pub span: Span,
}

impl Question {
    /// Whether the reply is asked too.
    pub fn with_reply(&self) -> bool {
        self.options.iter().any(|o| o.node == PacketOption::WithReply)
    }
}

/// An ICMP message as written: `echo`, `time-exceeded`, `3/4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcmpMessage {
    /// Name or number of the type.
    pub kind: Name,
    /// The code; 0 where none is written.
    pub code: Option<u8>,
}

/// What a question may say about its packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PacketOption {
    /// `syn`, `syn-ack`: TCP with these flags.
    Flags(TcpFlags),
    /// `tcp`, `udp`, `sctp`
    Protocol(Protocol),
    /// `icmp [MESSAGE]`, `icmpv6 [MESSAGE]`; an echo request where no message is written.
    Icmp {
        /// [`Protocol::Icmp`] or [`Protocol::Icmpv6`]; `icmp` on IPv6 addresses means ICMPv6 too.
        family: Protocol,
        /// The message.
        message: Option<IcmpMessage>,
    },
    /// `id N`: the echo identifier.
    Id(u16),
    /// `seq N`: the echo or TCP sequence number.
    Seq(u32),
    /// `ip-id N`: the IP identification.
    IpId(u16),
    /// `flow-label N`: IPv6's flow label.
    FlowLabel(u32),
    /// `df`
    DontFragment,
    /// `length N`: the IP length, headers included.
    Length(u16),
    /// `ttl N`: TTL or hop limit.
    Ttl(u8),
    /// `mtu N`: what an ICMP error says that the way takes.
    Mtu(u32),
    /// `from-port N`
    FromPort(u16),
    /// `from-ip A`: the source address that the packet claims.
    FromIp(IpAddr),
    /// `payload "..."`
    Payload(String),
    /// `hex 0a0b`
    Hex(Vec<u8>),
    /// `http GET "/path"`: an HTTP request on a connection that is opened first.
    Http {
        /// In capital letters.
        method: String,
        /// With the query, from the slash on.
        path: String,
    },
    /// `fragment offset N [more]`, `fragment more`
    Fragment {
        /// In bytes, a multiple of 8.
        offset: u16,
        /// More fragments follow.
        more: bool,
    },
    /// `ip-options 0101`: bytes of IPv4's options, at most 40.
    IpOptions(Vec<u8>),
    /// `extensions hop-by-hop, routing`: IPv6 extension headers by number, in the packet's order.
    Extensions(Vec<u8>),
    /// `ip4` (false), `ip6` (true): which family, where both sides have both.
    Family {
        /// IPv6.
        v6: bool,
    },
    /// `quoting last`: an ICMP error about the dialogue's latest packet.
    QuotingLast,
    /// `quoting ( QUESTION )`: an ICMP error about this packet.
    Quoting(Box<Question>),
    /// `with reply`
    WithReply,
    /// `with conntrack established`, `with conntrack reply`
    Known(Known),
    /// `choose backend [pod] web/echo-1`
    Choose(PartyName),
}

/// `test "name" { ... }`
#[derive(Clone, Debug)]
pub struct Test {
    /// Its name.
    pub name: Name,
    /// Flows and dialogues, in source order.
    pub lines: Vec<Spanned<TestLine>>,
}

/// What a test block may hold.
#[derive(Clone, Debug)]
pub enum TestLine {
    /// A flow on its own conntrack state.
    Flow(FlowCase),
    /// A packet at a hook, likewise.
    At(AtCase),
    /// Steps that share one.
    Dialogue(Dialogue),
}

/// `QUESTION => EXPECTATION`
#[derive(Clone, Debug)]
pub struct FlowCase {
    /// What is asked.
    pub question: Question,
    /// What must come out. A test's flow always has one.
    pub expectation: Option<Expectation>,
}

/// `dialogue "name" { ... }`
#[derive(Clone, Debug)]
pub struct Dialogue {
    /// Its name.
    pub name: Name,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// A step of a dialogue.
#[derive(Clone, Debug)]
pub struct Step {
    /// What happens.
    pub kind: StepKind,
    /// Where.
    pub span: Span,
}

/// The kinds of step.
#[derive(Clone, Debug)]
pub enum StepKind {
    /// A flow; it becomes the dialogue's flow, that `reply` and `send` continue.
    Flow(FlowCase),
    /// A packet at a hook, on the dialogue's conntrack; the dialogue's flow stays what it is.
    At(AtCase),
    /// `reply ...` or `send ...`
    FollowUp(FollowUp),
    /// `wait 61s`
    Wait {
        /// The number as written.
        amount: u32,
        /// `s`, `m` or `h`.
        unit: char,
    },
    /// `policy ... { ... }`: adds it, or replaces the one of that handle.
    Policy(Policy),
    /// `remove policy HANDLE`
    RemovePolicy(Spanned<Qualified>),
    /// `pod ... { ... }` or `service ... { ... }`: adds it, or replaces the one of that name.
    World(Box<Item>),
    /// `remove pod NAME` or `remove service NAME`
    RemoveWorld {
        /// `pod` or `service`.
        kind: &'static str,
        /// The name.
        name: Spanned<Qualified>,
    },
}

/// `at NODE HOOK ...`, with what is expected of it.
#[derive(Clone, Debug)]
pub struct AtCase {
    /// The packet.
    pub question: super::RawQuestion,
    /// What must come out.
    pub expectation: Option<Expectation>,
}

/// A further packet of the dialogue's flow.
#[derive(Clone, Debug)]
pub struct FollowUp {
    /// `true` for `reply`: from the side that received the flow's first packet.
    pub reply: bool,
    /// What differs from the natural packet.
    pub options: Vec<Spanned<PacketOption>>,
    /// What must come out.
    pub expectation: Option<Expectation>,
}

/// What follows `=>`.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// The verdict.
    pub verdict: Spanned<Verdict>,
    /// Why it is dropped.
    pub reason: Option<Spanned<Reason>>,
    /// Where it is decided.
    pub place: Option<Place>,
    /// What else must hold.
    pub facts: Vec<Spanned<Fact>>,
    /// From the verdict's word to the end.
    pub span: Span,
}

/// Why a packet is expected to be dropped: a word of a direction, or a drop reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// `default-deny` or `denied`: what the deciding direction came to.
    Outcome(LegOutcome),
    /// `ttl-exceeded`, `policy-denied`: the drop reason itself, by name or number.
    Drop(DropReason),
}

/// `at ingress [of PARTY]`
#[derive(Clone, Debug)]
pub struct Place {
    /// The deciding direction.
    pub direction: Direction,
    /// Whose.
    pub of: Option<PartyName>,
    /// Where it is written.
    pub span: Span,
}

/// One end of a packet as it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its source (`arrives from`), else its destination (`arrives at`).
    pub of_source: bool,
    /// The address.
    pub address: IpAddr,
    /// The port, if it matters.
    pub port: Option<u16>,
}

/// One fact that an answer must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `by policy#rule` (any direction decided by it), or `by policy` (any rule of it).
    By {
        /// The policy.
        policy: Qualified,
        /// The rule.
        rule: Option<String>,
    },
    /// `implied not-isolated`
    Implied(Implied),
    /// `tunneled`, `tunnel node02`
    Tunneled(Option<Name>),
    /// `not tunneled`
    NotTunneled,
    /// `conntrack new`: on the first node that tracks the packet.
    Conntrack(CtState),
    /// `identity N`: of the sender, as the deciding node knows it.
    Identity(u32),
    /// `ingress not-isolated`
    Leg(Direction, LegOutcome),
    /// `reply allowed`: of a question with reply.
    Reply(Verdict),
    /// `ttl N`: as it leaves the last hop.
    Ttl(u8),
    /// `backend web/echo-0[:8080]`: that a service chose.
    Backend {
        /// The pod.
        pod: PartyName,
        /// Its port.
        port: Option<u16>,
    },
    /// `backend none`: a service had none to choose.
    NoBackend,
    /// `snat ADDRESS`: the source leaves with this address instead.
    Snat(IpAddr),
    /// `not snat`
    NotSnat,
    /// `arrives from ADDRESS[:PORT]`, `arrives at ADDRESS[:PORT]`
    Arrives(Arrival),
    /// `encrypted`
    Encrypted,
    /// `not encrypted`
    NotEncrypted,
}
