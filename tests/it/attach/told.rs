//! What is told before anything is hung or taken off: rights that a process has not, pods that are not what the file says, qdiscs that leave no
//! place, and files about another cluster than the one that is attached.

use std::process::Command;

use super::machine::Machine;
use crate::binary::seen;
use crate::kernel;

/// A command of hopwise that may do nothing but read.
fn powerless(machine: &Machine, arguments: &[&str]) -> Option<(String, i32)> {
    let Ok(true) = Command::new("setpriv").arg("--version").output().map(|o| o.status.success())
    else {
        assert!(!kernel::is_required("lab"), "a lab is required: there is no `setpriv`");
        kernel::skip("there is no `setpriv`");
        return None;
    };
    let own = machine.command(arguments);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(own.get_program());
    command.args(own.get_args());
    command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(seen(&command.output().expect("it runs")))
}

#[test]
fn who_may_not_take_off_what_is_attached_is_told_so() {
    let Some(machine) = Machine::open(25, "") else { return };
    machine.run(&["attach", "one", "-f", &machine.world], 0);
    let before = machine.occupants();
    for arguments in [
        &["status"][..],
        &["detach", "one"],
        &["detach", "--all"],
        &["attach", "one", "-f", &machine.world],
    ] {
        let Some((said, code)) = powerless(&machine, arguments) else { return };
        assert_eq!(code, 4, "{arguments:?}: {said}");
        assert!(said.contains("CAP_SYS_ADMIN and CAP_NET_ADMIN"), "{arguments:?}: {said}");
    }
    assert_eq!(machine.occupants(), before, "it is still there");
    machine.run(&["detach", "one"], 0);
    assert!(machine.occupants().is_empty(), "and then it is not");
}

#[test]
fn pods_that_are_not_what_the_file_says_are_told() {
    let Some(machine) = Machine::open(15, "") else { return };
    // A name that no other test's device has.
    for words in ["link set cali-b down", "link set cali-b name told-b", "link set told-b up"] {
        machine.ip(words);
    }
    let own = machine.address(11).to_string();
    let text = machine.text().replace(&own, "10.66.99.11 interface told-b");
    let wrong = machine.file("wrong.hop", &text);
    let said = machine.run(&["attach", "one", "-f", &wrong, "--enforce"], 3);
    assert!(
        said.contains("its pod has no 10.66.99.11, which the file gives shop/server"),
        "{said}"
    );
    let said = machine.run(&["attach", "one", "-f", &wrong], 0);
    assert!(said.contains("whatever it sends is a would-be drop"), "{said}");
    machine.run(&["detach"], 0);
}

#[test]
fn what_is_attached_for_another_cluster_stays_and_a_trial_stays_one() {
    let Some(machine) = Machine::open(16, "") else { return };
    let enforce = ["attach", "-f", &machine.world, "--enforce"];
    machine.run(&[&enforce[..], &["--for", "1h"]].concat(), 0);
    let said = machine.run(&enforce, 0);
    assert!(said.contains("after 59 min"), "nobody confirmed it: {said}");
    let other = machine.file("other.hop", &machine.text().replace("cluster lab", "cluster other"));
    let said = machine.run(&["attach", "-f", &other], 3);
    assert!(
        said.contains("is attached for cluster lab, and the file is about cluster other"),
        "{said}"
    );
    assert!(machine.run(&["status"], 0).contains("enforce"));
    machine.run(&["detach"], 0);
}

#[test]
fn an_ingress_qdisc_leaves_no_place_for_filters() {
    let Some(machine) = Machine::open(17, "clsact") else { return };
    machine.tc("qdisc add dev cali-b ingress");
    let before = machine.tc("qdisc show");
    let said = machine.run(&["attach", "one", "-f", &machine.world], 4);
    assert!(said.contains("cali-b has an `ingress` qdisc"), "{said}");
    assert_eq!(machine.tc("qdisc show"), before);
    assert!(!machine.state.exists(), "nothing is left of it");
}
