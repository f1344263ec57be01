//! Follows a packet from program to program and node to node, one injection a hop, until it is delivered, dropped,
//! handed to a stack that keeps it, or gone to the outside. Reads the programs' outcome events; decides nothing
//! itself but what the kernel between the programs does: outer headers, Ethernet addresses of the underlay, routing.
//!
//! **Judged once.** Where a program delivers by the veth's egress hook instead of straight into the pod, a
//! live system runs `to_container` on the marked packet, which lets it pass unread. That run says
//! nothing and changes nothing, so it is no hop here. The same holds of `to_overlay`.
//!
//! **Quiet hops**: the underlay's programs see encapsulated packets too. They are run on them only where a setting makes
//! them say something: `to_netdev` where packets are encrypted, the prefilter where it has a list, `from_netdev` with
//! a host firewall.
//!
//! **What leaves a hop**: the inner frame as the program leaves it. A program that sends to the tunnel or to the underlay
//! does not touch Ethernet addresses, so they are still those that the frame came with (pod's side -> host's side); the
//! program that delivers writes both, and on the underlay the kernel does.

mod check;
mod choose;
mod enter;
mod heard;
pub(crate) mod link;
mod raw;
#[cfg(test)]
mod tests;
mod wire;

use std::net::IpAddr;

use datapath_abi::mark;
use engine::backend::{Backend, BackendError, Injection, Observation, TunnelKey};
use engine::net::{Confined, Hook, Protocol};
use engine::question::Question;
use engine::reason::DropReason;
use engine::tables::{NodeTables, Tables};
use engine::topology::{NodeId, PodId, World};
use engine::trace::{Action, Event, Hop, Trace, TunnelHeader, Unseen};

use crate::frame;
pub use heard::{Heard, came, follow_heard};
use link::Pinned;
pub use raw::{Device, Raw, devices, enters_as, ethernet};
use wire::Net;

/// More hops than any journey has: seven from a node by another one's node port to a third. Guards against programs
/// that send in a circle.
const MAX_HOPS: usize = 12;

/// VNIs have 24 bits (RFC 7348 5).
const MAX_VNI: u32 = (1 << 24) - 1;

/// TTL of outer headers that no program has given one.
const TUNNEL_TTL: u8 = 64;

/// The device that a node's own stack sends to pods and services by.
pub const HOST_DEVICE: &str = "cilium_host";

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
    /// What is in the frame, where that has outer headers of the tunnel.
    inside: Option<Tunneled>,
}

/// An encapsulated frame, and the outer headers that it has on its way.
#[derive(Clone)]
struct Tunneled {
    there: NodeId,
    key: TunnelKey,
    header: TunnelHeader,
    frame: Vec<u8>,
    pinned: Pinned,
}

/// Sends a question's packet through the datapath. `tables` must be those that the backend has loaded; `now`
/// is the simulated clock in seconds. Conntrack keeps what the packet leaves.
///
/// The trace ends with the hop that dropped, delivered or gave the packet to a stack that does not send it on, that
/// let it out of the cluster ([`Trace::has_left`]), or whose outcome event was lost.
///
/// # Errors
/// The backend's own; [`BackendError::BadInjection`] for a packet that no program sees or that has no frame, and for
/// a forced backend that the service does not have; [`BackendError::BadEvent`] for answers that contradict themselves
/// or the tables: another generation, no outcome, a return code or mark that does not fit it, a tunnel to a node that
/// there is not.
pub fn follow(
    backend: &mut dyn Backend,
    world: &World,
    tables: &Tables,
    question: &Question,
    now: u64,
) -> Result<Trace, BackendError> {
    let net = Net { world, tables };
    let mut open = question.undetermined.clone();
    add(&mut open, frame::undetermined(&question.packet));
    let journey = Journey { net, open, choose: question.choose, is_raw: false, now };
    journey.run(backend, enter::arrival(net, question)?)
}

/// Sends a frame through the datapath that is given as it is, from any hook on. It is followed like a question's, and
/// where it is encapsulated itself it leaves the tunnel at the node that it was sent to.
///
/// # Errors
/// As [`follow`]; [`BackendError::BadInjection`] also for a device that the hook does not hang on.
pub fn follow_from(
    backend: &mut dyn Backend,
    world: &World,
    tables: &Tables,
    raw: &Raw,
    now: u64,
) -> Result<Trace, BackendError> {
    let net = Net { world, tables };
    let journey = Journey { net, open: Vec::new(), choose: None, is_raw: true, now };
    journey.run(backend, raw::arrival(world, tables, raw)?)
}

