//! What cannot be read, and what is said about it.

use super::{dialogue, policy, test};
use crate::parse::*;

fn said(diagnostic: &Diagnostic, text: &str) -> String {
    let span = diagnostic.span();
    let at = text.get(span.start as usize..span.end as usize).unwrap_or("?");
    format!("{} {} at [{at}]", diagnostic.code, diagnostic.message)
}

/// Whole texts, and what is said.
const WHOLE: &[(&str, &str)] = &[
    ("policy web/a {\n} x", "HW0001 unexpected text behind the block at [x]"),
    ("policy web/a", "HW0001 this block has no body, expected `{` at [a]"),
    ("policy web/a- {\n}", "HW0001 unexpected `-` at [-]"),
    ("polcy web/a {\n}", "HW0006 no statement begins with `polcy` at [polcy]"),
    ("? web", "HW0006 no statement begins with `?` at [?]"),
    ("namespace web { labels { a = } }", "HW0001 unexpected `}`, expected a value at [}]"),
    (
        "namespace web { label { a = b } }",
        "HW0001 unexpected `label`, expected `}` or `labels` at [label]",
    ),
    ("namespace { }", "HW0001 unexpected `{`, expected a name at [{]"),
    ("namespace web", "HW0001 this statement ends too early, expected `{` at [b]"),
    ("pod web/a { ip 10.0.0.1 }", "HW0001 unexpected `{`, expected `on` at [{]"),
    ("pod web/a on n { ip 10.0.0.256 }", "HW0007 `10.0.0.256` is not an address at [10.0.0.256]"),
    ("pod web/a on n { ip 10.0.0 }", "HW0001 unexpected `10.0.0`, expected an address at [10.0.0]"),
    (
        "pod web/a on n { ip 10.0.0.1; host-network }",
        "HW0001 unexpected `;`, expected `}`, `,`, `ip`, `labels`, `port`, `mac`, `host-mac`, `interface`, `ifindex`, `endpoint`, `host-network`, `not-ready` or `terminating` at [;]",
    ),
    (
        "pod web/a on n { ip 10.0.0.1, labels { a = b } }",
        "HW0001 unexpected `labels`, expected an address at [labels]",
    ),
    ("pod web/a on n { ip 10.0.0.1 port http 0/tcp }", "HW0008 `0` is not a port at [0]"),
    (
        "pod web/a on n { ip 10.0.0.1 port http 80/icmp }",
        "HW0009 `icmp` is not a protocol with ports at [icmp]",
    ),
    (
        "pod web/a on n { mac 02:16:7A:1D:0C }",
        "HW0001 unexpected `02:16:7A:1D:0C`, expected an Ethernet address at [02:16:7A:1D:0C]",
    ),
    ("pod web/a on n { endpoint 65536 }", "HW0008 `65536` is not an endpoint id at [65536]"),
    ("node n { pods 10.0.0.0/33 }", "HW0007 `10.0.0.0/33` is not a prefix at [10.0.0.0/33]"),
    ("node n { pods fd00::/129 }", "HW0007 `fd00::/129` is not a prefix at [fd00::/129]"),
    ("node n { ip 1.2.3.04 }", "HW0007 `1.2.3.04` is not an address at [1.2.3.04]"),
    ("cluster c { tunnel vxlan port 70000 }", "HW0008 `70000` is not a port at [70000]"),
    (
        "cluster c { node n { ip 10.0.0.1 } nod m {} }",
        "HW0001 unexpected `nod`, expected `}`, `like`, `tunnel`, `host-routing`, `native-cidr`, `masquerade`, `balance`, `host-firewall`, `prefilter`, `encryption` or `node` at [nod]",
    ),
    (
        "external e { ip 1:2:3:4:5:6:7:8:9 }",
        "HW0007 `1:2:3:4:5:6:7:8:9` is not an address at [1:2:3:4:5:6:7:8:9]",
    ),
    (
        "cluster c {\n  encryption ipsec\n  node n { ip 10.0.0.1 }\n}",
        "HW0001 `ipsec` is incomplete, expected `key` at [ipsec]",
    ),
    (
        "cluster c { encryption\n}",
        "HW0001 `encryption` is incomplete, expected `ipsec` or `wireguard` at [encryption]",
    ),
    (
        "cluster c {\n  host-firewall\n  node n { ip 10.0.0.1 }\n}",
        "HW0001 `host-firewall` is incomplete, expected `off` or `on` at [host-firewall]",
    ),
    (
        "cluster c { host-routing node n { ip 10.0.0.1 } }",
        "HW0001 unexpected `node`, expected `bpf` or `stack` at [node]",
    ),
    ("alias A web/a", "HW0001 unexpected `web/a`, expected `=` at [web/a]"),
    ("include a.hop", "HW0001 unexpected `a.hop`, expected a string in quotes at [a.hop]"),
    ("identity x { }", "HW0001 unexpected `x`, expected a number at [x]"),
    ("identity 99999999999 { }", "HW0008 `99999999999` is not an identity at [99999999999]"),
    (
        "namespace web { labels { a = \"b } }",
        "HW0004 this string has no closing quote at [\"b } }]",
    ),
    ("namespace web { labels { a = b }", "HW0002 this `{` is never closed at [{]"),
    ("namespace web {} }", "HW0003 this `}` closes nothing at [}]"),
    ("host-firewall on", "HW0006 no statement begins with `host-firewall` at [host-firewall]"),
    (
        "cluster c { tunnel none port 5 }",
        "HW0001 unexpected `port`, expected `}`, `like`, `tunnel`, `host-routing`, `native-cidr`, `masquerade`, `balance`, `host-firewall`, `prefilter`, `encryption` or `node` at [port]",
    ),
    (
        "cluster c { host-routing kernel }",
        "HW0001 unexpected `kernel`, expected `bpf` or `stack` at [kernel]",
    ),
    ("cluster c { encryption ipsec }", "HW0001 unexpected `}`, expected `key` at [}]"),
    (
        "cluster c { encryption ipsec key 16 }",
        "HW0008 `16` is not the index of an IPsec key at [16]",
    ),
    ("cluster c { masquerade on ports 1-70000 }", "HW0008 `70000` is not a port at [70000]"),
    (
        "cluster c { masquerade on ports 5 }",
        "HW0001 unexpected `5`, expected a range such as `32768-60999` at [5]",
    ),
    (
        "service web/a { cluster-ip 10.0.0.1 port http }",
        "HW0001 unexpected `}`, expected a port such as `80/tcp` at [}]",
    ),
    (
        "service web/a { cluster-ip 10.0.0.1 port 80 -> }",
        "HW0001 unexpected `}`, expected a name or a number at [}]",
    ),
    ("service web/a { port 80 -> 0 }", "HW0008 `0` is not a port at [0]"),
    ("service web/a { port 80 node-port 0 }", "HW0008 `0` is not a port at [0]"),
    ("service web/a { port 80/icmp }", "HW0009 `icmp` is not a protocol with ports at [icmp]"),
    (
        "service web/a { affinity client-ip timeout 25h }",
        "HW0008 `25h` is not a timeout of affinity at [25h]",
    ),
    (
        "service web/a { affinity cookie }",
        "HW0001 unexpected `cookie`, expected `client-ip` at [cookie]",
    ),
    (
        "service web/a { balance fair }",
        "HW0001 unexpected `fair`, expected `maglev` or `random` at [fair]",
    ),
    (
        "service web/a { internal-traffic remote }",
        "HW0001 unexpected `remote`, expected `cluster` or `local` at [remote]",
    ),
    (
        "service web/a { cluster-ip 0.0.0.0 }",
        "HW0007 `0.0.0.0` cannot be the address of one party at [0.0.0.0]",
    ),
    (
        "service web/a { type = x }",
        "HW0001 unexpected `type`, expected `}`, `cluster-ip`, `port`, `select`, `external-ip`, `load-balancer-ip`, `affinity`, `balance`, `source-ranges`, `internal-traffic` or `external-traffic` at [type]",
    ),
];

