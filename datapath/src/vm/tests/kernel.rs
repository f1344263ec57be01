//! Raw programs and maps in the kernel, to hold the interpreter against.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use libbpf_rs::{MapHandle, MapType, libbpf_sys};

use super::*;

/// Whether programs can be loaded here; that they cannot is a failure where `HOPWISE_REQUIRE` lists `kernel`.
pub(in crate::vm) fn is_available() -> bool {
    match crate::testrun::open() {
        Ok(_) => true,
        Err(error) => {
            let required = std::env::var("HOPWISE_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|tier| tier.trim() == "kernel"), "{error:?}");
            skip(&error.to_string());
            false
        }
    }
}

/// Whether the kernel knows the fourth version of the instruction set.
pub(super) fn is_modern() -> bool {
    crate::testrun::kernel_version().unwrap() >= (6, 6)
}

/// A map of the kernel.
pub(in crate::vm) struct KernelMap(MapHandle);

/// The kernel's answer to a call: 0 or an error number.
fn answer(code: i32) -> Result<(), i32> {
    if code < 0 { Err(-code) } else { Ok(()) }
}

#[expect(unsafe_code, reason = "error numbers are wanted as the kernel gives them")]
impl KernelMap {
    pub(in crate::vm) fn new(definition: &Definition) -> Self {
        Self::with_inner(definition, None)
    }

    /// A map of maps is told what these are like.
    fn with_inner(definition: &Definition, inner: Option<&Self>) -> Self {
        let (kind, flags) = match definition.kind {
            Kind::Hash => (MapType::Hash, 0),
            Kind::Array => (MapType::Array, 0),
            Kind::LruHash => (MapType::LruHash, 0),
            Kind::LpmTrie => (MapType::LpmTrie, libbpf_sys::BPF_F_NO_PREALLOC),
            Kind::RingBuffer => (MapType::RingBuf, 0),
            Kind::ProgramArray => (MapType::ProgArray, 0),
            Kind::PerCpuHash => (MapType::PercpuHash, 0),
            Kind::PerCpuArray => (MapType::PercpuArray, 0),
            Kind::HashOfMaps => (MapType::HashOfMaps, 0),
        };
        let options = libbpf_sys::bpf_map_create_opts {
            inner_map_fd: inner.map_or(0, |inner| inner.descriptor().cast_unsigned()),
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            map_flags: flags,
            ..libbpf_sys::bpf_map_create_opts::default()
        };
        let size = |bytes: usize| u32::try_from(bytes).unwrap();
        let (key, value) = (size(definition.key_size), size(definition.value_size));
        let entries = definition.capacity;
        let map = MapHandle::create(kind, Some("hopwise_test"), key, value, entries, &options);
        Self(map.unwrap())
    }

    fn descriptor(&self) -> i32 {
        self.0.as_fd().as_raw_fd()
    }

    pub(in crate::vm) fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), i32> {
        // SAFETY: key and value have the map's sizes.
        answer(unsafe {
            let (key, value) = (key.as_ptr().cast(), value.as_ptr().cast());
            libbpf_sys::bpf_map_update_elem(self.descriptor(), key, value, flags)
        })
    }

    pub(in crate::vm) fn delete(&self, key: &[u8]) -> Result<(), i32> {
        // SAFETY: the key has the map's size.
        answer(unsafe { libbpf_sys::bpf_map_delete_elem(self.descriptor(), key.as_ptr().cast()) })
    }

    pub(in crate::vm) fn look_up(&self, key: &[u8], size: usize) -> Option<Vec<u8>> {
        let mut value = vec![0; size];
        // SAFETY: key and value have the map's sizes.
        let found = answer(unsafe {
            let (key, value) = (key.as_ptr().cast(), value.as_mut_ptr().cast());
            libbpf_sys::bpf_map_lookup_elem(self.descriptor(), key, value)
        });
        found.ok().map(|()| value)
    }
}

/// A program of the kernel.
pub(super) struct KernelProgram(OwnedFd, ProgramKind);

