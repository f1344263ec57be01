//! Hops as reports: every event with names, in the order that a reader follows: who sends, what is known
//! of the flow, where it goes, what policy says, what is rewritten, what is done.

use std::net::IpAddr;

use crate::net::{Direction, Hook};
use crate::tables::{EndpointId, EntryId, NodeTables, Target};
use crate::topology::{Endpoint, NodeId, Party};
use crate::trace::{Action, Event, Hop, IdentitySource, Rewriting, Trace, TunnelHeader};

use super::seen::Seen;
use super::{Context, HopReport, Step, TunnelReport, Unobserved, names, service, wire};

/// The report of a hop; `legs` are the directions decided at it, `is_last` whether the journey ends there.
pub(super) fn report(context: &Context<'_>, hop: &Hop, legs: &[&Seen], is_last: bool) -> HopReport {
    HopReport {
        node: context.node(hop.node),
        hook: hop.hook,
        device: hop.device.clone(),
        steps: steps(context, hop, legs, is_last),
        tunnel: hop.tunnel.as_ref().map(tunnel_report),
        undetermined: undetermined(hop),
        frame_in: hop.frame_in.clone(),
        quiet: !is_last && legs.is_empty() && is_quiet(hop),
        after: None,
        frame: hop.frame_out.clone(),
    }
}

/// Where the packet was expected and not seen.
pub(super) fn unobserved(context: &Context<'_>, trace: &Trace) -> Option<Unobserved> {
    let unseen = trace.unseen.as_ref()?;
    let last = trace.hops.last()?;
    let node = context.tables.node(last.node);
    let device = |ifindex: u32| {
        let known = node.filter(|node| node.tunnel_ifindex == ifindex);
        let own = context.world.node(last.node).map(|node| node.device.clone());
        known.map(|node| node.tunnel.device.clone()).or(own).unwrap_or_default()
    };
    let by = match last.action() {
        _ if unseen.hook == Hook::ToContainer => unseen.device.clone(),
        Some(Action::Tunnel { ifindex, .. } | Action::Network { ifindex, .. }) => device(ifindex),
        Some(Action::Stack { .. }) => device(0),
        _ => last.device.clone(),
    };
    let receives = matches!(unseen.hook, Hook::FromOverlay | Hook::FromNetdev | Hook::ToContainer);
    let inner = if last.is_encapsulated() { &last.frame_in } else { &last.frame_out };
    let to = wire::ends(inner).map(|ends| ends.destination.address).filter(|_| receives);
    Some(Unobserved {
        left: context.node(last.node),
        by,
        node: context.node(unseen.node),
        hook: unseen.hook,
        device: unseen.device.clone(),
        endpoint: to.and_then(|to| match context.world.owner(to)? {
            Party::Pod(id) => Some(context.world.endpoint_name(Endpoint::Pod(id))),
            _ => None,
        }),
    })
}

fn tunnel_report(header: &TunnelHeader) -> TunnelReport {
    TunnelReport {
        kind: header.kind,
        source: header.source.to_string(),
        destination: header.destination.to_string(),
        port: header.port,
        source_port: header.source_port,
        vni: header.vni,
    }
}

/// Outer fields first, then the packet's own; each once.
fn undetermined(hop: &Hop) -> Vec<String> {
    let outer = hop.tunnel.iter().flat_map(|t| &t.undetermined);
    let mut names: Vec<String> = Vec::new();
    for name in outer.chain(&hop.undetermined) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Whether the program only let the packet go on its way: what it is then is told by the hops around it.
fn is_quiet(hop: &Hop) -> bool {
    let passes = matches!(hop.action(), Some(Action::Pass | Action::Stack { .. }));
    let says = |event: &Event| {
        matches!(
            event,
            Event::Service { .. }
                | Event::Rewritten { .. }
                | Event::Encrypted { .. }
                | Event::Policy { .. }
        )
    };
    let at_device = matches!(
        hop.hook,
        Hook::FromNetdev | Hook::ToNetdev | Hook::ToOverlay | Hook::ToHost | Hook::Prefilter
    );
    at_device && passes && !hop.events.iter().any(|stamped| says(&stamped.event))
}

fn steps(context: &Context<'_>, hop: &Hop, legs: &[&Seen], is_last: bool) -> Vec<Step> {
    let events = || hop.events.iter().map(|s| s.event);
    let mut steps = Vec::new();
    steps
        .extend(events().filter(undone_first).filter_map(|e| service::rewritten(context, hop, &e)));
    steps.extend(events().filter_map(|e| source(context, hop, &e)));
    steps.extend(events().filter_map(|e| service::step(context, hop, &e)));
    steps.extend(events().filter_map(|e| conntrack(&e)));
    steps.extend(events().filter_map(|e| destination(context, hop, &e)));
    steps.extend(legs.iter().filter_map(|leg| policy(context, hop, leg)));
    steps.extend(
        events().filter(|e| !undone_first(e)).filter_map(|e| service::rewritten(context, hop, &e)),
    );
    steps.extend(service::requoted(hop));
    steps.extend(events().filter_map(|e| service::encrypted(&e)));
    steps.extend(hop.action().and_then(|action| outcome(context, hop, action, is_last)));
    steps
}

/// Whether a rewriting is undone before anything else is asked about the packet, rather than done when all is decided.
fn undone_first(event: &Event) -> bool {
    matches!(
        event,
        Event::Rewritten { rewriting: Rewriting::MasqueradeReply | Rewriting::NodePortReply, .. }
    )
}

fn source(context: &Context<'_>, hop: &Hop, event: &Event) -> Option<Step> {
    let Event::Identity { source_side: true, address, identity, from } = *event else {
        return None;
    };
    let entry = hit(from);
    Some(Step::Identity {
        address: address.to_string(),
        identity,
        meaning: context.meaning(identity),
        from: source_word(from).to_owned(),
        prefix: entry.and_then(|entry| context.prefix(hop.node, entry)),
        entry,
    })
}

/// The ipcache entry that an identity came from; a miss (0) is none.
fn hit(from: IdentitySource) -> Option<EntryId> {
    match from {
        IdentitySource::Ipcache(entry) | IdentitySource::OwnAddress(entry) => {
            Some(entry).filter(|e| e.0 != 0)
        }
        _ => None,
    }
}

fn source_word(from: IdentitySource) -> &'static str {
    match from {
        IdentitySource::Endpoint => "endpoint",
        IdentitySource::Vni => "vni",
        IdentitySource::Ipcache(_) => "ipcache",
        IdentitySource::OwnAddress(_) => "own-address",
        IdentitySource::Remembered => "remembered",
    }
}

