//! Everything that is accepted is compared with the kernel: the encodings that the decoder takes are found by trying
//! all, and each operation among them runs in both. Everything else is refused, by name.

use std::collections::BTreeMap;

use super::super::call::{self, Helper};
use super::super::instruction::{Alu, Instruction, Operand, Scope, decode};
use super::kernel::{agree, is_available, is_modern};
use super::*;

/// Offsets and immediates that choose between operations: sign extensions and signed divisions, widths of byte
/// swaps, atomic operations.
const OFFSETS: std::ops::RangeInclusive<i16> = -1..=33;
const CHOICES: std::ops::RangeInclusive<i32> = -1..=0x1FF;

/// One encoding of everything that the decoder accepts, by what it is.
fn accepted() -> BTreeMap<String, (Raw, Instruction)> {
    let mut found = BTreeMap::new();
    for code in 0..=u8::MAX {
        for off in OFFSETS {
            // Where it is no choice, an immediate of 1 stands for all.
            let chooses = matches!(code & 0xF8 | 4, 0xD4 | 0xDC) || code & 0xE7 == 0xC3;
            let immediates = if chooses { CHOICES } else { 1..=1 };
            for imm in immediates {
                for src in 0..=2 {
                    let raw = raw(code, 1, src, off, imm);
                    if let Some(instruction) = decoded(raw) {
                        let key = operation(raw, instruction);
                        // A jump by one place is the plainest.
                        let plain = found.contains_key(&key) && off != 1;
                        if !plain {
                            found.insert(key, (raw, instruction));
                        }
                    }
                }
            }
        }
    }
    found
}

/// An instruction in the midst of others.
fn decoded(raw: Raw) -> Option<Instruction> {
    let filler = super::raw(0xB7, 0, 0, 0, 0);
    let second = super::raw(0, 0, 0, 0, 1);
    let after = if raw.code == 0x18 { second } else { filler };
    let mut code = vec![filler; 40];
    code.extend([raw, after]);
    code.extend(vec![filler; 40]);
    decode(&code, 40, &Scope { maps: 2 }).ok()
}

/// What an instruction does, without registers, distances and numbers.
fn operation(raw: Raw, instruction: Instruction) -> String {
    let by = |operand| if matches!(operand, Operand::Register(_)) { "register" } else { "number" };
    match instruction {
        Instruction::Alu { wide, op, operand, .. } => format!("alu {wide} {op:?} {}", by(operand)),
        Instruction::Swap { order, bits, .. } => format!("swap {order:?} {bits}"),
        Instruction::Constant { value, .. } => format!("constant: {}", value.what()),
        Instruction::Load { width, signed, .. } => format!("load {width:?} {signed}"),
        Instruction::Store { width, operand, .. } => format!("store {width:?} {}", by(operand)),
        Instruction::Atomic { width, op, fetch, .. } => format!("atomic {width:?} {op:?} {fetch}"),
        Instruction::Goto { .. } => format!("goto {}", raw.code & 7),
        Instruction::Jump { wide, condition, operand, .. } => {
            format!("jump {wide} {condition:?} {}", by(operand))
        }
        Instruction::Call { .. } => "call".to_owned(),
        Instruction::Helper(helper) => format!("helper {}", helper.name()),
        Instruction::Exit => "exit".to_owned(),
        Instruction::Second => "second".to_owned(),
    }
}

/// Operands, of which every pair is tried.
const EDGES: [u64; 8] = [0, 1, 31, 0x80, 0x7FFF_FFFF, 0x8000_0000, 1 << 63, u64::MAX];

fn frames() -> impl Iterator<Item = Vec<u8>> {
    EDGES.iter().flat_map(|a| {
        EDGES.iter().map(|b| {
            let mut frame: Vec<u8> = (0..160_u8).map(|at| at.wrapping_mul(37) ^ 0xA5).collect();
            frame[16..24].copy_from_slice(&a.to_le_bytes());
            frame[24..32].copy_from_slice(&b.to_le_bytes());
            frame
        })
    })
}

/// r6 = context, r7 = packet of at least 128 bytes, r1 and r2 from it; then the body; then r0 to r2 into it. Where the
/// packet is shorter the program ends.
fn program(body: &[Raw], functions: &[Raw]) -> Vec<Raw> {
    let length = i16::try_from(body.len()).unwrap();
    [
        &[
            raw(0xBF, 6, 1, 0, 0),
            raw(0x61, 7, 6, 76, 0),
            raw(0x61, 2, 6, 80, 0),
            raw(0xBF, 3, 7, 0, 0),
            raw(0x07, 3, 0, 0, 128),
            raw(0x2D, 3, 2, length + 6, 0),
            raw(0x79, 1, 7, 16, 0),
            raw(0x79, 2, 7, 24, 0),
            raw(0xB7, 0, 0, 0, 0),
        ],
        body,
        &[raw(0x7B, 7, 0, 48, 0), raw(0x7B, 7, 1, 32, 0), raw(0x7B, 7, 2, 40, 0)],
        &ending(0),
        functions,
    ]
    .concat()
}

