//! Programs that are told to observe, to capture frames and to filter what they tell, as they are on real devices.

use datapath::decode::{Run, Runs};
use datapath_abi::{ABI_VERSION, Config, Filter, SNAP_LENGTH, config, family, filter, maps};
use zerocopy::IntoBytes;

use super::*;

/// `TC_ACT_UNSPEC`
pub(super) const GO_ON: u64 = u32::MAX as u64;

/// What a run comes to that is told how to behave: its code, what it tells, and the frame afterwards.
pub(super) fn run(
    bench: &mut Bench,
    injection: &Injection,
    flags: u32,
    wanted: Filter,
) -> (u64, Vec<Run>, Vec<u8>) {
    run_as(bench, injection, Config { flags, ..Config::default() }, wanted)
}

/// The same, with what else there is to tell them.
fn run_as(
    bench: &mut Bench,
    injection: &Injection,
    told_to: Config,
    wanted: Filter,
) -> (u64, Vec<Run>, Vec<u8>) {
    bench.vm.begin(injection).expect("the packet can enter");
    let machine = bench.vm.machine(injection.node).expect(NODE);
    let config = Config {
        abi: ABI_VERSION,
        flags: told_to.flags | config::TRACE,
        ticks_per_second: 250,
        ..told_to
    };
    for (name, value) in [(maps::CONFIG, config.as_bytes()), (maps::FILTER, wanted.as_bytes())] {
        let map = machine.map_mut(name).expect("every node has it");
        map.update(&[0; 4], value, 0).expect("its only entry is 0");
    }
    machine.skb_mut().ifindex = injection.ifindex;
    let code = machine.run(&mut bench.counts).expect("the packet runs");
    let (mut runs, mut told) = (Runs::default(), Vec::new());
    let events = machine.map_mut(maps::EVENTS).expect("every node has it");
    events.ring_mut().expect("it is a ring").consume(&mut |record: &[u8]| {
        told.extend(runs.take(record).expect("a record of this version"));
    });
    let after = bench.vm.machine(injection.node).expect(NODE).take_skb().into_bytes();
    (code & u64::from(u32::MAX), told, after)
}

/// The packet of a pod to another one on the same node.
fn between_pods(bench: &Bench, source_port: u16) -> Injection {
    let mut sent = packet("10.1.0.10", "10.1.0.11", syn(source_port));
    sent.ip.id = 0x4857;
    sent.payload = (0..=255).collect();
    bench.injection(Hook::FromContainer, frame(&sent))
}

fn frames_are_captured(bench: &mut Bench) {
    let injection = between_pods(bench, 4001);
    let (_, told, after) = run(bench, &injection, config::CAPTURE, Filter::default());
    let [run] = &told[..] else { panic!("one run: {told:?}") };
    let (came, left) = (run.came.clone().expect("it came"), run.left.clone().expect("it left"));
    assert_eq!(came.length as usize, injection.frame.len());
    assert_eq!(came.bytes, injection.frame[..SNAP_LENGTH]);
    assert_eq!(left.bytes, after[..SNAP_LENGTH]);
    assert_ne!(came.bytes, left.bytes, "its TTL is counted down");
    let end = run.end.expect("it ended");
    assert_eq!((end.ifindex, end.length as usize), (injection.ifindex, injection.frame.len()));

    // A short frame is there in full; of a dropped one nothing leaves.
    let short = bench.injection(Hook::ToOverlay, arp());
    let (_, told, _) = self::run(bench, &short, config::CAPTURE, Filter::default());
    assert_eq!(told[0].came.as_ref().map(|came| came.bytes.clone()), Some(arp()));
    assert_eq!(told[0].left, None);
}

fn observed_packets_pass_untouched(bench: &mut Bench) {
    let local = between_pods(bench, 4002);
    let out =
        bench.injection(Hook::FromContainer, frame(&packet("10.1.0.10", "203.0.113.9", syn(4003))));
    let forged =
        bench.injection(Hook::FromContainer, frame(&packet("10.1.0.99", "10.1.0.11", syn(1))));
    for (injection, is_dropped) in [(local, false), (out, false), (forged, true)] {
        let flags = config::OBSERVE | config::CAPTURE;
        let (code, told, after) = run(bench, &injection, flags, Filter::default());
        assert_eq!((code, &after), (GO_ON, &injection.frame));
        assert_eq!(told[0].left, None);
        let would = told[0].events.last().map(|said| said.event);
        let is_drop = matches!(would, Some(Event::Outcome(Action::Drop(_))));
        assert_eq!(is_drop, is_dropped, "{would:?}");
    }
}

