//! The one integration binary. Each module is a kind of test; what a test needs beyond Rust (privileges, a
//! kernel feature) it asks for at run time, and says why when it skips.

#![allow(
    clippy::panic,
    reason = "a test fails by panicking, in its own function or in one it calls"
)]

mod attach;
mod binary;
mod book;
mod cases;
mod cli;
mod codes;
mod coverage;
mod devices;
mod diagnostics;
mod differential;
mod documents;
mod forgetting;
mod hooks;
mod kernel;
mod lab;
mod labs;
mod live;
mod markdown;
mod metrics;
mod monitor;
mod oracle;
mod program;
mod rates;
mod reference;
mod replay;
mod schema;
mod sessions;
mod stream;
mod terminal;
mod tidy;
mod transcript;
mod tree;
