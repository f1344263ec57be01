//! Lines of a session, and what is said about wrong ones.

use super::*;
use crate::ast::Port;

fn said(text: &str) -> String {
    match command(text, FileId(0)) {
        Ok(command) => shown(&command),
        Err(problems) => {
            let said: Vec<String> = problems
                .iter()
                .map(|d| {
                    let at = d.span().start as usize..d.span().end as usize;
                    format!("{} at {:?}: {}", d.code, text.get(at).unwrap_or("?"), d.message)
                })
                .collect();
            said.join("; ")
        }
    }
}

/// The command without its places.
fn shown(command: &Command) -> String {
    let name = |n: &Option<Name>| n.as_ref().map_or("-".into(), |n| format!("<{}>", n.node));
    match command {
        Command::Debug(q) => format!("debug, {} options", q.options.len()),
        Command::DebugFile(file) => format!("debug <{}>", file.node),
        Command::Record(file, q) => {
            format!("record <{}>, {} options", file.node, q.options.len())
        }
        Command::Attach(a) => {
            format!("attach {}, {}, {:?}, {}", name(&a.name), a.enforce, a.seconds, a.confirm)
        }
        Command::Status(of) => format!("status {}", name(of)),
        Command::Detach { name: of, all } => format!("detach {}, {all}", name(of)),
        Command::Replay(replay) => {
            let strict = if replay.strict { ", strict" } else { "" };
            format!("replay <{}> {}{strict}", replay.file.node, name(&replay.policy))
        }
        Command::Trace(q) => {
            let port = match q.target.port.as_ref().map(|p| &p.node) {
                Some(Port::Number(number)) => number.to_string(),
                Some(Port::Named(name)) => name.clone(),
                None => "-".into(),
            };
            format!("trace port {port}, {} options", q.options.len())
        }
        Command::Show { noun, argument, hits } => {
            let hits = if *hits { " with hits" } else { "" };
            format!("show {} {}{hits}", noun.word(), name(argument))
        }
        Command::TraceAt(packet) | Command::DebugAt(packet) => crate::fmt::raw(packet),
        Command::Test(filter) => format!("test {}", name(filter)),
        Command::Load(file) => format!("load <{}>", file.node),
        Command::Save(file) => format!("save {}", name(file)),
        Command::Set(None) => "set".into(),
        Command::Set(Some((key, value))) => format!("set <{}> <{}>", key.node, value.node),
        Command::Explain(code) => format!("explain <{}>", code.node),
        Command::Help(about) => format!("help {}", name(about)),
        Command::Remove { kind, name } => format!("remove <{}> <{}>", kind.node, name.node),
        Command::Statement(span) => format!("statement {}..{}", span.start, span.end),
        other => format!("{other:?}"),
    }
}

#[test]
fn lines_are_read() {
    for (text, expected) in [
        ("", "Empty"),
        ("  # nothing", "Empty"),
        ("trace a -> b:80/tcp syn", "trace port 80, 1 options"),
        ("a -> b:http # why", "trace port http, 0 options"),
        ("trace a b:80", "trace port 80, 0 options"),
        ("pod web/a -> node n:22", "trace port 22, 0 options"),
        ("node n -> pod b:1", "trace port 1, 0 options"),
        ("external e -> b:1", "trace port 1, 0 options"),
        ("[fd00::1] -> [fd00::2]:80", "trace port 80, 0 options"),
        ("world 8.8.8.8 -> b icmp echo", "trace port -, 1 options"),
        ("debug a -> b:80/tcp syn", "debug, 1 options"),
        ("debug a b:80", "debug, 0 options"),
        ("debug a->b", "debug, 0 options"),
        ("debug answer.hoptrace", "debug <answer.hoptrace>"),
        ("debug out/x.trace # theirs", "debug <out/x.trace>"),
        ("debug \"my answer\"", "debug <my answer>"),
        ("record x.hoptrace a -> b icmp echo ttl 3", "record <x.hoptrace>, 2 options"),
        ("record \"my x\" a b:80", "record <my x>, 0 options"),
        ("replay x.pcap", "replay <x.pcap> -"),
        ("replay \"my x\" --strict --policy new.hop # ok", "replay <my x> <new.hop>, strict"),
        ("attach", "attach -, false, None, false"),
        ("attach shop --enforce --for 10m", "attach <shop>, true, Some(600), false"),
        ("attach --confirm shop # yes", "attach <shop>, false, None, true"),
        ("status", "status -"),
        ("status shop", "status <shop>"),
        ("detach shop", "detach <shop>, false"),
        ("detach --all", "detach -, true"),
        ("trace --at n from-netdev hex 00 # why", "at n from-netdev hex 00"),
        ("trace at to-host pcap x.pcap number 1", "at to-host pcap \"x.pcap\" number 1"),
        ("trace at -> b:80", "trace port 80, 0 options"),
        ("service a -> b:1", "trace port 1, 0 options"),
        ("remove service web/a", "remove <service> <web/a>"),
        ("show services", "show services -"),
        ("show metrics n1", "show metrics <n1>"),
        ("show policy --hits", "show policy - with hits"),
        ("show policy web/a --hits", "show policy <web/a> with hits"),
        ("show policy", "show policy -"),
        ("show pods", "show pods -"),
        ("show endpoints node01", "show endpoints <node01>"),
        ("test", "test -"),
        ("test a half-open flow", "test <a half-open flow>"),
        ("test \"a b\"", "test <a b>"),
        ("test \"t\" {\n}", "statement 0..12"),
        ("  pod web/a on n { ip 10.0.0.1 }  ", "statement 2..32"),
        ("policy web/a {\n}", "statement 0..16"),
        ("service web/a { }", "statement 0..17"),
        ("alias A = web/a", "statement 0..15"),
        ("load \"my file.hop\"", "load <my file.hop>"),
        ("save", "save -"),
        ("save x.hop", "save <x.hop>"),
        ("set", "set"),
        ("set level full", "set <level> <full>"),
        ("wait 2m", "Wait(120)"),
        ("time on", "Time(true)"),
        ("time off", "Time(false)"),
        ("explain HW0001", "explain <HW0001>"),
        ("help trace", "help <trace>"),
        ("remove policy web/a", "remove <policy> <web/a>"),
        ("remove clusterwide policy a", "remove <policy> <a>"),
        ("remove test a b", "remove <test> <a b>"),
        ("why", "Why"),
        ("check", "Check"),
        ("fmt", "Fmt"),
        ("reload", "Reload"),
        ("undo", "Undo"),
        ("diff", "Diff"),
        ("doctor", "Doctor"),
        ("quit", "Quit"),
        ("exit", "Quit"),
    ] {
        assert_eq!(said(text), expected, "{text:?}");
    }
}

