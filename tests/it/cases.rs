//! Every case file, `fixtures/cases/**/*.hop` and `fixtures/shop.hop`, run as `hopwise test` runs it: on the datapath and
//! the oracle.

use repl::reply::Status;

use crate::kernel;
use crate::tree::{cases, name};

#[test]
fn every_case_passes_on_datapath_and_oracle() {
    let mut failed = Vec::new();
    for path in cases() {
        let Some(mut session) = kernel::session() else { return };
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
