//! Each class of instructions over edge values, in the kernel and in the interpreter.

use super::kernel::{agree, is_available, is_modern};
use super::*;

const EDGES: [u64; 14] = [
    0,
    1,
    2,
    31,
    32,
    63,
    64,
    0x7F,
    0x8000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x8000_0000_0000_0000,
    0xFFFF_FFFF_FFFF_FFFF,
];
const IMMEDIATES: [i32; 9] = [0, 1, 7, 31, 63, -1, 0x1234_5678, i32::MAX, i32::MIN];

/// Where operands and results are in the frame.
const A: i16 = 16;
const B: i16 = 24;
const RESULT: i16 = 32;
const OTHER: i16 = 40;

/// r1 and r2 from the frame, which r7 points to; then the instructions; then r1 and r2 into the frame.
fn program(body: &[Raw]) -> Vec<Raw> {
    let length = i16::try_from(body.len()).unwrap();
    [
        &[
            raw(0xBF, 6, 1, 0, 0),
            raw(0x61, 7, 6, 76, 0),
            raw(0x61, 2, 6, 80, 0),
            raw(0xBF, 3, 7, 0, 0),
            raw(0x07, 3, 0, 0, 64),
            raw(0x2D, 3, 2, length + 4, 0),
            raw(0x79, 1, 7, A, 0),
            raw(0x79, 2, 7, B, 0),
        ],
        body,
        &[raw(0x7B, 7, 1, RESULT, 0), raw(0x7B, 7, 2, OTHER, 0)],
        &ending(0),
    ]
    .concat()
}

fn frames() -> impl Iterator<Item = Vec<u8>> {
    let pairs = EDGES.iter().flat_map(|a| EDGES.iter().map(move |b| (*a, *b)));
    pairs.map(|(a, b)| {
        let mut frame: Vec<u8> = (0..80).map(|at: u8| at.wrapping_mul(37) ^ 0xA5).collect();
        frame[16..24].copy_from_slice(&a.to_le_bytes());
        frame[24..32].copy_from_slice(&b.to_le_bytes());
        frame
    })
}

/// Compares a program; one of the fourth version need not be known to an older kernel.
fn check(what: &str, body: &[Raw], is_new: bool) {
    let known = agree(what, &program(body), &[], frames());
    assert!(known || is_new && !is_modern(), "{what} is refused by the kernel");
}

#[test]
fn arithmetic_is_the_kernels() {
    if !is_available() {
        return;
    }
    for class in [0x07_u8, 0x04] {
        for operation in [0x0_u8, 1, 2, 3, 4, 5, 6, 7, 9, 0xA, 0xB, 0xC] {
            let code = operation << 4 | class;
            let wide = class == 7;
            check(&format!("{code:#04x} by register"), &[raw(code | 8, 1, 2, 0, 0)], false);
            for imm in IMMEDIATES {
                let shift = matches!(operation, 6 | 7 | 0xC);
                let beyond = !(0..if wide { 64 } else { 32 }).contains(&imm);
                let zero = matches!(operation, 3 | 9) && imm == 0;
                // The kernel refuses these, so that nothing need be modelled.
                if !(zero || shift && beyond) {
                    check(&format!("{code:#04x} by {imm}"), &[raw(code, 1, 0, 0, imm)], false);
                }
            }
        }
        check("negation", &[raw(0x80 | class, 1, 0, 0, 0)], false);
        for operation in [3_u8, 9] {
            let code = operation << 4 | class;
            check(&format!("signed {code:#04x}"), &[raw(code | 8, 1, 2, 1, 0)], true);
            for imm in [1, -1, 7, i32::MIN] {
                check(&format!("signed {code:#04x} by {imm}"), &[raw(code, 1, 0, 1, imm)], true);
            }
        }
        for bits in [8, 16, 32] {
            if class == 7 || bits != 32 {
                let body = [raw(0xB8 | class, 1, 2, bits, 0)];
                check(&format!("sign extension of {bits} in {class}"), &body, true);
            }
        }
    }
}

