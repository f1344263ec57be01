//! What each form of a line means.

use super::super::table::{FIELDS, INFOS, TABLE};
use super::*;

#[test]
fn lines_are_read() {
    for (text, expected) in [
        ("", "Again"),
        ("  # nothing", "Again"),
        ("\n", "Again"),
        ("step", "Step(None, 1)"),
        ("s", "Step(None, 1)"),
        ("step 3 # thrice", "Step(None, 3)"),
        ("step event", "Step(Some(Event), 1)"),
        ("step ev 3", "Step(Some(Event), 3)"),
        ("step 3 events", "Step(Some(Event), 3)"),
        ("s h", "Step(Some(Hop), 1)"),
        ("s l", "Step(Some(Line), 1)"),
        ("s instructions 9", "Step(Some(Instruction), 9)"),
        ("stepi", "Step(Some(Instruction), 1)"),
        ("si 4", "Step(Some(Instruction), 4)"),
        ("n", "Next(None, 1)"),
        ("next 2", "Next(None, 2)"),
        ("ni", "Next(Some(Instruction), 1)"),
        ("nexti 7", "Next(Some(Instruction), 7)"),
        ("back", "Back(None, 1)"),
        ("back hop 2", "Back(Some(Hop), 2)"),
        ("reverse-step 2 line", "Back(Some(Line), 2)"),
        ("rs", "Back(None, 1)"),
        ("reverse-stepi", "Back(Some(Instruction), 1)"),
        ("rsi 3", "Back(Some(Instruction), 3)"),
        ("reverse-next", "ReverseNext(1)"),
        ("rn 2", "ReverseNext(2)"),
        ("finish", "Finish"),
        ("fin", "Finish"),
        ("continue", "Continue(1)"),
        ("c 5", "Continue(5)"),
        ("reverse-continue", "ReverseContinue(1)"),
        ("rc 2", "ReverseContinue(2)"),
        ("goto start", "Goto(Start)"),
        ("goto en", "Goto(End)"),
        ("goto 0", "Goto(Instruction(0))"),
        ("goto 1200", "Goto(Instruction(1200))"),
        ("g hop 2", "Goto(Hop(2))"),
        ("goto ev 3", "Goto(Event(3))"),
        ("level", "Level(None)"),
        ("level pol", "Level(Some(Policy))"),
        ("lev program", "Level(Some(Program))"),
        ("delete", "Delete([])"),
        ("d 1 2", "Delete([1, 2])"),
        ("enable 1", "Enable([1], true)"),
        ("disable", "Enable([], false)"),
        ("dis 3", "Enable([3], false)"),
        ("undisplay 1 2", "Undisplay([1, 2])"),
        ("backtrace", "Backtrace"),
        ("bt", "Backtrace"),
        ("where", "Backtrace"),
        ("answer", "Answer"),
        ("help", "Help(None)"),
        ("h s", "Help(Some(\"step\"))"),
        ("help where", "Help(Some(\"backtrace\"))"),
        ("quit", "Quit"),
        ("q", "Quit"),
        ("exit", "Quit"),
    ] {
        assert_eq!(said(text), expected, "{text:?}");
    }
}

