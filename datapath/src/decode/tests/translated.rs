//! What is said of services and translation: events, entries of conntrack of every kind, hits.

use engine::topology::Encryption;
use engine::trace::{Choice, ConntrackEntry, ConntrackKind, Rewriting};

use super::*;

fn place(address: &str, port: u16) -> Place {
    Place { address: ip(address), port }
}

fn bytes(address: &str) -> [u8; 16] {
    crate::encode::address_bytes(ip(address))
}

/// What a record says.
fn said(event: &(impl IntoBytes + zerocopy::Immutable)) -> Result<Event, BackendError> {
    read_event(event).map(|stamped| stamped.event)
}

fn service_event(choice: u8) -> abi::ServiceEvent {
    abi::ServiceEvent {
        header: header(abi::kind::SERVICE, 0),
        frontend: bytes("10.96.0.1"),
        backend: bytes("10.0.0.2"),
        entry: 4,
        of: 3,
        frontend_port: 80,
        backend_port: 8080,
        family: 1,
        protocol: 6,
        choice,
        ..abi::ServiceEvent::default()
    }
}

#[test]
fn a_service_says_where_it_leads_and_how_that_was_chosen() {
    for (number, choice) in [
        (0, Choice::Nobody),
        (1, Choice::Random),
        (2, Choice::Maglev),
        (3, Choice::Affinity),
        (4, Choice::Conntrack),
        (5, Choice::Forced),
    ] {
        let expected = Event::Service {
            frontend: place("10.96.0.1", 80),
            protocol: Protocol::Tcp,
            entry: EntryId(4),
            backend: (number != 0).then(|| place("10.0.0.2", 8080)),
            choice,
            of: 3,
        };
        assert_eq!(said(&service_event(number)), Ok(expected));
    }
    assert!(said(&service_event(6)).is_err());
    assert!(said(&abi::ServiceEvent { family: 3, ..service_event(1) }).is_err());
}

#[test]
fn a_side_that_is_rewritten_says_what_for() {
    let event = |rewriting| abi::RewrittenEvent {
        header: header(abi::kind::REWRITTEN, 5),
        before: bytes("fd00::1"),
        after: bytes("fd00::9"),
        before_port: 40_000,
        after_port: 50_000,
        rewriting,
        created: 1,
        family: 2,
        ..abi::RewrittenEvent::default()
    };
    for (number, rewriting) in [
        (1, Rewriting::Service),
        (2, Rewriting::ServiceReply),
        (3, Rewriting::Masquerade),
        (4, Rewriting::MasqueradeReply),
        (5, Rewriting::NodePort),
        (6, Rewriting::NodePortReply),
        (7, Rewriting::Loopback),
        (8, Rewriting::LoopbackReply),
    ] {
        let (before, after) = (place("fd00::1", 40_000), place("fd00::9", 50_000));
        let expected = Event::Rewritten { rewriting, before, after, created: true };
        assert_eq!(said(&event(number)), Ok(expected));
    }
    for wrong in [0, 9] {
        assert!(said(&event(wrong)).is_err());
    }
    assert!(said(&abi::RewrittenEvent { created: 2, ..event(1) }).is_err());
}

#[test]
fn encryption_and_ways_out_are_read() {
    let event = |by, key, nodes| abi::EncryptedEvent {
        header: header(abi::kind::ENCRYPTED, 5),
        mark: 0xE00,
        by,
        key,
        nodes,
        ..abi::EncryptedEvent::default()
    };
    for (by, key, nodes, expected) in [
        (1, 0, 1, Encryption::Wireguard { nodes: true }),
        (1, 0, 0, Encryption::Wireguard { nodes: false }),
        (2, 3, 0, Encryption::Ipsec { key: 3 }),
    ] {
        let expected = Event::Encrypted { by: expected, mark: 0xE00 };
        assert_eq!(said(&event(by, key, nodes)), Ok(expected));
    }
    assert!(said(&event(0, 0, 0)).is_err() && said(&event(1, 0, 2)).is_err());
    let network = |remote_family| abi::OutcomeEvent {
        ifindex: 2,
        remote: bytes("192.168.0.2"),
        remote_family,
        ..outcome_event(abi::action::NETWORK)
    };
    let out = |next_hop| Event::Outcome(Action::Network { ifindex: 2, next_hop });
    assert_eq!(said(&network(1)), Ok(out(Some(ip("192.168.0.2")))));
    assert_eq!(said(&network(0)), Ok(out(None)));
    assert!(said(&network(3)).is_err());
}

#[test]
fn every_hook_has_its_number() {
    for hook in Hook::ALL {
        let record = abi::OutcomeEvent {
            header: header(abi::kind::OUTCOME, hook_number(hook)),
            ..outcome_event(abi::action::PASS)
        };
        assert_eq!(super::super::event(record.as_bytes()).unwrap().hook, hook);
    }
}

/// An entry between two sides, the first of which started it.
fn entry(
    (source, source_port): (&str, u16),
    (destination, destination_port): (&str, u16),
    protocol: u8,
    value: abi::CtValue,
) -> ConntrackEntry {
    let octets = |text: &str| match ip(text) {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => panic!("{address}"),
    };
    let one = (octets(source), source_port.to_be_bytes());
    let other = (octets(destination), destination_port.to_be_bytes());
    let (low, high) = (one.min(other), one.max(other));
    let key = abi::CtKey4 {
        low_address: low.0,
        high_address: high.0,
        low_port: low.1,
        high_port: high.1,
        protocol,
        note: 0,
        reserved: [0; 2],
    };
    let value = abi::CtValue { initiator: u8::from(one != low), ..value };
    conntrack4(key.as_bytes(), value.as_bytes(), 40).unwrap()
}

