//! `hopwise replay`: captures of ours through the policy, on the command line and in a session, and garbage.

mod captures;

use std::fs;

use repl::replay::{FlowVerdict, Report};
use repl::reply::{Content, Status};
use repl::session::Session;
use serde_json::Value;

use crate::binary::hopwise;
use crate::cli::{Folder, document, run};
use crate::kernel;
use crate::tree::{root, updating};
use captures::{ACK, SYN, echo, on, pcap, tcp, tunneled, udp};
use engine::topology::TunnelKind;

const WORLD: &str = "fixtures/captures/world.hop";
const SHOP: &str = "fixtures/captures/shop.pcap";
const SERVICE: &str = "fixtures/captures/service.pcap";
const TRUNK: &str = "fixtures/captures/trunk.pcap";
const MIXED: &str = "fixtures/captures/mixed.pcapng";
const STRICTER: &str = "fixtures/captures/stricter.hop";
const SERVER: &str = "10.2.0.10:80";

fn check(arguments: &[&str], code: i32, said: &[&str]) {
    let arguments = [&["replay", "-f", WORLD], arguments].concat();
    let (text, came) = run(&arguments);
    assert_eq!(came, code, "{arguments:?}:\n{text}");
    for said in said {
        assert!(text.contains(said), "{arguments:?}: no `{said}` in\n{text}");
    }
    assert!(!text.contains("bug of hopwise"), "{text}");
}

#[test]
fn captures_are_those_that_are_made_here() {
    for (name, bytes) in captures::all() {
        let path = root().join("fixtures/captures").join(name);
        if updating() {
            fs::write(&path, &bytes).expect("fixtures can be written");
        }
        assert!(fs::read(&path).is_ok_and(|there| there == bytes), "{name}: UPDATE=1 writes it");
    }
}

#[test]
fn the_command_line_ends_as_it_is_told_to() {
    let whole = fs::read(root().join(SHOP)).expect("the fixture is there");
    let folder =
        Folder::new("replay", &[("half.pcap", &whole[..900]), ("text.pcap", b"no capture")]);
    let (half, text, none) =
        (folder.path("half.pcap"), folder.path("text.pcap"), folder.path("none"));
    check(&[SHOP], 0, &["flows     7: 3 allowed, 2 dropped", "1 unknown-state", "oracle agrees"]);
    check(&[SHOP, "--expect", "allowed"], 1, &["ingress default-deny of shop/server"]);
    check(&[SERVICE, "--expect", "allowed"], 0, &["1 allowed, 1 unknown-state"]);
    check(&[SHOP, "--policy", STRICTER], 0, &["newly-dropped", "1 newly dropped, 1 newly allowed"]);
    check(&[SHOP, "--policy", STRICTER, "--exit-code"], 1, &[]);
    check(&[SHOP, "--policy", WORLD, "--exit-code"], 0, &["no changes"]);
    check(&[SHOP, "--exit-code"], 2, &["--policy <FILE>"]);
    check(&[SHOP, "--max-flows", "0"], 2, &["1..="]);
    check(&[SHOP, "--expect", "dropped"], 2, &["[possible values: allowed]"]);
    check(&[SHOP, "--policy", &none], 3, &["there is no such file"]);
    check(&[&none], 3, &["there is no such file"]);
    check(&[&text], 3, &["it is no capture"]);
    check(&[&half], 3, &["damaged   it is damaged behind packet ", "flows     "]);
    check(&[SHOP, "--strict"], 0, &["flows     7: 4 allowed, 2 dropped, 1 unknown-addresses"]);
    check(&[SHOP, "--max-flows", "2"], 0, &["of flows beyond the limit", "see --max-flows"]);
    check(&[SHOP, "--backend", "vm"], 0, &["checked   vm", "oracle agrees"]);
}