/// A program in which an instruction of a kind does something that shows in the frame. New kinds need a line here.
fn exercised(given: Raw, instruction: Instruction) -> Vec<Raw> {
    let to = |dst: u8, src: u8| Raw { dst, src, ..given };
    match instruction {
        Instruction::Alu { operand: Operand::Register(_), .. } => {
            program(&[Raw { imm: 0, ..to(1, 2) }], &[])
        }
        Instruction::Alu { op: Alu::Neg, .. } => program(&[Raw { imm: 0, ..to(1, 0) }], &[]),
        Instruction::Alu { .. } => program(&[to(1, 0)], &[]),
        Instruction::Swap { .. } => program(&[Raw { off: 0, ..to(1, 0) }], &[]),
        // A number; a map and its value are looked up and read.
        Instruction::Constant { value, .. } if value.is_number() => {
            program(&[Raw { off: 0, ..to(1, 0) }, raw(0, 0, 0, 0, 0x7654_3210)], &[])
        }
        Instruction::Constant { value, .. } => match value.region {
            super::super::value::Region::Map(_) => program(&looked_up(1), &[]),
            _ => program(
                &[
                    Raw { off: 0, imm: 1, ..to(3, 2) },
                    raw(0, 0, 0, 0, 8),
                    raw(0x79, 0, 3, 0, 0),
                    raw(0x7B, 3, 1, 0, 0),
                ],
                &[],
            ),
        },
        Instruction::Load { .. } => program(&[Raw { off: 99, imm: 0, ..to(1, 7) }], &[]),
        Instruction::Store { operand: Operand::Register(_), .. } => {
            program(&[Raw { off: 101, imm: 0, ..to(7, 2) }], &[])
        }
        Instruction::Store { .. } => program(&[Raw { off: 101, imm: -2, ..to(7, 0) }], &[]),
        Instruction::Atomic { .. } => program(
            &[
                raw(0x7B, 10, 1, -8, 0),
                raw(0xBF, 0, 1, 0, 0),
                Raw { off: -8, ..to(10, 2) },
                raw(0x79, 1, 10, -8, 0),
            ],
            &[],
        ),
        Instruction::Goto { .. } => {
            let (off, imm) = if given.code & 7 == 5 { (1, 0) } else { (0, 1) };
            let far = Raw { off, imm, ..to(0, 0) };
            program(&[raw(0x2D, 1, 2, 1, 0), far, raw(0xB7, 1, 0, 0, 9)], &[])
        }
        Instruction::Jump { operand, .. } => {
            let by_register = matches!(operand, Operand::Register(_));
            let (src, imm) = if by_register { (2, 0) } else { (0, 31) };
            program(&[Raw { off: 1, imm, ..to(1, src) }, raw(0xB7, 2, 0, 0, 9)], &[])
        }
        // Past the five instructions that end the program.
        Instruction::Call { .. } => {
            let function = [raw(0xBF, 0, 1, 0, 0), raw(0x1F, 0, 2, 0, 0), raw(0x95, 0, 0, 0, 0)];
            let after = [raw(0xB7, 1, 0, 0, 3), raw(0xB7, 2, 0, 0, 4)];
            program(&[&[Raw { off: 0, imm: 7, ..to(0, 1) }][..], &after].concat(), &function)
        }
        Instruction::Helper(helper) => called(helper),
        Instruction::Exit => {
            program(&[raw(0x2D, 1, 2, 1, 0), Raw { off: 0, imm: 0, ..to(0, 0) }], &[])
        }
        Instruction::Second => Vec::new(),
    }
}

/// A key of 0 looked up in a map, and what was found read and counted up.
fn looked_up(map: i32) -> Vec<Raw> {
    vec![
        raw(0x62, 10, 0, -8, 0),
        raw(0x18, 1, 1, 0, map),
        raw(0, 0, 0, 0, 0),
        raw(0xBF, 2, 10, 0, 0),
        raw(0x07, 2, 0, 0, -8),
        raw(0x85, 0, 0, 0, 1),
        raw(0x15, 0, 0, 4, 0),
        raw(0x79, 1, 0, 0, 0),
        raw(0x07, 1, 0, 0, 1),
        raw(0x7B, 0, 1, 0, 0),
        raw(0xB7, 0, 0, 0, 5),
        raw(0xB7, 1, 0, 0, 6),
        raw(0xB7, 2, 0, 0, 7),
    ]
}

