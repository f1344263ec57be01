//! Which entry of a policy table wins, as `engine::tables` states it.

use super::*;

const TCP: Option<Protocol> = Some(Protocol::Tcp);

/// (what it is about, entries, port of a TCP packet, expected entry and other hit, whether it is dropped).
type Case = (&'static str, Vec<PolicyEntry>, u16, (u32, Option<u32>), Option<DropReason>);

fn cases() -> Vec<Case> {
    let any = Identity::ANY;
    let (denied, by_default) = (Some(DropReason::PolicyDeny), Some(DropReason::PolicyDenied));
    vec![
        ("no entry", vec![], 80, (0, None), by_default),
        ("another identity's entry", vec![allow(FAR, None, 0, 0)], 80, (0, None), by_default),
        (
            "another protocol",
            vec![allow(A, Some(Protocol::Udp), 80, 16)],
            80,
            (0, None),
            by_default,
        ),
        ("the identity's entry", vec![allow(A, TCP, 80, 16)], 80, (1, None), None),
        ("anyone's entry", vec![allow(any, TCP, 80, 16)], 80, (1, None), None),
        (
            "the longer port prefix wins over the identity",
            vec![allow(A, TCP, 0, 0), allow(any, TCP, 80, 16)],
            80,
            (2, Some(1)),
            None,
        ),
        (
            "the identity wins over anyone where prefixes are equal",
            vec![allow(any, TCP, 80, 16), allow(A, TCP, 80, 16)],
            80,
            (2, Some(1)),
            None,
        ),
        (
            "a wide deny of anyone wins over the identity's exact allow",
            vec![allow(A, TCP, 80, 16), deny(any, None, 0, 0)],
            80,
            (2, Some(1)),
            denied,
        ),
        (
            "the identity's deny needs no second look-up",
            vec![deny(A, None, 0, 0), allow(any, TCP, 80, 16)],
            80,
            (1, None),
            denied,
        ),
        ("a port prefix covers", vec![allow(A, TCP, 0x1F90, 12)], 0x1F9F, (1, None), None),
        ("a port prefix ends", vec![allow(A, TCP, 0x1F90, 12)], 0x1FA0, (0, None), by_default),
        ("all ports of a protocol", vec![allow(A, TCP, 0, 0)], 65_535, (1, None), None),
        ("every protocol", vec![allow(A, None, 0, 0)], 1, (1, None), None),
    ]
}

#[test]
fn the_winning_entry_is_the_one_that_the_order_of_precedence_names() {
    let mut backend = backend();
    for ((what, entries, port, (entry, other), reason), generation) in cases().into_iter().zip(1..)
    {
        backend.load(&tables(generation, everything(), entries)).unwrap();
        backend.forget().unwrap();
        let said = backend.say(&from_a(&packet("10.0.0.1", "10.0.0.2", syn(port))));
        assert_eq!(said.policy(Direction::Ingress), Some((entry, other, false)), "{what}");
        assert_eq!(said.policy(Direction::Egress), Some((1, None, false)), "{what}");
        assert_eq!(said.reason(), reason, "{what}");
        assert_eq!(said.is_delivered_to(2), reason.is_none(), "{what}");
    }
}

#[test]
fn egress_is_asked_with_the_destination_and_first() {
    let mut backend = backend();
    let egress = vec![allow(B, TCP, 80, 16), deny(Identity::WORLD_IPV4, None, 0, 0)];
    backend.load(&tables(1, egress, everything())).unwrap();
    let said = backend.say(&from_a(&packet("10.0.0.1", "10.0.0.2", syn(80))));
    assert_eq!(said.policy(Direction::Egress), Some((1, None, false)));
    assert!(said.is_delivered_to(2));
    let said = backend.say(&from_a(&packet("10.0.0.1", "10.0.0.2", syn(81))));
    assert_eq!(said.reason(), Some(DropReason::PolicyDenied));
    assert_eq!(
        said.policy(Direction::Ingress),
        None,
        "a packet that may not leave arrives nowhere"
    );
    let said = backend.say(&from_a(&packet("10.0.0.1", "8.8.8.8", syn(80))));
    assert_eq!(said.reason(), Some(DropReason::PolicyDeny));
    assert_eq!(said.policy(Direction::Egress), Some((2, None, false)));
}

#[test]
fn icmp_is_asked_for_by_its_type_and_sctp_by_its_port() {
    let mut backend = backend();
    let ingress = vec![
        allow(A, Some(Protocol::Icmp), 8, 16),
        allow(A, Some(Protocol::Icmpv6), 128, 16),
        allow(A, Some(Protocol::Sctp), 3868, 16),
    ];
    backend.load(&tables(1, everything(), ingress)).unwrap();
    let sctp = |destination| Transport::Sctp { source: 4000, destination };
    for (source, destination, transport, entry) in [
        ("10.0.0.1", "10.0.0.2", echo(8, 7), 1),
        ("10.0.0.1", "10.0.0.2", echo(13, 7), 0),
        ("fd00::1", "fd00::2", echo(128, 7), 2),
        ("fd00::1", "fd00::2", echo(8, 7), 0),
        ("10.0.0.1", "10.0.0.2", sctp(3868), 3),
        ("fd00::1", "fd00::2", sctp(3868), 3),
        ("10.0.0.1", "10.0.0.2", sctp(3869), 0),
    ] {
        let said = backend.say(&from_a(&packet(source, destination, transport.clone())));
        let (won, ..) = said.policy(Direction::Ingress).unwrap();
        assert_eq!(won, entry, "{source} {transport:?}");
        assert_eq!(said.is_delivered_to(2), entry != 0, "{source} {transport:?}");
    }
}

#[test]
fn fragmentation_needed_passes_whatever_the_policy() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), vec![deny(Identity::ANY, None, 0, 0)])).unwrap();
    let error = |code| Transport::Icmp { kind: 3, code, rest: [0; 4] };
    let said = backend.say(&from_a(&packet("10.0.0.1", "10.0.0.2", error(4))));
    assert!(said.is_delivered_to(2), "{:?}", said.0);
    assert_eq!(said.policy(Direction::Ingress), Some((0, None, false)));
    let said = backend.say(&from_a(&packet("10.0.0.1", "10.0.0.2", error(1))));
    assert_eq!(said.reason(), Some(DropReason::PolicyDeny));
}

