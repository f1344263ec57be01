//! Every event and value as the programs write it, and bytes that they never write.

mod translated;

use super::*;
use zerocopy::IntoBytes;

fn header(kind: u8, hook: u8) -> abi::EventHeader {
    abi::EventHeader { kind, hook, cpu: 3, generation: 7 }
}

fn v4(last: u8) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&[10, 0, 0, last]);
    bytes
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn parsed_event() -> abi::ParsedEvent {
    abi::ParsedEvent {
        header: header(abi::kind::PARSED, abi::hook::FROM_CONTAINER),
        source: v4(1),
        destination: v4(2),
        length: 60,
        source_port: 40_000,
        destination_port: 80,
        fragment_offset: 1480,
        more_fragments: 1,
        family: abi::family::V4,
        protocol: 6,
        ttl: 64,
        tcp_flags: 0x12,
        ..abi::ParsedEvent::default()
    }
}

fn policy_event() -> abi::PolicyEvent {
    abi::PolicyEvent {
        header: header(abi::kind::POLICY, abi::hook::FROM_OVERLAY),
        peer: 1000,
        entry: 3,
        other: 2,
        endpoint: 9,
        port: 80,
        protocol: 17,
        direction: abi::direction::INGRESS,
        outcome: abi::outcome::DENY,
        remembered: 1,
        ..abi::PolicyEvent::default()
    }
}

fn identity_event(from: u8) -> abi::IdentityEvent {
    abi::IdentityEvent {
        header: header(abi::kind::IDENTITY, abi::hook::FROM_NETDEV),
        address: Ipv6Addr::LOCALHOST.octets(),
        identity: 2000,
        entry: 5,
        source_side: 1,
        family: abi::family::V6,
        from,
        ..abi::IdentityEvent::default()
    }
}

fn outcome_event(action: u8) -> abi::OutcomeEvent {
    abi::OutcomeEvent {
        header: header(abi::kind::OUTCOME, abi::hook::TO_CONTAINER),
        action,
        reason: if action == abi::action::DROP { 133 } else { 0 },
        peer: 1,
        host: 1,
        ifindex: 11,
        vni: 1000,
        endpoint: 9,
        ttl: 64,
        remote_family: abi::family::V4,
        remote: v4(3),
        ..abi::OutcomeEvent::default()
    }
}

fn conntrack_event(state: u8) -> abi::ConntrackEvent {
    abi::ConntrackEvent {
        header: header(abi::kind::CONNTRACK, abi::hook::FROM_CONTAINER),
        state,
        created: 1,
        closing: 2,
        expires_in: 60,
        ..abi::ConntrackEvent::default()
    }
}

fn read_event(event: &impl Record) -> Result<Stamped, BackendError> {
    super::event(event.bytes())
}

/// Any event as bytes.
trait Record {
    fn bytes(&self) -> &[u8];
}

