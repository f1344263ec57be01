//! The maps of the object, and look-ups in them by the layouts of `datapath_abi`. The capacities here are
//! what a loader gets that asks for nothing; loaders set their own before they load.

use core::ptr::{self, NonNull};

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_LPM_TRIE};
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use aya_ebpf::helpers::bpf_map_lookup_elem;
use aya_ebpf::macros::btf_map;
use datapath_abi::{
    AffinityKey, AffinityValue, AttachmentKey, Backend, Config, Count, CtKey4, CtKey6, CtValue,
    Filter, FragmentKey, FragmentValue, Input, IpcacheKey, IpcacheValue, MaglevTable, MemberKey,
    PolicyKey, PolicyValue, Seam, ServiceKey, ServiceValue, Settings, SourceRangeKey, Target, hook,
};

use crate::run::Scratch;

/// A longest-prefix-match trie whose key is a whole struct of the ABI, so that tools print its fields.
/// (`aya_ebpf`'s own splits the prefix length off.) The fields are what loaders read from BTF.
#[repr(C)]
pub(crate) struct Trie<K, V, const CAPACITY: usize> {
    r#type: *const [i32; BPF_MAP_TYPE_LPM_TRIE as usize],
    key: *const K,
    value: *const V,
    max_entries: *const [i32; CAPACITY],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the pointers are never followed; they only carry types to the loader.
unsafe impl<K, V, const CAPACITY: usize> Sync for Trie<K, V, CAPACITY> {}

impl<K, V, const CAPACITY: usize> Trie<K, V, CAPACITY> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    /// The entry with the longest prefix of the key. `words` must have the key's layout; it is given in
    /// words because stores into its byte fields would be compiled one byte at a time.
    #[inline(always)]
    pub(crate) fn look_up<W>(&self, words: &W) -> Option<&'static V> {
        const { assert!(size_of::<W>() == size_of::<K>()) }
        let map = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the key is readable for the map's key size. A value found lives at least until the
        // program run ends (RCU), and tries are written by user space only.
        unsafe {
            let found = bpf_map_lookup_elem(map, ptr::from_ref(words).cast());
            NonNull::new(found.cast::<V>()).map(|value| value.as_ref())
        }
    }
}

#[btf_map]
pub(crate) static CONFIG: Array<Config, 1> = Array::new();

#[btf_map]
pub(crate) static ACTIVE: Array<u32, 1> = Array::new();

#[btf_map]
pub(crate) static SETTINGS: Array<Settings, 2> = Array::new();

#[btf_map]
pub(crate) static TARGETS: Array<Target, 32_768> = Array::new();

#[btf_map]
pub(crate) static IPCACHE: Trie<IpcacheKey, IpcacheValue, 1_048_576> = Trie::new();

#[btf_map]
pub(crate) static ATTACHMENTS: HashMap<AttachmentKey, u32, 8192> = HashMap::new();

#[btf_map]
pub(crate) static POLICY: Trie<PolicyKey, PolicyValue, 1_048_576> = Trie::new();

#[btf_map]
pub(crate) static CT4: LruHashMap<CtKey4, CtValue, 65_536> = LruHashMap::new();

#[btf_map]
pub(crate) static CT6: LruHashMap<CtKey6, CtValue, 65_536> = LruHashMap::new();

#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<Count, { hook::ALL as usize * 512 }> = PerCpuArray::new();

#[btf_map]
pub(crate) static SERVICES: HashMap<ServiceKey, ServiceValue, 65_536> = HashMap::new();

#[btf_map]
pub(crate) static BACKENDS: Array<Backend, 65_536> = Array::new();

#[btf_map]
pub(crate) static MEMBERS: HashMap<MemberKey, u32, 65_536> = HashMap::new();

#[btf_map]
pub(crate) static MAGLEV: Array<MaglevTable, 1> = Array::new();

#[btf_map]
pub(crate) static AFFINITY: LruHashMap<AffinityKey, AffinityValue, 8192> = LruHashMap::new();

#[btf_map]
pub(crate) static SOURCE_RANGES: Trie<SourceRangeKey, u32, 65_536> = Trie::new();

#[btf_map]
pub(crate) static UNMASQUERADED: Trie<IpcacheKey, u32, 65_536> = Trie::new();

#[btf_map]
pub(crate) static PREFILTERED: Trie<IpcacheKey, u32, 65_536> = Trie::new();

#[btf_map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, FragmentValue, 8192> = LruHashMap::new();

#[btf_map]
pub(crate) static HITS: PerCpuArray<Count, 65_536> = PerCpuArray::new();

#[btf_map]
pub(crate) static EVENTS: RingBuf<(), 262_144> = RingBuf::new();

#[btf_map]
pub(crate) static FILTER: Array<Filter, 1> = Array::new();

#[btf_map]
pub(crate) static LOST: PerCpuArray<u64, 1> = PerCpuArray::new();

#[btf_map]
pub(crate) static SEAM: PerCpuArray<Seam, 1> = PerCpuArray::new();

#[btf_map]
pub(crate) static INPUT: Array<Input, 1> = Array::new();

#[btf_map]
pub(crate) static HOOKS: ProgramArray<{ hook::COUNT as usize }> = ProgramArray::new();

#[btf_map]
pub(crate) static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();