#[test]
fn every_command_is_read() {
    for info in TABLE {
        let read = command(info.example, FileId(0));
        assert!(read.is_ok(), "{}: {read:?}", info.example);
    }
}

#[test]
fn wrong_lines_are_explained() {
    for (text, expected) in [
        ("shwo pods", "HW0210 at \"shwo\": `shwo` is neither a command nor a statement"),
        ("client echo:80", "HW0210 at \"client\": `client` is neither a command nor a statement"),
        ("trace", "HW0211 at \"trace\": `trace` needs a question"),
        ("debug", "HW0211 at \"debug\": `debug` needs a question or the file of a recorded one"),
        (
            "debug web/a",
            "HW0001 at \"a\": this question ends too early, expected `->` or an endpoint",
        ),
        ("replay", "HW0211 at \"replay\": `replay` needs a capture"),
        ("replay a.x b", "HW0211 at \"b\": `b` is not a flag of `replay`"),
        ("record", "HW0211 at \"record\": `record` needs a file and a question"),
        ("record a.x", "HW0211 at \"record\": `record` needs a question behind the file"),
        (
            "show",
            "HW0211 at \"show\": `show` needs one of pods, services, nodes, endpoints, tunnel, selectors, identities, policies, ipcache, policy, conntrack, metrics",
        ),
        ("show podz", "HW0211 at \"podz\": `podz` is not something to show"),
        ("show pods x", "HW0211 at \"x\": `show pods` lists all and takes no name"),
        ("show pods --hits", "HW0211 at \"--hits\": `show pods` counts no hits"),
        (
            "trace --at n from-netdv hex 00",
            "HW0001 at \"from-netdv\": unexpected `from-netdv`, expected `from-container`, `to-container`, `from-overlay`, `to-overlay`, `from-netdev`, `to-netdev`, `from-host`, `to-host` or `prefilter`",
        ),
        ("undo 3 times", "HW0211 at \"3 times\": `undo` takes nothing"),
        ("load", "HW0211 at \"load\": `load` needs a file"),
        ("set level", "HW0211 at \"set\": `set` needs a value for `level`"),
        ("wait", "HW0211 at \"wait\": `wait` needs a time such as `61s`"),
        ("wait 60", "HW0211 at \"60\": `60` is not a time such as `61s`, `2m` or `1h`"),
        ("reply syn-ack", "HW0210 at \"reply\": `reply` is neither a command nor a statement"),
        (
            "trace --pcap x.pcapng a -> b:80",
            "HW0211 at \"--pcap\": `--pcap` stands at the end of a question, with the file to write behind it",
        ),
        (
            "a -> b:80 --pcap",
            "HW0211 at \"--pcap\": `--pcap` stands at the end of a question, with the file to write behind it",
        ),
        ("time onn", "HW0211 at \"onn\": `onn` is not `on` or `off`"),
        ("remove", "HW0211 at \"remove\": `remove` needs the kind and the name of a statement"),
        ("remove polcy a", "HW0211 at \"polcy\": `polcy` is not a kind of statement"),
        ("remove policy", "HW0211 at \"remove\": `remove` needs the name of the policy"),
        ("trace a -", "HW0001 at \"-\": the receiver is missing behind `-`"),
        ("trace -", "HW0001 at \"-\": the receiver is missing behind `-`"),
        ("a -> ", "HW0001 at \">\": this question ends too early, expected an endpoint"),
    ] {
        assert_eq!(said(text), expected, "{text:?}");
    }
}

#[test]
fn a_question_needs_no_trace() {
    assert!(question("a b:80/tcp", FileId(0)).is_ok());
    assert!(question("a -> b:80/tcp", FileId(0)).is_ok());
    assert!(question("a -", FileId(0)).is_err());
    assert!(question("", FileId(0)).is_err());
}
