//! What helpers do, with the kernel's limits and errors.

use super::call::Helper;
use super::checksum;
use super::fault::Why;
use super::machine::{Machine, TAIL_CALLS};
use super::map::{Errno, Kind, Map};
use super::observer::Observer;
use super::packet::{Redirect, key, tunnel_bytes, tunnel_of};
use super::value::{Region, Value};

/// Return codes of a classifier.
const SHOT: u64 = 2;
const REDIRECT: u64 = 7;
/// Flag of a redirect: to the device's ingress.
const INGRESS: u64 = 1;
/// The largest `skb->pkt_type` that is a direction.
const OTHER_HOST: u64 = 3;
/// Flags of `bpf_skb_store_bytes`.
const STORE_FLAGS: u64 = 3;
/// Flags of `bpf_l3_csum_replace` and `bpf_l4_csum_replace`: bytes of what changes, 0 for a difference.
const HDR_FIELD_MASK: u64 = 0xF;
/// What changes is of the pseudo header: the same here, where no device sums.
const PSEUDO_HDR: u64 = 1 << 4;
/// No checksum stays none, and one of 0 is written as its other form.
const MARK_MANGLED_0: u64 = 1 << 5;
/// The first half of that is off.
const MARK_ENFORCE: u64 = 1 << 6;
/// The pseudo header is IPv6's.
const CSUM_IPV6: u64 = 1 << 7;
/// The other form of a checksum of 0.
const MANGLED_0: u16 = 0xFFFF;
/// Bytes of `struct bpf_redir_neigh`.
const NEXT_HOP: usize = 20;
/// Return codes of a program before there is an `skb`.
const XDP_ABORTED: u64 = 0;
const XDP_REDIRECT: u64 = 4;
/// Flags of submitting to a ring buffer.
const RING_FLAGS: u64 = 3;

/// What a checksum is corrected by.
#[derive(Clone, Copy)]
struct CsumChange {
    from: u64,
    to: u64,
    flags: u64,
}

#[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
impl CsumChange {
    fn of(given: Arguments) -> Result<Self, Why> {
        Ok(Self { from: given.number(2)?, to: given.number(3)?, flags: given.number(4)? })
    }

    fn from16(self) -> u16 {
        self.from as u16
    }

    fn to16(self) -> u16 {
        self.to as u16
    }

    /// A sum after a difference or a change of four bytes.
    fn upon(self, sum: u16) -> Result<u16, Errno> {
        match self.flags & HDR_FIELD_MASK {
            0 if self.from == 0 => Ok(checksum::replace_by_difference(sum, self.to as u32)),
            4 => Ok(checksum::replace4(sum, self.from as u32, self.to as u32)),
            _ => Err(Errno::INVAL),
        }
    }
}

/// The arguments of a helper, checked as they are taken.
#[derive(Clone, Copy)]
struct Arguments {
    helper: Helper,
    values: [Value; 5],
}

impl Arguments {
    fn wrong(&self, at: usize) -> Why {
        Why::Argument {
            helper: self.helper.name(),
            number: u8::try_from(at + 1).unwrap_or(u8::MAX),
            value: self.values[at],
        }
    }

    #[inline]
    fn number(&self, at: usize) -> Result<u64, Why> {
        let value = self.values[at];
        if value.is_number() { Ok(value.bits) } else { Err(self.wrong(at)) }
    }

    /// A 32-bit argument, of which the kernel takes the lower half.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
    fn word(&self, at: usize) -> Result<u32, Why> {
        Ok(self.number(at)? as u32)
    }

    #[inline]
    fn map(&self, at: usize) -> Result<u16, Why> {
        match self.values[at].region {
            Region::Map(map) => Ok(map),
            _ => Err(self.wrong(at)),
        }
    }

    fn context(&self, at: usize) -> Result<(), Why> {
        match self.values[at] {
            Value { region: Region::Context, bits: 0 } => Ok(()),
            _ => Err(self.wrong(at)),
        }
    }

    /// A reserved record, from its beginning.
    fn record(&self, at: usize) -> Result<(u16, u32), Why> {
        match self.values[at] {
            Value { region: Region::Record { map, id }, bits: 0 } => Ok((map, id)),
            _ => Err(self.wrong(at)),
        }
    }
}

/// What a helper returns that succeeded or failed with an error.
fn returned(result: Result<(), Errno>) -> Value {
    Value::number(result.map_or_else(Errno::returned, |()| 0))
}

