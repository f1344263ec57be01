//! Checks what an object's code refers to before the object is linked: the linker takes for granted that code
//! refers to other code by functions' symbols, or by sections' in two kinds of relocations. Reads the file's bytes and
//! trusts none of them; links nothing itself.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::LoadError;

/// The header of a 64-bit ELF file (`Elf64_Ehdr`).
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    class: u8,
    order: u8,
    rest: [u8; 34],
    sections: U64,
    more: [u8; 12],
    section_count: U16,
    names: U16,
}

/// `Elf64_Shdr`
#[derive(Clone, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Section {
    name: U32,
    kind: U32,
    flags: U64,
    address: U64,
    offset: U64,
    size: U64,
    link: U32,
    info: U32,
    alignment: U64,
    entry_size: U64,
}

/// `Elf64_Rel`; `Elf64_Rela` has 8 more bytes.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Relocation {
    offset: U64,
    kind: U32,
    symbol: U32,
}

/// `Elf64_Sym`
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Symbol {
    name: U32,
    info: u8,
    other: u8,
    section: U16,
    value: U64,
    size: U64,
}

/// `ELFCLASS64`, `ELFDATA2LSB`
const CLASS: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
/// `SHT_RELA`, `SHT_REL`
const WITH_ADDENDS: u32 = 4;
const WITHOUT: u32 = 9;
/// `SHF_EXECINSTR`
const CODE: u64 = 4;
/// `STT_SECTION`, `STT_FUNC`
const SECTION: u8 = 3;
const FUNCTION: u8 = 2;
/// `R_BPF_64_64`, `R_BPF_64_32`: the kinds whose instructions hold a place in a section.
const PLACES: [u32; 2] = [1, 10];

struct File<'a> {
    bytes: &'a [u8],
    sections: Vec<Section>,
}

/// Refuses an object whose code refers to code in a way that cannot be linked.
pub(super) fn check(bytes: &[u8]) -> Result<(), LoadError> {
    let file = File::of(bytes)?;
    for section in &file.sections {
        let size = match section.kind.get() {
            WITHOUT => size_of::<Relocation>(),
            WITH_ADDENDS => size_of::<Relocation>() + 8,
            _ => continue,
        };
        let of_code = file.section(section.info.get()).is_some_and(Section::is_code);
        if !of_code {
            continue;
        }
        let symbols = file.section(section.link.get()).and_then(|table| file.data(table));
        let symbols = symbols.ok_or_else(|| damaged("relocations without symbols"))?;
        let entries = file.data(section).ok_or_else(|| damaged("relocations beyond its end"))?;
        for entry in entries.chunks_exact(size) {
            let Ok((relocation, _)) = Relocation::read_from_prefix(entry) else { continue };
            file.check_reference(&relocation, symbols)?;
        }
    }
    Ok(())
}

fn damaged(what: &str) -> LoadError {
    LoadError::Object(format!("the file is damaged: {what}"))
}

impl Section {
    fn is_code(&self) -> bool {
        self.flags.get() & CODE != 0
    }
}

impl<'a> File<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, LoadError> {
        let header = Header::read_from_prefix(bytes).map_err(|_| damaged("no header"))?.0;
        if header.class != CLASS || header.order != LITTLE_ENDIAN {
            let what = "it is no 64-bit little-endian ELF file".to_owned();
            return Err(LoadError::Object(what));
        }
        let sections = usize::try_from(header.sections.get()).ok();
        let sections = sections.and_then(|start| bytes.get(start..)).unwrap_or_default();
        let count = usize::from(header.section_count.get());
        let read = |entry: &[u8]| Section::read_from_bytes(entry).ok();
        let sections: Option<Vec<_>> =
            sections.chunks_exact(size_of::<Section>()).take(count).map(read).collect();
        let sections = sections.filter(|sections| sections.len() == count);
        Ok(Self { bytes, sections: sections.ok_or_else(|| damaged("sections beyond its end"))? })
    }

    fn section(&self, index: u32) -> Option<&Section> {
        self.sections.get(index as usize)
    }

    fn data(&self, section: &Section) -> Option<&'a [u8]> {
        let start = usize::try_from(section.offset.get()).ok()?;
        let end = start.checked_add(usize::try_from(section.size.get()).ok()?)?;
        self.bytes.get(start..end)
    }

    fn check_reference(&self, relocation: &Relocation, symbols: &[u8]) -> Result<(), LoadError> {
        let start = (relocation.symbol.get() as usize).saturating_mul(size_of::<Symbol>());
        let symbol = symbols.get(start..).and_then(|rest| Symbol::read_from_prefix(rest).ok());
        let symbol = symbol.ok_or_else(|| damaged("a relocation without its symbol"))?.0;
        let kind = symbol.info & 0xF;
        let section = self.section(symbol.section.get().into()).filter(|_| symbol.section != 0);
        let known = match (kind, section) {
            (FUNCTION, section) => section.is_some(),
            (SECTION, Some(section)) if section.is_code() => {
                PLACES.contains(&relocation.kind.get())
            }
            (_, Some(section)) => !section.is_code(),
            (_, None) => true,
        };
        if known {
            return Ok(());
        }
        Err(LoadError::Object(format!(
            "the code at offset {:#x} refers to other code by a symbol of kind {kind} (number {}), which cannot be \
             linked",
            relocation.offset.get(),
            relocation.symbol.get(),
        )))
    }
}
