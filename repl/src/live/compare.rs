//! What two journeys of one packet differ in first: hop by hop, what programs said and the bytes, but for what no text determines.

use std::ops::Range;

use engine::net::FlowKey;
use engine::topology::{NodeId, World};
use engine::trace::{Event, Hop, Stamped, Trace};
use schemars::JsonSchema;
use serde::Serialize;

/// The first thing in which a real journey differs from the simulated one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Which hop, from 0.
    pub hop: usize,
    /// What of it: `program`, `event`, `frame in`, `frame out`, `end`.
    pub what: String,
    /// In simulation.
    pub simulated: String,
    /// In reality.
    pub live: String,
}

/// The first difference of two journeys, if there is any. Where events of the real one were lost, what they told of is no difference.
pub fn difference(simulated: &Trace, live: &Trace, world: &World) -> Option<Difference> {
    let found = |hop: usize, what: &str, simulated: String, live: String| {
        Some(Difference { hop, what: what.to_owned(), simulated, live })
    };
    let named = |node: NodeId| {
        world.node(node).map_or_else(|| format!("node {}", node.0), |node| node.name.clone())
    };
    let placed = |hop: &Hop| format!("{} of {} on {}", hop.hook, hop.device, named(hop.node));
    for (at, hop) in simulated.hops.iter().enumerate() {
        let place = placed(hop);
        let Some(real) = live.hops.get(at) else {
            if live.lost > 0 {
                return None;
            }
            return found(at, "program", place, "nothing was seen".to_owned());
        };
        if (hop.node, hop.hook) != (real.node, real.hook) {
            return found(at, "program", place, placed(real));
        }
        let (one, other) = (timeless(hop, &hop.events), timeless(hop, &real.events));
        if let Some((one, other)) = first_of(&one, &other) {
            return found(at, &format!("event of {place}"), one, other);
        }
        for (what, one, other) in
            [("in", &hop.frame_in, &real.frame_in), ("out", &hop.frame_out, &real.frame_out)]
        {
            let is_outer = what == "out" || hop.is_outer();
            let (one, other) = (bytes(one, hop, is_outer), bytes(other, hop, is_outer));
            if one != other {
                return found(at, &format!("frame {what} of {place}"), one, other);
            }
        }
    }
    if let Some(more) = live.hops.get(simulated.hops.len()) {
        return found(simulated.hops.len(), "program", "the end".to_owned(), placed(more));
    }
    let end = |trace: &Trace| match &trace.unseen {
        None => "an end that is known".to_owned(),
        Some(unseen) => {
            let (hook, device, node) = (unseen.hook, &unseen.device, named(unseen.node));
            format!("{hook} of {device} on {node} did not see it")
        }
    };
    let differs = live.lost == 0 && simulated.unseen != live.unseen;
    let last = simulated.hops.len().saturating_sub(1);
    if differs { found(last, "end", end(simulated), end(live)) } else { None }
}

fn first_of(one: &[Event], other: &[Event]) -> Option<(String, String)> {
    let told = |event: Option<&Event>| match event {
        Some(event) => format!("{event:?}"),
        None => "nothing more".to_owned(),
    };
    let most = one.len().max(other.len());
    let at = (0..most).find(|at| one.get(*at) != other.get(*at))?;
    Some((told(one.get(at)), told(other.get(at))))
}

/// What events of a hop say that does not depend on when, as seconds of a clock may have passed, or on the port that the kernel
/// chooses for a tunnel's outer header.
fn timeless(hop: &Hop, events: &[Stamped]) -> Vec<Event> {
    let timeless = |event| match event {
        Event::Conntrack { state, created, closing, .. } => {
            Event::Conntrack { state, created, closing, expires_in: 0 }
        }
        Event::Parsed { flow, flags, icmp, fragment, ttl, length } if hop.is_outer() => {
            let flow = FlowKey { source_port: 0, ..flow };
            Event::Parsed { flow, flags, icmp, fragment, ttl, length }
        }
        event => event,
    };
    events.iter().map(|said| timeless(said.event)).collect()
}

/// The bytes of a frame but those that the text leaves open.
fn bytes(frame: &[u8], hop: &Hop, is_outer: bool) -> String {
    let is_v4 = frame.get(12..14) == Some(&[0x08, 0x00]);
    let udp = if is_v4 { 34 } else { 54 };
    let fields = hop.tunnel.iter().filter(|_| is_outer).flat_map(|tunnel| &tunnel.undetermined);
    let open: Vec<Range<usize>> = fields
        .filter_map(|field| {
            Some(match field.as_str() {
                "outer IP id" => 18..20,
                "outer IP checksum" => 24..26,
                "UDP source port" => udp..udp + 2,
                "outer UDP checksum" => udp + 6..udp + 8,
                _ => return None,
            })
        })
        .collect();
    let byte = |(at, byte): (usize, &u8)| {
        let is_open = open.iter().any(|range| range.contains(&at));
        if is_open { "..".to_owned() } else { format!("{byte:02x}") }
    };
    frame.iter().enumerate().map(byte).collect::<Vec<_>>().join(" ")
}
