//! Joins what the datapath said (events), what stands behind it (provenance) and what the oracle says
//! (reasons) into one [`Explanation`], or into a [`Divergence`] when they contradict each other.
//! Names are resolved here; words, order of lines and levels of detail are the renderers' (`repl`).

mod changes;
mod compare;
mod elsewise;
mod join;
mod names;
mod nearest;
mod obstacle;
mod other_backends;
mod packet;
mod posed;
mod seen;
mod service;
mod steps;
mod wire;

pub use changes::{FlowKind, FlowState, Known, KnownChange, KnownFlow, changes, gone};
pub use join::{Context, ENTRANCE, explain};
pub use obstacle::{Candidate, HeaderFault, Obstacle, Traffic, Unfit};
pub use other_backends::other_backends;
pub use seen::choices;
pub use wire::{Ends, ends};

use serde::Serialize;

use crate::identity::Identity;
use crate::net::{Direction, Hook, Protocol};
use crate::reason::DropReason;
use crate::source::Location;
use crate::tables::{EntryId, FrontendKind, Generation};
use crate::topology::TunnelKind;
use crate::trace::{Choice, CtState, Rewriting};
pub use crate::verdict::{LegOutcome, Verdict};

/// Version of the JSON form; goes up when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// Whether the two opinions agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Agreement {
    /// Same verdict, same reason, and the deciding rule is one the oracle names too.
    Agree,
    /// They differ: a bug of hopwise, shown as such.
    Differ,
    /// Only one opinion exists.
    Single,
}

/// Why an answer is `undecided`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Undecided {
    /// Events did not fit the buffer, so that what was seen is not all that happened.
    EventsLost,
    /// A program ran and did not say what it did with the packet.
    OutcomeNotSeen,
    /// The packet left for a place that nobody watches.
    NotFollowed,
    /// Events speak of another state of the tables than the one at hand, so that their entries cannot be
    /// attributed.
    OtherGeneration,
    /// The question wants the flow to be known already, and its opening packets do not get through.
    NotOpened,
    /// A real packet was sent on its way and did not reach the next program in time; [`Explanation::unobserved`] says which.
    NotObserved,
}

/// What decided one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Decided {
    /// Which direction.
    pub direction: Direction,
    /// Whose policy: `web/client`.
    pub endpoint: String,
    /// The outcome.
    pub outcome: LegOutcome,
    /// The policy's handle; null for an implied decision.
    pub policy: Option<String>,
    /// The rule's name within the policy.
    pub rule: Option<String>,
    /// `default-deny`, `not-isolated`, `local-host`, `reply`, `related` or `fragmentation-needed` (ICMPv4's
    /// path-MTU message passes policy) where no rule decided.
    pub implied: Option<String>,
    /// File of the rule.
    pub file: Option<String>,
    /// Line of the rule, from 1.
    pub line: Option<u32>,
    /// Column of the rule, from 1.
    pub column: Option<u32>,
    /// The rule's or policy's owner.
    pub owner: Option<String>,
    /// The rule's or policy's reason.
    pub because: Option<String>,
    /// The entry of the endpoint's table that the datapath reported, 0 for none (the default deny); null
    /// where policy was skipped.
    pub entry: Option<EntryId>,
    /// Further origins of the same entry: rules as `policy#rule`, implied ones by name.
    pub also: Vec<String>,
}

/// A policy that isolates the endpoint that dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Isolating {
    /// Whom: `web/client`.
    pub endpoint: String,
    /// In which direction.
    pub direction: Direction,
    /// The policy's handle.
    pub policy: String,
    /// Its owner.
    pub owner: Option<String>,
    /// Its reason.
    pub because: Option<String>,
    /// Where it is.
    #[serde(flatten)]
    pub location: Location,
}

/// A condition of a rule that a flow was held against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `selects`, `from`, `to`, `port`, `protocol` or `icmp`.
    pub name: String,
    /// Whether it held.
    pub ok: bool,
    /// What the rule wants, in words (`pods {app=client} in web`), where it did not hold.
    pub wants: Option<String>,
    /// What the flow has (`world`), where it did not hold.
    pub is: Option<String>,
    /// Where the condition is written.
    pub location: Option<Location>,
}

/// An allow rule that came near.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Nearest {
    /// `policy#rule`.
    pub rule: String,
    /// Whether the rule belongs to a policy that selects the endpoint; else `selects` is among the
    /// failed conditions.
    pub conditions: Vec<Condition>,
    /// Where the rule is.
    #[serde(flatten)]
    pub location: Location,
}

