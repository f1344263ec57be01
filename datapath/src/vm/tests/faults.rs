//! Programs that the kernel would refuse stop where they do wrong, and say so.

use super::*;

/// r1 = map 0; r2 = fp - 8 with the key 0; call lookup.
fn look_up() -> Vec<Raw> {
    vec![
        raw(0x7A, 10, 0, -8, 0),
        raw(0xBF, 2, 10, 0, 0),
        raw(0x07, 2, 0, 0, -8),
        raw(0x18, 1, 1, 0, 0),
        raw(0, 0, 0, 0, 0),
        raw(0x85, 0, 0, 0, 1),
    ]
}

fn array() -> Vec<Definition> {
    vec![map(Kind::Array, 4, 16, 2)]
}

#[test]
fn a_fault_says_where_and_why() {
    let after_look_up = |more: &[Raw]| [&look_up(), more, &ending(0)].concat();
    for (what, code, at, why) in [
        (
            "null",
            vec![raw(0xB7, 1, 0, 0, 0), raw(0x79, 0, 1, 0, 0)],
            1,
            "a number (0x0) is followed",
        ),
        ("unset", vec![raw(0xBF, 0, 3, 0, 0)], 0, "r3 is read before it is set"),
        ("below the stack", vec![raw(0x7A, 10, 0, -520, 1)], 0, "which has 512 bytes"),
        (
            "above the stack",
            vec![raw(0x7A, 10, 0, 0, 1)],
            0,
            "offset 0 of a pointer into the stack",
        ),
        ("askew on the stack", vec![raw(0x7A, 10, 0, -12, 1)], 0, "not aligned"),
        ("half a pointer", vec![raw(0x7B, 10, 1, -8, 0), raw(0x61, 0, 10, -8, 0)], 1, "a part of"),
        ("a field that is none", vec![raw(0x61, 0, 1, 300, 0)], 0, "cannot be read here"),
        ("a field to read only", vec![raw(0x62, 1, 0, 0, 7)], 0, "cannot be written here"),
        (
            "past the packet",
            vec![raw(0x61, 2, 1, 76, 0), raw(0x79, 0, 2, 60, 0)],
            1,
            "8 bytes at offset 60 of a pointer into the packet, which has 64 bytes",
        ),
        (
            "the packet's end",
            vec![raw(0x61, 2, 1, 80, 0), raw(0x71, 0, 2, -1, 0)],
            1,
            "the packet's end",
        ),
        (
            "a pointer from before the packet moved",
            vec![
                raw(0x61, 6, 1, 76, 0),
                raw(0xB7, 2, 0, 0, 0),
                raw(0x85, 0, 0, 0, 39),
                raw(0x71, 0, 6, 0, 0),
            ],
            3,
            "from before a helper",
        ),
        ("bits of a pointer", vec![raw(0x57, 1, 0, 0, 7)], 0, "arithmetic on the context"),
        ("a pointer and a number", vec![raw(0x15, 1, 0, 0, 5)], 0, "is compared with"),
        (
            "no context",
            vec![raw(0xB7, 1, 0, 0, 0), raw(0xB7, 2, 0, 0, 0), raw(0x85, 0, 0, 0, 39)],
            2,
            "argument 1 of bpf_skb_pull_data is a number",
        ),
        ("without end", vec![raw(0x05, 0, 0, -1, 0)], 0, "does not end within 1000000"),
        (
            "a pointer returned",
            vec![raw(0xBF, 0, 1, 0, 0), raw(0x95, 0, 0, 0, 0)],
            1,
            "is stored where",
        ),
        (
            "past a value",
            after_look_up(&[raw(0x79, 3, 0, 9, 0)]),
            6,
            "8 bytes at offset 9 of a pointer into a map's value, which has 16 bytes",
        ),
        (
            "a pointer into a map",
            after_look_up(&[raw(0x7B, 0, 10, 0, 0)]),
            6,
            "a pointer into the stack is stored",
        ),
        ("what a helper used up", after_look_up(&[raw(0xBF, 3, 2, 0, 0)]), 6, "r2 is read before"),
    ] {
        let code = if code.last().map(|raw| raw.code) == Some(0x95) {
            code
        } else {
            [&code[..], &ending(0)].concat()
        };
        let fault = run(&code, array(), &[0; 64]).unwrap_err();
        let place = format!("program `test`, instruction {at}: ");
        assert!(fault.starts_with(&place) && fault.contains(why), "{what}: {fault}");
    }
}

#[test]
fn records_must_be_given_back() {
    let maps = || vec![map(Kind::RingBuffer, 0, 0, 4096)];
    let reserve = [
        raw(0x18, 1, 1, 0, 0),
        raw(0, 0, 0, 0, 0),
        raw(0xB7, 2, 0, 0, 8),
        raw(0xB7, 3, 0, 0, 0),
        raw(0x85, 0, 0, 0, 131),
    ];
    let submit = [raw(0xBF, 1, 0, 0, 0), raw(0xB7, 2, 0, 0, 0), raw(0x85, 0, 0, 0, 132)];
    let kept = run(&[&reserve[..], &ending(0)].concat(), maps(), &[0; 64]).unwrap_err();
    assert!(kept.contains("neither submitted nor discarded"), "{kept}");
    let ended = run(&[&reserve[..], &submit, &ending(3)].concat(), maps(), &[0; 64]);
    assert_eq!(ended, Ok(3));
    let twice =
        [&reserve[..], &[raw(0xBF, 6, 0, 0, 0)], &submit, &[raw(0xBF, 0, 6, 0, 0)], &submit];
    let twice = run(&[&twice.concat(), &ending(0)[..]].concat(), maps(), &[0; 64]).unwrap_err();
    assert!(twice.contains("argument 1 of bpf_ringbuf_submit"), "{twice}");
}

#[test]
fn what_is_not_modelled_is_refused_before_it_runs() {
    for (code, why) in [
        (vec![raw(0x85, 0, 0, 0, 6)], "0: helper `bpf_trace_printk` (number 6) is not modelled"),
        (vec![raw(0x85, 0, 2, 0, 77)], "0: a call of kernel function 77 (kfunc)"),
        (vec![raw(0x20, 0, 0, 0, 0)], "`ldabs`"),
        (vec![raw(0xE5, 0, 0, 0, 0)], "instruction 0xe5"),
        (vec![raw(0xDB, 10, 1, -8, 0x100)], "instruction 0xdb"),
        (vec![raw(0xD7, 0, 0, 0, 24)], "instruction 0xd7"),
        (vec![raw(0x05, 0, 0, 40, 0)], "a jump leads to place 41"),
        (
            vec![raw(0x05, 0, 0, 1, 0), raw(0x18, 0, 0, 0, 0), raw(0, 0, 0, 0, 0)],
            "a jump leads to place 2",
        ),
        (vec![raw(0x18, 1, 1, 0, 7), raw(0, 0, 0, 0, 0)], "map 7 does not exist"),
        (vec![raw(0x18, 1, 0, 0, 7)], "half a constant"),
        (vec![raw(0xBF, 11, 0, 0, 0)], "register r11"),
    ] {
        let refusal = run(&[&code[..], &ending(0)].concat(), Vec::new(), &[0; 64]).unwrap_err();
        assert!(refusal.contains(why), "{refusal}");
    }
    let open = run(&[raw(0xB7, 0, 0, 0, 0)], Vec::new(), &[0; 64]).unwrap_err();
    assert!(open.contains("does not end there"), "{open}");
}