impl Machine {
    /// Calls a helper. True if the run went on in another program.
    pub(super) fn help(
        &mut self,
        helper: Helper,
        observer: &mut impl Observer,
    ) -> Result<bool, Why> {
        let given = Arguments { helper, values: self.arguments() };
        let result = match helper {
            Helper::MapLookupElem => self.map_look_up(given, observer)?,
            Helper::MapUpdateElem => self.map_update(given, observer)?,
            Helper::MapDeleteElem => self.map_delete(given, observer)?,
            Helper::KtimeGetNs => Value::number(self.clock.nanoseconds),
            Helper::Jiffies64 => Value::number(self.clock.jiffies),
            Helper::GetPrandomU32 => Value::number(self.random().into()),
            Helper::GetSmpProcessorId => Value::number(0),
            Helper::TailCall => {
                if self.tail_call(given)? {
                    return Ok(true);
                }
                // It returns nothing that a program may read.
                Value::UNSET
            }
            Helper::SkbStoreBytes => self.store_bytes(given)?,
            Helper::SkbLoadBytes => self.load_bytes(given)?,
            Helper::SkbGetTunnelKey => self.get_tunnel_key(given)?,
            Helper::SkbSetTunnelKey => self.set_tunnel_key(given)?,
            Helper::Redirect if self.skb.is_xdp() => self.redirect_xdp(given)?,
            Helper::Redirect | Helper::RedirectPeer => self.redirect(given)?,
            Helper::RedirectNeigh => self.redirect_neigh(given)?,
            Helper::L3CsumReplace => self.replace_l3(given)?,
            Helper::L4CsumReplace => self.replace_l4(given)?,
            Helper::CsumDiff => self.csum_diff(given)?,
            Helper::SkbChangeType => self.change_type(given)?,
            Helper::SkbPullData => self.pull_data(given)?,
            Helper::RingbufOutput => self.ring_output(given, observer)?,
            Helper::RingbufReserve => self.ring_reserve(given)?,
            Helper::RingbufSubmit | Helper::RingbufDiscard => self.ring_release(given, observer)?,
            Helper::RingbufQuery => {
                let what = given.number(1)?;
                Value::number(self.ring(given)?.1.query(what))
            }
        };
        observer.helped(helper, &given.values, result);
        self.registers[0] = result;
        self.registers[1..6].fill(Value::UNSET);
        Ok(false)
    }

    /// The same numbers in every run (xorshift).
    fn random(&mut self) -> u32 {
        let mut seed = self.seed;
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        self.seed = seed;
        seed
    }

    fn the_map(&mut self, map: u16) -> Result<&mut Map, Why> {
        self.maps.get_mut(usize::from(map)).ok_or(Why::NotRunning)
    }

    /// Calls with the key that the second argument points to, out of a buffer that is kept.
    fn with_key<T>(
        &mut self,
        given: Arguments,
        call: impl FnOnce(&mut Self, u16, &[u8]) -> Result<T, Why>,
    ) -> Result<T, Why> {
        let map = given.map(0)?;
        let size = self.the_map(map)?.definition().key_size;
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        let read = self.bytes(given.values[1], size).map(|bytes| key.extend_from_slice(bytes));
        let result = read.and_then(|()| call(self, map, &key));
        self.key = key;
        result
    }

    fn map_look_up(
        &mut self,
        given: Arguments,
        observer: &mut impl Observer,
    ) -> Result<Value, Why> {
        self.with_key(given, |machine, map, key| {
            let table = machine.the_map(map)?;
            let kind = table.definition().kind;
            if matches!(kind, Kind::ProgramArray | Kind::RingBuffer) {
                return Err(given.wrong(0));
            }
            let found = table.look_up(key);
            observer.looked_up(map, key, found);
            let Some(slot) = found else { return Ok(Value::number(0)) };
            if kind != Kind::HashOfMaps {
                return Ok(Value::new(Region::MapValue { map, slot }, 0));
            }
            let inner = table.value(slot).and_then(|value| value.first_chunk());
            let inner = inner.map(|inner| u32::from_le_bytes(*inner));
            let inner = inner.and_then(|inner| u16::try_from(inner).ok());
            Ok(inner.map_or(Value::number(0), |inner| Value::new(Region::Map(inner), 0)))
        })
    }

