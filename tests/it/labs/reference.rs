//! The reference cluster as a lab: what was captured there is what real kernels send here; and policies change under traffic.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datapath::lab::namespace::Namespace;
use datapath::lab::port::Port;
use datapath::lab::{self, Options, Plan, Scene, Texts};
use datapath::live::install::State;
use engine::source::FileId;
use engine::tables::{Generation, Tables};

use super::named::Home;
use super::traffic::Made;
use super::wire::{Client, PATIENCE, Ping, SILENCE, Server, get};
use crate::lab::{is_possible, loaded};
use crate::tree::{read, root};

/// Bytes of Ethernet and of an IPv4 header without options.
const ETHERNET: usize = 14;
const IP: usize = 20;

fn number(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// The frames of a port that are tunneled echo requests or replies, from the outer IP header on.
fn tunneled(port: &Port, kind: u8) -> Vec<Vec<u8>> {
    let frames = port.rest().expect("the port is read").into_iter();
    let frames = frames.filter(|frame| frame.get(12..14) == Some(&[0x08, 0x00]));
    let packets = frames.map(|frame| frame[ETHERNET..].to_vec());
    let inner = IP + 8 + 8 + ETHERNET;
    let is_asked = |packet: &Vec<u8>| {
        packet.len() > inner + IP
            && packet[9] == 17
            && packet[inner + 9] == 1
            && packet[inner + IP] == kind
    };
    packets.filter(is_asked).collect()
}

#[test]
fn a_ping_crosses_the_underlay_as_it_was_captured() {
    if !is_possible() {
        return;
    }
    let mut made = Made::of(&read(&root().join("fixtures/reference-cluster.hop")));
    let [ca, world] = ["CA", "world"].map(|name| made.space(name));
    let wire = Port::open(&world, "wire0").expect("the wire of node01");
    let own = Port::open(&ca, "eth0").expect("CA's device");
    let mut ping = Ping::open(&ca, "10.244.6.11".parse().expect("an address")).expect("a socket");
    for _ in 0..3 {
        ping.ask(PATIENCE).expect("CB answers");
    }
    let requests = tunneled(&wire, 8);
    assert_eq!(requests.len(), 3);
    for packet in &requests {
        assert_eq!(packet[1], 0, "TOS");
        assert_eq!(number(packet, 2), 134, "outer IP length");
        assert_eq!(packet[6] & 0x40, 0, "no DF outside");
        assert_eq!(packet[8], 64, "outer TTL");
        assert_eq!(packet[12..16], [192, 168, 66, 226]);
        assert_eq!(packet[16..20], [192, 168, 66, 221]);
        let udp = &packet[IP..];
        assert_eq!((number(udp, 2), number(udp, 4), number(udp, 6)), (8472, 114, 0));
        assert_eq!(number(udp, 0), number(&requests[0], IP), "one source port for the flow");
        let vxlan = &udp[8..];
        assert_eq!(vxlan[0], 0x08);
        assert_eq!([0, vxlan[4], vxlan[5], vxlan[6]], 27634_u32.to_be_bytes(), "CA's identity");
        let inner = &vxlan[8 + ETHERNET..];
        assert_eq!((inner[1], number(inner, 2), inner[8]), (0, 84, 64), "TOS, length, TTL");
        assert_eq!(inner[6] & 0x40, 0x40, "DF inside");
        assert_eq!(
            (&inner[12..16], &inner[16..20]),
            (&[10, 244, 1, 154][..], &[10, 244, 6, 11][..])
        );
    }
    let frames = own.rest().expect("the port is read");
    let replies: Vec<_> = frames.iter().filter(|frame| frame.get(34) == Some(&0)).collect();
    assert_eq!(replies.len(), 3);
    assert!(replies.iter().all(|reply| reply[ETHERNET + 8] == 63), "TTL of replies in CA");
}

/// Two nodes, a service, and a server that a client may reach by HTTP and ping.
const SHOP: &str = r#"
cluster lab {
  node node01 { ip 192.168.1.1 pods 10.1.0.0/24 }
  node node02 { ip 192.168.1.2 pods 10.2.0.0/24 }
}
namespace shop {}
pod shop/client on node01 { ip 10.1.0.10 labels { app = "client" } }
pod shop/old on node01 { ip 10.1.0.11 }
pod shop/server on node02 { ip 10.2.0.10 labels { app = "server" } }
service shop/web { cluster-ip 10.96.0.20 port 80/tcp -> 8080 select { app = "server" } }
policy shop/server {
  select { app = "server" }
  allow ingress as http from pods { app = "client" } on 8080/tcp
  allow ingress as other from pods { app = "client" } on 9090/tcp
  allow ingress as ping from pods { app = "client" } on icmp echo-request
}
"#;

/// The texts' world and tables under a number.
fn scene(text: &str, number: u32) -> (lang::Loaded, Tables) {
    let loaded = loaded(text);
    let tables = engine::compile::compile(&loaded.world, &loaded.policies, Generation(number));
    (loaded, tables.expect("it compiles"))
}

#[test]
fn a_policy_denies_while_another_connection_keeps_flowing() {
    if !is_possible() {
        return;
    }
    let home = Home::new("flow");
    let state = State::at(home.path().to_owned());
    let denying = SHOP
        .replace("  allow ingress as http from pods { app = \"client\" } on 8080/tcp\n", "")
        .replace(
            "pod shop/old on node01 { ip 10.1.0.11 }",
            "pod shop/new on node02 { ip 10.2.0.11 }",
        );
    let (open, shut) = (scene(SHOP, 1), scene(&denying, 2));
    let (before, after) = (
        Scene { world: &open.0.world, tables: &open.1 },
        Scene { world: &shut.0.world, tables: &shut.1 },
    );
    lab::up(&state, "shop", before, Texts::default()).expect("it can be made");
    let space = |scene: Scene<'_>, name: &str| {
        let name = lang::command::parse_party(name, FileId::default()).expect("a name");
        let party = lang::resolve::party(scene.world, &name).expect("somebody");
        let role = Plan::whose(scene.world, scene.tables, party).expect("it has a place");
        let plan = Plan::of(scene.world, scene.tables, Options::default()).expect("a plan");
        let place = plan.space(role).expect("it is planned").place.clone();
        Namespace::open(&state.namespace("shop", &place)).expect("it is there")
    };
    let (client, server) = (space(before, "shop/client"), space(before, "shop/server"));
    let _servers = [Server::start(&server, 8080, "http"), Server::start(&server, 9090, "other")];
    let service: SocketAddr = "10.96.0.20:80".parse().expect("an address");
    assert_eq!(get(&client, service, PATIENCE).expect("it is allowed"), "http 10.1.0.10");
    let mut cut = Client::connect(&client, service, PATIENCE).expect("it is allowed");
    cut.get("/before").expect("it is allowed");

    let stop = AtomicBool::new(false);
    let server_address = "10.2.0.10".parse().expect("an address");
    std::thread::scope(|scope| {
        let flowing = scope.spawn(|| {
            let to = SocketAddr::new(server_address, 9090);
            let mut other = Client::connect(&client, to, PATIENCE).expect("it is allowed");
            let mut ping = Ping::open(&client, server_address).expect("a socket");
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                // A packet that is lost is not sent again by an echo request.
                ping.ask(Duration::from_secs(2)).expect("no packet is lost");
                other.get("/").expect("the connection goes on");
                asked += 1;
            }
            asked
        });
        std::thread::sleep(Duration::from_millis(100));
        let moved = lab::apply(&state, "shop", (before, after), Texts::default());
        let moved = moved.expect("it can be changed");
        assert_eq!(moved.come, ["shop/new"]);
        assert_eq!(moved.gone, ["shop/old"]);
        assert!(get(&client, service, SILENCE).is_err(), "what is denied came through");
        std::thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
        let asked = flowing.join().expect("nothing was lost");
        assert!(asked > 5, "only {asked} packets were sent meanwhile");
    });
    let cut = cut.get("/after");
    assert!(cut.is_err(), "a connection of what is denied now goes on: {cut:?}");
    let new = space(after, "shop/new");
    Ping::open(&client, "10.2.0.11".parse().expect("an address"))
        .and_then(|mut ping| ping.ask(PATIENCE))
        .expect("the new pod answers");
    drop(new);
    lab::down(&state, "shop").expect("it can be removed");
    assert_eq!(home.left(), Vec::<String>::new());
}
