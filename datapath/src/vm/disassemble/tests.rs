//! Every kind of instruction as text, that no two have the same, and the committed object.

use std::collections::BTreeMap;

use super::*;
use crate::object::Object;
use crate::vm::call::Helper;
use crate::vm::image::Function;
use crate::vm::instruction::{self, Raw, Scope};
use crate::vm::map::Kind;
use crate::vm::tests::{ending, map, raw};

/// Instructions at place 0, padded so that jumps stay inside; functions begin at 0 and 9.
fn image(code: &[Raw]) -> Result<Image, (usize, String)> {
    let code = [code, &ending(0).repeat(20)].concat();
    let function = |name: &str, start, end| Function { name: name.to_owned(), start, end };
    let functions = vec![function("test", 0, 9), function("module::part", 9, code.len())];
    let maps = vec![map(Kind::Hash, 4, 4, 1), map(Kind::Array, 4, 64, 1)];
    let program = Program::new("test".to_owned(), code, maps.len(), functions, Vec::new())?;
    Ok(Image { programs: vec![program], maps, files: Vec::new() })
}

fn check(cases: &[(Raw, &str)]) {
    for (instruction, expected) in cases {
        let image = image(&[*instruction]).unwrap();
        assert_eq!(text(&image, 0, 0).as_deref(), Some(*expected), "{instruction:?}");
    }
}

#[test]
fn arithmetic() {
    check(&[
        (raw(0x07, 3, 0, 0, 7), "r3 += 7"),
        (raw(0x04, 3, 0, 0, -7), "w3 += -7"),
        (raw(0x0F, 3, 4, 0, 0), "r3 += r4"),
        (raw(0x0C, 3, 4, 0, 0), "w3 += w4"),
        (raw(0x17, 1, 0, 0, 8), "r1 -= 8"),
        (raw(0x2C, 1, 2, 0, 0), "w1 *= w2"),
        (raw(0x3F, 1, 2, 0, 0), "r1 /= r2"),
        (raw(0x37, 1, 0, 1, -3), "r1 s/= -3"),
        (raw(0x47, 1, 0, 0, 1), "r1 |= 1"),
        (raw(0x54, 1, 0, 0, 65535), "w1 &= 65535"),
        (raw(0x57, 1, 0, 0, -16), "r1 &= -16"),
        (raw(0x67, 1, 0, 0, 32), "r1 <<= 32"),
        (raw(0x7C, 1, 2, 0, 0), "w1 >>= w2"),
        (raw(0x87, 1, 0, 0, 0), "r1 = -r1"),
        (raw(0x84, 1, 0, 0, 0), "w1 = -w1"),
        (raw(0x94, 1, 0, 0, 10), "w1 %= 10"),
        (raw(0x9C, 1, 2, 1, 0), "w1 s%= w2"),
        (raw(0xAF, 1, 2, 0, 0), "r1 ^= r2"),
        (raw(0xB7, 0, 0, 0, -1), "r0 = -1"),
        (raw(0xB4, 0, 0, 0, -1), "w0 = -1"),
        (raw(0xBF, 6, 10, 0, 0), "r6 = r10"),
        (raw(0xBC, 6, 7, 0, 0), "w6 = w7"),
        (raw(0xBF, 1, 2, 8, 0), "r1 = (s8)r2"),
        (raw(0xBC, 1, 2, 16, 0), "w1 = (s16)w2"),
        (raw(0xBF, 1, 2, 32, 0), "r1 = (s32)r2"),
        (raw(0xC7, 1, 0, 0, 3), "r1 s>>= 3"),
    ]);
}

#[test]
fn byte_order() {
    check(&[
        (raw(0xD7, 0, 0, 0, 16), "r0 = bswap16 r0"),
        (raw(0xD7, 0, 0, 0, 64), "r0 = bswap64 r0"),
        (raw(0xDC, 4, 0, 0, 16), "r4 = be16 r4"),
        (raw(0xDC, 4, 0, 0, 64), "r4 = be64 r4"),
        (raw(0xD4, 4, 0, 0, 32), "r4 = le32 r4"),
    ]);
}

