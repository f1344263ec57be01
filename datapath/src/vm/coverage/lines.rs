//! What counts of instructions say about source lines. The compiler puts a line's code into several programs and
//! several places of one; a line ran where any of its copies did. Lines of libraries are left out.

use std::collections::BTreeMap;

use super::Coverage;
use crate::vm::image::Image;
use crate::vm::instruction::{Condition, Instruction, Operand};

/// Folders of the programs' own sources.
pub const OWN: [&str; 2] = ["datapath/ebpf/", "datapath/abi/"];

/// The programs' source files, and what ran of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By name.
    pub files: Vec<File>,
    /// Conditional jumps that belong to lines of libraries, which are not in `files`.
    pub foreign_jumps: usize,
}

/// A source file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// From the repository's root.
    pub name: String,
    /// The lines that there are instructions of, by number.
    pub lines: BTreeMap<u32, Line>,
}

/// A source line that there are instructions of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// What is written there.
    pub text: String,
    /// How often it ran: per program the count of the instruction that ran most, over all programs.
    pub ran: u64,
    /// Its conditional jumps, by column and condition.
    pub branches: Vec<Branch>,
}

/// A condition that decides a jump, over all of its copies. A copy may ask the opposite and have its ways exchanged:
/// they count as one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// From 1; 0 where the compiler did not say.
    pub column: u32,
    /// What is asked of a value: `== 6`, `>= 1024`, `& 1`, `== register`.
    pub condition: String,
    /// How often it held.
    pub held: u64,
    /// How often it did not.
    pub failed: u64,
}

/// How many of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many ran.
    pub covered: usize,
    /// Of how many.
    pub total: usize,
}

impl Share {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { covered: self.covered + other.covered, total: self.total + other.total }
    }
}

impl Line {
    /// Outcomes of conditions that came, of all that could.
    pub fn outcomes(&self) -> Share {
        let ways = self.branches.iter().flat_map(|branch| [branch.held, branch.failed]);
        Share { covered: ways.filter(|count| *count > 0).count(), total: 2 * self.branches.len() }
    }
}

impl File {
    /// Lines that ran, of those that could.
    pub fn covered(&self) -> Share {
        let covered = self.lines.values().filter(|line| line.ran > 0).count();
        Share { covered, total: self.lines.len() }
    }

    /// Outcomes of conditions that came, of all that could.
    pub fn outcomes(&self) -> Share {
        self.lines.values().map(Line::outcomes).fold(Share::default(), Share::plus)
    }

    /// Lines that did not run, first and last of each stretch: what lies between has no instructions.
    pub fn uncovered(&self) -> Vec<(u32, u32)> {
        let mut stretches: Vec<(u32, u32)> = Vec::new();
        let mut open = false;
        for (number, line) in &self.lines {
            match stretches.last_mut() {
                _ if line.ran > 0 => open = false,
                Some((_, last)) if open => *last = *number,
                _ => {
                    stretches.push((*number, *number));
                    open = true;
                }
            }
        }
        stretches
    }
}

impl Report {
    /// Of counts of an image's programs.
    pub fn new(image: &Image, counts: &Coverage) -> Self {
        let mut lines: BTreeMap<(&str, u32), Line> = BTreeMap::new();
        let mut branches: BTreeMap<(&str, u32), Conditions> = BTreeMap::new();
        let mut foreign_jumps = 0;
        for (number, program) in (0_u32..).zip(&image.programs) {
            let mut most: BTreeMap<(&str, u32), u64> = BTreeMap::new();
            for (pc, instruction) in program.code.iter().enumerate() {
                let Some(line) = program.line(pc) else { continue };
                let jump = condition(instruction);
                let (file, at) = (image.file(line), line.line);
                if !OWN.iter().any(|folder| file.starts_with(folder)) {
                    foreign_jumps += usize::from(jump.is_some());
                    continue;
                }
                lines.entry((file, at)).or_default().text.clone_from(&line.text);
                let ran = most.entry((file, at)).or_default();
                *ran = counts.ran(number, pc).max(*ran);
                if let Some((condition, is_opposite)) = jump {
                    let (yes, no) = counts.jumped(number, pc);
                    let (held, failed) = if is_opposite { (no, yes) } else { (yes, no) };
                    let known = branches.entry((file, at)).or_default();
                    let sum = known.entry((line.column, condition)).or_default();
                    *sum = (sum.0.saturating_add(held), sum.1.saturating_add(failed));
                }
            }
            for (at, ran) in most {
                let line = lines.entry(at).or_default();
                line.ran = line.ran.saturating_add(ran);
            }
        }
        Self { files: files(lines, branches), foreign_jumps }
    }

    /// Lines that ran, of those that could.
    pub fn covered(&self) -> Share {
        self.files.iter().map(File::covered).fold(Share::default(), Share::plus)
    }

    /// Outcomes of conditions that came, of all that could.
    pub fn outcomes(&self) -> Share {
        self.files.iter().map(File::outcomes).fold(Share::default(), Share::plus)
    }
}

/// Counts of a line's conditions, by column and words.
type Conditions = BTreeMap<(u32, String), (u64, u64)>;

fn files<'a>(
    lines: BTreeMap<(&'a str, u32), Line>,
    mut branches: BTreeMap<(&'a str, u32), Conditions>,
) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    for ((name, number), mut line) in lines {
        let conditions = branches.remove(&(name, number)).unwrap_or_default();
        let branch =
            |((column, condition), (held, failed))| Branch { column, condition, held, failed };
        line.branches = conditions.into_iter().map(branch).collect();
        match files.last_mut() {
            Some(file) if file.name == name => _ = file.lines.insert(number, line),
            _ => files.push(File { name: name.to_owned(), lines: [(number, line)].into() }),
        }
    }
    files
}

/// What a conditional jump asks, in words, and whether it asks the opposite: `!=` for `==`, `<` for `>=`.
fn condition(instruction: &Instruction) -> Option<(String, bool)> {
    use Condition as C;
    let Instruction::Jump { condition, operand, .. } = instruction else { return None };
    let (words, is_strict, is_opposite) = match condition {
        C::Eq => ("==", false, false),
        C::Ne => ("==", false, true),
        C::Set => ("&", false, false),
        C::Gt => (">=", true, false),
        C::Le => (">=", true, true),
        C::Ge => (">=", false, false),
        C::Lt => (">=", false, true),
        C::SGt => ("signed >=", true, false),
        C::SLe => ("signed >=", true, true),
        C::SGe => ("signed >=", false, false),
        C::SLt => ("signed >=", false, true),
    };
    let text = match operand {
        // `> 5` is `>= 6`: copies of a line say the one or the other.
        Operand::Immediate(value) => {
            format!("{words} {}", i64::from(*value) + i64::from(is_strict))
        }
        Operand::Register(_) if is_strict => format!("{} register", words.trim_end_matches('=')),
        Operand::Register(_) => format!("{words} register"),
    };
    Some((text, is_opposite))
}
