//! Questions resolved: the packet with every default, and each way to name a party.

use engine::net::{Fragment, Packet, TcpFlags, Transport};
use engine::question::Question;
use engine::source::SourceMap;

use super::*;
use crate::{NoIncludes, command};

const WORLD: &str = "
cluster c {
  node n1 { ip 192.168.0.1, fd00:a::1 pods 10.1.0.0/24, fd00:1::/64 local 10.1.0.1 }
  node n2 { ip 192.168.0.2 pods 10.2.0.0/24 }
}
namespace web {}
namespace db {}
pod web/a on n1 { ip 10.1.0.10, fd00:1::10 }
pod web/b on n2 { ip 10.2.0.10, fd00:2::10 port http 8080/tcp port dns 53/udp port dns 5353/tcp }
pod web/six on n1 { ip fd00:1::66 }
pod web/four on n1 { ip 10.1.0.4 }
pod db/four on n2 { ip 10.2.0.4 }
pod web/agent on n1 { host-network }
pod web/n2 on n2 { ip 10.2.0.22 }
external search { ip 203.0.113.1, 2001:db8::1 }
alias A = web/a
alias four = db/four
";

fn world() -> World {
    let entry = ("world.hop".to_owned(), WORLD.to_owned());
    let loaded = crate::load(&[entry], &mut NoIncludes, &mut SourceMap::default());
    assert_eq!(loaded.diagnostics, []);
    loaded.world
}

fn resolved(text: &str) -> Result<Question, String> {
    let mut sources = SourceMap::default();
    let file = sources.add("input", text);
    let read = command::parse_question(text, file).map_err(|problems| format!("{problems:?}"))?;
    question(&world(), &read).map_err(|d| format!("{} {}", d.code, d.message))
}

fn packet(text: &str) -> Packet {
    resolved(text).unwrap_or_else(|problem| panic!("{text}: {problem}")).packet
}

#[test]
fn parties_are_found() {
    for (text, from, to) in [
        ("web/a -> web/b:80", "10.1.0.10", "10.2.0.10"),
        ("a -> b:80", "10.1.0.10", "10.2.0.10"),
        ("pod a -> pod web/b:80", "10.1.0.10", "10.2.0.10"),
        ("A -> b:80", "10.1.0.10", "10.2.0.10"),
        ("four -> b:80", "10.2.0.4", "10.2.0.10"),
        ("web/four -> b:80", "10.1.0.4", "10.2.0.10"),
        ("node n1 -> b:80", "192.168.0.1", "10.2.0.10"),
        ("n1 -> b:80", "192.168.0.1", "10.2.0.10"),
        ("node n2 -> a:80", "192.168.0.2", "10.1.0.10"),
        ("web/n2 -> a:80", "10.2.0.22", "10.1.0.10"),
        ("agent -> b:80", "192.168.0.1", "10.2.0.10"),
        ("search -> b:80", "203.0.113.1", "10.2.0.10"),
        ("external search -> b:80", "203.0.113.1", "10.2.0.10"),
        ("world 203.0.113.1 -> b:80", "203.0.113.1", "10.2.0.10"),
        ("world 198.51.100.1 -> b:80", "198.51.100.1", "10.2.0.10"),
        ("10.1.0.10 -> 10.2.0.99:80", "10.1.0.10", "10.2.0.99"),
        ("a -> 10.1.0.1:80", "10.1.0.10", "10.1.0.1"),
    ] {
        let ip = packet(text).ip;
        assert_eq!(
            (ip.source.to_string(), ip.destination.to_string()),
            (from.into(), to.into()),
            "{text}"
        );
    }
}

#[test]
fn names_that_do_not_lead_to_one_party_are_errors() {
    for (text, expected) in [
        ("web/x -> b:80", "HW0200 nothing is named `web/x`"),
        ("db/a -> b:80", "HW0200 nothing is named `db/a`"),
        ("pod n1 -> b:80", "HW0200 no pod is named `n1`"),
        ("node a -> b:80", "HW0200 no node is named `a`"),
        ("external b -> b:80", "HW0200 no external is named `b`"),
        ("n2 -> b:80", "HW0201 `n2` could be any of 2"),
        ("pod four -> b:80", "HW0201 `four` could be any of 2"),
        ("world 10.1.0.10 -> b:80", "HW0205 10.1.0.10 is pod web/a, not outside the cluster"),
        ("world 10.1.0.1 -> b:80", "HW0205 10.1.0.1 is node n1, not outside the cluster"),
        ("a -> world 192.168.0.2:80", "HW0205 192.168.0.2 is node n2, not outside the cluster"),
        ("a -> 10.1.0.10:80", "HW0207 web/a would send to itself"),
        ("agent -> node n1:80", "HW0207 web/agent would send to itself"),
        ("agent -> 127.0.0.1:80", "HW0207 web/agent would send to itself"),
        ("node n1 -> 127.8.0.1:80", "HW0207 node n1 would send to itself"),
        ("192.168.0.2 -> world 127.0.0.1", "HW0207 192.168.0.2 would send to itself"),
        ("node n1 -> [::1]:80", "HW0207 node n1 would send to itself"),
        ("node n1 -> 0.0.0.0:80", "HW0207 node n1 would send to itself"),
    ] {
        assert_eq!(resolved(text).expect_err(text), expected, "{text}");
    }
}

