//! The destination port of a question: a number, a name that a pod or service gives, or the only one that a service has.

use engine::diag::Diagnostic;
use engine::net::Protocol;
use engine::source::Span;
use engine::topology::{NamedPort, Party, Service, ServicePort, TargetPort};

use super::packet::Asked;
use super::{label, service};
use crate::ast::{Port, Spanned};
use crate::codes;
use crate::names::nearest;

impl Asked<'_> {
    /// The port of a service that is asked without one.
    pub(super) fn only_port(
        &self,
        protocol: Option<&Spanned<Protocol>>,
    ) -> Result<Option<(Protocol, u16)>, Diagnostic> {
        let Some(asked) = self.service else { return Ok(None) };
        match asked.only_port(protocol)? {
            Some(port) => self.reached(port, self.question.target.party.span).map(Some),
            None => Ok(None),
        }
    }

    /// Where a packet to a service's port goes as it leaves the sender: to that port, or where the service is
    /// headless to the pod's own.
    fn reached(&self, port: &ServicePort, span: Span) -> Result<(Protocol, u16), Diagnostic> {
        let pod = match self.destination {
            Party::Pod(id) => self.atlas.world.pod(id),
            _ => None,
        };
        let Some(pod) = pod else { return Ok((port.protocol, port.port)) };
        match (service::port_at(pod, port), &port.target) {
            (Some(number), _) => Ok((port.protocol, number)),
            (None, TargetPort::Name(name)) => {
                Err(unknown_port(&pod.qualified(), name, Some(port.protocol), span, &pod.ports))
            }
            (None, TargetPort::Number(number)) => Ok((port.protocol, *number)),
        }
    }

    /// The protocol and number of the destination port.
    pub(super) fn port(
        &self,
        port: &Spanned<Port>,
        protocol: Option<Protocol>,
    ) -> Result<(Protocol, u16), Diagnostic> {
        match &port.node {
            Port::Number(number) => Ok((protocol.unwrap_or(Protocol::Tcp), *number)),
            Port::Named(name) => self.named_port(name, port.span, protocol),
        }
    }

    fn named_port(
        &self,
        name: &str,
        span: Span,
        protocol: Option<Protocol>,
    ) -> Result<(Protocol, u16), Diagnostic> {
        let party = match self.destination {
            Party::Address(address) => self.atlas.owner(address).unwrap_or(self.destination),
            named => named,
        };
        if let Some(asked) = self.service {
            if let Some(port) = asked.named_port(name, protocol) {
                return self.reached(port, span);
            }
            if !asked.service.is_headless() {
                return Err(unknown_service_port(asked.service, name, protocol, span));
            }
        }
        let who = label(self.atlas.world, party);
        let Party::Pod(pod) = party else {
            let message = format!("{who} is not a pod, so it names no port `{name}`");
            return Err(Diagnostic::error(codes::UNKNOWN_PORT_NAME, message, span)
                .help("write the port's number"));
        };
        let ports: &[NamedPort] = self.atlas.world.pod(pod).map_or(&[], |p| &p.ports);
        let fits =
            |p: &&NamedPort| p.name == name && protocol.is_none_or(|wanted| wanted == p.protocol);
        let found: Vec<&NamedPort> = ports.iter().filter(fits).collect();
        match found.as_slice() {
            [one] => Ok((one.protocol, one.port)),
            [] => Err(unknown_port(&who, name, protocol, span, ports)),
            several => {
                let message = format!("{who} has `{name}` on {} protocols", several.len());
                let diagnostic = Diagnostic::error(codes::UNKNOWN_PORT_NAME, message, span);
                Err(several.iter().fold(diagnostic, |diagnostic, port| {
                    let text = format!("{name}/{}", port.protocol);
                    diagnostic.fix(format!("write `{text}`"), span, text)
                }))
            }
        }
    }
}

/// The ports of a service that have names.
fn unknown_service_port(
    service: &Service,
    name: &str,
    protocol: Option<Protocol>,
    span: Span,
) -> Diagnostic {
    let named = service.ports.iter().filter_map(|port| {
        let name = port.name.clone()?;
        Some(NamedPort { name, port: port.port, protocol: port.protocol })
    });
    let named: Vec<NamedPort> = named.collect();
    let who = format!("service {}", service.qualified());
    if !named.is_empty() {
        return unknown_port(&who, name, protocol, span, &named);
    }
    let ports = service.ports.iter().map(|p| format!("{}/{}", p.port, p.protocol));
    let message = format!("{who} has no port named `{name}`");
    Diagnostic::error(codes::UNKNOWN_PORT_NAME, message, span).help(format!(
        "its ports have no names: {}; its pods' port names are not its own",
        ports.collect::<Vec<_>>().join(", ")
    ))
}

fn unknown_port(
    who: &str,
    name: &str,
    protocol: Option<Protocol>,
    span: Span,
    ports: &[NamedPort],
) -> Diagnostic {
    let message = match protocol {
        Some(protocol) => format!("{who} has no {protocol} port named `{name}`"),
        None => format!("{who} has no port named `{name}`"),
    };
    let diagnostic = Diagnostic::error(codes::UNKNOWN_PORT_NAME, message, span);
    let names = ports.iter().map(|p| p.name.as_str());
    match nearest(name, names).filter(|near| *near != name) {
        Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), span, near),
        None if ports.is_empty() => {
            diagnostic.help(format!("give it one: `port {name} NUMBER/tcp` in the pod's block"))
        }
        None => {
            let known: Vec<String> =
                ports.iter().map(|p| format!("{} {}/{}", p.name, p.port, p.protocol)).collect();
            diagnostic.help(format!("its ports: {}", known.join(", ")))
        }
    }
}
