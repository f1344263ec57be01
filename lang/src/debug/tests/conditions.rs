//! What conditions mean, and which mean nothing.

use super::*;

/// A condition with every parenthesis, or what is wrong with it.
fn read(text: &str) -> String {
    let line = format!("break drop if {text}");
    match parse(&line, FileId(0)) {
        Ok(DebugCommand::Break { condition: Some(condition), .. }) => written(&condition),
        _ => said(&line),
    }
}

fn written(condition: &Condition) -> String {
    match condition {
        Condition::And(a, b) => format!("({} and {})", written(a), written(b)),
        Condition::Or(a, b) => format!("({} or {})", written(a), written(b)),
        Condition::Not(a) => format!("not {}", written(a)),
        Condition::Compare(a, comparison, b) => {
            let sign = match comparison {
                Comparison::Equal => "==",
                Comparison::NotEqual => "!=",
                Comparison::Less => "<",
                Comparison::LessOrEqual => "<=",
                Comparison::Greater => ">",
                Comparison::GreaterOrEqual => ">=",
                Comparison::Bits => "&",
            };
            format!("{}{sign}{}", operand(a), operand(b))
        }
        Condition::In(a, Range::Prefix(net)) => format!("{} in {net}", operand(a)),
        Condition::In(a, Range::Numbers(from, to)) => format!("{} in {from}..{to}", operand(a)),
    }
}

fn operand(operand: &Operand) -> String {
    match operand {
        Operand::Value(Value::Number(number)) => number.to_string(),
        Operand::Value(Value::Address(address)) => address.to_string(),
        Operand::Value(Value::Mac(mac)) => mac.to_string(),
        Operand::Register(number) => format!("r{number}"),
        Operand::Field(field) => field.word().to_owned(),
        Operand::Bytes { from, to } => format!("packet[{from}..{to}]"),
        Operand::Node => "node".to_owned(),
        Operand::Word(word) => format!("'{word}'"),
    }
}

#[test]
fn conditions_are_read() {
    for (text, expected) in [
        ("r0 == 1", "r0==1"),
        ("$r1=0x10", "r1==16"),
        ("80 != dst-port", "80!=dst-port"),
        ("r1 < r2", "r1<r2"),
        ("ttl<=3", "ttl<=3"),
        ("length > 100", "length>100"),
        ("hop >= 2", "hop>=2"),
        ("tcp-flags & 0x12", "tcp-flags&18"),
        ("protocol == tcp", "protocol==6"),
        ("udp = protocol", "17==protocol"),
        ("protocol == sctp", "protocol==132"),
        ("protocol != icmp", "protocol!=1"),
        ("protocol != icmpv6", "protocol!=58"),
        ("src == 10.0.0.1", "src==10.0.0.1"),
        ("src != dst", "src!=dst"),
        ("dst == fd00::1", "dst==fd00::1"),
        ("src-mac == 0a:00:00:00:00:01", "src-mac==0A:00:00:00:00:01"),
        ("packet[12..14] == 0x86dd", "packet[12..14]==34525"),
        ("packet[14] & 0xf", "packet[14..15]&15"),
        ("packet[ 0 .. 8 ] == r1", "packet[0..8]==r1"),
        ("node == node01", "node=='node01'"),
        ("node != r1", "node!='r1'"),
        ("\"node 1\" == node", "'node 1'==node"),
        ("node == src-port", "node=='src-port'"),
        ("src in 10.0.0.0/8", "src in 10.0.0.0/8"),
        ("dst in fd00::/8", "dst in fd00::/8"),
        ("dst in 10.0.0.1", "dst in 10.0.0.1/32"),
        ("dst-port in 8000..9000", "dst-port in 8000..9000"),
        ("dst-port in 8000 .. 65536", "dst-port in 8000..65536"),
        ("r1 in 0x10..0x20", "r1 in 16..32"),
        ("r0 == 1 and r1 == 2 or r2 == 3", "((r0==1 and r1==2) or r2==3)"),
        ("r0 == 1 or r1 == 2 and r2 == 3", "(r0==1 or (r1==2 and r2==3))"),
        ("(r0 == 1 or r1 == 2) and r2 == 3", "((r0==1 or r1==2) and r2==3)"),
        ("r0==1&&r1==2||r2==3", "((r0==1 and r1==2) or r2==3)"),
        ("not r0 == 1 and r1 == 2", "(not r0==1 and r1==2)"),
        ("!(r0 == 1 and r1 == 2)", "not (r0==1 and r1==2)"),
        ("! ! r0 == 1", "r0==1"),
        ("not not not r0 == 1", "not r0==1"),
        ("r0 == 1 and \\\n r1 == 2 # both", "(r0==1 and r1==2)"),
    ] {
        assert_eq!(read(text), expected, "{text:?}");
    }
}

