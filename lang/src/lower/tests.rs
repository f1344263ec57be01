//! Lowering: every fixture loads, and what is wrong across statements is reported once.

use engine::source::SourceMap;

use crate::parse;
use crate::suite::{Case, StepKind};

/// Every problem of a text: severity, code, message and the text at its place.
fn problems(text: &str) -> Vec<String> {
    let mut sources = SourceMap::default();
    let file = sources.add("test.hop", text);
    let (ast, mut diagnostics) = parse::file(text, file);
    diagnostics.extend(super::lower(&[&ast], &sources).diagnostics);
    diagnostics
        .into_iter()
        .map(|d| {
            format!("{:?} {} {} {:?}", d.severity, d.code, d.message, sources.snippet(d.span()))
        })
        .collect()
}

fn cases(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            cases(&path, found);
        } else if path.extension().is_some_and(|e| e == "hop") {
            found.push(path);
        }
    }
}

#[test]
fn fixtures_load_without_an_error() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/cases");
    let mut paths = Vec::new();
    cases(&root, &mut paths);
    let mut findings = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a case can be read");
        if text.contains("\ninclude") {
            continue;
        }
        let errors = problems(&text).into_iter().filter(|p| p.starts_with("Error"));
        findings.extend(errors.map(|p| format!("{}: {p}", path.display())));
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// The codes of a text's errors and warnings.
fn codes(text: &str) -> Vec<String> {
    let code = |p: &String| p.split(' ').nth(1).unwrap_or("").to_owned();
    problems(text).iter().map(code).collect()
}

const WORLD: &str = "
cluster c { node n { ip 192.168.0.1 pods 10.1.0.0/24 } }
namespace web {}
pod web/a on n { ip 10.1.0.10 labels { app = a } }
pod web/b on n { ip 10.1.0.11 labels { app = b } port http 80/tcp }
";

#[test]
fn what_a_broken_statement_would_declare_is_not_missed() {
    for (broken, right) in [
        (
            "cluster c { node n { ip 10.0.0.256 } }",
            "namespace web {}\npod web/a on n { ip 10.1.0.1 }",
        ),
        ("namespace web { label {} }", "policy web/p {\n  select {}\n  allow ingress\n}"),
        (
            "pod web/x on n { ip 10.1.0 }",
            "test \"t\" {\n  web/x -> world 8.8.8.8:80 => undecided\n}",
        ),
        ("pod web/x on n { ip 10.1.0 }", "test \"t\" {\n  x -> world 8.8.8.8:80 => undecided\n}"),
        ("pod web/x on n { ip 10.1.0 }", "alias X = web/x"),
        ("external e { ip x }", "alias E = e"),
        ("include 7", "policy other/p {\n  select {}\n  allow ingress\n}"),
        (
            "namespace web {}\npolicy web/p {\n  select {}\n  alow ingress as r\n}",
            "test \"t\" {\n  world 8.8.8.8 -> world 1.1.1.1:80 => allowed by web/p#r\n}",
        ),
    ] {
        let text = format!("{broken}\n{right}\n");
        assert_eq!(codes(&text).len(), 1, "of\n{text}\n{:?}", problems(&text));
    }
}

/// A valid pod's short name must not excuse an unknown one on the other side: the line would vanish.
#[test]
fn unknown_endpoints_of_tests_are_told_whatever_stands_beside_them() {
    for line in [
        "a -> nobody:80 => allowed",
        "nobody -> a:80 => allowed",
        "web/a -> nobody:80 => allowed",
        "pod nobody -> a:80 => allowed",
        "a -> b icmp 3 quoting (a -> nobody:80) => allowed",
        "dialogue \"d\" {\n a -> nobody:80 => allowed\n}",
    ] {
        let text = format!("{WORLD}\ntest \"t\" {{\n{line}\n}}\n");
        assert_eq!(codes(&text), ["HW0200"], "{line}");
    }
}

#[test]
fn an_alias_means_nobody_else_by_the_name_of_another() {
    assert_eq!(codes(&format!("{WORLD}\nalias a = web/b\n")), ["HW0100"]);
    assert_eq!(codes(&format!("{WORLD}\nalias n = web/b\n")), ["HW0100"]);
    assert!(codes(&format!("{WORLD}\nalias a = web/a\nalias c = web/b\n")).is_empty());
}

