//! The datapath on real devices: one node's programs and maps, loaded by aya and hung where packets pass. The same object as in
//! simulation, without the seam: device, clock and tunnel key are the kernel's.
//!
//! Makes no device and no namespace (`lab` does), knows no policy, answers no question by itself. What is attached goes with the value
//! that holds it.

mod attachment;
mod backend;
mod clock;
pub mod filter;
pub mod install;
pub mod kernel_drops;
pub mod pins;
mod programs;
mod sizes;
mod timing;

pub use attachment::{Order, Place, Side, index, is_by_tcx};
pub use backend::{Backed, Verified, Wires};
pub use clock::{let_runs_end, nanoseconds};
pub use clock::{tick_after, time_until};
pub use programs::{Conduct, Mode, Programs};
