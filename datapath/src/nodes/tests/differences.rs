//! What kernel and interpreter leave behind is compared map by map: a difference in any of them is seen.

use abi::maps::{ATTACHMENTS, CT4, CT6, IPCACHE, POLICY};

use super::*;
use crate::both::{Both, LEFT_OUT};
use crate::vm::map::{ANY, Map};

/// Both after a packet of each family, with flows in conntrack.
fn after_packets() -> Option<Both> {
    let mut both = both(LIMITS)?;
    both.load(&tables(1, everything(), everything())).unwrap();
    both.inject(&from_a(&packet("10.0.0.1", "10.0.0.2", syn(80)))).unwrap();
    both.inject(&from_a(&packet("fd00::1", "fd00::2", syn(80)))).unwrap();
    assert_eq!(both.difference(NODE, true), Ok(None));
    Some(both)
}

/// A map of the interpreter.
fn map<'a>(both: &'a mut Both, name: &str) -> &'a mut Map {
    both.vm.machine(NODE).unwrap().map_mut(name).unwrap()
}

/// That a map differs is seen, and said by its name.
fn assert_seen(both: &mut Both, name: &str, what: &str) {
    let difference = both.difference(NODE, true).unwrap().unwrap_or_default();
    assert!(difference.starts_with(&format!("map {name} at ")), "{what} of {name}: {difference}");
}

/// Some entry of a map: of a trie, all of a prefix without bits.
fn made_up(map: &Map) -> (Vec<u8>, Vec<u8>) {
    let definition = map.definition();
    (vec![0; definition.key_size], vec![1; definition.value_size])
}

#[test]
fn a_difference_in_any_map_of_the_object_is_seen() {
    let Some(mut both) = after_packets() else { return };
    let names: Vec<String> = both.vm.image().maps.iter().map(|map| map.name.clone()).collect();
    // Constants of the programs are nobody's to write.
    let names: Vec<_> = names.iter().filter(|name| !name.starts_with('.')).collect();
    let compared = names.iter().copied().filter(|name| !LEFT_OUT.contains(&name.as_str()));
    let mut changed = 0;
    for name in compared {
        let Some((key, old)) = map(&mut both, name).entries().into_iter().last() else {
            // Nothing is in it here: one that has an entry is seen too.
            let (key, value) = made_up(map(&mut both, name));
            map(&mut both, name).update(&key, &value, ANY).unwrap();
            assert_seen(&mut both, name, "an entry");
            map(&mut both, name).delete(&key).unwrap();
            assert_eq!(both.difference(NODE, true), Ok(None), "{name}");
            changed += 1;
            continue;
        };
        let mut value = old.clone();
        value[0] ^= 0x10;
        map(&mut both, name).update(&key, &value, ANY).unwrap();
        assert_seen(&mut both, name, "another value");
        map(&mut both, name).update(&key, &old, ANY).unwrap();
        assert_eq!(both.difference(NODE, true), Ok(None), "{name}");
        changed += 1;
    }
    assert_eq!(changed + LEFT_OUT.len(), names.len());
}

#[test]
fn an_entry_that_only_one_of_them_has_is_seen() {
    let Some(mut both) = after_packets() else { return };
    for name in [ATTACHMENTS, CT4, CT6, IPCACHE, POLICY] {
        let (key, value) = map(&mut both, name).entries().into_iter().next().unwrap();
        map(&mut both, name).delete(&key).unwrap();
        assert_seen(&mut both, name, "a missing entry");
        map(&mut both, name).update(&key, &value, ANY).unwrap();
        assert_eq!(both.difference(NODE, true), Ok(None), "{name}");
        let other = vec![1; key.len()];
        let other = if [IPCACHE, POLICY].contains(&name) {
            [&[9, 0, 0, 0], &other[4..]].concat()
        } else {
            other
        };
        map(&mut both, name).update(&other, &value, ANY).unwrap();
        assert_seen(&mut both, name, "one more entry");
        map(&mut both, name).delete(&other).unwrap();
    }
}

#[test]
fn what_a_run_says_is_compared() {
    let Some(mut both) = after_packets() else { return };
    // Another generation in one of them: every event carries it.
    let (key, _) = map(&mut both, abi::maps::ACTIVE).entries().remove(0);
    map(&mut both, abi::maps::ACTIVE).update(&key, &7_u32.to_le_bytes(), ANY).unwrap();
    let error = both.inject(&from_a(&packet("10.0.0.1", "10.0.0.2", syn(81)))).unwrap_err();
    let BackendError::Disagreement { one, other, what } = error else { panic!("{error}") };
    assert!(one.starts_with("kernel") && other == "vm" && what.starts_with("a run"), "{what}");
}
