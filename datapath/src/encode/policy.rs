//! Rows of policy tables, and what a table has no entries of.

use datapath_abi as abi;
use engine::backend::BackendError;
use engine::identity::Identity;
use engine::tables::{PolicyEntry, PolicyTable, TableId};

use super::contradiction;

/// What a table has no entries of, as bits of [`abi::target`].
pub(super) fn absent(table: &PolicyTable) -> u8 {
    let is_anyone = |entry: &PolicyEntry| entry.key.identity == Identity::ANY;
    let mut absent = 0;
    if table.entries.iter().all(is_anyone) {
        absent |= abi::target::NO_IDENTITY;
    }
    if !table.entries.iter().any(is_anyone) {
        absent |= abi::target::NO_ANYONE;
    }
    absent
}

/// [`abi::PolicyKey::table`].
pub(super) fn table_number(table: TableId, slot: u32) -> Result<u32, BackendError> {
    if table.0 == 0 || table.0 > u32::MAX >> 1 {
        return Err(contradiction(format!("policy table {}", table.0)));
    }
    Ok(table.0 << 1 | slot)
}

/// The row of an entry.
pub(super) fn row(
    table: TableId,
    entry: &PolicyEntry,
    slot: u32,
) -> Result<(abi::PolicyKey, abi::PolicyValue), BackendError> {
    let key = entry.key;
    let wrong = |what: &str| {
        contradiction(format!("policy table {} entry {}: {what}", table.0, entry.entry.0))
    };
    if entry.entry.0 == 0 {
        return Err(wrong("not a number of an entry"));
    }
    if key.port_bits > 16 || (key.protocol.is_none() && key.port_bits != 0) {
        return Err(wrong("a port prefix that its protocol cannot have"));
    }
    if key.port_bits < 16 && key.port << key.port_bits != 0 {
        return Err(wrong("bits of the port beyond its prefix"));
    }
    let prefix_bits = if key.protocol.is_some() { 8 + key.port_bits } else { 0 };
    let number = key.protocol.map_or(0, engine::net::Protocol::number);
    if key.protocol.is_some() && number == 0 {
        return Err(wrong("protocol 0, which stands for any"));
    }
    let encoded = abi::PolicyKey {
        prefixlen: abi::POLICY_STATIC_BITS + u32::from(prefix_bits),
        table: table_number(table, slot)?,
        identity: key.identity.0,
        reserved: 0,
        protocol: number,
        port: key.port.to_be_bytes(),
    };
    let value = abi::PolicyValue {
        entry: entry.entry.0,
        flags: if entry.deny { abi::policy::DENY } else { 0 },
        prefix_bits,
        reserved: [0; 2],
    };
    Ok((encoded, value))
}