#[test]
fn things_are_read() {
    for (text, expected) in [
        ("print registers", "Print(Registers)"),
        ("p reg", "Print(Registers)"),
        ("p r1", "Print(Register(1))"),
        ("p $r10", "Print(Register(10))"),
        ("p stack", "Print(Stack(None))"),
        ("p st 1", "Print(Stack(Some(1)))"),
        ("p packet", "Print(Packet)"),
        ("p pac", "Print(Packet)"),
        ("p packet hex", "Print(Hex)"),
        ("p packet h", "Print(Hex)"),
        ("p hex", "Print(Hex)"),
        ("p packet[12..14]", "Print(Part(Bytes { from: 12, to: 14 }))"),
        ("p packet[ 0x0c .. 14 ]", "Print(Part(Bytes { from: 12, to: 14 }))"),
        ("p packet[12]", "Print(Part(Bytes { from: 12, to: 13 }))"),
        ("p src", "Print(Part(Field(Source)))"),
        ("p dst-p", "Print(Part(Field(DestinationPort)))"),
        ("p hop", "Print(Part(Field(Hop)))"),
        ("p key", "Print(Key)"),
        ("p val", "Print(Value)"),
        ("p event", "Print(Event)"),
        ("p con", "Print(Context)"),
        ("p map policy", "Print(Map { name: \"policy\", key: None })"),
        (
            "p map ipcache 10.0.0.0/8 node",
            "Print(Map { name: \"ipcache\", key: Some(\"10.0.0.0/8 node\") })",
        ),
        ("p map x \"a b\"", "Print(Map { name: \"x\", key: Some(\"a b\") })"),
        ("display", "Display(None)"),
        ("disp key", "Display(Some(Key))"),
        ("watch mark", "Watch { thing: Part(Field(Mark)), condition: None }"),
        (
            "w r0 if r1 == 2",
            "Watch { thing: Register(0), condition: Some(Compare(Register(1), Equal, Value(Number(2)))) }",
        ),
        (
            "watch map conntrack a b if hop = 2",
            "Watch { thing: Map { name: \"conntrack\", key: Some(\"a b\") }, condition: Some(Compare(Field(Hop), Equal, Value(Number(2)))) }",
        ),
    ] {
        assert_eq!(said(text), expected, "{text:?}");
    }
    for (word, field, _) in FIELDS {
        assert_eq!(said(&format!("print {word}")), format!("Print(Part(Field({field:?})))"));
        assert_eq!(field.word(), *word);
    }
    for (word, what, _) in INFOS {
        assert_eq!(said(&format!("info {word}")), format!("Info({what:?})"));
    }
    assert_eq!(said("i br"), "Info(Breakpoints)");
}

#[test]
fn places_are_read() {
    for (place, expected) in [
        ("policy.rs:57", "Code(Line { file: Some(\"policy.rs\"), line: 57 })"),
        ("src/policy.rs:1", "Code(Line { file: Some(\"src/policy.rs\"), line: 1 })"),
        (":57", "Code(Line { file: None, line: 57 })"),
        ("57", "Code(Line { file: None, line: 57 })"),
        ("*12", "Code(Instruction(12))"),
        ("from_container", "Code(Function(\"from_container\"))"),
        ("policy::decide", "Code(Function(\"policy::decide\"))"),
        ("\"<a as b>::c\"", "Code(Function(\"<a as b>::c\"))"),
        ("\"drop\"", "Code(Function(\"drop\"))"),
        ("function drop", "Code(Function(\"drop\"))"),
        ("helper", "Helper(None)"),
        ("he redirect", "Helper(Some(\"redirect\"))"),
        ("lookup", "Lookup(None)"),
        ("lo policy", "Lookup(Some(\"policy\"))"),
        ("update conntrack", "Update(Some(\"conntrack\"))"),
        ("event", "Event(None)"),
        ("ev policy", "Event(Some(\"policy\"))"),
        ("rule web/a", "Rule { policy: \"web/a\", rule: None }"),
        ("rule web/a#probes", "Rule { policy: \"web/a\", rule: Some(\"probes\") }"),
        ("drop", "Drop(None)"),
        ("drop 133", "Drop(Some(\"133\"))"),
        ("write", "Write(None)"),
        ("wr packet[0..6]", "Write(Some(Bytes { from: 0, to: 6 }))"),
        ("write ttl", "Write(Some(Field(Ttl)))"),
        ("hop", "Hop(None)"),
        ("hop node01", "Hop(Some(\"node01\"))"),
    ] {
        for (word, once) in [("break", false), ("b", false), ("tbreak", true), ("tb", true)] {
            let expected = format!("Break {{ place: {expected}, condition: None, once: {once} }}");
            assert_eq!(said(&format!("{word} {place}")), expected, "{place:?}");
        }
    }
    for (text, expected) in [
        ("l", "List(None)"),
        ("list policy.rs:5", "List(Some(Line { file: Some(\"policy.rs\"), line: 5 }))"),
        ("list drop", "List(Some(Function(\"drop\")))"),
        ("list *3", "List(Some(Instruction(3)))"),
        ("disas", "Disassemble(None)"),
        ("disassemble policy::decide", "Disassemble(Some(\"policy::decide\"))"),
    ] {
        assert_eq!(said(text), expected, "{text:?}");
    }
}

