//! The case files as `hopwise test --on lab` runs them. Files of single questions are left to the comparison by bytes, which asks the same.
//! What a lab cannot host is left out for one of these reasons, which the book names, and for no other.

use repl::backend::Choice;
use repl::reply::{Content, Status};
use repl::suite::{CaseReport, Outcome};

use super::is_possible;
use crate::kernel;
use crate::tree::{cases, name, read};

/// Why a case is not for a lab, as it is said.
const REASONS: [&str; 3] = [
    "on real devices the clock cannot be moved; leave out `wait`",
    "on real devices a backend cannot be forced; leave out `choose backend`",
    "on real devices whatever comes out of a tunnel has its key",
];
/// What is said of a world that no lab hosts.
const UNHOSTED: &str = "this world cannot be made here: the cluster's tunnel is geneve";
/// Those worlds.
const WORLDS: [&str; 2] =
    ["fixtures/cases/nodeport/there-and-back.hop", "fixtures/cases/routing/geneve-and-stack.hop"];

/// Whether a case was left out for a reason.
fn is_left_out(case: &CaseReport) -> bool {
    let said = || case.misses.iter().flat_map(|miss| &miss.reasons);
    case.outcome == Outcome::Broken
        && said().any(|said| REASONS.iter().any(|reason| said.contains(reason)))
}

#[test]
fn dialogues_come_to_the_same_in_a_lab() {
    if !is_possible() {
        return;
    }
    let (mut failed, mut passed, mut hosted) = (Vec::new(), 0, 0);
    for path in cases() {
        let text = read(&path);
        if !text.contains("dialogue ") && !text.contains("\n  at ") {
            continue;
        }
        let mut session = kernel::session();
        session.settings_mut().backend = Choice::Lab;
        session.load(std::slice::from_ref(&path));
        let reply = session.run_tests(None);
        let Content::Suite(report) = &reply.content else {
            failed.push(format!("{}: {}", name(&path), kernel::text(&reply)));
            continue;
        };
        if WORLDS.contains(&name(&path).as_str()) {
            let is_told = |case: &CaseReport| {
                let mut said = case.misses.iter().flat_map(|miss| &miss.reasons);
                case.outcome == Outcome::Broken && said.any(|said| said.starts_with(UNHOSTED))
            };
            if !report.cases.iter().all(is_told) {
                failed.push(kernel::text(&reply));
            }
            continue;
        }
        hosted += 1;
        passed += report.cases.iter().filter(|case| case.outcome == Outcome::Passed).count();
        let wrong = |case: &&CaseReport| case.outcome != Outcome::Passed && !is_left_out(case);
        if reply.status != Status::Ok && report.cases.iter().any(|case| wrong(&case)) {
            failed.push(kernel::text(&reply));
        }
    }
    assert!(failed.is_empty(), "{} files differ:\n{}", failed.len(), failed.join("\n\n"));
    assert!(hosted > 30 && passed > 300, "only {passed} cases of {hosted} files were run");
}
