//! What a question says about its packet, each option once.

use std::net::IpAddr;

use engine::diag::Diagnostic;
use engine::net::{Fragment, Protocol, TcpFlags};
use engine::question::Known;
use engine::source::Span;

use super::http;
use crate::ast::{IcmpMessage, PacketOption, PartyName, Question, Spanned};
use crate::codes;

/// What an ICMP error quotes.
#[derive(Clone, Copy)]
pub(super) enum Quoting<'q> {
    /// The latest packet of the dialogue.
    Last,
    /// The packet of this question.
    Question(&'q Question),
}

/// The options by kind, with their places.
#[derive(Default)]
pub(super) struct Options<'q> {
    pub(super) flags: Option<Spanned<TcpFlags>>,
    pub(super) protocol: Option<Spanned<Protocol>>,
    /// Which ICMP, and the message where one is written.
    pub(super) icmp: Option<Spanned<(Protocol, Option<&'q IcmpMessage>)>>,
    pub(super) id: Option<Spanned<u16>>,
    pub(super) seq: Option<Spanned<u32>>,
    pub(super) ip_id: Option<Spanned<u16>>,
    pub(super) flow_label: Option<Spanned<u32>>,
    pub(super) dont_fragment: Option<Spanned<()>>,
    pub(super) length: Option<Spanned<u16>>,
    pub(super) ttl: Option<Spanned<u8>>,
    pub(super) mtu: Option<Spanned<u32>>,
    pub(super) from_port: Option<Spanned<u16>>,
    pub(super) from_ip: Option<Spanned<IpAddr>>,
    pub(super) payload: Option<Spanned<Vec<u8>>>,
    pub(super) http: Option<Spanned<http::Asked<'q>>>,
    pub(super) fragment: Option<Spanned<Fragment>>,
    /// `ip-options`.
    pub(super) ipv4_extra: Option<Spanned<&'q [u8]>>,
    pub(super) extensions: Option<Spanned<&'q [u8]>>,
    pub(super) v6: Option<Spanned<bool>>,
    pub(super) quoting: Option<Spanned<Quoting<'q>>>,
    pub(super) with_reply: Option<Spanned<()>>,
    pub(super) known: Option<Spanned<Known>>,
    pub(super) choose: Option<Spanned<&'q PartyName>>,
}

impl<'q> Options<'q> {
    pub(super) fn of(written: &'q [Spanned<PacketOption>]) -> Result<Self, Diagnostic> {
        let mut options = Self::default();
        for option in written {
            options.take(&option.node, option.span)?;
        }
        Ok(options)
    }

    fn take(&mut self, option: &'q PacketOption, at: Span) -> Result<(), Diagnostic> {
        match option {
            PacketOption::Flags(flags) => once(&mut self.flags, "TCP flags", *flags, at),
            PacketOption::Protocol(protocol) => {
                once(&mut self.protocol, "a protocol", *protocol, at)
            }
            PacketOption::Icmp { family, message } => {
                once(&mut self.icmp, "`icmp`", (*family, message.as_ref()), at)
            }
            PacketOption::Id(id) => once(&mut self.id, "`id`", *id, at),
            PacketOption::Seq(seq) => once(&mut self.seq, "`seq`", *seq, at),
            PacketOption::IpId(id) => once(&mut self.ip_id, "`ip-id`", *id, at),
            PacketOption::FlowLabel(label) => {
                once(&mut self.flow_label, "`flow-label`", *label, at)
            }
            PacketOption::DontFragment => once(&mut self.dont_fragment, "`df`", (), at),
            PacketOption::Length(length) => once(&mut self.length, "`length`", *length, at),
            PacketOption::Ttl(ttl) => once(&mut self.ttl, "`ttl`", *ttl, at),
            PacketOption::Mtu(mtu) => once(&mut self.mtu, "`mtu`", *mtu, at),
            PacketOption::FromPort(port) => once(&mut self.from_port, "`from-port`", *port, at),
            PacketOption::FromIp(address) => once(&mut self.from_ip, "`from-ip`", *address, at),
            PacketOption::Payload(text) => {
                once(&mut self.payload, "a payload", text.as_bytes().to_vec(), at)
            }
            PacketOption::Hex(bytes) => once(&mut self.payload, "a payload", bytes.clone(), at),
            PacketOption::Http { method, path } => {
                once(&mut self.http, "`http`", http::Asked { method, path }, at)
            }
            PacketOption::Fragment { offset, more } => {
                let fragment = Fragment { offset: *offset, more: *more };
                once(&mut self.fragment, "`fragment`", fragment, at)
            }
            PacketOption::IpOptions(bytes) => {
                once(&mut self.ipv4_extra, "`ip-options`", bytes.as_slice(), at)
            }
            PacketOption::Extensions(numbers) => {
                once(&mut self.extensions, "`extensions`", numbers.as_slice(), at)
            }
            PacketOption::Family { v6 } => once(&mut self.v6, "the family", *v6, at),
            PacketOption::QuotingLast => once(&mut self.quoting, "`quoting`", Quoting::Last, at),
            PacketOption::Quoting(inner) => {
                once(&mut self.quoting, "`quoting`", Quoting::Question(inner), at)
            }
            PacketOption::WithReply => once(&mut self.with_reply, "`with reply`", (), at),
            PacketOption::Known(known) => once(&mut self.known, "`with conntrack`", *known, at),
            PacketOption::Choose(pod) => once(&mut self.choose, "`choose backend`", pod, at),
        }
    }

    /// The family that the options ask for, and which of them does. `quoted` is that of the packet that an
    /// error is about.
    pub(super) fn family(
        &self,
        quoted: Option<(bool, Span)>,
    ) -> Result<Option<Spanned<bool>>, Diagnostic> {
        let icmpv6 = self.icmp.as_ref().filter(|i| i.node.0 == Protocol::Icmpv6);
        let claims = [
            self.v6.clone(),
            icmpv6.map(|i| Spanned { node: true, span: i.span }),
            self.from_ip.as_ref().map(|a| Spanned { node: a.node.is_ipv6(), span: a.span }),
            self.ipv4_extra.as_ref().map(|o| Spanned { node: false, span: o.span }),
            self.extensions.as_ref().map(|e| Spanned { node: true, span: e.span }),
            self.flow_label.as_ref().map(|f| Spanned { node: true, span: f.span }),
            quoted.map(|(node, span)| Spanned { node, span }),
        ];
        let mut asked: Option<Spanned<bool>> = None;
        for claim in claims.into_iter().flatten() {
            match &asked {
                Some(first) if first.node != claim.node => {
                    let message = "these two are of different address families";
                    return Err(conflict(message, claim.span, first.span));
                }
                Some(_) => {}
                None => asked = Some(claim),
            }
        }
        Ok(asked)
    }
}

fn once<T>(
    slot: &mut Option<Spanned<T>>,
    what: &str,
    node: T,
    span: Span,
) -> Result<(), Diagnostic> {
    if let Some(first) = slot {
        return Err(conflict(&format!("{what} is given twice"), span, first.span));
    }
    *slot = Some(Spanned { node, span });
    Ok(())
}

/// Two parts that cannot both hold.
pub(super) fn conflict(message: &str, second: Span, first: Span) -> Diagnostic {
    Diagnostic::error(codes::CONFLICTING_OPTION, message, second).also(first, "beside this")
}
