//! Frames of every shape: extension headers, options, what is truncated or malformed, and plain garbage.

use super::*;

const IPV4: usize = 14;

#[test]
fn ipv6_extension_headers_are_skipped() {
    let mut backend = backend();
    let ingress = vec![allow(A, Some(Protocol::Tcp), 80, 16)];
    backend.load(&tables(1, everything(), ingress)).unwrap();
    let options = |kind| (kind, vec![1, 4, 0, 0, 0, 0]);
    let chains =
        [vec![options(0)], vec![options(60)], vec![options(0), options(60), (43, vec![0; 6])]];
    for extensions in chains {
        let mut sent = packet("fd00::1", "fd00::2", syn(80));
        sent.ip.extensions.clone_from(&extensions);
        let said = backend.say(&from_a(&sent));
        assert!(said.is_delivered_to(2), "{extensions:?}: {:?}", said.0);
        assert_eq!(said.policy(Direction::Ingress).map(|won| won.0), Some(1));
    }
    let mut many = packet("fd00::1", "fd00::2", syn(80));
    many.ip.extensions = vec![options(60); 4];
    assert_eq!(backend.say(&from_a(&many)).reason(), Some(DropReason::InvalidExtensionHeader));
    let mut nothing = packet("fd00::1", "fd00::2", Transport::Other { protocol: 59 });
    nothing.payload = vec![0; 8];
    assert_eq!(backend.say(&from_a(&nothing)).reason(), Some(DropReason::InvalidExtensionHeader));
}

#[test]
fn fragments_of_ipv6_are_known_by_their_header() {
    let mut backend = backend();
    let ingress = vec![allow(A, Some(Protocol::Udp), 53, 16)];
    backend.load(&tables(1, everything(), ingress)).unwrap();
    let mut piece = packet("fd00::1", "fd00::2", udp(4000, 53));
    piece.payload = vec![0; 64];
    piece.ip.fragment = Fragment { offset: 0, more: true };
    let said = backend.say(&from_a(&piece));
    assert!(said.is_delivered_to(2), "{:?}", said.0);
    piece.ip.fragment = Fragment { offset: 1440, more: false };
    let said = backend.say(&from_a(&piece));
    assert!(said.is_delivered_to(2), "its ports are those of the first piece: {:?}", said.0);
    backend.forget().unwrap();
    let said = backend.say(&from_a(&piece));
    assert_eq!(said.reason(), Some(DropReason::FragmentNotFound));
    let parsed = said.0.events.iter().find_map(|stamped| match stamped.event {
        Event::Parsed { fragment, .. } => Some(fragment),
        _ => None,
    });
    assert_eq!(parsed, Some(piece.ip.fragment));
}

#[test]
fn what_was_read_is_reported() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), everything())).unwrap();
    let mut sent = packet("10.0.0.1", "10.0.0.2", tcp(1234, 80, TcpFlags::SYN.with(TcpFlags::URG)));
    sent.ip.options = vec![1; 8];
    sent.payload = vec![7; 100];
    let said = backend.say(&from_a(&sent));
    let Event::Parsed { flow, flags, icmp, fragment, ttl, length } = said.0.events[0].event else {
        panic!("{:?}", said.0);
    };
    assert_eq!((flow.source, flow.source_port), (ip("10.0.0.1"), 1234));
    assert_eq!((flow.destination, flow.destination_port), (ip("10.0.0.2"), 80));
    assert_eq!((flow.protocol, flags), (Protocol::Tcp, TcpFlags::SYN.with(TcpFlags::URG)));
    assert_eq!((icmp, fragment, ttl, length), (None, Fragment::default(), 64, 28 + 20 + 100));
    let said = backend.say(&from_a(&packet("fd00::1", "fd00::2", echo(128, 3))));
    let Event::Parsed { icmp, flow, .. } = said.0.events[0].event else { panic!("{:?}", said.0) };
    assert_eq!((icmp, flow.source_port, flow.destination_port), (Some((128, 0)), 0, 0));
}

/// A TCP packet of pod A with some bytes changed, cut to a length.
fn broken(change: impl Fn(&mut Vec<u8>), length: usize) -> Injection {
    let mut bytes = frame(&packet("10.0.0.1", "10.0.0.2", syn(80)));
    change(&mut bytes);
    bytes.truncate(length);
    injection(Hook::FromContainer, PORT_A, bytes)
}

#[test]
fn malformed_frames_are_dropped_for_their_own_reason() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), everything())).unwrap();
    let whole = usize::MAX;
    let set = |at: usize, value: u8| move |bytes: &mut Vec<u8>| bytes[at] = value;
    for (what, injection, reason) in [
        ("version 5", broken(set(IPV4, 0x55), whole), DropReason::InvalidPacket),
        ("a header of 16 bytes", broken(set(IPV4, 0x44), whole), DropReason::InvalidPacket),
        ("half a TCP header", broken(|_| (), IPV4 + 20 + 10), DropReason::CtInvalidHeader),
        (
            "a total length within TCP",
            broken(set(IPV4 + 3, 30), whole),
            DropReason::CtInvalidHeader,
        ),
        ("protocol 47", broken(set(IPV4 + 9, 47), whole), DropReason::CtUnknownProtocol),
        ("an IEEE 802.3 length", broken(set(12, 0), whole), DropReason::UnsupportedL2),
        (
            "ethertype 0x88CC",
            broken(|b| b[12..14].copy_from_slice(&[0x88, 0xCC]), whole),
            DropReason::UnknownL3,
        ),
    ] {
        let said = backend.say(&injection);
        assert_eq!(said.reason(), Some(reason), "{what}: {:?}", said.0);
    }
    let arp = broken(|bytes| bytes[12..14].copy_from_slice(&[0x08, 0x06]), whole);
    assert_eq!(backend.say(&arp).outcome(), Action::Stack { host: false });
}

