//! Rules: peers and ports.

use engine::diag::Diagnostic;
use engine::dns::DnsPattern;
use engine::net::{Direction, PortRange, Protocol, icmp};
use engine::policy::{Action, Entity, Namespaces, Peer, PeerKind, PortKind, PortSpec, Rule};
use engine::source::Span;
use engine::topology::Service;
use ipnet::IpNet;

use super::Lowering;
use crate::ast::{self, Name, PeerClause, RulePort, Spanned};
use crate::codes;
use crate::names::{listed, nearest};

impl Lowering<'_> {
    /// One rule; `None` where a part of it is wrong.
    pub(super) fn rule(
        &mut self,
        rule: &ast::Rule,
        name: String,
        span: Span,
        home: Option<&str>,
    ) -> Option<Rule> {
        let peers = match &rule.peers {
            Some(clause) => Some(self.peers(clause, rule, home)?),
            None => None,
        };
        let ports = match &rule.ports {
            Some(ports) => Some(ports.iter().map(|p| self.port(p)).collect::<Option<_>>()?),
            None => None,
        };
        Some(Rule {
            name,
            direction: rule.direction,
            action: if rule.deny { Action::Deny } else { Action::Allow },
            peers,
            ports,
            owner: rule.owner.as_ref().map(|o| o.node.clone()),
            because: rule.because.as_ref().map(|b| b.node.clone()),
            span,
        })
    }

    fn peers(
        &mut self,
        clause: &Spanned<PeerClause>,
        rule: &ast::Rule,
        home: Option<&str>,
    ) -> Option<Vec<Peer>> {
        let (from, direction) = (clause.node.from, rule.direction);
        if from != (direction == Direction::Ingress) {
            let (word, right) = if from { ("from", "to") } else { ("to", "from") };
            let start = clause.span.start;
            let end = start + if from { 4 } else { 2 };
            let span = Span { end, ..clause.span };
            let message = format!("an {direction} rule has no `{word}`");
            self.report(Diagnostic::error(codes::WRONG_SIDE, message, span).fix(
                format!("write `{right}`"),
                span,
                right,
            ));
            return None;
        }
        let mut peers = Vec::new();
        for peer in &clause.node.peers {
            self.check_by_name(peer, rule)?;
            peers.extend(self.peer(peer, home)?);
        }
        Some(peers)
    }

    /// Only what is sent is judged by name, and only to let it pass.
    fn check_by_name(&mut self, peer: &Spanned<ast::Peer>, rule: &ast::Rule) -> Option<()> {
        let ast::Peer::Dns(_) = peer.node else { return Some(()) };
        let (message, help) = match (rule.direction, rule.deny) {
            (Direction::Ingress, _) => (
                "no rule knows senders by name",
                "name them by `cidr` or by `entities world`: only a destination is asked for by name",
            ),
            (_, true) => (
                "no rule denies by name",
                "deny the addresses by `cidr`, or leave the name out of what is allowed",
            ),
            _ => return Some(()),
        };
        self.report(Diagnostic::error(codes::DNS_PEER, message, peer.span).help(help));
        None
    }

    /// A name or pattern of a peer.
    fn by_name(&mut self, name: &Name) -> Option<Peer> {
        match DnsPattern::parse(&name.node) {
            Ok(pattern) => Some(Peer { kind: PeerKind::Dns(pattern), span: name.span }),
            Err(why) => {
                self.report(bad_name(name, &why));
                None
            }
        }
    }

    /// `entities a, b` is as many peers, and so is `dns "a", "b"`.
    fn peer(&mut self, peer: &Spanned<ast::Peer>, home: Option<&str>) -> Option<Vec<Peer>> {
        let one = |kind| Some(vec![Peer { kind, span: peer.span }]);
        match &peer.node {
            ast::Peer::Pods { selector, scope } => {
                let namespaces = match scope {
                    Some(scope) => self.scope(scope)?,
                    None if home.is_none() => Namespaces::Any,
                    None => Namespaces::Own,
                };
                one(PeerKind::Pods { selector: selector.clone(), namespaces })
            }
            ast::Peer::Cidr { net, except } => {
                let net = self.prefix(net)?;
                let except =
                    except.iter().map(|e| self.exception(net, e)).collect::<Option<_>>()?;
                one(PeerKind::Cidr { net, except })
            }
            ast::Peer::Service(service) => one(self.service_peer(service, home)?),
            ast::Peer::Dns(names) => names.iter().map(|name| self.by_name(name)).collect(),
            ast::Peer::Entities(names) => names.iter().map(|name| self.entity(name)).collect(),
        }
    }

    /// A service by name; in a policy of a namespace, a bare name is one of its own.
    fn service_peer(
        &mut self,
        service: &Spanned<ast::Qualified>,
        home: Option<&str>,
    ) -> Option<PeerKind> {
        let Some(namespace) = service.node.namespace.as_deref().or(home) else {
            self.needs_namespace("service", service);
            return None;
        };
        let (namespace, name) = (namespace.to_owned(), service.node.name.clone());
        let full = format!("{namespace}/{name}");
        if self.declared.contains_key(&("service", full.clone())) {
            return Some(PeerKind::Service { namespace, name });
        }
        let known: Vec<String> = self.world.services.iter().map(Service::qualified).collect();
        self.unknown_service(&full, service.span, &known);
        None
    }

    fn unknown_service(&mut self, full: &str, span: Span, known: &[String]) {
        if self.may_have_failed("service", full) {
            return;
        }
        let message = format!("no service is named `{full}`");
        let diagnostic = Diagnostic::error(codes::UNKNOWN_SERVICE, message, span);
        if !self.may_suggest() {
            return self.report(diagnostic);
        }
        // The same name in another namespace is the likelier slip.
        let last = |name: &str| name.rsplit('/').next().map(str::to_owned);
        let elsewhere = known.iter().find(|other| last(other) == last(full));
        let near = nearest(full, known.iter().map(String::as_str));
        self.report(match (elsewhere, near) {
            (Some(other), _) => diagnostic.fix(format!("there is `{other}`"), span, other.as_str()),
            (None, Some(near)) => diagnostic.fix(format!("did you mean `{near}`?"), span, near),
            (None, None) if known.is_empty() => diagnostic.help(format!(
                "declare it: `service {full} {{ cluster-ip ADDRESS port 80/tcp select {{ app = \"NAME\" }} }}`"
            )),
            (None, None) => {
                let known = listed(known.iter().map(String::as_str));
                diagnostic.help(format!("known: {known}"))
            }
        });
    }

    fn exception(&mut self, net: IpNet, except: &Spanned<IpNet>) -> Option<IpNet> {
        let hole = self.prefix(except)?;
        if net.contains(&hole) {
            return Some(hole);
        }
        let message = format!("`{hole}` lies outside of `{net}`");
        self.report(
            Diagnostic::error(codes::EXCEPT_OUTSIDE, message, except.span)
                .help("an exception is a part of the prefix before it"),
        );
        None
    }

    fn entity(&mut self, name: &Name) -> Option<Peer> {
        let found = Entity::ALL.iter().find(|(_, word)| *word == name.node);
        if let Some((entity, _)) = found {
            return Some(Peer { kind: PeerKind::Entity(*entity), span: name.span });
        }
        let words: Vec<&str> = Entity::ALL.iter().map(|(_, word)| *word).collect();
        let message = format!("no entity is named `{}`", name.node);
        let diagnostic = Diagnostic::error(codes::UNKNOWN_ENTITY, message, name.span);
        self.report(match nearest(&name.node, words.iter().copied()) {
            Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), name.span, near),
            None => diagnostic.help(format!("known: {}", words.join(", "))),
        });
        None
    }

    fn port(&mut self, port: &Spanned<RulePort>) -> Option<PortSpec> {
        let kind = match &port.node {
            RulePort::Numbers { first, last, protocol } => {
                let range = self.range(*first, *last, port.span)?;
                PortKind::Numbers { range, protocol: *protocol }
            }
            RulePort::Whole(protocol) => {
                let range = PortRange { first: 0, last: u16::MAX };
                PortKind::Numbers { range, protocol: Some(*protocol) }
            }
            RulePort::Named { name, protocol } => {
                PortKind::Named { name: name.clone(), protocol: *protocol }
            }
            RulePort::Icmp { family, message } => {
                let kind = match message {
                    Some(message) => match message_type(*family, message) {
                        Ok(kind) => Some(kind),
                        Err(problem) => {
                            self.report(*problem);
                            return None;
                        }
                    },
                    None => None,
                };
                PortKind::Icmp { family: *family, kind }
            }
        };
        Some(PortSpec { kind, span: port.span })
    }

    fn range(&mut self, first: u16, last: u16, span: Span) -> Option<PortRange> {
        if first > last {
            let message = format!("the range {first}-{last} is backwards");
            // The protocol behind the range stays as it is.
            let length = first.to_string().len() + 1 + last.to_string().len();
            let end = span.start + u32::try_from(length).unwrap_or(0);
            let digits = Span { end, ..span };
            self.report(Diagnostic::error(codes::PORT_RANGE, message, span).fix(
                "turn it around",
                digits,
                format!("{last}-{first}"),
            ));
            return None;
        }
        if first == 0 && last != u16::MAX {
            let message = "no packet has port 0";
            self.report(
                Diagnostic::error(codes::PORT_RANGE, message, span)
                    .help("every port of a protocol is its name alone, as in `on tcp`"),
            );
            return None;
        }
        Some(PortRange { first, last })
    }
}

