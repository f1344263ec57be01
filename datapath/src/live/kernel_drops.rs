//! What the kernel itself drops, outside of our programs: a program of our own on the tracepoint `skb:kfree_skb`, which looks for one
//! packet and keeps the reason of its first drop. The kernel's BTF says where things are in its structures, and what reasons are called.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use engine::backend::BackendError;
use libbpf_rs::btf::types::{Composite, Enum, MemberAttr, Struct};
use libbpf_rs::btf::{Btf, BtfType};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};

use crate::assembly::{Code, Instruction, helper, width};
use crate::testrun::kernel_version;

/// The first kernel that gives reasons.
const REASONS: (u32, u32) = (5, 17);
/// Bytes of a network header that are read: all of IPv6's, and IPv4's without options.
const HEADER: i16 = 40;
/// Bytes of the map's value: how many, when, where, why.
const VALUE: u32 = 32;
/// Structures within structures that are looked into.
const DEPTH: usize = 4;

/// A packet to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its sender.
    pub source: IpAddr,
    /// Its receiver.
    pub destination: IpAddr,
    /// IPv4: the identification; IPv6: the flow label.
    pub id: u32,
}

/// A drop of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelDrop {
    /// When, in nanoseconds of the monotonic clock.
    pub time: u64,
    /// The reason's number.
    pub number: u32,
    /// Its name as the kernel has it, without what all begin with: `IP_INHDR`.
    pub reason: String,
    /// The function that dropped it, where the host tells.
    pub function: Option<String>,
}

/// Looks for a packet that the kernel drops, as long as it is held.
pub struct KernelDrops {
    map: MapHandle,
    names: BTreeMap<u32, String>,
    // What holds the program on its tracepoint, then the program.
    _link: OwnedFd,
    _program: OwnedFd,
}

impl KernelDrops {
    /// Begins to look.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`] where the host does not allow it, and why.
    pub fn watch(wanted: &Wanted) -> Result<Self, BackendError> {
        if kernel_version()? < REASONS {
            let (major, minor) = REASONS;
            return Err(unsupported(&format!("kernels before {major}.{minor} give no reasons")));
        }
        let btf = Btf::from_vmlinux().map_err(|error| unsupported(&error))?;
        let places = Places::of(&btf).ok_or_else(|| unsupported(&"its BTF is not understood"))?;
        let names = names(&btf).ok_or_else(|| unsupported(&"its BTF names no reasons"))?;
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            ..Default::default()
        };
        let map = MapHandle::create(MapType::Array, Some("drops"), 4, VALUE, 1, &options)
            .map_err(|error| unsupported(&error))?;
        let code = code(wanted, &places, map.as_fd().as_raw_fd());
        let program = load(&code)?;
        let link = hang(&program)?;
        Ok(Self { map, names, _link: link, _program: program })
    }

    /// The first drop of the packet since then.
    pub fn found(&self) -> Result<Option<KernelDrop>, BackendError> {
        let value = self.map.lookup(&[0; 4], MapFlags::ANY);
        let value = value.map_err(|error| unsupported(&error))?.unwrap_or_default();
        let word = |at: usize| {
            let bytes = value.get(at * 8..at * 8 + 8).and_then(|bytes| bytes.first_chunk());
            bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        if word(0) == 0 {
            return Ok(None);
        }
        let number = u32::try_from(word(3)).unwrap_or(u32::MAX);
        let known = self.names.get(&number).cloned();
        Ok(Some(KernelDrop {
            time: word(1),
            number,
            reason: known.unwrap_or_else(|| format!("reason {number}")),
            function: function(word(2)),
        }))
    }
}

fn unsupported(why: &dyn std::fmt::Display) -> BackendError {
    BackendError::Unsupported {
        what: format!("the reason of the kernel's own drops ({why})"),
        remedy: "a kernel with BTF, and the right to load tracing programs".to_owned(),
    }
}

/// Where the program finds things.
struct Places {
    head: i16,
    network_header: i16,
}

