//! Every way a packet can take, with a backend that answers by script.

mod journeys;
mod raw;
mod scene;
mod services;

use datapath_abi::mark;
use engine::backend::{BackendError, TunnelKey};
use engine::net::{Hook, Mac};
use engine::question::{self, Question};
use engine::tables::Generation;
use engine::topology::{Party, TunnelKind};
use engine::trace::{Action, Ethernet};

use crate::frame;
use scene::{
    Answer, CLIENT, CLIENT_HOST_MAC, CLIENT_MAC, DROP, ECHO, ETH0, HOST, NEAR, NODE01, NODE02,
    OVERLAY, STACK, Scripted, address, deliver, path, ping, tables, tunnel_to, world,
};

scene::over_each_family! {
    the_reply_goes_back_the_same_way
    on_one_node
    delivery_by_the_egress_hook_is_not_judged_again
    nothing_leaves_a_hop_that_drops
    an_address_of_nobody_ends_at_the_other_nodes_stack
    from_the_outside
    an_address_is_whoever_owns_it
    a_forged_source_enters_at_the_pod_that_sends_it
    an_address_that_several_nodes_have_is_the_senders_own
    a_circle_ends
    a_lost_outcome_ends_the_journey_and_is_counted
}

const CA: (Party, &str) = (Party::Pod(CLIENT), "10.244.1.154");
const CB: (Party, &str) = (Party::Pod(ECHO), "10.244.6.11");
const ECHO_MACS: Ethernet =
    Ethernet { source: Mac([2, 0, 0, 0, 3, 2]), destination: Mac([2, 0, 0, 0, 3, 1]) };

fn ethernet(frame: &[u8]) -> Ethernet {
    frame::read(frame).unwrap().ethernet
}

fn at(ip: &str) -> (Party, &str) {
    (Party::Address(address(ip)), ip)
}

#[test]
fn by_the_tunnel() {
    let mut script = Scripted::new([tunnel_to("192.168.66.221"), deliver(1)]);
    let trace = script.follow(&ping(CA, CB)).unwrap();
    assert_eq!(
        (trace.backend.as_str(), trace.generation, trace.lost),
        ("script 1", Generation(7), 0)
    );
    assert_eq!(
        path(&trace),
        [
            (NODE01, Hook::FromContainer, "lxc1", 10),
            (NODE02, Hook::FromOverlay, "cilium_vxlan", OVERLAY),
        ]
    );
    let [first, second] = trace.hops.as_slice() else { panic!("two hops") };

    let sent = Ethernet { source: CLIENT_MAC, destination: CLIENT_HOST_MAC };
    assert_eq!(ethernet(&first.frame_in), sent);
    assert_eq!(first.frame_out.len(), 14 + 134);
    // The inner frame leaves as it came, and so it arrives.
    assert_eq!(first.frame_out[50..], first.frame_in);
    assert_eq!(second.frame_in, first.frame_in);
    assert_eq!(first.undetermined, ["echo payload"]);

    assert_eq!(ethernet(&second.frame_out), ECHO_MACS);
    assert_eq!(frame::read(&second.frame_out).unwrap().ttl, 63);
    assert_eq!(second.tunnel, None);
    assert_eq!(second.undetermined, ["echo payload", "Ethernet source", "Ethernet destination"]);

    let key = TunnelKey { vni: 27634, source: address("192.168.66.226") };
    let keys: Vec<_> = script.seen.iter().map(|i| (i.tunnel, i.mark, i.now)).collect();
    assert_eq!(keys, [(None, 0, 3), (Some(key), 0, 3)]);
}

