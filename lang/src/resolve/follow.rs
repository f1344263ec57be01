//! Further packets of a dialogue's flow: how they differ from the natural one.

use engine::diag::Diagnostic;
use engine::net::{Packet, Transport};
use engine::question::{Change, FollowUp, Question};
use engine::source::Span;

use super::options::{Options, Quoting, conflict};
use super::{extra, http, packet};
use crate::ast;
use crate::codes;

/// The engine's follow-up of a flow.
pub(crate) fn follow_up(
    follow: &ast::FollowUp,
    flow: &Question,
    span: Span,
) -> Result<FollowUp, Diagnostic> {
    let options = Options::of(&follow.options)?;
    check_same_flow(&options)?;
    http::check(&options)?;
    check_request(&options, follow.reply)?;
    let error = error(&options, &flow.packet)?;
    check_transport(&options, &flow.packet, error.is_some())?;
    let mut change = change(&options, &flow.packet, error.is_some(), span)?;
    if let (Some(mtu), Some(message)) = (&options.mtu, error) {
        packet::mtu_numbers(mtu, message, flow.packet.ip.source.is_ipv6())?;
        change.mtu = Some(mtu.node);
    }
    Ok(FollowUp {
        reply: follow.reply,
        flags: options
            .flags
            .as_ref()
            .map(|f| f.node)
            .or(options.http.is_some().then_some(http::FLAGS)),
        error,
        change,
    })
}

/// What makes another flow cannot continue this one.
fn check_same_flow(options: &Options<'_>) -> Result<(), Diagnostic> {
    let written_out = |q: &&ast::Spanned<Quoting<'_>>| matches!(q.node, Quoting::Question(_));
    let others = [
        (options.protocol.as_ref().map(|o| o.span), "the protocol is the flow's"),
        (options.from_port.as_ref().map(|o| o.span), "the ports are the flow's"),
        (options.from_ip.as_ref().map(|o| o.span), "the addresses are the flow's"),
        (options.v6.as_ref().map(|o| o.span), "the family is the flow's"),
        (options.known.as_ref().map(|o| o.span), "what conntrack knows is the dialogue's"),
        (options.choose.as_ref().map(|o| o.span), "the backend is the flow's"),
        (options.with_reply.as_ref().map(|o| o.span), "the answer is the next step, `reply`"),
        (
            options.quoting.as_ref().filter(written_out).map(|o| o.span),
            "an error in a flow is about its latest packet",
        ),
    ];
    match others.into_iter().find_map(|(span, message)| Some((span?, message))) {
        Some((span, message)) => Err(Diagnostic::error(codes::CONFLICTING_OPTION, message, span)
            .help("to ask something else, write a whole question as the step")),
        None => Ok(()),
    }
}

/// Whoever opened the connection sends requests, and whoever accepted it answers them.
fn check_request(options: &Options<'_>, reply: bool) -> Result<(), Diagnostic> {
    match options.http.as_ref().filter(|_| reply) {
        Some(http) => {
            let message = "a request is not an answer";
            Err(Diagnostic::error(codes::CONFLICTING_OPTION, message, http.span)
                .help("`send http ...` is the next request; `reply` with a `payload` answers one"))
        }
        None => Ok(()),
    }
}

/// Type and code of the ICMP error that the step sends instead of a packet of the flow.
fn error(options: &Options<'_>, first: &Packet) -> Result<Option<(u8, u8)>, Diagnostic> {
    let v6 = first.ip.source.is_ipv6();
    let Some(icmp) = &options.icmp else {
        return match &options.quoting {
            Some(quoting) => Err(packet::only_errors_quote(quoting.span)),
            None => Ok(None),
        };
    };
    if icmp.node.0 == engine::net::Protocol::Icmpv6 && !v6 {
        let message = "the flow is IPv4, which has no ICMPv6";
        return Err(Diagnostic::error(codes::CONFLICTING_OPTION, message, icmp.span));
    }
    let (kind, code) = packet::icmp_type(icmp.node.1, v6)?;
    if packet::is_error(kind, v6) {
        return Ok(Some((kind, code)));
    }
    let message = "an ICMP message in a flow must be an error about its latest packet";
    Err(Diagnostic::error(codes::CONFLICTING_OPTION, message, icmp.span)
        .help("the next echo of an echo's flow is a plain `send` or `reply`"))
}

/// Flags need TCP, `id` an echo, `seq` either.
fn check_transport(options: &Options<'_>, first: &Packet, error: bool) -> Result<(), Diagnostic> {
    let tcp = matches!(first.transport, Transport::Tcp { .. }) && !error;
    let v6 = first.ip.source.is_ipv6();
    let echo = first.icmp().is_some_and(|(kind, _)| packet::is_echo(kind, v6)) && !error;
    let others = [
        (options.flags.as_ref().map(|f| f.span).filter(|_| !tcp), "TCP flags need TCP"),
        (options.http.as_ref().map(|h| h.span).filter(|_| !tcp), "HTTP needs TCP"),
        (options.id.as_ref().map(|i| i.span).filter(|_| !echo), "`id` needs an ICMP echo"),
        (
            options.seq.as_ref().map(|s| s.span).filter(|_| !tcp && !echo),
            "`seq` needs an ICMP echo or TCP",
        ),
    ];
    if let Some((span, message)) =
        others.into_iter().find_map(|(span, message)| Some((span?, message)))
    {
        return Err(Diagnostic::error(codes::CONFLICTING_OPTION, message, span));
    }
    if let (Some(mtu), false) = (&options.mtu, error) {
        return packet::mtu_numbers(mtu, (0, 0), v6).map(|_| ());
    }
    match &options.seq {
        Some(seq) if echo => packet::echo_sequence(seq).map(|_| ()),
        _ => Ok(()),
    }
}

fn change(
    options: &Options<'_>,
    first: &Packet,
    error: bool,
    span: Span,
) -> Result<Change, Diagnostic> {
    packet::check_header(options, first.ip.source.is_ipv6())?;
    let mut change = Change {
        ttl: options.ttl.as_ref().map(|t| t.node),
        ip_id: options.ip_id.as_ref().map(|i| u32::from(i.node)),
        flow_label: options.flow_label.as_ref().map(|f| f.node),
        dont_fragment: options.dont_fragment.is_some(),
        fragment: options.fragment.as_ref().map(|f| f.node),
        options: options.ipv4_extra.as_ref().map(|o| extra::ip_options(o.node)),
        extensions: options.extensions.as_ref().map(|e| extra::extensions(e.node)),
        identifier: options.id.as_ref().map(|i| i.node),
        sequence: options.seq.as_ref().map(|s| s.node),
        mtu: None,
        payload: None,
    };
    let given = [
        options.payload.as_ref().map(|p| p.span),
        options.length.as_ref().map(|l| l.span),
        options.http.as_ref().map(|h| h.span),
    ];
    let Some(given) = given.into_iter().flatten().next() else { return Ok(change) };
    if let (true, Some(icmp)) = (error, &options.icmp) {
        return Err(conflict("an error's payload is what it quotes", given, icmp.span));
    }
    let mut sample = first.clone();
    sample.ip.fragment = change.fragment.unwrap_or_default();
    sample.ip.options = change.options.clone().unwrap_or_default();
    sample.ip.extensions = change.extensions.clone().unwrap_or_default();
    let (payload, _) = packet::payload(&sample, options, None)?;
    sample.payload.clone_from(&payload);
    packet::check_length(&sample, options, span)?;
    change.payload = Some(payload);
    Ok(change)
}
