//! The parser's failure in words: what was found, what could have stood there, the nearest keyword.

use std::ops::Range;

use engine::diag::Diagnostic;
use engine::source::Span;
use pest::error::{Error, ErrorVariant, InputLocation};

use super::Rule;

use crate::codes;
use crate::names::nearest;

mod hints;

/// What the message calls the text that an entry rule reads.
fn whole(rule: Rule) -> &'static str {
    match rule {
        Rule::policy_line => "line of a policy",
        Rule::flow_line => "flow",
        Rule::step_line => "step",
        Rule::question_line => "question",
        Rule::raw_line => "packet",
        Rule::party_line => "name of a pod, a node or the outside",
        Rule::policy_head | Rule::test_head | Rule::dialogue_head => "head of the block",
        _ => "statement",
    }
}

/// The diagnostic of a failed parse of `text`; `place` turns its offsets into spans.
pub(super) fn diagnostic(
    error: &Error<Rule>,
    text: &str,
    entry: Rule,
    place: impl Fn(Range<usize>) -> Span,
) -> Diagnostic {
    let at = match error.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
    };
    let found = found_at(text, at);
    let span = place(if found.is_empty() { last_character(text) } else { at..at + found.len() });
    let expected = Expected::of(error);
    if let Some(cut) = cut_short(text, at, found, &expected) {
        let message =
            format!("`{}` is incomplete, expected {}", &text[cut.clone()], join(&expected.phrases));
        return Diagnostic::error(codes::SYNTAX, message, place(cut));
    }
    let ends_statement = expected.is_over && whole(entry) == "statement";
    if ends_statement && super::begins_statement(found) {
        return second(found, "statement", span);
    }
    let mut message = if found.is_empty() {
        format!("this {} ends too early", whole(entry))
    } else {
        format!("unexpected `{found}`")
    };
    if !expected.phrases.is_empty() {
        message = format!("{message}, expected {}", join(&expected.phrases));
    } else if ends_statement {
        message = format!("{message} behind the statement");
    }
    let diagnostic = Diagnostic::error(codes::SYNTAX, message, span);
    match nearest(found, expected.words.iter().map(String::as_str)) {
        Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), span, near),
        None => {
            let (before, expected) = (text.get(..at).unwrap_or(""), &expected);
            hints::hint(diagnostic, &hints::Place { found, before, expected, ends_statement, span })
        }
    }
}

/// The last word of a field that lacks what the grammar wants behind it, where the next line begins another field.
fn cut_short(text: &str, at: usize, found: &str, expected: &Expected) -> Option<Range<usize>> {
    let between = |before: &str| text.get(before.len()..at).is_some_and(|gap| gap.contains('\n'));
    let before = text.get(..at)?.trim_end();
    let begins_field = found == "}" || FIELDS.iter().any(|rule| words(*rule).contains(&found));
    let may_be_over = expected.is_over || expected.phrases.iter().any(|phrase| phrase == "`}`");
    if !begins_field || may_be_over || expected.phrases.is_empty() || !between(before) {
        return None;
    }
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let word = before.rsplit(|c: char| !inside(c)).next().filter(|word| !word.is_empty())?;
    Some(before.len() - word.len()..before.len())
}

/// Compound parts that are fields of a block.
const FIELDS: &[Rule] = &[
    Rule::cluster_field,
    Rule::node_field,
    Rule::service_field,
    Rule::pod_field,
    Rule::external_field,
    Rule::identity_field,
];

/// A second one on the line of another.
fn second(word: &str, what: &str, span: Span) -> Diagnostic {
    let message = format!("unexpected `{word}` behind the end of a {what}");
    Diagnostic::error(codes::SYNTAX, message, span)
        .help(format!("a {what} ends with its line: begin a new one before `{word}`"))
}

/// What follows a block on the line that closes it; `head` is the rule of the block's head.
pub(super) fn behind_block(
    behind: &str,
    head: Rule,
    place: impl Fn(Range<usize>) -> Span,
) -> Diagnostic {
    let word = super::first_word(behind);
    let what = if head == Rule::dialogue_head { "dialogue" } else { "statement" };
    let begins = match head {
        Rule::dialogue_head => !word.is_empty(),
        _ => super::begins_statement(word),
    };
    if begins {
        return second(word, what, place(0..word.len()));
    }
    let message = "unexpected text behind the block";
    Diagnostic::error(codes::SYNTAX, message, place(0..behind.len())).help("begin a new line")
}

