//! Two pods of a node and of two nodes, in a lab with the datapath and in one without; and what goes from one to the other by sockets
//! of this process. All of it goes with the value that holds it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use datapath::lab::namespace::Namespace;
use datapath::lab::{self, Lab, Options, Role, Scene, Texts};
use datapath::live::Mode;
use datapath::live::install::{Source, State};
use engine::source::SourceMap;
use engine::tables::{Generation, Tables};
use engine::topology::Endpoint;
use repl::live::Listener;
use repl::monitor::{self, Asked, Item, Report, Sink, watch};
use repl::render;
use repl::session::Interrupt;

const WORLD: &str = r#"
cluster lab {
  node node01 { ip 192.168.1.1 pods 10.1.0.0/24 }
  node node02 { ip 192.168.1.2 pods 10.2.0.0/24 }
}
namespace load {}
pod load/a on node01 { ip 10.1.0.10 labels { app = "a" } }
pod load/b on node01 { ip 10.1.0.11 labels { app = "b" } }
pod load/c on node02 { ip 10.2.0.10 labels { app = "c" } }
policy load/all { select {} allow ingress from pods { app = "a" } on 9000/tcp, 9000/udp }
"#;
/// The lab's name.
const NAME: &str = "bench";
/// The sender's address.
const FROM: &str = "10.1.0.10";
/// What a round waits for at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The kernel's own routing.
    Bare,
    /// The datapath, with nobody who looks.
    Attached,
    /// The datapath, with a monitor that makes a line of every run.
    Watched,
}

impl Variant {
    pub(crate) const ALL: [Self; 3] = [Self::Bare, Self::Attached, Self::Watched];
}

/// What one round measures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// TCP, one stream: bits a second.
    pub(crate) bits: f64,
    /// Nanoseconds from question to answer, of every exchange.
    pub(crate) tcp: Vec<u64>,
    pub(crate) udp: Vec<u64>,
    /// Events that a monitor read, and lost.
    pub(crate) events: (u64, u64),
}

/// How long a round is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) stream: Duration,
    pub(crate) exchanges: usize,
}

/// Both labs.
pub(crate) struct Ways {
    bare: Lab,
    tables: Tables,
    state: State,
}

fn scene() -> monitor::Scene {
    let entry = [("world.hop".to_owned(), WORLD.to_owned())];
    let mut sources = SourceMap::default();
    let loaded = lang::load(&entry, &mut lang::NoIncludes, &mut sources);
    let lang::Loaded { world, policies, .. } = loaded;
    let tables = engine::compile::compile(&world, &policies, Generation(1)).expect("it compiles");
    monitor::Scene { world, policies, tables, sources }
}

impl Ways {
    pub(crate) fn new(place: PathBuf) -> Self {
        let monitor::Scene { world, tables, .. } = scene();
        let bare = Lab::make(&world, &tables, Options::default()).expect("a lab can be made");
        let ways = Self { bare, tables, state: State::at(place) };
        ways.route();
        let scene = Scene { world: &world, tables: &ways.tables };
        let texts = Texts {
            sources: vec![Source { name: "world.hop".to_owned(), text: WORLD.to_owned() }],
            entries: vec!["world.hop".to_owned()],
        };
        lab::up(&ways.state, NAME, scene, texts).expect("a lab can be made");
        ways
    }

    /// Leads packets where the datapath would: to pods by their devices, to the other node by the same tunnel device.
    fn route(&self) {
        for (here, node) in self.tables.nodes.iter().enumerate() {
            let space = self.bare.space(Role::Node(node.node)).expect("the node has one");
            let ip = |words: String| {
                let said = space.within(|| Command::new("ip").args(words.split(' ')).output());
                let said = said.expect("`ip` is here");
                assert!(
                    said.status.success(),
                    "{words}: {}",
                    String::from_utf8_lossy(&said.stderr)
                );
            };
            for pod in node.endpoints.iter().filter(|e| matches!(e.endpoint, Endpoint::Pod(_))) {
                let (device, address, mac) = (&pod.interface, pod.addresses[0], pod.mac);
                ip(format!("route replace {address}/32 dev {device}"));
                ip(format!("neigh replace {address} lladdr {mac} dev {device} nud permanent"));
            }
            let (device, there) = (&node.tunnel.device, 2 - here);
            ip(format!("link set {device} address 02:00:00:00:00:0{}", here + 1));
            let next = format!("10.{there}.0.254");
            ip(format!(
                "neigh replace {next} lladdr 02:00:00:00:00:0{there} dev {device} nud permanent"
            ));
            ip(format!(
                "route replace 10.{there}.0.0/24 encap ip id 1 dst 192.168.1.{there} via {next} dev {device} onlink"
            ));
        }
    }

    /// The namespace of the pod with an address.
    fn space(&self, variant: Variant, address: &str) -> Namespace {
        let address: IpAddr = address.parse().expect("an address");
        if variant == Variant::Bare {
            let mut pods = self.tables.nodes.iter().flat_map(|node| {
                node.endpoints.iter().map(|pod| (Role::Pod(node.node, pod.id), &pod.addresses))
            });
            let (role, _) = pods.find(|(_, has)| has.contains(&address)).expect("a pod has it");
            return self.bare.space(role).expect("it was made").try_clone().expect("descriptors");
        }
        let pod = match address.to_string().as_str() {
            FROM => "load/a",
            "10.1.0.11" => "load/b",
            _ => "load/c",
        };
        Namespace::open(&self.state.namespace(NAME, pod)).expect("it was made")
    }