/// Lines of a policy, and what is said.
const LINES: &[(&str, &str)] = &[
    (
        "alow ingress",
        "HW0001 unexpected `alow`, expected `select`, `allow`, `deny`, `default-deny`, `owner` or `because` at [alow]",
    ),
    (
        "allow ingres on 80",
        "HW0001 unexpected `ingres`, expected `ingress` or `egress` at [ingres]",
    ),
    ("allow", "HW0001 this line of a policy ends too early, expected `ingress` or `egress` at [w]"),
    (
        "allow ingress form pods {}",
        "HW0001 unexpected `form`, expected `as`, `on`, `owner`, `because`, `from` or `to` at [form]",
    ),
    (
        "allow ingress from pod { a = b }",
        "HW0001 unexpected `pod`, expected `none`, `pods`, `cidr`, `entities`, `service` or `dns` at [pod]",
    ),
    (
        "allow ingress from pods { a b }",
        "HW0001 unexpected `b`, expected `}`, `,` or a condition such as `= \"value\"` at [b]",
    ),
    (
        "allow ingress from pods { a = b c = d }",
        "HW0001 unexpected `c`, expected `}` or `,` at [c]",
    ),
    (
        "allow ingress from pods {} in namespce web",
        "HW0001 unexpected `namespce`, expected `any`, `namespace` or `namespaces` at [namespce]",
    ),
    (
        "allow ingress from pods {} in namespace { a = b }",
        "HW0001 unexpected `{`, expected a name at [{]",
    ),
    (
        "allow ingress from 10.0.0.0/8",
        "HW0001 unexpected `10.0.0.0/8`, expected `none`, `pods`, `cidr`, `entities`, `service` or `dns` at [10.0.0.0/8]",
    ),
    (
        "allow ingress from cidr 10.0.0.0/8 exept 10.1.0.0/16",
        "HW0001 unexpected `exept`, expected `,`, `except`, `on`, `owner` or `because` at [exept]",
    ),
    (
        "allow ingress from cidr web",
        "HW0001 unexpected `web`, expected a prefix such as `10.0.0.0/8` at [web]",
    ),
    (
        "allow ingress from entities",
        "HW0001 this line of a policy ends too early, expected a name at [s]",
    ),
    (
        "allow ingress from world",
        "HW0001 unexpected `world`, expected `none`, `pods`, `cidr`, `entities`, `service` or `dns` at [world]",
    ),
    (
        "allow ingress on",
        "HW0001 this line of a policy ends too early, expected `port` or a port at [n]",
    ),
    ("allow ingress on 80/tpc", "HW0009 `tpc` is not a protocol with ports at [tpc]"),
    ("allow ingress on 80/icmp", "HW0009 `icmp` is not a protocol with ports at [icmp]"),
    ("allow ingress on 65536/tcp", "HW0008 `65536` is not a port at [65536]"),
    (
        "allow ingress on 80 81",
        "HW0001 unexpected `81`, expected `{`, `,`, `owner` or `because` at [81]",
    ),
    (
        "allow ingress on 80 from pods {}",
        "HW0001 unexpected `from`, expected `{`, `,`, `owner` or `because` at [from]",
    ),
    ("allow ingress owner \"a\" owner \"b\"", "HW0101 `owner` is given twice at [owner \"b\"]"),
    (
        "default-deny",
        "HW0001 this line of a policy ends too early, expected `off`, `ingress` or `egress` at [y]",
    ),
    (
        "default-deny both",
        "HW0001 unexpected `both`, expected `off`, `ingress` or `egress` at [both]",
    ),
    (
        "select",
        "HW0001 this line of a policy ends too early, expected `{`, `nodes` or `pods` at [t]",
    ),
    ("select app = \"x\"", "HW0001 unexpected `app`, expected `{`, `nodes` or `pods` at [app]"),
    ("owner me", "HW0001 unexpected `me`, expected a string in quotes at [me]"),
];

