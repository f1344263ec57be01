//! What programs write into packets: addresses and ports in both families and every protocol, there and back, with errors and
//! the packets that they quote. Checksums are verified by [`Say::say`].

use engine::net::icmp;
use engine::question::quote;
use engine::tables::{BackendEntry, BackendSet, Frontend, FrontendKind};
use engine::topology::{Balancing, ServiceId};

use super::*;
use crate::frame::{Headers, read};

/// Addresses of one family: pod A, pod B, the service, the node, outside.
struct Family {
    a: &'static str,
    b: &'static str,
    service: &'static str,
    node: &'static str,
    outside: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        a: "10.0.0.1",
        b: "10.0.0.2",
        service: "10.96.0.1",
        node: "192.168.0.1",
        outside: "8.8.8.8",
    },
    Family {
        a: "fd00::1",
        b: "fd00::2",
        service: "fd96::1",
        node: "fd77::1",
        outside: "2001:db8::8",
    },
];

impl Family {
    fn is_v6(&self) -> bool {
        self.a.contains(':')
    }

    /// An ICMP error from one side to another about a packet.
    fn error(&self, from: &str, to: &str, about: &Packet) -> Packet {
        let (kind, code) = if self.is_v6() { (1, 4) } else { (3, 3) };
        Packet {
            payload: quote(about),
            ..packet(from, to, Transport::Icmp { kind, code, rest: [0; 4] })
        }
    }

    fn echo(&self, request: bool) -> u8 {
        match (self.is_v6(), request) {
            (false, true) => icmp::ECHO_REQUEST,
            (false, false) => icmp::ECHO_REPLY,
            (true, true) => 128,
            (true, false) => 129,
        }
    }
}

/// Port 80 of the services leads to port 8080 of pod B, and all that leaves is masqueraded.
fn world() -> Tables {
    let mut tables = tables(1, everything(), everything());
    let node = &mut tables.nodes[0];
    node.nat.masquerade = true;
    node.nat.addresses = [Some(ip("192.168.0.1")), Some(ip("fd77::1"))];
    for (at, family) in FAMILIES.iter().enumerate() {
        let number = u32::try_from(at).unwrap();
        let entry = |address: &str, number, identity, target| IpcacheEntry {
            prefix: ipnet::IpNet::from(ip(address)),
            identity,
            target,
            entry: EntryId(number),
            origin: IpcacheOrigin::World,
        };
        let service = Target::Service(ServiceId(0));
        node.ipcache.push(entry(family.service, 20 + number, Identity::WORLD_IPV4, service));
        if family.is_v6() {
            node.ipcache.push(entry(family.node, 30, Identity::HOST, Target::Host));
        }
        let place = engine::trace::Place { address: ip(family.b), port: 8080 };
        node.backend_sets.push(BackendSet {
            backends: vec![BackendEntry { pod: PodId(1), place }],
            maglev: Vec::new(),
        });
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            node.frontends.push(Frontend {
                entry: EntryId(u32::try_from(node.frontends.len()).unwrap() + 1),
                service: ServiceId(0),
                port_index: 0,
                kind: FrontendKind::ClusterIp,
                place: engine::trace::Place { address: ip(family.service), port: 80 },
                protocol,
                internal: number,
                external: number,
                affinity: None,
                balancing: Balancing::Random,
                source_ranges: Vec::new(),
            });
        }
    }
    node.locals.push(ip("fd77::1"));
    tables
}

/// The two sides of a frame as `SOURCE PORT -> DESTINATION PORT`; ICMP: without ports.
fn sides(frame: &[u8]) -> String {
    let Headers { flow, .. } = read(frame).unwrap();
    format!(
        "{} {} -> {} {}",
        flow.source, flow.source_port, flow.destination, flow.destination_port
    )
}

