//! Random packets: etherparse, which shares no code with the builder of transports and extension headers,
//! reads every field back; every checksum is summed anew.

use engine::net::{Fragment, IpHeader, Packet, TcpFlags, Transport};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{ETHERNET, build, read};

fn transport() -> impl Strategy<Value = Transport> {
    let tcp = any::<(u16, u16, u8, u32, u32)>().prop_map(|(source, destination, flags, s, a)| {
        let flags = TcpFlags(flags);
        Transport::Tcp { source, destination, flags, sequence: s, acknowledgement: a }
    });
    let udp = any::<(u16, u16)>()
        .prop_map(|(source, destination)| Transport::Udp { source, destination });
    let icmp = any::<(u8, u8, [u8; 4])>().prop_map(|(kind, code, rest)| Transport::Icmp {
        kind,
        code,
        rest,
    });
    prop_oneof![tcp, udp, icmp]
}

fn header(is_v6: bool) -> impl Strategy<Value = IpHeader> {
    let address = move |bytes: [u8; 16]| -> std::net::IpAddr {
        let [a, b, c, d, ..] = bytes;
        if is_v6 { bytes.into() } else { [a, b, c, d].into() }
    };
    let extension = (0..4_usize).prop_map(|units| {
        (60, [&[1, 4 + 8 * u8::try_from(units).unwrap()][..], &vec![0; 4 + 8 * units]].concat())
    });
    let options = (0..=10_usize).prop_map(|words| vec![1; words * 4]);
    let numbers = (any::<([u8; 16], [u8; 16], u8, u8, u16, bool)>(), 0..=0xF_FFFF_u32);
    (numbers, options, vec(extension, 0..2)).prop_map(
        move |(((source, destination, traffic_class, ttl, id, df), label), options, extensions)| {
            IpHeader {
                source: address(source),
                destination: address(destination),
                traffic_class,
                ttl,
                id: u32::from(id),
                flow_label: if is_v6 { label } else { 0 },
                dont_fragment: df,
                fragment: Fragment::default(),
                options: if is_v6 { Vec::new() } else { options },
                extensions: if is_v6 { extensions } else { Vec::new() },
            }
        },
    )
}

pub(super) fn packet() -> impl Strategy<Value = Packet> {
    let ip = any::<bool>().prop_flat_map(header);
    (ip, transport(), vec(any::<u8>(), 0..200)).prop_map(|(ip, transport, payload)| Packet {
        ip,
        transport,
        payload,
    })
}

proptest! {
    #[test]
    fn packets_are_read_back(packet in packet()) {
        let frame = build(&packet, ETHERNET).unwrap();
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        check_network(&packet, &sliced);
        check_transport(&packet, &sliced);
        let headers = read(&frame).unwrap();
        prop_assert_eq!(headers.ttl, packet.ip.ttl);
        prop_assert_eq!(headers.traffic_class, packet.ip.traffic_class);
        prop_assert_eq!(headers.length, frame.len() - 14);
        prop_assert_eq!((headers.flow.source_port, headers.flow.destination_port), packet.ports());
        prop_assert_eq!(headers.flow.protocol, packet.protocol());
    }

    #[test]
    fn fragments_are_read_back(packet in packet(), units in 0_u16..0x1FFF, more: bool) {
        let mut packet = packet;
        packet.ip.fragment = Fragment { offset: units * 8, more };
        let headers = read(&build(&packet, ETHERNET).unwrap()).unwrap();
        prop_assert_eq!(headers.fragment, packet.ip.fragment);
        prop_assert_eq!(headers.flow.protocol, packet.protocol());
        if packet.ip.fragment.is_fragment() {
            prop_assert_eq!((headers.flow.source_port, headers.flow.destination_port), (0, 0));
        }
    }

    #[test]
    fn reading_garbage_never_fails(bytes in vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let port = super::source_port(&bytes);
        prop_assert!((32768..61000).contains(&port));
    }
}

fn check_network(packet: &Packet, sliced: &SlicedPacket<'_>) {
    match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(u32::from(header.identification), packet.ip.id);
            assert_eq!(header.dont_fragment, packet.ip.dont_fragment);
            assert_eq!(header.options.as_slice(), packet.ip.options);
            assert_eq!(std::net::IpAddr::from(header.source), packet.ip.source);
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            assert_eq!(std::net::IpAddr::from(header.destination()), packet.ip.destination);
            assert_eq!(header.flow_label().value(), packet.ip.flow_label);
            let found: Vec<_> = ip.extensions().clone().into_iter().collect();
            assert_eq!(found.len(), packet.ip.extensions.len());
        }
        NetSlice::Arp(_) => panic!("not an IP packet"),
    }
}

/// Verifies checksums: the sum over a segment with its checksum in place and the pseudo header is 0.
fn check_transport(packet: &Packet, sliced: &SlicedPacket<'_>) {
    let net = sliced.net.as_ref().unwrap();
    let segment = net.ip_payload_ref().unwrap().payload;
    match (sliced.transport.as_ref().unwrap(), &packet.transport) {
        (
            TransportSlice::Tcp(tcp),
            Transport::Tcp { source, destination, flags, sequence, acknowledgement },
        ) => {
            assert_eq!((tcp.source_port(), tcp.destination_port()), (*source, *destination));
            assert_eq!(tcp.sequence_number(), *sequence);
            assert_eq!(tcp.acknowledgment_number(), *acknowledgement);
            assert_eq!(tcp.syn(), flags.contains(TcpFlags::SYN));
            assert_eq!(tcp.rst(), flags.contains(TcpFlags::RST));
            assert_eq!(tcp.payload(), packet.payload);
        }
        (TransportSlice::Udp(udp), Transport::Udp { source, destination }) => {
            assert_eq!((udp.source_port(), udp.destination_port()), (*source, *destination));
            assert_ne!(udp.checksum(), 0);
            assert_eq!(udp.payload(), packet.payload);
        }
        (TransportSlice::Icmpv4(icmp), Transport::Icmp { kind, code, .. }) => {
            assert_eq!((icmp.type_u8(), icmp.code_u8()), (*kind, *code));
            assert_eq!(sum(segment, 0), 0xFFFF);
            return;
        }
        (TransportSlice::Icmpv6(icmp), Transport::Icmp { kind, code, .. }) => {
            assert_eq!((icmp.type_u8(), icmp.code_u8()), (*kind, *code));
        }
        (found, asked) => panic!("{found:?} for {asked:?}"),
    }
    assert_eq!(sum(segment, pseudo(packet, segment.len())), 0xFFFF);
}

fn pseudo(packet: &Packet, length: usize) -> u64 {
    let words = [packet.ip.source, packet.ip.destination].map(|address| match address {
        std::net::IpAddr::V4(address) => add(&address.octets()),
        std::net::IpAddr::V6(address) => add(&address.octets()),
    });
    words.iter().sum::<u64>() + length as u64 + u64::from(packet.protocol().number())
}

fn add(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum()
}

fn sum(bytes: &[u8], start: u64) -> u64 {
    let mut sum = start + add(bytes);
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum
}
