//! Counts and what they say about lines, on small programs; what a recorder's backend counts on the real ones.

use std::rc::Rc;

use super::lines::{Branch, Report, Share};
use super::*;
use crate::vm::image::{Function, Line, Program};
use crate::vm::instruction::Raw;
use crate::vm::machine::Clock;
use crate::vm::packet::Skb;
use crate::vm::tests::raw;

const OWN: usize = 0;
const LIBRARY: usize = 1;

fn line(pc: usize, file: usize, number: u32, column: u32, text: &str) -> Line {
    Line { pc, file, line: number, column, text: text.to_owned() }
}

fn program(name: &str, code: &[Raw], lines: Vec<Line>) -> Program {
    let whole = Function { name: name.to_owned(), start: 0, end: code.len() };
    Program::new(name.to_owned(), code.to_vec(), 0, vec![whole], lines).unwrap()
}

/// `r0 = 0; if r0 == IMM (or != IMM) skip; r0 = 1; exit`, whose condition is line 1 and whose skipped part line 3.
fn skipping(name: &str, is_opposite: bool, imm: i32) -> Program {
    let code = [
        raw(0xB7, 0, 0, 0, 0),
        raw(if is_opposite { 0x55 } else { 0x15 }, 0, 0, 1, imm),
        raw(0xB7, 0, 0, 0, 1),
        raw(0x95, 0, 0, 0, 0),
    ];
    let lines = vec![
        line(0, LIBRARY, 9, 0, "library"),
        line(1, OWN, 1, 5, "if a == b {"),
        line(2, OWN, 3, 9, "skipped"),
        line(3, OWN, 4, 1, "}"),
    ];
    program(name, &code, lines)
}

fn image(programs: Vec<Program>) -> Image {
    let files = vec!["datapath/ebpf/src/some.rs".to_owned(), "cargo/other/src/lib.rs".to_owned()];
    Image { programs, maps: Vec::new(), files }
}

/// Runs programs of an image, counted.
fn counted(image: &Image, programs: &[u32]) -> Coverage {
    let mut counts = Coverage::new(image, "object".to_owned());
    let mut machine = Machine::new(&Rc::new(image.clone()), |_| None).unwrap();
    for program in programs {
        machine.begin(*program, Skb::new(vec![0; 64]), Clock::default());
        machine.run(&mut counts).unwrap();
    }
    counts
}

fn lines_of(report: &Report) -> Vec<(u32, u64)> {
    report.files[0].lines.iter().map(|(number, line)| (*number, line.ran)).collect()
}

#[test]
fn a_line_runs_where_any_copy_of_it_does() {
    let image = image(vec![skipping("one", false, 0), skipping("other", false, 1)]);
    let report = Report::new(&image, &counted(&image, &[0, 0]));
    assert_eq!(report.files.len(), 1, "files of libraries are left out");
    assert_eq!(lines_of(&report), [(1, 2), (3, 0), (4, 2)]);
    assert_eq!(report.files[0].uncovered(), [(3, 3)]);
    assert_eq!(report.covered(), Share { covered: 2, total: 3 });
    let report = Report::new(&image, &counted(&image, &[0, 1]));
    assert_eq!(lines_of(&report), [(1, 2), (3, 1), (4, 2)]);
    assert_eq!(report.files[0].uncovered(), []);
    assert_eq!(report.files[0].lines[&3].text, "skipped");
}

#[test]
fn a_copy_that_asks_the_opposite_is_the_same_condition() {
    let image = image(vec![skipping("one", false, 7), skipping("other", true, 7)]);
    let report = Report::new(&image, &counted(&image, &[0, 1, 1]));
    let branch = Branch { column: 5, condition: "== 7".to_owned(), held: 0, failed: 3 };
    assert_eq!(report.files[0].lines[&1].branches, [branch]);
    assert_eq!(report.outcomes(), Share { covered: 1, total: 2 });
}

#[test]
fn conditions_are_told_by_what_they_ask() {
    for (code, imm, condition, held) in [
        (0x25, 5, ">= 6", false),
        (0xB5, 5, ">= 6", false),
        (0x35, 0, ">= 0", true),
        (0xA5, 6, ">= 6", false),
        (0x45, 1, "& 1", false),
        (0x65, -2, "signed >= -1", true),
        (0xC5, 0, "signed >= 0", true),
        (0x1D, 0, "== register", true),
        (0x2D, 0, "> register", false),
        (0xBD, 0, "> register", false),
        (0xDD, 0, "signed > register", false),
    ] {
        let body = [raw(0xB7, 0, 0, 0, 0), raw(code, 0, 0, 0, imm), raw(0x95, 0, 0, 0, 0)];
        let image = image(vec![program("one", &body, vec![line(0, OWN, 1, 2, "text")])]);
        let report = Report::new(&image, &counted(&image, &[0]));
        let branch = &report.files[0].lines[&1].branches[0];
        assert_eq!(branch.condition, condition, "{code:#x}");
        assert_eq!((branch.held, branch.failed), (held.into(), (!held).into()), "{code:#x}");
    }
}

#[test]
fn stretches_reach_over_lines_without_code_only() {
    let mut file = super::lines::File::default();
    for (number, ran) in [(1, 0), (2, 0), (5, 0), (6, 1), (7, 0), (9, 1)] {
        file.lines.insert(number, super::lines::Line { ran, ..Default::default() });
    }
    assert_eq!(file.uncovered(), [(1, 5), (7, 7)]);
}

#[test]
fn counts_of_one_object_add_up_and_others_are_refused() {
    let image = image(vec![skipping("one", false, 0), skipping("other", false, 1)]);
    let (mut sum, other) = (counted(&image, &[0]), counted(&image, &[1, 1]));
    let text = serde_json::to_string(&other).unwrap();
    sum.merge(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(sum, counted(&image, &[0, 1, 1]));
    let before = sum.clone();
    let stranger = Coverage::new(&image, "stranger".to_owned());
    let refused = sum.merge(&stranger).unwrap_err();
    assert!(refused.to_string().contains("object stranger, not object"), "{refused}");
    let fewer = super::Coverage { programs: Vec::new(), ..other.clone() };
    assert_eq!(sum.merge(&fewer), Err(Mismatch::Shape));
    let later = super::Coverage { version: VERSION + 1, ..other };
    assert_eq!(sum.merge(&later), Err(Mismatch::Shape));
    assert_eq!(sum, before, "what is refused changes nothing");
}

#[test]
fn a_recorder_counts_what_its_backends_run() {
    let recorder = Recorder::find().unwrap();
    assert_eq!(recorder.backend().name(), "vm");
    let report = Report::new(recorder.image(), &recorder.counts());
    assert_eq!(report.covered().covered, 0);
    assert!(report.covered().total > 300, "{:?}", report.covered());
    assert!(report.files.iter().all(|file| file.name.starts_with("datapath/ebpf/src/")));
    let mut machine = Machine::new(&Rc::new(recorder.image().clone()), |_| None).unwrap();
    let driver = recorder.image().program("driver").unwrap();
    let mut counts = recorder.counts();
    machine.begin(driver, Skb::new(vec![0; 64]), Clock::default());
    machine.run(&mut counts).unwrap();
    assert_eq!(counts.ran(driver, 0), 1);
    assert_eq!((counts.ran(99, 0), counts.jumped(0, 1 << 20)), (0, (0, 0)));
}
