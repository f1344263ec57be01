//! Captures: a packet of a pcap or pcapng file by its number, all of them one by one, and the frames of an answer as a pcapng file with the
//! explanation as packet comments. Owns the formats; which frame means what is the session's.

mod held;
mod read;
mod stream;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use held::{Held, is_pipe};
pub(crate) use read::{Unreadable, packet};
pub(crate) use stream::Captured;
pub(crate) use write::{Writer, capture, is_ours};