#[test]
fn edits_are_read() {
    for (text, expected) in [
        ("edit dst-port = 8080", "Field(DestinationPort, Number(8080))"),
        ("e dst-port=0x50", "Field(DestinationPort, Number(80))"),
        ("edit src = 10.0.0.1", "Field(Source, Address(10.0.0.1))"),
        ("edit dst = fd00::1", "Field(Destination, Address(fd00::1))"),
        ("edit prot = udp", "Field(Protocol, Number(17))"),
        ("edit src-mac = 0a:00:00:00:00:01", "Field(SourceMac, Mac(Mac([10, 0, 0, 0, 0, 1])))"),
        ("edit packet[12..14] = 86dd", "Bytes { from: 12, bytes: [134, 221] }"),
        ("edit packet[12..14] = 0x86 0xdd", "Bytes { from: 12, bytes: [134, 221] }"),
        ("edit packet[12] = 86:DD:00", "Bytes { from: 12, bytes: [134, 221, 0] }"),
        ("edit r1 = 5", "Register(1, 5)"),
        ("edit $r0 = 0xffffffffffffffff", "Register(0, 18446744073709551615)"),
        ("edit map policy 0x0a0b = 0c", "Entry { map: \"policy\", key: \"0x0a0b\", value: [12] }"),
        ("edit map m a = b c = 01 02", "Entry { map: \"m\", key: \"a = b c\", value: [1, 2] }"),
        (
            "edit map policy remove 80/tcp ingress",
            "RemoveEntry { map: \"policy\", key: \"80/tcp ingress\" }",
        ),
    ] {
        assert_eq!(said(text), format!("Edit({expected})"), "{text:?}");
    }
}

#[test]
fn statements_are_told_from_other_edits() {
    for (text, statement) in [
        (
            "edit policy web/x {\n  select {}\n  allow ingress\n}",
            "policy web/x {\n  select {}\n  allow ingress\n}",
        ),
        ("e pod web/a on n { ip 10.0.0.1 } # gone", "pod web/a on n { ip 10.0.0.1 }"),
        ("edit  remove policy web/x ", "remove policy web/x"),
        ("edit alias A = web/a", "alias A = web/a"),
    ] {
        let read = parse(text, FileId(0));
        let Ok(DebugCommand::Edit(Edit::Statement(span))) = read else {
            panic!("{text:?} gives {read:?}")
        };
        assert_eq!(&text[span.start as usize..span.end as usize], statement);
    }
}

#[test]
fn every_example_is_read_as_its_command() {
    for info in TABLE {
        let read = parse(info.example, FileId(0));
        assert!(read.is_ok(), "{}: {read:?}", info.example);
        let help = parse(&format!("help {}", info.name), FileId(0));
        assert!(
            matches!(&help, Ok(DebugCommand::Help(Some(name))) if name.node == info.name),
            "{help:?}"
        );
        assert!(!info.help.ends_with('.'), "{}", info.help);
    }
}

#[test]
fn words_are_declared_once() {
    let mut words: Vec<&str> = TABLE
        .iter()
        .flat_map(|c| std::iter::once(c.name).chain(c.aliases.iter().copied()))
        .collect();
    words.sort_unstable();
    let count = words.len();
    words.dedup();
    assert_eq!(words.len(), count);
}

#[test]
fn beginnings_do() {
    for (beginning, name) in [
        ("s", "step"),
        ("st", "step"),
        ("ste", "step"),
        ("stepi", "stepi"),
        ("n", "next"),
        ("ne", "next"),
        ("c", "continue"),
        ("cont", "continue"),
        ("cond", "condition"),
        ("b", "break"),
        ("br", "break"),
        ("bac", "back"),
        ("backt", "backtrace"),
        ("p", "print"),
        ("l", "list"),
        ("li", "list"),
        ("le", "level"),
        ("i", "info"),
        ("d", "delete"),
        ("del", "delete"),
        ("dis", "disable"),
        ("disa", "disable"),
        ("disas", "disassemble"),
        ("disp", "display"),
        ("fin", "finish"),
        ("f", "finish"),
        ("g", "goto"),
        ("h", "help"),
        ("q", "quit"),
        ("e", "edit"),
        ("en", "enable"),
        ("ed", "edit"),
        ("ex", "quit"),
        ("w", "watch"),
        ("wh", "backtrace"),
        ("t", "tbreak"),
        ("u", "undisplay"),
        ("a", "answer"),
        ("rev", ""),
    ] {
        let text = format!("help {beginning}");
        let expected = if name.is_empty() {
            "HW0210 at \"rev\": `rev` may be `reverse-step`, `reverse-stepi`, `reverse-next` or `reverse-continue`".to_owned()
        } else {
            format!("Help(Some({name:?}))")
        };
        assert_eq!(said(&text), expected);
    }
}
