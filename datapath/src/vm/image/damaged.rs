//! Objects that lie about themselves.

use std::rc::Rc;

use super::super::machine::Machine;
use super::Image;

/// The object with some of its bytes replaced.
fn changed(changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = crate::object::Object::embedded().bytes().to_vec();
    for (at, new) in changes {
        bytes[*at..*at + new.len()].copy_from_slice(new);
    }
    bytes
}

/// Where the sections of a type begin, by their index.
fn sections(bytes: &[u8], kind: u8) -> Vec<(usize, usize)> {
    let word = |at: usize| {
        usize::try_from(u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())).unwrap()
    };
    let headers = (0..usize::from(bytes[60])).map(|index| (index, word(40) + index * 64));
    let of_kind = headers.filter(|(_, header)| bytes[header + 4] == kind);
    of_kind.map(|(index, header)| (index, word(header + 24))).collect()
}

#[test]
fn code_that_refers_to_code_by_data_is_refused() {
    let whole = changed(&[]);
    let (symbols, relocations) = (sections(&whole, 2)[0].1, sections(&whole, 9)[0].1);
    // A symbol of data that lies in the first section of code, and the first reference of code to it.
    let code = whole[symbols + 24 + 6];
    let last = (sections(&whole, 9)[0].1 - symbols) / 24 - 1;
    let kind = whole[symbols + last * 24 + 4] & 0xF;
    assert_eq!(kind, 1, "the last symbol is one of data");
    let hostile = changed(&[
        (symbols + last * 24 + 6, &[code, 0]),
        (relocations + 12, &u32::try_from(last).unwrap().to_le_bytes()),
    ]);
    let refusal = Image::read(&hostile).unwrap_err().to_string();
    assert!(refusal.contains("refers to other code by a symbol of kind 1"), "{refusal}");
    // The same of a function that is not there.
    let hostile = changed(&[
        (symbols + last * 24 + 4, &[0x12, 0, 0, 0]),
        (relocations + 12, &u32::try_from(last).unwrap().to_le_bytes()),
    ]);
    let refusal = Image::read(&hostile).unwrap_err().to_string();
    assert!(refusal.contains("by a symbol of kind 2"), "{refusal}");
}

#[test]
fn a_damaged_object_is_an_error() {
    let whole = changed(&[]);
    for length in [0, 4, 63, 64, 1000, whole.len() / 2, whole.len() - 1] {
        Image::read(&whole[..length]).unwrap_err();
    }
    for at in [4, 5] {
        let refusal = Image::read(&changed(&[(at, &[9])])).unwrap_err().to_string();
        assert!(refusal.contains("64-bit little-endian"), "{refusal}");
    }
    // More functions than there is room for: where the first ones are counted in `.BTF.ext`.
    let ext = sections(&whole, 1).last().unwrap().1;
    assert_eq!(whole[ext..ext + 2], [0x9F, 0xEB]);
    let counted = changed(&[(ext + usize::from(whole[ext + 4]) + 8, &[0xFF; 3])]);
    let refusal = Image::read(&counted).unwrap_err().to_string();
    assert!(refusal.contains("its parts contradict each other"), "{refusal}");
    // Anything may come of the others, but for a panic.
    let mut number = 1_u32;
    let mut below = |end: usize| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (number >> 8) as usize % end
    };
    for _ in 0..40 {
        let mut bytes = whole.clone();
        for _ in 0..4 {
            let at = below(bytes.len());
            bytes[at] = below(256).to_le_bytes()[0];
        }
        if let Ok(image) = Image::read(&bytes) {
            let _ = Machine::new(&Rc::new(image), |_| None);
        }
    }
}