#[test]
fn a_later_fragment_has_the_ports_of_the_first_one() {
    let mut backend = backend();
    let mut piece = packet("10.0.0.1", "10.0.0.2", udp(4000, 53));
    piece.ip.fragment = Fragment { offset: 1480, more: false };
    piece.payload = vec![0; 64];
    let by_port = vec![allow(A, Some(Protocol::Udp), 53, 16)];
    backend.load(&tables(1, everything(), by_port)).unwrap();
    let said = backend.say(&from_a(&piece));
    assert_eq!(said.reason(), Some(DropReason::FragmentNotFound));
    assert!(matches!(said.state(), None | Some(CtState::Untracked)), "{:?}", said.0);
    assert!(backend.conntrack(NODE, 0).unwrap().is_empty());
    let mut first = piece.clone();
    first.ip.fragment = Fragment { offset: 0, more: true };
    let said = backend.say(&from_a(&first));
    assert_eq!(said.state(), Some(CtState::New), "the first piece has its ports");
    let said = backend.say(&from_a(&piece));
    assert!(said.is_delivered_to(2), "{:?}", said.0);
    assert_eq!(said.policy(Direction::Ingress).map(|won| won.0), Some(1));
    let mut other = piece.clone();
    other.ip.id = 2;
    assert_eq!(backend.say(&from_a(&other)).reason(), Some(DropReason::FragmentNotFound));
    let mut ping = packet("10.0.0.1", "10.0.0.2", echo(8, 1));
    ping.ip.fragment = Fragment { offset: 0, more: true };
    assert_eq!(backend.say(&from_a(&ping)).reason(), Some(DropReason::FragmentNotSupported));
}
