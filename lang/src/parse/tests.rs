//! What the grammar admits, with spans, and the lexical corners that keep it unambiguous.

use super::*;
use crate::ast::{ItemKind, PartyKind, PolicyLine, TestLine};

fn read(text: &str) -> (Ast, Vec<String>) {
    let (ast, diagnostics) = file(text, FileId(0));
    (ast, diagnostics.into_iter().map(|d| format!("{} {}", d.code, d.message)).collect())
}

/// A policy with one line.
fn policy(line: &str) -> String {
    format!("policy web/echo {{\n  {line}\n}}\n")
}

/// A test with one line.
fn test(line: &str) -> String {
    format!("test \"t\" {{\n  {line}\n}}\n")
}

/// A dialogue with one step behind a flow.
fn dialogue(step: &str) -> String {
    test(&format!("dialogue \"d\" {{\n a -> b:80/tcp\n {step}\n }}"))
}

fn accepted(texts: &[String]) {
    for text in texts {
        let (ast, diagnostics) = read(text);
        assert_eq!(diagnostics, Vec::<String>::new(), "of\n{text}");
        assert!(!ast.items.is_empty() && ast.failed.is_empty(), "of\n{text}");
    }
}

#[test]
fn the_world_is_read() {
    let texts = [
        "cluster c {}",
        "cluster c { like cilium 1.18 tunnel vxlan }",
        "cluster c {\n  tunnel vxlan port 8472 device vxlan0\n  node a { ip 10.0.0.1 }\n}",
        "node a { ip 10.0.0.1, fd00::1 pods 10.1.0.0/24, fd00:1::/64 local 10.1.0.1, fd00::2 device eth0 mac 02:00:00:00:00:02 }",
        "namespace web {}",
        "namespace web { labels {} }",
        "namespace web { labels { kubernetes.io/metadata.name = \"x\", a:b/c.d-e = f, } }",
        "pod web/a on n { ip 10.0.0.1 labels { app = a } port http 80/tcp port dns 53/udp ports any 1 mac 02:16:7a:1D:0C:7E host-mac F2:19:FC:0E:0A:8C interface lxc8b ifindex 336 endpoint 3432 }",
        "pod web/a on n { host-network }",
        "pod web/a on n {\n  # a comment\n  ip 10.0.0.1 # another\n}",
        "external e { ip 1.1.1.1, 2606:4700::1111 }",
        "identity 27634 { namespace web labels { app = \"client\" } }",
        "pod web/a on n { ip 10.0.0.1 not-ready }",
        "pod web/a on n { terminating ip 10.0.0.1 }",
        "node a { ip 10.0.0.1 labels { role = edge } health 10.1.0.9, fd00:1::9 }",
        "cluster c { tunnel geneve device g0 host-routing stack native-cidr 10.0.0.0/8, fd00::/8 balance maglev host-firewall on }",
        "cluster c { tunnel none masquerade on except 10.9.0.0/16, 10.8.0.0/16 ports 40000-50000 prefilter 1.1.1.0/24 }",
        "cluster c { masquerade off host-routing bpf host-firewall off balance random encryption wireguard nodes node a { ip 10.0.0.1 } }",
        "cluster c { masquerade on encryption ipsec key 3 }",
        "service web/echo { cluster-ip 10.96.0.20 port 80/tcp -> http select { app = \"echo\" } }",
        "service web/echo {\n  cluster-ip none\n  select { app = echo }\n}",
        "service web/echo { cluster-ip 10.96.0.20, fd00::20 external-ip 1.1.1.1 load-balancer-ip 2.2.2.2, 3.3.3.3 port http 80 -> 8080 node-port 30080 port dns 53/udp select { app } affinity client-ip timeout 3h balance maglev source-ranges 9.0.0.0/8 internal-traffic local external-traffic cluster }",
        "service web/echo { cluster-ip 10.96.0.20 affinity client-ip port 80 select { app } }",
        "alias A = service web/echo",
        "alias A = health n",
        "alias A = web/a",
        "alias A = pod web/a",
        "alias A = node n",
        "alias A = world 8.8.8.8",
        "alias A = fd00::1",
        "include \"a b.hop\"",
    ];
    accepted(&texts.map(ToOwned::to_owned));
}

