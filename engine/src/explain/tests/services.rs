//! Services in an answer: which one, which backend, what stood in the way, and whether the oracle says the same.

use crate::eval::{Choices, Judgement, Serving};
use crate::explain::{
    Agreement, Candidate, Explanation, HeaderFault, Obstacle, Step, Unfit, choices,
};
use crate::net::{Hook, Protocol};
use crate::reason::DropReason;
use crate::tables::{EntryId, FrontendKind};
use crate::topology::Readiness;
use crate::trace::{Action, Choice, CtState, Event, Hop, Place, Rewriting, Trace};

use super::events::*;
use super::shop::*;

fn frontend() -> Place {
    place("10.96.0.20", 80)
}

fn backend() -> Place {
    place("10.244.6.11", 8080)
}

fn served(entry: u32, frontend: Place, backend: Option<Place>) -> Event {
    Event::Service {
        frontend,
        protocol: Protocol::Tcp,
        entry: EntryId(entry),
        backend,
        choice: if backend.is_some() { Choice::Random } else { Choice::Nobody },
        of: u16::from(backend.is_some()) * 2,
    }
}

/// The client's hop with a service before what it says otherwise.
fn translated() -> Trace {
    let mut through = through();
    let stamp = through.hops[0].events[0];
    let event = served(1, frontend(), Some(backend()));
    through.hops[0].events.insert(1, crate::trace::Stamped { event, ..stamp });
    through.hops[1].frame_out = between(place("10.244.1.154", 40312), backend());
    through
}

fn judged(shop: &Shop) -> Judgement {
    let serving = Serving {
        service: SERVICE,
        port: Some(0),
        node: NODE01,
        candidates: vec![backend(), place("10.244.1.20", 8080)],
        backend: Some(backend()),
    };
    let arrives = Some((place("10.244.1.154", 40312), backend()));
    Judgement { serving: Some(serving), arrives, ..through_judged(shop) }
}

#[test]
fn a_translation_is_told_with_names() {
    let shop = Shop::new();
    let e = shop.explain(&translated(), &judged(&shop));
    let expected = Step::Service {
        service: "web/echo".into(),
        frontend: "10.96.0.20:80".into(),
        kind: Some(FrontendKind::ClusterIp),
        protocol: Protocol::Tcp,
        entry: Some(EntryId(1)),
        backend: Some("web/echo-0".into()),
        backend_address: Some("10.244.6.11:8080".into()),
        choice: Choice::Random,
        of: 2,
    };
    assert_eq!(e.hops[0].steps[1], expected);
    assert_eq!((e.agreement, e.divergence), (Agreement::Agree, None));
}

#[test]
fn the_oracle_takes_over_what_was_chosen() {
    let mut trace = translated();
    let port = |trace: &Trace| {
        let port = trace.hops[0].tunnel.as_ref().map(|header| header.source_port);
        [port, None, None]
    };
    let tunnel_ports = port(&trace);
    let chosen = Choices { backend: Some(backend()), tunnel_ports, ..Choices::default() };
    assert_eq!(choices(&trace), chosen);
    let after = place("192.168.66.226", 40312);
    let event = Event::Rewritten {
        rewriting: Rewriting::Masquerade,
        before: place("10.244.1.154", 40312),
        after,
        created: true,
    };
    let stamp = trace.hops[0].events[0];
    trace.hops[0].events.push(crate::trace::Stamped { event, ..stamp });
    assert_eq!(choices(&trace), Choices { sources: [Some(after), None], ..chosen });
    let through = through();
    let tunnel_ports = port(&through);
    assert_eq!(choices(&through), Choices { tunnel_ports, ..Choices::default() });
}