/// One thing a program did, with names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "step", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Step {
    /// Who the source is.
    Identity {
        /// The address.
        address: String,
        /// The number.
        identity: Identity,
        /// What it stands for: `{app=client} in web`, `world`, `cidr 10.9.0.0/16`.
        meaning: String,
        /// `endpoint`, `vni`, `ipcache`, `own-address` (the ipcache, for an address of the node itself) or `remembered`.
        from: String,
        /// The ipcache prefix that matched.
        prefix: Option<String>,
        /// The ipcache entry.
        entry: Option<EntryId>,
    },
    /// Who the destination is and where.
    Ipcache {
        /// The address.
        address: String,
        /// The number.
        identity: Identity,
        /// What it stands for.
        meaning: String,
        /// The ipcache prefix that matched.
        prefix: Option<String>,
        /// The ipcache entry.
        entry: Option<EntryId>,
        /// The node it is on, where it is another one.
        node: Option<String>,
        /// That node's address.
        via: Option<String>,
        /// Taken from conntrack's memory, not from a look-up.
        remembered: bool,
    },
    /// The destination is a service's: what it stands for, and what the packet goes to instead.
    Service {
        /// `web/echo`; an address that no service of the world has is its own name.
        service: String,
        /// Address and port as the packet came: `10.96.0.20:80`.
        frontend: String,
        /// What kind of address that is; null where the service does not have the port.
        kind: Option<FrontendKind>,
        /// The protocol.
        protocol: Protocol,
        /// The frontend's number in the node's tables.
        entry: Option<EntryId>,
        /// The pod that it goes to; null where there is none.
        backend: Option<String>,
        /// Its address and port.
        backend_address: Option<String>,
        /// How it was chosen.
        choice: Choice,
        /// How many there were to choose from.
        of: u16,
    },
    /// One side of the packet was rewritten.
    Rewritten {
        /// What for.
        rewriting: Rewriting,
        /// Address and port as they came.
        before: String,
        /// Address and port as they go on.
        after: String,
        /// Who has the address that matters: the pod or client that the node stands for, the service that answers.
        party: String,
        /// The identifier of an echo as it goes on, which is told instead of a port.
        identifier: Option<u16>,
        /// Whether this packet chose the port.
        created: bool,
    },
    /// The packet that an ICMP error quotes was rewritten, so that its sender knows it again.
    Requoted {
        /// Sender and receiver of the quoted packet as it came.
        before: String,
        /// As it goes on.
        after: String,
    },
    /// The packet would be encrypted on its way to the other node.
    Encrypted {
        /// `wireguard` or `ipsec`.
        by: String,
        /// The index of the key, with `ipsec`.
        key: Option<u8>,
        /// The mark that tells the kernel.
        mark: u32,
    },
    /// What conntrack knew.
    Conntrack {
        /// The state.
        state: CtState,
        /// Whether an entry was written.
        created: bool,
        /// Seconds until it expires.
        expires_in: u32,
        /// Whether it is closing.
        closing: bool,
    },
    /// A direction was decided.
    Policy {
        /// The decision.
        #[serde(flatten)]
        decided: Decided,
        /// The peer's identity.
        peer: Identity,
        /// What the peer's identity stands for.
        peer_meaning: String,
        /// Protocol asked for.
        protocol: Protocol,
        /// Port (ICMP: type) asked for.
        port: u16,
        /// The winning entry's key in words: `identity 27634, icmp 8`.
        key: Option<String>,
        /// The losing look-up's entry and key in words, where there was one.
        other: Option<(EntryId, String)>,
        /// Whether conntrack's remembered verdict was used.
        remembered: bool,
    },
    /// A direction was let through without asking its policy: a reply, or an error about a known flow.
    Skipped {
        /// The decision.
        #[serde(flatten)]
        decided: Decided,
    },
    /// It leaves by the tunnel.
    Tunnel {
        /// Encapsulation.
        kind: TunnelKind,
        /// Outer source.
        source: String,
        /// Outer destination.
        destination: String,
        /// UDP destination port.
        port: u16,
        /// VNI.
        vni: u32,
        /// What the VNI means: `web/client`.
        meaning: String,
        /// The node at the other end.
        node: Option<String>,
    },
    /// It is delivered to a pod.
    Deliver {
        /// The host-side veth.
        interface: String,
        /// The pod.
        pod: String,
        /// TTL or hop limit as delivered; null for what has none (ARP).
        ttl: Option<u8>,
    },
    /// It is given to the node's stack.
    Stack {
        /// Whether the node is the destination.
        host: bool,
        /// Whether what the stack does with it is in the hops that follow.
        followed: bool,
    },
    /// The datapath routes it out of the node itself, past the stack.
    Network {
        /// The device.
        device: String,
        /// The address that it is sent to, under native routing; null: as the node's routes say.
        next_hop: Option<String>,
        /// That address's node.
        node: Option<String>,
        /// TTL or hop limit as it goes on.
        ttl: Option<u8>,
    },
    /// It leaves the node, and nothing follows it.
    Left {
        /// The device.
        device: String,
        /// The node that it is for; null: somebody outside the cluster.
        node: Option<String>,
    },
    /// It is dropped.
    Drop {
        /// Why.
        reason: DropReason,
        /// Whether the node's own stack drops it, which a program gave it to.
        by_stack: bool,
    },
}