#[test]
fn what_is_to_be_asked_next_is_told_and_works() {
    let replayed = document(hopwise().args(["replay", "-f", WORLD, SHOP, "-o", "json"]), 0);
    let flows = replayed["flows"].as_array().expect("a list");
    let dropped = flows.iter().find(|flow| flow["now"]["verdict"] == "dropped");
    let trace = dropped.expect("one is dropped")["trace"].as_str().expect("a text");
    assert_eq!(trace, format!("--at 'node01 from-container on lxc_stranger' pcap {SHOP} number 9"));
    let at = "node01 from-container on lxc_stranger";
    let (text, code) = run(&["trace", "-f", WORLD, "--at", at, "pcap", SHOP, "number", "9"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("DROPPED  policy-denied (133): default deny, ingress"), "{text}");
}

/// Whatever the flow: what is to be asked says the same of the packet that decided, with the same reason.
#[test]
fn what_is_to_be_asked_says_the_same() {
    let mut asked = 0;
    for (capture, strict) in [(SHOP, true), (SERVICE, false), (MIXED, false), (TRUNK, false)] {
        let strict: &[&str] = if strict { &["--strict"] } else { &[] };
        let arguments = ["replay", "-f", WORLD, capture, "-o", "json"];
        let replayed = document(hopwise().args(arguments).args(strict), 0);
        for flow in replayed["flows"].as_array().expect("a list") {
            let now = &flow["now"];
            let verdict = match now["verdict"].as_str() {
                Some("dropped" | "mixed") => "dropped",
                Some("allowed") => "allowed",
                _ => continue,
            };
            let trace = flow["trace"].as_str().expect("it can be asked about");
            let mut shell = std::process::Command::new("sh");
            let line = format!("\"$0\" trace -f {WORLD} -o json {trace}");
            shell.args(["-c", &line]).arg(hopwise().get_program()).current_dir(root());
            let said = document(&mut shell, 0);
            assert_eq!(said["verdict"], verdict, "{capture}: {trace}");
            assert_eq!(said["reason"], now["reason"], "{capture}: {trace}");
            asked += 1;
        }
    }
    assert!(asked > 15, "{asked}");
}

/// The packet that decided is named, not the flow's first one.
#[test]
fn of_a_mixed_flow_the_packet_that_was_dropped_is_named() {
    let session = &mut session();
    let ask = on(1, &udp("10.2.0.10:9", "10.1.0.10:9", 1));
    let answer = on(1, &udp("10.1.0.10:9", "10.2.0.10:9", 2));
    let packets = [(0, ask.clone()), (1, answer.clone()), (200_000, answer)];
    let report = replayed(session, &pcap(1, &packets)).0.expect("it was replayed");
    let flow = &report.flows[0];
    assert_eq!((flow.now.verdict, flow.now.decided_at), (FlowVerdict::Mixed, 3));
    let trace = flow.trace.as_deref().unwrap_or_default();
    assert!(trace.starts_with("--at 'node01 from-container on lxc_client' pcap "), "{trace}");
    assert!(trace.ends_with(" number 3"), "{trace}");
}

/// Tags are taken off, what is cut inside a tunnel is told as such, and what only goes to a tunnel's port is a packet as others.
#[test]
fn a_trunk_is_read_as_its_networks_see_it() {
    check(
        &[TRUNK],
        0,
        &[
            "replayed  7 of 11 packets",
            "flows     6: 1 allowed, 5 dropped",
            "skipped   3 truncated, first 8",
            "skipped   1 damaged, first 11",
            "tagged    4 packets, taken without VLAN tags",
            "explain   hopwise trace -f fixtures/captures/world.hop '10.1.0.11 -> 10.2.0.10:80/tcp from-port 40001'",
        ],
    );
}

/// Every flow is unchanged or in one of the sums, and what another world does not know it does not let through.
#[test]
fn sums_hold_every_changed_flow() {
    let two = "fixtures/worlds/two-nodes.hop";
    let arguments = ["replay", "-f", WORLD, SHOP, "-o", "json", "--policy"];
    for policy in [two, STRICTER, WORLD, "fixtures/reference-cluster.hop"] {
        let replayed = document(hopwise().args(arguments).arg(policy), 0);
        let flows = replayed["flows"].as_array().expect("a list");
        let summary = &replayed["summary"];
        let kinds = [
            ("newly-dropped", "newlyDropped"),
            ("newly-allowed", "newlyAllowed"),
            ("other", "otherwise"),
            ("other-rule", "otherRule"),
        ];
        for (change, sum) in kinds {
            let count = flows.iter().filter(|flow| flow["change"] == change).count();
            assert_eq!(summary[sum], count, "{policy}: {summary:#}");
        }
        for flow in flows {
            assert!(flow["change"].is_string(), "{policy}: {flow:#}");
            let is_allowed = flow["change"] == "newly-allowed";
            assert!(!is_allowed || flow["then"]["verdict"] != "unknown-addresses", "{flow:#}");
        }
    }
    let elsewhere = "fixtures/reference-cluster.hop";
    let said = "0 newly dropped, 0 newly allowed, 5 changed otherwise";
    check(&[SHOP, "--policy", elsewhere], 0, &[said]);
    check(&[SHOP, "--policy", elsewhere, "--exit-code"], 1, &[said]);
}

/// Standard input and pipes are read to their end, and told of as the file is.
#[test]
fn what_comes_by_a_pipe_is_replayed() {
    let shell = |line: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", line]).arg(hopwise().get_program()).current_dir(root());
        crate::binary::seen(&shell.output().expect("a shell"))
    };
    let (file, _) = run(&["replay", "-f", WORLD, SHOP]);
    let question = "'10.1.0.11 -> 10.2.0.10:80/tcp from-port 40001'";
    let at = format!("--at 'node01 from-container on lxc_stranger' pcap {SHOP} number 9");
    let piped = file.replace(&at, question);
    assert_ne!(file, piped);
    let (text, code) = shell(&format!("cat {SHOP} | \"$0\" replay - -f {WORLD}"));
    assert_eq!((text, code), (piped.replace(&format!("of {SHOP}"), "of standard input"), 0));
    let line = format!("cat {SHOP} | \"$0\" replay /dev/stdin -f {WORLD}");
    assert_eq!(shell(&line), (piped.replace(&format!("of {SHOP}"), "of /dev/stdin"), 0));
    let (text, code) = shell(&format!("\"$0\" replay - -f {WORLD} --policy {STRICTER} < {SHOP}"));
    assert!(code == 0 && text.contains("1 newly dropped, 1 newly allowed"), "{text}");
    for (line, code, said) in [
        (format!("\"$0\" replay - -f {WORLD} < /dev/null"), 3, "`-`: nothing came by it"),
        (format!("echo no capture | \"$0\" replay - -f {WORLD}"), 3, "`-`: it is no capture"),
        (format!("\"$0\" replay - -f - < {WORLD}"), 2, "cannot be the capture and a file"),
        (format!("\"$0\" replay /dev/null -f {WORLD}"), 3, "it is no file"),
    ] {
        let (text, ended) = shell(&line);
        assert!(ended == code && text.contains(said), "{line}: {ended} {text}");
    }
}

