//! The machine: registers, frames and what they lead to, and one instruction after the other. Everything that a
//! run changes is in here, so that a copy of a machine is a point in time to come back to. Chooses nothing
//! about packets.

use std::rc::Rc;

use super::alu;
use super::call::Helper;
use super::fault::{Fault, Place, Why};
use super::image::{Image, LoadError};
use super::instruction::{Alu, Atomic, FRAME, Instruction, Operand, Width};
use super::map::Map;
use super::observer::Observer;
use super::packet::Skb;
use super::stack::{FRAMES, Stack};
use super::value::{Region, Value};

/// Instructions that a run may take: the kernel's verifier follows a million.
pub const BUDGET: u64 = 1_000_000;
/// Programs that a run may go on in.
pub(super) const TAIL_CALLS: u32 = 33;

/// What the clock of the kernel says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Since the machine was started.
    pub nanoseconds: u64,
    /// The kernel's ticks.
    pub jiffies: u64,
}

/// A function that is being run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Caller {
    /// The program that it is in.
    program: u32,
    /// Where it goes on.
    back: usize,
    /// The depth at which its program was begun.
    base: usize,
    /// r6 to r9.
    saved: [Value; 4],
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There are more.
    Next,
    /// The program ended and returned this.
    Done(u64),
}

/// A helper that is about to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelperCall {
    /// Which.
    pub helper: Helper,
    /// r1 to r5; only the first [`Helper::arguments`] count.
    pub arguments: [Value; 5],
}

/// A level of calls: the function that is there and the instruction that is next in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Where.
    pub place: Place,
    /// Its depth: 0 is the program itself.
    pub depth: usize,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) image: Rc<Image>,
    pub(super) maps: Vec<Map>,
    pub(super) skb: Skb,
    pub(super) stack: Stack,
    /// Only the first eleven are used; the others keep a register's number from being checked every time.
    pub(super) registers: [Value; 16],
    callers: Vec<Caller>,
    /// The depth at which the program was begun that is running: a function may go on in another program.
    base: usize,
    pub(super) program: u32,
    pub(super) pc: usize,
    running: bool,
    executed: u64,
    pub(super) tail_calls: u32,
    pub(super) clock: Clock,
    /// State of the pseudo-random numbers.
    pub(super) seed: u32,
    /// Room for keys and values on their way through a helper.
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// Ring buffers, by map.
    rings: Vec<u16>,
}

impl Machine {
    /// A machine for an object, with empty maps. `capacity` gives a map's entries where they are not what the
    /// object says.
    pub fn new(
        image: &Rc<Image>,
        capacity: impl Fn(&str) -> Option<u32>,
    ) -> Result<Self, LoadError> {
        let mut maps = Vec::with_capacity(image.maps.len());
        let mut rings = Vec::new();
        for (number, definition) in (0_u16..).zip(&image.maps) {
            let mut definition = definition.clone();
            definition.capacity = capacity(&definition.name).unwrap_or(definition.capacity);
            let name = definition.name.clone();
            let map = Map::new(definition)
                .map_err(|error| LoadError::Map { map: name, problem: error.to_string() })?;
            if map.ring().is_some() {
                rings.push(number);
            }
            maps.push(map);
        }
        Ok(Self {
            image: Rc::clone(image),
            maps,
            skb: Skb::new(Vec::new()),
            stack: Stack::new(),
            registers: [Value::UNSET; 16],
            callers: Vec::with_capacity(FRAMES),
            base: 0,
            program: 0,
            pc: 0,
            running: false,
            executed: 0,
            tail_calls: 0,
            clock: Clock::default(),
            seed: 1,
            key: Vec::new(),
            value: Vec::new(),
            rings,
        })
    }

    /// Puts a packet before a program, by its index in the image. Nothing is run yet.
    pub fn begin(&mut self, program: u32, skb: Skb, clock: Clock) {
        self.skb = skb;
        self.clock = clock;
        self.executed = 0;
        self.tail_calls = 0;
        self.callers.clear();
        self.enter(program);
        self.running = (program as usize) < self.image.programs.len();
    }

