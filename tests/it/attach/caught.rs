//! `trace --live --wait` and `--drops` about what only observes: packets of others, explained whole.

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::machine::Machine;

/// Waits for a packet while connections to a port are begun again and again; what is said, and how it ended.
fn caught(machine: &Machine, rest: &[&str], port: u16) -> (String, i32) {
    let mut command = machine.command(&[&["trace", "--live"], rest].concat());
    let child: Child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("hopwise runs");
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                drop(machine.connect(port));
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        });
        let output = child.wait_with_output().expect("it ends");
        end.store(true, Ordering::Relaxed);
        crate::binary::seen(&output)
    })
}

#[test]
fn packets_of_others_are_caught_and_would_be_drops_with_them() {
    let Some(machine) = Machine::open(14, "") else { return };
    let (web, ssh) = (machine.serve(80), machine.serve(22));
    machine.run(&["attach", "one", "-f", &machine.world], 0);
    let observes = "programs only observe: the packet went on, whatever they say of it";
    let about = |rest: &[&str], (port, ends): (u16, i32), parts: &[&str]| {
        let (text, code) = caught(&machine, rest, port);
        assert_eq!(code, ends, "{text}");
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
    };
    let from = format!("shop/client {}:", machine.address(10));
    let to = format!("shop/server {}:80 TCP", machine.address(11));
    let wait = ["--wait", "--timeout", "8s", "shop/client -> shop/server:80/tcp"];
    let place = "node01 cali-a from-container";
    let title = "checked   attachment one;";
    about(
        &wait,
        (web.port(), 0),
        &["ALLOWED", &from, &to, place, "caught as it passed", title, observes],
    );
    let drops = ["--drops", "--on", "one", "--timeout", "8s", "shop/client -> shop/server:22/tcp"];
    let denied = "DROPPED  policy-denied (133): default deny, ingress of shop/server on node01";
    about(&drops, (ssh.port(), 0), &[denied, "shop/server#web", "port differs", observes]);
    let none = ["--drops", "--timeout", "500ms", "shop/client -> shop/server:80/tcp"];
    about(&none, (web.port(), 1), &["no drop seen in ", "0 events lost"]);
    let sent =
        machine.run(&["trace", "--live", "--on", "one", "shop/client -> shop/server:80/tcp"], 3);
    assert!(sent.contains("nothing is sent from inside them"), "{sent}");
}