#[test]
fn what_only_several_statements_show_is_checked() {
    for (text, expected) in [
        ("node n { ip 10.0.0.1 }", "HW0100"),
        ("pod web/c on n { ip 10.1.0.10 }", "HW0106"),
        ("external e { ip 192.168.0.1 }", "HW0106"),
        ("node m { ip 10.0.0.2 pods 10.1.0.0/25 }", "HW0113"),
        ("node m { ip 10.1.0.2 }", "HW0115"),
        ("node m { ip 10.0.0.2 local 10.1.0.2 }", "HW0115"),
        ("node m { ip 10.0.0.2 pods 192.168.0.0/24 }", "HW0115"),
        ("pod web/c on m { ip 10.1.0.12 }", "HW0103"),
        ("pod db/c on n { ip 10.1.0.12 }", "HW0104"),
        ("pod c on n { ip 10.1.0.12 }", "HW0111"),
        ("clusterwide policy web/p {\n  select {}\n  allow ingress\n}", "HW0111"),
        (
            "identity 300 { namespace web labels { app = a } }\nidentity 301 { namespace web labels { app = a } }",
            "HW0100",
        ),
        ("alias A = web/z", "HW0200"),
        ("test \"t\" {\n  web/a -> web/b:sql => allowed\n}", "HW0203"),
        ("test \"t\" {\n  web/a -> web/b:80 => allowed, tunnel m\n}", "HW0103"),
        ("test \"t\" {\n  web/a -> web/b:80 => allowed by web/p\n}", "HW0130"),
        ("test \"t\" {\n  web/a -> web/b:80 => dropped at ingress of web/z\n}", "HW0200"),
        ("test \"t\" {\n  web/a -> web/b icmp 3/3 quoting last => allowed\n}", "HW0015"),
        ("test \"t\" {\n  dialogue \"d\" {\n    wait 1s\n    send => allowed\n  }\n}", "HW0015"),
        (
            "test \"t\" {\n  dialogue \"d\" {\n    remove policy web/p\n    a -> b:80 => allowed\n  }\n}",
            "HW0130",
        ),
        ("test \"t\" {\n  dialogue \"d\" {\n    a -> b:80\n    wait 1s\n  }\n}", "HW0013"),
        ("test \"t\" {\n  dialogue \"d\" {}\n}", "HW0013"),
        ("test \"t\" {\n  dialogue \"d\" {\n    a -> b:80\n    snd => allowed\n  }\n}", "HW0001"),
    ] {
        let text = format!("{WORLD}{text}\n");
        assert_eq!(codes(&text), [expected], "of\n{text}\n{:?}", problems(&text));
    }
}

#[test]
fn a_policy_that_lost_a_line_is_not_blamed_for_having_none() {
    for line in ["audit", "dialect kubernetes", "default-deny off\n  audit"] {
        let text = format!("{WORLD}policy web/p {{\n  select {{}}\n  {line}\n}}\n");
        assert_eq!(codes(&text), ["HW0005"], "of\n{text}");
    }
    assert_eq!(codes(&format!("{WORLD}policy web/p {{\n  select {{}}\n}}\n")), ["HW0404"]);
}

/// Each case: a policy's lines in the world with a pod on the host network, and what is said about them.
#[test]
fn lints_say_what_is_so() {
    for (lines, expected) in [
        ("allow ingress from entities host, health", &[][..]),
        ("allow ingress from entities none", &[]),
        ("allow ingress from entities health", &["HW0405 this peer matches nobody \"health\""]),
        (
            "allow ingress from entities init, unmanaged",
            &[
                "HW0405 this peer matches nobody \"init\"",
                "HW0405 this peer matches nobody \"unmanaged\"",
            ],
        ),
        (
            "allow ingress from entities host, world-ipv4",
            &["HW0405 this peer matches nobody \"world-ipv4\""],
        ),
        (
            "allow ingress from cidr 9.0.0.0/8 except 9.0.0.0/8",
            &["HW0405 this peer matches nobody \"cidr 9.0.0.0/8 except 9.0.0.0/8\""],
        ),
        ("allow ingress from cidr 9.0.0.0/8 except 9.0.0.0/9", &[]),
        ("allow ingress from cidr 0.0.0.0/0", &[]),
        (
            "allow ingress from cidr 10.1.0.0/16",
            &[
                "HW0402 `10.1.0.0/16` covers pod web/a and 1 more, which a CIDR peer never matches \"cidr 10.1.0.0/16\"",
            ],
        ),
        (
            "allow ingress from cidr 10.1.0.0/16 except 10.1.0.10/32",
            &[
                "HW0402 `10.1.0.0/16` covers pod web/b, which a CIDR peer never matches \"cidr 10.1.0.0/16 except 10.1.0.10/32\"",
            ],
        ),
        ("allow ingress on http/udp", &["HW0403 no pod has a udp port named `http` \"http/udp\""]),
        (
            "allow ingress from pods { app = h }",
            &["HW0405 this peer matches no pod \"pods { app = h }\""],
        ),
        (
            "allow ingress from pods { app = c, x != y }",
            &["HW0405 this peer matches no pod \"app = c\""],
        ),
        (
            "allow ingress from pods { app = a, !app }",
            &["HW0405 this peer matches no pod \"!app\""],
        ),
        ("allow ingress from pods { app in (b, c) } in namespaces {}", &[]),
        (
            "allow ingress from pods {} in namespaces { team = x }",
            &["HW0405 this peer matches no pod \"team = x\""],
        ),
    ] {
        let host = "pod web/h on n { host-network labels { app = h } }";
        let policy = format!("policy web/p {{\n  select {{ app = a }}\n  {lines}\n}}");
        let found = problems(&format!("{WORLD}{host}\n{policy}\n"));
        let expected: Vec<String> = expected.iter().map(|e| format!("Warning {e}")).collect();
        assert_eq!(found, expected, "{lines}");
    }
}

