//! What is run: programs decoded, with their functions and source lines, and the maps they name. Read from an
//! object file once; changes no more.

#[cfg(test)]
mod damaged;
mod references;

use std::cell::Cell;
use std::collections::BTreeMap;

use aya_obj::ProgramSection;
use aya_obj::btf::BtfExt;

use super::fault::Place;
use super::instruction::{self, Instruction, Raw, Scope};
use super::map::{Definition, Kind};
use super::quick::Quick;

/// A function within a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, with its module where the object says.
    pub name: String,
    /// Its first instruction.
    pub start: usize,
    /// One past its last.
    pub end: usize,
}

/// A source line, from its first instruction until the next line's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The first instruction.
    pub pc: usize,
    /// The file, by its index in [`Image::files`].
    pub file: usize,
    /// From 1.
    pub line: u32,
    /// From 1; 0 where the compiler did not say.
    pub column: u32,
    /// What is written there; empty where the object does not hold it.
    pub text: String,
}

/// A source file as far as line information tells it: the lines that instructions were made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source<'a> {
    /// Its name, from the root of its repository: `datapath/ebpf/src/policy.rs`. Files of other packages begin with
    /// `cargo/`; those of the compiler's library are as its build named them.
    pub file: &'a str,
    /// What is written there, by line number from 1. Only lines that instructions name are known, and of those
    /// only the ones that the object holds the text of: all of the datapath's own.
    pub lines: BTreeMap<u32, &'a str>,
}

/// Kinds of programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgramKind {
    /// `BPF_PROG_TYPE_SCHED_CLS`: sees a packet as `struct __sk_buff`.
    #[default]
    Classifier,
    /// `BPF_PROG_TYPE_XDP`: sees it as `struct xdp_md`.
    Xdp,
}

/// A program with every function that it calls.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: ProgramKind,
    /// As encoded, for a disassembler.
    pub raw: Vec<Raw>,
    /// As run, at the same places.
    pub code: Vec<Instruction>,
    /// The same as it is run where nothing unusual is met.
    pub(super) quick: Vec<Quick>,
    /// Its functions by place, its own first.
    pub functions: Vec<Function>,
    /// Its lines by place.
    pub lines: Vec<Line>,
}

impl Program {
    /// Decodes a program. Errors name the place and what is not known there.
    pub fn new(
        name: String,
        raw: Vec<Raw>,
        maps: usize,
        functions: Vec<Function>,
        lines: Vec<Line>,
    ) -> Result<Self, (usize, String)> {
        let code = instruction::decode_all(&raw, &Scope { maps })?;
        let quick = code.iter().map(Quick::of).collect();
        Ok(Self { name, kind: ProgramKind::default(), raw, code, quick, functions, lines })
    }

    /// The same of another kind. Errors as of [`Program::new`].
    pub fn of_kind(mut self, kind: ProgramKind) -> Result<Self, (usize, String)> {
        self.kind = kind;
        let foreign =
            self.code.iter().enumerate().find_map(|(pc, instruction)| match instruction {
                Instruction::Helper(helper) if kind == ProgramKind::Xdp && !helper.is_for_xdp() => {
                    let name = helper.name();
                    Some((pc, format!("helper `bpf_{name}` is not for XDP programs")))
                }
                _ => None,
            });
        foreign.map_or(Ok(self), Err)
    }

    /// The function that an instruction is in.
    pub fn function(&self, pc: usize) -> Option<&Function> {
        self.functions.iter().find(|function| (function.start..function.end).contains(&pc))
    }

    /// The line that an instruction is of.
    pub fn line(&self, pc: usize) -> Option<&Line> {
        let after = self.lines.partition_point(|line| line.pc <= pc);
        let line = self.lines.get(after.checked_sub(1)?)?;
        // A function without lines does not belong to the one before it.
        let start = self.function(pc).map_or(0, |function| function.start);
        (line.pc >= start).then_some(line)
    }
}

/// Why an object cannot be run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read or linked.
    #[error("the object cannot be read: {0}")]
    Object(String),
    /// A map of a kind that is not modelled, or that the kernel would not make.
    #[error("map `{map}`: {problem}")]
    Map {
        /// Its name.
        map: String,
        /// Why.
        problem: String,
    },
    /// An instruction or a helper that is not modelled.
    #[error("{place}: {refusal}")]
    Instruction {
        /// Where.
        place: Box<Place>,
        /// What.
        refusal: String,
    },
}

