//! Tests of the compiler as a whole: identities, addresses, endpoints, services, policy tables and limits,
//! each by tables of cases, and random inputs against a direct reading of the rules.

mod build;
mod endpoints;
mod identities;
mod ipcache;
mod policy;
mod random;
mod services;
