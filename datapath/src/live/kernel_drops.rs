//! What the kernel itself drops, outside of our programs: a program of our own on the tracepoint `skb:kfree_skb`, which looks for packets of
//! one mark, also behind a tunnel's outer headers, and keeps why the first of them were dropped. Which of them is the packet, its addresses
//! say. The kernel's BTF tells where things are in its structures, and what reasons are called.

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
/// Bytes from a network header on that are read: outer headers, and all of IPv6's that may be within.
const HEADER: i16 = 112;
/// Where a network header may be: at once, and behind UDP, the tunnel's and Ethernet's headers that follow those of IPv4 or IPv6.
const BEHIND: [i16; 3] = [0, 20 + TUNNEL, 40 + TUNNEL];
/// Bytes of UDP, VXLAN and Ethernet.
const TUNNEL: i16 = 8 + 8 + 14;
/// Drops that are kept.
const KEPT: i32 = 64;
/// Bytes of a drop: when, where, why, and the packet's beginning.
const DROP: i16 = 24 + HEADER;
/// Bytes of the map's value: how many, and as many drops as are kept.
const VALUE: u32 = 8 + KEPT.cast_unsigned() * DROP.cast_unsigned() as u32;
/// Structures within structures that are looked into.
const DEPTH: usize = 4;

/// The mark of packets to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whether they are of IPv6.
    pub is_v6: bool,
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

/// Looks for packets that the kernel drops, as long as it is held.
pub struct KernelDrops {
    wanted: Wanted,
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
    pub fn watch(wanted: Wanted) -> Result<Self, BackendError> {
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
        Ok(Self { wanted, map, names, _link: link, _program: program })
    }

    /// The first drop since then of a packet between these, which may have had other addresses before it was translated.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`] where so many were dropped that it may be among those that were not kept.
    pub fn found(&self, between: &[(IpAddr, IpAddr)]) -> Result<Option<KernelDrop>, BackendError> {
        let value = self.map.lookup(&[0; 4], MapFlags::ANY);
        let value = value.map_err(|error| unsupported(&error))?.unwrap_or_default();
        let (count, drops) = value.split_at_checked(8).unwrap_or_default();
        let count = word(count, 0);
        let kept = usize::try_from(count).unwrap_or(usize::MAX);
        let mut kept = drops.chunks_exact(DROP.unsigned_abs().into()).take(kept);
        let found = kept.find(|drop| {
            let (_, bytes) = drop.split_at_checked(24).unwrap_or_default();
            within(bytes).any(|packet| self.wanted.is_it(packet, between))
        });
        if found.is_none() && count > u64::from(KEPT.unsigned_abs()) {
            return Err(unsupported(&format!("{count} drops of its mark, more than are kept")));
        }
        Ok(found.map(|drop| self.told(drop)))
    }

    fn told(&self, drop: &[u8]) -> KernelDrop {
        let number = u32::try_from(word(drop, 2)).unwrap_or(u32::MAX);
        let known = self.names.get(&number).cloned();
        KernelDrop {
            time: word(drop, 0),
            number,
            reason: known.unwrap_or_else(|| format!("reason {number}")),
            function: function(word(drop, 1)),
        }
    }
}

/// A word of 8 bytes by number.
fn word(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at * 8..at * 8 + 8).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// What may be a packet: what begins with the bytes, and what is in its tunnel.
fn within(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    const UDP: u8 = 17;
    let protocol = |at: usize| bytes.get(at) == Some(&UDP);
    let inner = match bytes.first() {
        Some(0x45) if protocol(9) => Some(BEHIND[1]),
        Some(version) if version >> 4 == 6 && protocol(6) => Some(BEHIND[2]),
        _ => None,
    };
    let inner = inner.and_then(|at| bytes.get(at.unsigned_abs().into()..));
    std::iter::once(bytes).chain(inner)
}

