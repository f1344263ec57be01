//! The parser's failure in words: what was found, what could have stood there, the nearest keyword.

use std::ops::Range;

use engine::diag::Diagnostic;
use engine::source::Span;
use pest::error::{Error, ErrorVariant, InputLocation};

use super::Rule;
use crate::codes;
use crate::names::nearest;

/// What the message calls the text that an entry rule reads.
fn whole(rule: Rule) -> &'static str {
    match rule {
        Rule::policy_line => "line of a policy",
        Rule::flow_line => "flow",
        Rule::step_line => "step",
        Rule::question_line => "question",
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
    let expected = expected(error);
    let words: Vec<&str> = expected.iter().flat_map(|e| e.words.iter().copied()).collect();
    let mut message = if found.is_empty() {
        format!("this {} ends too early", whole(entry))
    } else {
        format!("unexpected `{found}`")
    };
    let alternatives = alternatives(&expected);
    if !alternatives.is_empty() {
        message = format!("{message}, expected {alternatives}");
    }
    let diagnostic = Diagnostic::error(codes::SYNTAX, message, span);
    match nearest(found, words) {
        Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), span, near),
        None => hint(diagnostic, found, text.get(..at).unwrap_or("")),
    }
}

/// Slips that have a reason of their own.
fn hint(diagnostic: Diagnostic, found: &str, before: &str) -> Diagnostic {
    let after_word = before.ends_with(|c: char| c.is_ascii_alphanumeric());
    match found {
        "-" | "." if after_word => diagnostic.help("a name never ends in `-` or `.`"),
        "#" => diagnostic.help("a comment needs white space before its `#`"),
        "\"" => diagnostic.help("a name here is written without quotes"),
        "," if after_word => diagnostic.help("fields are not separated by commas"),
        _ => diagnostic,
    }
}

/// The word, string or character at a place; empty at the end.
fn found_at(text: &str, at: usize) -> &str {
    let rest = text.get(at..).unwrap_or("");
    let word = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')))
        .unwrap_or(rest.len());
    let word = rest.get(..word).unwrap_or("").trim_end_matches(['-', '.']);
    if !word.is_empty() {
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

/// Something that could have stood there.
struct Expected {
    phrase: String,
    words: Vec<&'static str>,
}

fn expected(error: &Error<Rule>) -> Vec<Expected> {
    let ErrorVariant::ParsingError { positives, .. } = &error.variant else { return Vec::new() };
    let mut expected: Vec<Expected> = Vec::new();
    for &rule in positives {
        let next = describe(rule);
        if !next.phrase.is_empty() && expected.iter().all(|e| e.phrase != next.phrase) {
            expected.push(next);
        }
    }
    expected
}

const MOST_ALTERNATIVES: usize = 8;

fn alternatives(expected: &[Expected]) -> String {
    let mut phrases: Vec<&str> = expected.iter().map(|e| e.phrase.as_str()).collect();
    phrases.truncate(MOST_ALTERNATIVES);
    join(&phrases)
}

/// `a`, `b` or `c`.
pub(super) fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
    join(&quoted.iter().map(String::as_str).collect::<Vec<_>>())
}

fn join(phrases: &[&str]) -> String {
    match phrases {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// The words that can begin a compound part, from which the message and the suggestion are made.
const STARTS: &[(Rule, &[&str])] = &[
    (Rule::cluster_field, &["like", "tunnel", "node"]),
    (Rule::node_field, &["ip", "pods", "local", "device", "mac"]),
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
        ],
    ),
    (Rule::external_field, &["ip"]),
    (Rule::identity_field, &["namespace", "labels"]),
    (Rule::policy_field, &["owner", "because", "select", "default-deny"]),
    (Rule::policy_rule, &["allow", "deny"]),
    (Rule::action, &["allow", "deny"]),
    (Rule::direction, &["ingress", "egress"]),
    (Rule::rule_name, &["as"]),
    (Rule::peers, &["from", "to"]),
    (Rule::peer, &["pods", "cidr", "entities"]),
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
    (Rule::wait, &["wait"]),
    (Rule::remove_policy, &["remove"]),
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
        ],
    ),
];

/// Option words, for suggestions only: there are too many to list in a message.
const OPTIONS: &[&str] = &[
    "syn",
    "syn-ack",
    "ack",
    "fin",
    "rst",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmpv6",
    "id",
    "seq",
    "ip-id",
    "df",
    "length",
    "ttl",
    "from-port",
    "from-ip",
    "payload",
    "hex",
    "fragment",
    "ip4",
    "ip6",
    "quoting",
    "with",
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
    (Rule::address, "an address"),
    (Rule::address_list, "an address"),
    (Rule::ip6, "an IPv6 address"),
    (Rule::cidr, "a prefix such as `10.0.0.0/8`"),
    (Rule::cidr_list, "a prefix such as `10.0.0.0/8`"),
    (Rule::mac, "an Ethernet address"),
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
    (Rule::condition, "a condition"),
    (Rule::rule_port, "a port"),
    (Rule::port_number, "a port such as `80/tcp`"),
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

fn describe(rule: Rule) -> Expected {
    if let Some((_, words)) = STARTS.iter().find(|(known, _)| *known == rule) {
        return Expected { phrase: list(words), words: words.to_vec() };
    }
    if let Some((_, phrase)) = PHRASES.iter().find(|(known, _)| *known == rule) {
        let words = if rule == Rule::packet_option { OPTIONS.to_vec() } else { Vec::new() };
        return Expected { phrase: (*phrase).to_owned(), words };
    }
    keyword(rule)
}

/// A keyword's rule is named after its word; other rules are not worth a mention.
fn keyword(rule: Rule) -> Expected {
    let word = KEYWORDS.iter().find(|(known, _)| *known == rule).map(|(_, word)| *word);
    match word {
        Some(word) => Expected { phrase: format!("`{word}`"), words: vec![word] },
        None => Expected { phrase: String::new(), words: Vec::new() },
    }
}

const KEYWORDS: &[(Rule, &str)] = &[
    (Rule::k_on, "on"),
    (Rule::k_in, "in"),
    (Rule::k_policy, "policy"),
    (Rule::k_namespace, "namespace"),
    (Rule::k_namespaces, "namespaces"),
    (Rule::k_any, "any"),
    (Rule::k_none, "none"),
    (Rule::k_off, "off"),
    (Rule::k_pods, "pods"),
    (Rule::k_reply, "reply"),
    (Rule::k_last, "last"),
    (Rule::k_more, "more"),
    (Rule::k_offset, "offset"),
    (Rule::k_tunneled, "tunneled"),
    (Rule::k_ingress, "ingress"),
    (Rule::k_egress, "egress"),
    (Rule::k_host_network, "host-network"),
];
