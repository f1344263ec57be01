//! Which backend a service chose where the capture was taken: a packet seen on both sides of a translation is the same packet, to
//! a frontend and to a pod. Looked for in a reading of its own, so that the first packet of a flow can go where it went.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use engine::topology::{Party, PodId, TunnelKind, World};

use super::flows;
use super::peel::peel;
use super::sort;
use crate::pcap::{Captured, Unreadable};
use crate::session::Interrupt;

/// How long a packet is on its way at most.
const WINDOW: Duration = Duration::from_secs(1);
/// Packets, addresses and choices that are remembered at most.
const MOST: usize = 65_536;

/// The backend of a packet by its number in the file.
#[derive(Debug, Default)]
pub(crate) struct Chosen(HashMap<u64, PodId>);

impl Chosen {
    /// Reads a capture for choices; nothing where the world has no services.
    pub(crate) fn of(
        world: &World,
        packets: impl Iterator<Item = Result<Captured, Unreadable>>,
        interrupt: &Interrupt,
    ) -> Self {
        let mut search = Search::default();
        let tunnel = &world.cluster.tunnel;
        let ports = [(tunnel.kind, tunnel.port)];
        if world.services().next().is_some() {
            let readable = packets.map_while(Result::ok).take_while(|_| !interrupt.is_set());
            readable.for_each(|captured| search.take(world, &ports, &captured));
        }
        Self(search.chosen)
    }

    /// The pod that a packet went to.
    pub(super) fn backend(&self, number: u64) -> Option<PodId> {
        self.0.get(&number).copied()
    }
}

#[derive(Default)]
struct Search {
    owners: HashMap<IpAddr, Party>,
    /// Packets to a frontend by what they hold: when, and their number.
    asked: HashMap<u64, (Duration, u64)>,
    chosen: HashMap<u64, PodId>,
}

impl Search {
    fn take(&mut self, world: &World, ports: &[(TunnelKind, u16)], captured: &Captured) {
        let Ok(seen) = peel(captured, ports) else { return };
        if flows::began_before(&seen.packet).is_some() {
            return;
        }
        let time = captured.time.unwrap_or_default();
        match self.owner(world, seen.packet.ip.destination) {
            Party::Service(_) | Party::Node(_) => {
                if self.asked.len() >= MOST {
                    self.asked.clear();
                }
                self.asked.entry(seen.content).or_insert((time, captured.number));
            }
            Party::Pod(pod) => {
                let Some((then, number)) = self.asked.remove(&seen.content) else { return };
                if time.abs_diff(then) <= WINDOW && self.chosen.len() < MOST {
                    self.chosen.insert(number, pod);
                }
            }
            _ => {}
        }
    }

    fn owner(&mut self, world: &World, address: IpAddr) -> Party {
        if self.owners.len() >= MOST {
            self.owners.clear();
        }
        *self.owners.entry(address).or_insert_with(|| sort::party(world, address))
    }
}
