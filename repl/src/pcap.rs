//! Captures: a packet of a pcap or pcapng file by its number, and the frames of an answer as a pcapng file with the
//! explanation as packet comments. Owns the formats; which frame means what is the session's.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use read::packet;
pub(crate) use write::{capture, is_ours};