/// What may be of a flow that is older than the programs is nothing that would be dropped, and is told apart.
fn what_may_be_older_is_not_known(bench: &mut Bench) {
    for ends in [("10.1.0.10", "10.1.0.12"), (CLIENT, "fd00:1::12")] {
        is_told_apart(bench, ends);
    }
}

fn is_told_apart(bench: &mut Bench, (from, to): (&str, &str)) {
    let tcp = |flags| Transport::Tcp {
        source: 4050,
        destination: 80,
        flags,
        sequence: 1,
        acknowledgement: 1,
    };
    let udp = |source| Transport::Udp { source, destination: 80 };
    bench.vm.forget().expect("conntrack is emptied");
    let denied = Some(DropReason::PolicyDenied);
    for (transport, settled, would_drop, unknown) in [
        (tcp(TcpFlags::SYN), 0, true, None),
        (tcp(TcpFlags::SYN), 5_000, true, None),
        (tcp(TcpFlags(0x12)), 0, false, denied),
        (tcp(TcpFlags::ACK), 0, false, denied),
        (udp(4050), 5_000, false, denied),
        // Past its first minute that flow goes on as what it was, and another one begins.
        (udp(4050), 2_000, false, denied),
        (udp(4051), 2_000, true, None),
    ] {
        let sent = frame(&packet(from, to, transport));
        let injection = Injection { now: 10, ..bench.injection(Hook::FromContainer, sent) };
        let told_to = Config { flags: config::OBSERVE, settled, ..Config::default() };
        let (code, told, after) = run_as(bench, &injection, told_to, Filter::default());
        assert_eq!((code, &after), (GO_ON, &injection.frame));
        let [run] = &told[..] else { panic!("one run: {told:?}") };
        let is_drop = run.events.last().map(|said| said.event)
            == Some(Event::Outcome(Action::Drop(DropReason::PolicyDenied)));
        assert_eq!((is_drop, run.end.and_then(|end| end.unknown)), (would_drop, unknown));
    }
}

/// Of a flow whose beginning was not seen nothing is remembered, even where a rule allows its packets: whose flow it is nobody knows.
fn what_is_amid_a_flow_opens_none(bench: &mut Bench) {
    for (flags, is_known) in
        [(TcpFlags::ACK, false), (TcpFlags(0x12), false), (TcpFlags::SYN, true)]
    {
        let tcp = Transport::Tcp {
            source: 4055,
            destination: 80,
            flags,
            sequence: 1,
            acknowledgement: 1,
        };
        let sent = frame(&packet("10.1.0.10", "10.1.0.11", tcp));
        let injection = Injection { now: 10, ..bench.injection(Hook::FromContainer, sent) };
        let told_to = Config { flags: config::OBSERVE, ..Config::default() };
        run_as(bench, &injection, told_to, Filter::default());
        let (code, told, _) = run_as(bench, &injection, told_to, Filter::default());
        let [run] = &told[..] else { panic!("one run: {told:?}") };
        let said = format!("{:?}", run.events);
        assert_eq!((code, said.contains("Established")), (GO_ON, is_known), "{said}");
        assert!(!said.contains("Drop"), "{said}");
    }
}

/// Programs whose time is over do nothing and tell nothing, whatever they were told to do.
fn nothing_is_done_when_the_time_is_over(bench: &mut Bench) {
    let sent = frame(&packet("10.1.0.10", "10.1.0.12", syn(4060)));
    let injection = Injection { now: 10, ..bench.injection(Hook::FromContainer, sent) };
    for (until, is_over) in [(0, false), (2_501, false), (2_500, true), (1, true)] {
        let told_to = Config { until, ..Config::default() };
        let (code, told, after) = run_as(bench, &injection, told_to, Filter::default());
        assert_eq!((code == GO_ON, told.is_empty()), (is_over, is_over), "{until}");
        assert_eq!(after, injection.frame);
    }
}

fn bytes(address: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    match ip(address) {
        IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes = v6.octets(),
    }
    bytes
}

