//! Names of endpoints: looked up by kind, by alias, or among all kinds; unknown and ambiguous ones
//! explained.

use std::net::IpAddr;

use engine::diag::Diagnostic;
use engine::dns::DnsName;
use engine::source::Span;
use engine::topology::{ExternalId, Party, Pod, Service, World};

use super::Atlas;
use crate::ast::{PartyKind, PartyName, Qualified};
use crate::codes;
use crate::names::nearest;

/// How many candidates an ambiguous name lists.
const MOST_CANDIDATES: usize = 8;

pub(super) fn find(atlas: Atlas<'_>, name: &PartyName) -> Result<Party, Diagnostic> {
    match &name.kind {
        PartyKind::Bare(bare) => {
            let alias = bare.namespace.is_none().then(|| atlas.alias(&bare.name)).flatten();
            match alias {
                Some(target) => Ok(target),
                None => one(
                    atlas.world,
                    &named(atlas, bare, &Kind::ALL),
                    &bare.to_string(),
                    &Kind::ALL,
                    name.span,
                ),
            }
        }
        PartyKind::Pod(pod) => of_kind(atlas, pod, Kind::Pod, name.span),
        PartyKind::Service(service) => of_kind(atlas, service, Kind::Service, name.span),
        PartyKind::Node(node) => of_kind(atlas, &plain(node), Kind::Node, name.span),
        PartyKind::Health(node) => health(atlas, node, name.span),
        PartyKind::External(external) => {
            of_kind(atlas, &plain(external), Kind::External, name.span)
        }
        PartyKind::Dns(wanted) => by_name(atlas.world, wanted, name.span),
        PartyKind::World(address) => outside(atlas, *address, name.span),
        PartyKind::Address(address) => Ok(Party::Address(*address)),
    }
}

/// The same for a side that sends: no problem with its name proposes a service, which sends nothing.
pub(super) fn sender(atlas: Atlas<'_>, name: &PartyName) -> Result<Party, Diagnostic> {
    find(atlas, name).map_err(|mut problem| {
        let proposed = problem.helps.len();
        problem.helps.retain(|help| !help.message.contains("`service "));
        let is_changed = problem.helps.len() < proposed;
        let has_fix = problem.helps.iter().any(|help| help.fix.is_some());
        if is_changed && !has_fix {
            return problem.help("a service sends nothing itself: name the pod that sends");
        }
        problem
    })
}

/// That nothing has the name, without advice, where so it is: looking for what was meant takes long in a
/// large world.
pub(super) fn unknown_in_brief(atlas: Atlas<'_>, name: &PartyName) -> Option<Diagnostic> {
    let one = |kind, name: &str| (plain(name), vec![kind]);
    let (wanted, kinds) = match &name.kind {
        PartyKind::Bare(bare) => (bare.clone(), Kind::ALL.to_vec()),
        PartyKind::Pod(pod) => (pod.clone(), vec![Kind::Pod]),
        PartyKind::Service(service) => (service.clone(), vec![Kind::Service]),
        PartyKind::Node(node) | PartyKind::Health(node) => one(Kind::Node, node),
        PartyKind::External(external) => one(Kind::External, external),
        PartyKind::Dns(_) | PartyKind::World(_) | PartyKind::Address(_) => return None,
    };
    let is_alias =
        kinds.len() > 1 && wanted.namespace.is_none() && atlas.alias(&wanted.name).is_some();
    let is_unknown = !is_alias && named(atlas, &wanted, &kinds).is_empty();
    is_unknown.then(|| nothing(&wanted.to_string(), &kinds, name.span))
}

fn nothing(name: &str, kinds: &[Kind], span: Span) -> Diagnostic {
    let what = match kinds {
        [one] => format!("no {} is named `{name}`", one.word()),
        _ => format!("nothing is named `{name}`"),
    };
    Diagnostic::error(codes::UNKNOWN_ENDPOINT, what, span)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pod,
    Service,
    Node,
    External,
    Health,
}

impl Kind {
    /// Those that a bare name may mean.
    const ALL: [Self; 4] = [Self::Pod, Self::Service, Self::Node, Self::External];

    fn word(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Node => "node",
            Self::External => "external",
            Self::Health => "health",
        }
    }
}

fn plain(name: &str) -> Qualified {
    Qualified { namespace: None, name: name.to_owned() }
}

fn of_kind(
    atlas: Atlas<'_>,
    name: &Qualified,
    kind: Kind,
    span: Span,
) -> Result<Party, Diagnostic> {
    one(atlas.world, &named(atlas, name, &[kind]), &name.to_string(), &[kind], span)
}

