//! The canonical text of questions and of the steps of a dialogue, from their trees.

use std::fmt::Write;

use engine::net::Protocol;

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
        PartyKind::External(name) => format!("external {name}"),
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
        PacketOption::DontFragment => "df".to_owned(),
        PacketOption::Length(length) => format!("length {length}"),
        PacketOption::Ttl(ttl) => format!("ttl {ttl}"),
        PacketOption::FromPort(port) => format!("from-port {port}"),
        PacketOption::FromIp(address) => format!("from-ip {address}"),
        PacketOption::Payload(content) => format!("payload {}", quoted(content)),
        PacketOption::Hex(bytes) => {
            let mut text = "hex ".to_owned();
            for byte in bytes {
                // Writing into a string cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
            text
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
    }
}

fn icmp(family: Protocol, message: Option<&IcmpMessage>) -> String {
    match message {
        None => family.to_string(),
        Some(IcmpMessage { kind, code: None }) => format!("{family} {}", kind.node),
        Some(IcmpMessage { kind, code: Some(code) }) => format!("{family} {}/{code}", kind.node),
    }
}

/// A string as the language writes it.
fn quoted(content: &str) -> String {
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
