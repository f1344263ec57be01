//! The words of an answer that both opinions share: the verdict of a flow, the outcome of a direction,
//! what gave rise to a decision. Owns words only; deciding is `eval`'s and the datapath's.

use serde::Serialize;

use crate::policy::{Action, RuleId};

/// The outcome of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It gets through.
    Allowed,
    /// It is dropped.
    Dropped,
    /// It is answered with a refusal (403, REFUSED, reset). No feature gives it yet.
    Rejected,
    /// It cannot be said: events were lost, or the packet left what is observed.
    Undecided,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Dropped => "dropped",
            Self::Rejected => "rejected",
            Self::Undecided => "undecided",
        })
    }
}

/// The outcome of one direction, in the words used everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LegOutcome {
    /// A rule (or the local-host rule) allows.
    Allow,
    /// Nothing isolates the endpoint in this direction.
    NotIsolated,
    /// A deny rule matches.
    Deny,
    /// The endpoint is isolated and no rule matches.
    DefaultDeny,
    /// A reply of a known flow: policy is skipped.
    Reply,
    /// An ICMP error about a known flow: policy is skipped.
    Related,
    /// The packet did not get this far.
    NotReached,
}

impl std::fmt::Display for LegOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::NotIsolated => "not-isolated",
            Self::Deny => "deny",
            Self::DefaultDeny => "default-deny",
            Self::Reply => "reply",
            Self::Related => "related",
            Self::NotReached => "not-reached",
        })
    }
}

/// Outcomes that no rule states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Implied {
    /// The endpoint is isolated and no rule matches.
    DefaultDeny,
    /// The endpoint is not isolated in this direction.
    NotIsolated,
    /// The endpoint's own node may always reach it, unless denied.
    LocalHost,
}

/// What gave rise to a policy entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A rule.
    Rule(RuleId),
    /// No rule.
    Implied(Implied),
}

/// The word a rule's action has as an outcome.
impl From<Action> for LegOutcome {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Deny => Self::Deny,
        }
    }
}

/// The name of an implied decision.
impl Implied {
    /// `default-deny`, `not-isolated`, `local-host`.
    pub fn name(self) -> &'static str {
        match self {
            Self::DefaultDeny => "default-deny",
            Self::NotIsolated => "not-isolated",
            Self::LocalHost => "local-host",
        }
    }
}