#[test]
fn byte_orders_are_the_kernels() {
    if !is_available() {
        return;
    }
    for bits in [16, 32, 64] {
        check(&format!("to little {bits}"), &[raw(0xD4, 1, 0, 0, bits)], false);
        check(&format!("to big {bits}"), &[raw(0xDC, 1, 0, 0, bits)], false);
        check(&format!("swapped {bits}"), &[raw(0xD7, 1, 0, 0, bits)], true);
    }
}

#[test]
fn jumps_are_the_kernels() {
    if !is_available() {
        return;
    }
    let no_yes = [raw(0xB7, 1, 0, 0, 0), raw(0x05, 0, 0, 1, 0), raw(0xB7, 1, 0, 0, 1)];
    for class in [0x05_u8, 0x06] {
        for condition in [1_u8, 2, 3, 4, 5, 6, 7, 0xA, 0xB, 0xC, 0xD] {
            let code = condition << 4 | class;
            let by_register = [&[raw(code | 8, 1, 2, 2, 0)][..], &no_yes].concat();
            check(&format!("{code:#04x} by register"), &by_register, false);
            for imm in IMMEDIATES {
                let by_imm = [&[raw(code, 1, 0, 2, imm)][..], &no_yes].concat();
                check(&format!("{code:#04x} by {imm}"), &by_imm, false);
            }
        }
    }
    // Every instruction must be reached by some way.
    let far = [
        raw(0x2D, 1, 2, 1, 0),
        raw(0x06, 0, 0, 0, 1),
        raw(0xB7, 1, 0, 0, 9),
        raw(0xB7, 2, 0, 0, 1),
    ];
    check("a long jump", &far, true);
}

#[test]
fn loads_and_stores_are_the_kernels() {
    if !is_available() {
        return;
    }
    for size in [0x00_u8, 0x08, 0x10, 0x18] {
        for off in [48, 49, 51, 55] {
            let what = format!("{size:#x} at {off}");
            check(&format!("load {what}"), &[raw(0x61 | size, 1, 7, off, 0)], false);
            check(&format!("store {what}"), &[raw(0x63 | size, 7, 2, off, 0)], false);
            check(&format!("constant {what}"), &[raw(0x62 | size, 7, 0, off, -2)], false);
            if size != 0x18 {
                check(&format!("signed load {what}"), &[raw(0x81 | size, 1, 7, off, 0)], true);
            }
        }
        let by_stack = [
            raw(0x7B, 10, 1, -8, 0),
            raw(0x63 | size, 10, 2, -8, 0),
            raw(0x79, 1, 10, -8, 0),
            raw(0x61 | size, 2, 10, -8, 0),
        ];
        check(&format!("by the stack {size:#x}"), &by_stack, false);
    }
    let constant = [raw(0x18, 1, 0, 0, -2), raw(0, 0, 0, 0, 0x1234_5678)];
    check("a constant of 64 bits", &constant, false);
}

#[test]
fn atomics_are_the_kernels() {
    if !is_available() {
        return;
    }
    for width in [0x00_u8, 0x18] {
        for imm in [0x00, 0x01, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1, 0xF1] {
            // The stack holds a; b is the operand; a comparing exchange expects b in one half of the frames.
            for expected in [1_u8, 2] {
                let body = [
                    raw(0x7B, 10, 1, -8, 0),
                    raw(0xBF, 0, expected, 0, 0),
                    raw(0xC3 | width, 10, 2, -8, imm),
                    raw(0x79, 1, 10, -8, 0),
                    raw(0x0F, 2, 0, 0, 0),
                ];
                check(&format!("atomic {imm:#x} of {width:#x}"), &body, imm != 0);
            }
        }
    }
}