#[expect(unsafe_code, reason = "libbpf-rs loads object files only")]
impl KernelProgram {
    /// Loads instructions, in which constants refer to maps by their place in the list; `None` where the kernel
    /// refuses them.
    pub(super) fn load(code: &[Raw], maps: &[KernelMap], kind: ProgramKind) -> Option<Self> {
        let number = match kind {
            ProgramKind::Classifier => libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
            ProgramKind::Xdp => libbpf_sys::BPF_PROG_TYPE_XDP,
        };
        let encoded: Vec<u64> = code.iter().map(|raw| encode(raw, maps)).collect();
        let types = types();
        let functions = functions(code);
        let mut options = libbpf_sys::bpf_prog_load_opts {
            sz: size_of::<libbpf_sys::bpf_prog_load_opts>() as libbpf_sys::size_t,
            ..libbpf_sys::bpf_prog_load_opts::default()
        };
        if functions.len() > 1 {
            options.prog_btf_fd = types.as_raw_fd().cast_unsigned();
            options.func_info = functions.as_ptr().cast();
            options.func_info_cnt = u32::try_from(functions.len()).unwrap();
            options.func_info_rec_size = 8;
        }
        // SAFETY: names and licence are C strings; instructions and records have 8 bytes, the counts are theirs, and
        // they outlive the call.
        let descriptor = unsafe {
            libbpf_sys::bpf_prog_load(
                number,
                c"hopwise_test".as_ptr(),
                c"Dual MIT/GPL".as_ptr(),
                encoded.as_ptr().cast(),
                encoded.len() as libbpf_sys::size_t,
                &raw mut options,
            )
        };
        // SAFETY: a descriptor that the kernel has just given, which nothing else owns.
        (descriptor >= 0).then(|| Self(unsafe { OwnedFd::from_raw_fd(descriptor) }, kind))
    }

    /// Runs it; the code and the frame afterwards, or an error number.
    pub(super) fn run(&self, frame: &[u8]) -> Result<(u32, Vec<u8>), i32> {
        let mut out = vec![0; 4096];
        // As the backend asks for it, which makes the kernel fill in a length on the wire.
        let mut context = [0_u8; 192];
        // An XDP program's is given back only where one was given.
        let context_size = if self.1 == ProgramKind::Xdp { 0 } else { 192 };
        let mut options = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
            data_in: frame.as_ptr().cast(),
            data_size_in: u32::try_from(frame.len()).unwrap(),
            data_out: out.as_mut_ptr().cast(),
            data_size_out: 4096,
            ctx_out: match context_size {
                0 => std::ptr::null_mut(),
                _ => context.as_mut_ptr().cast(),
            },
            ctx_size_out: context_size,
            ..libbpf_sys::bpf_test_run_opts::default()
        };
        // SAFETY: the buffers have the sizes given and outlive the call.
        answer(unsafe {
            libbpf_sys::bpf_prog_test_run_opts(self.0.as_raw_fd(), &raw mut options)
        })?;
        out.truncate(options.data_size_out as usize);
        Ok((options.retval, out))
    }
}

/// The functions of a program, each by its first instruction and the only type that there is of one. The kernel
/// wants to know it where a function calls another program.
fn functions(code: &[Raw]) -> Vec<[u32; 2]> {
    let mut starts = vec![0];
    for (at, raw) in (0_i32..).zip(code) {
        if raw.code == 0x85 && raw.src == 1 {
            starts.push(u32::try_from(at + 1 + raw.imm).unwrap());
        }
    }
    starts.sort_unstable();
    starts.dedup();
    starts.into_iter().map(|start| [start, 3]).collect()
}

/// Types in BTF: `int`, the type of a function that returns one, and such a function.
#[expect(unsafe_code, reason = "libbpf-rs loads object files only")]
fn types() -> OwnedFd {
    const STRINGS: &[u8] = b"\0int\0f\0";
    const TYPES: [u32; 10] = [1, 1 << 24, 4, 1 << 24 | 32, 0, 13 << 24, 1, 5, 12 << 24, 2];
    let length = u32::try_from(TYPES.len() * 4).unwrap();
    let strings = u32::try_from(STRINGS.len()).unwrap();
    let header = [0x0001_EB9F, 24, 0, length, length, strings];
    let words = header.iter().chain(&TYPES).flat_map(|word| word.to_le_bytes());
    let bytes: Vec<u8> = words.chain(STRINGS.iter().copied()).collect();
    // SAFETY: the bytes have the length given and outlive the call, which takes no options.
    let descriptor = unsafe {
        let length = bytes.len() as libbpf_sys::size_t;
        libbpf_sys::bpf_btf_load(bytes.as_ptr().cast(), length, std::ptr::null_mut())
    };
    assert!(descriptor >= 0, "the kernel refuses types: {descriptor}");
    // SAFETY: a descriptor that the kernel has just given, which nothing else owns.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn encode(raw: &Raw, maps: &[KernelMap]) -> u64 {
    let imm = match (raw.code, raw.src) {
        (0x18, 1 | 2) => maps[usize::try_from(raw.imm).unwrap()].descriptor(),
        _ => raw.imm,
    };
    u64::from(raw.code)
        | u64::from(raw.dst) << 8
        | u64::from(raw.src) << 12
        | u64::from(raw.off.cast_unsigned()) << 16
        | u64::from(imm.cast_unsigned()) << 32
}

