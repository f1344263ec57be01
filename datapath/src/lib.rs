//! The datapath seen from user space.