#[test]
fn the_tunnel_as_its_header_shows_it() {
    let mut script = Scripted::new([tunnel_to("192.168.66.221"), deliver(1)]);
    let trace = script.follow(&ping(CA, CB)).unwrap();
    let hop = &trace.hops[0];
    let tunnel = hop.tunnel.clone().unwrap();
    assert_eq!(tunnel.kind, TunnelKind::Vxlan);
    assert_eq!(tunnel.source, address("192.168.66.226"));
    assert_eq!(tunnel.destination, address("192.168.66.221"));
    assert_eq!((tunnel.port, tunnel.vni), (8472, 27634));
    assert_eq!(hop.frame_out[34..36], tunnel.source_port.to_be_bytes());
    // As captured: TOS 0, length 134, no "don't fragment", TTL 64; the id is 0 here.
    let ip = [
        0x08, 0x00, 0x45, 0, 0, 134, 0, 0, 0, 0, 64, 17, 0x73, 0x57, 192, 168, 66, 226, 192, 168,
        66, 221,
    ];
    assert_eq!(hop.frame_out[12..34], ip);
    // Port 8472, length 114, no checksum; flags 0x08, VNI 27634.
    let vxlan = [0x21, 0x18, 0, 114, 0, 0, 8, 0, 0, 0, 0, 0x6B, 0xF2, 0];
    assert_eq!(hop.frame_out[36..50], vxlan);
    assert_eq!(hop.frame_out[..12], [10, 88, 192, 168, 66, 221, 10, 88, 192, 168, 66, 226]);
    assert_eq!(
        tunnel.undetermined,
        [
            "outer Ethernet source",
            "outer Ethernet destination",
            "outer IP id",
            "outer IP checksum",
            "UDP source port",
        ]
    );
}

#[test]
fn an_underlay_of_ipv6() {
    let mut tables = tables();
    tables.nodes[0].tunnel_address = address("fd00:a::1");
    tables.nodes[1].tunnel_address = address("fd00:a::2");
    let mut script = Scripted::new([tunnel_to("fd00:a::2"), deliver(1)]);
    let trace = super::follow(&mut script, &world(), &tables, &ping(CA, CB), 0).unwrap();
    let hop = &trace.hops[0];
    assert_eq!(hop.frame_out.len(), 14 + 40 + 16 + 98);
    assert_eq!(hop.frame_out[..12], [10, 88, 0, 0, 0, 2, 10, 88, 0, 0, 0, 1]);
    let open = &hop.tunnel.as_ref().unwrap().undetermined;
    assert_eq!(open[2..], ["UDP source port", "outer UDP checksum"]);
    let key = TunnelKey { vni: 27634, source: address("fd00:a::1") };
    assert_eq!(script.seen[1].tunnel, Some(key));
}

#[test]
fn given_addresses_of_the_underlay_are_used() {
    let mut world = world();
    world.nodes[0].mac = Some(Mac([2, 0, 0, 0, 9, 1]));
    world.nodes[1].mac = Some(Mac([2, 0, 0, 0, 9, 2]));
    let mut script = Scripted::new([tunnel_to("192.168.66.221"), deliver(1)]);
    let trace = super::follow(&mut script, &world, &tables(), &ping(CA, CB), 0).unwrap();
    let hop = &trace.hops[0];
    assert_eq!(hop.frame_out[..12], [2, 0, 0, 0, 9, 2, 2, 0, 0, 0, 9, 1]);
    let open = &hop.tunnel.as_ref().unwrap().undetermined;
    assert_eq!(*open, ["outer IP id", "outer IP checksum", "UDP source port"]);
}

fn the_reply_goes_back_the_same_way() {
    let asked = ping(CA, CB);
    let reply = Question {
        source: asked.destination,
        destination: asked.source,
        packet: question::reply(&asked.packet),
        ..asked
    };
    let mut script = Scripted::new([tunnel_to("192.168.66.226"), deliver(1)]);
    let trace = script.follow(&reply).unwrap();
    assert_eq!(
        path(&trace),
        [
            (NODE02, Hook::FromContainer, "lxc1", 10),
            (NODE01, Hook::FromOverlay, "cilium_vxlan", OVERLAY),
        ]
    );
    let [first, second] = trace.hops.as_slice() else { panic!("two hops") };
    assert_eq!(first.tunnel.as_ref().unwrap().source, address("192.168.66.221"));
    // CB's own Ethernet addresses are made up, CA's are given.
    assert_eq!(first.undetermined, ["echo payload", "Ethernet source", "Ethernet destination"]);
    assert_eq!(second.undetermined, ["echo payload"]);
    let delivered = Ethernet { source: CLIENT_HOST_MAC, destination: CLIENT_MAC };
    assert_eq!(ethernet(&second.frame_out), delivered);
}

