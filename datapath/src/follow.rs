//! Follows a packet from program to program and node to node, one injection a hop, until it is delivered,
//! dropped or handed to a stack. Reads the programs' outcome events; decides nothing itself.
//!
//! **Judged once.** Where a program delivers by the veth's egress hook instead of straight into the pod, a
//! live system runs `to_container` on the marked packet, which lets it pass unread. That run says
//! nothing and changes nothing, so it is no hop here.
//!
//! **What leaves a hop**: the inner frame as the program leaves it. A program that sends to the tunnel
//! does not touch it, so inside the tunnel it still has the Ethernet addresses it came from the pod with
//! (pod's side -> host's side), and its TTL; the program that delivers writes both.

mod enter;
mod link;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use datapath_abi::mark;
use engine::backend::{Backend, BackendError, Injection, Observation, TunnelKey};
use engine::net::Hook;
use engine::question::Question;
use engine::tables::{NodeTables, Tables};
use engine::topology::{NodeId, World};
use engine::trace::{Action, Hop, Trace, TunnelHeader};

use crate::frame;
use link::Pinned;

/// More hops than any journey has: two nodes at most. Guards against programs that send in a circle.
const MAX_HOPS: usize = 8;

/// VNIs have 24 bits (RFC 7348 5).
const MAX_VNI: u32 = (1 << 24) - 1;

/// A frame about to enter a program.
struct Arrival {
    node: NodeId,
    hook: Hook,
    device: String,
    ifindex: u32,
    mark: u32,
    tunnel: Option<TunnelKey>,
    frame: Vec<u8>,
    pinned: Pinned,
}

/// Sends a question's packet through the datapath. `tables` must be those that the backend has loaded; `now`
/// is the simulated clock in seconds. Conntrack keeps what the packet leaves.
///
/// The trace ends with the hop that dropped, delivered or gave the packet to a stack (which is not followed:
/// a packet to another node or to the outside ends there), or whose outcome event was lost.
///
/// # Errors
/// The backend's own; [`BackendError::BadInjection`] for a packet that no program sees or that has no
/// frame; [`BackendError::BadEvent`] for answers that contradict themselves or the tables: another
/// generation, no outcome, a return code or mark that does not fit it, a tunnel to a node that there is not.
pub fn follow(
    backend: &mut dyn Backend,
    world: &World,
    tables: &Tables,
    question: &Question,
    now: u64,
) -> Result<Trace, BackendError> {
    let journey = Journey { world, tables, question, now };
    let mut trace =
        Trace { backend: backend.name(), generation: tables.generation, ..Trace::default() };
    let mut next = Some(enter::arrival(world, tables, question)?);
    while let Some(arrival) = next {
        if trace.hops.len() == MAX_HOPS {
            return Err(BackendError::BadEvent(format!(
                "the packet is sent in a circle: {MAX_HOPS} hops without an end"
            )));
        }
        let observation = backend.inject(&journey.injection(&arrival))?;
        trace.lost += observation.lost;
        let (hop, onward) = journey.hop(arrival, observation)?;
        trace.hops.push(hop);
        next = onward;
    }
    Ok(trace)
}

struct Journey<'a> {
    world: &'a World,
    tables: &'a Tables,
    question: &'a Question,
    now: u64,
}