/// The sides of the packet that an error quotes.
fn quoted(frame: &[u8]) -> String {
    let start = if frame[12] == 8 { 14 + 20 + 8 } else { 14 + 40 + 8 };
    let mut inner = frame[..14].to_vec();
    inner.extend(&frame[start..]);
    // Headers are read whole: an error quotes the first bytes of a transport only.
    inner.resize(inner.len() + 40, 0);
    let (addresses, ports) = if frame[12] == 8 { (14 + 12, 14 + 20) } else { (14 + 8, 14 + 40) };
    let wide = if frame[12] == 8 { 4 } else { 16 };
    let address = |at: usize| -> IpAddr {
        let bytes = &inner[at..at + wide];
        match <[u8; 4]>::try_from(bytes) {
            Ok(four) => IpAddr::from(four),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap()),
        }
    };
    let port = |at: usize| u16::from_be_bytes([inner[at], inner[at + 1]]);
    format!(
        "{} {} -> {} {}",
        address(addresses),
        port(ports),
        address(addresses + wide),
        port(ports + 2)
    )
}

fn transports() -> [fn(u16, u16) -> Transport; 2] {
    [|source, destination| tcp(source, destination, TcpFlags::SYN), udp]
}

#[test]
fn a_service_is_written_there_and_back() {
    let mut backend = backend();
    backend.load(&world()).unwrap();
    for (family, transport) in FAMILIES.iter().flat_map(|f| transports().map(|t| (f, t))) {
        let Family { a, b, service, .. } = family;
        let there = backend.say(&from_a(&packet(a, service, transport(40_000, 80))));
        assert_eq!(sides(&there.0.frame), format!("{a} 40000 -> {b} 8080"));
        let back = backend.say(&from_b(&packet(b, a, transport(8080, 40_000))));
        assert_eq!(sides(&back.0.frame), format!("{service} 80 -> {a} 40000"));
        // The backend refuses: the client must find its own packet quoted, from whom it sent it to.
        let about = packet(a, b, transport(40_000, 8080));
        let error = backend.say(&from_b(&family.error(b, a, &about)));
        assert_eq!(error.state(), Some(CtState::Related));
        assert_eq!(sides(&error.0.frame), format!("{service} 0 -> {a} 0"));
        assert_eq!(quoted(&error.0.frame), format!("{a} 40000 -> {service} 80"));
        // The client refuses the answer: the backend must find its own.
        let about = packet(service, a, transport(80, 40_000));
        let error = backend.say(&from_a(&family.error(a, service, &about)));
        assert_eq!(error.state(), Some(CtState::Related));
        assert_eq!(sides(&error.0.frame), format!("{a} 0 -> {b} 0"));
        assert_eq!(quoted(&error.0.frame), format!("{b} 8080 -> {a} 40000"));
    }
}

#[test]
fn a_source_is_written_there_and_back() {
    let mut backend = backend();
    backend.load(&world()).unwrap();
    for (family, transport) in FAMILIES.iter().flat_map(|f| transports().map(|t| (f, t))) {
        let Family { a, node, outside, .. } = family;
        let sent = packet(a, outside, transport(40_000, 53));
        backend.say(&from_a(&sent));
        let left = backend.say(&injection(Hook::ToNetdev, DEVICE, frame(&sent)));
        assert_eq!(sides(&left.0.frame), format!("{node} 40000 -> {outside} 53"));
        let back = backend.say(&from_netdev(&packet(outside, node, transport(53, 40_000))));
        assert_eq!(sides(&back.0.frame), format!("{outside} 53 -> {a} 40000"));
        assert_eq!(back.state(), Some(CtState::Reply));
        let about = packet(node, outside, transport(40_000, 53));
        let error = backend.say(&from_netdev(&family.error(outside, node, &about)));
        assert_eq!(error.state(), Some(CtState::Related));
        assert_eq!(sides(&error.0.frame), format!("{outside} 0 -> {a} 0"));
        assert_eq!(quoted(&error.0.frame), format!("{a} 40000 -> {outside} 53"));
    }
}