fn on_one_node() {
    let mut script = Scripted::new([deliver(2)]);
    let trace = script.follow(&ping(CA, (Party::Pod(NEAR), "10.244.1.4"))).unwrap();
    assert_eq!(path(&trace), [(NODE01, Hook::FromContainer, "lxc1", 10)]);
    assert_eq!(frame::read(&trace.hops[0].frame_out).unwrap().ttl, 63);
}

fn delivery_by_the_egress_hook_is_not_judged_again() {
    let Action::Deliver { endpoint, ifindex, .. } = deliver(2) else { panic!("a delivery") };
    let by_veth = Action::Deliver { endpoint, ifindex, peer: false };
    let question = ping(CA, (Party::Pod(NEAR), "10.244.1.4"));
    let marked = Answer { mark: mark::DELIVERED, ..by_veth.into() };
    let trace = Scripted::new([marked]).follow(&question).unwrap();
    assert_eq!(trace.hops.len(), 1);

    let text = refusal(&question, vec![by_veth.into()]);
    assert!(text.ends_with("from-container delivers by the veth with mark 0x0, not as judged"));
}

fn nothing_leaves_a_hop_that_drops() {
    let trace = Scripted::new([DROP]).follow(&ping(CA, CB)).unwrap();
    assert_eq!(path(&trace), [(NODE01, Hook::FromContainer, "lxc1", 10)]);
    assert!(trace.hops[0].frame_out.is_empty());
    assert!(trace.hops[0].undetermined.is_empty());
    assert_eq!(trace.hops[0].action(), Some(DROP));

    let trace = Scripted::new([tunnel_to("192.168.66.221"), DROP]).follow(&ping(CA, CB)).unwrap();
    assert_eq!(trace.hops.len(), 2);
    assert!(!trace.hops[0].frame_out.is_empty());
    assert!(trace.hops[1].frame_out.is_empty());
}

fn an_address_of_nobody_ends_at_the_other_nodes_stack() {
    let mut script = Scripted::new([tunnel_to("192.168.66.221"), STACK]);
    let trace = script.follow(&ping(CA, at("10.244.6.99"))).unwrap();
    assert_eq!(trace.hops[1].frame_out, trace.hops[1].frame_in);
}

fn from_the_outside() {
    let mut script = Scripted::new([deliver(1)]);
    let trace = script.follow(&ping(at("8.8.8.8"), CB)).unwrap();
    assert_eq!(path(&trace), [(NODE02, Hook::FromNetdev, "eth0", ETH0)]);
    let expected =
        Ethernet { source: Mac([2, 0, 0, 0, 0, 1]), destination: Mac([10, 88, 192, 168, 66, 221]) };
    assert_eq!(ethernet(&trace.hops[0].frame_in), expected);
    assert_eq!(script.seen[0].tunnel, None);

    let mut script = Scripted::new([HOST]);
    let trace = script.follow(&ping(at("8.8.8.8"), at("192.168.66.221"))).unwrap();
    assert_eq!(path(&trace), [(NODE02, Hook::FromNetdev, "eth0", ETH0)]);
    let open = ["echo payload", "Ethernet source", "Ethernet destination"];
    assert_eq!(trace.hops[0].undetermined, open);
}

fn an_address_is_whoever_owns_it() {
    let trace = Scripted::new([DROP]).follow(&ping(at("10.244.1.4"), at("8.8.8.8"))).unwrap();
    assert_eq!(path(&trace), [(NODE01, Hook::FromContainer, "lxc2", 20)]);
}

