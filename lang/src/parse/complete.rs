//! What may stand at the cursor of a text of the language: asks the grammar what it expected there, and says it as words
//! and as kinds of names. Knows no name of a pod or a policy; who has them fills them in.

use engine::net::icmp;
use engine::reason::DropReason;
use pest::Parser as _;
use pest::error::{ErrorVariant, InputLocation};

use super::errors::{self, OPTIONS};
use super::grammar::Grammar;
use super::test::{IMPLIED, LEGS, OUTCOMES, STATES};
use super::{Rule, first_word};
use crate::outline::Outline;

/// What may stand at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Words of the language.
    pub words: Vec<String>,
    /// Kinds of names.
    pub names: Vec<NameKind>,
    /// Whether the text may end there.
    pub is_over: bool,
}

/// Names that are not the language's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// Everything that a question may name.
    Party,
    /// Pods.
    Pod,
    /// Services.
    Service,
    /// Nodes.
    Node,
    /// Names of outside addresses.
    External,
    /// Names of the DNS that have known addresses, in quotes.
    DnsName,
    /// Namespaces.
    Namespace,
    /// Policies.
    Policy,
    /// Policies, and rules as `POLICY#RULE`.
    Rule,
    /// Labels as `app = "echo"`.
    Label,
    /// Values of this label.
    LabelValue(String),
    /// Ports by the names that pods give them.
    PortName,
    /// Addresses of nodes.
    NodeAddress,
    /// Addresses of nodes and of pods.
    Address,
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// A question.
    Question,
    /// A question that an expectation may follow.
    Flow,
    /// A packet at a hook, from the word `--at` on.
    Raw,
    /// A statement.
    Statement,
}

/// What the grammar never expects.
const PROBE: char = '\u{1}';

/// Says what may stand behind a text, which ends where the word at the cursor begins. `None` where the text is not
/// understood.
pub fn complete(kind: TextKind, before: &str) -> Option<Offer> {
    let outline = Outline::new(before);
    if !outline.unterminated.is_empty() {
        return None;
    }
    let text = outline.blanked.as_str();
    let mut offer = match kind {
        TextKind::Question => at(Rule::question_line, text),
        TextKind::Flow => at(Rule::flow_line, text),
        TextKind::Raw => at(Rule::raw_line, text),
        TextKind::Statement => statement(text),
    }?;
    offer.words.sort();
    offer.words.dedup();
    Some(offer)
}

fn statement(text: &str) -> Option<Offer> {
    let word = first_word(text);
    let rule = match word {
        "policy" | "clusterwide" => return in_block(text, Rule::policy_head, policy_line),
        "test" => return in_block(text, Rule::test_head, test_line),
        "cluster" => Rule::cluster_statement,
        "node" => Rule::node_statement,
        "namespace" => Rule::namespace_statement,
        "pod" => Rule::pod_statement,
        "service" => Rule::service_statement,
        "external" => Rule::external_statement,
        "identity" => Rule::identity_statement,
        "alias" => Rule::alias_statement,
        _ => return None,
    };
    let mut offer = at(rule, text)?;
    // The new name of a statement is nobody's.
    if !text.contains(['{', '=']) && rule != Rule::pod_statement {
        offer.names.retain(|kind| matches!(kind, NameKind::Service | NameKind::Policy));
    }
    Some(offer)
}

fn policy_line(line: &str) -> Option<Offer> {
    at(Rule::policy_line, line)
}

fn test_line(line: &str) -> Option<Offer> {
    if first_word(line) == "dialogue" {
        return in_block(line, Rule::dialogue_head, step_line);
    }
    if let Some(offer) = hook_line(line) {
        return Some(offer);
    }
    let mut offer = at(Rule::flow_line, line)?;
    if line.trim().is_empty() {
        offer.words.extend(["at", "dialogue"].map(str::to_owned));
    }
    Some(offer)
}

/// A packet at a hook.
fn hook_line(line: &str) -> Option<Offer> {
    let is_one = first_word(line) == "at" && super::test::is_at_hook(line);
    if is_one { at(Rule::at_line, line) } else { None }
}

fn step_line(line: &str) -> Option<Offer> {
    if let Some(offer) = hook_line(line) {
        return Some(offer);
    }
    if matches!(first_word(line), "policy" | "clusterwide") {
        return statement(line);
    }
    // A statement that changes the world, or a flow's sender.
    if matches!(first_word(line), "pod" | "service") && !line.contains("->") {
        return either(statement(line), at(Rule::step_line, line));
    }
    let mut offer = at(Rule::step_line, line)?;
    // They may be names of senders too; that is not what is meant.
    if matches!(line.trim(), "wait" | "remove") {
        offer.words.retain(|word| word != "->");
    }
    if line.trim().is_empty() {
        offer.words.extend(["at", "policy"].map(str::to_owned));
    }
    Some(offer)
}

