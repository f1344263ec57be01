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
        let (kind, flags) = match definition.kind {
            Kind::Hash => (MapType::Hash, 0),
            Kind::Array => (MapType::Array, 0),
            Kind::LruHash => (MapType::LruHash, 0),
            Kind::LpmTrie => (MapType::LpmTrie, libbpf_sys::BPF_F_NO_PREALLOC),
            Kind::RingBuffer => (MapType::RingBuf, 0),
            kind => panic!("{kind:?}"),
        };
        let options = libbpf_sys::bpf_map_create_opts {
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
pub(super) struct KernelProgram(OwnedFd);

#[expect(unsafe_code, reason = "libbpf-rs loads object files only")]
impl KernelProgram {
    /// Loads instructions, in which constants refer to maps by their place in the list; `None` where the kernel
    /// refuses them.
    pub(super) fn load(code: &[Raw], maps: &[KernelMap]) -> Option<Self> {
        let encoded: Vec<u64> = code.iter().map(|raw| encode(raw, maps)).collect();
        // SAFETY: names and licence are C strings; an instruction has 8 bytes and the count is theirs.
        let descriptor = unsafe {
            libbpf_sys::bpf_prog_load(
                libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
                c"hopwise_test".as_ptr(),
                c"Dual MIT/GPL".as_ptr(),
                encoded.as_ptr().cast(),
                encoded.len() as libbpf_sys::size_t,
                std::ptr::null_mut(),
            )
        };
        // SAFETY: a descriptor that the kernel has just given, which nothing else owns.
        (descriptor >= 0).then(|| Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Runs it; the code and the frame afterwards, or an error number.
    pub(super) fn run(&self, frame: &[u8]) -> Result<(u32, Vec<u8>), i32> {
        let mut out = vec![0; 4096];
        let mut options = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
            data_in: frame.as_ptr().cast(),
            data_size_in: u32::try_from(frame.len()).unwrap(),
            data_out: out.as_mut_ptr().cast(),
            data_size_out: 4096,
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

/// Runs a program on frames in the kernel and in the interpreter, one after the other on the same maps: code and
/// frame must be equal. False where the kernel refuses the program.
pub(super) fn agree(
    what: &str,
    code: &[Raw],
    maps: &[Definition],
    frames: impl IntoIterator<Item = Vec<u8>>,
) -> bool {
    let kernel_maps: Vec<_> = maps.iter().map(KernelMap::new).collect();
    let Some(program) = KernelProgram::load(code, &kernel_maps) else { return false };
    let mut machine = machine(code, maps.to_vec()).unwrap();
    for frame in frames {
        let (expected, out) = program.run(&frame).unwrap();
        machine.begin(0, Skb::new(frame.clone()), Clock::default());
        match machine.run(&mut ()) {
            Ok(returned) => {
                let returned = u32::try_from(returned & u64::from(u32::MAX)).unwrap();
                let seen = (returned, machine.skb().bytes());
                assert_eq!(seen, (expected, &out[..]), "{what} on {frame:02x?}");
            }
            Err(fault) => panic!("{what} on {frame:02x?}: {fault}"),
        }
    }
    true
}
