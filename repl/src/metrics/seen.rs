//! What was counted, and how it is told. The number of series is bounded: whom there would be too many of are `other`.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::Measured;
use super::family::{self, Family, Kind};
use super::names::Who;
use super::packet::{Fate, Packet};

/// Pairs of who talks to whom, by node, direction and reason, that are told apart; and verdicts of rules.
pub(super) const MOST: usize = 5_000;

/// Values of a family's labels, in their order.
type Labels = Vec<String>;

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    packets: u64,
    bytes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seen {
    forwarded: BTreeMap<Labels, Count>,
    dropped: BTreeMap<Labels, Count>,
    unknown: BTreeMap<Labels, Count>,
    verdicts: BTreeMap<Labels, u64>,
    lost: BTreeMap<String, u64>,
    unattributed: BTreeMap<String, u64>,
    measured: BTreeMap<String, Measured>,
}

/// A number to tell.
#[derive(Clone, Copy)]
enum Value {
    Whole(u64),
    Seconds(f64),
}

impl Seen {
    /// Counts a packet of a node.
    pub(super) fn packet(&mut self, node: &str, packet: &Packet) {
        for side in &packet.sides {
            let mut labels = vec![node.to_owned(), side.to_string()];
            if let Fate::Dropped(reason) | Fate::Unknown(reason) = packet.fate {
                labels.push(reason.name().to_owned());
            }
            let series = self.forwarded.len() + self.dropped.len() + self.unknown.len();
            let counts = match packet.fate {
                Fate::Forwarded => &mut self.forwarded,
                Fate::Dropped(_) => &mut self.dropped,
                Fate::Unknown(_) => &mut self.unknown,
            };
            let known = with_parties(&labels, &packet.source, &packet.destination);
            let labels = if series < MOST || counts.contains_key(&known) {
                known
            } else {
                let other = Who::reserved("other");
                with_parties(&labels, &other, &other)
            };
            let count = counts.entry(labels).or_default();
            count.packets += 1;
            count.bytes += packet.bytes;
        }
        for judged in &packet.judged {
            let labels = |policy: &str, rule: &str| {
                let direction = judged.direction.to_string();
                [node, &direction, policy, rule, judged.verdict].map(str::to_owned).to_vec()
            };
            let known = labels(&judged.policy, &judged.rule);
            let has_room = self.verdicts.len() < MOST || self.verdicts.contains_key(&known);
            // Rules come and go as long as somebody watches.
            let labels = if has_room { known } else { labels("other", "other") };
            *self.verdicts.entry(labels).or_default() += 1;
        }
    }

    pub(super) fn lost(&mut self, node: &str, events: u64) {
        *self.lost.entry(node.to_owned()).or_default() += events;
    }

    pub(super) fn unattributed(&mut self, node: &str) {
        *self.unattributed.entry(node.to_owned()).or_default() += 1;
    }

    pub(super) fn measured(&mut self, node: &str, measured: Measured) {
        self.measured.insert(node.to_owned(), measured);
    }

