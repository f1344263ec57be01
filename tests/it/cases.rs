//! Every case file, `fixtures/cases/**/*.hop` and `fixtures/shop.hop`, run as `hopwise test` runs it: on the datapath and
//! the oracle. The datapath is kernel and interpreter side by side, with equal events and equal maps after every packet.

use repl::reply::Status;

use crate::kernel;
use crate::tree::{cases, name};

#[test]
fn every_case_passes_on_kernel_interpreter_and_oracle() {
    let mut failed = Vec::new();
    for path in cases() {
        let mut session = kernel::session_on_both();
        let loaded = session.load(std::slice::from_ref(&path));
        if loaded.status != Status::Ok {
            failed.push(format!("{}:\n{}", name(&path), kernel::text(&loaded)));
            continue;
        }
        let reply = session.run_tests(None);
        if reply.status != Status::Ok {
            failed.push(format!("{}:\n{}", name(&path), kernel::text(&reply)));
        }
    }
    assert!(failed.is_empty(), "{} case files fail:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn a_packet_that_no_program_meets_spoils_its_own_case_only() {
    let mut session = kernel::session();
    let world = std::fs::read_to_string(crate::tree::root().join("fixtures/worlds/two-nodes.hop"));
    let mut text = world.expect("the world can be read");
    text.push_str(
        "test \"some\" {\n  shop/client -> shop/server:80 => allowed\n  \
         world 1.1.1.1 -> world 8.8.8.8:80 => allowed\n  \
         dialogue \"d\" {\n    world 1.1.1.1 -> world 8.8.8.8:80 => allowed\n  }\n  \
         shop/client -> shop/server:81 => allowed\n}\n",
    );
    let loaded = session.load_text("some.hop", &text);
    assert_eq!(loaded.status, Status::Ok, "{}", kernel::text(&loaded));
    let reply = session.run_tests(None);
    let said = kernel::text(&reply);
    assert_eq!(reply.status, Status::Input, "{said}");
    assert!(said.starts_with("ok ") && said.contains(": 2 passed, 2 broken"), "{said}");
    assert!(said.contains("some.hop:") && said.contains("no program sees it"), "{said}");
    let reply = session.ask("world 1.1.1.1 -> world 8.8.8.8:80");
    assert_eq!(reply.status, Status::Input, "{}", kernel::text(&reply));
    assert!(kernel::text(&reply).contains("help: "), "{}", kernel::text(&reply));
}
