//! The interpreter alone: the built-in object, faults, what a debugger asks. Instructions, maps and helpers are
//! compared with the kernel's in the modules below.

#[cfg(feature = "kernel")]
mod calls;
#[cfg(feature = "kernel")]
mod complete;
mod faults;
#[cfg(feature = "kernel")]
mod instructions;
#[cfg(feature = "kernel")]
pub(super) mod kernel;
mod stacks;
#[cfg(feature = "kernel")]
mod tables;
#[cfg(feature = "kernel")]
mod tails;
mod xdp;

use super::image::{Function, Program, ProgramKind};
use super::instruction::Raw;
use super::machine::{Clock, Step};
use super::map::{Definition, Kind};
use super::packet::Skb;
use super::*;

/// Says why a comparison is not made.
#[cfg(feature = "kernel")]
#[expect(clippy::print_stderr, reason = "a skipped comparison says why")]
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// An instruction.
pub(super) fn raw(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Raw {
    Raw { code, dst, src, off, imm }
}

/// `r0 = imm; exit`
pub(super) fn ending(imm: i32) -> [Raw; 2] {
    [raw(0xB7, 0, 0, 0, imm), raw(0x95, 0, 0, 0, 0)]
}

/// A map named after its kind.
pub(super) fn map(kind: Kind, key_size: usize, value_size: usize, capacity: u32) -> Definition {
    let name = format!("{kind:?}");
    Definition { name, kind, key_size, value_size, capacity, contents: Vec::new() }
}

/// A machine with one program.
pub(super) fn machine(code: &[Raw], maps: Vec<Definition>) -> Result<Machine, (usize, String)> {
    machine_of(&[code.to_vec()], maps)
}

/// A machine with several programs.
pub(super) fn machine_of(
    programs: &[Vec<Raw>],
    maps: Vec<Definition>,
) -> Result<Machine, (usize, String)> {
    machine_of_kind(ProgramKind::Classifier, programs, maps)
}

/// The same of programs of a kind.
pub(super) fn machine_of_kind(
    kind: ProgramKind,
    programs: &[Vec<Raw>],
    maps: Vec<Definition>,
) -> Result<Machine, (usize, String)> {
    let program = |code: &Vec<Raw>| {
        let name = "test".to_owned();
        let whole = Function { name: name.clone(), start: 0, end: code.len() };
        Program::new(name, code.clone(), maps.len(), vec![whole], Vec::new())?.of_kind(kind)
    };
    let programs = programs.iter().map(program).collect::<Result<_, _>>()?;
    let image = Image { programs, maps, ..Image::default() };
    Ok(Machine::new(&Rc::new(image), |_| None).unwrap())
}

/// Runs a program on a frame.
pub(super) fn run(code: &[Raw], maps: Vec<Definition>, frame: &[u8]) -> Result<u64, String> {
    let mut machine = machine(code, maps).map_err(|(pc, refusal)| format!("{pc}: {refusal}"))?;
    machine.begin(0, Skb::new(frame.to_vec()), Clock::default());
    machine.run(&mut ()).map_err(|fault| fault.to_string())
}

#[test]
fn the_built_in_object_is_read_with_its_functions_and_lines() {
    let image = Image::read(Object::embedded().bytes()).unwrap();
    let names: Vec<_> = image.programs.iter().map(|p| p.name.as_str()).collect();
    let expected = [
        "driver",
        "from_container",
        "from_host",
        "from_netdev",
        "from_overlay",
        "prefilter",
        "to_container",
        "to_host",
        "to_netdev",
        "to_overlay",
    ];
    assert_eq!(names, expected);
    for program in &image.programs {
        let is_xdp = program.name == "prefilter";
        assert_eq!(program.kind == ProgramKind::Xdp, is_xdp, "{}", program.name);
    }
    for program in &image.programs {
        let mut end = 0;
        for function in &program.functions {
            assert_eq!(function.start, end, "{}", program.name);
            assert!(!function.name.contains('+'), "{}", function.name);
            end = function.end;
        }
        assert_eq!(end, program.code.len());
        let lines = (0..end).filter(|pc| program.line(*pc).is_some()).count();
        assert!(lines * 100 > end * 95, "{}: {lines} of {end} have a line", program.name);
    }
    let judge = image.programs[1].functions.iter().find(|f| f.name == "policy::judge").unwrap();
    let place = image.place(1, judge.start);
    assert_eq!(place.function, "policy::judge");
    assert!(place.source.starts_with("datapath/ebpf/src/policy.rs:"), "{place}");
    assert!(image.map("CT4").is_some() && image.map("POLICY").is_some());
}

#[test]
fn a_run_can_be_stepped_looked_at_and_copied() {
    let code = [
        &[raw(0x7B, 10, 1, -8, 0), raw(0x85, 0, 1, 0, 4), raw(0x07, 0, 0, 0, 1)][..],
        &[raw(0xBF, 6, 0, 0, 0), raw(0xBF, 0, 6, 0, 0), raw(0x95, 0, 0, 0, 0)],
        &[raw(0x85, 0, 0, 0, 8), raw(0xBF, 0, 0, 0, 0), raw(0x07, 0, 0, 0, 41), ending(0)[1]],
    ]
    .concat();
    let mut machine = machine(&code, Vec::new()).unwrap();
    machine.begin(0, Skb::new(vec![0; 64]), Clock::default());
    assert_eq!(machine.step(&mut ()), Ok(Step::Next));
    let context = machine.registers()[1];
    assert_eq!(machine.stack_slot(0, -8), Ok(context), "a stored pointer is one");
    machine.step(&mut ()).unwrap();
    assert_eq!(machine.backtrace().len(), 2);
    assert_eq!(machine.next_call().map(|call| call.helper.name()), Some("get_smp_processor_id"));
    let mut copy = machine.clone();
    assert_eq!(machine.run(&mut ()), Ok(42));
    assert!(!machine.is_running());
    copy.step(&mut ()).unwrap();
    assert!(copy.set_register(0, super::value::Value::number(100)));
    assert_eq!(copy.run(&mut ()), Ok(142));
}
