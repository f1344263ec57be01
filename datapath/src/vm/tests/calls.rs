//! Helpers with their limits and errors, in the kernel and in the interpreter.

use super::kernel::{agree, is_available};
use super::*;

/// Stores r0 and some of the stack into the frame, and ends.
fn reported(body: &[Raw], stack: &[i16]) -> Vec<Raw> {
    let mut code = vec![raw(0xBF, 6, 1, 0, 0)];
    code.extend_from_slice(body);
    let skipped = i16::try_from(stack.len() * 2 + 1).unwrap();
    code.extend([
        raw(0x61, 7, 6, 76, 0),
        raw(0x61, 2, 6, 80, 0),
        raw(0xBF, 3, 7, 0, 0),
        raw(0x07, 3, 0, 0, 128),
        raw(0x2D, 3, 2, skipped, 0),
        raw(0x7B, 7, 0, 16, 0),
    ]);
    for (place, at) in (0_i16..).zip(stack) {
        code.push(raw(0x79, 2, 10, *at, 0));
        code.push(raw(0x7B, 7, 2, 24 + place * 8, 0));
    }
    code.extend(ending(0));
    code
}

fn frame() -> Vec<u8> {
    (0..160_u8).map(|at| if at < 12 { 2 } else { at }).collect()
}

fn check(what: &str, body: &[Raw], stack: &[i16]) {
    assert!(agree(what, &reported(body, stack), &[], [frame()]), "{what} is refused");
}

const KEY: [i16; 6] = [-96, -88, -80, -72, -64, -56];

/// A tunnel key of 48 bytes at fp - 48, and what is to be overwritten at fp - 96.
fn prepared(extension: i32, label: i32) -> Vec<Raw> {
    let mut body: Vec<Raw> =
        (0_i16..12).map(|at| raw(0x7A, 10, 0, -8 * (at + 1), 0x1111 * i32::from(at))).collect();
    body.push(raw(0x62, 10, 0, -48, 1234));
    body.push(raw(0x62, 10, 0, -44, 0x0A00_0001));
    body.push(raw(0x6A, 10, 0, -26, extension));
    body.push(raw(0x62, 10, 0, -24, label));
    body
}

fn set(size: i32, flags: i32) -> [Raw; 6] {
    [
        raw(0xBF, 1, 6, 0, 0),
        raw(0xBF, 2, 10, 0, 0),
        raw(0x07, 2, 0, 0, -48),
        raw(0xB7, 3, 0, 0, size),
        raw(0xB7, 4, 0, 0, flags),
        raw(0x85, 0, 0, 0, 21),
    ]
}

fn get(size: i32, flags: i32) -> [Raw; 6] {
    let mut get = set(size, flags);
    get[2] = raw(0x07, 2, 0, 0, -96);
    get[5] = raw(0x85, 0, 0, 0, 20);
    get
}

#[test]
fn tunnel_keys_have_the_kernels_sizes_flags_and_errors() {
    if !is_available() {
        return;
    }
    for size in [1, 4, 8, 20, 22, 24, 28, 32, 43, 44] {
        for flags in [0, 1, 2, 3, 4, 8, 32] {
            check(
                &format!("set {size} {flags}"),
                &[&prepared(0, 0)[..], &set(size, flags)].concat(),
                &[],
            );
            for kept in [0, 1] {
                let body = [&prepared(0, 0)[..], &set(44, kept), &get(size, flags)].concat();
                check(&format!("get {size} {flags} of {kept}"), &body, &KEY);
            }
        }
        let without = [&prepared(0, 0)[..], &get(size, 0)].concat();
        check(&format!("get {size} of none"), &without, &KEY);
    }
    for (extension, label) in [(1, 0), (0, 1), (0, 0x00FF_FFFF)] {
        for flags in [0, 1] {
            let body = [&prepared(extension, label)[..], &set(44, flags), &get(44, flags)].concat();
            check(&format!("a key with {extension} {label} {flags}"), &body, &KEY);
        }
    }
}

