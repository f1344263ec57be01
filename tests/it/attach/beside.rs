//! Programs of others on the same devices: there before ours, or come afterwards. Whatever becomes of ours, theirs stay.

use aya::programs::TcAttachType::{Egress, Ingress};

use super::counted;
use super::foreign::{Foreign, How, NAME};
use super::machine::Machine;

/// How a foreign program hangs, and how ours do: by tcx only where the kernel has it.
fn ways() -> impl Iterator<Item = (How, &'static str)> {
    let by_tcx = datapath::live::is_by_tcx().expect("the kernel has a version");
    let ways = [(How::First, ""), (How::Last, ""), (How::Filter, ""), (How::Filter, "clsact")];
    ways.into_iter().filter(move |(how, _)| by_tcx || *how == How::Filter)
}

/// What hangs on the node's devices, as programs see it and as `tc` does.
fn seen(machine: &Machine) -> (Vec<datapath::attach::Occupant>, [String; 3]) {
    let tc = ["qdisc show", "filter show dev cali-b ingress", "filter show dev cali-b egress"];
    (machine.occupants(), tc.map(|words| machine.tc(words)))
}

/// Two of them on the server's device.
fn both_sides(machine: &Machine, how: How) -> [Foreign; 2] {
    [Ingress, Egress].map(|side| Foreign::on(machine, "cali-b", side, how))
}

/// Each of them sees what passes.
#[track_caller]
fn run(foreign: &[Foreign; 2], machine: &Machine, port: u16) {
    let before = foreign.each_ref().map(Foreign::runs);
    Machine::echo(&mut machine.connect(port).expect("it is allowed"));
    let now = foreign.each_ref().map(Foreign::runs);
    assert!(now.iter().zip(before).all(|(now, before)| *now > before), "{before:?} {now:?}");
}

#[test]
fn what_was_there_before_is_seen_named_and_left_alone() {
    for (number, (how, by)) in (40..).zip(ways()) {
        let Some(machine) = Machine::open(number, by) else { return };
        let (web, ssh) = (machine.serve(80), machine.serve(22));
        let foreign = both_sides(&machine, how);
        let before = seen(&machine);
        let names = [(&foreign[0], "ingress"), (&foreign[1], "egress")].map(|(one, side)| {
            format!("beside program `{NAME}` (id {}, {side}) on cali-b", one.id)
        });
        let beside =
            |text: &str| names.iter().for_each(|name| assert!(text.contains(name), "{text}"));

        let enforce = ["attach", "one", "-f", &machine.world, "--enforce"];
        let refused = machine.run(&enforce, 4);
        let words =
            format!("program `{NAME}` (id {}, ingress) sits on cali-b already", foreign[0].id);
        assert!(refused.contains(&words) && refused.contains("without `--enforce`"), "{refused}");
        assert!(!machine.state.exists() && seen(&machine) == before, "{how:?}: nothing happened");

        beside(&machine.run(&["attach", "one", "-f", &machine.world], 0));
        run(&foreign, &machine, web.port());
        run(&foreign, &machine, ssh.port());
        let (passed, dropped) = counted(&machine);
        assert!(passed > 0 && dropped > 0, "{how:?}: ours see it too");
        beside(&machine.run(&["status"], 0));
        machine.run(&["attach", "one", "-f", &machine.world], 0);
        run(&foreign, &machine, web.port());
        machine.run(&["detach", "one"], 0);
        assert_eq!(seen(&machine), before, "{how:?}");
        run(&foreign, &machine, web.port());
    }
}

