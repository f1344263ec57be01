//! What counts as a change of conntrack.

use std::slice::from_ref;

use crate::explain::changes;
use crate::net::{FlowKey, Protocol};
use crate::trace::{ConntrackEntry, ConntrackKind};

use super::shop::*;

fn flow(expires_in: u32) -> ConntrackEntry {
    let (source, destination) = (place("10.244.1.154", 40312), place("10.244.6.11", 8080));
    ConntrackEntry {
        flow: FlowKey {
            source: source.address,
            destination: destination.address,
            protocol: Protocol::Tcp,
            source_port: source.port,
            destination_port: destination.port,
        },
        expires_in,
        closing: false,
        seen_reply: false,
        forward: (1, 60),
        replies: (0, 0),
        remembered: Vec::new(),
        kind: ConntrackKind::Plain,
    }
}

/// `added 10.0.0.1:1 -> 10.0.0.2:2 new 60`, one a change.
fn found(before: &[ConntrackEntry], after: &[ConntrackEntry]) -> Vec<String> {
    let shop = Shop::new();
    let known = |list: &[ConntrackEntry]| vec![(NODE01, list.to_vec())];
    let changes = changes(&shop.context(), &known(before), &known(after));
    let words = changes.iter().map(|c| {
        let at = |flow: &Option<crate::explain::KnownFlow>| {
            let state = |f: crate::explain::KnownFlow| {
                let state = f.state.map_or_else(|| "-".to_owned(), |state| state.to_string());
                format!("{state} {}", f.expires_in)
            };
            flow.map_or_else(|| "-".to_owned(), state)
        };
        let leads = c.translated.as_deref().unwrap_or("-");
        format!("{} {:?} {leads} {} => {}", c.node, c.kind, at(&c.before), at(&c.after))
    });
    words.collect()
}

#[test]
fn entries_come_change_and_go() {
    let (new, established) = (flow(60), ConntrackEntry { seen_reply: true, ..flow(21_600) });
    let check = |before: &[ConntrackEntry], after: &[ConntrackEntry], expected: &[&str]| {
        assert_eq!(found(before, after), expected);
    };
    check(&[], from_ref(&new), &["node01 Flow - - => new 60"]);
    let answered = ["node01 Flow - new 60 => established 21600"];
    check(from_ref(&new), from_ref(&established), &answered);
    let closing = ConntrackEntry { closing: true, expires_in: 10, ..established.clone() };
    let ended = ["node01 Flow - established 21600 => closing 10"];
    check(from_ref(&established), &[closing], &ended);
    check(from_ref(&established), &[flow(0)], &["node01 Flow - established 21600 => -"]);
    check(from_ref(&established), &[], &["node01 Flow - established 21600 => -"]);
    check(&[flow(0)], &[new], &["node01 Flow - - => new 60"]);
}

#[test]
fn counters_and_refreshed_times_are_no_news() {
    let later = ConntrackEntry { forward: (9, 999), ..flow(55) };
    assert!(found(&[flow(60)], from_ref(&later)).is_empty());
    assert!(found(&[later], &[flow(60)]).is_empty());
}

#[test]
fn entries_of_services_and_translations_say_where_they_lead() {
    let leads = |kind| found(&[], &[ConntrackEntry { kind, ..flow(60) }]).concat();
    let (backend, source) = (place("10.244.6.11", 8080), place("10.244.1.154", 40312));
    let service = leads(ConntrackKind::Service { backend });
    assert_eq!(service, "node01 Service 10.244.6.11:8080 - => - 60");
    let nat = leads(ConntrackKind::Nat { source });
    assert_eq!(nat, "node01 Nat 10.244.1.154:40312 - => - 60");
    let frontend = Some(place("10.96.0.20", 80));
    let plain = leads(ConntrackKind::Translated { frontend, nat_port: 0, loopback: false });
    assert_eq!(plain, "node01 Flow 10.96.0.20:80 - => new 60");
}
