//! A question with every name resolved: who, to whom, which packet. Text is `lang`'s.

use crate::net::Packet;
use crate::topology::Party;

/// One flow asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The sender.
    pub source: Party,
    /// The receiver.
    pub destination: Party,
    /// The packet, complete: every field the text left open is filled with its documented default.
    pub packet: Packet,
    /// Whether the reply is asked too.
    pub with_reply: bool,
    /// What was filled in that could matter to the verdict, as `assumed` lines (`icmp echo, as no port
    /// was given`).
    pub assumed: Vec<String>,
    /// Packet fields that the text left open, as `undetermined` names (`echo payload`).
    pub undetermined: Vec<String>,
}
