//! The user's wish that a long command ends: a flag that the shell sets and long loops look at. Owns no
//! signal; who presses which key is the shell's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module. Copies share the flag.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// The flag itself, for a signal handler to set.
    pub fn flag(&self) -> &Arc<AtomicBool> {
        &self.0
    }

    /// Whether the command shall end.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Forgets an interrupt: what was to be ended has ended.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