/// Ctrl-C ends who captures; what was captured by then is replayed.
#[test]
fn ctrl_c_ends_the_capture_and_not_the_replay() {
    let script = format!(
        "trap : INT; (trap 'exit 0' INT; cat {SHOP}; while :; do sleep 0.05; done) | \"$0\" replay - -f {WORLD} & \
         sleep 2; kill -INT 0; wait $!"
    );
    let mut shell = std::process::Command::new("setsid");
    // An interactive shell's job: interrupts are not ignored, and all of it gets them.
    shell.args(["--wait", "bash", "-mc", "exec bash -c \"$1\" \"$0\""]);
    shell.arg(hopwise().get_program()).arg(script).current_dir(root());
    let (text, _) = crate::binary::seen(&shell.output().expect("a shell"));
    assert!(text.contains("replayed  14 of 19 packets of standard input"), "{text}");
    assert!(!text.contains("stopped"), "{text}");
}

/// Every document and every line is as the schema says, and holds the same.
#[test]
fn json_is_as_the_schema_says() {
    let schema = jsonschema::draft202012::new(&repl::render::schema()).expect("the schema is one");
    let fits = |document: &Value| {
        let errors: Vec<String> = schema.iter_errors(document).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
    };
    for capture in [SHOP, SERVICE, MIXED, TRUNK] {
        let arguments = ["replay", "-f", WORLD, capture, "--policy", STRICTER];
        let whole = document(hopwise().args(arguments).args(["-o", "json"]), 0);
        fits(&whole);
        let output = hopwise().args(arguments).args(["-o", "jsonl"]).output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("it is text");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
        lines.iter().for_each(fits);
        let (summary, flows) = lines.split_last().expect("there is a summary");
        assert_eq!(summary["summary"], whole["summary"]);
        let flows: Vec<&Value> = flows.iter().map(|line| &line["flow"]).collect();
        assert_eq!(flows, whole["flows"].as_array().expect("a list").iter().collect::<Vec<_>>());
    }
}

