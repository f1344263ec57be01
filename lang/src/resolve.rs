//! A question's names and defaults resolved against a world. Reads no text and judges no packet.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use engine::diag::Diagnostic;
use engine::net::{Packet, Protocol};
use engine::question::{Known, Question};
use engine::source::Span;
use engine::topology::{Party, PodId, World};

use crate::ast::{self, PacketOption, PartyKind, PartyName};
use crate::codes;

mod directory;
mod extra;
mod follow;
mod http;
mod options;
mod packet;
mod party;
mod port;
mod raw;
mod service;

pub(crate) use directory::{Atlas, Directory};
pub(crate) use follow::follow_up;
use options::{Options, Quoting};
pub(crate) use party::label;
pub use raw::{Bytes, Device, Raw, frame_fits, raw};

/// The engine's question: endpoints looked up, family chosen, every open field filled.
///
/// # Errors
/// One problem: an unknown or ambiguous name, families that do not meet, options that do not fit.
pub fn question(world: &World, question: &ast::Question) -> Result<Question, Diagnostic> {
    opening(Atlas::plain(world), question, None)
}

/// The same for a step of a dialogue: with the packet that `quoting last` is about, where there is one.
pub(crate) fn opening(
    atlas: Atlas<'_>,
    question: &ast::Question,
    latest: Option<&Packet>,
) -> Result<Question, Diagnostic> {
    if let PartyKind::Address(address) = question.source.kind
        && let Some(owner @ Party::Service(_)) = atlas.owner(address)
    {
        return Err(service_address_sends(address, &label(atlas.world, owner), question));
    }
    filled(atlas, question, latest)
}

/// The same for any packet that may be seen somewhere: an ICMP error quotes a service's answer, too.
fn filled(
    atlas: Atlas<'_>,
    question: &ast::Question,
    latest: Option<&Packet>,
) -> Result<Question, Diagnostic> {
    let source = Side::of(atlas, &question.source, party::sender)?;
    let mut destination = Side::of(atlas, &question.target.party, party::find)?;
    let options = Options::of(&question.options)?;
    let quoted = quoted(atlas, &options, latest)?;
    let mut assumed = Vec::new();
    if let Party::Service(_) = source.party {
        return Err(service_sends(&source));
    }
    let service = service::Asked::of(atlas, destination.party, question);
    if let Some(headless) = service.filter(|asked| asked.service.is_headless()) {
        destination = destination.become_pod(atlas, headless.resolved(&options)?);
        assumed.push(format!(
            "{} is headless: its name resolves to {}",
            headless.service.qualified(),
            destination.label
        ));
    }
    let v6 = family(atlas, (&source, &destination), &options, quoted.as_ref(), &mut assumed)
        .map_err(|problem| ask_about_port(problem, &question.target))?;
    let (from, to) = (source.address(v6, &options)?, destination.address(v6, &Options::default())?);
    if let PartyKind::Dns(_) = question.target.party.kind {
        destination.party = atlas.owner(to).unwrap_or(Party::Address(to));
        assumed.extend(destination.chosen(to));
    }
    let asked = packet::Asked {
        atlas,
        question,
        destination: destination.party,
        service,
        options: &options,
    };
    let made = asked.packet(from, to, quoted.as_ref().map(|q| &q.packet))?;
    if from == to && !service::is_own_node_port(atlas, source.party, &made.packet) {
        let claimed = options.from_ip.is_some().then_some(from);
        return Err(to_itself(&source, &destination, claimed));
    }
    if means_itself(to) && is_of_node(atlas.world, source.party) {
        return Err(to_itself(&source, &destination, None));
    }
    assumed.extend(without_brackets(atlas.world, &question.target));
    assumed.extend(made.assumed);
    let headless = service.filter(|asked| asked.service.is_headless());
    assumed.extend(headless.and_then(|asked| asked.untranslated(destination.party, &made.packet)));
    let served = service.filter(|asked| !asked.service.is_headless());
    if let (Some(asked), Some(known)) = (served, &options.known) {
        asked.check_known(known)?;
    }
    let choose = match options.choose.as_ref().filter(|_| headless.is_none()) {
        Some(pod) => {
            let parties = (source.party, destination.party);
            Some(service::chosen(atlas, question, parties, &made.packet, pod)?)
        }
        None => None,
    };
    Ok(Question {
        source: source.party,
        destination: destination.party,
        packet: made.packet,
        with_reply: question.with_reply(),
        choose,
        known: options
            .http
            .as_ref()
            .map_or(options.known.map(|k| k.node), |_| Some(Known::Connected)),
        assumed,
        undetermined: made.undetermined,
    })
}