    /// Begins a program in the frame of the function that is being run, whose callers it will return to.
    pub(super) fn enter(&mut self, program: u32) {
        self.program = program;
        self.pc = 0;
        self.base = self.callers.len();
        let frame = u8::try_from(self.base).unwrap_or(u8::MAX);
        self.stack.open(frame);
        self.registers = [Value::UNSET; 16];
        self.registers[1] = Value::new(Region::Context, 0);
        self.registers[usize::from(FRAME)] = Value::new(Region::Stack { frame }, 0);
    }

    /// Runs to the end.
    pub fn run(&mut self, observer: &mut impl Observer) -> Result<u64, Box<Fault>> {
        let image = Rc::clone(&self.image);
        loop {
            match self.advance(&image, observer).and_then(|step| match step {
                Step::Next => self.hasten(&image, observer),
                Step::Done(code) => Ok(Step::Done(code)),
            }) {
                Ok(Step::Next) => {}
                Ok(Step::Done(code)) => return Ok(code),
                Err(why) => return Err(Box::new(self.fault(why))),
            }
        }
    }

    /// Runs instructions of the program that is running, by the short way where there is one.
    // On its own, so that its loop has all registers.
    #[inline(never)]
    fn hasten<O: Observer>(&mut self, image: &Image, observer: &mut O) -> Result<Step, Why> {
        let number = self.program;
        let Some(program) = image.programs.get(number as usize) else { return Ok(Step::Next) };
        let (mut pc, mut executed) = (self.pc, self.executed);
        while executed < BUDGET {
            let Some(quick) = program.quick.get(pc) else { break };
            if O::LOOKS {
                (self.pc, self.executed) = (pc, executed);
                observer.before(self);
            }
            executed += 1;
            if let Some(next) = self.hurry(quick, pc, observer) {
                pc = next;
                continue;
            }
            (self.pc, self.executed) = (pc, executed);
            let instruction = *program.code.get(pc).ok_or(Why::NoInstruction)?;
            if let Step::Done(code) = self.perform(instruction, observer)? {
                return Ok(Step::Done(code));
            }
            if self.program != number {
                return Ok(Step::Next);
            }
            pc = self.pc;
        }
        (self.pc, self.executed) = (pc, executed);
        Ok(Step::Next)
    }

    /// Runs the next instruction. A machine that has faulted or ended runs no more.
    pub fn step(&mut self, observer: &mut impl Observer) -> Result<Step, Box<Fault>> {
        let image = Rc::clone(&self.image);
        self.advance(&image, observer).map_err(|why| Box::new(self.fault(why)))
    }

    fn fault(&mut self, why: Why) -> Fault {
        self.running = false;
        // Whoever runs this machine again finds nothing half done.
        for ring in &self.rings {
            if let Some(ring) = self.maps.get_mut(usize::from(*ring)).and_then(Map::ring_mut) {
                ring.give_up();
            }
        }
        Fault { place: self.image.place(self.program, self.pc), why }
    }

    #[inline]
    fn register(&self, number: u8) -> Result<Value, Why> {
        let value = self.registers[usize::from(number & 15)];
        if value.region == Region::Unset { Err(Why::UnsetRegister(number)) } else { Ok(value) }
    }

    #[inline]
    fn set(&mut self, number: u8, value: Value) {
        self.registers[usize::from(number & 15)] = value;
    }

    #[inline]
    fn operand(&self, operand: Operand) -> Result<Value, Why> {
        match operand {
            Operand::Register(register) => self.register(register),
            Operand::Immediate(number) => Ok(Value::number(i64::from(number).cast_unsigned())),
        }
    }

    #[inline]
    fn advance(&mut self, image: &Image, observer: &mut impl Observer) -> Result<Step, Why> {
        if !self.running {
            return Err(Why::NotRunning);
        }
        let program = image.programs.get(self.program as usize).ok_or(Why::NotRunning)?;
        let instruction = *program.code.get(self.pc).ok_or(Why::NoInstruction)?;
        if self.executed >= BUDGET {
            return Err(Why::Budget(BUDGET));
        }
        observer.before(self);
        self.executed += 1;
        self.perform(instruction, observer)
    }

