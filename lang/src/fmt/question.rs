//! The canonical text of questions and of the steps of a dialogue, from their trees.

use std::fmt::Write;

use engine::net::{Protocol, extension};
use engine::question::Known;

use crate::ast::{
    IcmpMessage, PacketOption, PartyKind, PartyName, Port, Question, Spanned, Step, StepKind,
    Target,
};

/// The text of an endpoint, as [`crate::command::parse_question`] reads it.
pub fn party(party: &PartyName) -> String {
    match &party.kind {
        PartyKind::Bare(name) => name.to_string(),
        PartyKind::Pod(name) => format!("pod {name}"),
        PartyKind::Node(name) => format!("node {name}"),
        PartyKind::Service(name) => format!("service {name}"),
        PartyKind::External(name) => format!("external {name}"),
        PartyKind::Dns(name) => format!("dns \"{name}\""),
        PartyKind::Health(node) => format!("health {node}"),
        PartyKind::World(address) => format!("world {address}"),
        PartyKind::Address(address) => address.to_string(),
    }
}

/// The text of a question: `SRC -> DST[:PORT[/PROTO]] OPTIONS`, options in their order.
pub fn question(question: &Question) -> String {
    let mut text = format!("{} -> {}", party(&question.source), target(&question.target));
    push_options(&mut text, &question.options);
    text
}

/// The text of a step without its expectation; of a policy, its first line without the brace.
pub fn step(step: &Step) -> String {
    match &step.kind {
        StepKind::Flow(case) => question(&case.question),
        StepKind::At(case) => super::raw(&case.question),
        StepKind::FollowUp(follow) => {
            let mut text = if follow.reply { "reply" } else { "send" }.to_owned();
            push_options(&mut text, &follow.options);
            text
        }
        StepKind::Wait { amount, unit } => format!("wait {amount}{unit}"),
        StepKind::Policy(policy) if policy.clusterwide => {
            format!("clusterwide policy {}", policy.handle.node)
        }
        StepKind::Policy(policy) => format!("policy {}", policy.handle.node),
        StepKind::RemovePolicy(handle) => format!("remove policy {}", handle.node),
        StepKind::World(item) => {
            let (kind, name) = item.key();
            format!("{kind} {name}")
        }
        StepKind::RemoveWorld { kind, name } => format!("remove {kind} {}", name.node),
    }
}

fn target(target: &Target) -> String {
    let mut text = party(&target.party);
    let Some(port) = &target.port else { return text };
    // `fd00::1:80` is another address.
    if let PartyKind::World(address) | PartyKind::Address(address) = &target.party.kind
        && address.is_ipv6()
    {
        let world = matches!(target.party.kind, PartyKind::World(_));
        text = format!("{}[{address}]", if world { "world " } else { "" });
    }
    text.push(':');
    match &port.node {
        Port::Number(number) => text.push_str(&number.to_string()),
        Port::Named(name) => text.push_str(name),
    }
    if let Some(protocol) = &target.protocol {
        text.push('/');
        text.push_str(&protocol.node.to_string());
    }
    text
}

fn push_options(text: &mut String, options: &[Spanned<PacketOption>]) {
    for option in options {
        text.push(' ');
        text.push_str(&packet_option(&option.node));
    }
}