#[test]
fn the_family_is_chosen() {
    let both = "IPv4, as both sides have IPv4 and IPv6";
    for (text, v6, assumed) in [
        ("a -> b:80", false, vec![both]),
        ("a -> b:80 ip4", false, vec![]),
        ("a -> b:80 ip6", true, vec![]),
        ("a -> six:80", true, vec![]),
        ("a -> four:80", false, vec![]),
        ("a -> [fd00:2::10]:80", true, vec![]),
        ("a -> b icmpv6 echo-request", true, vec![]),
        ("a -> b icmp echo ip6", true, vec![]),
        ("a -> b:80 from-ip fd00::9", true, vec![]),
        ("six -> b:80 from-ip 10.0.0.9", false, vec![]),
        ("b -> a icmp 3/3 quoting ( a -> b:80 ip6 )", true, vec![]),
        ("a -> b", false, vec![both, "icmp echo, as no port was given"]),
        (
            "a -> fd00:2::10:80",
            true,
            vec![
                "fd00:2::10:80 is one address; port 80 of web/b is `[fd00:2::10]:80`",
                "icmp echo, as no port was given",
            ],
        ),
    ] {
        let question = resolved(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        assert_eq!(question.packet.ip.source.is_ipv6(), v6, "{text}");
        assert_eq!(question.packet.ip.destination.is_ipv6(), v6, "{text}");
        assert_eq!(question.assumed, assumed, "{text}");
    }
    for (text, expected) in [
        ("six -> four:80", "HW0202 web/six is IPv6 only, db/four is IPv4 only"),
        ("six -> b:80 ip4", "HW0202 web/six has no IPv4 address"),
        ("a -> four icmpv6 echo-request", "HW0202 db/four has no IPv6 address"),
        ("node n2 -> six:80", "HW0202 node n2 is IPv4 only, web/six is IPv6 only"),
        ("a -> b icmpv6 echo-request ip4", "HW0204 these two are of different address families"),
    ] {
        assert_eq!(resolved(text).expect_err(text), expected, "{text}");
    }
}

#[test]
fn what_is_left_open_is_filled() {
    let echo = resolved("a -> four").expect("resolves");
    assert_eq!(echo.packet.ip.ttl, 64);
    assert_eq!((echo.packet.ip.id, echo.packet.ip.dont_fragment), (0, false));
    assert_eq!(echo.packet.transport, Transport::Icmp { kind: 8, code: 0, rest: [0, 1, 0, 1] });
    assert_eq!(echo.packet.payload.len(), 56, "an IP length of 84, as Linux's ping has");
    assert_eq!(echo.undetermined, ["echo payload"]);
    let syn = resolved("a -> four:80").expect("resolves");
    let (source, destination) = (packet::SOURCE_PORT, 80);
    let (flags, sequence, acknowledgement) = (TcpFlags::SYN, 1, 0);
    let tcp = Transport::Tcp { source, destination, flags, sequence, acknowledgement };
    assert_eq!(syn.packet.transport, tcp);
    assert!(syn.packet.payload.is_empty() && syn.assumed.is_empty() && syn.undetermined.is_empty());
    assert!(!syn.with_reply && resolved("a -> four:80 with reply").expect("resolves").with_reply);
}

#[test]
fn the_captured_ping_is_as_it_was() {
    let asked = packet("A -> b icmp echo id 502 seq 1878 ip-id 35369 df");
    assert_eq!(
        asked.transport,
        Transport::Icmp { kind: 8, code: 0, rest: [0x01, 0xf6, 0x07, 0x56] }
    );
    assert_eq!((asked.ip.id, asked.ip.dont_fragment, asked.ip.ttl), (35369, true, 64));
    assert_eq!(packet::headers(&asked) + asked.payload.len(), 84);
}

/// Protocol, ports, flags or message in a word.
fn transport(packet: &Packet) -> String {
    match packet.transport {
        Transport::Tcp { source, destination, flags, sequence, acknowledgement } => {
            format!("tcp {source} {destination} {flags} {sequence} {acknowledgement}")
        }
        Transport::Udp { source, destination } => format!("udp {source} {destination}"),
        Transport::Sctp { source, destination } => format!("sctp {source} {destination}"),
        Transport::Icmp { kind, code, rest } => format!("icmp {kind}/{code} {rest:?}"),
        Transport::Other { protocol } => format!("protocol {protocol}"),
    }
}

#[test]
fn options_reach_the_packet() {
    for (text, expected) in [
        ("a -> b:80/udp", "udp 40312 80"),
        ("a -> b:80 udp", "udp 40312 80"),
        ("a -> b:80/udp udp from-port 7", "udp 7 80"),
        ("a -> b:80/sctp", "sctp 40312 80"),
        ("a -> b:80 ack", "tcp 40312 80 ACK 1 1"),
        ("a -> b:80 syn-ack seq 4294967295", "tcp 40312 80 SYN-ACK 4294967295 1"),
        ("a -> b:http", "tcp 40312 8080 SYN 1 0"),
        ("a -> 10.2.0.10:http/tcp", "tcp 40312 8080 SYN 1 0"),
        ("a -> b:dns/udp", "udp 40312 53"),
        ("a -> b:dns syn", "tcp 40312 5353 SYN 1 0"),
        ("a -> b udp fragment offset 1480", "udp 40312 0"),
        ("a -> b:80 http GET /", "tcp 40312 80 PSH-ACK 2 1"),
        ("a -> b icmp", "icmp 8/0 [0, 1, 0, 1]"),
        ("a -> b icmp ip6", "icmp 128/0 [0, 1, 0, 1]"),
        ("a -> b icmp echo-reply id 5 seq 6", "icmp 0/0 [0, 5, 0, 6]"),
        ("a -> b icmp 3/4", "icmp 3/4 [0, 0, 0, 0]"),
        ("a -> b icmp time-exceeded ip6", "icmp 3/0 [0, 0, 0, 0]"),
        ("a -> b icmpv6 neighbor-solicitation", "icmp 135/0 [0, 0, 0, 0]"),
    ] {
        assert_eq!(transport(&packet(text)), expected, "{text}");
    }
    let changed = packet("a -> b:53/udp ttl 1 ip-id 9 df payload \"abc\" from-ip 10.0.0.9");
    assert_eq!((changed.ip.ttl, changed.ip.id, changed.ip.dont_fragment), (1, 9, true));
    assert_eq!(
        (changed.payload, changed.ip.source.to_string()),
        (b"abc".to_vec(), "10.0.0.9".into())
    );
    assert_eq!(packet("a -> b:53/udp hex 0a0b").payload, [10, 11]);
    let asked = resolved("a -> b:8080 http POST \"/x?y=(1)\"").expect("resolves");
    let request = "POST /x?y=(1) HTTP/1.1\r\nHost: 10.2.0.10:8080\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(asked.known, Some(engine::question::Known::Connected));
    assert_eq!(String::from_utf8_lossy(&asked.packet.payload), request);
    let asked = packet("a -> b:80 ip6 http GET /").payload;
    assert_eq!(String::from_utf8_lossy(&asked), "GET / HTTP/1.1\r\nHost: [fd00:2::10]\r\n\r\n");
    let labelled = packet("a -> b:53/udp flow-label 1048575").ip;
    assert_eq!((labelled.source.is_ipv6(), labelled.flow_label), (true, 0xF_FFFF));
    let piece = packet("a -> b:53/udp fragment more").ip.fragment;
    assert_eq!(piece, Fragment { offset: 0, more: true });
}

#[test]
fn what_stands_before_the_transport_is_of_its_family() {
    for (text, options, extensions) in [
        ("a -> b:80 ip-options 0101", vec![1, 1, 0, 0], vec![]),
        ("a -> b:80 ip-options 94040000", vec![0x94, 4, 0, 0], vec![]),
        ("a -> b:80 extension destination", vec![], vec![60]),
        ("a -> b:80 extensions hop-by-hop, authentication, esp", vec![], vec![0, 51, 50]),
        ("a -> b:80 extensions no-next-header fragment more", vec![], vec![59]),
    ] {
        let ip = packet(text).ip;
        assert_eq!(ip.source.is_ipv6(), !extensions.is_empty(), "{text}");
        assert_eq!(ip.options, options, "{text}");
        let numbers: Vec<u8> = ip.extensions.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, extensions, "{text}");
        // Whole headers: units of 8 bytes each (RFC 8200 4).
        assert!(ip.extensions.iter().all(|(_, body)| (body.len() + 2) % 8 == 0), "{text}");
    }
    for (text, payload) in [
        ("a -> b:80 ip-options 01 length 45", 1),
        ("a -> b:80 extensions hop-by-hop, authentication length 93", 1),
        ("a -> b udp extensions routing fragment offset 8 length 60", 4),
    ] {
        assert_eq!(packet(text).payload.len(), payload, "{text}");
    }
    for (text, expected) in [
        ("a -> b:80 ip-options 01 ip6", "HW0204 these two are of different address families"),
        ("a -> b:80 http GET / syn", "HW0204 a request is sent on an open connection"),
        ("a -> b:80/udp http GET /", "HW0204 HTTP needs TCP"),
        ("a -> b http GET / icmp", "HW0204 HTTP needs TCP"),
        ("a -> b:80 http GET / payload \"x\"", "HW0204 the request is the payload"),
        ("a -> b:80 http GET / length 99", "HW0204 a request is as long as it is"),
        ("a -> b:80 http GET / fragment more", "HW0204 a request is not sent in fragments"),
        (
            "a -> b:80 http GET / with conntrack reply",
            "HW0204 HTTP opens a connection of its own, which the other side accepts",
        ),
        ("a -> b:80 http GET / http GET /", "HW0204 `http` is given twice"),
        ("a -> b:80 flow-label 7 ip4", "HW0204 these two are of different address families"),
        ("a -> b:80 extensions esp ip4", "HW0204 these two are of different address families"),
        ("a -> b:80 extensions esp extensions esp", "HW0204 `extensions` is given twice"),
        ("a -> b:80 ip-options 01 length 43", "HW0206 a length of 43 does not hold the headers"),
    ] {
        assert_eq!(resolved(text).expect_err(text), expected, "{text}");
    }
}