    /// Runs an instruction, which is the one that is next.
    fn perform(
        &mut self,
        instruction: Instruction,
        observer: &mut impl Observer,
    ) -> Result<Step, Why> {
        let mut next = self.pc + 1;
        match instruction {
            Instruction::Alu { wide, op, dst, operand } => {
                self.compute(wide, op, dst, operand)?;
            }
            Instruction::Load { width, signed, dst, base, off } => {
                let mut value = self.load(self.register(base)?, off, width)?;
                if signed {
                    value.bits = alu::extend(value.bits, width.bits());
                }
                self.set(dst, value);
            }
            Instruction::Store { width, base, off, operand } => {
                let (base, value) = (self.register(base)?, self.operand(operand)?);
                observer.storing(moved(base, off), width.bytes(), value);
                self.store(base, off, width, value)?;
            }
            Instruction::Jump { wide, condition, dst, operand, target } => {
                let (a, b) = (self.register(dst)?, self.operand(operand)?);
                let taken = match (wide, a.is_number() && b.is_number()) {
                    (true, true) => alu::holds(condition, a.bits, b.bits),
                    (false, true) => alu::holds_narrow(condition, a.bits, b.bits),
                    (wide, false) => alu::holds_of_pointer(wide, condition, a, b)?,
                };
                observer.branched(self.program, self.pc, taken);
                if taken {
                    next = target as usize;
                }
            }
            Instruction::Goto { target } => next = target as usize,
            Instruction::Constant { dst, value } => {
                self.set(dst, value);
                next += 1;
            }
            Instruction::Helper(helper) => {
                if self.help(helper, observer)? {
                    return Ok(Step::Next);
                }
            }
            Instruction::Swap { order, dst, bits } => {
                let value = self.register(dst)?;
                if !value.is_number() {
                    return Err(Why::PointerArithmetic(value));
                }
                self.set(dst, Value::number(alu::swap(order, value.bits, bits)));
            }
            Instruction::Atomic { width, op, fetch, base, off, src } => {
                self.change((width, op, fetch), (base, off), src, observer)?;
            }
            Instruction::Call { target } => next = self.call(next, target)?,
            Instruction::Exit => return self.leave(),
            Instruction::Second => return Err(Why::NoInstruction),
        }
        self.pc = next;
        Ok(Step::Next)
    }

    #[inline]
    fn compute(&mut self, wide: bool, op: Alu, dst: u8, operand: Operand) -> Result<(), Why> {
        let b = self.operand(operand)?;
        let is_move = matches!(op, Alu::Mov | Alu::MovSx8 | Alu::MovSx16 | Alu::MovSx32);
        // What a move overwrites need not be set.
        let a = if is_move { Value::number(0) } else { self.register(dst)? };
        let value = if a.is_number() && b.is_number() {
            Value::number(if wide {
                alu::wide(op, a.bits, b.bits)
            } else {
                alu::narrow(op, a.bits, b.bits)
            })
        } else {
            alu::with_pointer(wide, op, a, b)?
        };
        self.set(dst, value);
        Ok(())
    }

    fn change(
        &mut self,
        (width, op, fetch): (Width, Atomic, bool),
        (base, off): (u8, i16),
        src: u8,
        observer: &mut impl Observer,
    ) -> Result<(), Why> {
        let (base, operand) = (self.register(base)?, self.register(src)?);
        if !operand.is_number() {
            return Err(Why::PointerLeak(operand));
        }
        let compares = op == Atomic::CompareExchange;
        let expected = if compares { self.register(0)?.bits } else { 0 };
        observer.storing(moved(base, off), width.bytes(), operand);
        let old = self.atomic(base, off, width, op, (operand.bits, expected))?;
        if fetch {
            self.set(if compares { 0 } else { src }, Value::number(old));
        }
        Ok(())
    }

    fn call(&mut self, back: usize, target: u32) -> Result<usize, Why> {
        let depth = self.callers.len() + 1;
        if depth - self.base >= FRAMES {
            return Err(Why::TooManyFrames);
        }
        let saved = [self.registers[6], self.registers[7], self.registers[8], self.registers[9]];
        let frame = u8::try_from(depth).map_err(|_| Why::TooManyFrames)?;
        self.callers.push(Caller { program: self.program, back, base: self.base, saved });
        self.stack.open(frame);
        self.registers[0] = Value::UNSET;
        self.registers[6..10].fill(Value::UNSET);
        self.set(FRAME, Value::new(Region::Stack { frame }, 0));
        Ok(target as usize)
    }

