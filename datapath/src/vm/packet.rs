//! The packet as a program sees it: its bytes, the fields of `__sk_buff`, its tunnel key, and where it was
//! sent. What the kernel's test run makes of a frame, without a kernel.
//!
//! Every field that the kernel lets a classifier read or write is as there, but for the socket (`sk`), which is not
//! modelled: reading it is a fault.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use zerocopy::IntoBytes;

use super::fault::Why;
use super::value::{Region, Value};

/// Types of packets (`skb->pkt_type`).
const HOST: u32 = 0;
const MULTICAST: u32 = 2;
const OTHER_HOST: u32 = 3;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Where the type of the packet is.
const PACKET_TYPE: i64 = 4;
/// Fields that the kernel keeps in 16 bits: either half of them reads as the whole.
const HALVES: [i64; 6] = [12, 16, 24, 28, 44, 72];
/// Where the control block is, whose bytes can be read and written in any way.
const CONTROL: i64 = 48;
const CONTROL_SIZE: usize = 20;
/// The smallest queue that none is.
const NO_QUEUE: u64 = 0xFFFF;
/// The loopback device, which a test run's packets are at.
const LOOPBACK: u32 = 1;

/// A tunnel key as `bpf_skb_set_tunnel_key` leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The VNI.
    pub id: u32,
    /// Where the packet is sent.
    pub remote: IpAddr,
    /// Where it is sent from; unspecified unless the program said.
    pub local: IpAddr,
    /// TOS of the outer header.
    pub tos: u8,
    /// TTL of the outer header.
    pub ttl: u8,
    /// Flow label of an outer IPv6 header.
    pub label: u32,
    /// Flags that it was set with.
    pub flags: u64,
    /// It came with the packet instead of being set by a program for its way out: `remote` is who sent it.
    pub received: bool,
}

/// Where a program sent the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The device.
    pub ifindex: u32,
    /// Into what is behind it (`bpf_redirect_peer`).
    pub peer: bool,
    /// To the device's ingress instead of its egress.
    pub ingress: bool,
    /// With Ethernet addresses that the kernel looks up (`bpf_redirect_neigh`).
    pub neighbour: bool,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skb {
    pub(super) bytes: Vec<u8>,
    /// How many of them can be reached directly.
    pub(super) linear: usize,
    /// Counts the helpers that may have moved the packet.
    pub(super) epoch: u32,
    /// Whether the device has only just received it: the context is a `struct xdp_md`.
    pub(super) is_xdp: bool,
    /// `pkt_type`
    pub packet_type: u32,
    /// `mark`
    pub mark: u32,
    /// `queue_mapping`
    pub queue_mapping: u32,
    /// `protocol`, in network order
    pub protocol: u32,
    /// `priority`
    pub priority: u32,
    /// `ingress_ifindex`
    pub ingress_ifindex: u32,
    /// `ifindex`
    pub ifindex: u32,
    /// `tc_index`
    pub tc_index: u32,
    /// `cb`
    pub cb: [u32; 5],
    /// `tc_classid`
    pub tc_classid: u32,
    /// `tstamp`
    pub tstamp: u64,
    /// The tunnel key.
    pub tunnel: Option<Tunnel>,
    /// Where it was sent last.
    pub redirect: Option<Redirect>,
}

impl Skb {
    /// The packet that a test run makes of a frame: all of it directly reachable, at the loopback device, whose
    /// Ethernet address is all zeros, as is its broadcast address.
    pub fn new(frame: Vec<u8>) -> Self {
        let destination = frame.first_chunk::<6>().copied().unwrap_or_default();
        let packet_type = match destination {
            [0, 0, 0, 0, 0, 0] => HOST,
            [first, ..] if first & 1 != 0 => MULTICAST,
            _ => OTHER_HOST,
        };
        let protocol = u32::from(protocol_of(&frame).to_be());
        Self {
            linear: frame.len(),
            bytes: frame,
            epoch: 0,
            is_xdp: false,
            packet_type,
            mark: 0,
            queue_mapping: 0,
            protocol,
            priority: 0,
            ingress_ifindex: 0,
            ifindex: LOOPBACK,
            tc_index: 0,
            cb: [0; 5],
            tc_classid: 0,
            tstamp: 0,
            tunnel: None,
            redirect: None,
        }
    }

    /// The same before there is an `skb`: what a test run of an XDP program makes of a frame.
    pub fn xdp(frame: Vec<u8>) -> Self {
        Self { is_xdp: true, ..Self::new(frame) }
    }

    /// Whether the context is that of an XDP program.
    pub fn is_xdp(&self) -> bool {
        self.is_xdp
    }

    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the frame.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes that can be reached directly.
    pub fn linear(&self) -> usize {
        self.linear
    }

    /// Makes only the first bytes directly reachable, as a driver may leave a packet.
    pub fn set_linear(&mut self, bytes: usize) {
        self.linear = bytes.min(self.bytes.len());
    }