/// Maps of these programs.
fn maps() -> Vec<Definition> {
    vec![
        map(Kind::RingBuffer, 0, 0, 4096),
        map(Kind::Array, 4, 64, 1),
        map(Kind::ProgramArray, 4, 4, 1),
    ]
}

/// A call of a helper with arguments that it takes; what it returns comes into the frame. Their limits and errors have
/// tests of their own: `calls`, `tables` and `tails`.
fn called(helper: Helper) -> Vec<Raw> {
    let number = helper.number();
    let call = raw(0x85, 0, 0, 0, number);
    let context = raw(0xBF, 1, 6, 0, 0);
    let map = |register, at| [raw(0x18, register, 1, 0, at), raw(0, 0, 0, 0, 0)];
    let stack = |register| [raw(0xBF, register, 10, 0, 0), raw(0x07, register, 0, 0, -64)];
    let is = |register, imm| raw(0xB7, register, 0, 0, imm);
    // 64 bytes of the stack that are set.
    let set: Vec<Raw> = (1_i16..=8).map(|at| raw(0x7A, 10, 0, -8 * at, i32::from(at))).collect();
    let mut body = match helper {
        Helper::MapLookupElem => return program(&looked_up(1), &[]),
        Helper::MapUpdateElem => {
            [&set[..], &map(1, 1), &[raw(0x62, 10, 0, -8, 0)], &key(), &stack(3), &[is(4, 0), call]]
                .concat()
        }
        Helper::MapDeleteElem => {
            [&map(1, 1)[..], &[raw(0x62, 10, 0, -8, 0)], &key(), &[call]].concat()
        }
        // What they return is no two times the same: that the clocks do not go back is.
        Helper::KtimeGetNs | Helper::Jiffies64 => {
            vec![
                call,
                raw(0xBF, 8, 0, 0, 0),
                call,
                is(1, 1),
                raw(0x3D, 0, 8, 1, 0),
                is(1, 0),
                raw(0xBF, 0, 1, 0, 0),
            ]
        }
        // 32 bits, of any value.
        Helper::GetPrandomU32 => vec![call, raw(0x77, 0, 0, 0, 32)],
        Helper::GetSmpProcessorId => vec![call, raw(0x77, 0, 0, 0, 16)],
        Helper::TailCall => [&[context][..], &map(2, 2), &[is(3, 0), call, is(0, 1)]].concat(),
        Helper::SkbStoreBytes => {
            [&set[..], &[context, is(2, 50)], &stack(3), &[is(4, 9), is(5, 0), call]].concat()
        }
        Helper::SkbLoadBytes => {
            [&set[..], &[context, is(2, 50)], &stack(3), &[is(4, 16), call]].concat()
        }
        Helper::SkbGetTunnelKey | Helper::SkbSetTunnelKey => {
            let key =
                [raw(0x7A, 10, 0, -40, 0), raw(0x7A, 10, 0, -48, 0), raw(0x7A, 10, 0, -56, 0)];
            [&set[..], &key, &[context], &stack(2), &[is(3, 44), is(4, 0), call]].concat()
        }
        Helper::Redirect | Helper::RedirectPeer => vec![is(1, 1), is(2, 0), call],
        Helper::RedirectNeigh => vec![is(1, 1), is(2, 0), is(3, 0), is(4, 0), call],
        Helper::L3CsumReplace | Helper::L4CsumReplace => {
            vec![context, is(2, 50), is(3, 0x1234), is(4, -77), is(5, 4), call]
        }
        Helper::CsumDiff => {
            [&set[..], &stack(1), &[is(2, 16)], &stack(3), &[is(4, 24), is(5, 77), call]].concat()
        }
        Helper::SkbChangeType => {
            vec![context, is(2, 0), call, raw(0x61, 9, 6, 4, 0), raw(0x0F, 0, 9, 0, 0)]
        }
        Helper::SkbPullData => vec![context, is(2, 0), call],
        Helper::RingbufOutput => {
            [&set[..], &map(1, 0), &stack(2), &[is(3, 24), is(4, 0), call]].concat()
        }
        Helper::RingbufReserve | Helper::RingbufSubmit | Helper::RingbufDiscard => {
            let end = if helper == Helper::RingbufSubmit { 132 } else { 133 };
            [
                &map(1, 0)[..],
                &[is(2, 40), is(3, 0), raw(0x85, 0, 0, 0, 131), raw(0x15, 0, 0, 4, 0)],
                &[raw(0xBF, 1, 0, 0, 0), is(2, 0), raw(0x85, 0, 0, 0, end), is(0, 1)],
                &map(1, 0),
                &[is(2, 0), raw(0x85, 0, 0, 0, 134)],
            ]
            .concat()
        }
        Helper::RingbufQuery => [&map(1, 0)[..], &[is(2, 1), call]].concat(),
    };
    body.extend([raw(0x7B, 10, 0, -72, 0), is(1, 0), is(2, 0)]);
    reporting(&body)
}

