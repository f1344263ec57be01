//! Keeps a thread on one CPU for as long as a program runs.

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// The CPU that this thread is on.
pub(super) fn current_cpu() -> usize {
    sched_getcpu()
}

/// While it lives the thread stays on one CPU. The kernel's lists of free conntrack entries are per CPU, and each
/// CPU takes some for itself: a thread that moved about would fill a map early and so forget flows. A thread
/// that is there already is left alone, and so is one that the host does not let go there.
pub(super) struct Pinned {
    before: Option<CpuSet>,
}

impl Pinned {
    pub(super) fn to(cpu: usize) -> Self {
        if sched_getcpu() == cpu || cpu >= CpuSet::MAX_CPU {
            return Self { before: None };
        }
        let mut only = CpuSet::new();
        only.set(cpu);
        let before = sched_getaffinity(None).ok();
        Self { before: before.filter(|_| sched_setaffinity(None, &only).is_ok()) }
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
