//! `hopwise monitor` on real traffic of a lab: what it says of each packet, every filter, all its forms, and how it counts.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use datapath::lab::namespace::Namespace;
use datapath::live::install::State;
use jsonschema::Validator;
use serde_json::Value;

use crate::cli::Folder;
use crate::documents::{strict, validate};
use crate::lab::is_possible;
use crate::labs::named::Home;
use crate::labs::wire::Ping;

const WORLD: &str = r#"cluster lab {
  node node01 { ip 192.168.1.1 pods 10.1.0.0/24 }
  node node02 { ip 192.168.1.2 pods 10.2.0.0/24 }
}
namespace shop { labels { team = "storefront" } }
namespace bank {}
pod shop/client on node01 { ip 10.1.0.10 labels { app = "client" } }
pod bank/stranger on node01 { ip 10.1.0.11 labels { app = "stranger" } }
pod shop/server on node02 { ip 10.2.0.10 labels { app = "server" } }
policy shop/server {
  owner "team-storefront"
  select { app = "server" }
  allow ingress as web from pods { app = "client" } on 80/tcp
  allow ingress as names from pods { app = "client" } on 53/udp
  allow ingress as ping from pods { app = "client" } on icmp echo-request
}
"#;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 10);

/// Pods that ask the server again and again, one of whom may not.
struct Traffic {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    fn of(client: Namespace, stranger: Namespace) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        let server = |port| SocketAddr::from((SERVER, port));
        let (soon, web, names) = (Duration::from_millis(40), server(80), server(53));
        let thread = std::thread::spawn(move || {
            let socket = client.within(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
            let mut ping = Ping::open(&client, SERVER.into()).expect("a socket");
            while !is_over.load(Ordering::Relaxed) {
                // Nobody listens, which the server's kernel says; to the stranger nobody says anything.
                drop(client.within(|| TcpStream::connect_timeout(&web, soon)));
                drop(stranger.within(|| TcpStream::connect_timeout(&web, soon)));
                drop(socket.send_to(b"?", names));
                drop(ping.ask(soon));
            }
        });
        Self { ends, thread: Some(thread) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A lab of the world with traffic in it.
struct Scene {
    schema: Validator,
    home: Home,
    folder: Folder,
    _traffic: Traffic,
}

impl Scene {
    fn new(name: &str) -> Self {
        let home = Home::new(name);
        let folder = Folder::new(name, &[("world.hop", WORLD.as_bytes())]);
        let up = home.hopwise(&["lab", "up", "demo", "-f", &folder.path("world.hop")]);
        let (text, code) = ended(up);
        assert_eq!(code, 0, "{text}");
        let state = State::at(home.path().to_owned());
        let space = |pod: &str| Namespace::open(&state.namespace("demo", pod)).expect(pod);
        let traffic = Traffic::of(space("shop/client"), space("bank/stranger"));
        Self { schema: strict(), home, folder, _traffic: traffic }
    }

    /// What a monitor prints on standard output; it ends well.
    fn monitor(&self, arguments: &[&str]) -> (String, String) {
        let mut command = self.home.hopwise(&["monitor", "--on", "demo", "--for", "20s"]);
        let output = command.args(arguments).output().expect("hopwise starts");
        let [out, err] = [output.stdout, output.stderr];
        let [out, err] = [out, err].map(|part| String::from_utf8_lossy(&part).into_owned());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {out}{err}");
        (out, err)
    }

    /// The same as documents, each held against the schema; the last one is of the sums.
    fn lines(&self, arguments: &[&str]) -> (Vec<Value>, Value) {
        let (out, _) = self.monitor(&[arguments, &["-o", "jsonl"]].concat());
        let lines = out.lines().map(|line| {
            let line: Value = serde_json::from_str(line).expect(line);
            validate(&self.schema, &format!("monitor {arguments:?}"), &line);
            line
        });
        let mut lines: Vec<Value> = lines.collect();
        let sums = lines.pop().expect("sums");
        assert_eq!(sums["kind"], "sums", "{sums}");
        lines.retain(|line| line["kind"] == "sighting");
        (lines.into_iter().map(|mut line| line["sighting"].take()).collect(), sums)
    }
}

fn ended(mut command: std::process::Command) -> (String, i32) {
    crate::binary::seen(&command.output().expect("hopwise starts"))
}

/// The names of the rules that decided.
fn rules(seen: &Value) -> String {
    seen["decidedBy"].to_string()
}

#[test]
fn each_packet_is_told_with_names_labels_verdict_rule_and_reason() {
    if !is_possible() {
        return;
    }
    let scene = Scene::new("seen");
    let (text, sums) = scene.monitor(&["--count", "60"]);
    let line = |parts: &[&str]| {
        let found = text.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found.is_some(), "{parts:?}:\n{text}");
    };
    let client = "shop/client 10.1.0.10:";
    let place = |line: u32| format!("world.hop:{line}:3 (owner team-storefront)");
    line(&["node01 lxc_client from-container", client, "{app=client} in shop)", "tunnel vxlan"]);
    line(&["from-overlay", "10.2.0.10:80", "ALLOWED", "by shop/server#web", &place(13)]);
    line(&["from-overlay", "10.2.0.10:53", "UDP", "by shop/server#names", &place(14)]);
    line(&["from-overlay", "ICMP echo request", "by shop/server#ping", &place(15)]);
    line(&["lxc_server from-container", "-> shop/client", "TCP RST", "conntrack reply"]);
    line(&[
        "node02 vxlan0 from-overlay bank/stranger 10.1.0.11:",
        "{app=stranger} in bank) -> shop/server 10.2.0.10:80 (",
        "TCP SYN  DROPPED  policy-denied (133), conntrack new, ingress of shop/server default-deny",
        "isolated by shop/server ",
    ]);
    for part in ["watched   ", "; as many as asked for", "shown     60 of ", "lost      0 of "] {
        assert!(sums.contains(part), "{part}: {sums}");
    }
}

/// What a filter admits: arguments, and whether a sighting fits.
type Admitted = (&'static [&'static str], fn(&Value) -> bool);

fn either(seen: &Value, fits: impl Fn(&Value) -> bool) -> bool {
    fits(&seen["source"]) || fits(&seen["destination"])
}

const FILTERS: &[Admitted] = &[
    (&["--pod", "bank/stranger"], |seen| either(seen, |side| side["name"] == "bank/stranger")),
    (&["--namespace", "bank"], |seen| either(seen, |side| side["name"] == "bank/stranger")),
    (&["--label", "app=stranger"], |seen| either(seen, |side| side["name"] == "bank/stranger")),
    (&["--port", "53"], |seen| either(seen, |side| side["port"] == 53)),
    (&["--verdict", "dropped"], |seen| seen["verdict"] == "dropped"),
    (&["--verdict", "allowed"], |seen| seen["verdict"] == "allowed"),
    (&["--reason", "policy-denied"], |seen| seen["reason"]["name"] == "policy-denied"),
    (&["--node", "node02"], |seen| seen["node"] == "node02"),
    (&["--pod", "client", "--port", "80", "--node", "node02", "--verdict", "allowed"], |seen| {
        seen["node"] == "node02"
            && either(seen, |side| side["name"] == "shop/client")
            && either(seen, |side| side["port"] == 80)
    }),
];

#[test]
fn filters_admit_what_they_say_and_nothing_else() {
    if !is_possible() {
        return;
    }
    let scene = Scene::new("chosen");
    for (arguments, fits) in FILTERS {
        let (seen, sums) = scene.lines(&[arguments, &["--count", "6"][..]].concat());
        assert_eq!(seen.len(), 6, "{arguments:?}: {sums}");
        for one in &seen {
            assert!(fits(one), "{arguments:?}: {one}");
        }
        let report = &sums["report"];
        assert_eq!((&report["shown"], &report["lost"]), (&6.into(), &0.into()), "{sums}");
    }
    for (flag, value, said) in [
        ("--pod", "clinet", "did you mean `shop/client`?"),
        ("--namespace", "bnak", "did you mean `bank`?"),
        ("--node", "n9", "there are node01, node02"),
        ("--identity", "99999", "there are "),
    ] {
        let (text, code) = ended(scene.home.hopwise(&["monitor", flag, value, "--for", "1s"]));
        assert!(code == 3 && text.contains(said) && text.contains(value), "{code}: {text}");
    }
    // An identity is one of those that were seen.
    let (seen, _) = scene.lines(&["--pod", "stranger", "--verdict", "dropped", "--count", "1"]);
    let identity = seen[0]["source"]["identity"].to_string();
    let (seen, _) = scene.lines(&["--identity", &identity, "--count", "4"]);
    assert!(seen.iter().all(|one| either(one, |side| side["name"] == "bank/stranger")), "{seen:?}");
    let (seen, _) = scene.lines(&["--verdict", "dropped", "--count", "3"]);
    assert!(seen.iter().all(|one| rules(one).contains("default-deny")), "{seen:?}");
}

#[test]
fn what_was_seen_is_drawn_and_written_for_other_tools() {
    if !is_possible() {
        return;
    }
    let scene = Scene::new("drawn");
    let file = scene.folder.path("seen.pcapng");
    let (out, err) = scene.monitor(&["--count", "40", "--graph", "mermaid", "--pcap", &file]);
    for part in [
        "graph LR",
        "[\"shop/client\"]",
        "[\"bank/stranger\"]",
        "80/tcp: ",
        " dropped (policy-denied)",
    ] {
        assert!(out.contains(part), "{part}: {out}{err}");
    }
    assert!(err.contains("lost      0 of "), "{err}");
    holds_comments(Path::new(&file));
    // The capture is of ours, and may be written again.
    let (out, _) = scene.monitor(&["--count", "40", "--graph", "dot", "--pcap", &file]);
    assert!(out.starts_with("digraph") && out.contains("\"shop/server\""), "{out}");
}

/// A capture with a packet of each kind, whose comments are the monitor's lines.
fn holds_comments(file: &Path) {
    let bytes = std::fs::read(file).expect("it was written");
    assert_eq!(bytes[..4], [0x0A, 0x0D, 0x0D, 0x0A], "pcapng");
    let text = String::from_utf8_lossy(&bytes);
    for part in ["DROPPED  policy-denied (133)", "by shop/server#web", "lxc_client"] {
        assert!(text.contains(part), "{part}");
    }
    let file = file.display().to_string();
    let (text, code) = crate::cli::run(&["replay", &file, "-f", "fixtures/worlds/two-nodes.hop"]);
    assert!(code <= 1, "another tool of ours reads it: {text}");
}