#[test]
fn policies_are_read() {
    let lines = [
        "select {}",
        "select pods",
        "select pods {} in any namespace",
        "select pods in namespaces { env = \"prod\" }",
        "select nodes",
        "select nodes { role = edge }",
        "allow egress to service web/a, service b, pods {} on 80",
        "allow egress to service from, entities all, service on on 80",
        "select pods { a = b } in namespace web",
        "select { a, !b, c = d, e == f, g != h, i in (j, \"k\"), l not in (m), n notin (o,) }",
        "select { app=client,!debug }",
        "select { app=client,tier in (a,b),!debug }",
        "owner \"o\"",
        "because \"b\" owner \"o\" select {}",
        "default-deny off",
        "default-deny ingress",
        "default-deny ingress, egress",
        "allow ingress",
        "deny egress as all",
        "allow ingress from none",
        "allow ingress from pods",
        "allow ingress from pods in any namespace",
        "allow ingress from pods { a = b } in namespaces { !c }, pods {}, cidr 10.0.0.0/8",
        "allow egress to cidr 10.0.0.0/8 except 10.1.0.0/16, 10.2.0.0/16, cidr ::/0, entities all",
        "allow egress to cidr 10.0.0.1, cidr fd00::1",
        "allow ingress from entities host, remote-node, pods {}, entity world",
        "allow ingress on 80",
        "allow ingress on port 80, ports 81",
        "allow ingress on 80/tcp, 81/udp, 82/sctp, 83/any, 9000-9010/tcp, 1-2",
        "allow ingress on tcp, udp, sctp",
        "allow ingress on http, http/tcp, tcp-health, udp.x/udp",
        "allow ingress on icmp, icmpv6",
        "allow ingress on icmp echo-request, icmpv6 128, icmp 3",
        "allow ingress as a.b-c_d from pods {} on 80 owner \"o\" because \"b\"",
        "allow ingress as x \\\n    from pods {} \\\n    on 80/tcp",
        "allow ingress from pods {\n  a = b,\n  c = d\n} on 80",
        "allow ingress on icmp owner \"o\"",
    ];
    let lines = lines.iter().map(|line| line.replace("port 80, ports 81", "port 80, 81"));
    accepted(&lines.map(|line| policy(&line)).collect::<Vec<_>>());
    accepted(
        &["clusterwide policy fence {\n}", "policy web/a {\n}", "policy web/a { }"]
            .map(ToOwned::to_owned),
    );
}

#[test]
fn tests_are_read() {
    let flows = [
        "a -> b:80/tcp => allowed",
        "a->b:80=>allowed",
        "pod web/a -> pod web/b:http => dropped",
        "node n -> external e:1/udp => undecided",
        "world 8.8.8.8 -> [fd00::1]:80 => dropped default-deny at ingress",
        "fd00::1 -> world [2001:db8::1]:53/udp => dropped denied at egress of pod web/a by web/p#r",
        "a -> b => dropped ttl-exceeded by web/p, tunneled, conntrack new, identity 9",
        "a -> b icmp => allowed, not tunneled, tunnel node02, ttl 63, ingress allow, egress not-isolated",
        "a -> b icmp echo id 1 seq 2 ip-id 3 df ttl 4 length 84 with reply => allowed, reply allowed",
        "a -> b icmp 3/4 => allowed by web/p#ingress[0], by web/q#egress[1], implied local-host",
        "a -> b icmpv6 neighbor-solicitation ip6 => allowed",
        "a -> b:1 syn-ack from-port 2 from-ip 10.0.0.1 payload \"x \\\" y\" => allowed",
        "a -> b:1/udp hex 0a0b fragment more => allowed",
        "a -> b udp fragment offset 1480 more ip4 => allowed",
        "a -> b icmp 3/3 quoting ( b -> a:53/udp ) => allowed",
        "a -> b icmp echo id 7 => allowed",
        "a -> b:80 flow-label 7 => allowed",
        "a -> b:80 http GET \"/x\" => allowed",
        "a -> b:80 http DELETE /x?y=1 ttl 3 => dropped",
        "a -> service web/b:80 => allowed, backend web/c, not snat",
        "a -> service b => dropped no-service, backend none",
        "a -> b:80 choose backend web/c with conntrack established => allowed, backend pod c:8080, encrypted",
        "a -> b:80 with conntrack reply choose backend pod c => allowed, snat 10.0.0.1, not encrypted",
        "health n -> health of m:80 => allowed, snat fd00::1",
        "a -> b => allowed, arrives from 10.0.0.1, arrives at 10.0.0.2:80",
        "a -> b => allowed, arrives from [fd00::1]:80, arrives at fd00::2, not snat",
        "a -> node n:30080/tcp => allowed at egress of node n",
        "health -> b => allowed",
    ];
    accepted(&flows.map(test));
    let steps = [
        "wait 61s",
        "wait 2m",
        "wait 1h",
        "reply",
        "reply => allowed",
        "send ack => allowed",
        "reply syn-ack ttl 3 => dropped",
        "reply icmp 3/3 quoting last => allowed, conntrack related",
        "policy web/p {\n  select {}\n  allow ingress\n }",
        "remove policy web/p",
        "reply -> b:80 => allowed",
        "a -> b:80",
    ];
    accepted(&steps.map(dialogue));
}

