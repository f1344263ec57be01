//! What is remembered of flows, for how long, and what it changes.

use super::*;
use crate::net::icmp;
use crate::question::{error_about, reply};
use crate::trace::CtState;

const ACK: TcpFlags = TcpFlags::ACK;
const FIN: TcpFlags = TcpFlags::FIN;
const RST: TcpFlags = TcpFlags::RST;

fn syn_ack() -> TcpFlags {
    TcpFlags::SYN.with(ACK)
}

/// The client takes nothing in, so that what reaches it is known.
fn closed_client() -> PolicySet {
    PolicySet::new(vec![Policy {
        ingress: Isolation::Always,
        ..policy("client", "client", vec![])
    }])
}

/// A packet of the flow 40000 -> 80 by the client, or by the server where `back`.
fn part(back: bool, flags: TcpFlags) -> Packet {
    if back { segment(S4, C4, (80, 40000), flags) } else { segment(C4, S4, (40000, 80), flags) }
}

/// One step: seconds to wait, who speaks, flags, the state at the first node (`None`: dropped by policy).
type Step = (u64, bool, TcpFlags, Option<CtState>);

fn play(name: &str, steps: &[Step]) {
    let mut scene = Scene::new(closed_client());
    for (at, (wait, back, flags, expected)) in steps.iter().enumerate() {
        scene.now += wait;
        let judgement = scene.send(&part(*back, *flags));
        let state = judgement.legs[0].state;
        let came = (judgement.reason.is_none()).then_some(state);
        assert_eq!(came, *expected, "{name}, step {at}: {judgement:?}");
    }
}

const NEW: Option<CtState> = Some(CtState::New);
const OLD: Option<CtState> = Some(CtState::Established);
const BACK: Option<CtState> = Some(CtState::Reply);
const FORGOTTEN: Option<CtState> = None;

#[test]
fn a_flow_is_remembered_as_long_as_its_kind_says() {
    let syn = TcpFlags::SYN;
    play("half-open", &[(0, false, syn, NEW), (59, true, syn_ack(), BACK)]);
    play("half-open, forgotten", &[(0, false, syn, NEW), (60, true, syn_ack(), FORGOTTEN)]);
    let opened = [(0, false, syn, NEW), (59, true, syn_ack(), BACK)];
    play("a SYN-ACK is still a SYN", &[&opened[..], &[(60, true, ACK, FORGOTTEN)]].concat());
    let established = [&opened[..], &[(59, false, ACK, OLD)]].concat();
    let quiet = [(7999, true, ACK, BACK), (7999, true, ACK, BACK), (8000, true, ACK, FORGOTTEN)];
    play("established", &[&established[..], &quiet].concat());
    play("begun in the middle", &[(0, false, ACK, NEW), (7999, true, ACK, BACK)]);
}

#[test]
fn a_flow_closes_by_fin_of_both_or_by_an_early_rst() {
    let syn = TcpFlags::SYN;
    let open = [(0, false, syn, NEW), (0, true, syn_ack(), BACK), (0, false, ACK, OLD)];
    let with = |more: &[Step]| [&open[..], more].concat();
    play("one FIN", &with(&[(0, false, FIN.with(ACK), OLD), (7999, true, ACK, BACK)]));
    let fins = [(0, false, FIN.with(ACK), OLD), (0, true, FIN.with(ACK), BACK)];
    let closed = with(&fins);
    play("both FINs", &[&closed[..], &[(9, true, ACK, BACK), (1, true, ACK, FORGOTTEN)]].concat());
    // Cilium: closing is what FIN and RST do on every hit; other packets of a closed flow do nothing.
    let again = [(9, false, FIN.with(ACK), OLD), (9, true, ACK, BACK), (1, true, ACK, FORGOTTEN)];
    play("a FIN sent again gives the last time anew", &[&closed[..], &again].concat());
    play("an RST closes one side", &with(&[(0, false, RST, OLD), (7999, true, ACK, BACK)]));
    let early = [(0, false, syn, NEW), (0, false, RST, OLD), (10, true, syn_ack(), FORGOTTEN)];
    play("an RST before both SYNs", &early);
    let refused = [(0, false, syn, NEW), (0, true, RST.with(ACK), BACK), (9, true, ACK, BACK)];
    play("refused", &refused);
}

#[test]
fn a_first_packet_closes_nothing() {
    for flags in [FIN.with(ACK), RST, RST.with(ACK)] {
        let steps = [(0, false, flags, NEW), (11, true, ACK, BACK), (0, false, TcpFlags::SYN, OLD)];
        play("begun by its end", &steps);
    }
}

#[test]
fn a_syn_on_a_closing_flow_is_a_new_one() {
    let syn = TcpFlags::SYN;
    let open = [(0, false, syn, NEW), (0, true, syn_ack(), BACK), (0, false, FIN, OLD)];
    let again = [(0, false, syn, NEW), (0, true, syn_ack(), BACK), (0, false, syn, OLD)];
    play("by the opener", &[&open[..], &again].concat());
    // The server's node lets its SYN out and takes the server for the opener; the client's node drops it, so that
    // the old flow stays there and lets the next packet in.
    let other = [(0, true, syn, FORGOTTEN), (0, true, ACK, OLD)];
    play("by the other side", &[&open[..], &other].concat());
}