/// A session on the captures' world.
fn session() -> Session {
    let mut session = kernel::session();
    let loaded = session.load(&[root().join(WORLD)]);
    assert!(loaded.is_ok(), "{}", kernel::text(&loaded));
    session
}

/// What a capture of these bytes comes to.
fn replayed(session: &mut Session, bytes: &[u8]) -> (Option<Report>, Status) {
    let file = std::env::temp_dir().join(format!("hopwise-{:?}.pcap", std::thread::current().id()));
    fs::write(&file, bytes).expect("a scratch file can be written");
    let reply = session.execute(&format!("replay \"{}\"", file.display()));
    // A left-over in the temporary directory harms nobody.
    let _ = fs::remove_file(&file);
    match reply.content {
        Content::Replay(report) => (Some(*report), reply.status),
        _ => (None, reply.status),
    }
}

/// Verdict and packets of each flow.
fn verdicts(session: &mut Session, packets: &[(u64, Vec<u8>)]) -> Vec<(FlowVerdict, u64, u64)> {
    let (report, status) = replayed(session, &pcap(1, packets));
    assert_eq!(status, Status::Ok);
    let flows = report.expect("it was replayed").flows;
    flows.iter().map(|flow| (flow.now.verdict, flow.packets, flow.answers)).collect()
}

#[test]
fn flows_are_told_apart_as_their_packets_tell() {
    use FlowVerdict::{Allowed, Dropped, Mixed, UnknownState};
    let session = &mut session();
    let client = "10.1.0.10:40000";
    let there = |ms, id, flags| (ms, on(1, &tcp(client, SERVER, id, flags)));
    let back = |ms, id, flags| (ms, on(1, &tcp(SERVER, client, id, flags)));
    let mut check = |packets: &[(u64, Vec<u8>)], expected: &[(FlowVerdict, u64, u64)]| {
        assert_eq!(verdicts(session, packets), expected);
    };
    let syn_ack = SYN.with(ACK);
    check(&[there(0, 1, SYN), back(1, 2, syn_ack), there(2, 3, ACK)], &[(Allowed, 2, 1)]);
    // The same place sees it twice: it was sent twice, and is no duplicate.
    check(&[there(0, 1, SYN), there(1, 1, SYN)], &[(Allowed, 2, 0)]);
    // A SYN makes a new flow of one that began before or has ended.
    check(&[there(0, 1, ACK), there(1, 2, SYN)], &[(UnknownState, 1, 0), (Allowed, 1, 0)]);
    let fin = engine::net::TcpFlags::FIN.with(ACK);
    let again = [there(0, 1, SYN), back(1, 2, syn_ack), there(2, 3, fin), there(9, 4, SYN)];
    check(&again, &[(Allowed, 2, 1), (Allowed, 1, 0)]);
    // A half-open flow is forgotten after a minute of the capture's time, so that the answer is none.
    check(&[there(0, 1, SYN), back(61_000, 2, syn_ack)], &[(Allowed, 1, 1)]);
    let ask = |ms, id| (ms, on(1, &udp("10.2.0.10:9", "10.1.0.10:9", id)));
    let answer = |ms, id| (ms, on(1, &udp("10.1.0.10:9", "10.2.0.10:9", id)));
    check(&[ask(0, 1), answer(1, 2)], &[(Allowed, 1, 1)]);
    check(&[ask(0, 1), answer(61_000, 2)], &[(Mixed, 1, 1)]);
    // What was dropped would have had no answer.
    check(&[answer(0, 1), ask(1, 2)], &[(Dropped, 1, 1)]);
    check(&[answer(0, 1), answer(1, 2)], &[(Dropped, 2, 0)]);
    // Times that go back do not turn the clock back.
    check(&[ask(90_000, 1), answer(10, 2)], &[(Allowed, 1, 1)]);
}