#[test]
fn a_name_ends_in_a_letter_or_digit() {
    for (text, source, target) in [
        ("a->b:80", "a", "b"),
        ("web/a.b-c->web/d_e:80", "web/a.b-c", "web/d_e"),
        ("pods -> on:80", "pods", "on"),
        ("podx -> node.y:80", "podx", "node.y"),
        ("world-a -> world:80", "world-a", "world"),
        ("7 -> 1.2.3:80", "7", "1.2.3"),
        ("a.-> b:80", "", ""),
        ("a --> b:80", "", ""),
        ("a- -> b:80", "", ""),
    ] {
        let read = question(text, FileId(0));
        let names = read.map(|q| (q.source.kind, q.target.party.kind));
        let bare = |name: &str| PartyKind::Bare(value::qualify(name));
        match names {
            Ok(names) => assert_eq!(names, (bare(source), bare(target)), "{text}"),
            Err(problems) => assert_eq!(source, "", "{text}: {problems:?}"),
        }
    }
}

#[test]
fn addresses_come_before_names() {
    for (text, address, port) in [
        ("a -> 10.0.0.1:80", "10.0.0.1", true),
        ("a -> 10.0.0.1", "10.0.0.1", false),
        ("a -> [fd00::1]:80", "fd00::1", true),
        ("a -> [fd00::1]", "fd00::1", false),
        ("a -> fd00::1:80", "fd00::1:80", false),
        ("a -> ::1", "::1", false),
        ("a -> ::ffff:10.0.0.1", "::ffff:10.0.0.1", false),
    ] {
        let read = question(text, FileId(0)).expect("the question is read");
        let address = address.parse().expect("an address");
        assert_eq!(read.target.party.kind, PartyKind::Address(address), "{text}");
        assert_eq!(read.target.port.is_some(), port, "{text}");
    }
    // A name may look like the beginning of an address.
    let read = question("a -> 10.0.0.1.example:80", FileId(0)).expect("the question is read");
    assert_eq!(read.target.party.kind, PartyKind::Bare(value::qualify("10.0.0.1.example")));
}

#[test]
fn spans_cover_what_they_name() {
    let text = policy("allow ingress as a from pods { x = \"y\" } on 80/tcp  # why");
    let (ast, _) = read(&text);
    let at = |span: Span| &text[span.start as usize..span.end as usize];
    let ItemKind::Policy(policy) = &ast.items[0].kind else { panic!("a policy") };
    assert_eq!(at(policy.head), "policy web/echo");
    assert_eq!(at(policy.span), text.trim_end());
    let PolicyLine::Rule(rule) = &policy.lines[0].node else { panic!("a rule") };
    assert_eq!(at(policy.lines[0].span), "allow ingress as a from pods { x = \"y\" } on 80/tcp");
    assert_eq!(at(rule.peers.as_ref().expect("peers").span), "from pods { x = \"y\" }");
    assert_eq!(at(rule.ports.as_ref().expect("ports")[0].span), "80/tcp");
    assert_eq!(at(ast.comments[0].span), "# why");
    let flow = test("a -> b:http/udp ttl 3 => dropped at ingress of b, ttl 2");
    let (ast, _) = read(&flow);
    let at = |span: Span| &flow[span.start as usize..span.end as usize];
    let ItemKind::Test(suite) = &ast.items[0].kind else { panic!("a test") };
    let TestLine::Flow(case) = &suite.lines[0].node else { panic!("a flow") };
    let (question, wanted) = (&case.question, case.expectation.as_ref().expect("one"));
    assert_eq!(at(question.span), "a -> b:http/udp ttl 3");
    assert_eq!(at(question.target.port.as_ref().expect("a port").span), "http");
    assert_eq!(at(question.target.protocol.as_ref().expect("a protocol").span), "udp");
    assert_eq!(at(question.options[0].span), "ttl 3");
    assert_eq!(at(wanted.span), "dropped at ingress of b, ttl 2");
    assert_eq!(at(wanted.place.as_ref().expect("a place").span), "at ingress of b");
}