#[test]
fn replies_skip_policy_and_the_same_packet_alone_does_not() {
    let mut scene = Scene::new(PolicySet::new(vec![
        Policy { ingress: Isolation::Always, ..policy("client", "client", vec![]) },
        Policy { egress: Isolation::Always, ..policy("server", "server", vec![]) },
    ]));
    for (ask, answer) in [
        (syn(C4, S4, 80), part(true, syn_ack())),
        (syn(C6, S6, 80), segment(S6, C6, (80, 40000), syn_ack())),
        (datagram(C4, S4, 53), reply(&datagram(C4, S4, 53))),
        (ping(C4, S4, icmp::ECHO_REQUEST, 0), ping(S4, C4, icmp::ECHO_REPLY, 0)),
        (ping(C6, S6, icmp::V6_ECHO_REQUEST, 0), ping(S6, C6, icmp::V6_ECHO_REPLY, 0)),
        (ping(C4, S4, 13, 0), ping(S4, C4, 14, 0)),
        (syn(C4, L4, 80), segment(L4, C4, (80, 40000), syn_ack())),
    ] {
        assert_eq!(word(&scene.alone(&answer)), DENIED);
        assert_eq!(word(&scene.send(&ask)), ALLOWED, "{ask:?}");
        let judgement = scene.send(&answer);
        let skipped = LegOutcome::Reply;
        let expected = [(Direction::Egress, skipped), (Direction::Ingress, skipped)];
        assert_eq!(outcomes(&judgement), expected, "{answer:?}");
        assert!(judgement.legs.iter().all(|l| l.matching.is_empty() && l.trials.is_empty()));
        assert_eq!(ingress(&judgement).isolated_by.len(), 1);
    }
}

#[test]
fn the_identifier_of_an_echo_tells_flows_apart() {
    let mut scene = Scene::new(closed_client());
    let echo = |from, to, kind, id| {
        packet(from, to, Transport::Icmp { kind, code: 0, rest: [0, id, 0, 1] })
    };
    assert_eq!(word(&scene.send(&echo(C4, S4, 8, 1))), ALLOWED);
    assert_eq!(word(&scene.send(&echo(S4, C4, 0, 2))), DENIED);
    assert_eq!(word(&scene.send(&echo(S4, C4, 8, 1))), DENIED, "a request is no reply");
    assert_eq!(word(&scene.send(&echo(S4, C4, 0, 1))), ALLOWED);
}

#[test]
fn established_packets_are_judged_by_the_present_policy() {
    let open = server(vec![allow_from("client", "80/tcp")]);
    let shut = server(vec![allow_from("client", "443/tcp")]);
    let mut scene = Scene::new(open.clone());
    assert_eq!(word(&scene.send(&syn(C4, S4, 80))), ALLOWED);
    scene.policies = shut;
    let dropped = scene.send(&part(false, ACK));
    assert_eq!((word(&dropped), ingress(&dropped).state), (DENIED, CtState::Established));
    let answer = scene.send(&part(true, ACK));
    assert_eq!(word(&answer), ALLOWED, "the drop did not end the flow");
    scene.policies = open;
    let again = scene.send(&part(false, ACK));
    assert_eq!((word(&again), ingress(&again).state), (ALLOWED, CtState::Established));
}

#[test]
fn a_dropped_packet_opens_nothing() {
    let mut scene = Scene::new(server(vec![allow_from("client", "443/tcp"), allow_to("none", "")]));
    assert_eq!(word(&scene.send(&syn(C4, S4, 80))), DENIED);
    let answer = scene.send(&part(true, syn_ack()));
    assert_eq!(egress(&answer).outcome, LegOutcome::DefaultDeny, "unknown on the server's node");
    let again = scene.send(&syn(C4, S4, 80));
    assert_eq!(egress(&again).state, CtState::Established, "the first node let it pass");
    assert_eq!(ingress(&again).state, CtState::New);
}

#[test]
fn a_packet_that_runs_out_of_ttl_opens_nothing_where_it_ends() {
    let mut scene = Scene::new(closed_client());
    let mut short = syn(C4, S4, 80);
    short.ip.ttl = 1;
    assert_eq!(word(&scene.send(&short)), "ttl-exceeded");
    assert_eq!(ingress(&scene.send(&syn(C4, S4, 80))).state, CtState::New);
}

#[test]
fn on_one_node_both_directions_share_one_entry() {
    let mut scene = Scene::new(server(vec![allow_from("client", "80/tcp")]));
    let first = scene.send(&syn(C4, L4, 81));
    assert_eq!(word(&first), DENIED);
    assert_eq!(egress(&scene.send(&syn(C4, L4, 81))).state, CtState::New, "nothing was opened");
    scene.send(&syn(C4, L4, 80));
    let again = scene.send(&syn(C4, L4, 80));
    assert!(again.legs.iter().all(|leg| leg.state == CtState::Established));
}