fn only_what_is_wanted_is_told(bench: &mut Bench) {
    let all = [0xFF; 16];
    let from =
        |source, mask| Filter { source: bytes(source), source_mask: mask, ..Filter::default() };
    let to = |destination| Filter {
        destination: bytes(destination),
        destination_mask: all,
        ..Filter::default()
    };
    let network = [0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let any = Filter::default();
    let flagged = |flags, wanted| Filter { flags, ..wanted };
    let cases = [
        ("everything", any, true),
        ("the source", from("10.1.0.10", all), true),
        ("another source", from("10.1.0.12", all), false),
        ("the source's network", from("10.1.0.0", network), true),
        ("the destination", to("10.1.0.11"), true),
        ("the source as destination", to("10.1.0.10"), false),
        ("the same either way", flagged(filter::EITHER_WAY, to("10.1.0.10")), true),
        ("nobody either way", flagged(filter::EITHER_WAY, to("10.1.0.12")), false),
        ("the port", Filter { destination_port: 80_u16.to_be(), ..any }, true),
        ("another port", Filter { destination_port: 81_u16.to_be(), ..any }, false),
        ("another source port", Filter { source_port: 81_u16.to_be(), ..any }, false),
        ("TCP", Filter { protocol: 6, ..any }, true),
        ("UDP", Filter { protocol: 17, ..any }, false),
        ("IPv4", Filter { family: family::V4, ..any }, true),
        ("IPv6", Filter { family: family::V6, ..any }, false),
        ("drops", flagged(filter::DROPS, any), false),
        ("its id", Filter { id: 0x4857, ..flagged(filter::BY_ID, any) }, true),
        ("another id", Filter { id: 0x4858, ..flagged(filter::BY_ID, any) }, false),
    ];
    for (at, (what, wanted, is_told)) in (0..).zip(cases) {
        let injection = between_pods(bench, 4100 + at);
        let flags = config::FILTERED | config::CAPTURE;
        let (_, told, _) = run(bench, &injection, flags, wanted);
        assert_eq!(!told.is_empty(), is_told, "{what}: {told:?}");
    }
    let six = frame(&packet(CLIENT, SERVER, syn(4200)));
    let injection = bench.injection(Hook::FromContainer, six);
    let labelled = flagged(filter::BY_ID, any);
    let (_, told, _) = run(bench, &injection, config::FILTERED | config::CAPTURE, labelled);
    assert_eq!(told.len(), 1, "the flow label of 0");
    let arp = bench.injection(Hook::FromContainer, arp());
    let (_, told, _) = run(bench, &arp, config::FILTERED | config::CAPTURE, labelled);
    assert!(told.is_empty(), "what is not IP has no id");
}

/// What XDP tells of a frame says when and where it was.
fn the_prefilter_says_where(bench: &mut Bench) {
    let sent = frame(&packet("203.0.113.9", "10.1.0.10", syn(1)));
    let injection = bench.injection(Hook::Prefilter, sent);
    let (_, told, _) = run(bench, &injection, 0, Filter::default());
    let [run] = &told[..] else { panic!("one run: {told:?}") };
    assert!(run.end.is_some_and(|end| end.ifindex != 0), "{run:?}");
}

/// A filter is asked about a translated packet as it came and as it leaves.
fn a_translated_packet_is_wanted_by_both_names(bench: &mut Bench) {
    let out = Packet {
        transport: Transport::Udp { source: 40_001, destination: 53 },
        ..packet("10.1.0.10", "203.0.113.10", syn(1))
    };
    let begun = bench.injection(Hook::FromContainer, frame(&out));
    let left = bench.injection(Hook::ToNetdev, frame(&out));
    for (source, is_told) in [("10.1.0.10", true), ("192.168.1.1", true), ("10.1.0.11", false)] {
        run(bench, &begun, 0, Filter::default());
        let wanted = Filter { source: bytes(source), source_mask: [0xFF; 16], ..Filter::default() };
        let (_, told, _) = run(bench, &left, config::FILTERED, wanted);
        assert_eq!(!told.is_empty(), is_told, "{source}: {told:?}");
    }
}

/// All of them.
pub(super) fn watched(bench: &mut Bench) {
    frames_are_captured(bench);
    observed_packets_pass_untouched(bench);
    what_may_be_older_is_not_known(bench);
    what_is_amid_a_flow_opens_none(bench);
    nothing_is_done_when_the_time_is_over(bench);
    only_what_is_wanted_is_told(bench);
    a_translated_packet_is_wanted_by_both_names(bench);
    the_prefilter_says_where(bench);
    super::put_back(bench);
}