#[test]
fn what_is_not_built_yet_is_named() {
    let whole = [
        ("deploy web/a { }", "`deploy`"),
        ("statefulset web/a { }", "`statefulset`"),
        ("daemonset web/a { }", "`daemonset`"),
        ("cidr-group a { 10.0.0.0/8 }", "`cidr-group`"),
        ("verify \"v\" { never world -> pods {} }", "`verify`"),
        ("dns a \"b\"", "`dns`"),
        ("enforcement always", "`enforcement`"),
        ("cluster c { enforcement always }", "`enforcement`"),
        ("pod web/a on n { ip 10.0.0.1 service-account x }", "`service-account`"),
        ("identity 300 { namespace web service-account x labels {} }", "`service-account`"),
        ("policy web/a in tier admin {\n}", "a tier or priority"),
        ("policy web/a in tier admin priority 10 {\n}", "a tier or priority"),
        ("policy web/a priority 10 {\n}", "a tier or priority"),
    ];
    let lines = [
        ("audit", "`audit`"),
        ("auth required", "`auth`"),
        ("dialect kubernetes", "`dialect`"),
        ("tier admin", "`tier`"),
        ("priority 10", "`priority`"),
        ("pass ingress", "`pass`"),
        ("allow ingress from service-accounts a", "a `service-accounts` peer"),
        ("allow ingress from service-account web/a", "a `service-account` peer"),
        ("allow egress to services { a = b }", "a `services` peer"),
        ("allow egress to cidr-group a", "a `cidr-group` peer"),
        ("allow egress to nodes { a = b }", "a `nodes` peer"),
        ("allow egress to node a", "a `node` peer"),
        ("allow ingress from labels { a = b } in namespace web", "a `labels` peer"),
        ("allow ingress on 80/tcp { http GET path = \"/\" }", "an L7 `http` block"),
        ("allow egress on 53/udp { dns \"*.a\" }", "an L7 `dns` block"),
        ("allow egress on 443/tcp { sni \"a\" }", "an L7 `sni` block"),
        ("allow ingress on 80/tcp {}", "an L7 block"),
        ("allow ingress audit", "`audit`"),
        ("allow ingress on 80 auth required", "`auth`"),
    ];
    let flows = [
        ("never a -> b", "`never`"),
        ("deploy web/a -> b:80 => allowed", "a `deploy` as an endpoint"),
        ("statefulset web/a -> b:80 => allowed", "a `statefulset` as an endpoint"),
        ("daemonset a -> b:80 => allowed", "a `daemonset` as an endpoint"),
        ("labels { a = b } in web -> b:80 => allowed", "a `labels` as an endpoint"),
        ("a -> b:443 sni \"x\" => allowed", "`sni` in a question"),
        ("a -> b:80 => rejected", "`rejected`"),
        ("a -> b:80 => rejected 403 by web/p#r", "`rejected`"),
        ("a -> b:80 => allowed, proxied", "`proxied` in an expectation"),
        ("a -> b:80 => allowed, reply rejected", "`rejected`"),
    ];
    let whole = whole.map(|(text, what)| (text.to_owned(), what));
    let lines = lines.map(|(line, what)| (policy(line), what));
    let flows = flows.map(|(line, what)| (test(line), what));
    for (text, what) in whole.into_iter().chain(lines).chain(flows) {
        let expected = format!("HW0005 {what} is not supported yet");
        assert_eq!(read(&text).1, [expected], "of\n{text}");
    }
}

mod garbage;
mod refused;
