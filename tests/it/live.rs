//! `trace --live`: real packets by the command line and in a session, beside simulated ones.

use std::process::Stdio;

use repl::reply::Status;

use crate::cli::run;
use crate::kernel;
use crate::lab::is_possible;

const WORLD: &str = "fixtures/worlds/two-nodes.hop";
const QUESTION: &str = "shop/client -> shop/server:80/tcp";

#[test]
fn a_real_packet_is_explained_and_held_against_simulation() {
    if !is_possible() {
        return;
    }
    let (text, code) = run(&["trace", "--live", "--compare", "-f", WORLD, QUESTION]);
    assert_eq!(code, 0, "{text}");
    for part in [
        "from-overlay, ",
        " later",
        "checked   a lab of its own, ",
        " simulates the same, hop by hop",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (text, code) = run(&["trace", "--live", "-f", WORLD, QUESTION, "-o", "json"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\"compared\": null") && text.contains("\"kernel\": null"), "{text}");
}

#[test]
fn a_session_sends_real_packets_and_refuses_what_it_must_not_send() {
    if !is_possible() {
        return;
    }
    let mut session = kernel::session();
    assert!(session.execute(&format!("load {WORLD}")).is_ok());
    let reply = session.execute(&format!("trace --live --count 2 {QUESTION}"));
    let text = kernel::text(&reply);
    assert!(text.contains("checked   a lab of its own, "), "{text}");
    let carrying = "trace --live shop/client -> shop/server:80/tcp payload \"x\"";
    assert_eq!(session.execute(carrying).status, Status::Usage);
    let expecting = |wanted: &str| format!("trace --live {QUESTION} => {wanted}");
    assert_eq!(session.execute(&expecting("allowed")).status, Status::Ok);
    assert_eq!(session.execute(&expecting("dropped")).status, Status::Negative);
    let sending = carrying.replace("--live", "--live --send");
    assert_eq!(session.execute(&sending).status, Status::Ok);
    for wrong in ["trace --compare a -> b:80", "trace --live --count 0 a -> b:80", "trace --live"] {
        assert_eq!(session.execute(wrong).status, Status::Input, "{wrong}");
    }
}

/// In a lab of a name: a probe, what others send, and that nothing came.
#[test]
fn a_probe_is_sent_in_a_lab_of_a_name_and_packets_of_others_are_caught() {
    if !is_possible() {
        return;
    }
    let home = crate::labs::named::Home::new("live");
    let run = |arguments: &[&str]| {
        let output = home.hopwise(arguments).output().expect("it runs");
        let text =
            [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned());
        (text.concat(), output.status.code().unwrap_or(-1))
    };
    let (text, code) = run(&["lab", "up", "demo", "-f", WORLD]);
    assert_eq!(code, 0, "{text}");
    let (text, code) = run(&["trace", "--live", "--on", "demo", "--compare", QUESTION]);
    assert_eq!(code, 0, "{text}");
    for part in ["ALLOWED", "from-overlay, ", " later", " simulates the same, hop by hop"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (text, code) = run(&["trace", "--live", "--drops", "--timeout", "300ms", QUESTION]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("no drop seen in 0."), "{text}");
    assert!(text.contains("0 events lost"), "{text}");
    let waiting = ["trace", "--live", "--wait", "--timeout", "5s", QUESTION];
    let waiting = home.hopwise(&waiting).stdout(Stdio::piped()).spawn().expect("it runs");
    // Nobody listens at the port, which the pod's kernel says; another port is not asked about.
    let knock = "for n in $(seq 40); do (exec 3<>/dev/tcp/10.2.0.10/81); (exec 3<>/dev/tcp/10.2.0.10/80); sleep 0.1; done 2>/dev/null";
    let knocking = ["lab", "exec", "--lab", "demo", "shop/client", "--", "bash", "-c", knock];
    let mut knocking = home.hopwise(&knocking).spawn().expect("it runs");
    let caught = waiting.wait_with_output().expect("it ends");
    drop(knocking.kill());
    drop(knocking.wait());
    let text = String::from_utf8_lossy(&caught.stdout);
    assert!(caught.status.success(), "{text}");
    assert!(text.contains("shop/client 10.1.0.10:") && text.contains("10.2.0.10:80 "), "{text}");
    for part in ["ALLOWED", "from-overlay, ", " later", "caught as it passed"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (text, code) = run(&["trace", "--live", "--wait", "--compare", QUESTION]);
    assert_eq!((code, text.contains("is not simulated")), (2, true), "{text}");
    let (text, code) = run(&["trace", "--live", "--on", "demo", "-f", WORLD, QUESTION]);
    assert_eq!((code, text.contains("cannot be used with")), (2, true), "{text}");
    let (text, code) = run(&["trace", "--live", "--on", "nowhere", QUESTION]);
    assert_eq!((code, text.contains("there is demo")), (3, true), "{text}");
    let (text, code) = run(&["trace", "--live", "--on", "demo", QUESTION, "payload", "x"]);
    assert_eq!((code, text.contains("--send")), (2, true), "{text}");
}

/// Questions that name no lab are about the one that the session holds.
#[test]
fn a_session_that_holds_a_lab_sends_its_probes_there() {
    if !is_possible() {
        return;
    }
    let mut session = kernel::session();
    let world = "cluster lab {\n  host-routing stack\n  node node01 { ip 192.168.1.1 pods 10.1.0.0/24 }\n}\nnamespace shop {}\npod shop/client on node01 { ip 10.1.0.10 }\npod shop/near on node01 { ip 10.1.0.11 }\nexternal far { ip 203.0.113.9 }\n";
    let folder = crate::cli::Folder::new("held", &[("held.hop", world.as_bytes())]);
    let mut says = |line: &str, said: &[&str]| {
        let text = kernel::text(&session.execute(line));
        let missing = said.iter().find(|said| !text.contains(*said));
        assert_eq!(missing, None, "{line}: {text}");
    };
    says(&format!("load {}", folder.path("held.hop")), &[]);
    says("lab up", &["a lab is up"]);
    let question = "trace --live shop/client -> far:80";
    says(question, &["ALLOWED", "checked   the session's lab, kernel "]);
    says("trace --live --compare --count 2 shop/client -> far:80", &["simulates the same"]);
    says("trace --live shop/client -> far:80 payload \"x\"", &["--send"]);
    says("trace --live shop/client -> far:80 with reply", &["are about simulation"]);
    let request = "trace --live shop/client -> shop/near:80 http GET \"/\"";
    says(request, &["the session's lab", "was not sent: the connection was refused"]);
    let stop = "for f in /proc/sys/net/ipv4/conf/*/forwarding; do echo 0 > $f; done";
    says(&format!("lab exec node01 -- bash -c '{stop}'"), &[]);
    says(question, &["UNDECIDED  left node01 eth0; "]);
    says("lab down", &["the lab is down"]);
    says(question, &["ALLOWED", "checked   a lab of its own, kernel "]);
}

/// A node that forwards nothing drops what a program gave it to route; the kernel says so where it can be asked.
#[test]
fn what_the_kernel_drops_itself_is_told_with_its_own_reason() {
    if !is_possible() {
        return;
    }
    let home = crate::labs::named::Home::new("drop");
    let world = "cluster lab {\n  host-routing stack\n  node node01 { ip 192.168.1.1 pods 10.1.0.0/24 }\n}\nnamespace shop {}\npod shop/client on node01 { ip 10.1.0.10 }\nexternal far { ip 203.0.113.9 }\n";
    let folder = crate::cli::Folder::new("drop", &[("drop.hop", world.as_bytes())]);
    let run = |arguments: &[&str]| {
        crate::binary::seen(&home.hopwise(arguments).output().expect("it runs"))
    };
    let (text, code) = run(&["lab", "up", "demo", "-f", &folder.path("drop.hop")]);
    assert_eq!(code, 0, "{text}");
    let question = ["trace", "--live", "--on", "demo", "shop/client -> far:80"];
    let (text, code) = run(&question);
    assert_eq!((code, text.contains("ALLOWED")), (0, true), "{text}");
    let stop = "for f in /proc/sys/net/ipv4/conf/*/forwarding; do echo 0 > $f; done";
    let (text, code) = run(&["lab", "exec", "node01", "--", "bash", "-c", stop]);
    assert_eq!(code, 0, "{text}");
    let (text, code) = run(&question);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("UNDECIDED  left node01 eth0; "), "{text}");
    if !text.contains("dropped it itself, outside of our programs: ") {
        assert!(text.contains("the kernel's own drops"), "{text}");
        kernel::skip(&format!("this host does not tell the kernel's own drops:\n{text}"));
    }
}

/// Devices that somebody sets down, and what does not fit them; also inside the tunnel the kernel's reason is that of the packet.
#[test]
fn what_is_lost_between_programs_is_told_with_the_device_that_is_broken() {
    if !is_possible() {
        return;
    }
    let home = crate::labs::named::Home::new("lost");
    let run = |arguments: &[&str]| {
        crate::binary::seen(&home.hopwise(arguments).output().expect("it runs"))
    };
    let live = |question: &[&str], code: i32, said: &[&str]| {
        let (text, came) = run(&[&["trace", "--live", "--on", "demo"], question].concat());
        let all = said.iter().all(|part| text.contains(part));
        assert!(
            came == code && all,
            "{question:?} ended with {came}, not {code} {said:?}:\n{text}"
        );
        text
    };
    let set = |place: &str, device: &str, state: &str| {
        let (text, code) = run(&["lab", "exec", place, "--", "ip", "link", "set", device, state]);
        assert_eq!(code, 0, "{text}");
    };
    let (text, code) = run(&["lab", "up", "demo", "-f", WORLD]);
    assert_eq!(code, 0, "{text}");
    let text = live(&["--count", "2", QUESTION], 0, &["ALLOWED"]);
    assert_eq!(text.matches("ALLOWED").count(), 2, "{text}");
    live(&["shop/client -> shop/server length 1800"], 3, &["1800 bytes", "MTU is 1500"]);
    live(&["shop/client -> shop/server:80 length 1400"], 2, &["`length`", "--send"]);
    live(&["shop/client -> shop/server udp fragment offset 1480"], 0, &["fragment-not-found"]);

    set("node02", "vxlan0", "down");
    let lost = ["UNDECIDED  left node01 vxlan0", "broken    vxlan0 of node02 is down"];
    let text = live(&[QUESTION], 0, &lost);
    if !text.contains("dropped it itself, outside of our programs: NO_SOCKET") {
        assert!(text.contains("the kernel's own drops"), "{text}");
        kernel::skip(&format!("this host does not tell the kernel's own drops:\n{text}"));
    }
    let names = ["at step 2: program", "from-overlay of vxlan0 on node02", "nothing was seen"];
    live(&["--compare", QUESTION], 1, &names);
    live(&["--compare", "--level", "minimal", QUESTION], 1, &names);
    for (command, said) in [
        (&["lab", "list"][..], "demo is broken: vxlan0 of node02 is down"),
        (&["lab", "apply", "-f", WORLD], "it is broken: vxlan0 of node02 is down"),
        (&["lab", "apply", "-f", WORLD], "lab demo is what the files say already"),
    ] {
        let (text, code) = run(command);
        assert!(code == 0 && text.contains(said), "{command:?}: {text}");
    }
    set("node02", "vxlan0", "up");
    let (text, _) = run(&["lab", "list"]);
    assert!(!text.contains("broken"), "{text}");

    set("shop/server", "eth0", "down");
    live(&[QUESTION], 0, &["UNDECIDED  left node02 lxc", "broken    eth0 of shop/server is down"]);
    set("shop/server", "eth0", "up");
    set("shop/client", "eth0", "down");
    live(&[QUESTION], 3, &["shop/client sends nothing: its eth0 is down", "link set eth0 up"]);
    set("shop/client", "eth0", "up");
    live(&[QUESTION], 0, &["ALLOWED"]);
}

const SERVICE: &str = "cluster lab {
  node node01 { ip 192.168.1.1 pods 10.1.0.0/24, fd00:1::/64 }
  node node02 { ip 192.168.1.2 pods 10.2.0.0/24, fd00:2::/64 }
}
namespace shop {}
pod shop/client on node01 { ip 10.1.0.10, fd00:1::10 }
pod shop/server on node02 { ip 10.2.0.10, fd00:2::10 labels { app = \"server\" } }
pod shop/closed on node02 { ip 10.2.0.11, fd00:2::11 }
service shop/web { cluster-ip 10.96.0.20 port 80/tcp -> 8080 select { app = \"server\" } }
policy shop/closed {
  select { }
  deny ingress from entities all on 9/udp
  allow ingress from entities all
}
";

/// What a question says of packets holds for those that are caught; what went to the backend of a service by itself is none of the service's.
#[test]
fn what_is_caught_is_what_was_asked_for() {
    if !is_possible() {
        return;
    }
    let home = crate::labs::named::Home::new("kind");
    let folder = crate::cli::Folder::new("kind", &[("kind.hop", SERVICE.as_bytes())]);
    let run = |arguments: &[&str]| {
        crate::binary::seen(&home.hopwise(arguments).output().expect("it runs"))
    };
    let (text, code) = run(&["lab", "up", "demo", "-f", &folder.path("kind.hop")]);
    assert_eq!(code, 0, "{text}");
    let live = |arguments: &[&str], code: i32, said: &[&str]| {
        let (text, came) = run(&[&["trace", "--live", "--on", "demo"], arguments].concat());
        let all = said.iter().all(|part| text.contains(part));
        assert!(came == code && all, "{arguments:?}: {came}, not {code} {said:?}:\n{text}");
        text
    };
    let knock = |what: &str| {
        let knock = format!("for n in $(seq 100); do {what}; sleep 0.1; done 2>/dev/null");
        let exec = ["lab", "exec", "--lab", "demo", "shop/client", "--", "bash", "-c", &knock];
        home.hopwise(&exec).stdout(Stdio::null()).spawn().expect("it runs")
    };
    let waits = |question: &'static str| ["--wait", "--timeout", "2s", question];
    let mut direct = knock("(exec 3<>/dev/tcp/10.2.0.10/8080)");
    let none = ["no packet seen in 2.", "0 events lost"];
    live(&waits("shop/client -> shop/web:80"), 1, &none);
    live(&waits("shop/client -> shop/server:8080 ip6"), 1, &none);
    live(&waits("shop/client -> shop/server:8080 ttl 7"), 1, &none);
    live(&waits("shop/client -> shop/server icmp"), 1, &none);
    // Nobody listens there, so that the server's kernel answers with a reset.
    let way = ["tunneled node02 -> node01", "node02 lxc", "RST"];
    live(&waits("shop/server -> shop/client => allowed"), 0, &way);
    live(&waits("shop/server -> shop/client tcp from-port 8080 => dropped"), 1, &["unmet"]);
    let text = live(
        &["--wait", "--timeout", "300ms", "-o", "json", "shop/client -> shop/server:9"],
        1,
        &[],
    );
    let document = serde_json::from_str(&text).expect("it is JSON");
    crate::documents::validate(&crate::documents::strict(), "missed", &document);
    assert_eq!(document["kind"], "missed", "{text}");
    drop(direct.kill());
    drop(direct.wait());
    let mut service = knock("(exec 3<>/dev/tcp/10.96.0.20/80); echo x > /dev/udp/10.2.0.11/9");
    let text =
        live(&waits("shop/client -> shop/web:80"), 0, &["node01 lxc", "shop/web 10.96.0.20:80"]);
    assert!(!text.contains("was not observed"), "{text}");
    live(&["--drops", "--timeout", "5s"], 0, &["DROPPED", "shop/closed"]);
    drop(service.kill());
    drop(service.wait());
    live(&waits("shop/client -> shop/server:80 length 60"), 3, &["not told apart"]);
    live(&["shop/client -> shop/server:80 => dropped"], 1, &["ALLOWED", "unmet"]);
    live(&["shop/client -> shop/server:80 => alowed"], 3, &["error[HW"]);
    live(&["shop/client -> shop/server:80", "--expect", "allowed, tunneled"], 0, &["ALLOWED"]);
    let (text, code) = run(&["trace", "--live", "--on", "demo"]);
    assert_eq!((code, text.contains("QUESTION")), (2, true), "{text}");
}

/// A session that holds a lab sends in that one, and in no other.
#[test]
fn a_session_sends_in_the_lab_that_it_holds() {
    if !is_possible() {
        return;
    }
    let mut session = kernel::session();
    let mut does = |line: &str, said: &str| {
        let reply = session.execute(line);
        let text = kernel::text(&reply);
        assert!(reply.status == Status::Ok && text.contains(said), "{line}: {text}");
    };
    does(&format!("load {WORLD}"), "");
    does("lab up", "a lab is up");
    let question = format!("trace --live {QUESTION}");
    does(&format!("trace --live --count 2 --compare {QUESTION} => allowed"), "simulates the same");
    does("lab exec node02 -- ip link set vxlan0 down", "");
    does(&question, "broken    vxlan0 of node02 is down");
    does("lab exec node02 -- ip link set vxlan0 up", "");
    does(&question, "ALLOWED");
    does("lab down", "the lab is down");
    does(&question, "ALLOWED");
}
