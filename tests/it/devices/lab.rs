//! A node of real devices: its namespace with a tunnel device that takes tunnel keys, one pod's namespace, and the wire to
//! the other node, which is not there. Beside it the world that the devices are made after, and its simulation.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use datapath::follow::follow;
use datapath::frame::{self, Tunneled};
use datapath::lab::namespace::Namespace;
use datapath::live::{Backed, Mode, Place, Programs, Wires};
use datapath_abi as abi;
use engine::backend::{Backend, BackendError};
use engine::net::Hook;
use engine::source::{FileId, SourceMap};
use engine::tables::{Generation, NodeTables, Tables};
use engine::topology::{NodeId, TunnelKind, World};
use engine::trace::{Event, Hop, Stamped, Trace};

use super::namespace::{PATIENCE, Port, ip};
use crate::kernel;

/// An address beyond the tunnel that no program knows.
pub(super) const BEYOND: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// The family of the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// A kind's name, for devices as for `HOPWISE_REQUIRE`.
pub(super) fn name(kind: TunnelKind) -> &'static str {
    match kind {
        TunnelKind::Vxlan => "vxlan",
        TunnelKind::Geneve => "geneve",
    }
}

fn text(kind: TunnelKind, family: Family) -> String {
    let [one, two] = match family {
        Family::V4 => ["192.168.1.1", "192.168.1.2"],
        Family::V6 => ["fd77::1", "fd77::2"],
    };
    format!(
        "cluster lab {{\n  tunnel {}\n  \
         node node01 {{ ip {one} pods 10.1.0.0/24, fd01::/64 mac 02:00:00:00:01:01 }}\n  \
         node node02 {{ ip {two} pods 10.2.0.0/24, fd02::/64 mac 02:00:00:00:02:01 }}\n}}\n\
         namespace shop {{}}\n\
         pod shop/client on node01 {{ ip 10.1.0.10, fd01::10 mac 02:00:00:00:01:0A \
         host-mac 02:00:00:00:01:0B labels {{ app = \"client\" }} }}\n\
         pod shop/server on node02 {{ ip 10.2.0.10, fd02::10 labels {{ app = \"server\" }} }}\n\
         pod shop/other on node02 {{ ip 10.2.0.11, fd02::11 labels {{ app = \"other\" }} }}\n\
         policy shop/client {{ select {{ app = \"client\" }} allow ingress from pods {{ app = \"server\" }} }}\n\
         policy shop/server {{ select {{ app = \"server\" }} allow ingress from pods {{ app = \"client\" }} }}\n",
        name(kind)
    )
}

/// The world, and what is simulated in it.
pub(super) struct Scene {
    kind: TunnelKind,
    world: World,
    tables: Tables,
    backend: Box<dyn Backend>,
}

impl Scene {
    pub(super) fn open(kind: TunnelKind, family: Family) -> Self {
        let text = [("world.hop".to_owned(), text(kind, family))];
        let loaded = lang::load(&text, &mut lang::NoIncludes, &mut SourceMap::default());
        assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        let tables = engine::compile::compile(&loaded.world, &loaded.policies, Generation(1))
            .expect("the world compiles");
        let mut backend = repl::backend::open(kernel::both()).expect("the kernel can be had");
        backend.load(&tables).expect("the tables fit");
        Self { kind, world: loaded.world, tables, backend }
    }

    /// Follows the packet of a question in the simulation, as the first of its flow.
    pub(super) fn ask(&mut self, question: &str) -> Trace {
        let parsed = lang::command::parse_question(question, FileId::default());
        let asked = lang::resolve::question(&self.world, &parsed.expect("a question"));
        self.backend.forget().expect("the backend forgets");
        let asked = asked.expect("names of this world");
        follow(&mut *self.backend, &self.world, &self.tables, &asked, 0).expect("it is followed")
    }

