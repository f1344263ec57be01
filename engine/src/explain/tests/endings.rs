//! Every way a packet can end, and who decided on its way.

use crate::explain::{
    Decided, DropPlace, Explanation, LegOutcome, Step, Undecided, Verdict, explain,
};
use crate::net::{Direction, Hook, Protocol};
use crate::reason::DropReason;
use crate::tables::{EntryId, Generation};
use crate::trace::{Action, CtState, Event, Hop, IdentitySource, PolicyOutcome, Trace};

use super::events::*;
use super::shop::*;

fn explained(trace: &Trace) -> Explanation {
    let shop = Shop::new();
    explain(&shop.context(), &asked(), trace, None).expect("the trace has hops")
}

/// `egress of web/client allow web/client-egress#echo 1`
fn decision(d: &Decided) -> String {
    let by = match (&d.policy, &d.rule, &d.implied) {
        (Some(policy), Some(rule), None) => format!("{policy}#{rule}"),
        (None, None, Some(implied)) => format!("({implied})"),
        (None, None, None) => "nothing".to_owned(),
        mixed => format!("{mixed:?}"),
    };
    let entry = d.entry.map_or_else(|| "-".to_owned(), |e| e.0.to_string());
    format!("{} of {} {} {by} {entry}", d.direction, d.endpoint, d.outcome)
}

fn check(name: &str, trace: &Trace, verdict: Verdict, reason: Option<DropReason>, by: &[&str]) {
    let e = explained(trace);
    assert_eq!((e.verdict, e.reason), (verdict, reason), "{name}");
    let decisions: Vec<String> = e.decided_by.iter().map(decision).collect();
    assert_eq!(decisions, by, "{name}");
}

fn local(ingress: Vec<Event>) -> Trace {
    let mut events = vec![
        conntrack(CtState::New),
        source("10.244.1.154", CLIENT_IDENTITY, IdentitySource::Endpoint),
        policy(CLIENT_ENDPOINT, Direction::Egress, PolicyOutcome::Allow, 1),
    ];
    events.extend(ingress);
    trace(vec![hop(NODE01, Hook::FromContainer, events)])
}

const SENT: &str = "egress of web/client allow web/client-egress#echo 1";

#[test]
fn delivered() {
    let received = "ingress of web/echo-0 allow web/echo-access#api-read 1";
    check("by the tunnel", &through(), Verdict::Allowed, None, &[SENT, received]);
    assert!(explained(&through()).tunneled);

    let ingress = policy(LOCAL_ENDPOINT, Direction::Ingress, PolicyOutcome::Allow, 1);
    let on_the_node = local(vec![ingress, deliver(LOCAL_ENDPOINT)]);
    let wide = "ingress of web/local allow web/echo-access#wide 1";
    check("on the node", &on_the_node, Verdict::Allowed, None, &[SENT, wide]);
    assert!(!explained(&on_the_node).tunneled);
    let also = &explained(&on_the_node).decided_by;
    assert_eq!(also[0].also, ["web/client-egress#also"]);
    assert_eq!(also[1].also, ["not-isolated"]);
}

#[test]
fn a_decision_carries_place_owner_and_reason() {
    let e = explained(&through());
    let [egress, ingress] = e.decided_by.as_slice() else { panic!("two directions: {e:?}") };
    assert_eq!(egress.file.as_deref(), Some("shop.hop"));
    assert_eq!((egress.line, egress.column), (Some(4), Some(3)));
    let notes = |d: &Decided| (d.owner.clone(), d.because.clone());
    assert_eq!(notes(egress), (None, Some("no other way out".into())), "the policy's");
    assert_eq!(notes(ingress), (Some("team-api".into()), None), "the rule's before the policy's");
}

