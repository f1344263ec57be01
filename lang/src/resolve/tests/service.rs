//! Questions to services, to headless ones, to node ports and to health endpoints.

use engine::net::{TcpFlags, Transport};
use engine::question::{Known, Question};
use engine::source::SourceMap;
use engine::topology::{Party, PodId, ServiceId};

use crate::{NoIncludes, command, load, resolve};

const WORLD: &str = "
cluster c {
  node n1 { ip 192.168.0.1 pods 10.1.0.0/24, fd00:1::/64 health 10.1.0.200 }
  node n2 { ip 192.168.0.2 pods 10.2.0.0/24 }
}
namespace web {}
namespace db {}
pod web/client on n1 { ip 10.1.0.10, fd00:1::10 }
pod web/echo-0 on n2 { ip 10.2.0.10 labels { app = echo } port http 8080/tcp port dns 5353/udp }
pod web/echo-1 on n1 { ip 10.1.0.11, fd00:1::11 labels { app = echo } port http 8081/tcp }
pod web/echo-2 on n1 { ip 10.1.0.12 labels { app = echo } port http 8082/tcp not-ready }
pod web/echo-3 on n1 { ip 10.1.0.13 labels { app = echo } port http 8083/tcp terminating }
pod db/sql on n1 { ip 10.1.0.20 labels { app = echo, role = sql } port sql 5432/tcp }
service web/echo { cluster-ip 10.96.0.20, fd00:96::20 port 80 -> http node-port 30080 select { app = echo } }
service web/two {
  cluster-ip 10.96.0.21 external-ip 203.0.113.21
  port web 80 -> http
  port dns 53/udp -> dns
  select { app = echo }
}
service web/pair { cluster-ip none port 80 -> http select { app = echo } }
service db/one { cluster-ip none port sql 5432 -> sql select { role = sql } }
service db/bare { cluster-ip none select { role = sql } }
service web/local { cluster-ip 10.96.0.22 port 80 -> http node-port 30081 select { app = echo } internal-traffic local external-traffic local }
service web/client { cluster-ip 10.96.0.30 port 1 select { app = echo } }
";

fn resolved(text: &str) -> Result<Question, String> {
    let mut sources = SourceMap::default();
    let entry = ("world.hop".to_owned(), WORLD.to_owned());
    let loaded = load(&[entry], &mut NoIncludes, &mut sources);
    assert_eq!(loaded.diagnostics, []);
    let file = sources.add("input", text);
    let read = command::parse_question(text, file).map_err(|problems| format!("{problems:?}"))?;
    resolve::question(&loaded.world, &read).map_err(|problem| {
        let helps = problem.helps.iter().map(|help| format!("; {}", help.message));
        format!("{} {}{}", problem.code, problem.message, helps.collect::<String>())
    })
}

