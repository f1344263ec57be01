//! The families of metrics: names, kinds, labels and help, by the conventions of Prometheus; and the two text formats.

/// What a family counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What only grows, until the process or the tables begin anew.
    Counter,
    /// What goes up and down.
    Gauge,
}

/// A family of metrics. Each has the labels `installation` and `mode` (`observe` or `enforce`) too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name as it is scraped.
    pub name: &'static str,
    /// What it counts.
    pub kind: Kind,
    /// Labels.
    pub labels: &'static [&'static str],
    /// What it says, as a sentence without a full stop.
    pub help: &'static str,
}

/// Who talks to whom, as labels.
const PARTIES: [&str; 4] =
    ["source_namespace", "source_workload", "destination_namespace", "destination_workload"];

const TRAFFIC: &[&str] = &["node", "direction", PARTIES[0], PARTIES[1], PARTIES[2], PARTIES[3]];
const DROPS: &[&str] =
    &["node", "direction", "reason", PARTIES[0], PARTIES[1], PARTIES[2], PARTIES[3]];
const HOOKS: &[&str] = &["node", "hook", "direction", "reason"];

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, labels, help }
}

pub(super) const FORWARDED_PACKETS: Family = counter(
    "hopwise_forwarded_packets_total",
    TRAFFIC,
    "Packets that were sent on (egress) or reached whom they were for (ingress)",
);
pub(super) const FORWARDED_BYTES: Family =
    counter("hopwise_forwarded_bytes_total", TRAFFIC, "Bytes of their frames");
pub(super) const DROPPED_PACKETS: Family = counter(
    "hopwise_dropped_packets_total",
    DROPS,
    "Packets that were dropped, or would be where mode is observe",
);
pub(super) const DROPPED_BYTES: Family =
    counter("hopwise_dropped_bytes_total", DROPS, "Bytes of their frames");
pub(super) const UNKNOWN_PACKETS: Family = counter(
    "hopwise_unknown_state_packets_total",
    DROPS,
    "Packets of flows that may be older than the observing programs, by what they would be dropped for if they were not",
);
pub(super) const VERDICTS: Family = counter(
    "hopwise_policy_verdicts_total",
    &["node", "direction", "policy", "rule", "verdict"],
    "Packets that policy was asked about, by the rule that decided",
);
pub(super) const LOST: Family = counter(
    "hopwise_lost_events_total",
    &["node"],
    "Events that did not fit the ring buffer, of packets that the families above may not count",
);
pub(super) const UNATTRIBUTED: Family = counter(
    "hopwise_unattributed_runs_total",
    &["node"],
    "Runs of programs by tables that are not known any more, which the families above do not count",
);
pub(super) const HOOK_PACKETS: Family = counter(
    "hopwise_datapath_packets_total",
    HOOKS,
    "Packets by program, as the programs themselves count them, which loses none",
);
pub(super) const HOOK_BYTES: Family =
    counter("hopwise_datapath_bytes_total", HOOKS, "Bytes of their frames");
pub(super) const MAP_ENTRIES: Family =
    gauge("hopwise_bpf_map_entries", &["node", "map"], "Entries of a map");
pub(super) const MAP_CAPACITY: Family =
    gauge("hopwise_bpf_map_capacity", &["node", "map"], "Entries that a map has room for");
pub(super) const RUN_SECONDS: Family = counter(
    "hopwise_bpf_program_run_seconds_total",
    &["node", "program"],
    "Time that a program ran, where the kernel counts it (kernel.bpf_stats_enabled)",
);
pub(super) const RUNS: Family = counter(
    "hopwise_bpf_program_runs_total",
    &["node", "program"],
    "How often a program ran, where the kernel counts it (kernel.bpf_stats_enabled)",
);
pub(super) const BUILD: Family =
    gauge("hopwise_build_info", &["version"], "1, with the version of hopwise that counts");

/// Every family, in the order in which they are told.
pub const FAMILIES: &[Family] = &[
    FORWARDED_PACKETS,
    FORWARDED_BYTES,
    DROPPED_PACKETS,
    DROPPED_BYTES,
    UNKNOWN_PACKETS,
    VERDICTS,
    LOST,
    UNATTRIBUTED,
    HOOK_PACKETS,
    HOOK_BYTES,
    MAP_ENTRIES,
    MAP_CAPACITY,
    RUN_SECONDS,
    RUNS,
    BUILD,
];

/// What `OpenMetrics` leaves out of a counter's name where it says what the family is.
const SUFFIX: &str = "_total";

impl Family {
    /// Its name without what its samples have behind it.
    pub(super) fn stem(&self) -> &'static str {
        self.name.strip_suffix(SUFFIX).unwrap_or(self.name)
    }
}

/// The text format 0.0.4 of what `OpenMetrics` says: a counter's family has the name of its samples, and there are no units.
pub(super) fn as_text(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    for line in open.lines() {
        if line.starts_with("# UNIT") || line == "# EOF" {
            continue;
        }
        let mut words = line.splitn(4, ' ');
        let parts = (words.next(), words.next(), words.next(), words.next());
        if let (Some("#"), Some(word), Some(name), Some(rest)) = parts {
            let is_counter = |f: &&Family| f.kind == Kind::Counter && f.stem() == name;
            let is_counter = FAMILIES.iter().any(|family| is_counter(&family));
            let suffix = if is_counter { SUFFIX } else { "" };
            text.extend(["# ", word, " ", name, suffix, " ", rest, "\n"]);
        } else {
            text.extend([line, "\n"]);
        }
    }
    text
}