impl Places {
    fn of(btf: &Btf<'_>) -> Option<Self> {
        let skb = btf.type_by_name::<Struct<'_>>("sk_buff")?;
        let skb = Composite::try_from(*skb).ok()?;
        let place = |name| i16::try_from(offset(btf, &skb, name, DEPTH)?).ok();
        Some(Self { head: place("head")?, network_header: place("network_header")? })
    }
}

/// Bytes from the beginning of a structure to a member of it, or of what it has without a name.
fn offset(btf: &Btf<'_>, of: &Composite<'_>, name: &str, depth: usize) -> Option<u32> {
    for member in of.iter() {
        let MemberAttr::Normal { offset: bits } = member.attr else { continue };
        let bytes = bits / 8;
        match member.name.filter(|name| !name.is_empty()) {
            Some(own) if own == name => return Some(bytes),
            Some(_) => {}
            None if depth == 0 => {}
            None => {
                let inner = btf.type_by_id::<BtfType<'_>>(member.ty);
                let inner = inner.and_then(|inner| Composite::try_from(inner).ok());
                let found = inner.and_then(|inner| offset(btf, &inner, name, depth - 1));
                if let Some(found) = found {
                    return Some(bytes + found);
                }
            }
        }
    }
    None
}

/// Names of the reasons, by number.
fn names(btf: &Btf<'_>) -> Option<BTreeMap<u32, String>> {
    let reasons = btf.type_by_name::<Enum<'_>>("skb_drop_reason")?;
    let name = |member: libbpf_rs::btf::types::EnumMember<'_>| {
        let name = member.name?.to_string_lossy();
        let name = name.strip_prefix("SKB_DROP_REASON_").unwrap_or(&name);
        let name = name.strip_prefix("SKB_").unwrap_or(name).to_owned();
        Some((u32::try_from(member.value).ok()?, name))
    };
    Some(reasons.iter().filter_map(name).collect())
}

/// The program: `(skb, location, reason)` of the tracepoint; is it the packet, and the first time, it is written down.
fn code(wanted: &Wanted, places: &Places, map: i32) -> Vec<Instruction> {
    const HEADER_AT: i16 = -HEADER;
    const POINTER_AT: i16 = HEADER_AT - 8;
    const OFFSET_AT: i16 = POINTER_AT - 8;
    let mut code = Code::default();
    code.load(width::DOUBLE, 6, 1, 0).load(width::DOUBLE, 7, 1, 8).load(width::DOUBLE, 8, 1, 16);
    code.store_value(width::DOUBLE, 10, OFFSET_AT, 0);
    read(&mut code, POINTER_AT, 8, (6, places.head));
    read(&mut code, OFFSET_AT, 2, (6, places.network_header));
    code.load(width::DOUBLE, 9, 10, POINTER_AT).load(width::HALF, 1, 10, OFFSET_AT);
    code.add_register(9, 1);
    read(&mut code, HEADER_AT, i32::from(HEADER), (9, 0));
    let word = |bytes: &[u8], at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(|word| word.first_chunk())
            .map_or(0, |w| u32::from_ne_bytes(*w))
    };
    let mut is = |at: i16, value: u32| {
        code.load(width::WORD, 1, 10, HEADER_AT + at).end_unless(1, value);
    };
    match (wanted.source, wanted.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            is(12, word(&source.octets(), 0));
            is(16, word(&destination.octets(), 0));
            let id = u16::try_from(wanted.id).unwrap_or(0);
            code.load(width::HALF, 1, 10, HEADER_AT + 4);
            code.end_unless(1, u32::from(u16::from_ne_bytes(id.to_be_bytes())));
        }
        (source, destination) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V6(address) => address.octets(),
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            };
            let (source, destination) = (octets(source), octets(destination));
            for (at, part) in (0_i16..16).step_by(4).zip((0..16).step_by(4)) {
                is(8 + at, word(&source, part));
                is(24 + at, word(&destination, part));
            }
            let label = |value: u32| u32::from_ne_bytes((value & 0xF_FFFF).to_be_bytes());
            code.load(width::WORD, 1, 10, HEADER_AT).mask(1, label(0xF_FFFF));
            code.end_unless(1, label(wanted.id));
        }
    }
    code.map_value(9, map).load(width::DOUBLE, 1, 9, 0).end_if_set(1);
    code.set(1, 1).store(width::DOUBLE, 9, 0, 1);
    code.call(helper::KTIME).store(width::DOUBLE, 9, 8, 0);
    code.store(width::DOUBLE, 9, 16, 7).store(width::DOUBLE, 9, 24, 8);
    code.finish(0)
}