#[test]
fn an_echo_is_written_there_and_back() {
    let mut backend = backend();
    backend.load(&world()).unwrap();
    for family in &FAMILIES {
        let Family { a, node, outside, .. } = family;
        let sent = packet(a, outside, echo(family.echo(true), 7));
        backend.say(&from_a(&sent));
        let left = backend.say(&injection(Hook::ToNetdev, DEVICE, frame(&sent)));
        assert_eq!(sides(&left.0.frame), format!("{node} 0 -> {outside} 0"));
        let at = if family.is_v6() { 14 + 40 + 4 } else { 14 + 20 + 4 };
        let identifier: [u8; 2] = left.0.frame[at..at + 2].try_into().unwrap();
        assert!(u16::from_be_bytes(identifier) >= 32_768, "one of the node's own");
        let rest = [identifier[0], identifier[1], 0, 1];
        let answer = Transport::Icmp { kind: family.echo(false), code: 0, rest };
        let back = backend.say(&from_netdev(&packet(outside, node, answer)));
        assert_eq!(sides(&back.0.frame), format!("{outside} 0 -> {a} 0"));
        assert_eq!(back.0.frame[at..at + 2], [0, 7]);
    }
}

#[test]
fn a_wrong_checksum_is_found() {
    let family = &FAMILIES[0];
    let about = packet(family.a, family.outside, udp(40_000, 53));
    let frames = [
        frame(&packet(family.a, family.b, tcp(1, 2, TcpFlags::SYN))),
        frame(&packet(family.a, family.b, udp(1, 2))),
        frame(&packet(family.a, family.b, echo(icmp::ECHO_REQUEST, 7))),
        frame(&family.error(family.b, family.a, &about)),
        frame(&packet(FAMILIES[1].a, FAMILIES[1].b, udp(1, 2))),
        frame(&packet(FAMILIES[1].a, FAMILIES[1].b, echo(128, 7))),
    ];
    for sound in frames {
        assert_eq!(crate::frame::wrong_checksum(&sound), None);
        // Any byte from the network header's end on, and the addresses, are summed by something.
        let start = if sound[12] == 8 { 14 + 12 } else { 14 + 8 };
        for at in start..sound.len() {
            let mut changed = sound.clone();
            changed[at] ^= 0x10;
            assert!(crate::frame::wrong_checksum(&changed).is_some(), "byte {at} of {sound:02x?}");
        }
    }
}

#[test]
fn what_leads_answers_back_is_seen_to() {
    let mut backend = backend();
    backend.load(&world()).unwrap();
    let Family { a, node, outside, .. } = &FAMILIES[0];
    let sent = packet(a, outside, udp(40_000, 53));
    let emit = |backend: &mut Tested| {
        backend.say(&from_a(&sent));
        let left = backend.say(&injection(Hook::ToNetdev, DEVICE, frame(&sent)));
        assert_eq!(sides(&left.0.frame), format!("{node} 40000 -> {outside} 53"));
    };
    emit(&mut backend);
    let answer = from_netdev(&packet(outside, node, udp(53, 40_000)));
    assert!(backend.say(&answer).is_delivered_to(1));
    // A full table has forgotten it.
    let is_nat = |row: &&engine::backend::Remembered| {
        row.value.get(std::mem::offset_of!(datapath_abi::CtValue, kind))
            == Some(&datapath_abi::ct_kind::NAT)
    };
    let found = backend.remembered(NODE).unwrap();
    assert_eq!(found.iter().filter(is_nat).count(), 1);
    let kept: Vec<_> = found.iter().filter(|row| !is_nat(row)).cloned().collect();
    backend.forget().unwrap();
    backend.remember(NODE, &kept).unwrap();
    assert!(!backend.say(&answer).is_delivered_to(1));
    for _ in 0..64 {
        emit(&mut backend);
    }
    assert!(backend.say(&answer).is_delivered_to(1));
}
