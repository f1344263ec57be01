//! Answers as text, level by level.

mod design;
mod ways;

use engine::explain::{
    Agreement, Divergence, DropPlace, Explanation, LegOutcome, Step, Undecided, Verdict,
};
use engine::net::{Direction, Hook};
use engine::reason::DropReason;

use super::{Options, json, text};
use crate::reply::{Answer, Content, Level, Reply, Status};
use crate::sample::{decided, dropped, hop, tunneled};

fn rendered(explanation: Explanation, level: Level) -> String {
    let answer = Answer { explanation, level, unmet: Vec::new(), came_with: None, live: None };
    let mut out = Vec::new();
    let reply = Reply::ok(Content::Answer(Box::new(answer)));
    text(&reply, &Options::default(), &mut out).unwrap();
    let rendered = String::from_utf8(out).unwrap();
    assert!(rendered.is_ascii(), "{rendered}");
    rendered
}

#[test]
fn a_tunneled_packet_reads_as_the_design_shows() {
    insta::assert_snapshot!(rendered(tunneled(), Level::Normal));
}

#[test]
fn a_default_deny_reads_as_the_design_shows() {
    insta::assert_snapshot!(rendered(dropped(), Level::Normal));
}

#[test]
fn the_full_level_adds_look_ups_and_bytes() {
    insta::assert_snapshot!(rendered(tunneled(), Level::Full));
}

#[test]
fn a_reply_follows_indented() {
    let mut asked = tunneled();
    let mut reply = tunneled();
    let known = decided(Direction::Ingress, "web/client", LegOutcome::Reply);
    reply.hops =
        vec![hop("node01", "vxlan0", Hook::FromOverlay, vec![Step::Skipped { decided: known }])];
    asked.reply = Some(Box::new(reply));
    insta::assert_snapshot!(rendered(asked, Level::Normal));
}

#[test]
fn a_divergence_comes_before_everything() {
    let mut differing = tunneled();
    differing.agreement = Agreement::Differ;
    differing.divergence = Some(Divergence {
        what: "verdict".into(),
        datapath: "allowed".into(),
        oracle: "dropped policy-denied (133)".into(),
    });
    insta::assert_snapshot!(rendered(differing, Level::Normal));
}

#[test]
fn a_drop_without_policy_says_what_its_reason_means() {
    let mut answer = dropped();
    answer.reason = Some(DropReason::TtlExceeded);
    answer.decided_by.clear();
    answer.isolated_by.clear();
    answer.nearest.clear();
    answer.dropped_at = Some(DropPlace { node: "node02".into(), direction: None, endpoint: None });
    answer.hops[0].steps = vec![Step::Drop { reason: DropReason::TtlExceeded, by_stack: false }];
    insta::assert_snapshot!(rendered(answer, Level::Normal));
}

#[test]
fn lost_events_leave_it_undecided() {
    let mut answer = tunneled();
    answer.verdict = Verdict::Undecided;
    answer.undecided = Some(Undecided::EventsLost);
    answer.lost = 1;
    let text = rendered(answer, Level::Normal);
    assert!(text.starts_with("UNDECIDED  1 event lost, so the outcome is not known\n"), "{text}");
    assert!(text.contains("; 1 event LOST\n"), "{text}");
}

#[test]
fn json_of_an_answer_has_the_promised_fields() {
    let answer = Answer {
        explanation: dropped(),
        level: Level::Normal,
        unmet: Vec::new(),
        came_with: None,
        live: None,
    };
    let mut out = Vec::new();
    json(&Reply::ok(Content::Answer(Box::new(answer))), &mut out).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
    for field in [
        "schemaVersion",
        "verdict",
        "reason",
        "tunneled",
        "agreement",
        "backend",
        "profile",
        "decidedBy",
        "isolatedBy",
        "nearest",
        "obstacle",
        "known",
        "assumed",
        "lost",
        "generation",
        "reply",
        "hops",
    ] {
        assert!(value.get(field).is_some(), "{field} in {value:#}");
    }
    assert_eq!(value["reason"]["name"], "policy-denied");
    assert_eq!(value["reason"]["code"], 133);
    assert_eq!(value["hops"][0]["frame"], "cd02");
    assert_eq!(value["decidedBy"][0]["implied"], "default-deny");
    assert_eq!(value["decidedBy"][0]["policy"], serde_json::Value::Null);
}

#[test]
fn a_failure_names_its_remedy() {
    let reply = Reply::failure(Status::Environment, "bpf() is not available here", "run as root");
    let mut out = Vec::new();
    text(&reply, &Options::default(), &mut out).unwrap();
    let expected = "error: bpf() is not available here\nhelp: run as root\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}