    /// One round from the first pod to the one with an address.
    pub(crate) fn measure(&self, variant: Variant, to: &str, round: Round) -> Measured {
        let spaces = (self.space(variant, FROM), self.space(variant, to));
        let to: SocketAddr = format!("{to}:9000").parse().expect("an address");
        let all = || {
            let bits = stream(&spaces, to, round.stream).expect("a stream gets through");
            let tcp = exchange(&spaces, to, round.exchanges).expect("a stream gets through");
            let udp = datagrams(&spaces, to, round.exchanges).expect("datagrams get through");
            Measured { bits, tcp, udp, events: (0, 0) }
        };
        if variant != Variant::Watched {
            return all();
        }
        let (measured, report) = self.watched(all);
        Measured { events: (report.events, report.lost), ..measured }
    }

    /// Does something while a monitor reads what programs say of it.
    fn watched<T>(&self, run: impl FnOnce() -> T) -> (T, Report) {
        let interrupt = Interrupt::default();
        let (flag, state) = (interrupt.clone(), &self.state);
        let (ready, is_ready) = mpsc::channel();
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut listener = listener(state);
                ready.send(()).expect("somebody waits");
                watch(&mut listener, &Asked::default(), &mut Printed::default(), &flag)
            });
            is_ready.recv().expect("it listens");
            let done = run();
            interrupt.flag().store(true, Ordering::Relaxed);
            (done, reader.join().expect("it ends").expect("it reads"))
        })
    }
}

impl Drop for Ways {
    fn drop(&mut self) {
        drop(lab::down(&self.state, NAME));
        drop(std::fs::remove_dir_all(self.state.run()));
        drop(std::fs::remove_dir(self.state.all_pins()));
    }
}

fn listener(state: &State) -> Listener {
    let scene = Rc::new(scene());
    let open = |(id, node): (_, &engine::topology::Node)| {
        (id, state.programs(NAME, &node.name).expect("they are pinned"))
    };
    let nodes = scene.world.nodes().map(open).collect();
    let mode = Mode { trace: true, ..Mode::default() };
    let names = (Rc::clone(&scene), Box::new(|_| None) as _);
    Listener::new("bench".to_owned(), nodes, names, mode).expect("it listens")
}

/// Makes lines of what it is shown, for nobody.
#[derive(Default)]
struct Printed(Vec<u8>);

impl Sink for Printed {
    fn show(&mut self, items: &[Item]) -> io::Result<()> {
        self.0.clear();
        render::items(items, &render::Options::default(), &mut self.0)
    }
}

type Spaces = (Namespace, Namespace);

fn connected((from, at): &Spaces, to: SocketAddr) -> io::Result<(TcpStream, TcpStream)> {
    let listener = at.within(|| TcpListener::bind(to))?;
    let client = from.within(|| TcpStream::connect_timeout(&to, PATIENCE))?;
    let (server, _) = listener.accept()?;
    for side in [&client, &server] {
        side.set_nodelay(true)?;
        side.set_read_timeout(Some(PATIENCE))?;
        side.set_write_timeout(Some(PATIENCE))?;
    }
    Ok((client, server))
}

/// Bits a second of one TCP stream.
fn stream(spaces: &Spaces, to: SocketAddr, time: Duration) -> io::Result<f64> {
    let (mut client, mut server) = connected(spaces, to)?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let (bytes, begun) = (vec![0x5A; 128 << 10], Instant::now());
            while begun.elapsed() < time {
                client.write_all(&bytes)?;
            }
            Ok::<_, io::Error>(())
        });
        let (mut buffer, mut bytes, begun) = (vec![0; 256 << 10], 0_u64, Instant::now());
        loop {
            match server.read(&mut buffer)? {
                0 => break,
                length => bytes += u64::try_from(length).unwrap_or(0),
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        sender.join().map_err(|_| io::Error::other("the sender has panicked"))??;
        Ok(f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) * 8192.0 / seconds)
    })
}

/// Nanoseconds of each of some exchanges of 64 bytes, after a few that do not count.
fn timed(count: usize, mut ask: impl FnMut() -> io::Result<()>) -> io::Result<Vec<u64>> {
    (0..20).try_for_each(|_| ask())?;
    let time = |_| {
        let begun = Instant::now();
        ask()?;
        Ok(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX))
    };
    (0..count).map(time).collect()
}

fn exchange(spaces: &Spaces, to: SocketAddr, count: usize) -> io::Result<Vec<u64>> {
    let (mut client, mut server) = connected(spaces, to)?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut bytes = [0; 64];
            while server.read_exact(&mut bytes).and_then(|()| server.write_all(&bytes)).is_ok() {}
        });
        let mut bytes = [0x5A; 64];
        let times = timed(count, || {
            client.write_all(&bytes)?;
            client.read_exact(&mut bytes)
        });
        drop(client);
        times
    })
}

fn datagrams((from, at): &Spaces, to: SocketAddr, count: usize) -> io::Result<Vec<u64>> {
    let server = at.within(|| UdpSocket::bind(to))?;
    let client = from.within(|| UdpSocket::bind((FROM, 0)))?;
    client.connect(to)?;
    client.set_read_timeout(Some(PATIENCE))?;
    server.set_read_timeout(Some(PATIENCE))?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 64];
            // An empty one ends it.
            while let Ok((1.., peer)) = server.recv_from(&mut bytes) {
                let _ = server.send_to(&bytes, peer);
            }
        });
        let mut bytes = [0x5A; 64];
        let times = timed(count, || {
            client.send(&bytes)?;
            client.recv(&mut bytes).map(drop)
        });
        client.send(&[])?;
        times
    })
}

/// The value below which a share of all lies.
pub(crate) fn quantile(values: &mut [u64], share: f64) -> u64 {
    values.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place among thousands"
    )]
    let at = (values.len().saturating_sub(1) as f64 * share) as usize;
    values.get(at).copied().unwrap_or(0)
}
