//! `attach`, `status` and `detach` on devices that are there already: in namespaces that the tests make, with pods on a node that routes
//! between them, as other networks do. What is attached there has a state of its own.

mod beside;
mod caught;
mod flowing;
mod foreign;
mod killed;
mod machine;
mod moved;
mod services;
mod told;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use serde_json::Value;

use crate::documents::{strict, validate};
use machine::{Machine, until};

/// What programs dropped, or would, and what they let pass, over all hooks.
fn counted(machine: &Machine) -> (u64, u64) {
    let status = machine.json(&["status", "one"], 0);
    let rows = status["items"].as_array().expect("rows");
    assert_eq!(rows.len(), 2, "{status:#}");
    assert!(rows.iter().all(|row| row["state"] == "attached"), "{status:#}");
    let sum = |key: &str| rows.iter().filter_map(|row| row[key].as_u64()).sum();
    (sum("passed"), sum("dropped"))
}

#[test]
fn observing_changes_nothing_and_says_what_the_verdict_would_be() {
    let Some(machine) = Machine::open(1, "") else { return };
    let (denied, allowed) = (machine.serve(22), machine.serve(80));
    let before = machine.occupants();
    let mut old = machine.connect(denied.port()).expect("nobody is there yet");
    Machine::echo(&mut old);

    let attached = machine.json(&["attach", "one", "-f", &machine.world], 0);
    let validator = strict();
    validate(&validator, "attach", &attached);
    assert_eq!(attached["items"][1]["pod"], "shop/server");
    assert_eq!(attached["items"][1]["device"], "cali-b");
    for _ in 0..5 {
        Machine::echo(&mut old);
    }
    let (passed, dropped) = counted(&machine);
    assert!(passed > 0, "the old connection is seen");
    assert_eq!(dropped, 0, "what is older than the programs is no would-be drop");

    let mut new = machine.connect(denied.port()).expect("observed packets pass");
    Machine::echo(&mut new);
    let (_, dropped) = counted(&machine);
    assert!(dropped > 0, "its beginning was seen, and no rule allows it");
    let mut fine = machine.connect(allowed.port()).expect("observed packets pass");
    Machine::echo(&mut fine);
    assert_eq!(counted(&machine).1, dropped, "what a rule allows would not be dropped");

    let detached = machine.json(&["detach", "one"], 0);
    validate(&validator, "detach", &detached);
    assert_eq!(machine.occupants(), before);
    assert!(!machine.state.exists(), "nothing is left of it");
    Machine::echo(&mut old);
}

/// A connection that is older than the programs is of unknown state with each of its packets, also where a rule allows them; and programs
/// that told somebody who was killed are told to be quiet.
#[test]
fn an_older_connection_stays_unknown_and_nobody_is_told_for_ever() {
    let Some(machine) = Machine::open(9, "") else { return };
    let web = machine.serve(80);
    let mut old = machine.connect(web.port()).expect("nobody is there yet");
    Machine::echo(&mut old);
    machine.run(&["attach", "one", "-f", &machine.world], 0);
    let monitor = |rest: &[&str]| {
        let mut monitor = machine.command(&[&["monitor", "--on", "one"], rest].concat());
        monitor.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        monitor.spawn().expect("hopwise runs")
    };
    let state = datapath::live::install::State::at(machine.state.clone());
    let tells = || state.programs("one", "node01").is_ok_and(|programs| programs.mode().trace);
    Machine::echo(&mut old);
    let seeing = monitor(&["--port", "80", "--count", "8", "--for", "8s", "-o", "json"]);
    until("they tell", tells);
    for _ in 0..10 {
        Machine::echo(&mut old);
    }
    let said = seeing.wait_with_output().expect("it ends").stdout;
    let said = String::from_utf8(said).expect("text");
    let document: Value = serde_json::from_str(&said).expect("a document");
    let lists =
        document.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_array());
    let verdicts: Vec<&str> = lists.flatten().filter_map(|item| item["verdict"].as_str()).collect();
    assert_eq!(verdicts, ["unknown-state"; 8], "{said}");
    assert!(!tells(), "it ended");

    let mut killed = monitor(&[]);
    until("they tell", tells);
    assert!(!machine.run(&["status"], 0).contains("killed"), "somebody listens");
    killed.kill().expect("it runs");
    killed.wait().expect("it ends");
    assert!(tells(), "nobody told them");
    assert!(machine.run(&["status"], 0).contains("one: whoever listened was killed"));
    assert!(!tells() && !machine.run(&["status"], 0).contains("killed"));
    let down = machine.run(&["lab", "down", "--all"], 0);
    assert_eq!(down.trim(), "there was no lab; attached: one (`hopwise detach --all`)");
    machine.run(&["detach"], 0);
}

