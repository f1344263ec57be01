//! The words of the debugger: its commands with a line of help and an example each, and the words that may
//! follow them, for reading, `help` and completion.

use super::{DebugInfo, Field, Info, Level, Unit};

const fn info(
    name: &'static str,
    aliases: &'static [&'static str],
    usage: &'static str,
    help: &'static str,
    example: &'static str,
) -> DebugInfo {
    DebugInfo { name, aliases, usage, help, example }
}

/// Every command, in the order that `help` lists them. A short alias is what gdb's users type without thinking:
/// it wins over other words that begin so.
pub const TABLE: &[DebugInfo] = &[
    info(
        "step",
        &["s"],
        "step [event|hop|line|instruction] [N]",
        "go on by one step of the level, or by N steps of a unit",
        "step event 3",
    ),
    info("stepi", &["si"], "stepi [N]", "go on by instructions", "stepi 8"),
    info(
        "next",
        &["n"],
        "next [N]",
        "go on over calls; on the policy level, to the next hop",
        "next",
    ),
    info("nexti", &["ni"], "nexti [N]", "go on by instructions, over calls", "nexti"),
    info(
        "finish",
        &[],
        "finish",
        "go on to the end of the function; on the policy level, of the hop",
        "finish",
    ),
    info("continue", &["c"], "continue [N]", "go on to the next stop, or to the Nth", "continue"),
    info(
        "back",
        &["reverse-step", "rs"],
        "back [event|hop|line|instruction] [N]",
        "go back by one step of the level, or by N steps of a unit",
        "back hop",
    ),
    info("reverse-stepi", &["rsi"], "reverse-stepi [N]", "go back by instructions", "rsi 2"),
    info("reverse-next", &["rn"], "reverse-next [N]", "go back over calls", "reverse-next"),
    info(
        "reverse-continue",
        &["rc"],
        "reverse-continue [N]",
        "go back to the stop before, or to the Nth before",
        "reverse-continue",
    ),
    info(
        "goto",
        &[],
        "goto start|end|N|hop N|event N",
        "go to a point of the question: its ends, an instruction, a hop, an event",
        "goto hop 2",
    ),
    info(
        "level",
        &[],
        "level [policy|program]",
        "say whether steps are events or source lines, or which it is",
        "level policy",
    ),
    info(
        "break",
        &["b"],
        "break PLACE [if CONDITION]",
        "stop at a place: FILE:LINE, FUNCTION, *N, or one of helper, lookup, update, event, rule, drop, write, hop",
        "break lookup policy if dst-port == 80",
    ),
    info("tbreak", &["tb"], "tbreak PLACE [if CONDITION]", "stop at a place once", "tbreak drop"),
    info(
        "watch",
        &["w"],
        "watch THING [if CONDITION]",
        "stop when something that `print` shows changes",
        "watch mark",
    ),
    info(
        "condition",
        &[],
        "condition N [CONDITION]",
        "give breakpoint N a condition, or take it away",
        "condition 1 src in 10.244.0.0/16 and protocol == tcp",
    ),
    info("delete", &["d"], "delete [N ...]", "delete breakpoints, or all of them", "delete 1 2"),
    info("enable", &[], "enable [N ...]", "let breakpoints stop again, or all of them", "enable 1"),
    info(
        "disable",
        &["dis", "disa"],
        "disable [N ...]",
        "keep breakpoints without stopping there, or all of them",
        "disable 1",
    ),
    info(
        "print",
        &["p"],
        "print THING",
        "show registers, rN, stack [FRAME], packet, packet hex, packet[A..B], a field, key, value, event, context, or map NAME [KEY]",
        "print registers",
    ),
    info(
        "display",
        &[],
        "display [THING]",
        "print something at every stop, or list what is printed so",
        "display key",
    ),
    info(
        "undisplay",
        &[],
        "undisplay [N ...]",
        "print no longer at every stop: display N, or all of them",
        "undisplay 1",
    ),
    info(
        "list",
        &["l"],
        "list [FILE:LINE|LINE|FUNCTION|*N]",
        "show source text around the next line, or around a place",
        "list",
    ),
    info(
        "disassemble",
        &[],
        "disassemble [FUNCTION]",
        "show instructions around the next one, or of a function",
        "disassemble",
    ),
    info("backtrace", &["bt", "where"], "backtrace", "show the calls that led here", "backtrace"),
    info(
        "info",
        &["i"],
        "info hops|events|maps|registers|breakpoints|functions|sources|programs|edits",
        "list what there is",
        "info maps",
    ),
    info(
        "edit",
        &["e"],
        "edit FIELD = VALUE | packet[A..B] = HEX | rN = NUMBER | map NAME KEY = HEX | map NAME remove KEY | STATEMENT | remove KIND NAME",
        "change the packet, a register, a map's entry or the policies from here on, and nothing in the session",
        "edit dst-port = 8080",
    ),
    info("answer", &[], "answer", "run to the end and explain, as `trace` does", "answer"),
    info("help", &["h"], "help [COMMAND]", "list the commands, or explain one", "help break"),
    info("quit", &["q", "exit"], "quit", "leave the debugger", "quit"),
];

/// The command of a name or alias, written out.
pub fn find(name: &str) -> Option<&'static DebugInfo> {
    TABLE.iter().find(|c| c.name == name || c.aliases.contains(&name))
}

/// A word, what it stands for, and a line of help.
pub(super) type Entry<T> = (&'static str, T, &'static str);

/// What `step` and `back` count.
pub(super) const UNITS: &[Entry<Unit>] = &[
    ("event", Unit::Event, "an event: a look-up, a verdict, a change"),
    ("hop", Unit::Hop, "a program's run"),
    ("line", Unit::Line, "a source line of the datapath"),
    ("instruction", Unit::Instruction, "an instruction"),
];