thread_local! {
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread reads an object. A panic then becomes an error about the object, so that whoever reports panics
/// has nothing to say of it.
pub fn is_reading() -> bool {
    READING.get()
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// By name.
    pub programs: Vec<Program>,
    /// By name; what instructions refer to are indices of this list.
    pub maps: Vec<Definition>,
    /// Source files.
    pub files: Vec<String>,
}

impl Image {
    /// Reads an object file.
    pub fn read(bytes: &[u8]) -> Result<Self, LoadError> {
        references::check(bytes)?;
        // What parses and links is not made for files that lie about themselves, and panics at some of them.
        READING.set(true);
        let linked = std::panic::catch_unwind(|| linked(bytes));
        READING.set(false);
        let (object, maps, functions) = linked.unwrap_or_else(|_| {
            Err(LoadError::Object(
                "the file is damaged: its parts contradict each other".to_owned(),
            ))
        })?;
        let mut image = Self { maps, ..Self::default() };
        let strings = Strings::of(&object);
        let mut programs: Vec<_> = object.programs.iter().collect();
        programs.sort_unstable_by_key(|(name, _)| *name);
        for (name, program) in programs {
            let Some(linked) = object.functions.get(&program.function_key()) else {
                return Err(LoadError::Object(format!("program `{name}` has no code")));
            };
            let raw: Vec<Raw> = linked.instructions.iter().copied().map(raw_of).collect();
            let parts = parts_of(name, &raw, &functions);
            let lines = image.read_lines(&linked.line_info.line_info, &strings);
            let place = Place {
                program: name.clone(),
                function: name.clone(),
                pc: 0,
                source: String::new(),
            };
            let kind = kind_of(name, program)?;
            let program = Program::new(name.clone(), raw, image.maps.len(), parts, lines)
                .and_then(|program| program.of_kind(kind))
                .map_err(|(pc, refusal)| LoadError::Instruction {
                    place: Box::new(Place { pc, ..place }),
                    refusal,
                })?;
            image.programs.push(program);
        }
        Ok(image)
    }

    /// The program of a name, by its index.
    pub fn program(&self, name: &str) -> Option<u32> {
        let at = self.programs.iter().position(|program| program.name == name)?;
        u32::try_from(at).ok()
    }

    /// The lines of a program by place, from its index.
    pub fn lines(&self, program: u32) -> &[Line] {
        self.programs.get(program as usize).map_or(&[], |program| &program.lines)
    }

    /// The name of a line's file, from the root of its repository; empty for a line of another image.
    pub fn file(&self, line: &Line) -> &str {
        self.files.get(line.file).map_or("", String::as_str)
    }

    /// What the object tells of its source files, by name. Lines without text are left out, files without any not.
    pub fn sources(&self) -> Vec<Source<'_>> {
        let mut sources: Vec<_> =
            self.files.iter().map(|file| Source { file, lines: BTreeMap::new() }).collect();
        let lines = self.programs.iter().flat_map(|program| &program.lines);
        for line in lines.filter(|line| !line.text.is_empty()) {
            if let Some(source) = sources.get_mut(line.file) {
                source.lines.insert(line.line, &line.text);
            }
        }
        sources.sort_unstable_by_key(|source| source.file);
        sources
    }

    /// Where functions of a name begin: program and instruction. A function that several programs call lies in each;
    /// one that the compiler put into its callers lies nowhere.
    pub fn functions(&self, name: &str) -> Vec<(u32, usize)> {
        let starts = |(number, program): (u32, &Program)| {
            let named = program.functions.iter().filter(|function| function.name == name);
            named.map(|function| (number, function.start)).collect::<Vec<_>>()
        };
        (0_u32..).zip(&self.programs).flat_map(starts).collect()
    }

    /// The map of a name, by its index.
    pub fn map(&self, name: &str) -> Option<u16> {
        let at = self.maps.iter().position(|map| map.name == name)?;
        u16::try_from(at).ok()
    }

    /// Where an instruction is, in words.
    pub fn place(&self, program: u32, pc: usize) -> Place {
        let Some(program) = self.programs.get(program as usize) else {
            return Place {
                program: String::new(),
                function: String::new(),
                pc,
                source: String::new(),
            };
        };
        let function = program.function(pc).map_or(&program.name, |function| &function.name);
        let source = program.line(pc).map(|line| {
            let file = self.file(line);
            let text = line.text.trim();
            let gap = if text.is_empty() { "" } else { ": " };
            format!("{file}:{}:{}{gap}{text}", line.line, line.column)
        });
        Place {
            program: program.name.clone(),
            function: function.clone(),
            pc,
            source: source.unwrap_or_default(),
        }
    }

    fn file_number(&mut self, name: &str) -> usize {
        if let Some(at) = self.files.iter().position(|file| file == name) {
            return at;
        }
        self.files.push(name.to_owned());
        self.files.len() - 1
    }

    fn read_lines(
        &mut self,
        records: &[aya_obj::generated::bpf_line_info],
        strings: &Strings,
    ) -> Vec<Line> {
        let mut lines: Vec<Line> = records
            .iter()
            .map(|record| Line {
                pc: record.insn_off as usize,
                file: self.file_number(strings.at(record.file_name_off)),
                line: record.line_col >> 10,
                column: record.line_col & 0x3FF,
                text: strings.at(record.line_off).to_owned(),
            })
            .collect();
        lines.sort_by_key(|line| line.pc);
        lines
    }
}