    pub(super) fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in family::FAMILIES {
            tell(&mut encoder, family, &self.series(family))?;
        }
        Ok(())
    }

    fn series(&self, family: &Family) -> Vec<(Labels, Value)> {
        let packets = |counts: &BTreeMap<Labels, Count>| told(counts, |count| count.packets);
        let bytes = |counts: &BTreeMap<Labels, Count>| told(counts, |count| count.bytes);
        match *family {
            family::FORWARDED_PACKETS => packets(&self.forwarded),
            family::FORWARDED_BYTES => bytes(&self.forwarded),
            family::DROPPED_PACKETS => packets(&self.dropped),
            family::DROPPED_BYTES => bytes(&self.dropped),
            family::UNKNOWN_PACKETS => packets(&self.unknown),
            family::VERDICTS => told(&self.verdicts, |count| *count),
            family::LOST => of_each_node(&self.lost),
            family::UNATTRIBUTED => of_each_node(&self.unattributed),
            family::BUILD => {
                vec![(vec![env!("CARGO_PKG_VERSION").to_owned()], Value::Whole(1))]
            }
            _ => self.of_nodes(family),
        }
    }

    /// What nodes say of themselves.
    fn of_nodes(&self, family: &Family) -> Vec<(Labels, Value)> {
        let mut series = Vec::new();
        for (node, measured) in &self.measured {
            match *family {
                family::HOOK_PACKETS | family::HOOK_BYTES => {
                    let is_bytes = *family == family::HOOK_BYTES;
                    series.extend(measured.counters.iter().map(|counter| {
                        let reason = counter.reason.map_or("forwarded", |reason| reason.name());
                        let labels = vec![
                            node.clone(),
                            counter.hook.to_string(),
                            counter.direction.to_string(),
                            reason.to_owned(),
                        ];
                        let count = if is_bytes { counter.bytes } else { counter.packets };
                        (labels, Value::Whole(count))
                    }));
                }
                family::MAP_ENTRIES | family::MAP_CAPACITY => {
                    let is_capacity = *family == family::MAP_CAPACITY;
                    series.extend(measured.maps.iter().map(|(map, entries, capacity)| {
                        let count = if is_capacity { *capacity } else { *entries };
                        (vec![node.clone(), map.clone()], Value::Whole(count))
                    }));
                }
                family::RUN_SECONDS | family::RUNS => {
                    let is_time = *family == family::RUN_SECONDS;
                    series.extend(measured.programs.iter().map(|(program, time, runs)| {
                        let value = if is_time {
                            Value::Seconds(time.as_secs_f64())
                        } else {
                            Value::Whole(*runs)
                        };
                        (vec![node.clone(), program.clone()], value)
                    }));
                }
                _ => {}
            }
        }
        series
    }
}

fn of_each_node(counts: &BTreeMap<String, u64>) -> Vec<(Labels, Value)> {
    counts.iter().map(|(node, count)| (vec![node.clone()], Value::Whole(*count))).collect()
}

fn told<C>(counts: &BTreeMap<Labels, C>, value: impl Fn(&C) -> u64) -> Vec<(Labels, Value)> {
    counts.iter().map(|(labels, count)| (labels.clone(), Value::Whole(value(count)))).collect()
}

fn with_parties(labels: &Labels, source: &Who, destination: &Who) -> Labels {
    let parties = [source, destination].map(|who| [who.namespace.clone(), who.workload.clone()]);
    labels.iter().cloned().chain(parties.into_iter().flatten()).collect()
}

fn tell(
    encoder: &mut DescriptorEncoder<'_>,
    family: &Family,
    series: &[(Labels, Value)],
) -> Result<(), fmt::Error> {
    let (kind, stem) = match family.kind {
        Kind::Counter => (MetricType::Counter, family.stem()),
        Kind::Gauge => (MetricType::Gauge, family.stem()),
    };
    let units = [("_bytes", Unit::Bytes), ("_seconds", Unit::Seconds)];
    let unit = units.iter().find_map(|(end, unit)| Some((stem.strip_suffix(end)?, unit)));
    let (stem, unit) = unit.map_or((stem, None), |(stem, unit)| (stem, Some(unit)));
    let mut encoder = encoder.encode_descriptor(stem, family.help, unit, kind)?;
    for (values, value) in series {
        let labels: Vec<(&str, &str)> =
            family.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
        let encoder = encoder.encode_family(&labels)?;
        match (family.kind, *value) {
            (Kind::Counter, Value::Whole(count)) => ConstCounter::new(count).encode(encoder)?,
            (_, Value::Seconds(time)) => ConstCounter::new(time).encode(encoder)?,
            (Kind::Gauge, Value::Whole(count)) => {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                ConstGauge::new(count).encode(encoder)?;
            }
        }
    }
    Ok(())
}