#[test]
fn implied_decisions_are_named() {
    let by = |outcome, entry| {
        let at = received(outcome, entry, deliver(ECHO_ENDPOINT));
        let e = explained(&trace(vec![at]));
        decision(&e.decided_by[0])
    };
    let of = "ingress of web/echo-0";
    assert_eq!(by(PolicyOutcome::Allow, 2), format!("{of} allow (local-host) 2"));
    assert_eq!(by(PolicyOutcome::Allow, 4), format!("{of} not-isolated (not-isolated) 4"));
    assert_eq!(by(PolicyOutcome::DefaultDeny, 0), format!("{of} default-deny (default-deny) 0"));
    assert_eq!(by(PolicyOutcome::Allow, 9), format!("{of} allow nothing 9"));
    assert_eq!(by(PolicyOutcome::Allow, 0), format!("{of} allow nothing 0"));
}

#[test]
fn path_mtu_messages_pass_policy() {
    let mut events = vec![parsed(Protocol::Icmp, Some((3, 4))), conntrack(CtState::New)];
    events.push(policy(ECHO_ENDPOINT, Direction::Ingress, PolicyOutcome::Allow, 0));
    events.push(deliver(ECHO_ENDPOINT));
    let passed = trace(vec![hop(NODE02, Hook::FromOverlay, events)]);
    let by = "ingress of web/echo-0 allow (fragmentation-needed) -";
    check("3/4", &passed, Verdict::Allowed, None, &[by]);
}

#[test]
fn replies_and_related_errors_skip_policy() {
    for (state, word) in [(CtState::Reply, "reply"), (CtState::Related, "related")] {
        let sent = hop(NODE02, Hook::FromContainer, vec![conntrack(state), tunnel()]);
        let arrived =
            hop(NODE01, Hook::FromOverlay, vec![conntrack(state), deliver(CLIENT_ENDPOINT)]);
        let by = [
            format!("egress of web/echo-0 {word} ({word}) -"),
            format!("ingress of web/client {word} ({word}) -"),
        ];
        let by: Vec<&str> = by.iter().map(String::as_str).collect();
        check(word, &trace(vec![sent, arrived]), Verdict::Allowed, None, &by);
    }
    let local =
        hop(NODE01, Hook::FromContainer, vec![conntrack(CtState::Reply), deliver(LOCAL_ENDPOINT)]);
    let by = ["egress of web/client reply (reply) -", "ingress of web/local reply (reply) -"];
    check("on the node", &trace(vec![local]), Verdict::Allowed, None, &by);
}

#[test]
fn dropped_by_policy() {
    let denied = "ingress of web/echo-0 default-deny (default-deny) 0";
    let reason = DropReason::PolicyDenied;
    check("default deny", &refused(), Verdict::Dropped, Some(reason), &[SENT, denied]);

    let reason = DropReason::PolicyDeny;
    let by_rule = trace(vec![sent(CtState::New), received(PolicyOutcome::Deny, 3, drop(reason))]);
    let denied = "ingress of web/echo-0 deny web/echo-access#lab-net 3";
    check("a rule", &by_rule, Verdict::Dropped, Some(reason), &[SENT, denied]);
    let place = |direction| DropPlace {
        node: "node02".into(),
        direction: Some(direction),
        endpoint: Some("web/echo-0".into()),
    };
    assert_eq!(explained(&by_rule).dropped_at, Some(place(Direction::Ingress)));
    assert!(explained(&by_rule).tunneled, "it crossed the tunnel before it was dropped");
}

#[test]
fn dropped_before_any_policy() {
    let reason = DropReason::InvalidSourceIp;
    let forged = trace(vec![hop(NODE01, Hook::FromContainer, vec![drop(reason)])]);
    check("forged source", &forged, Verdict::Dropped, Some(reason), &[]);
    let at = explained(&forged).dropped_at.expect("it was dropped");
    assert_eq!((at.direction, at.endpoint.as_deref()), (None, Some("web/client")));

    let reason = DropReason::TtlExceeded;
    let late = trace(vec![sent(CtState::New), hop(NODE02, Hook::FromOverlay, vec![drop(reason)])]);
    check("no hops to live", &late, Verdict::Dropped, Some(reason), &[SENT]);
    let at = explained(&late).dropped_at.expect("it was dropped");
    assert_eq!((at.node.as_str(), at.direction, at.endpoint), ("node02", None, None));
}

