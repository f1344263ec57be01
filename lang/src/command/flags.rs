//! Flags of commands about real packets: which there are, and what each takes. What they mean is `repl`'s.

use crate::ast::Name;

/// A flag as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its name, without the dashes.
    pub name: Name,
    /// What it was given; `None` for a switch.
    pub value: Option<Name>,
}

/// Flags of `monitor`, with what they take; nothing for a switch.
pub const MONITOR_FLAGS: &[(&str, &str)] = &[
    ("on", "a lab or an attachment"),
    ("pod", "a pod"),
    ("namespace", "a namespace"),
    ("label", "a label such as `app=client`"),
    ("identity", "an identity"),
    ("port", "a port"),
    ("verdict", "a verdict"),
    ("reason", "a drop reason"),
    ("node", "a node"),
    ("all", ""),
    ("pcap", "a file"),
    ("graph", "`dot` or `mermaid`"),
    ("metrics", "an address such as `127.0.0.1:9650`"),
    ("count", "a number"),
    ("for", "a time such as `10s`"),
];

/// Flags of `trace --live`.
pub const LIVE_FLAGS: &[(&str, &str)] = &[
    ("live", ""),
    ("on", "a lab or an attachment"),
    ("wait", ""),
    ("drops", ""),
    ("timeout", "a time such as `10s`"),
    ("follow", ""),
    ("count", "a number"),
    ("compare", ""),
    ("send", ""),
];

/// Flags of `attach`; `--for` takes a time.
pub const ATTACH_FLAGS: &[&str] = &["--enforce", "--for", "--confirm"];