    fn map_update(&mut self, given: Arguments, observer: &mut impl Observer) -> Result<Value, Why> {
        let flags = given.number(3)?;
        self.with_key(given, |machine, map, key| {
            let definition = machine.the_map(map)?.definition();
            let (kind, size) = (definition.kind, definition.value_size);
            if matches!(kind, Kind::ProgramArray | Kind::HashOfMaps | Kind::RingBuffer) {
                return Err(given.wrong(0));
            }
            let mut value = std::mem::take(&mut machine.value);
            value.clear();
            let read = machine.bytes(given.values[2], size);
            let read = read.map(|bytes| value.extend_from_slice(bytes));
            let table = machine.the_map(map)?;
            let result = read.map(|()| table.update(key, &value, flags));
            machine.value = value;
            let result = result?;
            if result.is_ok() {
                observer.updated(map, key);
            }
            Ok(returned(result))
        })
    }

    fn map_delete(&mut self, given: Arguments, observer: &mut impl Observer) -> Result<Value, Why> {
        self.with_key(given, |machine, map, key| {
            let table = machine.the_map(map)?;
            let kind = table.definition().kind;
            if matches!(kind, Kind::ProgramArray | Kind::HashOfMaps | Kind::RingBuffer) {
                return Err(given.wrong(0));
            }
            let result = table.delete(key);
            if result.is_ok() {
                observer.updated(map, key);
            }
            Ok(returned(result))
        })
    }

    /// Goes on in the program at an index; false where there is none or too many were called.
    fn tail_call(&mut self, given: Arguments) -> Result<bool, Why> {
        given.context(0)?;
        let map = given.map(1)?;
        let index = given.word(2)?;
        let table = self.the_map(map)?;
        if table.definition().kind != Kind::ProgramArray {
            return Err(given.wrong(1));
        }
        let Some(program) = table.program(index) else { return Ok(false) };
        let kind = |program: u32| self.image.programs.get(program as usize).map(|p| p.kind);
        // The kernel lets no program of another kind into the array.
        let is_alike = kind(program).is_some_and(|other| kind(self.program) == Some(other));
        if !is_alike || self.tail_calls >= TAIL_CALLS {
            return Ok(false);
        }
        self.tail_calls += 1;
        self.enter(program);
        Ok(true)
    }

    fn load_bytes(&mut self, given: Arguments) -> Result<Value, Why> {
        given.context(0)?;
        let (offset, length) = (given.word(1)?, given.word(3)? as usize);
        let found = i32::try_from(offset).ok().and_then(|_| {
            let start = offset as usize;
            let bytes = self.skb.bytes.get(start..start.checked_add(length)?)?;
            self.value.clear();
            self.value.extend_from_slice(bytes);
            Some(())
        });
        let bytes = std::mem::take(&mut self.value);
        let written = self.bytes_mut(given.values[2], length).map(|place| match found {
            Some(()) => place.copy_from_slice(&bytes),
            None => place.fill(0),
        });
        self.value = bytes;
        written?;
        Ok(returned(found.ok_or(Errno::FAULT)))
    }

    fn store_bytes(&mut self, given: Arguments) -> Result<Value, Why> {
        given.context(0)?;
        let (offset, length) = (given.word(1)? as usize, given.word(3)? as usize);
        let flags = given.number(4)?;
        let bytes = self.bytes(given.values[2], length)?.to_vec();
        if flags & !STORE_FLAGS != 0 {
            return Ok(returned(Err(Errno::INVAL)));
        }
        let end = offset.checked_add(length);
        let place = end.and_then(|end| self.skb.bytes.get_mut(offset..end));
        let Some(place) = place else { return Ok(returned(Err(Errno::FAULT))) };
        place.copy_from_slice(&bytes);
        self.skb.linear = self.skb.linear.max(offset + length);
        self.skb.moved();
        Ok(Value::number(0))
    }

    fn pull_data(&mut self, given: Arguments) -> Result<Value, Why> {
        given.context(0)?;
        let wanted = match given.word(1)? as usize {
            0 => self.skb.linear,
            wanted => wanted,
        };
        self.skb.moved();
        if wanted > self.skb.bytes.len() {
            return Ok(returned(Err(Errno::NOMEM)));
        }
        self.skb.linear = self.skb.linear.max(wanted);
        Ok(Value::number(0))
    }

    fn change_type(&mut self, given: Arguments) -> Result<Value, Why> {
        given.context(0)?;
        let wanted = given.word(1)?;
        if u64::from(self.skb.packet_type.max(wanted)) > OTHER_HOST {
            return Ok(returned(Err(Errno::INVAL)));
        }
        self.skb.packet_type = wanted;
        Ok(Value::number(0))
    }