/// The endpoint behind a name.
///
/// # Errors
/// The name is unknown or ambiguous.
pub fn party(world: &World, name: &PartyName) -> Result<Party, Diagnostic> {
    party_in(Atlas::plain(world), name)
}

/// [`party`], with an index where there is one.
pub(crate) fn party_in(atlas: Atlas<'_>, name: &PartyName) -> Result<Party, Diagnostic> {
    party::find(atlas, name)
}

/// That nothing has the name, told without advice; `None` where something has it.
pub(crate) fn unknown_in_brief(atlas: Atlas<'_>, name: &PartyName) -> Option<Diagnostic> {
    party::unknown_in_brief(atlas, name)
}

/// The packet that an ICMP error is about.
struct Quoted {
    packet: Packet,
    span: Span,
}

fn quoted(
    atlas: Atlas<'_>,
    options: &Options<'_>,
    latest: Option<&Packet>,
) -> Result<Option<Quoted>, Diagnostic> {
    let Some(written) = &options.quoting else { return Ok(None) };
    let span = written.span;
    match (written.node, latest) {
        (Quoting::Question(inner), _) => {
            let inner = family_of_error(inner, options);
            let packet = filled(atlas, &inner, None)?.packet;
            Ok(Some(Quoted { packet, span }))
        }
        (Quoting::Last, Some(latest)) => Ok(Some(Quoted { packet: latest.clone(), span })),
        (Quoting::Last, None) => {
            let message = "`quoting last` needs an earlier packet of the same dialogue";
            Err(Diagnostic::error(codes::ORPHAN_STEP, message, span)
                .help("write the packet out: `quoting ( SRC -> DST:PORT/PROTO )`"))
        }
    }
}

/// The question of a quoted packet. An ICMPv6 error quotes IPv6, so that this goes without saying.
fn family_of_error<'q>(inner: &'q ast::Question, options: &Options<'_>) -> Cow<'q, ast::Question> {
    let error = options.icmp.as_ref().filter(|icmp| icmp.node.0 == Protocol::Icmpv6);
    let is_said = |o: &ast::Spanned<PacketOption>| matches!(o.node, PacketOption::Family { .. });
    match error {
        Some(error) if !inner.options.iter().any(is_said) => {
            let mut inner = inner.clone();
            let node = PacketOption::Family { v6: true };
            inner.options.push(ast::Spanned { node, span: error.span });
            Cow::Owned(inner)
        }
        _ => Cow::Borrowed(inner),
    }
}

/// One end of a question.
struct Side {
    party: Party,
    /// What messages call it.
    label: String,
    addresses: Vec<IpAddr>,
    span: Span,
}