#[test]
fn lengths_are_of_the_whole_packet() {
    for (text, payload) in [
        ("a -> b:80 length 40", 0),
        ("a -> b:80 length 41", 1),
        ("a -> b:80 length 100 ip6", 40),
        ("a -> b:53/udp length 3486", 3458),
        ("a -> b icmp echo length 28", 0),
        ("a -> b icmp echo length 1500", 1472),
        ("a -> b icmp echo ip6 length 104", 56),
        ("a -> b:3868/sctp length 32", 0),
        ("a -> b:53/udp payload \"abcd\" length 32", 4),
        ("a -> b udp fragment offset 1480", 8),
        ("a -> b:80 fragment more", 4),
        ("a -> b udp fragment offset 8 ip6 length 60", 12),
    ] {
        assert_eq!(packet(text).payload.len(), payload, "{text}");
    }
    for (text, expected) in [
        ("a -> b:80 length 39", "HW0206 a length of 39 does not hold the headers"),
        ("a -> b:53/udp length 3487", "HW0206 a packet of 3487 bytes is too large to run"),
        ("a -> b:53/udp length 65535", "HW0206 a packet of 65535 bytes is too large to run"),
        (
            "a -> b:53/udp payload \"ab\" length 31",
            "HW0206 with this payload the length is 30, not 31",
        ),
    ] {
        assert_eq!(resolved(text).expect_err(text), expected, "{text}");
    }
    let large = format!("a -> b:53/udp hex {}", "00".repeat(3459));
    assert_eq!(
        resolved(&large).expect_err("large"),
        "HW0206 a packet of 3487 bytes is too large to run"
    );
}

#[test]
fn errors_quote() {
    let error = packet("b -> a icmp 3/3 quoting ( a -> b:53/udp )");
    assert_eq!(error.payload, engine::question::quote(&packet("a -> b:53/udp")));
    let last = resolved("b -> a icmp 3/3 quoting last").expect_err("alone");
    assert_eq!(last, "HW0015 `quoting last` needs an earlier packet of the same dialogue");
    let echo = resolved("b -> a icmp echo quoting ( a -> b:53/udp )").expect_err("no error");
    assert_eq!(echo, "HW0204 only an ICMP error quotes a packet");
}

mod service;
