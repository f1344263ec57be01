//! Watching the datapath: what programs say about real packets, run by run, with names, rules and reasons. Turns runs into
//! sightings, chooses, counts and draws them; where runs come from is a [`Source`], where sightings go a [`Sink`]. Decides nothing, and
//! holds no more than it was told to, however much there is to see.

mod asked;
mod capture;
mod counted;
mod filter;
mod names;
mod report;
mod sighting;
mod source;
mod talks;
#[cfg(test)]
mod tests;
mod watch;

/// Events a second, of all nodes together, that a monitor reads without losing any while it prints lines. Conservative: two cores that
/// have other work too hold it in a build without optimization, which a test sees to; an optimized one reads many times as many.
/// A packet is five to ten events at every program that it passes.
pub const EVENTS_A_SECOND: u64 = 50_000;

pub use asked::{Asked, Drawing};
pub use filter::Filter;
pub(crate) use names::Nobody;
pub use report::{Lost, Report};
pub use sighting::{Fate, Side, Sighting};
#[cfg(feature = "lab")]
pub(crate) use sighting::{hop, see};
pub use source::{Batch, Scene, Source};
pub use talks::{Talk, draw};
pub use watch::{Ended, Item, Sink, Watched, watch};