#[test]
fn bytes_of_the_packet_are_copied_as_the_kernel_does() {
    if !is_available() {
        return;
    }
    for (offset, length) in [
        (0, 8),
        (13, 3),
        (152, 8),
        (153, 8),
        (159, 1),
        (160, 1),
        (-1, 4),
        (i32::MAX, 4),
        (65_536, 2),
    ] {
        let call = |helper: i32, flags: i32| {
            vec![
                raw(0x7A, 10, 0, -8, 0x5A5A),
                raw(0xBF, 1, 6, 0, 0),
                raw(0xB7, 2, 0, 0, offset),
                raw(0xBF, 3, 10, 0, 0),
                raw(0x07, 3, 0, 0, -8),
                raw(0xB7, 4, 0, 0, length),
                raw(0xB7, 5, 0, 0, flags),
                raw(0x85, 0, 0, 0, helper),
            ]
        };
        check(&format!("load {length} at {offset}"), &call(26, 0), &[-8]);
        for flags in [0, 2, 4] {
            check(&format!("store {length} at {offset}, {flags}"), &call(9, flags), &[-8]);
        }
    }
}

#[test]
fn small_helpers_answer_as_the_kernels() {
    if !is_available() {
        return;
    }
    let call = |helper: i32, arguments: &[i32], with_context: bool| {
        let first = u8::from(with_context) + 1;
        let mut body = vec![raw(0xBF, 1, 6, 0, 0)];
        body.extend((first..).zip(arguments).map(|(at, imm)| raw(0xB7, at, 0, 0, *imm)));
        body.push(raw(0x85, 0, 0, 0, helper));
        body
    };
    for length in [0, 1, 64, 160, 161, 100_000] {
        check(&format!("pull {length}"), &call(39, &[length], true), &[]);
    }
    for kind in [0, 1, 2, 3, 4, 7, -1] {
        check(&format!("type {kind}"), &call(32, &[kind], true), &[]);
    }
    for (ifindex, flags) in [(1, 0), (0, 0), (99, 0), (1, 1), (1, 2), (1, 4)] {
        check(&format!("redirect {ifindex} {flags}"), &call(23, &[ifindex, flags], false), &[]);
        let code = reported(&call(155, &[ifindex, flags], false), &[]);
        assert!(agree("peer", &code, &[], [frame()]), "{ifindex} {flags}");
    }
}

#[test]
fn maps_seen_by_programs_are_the_kernels() {
    if !is_available() {
        return;
    }
    // The key is a byte of the frame, the value follows from it; flags are another byte.
    let code = |helper: i32| {
        let body = [
            raw(0x61, 7, 6, 76, 0),
            raw(0x61, 2, 6, 80, 0),
            raw(0xBF, 3, 7, 0, 0),
            raw(0x07, 3, 0, 0, 128),
            raw(0x3D, 2, 3, 2, 0),
            raw(0xB7, 0, 0, 0, 0),
            raw(0x95, 0, 0, 0, 0),
            raw(0x71, 2, 7, 120, 0),
            raw(0x63, 10, 2, -8, 0),
            raw(0x7B, 10, 2, -16, 0),
            raw(0x71, 4, 7, 121, 0),
            raw(0x18, 1, 1, 0, 0),
            raw(0, 0, 0, 0, 0),
            raw(0xBF, 2, 10, 0, 0),
            raw(0x07, 2, 0, 0, -8),
            raw(0xBF, 3, 10, 0, 0),
            raw(0x07, 3, 0, 0, -16),
            raw(0x85, 0, 0, 0, helper),
        ];
        reported(&body, &[])
    };
    let mut numbers = 7_u32;
    let frames: Vec<_> = (0..400)
        .map(|_| {
            numbers = numbers.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut frame = frame();
            frame[120] = numbers.to_be_bytes()[0] % 12;
            frame[121] = numbers.to_be_bytes()[1] % 4;
            frame
        })
        .collect();
    for kind in [Kind::Hash, Kind::Array] {
        for helper in [2, 3] {
            // A program may not delete from an array where it is loaded: the helper refuses at run time.
            let maps = [map(kind, 4, 8, 8)];
            assert!(agree(&format!("{kind:?} {helper}"), &code(helper), &maps, frames.clone()));
        }
    }
}

