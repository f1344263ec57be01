//! What the kernel's bytes say: events, conntrack entries and counters as the engine's values. Pure. Bytes
//! that no program of this version writes are an error, never a guess and never a panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath_abi as abi;
use engine::backend::BackendError;
use engine::identity::Identity;
use engine::net::{Direction, FlowKey, Fragment, Hook, Protocol, TcpFlags};
use engine::reason::DropReason;
use engine::tables::{EndpointId, EntryId, Generation};
use engine::trace::{
    Action, ConntrackEntry, Counter, CtState, Event, IdentitySource, PolicyOutcome, Stamped,
};
use zerocopy::FromBytes;

/// Reads one record of the ring buffer. [`Stamped::generation`] is the number that the program read from
/// [`abi::maps::ACTIVE`].
pub fn event(record: &[u8]) -> Result<Stamped, BackendError> {
    if record.len() != abi::EVENT_SIZE {
        return Err(unreadable(format!("a record of {} bytes", record.len())));
    }
    let (header, _) = abi::EventHeader::read_from_prefix(record)
        .map_err(|_| unreadable("a record without a header".to_owned()))?;
    let event = match header.kind {
        abi::kind::PARSED => parsed(&read(record)?)?,
        abi::kind::CONNTRACK => conntrack_asked(&read(record)?)?,
        abi::kind::IDENTITY => identity(&read(record)?)?,
        abi::kind::POLICY => policy(&read(record)?)?,
        abi::kind::OUTCOME => Event::Outcome(outcome(&read(record)?)?),
        kind => return Err(unknown("kind", kind)),
    };
    Ok(Stamped { generation: Generation(header.generation), hook: hook(header.hook)?, event })
}

fn unreadable(what: String) -> BackendError {
    BackendError::BadEvent(what)
}

fn unknown(field: &str, number: u8) -> BackendError {
    unreadable(format!("{field} {number} is unknown"))
}

fn read<T: FromBytes>(record: &[u8]) -> Result<T, BackendError> {
    T::read_from_bytes(record)
        .map_err(|_| unreadable(format!("{} bytes where {} belong", record.len(), size_of::<T>())))
}

fn hook(number: u8) -> Result<Hook, BackendError> {
    match number {
        abi::hook::FROM_CONTAINER => Ok(Hook::FromContainer),
        abi::hook::TO_CONTAINER => Ok(Hook::ToContainer),
        abi::hook::FROM_OVERLAY => Ok(Hook::FromOverlay),
        abi::hook::FROM_NETDEV => Ok(Hook::FromNetdev),
        number => Err(unknown("hook", number)),
    }
}

/// The number of a hook in the ABI.
pub fn hook_number(hook: Hook) -> u8 {
    match hook {
        Hook::FromContainer => abi::hook::FROM_CONTAINER,
        Hook::ToContainer => abi::hook::TO_CONTAINER,
        Hook::FromOverlay => abi::hook::FROM_OVERLAY,
        Hook::FromNetdev => abi::hook::FROM_NETDEV,
    }
}

fn address(family: u8, bytes: [u8; 16]) -> Result<IpAddr, BackendError> {
    match family {
        abi::family::V4 => {
            let [a, b, c, d, ..] = bytes;
            Ok(Ipv4Addr::new(a, b, c, d).into())
        }
        abi::family::V6 => Ok(Ipv6Addr::from(bytes).into()),
        family => Err(unknown("address family", family)),
    }
}

fn flag(field: &str, number: u8) -> Result<bool, BackendError> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        number => Err(unknown(field, number)),
    }
}

fn direction(number: u8) -> Result<Direction, BackendError> {
    match number {
        abi::direction::EGRESS => Ok(Direction::Egress),
        abi::direction::INGRESS => Ok(Direction::Ingress),
        number => Err(unknown("direction", number)),
    }
}

fn parsed(event: &abi::ParsedEvent) -> Result<Event, BackendError> {
    let has_icmp = flag("mark of an ICMP type", event.has_icmp)?;
    Ok(Event::Parsed {
        flow: FlowKey {
            source: address(event.family, event.source)?,
            destination: address(event.family, event.destination)?,
            protocol: Protocol::from_number(event.protocol),
            source_port: event.source_port,
            destination_port: event.destination_port,
        },
        flags: TcpFlags(event.tcp_flags),
        icmp: has_icmp.then_some((event.icmp_type, event.icmp_code)),
        fragment: Fragment {
            offset: event.fragment_offset,
            more: flag("mark of more fragments", event.more_fragments)?,
        },
        ttl: event.ttl,
        length: event.length,
    })
}

fn conntrack_asked(event: &abi::ConntrackEvent) -> Result<Event, BackendError> {
    let state = match event.state {
        abi::ct_state::NEW => CtState::New,
        abi::ct_state::ESTABLISHED => CtState::Established,
        abi::ct_state::REPLY => CtState::Reply,
        abi::ct_state::RELATED => CtState::Related,
        abi::ct_state::UNTRACKED => CtState::Untracked,
        state => return Err(unknown("conntrack state", state)),
    };
    Ok(Event::Conntrack {
        state,
        created: flag("mark of a new entry", event.created)?,
        expires_in: event.expires_in,
        closing: is_closing(event.closing)?,
    })
}

fn is_closing(bits: u8) -> Result<bool, BackendError> {
    if bits & !abi::conntrack::BOTH_CLOSING != 0 {
        return Err(unknown("state of closing", bits));
    }
    Ok(bits != 0)
}

