//! Keeps a thread on one CPU for as long as a program runs.

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// The CPU that this thread is on.
pub(super) fn current_cpu() -> usize {
    sched_getcpu()
}

/// While it lives the thread stays on one CPU. The kernel's lists of free conntrack entries are per CPU: which
/// flow is forgotten when a map is full must not depend on the scheduler. Where the host forbids that CPU
/// the thread runs where it is; nothing else depends on it.
pub(super) struct Pinned {
    before: Option<CpuSet>,
}

impl Pinned {
    pub(super) fn to(cpu: usize) -> Self {
        let before = sched_getaffinity(None).ok().filter(|before| {
            let mut only = CpuSet::new();
            if cpu < CpuSet::MAX_CPU {
                only.set(cpu);
            }
            *before != only && sched_setaffinity(None, &only).is_ok()
        });
        Self { before }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Fails only if those CPUs are gone; then the kernel has chosen others already.
            let _ = sched_setaffinity(None, before);
        }
    }
}
