//! Programs on devices of pods of a node whose stack carries: what they translate and where, and what they leave alone. And those that
//! observe a node where others translate services.

use super::watching::{GO_ON, run};
use super::*;
use datapath_abi::{Filter, config};

/// `TC_ACT_OK`: what was translated ends here.
const DONE: u64 = 0;
/// `TC_ACT_SHOT`
const SHOT: u64 = 2;
/// `TC_ACT_REDIRECT`
const REDIRECT: u64 = 7;

/// The addresses of a family.
#[derive(Clone, Copy)]
struct Addresses {
    pod: &'static str,
    backend: &'static str,
    frontend: &'static str,
    /// Where there is nobody of this node: pods of another one, the outside, and an address of the node's own prefix.
    elsewhere: [&'static str; 3],
}

const FOUR: Addresses = Addresses {
    pod: "10.1.0.10",
    backend: "10.1.0.11",
    frontend: "10.96.0.20",
    elsewhere: ["10.2.0.10", "203.0.113.9", "10.1.0.200"],
};
const SIX: Addresses = Addresses {
    pod: CLIENT,
    backend: SERVER,
    frontend: "fd00:96::20",
    elsewhere: ["fd00:2::10", "2001:db8::9", "fd00:1::200"],
};

/// What comes of a frame at the device of a pod: the code, what is told, and the frame afterwards.
fn at(
    bench: &mut Bench,
    hook: Hook,
    pod: usize,
    sent: &Packet,
    flags: u32,
) -> (u64, String, Vec<u8>) {
    let injection = Injection {
        now: 10,
        ifindex: bench.pod(pod).ifindex,
        ..bench.injection(hook, frame(sent))
    };
    let (code, told, after) = run(bench, &injection, flags, Filter::default());
    let [run] = &told[..] else { panic!("one run: {told:?}") };
    (code, format!("{:?}", run.events), after)
}

fn segment(source: (&str, u16), destination: (&str, u16), flags: TcpFlags) -> Packet {
    let transport = Transport::Tcp {
        source: source.1,
        destination: destination.1,
        flags,
        sequence: 1,
        acknowledgement: 1,
    };
    packet(source.0, destination.0, transport)
}

fn datagram(source: (&str, u16), destination: (&str, u16)) -> Packet {
    packet(source.0, destination.0, Transport::Udp { source: source.1, destination: destination.1 })
}

/// The error of a host about a packet whose port nobody listens at.
fn refusal(source: &str, about: &Packet) -> Packet {
    let (kind, code) = if about.ip.source.is_ipv4() { (3, 3) } else { (1, 4) };
    let transport = Transport::Icmp { kind, code, rest: [0; 4] };
    let destination = about.ip.source.to_string();
    Packet { payload: frame(about).split_off(14), ..packet(source, &destination, transport) }
}

/// The addresses of the packet that begins at a place in a frame.
fn sides_at(frame: &[u8], start: usize) -> [IpAddr; 2] {
    if frame[start] >> 4 == 4 {
        return [12, 16].map(|at| {
            let bytes: [u8; 4] = frame[start + at..start + at + 4].try_into().expect("four bytes");
            IpAddr::from(bytes)
        });
    }
    [8, 24].map(|at| {
        let bytes: [u8; 16] = frame[start + at..start + at + 16].try_into().expect("sixteen bytes");
        IpAddr::from(bytes)
    })
}

/// Those that a frame begins with.
fn sides(frame: &[u8]) -> [IpAddr; 2] {
    sides_at(frame, 14)
}

/// Runs all of them.
pub(super) fn chained(bench: &mut Bench) {
    for of in [FOUR, SIX] {
        bench.vm.forget().expect("conntrack is emptied");
        the_stack_carries(bench, of);
        answers_are_translated_where_the_client_gets_them(bench, of);
        errors_go_with_answers(bench, of);
        bench.vm.forget().expect("conntrack is emptied");
        services_of_others_answer(bench, of);
        bench.vm.forget().expect("conntrack is emptied");
    }
    put_back(bench);
}

fn the_stack_carries(bench: &mut Bench, of: Addresses) {
    for destination in of.elsewhere.into_iter().chain([of.backend]) {
        let mut sent = segment((of.pod, 1100), (destination, 80), TcpFlags::SYN);
        // The stack has its own words for what may not live on.
        sent.ip.ttl = 1;
        let (code, told, after) = at(bench, Hook::FromContainer, 0, &sent, config::CHAINED);
        assert_eq!((code, after), (GO_ON, frame(&sent)), "{destination}: {told}");
        assert!(told.contains("Stack"), "{told}");
    }
    let vault = if of.pod == CLIENT { "fd00:1::12" } else { "10.1.0.12" };
    let denied = segment((of.pod, 1100), (vault, 80), TcpFlags::SYN);
    for (hook, pod) in [(Hook::FromContainer, 0), (Hook::ToContainer, 2)] {
        let (code, told, _) = at(bench, hook, pod, &denied, config::CHAINED);
        assert_eq!(code, SHOT, "{told}");
    }
}

fn answers_are_translated_where_the_client_gets_them(bench: &mut Bench, of: Addresses) {
    let syn = segment((of.pod, 1200), (of.frontend, 80), TcpFlags::SYN);
    let (code, told, after) = at(bench, Hook::FromContainer, 0, &syn, config::CHAINED);
    assert_eq!((code, sides(&after)), (DONE, [ip(of.pod), ip(of.backend)]), "{told}");
    let seen = segment((of.pod, 1200), (of.backend, 80), TcpFlags::SYN);
    let (code, told, after) = at(bench, Hook::ToContainer, 1, &seen, config::CHAINED);
    assert_eq!((code, after), (GO_ON, frame(&seen)), "{told}");
    let answer = segment((of.backend, 80), (of.pod, 1200), TcpFlags(0x12));
    let (code, told, after) = at(bench, Hook::FromContainer, 1, &answer, config::CHAINED);
    assert_eq!((code, after), (GO_ON, frame(&answer)), "who answers is to be seen: {told}");
    let (code, told, after) = at(bench, Hook::ToContainer, 0, &answer, config::CHAINED);
    assert_eq!((code, sides(&after)), (DONE, [ip(of.frontend), ip(of.pod)]), "{told}");
    // What a pod sends to itself knows no route.
    let own = segment((of.backend, 1300), (of.frontend, 80), TcpFlags::SYN);
    let (code, told, _) = at(bench, Hook::FromContainer, 1, &own, config::CHAINED);
    assert_eq!(code, REDIRECT, "{told}");
}

fn errors_go_with_answers(bench: &mut Bench, of: Addresses) {
    let sent = datagram((of.pod, 1400), (of.frontend, 54));
    let (code, told, _) = at(bench, Hook::FromContainer, 0, &sent, config::CHAINED);
    assert_eq!(code, DONE, "{told}");
    let error = refusal(of.backend, &datagram((of.pod, 1400), (of.backend, 54)));
    let (code, told, after) = at(bench, Hook::FromContainer, 1, &error, config::CHAINED);
    assert_eq!((code, after), (GO_ON, frame(&error)), "{told}");
    let (code, told, after) = at(bench, Hook::ToContainer, 0, &error, config::CHAINED);
    assert_eq!((code, sides(&after)), (DONE, [ip(of.frontend), ip(of.pod)]), "{told}");
    // Ethernet, the network header and the error's own eight bytes come before what it quotes.
    let quoted = 14 + if of.pod == CLIENT { 40 } else { 20 } + 8;
    assert_eq!(sides_at(&after, quoted), [ip(of.pod), ip(of.frontend)]);
}

fn services_of_others_answer(bench: &mut Bench, of: Addresses) {
    let syn = segment((of.pod, 1500), (of.frontend, 80), TcpFlags::SYN);
    let asked = datagram((of.pod, 1500), (of.frontend, 54));
    for sent in [&syn, &asked] {
        let (code, told, after) = at(bench, Hook::FromContainer, 0, sent, config::OBSERVE);
        assert_eq!((code, after), (GO_ON, frame(sent)), "{told}");
    }
    let answer = segment((of.frontend, 80), (of.pod, 1500), TcpFlags(0x12));
    let (code, told, _) = at(bench, Hook::ToContainer, 0, &answer, config::OBSERVE);
    assert!(code == GO_ON && told.contains("Reply") && told.contains("Pass"), "{told}");
    let (code, told, _) =
        at(bench, Hook::ToContainer, 0, &refusal(of.frontend, &asked), config::OBSERVE);
    assert!(code == GO_ON && told.contains("Related") && told.contains("Pass"), "{told}");
    // About what nobody asked for there is nothing to know.
    let other = datagram((of.pod, 1501), (of.frontend, 54));
    let (_, told, _) =
        at(bench, Hook::ToContainer, 0, &refusal(of.frontend, &other), config::OBSERVE);
    assert!(!told.contains("Related"), "{told}");
}
