//! Programs on devices of pods of a node whose stack carries: what they translate and where, and what they leave alone. And those that
//! observe a node where others translate services.

use super::watching::{GO_ON, run};
use super::*;
use datapath_abi::{Filter, config};

/// `TC_ACT_SHOT`
const SHOT: u64 = 2;
/// `TC_ACT_REDIRECT`
const REDIRECT: u64 = 7;

const POD: &str = "10.1.0.10";
const BACKEND: &str = "10.1.0.11";
const FRONTEND: &str = "10.96.0.20";

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
    let transport = Transport::Icmp { kind: 3, code: 3, rest: [0; 4] };
    let destination = about.ip.source.to_string();
    Packet { payload: frame(about).split_off(14), ..packet(source, &destination, transport) }
}

/// The addresses that a frame begins with.
fn sides(frame: &[u8]) -> [IpAddr; 2] {
    [26, 30].map(|at| {
        let bytes: [u8; 4] = frame[at..at + 4].try_into().expect("four bytes");
        IpAddr::from(bytes)
    })
}

/// Runs all of them.
pub(super) fn chained(bench: &mut Bench) {
    bench.vm.forget().expect("conntrack is emptied");
    the_stack_carries(bench);
    answers_are_translated_where_the_client_gets_them(bench);
    errors_go_with_answers(bench);
    bench.vm.forget().expect("conntrack is emptied");
    services_of_others_answer(bench);
    bench.vm.forget().expect("conntrack is emptied");
    put_back(bench);
}

fn the_stack_carries(bench: &mut Bench) {
    for destination in [BACKEND, "10.2.0.10", "203.0.113.9", "10.1.0.200"] {
        let mut sent = segment((POD, 1100), (destination, 80), TcpFlags::SYN);
        // The stack has its own words for what may not live on.
        sent.ip.ttl = 1;
        let (code, told, after) = at(bench, Hook::FromContainer, 0, &sent, config::CHAINED);
        assert_eq!((code, after), (GO_ON, frame(&sent)), "{destination}: {told}");
        assert!(told.contains("Stack"), "{told}");
    }
    let denied = segment((POD, 1100), ("10.1.0.12", 80), TcpFlags::SYN);
    for (hook, pod) in [(Hook::FromContainer, 0), (Hook::ToContainer, 2)] {
        let (code, told, _) = at(bench, hook, pod, &denied, config::CHAINED);
        assert_eq!(code, SHOT, "{told}");
    }
}

fn answers_are_translated_where_the_client_gets_them(bench: &mut Bench) {
    let syn = segment((POD, 1200), (FRONTEND, 80), TcpFlags::SYN);
    let (code, told, after) = at(bench, Hook::FromContainer, 0, &syn, config::CHAINED);
    assert_eq!((code, sides(&after)), (GO_ON, [ip(POD), ip(BACKEND)]), "{told}");
    let seen = segment((POD, 1200), (BACKEND, 80), TcpFlags::SYN);
    let (code, told, after) = at(bench, Hook::ToContainer, 1, &seen, config::CHAINED);
    assert_eq!((code, after), (GO_ON, frame(&seen)), "{told}");
    let answer = segment((BACKEND, 80), (POD, 1200), TcpFlags(0x12));
    let (code, told, after) = at(bench, Hook::FromContainer, 1, &answer, config::CHAINED);
    assert_eq!((code, after), (GO_ON, frame(&answer)), "who answers is to be seen: {told}");
    let (code, told, after) = at(bench, Hook::ToContainer, 0, &answer, config::CHAINED);
    assert_eq!((code, sides(&after)), (GO_ON, [ip(FRONTEND), ip(POD)]), "{told}");
    // What a pod sends to itself knows no route.
    let own = segment((BACKEND, 1300), (FRONTEND, 80), TcpFlags::SYN);
    let (code, told, _) = at(bench, Hook::FromContainer, 1, &own, config::CHAINED);
    assert_eq!(code, REDIRECT, "{told}");
}

fn errors_go_with_answers(bench: &mut Bench) {
    let sent = datagram((POD, 1400), (FRONTEND, 54));
    let (code, told, _) = at(bench, Hook::FromContainer, 0, &sent, config::CHAINED);
    assert_eq!(code, GO_ON, "{told}");
    let error = refusal(BACKEND, &datagram((POD, 1400), (BACKEND, 54)));
    let (code, told, after) = at(bench, Hook::FromContainer, 1, &error, config::CHAINED);
    assert_eq!((code, after), (GO_ON, frame(&error)), "{told}");
    let (code, told, after) = at(bench, Hook::ToContainer, 0, &error, config::CHAINED);
    assert_eq!((code, sides(&after)), (GO_ON, [ip(FRONTEND), ip(POD)]), "{told}");
    // Ethernet, IPv4 and the error's own eight bytes come before what it quotes.
    assert_eq!(sides(&after[14 + 20 + 8 - 14..]), [ip(POD), ip(FRONTEND)]);
}

fn services_of_others_answer(bench: &mut Bench) {
    let syn = segment((POD, 1500), (FRONTEND, 80), TcpFlags::SYN);
    let asked = datagram((POD, 1500), (FRONTEND, 54));
    for sent in [&syn, &asked] {
        let (code, told, after) = at(bench, Hook::FromContainer, 0, sent, config::OBSERVE);
        assert_eq!((code, after), (GO_ON, frame(sent)), "{told}");
    }
    let answer = segment((FRONTEND, 80), (POD, 1500), TcpFlags(0x12));
    let (code, told, _) = at(bench, Hook::ToContainer, 0, &answer, config::OBSERVE);
    assert!(code == GO_ON && told.contains("Reply") && told.contains("Pass"), "{told}");
    let (code, told, _) =
        at(bench, Hook::ToContainer, 0, &refusal(FRONTEND, &asked), config::OBSERVE);
    assert!(code == GO_ON && told.contains("Related") && told.contains("Pass"), "{told}");
    // About what nobody asked for there is nothing to know.
    let other = datagram((POD, 1501), (FRONTEND, 54));
    let (_, told, _) = at(bench, Hook::ToContainer, 0, &refusal(FRONTEND, &other), config::OBSERVE);
    assert!(!told.contains("Related"), "{told}");
}