fn conntrack(event: &Event) -> Option<Step> {
    let Event::Conntrack { state, created, expires_in, closing } = *event else { return None };
    Some(Step::Conntrack { state, created, expires_in, closing })
}

fn destination(context: &Context<'_>, hop: &Hop, event: &Event) -> Option<Step> {
    let Event::Identity { source_side: false, address, identity, from } = *event else {
        return None;
    };
    let entry = hit(from);
    let has_service = hop.events.iter().any(|s| matches!(s.event, Event::Service { .. }));
    if has_service && service::is_address(context, hop, entry) {
        return None;
    }
    let elsewhere = other_node(context, hop, entry);
    Some(Step::Ipcache {
        address: address.to_string(),
        identity,
        meaning: context.meaning(identity),
        prefix: entry.and_then(|entry| context.prefix(hop.node, entry)),
        entry,
        node: elsewhere.map(|(node, _)| context.node(node)),
        via: elsewhere.map(|(_, via)| via.to_string()),
        remembered: from == IdentitySource::Remembered,
    })
}

/// The other node that a destination is on: by its ipcache entry or, where conntrack remembered the way,
/// by what was done.
fn other_node(
    context: &Context<'_>,
    hop: &Hop,
    entry: Option<EntryId>,
) -> Option<(NodeId, IpAddr)> {
    let tables = context.tables_of(hop.node)?;
    match entry.and_then(|entry| tables.ipcache_entry(entry)).map(|e| e.target) {
        Some(Target::Tunnel { remote, node } | Target::Native { remote, node }) => {
            Some((node, remote))
        }
        Some(_) => None,
        None => match hop.action()? {
            Action::Tunnel { remote, .. } | Action::Network { next_hop: Some(remote), .. } => {
                context.node_at(remote).map(|node| (node, remote))
            }
            _ => None,
        },
    }
}

/// The decision of a direction. A direction that conntrack let through has no event of its own; it is
/// shown all the same.
fn policy(context: &Context<'_>, hop: &Hop, leg: &Seen) -> Option<Step> {
    let decided = leg.decided.clone();
    let event = hop.events.iter().find(
        |s| matches!(s.event, Event::Policy { direction, .. } if direction == decided.direction),
    );
    let Some(stamped) = event else { return Some(Step::Skipped { decided }) };
    let Event::Policy {
        endpoint, direction, peer, protocol, port, entry, other, remembered, ..
    } = stamped.event
    else {
        return None;
    };
    let key = |entry| key_in_words(context, hop.node, endpoint, direction, entry);
    Some(Step::Policy {
        decided,
        peer,
        peer_meaning: context.meaning(peer),
        protocol,
        port,
        key: key(entry),
        other: other.map(|entry| (entry, key(entry).unwrap_or_default())),
        remembered,
    })
}

/// The key of an entry of the table that the endpoint uses in the direction.
fn key_in_words(
    context: &Context<'_>,
    node: NodeId,
    endpoint: EndpointId,
    direction: Direction,
    entry: EntryId,
) -> Option<String> {
    let tables = context.tables_of(node)?;
    let of = tables.endpoint(endpoint)?;
    let table = match direction {
        Direction::Egress => of.egress,
        Direction::Ingress => of.ingress,
    };
    let found = tables.table(table)?.entries.iter().find(|e| e.entry == entry)?;
    Some(names::key(&found.key))
}