    fn redirect(&mut self, given: Arguments) -> Result<Value, Why> {
        let (ifindex, flags) = (given.word(0)?, given.number(1)?);
        let peer = given.helper == Helper::RedirectPeer;
        let allowed = if peer { 0 } else { INGRESS };
        if flags & !allowed != 0 {
            return Ok(Value::number(SHOT));
        }
        let ingress = flags & INGRESS != 0;
        self.skb.redirect = Some(Redirect { ifindex, peer, ingress, neighbour: false });
        Ok(Value::number(REDIRECT))
    }

    fn redirect_neigh(&mut self, given: Arguments) -> Result<Value, Why> {
        let (ifindex, size, flags) = (given.word(0)?, given.word(2)? as usize, given.number(3)?);
        // The next hop; without one its place is taken.
        if size > 0 {
            self.bytes(given.values[1], size)?;
        }
        if size > 0 && size < NEXT_HOP || flags != 0 {
            return Ok(Value::number(SHOT));
        }
        let to = Redirect { ifindex, peer: false, ingress: false, neighbour: true };
        self.skb.redirect = Some(to);
        Ok(Value::number(REDIRECT))
    }

    fn redirect_xdp(&mut self, given: Arguments) -> Result<Value, Why> {
        let (ifindex, flags) = (given.word(0)?, given.number(1)?);
        if flags != 0 {
            return Ok(Value::number(XDP_ABORTED));
        }
        let to = Redirect { ifindex, peer: false, ingress: false, neighbour: false };
        self.skb.redirect = Some(to);
        Ok(Value::number(XDP_REDIRECT))
    }

    /// The two bytes of the packet at an offset, to write: what the kernel makes writable for a checksum.
    fn checksum(&mut self, offset: u64) -> Result<&mut [u8; 2], Errno> {
        let at = usize::try_from(offset).ok().filter(|at| *at <= 0xFFFF && at % 2 == 0);
        let at = at.ok_or(Errno::FAULT)?;
        self.skb.moved();
        let end = at + 2;
        self.skb.linear = self.skb.linear.max(end.min(self.skb.bytes.len()));
        self.skb.bytes.get_mut(at..end).and_then(|b| b.first_chunk_mut()).ok_or(Errno::FAULT)
    }

    fn replace_l3(&mut self, given: Arguments) -> Result<Value, Why> {
        given.context(0)?;
        let change = CsumChange::of(given)?;
        if change.flags & !HDR_FIELD_MASK != 0 {
            return Ok(returned(Err(Errno::INVAL)));
        }
        let result = self.checksum(u64::from(given.word(1)?)).and_then(|place| {
            let sum = u16::from_le_bytes(*place);
            let sum = match change.flags & HDR_FIELD_MASK {
                2 => checksum::replace2(sum, change.from16(), change.to16()),
                _ => change.upon(sum)?,
            };
            *place = sum.to_le_bytes();
            Ok(())
        });
        Ok(returned(result))
    }

    fn replace_l4(&mut self, given: Arguments) -> Result<Value, Why> {
        given.context(0)?;
        let change = CsumChange::of(given)?;
        let flags = change.flags;
        let known = HDR_FIELD_MASK | PSEUDO_HDR | MARK_MANGLED_0 | MARK_ENFORCE | CSUM_IPV6;
        if flags & !known != 0 {
            return Ok(returned(Err(Errno::INVAL)));
        }
        let marks = flags & MARK_MANGLED_0 != 0;
        let result = self.checksum(u64::from(given.word(1)?)).and_then(|place| {
            let sum = u16::from_le_bytes(*place);
            // UDP without a checksum keeps none.
            if marks && flags & MARK_ENFORCE == 0 && sum == 0 {
                return Ok(());
            }
            let sum = match flags & HDR_FIELD_MASK {
                2 => checksum::replace4(sum, change.from16().into(), change.to16().into()),
                _ => change.upon(sum)?,
            };
            // And one that has one never loses it.
            let sum = if marks && sum == 0 { MANGLED_0 } else { sum };
            *place = sum.to_le_bytes();
            Ok(())
        });
        Ok(returned(result))
    }

    fn csum_diff(&mut self, given: Arguments) -> Result<Value, Why> {
        let (from_size, to_size) = (given.word(1)? as usize, given.word(3)? as usize);
        let seed = given.word(4)?;
        let part = |at: usize, size: usize| match size {
            0 => Ok(&[][..]),
            size => self.bytes(given.values[at], size),
        };
        let (from, to) = (part(0, from_size)?, part(2, to_size)?);
        // Older kernels (before 6.13) take multiples of four bytes only.
        Ok(Value::number(checksum::difference(from, to, seed).into()))
    }

