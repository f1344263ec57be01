//! The reference cluster, `fixtures/reference-cluster.hop`: every field that its page states of the captured
//! ping, of the tunnel table and of the endpoint table, held against what the kernel's datapath gives.

use engine::explain::{Agreement, Explanation, HopReport, LegOutcome, Verdict};
use repl::reply::Status;
use repl::session::Session;

use crate::kernel;
use crate::tree::root;

const FILE: &str = "fixtures/reference-cluster.hop";
const CAPTURED: &str = "trace CA -> CB icmp echo id 502 seq 1878 ip-id 35369 df with reply";

fn session() -> Session {
    let mut session = kernel::session();
    let loaded = session.load(&[root().join(FILE)]);
    assert_eq!(loaded.status, Status::Ok, "{}", kernel::text(&loaded));
    session
}

fn ask(session: &mut Session, question: &str) -> Explanation {
    let reply = session.execute(question);
    assert_eq!(reply.status, Status::Ok, "{question}: {}", kernel::text(&reply));
    session.last_answer().expect("an answer").clone()
}

/// Whether bytes are those of a pattern in hex, in which blanks are skipped and `..` is any byte.
#[track_caller]
fn assert_bytes(frame: &[u8], pattern: &str) {
    let pattern: Vec<char> = pattern.chars().filter(|c| !c.is_whitespace()).collect();
    let pattern: Vec<String> = pattern.chunks(2).map(|pair| pair.iter().collect()).collect();
    let shown: Vec<String> = frame
        .iter()
        .zip(&pattern)
        .map(|(byte, wanted)| if wanted == ".." { wanted.clone() } else { format!("{byte:02x}") })
        .collect();
    assert_eq!(shown.join(" "), pattern.join(" "));
    // What follows the pattern is the echo's payload.
    assert_eq!(frame.len() - pattern.len(), 56);
}

fn names(hop: &HopReport) -> Vec<&str> {
    hop.undetermined.iter().map(String::as_str).collect()
}

fn two_hops(answer: &Explanation) -> (&HopReport, &HopReport) {
    assert_eq!(answer.hops.len(), 2);
    (&answer.hops[0], &answer.hops[1])
}

#[test]
fn the_request_is_the_captured_one() {
    let mut session = session();
    let answer = ask(&mut session, CAPTURED);
    assert_eq!((answer.verdict, answer.agreement), (Verdict::Allowed, Agreement::Agree));
    assert!(answer.tunneled);
    let (sent, delivered) = two_hops(&answer);
    assert_eq!((sent.node.as_str(), sent.device.as_str()), ("node01", "lxc8b528e748ff4"));
    assert_eq!((delivered.node.as_str(), delivered.device.as_str()), ("node02", "cilium_vxlan"));

    let tunnel = sent.tunnel.as_ref().expect("a tunnel");
    assert_eq!(
        (tunnel.source.as_str(), tunnel.destination.as_str()),
        ("192.168.66.226", "192.168.66.221")
    );
    assert_eq!((tunnel.port, tunnel.vni), (8472, 27634));
    assert_bytes(
        &sent.frame,
        ".. .. .. .. .. .. .. .. .. .. .. .. 0800 \
         4500 0086 0000 0000 40 11 .... c0a842e2 c0a842dd \
         .... 2118 0072 0000 08000000 006bf200 \
         f219fc0e0a8c 02167a1d0c7e 0800 \
         4500 0054 8a29 4000 40 01 92f3 0af4019a 0af4060b \
         08 00 .... 01f6 0756",
    );
    let open = [
        "outer Ethernet source",
        "outer Ethernet destination",
        "outer IP id",
        "outer IP checksum",
        "UDP source port",
        "echo payload",
    ];
    assert_eq!(names(sent), open);

    // TTL 63, and a checksum that fits it.
    assert_bytes(
        &delivered.frame,
        ".. .. .. .. .. .. .. .. .. .. .. .. 0800 \
         4500 0054 8a29 4000 3f 01 93f3 0af4019a 0af4060b \
         08 00 .... 01f6 0756",
    );
    assert_eq!(names(delivered), ["echo payload", "Ethernet source", "Ethernet destination"]);
    assert_eq!(delivered.tunnel, None);
}