fn leading(kind: u8, address: &str, port: u16) -> abi::CtValue {
    let (address, port) = (bytes(address), port.to_be_bytes());
    abi::CtValue { kind, address, port, expires: 50, ..abi::CtValue::default() }
}

/// Expires 60 seconds from when entries are read.
fn plain(flags: u8, nat_port: u16) -> abi::CtValue {
    let nat_port = nat_port.to_be_bytes();
    abi::CtValue { flags, nat_port, ..leading(abi::ct_kind::PLAIN, "10.96.0.1", 80) }.into_living()
}

trait Living {
    fn into_living(self) -> Self;
}

impl Living for abi::CtValue {
    /// Expires 60 seconds from when entries are read.
    fn into_living(self) -> Self {
        Self { expires: 100, ..self }
    }
}

#[test]
fn entries_say_what_they_are_for() {
    use abi::conntrack::{FRONTEND, LOOPBACK, NODE_PORT};
    let frontend = Some(place("10.96.0.1", 80));
    let (client, backend) = (("10.0.0.9", 40_000), ("10.0.0.2", 8080));
    for (value, kind) in [
        (plain(0, 0), ConntrackKind::Plain),
        (plain(FRONTEND, 0), ConntrackKind::Translated { frontend, nat_port: 0, loopback: false }),
        (
            plain(FRONTEND | LOOPBACK, 0),
            ConntrackKind::Translated { frontend, nat_port: 0, loopback: true },
        ),
        (
            plain(FRONTEND | NODE_PORT, 50_000),
            ConntrackKind::Translated { frontend, nat_port: 50_000, loopback: false },
        ),
        (
            plain(0, 40_000),
            ConntrackKind::Translated { frontend: None, nat_port: 40_000, loopback: false },
        ),
        (
            leading(abi::ct_kind::SERVICE, "10.0.0.2", 8080),
            ConntrackKind::Service { backend: place("10.0.0.2", 8080) },
        ),
        (
            leading(abi::ct_kind::NAT, "10.0.0.9", 40_000),
            ConntrackKind::Nat { source: place("10.0.0.9", 40_000) },
        ),
    ] {
        assert_eq!(entry(client, backend, 6, value).kind, kind);
    }
    let unknown = leading(3, "10.0.0.2", 8080);
    assert!(conntrack4(key4().as_bytes(), unknown.as_bytes(), 0).is_err());
}

#[test]
fn what_leads_to_a_flow_lives_as_long_as_it_does() {
    let (client, frontend, backend) = (("10.0.0.9", 40_000), ("10.96.0.1", 80), ("10.0.0.2", 8080));
    let flow = |value| entry(client, backend, 6, value);
    let service = entry(client, frontend, 6, leading(abi::ct_kind::SERVICE, backend.0, backend.1));
    let times = |entries: Vec<ConntrackEntry>| -> Vec<(IpAddr, u32)> {
        conntrack(entries).iter().map(|e| (e.flow.destination, e.expires_in)).collect()
    };
    let living = flow(plain(abi::conntrack::FRONTEND, 0));
    let both = [(ip("10.0.0.2"), 60), (ip("10.96.0.1"), 60)];
    assert_eq!(times(vec![service.clone(), living.clone()]), both);
    assert_eq!(times(vec![service.clone()]), [], "the flow is gone");
    let expired = ConntrackEntry { expires_in: 0, ..living };
    assert_eq!(times(vec![expired, service]), [(ip("10.0.0.2"), 0)]);
    // To itself: the flow is that of the loopback address.
    let own = entry(backend, frontend, 6, leading(abi::ct_kind::SERVICE, backend.0, 8080));
    let looped = entry(("169.254.42.1", 8080), backend, 6, plain(abi::conntrack::LOOPBACK, 0));
    assert_eq!(times(vec![own, looped]).len(), 2);
}

#[test]
fn a_translated_port_lives_while_its_flow_has_it() {
    let (pod, remote, node) = (("10.0.0.9", 40_000), ("203.0.113.7", 443), "192.168.0.1");
    let nat = |port| entry((node, port), remote, 6, leading(abi::ct_kind::NAT, pod.0, pod.1));
    let flow = |nat_port| entry(pod, remote, 6, plain(0, nat_port));
    let count = |entries: Vec<ConntrackEntry>| conntrack(entries).len();
    assert_eq!(count(vec![flow(50_000), nat(50_000)]), 2);
    assert_eq!(count(vec![flow(50_001), nat(50_000)]), 1, "it has another one now");
    assert_eq!(count(vec![nat(50_000)]), 0);
    // An echo's identifier takes the place of the port.
    let echo = |from, identifier, value| entry((from, 0), ("203.0.113.7", identifier), 1, value);
    let nat = echo(node, 50_000, leading(abi::ct_kind::NAT, pod.0, 77));
    assert_eq!(count(vec![echo(pod.0, 77, plain(0, 50_000)), nat.clone()]), 2);
    assert_eq!(count(vec![echo(pod.0, 78, plain(0, 50_000)), nat]), 1);
}

#[test]
fn hits_are_summed_over_cpus() {
    let count = |packets, bytes| abi::Count { packets, bytes }.as_bytes().to_vec();
    let read = |values: &[Vec<u8>]| hit(EndpointId(3), Direction::Ingress, EntryId(2), values);
    let seen = read(&[count(1, 60), count(0, 0), count(2, 140)]).unwrap().unwrap();
    assert_eq!((seen.endpoint, seen.direction), (EndpointId(3), Direction::Ingress));
    assert_eq!((seen.entry, seen.packets, seen.bytes), (EntryId(2), 3, 200));
    assert_eq!(read(&[count(0, 0)]), Ok(None));
    assert!(read(&[vec![0; 8]]).is_err());
}