/// The word, string or character at a place; empty at the end.
fn found_at(text: &str, at: usize) -> &str {
    let rest = text.get(at..).unwrap_or("");
    if let Some(sign) = ["=>", "->", "=="].into_iter().find(|sign| rest.starts_with(sign)) {
        return rest.get(..sign.len()).unwrap_or("");
    }
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':');
    let word = rest.find(|c: char| !inside(c)).unwrap_or(rest.len());
    // `a->b` is three words.
    let word = rest.get(..word).unwrap_or("").trim_end_matches(['-', '.', ':']);
    if !word.is_empty() && !word.starts_with(['-', '.', '/', ':']) {
        return word;
    }
    let first = rest.chars().next().map_or(0, char::len_utf8);
    rest.get(..first).unwrap_or("")
}

fn last_character(text: &str) -> Range<usize> {
    let end = text.trim_end().len();
    let last = text.get(..end).and_then(|t| t.chars().next_back()).map_or(0, char::len_utf8);
    end - last..end
}

/// What could have stood there.
#[derive(Default)]
struct Expected {
    /// As the message lists it.
    phrases: Vec<String>,
    /// The keywords among it, and some that are too many to list.
    words: Vec<String>,
    /// The text could have ended there.
    is_over: bool,
}

impl Expected {
    fn of(error: &Error<Rule>) -> Self {
        let mut expected = Self::default();
        let ErrorVariant::ParsingError { positives, .. } = &error.variant else { return expected };
        for &rule in positives {
            expected.add(rule);
        }
        expected.is_over = positives.contains(&Rule::EOI);
        expected.phrases.truncate(MOST_ALTERNATIVES);
        expected
    }

    fn add(&mut self, rule: Rule) {
        if let Some((_, words)) = STARTS.iter().find(|(known, _)| *known == rule) {
            words.iter().for_each(|word| self.word(word));
        } else if let Some((_, phrase)) = PHRASES.iter().find(|(known, _)| *known == rule) {
            self.phrase((*phrase).to_owned());
        } else if let Some(word) = keyword(rule) {
            self.word(&word);
        }
        if rule == Rule::packet_option {
            self.words.extend(OPTIONS.iter().map(|word| (*word).to_owned()));
        }
    }

    fn word(&mut self, word: &str) {
        self.words.push(word.to_owned());
        self.phrase(format!("`{word}`"));
    }

    fn phrase(&mut self, phrase: String) {
        if !self.phrases.contains(&phrase) {
            self.phrases.push(phrase);
        }
    }
}

const MOST_ALTERNATIVES: usize = 16;

/// The words that can begin a compound part.
pub(super) fn words(rule: Rule) -> &'static [&'static str] {
    STARTS.iter().find(|(known, _)| *known == rule).map_or(&[], |(_, words)| words)
}

/// A keyword's rule is named after its word.
pub(super) fn keyword(rule: Rule) -> Option<String> {
    let name = format!("{rule:?}");
    Some(name.strip_prefix("k_")?.replace('_', "-"))
}

/// `a`, `b` or `c`.
pub(super) fn list(words: &[&str]) -> String {
    join(&words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>())
}