    /// A frame as one of the tunnel, if it is one.
    pub(super) fn tunneled<'a>(&self, frame: &'a [u8]) -> Option<Tunneled<'a>> {
        frame::decapsulate(frame, self.kind, self.node().tunnel.port)
    }

    /// Whether a frame is from one pod to another.
    pub(super) fn is_between_pods(&self, frame: &[u8]) -> bool {
        let is_pods = |address| {
            let mut cidrs = self.world.nodes.iter().flat_map(|node| &node.pod_cidrs);
            cidrs.any(|cidr| cidr.contains(&address))
        };
        frame::read(frame).is_some_and(|h| is_pods(h.flow.source) && is_pods(h.flow.destination))
    }

    fn node(&self) -> &NodeTables {
        &self.tables.nodes[0]
    }
}

/// The devices of the world's first node, with the programs on them.
pub(super) struct Lab {
    /// The wire's other end.
    pub(super) wire: Port,
    /// The pod's end of its veth.
    pub(super) pod: Port,
    attached: Backed<Devices>,
    devices: NodeId,
    node: Namespace,
    /// Namespaces live as long as something holds them.
    _others: [Namespace; 2],
}

impl Lab {
    /// Makes namespaces and devices and attaches the programs. An error says what the host lacks.
    pub(super) fn make(scene: &Scene) -> Result<Self, String> {
        let make = || Namespace::make().map_err(|error| format!("a network namespace: {error}"));
        let (wire, pod, node) = (make()?, make()?, make()?);
        for command in commands(scene, &wire, &pod) {
            ip(&node, &command)?;
        }
        ip(&wire, "link set wire up")?;
        ip(&pod, "link set eth0 up")?;
        let ports = (Port::open(&wire, "wire")?, Port::open(&pod, "eth0")?);
        node.enter().expect("a namespace of this thread's making");
        let here = scene.node();
        let place = |hook, device: &String| Place { hook, device: device.clone() };
        let devices = Devices {
            node: here.node,
            places: vec![
                place(Hook::FromContainer, &here.endpoints[0].interface),
                place(Hook::FromOverlay, &here.tunnel.device),
                place(Hook::ToOverlay, &here.tunnel.device),
            ],
        };
        let mut attached = Backed::new(devices).expect("the object is there");
        attached.load(&scene.tables).expect("the programs load and attach");
        let devices = here.node;
        Ok(Self { wire: ports.0, pod: ports.1, attached, devices, node, _others: [wire, pod] })
    }

    /// Everything that the programs said since the last time.
    pub(super) fn events(&mut self) -> Vec<Stamped> {
        let programs = self.attached.programs(self.devices).expect("they are loaded");
        let (runs, lost) = programs.runs().expect("the events are read");
        assert_eq!(lost, 0, "events were lost");
        runs.into_iter().flat_map(|run| run.events).collect()
    }

    /// Fails unless the program of a simulated hop says here what it said there about the packet. What it says about others,
    /// such as neighbours' greetings, is passed over.
    #[track_caller]
    pub(super) fn says(&mut self, hop: &Hop) {
        let expected: Vec<Event> = hop.events.iter().map(|said| said.event).collect();
        let begun = Instant::now();
        let mut said = Vec::new();
        while begun.elapsed() < PATIENCE {
            let new = self.events().into_iter().filter(|event| event.hook == hop.hook);
            said.extend(new.map(|event| event.event));
            let mut packets = said.split_inclusive(|event| matches!(event, Event::Outcome(_)));
            let about = packets.find(|events| events.first() == expected.first());
            if let Some(about @ [.., Event::Outcome(_)]) = about {
                assert_eq!(about, expected);
                return;
            }
        }
        panic!("nothing of {expected:?} but {said:?}");
    }

    /// Fails unless the pod gets a frame.
    #[track_caller]
    pub(super) fn arrives(&mut self, frame: &[u8]) {
        let has_come = self.pod.take(|got| got == frame).is_some();
        assert!(has_come, "{frame:02x?} did not arrive: {:?}", self.events());
    }