#[test]
fn differences_about_services_and_ends_are_found() {
    let shop = Shop::new();
    let found = |change: &dyn Fn(&mut Judgement)| {
        let mut judged = judged(&shop);
        change(&mut judged);
        let divergence = shop.explain(&translated(), &judged).divergence;
        divergence.map(|d| format!("{}: {}, not {}", d.what, d.datapath, d.oracle))
    };
    let differs = |change: &dyn Fn(&mut Judgement), expected: &str| {
        assert_eq!(found(change).as_deref(), Some(expected));
    };
    differs(&|j| j.serving = None, "service: web/echo 80/tcp to 10.244.6.11:8080, not no service");
    let nobody = |j: &mut Judgement| {
        if let Some(serving) = &mut j.serving {
            serving.backend = None;
        }
    };
    let expected = "service: web/echo 80/tcp to 10.244.6.11:8080, not web/echo 80/tcp to nobody";
    differs(&nobody, expected);
    let no_port = |j: &mut Judgement| {
        if let Some(serving) = &mut j.serving {
            serving.port = None;
        }
    };
    let expected =
        "service: web/echo 80/tcp to 10.244.6.11:8080, not web/echo, a port that it does not have";
    differs(&no_port, expected);
    let illegal = |j: &mut Judgement| j.illegal.push("10.9.9.9:1 is no backend".into());
    differs(&illegal, "choice: chosen, not 10.9.9.9:1 is no backend");
    let elsewhere =
        |j: &mut Judgement| j.arrives = Some((place("192.168.66.226", 40312), backend()));
    let expected = "what arrives: 10.244.1.154:40312 -> 10.244.6.11:8080, \
                    not 192.168.66.226:40312 -> 10.244.6.11:8080";
    differs(&elsewhere, expected);
    assert_eq!(found(&|j| j.arrives = None), None, "the oracle need not say");
}

/// The client's packet, dropped after what the program said.
fn dropped_after(shop: &Shop, event: Event, reason: DropReason) -> Explanation {
    let events = vec![event, drop(reason)];
    let Event::Service { frontend, .. } = event else { panic!("a service: {event:?}") };
    let frame_in = between(place("10.244.1.154", 40312), frontend);
    dropped_at(shop, Hop { frame_in, ..hop(NODE01, Hook::FromContainer, events) }, reason)
}

fn dropped_at(shop: &Shop, hop: Hop, reason: DropReason) -> Explanation {
    let judged = super::events::dropped(reason, Vec::new());
    shop.explain(&trace(vec![hop]), &judged)
}

#[test]
fn a_port_that_the_service_does_not_have() {
    let shop = Shop::new();
    let event = served(0, place("10.96.0.20", 81), None);
    let e = dropped_after(&shop, event, DropReason::NoService);
    let Some(Obstacle::NoPort { service, asked, ports, .. }) = e.obstacle else {
        panic!("no port: {:?}", e.obstacle)
    };
    assert_eq!((service.as_str(), asked.as_str()), ("web/echo", "81/tcp"));
    assert_eq!(ports, ["http 80/tcp -> 8080", "admin 9000/tcp -> admin"]);
}

#[test]
fn a_service_with_nobody_behind_it() {
    let mut shop = Shop::new();
    shop.world.pods[1].readiness = Readiness::NotReady;
    shop.world.pods[2].readiness = Readiness::Terminating;
    let e = dropped_after(&shop, served(1, frontend(), None), DropReason::NoService);
    let Some(Obstacle::NoBackend { port, selector, pods, .. }) = e.obstacle else {
        panic!("no backend: {:?}", e.obstacle)
    };
    assert_eq!(
        (port.as_str(), selector.as_str()),
        ("http 80/tcp -> 8080", "pods {app=echo} in web")
    );
    let candidate = |pod: &str, node: &str, unfit| Candidate {
        pod: pod.into(),
        node: node.into(),
        unfit,
        also: Vec::new(),
    };
    let expected = [
        candidate("web/echo-0", "node02", Unfit::NotReady),
        candidate("web/local", "node01", Unfit::Terminating),
    ];
    assert_eq!(pods, expected);

    let ready = Shop::new();
    let event = served(2, place("10.96.0.20", 9000), None);
    let e = dropped_after(&ready, event, DropReason::NoService);
    let Some(Obstacle::NoBackend { pods, .. }) = e.obstacle else { panic!("no backend") };
    assert!(pods.iter().all(|c| c.unfit == Unfit::NoNamedPort), "{pods:?}");
}