impl Wanted {
    /// Whether bytes are those of a packet of the mark between two.
    fn is_it(self, bytes: &[u8], between: &[(IpAddr, IpAddr)]) -> bool {
        let version = bytes.first().map(|first| first >> 4);
        if self.is_v6 {
            let [Some(first), Some(source), Some(destination)] = [0, 8, 24]
                .map(|at| bytes.get(at..at + 16).and_then(|part| part.first_chunk::<16>()))
            else {
                return false;
            };
            let label = u32::from_be_bytes([first[0], first[1], first[2], first[3]]) & 0xF_FFFF;
            let addresses = (IpAddr::from(*source), IpAddr::from(*destination));
            return version == Some(6) && label == self.id && between.contains(&addresses);
        }
        let [Some(first), Some(source), Some(destination)] =
            [4, 12, 16].map(|at| bytes.get(at..at + 4).and_then(|part| part.first_chunk::<4>()))
        else {
            return false;
        };
        let id = u32::from(u16::from_be_bytes([first[0], first[1]]));
        let addresses = (IpAddr::from(*source), IpAddr::from(*destination));
        version == Some(4) && id == self.id && between.contains(&addresses)
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

/// The program: `(skb, location, reason)` of the tracepoint; has it the mark anywhere, it is written down behind those before.
fn code(wanted: Wanted, places: &Places, map: i32) -> Vec<Instruction> {
    const HEADER_AT: i16 = -HEADER;
    const POINTER_AT: i16 = HEADER_AT - 8;
    const OFFSET_AT: i16 = POINTER_AT - 8;
    let mut code = Code::default();
    code.load(width::DOUBLE, 6, 1, 0).load(width::DOUBLE, 7, 1, 8).load(width::DOUBLE, 8, 1, 16);
    code.store_value(width::DOUBLE, 10, OFFSET_AT, 0);
    read(&mut code, (10, POINTER_AT), 8, (6, places.head));
    read(&mut code, (10, OFFSET_AT), 2, (6, places.network_header));
    code.load(width::DOUBLE, 9, 10, POINTER_AT).load(width::HALF, 1, 10, OFFSET_AT);
    code.add_register(9, 1);
    read(&mut code, (10, HEADER_AT), i32::from(HEADER), (9, 0));
    // The identification, or the last 16 bits of the flow label: the stack is read by words that are aligned.
    let at = if wanted.is_v6 { 2 } else { 4 };
    let mark = u32::from(u16::from_ne_bytes(((wanted.id & 0xFFFF) as u16).to_be_bytes()));
    for behind in BEHIND {
        code.load(width::HALF, 1, 10, HEADER_AT + behind + at).skip_if(1, mark);
    }
    code.end().here();
    code.copy(6, 9).map_value(9, map).set(1, 1).fetch_and_add(9, 0, 1);
    code.end_unless_below(1, KEPT).multiply(1, i32::from(DROP)).add_register(9, 1);
    code.call(helper::KTIME).store(width::DOUBLE, 9, 8, 0);
    code.store(width::DOUBLE, 9, 16, 7).store(width::DOUBLE, 9, 24, 8);
    read(&mut code, (9, 32), i32::from(HEADER), (6, 0));
    code.finish(0)
}

/// Reads kernel memory at a register and offset to another one.
fn read(code: &mut Code, (base, to): (u8, i16), bytes: i32, (register, offset): (u8, i16)) {
    code.copy(1, base).add(1, i32::from(to));
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

    #[test]
    fn a_packet_is_known_by_its_mark_and_addresses_also_in_a_tunnel() {
        let ipv4 =
            [0x45, 0, 0, 20, 0x12, 0x67, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0];
        let mut ipv6 = vec![0x60, 1, 0x12, 0x67, 0, 0, 6, 64];
        ipv6.extend([[1; 16], [2; 16]].concat());
        let between: [(IpAddr, IpAddr); 2] =
            [([10, 0, 0, 1].into(), [10, 0, 0, 2].into()), ([1; 16].into(), [2; 16].into())];
        let outer4 = [&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17][..], &[0; 40]].concat();
        let outer6 = [&[0x60, 0, 0, 0, 0, 0, 17, 64][..], &[0; 62]].concat();
        let found = |wanted: Wanted, outer: &[u8], packet: &[u8]| {
            let bytes = [outer, packet].concat();
            within(&bytes).any(|packet| wanted.is_it(packet, &between))
        };
        let (four, six) =
            (Wanted { is_v6: false, id: 0x1267 }, Wanted { is_v6: true, id: 0x11267 });
        for outer in [&[][..], &outer4, &outer6] {
            assert!(found(four, outer, &ipv4) && found(six, outer, &ipv6), "{outer:?}");
            assert!(!found(six, outer, &ipv4) && !found(four, outer, &ipv6), "{outer:?}");
            assert!(!found(Wanted { id: 1, ..four }, outer, &ipv4), "{outer:?}");
            assert!(!found(four, outer, &[&ipv4[..12], &[9; 12]].concat()), "{outer:?}");
        }
    }

    /// Nobody listens at the port: the kernel drops the datagram and says so. The test needs the right to trace.
    #[test]
    fn the_reason_of_a_drop_is_found() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address: IpAddr = "127.0.0.1".parse().unwrap();
        let between = [(address, address)];
        let wanted = Wanted { is_v6: false, id: 4711 };
        // Where the host does not allow it there is nothing to find.
        let Ok(drops) = KernelDrops::watch(wanted) else { return };
        // The kernel chooses the identification, so the packet is another one.
        socket.send_to(b"x", "127.0.0.1:9").unwrap();
        assert_eq!(drops.found(&between).unwrap(), None);
        let names = &drops.names;
        assert_eq!(names.get(&2).map(String::as_str), Some("NOT_SPECIFIED"));
        let zero = Wanted { id: 0, ..wanted };
        let mut by_zero = KernelDrops::watch(zero).unwrap();
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let begun = Instant::now();
        let found = loop {
            socket.send_to(b"x", free).unwrap();
            match by_zero.found(&between) {
                Ok(Some(found)) => break Some(found),
                Ok(None) => {}
                // Many packets have that identification, and other tests on this machine have them dropped: it is asked anew.
                Err(_) => by_zero = KernelDrops::watch(zero).unwrap(),
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