struct Journey<'a> {
    net: Net<'a>,
    /// Fields of the packet that are open from the start.
    open: Vec<String>,
    choose: Option<PodId>,
    is_raw: bool,
    now: u64,
}

impl Journey<'_> {
    fn run(&self, backend: &mut dyn Backend, first: Arrival) -> Result<Trace, BackendError> {
        let generation = self.net.tables.generation;
        let mut trace = Trace { backend: backend.name(), generation, ..Trace::default() };
        let mut next = Some(first);
        while let Some(arrival) = next {
            if trace.hops.len() == MAX_HOPS {
                return Err(BackendError::BadEvent(format!(
                    "the packet is sent in a circle: {MAX_HOPS} hops without an end"
                )));
            }
            let injection = self.injection(&arrival)?;
            let observation = if trace.hops.is_empty() {
                let place = format!("{} of {}", arrival.device, self.name(arrival.node));
                backend.inject(&injection).map_err(|error| named(error, &place))?
            } else {
                match backend.carry(&injection) {
                    Err(BackendError::Unseen { lost, .. }) => {
                        let Arrival { node, hook, device, .. } = arrival;
                        trace.lost += lost;
                        trace.unseen = Some(Unseen { node, hook, device });
                        return Ok(trace);
                    }
                    observation => observation?,
                }
            };
            trace.lost += observation.lost;
            let is_lost = observation.live.as_ref().is_some_and(|live| live.arrived == Some(false));
            let (hop, onward) = self.hop(arrival, observation)?;
            if onward.is_none() {
                trace.refused = self.refused(&hop)?;
            }
            if is_lost {
                trace.unseen = self.undelivered(&hop);
            }
            trace.hops.push(hop);
            next = onward;
        }
        Ok(trace)
    }

    /// The device behind which the pod is that a hop delivered to, and that did not get the packet.
    fn undelivered(&self, hop: &Hop) -> Option<Unseen> {
        let Some(Action::Deliver { endpoint, .. }) = hop.action() else { return None };
        let device = self.node(hop.node).ok()?.endpoint(endpoint)?.interface.clone();
        Some(Unseen { node: hop.node, hook: Hook::ToContainer, device })
    }

    fn injection(&self, arrival: &Arrival) -> Result<Injection, BackendError> {
        let here = self.node(arrival.node)?;
        Ok(Injection {
            node: arrival.node,
            hook: arrival.hook,
            ifindex: arrival.ifindex,
            mark: arrival.mark,
            tunnel: arrival.tunnel,
            choose: choose::place(self.net.world, here, self.choose, &arrival.frame)?,
            now: self.now,
            frame: arrival.frame.clone(),
        })
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
            frame_in: seen.live.as_ref().map_or(arrival.frame, |live| live.frame_in.clone()),
            frame_out: Vec::new(),
            tunnel: arrival.inside.as_ref().map(|inside| inside.header.clone()),
            undetermined: Vec::new(),
            time: seen.live.as_ref().map(|live| live.time),
        };
        check::generation(&hop, self.name(hop.node), self.net.tables.generation)?;
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
        check::code(&hop, action, seen.code)?;
        check::mark(&hop, action, seen.mark)?;
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
                Pinned::delivered(self.net.world, entry)
            }
            _ => arrival.pinned,
        };
        hop.undetermined = self.undetermined(pinned);
        hop.frame_out = seen.frame;
        let outer = seen.live.and_then(|live| live.outer);
        let here = self.node(hop.node)?;
        let source_port = outer.as_deref().and_then(|outer| source_port_of(here, outer));
        let (key, inside) = (arrival.tunnel, arrival.inside);
        let left = Left { mark: seen.mark, key, source_port, pinned, inside };
        let onward = self.onward(&mut hop, action, left)?;
        if let Some(outer) = outer {
            hop.frame_out = outer;
        }
        Ok((hop, onward))
    }

    /// Where the packet arrives next, after a hop that did not drop it.
    fn onward(
        &self,
        hop: &mut Hop,
        action: Action,
        left: Left,
    ) -> Result<Option<Arrival>, BackendError> {
        let here = self.node(hop.node)?;
        match action {
            Action::Drop(_) | Action::Deliver { .. } => Ok(None),
            Action::Tunnel { vni, remote, ttl, .. } => {
                let key = TunnelKey { vni, source: here.tunnel_address };
                self.tunnel(hop, key, (remote, ttl), &left).map(Some)
            }
            Action::Network { next_hop, .. } => {
                self.check_next_hop(hop, here, next_hop)?;
                // The route to a node's own pods does not lead to the device, whoever has the address.
                let is_own = next_hop.is_none() && self.leads_to_own_pods(hop, here);
                Ok((!is_own).then(|| self.net.leaving(here, left.mark, hop.frame_out.clone())))
            }
            Action::Stack { host } => Ok(self.received(hop, here, host, left)),
            Action::Pass if hop.hook == Hook::ToOverlay => self.overlaid(hop, here, &left),
            Action::Pass => self.passed(hop, here, left),
        }
    }

    /// A packet that the tunnel device sends, to the node that its destination is behind; `None` where that is behind none.
    fn overlaid(
        &self,
        hop: &mut Hop,
        here: &NodeTables,
        left: &Left,
    ) -> Result<Option<Arrival>, BackendError> {
        let Some(remote) = wire::Net::by_tunnel(here, &hop.frame_out) else { return Ok(None) };
        let vni = left.key.map_or(0, |key| key.vni);
        let key = TunnelKey { vni, source: here.tunnel_address };
        self.tunnel(hop, key, (remote, TUNNEL_TTL), left).map(Some)
    }

    /// A packet that a program gave to the node's stack: out of the tunnel, or routed on.
    fn received(&self, hop: &Hop, here: &NodeTables, host: bool, left: Left) -> Option<Arrival> {
        match (hop.hook, left.inside) {
            (Hook::FromNetdev, Some(inside)) => Some(wire::by_overlay(here, inside)),
            (Hook::FromNetdev, None) if host && self.is_raw => unwrapped(here, &hop.frame_out),
            (_, None) if !host => self.routed(hop, here, left.mark),
            _ => None,
        }
    }

    /// A packet that a program let through goes on to what the hook stands before.
    fn passed(
        &self,
        hop: &Hop,
        here: &NodeTables,
        left: Left,
    ) -> Result<Option<Arrival>, BackendError> {
        let frame = hop.frame_out.clone();
        Ok(match (hop.hook, left.inside) {
            (Hook::ToNetdev, Some(inside)) => {
                let there = self.node(inside.there)?;
                Some(self.net.reaching_tunneled(there, Hook::Prefilter, frame, inside))
            }
            (Hook::ToNetdev, None) => {
                let there = self.next_node(hop, here);
                there.map(|there| self.net.reaching(there, frame, left.pinned))
            }
            (Hook::Prefilter, Some(inside)) => {
                Some(self.net.reaching_tunneled(here, Hook::FromNetdev, frame, inside))
            }
            (Hook::Prefilter, None) => {
                Some(self.net.at_device(here, Hook::FromNetdev, frame, left.pinned))
            }
            (Hook::FromNetdev, Some(inside)) => Some(wire::by_overlay(here, inside)),
            _ => None,
        })
    }

    /// Whether a hop's frame is for an address of the node's own pods.
    fn leads_to_own_pods(&self, hop: &Hop, here: &NodeTables) -> bool {
        let read = frame::read(&hop.frame_out);
        let keeper = read.and_then(|read| self.net.keeper(read.flow.destination));
        keeper == Some(here.node)
    }

    /// The node that a hop's frame, not encapsulated, gets to next.
    fn next_node(&self, hop: &Hop, here: &NodeTables) -> Option<&NodeTables> {
        let destination = frame::read(&hop.frame_out)?.flow.destination;
        self.net.beyond(here, destination)
    }

    /// The kernel's own routing of a packet that is not for the node: one hop less to live, out by the underlay
    /// device. `None` where the node keeps or drops it.
    fn routed(&self, hop: &Hop, here: &NodeTables, mark: u32) -> Option<Arrival> {
        if !self.is_for_elsewhere(hop, here) || self.refusal(hop).is_some() {
            return None;
        }
        let mut frame = hop.frame_out.clone();
        // What `cilium_host` lets out comes back in by its other end, as another's: that too is forwarded.
        frame::count_down(&mut frame).then(|| self.net.leaving(here, mark, frame))
    }

    /// Whether the kernel is to route what a program gave it: it is not for the node or an address of its pods after all, and
    /// would not have to be encapsulated, which the kernel alone does not.
    fn is_for_elsewhere(&self, hop: &Hop, here: &NodeTables) -> bool {
        let Some(read) = frame::read(&hop.frame_out) else { return false };
        let destination = read.flow.destination;
        let has_pod = self.net.keeper(destination).is_some_and(|keeper| {
            keeper == here.node || self.net.beyond(here, destination).is_none()
        });
        Self::is_forwarded(hop, here) && !has_pod
    }

    /// Whether the kernel is to send on what a program gave it, wherever to.
    fn is_forwarded(hop: &Hop, here: &NodeTables) -> bool {
        let forwards = matches!(
            hop.hook,
            Hook::FromContainer | Hook::FromOverlay | Hook::FromNetdev | Hook::FromHost
        );
        let read = frame::read(&hop.frame_out);
        forwards && read.is_some_and(|read| !here.locals.contains(&read.flow.destination))
    }

    /// What the kernel drops a packet for that the last program gave it to route.
    fn refused(&self, hop: &Hop) -> Result<Option<DropReason>, BackendError> {
        let is_given = hop.action() == Some(Action::Stack { host: false });
        let here = self.node(hop.node)?;
        let Some(reason) = self.refusal(hop).filter(|_| is_given) else { return Ok(None) };
        // It counts down before it finds that the route leads nowhere.
        let is_routed = match reason {
            DropReason::TtlExceeded => Self::is_forwarded(hop, here),
            _ => self.is_for_elsewhere(hop, here),
        };
        Ok(is_routed.then_some(reason))
    }

    /// What the kernel drops a packet for that it is to route. Neighbour discovery it does not forward.
    fn refusal(&self, hop: &Hop) -> Option<DropReason> {
        let read = frame::read(&hop.frame_out)?;
        // The programs give neighbour discovery away before they ask for its flow.
        let is_unread = !hop.events.iter().any(|e| matches!(e.event, Event::Conntrack { .. }));
        let keeps = read.flow.protocol == Protocol::Icmpv6 && is_unread;
        let is_outside = self.net.world.owner(read.flow.destination).is_none();
        let is_confined = Confined::of(read.flow.destination).is_some();
        match read.ttl {
            _ if keeps => None,
            _ if is_outside && is_confined => Some(DropReason::NoFib),
            0 | 1 => Some(DropReason::TtlExceeded),
            _ => None,
        }
    }

    /// Puts the outer headers on the hop's frame and sends it on: by the underlay's programs that have something to
    /// say about it, then the inner one to the other node's.
    fn tunnel(
        &self,
        hop: &mut Hop,
        key: TunnelKey,
        (remote, ttl): (IpAddr, u8),
        left: &Left,
    ) -> Result<Arrival, BackendError> {
        let here = self.node(hop.node)?;
        let there = self.tunnel_end(hop, remote)?;
        if key.vni > MAX_VNI {
            return Err(BackendError::BadEvent(format!("VNI {} has more than 24 bits", key.vni)));
        }
        let inner = std::mem::take(&mut hop.frame_out);
        let (ethernet, underlay) = link::underlay(self.net.world, here, Some(there));
        let outer = frame::Outer {
            ethernet,
            kind: here.tunnel.kind,
            options: &[],
            source: here.tunnel_address,
            destination: remote,
            ttl,
            source_port: left
                .source_port
                .unwrap_or_else(|| frame::source_port(&inner, here.tunnel.kind)),
            port: here.tunnel.port,
            vni: key.vni,
        };
        hop.frame_out = frame::encapsulate(&inner, &outer)
            .map_err(|error| BackendError::BadEvent(format!("no outer headers: {error}")))?;
        let header = header_of(&outer, underlay);
        hop.tunnel = Some(header.clone());
        let pinned = left.pinned;
        let inside = Tunneled { there: there.node, key, header, frame: inner, pinned };
        let marked = (key.vni << 16) | mark::OVERLAY;
        let frame = &hop.frame_out;
        Ok(match self.net.leaving_tunneled(here, marked, frame, &inside) {
            Some(arrival) => arrival,
            None => self.net.reaching_tunneled(there, Hook::Prefilter, frame.clone(), inside),
        })
    }

    fn tunnel_end(&self, hop: &Hop, remote: IpAddr) -> Result<&NodeTables, BackendError> {
        let mut nodes = self.net.tables.nodes.iter();
        nodes.find(|node| node.tunnel_address == remote).ok_or_else(|| {
            BackendError::BadEvent(format!(
                "{} sends by the tunnel to {remote}, which is no node's tunnel address",
                self.name(hop.node)
            ))
        })
    }

    /// The node that a program sends to must be the one that the packet gets to.
    fn check_next_hop(
        &self,
        hop: &Hop,
        here: &NodeTables,
        next_hop: Option<IpAddr>,
    ) -> Result<(), BackendError> {
        let Some(address) = next_hop else { return Ok(()) };
        let named = self.net.beyond(here, address).map(|node| node.node);
        if named.is_some() && named == self.next_node(hop, here).map(|node| node.node) {
            return Ok(());
        }
        let destination = frame::read(&hop.frame_out).map(|headers| headers.flow.destination);
        Err(BackendError::BadEvent(format!(
            "{} sends to {address}, which is not the node that has {}",
            self.name(hop.node),
            destination.map_or_else(|| "the destination".to_owned(), |address| address.to_string())
        )))
    }

    /// The packet's own open fields and the Ethernet addresses that nothing pins.
    fn undetermined(&self, pinned: Pinned) -> Vec<String> {
        let mut names = self.open.clone();
        add(&mut names, pinned.open());
        names
    }

    fn node(&self, id: NodeId) -> Result<&NodeTables, BackendError> {
        enter::node(self.net.tables, id)
    }

    fn name(&self, id: NodeId) -> &str {
        self.net.world.node(id).map_or("an unknown node", |node| node.name.as_str())
    }
}