/// The kind of a program, by its section.
fn kind_of(name: &str, program: &aya_obj::Program) -> Result<ProgramKind, LoadError> {
    match program.section {
        ProgramSection::SchedClassifier => Ok(ProgramKind::Classifier),
        ProgramSection::Xdp { .. } => Ok(ProgramKind::Xdp),
        _ => Err(LoadError::Object(format!("program `{name}` is of a kind that is not modelled"))),
    }
}

fn unreadable(error: impl std::error::Error) -> LoadError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    LoadError::Object(text)
}

/// Code that may be called, by its function's name.
type Linkable = Vec<(String, Vec<Raw>)>;

/// An object, linked, with its maps and its functions as they were before.
fn linked(bytes: &[u8]) -> Result<(aya_obj::Object, Vec<Definition>, Linkable), LoadError> {
    let mut object = aya_obj::Object::parse(bytes).map_err(unreadable)?;
    let (maps, functions) = (definitions(&object)?, linkable(&object));
    link(&mut object)?;
    Ok((object, maps, functions))
}

/// The object's maps by name.
fn definitions(object: &aya_obj::Object) -> Result<Vec<Definition>, LoadError> {
    let mut maps: Vec<_> = object.maps.iter().collect();
    maps.sort_unstable_by_key(|(name, _)| *name);
    let definition = |(name, map): (&String, &aya_obj::Map)| {
        let kind = Kind::of(map.map_type()).ok_or_else(|| LoadError::Map {
            map: name.clone(),
            problem: format!("maps of type {} are not modelled", map.map_type()),
        })?;
        Ok(Definition {
            name: name.clone(),
            kind,
            key_size: map.key_size() as usize,
            value_size: map.value_size() as usize,
            capacity: map.max_entries(),
            contents: map.data().to_vec(),
        })
    };
    maps.into_iter().map(definition).collect()
}

/// The functions outside programs, with their names.
fn linkable(object: &aya_obj::Object) -> Linkable {
    let code =
        |function: &aya_obj::Function| function.instructions.iter().copied().map(raw_of).collect();
    object.functions.values().map(|function| (path_of(&function.name), code(function))).collect()
}

/// Puts map indices into the code, and to each program the functions that it calls.
fn link(object: &mut aya_obj::Object) -> Result<(), LoadError> {
    let text = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .filter(|section| !object.programs.values().any(|p| p.section_index == *section))
        .chain(object.programs.values().map(|program| program.section_index))
        .collect();
    let maps = object.maps.clone();
    let mut names: Vec<_> = maps.keys().collect();
    names.sort_unstable();
    let numbered = (0_i32..).zip(&names).filter_map(|(number, name)| {
        let map = maps.get(*name)?;
        Some((name.as_str(), number, map))
    });
    object.relocate_maps(numbered, &text).map_err(unreadable)?;
    object.relocate_calls(&text).map_err(unreadable)
}

fn raw_of(instruction: aya_obj::generated::bpf_insn) -> Raw {
    Raw {
        code: instruction.code,
        dst: instruction.dst_reg(),
        src: instruction.src_reg(),
        off: instruction.off,
        imm: instruction.imm,
    }
}

/// The functions of a linked program: each begins where a call leads to. Names are those of the functions with
/// the same instructions, but for what linking changed.
fn parts_of(name: &str, code: &[Raw], functions: &[(String, Vec<Raw>)]) -> Vec<Function> {
    let is_call = |raw: &Raw| raw.code == 0x85 && raw.src == 1;
    let target = |(at, raw): (usize, &Raw)| {
        let at = i64::try_from(at).unwrap_or(i64::MAX) + 1 + i64::from(raw.imm);
        usize::try_from(at).ok().filter(|at| *at < code.len())
    };
    let calls = code.iter().enumerate().filter(|(_, raw)| is_call(raw));
    let mut starts: Vec<usize> = calls.filter_map(target).chain([0]).collect();
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1).copied().chain([code.len()]);
    let shape = |raw: &Raw| (raw.code, raw.dst, raw.off);
    let part = |(start, end): (&usize, usize)| {
        let body = code.get(*start..end).unwrap_or_default();
        let same = |(_, other): &&(String, Vec<Raw>)| {
            other.len() == body.len()
                && other.iter().zip(body).all(|(one, two)| shape(one) == shape(two))
        };
        let known = functions.iter().find(same).map(|(name, _)| name.clone());
        let name = match known {
            _ if *start == 0 => name.to_owned(),
            Some(known) => known,
            None => format!("{name}+{start}"),
        };
        Function { name, start: *start, end }
    };
    starts.iter().zip(ends).map(part).collect()
}