/// The tunnel of a hop, as JSON shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TunnelReport {
    /// Encapsulation.
    pub kind: TunnelKind,
    /// Outer source address.
    pub source: String,
    /// Outer destination address.
    pub destination: String,
    /// UDP destination port.
    pub port: u16,
    /// UDP source port.
    pub source_port: u16,
    /// VNI.
    pub vni: u32,
}

/// One program run, with names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HopReport {
    /// Node's name.
    pub node: String,
    /// Program.
    pub hook: Hook,
    /// Device's name.
    pub device: String,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// The tunnel it leaves by.
    pub tunnel: Option<TunnelReport>,
    /// Fields of `frame` that the question and the world do not determine.
    pub undetermined: Vec<String>,
    /// The bytes that came in, in hex (for the full level; not in JSON).
    #[serde(skip)]
    pub frame_in: Vec<u8>,
    /// Whether the program had nothing to say but that the packet may go on its way.
    pub quiet: bool,
    /// Live: nanoseconds since the hop before it ended; null for the first hop and in simulation.
    pub after: Option<u64>,
    /// The bytes that leave the hop, in hex.
    #[serde(serialize_with = "hex")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub frame: Vec<u8>,
}

fn hex<S: serde::Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('?');
    let digits = bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
    s.serialize_str(&digits.collect::<String>())
}

/// Where a real packet was expected and not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Unobserved {
    /// The node that it left.
    pub left: String,
    /// The device that it left by.
    pub by: String,
    /// The node where it was expected.
    pub node: String,
    /// The program.
    pub hook: Hook,
    /// The program's device.
    pub device: String,
    /// Whose ingress was to be judged there: `web/echo-0`; null where nobody's was.
    pub endpoint: Option<String>,
}

/// Where a flow ended when it was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DropPlace {
    /// The node.
    pub node: String,
    /// The direction whose policy dropped it, where a policy did.
    pub direction: Option<Direction>,
    /// The endpoint whose policy dropped it; where no policy did, the pod that the program serves.
    pub endpoint: Option<String>,
}

/// The packet in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PacketReport {
    /// `web/client`, or the address of an unnamed party.
    pub source: String,
    /// The source address.
    pub source_address: String,
    /// The source port, without ports null.
    pub source_port: Option<u16>,
    /// The receiver.
    pub destination: String,
    /// The destination address.
    pub destination_address: String,
    /// The destination port.
    pub destination_port: Option<u16>,
    /// The protocol; null for a frame that holds no packet, whose addresses are those of Ethernet.
    pub protocol: Option<Protocol>,
    /// `SYN`, `echo request id 502 seq 1878`, or empty.
    pub detail: String,
}

/// Where the two opinions part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Divergence {
    /// What differs first: `verdict`, `reason`, `rule at ingress of web/echo-0`, ...
    pub what: String,
    /// What the datapath says.
    pub datapath: String,
    /// What the oracle says.
    pub oracle: String,
}

/// The answer to a question, complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The outcome.
    pub verdict: Verdict,
    /// Why it was dropped; null when allowed or undecided.
    pub reason: Option<DropReason>,
    /// Why it cannot be said; null when it can.
    pub undecided: Option<Undecided>,
    /// Where it was dropped.
    pub dropped_at: Option<DropPlace>,
    /// Whether it crossed the tunnel.
    pub tunneled: bool,
    /// Whether the opinions agree.
    pub agreement: Agreement,
    /// Where they part.
    pub divergence: Option<Divergence>,
    /// What ran it.
    pub backend: String,
    /// Behaviour profile.
    pub profile: String,
    /// How many policies were loaded.
    pub policies: usize,
    /// How many objects of the input are not modelled; always 0 where every construct is understood.
    pub unmodelled: usize,
    /// The packet.
    pub packet: PacketReport,
    /// What decided, direction by direction.
    pub decided_by: Vec<Decided>,
    /// Who isolated the endpoint that dropped by default deny.
    pub isolated_by: Vec<Isolating>,
    /// Allow rules that came near, nearest first, at most three.
    pub nearest: Vec<Nearest>,
    /// What a service or a setting that dropped the packet has to offer instead; where a rule let it pass, whose address it did not see. Null
    /// where neither is.
    pub obstacle: Option<Obstacle>,
    /// How conntrack differs from what it was before, where the question is one of several about the same flows.
    pub known: Vec<KnownChange>,
    /// Live: where the packet was expected next and not seen.
    pub unobserved: Option<Unobserved>,
    /// What was taken for granted.
    pub assumed: Vec<String>,
    /// Events that were lost; any makes the verdict undecided.
    pub lost: u64,
    /// State of the tables.
    pub generation: Generation,
    /// The hops.
    pub hops: Vec<HopReport>,
    /// The reply, where asked for and the packet got through.
    pub reply: Option<Box<Explanation>>,
    /// Why no program sees the reply that was asked for; null where one does.
    pub no_reply: Option<String>,
}

#[cfg(test)]
mod tests;
