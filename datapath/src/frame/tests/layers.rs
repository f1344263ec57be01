//! Written-out layers: equal to what the builder and the tunnel make of the same, nested, refused, and read back.

use engine::net::{DEFAULT_WINDOW, Fragment, Layer, Packet, TcpFlags, Transport};
use engine::topology::TunnelKind;
use engine::trace::Ethernet;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{ETHERNET, captured, hex, ip, random, syn, udp, v4, v6};
use crate::frame::{FrameError, MAX_LENGTH, Outer, assemble, build, dissect, encapsulate};

const TUNNELS: [(TunnelKind, u16); 2] = [(TunnelKind::Vxlan, 8472), (TunnelKind::Geneve, 6081)];

fn eth() -> Layer {
    let Ethernet { source, destination } = ETHERNET;
    Layer::Ethernet { source, destination, ethertype: None }
}

fn ipv4() -> Layer {
    Layer::Ip { header: ip("10.1.0.10", "10.2.0.10"), protocol: None }
}

fn ipv6() -> Layer {
    Layer::Ip { header: ip("fd00:1::10", "fd00:2::10"), protocol: None }
}

fn tcp(options: &[u8]) -> Layer {
    Layer::Tcp {
        source: 40312,
        destination: 80,
        flags: TcpFlags::SYN,
        sequence: 7,
        acknowledgement: 0,
        window: DEFAULT_WINDOW,
        options: options.to_vec(),
    }
}

fn tunnel(kind: TunnelKind) -> [Layer; 2] {
    let port = kind.default_port();
    [
        Layer::Udp { source: 40000, destination: port },
        Layer::Tunnel { kind, vni: 27634, options: Vec::new() },
    ]
}

fn payload(bytes: &[u8]) -> Layer {
    Layer::Payload(bytes.to_vec())
}

fn udp_layer() -> Layer {
    Layer::Udp { source: 40312, destination: 53 }
}

/// The layers of a packet, as its text would have them.
fn layers_of(packet: &Packet) -> Vec<Layer> {
    let transport = match packet.transport {
        Transport::Tcp { source, destination, flags, sequence, acknowledgement } => Layer::Tcp {
            source,
            destination,
            flags,
            sequence,
            acknowledgement,
            window: DEFAULT_WINDOW,
            options: Vec::new(),
        },
        Transport::Udp { source, destination } => Layer::Udp { source, destination },
        Transport::Sctp { source, destination } => Layer::Sctp { source, destination, tag: 0 },
        Transport::Icmp { kind, code, rest } => {
            Layer::Icmp { v6: packet.ip.source.is_ipv6(), kind, code, rest }
        }
        Transport::Other { .. } => panic!("no layer"),
    };
    let ip = Layer::Ip { header: packet.ip.clone(), protocol: None };
    vec![eth(), ip, transport, Layer::Payload(packet.payload.clone())]
}

#[test]
fn layers_are_what_the_builder_makes() {
    let sctp = Transport::Sctp { source: 40312, destination: 3868 };
    let echo = Transport::Icmp { kind: 128, code: 0, rest: [0, 1, 0, 2] };
    for packet in [
        captured(),
        v4(syn(), b"hello"),
        v4(udp(), b"x"),
        v4(sctp.clone(), b"xy"),
        v6(syn(), b""),
        v6(sctp, b"xy"),
        v6(echo, b"abc"),
    ] {
        let frame = build(&packet, ETHERNET).unwrap();
        assert_eq!(assemble(&layers_of(&packet)).unwrap(), frame, "{packet:?}");
    }
}