#[test]
fn functions_keep_their_registers_and_frames() {
    if !is_available() {
        return;
    }
    // r8 and the frame survive a call that overwrites its own; the second argument comes back doubled.
    let code = [
        &program(&[
            raw(0xBF, 8, 1, 0, 0),
            raw(0x7B, 10, 2, -8, 0),
            raw(0xBF, 1, 10, 0, 0),
            raw(0x07, 1, 0, 0, -8),
            raw(0x85, 0, 1, 0, 6),
            raw(0xBF, 1, 8, 0, 0),
            raw(0x79, 2, 10, -8, 0),
        ])[..],
        &[
            raw(0x79, 8, 1, 0, 0),
            raw(0x0F, 8, 8, 0, 0),
            raw(0x7A, 10, 0, -8, 5),
            raw(0x7B, 1, 8, 0, 0),
        ],
        &ending(0),
    ]
    .concat();
    // The call leads past the four instructions that end the program and the two after it.
    assert!(agree("a call", &code, &[], frames()));
}

#[test]
fn the_context_is_the_kernels() {
    if !is_available() {
        return;
    }
    // Fields into the frame: each in its whole and the parts of it that may be read.
    for (off, size) in [
        (0, 0x61),
        (4, 0x61),
        (8, 0x61),
        (16, 0x61),
        (16, 0x69),
        (18, 0x69),
        (0, 0x71),
        (1, 0x71),
        (20, 0x61),
        (24, 0x61),
        (32, 0x61),
        (36, 0x61),
        (40, 0x61),
        (44, 0x61),
        (48, 0x61),
        (64, 0x61),
        (48, 0x79),
        (72, 0x61),
    ] {
        let what = format!("context at {off} by {size:#x}");
        check(&what, &[raw(size, 1, 6, off, 0)], false);
    }
    for off in [8, 32, 44, 48, 52, 64, 72] {
        let body = [raw(0x63, 6, 2, off, 0), raw(0x61, 1, 6, off, 0)];
        check(&format!("context written at {off}"), &body, false);
    }
    let types = [[0_u8; 6], [0xFF; 6], [1, 0, 0x5E, 0, 0, 1], [2, 0, 0, 0, 0, 1]];
    let ethertypes = [[8_u8, 0], [0x86, 0xDD], [8, 6], [0, 40], [5, 0xFF], [6, 0]];
    let frames = types.iter().flat_map(|destination| {
        ethertypes.iter().flat_map(move |ethertype| {
            [0_u8, 0xFF].map(|raw| {
                let mut frame = vec![raw; 80];
                frame[..6].copy_from_slice(destination);
                frame[12..14].copy_from_slice(ethertype);
                frame
            })
        })
    });
    let body = program(&[raw(0x61, 1, 6, 4, 0), raw(0x61, 2, 6, 16, 0)]);
    assert!(agree("type and protocol", &body, &[], frames));
}

/// Every part of every field, read and written: what the kernel lets a program do has the kernel's result, and what it
/// does not is a fault.
#[test]
fn every_field_of_the_context_is_the_kernels() {
    if !is_available() || !is_modern() {
        return;
    }
    let frame = frames().next().unwrap();
    let mut differ = Vec::new();
    for off in -1..200 {
        for (load, store) in [(0x71, 0x73), (0x69, 0x6B), (0x61, 0x63), (0x79, 0x7B)] {
            let written = raw(store, 6, 2, off, 0);
            for body in [
                vec![raw(load, 1, 6, off, 0)],
                vec![written],
                vec![written, raw(0x61, 1, 6, off & !3, 0)],
            ] {
                let what = format!("{body:x?}");
                let known = agree_if_run(&what, &program(&body));
                // Pointers, which do not get into a packet here; and the socket.
                let exempt = body.len() == 1
                    && matches!((off, load), (76 | 80 | 140, 0x61) | (168, 0x79))
                    && body[0].code == load;
                let runs = run(&program(&body), Vec::new(), &frame).is_ok();
                assert!(!(exempt && runs), "{what}");
                if runs != known && !exempt {
                    differ.push((known, what));
                }
            }
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
}

/// Compares a program where both run it; whether the kernel does.
fn agree_if_run(what: &str, code: &[Raw]) -> bool {
    let frame = frames().next().unwrap();
    if run(code, Vec::new(), &frame).is_ok() {
        return agree(what, code, &[], frames());
    }
    super::kernel::KernelProgram::load(code, &[], ProgramKind::Classifier).is_some()
}