#[test]
fn clashes_are_errors() {
    for (text, expected) in [
        ("src == 80", "HW0211 at \"src == 80\": `src` is an address and `80` is a number"),
        (
            "dst-port == 10.0.0.1",
            "HW0211 at \"dst-port == 10.0.0.1\": `dst-port` is a number and `10.0.0.1` is an address",
        ),
        (
            "src-mac == 10.0.0.1",
            "HW0211 at \"src-mac == 10.0.0.1\": `src-mac` is a MAC address and `10.0.0.1` is an address",
        ),
        (
            "src == src-mac",
            "HW0211 at \"src == src-mac\": `src` is an address and `src-mac` is a MAC address",
        ),
        ("dst-port == 70000", "HW0211 at \"70000\": `dst-port` is never 70000"),
        ("256 > ttl", "HW0211 at \"256\": `ttl` is never 256"),
        ("packet[0..2] == 65536", "HW0211 at \"65536\": `packet[0..2]` is never 65536"),
        ("vni == 0x1000000", "HW0211 at \"0x1000000\": `vni` is never 16777216"),
        ("dst-port in 1..65537", "HW0211 at \"1..65537\": `dst-port` is never 65536"),
        ("dst-port in 9..9", "HW0211 at \"9..9\": no number is in `9..9`"),
        (
            "dst-port in 10.0.0.0/8",
            "HW0211 at \"10.0.0.0/8\": `dst-port` needs a range of numbers behind `in`",
        ),
        ("dst-port in 80", "HW0211 at \"80\": `dst-port` needs a range of numbers behind `in`"),
        ("src in 1..2", "HW0211 at \"1..2\": `src` needs a prefix behind `in`"),
        ("src-mac in 1..2", "HW0211 at \"1..2\": `src-mac` is a MAC address, which is in no range"),
        (
            "src == 10.0.0.0/8",
            "HW0211 at \"10.0.0.0/8\": `10.0.0.0/8` is a prefix, which no address equals",
        ),
        (
            "src < 10.0.0.1",
            "HW0211 at \"src < 10.0.0.1\": addresses are compared by `==`, `!=` and `in` only",
        ),
        ("node < a", "HW0211 at \"node < a\": `node` is compared by `==` and `!=` only"),
        ("node == 10.0.0.1", "HW0211 at \"10.0.0.1\": `node` is a name and `10.0.0.1` is none"),
        ("node in 1..2", "HW0211 at \"node in 1..2\": `node` is in no range"),
        ("node == node", "HW0211 at \"node == node\": nothing in this comparison changes"),
        ("1 == 1", "HW0211 at \"1 == 1\": nothing in this comparison changes"),
        ("5 in 1..9", "HW0211 at \"5 in 1..9\": nothing in this comparison changes"),
        ("src-prot == 80", "HW0211 at \"src-prot\": `src-prot` is no field and no value"),
        ("src_port == 80", "HW0211 at \"src_port\": `src_port` is no field and no value"),
        ("dst-port == tcp", "HW0211 at \"tcp\": `tcp` is no field and no value"),
        ("r11 == 1", "HW0211 at \"r11\": there is no register `r11`"),
        (
            "src == 10.0.0.256",
            "HW0007 at \"10.0.0.256\": `10.0.0.256` is neither an address nor a prefix",
        ),
        (
            "r0 == 18446744073709551616",
            "HW0008 at \"18446744073709551616\": `18446744073709551616` is not a number",
        ),
        ("r0 == -1", "HW0008 at \"-1\": `-1` is not a number"),
        ("packet[0..9] == 1", "HW0211 at \"packet[0..9]\": 9 bytes are not one number"),
        ("packet[3..3] == 1", "HW0211 at \"packet[3..3]\": no byte is in `3..3`"),
        (
            "src == 80 and dst == 90",
            "HW0211 at \"src == 80\": `src` is an address and `80` is a number; HW0211 at \"dst == 90\": `dst` is an address and `90` is a number",
        ),
    ] {
        assert_eq!(read(text), expected, "{text:?}");
    }
}

#[test]
fn what_is_no_condition_is_explained() {
    for (text, expected) in [
        ("", "HW0211 at \"if\": a condition must follow"),
        (
            "r0",
            "HW0001 at \"0\": the condition ends too early, expected a comparison such as `== 80`",
        ),
        (
            "r0 ==",
            "HW0001 at \"=\": the condition ends too early, expected a register, a field or a value",
        ),
        ("r0 == 1 r1 == 2", "HW0001 at \"r1\": unexpected `r1`, expected `and`, `or`, the end"),
        ("(r0 == 1", "HW0001 at \"1\": the condition ends too early, expected `and`, `or`, `)`"),
        ("r0 == 1)", "HW0001 at \")\": unexpected `)`, expected `and`, `or`, the end"),
        ("tcp-flags & 2 == 2", "HW0001 at \"==\": unexpected `==`, expected `and`, `or`, the end"),
        ("r0 + 1 == 2", "HW0001 at \"+\": unexpected `+`, expected a comparison such as `== 80`"),
        ("src in", "HW0001 at \"n\": the condition ends too early, expected a number or a prefix"),
        ("and", "HW0001 at \"and\": unexpected `and`, expected a register, a field or a value"),
        ("r0 == 1 and \"", "HW0004 at \"\\\"\": this string has no closing quote"),
    ] {
        assert_eq!(read(text), expected, "{text:?}");
    }
}

#[test]
fn conditions_are_bounded() {
    let deep = format!("{}r0 == 1{}", "(".repeat(33), ")".repeat(33));
    assert_eq!(read(&deep), "HW0001 at \"(\": this `(` is nested too deeply");
    let fits = format!("{}r0 == 1{}", "(".repeat(32), ")".repeat(32));
    assert_eq!(read(&fits), "r0==1");
    let long = vec!["r0 == 1"; 65].join(" and ");
    assert_eq!(read(&long), "HW0211 at \"r0 == 1\": a condition has at most 64 comparisons");
    let nots = format!("{}r0 == 1", "not ".repeat(20_001));
    assert_eq!(read(&nots), "not r0==1");
}