#[test]
fn nested_frames_are_what_the_tunnel_makes() {
    let inner = layers_of(&captured());
    let frame = build(&captured(), ETHERNET).unwrap();
    for kind in [TunnelKind::Vxlan, TunnelKind::Geneve] {
        for ip in [ipv4(), ipv6()] {
            let Layer::Ip { header, .. } = &ip else { panic!("IP") };
            let outer = Outer {
                ethernet: ETHERNET,
                kind,
                options: &[],
                source: header.source,
                destination: header.destination,
                ttl: 64,
                source_port: 40000,
                port: kind.default_port(),
                vni: 27634,
            };
            let expected = encapsulate(&frame, &outer).unwrap();
            let layers = [&[eth(), ip][..], &tunnel(kind), &inner].concat();
            let written = assemble(&layers).unwrap();
            assert_eq!(hex(&written), hex(&expected));
            let names: Vec<_> = dissect(&written, &TUNNELS).iter().map(Layer::name).collect();
            let family = layers[1].name();
            let kind = layers[3].name();
            assert_eq!(names, ["eth", family, "udp", kind, "eth", "ipv4", "icmp", "payload"]);
            assert_eq!(assemble(&dissect(&written, &TUNNELS)).unwrap(), written);
        }
    }
}

#[test]
fn an_error_quotes_a_packet() {
    let error = Layer::Icmp { v6: false, kind: 3, code: 4, rest: [0; 4] };
    let written =
        assemble(&[eth(), ipv4(), error, ipv4(), udp_layer(), payload(b"query")]).unwrap();
    let quoted = build(&v4(udp(), b"query"), ETHERNET).unwrap()[14..].to_vec();
    let icmp = Transport::Icmp { kind: 3, code: 4, rest: [0; 4] };
    assert_eq!(written, build(&v4(icmp, &quoted), ETHERNET).unwrap());
}

#[test]
fn a_packet_in_a_packet() {
    let written = assemble(&[eth(), ipv4(), ipv6(), udp_layer()]).unwrap();
    assert_eq!(written[23], 41);
    let inner = build(&v6(udp(), b""), ETHERNET).unwrap();
    assert_eq!(written[34..], inner[14..]);
    assert_eq!(assemble(&[eth(), ipv6(), ipv4(), udp_layer()]).unwrap()[20], 4);
}

#[test]
fn what_no_device_would_write() {
    // A header where a later fragment has none, a protocol that is a lie, an Ethernet type of nothing.
    let mut later = ip("10.1.0.10", "10.2.0.10");
    later.fragment = Fragment { offset: 8, more: false };
    let later = Layer::Ip { header: later, protocol: None };
    assert_eq!(assemble(&[eth(), later, udp_layer()]).unwrap().len(), 14 + 20 + 8);
    let lie = Layer::Ip { header: ip("10.1.0.10", "10.2.0.10"), protocol: Some(6) };
    assert_eq!(assemble(&[eth(), lie, udp_layer()]).unwrap()[23], 6);
    let Layer::Ethernet { source, destination, .. } = eth() else { panic!("eth") };
    let odd = Layer::Ethernet { source, destination, ethertype: Some(0x88CC) };
    assert_eq!(assemble(&[odd.clone(), payload(b"ab")]).unwrap()[12..], *b"\x88\xccab");
    assert_eq!(assemble(&[odd]).unwrap().len(), 14);
    let empty = [&[eth(), ipv4()][..], &tunnel(TunnelKind::Vxlan), &[payload(b"ab")]].concat();
    assert_eq!(assemble(&empty).unwrap().len(), 14 + 20 + 8 + 8 + 2);
}

#[test]
fn tcp_has_options_and_a_window() {
    let mut layer = tcp(&[2, 4, 5, 180]);
    if let Layer::Tcp { window, .. } = &mut layer {
        *window = 0x1234;
    }
    let frame = assemble(&[eth(), ipv4(), layer.clone(), payload(b"x")]).unwrap();
    assert_eq!(hex(&frame[46..50]), "60021234");
    assert_eq!(frame[54..58], [2, 4, 5, 180]);
    assert_eq!(dissect(&frame, &[])[2..], [layer, payload(b"x")]);
    let odd = FrameError::TcpOptions(3);
    assert_eq!(assemble(&[eth(), ipv4(), tcp(&[0; 3])]), Err(odd));
    assert_eq!(assemble(&[eth(), ipv4(), tcp(&[0; 44])]), Err(FrameError::TcpOptions(44)));
}

