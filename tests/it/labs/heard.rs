//! Who listens to labs: the session that holds one; and what is said of those that were killed while they listened.

use std::process::Stdio;
use std::time::{Duration, Instant};

use datapath::live::install::State;

use super::named::Home;
use crate::kernel;
use crate::lab::is_possible;

const WORLD: &str = "fixtures/worlds/two-nodes.hop";
/// Connections to the server, one after another, for some seconds; nobody listens there, which its kernel says.
const KNOCK: &str =
    "for n in $(seq 60); do (exec 3<>/dev/tcp/10.2.0.10/80); sleep 0.1; done >/dev/null 2>&1 &";

/// A monitor that is killed leaves programs telling: whoever looks at labs next notices, and makes them quiet.
#[test]
fn a_listener_that_was_killed_is_noticed() {
    if !is_possible() {
        return;
    }
    let home = Home::new("heard");
    let run = |arguments: &[&str]| {
        let (text, code) = crate::binary::seen(&home.hopwise(arguments).output().expect("it runs"));
        assert_eq!(code, 0, "{arguments:?}: {text}");
        text
    };
    run(&["lab", "up", "demo", "-f", WORLD]);
    let state = State::at(home.path().to_owned());
    let tell = || {
        let tells = |node| state.programs("demo", node).is_ok_and(|p| p.mode().trace);
        tells("node01") && tells("node02")
    };
    let said = "lab demo: whoever listened was killed: its programs tell nothing any more";
    for notices in [&["lab", "list"][..], &["status"], &["lab", "apply", "demo", "-f", WORLD]] {
        let mut monitor = home.hopwise(&["monitor", "--on", "demo"]);
        let monitor = monitor.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut monitor = monitor.spawn().expect("it runs");
        let begun = Instant::now();
        while !tell() {
            assert!(begun.elapsed() < Duration::from_secs(10), "nobody is told");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!run(&["lab", "list"]).contains("killed"), "somebody listens");
        monitor.kill().expect("it runs");
        monitor.wait().expect("it ends");
        assert!(tell(), "nobody told them");
        let text = run(notices);
        assert!(text.contains(said), "{notices:?}: {text}");
        assert!(!tell() && !run(&["lab", "list"]).contains("killed"), "{notices:?}");
    }
    run(&["lab", "down", "--all"]);
    assert_eq!(home.left(), Vec::<String>::new());
}

/// What the session's own lab says, without a name.
#[test]
fn a_session_listens_to_the_lab_that_it_holds() {
    if !is_possible() {
        return;
    }
    let mut session = kernel::session();
    let mut says = |line: &str, parts: &[&str]| {
        let text = kernel::text(&session.execute(line));
        for part in parts {
            assert!(text.contains(part), "{line}: {part}: {text}");
        }
    };
    let knock = format!("lab exec client -- bash -c \"{KNOCK}\"");
    says(&format!("load {WORLD}"), &[]);
    says("lab up", &["a lab is up"]);
    says(&knock, &[]);
    let client = "shop/client 10.1.0.10:";
    says(
        "monitor --port 80 --count 4 --for 8s",
        &[
            "node01 lxc_client from-container",
            client,
            "node02 vxlan0 from-overlay",
            "the session's lab",
        ],
    );
    says("monitor --pod stranger --for 200ms", &["0 of "]);
    let caught = ["ALLOWED", client, "from-overlay, ", "caught as it passed", "the session's lab"];
    says("trace --live --wait --timeout 8s shop/client -> shop/server:80/tcp", &caught);
    let none = ["no drop seen in ", "0 events lost"];
    says("trace --live --drops --timeout 300ms shop/client -> shop/server:80/tcp", &none);
    // A world of another policy is the lab's own once it is told.
    says(
        "policy shop/server { select { app = \"server\" } allow ingress from pods { app = \"nobody\" } on 80/tcp }",
        &[],
    );
    says("lab apply", &["the lab has changed"]);
    says(&knock, &[]);
    let denied = "DROPPED  policy-denied (133)";
    says("trace --live --drops --timeout 8s shop/client -> shop/server:80/tcp", &[denied, client]);
    says("monitor --verdict dropped --count 1 --for 8s", &["policy-denied", client]);
    says("lab down", &["the lab is down"]);
}
