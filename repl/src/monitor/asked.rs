//! What is asked of a monitor: the flags of the command line and of the session's command, with their values.

use std::path::PathBuf;
use std::time::Duration;

use engine::reason::DropReason;

use super::{Fate, Filter};

/// How a drawing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawing {
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
}

/// What is asked of a monitor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The lab or attachment; `None`: the only one.
    pub on: Option<String>,
    /// Which sightings.
    pub filter: Filter,
    /// The file to write frames to.
    pub pcap: Option<PathBuf>,
    /// The drawing that is printed in the end, instead of sightings as they come.
    pub graph: Option<Drawing>,
    /// The address to serve metrics at.
    pub metrics: Option<String>,
    /// How many sightings end it.
    pub count: Option<u64>,
    /// How long it lasts.
    pub time: Option<Duration>,
}

impl Asked {
    /// Takes a flag.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn take(&mut self, flag: &str, value: &str) -> Result<(), String> {
        let filter = &mut self.filter;
        let is_not = |what: &str| format!("`{value}` is not {what}");
        let own = || value.to_owned();
        match flag {
            "on" => self.on = Some(own()),
            "pod" => filter.pods.push(own()),
            "namespace" => filter.namespaces.push(own()),
            "label" => {
                let (key, value) =
                    value.split_once('=').ok_or_else(|| is_not("a label such as `app=client`"))?;
                filter.labels.push((key.to_owned(), value.to_owned()));
            }
            "identity" => filter.identities.push(own()),
            "port" => filter.ports.push(value.parse().map_err(|_| is_not("a port"))?),
            "verdict" => filter.verdicts.push(verdict(value).ok_or_else(|| {
                is_not("a verdict: allowed, dropped, undecided or unknown-state")
            })?),
            "reason" => filter.reasons.push(reason(value).ok_or_else(|| {
                is_not("the name or number of a drop reason, such as `policy-denied` or 133")
            })?),
            "node" => filter.nodes.push(own()),
            "all" => filter.all = true,
            "pcap" => self.pcap = Some(PathBuf::from(value)),
            "graph" => {
                self.graph = Some(match value {
                    "dot" => Drawing::Dot,
                    "mermaid" => Drawing::Mermaid,
                    _ => return Err(is_not("a kind of drawing: dot or mermaid")),
                });
            }
            "metrics" => self.metrics = Some(own()),
            "count" => self.count = Some(number(value).ok_or_else(|| is_not("a number above 0"))?),
            "for" => {
                self.time = Some(duration(value).ok_or_else(|| is_not("a time such as `10s`"))?);
            }
            _ => return Err(format!("there is no flag `--{flag}`")),
        }
        Ok(())
    }
}

fn verdict(text: &str) -> Option<Fate> {
    Fate::ALL.into_iter().find(|fate| fate.to_string() == text)
}

fn reason(text: &str) -> Option<DropReason> {
    let by_number = text.parse().ok().and_then(DropReason::from_code);
    by_number.or_else(|| DropReason::ALL.iter().copied().find(|reason| reason.name() == text))
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0)
}

/// `500ms`, `10s`, `2m`, `1h`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (amount, unit) = text.split_at(digits);
    let amount: u64 = amount.parse().ok().filter(|amount| *amount > 0)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    amount.checked_mul(milliseconds).map(Duration::from_millis)
}