#[test]
fn memory_accesses() {
    check(&[
        (raw(0x71, 1, 2, 0, 0), "r1 = *(u8 *)(r2 + 0)"),
        (raw(0x69, 1, 2, -2, 0), "r1 = *(u16 *)(r2 - 2)"),
        (raw(0x61, 1, 2, 8, 0), "r1 = *(u32 *)(r2 + 8)"),
        (raw(0x79, 1, 10, i16::MIN, 0), "r1 = *(u64 *)(r10 - 32768)"),
        (raw(0x91, 1, 2, 1, 0), "r1 = *(s8 *)(r2 + 1)"),
        (raw(0x89, 1, 2, 2, 0), "r1 = *(s16 *)(r2 + 2)"),
        (raw(0x81, 1, 2, 4, 0), "r1 = *(s32 *)(r2 + 4)"),
        (raw(0x73, 1, 2, 0, 0), "*(u8 *)(r1 + 0) = r2"),
        (raw(0x7B, 10, 2, -8, 0), "*(u64 *)(r10 - 8) = r2"),
        (raw(0x6A, 1, 0, 12, -5), "*(u16 *)(r1 + 12) = -5"),
        (raw(0x62, 1, 0, i16::MAX, 9), "*(u32 *)(r1 + 32767) = 9"),
    ]);
}

#[test]
fn atomic_operations() {
    check(&[
        (raw(0xDB, 1, 2, 0, 0x00), "lock *(u64 *)(r1 + 0) += r2"),
        (raw(0xC3, 1, 2, 4, 0x00), "lock *(u32 *)(r1 + 4) += r2"),
        (raw(0xDB, 1, 2, -8, 0x40), "lock *(u64 *)(r1 - 8) |= r2"),
        (raw(0xDB, 1, 2, 0, 0x50), "lock *(u64 *)(r1 + 0) &= r2"),
        (raw(0xDB, 1, 2, 0, 0xA0), "lock *(u64 *)(r1 + 0) ^= r2"),
        (raw(0xDB, 1, 2, 0, 0x01), "r2 = atomic64_fetch_add((u64 *)(r1 + 0), r2)"),
        (raw(0xC3, 1, 2, 0, 0x41), "r2 = atomic_fetch_or((u32 *)(r1 + 0), r2)"),
        (raw(0xC3, 1, 2, 0, 0x51), "r2 = atomic_fetch_and((u32 *)(r1 + 0), r2)"),
        (raw(0xDB, 1, 2, 0, 0xA1), "r2 = atomic64_fetch_xor((u64 *)(r1 + 0), r2)"),
        (raw(0xDB, 1, 2, 0, 0xE1), "r2 = atomic64_xchg((u64 *)(r1 + 0), r2)"),
        (raw(0xC3, 1, 2, 0, 0xF1), "r0 = atomic_cmpxchg((u32 *)(r1 + 0), r0, r2)"),
    ]);
}

#[test]
fn jumps_and_calls() {
    check(&[
        (raw(0x05, 0, 0, 4, 0), "goto 5"),
        (raw(0x06, 0, 0, 0, 4), "goto 5"),
        (raw(0x05, 0, 0, -1, 0), "goto 0"),
        (raw(0x15, 1, 0, 5, 0), "if r1 == 0 goto 6"),
        (raw(0x1D, 1, 2, 5, 0), "if r1 == r2 goto 6"),
        (raw(0x55, 1, 0, 5, 0), "if r1 != 0 goto 6"),
        (raw(0x2D, 1, 2, 5, 0), "if r1 > r2 goto 6"),
        (raw(0x36, 1, 0, 5, -1), "if w1 >= -1 goto 6"),
        (raw(0x45, 1, 0, 5, 8), "if r1 & 8 goto 6"),
        (raw(0x66, 1, 0, 5, -1), "if w1 s> -1 goto 6"),
        (raw(0x7D, 1, 2, 5, 0), "if r1 s>= r2 goto 6"),
        (raw(0xA5, 1, 0, 5, 3), "if r1 < 3 goto 6"),
        (raw(0xBE, 1, 2, 5, 0), "if w1 <= w2 goto 6"),
        (raw(0xCD, 1, 2, 5, 0), "if r1 s< r2 goto 6"),
        (raw(0xD6, 1, 0, 5, 3), "if w1 s<= 3 goto 6"),
        (raw(0x85, 0, 1, 0, 8), "call module::part"),
        (raw(0x85, 0, 1, 0, 4), "call 5"),
        (raw(0x85, 0, 0, 0, 1), "call bpf_map_lookup_elem"),
        (raw(0x95, 0, 0, 0, 0), "exit"),
    ]);
    for helper in Helper::ALL {
        let name = format!("call bpf_{}", helper.name());
        assert_eq!(text(&image(&[raw(0x85, 0, 0, 0, helper.number())]).unwrap(), 0, 0), Some(name));
    }
}

