//! Entries of conntrack as the engine's values, one by one and as the list of a node's.

use std::collections::HashMap;
use std::net::IpAddr;

use datapath_abi as abi;
use engine::backend::{BackendError, Client, Datagram};
use engine::net::{Direction, FlowKey, Protocol};
use engine::tables::{EntryId, Generation};
use engine::trace::{ConntrackEntry, ConntrackKind, Place};
use zerocopy::FromBytes as _;

use super::{address, flag, read, unknown};

/// Sources of what a pod sends to itself by a service, by family.
const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 42, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0, 1)),
];

/// The list of a node's entries, by flow. Entries of services and of source translation live as long as the plain
/// entry that they lead to: they get its time, and those without a living one are left out.
pub fn conntrack(entries: Vec<ConntrackEntry>) -> Vec<ConntrackEntry> {
    let leads = |e: &ConntrackEntry| {
        matches!(e.kind, ConntrackKind::Service { .. } | ConntrackKind::Nat { .. })
    };
    if !entries.iter().any(leads) {
        return in_order(entries);
    }
    let plain: HashMap<Canonical, (u32, u16)> = entries
        .iter()
        .filter_map(|entry| {
            let nat_port = match entry.kind {
                ConntrackKind::Plain => 0,
                ConntrackKind::Translated { nat_port, .. } => nat_port,
                ConntrackKind::Service { .. } | ConntrackKind::Nat { .. } => return None,
            };
            Some((canonical(entry.flow), (entry.expires_in, nat_port)))
        })
        .collect();
    let settled = entries.into_iter().filter_map(|mut entry| {
        let living = match entry.kind {
            ConntrackKind::Service { backend } => {
                plain.get(&canonical(to_backend(entry.flow, backend))).copied()
            }
            ConntrackKind::Nat { source } => {
                let (flow, port) = from_source(entry.flow, source);
                plain.get(&canonical(flow)).copied().filter(|(_, nat_port)| *nat_port == port)
            }
            ConntrackKind::Plain | ConntrackKind::Translated { .. } => return Some(entry),
        };
        entry.expires_in = living.map(|(expires_in, _)| expires_in).filter(|time| *time > 0)?;
        Some(entry)
    });
    in_order(settled.collect())
}

fn in_order(mut entries: Vec<ConntrackEntry>) -> Vec<ConntrackEntry> {
    entries.sort_by_key(|entry| entry.flow);
    entries
}

/// A flow whichever side sent.
type Canonical = ((IpAddr, u16), (IpAddr, u16), u8);

fn canonical(flow: FlowKey) -> Canonical {
    let one = (flow.source, flow.source_port);
    let other = (flow.destination, flow.destination_port);
    (one.min(other), one.max(other), flow.protocol.number())
}

/// A client's flow as it goes on to a backend.
fn to_backend(flow: FlowKey, backend: Place) -> FlowKey {
    let source = match flow.source {
        // It speaks to itself.
        own if own == backend.address => LOOPBACK[usize::from(own.is_ipv6())],
        other => other,
    };
    FlowKey { source, destination: backend.address, destination_port: backend.port, ..flow }
}

/// A flow before its source was translated, and the port that it was translated to.
fn from_source(flow: FlowKey, source: Place) -> (FlowKey, u16) {
    let address = source.address;
    // The identifier of an ICMP echo is at its destination.
    if matches!(flow.protocol, Protocol::Icmp | Protocol::Icmpv6) {
        let before = FlowKey { source: address, destination_port: source.port, ..flow };
        return (before, flow.destination_port);
    }
    (FlowKey { source: address, source_port: source.port, ..flow }, flow.source_port)
}

/// Whether a key of [`abi::maps::CT4`] or `CT6` is that of a flow, and no [note](abi::ct_kind::OLDER) of programs that observe.
pub fn is_flow(key: &[u8]) -> bool {
    match key.len() {
        16 => abi::CtKey4::read_from_bytes(key).is_ok_and(|key| key.note == 0),
        _ => abi::CtKey6::read_from_bytes(key).is_ok_and(|key| key.note == 0),
    }
}

/// Reads an entry of [`abi::maps::CT4`] at a moment of the clock, in seconds. The generations of remembered
/// verdicts are the kernel's numbers, as in [`super::event`]. The identifier of an ICMP echo is the destination port
/// of a flow that a request started, the source port of one that a reply started.
pub fn conntrack4(key: &[u8], value: &[u8], now: u64) -> Result<ConntrackEntry, BackendError> {
    let key: abi::CtKey4 = read(key)?;
    let low = (IpAddr::from(key.low_address), u16::from_be_bytes(key.low_port));
    let high = (IpAddr::from(key.high_address), u16::from_be_bytes(key.high_port));
    entry(low, high, key.protocol, &read(value)?, now)
}

