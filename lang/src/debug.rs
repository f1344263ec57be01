//! The command language of the debugger: a line of text to a [`DebugCommand`]. Habits are gdb's: unique
//! beginnings of words do, and an empty line repeats. What a command does is `repl`'s; whether a function, a map
//! or a rule exists is not looked up here.

use std::net::IpAddr;

use engine::diag::Diagnostic;
use engine::net::Mac;
use engine::source::{FileId, Span};
use ipnet::IpNet;

use crate::ast::{Name, Spanned};

mod check;
mod complete;
mod condition;
mod edit;
mod line;
mod place;
mod read;
mod table;
mod thing;
mod word;

pub use complete::{Completion, NameKind, complete};
pub use table::{TABLE, find};

/// One line at a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DebugCommand {
    /// Nothing but white space and comments: the last command again.
    Again,
    /// `step [UNIT] [N]`: onward; `stepi [N]` is `step instruction [N]`. Without a unit, that of the level.
    Step(Option<Unit>, u32),
    /// `next [N]`, `nexti [N]`: onward over calls; on the policy level over hops.
    Next(Option<Unit>, u32),
    /// `back [UNIT] [N]`, also `reverse-step`: the same backward.
    Back(Option<Unit>, u32),
    /// `reverse-next [N]`: `next` backward.
    ReverseNext(u32),
    /// `finish`: to the end of the function; on the policy level of the hop.
    Finish,
    /// `continue [N]`: to the Nth stop from here, or the end.
    Continue(u32),
    /// `reverse-continue [N]`, also `rc`: to the Nth stop before, or the beginning.
    ReverseContinue(u32),
    /// `goto TIME`
    Goto(Moment),
    /// `level [policy|program]`: which of the two `step` moves by; without a word says which.
    Level(Option<Level>),
    /// `break PLACE [if CONDITION]`; `tbreak` stops once.
    Break {
        /// Where.
        place: Spanned<Place>,
        /// Only where this holds.
        condition: Option<Condition>,
        /// Whether it is gone after the first stop.
        once: bool,
    },
    /// `watch THING [if CONDITION]`: stops when it changes.
    Watch {
        /// What.
        thing: Spanned<Thing>,
        /// Only where this holds.
        condition: Option<Condition>,
    },
    /// `condition N [CONDITION]`: gives a breakpoint a condition, or takes it away.
    Condition(Spanned<u32>, Option<Condition>),
    /// `delete [N ...]`: breakpoints, all without a number.
    Delete(Vec<Spanned<u32>>),
    /// `enable [N ...]`, `disable [N ...]`
    Enable(Vec<Spanned<u32>>, bool),
    /// `print THING`
    Print(Spanned<Thing>),
    /// `display [THING]`: prints it at every stop; without one lists them.
    Display(Option<Spanned<Thing>>),
    /// `undisplay [N ...]`
    Undisplay(Vec<Spanned<u32>>),
    /// `list [PLACE]`: source text around a place, or around the next line.
    List(Option<Spanned<CodePlace>>),
    /// `disassemble [FUNCTION]`: instructions around the next one, or of a function.
    Disassemble(Option<Name>),
    /// `backtrace`, also `bt`, `where`
    Backtrace,
    /// `info WHAT`
    Info(Info),
    /// `edit ...`
    Edit(Edit),
    /// `answer`: runs to the end and explains, as `trace` does.
    Answer,
    /// `help [COMMAND]`
    Help(Option<Name>),
    /// `quit`, also `exit`
    Quit,
}

/// The two levels that move together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Events: look-ups, changes, verdicts, hops.
    Policy,
    /// Source lines and instructions of the datapath.
    Program,
}

/// What one step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// An event of the policy level.
    Event,
    /// A program's run.
    Hop,
    /// A source line of the datapath.
    Line,
    /// An instruction.
    Instruction,
}

/// A point in the question's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// `goto start`
    Start,
    /// `goto end`
    End,
    /// `goto N`: before the Nth instruction of the question, from 0.
    Instruction(u64),
    /// `goto hop N`: the beginning of a hop, from 1.
    Hop(u32),
    /// `goto event N`: just after an event of the question, from 1.
    Event(u32),
}

/// A place in the datapath's code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CodePlace {
    /// `policy.rs:57`, or `:57` for the file of the stop: any end of a path that names one file.
    Line {
        /// The file; none for that of the stop.
        file: Option<String>,
        /// Its line, from 1.
        line: u32,
    },
    /// A function's first line.
    Function(String),
    /// `*N`: an instruction of the running program.
    Instruction(u32),
}

/// Where to stop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A place in the code.
    Code(CodePlace),
    /// `break helper [NAME]`: before a helper of the kernel is called, `redirect` or `bpf_redirect`.
    Helper(Option<String>),
    /// `break lookup [MAP]`: just after a look-up.
    Lookup(Option<String>),
    /// `break update [MAP]`: just after an entry was written or removed.
    Update(Option<String>),
    /// `break event [KIND]`: just after an event was reported: `parsed`, `conntrack`, `identity`, `policy`, `outcome`.
    Event(Option<String>),
    /// `break rule POLICY[#RULE]`: where an entry that the rule is behind decides.
    Rule {
        /// The policy, as files name it.
        policy: String,
        /// Its rule.
        rule: Option<String>,
    },
    /// `break drop [REASON]`: where a packet is dropped, by number or name.
    Drop(Option<String>),
    /// `break write [BYTES|FIELD]`: just after bytes of the packet were written.
    Write(Option<PacketPart>),
    /// `break hop [NODE]`: at the beginning of a hop.
    Hop(Option<String>),
}