pub(super) const LEVELS: &[Entry<Level>] = &[
    ("policy", Level::Policy, "steps are events"),
    ("program", Level::Program, "steps are source lines"),
];

/// What `goto` knows by a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goto {
    Start,
    End,
    Hop,
    Event,
}

pub(super) const MOMENTS: &[Entry<Goto>] = &[
    ("start", Goto::Start, "before the first instruction"),
    ("end", Goto::End, "behind the last instruction"),
    ("hop", Goto::Hop, "the beginning of hop N"),
    ("event", Goto::Event, "just after event N"),
];

/// The words for places that are more than a place in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceWord {
    Helper,
    Lookup,
    Update,
    Event,
    Rule,
    Drop,
    Write,
    Hop,
    Function,
}

pub(super) const PLACES: &[Entry<PlaceWord>] = &[
    ("helper", PlaceWord::Helper, "before a helper of the kernel is called"),
    ("lookup", PlaceWord::Lookup, "just after a look-up in a map"),
    ("update", PlaceWord::Update, "just after a map's entry was written or removed"),
    ("event", PlaceWord::Event, "just after an event was reported"),
    ("rule", PlaceWord::Rule, "where a rule decides"),
    ("drop", PlaceWord::Drop, "where a packet is dropped"),
    ("write", PlaceWord::Write, "just after bytes of the packet were written"),
    ("hop", PlaceWord::Hop, "at the beginning of a hop"),
    ("function", PlaceWord::Function, "a function, even one that is named as another place"),
];

/// The words for things that are not a field, a register or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ThingWord {
    Registers,
    Stack,
    Packet,
    Hex,
    Key,
    Value,
    Event,
    Context,
    Map,
    Field(Field),
}

pub(super) const THINGS: &[Entry<ThingWord>] = &[
    ("registers", ThingWord::Registers, "all registers"),
    ("stack", ThingWord::Stack, "the stack of the function, or of an outer one"),
    ("packet", ThingWord::Packet, "the packet's headers decoded"),
    ("hex", ThingWord::Hex, "all bytes of the packet"),
    ("key", ThingWord::Key, "what was looked up last"),
    ("value", ThingWord::Value, "what was found there"),
    ("event", ThingWord::Event, "the last event"),
    ("context", ThingWord::Context, "what the program got beside the packet"),
    ("map", ThingWord::Map, "entries of a map"),
];

pub(super) const INFOS: &[Entry<Info>] = &[
    ("hops", Info::Hops, "hops so far"),
    ("events", Info::Events, "events so far"),
    ("maps", Info::Maps, "maps with kind, size and use"),
    ("registers", Info::Registers, "registers, as `print registers` shows them"),
    ("breakpoints", Info::Breakpoints, "breakpoints and watchpoints with their hits"),
    ("watchpoints", Info::Breakpoints, "the same"),
    ("functions", Info::Functions, "functions of the programs"),
    ("sources", Info::Sources, "source files that the object names"),
    ("programs", Info::Programs, "programs"),
    ("edits", Info::Edits, "what was edited"),
];

/// Every field with its word.
pub(super) const FIELDS: &[Entry<Field>] = &[
    ("src", Field::Source, "source address"),
    ("dst", Field::Destination, "destination address"),
    ("src-port", Field::SourcePort, "source port"),
    ("dst-port", Field::DestinationPort, "destination port"),
    ("protocol", Field::Protocol, "protocol of the IP header"),
    ("ttl", Field::Ttl, "TTL or hop limit"),
    ("tcp-flags", Field::TcpFlags, "flags of the TCP header"),
    ("icmp-type", Field::IcmpType, "type of the ICMP header"),
    ("icmp-code", Field::IcmpCode, "code of the ICMP header"),
    ("src-mac", Field::SourceMac, "source MAC address"),
    ("dst-mac", Field::DestinationMac, "destination MAC address"),
    ("length", Field::Length, "bytes of the frame"),
    ("mark", Field::Mark, "the packet's mark"),
    ("vni", Field::Vni, "VNI of the tunnel it came by"),
    ("hop", Field::Hop, "the hop's number, from 1"),
    ("instruction", Field::Instruction, "instructions run so far"),
];

impl Field {
    /// The field's word.
    pub fn word(self) -> &'static str {
        FIELDS.iter().find(|(_, field, _)| *field == self).map_or("?", |(word, ..)| word)
    }
}

/// Words of gdb and of the session that the debugger does not know, and what to type instead.
pub(super) const ELSEWHERE: &[(&str, &str)] = &[
    ("run", "`goto start` goes back to the beginning, `continue` on to the next stop"),
    ("start", "`goto start` goes back to the beginning"),
    ("set", "`edit` changes the packet, registers, maps and policies"),
    (
        "x",
        "`print hex` shows the packet's bytes, `print packet[A..B]` some of them, `print stack` the stack",
    ),
    ("until", "`tbreak PLACE` and `continue` go to a place"),
    ("advance", "`tbreak PLACE` and `continue` go to a place"),
    ("jump", "`goto` goes to a point in time; a program goes on where it stands"),
    ("frame", "`backtrace` shows the calls, `print stack N` the stack of an outer one"),
    ("up", "`backtrace` shows the calls, `print stack N` the stack of an outer one"),
    ("down", "`backtrace` shows the calls, `print stack N` the stack of an outer one"),
    ("reverse-finish", "`break FUNCTION` and `reverse-continue` go to where it begins"),
    ("kill", "`quit` leaves the debugger"),
    ("hop", "`step hop` goes on by one hop, `info hops` lists them"),
    ("packet", "`print packet` shows it"),
    ("registers", "`print registers` shows them"),
];
