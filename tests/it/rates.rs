//! Real traffic, for a moment, past a monitor: at the rate that it promises it loses nothing, and where it cannot read what it loses is
//! counted to the event. How much it really reads, and what all of it costs, `cargo bench --bench live` measures.

mod load;
#[path = "../benches/live/ways.rs"]
mod ways;

use datapath::lab;
use engine::net::Hook;
use repl::monitor::EVENTS_A_SECOND;

use crate::labs::named::Home;
use crate::tree::{read, root};
use load::{Field, Paced};

/// The test's load of one way, in seconds.
const SECONDS: u64 = 1;

/// What the benchmark measures can be measured; what it comes to is not a test's business.
#[test]
fn traffic_can_be_measured_with_and_without_the_datapath() {
    if !crate::lab::is_possible() {
        return;
    }
    let place = std::env::temp_dir().join(format!("hwt{}measured", std::process::id()));
    let ways = ways::Ways::new(place);
    let round = ways::Round { stream: std::time::Duration::from_millis(20), exchanges: 50 };
    for to in ["10.1.0.11", "10.2.0.10"] {
        for variant in ways::Variant::ALL {
            let mut measured = ways.measure(variant, to, round);
            assert!(measured.bits > 0.0, "{to} {variant:?}");
            for times in [&mut measured.tcp, &mut measured.udp] {
                assert_eq!(times.len(), round.exchanges);
                assert!(ways::quantile(times, 0.5) > 0, "{to} {variant:?}");
            }
            let is_watched = variant == ways::Variant::Watched;
            assert_eq!(
                measured.events.0 > 0,
                is_watched,
                "{to} {variant:?}: {:?}",
                measured.events
            );
        }
    }
}

/// What is promised is said alike everywhere.
#[test]
fn the_rate_is_told_where_it_is_looked_for() {
    let thousands =
        format!("{},{:03} events a second", EVENTS_A_SECOND / 1000, EVENTS_A_SECOND % 1000);
    let help = crate::binary::hopwise().args(["monitor", "--help"]).output().expect("it starts");
    assert!(String::from_utf8_lossy(&help.stdout).contains(&thousands), "{thousands}");
    assert!(read(&root().join("book/src/monitor.md")).contains(&thousands), "{thousands}");
}

#[test]
fn a_monitor_loses_nothing_at_its_rate() {
    if !crate::lab::is_possible() {
        return;
    }
    let home = Home::new("rate");
    let field = Field::new(&home);
    for (to, hooks) in [("load/b", 1), ("load/c", 5)] {
        let way = field.way(to);
        assert_eq!(way.events.len(), hooks, "programs on the way to {to}: {:?}", way.events);
        let each: u64 = way.events.values().sum();
        let (rate, packets) = (EVENTS_A_SECOND / each, EVENTS_A_SECOND / each * SECONDS);
        let before = field.counted();
        let monitor = field.monitor(&["-o", "text"]);
        let sent = way.send(Paced::At(rate), packets);
        let seen = monitor.end();
        let runs = field.since(&before);
        assert_eq!(sent, packets, "the kernel took them all");
        assert_eq!(runs.of(Hook::FromContainer), packets, "{to}: each was seen: {runs:?}");
        assert_eq!((seen.lost, seen.lost_in_stream), (0, 0), "{to}: {seen:?}");
        assert_eq!(seen.runs, runs.total(), "{to}: each run was told: {seen:?} {runs:?}");
        way.assert_all(&runs, &seen);
    }
}

/// A reader that stands still for a while loses what does not fit, and no memory of anybody's grows.
#[test]
fn what_a_monitor_loses_is_counted_to_the_event() {
    const PACKETS: u64 = 30_000;
    if !crate::lab::is_possible() {
        return;
    }
    let home = Home::new("loss");
    let field = Field::new(&home);
    for (to, form) in [("load/b", "text"), ("load/c", "jsonl")] {
        let way = field.way(to);
        let before = field.counted();
        let monitor = field.monitor(&["-o", form]);
        monitor.stand_still();
        way.send(Paced::Not, PACKETS);
        monitor.go_on();
        way.send(Paced::At(1000), 200);
        let seen = monitor.end();
        let runs = field.since(&before);
        assert!(seen.lost > 0, "{to}: more than fits was told: {seen:?}");
        assert_eq!(seen.lost, seen.lost_in_stream, "{to}: the stream tells what the sums tell");
        assert!(seen.runs < runs.total(), "{to}: {seen:?} {runs:?}");
        way.assert_all(&runs, &seen);
        assert!(seen.peak < 256 << 10, "{to}: it held {} KiB", seen.peak);
    }
    lab::down(&field.state, "load").expect("it goes");
}
