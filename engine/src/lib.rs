//! The values and the meaning of hopwise: packets, topology, identities and policy; the oracle (`eval`),
//! the compiler to tables (`compile`), the datapath's events as data (`trace`) and the explanation
//! (`explain`). No I/O, no text formats, no kernel, no printing and no clock in here.

pub mod backend;
pub mod compile;
pub mod diag;
pub mod dns;
pub mod eval;
pub mod explain;
pub mod identity;
pub mod net;
pub mod policy;
pub mod question;
pub mod reason;
pub mod source;
pub mod tables;
pub mod topology;
pub mod trace;
pub mod verdict;
