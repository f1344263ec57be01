//! Conntrack: states, replies and errors about a flow, the clock, what is remembered over a change.

use super::*;

/// Pod B may receive TCP 80 from anyone, pods may send anything; nothing else.
fn one_way(generation: u32) -> Tables {
    let ingress = vec![allow(Identity::ANY, Some(Protocol::Tcp), 80, 16)];
    tables(generation, everything(), ingress)
}

fn request(flags: TcpFlags) -> Injection {
    from_a(&packet("10.0.0.1", "10.0.0.2", tcp(40_000, 80, flags)))
}

fn response(flags: TcpFlags) -> Injection {
    from_b(&packet("10.0.0.2", "10.0.0.1", tcp(80, 40_000, flags)))
}

#[test]
fn a_flow_is_new_then_established_and_its_replies_skip_policy() {
    let mut backend = backend();
    backend.load(&one_way(1)).unwrap();
    let said = backend.say(&response(TcpFlags::SYN.with(TcpFlags::ACK)));
    assert_eq!(said.reason(), Some(DropReason::PolicyDenied), "a reply to nothing is judged");
    let said = backend.say(&request(TcpFlags::SYN));
    assert_eq!(said.state(), Some(CtState::New));
    assert_eq!(said.policy(Direction::Ingress), Some((1, None, false)));
    let said = backend.say(&response(TcpFlags::SYN.with(TcpFlags::ACK)));
    assert_eq!(said.state(), Some(CtState::Reply));
    assert_eq!(said.policy(Direction::Ingress), None);
    assert_eq!(said.policy(Direction::Egress), None);
    assert!(said.is_delivered_to(1));
    let said = backend.say(&request(TcpFlags::ACK));
    assert_eq!(said.state(), Some(CtState::Established));
    assert_eq!(said.policy(Direction::Egress), Some((1, None, true)));
    assert_eq!(said.policy(Direction::Ingress), Some((1, None, true)));
    assert!(said.is_delivered_to(2));
}

#[test]
fn conntrack_shows_the_flow_in_the_direction_of_who_began_it() {
    let mut backend = backend();
    backend.load(&tables(7, everything(), everything())).unwrap();
    // B's address is the higher one: both orders of a key are seen.
    backend.say(&from_b(&packet("10.0.0.2", "10.0.0.1", udp(53, 5000))));
    backend.say(&from_a(&packet("10.0.0.1", "10.0.0.2", udp(5000, 53))));
    backend.say(&from_a(&packet("fd00::1", "fd00::2", echo(128, 9))));
    let entries = backend.conntrack(NODE, 10).unwrap();
    let [by_b, ping] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((by_b.flow.source, by_b.flow.source_port), (ip("10.0.0.2"), 53));
    assert_eq!((by_b.flow.destination, by_b.flow.destination_port), (ip("10.0.0.1"), 5000));
    assert_eq!((by_b.forward, by_b.replies), ((1, 42), (1, 42)));
    assert!(by_b.seen_reply && !by_b.closing);
    assert_eq!(by_b.expires_in, 50);
    assert_eq!((ping.flow.source, ping.flow.source_port), (ip("fd00::1"), 0));
    assert_eq!((ping.flow.protocol, ping.flow.destination_port), (Protocol::Icmpv6, 9));
    assert!(!ping.seen_reply);
    let legs =
        [Direction::Egress, Direction::Ingress].map(|side| (side, EntryId(1), Generation(7)));
    assert_eq!(ping.remembered, legs);
    backend.forget().unwrap();
    assert!(backend.conntrack(NODE, 10).unwrap().is_empty());
    let said = backend.say(&from_a(&packet("10.0.0.1", "10.0.0.2", udp(5000, 53))));
    assert_eq!(said.state(), Some(CtState::New));
}

#[test]
fn an_echo_reply_belongs_to_its_request() {
    let mut backend = backend();
    let ingress = vec![
        allow(Identity::ANY, Some(Protocol::Icmp), 8, 16),
        allow(Identity::ANY, Some(Protocol::Icmpv6), 128, 16),
    ];
    backend.load(&tables(1, everything(), ingress)).unwrap();
    for (a, b, request, reply) in [("10.0.0.1", "10.0.0.2", 8, 0), ("fd00::1", "fd00::2", 128, 129)]
    {
        assert!(backend.say(&from_a(&packet(a, b, echo(request, 5)))).is_delivered_to(2));
        let said = backend.say(&from_b(&packet(b, a, echo(reply, 5))));
        assert_eq!(said.state(), Some(CtState::Reply), "{a}");
        let said = backend.say(&from_b(&packet(b, a, echo(reply, 6))));
        assert_eq!(said.state(), Some(CtState::New), "{a}: another identifier is another flow");
        assert_eq!(said.reason(), Some(DropReason::PolicyDenied), "{a}");
    }
}

/// An ICMP error about a packet, by pod B.
fn error_about(quoted: &Packet, to: &str) -> Packet {
    let is_v4 = quoted.ip.source.is_ipv4();
    let (source, kind) = if is_v4 { ("10.0.0.2", 3) } else { ("fd00::2", 1) };
    let mut error = packet(source, to, Transport::Icmp { kind, code: 3, rest: [0; 4] });
    error.payload = frame(quoted)[14..].to_vec();
    error
}

