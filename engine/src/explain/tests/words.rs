//! Names of what events hold as numbers: steps, keys, packets, assumptions.

use crate::explain::{PacketReport, Step, TunnelReport, explain, names, packet};
use crate::identity::Identity;
use crate::net::{Direction, Fragment, Hook, Protocol, Transport};
use crate::question::Question;
use crate::reason::DropReason;
use crate::tables::{EntryId, PolicyKey};
use crate::topology::{Party, TunnelKind};
use crate::trace::{CtState, Event, IdentitySource, PolicyOutcome};

use super::events::*;
use super::shop::*;

#[test]
fn steps_stand_in_the_order_that_a_reader_follows() {
    let shop = Shop::new();
    let e = shop.explain(&through(), &through_judged(&shop));
    let [first, second] = e.hops.as_slice() else { panic!("two hops: {e:?}") };
    let names = |steps: &[Step]| {
        let name = |step: &Step| match step {
            Step::Identity { .. } => "identity",
            Step::Conntrack { .. } => "conntrack",
            Step::Ipcache { .. } => "ipcache",
            Step::Policy { .. } => "policy",
            Step::Skipped { .. } => "skipped",
            Step::Tunnel { .. } => "tunnel",
            Step::Deliver { .. } => "deliver",
            Step::Stack { .. } => "stack",
            Step::Drop { .. } => "drop",
            Step::Service { .. } => "service",
            Step::Rewritten { .. } => "rewritten",
            Step::Requoted { .. } => "requoted",
            Step::Encrypted { .. } => "encrypted",
            Step::Network { .. } => "network",
            Step::Left { .. } => "left",
        };
        steps.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&first.steps), "identity conntrack ipcache policy tunnel");
    assert_eq!(names(&second.steps), "identity conntrack policy deliver");
    let ipcache = Step::Ipcache {
        address: "10.244.6.11".into(),
        identity: ECHO_IDENTITY,
        meaning: "{app=echo} in web".into(),
        prefix: Some("10.244.6.11/32".into()),
        entry: Some(EntryId(2)),
        node: Some("node02".into()),
        via: Some("192.168.66.221".into()),
        remembered: false,
    };
    assert_eq!(first.steps[2], ipcache);
    let tunnel = Step::Tunnel {
        kind: TunnelKind::Vxlan,
        source: "192.168.66.226".into(),
        destination: "192.168.66.221".into(),
        port: 8472,
        vni: 27634,
        meaning: "web/client".into(),
        node: Some("node02".into()),
    };
    assert_eq!(first.steps[4], tunnel);
}

#[test]
fn a_hop_reports_its_tunnel_and_what_is_open() {
    let shop = Shop::new();
    let mut hops = through();
    hops.hops[0].undetermined = vec!["echo payload".into(), "outer IP id".into()];
    let e = explain(&shop.context(), &asked(), &hops, None).expect("the trace has hops");
    let tunnel = TunnelReport {
        kind: TunnelKind::Vxlan,
        source: "192.168.66.226".into(),
        destination: "192.168.66.221".into(),
        port: 8472,
        source_port: 40000,
        vni: 27634,
    };
    assert_eq!(e.hops[0].tunnel, Some(tunnel));
    assert_eq!(e.hops[0].undetermined, ["outer IP id", "echo payload"]);
    assert_eq!(e.hops[1].tunnel, None);
    assert_eq!((e.hops[0].frame_in[22], e.hops[0].frame[22]), (64, 63));
}