fn outcome(context: &Context<'_>, hop: &Hop, action: Action, is_last: bool) -> Option<Step> {
    let tables = context.tables_of(hop.node)?;
    match action {
        Action::Drop(reason) => Some(Step::Drop { reason, by_stack: false }),
        Action::Stack { host } => Some(Step::Stack { host, followed: !is_last }),
        Action::Network { next_hop, .. } => Some(Step::Network {
            device: context.device(hop.node),
            next_hop: next_hop.map(|address| of_family(context, hop, address).to_string()),
            node: next_hop.and_then(|at| context.node_at(at)).map(|node| context.node(node)),
            ttl: wire::ttl(&hop.frame_out),
        }),
        Action::Tunnel { vni, remote, .. } => Some(tunnel(context, tables, hop, vni, remote)),
        Action::Deliver { endpoint, .. } => Some(deliver(context, hop, endpoint)),
        Action::Pass => passed(context, tables, hop, is_last),
    }
}

/// The address by which a packet reaches a node: one of its own family, where the node has one.
fn of_family(context: &Context<'_>, hop: &Hop, at: IpAddr) -> IpAddr {
    let Some(ends) = wire::ends(&hop.frame_out) else { return at };
    let is_v6 = ends.destination.address.is_ipv6();
    let node = context.node_at(at).and_then(|id| context.world.node(id));
    let same = node.and_then(|node| node.addresses.iter().find(|a| a.is_ipv6() == is_v6));
    if at.is_ipv6() == is_v6 { at } else { same.copied().unwrap_or(at) }
}

/// What a program that lets a packet through leads to: into the pod, out of the node, to the node itself.
fn passed(context: &Context<'_>, tables: &NodeTables, hop: &Hop, is_last: bool) -> Option<Step> {
    match hop.hook {
        // What an earlier program delivered passes here unjudged and was reported there.
        Hook::ToContainer if is_marked(hop) => None,
        Hook::ToContainer => Some(deliver(context, hop, tables.endpoint_at(hop.ifindex)?.id)),
        Hook::ToOverlay if hop.is_encapsulated() => {
            let header = hop.tunnel.as_ref()?;
            Some(tunnel(context, tables, hop, header.vni, header.destination))
        }
        Hook::ToNetdev if is_last => {
            Some(Step::Left { device: hop.device.clone(), node: bound_for(context, hop) })
        }
        // No node is behind the address: the tunnel has no other end for it.
        Hook::ToOverlay if is_last => Some(Step::Stack { host: false, followed: false }),
        Hook::ToHost => Some(Step::Stack { host: true, followed: !is_last }),
        Hook::FromHost | Hook::FromNetdev | Hook::FromOverlay => {
            Some(Step::Stack { host: false, followed: !is_last })
        }
        Hook::FromContainer | Hook::ToNetdev | Hook::ToOverlay | Hook::Prefilter => None,
    }
}

/// The node of the cluster that a packet is for.
fn bound_for(context: &Context<'_>, hop: &Hop) -> Option<String> {
    let address = wire::ends(&hop.frame_out)?.destination.address;
    match context.world.owner(address)? {
        Party::Node(id) => Some(context.node(id)),
        _ => None,
    }
}

/// Whether the hop let the packet pass without looking at it.
fn is_marked(hop: &Hop) -> bool {
    hop.events.iter().all(|s| matches!(s.event, Event::Outcome(_)))
}

fn tunnel(context: &Context<'_>, tables: &NodeTables, hop: &Hop, vni: u32, remote: IpAddr) -> Step {
    let header = hop.tunnel.as_ref();
    let sender = tables.endpoint_at(hop.ifindex).filter(|e| e.identity.0 == vni);
    let meaning = match sender {
        Some(sender) => context.world.endpoint_name(sender.endpoint),
        None => context.meaning(crate::identity::Identity(vni)),
    };
    Step::Tunnel {
        kind: header.map_or(tables.tunnel.kind, |h| h.kind),
        source: header.map_or(tables.tunnel_address, |h| h.source).to_string(),
        destination: remote.to_string(),
        port: header.map_or(tables.tunnel.port, |h| h.port),
        vni,
        meaning,
        node: context.node_at(remote).map(|node| context.node(node)),
    }
}

fn deliver(context: &Context<'_>, hop: &Hop, endpoint: EndpointId) -> Step {
    let entry = context.endpoint_entry(hop.node, endpoint);
    Step::Deliver {
        interface: entry.map_or_else(|| hop.device.clone(), |e| e.interface.clone()),
        pod: context.endpoint(hop.node, endpoint),
        ttl: wire::ttl(&hop.frame_out),
    }
}

/// Whether the packet leaves the hop by the tunnel.
pub(super) fn is_tunneled(hop: &Hop) -> bool {
    hop.is_encapsulated()
}