/// Programs and maps in the kernel and in the interpreter, as they are left by every run.
pub(super) struct Pair {
    programs: Vec<KernelProgram>,
    maps: Vec<KernelMap>,
    machine: Machine,
    kind: ProgramKind,
}

impl Pair {
    /// `None` where the kernel refuses one of the programs. Maps of maps hold maps like the one after them.
    pub(super) fn new(programs: &[Vec<Raw>], definitions: &[Definition]) -> Option<Self> {
        Self::of_kind(ProgramKind::Classifier, programs, definitions)
    }

    /// The same of programs of a kind.
    pub(super) fn of_kind(
        kind: ProgramKind,
        programs: &[Vec<Raw>],
        definitions: &[Definition],
    ) -> Option<Self> {
        let mut maps: Vec<KernelMap> = Vec::new();
        for definition in definitions.iter().rev() {
            let inner = (definition.kind == Kind::HashOfMaps).then(|| maps.last().unwrap());
            maps.push(KernelMap::with_inner(definition, inner));
        }
        maps.reverse();
        let load = |code: &Vec<Raw>| KernelProgram::load(code, &maps, kind);
        let loaded = programs.iter().map(load).collect::<Option<Vec<_>>>()?;
        let machine = machine_of_kind(kind, programs, definitions.to_vec()).unwrap();
        Some(Self { programs: loaded, maps, machine, kind })
    }

    /// Puts a program into an array of programs.
    pub(super) fn put_program(&mut self, map: usize, index: u32, program: u32) {
        let descriptor = self.programs[program as usize].0.as_raw_fd();
        self.put(map, &index.to_le_bytes(), descriptor, program);
    }

    /// Puts a map into a map of maps.
    pub(super) fn put_map(&mut self, outer: usize, key: u32, inner: u32) {
        let descriptor = self.maps[inner as usize].descriptor();
        self.put(outer, &key.to_le_bytes(), descriptor, inner);
    }

    fn put(&mut self, map: usize, key: &[u8], kernel: i32, vm: u32) {
        self.maps[map].update(key, &kernel.to_le_bytes(), 0).unwrap();
        self.machine.maps[map].update(key, &vm.to_le_bytes(), 0).unwrap();
    }

    /// Runs the first program in both: code and frame must be equal. What they are is returned.
    pub(super) fn run(&mut self, what: &str, frame: &[u8]) -> (u32, Vec<u8>) {
        let (expected, out) = self.programs[0].run(frame).unwrap();
        let packet = match self.kind {
            ProgramKind::Classifier => Skb::new(frame.to_vec()),
            ProgramKind::Xdp => Skb::xdp(frame.to_vec()),
        };
        self.machine.begin(0, packet, Clock::default());
        // The way of a run and that of single steps.
        let mut stepped = self.machine.clone();
        let by_steps = loop {
            match stepped.step(&mut ()) {
                Ok(Step::Next) => {}
                Ok(Step::Done(returned)) => break Ok(returned),
                Err(fault) => break Err(fault),
            }
        };
        let by_run = self.machine.run(&mut ());
        assert_eq!(by_run, by_steps, "{what} on {frame:02x?}");
        assert_eq!(self.machine.skb(), stepped.skb(), "{what} on {frame:02x?}");
        assert_eq!(self.machine.executed(), stepped.executed(), "{what} on {frame:02x?}");
        match by_run {
            Ok(returned) => {
                let returned = u32::try_from(returned & u64::from(u32::MAX)).unwrap();
                let seen = (returned, self.machine.skb().bytes());
                assert_eq!(seen, (expected, &out[..]), "{what} on {frame:02x?}");
            }
            Err(fault) => panic!("{what} on {frame:02x?}: {fault}"),
        }
        (expected, out)
    }

    /// Asserts that a map holds the same in both, of some keys.
    pub(super) fn assert_same(&mut self, map: usize, keys: &[Vec<u8>], what: &str) {
        for key in keys {
            let table = &mut self.machine.maps[map];
            let size = table.definition().value_size;
            let slot = table.look_up(key);
            let value = slot.and_then(|slot| table.value(slot)).map(<[u8]>::to_vec);
            assert_eq!(value, self.maps[map].look_up(key, size), "{what} at {key:02x?}");
        }
    }
}

/// Runs a program on frames in the kernel and in the interpreter, one after the other on the same maps: code and
/// frame must be equal. False where the kernel refuses the program.
pub(super) fn agree(
    what: &str,
    code: &[Raw],
    maps: &[Definition],
    frames: impl IntoIterator<Item = Vec<u8>>,
) -> bool {
    let Some(mut pair) = Pair::new(&[code.to_vec()], maps) else { return false };
    for frame in frames {
        pair.run(what, &frame);
    }
    true
}
