//! What one instruction did that somebody may stop at, noted by an observer. Facts only.

use engine::trace::Stamped;

use crate::decode;
use crate::vm::call::Helper;
use crate::vm::machine::Machine;
use crate::vm::observer::Observer;
use crate::vm::value::{Region, Value};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// A map was asked.
    Lookup {
        /// The map, by its index in the image.
        map: u16,
        /// The key.
        key: Vec<u8>,
        /// The value, if there was one.
        found: Option<Vec<u8>>,
    },
    /// A helper wrote or removed a map's entry.
    Updated {
        /// The map.
        map: u16,
        /// The key.
        key: Vec<u8>,
        /// The value; none if the entry was removed.
        value: Option<Vec<u8>>,
    },
    /// A helper returned.
    Called {
        /// Which.
        helper: Helper,
        /// r1 to r5 as it was called.
        arguments: [Value; 5],
        /// What it returned.
        result: Value,
    },
    /// Bytes of the packet were written.
    Wrote {
        /// The first, from the beginning of the frame.
        from: usize,
        /// What is there now.
        bytes: Vec<u8>,
    },
    /// An instruction wrote to a map's value where it lies.
    WroteValue {
        /// The map.
        map: u16,
    },
    /// An event was reported. Its generation is the programs' own number.
    Reported(Stamped),
    /// Another program goes on, by its index in the image.
    TailCalled(u32),
}

/// Notes what happens. Values are read after the instruction, by [`Witness::complete`].
#[derive(Clone, Debug, Default)]
pub(super) struct Witness {
    /// What the last instruction did.
    pub(super) seen: Vec<Happening>,
    /// The program that ran it.
    pub(super) program: u32,
    found: Option<u32>,
    wrote: Option<(usize, usize)>,
}

impl Witness {
    /// Adds what could not be read while the instruction ran.
    pub(super) fn complete(&mut self, machine: &Machine) {
        let slot = self.found.take();
        for happening in &mut self.seen {
            match happening {
                Happening::Lookup { map, found, .. } => {
                    let map = machine.maps().get(usize::from(*map));
                    *found = slot.and_then(|slot| map?.value(slot)).map(<[u8]>::to_vec);
                }
                Happening::Updated { map, key, value } => {
                    let map = machine.maps().get(usize::from(*map));
                    *value = map.and_then(|map| map.peek(key)).map(<[u8]>::to_vec);
                }
                _ => {}
            }
        }
        if let Some((from, length)) = self.wrote.take() {
            let bytes = machine.skb().bytes().get(from..from.saturating_add(length));
            if let Some(bytes) = bytes {
                self.seen.push(Happening::Wrote { from, bytes: bytes.to_vec() });
            }
        }
        if machine.program() != self.program {
            self.seen.push(Happening::TailCalled(machine.program()));
        }
    }
}

impl Observer for Witness {
    fn helped(&mut self, helper: Helper, arguments: &[Value; 5], result: Value) {
        if helper == Helper::SkbStoreBytes && result.bits == 0 {
            let [_, from, _, length, _] = arguments.map(|argument| argument.bits);
            self.wrote = usize::try_from(from).ok().zip(usize::try_from(length).ok());
        }
        self.seen.push(Happening::Called { helper, arguments: *arguments, result });
    }

    fn looked_up(&mut self, map: u16, key: &[u8], found: Option<u32>) {
        self.found = found;
        self.seen.push(Happening::Lookup { map, key: key.to_vec(), found: None });
    }

    fn updated(&mut self, map: u16, key: &[u8]) {
        self.seen.push(Happening::Updated { map, key: key.to_vec(), value: None });
    }

    fn storing(&mut self, pointer: Value, length: usize, _value: Value) {
        match (pointer.region, usize::try_from(pointer.bits)) {
            (Region::Packet { .. }, Ok(from)) => self.wrote = Some((from, length)),
            (Region::MapValue { map, .. }, _) => self.seen.push(Happening::WroteValue { map }),
            _ => {}
        }
    }

    fn recorded(&mut self, _map: u16, record: &[u8]) {
        // What cannot be read is an error at the end of the hop.
        self.seen.extend(decode::event(record).ok().map(Happening::Reported));
    }
}