#[test]
fn identities_by_every_source() {
    let shop = Shop::new();
    let step = |identity, from| {
        let events = vec![source("10.9.1.1", identity, from), drop(DropReason::TtlExceeded)];
        let asked_trace = trace(vec![hop(NODE02, Hook::FromNetdev, events)]);
        let e = explain(&shop.context(), &asked(), &asked_trace, None).expect("a hop");
        match &e.hops[0].steps[0] {
            Step::Identity { meaning, from, prefix, entry, .. } => {
                format!("{meaning}, {from}, {prefix:?}, {:?}", entry.map(|e| e.0))
            }
            other => format!("{other:?}"),
        }
    };
    let cidr = step(Identity(Identity::FIRST_CIDR), IdentitySource::Ipcache(EntryId(3)));
    assert_eq!(cidr, r#"cidr 10.9.0.0/16, ipcache, Some("10.9.0.0/16"), Some(3)"#);
    let miss = step(Identity::WORLD, IdentitySource::Ipcache(EntryId(0)));
    assert_eq!(miss, "world, ipcache, None, None");
    let own = step(Identity::HOST, IdentitySource::OwnAddress(EntryId(0)));
    assert_eq!(own, "host, own-address, None, None");
    let pods = step(CLIENT_IDENTITY, IdentitySource::Remembered);
    assert_eq!(pods, "{app=client} in web, remembered, None, None");
    assert_eq!(step(Identity(777), IdentitySource::Vni), ", vni, None, None");
}

#[test]
fn a_look_up_shows_its_key_and_the_loser() {
    let shop = Shop::new();
    let mut hops = through();
    for stamped in &mut hops.hops[1].events {
        if let Event::Policy { other, .. } = &mut stamped.event {
            *other = Some(EntryId(4));
        }
    }
    let e = shop.explain(&hops, &through_judged(&shop));
    let Step::Policy { key, other, peer_meaning, .. } = &e.hops[1].steps[2] else {
        panic!("a policy step: {:?}", e.hops[1].steps)
    };
    assert_eq!(key.as_deref(), Some("identity 27634, tcp 8080"));
    assert_eq!(*other, Some((EntryId(4), "identity any, tcp 8080-8087".to_owned())));
    assert_eq!(peer_meaning, "{app=client} in web");
}

#[test]
fn keys() {
    let check = |identity, protocol, port, port_bits, expected: &str| {
        assert_eq!(names::key(&PolicyKey { identity, protocol, port, port_bits }), expected);
    };
    check(Identity::ANY, None, 0, 0, "identity any, any");
    check(Identity(2), Some(Protocol::Sctp), 0, 0, "identity 2, sctp");
    check(Identity(27634), Some(Protocol::Icmp), 8, 16, "identity 27634, icmp 8");
    check(Identity(2), Some(Protocol::Udp), 0x8000, 1, "identity 2, udp 32768-65535");
}

#[test]
fn packets_in_words() {
    let shop = Shop::new();
    let report = |change: &dyn Fn(&mut Question)| -> PacketReport {
        let mut question = asked();
        change(&mut question);
        packet::report(&shop.context(), &question)
    };
    let plain = report(&|_| ());
    assert_eq!((plain.source.as_str(), plain.destination.as_str()), ("web/client", "web/echo-0"));
    assert_eq!((plain.source_port, plain.destination_port), (Some(40312), Some(8080)));
    assert_eq!(plain.detail, "SYN");
    let named = |party| report(&|q| q.source = party).source;
    let address = |text: &str| Party::Address(text.parse().expect("an address"));
    assert_eq!(named(address("8.8.8.8")), "8.8.8.8");
    assert_eq!(named(address("10.244.1.20")), "web/local");
    assert_eq!(named(Party::Node(NODE02)), "node02");
    let later = report(&|q| q.packet.ip.fragment = Fragment { offset: 1480, more: false });
    assert_eq!((later.source_port, later.detail.as_str()), (None, "last fragment, at 1480"));
    let first = report(&|q| q.packet.ip.fragment = Fragment { offset: 0, more: true });
    assert_eq!(first.detail, "SYN, first fragment");
    let options = report(&|q| q.packet.ip.options = vec![1; 8]);
    assert_eq!(options.detail, "SYN, 8 bytes of IP options");
    let headers = report(&|q| {
        q.packet.ip.extensions = vec![(0, vec![0; 6]), (139, vec![0; 6])];
        q.packet.ip.fragment = Fragment { offset: 0, more: true };
    });
    assert_eq!(headers.detail, "SYN, behind hop-by-hop, 139, first fragment");
}

#[test]
fn messages_in_words() {
    let shop = Shop::new();
    let detail = |(source, destination): (&str, &str), kind, code| {
        let transport = Transport::Icmp { kind, code, rest: [1, 0xf6, 7, 0x56] };
        let packet = super::events::packet(source, destination, transport);
        packet::report(&shop.context(), &Question { packet, ..asked() }).detail
    };
    let (v4, v6) = (("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2"));
    assert_eq!(detail(v4, 8, 0), "echo request id 502 seq 1878");
    assert_eq!(detail(v6, 129, 0), "echo reply id 502 seq 1878");
    assert_eq!(detail(v4, 3, 4), "destination-unreachable 3/4 mtu 1878");
    assert_eq!(detail(v6, 2, 0), "packet-too-big 2/0 mtu 32900950");
    assert_eq!(detail(v4, 42, 1), "type 42 code 1");
}

#[test]
fn assumptions_are_the_questions_and_where_it_enters() {
    let shop = Shop::new();
    let question = Question { assumed: vec!["tcp".into()], ..asked() };
    let assumed = |trace| {
        explain(&shop.context(), &question, &trace, None).expect("the trace has hops").assumed
    };
    assert_eq!(assumed(through()), ["tcp"]);
    let outside = received(PolicyOutcome::Allow, 1, deliver(ECHO_ENDPOINT));
    let outside =
        trace(vec![crate::trace::Hop { hook: Hook::FromNetdev, device: "eth0".into(), ..outside }]);
    assert_eq!(assumed(outside), ["tcp", "the packet reaches node02 eth0"]);
}

#[test]
fn the_way_that_conntrack_remembers_is_named_too() {
    let shop = Shop::new();
    let mut known = sent(CtState::Established);
    for stamped in &mut known.events {
        match &mut stamped.event {
            Event::Identity { source_side: false, from, .. } => *from = IdentitySource::Remembered,
            Event::Policy { remembered, direction: Direction::Egress, .. } => *remembered = true,
            _ => {}
        }
    }
    let e = explain(&shop.context(), &asked(), &trace(vec![known]), None).expect("a hop");
    let Step::Ipcache { node, via, remembered, .. } = &e.hops[0].steps[2] else {
        panic!("an ipcache step: {:?}", e.hops[0].steps)
    };
    let (node, via) = (node.as_deref(), via.as_deref());
    assert_eq!((node, via, *remembered), (Some("node02"), Some("192.168.66.221"), true));
    let shown = e.hops[0].steps.iter().any(|s| matches!(s, Step::Policy { remembered: true, .. }));
    assert!(shown);
}
