//! The stacks of the built-in object's programs: what kernels before 6.6 or so allow, which newer ones do not tell.

use std::collections::BTreeMap;

use super::super::instruction::FRAME;
use super::*;

/// Bytes of the stacks of a program and everything that it calls at one time (`MAX_BPF_STACK`).
const ALLOWED: usize = 512;
/// Calls within calls, the program itself included (`MAX_CALL_FRAMES`).
const FRAMES: usize = 8;
/// What older kernels round each stack up to.
const UNIT: usize = 32;

/// The instructions' classes and operations that matter here.
const LOAD: u8 = 0x01;
const STORES: [u8; 2] = [0x02, 0x03];
const ADD: u8 = 0x07;
const CALL: u8 = 0x85;
/// The `src` of a call of a function of the program.
const OF_PROGRAM: u8 = 1;

/// How deep an instruction reaches into its function's stack.
fn reach(raw: &Raw) -> usize {
    let (class, below) = (raw.code & 7, usize::from(raw.off.min(0).unsigned_abs()));
    match class {
        LOAD if raw.src == FRAME => below,
        class if STORES.contains(&class) && raw.dst == FRAME => below,
        // Addresses on the stack are the frame's end less something.
        _ if raw.code == ADD && (-512..0).contains(&raw.imm) => raw.imm.unsigned_abs() as usize,
        _ => 0,
    }
}

/// A function's stack and those of the deepest way through what it calls, and the frames of the longest one.
fn depth(
    program: &Program,
    start: usize,
    known: &mut BTreeMap<usize, (usize, usize)>,
) -> (usize, usize) {
    if let Some(found) = known.get(&start) {
        return *found;
    }
    let function = program.function(start).unwrap();
    let body = function.start..function.end;
    let own = program.raw[body.clone()].iter().map(reach).max().unwrap_or(0);
    let mut below = (0, 0);
    for pc in body {
        let raw = &program.raw[pc];
        if raw.code == CALL && raw.src == OF_PROGRAM {
            let called = pc.checked_add_signed(raw.imm as isize + 1).unwrap();
            let (bytes, frames) = depth(program, called, known);
            below = (below.0.max(bytes), below.1.max(frames));
        }
    }
    let all = (own.max(1).next_multiple_of(UNIT) + below.0, below.1 + 1);
    known.insert(start, all);
    all
}

#[test]
fn stacks_are_small_enough_for_old_kernels() {
    let image = Image::read(Object::embedded().bytes()).unwrap();
    for program in &image.programs {
        let (bytes, frames) = depth(program, 0, &mut BTreeMap::new());
        assert!(bytes <= ALLOWED, "{}: {bytes} bytes, {ALLOWED} allowed", program.name);
        assert!(frames <= FRAMES, "{}: {frames} frames, {FRAMES} allowed", program.name);
    }
}