/// Every party with its kind and whole name, in the order of the world.
fn everyone(world: &World) -> impl Iterator<Item = (Party, Kind, String)> {
    let pods = world.pods().map(|(id, p)| (Party::Pod(id), Kind::Pod, p.qualified()));
    let nodes = world.nodes().map(|(id, n)| (Party::Node(id), Kind::Node, n.name.clone()));
    let externals = (0..).map(ExternalId).zip(&world.externals);
    let externals = externals.map(|(id, e)| (Party::External(id), Kind::External, e.name.clone()));
    let services = world.services();
    let services = services.map(|(id, s)| (Party::Service(id), Kind::Service, s.qualified()));
    pods.chain(services).chain(nodes).chain(externals)
}

/// Parties of these kinds that have the name; without its namespace that of a pod or service matches in any.
fn named(atlas: Atlas<'_>, name: &Qualified, kinds: &[Kind]) -> Vec<Party> {
    let is_meant = |party: &Party| match (party, &name.namespace) {
        (Party::Pod(id), Some(wanted)) => {
            kinds.contains(&Kind::Pod)
                && atlas.world.pod(*id).is_some_and(|pod| pod.namespace == *wanted)
        }
        (Party::Pod(_), None) => kinds.contains(&Kind::Pod),
        (Party::Service(id), wanted) => {
            let namespace = atlas.world.service(*id).map(|service| &service.namespace);
            kinds.contains(&Kind::Service) && (wanted.is_none() || namespace == wanted.as_ref())
        }
        (Party::Node(_), None) => kinds.contains(&Kind::Node),
        (Party::External(_), None) => kinds.contains(&Kind::External),
        _ => false,
    };
    let mut found = atlas.bearers(&name.name);
    found.retain(is_meant);
    found
}

/// A name without its namespace.
fn last(full: &str) -> &str {
    full.rsplit('/').next().unwrap_or(full)
}

fn one(
    world: &World,
    found: &[Party],
    name: &str,
    kinds: &[Kind],
    span: Span,
) -> Result<Party, Diagnostic> {
    match found {
        [one] => Ok(*one),
        [] => Err(unknown(world, name, kinds, span)),
        several => Err(ambiguous(world, several, name, span)),
    }
}

fn ambiguous(world: &World, several: &[Party], name: &str, span: Span) -> Diagnostic {
    let message = format!("`{name}` could be any of {}", several.len());
    let diagnostic = Diagnostic::error(codes::AMBIGUOUS_ENDPOINT, message, span);
    several.iter().take(MOST_CANDIDATES).fold(diagnostic, |diagnostic, party| {
        let full = written(world, *party);
        diagnostic.fix(format!("write `{full}`"), span, full)
    })
}

fn unknown(world: &World, name: &str, kinds: &[Kind], span: Span) -> Diagnostic {
    let diagnostic = nothing(name, kinds, span);
    // With its kind named, the fix must name it too.
    let prefix = match kinds {
        [one] => format!("{} ", one.word()),
        _ => String::new(),
    };
    let full = everyone(world).filter(|(_, kind, _)| kinds.contains(kind)).map(|(_, _, full)| full);
    let full: Vec<String> = full.collect();
    let mut known = full.clone();
    let short: Vec<String> =
        known.iter().filter(|k| k.contains('/')).map(|k| last(k).to_owned()).collect();
    if kinds.len() > 1 {
        known.extend(world.aliases.iter().map(|a| a.name.clone()));
    }
    if !name.contains('/') {
        known.extend(short);
    }
    if let Some(near) = nearest(name, known.iter().map(String::as_str)) {
        return diagnostic.fix(format!("did you mean `{near}`?"), span, format!("{prefix}{near}"));
    }
    elsewhere(world, diagnostic, name, kinds, span, &full)
}

/// The same name under another kind or namespace, else what there is.
fn elsewhere(
    world: &World,
    diagnostic: Diagnostic,
    name: &str,
    kinds: &[Kind],
    span: Span,
    known: &[String],
) -> Diagnostic {
    let same = everyone(world).filter(|(_, _, full)| last(full) == last(name));
    let same: Vec<Party> = same.map(|(party, ..)| party).collect();
    if !same.is_empty() {
        return same.iter().take(MOST_CANDIDATES).fold(diagnostic, |diagnostic, party| {
            let full = written(world, *party);
            diagnostic.fix(format!("there is `{full}`"), span, full)
        });
    }
    match (known, kinds) {
        ([], [kind]) => diagnostic.help(format!("the world has no {} at all", kind.word())),
        ([], _) => diagnostic.help("the world is empty: load a file, or declare pods and nodes"),
        (names, _) if names.len() <= MOST_CANDIDATES => {
            diagnostic.help(format!("known: {}", names.join(", ")))
        }
        _ => diagnostic.help("`show pods` and `show nodes` list what there is"),
    }
}