/// Whose a packet is that nobody of the world sent, its VNI tells: the client's identity, the world's, one that nobody has.
#[test]
fn the_vni_is_the_identity_of_a_sender_that_is_not_known() {
    let session = &mut session();
    let pinned = session.execute("identity 40001 { namespace shop labels { app = \"client\" } }");
    assert!(pinned.is_ok(), "{}", kernel::text(&pinned));
    let mut check = |vni, from: &str, expected: (FlowVerdict, u64, u64)| {
        let syn = tcp(from, SERVER, 1, SYN);
        let packets = [(0, tunneled(TunnelKind::Vxlan, vni, (1, 2), &syn))];
        let report = replayed(session, &pcap(1, &packets)).0.expect("it was replayed");
        let summary = &report.summary;
        let found = (report.flows[0].now.verdict, summary.single, summary.other_identity);
        assert_eq!(found, expected, "{vni} {from}: {report:#?}");
    };
    let (gone, client) = ("10.1.0.99:40000", "10.1.0.10:40000");
    check(40001, client, (FlowVerdict::Allowed, 0, 0));
    check(777, client, (FlowVerdict::Allowed, 0, 1));
    check(40001, gone, (FlowVerdict::Allowed, 1, 0));
    check(777, gone, (FlowVerdict::Dropped, 1, 0));
    check(2, gone, (FlowVerdict::Dropped, 1, 0));
}

/// An error is of the flow that it tells of, whoever sends it; one about an unknown flow is one of unknown state.
#[test]
fn errors_are_of_the_flow_that_they_quote() {
    let session = &mut session();
    let asked = udp("10.2.0.10:9", "10.1.0.10:9", 1);
    let mut error = echo("192.168.1.1", "10.2.0.10", 2, 3);
    error.payload = on(1, &asked).split_off(14);
    let (asked, error) = (on(1, &asked), on(2, &error));
    let known = [(0, asked), (1, error.clone())];
    assert_eq!(verdicts(session, &known), [(FlowVerdict::Allowed, 1, 1)]);
    assert_eq!(verdicts(session, &[(0, error)]), [(FlowVerdict::UnknownState, 1, 0)]);
}