impl Side {
    fn of(
        atlas: Atlas<'_>,
        name: &PartyName,
        find: impl Fn(Atlas<'_>, &PartyName) -> Result<Party, Diagnostic>,
    ) -> Result<Self, Diagnostic> {
        let (party, world) = (find(atlas, name)?, atlas.world);
        let addresses = match party {
            Party::Pod(id) => world.pod(id).map(|p| p.addresses.clone()),
            Party::Node(id) => world.node(id).map(|n| n.addresses.clone()),
            Party::External(id) => world.external(id).map(|e| e.addresses.clone()),
            Party::Service(id) => world.service(id).map(|s| s.cluster_ips.clone()),
            Party::Health(id) => world.node(id).map(|n| n.health.clone()),
            Party::Address(address) => Some(vec![address]),
        };
        if let Some((label, addresses)) = party::addresses_of(world, name) {
            return Ok(Self { party, label, addresses, span: name.span });
        }
        let addresses = addresses.unwrap_or_default();
        Ok(Self { party, label: label(world, party), addresses, span: name.span })
    }

    /// The pod that a headless service's name leads to, in its place.
    fn become_pod(self, atlas: Atlas<'_>, id: PodId) -> Self {
        let pod = atlas.world.pod(id);
        let addresses = pod.map(|p| p.addresses.clone()).unwrap_or_default();
        let party = Party::Pod(id);
        Self { party, label: label(atlas.world, party), addresses, span: self.span }
    }

    /// That a name has more than this address of the family.
    fn chosen(&self, address: IpAddr) -> Option<String> {
        let family = self.addresses.iter().filter(|a| a.is_ipv6() == address.is_ipv6());
        let count = family.count();
        (count > 1).then(|| {
            format!("{} resolves to {address}, the first of its {count} addresses", self.label)
        })
    }

    fn has(&self, v6: bool) -> bool {
        self.addresses.iter().any(|a| a.is_ipv6() == v6)
    }

    /// The first address of the family; the one that the packet claims where it claims one.
    fn address(&self, v6: bool, options: &Options<'_>) -> Result<IpAddr, Diagnostic> {
        let claimed = options.from_ip.as_ref().map(|a| a.node);
        claimed
            .or_else(|| self.addresses.iter().find(|a| a.is_ipv6() == v6).copied())
            .ok_or_else(|| self.lacks(v6))
    }

    /// Adds the address of a family that whoever is meant has besides those that were written.
    fn offer(&self, atlas: Atlas<'_>, problem: Diagnostic, v6: bool) -> Diagnostic {
        let world = atlas.world;
        let owner = match self.party {
            Party::Address(address) => atlas.owner(address),
            party => Some(party),
        };
        let mut all: Vec<IpAddr> = match owner {
            Some(Party::Service(id)) => world.service(id).map(|s| s.addresses().collect()),
            Some(Party::Pod(id)) => world.pod(id).map(|p| p.addresses.clone()),
            Some(Party::Node(id)) => world.node(id).map(|n| n.addresses.clone()),
            Some(Party::External(id)) => world.external(id).map(|e| e.addresses.clone()),
            Some(Party::Health(id)) => world.node(id).map(|n| n.health.clone()),
            Some(Party::Address(_)) | None => None,
        }
        .unwrap_or_default();
        // Cluster IPs come first. Who asked for another kind is likely outside, where those are closed.
        if let (Party::Address(asked), Some(Party::Service(id))) = (self.party, owner)
            && world.service(id).is_some_and(|service| !service.cluster_ips.contains(&asked))
        {
            all.reverse();
        }
        match (owner, all.iter().find(|address| address.is_ipv6() == v6)) {
            (Some(owner), Some(other)) => {
                let (owner, family) = (label(world, owner), family_name(v6));
                problem.help(format!("{owner} has an {family} address, {other}: ask with that"))
            }
            _ => problem,
        }
    }

    fn lacks(&self, v6: bool) -> Diagnostic {
        let message = format!("{} has no {} address", self.label, family_name(v6));
        let diagnostic = Diagnostic::error(codes::FAMILIES, message, self.span);
        match self.addresses.as_slice() {
            [] => diagnostic,
            some => {
                let some: Vec<String> = some.iter().map(ToString::to_string).collect();
                diagnostic.help(format!("it has {}", some.join(", ")))
            }
        }
    }
}

fn family_name(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

/// Whether the packet is IPv6: as asked for, else IPv4 where both sides have it.
fn family(
    atlas: Atlas<'_>,
    (source, destination): (&Side, &Side),
    options: &Options<'_>,
    quoted: Option<&Quoted>,
    assumed: &mut Vec<String>,
) -> Result<bool, Diagnostic> {
    let claims = options.from_ip.as_ref().map(|a| a.node);
    let sends = |v6| claims.map_or_else(|| source.has(v6), |a| a.is_ipv6() == v6);
    let both = |v6| sends(v6) && destination.has(v6);
    let asked = options.family(quoted.map(|q| (q.packet.ip.source.is_ipv6(), q.span)))?;
    let Some(asked) = asked else {
        return match (both(false), both(true)) {
            (true, true) => {
                assumed.push("IPv4, as both sides have IPv4 and IPv6".to_owned());
                Ok(false)
            }
            (true, false) => Ok(false),
            (false, true) => Ok(true),
            (false, false) => Err(apart(atlas, source, destination, sends(false))),
        };
    };
    if both(asked.node) {
        return Ok(asked.node);
    }
    let side = if destination.has(asked.node) { source } else { destination };
    let problem = side
        .lacks(asked.node)
        .also(asked.span, format!("{} is asked for", family_name(asked.node)));
    Err(side.offer(atlas, problem, asked.node))
}

/// Whether a packet for an address never leaves the host that sends it.
fn means_itself(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

/// Whether a node's own network sends: the node itself, or a pod that shares it.
fn is_of_node(world: &World, party: Party) -> bool {
    match party {
        Party::Node(_) => true,
        Party::Pod(id) => world.pod(id).is_some_and(|pod| pod.host_network),
        Party::Address(address) => {
            world.owner(address).is_some_and(|owner| owner != party && is_of_node(world, owner))
        }
        Party::Service(_) | Party::External(_) | Party::Health(_) => false,
    }
}

/// Two sides without a common family.
fn apart(atlas: Atlas<'_>, source: &Side, destination: &Side, source_is_v4: bool) -> Diagnostic {
    let (from, to) = (family_name(!source_is_v4), family_name(source_is_v4));
    let message = format!("{} is {from} only, {} is {to} only", source.label, destination.label);
    let problem = Diagnostic::error(codes::FAMILIES, message, destination.span)
        .label(format!("only {to}"))
        .also(source.span, format!("only {from}"));
    let problem = destination.offer(atlas, problem, !source_is_v4);
    source.offer(atlas, problem, source_is_v4)
}

/// `2001:db8::1:53` is one address: where a port was meant, brackets are missing.
fn ask_about_port(problem: Diagnostic, target: &ast::Target) -> Diagnostic {
    match split_at_port(target) {
        Some((before, last)) => {
            problem.help(format!("if {last} is meant to be the port, write `[{before}]:{last}`"))
        }
        None => problem,
    }
}

/// The same where the address can be asked about, but nobody has it while somebody has the one without its end.
fn without_brackets(world: &World, target: &ast::Target) -> Option<String> {
    let (before, last) = split_at_port(target)?;
    let (PartyKind::World(whole) | PartyKind::Address(whole)) = target.party.kind else {
        return None;
    };
    let owner = world.owner(IpAddr::V6(before)).filter(|_| world.owner(whole).is_none())?;
    let of = party::label(world, owner);
    Some(format!("{whole} is one address; port {last} of {of} is `[{before}]:{last}`"))
}

/// An IPv6 address as an address and a port behind it, if it may be read so.
fn split_at_port(target: &ast::Target) -> Option<(Ipv6Addr, u16)> {
    let (PartyKind::World(IpAddr::V6(address)) | PartyKind::Address(IpAddr::V6(address)), None) =
        (&target.party.kind, &target.port)
    else {
        return None;
    };
    let text = address.to_string();
    let (before, last) = text.rsplit_once(':')?;
    Some((before.parse().ok()?, last.parse().ok()?))
}

/// A service has no network to send from.
fn service_sends(source: &Side) -> Diagnostic {
    let message = format!("{} sends nothing itself", source.label);
    only_in_front(Diagnostic::error(codes::WHICH_BACKEND, message, source.span))
}

/// The same, named by one of its addresses.
fn service_address_sends(address: IpAddr, service: &str, question: &ast::Question) -> Diagnostic {
    let message = format!("{address} is {service}, which sends nothing itself");
    only_in_front(Diagnostic::error(codes::WHICH_BACKEND, message, question.source.span))
        .help(format!("to pretend that a packet comes from there, add `from-ip {address}`"))
}

fn only_in_front(diagnostic: Diagnostic) -> Diagnostic {
    diagnostic
        .note("a service is an address in front of pods; its answers are asked by `with reply`")
        .help("name the pod that sends")
}

/// Its own address never leaves a pod or node, so no program of the datapath sees the packet.
fn to_itself(source: &Side, destination: &Side, claimed: Option<IpAddr>) -> Diagnostic {
    let message = match claimed {
        Some(address) => format!("the packet would go from {address} to {address}"),
        None => format!("{} would send to itself", source.label),
    };
    Diagnostic::error(codes::TO_ITSELF, message, destination.span)
        .note("such a packet stays inside: no policy is asked and nothing can be traced")
}

#[cfg(test)]
mod tests;
