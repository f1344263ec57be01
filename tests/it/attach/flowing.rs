//! Numbered packets pass while what is attached is taken over, told of other policies, and given larger maps: not one is lost.

use super::machine::Machine;
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