    /// Sets a byte of the frame, as an editor does. False beyond its end.
    pub fn set_byte(&mut self, at: usize, value: u8) -> bool {
        self.bytes.get_mut(at).map(|byte| *byte = value).is_some()
    }

    /// Some bytes that can be reached directly; `None` beyond their end.
    #[inline]
    pub(super) fn chunk<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.bytes.get(at..self.linear)?.first_chunk()
    }

    /// The same to write.
    #[inline]
    pub(super) fn chunk_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]> {
        self.bytes.get_mut(at..self.linear)?.first_chunk_mut()
    }

    /// Pointers into the packet are void from now on.
    pub(super) fn moved(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Reads a field of the context.
    pub(super) fn field(&self, at: i64, length: usize) -> Result<Value, Why> {
        let refused = || Why::ContextField { offset: at, length, write: false };
        let epoch = self.epoch;
        if self.is_xdp {
            return self.xdp_field(at, length).ok_or_else(refused);
        }
        match (at, length) {
            // Metadata before the packet: there is none, so that it begins where the packet does.
            (76 | 140, 4) => return Ok(Value::new(Region::Packet { epoch }, 0)),
            (80, 4) => return Ok(Value::new(Region::PacketEnd { epoch }, self.linear as u64)),
            (152, 8) => return Ok(Value::number(self.tstamp)),
            // Its kind, and when a device received it: none did.
            (180, 1) | (184, 8) => return Ok(Value::number(0)),
            _ => {}
        }
        if let Some(place) = control(at, length) {
            let bytes = self.cb.as_bytes();
            let width = bytes.get(place).map(|bytes| bytes.iter().rev());
            let number = width.map(|bytes| bytes.fold(0, |all, byte| all << 8 | u64::from(*byte)));
            return number.map(Value::number).ok_or_else(refused);
        }
        let word = self.word(at & !3).ok_or_else(refused)?;
        // So are the bytes and halves of a field that it keeps in 8.
        let whole = match length {
            1 => at & !3 == PACKET_TYPE,
            2 => at % 2 == 0 && (at & !3 == PACKET_TYPE || HALVES.contains(&(at & !3))),
            _ => false,
        };
        if whole {
            return Ok(Value::number(word.into()));
        }
        part(word.into(), at & 3, length)
            .filter(|_| usize::try_from(at & 3).is_ok_and(|at| at + length <= 4))
            .map(Value::number)
            .ok_or_else(refused)
    }

    /// The same of `struct xdp_md`, of which whole fields can be read: all but the last, which only a program on a
    /// packet's way out has.
    fn xdp_field(&self, at: i64, length: usize) -> Option<Value> {
        let epoch = self.epoch;
        let value = match at {
            // The packet; metadata before it: there is none.
            0 | 8 => Value::new(Region::Packet { epoch }, 0),
            4 => Value::new(Region::PacketEnd { epoch }, self.linear as u64),
            12 => Value::number(LOOPBACK.into()),
            // The first queue.
            16 => Value::number(0),
            _ => return None,
        };
        (length == 4).then_some(value)
    }

    /// The 4-byte field at an offset that is a multiple of 4.
    fn word(&self, at: i64) -> Option<u32> {
        Some(match at {
            // Its length, and that on the wire.
            0 | 160 => u32::try_from(self.bytes.len()).ok()?,
            4 => self.packet_type,
            8 => self.mark,
            12 => self.queue_mapping,
            16 => self.protocol,
            32 => self.priority,
            36 => self.ingress_ifindex,
            40 => self.ifindex,
            44 => self.tc_index,
            // No VLAN tag was taken off, the flow's hash was not asked for, nobody polls for the packet, and it is no
            // batch of segments.
            20 | 24 | 28 | 68 | 84 | 164 | 176 => 0,
            72 => self.tc_classid,
            _ => return None,
        })
    }

    /// Writes a field of the context.
    pub(super) fn set_field(&mut self, at: i64, length: usize, value: u64) -> Result<(), Why> {
        let refused = Why::ContextField { offset: at, length, write: true };
        if self.is_xdp {
            return Err(refused);
        }
        #[expect(clippy::cast_possible_truncation, reason = "fields have 32 bits")]
        let word = value as u32;
        if let Some(place) = control(at, length) {
            let place = self.cb.as_mut_bytes().get_mut(place).ok_or(refused)?;
            place.copy_from_slice(&value.to_le_bytes()[..length]);
            return Ok(());
        }
        match (at, length) {
            (8, 4) => self.mark = word,
            (32, 4) => self.priority = word,
            (44, 4) => self.tc_index = word & 0xFFFF,
            // The last number stands for no queue, and a larger one is not taken.
            (12, 4) if value < NO_QUEUE => self.queue_mapping = word,
            (12, 4) => {}
            (72, 4) => self.tc_classid = word & 0xFFFF,
            (152, 8) => self.tstamp = value,
            _ => return Err(refused),
        }
        Ok(())
    }
}

