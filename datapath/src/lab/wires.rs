//! A lab's devices for programs to hang on: where they are attached, how frames get to them, and what went by.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use datapath_abi as abi;
use engine::backend::BackendError;
use engine::net::Hook;
use engine::tables::{EndpointId, NodeTables, Tables};
use engine::topology::{Endpoint, NodeId, Routing, World};

use super::plan::{HOST_PEER, POD_DEVICE, wire};
use super::port::Port;
use super::{Lab, LabError, Options, Role, health};
use crate::decode;
use crate::follow::HOST_DEVICE;
use crate::frame::{self, Outer};
use crate::live::{Backed, Mode, Place, Programs, Verified, Wires, pins};

/// How long a packet may take from one program to the next: many times what it takes.
const PATIENCE: Duration = Duration::from_millis(500);

/// A lab with the ports that its frames are sent and taken by.
pub struct LabWires {
    lab: Lab,
    world: World,
    tables: Tables,
    wires: BTreeMap<NodeId, Port>,
    pods: BTreeMap<(NodeId, EndpointId), Port>,
    /// Ports on nodes' own devices, opened when a frame first goes by them.
    devices: RefCell<BTreeMap<(NodeId, String), Port>>,
    /// The directory of the pins, where programs stay after the process.
    pins: Option<PathBuf>,
    /// Whether programs tell nothing before they are told to.
    is_quiet: bool,
}

/// Makes a world's lab, with the datapath on it, and loads the tables.
pub fn open(
    world: &World,
    tables: &Tables,
    options: Options,
) -> Result<Backed<LabWires>, LabError> {
    let (programs, lab) = Verified::beside(tables, || Lab::make(world, tables, options));
    let wires = LabWires::on(lab?, world, tables)?;
    let failed = |error: BackendError| LabError::Datapath(error);
    let mut backed = Backed::with(wires, programs.map_err(failed)?);
    engine::backend::Backend::load(&mut backed, tables).map_err(failed)?;
    Ok(backed)
}

fn failed(call: &str, error: impl std::fmt::Display) -> BackendError {
    BackendError::System { call: call.to_owned(), error: error.to_string() }
}

impl LabWires {
    /// The wires of a lab that was made for this world.
    pub fn on(lab: Lab, world: &World, tables: &Tables) -> Result<Self, LabError> {
        Ok(Self {
            wires: lab.wires()?,
            pods: lab.pods()?,
            lab,
            world: world.clone(),
            tables: tables.clone(),
            devices: RefCell::default(),
            pins: None,
            is_quiet: false,
        })
    }

    /// Opens what frames are sent and taken by, where that is not open.
    pub fn listen(&mut self) -> Result<(), LabError> {
        (self.wires, self.pods) = (self.lab.wires()?, self.lab.pods()?);
        Ok(())
    }

    /// Closes it.
    pub fn hang_up(&mut self) {
        (self.wires, self.pods) = (BTreeMap::new(), BTreeMap::new());
        self.devices.borrow_mut().clear();
    }

    /// The wires of a lab whose frames nobody sends or looks at from here; programs tell nothing before they are told to.
    pub fn quiet(lab: Lab, world: &World, tables: &Tables) -> Self {
        Self {
            wires: BTreeMap::new(),
            pods: BTreeMap::new(),
            lab,
            world: world.clone(),
            tables: tables.clone(),
            devices: RefCell::default(),
            pins: None,
            is_quiet: true,
        }
    }

    /// Makes them those of another world, with what that takes of the lab.
    pub(super) fn change<T>(
        &mut self,
        world: &World,
        tables: &Tables,
        change: impl FnOnce(&mut Lab) -> T,
    ) -> T {
        world.clone_into(&mut self.world);
        tables.clone_into(&mut self.tables);
        change(&mut self.lab)
    }

    /// Where programs hang on a pod's device.
    pub(super) fn of_pod(device: &str) -> [Place; 2] {
        [Hook::FromContainer, Hook::ToContainer]
            .map(|hook| Place { hook, device: device.to_owned() })
    }

