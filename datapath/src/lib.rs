//! The datapath seen from user space.

pub mod decode;
pub mod encode;
pub mod follow;
pub mod frame;
pub mod object;
#[cfg(feature = "kernel")]
pub mod support;
#[cfg(feature = "kernel")]
pub mod testrun;