    /// Makes the node's own stack send what is for [`BEYOND`] by the tunnel device with options.
    pub(super) fn route_with_options(&self, scene: &Scene, options: &[u8]) {
        let here = scene.node();
        let (device, remote) = (&here.tunnel.device, other_end(scene));
        let encapsulation = if remote.is_ipv4() { "ip" } else { "ip6" };
        let way = if remote.is_ipv4() { "ttl" } else { "hoplimit" };
        let done = [
            format!("neigh replace {BEYOND} lladdr 02:00:00:00:09:09 dev {device} nud permanent"),
            format!(
                "route replace {BEYOND}/32 encap {encapsulation} id 77 dst {remote} {way} 64 \
                 geneve_opts {} dev {device} src 10.1.0.1",
                words(options)
            ),
        ];
        for command in done {
            ip(&self.node, &command).expect("the route is made");
        }
    }
}

/// The devices of one node. Nothing is sent by them: the test does it itself.
struct Devices {
    node: NodeId,
    places: Vec<Place>,
}

impl Wires for Devices {
    fn name(&self) -> String {
        "devices".to_owned()
    }

    fn attach(&mut self, node: NodeId, programs: &mut Programs) -> Result<(), BackendError> {
        programs.set_mode(Mode { trace: true, ..Mode::default() })?;
        let places = self.places.iter().filter(|_| node == self.node);
        places.cloned().try_for_each(|place| programs.attach(place))
    }

    fn send(&mut self, _: NodeId, _: &abi::Input, _: &[u8]) -> Result<(), BackendError> {
        Ok(())
    }

    fn sent(&mut self, _: NodeId) -> Result<Vec<Vec<u8>>, BackendError> {
        Ok(Vec::new())
    }

    fn got(&mut self, _: NodeId, _: u32) -> Result<Vec<Vec<u8>>, BackendError> {
        Ok(Vec::new())
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

/// Geneve's options as `ip` takes them.
fn words(options: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, b| text + &format!("{b:02x}"));
    let mut texts = Vec::new();
    let mut rest = options;
    while let [a, b, kind, length, behind @ ..] = rest {
        let (data, next) = behind.split_at(usize::from(length & 0x1F) * 4);
        texts.push(format!("0x{}:0x{}:{}", hex(&[*a, *b]), hex(&[*kind]), hex(data)));
        rest = next;
    }
    texts.join(",")
}

/// The other node's address on the underlay.
fn other_end(scene: &Scene) -> IpAddr {
    scene.tables.nodes[1].tunnel_address
}

/// What `ip` is to do in the node's namespace. Devices get the names, indices and Ethernet addresses of the tables.
fn commands(scene: &Scene, wire: &Namespace, pod: &Namespace) -> Vec<String> {
    let here = scene.node();
    let [own, other] = [0, 1].map(|node| &scene.world.nodes[node]);
    let mac = |node: &engine::topology::Node| node.mac.expect("the world gives it");
    let (device, client, tunnel) = (&own.device, &here.endpoints[0], &here.tunnel);
    let (address, remote) = (here.tunnel_address, other_end(scene));
    let bits = if remote.is_ipv4() { "24" } else { "64 nodad" };
    vec![
        // The tunnel device first: it is what a kernel may lack.
        format!(
            "link add {} index {} type {} external dstport {}",
            tunnel.device,
            here.tunnel_ifindex,
            name(tunnel.kind),
            tunnel.port
        ),
        format!(
            "link add {device} index {} address {} type veth peer name wire address {} netns {}",
            here.device_ifindex,
            mac(own),
            mac(other),
            wire.path()
        ),
        format!(
            "link add {} index {} address {} type veth peer name eth0 address {} netns {}",
            client.interface,
            client.ifindex,
            client.host_mac,
            client.mac,
            pod.path()
        ),
        "link set lo up".to_owned(),
        format!("link set {device} up"),
        format!("link set {} up", client.interface),
        format!("link set {} up", tunnel.device),
        format!("addr add {address}/{bits} dev {device}"),
        "addr add 10.1.0.1/32 dev lo".to_owned(),
        format!("neigh add {remote} lladdr {} dev {device} nud permanent", mac(other)),
    ]
}