impl<T: IntoBytes + zerocopy::Immutable> Record for T {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

#[test]
fn each_event_becomes_its_value() {
    let flow = FlowKey {
        source: ip("10.0.0.1"),
        destination: ip("10.0.0.2"),
        protocol: Protocol::Tcp,
        source_port: 40_000,
        destination_port: 80,
    };
    let parsed = Event::Parsed {
        flow,
        flags: TcpFlags::SYN.with(TcpFlags::ACK),
        icmp: None,
        fragment: Fragment { offset: 1480, more: true },
        ttl: 64,
        length: 60,
    };
    let policy = Event::Policy {
        endpoint: EndpointId(9),
        direction: Direction::Ingress,
        peer: Identity(1000),
        protocol: Protocol::Udp,
        port: 80,
        outcome: PolicyOutcome::Deny,
        entry: EntryId(3),
        other: Some(EntryId(2)),
        remembered: true,
    };
    for (read, hook, event) in [
        (read_event(&parsed_event()), Hook::FromContainer, parsed),
        (read_event(&policy_event()), Hook::FromOverlay, policy),
    ] {
        assert_eq!(read, Ok(Stamped { generation: Generation(7), hook, event }));
    }
    let icmp = abi::ParsedEvent { has_icmp: 1, icmp_type: 8, icmp_code: 1, ..parsed_event() };
    let Event::Parsed { icmp, .. } = read_event(&icmp).unwrap().event else { panic!() };
    assert_eq!(icmp, Some((8, 1)));
    let alone = abi::PolicyEvent { other: 0, ..policy_event() };
    let Event::Policy { other, .. } = read_event(&alone).unwrap().event else { panic!() };
    assert_eq!(other, None);
}

#[test]
fn states_sources_and_actions_are_known_by_number() {
    for (number, state) in [
        (0, CtState::New),
        (1, CtState::Established),
        (2, CtState::Reply),
        (3, CtState::Related),
        (4, CtState::Untracked),
    ] {
        let event = Event::Conntrack { state, created: true, expires_in: 60, closing: true };
        assert_eq!(read_event(&conntrack_event(number)).unwrap().event, event);
    }
    for (number, from) in [
        (1, IdentitySource::Endpoint),
        (2, IdentitySource::Vni),
        (3, IdentitySource::Ipcache(EntryId(5))),
        (4, IdentitySource::OwnAddress(EntryId(5))),
        (5, IdentitySource::Remembered),
    ] {
        let (address, identity) = (ip("::1"), Identity(2000));
        let event = Event::Identity { source_side: true, address, identity, from };
        assert_eq!(read_event(&identity_event(number)).unwrap().event, event);
    }
    for (number, action) in [
        (1, Action::Drop(DropReason::PolicyDenied)),
        (2, Action::Deliver { endpoint: EndpointId(9), ifindex: 11, peer: true }),
        (3, Action::Tunnel { vni: 1000, remote: ip("10.0.0.3"), ifindex: 11, ttl: 64 }),
        (4, Action::Stack { host: true }),
        (5, Action::Pass),
    ] {
        assert_eq!(read_event(&outcome_event(number)).unwrap().event, Event::Outcome(action));
    }
}

#[test]
fn every_reason_that_the_engine_knows_is_a_reason_of_the_abi() {
    for reason in DropReason::ALL {
        let event = abi::OutcomeEvent { reason: reason.code(), ..outcome_event(1) };
        let read = read_event(&event).unwrap().event;
        assert_eq!(read, Event::Outcome(Action::Drop(*reason)));
    }
}

#[test]
fn what_no_program_writes_is_an_error() {
    let wrong: Vec<(Result<Stamped, BackendError>, &str)> = vec![
        (super::event(&[]), "0 bytes"),
        (super::event(&[1; 63]), "63 bytes"),
        (super::event(&[1; 65]), "65 bytes"),
        (super::event(&[0; 64]), "kind 0"),
        (super::event(&[9; 64]), "kind 9"),
        (read_event(&abi::ParsedEvent { header: header(1, 9), ..parsed_event() }), "hook 9"),
        (read_event(&abi::ParsedEvent { family: 0, ..parsed_event() }), "address family 0"),
        (read_event(&abi::ParsedEvent { more_fragments: 2, ..parsed_event() }), "fragments 2"),
        (read_event(&abi::ParsedEvent { has_icmp: 3, ..parsed_event() }), "ICMP type 3"),
        (read_event(&conntrack_event(5)), "conntrack state 5"),
        (read_event(&abi::ConntrackEvent { created: 2, ..conntrack_event(0) }), "new entry 2"),
        (read_event(&abi::ConntrackEvent { closing: 4, ..conntrack_event(0) }), "closing 4"),
        (read_event(&identity_event(0)), "source of an identity 0"),
        (read_event(&identity_event(6)), "source of an identity 6"),
        (read_event(&abi::IdentityEvent { source_side: 9, ..identity_event(1) }), "identity 9"),
        (read_event(&abi::PolicyEvent { outcome: 0, ..policy_event() }), "policy outcome 0"),
        (read_event(&abi::PolicyEvent { direction: 2, ..policy_event() }), "direction 2"),
        (read_event(&abi::PolicyEvent { remembered: 2, ..policy_event() }), "verdict 2"),
        (read_event(&outcome_event(0)), "action 0"),
        (read_event(&outcome_event(7)), "action 7"),
        (read_event(&abi::OutcomeEvent { reason: 1, ..outcome_event(1) }), "drop reason 1"),
        (read_event(&abi::OutcomeEvent { reason: 0, ..outcome_event(1) }), "drop reason 0"),
        (read_event(&abi::OutcomeEvent { remote_family: 3, ..outcome_event(3) }), "family 3"),
        (read_event(&abi::OutcomeEvent { peer: 2, ..outcome_event(2) }), "delivery 2"),
        (read_event(&abi::OutcomeEvent { host: 2, ..outcome_event(4) }), "host 2"),
    ];
    for (read, text) in wrong {
        match read {
            Err(BackendError::BadEvent(error)) => assert!(error.contains(text), "{error}: {text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

fn value() -> abi::CtValue {
    let leg = |generation, entry| abi::CtLeg { generation, entry, ..abi::CtLeg::default() };
    abi::CtValue {
        expires: 100,
        packets: [3, 2],
        bytes: [300, 200],
        legs: [leg(7, 4), leg(0, 0)],
        ..abi::CtValue::default()
    }
}

fn key4() -> abi::CtKey4 {
    abi::CtKey4 {
        low_address: [10, 0, 0, 1],
        high_address: [10, 0, 0, 2],
        low_port: 40_000_u16.to_be_bytes(),
        high_port: 80_u16.to_be_bytes(),
        protocol: 6,
        note: 0,
        reserved: [0; 2],
    }
}

#[test]
fn an_entry_shows_its_flow_as_the_initiator_sent_it() {
    for (initiator, source, destination) in
        [(0, ("10.0.0.1", 40_000), ("10.0.0.2", 80)), (1, ("10.0.0.2", 80), ("10.0.0.1", 40_000))]
    {
        let value = abi::CtValue { initiator, ..value() };
        let entry = conntrack4(key4().as_bytes(), value.as_bytes(), 40).unwrap();
        let (from, to) = (entry.flow.source, entry.flow.destination);
        assert_eq!((from, entry.flow.source_port), (ip(source.0), source.1));
        assert_eq!((to, entry.flow.destination_port), (ip(destination.0), destination.1));
        assert_eq!((entry.forward, entry.replies), ((3, 300), (2, 200)));
        assert_eq!((entry.expires_in, entry.closing, entry.seen_reply), (60, false, true));
        assert_eq!(entry.remembered, [(Direction::Egress, EntryId(4), Generation(7))]);
    }
    let key = abi::CtKey6 {
        low_address: Ipv6Addr::UNSPECIFIED.octets(),
        high_address: Ipv6Addr::LOCALHOST.octets(),
        low_port: [0; 2],
        high_port: 5_u16.to_be_bytes(),
        protocol: 58,
        note: 0,
        reserved: [0; 2],
    };
    let entry = conntrack6(key.as_bytes(), value().as_bytes(), 0).unwrap();
    assert_eq!((entry.flow.protocol, entry.flow.destination), (Protocol::Icmpv6, ip("::1")));
    assert_eq!(entry.flow.destination_port, 5, "the identifier of an echo");
}

#[test]
fn time_that_is_up_is_zero_and_closing_needs_one_side() {
    let read = |value: abi::CtValue, now| conntrack4(key4().as_bytes(), value.as_bytes(), now);
    assert_eq!(read(value(), 100).unwrap().expires_in, 0);
    assert_eq!(read(value(), u64::MAX).unwrap().expires_in, 0);
    let endless = abi::CtValue { expires: u64::MAX, ..value() };
    assert_eq!(read(endless, 0).unwrap().expires_in, u32::MAX);
    for closing in 1..4 {
        assert!(read(abi::CtValue { closing, ..value() }, 0).unwrap().closing);
    }
    let silent = abi::CtValue { packets: [1, 0], ..value() };
    assert!(!read(silent, 0).unwrap().seen_reply);
    let acknowledged = abi::CtValue { flags: abi::conntrack::SEEN_NON_SYN, ..silent };
    assert!(read(acknowledged, 0).unwrap().seen_reply);
}

#[test]
fn entries_of_another_layout_are_errors() {
    let (key, value) = (key4(), value());
    for (key, value) in [
        (&key.as_bytes()[1..], value.as_bytes()),
        (key.as_bytes(), &value.as_bytes()[8..]),
        (&[][..], &[][..]),
        (key.as_bytes(), abi::CtValue { initiator: 2, ..value }.as_bytes()),
        (key.as_bytes(), abi::CtValue { closing: 8, ..value }.as_bytes()),
    ] {
        assert!(matches!(conntrack4(key, value, 0), Err(BackendError::BadEvent(_))));
    }
    assert!(conntrack6(key.as_bytes(), value.as_bytes(), 0).is_err());
}

#[test]
fn counters_are_summed_over_cpus() {
    let count = |packets, bytes| abi::Count { packets, bytes }.as_bytes().to_vec();
    let sum = |index, values: &[Vec<u8>]| counter(index, values);
    let forwarded = Counter {
        hook: Hook::FromContainer,
        reason: None,
        direction: Direction::Ingress,
        packets: 3,
        bytes: 130,
    };
    assert_eq!(sum(1, &[count(1, 60), count(2, 70), count(0, 0)]), Ok(Some(forwarded)));
    let denied = Counter {
        hook: Hook::FromContainer,
        reason: Some(DropReason::PolicyDenied),
        direction: Direction::Egress,
        packets: 1,
        bytes: 60,
    };
    assert_eq!(sum(266, &[count(1, 60)]), Ok(Some(denied)));
    assert_eq!(sum(266, &[count(0, 0)]), Ok(None));
    assert_eq!(sum(266, &[]), Ok(None));
    assert!(sum(2, &[count(1, 1)]).is_err(), "reason 1 is none");
    // Index 512 is where the second hook's begin; there is none after the last.
    let second = sum(512, &[count(1, 1)]).unwrap().map(|counter| counter.hook);
    assert_eq!(second, Some(Hook::ToContainer));
    assert!(sum(512 * abi::hook::ALL, &[count(1, 1)]).is_err());
    assert!(sum(0, &[vec![0; 8]]).is_err());
    let indices: Vec<_> = counter_indices().collect();
    assert_eq!(indices.len(), 2 * Hook::ALL.len() * (DropReason::ALL.len() + 1));
    assert_eq!(&indices[..2], &[0, 1]);
    let last: Vec<_> = counter_indices_of(Hook::Prefilter).collect();
    assert_eq!((last[0], last.len()), (8 * 512, 2 * (DropReason::ALL.len() + 1)));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(
        record in proptest::collection::vec(proptest::num::u8::ANY, 0..130),
        kind in 0..10_u8,
        hook in 0..11_u8,
        now in proptest::num::u64::ANY,
    ) {
        let _ = super::event(&record);
        let mut whole = [0; abi::EVENT_SIZE];
        let length = record.len().min(whole.len());
        whole[..length].copy_from_slice(&record[..length]);
        (whole[0], whole[1]) = (kind, hook);
        let _ = super::event(&whole);
        let _ = conntrack4(&whole[..16], &record, now);
        let _ = conntrack6(&whole[..40], &record, now);
        let value: Vec<u8> = record.iter().copied().cycle().take(size_of::<abi::CtValue>()).collect();
        if let Ok(entry) = conntrack4(&whole[..16], &value, now) {
            assert!(entry.remembered.len() <= 2);
        }
        let _ = counter(u32::from(kind) * 100, &[record]);
    }
}
