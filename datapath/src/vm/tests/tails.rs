//! Tail calls: how many there may be, where they lead, and what they leave of the caller.

use super::kernel::{Pair, is_available};
use super::*;

/// Maps of these programs: the programs, and where they count.
fn maps() -> Vec<Definition> {
    vec![map(Kind::ProgramArray, 4, 4, 4), map(Kind::Array, 4, 8, 1)]
}

/// r6 = context, r9 = the counter.
fn with_counter() -> Vec<Raw> {
    vec![
        raw(0xBF, 6, 1, 0, 0),
        raw(0x62, 10, 0, -8, 0),
        raw(0x18, 1, 1, 0, 1),
        raw(0, 0, 0, 0, 0),
        raw(0xBF, 2, 10, 0, 0),
        raw(0x07, 2, 0, 0, -8),
        raw(0x85, 0, 0, 0, 1),
        raw(0x55, 0, 0, 1, 0),
        raw(0x95, 0, 0, 0, 0),
        raw(0xBF, 9, 0, 0, 0),
    ]
}

/// The counter goes up.
fn counted() -> Vec<Raw> {
    let mut code = with_counter();
    code.extend([raw(0x79, 1, 9, 0, 0), raw(0x07, 1, 0, 0, 1), raw(0x7B, 9, 1, 0, 0)]);
    code
}

/// A tail call to an index; the context is in r6.
fn call(index: i32) -> Vec<Raw> {
    vec![
        raw(0xBF, 1, 6, 0, 0),
        raw(0x18, 2, 1, 0, 0),
        raw(0, 0, 0, 0, 0),
        raw(0xB7, 3, 0, 0, index),
        raw(0x85, 0, 0, 0, 12),
    ]
}

/// The same to an index that the kernel does not know beforehand: the second byte of the frame.
fn call_by_frame() -> Vec<Raw> {
    vec![
        raw(0x61, 7, 6, 76, 0),
        raw(0x61, 2, 6, 80, 0),
        raw(0xBF, 3, 7, 0, 0),
        raw(0x07, 3, 0, 0, 14),
        raw(0x2D, 3, 2, 6, 0),
        raw(0x71, 3, 7, 1, 0),
        raw(0xBF, 1, 6, 0, 0),
        raw(0x18, 2, 1, 0, 0),
        raw(0, 0, 0, 0, 0),
        raw(0x85, 0, 0, 0, 12),
        raw(0xB7, 0, 0, 0, 0),
    ]
}

/// Returns the counter.
fn ended() -> Vec<Raw> {
    vec![raw(0x79, 0, 9, 0, 0), raw(0x95, 0, 0, 0, 0)]
}

fn frame(index: u8) -> Vec<u8> {
    let mut frame = vec![2; 80];
    frame[1] = index;
    frame
}

fn pair(programs: &[Vec<Raw>]) -> Pair {
    Pair::new(programs, &maps()).expect("the kernel takes them")
}

#[test]
fn a_program_goes_on_in_another_as_often_as_in_the_kernel() {
    if !is_available() {
        return;
    }
    for (what, body) in [("a known index", call(1)), ("an index of the frame", call_by_frame())] {
        let mut pair = pair(&[[counted(), body, ended()].concat()]);
        pair.put_program(0, 1, 0);
        // The first run and 33 more. Each packet has as many.
        assert_eq!(pair.run(what, &frame(1)).0, 34, "{what}");
        assert_eq!(pair.run(what, &frame(1)).0, 68, "{what}");
    }
}

#[test]
fn where_there_is_no_program_the_caller_goes_on() {
    if !is_available() {
        return;
    }
    let mut by_frame = pair(&[[counted(), call_by_frame(), ended()].concat()]);
    for index in [0, 1, 3, 4, 5, 0xFF] {
        by_frame.run("an empty slot or none", &frame(index));
    }
    for index in [0, 3, 4, -1, i32::MAX, i32::MIN] {
        let mut known = pair(&[[counted(), call(index), ended()].concat()]);
        assert_eq!(known.run(&format!("index {index}"), &frame(0)).0, 1);
    }
}

/// Calls to empty slots first, then as often as the limit lets: whether those counted shows in how often.
#[test]
fn calls_that_lead_nowhere_count_as_in_the_kernel() {
    if !is_available() {
        return;
    }
    for empty in [1, 5, 40] {
        let nowhere = call(2).repeat(empty);
        let mut known = pair(&[[counted(), nowhere.clone(), call(1), ended()].concat()]);
        known.put_program(0, 1, 0);
        known.run(&format!("{empty} calls to an empty slot"), &frame(1));
        let mut by_frame =
            pair(&[[counted(), call_by_frame().repeat(empty), call(1), ended()].concat()]);
        by_frame.put_program(0, 1, 0);
        for index in [2, 9] {
            by_frame.run(&format!("{empty} calls to {index}, by the frame"), &frame(index));
        }
    }
}

/// A function's tail call: what it leads to returns to the function's caller, whose registers and frame are kept.
#[test]
fn a_function_goes_on_in_a_program_that_returns_to_its_caller() {
    if !is_available() {
        return;
    }
    // r8 and 8 bytes of the stack survive.
    let main = vec![
        raw(0xBF, 6, 1, 0, 0),
        raw(0xB7, 8, 0, 0, 500),
        raw(0x7A, 10, 0, -16, 30),
        raw(0x85, 0, 1, 0, 4),
        raw(0x79, 1, 10, -16, 0),
        raw(0x0F, 0, 1, 0, 0),
        raw(0x0F, 0, 8, 0, 0),
        raw(0x95, 0, 0, 0, 0),
    ];
    let function = [vec![raw(0xBF, 6, 1, 0, 0)], call(1), ending(2).to_vec()].concat();
    let target = [with_counter(), vec![raw(0xB7, 8, 0, 0, 1)], ending(7).to_vec()].concat();
    let mut pair = pair(&[[main, function].concat(), target]);
    assert_eq!(pair.run("without a program", &frame(0)).0, 532);
    pair.put_program(0, 1, 1);
    assert_eq!(pair.run("with a program", &frame(0)).0, 537);
}

/// Functions that each begin the whole anew: all of a packet's tail calls count together.
#[test]
fn tail_calls_of_functions_count_together() {
    if !is_available() {
        return;
    }
    let twice = |calls: usize| {
        // Each call leads past what is left of the main part.
        let mut main = counted();
        let length = main.len() + calls * 2 + 2;
        for _ in 0..calls {
            main.push(raw(0xBF, 1, 6, 0, 0));
            let distance = length - main.len() - 1;
            main.push(raw(0x85, 0, 1, 0, i32::try_from(distance).unwrap()));
        }
        main.extend(ended());
        [main, vec![raw(0xBF, 6, 1, 0, 0)], call(1), ending(0).to_vec()].concat()
    };
    for calls in [1, 2, 3] {
        let mut pair = pair(&[twice(calls)]);
        pair.put_program(0, 1, 0);
        pair.run(&format!("{calls} calls"), &frame(0));
    }
}

#[test]
fn what_a_tail_call_that_failed_returned_cannot_be_read() {
    let code = [vec![raw(0xBF, 6, 1, 0, 0)], call(1), vec![raw(0x95, 0, 0, 0, 0)]].concat();
    if is_available() {
        assert!(Pair::new(std::slice::from_ref(&code), &maps()).is_none(), "the kernel refuses it");
    }
    let fault = run(&code, maps(), &[0; 64]).unwrap_err();
    assert!(fault.contains("r0 is read before it is set"), "{fault}");
}
