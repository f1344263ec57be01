//! The datapath seen from user space.

pub mod follow;
pub mod frame;