    /// Programs are pinned in a directory of bpffs, one below it for each node, and tell nothing before they are told to.
    #[must_use]
    pub fn pinned(self, directory: PathBuf) -> Self {
        Self { pins: Some(directory), ..self }
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    fn node(&self, node: NodeId) -> Result<&NodeTables, BackendError> {
        self.tables
            .node(node)
            .ok_or_else(|| BackendError::BadInjection(format!("there is no node {}", node.0)))
    }

    fn device(&self, node: NodeId) -> String {
        self.world.node(node).map(|node| node.device.clone()).unwrap_or_default()
    }

    /// Where a node's programs hang.
    fn places(&self, node: &NodeTables) -> Vec<Place> {
        let place = |hook, device: &str| Place { hook, device: device.to_owned() };
        let device = self.device(node.node);
        let mut places = vec![
            place(Hook::FromNetdev, &device),
            place(Hook::ToNetdev, &device),
            place(Hook::FromHost, HOST_DEVICE),
            place(Hook::ToHost, HOST_DEVICE),
        ];
        if !node.prefilter.is_empty() {
            places.push(place(Hook::Prefilter, &device));
        }
        if node.routing == Routing::Tunnel {
            places.push(place(Hook::FromOverlay, &node.tunnel.device));
            places.push(place(Hook::ToOverlay, &node.tunnel.device));
        }
        for entry in &node.endpoints {
            if !matches!(entry.endpoint, Endpoint::Host(_)) {
                places.extend(Self::of_pod(&entry.interface));
            }
        }
        places
    }

    /// Sends a frame out by a device of the node, with a mark.
    fn out_by(
        &self,
        node: NodeId,
        device: &str,
        (mark, frame): (u32, &[u8]),
    ) -> Result<(), BackendError> {
        let key = (node, device.to_owned());
        let mut devices = self.devices.borrow_mut();
        if !devices.contains_key(&key) {
            let port = self.lab.port(Role::Node(node), device);
            devices.insert(key.clone(), port.map_err(|e| failed("opening a device", e))?);
        }
        let port = devices.get(&key).ok_or_else(|| failed("opening a device", "it is gone"))?;
        let sent = port.set_mark(mark).and_then(|()| port.send(frame));
        sent.map_err(|error| self.unsent(Role::Node(node), device, frame, &error))
    }

    /// Sends a frame from a pod.
    fn by_pod(&self, node: NodeId, pod: EndpointId, frame: &[u8]) -> Result<(), BackendError> {
        let role = Role::Pod(node, pod);
        let gone = || self.unsent(role, POD_DEVICE, frame, &std::io::ErrorKind::NotFound.into());
        let port = self.pods.get(&(node, pod)).ok_or_else(gone)?;
        port.send(frame).map_err(|error| self.unsent(role, POD_DEVICE, frame, &error))
    }

    /// Why a frame could not be sent by a device.
    fn unsent(
        &self,
        role: Role,
        device: &str,
        frame: &[u8],
        error: &std::io::Error,
    ) -> BackendError {
        let space = self.lab.plan().space(role);
        let whose = space.map_or_else(String::new, |space| space.name.clone());
        let (why, remedy) = match (error.raw_os_error(), error.kind()) {
            (Some(libc::ENETDOWN), _) => (
                format!("{whose} sends nothing: its {device} is down"),
                format!("`hopwise lab exec {whose} -- ip link set {device} up`"),
            ),
            (_, std::io::ErrorKind::NotFound) => (
                format!("{whose} sends nothing: its {device} is gone"),
                "take the lab down, and make it again".to_owned(),
            ),
            (Some(libc::EMSGSIZE), _) => {
                let space = self.lab.space(role).map(health::present).and_then(Result::ok);
                let mtu = space.and_then(|there| there.get(device).map(|device| device.mtu));
                let mtu = mtu.map_or_else(String::new, |mtu| format!(", whose MTU is {mtu}"));
                let length = frame.len().saturating_sub(frame::MIN_LENGTH);
                (
                    format!("a packet of {length} bytes does not fit {device} of {whose}{mtu}"),
                    "ask for a shorter one".to_owned(),
                )
            }
            _ => return failed(&format!("sending by {device} of {whose}"), error),
        };
        BackendError::NotSent { why, remedy }
    }

    /// Sends a frame to the node by its wire.
    fn by_wire(&self, node: NodeId, frame: &[u8]) -> Result<(), BackendError> {
        let device = wire(node);
        let unsent = |error| self.unsent(Role::World, &device, frame, &error);
        let wire = self.wires.get(&node);
        let wire = wire.ok_or_else(|| unsent(std::io::ErrorKind::NotFound.into()))?;
        wire.send(frame).map_err(unsent)
    }

    /// The frame with the outer headers that lead it to the node's tunnel device.
    fn encapsulated(
        &self,
        node: &NodeTables,
        input: &abi::Input,
        inner: &[u8],
    ) -> Result<Vec<u8>, BackendError> {
        let bytes = input.outer_source;
        let source = if input.outer_family == u32::from(abi::family::V6) {
            std::net::Ipv6Addr::from(bytes).into()
        } else {
            std::net::Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()
        };
        let ethernet = engine::trace::Ethernet {
            source: crate::follow::link::ROUTER.mac,
            destination: crate::follow::link::node_mac(&self.world, node).mac,
        };
        let outer = Outer {
            ethernet,
            kind: node.tunnel.kind,
            options: &[],
            source,
            destination: node.tunnel_address,
            ttl: 64,
            source_port: 0xC000,
            port: node.tunnel.port,
            vni: input.vni,
        };
        frame::encapsulate(inner, &outer).map_err(|e| BackendError::BadInjection(e.to_string()))
    }
}

impl Wires for LabWires {
    fn name(&self) -> String {
        "lab".to_owned()
    }

