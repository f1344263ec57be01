//! Real packets beside simulated ones: listening to programs on devices, and what two journeys of one packet differ in. Owns no session.

mod compare;
#[cfg(feature = "lab")]
mod heard;

pub use compare::{Difference, difference};
#[cfg(feature = "lab")]
pub use heard::{Listener, hear};