/// The health endpoint of a node, where it has one.
fn health(atlas: Atlas<'_>, node: &str, span: Span) -> Result<Party, Diagnostic> {
    let found = named(atlas, &plain(node), &[Kind::Node]);
    let Some(Party::Node(id)) = found.first().copied() else {
        let diagnostic = nothing(node, &[Kind::Node], span);
        let names = || atlas.world.nodes.iter().map(|node| node.name.as_str());
        return Err(match nearest(node, names()) {
            Some(near) => {
                let message = format!("did you mean `{near}`?");
                diagnostic.fix(message, span, format!("health {near}"))
            }
            None => diagnostic.help(format!("nodes: {}", crate::names::listed(names()))),
        });
    };
    if atlas.world.node(id).is_some_and(|node| !node.health.is_empty()) {
        return Ok(Party::Health(id));
    }
    let message = format!("node `{node}` has no health endpoint");
    Err(Diagnostic::error(codes::UNKNOWN_ENDPOINT, message, span)
        .help("give it one: `health ADDRESS` in the node's block, an address of its `pods`"))
}

/// The first external that is known by the name.
fn by_name(world: &World, wanted: &str, span: Span) -> Result<Party, Diagnostic> {
    let meant = DnsName::parse(wanted).map_err(|why| {
        let message = format!("`{wanted}` {why}");
        Diagnostic::error(codes::DNS_NAME, message, span)
            .help("a question asks about one name: `dns \"www.google.com\"`")
    })?;
    let mut externals = (0..).map(ExternalId).zip(&world.externals);
    if let Some((id, _)) = externals.find(|(_, e)| e.names.iter().any(|f| f.name == meant)) {
        return Ok(Party::External(id));
    }
    let message = format!("no address of `{meant}` is known");
    let diagnostic = Diagnostic::error(codes::UNKNOWN_ENDPOINT, message, span);
    let known = world.externals.iter().flat_map(|e| &e.names).map(|fact| fact.name.as_str());
    Err(match nearest(meant.as_str(), known) {
        Some(near) => {
            diagnostic.fix(format!("did you mean `{near}`?"), span, format!("dns \"{near}\""))
        }
        None => diagnostic.help(format!(
            "an external says what was answered: `external NAME {{ ip ADDRESS dns \"{meant}\" }}`"
        )),
    })
}

/// The addresses that a name is known to have, in the order of the world.
pub(super) fn addresses_of(world: &World, name: &PartyName) -> Option<(String, Vec<IpAddr>)> {
    let PartyKind::Dns(wanted) = &name.kind else { return None };
    let meant = DnsName::parse(wanted).ok()?;
    let known = world.externals.iter().filter(|e| e.names.iter().any(|f| f.name == meant));
    let addresses = known.flat_map(|external| external.addresses.iter().copied()).collect();
    Some((meant.to_string(), addresses))
}

/// A party as it can always be written.
fn written(world: &World, party: Party) -> String {
    let kind = match party {
        Party::Pod(_) => Kind::Pod,
        Party::Node(_) => Kind::Node,
        Party::External(_) => Kind::External,
        Party::Service(_) => Kind::Service,
        Party::Health(_) => Kind::Health,
        Party::Address(address) => return address.to_string(),
    };
    format!("{} {}", kind.word(), name(world, party))
}

/// A party's whole name without its kind.
fn name(world: &World, party: Party) -> String {
    let name = match party {
        Party::Pod(id) => world.pod(id).map(Pod::qualified),
        Party::Node(id) => world.node(id).map(|n| n.name.clone()),
        Party::External(id) => world.external(id).map(|e| e.name.clone()),
        Party::Service(id) => world.service(id).map(Service::qualified),
        Party::Health(id) => world.node(id).map(|n| n.name.clone()),
        Party::Address(address) => Some(address.to_string()),
    };
    name.unwrap_or_else(|| "?".to_owned())
}

fn outside(atlas: Atlas<'_>, address: IpAddr, span: Span) -> Result<Party, Diagnostic> {
    match atlas.owner(address) {
        Some(owner @ (Party::Pod(_) | Party::Node(_) | Party::Service(_) | Party::Health(_))) => {
            let full = written(atlas.world, owner);
            let message = format!("{address} is {full}, not outside the cluster");
            Err(Diagnostic::error(codes::NOT_OUTSIDE, message, span)
                .fix(format!("name it: `{full}`"), span, full.clone())
                .help("to pretend that a packet comes from there, add `from-ip`"))
        }
        _ => Ok(Party::Address(address)),
    }
}

/// What messages call a party.
pub(crate) fn label(world: &World, party: Party) -> String {
    match party {
        Party::Pod(_) | Party::External(_) | Party::Address(_) => name(world, party),
        Party::Node(_) | Party::Service(_) | Party::Health(_) => written(world, party),
    }
}
