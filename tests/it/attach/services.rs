//! Enforcing and observing where a world has services and a tunnel: the programs translate for the pods that they hang on, the node's
//! stack carries, and where others translate (kube-proxy's way, by nftables) what they make of it is understood.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use datapath::live::install::State;
use datapath::live::{Conduct, Mode};

use super::machine::{Machine, until};
use crate::kernel;

/// The frontends' address.
const SERVICE: [u8; 4] = [10, 96, 0, 20];

/// A world with a tunnel, another node, and a service whose only backend is the server. What the client sends is judged, and what it gets.
fn world(machine: &Machine) -> String {
    let (net, n) = (machine.net(), machine.number());
    let text = format!(
        "cluster lab {{\n  node node01 {{ ip 192.168.66.1 pods {net}.0/24 }}\n  node node02 {{ ip 192.168.66.2 pods 10.67.{n}.0/24 }}\n}}\n\
         namespace shop {{}}\n\
         pod shop/client on node01 {{ ip {net}.10 labels {{ app = \"client\" }} }}\n\
         pod shop/server on node01 {{ ip {net}.11 labels {{ app = \"server\" }} }}\n\
         pod shop/absent on node01 {{ ip {net}.12 labels {{ app = \"absent\" }} }}\n\
         pod shop/far on node02 {{ ip 10.67.{n}.10 labels {{ app = \"far\" }} }}\n\
         service shop/web {{\n  cluster-ip 10.96.0.20\n  port 80/tcp -> 8080\n  port 53/udp -> 8053\n  port 54/udp -> 8054\n  select {{ app = \"server\" }}\n}}\n\
         policy shop/server {{\n  select {{ app = \"server\" }}\n  allow ingress as web from pods on 8080/tcp, 8053/udp, 8054/udp\n}}\n\
         policy shop/client {{\n  select {{ app = \"client\" }}\n  allow ingress as none from pods {{ app = \"far\" }} on 1/tcp\n  allow egress as web to pods {{ app = \"server\" }} on 8080/tcp, 8053/udp, 8054/udp\n}}\n"
    );
    machine.file("services.hop", &text)
}

fn frontend(port: u16) -> SocketAddr {
    SocketAddr::from((SERVICE, port))
}

/// A socket of a pod that sends to an address.
fn socket(machine: &Machine, pod: &str, to: SocketAddr) -> UdpSocket {
    let bound = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let socket = machine.space(pod).within(bound).expect("a port");
    socket.connect(to).expect("a peer");
    socket.set_read_timeout(Some(Duration::from_millis(800))).expect("it waits");
    socket
}

/// Answers one datagram after the other until nobody asks for a while.
fn answering(machine: &Machine, port: u16) -> std::thread::JoinHandle<()> {
    let bound = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port));
    let server = machine.space("b").within(bound).expect("a port");
    server.set_read_timeout(Some(Duration::from_mins(1))).expect("it waits");
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((count, from)) = server.recv_from(&mut bytes) {
            if bytes.starts_with(b"end") {
                return;
            }
            server.send_to(&bytes[..count], from).expect("it is sent");
        }
    })
}

/// Sends a datagram and waits for it to come back.
#[track_caller]
fn asks(socket: &UdpSocket) {
    let mut bytes = [0; 64];
    socket.send(b"ping").expect("it is sent");
    assert_eq!(socket.recv(&mut bytes).expect("it is answered"), 4);
}