/// Whether the frame is too short for the network header that its ethertype promises.
fn lacks_network_header(bytes: &[u8]) -> bool {
    match bytes[12..14] {
        [0x08, 0x00] => bytes.len() < 14 + 20,
        [0x86, 0xDD] => bytes.len() < 14 + 40,
        _ => false,
    }
}

/// Runs a frame; `None` where the kernel refuses it by itself, which it may for the above only.
fn run(backend: &mut Tested, injection: &Injection) -> Option<Said> {
    match backend.inject(injection) {
        Ok(seen) => Some(Said::of(seen, injection.hook)),
        Err(BackendError::BadInjection(_)) if lacks_network_header(&injection.frame) => None,
        Err(error) => panic!("{error:?} {:02x?}", injection.frame),
    }
}

#[test]
fn a_frame_without_its_network_header_is_dropped_or_refused() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), everything())).unwrap();
    let ipv6 = frame(&packet("fd00::1", "fd00::2", syn(80)));
    for length in [14, 33, 53] {
        let short = Injection { frame: ipv6[..length].to_vec(), ..broken(|_| (), 0) };
        for injection in [broken(|_| (), length.min(33)), short] {
            if let Some(said) = run(&mut backend, &injection) {
                assert_eq!(said.reason(), Some(DropReason::InvalidPacket), "{length}");
            }
        }
    }
}

/// Numbers that look random and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

/// A real packet with a few bytes changed and perhaps cut, or nothing but noise.
fn garbage(numbers: &mut Numbers) -> Vec<u8> {
    let sides = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2"), ("10.1.0.1", "10.0.0.2")];
    let (source, destination) = sides[numbers.below(sides.len())];
    let transports = [syn(80), udp(1, 53), echo(8, 1), echo(128, 1), echo(3, 0)];
    let mut sent = packet(source, destination, transports[numbers.below(transports.len())].clone());
    sent.payload = vec![0; numbers.below(80)];
    sent.ip.ttl = [64, 2, 1, 0][numbers.below(4)];
    let mut bytes = frame(&sent);
    if numbers.below(4) == 0 {
        bytes = (0..14 + numbers.below(120)).map(|_| numbers.next().to_le_bytes()[3]).collect();
    } else {
        for _ in 0..numbers.below(6) {
            let at = 12 + numbers.below(bytes.len() - 12);
            bytes[at] = numbers.next().to_le_bytes()[5];
        }
    }
    if numbers.below(3) == 0 {
        bytes.truncate(14 + numbers.below(bytes.len() - 13));
    }
    bytes
}

#[test]
fn whatever_comes_in_has_an_outcome() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), everything())).unwrap();
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    let mut reasons = std::collections::BTreeSet::new();
    for _ in 0..2000 {
        let bytes = garbage(&mut numbers);
        for (hook, ifindex) in [
            (Hook::FromContainer, PORT_A),
            (Hook::ToContainer, PORT_B),
            (Hook::FromNetdev, DEVICE),
            (Hook::FromOverlay, TUNNEL),
            (Hook::ToOverlay, TUNNEL),
            (Hook::ToNetdev, DEVICE),
            (Hook::FromHost, HOST_DEVICE),
            (Hook::ToHost, HOST_DEVICE),
            (Hook::Prefilter, DEVICE),
        ] {
            let key = TunnelKey { vni: 3000, source: ip("192.168.0.2") };
            let tunnel = (hook == Hook::FromOverlay).then_some(key);
            let injection = Injection { tunnel, ..injection(hook, ifindex, bytes.clone()) };
            let Some(said) = run(&mut backend, &injection) else { continue };
            let expected = match said.outcome() {
                Action::Drop(_) => 2,
                Action::Deliver { .. } | Action::Tunnel { .. } | Action::Network { .. } => 7,
                Action::Stack { .. } | Action::Pass => 0,
            };
            assert_eq!(said.0.code, expected, "{hook} {bytes:02x?}");
            assert_eq!(said.0.frame.len(), bytes.len(), "{hook} {bytes:02x?}");
            reasons.extend(said.reason());
        }
    }
    // The noise reached every corner that a malformed frame can reach.
    for reason in [
        DropReason::InvalidSourceIp,
        DropReason::InvalidPacket,
        DropReason::CtInvalidHeader,
        DropReason::CtUnknownProtocol,
        DropReason::UnknownL3,
        DropReason::UnsupportedL2,
        DropReason::FragmentNotSupported,
        DropReason::TtlExceeded,
    ] {
        assert!(reasons.contains(&reason), "never dropped for {reason}");
    }
}
