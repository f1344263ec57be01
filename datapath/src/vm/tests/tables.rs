//! Long sequences of look-ups, updates and deletions by programs, on maps of every kind.

use super::kernel::{Pair, is_available};
use super::*;

/// Where in the frame a step's key, value, flags and operation are; the result comes back at the beginning.
const KEY: usize = 96;
const VALUE: usize = 112;
const FLAGS: usize = 121;
const OPERATION: usize = 122;
const RESULT: usize = 16;
/// Flags of updates, those that succeed more often.
const FLAG_CHOICES: [u8; 10] = [0, 0, 0, 0, 1, 1, 2, 3, 4, 9];

/// Looks the key up in the map (0), updates (1) or deletes (2), as the frame says.
fn program() -> Vec<Raw> {
    vec![
        raw(0xBF, 6, 1, 0, 0),
        raw(0x61, 7, 6, 76, 0),
        raw(0x61, 2, 6, 80, 0),
        raw(0xBF, 3, 7, 0, 0),
        raw(0x07, 3, 0, 0, 128),
        raw(0x2D, 3, 2, 30, 0),
        // The key at fp - 16, the value at fp - 24.
        raw(0x79, 2, 7, 96, 0),
        raw(0x7B, 10, 2, -16, 0),
        raw(0x79, 2, 7, 104, 0),
        raw(0x7B, 10, 2, -8, 0),
        raw(0x79, 2, 7, 112, 0),
        raw(0x7B, 10, 2, -24, 0),
        raw(0x71, 8, 7, 122, 0),
        raw(0x18, 1, 1, 0, 0),
        raw(0, 0, 0, 0, 0),
        raw(0xBF, 2, 10, 0, 0),
        raw(0x07, 2, 0, 0, -16),
        raw(0x15, 8, 0, 6, 1),
        raw(0x15, 8, 0, 10, 2),
        raw(0x85, 0, 0, 0, 1),
        raw(0x15, 0, 0, 9, 0),
        raw(0x79, 2, 0, 0, 0),
        // What was found is changed in its place.
        raw(0x07, 2, 0, 0, 0x0100_0000),
        raw(0x05, 0, 0, 8, 0),
        raw(0xBF, 3, 10, 0, 0),
        raw(0x07, 3, 0, 0, -24),
        raw(0x71, 4, 7, 121, 0),
        raw(0x85, 0, 0, 0, 2),
        raw(0x05, 0, 0, 1, 0),
        raw(0x85, 0, 0, 0, 3),
        raw(0x7B, 7, 0, 16, 0),
        raw(0x05, 0, 0, 2, 0),
        raw(0x7B, 0, 2, 0, 0),
        raw(0x7B, 7, 2, 16, 0),
        raw(0xB7, 0, 0, 0, 0),
        raw(0x95, 0, 0, 0, 0),
        raw(0xB7, 0, 0, 0, 1),
        raw(0x95, 0, 0, 0, 0),
    ]
}

/// Numbers that are the same in every run.
struct Numbers(u32);

impl Numbers {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) % end
    }

    fn key(&mut self, kind: Kind) -> Vec<u8> {
        match kind {
            // Few bits and every length, and some lengths that are too long.
            Kind::LpmTrie => {
                let bits = [self.below(4) * 64, self.below(2) * 255, self.below(2) * 128];
                let bits = bits.map(|byte| byte.to_le_bytes()[0]);
                [&self.below(35).to_le_bytes()[..], &bits, &[0]].concat()
            }
            Kind::Hash | Kind::LruHash | Kind::PerCpuHash => {
                [self.below(9).to_le_bytes(), [0xA5; 4]].concat()
            }
            _ => self.below(9).to_le_bytes().to_vec(),
        }
    }
}

/// Values of per-CPU maps are those of one CPU from now on, for this test's own thread.
fn stay_on_one_cpu() {
    use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
    let mut only = CpuSet::new();
    only.set(sched_getcpu());
    sched_setaffinity(None, &only).unwrap();
}

#[test]
fn sequences_of_changes_by_programs_have_the_kernels_results() {
    if !is_available() {
        return;
    }
    stay_on_one_cpu();
    for (kind, key_size, capacity) in [
        (Kind::Hash, 8, 6),
        (Kind::Array, 4, 6),
        (Kind::PerCpuHash, 8, 6),
        (Kind::PerCpuArray, 4, 6),
        (Kind::LruHash, 8, 4096),
        (Kind::LpmTrie, 8, 12),
    ] {
        let mut pair = Pair::new(&[program()], &[map(kind, key_size, 8, capacity)])
            .unwrap_or_else(|| panic!("{kind:?} is refused"));
        let mut numbers = Numbers(0x9E37_79B9 ^ capacity);
        let (mut keys, mut results) = (Vec::new(), std::collections::BTreeSet::new());
        for round in 0..4000_u64 {
            let mut frame = vec![2; 160];
            let key = numbers.key(kind);
            frame[KEY..KEY + key.len()].copy_from_slice(&key);
            frame[VALUE..VALUE + 8].copy_from_slice(&round.to_le_bytes());
            frame[FLAGS] = FLAG_CHOICES[numbers.below(10) as usize];
            // Twice as many updates as look-ups and as deletions, so that maps fill.
            frame[OPERATION] = [0, 1, 1, 2][numbers.below(4) as usize];
            let (_, out) = pair.run(&format!("{kind:?}, round {round}"), &frame);
            let result = i64::from_le_bytes(out[RESULT..RESULT + 8].try_into().unwrap());
            results.insert(result.min(1));
            keys.push(key);
        }
        let per_cpu = matches!(kind, Kind::PerCpuHash | Kind::PerCpuArray);
        if !per_cpu {
            pair.assert_same(0, &keys, &format!("{kind:?}"));
        }
        let errors: Vec<i64> = results.into_iter().filter(|result| *result < 0).collect();
        let expected: &[i64] = match kind {
            Kind::Hash | Kind::PerCpuHash => &[-22, -17, -7, -2],
            Kind::Array | Kind::PerCpuArray => &[-22, -17, -7],
            Kind::LruHash => &[-22, -17, -2],
            _ => &[-28, -22, -17, -2],
        };
        assert_eq!(errors, expected, "{kind:?}");
    }
}

