//! Outer headers of both kinds, written and read; what the network changes on the way.

use engine::topology::TunnelKind;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{ETHERNET, captured, hex, udp, v4, v6};
use crate::frame::{
    FrameError, Outer, build, count_down, decapsulate, encapsulate, read, readdress, source_port,
};

fn outer(kind: TunnelKind, options: &[u8]) -> Outer<'_> {
    Outer {
        ethernet: ETHERNET,
        kind,
        options,
        source: "192.168.66.226".parse().unwrap(),
        destination: "192.168.66.221".parse().unwrap(),
        ttl: 64,
        source_port: 40000,
        port: kind.default_port(),
        vni: 27634,
    }
}

fn v6_underlay(outer: Outer<'_>) -> Outer<'_> {
    let [source, destination] = ["fd00:a::1", "fd00:a::2"].map(|a| a.parse().unwrap());
    Outer { source, destination, ..outer }
}

#[test]
fn geneve_with_and_without_options() {
    let inner = build(&captured(), ETHERNET).unwrap();
    let frame = encapsulate(&inner, &outer(TunnelKind::Geneve, &[])).unwrap();
    let expected = "45000086 00000000 40 11 7357 c0a842e2 c0a842dd \
        9c40 17c1 0072 0000 00 00 6558 006bf2 00";
    assert_eq!(hex(&frame[14..50]), expected.replace(' ', ""));
    assert_eq!(frame[50..], inner);

    // Class 0x014b, type 1 (not critical), one word: address and port of a frontend have more.
    let option = [0x01, 0x4B, 0x01, 0x01, 10, 0, 0, 1];
    let frame = encapsulate(&inner, &outer(TunnelKind::Geneve, &option)).unwrap();
    assert_eq!(
        hex(&frame[34..58]),
        "9c4017c1007a0000 02006558006bf200 014b01010a000001".replace(' ', "")
    );
    assert_eq!(frame[58..], inner);

    let critical = [0x01, 0x4B, 0x01, 0x00, 0x01, 0x4B, 0x81, 0x00];
    let frame = encapsulate(&inner, &outer(TunnelKind::Geneve, &critical)).unwrap();
    assert_eq!(frame[42..44], [0x02, 0x40]);
}

#[test]
fn geneve_over_ipv6_has_a_checksum() {
    let inner: Vec<u8> = (0..14).collect();
    let frame = encapsulate(&inner, &v6_underlay(outer(TunnelKind::Geneve, &[]))).unwrap();
    let segment = &frame[54..];
    let addresses = ("fd00:a::1".parse().unwrap(), "fd00:a::2".parse().unwrap());
    let mut blank = segment.to_vec();
    blank[6..8].fill(0);
    let sum = crate::frame::transport::internet_sum(addresses, engine::net::Protocol::Udp, &blank);
    assert_eq!(segment[6..8], sum);
    assert_ne!(sum, [0, 0]);
}

#[test]
fn headers_that_cannot_be_written() {
    let refused = |outer: Outer<'_>| encapsulate(&[0; 14], &outer).unwrap_err();
    let (vxlan, geneve) = (TunnelKind::Vxlan, TunnelKind::Geneve);
    assert_eq!(refused(outer(geneve, &[0; 3])), FrameError::TunnelOptions(3));
    assert_eq!(refused(outer(geneve, &[0; 256])), FrameError::TunnelOptions(256));
    assert_eq!(refused(outer(vxlan, &[0; 4])), FrameError::TunnelOptions(4));
    assert!(encapsulate(&[0; 14], &outer(geneve, &[0; 252])).is_ok());
    let wide = Outer { vni: 1 << 24, ..outer(vxlan, &[]) };
    assert_eq!(refused(wide), FrameError::Vni(1 << 24));
}

#[test]
fn what_was_wrapped_is_unwrapped() {
    let inner = build(&captured(), ETHERNET).unwrap();
    let option = [0x01, 0x4B, 0x01, 0x01, 10, 0, 0, 1];
    for (kind, options) in [
        (TunnelKind::Vxlan, &[][..]),
        (TunnelKind::Geneve, &[][..]),
        (TunnelKind::Geneve, &option[..]),
    ] {
        for outer in [outer(kind, options), v6_underlay(outer(kind, options))] {
            let frame = encapsulate(&inner, &outer).unwrap();
            let read = decapsulate(&frame, kind, outer.port).unwrap();
            assert_eq!((read.kind, read.vni, read.options), (kind, 27634, options));
            assert_eq!((read.source, read.destination), (outer.source, outer.destination));
            assert_eq!((read.source_port, read.port), (40000, outer.port));
            assert_eq!(read.frame, inner);
            assert_eq!(decapsulate(&frame, kind, 4789), None);
            for length in 0..frame.len() - inner.len() + 14 {
                assert_eq!(decapsulate(&frame[..length], kind, outer.port), None, "{length}");
            }
        }
    }
}

#[test]
fn what_a_receiver_drops_is_not_unwrapped() {
    let inner = build(&captured(), ETHERNET).unwrap();
    let changed = |kind, at: usize, byte: u8| {
        let mut frame = encapsulate(&inner, &outer(kind, &[])).unwrap();
        frame[at] = byte;
        decapsulate(&frame, kind, outer(kind, &[]).port).map(|read| read.vni)
    };
    assert_eq!(changed(TunnelKind::Vxlan, 42, 0), None, "no valid VNI");
    assert_eq!(changed(TunnelKind::Geneve, 42, 0x40), None, "another version");
    assert_eq!(changed(TunnelKind::Geneve, 42, 0x3F), None, "more options than bytes");
    assert_eq!(changed(TunnelKind::Geneve, 44, 0x08), None, "not an Ethernet frame");
    assert_eq!(changed(TunnelKind::Geneve, 20, 0x20), None, "a fragment");
    assert_eq!(changed(TunnelKind::Geneve, 23, 6), None, "TCP");
}

#[test]
fn a_geneve_device_takes_any_source_port() {
    let ports: Vec<u16> = (1..=200)
        .map(|source| {
            let udp = engine::net::Transport::Udp { source, destination: 53 };
            source_port(&build(&v4(udp, b""), ETHERNET).unwrap(), TunnelKind::Geneve)
        })
        .collect();
    assert!(ports.iter().all(|port| *port >= 1));
    assert!(ports.iter().any(|port| *port < 32768) && ports.iter().any(|port| *port > 61000));
}

#[test]
fn a_router_counts_down() {
    for (mut packet, at) in [(v4(udp(), b"x"), 22), (v6(udp(), b"x"), 21)] {
        for ttl in [2, 3, 64, 255] {
            packet.ip.ttl = ttl;
            let mut frame = build(&packet, ETHERNET).unwrap();
            assert!(count_down(&mut frame));
            packet.ip.ttl = ttl - 1;
            assert_eq!(frame, build(&packet, ETHERNET).unwrap());
            assert_eq!(frame[at], ttl - 1);
        }
        for ttl in [0, 1] {
            packet.ip.ttl = ttl;
            let frame = build(&packet, ETHERNET).unwrap();
            let mut after = frame.clone();
            assert!(!count_down(&mut after));
            assert_eq!(after, frame);
        }
    }
    assert!(!count_down(&mut [0; 60]));
    assert!(!count_down(&mut []));
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let mut frame = build(&v4(udp(), b"x"), ETHERNET).unwrap();
    let right = u16::from_be_bytes([frame[24], frame[25]]);
    frame[24..26].copy_from_slice(&right.wrapping_add(1).to_be_bytes());
    count_down(&mut frame);
    assert_eq!(u16::from_be_bytes([frame[24], frame[25]]), right.wrapping_add(0x0101));
}

#[test]
fn other_ethernet_addresses() {
    let mut frame = build(&captured(), ETHERNET).unwrap();
    let before = frame.clone();
    let other = engine::trace::Ethernet {
        source: engine::net::Mac([1, 2, 3, 4, 5, 6]),
        destination: engine::net::Mac([7; 6]),
    };
    readdress(&mut frame, other);
    assert_eq!(read(&frame).unwrap().ethernet, other);
    assert_eq!(frame[12..], before[12..]);
    readdress(&mut [0; 13], other);
}

proptest! {
    #[test]
    fn sums_stay_right(ttl in 2_u8.., id: u16, source: [u8; 4], destination: [u8; 4]) {
        let mut packet = v4(udp(), b"");
        packet.ip.ttl = ttl;
        packet.ip.id = u32::from(id);
        packet.ip.source = source.into();
        packet.ip.destination = destination.into();
        let mut frame = build(&packet, ETHERNET).unwrap();
        prop_assert!(count_down(&mut frame));
        let words = frame[14..34].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let sum: u32 = words.sum();
        prop_assert_eq!((sum & 0xFFFF) + (sum >> 16), 0xFFFF);
    }

    #[test]
    fn garbage_is_unwrapped_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        for kind in [TunnelKind::Vxlan, TunnelKind::Geneve] {
            let _ = decapsulate(&bytes, kind, kind.default_port());
        }
        count_down(&mut bytes.clone());
    }
}
