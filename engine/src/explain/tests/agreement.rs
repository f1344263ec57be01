//! Where the two opinions agree and where they part.

use crate::eval::Judgement;
use crate::explain::{Agreement, LegOutcome, Undecided, Verdict, explain};
use crate::net::{Direction, Hook, Protocol};
use crate::reason::DropReason;
use crate::tables::{Implied, Origin};
use crate::trace::{CtState, PolicyOutcome, Trace};

use super::events::*;
use super::shop::*;

/// `what: DATAPATH, not ORACLE`, or `agree`.
fn compared(shop: &Shop, trace: &Trace, judgement: &Judgement) -> String {
    let e = shop.explain(trace, judgement);
    match (e.agreement, e.divergence) {
        (Agreement::Differ, Some(d)) => format!("{}: {}, not {}", d.what, d.datapath, d.oracle),
        (Agreement::Agree, None) => "agree".to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_same_answer_agrees() {
    let shop = Shop::new();
    assert_eq!(compared(&shop, &through(), &through_judged(&shop)), "agree");
    assert_eq!(compared(&shop, &refused(), &refused_judged(&shop)), "agree");
}

#[test]
fn a_direction_not_reached_is_no_opinion() {
    let shop = Shop::new();
    let reason = DropReason::InvalidSourceIp;
    let forged = trace(vec![hop(NODE01, Hook::FromContainer, vec![drop(reason)])]);
    let judged =
        dropped(reason, vec![leg(ECHO, Direction::Ingress, LegOutcome::NotReached, Vec::new())]);
    assert_eq!(compared(&shop, &forged, &judged), "agree");
}

#[test]
fn each_kind_of_difference_is_found() {
    let shop = Shop::new();
    let of = |name| Origin::Rule(shop.rule(name));
    let through_with = |change: &dyn Fn(&mut Judgement)| {
        let mut judged = through_judged(&shop);
        change(&mut judged);
        compared(&shop, &through(), &judged)
    };
    let verdict = compared(&shop, &through(), &refused_judged(&shop));
    assert_eq!(verdict, "verdict: allowed, not dropped policy-denied (133)");
    let undecided = through_with(&|j| j.verdict = Verdict::Undecided);
    assert_eq!(undecided, "verdict: allowed, not undecided");

    let mut judged = refused_judged(&shop);
    judged.reason = Some(DropReason::PolicyDeny);
    let reason = compared(&shop, &refused(), &judged);
    assert_eq!(reason, "reason: dropped policy-denied (133), not dropped policy-deny (181)");

    let rule = through_with(&|j| j.legs[1].matching = vec![of("wide"), of("inside")]);
    let expected = "rule at ingress of web/echo-0: allow by web/echo-access#api-read, \
                    not allow by web/echo-access#wide or web/echo-access#inside";
    assert_eq!(rule, expected);

    let missing = through_with(&|j| j.legs.truncate(1));
    let expected = "ingress of web/echo-0: allow by web/echo-access#api-read, not not judged";
    assert_eq!(missing, expected);
    let extra = through_with(&|j| {
        j.legs.push(leg(LOCAL, Direction::Ingress, LegOutcome::Allow, vec![of("wide")]));
    });
    assert_eq!(extra, "ingress of web/local: not judged, not allow");

    let state = through_with(&|j| j.legs[1].state = CtState::Established);
    assert_eq!(state, "conntrack state at ingress of web/echo-0: new, not established");
    let outcome = through_with(&|j| j.legs[0].outcome = LegOutcome::Reply);
    let expected = "outcome at egress of web/client: allow by web/client-egress#echo, \
                    not reply by web/client-egress#echo or web/client-egress#also";
    assert_eq!(outcome, expected);
}

#[test]
fn an_entry_that_nothing_stands_behind_never_agrees() {
    let shop = Shop::new();
    for entry in [0, 9] {
        let odd = received(PolicyOutcome::Allow, entry, deliver(ECHO_ENDPOINT));
        let odd = trace(vec![sent(CtState::New), odd]);
        let expected = format!(
            "rule at ingress of web/echo-0: allow by entry {entry}, \
             not allow by web/echo-access#api-read"
        );
        assert_eq!(compared(&shop, &odd, &through_judged(&shop)), expected);
    }
}

#[test]
fn either_origin_of_a_shared_entry_may_be_named() {
    let shop = Shop::new();
    let ingress = policy(LOCAL_ENDPOINT, Direction::Ingress, PolicyOutcome::Allow, 1);
    let events = vec![conntrack(CtState::New), ingress, deliver(LOCAL_ENDPOINT)];
    let asked = trace(vec![hop(NODE01, Hook::FromContainer, events)]);
    let judged =
        |outcome, matching| allowed(vec![leg(LOCAL, Direction::Ingress, outcome, matching)]);
    let both = vec![Origin::Rule(shop.rule("wide")), Origin::Implied(Implied::NotIsolated)];
    for outcome in [LegOutcome::Allow, LegOutcome::NotIsolated] {
        assert_eq!(compared(&shop, &asked, &judged(outcome, both.clone())), "agree");
    }
    let only_implied = judged(LegOutcome::NotIsolated, both[1..].to_vec());
    let expected = "rule at ingress of web/local: allow by web/echo-access#wide, \
                    not not-isolated by not-isolated";
    assert_eq!(compared(&shop, &asked, &only_implied), expected);
}

#[test]
fn outcomes_that_name_themselves_need_no_rule() {
    let shop = Shop::new();
    let states = [(CtState::Reply, LegOutcome::Reply), (CtState::Related, LegOutcome::Related)];
    for (state, outcome) in states {
        let events = vec![conntrack(state), deliver(ECHO_ENDPOINT)];
        let asked = trace(vec![hop(NODE02, Hook::FromOverlay, events)]);
        let judged = allowed(vec![leg(ECHO, Direction::Ingress, outcome, Vec::new())]);
        assert_eq!(compared(&shop, &asked, &judged), "agree");
    }
    let events = vec![
        parsed(Protocol::Icmp, Some((3, 4))),
        policy(ECHO_ENDPOINT, Direction::Ingress, PolicyOutcome::Allow, 0),
        deliver(ECHO_ENDPOINT),
    ];
    let asked = trace(vec![hop(NODE02, Hook::FromOverlay, events)]);
    let judged = allowed(vec![leg(ECHO, Direction::Ingress, LegOutcome::Allow, Vec::new())]);
    assert_eq!(compared(&shop, &asked, &judged), "agree");
}

#[test]
fn without_a_second_opinion_it_is_single() {
    let shop = Shop::new();
    let e = explain(&shop.context(), &asked(), &through(), None).expect("the trace has hops");
    assert_eq!((e.agreement, e.divergence), (Agreement::Single, None));
}

#[test]
fn an_observation_with_holes_is_no_opinion_but_never_green() {
    let shop = Shop::new();
    let mut lost = through();
    lost.lost = 1;
    let e = shop.explain(&lost, &through_judged(&shop));
    assert_eq!((e.agreement, e.verdict), (Agreement::Single, Verdict::Undecided));
    let left = shop.explain(&trace(vec![sent(CtState::New)]), &through_judged(&shop));
    assert_eq!(left.undecided, Some(Undecided::NotFollowed));
    assert_eq!(left.agreement, Agreement::Differ, "the oracle says it arrives");
}
