//! Watching the datapath: what programs say about real packets, run by run, with names, rules and reasons. Turns runs into
//! sightings, chooses, counts and draws them; where runs come from is a [`Source`], where sightings go a [`Sink`]. Decides nothing, and
//! holds no more than it was told to, however much there is to see.

mod asked;
mod capture;
mod counted;
mod filter;
mod report;
mod sighting;
mod source;
mod talks;
#[cfg(test)]
mod tests;
mod watch;

pub use asked::{Asked, Drawing};
pub use filter::Filter;
pub use report::{Lost, Report};
pub use sighting::{Fate, Side, Sighting};
pub use source::{Batch, Scene, Source};
pub use talks::{Talk, draw};
pub use watch::{Ended, Item, Sink, Watched, watch};