#[test]
fn a_service_is_asked_at_its_address_and_port() {
    for (text, to, port, assumed) in [
        ("pod client -> service web/echo:80 ip4", "10.96.0.20", 80, vec![]),
        ("pod client -> echo:80 ip6", "fd00:96::20", 80, vec![]),
        (
            "pod client -> echo ip6",
            "fd00:96::20",
            80,
            vec!["port 80/tcp, the only one of web/echo"],
        ),
        ("pod client -> two:web", "10.96.0.21", 80, vec![]),
        ("pod client -> two:dns", "10.96.0.21", 53, vec![]),
        ("pod client -> 203.0.113.21:dns", "203.0.113.21", 53, vec![]),
        ("pod client -> two udp", "10.96.0.21", 53, vec!["port 53/udp, the only one of web/two"]),
        ("pod client -> two syn", "10.96.0.21", 80, vec!["port 80/tcp, the only one of web/two"]),
        ("pod client -> two:99", "10.96.0.21", 99, vec![]),
        ("pod client -> two icmp echo", "10.96.0.21", 0, vec![]),
        ("pod client -> health n1:80", "10.1.0.200", 80, vec![]),
        ("health of n1 -> echo-0:80", "10.2.0.10", 80, vec![]),
    ] {
        let question = resolved(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        assert_eq!(question.packet.ip.destination.to_string(), to, "{text}");
        let is_echo = question.packet.icmp().is_some();
        assert_eq!(if is_echo { 0 } else { question.packet.ports().1 }, port, "{text}");
        assert_eq!(question.assumed, assumed, "{text}");
    }
    let question = resolved("pod client -> echo:80 ip4").expect("resolves");
    assert_eq!(question.destination, Party::Service(ServiceId(0)));
    assert_eq!((question.choose, question.known), (None, None));
}

#[test]
fn a_headless_service_is_its_pod() {
    for (text, to, port, assumed) in [
        (
            "pod client -> one:sql",
            "10.1.0.20",
            5432,
            "db/one is headless: its name resolves to db/sql",
        ),
        (
            "pod client -> bare:7",
            "10.1.0.20",
            7,
            "db/bare is headless: its name resolves to db/sql",
        ),
        (
            "pod client -> pair:80 choose backend echo-1 ip4",
            "10.1.0.11",
            80,
            "web/pair is headless: its name resolves to web/echo-1",
        ),
        (
            "pod client -> pair choose backend pod web/echo-0",
            "10.2.0.10",
            8080,
            "web/pair is headless: its name resolves to web/echo-0",
        ),
    ] {
        let question = resolved(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        assert_eq!(question.packet.ip.destination.to_string(), to, "{text}");
        assert_eq!(question.packet.ports().1, port, "{text}");
        assert_eq!(question.assumed[0], assumed, "{text}");
        assert!(matches!(question.destination, Party::Pod(_)) && question.choose.is_none());
    }
}

#[test]
fn a_backend_is_chosen() {
    for (text, chosen) in [
        ("pod client -> echo:80 choose backend echo-1 ip6", PodId(2)),
        ("pod client -> 10.96.0.20:80 choose backend web/echo-0", PodId(1)),
        ("world 8.8.8.8 -> node n1:30080 choose backend echo-0", PodId(1)),
        ("world 8.8.8.8 -> 192.168.0.2:30080 choose backend echo-1", PodId(2)),
        ("pod client -> two:dns choose backend echo-0", PodId(1)),
    ] {
        let question = resolved(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        assert_eq!(question.choose, Some(chosen), "{text}");
    }
}

#[test]
fn what_conntrack_knows_chooses_the_flags() {
    for (text, known, flags) in [
        ("a:80 with conntrack established", Known::Established, TcpFlags::ACK),
        ("a:80 with conntrack reply", Known::Reply, TcpFlags::SYN.with(TcpFlags::ACK)),
        ("a:80 fin-ack with conntrack reply", Known::Reply, TcpFlags::FIN.with(TcpFlags::ACK)),
    ] {
        let text = text.replace("a:80", "pod client -> echo-0:80");
        let question = resolved(&text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        assert_eq!(question.known, Some(known), "{text}");
        let Transport::Tcp { flags: sent, .. } = question.packet.transport else {
            panic!("{text}")
        };
        assert_eq!(sent, flags, "{text}");
    }
}

#[test]
fn what_a_service_does_not_say_is_an_error() {
    for (text, expected) in [
        ("client -> echo:80", "HW0201 `client` could be any of 2; write `pod web/client`"),
        (
            "service web/echo -> pod client:80",
            "HW0208 service web/echo sends nothing itself; name the pod that sends",
        ),
        (
            "pod client -> service ecko:80",
            "HW0200 no service is named `ecko`; did you mean `echo`?",
        ),
        (
            "pod client -> two",
            "HW0209 service web/two has 2 ports; add `:web`: web 80/tcp; add `:dns`: dns 53/udp",
        ),
        ("pod client -> echo udp", "HW0209 service web/echo has no udp port; its ports: 80/tcp"),
        (
            "pod client -> two:wbe",
            "HW0203 service web/two has no port named `wbe`; did you mean `web`?",
        ),
        (
            "pod client -> echo:http ip4",
            "HW0203 service web/echo has no port named `http`; its ports have no names: 80/tcp; its pods' port names are not its own",
        ),
        (
            "pod client -> pair:80",
            "HW0208 headless service web/pair has 2 ready pods; add `choose backend web/echo-0`; add `choose backend web/echo-1`",
        ),
        (
            "pod client -> echo:80 choose backend pod client",
            "HW0208 web/client is no backend of service web/echo; it has web/echo-0, web/echo-1",
        ),
        (
            "pod client -> echo:80 choose backend sql",
            "HW0208 db/sql is no backend of service web/echo; it has web/echo-0, web/echo-1",
        ),
        (
            "pod client -> echo:80 choose backend echo-2",
            "HW0208 web/echo-2 is not ready, so service web/echo sends nothing new to it; it has web/echo-0, web/echo-1",
        ),
        (
            "pod client -> pair choose backend echo-3",
            "HW0208 web/echo-3 is terminating, so service web/pair sends nothing new to it; it has web/echo-0, web/echo-1",
        ),
        (
            "pod client -> two:dns choose backend echo-1",
            "HW0208 web/echo-1 has no udp port named `dns`; it has web/echo-0, web/echo-1",
        ),
        (
            "pod client -> echo:80 choose backend echo-0 ip6",
            "HW0202 web/echo-0 has no IPv6 address",
        ),
        (
            "pod client -> echo-0:80 choose backend echo-0",
            "HW0208 `choose backend` needs a service to choose for; ask `service NAME:PORT`, or a node port as in `node NODE:30080/tcp`",
        ),
        (
            "pod client -> node n1:30099 choose backend echo-0",
            "HW0208 `choose backend` needs a service to choose for; ask `service NAME:PORT`, or a node port as in `node NODE:30080/tcp`",
        ),
        (
            "pod client -> health n2:80",
            "HW0200 node `n2` has no health endpoint; give it one: `health ADDRESS` in the node's block, an address of its `pods`",
        ),
        ("pod client -> health n3:80", "HW0200 no node is named `n3`; did you mean `n1`?"),
        (
            "world 10.96.0.20 -> pod client:80",
            "HW0205 10.96.0.20 is service web/echo, not outside the cluster; to pretend that a packet comes from there, add `from-ip`; a service sends nothing itself: name the pod that sends",
        ),
        (
            "10.96.0.20 -> pod client:80",
            "HW0208 10.96.0.20 is service web/echo, which sends nothing itself; name the pod that sends; to pretend that a packet comes from there, add `from-ip 10.96.0.20`",
        ),
        (
            "pod client -> echo-0 icmp 3/3 with conntrack established",
            "HW0204 of ICMP messages only an echo has a flow; ask the packets one by one, in a `dialogue`",
        ),
        (
            "pod client -> local:80 choose backend echo-0",
            "HW0208 web/echo-0 is on n2, and `internal-traffic local` of service web/local keeps n1 to its own pods; on n1 it has web/echo-1; ask by n2, or set `internal-traffic cluster`",
        ),
        (
            "pod client -> node n2:30081 choose backend echo-1",
            "HW0208 web/echo-1 is on n1, and `external-traffic local` of service web/local keeps n2 to its own pods; on n2 it has web/echo-0; ask by n1, or set `external-traffic cluster`",
        ),
        (
            "pod client -> 10.96.0.20:80 with conntrack reply",
            "HW0208 service web/echo opens no flow that this could answer; ask the client's packet `with reply`, or name the pod or address that opened the flow",
        ),
        ("node n1 -> node n1:30082", "HW0207 node n1 would send to itself"),
    ] {
        assert_eq!(resolved(text).expect_err(text), expected, "{text}");
    }
}

#[test]
fn a_node_may_ask_its_own_node_port() {
    for text in ["node n1 -> node n1:30080", "node n1 -> 192.168.0.1:30081 choose backend echo-1"] {
        let question = resolved(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        assert_eq!(question.packet.ip.source, question.packet.ip.destination, "{text}");
    }
}

#[test]
fn an_error_of_one_family_quotes_that_family() {
    let text = "echo-1 -> pod client icmpv6 2 quoting ( pod client -> echo-1:8081 )";
    let question = resolved(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
    assert!(question.packet.ip.source.is_ipv6());
    assert_eq!(question.packet.payload[0] >> 4, 6);
}

#[test]
fn a_headless_service_translates_no_port() {
    let text = "pod client -> pair:80 choose backend echo-1 ip4";
    let question = resolved(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
    let note =
        "no port is translated for a headless service: its port 80/tcp is 8081 at web/echo-1";
    assert_eq!(question.assumed.last().map(String::as_str), Some(note));
}
