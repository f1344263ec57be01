//! Lines that are refused, and where; and that each refusal has a remedy.

use super::*;

#[test]
fn wrong_lines_are_explained() {
    for (text, expected) in [
        ("stpe", "HW0210 at \"stpe\": `stpe` is not a command of the debugger"),
        ("xyzzy", "HW0210 at \"xyzzy\": `xyzzy` is not a command of the debugger"),
        ("run", "HW0210 at \"run\": `run` is not a command of the debugger"),
        ("policy web/a {", "HW0210 at \"policy\": `policy` is not a command of the debugger"),
        ("trace a -> b", "HW0210 at \"trace\": `trace` is not a command of the debugger"),
        ("3", "HW0210 at \"3\": `3` is not a command of the debugger"),
        ("co", "HW0210 at \"co\": `co` may be `continue` or `condition`"),
        ("di", "HW0210 at \"di\": `di` may be `disable`, `display` or `disassemble`"),
        ("print/x r1", "HW0211 at \"print/x\": `print` takes no format"),
        ("x/8x r1", "HW0210 at \"x/8x\": `x/8x` is not a command of the debugger"),
        ("step x", "HW0211 at \"x\": `x` is not what a step is"),
        ("step 0", "HW0008 at \"0\": `0` is not a number of steps"),
        ("step -1", "HW0211 at \"-1\": `-1` is not a number of steps"),
        ("step 3 4", "HW0211 at \"4\": `step` does not take `4` as well"),
        ("step hop line", "HW0211 at \"line\": `step` does not take `line` as well"),
        ("next hop", "HW0211 at \"hop\": `hop` is not a number of times"),
        ("continue 4294967296", "HW0008 at \"4294967296\": `4294967296` is not a number of times"),
        ("finish 2", "HW0211 at \"2\": `finish` takes nothing"),
        ("goto", "HW0211 at \"goto\": `goto` needs a time"),
        ("goto e", "HW0211 at \"e\": `e` may be `end` or `event`"),
        ("goto hop", "HW0211 at \"goto\": `goto` needs the number of a hop"),
        ("goto hop 0", "HW0008 at \"0\": `0` is not the number of a hop"),
        ("goto 1x", "HW0211 at \"1x\": `1x` is not the number of an instruction"),
        ("level p", "HW0211 at \"p\": `p` may be `policy` or `program`"),
        ("break", "HW0211 at \"break\": `break` needs a place"),
        ("break if r0 == 1", "HW0211 at \"break\": `break` needs a place"),
        ("tbreak h", "HW0211 at \"h\": `h` may be `helper` or `hop`"),
        (
            "break rule",
            "HW0211 at \"break\": `break` needs a policy behind `rule`, as `POLICY` or `POLICY#RULE`",
        ),
        ("break policy.rs", "HW0211 at \"policy.rs\": `policy.rs` is not a place in the code"),
        ("break policy.rs:0", "HW0211 at \"policy.rs:0\": `0` is not the number of a line"),
        (
            "break policy.rs:decide",
            "HW0211 at \"policy.rs:decide\": `decide` is not the number of a line",
        ),
        ("break *x", "HW0211 at \"*x\": `x` is not the number of an instruction"),
        ("break write mark", "HW0211 at \"mark\": `mark` is not in the packet's bytes"),
        ("break write dst-", "HW0211 at \"dst-\": `dst-` may be `dst-port` or `dst-mac`"),
        ("break drop 133 134", "HW0211 at \"134\": `break` does not take `134` as well"),
        (
            "break if src == 80",
            "HW0211 at \"break\": `break` needs a place; HW0211 at \"src == 80\": `src` is an address and `80` is a number",
        ),
        ("watch", "HW0211 at \"watch\": `watch` needs something to watch"),
        ("condition", "HW0211 at \"condition\": `condition` needs the number of a breakpoint"),
        ("condition x", "HW0211 at \"x\": `x` is not the number of a breakpoint"),
        ("delete x", "HW0211 at \"x\": `x` is not the number of a breakpoint"),
        ("undisplay 0", "HW0008 at \"0\": `0` is not the number of a display"),
        ("print", "HW0211 at \"print\": `print` needs something to show"),
        ("print dst-prot", "HW0211 at \"dst-prot\": `dst-prot` is not something to show"),
        ("print m", "HW0211 at \"m\": `m` may be `map` or `mark`"),
        ("print r11", "HW0211 at \"r11\": there is no register `r11`"),
        ("print stack x", "HW0211 at \"x\": `x` is not the number of a frame"),
        ("print packet x", "HW0211 at \"x\": `print` does not take `x` as well"),
        ("print packet[1", "HW0211 at \"packet[1\": `packet[1` is not a part of the packet"),
        ("print packet[a..b]", "HW0008 at \"packet[a..b]\": `a` is not the number of a byte"),
        (
            "print packet[0..70000]",
            "HW0008 at \"packet[0..70000]\": `70000` is not the number of a byte",
        ),
        ("print packet[4..2]", "HW0211 at \"packet[4..2]\": no byte is in `4..2`"),
        ("print map", "HW0211 at \"print\": `print` needs the name of a map"),
        (
            "info",
            "HW0211 at \"info\": `info` needs one of `hops`, `events`, `maps`, `registers`, `breakpoints`, `watchpoints`, `functions`, `sources`, `programs` or `edits`",
        ),
        ("info e", "HW0211 at \"e\": `e` may be `events` or `edits`"),
        ("info mpas", "HW0211 at \"mpas\": `mpas` is not something to list"),
        ("help xyzzy", "HW0210 at \"xyzzy\": `xyzzy` is not a command of the debugger"),
        ("quit now", "HW0211 at \"now\": `quit` takes nothing"),
        ("print map \"a", "HW0004 at \"\\\"a\": this string has no closing quote"),
    ] {
        assert_eq!(said(text), expected, "{text:?}");
    }
}

