//! Packets, events, hops and judgements of the shop's world, made by hand.

use std::net::IpAddr;

use crate::eval::{Check, Judgement, Leg, Mismatch, Trial};
use crate::explain::{LegOutcome, Verdict};
use crate::identity::Identity;
use crate::net::{
    Direction, FlowKey, Fragment, Hook, IpHeader, Packet, Protocol, TcpFlags, Transport,
};
use crate::policy;
use crate::question::Question;
use crate::reason::DropReason;
use crate::tables::{EndpointId, EntryId, Implied, Origin};
use crate::topology::{Endpoint, NodeId, Party, PodId, TunnelKind};
use crate::trace::{
    Action, CtState, Event, Hop, IdentitySource, Place, PolicyOutcome, Stamped, Trace, TunnelHeader,
};

use super::shop::*;

/// The packet of [`asked`].
pub(super) fn syn() -> Packet {
    let transport = Transport::Tcp {
        source: 40312,
        destination: 8080,
        flags: TcpFlags::SYN,
        sequence: 1,
        acknowledgement: 0,
    };
    packet("10.244.1.154", "10.244.6.11", transport)
}

pub(super) fn packet(source: &str, destination: &str, transport: Transport) -> Packet {
    let ip = IpHeader {
        source: ip(source),
        destination: ip(destination),
        traffic_class: 0,
        ttl: 64,
        id: 0,
        flow_label: 0,
        dont_fragment: false,
        fragment: Fragment::default(),
        options: Vec::new(),
        extensions: Vec::new(),
    };
    Packet { ip, transport, payload: Vec::new() }
}

pub(super) fn asked() -> Question {
    Question {
        source: Party::Pod(CLIENT),
        destination: Party::Pod(ECHO),
        packet: syn(),
        with_reply: false,
        choose: None,
        known: None,
        assumed: Vec::new(),
        undetermined: Vec::new(),
    }
}

/// A frame of which only the TTL is looked at.
pub(super) fn frame(ttl: u8) -> Vec<u8> {
    let mut bytes = vec![0; 34];
    bytes[14] = 0x45;
    bytes[22] = ttl;
    bytes
}

/// A TCP frame between two places.
pub(super) fn between(source: Place, destination: Place) -> Vec<u8> {
    let mut bytes = frame(63);
    bytes[23] = 6;
    let octets = |place: Place| match place.address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    bytes[26..30].copy_from_slice(&octets(source));
    bytes[30..34].copy_from_slice(&octets(destination));
    bytes.extend(source.port.to_be_bytes());
    bytes.extend(destination.port.to_be_bytes());
    bytes
}

/// A hop of which every event belongs to [`GENERATION`].
pub(super) fn hop(node: NodeId, hook: Hook, events: Vec<Event>) -> Hop {
    let (device, ifindex) = match (hook, node) {
        (Hook::FromOverlay, _) => ("vxlan0", 2),
        (Hook::FromNetdev | Hook::ToNetdev | Hook::Prefilter, _) => ("eth0", 1),
        (Hook::FromHost | Hook::ToHost, _) => ("cilium_host", 3),
        (_, NODE01) => ("lxc_client", 101),
        _ => ("lxc_echo-0", 102),
    };
    let stamped = |event| Stamped { generation: GENERATION, hook, event };
    Hop {
        node,
        hook,
        device: device.into(),
        ifindex,
        events: events.into_iter().map(stamped).collect(),
        frame_in: frame(64),
        frame_out: frame(63),
        tunnel: None,
        undetermined: Vec::new(),
        time: None,
    }
}

pub(super) fn trace(hops: Vec<Hop>) -> Trace {
    Trace { backend: "kernel 6.18".into(), generation: GENERATION, hops, ..Trace::default() }
}

pub(super) fn parsed(protocol: Protocol, icmp: Option<(u8, u8)>) -> Event {
    let flow = FlowKey {
        source: ip("10.244.1.154"),
        destination: ip("10.244.6.11"),
        protocol,
        source_port: 0,
        destination_port: 0,
    };
    Event::Parsed {
        flow,
        flags: TcpFlags::default(),
        icmp,
        fragment: Fragment::default(),
        ttl: 64,
        length: 60,
    }
}

pub(super) fn conntrack(state: CtState) -> Event {
    Event::Conntrack { state, created: state == CtState::New, expires_in: 60, closing: false }
}

pub(super) fn source(address: &str, identity: Identity, from: IdentitySource) -> Event {
    Event::Identity { source_side: true, address: ip(address), identity, from }
}

pub(super) fn to_echo() -> Event {
    Event::Identity {
        source_side: false,
        address: ip("10.244.6.11"),
        identity: ECHO_IDENTITY,
        from: IdentitySource::Ipcache(EntryId(2)),
    }
}

pub(super) fn policy(
    endpoint: EndpointId,
    direction: Direction,
    outcome: PolicyOutcome,
    entry: u32,
) -> Event {
    Event::Policy {
        endpoint,
        direction,
        peer: if direction == Direction::Egress { ECHO_IDENTITY } else { CLIENT_IDENTITY },
        protocol: Protocol::Tcp,
        port: 8080,
        outcome,
        entry: EntryId(entry),
        other: None,
        remembered: false,
    }
}

