//! Packets that no question can ask for, before programs whose run is counted: malformed headers, IPv6 extension
//! headers, foreign tunnel keys, tables without a catch-all, packets in paged memory, a node that is live. Each says
//! what must come of it.

mod chained;
mod watching;

use std::net::IpAddr;

use datapath::vm::Vm;
use datapath::vm::coverage::{Coverage, Recorder};
use engine::backend::{Backend as _, Injection, Observation, TunnelKey};
use engine::identity::Identity;
use engine::net::{Fragment, Hook, IpHeader, Mac, Packet, TcpFlags, Transport};
use engine::reason::DropReason;
use engine::source::SourceMap;
use engine::tables::{EndpointEntry, Generation, Tables};
use engine::topology::NodeId;
use engine::trace::{Action, CtState, Ethernet, Event};

/// One node with two pods that may talk to everyone, in a cluster of both families.
const WORLD: &str = "\
cluster lab {
  node node01 { ip 192.168.1.1, fd00:a::1 pods 10.1.0.0/24, fd00:1::/64 }
  node node02 { ip 192.168.1.2, fd00:a::2 pods 10.2.0.0/24, fd00:2::/64 }
}
namespace shop {}
pod shop/client on node01 { ip 10.1.0.10, fd00:1::10 }
pod shop/server on node01 { ip 10.1.0.11, fd00:1::11 labels { app = \"server\" } }
pod shop/vault on node01 { ip 10.1.0.12, fd00:1::12 endpoint 65000 labels { app = \"vault\" } }
service shop/web { cluster-ip 10.96.0.20, fd00:96::20 port 80/tcp port 54/udp select { app = \"server\" } }
policy shop/vault { select { app = \"vault\" } default-deny ingress }
";

/// What the packet of a test is.
const CLIENT: &str = "fd00:1::10";
const SERVER: &str = "fd00:1::11";

const NODE: &str = "the node is there";

struct Bench {
    vm: Vm,
    counts: Coverage,
    tables: Tables,
}

impl Bench {
    fn open(counts: Coverage) -> Self {
        let mut sources = SourceMap::default();
        let text = [("world.hop".to_owned(), WORLD.to_owned())];
        let loaded = lang::load(&text, &mut lang::NoIncludes, &mut sources);
        let tables = engine::compile::compile(&loaded.world, &loaded.policies, Generation(1))
            .expect("the world compiles");
        let mut vm = Vm::find().expect("the object loads");
        vm.load(&tables).expect("the tables fit");
        Self { vm, counts, tables }
    }

    fn pod(&self, number: usize) -> &EndpointEntry {
        &self.tables.nodes[0].endpoints[number]
    }

    /// A frame at a hook of the first node, on the device that the hook hangs on.
    fn injection(&self, hook: Hook, frame: Vec<u8>) -> Injection {
        let node = &self.tables.nodes[0];
        let ifindex = match hook {
            Hook::FromContainer | Hook::ToContainer => self.pod(0).ifindex,
            Hook::FromOverlay | Hook::ToOverlay => node.tunnel_ifindex,
            Hook::FromNetdev | Hook::ToNetdev | Hook::Prefilter => node.device_ifindex,
            Hook::FromHost | Hook::ToHost => node.host_ifindex,
        };
        Injection {
            node: node.node,
            hook,
            ifindex,
            mark: 0,
            tunnel: None,
            choose: None,
            now: 0,
            frame,
        }
    }

    fn say(&mut self, injection: &Injection) -> Observation {
        self.vm.inject_watched(injection, &mut self.counts).expect("the packet runs")
    }

    /// The same after the run was begun and something of it changed.
    fn say_changed(&mut self, injection: &Injection, change: impl Fn(&mut Vm)) -> Observation {
        self.vm.begin(injection).expect("the packet can enter");
        change(&mut self.vm);
        let machine = self.vm.machine(injection.node).expect(NODE);
        let code = machine.run(&mut self.counts).expect("the packet runs");
        self.vm.finish(injection.node, code).expect("its events are read")
    }
}

/// Runs all of them; what ran. The recorder's own counts stay as they are.
pub(super) fn counted(recorder: &Recorder) -> Coverage {
    let mut bench = Bench::open(recorder.counts());
    extension_headers(&mut bench);
    malformed_headers(&mut bench);
    errors_about_nothing(&mut bench);
    strangers(&mut bench);
    a_tunnel_key_of_the_world(&mut bench);
    neighbours(&mut bench);
    paged_memory(&mut bench);
    a_live_node(&mut bench);
    watching::watched(&mut bench);
    chained::chained(&mut bench);
    other_devices(&mut bench);
    no_catch_all(&mut bench);
    a_hook_without_a_program(&mut bench);
    bench.counts
}

fn packet(source: &str, destination: &str, transport: Transport) -> Packet {
    let ip = IpHeader {
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
    };
    Packet { ip, transport, payload: Vec::new() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn syn(source: u16) -> Transport {
    let flags = TcpFlags::SYN;
    Transport::Tcp { source, destination: 80, flags, sequence: 1, acknowledgement: 0 }
}

fn frame(packet: &Packet) -> Vec<u8> {
    let ethernet =
        Ethernet { source: Mac([2, 0, 0, 0, 9, 1]), destination: Mac([2, 0, 0, 0, 9, 2]) };
    datapath::frame::build(packet, ethernet).expect("the packet has a frame")
}

fn outcome(seen: &Observation) -> Action {
    match seen.events.last().map(|stamped| stamped.event) {
        Some(Event::Outcome(action)) => action,
        other => panic!("no outcome but {other:?}"),
    }
}

fn is_delivered(seen: &Observation) -> bool {
    matches!(outcome(seen), Action::Deliver { .. })
}

fn identity(seen: &Observation, of_source: bool) -> Option<Identity> {
    seen.events.iter().find_map(|stamped| match stamped.event {
        Event::Identity { source_side, identity, .. } if source_side == of_source => Some(identity),
        _ => None,
    })
}

fn extension_headers(bench: &mut Bench) {
    let options = |kind: u8| (kind, vec![0; 6]);
    for extensions in [vec![options(0)], vec![options(0), options(60)], vec![(51, vec![0; 10])]] {
        let mut sent = packet(CLIENT, SERVER, syn(1000));
        sent.ip.extensions.clone_from(&extensions);
        let seen = bench.say(&bench.injection(Hook::FromContainer, frame(&sent)));
        assert!(is_delivered(&seen), "{extensions:?}: {seen:?}");
    }
    let mut piece = packet(CLIENT, SERVER, Transport::Udp { source: 1000, destination: 80 });
    piece.ip.fragment = Fragment { offset: 0, more: true };
    piece.ip.extensions = vec![options(60)];
    let seen = bench.say(&bench.injection(Hook::FromContainer, frame(&piece)));
    assert!(is_delivered(&seen), "{seen:?}");
    let mut many = packet(CLIENT, SERVER, syn(1000));
    many.ip.extensions = vec![options(60); 4];
    let seen = bench.say(&bench.injection(Hook::FromContainer, frame(&many)));
    assert_eq!(outcome(&seen), Action::Drop(DropReason::InvalidExtensionHeader));
}

/// What is wrong with a frame, and the reason that it is dropped for.
type Malformed = (&'static str, Vec<u8>, DropReason);

/// A frame with some of its bytes changed, and cut off where a length is given.
fn spoiled(packet: &Packet, bytes: &[(usize, u8)], length: Option<usize>) -> Vec<u8> {
    let mut frame = frame(packet);
    for (at, byte) in bytes {
        frame[*at] = *byte;
    }
    frame.truncate(length.unwrap_or(frame.len()));
    frame
}

/// Ethernet has 14 bytes, IPv4 20 more, IPv6 40 more.
fn malformed() -> Vec<Malformed> {
    let four = packet("10.1.0.10", "10.1.0.11", syn(1000));
    let six = packet(CLIENT, SERVER, syn(1000));
    let with = |kind: u8, bytes: usize| {
        let mut sent = six.clone();
        sent.ip.extensions = vec![(kind, vec![0; bytes])];
        sent
    };
    let (header, extension) = (DropReason::CtInvalidHeader, DropReason::InvalidExtensionHeader);
    vec![
        (
            "an IPv4 header of 16 bytes",
            spoiled(&four, &[(14, 0x44)], None),
            DropReason::InvalidPacket,
        ),
        ("version 6 of IPv4", spoiled(&four, &[(14, 0x65)], None), DropReason::InvalidPacket),
        ("version 4 of IPv6", spoiled(&six, &[(14, 0x40)], None), DropReason::InvalidPacket),
        ("a length before the end of TCP", spoiled(&four, &[(17, 39)], None), header),
        ("TCP's first four bytes", spoiled(&four, &[], Some(38)), header),
        ("TCP's first ten bytes", spoiled(&four, &[], Some(44)), header),
        ("nothing after IPv6", spoiled(&six, &[(20, 59)], None), extension),
        ("nothing after an extension", spoiled(&with(60, 6), &[(54, 59)], None), extension),
        ("an extension cut off", spoiled(&with(60, 6), &[], Some(56)), header),
        ("extensions of 512 bytes", frame(&with(60, 510)), extension),
        (
            "a protocol without ports",
            spoiled(&four, &[(23, 89)], None),
            DropReason::CtUnknownProtocol,
        ),
    ]
}

fn malformed_headers(bench: &mut Bench) {
    let hooks = [
        Hook::FromNetdev,
        Hook::FromContainer,
        Hook::FromOverlay,
        Hook::ToContainer,
        Hook::FromHost,
    ];
    for hook in hooks {
        for (what, bytes, reason) in malformed() {
            let mut injection = bench.injection(hook, bytes);
            injection.tunnel = Some(TunnelKey { vni: 1000, source: ip("192.168.1.2") });
            let seen = bench.say(&injection);
            assert_eq!(outcome(&seen), Action::Drop(reason), "{hook:?}: {what}");
        }
    }
    // Not IP: address resolution is the stack's, anything else of a pod is dropped.
    for (kind, action) in [
        ([0x08, 0x06], Action::Stack { host: false }),
        ([0x88, 0xCC], Action::Drop(DropReason::UnknownL3)),
    ] {
        let sent = packet("10.1.0.10", "10.1.0.11", syn(1000));
        let bytes = spoiled(&sent, &[(12, kind[0]), (13, kind[1])], None);
        let seen = bench.say(&bench.injection(Hook::FromContainer, bytes));
        assert_eq!(outcome(&seen), action, "{kind:02x?}");
    }
}

/// An ICMP error that does not say which packet it is about belongs to no flow.
fn errors_about_nothing(bench: &mut Bench) {
    let about = packet("10.1.0.11", "10.1.0.10", syn(5000));
    let unreachable = |quoted: &[u8]| {
        let transport = Transport::Icmp { kind: 3, code: 1, rest: [0; 4] };
        Packet { payload: quoted.to_vec(), ..packet("10.1.0.10", "10.1.0.11", transport) }
    };
    bench.vm.forget().expect("conntrack is emptied");
    let opening = Injection {
        ifindex: bench.pod(1).ifindex,
        ..bench.injection(Hook::FromContainer, frame(&about))
    };
    assert!(is_delivered(&bench.say(&opening)));
    let whole = frame(&about).split_off(14);
    let spoiled = |at: usize, byte: u8| {
        let mut quoted = whole.clone();
        quoted[at] = byte;
        quoted
    };
    for (quoted, state) in [
        (whole.clone(), CtState::Related),
        (whole[..28].to_vec(), CtState::Related),
        (whole[..22].to_vec(), CtState::New),
        (whole[..8].to_vec(), CtState::New),
        (spoiled(0, 0x65), CtState::New),
        (spoiled(0, 0x44), CtState::New),
        (spoiled(7, 1), CtState::New),
        (spoiled(9, 89), CtState::New),
    ] {
        let sent = frame(&unreachable(&quoted));
        let seen = bench.say(&bench.injection(Hook::FromContainer, sent));
        let states: Vec<_> = seen
            .events
            .iter()
            .filter_map(|stamped| match stamped.event {
                Event::Conntrack { state, .. } => Some(state),
                _ => None,
            })
            .collect();
        assert_eq!(states, [state], "{quoted:02x?}");
    }
}

/// Keys that no node sends with, and devices that no pod is at.
fn strangers(bench: &mut Bench) {
    let sent = frame(&packet("10.2.0.10", "10.1.0.10", syn(1000)));
    let keyed = |vni| Some(TunnelKey { vni, source: ip("192.168.1.2") });
    let by_tunnel = bench.injection(Hook::FromOverlay, sent.clone());
    for (tunnel, reason) in
        [(None, DropReason::NoTunnelKey), (keyed(Identity::HOST.0), DropReason::InvalidIdentity)]
    {
        let seen = bench.say(&Injection { tunnel, ..by_tunnel.clone() });
        assert_eq!(outcome(&seen), Action::Drop(reason));
    }
    for hook in [Hook::FromContainer, Hook::ToContainer] {
        let lost = Injection { ifindex: 4095, ..bench.injection(hook, sent.clone()) };
        let seen = bench.say(&lost);
        assert_eq!(outcome(&seen), Action::Drop(DropReason::EndpointNotReady), "{hook:?}");
    }
    let mark = datapath_abi::mark::DELIVERED;
    let judged = Injection { mark, ..bench.injection(Hook::ToContainer, sent) };
    assert_eq!(outcome(&bench.say(&judged)), Action::Pass);
}

/// A node that splits the world by family knows which one a sender of another node is.
fn a_tunnel_key_of_the_world(bench: &mut Bench) {
    for (source, destination, world) in [
        ("198.51.100.7", "10.1.0.10", Identity::WORLD_IPV4),
        ("2001:db8::7", CLIENT, Identity::WORLD_IPV6),
    ] {
        let mut injection =
            bench.injection(Hook::FromOverlay, frame(&packet(source, destination, syn(1000))));
        let vni = Identity::WORLD.0;
        injection.tunnel = Some(TunnelKey { vni, source: ip("192.168.1.2") });
        let seen = bench.say(&injection);
        assert!(is_delivered(&seen), "{seen:?}");
        assert_eq!(identity(&seen, true), Some(world));
    }
}

/// Neighbour discovery is the kernel's business at every device.
fn neighbours(bench: &mut Bench) {
    let solicitation = Transport::Icmp { kind: 135, code: 0, rest: [0; 4] };
    for (hook, action) in [
        (Hook::FromContainer, Action::Stack { host: false }),
        (Hook::FromOverlay, Action::Stack { host: false }),
        (Hook::FromNetdev, Action::Stack { host: false }),
        (Hook::FromHost, Action::Pass),
        (Hook::ToNetdev, Action::Pass),
    ] {
        let mut injection =
            bench.injection(hook, frame(&packet(CLIENT, SERVER, solicitation.clone())));
        if hook == Hook::FromOverlay {
            let vni = Identity::WORLD.0;
            injection.tunnel = Some(TunnelKey { vni, source: ip("192.168.1.2") });
        }
        assert_eq!(outcome(&bench.say(&injection)), action, "{hook}");
    }
}

/// Where a driver leaves only the beginning of a packet directly reachable, everything comes to the same.
fn paged_memory(bench: &mut Bench) {
    let mut extended = packet(CLIENT, SERVER, syn(2000));
    extended.ip.extensions = vec![(60, vec![0; 30])];
    let echo = Transport::Icmp { kind: 8, code: 0, rest: [0, 7, 0, 1] };
    let options = {
        let mut sent = packet("10.1.0.10", "10.1.0.11", syn(2000));
        sent.ip.options = vec![1; 40];
        sent
    };
    for sent in [
        packet(CLIENT, SERVER, syn(2000)),
        packet("10.1.0.10", "10.1.0.11", echo),
        extended,
        options,
    ] {
        let injection = bench.injection(Hook::FromContainer, frame(&sent));
        bench.vm.forget().expect("conntrack is emptied");
        let linear = bench.say(&injection);
        assert!(is_delivered(&linear), "{linear:?}");
        for reachable in [14, 34, 54] {
            bench.vm.forget().expect("conntrack is emptied");
            let seen = bench.say_changed(&injection, |vm| {
                vm.machine(injection.node).expect(NODE).skb_mut().set_linear(reachable);
            });
            assert_eq!(seen, linear, "{reachable} bytes of {sent:?}");
        }
    }
}

/// The switches of a node that is live, on a kernel without `bpf_redirect_peer`: device and clock are the kernel's,
/// and a delivered packet passes the veth's egress hook.
fn a_live_node(bench: &mut Bench) {
    use datapath_abi::{config, mark};
    let injection = bench.injection(Hook::FromContainer, frame(&packet(CLIENT, SERVER, syn(3000))));
    let (own, to) = (bench.pod(0).ifindex, bench.pod(1).ifindex);
    let seen = bench.say_changed(&injection, |vm| {
        configure(vm, injection.node, config::TRACE, 250);
        vm.machine(injection.node).expect(NODE).skb_mut().ifindex = own;
    });
    assert!(
        matches!(outcome(&seen), Action::Deliver { ifindex, peer: false, .. } if ifindex == to)
    );
    assert_eq!(seen.mark, mark::DELIVERED);
    // When nobody looks nothing is told, and everything is done.
    let unseen = bench.say_changed(&injection, |vm| {
        configure(vm, injection.node, 0, 250);
        vm.machine(injection.node).expect(NODE).skb_mut().ifindex = own;
    });
    assert_eq!((unseen.events.len(), unseen.code, unseen.mark), (0, seen.code, seen.mark));
    put_back(bench);
}

/// Tells the programs of a node how to behave.
fn configure(vm: &mut Vm, node: NodeId, flags: u32, ticks: u32) {
    let config = datapath_abi::Config {
        abi: datapath_abi::ABI_VERSION,
        flags,
        ticks_per_second: ticks,
        ..Default::default()
    };
    let machine = vm.machine(node).expect(NODE);
    let map = machine.map_mut(datapath_abi::maps::CONFIG).expect("every node has it");
    map.update(&[0; 4], zerocopy::IntoBytes::as_bytes(&config), 0).expect("its only entry is 0");
}

/// As programs behave that simulate.
fn put_back(bench: &mut Bench) {
    use datapath_abi::config;
    let flags = config::SIMULATED | config::TRACE | config::DELIVER_BY_PEER;
    let node = bench.tables.nodes[0].node;
    configure(&mut bench.vm, node, flags, 1);
}

/// An address that the ipcache knows nothing of is of the world.
/// Hooks that no journey passes, and packets that come to a hook without having passed the one before.
fn other_devices(bench: &mut Bench) {
    let out = Packet {
        transport: Transport::Udp { source: 40_000, destination: 53 },
        ..packet("10.1.0.10", "203.0.113.9", syn(1))
    };
    let passes = |seen: &Observation| outcome(seen) == Action::Pass;
    for (hook, frame) in [
        (Hook::ToHost, frame(&packet("10.1.0.10", "192.168.1.1", syn(40_000)))),
        (Hook::FromHost, arp()),
        (Hook::ToNetdev, frame(&out)),
    ] {
        let injection = bench.injection(hook, frame);
        assert!(passes(&bench.say(&injection)), "{hook}");
    }
    let keyless = bench.injection(Hook::ToOverlay, frame(&out));
    assert_eq!(outcome(&bench.say(&keyless)), Action::Drop(DropReason::NoTunnelKey));
    let tunnel = Some(TunnelKey { vni: 256, source: ip("192.168.1.1") });
    let marked = bench.say(&Injection { tunnel, ..keyless });
    assert_eq!(marked.mark, 256 << 16 | 0x400);
    // Every 64 packets the way back of a translated source is seen to.
    let sent = bench.injection(Hook::FromContainer, frame(&out));
    let left = bench.injection(Hook::ToNetdev, frame(&out));
    for _ in 0..64 {
        bench.say(&sent);
        assert!(passes(&bench.say(&left)));
    }
}

/// A driver whose loader left it half filled says so. The last one: the program is not put back.
fn a_hook_without_a_program(bench: &mut Bench) {
    let injection = bench.injection(Hook::FromHost, arp());
    let seen = bench.say_changed(&injection, |vm| {
        let machine = vm.machine(injection.node).expect(NODE);
        let hooks = machine.map_mut(datapath_abi::maps::HOOKS).expect("every node has it");
        let number = u32::from(datapath_abi::hook::FROM_HOST).to_le_bytes();
        hooks.delete(&number).expect("it was there");
    });
    assert_eq!(outcome(&seen), Action::Drop(DropReason::MissedTailCall));
}

/// A frame of ARP.
fn arp() -> Vec<u8> {
    let mut frame = vec![0xFF; 60];
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    frame
}

fn no_catch_all(bench: &mut Bench) {
    let mut tables = bench.tables.clone();
    tables.generation = Generation(2);
    for node in &mut tables.nodes {
        node.ipcache.retain(|entry| entry.prefix.prefix_len() > 0);
    }
    bench.vm.load(&tables).expect("the tables fit");
    for (source, destination, world) in [
        ("10.1.0.10", "198.51.100.7", Identity::WORLD_IPV4),
        (CLIENT, "2001:db8::7", Identity::WORLD_IPV6),
    ] {
        let sent = frame(&packet(source, destination, syn(4000)));
        let seen = bench.say(&bench.injection(Hook::FromContainer, sent));
        assert_eq!(outcome(&seen), Action::Stack { host: false }, "{seen:?}");
        assert_eq!(identity(&seen, false), Some(world));
    }
}