    fn set_tunnel_key(&mut self, given: Arguments) -> Result<Value, Why> {
        given.context(0)?;
        let (size, flags) = (given.word(2)? as usize, given.number(3)?);
        let taken = size.min(key::SIZE);
        let mut bytes = [0; key::SIZE];
        bytes[..taken].copy_from_slice(self.bytes(given.values[1], taken)?);
        let known = size == key::SIZE || key::OLDER_SIZES.contains(&size);
        // A flow label is IPv6's; `tunnel_ext` is none of the kernel's business.
        let label = bytes[24..28] != [0; 4] && flags & key::IPV6 == 0;
        if flags & !key::SET_FLAGS != 0 || !known || label || bytes[22..24] != [0; 2] {
            return Ok(returned(Err(Errno::INVAL)));
        }
        self.skb.tunnel = Some(tunnel_of(&bytes, flags));
        Ok(Value::number(0))
    }

    fn get_tunnel_key(&mut self, given: Arguments) -> Result<Value, Why> {
        given.context(0)?;
        let (size, flags) = (given.word(2)? as usize, given.number(3)?);
        let result = self.tunnel_key(size, flags);
        let place = self.bytes_mut(given.values[1], size)?;
        match result {
            Ok(bytes) => place.copy_from_slice(bytes.get(..size).unwrap_or_default()),
            Err(_) => place.fill(0),
        }
        Ok(returned(result.map(|_| ())))
    }

    fn tunnel_key(&self, size: usize, flags: u64) -> Result<[u8; key::SIZE], Errno> {
        let tunnel = self.skb.tunnel.as_ref().ok_or(Errno::INVAL)?;
        if flags & !(key::IPV6 | key::FLAGS) != 0 {
            return Err(Errno::INVAL);
        }
        if (tunnel.flags ^ flags) & key::IPV6 != 0 {
            return Err(Errno::PROTO);
        }
        let shortest = key::OLDER_SIZES[3];
        let known = size == key::SIZE || key::OLDER_SIZES.contains(&size);
        if !known || size == shortest && flags & key::IPV6 != 0 {
            return Err(Errno::INVAL);
        }
        Ok(tunnel_bytes(tunnel))
    }

    fn ring(&mut self, given: Arguments) -> Result<(u16, &mut super::map::Ring), Why> {
        let map = given.map(0)?;
        let ring = self.maps.get_mut(usize::from(map)).and_then(Map::ring_mut);
        ring.map(|ring| (map, ring)).ok_or_else(|| given.wrong(0))
    }

    fn ring_reserve(&mut self, given: Arguments) -> Result<Value, Why> {
        let (size, flags) = (given.number(1)?, given.number(2)?);
        let (map, ring) = self.ring(given)?;
        let id = if flags == 0 { ring.reserve(size) } else { None };
        Ok(id.map_or(Value::number(0), |id| Value::new(Region::Record { map, id }, 0)))
    }

    fn ring_release(
        &mut self,
        given: Arguments,
        observer: &mut impl Observer,
    ) -> Result<Value, Why> {
        let ((map, id), _flags) = (given.record(0)?, given.number(1)?);
        let ring = self.maps.get_mut(usize::from(map)).and_then(Map::ring_mut);
        let ring = ring.ok_or_else(|| given.wrong(0))?;
        let submit = given.helper == Helper::RingbufSubmit;
        if let Some(bytes) = ring.bytes(id).filter(|_| submit) {
            observer.recorded(map, bytes);
        }
        if !ring.release(id, submit) {
            return Err(given.wrong(0));
        }
        // These return nothing.
        Ok(Value::UNSET)
    }

    fn ring_output(
        &mut self,
        given: Arguments,
        observer: &mut impl Observer,
    ) -> Result<Value, Why> {
        let size = usize::try_from(given.number(2)?).map_err(|_| given.wrong(2))?;
        let flags = given.number(3)?;
        let bytes = self.bytes(given.values[1], size)?.to_vec();
        let (map, ring) = self.ring(given)?;
        if flags & !RING_FLAGS != 0 {
            return Ok(returned(Err(Errno::INVAL)));
        }
        let result = ring.output(&bytes);
        if result.is_ok() {
            observer.recorded(map, &bytes);
        }
        Ok(returned(result))
    }
}
