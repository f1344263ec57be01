//! Slots filled into maps that only remember: indices of the two slots never meet, only what differs is written, hits
//! begin at 0 with each load.

use std::collections::BTreeMap;
use std::ops::Range;

use engine::tables::{BackendEntry, BackendSet, Frontend, FrontendKind};
use engine::topology::{Balancing, ServiceId};
use engine::trace::Place;
use zerocopy::FromBytes;

use super::*;

/// Maps as they are left, and what was done to them.
#[derive(Default)]
struct Remembering {
    rows: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
    written: Vec<String>,
    cleared: Vec<Range<u32>>,
    /// Fails at the writing of a map.
    broken: Option<&'static str>,
}

impl Maps for Remembering {
    fn change(&mut self, map: &str, changes: &[Change<'_>]) -> Result<(), BackendError> {
        if self.broken == Some(map) {
            return Err(BackendError::BadEvent(map.to_owned()));
        }
        for change in changes {
            let rows = self.rows.entry(map.to_owned()).or_default();
            match change {
                Change::Put(key, value) => drop(rows.insert(key.to_vec(), value.to_vec())),
                Change::Remove(key) => drop(rows.remove(*key)),
            }
            self.written.push(map.to_owned());
        }
        Ok(())
    }

    fn rows(&self, map: &str) -> Result<Vec<Row>, BackendError> {
        let rows = self.rows.get(map).into_iter().flatten();
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn clear(&mut self, map: &str, indices: Range<u32>) -> Result<(), BackendError> {
        assert_eq!(map, abi::maps::HITS);
        self.cleared.push(indices);
        Ok(())
    }
}

impl Remembering {
    fn all<K: FromBytes, V: FromBytes>(&self, map: &str) -> Vec<(K, V)> {
        let rows = self.rows.get(map).into_iter().flatten();
        rows.map(|(key, value)| {
            (K::read_from_bytes(key).unwrap(), V::read_from_bytes(value).unwrap())
        })
        .collect()
    }

    fn written_since(&mut self) -> Vec<String> {
        let mut written = std::mem::take(&mut self.written);
        written.sort();
        written.dedup();
        written
    }
}

fn backend(address: &str) -> BackendEntry {
    BackendEntry { pod: PodId(0), place: Place { address: ip(address), port: 8080 } }
}

fn served(backends: &[&str]) -> NodeTables {
    let backends: Vec<_> = backends.iter().map(|address| backend(address)).collect();
    let maglev = vec![0; abi::MAGLEV_SIZE as usize];
    let frontend = Frontend {
        entry: EntryId(1),
        service: ServiceId(0),
        port_index: 0,
        kind: FrontendKind::NodePort,
        place: Place { address: ip("192.168.0.1"), port: 30_080 },
        protocol: Protocol::Tcp,
        internal: 0,
        external: 1,
        affinity: None,
        balancing: Balancing::Maglev,
        source_ranges: Vec::new(),
    };
    NodeTables {
        frontends: vec![frontend],
        backend_sets: vec![
            BackendSet { backends: vec![backend("10.0.0.9")], maglev: Vec::new() },
            BackendSet { backends, maglev },
        ],
        ..node(everything(), everything())
    }
}

fn slot(number: u32, tables: &NodeTables) -> Rc<Slot> {
    Rc::new(encode::encode(tables, &BTreeMap::new(), number, &LIMITS).unwrap())
}

const ROOM: Capacity = Capacity { targets: 50, services: 4, backends: 10, maglev: 3, hits: 40 };

#[test]
fn the_two_slots_share_no_index() {
    let (mut slots, mut maps) = (Slots::default(), Remembering::default());
    for number in [0, 1] {
        slots.fill(&slot(number, &served(&["10.0.0.1", "10.0.0.2"])), ROOM, &mut maps).unwrap();
    }
    let services: Vec<(abi::ServiceKey, abi::ServiceValue)> = maps.all(abi::maps::SERVICES);
    let places: Vec<_> = services
        .iter()
        .map(|(key, value)| (key.slot, value.internal_first, value.external_first, value.maglev))
        .collect();
    assert_eq!(places, [(0, 0, 1, 0), (1, 10, 11, 3)]);
    let backends: Vec<(u32, abi::Backend)> = maps.all(abi::maps::BACKENDS);
    let indices: Vec<_> = backends.iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, [0, 1, 2, 10, 11, 12]);
    let members: Vec<(abi::MemberKey, u32)> = maps.all(abi::maps::MEMBERS);
    let mut firsts: Vec<_> = members.iter().map(|(key, _)| key.first).collect();
    firsts.sort_unstable();
    assert_eq!(firsts, [0, 1, 1, 10, 11, 11]);
    let tables: Vec<(u32, abi::MaglevTable)> = maps.all(abi::maps::MAGLEV);
    assert_eq!(tables.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 3]);
    let targets: Vec<(u32, abi::Target)> = maps.all(abi::maps::TARGETS);
    let counted: Vec<_> = targets
        .iter()
        .filter(|(_, target)| target.kind == abi::target::ENDPOINT)
        .map(|(_, target)| (target.egress_hits, target.ingress_hits))
        .collect();
    // Each table has one entry and the default deny.
    assert_eq!(counted, [(1, 3), (5, 7), (41, 43), (45, 47)]);
    let settings: Vec<(u32, abi::Settings)> = maps.all(abi::maps::SETTINGS);
    assert_eq!([0, 1].map(|slot| settings[slot].1.target_base), [0, 50]);
}