#[test]
fn wrong_edits_are_explained() {
    for (text, expected) in [
        ("edit", "HW0211 at \"edit\": `edit` needs something to change"),
        ("edit dst-port", "HW0211 at \"edit\": `edit` needs `= VALUE` behind what is changed"),
        ("edit dst-port =", "HW0211 at \"edit\": `edit` needs a value behind `=`"),
        ("edit dst-port x = 1", "HW0211 at \"x\": `edit` does not take `x` as well"),
        ("edit dst-port = 70000", "HW0211 at \"70000\": `dst-port` is never 70000"),
        ("edit src = 80", "HW0211 at \"80\": `src` is an address and `80` is a number"),
        ("edit src = dst", "HW0211 at \"dst\": `dst` is not an address"),
        ("edit ttl = 1 2", "HW0211 at \"1 2\": `1 2` is not a number"),
        ("edit hop = 2", "HW0211 at \"hop\": `hop` is counted and cannot be changed"),
        ("edit packet = 00", "HW0211 at \"packet\": `packet` cannot be changed as a whole"),
        ("edit packet[0..2] = 00", "HW0211 at \"00\": 2 bytes are named and 1 given"),
        ("edit packet[0] = 0", "HW0008 at \"0\": `0` is not bytes in hex"),
        ("edit packet[0] = xy", "HW0008 at \"xy\": `xy` is not bytes in hex"),
        ("edit r10 = 1", "HW0211 at \"r10\": `r10` points to the stack and cannot be changed"),
        ("edit r1 = x", "HW0008 at \"x\": `x` is not a number"),
        ("edit map", "HW0211 at \"edit\": `edit` needs the name of a map"),
        (
            "edit map m",
            "HW0211 at \"edit\": `edit` needs `KEY = HEX` or `remove KEY` behind the map",
        ),
        ("edit map m k", "HW0211 at \"edit\": `edit` needs `= HEX` behind the key"),
        ("edit map m remove", "HW0211 at \"edit\": `edit` needs the key to remove"),
        ("edit map m = 00", "HW0211 at \"edit\": `edit` needs a key behind the map"),
        ("edit map m k = 1", "HW0008 at \"1\": `1` is not bytes in hex"),
        ("edit polcy web/a {", "HW0211 at \"polcy\": `polcy` is not something that can be changed"),
        (
            "edit remove",
            "HW0211 at \"remove\": `remove` needs the kind and the name of a statement",
        ),
        ("edit remove polcy a", "HW0211 at \"polcy\": `polcy` is not a kind of statement"),
    ] {
        assert_eq!(said(text), expected, "{text:?}");
    }
}

/// The advice of a line's only problem.
fn advice(text: &str) -> Vec<String> {
    let problems = parse(text, FileId(0)).expect_err(text);
    problems.iter().flat_map(|d| d.helps.iter().map(|help| help.message.clone())).collect()
}

#[test]
fn every_problem_has_a_remedy() {
    for (text, expected) in [
        ("stpe", "did you mean `step`?"),
        ("xyzzy", "`help` lists the commands"),
        ("run", "`goto start` goes back to the beginning, `continue` on to the next stop"),
        ("policy web/a {}", "`edit` applies a statement to a copy of the session"),
        ("a -> b:80", "`quit` goes back to the session"),
        ("co", "write more of the word"),
        ("3", "a number follows its command: `step 3`, `goto 120`"),
        (
            "print/x r1",
            "numbers are shown in decimal and hex; `print hex` shows all bytes of the packet, `print packet[A..B]` some",
        ),
        ("goto", "usage: goto start|end|N|hop N|event N, for example `goto hop 2`"),
        ("print dst-prot", "did you mean `dst-port`?"),
        ("edit polcy web/a {", "did you mean `policy`?"),
        ("break drop if src_port == 1", "did you mean `src-port`?"),
        ("break drop if r0 == -2", "numbers have 64 bits and no sign: -2 is 0xfffffffffffffffe"),
        (
            "break drop if tcp-flags & 2 == 2",
            "`&` is a comparison itself: bits in common, as in `tcp-flags & 0x12`",
        ),
    ] {
        assert_eq!(advice(text), [expected], "{text:?}");
    }
}
