//! What the kernel's bytes say: events, conntrack entries and counters as the engine's values. Pure. Bytes
//! that no program of this version writes are an error, never a guess and never a panic. Conntrack is `flows`'.

mod flows;
mod runs;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath_abi as abi;
use engine::backend::BackendError;
use engine::identity::Identity;
use engine::net::{Direction, FlowKey, Fragment, Hook, Protocol, TcpFlags};
use engine::reason::DropReason;
use engine::tables::{EndpointId, EntryId, Generation};
use engine::topology::Encryption;
use engine::trace::{
    Action, Choice, Counter, CtState, Event, Hit, IdentitySource, Place, PolicyOutcome, Rewriting,
    Stamped,
};
use zerocopy::FromBytes;

pub(crate) use flows::{client, datagram};
pub use flows::{conntrack, conntrack4, conntrack6, is_flow};
pub use runs::{End, Run, Runs, Snapshot};

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
        abi::kind::SERVICE => service(&read(record)?)?,
        abi::kind::REWRITTEN => rewritten(&read(record)?)?,
        abi::kind::ENCRYPTED => encrypted(&read(record)?)?,
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

/// The hook of a number as [`abi::Input::hook`] has it.
#[cfg(feature = "live")]
pub(crate) fn hook_of(number: u32) -> Result<Hook, BackendError> {
    hook(u8::try_from(number).unwrap_or(u8::MAX))
}

fn hook(number: u8) -> Result<Hook, BackendError> {
    let found = Hook::ALL.into_iter().find(|hook| hook_number(*hook) == number);
    found.ok_or_else(|| unknown("hook", number))
}

/// The number of a hook in the ABI.
pub fn hook_number(hook: Hook) -> u8 {
    match hook {
        Hook::FromContainer => abi::hook::FROM_CONTAINER,
        Hook::ToContainer => abi::hook::TO_CONTAINER,
        Hook::FromOverlay => abi::hook::FROM_OVERLAY,
        Hook::FromNetdev => abi::hook::FROM_NETDEV,
        Hook::ToOverlay => abi::hook::TO_OVERLAY,
        Hook::ToNetdev => abi::hook::TO_NETDEV,
        Hook::FromHost => abi::hook::FROM_HOST,
        Hook::ToHost => abi::hook::TO_HOST,
        Hook::Prefilter => abi::hook::PREFILTER,
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

fn service(event: &abi::ServiceEvent) -> Result<Event, BackendError> {
    let choice = match event.choice {
        abi::choice::NOBODY => Choice::Nobody,
        abi::choice::RANDOM => Choice::Random,
        abi::choice::MAGLEV => Choice::Maglev,
        abi::choice::AFFINITY => Choice::Affinity,
        abi::choice::CONNTRACK => Choice::Conntrack,
        abi::choice::FORCED => Choice::Forced,
        choice => return Err(unknown("choice of a backend", choice)),
    };
    let place = |bytes, port| Ok(Place { address: address(event.family, bytes)?, port });
    let backend = match choice {
        Choice::Nobody => None,
        _ => Some(place(event.backend, event.backend_port)?),
    };
    Ok(Event::Service {
        frontend: place(event.frontend, event.frontend_port)?,
        protocol: Protocol::from_number(event.protocol),
        entry: EntryId(event.entry),
        backend,
        choice,
        of: event.of,
    })
}

fn rewritten(event: &abi::RewrittenEvent) -> Result<Event, BackendError> {
    let rewriting = match event.rewriting {
        abi::rewriting::SERVICE => Rewriting::Service,
        abi::rewriting::SERVICE_REPLY => Rewriting::ServiceReply,
        abi::rewriting::MASQUERADE => Rewriting::Masquerade,
        abi::rewriting::MASQUERADE_REPLY => Rewriting::MasqueradeReply,
        abi::rewriting::NODE_PORT => Rewriting::NodePort,
        abi::rewriting::NODE_PORT_REPLY => Rewriting::NodePortReply,
        abi::rewriting::LOOPBACK => Rewriting::Loopback,
        abi::rewriting::LOOPBACK_REPLY => Rewriting::LoopbackReply,
        rewriting => return Err(unknown("rewriting", rewriting)),
    };
    let place = |bytes, port| Ok(Place { address: address(event.family, bytes)?, port });
    Ok(Event::Rewritten {
        rewriting,
        before: place(event.before, event.before_port)?,
        after: place(event.after, event.after_port)?,
        created: flag("mark of a new port", event.created)?,
    })
}

fn encrypted(event: &abi::EncryptedEvent) -> Result<Event, BackendError> {
    let by = match event.by {
        abi::encryption::WIREGUARD => {
            Encryption::Wireguard { nodes: flag("mark of the nodes' traffic", event.nodes)? }
        }
        abi::encryption::IPSEC => Encryption::Ipsec { key: event.key },
        by => return Err(unknown("encryption", by)),
    };
    Ok(Event::Encrypted { by, mark: event.mark })
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
        abi::action::NETWORK => Action::Network {
            ifindex: event.ifindex,
            next_hop: match event.remote_family {
                0 => None,
                family => Some(address(family, event.remote)?),
            },
        },
        action => return Err(unknown("action", action)),
    })
}

