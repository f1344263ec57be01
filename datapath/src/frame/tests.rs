//! Frames held against bytes written by hand, the captured packet of the reference cluster among them, and
//! random packets read back by an independent parser.

mod layers;
mod random;
mod tunnels;

use std::net::IpAddr;

use engine::net::{FlowKey, Fragment, IpHeader, Mac, Packet, Protocol, TcpFlags, Transport};
use engine::topology::TunnelKind;
use engine::trace::Ethernet;

use super::transport::crc32c;
use super::{FrameError, MAX_LENGTH, Outer, build, encapsulate, read, undetermined};

const ETHERNET: Ethernet = Ethernet {
    source: Mac([0x02, 0x16, 0x7A, 0x1D, 0x0C, 0x7E]),
    destination: Mac([0xF2, 0x19, 0xFC, 0x0E, 0x0A, 0x8C]),
};

fn ip(source: &str, destination: &str) -> IpHeader {
    IpHeader {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        traffic_class: 0,
        ttl: 64,
        id: 0,
        flow_label: 0,
        dont_fragment: false,
        fragment: Fragment::default(),
        options: Vec::new(),
        extensions: Vec::new(),
    }
}

fn v4(transport: Transport, payload: &[u8]) -> Packet {
    Packet { ip: ip("10.1.0.10", "10.2.0.10"), transport, payload: payload.to_vec() }
}

fn v6(transport: Transport, payload: &[u8]) -> Packet {
    Packet { ip: ip("fd00:1::10", "fd00:2::10"), transport, payload: payload.to_vec() }
}

fn syn() -> Transport {
    Transport::Tcp {
        source: 40312,
        destination: 80,
        flags: TcpFlags::SYN,
        sequence: 7,
        acknowledgement: 0,
    }
}

fn udp() -> Transport {
    Transport::Udp { source: 40312, destination: 53 }
}

