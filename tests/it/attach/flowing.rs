//! Numbered packets pass while what is attached is taken over, told of other policies, and given larger maps: not one is lost.

use std::process::Stdio;

use super::counted;
use super::machine::{Machine, until};
use crate::stream::meanwhile;

#[test]
fn not_one_packet_is_lost_while_what_is_attached_changes() {
    for (number, by, enforce) in [(20, "", ""), (21, "", "--enforce"), (22, "clsact", "--enforce")]
    {
        let Some(machine) = Machine::open(number, by) else { return };
        // Answers come back by conntrack alone.
        let alone = "policy shop/client {\n  select { app = \"client\" }\n  allow ingress from pods { app = \"nobody\" }\n  \
                     allow egress to pods { app = \"server\" } on 80/tcp, 53/udp\n}\n";
        let file = |name: &str, text: String| {
            machine.file(
                name,
                &format!("{}{alone}", text.replace("on 80/tcp\n}", "on 80/tcp, 53/udp\n}")),
            )
        };
        let shut = file("shut.hop", machine.text());
        let open = file(
            "open.hop",
            machine.text().replace("on 80/tcp\n}", "on 80/tcp, 22/tcp, 53/udp\n}"),
        );
        let large = file("large.hop", machine.large("on 80/tcp, 53/udp"));
        let attach = |file: &str| {
            let mut attach = vec!["attach", "one", "-f", file];
            attach.extend((!enforce.is_empty()).then_some(enforce));
            machine.run(&attach, 0);
        };
        let program = || machine.json(&["status", "one"], 0)["items"][0]["program"].as_u64();
        attach(&shut);
        let spaces = [machine.space("a"), machine.space("b")];
        let first = program();
        let streamed = meanwhile((&spaces[0], &spaces[1]), machine.address(11), (53, 80), || {
            for file in [&shut, &open, &shut, &large, &shut] {
                attach(file);
            }
        });
        streamed.is_whole();
        assert_ne!(program(), first, "programs with larger maps took their place");
        machine.run(&["detach", "one"], 0);
    }
}

/// Who listens, and what was counted, goes on with programs that have larger maps.
#[test]
fn a_monitor_goes_on_while_programs_get_larger_maps() {
    for (number, by) in [(23, ""), (24, "clsact")] {
        let Some(machine) = Machine::open(number, by) else { return };
        let web = machine.serve(80);
        let large = machine.file("large.hop", &machine.large("on 80/tcp"));
        machine.run(&["attach", "one", "-f", &machine.world], 0);
        let mut flow = machine.connect(web.port()).expect("observed packets pass");
        Machine::echo(&mut flow);
        let mut monitor = machine
            .command(&["monitor", "--on", "one", "--port", "80", "--for", "30s", "--count", "12"]);
        monitor.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let monitor = monitor.spawn().expect("hopwise runs");
        let state = datapath::live::install::State::at(machine.state.clone());
        let tells = || state.programs("one", "node01").is_ok_and(|programs| programs.mode().trace);
        until("they tell", tells);
        Machine::echo(&mut flow);
        let before = counted(&machine).0;
        machine.run(&["attach", "one", "-f", &large], 0);
        assert!(tells(), "{by}: somebody listens");
        assert!(counted(&machine).0 >= before, "{by}: counts go on");
        for _ in 0..6 {
            Machine::echo(&mut flow);
        }
        let said = monitor.wait_with_output().expect("it ends");
        let (text, code) = crate::binary::seen(&said);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("as many as asked for") && text.contains("lost      0 of"), "{text}");
        assert!(!text.contains("unknown-state"), "{by}: the flow is known: {text}");
        assert!(!tells() && !machine.run(&["status"], 0).contains("killed"), "{by}: it ended");
        machine.run(&["detach", "one"], 0);
        assert_eq!(machine.occupants(), []);
    }
}
