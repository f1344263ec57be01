//! A program of somebody else on a device: two instructions, which let every packet go on to whoever comes next.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya::programs::links::LinkOrder;
use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::sys::{Stats, enable_stats};
use aya::{Ebpf, EbpfLoader};

use super::machine::Machine;

/// How one hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// By tcx, before those that are there.
    First,
    /// By tcx, after them.
    Last,
    /// By a filter.
    Filter,
}

/// One, which hangs there as long as it is held.
pub(crate) struct Foreign {
    ebpf: Ebpf,
    pub(crate) id: u32,
    _counted: OwnedFd,
}

impl Foreign {
    /// Hangs one on a device of the node.
    pub(crate) fn on(machine: &Machine, device: &str, side: TcAttachType, how: How) -> Self {
        let counted = enable_stats(Stats::RunTime).expect("runs are counted");
        let mut ebpf = EbpfLoader::new().btf(None).load(&object()).expect("it is an object");
        let program: &mut SchedClassifier =
            ebpf.program_mut(NAME).expect("it is there").try_into().expect("it is of that type");
        program.load().expect("the verifier takes it");
        let id = program.info().expect("the kernel tells").id();
        let options = match how {
            How::First => TcAttachOptions::TcxOrder(LinkOrder::first()),
            How::Last => TcAttachOptions::TcxOrder(LinkOrder::last()),
            How::Filter => TcAttachOptions::Netlink(NlOptions::default()),
        };
        let hung = machine.space("host").visit(|| {
            if how == How::Filter {
                // It may be there.
                drop(qdisc_add_clsact(device));
            }
            program.attach_with_options(device, side, options)
        });
        hung.expect("the namespace is there").expect("it hangs");
        Self { ebpf, id, _counted: counted }
    }

    /// How often it ran.
    pub(crate) fn runs(&self) -> u64 {
        let program: &SchedClassifier =
            self.ebpf.program(NAME).expect("it is there").try_into().expect("it is of that type");
        let descriptor = program.fd().expect("it is loaded").as_fd().as_raw_fd();
        let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"));
        let told = told.expect("the kernel tells");
        let count = told.lines().find_map(|line| line.strip_prefix("run_cnt:"));
        count.and_then(|count| count.trim().parse().ok()).expect("a number")
    }
}

/// The program's name.
pub(crate) const NAME: &str = "foreign";
/// `r0 = -1` (`TC_ACT_UNSPEC`), `exit`.
const CODE: [u8; 16] = [0xB7, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x95, 0, 0, 0, 0, 0, 0, 0];
/// Bytes of an ELF header, and of a section's.
const HEADER: usize = 64;

/// The program as an object file: one section of code with one symbol.
fn object() -> Vec<u8> {
    let names = b"\0classifier\0.symtab\0.strtab\0foreign\0";
    let at = |name: &str| {
        let found = names.windows(name.len()).position(|part| part == name.as_bytes());
        u32::try_from(found.expect("it is one of the names")).expect("a small number")
    };
    let mut symbols = vec![0; 24];
    symbols.extend(at(NAME).to_le_bytes());
    // Global, a function, in the first section.
    symbols.extend([0x12, 0, 1, 0]);
    symbols.extend(0_u64.to_le_bytes());
    symbols.extend((CODE.len() as u64).to_le_bytes());
    let parts: [&[u8]; 3] = [&CODE, &symbols, names];
    let mut bytes = Vec::new();
    bytes.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // Relocatable, of BPF, version 1, no entry, no segments.
    bytes.extend([1, 0, 247, 0, 1, 0, 0, 0]);
    bytes.extend([0; 16]);
    let length: usize = parts.iter().map(|part| part.len()).sum();
    bytes.extend(((HEADER + length) as u64).to_le_bytes());
    bytes.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 4, 0, 3, 0]);
    for part in parts {
        bytes.extend(part);
    }
    bytes.extend([0; HEADER]);
    // Name, type, flags, what it is linked to, its first global symbol, alignment, size of an entry.
    let sections: [(&str, u32, u64, u32, u32, u64, u64); 3] = [
        ("classifier", 1, 6, 0, 0, 8, 0),
        (".symtab", 2, 0, 3, 1, 1, 24),
        (".strtab", 3, 0, 0, 0, 1, 0),
    ];
    let mut offset = HEADER as u64;
    for ((name, kind, flags, link, info, align, entry), part) in sections.into_iter().zip(parts) {
        bytes.extend(at(name).to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(link.to_le_bytes());
        bytes.extend(info.to_le_bytes());
        bytes.extend(align.to_le_bytes());
        bytes.extend(entry.to_le_bytes());
        offset += part.len() as u64;
    }
    bytes
}
