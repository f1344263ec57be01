//! How programs fare: how full their maps are, and how long they run where the kernel counts that (`kernel.bpf_stats_enabled`).

use std::time::Duration;

use datapath_abi::maps;
use engine::backend::BackendError;
use libbpf_rs::query::ProgInfoIter;

use super::Programs;
use crate::decode;
use crate::nodes::HOOKS;

/// Maps that fill up, with flows or with tables.
const FILLING: [&str; 9] = [
    maps::CT4,
    maps::CT6,
    maps::AFFINITY,
    maps::FRAGMENTS,
    maps::IPCACHE,
    maps::POLICY,
    maps::ATTACHMENTS,
    maps::SERVICES,
    maps::MEMBERS,
];

impl Programs {
    /// Maps that fill up, with the entries that they have and that they have room for.
    pub fn pressures(&self) -> Result<Vec<(&'static str, usize, usize)>, BackendError> {
        let of = |map| self.pressure(map).map(|(entries, capacity)| (map, entries, capacity));
        FILLING.into_iter().map(of).collect()
    }

    /// The programs that ran while the kernel counted, with how long all their runs took and how many there were.
    pub fn run_times(&mut self) -> Result<Vec<(&'static str, Duration, u64)>, BackendError> {
        let ids = self.ids()?;
        let mut times = Vec::new();
        for program in ProgInfoIter::default() {
            let of = ids.iter().find(|(_, id)| *id == program.id);
            if let Some((hook, _)) = of.filter(|_| program.run_cnt > 0) {
                let name = HOOKS[usize::from(decode::hook_number(*hook))];
                times.push((name, Duration::from_nanos(program.run_time_ns), program.run_cnt));
            }
        }
        Ok(times)
    }
}