/// Lines of a test, and what is said.
const FLOWS: &[(&str, &str)] = &[
    (
        "a -> b:80 => alowed",
        "HW0001 unexpected `alowed`, expected `allowed`, `dropped` or `undecided` at [alowed]",
    ),
    (
        "a -> b:80 => allow",
        "HW0001 unexpected `allow`, expected `allowed`, `dropped` or `undecided` at [allow]",
    ),
    (
        "a -> b:80 => dropped default-denied",
        "HW0131 `default-denied` is not a drop reason at [default-denied]",
    ),
    (
        "a -> b:80 => allowed default-deny",
        "HW0131 `default-deny` cannot follow `allowed` at [default-deny]",
    ),
    ("a -> b:80 => dropped 999", "HW0131 `999` is not a drop reason at [999]"),
    ("a -> b:80 => allowed, conntrack nwe", "HW0131 `nwe` is not a conntrack state at [nwe]"),
    ("a -> b:80 => allowed, implied x", "HW0131 `x` is not an implied decision at [x]"),
    (
        "a -> b:80 => allowed, ingress open",
        "HW0131 `open` is not the outcome of a direction at [open]",
    ),
    (
        "a -> b:80 => allowed conntrack new",
        "HW0001 unexpected `conntrack`, expected `,`, `at`, `by` or a reason at [conntrack]",
    ),
    (
        "a -> b:80 => allowed, tunnelled",
        "HW0001 unexpected `tunnelled`, expected `conntrack`, `tunneled`, `tunnel`, `not`, `by`, `implied`, `identity`, `ingress`, `egress`, `reply`, `ttl`, `backend`, `snat`, `encrypted` or `arrives` at [tunnelled]",
    ),
    ("a => b:80", "HW0001 unexpected `=>`, expected `->` at [=>]"),
    ("a - b:80 => allowed", "HW0001 unexpected `-`, expected `->` at [-]"),
    ("a -> b:70000 => allowed", "HW0008 `70000` is not a port at [70000]"),
    ("a -> b:80/tpc => allowed", "HW0009 `tpc` is not a protocol with ports at [tpc]"),
    (
        "a -> b:80 snc => allowed",
        "HW0001 unexpected `snc`, expected `=>` or a packet option at [snc]",
    ),
    ("a -> b:80 http get / => allowed", "HW0001 `get` is not a method of HTTP at [get]"),
    ("a -> b:80 http GET x => allowed", "HW0001 `x` is not a path of HTTP at [x]"),
    ("a -> b:80 http GET \"/a b\" => allowed", "HW0001 `/a b` is not a path of HTTP at [\"/a b\"]"),
    (
        "a -> b:80 flow-label 1048576 => allowed",
        "HW0008 `1048576` is not a flow label at [1048576]",
    ),
    ("a -> b:80 ttl 256 => allowed", "HW0008 `256` is not a TTL at [256]"),
    ("a -> b:80 ttl => allowed", "HW0001 unexpected `=>`, expected a number at [=>]"),
    (
        "a -> b:80 ip-options 010 => allowed",
        "HW0008 `010` has an odd number of hex digits at [010]",
    ),
    (
        "a -> b:80 ip-options 0101010101010101010101010101010101010101010101010101010101010101010101010101010101 => allowed",
        "HW0008 41 bytes of options do not fit an IPv4 header at [0101010101010101010101010101010101010101010101010101010101010101010101010101010101]",
    ),
    (
        "a -> b:80 extensions fragment => allowed",
        "HW0001 unexpected `fragment`, expected `hop-by-hop`, `routing`, `esp`, `authentication`, `no-next-header`, `destination` or `mobility` at [fragment]",
    ),
    ("a -> b:80 hex 0a0 => allowed", "HW0008 `0a0` has an odd number of hex digits at [0a0]"),
    ("a -> b udp fragment offset 7 => allowed", "HW0008 `7` is not a fragment offset at [7]"),
    (
        "a -> b udp fragment => allowed",
        "HW0001 `fragment` without an offset or `more` is a whole packet at [fragment]",
    ),
    ("a -> b icmp 3/256 => allowed", "HW0008 `256` is not an ICMP code at [256]"),
    (
        "a -> fd00::1:http => allowed",
        "HW0001 unexpected `:`, expected `=>`, `:PORT` or a packet option at [:]",
    ),
    (
        "a -> b:80 with => allowed",
        "HW0001 unexpected `=>`, expected `conntrack` or `reply` at [=>]",
    ),
    (
        "a -> b:80 choose web/c => allowed",
        "HW0001 unexpected `web/c`, expected `backend` at [web/c]",
    ),
    (
        "a -> b:80 with conntrack new => allowed",
        "HW0001 unexpected `new`, expected `established` or `reply` at [new]",
    ),
    ("a -> b:80 => allowed, backend c:70000", "HW0008 `70000` is not a port at [70000]"),
    (
        "a -> b:80 => allowed, snat node01",
        "HW0001 unexpected `node01`, expected an address at [node01]",
    ),
    ("diaogue \"x\" {\n}", "HW0001 no line of a test begins with `diaogue` at [diaogue]"),
];