#[test]
fn only_what_differs_is_written_and_what_is_gone_is_removed() {
    let (mut slots, mut maps) = (Slots::default(), Remembering::default());
    let wide = slot(1, &served(&["10.0.0.1", "10.0.0.2"]));
    slots.fill(&wide, ROOM, &mut maps).unwrap();
    maps.written_since();
    slots.fill(&wide, ROOM, &mut maps).unwrap();
    assert_eq!(maps.written_since(), ["SETTINGS"]);
    slots.fill(&slot(1, &served(&["10.0.0.1"])), ROOM, &mut maps).unwrap();
    assert_eq!(maps.written_since(), ["MEMBERS", "SERVICES", "SETTINGS"]);
    assert_eq!(maps.rows["MEMBERS"].len(), 2);
    // After a failure everything is written again, and nothing of any attempt stays.
    maps.broken = Some("SERVICES");
    slots.fill(&wide, ROOM, &mut maps).unwrap_err();
    maps.broken = None;
    slots.fill(&slot(1, &served(&["10.0.0.3"])), ROOM, &mut maps).unwrap();
    let members: Vec<(abi::MemberKey, u32)> = maps.all(abi::maps::MEMBERS);
    let mut addresses: Vec<_> = members.iter().map(|(key, _)| key.address[3]).collect();
    addresses.sort_unstable();
    assert_eq!(addresses, [3, 9]);
}

#[test]
fn hits_begin_at_zero_where_packets_may_have_been_counted() {
    let (mut slots, mut maps) = (Slots::default(), Remembering::default());
    let one = slot(1, &served(&["10.0.0.1"]));
    slots.fill(&one, ROOM, &mut maps).unwrap();
    slots.fill(&one, ROOM, &mut maps).unwrap();
    assert!(maps.cleared.is_empty(), "nothing was asked");
    slots.asked(7);
    slots.fill(&one, ROOM, &mut maps).unwrap();
    assert_eq!(maps.cleared.as_slice(), std::slice::from_ref(&(40..49)));
    slots.fill(&one, ROOM, &mut maps).unwrap();
    assert_eq!(maps.cleared.len(), 1);
}

#[test]
fn maps_grow_with_what_a_slot_needs() {
    let small = slot(0, &served(&["10.0.0.1"]));
    assert_eq!(Capacity::of(&small), Capacity { maglev: 2, ..Capacity::LEAST });
    assert!(Capacity::LEAST.fits(&small) && ROOM.fits(&small));
    for tight in [
        Capacity { targets: 4, ..ROOM },
        Capacity { services: 0, ..ROOM },
        Capacity { backends: 1, ..ROOM },
        Capacity { maglev: 0, ..ROOM },
        Capacity { hits: 8, ..ROOM },
    ] {
        assert!(!tight.fits(&small), "{tight:?}");
    }
    let many: Vec<String> = (0..700).map(|at| format!("10.7.{}.{}", at / 200, at % 200)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let large = slot(0, &served(&many));
    assert!(!Capacity::LEAST.fits(&large));
    assert_eq!(Capacity::of(&large).backends, 2048);
    assert_eq!(Capacity::of(&large).entries(abi::maps::MEMBERS), Some(4096));
}
