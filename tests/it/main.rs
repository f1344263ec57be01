//! The one integration binary. Each module is a kind of test; what a test needs beyond Rust (privileges, a
//! kernel feature) it asks for at run time, and says why when it skips.

mod oracle;
mod tidy;
mod tree;