/// Whether the peer's port is said to be closed: by an ICMP error that leads to the socket.
fn is_refused(socket: &UdpSocket) -> bool {
    socket.send(b"ping").expect("it is sent");
    socket.recv(&mut [0; 64]).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// What programs dropped, or would.
fn dropped(machine: &Machine) -> u64 {
    let status = machine.json(&["status", "one"], 0);
    let rows = status["items"].as_array().expect("rows").clone();
    rows.iter().filter_map(|row| row["dropped"].as_u64()).sum()
}

#[test]
fn services_are_translated_for_pods_and_the_stack_carries() {
    let Some(machine) = Machine::open(11, "") else { return };
    let world = world(&machine);
    let (web, ssh) = (machine.serve(8080), machine.serve(22));
    let _ = (web.port(), ssh.port());
    let names = answering(&machine, 8053);
    let said = machine.run(&["attach", "one", "-f", &world, "--enforce"], 0);
    assert!(said.contains("without a device here: shop/absent, shop/far"), "{said}");

    Machine::echo(&mut machine.connect_from("a", frontend(80)).expect("it is a service's"));
    Machine::echo(&mut machine.connect(8080).expect("a rule allows it"));
    let asking = socket(&machine, "a", frontend(53));
    (0..3).for_each(|_| asks(&asking));
    assert!(is_refused(&socket(&machine, "a", frontend(54))), "nobody listens there");
    Machine::echo(&mut machine.connect_from("b", frontend(80)).expect("it reaches itself by it"));

    assert_eq!(dropped(&machine), 0);
    assert!(machine.connect(22).is_err(), "no rule allows it");
    assert!(machine.connect_from("a", frontend(81)).is_err(), "the service has no such port");
    assert!(dropped(&machine) > 0);

    let text = std::fs::read_to_string(&world).expect("it is there");
    let more = machine.file("more.hop", &text.replace("8080/tcp", "8080/tcp, 22/tcp"));
    let sources = (0..520).map(|n| {
        format!("  allow ingress from cidr 172.20.{}.{}/32 on 80/tcp\n", n / 250, n % 250 + 1)
    });
    let sources: String = sources.collect();
    let rules = format!("  allow ingress as web from pods on\n{sources}");
    let (web, rest) = rules.split_once('\n').expect("two lines");
    // Programs with larger maps hang beside those whose place they take for a while.
    let large = machine.file("large.hop", &text.replace(web, &format!("{rest}{web}")));
    let mut stream = machine.connect_from("a", frontend(80)).expect("it is a service's");
    let lost = machine.while_it_flows_on(&mut stream, || {
        for file in [&more, &world, &large, &more] {
            machine.run(&["attach", "one", "-f", file, "--enforce"], 0);
            asks(&asking);
        }
    });
    assert_eq!(lost, 0, "a connection by a service flows on while its programs change");
    machine.connect(22).expect("a rule allows it now");
    machine.run(&["detach"], 0);
    assert!(machine.connect_from("a", frontend(80)).is_err(), "nobody translates any more");
    let end = SocketAddr::new(machine.address(11), 8053);
    socket(&machine, "a", end).send(b"end").expect("it is sent");
    names.join().expect("it answered");
}

/// Programs that observe are past their first minute from now on.
fn settle(machine: &Machine) {
    let state = State::at(machine.state.clone());
    let mut programs = state.programs("one", "node01").expect("it runs");
    let mode = programs.mode();
    assert!(mode.conduct == Conduct::Observe && mode.settled > 1);
    programs.set_mode(Mode { settled: 1, ..mode }).expect("they are told");
}

#[test]
fn what_others_translate_is_understood() {
    let Some(machine) = Machine::open(12, "") else { return };
    if Command::new("nft").arg("--version").output().is_err() {
        assert!(!kernel::is_required("lab"), "a lab is required: there is no `nft`");
        return kernel::skip("there is no `nft`");
    }
    let server = machine.address(11).to_string();
    machine.nft(&format!(
        "table ip services {{\n chain prerouting {{\n type nat hook prerouting priority dstnat\n\
         ip daddr 10.96.0.20 tcp dport 80 dnat to {server}:8080\n\
         ip daddr 10.96.0.20 udp dport 53 dnat to {server}:8053\n\
         ip daddr 10.96.0.20 udp dport 54 dnat to {server}:8054\n }}\n}}\n"
    ));
    let world = world(&machine);
    let web = machine.serve(8080);
    let _ = web.port();
    let names = answering(&machine, 8053);
    machine.run(&["attach", "one", "-f", &world], 0);
    settle(&machine);
    Machine::echo(&mut machine.connect_from("a", frontend(80)).expect("others translate it"));
    let asking = socket(&machine, "a", frontend(53));
    (0..3).for_each(|_| asks(&asking));
    assert!(is_refused(&socket(&machine, "a", frontend(54))), "nobody listens there");
    assert_eq!(dropped(&machine), 0, "answers come from the service, and are answers");
    let other = SocketAddr::new(machine.address(11), 8055);
    assert!(is_refused(&socket(&machine, "a", other)), "observed packets pass");
    assert!(dropped(&machine) > 0, "no rule allows it");
    machine.run(&["detach"], 0);
    asks(&asking);
    asking.send(b"end").expect("it is sent");
    names.join().expect("it answered");
}

#[test]
fn older_flows_of_datagrams_stay_unknown() {
    let Some(machine) = Machine::open(13, "") else { return };
    let world = world(&machine);
    // What the server sends is judged where the client gets it, and no rule allows it.
    let server = machine.space("b").within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9000)));
    let (server, client) = (server.expect("a port"), |port| {
        let bound = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port));
        let client = machine.space("a").within(bound).expect("a port");
        client.set_read_timeout(Some(Duration::from_millis(800))).expect("it waits");
        client
    });
    let (old, new) = (client(9001), client(9002));
    let sends = |to: &UdpSocket| {
        let port = to.local_addr().expect("it is bound").port();
        let address = SocketAddr::new(machine.address(10), port);
        server.send_to(b"news", address).expect("it is sent");
        assert_eq!(to.recv(&mut [0; 64]).expect("observed packets pass"), 4);
    };
    sends(&old);
    machine.run(&["attach", "one", "-f", &world], 0);
    sends(&old);
    settle(&machine);
    (0..3).for_each(|_| sends(&old));
    assert_eq!(dropped(&machine), 0, "it may be older than the programs, and still is");
    sends(&new);
    until("a new one is seen to begin", || dropped(&machine) > 0);
    // What answers a packet that would not have come opens no flow, of which the next one would be an answer.
    let before = dropped(&machine);
    let address = server.local_addr().expect("it is bound").port();
    let answer = SocketAddr::new(machine.address(11), address);
    for _ in 0..3 {
        new.send_to(b"yes", answer).expect("it is sent");
        assert_eq!(server.recv(&mut [0; 64]).expect("observed packets pass"), 3);
        sends(&new);
    }
    assert!(dropped(&machine) >= before + 3, "each would be dropped");
    machine.run(&["detach"], 0);
}