#[test]
fn given_to_a_stack() {
    let stack = |host| Event::Outcome(Action::Stack { host });
    let steps = |trace: &Trace| explained(trace).hops.last().expect("a hop").steps.clone();
    let out = local(vec![stack(false)]);
    check("out of the cluster", &out, Verdict::Undecided, None, &[SENT]);
    assert_eq!(steps(&out).last(), Some(&Step::Stack { host: false, followed: false }));
    let own_node = local(vec![stack(true)]);
    check("the node itself", &own_node, Verdict::Allowed, None, &[SENT]);

    let nobody = hop(NODE02, Hook::FromOverlay, vec![stack(false)]);
    let nobody = trace(vec![sent(CtState::New), nobody]);
    check("tunneled to no pod", &nobody, Verdict::Undecided, None, &[SENT]);

    let arp = hop(NODE01, Hook::FromContainer, vec![stack(false)]);
    let neighbour = trace(vec![Hop { frame_out: vec![0; 42], ..arp }]);
    check("ARP", &neighbour, Verdict::Allowed, None, &[]);
}

#[test]
fn let_into_the_container() {
    let pass = Event::Outcome(Action::Pass);
    let judged = vec![
        conntrack(CtState::New),
        policy(ECHO_ENDPOINT, Direction::Ingress, PolicyOutcome::Allow, 2),
        pass,
    ];
    let from_host = trace(vec![hop(NODE02, Hook::ToContainer, judged)]);
    let by = "ingress of web/echo-0 allow (local-host) 2";
    check("from the node", &from_host, Verdict::Allowed, None, &[by]);
    let into =
        Step::Deliver { interface: "lxc_echo-0".into(), pod: "web/echo-0".into(), ttl: Some(63) };
    assert_eq!(explained(&from_host).hops[0].steps.last(), Some(&into));

    let mut twice = through();
    twice.hops.push(hop(NODE02, Hook::ToContainer, vec![pass]));
    let e = explained(&twice);
    assert_eq!(e.verdict, Verdict::Allowed);
    assert_eq!(e.hops[1].steps.last(), Some(&into), "told where it was delivered");
    assert!(e.hops[2].steps.is_empty(), "and not again: {:?}", e.hops[2].steps);

    let reply = hop(NODE02, Hook::ToContainer, vec![conntrack(CtState::Reply), pass]);
    let by = "ingress of web/echo-0 reply (reply) -";
    check("a reply", &trace(vec![reply]), Verdict::Allowed, None, &[by]);
}

#[test]
fn what_was_not_seen_whole_is_undecided() {
    let mut lost = through();
    lost.lost = 1;
    let mut silent = through();
    silent.hops[1].events.pop();
    let open = trace(vec![sent(CtState::New)]);
    let mut other = through();
    other.hops[1].events[0].generation = Generation(GENERATION.0 - 1);
    let mut stale = through();
    stale.generation = Generation(GENERATION.0 + 1);
    let mut lost_drop = refused();
    lost_drop.lost = 3;
    let cases = [
        (lost, Undecided::EventsLost),
        (lost_drop, Undecided::EventsLost),
        (silent, Undecided::OutcomeNotSeen),
        (open, Undecided::NotFollowed),
        (other, Undecided::OtherGeneration),
        (stale, Undecided::OtherGeneration),
    ];
    for (trace, why) in cases {
        let e = explained(&trace);
        assert_eq!((e.verdict, e.undecided), (Verdict::Undecided, Some(why)));
        assert_eq!((e.reason, e.dropped_at), (None, None), "{why:?}");
    }
}

#[test]
fn a_trace_without_hops_explains_nothing() {
    let shop = Shop::new();
    assert_eq!(explain(&shop.context(), &asked(), &trace(Vec::new()), None), None);
}

#[test]
fn the_default_deny_names_the_outcome_and_entry_zero() {
    let e = explained(&refused());
    let denied = &e.decided_by[1];
    assert_eq!((denied.outcome, denied.entry), (LegOutcome::DefaultDeny, Some(EntryId(0))));
}