#[test]
fn an_error_about_a_known_flow_is_related() {
    let closed = |name: &str| Policy {
        ingress: Isolation::Always,
        egress: Isolation::Always,
        ..policy(name, name, vec![allow_to("server", "53/udp"), allow_from("client", "53/udp")])
    };
    let policies = PolicySet::new(vec![closed("client"), closed("server")]);
    for (ask, kind, code) in [
        (datagram(C4, S4, 53), icmp::UNREACHABLE, 3),
        (datagram(C4, S4, 53), icmp::TIME_EXCEEDED, 0),
        (datagram(C6, S6, 53), icmp::V6_PACKET_TOO_BIG, 0),
        (datagram(C6, S6, 53), icmp::V6_UNREACHABLE, 4),
    ] {
        let mut scene = Scene::new(policies.clone());
        let error = error_about(&ask, kind, code);
        assert_eq!(word(&scene.alone(&error)), DENIED, "about nothing known");
        assert_eq!(word(&scene.send(&ask)), ALLOWED);
        let related = scene.send(&error);
        let skipped = LegOutcome::Related;
        let expected = [(Direction::Egress, skipped), (Direction::Ingress, skipped)];
        assert_eq!(outcomes(&related), expected, "{error:?}");
        scene.now += 60;
        assert_eq!(word(&scene.send(&error)), DENIED, "the flow is forgotten, and not prolonged");
    }
}

#[test]
fn an_error_goes_back_to_the_sender_of_what_it_quotes() {
    let mut scene = Scene::new(closed_client());
    let ask = datagram(C4, S4, 53);
    scene.send(&ask);
    let mut other = error_about(&ask, icmp::UNREACHABLE, 3);
    other.ip.destination = ip(V4);
    assert_eq!(egress(&scene.send(&other)).state, CtState::New);
    let mut router = error_about(&ask, icmp::TIME_EXCEEDED, 0);
    router.ip.source = ip(W4);
    let related = scene.send(&router);
    assert_eq!((word(&related), ingress(&related).state), (ALLOWED, CtState::Related));
    let about_reply = error_about(&reply(&ask), icmp::UNREACHABLE, 3);
    assert_eq!(egress(&scene.send(&about_reply)).state, CtState::Related);
}

#[test]
fn what_an_error_quotes_may_be_unreadable_or_no_flow() {
    let mut scene = Scene::new(closed_client());
    let echo = ping(C4, S4, icmp::ECHO_REQUEST, 0);
    scene.send(&echo);
    assert_eq!(word(&scene.send(&error_about(&echo, icmp::UNREACHABLE, 1))), ALLOWED);
    let mut later = datagram(C4, S4, 53);
    scene.send(&later);
    later.ip.fragment = Fragment { offset: 8, more: false };
    let about_error = error_about(&error_about(&echo, 3, 1), 3, 1);
    for error in [error_about(&later, 3, 1), ping(S4, C4, 3, 1), about_error] {
        assert_eq!(
            word(&scene.send(&error)),
            if error.ip.destination == ip(C4) { DENIED } else { ALLOWED }
        );
        assert_eq!(scene.send(&error).legs[0].state, CtState::New);
    }
    let mut cut = error_about(&datagram(C4, S4, 53), 3, 1);
    for length in 0..28 {
        cut.payload.truncate(27 - length);
        let state = egress(&scene.send(&cut)).state;
        assert_eq!(state == CtState::Related, cut.payload.len() >= 24, "{}", cut.payload.len());
    }
}

#[test]
fn an_error_starts_no_flow() {
    let mut scene = Scene::new(closed_client());
    let error = ping(C4, S4, icmp::UNREACHABLE, 3);
    assert_eq!(word(&scene.send(&error)), ALLOWED);
    assert_eq!(egress(&scene.send(&error)).state, CtState::New);
    assert_eq!(word(&scene.send(&ping(S4, C4, icmp::UNREACHABLE, 3))), DENIED);
    assert_eq!(word(&scene.send(&ping(S4, C4, 13, 0))), DENIED);
}

#[test]
fn a_packet_that_is_not_delivered_is_not_seen_by_the_receivers_node() {
    let mut scene = Scene::new(closed_client());
    scene.send(&syn(C4, S4, 80));
    scene.now = 59;
    let mut back = part(true, ACK);
    back.ip.ttl = 1;
    let judgement = scene.send(&back);
    assert_eq!(word(&judgement), "ttl-exceeded");
    assert_eq!(outcomes(&judgement), [(Direction::Egress, LegOutcome::Reply)]);
    scene.now = 60;
    assert_eq!(egress(&scene.send(&part(false, ACK))).state, CtState::New, "not prolonged there");
}
