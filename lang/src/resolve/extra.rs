//! What a question puts between the IP header and the transport: IPv4 options and IPv6 extension headers, with the
//! bytes that it leaves open.

use engine::diag::Diagnostic;
use engine::net::{IpHeader, extension};

use super::options::Options;
use crate::codes;

/// The options as a header holds them: filled to whole words by the end of the list (RFC 791 3.1: zeros).
pub(super) fn ip_options(written: &[u8]) -> Vec<u8> {
    let mut options = written.to_vec();
    options.resize(written.len().next_multiple_of(4), 0);
    options
}

/// The headers with their numbers, each with the least that it can hold.
pub(super) fn extensions(numbers: &[u8]) -> Vec<(u8, Vec<u8>)> {
    numbers.iter().map(|number| (*number, least(*number))).collect()
}

/// The bytes behind next header and length of the smallest whole header.
fn least(number: u8) -> Vec<u8> {
    match number {
        // One option of padding, four bytes long (RFC 8200 4.2).
        extension::HOP_BY_HOP | extension::DESTINATION => vec![1, 4, 0, 0, 0, 0],
        // Reserved bytes, SPI, sequence number and a check value of 12 bytes (RFC 4302 2).
        extension::AUTHENTICATION => vec![0; 22],
        // Of a routing header: type 0 with no segment left (RFC 8200 4.4).
        _ => vec![0; 6],
    }
}

/// How many bytes they take in a packet.
pub(super) fn length(ip: &IpHeader) -> usize {
    let extensions = ip.extensions.iter().map(|(_, body)| 2 + body.len());
    ip.options.len() + extensions.sum::<usize>()
}

/// What only the other family has.
pub(super) fn check_family(options: &Options<'_>, v6: bool) -> Result<(), Diagnostic> {
    let ip_options = options.ipv4_extra.as_ref().filter(|_| v6);
    let ip_options = ip_options.map(|o| (o.span, "IPv6 has no `ip-options`", "extensions"));
    let extensions = options.extensions.as_ref().filter(|_| !v6);
    let extensions = extensions.map(|e| (e.span, "IPv4 has no `extensions`", "ip-options"));
    let label = options.flow_label.as_ref().filter(|_| !v6);
    let label = label.map(|f| (f.span, "IPv4 has no `flow-label`", "ip-id"));
    match ip_options.or(extensions).or(label) {
        Some((span, message, instead)) => {
            Err(Diagnostic::error(codes::CONFLICTING_OPTION, message, span)
                .help(format!("this family has `{instead}`")))
        }
        None => Ok(()),
    }
}