/// Policies that match nobody, and pods: were each held against all others, this would take minutes.
#[test]
fn many_policies_are_held_against_many_pods() {
    use std::fmt::Write as _;

    let mut text = String::from("cluster c { node n { ip 192.168.0.1 } }\nnamespace web {}\n");
    for at in 0..2_000 {
        let ip = format!("10.1.{}.{}", at / 200, at % 200 + 1);
        writeln!(text, "pod web/a{at} on n {{ ip {ip} labels {{ app = a{at} }} }}").unwrap();
        let peers = format!("pods {{ app = z{at} }}, cidr 10.0.0.0/8");
        let rule = format!("allow ingress from {peers} on p{at}");
        writeln!(text, "policy web/p{at} {{\n  select {{ app = a{at} }}\n  {rule}\n}}").unwrap();
    }
    let found = codes(&text);
    for (code, expected) in [("HW0402", 2_000), ("HW0403", 2_000), ("HW0405", 2_000)] {
        assert_eq!(found.iter().filter(|found| *found == code).count(), expected, "{code}");
    }
}

#[test]
fn a_dialogue_knows_its_own_policies() {
    let steps = "web/a -> web/b:80 => allowed
    policy web/p {
      select {}
      deny ingress as all
    }
    send ack => dropped denied by web/p#all
    remove policy web/p
    reply ack => allowed
    send => allowed";
    let text = format!("{WORLD}test \"t\" {{\n  dialogue \"d\" {{\n    {steps}\n  }}\n}}\n");
    assert_eq!(problems(&text), Vec::<String>::new());
    let after = text.replace("reply ack => allowed", "reply ack => allowed by web/p#all");
    assert_eq!(codes(&after), ["HW0130"]);
}

#[test]
fn steps_differ_from_the_natural_packet_as_written() {
    let steps = "web/a -> web/b icmp echo id 1
    send id 2 seq 3 ttl 4 length 40
    reply icmp 3/4 quoting last
    world 8.8.8.8 -> web/a icmp 3/3 quoting last => undecided";
    let text = format!("{WORLD}test \"t\" {{\n  dialogue \"d\" {{\n    {steps}\n  }}\n}}\n");
    let mut sources = SourceMap::default();
    let file = sources.add("test.hop", text.as_str());
    let (ast, _) = parse::file(&text, file);
    let lowered = super::lower(&[&ast], &sources);
    assert_eq!(lowered.diagnostics, []);
    let Some(Case::Dialogue(dialogue)) = lowered.suites[0].cases.first() else { panic!("one") };
    let StepKind::FollowUp(send) = &dialogue.steps[1].kind else { panic!("a follow-up") };
    assert_eq!((send.reply, send.error, send.change.identifier), (false, None, Some(2)));
    assert_eq!((send.change.sequence, send.change.ttl), (Some(3), Some(4)));
    assert_eq!(send.change.payload.as_ref().map(Vec::len), Some(12));
    let StepKind::FollowUp(reply) = &dialogue.steps[2].kind else { panic!("a follow-up") };
    assert_eq!((reply.reply, reply.error), (true, Some((3, 4))));
    let StepKind::Flow { quote_last, .. } = &dialogue.steps[3].kind else { panic!("a flow") };
    assert!(quote_last);
}

/// Tests that name a pod that is gone, beside many that are there.
#[test]
fn a_missing_pod_is_told_for_each_of_many_tests() {
    use std::fmt::Write as _;

    let mut text = String::from(WORLD);
    (0..1_000).for_each(|at| {
        writeln!(text, "external e{at} {{ ip 9.0.{}.{} }}", at / 200, at % 200 + 1).unwrap();
    });
    text.push_str("test \"t\" {\n");
    (0..3_000).for_each(|at| writeln!(text, "  gone -> e{}:80 => undecided", at % 1_000).unwrap());
    text.push_str("}\n");
    let found = problems(&text);
    assert_eq!(found.len(), 3_000);
    assert!(found.iter().all(|p| p == "Error HW0200 nothing is named `gone` \"gone\""));
}