/// What a hop leaves behind beside the frame.
struct Left {
    mark: u32,
    /// The tunnel key that it came with.
    key: Option<TunnelKey>,
    /// The source port that a real device gave the packet that carries it.
    source_port: Option<u16>,
    pinned: Pinned,
    inside: Option<Tunneled>,
}

/// The error with the name of the device, which backends do not know.
fn named(error: BackendError, device: &str) -> BackendError {
    match error {
        BackendError::Unseen { hook, lost, .. } => {
            BackendError::Unseen { hook, device: device.to_owned(), lost }
        }
        error => error,
    }
}

/// Adds names that are not there yet.
fn add(names: &mut Vec<String>, fields: impl IntoIterator<Item = &'static str>) {
    for field in fields {
        if !names.iter().any(|name| name == field) {
            names.push(field.to_owned());
        }
    }
}

/// The frame in an encapsulated one that has reached its node.
fn unwrapped(here: &NodeTables, frame: &[u8]) -> Option<Arrival> {
    let outer = frame::decapsulate(frame, here.tunnel.kind, here.tunnel.port)?;
    if outer.destination != here.tunnel_address {
        return None;
    }
    let inside = Tunneled {
        there: here.node,
        key: TunnelKey { vni: outer.vni, source: outer.source },
        header: TunnelHeader {
            kind: outer.kind,
            source: outer.source,
            destination: outer.destination,
            port: outer.port,
            source_port: outer.source_port,
            vni: outer.vni,
            undetermined: Vec::new(),
        },
        frame: outer.frame.to_vec(),
        pinned: Pinned::all(),
    };
    Some(wire::by_overlay(here, inside))
}

/// The source port of the outer headers that a node's device wrote.
fn source_port_of(here: &NodeTables, frame: &[u8]) -> Option<u16> {
    frame::decapsulate(frame, here.tunnel.kind, here.tunnel.port).map(|outer| outer.source_port)
}

/// Outer headers as a trace tells them.
fn header_of(outer: &frame::Outer<'_>, underlay: Pinned) -> TunnelHeader {
    let open = underlay.open_outer().chain(outer_fields(outer.destination).iter().copied());
    TunnelHeader {
        kind: outer.kind,
        source: outer.source,
        destination: outer.destination,
        port: outer.port,
        source_port: outer.source_port,
        vni: outer.vni,
        undetermined: open.map(str::to_owned).collect(),
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