#[test]
fn a_ring_buffer_fills_as_the_kernels() {
    if !is_available() {
        return;
    }
    for size in [1, 7, 8, 9, 64, 100, 4080, 4088, 4096] {
        let mut body: Vec<Raw> = Vec::new();
        // The bytes come from a map's value, for the stack is too small.
        body.extend([
            raw(0x62, 10, 0, -8, 0),
            raw(0x18, 1, 1, 0, 1),
            raw(0, 0, 0, 0, 0),
            raw(0xBF, 2, 10, 0, 0),
            raw(0x07, 2, 0, 0, -8),
            raw(0x85, 0, 0, 0, 1),
            raw(0x55, 0, 0, 1, 0),
            raw(0x95, 0, 0, 0, 0),
            raw(0xBF, 2, 0, 0, 0),
            raw(0x18, 1, 1, 0, 0),
            raw(0, 0, 0, 0, 0),
            raw(0xB7, 3, 0, 0, size),
            raw(0xB7, 4, 0, 0, 1),
            raw(0x85, 0, 0, 0, 130),
            raw(0xBF, 8, 0, 0, 0),
            raw(0x18, 1, 1, 0, 0),
            raw(0, 0, 0, 0, 0),
            raw(0xB7, 2, 0, 0, 0),
            raw(0x85, 0, 0, 0, 134),
            raw(0x67, 0, 0, 0, 32),
            raw(0x0F, 0, 8, 0, 0),
        ]);
        let maps = [map(Kind::RingBuffer, 0, 0, 4096), map(Kind::Array, 4, 4096, 1)];
        let code = reported(&body, &[]);
        assert!(agree(&format!("records of {size}"), &code, &maps, vec![frame(); 300]), "{size}");
    }
}

/// A call of a helper that corrects a checksum.
fn corrected(helper: i32, offset: i32, from: u64, to: u64, flags: i32) -> Vec<Raw> {
    let [from, to] = [from, to].map(|wide| {
        let half = |at: u64| u32::try_from(wide >> at & 0xFFFF_FFFF).unwrap().cast_signed();
        [half(0), half(32)]
    });
    vec![
        raw(0xBF, 1, 6, 0, 0),
        raw(0xB7, 2, 0, 0, offset),
        raw(0x18, 3, 0, 0, from[0]),
        raw(0, 0, 0, 0, from[1]),
        raw(0x18, 4, 0, 0, to[0]),
        raw(0, 0, 0, 0, to[1]),
        raw(0xB7, 5, 0, 0, flags),
        raw(0x85, 0, 0, 0, helper),
    ]
}

#[test]
fn checksums_are_corrected_as_the_kernel_does() {
    const NUMBERS: [u64; 8] =
        [0, 1, 0xFFFF, 0x1_0000, 0x8000_7FFF, 0xFFFF_FFFF, 0x1234_5678_9ABC_DEF0, u64::MAX];
    if !is_available() {
        return;
    }
    let sums = [[0, 0], [0xFF, 0xFF], [0x12, 0x34], [0xFF, 0xFE], [1, 0]];
    let frames = || {
        sums.map(|sum| {
            let mut frame = frame();
            frame[130..132].copy_from_slice(&sum);
            frame
        })
    };
    for helper in [10, 11] {
        for size in [0, 2, 4] {
            for (at, from) in (0_i32..).zip(NUMBERS) {
                for to in NUMBERS {
                    // Every combination of flags, each with some of the numbers.
                    let flags = if helper == 10 { 0 } else { (at % 8) << 4 };
                    let code = reported(&corrected(helper, 130, from, to, size | flags), &[]);
                    let what = format!("{helper} {size} {from:#x} {to:#x} {flags:#x}");
                    assert!(agree(&what, &code, &[], frames()), "{what}");
                }
            }
        }
        for flags in [1, 3, 5, 8, 15, 16, 0x24, 0x64, 0x100, 0x104, -1] {
            let code = reported(&corrected(helper, 130, 5, 7, flags), &[]);
            assert!(agree(&format!("{helper} {flags}"), &code, &[], frames()));
        }
        for offset in [0, 1, 13, 157, 158, 159, 160, 0xFFFE, 0xFFFF, 0x1_0000, -2, i32::MAX] {
            let code = reported(&corrected(helper, offset, 5, 7, 4), &[]);
            assert!(agree(&format!("{helper} at {offset}"), &code, &[], frames()), "{offset}");
        }
    }
}

