//! The captures of `fixtures/captures`, made here packet by packet, so that every byte of them is ours. `UPDATE=1` writes
//! them; else those that are there must be the same.

use std::net::{IpAddr, SocketAddr};

use datapath::frame::{self, Outer};
use engine::net::{Fragment, IpHeader, Mac, Packet, TcpFlags, Transport};
use engine::topology::TunnelKind;
use engine::trace::Ethernet;

pub(super) const SYN: TcpFlags = TcpFlags::SYN;
pub(super) const ACK: TcpFlags = TcpFlags::ACK;

const ETHERNET: u16 = 1;
const RAW: u16 = 101;
const COOKED: u16 = 113;
const COOKED2: u16 = 276;

const CLIENT: &str = "10.1.0.10:40000";
const SERVER: &str = "10.2.0.10:80";

/// A packet at a time in milliseconds.
pub(super) type Timed = (u64, Vec<u8>);

/// A file in the classic format with times in nanoseconds, of a link type.
pub(super) fn pcap(link: u16, packets: &[Timed]) -> Vec<u8> {
    let cut = packets.iter().map(|(ms, data)| (*ms, data.clone(), data.len()));
    pcap_cut(link, &cut.collect::<Vec<_>>())
}

/// The same with packets that had more bytes on the wire.
pub(super) fn pcap_cut(link: u16, packets: &[(u64, Vec<u8>, usize)]) -> Vec<u8> {
    let mut file = 0xA1B2_3C4D_u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0]);
    let words = [0, 0, 65535, u32::from(link)];
    for word in words {
        file.extend(u32::to_le_bytes(word));
    }
    for (ms, data, length) in packets {
        let words = [1_700_000_000 + ms / 1000, ms % 1000 * 1_000_000];
        let lengths = [data.len() as u64, *length as u64];
        for word in words.iter().chain(&lengths) {
            file.extend(u32::try_from(*word).expect("it fits").to_le_bytes());
        }
        file.extend(data);
    }
    file
}