fn a_forged_source_enters_at_the_pod_that_sends_it() {
    let trace = Scripted::new([DROP]).follow(&ping((Party::Pod(CLIENT), "8.8.8.8"), CB)).unwrap();
    assert_eq!(path(&trace), [(NODE01, Hook::FromContainer, "lxc1", 10)]);
}

fn refusal(question: &Question, answers: Vec<Answer>) -> String {
    match Scripted::new(answers).follow(question) {
        Err(error @ (BackendError::BadInjection(_) | BackendError::BadEvent(_))) => {
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn packets_that_no_program_sees_are_refused() {
    let own = (Party::Node(NODE01), "192.168.66.226");
    let outside = (at("9.9.9.9"), at("8.8.8.8"), "meets no pod and no other node");
    for (from, to, why) in [outside, (own, own, "stays inside node01")] {
        let text = refusal(&ping(from, to), Vec::new());
        let expected = format!(
            "the packet cannot enter: from {} to {} it {why}, so no program sees it",
            from.1, to.1
        );
        assert_eq!(text, expected);
    }
}

fn an_address_that_several_nodes_have_is_the_senders_own() {
    let mut world = world();
    let shared = "10.96.0.1";
    for node in &mut world.nodes {
        node.locals.push(address(shared));
    }
    let question = ping((Party::Node(NODE02), "192.168.66.221"), at(shared));
    let mut script = Scripted::new(Vec::<Answer>::new());
    let refused = super::follow(&mut script, &world, &tables(), &question, 0);
    assert!(matches!(refused, Err(BackendError::BadInjection(_))), "{refused:?}");
}

#[test]
fn a_packet_without_a_frame_is_refused() {
    let mut question = ping(CA, CB);
    question.packet.payload = vec![0; 4000];
    let text = refusal(&question, Vec::new());
    let expected =
        "the packet cannot enter: the frame would have 4042 bytes, 3500 fit: shorten the payload";
    assert_eq!(text, expected);
}

#[test]
fn answers_that_contradict_themselves_are_refused() {
    let prefix = "the datapath's events cannot be read: ";
    let silent = Answer { action: None, ..DROP.into() };
    let other = Answer { generation: Generation(8), ..DROP.into() };
    let code = Answer { code: Some(0), ..DROP.into() };
    let remote = address("192.168.66.221");
    let wide = Action::Tunnel { vni: 1 << 24, remote, ifindex: OVERLAY, ttl: 64 };
    let cases = [
        (silent, "from-container on node01 reported no outcome"),
        (other, "from-container on node01 saw generation 8, asked was 7"),
        (
            code,
            "from-container returned 0, which does not fit what it reported: Drop(PolicyDenied)",
        ),
        (
            tunnel_to("192.168.66.9").into(),
            "node01 sends by the tunnel to 192.168.66.9, which is no node's tunnel address",
        ),
        (deliver(9).into(), "node01 has no endpoint 9"),
        (wide.into(), "VNI 16777216 has more than 24 bits"),
    ];
    for (answer, expected) in cases {
        assert_eq!(refusal(&ping(CA, CB), vec![answer]), format!("{prefix}{expected}"));
    }
}

fn a_circle_ends() {
    let answers = (0..12).map(|_| tunnel_to("192.168.66.221").into()).collect();
    let text = refusal(&ping(CA, CB), answers);
    assert!(text.ends_with("the packet is sent in a circle: 12 hops without an end"), "{text}");
}

fn a_lost_outcome_ends_the_journey_and_is_counted() {
    let lost = Answer { action: None, lost: 2, ..DROP.into() };
    let trace =
        Scripted::new([tunnel_to("192.168.66.221").into(), lost]).follow(&ping(CA, CB)).unwrap();
    assert_eq!((trace.hops.len(), trace.lost), (2, 2));
    assert_eq!(trace.hops[1].action(), None);
    assert!(trace.hops[1].frame_out.is_empty());
}