/// The number of an ICMP message given by name or number.
pub(crate) fn message_type(family: Protocol, message: &Name) -> Result<u8, Box<Diagnostic>> {
    let names = if family == Protocol::Icmpv6 { icmp::NAMES_V6 } else { icmp::NAMES_V4 };
    let word = message.node.as_str();
    let word = if word == "echo" { "echo-request" } else { word };
    if let Some((_, kind)) = names.iter().find(|(name, _)| *name == word) {
        return Ok(*kind);
    }
    if let Ok(kind) = word.parse() {
        return Ok(kind);
    }
    let text = format!("`{}` is not an {family} message", message.node);
    let diagnostic = Diagnostic::error(codes::UNKNOWN_ICMP, text, message.span);
    let words = names.iter().map(|(name, _)| *name);
    Err(Box::new(match nearest(word, words.clone()) {
        Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), message.span, near),
        None => diagnostic.help(format!(
            "known: {}; or a type from 0 to 255",
            words.collect::<Vec<_>>().join(", ")
        )),
    }))
}

/// A name that no host of the DNS can have, or no pattern of names.
pub(super) fn bad_name(name: &ast::Name, why: &str) -> Diagnostic {
    let message = format!("`{}` {why}", name.node);
    Diagnostic::error(codes::DNS_NAME, message, name.span)
        .help("write a name as a pod asks for it: `\"www.google.com\"`")
}