#[test]
fn maps_of_maps_lead_to_what_was_put_there() {
    if !is_available() {
        return;
    }
    // The outer key is a byte of the frame, the inner one another; what is found is counted up.
    let code = vec![
        raw(0xBF, 6, 1, 0, 0),
        raw(0x61, 7, 6, 76, 0),
        raw(0x61, 2, 6, 80, 0),
        raw(0xBF, 3, 7, 0, 0),
        raw(0x07, 3, 0, 0, 64),
        raw(0xB7, 0, 0, 0, 9),
        raw(0x2D, 3, 2, 22, 0),
        raw(0x71, 2, 7, 32, 0),
        raw(0x63, 10, 2, -8, 0),
        raw(0x71, 2, 7, 33, 0),
        raw(0x63, 10, 2, -4, 0),
        raw(0x18, 1, 1, 0, 0),
        raw(0, 0, 0, 0, 0),
        raw(0xBF, 2, 10, 0, 0),
        raw(0x07, 2, 0, 0, -8),
        raw(0x85, 0, 0, 0, 1),
        raw(0x15, 0, 0, 11, 0),
        raw(0xBF, 1, 0, 0, 0),
        raw(0xBF, 2, 10, 0, 0),
        raw(0x07, 2, 0, 0, -4),
        raw(0x85, 0, 0, 0, 1),
        raw(0x15, 0, 0, 6, 0),
        raw(0x79, 1, 0, 0, 0),
        raw(0x07, 1, 0, 0, 1),
        raw(0x7B, 0, 1, 0, 0),
        raw(0x7B, 7, 1, 16, 0),
        raw(0xB7, 0, 0, 0, 2),
        raw(0x95, 0, 0, 0, 0),
        raw(0xB7, 0, 0, 0, 3),
        raw(0x95, 0, 0, 0, 0),
    ];
    let inner = || map(Kind::Array, 4, 8, 4);
    let maps = [map(Kind::HashOfMaps, 4, 4, 8), inner(), inner()];
    let mut pair = Pair::new(&[code], &maps).expect("the kernel takes it");
    pair.put_map(0, 3, 1);
    pair.put_map(0, 5, 2);
    let mut returned = std::collections::BTreeSet::new();
    for round in 0..200_u8 {
        let mut frame = vec![2; 80];
        (frame[32], frame[33]) = (round % 7, round % 5);
        returned.insert(pair.run(&format!("round {round}"), &frame).0);
    }
    assert_eq!(returned.into_iter().collect::<Vec<_>>(), [2, 3]);
    let keys: Vec<_> = (0..4_u32).map(|key| key.to_le_bytes().to_vec()).collect();
    pair.assert_same(1, &keys, "one");
    pair.assert_same(2, &keys, "the other");
}

#[test]
fn records_are_reserved_until_the_ring_is_full() {
    if !is_available() {
        return;
    }
    for size in [1, 8, 100, 2000, 4080, 4088, 4096, 5000] {
        let reserved = |helper: i32| {
            vec![
                raw(0xBF, 6, 1, 0, 0),
                raw(0x18, 1, 1, 0, 0),
                raw(0, 0, 0, 0, 0),
                raw(0xB7, 2, 0, 0, size),
                raw(0xB7, 3, 0, 0, 0),
                raw(0x85, 0, 0, 0, 131),
                raw(0x55, 0, 0, 2, 0),
                raw(0xB7, 0, 0, 0, 100),
                raw(0x95, 0, 0, 0, 0),
                raw(0x72, 0, 0, 0, 7),
                raw(0xBF, 1, 0, 0, 0),
                raw(0xB7, 2, 0, 0, 1),
                raw(0x85, 0, 0, 0, helper),
                raw(0x18, 1, 1, 0, 0),
                raw(0, 0, 0, 0, 0),
                raw(0xB7, 2, 0, 0, 0),
                raw(0x85, 0, 0, 0, 134),
                raw(0x95, 0, 0, 0, 0),
            ]
        };
        for helper in [132, 133] {
            let maps = [map(Kind::RingBuffer, 0, 0, 4096)];
            let code = reserved(helper);
            let what = format!("records of {size} by {helper}");
            let mut pair = Pair::new(&[code], &maps).unwrap_or_else(|| panic!("{what}"));
            let returned: Vec<u32> = (0..300).map(|_| pair.run(&what, &[2; 64]).0).collect();
            assert_eq!(returned.last(), Some(&100), "{what}: it is full at last");
        }
    }
}
