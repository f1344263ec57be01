//! What live programs are seen to do, as metrics that Prometheus scrapes: packets by who sent them to whom, verdicts by rule, and how the
//! programs themselves fare. Counts what it is told of; where that comes from is its caller's business. Which families there are is
//! [`FAMILIES`].

mod family;
#[cfg(feature = "lab")]
mod measured;
mod names;
mod packet;
mod seen;
mod server;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datapath::decode::Run;
use engine::topology::NodeId;
use engine::trace::Counter;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

pub use family::{FAMILIES, Family, Kind};
#[cfg(feature = "lab")]
pub use measured::measure;
pub use names::{Names, workload};
use seen::Seen;
pub use server::{ServeError, Server, check, serve};

/// Whose metrics they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The installation's name.
    pub installation: String,
    /// Whether its programs only observe, so that a drop is one that would be.
    pub observes: bool,
}

/// What programs and maps of a node say of themselves.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// What programs counted.
    pub counters: Vec<Counter>,
    /// Maps with the entries that they have and that they have room for.
    pub maps: Vec<(String, u64, u64)>,
    /// Programs with how long and how often they ran, where the kernel counts that.
    pub programs: Vec<(String, Duration, u64)>,
}

/// The metrics of one installation. Clones are the same metrics.
#[derive(Clone)]
pub struct Metrics {
    seen: Shared,
    observes: bool,
    registry: Arc<Registry>,
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Seen>>);

impl Shared {
    /// Counts are whole whatever became of a thread that had them.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Shared {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.lock().encode(encoder)
    }
}

impl Metrics {
    /// Metrics of an installation of which nothing was seen yet.
    pub fn new(about: &About) -> Self {
        let mode = if about.observes { "observe" } else { "enforce" };
        let labels = [("installation", about.installation.clone()), ("mode", mode.to_owned())];
        let labels = labels.map(|(name, value)| (Cow::Borrowed(name), Cow::Owned(value)));
        let mut registry = Registry::with_labels(labels.into_iter());
        let seen = Shared::default();
        registry.register_collector(Box::new(seen.clone()));
        Self { seen, observes: about.observes, registry: Arc::new(registry) }
    }

    /// Counts a run of a node's program. `names` must be of the tables that it ran with.
    pub fn saw(&self, names: &Names, node: NodeId, run: &Run) {
        if let Some(packet) = packet::read(names, node, run, self.observes) {
            self.seen.lock().packet(names.node(node), &packet);
        }
    }

    /// Counts events that were lost.
    pub fn lost(&self, node: &str, events: u64) {
        self.seen.lock().lost(node, events);
    }

    /// Counts a run that nobody can read any more, as its tables are not known.
    pub fn unattributed(&self, node: &str) {
        self.seen.lock().unattributed(node);
    }

    /// Takes what a node says of itself in the place of what it said before.
    pub fn measured(&self, node: &str, measured: Measured) {
        self.seen.lock().measured(node, measured);
    }

    /// All of them as `OpenMetrics` text.
    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    /// All of them in the older text format (0.0.4), which is what tools without a preference get.
    pub fn text(&self) -> String {
        family::as_text(&self.open_metrics())
    }
}

#[cfg(test)]
mod tests;