#[test]
fn other_obstacles() {
    let shop = Shop::new();
    let e = dropped_after(&shop, served(1, frontend(), None), DropReason::IsClusterIp);
    let Some(Obstacle::ClusterOnly { outside, .. }) = e.obstacle else { panic!("cluster only") };
    assert_eq!(outside, ["port 30080 of every node"]);
    let e = dropped_after(&shop, served(1, frontend(), None), DropReason::NotInSourceRange);
    let Some(Obstacle::NotInRange { ranges, source, .. }) = e.obstacle else { panic!("ranges") };
    assert_eq!((ranges, source.as_str()), (vec!["203.0.113.0/24".to_owned()], "web/client"));

    let outside = |reason| {
        let frame_in = between(place("198.51.100.7", 40312), place("10.244.6.11", 8080));
        let hop = hop(NODE02, Hook::Prefilter, vec![drop(reason)]);
        dropped_at(&shop, Hop { frame_in, ..hop }, reason).obstacle
    };
    let Some(Obstacle::Prefiltered { source, cidr, .. }) = outside(DropReason::Prefiltered) else {
        panic!("prefiltered")
    };
    assert_eq!((source.as_str(), cidr.as_deref()), ("198.51.100.7", Some("198.51.100.0/24")));
    let nat = Obstacle::NoFreePort {
        address: Some("192.168.66.221".into()),
        destination: "10.244.6.11:8080".into(),
        fixed: None,
        first: 32_768,
        last: 65_535,
    };
    assert_eq!(outside(DropReason::NatNoMapping), Some(nat));
    let fragment = Obstacle::NoFirstFragment {
        source: "198.51.100.7".into(),
        destination: "web/echo-0".into(),
    };
    assert_eq!(outside(DropReason::FragmentNotFound), Some(fragment));
    assert_eq!(outside(DropReason::TtlExceeded), None);
}

#[test]
fn a_header_that_says_what_cannot_be() {
    let shop = Shop::new();
    for (at, byte, fault) in [
        (14, 0x65, HeaderFault::Version { ethertype: 0x0800, version: 6 }),
        (14, 0x44, HeaderFault::HeaderLength { bytes: 16 }),
        (17, 8, HeaderFault::TotalLength { total: 8, header: 20 }),
    ] {
        let mut frame_in = between(place("198.51.100.7", 40312), place("10.244.6.11", 8080));
        (frame_in[12..14]).copy_from_slice(&[8, 0]);
        (frame_in[16], frame_in[17], frame_in[at]) = (0, 40, byte);
        let reason = DropReason::InvalidPacket;
        let hop = Hop { frame_in, ..hop(NODE02, Hook::FromNetdev, vec![drop(reason)]) };
        let obstacle = dropped_at(&shop, hop, reason).obstacle;
        assert_eq!(obstacle, Some(Obstacle::BadHeader { fault }));
    }
}

#[test]
fn an_answer_comes_from_the_service() {
    let shop = Shop::new();
    let event = Event::Rewritten {
        rewriting: Rewriting::ServiceReply,
        before: backend(),
        after: place("192.168.66.221", 30080),
        created: false,
    };
    let events = vec![conntrack(CtState::Reply), event, Event::Outcome(Action::Pass)];
    let e =
        shop.explain(&trace(vec![hop(NODE02, Hook::FromContainer, events)]), &allowed(Vec::new()));
    let party = e.hops[0].steps.iter().find_map(|step| match step {
        Step::Rewritten { party, .. } => Some(party.as_str()),
        _ => None,
    });
    assert_eq!(party, Some("web/echo"));
}
