//! The programs run, in this host's kernel and in the interpreter side by side: a small world in hand-written
//! tables, and what the tests below ask. Where the kernel is not available the interpreter is asked alone.

mod debugging;
#[cfg(feature = "kernel")]
mod differences;
mod flows;
mod frames;
mod loading;
#[cfg(feature = "measure")]
mod measuring;
mod outside;
mod policies;
mod routes;
mod services;
mod slots;
mod sums;

use std::net::IpAddr;

use datapath_abi as abi;
use engine::backend::{Injection, Observation, TunnelKey};
use engine::identity::Identity;
use engine::net::{
    Direction, Fragment, Hook, IpHeader, Mac, Packet, Protocol, TcpFlags, Transport,
};
use engine::reason::DropReason;
use engine::tables::{
    EndpointEntry, EndpointId, EntryId, Generation, IpcacheEntry, IpcacheOrigin, NatTables,
    NodeTables, PolicyEntry, PolicyKey, PolicyTable, TableId, Tables, Target,
};
use engine::topology::{Endpoint, HostRouting, NodeId, PodId, Routing, Tunnel, TunnelKind};
use engine::trace::{Action, Counter, CtState, Ethernet, Event};

use super::*;

const NODE: NodeId = NodeId(0);
/// Devices.
const PORT_A: u32 = 11;
const PORT_B: u32 = 12;
const TUNNEL: u32 = 5;
const DEVICE: u32 = 2;
const HOST_DEVICE: u32 = 4;
/// Identities.
const A: Identity = Identity(1000);
const B: Identity = Identity(2000);
const FAR: Identity = Identity(3000);

/// The backends that can run here, asked as one.
type Tested = Box<dyn Backend>;

/// Kernel and interpreter, with limits of their tables. Where the kernel is not available the interpreter alone;
/// that is a failure where `HOPWISE_REQUIRE` lists `kernel`.
#[cfg(feature = "kernel")]
fn backend_with(limits: Limits) -> Tested {
    match both(limits) {
        Some(both) => Box::new(both.comparing_maps_every(64)),
        None => interpreter(limits),
    }
}

