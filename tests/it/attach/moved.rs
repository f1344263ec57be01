//! Namespaces whose names go, and devices that are in another namespace than before: what hangs is found by what the namespace is.

use std::process::{Command, Stdio};

use datapath::attach;

use super::machine::Machine;

/// What hangs on the pods' devices of a namespace that this test holds.
fn occupants(space: &datapath::lab::namespace::Namespace) -> usize {
    let look = || {
        let of =
            |device: &str| attach::occupants(device, attach::index(device).unwrap_or_default());
        Ok(of("cali-a")?.len() + of("cali-b")?.len())
    };
    space.within(look).expect("the kernel tells")
}

#[test]
fn a_namespace_without_its_name_is_found_again() {
    for (number, by) in [(30, ""), (31, "clsact")] {
        let Some(machine) = Machine::open(number, by) else { return };
        let host = machine.space("host");
        machine.run(&["attach", "one", "-f", &machine.world, "--enforce"], 0);
        assert_eq!(occupants(&host), 4, "{by}");
        // A process holds it from now on.
        let name = machine.name("host");
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &name, "sleep", "120"]).stdout(Stdio::null());
        let mut inside = inside.spawn().expect("it runs");
        super::machine::until("it is inside", || {
            let path = format!("/proc/{}/ns/net", inside.id());
            let there = datapath::lab::namespace::Namespace::open(path.as_ref());
            there.and_then(|there| there.identity()).ok() == host.identity().ok()
        });
        machine.unname("host");
        let status = machine.json(&["status", "one"], 0);
        assert_eq!(status["items"][0]["state"], "attached", "{status:#}");
        assert_eq!(machine.run(&["detach", "one"], 0).trim(), "detached one");
        assert_eq!(occupants(&host), 0, "{by}");
        inside.kill().expect("it runs");
        inside.wait().expect("it ends");
    }
}

#[test]
fn what_nothing_leads_to_is_said_and_lets_everything_pass() {
    let Some(machine) = Machine::open(32, "clsact") else { return };
    let host = machine.space("host");
    let ssh = machine.serve(22);
    machine.run(&["attach", "one", "-f", &machine.world, "--enforce"], 0);
    assert!(machine.connect(ssh.port()).is_err());
    machine.unname("host");
    let status = machine.json(&["status", "one"], 0);
    assert_eq!(status["items"][0]["state"], "out of reach", "{status:#}");
    let said = machine.run(&["detach", "one"], 0);
    assert!(said.contains("nothing leads to the network namespace of node01 any more"), "{said}");
    assert_eq!(occupants(&host), 4, "only this test holds it");
    machine.connect(ssh.port()).expect("what hangs there lets everything pass");
}

#[test]
fn programs_leave_the_namespace_that_a_node_has_left() {
    for (numbers, by) in [([33, 34], ""), ([35, 36], "clsact")] {
        let (Some(one), Some(other)) =
            (Machine::open(numbers[0], by), Machine::open(numbers[1], by))
        else {
            return;
        };
        let before = one.tc("qdisc show");
        one.run(&["attach", "one", "-f", &one.world, "--enforce"], 0);
        one.run(&["attach", "one", "-f", &other.world, "--enforce"], 0);
        assert_eq!(occupants(&one.space("host")), 0, "{by}");
        assert_eq!(one.tc("qdisc show"), before);
        assert_eq!(occupants(&other.space("host")), 4, "{by}");
        let status = one.json(&["status", "one"], 0);
        assert_eq!(status["items"][0]["state"], "attached", "{status:#}");
        one.run(&["detach", "one"], 0);
        assert_eq!(occupants(&other.space("host")), 0, "{by}");
    }
}