    fn attach(&mut self, node: NodeId, programs: &mut Programs) -> Result<(), BackendError> {
        let places = self.places(self.node(node)?);
        let space = self.lab.space(Role::Node(node));
        let space = space.ok_or_else(|| failed("attaching", "the node has no namespace"))?;
        let attached =
            space.visit(|| places.into_iter().try_for_each(|place| programs.attach(place)));
        attached.map_err(|error| failed("entering a namespace", error))?
    }

    fn send(&mut self, node: NodeId, input: &abi::Input, frame: &[u8]) -> Result<(), BackendError> {
        let here = self.node(node)?;
        for port in self.pods.values() {
            port.rest().map_err(|error| failed("emptying a pod's device", error))?;
        }
        match decode::hook_of(input.hook)? {
            Hook::FromContainer => {
                let entry = here.endpoints.iter().find(|entry| entry.ifindex == input.ifindex);
                let pod = entry.ok_or_else(|| {
                    BackendError::BadInjection(format!("no pod is behind device {}", input.ifindex))
                })?;
                self.by_pod(node, pod.id, frame)
            }
            Hook::FromNetdev | Hook::Prefilter => self.by_wire(node, frame),
            Hook::FromOverlay if input.flags & abi::input::TUNNELED == 0 => {
                let what = "on real devices whatever comes out of a tunnel has its key";
                let instead = "write `vni N from ADDRESS`, or ask in simulation";
                Err(BackendError::BadInjection(format!("{what}; {instead}")))
            }
            Hook::FromOverlay => self.by_wire(node, &self.encapsulated(here, input, frame)?),
            Hook::FromHost => self.out_by(node, HOST_DEVICE, (input.mark, frame)),
            Hook::ToNetdev => self.out_by(node, &self.device(node), (input.mark, frame)),
            Hook::ToOverlay if input.flags & abi::input::TUNNELED != 0 => {
                let what = "a real device's egress cannot be given a tunnel key";
                let instead = "enter at the hook before, or ask in simulation";
                Err(BackendError::BadInjection(format!("{what}; {instead}")))
            }
            Hook::ToOverlay => self.out_by(node, &here.tunnel.device, (input.mark, frame)),
            Hook::ToContainer => {
                let entry = here.endpoints.iter().find(|entry| entry.ifindex == input.ifindex);
                let name = entry.map(|entry| entry.interface.clone()).unwrap_or_default();
                self.out_by(node, &name, (input.mark, frame))
            }
            Hook::ToHost => self.out_by(node, HOST_PEER, (0, frame)),
        }
    }

    fn sent(&mut self, node: NodeId) -> Result<Vec<Vec<u8>>, BackendError> {
        let Some(wire) = self.wires.get(&node) else { return Ok(Vec::new()) };
        wire.rest().map_err(|error| failed("reading the wire", error))
    }

    fn got(&mut self, node: NodeId, ifindex: u32) -> Result<Vec<Vec<u8>>, BackendError> {
        let entry = self.node(node)?.endpoints.iter().find(|entry| entry.ifindex == ifindex);
        let Some(port) = entry.and_then(|entry| self.pods.get(&(node, entry.id))) else {
            return Ok(Vec::new());
        };
        port.rest().map_err(|error| failed("reading a pod's device", error))
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    fn pins(&self, node: NodeId) -> Option<PathBuf> {
        let name = &self.world.node(node)?.name;
        self.pins.as_ref().map(|pins| pins.join(pins::escaped(name)))
    }

    fn mode(&self) -> Mode {
        let tells = self.pins.is_none() && !self.is_quiet;
        Mode { trace: tells, capture: tells, ..Mode::default() }
    }
}
