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