/// What may stand there in one reading or the other.
fn either(one: Option<Offer>, other: Option<Offer>) -> Option<Offer> {
    let (Some(mut both), Some(other)) = (one.clone(), other.clone()) else { return one.or(other) };
    both.words.extend(other.words);
    both.names
        .extend(other.names.into_iter().filter(|kind| !one.iter().any(|o| o.names.contains(kind))));
    both.is_over |= other.is_over;
    Some(both)
}

/// In the head of a block, or in the last line inside of it.
fn in_block(text: &str, head: Rule, line: fn(&str) -> Option<Offer>) -> Option<Offer> {
    match text.split_once('{') {
        None => {
            let mut offer = at(head, text)?;
            if offer.is_over {
                offer.words.push("{".to_owned());
            }
            Some(offer)
        }
        Some((_, inside)) => line(last_line(inside)),
    }
}

/// The text behind the last line end that no brace of the text holds.
fn last_line(text: &str) -> &str {
    let (mut depth, mut start, mut in_string) = (0_usize, 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => in_string = !in_string,
            '{' | '(' if !in_string => depth += 1,
            '}' | ')' if !in_string => depth = depth.saturating_sub(1),
            '\n' if depth == 0 => (start, in_string) = (at + 1, false),
            _ => {}
        }
    }
    text.get(start..).unwrap_or("")
}

/// What the grammar expects behind a text.
fn at(entry: Rule, text: &str) -> Option<Offer> {
    let probed = format!("{text}{PROBE}");
    let error = Grammar::parse(entry, &probed).err()?;
    let InputLocation::Pos(place) = error.location else { return None };
    let ErrorVariant::ParsingError { positives, .. } = &error.variant else { return None };
    if place != text.len() {
        return None;
    }
    let mut offer = Offer::default();
    // `service ` may be a name too, and two parties may do without an arrow; neither is what is meant.
    let last = last_word(text);
    let names_party = PARTIES.contains(&last)
        && positives.iter().any(|rule| matches!(rule, Rule::name | Rule::qualified | Rule::string));
    let is_elsewhere = |rule: Rule| match rule {
        Rule::packet_option | Rule::port_suffix | Rule::arrow | Rule::EOI | Rule::expects => {
            names_party
        }
        Rule::target | Rule::party => names_party || positives.contains(&Rule::arrow),
        _ => false,
    };
    for &rule in positives.iter().filter(|rule| !is_elsewhere(**rule)) {
        add(rule, entry, text, &mut offer);
    }
    Some(offer)
}

/// Words that say of what kind the party behind them is.
const PARTIES: [&str; 7] = ["world", "pod", "node", "service", "external", "health", "dns"];

fn last_word(text: &str) -> &str {
    let before = text.trim_end_matches([' ', '\t', '\n', '{', '(', ',']);
    before.rsplit(|c: char| c.is_whitespace() || c == '{').next().unwrap_or("")
}

/// Whether a line is about a packet at a hook.
fn is_raw(entry: Rule) -> bool {
    matches!(entry, Rule::raw_line | Rule::at_line)
}

fn add(rule: Rule, entry: Rule, text: &str, offer: &mut Offer) {
    let last = last_word(text);
    let mut words = |words: &[&str]| offer.words.extend(words.iter().map(|w| (*w).to_owned()));
    let names: &[NameKind] = match rule {
        Rule::EOI => {
            offer.is_over = true;
            &[]
        }
        Rule::packet_option => {
            words(OPTIONS);
            &[]
        }
        Rule::party | Rule::target | Rule::question | Rule::flow | Rule::question_line => {
            words(&PARTIES);
            &[NameKind::Party]
        }
        Rule::raw_hook => {
            words(errors::words(rule));
            if text.split_whitespace().nth(1).is_none() { &[NameKind::Node] } else { &[] }
        }
        Rule::string if last == "dns" => &[NameKind::DnsName],
        Rule::name if last == "dns" => &[],
        Rule::name | Rule::qualified => named(last, entry, text, &mut words),
        Rule::raw_node => &[NameKind::Node],
        Rule::handle => &[NameKind::Rule],
        Rule::label | Rule::label_key | Rule::requirement => &[NameKind::Label],
        Rule::label_value => {
            offer.names.push(NameKind::LabelValue(label_key(text)));
            &[]
        }
        Rule::address | Rule::address_party if is_raw(entry) && last == "from" => {
            &[NameKind::NodeAddress]
        }
        Rule::address if is_raw(entry) || last == "from-ip" => &[NameKind::Address],
        _ => {
            others(rule, last, &mut words);
            if rule == Rule::rule_port { &[NameKind::PortName] } else { &[] }
        }
    };
    offer.names.extend(names.iter().cloned());
}