fn join(phrases: &[String]) -> String {
    match phrases {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// The words that can begin a compound part, from which the message and the suggestion are made.
const STARTS: &[(Rule, &[&str])] = &[
    (
        Rule::cluster_field,
        &[
            "like",
            "tunnel",
            "host-routing",
            "native-cidr",
            "masquerade",
            "balance",
            "host-firewall",
            "prefilter",
            "encryption",
            "node",
        ],
    ),
    (Rule::node_field, &["ip", "pods", "local", "device", "mac", "labels", "health"]),
    (
        Rule::service_field,
        &[
            "cluster-ip",
            "port",
            "select",
            "external-ip",
            "load-balancer-ip",
            "affinity",
            "balance",
            "source-ranges",
            "internal-traffic",
            "external-traffic",
        ],
    ),
    (Rule::target_port, &["->"]),
    (Rule::node_port, &["node-port"]),
    (Rule::affinity_timeout, &["timeout"]),
    (Rule::masquerade_ports, &["ports"]),
    (
        Rule::pod_field,
        &[
            "ip",
            "labels",
            "port",
            "mac",
            "host-mac",
            "interface",
            "ifindex",
            "endpoint",
            "host-network",
            "not-ready",
            "terminating",
        ],
    ),
    (Rule::external_field, &["ip", "dns"]),
    (Rule::dns_ttl, &["ttl"]),
    (Rule::identity_field, &["namespace", "labels"]),
    (Rule::policy_line, &["select", "allow", "deny", "default-deny", "owner", "because"]),
    (Rule::policy_field, &["owner", "because", "select", "default-deny"]),
    (Rule::policy_rule, &["allow", "deny"]),
    (Rule::action, &["allow", "deny"]),
    (Rule::direction, &["ingress", "egress"]),
    (Rule::rule_name, &["as"]),
    (Rule::peers, &["from", "to"]),
    (Rule::peer, &["pods", "cidr", "entities", "service", "dns"]),
    (Rule::scope, &["in"]),
    (Rule::ports, &["on"]),
    (Rule::rule_note, &["owner", "because"]),
    (Rule::excepts, &["except"]),
    (Rule::labels, &["labels"]),
    (Rule::verdict, &["allowed", "dropped", "undecided"]),
    (Rule::place, &["at"]),
    (Rule::place_of, &["of"]),
    (Rule::decided_by, &["by"]),
    (Rule::tunnel_port, &["port"]),
    (Rule::tunnel_device, &["device"]),
    (Rule::follow_up, &["reply", "send"]),
    (
        Rule::extension_name,
        &[
            "hop-by-hop",
            "routing",
            "esp",
            "authentication",
            "no-next-header",
            "destination",
            "mobility",
        ],
    ),
    (Rule::http_method, &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
    (Rule::wait, &["wait"]),
    (
        Rule::raw_hook,
        &[
            "from-container",
            "to-container",
            "from-overlay",
            "to-overlay",
            "from-netdev",
            "to-netdev",
            "from-host",
            "to-host",
            "prefilter",
        ],
    ),
    (Rule::raw_at, &["at"]),
    (Rule::raw_field, &["on", "vni", "mark"]),
    (
        Rule::raw_source,
        &["hex", "pcap", "eth", "ipv4", "ipv6", "tcp", "udp", "sctp", "icmp", "icmpv6", "payload"],
    ),
    (
        Rule::layer,
        &[
            "eth", "ipv4", "ipv6", "tcp", "udp", "sctp", "icmp", "icmpv6", "vxlan", "geneve",
            "payload", "hex",
        ],
    ),
    (Rule::eth_type, &["type"]),
    (
        Rule::ip_field,
        &["ttl", "id", "flow-label", "df", "fragment", "proto", "ip-options", "extensions"],
    ),
    (Rule::remove_policy, &["remove"]),
    (Rule::remove_world, &["remove"]),
    (
        Rule::fact,
        &[
            "conntrack",
            "tunneled",
            "tunnel",
            "not",
            "by",
            "implied",
            "identity",
            "ingress",
            "egress",
            "reply",
            "ttl",
            "backend",
            "snat",
            "encrypted",
            "arrives",
        ],
    ),
];

/// Option words, for suggestions only: there are too many to list in a message.
pub(super) const OPTIONS: &[&str] = &[
    "syn",
    "syn-ack",
    "ack",
    "fin",
    "fin-ack",
    "rst",
    "rst-ack",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmpv6",
    "id",
    "seq",
    "ip-id",
    "flow-label",
    "df",
    "length",
    "ttl",
    "mtu",
    "from-port",
    "from-ip",
    "payload",
    "hex",
    "http",
    "fragment",
    "ip-options",
    "extensions",
    "ip4",
    "ip6",
    "quoting",
    "with",
    "choose",
];

/// Parts that a phrase names better than their words.
const PHRASES: &[(Rule, &str)] = &[
    (Rule::packet_option, "a packet option"),
    (Rule::name, "a name"),
    (Rule::qualified, "a name"),
    (Rule::label_key, "a label"),
    (Rule::label, "a label"),
    (Rule::requirement, "a label"),
    (Rule::label_value, "a value"),
    (Rule::number, "a number"),
    (Rule::duration, "a time such as `61s`"),
    (Rule::string, "a string in quotes"),
    (Rule::hex_bytes, "hex digits"),
    (Rule::http_path, "a path such as `/api`"),
    (Rule::address, "an address"),
    (Rule::address_list, "an address"),
    (Rule::ip6, "an IPv6 address"),
    (Rule::cidr, "a prefix such as `10.0.0.0/8`"),
    (Rule::cidr_list, "a prefix such as `10.0.0.0/8`"),
    (Rule::mac, "an Ethernet address"),
    (Rule::raw_node, "a node"),
    (Rule::raw_layers, "layers such as `eth ... / ipv4 ... / tcp ...`"),
    (Rule::slash, "`/`"),
    (Rule::greater, "`>`"),
    (Rule::bits, "a number such as `0x0f00`"),
    (Rule::bare_file, "a file"),
    (Rule::tcp_field, "TCP flags or `seq`"),
    (Rule::icmp_field, "`id` or `seq`"),
    (Rule::open, "`{`"),
    (Rule::close, "`}`"),
    (Rule::lparen, "`(`"),
    (Rule::rparen, "`)`"),
    (Rule::comma, "`,`"),
    (Rule::equals, "`=`"),
    (Rule::equality, "`=`"),
    (Rule::arrow, "`->`"),
    (Rule::expects, "`=>`"),
    (Rule::selector, "`{`"),
    (Rule::value_list, "`(`"),
    (Rule::condition, "a condition such as `= \"value\"`"),
    (Rule::rule_port, "a port"),
    (Rule::port_number, "a port such as `80/tcp`"),
    (Rule::port_range, "a range such as `32768-60999`"),
    (Rule::backend_port, "`:PORT`"),
    (Rule::party, "an endpoint"),
    (Rule::target, "an endpoint"),
    (Rule::question, "an endpoint"),
    (Rule::flow, "an endpoint"),
    (Rule::address_party, "an address"),
    (Rule::port_suffix, "`:PORT`"),
    (Rule::icmp_type, "an ICMP type"),
    (Rule::icmp_message, "an ICMP message"),
    (Rule::reason, "a reason"),
    (Rule::handle, "a policy's handle"),
    (Rule::expectation, "a verdict"),
];

#[cfg(test)]
mod tests {
    use engine::source::SourceMap;

    /// What is said about a text, and at what.
    fn check(text: &str, message: &str, at: &str, help: &str) {
        let mut sources = SourceMap::default();
        let file = sources.add("a.hop", text);
        let (_, said) = super::super::file(text, file);
        let [one] = said.as_slice() else { panic!("{text}: {said:#?}") };
        assert_eq!(one.message, message, "{text}");
        assert_eq!(sources.snippet(one.span()), at, "{text}");
        let helps: Vec<&str> = one.helps.iter().map(|help| help.message.as_str()).collect();
        assert_eq!(helps, [help], "{text}");
    }

    #[test]
    fn what_shares_a_line_is_told_to_begin_its_own() {
        for (text, word) in [
            ("namespace a {} namespace b {}", "namespace"),
            ("namespace a {} policy a/x { select {} }", "policy"),
            ("namespace a {} service a/x {}", "service"),
            ("policy a/x { select {} } test \"t\" {}", "test"),
            ("policy a/x { select {} } policy a/y { select {} } test \"t\" {}", "policy"),
            ("test \"{\" {} include \"x\"", "include"),
            ("alias a = b identity 300 {}", "identity"),
            ("include \"x\" external e { ip 1.1.1.1 }", "external"),
            ("pod a/b on n { ip 1.1.1.1 } pod a/c on n {}", "pod"),
        ] {
            let message = format!("unexpected `{word}` behind the end of a statement");
            let help = format!("a statement ends with its line: begin a new one before `{word}`");
            check(text, &message, word, &help);
        }
        let own_line = "a statement ends with its line: begin a new one";
        check("namespace a {} b", "unexpected `b` behind the statement", "b", own_line);
        check(
            "test \"t\" {\n dialogue \"d\" { a -> b => allowed } dialogue \"e\" {}\n}",
            "unexpected `dialogue` behind the end of a dialogue",
            "dialogue",
            "a dialogue ends with its line: begin a new one before `dialogue`",
        );
        check(
            "test \"t\" {\n a -> b => allowed c -> d => dropped\n}",
            "unexpected `->`, expected `,`, `at` or `by`",
            "->",
            "a flow ends with its line: begin a new one",
        );
    }
}
