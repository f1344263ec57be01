//! BPF instructions for measuring, as the kernel takes them: what a driver and single operations are made of.
//! Knows no scenario.

/// An instruction of 64 bits: opcode, registers, offset, immediate (`struct bpf_insn`).
pub(super) type Instruction = u64;

/// Registers as the calling convention has them: R0 results, R1-R5 arguments, R6-R9 kept, R10 the frame.
pub(super) type Register = u8;

/// Numbers of helpers (`enum bpf_func_id`).
pub(super) mod helper {
    pub(in super::super) const MAP_LOOKUP: i32 = 1;
    pub(in super::super) const MAP_UPDATE: i32 = 2;
    pub(in super::super) const KTIME: i32 = 5;
    pub(in super::super) const TAIL_CALL: i32 = 12;
    pub(in super::super) const SET_TUNNEL_KEY: i32 = 21;
    pub(in super::super) const REDIRECT: i32 = 23;
    pub(in super::super) const JIFFIES: i32 = 118;
    pub(in super::super) const RING_RESERVE: i32 = 131;
    pub(in super::super) const RING_SUBMIT: i32 = 132;
}

/// Widths of loads and stores (`BPF_SIZE`).
pub(super) mod width {
    pub(in super::super) const WORD: u8 = 0x00;
    pub(in super::super) const HALF: u8 = 0x08;
    pub(in super::super) const DOUBLE: u8 = 0x18;
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
pub(super) struct Code {
    instructions: Vec<Instruction>,
    to_end: Vec<usize>,
}

impl Code {
    fn push(&mut self, instruction: Instruction) -> &mut Self {
        self.instructions.push(instruction);
        self
    }

    /// `to = from`
    pub(super) fn copy(&mut self, to: Register, from: Register) -> &mut Self {
        self.push(encode(0xBF, to, from, 0, 0))
    }

    /// `to = value`
    pub(super) fn set(&mut self, to: Register, value: i32) -> &mut Self {
        self.push(encode(0xB7, to, 0, 0, value))
    }

    /// `to += value`
    pub(super) fn add(&mut self, to: Register, value: i32) -> &mut Self {
        self.push(encode(0x07, to, 0, 0, value))
    }

    /// `to = *(from + offset)`
    pub(super) fn load(&mut self, width: u8, to: Register, from: Register, at: i16) -> &mut Self {
        self.push(encode(0x61 | width, to, from, at, 0))
    }

    /// `*(to + offset) = from`
    pub(super) fn store(&mut self, width: u8, to: Register, at: i16, from: Register) -> &mut Self {
        self.push(encode(0x63 | width, to, from, at, 0))
    }

    /// `*(to + offset) = value`
    pub(super) fn store_value(&mut self, width: u8, to: Register, at: i16, v: i32) -> &mut Self {
        self.push(encode(0x62 | width, to, 0, at, v))
    }

    /// `lock *(u64 *)(to + offset) += from`
    pub(super) fn add_atomically(&mut self, to: Register, at: i16, from: Register) -> &mut Self {
        self.push(encode(0xDB, to, from, at, 0))
    }

    /// `to = ` a map, by its descriptor.
    pub(super) fn map(&mut self, to: Register, descriptor: i32) -> &mut Self {
        self.push(encode(0x18, to, 1, 0, descriptor)).push(0)
    }

    /// `to = ` the first value of an array map, by the map's descriptor.
    pub(super) fn map_value(&mut self, to: Register, descriptor: i32) -> &mut Self {
        self.push(encode(0x18, to, 2, 0, descriptor)).push(0)
    }

    pub(super) fn call(&mut self, helper: i32) -> &mut Self {
        self.push(encode(0x85, 0, 0, 0, helper))
    }

    /// Ends the program if `one > other`.
    pub(super) fn end_if_greater(&mut self, one: Register, other: Register) -> &mut Self {
        self.to_end.push(self.instructions.len());
        self.push(encode(0x2D, one, other, 0, 0))
    }

    /// Ends the program if a register is 0.
    pub(super) fn end_if_zero(&mut self, register: Register) -> &mut Self {
        self.to_end.push(self.instructions.len());
        self.push(encode(0x15, register, 0, 0, 0))
    }

    /// Bytes on the stack, as words of 8 below the frame's end at `-size`, which must hold them.
    pub(super) fn stack(&mut self, size: i16, bytes: &[u8]) -> &mut Self {
        for at in (0..size).step_by(4) {
            let start = usize::from(at.unsigned_abs());
            let word = bytes.get(start..start + 4).and_then(|word| word.first_chunk());
            let value = word.copied().map_or(0, i32::from_ne_bytes);
            self.store_value(width::WORD, 10, at - size, value);
        }
        self
    }

    /// The whole program, which returns `code` at its end.
    pub(super) fn finish(mut self, code: i32) -> Vec<Instruction> {
        let end = self.instructions.len();
        for from in self.to_end {
            let distance = u16::try_from(end - from - 1).unwrap_or(0);
            self.instructions[from] |= u64::from(distance) << 16;
        }
        self.instructions.extend([encode(0xB7, 0, 0, 0, code), encode(0x95, 0, 0, 0, 0)]);
        self.instructions
    }
}
