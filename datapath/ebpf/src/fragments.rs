//! Pieces of datagrams: the first one's ports are remembered, the others are given them. Never judges.

use core::ptr;

use aya_ebpf::bindings::__sk_buff;
use datapath_abi::{FragmentKey, FragmentValue, reason};

use crate::headers::Packet;
use crate::maps::FRAGMENTS;
use crate::run::apart;

/// [`FragmentKey`] in words.
#[repr(C)]
struct Key {
    source: [u64; 2],
    destination: [u64; 2],
    id: u32,
    family_and_protocol: u32,
}

impl Key {
    #[inline(always)]
    fn of(packet: &Packet) -> Self {
        Self {
            source: packet.source,
            destination: packet.destination,
            id: packet.fragment_id,
            family_and_protocol: u32::from(packet.family) | u32::from(packet.protocol) << 8,
        }
    }

    #[inline(always)]
    fn as_key(&self) -> &FragmentKey {
        const { assert!(size_of::<Self>() == size_of::<FragmentKey>()) }
        // SAFETY: laid out as the key, which is made of bytes.
        unsafe { &*ptr::from_ref(self).cast() }
    }
}

/// Remembers the ports of a first piece and gives them to a later one; one whose first was not seen gets a fault.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn complete(skb: *mut __sk_buff) -> u32 {
    apart(skb, |_, packet, _| {
        give_ports(packet);
        0
    })
}

#[inline(always)]
fn give_ports(packet: &mut Packet) {
    if packet.fault != 0 {
        return;
    }
    let key = Key::of(packet);
    if packet.is_later_fragment() {
        match FRAGMENTS.get_ptr(key.as_key()) {
            Some(found) => {
                // SAFETY: a map value of two ports.
                let ports = unsafe { found.cast::<[u16; 2]>().read() };
                packet.source_port = ports[0];
                packet.destination_port = ports[1];
            }
            None => packet.fault = reason::FRAGMENT_NOT_FOUND,
        }
        return;
    }
    let ports = FragmentValue {
        source_port: packet.source_port.to_ne_bytes(),
        destination_port: packet.destination_port.to_ne_bytes(),
    };
    // Where it fails the later pieces are not found.
    let _ = FRAGMENTS.insert(key.as_key(), &ports, 0);
}
