//! The policy level: what the datapath does on its way to a verdict, one event after the other, in words. Look-ups
//! in tables and conntrack, what is written there, where the packet is sent, what is reported, where a hop begins
//! and ends; nothing about registers and memory.

use datapath::vm::call::Helper;
use datapath::vm::debug::{At, Happening};
use datapath::vm::machine::Machine;
use engine::backend::{Injection, Observation};
use engine::net::Mac;
use engine::trace::{Action, Event, IdentitySource, PolicyOutcome, Stamped};

use super::maps::{Place, direction, flow_in_words};
use super::scene::{Ends, Scene};

/// Maps that policy authors know: those that the tables are in, and conntrack.
const TABLES: [&str; 6] = ["IPCACHE", "POLICY", "CT4", "CT6", "ATTACHMENTS", "TARGETS"];

/// The program that puts a simulated packet before a hook's.
const DRIVER: &str = "driver";

/// An event of the policy level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PolicyEvent {
    /// When it had just happened.
    pub(crate) at: At,
    /// What it is about.
    pub(crate) keyword: String,
    /// What happened.
    pub(crate) text: String,
}

/// `node01 lxc_client from-container`: where a hop is.
pub(super) fn hop(scene: &Scene, injection: &Injection) -> String {
    let device = scene.device(injection.node, injection.ifindex);
    format!("{} {device} {}", scene.node(injection.node), injection.hook)
}

/// The beginning of a hop.
pub(super) fn began(injection: &Injection) -> (String, String) {
    let came = injection.tunnel.map_or_else(String::new, |key| {
        format!(" by the tunnel from {}, vni {}", key.source, key.vni)
    });
    let length = injection.frame.len();
    ("begin".to_owned(), format!("{length} bytes come{came}"))
}

/// The end of a hop: what became of the packet, and which of its fields are others now.
pub(super) fn ended(scene: &Scene, injection: &Injection, seen: &Observation) -> (String, String) {
    let action = seen.events.iter().rev().find_map(|stamped| match stamped.event {
        Event::Outcome(action) => Some(action),
        _ => None,
    });
    let what = action.map_or_else(
        || format!("returned {}, no outcome was reported", seen.code),
        |action| outcome(scene, injection, action),
    );
    let changes = changes(&injection.frame, &seen.frame);
    ("end".to_owned(), format!("{what}{changes}"))
}

/// `; ttl 64 -> 63`: fields of the headers that a program changed.
fn changes(before: &[u8], after: &[u8]) -> String {
    let (Some(old), Some(new)) = (datapath::frame::read(before), datapath::frame::read(after))
    else {
        return String::new();
    };
    let mut words = Vec::new();
    if old.ttl != new.ttl {
        words.push(format!("ttl {} -> {}", old.ttl, new.ttl));
    }
    let mut mac = |name: &str, old: Mac, new: Mac| {
        if old != new {
            words.push(format!("{name} {old} -> {new}"));
        }
    };
    mac("src-mac", old.ethernet.source, new.ethernet.source);
    mac("dst-mac", old.ethernet.destination, new.ethernet.destination);
    if words.is_empty() { String::new() } else { format!("; {}", words.join(", ")) }
}

/// What happened in words, if it belongs to this level.
pub(super) fn tell(
    scene: &Scene,
    injection: &Injection,
    machine: &Machine,
    happening: &Happening,
) -> Option<(String, String)> {
    let ends = Some(Ends::of(injection, machine.skb().bytes()));
    let place = Place { scene, node: injection.node, ends };
    let name = |map: u16| {
        let map = machine.maps().get(usize::from(map))?;
        Some(map.definition().name.as_str()).filter(|name| TABLES.contains(name))
    };
    match happening {
        Happening::Lookup { map, key, found } => {
            let map = name(*map)?;
            let value = found.as_ref().map_or_else(
                || "nothing".to_owned(),
                |found| place.value(map, key, found, injection.now),
            );
            Some(("lookup".to_owned(), format!("{map} {} -> {value}", place.key(map, key))))
        }
        Happening::Updated { map, key, value } => {
            let map = name(*map)?;
            let done = value.as_ref().map_or_else(
                || "removed".to_owned(),
                |value| place.value(map, key, value, injection.now),
            );
            Some(("update".to_owned(), format!("{map} {} -> {done}", place.key(map, key))))
        }
        Happening::Called { helper, arguments, result } => {
            called(scene, injection, machine, (*helper, arguments[0].bits, result.bits))
        }
        Happening::Reported(stamped) => Some(reported(scene, injection, stamped)),
        Happening::TailCalled(program) => {
            let program = machine.image().programs.get(*program as usize)?;
            Some(("program".to_owned(), format!("{} goes on", program.name)))
        }
        Happening::Wrote { .. } | Happening::WroteValue { .. } => None,
    }
}

