//! A packet of somebody else, followed through what programs said while it passed: every hop is a run that was heard, found again by its
//! frame. Nothing is sent and nothing waited for; what was not heard ends the journey as unseen.

use std::collections::BTreeSet;

use datapath_abi::mark;
use engine::backend::{Backend, BackendError, Injection, Live, Observation};
use engine::net::Hook;
use engine::tables::Tables;
use engine::topology::{NodeId, World};
use engine::trace::{Action, ConntrackEntry, Counter, Event, Hit, Trace};

use super::{Device, Raw, follow_from};
use crate::decode::{Run, Snapshot};

/// Bytes of a frame's Ethernet addresses.
const MACS: usize = 12;
/// Bytes of a frame that are followed at most; what the kernel has not cut into pieces yet may be longer.
const MOST: usize = 3000;

/// Runs that were heard.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'r> {
    /// Of what, for the answer.
    pub name: &'r str,
    /// The runs, by when they ended.
    pub runs: &'r [(NodeId, Run)],
    /// Whether the programs only observe.
    pub observes: bool,
}

/// Follows the packet of a run. Also which runs are of it.
///
/// # Errors
/// As of [`super::follow_from`]; [`BackendError::BadInjection`] where the run told no frame.
pub fn follow_heard(
    world: &World,
    tables: &Tables,
    heard: Heard<'_>,
    first: usize,
) -> (Result<Trace, BackendError>, BTreeSet<usize>) {
    let mut playing = Playing { heard, tables, first, taken: BTreeSet::from([first]), since: 0 };
    let raw = match heard.runs.get(first) {
        Some((node, run)) => came(*node, run),
        None => None,
    };
    let trace = match raw {
        Some(raw) => follow_from(&mut playing, world, tables, &raw, 0),
        None => Err(BackendError::BadInjection("its frame was not told".to_owned())),
    };
    (trace, playing.taken)
}

/// A run's frame where it came.
pub fn came(node: NodeId, run: &Run) -> Option<Raw> {
    Some(Raw {
        node,
        hook: run.hook,
        device: Device::Index(run.end?.ifindex),
        mark: 0,
        tunnel: None,
        frame: whole(run.came.as_ref()?),
    })
}

/// A frame in its length; bytes that nobody told are 0.
fn whole(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = snapshot.bytes.clone();
    bytes.resize((snapshot.length as usize).clamp(bytes.len(), MOST.max(bytes.len())), 0);
    bytes
}

struct Playing<'h> {
    heard: Heard<'h>,
    tables: &'h Tables,
    first: usize,
    taken: BTreeSet<usize>,
    /// When the run before ended.
    since: u64,
}

impl Playing<'_> {
    fn told(&mut self, at: usize) -> Result<Observation, BackendError> {
        let Some((_, run)) = self.heard.runs.get(at) else {
            return Err(BackendError::BadInjection("no such run".to_owned()));
        };
        self.taken.insert(at);
        let time = run.end.map_or(0, |end| end.time);
        self.since = time;
        let action = run.events.iter().rev().find_map(|said| match said.event {
            Event::Outcome(action) => Some(action),
            _ => None,
        });
        let frame_in = run.came.as_ref().map(whole).unwrap_or_default();
        let left = run.left.as_ref().map_or_else(|| frame_in.clone(), whole);
        // Programs that only observe mark nothing.
        let own = run.end.map_or(0, |end| end.mark);
        let mark = if self.heard.observes { mark::DELIVERED } else { own };
        Ok(Observation {
            code: match action {
                Some(Action::Drop(_)) => 2,
                Some(Action::Deliver { .. } | Action::Tunnel { .. } | Action::Network { .. }) => 7,
                Some(Action::Stack { .. } | Action::Pass) | None => 0,
            },
            events: run.events.clone(),
            lost: u64::from(action.is_none()),
            frame: left,
            mark,
            live: Some(Live { time, frame_in, outer: None, arrived: None }),
        })
    }

    fn is_it(&self, (node, run): &(NodeId, Run), sought: &Injection) -> bool {
        let Some(end) = run.end else { return false };
        if *node != sought.node || run.hook != sought.hook || end.time < self.since {
            return false;
        }
        if run.hook == Hook::Prefilter {
            return true;
        }
        let port = self.tables.node(*node).map(|node| node.tunnel.port);
        run.came.as_ref().is_some_and(|came| is_same_packet(came, &sought.frame, port))
    }
}

