//! What can be watched while a program runs: every method does nothing unless an observer says otherwise, and
//! then costs nothing.

use super::call::Helper;
use super::machine::Machine;
use super::value::Value;

/// Someone who watches.
pub trait Observer {
    /// Whether [`Self::before`] says or does anything. Where not, a machine in the midst of a run need not be what
    /// it would be seen as.
    const LOOKS: bool = true;

    /// The next instruction is about to run.
    #[inline]
    fn before(&mut self, _machine: &Machine) {}

    /// A conditional jump was decided at a place of the program that is running.
    #[inline]
    fn branched(&mut self, _program: u32, _pc: usize, _taken: bool) {}

    /// A helper returned.
    #[inline]
    fn helped(&mut self, _helper: Helper, _arguments: &[Value; 5], _result: Value) {}

    /// A map was asked for a key: the slot of the entry that was found.
    #[inline]
    fn looked_up(&mut self, _map: u16, _key: &[u8], _found: Option<u32>) {}

    /// A map's entry was written or removed by a helper.
    #[inline]
    fn updated(&mut self, _map: u16, _key: &[u8]) {}

    /// Memory is about to be written by an instruction: a packet's bytes, a map's value, a record, the stack.
    #[inline]
    fn storing(&mut self, _pointer: Value, _length: usize, _value: Value) {}

    /// A record was handed over to a ring buffer.
    #[inline]
    fn recorded(&mut self, _map: u16, _record: &[u8]) {}
}

impl Observer for () {
    const LOOKS: bool = false;
}