/// A pcapng file with interfaces of link types and packets of them, by interface and time in milliseconds.
fn pcapng(links: &[u16], packets: &[(u32, u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let length = u32::try_from(12 + body.len().next_multiple_of(4)).expect("it fits");
        file.extend(kind.to_le_bytes());
        file.extend(length.to_le_bytes());
        file.extend(body);
        file.resize(file.len().next_multiple_of(4), 0);
        file.extend(length.to_le_bytes());
    };
    let section = [&0x1A2B_3C4D_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
    block(0x0A0D_0D0A, &section);
    for link in links {
        block(1, &[&link.to_le_bytes()[..], &[0; 6]].concat());
    }
    for (interface, ms, data) in packets {
        let time = (1_700_000_000_000 + ms) * 1000;
        let (high, low) =
            (u32::try_from(time >> 32).expect("it fits"), (time & 0xFFFF_FFFF) as u32);
        let length = u32::try_from(data.len()).expect("it fits");
        let head = [*interface, high, low, length, length].map(u32::to_le_bytes).concat();
        block(6, &[&head[..], data].concat());
    }
    file
}

fn ethernet(from: u8, to: u8) -> Ethernet {
    Ethernet { source: Mac([2, 0, 0, 0, 0, from]), destination: Mac([2, 0, 0, 0, 0, to]) }
}

fn place(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

fn packet(source: IpAddr, destination: IpAddr, id: u32, transport: Transport) -> Packet {
    let ip = IpHeader {
        source,
        destination,
        traffic_class: 0,
        ttl: 64,
        id,
        flow_label: 0,
        dont_fragment: true,
        fragment: Fragment::default(),
        options: Vec::new(),
        extensions: Vec::new(),
    };
    Packet { ip, transport, payload: Vec::new() }
}

/// A packet of TCP whose acknowledgement is nothing that matters.
pub(super) fn tcp(source: &str, destination: &str, id: u32, flags: TcpFlags) -> Packet {
    let (from, to) = (place(source), place(destination));
    let transport = Transport::Tcp {
        source: from.port(),
        destination: to.port(),
        flags,
        sequence: id,
        acknowledgement: 0,
    };
    packet(from.ip(), to.ip(), id, transport)
}

pub(super) fn udp(source: &str, destination: &str, id: u32) -> Packet {
    let (from, to) = (place(source), place(destination));
    let transport = Transport::Udp { source: from.port(), destination: to.port() };
    Packet { payload: b"query".to_vec(), ..packet(from.ip(), to.ip(), id, transport) }
}

pub(super) fn echo(source: &str, destination: &str, id: u32, kind: u8) -> Packet {
    let address = |text: &str| text.parse().expect("an address");
    let transport = Transport::Icmp { kind, code: 0, rest: [1, 246, 0, 1] };
    packet(address(source), address(destination), id, transport)
}

/// The frame on a device, told apart by its Ethernet addresses.
pub(super) fn on(device: u8, packet: &Packet) -> Vec<u8> {
    frame::build(packet, ethernet(device, device + 1)).expect("a frame")
}

/// The frame in a tunnel from one node to the other.
pub(super) fn tunneled(
    kind: TunnelKind,
    vni: u32,
    (from, to): (u8, u8),
    packet: &Packet,
) -> Vec<u8> {
    let mut inner = packet.clone();
    inner.ip.ttl = 63;
    let address = |last| IpAddr::from([192, 168, 1, last]);
    let outer = Outer {
        kind,
        ethernet: ethernet(100 + from, 100 + to),
        source: address(from),
        destination: address(to),
        source_port: 50000,
        port: if kind == TunnelKind::Vxlan { 8472 } else { 6081 },
        vni,
        ttl: 64,
        options: &[],
    };
    frame::encapsulate(&on(90, &inner), &outer).expect("a frame")
}

fn of_type(kind: u16, body: &[u8]) -> Vec<u8> {
    [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &kind.to_be_bytes(), body].concat()
}

/// Pods on two nodes, seen on veths and on the underlay.
fn shop() -> Vec<u8> {
    let syn_ack = SYN.with(ACK);
    let syn = tcp(CLIENT, SERVER, 1, SYN);
    let answer = tcp(SERVER, CLIENT, 2, syn_ack);
    let request = echo("10.1.0.10", "10.2.0.10", 3, 8);
    let reply = echo("10.2.0.10", "10.1.0.10", 4, 0);
    let late = "10.1.0.10:50000";
    let vxlan = TunnelKind::Vxlan;
    let frames = vec![
        (0, of_type(0x0806, &[0; 28])),
        (10, on(1, &syn)),
        (11, tunneled(vxlan, 256, (1, 2), &syn)),
        (12, tunneled(vxlan, 257, (2, 1), &answer)),
        (13, on(1, &answer)),
        (14, on(1, &tcp(CLIENT, SERVER, 5, ACK))),
        (20, on(1, &tcp(late, SERVER, 6, ACK))),
        (21, on(1, &tcp(SERVER, late, 7, ACK))),
        (30, on(3, &tcp("10.1.0.11:40001", SERVER, 8, SYN))),
        (1030, on(3, &tcp("10.1.0.11:40001", SERVER, 9, SYN))),
        (1100, tunneled(TunnelKind::Geneve, 256, (1, 2), &request)),
        (1101, tunneled(TunnelKind::Geneve, 257, (2, 1), &reply)),
        (1200, on(5, &udp("172.16.0.1:9", "172.16.0.2:10", 10))),
        (1300, on(7, &tcp("203.0.113.9:40002", SERVER, 11, SYN))),
        (1400, on(1, &udp("10.1.0.10:40003", "198.51.100.53:53", 12))),
        (1401, on(1, &udp("198.51.100.53:53", "10.1.0.10:40003", 13))),
        (1500, of_type(0x88CC, &[2, 7])),
        (1600, on(1, &tcp(CLIENT, SERVER, 14, TcpFlags::FIN.with(ACK)))),
    ];
    let whole = frames.into_iter().map(|(ms, data)| (ms, data.clone(), data.len()));
    let mut packets: Vec<_> = whole.collect();
    let mut cut = on(1, &tcp(CLIENT, SERVER, 15, ACK));
    let length = cut.len();
    cut.truncate(30);
    packets.push((1700, cut, length));
    pcap_cut(ETHERNET, &packets)
}

/// A pod that reaches another by a service, as `tcpdump -i any` sees it: twice.
fn service() -> Vec<u8> {
    let frontend = "10.96.0.20:80";
    let cooked = |kind: u8, packet: &Packet| {
        let frame = on(1, packet);
        [&[0, kind, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0][..], &frame[12..]].concat()
    };
    let syn_ack = SYN.with(ACK);
    let there = |id, flags| tcp(CLIENT, frontend, id, flags);
    let translated = |id, flags| tcp(CLIENT, SERVER, id, flags);
    let packets = [
        (0, cooked(0, &there(1, SYN))),
        (1, cooked(4, &translated(1, SYN))),
        (2, cooked(0, &tcp(SERVER, CLIENT, 2, syn_ack))),
        (3, cooked(4, &tcp(frontend, CLIENT, 2, syn_ack))),
        (4, cooked(0, &there(3, ACK))),
        (5, cooked(4, &translated(3, ACK))),
        (6, cooked(4, &tcp(frontend, CLIENT, 4, ACK))),
        (9, cooked(4, &tcp(frontend, "10.1.0.10:45000", 5, ACK))),
    ];
    pcap(COOKED, &packets)
}

/// Interfaces of several link types in one file, and a flow that is forgotten while nobody speaks.
fn mixed() -> Vec<u8> {
    let raw = |packet: &Packet| on(1, packet).split_off(14);
    let cooked2 = |packet: &Packet| {
        let head = [8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
        [&head[..], &raw(packet)].concat()
    };
    let syn = tcp("10.1.0.10:41000", SERVER, 1, SYN);
    let answer = tcp(SERVER, "10.1.0.10:41000", 2, SYN.with(ACK));
    let packets = [
        (0, 0, raw(&syn)),
        (1, 1, cooked2(&answer)),
        (2, 2, tagged(&[0x8100], &udp("10.1.0.11:5000", "10.2.0.10:53", 3))),
        (0, 3, raw(&echo("10.1.0.10", "10.2.0.10", 4, 8))),
        // A SYN alone is remembered for 60 s, a flow with answers for longer.
        (0, 4, raw(&udp("10.2.0.10:6000", "10.1.0.10:6001", 5))),
        (0, 70_000, raw(&udp("10.1.0.10:6001", "10.2.0.10:6000", 6))),
    ];
    pcapng(&[RAW, COOKED2, ETHERNET], &packets)
}

/// The frame with tags of virtual networks.
fn tagged(tags: &[u16], packet: &Packet) -> Vec<u8> {
    let frame = on(1, packet);
    let tags = tags.iter().flat_map(|kind| [kind.to_be_bytes(), [0, 7]].concat());
    [&frame[..12], &tags.collect::<Vec<_>>(), &frame[12..]].concat()
}

/// What a trunk of virtual networks carries, and frames of tunnels that were cut: in the tunnel's header, in the inner frame's,
/// in the inner packet's. One of them is whole, and says that more follows than is there.
fn trunk() -> Vec<u8> {
    let stranger = "10.1.0.11:40001";
    let vxlan = |packet: &Packet| tunneled(TunnelKind::Vxlan, 256, (1, 2), packet);
    let inner = tcp(CLIENT, SERVER, 9, SYN);
    let whole = [
        (0, tagged(&[0x8100], &tcp(CLIENT, SERVER, 1, SYN))),
        (1, tagged(&[0x88A8, 0x8100], &tcp(stranger, SERVER, 2, SYN))),
        (2, tagged(&[0x8100], &echo("10.1.0.11", "10.2.0.10", 3, 8))),
        (3, tagged(&[0x8100], &udp("10.1.0.11:5000", "10.2.0.10:53", 4))),
        (4, vxlan(&echo("10.1.0.11", "10.2.0.10", 5, 8))),
        (5, vxlan(&udp("10.1.0.99:7", "10.2.0.10:53", 6))),
        // The tunnel's port, and no tunnel: a packet as others.
        (6, on(1, &udp(CLIENT, "10.2.0.10:8472", 7))),
    ];
    let mut packets: Vec<_> =
        whole.into_iter().map(|(ms, data)| (ms, data.clone(), data.len())).collect();
    let outer = vxlan(&inner);
    for (ms, kept) in [(10, 46), (11, 57), (12, 68)] {
        packets.push((ms, outer[..kept].to_vec(), outer.len()));
    }
    let mut geneve = udp("192.168.1.1:50000", "192.168.1.2:6081", 8);
    geneve.payload = vec![2, 0, 0x65, 0x58, 0, 1, 0, 0, 1, 2, 3, 4];
    let geneve = on(1, &geneve);
    packets.push((13, geneve.clone(), geneve.len()));
    pcap_cut(ETHERNET, &packets)
}

/// Name and bytes of every capture.
pub(super) fn all() -> [(&'static str, Vec<u8>); 4] {
    [
        ("shop.pcap", shop()),
        ("service.pcap", service()),
        ("mixed.pcapng", mixed()),
        ("trunk.pcap", trunk()),
    ]
}
