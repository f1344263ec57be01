//! Sessions, renderers, shell and command line. Everything a person or a script can ask goes through
//! [`session::Session`]; decisions are the engine's and the datapath's, never made here.

pub mod backend;
pub mod cli;
pub mod debug;
pub mod live;
pub mod metrics;
pub mod monitor;
pub mod render;
pub mod replay;
pub mod reply;
pub mod session;
pub mod show;
pub mod suite;

mod doctor;
mod explain;
mod pcap;
mod shell;

#[cfg(test)]
mod sample;