impl Backend for Playing<'_> {
    fn name(&self) -> String {
        self.heard.name.to_owned()
    }

    fn load(&mut self, _: &Tables) -> Result<(), BackendError> {
        Ok(())
    }

    fn inject(&mut self, _: &Injection) -> Result<Observation, BackendError> {
        self.told(self.first)
    }

    fn carry(&mut self, sought: &Injection) -> Result<Observation, BackendError> {
        let runs = self.heard.runs.iter().enumerate();
        let mut found =
            runs.filter(|(at, run)| !self.taken.contains(at) && self.is_it(run, sought));
        match found.next().map(|(at, _)| at) {
            Some(at) => self.told(at),
            None => {
                let device = sought.ifindex.to_string();
                Err(BackendError::Unseen { hook: sought.hook, device, lost: 0 })
            }
        }
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn conntrack(&mut self, _: NodeId, _: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        Ok(Vec::new())
    }

    fn counters(&mut self, _: NodeId) -> Result<Vec<Counter>, BackendError> {
        Ok(Vec::new())
    }

    fn hits(&mut self, _: NodeId) -> Result<Vec<Hit>, BackendError> {
        Ok(Vec::new())
    }
}

/// Whether a frame that came is the one that was sent on, or the first piece that the kernel cut off it. Left open: Ethernet addresses, which
/// devices write; checksums of transports, which they may complete; what the kernel chooses of a tunnel's outer headers.
fn is_same_packet(came: &Snapshot, sent: &[u8], tunnel: Option<u16>) -> bool {
    let is_v4 = sent.get(12..14) == Some(&[0x08, 0x00]);
    let length = sent.get(14).map_or(0, |byte| usize::from(byte & 0xF) * 4);
    let transport = 14 + if is_v4 { length } else { 40 };
    let protocol = sent.get(if is_v4 { 23 } else { 20 }).copied().unwrap_or_default();
    let checksum = match protocol {
        6 => transport + 16..transport + 18,
        17 => transport + 6..transport + 8,
        _ => 0..0,
    };
    let port = sent.get(transport + 2..transport + 4);
    let port = port.and_then(|port| port.first_chunk()).map(|port| u16::from_be_bytes(*port));
    let mut open = vec![0..MACS, checksum];
    if protocol == 17 && port.is_some() && port == tunnel {
        open.push(transport..transport + 2);
        open.extend(is_v4.then_some(18..20));
        open.extend(is_v4.then_some(24..26));
    }
    if (came.length as usize) < sent.len() || sent.len() >= MOST {
        // Lengths with their checksum, and flags that only the last piece has.
        open.push(if is_v4 { 16..18 } else { 18..20 });
        open.extend(is_v4.then_some(24..26));
        open.extend((protocol == 6).then_some(transport + 13..transport + 14));
    }
    let is_open = |at: usize| open.iter().any(|range| range.contains(&at));
    let bytes = came.bytes.iter().zip(sent).enumerate();
    came.length as usize <= sent.len().max(MOST)
        && bytes.into_iter().all(|(at, (one, other))| one == other || is_open(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(bytes: &[u8]) -> Snapshot {
        Snapshot { length: u32::try_from(bytes.len()).unwrap(), bytes: bytes.to_vec() }
    }

    fn tcp(identification: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![1; MACS];
        let length = u8::try_from(40 + payload).unwrap();
        frame.extend([8, 0, 0x45, 0, 0, length, 0, identification, 0, 0, 64, 6, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 2, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags]);
        frame.extend([0; 6]);
        frame.extend(vec![7; payload]);
        frame
    }

    #[test]
    fn a_packet_is_known_again_after_devices_wrote_to_it() {
        let sent = tcp(5, 0x18, 20);
        let mut came = sent.clone();
        came[..MACS].fill(9);
        came[50] = 0xAA;
        assert!(is_same_packet(&snapshot(&came), &sent, None));
        assert!(!is_same_packet(&snapshot(&tcp(6, 0x18, 20)), &sent, None));
        // A piece of it has no push flag, and its own length.
        assert!(is_same_packet(&snapshot(&tcp(5, 0x10, 8)), &sent, None));
        assert!(!is_same_packet(&snapshot(&tcp(5, 0x10, 20)), &sent, None));
    }
}