/// Words of rules that say nothing of names.
fn others(rule: Rule, last: &str, words: &mut impl FnMut(&[&str])) {
    match rule {
        // Either is right; this one is written in most places.
        Rule::k_port if !matches!(last, "vxlan" | "geneve") => words(&["ports"]),
        Rule::expectation => words(&["allowed", "dropped", "undecided"]),
        Rule::reason => {
            words(&OUTCOMES.map(|(word, _)| word));
            words(&DropReason::ALL.iter().map(|reason| reason.name()).collect::<Vec<_>>());
        }
        Rule::icmp_message | Rule::icmp_type => words(&messages(last)),
        Rule::raw_source | Rule::raw_layers => words(errors::words(Rule::layer)),
        Rule::tcp_field => {
            words(&["syn", "syn-ack", "ack", "fin", "fin-ack", "rst", "rst-ack", "seq"]);
        }
        Rule::icmp_field => words(&["id", "seq"]),
        Rule::rule_port => words(&["tcp", "udp", "sctp", "icmp", "icmpv6"]),
        Rule::arrow => words(&["->"]),
        Rule::expects => words(&["=>"]),
        Rule::slash => words(&["/"]),
        Rule::greater => words(&[">"]),
        Rule::duration => words(&["10s", "61s", "2m", "1h"]),
        Rule::lparen => words(&["("]),
        Rule::rparen => words(&[")"]),
        Rule::selector | Rule::open => words(&["{"]),
        Rule::raw_at => words(&["--at"]),
        _ if errors::words(rule).is_empty() => {
            if let Some(word) = errors::keyword(rule) {
                words(&[&word]);
            }
        }
        _ => words(errors::words(rule)),
    }
    if rule == Rule::raw_source {
        words(&["pcap"]);
    }
}

/// What a name is the name of, by the word before it; some are words of the language.
fn named(
    last: &str,
    entry: Rule,
    text: &str,
    words: &mut impl FnMut(&[&str]),
) -> &'static [NameKind] {
    let said = |values: &[String]| values.to_vec();
    let shown: Vec<String> = match last {
        "conntrack" => said(&STATES.map(|state| state.to_string())),
        "implied" => said(&IMPLIED.map(|implied| implied.name().to_owned())),
        "ingress" | "egress" => said(&LEGS.map(|leg| leg.to_string())),
        "tunnel" if entry == Rule::cluster_statement => {
            said(&["vxlan", "geneve"].map(str::to_owned))
        }
        "like" => vec!["cilium".to_owned()],
        "entities" | "entity" => ENTITIES.iter().map(|word| (*word).to_owned()).collect(),
        _ if entry == Rule::policy_line && is_listing_entities(text) => {
            ENTITIES.iter().map(|word| (*word).to_owned()).collect()
        }
        _ => Vec::new(),
    };
    words(&shown.iter().map(String::as_str).collect::<Vec<_>>());
    match last {
        "on" if entry == Rule::pod_statement => &[NameKind::Node],
        "on" | "pod" | "backend" => &[NameKind::Pod],
        "node" | "health" | "of" | "tunnel" if entry != Rule::cluster_statement => {
            &[NameKind::Node]
        }
        "service" => &[NameKind::Service],
        "policy" => &[NameKind::Policy],
        "external" => &[NameKind::External],
        "namespace" => &[NameKind::Namespace],
        _ => &[],
    }
}

/// Groups of peers that have a name.
const ENTITIES: &[&str] = &[
    "all",
    "cluster",
    "health",
    "host",
    "ingress",
    "init",
    "kube-apiserver",
    "none",
    "remote-node",
    "unmanaged",
    "world",
    "world-ipv4",
    "world-ipv6",
];

/// Whether a comma goes on with a list of entities.
fn is_listing_entities(text: &str) -> bool {
    let line = text.trim_end();
    let kinds = ["pods", "cidr", "entities", "entity", "service", "dns"];
    let mut words = line.split([' ', '\t', ',', '{', '}']).rev();
    line.ends_with(',')
        && words.find(|word| kinds.contains(word)).is_some_and(|w| w.starts_with("entit"))
}

/// Messages by name, of the family that the word before says.
fn messages(last: &str) -> Vec<&'static str> {
    let names = if last == "icmpv6" { icmp::NAMES_V6 } else { icmp::NAMES_V4 };
    let mut words: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    words.push("echo");
    words
}