/// Bytes or a field of the packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PacketPart {
    /// `packet[A..B]` (B not included) or `packet[A]`, from the beginning of the frame.
    Bytes {
        /// The first.
        from: u32,
        /// The one after the last.
        to: u32,
    },
    /// A field.
    Field(Field),
}

/// A field of the packet, of its run, or beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// `src`: source address of the IP header.
    Source,
    /// `dst`: destination address of the IP header.
    Destination,
    /// `src-port`
    SourcePort,
    /// `dst-port`
    DestinationPort,
    /// `protocol`: the number in the IP header; `tcp`, `udp`, `sctp`, `icmp`, `icmpv6` may stand for it in a condition.
    Protocol,
    /// `ttl`: TTL or hop limit.
    Ttl,
    /// `tcp-flags`: the flags' byte.
    TcpFlags,
    /// `icmp-type`
    IcmpType,
    /// `icmp-code`
    IcmpCode,
    /// `src-mac`
    SourceMac,
    /// `dst-mac`
    DestinationMac,
    /// `length`: bytes of the frame.
    Length,
    /// `mark`: the packet's mark.
    Mark,
    /// `vni`: of the tunnel it came by.
    Vni,
    /// `hop`: the hop's number, from 1.
    Hop,
    /// `instruction`: instructions run so far.
    Instruction,
}

/// Something to print or to watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Thing {
    /// `registers`
    Registers,
    /// `r0` to `r10`, also with a `$`.
    Register(u8),
    /// `stack [FRAME]`: numbers and pointers on it, of the function that runs or of an outer one.
    Stack(Option<u32>),
    /// `packet`: its headers decoded.
    Packet,
    /// `packet hex`, also `hex`: all bytes.
    Hex,
    /// A field or bytes: `dst-port`, `packet[12..14]`.
    Part(PacketPart),
    /// `key`: what was looked up last, decoded.
    Key,
    /// `value`: what was found there.
    Value,
    /// `event`: the last one.
    Event,
    /// `context`: what the program got beside the packet.
    Context,
    /// `map NAME [KEY]`: entries with what they stand for; with a key that one. The key is a part of what is printed
    /// of it, or bytes in hex as `0x...`.
    Map {
        /// The map.
        name: String,
        /// Which entry.
        key: Option<String>,
    },
}

/// What `info` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Info {
    /// Hops so far.
    Hops,
    /// Events so far.
    Events,
    /// Maps with kind, size and use.
    Maps,
    /// Registers.
    Registers,
    /// Breakpoints and watchpoints with their hits.
    Breakpoints,
    /// Functions of the programs.
    Functions,
    /// Source files that the object names.
    Sources,
    /// Programs.
    Programs,
    /// What was edited.
    Edits,
}

/// A change at the stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// `edit FIELD = VALUE`
    Field(Spanned<Field>, Spanned<Value>),
    /// `edit packet[A..B] = HEX`
    Bytes {
        /// The first byte.
        from: u32,
        /// The bytes; as many as the range names where it does.
        bytes: Spanned<Vec<u8>>,
    },
    /// `edit rN = NUMBER`
    Register(u8, u64),
    /// `edit map NAME KEY = VALUE`: both as hex, the key also as a part of what `print map` prints of it.
    Entry {
        /// The map.
        map: Name,
        /// The key.
        key: Name,
        /// The value's bytes.
        value: Spanned<Vec<u8>>,
    },
    /// `edit map NAME remove KEY`
    RemoveEntry {
        /// The map.
        map: Name,
        /// The key.
        key: Name,
    },
    /// `edit STATEMENT`, `edit remove KIND NAME`: text that the session would take, applied to a copy. Its place in the line.
    Statement(Span),
}

/// A value in a condition or an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// A number, decimal or `0x`, 64 bits.
    Number(u64),
    /// An address.
    Address(IpAddr),
    /// A MAC address.
    Mac(Mac),
}

/// What must hold for a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `A OP B`
    Compare(Operand, Comparison, Operand),
    /// `A in RANGE`
    In(Operand, Range),
    /// `A and B`, also `&&`
    And(Box<Condition>, Box<Condition>),
    /// `A or B`, also `||`
    Or(Box<Condition>, Box<Condition>),
    /// `not A`, also `!`
    Not(Box<Condition>),
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A constant.
    Value(Value),
    /// A register.
    Register(u8),
    /// A field.
    Field(Field),
    /// Bytes of the packet, at most 8, as a number in network byte order.
    Bytes {
        /// The first.
        from: u32,
        /// The one after the last.
        to: u32,
    },
    /// `node`: the node's name, compared with a word.
    Node,
    /// A word, to compare the node with.
    Word(String),
}

/// How two sides are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `==`, also `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `&`: a bit in common.
    Bits,
}

/// What `in` tests for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Range {
    /// An address within a prefix.
    Prefix(IpNet),
    /// Numbers from the first to the one before the second.
    Numbers(u64, u64),
}

/// What a person can know about a command before using it, in the order of `help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugInfo {
    /// The word.
    pub name: &'static str,
    /// Other words for it.
    pub aliases: &'static [&'static str],
    /// The whole form.
    pub usage: &'static str,
    /// One sentence without a full stop.
    pub help: &'static str,
    /// A line that reads without an error.
    pub example: &'static str,
}

/// Reads a line at a stop. `text` must be the text of `file`, so that spans point into it.
///
/// # Errors
/// Every problem found; never empty.
pub fn parse(text: &str, file: FileId) -> Result<DebugCommand, Vec<Diagnostic>> {
    read::command(text, file)
}

#[cfg(test)]
mod tests;