/// Steps of a dialogue, and what is said.
const STEPS: &[(&str, &str)] = &[
    ("wait 61", "HW0001 unexpected `61`, expected a time such as `61s` or `->` at [61]"),
    ("wait 61d", "HW0001 unexpected `61d`, expected a time such as `61s` or `->` at [61d]"),
    ("replay => allowed", "HW0001 no line of a test begins with `replay` at [replay]"),
    (
        "remove web/p",
        "HW0001 unexpected `web/p`, expected `->`, `pod`, `policy` or `service` at [web/p]",
    ),
    ("remove policy", "HW0001 this step ends too early, expected a name at [y]"),
];

#[test]
fn what_cannot_be_read_is_explained() {
    let whole = WHOLE.iter().map(|(text, expected)| ((*text).to_owned(), *expected));
    let lines = LINES.iter().map(|(line, expected)| (policy(line), *expected));
    let flows = FLOWS.iter().map(|(line, expected)| (test(line), *expected));
    let steps = STEPS.iter().map(|(line, expected)| (dialogue(line), *expected));
    for (text, expected) in whole.chain(lines).chain(flows).chain(steps) {
        let said: Vec<String> = file(&text, FileId(0)).1.iter().map(|d| said(d, &text)).collect();
        assert_eq!(said, [expected], "of\n{text}");
    }
}