/// The label whose value stands at the end: the word before the sign or the list.
fn label_key(text: &str) -> String {
    let from = text.rfind(['{', '\n']).map_or(0, |at| at + 1);
    let parts = text.get(from..).unwrap_or("");
    let part = match parts.rsplit_once('(') {
        Some((before, _)) => before,
        None => parts.rsplit(',').next().unwrap_or(parts),
    };
    let part = part.rsplit(',').next().unwrap_or(part);
    let key = part.trim_start().split(|c: char| c.is_whitespace() || c == '=' || c == '!').next();
    key.unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words that go on with the last one of a text, then the kinds of names.
    fn said(kind: TextKind, text: &str) -> String {
        let start = text.rfind([' ', '\n', '{', '(', ',']).map_or(0, |at| at + 1);
        let (before, word) = text.split_at(start);
        let Some(offer) = complete(kind, before) else { return "?".to_owned() };
        let words = offer.words.iter().filter(|known| known.starts_with(word)).cloned();
        words
            .chain(offer.names.iter().map(|kind| format!("{kind:?}")))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn check(kind: TextKind, cases: &[(&str, &str)]) {
        let wrong = cases.iter().map(|(text, expected)| (*text, said(kind, text), *expected));
        let wrong: Vec<_> = wrong.filter(|(_, found, expected)| found != expected).collect();
        assert_eq!(wrong, [], "text, what is offered, what should be");
    }

    #[test]
    fn questions() {
        check(
            TextKind::Question,
            &[
                ("", "dns external health node pod service world Party"),
                ("a ", "->"),
                ("a -> ", "dns external health node pod service world Party"),
                ("a -> service ", "Service"),
                ("a -> health ", "of Node"),
                ("a -> b:80/tcp cho", "choose"),
                ("a -> b:80/tcp s", "sctp seq syn syn-ack"),
                ("a -> b choose ", "backend"),
                ("a -> b choose backend ", "pod Pod"),
                ("a -> b choose backend pod ", "Pod"),
                ("a -> b with ", "conntrack reply"),
                ("a -> b with conntrack ", "established reply"),
                ("a -> b:80 http P", "PATCH POST PUT"),
                ("a -> b icmpv6 pa", "packet-too-big parameter-problem payload"),
                ("a -> b icmp 3/4 m", "mtu"),
                ("a -> b quoting ", "( last"),
                ("a -> b icmp quoting ( c -> ", "dns external health node pod service world Party"),
                ("a -> b fragment m", "more mtu"),
                ("a -> b fragment o", "offset"),
                ("a -> b extensions r", "routing"),
                ("a -> b extensions routing,es", "esp"),
                ("a -> b ttl ", ""),
                ("a -> b from-ip ", "Address"),
                ("a nonsense -> b ", "?"),
            ],
        );
    }

    #[test]
    fn expectations() {
        check(
            TextKind::Flow,
            &[
                ("a -> b =", "=>"),
                ("a -> b => ", "allowed dropped undecided"),
                ("a -> b => dropped pol", "policy-denied policy-deny"),
                ("a -> b => dropped a", "at"),
                ("a -> b => dropped at ", "egress ingress"),
                (
                    "a -> b => dropped at ingress of ",
                    "dns external health node pod service world Party",
                ),
                ("a -> b => allowed b", "by"),
                ("a -> b => allowed, b", "backend by"),
                ("a -> b => allowed, backend ", "none pod Pod"),
                ("a -> b => allowed, snat ", ""),
                ("a -> b => allowed, not ", "encrypted snat tunneled"),
                ("a -> b => allowed, tunnel ", "Node"),
                ("a -> b => allowed, conntrack r", "related reply"),
                ("a -> b => allowed, reply ", "allowed dropped undecided"),
                ("a -> b => allowed, ingress r", "related reply"),
                ("a -> b => allowed by ", "Rule"),
            ],
        );
    }

    #[test]
    fn packets_at_hooks() {
        check(
            TextKind::Raw,
            &[
                (
                    "--at ",
                    "from-container from-host from-netdev from-overlay prefilter to-container to-host to-netdev to-overlay Node",
                ),
                ("--at n from-o", "from-overlay"),
                ("--at from-container on ", "Pod"),
                ("--at n from-overlay vni 5 ", "from"),
                ("--at n from-overlay vni 5 from ", "NodeAddress"),
                ("--at n to-netdev ma", "mark"),
                ("--at n to-netdev ip", "ipv4 ipv6"),
                ("--at n to-netdev p", "payload pcap"),
                ("--at n to-netdev ipv4 ", "Address"),
                ("--at n to-netdev ipv4 1.1.1.1 ", ">"),
                (
                    "--at n to-netdev ipv4 1.1.1.1 > 2.2.2.2 ",
                    "/ df extensions flow-label fragment id ip-options proto ttl",
                ),
                ("--at n to-netdev ipv4 1.1.1.1 > 2.2.2.2 / tcp 1 > 2 s", "seq syn syn-ack"),
                ("--at n to-netdev ipv4 1.1.1.1 > 2.2.2.2 / v", "vxlan"),
            ],
        );
    }

    #[test]
    fn statements() {
        check(
            TextKind::Statement,
            &[
                ("cluster c {\n  masq", "masquerade"),
                ("cluster c {\n  tunnel ", "geneve none vxlan"),
                (
                    "cluster c { masquerade on ",
                    "balance encryption except host-firewall host-routing like masquerade native-cidr node ports prefilter tunnel",
                ),
                ("cluster c { encryption ", "ipsec wireguard"),
                ("cluster c { balance ", "maglev random"),
                ("cluster c { host-routing ", "bpf stack"),
                ("cluster c { node n { he", "health"),
                ("pod a/b on ", "Node"),
                ("pod a/b on n { n", "not-ready"),
                ("service a/b { internal-traffic ", "cluster local"),
                ("service a/b { affinity client-ip t", "timeout"),
                ("service a/b {\n  port http 80/tcp n", "node-port"),
                ("service a/b {\n  select { ", "Label"),
                ("service a/b {\n  select { app = ", "LabelValue(\"app\")"),
                ("policy ", "Policy"),
                ("policy a/b {\n  sel", "select"),
                ("policy a/b {\n  select { app = \"x\" }\n  allow ", "egress ingress"),
                ("policy a/b {\n  allow ingress from ", "cidr dns entities none pods service"),
                ("policy a/b {\n  allow ingress from entities r", "remote-node"),
                ("policy a/b {\n  allow ingress from entities host, r", "remote-node"),
                ("policy a/b {\n  allow ingress from service ", "Service"),
                ("policy a/b {\n  allow ingress on ", "icmp icmpv6 ports sctp tcp udp PortName"),
                (
                    "policy a/b {\n  select {}\n  allow egress to pods { app in (x, ",
                    ") LabelValue(\"app\")",
                ),
                ("test \"t\" {\n", "at dialogue dns external health node pod service world Party"),
                ("test \"t\" {\n  a -> b => d", "dropped"),
                (
                    "test \"t\" {\n  dialogue \"d\" {\n    a -> b\n    ",
                    "at dns external health node pod policy remove reply send service wait world Party",
                ),
                ("test \"t\" {\n  at n to-net", "to-netdev"),
                ("test \"t\" {\n  at n to-netdev hex 00 ", "=>"),
                ("test \"t\" {\n  at n to-netdev hex 00 => dropped at ", "egress ingress"),
                (
                    "test \"t\" {\n  dialogue \"d\" {\n    at n from-overlay vni 1 from ",
                    "NodeAddress",
                ),
                (
                    "test \"t\" {\n  dialogue \"d\" {\n    a -> b\n    reply s",
                    "sctp seq syn syn-ack",
                ),
                ("test \"t\" {\n  dialogue \"d\" {\n    remove policy ", "Policy"),
                ("test \"t\" {\n  dialogue \"d\" {\n    remove ", "pod policy service"),
                ("test \"t\" {\n  dialogue \"d\" {\n    remove pod ", "Pod"),
                ("test \"t\" {\n  dialogue \"d\" {\n    remove service ", "Service"),
                ("test \"t\" {\n  dialogue \"d\" {\n    wait ", "10s 1h 2m 61s"),
                ("test \"t\" {\n  dialogue \"d\" {\n    pod ", "Pod"),
                ("test \"t\" {\n  dialogue \"d\" {\n    pod a/b ", "-> on"),
                ("test \"t\" {\n  dialogue \"d\" {\n    pod a/b on ", "Node"),
                ("test \"t\" {\n  dialogue \"d\" {\n    pod a/b on n { not", "not-ready"),
                (
                    "test \"t\" {\n  dialogue \"d\" {\n    pod a/b -> ",
                    "dns external health node pod service world Party",
                ),
                ("test \"t\" {\n  dialogue \"d\" {\n    service ", "Service"),
                ("test \"t\" {\n  dialogue \"d\" {\n    service a/b { affinity ", "client-ip"),
                ("test \"t\" {\n  dialogue \"d\" { a -> b }\n  d", "dialogue dns Party"),
            ],
        );
    }
}