/// The part of the control block that an access is to.
fn control(at: i64, length: usize) -> Option<Range<usize>> {
    let start = usize::try_from(at.checked_sub(CONTROL)?).ok()?;
    let end = start + length;
    (end <= CONTROL_SIZE && start.is_multiple_of(length)).then_some(start..end)
}

/// Some bytes of a number, as it lies in memory.
fn part(number: u64, at: i64, length: usize) -> Option<u64> {
    let shift = u32::try_from(at).ok()?.checked_mul(8)?;
    let bits = u32::try_from(length).ok()?.checked_mul(8).filter(|bits| (8..=64).contains(bits))?;
    let aligned = at % i64::try_from(length).ok()? == 0;
    (aligned && shift < 64).then(|| number >> shift & u64::MAX >> (64 - bits))
}

/// The protocol that the kernel finds in a frame (`eth_type_trans`).
fn protocol_of(frame: &[u8]) -> u16 {
    /// `ETH_P_802_3` and `ETH_P_802_2`
    const RAW: u16 = 1;
    const LLC: u16 = 4;
    let word = |at: usize| {
        frame.get(at..at + 2).and_then(|bytes| bytes.first_chunk()).copied().map(u16::from_be_bytes)
    };
    match word(ETHERNET - 2) {
        Some(ethertype) if ethertype >= 0x0600 => ethertype,
        _ if word(ETHERNET) == Some(0xFFFF) => RAW,
        _ => LLC,
    }
}

/// Whether the kernel takes a frame for a test run: newer ones refuse one whose ethertype promises a network
/// header that is not there.
pub fn has_network_header(frame: &[u8]) -> bool {
    let rest = frame.len().saturating_sub(ETHERNET);
    match frame.get(ETHERNET - 2..ETHERNET) {
        Some([0x08, 0x00]) => rest >= 20,
        Some([0x86, 0xDD]) => rest >= 40,
        Some(_) => true,
        None => false,
    }
}

/// Layout and flags of `struct bpf_tunnel_key`.
pub(super) mod key {
    /// Bytes of the whole struct.
    pub(crate) const SIZE: usize = 44;
    /// Its sizes before fields were added: all of them the kernel still takes.
    pub(crate) const OLDER_SIZES: [usize; 4] = [28, 24, 22, 8];
    /// Flag: the outer header is IPv6.
    pub(crate) const IPV6: u64 = 1;
    /// All flags of setting.
    pub(crate) const SET_FLAGS: u64 = 0x1F;
    /// Flag of getting: `tunnel_ext` holds the flags of the key.
    pub(crate) const FLAGS: u64 = 1 << 4;
}

/// Makes a tunnel key of the bytes of a whole `struct bpf_tunnel_key`.
pub(super) fn tunnel_of(bytes: &[u8; key::SIZE], flags: u64) -> Tunnel {
    let word =
        |at: usize| bytes[at..].first_chunk().map_or(0, |word: &[u8; 4]| u32::from_le_bytes(*word));
    let address = |at: usize| -> IpAddr {
        if flags & key::IPV6 == 0 {
            Ipv4Addr::from(word(at)).into()
        } else {
            bytes[at..].first_chunk().map_or(Ipv6Addr::UNSPECIFIED, |b| (*b).into()).into()
        }
    };
    Tunnel {
        id: word(0),
        remote: address(4),
        local: address(28),
        tos: bytes[20],
        ttl: bytes[21],
        // The kernel keeps the twenty bits of a flow label.
        label: word(24) & 0x000F_FFFF,
        flags,
        received: false,
    }
}

/// The bytes of a tunnel key as the kernel gives them: who sent is remote, whom it was sent to is local. A key
/// that was set by a program shows its addresses the other way round, as the kernel shows them.
pub(super) fn tunnel_bytes(tunnel: &Tunnel) -> [u8; key::SIZE] {
    let mut bytes = [0; key::SIZE];
    bytes[..4].copy_from_slice(&tunnel.id.to_le_bytes());
    bytes[20] = tunnel.tos;
    bytes[21] = tunnel.ttl;
    let (remote, local) =
        if tunnel.received { (tunnel.remote, tunnel.local) } else { (tunnel.local, tunnel.remote) };
    for (at, address) in [(4, remote), (28, local)] {
        match address {
            IpAddr::V4(address) => {
                bytes[at..at + 4].copy_from_slice(&address.to_bits().to_le_bytes());
            }
            IpAddr::V6(address) => bytes[at..at + 16].copy_from_slice(&address.octets()),
        }
    }
    if tunnel.flags & key::IPV6 != 0 {
        bytes[24..28].copy_from_slice(&tunnel.label.to_le_bytes());
    }
    bytes
}
