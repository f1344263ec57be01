//! Maps alone; and beside the kernel's, through long sequences of changes.

use super::*;

fn map(kind: Kind, key_size: usize, value_size: usize, capacity: u32) -> Map {
    let name = "test".to_owned();
    Map::new(Definition { name, kind, key_size, value_size, capacity, contents: Vec::new() })
        .unwrap()
}

fn value(map: &mut Map, key: &[u8]) -> Option<Vec<u8>> {
    let slot = map.look_up(key)?;
    map.value(slot).map(<[u8]>::to_vec)
}

#[test]
fn a_full_lru_hash_forgets_what_was_not_used_for_longest() {
    let mut lru = map(Kind::LruHash, 4, 1, 3);
    for key in 1..=3_u32 {
        lru.update(&key.to_le_bytes(), &[0], ANY).unwrap();
    }
    assert!(lru.look_up(&1_u32.to_le_bytes()).is_some());
    lru.update(&4_u32.to_le_bytes(), &[0], ANY).unwrap();
    let mut left: Vec<u8> = lru.entries().into_iter().map(|(key, _)| key[0]).collect();
    left.sort_unstable();
    assert_eq!(left, [1, 3, 4]);
}

#[test]
fn a_trie_finds_the_longest_prefix_within_the_keys_length() {
    let mut trie = map(Kind::LpmTrie, 8, 1, 8);
    let key = |length: u32, address: [u8; 4]| [length.to_le_bytes(), address].concat();
    for (length, address, name) in [(0, [0; 4], 1), (8, [10, 0, 0, 0], 2), (31, [10, 0, 0, 2], 3)] {
        trie.update(&key(length, address), &[name], ANY).unwrap();
    }
    for (length, address, name) in [
        (32, [10, 0, 0, 3], Some(vec![3])),
        (32, [10, 0, 0, 4], Some(vec![2])),
        (30, [10, 0, 0, 2], Some(vec![2])),
        (7, [10, 0, 0, 0], Some(vec![1])),
        (33, [10, 0, 0, 3], None),
    ] {
        assert_eq!(value(&mut trie, &key(length, address)), name, "{address:?}/{length}");
    }
    assert_eq!(trie.delete(&key(8, [10, 9, 9, 9])), Ok(()), "bits beyond the prefix are nothing");
    assert_eq!(trie.delete(&key(8, [10, 0, 0, 0])), Err(Errno::NOENT));
    assert_eq!(value(&mut trie, &key(32, [10, 0, 0, 4])), Some(vec![1]));
}

#[test]
fn a_program_array_holds_programs_and_a_ring_is_no_table() {
    let mut programs = map(Kind::ProgramArray, 4, 4, 2);
    assert_eq!(programs.program(1), None);
    programs.update(&1_u32.to_le_bytes(), &7_u32.to_le_bytes(), ANY).unwrap();
    assert_eq!(programs.program(1), Some(7));
    assert_eq!(programs.update(&2_u32.to_le_bytes(), &[0; 4], ANY), Err(Errno::TOO_BIG));
    assert_eq!(programs.delete(&1_u32.to_le_bytes()), Ok(()));
    assert_eq!(programs.delete(&1_u32.to_le_bytes()), Err(Errno::NOENT));
    assert_eq!(map(Kind::RingBuffer, 0, 0, 4096).update(&[], &[], ANY), Err(Errno::NOTSUPP));
    let wrong = Definition {
        name: "test".to_owned(),
        kind: Kind::RingBuffer,
        key_size: 0,
        value_size: 0,
        capacity: 5000,
        contents: Vec::new(),
    };
    assert_eq!(Map::new(wrong).err(), Some(Errno::INVAL));
}

#[test]
fn a_reader_sees_submitted_records_up_to_the_first_that_is_not() {
    let mut map = map(Kind::RingBuffer, 0, 0, 4096);
    let ring = map.ring_mut().unwrap();
    let ids: Vec<_> = (0..4).map(|_| ring.reserve(8).unwrap()).collect();
    for (byte, id) in (1..).zip(&ids) {
        ring.bytes_mut(*id).unwrap().fill(byte);
    }
    assert!(
        ring.release(ids[0], true) && ring.release(ids[1], false) && ring.release(ids[3], true)
    );
    assert!(!ring.release(ids[0], true), "only once");
    let mut seen = Vec::new();
    ring.consume(|record| seen.push(record[0]));
    assert_eq!((seen.as_slice(), ring.reserved()), (&[1][..], 1));
    assert!(ring.release(ids[2], true));
    ring.consume(|record| seen.push(record[0]));
    assert_eq!((seen.as_slice(), ring.query(0)), (&[1, 3, 4][..], 0));
}

#[cfg(feature = "kernel")]
#[test]
fn changes_have_the_kernels_results() {
    use crate::vm::tests::kernel::{KernelMap, is_available};
    if !is_available() {
        return;
    }
    for (kind, key_size) in
        [(Kind::Hash, 4), (Kind::Array, 4), (Kind::LpmTrie, 8), (Kind::LruHash, 4)]
    {
        let capacity = if kind == Kind::LruHash { 4096 } else { 6 };
        let mut map = map(kind, key_size, 8, capacity);
        let kernel = KernelMap::new(map.definition());
        let mut numbers = 0x1234_5678_u32;
        let mut below = |end: u32| {
            numbers = numbers.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (numbers >> 16) % end
        };
        for round in 0..5000_u64 {
            let mut key = below(9).to_le_bytes().to_vec();
            if kind == Kind::LpmTrie {
                let bits = [below(256), below(2) * 255].map(|byte| byte.to_le_bytes()[0]);
                key = [&below(35).to_le_bytes()[..], &bits, &[0, 0]].concat();
            }
            let flags = u64::from(below(4));
            let value = round.to_le_bytes();
            let what = format!("{kind:?}, round {round}, key {key:?}, flags {flags}");
            let number = |result: Result<(), Errno>| result.map_err(|error| error.0);
            match below(3) {
                0 => assert_eq!(number(map.delete(&key)), kernel.delete(&key), "{what}"),
                1 => {
                    let (vm, kernel) =
                        (map.update(&key, &value, flags), kernel.update(&key, &value, flags));
                    assert_eq!(number(vm), kernel, "{what}");
                }
                _ => assert_eq!(self::value(&mut map, &key), kernel.look_up(&key, 8), "{what}"),
            }
        }
    }
}