pub(super) fn tunnel() -> Event {
    let remote = ip("192.168.66.221");
    Event::Outcome(Action::Tunnel { vni: 27634, remote, ifindex: 2, ttl: 64 })
}

pub(super) fn deliver(endpoint: EndpointId) -> Event {
    Event::Outcome(Action::Deliver { endpoint, ifindex: 0, peer: true })
}

pub(super) fn drop(reason: DropReason) -> Event {
    Event::Outcome(Action::Drop(reason))
}

/// The client's side of a packet to another node, in a conntrack state that policy is asked in.
pub(super) fn sent(state: CtState) -> Hop {
    let events = vec![
        parsed(Protocol::Tcp, None),
        conntrack(state),
        source("10.244.1.154", CLIENT_IDENTITY, IdentitySource::Endpoint),
        to_echo(),
        policy(CLIENT_ENDPOINT, Direction::Egress, PolicyOutcome::Allow, 1),
        tunnel(),
    ];
    let header = TunnelHeader {
        kind: TunnelKind::Vxlan,
        source: ip("192.168.66.226"),
        destination: ip("192.168.66.221"),
        port: 8472,
        source_port: 40000,
        vni: 27634,
        undetermined: vec!["outer IP id".into()],
    };
    Hop { tunnel: Some(header), ..hop(NODE01, Hook::FromContainer, events) }
}

/// The receiver's side, with what its policy says and what is done.
pub(super) fn received(outcome: PolicyOutcome, entry: u32, end: Event) -> Hop {
    let events = vec![
        parsed(Protocol::Tcp, None),
        conntrack(CtState::New),
        source("10.244.1.154", CLIENT_IDENTITY, IdentitySource::Vni),
        policy(ECHO_ENDPOINT, Direction::Ingress, outcome, entry),
        end,
    ];
    hop(NODE02, Hook::FromOverlay, events)
}

/// From the client to echo-0 by the tunnel, allowed on both sides.
pub(super) fn through() -> Trace {
    trace(vec![sent(CtState::New), received(PolicyOutcome::Allow, 1, deliver(ECHO_ENDPOINT))])
}

/// The same, denied by default at the receiver.
pub(super) fn refused() -> Trace {
    let end = drop(DropReason::PolicyDenied);
    trace(vec![sent(CtState::New), received(PolicyOutcome::DefaultDeny, 0, end)])
}

pub(super) fn leg(
    endpoint: PodId,
    direction: Direction,
    outcome: LegOutcome,
    matching: Vec<Origin>,
) -> Leg {
    let node = if endpoint == ECHO { NODE02 } else { NODE01 };
    let state = match outcome {
        LegOutcome::Reply => CtState::Reply,
        LegOutcome::Related => CtState::Related,
        _ => CtState::New,
    };
    Leg {
        node,
        endpoint: Endpoint::Pod(endpoint),
        direction,
        state,
        outcome,
        matching,
        isolated_by: Vec::new(),
        trials: Vec::new(),
    }
}

pub(super) fn allowed(legs: Vec<Leg>) -> Judgement {
    judged(Verdict::Allowed, None, legs)
}

pub(super) fn dropped(reason: DropReason, legs: Vec<Leg>) -> Judgement {
    judged(Verdict::Dropped, Some(reason), legs)
}

fn judged(verdict: Verdict, reason: Option<DropReason>, legs: Vec<Leg>) -> Judgement {
    Judgement { verdict, reason, legs, serving: None, arrives: None, illegal: Vec::new() }
}

/// What the oracle says about [`through`].
pub(super) fn through_judged(shop: &Shop) -> Judgement {
    let of = |name| Origin::Rule(shop.rule(name));
    allowed(vec![
        leg(CLIENT, Direction::Egress, LegOutcome::Allow, vec![of("echo"), of("also")]),
        leg(ECHO, Direction::Ingress, LegOutcome::Allow, vec![of("api-read")]),
    ])
}

/// What the oracle says about [`refused`].
pub(super) fn refused_judged(shop: &Shop) -> Judgement {
    let of = |name| Origin::Rule(shop.rule(name));
    let denied = vec![Origin::Implied(Implied::DefaultDeny)];
    dropped(
        DropReason::PolicyDenied,
        vec![
            leg(CLIENT, Direction::Egress, LegOutcome::Allow, vec![of("echo"), of("also")]),
            leg(ECHO, Direction::Ingress, LegOutcome::DefaultDeny, denied),
        ],
    )
}

/// A rule held against the packet: conditions by name, each failing one with what it wants.
pub(super) fn trial(shop: &Shop, name: &str, checks: &[(&'static str, Option<&str>)]) -> Trial {
    let rule = shop.rule(name);
    let action = shop.policies.rule(rule).map_or(policy::Action::Allow, |(_, r)| r.action);
    let check = |(name, wants): &(&'static str, Option<&str>)| Check {
        name,
        mismatch: wants.map(|wants| Mismatch {
            span: span("pods { app = \"client\" }"),
            wants: wants.to_owned(),
            is: "world".into(),
        }),
    };
    Trial { rule, action, checks: checks.iter().map(check).collect() }
}