/// A function's path from a Rust symbol (v0 mangling) that is nothing but a path, without the crate; other
/// symbols as they are.
fn path_of(symbol: &str) -> String {
    let names = || {
        let rest = symbol.strip_prefix("_RNv")?.trim_start_matches("Nt").trim_start_matches("Nv");
        let rest = rest.strip_prefix("Cs").and_then(|rest| rest.split_once('_'))?.1;
        let mut names = Vec::new();
        let mut rest = rest;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let length: usize = rest.get(..digits)?.parse().ok()?;
            // A name that begins with a digit or `_` has `_` before it.
            let name = rest.get(digits..)?;
            let name = name.strip_prefix('_').unwrap_or(name);
            names.push(name.get(..length)?);
            rest = name.get(length..)?;
        }
        Some(names.split_first()?.1.join("::"))
    };
    names().filter(|path| !path.is_empty()).unwrap_or_else(|| symbol.to_owned())
}

/// The strings that line information refers to.
struct Strings {
    bytes: Vec<u8>,
}

impl Strings {
    /// Out of the header of BTF: offset and length of its strings (Linux `struct btf_header`).
    fn of(object: &aya_obj::Object) -> Self {
        let has_lines: Option<&BtfExt> = object.btf_ext.as_ref();
        let bytes = has_lines.and(object.btf.as_ref()).map(aya_obj::btf::Btf::to_bytes);
        let bytes = bytes.unwrap_or_default();
        let word = |at: usize| -> Option<usize> {
            let word = bytes.get(at..)?.first_chunk()?;
            Some(u32::from_le_bytes(*word) as usize)
        };
        let strings = || {
            let start = word(4)?.checked_add(word(16)?)?;
            bytes.get(start..start.checked_add(word(20)?)?)
        };
        Self { bytes: strings().unwrap_or_default().to_vec() }
    }

    fn at(&self, offset: u32) -> &str {
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        std::str::from_utf8(&rest[..end]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_our_own_has_its_text() {
        let image = Image::read(crate::object::Object::embedded().bytes()).unwrap();
        let mut own = 0;
        for number in 0..5 {
            let lines = image.lines(number);
            assert!(lines.is_sorted_by_key(|line| line.pc) && !lines.is_empty());
            for line in lines.iter().filter(|line| image.file(line).starts_with("datapath/")) {
                assert!(!line.text.is_empty() && line.line > 0, "{}: {line:?}", image.file(line));
                own += 1;
            }
        }
        assert!(own > 1000, "{own} lines");
        let absolute = |file: &&String| file.starts_with('/') && !file.contains("/library/");
        assert_eq!(image.files.iter().find(absolute), None);
    }

    #[test]
    fn the_text_is_what_the_sources_say() {
        let image = Image::read(crate::object::Object::embedded().bytes()).unwrap();
        let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = image.sources();
        assert!(sources.is_sorted_by_key(|source| source.file));
        let own: Vec<_> = sources.iter().filter(|s| s.file.starts_with("datapath/")).collect();
        assert!(own.len() > 10, "{own:?}");
        for source in own {
            let path = package.join(source.file.strip_prefix("datapath/").unwrap());
            let written = std::fs::read_to_string(path).unwrap();
            for (number, text) in &source.lines {
                let line = written.lines().nth(*number as usize - 1);
                assert_eq!(line, Some(*text), "{}:{number}", source.file);
            }
        }
        assert_eq!(image.functions("policy::judge").len(), 7);
        assert_eq!(image.functions("from_container"), [(1, 0)]);
        assert_eq!(image.functions("nothing"), []);
    }

    #[test]
    fn a_symbol_that_is_a_path_is_read_as_one() {
        for (symbol, path) in [
            ("_RNvNtCs8oHNDbqUdSH_7hopwise7forward14set_tunnel_key", "forward::set_tunnel_key"),
            ("_RNvCs8oHNDbqUdSH_7hopwise5panic", "panic"),
            ("memcpy", "memcpy"),
            ("_RINvNtCs1_4core3ptr4readE", "_RINvNtCs1_4core3ptr4readE"),
            ("_RNvNtCs8_7hopwise99forward", "_RNvNtCs8_7hopwise99forward"),
        ] {
            assert_eq!(path_of(symbol), path);
        }
    }
}