/// Kernel and interpreter, where the kernel is available.
#[cfg(feature = "kernel")]
#[expect(clippy::print_stderr, reason = "a skipped comparison says why")]
fn both(limits: Limits) -> Option<crate::both::Both> {
    match crate::both::Both::open(limits) {
        Ok(both) => Some(both),
        Err(error @ BackendError::Unsupported { .. }) => {
            let required = std::env::var("HOPWISE_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|tier| tier.trim() == "kernel"), "{error:?}");
            eprintln!("the interpreter alone: {error}");
            None
        }
        Err(BackendError::Refused { program, log }) => panic!("{program} is refused:\n{log}"),
        Err(error) => panic!("{error:?}"),
    }
}

#[cfg(not(feature = "kernel"))]
fn backend_with(limits: Limits) -> Tested {
    interpreter(limits)
}

fn interpreter(limits: Limits) -> Tested {
    Box::new(crate::vm::Vm::open(limits).unwrap())
}

fn backend() -> Tested {
    backend_with(LIMITS)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn allow(identity: Identity, protocol: Option<Protocol>, port: u16, bits: u8) -> PolicyEntry {
    let key = PolicyKey { identity, protocol, port, port_bits: bits };
    PolicyEntry { key, deny: false, entry: EntryId(0) }
}

fn deny(identity: Identity, protocol: Option<Protocol>, port: u16, bits: u8) -> PolicyEntry {
    PolicyEntry { deny: true, ..allow(identity, protocol, port, bits) }
}

fn everything() -> Vec<PolicyEntry> {
    vec![allow(Identity::ANY, None, 0, 0)]
}

/// Entries numbered from 1 in the order given.
fn table(id: u32, entries: Vec<PolicyEntry>) -> PolicyTable {
    let number = |(at, entry)| PolicyEntry { entry: EntryId(at), ..entry };
    PolicyTable { id: TableId(id), entries: (1_u32..).zip(entries).map(number).collect() }
}

fn endpoint(id: u16, identity: Identity, ifindex: u32, addresses: [&str; 2]) -> EndpointEntry {
    EndpointEntry {
        id: EndpointId(id),
        endpoint: Endpoint::Pod(PodId(u32::from(id) - 1)),
        identity,
        addresses: addresses.map(ip).to_vec(),
        ifindex,
        interface: format!("lxc{id}"),
        mac: Mac([2, 0, 0, 0, 1, u8::try_from(id).unwrap()]),
        host_mac: Mac([2, 0, 0, 0, 2, u8::try_from(id).unwrap()]),
        egress: TableId(1),
        ingress: TableId(2),
    }
}

fn ipcache() -> Vec<IpcacheEntry> {
    let far = Target::Tunnel { remote: ip("192.168.0.2"), node: NodeId(1) };
    let (a, b) = (Target::Endpoint(EndpointId(1)), Target::Endpoint(EndpointId(2)));
    [
        ("10.0.0.1/32", A, a),
        ("fd00::1/128", A, a),
        ("10.0.0.2/32", B, b),
        ("fd00::2/128", B, b),
        ("10.1.0.1/32", FAR, far),
        ("fd01::1/128", FAR, far),
        ("192.168.0.1/32", Identity::HOST, Target::Host),
        ("192.168.0.2/32", Identity::REMOTE_NODE, Target::Stack),
        ("203.0.113.0/24", Identity(Identity::FIRST_CIDR), Target::Stack),
        ("0.0.0.0/0", Identity::WORLD_IPV4, Target::Stack),
        ("::/0", Identity::WORLD_IPV6, Target::Stack),
    ]
    .into_iter()
    .zip(1..)
    .map(|((prefix, identity, target), number)| IpcacheEntry {
        prefix: prefix.parse().unwrap(),
        identity,
        target,
        entry: EntryId(number),
        origin: IpcacheOrigin::World,
    })
    .collect()
}

/// One node with two pods; table 1 is what both may send, table 2 what both may receive.
fn node(egress: Vec<PolicyEntry>, ingress: Vec<PolicyEntry>) -> NodeTables {
    NodeTables {
        node: NODE,
        dual_stack: true,
        routing: Routing::Tunnel,
        host_routing: HostRouting::Stack,
        tunnel: Tunnel { kind: TunnelKind::Vxlan, port: 8472, device: "vxlan0".to_owned() },
        tunnel_ifindex: TUNNEL,
        device_ifindex: DEVICE,
        host_ifindex: HOST_DEVICE,
        host_firewall: false,
        frontends: Vec::new(),
        backend_sets: Vec::new(),
        nat: NatTables {
            masquerade: false,
            addresses: [Some(ip("192.168.0.1")), None],
            ports: (32_768, 65_535),
            except: Vec::new(),
        },
        prefilter: Vec::new(),
        encryption: None,
        tunnel_address: ip("192.168.0.1"),
        locals: vec![ip("192.168.0.1")],
        tunnels: Vec::new(),
        ipcache: ipcache(),
        endpoints: vec![
            endpoint(1, A, PORT_A, ["10.0.0.1", "fd00::1"]),
            endpoint(2, B, PORT_B, ["10.0.0.2", "fd00::2"]),
        ],
        policies: vec![table(1, egress), table(2, ingress)],
    }
}

fn tables(generation: u32, egress: Vec<PolicyEntry>, ingress: Vec<PolicyEntry>) -> Tables {
    Tables {
        generation: Generation(generation),
        nodes: vec![node(egress, ingress)],
        ..Tables::default()
    }
}

fn packet(source: &str, destination: &str, transport: Transport) -> Packet {
    Packet {
        ip: IpHeader {
            source: ip(source),
            destination: ip(destination),
            traffic_class: 0,
            ttl: 64,
            id: 1,
            flow_label: 0,
            dont_fragment: false,
            fragment: Fragment::default(),
            options: Vec::new(),
            extensions: Vec::new(),
        },
        transport,
        payload: Vec::new(),
    }
}

fn tcp(source: u16, destination: u16, flags: TcpFlags) -> Transport {
    Transport::Tcp { source, destination, flags, sequence: 1, acknowledgement: 0 }
}

fn syn(port: u16) -> Transport {
    tcp(40_000, port, TcpFlags::SYN)
}

fn udp(source: u16, destination: u16) -> Transport {
    Transport::Udp { source, destination }
}

fn echo(kind: u8, identifier: u8) -> Transport {
    Transport::Icmp { kind, code: 0, rest: [0, identifier, 0, 1] }
}

const ETHERNET: Ethernet =
    Ethernet { source: Mac([2, 0, 0, 0, 9, 1]), destination: Mac([2, 0, 0, 0, 9, 2]) };

fn frame(packet: &Packet) -> Vec<u8> {
    crate::frame::build(packet, ETHERNET).unwrap()
}

fn injection(hook: Hook, ifindex: u32, frame: Vec<u8>) -> Injection {
    Injection { node: NODE, hook, ifindex, mark: 0, tunnel: None, choose: None, now: 0, frame }
}

/// A packet of pod A.
fn from_a(packet: &Packet) -> Injection {
    injection(Hook::FromContainer, PORT_A, frame(packet))
}

/// A packet of pod B.
fn from_b(packet: &Packet) -> Injection {
    injection(Hook::FromContainer, PORT_B, frame(packet))
}

/// A packet from the tunnel.
fn from_overlay(vni: u32, packet: &Packet) -> Injection {
    let tunnel = Some(TunnelKey { vni, source: ip("192.168.0.2") });
    Injection { tunnel, ..injection(Hook::FromOverlay, TUNNEL, frame(packet)) }
}

/// A packet from the wire.
fn from_netdev(packet: &Packet) -> Injection {
    injection(Hook::FromNetdev, DEVICE, frame(packet))
}

fn at(now: u64, injection: Injection) -> Injection {
    Injection { now, ..injection }
}

/// What a run said, for assertions.
struct Said(Observation);

trait Say {
    /// Runs a packet that runs.
    fn say(&mut self, injection: &Injection) -> Said;
}

impl Say for Tested {
    fn say(&mut self, injection: &Injection) -> Said {
        match self.inject(injection) {
            Ok(seen) => {
                let said = Said::of(seen, injection.hook);
                let was_right = crate::frame::wrong_checksum(&injection.frame).is_none();
                let wrong = crate::frame::wrong_checksum(&said.0.frame).filter(|_| was_right);
                assert_eq!(wrong, None, "checksum after {:?}", said.0);
                said
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Said {
    fn of(seen: Observation, hook: Hook) -> Self {
        assert_eq!(seen.lost, 0);
        assert!(matches!(seen.events.last().map(|e| e.event), Some(Event::Outcome(_))), "{seen:?}");
        assert!(seen.events.iter().all(|event| event.hook == hook));
        Self(seen)
    }

    fn outcome(&self) -> Action {
        match self.0.events.last().map(|stamped| stamped.event) {
            Some(Event::Outcome(action)) => action,
            other => panic!("no outcome but {other:?}"),
        }
    }

    fn reason(&self) -> Option<DropReason> {
        match self.outcome() {
            Action::Drop(reason) => Some(reason),
            _ => None,
        }
    }

    fn state(&self) -> Option<CtState> {
        self.0.events.iter().find_map(|stamped| match stamped.event {
            Event::Conntrack { state, .. } => Some(state),
            _ => None,
        })
    }

    /// (winning entry, other hit, remembered) of a direction's policy.
    fn policy(&self, wanted: Direction) -> Option<(u32, Option<u32>, bool)> {
        self.0.events.iter().find_map(|stamped| match stamped.event {
            Event::Policy { direction, entry, other, remembered, .. } if direction == wanted => {
                Some((entry.0, other.map(|entry| entry.0), remembered))
            }
            _ => None,
        })
    }

    fn is_delivered_to(&self, id: u16) -> bool {
        matches!(self.outcome(), Action::Deliver { endpoint, .. } if endpoint == EndpointId(id))
    }
}
