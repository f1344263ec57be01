//! BPF instructions as the kernel takes them, for programs that are written here: the drivers of measurements, and what listens to the
//! kernel's own drops. Knows neither.

#![cfg_attr(
    not(all(feature = "measure", feature = "live")),
    allow(dead_code, reason = "each feature needs its part")
)]

/// An instruction of 64 bits: opcode, registers, offset, immediate (`struct bpf_insn`).
pub(crate) type Instruction = u64;

/// Registers as the calling convention has them: R0 results, R1-R5 arguments, R6-R9 kept, R10 the frame.
pub(crate) type Register = u8;

/// Numbers of helpers (`enum bpf_func_id`).
pub(crate) mod helper {
    pub(crate) const MAP_LOOKUP: i32 = 1;
    pub(crate) const MAP_UPDATE: i32 = 2;
    pub(crate) const KTIME: i32 = 5;
    pub(crate) const TAIL_CALL: i32 = 12;
    pub(crate) const SET_TUNNEL_KEY: i32 = 21;
    pub(crate) const REDIRECT: i32 = 23;
    pub(crate) const PROBE_READ_KERNEL: i32 = 113;
    pub(crate) const JIFFIES: i32 = 118;
    pub(crate) const RING_RESERVE: i32 = 131;
    pub(crate) const RING_SUBMIT: i32 = 132;
}

/// Widths of loads and stores (`BPF_SIZE`).
pub(crate) mod width {
    pub(crate) const WORD: u8 = 0x00;
    pub(crate) const HALF: u8 = 0x08;
    pub(crate) const DOUBLE: u8 = 0x18;
}

fn encode(
    opcode: u8,
    destination: Register,
    source: Register,
    offset: i16,
    immediate: i32,
) -> Instruction {
    u64::from(opcode)
        | u64::from(destination) << 8
        | u64::from(source) << 12
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate.cast_unsigned()) << 32
}

/// A program being written. Jumps to its end are patched when it is finished.
#[derive(Default)]
pub(crate) struct Code {
    instructions: Vec<Instruction>,
    to_end: Vec<usize>,
    to_here: Vec<usize>,
}

impl Code {
    fn push(&mut self, instruction: Instruction) -> &mut Self {
        self.instructions.push(instruction);
        self
    }

    /// `to = from`
    pub(crate) fn copy(&mut self, to: Register, from: Register) -> &mut Self {
        self.push(encode(0xBF, to, from, 0, 0))
    }

    /// `to = value`
    pub(crate) fn set(&mut self, to: Register, value: i32) -> &mut Self {
        self.push(encode(0xB7, to, 0, 0, value))
    }

    /// `to += value`
    pub(crate) fn add(&mut self, to: Register, value: i32) -> &mut Self {
        self.push(encode(0x07, to, 0, 0, value))
    }

    /// `to = *(from + offset)`
    pub(crate) fn load(&mut self, width: u8, to: Register, from: Register, at: i16) -> &mut Self {
        self.push(encode(0x61 | width, to, from, at, 0))
    }

    /// `*(to + offset) = from`
    pub(crate) fn store(&mut self, width: u8, to: Register, at: i16, from: Register) -> &mut Self {
        self.push(encode(0x63 | width, to, from, at, 0))
    }

    /// `*(to + offset) = value`
    pub(crate) fn store_value(&mut self, width: u8, to: Register, at: i16, v: i32) -> &mut Self {
        self.push(encode(0x62 | width, to, 0, at, v))
    }

    /// `lock *(u64 *)(to + offset) += from`
    pub(crate) fn add_atomically(&mut self, to: Register, at: i16, from: Register) -> &mut Self {
        self.push(encode(0xDB, to, from, at, 0))
    }

    /// `to = ` a map, by its descriptor.
    pub(crate) fn map(&mut self, to: Register, descriptor: i32) -> &mut Self {
        self.push(encode(0x18, to, 1, 0, descriptor)).push(0)
    }

    /// `to = ` the first value of an array map, by the map's descriptor.
    pub(crate) fn map_value(&mut self, to: Register, descriptor: i32) -> &mut Self {
        self.push(encode(0x18, to, 2, 0, descriptor)).push(0)
    }

    pub(crate) fn call(&mut self, helper: i32) -> &mut Self {
        self.push(encode(0x85, 0, 0, 0, helper))
    }

    /// Ends the program if `one > other`.
    pub(crate) fn end_if_greater(&mut self, one: Register, other: Register) -> &mut Self {
        self.to_end.push(self.instructions.len());
        self.push(encode(0x2D, one, other, 0, 0))
    }

    /// Ends the program if a register is 0.
    pub(crate) fn end_if_zero(&mut self, register: Register) -> &mut Self {
        self.to_end.push(self.instructions.len());
        self.push(encode(0x15, register, 0, 0, 0))
    }

    /// Ends the program if a register is at least a value.
    pub(crate) fn end_unless_below(&mut self, register: Register, value: i32) -> &mut Self {
        self.to_end.push(self.instructions.len());
        self.push(encode(0x35, register, 0, 0, value))
    }

    /// Ends the program.
    pub(crate) fn end(&mut self) -> &mut Self {
        self.to_end.push(self.instructions.len());
        self.push(encode(0x05, 0, 0, 0, 0))
    }

    /// Goes on at the next [`Self::here`] if the low 32 bits of a register are these (Linux 5.1).
    pub(crate) fn skip_if(&mut self, register: Register, value: u32) -> &mut Self {
        self.to_here.push(self.instructions.len());
        self.push(encode(0x16, register, 0, 0, value.cast_signed()))
    }

    /// Where those that skip go on.
    pub(crate) fn here(&mut self) -> &mut Self {
        let here = self.instructions.len();
        for from in std::mem::take(&mut self.to_here) {
            self.jump(from, here);
        }
        self
    }

    fn jump(&mut self, from: usize, to: usize) {
        let distance = u16::try_from(to - from - 1).unwrap_or(0);
        self.instructions[from] |= u64::from(distance) << 16;
    }

    /// `register = *(to + offset)`, and adds to that what the register held (Linux 5.12).
    pub(crate) fn fetch_and_add(&mut self, to: Register, at: i16, register: Register) -> &mut Self {
        self.push(encode(0xDB, to, register, at, 1))
    }

    /// `to *= value`
    pub(crate) fn multiply(&mut self, to: Register, value: i32) -> &mut Self {
        self.push(encode(0x27, to, 0, 0, value))
    }

    /// `to += from`
    pub(crate) fn add_register(&mut self, to: Register, from: Register) -> &mut Self {
        self.push(encode(0x0F, to, from, 0, 0))
    }

    /// Bytes on the stack, as words of 8 below the frame's end at `-size`, which must hold them.
    pub(crate) fn stack(&mut self, size: i16, bytes: &[u8]) -> &mut Self {
        for at in (0..size).step_by(4) {
            let start = usize::from(at.unsigned_abs());
            let word = bytes.get(start..start + 4).and_then(|word| word.first_chunk());
            let value = word.copied().map_or(0, i32::from_ne_bytes);
            self.store_value(width::WORD, 10, at - size, value);
        }
        self
    }

    /// The whole program, which returns `code` at its end.
    pub(crate) fn finish(mut self, code: i32) -> Vec<Instruction> {
        let end = self.instructions.len();
        for from in std::mem::take(&mut self.to_end) {
            self.jump(from, end);
        }
        self.instructions.extend([encode(0xB7, 0, 0, 0, code), encode(0x95, 0, 0, 0, 0)]);
        self.instructions
    }
}
