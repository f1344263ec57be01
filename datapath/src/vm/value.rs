//! What a register or a stack slot holds: a number, or a pointer that knows what it points into, so that no
//! access reaches anything else. Values only; memory itself is `memory`'s.

/// What a pointer points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Region {
    /// Nothing was put there.
    Unset,
    /// No pointer: a number.
    Number,
    /// The stack frame of a function, by its depth of calls; offsets are from its end, so negative.
    Stack {
        /// 0 is the program's own.
        frame: u8,
    },
    /// The program's context.
    Context,
    /// The packet's bytes that can be reached directly.
    Packet {
        /// Pointers of an older one are void: a helper may have moved the packet since.
        epoch: u32,
    },
    /// The end of those: to compare with, not to follow.
    PacketEnd {
        /// As above.
        epoch: u32,
    },
    /// The value of a map's entry.
    MapValue {
        /// The map.
        map: u16,
        /// The entry's place in it.
        slot: u32,
    },
    /// A map itself, as helpers take it.
    Map(u16),
    /// A record reserved in a ring buffer.
    Record {
        /// The map.
        map: u16,
        /// The record's number.
        id: u32,
    },
}

/// A number (its bits), or a pointer (bits are the offset from the beginning of its region).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// What it points into.
    pub region: Region,
    /// Number or offset.
    pub bits: u64,
}

impl Value {
    /// What a register holds before anything was put there.
    pub const UNSET: Self = Self { region: Region::Unset, bits: 0 };

    /// A pointer at an offset.
    #[inline]
    pub fn new(region: Region, bits: u64) -> Self {
        Self { region, bits }
    }

    /// A number.
    #[inline]
    pub fn number(bits: u64) -> Self {
        Self { region: Region::Number, bits }
    }

    /// Whether it is a number.
    #[inline]
    pub fn is_number(self) -> bool {
        self.region == Region::Number
    }

    /// Whether it is a pointer of any kind.
    pub fn is_pointer(self) -> bool {
        !matches!(self.region, Region::Unset | Region::Number)
    }

    /// The offset of a pointer.
    #[inline]
    pub fn offset(self) -> i64 {
        self.bits.cast_signed()
    }

    /// What it is, in words.
    pub fn what(self) -> &'static str {
        match self.region {
            Region::Unset => "nothing",
            Region::Number => "a number",
            Region::Stack { .. } => "a pointer into the stack",
            Region::Context => "the context",
            Region::Packet { .. } => "a pointer into the packet",
            Region::PacketEnd { .. } => "the packet's end",
            Region::MapValue { .. } => "a pointer into a map's value",
            Region::Map(_) => "a map",
            Region::Record { .. } => "a pointer into a record",
        }
    }
}