/// Whatever is translated on the way, and however often a packet is seen, it is one packet of one flow, and goes to the backend
/// that it went to.
#[test]
fn what_trace_writes_is_one_flow() {
    let folder = Folder::new("written", &[]);
    let services = "book/examples/services.hop";
    let outside = "world 203.0.113.9 -> node node01:30080/tcp choose backend";
    let inside = "shop/client -> service shop/web choose backend";
    for (world, question) in [
        (services, format!("{inside} web-0")),
        (services, format!("{inside} web-1")),
        (services, format!("{outside} web-0")),
        (services, format!("{outside} web-1")),
        (services, "shop/client -> world 8.8.8.8:53/udp".to_owned()),
        ("book/examples/native.hop", "shop/client -> shop/server:80/tcp".to_owned()),
        ("fixtures/reference-cluster.hop", "CA -> CB icmp echo".to_owned()),
    ] {
        let file = folder.path("one.pcapng");
        let asked = format!("{question} with reply");
        let (text, code) = run(&["trace", "-f", world, &asked, "--pcap", &file]);
        assert_eq!(code, 0, "{question}: {text}");
        let replayed =
            document(hopwise().args(["replay", "-f", world, &file, "-o", "json", "-q"]), 0);
        let flows = replayed["flows"].as_array().expect("a list");
        let counts = flows.iter().map(|f| (&f["packets"], &f["answers"], &f["now"]["verdict"]));
        let counts = serde_json::json!(counts.collect::<Vec<_>>());
        assert_eq!(counts, serde_json::json!([[1, 1, "allowed"]]), "{question}: {replayed:#}");
    }
}

/// Nothing that could be judged is no agreement with what was expected.
#[test]
fn an_empty_capture_is_not_allowed() {
    let late = pcap(1, &[(0, on(1, &tcp("10.1.0.10:1", SERVER, 1, ACK)))]);
    let folder = Folder::new("vacuous", &[("none.pcap", &pcap(1, &[])), ("late.pcap", &late)]);
    for name in ["none.pcap", "late.pcap"] {
        check(&[&folder.path(name)], 0, &["oracle agrees"]);
        check(&[&folder.path(name), "--expect", "allowed"], 1, &[]);
    }
}

/// A small generator; the same numbers for the same seed.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % 0xFFFF_FFFF).unwrap_or(0) % below.max(1)
    }
}

#[test]
fn garbage_is_replayed_or_refused() {
    let session = &mut session();
    let captures = captures::all();
    for seed in 0..400 {
        let mut next = numbers(seed);
        let mut bytes = captures[next(captures.len())].1.clone();
        for _ in 0..=next(12) {
            let at = next(bytes.len());
            match next(5) {
                0 if next(4) == 0 => bytes.truncate(at.max(4)),
                1 => {
                    bytes.insert(at, 0);
                }
                _ => bytes[at] = u8::try_from(next(256)).expect("a byte"),
            }
        }
        let (_, status) = replayed(session, &bytes);
        assert!(matches!(status, Status::Ok | Status::Input), "seed {seed}: {status:?}");
    }
    for seed in 0..100 {
        let mut next = numbers(seed);
        let frames = (0..50).map(|ms| {
            let length = next(120);
            let mut frame: Vec<u8> =
                (0..length).map(|_| u8::try_from(next(256)).expect("a byte")).collect();
            if let Some(kind) = frame.get_mut(12..15) {
                kind.copy_from_slice(if next(2) == 0 {
                    &[8, 0, 0x45]
                } else {
                    &[0x86, 0xDD, 0x60]
                });
            }
            (ms, frame)
        });
        let frames: Vec<_> = frames.collect();
        for link in [1, 101, 113, 276, 0, 147] {
            let (_, status) = replayed(session, &pcap(link, &frames));
            assert_eq!(status, Status::Ok, "seed {seed}, link type {link}");
        }
    }
}

/// Memory is bounded by the limit of flows, whatever the capture holds.
#[test]
fn many_flows_stay_within_the_limit() {
    let flows = 10_300_u16;
    let packets = (0..flows).map(|n| {
        let from = format!("10.1.0.10:{}", 20_000 + n);
        (u64::from(n), on(1, &udp(&from, "10.2.0.10:9", u32::from(n))))
    });
    let packets: Vec<_> = packets.collect();
    let (report, status) = replayed(&mut session(), &pcap(1, &packets));
    let report = report.expect("it was replayed");
    assert_eq!((status, report.flows.len()), (Status::Ok, 10_000));
    let beyond = report.summary.skipped.first().expect("some are skipped");
    assert_eq!((beyond.packets, beyond.first), (300, 10_001));
    assert_eq!(report.summary.divergent, 0);
}
