//! Test suites with every name resolved: what `hopwise test` runs. Running is `repl`'s.

use std::net::IpAddr;

use engine::net::Direction;
use engine::policy::Policy;
use engine::question::{FollowUp, Question};
use engine::source::Span;
use engine::topology::{NodeId, Party, PodId, World};
use engine::trace::CtState;
use engine::verdict::{Implied, LegOutcome, Verdict};

pub use crate::ast::{Arrival, RawQuestion, Reason};

/// A `test` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// Its cases, in source order.
    pub cases: Vec<Case>,
    /// The whole block.
    pub span: Span,
}

/// A case: each runs on conntrack state and policies of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Case {
    /// One flow.
    Flow(FlowCase),
    /// A packet at a hook.
    At(AtCase),
    /// Steps that share state.
    Dialogue(Dialogue),
}

/// One flow and what must come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowCase {
    /// The canonical text of the question.
    pub text: String,
    /// What is asked.
    pub question: Question,
    /// What must come out.
    pub expectation: Expectation,
    /// The whole line.
    pub span: Span,
}

/// A packet at a hook and what must come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtCase {
    /// The text of the packet, from `at` on.
    pub text: String,
    /// The packet. A device that no text names is looked for where it is run.
    pub question: RawQuestion,
    /// What must come out.
    pub expectation: Expectation,
    /// The whole line.
    pub span: Span,
}

/// `dialogue "name" { ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialogue {
    /// Its name.
    pub name: String,
    /// Its steps.
    pub steps: Vec<Step>,
    /// The whole block.
    pub span: Span,
}

/// A step of a dialogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What happens.
    pub kind: StepKind,
    /// The canonical text, without the expectation.
    pub text: String,
    /// What must come out; only packets have one.
    pub expectation: Option<Expectation>,
    /// The whole line or block.
    pub span: Span,
}

/// The kinds of step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A flow; it becomes the flow that later follow-ups continue. With `quote_last`, the packet is an
    /// ICMP error whose payload shall be made by [`engine::question::quote`] of the dialogue's latest packet.
    Flow {
        /// What is asked.
        question: Question,
        /// Quotes the latest packet.
        quote_last: bool,
    },
    /// A packet at a hook. The flow that follow-ups continue stays what it is.
    At(Box<RawQuestion>),
    /// The next packet of the latest flow, made by [`engine::question::follow_up`]. Lowering guarantees
    /// that a flow came before.
    FollowUp(FollowUp),
    /// Moves the clock by so many seconds.
    Wait(u64),
    /// Adds the policy, or replaces the one of that handle.
    Policy(Box<Policy>),
    /// Removes the policy of that handle.
    RemovePolicy(String),
    /// The world is this one from here on: a pod or a service came, changed or went. Names of later steps are of it.
    World(Box<World>),
}

/// What an answer must show. Absent parts are not asked for. An undecided answer meets only `undecided`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is dropped.
    pub reason: Option<Reason>,
    /// The direction that decides, and whose.
    pub place: Option<(Direction, Option<Party>)>,
    /// What else must hold, each with its place.
    pub facts: Vec<(Fact, Span)>,
    /// From the verdict's word to the end.
    pub span: Span,
}

/// One fact that an answer must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Some direction is decided by this policy and, where given, this rule.
    By {
        /// The policy's handle.
        policy: String,
        /// The rule's name.
        rule: Option<String>,
    },
    /// Some direction is decided by this implied outcome.
    Implied(Implied),
    /// The packet went through the tunnel; where given, to this node.
    Tunneled(Option<NodeId>),
    /// It did not.
    NotTunneled,
    /// What conntrack said on the first node that was asked.
    Conntrack(CtState),
    /// The sender's identity at the last node that judged.
    Identity(u32),
    /// What one direction came to.
    Leg(Direction, LegOutcome),
    /// The verdict of the reply, of a question with reply.
    Reply(Verdict),
    /// TTL or hop limit of the packet as it leaves the last hop.
    Ttl(u8),
    /// A service chose this pod; where given, at this port.
    Backend {
        /// The pod.
        pod: PodId,
        /// Its port.
        port: Option<u16>,
    },
    /// A service had nobody to choose, or had no such port.
    NoBackend,
    /// The packet's source was rewritten to this address.
    Snat(IpAddr),
    /// The packet's source was not rewritten.
    NotSnat,
    /// As it leaves the last hop, one of its ends is this.
    Arrives(Arrival),
    /// It was to be encrypted on its way between nodes.
    Encrypted,
    /// It was not.
    NotEncrypted,
}