fn packet_option(option: &PacketOption) -> String {
    match option {
        PacketOption::Flags(flags) => flags.to_string().to_lowercase(),
        PacketOption::Protocol(protocol) => protocol.to_string(),
        PacketOption::Icmp { family, message } => icmp(*family, message.as_ref()),
        PacketOption::Id(id) => format!("id {id}"),
        PacketOption::Seq(sequence) => format!("seq {sequence}"),
        PacketOption::IpId(id) => format!("ip-id {id}"),
        PacketOption::FlowLabel(label) => format!("flow-label {label}"),
        PacketOption::DontFragment => "df".to_owned(),
        PacketOption::Length(length) => format!("length {length}"),
        PacketOption::Ttl(ttl) => format!("ttl {ttl}"),
        PacketOption::Mtu(mtu) => format!("mtu {mtu}"),
        PacketOption::FromPort(port) => format!("from-port {port}"),
        PacketOption::FromIp(address) => format!("from-ip {address}"),
        PacketOption::Payload(content) => format!("payload {}", quoted(content)),
        PacketOption::Hex(bytes) => format!("hex {}", hex(bytes)),
        PacketOption::Http { method, path } => format!("http {method} {}", quoted(path)),
        PacketOption::IpOptions(bytes) => format!("ip-options {}", hex(bytes)),
        PacketOption::Extensions(numbers) => {
            let names = numbers.iter().map(|number| extension::name(*number).unwrap_or("?"));
            format!("extensions {}", names.collect::<Vec<_>>().join(", "))
        }
        PacketOption::Fragment { offset: 0, .. } => "fragment more".to_owned(),
        PacketOption::Fragment { offset, more } => {
            format!("fragment offset {offset}{}", if *more { " more" } else { "" })
        }
        PacketOption::Family { v6: false } => "ip4".to_owned(),
        PacketOption::Family { v6: true } => "ip6".to_owned(),
        PacketOption::QuotingLast => "quoting last".to_owned(),
        PacketOption::Quoting(inner) => format!("quoting ( {} )", question(inner)),
        PacketOption::WithReply => "with reply".to_owned(),
        PacketOption::Known(Known::Reply) => "with conntrack reply".to_owned(),
        PacketOption::Known(_) => "with conntrack established".to_owned(),
        PacketOption::Choose(pod) => format!("choose backend {}", party(pod)),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

pub(super) fn icmp(family: Protocol, message: Option<&IcmpMessage>) -> String {
    match message {
        None => family.to_string(),
        Some(IcmpMessage { kind, code: None }) => format!("{family} {}", kind.node),
        Some(IcmpMessage { kind, code: Some(code) }) => format!("{family} {}/{code}", kind.node),
    }
}

/// A string as the language writes it.
pub(super) fn quoted(content: &str) -> String {
    let mut text = String::with_capacity(content.len() + 2);
    text.push('"');
    for c in content.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use engine::source::FileId;

    use super::*;
    use crate::command::parse_question;

    #[test]
    fn questions_are_written_in_one_way() {
        let check = |written: &str, expected: &str| {
            let read = |text: &str| match parse_question(text, FileId::default()) {
                Ok(asked) => question(&asked),
                Err(problems) => panic!("{text}: {problems:?}"),
            };
            assert_eq!(read(written), expected);
            assert_eq!(read(expected), expected, "twice");
        };
        check("a b:80", "a -> b:80");
        check("a->b :80/tcp", "a -> b:80/tcp");
        check("pod  x/a -> node n", "pod x/a -> node n");
        check("external e -> 10.0.0.1:http/udp", "external e -> 10.0.0.1:http/udp");
        check("world 0::1 -> [fd00:0::1]:80/any", "world ::1 -> [fd00::1]:80");
        check("world ::1 -> world ::2 :53/udp", "world ::1 -> world [::2]:53/udp");
        check("a -> fd00::1:80", "a -> fd00::1:80");
        check("a -> b:1 ack-syn with  reply", "a -> b:1 syn-ack with reply");
        check("a -> b udp ttl 064 df ip6 ip4", "a -> b udp ttl 64 df ip6 ip4");
        check("a -> b icmp echo id 1 seq 2", "a -> b icmp echo id 1 seq 2");
        check("a -> b icmp 3/4 length 60", "a -> b icmp 3/4 length 60");
        check("a->b:80 http  GET /x?y=1 ttl 3", "a -> b:80 http GET \"/x?y=1\" ttl 3");
        check("a -> b icmpv6 ip-id 9", "a -> b icmpv6 ip-id 9");
        check("a -> b hex 0A0b from-port 7", "a -> b hex 0a0b from-port 7");
        check("a -> b from-ip 10.0.0.9 sctp", "a -> b from-ip 10.0.0.9 sctp");
        check(r#"a -> b payload "\q\\\"\n\t#""#, r#"a -> b payload "q\\\"\n\t#""#);
        check("a -> b fragment offset 8", "a -> b fragment offset 8");
        check("a -> b fragment offset 0 more", "a -> b fragment more");
        check("a -> b fragment offset 16 more", "a -> b fragment offset 16 more");
        check("a -> b udp ip-options 0101AA", "a -> b udp ip-options 0101aa");
        check("a -> b extension routing", "a -> b extensions routing");
        check("a -> b:1 extensions hop-by-hop,esp fin", "a -> b:1 extensions hop-by-hop, esp fin");
        check(
            "a -> b icmp extensions no-next-header df",
            "a -> b icmp extensions no-next-header df",
        );
        check("a -> b icmp 3/4 mtu 01400", "a -> b icmp 3/4 mtu 1400");
        check("a -> b icmp 3/3 quoting last", "a -> b icmp 3/3 quoting last");
        check("a -> b icmp 3 quoting(b->a:1)", "a -> b icmp 3 quoting ( b -> a:1 )");
    }

    #[test]
    fn steps_are_named_without_what_they_expect() {
        let check = |written: &str, expected: &str| {
            let text = format!("test \"t\" {{ dialogue \"d\" {{ {written} }} }}");
            let (ast, problems) = crate::parse::file(&text, FileId::default());
            assert_eq!(problems, [], "{written}");
            let items = ast.items.into_iter().filter_map(|item| match item.kind {
                crate::ast::ItemKind::Test(block) => Some(block.lines),
                _ => None,
            });
            let steps = items.flatten().filter_map(|line| match line.node {
                crate::ast::TestLine::Dialogue(dialogue) => Some(dialogue.steps),
                crate::ast::TestLine::Flow(_) | crate::ast::TestLine::At(_) => None,
            });
            let texts: Vec<String> = steps.flatten().map(|s| step(&s)).collect();
            assert_eq!(texts, [expected]);
        };
        check("a  -> b:80 => allowed", "a -> b:80");
        check("reply  syn-ack ttl 1 => dropped", "reply syn-ack ttl 1");
        check("send", "send");
        check("wait 61s", "wait 61s");
        check("policy a/b { select {} }", "policy a/b");
        check("clusterwide  policy b { select {} }", "clusterwide policy b");
        check("pod  a/b on n { ip 10.0.0.1 }", "pod a/b");
        check("service a/b { select { } }", "service a/b");
        check("remove  pod a/b", "remove pod a/b");
        check("remove service  a/b", "remove service a/b");
        check("remove policy  a/b", "remove policy a/b");
    }
}