#[test]
fn many_flows_find_their_ends_among_many_pods() {
    use std::fmt::Write as _;

    const PODS: usize = 2_000;
    let mut text = String::from("cluster c { node n { ip 192.168.0.1 } }\nnamespace web {}\n");
    for at in 0..PODS {
        writeln!(text, "pod web/a{at} on n {{ ip 10.1.{}.{} }}", at / 200, at % 200 + 1).unwrap();
    }
    text.push_str("test \"t\" {\n");
    let target = |at: usize| (at * 7 + 1) % PODS;
    for at in 0..PODS {
        writeln!(text, "  a{at} -> web/a{}:80 => allowed", target(at)).unwrap();
        writeln!(text, "  world 9.9.9.9 -> a{at}:80 => allowed").unwrap();
    }
    text.push_str("}\n");
    let mut sources = SourceMap::default();
    let (ast, problems) = parse::file(&text, sources.add("test.hop", text.as_str()));
    assert_eq!(problems, []);
    let lowered = super::lower(&[&ast], &sources);
    assert_eq!(lowered.diagnostics, []);
    assert_eq!(lowered.suites[0].cases.len(), 2 * PODS);
    let address = |at: usize| lowered.world.pods[at].addresses[0];
    for (at, pair) in lowered.suites[0].cases.chunks(2).enumerate() {
        let [Case::Flow(inside), Case::Flow(outside)] = pair else { panic!("two flows") };
        let ip = &inside.question.packet.ip;
        assert_eq!((ip.source, ip.destination), (address(at), address(target(at))));
        assert_eq!(outside.question.packet.ip.destination, address(at));
    }
}

/// Values that no party and no device can have.
#[test]
fn what_nothing_can_have_is_refused() {
    for (fields, expected) in [
        ("ip 0.0.0.0", "HW0007"),
        ("ip 255.255.255.255", "HW0007"),
        ("ip 224.0.0.1", "HW0007"),
        ("ip 127.0.0.1", "HW0007"),
        ("ip ::1", "HW0007"),
        ("ip ff02::1", "HW0007"),
        ("ip fe80::1", "HW0007"),
        ("ip febf:ffff::1", "HW0007"),
        ("ip 10.1.0.12 port 80 80/tcp", "HW0114"),
        ("ip 10.1.0.12 port 8-0 80/tcp", "HW0114"),
        ("ip 10.1.0.12 port Http 80/tcp", "HW0114"),
        ("ip 10.1.0.12 port my_port 80/tcp", "HW0114"),
        ("ip 10.1.0.12 port a--b 80/tcp", "HW0114"),
        ("ip 10.1.0.12 port a234567890123456 80/tcp", "HW0114"),
        ("ip 10.1.0.12 mac 01:00:5e:00:00:01", "HW0007"),
        ("ip 10.1.0.12 mac 00:00:00:00:00:00", "HW0007"),
        ("ip 10.1.0.12 host-mac ff:ff:ff:ff:ff:ff", "HW0007"),
        ("ip 10.1.0.12 endpoint 0", "HW0008"),
        ("ip 10.1.0.12 ifindex 0", "HW0008"),
        ("ip 10.1.0.12 interface lxc1234567890123", "HW0008"),
    ] {
        let text = format!("{WORLD}pod web/c on n {{ {fields} }}\n");
        assert_eq!(codes(&text), [expected], "{fields}");
    }
    for (tunnel, expected) in [
        ("tunnel vxlan port 0", "HW0008"),
        ("tunnel vxlan device a234567890123456", "HW0008"),
        ("node m { ip 10.0.0.2 device a234567890123456 }", "HW0008"),
    ] {
        assert_eq!(codes(&format!("cluster c {{\n  {tunnel}\n}}\n")), [expected], "{tunnel}");
    }
    for right in [
        "pod web/c on n { ip 10.1.0.12 interface lxc123456789012 endpoint 1 ifindex 1 }",
        "pod web/c on n { ip 10.1.0.12 port a23456789012345 1 port 80a 2 port a-8 3 port h2 4 }",
        "node m { ip 10.0.0.2 pods 10.2.0.0/24 local 10.2.0.1 }",
    ] {
        assert_eq!(problems(&format!("{WORLD}{right}\n")), Vec::<String>::new());
    }
}

mod service;
