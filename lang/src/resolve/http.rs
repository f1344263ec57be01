//! `http GET "/path"`: the request that a question sends on a connection which it opens first. Its bytes are `engine`'s.

use std::net::IpAddr;

use engine::diag::Diagnostic;
use engine::net::{Packet, TcpFlags, Transport, http};
use engine::source::Span;

use super::options::{Options, conflict};
use crate::ast::{PartyKind, PartyName};

/// The port that is HTTP's own, which a `Host` does not name.
const PORT: u16 = 80;

/// A method and a path as written.
#[derive(Clone, Copy)]
pub(super) struct Asked<'q> {
    pub(super) method: &'q str,
    pub(super) path: &'q str,
}

/// What a request is sent with.
pub(super) const FLAGS: TcpFlags = TcpFlags::PSH.with(TcpFlags::ACK);

/// What cannot be said beside a request.
pub(super) fn check(options: &Options<'_>) -> Result<(), Diagnostic> {
    let Some(http) = &options.http else { return Ok(()) };
    let others: [(Option<Span>, &str); 6] = [
        (options.payload.as_ref().map(|o| o.span), "the request is the payload"),
        (options.flags.as_ref().map(|o| o.span), "a request is sent on an open connection"),
        (options.fragment.as_ref().map(|o| o.span), "a request is not sent in fragments"),
        (options.length.as_ref().map(|o| o.span), "a request is as long as it is"),
        (options.icmp.as_ref().map(|o| o.span), "HTTP needs TCP"),
        (
            options.known.as_ref().map(|o| o.span),
            "HTTP opens a connection of its own, which the other side accepts",
        ),
    ];
    match others.into_iter().find_map(|(span, message)| Some((span?, message))) {
        Some((span, message)) => Err(conflict(message, span, http.span)),
        None => Ok(()),
    }
}

/// The request as bytes, to the packet's destination.
pub(super) fn request(asked: Asked<'_>, packet: &Packet, to: Option<&PartyName>) -> Vec<u8> {
    let name = match to.map(|party| &party.kind) {
        Some(PartyKind::Dns(name)) => name.clone(),
        _ => match packet.ip.destination {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        },
    };
    let host = match packet.transport {
        Transport::Tcp { destination, .. } if destination != PORT => {
            format!("{name}:{destination}")
        }
        _ => name,
    };
    http::request(asked.method, asked.path, &host)
}