impl Journey<'_> {
    fn injection(&self, arrival: &Arrival) -> Injection {
        Injection {
            node: arrival.node,
            hook: arrival.hook,
            ifindex: arrival.ifindex,
            mark: arrival.mark,
            tunnel: arrival.tunnel,
            now: self.now,
            frame: arrival.frame.clone(),
        }
    }

    /// The hop that an arrival became, and where the packet arrives next.
    fn hop(
        &self,
        arrival: Arrival,
        seen: Observation,
    ) -> Result<(Hop, Option<Arrival>), BackendError> {
        let mut hop = Hop {
            node: arrival.node,
            hook: arrival.hook,
            device: arrival.device,
            ifindex: arrival.ifindex,
            events: seen.events,
            frame_in: arrival.frame,
            frame_out: Vec::new(),
            tunnel: None,
            undetermined: Vec::new(),
        };
        self.check_generation(&hop)?;
        let Some(action) = hop.action() else {
            if seen.lost > 0 {
                return Ok((hop, None));
            }
            return Err(BackendError::BadEvent(format!(
                "{} on {} reported no outcome",
                hop.hook,
                self.name(hop.node)
            )));
        };
        check_code(&hop, action, seen.code)?;
        check_mark(&hop, action, seen.mark)?;
        let pinned = match action {
            // Nothing leaves.
            Action::Drop(_) => return Ok((hop, None)),
            Action::Deliver { endpoint, .. } => {
                let entry = self.node(hop.node)?.endpoint(endpoint).ok_or_else(|| {
                    BackendError::BadEvent(format!(
                        "{} has no endpoint {}",
                        self.name(hop.node),
                        endpoint.0
                    ))
                })?;
                Pinned::delivered(self.world, entry)
            }
            Action::Tunnel { .. } | Action::Stack { .. } | Action::Pass => arrival.pinned,
        };
        hop.undetermined = self.undetermined(pinned);
        hop.frame_out = seen.frame;
        let Action::Tunnel { vni, remote, ttl, .. } = action else { return Ok((hop, None)) };
        let onward = self.tunnel(&mut hop, vni, remote, ttl, pinned)?;
        Ok((hop, Some(onward)))
    }

    /// Puts the outer headers on the hop's frame and the inner one before the other node's program.
    fn tunnel(
        &self,
        hop: &mut Hop,
        vni: u32,
        remote: IpAddr,
        ttl: u8,
        pinned: Pinned,
    ) -> Result<Arrival, BackendError> {
        let here = self.node(hop.node)?;
        let there =
            self.tables.nodes.iter().find(|n| n.tunnel_address == remote).ok_or_else(|| {
                BackendError::BadEvent(format!(
                    "{} sends by the tunnel to {remote}, which is no node's tunnel address",
                    self.name(hop.node)
                ))
            })?;
        if vni > MAX_VNI {
            return Err(BackendError::BadEvent(format!("VNI {vni} has more than 24 bits")));
        }
        let inner = std::mem::take(&mut hop.frame_out);
        let (ethernet, mut undetermined) = link::underlay(self.world, here, there);
        let outer = frame::Outer {
            ethernet,
            source: here.tunnel_address,
            destination: remote,
            ttl,
            source_port: frame::source_port(&inner),
            port: here.tunnel.port,
            vni,
        };
        undetermined.extend(outer_fields(remote));
        hop.frame_out = frame::encapsulate(&inner, &outer)
            .map_err(|error| BackendError::BadEvent(format!("no outer headers: {error}")))?;
        hop.tunnel = Some(TunnelHeader {
            kind: here.tunnel.kind,
            source: outer.source,
            destination: outer.destination,
            port: outer.port,
            source_port: outer.source_port,
            vni,
            undetermined: undetermined.into_iter().map(str::to_owned).collect(),
        });
        let key = TunnelKey { vni, source: here.tunnel_address };
        Ok(enter::by_overlay(there, key, inner, pinned))
    }

    /// The question's own open fields, the frame's, and the Ethernet addresses that nothing pins.
    fn undetermined(&self, pinned: Pinned) -> Vec<String> {
        let fields = frame::undetermined(&self.question.packet).into_iter().chain(pinned.open());
        let mut names = self.question.undetermined.clone();
        for field in fields {
            if !names.iter().any(|name| name == field) {
                names.push(field.to_owned());
            }
        }
        names
    }

    /// An answer from another state of the tables is an answer to another question.
    fn check_generation(&self, hop: &Hop) -> Result<(), BackendError> {
        let expected = self.tables.generation;
        match hop.events.iter().find(|event| event.generation != expected) {
            Some(event) => Err(BackendError::BadEvent(format!(
                "{} on {} saw generation {}, asked was {}",
                hop.hook,
                self.name(hop.node),
                event.generation.0,
                expected.0
            ))),
            None => Ok(()),
        }
    }

    fn node(&self, id: NodeId) -> Result<&NodeTables, BackendError> {
        enter::node(self.tables, id)
    }

    fn name(&self, id: NodeId) -> &str {
        self.world.node(id).map_or("an unknown node", |node| node.name.as_str())
    }
}

/// Fields of the outer headers that the real device chooses.
fn outer_fields(remote: IpAddr) -> &'static [&'static str] {
    match remote {
        IpAddr::V4(_) => &["outer IP id", "outer IP checksum", "UDP source port"],
        // No identification; the checksum covers the source port.
        IpAddr::V6(_) => &["UDP source port", "outer UDP checksum"],
    }
}

/// What a program returns must be what it says it did.
fn check_code(hop: &Hop, action: Action, code: i32) -> Result<(), BackendError> {
    // `TC_ACT_*` of the kernel's `pkt_cls.h`.
    const OK: i32 = 0;
    const SHOT: i32 = 2;
    const REDIRECT: i32 = 7;
    let expected = match action {
        Action::Drop(_) => SHOT,
        Action::Deliver { .. } | Action::Tunnel { .. } => REDIRECT,
        Action::Stack { .. } | Action::Pass => OK,
    };
    if code == expected {
        return Ok(());
    }
    Err(BackendError::BadEvent(format!(
        "{} returned {code}, which does not fit what it reported: {action:?}",
        hop.hook
    )))
}

/// What goes to a pod by its veth's egress hook must be marked, or a live system would judge it twice.
fn check_mark(hop: &Hop, action: Action, mark: u32) -> Result<(), BackendError> {
    let by_veth = matches!(action, Action::Deliver { peer: false, .. });
    if !by_veth || mark & mark::MASK == mark::DELIVERED {
        return Ok(());
    }
    Err(BackendError::BadEvent(format!(
        "{} delivers by the veth with mark {mark:#x}, not as judged",
        hop.hook
    )))
}