    /// Ends a function or the program.
    fn leave(&mut self) -> Result<Step, Why> {
        // A function need not return anything; a program must.
        let Some(caller) = self.callers.pop() else {
            return self.end(self.register(0)?);
        };
        self.registers[6..10].copy_from_slice(&caller.saved);
        self.registers[1..6].fill(Value::UNSET);
        let frame = u8::try_from(self.callers.len()).map_err(|_| Why::TooManyFrames)?;
        self.set(FRAME, Value::new(Region::Stack { frame }, 0));
        self.program = caller.program;
        self.base = caller.base;
        self.pc = caller.back;
        Ok(Step::Next)
    }

    fn end(&mut self, result: Value) -> Result<Step, Why> {
        if !result.is_number() {
            return Err(Why::PointerLeak(result));
        }
        let ring = |map: &u16| self.maps.get(usize::from(*map)).and_then(Map::ring);
        if self.rings.iter().filter_map(ring).any(|ring| ring.reserved() > 0) {
            return Err(Why::UnreleasedRecord);
        }
        self.running = false;
        Ok(Step::Done(result.bits))
    }
}

fn moved(base: Value, off: i16) -> Value {
    Value::new(base.region, base.bits.wrapping_add_signed(off.into()))
}

/// What a debugger asks.
impl Machine {
    /// What is run.
    pub fn image(&self) -> &Rc<Image> {
        &self.image
    }

    /// The program that is running, by its index in the image.
    pub fn program(&self) -> u32 {
        self.program
    }

    /// The next instruction's place in it.
    pub fn pc(&self) -> usize {
        self.pc
    }

    /// Whether there is a next instruction.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Functions that wait for the running one to return.
    pub fn depth(&self) -> usize {
        self.callers.len()
    }

    /// Instructions run so far.
    pub fn executed(&self) -> u64 {
        self.executed
    }

    /// The next instruction.
    pub fn next_instruction(&self) -> Option<Instruction> {
        let program = self.image.programs.get(self.program as usize)?;
        program.code.get(self.pc).copied().filter(|_| self.running)
    }

    /// The helper that the next instruction calls.
    pub fn next_call(&self) -> Option<HelperCall> {
        match self.next_instruction()? {
            Instruction::Helper(helper) => {
                let arguments = self.arguments();
                Some(HelperCall { helper, arguments })
            }
            _ => None,
        }
    }

    pub(super) fn arguments(&self) -> [Value; 5] {
        self.registers
            .get(1..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .unwrap_or([Value::UNSET; 5])
    }

    /// r0 to r10.
    pub fn registers(&self) -> &[Value] {
        &self.registers[..=usize::from(FRAME)]
    }

    /// Sets a register, as an editor does. False if it does not exist or cannot be set.
    pub fn set_register(&mut self, number: u8, value: Value) -> bool {
        let settable = number < FRAME;
        if settable {
            self.set(number, value);
        }
        settable
    }

    /// The functions that are being run, innermost first.
    pub fn backtrace(&self) -> Vec<Level> {
        let callers = self.callers.iter().rev();
        let callers = callers.map(|caller| (caller.program, caller.back.saturating_sub(1)));
        let depths = (0..=self.callers.len()).rev();
        std::iter::once((self.program, self.pc))
            .chain(callers)
            .zip(depths)
            .map(|((program, pc), depth)| Level { place: self.image.place(program, pc), depth })
            .collect()
    }

    /// A number or pointer of a stack frame, by its offset from the frame's end (a multiple of 8, from -512 on).
    pub fn stack_slot(&self, frame: u8, offset: i64) -> Result<Value, Why> {
        self.stack.load(frame, offset, Width::W8)
    }

    /// The packet.
    pub fn skb(&self) -> &Skb {
        &self.skb
    }

    /// The packet, to edit.
    pub fn skb_mut(&mut self) -> &mut Skb {
        &mut self.skb
    }

    /// Takes the packet; the machine has an empty one then.
    pub fn take_skb(&mut self) -> Skb {
        std::mem::replace(&mut self.skb, Skb::new(Vec::new()))
    }

    /// The maps, in the image's order.
    pub fn maps(&self) -> &[Map] {
        &self.maps
    }

    /// The map of a name.
    pub fn map(&self, name: &str) -> Option<&Map> {
        self.maps.get(usize::from(self.image.map(name)?))
    }

    /// The map of a name, to write.
    pub fn map_mut(&mut self, name: &str) -> Option<&mut Map> {
        self.maps.get_mut(usize::from(self.image.map(name)?))
    }
}