fn identity(event: &abi::IdentityEvent) -> Result<Event, BackendError> {
    let from = match event.from {
        abi::source::ENDPOINT => IdentitySource::Endpoint,
        abi::source::VNI => IdentitySource::Vni,
        abi::source::IPCACHE => IdentitySource::Ipcache(EntryId(event.entry)),
        abi::source::OWN_ADDRESS => IdentitySource::OwnAddress(EntryId(event.entry)),
        abi::source::REMEMBERED => IdentitySource::Remembered,
        source => return Err(unknown("source of an identity", source)),
    };
    Ok(Event::Identity {
        source_side: flag("side of an identity", event.source_side)?,
        address: address(event.family, event.address)?,
        identity: Identity(event.identity),
        from,
    })
}

fn policy(event: &abi::PolicyEvent) -> Result<Event, BackendError> {
    let outcome = match event.outcome {
        abi::outcome::ALLOW => PolicyOutcome::Allow,
        abi::outcome::DENY => PolicyOutcome::Deny,
        abi::outcome::DEFAULT_DENY => PolicyOutcome::DefaultDeny,
        outcome => return Err(unknown("policy outcome", outcome)),
    };
    Ok(Event::Policy {
        endpoint: EndpointId(event.endpoint),
        direction: direction(event.direction)?,
        peer: Identity(event.peer),
        protocol: Protocol::from_number(event.protocol),
        port: event.port,
        outcome,
        entry: EntryId(event.entry),
        other: (event.other != 0).then_some(EntryId(event.other)),
        remembered: flag("mark of a remembered verdict", event.remembered)?,
    })
}

fn outcome(event: &abi::OutcomeEvent) -> Result<Action, BackendError> {
    Ok(match event.action {
        abi::action::DROP => Action::Drop(reason(event.reason)?),
        abi::action::DELIVER => Action::Deliver {
            endpoint: EndpointId(event.endpoint),
            ifindex: event.ifindex,
            peer: flag("mark of delivery", event.peer)?,
        },
        abi::action::TUNNEL => Action::Tunnel {
            vni: event.vni,
            remote: address(event.remote_family, event.remote)?,
            ifindex: event.ifindex,
            ttl: event.ttl,
        },
        abi::action::STACK => Action::Stack { host: flag("mark of the host", event.host)? },
        abi::action::PASS => Action::Pass,
        action => return Err(unknown("action", action)),
    })
}

fn reason(number: u8) -> Result<DropReason, BackendError> {
    DropReason::from_code(number).ok_or_else(|| unknown("drop reason", number))
}

/// Reads an entry of [`abi::maps::CT4`] at a moment of the clock, in seconds. The generations of remembered
/// verdicts are the kernel's numbers, as in [`event`]. The identifier of an ICMP echo is the destination port
/// of a flow that a request started, the source port of one that a reply started.
pub fn conntrack4(key: &[u8], value: &[u8], now: u64) -> Result<ConntrackEntry, BackendError> {
    let key: abi::CtKey4 = read(key)?;
    let low = (IpAddr::from(key.low_address), u16::from_be_bytes(key.low_port));
    let high = (IpAddr::from(key.high_address), u16::from_be_bytes(key.high_port));
    conntrack(low, high, key.protocol, &read(value)?, now)
}

/// The same for [`abi::maps::CT6`].
pub fn conntrack6(key: &[u8], value: &[u8], now: u64) -> Result<ConntrackEntry, BackendError> {
    let key: abi::CtKey6 = read(key)?;
    let low = (IpAddr::from(key.low_address), u16::from_be_bytes(key.low_port));
    let high = (IpAddr::from(key.high_address), u16::from_be_bytes(key.high_port));
    conntrack(low, high, key.protocol, &read(value)?, now)
}

fn conntrack(
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
    Ok(ConntrackEntry {
        flow: FlowKey {
            source: source.0,
            destination: destination.0,
            protocol: Protocol::from_number(protocol),
            source_port: source.1,
            destination_port: destination.1,
        },
        expires_in: u32::try_from(value.expires.saturating_sub(now)).unwrap_or(u32::MAX),
        closing: is_closing(value.closing)?,
        seen_reply: replied || value.flags & abi::conntrack::SEEN_NON_SYN != 0,
        forward: by_role(abi::conntrack::INITIATOR),
        replies: by_role(abi::conntrack::RESPONDER),
        remembered: remembered.collect(),
    })
}

/// Indices of [`abi::maps::COUNTERS`] that programs count at.
pub fn counter_indices() -> impl Iterator<Item = u32> {
    let reasons = DropReason::ALL.iter().map(|reason| reason.code());
    std::iter::once(abi::reason::FORWARDED)
        .chain(reasons)
        .flat_map(|reason| [0, 1].map(|direction| u32::from(reason) * 2 + direction))
}

/// Reads a counter from the values of every CPU; `None` where nothing was counted.
pub fn counter<V: AsRef<[u8]>>(index: u32, values: &[V]) -> Result<Option<Counter>, BackendError> {
    let number =
        u8::try_from(index / 2).map_err(|_| unreadable(format!("a counter at index {index}")))?;
    let mut sum = abi::Count::default();
    for value in values {
        // The kernel rounds the size of each CPU's value up to 8 bytes.
        let (value, _) = abi::Count::read_from_prefix(value.as_ref())
            .map_err(|_| unreadable("a truncated counter".to_owned()))?;
        sum.packets = sum.packets.wrapping_add(value.packets);
        sum.bytes = sum.bytes.wrapping_add(value.bytes);
    }
    if sum.packets == 0 && sum.bytes == 0 {
        return Ok(None);
    }
    Ok(Some(Counter {
        reason: if number == abi::reason::FORWARDED { None } else { Some(reason(number)?) },
        direction: direction(u8::from(index & 1 != 0))?,
        packets: sum.packets,
        bytes: sum.bytes,
    }))
}

#[cfg(test)]
mod tests;