#[test]
fn constants_take_two_places_and_the_second_has_no_text() {
    for (kind, low, high, expected) in [
        (0, 1, 0, "r1 = 0x1 ll"),
        (0, -1, 0, "r1 = 0xffffffff ll"),
        (0, 0x5566_7788, 0x1122_3344, "r1 = 0x1122334455667788 ll"),
        (1, 0, 0, "r1 = map[Hash]"),
        (1, 1, 0, "r1 = map[Array]"),
        (2, 1, 8, "r1 = map[Array][0]+8"),
    ] {
        let image = image(&[raw(0x18, 1, kind, 0, low), raw(0, 0, 0, 0, high)]).unwrap();
        assert_eq!(text(&image, 0, 0).as_deref(), Some(expected));
        assert_eq!(text(&image, 0, 1), None);
        assert_eq!(text(&image, 0, 2).as_deref(), Some("r0 = 0"));
    }
}

#[test]
fn places_that_there_are_not_have_no_text() {
    let image = image(&[]).unwrap();
    let end = image.programs[0].code.len();
    assert_eq!(text(&image, 0, end - 1).as_deref(), Some("exit"));
    assert_eq!(text(&image, 0, end), None);
    assert_eq!(text(&image, 0, usize::MAX), None);
    assert_eq!(text(&image, 1, 0), None);
}

/// What an instruction does, where the encoding holds more than that.
fn meaning(instruction: Instruction) -> Instruction {
    match instruction {
        Instruction::Alu { wide, op: Alu::Neg, dst, .. } => {
            Instruction::Alu { wide, op: Alu::Neg, dst, operand: Operand::Immediate(0) }
        }
        other => other,
    }
}

/// All encodings of a code, with operands that make a difference for some code.
fn encodings(code: u8) -> impl Iterator<Item = Raw> {
    const OFFSETS: [i16; 6] = [0, 1, 8, 16, 32, -1];
    const IMMEDIATES: [i32; 16] =
        [0, 1, 4, 0x10, 0x20, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1, 0xF1, 8, 155, -1];
    let operands = OFFSETS.into_iter().flat_map(|off| IMMEDIATES.map(|imm| (off, imm)));
    operands.flat_map(move |(off, imm)| {
        let registers = [(0, 0), (1, 0), (0, 1), (1, 1), (1, 2), (10, 2)];
        registers.map(|(dst, src)| raw(code, dst, src, off, imm))
    })
}

#[test]
fn instructions_that_do_different_things_have_different_texts() {
    let image = image(&[]).unwrap();
    let padding = ending(0).repeat(20);
    let mut texts = BTreeMap::new();
    for first in (0..=u8::MAX).flat_map(encodings) {
        for second in [0, 1] {
            let code = [&[first, raw(0, 0, 0, 0, second)], padding.as_slice()].concat();
            let scope = Scope { maps: image.maps.len() };
            let Ok(instruction) = instruction::decode(&code, 0, &scope) else { continue };
            let instruction = meaning(instruction);
            let text = written(&image, &image.programs[0], instruction).unwrap();
            let other = *texts.entry(text.clone()).or_insert(instruction);
            assert_eq!(other, instruction, "`{text}` is ambiguous");
        }
    }
    assert!(texts.len() > 2000, "only {} instructions were tried", texts.len());
}

#[test]
fn every_instruction_of_the_built_in_object_has_a_text() {
    let image = Image::read(Object::embedded().bytes()).unwrap();
    let mut all = Vec::new();
    for (number, program) in (0_u32..).zip(&image.programs) {
        for (pc, instruction) in program.code.iter().enumerate() {
            let text = text(&image, number, pc);
            assert_eq!(text.is_none(), *instruction == Instruction::Second, "{instruction:?}");
            all.extend(text);
        }
        assert_eq!(text(&image, number, program.code.len()), None);
    }
    for expected in ["r1 = map[POLICY]", "call bpf_map_lookup_elem", "call policy::judge", "exit"] {
        assert!(all.iter().any(|text| text == expected), "no `{expected}`");
    }
    // Neither a map nor a called function is without its name.
    for text in &all {
        assert!(!text.contains("map[#"), "{text}");
        let called = text.strip_prefix("call ");
        assert!(
            called.is_none_or(|name| !name.starts_with(|c: char| c.is_ascii_digit())),
            "{text}"
        );
    }
}