#[test]
fn an_error_about_a_flow_is_related_and_any_other_is_judged() {
    let mut backend = backend();
    let ingress = vec![allow(Identity::ANY, Some(Protocol::Udp), 53, 16)];
    backend.load(&tables(1, everything(), ingress)).unwrap();
    for (a, b, other) in [("10.0.0.1", "10.0.0.2", "10.0.0.1"), ("fd00::1", "fd00::2", "fd00::1")] {
        let known = packet(a, b, udp(4000, 53));
        let unknown = packet(a, b, udp(4001, 53));
        assert!(backend.say(&from_a(&known)).is_delivered_to(2), "{a}");
        let said = backend.say(&from_b(&error_about(&known, other)));
        assert_eq!(said.state(), Some(CtState::Related), "{a}");
        assert!(said.is_delivered_to(1), "{a}");
        let said = backend.say(&from_b(&error_about(&unknown, other)));
        assert_eq!(said.state(), Some(CtState::New), "{a}");
        assert_eq!(said.reason(), Some(DropReason::PolicyDenied), "{a}");
    }
    assert_eq!(backend.conntrack(NODE, 0).unwrap().len(), 2, "errors leave no flows");
}

#[test]
fn the_clock_stands_still_until_it_is_moved() {
    let mut backend = backend();
    backend.load(&one_way(1)).unwrap();
    for (now, flags, state) in [
        // A SYN alone is remembered for 60 seconds, an open connection for 8000.
        (0, TcpFlags::SYN, CtState::New),
        (59, TcpFlags::SYN, CtState::Established),
        (119, TcpFlags::SYN, CtState::New),
        (120, TcpFlags::ACK, CtState::Established),
        (8119, TcpFlags::ACK, CtState::Established),
        (16_119, TcpFlags::ACK, CtState::New),
    ] {
        let said = backend.say(&at(now, request(flags)));
        assert_eq!(said.state(), Some(state), "at {now}");
    }
}

#[test]
fn a_closed_connection_is_forgotten_soon_and_a_syn_begins_a_new_one() {
    let mut backend = backend();
    backend.load(&one_way(1)).unwrap();
    let open = [request(TcpFlags::SYN), response(TcpFlags::SYN.with(TcpFlags::ACK))];
    for packet in &open {
        assert_eq!(backend.say(packet).reason(), None);
    }
    let closing = |backend: &mut Tested| backend.conntrack(NODE, 0).unwrap()[0].closing;
    assert!(!closing(&mut backend));
    backend.say(&request(TcpFlags::FIN.with(TcpFlags::ACK)));
    assert!(closing(&mut backend));
    assert_eq!(backend.conntrack(NODE, 0).unwrap()[0].expires_in, 8000);
    backend.say(&response(TcpFlags::FIN.with(TcpFlags::ACK)));
    assert_eq!(backend.conntrack(NODE, 0).unwrap()[0].expires_in, 10);
    assert_eq!(backend.say(&at(9, request(TcpFlags::ACK))).state(), Some(CtState::Established));
    assert_eq!(backend.say(&at(9, request(TcpFlags::SYN))).state(), Some(CtState::New));
}

#[test]
fn a_change_of_policy_holds_for_the_next_packet_of_an_open_flow() {
    let mut backend = backend();
    // Steps over generations, and back to a former one: numbers need not follow one another.
    let open = one_way(3);
    let mut shut = tables(9, everything(), vec![deny(A, None, 0, 0)]);
    backend.load(&open).unwrap();
    assert!(backend.say(&request(TcpFlags::SYN)).is_delivered_to(2));
    backend.load(&shut).unwrap();
    let said = backend.say(&request(TcpFlags::ACK));
    assert_eq!(said.state(), Some(CtState::Established));
    assert_eq!(said.reason(), Some(DropReason::PolicyDeny));
    assert!(said.0.events.iter().all(|event| event.generation == Generation(9)));
    backend.load(&open).unwrap();
    let said = backend.say(&request(TcpFlags::ACK));
    assert_eq!(said.policy(Direction::Ingress), Some((1, None, false)), "judged anew");
    assert!(said.0.events.iter().all(|event| event.generation == Generation(3)));
    let said = backend.say(&request(TcpFlags::ACK));
    assert_eq!(said.policy(Direction::Ingress), Some((1, None, true)));
    // The reply side does not depend on policy.
    shut.generation = Generation(10);
    backend.load(&shut).unwrap();
    assert_eq!(backend.say(&response(TcpFlags::ACK)).state(), Some(CtState::Reply));
}

#[test]
fn the_interpreters_full_conntrack_forgets_the_flow_that_was_not_used_for_longest() {
    let mut vm = interpreter(LIMITS);
    vm.load(&tables(1, everything(), everything())).unwrap();
    let sent = |source, flags| from_a(&packet("10.0.0.1", "10.0.0.2", tcp(source, 80, flags)));
    let last = 10_000 + u16::try_from(FLOWS).unwrap();
    // As many as it holds; the first one is used again before one more comes.
    for source in 10_000..last {
        assert_eq!(vm.say(&sent(source, TcpFlags::SYN)).state(), Some(CtState::New));
    }
    assert_eq!(vm.say(&sent(10_000, TcpFlags::ACK)).state(), Some(CtState::Established));
    assert_eq!(vm.say(&sent(last, TcpFlags::SYN)).state(), Some(CtState::New));
    assert_eq!(vm.say(&sent(10_000, TcpFlags::ACK)).state(), Some(CtState::Established));
    let forgotten = vm.say(&sent(10_001, TcpFlags::ACK));
    assert_eq!(forgotten.state(), Some(CtState::New));
    assert!(forgotten.is_delivered_to(2));
}