#[test]
fn differences_of_checksums_are_the_kernels() {
    // Older kernels return sums of 32 bits, which are the same only when they are folded.
    if !is_available() || crate::testrun::kernel_version().unwrap() < (6, 13) {
        return;
    }
    let words = [0, -1, 0x0102_0304, i32::MIN, 1];
    let words = words.into_iter().cycle();
    let stack: Vec<Raw> =
        (1_i16..=16).zip(words).map(|(at, word)| raw(0x62, 10, 0, -4 * at, word)).collect();
    let place = |register, size: i32| match size {
        0 => vec![raw(0xB7, register, 0, 0, 0)],
        _ => vec![raw(0xBF, register, 10, 0, 0), raw(0x07, register, 0, 0, -64)],
    };
    for from in [0, 3, 4, 8, 12, 20, 40, 64] {
        for to in [0, 2, 4, 8, 16, 28, 64] {
            for seed in [0, 1, 0xFFFF, -1, 0x7654_3210] {
                let body = [
                    &stack[..],
                    &place(1, from),
                    &[raw(0xB7, 2, 0, 0, from)],
                    &place(3, to),
                    &[raw(0xB7, 4, 0, 0, to), raw(0xB7, 5, 0, 0, seed), raw(0x85, 0, 0, 0, 28)],
                ]
                .concat();
                check(&format!("difference {from} {to} {seed}"), &body, &[]);
            }
        }
    }
    // All ones: the other form of zero.
    for (one, other) in [(-1, 0), (0, -1), (-1, -1), (0, 0)] {
        let body = [
            raw(0x62, 10, 0, -4, one),
            raw(0x62, 10, 0, -8, other),
            raw(0xBF, 1, 10, 0, 0),
            raw(0x07, 1, 0, 0, -4),
            raw(0xB7, 2, 0, 0, 4),
            raw(0xBF, 3, 10, 0, 0),
            raw(0x07, 3, 0, 0, -8),
            raw(0xB7, 4, 0, 0, 4),
            raw(0xB7, 5, 0, 0, 0),
            raw(0x85, 0, 0, 0, 28),
        ];
        check(&format!("difference of {one} and {other}"), &body, &[]);
    }
}

#[test]
fn a_neighbour_is_redirected_to_as_the_kernel_does() {
    if !is_available() {
        return;
    }
    let stack: Vec<Raw> = (1_i16..=4).map(|at| raw(0x7A, 10, 0, -8 * at, 0)).collect();
    for size in [0, 1, 19, 20, 21, 32] {
        for flags in [0, 1, 2] {
            let next_hop: &[Raw] = match size {
                0 => &[raw(0xB7, 2, 0, 0, 0)],
                _ => &[raw(0xBF, 2, 10, 0, 0), raw(0x07, 2, 0, 0, -32)],
            };
            let body = [
                &stack[..],
                &[raw(0xB7, 1, 0, 0, 1)],
                next_hop,
                &[raw(0xB7, 3, 0, 0, size), raw(0xB7, 4, 0, 0, flags), raw(0x85, 0, 0, 0, 152)],
            ]
            .concat();
            check(&format!("neighbour {size} {flags}"), &body, &[]);
        }
    }
}