/// Calls of the kernel that decide where the packet goes.
fn called(
    scene: &Scene,
    injection: &Injection,
    machine: &Machine,
    (helper, first, result): (Helper, u64, u64),
) -> Option<(String, String)> {
    // The driver stands for the kernel here, and what it sets was there before.
    let program = machine.image().programs.get(machine.program() as usize)?;
    if program.name == DRIVER {
        return None;
    }
    let node = injection.node;
    #[expect(clippy::cast_possible_truncation, reason = "a device has 32 bits")]
    let device = || scene.device(node, first as u32);
    let text = match helper {
        Helper::SkbSetTunnelKey if result == 0 => {
            let key = machine.skb().tunnel?;
            format!("key set: vni {}, to {}, ttl {}", key.id, key.remote, key.ttl)
        }
        Helper::Redirect => format!("to device {}", device()),
        Helper::RedirectPeer => format!("into what is behind {}", device()),
        _ => return None,
    };
    let keyword = if helper == Helper::SkbSetTunnelKey { "tunnel" } else { "redirect" };
    Some((keyword.to_owned(), text))
}

/// The kind of a reported event, as `break event` names it.
pub(super) fn kind(event: &Event) -> &'static str {
    match event {
        Event::Parsed { .. } => "parsed",
        Event::Service { .. } => "service",
        Event::Rewritten { .. } => "rewritten",
        Event::Encrypted { .. } => "encrypted",
        Event::Conntrack { .. } => "conntrack",
        Event::Identity { .. } => "identity",
        Event::Policy { .. } => "policy",
        Event::Outcome(_) => "outcome",
    }
}

/// Kinds of reported events.
pub(super) const KINDS: [&str; 8] =
    ["parsed", "service", "rewritten", "encrypted", "conntrack", "identity", "policy", "outcome"];

fn reported(scene: &Scene, injection: &Injection, stamped: &Stamped) -> (String, String) {
    let text = match stamped.event {
        Event::Parsed { flow, ttl, length, .. } => {
            format!("{}, ttl {ttl}, {length} bytes", flow_in_words(&flow))
        }
        Event::Service { frontend, backend, choice, of, .. } => match backend {
            Some(backend) => format!("{frontend} to {backend}, 1 of {of} ({choice})"),
            None => format!("{frontend} to nobody"),
        },
        Event::Rewritten { rewriting, before, after, .. } => {
            format!("{rewriting}: {before} to {after}")
        }
        Event::Encrypted { mark, .. } => format!("to be encrypted, mark {mark:#x}"),
        Event::Conntrack { state, created, expires_in, closing } => {
            let created = if created { ", entry written" } else { "" };
            let closing = if closing { ", closing" } else { "" };
            // A dropped packet leaves no entry, so that nothing can expire.
            let left =
                if expires_in == 0 { String::new() } else { format!(", {expires_in}s left") };
            format!("{state}{created}{closing}{left}")
        }
        Event::Identity { source_side, address, identity, from } => {
            let side = if source_side { "source" } else { "destination" };
            format!("{side} {address} is {}, {}", scene.identity(identity), known_from(from))
        }
        Event::Policy { endpoint, direction: way, entry, outcome, remembered, .. } => {
            let whose = scene.endpoint(injection.node, endpoint);
            let behind = scene.origins(injection.node, endpoint, way, entry).join("; ");
            let memory = if remembered { ", remembered by conntrack" } else { "" };
            let outcome = match outcome {
                PolicyOutcome::Allow => "allow",
                PolicyOutcome::Deny => "deny",
                PolicyOutcome::DefaultDeny => {
                    return (
                        "policy".to_owned(),
                        format!(
                            "{} of {whose}: default-deny, no entry matches{memory}",
                            direction(way)
                        ),
                    );
                }
            };
            format!("{} of {whose}: {outcome} by {behind}{memory}", direction(way))
        }
        Event::Outcome(action) => outcome(scene, injection, action),
    };
    (kind(&stamped.event).to_owned(), text)
}

fn known_from(from: IdentitySource) -> &'static str {
    match from {
        IdentitySource::Endpoint => "by its attachment",
        IdentitySource::Vni => "by the vni",
        IdentitySource::Ipcache(_) => "by the ipcache",
        IdentitySource::OwnAddress(_) => "by the ipcache, an address of the node's own",
        IdentitySource::Remembered => "remembered by conntrack",
    }
}

/// What a program did with the packet.
fn outcome(scene: &Scene, injection: &Injection, action: Action) -> String {
    let node = injection.node;
    match action {
        Action::Drop(reason) => format!("dropped: {reason}"),
        Action::Deliver { endpoint, ifindex, peer } => {
            let way = if peer { "into the pod" } else { "by its veth" };
            let device = scene.device(node, ifindex);
            format!("delivered to {} at {device}, {way}", scene.endpoint(node, endpoint))
        }
        Action::Tunnel { vni, remote, .. } => {
            let there = scene.state.tables.nodes.iter().find(|n| n.tunnel_address == remote);
            let name = there.map_or_else(String::new, |n| format!("{} ", scene.node(n.node)));
            format!("sent by the tunnel to {name}{remote} with vni {vni}")
        }
        Action::Network { ifindex, next_hop } => {
            let to = next_hop.map_or_else(String::new, |to| format!(", to {to}"));
            format!("routed out at {}{to}", scene.device(node, ifindex))
        }
        Action::Stack { host: true } => "accepted by the node itself".to_owned(),
        Action::Stack { host: false } => "handed to the node's own stack".to_owned(),
        Action::Pass if injection.hook == engine::net::Hook::ToContainer => {
            "let through to the pod".to_owned()
        }
        Action::Pass => "let through".to_owned(),
    }
}