#[test]
fn enforcing_decides_for_a_time_and_then_lets_everything_pass() {
    let Some(machine) = Machine::open(2, "") else { return };
    let (denied, allowed) = (machine.serve(22), machine.serve(80));
    let enforce = ["attach", "one", "-f", &machine.world, "--enforce"];
    machine.run(&[&enforce[..], &["--for", "4s"]].concat(), 0);
    assert!(machine.connect(denied.port()).is_err(), "no rule allows it");
    Machine::echo(&mut machine.connect(allowed.port()).expect("a rule allows it"));
    until("its time is over", || machine.connect(denied.port()).is_ok());
    until("it is gone by itself", || !machine.state.exists());

    machine.run(&[&enforce[..], &["--for", "1h"]].concat(), 0);
    assert!(machine.run(&["status"], 0).contains("everything passes after 59 min"));
    assert!(machine.run(&["attach", "one", "--confirm"], 0).contains("stays until"));
    assert!(!machine.run(&["status"], 0).contains("everything passes"));
    machine.run(&["attach", "one", "--confirm"], 3);
    assert!(machine.connect(denied.port()).is_err(), "it still decides");
    machine.run(&["detach"], 0);
    assert!(machine.connect(denied.port()).is_ok(), "nobody decides any more");
}

#[test]
fn what_is_attached_survives_its_maker_and_changes_without_a_lost_packet() {
    let Some(machine) = Machine::open(3, "") else { return };
    let (ssh, web) = (machine.serve(22), machine.serve(80));
    let mut made = machine.command(&["attach", "one", "-f", &machine.world, "--enforce"]);
    made.args(["--metrics", "127.0.0.1:0"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut made = made.spawn().expect("hopwise runs");
    let mut said = BufReader::new(made.stderr.take().expect("its errors"));
    let url = machine::url(&mut said);
    assert!(machine.connect(ssh.port()).is_err());
    Machine::echo(&mut machine.connect(web.port()).expect("a rule allows it"));
    until("drops are told by workload", || {
        let text = scraped(&url);
        text.contains("hopwise_dropped_packets_total{installation=\"one\",mode=\"enforce\",node=\"node01\",direction=\"ingress\",reason=\"policy-denied\",source_namespace=\"shop\",source_workload=\"client\",destination_namespace=\"shop\",destination_workload=\"server\"}")
            && text.contains("policy=\"shop/server\",rule=\"web\",verdict=\"allow\"}")
            && text.contains("hopwise_bpf_map_capacity{installation=\"one\",mode=\"enforce\",node=\"node01\",map=\"ct4\"}")
    });
    made.kill().expect("it runs");
    made.wait().expect("it ends");
    assert!(machine.connect(ssh.port()).is_err(), "programs go on without it");

    let open = machine.file("open.hop", &machine.text().replace("on 80/tcp", "on 80/tcp, 22/tcp"));
    let closed = machine.world.clone();
    let generation =
        |machine: &Machine| machine.json(&["status", "one"], 0)["items"][0]["generation"].as_u64();
    let lost = machine.while_it_flows(web.port(), || {
        for (number, file) in (2..).zip([&open, &closed, &open]) {
            machine.run(&["attach", "one", "-f", file, "--enforce"], 0);
            assert_eq!(generation(&machine), Some(number));
        }
    });
    assert_eq!(lost, 0, "a connection flows on while its programs change");
    Machine::echo(&mut machine.connect(ssh.port()).expect("a rule allows it now"));
    machine.run(&["detach", "--all"], 0);
}

/// What is served at an address.
fn scraped(url: &str) -> String {
    let address = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/metrics"));
    let mut stream = TcpStream::connect(address.expect("an address")).expect("it is served");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it is heard");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    body.to_owned()
}

#[test]
fn metrics_end_with_the_attachment_and_on_demand() {
    let Some(machine) = Machine::open(4, "") else { return };
    for ends_by in ["a signal", "detaching"] {
        let mut serving = machine.command(&["attach", "one", "-f", &machine.world]);
        serving.args(["--metrics", "127.0.0.1:0"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut serving = serving.spawn().expect("hopwise runs");
        let mut said = BufReader::new(serving.stderr.take().expect("its errors"));
        let url = machine::url(&mut said);
        if let Some(programs) = std::env::var_os("HOPWISE_PROMETHEUS") {
            crate::metrics::is_well_formed(programs.as_ref(), &scraped(&url));
        }
        let taken = url.trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
        let second = ["attach", "one", "-f", &machine.world, "--metrics", &taken];
        assert!(machine.run(&second, 4).contains("reads the events of"));
        if ends_by == "a signal" {
            machine::interrupt(serving.id());
        } else {
            machine.run(&["detach", "one"], 0);
        }
        let status = serving.wait().expect("it ends");
        assert_eq!(status.code(), Some(0), "by {ends_by}");
        let mut rest = String::new();
        said.read_line(&mut rest).expect("it is closed");
        assert_eq!(rest, "");
    }
}

#[test]
fn what_cannot_be_enforced_there_is_refused() {
    let Some(machine) = Machine::open(5, "") else { return };
    let enforce = |file: &str, code: i32, words: &str| {
        let said = machine.run(&["attach", "two", "-f", file, "--enforce"], code);
        assert!(said.contains(words), "{words}: {said}");
        assert!(!machine.state.join("two").exists(), "nothing is left of it");
    };
    let changed = |name: &str, from: &str, to: &str| {
        assert!(machine.text().contains(from), "{from}");
        machine.file(name, &machine.text().replace(from, to))
    };
    let firewall = changed("firewall.hop", "tunnel none", "tunnel none host-firewall on");
    enforce(&firewall, 3, "`host-firewall on` protects the nodes' own devices");
    let prefilter = changed("prefilter.hop", "tunnel none", "tunnel none prefilter 10.9.0.0/16");
    enforce(&prefilter, 3, "`prefilter` protects the nodes' own devices");
    let http = changed("http.hop", "on 80/tcp", "on 80/tcp { http GET path = \"/\" }");
    enforce(&http, 3, "HW0005");
    let nobody = machine.file(
        "nobody.hop",
        "cluster c { node n { ip 192.168.1.1 pods 10.250.0.0/24 } }\nnamespace a {}\npod a/b on n { ip 10.250.0.9 }\n",
    );
    enforce(&nobody, 4, "no pod of this world has a device");

    // A program of somebody else: one of another installation's, which only observes.
    machine.run(&["attach", "one", "-f", &machine.world], 0);
    let status = machine.json(&["status", "one"], 0);
    let id = status["items"][0]["program"].as_u64().expect("its number");
    enforce(
        &machine.world,
        4,
        &format!("program `from_container` (id {id}, ingress) sits on cali-a"),
    );
    let beside = machine.run(&["attach", "two", "-f", &machine.world], 0);
    assert!(beside.contains(&format!("beside program `from_container` (id {id}")), "{beside}");
    assert!(machine.run(&["detach"], 3).contains("name one of them"));
    let none: Value = machine.json(&["status", "three"], 3);
    assert_eq!(none["kind"], "failure");
    machine.run(&["detach", "--all"], 0);
    assert!(!machine.state.exists(), "nothing is left of it");
}

/// A clsact qdisc goes where it was put for this, and stays where it was.
#[test]
fn qdiscs_are_as_they_were_afterwards() {
    let Some(machine) = Machine::open(6, "clsact") else { return };
    machine.tc("qdisc add dev cali-b clsact");
    machine.tc("filter add dev cali-b ingress protocol ip bpf bytecode 1,6\u{a0}0\u{a0}0\u{a0}0 flowid 1:1");
    let seen = |machine: &Machine| {
        (machine.tc("qdisc show"), machine.tc("filter show dev cali-b ingress"))
    };
    let before = seen(&machine);
    let web = machine.serve(80);
    machine.run(&["attach", "one", "-f", &machine.world], 0);
    assert!(machine.tc("qdisc show dev cali-a").contains("clsact"));
    Machine::echo(&mut machine.connect(web.port()).expect("observed packets pass"));
    assert!(counted(&machine).0 > 0, "programs run");
    let said = machine.run(&["attach", "two", "-f", &machine.world, "--enforce"], 4);
    assert!(said.contains("sits on cali-a already"), "{said}");
    machine.run(&["attach", "one", "-f", &machine.world], 0);
    assert!(counted(&machine).0 > 0, "and go on");
    machine.run(&["detach", "one"], 0);
    let after = seen(&machine);
    assert_eq!(after, before);
}