/// As a VXLAN device chooses it.
fn source_port(frame: &[u8]) -> u16 {
    super::source_port(frame, TunnelKind::Vxlan)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The packet's bytes from the network header on.
fn ip_bytes(packet: &Packet) -> String {
    hex(&build(packet, ETHERNET).unwrap()[14..])
}

/// The captured ping: echo id 502, sequence 1878, IP id 35369, "don't fragment", IP length 84.
fn captured() -> Packet {
    Packet {
        ip: IpHeader { id: 35369, dont_fragment: true, ..ip("10.244.1.154", "10.244.6.11") },
        transport: Transport::Icmp { kind: 8, code: 0, rest: [0x01, 0xF6, 0x07, 0x56] },
        payload: (0..56).collect(),
    }
}

const CAPTURED_ETHERNET: &str = "f219fc0e0a8c 02167a1d0c7e 0800";
const CAPTURED_IP: &str = "4500 0054 8a29 4000 40 01 92f3 0af4019a 0af4060b";
const CAPTURED_ICMP: &str = "08 00 f7a0 01f6 0756";

#[test]
fn the_captured_ping() {
    let frame = build(&captured(), ETHERNET).unwrap();
    let payload: Vec<u8> = (0..56).collect();
    let expected = [CAPTURED_ETHERNET, CAPTURED_IP, CAPTURED_ICMP, &hex(&payload)].concat();
    assert_eq!(hex(&frame), expected.replace(' ', ""));
}

#[test]
fn the_captured_outer_headers() {
    let inner = build(&captured(), ETHERNET).unwrap();
    let outer = Outer {
        ethernet: Ethernet { source: Mac([2; 6]), destination: Mac([4; 6]) },
        kind: TunnelKind::Vxlan,
        options: &[],
        source: "192.168.66.226".parse().unwrap(),
        destination: "192.168.66.221".parse().unwrap(),
        ttl: 64,
        source_port: 60971,
        port: 8472,
        vni: 27634,
    };
    let frame = encapsulate(&inner, &outer).unwrap();
    // IP: TOS 0, length 134, id 0, no "don't fragment", TTL 64. UDP: length 114, no checksum.
    let expected = "040404040404 020202020202 0800 \
        4500 0086 0000 0000 40 11 7357 c0a842e2 c0a842dd \
        ee2b 2118 0072 0000 \
        08000000 006bf200";
    assert_eq!(hex(&frame[..50]), expected.replace(' ', ""));
    assert_eq!(frame[50..], inner);
}

#[test]
fn tcp_over_ipv4_with_options() {
    let mut packet = v4(syn(), b"");
    packet.ip = IpHeader {
        traffic_class: 0xB9,
        ttl: 17,
        id: 9,
        flow_label: 0,
        dont_fragment: true,
        options: vec![0x94, 4, 0, 0],
        ..packet.ip
    };
    let expected = "46 b9 002c 0009 4000 11 06 bfef 0a01000a 0a02000a 94040000 \
        9d78 0050 00000007 00000000 50 02 ffff fdfc 0000";
    assert_eq!(ip_bytes(&packet), expected.replace(' ', ""));
}

#[test]
fn a_udp_checksum_of_zero_is_written_as_ones() {
    let packet = v4(Transport::Udp { source: 1000, destination: 53 }, &[0xE7, 0xA6]);
    assert!(ip_bytes(&packet).ends_with("03e80035000affffe7a6"));
}

#[test]
fn udp_over_ipv6_with_extension_headers_as_a_first_fragment() {
    let mut packet = v6(udp(), b"hi");
    packet.ip = IpHeader {
        traffic_class: 0x2E,
        ttl: 3,
        id: 0x0102_0304,
        fragment: Fragment { offset: 0, more: true },
        extensions: vec![(0, vec![1, 4, 0, 0, 0, 0])],
        ..packet.ip
    };
    let expected = "62e00000 001a 00 03 \
        fd000001000000000000000000000010 fd000002000000000000000000000010 \
        2c00010400000000 1100000101020304 \
        9d78 0035 000a ff9e 6869";
    assert_eq!(ip_bytes(&packet), expected.replace(' ', ""));
}

#[test]
fn an_authentication_header_counts_in_words() {
    let mut packet = v6(udp(), b"hi");
    packet.ip.extensions =
        vec![(51, vec![0; 10]), (60, vec![1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])];
    let bytes = ip_bytes(&packet);
    assert_eq!(bytes[12..14], *"33");
    // 12 bytes are 3 words, 2 of them not counted; 16 bytes are 2 units, 1 of them not counted.
    assert_eq!(bytes[80..84], *"3c01");
    assert_eq!(bytes[104..108], *"1101");
}

#[test]
fn icmpv6_has_a_pseudo_header() {
    let packet = v6(Transport::Icmp { kind: 128, code: 0, rest: [0, 1, 0, 2] }, b"abc");
    assert!(ip_bytes(&packet).ends_with("8000c12f00010002616263"));
}

#[test]
fn a_later_fragment_has_no_transport_header() {
    let mut packet = v4(udp(), b"data");
    packet.ip.id = 9;
    packet.ip.fragment = Fragment { offset: 1480, more: true };
    let expected = "4500 0018 0009 20b9 40 11 45fd 0a01000a 0a02000a 64617461";
    assert_eq!(ip_bytes(&packet), expected.replace(' ', ""));
}

#[test]
fn sctp_has_its_own_checksum() {
    // The check value of CRC-32C.
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    let packet = v4(Transport::Sctp { source: 40312, destination: 3868 }, b"xy");
    assert!(ip_bytes(&packet).ends_with("9d780f1c00000000dfb6310a7879"));
}

#[test]
fn other_protocols_are_their_payload() {
    let packet = v4(Transport::Other { protocol: 112 }, b"vrrp");
    let bytes = build(&packet, ETHERNET).unwrap();
    assert_eq!((bytes[23], &bytes[34..]), (112, &b"vrrp"[..]));
}

#[test]
fn outer_ipv6_has_a_checksum() {
    let outer = Outer {
        ethernet: ETHERNET,
        kind: TunnelKind::Vxlan,
        options: &[],
        source: "fd00:a::1".parse().unwrap(),
        destination: "fd00:a::2".parse().unwrap(),
        ttl: 64,
        source_port: 40000,
        port: 8472,
        vni: 6,
    };
    let inner: Vec<u8> = (0..14).collect();
    let frame = encapsulate(&inner, &outer).unwrap();
    let expected = "f219fc0e0a8c 02167a1d0c7e 86dd 60000000 001e 11 40 \
        fd00000a000000000000000000000001 fd00000a000000000000000000000002 \
        9c40 2118 001e 1010 08000000 00000600";
    assert_eq!(hex(&frame[..70]), expected.replace(' ', ""));
}

#[test]
fn outer_headers_copy_the_congestion_bits() {
    for (inner_class, outer_class) in [(0xB8, 0), (0xB9, 1), (0xBA, 2), (0xBB, 2)] {
        let mut packet = v4(syn(), b"");
        packet.ip.traffic_class = inner_class;
        let inner = build(&packet, ETHERNET).unwrap();
        let [source, destination] = ["192.168.1.1", "192.168.1.2"].map(|a| a.parse().unwrap());
        let outer = Outer {
            ethernet: ETHERNET,
            kind: TunnelKind::Vxlan,
            options: &[],
            source,
            destination,
            ttl: 64,
            source_port: 1,
            port: 2,
            vni: 3,
        };
        assert_eq!(encapsulate(&inner, &outer).unwrap()[15], outer_class, "{inner_class:#x}");
    }
}

#[test]
fn outer_addresses_are_of_one_family() {
    let source = "192.168.1.1".parse().unwrap();
    let destination = "fd00::1".parse().unwrap();
    let outer = Outer {
        ethernet: ETHERNET,
        kind: TunnelKind::Vxlan,
        options: &[],
        source,
        destination,
        ttl: 64,
        source_port: 1,
        port: 2,
        vni: 3,
    };
    let refused = FrameError::MixedFamilies { source_address: source, destination };
    assert_eq!(encapsulate(&[0; 14], &outer), Err(refused));
}

#[test]
fn source_ports_are_of_the_flow() {
    let port = |packet: &Packet| source_port(&build(packet, ETHERNET).unwrap());
    let first = captured();
    let mut later = captured();
    later.ip.id = 1;
    later.payload = b"other".to_vec();
    later.transport = Transport::Icmp { kind: 8, code: 0, rest: [1, 246, 7, 87] };
    assert_eq!(port(&first), port(&later));

    let ports: std::collections::BTreeSet<u16> = (1..=100)
        .map(|source| port(&v4(Transport::Udp { source, destination: 53 }, b"")))
        .inspect(|port| assert!((32768..61000).contains(port), "{port}"))
        .collect();
    assert!(ports.len() > 90, "{} of 100 flows have their own port", ports.len());
}

#[test]
fn all_fragments_take_one_way() {
    let port = |fragment| {
        let mut packet = v4(udp(), b"12345678");
        packet.ip.fragment = fragment;
        source_port(&build(&packet, ETHERNET).unwrap())
    };
    let first = port(Fragment { offset: 0, more: true });
    assert_eq!(first, port(Fragment { offset: 16, more: true }));
    assert_eq!(first, port(Fragment { offset: 32, more: false }));
}

#[test]
fn frames_that_are_not_ip_are_not_read() {
    assert_eq!(read(&[0; 13]), None);
    let mut arp = [0; 42];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(read(&arp), None);
    assert!((32768..61000).contains(&source_port(&arp)));
    assert!((32768..61000).contains(&source_port(&[])));
}

#[test]
fn headers_are_read_back() {
    let headers = read(&build(&captured(), ETHERNET).unwrap()).unwrap();
    assert_eq!((headers.ttl, headers.length, headers.ethernet), (64, 84, ETHERNET));
    let [source, destination]: [IpAddr; 2] =
        ["10.244.1.154", "10.244.6.11"].map(|a| a.parse().unwrap());
    let flow = FlowKey {
        source,
        destination,
        protocol: Protocol::Icmp,
        source_port: 0,
        destination_port: 0,
    };
    assert_eq!(headers.flow, flow);
}

#[test]
fn extension_headers_are_read_back_in_any_order() {
    let chains: [&[u8]; 6] = [&[], &[0], &[60, 0], &[43, 60, 0, 43, 60], &[51, 0], &[0, 51]];
    for numbers in chains {
        for fragment in [(0, false), (0, true), (1480, false), (1480, true)] {
            let mut packet = v6(udp(), &[0; 8]);
            packet.ip.extensions = numbers.iter().map(|number| (*number, vec![0; 6])).collect();
            packet.ip.fragment = Fragment { offset: fragment.0, more: fragment.1 };
            let frame = build(&packet, ETHERNET).unwrap();
            let read = read(&frame).unwrap();
            assert_eq!(read.fragment, packet.ip.fragment, "{numbers:?}");
            assert_eq!(read.flow.protocol, Protocol::Udp, "{numbers:?}");
            let ports = if packet.ip.fragment.is_fragment() { (0, 0) } else { packet.ports() };
            assert_eq!((read.flow.source_port, read.flow.destination_port), ports, "{numbers:?}");
            // However it is cut, what is left is read or refused.
            for length in 0..frame.len() {
                let _ = super::read(frame.get(..length).unwrap_or_default());
            }
        }
    }
    let mut packet = v6(udp(), &[]);
    packet.ip.extensions = vec![(135, vec![0; 6])];
    let read = read(&build(&packet, ETHERNET).unwrap()).unwrap();
    assert_eq!(read.flow.protocol, Protocol::from_number(135), "as the programs take it");
}

fn changed(change: impl Fn(&mut Packet)) -> Result<Vec<u8>, FrameError> {
    let mut packet = v4(syn(), b"");
    change(&mut packet);
    build(&packet, ETHERNET)
}

#[test]
fn fields_that_do_not_fit_are_refused() {
    let id = changed(|p| p.ip.id = 65536);
    assert_eq!(id, Err(FrameError::Identification(65536)));
    let offset = changed(|p| p.ip.fragment.offset = 12);
    assert_eq!(offset, Err(FrameError::FragmentOffset(12)));
    let odd = changed(|p| p.ip.options = vec![0; 3]);
    assert_eq!(odd, Err(FrameError::Options(3)));
    let long = changed(|p| p.ip.options = vec![0; 44]);
    assert_eq!(long, Err(FrameError::Options(44)));
    let extension = changed(|p| p.ip.extensions = vec![(0, vec![0; 6])]);
    assert_eq!(extension, Err(FrameError::ExtensionsOfIpv4));
    let label = changed(|p| p.ip.flow_label = 1);
    assert_eq!(label, Err(FrameError::FlowLabel(1)));
    let mixed = changed(|p| p.ip.destination = "fd00::1".parse().unwrap());
    assert!(matches!(mixed, Err(FrameError::MixedFamilies { .. })));
}

#[test]
fn extension_headers_that_have_no_length_are_refused() {
    for (number, length) in [(0, 5), (60, 0), (51, 3), (44, 6), (0, 2054)] {
        let mut packet = v6(syn(), b"");
        packet.ip.extensions = vec![(number, vec![0; length])];
        assert_eq!(
            build(&packet, ETHERNET),
            Err(FrameError::Extension { number, length }),
            "header {number} with {length} bytes"
        );
    }
    let mut packet = v6(syn(), b"");
    packet.ip.flow_label = 1 << 20;
    assert_eq!(build(&packet, ETHERNET), Err(FrameError::FlowLabel(1 << 20)));
    let mut packet = v6(syn(), b"");
    packet.ip.options = vec![0; 4];
    assert_eq!(build(&packet, ETHERNET), Err(FrameError::Options(4)));
}

#[test]
fn the_longest_frame() {
    let room = MAX_LENGTH - 14 - 20 - 20;
    assert_eq!(changed(|p| p.payload = vec![0; room]).map(|f| f.len()), Ok(MAX_LENGTH));
    let length = MAX_LENGTH + 1;
    assert_eq!(changed(|p| p.payload = vec![0; room + 1]), Err(FrameError::TooLong { length }));
    let refused = changed(|p| p.payload = vec![0; 70_000]);
    assert_eq!(refused, Err(FrameError::TooLong { length: 70_054 }));
    let text = FrameError::TooLong { length: 3501 }.to_string();
    assert_eq!(text, "the frame would have 3501 bytes, 3500 fit: shorten the payload");
}

#[test]
fn what_no_rule_determines_is_named() {
    assert_eq!(undetermined(&v4(syn(), b"")), ["TCP window", "TCP checksum"]);
    assert!(undetermined(&captured()).is_empty());
    let mut first = v4(udp(), b"");
    first.ip.fragment.more = true;
    assert_eq!(undetermined(&first), ["UDP length", "UDP checksum"]);
    first.ip.fragment.offset = 8;
    assert!(undetermined(&first).is_empty());
}