/// r2 = the key 0, which is at fp - 8.
fn key() -> [Raw; 2] {
    [raw(0xBF, 2, 10, 0, 0), raw(0x07, 2, 0, 0, -8)]
}

/// Runs a body, which may move the packet, and puts what it left at fp - 72 and fp - 64 into the frame.
fn reporting(body: &[Raw]) -> Vec<Raw> {
    [
        &[raw(0xBF, 6, 1, 0, 0), raw(0x7A, 10, 0, -64, 0)][..],
        body,
        &[
            raw(0x61, 7, 6, 76, 0),
            raw(0x61, 2, 6, 80, 0),
            raw(0xBF, 3, 7, 0, 0),
            raw(0x07, 3, 0, 0, 128),
            raw(0x2D, 3, 2, 4, 0),
            raw(0x79, 1, 10, -72, 0),
            raw(0x7B, 7, 1, 64, 0),
            raw(0x79, 1, 10, -64, 0),
            raw(0x7B, 7, 1, 72, 0),
        ],
        &ending(0),
    ]
    .concat()
}

#[test]
fn everything_that_is_accepted_is_the_kernels() {
    let accepted = accepted();
    // Two widths of 13 operations by register and number, three signed ones, five sign extensions, less negation by
    // register; and so on: what is counted here was read in RFC 9669.
    let count = |kind: &str| accepted.keys().filter(|key| key.starts_with(kind)).count();
    assert_eq!(count("alu"), 2 * (12 * 2 + 1 + 2 * 2 + 2) + 1);
    assert_eq!((count("swap"), count("constant")), (9, 3));
    assert_eq!((count("load"), count("store"), count("atomic")), (7, 8, 20));
    assert_eq!((count("jump"), count("goto"), count("call"), count("exit")), (44, 2, 1, 1));
    if !is_available() {
        return;
    }
    for (what, (raw, instruction)) in &accepted {
        // Helpers are below, all of them; half a constant is none.
        if matches!(instruction, Instruction::Helper(_) | Instruction::Second) {
            continue;
        }
        let known = agree(what, &exercised(*raw, *instruction), &maps(), frames());
        assert!(known || !is_modern(), "{what} is refused by the kernel");
    }
}

#[test]
fn every_helper_that_is_accepted_is_the_kernels() {
    if !is_available() {
        return;
    }
    for helper in Helper::ALL {
        let raw = raw(0x85, 0, 0, 0, helper.number());
        let program = exercised(raw, Instruction::Helper(*helper));
        assert!(program.contains(&raw), "{helper:?} is called");
        let known = agree(helper.name(), &program, &maps(), frames().take(9));
        assert!(known, "{helper:?} is refused by the kernel");
    }
}

#[test]
fn every_other_helper_is_refused_by_its_name() {
    for number in 0..=211 {
        let name = call::name(number).unwrap();
        let refusal =
            run(&[&[raw(0x85, 0, 0, 0, number)][..], &ending(0)].concat(), maps(), &[0; 64]);
        let known = Helper::ALL.iter().any(|helper| helper.number() == number);
        let expected = format!("0: helper `bpf_{name}` (number {number}) is not modelled");
        assert_eq!(refusal == Err(expected), !known, "{name}: {refusal:?}");
    }
}

#[test]
fn every_other_instruction_is_refused() {
    let accepted: std::collections::BTreeSet<u8> =
        accepted().values().map(|(raw, _)| raw.code).collect();
    let filler = raw(0xB7, 0, 0, 0, 0);
    for code in (0..=u8::MAX).filter(|code| !accepted.contains(code)) {
        let program = [&[raw(code, 1, 1, 1, 1), filler, filler][..], &ending(0)].concat();
        let refusal = run(&program, maps(), &[0; 64]).unwrap_err();
        assert!(refusal.starts_with(&format!("0: instruction {code:#04x} ")), "{refusal}");
    }
    for (instruction, name) in [
        (raw(0x20, 0, 0, 0, 0), "ldabs"),
        (raw(0x50, 0, 2, 0, 0), "ldind"),
        (raw(0xE5, 0, 0, 1, 0), "may_goto"),
        (raw(0xDB, 1, 10, -8, 0x100), "load_acquire"),
        (raw(0xC3, 10, 1, -8, 0x110), "store_release"),
        (raw(0xBF, 1, 2, 1, 1), "addr_space_cast"),
        (raw(0x8D, 1, 0, 0, 0), "callx"),
        (raw(0x0D, 1, 0, 0, 0), "gotox"),
    ] {
        let program = [&[instruction, filler][..], &ending(0)].concat();
        let refusal = run(&program, maps(), &[0; 64]).unwrap_err();
        assert!(refusal.contains(&format!("(`{name}`)")), "{refusal}");
    }
}
