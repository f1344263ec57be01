//! The program level: places in the datapath's code, its source text as the object holds it, its instructions.

use datapath::vm::fault::Place;
use datapath::vm::image::Image;
use datapath::vm::machine::Machine;
use lang::debug::CodePlace;
use serde::Serialize;

use super::Problem;

/// Source files that are the datapath's own begin with this.
const OWN: &str = "datapath/";
/// Lines of source or code around a place.
const AROUND: usize = 5;

/// Where a program stands, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CodeView {
    /// The program.
    pub program: String,
    /// The function in it.
    pub function: String,
    /// The next instruction's number in the program.
    pub instruction: usize,
    /// The source file; absent where the object does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What is written there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl CodeView {
    /// `policy.rs:57 in from_container: let hit = ...`
    pub(crate) fn words(&self) -> String {
        let Self { program, function, instruction, .. } = self;
        let inside =
            if function == program { program.clone() } else { format!("{function} of {program}") };
        let source = match (&self.file, self.line) {
            (Some(file), Some(line)) => format!(", {}:{line}", short(file)),
            _ => String::new(),
        };
        let text = if self.text.is_empty() { String::new() } else { format!(": {}", self.text) };
        format!("{inside}, instruction {instruction}{source}{text}")
    }
}

/// A file without the way to it.
pub(super) fn short(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// A source line: file by its index, and line.
pub(super) type SourceLine = (usize, u32);

/// The source line of an instruction, if it is one of the datapath's own. An instruction that came out of a library's
/// function belongs to nobody here.
pub(super) fn own_line(image: &Image, program: u32, pc: usize) -> Option<SourceLine> {
    let line = image.programs.get(program as usize)?.line(pc)?;
    image.file(line).starts_with(OWN).then_some((line.file, line.line))
}

/// Where a machine stands. Amid a library's code that is the line of the datapath's own that it came from.
pub(super) fn view(machine: &Machine, own: Option<SourceLine>) -> Option<CodeView> {
    view_at(machine.image(), (machine.program(), machine.pc()), own)
}

/// An instruction, with the line that is told where it is not of the datapath's own.
fn view_at(image: &Image, (number, pc): (u32, usize), own: Option<SourceLine>) -> Option<CodeView> {
    let program = image.programs.get(number as usize)?;
    let own = own_line(image, number, pc).or(own);
    let text = own.and_then(|(file, line)| {
        let lines = image.programs.iter().flat_map(|program| &program.lines);
        let known = lines.filter(|known| (known.file, known.line) == (file, line));
        known.map(|known| known.text.trim()).find(|text| !text.is_empty())
    });
    Some(CodeView {
        program: program.name.clone(),
        function: program.function(pc).map_or(&program.name, |f| &f.name).clone(),
        instruction: pc,
        file: own.and_then(|(file, _)| image.files.get(file).cloned()),
        line: own.map(|(_, line)| line),
        text: text.unwrap_or_default().to_owned(),
    })
}

/// Instructions that a place names: where each program comes to it.
pub(super) fn places(
    machine: &Machine,
    own: Option<SourceLine>,
    place: &CodePlace,
) -> Result<Vec<(u32, usize)>, Problem> {
    let image = machine.image();
    match place {
        CodePlace::Line { file, line } => {
            let file = match file {
                Some(name) => file_of(image, name)?,
                None => here(machine, own)?.0,
            };
            let rows = rows(image, file);
            let Some(line) = rows.iter().map(|(line, _)| *line).filter(|l| l >= line).min() else {
                let last = rows.iter().map(|(line, _)| *line).max().unwrap_or_default();
                let name = image.files.get(file).map_or("", |file| short(file));
                return Err(Problem::new(
                    format!("no instruction is of line {line} of {name} or of a later one"),
                    format!(
                        "the last line of it with instructions is {last}; `list {name}:{last}` shows it"
                    ),
                ));
            };
            Ok(rows.into_iter().filter(|(known, _)| *known == line).map(|(_, at)| at).collect())
        }
        CodePlace::Function(name) => function(image, name),
        CodePlace::Instruction(pc) => {
            let pc = *pc as usize;
            let code = image.programs.get(machine.program() as usize).map_or(0, |p| p.code.len());
            if pc < code {
                return Ok(vec![(machine.program(), pc)]);
            }
            let message = format!("the program has no instruction {pc}");
            Err(Problem::new(message, format!("it has {code}, the first is 0")))
        }
    }
}

/// `at policy.rs:57`: the source line of an instruction.
pub(super) fn place_of(image: &Image, (program, pc): (u32, usize)) -> Option<String> {
    let (file, line) = nearest_line(image, program, pc)?;
    Some(format!("at {}:{line}", short(image.files.get(file)?)))
}

/// The source line of an instruction; that before it where it is not of the datapath's own.
fn nearest_line(image: &Image, program: u32, pc: usize) -> Option<SourceLine> {
    (0..=pc).rev().find_map(|pc| own_line(image, program, pc))
}

fn here(machine: &Machine, own: Option<SourceLine>) -> Result<SourceLine, Problem> {
    own_line(machine.image(), machine.program(), machine.pc()).or(own).ok_or_else(|| {
        let message = "the program does not stand at a line of the datapath's own";
        Problem::new(message, "name the file: `policy.rs:57`; `info sources` lists them")
    })
}

/// Lines of a file with the instructions that begin one.
fn rows(image: &Image, file: usize) -> Vec<(u32, (u32, usize))> {
    let programs = (0_u32..).zip(&image.programs);
    let rows = programs.flat_map(|(number, program)| {
        let lines = program.lines.iter().filter(move |line| line.file == file);
        lines.map(move |line| (line.line, (number, line.pc)))
    });
    rows.collect()
}

/// The file whose path ends as is written.
fn file_of(image: &Image, name: &str) -> Result<usize, Problem> {
    let is_end =
        |file: &str| file.strip_suffix(name).is_some_and(|f| f.is_empty() || f.ends_with('/'));
    let own = || image.files.iter().enumerate().filter(|(_, file)| file.starts_with(OWN));
    let found: Vec<_> = own().filter(|(_, file)| is_end(file)).collect();
    match found[..] {
        [(index, _)] => Ok(index),
        [] => {
            let names = own().map(|(_, file)| short(file)).collect::<Vec<_>>();
            Err(Problem::unknown("source file", name, &names, "`info sources` lists them"))
        }
        _ => {
            let names: Vec<_> = found.iter().map(|(_, file)| file.as_str()).collect();
            let message = format!("`{name}` is the end of {} files", found.len());
            Err(Problem::new(message, format!("write more of it: {}", names.join(", "))))
        }
    }
}

fn function(image: &Image, name: &str) -> Result<Vec<(u32, usize)>, Problem> {
    let names: Vec<&str> = functions(image);
    let is_end =
        |known: &&&str| known.strip_suffix(name).is_some_and(|k| k.is_empty() || k.ends_with("::"));
    let found: Vec<_> = names.iter().filter(is_end).collect();
    match found[..] {
        [one] => Ok(image.functions(one)),
        [] => {
            let remedy = "`info functions` lists them; the compiler put the others into their \
                          callers, where a line stops: `break policy.rs:57`";
            Err(Problem::unknown("function", name, &names, remedy))
        }
        _ => {
            let names: Vec<_> = found.iter().map(|name| **name).collect();
            let message = format!("`{name}` is the end of {} functions", found.len());
            Err(Problem::new(message, format!("write more of it: {}", names.join(", "))))
        }
    }
}

/// Functions of the programs, by name.
pub(super) fn functions(image: &Image) -> Vec<&str> {
    let functions = image.programs.iter().flat_map(|program| &program.functions);
    let mut names: Vec<_> = functions.map(|function| function.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Source files of the datapath's own, with how many of their lines are known.
pub(super) fn sources(image: &Image) -> Vec<(String, usize)> {
    let own = image.sources().into_iter().filter(|source| source.file.starts_with(OWN));
    own.map(|source| (source.file.to_owned(), source.lines.len())).collect()
}

/// Source text around a place or the next line: lines that instructions were made of; `->` marks the next one.
pub(super) fn list(
    machine: &Machine,
    own: Option<SourceLine>,
    place: Option<&CodePlace>,
) -> Result<Vec<String>, Problem> {
    let image = machine.image();
    let next = own_line(image, machine.program(), machine.pc()).or(own);
    let (file, middle) = match place {
        None => here(machine, own)?,
        Some(place) => {
            let at = places(machine, own, place)?.first().copied();
            let line = at.and_then(|(program, pc)| {
                let line = image.programs.get(program as usize)?.line(pc)?;
                Some((line.file, line.line))
            });
            line.ok_or_else(|| {
                let message = "the object does not say which line that is";
                Problem::new(message, "`disassemble` shows the instructions")
            })?
        }
    };
    let name = image.files.get(file).map_or("", String::as_str);
    let sources = image.sources();
    let Some(source) = sources.iter().find(|source| source.file == name) else {
        return Ok(Vec::new());
    };
    let before = source.lines.range(..middle).rev().take(AROUND);
    let after = source.lines.range(middle..).take(AROUND + 1);
    let mut shown: Vec<_> = before.chain(after).map(|(line, text)| (*line, *text)).collect();
    shown.sort_unstable();
    let mut lines = vec![name.to_owned()];
    let mut before = None;
    for (line, text) in shown {
        if before.is_some_and(|before| before + 1 != line) {
            lines.push("       ...".to_owned());
        }
        let mark = if next == Some((file, line)) { "->" } else { "  " };
        lines.push(format!("{mark} {line:>4}  {text}"));
        before = Some(line);
    }
    Ok(lines)
}

/// Instructions around the next one, or of a function; `->` marks the next one. Each source line is told where it
/// begins.
pub(super) fn disassemble(machine: &Machine, name: Option<&str>) -> Result<Vec<String>, Problem> {
    let image = machine.image();
    let (number, range) = match name {
        None => {
            let pc = machine.pc();
            (machine.program(), pc.saturating_sub(AROUND)..pc + AROUND + 1)
        }
        Some(name) => {
            let Some((number, start)) = function(image, name)?.first().copied() else {
                return Ok(Vec::new());
            };
            let program = image.programs.get(number as usize);
            let end = program.and_then(|p| p.function(start)).map_or(start, |f| f.end);
            (number, start..end)
        }
    };
    let Some(program) = image.programs.get(number as usize) else { return Ok(Vec::new()) };
    let mut lines = vec![program.name.clone()];
    let mut before = None;
    for pc in range {
        let Some(text) = datapath::vm::disassemble::text(image, number, pc) else { continue };
        let line = own_line(image, number, pc);
        if line.is_some() && line != before {
            let known = program.line(pc);
            let (file, at) = known.map_or(("", 0), |line| (short(image.file(line)), line.line));
            let source = known.map_or("", |line| line.text.trim());
            lines.push(format!("   ; {file}:{at}  {source}"));
        }
        before = line.or(before);
        let is_next = machine.is_running() && (number, pc) == (machine.program(), machine.pc());
        let mark = if is_next { "->" } else { "  " };
        lines.push(format!("{mark} {pc:>5}  {text}"));
    }
    Ok(lines)
}

/// The functions that are being run, the innermost first, with the lines that `view` tells.
pub(super) fn backtrace(machine: &Machine, own: Option<SourceLine>) -> Vec<String> {
    let image = machine.image();
    let line = |(level, place): (usize, Place)| {
        let number = (0_u32..).zip(&image.programs).find(|(_, p)| p.name == place.program)?.0;
        // A caller's line is known by its code only: it is the last one of the datapath's own before the call.
        let own = if level == 0 { own } else { nearest_line(image, number, place.pc) };
        let words = view_at(image, (number, place.pc), own)?.words();
        Some(format!("#{level} {words}"))
    };
    let places = machine.backtrace().into_iter().map(|level| level.place);
    places.enumerate().filter_map(line).collect()
}