/// A key of [`abi::maps::AFFINITY`].
pub(crate) fn client(key: &[u8]) -> Result<Client, BackendError> {
    let key: abi::AffinityKey = read(key)?;
    let port = u16::from_be_bytes(key.port);
    Ok((address(key.family, key.client)?, address(key.family, key.frontend)?, port, key.protocol))
}

/// A key of [`abi::maps::FRAGMENTS`].
pub(crate) fn datagram(key: &[u8]) -> Result<Datagram, BackendError> {
    let key: abi::FragmentKey = read(key)?;
    let id = match key.family {
        abi::family::V4 => u32::from(u16::from_be_bytes([key.id[0], key.id[1]])),
        _ => u32::from_be_bytes(key.id),
    };
    let (source, destination) =
        (address(key.family, key.source)?, address(key.family, key.destination)?);
    Ok((source, destination, key.protocol, id))
}

/// The same for [`abi::maps::CT6`].
pub fn conntrack6(key: &[u8], value: &[u8], now: u64) -> Result<ConntrackEntry, BackendError> {
    let key: abi::CtKey6 = read(key)?;
    let low = (IpAddr::from(key.low_address), u16::from_be_bytes(key.low_port));
    let high = (IpAddr::from(key.high_address), u16::from_be_bytes(key.high_port));
    entry(low, high, key.protocol, &read(value)?, now)
}

fn entry(
    low: (IpAddr, u16),
    high: (IpAddr, u16),
    protocol: u8,
    value: &abi::CtValue,
    now: u64,
) -> Result<ConntrackEntry, BackendError> {
    let (source, destination) =
        if flag("initiator", value.initiator)? { (high, low) } else { (low, high) };
    let replied = value.packets[abi::conntrack::RESPONDER] != 0;
    let remembered = [Direction::Egress, Direction::Ingress]
        .into_iter()
        .zip(&value.legs)
        .filter(|(_, leg)| leg.generation != 0)
        .map(|(direction, leg)| (direction, EntryId(leg.entry), Generation(leg.generation)));
    let by_role = |role: usize| (value.packets[role], value.bytes[role]);
    if value.closing & !abi::conntrack::BOTH_CLOSING != 0 {
        return Err(unknown("state of closing", value.closing));
    }
    Ok(ConntrackEntry {
        flow: FlowKey {
            source: source.0,
            destination: destination.0,
            protocol: Protocol::from_number(protocol),
            source_port: source.1,
            destination_port: destination.1,
        },
        expires_in: u32::try_from(value.expires.saturating_sub(now)).unwrap_or(u32::MAX),
        closing: value.closing != 0,
        seen_reply: replied || value.flags & abi::conntrack::SEEN_NON_SYN != 0,
        forward: by_role(abi::conntrack::INITIATOR),
        replies: by_role(abi::conntrack::RESPONDER),
        remembered: remembered.collect(),
        kind: kind(value, source.0.is_ipv6())?,
    })
}

/// What an entry of a family is for.
fn kind(value: &abi::CtValue, is_v6: bool) -> Result<ConntrackKind, BackendError> {
    let family = if is_v6 { abi::family::V6 } else { abi::family::V4 };
    let place = || {
        let port = u16::from_be_bytes(value.port);
        Ok::<_, BackendError>(Place { address: address(family, value.address)?, port })
    };
    let has = |flag| value.flags & flag != 0;
    Ok(match value.kind {
        abi::ct_kind::PLAIN => {
            let loopback = has(abi::conntrack::LOOPBACK);
            let frontend = has(abi::conntrack::FRONTEND).then(place).transpose()?;
            let nat_port = u16::from_be_bytes(value.nat_port);
            if frontend.is_none() && nat_port == 0 && !loopback {
                ConntrackKind::Plain
            } else {
                ConntrackKind::Translated { frontend, nat_port, loopback }
            }
        }
        abi::ct_kind::SERVICE => ConntrackKind::Service { backend: place()? },
        abi::ct_kind::NAT => ConntrackKind::Nat { source: place()? },
        kind => return Err(unknown("kind of flow", kind)),
    })
}