#[test]
fn layers_in_an_order_that_makes_no_frame() {
    let vxlan = || tunnel(TunnelKind::Vxlan)[1].clone();
    let order = |layer, after| FrameError::Order { layer, after };
    let cases: [(&[Layer], FrameError); 11] = [
        (&[], FrameError::NotEthernet),
        (&[ipv4(), udp_layer()], FrameError::NotEthernet),
        (&[eth()], FrameError::NumberMissing { layer: "eth" }),
        (&[eth(), payload(b"x")], FrameError::NumberMissing { layer: "eth" }),
        (&[eth(), ipv6()], FrameError::NumberMissing { layer: "ipv6" }),
        (&[eth(), ipv4(), payload(b"x")], FrameError::NumberMissing { layer: "ipv4" }),
        (&[eth(), udp_layer()], order("udp", "eth")),
        (&[eth(), ipv4(), vxlan()], order("vxlan", "ipv4")),
        (&[eth(), ipv4(), tcp(&[]), udp_layer()], order("udp", "tcp")),
        (&[eth(), ipv4(), udp_layer(), payload(b""), eth()], order("eth", "payload")),
        (&[eth(), ipv4(), udp_layer(), vxlan(), ipv4()], order("ipv4", "vxlan")),
    ];
    for (layers, expected) in cases {
        assert_eq!(assemble(layers), Err(expected), "{layers:?}");
    }
    let text = order("vxlan", "ipv4").to_string();
    assert_eq!(text, "`vxlan` cannot follow `ipv4`");
}

#[test]
fn the_longest_frame_of_layers() {
    let nested = |length: usize| {
        let inner = [eth(), ipv4(), udp_layer(), Layer::Payload(vec![0; length])];
        assemble(&[&[eth(), ipv4()][..], &tunnel(TunnelKind::Vxlan), &inner].concat())
    };
    let room = MAX_LENGTH - 50 - 42;
    assert_eq!(nested(room).map(|frame| frame.len()), Ok(MAX_LENGTH));
    assert_eq!(nested(room + 1), Err(FrameError::TooLong { length: MAX_LENGTH + 1 }));
}

#[test]
fn what_cannot_be_told_apart_is_payload() {
    let names = |frame: &[u8]| dissect(frame, &TUNNELS).iter().map(Layer::name).collect::<Vec<_>>();
    assert_eq!(names(&[1, 2, 3]), ["payload"]);
    let mut arp = [0; 42];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(names(&arp), ["eth", "payload"]);
    let frame = build(&v4(syn(), b""), ETHERNET).unwrap();
    assert_eq!(names(&frame), ["eth", "ipv4", "tcp"]);
    assert_eq!(names(&frame[..40]), ["eth", "ipv4", "payload"]);
    assert_eq!(names(&frame[..20]), ["eth", "payload"]);
    let padded = [&frame[..], &[0; 6]].concat();
    assert_eq!(names(&padded), ["eth", "ipv4", "tcp"], "padding is no payload");
    let mut packet = v4(udp(), b"12345678");
    packet.ip.fragment = Fragment { offset: 8, more: false };
    assert_eq!(names(&build(&packet, ETHERNET).unwrap()), ["eth", "ipv4", "payload"]);
    // A tunnel's port with something else in it.
    let udp = Layer::Udp { source: 1, destination: 8472 };
    let other = assemble(&[eth(), ipv4(), udp, payload(b"not a tunnel")]).unwrap();
    assert_eq!(names(&other), ["eth", "ipv4", "udp", "payload"]);
}

proptest! {
    #[test]
    fn layers_are_read_back(packet in random::packet()) {
        let frame = build(&packet, ETHERNET).unwrap();
        prop_assert_eq!(assemble(&layers_of(&packet)).unwrap(), frame.clone());
        prop_assert_eq!(assemble(&dissect(&frame, &TUNNELS)).unwrap(), frame);
    }

    #[test]
    fn garbage_has_layers(bytes in vec(any::<u8>(), 0..200), v6: bool) {
        let _ = dissect(&bytes, &TUNNELS);
        let mut bytes = bytes;
        if bytes.len() > 14 {
            bytes[12..15].copy_from_slice(if v6 { &[0x86, 0xDD, 0x60] } else { &[8, 0, 0x45] });
        }
        let _ = dissect(&bytes, &TUNNELS);
    }
}