/// Packets at a hook, and what is said.
const PACKETS: &[(&str, &str)] = &[
    ("n from-netdev hex 0a0", "HW0008 `0a0` has an odd number of hex digits at [0a0]"),
    (
        "n from-netdev",
        "HW0001 this packet ends too early, expected `on`, `vni`, `mark`, `hex`, `pcap`, `eth`, `ipv4`, `ipv6`, `tcp`, `udp`, `sctp`, `icmp`, `icmpv6` or `payload` at [v]",
    ),
    ("n from-netdev pcap x.pcap", "HW0001 this packet ends too early, expected `number` at [p]"),
    ("n from-netdev pcap x.pcap number 0", "HW0008 `0` is not the number of a packet at [0]"),
    (
        "n from-overlay vni 16777216 from 10.0.0.1 hex 00",
        "HW0008 `16777216` is not a VNI at [16777216]",
    ),
    ("n from-overlay mark 1 mark 2 hex 00", "HW0101 `mark` is given twice at [mark 2]"),
    (
        "n from-netdev ipv4 fd00::1 > 10.0.0.1",
        "HW0007 `fd00::1` is no address of an `ipv4` layer at [fd00::1]",
    ),
    ("n from-netdev ipv6 fd00::1 > fd00::2 df", "HW0204 IPv6 has no `df` at [df]"),
    (
        "n from-netdev ipv6 fd00::1 > fd00::2 id 3",
        "HW0204 IPv6 has an `id` in fragments only at [id 3]",
    ),
    (
        "n from-netdev ipv4 10.0.0.1 > 10.0.0.2 ttl 1 ttl 2",
        "HW0101 `ttl` is given twice at [ttl 2]",
    ),
    ("n from-netdev tcp 1 > 70000", "HW0008 `70000` is not a port at [70000]"),
    (
        "n from-netdev eth 02:00:00:00:00:01 > 02:00:00:00:00:02 type 0x10000",
        "HW0008 `0x10000` is not an EtherType at [0x10000]",
    ),
    (
        "n from-netdev tcp 1 > 2 / upd 3 > 4",
        "HW0001 unexpected `upd`, expected `eth`, `ipv4`, `ipv6`, `tcp`, `udp`, `sctp`, `icmp`, `icmpv6`, `vxlan`, `geneve`, `payload` or `hex` at [upd]",
    ),
];

#[test]
fn packets_at_a_hook_that_cannot_be_read_are_explained() {
    for (text, expected) in PACKETS {
        let problems = crate::command::parse_raw(text, FileId(0)).err().unwrap_or_default();
        let said: Vec<String> = problems.iter().map(|d| said(d, text)).collect();
        assert_eq!(said, [*expected], "of\n{text}");
    }
}

#[test]
fn one_run_reports_several_errors() {
    let text = "namespace web { label {} }\npolicy web/a {\n  alow ingress\n  select {}\n  deny egress on 80/tpc\n}\npod web/a on n { ip 10.0.0.256 }\nnamespace ok {}\n";
    let (ast, diagnostics) = file(text, FileId(0));
    let codes: Vec<String> = diagnostics.iter().map(|d| d.code.to_string()).collect();
    assert_eq!(codes, ["HW0001", "HW0001", "HW0009", "HW0007"]);
    assert_eq!(ast.failed.len(), 3, "what failed is known by name: {:?}", ast.failed);
    assert_eq!(ast.items.len(), 2, "the policy in part, and what is whole");
}