#[test]
fn what_came_afterwards_is_told_and_stays_when_ours_goes() {
    for (number, (how, by)) in (50..).zip(ways()) {
        let Some(machine) = Machine::open(number, by) else { return };
        let (web, ssh) = (machine.serve(80), machine.serve(22));
        for decides in [false, true] {
            let mut attach = vec!["attach", "one", "-f", &machine.world];
            attach.extend(decides.then_some("--enforce"));
            machine.run(&attach, 0);
            assert!(!machine.run(&["status"], 0).contains("beside"), "nobody else is there");
            let foreign = both_sides(&machine, how);
            let told = machine.run(&["status"], 0);
            for one in &foreign {
                assert!(
                    told.contains(&format!("one: beside program `{NAME}` (id {}", one.id)),
                    "{told}"
                );
            }
            if decides {
                let refused = machine.run(&attach, 4);
                assert!(
                    refused.contains(&format!("(id {}, ingress) sits on", foreign[0].id)),
                    "{refused}"
                );
                assert!(machine.connect(ssh.port()).is_err(), "{how:?}: what runs goes on");
            } else {
                machine.run(&attach, 0);
                run(&foreign, &machine, ssh.port());
            }
            Machine::echo(&mut machine.connect(web.port()).expect("a rule allows it"));
            assert!(counted(&machine).0 > 0, "{how:?}");
            machine.run(&["detach", "one"], 0);
            let mut left = machine.occupants();
            left.retain(|one| one.id != Some(foreign[0].id) && one.id != Some(foreign[1].id));
            assert_eq!(left, [], "{how:?}: nothing of ours");
            run(&foreign, &machine, ssh.port());
            let devices = usize::from(how == How::Filter);
            assert_eq!(machine.tc("qdisc show").matches("clsact").count(), devices, "{how:?}");
            drop(foreign);
            if how == How::Filter {
                machine.tc("qdisc del dev cali-b clsact");
            }
        }
    }
}

/// Filters of other kinds that have the outermost priorities, and one in the place of ours, which somebody took off.
#[test]
fn filters_of_others_keep_their_places() {
    let Some(machine) = Machine::open(60, "clsact") else { return };
    let web = machine.serve(80);
    let mine = |words: &str| {
        machine.tc(&format!("filter add dev cali-b {words} flowid 1:1"));
    };
    machine.tc("qdisc add dev cali-b clsact");
    mine("ingress pref 1 protocol ip bpf bytecode 1,6\u{a0}0\u{a0}0\u{a0}0");
    mine("egress pref 65535 protocol ip u32 match u32 0 0");
    let before = seen(&machine);
    for enforces in [false, true] {
        // Filters that are no programs are in the way of one that decides, too.
        let attach = ["attach", "one", "-f", &machine.world, "--enforce"];
        if enforces {
            let refused = machine.run(&attach, 4);
            assert!(refused.contains("sits on cali-b already"), "{refused}");
            break;
        }
        machine.run(&attach[..4], 0);
        Machine::echo(&mut machine.connect(web.port()).expect("observed packets pass"));
        assert!(counted(&machine).0 > 0, "ours see it");
    }
    machine.run(&["detach", "one"], 0);
    assert_eq!(seen(&machine), before);

    machine.run(&["attach", "one", "-f", &machine.world], 0);
    let text = machine.tc("filter show dev cali-a ingress");
    let words: Vec<&str> = text.split_whitespace().collect();
    let after = |word: &str| {
        let at = words.iter().rposition(|known| *known == word).expect("it is said");
        words[at + 1].to_owned()
    };
    let place = format!("pref {} handle {} bpf", after("pref"), after("handle"));
    machine.tc(&format!("filter del dev cali-a ingress {place}"));
    machine.tc(&format!(
        "filter add dev cali-a ingress {place} bytecode 1,6\u{a0}0\u{a0}0\u{a0}0 flowid 1:1"
    ));
    assert!(machine.run(&["status"], 0).contains("gone from cali-a"), "somebody took it off");
    machine.run(&["detach", "one"], 0);
    assert!(machine.tc("filter show dev cali-a ingress").contains("bytecode"), "it is not ours");
}

/// A device that goes takes programs along; one of the same name that comes is found by the next `attach`.
#[test]
fn a_device_that_comes_again_is_attached_to_again() {
    for (number, by) in [(62, ""), (63, "clsact")] {
        let Some(machine) = Machine::open(number, by) else { return };
        let (web, ssh) = (machine.serve(80), machine.serve(22));
        let attach = ["attach", "one", "-f", &machine.world, "--enforce"];
        machine.run(&attach, 0);
        machine.renew("b", 11);
        assert!(machine.run(&["status"], 0).contains("gone from cali-b"), "it is another device");
        machine.run(&attach, 0);
        Machine::echo(&mut machine.connect(web.port()).expect("a rule allows it"));
        let (_, dropped) = counted(&machine);
        assert!(machine.connect(ssh.port()).is_err(), "no rule allows it");
        assert!(counted(&machine).1 > dropped);
        machine.run(&["detach", "one"], 0);
        assert_eq!(machine.occupants(), []);
        assert!(!machine.tc("qdisc show").contains("clsact"));
    }
}
