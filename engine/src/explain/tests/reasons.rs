//! The oracle's reasons for a default deny: who isolated, and which rules came near.

use crate::explain::{Condition, Explanation, Isolating};
use crate::net::Direction;
use crate::policy::PolicyId;
use crate::reason::DropReason;
use crate::source::Location;
use crate::trace::{CtState, PolicyOutcome};

use super::events::*;
use super::shop::*;

fn at(line: u32, column: u32) -> Location {
    Location { file: "shop.hop".into(), line, column }
}

/// The default deny at echo-0, with every kind of rule tried.
fn denied() -> Explanation {
    let shop = Shop::new();
    let mut judged = refused_judged(&shop);
    let leg = &mut judged.legs[1];
    leg.isolated_by = vec![PolicyId(1), PolicyId(1)];
    let (ok, no) = (None, Some("other"));
    leg.trials = vec![
        trial(&shop, "lab-net", &[("from", no)]),
        trial(&shop, "inside", &[("from", no)]),
        trial(&shop, "wide", &[("port", no)]),
        trial(&shop, "probes", &[("from", no), ("port", no)]),
        trial(&shop, "api-read", &[("port", ok), ("from", Some("pods {app=client} in web"))]),
        // All of it holds: not a rule that was missed.
        trial(&shop, "echo", &[("from", ok)]),
    ];
    shop.explain(&refused(), &judged)
}

#[test]
fn the_isolating_policies_are_named_once() {
    let expected = Isolating {
        endpoint: "web/echo-0".into(),
        direction: Direction::Ingress,
        policy: "web/echo-access".into(),
        owner: Some("team-storefront".into()),
        because: None,
        location: at(7, 1),
    };
    assert_eq!(denied().isolated_by, [expected]);
}

#[test]
fn the_nearest_are_three_allows_by_conditions_met_then_by_deciding_order() {
    let near = denied().nearest;
    let rules: Vec<&str> = near.iter().map(|n| n.rule.as_str()).collect();
    let expected = ["web/echo-access#api-read", "web/echo-access#wide", "web/echo-access#inside"];
    assert_eq!(rules, expected);
    assert_eq!(near[0].location, at(10, 3));
}

#[test]
fn a_failing_condition_says_what_it_wants_what_is_and_where() {
    let near = denied().nearest;
    let [port, from] = near[0].conditions.as_slice() else { panic!("two conditions: {near:?}") };
    let held = Condition { name: "port".into(), ok: true, wants: None, is: None, location: None };
    assert_eq!(*port, held);
    let failed = Condition {
        name: "from".into(),
        ok: false,
        wants: Some("pods {app=client} in web".into()),
        is: Some("world".into()),
        location: Some(at(10, 34)),
    };
    assert_eq!(*from, failed);
}

#[test]
fn only_a_default_deny_has_them() {
    let shop = Shop::new();
    let tried = vec![trial(&shop, "probes", &[("from", Some("other"))])];
    let mut judged = through_judged(&shop);
    judged.legs[1].trials.clone_from(&tried);
    judged.legs[1].isolated_by = vec![PolicyId(1)];
    let allowed = shop.explain(&through(), &judged);
    let reason = DropReason::PolicyDeny;
    let end = drop(reason);
    let by_rule = trace(vec![sent(CtState::New), received(PolicyOutcome::Deny, 3, end)]);
    judged = dropped(reason, judged.legs);
    let denied = shop.explain(&by_rule, &judged);
    let mut lost = refused();
    lost.lost = 1;
    let unknown = shop.explain(&lost, &refused_judged(&shop));
    for e in [allowed, denied, unknown] {
        assert!(e.nearest.is_empty() && e.isolated_by.is_empty(), "{:?}", e.verdict);
    }
}