/// Reads kernel memory at a register and offset to the stack.
fn read(code: &mut Code, to: i16, bytes: i32, (register, offset): (u8, i16)) {
    code.copy(1, 10).add(1, i32::from(to));
    code.set(2, bytes);
    code.copy(3, register).add(3, i32::from(offset));
    code.call(helper::PROBE_READ_KERNEL);
}

fn load(code: &[Instruction]) -> Result<OwnedFd, BackendError> {
    // SAFETY: name and licence are C strings; an instruction has 8 bytes and the count is theirs; options may be null.
    #[expect(unsafe_code, reason = "libbpf-rs loads object files only")]
    let descriptor = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_RAW_TRACEPOINT,
            c"hopwise_drops".as_ptr(),
            c"Dual MIT/GPL".as_ptr(),
            code.as_ptr().cast(),
            code.len() as libbpf_sys::size_t,
            std::ptr::null_mut(),
        )
    };
    owned(descriptor)
}

fn hang(program: &OwnedFd) -> Result<OwnedFd, BackendError> {
    // SAFETY: a C string, and a descriptor that is open.
    #[expect(unsafe_code, reason = "libbpf-rs attaches programs of object files only")]
    let descriptor =
        unsafe { libbpf_sys::bpf_raw_tracepoint_open(c"kfree_skb".as_ptr(), program.as_raw_fd()) };
    owned(descriptor)
}

fn owned(descriptor: i32) -> Result<OwnedFd, BackendError> {
    if descriptor < 0 {
        return Err(unsupported(&std::io::Error::from_raw_os_error(-descriptor)));
    }
    // SAFETY: a descriptor that the kernel has just given, which nothing else owns.
    #[expect(unsafe_code, reason = "the call gives a number")]
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The function that an address is in.
fn function(address: u64) -> Option<String> {
    let symbols = std::fs::read_to_string("/proc/kallsyms").ok()?;
    let mut nearest: Option<(u64, &str)> = None;
    for line in symbols.lines() {
        let mut words = line.split_whitespace();
        let (Some(at), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let Ok(at) = u64::from_str_radix(at, 16) else { continue };
        let is_nearer = at <= address && nearest.is_none_or(|(known, _)| at > known);
        if is_nearer && matches!(kind, "t" | "T") && at != 0 {
            nearest = Some((at, name));
        }
    }
    nearest.map(|(_, name)| name.split('.').next().unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    use super::*;

    /// Nobody listens at the port: the kernel drops the datagram and says so. The test needs the right to trace.
    #[test]
    fn the_reason_of_a_drop_is_found() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address: IpAddr = "127.0.0.1".parse().unwrap();
        let wanted = Wanted { source: address, destination: address, id: 4711 };
        // Where the host does not allow it there is nothing to find.
        let Ok(drops) = KernelDrops::watch(&wanted) else { return };
        // The kernel chooses the identification, so the packet is another one.
        socket.send_to(b"x", "127.0.0.1:9").unwrap();
        assert_eq!(drops.found().unwrap(), None);
        let names = &drops.names;
        assert_eq!(names.get(&2).map(String::as_str), Some("NOT_SPECIFIED"));
        let by_zero = KernelDrops::watch(&Wanted { id: 0, ..wanted }).unwrap();
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let begun = Instant::now();
        let found = loop {
            socket.send_to(b"x", free).unwrap();
            if let Some(found) = by_zero.found().unwrap() {
                break Some(found);
            }
            if begun.elapsed() > Duration::from_secs(2) {
                break None;
            }
        };
        // Kernels that do not give datagrams the identification 0 are not asked further.
        if let Some(found) = found {
            assert_eq!(found.reason, "NO_SOCKET", "{found:?}");
        }
    }
}