fn reason(number: u8) -> Result<DropReason, BackendError> {
    DropReason::from_code(number).ok_or_else(|| unknown("drop reason", number))
}

/// Reasons of [`abi::maps::COUNTERS`], the first of which is "forwarded".
const REASONS: u32 = 256;

/// Indices of [`abi::maps::COUNTERS`] that programs count at, by hook.
pub fn counter_indices() -> impl Iterator<Item = u32> {
    Hook::ALL.into_iter().flat_map(counter_indices_of)
}

/// The same of one hook.
pub fn counter_indices_of(hook: Hook) -> impl Iterator<Item = u32> {
    let first = u32::from(hook_number(hook)) * REASONS;
    let reasons = DropReason::ALL.iter().map(|reason| reason.code());
    std::iter::once(abi::reason::FORWARDED)
        .chain(reasons)
        .flat_map(move |reason| [0, 1].map(|side| (first + u32::from(reason)) * 2 + side))
}

/// Reads a counter from the values of every CPU; `None` where nothing was counted.
pub fn counter<V: AsRef<[u8]>>(index: u32, values: &[V]) -> Result<Option<Counter>, BackendError> {
    let (number, code) = (index / 2 / REASONS, index / 2 % REASONS);
    let number = u8::try_from(number).ok().and_then(|number| hook(number).ok());
    let hook = number.ok_or_else(|| unreadable(format!("a counter at index {index}")))?;
    let Some(sum) = sum(values)? else { return Ok(None) };
    Ok(Some(Counter {
        hook,
        reason: match u8::try_from(code).unwrap_or(abi::reason::FORWARDED) {
            abi::reason::FORWARDED => None,
            code => Some(reason(code)?),
        },
        direction: direction(u8::from(index & 1 != 0))?,
        packets: sum.packets,
        bytes: sum.bytes,
    }))
}

/// Reads how often an entry decided from the values of every CPU; `None` if it never did.
pub fn hit<V: AsRef<[u8]>>(
    endpoint: EndpointId,
    direction: Direction,
    entry: EntryId,
    values: &[V],
) -> Result<Option<Hit>, BackendError> {
    let sum = sum(values)?;
    Ok(sum.map(|sum| Hit { endpoint, direction, entry, packets: sum.packets, bytes: sum.bytes }))
}

/// What every CPU counted together, if anything.
fn sum<V: AsRef<[u8]>>(values: &[V]) -> Result<Option<abi::Count>, BackendError> {
    let mut sum = abi::Count::default();
    for value in values {
        // The kernel rounds the size of each CPU's value up to 8 bytes.
        let (value, _) = abi::Count::read_from_prefix(value.as_ref())
            .map_err(|_| unreadable("a truncated counter".to_owned()))?;
        sum.packets = sum.packets.wrapping_add(value.packets);
        sum.bytes = sum.bytes.wrapping_add(value.bytes);
    }
    Ok((sum != abi::Count::default()).then_some(sum))
}

#[cfg(test)]
mod tests;