#[test]
fn the_reply_comes_back_the_same_way() {
    let mut session = session();
    let answer = ask(&mut session, CAPTURED);
    let reply = answer.reply.expect("a reply");
    assert_eq!((reply.verdict, reply.agreement), (Verdict::Allowed, Agreement::Agree));
    assert!(
        reply.decided_by.iter().all(|d| d.outcome == LegOutcome::Reply),
        "{:?}",
        reply.decided_by
    );
    assert_eq!(reply.decided_by.len(), 2);
    let (sent, delivered) = two_hops(&reply);
    assert_eq!((sent.node.as_str(), delivered.node.as_str()), ("node02", "node01"));
    // Id 12892 in the capture was the other kernel's choice; "don't fragment" was not set.
    assert_bytes(
        &sent.frame,
        ".. .. .. .. .. .. .. .. .. .. .. .. 0800 \
         4500 0086 0000 0000 40 11 .... c0a842dd c0a842e2 \
         .... 2118 0072 0000 08000000 ...... 00 \
         .. .. .. .. .. .. .. .. .. .. .. .. 0800 \
         4500 0054 .... 0000 40 01 .... 0af4060b 0af4019a \
         00 00 .... 01f6 0756",
    );
    assert_bytes(
        &delivered.frame,
        "02167a1d0c7e f219fc0e0a8c 0800 \
         4500 0054 .... 0000 3f 01 .... 0af4060b 0af4019a \
         00 00 .... 01f6 0756",
    );
}

#[test]
fn one_source_port_a_flow() {
    let mut session = session();
    let mut port = |question: &str| {
        let answer = ask(&mut session, question);
        let (sent, _) = two_hops(&answer);
        sent.tunnel.as_ref().expect("a tunnel").source_port
    };
    let first = port("trace CA -> CB icmp echo id 502 seq 1878 ip-id 35369 df");
    assert_eq!(first, port("trace CA -> CB icmp echo id 502 seq 2259 ip-id 33378 df"));
    assert_eq!(first, port("trace CA -> CB icmp echo id 502 seq 2507 ip-id 25390 df"));
}

/// Rows of a listing that begin with `node01`, without that column.
fn rows_of_node01(session: &mut Session, listing: &str) -> Vec<Vec<String>> {
    let reply = session.execute(listing);
    assert_eq!(reply.status, Status::Ok, "{}", kernel::text(&reply));
    let rows = kernel::text(&reply);
    rows.lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter(|cells| cells.first().is_some_and(|cell| cell == "node01"))
        .map(|cells| cells[1..].to_vec())
        .collect()
}

#[test]
fn the_tunnel_table_of_node01() {
    let mut session = session();
    let mut rows = rows_of_node01(&mut session, "show tunnel");
    rows.sort();
    assert_eq!(
        rows,
        [
            ["10.244.2.0/24", "192.168.66.194"],
            ["10.244.3.0/24", "192.168.66.196"],
            ["10.244.6.0/24", "192.168.66.221"],
        ]
    );
}

#[test]
fn the_endpoint_table_of_node01() {
    let mut session = session();
    let rows = rows_of_node01(&mut session, "show endpoints");
    let mut pods: Vec<_> =
        rows.iter().filter(|r| r[1] != "(localhost)").map(|r| r[..5].to_vec()).collect();
    pods.sort();
    assert_eq!(
        pods,
        [
            ["10.244.1.106", "2222", "310", "02:EF:1A:74:99:36", "CE:12:20:E1:99:98"],
            ["10.244.1.154", "3432", "336", "02:16:7A:1D:0C:7E", "F2:19:FC:0E:0A:8C"],
            ["10.244.1.18", "3047", "322", "92:BB:35:0B:64:DD", "96:2D:AE:BD:78:6D"],
            ["10.244.1.183", "3023", "48", "7E:DB:15:12:77:78", "DE:CE:51:6C:3B:6E"],
            ["10.244.1.4", "1928", "10", "26:84:C5:50:4D:F9", "C6:AB:F1:63:C1:FE"],
        ]
    );
    let own: Vec<_> =
        rows.iter().filter(|r| r[1] == "(localhost)").map(|r| r[0].as_str()).collect();
    for address in [
        "192.168.66.226",
        "10.244.1.208",
        "10.96.0.10",
        "10.96.0.1",
        "10.102.101.239",
        "10.101.126.212",
        "10.99.24.234",
        "10.99.146.112",
        "10.110.33.8",
        "10.111.30.67",
        "10.107.23.171",
    ] {
        assert!(own.contains(&address), "{address} is not listed");
    }
    assert_eq!(own.len(), 11);
}

#[test]
fn its_own_tests_pass() {
    let mut session = session();
    let reply = session.run_tests(None);
    assert_eq!(reply.status, Status::Ok, "{}", kernel::text(&reply));
}
